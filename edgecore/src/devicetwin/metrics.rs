//! The device twin in numbers.
//!
//! Owns: its counters. Called by: the task counts, `/metrics` looks.
//! Never: says which device; a number per device would be a number per machine of a factory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry as Metrics;

use super::dmi::Registry;

/// What has happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    devices: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
    unpublished: AtomicU64,
}

impl Counters {
    pub(super) fn set_devices(&self, number: usize) {
        self.devices.store(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn unpublished(&self) {
        self.unpublished.fetch_add(1, Ordering::Relaxed);
    }
}

/// See the module.
pub(crate) struct TwinMetrics {
    counters: Arc<Counters>,
    mappers: Registry,
}

impl TwinMetrics {
    pub(super) fn new(counters: Arc<Counters>, mappers: Registry) -> Self {
        Self { counters, mappers }
    }

    /// Shows them from now on.
    pub(crate) fn register(self, registry: &mut Metrics) {
        registry.register_collector(Box::new(self));
    }
}

impl fmt::Debug for TwinMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TwinMetrics")
    }
}

impl Collector for TwinMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let devices = read(&self.counters.devices);
        gauge("devicetwin_devices", "Devices that belong to this node", devices)?;
        let (known, reached) = self.mappers.numbers();
        gauge("dmi_mappers", "Mappers that have registered", known as u64)?;
        gauge("dmi_mappers_reached", "Mappers that have a connection", reached as u64)?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter(
            "devicetwin_updates",
            "Updates of twins that were taken",
            read(&self.counters.taken),
        )?;
        let help = "Updates, states and questions that were refused";
        counter("devicetwin_refused", help, read(&self.counters.refused))?;
        let help = "Messages for MQTT that the event bus did not take";
        counter("devicetwin_unpublished", help, read(&self.counters.unpublished))
    }
}

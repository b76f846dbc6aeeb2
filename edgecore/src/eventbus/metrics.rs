//! The event bus in numbers.
//!
//! Owns: nothing; it looks when it is asked. Called by: `/metrics`. Never: names a topic.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Counters;
use super::broker::{Broker, Numbers};

/// See the module.
pub(super) struct BusMetrics {
    counters: Arc<Counters>,
    broker: Option<Arc<Broker>>,
}

impl BusMetrics {
    pub(super) fn new(counters: Arc<Counters>, broker: Option<Arc<Broker>>) -> Self {
        Self { counters, broker }
    }

    pub(super) fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl fmt::Debug for BusMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusMetrics")
    }
}

impl Collector for BusMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let numbers = self.broker.as_ref().map_or(Numbers::default(), |b| b.numbers());
        let clients = ConstGauge::new(i64::try_from(numbers.clients).unwrap_or(i64::MAX));
        let help = "Clients of the built-in MQTT broker";
        clients.encode(encoder.encode_descriptor(
            "mqtt_clients",
            help,
            None,
            clients.metric_type(),
        )?)?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        let help = "Messages published at the built-in broker";
        counter("mqtt_published", help, numbers.published)?;
        let help = "Messages that a client of the built-in broker was too slow for";
        counter("mqtt_dropped", help, numbers.dropped)?;
        let help = "Packets, subscriptions and clients that the built-in broker refused";
        counter("mqtt_refused", help, numbers.refused)?;
        let own = &self.counters;
        counter("eventbus_to_twins", "Messages for the device twin", read(&own.to_twins))?;
        counter("eventbus_to_cloud", "Messages for the cloud", read(&own.to_cloud))?;
        let help = "Messages and rules that make no sense";
        counter("eventbus_refused", help, read(&own.refused))?;
        let help = "Messages that the external broker was too slow or too far for";
        counter("eventbus_unpublished", help, read(&own.unpublished))
    }
}

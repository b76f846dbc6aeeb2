//! The edgehub in numbers.
//!
//! Owns: nothing; it looks when it is asked.
//! Called by: `/metrics`. Never: changes anything.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::link::LinkState;
use super::outbox::Outbox;
use super::to_cloud::ToCloud;

/// See the module.
pub(crate) struct HubMetrics {
    /// Not the whole [`ToCloud`]: metrics live as long as the service, the database must not.
    outbox: Arc<Mutex<Outbox>>,
    link: watch::Receiver<LinkState>,
}

impl HubMetrics {
    pub(crate) fn new(to_cloud: &ToCloud, link: watch::Receiver<LinkState>) -> Self {
        Self { outbox: to_cloud.shared_outbox(), link }
    }

    pub(crate) fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl fmt::Debug for HubMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubMetrics")
    }
}

impl Collector for HubMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let link = *self.link.borrow();
        let (waiting, devices, dropped, uploads) = {
            let mut outbox = self.outbox.lock();
            (outbox.len(), outbox.devices().len(), outbox.dropped(), outbox.uploads().dropped())
        };
        let mut gauge = |name: &str, help: &str, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("edgehub_connected", "1 while there is a link to the cloud", i64::from(link.up))?;
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        gauge("edgehub_pods_to_report", "Pods of which the cloud must still be told", waiting)?;
        let devices = i64::try_from(devices).unwrap_or(i64::MAX);
        let help = "Devices of which the cloud must still be told";
        gauge("edgehub_devices_to_report", help, devices)?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter("edgehub_links", "Links to the cloud opened", link.count)?;
        let offline = "Events dropped because there was no link";
        counter("edgehub_events_dropped_offline", offline, dropped.events_offline)?;
        let full = "Events dropped because too many waited";
        counter("edgehub_events_dropped_full", full, dropped.events_full)?;
        let help = "Messages of MQTT topics dropped because too many waited";
        counter("edgehub_uploads_dropped", help, uploads)
    }
}

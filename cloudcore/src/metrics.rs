//! What cloudcore counts.
//!
//! Owns: the counters and gauges; `service::admin` shows them.
//! Called by: every module that drops, sends or receives something.
//! Never: labels by node or object: their number has no bound.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::Metrics as Registry;

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its label in snake case, explained where it is counted")]
pub enum Drop {
    OutboxFull,
    ReplyOverflow,
    ReplyLate,
    TooLarge,
    Undecodable,
    NotAllowed,
    NodeBusy,
    QueueFull,
    EventRate,
    Unsupported,
    ObjectUnreadable,
    DeviceReport,
    Connection,
}

impl Drop {
    fn label(self) -> &'static str {
        match self {
            Drop::OutboxFull => "outbox_full",
            Drop::ReplyOverflow => "reply_overflow",
            Drop::ReplyLate => "reply_late",
            Drop::TooLarge => "too_large",
            Drop::Undecodable => "undecodable",
            Drop::NotAllowed => "not_allowed",
            Drop::NodeBusy => "node_busy",
            Drop::QueueFull => "queue_full",
            Drop::EventRate => "event_rate",
            Drop::Unsupported => "unsupported",
            Drop::ObjectUnreadable => "object_unreadable",
            Drop::DeviceReport => "device_report",
            Drop::Connection => "connection",
        }
    }
}

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// See the module. A clone counts into the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Sessions with edge nodes.
    pub connected_nodes: Gauge,
    /// Messages to edge nodes, repeats included.
    pub sent: Counter,
    /// Messages to edge nodes that had been sent before.
    pub resent: Counter,
    /// Messages from edge nodes.
    pub received: Counter,
    /// Acknowledgements from edge nodes.
    pub acked: Counter,
    /// Objects that wait in all outboxes.
    pub outbox_objects: Gauge,
    /// Requests that wait for a worker.
    pub upstream_waiting: Gauge,
    /// ObjectSyncs that wait to be written.
    pub records_waiting: Gauge,
    /// Writes of ObjectSyncs.
    pub records_written: Counter,
    /// Reports of devices that were taken.
    pub device_reports: Counter,
    /// Writes of DeviceStatuses.
    pub device_writes: Counter,
    /// DeviceStatuses that wait to be written.
    pub device_writes_waiting: Gauge,
    /// Requests to the API server that failed.
    pub api_errors: Counter,
    dropped: Family<Reason, Counter>,
    dropped_in_all: Counter,
    refused: Family<Reason, Counter>,
    issued: Counter,
}

impl Metrics {
    /// Makes them visible.
    pub fn register(&self, registry: &Registry) {
        registry.register(|r| {
            // The one metric of the original, under its name.
            r.register(
                "KubeEdge_CloudHub_connected_nodes",
                "Number of nodes that are connected",
                self.connected_nodes.clone(),
            );
            let mut counter = |name: &str, help: &str, c: &Counter| {
                r.register(name, help, c.clone());
            };
            counter("cloudhub_messages_sent", "Messages sent to edge nodes", &self.sent);
            counter("cloudhub_messages_resent", "Of these, sent before", &self.resent);
            counter("cloudhub_messages_received", "Messages from edge nodes", &self.received);
            counter("cloudhub_messages_acked", "Acknowledgements", &self.acked);
            counter("synccontroller_writes", "Writes of ObjectSyncs", &self.records_written);
            counter("devicecontroller_reports", "Reports of devices", &self.device_reports);
            counter("devicecontroller_writes", "Writes of DeviceStatuses", &self.device_writes);
            counter("cloudcore_api_errors", "Failed API server requests", &self.api_errors);
            counter("cloudhub_certificates_issued", "Certificates signed", &self.issued);
            let mut gauge = |name: &str, help: &str, g: &Gauge| r.register(name, help, g.clone());
            gauge("cloudhub_outbox_objects", "Objects not acknowledged", &self.outbox_objects);
            gauge("edgecontroller_requests_waiting", "Requests queued", &self.upstream_waiting);
            gauge("synccontroller_writes_waiting", "ObjectSyncs queued", &self.records_waiting);
            let waiting = &self.device_writes_waiting;
            gauge("devicecontroller_writes_waiting", "DeviceStatuses queued", waiting);
            r.register("cloudcore_dropped", "Dropped, by reason", self.dropped.clone());
            r.register("cloudhub_refused", "Connections refused, by reason", self.refused.clone());
        });
    }

    /// Counts drops.
    pub fn dropped(&self, why: Drop, how_many: u64) {
        if how_many > 0 {
            self.dropped.get_or_create(&Reason { reason: why.label() }).inc_by(how_many);
            self.dropped_in_all.inc_by(how_many);
        }
    }

    /// Counts a refused connection or request.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a signed certificate.
    pub fn issued(&self) {
        self.issued.inc();
    }

    /// How many were dropped, for whatever reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped_in_all.get()
    }

    /// How many were dropped for a reason.
    pub fn dropped_so_far(&self, why: Drop) -> u64 {
        self.dropped.get_or_create(&Reason { reason: why.label() }).get()
    }
}

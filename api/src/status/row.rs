//! One row per node, pod and device; one line per event and per message.
//!
//! All times are milliseconds since the Unix epoch, on the clock of whoever serves the stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// A node and its link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRow {
    /// `metadata.name`
    pub name: String,
    /// The link to the cloud, if it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// When the link went, if it is down and has been up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Millis>,
    /// Why it went.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lost_why: String,
    /// Status of the condition Ready: `True`, `False`, `Unknown`, or empty if never reported.
    pub ready: String,
    /// Reason of the condition Ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `spec.unschedulable`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// Kubelet version.
    pub version: String,
    /// Container runtime and version.
    pub runtime: String,
    /// `linux/arm64`
    pub platform: String,
    /// First internal address.
    pub address: String,
    /// `metadata.labels`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Millis>,
    /// What the cloud has sent and the edge has yet to confirm.
    pub queue: Queue,
    /// When the node last said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_report: Option<Millis>,
    /// When its lease was last renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_renewed: Option<Millis>,
    /// Use of the machine, where the node reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The upgrade that is under way, or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Box<Upgrade>>,
}

/// What a NodeUpgradeJob does to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upgrade {
    /// The job.
    pub job: String,
    /// The version before, empty if it is not known.
    pub from: String,
    /// The version that is wanted.
    pub to: String,
    /// The step that runs: `Pending` `Check` `WaitingConfirmation` `BackUp` `Upgrade` `RollBack`;
    /// or how it ended: `Failure`, or `Unknown` if nothing was heard for too long.
    pub state: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A connected link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Link {
    /// Since when.
    pub since: Millis,
    /// From which address.
    pub from: String,
    /// `websocket`
    pub protocol: String,
    /// When the node's certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Millis>,
    /// Round trip of the last keepalive, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
}

/// What is on its way to a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Queue {
    /// Waiting to be sent.
    pub waiting: u64,
    /// Sent, not yet acknowledged.
    pub unacknowledged: u64,
    /// Dropped since the program started, with or without a newer one in place.
    pub dropped: u64,
    /// Messages received from the node since the program started.
    pub received: u64,
    /// Messages sent to the node since the program started.
    pub sent: u64,
}

/// Use of a machine or a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Thousandths of a core that there are; 0 if unknown.
    pub cpu_capacity_millis: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes that there are; 0 if unknown.
    pub memory_capacity: u64,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodRow {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `spec.nodeName`
    pub node: String,
    /// `status.phase`
    pub phase: String,
    /// What kubectl shows in its STATUS column: `Running`, `CrashLoopBackOff`, `Terminating` ..
    pub status: String,
    /// Containers that are ready.
    pub ready: u32,
    /// Containers.
    pub containers: u32,
    /// Restarts of all containers.
    pub restarts: u32,
    /// Images, in the order of the containers.
    pub images: Vec<String>,
    /// `status.podIP`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// `metadata.labels`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Millis>,
    /// When its status was last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_report: Option<Millis>,
    /// The way of its last status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<Hops>,
    /// Use, where the node reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Sent to the node and not yet acknowledged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
}

/// How long a report took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hops {
    /// From the edge to cloudhub, by the two machines' clocks; negative if they differ by more.
    pub edge_to_hub_us: i64,
    /// From cloudhub to the API server's answer.
    pub hub_to_api_us: u64,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceRow {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `spec.nodeName`
    pub node: String,
    /// `spec.deviceModelRef.name`
    pub model: String,
    /// `spec.protocol.protocolName`
    pub protocol: String,
    /// `online`, `offline`, `ok`, `unknown`, `unhealthy`, or empty.
    pub state: String,
    /// When it was last online.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_online: Option<Millis>,
    /// Its properties, by name.
    pub twins: Vec<TwinRow>,
    /// `metadata.labels`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Millis>,
    /// When it was last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_report: Option<Millis>,
}

impl DeviceRow {
    /// Whether every property that has a desired value reports it.
    pub fn in_sync(&self) -> bool {
        self.twins.iter().all(TwinRow::in_sync)
    }
}

/// A property of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TwinRow {
    /// Its name.
    pub property: String,
    /// What it should be, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_at: Option<Millis>,
    /// What it is, as last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<String>,
    /// When it was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Millis>,
}

impl TwinRow {
    /// Whether it is as desired; a property that nobody desires anything of is.
    pub fn in_sync(&self) -> bool {
        self.desired.is_none() || self.desired == self.reported
    }
}

/// A row of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// See [`NodeRow`].
    Node(NodeRow),
    /// See [`PodRow`].
    Pod(PodRow),
    /// See [`DeviceRow`].
    Device(DeviceRow),
}

/// Which row. `key` is the name of a node, `namespace/name` of the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowKey {
    /// Of what kind.
    pub kind: RowKind,
    /// Its name.
    pub key: String,
}

/// The kinds of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowKind {
    /// [`NodeRow`]
    Node,
    /// [`PodRow`]
    Pod,
    /// [`DeviceRow`]
    Device,
}

impl RowKey {
    /// A node's row.
    pub fn node(name: &str) -> Self {
        Self { kind: RowKind::Node, key: name.to_owned() }
    }

    /// A pod's row.
    pub fn pod(namespace: &str, name: &str) -> Self {
        Self { kind: RowKind::Pod, key: format!("{namespace}/{name}") }
    }

    /// A device's row.
    pub fn device(namespace: &str, name: &str) -> Self {
        Self { kind: RowKind::Device, key: format!("{namespace}/{name}") }
    }
}

/// Bytes of text in a map.
fn map_len(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len() + 8).sum()
}

impl NodeRow {
    fn text_len(&self) -> usize {
        let texts = [
            &self.name,
            &self.lost_why,
            &self.ready,
            &self.reason,
            &self.version,
            &self.runtime,
            &self.platform,
            &self.address,
        ];
        let link = self.link.as_ref().map_or(0, |link| link.from.len() + link.protocol.len());
        let upgrade = |u: &Upgrade| {
            [&u.job, &u.from, &u.to, &u.state, &u.why].iter().map(|text| text.len()).sum::<usize>()
        };
        let upgrade = self.upgrade.as_deref().map_or(0, upgrade);
        let own = texts.iter().map(|text| text.len()).sum::<usize>();
        own + link + upgrade + map_len(&self.labels)
    }
}

impl PodRow {
    fn text_len(&self) -> usize {
        let texts = [
            &self.namespace,
            &self.name,
            &self.uid,
            &self.node,
            &self.phase,
            &self.status,
            &self.ip,
        ];
        let images = self.images.iter().map(|image| image.len() + 8).sum::<usize>();
        texts.iter().map(|text| text.len()).sum::<usize>() + images + map_len(&self.labels)
    }
}

impl DeviceRow {
    fn text_len(&self) -> usize {
        let texts =
            [&self.namespace, &self.name, &self.node, &self.model, &self.protocol, &self.state];
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let twin = |twin: &TwinRow| {
            twin.property.len() + optional(&twin.desired) + optional(&twin.reported) + 128
        };
        let twins = self.twins.iter().map(twin).sum::<usize>();
        texts.iter().map(|text| text.len()).sum::<usize>() + twins + map_len(&self.labels)
    }
}

impl EventRow {
    /// About how many bytes of text it has.
    pub(super) fn text_len(&self) -> usize {
        let texts = [&self.kind, &self.reason, &self.object, &self.node, &self.message];
        texts.iter().map(|text| text.len()).sum()
    }
}

impl MessageRow {
    /// About how many bytes of text it has.
    pub(super) fn text_len(&self) -> usize {
        let texts = [&self.node, &self.kind, &self.object, &self.outcome];
        texts.iter().map(|text| text.len()).sum()
    }
}

impl Row {
    /// About how many bytes of text it has.
    pub(super) fn text_len(&self) -> usize {
        match self {
            Row::Node(row) => row.text_len(),
            Row::Pod(row) => row.text_len(),
            Row::Device(row) => row.text_len(),
        }
    }

    /// Which row it is.
    pub fn key(&self) -> RowKey {
        match self {
            Row::Node(r) => RowKey::node(&r.name),
            Row::Pod(r) => RowKey::pod(&r.namespace, &r.name),
            Row::Device(r) => RowKey::device(&r.namespace, &r.name),
        }
    }
}

/// An event of the cluster, or of the link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventRow {
    /// When.
    pub at: Millis,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For example `BackOff`.
    pub reason: String,
    /// What it is about: `pod/default/web`.
    pub object: String,
    /// On which node, if on one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// In words.
    pub message: String,
    /// How often.
    pub count: u32,
}

/// One message on the path between cloud and edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageRow {
    /// When it passed cloudhub.
    pub at: Millis,
    /// The edge's end.
    pub node: String,
    /// Its direction.
    pub direction: Direction,
    /// For example `podpatch` or `ack`.
    pub kind: String,
    /// For example `default/pod/web`.
    pub object: String,
    /// Bytes on the wire.
    pub size: u64,
    /// Up: from edge to hub by both clocks. Down: from the change to the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_us: Option<i64>,
    /// Up: from hub to the API server's answer. Down: from the socket to the acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_us: Option<u64>,
    /// `ok`, or why it went no further.
    pub outcome: String,
}

/// The direction of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From edge to cloud.
    #[default]
    Up,
    /// From cloud to edge.
    Down,
}

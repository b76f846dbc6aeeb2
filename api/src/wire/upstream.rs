//! What an edge node may tell the cloud.

use crate::names::{MessageId, Namespace, NodeName, ObjectKey, Uid};
use crate::raw::RawJson;

/// A message from edge to cloud, by meaning. The message's own id is beside it, in the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// I am here.
    Keepalive,
    /// A pushed object is in the edge's store.
    Ack(Ack),
    /// The edge could not handle what it was sent; for the log only.
    Refused {
        /// The message refused.
        of: MessageId,
        /// Why.
        why: String,
    },
    /// Something the cloud does at the API server and answers.
    Request(Request),
    /// An Event to record. Not answered.
    Event(EventReport),
    /// A device's reported values: content of `device/<ns>/<name>/twin/edge_updated`.
    DeviceTwin {
        /// Namespace of the device.
        namespace: Namespace,
        /// Name of the device.
        name: Box<str>,
        /// `{event_id, timestamp, twin}`
        content: RawJson,
    },
    /// A device's state: content (a JSON string of JSON) of `device/<ns>/<name>/state/update`.
    DeviceState {
        /// Namespace of the device.
        namespace: Namespace,
        /// Name of the device.
        name: Box<str>,
        /// JSON string of `{event_id, timestamp, device}`
        content: RawJson,
    },
    /// Which devices are mine? Content is a JSON string of JSON.
    MembershipDetail(RawJson),
    /// A request of the MetaServer for the dynamic controller: an Application object.
    Application(RawJson),
    /// The MetaServer's live watches, a map of id to Application.
    WatchSync(RawJson),
    /// A message from an MQTT topic, or a call from the edge's service bus.
    Upload {
        /// `bus` or `servicebus`.
        source: Box<str>,
        /// Topic or URL; empty for the answer to a call.
        resource: Box<str>,
        /// Empty operation instead of `upload`: a call that failed.
        failed: bool,
        /// The call that is answered.
        parent: Option<MessageId>,
        /// Payload.
        content: RawJson,
    },
    /// The outcome of a step of a node job.
    TaskStatus {
        /// As the task had it, or `task/<id>/node/<node>`.
        resource: Box<str>,
        /// `UpdateNodeActionStatus`, `upgrade`, `prepull` ..
        operation: Box<str>,
        /// The report.
        content: RawJson,
    },
    /// The answer to a CSI call.
    Volume {
        /// The call.
        parent: MessageId,
        /// `ns/volume/<id>`
        resource: Box<str>,
        /// The operation was `error`.
        failed: bool,
        /// The answer.
        content: RawJson,
    },
}

/// The acknowledgement of a downstream message; its route is copied from that message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The message that is now stored.
    pub of: MessageId,
    /// Its source, group and resource, as they came.
    pub source: Box<str>,
    /// See `source`.
    pub group: Box<str>,
    /// See `source`.
    pub resource: Box<str>,
}

/// What the edge asks the cloud to do at the API server. Each is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create the node's own Node object.
    RegisterNode {
        /// Its name; must be the sender's.
        name: NodeName,
        /// The Node.
        node: RawJson,
    },
    /// Strategic merge patch of the node's status.
    PatchNode {
        /// The node.
        name: NodeName,
        /// The patch, as text (a JSON string on the wire).
        patch: String,
    },
    /// Labels and annotations of the node.
    UpdateNode {
        /// The node.
        name: NodeName,
        /// The Node.
        node: RawJson,
    },
    /// Read an object: node, configmap, secret, volume objects, certificate request, lease.
    Query(ObjectKey),
    /// Create the mirror of a static pod.
    CreatePod {
        /// Which.
        key: ObjectKey,
        /// The Pod.
        pod: RawJson,
    },
    /// Strategic merge patch of a pod's status.
    PatchPod {
        /// Which (kind pod).
        key: ObjectKey,
        /// The patch, as text.
        patch: String,
    },
    /// The containers are gone: remove the pod.
    DeletePod {
        /// Which.
        key: ObjectKey,
        /// Only this incarnation.
        uid: Option<Uid>,
        /// The content as it came: DeleteOptions, or from very old edges a UID.
        options: RawJson,
    },
    /// Create the node's lease.
    CreateLease {
        /// Lease name: the node's.
        name: NodeName,
        /// The Lease.
        lease: RawJson,
    },
    /// Renew the node's lease.
    UpdateLease {
        /// Lease name: the node's.
        name: NodeName,
        /// The Lease.
        lease: RawJson,
    },
    /// A bound token of a service account.
    ServiceAccountToken {
        /// Namespace of the account.
        namespace: Namespace,
        /// The account.
        account: Box<str>,
        /// The TokenRequest.
        request: RawJson,
    },
    /// Create a certificate signing request.
    CreateCsr {
        /// Which.
        key: ObjectKey,
        /// The CertificateSigningRequest.
        csr: RawJson,
    },
    /// The API server's CA certificate, as PEM.
    ApiServerCa,
    /// Old edges: whole node status.
    LegacyNodeStatus {
        /// The node.
        name: NodeName,
        /// `{"UID","Status","ExtendResources"}`
        content: RawJson,
    },
    /// Old edges: one pod status or, without a name, an array.
    LegacyPodStatus {
        /// Namespace of the pods.
        namespace: Namespace,
        /// The pod, if one.
        name: Option<Box<str>>,
        /// `{"UID","Name","Status"}` or an array of it.
        content: RawJson,
    },
}

/// An Event of the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReport {
    /// Namespace and name (kind event).
    pub key: ObjectKey,
    /// What to do with it.
    pub op: EventOp,
    /// The Event, or for a patch `{"event", "patchData"}`.
    pub content: RawJson,
}

/// What to do with an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventOp {
    /// Create it.
    Insert,
    /// Replace it.
    Update,
    /// Patch it.
    Patch,
}

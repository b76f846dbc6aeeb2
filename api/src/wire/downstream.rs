//! What the cloud may tell an edge node.

use crate::names::{MessageId, ObjectKey, ResourceVersion, Uid};
use crate::raw::RawJson;

/// A message from cloud to edge, by meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downstream {
    /// An object that the edge stores. Must be acknowledged, after the commit.
    Object(ObjectPush),
    /// The answer to an [`Upstream`](super::upstream::Upstream) request.
    Reply(Reply),
    /// Devices bound to or unbound from the node: content of `membership`.
    Membership(RawJson),
    /// The whole list of devices of the node: content of `membership/detail`.
    MembershipDetail(RawJson),
    /// A twin or state report has arrived; names the report.
    TwinConfirm(MessageId),
    /// A device's twin as the cloud has it (older clouds): device id and content.
    TwinCloudUpdated {
        /// `namespace/name` or, from old clouds, `name`.
        device: Box<str>,
        /// `{event_id, timestamp, twin}`
        content: RawJson,
    },
    /// The answer of the dynamic controller to a request of the MetaServer.
    Application {
        /// The request.
        parent: MessageId,
        /// The Application object.
        content: RawJson,
    },
    /// A step of a node job.
    Task(Task),
    /// A CSI call, to be answered with the same resource.
    Volume(VolumeCall),
    /// Traffic of rules: to the event bus or the service bus.
    Rule(RuleCommand),
}

/// An object on its way to an edge node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPush {
    /// What happened to it. An update of an unknown object is an insert.
    pub op: PushOp,
    /// Which.
    pub key: ObjectKey,
    /// `metadata.uid`; what acknowledgements and ObjectSyncs go by.
    pub uid: Uid,
    /// `metadata.resourceVersion`. Deletions by the SyncController carry none.
    pub version: Option<ResourceVersion>,
    /// Who sends it; decides the route's strings.
    pub source: PushSource,
    /// The whole object, or for a deletion by the SyncController name, namespace and uid only.
    pub object: RawJson,
}

/// What happened to a pushed object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushOp {
    /// New.
    Insert,
    /// Changed, or new.
    Update,
    /// Gone.
    Delete,
}

/// The cloud module that pushes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushSource {
    /// Pods, nodes, configmaps, secrets; also everything the SyncController resends.
    EdgeController,
    /// Devices and device models.
    DeviceController,
    /// Objects of watches that the MetaServer registered.
    DynamicController,
    /// ServiceAccountAccess objects.
    PolicyController,
}

/// The answer to a request of the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The request's id.
    pub parent: MessageId,
    /// The request's resource path, as it came.
    pub resource: Box<str>,
    /// Set when an object is returned.
    pub version: Option<ResourceVersion>,
    /// The answer itself.
    pub body: ReplyBody,
}

/// The forms that an answer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyBody {
    /// The text `OK`.
    Ok,
    /// Another text: an error, or the PEM of the API server's CA (which comes from `cloudhub`).
    Text(String),
    /// `{"Object": .., "Err": ..}`
    Object {
        /// The object, or JSON null.
        object: RawJson,
        /// What the API server said, if it refused.
        err: Option<ReplyError>,
    },
    /// The object itself, as answers to queries have it. Must be acknowledged if it has a version.
    Plain(RawJson),
    /// A bare error, as failed queries have it.
    Error(ReplyError),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyError {
    /// The API server's `metav1.Status`, as JSON.
    Status(RawJson),
    /// The original lost the text on its way: `{}`.
    Unknown,
}

/// A step of a node job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// `operations.kubeedge.io/v1alpha2/<kind>/<job>/node/<node>`, or the older `<type>/<id>/node/<node>`.
    pub resource: Box<str>,
    /// `Check`, `upgrade`, `prepull` ..
    pub operation: Box<str>,
    /// `taskmanager` or `nodeupgradejobcontroller`.
    pub source: Box<str>,
    /// The job's spec.
    pub content: RawJson,
}

/// A call of the cloud's CSI driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeCall {
    /// Id of the call, named by the answer.
    pub id: MessageId,
    /// `ns/volume/<id>`
    pub resource: Box<str>,
    /// `createvolume`, `deletevolume`, `controllerpublishvolume`, `controllerunpublishvolume`.
    pub operation: Box<str>,
    /// A JSON string that holds the request in protobuf-JSON.
    pub content: RawJson,
}

/// Traffic of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleCommand {
    /// Which bus of the edge it is for.
    pub target: RuleTarget,
    /// `subscribe`, `unsubscribe`, `publish`, `start`, `stop`, `response`, or an HTTP method.
    pub operation: Box<str>,
    /// Topic or URL.
    pub resource: Box<str>,
    /// The request it answers, if it does.
    pub parent: Option<MessageId>,
    /// Payload.
    pub content: RawJson,
}

/// Which bus of the edge a rule's message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleTarget {
    /// MQTT.
    EventBus,
    /// HTTP.
    ServiceBus,
}

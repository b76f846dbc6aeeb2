//! What the cloud may tell an edge node.
//!
//! Owns: the enum and its two directions.
//! Called by: cloudhub (encodes), edgehub (decodes).
//! Never: drops what it does not know; that is a [`DecodeError`].

use super::error::{DecodeError, DecodeFault};
use super::message::Message;
use super::route::{self, DevicePath, group, kind, operation, reply_needs_ack, resource, source};
use super::upstream::Ack;
use crate::names::{MessageId, NameError, ObjectKey, ResourceVersion, Uid};
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
    /// Who sends it.
    pub source: TaskSource,
    /// The job's spec.
    pub content: RawJson,
}

/// The cloud module that sends a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskSource {
    /// The task manager.
    TaskManager,
    /// What clouds have for edges older than 1.16.
    NodeUpgradeJobController,
}

/// A call of the cloud's CSI driver. The answer names the message's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeCall {
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

impl PushOp {
    fn as_str(self) -> &'static str {
        match self {
            Self::Insert => operation::INSERT,
            Self::Update => operation::UPDATE,
            Self::Delete => operation::DELETE,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete].into_iter().find(|op| op.as_str() == text)
    }
}

impl PushSource {
    fn as_str(self) -> &'static str {
        match self {
            Self::EdgeController => source::EDGECONTROLLER,
            Self::DeviceController => source::DEVICECONTROLLER,
            Self::DynamicController => source::DYNAMICCONTROLLER,
            Self::PolicyController => source::POLICYCONTROLLER,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        use PushSource::{DeviceController, DynamicController, EdgeController, PolicyController};
        [EdgeController, DeviceController, DynamicController, PolicyController]
            .into_iter()
            .find(|source| source.as_str() == text)
    }
}

impl RuleTarget {
    fn as_str(self) -> &'static str {
        match self {
            Self::EventBus => source::ROUTER_EVENTBUS,
            Self::ServiceBus => source::ROUTER_SERVICEBUS,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::EventBus, Self::ServiceBus].into_iter().find(|target| target.as_str() == text)
    }
}

impl TaskSource {
    /// Source and group; the original uses one name for both.
    fn as_str(self) -> (&'static str, &'static str) {
        match self {
            Self::TaskManager => (source::TASKMANAGER, group::TASKMANAGER),
            Self::NodeUpgradeJobController => {
                (source::NODEUPGRADEJOBCONTROLLER, group::NODEUPGRADEJOBCONTROLLER)
            }
        }
    }
}

impl Reply {
    /// Answers come from the edge controller, but the API server's CA comes from cloudhub.
    fn source(&self) -> &'static str {
        if *self.resource == *resource::API_SERVER_CA {
            source::CLOUDHUB
        } else {
            source::EDGECONTROLLER
        }
    }
}

impl Downstream {
    /// Whether the edge must acknowledge this message, after it stored what it carries.
    ///
    /// Pushed objects always, and answers to queries that carry an object.
    pub fn needs_ack(&self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::Reply(reply) => {
                matches!(reply.body, ReplyBody::Plain(_))
                    && reply.version.is_some()
                    && reply_needs_ack(&reply.resource)
            }
            Self::Membership(_)
            | Self::MembershipDetail(_)
            | Self::TwinConfirm(_)
            | Self::TwinCloudUpdated { .. }
            | Self::Application { .. }
            | Self::Task(_)
            | Self::Volume(_)
            | Self::Rule(_) => false,
        }
    }

    /// The acknowledgement of this message, which came as `id`; `None` if it needs none.
    pub fn ack(&self, id: &MessageId) -> Option<Ack> {
        let (source, resource) = match self {
            Self::Object(push) => (push.source.as_str(), push.key.to_string().into()),
            Self::Reply(reply) if self.needs_ack() => (reply.source(), reply.resource.clone()),
            _ => return None,
        };
        Some(Ack { of: id.clone(), source: source.into(), group: group::RESOURCE.into(), resource })
    }

    /// Reads an envelope; also returns the message's id.
    ///
    /// # Errors
    /// When the route is none of those that the cloud uses, or a name or the content does not fit it.
    pub fn decode(msg: Message) -> Result<(MessageId, Self), DecodeError> {
        let decoded = msg
            .header
            .msg_id
            .parse()
            .map_err(DecodeFault::from)
            .and_then(|id| Ok((id, Self::decode_by_group(&msg)?)));
        decoded.map_err(|fault| DecodeError::new(&msg, fault))
    }

    fn decode_by_group(msg: &Message) -> Result<Self, DecodeFault> {
        match msg.route.group.as_str() {
            group::RESOURCE | group::FUNC => Self::decode_resource(msg),
            group::TWIN => Self::decode_twin(msg),
            group::USER => Self::decode_rule(msg),
            group::TASKMANAGER => Self::decode_task(msg, TaskSource::TaskManager),
            group::NODEUPGRADEJOBCONTROLLER => {
                Self::decode_task(msg, TaskSource::NodeUpgradeJobController)
            }
            _ => Err(DecodeFault::UnknownRoute),
        }
    }

    fn decode_resource(msg: &Message) -> Result<Self, DecodeFault> {
        let (route, parent) = (&msg.route, parent(msg)?);
        let op = route.operation.as_str();
        if op == operation::APPLICATION_RESPONSE {
            let parent = parent.ok_or(DecodeFault::NoParent)?;
            return Ok(Self::Application { parent, content: msg.content.clone() });
        }
        if let Some(parent) = parent {
            return match op {
                operation::RESPONSE | operation::ERROR => Ok(Self::Reply(Reply {
                    parent,
                    resource: route.resource.as_str().into(),
                    version: route::version(&msg.header.resourceversion)?,
                    body: ReplyBody::decode(msg.content.clone()),
                })),
                _ => Err(DecodeFault::UnknownRoute),
            };
        }
        if route.source == source::CLOUDHUB
            && operation::VOLUME.contains(&op)
            && kind::is_volume(&route.resource)
        {
            return Ok(Self::Volume(VolumeCall {
                resource: route.resource.as_str().into(),
                operation: op.into(),
                content: msg.content.clone(),
            }));
        }
        let (Some(op), Some(source)) = (PushOp::parse(op), PushSource::parse(&route.source)) else {
            return Err(match op {
                operation::RESPONSE => DecodeFault::NoParent,
                _ => DecodeFault::UnknownRoute,
            });
        };
        let head = msg.content.head();
        let uid = head.ok().and_then(|head| head.metadata.uid);
        let uid = uid.ok_or(DecodeFault::Content("an object with a `metadata.uid`"))?;
        Ok(Self::Object(ObjectPush {
            op,
            key: route.resource.parse()?,
            uid: uid.parse()?,
            version: route::version(&msg.header.resourceversion)?,
            source,
            object: msg.content.clone(),
        }))
    }

    fn decode_twin(msg: &Message) -> Result<Self, DecodeFault> {
        // The original takes any message with a parent for a confirmation, whatever it carries.
        if let Some(parent) = parent(msg)? {
            return Ok(Self::TwinConfirm(parent));
        }
        let content = msg.content.clone();
        match msg.route.resource.as_str() {
            resource::MEMBERSHIP => Ok(Self::Membership(content)),
            resource::MEMBERSHIP_DETAIL => Ok(Self::MembershipDetail(content)),
            path => match DevicePath::parse(path) {
                Some(DevicePath::CloudUpdated { device }) => {
                    Ok(Self::TwinCloudUpdated { device: device.into(), content })
                }
                _ => Err(DecodeFault::UnknownRoute),
            },
        }
    }

    fn decode_rule(msg: &Message) -> Result<Self, DecodeFault> {
        let target = RuleTarget::parse(&msg.route.source).ok_or(DecodeFault::UnknownRoute)?;
        Ok(Self::Rule(RuleCommand {
            target,
            operation: msg.route.operation.as_str().into(),
            resource: msg.route.resource.as_str().into(),
            parent: parent(msg)?,
            content: msg.content.clone(),
        }))
    }

    fn decode_task(msg: &Message, source: TaskSource) -> Result<Self, DecodeFault> {
        if msg.route.source != source.as_str().0 {
            return Err(DecodeFault::UnknownRoute);
        }
        Ok(Self::Task(Task {
            resource: msg.route.resource.as_str().into(),
            operation: msg.route.operation.as_str().into(),
            source,
            content: msg.content.clone(),
        }))
    }

    /// Writes the envelope that the original would write.
    pub fn encode(&self, id: &MessageId, timestamp_ms: i64) -> Message {
        let mut msg = Message::default();
        msg.header.msg_id = id.to_string();
        msg.header.timestamp = timestamp_ms;
        if let Some(parent) = self.parent() {
            msg.header.parent_msg_id = parent.to_string();
        }
        if let Some(version) = self.version() {
            msg.header.resourceversion = version.to_string();
        }
        self.encode_route(&mut msg);
        msg.content = match self {
            Self::Object(push) => push.object.clone(),
            Self::Reply(reply) => reply.body.encode(),
            Self::TwinConfirm(_) => RawJson::string(route::OK),
            Self::Membership(content)
            | Self::MembershipDetail(content)
            | Self::TwinCloudUpdated { content, .. }
            | Self::Application { content, .. } => content.clone(),
            Self::Task(task) => task.content.clone(),
            Self::Volume(call) => call.content.clone(),
            Self::Rule(rule) => rule.content.clone(),
        };
        msg
    }

    /// The message that this one answers.
    fn parent(&self) -> Option<&MessageId> {
        match self {
            Self::Reply(reply) => Some(&reply.parent),
            Self::TwinConfirm(parent) | Self::Application { parent, .. } => Some(parent),
            Self::Rule(rule) => rule.parent.as_ref(),
            _ => None,
        }
    }

    fn version(&self) -> Option<ResourceVersion> {
        match self {
            Self::Object(push) => push.version,
            Self::Reply(reply) => reply.version,
            _ => None,
        }
    }

    fn encode_route(&self, msg: &mut Message) {
        let (source, group, operation, resource) = match self {
            Self::Object(push) => {
                (push.source.as_str(), group::RESOURCE, push.op.as_str(), push.key.to_string())
            }
            Self::Reply(reply) => {
                (reply.source(), group::RESOURCE, operation::RESPONSE, reply.resource.to_string())
            }
            Self::Membership(_) => device(operation::UPDATE, resource::MEMBERSHIP),
            Self::MembershipDetail(_) => device(operation::UPDATE, resource::MEMBERSHIP_DETAIL),
            Self::TwinConfirm(_) => device(operation::RESPONSE, resource::TWIN),
            Self::TwinCloudUpdated { device: id, .. } => {
                device(operation::UPDATE, &DevicePath::CloudUpdated { device: id }.print())
            }
            Self::Application { .. } => (
                source::DYNAMICCONTROLLER,
                group::RESOURCE,
                operation::APPLICATION_RESPONSE,
                resource::APPLICATION_RESPONSE.to_owned(),
            ),
            Self::Task(task) => {
                let (source, group) = task.source.as_str();
                (source, group, &*task.operation, task.resource.to_string())
            }
            Self::Volume(call) => {
                (source::CLOUDHUB, group::RESOURCE, &*call.operation, call.resource.to_string())
            }
            Self::Rule(rule) => {
                (rule.target.as_str(), group::USER, &*rule.operation, rule.resource.to_string())
            }
        };
        msg.route.source = source.to_owned();
        msg.route.group = group.to_owned();
        msg.route.operation = operation.to_owned();
        msg.route.resource = resource;
    }
}

/// The route of a message to the twins.
fn device(
    operation: &'static str,
    resource: &str,
) -> (&'static str, &'static str, &'static str, String) {
    (source::DEVICECONTROLLER, group::TWIN, operation, resource.to_owned())
}

/// The parent's id; the wire writes none as the empty text.
fn parent(msg: &Message) -> Result<Option<MessageId>, NameError> {
    let parent: MessageId = msg.header.parent_msg_id.parse()?;
    Ok((!parent.is_empty()).then_some(parent))
}

#[cfg(test)]
mod tests;

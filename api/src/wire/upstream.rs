//! What an edge node may tell the cloud.
//!
//! Owns: the enum and its two directions; [`Request`] has its own in [`request`](super::request).
//! Called by: edgehub (encodes), cloudhub (decodes).
//! Never: decides whether the node may say so, or drops what it does not know; that is a
//! [`DecodeError`].

use super::error::{DecodeError, DecodeFault};
use super::message::Message;
pub use super::request::Request;
use super::route::{self, DevicePath, Envelope, group, kind, operation, resource, source};
use crate::names::{Kind, MessageId, Namespace, NodeName, ObjectKey, object_name};
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
        /// Its resource path.
        resource: Box<str>,
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
        /// Which bus it comes from.
        source: Bus,
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

/// The bus of the edge that uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bus {
    /// MQTT.
    EventBus,
    /// HTTP.
    ServiceBus,
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

impl EventOp {
    fn as_str(self) -> &'static str {
        match self {
            Self::Insert => operation::INSERT,
            Self::Update => operation::UPDATE,
            Self::Patch => operation::PATCH,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Patch].into_iter().find(|op| op.as_str() == text)
    }
}

impl Bus {
    fn as_str(self) -> &'static str {
        match self {
            Self::EventBus => source::BUS,
            Self::ServiceBus => source::SERVICEBUS,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::EventBus, Self::ServiceBus].into_iter().find(|bus| bus.as_str() == text)
    }
}

/// The names of modules of the cloud, which an edge node may use in answers only.
const CLOUD_SOURCES: [&str; 5] = [
    source::CLOUDHUB,
    source::CLOUDSTREAM,
    source::DEVICECONTROLLER,
    source::EDGECONTROLLER,
    source::SYNCCONTROLLER,
];

impl Upstream {
    /// Reads an envelope that came from the node `from`; also returns the message's id.
    ///
    /// # Errors
    /// When the route is none of those that an edge node uses, a name or the content does not fit
    /// it, or a task report names another node.
    pub fn decode(from: &NodeName, msg: Message) -> Result<(MessageId, Self), DecodeError> {
        let content = msg.content.clone();
        let decoded = msg
            .header
            .msg_id
            .parse()
            .map_err(DecodeFault::from)
            .and_then(|id| Ok((id, Self::decode_by_operation(from, &msg, content)?)));
        decoded.map_err(|fault| DecodeError::new(&msg, fault))
    }

    /// What is known by its operation, in the original's order of asking.
    fn decode_by_operation(
        from: &NodeName,
        msg: &Message,
        content: RawJson,
    ) -> Result<Self, DecodeFault> {
        let route = &msg.route;
        let path = route::without_node(&route.resource, from);
        match route.operation.as_str() {
            operation::KEEPALIVE => Ok(Self::Keepalive),
            op @ (operation::RESPONSE | operation::ERROR) if kind::is_volume(path) => {
                Ok(Self::Volume {
                    parent: parent(msg)?.ok_or(DecodeFault::NoParent)?,
                    resource: path.into(),
                    failed: op == operation::ERROR,
                    content,
                })
            }
            operation::RESPONSE => Ok(Self::Ack(Ack {
                of: parent(msg)?.ok_or(DecodeFault::NoParent)?,
                source: route.source.as_str().into(),
                group: route.group.as_str().into(),
                resource: route.resource.as_str().into(),
            })),
            operation::ERROR => Ok(Self::Refused {
                of: parent(msg)?.ok_or(DecodeFault::NoParent)?,
                resource: path.into(),
                why: content.text().into_owned(),
            }),
            op if route.group == group::USER => Self::decode_upload(op, msg, content),
            op if operation::TASK_STATUS.contains(&op) => {
                Self::decode_task_status(from, msg, content)
            }
            _ => Self::decode_by_source(msg, path, content),
        }
    }

    fn decode_upload(op: &str, msg: &Message, content: RawJson) -> Result<Self, DecodeFault> {
        let source = Bus::parse(&msg.route.source).ok_or(DecodeFault::UnknownRoute)?;
        let failed = op.is_empty() && source == Bus::ServiceBus;
        if op != operation::UPLOAD && !failed {
            return Err(DecodeFault::UnknownRoute);
        }
        Ok(Self::Upload {
            source,
            resource: msg.route.resource.as_str().into(),
            failed,
            parent: parent(msg)?,
            content,
        })
    }

    fn decode_task_status(
        from: &NodeName,
        msg: &Message,
        content: RawJson,
    ) -> Result<Self, DecodeFault> {
        let path = msg.route.resource.as_str();
        let named = route::task_node(path).ok_or(DecodeFault::UnknownRoute)?;
        if named != from.as_str() {
            let named = named.chars().take(64).collect();
            return Err(DecodeFault::OtherNode { named, from: from.clone() });
        }
        Ok(Self::TaskStatus {
            resource: path.into(),
            operation: msg.route.operation.as_str().into(),
            content,
        })
    }

    fn decode_by_source(msg: &Message, path: &str, content: RawJson) -> Result<Self, DecodeFault> {
        let op = msg.route.operation.as_str();
        match (msg.route.source.as_str(), path) {
            (source, _) if CLOUD_SOURCES.contains(&source) => Err(DecodeFault::CloudSource),
            (source::METASERVER, resource::WATCH_SYNC) => Ok(Self::WatchSync(content)),
            (source::METASERVER, resource::APPLICATION) => Ok(Self::Application(content)),
            (source::METASERVER, _) => Err(DecodeFault::UnknownRoute),
            (source::TWIN, resource::MEMBERSHIP_DETAIL) => Ok(Self::MembershipDetail(content)),
            (source::TWIN, path) => Self::decode_device(path, content),
            _ => match path.parse::<ObjectKey>() {
                Ok(key) if key.kind == Kind::Event => {
                    let op = EventOp::parse(op).ok_or(DecodeFault::UnknownRoute)?;
                    Ok(Self::Event(EventReport { key, op, content }))
                }
                _ => Request::decode(op, path, content).map(Self::Request),
            },
        }
    }

    fn decode_device(path: &str, content: RawJson) -> Result<Self, DecodeFault> {
        match DevicePath::parse(path) {
            Some(DevicePath::EdgeUpdated { namespace, name }) => Ok(Self::DeviceTwin {
                namespace: namespace.parse()?,
                name: object_name(name)?,
                content,
            }),
            Some(DevicePath::State { namespace, name }) => Ok(Self::DeviceState {
                namespace: namespace.parse()?,
                name: object_name(name)?,
                content,
            }),
            Some(DevicePath::CloudUpdated { .. }) | None => Err(DecodeFault::UnknownRoute),
        }
    }

    /// Writes the envelope that the original would write.
    pub fn encode(&self, id: &MessageId, timestamp_ms: i64) -> Message {
        let mut msg = self.envelope().into_message(id, timestamp_ms);
        match self {
            Self::Ack(Ack { of, source, group, .. }) => {
                msg.header.parent_msg_id = of.to_string();
                msg.route.source = source.to_string();
                msg.route.group = group.to_string();
            }
            Self::Refused { of: parent, .. }
            | Self::Volume { parent, .. }
            | Self::Upload { parent: Some(parent), .. } => {
                msg.header.parent_msg_id = parent.to_string();
            }
            Self::TaskStatus { operation, .. } => msg.route.operation = operation.to_string(),
            _ => {}
        }
        msg
    }

    /// The envelope, but for the texts that come from elsewhere.
    fn envelope(&self) -> Envelope {
        let envelope = |source, group, operation, resource: &str, content: &RawJson| Envelope {
            source,
            group,
            operation,
            resource: resource.to_owned(),
            content: content.clone(),
        };
        let twin = |operation, resource: &str, content| {
            envelope(source::TWIN, group::RESOURCE, operation, resource, content)
        };
        let metaserver = |resource, content| {
            let group = group::DYNAMICCONTROLLER;
            envelope(source::METASERVER, group, operation::NULL, resource, content)
        };
        match self {
            Self::Keepalive => {
                let (op, content) = (operation::KEEPALIVE, RawJson::string(route::PING));
                envelope(source::EDGEHUB, group::RESOURCE, op, resource::NODE, &content)
            }
            Self::Ack(ack) => {
                let content = RawJson::string(route::OK);
                envelope("", "", operation::RESPONSE, &ack.resource, &content)
            }
            Self::Refused { resource, why, .. } => {
                let content = RawJson::string(why);
                envelope(source::METAMANAGER, group::RESOURCE, operation::ERROR, resource, &content)
            }
            Self::Request(request) => request.envelope(),
            Self::Event(event) => {
                let path = event.key.to_string();
                envelope(source::EDGED, group::META, event.op.as_str(), &path, &event.content)
            }
            Self::DeviceTwin { namespace, name, content } => {
                let path = DevicePath::EdgeUpdated { namespace: namespace.as_str(), name };
                twin(operation::UPDATE, &path.print(), content)
            }
            Self::DeviceState { namespace, name, content } => {
                let path = DevicePath::State { namespace: namespace.as_str(), name };
                twin(operation::UPDATE, &path.print(), content)
            }
            Self::MembershipDetail(content) => {
                twin(operation::GET, resource::MEMBERSHIP_DETAIL, content)
            }
            Self::Application(content) => metaserver(resource::APPLICATION, content),
            Self::WatchSync(content) => metaserver(resource::WATCH_SYNC, content),
            Self::Upload { source, resource, failed, content, .. } => {
                let op = if *failed { "" } else { operation::UPLOAD };
                envelope(source.as_str(), group::USER, op, resource, content)
            }
            Self::TaskStatus { resource, content, .. } => {
                envelope(source::EDGEHUB, group::HUB, "", resource, content)
            }
            Self::Volume { resource, failed, content, .. } => {
                let op = if *failed { operation::ERROR } else { operation::RESPONSE };
                envelope(source::CLOUDHUB, group::RESOURCE, op, resource, content)
            }
        }
    }
}

/// The parent's id; the wire writes none as the empty text.
fn parent(msg: &Message) -> Result<Option<MessageId>, DecodeFault> {
    let parent: MessageId = msg.header.parent_msg_id.parse()?;
    Ok((!parent.is_empty()).then_some(parent))
}

#[cfg(test)]
mod tests;

//! The envelope: header, route, content.

use serde::{Deserialize, Serialize};

use crate::raw::RawJson;

/// No message may be larger than this, in either direction: 32 MiB.
pub const MAX_MESSAGE: usize = 32 << 20;

/// One message as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who, when, in answer to what.
    pub header: Header,
    /// From where to where, and what to do.
    pub route: Route,
    /// The body; its form depends on the route.
    pub content: RawJson,
}

/// The `header` object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Unique id of this message.
    pub msg_id: String,
    /// Id of the message that this one answers; empty if none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent_msg_id: String,
    /// Creation time in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// `resourceVersion` of the object in the content; empty if none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resourceversion: String,
    /// Sender blocks for an answer. Never set on the wire by KubeEdge.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    /// Context kind of the original's message bus; empty in practice.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// The `route` object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Sending module.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Unused on the wire.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// Receiving group of modules.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Verb.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// Resource path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
}

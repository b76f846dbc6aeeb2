//! The JSON messages of the status stream, one per WebSocket text message.
//!
//! The server speaks first ([`ToReader::Hello`]), then sends everything, then what changed. A
//! reader ignores fields and message types that it does not know; the version grows only when that
//! is not enough.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::board::Changes;
use super::row::{DeviceRow, EventRow, MessageRow, Millis, NodeRow, PodRow, Row, RowKey};

/// The version that this code speaks.
pub const VERSION: u32 = 1;

/// No message from a reader may be larger: 64 KiB.
pub const MAX_REQUEST: usize = 64 << 10;

/// No message to a reader is larger: 16 MiB. Larger updates are sent in parts.
pub const MAX_UPDATE: usize = 16 << 20;

/// From the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToReader {
    /// Who serves, and what it can do.
    Hello(Hello),
    /// What changed.
    Update(Box<Update>),
    /// A part of the answer to a request.
    Log(LogLines),
    /// The end of the answer to a request, or the whole of it.
    Done(Done),
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// Who serves, and what it can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hello {
    /// [`VERSION`]
    pub version: u32,
    /// `cloudcore` or `edgecore`, and its version.
    pub server: String,
    /// The node, if an edge serves its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The server's clock.
    pub now: Millis,
    /// Names of the requests that are answered here: `logs`, `yaml`, `cordon` ..
    pub requests: Vec<String>,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Update {
    /// The server's clock.
    pub now: Millis,
    /// Forget all rows first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// More of the same full update follows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// New and changed nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeRow>,
    /// New and changed pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodRow>,
    /// New and changed devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRow>,
    /// Rows that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<RowKey>,
    /// New events, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRow>,
    /// New messages, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<MessageRow>,
    /// Totals since the server started.
    pub totals: Totals,
    /// How far the reader was behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
}

/// Totals since the server started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Messages from edges.
    pub up: u64,
    /// Messages to edges.
    pub down: u64,
    /// Messages dropped, on any queue.
    pub dropped: u64,
}

/// How far a reader was behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Behind {
    /// The oldest change in this update had waited so long, in milliseconds.
    pub millis: u64,
    /// Events that were never sent.
    pub missed_events: u64,
    /// Messages that were never sent.
    pub missed_messages: u64,
}

/// Lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogLines {
    /// The request.
    pub id: u64,
    /// The lines, without line feeds; invalid UTF-8 replaced, long lines cut at 16 KiB.
    pub lines: Vec<String>,
}

/// The end of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Done {
    /// The request.
    pub id: u64,
    /// Why it failed; empty if it did not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What was asked for, as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// From a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FromReader {
    /// Send messages of the flow too; they are left out otherwise.
    Flow {
        /// On or off.
        on: bool,
    },
    /// Answer a request.
    Request {
        /// Chosen by the reader; named by the answer.
        id: u64,
        /// What.
        request: Request,
    },
    /// Stop answering a request.
    Stop {
        /// Which.
        id: u64,
    },
}

/// What a reader can ask for. Each is possible as a command, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase")]
pub enum Request {
    /// The log of a container.
    Logs {
        /// Namespace of the pod.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container; empty for the first.
        #[serde(default)]
        container: String,
        /// Go on as lines are written.
        #[serde(default)]
        follow: bool,
        /// Only the last so many lines.
        #[serde(default)]
        tail: Option<u32>,
    },
    /// An object as YAML.
    Yaml {
        /// Which.
        key: RowKey,
    },
    /// Let no new pods onto a node, or let them again.
    Cordon {
        /// The node.
        node: String,
        /// Or let them again.
        on: bool,
    },
    /// Cordon a node and evict its pods.
    Drain {
        /// The node.
        node: String,
    },
    /// Delete a pod.
    DeletePod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
    },
    /// Restart the containers of a pod on its node.
    RestartPod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
    },
    /// Set the desired value of a property.
    SetDesired {
        /// Namespace of the device.
        namespace: String,
        /// The device.
        device: String,
        /// The property.
        property: String,
        /// The value.
        value: String,
    },
}

impl Update {
    /// The changes as one message.
    pub fn of(changes: Changes, now: Millis, totals: Totals) -> Self {
        let mut update =
            Update { now, full: changes.full, gone: changes.gone, totals, ..Self::default() };
        for row in changes.rows {
            match Arc::unwrap_or_clone(row) {
                Row::Node(r) => update.nodes.push(r),
                Row::Pod(r) => update.pods.push(r),
                Row::Device(r) => update.devices.push(r),
            }
        }
        update.events = changes.events.into_iter().map(Arc::unwrap_or_clone).collect();
        update.messages = changes.messages.into_iter().map(Arc::unwrap_or_clone).collect();
        if changes.missed_events + changes.missed_messages > 0 && !changes.full {
            update.behind = Some(Behind {
                millis: 0,
                missed_events: changes.missed_events,
                missed_messages: changes.missed_messages,
            });
        }
        update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_later_version_is_not_an_error() {
        let m: ToReader = serde_json::from_str(r#"{"type":"hologram","x":1}"#).unwrap();
        assert_eq!(m, ToReader::Unknown);
        let m: ToReader =
            serde_json::from_str(r#"{"type":"hello","version":7,"shiny":true}"#).unwrap();
        assert!(matches!(m, ToReader::Hello(Hello { version: 7, .. })));
    }

    #[test]
    fn messages_read_as_documented() {
        let text = r#"{"type":"request","id":3,"request":{"what":"logs","namespace":"default","pod":"web"}}"#;
        let m: FromReader = serde_json::from_str(text).unwrap();
        let FromReader::Request { id: 3, request: Request::Logs { pod, follow: false, .. } } = m
        else {
            panic!("{m:?}");
        };
        assert_eq!(pod, "web");
        let update = Update { now: 5, full: true, ..Update::default() };
        assert_eq!(
            serde_json::to_string(&ToReader::Update(Box::new(update))).unwrap(),
            r#"{"type":"update","now":5,"full":true,"totals":{"up":0,"down":0,"dropped":0}}"#
        );
    }
}

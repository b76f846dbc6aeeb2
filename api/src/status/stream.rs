//! The JSON messages of the status stream, one per WebSocket text message.
//!
//! The server speaks first ([`ToReader::Hello`]), then sends everything, then what changed. A
//! reader ignores fields and message types that it does not know; the version grows only when that
//! is not enough.
//!
//! Owns: the messages, what a part of an update holds, when a reader counts as behind.
//! Called by: the stream's server, and every reader.
//! Never: carries a secret; rows have none.

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

/// A part of an update has at most about this many bytes of text in its rows, and so stays far
/// below [`MAX_UPDATE`] even when every character of it must be escaped.
const PART: usize = 1 << 20;

/// A reader whose oldest change has waited longer than this many milliseconds is told so.
const BEHIND: i64 = 1000;

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
    /// More of the same update follows.
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
    /// The lines, without line feeds; invalid UTF-8 replaced, long lines in parts of 16 KiB.
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
    /// Keep what nodes and pods use up to date; it is asked of the nodes only while somebody wants it.
    Usage {
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
    #[serde(rename_all = "camelCase")]
    DeletePod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// Seconds that its containers have to end; the pod's own if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_period: Option<u32>,
    },
    /// Restart the containers of a pod on its node.
    #[serde(rename_all = "camelCase")]
    RestartPod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// Only say which containers it would be.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// Let an upgrade that waits for it go on. The node itself is asked, and says no if none waits.
    ConfirmUpgrade {
        /// The node.
        node: String,
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

impl FromReader {
    /// Reads a message of a reader. The inner error is the answer to a request of a later version,
    /// which is no nonsense.
    ///
    /// # Errors
    /// When it is no JSON object with a `type`.
    pub fn read(text: &str) -> Result<Result<Self, Done>, String> {
        #[derive(Deserialize)]
        struct Later {
            #[serde(rename = "type")]
            _type: String,
            #[serde(default)]
            id: u64,
        }
        let error = match serde_json::from_str(text) {
            Ok(message) => return Ok(Ok(message)),
            Err(error) => error,
        };
        let Later { id, .. } = serde_json::from_str(text).map_err(|_| error.to_string())?;
        let error = "this server does not know that request".to_owned();
        Ok(Err(Done { id, error, ..Done::default() }))
    }
}

impl Update {
    /// The changes, in as many messages as it takes; none if there are none.
    pub fn parts(changes: Changes, now: Millis, totals: Totals) -> Vec<Self> {
        if changes.is_empty() {
            return Vec::new();
        }
        let behind = behind(&changes, now);
        let first = Self { full: changes.full, behind, ..Self::default() };
        let mut parts = Parts { done: Vec::new(), current: first, size: 0 };
        for key in changes.gone {
            parts.part(key.key.len()).gone.push(key);
        }
        for row in changes.rows {
            let size = row.text_len();
            match Arc::unwrap_or_clone(row) {
                Row::Node(row) => parts.part(size).nodes.push(row),
                Row::Pod(row) => parts.part(size).pods.push(row),
                Row::Device(row) => parts.part(size).devices.push(row),
            }
        }
        for event in changes.events {
            parts.part(event.text_len()).events.push(Arc::unwrap_or_clone(event));
        }
        for message in changes.messages {
            parts.part(message.text_len()).messages.push(Arc::unwrap_or_clone(message));
        }
        let mut done = parts.done;
        done.push(parts.current);
        let last = done.len() - 1;
        for (i, part) in done.iter_mut().enumerate() {
            (part.now, part.totals, part.more) = (now, totals, i < last);
        }
        done
    }
}

/// An update on its way to being sent in parts.
struct Parts {
    done: Vec<Update>,
    current: Update,
    size: usize,
}

impl Parts {
    /// The part that the next `text_len` bytes of text belong to.
    fn part(&mut self, text_len: usize) -> &mut Update {
        // Names of fields and numbers come on top of the text.
        let size = text_len + 512;
        if self.size > 0 && self.size + size > PART {
            self.done.push(std::mem::take(&mut self.current));
            self.size = 0;
        }
        self.size += size;
        &mut self.current
    }
}

/// How far the reader is behind, if it is worth telling. A new reader misses nothing.
fn behind(changes: &Changes, now: Millis) -> Option<Behind> {
    let oldest = changes.oldest.filter(|_| !changes.full)?;
    let waited = now.saturating_sub(oldest).max(0);
    let missed = changes.missed_events + changes.missed_messages > 0;
    (missed || waited > BEHIND).then_some(Behind {
        millis: waited.unsigned_abs(),
        missed_events: changes.missed_events,
        missed_messages: changes.missed_messages,
    })
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

    use super::super::board::{Board, Cursor, MESSAGES};

    fn pod(i: usize, text: &str) -> Row {
        Row::Pod(PodRow {
            namespace: "default".into(),
            name: format!("web-{i}"),
            images: vec![text.to_owned()],
            ..PodRow::default()
        })
    }

    #[test]
    fn a_large_update_comes_in_parts_of_which_all_but_the_last_say_so() {
        let mut board = Board::default();
        // The worst text: each byte takes six in JSON.
        let text = "\u{1}".repeat(4096);
        for i in 0..1000 {
            board.record(pod(i, &text), 0);
        }
        let (changes, _) = board.since(Cursor::default());
        let parts = Update::parts(changes, 5, Totals::default());
        assert!(parts.len() > 3);
        let sizes = parts.iter().map(|part| serde_json::to_string(part).unwrap().len());
        assert!(sizes.clone().max().unwrap() < MAX_UPDATE, "{:?}", sizes.collect::<Vec<_>>());
        assert_eq!(parts.iter().map(|part| part.pods.len()).sum::<usize>(), 1000);
        let flags: Vec<_> = parts.iter().map(|part| (part.full, part.more)).collect();
        let (first, rest) = flags.split_first().unwrap();
        let (last, middle) = rest.split_last().unwrap();
        assert_eq!((first, last), (&(true, true), &(false, false)));
        assert!(middle.iter().all(|flags| *flags == (false, true)));
    }

    #[test]
    fn a_reader_that_is_behind_is_told_how_far() {
        let mut board = Board::default();
        board.record(pod(0, ""), 0);
        let (changes, cursor) = board.since(Cursor::default());
        assert_eq!(Update::parts(changes, 9999, Totals::default())[0].behind, None, "it is new");
        let told = |board: &Board, now| {
            let parts = Update::parts(board.since(cursor).0, now, Totals::default());
            parts.first().and_then(|part| part.behind)
        };
        assert_eq!(told(&board, 9999), None, "there is nothing to tell");
        board.record(pod(1, ""), 5000);
        assert_eq!(told(&board, 6000), None);
        assert_eq!(told(&board, 6001).unwrap().millis, 1001);
        assert_eq!(told(&board, 0), None, "a clock that was set back is no reason");
        for _ in 0..MESSAGES + 7 {
            board.message(MessageRow { at: 5000, ..MessageRow::default() });
        }
        let behind = told(&board, 5500).unwrap();
        assert_eq!((behind.millis, behind.missed_messages), (500, 7));
    }

    /// Examples in docs/status-stream.md, as values.
    fn documented() -> Vec<serde_json::Value> {
        let text = include_str!("../../../docs/status-stream.md");
        let blocks = text.split("```json\n").skip(1);
        blocks.map(|b| serde_json::from_str(b.split("```").next().unwrap()).unwrap()).collect()
    }

    #[test]
    fn every_documented_example_is_read_and_written_as_it_stands() {
        let examples = documented();
        assert!(examples.len() >= 10, "{}", examples.len());
        for example in examples {
            let text = example.to_string();
            let again = match serde_json::from_str::<ToReader>(&text) {
                Ok(ToReader::Unknown) => {
                    let m: FromReader = serde_json::from_str(&text).unwrap();
                    serde_json::to_value(m).unwrap()
                }
                Ok(m) => serde_json::to_value(m).unwrap(),
                Err(e) => panic!("{e}: {text}"),
            };
            assert_eq!(again, example);
        }
    }

    #[test]
    fn every_field_that_is_sent_is_documented() {
        use crate::status::row::{DeviceRow, Hops, Link, Queue, TwinRow, Upgrade, Usage};
        fn names(value: &serde_json::Value, into: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    for (name, value) in map {
                        into.push(name.clone());
                        names(value, into);
                    }
                }
                serde_json::Value::Array(list) => list.iter().for_each(|v| names(v, into)),
                _ => {}
            }
        }
        let link = Link { certificate_expires: Some(1), round_trip_us: Some(1), ..Link::default() };
        let update = Update {
            full: true,
            more: true,
            nodes: vec![NodeRow {
                link: Some(link),
                lost_at: Some(1),
                lost_why: "x".into(),
                reason: "x".into(),
                cordoned: true,
                created: Some(1),
                queue: Queue::default(),
                last_report: Some(1),
                lease_renewed: Some(1),
                usage: Some(Usage::default()),
                upgrade: Some(Box::new(Upgrade {
                    since: Some(1),
                    why: "x".into(),
                    ..Upgrade::default()
                })),
                ..NodeRow::default()
            }],
            pods: vec![PodRow {
                ip: "x".into(),
                created: Some(1),
                last_report: Some(1),
                hops: Some(Hops::default()),
                usage: Some(Usage::default()),
                unconfirmed: true,
                ..PodRow::default()
            }],
            devices: vec![DeviceRow {
                last_online: Some(1),
                twins: vec![TwinRow {
                    desired: Some("x".into()),
                    desired_at: Some(1),
                    reported: Some("x".into()),
                    reported_at: Some(1),
                    ..TwinRow::default()
                }],
                created: Some(1),
                last_report: Some(1),
                ..DeviceRow::default()
            }],
            events: vec![EventRow { node: "x".into(), ..EventRow::default() }],
            messages: vec![MessageRow {
                first_us: Some(1),
                second_us: Some(1),
                ..MessageRow::default()
            }],
            gone: vec![RowKey::node("x")],
            behind: Some(Behind::default()),
            ..Update::default()
        };
        let mut sent = Vec::new();
        names(&serde_json::to_value(ToReader::Update(Box::new(update))).unwrap(), &mut sent);
        let text = include_str!("../../../docs/status-stream.md");
        for name in sent {
            let quoted =
                text.contains(&format!("\"{name}\"")) || text.contains(&format!("`{name}`"));
            assert!(quoted, "`{name}` is not documented");
        }
    }
}

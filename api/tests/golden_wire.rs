//! The golden data of the reference implementation: what it wrote, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::crd::operations::NodeUpgradeJobSpec;
use api::names::NodeName;
use api::raw::RawJson;
use api::wire::package::{Package, PackageError};
use api::wire::task::{ActionReport, JobKind, TaskPath};
use api::wire::{Downstream, Header, MAX_MESSAGE, Message, Route, Upstream, handshake, json};
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    name: String,
    direction: Option<String>,
    #[serde(default)]
    header: RowHeader,
    #[serde(default)]
    router: RowRoute,
    content_kind: Option<String>,
    content_utf8: Option<String>,
    content_hex: Option<String>,
    #[serde(default)]
    content_len: usize,
    packet_hex: Option<String>,
    packet_len: Option<usize>,
    packet_sha256: Option<String>,
    ws_text: Option<String>,
    ws_len: Option<usize>,
    ws_sha256: Option<String>,
    layer: Option<String>,
    error: Option<String>,
    decoded: Option<Decoded>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RowHeader {
    msg_id: String,
    parent_msg_id: String,
    timestamp: i64,
    resourceversion: String,
    sync: bool,
    r#type: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RowRoute {
    source: String,
    destination: String,
    group: String,
    operation: String,
    resource: String,
}

#[derive(Deserialize)]
struct Decoded {
    header: RowHeader,
    route: RowRoute,
    content: String,
}

impl RowHeader {
    fn header(&self) -> Header {
        Header {
            msg_id: self.msg_id.clone(),
            parent_msg_id: self.parent_msg_id.clone(),
            timestamp: self.timestamp,
            resourceversion: self.resourceversion.clone(),
            sync: self.sync,
            kind: self.r#type.clone(),
        }
    }
}

impl RowRoute {
    fn route(&self) -> Route {
        Route {
            source: self.source.clone(),
            destination: self.destination.clone(),
            group: self.group.clone(),
            operation: self.operation.clone(),
            resource: self.resource.clone(),
        }
    }
}

impl Row {
    fn is_message(&self) -> bool {
        self.layer.is_none()
    }

    fn content(&self) -> Vec<u8> {
        match (&self.content_hex, &self.content_utf8) {
            (Some(hex), _) => unhex(hex),
            (None, Some(text)) => text.clone().into_bytes(),
            (None, None) => vec![b'A'; self.content_len],
        }
    }
}

fn rows() -> Vec<Row> {
    let rows: Vec<Row> = include_str!("vectors/viaduct-messages.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 78, "no row may get lost");
    rows
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes equal those of the row, or, for the large one, have its length and digest.
fn check(name: &str, bytes: &[u8], expected: Option<&[u8]>, len: Option<usize>, sha: Option<&str>) {
    if let Some(expected) = expected {
        assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(expected), "{name}");
        assert_eq!(bytes, expected, "{name}");
    } else {
        assert_eq!(Some(sha256(bytes).as_str()), sha, "{name}");
    }
    assert_eq!(Some(bytes.len()), len, "{name}");
}

#[test]
fn every_row_is_written_on_a_websocket_as_the_original_writes_it() {
    for row in rows().iter().filter(|row| row.is_message()) {
        let content = match row.content_kind.as_deref() {
            Some("nil") => RawJson::null(),
            Some("string") => RawJson::string(std::str::from_utf8(&row.content()).unwrap()),
            Some("bytes") => {
                use base64::Engine;
                RawJson::string(&base64::engine::general_purpose::STANDARD.encode(row.content()))
            }
            _ => RawJson::parse(row.content_utf8.clone().unwrap()).unwrap(),
        };
        let msg = Message { header: row.header.header(), route: row.router.route(), content };
        let text = json::encode(&msg).unwrap();
        check(
            &row.name,
            text.as_bytes(),
            row.ws_text.as_deref().map(str::as_bytes),
            row.ws_len,
            row.ws_sha256.as_deref(),
        );
        assert_eq!(json::decode(text.as_bytes()).unwrap(), msg, "{}", row.name);
    }
}

#[test]
fn every_row_is_written_as_a_package_as_the_original_writes_it() {
    for row in rows().iter().filter(|row| row.is_message()) {
        let msg = Message {
            header: row.header.header(),
            route: row.router.route(),
            content: RawJson::null(),
        };
        let package = Package { content: row.content(), ..Package::of(&msg) };
        let bytes = package.encode().unwrap();
        let expected = row.packet_hex.as_deref().map(unhex);
        check(&row.name, &bytes, expected.as_deref(), row.packet_len, row.packet_sha256.as_deref());
        assert_eq!(Package::decode(&bytes).unwrap(), (package, bytes.len()), "{}", row.name);
    }
}

#[test]
fn a_message_read_from_a_websocket_makes_the_package_of_its_row() {
    for row in rows().iter().filter(|row| row.is_message()) {
        let (Some(text), Some(hex)) = (&row.ws_text, &row.packet_hex) else { continue };
        if row.content_kind.as_deref() == Some("bytes") {
            continue; // nothing in JSON marks base64
        }
        let msg = json::decode(text.as_bytes()).unwrap();
        assert_eq!(Package::of(&msg).encode().unwrap(), unhex(hex), "{}", row.name);
    }
}

#[test]
fn every_real_message_decodes_to_what_it_means_and_encodes_to_the_same_bytes() {
    let node: NodeName = "edge-1".parse().unwrap();
    let mut seen = 0;
    for row in rows() {
        let Some(direction) = row.direction.as_deref() else { continue };
        if row.name.starts_with("quic-header") {
            continue; // the hello of QUIC: not a message between modules
        }
        let text = row.ws_text.unwrap();
        let msg = json::decode(text.as_bytes()).unwrap();
        let at = msg.header.timestamp;
        let again = if direction == "edge->cloud" {
            let (id, upstream) = Upstream::decode(&node, msg).unwrap();
            upstream.encode(&id, at)
        } else {
            let (id, downstream) = Downstream::decode(msg).unwrap();
            downstream.encode(&id, at)
        };
        assert_eq!(json::encode(&again).unwrap(), text, "{}", row.name);
        seen += 1;
    }
    assert_eq!(seen, 50);
}

#[test]
fn only_pushes_and_answers_with_an_object_of_a_query_need_an_ack() {
    let needing: Vec<_> = rows()
        .into_iter()
        .filter(|row| row.direction.as_deref() == Some("cloud->edge"))
        .filter(|row| !row.name.starts_with("quic-header"))
        .filter(|row| {
            let msg = json::decode(row.ws_text.as_ref().unwrap().as_bytes()).unwrap();
            Downstream::decode(msg).unwrap().1.needs_ack()
        })
        .map(|row| row.name)
        .collect();
    assert_eq!(
        needing,
        [
            "pod-insert",
            "pod-update-deleting",
            "pod-delete",
            "pod-delete-synccontroller",
            "node-update",
            "configmap-query-response",
            "secret-update",
            "device-insert"
        ]
    );
}

#[test]
fn the_ack_of_a_row_is_the_row_that_the_original_sent() {
    let rows = rows();
    let text =
        |name: &str| rows.iter().find(|row| row.name == name).unwrap().ws_text.clone().unwrap();
    let (id, push) =
        Downstream::decode(json::decode(text("pod-insert").as_bytes()).unwrap()).unwrap();
    let ack = Upstream::Ack(push.ack(&id).unwrap());
    let wanted = text("ack");
    let header = json::decode(wanted.as_bytes()).unwrap().header;
    let msg = ack.encode(&header.msg_id.parse().unwrap(), header.timestamp);
    assert_eq!(json::encode(&msg).unwrap(), wanted);
}

#[test]
fn each_malformed_package_has_its_own_error() {
    let mut seen = Vec::new();
    for row in rows().iter().filter(|row| row.name.starts_with("malformed-")) {
        let bytes = unhex(row.packet_hex.as_deref().unwrap());
        let got = Package::decode(&bytes);
        if let Some(decoded) = &row.decoded {
            let (package, used) = got.unwrap();
            assert_eq!(package.header, decoded.header.header(), "{}", row.name);
            assert_eq!(package.route, decoded.route.route(), "{}", row.name);
            assert_eq!(package.content, decoded.content.as_bytes(), "{}", row.name);
            let extra = if row.name == "malformed-trailing-bytes" { 2 } else { 0 };
            assert_eq!(used + extra, bytes.len(), "{}", row.name);
            continue;
        }
        let wanted = match row.name.as_str() {
            "malformed-empty-input" => PackageError::Empty,
            "malformed-truncated-header" => PackageError::HeaderCutShort { got: 5 },
            "malformed-header-only" => PackageError::NoPayload { announced: 64 },
            "malformed-truncated-payload" => {
                PackageError::PayloadCutShort { announced: 64, got: 63 }
            }
            "malformed-oversize-length" => PackageError::TooLarge { len: MAX_MESSAGE + 1 },
            "malformed-max-length-no-payload" => PackageError::NoPayload { announced: MAX_MESSAGE },
            "malformed-zero-length-payload" => PackageError::EmptyPayload,
            "malformed-no-header-submessage" => PackageError::NoHeader,
            "malformed-no-router-submessage" => PackageError::NoRouter,
            "malformed-garbage-payload" => {
                assert!(matches!(got, Err(PackageError::Protobuf(_))));
                seen.push(row.name.clone());
                continue;
            }
            other => panic!("a row without an expectation: {other}"),
        };
        if let PackageError::TooLarge { .. } = wanted {
            assert_eq!(Some(wanted.to_string()), row.error, "the original's words");
        }
        assert_eq!(got, Err(wanted), "{}", row.name);
        seen.push(row.name.clone());
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
}

#[test]
fn a_package_above_the_limit_is_not_written() {
    let row = rows().into_iter().find(|row| row.name == "writer-oversize").unwrap();
    // 8 bytes of two empty sub-messages and the content's tag and length.
    let content = vec![0; MAX_MESSAGE + 1 - 9];
    let package = Package { content, ..Package::of(&Message::default()) };
    let error = package.encode().unwrap_err();
    assert_eq!(error, PackageError::TooLarge { len: MAX_MESSAGE + 1 });
    assert_eq!(Some(error.to_string()), row.error);
}

#[derive(Deserialize)]
struct Captured {
    name: String,
    #[serde(default)]
    lines: Vec<String>,
    payload_utf8: Option<String>,
    #[serde(default)]
    payload_len: usize,
}

fn capture() -> Vec<Captured> {
    include_str!("vectors/ws-capture.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_captured_keepalive_is_what_we_write() {
    let frame = capture().into_iter().find(|row| row.name == "frame-0").unwrap();
    let text = frame.payload_utf8.unwrap();
    let msg = json::decode(text.as_bytes()).unwrap();
    let at = msg.header.timestamp;
    let (id, upstream) = Upstream::decode(&"edge-1".parse().unwrap(), msg).unwrap();
    assert_eq!(upstream, Upstream::Keepalive);
    assert_eq!(json::encode(&upstream.encode(&id, at)).unwrap(), text);
}

#[test]
fn the_captured_fragments_end_as_our_message_of_the_same_length_ends() {
    let rows = capture();
    let lens: Vec<_> = rows.iter().skip(2).map(|row| row.payload_len).collect();
    assert_eq!(lens, [4096, 4096, 2003]);
    let total: usize = lens.iter().sum();
    let overhead = json::encode(&Message { content: RawJson::string(""), ..Message::default() })
        .unwrap()
        .len();
    let content = RawJson::string(&"a".repeat(total - overhead));
    let text = json::encode(&Message { content, ..Message::default() }).unwrap();
    assert_eq!(text.len(), total);
    assert_eq!(Some(&text[4096 * 2..]), rows[4].payload_utf8.as_deref());
}

#[test]
fn the_captured_handshake_is_what_we_ask_for() {
    let rows = capture();
    let lines = &rows[0].lines;
    let path = handshake::path(handshake::DEFAULT_PROJECT, &"edge-1".parse().unwrap());
    assert_eq!(lines[0], format!("GET {path} HTTP/1.1"));
    let value = |name: &str| {
        lines
            .iter()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    };
    assert_eq!(value(handshake::NODE_ID), Some("edge-1"));
    assert_eq!(value(handshake::PROJECT_ID), Some(handshake::DEFAULT_PROJECT));
    assert_eq!(value(handshake::CONNECTION_USE), Some(handshake::USE_MESSAGES));
}

/// The content of a row whose message is about a job on a node.
fn task_row(name: &str) -> (String, Message) {
    let text = rows().into_iter().find(|row| row.name == name).unwrap().ws_text.unwrap();
    let msg = json::decode(text.as_bytes()).unwrap();
    (text, msg)
}

#[test]
fn the_task_that_begins_an_upgrade_is_made_as_the_original_makes_it() {
    let (text, msg) = task_row("task-v1alpha2-check");
    let path: TaskPath = msg.route.resource.parse().unwrap();
    assert_eq!((path.kind, &*path.job), (JobKind::NodeUpgrade, "up1"));
    let spec: NodeUpgradeJobSpec = msg.content.to().unwrap();
    assert_eq!(spec.version.as_deref(), Some("v1.23.0"));
    assert_eq!(spec.failure_tolerate.as_deref(), Some("0.1"));
    let task = Downstream::Task(path.begin("Check", msg.content.clone()));
    let again = task.encode(&msg.header.msg_id.parse().unwrap(), msg.header.timestamp);
    assert_eq!(json::encode(&again).unwrap(), text);
}

#[test]
fn the_report_on_a_step_is_made_as_the_original_makes_it() {
    let (text, msg) = task_row("task-v1alpha2-status");
    let path: TaskPath = msg.route.resource.parse().unwrap();
    let report = ActionReport::read(&msg.content).unwrap();
    assert_eq!(report.action, "Check");
    assert!(report.succ && ActionReport::is_operation(&msg.route.operation));
    let again = path.report(&report);
    let again = again.encode(&msg.header.msg_id.parse().unwrap(), msg.header.timestamp);
    assert_eq!(json::encode(&again).unwrap(), text);
}

//! Rows as documents that scripts can rely on: `metadata`, `spec` and `status`, as Kubernetes'
//! objects have them, with times in RFC 3339. docs/output.md has an example of each.
//!
//! Owns: the shapes. A field is never renamed or taken out, only added.
//! Called by: whatever prints an object.
//! Never: says of a field that is unknown that it is empty; it is left out.

use api::status::row::{DeviceRow, EventRow, MessageRow, Millis, NodeRow, PodRow, Row};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// `apiVersion` of all documents.
pub const VERSION: &str = "keadm/v1";

/// A kind of object that commands report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An edge node.
    Node,
    /// A pod on an edge node.
    Pod,
    /// A device.
    Device,
    /// A model of devices.
    DeviceModel,
    /// A message between cloud and edge.
    Message,
    /// An event.
    Event,
}

/// All kinds with their names: the first is shown, all are understood.
const NAMES: [(Kind, &str, &[&str]); 6] = [
    (Kind::Node, "Node", &["nodes", "node", "no"]),
    (Kind::Pod, "Pod", &["pods", "pod", "po"]),
    (Kind::Device, "Device", &["devices", "device"]),
    (Kind::DeviceModel, "DeviceModel", &["devicemodels", "devicemodel"]),
    (Kind::Message, "Message", &["messages", "message", "msg"]),
    (Kind::Event, "Event", &["events", "event", "ev"]),
];

impl Kind {
    fn entry(self) -> &'static (Kind, &'static str, &'static [&'static str]) {
        NAMES.iter().find(|(kind, ..)| *kind == self).unwrap_or(&NAMES[0])
    }

    /// `nodes`
    pub fn plural(self) -> &'static str {
        self.entry().2[0]
    }

    /// `node`
    pub fn singular(self) -> &'static str {
        self.entry().2[1]
    }

    /// Whether its objects are in namespaces.
    pub fn namespaced(self) -> bool {
        matches!(self, Self::Pod | Self::Device | Self::DeviceModel)
    }

    /// The kind with this name, in any of its forms.
    ///
    /// # Errors
    /// When there is none; with the one that was probably meant.
    pub fn named(text: &str) -> Result<Self, String> {
        let given = text.to_lowercase();
        if let Some((kind, ..)) = NAMES.iter().find(|(.., names)| names.contains(&given.as_str())) {
            return Ok(*kind);
        }
        let names = NAMES.iter().flat_map(|(.., names)| names.iter().copied());
        let all: Vec<&str> = NAMES.iter().map(|(.., names)| names[0]).collect();
        match crate::commands::nearest(&given, names) {
            Some(name) => Err(format!("there is no kind `{text}`; did you mean `{name}`?")),
            None => Err(format!("there is no kind `{text}`; there are {}", all.join(", "))),
        }
    }
}

/// A time as documents have it.
pub fn time(millis: Millis) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(
        |_| String::new(),
        |at| {
            // Kubernetes writes whole seconds; more is written only where there is more.
            at.to_string()
        },
    )
}

/// The fields that hold a time.
const TIMES: [&str; 10] = [
    "since",
    "certificateExpires",
    "lostAt",
    "created",
    "lastReport",
    "leaseRenewed",
    "lastOnline",
    "desiredAt",
    "reportedAt",
    "at",
];

fn with_times(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value.as_i64().filter(|_| TIMES.contains(&name.as_str())) {
                    Some(millis) => *value = time(millis).into(),
                    None => with_times(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(with_times),
        _ => {}
    }
}

/// The fields of a row, with times as texts.
fn fields(row: &impl Serialize) -> Map<String, Value> {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    with_times(&mut value);
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn metadata(fields: &mut Map<String, Value>) -> Value {
    let mut meta = Map::new();
    for (from, to) in [
        ("namespace", "namespace"),
        ("name", "name"),
        ("uid", "uid"),
        ("labels", "labels"),
        ("created", "creationTimestamp"),
    ] {
        if let Some(value) = fields.remove(from).filter(|v| *v != json!("")) {
            meta.insert(to.to_owned(), value);
        }
    }
    Value::Object(meta)
}

fn document(kind: Kind, metadata: Value, spec: Value, status: Map<String, Value>) -> Value {
    json!({
        "apiVersion": VERSION, "kind": kind.entry().1,
        "metadata": metadata, "spec": spec, "status": status,
    })
}

/// A row of any kind.
pub fn row(row: &Row) -> Value {
    match row {
        Row::Node(row) => node(row),
        Row::Pod(row) => pod(row),
        Row::Device(row) => device(row),
    }
}

fn node(row: &NodeRow) -> Value {
    let mut status = fields(row);
    let meta = metadata(&mut status);
    let mut spec = Map::new();
    if status.remove("cordoned").is_some() {
        spec.insert("unschedulable".to_owned(), true.into());
    }
    document(Kind::Node, meta, Value::Object(spec), status)
}

fn pod(row: &PodRow) -> Value {
    let mut status = fields(row);
    let meta = metadata(&mut status);
    let spec = json!({
        "nodeName": status.remove("node"), "images": status.remove("images"),
        "containers": status.remove("containers"),
    });
    // `status.status` would be nobody's first guess.
    if let Some(text) = status.remove("status") {
        status.insert("summary".to_owned(), text);
    }
    document(Kind::Pod, meta, spec, status)
}

fn device(row: &DeviceRow) -> Value {
    let mut status = fields(row);
    let meta = metadata(&mut status);
    let spec = json!({
        "nodeName": status.remove("node"),
        "deviceModelRef": { "name": status.remove("model") },
        "protocol": { "protocolName": status.remove("protocol") },
    });
    status.insert("inSync".to_owned(), row.in_sync().into());
    document(Kind::Device, meta, spec, status)
}

/// A message of the flow.
pub fn message(row: &MessageRow) -> Value {
    flat(Kind::Message, fields(row))
}

/// An event.
pub fn event(row: &EventRow) -> Value {
    flat(Kind::Event, fields(row))
}

fn flat(kind: Kind, mut fields: Map<String, Value>) -> Value {
    fields.insert("apiVersion".to_owned(), VERSION.into());
    // A message has a kind of its own.
    if let Some(of) = fields.insert("kind".to_owned(), kind.entry().1.into()) {
        fields.insert("messageKind".to_owned(), of);
    }
    Value::Object(fields)
}

/// An object of the Kubernetes API that has no row, in our dress.
pub fn object(kind: Kind, mut object: Value) -> Value {
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    object["apiVersion"] = VERSION.into();
    object["kind"] = kind.entry().1.into();
    object
}

/// Many documents as one.
pub fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": VERSION, "kind": "List", "items": items })
}

/// `namespace/name`, or `name`.
pub fn full_name(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    match text("namespace") {
        "" => text("name").to_owned(),
        namespace => format!("{namespace}/{}", text("name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::status::row::{Link, TwinRow};

    #[test]
    fn kinds_have_kubectls_short_names_and_near_misses_are_told() {
        assert_eq!(Kind::named("po"), Ok(Kind::Pod));
        assert_eq!(Kind::named("Nodes"), Ok(Kind::Node));
        assert!(Kind::named("nods").unwrap_err().ends_with("did you mean `nodes`?"));
        assert!(Kind::named("secrets").unwrap_err().contains("there are nodes, pods"));
    }

    #[test]
    fn a_node_has_the_shape_of_a_kubernetes_object_and_readable_times() {
        let row = NodeRow {
            name: "edge-1".into(),
            cordoned: true,
            created: Some(1_767_323_045_000),
            link: Some(Link {
                since: 1_767_323_045_500,
                from: "10.0.0.7:1".into(),
                ..Link::default()
            }),
            ..NodeRow::default()
        };
        let value = node(&row);
        assert_eq!(value["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
        assert_eq!(value["status"]["link"]["since"], "2026-01-02T03:04:05.5Z");
        assert_eq!(value["spec"]["unschedulable"], true);
        assert!(
            value["status"].get("name").is_none() && value["status"].get("lastReport").is_none()
        );
    }

    #[test]
    fn a_pod_and_a_device_name_their_node_where_kubernetes_does() {
        let pod = pod(&PodRow {
            namespace: "default".into(),
            name: "web".into(),
            node: "edge-1".into(),
            status: "Running".into(),
            ..PodRow::default()
        });
        assert_eq!(pod["spec"]["nodeName"], "edge-1");
        assert_eq!(pod["status"]["summary"], "Running");
        assert_eq!(full_name(&pod), "default/web");
        let twin = TwinRow { desired: Some("1".into()), ..TwinRow::default() };
        let device = device(&DeviceRow { twins: vec![twin], ..DeviceRow::default() });
        assert_eq!(device["status"]["inSync"], false);
        let message = message(&MessageRow { kind: "ack".into(), ..MessageRow::default() });
        assert_eq!((&message["kind"], &message["messageKind"]), (&json!("Message"), &json!("ack")));
    }

    /// Documents in docs/output.md.
    #[test]
    fn every_documented_field_is_one_that_we_write() {
        use api::status::row::{Hops, Queue, Usage};
        let text = include_str!("../../../docs/output.md");
        let twin = TwinRow {
            property: "p".into(),
            desired: Some("1".into()),
            desired_at: Some(1),
            reported: Some("1".into()),
            reported_at: Some(1),
        };
        let labels = [("site".to_owned(), "north".to_owned())];
        let all = [
            node(&NodeRow {
                name: "n".into(),
                cordoned: true,
                created: Some(1),
                labels: labels.clone().into(),
                lost_at: Some(1),
                lost_why: "x".into(),
                reason: "x".into(),
                last_report: Some(1),
                lease_renewed: Some(1),
                usage: Some(Usage::default()),
                queue: Queue::default(),
                link: Some(Link {
                    certificate_expires: Some(1),
                    round_trip_us: Some(1),
                    ..Link::default()
                }),
                ..NodeRow::default()
            }),
            pod(&PodRow {
                namespace: "d".into(),
                name: "p".into(),
                uid: "u".into(),
                ip: "x".into(),
                created: Some(1),
                labels: labels.clone().into(),
                last_report: Some(1),
                hops: Some(Hops::default()),
                usage: Some(Usage::default()),
                unconfirmed: true,
                ..PodRow::default()
            }),
            device(&DeviceRow {
                namespace: "d".into(),
                name: "p".into(),
                last_online: Some(1),
                created: Some(1),
                labels: labels.into(),
                last_report: Some(1),
                twins: vec![twin],
                ..DeviceRow::default()
            }),
            message(&MessageRow { first_us: Some(1), second_us: Some(1), ..MessageRow::default() }),
            event(&EventRow { node: "n".into(), ..EventRow::default() }),
        ];
        fn names(value: &Value, into: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    for (name, value) in map.iter().filter(|(name, _)| *name != "site") {
                        into.push(name.clone());
                        names(value, into);
                    }
                }
                Value::Array(list) => list.iter().for_each(|v| names(v, into)),
                _ => {}
            }
        }
        let mut written = Vec::new();
        all.iter().for_each(|value| names(value, &mut written));
        for name in written {
            assert!(text.contains(&format!("\"{name}\"")), "`{name}` is not in docs/output.md");
        }
        // And the other way round: each documented example is made of fields that we write.
        for block in text.split("```json\n").skip(1) {
            let block = block.split("```").next().unwrap();
            serde_json::from_str::<Value>(block).unwrap_or_else(|e| panic!("{e}: {block}"));
        }
    }
}

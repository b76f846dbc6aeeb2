//! Columns for people, as kubectl writes them.
//!
//! Owns: which columns each kind has, and how a cell reads. Pure.
//! Called by: `print.rs`.
//! Never: shows a control character raw, or asks for the terminal's width; `print.rs` knows it.

pub use api::moment::span as duration;
use api::printable::printable;
use api::status::row::Millis;
use serde_json::Value;

use super::jsonpath::plain;
use super::shape::Kind;

/// A column.
#[derive(Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Only with `-o wide`.
    pub wide: bool,
    cell: fn(&Value, Millis) -> String,
}

impl Column {
    /// The text of the cell of `object`.
    pub fn cell(&self, object: &Value, now: Millis) -> String {
        printable(&(self.cell)(object, now), usize::MAX).to_string()
    }
}

const fn column(title: &'static str, cell: fn(&Value, Millis) -> String) -> Column {
    Column { title, wide: false, cell }
}

const fn wide(title: &'static str, cell: fn(&Value, Millis) -> String) -> Column {
    Column { title, wide: true, cell }
}

/// A field, or `-`.
fn field(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer).map(plain) {
        Some(text) if !text.is_empty() => text,
        _ => "-".to_owned(),
    }
}

fn name(o: &Value, _: Millis) -> String {
    field(o, "/metadata/name")
}

fn age(o: &Value, now: Millis) -> String {
    since(o, "/metadata/creationTimestamp", now)
}

/// How long ago, `-` if never.
fn since(object: &Value, pointer: &str, now: Millis) -> String {
    moment(object, pointer).map_or_else(|| "-".to_owned(), |at| duration(now - at))
}

fn moment(object: &Value, pointer: &str) -> Option<Millis> {
    let text = object.pointer(pointer)?.as_str()?;
    Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}

/// `840µs`, `3.4ms`, `1.2s`
pub fn micros(us: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let float = us as f64;
    match us.abs() {
        0..1000 => format!("{us}µs"),
        1000..1_000_000 => format!("{:.1}ms", float / 1e3),
        _ => format!("{:.1}s", float / 1e6),
    }
}

/// `-`, or microseconds at `pointer`.
fn took(object: &Value, pointer: &str) -> String {
    let us = object.pointer(pointer).and_then(Value::as_i64);
    us.map_or_else(|| "-".to_owned(), micros)
}

/// `512Ki`, `12Mi`, `1.5Gi`
pub fn bytes(n: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let float = n as f64;
    match n {
        0..1024 => n.to_string(),
        1024..1_048_576 => format!("{}Ki", n >> 10),
        1_048_576..1_073_741_824 => format!("{}Mi", n >> 20),
        _ => format!("{:.1}Gi", float / 1_073_741_824.0),
    }
}

fn node_status(o: &Value, _: Millis) -> String {
    let ready = match o["status"]["ready"].as_str().unwrap_or_default() {
        "True" => "Ready",
        "" | "Unknown" => "Unknown",
        _ => "NotReady",
    };
    match o["spec"]["unschedulable"].as_bool() {
        Some(true) => format!("{ready},SchedulingDisabled"),
        _ => ready.to_owned(),
    }
}

fn link(o: &Value, now: Millis) -> String {
    match (o["status"].get("link"), o["status"].get("lostAt")) {
        (Some(_), _) => "up".to_owned(),
        (None, Some(_)) => format!("lost {}", since(o, "/status/lostAt", now)),
        (None, None) => "-".to_owned(),
    }
}

/// `v1.23.0:WaitingConfirmation`
fn upgrade(o: &Value, _: Millis) -> String {
    match o["status"].get("upgrade") {
        Some(upgrade) => format!("{}:{}", field(upgrade, "/to"), field(upgrade, "/state")),
        None => "-".to_owned(),
    }
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// Whether anything is known of the node's link: the Kubernetes API knows nothing of it.
pub fn knows_link(o: &Value) -> bool {
    o["status"].get("link").is_some() || o["status"].get("lostAt").is_some()
}

fn dropped(o: &Value, _: Millis) -> String {
    if knows_link(o) { number(o, "/status/queue/dropped").to_string() } else { "-".to_owned() }
}

fn queue(o: &Value, _: Millis) -> String {
    if !knows_link(o) {
        return "-".to_owned();
    }
    let of = |name: &str| number(o, &format!("/status/queue/{name}"));
    format!("{}+{}", of("waiting"), of("unacknowledged"))
}

fn until(object: &Value, pointer: &str, now: Millis) -> String {
    match moment(object, pointer) {
        None => "-".to_owned(),
        Some(at) if at <= now => "expired".to_owned(),
        Some(at) => duration(at - now),
    }
}

const NODES: [Column; 16] = [
    column("NAME", name),
    column("STATUS", node_status),
    column("LINK", link),
    column("AGE", age),
    column("VERSION", |o, _| field(o, "/status/version")),
    wide("INTERNAL-IP", |o, _| field(o, "/status/address")),
    wide("FROM", |o, _| field(o, "/status/link/from")),
    wide("SINCE", |o, now| since(o, "/status/link/since", now)),
    wide("RTT", |o, _| took(o, "/status/link/roundTripUs")),
    wide("QUEUE", queue),
    wide("DROPPED", dropped),
    wide("REPORT", |o, now| since(o, "/status/lastReport", now)),
    wide("CERTIFICATE", |o, now| until(o, "/status/link/certificateExpires", now)),
    wide("UPGRADE", upgrade),
    wide("RUNTIME", |o, _| field(o, "/status/runtime")),
    wide("PLATFORM", |o, _| field(o, "/status/platform")),
];

const PODS: [Column; 12] = [
    column("NAME", name),
    column("READY", |o, _| {
        format!("{}/{}", number(o, "/status/ready"), number(o, "/spec/containers"))
    }),
    column("STATUS", |o, _| field(o, "/status/summary")),
    column("RESTARTS", |o, _| number(o, "/status/restarts").to_string()),
    column("AGE", age),
    column("NODE", |o, _| field(o, "/spec/nodeName")),
    wide("IP", |o, _| field(o, "/status/ip")),
    wide("CONFIRMED", |o, _| {
        let waits = o["status"]["unconfirmed"].as_bool().unwrap_or(false);
        if waits { "no" } else { "yes" }.to_owned()
    }),
    wide("REPORT", |o, now| since(o, "/status/lastReport", now)),
    wide("EDGE-HUB", |o, _| took(o, "/status/hops/edgeToHubUs")),
    wide("HUB-API", |o, _| took(o, "/status/hops/hubToApiUs")),
    wide("IMAGES", |o, _| {
        let images = o["spec"]["images"].as_array().into_iter().flatten();
        let images: Vec<String> = images.map(plain).collect();
        if images.is_empty() { "-".to_owned() } else { images.join(",") }
    }),
];

fn in_sync(o: &Value, _: Millis) -> String {
    let twins = o["status"]["twins"].as_array().map(Vec::as_slice).unwrap_or_default();
    let desired = twins.iter().filter(|t| t.get("desired").is_some());
    let (all, out) = desired.fold((0, 0), |(all, out), t| {
        (all + 1, out + usize::from(t.get("desired") != t.get("reported")))
    });
    match (all, out) {
        (0, _) => "-".to_owned(),
        (_, 0) => "yes".to_owned(),
        (all, out) => format!("no ({out}/{all})"),
    }
}

fn properties(o: &Value, _: Millis) -> String {
    let twins = o["status"]["twins"].as_array().into_iter().flatten();
    let all: Vec<String> = twins
        .map(|twin| {
            let text = |name: &str| twin.get(name).map(plain);
            let is = text("reported").unwrap_or_else(|| "?".to_owned());
            match text("desired").filter(|to| *to != is) {
                Some(to) => format!("{}={is}→{to}", plain(&twin["property"])),
                None => format!("{}={is}", plain(&twin["property"])),
            }
        })
        .collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

const DEVICES: [Column; 10] = [
    column("NAME", name),
    column("STATE", |o, _| field(o, "/status/state")),
    column("IN-SYNC", in_sync),
    column("NODE", |o, _| field(o, "/spec/nodeName")),
    column("MODEL", |o, _| field(o, "/spec/deviceModelRef/name")),
    column("AGE", age),
    wide("PROTOCOL", |o, _| field(o, "/spec/protocol/protocolName")),
    wide("LAST-ONLINE", |o, now| since(o, "/status/lastOnline", now)),
    wide("REPORT", |o, now| since(o, "/status/lastReport", now)),
    wide("PROPERTIES", properties),
];

const MODELS: [Column; 4] = [
    column("NAME", name),
    column("PROTOCOL", |o, _| field(o, "/spec/protocol")),
    column("PROPERTIES", |o, _| {
        let all = o["spec"]["properties"].as_array().into_iter().flatten();
        let all: Vec<String> = all.map(|p| plain(&p["name"])).collect();
        if all.is_empty() { "-".to_owned() } else { all.join(",") }
    }),
    column("AGE", age),
];

/// The time of day in the local zone.
fn clock(o: &Value, _: Millis) -> String {
    let at = moment(o, "/at").and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let zone = jiff::tz::TimeZone::system();
    at.map_or_else(|| "-".to_owned(), |at| at.to_zoned(zone).strftime("%H:%M:%S%.3f").to_string())
}

const MESSAGES: [Column; 9] = [
    column("TIME", clock),
    column("NODE", |o, _| field(o, "/node")),
    column("DIRECTION", |o, _| field(o, "/direction")),
    column("KIND", |o, _| field(o, "/messageKind")),
    column("OBJECT", |o, _| field(o, "/object")),
    column("SIZE", |o, _| bytes(number(o, "/size"))),
    column("FIRST", |o, _| took(o, "/firstUs")),
    column("SECOND", |o, _| took(o, "/secondUs")),
    column("OUTCOME", |o, _| field(o, "/outcome")),
];

const EVENTS: [Column; 6] = [
    column("LAST SEEN", |o, now| since(o, "/at", now)),
    column("TYPE", |o, _| field(o, "/type")),
    column("REASON", |o, _| field(o, "/reason")),
    column("OBJECT", |o, _| field(o, "/object")),
    wide("COUNT", |o, _| number(o, "/count").to_string()),
    column("MESSAGE", |o, _| field(o, "/message")),
];

/// `120m (3%)`, of something that is used.
fn share(o: &Value, name: &str, capacity: &str, shown: fn(u64) -> String) -> String {
    let of = |name: &str| number(o, &format!("/status/usage/{name}"));
    match (of(name) * 100).checked_div(of(capacity)) {
        Some(percent) => format!("{} ({percent}%)", shown(of(name))),
        None => shown(of(name)),
    }
}

const USED: [Column; 3] = [
    column("NAME", name),
    column("CPU", |o, _| share(o, "cpuMillis", "cpuCapacityMillis", |n| format!("{n}m"))),
    column("MEMORY", |o, _| share(o, "memory", "memoryCapacity", bytes)),
];

/// The columns of `keadm top`.
pub fn used(kind: Kind, namespaces: bool) -> Vec<Column> {
    let first = (namespaces && kind.namespaced()).then_some(NAMESPACE);
    first.into_iter().chain(USED).collect()
}

const NAMESPACE: Column = column("NAMESPACE", |o, _| field(o, "/metadata/namespace"));

/// The columns of a kind.
pub fn columns(kind: Kind, wide: bool, namespaces: bool) -> Vec<Column> {
    let all: &[Column] = match kind {
        Kind::Node => &NODES,
        Kind::Pod => &PODS,
        Kind::Device => &DEVICES,
        Kind::DeviceModel => &MODELS,
        Kind::Message => &MESSAGES,
        Kind::Event => &EVENTS,
    };
    let shown = all.iter().filter(|c| wide || !c.wide).copied();
    let first = (namespaces && kind.namespaced()).then_some(NAMESPACE);
    first.into_iter().chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_with_an_escape_sequence_reaches_no_terminal() {
        let object = json!({"metadata": {"name": "a\u{1b}[31mb"}});
        assert!(!NODES[0].cell(&object, 0).contains('\u{1b}'));
    }

    #[test]
    fn a_device_that_is_not_as_desired_says_how_much_of_it_is_not() {
        let device = json!({"status": {"twins": [
            {"property": "on", "desired": "1", "reported": "0"},
            {"property": "t", "desired": "3", "reported": "3"}, {"property": "x", "reported": "9"},
        ]}});
        assert_eq!(in_sync(&device, 0), "no (1/2)");
        assert_eq!(properties(&device, 0), "on=0→1 t=3 x=9");
        assert_eq!(in_sync(&json!({}), 0), "-");
    }
}

//! `keadm describe`: all that is known of an object, for people.

use api::status::row::Millis;
use api::status::stream::Update;
use serde_json::{Value, json};

use super::get::{self, SelectArgs};
use crate::context::Context;
use crate::errors::{CommandError, Kind as Failure};
use crate::fleet::{Fleet, FleetArgs, Want};
use crate::output::fit::{Room, widths};
use crate::output::jsonpath::plain;
use crate::output::print::{lay_out, unseen};
use crate::output::shape::{self, Kind};
use crate::output::table::{self, bytes, duration, micros};
use crate::printer::Printer;

/// Events shown per object.
const EVENTS: usize = 20;

/// Show all that is known of a node, pod or device
///
/// Its link, what is on its way to it, its pods or properties, and what has happened to it.
#[derive(clap::Args, Debug, Clone)]
pub struct DescribeArgs {
    /// What: nodes, pods or devices; or KIND/NAME
    #[arg(value_name = "KIND", add = completions::ArgValueCompleter::new(crate::complete::kinds))]
    what: String,
    /// Which; all that there are, if none is named
    #[arg(value_name = "NAME", add = completions::ArgValueCompleter::new(crate::complete::names))]
    names: Vec<String>,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl DescribeArgs {
    /// The same asked of this machine's own edge half, unless another place is named.
    #[cfg(feature = "edge")]
    pub(crate) fn local(&self) -> Self {
        let mut args = self.clone();
        args.fleet.ask_this_node();
        args
    }
}

/// Prints descriptions.
///
/// # Errors
/// When nobody answers, or something that was asked for by name is not there.
pub fn describe(args: &DescribeArgs, cx: &Context) -> Result<(), CommandError> {
    let (kind, names) = get::target(&args.what, &args.names)?;
    if !matches!(kind, Kind::Node | Kind::Pod | Kind::Device) {
        return Err(CommandError::new(
            Failure::Usage,
            format!("there is no more to be said of {}", kind.plural()),
        )
        .hint(format!("`keadm get {} -o yaml` shows all of it", kind.plural())));
    }
    cx.block_on(async {
        let want = Want { events: true, ..Want::default() };
        let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
        let all = fleet.first().await?;
        let mut found = get::objects(kind, &all);
        found.retain(|object| args.select.matches(kind, object));
        let name = |o: &Value| o["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let missing = names.iter().find(|wanted| !found.iter().any(|o| name(o) == **wanted));
        found.retain(|object| names.is_empty() || names.contains(&name(object)));
        args.select.sort(&mut found)?;
        if found.is_empty() && names.is_empty() {
            get::nothing(kind, &args.select, cx);
        }
        let described: Vec<Description> =
            found.into_iter().map(|object| Description::of(kind, object, &all)).collect();
        write(&described, args.output, &cx.printer, all.now)?;
        match missing {
            Some(missing) => Err(get::not_found(kind, missing, &args.select)),
            None => Ok(()),
        }
    })
}

/// An object and what belongs to it.
struct Description {
    kind: Kind,
    object: Value,
    pods: Vec<Value>,
    events: Vec<Value>,
}

impl Description {
    fn of(kind: Kind, object: Value, all: &Update) -> Self {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = object["metadata"]["namespace"].as_str();
        let mut pods = Vec::new();
        if kind == Kind::Node {
            pods = get::objects(Kind::Pod, all);
            pods.retain(|pod| pod["spec"]["nodeName"] == name);
        }
        let mut events = get::objects(Kind::Event, all);
        events.retain(|event| super::events::about(event, kind, namespace, name));
        let older = events.len().saturating_sub(EVENTS);
        events.drain(..older);
        Self { kind, object, pods, events }
    }

    fn to_value(&self) -> Value {
        json!({
            "apiVersion": shape::VERSION, "kind": "Description",
            "object": self.object, "pods": self.pods, "events": self.events,
        })
    }
}

fn write(
    all: &[Description],
    output: Option<super::JsonOutput>,
    printer: &Printer,
    now: Millis,
) -> Result<(), CommandError> {
    if output.is_some() {
        let values: Vec<Value> = all.iter().map(Description::to_value).collect();
        let whole = match values.as_slice() {
            [one] => one.clone(),
            all => shape::list(all),
        };
        return Ok(printer.json(&whole)?);
    }
    for (n, description) in all.iter().enumerate() {
        if n > 0 {
            printer.data("")?;
        }
        for line in lines(description, now, Room::of(printer.manner())) {
            printer.data(line)?;
        }
    }
    Ok(())
}

/// `2026-01-02T03:04:05Z (5m ago)`, in the local zone; `-` if there is none.
fn moment(value: &Value, now: Millis) -> String {
    let at = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    at.map_or_else(
        || "-".to_owned(),
        |at| api::moment::seen_from(at.as_millisecond(), now, &jiff::tz::TimeZone::system()),
    )
}

fn text(object: &Value, pointer: &str) -> String {
    let text = object.pointer(pointer).map(plain).unwrap_or_default();
    if text.is_empty() { "-".to_owned() } else { text }
}

fn usage(object: &Value) -> Option<String> {
    let usage = object["status"].get("usage")?;
    let of = |name: &str| usage[name].as_u64().unwrap_or(0);
    let share = |part: u64, whole: u64| {
        (part * 100).checked_div(whole).map(|p| format!(" ({p}%)")).unwrap_or_default()
    };
    let (cpu, memory) = (of("cpuMillis"), of("memory"));
    Some(format!(
        "{cpu}m processor{}, {} memory{}",
        share(cpu, of("cpuCapacityMillis")),
        bytes(memory),
        share(memory, of("memoryCapacity")),
    ))
}

/// The lines about an object. Pure.
fn lines(description: &Description, now: Millis, room: Room) -> Vec<String> {
    let o = &description.object;
    let mut fields = vec![("Name", text(o, "/metadata/name"))];
    if description.kind.namespaced() {
        fields.push(("Namespace", text(o, "/metadata/namespace")));
    }
    let labels = o["metadata"]["labels"].as_object().into_iter().flatten();
    let labels: Vec<String> = labels.map(|(k, v)| format!("{k}={}", plain(v))).collect();
    let mut labels = labels.into_iter();
    fields.push(("Labels", labels.next().unwrap_or_else(|| "-".to_owned())));
    fields.extend(labels.map(|label| ("", label)));
    fields.push(("Created", moment(&o["metadata"]["creationTimestamp"], now)));
    fields.extend(match description.kind {
        Kind::Node => node(o, now),
        Kind::Pod => pod(o, now),
        _ => device(o, now),
    });
    fields.extend(usage(o).map(|usage| ("Usage", usage)));
    let width = fields.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 1;
    let mut lines: Vec<String> = fields
        .into_iter()
        .map(|(label, value)| {
            let label = if label.is_empty() { String::new() } else { format!("{label}:") };
            format!("{label:<width$}  {value}")
        })
        .collect();
    if description.kind == Kind::Device {
        section(&mut lines, "Properties", twins(o, now), room);
    }
    if description.kind == Kind::Node {
        section(&mut lines, "Pods", cells(Kind::Pod, &description.pods, now), room);
    }
    section(&mut lines, "Events", cells(Kind::Event, &description.events, now), room);
    lines.iter().map(|line| api::printable::printable(line, usize::MAX).to_string()).collect()
}

fn cells(kind: Kind, objects: &[Value], now: Millis) -> Vec<Vec<String>> {
    let columns = table::columns(kind, false, true);
    let titles = columns.iter().map(|c| c.title.to_owned()).collect();
    let rows = objects.iter().map(|o| columns.iter().map(|c| c.cell(o, now)).collect());
    std::iter::once(titles).chain(rows).collect()
}

/// A title and a table below it; `rows` begins with the titles of the columns.
fn section(lines: &mut Vec<String>, title: &str, rows: Vec<Vec<String>>, room: Room) {
    if rows.len() < 2 {
        lines.push(format!("{title}: none"));
        return;
    }
    lines.push(format!("{title}:"));
    let columns = room.columns.map(|columns| columns.saturating_sub(2));
    let laid = lay_out(&rows, &widths(&rows), Room { columns, ..room });
    lines.extend(laid.lines.into_iter().map(|line| format!("  {line}")));
    if laid.shown < rows[0].len() {
        lines.push(format!("  ({})", unseen(&rows[0][laid.shown..])));
    }
}

type Field = (&'static str, String);

fn node(o: &Value, now: Millis) -> Vec<Field> {
    let status = &o["status"];
    let ready = match (status["ready"].as_str().unwrap_or_default(), text(o, "/status/reason")) {
        ("True", _) => "Ready".to_owned(),
        ("", _) => "has never reported".to_owned(),
        (_, reason) => format!("not ready ({reason})"),
    };
    let cordoned = o["spec"]["unschedulable"].as_bool().unwrap_or(false);
    let mut fields = vec![
        ("Status", if cordoned { format!("{ready}, takes no new pods") } else { ready }),
        ("Version", text(o, "/status/version")),
        ("Runtime", text(o, "/status/runtime")),
        ("Platform", text(o, "/status/platform")),
        ("Address", text(o, "/status/address")),
    ];
    if let Some(link) = status.get("link") {
        fields.push(("Link", format!("up since {}", moment(&link["since"], now))));
        fields.push(("From", format!("{} by {}", text(link, "/from"), text(link, "/protocol"))));
        if let Some(us) = link["roundTripUs"].as_i64() {
            fields.push(("Round trip", micros(us)));
        }
        if link.get("certificateExpires").is_some() {
            fields.push((
                "Certificate",
                format!("until {}", moment(&link["certificateExpires"], now)),
            ));
        }
    } else if status.get("lostAt").is_some() {
        let why = text(o, "/status/lostWhy");
        fields.push(("Link", format!("lost {}: {why}", moment(&status["lostAt"], now))));
    }
    if let Some(upgrade) = status.get("upgrade") {
        fields.push(("Upgrade", upgrading(o, upgrade, now)));
    }
    let queue = |name: &str| status["queue"][name].as_u64().unwrap_or(0);
    if table::knows_link(o) {
        let of = format!(
            "{} waiting, {} not acknowledged, {} dropped; {} received, {} sent",
            queue("waiting"),
            queue("unacknowledged"),
            queue("dropped"),
            queue("received"),
            queue("sent"),
        );
        fields.push(("Queue", of));
    }
    for (label, name) in [("Last report", "lastReport"), ("Lease", "leaseRenewed")] {
        if status.get(name).is_some() {
            fields.push((label, moment(&status[name], now)));
        }
    }
    fields
}

/// `v1.22.0 to v1.23.0 by job spring: Failure: no space, since ..`
fn upgrading(node: &Value, upgrade: &Value, now: Millis) -> String {
    let of = |name: &str| text(upgrade, name);
    let mut said =
        format!("{} to {} by job {}: {}", of("/from"), of("/to"), of("/job"), of("/state"));
    if upgrade.get("why").is_some() {
        said.push_str(&format!(": {}", of("/why")));
    }
    if upgrade.get("since").is_some() {
        said.push_str(&format!(", since {}", moment(&upgrade["since"], now)));
    }
    if upgrade["state"] == api::status::upgrades::WAITING {
        let name = text(node, "/metadata/name");
        said.push_str(&format!("; `keadm confirm upgrade {name}` lets it go on"));
    }
    said
}

/// `CrashLoopBackOff (Running)`, `Running`
fn pod_status(o: &Value) -> String {
    let (summary, phase) = (text(o, "/status/summary"), text(o, "/status/phase"));
    if summary == phase { summary } else { format!("{summary} ({phase})") }
}

fn pod(o: &Value, now: Millis) -> Vec<Field> {
    let status = &o["status"];
    let number = |pointer: &str| o.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let images = o["spec"]["images"].as_array().into_iter().flatten();
    let images: Vec<String> = images.map(plain).collect();
    let mut fields = vec![
        ("Node", text(o, "/spec/nodeName")),
        ("Status", pod_status(o)),
        ("Ready", format!("{}/{}", number("/status/ready"), number("/spec/containers"))),
        ("Restarts", number("/status/restarts").to_string()),
        ("IP", text(o, "/status/ip")),
        ("Images", images.join(", ")),
    ];
    let waits = status["unconfirmed"].as_bool().unwrap_or(false);
    let confirmed = if waits { "no, a newer version is on its way" } else { "yes" };
    fields.push(("Confirmed", confirmed.to_owned()));
    if status.get("lastReport").is_some() {
        fields.push(("Last report", moment(&status["lastReport"], now)));
    }
    if let Some(hops) = status.get("hops") {
        let us = |name: &str| micros(hops[name].as_i64().unwrap_or(0));
        let way = format!("edge to cloud {}, cloud to API {}", us("edgeToHubUs"), us("hubToApiUs"));
        fields.push(("Its way", way));
    }
    fields
}

fn device(o: &Value, now: Millis) -> Vec<Field> {
    let status = &o["status"];
    let mut fields = vec![
        ("Node", text(o, "/spec/nodeName")),
        ("Model", text(o, "/spec/deviceModelRef/name")),
        ("Protocol", text(o, "/spec/protocol/protocolName")),
        ("State", text(o, "/status/state")),
    ];
    for (label, name) in [("Last online", "lastOnline"), ("Last report", "lastReport")] {
        if status.get(name).is_some() {
            fields.push((label, moment(&status[name], now)));
        }
    }
    fields
}

fn twins(o: &Value, now: Millis) -> Vec<Vec<String>> {
    let titles = ["PROPERTY", "DESIRED", "SINCE", "REPORTED", "AT", "IN-SYNC"].map(str::to_owned);
    let age = |value: &Value| match value.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
        Some(at) => duration(now - at.as_millisecond()),
        None => "-".to_owned(),
    };
    let twins = o["status"]["twins"].as_array().into_iter().flatten().map(|twin| {
        let sync = match (twin.get("desired"), twin.get("reported")) {
            (None, _) => "-",
            (desired, reported) if desired == reported => "yes",
            _ => "no",
        };
        vec![
            text(twin, "/property"),
            text(twin, "/desired"),
            age(&twin["desiredAt"]),
            text(twin, "/reported"),
            age(&twin["reportedAt"]),
            sync.to_owned(),
        ]
    });
    std::iter::once(titles.to_vec()).chain(twins).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::status::row::{EventRow, Link, NodeRow, PodRow};

    #[test]
    fn a_node_is_described_with_its_link_its_pods_and_its_events() {
        let now = 1_767_323_045_000;
        let all = Update {
            now,
            nodes: vec![NodeRow {
                name: "edge-1".into(),
                ready: "True".into(),
                version: "v1.32".into(),
                link: Some(Link {
                    since: now - 60_000,
                    from: "10.0.0.7:1".into(),
                    protocol: "websocket".into(),
                    round_trip_us: Some(840),
                    ..Link::default()
                }),
                last_report: Some(now - 1000),
                ..NodeRow::default()
            }],
            pods: ["edge-1", "edge-2"]
                .map(|node| PodRow {
                    namespace: "default".into(),
                    name: format!("on-{node}"),
                    node: node.into(),
                    status: "Running".into(),
                    ..PodRow::default()
                })
                .into(),
            events: vec![EventRow {
                at: now - 5000,
                object: "node/edge-1".into(),
                reason: "LinkUp\u{1b}[0m".into(),
                ..EventRow::default()
            }],
            ..Update::default()
        };
        let object = get::objects(Kind::Node, &all).remove(0);
        let text =
            lines(&Description::of(Kind::Node, object, &all), now, Room::default()).join("\n");
        let since = api::moment::stamp(now - 60_000, &jiff::tz::TimeZone::system());
        let since = format!("up since {since} (60s ago)");
        for part in ["Status:", "Round trip:   840µs", "on-edge-1", "LinkUp", &since] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("on-edge-2") && !text.contains('\u{1b}'), "{text}");
    }
}

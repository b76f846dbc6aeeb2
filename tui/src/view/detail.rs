//! Everything about one row.

use api::status::row::{DeviceRow, Millis, NodeRow, PodRow, RowKey, RowKind};
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::rows::{self, clean};
use crate::state::{Entry, Sample, State};

use super::styles::{Look, sparkline};
use super::text;

/// Draws the details of a row.
pub fn draw(
    state: &State,
    look: &Look,
    frame: &mut Frame<'_>,
    area: Rect,
    key: &RowKey,
    scroll: usize,
) {
    let now = state.server_now();
    let clock = &Clock { now, zone: &state.zone };
    let width = usize::from(area.width).saturating_sub(24).min(120);
    let mut lines = match key.kind {
        RowKind::Node => state.nodes.get(&key.key).map(|e| node(look, e, clock, width)),
        RowKind::Pod => state.pods.get(&key.key).map(|e| pod(look, e, clock, width)),
        RowKind::Device => state.devices.get(&key.key).map(|e| device(look, e, clock, width)),
    }
    .unwrap_or_else(|| vec![Line::from("it is gone").style(look.faint())]);
    let kind = match key.kind {
        RowKind::Node => "node",
        RowKind::Pod => "pod",
        RowKind::Device => "device",
    };
    if key.kind == RowKind::Node {
        lines.push(heading(look, "pods"));
        for e in state.pods.values().filter(|e| e.row.node == key.key) {
            let p = &e.row;
            let health = rows::pod_health(p);
            lines.push(Line::from(vec![
                Span::from(format!("  {} ", look.sign(health))).style(look.health(health)),
                Span::from(format!(
                    "{}/{}  {}",
                    clean(&p.namespace),
                    clean(&p.name),
                    clean(&p.status)
                )),
            ]));
        }
    }
    lines.push(heading(look, "events"));
    let about = format!("{kind}/{}", key.key);
    for event in state.events.iter().rev().filter(|e| {
        e.object == about || e.object == key.key || (key.kind == RowKind::Node && e.node == key.key)
    }) {
        lines.push(text::event_line(look, event, now));
    }
    text::scrolled(look, frame, area, &format!("{kind} {}", key.key), lines, scroll);
}

fn heading(look: &Look, title: &str) -> Line<'static> {
    Line::from(title.to_owned()).style(look.heading())
}

fn field(name: &str, value: impl Into<String>) -> Line<'static> {
    let value = value.into();
    Line::from(format!("  {name:<18} {}", if value.is_empty() { "-".to_owned() } else { value }))
}

/// The clock that times are shown by.
struct Clock<'a> {
    now: Millis,
    zone: &'a TimeZone,
}

fn time(at: Option<Millis>, clock: &Clock<'_>) -> String {
    let now = clock.now;
    let Some(at) = at else { return "-".to_owned() };
    let stamp = jiff::Timestamp::from_millisecond(at).ok();
    let local = stamp.map(|t| t.to_zoned(clock.zone.clone()));
    let text = local.map_or_else(|| at.to_string(), |z| z.strftime("%F %T %Z").to_string());
    if at > now {
        format!("{text} (in {})", rows::span(at - now))
    } else {
        format!("{text} ({} ago)", rows::span(now - at))
    }
}

fn labels(look: &Look, labels: &std::collections::BTreeMap<String, String>) -> Vec<Line<'static>> {
    let mut lines = vec![heading(look, "labels")];
    lines.extend(labels.iter().map(|(k, v)| Line::from(format!("  {}={}", clean(k), clean(v)))));
    lines
}

fn graph(look: &Look, name: &str, values: Vec<u64>, width: usize, shown: String) -> Line<'static> {
    Line::from(vec![
        Span::from(format!("  {name:<10} ")),
        Span::from(sparkline(look, values, width)).style(look.line()),
        Span::from(format!(" {shown}")),
    ])
}

fn timeline<'a>(
    look: &Look,
    history: impl Iterator<Item = &'a Sample>,
    now: Millis,
) -> Vec<Line<'static>> {
    let mut lines = vec![heading(look, "recent history")];
    let mut last = String::new();
    let mut steps = Vec::new();
    for sample in history {
        if sample.state != last {
            steps.push(format!(
                "  {:>6} ago  {}",
                rows::span(now - sample.at),
                clean(&sample.state)
            ));
            last.clone_from(&sample.state);
        }
    }
    lines.extend(steps.into_iter().rev().take(12).map(Line::from));
    lines
}

fn node(look: &Look, e: &Entry<NodeRow>, clock: &Clock<'_>, width: usize) -> Vec<Line<'static>> {
    let now = clock.now;
    let n = &e.row;
    let (status, _) = rows::node_status(n);
    let (link, _) = rows::node_link(n, now);
    let mut lines = vec![
        heading(look, "node"),
        field("status", status),
        field("reason", clean(&n.reason)),
        field("address", clean(&n.address)),
        field("version", clean(&n.version)),
        field("runtime", clean(&n.runtime)),
        field("platform", clean(&n.platform)),
        field("created", time(n.created, clock)),
        heading(look, "link"),
        field("link", link),
    ];
    match &n.link {
        Some(l) => {
            lines.push(field("since", time(Some(l.since), clock)));
            lines.push(field("from", clean(&l.from)));
            lines.push(field("protocol", clean(&l.protocol)));
            lines.push(field("certificate until", time(l.certificate_expires, clock)));
            let rtt =
                l.round_trip_us.map_or_else(|| "-".to_owned(), |us| rows::micros(us.cast_signed()));
            lines.push(field("round trip", rtt));
        }
        None => {
            lines.push(field("lost", time(n.lost_at, clock)));
            lines.push(field("why", clean(&n.lost_why)));
        }
    }
    let q = n.queue;
    lines.extend([
        field("last report", time(n.last_report, clock)),
        field("lease renewed", time(n.lease_renewed, clock)),
        heading(look, "sent by the cloud"),
        field("waiting", q.waiting.to_string()),
        field("unacknowledged", q.unacknowledged.to_string()),
        field("sent, received", format!("{}, {}", q.sent, q.received)),
        field("dropped", q.dropped.to_string()),
    ]);
    if let Some(u) = n.usage {
        lines.push(heading(look, "use"));
        let cpu = e.history.iter().map(|s| s.cpu).collect();
        lines.push(graph(look, "cpu", cpu, width, format!("{}m", u.cpu_millis)));
        let memory = e.history.iter().map(|s| s.memory).collect();
        lines.push(graph(look, "memory", memory, width, rows::bytes(u.memory)));
    }
    lines.extend(timeline(look, e.history.iter(), now));
    lines.extend(labels(look, &n.labels));
    lines
}

fn pod(look: &Look, e: &Entry<PodRow>, clock: &Clock<'_>, width: usize) -> Vec<Line<'static>> {
    let now = clock.now;
    let p = &e.row;
    let mut lines = vec![
        heading(look, "pod"),
        field("status", clean(&p.status)),
        field("phase", clean(&p.phase)),
        field("ready", format!("{}/{}", p.ready, p.containers)),
        field("restarts", p.restarts.to_string()),
        field("node", clean(&p.node)),
        field("address", clean(&p.ip)),
        field("uid", clean(&p.uid)),
        field("created", time(p.created, clock)),
        heading(look, "images"),
    ];
    lines.extend(p.images.iter().map(|i| Line::from(format!("  {}", clean(i)))));
    lines.push(heading(look, "last report"));
    lines.push(field("reported", time(p.last_report, clock)));
    if let Some(h) = p.hops {
        lines.push(field("edge to hub", rows::micros(h.edge_to_hub_us)));
        lines.push(field("hub to API", rows::micros(h.hub_to_api_us.cast_signed())));
    }
    let confirmed = if p.unconfirmed { "sent, not yet confirmed" } else { "confirmed" };
    lines.push(field("by the edge", confirmed));
    if let Some(u) = p.usage {
        lines.push(heading(look, "use"));
        let cpu = e.history.iter().map(|s| s.cpu).collect();
        lines.push(graph(look, "cpu", cpu, width, format!("{}m", u.cpu_millis)));
        let memory = e.history.iter().map(|s| s.memory).collect();
        lines.push(graph(look, "memory", memory, width, rows::bytes(u.memory)));
    }
    lines.extend(timeline(look, e.history.iter(), now));
    lines.extend(labels(look, &p.labels));
    lines
}

fn device(
    look: &Look,
    e: &Entry<DeviceRow>,
    clock: &Clock<'_>,
    width: usize,
) -> Vec<Line<'static>> {
    let now = clock.now;
    let d = &e.row;
    let mut lines = vec![
        heading(look, "device"),
        field("state", clean(&d.state)),
        field("last online", time(d.last_online, clock)),
        field("node", clean(&d.node)),
        field("model", clean(&d.model)),
        field("protocol", clean(&d.protocol)),
        field("created", time(d.created, clock)),
        heading(look, "properties: desired, reported"),
    ];
    for t in &d.twins {
        let health = if t.in_sync() { rows::Health::Plain } else { rows::Health::Uncertain };
        let dash = |v: &Option<String>| v.as_deref().map_or_else(|| "-".to_owned(), clean);
        lines.push(Line::from(vec![
            Span::from(format!("  {} ", look.sign(health))).style(look.health(health)),
            Span::from(format!(
                "{:<18} {:<12} {:<12} {} ago",
                clean(&t.property),
                dash(&t.desired),
                dash(&t.reported),
                rows::age(t.reported_at, now)
            )),
        ]));
    }
    let values: Vec<u64> = e.history.iter().map(|s| s.value).collect();
    lines.push(graph(look, "value", values, width, String::new()));
    lines.extend(timeline(look, e.history.iter(), now));
    lines.extend(labels(look, &d.labels));
    lines
}

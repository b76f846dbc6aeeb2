//! Everything about one row.

use std::collections::VecDeque;

use api::status::row::{
    DeviceRow, EventRow, Millis, NodeRow, PodRow, RowKey, RowKind, Upgrade, Usage,
};
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::rows::{self, clean};
use crate::state::history::{self, Sample};
use crate::state::{Entry, State};

use super::styles::{Look, sparkline};
use super::text;

/// Draws the details of a row; how far they can be scrolled.
pub fn draw(
    state: &State,
    look: &Look,
    frame: &mut Frame<'_>,
    area: Rect,
    key: &RowKey,
    scroll: usize,
) -> usize {
    let now = state.server_now();
    let width = usize::from(area.width).saturating_sub(38).min(120);
    let clock = &Clock {
        now,
        ours: state.shown_now(),
        zone: &state.zone,
        width,
        knows_links: state.knows_links,
    };
    let mut lines = match key.kind {
        RowKind::Node => state.nodes.get(&key.key).map(|e| node(look, e, clock)),
        RowKind::Pod => state.pods.get(&key.key).map(|e| pod(look, e, clock)),
        RowKind::Device => state.devices.get(&key.key).map(|e| device(look, e, clock)),
    }
    .unwrap_or_else(|| vec![Line::from("it is gone").style(look.faint())]);
    let kind = match key.kind {
        RowKind::Node => "node",
        RowKind::Pod => "pod",
        RowKind::Device => "device",
    };
    if key.kind == RowKind::Node {
        lines.extend(runs_on(state, look, &key.key));
    }
    lines.push(heading(look, "events"));
    let about = format!("{kind}/{}", key.key);
    let of = |e: &&EventRow| {
        e.object == about || e.object == key.key || (key.kind == RowKind::Node && e.node == key.key)
    };
    let before = lines.len();
    let line = |e: &EventRow| text::event_line(look, e, now, area.width.saturating_sub(2));
    lines.extend(state.events.iter().rev().filter(of).map(line));
    if lines.len() == before {
        lines.push(Line::from("  none of late").style(look.faint()));
    }
    text::scrolled(look, frame, area, &format!("{kind} {}", key.key), lines, scroll)
}

/// The pods and devices of a node.
fn runs_on(state: &State, look: &Look, node: &str) -> Vec<Line<'static>> {
    let line = |health, text: String| {
        Line::from(vec![
            Span::from(format!("  {} ", look.sign(health))).style(look.health(health)),
            Span::from(text),
        ])
    };
    let pods = state.pods.values().map(|e| &e.row).filter(|p| p.node == node).map(|p| {
        let text = format!("{}/{}  {}", clean(&p.namespace), clean(&p.name), clean(&p.status));
        line(rows::pod_health(p), text)
    });
    let devices = state.devices.values().map(|e| &e.row).filter(|d| d.node == node).map(|d| {
        let twins = d.twins.iter().map(|t| format!("{}={}", clean(&t.property), rows::twin(t)));
        let twins = twins.collect::<Vec<_>>().join(" ");
        line(rows::device_health(d), format!("{}/{}  {twins}", clean(&d.namespace), clean(&d.name)))
    });
    let mut lines = vec![heading(look, "pods")];
    lines.extend(pods);
    lines.push(heading(look, "devices"));
    lines.extend(devices);
    lines
}

fn heading(look: &Look, title: &str) -> Line<'static> {
    Line::from(title.to_owned()).style(look.heading())
}

fn field(name: &str, value: impl Into<String>) -> Line<'static> {
    let value = value.into();
    Line::from(format!("  {name:<18} {}", if value.is_empty() { "-".to_owned() } else { value }))
}

/// The clocks that times are shown by, and how wide time is drawn.
struct Clock<'a> {
    /// The server's.
    now: Millis,
    /// Ours, which histories are by.
    ours: Millis,
    zone: &'a TimeZone,
    width: usize,
    /// Whether there is anything to say of links.
    knows_links: bool,
}

fn time(at: Option<Millis>, clock: &Clock<'_>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| api::moment::seen_from(at, clock.now, clock.zone))
}

fn labels(look: &Look, labels: &std::collections::BTreeMap<String, String>) -> Vec<Line<'static>> {
    if labels.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![heading(look, "labels")];
    lines.extend(labels.iter().map(|(k, v)| Line::from(format!("  {}={}", clean(k), clean(v)))));
    lines
}

/// A value over time, with what it is now.
fn graph(
    look: &Look,
    name: &str,
    history: &VecDeque<Sample>,
    clock: &Clock<'_>,
    value: impl Fn(&Sample) -> i64,
    shown: String,
) -> Line<'static> {
    let values = history::series(history, clock.ours, clock.width, value);
    Line::from(vec![
        Span::from(format!("  {name:<18} ")),
        Span::from(sparkline(look, &values, clock.width)).style(look.line()),
        Span::from(format!(" {shown}")),
    ])
}

fn usage(
    look: &Look,
    history: &VecDeque<Sample>,
    clock: &Clock<'_>,
    usage: Option<Usage>,
) -> Vec<Line<'static>> {
    let Some(u) = usage else {
        let why = match clock.knows_links {
            true => "not reported",
            false => "not known: the Kubernetes API has no metrics of it",
        };
        return vec![field("cpu, memory", why)];
    };
    let of = |used: String, all: u64, text: String| {
        if all == 0 { used } else { format!("{used} of {text}") }
    };
    let cpu = of(
        format!("{}m", u.cpu_millis),
        u.cpu_capacity_millis,
        format!("{}m", u.cpu_capacity_millis),
    );
    let memory = of(rows::bytes(u.memory), u.memory_capacity, rows::bytes(u.memory_capacity));
    let bytes = |s: &Sample| s.memory.cast_signed();
    vec![
        graph(look, "cpu", history, clock, |s| i64::from(s.cpu), cpu),
        graph(look, "memory", history, clock, bytes, memory),
    ]
}

/// The heading of what is remembered, with how far back that goes.
fn remembered(look: &Look, history: &VecDeque<Sample>, clock: &Clock<'_>) -> Line<'static> {
    let since = history.front().map_or(0, |first| clock.ours - first.at);
    heading(look, &format!("the last {}", rows::span(since)))
}

/// What it was when, the newest first.
fn timeline(history: &VecDeque<Sample>, clock: &Clock<'_>) -> Vec<Line<'static>> {
    let mut steps: Vec<Line<'static>> = Vec::new();
    let mut last = "";
    for sample in history.iter().filter(|s| !s.state.is_empty()) {
        if *sample.state != *last {
            let ago = rows::span(clock.ours - sample.at);
            steps.push(Line::from(format!("  {ago:>6} ago  {}", clean(&sample.state))));
            last = &sample.state;
        }
    }
    steps.into_iter().rev().take(12).collect()
}

fn upgrade(look: &Look, u: &Upgrade, clock: &Clock<'_>) -> Vec<Line<'static>> {
    let mut lines = vec![
        heading(look, "upgrade"),
        field("versions", rows::versions(u)),
        field("state", rows::upgrade_state(u)),
        field("since", time(u.since, clock)),
        field("job", clean(&u.job)),
    ];
    if !u.why.is_empty() {
        lines.push(field("why", clean(&u.why)));
    }
    lines
}

fn node(look: &Look, e: &Entry<NodeRow>, clock: &Clock<'_>) -> Vec<Line<'static>> {
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
    ];
    lines.extend(n.upgrade.iter().flat_map(|u| upgrade(look, u, clock)));
    if !clock.knows_links {
        lines.push(field("last report", time(n.last_report, clock)));
        lines.push(field("lease renewed", time(n.lease_renewed, clock)));
        lines.push(remembered(look, &e.history, clock));
        lines.extend(usage(look, &e.history, clock, n.usage));
        lines.extend(timeline(&e.history, clock));
        lines.extend(labels(look, &n.labels));
        return lines;
    }
    lines.extend([heading(look, "link"), field("link", link)]);
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
    lines.push(remembered(look, &e.history, clock));
    let up = if n.link.is_some() { "up" } else { "down" };
    // Down is a low line and not none: nothing is known of the time before.
    lines.push(graph(look, "link", &e.history, clock, |s| 1 + 7 * s.value, up.to_owned()));
    lines.extend(usage(look, &e.history, clock, n.usage));
    lines.extend(timeline(&e.history, clock));
    lines.extend(labels(look, &n.labels));
    lines
}

fn pod(look: &Look, e: &Entry<PodRow>, clock: &Clock<'_>) -> Vec<Line<'static>> {
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
    lines.push(remembered(look, &e.history, clock));
    let restarts = p.restarts.to_string();
    lines.push(graph(look, "restarts", &e.history, clock, |s| s.value, restarts));
    lines.extend(usage(look, &e.history, clock, p.usage));
    lines.extend(timeline(&e.history, clock));
    lines.extend(labels(look, &p.labels));
    lines
}

fn device(look: &Look, e: &Entry<DeviceRow>, clock: &Clock<'_>) -> Vec<Line<'static>> {
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
        heading(look, "properties"),
        Line::from(format!(
            "    {:<18} {:<12} {:<12} {:<11} {}",
            "", "DESIRED", "REPORTED", "SET", "REPORTED"
        ))
        .style(look.faint()),
    ];
    let ago = |at: Option<Millis>| {
        at.map_or_else(|| "-".to_owned(), |t| format!("{} ago", rows::span(now - t)))
    };
    for t in &d.twins {
        let health = if t.in_sync() { rows::Health::Plain } else { rows::Health::Uncertain };
        let dash = |v: &Option<String>| v.as_deref().map_or_else(|| "-".to_owned(), clean);
        lines.push(Line::from(vec![
            Span::from(format!("  {} ", look.sign(health))).style(look.health(health)),
            Span::from(format!(
                "{:<18} {:<12} {:<12} {:<11} {}",
                clean(&t.property),
                dash(&t.desired),
                dash(&t.reported),
                ago(t.desired_at),
                ago(t.reported_at)
            )),
        ]));
    }
    lines.push(remembered(look, &e.history, clock));
    if let Some((property, value)) = history::numeric(d) {
        let property = clean(property);
        lines.push(graph(look, &property, &e.history, clock, |s| s.value, value.to_string()));
    }
    lines.extend(timeline(&e.history, clock));
    lines.extend(labels(look, &d.labels));
    lines
}

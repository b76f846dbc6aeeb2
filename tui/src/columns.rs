//! The three tables of rows as text: columns, cells, what a row is sorted by. Pure.

use api::status::row::{DeviceRow, Millis, NodeRow, PodRow};

use crate::rows::{self, Health, clean};
use crate::state::order::{SortKey, Spec};
use crate::state::table::passes;
use crate::state::{Entry, Mark, Screen, State};

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Its narrowest useful width; the first one gets what is left.
    pub width: u16,
    /// Shown only when asked for, or when there is room.
    pub wide: bool,
}

const fn col(title: &'static str, width: u16, wide: bool) -> Column {
    Column { title, width, wide }
}

const NODES: &[Column] = &[
    col("NODE", 14, false),
    col("STATUS", 14, false),
    col("LINK", 10, false),
    col("REPORT", 7, false),
    col("RTT", 6, false),
    col("SENT", 6, false),
    col("UNACKED", 7, false),
    col("DROPPED", 7, true),
    col("CPU", 6, true),
    col("MEMORY", 8, true),
    col("CERT", 6, true),
    col("ADDRESS", 15, true),
    col("VERSION", 25, true),
    col("RUNTIME", 18, true),
    col("AGE", 6, false),
];

const PODS: &[Column] = &[
    col("POD", 14, false),
    col("NAMESPACE", 11, false),
    col("READY", 5, false),
    col("STATUS", 17, false),
    col("RESTARTS", 8, false),
    col("NODE", 10, false),
    col("REPORT", 7, true),
    col("EDGE>HUB", 8, true),
    col("HUB>API", 7, true),
    col("CPU", 6, true),
    col("MEMORY", 8, true),
    col("IP", 15, true),
    col("IMAGES", 24, true),
    col("AGE", 6, false),
];

const DEVICES: &[Column] = &[
    col("DEVICE", 16, false),
    col("NAMESPACE", 11, true),
    col("STATE", 9, false),
    col("SYNC", 8, false),
    col("VALUES", 26, false),
    col("NODE", 10, false),
    col("MODEL", 14, true),
    col("REPORT", 7, false),
    col("AGE", 6, true),
];

/// The columns of a screen.
pub fn columns(screen: Screen) -> &'static [Column] {
    match screen {
        Screen::Nodes => NODES,
        Screen::Pods => PODS,
        Screen::Devices => DEVICES,
        _ => &[],
    }
}

/// A row made of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// One per column.
    pub cells: Vec<String>,
    /// Sorts where text would not, one per column. Never of the clock: an order must not change
    /// while nothing else does.
    orders: Vec<Option<i64>>,
    /// How the row is.
    pub health: Health,
    /// What happened to it just now.
    pub mark: Option<Mark>,
}

impl Line {
    /// What the row is sorted by.
    pub fn sort_key(&mut self, column: usize) -> SortKey {
        match self.orders.get(column) {
            Some(Some(n)) => SortKey::Number(*n),
            Some(None) if column < self.cells.len() => {
                SortKey::Text(std::mem::take(&mut self.cells[column]).into())
            }
            _ => SortKey::Last,
        }
    }
}

fn number(n: impl TryInto<i64>) -> Option<i64> {
    Some(n.try_into().unwrap_or(i64::MAX))
}

fn node_line(e: &Entry<NodeRow>, now: Millis, mark: Option<Mark>, knows_links: bool) -> Line {
    let n = &e.row;
    let (status, health) = rows::node_status(n);
    let (link, link_health) = match knows_links {
        true => rows::node_link(n, now),
        false => ("-".to_owned(), Health::Good),
    };
    let rtt = n.link.as_ref().and_then(|l| l.round_trip_us);
    let cert = n.link.as_ref().and_then(|l| l.certificate_expires);
    let usage = n.usage.unwrap_or_default();
    let dash = |known: bool, text: String| if known { text } else { "-".to_owned() };
    let cells = vec![
        clean(&n.name),
        status,
        link,
        rows::age(n.last_report, now),
        rtt.map_or_else(|| "-".to_owned(), |us| rows::micros(us.cast_signed())),
        dash(knows_links, n.queue.sent.to_string()),
        dash(knows_links, (n.queue.unacknowledged + n.queue.waiting).to_string()),
        dash(knows_links, n.queue.dropped.to_string()),
        dash(n.usage.is_some(), format!("{}m", usage.cpu_millis)),
        dash(n.usage.is_some(), rows::bytes(usage.memory)),
        cert.map_or_else(|| "-".to_owned(), |at| rows::span(at - now)),
        clean(&n.address),
        clean(&n.version),
        clean(&n.runtime),
        rows::age(n.created, now),
    ];
    let back = |t: Option<Millis>| t.map(|t| -t);
    let orders = vec![
        None,
        None,
        Some(n.link.as_ref().map_or(i64::MAX, |l| -l.since)),
        back(n.last_report),
        rtt.and_then(number),
        number(n.queue.sent),
        number(n.queue.unacknowledged + n.queue.waiting),
        number(n.queue.dropped),
        number(usage.cpu_millis),
        number(usage.memory),
        cert,
        None,
        None,
        None,
        back(n.created),
    ];
    Line { cells, orders, health: health.max(link_health), mark }
}

fn pod_line(e: &Entry<PodRow>, now: Millis, mark: Option<Mark>) -> Line {
    let p = &e.row;
    let hop = |f: fn(&api::status::row::Hops) -> i64| p.hops.as_ref().map(f);
    let to_hub = hop(|h| h.edge_to_hub_us);
    let to_api = hop(|h| h.hub_to_api_us.cast_signed());
    let micros = |us: Option<i64>| us.map_or_else(|| "-".to_owned(), rows::micros);
    let usage = p.usage.unwrap_or_default();
    let used = |text: String| if p.usage.is_some() { text } else { "-".to_owned() };
    let mut status = clean(&p.status);
    if p.unconfirmed {
        status.push('*');
    }
    let cells = vec![
        clean(&p.name),
        clean(&p.namespace),
        format!("{}/{}", p.ready, p.containers),
        status,
        p.restarts.to_string(),
        clean(&p.node),
        rows::age(p.last_report, now),
        micros(to_hub),
        micros(to_api),
        used(format!("{}m", usage.cpu_millis)),
        used(rows::bytes(usage.memory)),
        clean(&p.ip),
        clean(&p.images.join(",")),
        rows::age(p.created, now),
    ];
    let orders = vec![
        None,
        None,
        number(p.ready),
        None,
        number(p.restarts),
        None,
        p.last_report.map(|t| -t),
        to_hub,
        to_api,
        number(usage.cpu_millis),
        number(usage.memory),
        None,
        None,
        p.created.map(|t| -t),
    ];
    Line { cells, orders, health: rows::pod_health(p), mark }
}

fn device_line(e: &Entry<DeviceRow>, now: Millis, mark: Option<Mark>) -> Line {
    let d = &e.row;
    let values: Vec<String> =
        d.twins.iter().map(|t| format!("{}={}", clean(&t.property), rows::twin(t))).collect();
    let cells = vec![
        clean(&d.name),
        clean(&d.namespace),
        if d.state.is_empty() { "-".to_owned() } else { clean(&d.state) },
        if d.in_sync() { "in sync".to_owned() } else { "DIFFERS".to_owned() },
        values.join(" "),
        clean(&d.node),
        clean(&d.model),
        rows::age(d.last_report, now),
        rows::age(d.created, now),
    ];
    let orders = vec![
        None,
        None,
        None,
        number(i32::from(d.in_sync())),
        None,
        None,
        None,
        d.last_report.map(|t| -t),
        d.created.map(|t| -t),
    ];
    Line { cells, orders, health: rows::device_health(d), mark }
}

/// A row of a screen as text; none if there is no such row.
pub fn line(state: &State, screen: Screen, key: &str) -> Option<Line> {
    let (now, ours) = (state.server_now(), state.shown_now());
    match screen {
        Screen::Nodes => {
            state.nodes.get(key).map(|e| node_line(e, now, e.fresh(ours), state.knows_links))
        }
        Screen::Pods => state.pods.get(key).map(|e| pod_line(e, now, e.fresh(ours))),
        Screen::Devices => state.devices.get(key).map(|e| device_line(e, now, e.fresh(ours))),
        _ => None,
    }
}

/// What a row is sorted by, if it passes namespace and filter.
pub fn judged(state: &State, spec: &Spec, key: &str) -> Option<SortKey> {
    let (namespace, labels) = match spec.screen {
        Screen::Nodes => (None, &state.nodes.get(key)?.row.labels),
        Screen::Pods => {
            let row = &state.pods.get(key)?.row;
            (Some(row.namespace.as_str()), &row.labels)
        }
        Screen::Devices => {
            let row = &state.devices.get(key)?.row;
            (Some(row.namespace.as_str()), &row.labels)
        }
        _ => return None,
    };
    if spec.namespace.is_some() && namespace.is_some() && spec.namespace.as_deref() != namespace {
        return None;
    }
    let mut line = line(state, spec.screen, key)?;
    passes(&spec.filter, line.cells.iter().map(String::as_str), labels)
        .then(|| line.sort_key(spec.sort.column))
}

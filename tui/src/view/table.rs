//! The three tables of rows: columns, sorting, filter, drawing.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use api::status::row::{DeviceRow, Millis, NodeRow, PodRow};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::widgets::{Cell, Row, Table, TableState};

use crate::rows::{self, Health, clean};
use crate::state::table::passes;
use crate::state::{Entry, Link, Mark, Screen, State};

use super::styles::Look;

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
    col("STATUS", 11, false),
    col("LINK", 11, false),
    col("REPORT", 7, false),
    col("RTT", 6, false),
    col("SENT", 6, false),
    col("UNACKED", 7, false),
    col("DROPPED", 7, true),
    col("CPU", 6, true),
    col("MEMORY", 8, true),
    col("CERT", 6, true),
    col("ADDRESS", 15, true),
    col("VERSION", 16, true),
    col("RUNTIME", 18, true),
    col("AGE", 6, false),
];

const PODS: &[Column] = &[
    col("POD", 16, false),
    col("NAMESPACE", 11, false),
    col("READY", 5, false),
    col("STATUS", 17, false),
    col("RESTARTS", 8, false),
    col("NODE", 10, false),
    col("REPORT", 7, true),
    col("EDGE>HUB", 8, true),
    col("HUB>API", 7, true),
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
struct Line {
    key: String,
    cells: Vec<String>,
    /// Sorts where text would not.
    orders: Vec<Option<i64>>,
    health: Health,
    mark: Option<Mark>,
}

fn number(n: impl TryInto<i64>) -> Option<i64> {
    Some(n.try_into().unwrap_or(i64::MAX))
}

fn node_line(key: &str, e: &Entry<NodeRow>, now: Millis, mark: Option<Mark>) -> Line {
    let n = &e.row;
    let (status, health) = rows::node_status(n);
    let (link, link_health) = rows::node_link(n, now);
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
        n.queue.sent.to_string(),
        (n.queue.unacknowledged + n.queue.waiting).to_string(),
        n.queue.dropped.to_string(),
        dash(n.usage.is_some(), format!("{}m", usage.cpu_millis)),
        dash(n.usage.is_some(), rows::bytes(usage.memory)),
        cert.map_or_else(|| "-".to_owned(), |at| rows::span(at - now)),
        clean(&n.address),
        clean(&n.version),
        clean(&n.runtime),
        rows::age(n.created, now),
    ];
    let back = |t: Option<Millis>| t.map(|t| now - t);
    let orders = vec![
        None,
        None,
        Some(n.link.as_ref().map_or(i64::MAX, |l| now - l.since)),
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
    Line { key: key.to_owned(), cells, orders, health: health.max(link_health), mark }
}

fn pod_line(key: &str, e: &Entry<PodRow>, now: Millis, mark: Option<Mark>) -> Line {
    let p = &e.row;
    let hop = |f: fn(&api::status::row::Hops) -> i64| p.hops.as_ref().map(f);
    let to_hub = hop(|h| h.edge_to_hub_us);
    let to_api = hop(|h| h.hub_to_api_us.cast_signed());
    let micros = |us: Option<i64>| us.map_or_else(|| "-".to_owned(), rows::micros);
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
        p.last_report.map(|t| now - t),
        to_hub,
        to_api,
        None,
        None,
        p.created.map(|t| now - t),
    ];
    Line { key: key.to_owned(), cells, orders, health: rows::pod_health(p), mark }
}

fn device_line(key: &str, e: &Entry<DeviceRow>, now: Millis, mark: Option<Mark>) -> Line {
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
        d.last_report.map(|t| now - t),
        d.created.map(|t| now - t),
    ];
    Line { key: key.to_owned(), cells, orders, health: rows::device_health(d), mark }
}

fn lines(state: &State) -> Vec<Line> {
    let now = state.server_now();
    let filter = &state.table().filter;
    let keep = |cells: &[String], labels: &BTreeMap<String, String>| {
        passes(filter, cells.iter().map(String::as_str), labels)
    };
    let here = |namespace: &str| state.namespace.as_deref().is_none_or(|n| n == namespace);
    let mut lines: Vec<Line> = match state.screen {
        Screen::Nodes => state
            .nodes
            .iter()
            .map(|(k, e)| (node_line(k, e, now, e.fresh(state.now)), &e.row.labels))
            .filter(|(l, labels)| keep(&l.cells, labels))
            .map(|(l, _)| l)
            .collect(),
        Screen::Pods => state
            .pods
            .iter()
            .filter(|(_, e)| here(&e.row.namespace))
            .map(|(k, e)| (pod_line(k, e, now, e.fresh(state.now)), &e.row.labels))
            .filter(|(l, labels)| keep(&l.cells, labels))
            .map(|(l, _)| l)
            .collect(),
        Screen::Devices => state
            .devices
            .iter()
            .filter(|(_, e)| here(&e.row.namespace))
            .map(|(k, e)| (device_line(k, e, now, e.fresh(state.now)), &e.row.labels))
            .filter(|(l, labels)| keep(&l.cells, labels))
            .map(|(l, _)| l)
            .collect(),
        _ => Vec::new(),
    };
    let sort = state.table().sort;
    lines.sort_by(|a, b| {
        let by = match (a.orders.get(sort.column), b.orders.get(sort.column)) {
            (Some(Some(x)), Some(Some(y))) => x.cmp(y),
            (Some(Some(_)), Some(None)) => Ordering::Less,
            (Some(None), Some(Some(_))) => Ordering::Greater,
            _ => a.cells.get(sort.column).cmp(&b.cells.get(sort.column)),
        };
        let by = if sort.descending { by.reverse() } else { by };
        by.then_with(|| a.key.cmp(&b.key))
    });
    lines
}

/// Keys of the rows of the present screen, in the order in which they are shown.
pub fn visible_keys(state: &State) -> Vec<String> {
    lines(state).into_iter().map(|l| l.key).collect()
}

/// Which columns fit into `width`: all narrow ones from the left, then wide ones if there is room.
fn fitting(all: &'static [Column], width: u16, wide: bool) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..all.len()).filter(|i| !all[*i].wide || wide).collect();
    let total = |c: &[usize]| c.iter().map(|i| all[*i].width + 1).sum::<u16>() + 2;
    while total(&chosen) > width && chosen.len() > 2 {
        // The rightmost but the last goes first: the last is the age, which people look for.
        let at = chosen.len() - 2;
        chosen.remove(at);
    }
    if !wide {
        for (i, column) in all.iter().enumerate() {
            if column.wide && !chosen.contains(&i) && total(&chosen) + column.width < width {
                chosen.push(i);
                chosen.sort_unstable();
            }
        }
    }
    chosen
}

/// Draws the table of the present screen.
pub fn draw(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let all = columns(state.screen);
    let columns = fitting(all, area.width, state.wide);
    let lines = lines(state);
    let stale = matches!(state.link, Link::Lost { .. });
    let sort = state.table().sort;
    let header = columns.iter().map(|i| {
        let arrow = match (sort.column == *i, sort.descending, look.ascii) {
            (false, ..) => "",
            (true, false, false) => "▲",
            (true, true, false) => "▼",
            (true, false, true) => "^",
            (true, true, true) => "v",
        };
        Cell::from(format!("{}{arrow}", all[*i].title))
    });
    let header = Row::new(std::iter::once(Cell::from("  ")).chain(header)).style(look.heading());
    let keys: Vec<&str> = lines.iter().map(|l| l.key.as_str()).collect();
    let position = state.table().position(&keys);
    let page = usize::from(area.height.saturating_sub(1)).max(1);
    let first =
        position.unwrap_or(0).saturating_sub(page / 2).min(lines.len().saturating_sub(page));
    let rows = lines.iter().skip(first).take(page).map(|line| {
        let sign = format!("{}{}", look.mark(line.mark), look.sign(line.health));
        let style =
            if stale || line.mark == Some(Mark::Gone) { look.faint() } else { Style::new() };
        let health = if stale { look.faint() } else { look.health(line.health) };
        let cells = columns.iter().map(|i| {
            let cell = Cell::from(line.cells[*i].clone());
            if all[*i].title == "STATUS" || all[*i].title == "STATE" || all[*i].title == "SYNC" {
                cell.style(health)
            } else {
                cell
            }
        });
        Row::new(std::iter::once(Cell::from(sign).style(health)).chain(cells)).style(style)
    });
    let widths =
        std::iter::once(Constraint::Length(2)).chain(columns.iter().enumerate().map(|(n, i)| {
            let width = all[*i].width;
            if n == 0 || all[*i].title == "VALUES" || all[*i].title == "IMAGES" {
                Constraint::Min(width)
            } else {
                Constraint::Length(width)
            }
        }));
    let table = Table::new(rows, widths).header(header).row_highlight_style(look.chosen());
    let mut shown = TableState::default();
    shown.select(position.map(|p| p - first));
    frame.render_stateful_widget(table, area, &mut shown);
    if lines.is_empty() {
        let why = match (&state.link, state.table().filter.is_empty()) {
            (Link::Connecting, _) => "connecting ..",
            (_, false) => "no row passes the filter; Esc clears it",
            (_, true) => "there are none yet",
        };
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        frame.render_widget(
            ratatui::text::Line::from(format!("  {why}")).style(look.faint()),
            below,
        );
    }
}

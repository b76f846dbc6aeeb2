//! Fleet health at a glance.

use std::collections::BTreeMap;

use api::status::upgrades::WAITING;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::rows::{self, Health, clean};
use crate::state::State;
use crate::state::events::notable;

use super::styles::{Look, sparkline};
use super::{bordered, text};

/// Certificates that expire within this are named: 30 days.
const SOON: i64 = 30 * 86_400_000;

fn count(look: &Look, n: usize, what: &str, health: Health) -> Line<'static> {
    let health = if n == 0 { Health::Plain } else { health };
    Line::from(vec![
        Span::from(format!(" {} ", look.sign(health))).style(look.health(health)),
        Span::from(format!("{n:>5} ")).style(look.health(health)),
        Span::from(what.to_owned()),
    ])
}

fn nodes(state: &State, look: &Look) -> Vec<Line<'static>> {
    let has = |f: &dyn Fn(&api::status::row::NodeRow) -> bool| {
        state.nodes.values().filter(|e| f(&e.row)).count()
    };
    let mut lines = vec![
        count(look, has(&|n| n.ready == "True"), "ready", Health::Good),
        count(look, has(&|n| n.ready != "True"), "not ready", Health::Bad),
    ];
    if state.knows_links {
        lines.push(count(look, has(&|n| n.link.is_some()), "connected", Health::Good));
        lines.push(count(look, has(&|n| n.link.is_none()), "disconnected", Health::Bad));
    }
    lines.push(count(look, has(&|n| n.cordoned), "cordoned", Health::Uncertain));
    let waiting = has(&|n| n.upgrade.as_ref().is_some_and(|u| u.state == WAITING));
    if waiting > 0 {
        lines.push(count(look, waiting, "to confirm", Health::Uncertain));
    }
    lines
}

fn pods(state: &State, look: &Look) -> Vec<Line<'static>> {
    let mut by: BTreeMap<&str, (usize, Health)> = BTreeMap::new();
    for e in state.pods.values() {
        let health = rows::pod_health(&e.row);
        let entry = by.entry(e.row.status.as_str()).or_insert((0, health));
        entry.0 += 1;
        entry.1 = entry.1.max(health);
    }
    let mut lines: Vec<_> = by.into_iter().collect();
    lines.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
    lines.into_iter().map(|(s, (n, h))| count(look, n, &clean(s), h)).collect()
}

fn devices(state: &State, look: &Look) -> Vec<Line<'static>> {
    let synced = state.devices.values().filter(|e| e.row.in_sync()).count();
    let offline = state.devices.values().filter(|e| e.row.state == "offline").count();
    vec![
        count(look, synced, "in sync", Health::Good),
        count(look, state.devices.len() - synced, "differ", Health::Uncertain),
        count(look, offline, "offline", Health::Bad),
    ]
}

fn traffic(state: &State, look: &Look, width: u16) -> Vec<Line<'static>> {
    if !state.knows_links {
        return vec![Line::from(" not known: this is the Kubernetes API").style(look.faint())];
    }
    let spark = usize::from(width).saturating_sub(24).min(100);
    let (up, down) = state.rates.back().copied().unwrap_or_default();
    let row = |name: &str, now: u64, values: Vec<i64>| {
        Line::from(vec![
            Span::from(format!(" {name:<5}")),
            Span::from(sparkline(look, &values, spark)).style(look.line()),
            Span::from(format!(" {now:>6}/s")),
        ])
    };
    let dropped = state.totals.dropped;
    let health = if dropped > 0 { Health::Uncertain } else { Health::Plain };
    vec![
        row("up", up, state.rates.iter().map(|r| r.0.cast_signed()).collect()),
        row("down", down, state.rates.iter().map(|r| r.1.cast_signed()).collect()),
        Line::from(format!(" {} dropped since the start", dropped)).style(look.health(health)),
    ]
}

fn certificates(state: &State, look: &Look) -> Vec<Line<'static>> {
    if !state.knows_links {
        return vec![Line::from(" not known here").style(look.faint())];
    }
    let now = state.server_now();
    let mut soon: Vec<(i64, &str)> = state
        .nodes
        .values()
        .filter_map(|e| Some((e.row.link.as_ref()?.certificate_expires?, e.row.name.as_str())))
        .filter(|(at, _)| at - now < SOON)
        .collect();
    soon.sort_unstable();
    if soon.is_empty() {
        return vec![Line::from(" none within 30 days").style(look.faint())];
    }
    soon.into_iter()
        .map(|(at, name)| {
            let health = if at - now < SOON / 10 { Health::Bad } else { Health::Uncertain };
            Line::from(format!(
                " {} {:<16} {}",
                look.sign(health),
                clean(name),
                rows::span(at - now)
            ))
            .style(look.health(health))
        })
        .collect()
}

/// What is not well, the worst first: at most so many lines, of which the last may say how many more
/// there are.
fn attention(state: &State, look: &Look, room: usize, width: u16) -> Vec<Line<'static>> {
    let mut wrong: Vec<(Health, &'static str, &str, String)> = Vec::new();
    let now = state.server_now();
    for (name, entry) in &state.nodes {
        let (status, health) = rows::node_status(&entry.row);
        let (link, link_health) = rows::node_link(&entry.row, now);
        if health > Health::Plain {
            wrong.push((health, "node", name, status));
        } else if state.knows_links && link_health > Health::Plain {
            wrong.push((link_health, "node", name, format!("link {link}")));
        }
    }
    for (key, entry) in &state.pods {
        let health = rows::pod_health(&entry.row);
        if health > Health::Plain {
            wrong.push((health, "pod", key, entry.row.status.clone()));
        }
    }
    for (key, entry) in &state.devices {
        let health = rows::device_health(&entry.row);
        if health > Health::Plain {
            let d = &entry.row;
            let state = if d.in_sync() { d.state.clone() } else { format!("{}, differs", d.state) };
            wrong.push((health, "device", key, state));
        }
    }
    wrong.sort_by_key(|(health, ..)| std::cmp::Reverse(*health));
    let more = wrong.len().saturating_sub(room);
    let shown = if more > 0 { room.saturating_sub(1) } else { room };
    let mut lines: Vec<Line<'static>> = wrong
        .iter()
        .take(shown)
        .map(|(health, kind, key, why)| {
            let sign = Span::from(format!(" {} ", look.sign(*health))).style(look.health(*health));
            let text = format!("{kind:<6} {}  {}", clean(key), clean(why));
            let text = text::fitted(look, &text, usize::from(width).saturating_sub(sign.width()));
            Line::from(vec![sign, Span::from(text)])
        })
        .collect();
    if more > 0 && room > 0 {
        let text = format!("   and {} more", wrong.len() - shown);
        lines.push(Line::from(text).style(look.faint()));
    }
    lines
}

/// Draws what is not well, if anything is; what is left of the area.
fn troubles(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) -> Rect {
    let wide = area.width >= 160;
    let most = if wide { area.height } else { area.height / 2 };
    let width = if wide { area.width / 2 } else { area.width };
    let lines = attention(state, look, most.saturating_sub(2).into(), width.saturating_sub(2));
    if lines.is_empty() {
        return area;
    }
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let [shown, left] = if wide {
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
    } else {
        Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area)
    };
    frame.render_widget(Paragraph::new(lines).block(bordered(look, "needs a look")), shown);
    left
}

/// A small screen has room for what is wrong and what has just happened.
fn short(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let sum = |name: &str, lines: Vec<Line<'static>>| {
        let mut spans = vec![Span::from(format!("{name:<8}")).style(look.heading())];
        for line in lines {
            let text = line.to_string();
            let count = text.split_whitespace().find_map(|w| w.parse::<usize>().ok());
            if count.is_some_and(|n| n > 0) {
                let words: Vec<&str> = text.split_whitespace().collect();
                let style = line.spans.first().map(|s| s.style).unwrap_or_default();
                spans.push(Span::from(format!("{}  ", words.join(" "))).style(style));
            }
        }
        Line::from(spans)
    };
    let mut lines = vec![
        sum("nodes", nodes(state, look)),
        sum("pods", pods(state, look)),
        sum("devices", devices(state, look)),
    ];
    let now = state.server_now();
    let room = usize::from(area.height).saturating_sub(lines.len());
    lines.extend(attention(state, look, room.div_ceil(2), area.width));
    let room = usize::from(area.height).saturating_sub(lines.len());
    let events = notable(&state.events, room).into_iter();
    lines.extend(events.map(|e| text::event_line(look, e, now, area.width)));
    frame.render_widget(Paragraph::new(lines), area);
}

/// Draws the screen.
pub fn draw(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    if area.height < 16 {
        return short(state, look, frame, area);
    }
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(7), Constraint::Length(5), Constraint::Min(3)])
            .areas(area);
    let thirds = [Constraint::Ratio(1, 3); 3];
    let [a, b, c] = Layout::horizontal(thirds).areas(top);
    let boxed = |frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'static>>| {
        frame.render_widget(Paragraph::new(lines).block(bordered(look, title)), area);
    };
    boxed(frame, a, &format!("nodes {}", state.nodes.len()), nodes(state, look));
    boxed(frame, b, &format!("pods {}", state.pods.len()), pods(state, look));
    boxed(frame, c, &format!("devices {}", state.devices.len()), devices(state, look));
    let [left, right] =
        Layout::horizontal([Constraint::Fill(2), Constraint::Fill(1)]).areas(middle);
    boxed(frame, left, "messages a second", traffic(state, look, left.width));
    boxed(frame, right, "certificates", certificates(state, look));
    let now = state.server_now();
    let bottom = troubles(state, look, frame, bottom);
    let room = usize::from(bottom.height.saturating_sub(2));
    let events = notable(&state.events, room).into_iter();
    let width = bottom.width.saturating_sub(2);
    let mut events: Vec<Line<'static>> =
        events.map(|e| text::event_line(look, e, now, width)).collect();
    if events.is_empty() {
        events.push(Line::from(" nothing has happened yet").style(look.faint()));
    }
    boxed(frame, bottom, "newest events, warnings first", events);
}

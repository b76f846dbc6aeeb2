//! Lines of text: pages that scroll, the message flow, the events.

use api::status::row::{Direction, MessageRow};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::symbols::border;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use crate::rows::{self, Health, clean};
use crate::state::State;
use crate::state::table::passes;

use super::styles::Look;

const ASCII: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// A frame with a title.
pub(super) fn block(look: &Look, title: &str) -> Block<'static> {
    let set = if look.ascii { ASCII } else { border::PLAIN };
    Block::bordered()
        .border_set(set)
        .title(format!(" {} ", clean(title)))
        .title_style(look.heading())
}

/// Lines that scroll, in a frame.
pub(super) fn scrolled(
    look: &Look,
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: Vec<Line<'_>>,
    scroll: usize,
) {
    let page = usize::from(area.height.saturating_sub(2));
    let from = scroll.min(lines.len().saturating_sub(page));
    let more = lines.len().saturating_sub(from + page);
    let title = if more > 0 { format!("{title}, {more} more lines") } else { title.to_owned() };
    let shown: Vec<Line<'_>> = lines.into_iter().skip(from).take(page).collect();
    frame.render_widget(Paragraph::new(shown).block(block(look, &title)), area);
}

/// A text that scrolls, in a frame.
pub(super) fn page(
    look: &Look,
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    text: &str,
    style: Style,
    scroll: usize,
) {
    let lines = text.lines().map(|l| Line::from(clean(l)).style(style)).collect();
    scrolled(look, frame, area, title, lines, scroll);
}

fn message_line(look: &Look, m: &MessageRow, now: i64) -> Line<'static> {
    let arrow = match (m.direction, look.ascii) {
        (Direction::Up, false) => "↑",
        (Direction::Down, false) => "↓",
        (Direction::Up, true) => "up",
        (Direction::Down, true) => "dn",
    };
    let micros = |us: Option<i64>| us.map_or_else(|| "-".to_owned(), rows::micros);
    let ok = m.outcome.is_empty() || m.outcome == "ok";
    let health = if ok { Health::Plain } else { Health::Bad };
    Line::from(vec![
        Span::from(format!("{:>5} ", rows::span(now - m.at))).style(look.faint()),
        Span::from(format!("{arrow:<2} {:<12} {:<14} ", clean(&m.node), clean(&m.kind))),
        Span::from(format!(
            "{:>6} {:>6} {:>6}  ",
            rows::bytes(m.size),
            micros(m.first_us),
            micros(m.second_us.map(u64::cast_signed))
        )),
        Span::from(format!("{:<28} ", clean(&m.object))),
        Span::from(if ok { String::new() } else { clean(&m.outcome) }).style(look.health(health)),
    ])
}

/// The message flow: newest at the bottom.
pub(super) fn flow(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let filter = &state.table().filter;
    let none = std::collections::BTreeMap::new();
    let page = usize::from(area.height.saturating_sub(2));
    let mut lines: Vec<Line<'_>> = state
        .messages
        .iter()
        .rev()
        .filter(|m| {
            passes(
                filter,
                [m.node.as_str(), m.kind.as_str(), m.object.as_str(), m.outcome.as_str()],
                &none,
            )
        })
        .take(page)
        .map(|m| message_line(look, m, state.server_now()))
        .collect();
    lines.reverse();
    let t = &state.totals;
    let title = format!(
        "{} up, {} down, {} dropped; {} not shown | age, node, kind, size, hops, object",
        t.up, t.down, t.dropped, state.missed_messages
    );
    if lines.is_empty() {
        lines.push(Line::from("  no message has passed yet").style(look.faint()));
    }
    frame.render_widget(Paragraph::new(lines).block(block(look, &title)), area);
}

/// The events: newest at the top.
pub(super) fn events(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let filter = &state.table().filter;
    let none = std::collections::BTreeMap::new();
    let lines: Vec<Line<'_>> = state
        .events
        .iter()
        .rev()
        .filter(|e| {
            passes(filter, [e.reason.as_str(), e.object.as_str(), e.message.as_str()], &none)
        })
        .take(usize::from(area.height))
        .map(|e| event_line(look, e, state.server_now()))
        .collect();
    let title = format!("{} events, newest first", state.events.len());
    scrolled(look, frame, area, &title, lines, 0);
}

/// One event.
pub(super) fn event_line(look: &Look, e: &api::status::row::EventRow, now: i64) -> Line<'static> {
    let health = if e.kind == "Warning" { Health::Bad } else { Health::Plain };
    let times = if e.count > 1 { format!(" (x{})", e.count) } else { String::new() };
    Line::from(vec![
        Span::from(format!("{:>6} ", rows::span(now - e.at))).style(look.faint()),
        Span::from(format!("{} ", look.sign(health))).style(look.health(health)),
        Span::from(format!("{:<18} ", clean(&e.reason))).style(look.health(health)),
        Span::from(format!("{}  ", clean(&e.object))),
        Span::from(format!("{}{times}", clean(&e.message))),
    ])
}

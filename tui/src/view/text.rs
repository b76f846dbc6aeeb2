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

/// Lines that scroll, in a frame; how far they can be scrolled.
pub(super) fn scrolled(
    look: &Look,
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: Vec<Line<'_>>,
    scroll: usize,
) -> usize {
    let page = usize::from(area.height.saturating_sub(2));
    let from = scroll.min(lines.len().saturating_sub(page));
    let more = lines.len().saturating_sub(from + page);
    let title = if more > 0 { format!("{title}, {more} more lines") } else { title.to_owned() };
    let shown: Vec<Line<'_>> = lines.into_iter().skip(from).take(page).collect();
    let furthest = from + more;
    frame.render_widget(Paragraph::new(shown).block(block(look, &title)), area);
    furthest
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
) -> usize {
    let columns = usize::from(area.width.saturating_sub(2));
    let lines = text.lines().flat_map(|line| broken(&clean(line), columns));
    let lines = lines.map(|line| Line::from(line).style(style)).collect();
    scrolled(look, frame, area, title, lines, scroll)
}

/// A line in as many as it needs.
pub(super) fn broken(text: &str, columns: usize) -> Vec<String> {
    use unicode_width::UnicodeWidthChar;
    let (mut all, mut line, mut used) = (Vec::new(), String::new(), 0);
    for c in text.chars() {
        let cells = c.width().unwrap_or(0);
        if used + cells > columns {
            all.push(std::mem::take(&mut line));
            used = 0;
        }
        line.push(c);
        used += cells;
    }
    all.push(line);
    all
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
    let outcome =
        if ok { String::new() } else { format!("{} {} ", look.sign(health), clean(&m.outcome)) };
    Line::from(vec![
        Span::from(format!("{:>5} ", rows::span(now - m.at))).style(look.faint()),
        Span::from(format!("{arrow:<2} {:<12} {:<11} ", clean(&m.node), clean(&m.kind))),
        Span::from(format!(
            "{:>6} {:>6} {:>6}  ",
            rows::bytes(m.size),
            micros(m.first_us),
            micros(m.second_us.map(u64::cast_signed))
        )),
        Span::from(outcome).style(look.health(health)),
        Span::from(clean(&m.object)),
    ])
}

/// The message flow: newest at the bottom.
pub(super) fn flow(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    // The frame, and the headings.
    let page = usize::from(area.height.saturating_sub(3));
    let back = state.table().at;
    let mut lines: Vec<Line<'_>> = state
        .shown_messages()
        .skip(back)
        .take(page)
        .map(|m| message_line(look, m, state.server_now()))
        .collect();
    lines.reverse();
    let t = &state.totals;
    let mut title = format!("{} up, {} down; {} dropped by queues", t.up, t.down, t.dropped);
    if state.missed_messages > 0 {
        title.push_str(&format!(", {} passed too fast to be shown", state.missed_messages));
    }
    if back > 0 {
        title.push_str(&format!("; {back} newer, G shows them"));
    }
    if lines.is_empty() {
        let none = if !state.knows_links {
            "the Kubernetes API knows no messages: cloudcore's status stream does"
        } else if state.table().filter.is_empty() {
            "no message has passed since this screen was opened"
        } else {
            "no message passes the filter; Esc clears it"
        };
        lines.push(Line::from(format!("  {none}")).style(look.faint()));
    }
    let headings = format!(
        "{:>5} {:<2} {:<12} {:<11} {:>6} {:>6} {:>6}  {}",
        "AGE", "", "NODE", "KIND", "SIZE", "HOP 1", "HOP 2", "OBJECT"
    );
    lines.insert(0, Line::from(headings).style(look.heading()));
    frame.render_widget(Paragraph::new(lines).block(block(look, &title)), area);
}

/// The events: newest at the top.
pub(super) fn events(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let (now, width) = (state.server_now(), area.width.saturating_sub(2));
    let mut lines: Vec<Line<'_>> =
        state.shown_events().map(|e| event_line(look, e, now, width)).collect();
    let title = format!("{} events, newest first", lines.len());
    if lines.is_empty() {
        let none = match state.table().filter.is_empty() {
            true => "nothing has happened yet",
            false => "no event passes the filter; Esc clears it",
        };
        lines.push(Line::from(format!("  {none}")).style(look.faint()));
    }
    scrolled(look, frame, area, &title, lines, state.table().at);
}

/// As much of a text as fits, with a sign if that is not all.
pub(super) fn fitted(look: &Look, text: &str, width: usize) -> String {
    api::printable::fitted(text, width, look.more())
}

/// The same with the end of it: of a path, the end says which.
pub(super) fn fitted_end(look: &Look, text: &str, width: usize) -> String {
    use unicode_width::UnicodeWidthStr;
    if text.width() <= width {
        return text.to_owned();
    }
    let turned: String = text.chars().rev().collect();
    fitted(look, &turned, width).chars().rev().collect()
}

/// One event, in so many columns.
pub(super) fn event_line(
    look: &Look,
    e: &api::status::row::EventRow,
    now: i64,
    width: u16,
) -> Line<'static> {
    let health = if e.kind == "Warning" { Health::Bad } else { Health::Plain };
    let times = if e.count > 1 { format!(" (x{})", e.count) } else { String::new() };
    let mut line = Line::from(vec![
        Span::from(format!("{:>6} ", rows::span(now - e.at))).style(look.faint()),
        Span::from(format!("{} ", look.sign(health))).style(look.health(health)),
        Span::from(format!("{:<18} ", clean(&e.reason))).style(look.health(health)),
        Span::from(format!("{}  ", clean(&e.object))),
    ]);
    let room = usize::from(width).saturating_sub(line.width());
    line.push_span(fitted(look, &format!("{}{times}", clean(&e.message)), room));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_says_so_and_of_a_path_the_end_is_shown() {
        let look = Look::default();
        assert_eq!(fitted(&look, "edge-1", 6), "edge-1");
        assert_eq!(fitted(&look, "edge-12", 6), "edge-…");
        assert_eq!(fitted(&look, "日本語", 5), "日本…", "in cells, not in characters");
        assert_eq!(fitted(&look, "x", 0), "");
        assert_eq!(fitted_end(&look, "/run/kubeedge/s.sock", 8), "…/s.sock");
        let ascii = Look { ascii: true, ..look };
        assert_eq!(fitted(&ascii, "edge-12", 6), "edge-~");
    }
}

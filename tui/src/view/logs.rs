//! A log.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::state::Logs;

use super::bordered;
use super::styles::Look;
use super::text::fitted;

/// Draws the part of the log that the user is at.
pub fn draw(log: &Logs, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let page = usize::from(area.height.saturating_sub(2));
    let first = if log.follow {
        log.lines.len().saturating_sub(page)
    } else {
        log.top.min(log.lines.len().saturating_sub(page))
    };
    let columns = usize::from(area.width.saturating_sub(2));
    let shown = log.lines.iter().skip(first).take(page);
    let lines: Vec<Line<'_>> =
        shown.map(|l| marked(&part(l, log.left, columns, look), &log.search, look)).collect();
    let state = match (&log.ended, log.follow) {
        (Some(why), _) if why.is_empty() => "ended".to_owned(),
        (Some(why), _) => format!("ended: {why}"),
        (None, true) => "following".to_owned(),
        (None, false) => format!("line {} of {}", first + 1, log.lines.len()),
    };
    let dropped = if log.dropped > 0 {
        format!(", {} older lines let go", log.dropped)
    } else {
        String::new()
    };
    let title = format!("log of {} | {state}{dropped}", log.title);
    frame.render_widget(Paragraph::new(lines).block(bordered(look, &title)), area);
}

/// What of a line is in sight, with a sign where it goes on.
fn part(line: &str, left: usize, columns: usize, look: &Look) -> String {
    // One more than fits shows that there is more.
    let seen: String = line.chars().skip(left).take(columns + 1).collect();
    let mut seen = fitted(look, &seen, columns);
    if left > 0 && !line.is_empty() {
        let first = seen.chars().next().map_or(0, char::len_utf8);
        seen.replace_range(..first, look.more());
    }
    seen
}

fn marked(line: &str, search: &str, look: &Look) -> Line<'static> {
    let owned = |text: &str| Span::from(text.to_owned());
    // Lower case of more than ASCII may have another length.
    let find = || line.to_ascii_lowercase().find(&search.to_ascii_lowercase());
    match (!search.is_empty()).then(find).flatten() {
        None => Line::from(line.to_owned()),
        Some(at) => {
            let (before, rest) = line.split_at(at);
            let (hit, after) = rest.split_at(search.len());
            Line::from(vec![owned(before), owned(hit).style(look.chosen()), owned(after)])
        }
    }
}

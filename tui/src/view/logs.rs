//! A log.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::state::Logs;

use super::bordered;
use super::styles::Look;

/// Draws the part of the log that the user is at.
pub fn draw(log: &Logs, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let page = usize::from(area.height.saturating_sub(2));
    let first = if log.follow {
        log.lines.len().saturating_sub(page)
    } else {
        log.top.min(log.lines.len().saturating_sub(page))
    };
    let lines: Vec<Line<'_>> =
        log.lines.iter().skip(first).take(page).map(|l| marked(l, &log.search, look)).collect();
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

fn marked<'a>(line: &'a str, search: &str, look: &Look) -> Line<'a> {
    // Lower case of more than ASCII may have another length.
    let find = || line.to_ascii_lowercase().find(&search.to_ascii_lowercase());
    match (!search.is_empty()).then(find).flatten() {
        None => Line::from(line),
        Some(at) => {
            let (before, rest) = line.split_at(at);
            let (hit, after) = rest.split_at(search.len());
            Line::from(vec![
                Span::from(before),
                Span::from(hit).style(look.chosen()),
                Span::from(after),
            ])
        }
    }
}

//! Up and down: in tables, in what lies over them, in logs, and to what is searched for. Pure.

use crate::state::{Layer, Screen, State};

pub(super) fn scroll(state: &mut State, by: isize) {
    let furthest = state.furthest;
    // A frame around it takes a line more than the headings of a table.
    let page = state.page.saturating_sub(1).max(1);
    match state.layers.last_mut() {
        Some(
            Layer::Detail { scroll, .. } | Layer::Help { scroll } | Layer::Yaml { scroll, .. },
        ) => {
            *scroll = (*scroll).min(furthest).saturating_add_signed(by).min(furthest);
        }
        Some(Layer::Logs(logs)) => {
            let end = logs.lines.len().saturating_sub(page);
            let from = if logs.follow { end } else { logs.top.min(end) };
            logs.top = from.saturating_add_signed(by).min(end);
            logs.follow = by > 0 && logs.top == end && logs.ended.is_none();
        }
        None if matches!(state.screen, Screen::Flow | Screen::Events) => scroll_lines(state, by),
        None => {
            let order = std::mem::take(&mut state.order);
            state.table_mut().step(&order, by);
            state.order = order;
        }
    }
}

/// Columns of a log that are in sight at one time.
fn columns(state: &State) -> usize {
    usize::from(state.columns).saturating_sub(2).max(1)
}

/// To what a log has beside the screen, not beyond the end of its longest line.
pub(super) fn sideways(state: &mut State, by: isize) {
    let columns = columns(state);
    let Some(Layer::Logs(logs)) = state.layers.last_mut() else { return };
    let longest = logs.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let half = isize::try_from(columns / 2).unwrap_or(1);
    let left = logs.left.saturating_add_signed(by.saturating_mul(half));
    logs.left = left.min(longest.saturating_sub(columns));
}

/// Back into older events and messages, or forward again.
fn scroll_lines(state: &mut State, by: isize) {
    // Events have the newest line on top, messages at the bottom.
    let (older, lines) = match state.screen {
        Screen::Events => (by, state.shown_events().count()),
        _ => (by.saturating_neg(), state.shown_messages().count()),
    };
    // A table has headings and no frame; these have a frame, and messages headings as well.
    let less = if state.screen == Screen::Events { 1 } else { 2 };
    let most = lines.saturating_sub(state.page.saturating_sub(less));
    let table = state.table_mut();
    table.at = table.at.saturating_add_signed(older).min(most);
}

/// To the next line of a log that has what is searched for, or the one before; beyond the last one
/// comes the first.
pub(super) fn hit(state: &mut State, forward: bool) {
    let page = state.page.saturating_sub(1).max(1);
    let columns = columns(state);
    let Some(Layer::Logs(logs)) = state.layers.last_mut() else { return };
    if logs.search.is_empty() {
        return;
    }
    let needle = logs.search.to_ascii_lowercase();
    let matches = |i: &usize| logs.lines[*i].to_ascii_lowercase().contains(&needle);
    let lines = logs.lines.len();
    let end = lines.saturating_sub(page);
    let at = logs.hit.unwrap_or(if logs.follow { end } else { logs.top }).min(lines);
    let found = match (forward, logs.hit) {
        (true, None) => (at..lines).chain(0..at).find(matches),
        (true, Some(_)) => (at + 1..lines).chain(0..lines.min(at + 1)).find(matches),
        (false, _) => (0..at).rev().chain((at..lines).rev()).find(matches),
    };
    match found {
        Some(line) => {
            logs.follow = false;
            logs.hit = Some(line);
            // On the screen already: then it stays where it is.
            if !(logs.top..logs.top + page).contains(&line) || logs.top > end {
                logs.top = line.min(end);
            }
            let text = &logs.lines[line];
            let at = text.to_ascii_lowercase().find(&needle).unwrap_or(0);
            let at = text[..at].chars().count();
            let ends = at + needle.chars().count();
            if at < logs.left.saturating_add(1) || ends >= logs.left + columns {
                // Short lines are seen from their beginning.
                logs.left = if ends < columns { 0 } else { at.saturating_sub(columns / 3) };
            }
        }
        None => {
            let text = format!("`{}` not found", logs.search);
            state.say(text, true);
        }
    }
}

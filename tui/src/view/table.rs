//! Draws the three tables of rows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::widgets::{Cell, Row, Table, TableState};

use crate::columns::{self, Column};
use crate::state::table::Sort;
use crate::state::{Link, Mark, State};

use super::styles::Look;
use super::text::fitted;

/// Which columns fit into `width`: all narrow ones from the left, then wide ones if there is room.
/// The one that rows are sorted by is among them: their order makes no sense without.
fn fitting(all: &'static [Column], width: u16, wide: bool, sorted: usize) -> Vec<usize> {
    let wanted = |i: &usize| !all[*i].wide || wide || *i == sorted;
    let mut chosen: Vec<usize> = (0..all.len()).filter(wanted).collect();
    while taken(all, &chosen) > width && chosen.len() > 2 {
        // The rightmost but the last goes first: the last is the age, which people look for. How
        // a row is stays to the end.
        let stays = |i: usize| matches!(all[i].title, "STATUS" | "STATE") || i == sorted;
        let goes = |i: &usize| !stays(*i);
        let last = chosen.len() - 1;
        match chosen[1..last].iter().rposition(goes) {
            Some(at) => chosen.remove(at + 1),
            None if chosen[last] == sorted => chosen.remove(last - 1),
            None => chosen.remove(last),
        };
    }
    if !wide {
        for (i, column) in all.iter().enumerate() {
            if column.wide && !chosen.contains(&i) && taken(all, &chosen) + column.width < width {
                chosen.push(i);
                chosen.sort_unstable();
            }
        }
    }
    chosen
}

/// What the columns take at least, with the signs before them.
fn taken(all: &'static [Column], columns: &[usize]) -> u16 {
    columns.iter().map(|i| all[*i].width + 1).sum::<u16>() + 2
}

/// How wide the signs and each column may be. `status` is how wide the longest status is: it takes of
/// the room that is left what it needs, before the names do.
fn widths<'f>(
    fitting: &'f [usize],
    all: &'static [Column],
    width: u16,
    status: u16,
) -> impl Iterator<Item = Constraint> + use<'f> {
    let values = all.iter().any(|c| c.title == "VALUES");
    let left = width.saturating_sub(taken(all, fitting));
    let one = move |(n, i): (usize, &usize)| {
        let least = all[*i].width;
        if n == 0 && values {
            // What a device says takes more room than its name.
            Constraint::Length((width / 5).max(least))
        } else if all[*i].title == "STATUS" {
            Constraint::Length(status.clamp(least, least + left))
        } else if n == 0 || all[*i].title == "VALUES" || all[*i].title == "IMAGES" {
            Constraint::Min(least)
        } else {
            Constraint::Length(least)
        }
    };
    std::iter::once(Constraint::Length(2)).chain(fitting.iter().enumerate().map(one))
}

/// The heading of a column, with a mark if rows are sorted by it. Of one that fills its column, the mark
/// takes the last letter.
fn heading(
    all: &'static [Column],
    at: usize,
    sort: Sort,
    room: usize,
    look: &Look,
) -> Cell<'static> {
    let arrow = match (sort.column == at, sort.descending, look.ascii) {
        (false, ..) => "",
        (true, false, false) => "▲",
        (true, true, false) => "▼",
        (true, false, true) => "^",
        (true, true, true) => "v",
    };
    let title = all[at].title.chars().take(room.saturating_sub(arrow.chars().count()));
    Cell::from(format!("{}{arrow}", title.collect::<String>()))
}

/// Draws the table of the present screen.
pub fn draw(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let all = columns::columns(state.screen);
    let sort = state.table().sort;
    let fitting = fitting(all, area.width, state.wide, sort.column);
    let order = &state.order;
    let stale = matches!(state.link, Link::Lost { .. });
    let position = state.table().position(order);
    let page = usize::from(area.height.saturating_sub(1)).max(1);
    // The page is as high as the state thinks, but for the moment in which the terminal changes.
    let at = position.unwrap_or(0);
    let first = state.table().first.clamp(at.saturating_sub(page - 1), at);
    let shown = (first..order.len())
        .take(page)
        .filter_map(|i| order.key(i).and_then(|key| columns::line(state, state.screen, key)));
    let shown: Vec<_> = shown.collect();
    let status = all.iter().position(|c| c.title == "STATUS").map_or(0, |i| {
        shown.iter().map(|line| line.cells[i].chars().count()).max().unwrap_or_default()
    });
    let status = u16::try_from(status).unwrap_or(u16::MAX);
    let widths: Vec<Constraint> = widths(&fitting, all, area.width, status).collect();
    let places = Layout::horizontal(&widths).spacing(1).split(area);
    let room = |n: usize| places.get(n + 1).map_or(0, |place| usize::from(place.width));
    let header = fitting.iter().enumerate().map(|(n, i)| heading(all, *i, sort, room(n), look));
    let header = Row::new(std::iter::once(Cell::from("  ")).chain(header)).style(look.heading());
    let rows = shown.into_iter().map(|line| {
        let sign = format!("{}{}", look.mark(line.mark), look.sign(line.health));
        let style =
            if stale || line.mark == Some(Mark::Gone) { look.faint() } else { Style::new() };
        let health = if stale { look.faint() } else { look.health(line.health) };
        let cells = fitting.iter().enumerate().map(|(n, i)| {
            let cell = Cell::from(fitted(look, &line.cells[*i], room(n)));
            if all[*i].title == "STATUS" || all[*i].title == "STATE" || all[*i].title == "SYNC" {
                cell.style(health)
            } else {
                cell
            }
        });
        Row::new(std::iter::once(Cell::from(sign).style(health)).chain(cells)).style(style)
    });
    let table = Table::new(rows, widths).header(header).row_highlight_style(look.chosen());
    let mut chosen = TableState::default();
    chosen.select(position.map(|p| p - first));
    frame.render_stateful_widget(table, area, &mut chosen);
    if order.is_empty() {
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

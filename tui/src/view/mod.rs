//! Draws `&State` into a frame. Changes nothing.

pub mod detail;
pub mod logs;
pub mod overview;
pub mod styles;
pub mod table;
mod text;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use crate::keys;
use crate::palette;
use crate::rows::{self, Health};
use crate::state::{Confirm, Layer, Link, Purpose, Replay, Screen, State};
use crate::update::{place, place_of_help};

use self::styles::Look;

/// The smallest screen that anything useful fits on.
pub const SMALLEST: (u16, u16) = (40, 10);

/// Draws everything.
pub fn draw(state: &State, look: &Look, frame: &mut Frame<'_>) {
    draw_all(state, look, frame);
}

/// Draws everything, and says how far what lies on top can be scrolled.
pub fn draw_all(state: &State, look: &Look, frame: &mut Frame<'_>) -> usize {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (w, h) = SMALLEST;
        let text = format!("too small: {}x{}; {w}x{h} is needed", area.width, area.height);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return state.furthest;
    }
    let [top, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    header(state, look, frame, top);
    screens(state, look, frame, tabs);
    let furthest = match state.layers.last() {
        None => {
            screen(state, look, frame, body);
            0
        }
        Some(Layer::Detail { key, scroll }) => detail::draw(state, look, frame, body, key, *scroll),
        Some(Layer::Yaml { title, text, scroll, .. }) => {
            let (text, style) = match text {
                None => ("asking ..", look.faint()),
                Some(Ok(t)) => (t.as_str(), ratatui::style::Style::new()),
                Some(Err(e)) => (e.as_str(), look.health(Health::Bad)),
            };
            text::page(look, frame, body, &format!("{title} as YAML"), text, style, *scroll)
        }
        Some(Layer::Logs(log)) => {
            logs::draw(log, look, frame, body);
            0
        }
        Some(Layer::Help { scroll }) => help(state, look, frame, body, *scroll),
    };
    footer(state, look, frame, foot);
    notice(state, look, frame, area);
    suggestions(state, look, frame, body);
    if let Some(confirm) = &state.confirm {
        question(confirm, look, frame, body);
    }
    furthest
}

/// All of it is to be read before it is said yes to.
fn question(confirm: &Confirm, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let columns = usize::from(area.width).saturating_sub(2).max(1);
    let parts = |text: &str| text::broken(&rows::clean(text), columns).into_iter();
    let mut lines: Vec<Line<'_>> =
        parts(&confirm.question).map(|part| Line::from(part).style(look.heading())).collect();
    lines.push(Line::from("y does it, any other key leaves it"));
    lines.push(Line::from(""));
    lines.push(Line::from("the command for it:").style(look.faint()));
    lines.extend(parts(&confirm.command).map(Line::from));
    if lines.len() + 2 > usize::from(area.height) {
        lines.retain(|line| line.width() > 0);
    }
    popup(look, frame, area, "are you sure?", lines);
}

fn screen(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    match state.screen {
        Screen::Overview => overview::draw(state, look, frame, area),
        Screen::Flow => text::flow(state, look, frame, area),
        Screen::Events => text::events(state, look, frame, area),
        _ => table::draw(state, look, frame, area),
    }
}

fn header(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let (text, health) = match &state.link {
        Link::Connecting => ("connecting".to_owned(), Health::Uncertain),
        // A screen without rows must not pass for a fleet without nodes.
        Link::Live if state.loading => ("loading".to_owned(), Health::Uncertain),
        Link::Live => ("live".to_owned(), Health::Good),
        Link::Lost { since, why } => {
            (format!("LOST {} ago: {why}", rows::span(state.now - since)), Health::Bad)
        }
    };
    let mut spans = vec![
        Span::from("keadm ").style(look.heading()),
        Span::from(format!("{} ", look.sign(health))).style(look.health(health)),
        Span::from(text).style(look.health(health)),
    ];
    if let Some(r) = state.replay {
        spans.push(Span::from(slider(r, look, area.width)));
    }
    if let Some((behind, at)) = &state.behind
        && state.now - at < 10_000
    {
        let n = behind.missed_messages + behind.missed_events;
        let text = match n {
            0 => format!("  {} s behind", behind.millis / 1000),
            n => format!("  {n} lines left out"),
        };
        spans.push(Span::from(text).style(look.health(Health::Uncertain)));
    }
    if let Some(held) = &state.held {
        let text = format!("  HELD, {} rows have changed; Space goes on", held.changed());
        spans.push(Span::from(text).style(look.health(Health::Uncertain)));
    }
    // Last, because it changes least.
    if state.replay.is_none() {
        let used: usize = spans.iter().map(Span::width).sum();
        let server = state.hello.as_ref().map_or("", |h| h.server.as_str());
        let server = format!("  {} ", rows::clean(server));
        let room = usize::from(area.width).saturating_sub(used + server.chars().count());
        let source = rows::clean(&state.source);
        let source = match source.starts_with('/') {
            true => text::fitted_end(look, &source, room),
            false => text::fitted(look, &source, room),
        };
        spans.push(Span::from(format!("{server}{source}")).style(look.faint()));
    }
    frame.render_widget(Line::from(spans), area);
}

/// Where a replay stands: `playing 12s [====>------] 40s x2`.
fn slider(r: Replay, look: &Look, width: u16) -> String {
    let run = if r.paused { "held" } else { "playing" };
    let bar = usize::from(width.saturating_sub(52).clamp(8, 60));
    let at = usize::try_from(r.at.saturating_mul(bar as u64) / r.end.max(1)).unwrap_or(bar);
    let at = at.min(bar - 1);
    let (done, knob, rest) = if look.ascii { ("=", ">", "-") } else { ("━", "●", "─") };
    let bar = format!("{}{knob}{}", done.repeat(at), rest.repeat(bar - 1 - at));
    let (now, end) = (rows::span(to_i64(r.at)), rows::span(to_i64(r.end)));
    format!("  {run} {now} {bar} {end} x{}", r.speed)
}

fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn screens(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let mut spans: Vec<Span<'_>> = state
        .tabs(area.width)
        .into_iter()
        .map(|(screen, tab)| match screen == state.screen {
            true => Span::from(tab).style(look.chosen()),
            false => Span::from(tab),
        })
        .collect();
    let used: usize = spans.iter().map(Span::width).sum();
    // What hides rows is never out of sight itself.
    let filter = &state.table().filter;
    let namespace = state.namespace.as_ref().map(|name| format!(" ns:{}", rows::clean(name)));
    let hides: Vec<String> = namespace
        .into_iter()
        .chain((!filter.is_empty()).then(|| format!(" /{}", rows::clean(filter))))
        .collect();
    let room = usize::from(area.width).saturating_sub(used);
    let share = room / hides.len().max(1);
    let spare = hides.iter().map(|text| share.saturating_sub(text.chars().count())).sum::<usize>();
    for text in &hides {
        let fits = text::fitted(look, text, share + spare);
        spans.push(Span::from(fits).style(look.heading()));
    }
    if filter.is_empty() && matches!(state.screen, Screen::Pods | Screen::Devices) {
        let digits = state.namespaces().into_iter().take(9).enumerate();
        let digits: Vec<String> =
            digits.map(|(n, name)| format!("{}:{}", n + 1, rows::clean(name))).collect();
        if digits.len() > 1 {
            let text = format!("  0:all {}", digits.join(" "));
            spans.push(Span::from(text).style(look.faint()));
        }
    }
    frame.render_widget(Line::from(spans), area);
}

fn footer(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    if let Some(prompt) = &state.prompt {
        let sign = match &prompt.purpose {
            Purpose::Filter | Purpose::Search => "/".to_owned(),
            Purpose::Command => ":".to_owned(),
            Purpose::Desired { .. } => "set (Tab: another) ".to_owned(),
        };
        let text = format!("{sign}{}", rows::clean(&prompt.text));
        let width =
            u16::try_from(unicode_width::UnicodeWidthStr::width(text.as_str())).unwrap_or(0);
        frame.set_cursor_position((area.x + width.min(area.width.saturating_sub(1)), area.y));
        frame.render_widget(Line::from(text), area);
        return;
    }
    if state.notice.is_some() {
        return;
    }
    let mut spans = Vec::new();
    let mut left = usize::from(area.width);
    let hints = keys::hints(place(state), state.replay.is_some(), |r| state.can(r));
    // The way on stands last, and must be there however narrow the screen is.
    let (special, always) = hints.split_at(hints.len().saturating_sub(3));
    let room = |(key, what): &(String, String)| key.chars().count() + what.chars().count() + 3;
    left = left.saturating_sub(always.iter().map(room).sum());
    let fitting = special.iter().take_while(|hint| {
        let fits = room(hint) <= left;
        left = left.saturating_sub(room(hint));
        fits
    });
    for (key, what) in fitting.chain(always) {
        spans.push(Span::from(in_ascii(key, look)).style(look.heading()));
        spans.push(Span::from(format!(" {what}  ")).style(look.faint()));
    }
    frame.render_widget(Line::from(spans), area);
}

/// What was said last: at the foot, and over what is above it if it is longer.
fn notice(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let Some(notice) = state.notice.as_ref().filter(|_| state.prompt.is_none()) else { return };
    let health = if notice.failed { Health::Bad } else { Health::Plain };
    let sign = format!("{} ", look.sign(health));
    let room = usize::from(area.width).saturating_sub(sign.chars().count()).max(1);
    let mut lines = text::broken(&notice.text, room);
    let most = usize::from(area.height / 2).max(1);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = text::fitted(look, &format!("{last} "), room);
        }
    }
    let height = u16::try_from(lines.len()).unwrap_or(1);
    let area = Rect { y: area.bottom().saturating_sub(height), height, ..area };
    let lines = lines.into_iter().enumerate().map(|(n, line)| {
        let before = if n == 0 { sign.clone() } else { " ".repeat(sign.chars().count()) };
        Line::from(before + &line)
    });
    frame.render_widget(Clear, area);
    let lines = Paragraph::new(lines.collect::<Vec<_>>()).style(look.health(health));
    frame.render_widget(lines, area);
}

fn help(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect, scroll: usize) -> usize {
    let place = place_of_help(state);
    let lines: Vec<Line<'_>> = keys::help(place, state.replay.is_some(), |r| state.can(r))
        .into_iter()
        .map(|(key, what)| {
            let key = in_ascii(key, look);
            Line::from(vec![
                Span::from(format!("  {key:<10}"))
                    .style(ratatui::style::Style::new().add_modifier(Modifier::BOLD)),
                Span::from(what),
            ])
        })
        .collect();
    text::scrolled(look, frame, area, "keys", lines, scroll)
}

/// The name of a key, in characters that the terminal has.
fn in_ascii(key: &str, look: &Look) -> String {
    if !look.ascii {
        return key.to_owned();
    }
    key.replace('↓', "Down").replace('↑', "Up").replace('→', "Right").replace('←', "Left")
}

/// What could be meant by what is written after `:`.
fn suggestions(state: &State, look: &Look, frame: &mut Frame<'_>, body: Rect) {
    let Some(prompt) = state.prompt.as_ref().filter(|p| p.purpose == Purpose::Command) else {
        return;
    };
    let most = usize::from(body.height.saturating_sub(2)).min(10);
    let all = palette::candidates(state, &prompt.text);
    let lines: Vec<Line<'_>> = all
        .iter()
        .take(most)
        .map(|c| {
            Line::from(vec![
                Span::from(format!(" {:<16} ", c.text)),
                Span::from(c.what.clone()).style(look.faint()),
            ])
        })
        .collect();
    if lines.is_empty() {
        return;
    }
    let width = lines.iter().map(Line::width).max().unwrap_or(0) + 3;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(body.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(body.height);
    let area = Rect { x: body.x, y: body.bottom() - height, width, height };
    frame.render_widget(Clear, area);
    frame
        .render_widget(Paragraph::new(lines).block(text::block(look, "Tab takes the first")), area);
}

fn popup(look: &Look, frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    let width = lines.iter().map(Line::width).max().unwrap_or(0) + 4;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let [area] = Layout::horizontal([Constraint::Length(width)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let [area] = Layout::vertical([Constraint::Length(height)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    frame.render_widget(Clear, area);
    let block = text::block(look, title);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

/// A frame with a title, in characters that the terminal has.
fn bordered(look: &Look, title: &str) -> Block<'static> {
    text::block(look, title)
}

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

use crate::keys::{self, Place};
use crate::rows::{self, Health};
use crate::state::{Layer, Link, Purpose, Screen, State};

use self::styles::Look;

/// The smallest screen that anything useful fits on.
pub const SMALLEST: (u16, u16) = (40, 10);

/// Draws everything.
pub fn draw(state: &State, look: &Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (w, h) = SMALLEST;
        let text = format!("too small: {}x{}; {w}x{h} is needed", area.width, area.height);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
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
    match state.layers.last() {
        None => screen(state, look, frame, body),
        Some(Layer::Detail { key, scroll }) => detail::draw(state, look, frame, body, key, *scroll),
        Some(Layer::Yaml { title, text, scroll, .. }) => {
            let (text, style) = match text {
                None => ("asking ..", look.faint()),
                Some(Ok(t)) => (t.as_str(), ratatui::style::Style::new()),
                Some(Err(e)) => (e.as_str(), look.health(Health::Bad)),
            };
            text::page(look, frame, body, &format!("{title} as YAML"), text, style, *scroll);
        }
        Some(Layer::Logs(log)) => logs::draw(log, look, frame, body),
        Some(Layer::Help { scroll }) => help(state, look, frame, body, *scroll),
    }
    footer(state, look, frame, foot);
    if let Some(confirm) = &state.confirm {
        let lines = vec![
            Line::from(rows::clean(&confirm.question)).style(look.heading()),
            Line::from(""),
            Line::from("the command for it:").style(look.faint()),
            Line::from(rows::clean(&confirm.command)),
            Line::from(""),
            Line::from("y to do it, any other key to leave it"),
        ];
        popup(look, frame, body, "are you sure?", lines);
    }
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
        let run = if r.paused { "held" } else { "playing" };
        let text = format!(
            "  {run} {}/{} x{}",
            rows::span(to_i64(r.at)),
            rows::span(to_i64(r.end)),
            r.speed
        );
        spans.push(Span::from(text));
    } else {
        let server = state.hello.as_ref().map_or("", |h| h.server.as_str());
        let text = format!("  {} {}", rows::clean(server), rows::clean(&state.source));
        spans.push(Span::from(text).style(look.faint()));
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
    if state.paused {
        spans.push(Span::from("  HELD").style(look.health(Health::Uncertain)));
    }
    frame.render_widget(Line::from(spans), area);
}

fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn screens(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let mut spans = Vec::new();
    for s in Screen::ALL {
        let count = match s {
            Screen::Nodes => format!(" {}", state.nodes.len()),
            Screen::Pods => format!(" {}", state.pods.len()),
            Screen::Devices => format!(" {}", state.devices.len()),
            _ => String::new(),
        };
        let name = format!("{}{count}", s.name());
        if s == state.screen {
            // Brackets too, for screens without reverse video.
            spans.push(Span::from(format!("[{name}]")).style(look.chosen()));
        } else {
            spans.push(Span::from(format!(" {name} ")));
        }
    }
    if let Some(namespace) = &state.namespace {
        spans.push(Span::from(format!(" ns:{namespace}")).style(look.heading()));
    }
    let filter = &state.table().filter;
    if !filter.is_empty() {
        spans.push(Span::from(format!(" /{filter}")).style(look.heading()));
    }
    frame.render_widget(Line::from(spans), area);
}

fn footer(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    if let Some(prompt) = &state.prompt {
        let sign = match &prompt.purpose {
            Purpose::Filter | Purpose::Search => "/".to_owned(),
            Purpose::Command => ":".to_owned(),
            Purpose::Desired { property, .. } => format!("{} = ", rows::clean(property)),
        };
        let text = format!("{sign}{}", prompt.text);
        let width =
            u16::try_from(unicode_width::UnicodeWidthStr::width(text.as_str())).unwrap_or(0);
        frame.set_cursor_position((area.x + width.min(area.width.saturating_sub(1)), area.y));
        frame.render_widget(Line::from(text), area);
        return;
    }
    if let Some(notice) = &state.notice {
        let health = if notice.failed { Health::Bad } else { Health::Plain };
        let text = format!("{} {}", look.sign(health), notice.text);
        frame.render_widget(Line::from(text).style(look.health(health)), area);
        return;
    }
    let hint = match state.layers.last() {
        None if state.screen.rows().is_some() => {
            "Enter details  / filter  s sort  : go to  ? keys  q leave"
        }
        None => "Tab next screen  : go to  ? keys  q leave",
        Some(Layer::Logs(_)) => "f follow  / search  n next  Esc back",
        Some(_) => "j k scroll  Esc back",
    };
    frame.render_widget(Line::from(hint).style(look.faint()), area);
}

fn help(state: &State, look: &Look, frame: &mut Frame<'_>, area: Rect, scroll: usize) {
    let place = match state.layers.iter().rev().find(|l| !matches!(l, Layer::Help { .. })) {
        None => Place::On(state.screen),
        Some(Layer::Logs(_)) => Place::Log,
        Some(_) => Place::Reading,
    };
    let lines: Vec<Line<'_>> = keys::help(place, state.replay.is_some())
        .into_iter()
        .map(|(key, what)| {
            let key = if look.ascii {
                key.replace('↓', "Down")
                    .replace('↑', "Up")
                    .replace('→', "Right")
                    .replace('←', "Left")
            } else {
                key.to_owned()
            };
            Line::from(vec![
                Span::from(format!("  {key:<10}"))
                    .style(ratatui::style::Style::new().add_modifier(Modifier::BOLD)),
                Span::from(what),
            ])
        })
        .collect();
    text::scrolled(look, frame, area, "keys", lines, scroll);
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

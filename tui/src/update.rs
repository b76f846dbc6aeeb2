//! (State, Event) to Effects: the only place that changes the state. Pure.
//!
//! [`prompt`] has the line that the user writes, [`ask`] what the server is asked for, [`scroll`] the
//! ways up and down; the rest is here.

mod ask;
mod prompt;
mod scroll;

use std::time::Duration;

use api::status::row::{Millis, RowKey};
use api::status::stream::{Hello, Request, ToReader, VERSION};
use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use self::ask::{ask, edit, open_logs, open_yaml};
use self::prompt::{LONGEST, prompt_key, written};
use self::scroll::{hit, scroll, sideways};
use crate::keys::{self, Action, Place};
use crate::state::{Layer, Link, Logs, Prompt, Purpose, Replay, Screen, State};

/// Clocks that differ by less are not worth a word, in milliseconds.
const CLOCK: Millis = 5_000;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// The terminal has another size.
    Resize {
        /// Columns.
        width: u16,
        /// Lines.
        height: u16,
    },
    /// Text was pasted.
    Paste(String),
    /// Our clock.
    Clock(Millis),
    /// A second has passed.
    Second,
    /// A message of the stream.
    Message(Box<ToReader>),
    /// The stream is lost.
    Lost {
        /// Why.
        why: String,
        /// How long nothing had come when that was noticed.
        silence: Duration,
    },
    /// What follows comes from somewhere else.
    Source {
        /// Where from.
        name: String,
        /// Whether that knows of links, queues and messages.
        knows_links: bool,
    },
    /// The screen has been drawn; how far what lies on top can be scrolled.
    Drawn {
        /// So many lines.
        furthest: usize,
    },
    /// Where a replay stands.
    Replay(Replay),
    /// A recording could not be written.
    RecordFailed(String),
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Ask the server.
    Request {
        /// Named by the answer.
        id: u64,
        /// What.
        request: Request,
    },
    /// Let go of a request.
    Stop(u64),
    /// Show messages of the flow, or not.
    Flow(bool),
    /// Keep what nodes and pods use up to date.
    Usage,
    /// Put text on the clipboard.
    Copy(String),
    /// Steer a replay.
    Steer(Steer),
}

/// How to steer a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Steer {
    /// Stand still, or go on.
    Pause,
    /// One message further.
    Step,
    /// So many times as fast as now.
    Speed(f64),
    /// By so many milliseconds.
    Seek(i64),
}

/// Takes in an event.
pub fn update(state: &mut State, event: Event) -> Vec<Effect> {
    let effects = react(state, event);
    state.refresh();
    effects
}

fn react(state: &mut State, event: Event) -> Vec<Effect> {
    match event {
        Event::Clock(now) => {
            if let Some(replay) = state.replay {
                // The clock of a recording goes as fast as it is played.
                let speed = if replay.paused { 0.0 } else { replay.speed };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "milliseconds between two events"
                )]
                let ahead = ((now - state.now) as f64 * (speed - 1.0)) as i64;
                state.skew += ahead;
            }
            state.now = now;
            Vec::new()
        }
        Event::Second => {
            state.second();
            Vec::new()
        }
        Event::Resize { width, height } => {
            state.columns = width;
            // Header, screens, foot and the headings of a table are above and below the rows.
            state.page = usize::from(height.saturating_sub(4)).max(1);
            state.dirty = true;
            Vec::new()
        }
        Event::Paste(text) => {
            if let Some(mut prompt) = state.prompt.take() {
                let room = LONGEST.saturating_sub(prompt.text.len());
                let text = text.chars().filter(|c| !c.is_control());
                prompt.text.extend(text.take(room));
                written(state, prompt);
            }
            Vec::new()
        }
        Event::Message(message) => message_came(state, *message),
        Event::Lost { why, silence } => {
            if !matches!(state.link, Link::Lost { .. }) {
                let silence = Millis::try_from(silence.as_millis()).unwrap_or_default();
                let since = state.now - silence;
                state.link = Link::Lost { since, why: crate::rows::clean(&why) };
            } else if let Link::Lost { why: old, .. } = &mut state.link {
                *old = crate::rows::clean(&why);
            }
            state.dirty = true;
            Vec::new()
        }
        Event::Source { name, knows_links } => {
            state.say(format!("from here on this comes from {name}"), false);
            (state.source, state.knows_links) = (name, knows_links);
            Vec::new()
        }
        Event::Drawn { furthest } => {
            state.furthest = furthest;
            Vec::new()
        }
        Event::Replay(replay) => {
            state.replay = Some(replay);
            state.dirty = true;
            Vec::new()
        }
        Event::RecordFailed(why) => {
            state.say(format!("the recording has ended: {why}"), true);
            Vec::new()
        }
        Event::Mouse(mouse) => mouse_did(state, mouse),
        Event::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
        Event::Key(key) => {
            state.dirty = true;
            key_pressed(state, key)
        }
    }
}

fn message_came(state: &mut State, message: ToReader) -> Vec<Effect> {
    match message {
        ToReader::Hello(hello) => {
            state.skew = hello.now.saturating_sub(state.now);
            state.link = Link::Live;
            greet(state, &hello);
            state.hello = Some(hello);
            state.loading = true;
            state.dirty = true;
            return vec![Effect::Flow(state.screen == Screen::Flow), Effect::Usage];
        }
        ToReader::Update(update) => state.apply(*update),
        ToReader::Log(log) => {
            for layer in &mut state.layers {
                if let Layer::Logs(logs) = layer
                    && logs.id == log.id
                {
                    logs.push(log.lines);
                    state.dirty = true;
                    break;
                }
            }
        }
        ToReader::Done(done) => request_done(state, done),
        ToReader::Unknown => {}
    }
    Vec::new()
}

/// What the user must know about who serves, before believing what is shown.
fn greet(state: &mut State, hello: &Hello) {
    // A recording is of another time.
    let skew = if state.replay.is_some() { 0 } else { state.skew };
    if hello.version > VERSION {
        let text = format!(
            "the server speaks version {} of the stream, this program {VERSION}: what is new in it is not shown",
            hello.version
        );
        state.say(text, true);
    } else if skew.abs() >= CLOCK {
        let way = if skew > 0 { "ahead of" } else { "behind" };
        let by = crate::rows::span(skew.abs());
        state
            .say(format!("the server's clock is {by} {way} this one; ages are by its clock"), true);
    }
}

fn request_done(state: &mut State, done: api::status::stream::Done) {
    // Of an older server, to what is no request.
    if done.id == 0 {
        return;
    }
    state.dirty = true;
    for layer in &mut state.layers {
        match layer {
            Layer::Logs(logs) if logs.id == done.id => {
                logs.ended = Some(crate::rows::clean(&done.error));
                return;
            }
            Layer::Yaml { id, text, .. } if *id == done.id => {
                *text = Some(if done.error.is_empty() { Ok(done.text) } else { Err(done.error) });
                return;
            }
            _ => {}
        }
    }
    if !done.error.is_empty() {
        state.say(done.error, true);
    } else if !done.text.is_empty() {
        state.say(done.text, false);
    }
}

fn mouse_did(state: &mut State, mouse: MouseEvent) -> Vec<Effect> {
    let action = match mouse.kind {
        MouseEventKind::ScrollDown => Action::Down(3),
        MouseEventKind::ScrollUp => Action::Down(-3),
        MouseEventKind::Down(MouseButton::Left) => return clicked(state, mouse.column, mouse.row),
        _ => return Vec::new(),
    };
    state.dirty = true;
    act(state, action)
}

/// On a tab: goes there. On a row: chooses it, and opens it if it is chosen already.
fn clicked(state: &mut State, column: u16, row: u16) -> Vec<Effect> {
    if state.confirm.is_some() || state.prompt.is_some() {
        return Vec::new();
    }
    state.dirty = true;
    if row == 1 {
        let mut left = usize::from(column);
        for (screen, tab) in state.tabs(state.columns) {
            if left < tab.len() {
                return go(state, screen);
            }
            left -= tab.len();
        }
        return Vec::new();
    }
    // Above the rows are the header, the tabs and the headings.
    let Some(line) = usize::from(row).checked_sub(3).filter(|line| *line < state.page) else {
        return Vec::new();
    };
    let at = state.table().first + line;
    if state.layers.is_empty() && state.screen.rows().is_some() && at < state.order.len() {
        if state.table().position(&state.order) == Some(at) && state.table().chosen.is_some() {
            return act(state, Action::Open);
        }
        let order = std::mem::take(&mut state.order);
        state.table_mut().choose(&order, at);
        state.order = order;
    }
    Vec::new()
}

/// Where the next key is pressed.
pub fn place(state: &State) -> Place {
    place_below(state, state.layers.last())
}

/// Where keys are pressed that are not for the help.
pub fn place_of_help(state: &State) -> Place {
    place_below(state, state.layers.iter().rev().find(|l| !matches!(l, Layer::Help { .. })))
}

fn place_below(state: &State, layer: Option<&Layer>) -> Place {
    match layer {
        None => Place::On(state.screen),
        Some(Layer::Logs(_)) => Place::Log,
        Some(Layer::Detail { .. }) => Place::Detail(state.screen),
        Some(_) => Place::Reading,
    }
}

fn key_pressed(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return vec![Effect::Quit];
    }
    if let Some(confirm) = state.confirm.take() {
        return match key.code {
            KeyCode::Char('y' | 'Y') => {
                state.last_request += 1;
                vec![Effect::Request { id: state.last_request, request: confirm.request }]
            }
            _ => {
                state.say("nothing was changed", false);
                Vec::new()
            }
        };
    }
    if state.prompt.is_some() {
        return prompt_key(state, key);
    }
    match keys::lookup(key, place(state), state.replay.is_some()) {
        Some(action) => act(state, action),
        None => Vec::new(),
    }
}

fn go(state: &mut State, screen: Screen) -> Vec<Effect> {
    let flow = (state.screen == Screen::Flow, screen == Screen::Flow);
    let effects = close_layers(state);
    state.screen = screen;
    let mut effects = effects;
    if flow.0 != flow.1 {
        effects.push(Effect::Flow(flow.1));
    }
    effects
}

fn close_layers(state: &mut State) -> Vec<Effect> {
    let mut effects = Vec::new();
    for layer in state.layers.drain(..) {
        if let Layer::Logs(Logs { id, ended: None, .. }) = layer {
            effects.push(Effect::Stop(id));
        }
    }
    effects
}

fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::Quit => return vec![Effect::Quit],
        Action::Back => return back(state),
        Action::Close => return close(state),
        Action::Go(screen) => return go(state, screen),
        Action::Next => return turn(state, 1),
        Action::Previous => return turn(state, Screen::ALL.len() - 1),
        Action::Down(by) => scroll(state, by),
        Action::Page(by) => {
            let page = isize::try_from(state.page).unwrap_or(20);
            scroll(state, by * page.saturating_sub(1).max(1));
        }
        Action::Top => scroll(state, isize::MIN / 2),
        Action::Bottom => scroll(state, isize::MAX / 2),
        Action::Open => {
            if let Some(key) = chosen(state) {
                state.table_mut().chosen = Some(key.key.clone());
                state.layers.push(Layer::Detail { key, scroll: 0 });
            }
        }
        Action::Help => {
            if matches!(state.layers.last(), Some(Layer::Help { .. })) {
                state.layers.pop();
            } else {
                state.layers.push(Layer::Help { scroll: 0 });
            }
        }
        Action::Filter => {
            let text = state.table().filter.clone();
            state.prompt = Some(Prompt { purpose: Purpose::Filter, text });
        }
        Action::Command => {
            state.prompt = Some(Prompt { purpose: Purpose::Command, text: String::new() });
        }
        Action::Search => {
            state.prompt = Some(Prompt { purpose: Purpose::Search, text: String::new() });
        }
        Action::NextHit => hit(state, true),
        Action::PreviousHit => hit(state, false),
        Action::SortNext => {
            let columns = crate::columns::columns(state.screen).len();
            let table = state.table_mut();
            let next = (table.sort.column + 1) % columns.max(1);
            table.sort_by(next);
        }
        Action::SortReverse => {
            let table = state.table_mut();
            table.sort_by(table.sort.column);
        }
        Action::Wide => state.wide = !state.wide,
        Action::Pause if state.replay.is_some() => return vec![Effect::Steer(Steer::Pause)],
        Action::Pause => state.hold(),
        Action::Follow => {
            if let Some(Layer::Logs(logs)) = state.layers.last_mut() {
                logs.follow = !logs.follow;
            }
        }
        Action::Sideways(by) => sideways(state, by),
        Action::Step => return vec![Effect::Steer(Steer::Step)],
        Action::Faster => return vec![Effect::Steer(Steer::Speed(2.0))],
        Action::Slower => return vec![Effect::Steer(Steer::Speed(0.5))],
        Action::Forward => return vec![Effect::Steer(Steer::Seek(5_000))],
        Action::Rewind => return vec![Effect::Steer(Steer::Seek(-5_000))],
        Action::Namespace(n) => namespace(state, n),
        Action::Logs => return open_logs(state),
        Action::Yaml => return open_yaml(state),
        Action::Copy => {
            if let Some(key) = chosen(state) {
                state.say(format!("copied {}", key.key), false);
                return vec![Effect::Copy(key.key)];
            }
        }
        Action::Delete | Action::Restart | Action::Cordon | Action::Drain | Action::Confirm => {
            ask(state, action)
        }
        Action::Edit => edit(state),
    }
    Vec::new()
}

fn back(state: &mut State) -> Vec<Effect> {
    match state.layers.pop() {
        Some(Layer::Logs(Logs { id, ended: None, .. })) => vec![Effect::Stop(id)],
        Some(_) => Vec::new(),
        None if !state.table().filter.is_empty() => {
            state.table_mut().filter.clear();
            Vec::new()
        }
        // Who presses it once too often stays.
        None => {
            state.say("q leaves the dashboard", false);
            Vec::new()
        }
    }
}

fn close(state: &mut State) -> Vec<Effect> {
    if state.layers.is_empty() && state.table().filter.is_empty() {
        return vec![Effect::Quit];
    }
    back(state)
}

fn turn(state: &mut State, by: usize) -> Vec<Effect> {
    let at = Screen::ALL.iter().position(|s| *s == state.screen).unwrap_or(0);
    go(state, Screen::ALL[(at + by) % Screen::ALL.len()])
}

fn namespace(state: &mut State, n: u8) {
    let wanted = state.namespaces().get(usize::from(n).wrapping_sub(1)).map(|s| (*s).to_owned());
    match (n, wanted) {
        (0, _) => state.namespace = None,
        (_, Some(name)) => state.namespace = Some(name),
        (_, None) => state.say(format!("there is no namespace number {n}"), true),
    }
}

/// The chosen row of the present table.
pub fn chosen(state: &State) -> Option<RowKey> {
    let detail = |layer: &Layer| match layer {
        Layer::Detail { key, .. } => Some(key.clone()),
        _ => None,
    };
    if let Some(key) = state.layers.iter().rev().find_map(detail) {
        return Some(key);
    }
    let kind = state.screen.rows()?;
    let at = state.table().position(&state.order)?;
    Some(RowKey { kind, key: state.order.key(at)?.to_owned() })
}

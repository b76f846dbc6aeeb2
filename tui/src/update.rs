//! (State, Event) to Effects: the only place that changes the state. Pure.

use api::status::row::{Millis, RowKey, RowKind};
use api::status::stream::{Hello, Request, ToReader, VERSION};
use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use crate::keys::{self, Action, Place};
use crate::palette;
use crate::state::{Confirm, Layer, Link, Logs, Prompt, Purpose, Replay, Screen, State};

/// Lines of a log that are asked for first.
const LOG_TAIL: u32 = 1000;
/// A line that the user writes has about so many bytes.
const PROMPT: usize = 256;
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
    Lost(String),
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
    /// Times real time.
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
        Event::Resize { height } => {
            // Header, screens, foot and the headings of a table are above and below the rows.
            state.page = usize::from(height.saturating_sub(4)).max(1);
            state.dirty = true;
            Vec::new()
        }
        Event::Paste(text) => {
            if let Some(mut prompt) = state.prompt.take() {
                let room = PROMPT.saturating_sub(prompt.text.len());
                let text = text.chars().filter(|c| !c.is_control());
                prompt.text.extend(text.take(room));
                written(state, prompt);
            }
            Vec::new()
        }
        Event::Message(message) => message_came(state, *message),
        Event::Lost(why) => {
            if !matches!(state.link, Link::Lost { .. }) {
                state.link = Link::Lost { since: state.now, why: crate::rows::clean(&why) };
            } else if let Link::Lost { why: old, .. } = &mut state.link {
                *old = crate::rows::clean(&why);
            }
            state.dirty = true;
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
            return vec![Effect::Flow(state.screen == Screen::Flow)];
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
        for screen in Screen::ALL {
            // A space or a bracket on each side.
            let width = state.tab(screen).len() + 2;
            if left < width {
                return go(state, screen);
            }
            left -= width;
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

fn prompt_key(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    let Some(mut prompt) = state.prompt.take() else { return Vec::new() };
    match key.code {
        KeyCode::Esc => {
            if prompt.purpose == Purpose::Filter {
                state.table_mut().filter.clear();
            }
            return Vec::new();
        }
        KeyCode::Enter => return prompt_done(state, prompt),
        KeyCode::Backspace if prompt.text.is_empty() => return Vec::new(),
        KeyCode::Backspace => {
            prompt.text.pop();
        }
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => prompt.text.clear(),
        KeyCode::Tab => match &prompt.purpose {
            Purpose::Command => {
                if let Some(first) = palette::candidates(state, &prompt.text).into_iter().next() {
                    prompt.text = first.text;
                }
            }
            Purpose::Desired { device } => prompt.text = next_property(state, device, &prompt.text),
            _ => {}
        },
        KeyCode::Char(c) if !c.is_control() && prompt.text.len() < PROMPT => prompt.text.push(c),
        _ => {}
    }
    written(state, prompt);
    Vec::new()
}

/// The line has another text: what shows it at once is brought up to date.
fn written(state: &mut State, prompt: Prompt) {
    state.dirty = true;
    match prompt.purpose {
        Purpose::Filter => state.table_mut().filter.clone_from(&prompt.text),
        Purpose::Search => {
            if let Some(Layer::Logs(logs)) = state.layers.last_mut() {
                logs.search.clone_from(&prompt.text);
                logs.hit = None;
            }
        }
        _ => {}
    }
    state.prompt = Some(prompt);
}

fn prompt_done(state: &mut State, prompt: Prompt) -> Vec<Effect> {
    match prompt.purpose {
        Purpose::Filter => Vec::new(),
        Purpose::Search => {
            hit(state, true);
            Vec::new()
        }
        Purpose::Command => command(state, prompt.text.trim()),
        Purpose::Desired { device } => {
            let Some((namespace, name)) = device.key.split_once('/') else { return Vec::new() };
            let known = state.devices.get(&device.key).map(|e| &e.row.twins);
            let has =
                |property: &str| known.is_some_and(|t| t.iter().any(|t| t.property == property));
            let Some((property, value)) = prompt.text.split_once('=').filter(|(p, _)| has(p))
            else {
                state.say("write PROPERTY=VALUE; Tab shows the properties", true);
                return Vec::new();
            };
            let (property, value) = (property.to_owned(), value.to_owned());
            state.confirm = Some(Confirm {
                question: format!("set {property} of device {} to {value}?", device.key),
                command: format!("keadm device set -n {namespace} {name} {property}={value}"),
                request: Request::SetDesired {
                    namespace: namespace.to_owned(),
                    device: name.to_owned(),
                    property,
                    value,
                },
            });
            Vec::new()
        }
    }
}

/// A line of the palette.
fn command(state: &mut State, text: &str) -> Vec<Effect> {
    use palette::Command;
    match palette::parse(state, text) {
        Ok(None) => Vec::new(),
        Ok(Some(Command::Go(screen))) => go(state, screen),
        Ok(Some(Command::Do(action))) => act(state, action),
        Ok(Some(Command::Namespace(namespace))) => {
            state.namespace = namespace;
            Vec::new()
        }
        Ok(Some(Command::Sort(column))) => {
            state.table_mut().sort_by(column);
            Vec::new()
        }
        Err(why) => {
            state.say(why, true);
            Vec::new()
        }
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
        Action::Step => return vec![Effect::Steer(Steer::Step)],
        Action::Faster => return speed(state, 2.0),
        Action::Slower => return speed(state, 0.5),
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
        Action::Delete | Action::Restart | Action::Cordon | Action::Drain => ask(state, action),
        Action::Edit => edit(state),
    }
    Vec::new()
}

fn speed(state: &State, times: f64) -> Vec<Effect> {
    let now = state.replay.map_or(1.0, |r| r.speed);
    vec![Effect::Steer(Steer::Speed((now * times).clamp(0.125, 64.0)))]
}

fn back(state: &mut State) -> Vec<Effect> {
    match state.layers.pop() {
        Some(Layer::Logs(Logs { id, ended: None, .. })) => vec![Effect::Stop(id)],
        Some(_) => Vec::new(),
        None if !state.table().filter.is_empty() => {
            state.table_mut().filter.clear();
            Vec::new()
        }
        None => vec![Effect::Quit],
    }
}

fn turn(state: &mut State, by: usize) -> Vec<Effect> {
    let at = Screen::ALL.iter().position(|s| *s == state.screen).unwrap_or(0);
    go(state, Screen::ALL[(at + by) % Screen::ALL.len()])
}

fn scroll(state: &mut State, by: isize) {
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
fn hit(state: &mut State, forward: bool) {
    let page = state.page.saturating_sub(1).max(1);
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
        }
        None => {
            let text = format!("`{}` not found", logs.search);
            state.say(text, true);
        }
    }
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

fn split(key: &RowKey) -> (String, String) {
    let (namespace, name) = key.key.split_once('/').unwrap_or(("", &key.key));
    (namespace.to_owned(), name.to_owned())
}

fn refuse(state: &mut State, what: &str) {
    let server = state.hello.as_ref().map_or("nobody", |h| h.server.as_str()).to_owned();
    state.say(format!("{what} is not possible here: {server} serves this stream"), true);
}

fn open_logs(state: &mut State) -> Vec<Effect> {
    let Some(key) = chosen(state) else { return Vec::new() };
    if !state.can("logs") {
        refuse(state, "reading logs");
        return Vec::new();
    }
    let (namespace, pod) = split(&key);
    state.last_request += 1;
    let id = state.last_request;
    state.layers.push(Layer::Logs(Logs { id, title: key.key, follow: true, ..Logs::default() }));
    let request = Request::Logs {
        namespace,
        pod,
        container: String::new(),
        follow: true,
        tail: Some(LOG_TAIL),
    };
    vec![Effect::Request { id, request }]
}

fn open_yaml(state: &mut State) -> Vec<Effect> {
    let Some(key) = chosen(state) else { return Vec::new() };
    if !state.can("yaml") {
        refuse(state, "showing YAML");
        return Vec::new();
    }
    state.last_request += 1;
    let id = state.last_request;
    state.layers.push(Layer::Yaml { id, title: key.key.clone(), text: None, scroll: 0 });
    vec![Effect::Request { id, request: Request::Yaml { key } }]
}

fn ask(state: &mut State, action: Action) {
    let Some(key) = chosen(state) else { return };
    let (namespace, name) = split(&key);
    let (verb, question, command, request) = match action {
        Action::Delete => (
            "deletePod",
            format!("delete pod {}?", key.key),
            format!("kubectl delete pod -n {namespace} {name}"),
            Request::DeletePod { namespace, pod: name },
        ),
        Action::Restart => (
            "restartPod",
            format!("restart the containers of pod {}?", key.key),
            format!("keadm ctl restart pod -n {namespace} {name}"),
            Request::RestartPod { namespace, pod: name },
        ),
        Action::Drain => (
            "drain",
            format!("drain node {name}: let no new pods onto it and evict those on it?"),
            format!("kubectl drain {name} --ignore-daemonsets"),
            Request::Drain { node: name },
        ),
        _ => {
            let on = !state.nodes.get(&key.key).is_some_and(|e| e.row.cordoned);
            let verb = if on { "cordon" } else { "uncordon" };
            (
                "cordon",
                format!("{verb} node {name}?"),
                format!("kubectl {verb} {name}"),
                Request::Cordon { node: name, on },
            )
        }
    };
    if state.can(verb) {
        state.confirm = Some(Confirm { question, command, request });
    } else {
        let doing = match action {
            Action::Delete => "deleting a pod",
            Action::Restart => "restarting a pod",
            Action::Drain => "draining a node",
            _ => "cordoning a node",
        };
        refuse(state, doing);
    }
}

fn edit(state: &mut State) {
    let Some(key) = chosen(state) else { return };
    if key.kind != RowKind::Device {
        return;
    }
    if !state.can("setDesired") {
        refuse(state, "setting desired values");
        return;
    }
    let text = next_property(state, &key, "");
    if text.is_empty() {
        state.say("this device has no property that the cloud sets", true);
    } else {
        state.prompt = Some(Prompt { text, purpose: Purpose::Desired { device: key } });
    }
}

/// `property=desired` of the property after the one that is written; those that have a desired value
/// come first. Empty if there is none.
fn next_property(state: &State, device: &RowKey, written: &str) -> String {
    let Some(entry) = state.devices.get(&device.key) else { return String::new() };
    let mut twins: Vec<_> = entry.row.twins.iter().collect();
    twins.sort_by_key(|t| t.desired.is_none());
    let now = written.split('=').next().unwrap_or_default();
    let at = twins.iter().position(|t| t.property == now);
    let next = at.map_or(0, |at| (at + 1) % twins.len().max(1));
    twins.get(next).map_or_else(String::new, |t| {
        format!("{}={}", t.property, t.desired.as_deref().unwrap_or_default())
    })
}

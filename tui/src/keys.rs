//! Key to action, per place. The help screen is made from this table.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::state::Screen;

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave the topmost layer, or clear the filter.
    Back,
    /// The same, and where there is nothing to go back from, leave the dashboard.
    Close,
    /// Leave the dashboard.
    Quit,
    /// To a screen.
    Go(Screen),
    /// To the next screen.
    Next,
    /// To the one before.
    Previous,
    /// So many lines down.
    Down(isize),
    /// A page down, or up with -1.
    Page(isize),
    /// To what a log has beside the screen: so many halves of a screen.
    Sideways(isize),
    /// To the first line.
    Top,
    /// To the last line.
    Bottom,
    /// Details of the chosen row.
    Open,
    /// Its log.
    Logs,
    /// Its YAML.
    Yaml,
    /// Write a filter.
    Filter,
    /// Write a command.
    Command,
    /// Search in a log.
    Search,
    /// The next hit.
    NextHit,
    /// The hit before.
    PreviousHit,
    /// Sort by the next column.
    SortNext,
    /// Turn the order round.
    SortReverse,
    /// More columns.
    Wide,
    /// Hold the screen still, or a replay.
    Pause,
    /// Follow a log.
    Follow,
    /// One message further in a replay.
    Step,
    /// Faster.
    Faster,
    /// Slower.
    Slower,
    /// Five seconds forward.
    Forward,
    /// Five seconds back.
    Rewind,
    /// Delete the pod.
    Delete,
    /// Restart the pod.
    Restart,
    /// Cordon the node, or the reverse.
    Cordon,
    /// Drain the node.
    Drain,
    /// Let the node's upgrade go on.
    Confirm,
    /// Edit a desired value.
    Edit,
    /// Copy the name.
    Copy,
    /// Namespace number.
    Namespace(u8),
    /// The keys.
    Help,
}

/// Where a key is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On a screen.
    On(Screen),
    /// In the details of a row of a screen.
    Detail(Screen),
    /// In YAML or help.
    Reading,
    /// In a log.
    Log,
}

/// When a line of the table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Tables,
    Rows,
    Row,
    Only(Screen),
    Log,
    /// In a log, unless the arrows steer a replay.
    Sideways,
    Replay,
}

struct Binding {
    keys: &'static [KeyCode],
    shown: &'static str,
    what: &'static str,
    when: When,
    action: Action,
}

const fn bind(
    keys: &'static [KeyCode],
    shown: &'static str,
    what: &'static str,
    when: When,
    action: Action,
) -> Binding {
    Binding { keys, shown, what, when, action }
}

use KeyCode::{BackTab, Char, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up};

const TABLE: &[Binding] = &[
    bind(&[Char('j'), Down], "j ↓", "down", When::Always, Action::Down(1)),
    bind(&[Char('k'), Up], "k ↑", "up", When::Always, Action::Down(-1)),
    bind(&[PageDown], "PgDn ^F", "page down", When::Always, Action::Page(1)),
    bind(&[PageUp], "PgUp ^B", "page up", When::Always, Action::Page(-1)),
    bind(&[Char('g'), Home], "g", "first line", When::Always, Action::Top),
    bind(&[Char('G'), End], "G", "last line", When::Always, Action::Bottom),
    bind(&[Tab], "Tab", "next screen", When::Always, Action::Next),
    bind(&[BackTab], "S-Tab", "screen before", When::Always, Action::Previous),
    bind(&[Enter, Char('d')], "Enter d", "details", When::Rows, Action::Open),
    bind(&[Esc], "Esc", "back; clear the filter", When::Always, Action::Back),
    bind(&[Char('q')], "q", "back; leave", When::Always, Action::Close),
    bind(&[Char('/')], "/", "filter, -l a=b for labels", When::Tables, Action::Filter),
    bind(
        &[Char(':')],
        ":",
        "go to: nodes pods devices flow events q",
        When::Always,
        Action::Command,
    ),
    bind(&[Char('?')], "?", "these keys", When::Always, Action::Help),
    bind(&[Char('s')], "s", "sort by the next column", When::Rows, Action::SortNext),
    bind(&[Char('S')], "S", "turn the order round", When::Rows, Action::SortReverse),
    bind(&[Char('w')], "w", "more columns", When::Rows, Action::Wide),
    bind(&[Char(' ')], "Space", "hold the screen still", When::Always, Action::Pause),
    bind(&[Char('y')], "y", "YAML", When::Row, Action::Yaml),
    bind(&[Char('c')], "c", "copy the name", When::Row, Action::Copy),
    bind(&[Char('l')], "l", "log", When::Only(Screen::Pods), Action::Logs),
    bind(&[Char('x')], "x", "delete the pod", When::Only(Screen::Pods), Action::Delete),
    bind(&[Char('r')], "r", "restart the pod", When::Only(Screen::Pods), Action::Restart),
    bind(&[Char('o')], "o", "cordon, uncordon", When::Only(Screen::Nodes), Action::Cordon),
    bind(&[Char('D')], "D", "drain", When::Only(Screen::Nodes), Action::Drain),
    bind(&[Char('u')], "u", "confirm the upgrade", When::Only(Screen::Nodes), Action::Confirm),
    bind(&[Char('e')], "e", "set a desired value", When::Only(Screen::Devices), Action::Edit),
    bind(&[Char('f')], "f", "follow", When::Log, Action::Follow),
    bind(&[Char('/')], "/", "search", When::Log, Action::Search),
    bind(&[Char('n')], "n", "next hit", When::Log, Action::NextHit),
    bind(&[Char('N')], "N", "hit before", When::Log, Action::PreviousHit),
    bind(&[Char('l'), Right], "l →", "what is right of it", When::Sideways, Action::Sideways(1)),
    bind(&[Char('h'), Left], "h ←", "what is left of it", When::Sideways, Action::Sideways(-1)),
    bind(&[Char('$')], "$", "ends of lines", When::Sideways, Action::Sideways(isize::MAX)),
    bind(&[Char('0')], "0", "beginnings of lines", When::Sideways, Action::Sideways(isize::MIN)),
    bind(&[Char('.')], ".", "replay: one message", When::Replay, Action::Step),
    bind(&[Char('+')], "+", "replay: faster", When::Replay, Action::Faster),
    bind(&[Char('-')], "-", "replay: slower", When::Replay, Action::Slower),
    bind(&[Right], "→", "replay: 5 s forward", When::Replay, Action::Forward),
    bind(&[Left], "←", "replay: 5 s back", When::Replay, Action::Rewind),
];

fn holds(when: When, place: Place, replay: bool) -> bool {
    match (when, place) {
        (When::Always, _) => true,
        (When::Tables, Place::On(s)) => s != Screen::Overview,
        (When::Rows | When::Row, Place::On(s)) => s.rows().is_some(),
        (When::Row, Place::Detail(_)) => true,
        (When::Only(screen), Place::On(s) | Place::Detail(s)) => s == screen,
        (When::Log, Place::Log) => true,
        (When::Sideways, Place::Log) => !replay,
        (When::Replay, _) => replay,
        _ => false,
    }
}

/// What a key does at a place.
pub fn lookup(key: KeyEvent, place: Place, replay: bool) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            Char('c') => Some(Action::Quit),
            Char('f') => Some(Action::Page(1)),
            Char('b') => Some(Action::Page(-1)),
            Char('d') => Some(Action::Down(10)),
            Char('u') => Some(Action::Down(-10)),
            _ => None,
        };
    }
    if let (Char(c @ '0'..='9'), Place::On(_)) = (key.code, place) {
        return Some(Action::Namespace(c as u8 - b'0'));
    }
    TABLE
        .iter()
        .find(|b| holds(b.when, place, replay) && b.keys.contains(&key.code))
        .map(|b| b.action)
}

/// What the server must answer for an action to make sense.
fn needs(action: Action) -> Option<&'static str> {
    Some(match action {
        Action::Logs => "logs",
        Action::Yaml => "yaml",
        Action::Delete => "deletePod",
        Action::Restart => "restartPod",
        Action::Cordon => "cordon",
        Action::Drain => "drain",
        Action::Confirm => "confirmUpgrade",
        Action::Edit => "setDesired",
        _ => return None,
    })
}

fn bindings(
    place: Place,
    replay: bool,
    can: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'static Binding> {
    TABLE.iter().filter(move |b| holds(b.when, place, replay) && needs(b.action).is_none_or(&can))
}

/// What an action does at a place; `None` if it does nothing there.
pub fn means(
    action: Action,
    place: Place,
    replay: bool,
    can: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    if action == Action::Quit {
        return Some("leave");
    }
    bindings(place, replay, can).find(|b| b.action == action).map(|b| b.what)
}

/// The keys of a place and what they do, for the help screen. Those that the server would refuse
/// are left out.
pub fn help(
    place: Place,
    replay: bool,
    can: impl Fn(&str) -> bool,
) -> Vec<(&'static str, &'static str)> {
    let mut lines: Vec<_> = bindings(place, replay, can).map(|b| (b.shown, b.what)).collect();
    if matches!(place, Place::On(_)) {
        lines.push(("1-9", "only that namespace; 0 for all"));
    }
    lines.push(("^C", "leave"));
    lines
}

/// The keys for the foot of the screen: what is special about the place, then the way on.
pub fn hints(place: Place, replay: bool, can: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let short = |b: &Binding| {
        let what = b.what.split([',', ':', ';']).next().unwrap_or(b.what);
        let what = b.what.strip_prefix("replay: ").unwrap_or(what);
        (b.shown.to_owned(), what.to_owned())
    };
    let special = |b: &&Binding| !matches!(b.when, When::Always | When::Sideways);
    let mut hints: Vec<_> = bindings(place, replay, &can).filter(special).map(short).collect();
    let rest: &[(&str, &str)] = match place {
        Place::On(_) => &[(":", "go to"), ("?", "keys"), ("q", "leave")],
        Place::Log if !replay => &[("h j k l", "scroll"), ("Esc", "back"), ("?", "keys")],
        _ => &[("j k", "scroll"), ("Esc", "back"), ("?", "keys")],
    };
    hints.extend(rest.iter().map(|(key, what)| ((*key).to_owned(), (*what).to_owned())));
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(c: char) -> KeyEvent {
        KeyEvent::new(Char(c), KeyModifiers::NONE)
    }

    #[test]
    fn a_key_does_one_thing_at_a_place() {
        let places =
            [Place::Reading, Place::Log].into_iter().chain(Screen::ALL.into_iter().map(Place::On));
        let places = places.chain(Screen::ALL.into_iter().map(Place::Detail));
        for place in places {
            for replay in [false, true] {
                let mut seen = Vec::new();
                for b in TABLE.iter().filter(|b| holds(b.when, place, replay)) {
                    for k in b.keys {
                        assert!(!seen.contains(k), "{k:?} twice at {place:?}");
                        seen.push(*k);
                    }
                }
            }
        }
    }

    #[test]
    fn verbs_hold_only_where_their_rows_are() {
        let on = |s| lookup(key('x'), Place::On(s), false);
        assert_eq!(on(Screen::Pods), Some(Action::Delete));
        assert_eq!(on(Screen::Nodes), None);
        let detail = lookup(key('x'), Place::Detail(Screen::Pods), false);
        assert_eq!(detail, Some(Action::Delete), "in its details too");
        assert_eq!(lookup(key('3'), Place::On(Screen::Pods), false), Some(Action::Namespace(3)));
        assert_eq!(lookup(key('3'), Place::Log, false), None);
    }

    #[test]
    fn the_key_that_describes_in_k9s_deletes_nothing() {
        for screen in [Screen::Nodes, Screen::Pods, Screen::Devices] {
            assert_eq!(lookup(key('d'), Place::On(screen), false), Some(Action::Open));
            assert_eq!(lookup(key('d'), Place::Detail(screen), false), None);
        }
    }
}

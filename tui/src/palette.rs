//! What can be written after `:`. Pure.

use crate::keys::{self, Action};
use crate::rows::clean;
use crate::state::{Screen, State};

/// What a line of the palette means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// To a screen.
    Go(Screen),
    /// To a screen, and only that namespace there, or all.
    GoIn(Screen, Option<String>),
    /// What a key does, too.
    Do(Action),
    /// Only that namespace, or all.
    Namespace(Option<String>),
    /// By that column.
    Sort(usize),
}

/// A line that could be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The whole line.
    pub text: String,
    /// What it does.
    pub what: String,
}

/// Words that do what a key does; only those that make sense now.
const WORDS: [(&str, Action); 13] = [
    ("help", Action::Help),
    ("quit", Action::Quit),
    ("pause", Action::Pause),
    ("wide", Action::Wide),
    ("logs", Action::Logs),
    ("yaml", Action::Yaml),
    ("copy", Action::Copy),
    ("cordon", Action::Cordon),
    ("drain", Action::Drain),
    ("confirm", Action::Confirm),
    ("delete", Action::Delete),
    ("restart", Action::Restart),
    ("edit", Action::Edit),
];

fn words(state: &State) -> Vec<(&'static str, Action, &'static str)> {
    let place = crate::update::place(state);
    let replay = state.replay.is_some();
    WORDS
        .into_iter()
        .filter_map(|(word, action)| {
            let what = keys::means(action, place, replay, |r| state.can(r))?;
            Some((word, action, what))
        })
        .collect()
}

/// What a line could become, the likeliest first.
pub fn candidates(state: &State, text: &str) -> Vec<Candidate> {
    let text = text.trim_start();
    let mut all: Vec<Candidate> = Vec::new();
    let mut add = |text: String, what: &str| all.push(Candidate { text, what: what.to_owned() });
    for screen in Screen::ALL {
        add(screen.name().to_owned(), "screen");
    }
    for (word, _, what) in words(state) {
        add(word.to_owned(), what);
    }
    add("ns all".to_owned(), "all namespaces");
    for namespace in state.namespaces() {
        add(format!("ns {}", clean(namespace)), "only that namespace");
    }
    for column in crate::columns::columns(state.screen) {
        add(format!("sort {}", column.title.to_lowercase()), "again for the other way round");
    }
    for screen in [Screen::Pods, Screen::Devices] {
        if text.strip_prefix(screen.name()).is_some_and(|rest| rest.starts_with(' ')) {
            for namespace in std::iter::once("all").chain(state.namespaces()) {
                let text = format!("{} {}", screen.name(), clean(namespace));
                let what = "only that namespace".to_owned();
                all.push(Candidate { text, what });
            }
        }
    }
    all.retain(|c| c.text.starts_with(text));
    all
}

/// The namespace that is written; none for all of them.
fn namespace(written: &str) -> Option<String> {
    (!written.is_empty() && written != "all").then(|| clean(written))
}

/// What a line means; `None` for an empty one.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(state: &State, text: &str) -> Result<Option<Command>, String> {
    let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let rest = rest.trim();
    let screen = match word {
        "" => return Ok(None),
        "q" | "q!" | "exit" => return Ok(Some(Command::Do(Action::Quit))),
        "h" => return Ok(Some(Command::Do(Action::Help))),
        "ns" | "namespace" => {
            return Ok(Some(Command::Namespace(namespace(rest))));
        }
        "sort" => {
            let wanted = rest.to_uppercase();
            let columns = crate::columns::columns(state.screen);
            let found = columns.iter().position(|c| c.title == wanted);
            let found = found.or_else(|| {
                columns.iter().position(|c| !wanted.is_empty() && c.title.starts_with(&wanted))
            });
            let titles: Vec<String> = columns.iter().map(|c| c.title.to_lowercase()).collect();
            return match found {
                Some(column) => Ok(Some(Command::Sort(column))),
                None if titles.is_empty() => Err("this screen has no columns".to_owned()),
                None => Err(format!("no column `{rest}`; there are {}", titles.join(", "))),
            };
        }
        "no" | "node" => "nodes",
        "po" | "pod" => "pods",
        "dev" | "device" => "devices",
        "ev" | "event" => "events",
        "messages" | "msg" => "flow",
        "approve" => "confirm",
        word => word,
    };
    if let Some(screen) = Screen::ALL.into_iter().find(|s| s.name().starts_with(screen)) {
        return match screen {
            _ if rest.is_empty() => Ok(Some(Command::Go(screen))),
            Screen::Pods | Screen::Devices => Ok(Some(Command::GoIn(screen, namespace(rest)))),
            _ => Err(format!("`{}` is a screen without namespaces", screen.name())),
        };
    }
    if let Some((_, action, _)) = words(state).into_iter().find(|(w, ..)| w.starts_with(screen)) {
        return Ok(Some(Command::Do(action)));
    }
    if WORDS.iter().any(|(w, _)| *w == screen) {
        return Err(format!("`{screen}` does nothing here"));
    }
    Err(format!("no `{}`; Tab shows what there is", clean(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_beginnings_mean_what_is_there_now() {
        let mut state = State::new("test", 0);
        let go = |state: &State, text: &str| parse(state, text).unwrap().unwrap();
        assert_eq!(go(&state, "po"), Command::Go(Screen::Pods));
        assert_eq!(go(&state, "dev"), Command::Go(Screen::Devices));
        assert_eq!(go(&state, "q"), Command::Do(Action::Quit));
        assert_eq!(go(&state, "ns all"), Command::Namespace(None));
        assert_eq!(go(&state, "ns web"), Command::Namespace(Some("web".to_owned())));
        assert_eq!(parse(&state, "cordon").unwrap_err(), "`cordon` does nothing here");
        assert_eq!(parse(&state, "approve").unwrap_err(), "`confirm` does nothing here");
        assert_eq!(parse(&state, "sort age").unwrap_err(), "this screen has no columns");
        assert_eq!(parse(&state, "xyz").unwrap_err(), "no `xyz`; Tab shows what there is");
        state.screen = Screen::Nodes;
        assert_eq!(go(&state, "sort link"), Command::Sort(2));
        assert!(candidates(&state, "cord").is_empty(), "nobody would carry it out");
        let requests = vec!["cordon".to_owned()];
        state.hello = Some(api::status::stream::Hello { requests, ..Default::default() });
        assert_eq!(candidates(&state, "cord")[0].text, "cordon");
        assert_eq!(go(&state, "cordon"), Command::Do(Action::Cordon));
    }
}

//! Every screen at three sizes, and on a console without colour and Unicode.

use std::time::Duration;

use api::status::row::{NodeRow, Usage};
use api::status::stream::{Done, LogLines, ToReader, Update};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tui::state::{Replay, State};
use tui::update::{Event, update};
use tui::view::draw;
use tui::view::styles::{Look, Theme};

use crate::sample::{NOW, fleet, hello, node, press, state, tell, upgrading};

pub fn drawn(state: &State, width: u16, height: u16, look: Look) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, &look, frame)).unwrap();
    terminal.backend().to_string()
}

const PLAIN: Look = Look { theme: Theme::Plain, ascii: true };

/// At each size, and plainly.
fn everywhere(name: &str, state: &State) {
    for (width, height) in [(80, 24), (120, 40), (40, 10)] {
        let text = drawn(state, width, height, Look::default());
        insta::assert_snapshot!(format!("{name}_{width}x{height}"), text);
    }
    let plain = drawn(state, 80, 24, PLAIN);
    assert!(plain.is_ascii(), "{plain}");
    insta::assert_snapshot!(format!("{name}_plain"), plain);
}

#[test]
fn each_screen_says_what_there_is() {
    for (name, keys) in [
        ("overview", ""),
        ("nodes", ":nodes\n"),
        ("pods", ":pods\n"),
        ("devices", ":devices\n"),
        ("flow", ":flow\n"),
        ("events", ":events\n"),
        ("help", ":pods\n?"),
        ("node_detail", ":nodes\n\n"),
        ("pod_detail", ":pods\n\n"),
        ("device_detail", ":devices\n\n"),
        ("palette", ":nodes\n:s"),
        ("confirm", ":pods\njx"),
        ("filtered", ":pods\n/crash\n"),
        ("wide", ":nodes\nw"),
        ("edit", ":devices\ne"),
    ] {
        let mut state = state();
        press(&mut state, keys);
        everywhere(name, &state);
    }
}

#[test]
fn what_is_said_or_asked_is_shown_as_a_whole_however_long_it_is() {
    let words = |text: &str| -> String {
        let inside = text.lines().flat_map(|line| line.trim_matches('"').chars());
        inside.filter(|c| c.is_alphanumeric() || *c == '-').collect()
    };
    let mut state = state();
    let error = format!("the API server refused: {}must be from 5 to 30 C", "a reason, ".repeat(9));
    let done = Done { id: 1, error: error.clone(), ..Done::default() };
    tell(&mut state, ToReader::Done(done));
    for (width, height) in [(120, 40), (80, 24), (40, 16)] {
        let text = drawn(&state, width, height, Look::default());
        assert!(words(&text).contains(&words(&error)), "{text}");
    }
    let long = format!("edge-{}", "of-a-site-with-a-long-name-".repeat(4));
    let nodes = vec![node(&long, true)];
    tell(&mut state, ToReader::Update(Box::new(Update { nodes, now: NOW, ..Update::default() })));
    press(&mut state, ":nodes\n/site\nD");
    for (width, height) in [(120, 40), (80, 24), (40, 20)] {
        let text = drawn(&state, width, height, Look::default());
        let command = format!("keadm drain {long}");
        assert!(words(&text).contains(&words(&command)), "{text}");
    }
}

#[test]
fn the_column_that_rows_are_sorted_by_is_shown_and_marked_at_every_width() {
    for screen in [":nodes\n", ":pods\n", ":devices\n"] {
        let mut state = state();
        press(&mut state, screen);
        let columns = tui::columns::columns(state.screen);
        for column in columns {
            for width in [40, 80, 120] {
                let text = drawn(&state, width, 12, Look::default());
                let begins = &column.title[..column.title.len().min(3)];
                let heading = text.lines().nth(2).unwrap();
                let marked = heading.split_whitespace().find(|word| word.contains('▲'));
                let marked = marked.unwrap_or_else(|| panic!("{}: {heading}", column.title));
                assert!(marked.trim_matches('"').starts_with(begins), "{begins}: {heading}");
            }
            press(&mut state, "s");
        }
    }
}

#[test]
fn what_hides_rows_is_said_also_where_there_is_little_room() {
    let mut state = state();
    press(&mut state, ":pods\n1/we\n");
    for (width, height) in [(40, 10), (46, 10), (80, 24)] {
        let text = drawn(&state, width, height, Look::default());
        assert!(text.contains("[pods") && text.contains("/we"), "{text}");
        assert!(text.contains("ns:"), "{text}");
    }
    press(&mut state, ":events\n");
    assert!(drawn(&state, 40, 10, Look::default()).contains("[events]"), "the screen is named");
}

#[test]
fn an_upgrade_that_waits_for_a_yes_is_seen_everywhere_and_asked_about_by_name() {
    for (name, keys) in [
        ("upgrade_overview", ""),
        ("upgrade_nodes", ":nodes\n"),
        ("upgrade_detail", ":nodes\n\n"),
        ("upgrade_confirm", ":nodes\nu"),
    ] {
        let mut state = state();
        tell(&mut state, upgrading("WaitingConfirmation", ""));
        press(&mut state, keys);
        insta::assert_snapshot!(name, drawn(&state, 120, 30, Look::default()));
    }
    let mut state = state();
    tell(&mut state, upgrading("Failure", "Check failed: \u{1b}[2Jno space"));
    press(&mut state, ":nodes\n\n");
    insta::assert_snapshot!("upgrade_failed", drawn(&state, 120, 30, Look::default()));
}

#[test]
fn the_kubernetes_api_is_named_and_what_it_does_not_know_is_not_made_up() {
    let mut state = state();
    state.knows_links = false;
    state.source = "https://10.0.0.1:6443; no links, queues and messages: no stream".to_owned();
    press(&mut state, "");
    for (name, keys) in [("api_overview", ""), ("api_nodes", ":nodes\n"), ("api_flow", ":flow\n")] {
        press(&mut state, keys);
        insta::assert_snapshot!(name, drawn(&state, 120, 24, Look::default()));
    }
}

#[test]
fn a_detail_draws_what_was_over_time() {
    let mut state = state();
    let usage = |cpu| Usage {
        cpu_millis: cpu,
        cpu_capacity_millis: 2000,
        memory: cpu << 20,
        memory_capacity: 4 << 30,
    };
    press(&mut state, ":nodes\n\n");
    for i in 0..60 {
        let up = !(20..30).contains(&i);
        let row = NodeRow {
            usage: Some(usage(u64::try_from(i * 13 % 700).unwrap())),
            ..node("edge-1", up)
        };
        let now = NOW + 5_000 + i * 1_000;
        update(&mut state, Event::Clock(now));
        tell(
            &mut state,
            ToReader::Update(Box::new(Update { now, nodes: vec![row], ..Update::default() })),
        );
    }
    insta::assert_snapshot!("history_120x40", drawn(&state, 120, 40, Look::default()));
}

#[test]
fn a_log_and_yaml_are_shown_as_they_come() {
    let mut state = state();
    press(&mut state, ":pods\nl");
    let lines = vec!["starting".to_owned(), "bad \x1b[2J byte".to_owned(), "ready".to_owned()];
    tell(&mut state, ToReader::Log(LogLines { id: 1, lines }));
    press(&mut state, "/ready\n");
    insta::assert_snapshot!("log_80x24", drawn(&state, 80, 24, Look::default()));
    press(&mut state, "\x1by");
    let text = "kind: Pod\nmetadata:\n  name: camera\n".to_owned();
    tell(&mut state, ToReader::Done(Done { id: 2, text, ..Done::default() }));
    insta::assert_snapshot!("yaml_80x24", drawn(&state, 80, 24, Look::default()));
}

#[test]
fn a_long_line_of_a_log_goes_on_beside_the_screen() {
    let mut state = state();
    update(&mut state, Event::Resize { width: 80, height: 24 });
    press(&mut state, ":pods\nl");
    let long = format!("begins {} in the middle {} ends", "-".repeat(100), "=".repeat(100));
    tell(&mut state, ToReader::Log(LogLines { id: 1, lines: vec![long, "short".to_owned()] }));
    let shows = |state: &State, words: &[&str]| {
        let text = drawn(state, 80, 24, Look::default());
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    shows(&state, &["│begins -", "-…│", "│short "]);
    press(&mut state, "$");
    shows(&state, &["│…=", "= ends│"]);
    press(&mut state, "0");
    shows(&state, &["│begins -"]);
    press(&mut state, "/middle\n");
    shows(&state, &["in the middle ="]);
    press(&mut state, "hhhh");
    shows(&state, &["│begins -", "│short "]);
}

#[test]
fn a_long_line_of_yaml_goes_on_in_the_next() {
    let mut state = state();
    press(&mut state, ":pods\ny");
    let text = format!("note: begins {} ends\nafter: it\n", "=".repeat(150));
    tell(&mut state, ToReader::Done(Done { id: 1, text, ..Done::default() }));
    let text = drawn(&state, 80, 24, Look::default());
    assert!(text.contains("begins =") && text.contains("= ends ") && text.contains("after: it"));
}

#[test]
fn it_is_live_only_once_all_rows_have_come() {
    let mut state = State::new("status.sock", NOW);
    let head =
        |state: &State| drawn(state, 80, 24, Look::default()).lines().next().unwrap().to_owned();
    assert!(head(&state).contains("connecting"));
    tell(&mut state, hello());
    assert!(head(&state).contains("loading"));
    tell(&mut state, ToReader::Update(Box::new(Update { more: true, ..fleet() })));
    assert!(head(&state).contains("loading"));
    tell(&mut state, ToReader::Update(Box::new(Update { now: NOW, ..Update::default() })));
    assert!(head(&state).contains("live"), "{}", head(&state));
}

#[test]
fn a_lost_stream_is_named_and_a_small_screen_says_what_it_needs() {
    let mut state = state();
    press(&mut state, ":nodes\n");
    let (why, silence) = ("the server closed the stream".to_owned(), Duration::ZERO);
    update(&mut state, Event::Lost { why, silence });
    update(&mut state, Event::Clock(NOW + 65_000));
    insta::assert_snapshot!("lost_80x24", drawn(&state, 80, 24, Look::default()));
    insta::assert_snapshot!("too_small", drawn(&state, 30, 5, Look::default()));
}

#[test]
fn a_stream_that_fell_silent_is_lost_since_the_last_word_of_it() {
    let mut state = state();
    let (why, silence) = ("nothing came for 15 s".to_owned(), Duration::from_secs(15));
    update(&mut state, Event::Lost { why: why.clone(), silence });
    let head =
        |state: &State| drawn(state, 80, 24, Look::default()).lines().next().unwrap().to_owned();
    assert!(head(&state).contains("LOST 15s ago: nothing came for 15 s"), "{}", head(&state));
    // The next try fails too; it is not lost anew.
    update(&mut state, Event::Clock(NOW + 10_000));
    update(&mut state, Event::Lost { why, silence });
    assert!(head(&state).contains("LOST 20s ago"), "{}", head(&state));
}

#[test]
fn a_replay_shows_where_it_stands() {
    let mut state = state();
    let replay = Replay { at: 30_000, end: 90_000, speed: 2.0, paused: false };
    update(&mut state, Event::Replay(replay));
    let first = drawn(&state, 80, 24, Look::default());
    insta::assert_snapshot!("replay_header", first.lines().next().unwrap());
    let plain = drawn(&state, 80, 24, PLAIN);
    insta::assert_snapshot!("replay_header_plain", plain.lines().next().unwrap());
}

#[test]
fn nothing_that_comes_over_the_wire_reaches_the_terminal_raw() {
    let evil = "a\x1b]0;owned\x07\n\u{202e}b";
    let mut state = state();
    let row = NodeRow { name: evil.into(), reason: evil.into(), ..node(evil, true) };
    tell(&mut state, ToReader::Update(Box::new(Update { nodes: vec![row], ..fleet() })));
    for keys in ["", ":nodes\n", "\n", "\x1b:ns \x1b"] {
        press(&mut state, keys);
        let text = drawn(&state, 120, 40, Look::default());
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text}");
    }
}

//! What keys and messages do to the state.

use api::status::row::{NodeRow, RowKey};
use api::status::stream::{Done, Request, ToReader, Totals, Update};
use tui::state::{Layer, Screen};
use tui::update::{Effect, Event, chosen, update};

use crate::sample::{NOW, node, pod, press, state, tell};

fn shown(state: &tui::state::State) -> Vec<&str> {
    (0..state.order.len()).filter_map(|i| state.order.key(i)).collect()
}

fn pods(pods: Vec<api::status::row::PodRow>) -> ToReader {
    ToReader::Update(Box::new(Update { now: NOW, pods, ..Update::default() }))
}

#[test]
fn sorting_filtering_and_namespaces_choose_the_rows() {
    let mut state = state();
    press(&mut state, ":pods\n");
    assert_eq!(
        shown(&state),
        ["default/camera", "kube-system/proxy", "shop/till", "default/web"],
        "by name"
    );
    press(&mut state, "S");
    assert_eq!(shown(&state)[0], "default/web");
    press(&mut state, ":sort restarts\nS");
    assert_eq!(shown(&state)[0], "default/camera");
    press(&mut state, "1");
    assert_eq!(state.namespace.as_deref(), Some("default"));
    assert_eq!(shown(&state).len(), 2);
    press(&mut state, "0/crash\n");
    assert_eq!(shown(&state), ["default/camera"]);
    press(&mut state, "\x1b/-l app=web\n");
    assert_eq!(shown(&state), ["default/web"]);
}

#[test]
fn rows_that_change_come_and_go_keep_the_order_and_the_cursor() {
    let mut state = state();
    press(&mut state, ":pods\njj");
    assert_eq!(chosen(&state), Some(RowKey::pod("shop", "till")));
    tell(&mut state, pods(vec![pod("default", "aaa", "edge-1", "Running")]));
    assert_eq!(shown(&state)[0], "default/aaa");
    assert_eq!(chosen(&state), Some(RowKey::pod("shop", "till")), "stays on its row");
    let gone = vec![RowKey::pod("shop", "till")];
    tell(&mut state, ToReader::Update(Box::new(Update { now: NOW, gone, ..Update::default() })));
    assert!(shown(&state).contains(&"shop/till"), "for a moment still");
    update(&mut state, Event::Clock(NOW + 60_000));
    update(&mut state, Event::Second);
    assert!(!shown(&state).contains(&"shop/till"));
    assert_eq!(chosen(&state), Some(RowKey::pod("default", "web")), "what took its place");
}

#[test]
fn a_held_screen_shows_what_it_showed_and_then_all_that_came() {
    let mut state = state();
    press(&mut state, ":pods\n ");
    let ages = state.server_now();
    tell(&mut state, pods(vec![pod("default", "late", "edge-1", "Pending")]));
    let gone = vec![RowKey::pod("default", "web")];
    let totals = Totals { up: 900, ..Totals::default() };
    let update_ = Update { now: NOW + 1, gone, totals, ..Update::default() };
    tell(&mut state, ToReader::Update(Box::new(update_)));
    update(&mut state, Event::Clock(NOW + 60_000));
    update(&mut state, Event::Second);
    assert_eq!((state.server_now(), shown(&state).len()), (ages, 4));
    assert_eq!(state.held.as_ref().unwrap().changed(), 2);
    press(&mut state, " ");
    assert!(state.held.is_none() && state.pods.contains_key("default/late"));
    assert_eq!(state.totals.up, 900);
    update(&mut state, Event::Clock(NOW + 90_000));
    update(&mut state, Event::Second);
    assert!(!state.pods.contains_key("default/web"));
}

#[test]
fn a_report_that_says_the_same_again_is_not_marked() {
    let mut state = state();
    let again = NodeRow { last_report: Some(NOW), ..node("edge-1", true) };
    let tell_node = |state: &mut _, row| {
        let nodes = vec![row];
        tell(state, ToReader::Update(Box::new(Update { now: NOW, nodes, ..Update::default() })))
    };
    tell_node(&mut state, again);
    assert_eq!(state.nodes["edge-1"].fresh(state.now), None);
    tell_node(&mut state, node("edge-1", false));
    assert!(state.nodes["edge-1"].fresh(state.now).is_some());
}

#[test]
fn an_action_asks_first_and_names_what_will_happen() {
    let mut state = state();
    press(&mut state, ":nodes\n");
    assert!(press(&mut state, "o").is_empty());
    let confirm = state.confirm.clone().unwrap();
    assert_eq!(confirm.question, "cordon node edge-1?");
    assert_eq!(confirm.command, "kubectl cordon edge-1");
    assert!(press(&mut state, "n").is_empty(), "any other key");
    press(&mut state, "o");
    let effects = press(&mut state, "y");
    let request = Request::Cordon { node: "edge-1".into(), on: true };
    assert!(matches!(&effects[..], [Effect::Request { request: r, .. }] if *r == request));
    tell(&mut state, ToReader::Done(Done { id: 1, text: "done".into(), ..Done::default() }));
    assert_eq!(state.notice.as_ref().unwrap().text, "done");
}

#[test]
fn what_the_server_does_not_do_is_refused_in_words() {
    let mut state = state();
    press(&mut state, ":devices\ne");
    let notice = state.notice.clone().unwrap();
    assert!(notice.failed && notice.text.contains("setting desired values is not possible here"));
    press(&mut state, ":teleport\n");
    assert!(state.notice.clone().unwrap().text.contains("no `teleport`"));
}

#[test]
fn the_flow_is_asked_for_only_while_it_is_on_the_screen() {
    let mut state = state();
    assert!(press(&mut state, ":flow\n").contains(&Effect::Flow(true)));
    assert!(press(&mut state, ":pods\n").contains(&Effect::Flow(false)));
    assert_eq!(state.screen, Screen::Pods);
}

#[test]
fn escape_leaves_layer_by_layer_and_q_at_last_the_dashboard() {
    let mut state = state();
    press(&mut state, ":pods\n\n?");
    assert!(matches!(state.layers[..], [Layer::Detail { .. }, Layer::Help { .. }]));
    assert!(press(&mut state, "\x1b\x1b").is_empty());
    assert!(state.layers.is_empty());
    assert_eq!(press(&mut state, "q"), [Effect::Quit]);
}

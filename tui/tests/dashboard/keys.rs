//! What keys and messages do to the state.

use api::status::row::{MessageRow, NodeRow, PodRow, RowKey, Usage};
use api::status::stream::{Done, Hello, LogLines, Request, ToReader, Totals, Update, VERSION};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use tui::state::{Layer, Replay, Screen, State};
use tui::update::{Effect, Event, chosen, update};

use crate::sample::{NOW, node, pod, press, state, tell, upgrading};

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
    assert_eq!(confirm.command, "keadm cordon edge-1");
    assert!(press(&mut state, "n").is_empty(), "any other key");
    press(&mut state, "o");
    let effects = press(&mut state, "y");
    let request = Request::Cordon { node: "edge-1".into(), on: true };
    assert!(matches!(&effects[..], [Effect::Request { request: r, .. }] if *r == request));
    tell(&mut state, ToReader::Done(Done { id: 1, text: "done".into(), ..Done::default() }));
    assert_eq!(state.notice.as_ref().unwrap().text, "done");
}

#[test]
fn a_screen_is_named_with_a_namespace_as_in_k9s() {
    let mut state = state();
    press(&mut state, ":po shop\n");
    assert_eq!((state.screen, state.namespace.as_deref()), (Screen::Pods, Some("shop")));
    assert_eq!(shown(&state), ["shop/till"]);
    press(&mut state, ":pods all\n");
    assert_eq!((state.namespace.as_deref(), shown(&state).len()), (None, 4));
    press(&mut state, ":nodes shop\n");
    assert!(state.notice.clone().unwrap().text.contains("without namespaces"));
    press(&mut state, ":pods ");
    let texts: Vec<String> =
        tui::palette::candidates(&state, "pods s").into_iter().map(|c| c.text).collect();
    assert_eq!(texts, ["pods shop"]);
}

#[test]
fn approve_is_another_word_for_confirm() {
    let mut state = state();
    tell(&mut state, upgrading("WaitingConfirmation", ""));
    press(&mut state, ":nodes\n:approve\n");
    assert_eq!(state.confirm.clone().unwrap().command, "keadm confirm upgrade edge-1");
}

#[test]
fn keys_with_control_or_alt_are_not_written() {
    let mut state = state();
    press(&mut state, ":");
    for modifiers in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
        update(&mut state, Event::Key(KeyEvent::new(KeyCode::Char('a'), modifiers)));
    }
    assert_eq!(state.prompt.clone().unwrap().text, "");
}

#[test]
fn what_the_server_does_not_do_is_refused_in_words() {
    let mut state = state();
    press(&mut state, ":pods\nr");
    let notice = state.notice.clone().unwrap();
    assert!(notice.failed && notice.text.contains("restarting a pod is not possible here"));
    press(&mut state, ":teleport\n");
    assert!(state.notice.clone().unwrap().text.contains("no `teleport`"));
}

#[test]
fn details_take_the_keys_of_their_row() {
    let mut state = state();
    press(&mut state, ":nodes\n\n");
    assert!(matches!(state.layers[..], [Layer::Detail { .. }]));
    press(&mut state, "o");
    assert_eq!(state.confirm.clone().unwrap().question, "cordon node edge-1?");
    press(&mut state, "n");
    let effects = press(&mut state, "y");
    let key = RowKey::node("edge-1");
    let want = Request::Yaml { key };
    assert!(matches!(&effects[..], [Effect::Request { request, .. }] if *request == want));
    press(&mut state, "\x1b");
    assert!(matches!(state.layers[..], [Layer::Detail { .. }]), "back where it was opened");
    assert_eq!(press(&mut state, "c"), [Effect::Copy("edge-1".into())]);
}

#[test]
fn a_desired_value_is_chosen_by_property_and_asked_for_by_name() {
    let mut state = state();
    press(&mut state, ":devices\ne");
    assert_eq!(state.prompt.clone().unwrap().text, "target=21");
    press(&mut state, "\t");
    assert_eq!(state.prompt.clone().unwrap().text, "target=21", "it has one property");
    press(&mut state, "5\n");
    let confirm = state.confirm.clone().unwrap();
    assert_eq!(confirm.question, "set target of device default/thermo to 215?");
    let effects = press(&mut state, "y");
    let want = Request::SetDesired {
        namespace: "default".into(),
        device: "thermo".into(),
        property: "target".into(),
        value: "215".into(),
    };
    assert!(matches!(&effects[..], [Effect::Request { request, .. }] if *request == want));
    press(&mut state, "e");
    update(&mut state, Event::Paste("x\x1b[2J".into()));
    assert_eq!(state.prompt.clone().unwrap().text, "target=21x[2J", "no control character");
    let control = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    update(&mut state, Event::Key(control));
    press(&mut state, "colour=red\n");
    assert!(state.confirm.is_none() && state.notice.clone().unwrap().text.contains("Tab shows"));
}

#[test]
fn the_mouse_chooses_rows_opens_them_and_changes_the_screen() {
    let mut state = state();
    let click = |state: &mut _, column, row| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let modifiers = KeyModifiers::NONE;
        update(state, Event::Mouse(MouseEvent { kind, column, row, modifiers }))
    };
    // ` overview  nodes 3  pods 4 `: the second tab.
    click(&mut state, 12, 1);
    assert_eq!(state.screen, Screen::Nodes);
    click(&mut state, 5, 4);
    assert_eq!(chosen(&state), Some(RowKey::node("edge-2")));
    assert!(state.layers.is_empty());
    click(&mut state, 5, 4);
    assert!(matches!(state.layers[..], [Layer::Detail { .. }]), "a second click opens it");
    click(&mut state, 79, 1);
    assert_eq!(state.screen, Screen::Nodes, "there is no tab");
    press(&mut state, "\x1b");
    // ` o [nodes 3] p  d  f  e `: the tabs of a narrow screen are where they are drawn.
    update(&mut state, Event::Resize { width: 40, height: 20 });
    click(&mut state, 13, 1);
    assert_eq!(state.screen, Screen::Pods);
    click(&mut state, 4, 1);
    assert_eq!(state.screen, Screen::Nodes);
    update(&mut state, Event::Resize { width: 80, height: 24 });
    click(&mut state, 5, 19);
    assert_eq!(chosen(&state), Some(RowKey::node("edge-2")), "there is no row");
}

#[test]
fn older_lines_stay_in_sight_while_new_ones_come() {
    let mut state = state();
    let messages = |from: i64, n: i64| {
        let message = |i| MessageRow { at: NOW, object: format!("m-{i}"), ..MessageRow::default() };
        let messages = (from..from + n).map(message).collect();
        ToReader::Update(Box::new(Update { now: NOW, messages, ..Update::default() }))
    };
    tell(&mut state, messages(0, 100));
    press(&mut state, ":flow\n");
    let last = |state: &tui::state::State| {
        let back = state.table().at;
        state.shown_messages().nth(back).unwrap().object.clone()
    };
    assert_eq!(last(&state), "m-99");
    press(&mut state, "kkk");
    assert_eq!(last(&state), "m-96");
    tell(&mut state, messages(100, 50));
    assert_eq!(last(&state), "m-96", "what is read stays");
    press(&mut state, "G");
    assert_eq!(last(&state), "m-149");
    press(&mut state, "g");
    assert_eq!(state.table().at, 153 - 18, "a page of the oldest");
}

#[test]
fn a_log_is_followed_scrolled_and_searched_in_a_circle() {
    let mut state = state();
    press(&mut state, ":pods\nl");
    let lines: Vec<String> = (0..100).map(|i| format!("Line {i}")).collect();
    tell(&mut state, ToReader::Log(LogLines { id: 1, lines }));
    let log = |state: &tui::state::State| match state.layers.last() {
        Some(Layer::Logs(log)) => (log.follow, log.top, log.hit),
        other => panic!("{other:?}"),
    };
    press(&mut state, "k");
    assert_eq!(log(&state), (false, 80, None), "a line back from the last page");
    press(&mut state, "j");
    assert_eq!(log(&state), (true, 81, None));
    press(&mut state, "/line 4\n");
    assert_eq!(log(&state), (false, 4, Some(4)), "whatever its case; beyond the end is the first");
    press(&mut state, "n");
    assert_eq!(log(&state), (false, 40, Some(40)));
    press(&mut state, "N");
    assert_eq!(log(&state), (false, 4, Some(4)));
    press(&mut state, "N");
    assert_eq!(log(&state), (false, 49, Some(49)));
    press(&mut state, "/nowhere\n");
    assert!(state.notice.clone().unwrap().text.contains("`nowhere` not found"));
}

#[test]
fn scrolling_goes_no_further_than_the_text() {
    let mut state = state();
    press(&mut state, ":nodes\n\n");
    update(&mut state, Event::Drawn { furthest: 7 });
    press(&mut state, "Gk");
    assert!(matches!(state.layers[..], [Layer::Detail { scroll: 6, .. }]), "{:?}", state.layers);
}

#[test]
fn a_later_version_and_a_clock_that_differs_are_told() {
    let mut state = state();
    let hello = |version, now| ToReader::Hello(Hello { version, now, ..Hello::default() });
    let now = state.now;
    tell(&mut state, hello(VERSION, now + 200_000));
    let text = state.notice.clone().unwrap().text;
    assert_eq!(text, "the server's clock is 3m20s ahead of this one; ages are by its clock");
    assert_eq!(state.server_now(), now + 200_000);
    tell(&mut state, hello(9, now));
    let text = state.notice.clone().unwrap().text;
    assert!(text.contains("speaks version 9 of the stream, this program 1"), "{text}");
}

#[test]
fn what_is_used_is_drawn_over_time_and_is_no_news_of_the_row() {
    let mut state = state();
    let usage = |cpu_millis| Some(Usage { cpu_millis, memory: 7 << 20, ..Usage::default() });
    let row = |cpu| PodRow { usage: usage(cpu), ..pod("default", "web", "edge-1", "Running") };
    tell(&mut state, pods(vec![row(10)]));
    let later = state.now + 60_000;
    update(&mut state, Event::Clock(later));
    let marked = state.pods["default/web"].marked;
    let before = state.pods["default/web"].history.len();
    tell(&mut state, pods(vec![row(20)]));
    let web = &state.pods["default/web"];
    assert_eq!((web.history.len(), web.history.back().unwrap().cpu), (before + 1, 20));
    assert_eq!(web.marked, marked, "nothing has happened to it");
}

#[test]
fn the_nodes_are_asked_what_they_use_while_a_dashboard_is_open() {
    let mut state = state();
    let hello = ToReader::Hello(Hello { version: VERSION, ..Hello::default() });
    assert!(update(&mut state, Event::Message(Box::new(hello))).contains(&Effect::Usage));
    // An older server does not know the word: nobody need be told.
    let done =
        Done { id: 0, error: "this server does not know that request".into(), text: String::new() };
    state.notice = None;
    tell(&mut state, ToReader::Done(done));
    assert!(state.notice.is_none());
}

#[test]
fn a_pod_is_restarted_by_who_can_and_the_command_says_where() {
    let mut state = state();
    let hello = |node: Option<&str>, requests: &[&str]| {
        ToReader::Hello(Hello {
            version: VERSION,
            node: node.map(str::to_owned),
            server: "cloudcore 1".into(),
            requests: requests.iter().map(|r| (*r).to_owned()).collect(),
            now: 1,
        })
    };
    tell(&mut state, hello(None, &["restartPod"]));
    tell(&mut state, pods(vec![pod("default", "web", "edge-1", "Running")]));
    press(&mut state, ":pods\n/web\n");
    let confirm = |state: &State| state.confirm.clone().map(|c| (c.command, c.request));
    let ask = |state: &mut State| {
        press(state, "r");
        confirm(state)
    };
    let (command, request) = ask(&mut state).unwrap();
    let name = match &request {
        Request::RestartPod { pod, dry_run: false, .. } => pod.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(command, format!("keadm restart pod -n default {name}"));
    press(&mut state, "n");
    tell(&mut state, hello(Some("edge-1"), &["restartPod"]));
    assert!(ask(&mut state).unwrap().0.ends_with(" --local"));
    press(&mut state, "n");
    tell(&mut state, hello(None, &["deletePod"]));
    assert_eq!(ask(&mut state), None);
    assert!(state.notice.clone().unwrap().text.contains("restarting a pod is not possible here"));
}

#[test]
fn an_upgrade_is_confirmed_only_where_one_waits_and_only_after_a_yes() {
    let mut state = state();
    press(&mut state, ":nodes\n/edge-1\nu");
    assert_eq!(state.confirm, None);
    let said = |state: &State| state.notice.clone().unwrap().text;
    assert_eq!(said(&state), "node edge-1 has no upgrade that waits for a yes");
    for busy in ["Pending", "Check", "BackUp", "Failure"] {
        tell(&mut state, upgrading(busy, ""));
        press(&mut state, "u");
        assert_eq!(state.confirm, None, "{busy}");
    }
    tell(&mut state, upgrading("WaitingConfirmation", ""));
    press(&mut state, "u");
    let asked = state.confirm.clone().unwrap();
    assert!(asked.question.contains("node edge-1 from v1.21.0 to v1.23.0"), "{}", asked.question);
    assert_eq!(asked.command, "keadm confirm upgrade edge-1");
    press(&mut state, "n");
    assert_eq!(state.confirm, None);
    let effects = press(&mut state, "uy");
    let wanted = Request::ConfirmUpgrade { node: "edge-1".to_owned() };
    let asks = |e: &Effect| matches!(e, Effect::Request { request, .. } if *request == wanted);
    assert!(effects.iter().any(asks), "{effects:?}");
    let hello = Hello { version: VERSION, requests: vec!["cordon".into()], ..Hello::default() };
    tell(&mut state, ToReader::Hello(hello));
    press(&mut state, "u");
    assert!(said(&state).contains("confirming an upgrade is not possible here"));
}

#[test]
fn another_source_is_said_and_has_its_own_rules() {
    let mut state = state();
    let event = Event::Source { name: "https://10.0.0.1:6443".into(), knows_links: false };
    update(&mut state, event);
    assert!(!state.knows_links && state.source.starts_with("https://10"));
    assert!(state.notice.clone().unwrap().text.contains("from here on this comes from https://10"));
}

#[test]
fn a_recording_has_a_clock_of_its_own() {
    let mut state = state();
    let replay = |speed, paused| Event::Replay(Replay { at: 0, end: 9, speed, paused });
    update(&mut state, replay(4.0, false));
    let (server, ours) = (state.server_now(), state.now);
    update(&mut state, Event::Clock(ours + 1_000));
    assert_eq!(state.server_now(), server + 4_000);
    update(&mut state, replay(4.0, true));
    update(&mut state, Event::Clock(ours + 9_000));
    assert_eq!(state.server_now(), server + 4_000, "it stands still");
}

#[test]
fn what_rows_were_is_remembered_within_bounds() {
    let mut state = state();
    for i in 0..300 {
        let row = PodRow { restarts: i, ..pod("default", "web", "edge-1", "Running") };
        tell(&mut state, pods(vec![row]));
    }
    assert_eq!(state.pods["default/web"].history.len(), tui::state::SAMPLES);
    assert_eq!(state.pods["default/web"].history.back().unwrap().value, 299);
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
    assert!(press(&mut state, "\x1b\x1b\x1b").is_empty());
    assert!(state.layers.is_empty());
    assert!(state.notice.clone().unwrap().text.contains("q leaves"), "Esc never does");
    assert_eq!(press(&mut state, "q"), [Effect::Quit]);
}

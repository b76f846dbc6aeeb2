//! A small fleet with something of everything.

use std::collections::BTreeMap;

use api::status::row::{
    DeviceRow, Direction, EventRow, Hops, Link, MessageRow, NodeRow, PodRow, Queue, TwinRow,
    Upgrade,
};
use api::status::stream::{Hello, ToReader, Totals, Update, VERSION};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tui::state::State;
use tui::update::{Effect, Event, update};

/// 2026-01-02 03:04:05 UTC
pub const NOW: i64 = 1_767_323_045_000;
const MINUTE: i64 = 60_000;

pub fn hello() -> ToReader {
    ToReader::Hello(Hello {
        version: VERSION,
        server: "cloudcore 0.1.0".into(),
        now: NOW,
        requests: ["yaml", "cordon", "drain", "deletePod", "logs", "setDesired", "confirmUpgrade"]
            .map(String::from)
            .to_vec(),
        ..Hello::default()
    })
}

pub fn node(name: &str, up: bool) -> NodeRow {
    NodeRow {
        name: name.into(),
        link: up.then(|| Link {
            since: NOW - 90 * MINUTE,
            from: "10.0.0.7:51234".into(),
            protocol: "websocket".into(),
            certificate_expires: Some(NOW + 20 * 24 * 60 * MINUTE),
            round_trip_us: Some(840),
        }),
        lost_at: (!up).then_some(NOW - 3 * MINUTE),
        lost_why: if up { String::new() } else { "nothing was heard for 30 s".into() },
        ready: if up { "True" } else { "Unknown" }.into(),
        version: "v1.32.2-kubeedge-v1.21.0".into(),
        runtime: "containerd://2.1.4".into(),
        platform: "linux/arm64".into(),
        address: "192.168.1.7".into(),
        labels: BTreeMap::from([("site".into(), "north".into())]),
        created: Some(NOW - 3 * 24 * 60 * MINUTE),
        queue: Queue { waiting: 0, unacknowledged: 1, dropped: 0, received: 812, sent: 96 },
        last_report: Some(NOW - 4_000),
        lease_renewed: Some(NOW - 6_000),
        ..NodeRow::default()
    }
}

/// The first node, with an upgrade.
pub fn upgrading(state: &str, why: &str) -> ToReader {
    let upgrade = Upgrade {
        job: "spring".into(),
        from: "v1.21.0".into(),
        to: "v1.23.0".into(),
        state: state.into(),
        since: Some(NOW - 12 * MINUTE),
        why: why.into(),
    };
    let node = NodeRow { upgrade: Some(Box::new(upgrade)), ..node("edge-1", true) };
    ToReader::Update(Box::new(Update { now: NOW, nodes: vec![node], ..Update::default() }))
}

pub fn pod(namespace: &str, name: &str, node: &str, status: &str) -> PodRow {
    PodRow {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        node: node.into(),
        phase: "Running".into(),
        status: status.into(),
        ready: u32::from(status == "Running"),
        containers: 1,
        restarts: if status == "CrashLoopBackOff" { 7 } else { 0 },
        images: vec!["busybox:1.36".into()],
        ip: "10.88.0.4".into(),
        labels: BTreeMap::from([("app".into(), name.into())]),
        created: Some(NOW - 200 * MINUTE),
        last_report: Some(NOW - 12_000),
        hops: Some(Hops { edge_to_hub_us: 1_200, hub_to_api_us: 3_400 }),
        ..PodRow::default()
    }
}

fn device(name: &str, state: &str, reported: &str) -> DeviceRow {
    DeviceRow {
        namespace: "default".into(),
        name: name.into(),
        node: "edge-1".into(),
        model: "sensor".into(),
        protocol: "modbus".into(),
        state: state.into(),
        twins: vec![TwinRow {
            property: "target".into(),
            desired: Some("21".into()),
            desired_at: Some(NOW - MINUTE),
            reported: Some(reported.into()),
            reported_at: Some(NOW - 2_000),
        }],
        last_report: Some(NOW - 2_000),
        created: Some(NOW - 100 * MINUTE),
        ..DeviceRow::default()
    }
}

fn event(age: i64, kind: &str, reason: &str, object: &str, message: &str) -> EventRow {
    EventRow {
        at: NOW - age,
        kind: kind.into(),
        reason: reason.into(),
        object: object.into(),
        node: "edge-1".into(),
        message: message.into(),
        count: if kind == "Warning" { 4 } else { 1 },
    }
}

fn message(direction: Direction, kind: &str, object: &str, outcome: &str) -> MessageRow {
    MessageRow {
        at: NOW - 1_000,
        node: "edge-1".into(),
        direction,
        kind: kind.into(),
        object: object.into(),
        size: 912,
        first_us: Some(1_200),
        second_us: Some(3_400),
        outcome: outcome.into(),
    }
}

pub fn fleet() -> Update {
    Update {
        now: NOW,
        full: true,
        nodes: vec![
            node("edge-1", true),
            node("edge-2", false),
            NodeRow { cordoned: true, ..node("edge-3", true) },
        ],
        pods: vec![
            pod("default", "web", "edge-1", "Running"),
            pod("default", "camera", "edge-2", "CrashLoopBackOff"),
            pod("kube-system", "proxy", "edge-1", "Running"),
            PodRow { unconfirmed: true, ..pod("shop", "till", "edge-3", "ContainerCreating") },
        ],
        devices: vec![device("thermo", "online", "20"), device("valve", "offline", "21")],
        events: vec![
            event(9 * MINUTE, "Normal", "LinkUp", "node/edge-1", "connected from 10.0.0.7:51234"),
            event(
                MINUTE,
                "Warning",
                "BackOff",
                "pod/default/camera",
                "restarting failed container",
            ),
        ],
        messages: vec![
            message(Direction::Up, "podstatus", "default/podpatch/web", "ok"),
            message(Direction::Down, "object", "default/pod/web", ""),
            message(Direction::Up, "query", "kube-system/secret/s", "Forbidden"),
        ],
        totals: Totals { up: 812, down: 96, dropped: 2 },
        ..Update::default()
    }
}

pub fn tell(state: &mut State, message: ToReader) -> Vec<Effect> {
    update(state, Event::Message(Box::new(message)))
}

/// A dashboard of the fleet.
pub fn state() -> State {
    let mut state = State::new("/run/kubeedge/cloudcore-status.sock", NOW);
    state.zone = jiff::tz::TimeZone::UTC;
    tell(&mut state, hello());
    tell(&mut state, ToReader::Update(Box::new(fleet())));
    update(&mut state, Event::Clock(NOW + 5_000));
    state
}

pub fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            c => KeyCode::Char(c),
        };
        effects.extend(update(state, Event::Key(KeyEvent::new(code, KeyModifiers::NONE))));
    }
    effects
}

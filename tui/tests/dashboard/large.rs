//! 10,000 pods on 1,000 nodes.

use std::time::Duration;

use api::status::stream::{ToReader, Update};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tokio::time::Instant;
use tui::state::State;
use tui::view::draw;
use tui::view::styles::Look;

use crate::sample::{NOW, hello, node, pod, press, tell};

const PODS: usize = 10_000;

fn some(from: usize, n: usize, status: &str) -> ToReader {
    let pod = |i: usize| {
        let i = i % PODS;
        pod("default", &format!("pod-{i:05}"), &format!("edge-{}", i % 1000), status)
    };
    let pods = (from..from + n).map(pod).collect();
    ToReader::Update(Box::new(Update { now: NOW, pods, ..Update::default() }))
}

/// Unoptimised code of a busy machine has a wide limit; what is held is that nothing is done for
/// every row at every change, key and frame.
#[test]
fn changes_keys_and_frames_cost_no_look_at_every_row() {
    let mut state = State::new("test", NOW);
    tell(&mut state, hello());
    let nodes = (0..1000).map(|i| node(&format!("edge-{i}"), true)).collect();
    let full = Update { now: NOW, full: true, nodes, ..Update::default() };
    tell(&mut state, ToReader::Update(Box::new(full)));
    tell(&mut state, some(0, PODS, "Running"));
    press(&mut state, ":pods\n:sort status\n");
    assert_eq!(state.order.len(), PODS);
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    let began = Instant::now();
    for i in 0..100 {
        let status = if i % 2 == 0 { "Pending" } else { "Running" };
        tell(&mut state, some(i * 20, 20, status));
        press(&mut state, "j");
        terminal.draw(|frame| draw(&state, &Look::default(), frame)).unwrap();
    }
    let each = began.elapsed() / 100;
    eprintln!("20 changes, a key and a frame: {each:?}");
    assert!(each < Duration::from_millis(100), "{each:?}");
}

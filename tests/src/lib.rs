//! What the tests share: a cluster in one process, hosts made of network namespaces, the built
//! binary as a user runs it, and waiting for conditions.
//!
//! Owns: nothing that outlives a test; every guard cleans up when it is dropped.
//! Called by: `tests/tests/*.rs` and `tests/bench`.
//! Never: sleeps for a fixed time; it waits for a condition, with a limit and a clear message.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_types,
    reason = "a test panics where it fails, prints, and measures real time"
)]

pub mod cluster;
pub mod containerd;
pub mod hops;
pub mod host;
pub mod keadm;
pub mod kubectl;
pub mod link;
pub mod node;
pub mod reference;
pub mod screen;
pub mod systemd;
pub mod wait;

/// Says what a test could not do, past the test runner, which keeps what a test that passes prints;
/// `tests/run` counts these lines.
pub fn skipped(what: &str) {
    use std::io::Write as _;
    // In one piece, and on a line of its own: other tests are told of meanwhile.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED: {what}\n").as_bytes());
}

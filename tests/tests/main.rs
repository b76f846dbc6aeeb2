//! Every test that needs more than one crate, in one binary, so that it is linked once.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test panics where it fails, and prints"
)]

mod architecture;
mod conformance;
mod e2e;
mod edged;
mod generated;
mod harness;
mod paths;
mod promises;
mod stream;
mod trouble;
mod upgrades;

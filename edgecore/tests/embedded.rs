//! The embedded runtime with real containers. Needs root; says so aloud and passes without it.
//!
//! There is no test harness here: the runtime starts this very program anew for its shims, which
//! must not have a thread, so `main` has to ask `shim::dispatch` first.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::exit,
    reason = "this is a test"
)]

#[path = "embedded/cases.rs"]
mod cases;
#[path = "embedded/machine.rs"]
mod machine;
#[path = "embedded/pod.rs"]
mod pod;

fn main() {
    let argv: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = edgecore::shim::dispatch(&argv) {
        std::process::exit(code);
    }
    if let Some(code) = machine::play_a_part(&argv) {
        std::process::exit(code);
    }
    std::process::exit(cases::run_all(&argv));
}

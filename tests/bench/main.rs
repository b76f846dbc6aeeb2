//! Measures what docs/benchmarks.md says, and writes that page.
//!
//! `tests/bench/run` builds the shipped binary and runs this as root. Every figure is the median of
//! several runs on hosts made of namespaces; each has its method beside it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_types,
    reason = "a measurement panics where it fails, prints, and measures real time"
)]

mod inside;
mod page;
mod scenes;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("inside") => inside::main(&args[1..]),
        Some("api") => page::write(&scenes::api_server()),
        _ => page::write(&scenes::all()),
    }
}

//! Measures what docs/benchmarks.md says, and writes that page.
//!
//! `tests/bench/run` builds the shipped binary and runs this as root. Every figure is the median of
//! several runs on hosts made of namespaces; each has its method beside it. A group of scenes is a
//! file in `scenes/`; with the names of groups as arguments only those are measured, and the page is
//! printed but not written.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_types,
    reason = "a measurement panics where it fails, prints, and measures real time"
)]

mod client;
mod fake_edge;
mod order;
mod page;
mod scenes;
mod site;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use page::Section;
use scenes::{GROUPS, Group};

/// No group is begun after this.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == client::INSIDE) {
        client::main(&args[1..]);
        return ExitCode::SUCCESS;
    }
    if args.first().is_some_and(|a| a == order::ORDER) {
        order::main();
        return ExitCode::SUCCESS;
    }
    let known: Vec<&str> = GROUPS.iter().map(|g| g.name).collect();
    if let Some(other) = args.iter().find(|a| !known.contains(&a.as_str())) {
        eprintln!("there is no group `{other}`; there are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    let begun = Instant::now();
    let mut sections = Vec::new();
    for group in &GROUPS {
        if args.is_empty() || args.iter().any(|a| a == group.name) {
            sections.push(measure(group, begun));
        }
    }
    page::write(&sections, args.is_empty());
    if sections.iter().all(|s| s.figures.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One group; what goes wrong in it spoils no other.
fn measure(group: &Group, begun: Instant) -> Section {
    let Group { name, title, .. } = *group;
    if begun.elapsed() > LIMIT {
        return Section { name, title, figures: Err("the time was up".to_owned()) };
    }
    eprintln!("-- {name}");
    let figures = std::panic::catch_unwind(group.figures)
        .map_err(|_| "the measurement failed; what it said is above".to_owned());
    for figure in figures.iter().flatten() {
        eprintln!("{}: {}", figure.what, figure.ours());
    }
    Section { name, title, figures }
}

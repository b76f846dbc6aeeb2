//! `keadm up` in a terminal: its lines stay, and Enter opens the dashboard over them.
//!
//! Called by: `up.rs`, once everything is up.
//! Never: touches the terminal's modes before Enter, or reads from it while a shell has it.

use std::io::{IsTerminal, Stdin};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{getpgrp, read, tcgetpgrp};
use tokio::time::MissedTickBehavior;

use super::Up;
use crate::commands::{STATUS_SOCKET, dashboard};

/// Between two looks for an Enter.
const LOOK: Duration = Duration::from_millis(150);

/// Whether there is somebody to press Enter, and nothing else that writes to the screen.
pub(super) fn has_a_user(up: &Up) -> bool {
    let quiet = up.cx.logging.verbose == 0;
    quiet
        && std::io::stdin().is_terminal()
        && std::io::stdout().is_terminal()
        && std::io::stderr().is_terminal()
}

/// Opens the dashboard at each Enter. Ends when the terminal does.
pub(super) async fn enter_opens_the_dashboard(up: &Up) {
    let input = std::io::stdin();
    let socket = up.dir.join(STATUS_SOCKET);
    // Waiting for a terminal to be readable takes a thread or unsafe code; looking takes neither.
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        match typed(&input) {
            Typed::Line => {}
            Typed::Nothing => continue,
            Typed::End => return,
        }
        // This future is dropped when everything ends, and the terminal is as it was then.
        let stop = tokio_util::sync::CancellationToken::new();
        if let Err(e) = dashboard::of_socket(socket.clone(), stop, &up.cx).await {
            up.cx.printer.shout(e.message());
            return;
        }
        up.cx.printer.say(HINT);
    }
}

/// What the terminal is told about it.
pub(super) const HINT: &str = "Enter opens the dashboard, Ctrl-C stops everything.";

enum Typed {
    Line,
    Nothing,
    End,
}

/// Takes what was typed; waits for nothing.
fn typed(input: &Stdin) -> Typed {
    // In the background of a shell, reading would stop this process.
    if tcgetpgrp(input).ok() != Some(getpgrp()) {
        return Typed::Nothing;
    }
    let mut found = Typed::Nothing;
    loop {
        let mut there = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut there, PollTimeout::ZERO), Ok(n) if n > 0) {
            return found;
        }
        let mut bytes = [0; 256];
        match read(input, &mut bytes) {
            Ok(0) | Err(_) => return Typed::End,
            Ok(n) if bytes[..n].contains(&b'\n') => found = Typed::Line,
            Ok(_) => {}
        }
    }
}

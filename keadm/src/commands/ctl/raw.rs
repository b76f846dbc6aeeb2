//! This side of a command's terminal: keys as they are typed, the size, and back to what it was.
//!
//! Owns: the terminal's mode while a command has it.
//! Called by: `exec.rs`.
//! Never: draws.

use std::io::{self, IsTerminal, Read as _};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What is read from standard input at once.
const PIECE: usize = 16 << 10;

/// A terminal that hands over every key; as it was when dropped.
pub(super) struct Raw(Termios);

impl Raw {
    /// `None`: standard input is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// What comes on standard input, piece by piece. Full: the reader waits.
pub(super) fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (to, pieces) = mpsc::channel(1);
    // Not one of the runtime's: nothing ends a read but a key, and nobody waits for this thread.
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        while let Ok(n @ 1..) = io::stdin().read(&mut piece) {
            if to.blocking_send(piece[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    pieces
}

/// The sizes that the terminal has, the first at once.
pub(super) struct Winch {
    signal: Option<Signal>,
    first: bool,
}

impl Winch {
    /// `false`: nobody asks for sizes.
    pub(super) fn new(wanted: bool) -> Self {
        let signal = wanted.then(|| signal(SignalKind::window_change()).ok()).flatten();
        Self { first: signal.is_some(), signal }
    }

    /// Columns and rows; `None`: there is no terminal.
    pub(super) async fn next(&mut self) -> Option<(u16, u16)> {
        if !std::mem::take(&mut self.first) {
            self.signal.as_mut()?.recv().await?;
        }
        edgecore::terminal_size(&io::stdout())
    }
}

/// SIGTERM or SIGHUP: the terminal is given back first.
pub(super) async fn told_to_end() {
    let of = |kind| signal(kind).ok();
    let (mut term, mut hup) = (of(SignalKind::terminate()), of(SignalKind::hangup()));
    let wait = async |signal: &mut Option<Signal>| match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    };
    tokio::select! {
        _ = wait(&mut term) => {}
        _ = wait(&mut hup) => {}
    }
}

//! SIGINT, SIGTERM and SIGHUP: the first drains, the second aborts.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that end a process in order.
pub struct Signals {
    int: Signal,
    term: Signal,
    /// The terminal is gone. None where `nohup` said that this is no reason to end.
    hup: Option<Signal>,
}

impl Signals {
    /// Takes the signals over from their default action.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn install() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hup = if ignores_hangup(&status) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup,
        })
    }

    /// Waits for the next of them. That the terminal is gone is told once and as the first only: a shell
    /// repeats it, and it is no reason to hurry.
    pub async fn next(&mut self) -> &'static str {
        let hup = async {
            match &mut self.hup {
                Some(hup) => drop(hup.recv().await),
                None => std::future::pending().await,
            }
        };
        let name = tokio::select! {
            _ = self.int.recv() => "SIGINT",
            _ = self.term.recv() => "SIGTERM",
            () = hup => "SIGHUP",
        };
        self.hup = None;
        name
    }

    /// Cancels `stopping` at the first signal and returns at the second.
    pub async fn stop_then_abort(mut self, stopping: CancellationToken) {
        let name = self.next().await;
        tracing::info!(signal = name, "stopping; a second signal aborts");
        stopping.cancel();
        self.next().await;
    }
}

/// Whether SIGHUP, the first signal, is ignored by the process of a `/proc/PID/status`.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).is_some_and(|m| m & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    // proc_pid_status(5): the signals in a mask of 64 bits, the first one last.
    #[test]
    fn what_nohup_started_goes_on_without_a_terminal() {
        assert!(ignores_hangup(
            "Name:\tkeadm\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"
        ));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}

//! SIGINT and SIGTERM: the first drains, the second aborts.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two signals that end a process in order.
pub struct Signals {
    int: Signal,
    term: Signal,
}

impl Signals {
    /// Takes the two signals over from their default action.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.int.recv() => "SIGINT",
            _ = self.term.recv() => "SIGTERM",
        }
    }

    /// Cancels `stopping` at the first signal and returns at the second.
    pub async fn stop_then_abort(mut self, stopping: CancellationToken) {
        let name = self.next().await;
        tracing::info!(signal = name, "stopping; a second signal aborts");
        stopping.cancel();
        self.next().await;
    }
}

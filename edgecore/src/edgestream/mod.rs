//! The edge's end of the tunnel through which the cloud reads logs and runs commands here.
//!
//! ```text
//! cloudstream 10004 ◄─ dials ─ edgestream ─ HTTP over a pipe in memory ─► edged's local API
//! ```
//!
//! [`dial`] opens the tunnel, [`tunnel`] moves the frames of all its connections, [`request`] turns
//! what the cloud asks for into HTTP.
//!
//! Owns: the tunnel, and when to dial again.
//! Called by: `app.rs` spawns it.
//! Never: asks anybody but edged's own API, whatever host a request names.

mod dial;
mod request;
#[cfg(test)]
mod tests;
mod tunnel;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::names::NodeName;
use rustls::ClientConfig;
use service::CancellationToken;
use service::backoff::Backoff;
use service::tls::TlsError;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::edged::LocalApi;
use crate::edgehub::link::LinkState;

/// Waits between tries.
const PAUSE: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// A tunnel that lived this long was accepted.
const ACCEPTED_AFTER: Duration = Duration::from_secs(5);

/// Where to dial, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct StreamSettings {
    /// `host:port` of cloudstream.
    pub(crate) server: String,
    /// The node's name.
    pub(crate) node: NodeName,
    /// The node's address, which the cloud is told.
    pub(crate) address: Option<IpAddr>,
    /// `tlsTunnelCAFile`; named in errors.
    pub(crate) ca_file: PathBuf,
    /// From TCP connection to open WebSocket.
    pub(crate) handshake_limit: Duration,
    /// Writing a frame.
    pub(crate) write_limit: Duration,
}

/// Keeps a tunnel open until told to stop. `tls` is asked for before each try: the certificate may
/// have been renewed.
pub(crate) async fn run(
    settings: StreamSettings,
    api: LocalApi,
    tls: impl Fn() -> Result<Arc<ClientConfig>, TlsError>,
    mut link: watch::Receiver<LinkState>,
    stopping: CancellationToken,
) {
    let keep = async {
        let (mut tries, mut said) = (0, String::new());
        loop {
            // A cloud that the link does not reach is not reached from here either. An error means
            // that there is no link to wait for.
            let _ = link.wait_for(|state| state.up).await;
            let why = match dial::dial(&settings, &tls).await {
                Ok(opened) => {
                    let since = Instant::now();
                    tracing::info!(server = settings.server, "tunnel to the cloud is open");
                    let why = tunnel::run(opened, api.clone(), settings.write_limit).await;
                    if since.elapsed() > ACCEPTED_AFTER {
                        (tries, said) = (0, String::new());
                    }
                    why
                }
                Err(e) => service::error_chain(&e),
            };
            if why == said {
                tracing::debug!(why, "no tunnel to the cloud");
            } else {
                tracing::warn!(why, "no tunnel to the cloud: logs and exec wait for it");
                said = why;
            }
            tokio::time::sleep(PAUSE.next_delay(tries)).await;
            tries = tries.saturating_add(1);
        }
    };
    tokio::select! {
        () = keep => {}
        () = stopping.cancelled() => {}
    }
}

//! The status stream's messages: what a reader is told, and what it may ask for.
//!
//! Owns: one cursor per reader.
//! Called by: `service::stream`, which has the socket.
//! Never: keeps a row for a reader, or carries out a request that the reader may not make itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::status::reader::{Look, Reader as Told};
use api::status::stream::{
    Done, FromReader, Hello, LogLines, MAX_REQUEST, MAX_UPDATE, Request, ToReader, VERSION,
};
use futures::future::BoxFuture;
use service::CancellationToken;
use service::stream::{Feed, Heard, Job, Pace, Sizes, SocketError, UnixSocket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::access::Access;
use super::actions::Means;
use super::{Status, actions, now};

/// Readers of the unix socket at one time.
const READERS: usize = 64;
/// The path of the stream.
pub(crate) const PATH: &str = "/status/v1";

/// How large messages may be.
pub(crate) const SIZES: Sizes = Sizes { request: MAX_REQUEST, update: MAX_UPDATE };

/// Why the stream cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StatusError(#[from] SocketError);

/// A socket that is bound and not yet served. The file goes with it.
#[derive(Debug)]
pub struct Bound(UnixSocket);

impl Bound {
    /// Binds the socket, readable by its owner alone from the first moment.
    ///
    /// # Errors
    /// When the folder cannot be written to, another program serves this socket, or its path is
    /// too long for a socket.
    pub async fn bind(path: &Path) -> Result<Self, StatusError> {
        Ok(Self(UnixSocket::bind(path).await?))
    }

    /// Serves readers until told to stop.
    pub async fn serve(self, status: Arc<Status>, means: Means, stopping: CancellationToken) {
        info!(path = %self.0.path().display(), "serving the status stream");
        let told = stopping.clone();
        let each = |stream| serve(stream, Arc::clone(&status), means.clone(), stopping.clone());
        self.0.accept(READERS, told, each).await;
    }
}

/// One reader of the unix socket, from handshake to close.
pub(super) fn serve<S>(
    stream: S,
    status: Arc<Status>,
    means: Means,
    stopping: CancellationToken,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reader = Reader::new(status, means, Access::Everything);
    async move {
        let until = async {
            stopping.cancelled().await;
            STOPPING.to_owned()
        };
        service::stream::accept(stream, PATH, reader, SIZES, until).await;
    }
}

/// Why a stream ends with the program.
pub(crate) const STOPPING: &str = "cloudcore is stopping";

/// One reader.
pub(crate) struct Reader {
    status: Arc<Status>,
    means: Means,
    access: Access,
    told: Told,
    usage: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.set_flow(false);
        self.set_usage(false);
    }
}

impl Reader {
    /// A reader that has been told nothing.
    pub(crate) fn new(status: Arc<Status>, means: Means, access: Access) -> Self {
        Self { status, means, access, told: Told::default(), usage: false }
    }

    fn set_flow(&mut self, on: bool) {
        if self.told.set_flow(on) {
            if on {
                self.status.flow.fetch_add(1, Ordering::Relaxed);
            } else {
                self.status.flow.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn set_usage(&mut self, on: bool) {
        if std::mem::replace(&mut self.usage, on) != on {
            self.status.usage_wanted.send_modify(|n| *n = if on { *n + 1 } else { *n - 1 });
        }
    }

    fn begin(&self, id: u64, request: Request, say: &mpsc::Sender<String>) -> Job {
        let (means, access, say) = (self.means.clone(), self.access.clone(), say.clone());
        Box::pin(async move {
            // A reader that takes no line keeps the log waiting, and nothing else.
            let lines = move |lines| -> BoxFuture<'static, bool> {
                let (say, text) = (say.clone(), write(&ToReader::Log(LogLines { id, lines })));
                Box::pin(async move { say.send(text).await.is_ok() })
            };
            let outcome = match access.may(&means.api, &request).await {
                Ok(()) => actions::answer(&means, request, &lines).await,
                Err(refusal) => Err(refusal),
            };
            write(&ToReader::Done(match outcome {
                Ok(text) => Done { id, text, ..Done::default() },
                Err(error) => Done { id, error, ..Done::default() },
            }))
        })
    }
}

impl Feed for Reader {
    fn changed(&self) -> watch::Receiver<u64> {
        self.status.changed.subscribe()
    }

    fn hello(&self) -> String {
        write(&ToReader::Hello(Hello {
            version: VERSION,
            server: format!("cloudcore {}", env!("CARGO_PKG_VERSION")),
            node: None,
            now: now(),
            requests: self.means.requests(),
        }))
    }

    fn news(&mut self, pace: Pace) -> Vec<String> {
        let look = Look {
            now: now(),
            totals: self.status.totals(),
            totals_due: pace.small_due,
            heartbeat: pace.heartbeat,
        };
        let updates = self.told.look(look, |cursor| self.status.since(cursor));
        updates.into_iter().map(|update| write(&ToReader::Update(Box::new(update)))).collect()
    }

    fn heard(&mut self, text: &str, say: &mpsc::Sender<String>) -> Result<Heard, String> {
        Ok(match FromReader::read(text)? {
            Ok(FromReader::Flow { on }) => {
                self.set_flow(on);
                Heard::Nothing
            }
            Ok(FromReader::Usage { on }) => {
                self.set_usage(on);
                Heard::Nothing
            }
            Ok(FromReader::Request { id, request }) => {
                Heard::Begin { id, job: self.begin(id, request, say) }
            }
            Ok(FromReader::Stop { id }) => Heard::Stop { id },
            Err(unknown) => Heard::Say(write(&ToReader::Done(unknown))),
        })
    }

    fn busy(&self, id: u64, limit: usize) -> String {
        let error = format!("{limit} requests are in work already; try again");
        write(&ToReader::Done(Done { id, error, ..Done::default() }))
    }
}

fn write(message: &ToReader) -> String {
    // Only numbers, texts and lists: it always has a JSON form.
    serde_json::to_string(message).unwrap_or_else(|error| {
        warn!(%error, "a message of the status stream has no JSON form");
        String::new()
    })
}

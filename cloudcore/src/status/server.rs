//! The status stream: WebSocket on a unix socket, one task per reader.
//!
//! Owns: the socket file, the number of readers, the pace at which a reader is told.
//! Called by: `app.rs`.
//! Never: keeps anything for a reader but its cursor. One that reads slowly is told less often, and
//! then all at once; one that reads nothing for [`WRITE_LIMIT`] is let go.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::status::board::Cursor;
use api::status::stream::{
    Done, FromReader, Hello, MAX_REQUEST, MAX_UPDATE, Request, ToReader, Totals, Update, VERSION,
};
use futures::{SinkExt, StreamExt};
use service::CancellationToken;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{
    ErrorResponse, Request as Upgrade, Response,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame, http};
use tracing::{debug, info, warn};

use super::{Status, actions, now};
use crate::apiserver::ApiServer;
use crate::cloudhub::session::close;

/// Readers at one time.
pub(super) const READERS: usize = 64;
/// The shortest time between two updates to one reader.
const PACE: Duration = Duration::from_millis(40);
/// Totals alone are told no more often.
const TOTALS: Duration = Duration::from_secs(1);
/// The longest time without a message.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// A reader that takes nothing for so long is gone.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// From connecting to the first message.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Requests of one reader that are in work.
const REQUESTS: usize = 8;
/// The path of the stream.
const PATH: &str = "/status/v1";

/// Why the stream cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the status stream on `{path}`")]
pub struct StatusError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// A socket that is bound and not yet served. The file goes with it.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
    inode: u64,
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Unless another cloudcore has put its own there.
        if std::fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Bound {
    /// Binds the socket, readable by its owner alone from the first moment. What a program that
    /// is no more has left there is replaced.
    ///
    /// # Errors
    /// When the folder cannot be written to, or another program serves this socket.
    pub async fn bind(path: &Path) -> Result<Self, StatusError> {
        let failed = |source| StatusError { path: path.to_owned(), source };
        if UnixStream::connect(path).await.is_ok() {
            let why = "another cloudcore serves this socket";
            return Err(failed(std::io::Error::new(std::io::ErrorKind::AddrInUse, why)));
        }
        Self::replace(path).map_err(failed)
    }

    /// Under a name of its own first: the socket is never there with wider permissions.
    fn replace(path: &Path) -> std::io::Result<Self> {
        let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) else {
            return Err(std::io::Error::other("the path names no folder"));
        };
        std::fs::create_dir_all(folder)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = folder.join(name);
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&temporary)?;
        let meta = match settle(&temporary, path) {
            Ok(meta) => meta,
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                return Err(error);
            }
        };
        Ok(Self { listener, path: path.to_owned(), owner: meta.uid(), inode: meta.ino() })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves readers until told to stop.
    pub async fn serve(self, status: Arc<Status>, api: ApiServer, stopping: CancellationToken) {
        info!(path = %self.path.display(), "serving the status stream");
        let seats = Arc::new(Semaphore::new(READERS));
        let mut readers = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stopping.cancelled() => break,
                Some(_) = readers.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: those that end give some back.
                    warn!(%error, "cannot accept a reader of the status stream");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // The mode of the file says the same; this also holds where modes mean nothing.
            let peer = stream.peer_cred().map(|c| c.uid());
            if !peer.is_ok_and(|uid| uid == 0 || uid == self.owner) {
                warn!("a reader of the status stream is another user's and is refused");
                continue;
            }
            let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
                warn!(limit = READERS, "too many readers of the status stream, one is refused");
                continue;
            };
            let (status, api, stopping) = (Arc::clone(&status), api.clone(), stopping.clone());
            readers.spawn(async move {
                serve(stream, status, api, stopping).await;
                drop(seat);
            });
        }
        while readers.join_next().await.is_some() {}
    }
}

/// Gives a new socket its mode and its place.
fn settle(temporary: &Path, path: &Path) -> std::io::Result<std::fs::Metadata> {
    std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(0o600))?;
    let meta = std::fs::metadata(temporary)?;
    std::fs::rename(temporary, path)?;
    Ok(meta)
}

/// Why a reader is let go.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the reader has closed the stream")]
    Closed,
    #[error("cloudcore is stopping")]
    Stopping,
    #[error("nothing was read for {} s", WRITE_LIMIT.as_secs())]
    Stuck,
    #[error("what came is no request of this stream: {0}")]
    Nonsense(serde_json::Error),
    #[error(transparent)]
    Socket(#[from] WsError),
}

impl End {
    fn code(&self) -> CloseCode {
        match self {
            End::Stopping => CloseCode::Restart,
            End::Stuck => CloseCode::Policy,
            End::Nonsense(_) => CloseCode::Invalid,
            End::Socket(WsError::Capacity(_)) => CloseCode::Size,
            _ => CloseCode::Normal,
        }
    }
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(64 << 10)
        .max_write_buffer_size(2 * MAX_UPDATE)
        .max_message_size(Some(MAX_REQUEST))
        .max_frame_size(Some(MAX_REQUEST))
}

/// The stream is for programs: a page in a browser names where it comes from, and is refused.
#[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
fn judge(request: &Upgrade, response: Response) -> Result<Response, ErrorResponse> {
    let refuse = |status, text: &str| {
        let mut answer = ErrorResponse::new(Some(text.to_owned()));
        *answer.status_mut() = status;
        Err(answer)
    };
    if request.headers().contains_key(http::header::ORIGIN) {
        return refuse(http::StatusCode::FORBIDDEN, "the stream is not for web pages");
    }
    if request.uri().path() != PATH {
        return refuse(http::StatusCode::NOT_FOUND, "the stream is at /status/v1");
    }
    Ok(response)
}

/// One reader, from handshake to close.
pub(super) async fn serve<S>(
    stream: S,
    status: Arc<Status>,
    api: ApiServer,
    stopping: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let upgrade = tokio_tungstenite::accept_hdr_async_with_config(stream, judge, Some(limits()));
    let mut socket = match timeout(HANDSHAKE, upgrade).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return debug!(%error, "no reader of the status stream"),
        Err(_) => return debug!("a reader of the status stream never spoke"),
    };
    let changed = status.changed.subscribe();
    let mut reader = Reader {
        status: &status,
        changed,
        cursor: Cursor::default(),
        first: true,
        told: None,
        looked: None,
        totals: Totals::default(),
        flow: false,
        jobs: JoinSet::new(),
        running: Vec::new(),
    };
    let end = tokio::select! {
        end = reader.run(&mut socket, &api) => end,
        () = stopping.cancelled() => End::Stopping,
    };
    drop(reader);
    debug!(why = %end, "a reader of the status stream has gone");
    close(&mut socket, end.code(), &end.to_string()).await;
}

struct Reader<'a> {
    status: &'a Status,
    changed: watch::Receiver<u64>,
    cursor: Cursor,
    /// Nothing was told yet.
    first: bool,
    /// When it was last told what changed.
    told: Option<Instant>,
    /// When the table was last looked at for it.
    looked: Option<Instant>,
    totals: Totals,
    flow: bool,
    jobs: JoinSet<Done>,
    running: Vec<(u64, AbortHandle)>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.set_flow(false);
    }
}

impl Reader<'_> {
    fn set_flow(&mut self, on: bool) {
        if on != self.flow {
            self.flow = on;
            if on {
                self.status.flow.fetch_add(1, Ordering::Relaxed);
            } else {
                self.status.flow.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    async fn run<S>(&mut self, socket: &mut WebSocketStream<S>, api: &ApiServer) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = ToReader::Hello(Hello {
            version: VERSION,
            server: format!("cloudcore {}", env!("CARGO_PKG_VERSION")),
            node: None,
            now: now(),
            requests: actions::REQUESTS.map(str::to_owned).to_vec(),
        });
        if let Err(end) = send(socket, &hello).await {
            return end;
        }
        let mut news = true;
        loop {
            // At once, if nothing was told for a moment; else as soon as the pace allows.
            let due = match (self.told, self.looked) {
                (Some(_), Some(at)) if news => at + PACE,
                (Some(at), _) => at + HEARTBEAT,
                (None, _) => Instant::now(),
            };
            let outcome = tokio::select! {
                frame = socket.next() => match self.heard(frame, api) {
                    Ok(Some(answer)) => send(socket, &answer).await,
                    Ok(None) => Ok(()),
                    Err(end) => Err(end),
                },
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => match done {
                    Ok(done) => {
                        self.running.retain(|(id, _)| *id != done.id);
                        send(socket, &ToReader::Done(done)).await
                    }
                    // Stopped by the reader, who expects no answer then.
                    Err(_) => Ok(()),
                },
                _ = self.changed.changed(), if !news => {
                    news = true;
                    Ok(())
                }
                () = sleep_until(due) => {
                    let heartbeat = !news;
                    news = false;
                    self.changed.mark_unchanged();
                    self.tell(socket, heartbeat).await
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// Tells what changed, if anything did that this reader is to know now.
    async fn tell<S>(&mut self, socket: &mut WebSocketStream<S>, heartbeat: bool) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let began = Instant::now();
        self.looked = Some(began);
        let (mut changes, cursor) = self.status.since(self.cursor);
        self.cursor = cursor;
        if !self.flow {
            changes.messages.clear();
            changes.missed_messages = 0;
        }
        if self.first {
            // Also when the table is empty: what a reader may hold is of another server.
            changes.full = true;
            changes.missed_events = 0;
        }
        let totals = self.status.totals();
        let due = self.told.is_none_or(|at| began - at >= TOTALS) && totals != self.totals;
        if changes.is_empty() && !due && !heartbeat {
            return Ok(());
        }
        self.totals = totals;
        let mut updates = Update::parts(changes, now(), totals);
        if updates.is_empty() {
            updates.push(Update { now: now(), totals, ..Update::default() });
        }
        for update in updates {
            send(socket, &ToReader::Update(Box::new(update))).await?;
        }
        self.first = false;
        self.told = Some(Instant::now());
        Ok(())
    }

    /// Deals with what the reader says; some of it is answered at once.
    fn heard(
        &mut self,
        frame: Option<Result<Frame, WsError>>,
        api: &ApiServer,
    ) -> Result<Option<ToReader>, End> {
        let text = match frame {
            None | Some(Ok(Frame::Close(_))) => return Err(End::Closed),
            Some(Err(WsError::ConnectionClosed | WsError::Io(_))) => return Err(End::Closed),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(Frame::Text(text))) => text,
            Some(Ok(_)) => return Ok(None),
        };
        match serde_json::from_str(&text) {
            Ok(FromReader::Flow { on }) => self.set_flow(on),
            Ok(FromReader::Request { id, request }) => return Ok(self.begin(id, request, api)),
            Ok(FromReader::Stop { id }) => {
                if let Some(at) = self.running.iter().position(|(running, _)| *running == id) {
                    self.running.swap_remove(at).1.abort();
                }
            }
            Err(error) => return later(&text).map(Some).ok_or(End::Nonsense(error)),
        }
        Ok(None)
    }

    fn begin(&mut self, id: u64, request: Request, api: &ApiServer) -> Option<ToReader> {
        if self.running.len() >= REQUESTS {
            let error = format!("{REQUESTS} requests are in work already; try again");
            return Some(ToReader::Done(Done { id, error, ..Done::default() }));
        }
        let api = api.clone();
        let handle = self.jobs.spawn(async move {
            match actions::answer(&api, request).await {
                Ok(text) => Done { id, text, ..Done::default() },
                Err(error) => Done { id, error, ..Done::default() },
            }
        });
        self.running.push((id, handle));
        None
    }
}

/// A request of a later version is answered, not taken for nonsense.
fn later(text: &str) -> Option<ToReader> {
    #[derive(serde::Deserialize)]
    struct Later {
        #[serde(rename = "type")]
        _type: String,
        #[serde(default)]
        id: u64,
    }
    let Later { id, .. } = serde_json::from_str(text).ok()?;
    let error = "this server does not know that request".to_owned();
    Some(ToReader::Done(Done { id, error, ..Done::default() }))
}

async fn send<S>(socket: &mut WebSocketStream<S>, message: &ToReader) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Only numbers, texts and lists: it always has a JSON form.
    let text = serde_json::to_string(message).map_err(End::Nonsense)?;
    if text.len() > MAX_UPDATE {
        warn!(bytes = text.len(), "a message of the status stream is too large and is left out");
        return Ok(());
    }
    write(socket, text).await
}

async fn write<S>(socket: &mut WebSocketStream<S>, text: String) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(WRITE_LIMIT, socket.send(Frame::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(WsError::ConnectionClosed | WsError::Io(_))) => Err(End::Closed),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(End::Stuck),
    }
}

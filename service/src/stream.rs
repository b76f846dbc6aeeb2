//! A stream of text messages over WebSocket: one task per reader, and no queue for any.
//!
//! Owns: the pace at which a reader is told, its time limits, the number of its requests.
//! Called by: whoever has a table to show (`cloudcore::status`, `edgecore::status`).
//! Never: keeps anything for a reader but its [`Feed`], which has a cursor. One that reads slowly is
//! told less often, and then all at once; one that reads nothing for [`WRITE_LIMIT`] is let go.

pub mod pour;
#[cfg(test)]
mod tests;
mod unix;

use std::pin::Pin;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{
    ErrorResponse, Request as Upgrade, Response,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame, http};
use tracing::{debug, warn};

pub use unix::{SocketError, UnixSocket};

/// The shortest time between two updates to one reader.
const PACE: Duration = Duration::from_millis(40);
/// Small news alone is told no more often.
const SMALL: Duration = Duration::from_secs(1);
/// The longest time without a message.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// A reader that takes nothing for so long is gone.
pub const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// From connecting to the first message.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Requests of one reader that are in work.
const REQUESTS: usize = 8;
/// Messages of requests in work that wait for the socket. Full: the requests wait.
const WAITING: usize = 16;
/// A close frame's reason has at most so many bytes.
const REASON: usize = 123;
/// How long a peer may take to answer a close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A request at work. Its output is its last message.
pub type Job = Pin<Box<dyn Future<Output = String> + Send>>;

/// What a message of a reader means.
pub enum Heard {
    /// Nothing is to be said.
    Nothing,
    /// An answer.
    Say(String),
    /// A request begins.
    Begin {
        /// The reader's number for it.
        id: u64,
        /// The work.
        job: Job,
    },
    /// A request is wanted no longer; no answer is expected.
    Stop {
        /// The reader's number for it.
        id: u64,
    },
}

/// When a reader was last told something.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Small news alone may be told.
    pub small_due: bool,
    /// Something must be told.
    pub heartbeat: bool,
}

/// One reader's view of a table.
pub trait Feed: Send {
    /// Moves on whenever the table changes.
    fn changed(&self) -> watch::Receiver<u64>;
    /// The first message.
    fn hello(&self) -> String;
    /// What changed since the last time.
    fn news(&mut self, pace: Pace) -> Vec<String>;
    /// What the reader says. A request may say more than one thing, through `say`.
    ///
    /// # Errors
    /// When it is no message of this stream; the stream ends then.
    fn heard(&mut self, text: &str, say: &mpsc::Sender<String>) -> Result<Heard, String>;
    /// The answer to a request that comes while too many are at work.
    fn busy(&self, id: u64, limit: usize) -> String;
}

/// Sizes of messages.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// From a reader, at most.
    pub request: usize,
    /// To a reader, at most; larger ones are left out and logged.
    pub update: usize,
}

impl Sizes {
    /// What the WebSocket library is to hold to.
    pub fn websocket(self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(64 << 10)
            .max_write_buffer_size(self.update.saturating_mul(2))
            .max_message_size(Some(self.request))
            .max_frame_size(Some(self.request))
    }
}

/// Why a reader is let go.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the reader has closed the stream")]
    Closed,
    #[error("{0}")]
    Stopping(String),
    #[error("nothing was read for {} s", WRITE_LIMIT.as_secs())]
    Stuck,
    #[error("what came is no request of this stream: {0}")]
    Nonsense(String),
    #[error(transparent)]
    Socket(#[from] WsError),
}

impl End {
    fn code(&self) -> CloseCode {
        match self {
            End::Stopping(_) => CloseCode::Restart,
            End::Stuck => CloseCode::Policy,
            End::Nonsense(_) => CloseCode::Invalid,
            End::Socket(WsError::Capacity(_)) => CloseCode::Size,
            _ => CloseCode::Normal,
        }
    }
}

/// Whether a request may become a stream at `path`: one of a page in a browser names where it comes
/// from, and may not.
///
/// # Errors
/// The status and the text of the refusal.
pub fn admit(
    uri: &http::Uri,
    headers: &http::HeaderMap,
    path: &str,
) -> Result<(), (http::StatusCode, String)> {
    if headers.contains_key(http::header::ORIGIN) {
        return Err((http::StatusCode::FORBIDDEN, "the stream is not for web pages".to_owned()));
    }
    if uri.path() != path {
        return Err((http::StatusCode::NOT_FOUND, format!("the stream is at {path}")));
    }
    Ok(())
}

/// A connection from its HTTP handshake to its end, which is `until` at the latest; that says why.
pub async fn accept<S, F>(
    io: S,
    path: &str,
    feed: F,
    sizes: Sizes,
    until: impl Future<Output = String>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Feed,
{
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    let judge =
        |request: &Upgrade, response: Response| match admit(request.uri(), request.headers(), path)
        {
            Ok(()) => Ok(response),
            Err((status, text)) => {
                let mut answer = ErrorResponse::new(Some(text));
                *answer.status_mut() = status;
                Err(answer)
            }
        };
    let config = Some(sizes.websocket());
    let upgrade = tokio_tungstenite::accept_hdr_async_with_config(io, judge, config);
    match timeout(HANDSHAKE, upgrade).await {
        Ok(Ok(socket)) => session(socket, feed, sizes, until).await,
        Ok(Err(error)) => debug!(%error, "no reader of the stream"),
        Err(_) => debug!("a reader of the stream never spoke"),
    }
}

/// One reader, from hello to close.
pub async fn session<S, F>(
    mut socket: WebSocketStream<S>,
    feed: F,
    sizes: Sizes,
    until: impl Future<Output = String>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Feed,
{
    let (say, said) = mpsc::channel(WAITING);
    let mut reader = Reader {
        feed,
        sizes,
        told: None,
        looked: None,
        jobs: JoinSet::new(),
        running: Vec::new(),
        say,
        said,
    };
    let end = tokio::select! {
        end = reader.run(&mut socket) => end,
        why = until => End::Stopping(why),
    };
    drop(reader);
    debug!(why = %end, "a reader of the stream has gone");
    close(&mut socket, end.code(), &end.to_string()).await;
}

struct Reader<F> {
    feed: F,
    sizes: Sizes,
    /// When it was last told what changed.
    told: Option<Instant>,
    /// When the table was last looked at for it.
    looked: Option<Instant>,
    jobs: JoinSet<(u64, String)>,
    running: Vec<(u64, AbortHandle)>,
    say: mpsc::Sender<String>,
    said: mpsc::Receiver<String>,
}

impl<F: Feed> Reader<F> {
    async fn run<S>(&mut self, socket: &mut WebSocketStream<S>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut changed = self.feed.changed();
        if let Err(end) = self.send(socket, self.feed.hello()).await {
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
                frame = socket.next() => match self.heard(frame) {
                    Ok(Some(answer)) => self.send(socket, answer).await,
                    Ok(None) => Ok(()),
                    Err(end) => Err(end),
                },
                // What a request says along the way comes before its end.
                Some(text) = self.said.recv() => self.send(socket, text).await,
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    self.done(socket, done).await
                }
                _ = changed.changed(), if !news => {
                    news = true;
                    Ok(())
                }
                () = sleep_until(due) => {
                    let heartbeat = !news;
                    news = false;
                    changed.mark_unchanged();
                    self.tell(socket, heartbeat).await
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn done<S>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        done: Result<(u64, String), tokio::task::JoinError>,
    ) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Else it was stopped by the reader, who expects no answer then.
        let Ok((id, text)) = done else { return Ok(()) };
        self.running.retain(|(running, _)| *running != id);
        while let Ok(before) = self.said.try_recv() {
            self.send(socket, before).await?;
        }
        self.send(socket, text).await
    }

    /// Tells what changed, if anything did that this reader is to know now.
    async fn tell<S>(&mut self, socket: &mut WebSocketStream<S>, heartbeat: bool) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let began = Instant::now();
        self.looked = Some(began);
        let small_due = self.told.is_none_or(|at| began - at >= SMALL);
        let messages = self.feed.news(Pace { small_due, heartbeat });
        if messages.is_empty() {
            return Ok(());
        }
        for message in messages {
            self.send(socket, message).await?;
        }
        self.told = Some(Instant::now());
        Ok(())
    }

    /// Deals with what the reader says; some of it is answered at once.
    fn heard(&mut self, frame: Option<Result<Frame, WsError>>) -> Result<Option<String>, End> {
        let text = match frame {
            None | Some(Ok(Frame::Close(_))) => return Err(End::Closed),
            Some(Err(WsError::ConnectionClosed | WsError::Io(_))) => return Err(End::Closed),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(Frame::Text(text))) => text,
            Some(Ok(_)) => return Ok(None),
        };
        Ok(match self.feed.heard(&text, &self.say).map_err(End::Nonsense)? {
            Heard::Nothing => None,
            Heard::Say(text) => Some(text),
            Heard::Begin { id, .. } if self.running.len() >= REQUESTS => {
                Some(self.feed.busy(id, REQUESTS))
            }
            Heard::Begin { id, job } => {
                let handle = self.jobs.spawn(async move { (id, job.await) });
                self.running.push((id, handle));
                None
            }
            Heard::Stop { id } => {
                if let Some(at) = self.running.iter().position(|(running, _)| *running == id) {
                    self.running.swap_remove(at).1.abort();
                }
                None
            }
        })
    }

    async fn send<S>(&self, socket: &mut WebSocketStream<S>, text: String) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if text.len() > self.sizes.update {
            warn!(bytes = text.len(), "a message of the stream is too large and is left out");
            return Ok(());
        }
        match timeout(WRITE_LIMIT, socket.send(Frame::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(WsError::ConnectionClosed | WsError::Io(_))) => Err(End::Closed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(End::Stuck),
        }
    }
}

/// Closes with a reason, and gives the peer a moment to read it.
pub async fn close<S>(socket: &mut WebSocketStream<S>, code: CloseCode, reason: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let end = reason.floor_char_boundary(REASON);
    let frame = CloseFrame { code, reason: reason[..end].into() };
    let closing = async {
        if socket.close(Some(frame)).await.is_ok() {
            // Until the peer has closed too, or its last words have been read: a reset would
            // swallow the reason.
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // Whoever does not answer gets no more of our time.
    let _ = timeout(CLOSE_LIMIT, closing).await;
}

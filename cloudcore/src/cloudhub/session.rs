//! One edge node's connection, from handshake to close.
//!
//! Owns: the socket, the keepalive clock.
//! Called by: `server.rs` (a new connection).
//! Never: waits for one object's acknowledgement before it sends another, or for the API server.

use std::time::Duration;

use api::wire::{Downstream, json};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use service::CancellationToken;
pub use service::stream::close;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame};
use tracing::{Level, debug, enabled, info, trace, warn};

use super::budget::{Meter, Metered};
use super::dispatch::{Dispatcher, Talker};
use super::outbox::Due;
use super::registry::{Connection, Ended};
use crate::metrics::Drop as Dropped;

/// How long one flush may take: a peer that reads nothing for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How often the round trip is measured.
const PING: Duration = Duration::from_secs(10);

/// Measures round trips: a ping carries when it was sent, in microseconds since the session began.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn stamp(self) -> Bytes {
        let micros = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        Bytes::copy_from_slice(&micros.to_be_bytes())
    }

    /// Since the ping that is answered; none for what was never sent.
    fn took(self, sent: &[u8]) -> Option<Duration> {
        let sent = Duration::from_micros(u64::from_be_bytes(sent.try_into().ok()?));
        self.0.elapsed().checked_sub(sent)
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Told(Ended),
    #[error("the node has closed the connection")]
    Closed,
    #[error("nothing was heard for {0} s")]
    Silent(u64),
    #[error("nothing could be written for {} s", WRITE_LIMIT.as_secs())]
    Stuck,
    /// Why, and whether it was a message beyond the limit.
    #[error("{0}")]
    Socket(String, bool),
    #[error("{0}")]
    Malformed(json::JsonError),
}

impl End {
    fn code(&self) -> CloseCode {
        match self {
            End::Told(Ended::Stopping) => CloseCode::Restart,
            End::Told(_) | End::Silent(_) => CloseCode::Policy,
            End::Malformed(_) => CloseCode::Invalid,
            End::Socket(_, true) => CloseCode::Size,
            _ => CloseCode::Normal,
        }
    }
}

/// Runs until the connection ends, from whichever side; says why it has.
pub async fn run<S>(
    socket: WebSocketStream<Metered<S>>,
    connection: Connection,
    ended: oneshot::Receiver<Ended>,
    dispatcher: &Dispatcher,
    keepalive: Duration,
    stopping: CancellationToken,
) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let node = connection.origin().node.clone();
    info!(%node, "session ready");
    let meter = socket.get_ref().meter();
    let clock = Clock(Instant::now());
    let (mut sink, mut stream) = socket.split();
    // Side by side in this task: neither waits for the other, so that a peer which writes before it
    // reads cannot bring both to a halt.
    let work = async {
        tokio::select! {
            end = read(&mut stream, &meter, &connection, dispatcher, keepalive, clock) => end,
            end = write(&mut sink, &connection, dispatcher, clock) => end,
            told = ended => End::Told(told.unwrap_or(Ended::Stopping)),
        }
    };
    let end = tokio::select! {
        // Once cloudcore stops nothing is sent: it could not be recorded any more.
        biased;
        () = stopping.cancelled() => End::Told(Ended::Stopping),
        end = work => end,
    };
    drop(connection);
    match &end {
        End::Closed | End::Told(_) => info!(%node, why = %end, "session ended"),
        _ => warn!(%node, why = %end, "session ended"),
    }
    let why = end.to_string();
    if let Ok(mut socket) = sink.reunite(stream) {
        close(&mut socket, end.code(), &why).await;
    }
    why
}

async fn read<S>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    meter: &Meter,
    connection: &Connection,
    dispatcher: &Dispatcher,
    keepalive: Duration,
    clock: Clock,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut talker = Talker::default();
    let mut heard = Instant::now();
    loop {
        let Ok(frame) = timeout_at(heard + keepalive, stream.next()).await else {
            return End::Silent(keepalive.as_secs());
        };
        let memory = meter.message_complete();
        let size = frame.as_ref().and_then(|f| f.as_ref().ok()).map_or(0, Frame::len);
        let message = match &frame {
            Some(Ok(Frame::Text(text))) => json::decode(text.as_bytes()),
            Some(Ok(Frame::Binary(bytes))) => json::decode(bytes),
            Some(Ok(Frame::Close(_))) | None => return End::Closed,
            Some(Ok(Frame::Pong(sent))) => {
                if let Some(took) = clock.took(sent) {
                    connection.status().round_trip(&connection.origin().node, took);
                }
                continue;
            }
            Some(Ok(_)) => continue,
            Some(Err(WsError::ConnectionClosed | WsError::Io(_))) => return End::Closed,
            Some(Err(error)) => return End::Socket(error.to_string(), is_capacity(error)),
        };
        drop(frame);
        heard = Instant::now();
        dispatcher.metrics.received.inc();
        match message {
            Ok(message) => dispatcher.dispatch(connection, &mut talker, message, size, memory),
            Err(error) => {
                dispatcher.metrics.dropped(Dropped::Undecodable, 1);
                return End::Malformed(error);
            }
        }
    }
}

fn is_capacity(error: &WsError) -> bool {
    matches!(error, WsError::Capacity(_))
}

async fn write<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Frame>,
    connection: &Connection,
    dispatcher: &Dispatcher,
    clock: Clock,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ping = Instant::now();
    loop {
        let (due, next) = connection.due(Instant::now());
        if due.is_empty() {
            let again = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = connection.woken() => {}
                () = again => {}
                () = sleep_until(ping) => {
                    ping = Instant::now() + PING;
                    match timeout(WRITE_LIMIT, sink.send(Frame::Ping(clock.stamp()))).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return End::Closed,
                        Err(_) => return End::Stuck,
                    }
                }
            }
            continue;
        }
        match timeout(WRITE_LIMIT, send(sink, due, connection, dispatcher)).await {
            Ok(Ok(())) => {}
            Ok(Err(WsError::Io(_) | WsError::ConnectionClosed)) => return End::Closed,
            Ok(Err(error)) => return End::Socket(error.to_string(), is_capacity(&error)),
            Err(_) => return End::Stuck,
        }
    }
}

/// Puts on the socket all that is due, with one flush.
async fn send<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Frame>,
    due: Vec<Due>,
    connection: &Connection,
    dispatcher: &Dispatcher,
) -> Result<(), WsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let metrics = &dispatcher.metrics;
    let node = &connection.origin().node;
    for due in due {
        let message = due.message.encode(&due.id, jiff::Timestamp::now().as_millisecond());
        let text = match json::encode(&message) {
            Ok(text) => text,
            Err(error) => {
                connection.withdraw(&due.id);
                warn!(%node, resource = message.route.resource, %error, "cannot be sent");
                continue;
            }
        };
        metrics.sent.inc();
        let object = match &due.message {
            Downstream::Object(push) => Some(&push.key),
            _ => None,
        };
        let what = &message.route.resource;
        connection.status().sent(node, &due.id, object, what, text.len());
        if due.again {
            metrics.resent.inc();
            debug!(%node, msg = %due.id, resource = message.route.resource, "sent again");
        }
        if enabled!(target: "hop", Level::TRACE) {
            trace!(target: "hop", msg = due.message.subject(&due.id), at = "cloudhub.socket");
        }
        sink.feed(Frame::text(text)).await?;
    }
    sink.flush().await
}

//! One connection to the cloud, from handshake to close.
//!
//! Owns: the socket, the keepalive clock, the pace of what goes up.
//! Called by: `link.rs`.
//! Never: keeps anything that must survive the connection.
//!
//! Two loops run side by side in one task, so that a slow write cannot stop the reading. What they
//! have in common is a channel of 1024 messages that answer what was read; when it is full, the
//! reader waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::names::MessageId;
use api::wire::json::{self, JsonError};
use api::wire::message::Message;
use api::wire::upstream::Upstream;
use futures::stream::{SplitSink, SplitStream};
use futures::{FutureExt, Sink, SinkExt, StreamExt};
use jiff::Timestamp;
use service::telemetry::HOP;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Bytes, Message as Frame, Utf8Bytes};

use super::dispatch::Dispatch;
use super::pace::Pace;

/// Messages that answer what was read and wait for the writer.
const ANSWERS: usize = 1024;
/// Messages that are stored in one transaction at most, by number and by size.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 1 << 20;

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// How a connection is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Between two keepalives; a dead link is noticed within two of them.
    pub(crate) heartbeat: Duration,
    /// A message that takes longer to write ends the connection.
    pub(crate) write_limit: Duration,
    /// Messages a second.
    pub(crate) qps: u32,
    /// Messages at once.
    pub(crate) burst: u32,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The cloud closed it.
    #[error("the cloud closed the connection{}", said(.code, .reason))]
    Closed {
        /// WebSocket close code.
        code: Option<u16>,
        /// What the cloud said.
        reason: String,
    },
    /// Nothing was heard.
    #[error("nothing was heard from the cloud for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The socket does not take what is written.
    #[error("the cloud did not take a message within {} s", .0.as_secs_f32())]
    Stuck(Duration),
    /// The socket failed.
    #[error("the connection failed")]
    Failed(#[from] tungstenite::Error),
    /// The node has a new certificate.
    #[error("this node has a new certificate")]
    Renewed,
    /// The process stops.
    #[error("edgecore stops")]
    Stopping,
}

fn said(code: &Option<u16>, text: &str) -> String {
    match (code, text) {
        (_, text) if !text.is_empty() => format!(": {text}"),
        (Some(code), _) => format!(" with code {code} and no reason"),
        (None, _) => " and gave no reason".to_owned(),
    }
}

/// When a byte last came in; kept by [`super::link::Heard`].
#[derive(Debug, Clone)]
pub(crate) struct LastHeard {
    start: Instant,
    millis: Arc<AtomicU64>,
}

impl LastHeard {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), millis: Arc::default() }
    }

    pub(crate) fn now(&self) {
        let millis = self.start.elapsed().as_millis();
        self.millis.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// Runs a connection until it ends, or until `leave` says why to end it. `wake` is told when the
/// outbox or the questions have something.
pub(crate) async fn run<S>(
    socket: WebSocketStream<S>,
    heard: LastHeard,
    timing: Timing,
    dispatch: &Dispatch,
    wake: &Notify,
    leave: impl Future<Output = End>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    let (answer, answers) = mpsc::channel(ANSWERS);
    let mut writer = Writer {
        sink,
        timing,
        heard,
        pace: Pace::new(timing.qps, timing.burst, Instant::now()),
        keepalive_at: Instant::now(),
        ping_at: Instant::now() + timing.heartbeat / 2,
        dispatch,
    };
    let end = tokio::select! {
        end = read(stream, dispatch, answer) => return end,
        end = writer.run(answers, wake) => return end,
        end = leave => end,
    };
    let frame = CloseFrame { code: CloseCode::Away, reason: end.to_string().into() };
    let goodbye = writer.sink.send(Frame::Close(Some(frame)));
    // The cloud sees a socket that closes in any case.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    end
}

async fn read<S>(
    mut stream: SplitStream<WebSocketStream<S>>,
    dispatch: &Dispatch,
    answer: mpsc::Sender<(MessageId, Upstream)>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    dispatch.resync().await;
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = stream.next().await;
        let end = loop {
            match next {
                Some(Ok(Frame::Text(text))) => bytes += decode(text.as_bytes(), &mut batch),
                Some(Ok(Frame::Binary(data))) => bytes += decode(&data, &mut batch),
                Some(Ok(Frame::Close(frame))) => {
                    break Some(End::Closed {
                        code: frame.as_ref().map(|f| f.code.into()),
                        reason: frame.map(|f| printable(&f.reason)).unwrap_or_default(),
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(e)) => break Some(e.into()),
                None => break Some(End::Closed { code: None, reason: String::new() }),
            }
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                break None;
            }
            // What has arrived already shares a transaction.
            match stream.next().now_or_never() {
                Some(ready) => next = ready,
                None => break None,
            }
        };
        if !batch.is_empty() {
            dispatch.arrived(batch, &answer).await;
        }
        if let Some(end) = end {
            return end;
        }
    }
}

fn decode(bytes: &[u8], into: &mut Vec<Message>) -> usize {
    match json::decode(bytes) {
        Ok(message) => into.push(message),
        Err(e @ JsonError::Malformed(_)) => {
            tracing::warn!(
                error = service::error_chain(&e),
                "the cloud sent something that is no message"
            );
        }
        Err(e) => tracing::warn!(error = %e, "the cloud sent something that is no message"),
    }
    bytes.len()
}

/// What a peer sends must not reach a terminal raw, nor fill a log.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(512).collect::<String>().trim().escape_debug().to_string()
}

struct Writer<'a, S> {
    sink: SplitSink<WebSocketStream<S>, Frame>,
    timing: Timing,
    heard: LastHeard,
    pace: Pace,
    keepalive_at: Instant,
    ping_at: Instant,
    dispatch: &'a Dispatch,
}

impl<S> Writer<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(
        &mut self,
        mut answers: mpsc::Receiver<(MessageId, Upstream)>,
        wake: &Notify,
    ) -> End {
        loop {
            let wrote = self.write_all_due(&mut answers).await;
            let due = match wrote {
                Ok(due) => due,
                Err(end) => return end,
            };
            tokio::select! {
                () = wake.notified() => {}
                Some((id, message)) = answers.recv() => {
                    if let Err(end) = self.send(id, &message).await {
                        return end;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Writes what may go now; says when to look again.
    async fn write_all_due(
        &mut self,
        answers: &mut mpsc::Receiver<(MessageId, Upstream)>,
    ) -> Result<Instant, End> {
        loop {
            let now = Instant::now();
            let silent = now.saturating_duration_since(self.heard.at());
            if silent >= self.silence_limit() {
                return Err(End::Silent(silent));
            }
            if now >= self.keepalive_at {
                self.keepalive_at = now + self.timing.heartbeat;
                self.send(MessageId::random(), &Upstream::Keepalive).await?;
            }
            if now >= self.ping_at {
                // KubeEdge's cloud answers no keepalive, but its WebSocket library answers pings.
                self.ping_at = now + self.timing.heartbeat / 2;
                self.feed(Frame::Ping(Bytes::new())).await?;
            }
            while let Ok((id, message)) = answers.try_recv() {
                self.send(id, &message).await?;
            }
            match self.next(now) {
                Some((id, message)) => self.send(id, &message).await?,
                None => break,
            }
        }
        self.flush().await?;
        Ok(self.look_again())
    }

    /// The next message that has to wait for its turn: questions first, then pods; devices and
    /// events, of which there may be many, leave half of the burst to those.
    fn next(&mut self, now: Instant) -> Option<(MessageId, Upstream)> {
        let mut outbox = self.dispatch.to_cloud.outbox();
        outbox.expire(now);
        if self.pace.take(now) {
            let next = self.dispatch.requests.next().or_else(|| outbox.next_report(now));
            if next.is_some() {
                return next;
            }
            self.pace.give_back();
        }
        if outbox.has_spare() && self.pace.take_spare(now) {
            return outbox.next_spare(now);
        }
        None
    }

    fn look_again(&self) -> Instant {
        let now = Instant::now();
        let outbox = self.dispatch.to_cloud.outbox();
        let report = outbox.has_report(now) || self.dispatch.requests.has_something();
        [
            Some(self.keepalive_at),
            Some(self.ping_at),
            Some(self.heard.at() + self.silence_limit()),
            outbox.next_due(now),
            report.then(|| self.pace.next()).flatten(),
            outbox.has_spare().then(|| self.pace.next_spare()).flatten(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now)
    }

    fn silence_limit(&self) -> Duration {
        self.timing.heartbeat * 3 / 2
    }

    async fn send(&mut self, id: MessageId, message: &Upstream) -> Result<(), End> {
        let millis = Timestamp::now().as_millisecond();
        let envelope = message.encode(&id, millis);
        if tracing::enabled!(target: HOP, tracing::Level::TRACE) {
            tracing::trace!(target: HOP, msg = message.subject(&id), at = "edgehub.socket");
        }
        match json::encode(&envelope) {
            Ok(text) => self.feed(Frame::Text(Utf8Bytes::from(text))).await,
            Err(e) => {
                tracing::error!(error = %e, "a message to the cloud cannot be sent; it is dropped");
                Ok(())
            }
        }
    }

    async fn feed(&mut self, frame: Frame) -> Result<(), End> {
        self.within_limit(async |sink| sink.feed(frame).await).await
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.within_limit(async |sink| sink.flush().await).await
    }

    async fn within_limit<F>(&mut self, write: F) -> Result<(), End>
    where
        F: AsyncFnOnce(
            &mut SplitSink<WebSocketStream<S>, Frame>,
        )
            -> Result<(), <SplitSink<WebSocketStream<S>, Frame> as Sink<Frame>>::Error>,
    {
        let limit = self.timing.write_limit;
        match tokio::time::timeout(limit, write(&mut self.sink)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(e.into()),
            Err(_) => Err(End::Stuck(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::edgehub::link::Heard;
    use crate::edgehub::{Requests, ToCloud};
    use crate::metamanager::remote::Remote;
    use crate::metamanager::{Objects, Store};

    const HEARTBEAT: Duration = Duration::from_secs(15);
    const TIMING: Timing =
        Timing { heartbeat: HEARTBEAT, write_limit: HEARTBEAT, qps: 30, burst: 60 };

    fn dispatch(folder: &std::path::Path) -> Dispatch {
        let store = Store::open(&folder.join("edgecore.db")).unwrap();
        let wake = Arc::new(Notify::new());
        let requests = Requests::new(Arc::clone(&wake));
        let remote = Remote::new(store.clone(), requests.clone(), HEARTBEAT);
        let node: api::names::NodeName = "edge-1".parse().unwrap();
        Dispatch {
            node: node.clone(),
            to_cloud: ToCloud::new(store.clone(), wake),
            objects: Objects::new(remote, node),
            store,
            requests,
            wanted: None,
            devices: None,
            rules: None,
            jobs: Err(crate::taskmanager::NoJobs::Off),
        }
    }

    async fn run_on(near: DuplexStream) -> End {
        let dir = tempfile::tempdir().unwrap();
        let heard = LastHeard::new();
        let stream = Heard::new(near, heard.clone());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        run(socket, heard, TIMING, &dispatch(dir.path()), &Notify::new(), pending()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_link_is_noticed_within_two_keepalives() {
        let (near, _far) = tokio::io::duplex(64 << 10);
        let start = Instant::now();
        let end = run_on(near).await;
        assert!(matches!(end, End::Silent(_)), "{end}");
        assert!(start.elapsed() <= 2 * HEARTBEAT, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_only_answers_pings_keeps_the_link() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let mut cloud = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let answering = tokio::spawn(async move { while cloud.next().await.is_some() {} });
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, run_on(near)).await.is_err(), "it ended");
        answering.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_takes_nothing_ends_the_link() {
        let (near, _far) = tokio::io::duplex(16);
        let end = run_on(near).await;
        assert!(matches!(end, End::Stuck(_)), "{end}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_reason_for_a_close_is_kept_and_harmless_to_print() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let mut cloud = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let frame = CloseFrame { code: CloseCode::Policy, reason: "no \u{1b}[31m entry".into() };
        cloud.send(Frame::Close(Some(frame))).await.unwrap();
        let end = run_on(near).await;
        assert_eq!(end.to_string(), "the cloud closed the connection: no \\u{1b}[31m entry");
    }
}

//! One node's tunnel, and the connections in it.
//!
//! Owns: the frames on the socket, what each connection has received, what each may still send.
//! Called by: `server.rs` runs it; `streamserver.rs` opens connections.
//! Never: lets a slow reader hold up its neighbours: it stops its own sender, or, if that is the
//! original's edge and knows no window, is cut off.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::names::NodeName;
use api::tunnel::window::{self, Inbox, WINDOW};
use api::tunnel::ws::{self, Event, Incoming, Role};
use api::tunnel::{ConnectRequest, Frame, FrameKind};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use service::CancellationToken;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tracing::debug;

/// Connections of one node at once.
const CONNECTIONS: usize = 256;
/// Frames that wait for the socket; full: senders wait.
const QUEUE: usize = 64;
/// The edge pings every 5 s; a tunnel that is silent for so long is dead.
const SILENCE: Duration = Duration::from_secs(30);
/// A socket that takes nothing for so long is dead.
const WRITE_LIMIT: Duration = Duration::from_secs(15);
/// So much is written at once.
const BATCH: usize = 64 << 10;

/// The ids of all connections of this cloudcore.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What is written to the socket.
enum Outgoing {
    Frame(Frame),
    Pong(Bytes),
}

/// One connection's state.
#[derive(Debug)]
struct Slot {
    inbox: Mutex<Inbox>,
    news: Notify,
    may_send: Semaphore,
}

/// The tunnel of one node.
#[derive(Debug)]
pub struct Tunnel {
    node: NodeName,
    windows: bool,
    out: mpsc::Sender<Outgoing>,
    open: Mutex<HashMap<u64, Arc<Slot>>>,
    ended: CancellationToken,
}

/// The task's end of a tunnel's queue.
pub struct Queue(mpsc::Receiver<Outgoing>);

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The limit.
    #[error("the node has {CONNECTIONS} streams open already; close some")]
    TooMany,
    /// The tunnel has just ended.
    #[error("the node's tunnel has ended; try again")]
    Gone,
}

impl Tunnel {
    /// A tunnel that is not yet run; `windows` says whether the edge keeps to windows.
    pub fn new(node: NodeName, windows: bool) -> (Arc<Self>, Queue) {
        let (out, queue) = mpsc::channel(QUEUE);
        let ended = CancellationToken::new();
        let tunnel = Self { node, windows, out, open: Mutex::default(), ended };
        (Arc::new(tunnel), Queue(queue))
    }

    /// Whose it is.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Whether the edge keeps to windows and answers with the head of an HTTP response.
    pub fn windows(&self) -> bool {
        self.windows
    }

    /// Ends it.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Opens a connection: the edge carries out the request.
    ///
    /// # Errors
    /// When there are too many, or the tunnel has ended.
    pub async fn connect(
        self: &Arc<Self>,
        kind: FrameKind,
        mut request: ConnectRequest,
    ) -> Result<Connection, OpenError> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        request.connect_id = id;
        let slot = Arc::new(Slot {
            inbox: Mutex::new(Inbox::new(self.windows)),
            news: Notify::new(),
            may_send: Semaphore::new(WINDOW),
        });
        {
            let mut open = self.open.lock();
            if open.len() >= CONNECTIONS {
                return Err(OpenError::TooMany);
            }
            open.insert(id, Arc::clone(&slot));
        }
        let connection = Connection { id, tunnel: Arc::clone(self), slot };
        let frame = request.encode(kind).map_err(|_| OpenError::Gone)?;
        self.send(frame).await?;
        Ok(connection)
    }

    async fn send(&self, frame: Frame) -> Result<(), OpenError> {
        tokio::select! {
            sent = self.out.send(Outgoing::Frame(frame)) => sent.map_err(|_| OpenError::Gone),
            () = self.ended.cancelled() => Err(OpenError::Gone),
        }
    }

    /// Moves frames until the tunnel ends; says why it did.
    pub async fn run<S>(self: &Arc<Self>, socket: S, queue: Queue) -> String
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (read, write) = tokio::io::split(socket);
        let why = tokio::select! {
            why = self.receive(read) => why,
            why = transmit(write, queue.0) => why,
            () = self.ended.cancelled() => "it was ended".to_owned(),
        };
        self.ended.cancel();
        for slot in self.open.lock().values() {
            slot.inbox.lock().end();
            slot.may_send.close();
            slot.news.notify_one();
        }
        why
    }

    async fn receive(&self, mut socket: impl AsyncRead + Unpin) -> String {
        let mut incoming = Incoming::new(Role::Server);
        loop {
            match timeout(SILENCE, socket.read_buf(incoming.buffer())).await {
                Err(_) => return format!("nothing was heard for {} s", SILENCE.as_secs()),
                Ok(Err(e)) => return e.to_string(),
                Ok(Ok(0)) => return "the edge hung up".to_owned(),
                Ok(Ok(_)) => {}
            }
            loop {
                match incoming.next_event() {
                    Ok(None) => break,
                    Ok(Some(Event::Message(bytes))) => match Frame::decode(bytes) {
                        Ok(frame) => self.deliver(&frame),
                        Err(e) => return e.to_string(),
                    },
                    // A queue that is full is being written: the edge hears that.
                    Ok(Some(Event::Ping(data))) => drop(self.out.try_send(Outgoing::Pong(data))),
                    Ok(Some(Event::Pong)) => {}
                    Ok(Some(Event::Close(why))) => return format!("the edge closed it: {why}"),
                    Err(e) => return e.to_string(),
                }
            }
        }
    }

    /// Never waits: a connection that can hold no more is ended.
    fn deliver(&self, frame: &Frame) {
        let Some(slot) = self.open.lock().get(&frame.connect_id).map(Arc::clone) else {
            return; // closed here while the frame was on its way
        };
        match frame.kind {
            FrameKind::Data => {
                let pushed = slot.inbox.lock().push(&frame.data);
                if let Err(e) = pushed {
                    debug!(node = %self.node, id = frame.connect_id, "a stream is cut off: {e}");
                    slot.inbox.lock().end();
                }
            }
            FrameKind::Credit => {
                let room = WINDOW.saturating_sub(slot.may_send.available_permits());
                slot.may_send.add_permits(window::credited(frame).unwrap_or(0).min(room));
            }
            FrameKind::RemoveConnect | FrameKind::CloseConnect => {
                slot.inbox.lock().end();
                slot.may_send.close();
            }
            _ => return,
        }
        slot.news.notify_one();
    }
}

async fn transmit(
    mut socket: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
) -> String {
    let mut bytes = BytesMut::new();
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Frame(frame) => match frame.encode() {
                    Ok(message) => ws::encode(ws::Kind::Text, &message, None, &mut bytes),
                    Err(e) => debug!("a frame is dropped: {e}"),
                },
                Outgoing::Pong(data) => ws::encode(ws::Kind::Pong, &data, None, &mut bytes),
            }
            next = if bytes.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        let written = async {
            socket.write_all(&bytes).await?;
            socket.flush().await
        };
        match timeout(WRITE_LIMIT, written).await {
            Err(_) => return format!("nothing could be written for {} s", WRITE_LIMIT.as_secs()),
            Ok(Err(e)) => return e.to_string(),
            Ok(Ok(())) => bytes.clear(),
        }
    }
    "nobody needs it".to_owned()
}

/// A stream to the node's kubelet API. Dropping it closes it at the edge.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    tunnel: Arc<Tunnel>,
    slot: Arc<Slot>,
}

impl Connection {
    /// What has come; `None` at the end.
    pub async fn read(&self) -> Option<Bytes> {
        loop {
            let news = self.slot.news.notified();
            if let Some(data) = self.slot.inbox.lock().take() {
                return (!data.is_empty()).then_some(data);
            }
            news.await;
        }
    }

    /// So many of the bytes read have reached whoever wanted them: the edge may send more.
    pub async fn passed_on(&self, bytes: usize) {
        let owed = self.slot.inbox.lock().passed_on(bytes);
        if let Some(owed) = owed {
            // If it has ended, the next read says so.
            let _ = self.tunnel.send(window::credit(self.id, owed)).await;
        }
    }

    /// Sends; waits while the edge can hold no more.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn write(&self, data: Bytes) -> Result<(), OpenError> {
        if self.tunnel.windows {
            let needed = u32::try_from(data.len()).map_err(|_| OpenError::Gone)?;
            let permit = self.slot.may_send.acquire_many(needed).await;
            permit.map_err(|_| OpenError::Gone)?.forget();
        }
        self.tunnel.send(Frame::data(self.id, data)).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tunnel.open.lock().remove(&self.id);
        let frame =
            Frame { connect_id: self.id, kind: FrameKind::RemoveConnect, data: Bytes::new() };
        if let Err(mpsc::error::TrySendError::Full(Outgoing::Frame(frame))) =
            self.tunnel.out.try_send(Outgoing::Frame(frame))
        {
            let tunnel = Arc::clone(&self.tunnel);
            tokio::spawn(async move { tunnel.send(frame).await });
        }
    }
}

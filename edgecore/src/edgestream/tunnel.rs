//! The open tunnel, and the connections in it.
//!
//! Owns: the frames on the socket, what each connection has received, what each may still send.
//! Called by: `mod.rs`.
//! Never: lets one connection hold up another, or keeps one whose tunnel has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::tunnel::window::{self, Inbox, WINDOW};
use api::tunnel::ws::{self, Event, Incoming, Role};
use api::tunnel::{ConnectRequest, Frame, FrameKind};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dial::Opened;
use super::request::{self, Bare};
use crate::edged::LocalApi;

/// Connections at once.
const CONNECTIONS: usize = 256;
/// Frames that wait for the socket; full: senders wait.
const QUEUE: usize = 64;
/// As often as the original.
const PING: Duration = Duration::from_secs(5);
const PING_TEXT: &[u8] = b"ping you";
/// A cloud that answers no ping for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// The original's cloud hears nothing before it has written down that the node has a tunnel, for
/// which it waits 20 s if the node is new, and 2 min at most. A tunnel that was given up by then
/// would take the place of its successor there.
const FIRST_SILENCE: Duration = Duration::from_secs(150);
/// What is sent at once.
const PIECE: usize = 16 << 10;
/// So much is written at once.
const BATCH: usize = 64 << 10;

/// What is written to the socket.
enum Outgoing {
    Frame(Frame),
    Pong(Bytes),
}

/// One connection's state.
struct Slot {
    inbox: Mutex<Inbox>,
    news: Notify,
    may_send: Semaphore,
}

impl Slot {
    fn new(windows: bool) -> Self {
        let inbox = Mutex::new(Inbox::new(windows));
        Self { inbox, news: Notify::new(), may_send: Semaphore::new(WINDOW) }
    }

    fn end(&self) {
        self.inbox.lock().end();
        self.may_send.close();
        self.news.notify_one();
    }

    /// What has come; `None` at the end.
    async fn read(&self) -> Option<Bytes> {
        loop {
            let news = self.news.notified();
            if let Some(data) = self.inbox.lock().take() {
                return (!data.is_empty()).then_some(data);
            }
            news.await;
        }
    }
}

type Open = Arc<Mutex<HashMap<u64, Arc<Slot>>>>;

/// Moves frames until the tunnel ends; says why it did.
pub(super) async fn run(opened: Opened, api: LocalApi, write_limit: Duration) -> String {
    let Opened { socket, windows } = opened;
    over(socket, windows, api, write_limit).await
}

/// [`run`] over any socket.
pub(super) async fn over<S>(
    socket: S,
    windows: bool,
    api: LocalApi,
    write_limit: Duration,
) -> String
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (read, write) = tokio::io::split(socket);
    let (out, queue) = mpsc::channel(QUEUE);
    let tunnel = Tunnel { windows, api, out, open: Open::default() };
    tokio::select! {
        why = tunnel.receive(read) => why,
        why = transmit(write, queue, write_limit) => why,
    }
}

struct Tunnel {
    windows: bool,
    api: LocalApi,
    out: mpsc::Sender<Outgoing>,
    open: Open,
}

impl Tunnel {
    async fn receive(&self, mut socket: impl AsyncRead + Unpin) -> String {
        let mut incoming = Incoming::new(Role::Client);
        // Dropped with this future: no connection outlives the tunnel.
        let mut connections = JoinSet::new();
        let mut patience = FIRST_SILENCE;
        loop {
            let read = tokio::select! {
                read = timeout(patience, socket.read_buf(incoming.buffer())) => read,
                Some(_) = connections.join_next() => continue,
            };
            match read {
                Err(_) => return format!("nothing was heard for {} s", patience.as_secs()),
                Ok(Err(e)) => return e.to_string(),
                Ok(Ok(0)) => return "the cloud hung up".to_owned(),
                Ok(Ok(_)) => patience = SILENCE,
            }
            loop {
                match incoming.next_event() {
                    Ok(None) => break,
                    Ok(Some(Event::Message(bytes))) => match Frame::decode(bytes) {
                        Ok(frame) if frame.connect_id == 0 => {
                            let why = String::from_utf8_lossy(&frame.data).into_owned();
                            return crate::edgehub::session::printable(&why);
                        }
                        Ok(frame) => self.take(frame, &mut connections),
                        Err(e) => return e.to_string(),
                    },
                    Ok(Some(Event::Ping(data))) => drop(self.out.try_send(Outgoing::Pong(data))),
                    Ok(Some(Event::Pong)) => {}
                    Ok(Some(Event::Close(why))) => {
                        let why = crate::edgehub::session::printable(&why);
                        return format!("the cloud closed it: {why}");
                    }
                    Err(e) => return e.to_string(),
                }
            }
        }
    }

    /// Never waits.
    fn take(&self, frame: Frame, connections: &mut JoinSet<()>) {
        match frame.kind {
            FrameKind::LogsConnect
            | FrameKind::ExecConnect
            | FrameKind::AttachConnect
            | FrameKind::MetricsConnect => return self.begin(&frame, connections),
            _ => {}
        }
        let Some(slot) = self.open.lock().get(&frame.connect_id).map(Arc::clone) else { return };
        match frame.kind {
            FrameKind::Data => {
                let pushed = slot.inbox.lock().push(&frame.data);
                if let Err(e) = pushed {
                    tracing::debug!(id = frame.connect_id, "a stream is cut off: {e}");
                    slot.end();
                }
                slot.news.notify_one();
            }
            FrameKind::Credit => {
                let room = WINDOW.saturating_sub(slot.may_send.available_permits());
                slot.may_send.add_permits(window::credited(&frame).unwrap_or(0).min(room));
            }
            FrameKind::CloseConnect | FrameKind::RemoveConnect => slot.end(),
            _ => {}
        }
    }

    fn begin(&self, frame: &Frame, connections: &mut JoinSet<()>) {
        let id = frame.connect_id;
        let slot = Arc::new(Slot::new(self.windows));
        let head = match ConnectRequest::decode(frame) {
            Ok(request) => request::head(&request, frame.kind),
            Err(e) => Err(e),
        };
        let refused = {
            let mut open = self.open.lock();
            match &head {
                Err(e) => Some(e.to_string()),
                Ok(_) if open.len() >= CONNECTIONS => Some("too many streams are open".to_owned()),
                Ok(_) if open.contains_key(&id) => Some("its id is in use".to_owned()),
                Ok(_) => {
                    open.insert(id, Arc::clone(&slot));
                    None
                }
            }
        };
        let bare = !self.windows
            && matches!(frame.kind, FrameKind::LogsConnect | FrameKind::MetricsConnect);
        let carried = Carried {
            id,
            slot,
            out: self.out.clone(),
            windows: self.windows,
            bare: bare.then(Bare::default),
        };
        let (open, api) = (Arc::clone(&self.open), self.api.clone());
        connections.spawn(async move {
            match (refused, head) {
                (None, Ok(head)) => {
                    carried.carry(&api, &head).await;
                    open.lock().remove(&id);
                }
                (why, _) => {
                    tracing::warn!(id, why, "a stream of the cloud is refused");
                    carried.remove().await;
                }
            }
        });
    }
}

/// One connection, carried between tunnel and API.
struct Carried {
    id: u64,
    slot: Arc<Slot>,
    out: mpsc::Sender<Outgoing>,
    windows: bool,
    bare: Option<Bare>,
}

impl Carried {
    async fn carry(mut self, api: &LocalApi, head: &[u8]) {
        match api.connect().await {
            Ok(stream) => {
                let (mut read, mut write) = tokio::io::split(stream);
                if write.write_all(head).await.is_ok() {
                    let (slot, out, id) = (Arc::clone(&self.slot), self.out.clone(), self.id);
                    tokio::select! {
                        () = write_api(&slot, &out, id, &mut write) => {}
                        () = self.read_api(&mut read) => {}
                    }
                }
            }
            Err(e) => tracing::warn!(error = %e, "a stream of the cloud finds no API here"),
        }
        self.remove().await;
    }

    async fn read_api(&mut self, read: &mut (impl AsyncRead + Unpin)) {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match read.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            while !buffer.is_empty() {
                let mut piece = buffer.split_to(buffer.len().min(PIECE)).freeze();
                if let Some(bare) = &mut self.bare {
                    piece = bare.body(piece);
                }
                if !piece.is_empty() && self.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn send(&self, data: Bytes) -> Result<(), ()> {
        if self.windows {
            let needed = u32::try_from(data.len()).map_err(drop)?;
            self.slot.may_send.acquire_many(needed).await.map_err(drop)?.forget();
        }
        let frame = Frame::data(self.id, data);
        self.out.send(Outgoing::Frame(frame)).await.map_err(drop)
    }

    /// The edge is done with it.
    async fn remove(&self) {
        let frame =
            Frame { connect_id: self.id, kind: FrameKind::RemoveConnect, data: Bytes::new() };
        // Fails when the tunnel has ended, and all connections with it.
        let _ = self.out.send(Outgoing::Frame(frame)).await;
    }
}

/// What the cloud sends, until it closes the connection.
async fn write_api(
    slot: &Slot,
    out: &mpsc::Sender<Outgoing>,
    id: u64,
    write: &mut (impl AsyncWrite + Unpin),
) {
    while let Some(data) = slot.read().await {
        if write.write_all(&data).await.is_err() || write.flush().await.is_err() {
            // The API's last words are still to be passed on.
            return std::future::pending().await;
        }
        let owed = slot.inbox.lock().passed_on(data.len());
        if let Some(owed) = owed {
            let _ = out.send(Outgoing::Frame(window::credit(id, owed))).await;
        }
    }
}

async fn transmit(
    mut socket: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
    limit: Duration,
) -> String {
    let mut bytes = BytesMut::new();
    let mut ping = tokio::time::interval(PING);
    loop {
        let mut next = tokio::select! {
            outgoing = queue.recv() => match outgoing {
                Some(outgoing) => Some(outgoing),
                None => return "nobody needs it".to_owned(),
            },
            _ = ping.tick() => {
                ws::encode(ws::Kind::Ping, PING_TEXT, Some(rand::random()), &mut bytes);
                None
            }
        };
        while let Some(outgoing) = next {
            let mask = Some(rand::random());
            match outgoing {
                Outgoing::Frame(frame) => match frame.encode() {
                    Ok(message) => ws::encode(ws::Kind::Text, &message, mask, &mut bytes),
                    Err(e) => tracing::debug!("a frame is dropped: {e}"),
                },
                Outgoing::Pong(data) => ws::encode(ws::Kind::Pong, &data, mask, &mut bytes),
            }
            next = if bytes.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        let written = async {
            socket.write_all(&bytes).await?;
            socket.flush().await
        };
        match timeout(limit, written).await {
            Err(_) => return format!("nothing could be written for {} s", limit.as_secs()),
            Ok(Err(e)) => return e.to_string(),
            Ok(Ok(())) => bytes.clear(),
        }
    }
}

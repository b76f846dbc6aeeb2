//! Port-forward over SPDY: for each connection the client opens a stream for its errors and one for
//! its bytes, with the same `requestid`.
//!
//! Owns: which streams belong together, and the task of each connection.
//! Called by: `mod.rs`.
//! Never: lets a client have more streams than there are room for, or one that is alone for long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::super::spdy::frame::{self, Reader, Received, Writer, header};
use super::Dial;
use super::connection::{self, Pair, Said};

/// Connections of one client at once.
const CONNECTIONS: usize = 128;
/// A request id is a short number.
const MAX_REQUEST_ID: usize = 64;
/// Both streams of a connection are opened one after the other; as a kubelet's limit.
const PAIRING: Duration = Duration::from_secs(30);
/// A client that says nothing for so long, not even that it lives, is gone; as a kubelet's limit.
pub(super) const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// A connection whose pod takes nothing for so long is given up: it holds up the others, for SPDY
/// as it is spoken here has no windows.
pub(super) const STUCK: Duration = Duration::from_secs(300);
/// A client may still send so long after the pod has sent all. kubectl tells its own client of that
/// only once the stream of errors has ended, so that it cannot be long.
const LINGER: Duration = Duration::from_secs(1);
/// Pieces that wait for the pod; full: the client waits.
pub(super) const WAITING: usize = 16;
/// So much is written at once.
const BATCH: usize = 64 << 10;

/// Moves everything until the client leaves.
pub(super) async fn carry(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    dial: Dial,
    slots: Arc<Semaphore>,
) {
    let (to, said) = mpsc::channel(WAITING); // full: the pods wait
    let listener = Listener {
        dial,
        slots,
        to,
        last: 0,
        halves: HashMap::new(),
        open: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let why = tokio::select! {
        why = listener.run(read) => why,
        why = transmit(write, said) => why,
    };
    tracing::debug!(why, "a port-forward has ended");
}

/// A connection of which one stream is there.
struct Half {
    port: u16,
    since: Instant,
    error: Option<u32>,
    data: Option<(u32, mpsc::Receiver<Bytes>)>,
}

/// A stream of bytes.
struct Open {
    /// `None` once the client has sent all, or the pod takes no more.
    to: Option<mpsc::Sender<Bytes>>,
    /// Its connection and the stream of its errors, once both are there.
    carried: Option<(u32, AbortHandle)>,
}

struct Listener {
    dial: Dial,
    slots: Arc<Semaphore>,
    to: mpsc::Sender<Said>,
    /// The newest stream: numbers only grow.
    last: u32,
    halves: HashMap<String, Half>,
    open: HashMap<u32, Open>,
    /// Dropped with this: no connection outlives its client.
    tasks: JoinSet<u32>,
}

impl Listener {
    async fn run(mut self, mut read: impl AsyncRead + Unpin) -> String {
        let mut reader = Reader::new();
        loop {
            match reader.next_frame() {
                Ok(Some(received)) => {
                    self.heard(received).await;
                    continue;
                }
                Ok(None) => {}
                Err(e) => return e.to_string(),
            }
            let alone = self.halves.values().map(|half| half.since + PAIRING).min();
            tokio::select! {
                read = timeout(IDLE, read.read_buf(reader.buffer())) => match read {
                    Err(_) => return format!("nothing was heard for {} s", IDLE.as_secs()),
                    Ok(Err(e)) => return e.to_string(),
                    Ok(Ok(0)) => return "the client left".to_owned(),
                    Ok(Ok(_)) => {}
                },
                Some(ended) = self.tasks.join_next() => if let Ok(id) = ended {
                    self.open.remove(&id);
                },
                () = sleep_until(alone.unwrap_or_else(Instant::now)), if alone.is_some() => {
                    self.forget_lone_streams().await;
                }
            }
        }
    }

    async fn heard(&mut self, received: Received) {
        match received {
            Received::Open { id, headers, fin } => {
                let accepted = id % 2 == 1 && id > self.last && self.take(id, &headers);
                self.last = self.last.max(id);
                // A connection is begun only now, so that what it says follows the acceptance.
                self.say(if accepted { Said::Accept(id) } else { Said::Refuse(id) }).await;
                if accepted {
                    self.begin(&headers);
                }
                if accepted && fin {
                    self.deliver(id, Bytes::new(), true).await;
                }
            }
            Received::Data { id, data, fin } => self.deliver(id, data, fin).await,
            Received::Reset(id) => self.give_up(id, None).await,
            Received::Ping(id) => self.say(Said::Pong(id)).await,
            // The connections that there are go on until the client hangs up.
            Received::GoAway => {}
        }
    }

    async fn say(&self, said: Said) {
        // Fails when nothing can be written any more, which ends the whole.
        let _ = self.to.send(said).await;
    }

    /// Notes a new stream; `false` if it cannot be.
    fn take(&mut self, id: u32, headers: &[(String, String)]) -> bool {
        let (Some(request), Some(kind)) =
            (header(headers, "requestid"), header(headers, "streamtype"))
        else {
            return false;
        };
        let port = header(headers, "port").and_then(|port| port.parse().ok());
        let Some(port) = port.filter(|port: &u16| *port != 0) else { return false };
        let is_new = !self.halves.contains_key(request);
        // A stream of bytes is counted twice while it is alone, which is short.
        let full = self.halves.len() + self.open.len() >= CONNECTIONS;
        if request.len() > MAX_REQUEST_ID || (is_new && full) {
            return false;
        }
        let half = self.halves.entry(request.to_owned()).or_insert_with(|| Half {
            port,
            since: Instant::now(),
            error: None,
            data: None,
        });
        match kind {
            "error" if half.error.is_none() => half.error = Some(id),
            "data" if half.data.is_none() => {
                let (to, from) = mpsc::channel(WAITING);
                half.data = Some((id, from));
                self.open.insert(id, Open { to: Some(to), carried: None });
            }
            _ => return false,
        }
        true
    }

    /// Begins the connection if both of its streams are there.
    fn begin(&mut self, headers: &[(String, String)]) {
        let request = header(headers, "requestid").unwrap_or_default();
        let Some(half) = self.halves.remove(request) else { return };
        let (error, data, from) = match half {
            Half { error: Some(error), data: Some((data, from)), .. } => (error, data, from),
            half => {
                self.halves.insert(request.to_owned(), half);
                return;
            }
        };
        let (dial, slots, to) = (Arc::clone(&self.dial), Arc::clone(&self.slots), self.to.clone());
        let task = self.tasks.spawn(async move {
            connection::run(dial, slots, half.port, Pair { data, error, linger: LINGER }, from, to)
                .await;
            data
        });
        if let Some(open) = self.open.get_mut(&data) {
            open.carried = Some((error, task));
        }
    }

    async fn deliver(&mut self, id: u32, data: Bytes, fin: bool) {
        // What comes on a stream of errors means nothing, nor what comes too late.
        let Some(open) = self.open.get_mut(&id) else { return };
        if let (Some(to), false) = (&open.to, data.is_empty()) {
            let sent = match to.try_send(data) {
                Err(mpsc::error::TrySendError::Full(data)) if open.carried.is_some() => {
                    match timeout(STUCK, to.send(data)).await {
                        Ok(sent) => sent.map_err(drop),
                        Err(_) => {
                            let why = format!("the pod takes nothing for {} s", STUCK.as_secs());
                            return self.give_up(id, Some(why)).await;
                        }
                    }
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    return self.give_up(id, None).await;
                }
                sent => sent.map_err(drop),
            };
            if sent.is_err() {
                open.to = None;
            }
        }
        if fin {
            open.to = None;
        }
    }

    /// Ends a connection by its stream of bytes. That of its errors ends too: clients wait for that.
    async fn give_up(&mut self, id: u32, why: Option<String>) {
        self.halves.retain(|_, half| half.data.as_ref().is_none_or(|(data, _)| *data != id));
        let Some(open) = self.open.remove(&id) else { return };
        self.say(Said::Refuse(id)).await;
        if let Some((error, task)) = open.carried {
            task.abort();
            if let Some(why) = why {
                self.say(Said::Data(error, why.into())).await;
            }
            self.say(Said::End(error)).await;
        }
    }

    async fn forget_lone_streams(&mut self) {
        let now = Instant::now();
        let late: Vec<String> = self
            .halves
            .iter()
            .filter(|(_, half)| half.since + PAIRING <= now)
            .map(|(request, _)| request.clone())
            .collect();
        for request in late {
            let Some(half) = self.halves.remove(&request) else { continue };
            if let Some((id, _)) = half.data {
                self.open.remove(&id);
            }
            for id in half.error.into_iter().chain(half.data.map(|(id, _)| id)) {
                self.say(Said::Refuse(id)).await;
            }
        }
    }
}

async fn transmit(mut write: impl AsyncWrite + Unpin, mut said: mpsc::Receiver<Said>) -> String {
    let (mut writer, mut out) = (Writer::new(), BytesMut::new());
    while let Some(first) = said.recv().await {
        let mut next = Some(first);
        while let Some(said_now) = next {
            match said_now {
                Said::Data(id, data) => frame::data(id, &data, false, &mut out),
                Said::End(id) => frame::data(id, &[], true, &mut out),
                Said::Accept(id) => writer.reply(id, &mut out),
                Said::Refuse(id) => frame::reset(id, &mut out),
                Said::Pong(id) => frame::ping(id, &mut out),
            }
            next = if out.len() < BATCH { said.try_recv().ok() } else { None };
        }
        let written = async {
            write.write_all_buf(&mut out).await?;
            write.flush().await
        };
        match timeout(IDLE, written).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return e.to_string(),
            Err(_) => return format!("the client took nothing for {} s", IDLE.as_secs()),
        }
    }
    "all is said".to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A client of pods that the test plays.
    struct Client {
        socket: DuplexStream,
        writer: Writer,
        reader: Reader,
        slots: Arc<Semaphore>,
        serving: tokio::task::JoinHandle<()>,
    }

    /// Reaches what listens here.
    fn dial() -> Dial {
        Arc::new(|port| {
            Box::pin(async move {
                let connected = TcpStream::connect(("127.0.0.1", port)).await;
                connected.map_err(|e| format!("cannot connect to port {port}: {e}"))
            })
        })
    }

    impl Client {
        fn new(dial: Dial) -> Self {
            let (near, socket) = tokio::io::duplex(1 << 20);
            let slots = Arc::new(Semaphore::new(2));
            let (read, write) = tokio::io::split(near);
            let serving = tokio::spawn(carry(read, write, dial, Arc::clone(&slots)));
            Self { socket, writer: Writer::new(), reader: Reader::new(), slots, serving }
        }

        async fn open(&mut self, id: u32, kind: &str, request: &str, port: u16) {
            let mut out = BytesMut::new();
            let port = port.to_string();
            let headers = [("streamType", kind), ("port", &port), ("requestID", request)];
            self.writer.open(id, &headers, &mut out);
            self.socket.write_all(&out).await.unwrap();
        }

        /// Both streams, as kubectl opens them.
        async fn connect(&mut self, id: u32, port: u16) {
            self.open(id, "error", &id.to_string(), port).await;
            self.send(id, b"", true).await;
            self.open(id + 2, "data", &id.to_string(), port).await;
        }

        async fn send(&mut self, id: u32, data: &[u8], fin: bool) {
            let mut out = BytesMut::new();
            frame::data(id, data, fin, &mut out);
            self.socket.write_all(&out).await.unwrap();
        }

        async fn next(&mut self) -> Option<Received> {
            loop {
                if let Some(frame) = self.reader.next_frame().unwrap() {
                    return Some(frame);
                }
                if self.socket.read_buf(self.reader.buffer()).await.unwrap() == 0 {
                    return None;
                }
            }
        }

        /// All that comes on some streams until all of them have ended.
        async fn until_ended<const N: usize>(&mut self, ids: [u32; N]) -> [Vec<u8>; N] {
            let mut said = [const { Vec::new() }; N];
            let mut open = N;
            while open > 0 {
                let Some(received) = self.next().await else { panic!("it ended before") };
                let Received::Data { id, data, fin } = received else { continue };
                let i = ids.iter().position(|wanted| *wanted == id).unwrap();
                said[i].extend_from_slice(&data);
                open -= usize::from(fin);
            }
            said
        }
    }

    /// A server that gives back what it gets, and says so at the end.
    async fn echo() -> (u16, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.write_all(b".").await;
                });
            }
        });
        (port, serving)
    }

    #[tokio::test]
    async fn two_connections_at_once_carry_their_own_bytes_and_end_each_for_itself() {
        let (port, _serving) = echo().await;
        let mut client = Client::new(dial());
        client.connect(1, port).await;
        client.connect(5, port).await;
        let large: Vec<u8> = (0..300_000u32).map(|i| (i >> 3) as u8).collect();
        client.send(3, b"one", false).await;
        for piece in large.chunks(30_000) {
            client.send(7, piece, false).await;
        }
        client.send(7, b"", true).await;
        client.send(3, b"", true).await;
        let [one, error, other, other_error] = client.until_ended([3, 1, 7, 5]).await;
        assert_eq!((&one[..], error.len(), other_error.len()), (&b"one."[..], 0, 0));
        assert!(other[..other.len() - 1] == large[..]);
        // Their places are free again.
        client.connect(9, port).await;
        client.send(11, b"", true).await;
        let [said, error] = client.until_ended([11, 9]).await;
        assert_eq!((&said[..], error.len()), (&b"."[..], 0));
    }

    #[tokio::test]
    async fn a_port_that_refuses_is_told_on_its_stream_and_the_rest_goes_on() {
        let (port, _serving) = echo().await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = nobody.local_addr().unwrap().port();
        drop(nobody);
        let mut client = Client::new(dial());
        client.connect(1, closed).await;
        let [data, error] = client.until_ended([3, 1]).await;
        let error = String::from_utf8(error).unwrap();
        assert!(data.is_empty() && error.contains("refused"), "{error}");
        client.connect(5, port).await;
        client.send(7, b"still here", true).await;
        assert_eq!(client.until_ended([7, 5]).await[0], b"still here.");
    }

    #[tokio::test]
    async fn there_are_only_so_many_connections_on_a_node_and_a_reset_makes_room() {
        let (port, _serving) = echo().await;
        let mut client = Client::new(dial());
        for id in [1, 5] {
            client.connect(id, port).await;
            client.send(id + 2, b"x", false).await;
        }
        for _ in 0..2 {
            while !matches!(client.next().await, Some(Received::Data { .. })) {}
        }
        client.connect(9, port).await;
        let [_, error] = client.until_ended([11, 9]).await;
        assert!(String::from_utf8(error).unwrap().contains("on this node already"));
        let mut out = BytesMut::new();
        frame::reset(3, &mut out);
        client.socket.write_all(&out).await.unwrap();
        // The stream of its errors ends: kubectl waits for that.
        assert_eq!(client.until_ended([1]).await[0], b"");
        drop(client.slots.acquire().await.unwrap());
        // A client that leaves leaves nothing behind.
        let (slots, serving) = (Arc::clone(&client.slots), client.serving);
        drop(client.socket);
        serving.await.unwrap();
        drop(slots.acquire_many(2).await.unwrap());
    }

    #[tokio::test]
    async fn a_client_is_answered_also_while_a_pod_does_not_answer() {
        let never: Dial = Arc::new(|_| Box::pin(std::future::pending()));
        let mut client = Client::new(never);
        client.connect(1, 80).await;
        let mut out = BytesMut::new();
        frame::ping(9, &mut out);
        client.socket.write_all(&out).await.unwrap();
        while client.next().await.unwrap() != Received::Ping(9) {}
        // More than is held for it: the client waits, and then it is given up.
        tokio::time::pause();
        for _ in 0..=WAITING {
            client.send(3, &[0; 1000], false).await;
        }
        let [error] = client.until_ended([1]).await;
        assert!(String::from_utf8(error).unwrap().contains("takes nothing"));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_make_no_sense_or_stay_alone_are_refused() {
        let mut client = Client::new(dial());
        client.open(1, "error", "1", 0).await;
        client.open(2, "error", "2", 80).await;
        client.open(5, "what", "2", 80).await;
        client.open(3, "error", "2", 80).await;
        client.open(7, "error", &"x".repeat(MAX_REQUEST_ID + 1), 80).await;
        client.open(9, "data", "9", 80).await;
        client.open(11, "data", "9", 80).await;
        let mut refused = Vec::new();
        while refused.len() < 7 {
            if let Some(Received::Reset(id)) = client.next().await {
                refused.push(id);
            }
        }
        // 9 is right and alone.
        assert_eq!(refused, [1, 2, 5, 3, 7, 11, 9]);
        client.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(client.next().await, None);
    }

    #[tokio::test]
    async fn a_client_may_open_only_so_many_streams() {
        let never: Dial = Arc::new(|_| Box::pin(std::future::pending()));
        let mut client = Client::new(never);
        for n in 0..=CONNECTIONS as u32 {
            client.open(2 * n + 1, "error", &n.to_string(), 80).await;
        }
        assert_eq!(client.next().await, Some(Received::Reset(2 * CONNECTIONS as u32 + 1)));
    }
}

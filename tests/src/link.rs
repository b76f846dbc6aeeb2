//! The wire between an edge and the cloud: cut, torn in the middle of a frame, half-open, slow.
//!
//! Owns: a port, and the bytes on their way.
//! Called by: [`crate::cluster`], one per edge. Never: looks into what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use service::CancellationToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the edge to the cloud.
    Up,
    /// From the cloud to the edge.
    Down,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As when a program closes its socket.
    Close,
    /// As when a machine has forgotten the connection.
    Reset,
}

/// Where links lead; clones share it, so that a cloud which comes back elsewhere is found.
#[derive(Debug, Clone)]
pub struct Target(Arc<Mutex<SocketAddr>>);

impl Target {
    /// Leads to `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }

    /// Leads to another address from now on.
    pub fn set(&self, address: SocketAddr) {
        *self.0.lock() = address;
    }

    fn get(&self) -> SocketAddr {
        *self.0.lock()
    }
}

/// One wire.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    rules: Mutex<Rules>,
    connections: Mutex<Vec<Arc<Connection>>>,
    opened: watch::Sender<u64>,
    cuts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Rules {
    away: bool,
    swallow: bool,
    delay: Duration,
    tear: Option<Tear>,
}

#[derive(Debug)]
struct Tear {
    way: Way,
    left: usize,
    end: End,
}

#[derive(Debug, Default)]
struct Connection {
    ended: CancellationToken,
    reset: AtomicBool,
    swallow: AtomicBool,
}

impl Link {
    /// A wire to `target`, at an address of its own on this machine.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn new(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            rules: Mutex::default(),
            connections: Mutex::default(),
            opened: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// What the edge dials.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection now; a new one is carried.
    pub fn cut(&self, end: End) {
        self.shared.cut(end);
    }

    /// Cuts after so many more bytes in one direction, wherever in a frame that is.
    pub fn cut_after(&self, way: Way, bytes: usize, end: End) {
        self.shared.rules.lock().tear = Some(Tear { way, left: bytes, end });
    }

    /// The cut that was asked for has not come; true if there was one.
    pub fn cancel_cut(&self) -> bool {
        self.shared.rules.lock().tear.take().is_some()
    }

    /// The connections there are stay open and carry nothing any more, as when a router has
    /// forgotten them. New ones are carried.
    pub fn half_open(&self) {
        for connection in self.shared.connections.lock().iter() {
            connection.swallow.store(true, Ordering::Relaxed);
        }
    }

    /// Every packet vanishes, those of new connections too, until [`Link::come_back`].
    pub fn swallow(&self) {
        self.shared.rules.lock().swallow = true;
        self.half_open();
    }

    /// Nobody is there: what is open breaks, and dialling fails, until [`Link::come_back`].
    pub fn go_away(&self) {
        self.shared.rules.lock().away = true;
        self.shared.cut(End::Reset);
    }

    /// All is well again for new connections.
    pub fn come_back(&self) {
        *self.shared.rules.lock() = Rules::default();
    }

    /// Every piece of data arrives so much later.
    pub fn slow(&self, delay: Duration) {
        self.shared.rules.lock().delay = delay;
    }

    /// How many connections were opened so far, to be watched.
    pub fn opened(&self) -> watch::Receiver<u64> {
        self.shared.opened.subscribe()
    }

    /// How many cuts there were so far, to be watched.
    pub fn cuts(&self) -> watch::Receiver<u64> {
        self.shared.cuts.subscribe()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.cut(End::Close);
    }
}

impl Shared {
    fn cut(&self, end: End) {
        for connection in self.connections.lock().drain(..) {
            connection.reset.store(end == End::Reset, Ordering::Relaxed);
            connection.ended.cancel();
        }
        self.cuts.send_modify(|n| *n += 1);
    }

    /// How much of `bytes` may pass, and whether that is the end.
    fn pass(&self, way: Way, bytes: usize) -> (usize, Option<End>) {
        let mut rules = self.rules.lock();
        match &mut rules.tear {
            Some(tear) if tear.way == way && tear.left > bytes => {
                tear.left -= bytes;
                (bytes, None)
            }
            Some(tear) if tear.way == way => {
                let (left, end) = (tear.left, tear.end);
                rules.tear = None;
                (left, Some(end))
            }
            _ => (bytes, None),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let (away, swallow) = {
            let rules = shared.rules.lock();
            (rules.away, rules.swallow)
        };
        if away {
            let _ = near.set_zero_linger();
            continue;
        }
        let connection = Arc::new(Connection::default());
        connection.swallow.store(swallow, Ordering::Relaxed);
        let mut connections = shared.connections.lock();
        connections.retain(|c| !c.ended.is_cancelled());
        connections.push(Arc::clone(&connection));
        drop(connections);
        shared.opened.send_modify(|n| *n += 1);
        tokio::spawn(carry(near, connection, Arc::clone(&shared)));
    }
}

async fn carry(near: TcpStream, connection: Arc<Connection>, shared: Arc<Shared>) {
    let far = match TcpStream::connect(shared.target.get()).await {
        Ok(far) => far,
        // The edge sees a cloud that is not there.
        Err(_) => {
            connection.ended.cancel();
            return drop(near.set_zero_linger());
        }
    };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    {
        let both = async {
            tokio::join!(
                pump(&mut near_read, &mut far_write, Way::Up, &connection, &shared),
                pump(&mut far_read, &mut near_write, Way::Down, &connection, &shared),
            )
        };
        tokio::select! {
            _ = both => {}
            () = connection.ended.cancelled() => {}
        }
    }
    connection.ended.cancel();
    if connection.reset.load(Ordering::Relaxed) {
        let _ = near_read.as_ref().set_zero_linger();
        let _ = far_read.as_ref().set_zero_linger();
    }
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    way: Way,
    connection: &Connection,
    shared: &Shared,
) {
    let mut buffer = vec![0; 4096];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) => return drop(to.shutdown().await),
            Ok(read) => read,
            Err(_) => return connection.ended.cancel(),
        };
        if connection.swallow.load(Ordering::Relaxed) {
            continue;
        }
        let delay = shared.rules.lock().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let (passed, end) = shared.pass(way, read);
        if to.write_all(&buffer[..passed]).await.is_err() {
            return connection.ended.cancel();
        }
        if let Some(end) = end {
            shared.cut(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        at
    }

    #[tokio::test]
    async fn a_wire_carries_and_is_torn_after_the_byte_that_was_named() {
        let link = Link::new(Target::new(echo().await)).await;
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello");
        link.cut_after(Way::Down, 2, End::Close);
        stream.write_all(b"world").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"wo");
        assert_eq!(*link.cuts().borrow(), 1);
    }

    #[tokio::test]
    async fn somebody_who_has_gone_away_resets_and_is_back_at_the_same_address() {
        let link = Link::new(Target::new(echo().await)).await;
        let mut open = TcpStream::connect(link.address()).await.unwrap();
        open.write_all(b"x").await.unwrap();
        open.read_exact(&mut [0]).await.unwrap();
        link.go_away();
        assert!(open.read_exact(&mut [0]).await.is_err());
        let mut refused = TcpStream::connect(link.address()).await.unwrap();
        assert!(refused.read_exact(&mut [0]).await.is_err());
        link.come_back();
        let mut again = TcpStream::connect(link.address()).await.unwrap();
        again.write_all(b"y").await.unwrap();
        again.read_exact(&mut [0]).await.unwrap();
    }

    #[tokio::test]
    async fn a_half_open_connection_carries_nothing_and_a_new_one_does() {
        let link = Link::new(Target::new(echo().await)).await;
        let mut old = TcpStream::connect(link.address()).await.unwrap();
        old.write_all(b"x").await.unwrap();
        old.read_exact(&mut [0]).await.unwrap();
        link.half_open();
        old.write_all(b"lost").await.unwrap();
        let mut new = TcpStream::connect(link.address()).await.unwrap();
        new.write_all(b"y").await.unwrap();
        new.read_exact(&mut [0]).await.unwrap();
        let nothing = old.try_read(&mut [0; 4]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}

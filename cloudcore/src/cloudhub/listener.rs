//! A TLS port that a flood cannot take down.
//!
//! Owns: the accept loop, how many connections there may be in all and from one address, the time
//! limit of the TLS handshake.
//! Called by: `server.rs` (10000) and `bootstrap.rs` (10002).
//! Never: reads a byte above TLS.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use service::CancellationToken;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// How many connections may be in the state that they bound.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// In all.
    pub total: usize,
    /// From one address. Many edge nodes may share one.
    pub per_address: usize,
    /// How long the TLS handshake may take.
    pub handshake: Duration,
}

/// Counts connections; a [`Seat`] is one.
#[derive(Debug, Clone)]
pub struct Seats {
    caps: Caps,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of an address. It may be given up before the connection ends, once the peer has
/// shown who it is.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    /// None taken.
    pub fn new(caps: Caps) -> Self {
        Self { caps, taken: Arc::default() }
    }

    /// Takes one, if there is one.
    pub fn take(&self, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock();
        let total: usize = taken.values().sum();
        let own = taken.get(&address).copied().unwrap_or(0);
        if total >= self.caps.total || own >= self.caps.per_address {
            return None;
        }
        taken.insert(address, own + 1);
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// A port that is bound and not yet served.
#[derive(Debug)]
pub struct Port {
    /// Where it listens.
    pub listener: TcpListener,
    /// For the log: `cloudhub`, `bootstrap`.
    pub name: &'static str,
}

/// Accepts until told to stop; then waits until the connections have ended, each of which sees
/// `stopping` itself. `serve` gets each connection after its handshake.
pub async fn accept<S, F>(
    port: Port,
    tls: Arc<ServerConfig>,
    caps: Caps,
    metrics: Metrics,
    stopping: CancellationToken,
    serve: S,
) where
    S: Fn(TlsStream<TcpStream>, SocketAddr, Seat) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let seats = Seats::new(caps);
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = port.listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those that end give some back.
                warn!(port = port.name, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(seat) = seats.take(peer.ip()) else {
            metrics.refused("too_many_connections");
            debug!(port = port.name, %peer, "too many connections, one is closed");
            continue;
        };
        // An answer of a few bytes should not wait for the next.
        let _ = stream.set_nodelay(true);
        let (acceptor, metrics, serve) = (acceptor.clone(), metrics.clone(), serve.clone());
        let name = port.name;
        connections.spawn(async move {
            match tokio::time::timeout(caps.handshake, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, peer, seat).await,
                Ok(Err(error)) => {
                    metrics.refused("tls_handshake");
                    debug!(port = name, %peer, %error, "the TLS handshake failed");
                }
                Err(_) => {
                    metrics.refused("tls_timeout");
                    debug!(port = name, %peer, "the TLS handshake took too long");
                }
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_limited_in_all_and_by_address_and_come_back() {
        let caps = Caps { total: 3, per_address: 2, handshake: Duration::from_secs(1) };
        let seats = Seats::new(caps);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = seats.take(a).unwrap();
        let _second = seats.take("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(seats.take(a).is_none(), "the same address in another form");
        let _third = seats.take(b).unwrap();
        assert!(seats.take(b).is_none());
        drop(first);
        assert!(seats.take(b).is_some());
    }
}

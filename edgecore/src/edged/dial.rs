//! A connection to a port in a pod's network.
//!
//! A socket belongs to the network namespace in which it was made, wherever it is used. So a thread
//! of its own enters the namespace, makes the sockets, hands them over and ends; all waiting is done
//! outside.
//!
//! Owns: that thread; which addresses are tried.
//! Called by: port-forward, and `action.rs` for a pod that has no address.
//! Never: lets a thread that others use enter a namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::runtime::PodNetwork;

/// A port on this machine answers at once, or the queue of its listener is full.
const CONNECT: Duration = Duration::from_secs(10);

/// One socket for each of the two kinds of addresses; a kernel may lack the second.
struct Sockets {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
}

fn sockets() -> io::Result<Sockets> {
    let make = |family| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)
    };
    Ok(Sockets { v4: make(AddressFamily::INET)?, v6: make(AddressFamily::INET6).ok() })
}

async fn sockets_in(network: PodNetwork) -> io::Result<Sockets> {
    let namespace = match network {
        PodNetwork::Host => return sockets(),
        PodNetwork::Namespace(namespace) => namespace,
    };
    let (hand_over, sockets_there) = oneshot::channel();
    std::thread::Builder::new().name("pod-socket".to_owned()).spawn(move || {
        let made = setns(&namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|e| {
                let why = format!("cannot enter the pod's network namespace: {}", e.desc());
                io::Error::other(why)
            })
            .and_then(|()| sockets());
        // Who asked may have left.
        let _ = hand_over.send(made);
    })?;
    sockets_there.await.unwrap_or_else(|_| Err(io::Error::other("the thread for it broke")))
}

/// Connects to a port on the pod's loopback, as a kubelet does: 127.0.0.1, else `::1`.
pub(crate) async fn connect(network: PodNetwork, port: u16) -> io::Result<TcpStream> {
    let Sockets { v4, v6 } = sockets_in(network).await?;
    let refused = match to(v4, (Ipv4Addr::LOCALHOST, port).into()).await {
        Err(e) => e,
        connected => return connected,
    };
    let Some(v6) = v6 else { return Err(refused) };
    to(v6, (Ipv6Addr::LOCALHOST, port).into()).await.map_err(|_| refused)
}

async fn to(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let connected = timeout(CONNECT, socket.connect(address)).await;
    let connected = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    connected.set_nodelay(true)?;
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use nix::sched::unshare;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_is_found_on_either_loopback_and_a_refusal_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        connect(PodNetwork::Host, port).await.unwrap();
        drop(listener);
        let refused = connect(PodNetwork::Host, port).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        if let Ok(listener) = TcpListener::bind("[::1]:0").await {
            let port = listener.local_addr().unwrap().port();
            connect(PodNetwork::Host, port).await.unwrap();
        }
    }

    /// Runs `f` on a thread in a network namespace of its own; `None` where that takes root.
    fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let there = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            Some(f())
        });
        there.join().unwrap()
    }

    #[tokio::test]
    async fn a_socket_is_of_the_pods_network_and_this_thread_stays_where_it_is() {
        let made = elsewhere(|| {
            // The loopback of a new namespace is down; brought up as `ip link set lo up` does.
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            if !up.is_ok_and(|status| status.success()) {
                return None;
            }
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            Some((listener, namespace))
        });
        let Some(Some((listener, namespace))) = made else {
            println!("not run: a network namespace takes root and `ip`");
            return;
        };
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = || PodNetwork::Namespace(namespace.try_clone().unwrap().into());
        let mut connected = connect(network(), port).await.unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(connected.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(connect(PodNetwork::Host, port).await.is_err(), "it is not of this network");
        drop(listener);
        let refused = connect(network(), port).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), here);
    }

    #[tokio::test]
    async fn what_is_no_namespace_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = connect(PodNetwork::Namespace(file.into()), 1).await.unwrap_err();
        assert!(error.to_string().contains("cannot enter the pod's network namespace"), "{error}");
    }
}

//! Port-forward: connections from afar to the ports of a pod.
//!
//! Three ways of carrying them, by what the client is: SPDY with `portforward.k8s.io`, a pair of
//! streams for each connection (API servers, kubectl before 1.31); the same SPDY in the messages of
//! a WebSocket, `SPDY/3.1+portforward.k8s.io` (kubectl since 1.31); and a WebSocket with
//! `v4.channel.k8s.io`, on which each port of the query `port` has one connection (kube-rs).
//!
//! [`dial`](super::super::dial) reaches the port in the pod's own network, [`connection`] moves the bytes of one
//! connection, [`spdy`] and [`channels`] those of all that a client has.
//!
//! Owns: the switch of protocols, how many connections there are in all.
//! Called by: `mod.rs` of the server, once it knows that the caller may.
//! Never: keeps a pod's network longer than it takes to make a socket in it: a pod that is made
//! anew is found anew.

mod channels;
mod connection;
mod spdy;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::super::{dial, logread, podspec};
use super::exec::{STREAM_PROTOCOL, UPGRADE_LIMIT, accept_websocket, has, switching};
use super::{Api, Body, Refusal, refuse};

/// The protocol, over SPDY.
const PORT_FORWARD: &str = "portforward.k8s.io";
/// SPDY in the messages of a WebSocket.
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// Two channels of a WebSocket for each port.
const CHANNELS: &str = "v4.channel.k8s.io";
/// Connections to pods of this node at once.
pub(super) const CONNECTIONS: usize = 256;
/// Ports of one WebSocket; a channel's number is a byte.
const MAX_PORTS: usize = 128;

/// Reaches a port of the pod, as often as there are connections to it.
pub(super) type Dial =
    Arc<dyn Fn(u16) -> BoxFuture<'static, Result<TcpStream, String>> + Send + Sync>;

/// What the connection becomes.
#[derive(Debug, PartialEq, Eq)]
enum Spoken {
    Spdy,
    Tunnelled,
    Channels(Vec<u16>),
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    namespace: &'a str,
    pod: &'a str,
    uid: Option<&'a str>,
}

fn named(path: &[String]) -> Option<Named<'_>> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        [_, namespace, pod] => Some(Named { namespace, pod, uid: None }),
        [_, namespace, pod, uid] => Some(Named { namespace, pod, uid: Some(uid) }),
        _ => None,
    }
}

/// The ports of a query: `port=80&port=81,82`. Each is there once.
fn ports(query: &str) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    for (_, value) in logread::form(query).into_iter().filter(|(name, _)| name == "port") {
        for text in value.split(',') {
            let port = text.parse().ok().filter(|port| *port != 0);
            let port = port.ok_or_else(|| format!("`{text}` is no port; 1 to 65535 are"))?;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    match ports.len() {
        0 => Err("the parameter `port` is missing".to_owned()),
        1..=MAX_PORTS => Ok(ports),
        n => Err(format!("{n} ports are asked for; {MAX_PORTS} at once can be forwarded")),
    }
}

/// The answer that switches the protocol, and what is spoken then. Pure.
fn switch(headers: &HeaderMap, query: &str) -> Result<(Spoken, Response<Body>), Refusal> {
    let asked = |protocol| {
        has(headers, CONNECTION.as_str(), "upgrade") && has(headers, UPGRADE.as_str(), protocol)
    };
    if asked("SPDY/3.1") {
        if !has(headers, STREAM_PROTOCOL, PORT_FORWARD) {
            let why = format!("unable to upgrade: only `{PORT_FORWARD}` is spoken over SPDY");
            return refuse(StatusCode::FORBIDDEN, why);
        }
        let mut response = switching("SPDY/3.1");
        let spoken = HeaderValue::from_static(PORT_FORWARD);
        response.headers_mut().insert(STREAM_PROTOCOL, spoken);
        return Ok((Spoken::Spdy, response));
    }
    if !asked("websocket") {
        let why =
            "unable to upgrade: missing upgrade headers; `SPDY/3.1` and `websocket` are spoken";
        return refuse(StatusCode::BAD_REQUEST, why);
    }
    let offers = |protocol| has(headers, SEC_WEBSOCKET_PROTOCOL.as_str(), protocol);
    if offers(TUNNELLED) {
        return Ok((Spoken::Tunnelled, accept_websocket(headers, TUNNELLED)?));
    }
    if offers(CHANNELS) {
        let ports = ports(query).or_else(|why| refuse(StatusCode::BAD_REQUEST, why))?;
        return Ok((Spoken::Channels(ports), accept_websocket(headers, CHANNELS)?));
    }
    let why = format!("none of the offered protocols is `{TUNNELLED}` or `{CHANNELS}`");
    refuse(StatusCode::FORBIDDEN, why)
}

impl Api {
    pub(super) async fn port_forward(
        &self,
        request: &mut Request<Incoming>,
        path: &[String],
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are served here");
        }
        let Some(Named { namespace, pod, uid }) = named(path) else {
            return refuse(StatusCode::NOT_FOUND, "404 page not found");
        };
        let found = self.directory.find(namespace, pod);
        let Some(found) = found.filter(|pod| uid.is_none_or(|uid| podspec::uid(pod) == uid)) else {
            return refuse(StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not exist"));
        };
        if let Err(why) = self.sandbox(&found).await {
            return refuse(StatusCode::BAD_REQUEST, why);
        }
        let (spoken, response) = switch(request.headers(), query)?;
        let upgrade = hyper::upgrade::on(request);
        let (dial, slots) = (self.dial(found), Arc::clone(&self.forwards));
        let stopping = self.shared.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = carry(upgrade, spoken, dial, slots) => {}
                () = stopping.cancelled() => {}
            }
        });
        Ok(response)
    }

    /// The sandbox of the pod, if it is ready.
    async fn sandbox(&self, pod: &Pod) -> Result<String, String> {
        let listing = self.shared.runtime.list(Some(podspec::uid(pod))).await;
        let sandboxes = listing.map_err(|e| e.to_string())?.sandboxes.into_iter();
        let newest = sandboxes.filter(|s| s.ready).max_by_key(|s| (s.attempt, s.created_at));
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        newest.map(|s| s.id).ok_or_else(|| format!("pod \"{name}\" is not running"))
    }

    /// The pod is looked for at each connection: it may have been restarted since, or be gone.
    fn dial(&self, pod: Arc<Pod>) -> Dial {
        let api = self.clone();
        Arc::new(move |port| {
            let (api, pod) = (api.clone(), Arc::clone(&pod));
            Box::pin(async move {
                let sandbox = api.sandbox(&pod).await?;
                let network = api.shared.runtime.network(&sandbox).await;
                dial::connect(network.map_err(|e| e.to_string())?, port)
                    .await
                    .map_err(|e| format!("cannot connect to port {port} of the pod: {e}"))
            })
        })
    }
}

async fn carry(upgrade: OnUpgrade, spoken: Spoken, dial: Dial, slots: Arc<Semaphore>) {
    let Ok(Ok(socket)) = tokio::time::timeout(UPGRADE_LIMIT, upgrade).await else { return };
    let socket = TokioIo::new(socket);
    match spoken {
        Spoken::Spdy => {
            let (read, write) = tokio::io::split(socket);
            spdy::carry(read, write, dial, slots).await;
        }
        Spoken::Tunnelled => {
            let (read, write) = bytes_of(super::channels::socket(socket).await);
            spdy::carry(read, write, dial, slots).await;
        }
        Spoken::Channels(ports) => {
            let socket = super::channels::socket(socket).await;
            channels::carry(socket, &ports, dial, slots).await;
        }
    }
}

type Read = Pin<Box<dyn AsyncRead + Send>>;
type Write = Pin<Box<dyn AsyncWrite + Send>>;

/// The bytes in a WebSocket's messages, whatever their borders.
fn bytes_of<S>(socket: WebSocketStream<S>) -> (Read, Write)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, source) = socket.split();
    let source = source.filter_map(|message| async {
        match message {
            Ok(Message::Binary(data)) => Some(Ok(data)),
            Ok(_) => None,
            Err(e) => Some(Err(std::io::Error::other(e))),
        }
    });
    let sink = sink
        .with(|data: Bytes| async { Ok::<_, WsError>(Message::Binary(data)) })
        .sink_map_err(std::io::Error::other);
    (Box::pin(StreamReader::new(source)), Box::pin(SinkWriter::new(CopyToBytes::new(sink))))
}

#[cfg(test)]
mod tests {
    use http::header::SEC_WEBSOCKET_KEY;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn ports_are_listed_or_repeated_and_each_counts_once() {
        assert_eq!(ports("port=80&port=81,82&other=1&port=80"), Ok(vec![80, 81, 82]));
        for bad in ["", "port=", "port=0", "port=65536", "port=-1", "port=80,", "ports=80"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        let many: String = (1..=129).map(|n| format!("port={n}&")).collect();
        assert!(ports(&many).unwrap_err().contains("129 ports"));
    }

    #[test]
    fn what_is_spoken_is_what_the_client_can() {
        let chosen = |upgrade: &'static str, protocol: &'static str, query: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
            match switch(&headers, query) {
                Ok((spoken, response)) => {
                    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
                    Ok(spoken)
                }
                Err(Refusal(code, _)) => Err(code.as_u16()),
            }
        };
        assert_eq!(chosen("SPDY/3.1", PORT_FORWARD, ""), Ok(Spoken::Spdy));
        assert_eq!(chosen("SPDY/3.1", "v4.channel.k8s.io", ""), Err(403));
        assert_eq!(chosen("websocket", TUNNELLED, ""), Ok(Spoken::Tunnelled));
        let both = "v5.channel.k8s.io, v4.channel.k8s.io";
        assert_eq!(chosen("websocket", both, "port=80"), Ok(Spoken::Channels(vec![80])));
        assert_eq!(chosen("websocket", both, ""), Err(400), "no port");
        assert_eq!(chosen("websocket", "v5.channel.k8s.io", "port=80"), Err(403));
        assert_eq!(chosen("h2c", PORT_FORWARD, ""), Err(400));
    }

    #[test]
    fn a_path_names_a_pod_with_or_without_its_uid() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(named(&path("portForward/default/web")).unwrap().uid, None);
        assert_eq!(named(&path("portForward/default/web/u-1")).unwrap().uid, Some("u-1"));
        assert_eq!(named(&path("portForward/default")), None);
        assert_eq!(named(&path("portForward/default/web/u-1/c")), None);
    }

    #[tokio::test]
    async fn bytes_in_a_websocket_come_out_whatever_the_borders_of_its_messages() {
        use tokio_tungstenite::tungstenite::protocol::Role;
        let (near, far) = tokio::io::duplex(1 << 10);
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        let (mut read, write) = bytes_of(super::super::channels::socket(near).await);
        for piece in [&b"a"[..], b"", b"bcd"] {
            client.send(Message::Binary(Bytes::copy_from_slice(piece))).await.unwrap();
        }
        client.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
        client.close(None).await.unwrap();
        let mut came = Vec::new();
        read.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"abcd");
        drop(write);
        // And the other way.
        let (near, far) = tokio::io::duplex(1 << 10);
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        let (_read, mut write) = bytes_of(super::super::channels::socket(near).await);
        write.write_all(b"hello").await.unwrap();
        write.flush().await.unwrap();
        let heard = client.next().await.unwrap().unwrap();
        assert_eq!(heard, Message::Binary(Bytes::from_static(b"hello")));
    }
}

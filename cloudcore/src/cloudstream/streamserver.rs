//! Port 10003: what a kubelet serves, for every node with a tunnel.
//!
//! Owns: which node a path is about, and the relaying of one request.
//! Called by: `app.rs`; the API server calls the port.
//! Never: answers before it knows who asks and the API server has said that they may.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind, NodeName, ObjectKey};
use api::tunnel::{ConnectRequest, FrameKind, GoUrl};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use service::CancellationToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::Tunnels;
use super::access::{Access, Denied};
use super::head::{self, Head};
use super::tunnel::Connection;
use crate::cloudhub::listener::{Caps, Seat};
use crate::edgecontroller::index::Index;
use crate::metrics::Metrics;

/// API servers, and whoever else may.
pub const CAPS: Caps = Caps { total: 1024, per_address: 512, handshake: Duration::from_secs(10) };
/// From TLS to the request, and between requests.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// Until the edge begins to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The edge's kubelet API, as the original names it.
pub(super) const KUBELET: &str = "127.0.0.1:10350";
/// What is sent at once.
const PIECE: usize = 16 << 10;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    /// Where the nodes are.
    pub tunnels: Tunnels,
    /// Where pods run.
    pub index: Arc<Mutex<Index>>,
    /// Who may ask.
    pub access: Access,
    /// Counts refusals.
    pub metrics: Metrics,
    /// cloudcore stops.
    pub stopping: CancellationToken,
}

/// Why a request is not carried out.
struct Refusal(StatusCode, String);

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::NoCa | Denied::Api(_) => StatusCode::SERVICE_UNAVAILABLE,
            Denied::Unknown(_) => StatusCode::UNAUTHORIZED,
            Denied::Forbidden { .. } => StatusCode::FORBIDDEN,
        };
        Self(code, service::error_chain(&denied))
    }
}

/// What a path is about.
#[derive(Debug, PartialEq, Eq)]
enum About {
    /// A pod, by namespace and name.
    Pod(ObjectKey),
    /// A node, which only the API server's note on the way names.
    Node(NodeName),
}

/// What is asked for and how it travels. Pure.
fn about(path: &str, headers: &HeaderMap) -> Option<(FrameKind, About)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let kind = match *parts.first()? {
        "containerLogs" => FrameKind::LogsConnect,
        "attach" => FrameKind::AttachConnect,
        "exec" | "run" | "portForward" => FrameKind::ExecConnect,
        "stats" | "metrics" | "pods" | "healthz" => {
            // `/api/v1/nodes/NODE/proxy/..`
            let uri = headers.get("x-forwarded-uri")?.to_str().ok()?;
            let node = uri.split_once("/nodes/")?.1.split('/').next()?;
            let node = node.split(':').next()?.parse().ok()?;
            return Some((FrameKind::MetricsConnect, About::Node(node)));
        }
        _ => return None,
    };
    let wanted = if kind == FrameKind::LogsConnect { 4..=4 } else { 3..=5 };
    if !wanted.contains(&parts.len()) {
        return None;
    }
    let key = ObjectKey::new(parts[1].parse().ok()?, Kind::Pod, parts[2]);
    Some((kind, About::Pod(key)))
}

/// The request as it travels to the edge, without what is between the API server and here.
fn connect_request(parts: &Parts) -> ConnectRequest {
    let between = [AUTHORIZATION, COOKIE, HOST, CONTENT_LENGTH, TRANSFER_ENCODING];
    let mut header = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (name, value) in &parts.headers {
        if let (false, Ok(value)) = (between.contains(name), value.to_str()) {
            header.entry(name.as_str().to_owned()).or_default().push(value.to_owned());
        }
    }
    let path = parts.uri.path();
    ConnectRequest {
        connect_id: 0,
        url: GoUrl {
            scheme: "http".to_owned(),
            host: KUBELET.to_owned(),
            path: path.to_owned(),
            // What is encoded stays so; Go leaves it out otherwise.
            raw_path: if path.contains('%') { path.to_owned() } else { String::new() },
            raw_query: parts.uri.query().unwrap_or_default().to_owned(),
            ..GoUrl::default()
        },
        header,
        method: parts.method.as_str().to_owned(),
    }
}

/// One connection after its TLS handshake.
pub async fn serve(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    seat: Seat,
    shared: Arc<Shared>,
) {
    let chain: Vec<CertificateDer<'static>> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|c| c.clone().into_owned())
        .collect();
    let stopping = shared.stopping.clone();
    let service = hyper::service::service_fn(|request| {
        let (chain, shared) = (&chain, &shared);
        async move {
            let answer = shared.answer(request, chain).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|Refusal(code, why)| {
                shared.metrics.refused("stream");
                debug!(%peer, %code, why, "a stream is refused");
                say(code, format!("{why}\n"))
            }))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        // A client that goes away has nobody left to tell.
        _ = connection => {}
        () = stopping.cancelled() => {}
    }
    drop(seat);
}

fn say(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

impl Shared {
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        chain: &[CertificateDer<'_>],
    ) -> Result<Response<Body>, Refusal> {
        let who = self.access.who(chain)?;
        let path = request.uri().path().to_owned();
        let (kind, about) = about(&path, request.headers()).ok_or_else(|| {
            Refusal(StatusCode::NOT_FOUND, format!("`{path}` is not served here"))
        })?;
        let node = self.node(about)?;
        let verb = match *request.method() {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            _ => {
                let why = "only GET and POST are served here".to_owned();
                return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, why));
            }
        };
        self.access.check(&who, &node, verb, &path).await?;
        let unavailable = |why: String| Refusal(StatusCode::SERVICE_UNAVAILABLE, why);
        let tunnel = self.tunnels.of(&node).ok_or_else(|| {
            unavailable(format!("node `{node}` has no tunnel to this cloudcore: it is cut off, or its `edgeStream` is off"))
        })?;
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let connection = tunnel
            .connect(kind, connect_request(&parts))
            .await
            .map_err(|e| unavailable(e.to_string()))?;
        // The original's edge sends of a log or of metrics the body alone.
        let has_head =
            tunnel.windows() || matches!(kind, FrameKind::ExecConnect | FrameKind::AttachConnect);
        let head = match has_head {
            true => timeout(ANSWER_LIMIT, first(&connection)).await.map_err(|_| {
                let why = format!("node `{node}` did not answer in time");
                Refusal(StatusCode::GATEWAY_TIMEOUT, why)
            })?,
            false => {
                Ok(Head { status: StatusCode::OK, headers: HeaderMap::new(), rest: Bytes::new() })
            }
        };
        let head = head.map_err(|why| Refusal(StatusCode::BAD_GATEWAY, why))?;
        Ok(relay(head, connection, upgrade, self.stopping.clone()))
    }

    fn node(&self, about: About) -> Result<NodeName, Refusal> {
        match about {
            About::Node(node) => Ok(node),
            About::Pod(key) => self.index.lock().node_of_pod(&key).cloned().ok_or_else(|| {
                let why = format!("pod `{key}` is not on an edge node");
                Refusal(StatusCode::NOT_FOUND, why)
            }),
        }
    }
}

/// The head of the edge's answer.
pub(super) async fn first(connection: &Connection) -> Result<Head, String> {
    let mut received = BytesMut::new();
    while let Some(data) = connection.read().await {
        received.extend_from_slice(&data);
        connection.passed_on(data.len()).await;
        if let Some(head) = head::take(&mut received).map_err(|e| e.to_string())? {
            return Ok(head);
        }
    }
    Err("the edge hung up before it had answered".to_owned())
}

fn relay(
    head: Head,
    connection: Connection,
    upgrade: OnUpgrade,
    stopping: CancellationToken,
) -> Response<Body> {
    let Head { status, headers, rest } = head;
    let body = match status {
        StatusCode::SWITCHING_PROTOCOLS => {
            tokio::spawn(async move {
                tokio::select! {
                    () = both_ways(connection, upgrade, rest) => {}
                    () = stopping.cancelled() => {}
                }
            });
            Full::default().boxed_unsync()
        }
        _ => body(connection, rest),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What the edge sends, as the body of a response. A piece counts as passed on once the next is
/// asked for.
fn body(connection: Connection, rest: Bytes) -> Body {
    let frames = futures::stream::unfold(
        (connection, Some(rest), 0),
        |(connection, rest, before)| async move {
            if let Some(rest) = rest.filter(|r| !r.is_empty()) {
                return Some((Ok(Frame::data(rest)), (connection, None, 0)));
            }
            connection.passed_on(before).await;
            let data = connection.read().await?;
            let length = data.len();
            Some((Ok(Frame::data(data)), (connection, None, length)))
        },
    );
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// Bytes of another protocol, until either side ends.
async fn both_ways(connection: Connection, upgrade: OnUpgrade, rest: Bytes) {
    let Ok(socket) = upgrade.await else { return };
    let (mut read, mut write) = tokio::io::split(TokioIo::new(socket));
    let to_edge = async {
        let mut piece = BytesMut::with_capacity(PIECE);
        loop {
            piece.reserve(PIECE);
            match read.read_buf(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            while !piece.is_empty() {
                let next = piece.split_to(piece.len().min(PIECE)).freeze();
                if connection.write(next).await.is_err() {
                    // What the edge said last is still to be passed on.
                    return std::future::pending().await;
                }
            }
        }
    };
    let from_edge = async {
        if write.write_all(&rest).await.is_err() {
            return;
        }
        while let Some(data) = connection.read().await {
            if write.write_all(&data).await.is_err() || write.flush().await.is_err() {
                return;
            }
            connection.passed_on(data.len()).await;
        }
        let _ = write.shutdown().await;
    };
    tokio::select! {
        () = to_edge => {}
        () = from_edge => {}
    }
}

#[cfg(test)]
mod path_tests {
    use super::*;

    fn key(text: &str) -> About {
        About::Pod(text.parse().unwrap())
    }

    #[test]
    fn the_paths_of_a_kubelet_name_their_pod() {
        let none = HeaderMap::new();
        for (path, kind) in [
            ("/containerLogs/default/web/c", FrameKind::LogsConnect),
            ("/exec/default/web/c", FrameKind::ExecConnect),
            ("/exec/default/web/uid/c", FrameKind::ExecConnect),
            ("/attach/default/web/c", FrameKind::AttachConnect),
            ("/portForward/default/web", FrameKind::ExecConnect),
        ] {
            assert_eq!(about(path, &none), Some((kind, key("default/pod/web"))), "{path}");
        }
        for path in
            ["/", "/exec", "/exec/default", "/containerLogs/a/b", "/secrets/a/b", "/exec/../b/c"]
        {
            assert_eq!(about(path, &none), None, "{path}");
        }
    }

    #[test]
    fn statistics_are_of_the_node_that_the_api_server_names() {
        let mut headers = HeaderMap::new();
        assert_eq!(about("/stats/summary", &headers), None);
        let uri = HeaderValue::from_static("/api/v1/nodes/edge-1:10003/proxy/stats/summary");
        headers.insert("x-forwarded-uri", uri);
        let node = About::Node("edge-1".parse().unwrap());
        assert_eq!(about("/stats/summary", &headers), Some((FrameKind::MetricsConnect, node)));
    }

    #[test]
    fn what_is_between_api_server_and_cloudcore_does_not_reach_the_edge() {
        let request = Request::builder()
            .method("POST")
            .uri("/exec/default/web/c?command=sh&command=a%20b")
            .header("authorization", "Bearer secret")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", "v5.channel.k8s.io")
            .header("x-stream-protocol-version", "v4.channel.k8s.io")
            .body(())
            .unwrap();
        let request = connect_request(&request.into_parts().0);
        assert!(!request.header.contains_key("authorization"));
        assert_eq!(request.header["x-stream-protocol-version"].len(), 2);
        assert_eq!(
            request.path_and_query().unwrap(),
            "/exec/default/web/c?command=sh&command=a%20b"
        );
    }
}

//! Port 10004: a node opens its tunnel.
//!
//! Owns: the handshake; the rule that the certificate must be the node's own.
//! Called by: `app.rs`.
//! Never: lets a node in under a name that its certificate does not have.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::names::NodeName;
use api::tunnel::{self, WINDOWS, WINDOWS_ON};
use api::wire::handshake;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use service::CancellationToken;
use service::tls::{self, Subject};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{debug, info, warn};

use super::Tunnels;
use super::endpoint::Endpoint;
use super::tunnel::Tunnel;
use crate::cloudhub::listener::Seat;
use crate::metrics::Metrics;

/// From TLS to WebSocket.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What all tunnels share.
#[derive(Debug)]
pub struct Shared {
    /// Where they are found.
    pub tunnels: Tunnels,
    /// Told of each node that has one.
    pub endpoint: Endpoint,
    /// Counts refusals.
    pub metrics: Metrics,
    /// cloudcore stops.
    pub stopping: CancellationToken,
}

/// A handshake that was accepted.
struct Admitted {
    upgrade: OnUpgrade,
    node: NodeName,
    windows: bool,
}

/// Why one was not.
type Refusal = (StatusCode, String);

/// Whether the handshake's headers are in order and the certificate is the node's own. Pure.
fn judge(
    path: &str,
    headers: &HeaderMap,
    subject: Option<&Subject>,
) -> Result<(NodeName, String), Refusal> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if path != tunnel::PATH {
        return Err((StatusCode::NOT_FOUND, format!("only `{}` is served here", tunnel::PATH)));
    }
    let key = text(SEC_WEBSOCKET_KEY.as_str());
    let upgrade = text(UPGRADE.as_str()).is_some_and(|u| u.eq_ignore_ascii_case("websocket"));
    let (Some(key), true) = (key, upgrade) else {
        return Err((StatusCode::UPGRADE_REQUIRED, "a WebSocket is expected".to_owned()));
    };
    let node: Option<NodeName> = text(tunnel::NODE_NAME).and_then(|n| n.parse().ok());
    let Some(node) = node else {
        let why = format!("the header `{}` is missing or no node name", tunnel::NODE_NAME);
        return Err((StatusCode::BAD_REQUEST, why));
    };
    let wanted = handshake::common_name(&node);
    let found = subject.map(|s| s.common_name.as_str()).unwrap_or_default();
    if found != wanted {
        let found: String = found.chars().take(64).collect();
        let why = format!("the certificate is for `{found}`, not for `{wanted}`");
        return Err((StatusCode::FORBIDDEN, why));
    }
    Ok((node, derive_accept_key(key.as_bytes())))
}

/// One connection after its TLS handshake.
pub async fn serve(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    seat: Seat,
    shared: Arc<Shared>,
) {
    let subject = tls::peer_subject(stream.get_ref().1.peer_certificates()).ok().flatten();
    let admitted = Mutex::new(None);
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let response =
            answer(request, subject.as_ref(), &admitted).unwrap_or_else(|(code, why)| {
                shared.metrics.refused("tunnel");
                warn!(%peer, why, "a tunnel is refused");
                let mut response = Response::new(Full::new(Bytes::from(why)));
                *response.status_mut() = code;
                response
            });
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if timeout(HANDSHAKE, connection).await.is_err() {
        return debug!(%peer, "the handshake of a tunnel took too long");
    }
    let Some(Admitted { upgrade, node, windows }) = admitted.into_inner() else { return };
    let socket = match timeout(HANDSHAKE, upgrade).await {
        Ok(Ok(socket)) => TokioIo::new(socket),
        _ => return debug!(%peer, "the handshake of a tunnel was broken off"),
    };
    // It has shown who it is.
    drop(seat);
    let (tunnel, queue) = Tunnel::new(node.clone(), windows);
    shared.tunnels.open(&tunnel);
    info!(%node, %peer, "tunnel is open");
    let why = tokio::select! {
        why = tunnel.run(socket, queue) => why,
        never = shared.endpoint.keep_published(&node) => match never {},
        () = shared.stopping.cancelled() => "cloudcore stops".to_owned(),
    };
    tunnel.end();
    shared.tunnels.close(&tunnel);
    info!(%node, why, "tunnel is closed");
}

fn answer(
    mut request: Request<Incoming>,
    subject: Option<&Subject>,
    admitted: &Mutex<Option<Admitted>>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let (node, accept) = judge(request.uri().path(), request.headers(), subject)?;
    let broken = |_| (StatusCode::BAD_REQUEST, "the handshake makes no sense".to_owned());
    let accept = HeaderValue::from_str(&accept).map_err(broken)?;
    let windows = request.headers().get(WINDOWS).is_some_and(|v| v == WINDOWS_ON);
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if windows {
        headers.insert(WINDOWS, HeaderValue::from_static(WINDOWS_ON));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    *admitted.lock() = Some(Admitted { upgrade, node, windows });
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(node: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        // RFC 6455, section 1.3.
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        headers.insert(tunnel::NODE_NAME, HeaderValue::from_str(node).unwrap());
        headers
    }

    fn subject(cn: &str) -> Subject {
        Subject { common_name: cn.to_owned(), organizations: vec!["system:nodes".to_owned()] }
    }

    #[test]
    fn a_node_gets_only_the_tunnel_that_its_certificate_names() {
        let own = subject("system:node:edge-1");
        let (node, accept) = judge(tunnel::PATH, &headers("edge-1"), Some(&own)).unwrap();
        assert_eq!((node.as_str(), &*accept), ("edge-1", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for (path, named, subject, code) in [
            ("/other", "edge-1", Some(&own), 404),
            (tunnel::PATH, "edge-2", Some(&own), 403),
            (tunnel::PATH, "edge-1", None, 403),
            (tunnel::PATH, "No Name", Some(&own), 400),
        ] {
            assert_eq!(judge(path, &headers(named), subject).unwrap_err().0.as_u16(), code);
        }
        let mut plain = headers("edge-1");
        plain.remove(UPGRADE);
        assert_eq!(judge(tunnel::PATH, &plain, Some(&own)).unwrap_err().0.as_u16(), 426);
    }
}

//! Opening the tunnel: TCP, TLS, WebSocket.
//!
//! Owns: the handshake's headers and limits.
//! Called by: `mod.rs`.
//! Never: speaks to a cloud whose certificate is not of the node's CA, as the original does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::tunnel::{self, WINDOWS, WINDOWS_ON};
use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use service::tls::TlsError;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::StreamSettings;
use crate::edgehub::link::{LinkError, host_of, tls_error};
use crate::edgehub::session::printable;

/// Opening a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A refusal is a sentence.
const MAX_REFUSAL: usize = 4 << 10;

/// An open tunnel.
pub(super) struct Opened {
    pub(super) socket: TokioIo<Upgraded>,
    /// The cloud is ours: both sides keep to windows, and every answer has a head.
    pub(super) windows: bool,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Own(#[from] TlsError),
    #[error("the handshake of the tunnel at `{server}` broke off")]
    Http {
        server: String,
        #[source]
        source: hyper::Error,
    },
    #[error("the node's name or address does not fit into a header")]
    Header(#[from] http::Error),
    #[error(
        "`{server}` answers the tunnel's handshake with a wrong key: it is no WebSocket server"
    )]
    Key { server: String },
}

pub(super) async fn dial(
    settings: &StreamSettings,
    tls: impl Fn() -> Result<Arc<ClientConfig>, TlsError>,
) -> Result<Opened, DialError> {
    let server = &settings.server;
    let unreachable = |source| LinkError::Unreachable { server: server.clone(), source };
    let host = host_of(server).ok_or_else(|| LinkError::Address { server: server.clone() })?;
    let tcp = timeout(CONNECT_LIMIT, TcpStream::connect(server)).await;
    let tcp = tcp.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?.map_err(unreachable)?;
    let limit = settings.handshake_limit;
    timeout(limit, handshake(settings, tls()?, host, tcp))
        .await
        .map_err(|_| LinkError::Slow { server: server.clone(), limit })?
}

async fn handshake(
    settings: &StreamSettings,
    tls: Arc<ClientConfig>,
    host: &str,
    tcp: TcpStream,
) -> Result<Opened, DialError> {
    let server = &settings.server;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| LinkError::Address { server: server.clone() })?;
    // Keys typed into an exec should not wait for the next.
    if let Err(e) = tcp.set_nodelay(true) {
        tracing::debug!(error = %e, "cannot set TCP_NODELAY");
    }
    let stream = TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|e| tls_error(server, host, &settings.ca_file, e))?;
    let broken = |source| DialError::Http { server: server.clone(), source };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(16 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with the connection, or hands its socket over.
    tokio::spawn(connection.with_upgrades());
    let key = generate_key();
    let request = request(settings, &key)?;
    let mut response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(server, response).await.into());
    }
    let accepts = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accepts.is_none_or(|v| v != derive_accept_key(key.as_bytes()).as_str()) {
        return Err(DialError::Key { server: server.clone() });
    }
    let windows = response.headers().get(WINDOWS).is_some_and(|v| v == WINDOWS_ON);
    let socket = hyper::upgrade::on(&mut response).await.map_err(broken)?;
    Ok(Opened { socket: TokioIo::new(socket), windows })
}

fn request(settings: &StreamSettings, key: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    let address = settings.address.map(|a| a.to_string()).unwrap_or_default();
    Request::builder()
        .uri(tunnel::PATH)
        .header(HOST, &settings.server)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .header(tunnel::NODE_NAME, settings.node.as_str())
        .header(tunnel::NODE_IP, address)
        .header(WINDOWS, WINDOWS_ON)
        .body(Empty::new())
}

async fn refused(server: &str, response: Response<Incoming>) -> LinkError {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
    let body = body.map(|b| b.to_bytes()).unwrap_or_default();
    let reason = printable(&String::from_utf8_lossy(&body));
    LinkError::Refused { server: server.to_owned(), status, reason }
}

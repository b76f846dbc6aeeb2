//! Port 10000: mutual TLS, the WebSocket handshake, and the question who this is.
//!
//! Owns: the handshake's limits; the rule that a certificate must be the node's own.
//! Called by: `app.rs`.
//! Never: believes a header. `node_id` says who a connection claims to be, the certificate who it
//! is; if they differ it is closed with a reason, and nothing that it says is heard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::names::NodeName;
use api::status::row::{Link, Millis};
use api::wire::handshake;
use api::wire::message::MAX_MESSAGE;
use rustls_pki_types::CertificateDer;
use service::CancellationToken;
use service::tls::{self, Subject};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tracing::{debug, warn};

use super::budget::{Budget, Metered};
use super::dispatch::Dispatcher;
use super::listener::{Caps, Seat};
use super::session;
use crate::status;

/// Connections that have not yet shown who they are.
pub const CAPS: Caps = Caps { total: 1024, per_address: 256, handshake: Duration::from_secs(10) };
/// From TLS to WebSocket.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What half-received messages may take in all, beyond 64 KiB each.
pub const MEMORY: usize = 256 << 20;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// Where messages go.
    pub dispatcher: Dispatcher,
    /// Memory for half-received messages.
    pub budget: Budget,
    /// Without a message for so long, a session ends.
    pub keepalive: Duration,
    /// cloudcore stops.
    pub stopping: CancellationToken,
}

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the header `{}` is missing or no node name", handshake::NODE_ID)]
    NoNode,
    #[error("the header `{}` must be `{}`", handshake::CONNECTION_USE, handshake::USE_MESSAGES)]
    WrongUse,
    #[error("the certificate is for `{found}`, not for `{wanted}`")]
    WrongCertificate { found: String, wanted: String },
    #[error("the certificate cannot be read")]
    BadCertificate,
    #[error(transparent)]
    Registry(#[from] super::registry::Refused),
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Refusal::NoNode => "no_node_id",
            Refusal::WrongUse => "connection_use",
            Refusal::WrongCertificate { .. } | Refusal::BadCertificate => "wrong_certificate",
            Refusal::Registry(_) => "node_limit",
        }
    }
}

/// What the handshake's request says.
#[derive(Debug, Default)]
struct Claim {
    node: Option<String>,
    usage: Option<String>,
    store: Option<String>,
}

impl Claim {
    fn read(request: &Request) -> Self {
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Self {
            node: header(handshake::NODE_ID),
            usage: header(handshake::CONNECTION_USE),
            store: header(handshake::STORE_ID).filter(|id| is_store_id(id)),
        }
    }

    /// Who this is, if claim and certificate agree. Pure.
    fn judge(&self, subject: Option<&Subject>) -> Result<NodeName, Refusal> {
        let node: NodeName =
            self.node.as_deref().and_then(|n| n.parse().ok()).ok_or(Refusal::NoNode)?;
        let subject = subject.ok_or(Refusal::BadCertificate)?;
        let wanted = handshake::common_name(&node);
        if subject.common_name != wanted {
            let found = subject.common_name.chars().take(64).collect();
            return Err(Refusal::WrongCertificate { found, wanted });
        }
        if self.usage.as_deref() != Some(handshake::USE_MESSAGES) {
            return Err(Refusal::WrongUse);
        }
        Ok(node)
    }
}

/// Whether it may be the id of a database: short and plain, as an annotation is to hold it.
fn is_store_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&id.len()) && id.bytes().all(plain)
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(16 << 10)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// When the certificate that a node shows expires.
fn expiry(chain: Option<&[CertificateDer<'_>]>) -> Option<Millis> {
    let (_, certificate) = x509_parser::parse_x509_certificate(chain?.first()?).ok()?;
    certificate.validity().not_after.timestamp().checked_mul(1000)
}

/// One connection after its TLS handshake.
pub async fn serve(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    seat: Seat,
    shared: Arc<Shared>,
) {
    let subject = tls::peer_subject(stream.get_ref().1.peer_certificates()).ok().flatten();
    let expires = expiry(stream.get_ref().1.peer_certificates());
    let mut claim = Claim::default();
    // The signature is the library's.
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        claim = Claim::read(request);
        Ok(response)
    };
    let metered = Metered::new(stream, shared.budget.clone());
    let upgrade = accept_hdr_async_with_config(metered, look, Some(limits()));
    let metrics = &shared.dispatcher.metrics;
    let mut socket = match timeout(HANDSHAKE, upgrade).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            metrics.refused("websocket_handshake");
            return debug!(%peer, %error, "the WebSocket handshake failed");
        }
        Err(_) => {
            metrics.refused("websocket_timeout");
            return debug!(%peer, "the WebSocket handshake took too long");
        }
    };
    socket.get_ref().meter().message_complete();
    let registry = &shared.dispatcher.registry;
    let admitted = claim
        .judge(subject.as_ref())
        .and_then(|node| Ok(registry.connect(&node, claim.store.as_deref())?));
    match admitted {
        Ok((connection, ended)) => {
            // It has shown who it is; from here the node limit counts.
            drop(seat);
            let stopping = shared.stopping.clone();
            let (dispatcher, keepalive) = (&shared.dispatcher, shared.keepalive);
            let origin = connection.origin().clone();
            let status = dispatcher.registry.status();
            let link = Link {
                since: status::now(),
                from: peer.to_string(),
                protocol: "websocket".to_owned(),
                certificate_expires: expires,
                round_trip_us: None,
            };
            status.link_up(&origin.node, origin.session, link);
            let why =
                session::run(socket, connection, ended, dispatcher, keepalive, stopping).await;
            status.link_down(&origin.node, origin.session, &why);
        }
        Err(refusal) => {
            metrics.refused(refusal.label());
            warn!(%peer, why = %refusal, "a connection is refused");
            session::close(&mut socket, CloseCode::Policy, &refusal.to_string()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(node: &str, usage: &str) -> Claim {
        Claim { node: Some(node.to_owned()), usage: Some(usage.to_owned()), store: None }
    }

    fn subject(cn: &str) -> Subject {
        Subject { common_name: cn.to_owned(), organizations: vec!["system:nodes".to_owned()] }
    }

    #[test]
    fn the_certificate_must_be_the_nodes_own() {
        let own = subject("system:node:edge-1");
        assert_eq!(claim("edge-1", "msg").judge(Some(&own)).unwrap().as_str(), "edge-1");
        let refusal = claim("edge-2", "msg").judge(Some(&own)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the certificate is for `system:node:edge-1`, not for `system:node:edge-2`"
        );
        let legacy = subject("kubeedge.io");
        assert!(claim("edge-1", "msg").judge(Some(&legacy)).is_err());
        assert_eq!(claim("edge-1", "msg").judge(None), Err(Refusal::BadCertificate));
    }

    #[test]
    fn the_id_of_a_database_is_short_and_plain() {
        assert!(is_store_id("1c6e2f7a-0d5c-4f0e-9b43-6a1f3f1d2b10"));
        for bad in ["", "a b", "a\nb", "\"", &"x".repeat(65)] {
            assert!(!is_store_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_claim_has_a_node_and_the_right_use() {
        let own = subject("system:node:edge-1");
        assert_eq!(Claim::default().judge(Some(&own)), Err(Refusal::NoNode));
        assert_eq!(claim("Not A Name", "msg").judge(Some(&own)), Err(Refusal::NoNode));
        assert_eq!(claim("edge-1", "str").judge(Some(&own)), Err(Refusal::WrongUse));
    }
}

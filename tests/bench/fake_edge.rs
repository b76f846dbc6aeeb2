//! An edge node as far as the wire goes: it joins, connects, and acknowledges what it is sent.
//!
//! Owns: its key, its certificate, its socket.
//! Called by: scenes that need more edges than this machine could run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::names::{MessageId, NodeName};
use api::wire::{Downstream, Upstream, handshake, json};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use service::tls::{self, Identity, ServerTrust};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Where cloudcore's two ports are, and whose certificate it shows.
pub(crate) struct Cloud {
    pub(crate) hub: SocketAddr,
    pub(crate) bootstrap: SocketAddr,
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) token: String,
}

pub(crate) struct FakeEdge(WebSocketStream<TlsStream<TcpStream>>);

impl FakeEdge {
    /// Asks for a certificate, and connects with it.
    pub(crate) async fn join(cloud: &Cloud, name: &str) -> Self {
        let node: NodeName = name.parse().unwrap();
        let identity = certificate(cloud, &node).await;
        let stream = tls_to(cloud.hub, &cloud.ca, Some(&identity)).await;
        let path = handshake::path(handshake::DEFAULT_PROJECT, &node);
        let mut request = format!("wss://{}{path}", cloud.hub).into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert(handshake::NODE_ID, name.parse().unwrap());
        headers.insert(handshake::PROJECT_ID, handshake::DEFAULT_PROJECT.parse().unwrap());
        headers.insert(handshake::CONNECTION_USE, handshake::USE_MESSAGES.parse().unwrap());
        Self(client_async(request, stream).await.unwrap().0)
    }

    /// Acknowledges for as long as the cloud keeps the connection, and tells `heard` of each object.
    pub(crate) async fn obey(mut self, mut heard: impl FnMut()) {
        let mut keepalive = tokio::time::interval(Duration::from_secs(10));
        loop {
            let frame = tokio::select! {
                frame = self.0.next() => frame,
                _ = keepalive.tick() => {
                    self.send(&Upstream::Keepalive).await;
                    continue;
                }
            };
            let Some(Ok(frame)) = frame else { return };
            let Frame::Text(text) = frame else { continue };
            let Ok(message) = json::decode(text.as_bytes()) else { continue };
            let Ok((id, message)) = Downstream::decode(message) else { continue };
            if matches!(message, Downstream::Object(_)) {
                heard();
            }
            let Some(ack) = message.ack(&id) else { continue };
            self.send(&Upstream::Ack(ack)).await;
        }
    }

    async fn send(&mut self, message: &Upstream) {
        let message = message.encode(&MessageId::random(), 1);
        self.0.send(Frame::text(json::encode(&message).unwrap())).await.unwrap();
    }
}

async fn tls_to(
    at: SocketAddr,
    ca: &CertificateDer<'static>,
    identity: Option<&Identity>,
) -> TlsStream<TcpStream> {
    let trust = ServerTrust::Roots(tls::roots([ca.clone()]).unwrap());
    let config = Arc::new(tls::client_config(trust, identity, &[b"http/1.1"]).unwrap());
    let tcp = TcpStream::connect(at).await.unwrap();
    TlsConnector::from(config).connect(ServerName::from(at.ip()), tcp).await.unwrap()
}

/// What `keadm join` does before an edge's first connection.
async fn certificate(cloud: &Cloud, node: &NodeName) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, handshake::common_name(node));
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    let stream = tls_to(cloud.bootstrap, &cloud.ca, None).await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let jwt = cloud.token.split_once('.').unwrap().1;
    let request = hyper::Request::get("/edge.crt")
        .header("host", "cloud")
        .header("authorization", format!("Bearer {jwt}"))
        .header("nodename", node.as_str())
        .body(Full::new(Bytes::from(csr)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let code = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    assert!(code.is_success(), "{code}: {}", String::from_utf8_lossy(&body));
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Identity::new(vec![CertificateDer::from(body.to_vec())], key, "edge").unwrap()
}

//! An edge node, as far as the wire goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::names::{MessageId, NodeName};
use api::wire::downstream::{Downstream, ObjectPush, Reply};
use api::wire::request::Request;
use api::wire::{Upstream, handshake, json};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use service::tls::{self, Identity, ServerTrust};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Far above what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn csr(cn: &str) -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, cn);
    (params.serialize_request(&key).unwrap().der().to_vec(), key)
}

pub(crate) async fn tls_to(
    at: SocketAddr,
    ca: &CertificateDer<'static>,
    identity: Option<&Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let trust = ServerTrust::Roots(tls::roots([ca.clone()]).unwrap());
    let config = tls::client_config(trust, identity, &[b"http/1.1"]).unwrap();
    let name = ServerName::from(at.ip());
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(at).await?).await
}

/// One HTTPS request: status and body.
pub(crate) async fn https(
    at: SocketAddr,
    ca: &CertificateDer<'static>,
    identity: Option<&Identity>,
    request: http::Request<Full<Bytes>>,
) -> (u16, Vec<u8>) {
    let stream = tls_to(at, ca, identity).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    driver.abort();
    (code, body)
}

pub(crate) fn get(
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::get(path).header("host", "cloud");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body))).unwrap()
}

/// Asks for a certificate; the status and body as they came.
pub(crate) async fn ask_certificate(
    at: SocketAddr,
    ca: &CertificateDer<'static>,
    token: &str,
    node: &str,
    csr: Vec<u8>,
) -> (u16, Vec<u8>) {
    let jwt = token.split_once('.').map_or(token, |(_, jwt)| jwt);
    let bearer = format!("Bearer {jwt}");
    let headers = [("authorization", bearer.as_str()), ("nodename", node)];
    https(at, ca, None, get("/edge.crt", &headers, csr)).await
}

pub(crate) fn identity(certificate: Vec<u8>, key: &KeyPair) -> Identity {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Identity::new(vec![CertificateDer::from(certificate)], key, "edge").unwrap()
}

/// Joins: from a token to an identity.
pub(crate) async fn join(
    at: SocketAddr,
    ca: &CertificateDer<'static>,
    token: &str,
    node: &str,
) -> Identity {
    let (request, key) = csr(&format!("system:node:{node}"));
    let (code, body) = ask_certificate(at, ca, token, node, request).await;
    assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
    identity(body, &key)
}

pub(crate) struct Link {
    pub(crate) node: NodeName,
    pub(crate) socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Link {
    pub(crate) async fn dial(
        at: SocketAddr,
        ca: &CertificateDer<'static>,
        identity: &Identity,
        node: &str,
    ) -> Self {
        let node: NodeName = node.parse().unwrap();
        let stream = tls_to(at, ca, Some(identity)).await.unwrap();
        let path = handshake::path(handshake::DEFAULT_PROJECT, &node);
        let mut request = format!("wss://{at}{path}").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert(handshake::NODE_ID, node.as_str().parse().unwrap());
        headers.insert(handshake::PROJECT_ID, "p".parse().unwrap());
        headers.insert(handshake::CONNECTION_USE, handshake::USE_MESSAGES.parse().unwrap());
        let (socket, _) = client_async(request, stream).await.unwrap();
        Self { node, socket }
    }

    pub(crate) async fn send(&mut self, message: &Upstream) -> MessageId {
        let id = MessageId::random();
        let text = json::encode(&message.encode(&id, 1)).unwrap();
        self.socket.send(Frame::text(text)).await.unwrap();
        id
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> (MessageId, Downstream) {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("nothing came").expect("the cloud has closed").unwrap() {
                Frame::Text(text) => {
                    return Downstream::decode(json::decode(text.as_bytes()).unwrap()).unwrap();
                }
                // The cloud measures the round trip; the library answers.
                Frame::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next object, not acknowledged.
    pub(crate) async fn hear(&mut self) -> (MessageId, Downstream, ObjectPush) {
        let (id, message) = self.next().await;
        match message.clone() {
            Downstream::Object(push) => (id, message, push),
            other => panic!("{other:?}"),
        }
    }

    /// The next object, acknowledged.
    pub(crate) async fn take(&mut self) -> ObjectPush {
        let (id, message, push) = self.hear().await;
        self.send(&Upstream::Ack(message.ack(&id).unwrap())).await;
        push
    }

    /// The objects up to and with the one of that name, acknowledged.
    pub(crate) async fn take_until(&mut self, name: &str) -> ObjectPush {
        loop {
            let push = self.take().await;
            if &*push.key.name == name {
                return push;
            }
        }
    }

    /// Asks, acknowledges what objects come before the answer, and returns that.
    pub(crate) async fn ask(&mut self, request: Request) -> Reply {
        let asked = self.send(&Upstream::Request(request)).await;
        loop {
            let (id, message) = self.next().await;
            if let Some(ack) = message.ack(&id) {
                self.send(&Upstream::Ack(ack)).await;
            }
            match message {
                Downstream::Reply(reply) if reply.parent == asked => return reply,
                Downstream::Object(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The objects that still come until the cloud closes.
    pub(crate) async fn rest(mut self) -> Vec<ObjectPush> {
        let mut rest = Vec::new();
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("still open") {
                Some(Ok(Frame::Text(text))) => {
                    let message = json::decode(text.as_bytes()).unwrap();
                    if let Ok((_, Downstream::Object(push))) = Downstream::decode(message) {
                        rest.push(push);
                    }
                }
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return rest,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Waits for the cloud to close, and returns its code and reason.
    pub(crate) async fn closed(mut self) -> (u16, String) {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("still open") {
                Some(Ok(Frame::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("closed without a reason: {other:?}"),
            }
        }
    }
}

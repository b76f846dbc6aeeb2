//! A client that does what a well-behaved one does not: it speaks TLS and HTTP by itself.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::Cluster;

/// How long anything may take that takes a moment, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The administrator, by hand.
#[derive(Clone)]
pub(crate) struct Wire {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// Code, reason and message of a Status.
    pub(crate) fn status(&self) -> (u16, String, String) {
        let v = self.value();
        let text = |f: &str| v[f].as_str().unwrap_or_default().to_owned();
        (self.code.as_u16(), text("reason"), text("message"))
    }
}

impl Wire {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        let pem = |v: &Value| STANDARD.decode(v.as_str().unwrap()).unwrap();
        let user = &file["users"][0]["user"];
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(cluster.running.ca_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let chain = CertificateDer::from_pem_slice(&pem(&user["client-certificate-data"])).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![chain], key)
            .unwrap();
        let port = cluster.running.address().port();
        Self { address: ([127, 0, 0, 1], port).into(), config: Arc::new(config) }
    }

    /// A connection that takes little at a time, as far as TCP.
    pub(crate) async fn dial(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// A connection on which nothing has been asked.
    pub(crate) async fn open(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.dial().await).await.unwrap()
    }

    /// Sends a request as it is written here.
    pub(crate) async fn send(&self, text: &str) -> TlsStream<TcpStream> {
        let mut stream = self.open("http/1.1").await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// Asks, with `Content-Type: kind`.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        self.ask_with(method, path, &[("content-type", kind)], body).await
    }

    /// Asks, with these headers.
    pub(crate) async fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let stream = TokioIo::new(self.open("http/1.1").await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let answer = tokio::time::timeout(PATIENCE, async {
            let response = sender.send_request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            (parts, body.collect().await.unwrap().to_bytes())
        });
        let (parts, body) = answer.await.unwrap_or_else(|_| panic!("{method} {path}: no answer"));
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer { code: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "application/json", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask("POST", path, "application/json", body).await
    }

    /// A connection for many requests at once.
    pub(crate) async fn many(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.open("h2").await);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// Sends a merge patch.
pub(crate) async fn merge(wire: &Wire, path: &str, patch: Value) -> Answer {
    wire.ask("PATCH", path, "application/merge-patch+json", patch.to_string()).await
}

/// All that comes until the other side closes; none if it does not.
pub(crate) async fn rest<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let reading = async {
        let mut some = vec![0; 64 << 10];
        // However it ends, it ends.
        while let Ok(n @ 1..) = stream.read(&mut some).await {
            all.extend_from_slice(&some[..n]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.ok()?;
    Some(all)
}

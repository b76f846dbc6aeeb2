//! One HTTPS request to the certificate service.

use std::sync::Arc;

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite;

use super::super::link::{self, LinkError};
use super::super::session::printable;
use super::{CertError, CertSettings};

/// No answer may be larger.
const ANSWER_LIMIT: usize = 1 << 20;

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body for people to read.
    pub(super) fn reason(&self) -> String {
        let text = printable(&String::from_utf8_lossy(&self.body));
        if text.is_empty() { "it gave no reason".to_owned() } else { text }
    }
}

/// `GET path`, with a body, as the original does it.
pub(super) async fn get(
    settings: &CertSettings,
    tls: ClientConfig,
    path: &str,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
) -> Result<Answer, CertError> {
    let limit = settings.limit;
    let server = settings.http_server.clone();
    tokio::time::timeout(limit, exchange(settings, tls, path, headers, body))
        .await
        .unwrap_or(Err(LinkError::Slow { server, limit }.into()))
}

async fn exchange(
    settings: &CertSettings,
    tls: ClientConfig,
    path: &str,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
) -> Result<Answer, CertError> {
    let server = settings.http_server.clone();
    let address = || LinkError::Address { server: server.clone() };
    let uri: Uri = server.parse().map_err(|_| address())?;
    let authority = uri.authority().ok_or_else(address)?;
    if uri.scheme_str() != Some("https") {
        return Err(address().into());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| address())?;
    let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(443)))
        .await
        .map_err(|source| LinkError::Unreachable { server: server.clone(), source })?;
    let stream = TlsConnector::from(Arc::new(tls))
        .connect(name, tcp)
        .await
        .map_err(|e| link::tls_error(&server, host, &settings.ca_file, e))?;
    let broken = |e: hyper::Error| broken_off(&server, host, settings, e);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = Request::get(path).header(header::HOST, authority.as_str());
    for (name, value) in headers {
        let mut value = http::HeaderValue::from_str(value).map_err(|_| CertError::TokenForm)?;
        value.set_sensitive(true);
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|_| address())?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|e| CertError::BadAnswer { server: server.clone(), why: e.to_string() })?;
        Ok(Answer { status, body: body.to_bytes().to_vec() })
    };
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => match ended {
            // The answer may be complete although the connection has ended.
            Ok(()) => talk.await,
            Err(e) => Err(broken(e)),
        },
    }
}

fn broken_off(server: &str, host: &str, settings: &CertSettings, e: hyper::Error) -> CertError {
    use std::error::Error;
    let cause = e.source().and_then(|e| e.downcast_ref::<std::io::Error>());
    let io = match cause {
        Some(io) => match io.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            // TLS 1.3 tells a client only now that its certificate is not liked.
            Some(tls) => std::io::Error::other(tls.clone()),
            None => std::io::Error::new(io.kind(), io.to_string()),
        },
        None => std::io::Error::other(e.to_string()),
    };
    if io.get_ref().is_some_and(|e| e.is::<rustls::Error>()) {
        return link::tls_error(server, host, &settings.ca_file, io).into();
    }
    let source = Box::new(tungstenite::Error::Io(io));
    LinkError::BrokenOff { server: server.to_owned(), source }.into()
}

//! Port 10002: where a machine becomes an edge node.
//!
//! | request | who may | answer |
//! |---|---|---|
//! | `GET /ca.crt` | anybody | the CA certificate in DER |
//! | `GET /edge.crt`, body: CSR in DER | a token, or the node's own certificate | the certificate in DER |
//! | `GET /node/{name}` | anybody, a few times a minute | 200 if the name is taken, 404 if it is free |
//! | `GET /status/v1`, as a WebSocket | whoever may read nodes, pods and devices | the status stream |
//! | `POST` anything | a token or a certificate | 501: reports on node jobs of `v1alpha1` are not taken here |
//!
//! `GET /node/{name}` tells a stranger whether a name is taken, because the original's
//! `keadm join` asks without showing anything. It tells nothing else, and slowly.
//!
//! A name that an edge node bears already is given away only to that node: a new machine that is to
//! take its place joins after `kubectl delete node`.
//!
//! Owns: who may ask; limits of rate, size and time.
//! Called by: `app.rs`.
//! Never: logs a token; reads a body before it has judged the headers; trusts a name in a header.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::names::NodeName;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use service::{CancellationToken, tls};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::certs::Usages;
use super::listener::{Caps, Seat};
use super::secrets::{self, NodeState, Pki};
use super::throttle::{Rate, Throttle};
use super::tokens::{self, TokenError};
use crate::metrics::Metrics;
use crate::status::actions::Means;
use crate::status::{PATH as STATUS_PATH, Status, remote};
use crate::synccontroller::records::Records;

/// Connections on this port.
pub const CAPS: Caps = Caps { total: 512, per_address: 128, handshake: Duration::from_secs(10) };
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// From the end of the headers to the end of the answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Of one connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(120);
const CSR_LIMIT: usize = 1 << 20;
/// Requests for certificates. A whole site may join from behind one address.
const ASK: Rate = Rate { burst: 200.0, per_second: 10.0 };
/// Requests that showed a bad token or certificate.
const FAIL: Rate = Rate { burst: 20.0, per_second: 0.2 };
/// Questions after a name.
const LOOK: Rate = Rate { burst: 200.0, per_second: 2.0 };
const ADDRESSES: usize = 4096;

/// What all connections share.
pub struct Shared {
    /// Signs.
    pub pki: Arc<Pki>,
    /// The CA as what client certificates are checked against.
    pub roots: Arc<RootCertStore>,
    /// Days that a node's certificate is valid.
    pub days: i32,
    /// Where nodes and tokens are looked up, and what readers of the status stream ask for is done.
    pub means: Means,
    /// What nodes are recorded to hold: nothing, once they join anew.
    pub records: Arc<Mutex<Records>>,
    /// Refusals are counted.
    pub metrics: Metrics,
    /// cloudcore stops.
    pub stopping: CancellationToken,
    /// Limits by address.
    pub limits: Mutex<Limits>,
    /// What the status stream shows.
    pub status: Arc<Status>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bootstrap::Shared")
    }
}

/// Who has asked how often.
#[derive(Debug)]
pub struct Limits {
    ask: Throttle<IpAddr>,
    fail: Throttle<IpAddr>,
    look: Throttle<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ask: Throttle::new(ASK, ADDRESSES),
            fail: Throttle::new(FAIL, ADDRESSES),
            look: Throttle::new(LOOK, ADDRESSES),
        }
    }
}

/// A refusal: its status, its text for the person who joins, its label for the metric.
#[derive(Debug)]
struct Refusal(StatusCode, String, &'static str);

type Answer = Result<Response<Full<Bytes>>, Refusal>;

/// How somebody has shown who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    /// A machine that may join under any free name.
    Token,
    /// The node of that name.
    Certificate,
}

/// One connection after its TLS handshake.
pub async fn serve(
    socket: TlsStream<TcpStream>,
    peer: SocketAddr,
    seat: Seat,
    shared: Arc<Shared>,
) {
    let chain: Arc<[CertificateDer<'static>]> =
        socket.get_ref().1.peer_certificates().unwrap_or_default().to_vec().into();
    let stopping = shared.stopping.clone();
    // A stream of this connection, which begins when HTTP has let go of it.
    let stream = Arc::new(Mutex::new(None));
    let (all, opened) = (Arc::clone(&shared), Arc::clone(&stream));
    let handler = service_fn(move |request| {
        let (shared, chain) = (Arc::clone(&all), Arc::clone(&chain));
        let opened = Arc::clone(&opened);
        async move {
            let answer = async {
                if request.uri().path() != STATUS_PATH {
                    return route(request, peer.ip(), &chain, &shared).await;
                }
                let (answer, stream) = status(request, peer.ip(), &chain, &shared).await?;
                *opened.lock() = Some(stream);
                Ok(answer)
            };
            let answer = timeout(REQUEST_LIMIT, answer).await;
            let late = || {
                let text = format!("no answer within {} s", REQUEST_LIMIT.as_secs());
                Err(Refusal(StatusCode::GATEWAY_TIMEOUT, text, "timeout"))
            };
            Ok::<_, Infallible>(match answer.unwrap_or_else(|_| late()) {
                Ok(response) => response,
                Err(Refusal(status, text, label)) => {
                    shared.metrics.refused(label);
                    warn!(%peer, %status, why = %text.escape_debug(), "a bootstrap request is refused");
                    say(status, text)
                }
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(socket), handler)
        .with_upgrades();
    tokio::select! {
        // A client that goes away or breaks HTTP has nobody left to tell.
        _ = timeout(CONNECTION_LIMIT, connection) => {}
        () = stopping.cancelled() => {}
    }
    let begun = stream.lock().take();
    if let Some(stream) = begun {
        stream.run(Arc::clone(&shared.status), shared.means.clone(), stopping).await;
    }
    drop(seat);
}

/// A reader of the status stream. Whoever fails to show who it is, is throttled as others are.
async fn status(
    mut request: Request<Incoming>,
    peer: IpAddr,
    chain: &[CertificateDer<'_>],
    shared: &Shared,
) -> Result<(Response<Full<Bytes>>, remote::Stream), Refusal> {
    within(&mut shared.limits.lock().ask, peer)?;
    let peer = peer.to_canonical();
    if !shared.limits.lock().fail.allows(&peer, Instant::now()) {
        let text = "too many failed attempts from this address; try again in a minute".to_owned();
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, text, "rate"));
    }
    remote::open(&mut request, chain, &shared.means.api).await.map_err(|(status, text)| {
        if status == StatusCode::UNAUTHORIZED {
            shared.limits.lock().fail.take(&peer, Instant::now());
        }
        Refusal(status, text, "status_stream")
    })
}

fn say(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

async fn route(
    request: Request<Incoming>,
    peer: IpAddr,
    chain: &[CertificateDer<'_>],
    shared: &Shared,
) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    match (&parts.method, path) {
        (&Method::GET, "/ca.crt") => Ok(say(StatusCode::OK, shared.pki.ca.certificate().to_vec())),
        (&Method::GET, "/edge.crt") => {
            within(&mut shared.limits.lock().ask, peer)?;
            certificate(&parts.headers, body, peer, chain, shared).await
        }
        (&Method::GET, _) if path.starts_with("/node/") => {
            within(&mut shared.limits.lock().look, peer)?;
            node(&path["/node/".len()..], shared).await
        }
        (&Method::POST, _) => {
            within(&mut shared.limits.lock().ask, peer)?;
            // Any of our nodes may report; which one is no matter, since nothing is done.
            let name = claimed_node(&parts.headers);
            authenticate(&parts.headers, name.as_ref().ok(), peer, chain, shared).await?;
            let text =
                "node jobs of the version `v1alpha1` are not served by this cloudcore".to_owned();
            Err(Refusal(StatusCode::NOT_IMPLEMENTED, text, "not_implemented"))
        }
        _ => Err(Refusal(StatusCode::NOT_FOUND, "404 page not found".to_owned(), "not_found")),
    }
}

fn within(throttle: &mut Throttle<IpAddr>, peer: IpAddr) -> Result<(), Refusal> {
    if throttle.take(&peer.to_canonical(), Instant::now()) {
        return Ok(());
    }
    let text = "too many requests from this address; try again in a minute".to_owned();
    Err(Refusal(StatusCode::TOO_MANY_REQUESTS, text, "rate"))
}

fn claimed_node(headers: &HeaderMap) -> Result<NodeName, Refusal> {
    let bad = |why: &str| {
        Refusal(StatusCode::BAD_REQUEST, format!("the header `NodeName` {why}"), "bad_request")
    };
    let name = headers.get("nodename").ok_or_else(|| bad("is missing"))?;
    let name = name.to_str().map_err(|_| bad("is no text"))?;
    name.parse().map_err(|e: api::names::NameError| bad(&format!("is wrong: {e}")))
}

/// A client certificate if one is shown, else a token.
async fn authenticate(
    headers: &HeaderMap,
    node: Option<&NodeName>,
    peer: IpAddr,
    chain: &[CertificateDer<'_>],
    shared: &Shared,
) -> Result<Credential, Refusal> {
    let peer = peer.to_canonical();
    if !shared.limits.lock().fail.allows(&peer, Instant::now()) {
        let text = "too many failed attempts from this address; try again in a minute".to_owned();
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, text, "rate"));
    }
    let outcome = if chain.is_empty() {
        by_token(headers, shared).await
    } else {
        by_certificate(chain, node, shared)
    };
    if matches!(outcome, Err(Refusal(StatusCode::UNAUTHORIZED, ..))) {
        shared.limits.lock().fail.take(&peer, Instant::now());
    }
    outcome
}

fn by_certificate(
    chain: &[CertificateDer<'_>],
    node: Option<&NodeName>,
    shared: &Shared,
) -> Result<Credential, Refusal> {
    let refuse = |text: String| Refusal(StatusCode::UNAUTHORIZED, text, "certificate");
    tls::verify_client(chain, Arc::clone(&shared.roots), UnixTime::now()).map_err(|e| {
        refuse(format!("the client certificate is not valid: {}", service::error_chain(&e)))
    })?;
    let subject = tls::peer_subject(Some(chain)).ok().flatten().unwrap_or_default();
    let wanted = node.map(api::wire::handshake::common_name);
    let own = match &wanted {
        Some(wanted) => subject.common_name == *wanted,
        None => subject.common_name.starts_with(api::wire::handshake::COMMON_NAME_PREFIX),
    };
    if own && subject.organizations.iter().any(|o| o == "system:nodes") {
        return Ok(Credential::Certificate);
    }
    let found: String = subject.common_name.chars().take(64).collect();
    let wanted = wanted.unwrap_or_else(|| "a node".to_owned());
    Err(refuse(format!("the client certificate is for `{found}`, not for `{wanted}`")))
}

async fn by_token(headers: &HeaderMap, shared: &Shared) -> Result<Credential, Refusal> {
    let refuse = |e: TokenError| Refusal(StatusCode::UNAUTHORIZED, e.to_string(), "token");
    let value = headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap_or("?"));
    let jwt = tokens::bearer(value).map_err(refuse)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let token = tokens::check(jwt, shared.pki.ca.token_key(), now).map_err(refuse)?;
    match secrets::is_revoked(&shared.means.api, &token.id).await {
        Ok(false) => Ok(Credential::Token),
        Ok(true) => Err(refuse(TokenError::Revoked(token.id))),
        Err(e) => Err(unavailable(&e)),
    }
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let text =
        format!("cloudcore cannot ask its API server, try again: {}", service::error_chain(error));
    Refusal(StatusCode::SERVICE_UNAVAILABLE, text, "api_server")
}

async fn certificate(
    headers: &HeaderMap,
    body: Incoming,
    peer: IpAddr,
    chain: &[CertificateDer<'_>],
    shared: &Shared,
) -> Answer {
    let node = claimed_node(headers)?;
    let credential = authenticate(headers, Some(&node), peer, chain, shared).await?;
    let usages = usages(headers)?;
    let csr = Limited::new(body, CSR_LIMIT).collect().await.map_err(|_| {
        let text = format!("the body is cut short or larger than {CSR_LIMIT} bytes");
        Refusal(StatusCode::PAYLOAD_TOO_LARGE, text, "too_large")
    })?;
    let csr = csr.to_bytes();
    if credential == Credential::Token {
        match secrets::node_state(&shared.means.api, &node).await {
            Ok(NodeState::Unknown | NodeState::Exists) => {}
            Ok(NodeState::Joined) => {
                let text = format!(
                    "the node name `{node}` is taken by an edge node that has joined; choose another \
                     name, or if this machine is to take its place run `kubectl delete node {node}` first"
                );
                return Err(Refusal(StatusCode::CONFLICT, text, "name_taken"));
            }
            Err(e) => return Err(unavailable(&e)),
        }
    }
    let pki = &shared.pki;
    let signed = pki
        .ca
        .issue_edge(&csr, &node, usages, shared.days, &pki.names)
        .map_err(|e| Refusal(StatusCode::BAD_REQUEST, e.to_string(), "csr"))?;
    if credential == Credential::Token {
        // A machine that joins has an empty store, whoever bore its name before.
        shared.records.lock().reset(&node);
    }
    shared.metrics.issued();
    let by = if credential == Credential::Token { "token" } else { "certificate" };
    info!(%node, %peer, by, "a certificate is issued");
    Ok(say(StatusCode::OK, signed.to_vec()))
}

/// The header `ExtKeyUsages`: numbers as Go has them.
fn usages(headers: &HeaderMap) -> Result<Usages, Refusal> {
    let Some(value) = headers.get("extkeyusages") else {
        return Ok(Usages { client: true, server: false });
    };
    let bad = || {
        let text = "the header `ExtKeyUsages` must be a JSON list of 1 (server) and 2 (client)";
        Refusal(StatusCode::BAD_REQUEST, text.to_owned(), "bad_request")
    };
    let numbers: Vec<u8> = serde_json::from_slice(value.as_bytes()).map_err(|_| bad())?;
    let mut usages = Usages::default();
    for number in &numbers {
        match number {
            1 => usages.server = true,
            2 => usages.client = true,
            _ => return Err(bad()),
        }
    }
    // Go's `null` and `[]` mean the default, too.
    usages.client |= numbers.is_empty();
    Ok(usages)
}

async fn node(name: &str, shared: &Shared) -> Answer {
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text, "bad_request");
    let node: NodeName = name.parse().map_err(|e: api::names::NameError| bad(e.to_string()))?;
    match secrets::node_state(&shared.means.api, &node).await {
        Ok(NodeState::Unknown) => Ok(say(StatusCode::NOT_FOUND, "Node not found")),
        Ok(_) => Ok(say(StatusCode::OK, "Node found")),
        Err(e) => {
            tracing::warn!(error = %e, "a node cannot be looked up");
            let text = "Failed to query node information".to_owned();
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, text, "api_server"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([("extkeyusages".parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn key_usages_are_gos_numbers_and_default_to_client() {
        let read = |value: &str| usages(&header(value)).ok();
        assert_eq!(usages(&HeaderMap::new()).unwrap(), Usages { client: true, server: false });
        assert_eq!(read("[2]"), Some(Usages { client: true, server: false }));
        assert_eq!(read("[1,2]"), Some(Usages { client: true, server: true }));
        assert_eq!(read("[]"), Some(Usages { client: true, server: false }));
        assert_eq!(read("[3]"), None);
        assert_eq!(read("junk"), None);
    }
}

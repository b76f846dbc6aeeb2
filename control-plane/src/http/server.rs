//! Connections.
//!
//! Owns: the TLS settings, the accept loop, draining. Called by: `lib.rs`.
//! Never: reads a body; the verbs do, within their limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::{User, user_of_certificate};
use super::router;
use super::stalled::Stalled;
use crate::bootstrap::{Authority, Identity};
use crate::plane::Plane;

/// Connections at the same time; more wait in the listener's queue.
const CONNECTIONS: usize = 8192;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(20);
/// How long requests may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
const STREAMS: u32 = 1000;

/// The TLS settings: our certificate; client certificates of our CA, for those who have one.
///
/// # Errors
/// When the key does not fit.
pub(crate) fn tls(
    ca: &Authority,
    identity: Identity,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    if let Some(der) = ca.der() {
        roots.add(der)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts connections until the service stops.
pub(crate) async fn serve(
    plane: Arc<Plane>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
) -> Result<(), service::BoxError> {
    let acceptor = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let tracker = TaskTracker::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit?,
            () = plane.stopping.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of file descriptors, most likely: others must end before one can begin.
                    tracing::warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = plane.stopping.cancelled() => break,
        };
        let (plane, acceptor) = (Arc::clone(&plane), acceptor.clone());
        tracker.spawn(async move {
            connection(plane, acceptor, stream).await;
            drop(permit);
        });
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::debug!(left = tracker.len(), "connections cut at shutdown");
    }
    plane.store.close().await;
    Ok(())
}

async fn connection(plane: Arc<Plane>, acceptor: TlsAcceptor, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let limits = plane.limits;
    let stream = match tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(s)) => s,
        Ok(Err(e)) => return tracing::debug!("TLS handshake failed: {e}"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let peer = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|c| c.first())
        .and_then(|c| user_of_certificate(c));
    let peer: Option<Arc<User>> = peer.map(Arc::new);
    let stopping = plane.stopping.clone();
    let begun = CancellationToken::new();
    let first = begun.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        first.cancel();
        let (plane, peer) = (Arc::clone(&plane), peer.clone());
        async move { Ok::<_, Infallible>(router::handle(plane, peer, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .max_concurrent_streams(STREAMS);
    let stream = Stalled::new(stream, limits.answer);
    let conn = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(conn);
    // Until the first request it is not known which protocol is spoken, and its time limits do not hold.
    let silent = async {
        if tokio::time::timeout(limits.head, begun.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = conn.as_mut() => ended,
        () = silent => return tracing::debug!("no request came in time"),
        () = stopping.cancelled() => {
            conn.as_mut().graceful_shutdown();
            conn.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!("connection ended: {e}");
    }
}

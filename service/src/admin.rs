//! The admin port: `/healthz`, `/readyz`, `/metrics`, `/log-level`.
//!
//! Owns: the listener, and the table of metrics.
//! Called by: `app.rs` of each program.
//! Never: changes anything but the log filter, and that only for a client on this machine.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::readiness::Readiness;
use crate::supervise::{Policy, Service};
use crate::telemetry::LogLevel;

/// Connections served at one time; further ones wait in the listener's backlog.
const CONNECTIONS: usize = 32;
/// From accept to close. Scrapers come back with a new connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
const HEADER_LIMIT: Duration = Duration::from_secs(5);
const BODY_LIMIT: usize = 1024;

/// The metrics of a service. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Adds metrics: `metrics.register(|r| r.register("name", "What it counts", counter.clone()))`.
    ///
    /// Counters are named without `_total`; the encoding adds it.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.lock());
    }

    /// The OpenMetrics text of all of them.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String fails only if a metric's own encoder does; then the scrape says so by
        // lacking the closing `# EOF`.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.lock());
        text
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// The admin port, bound and not yet served.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    level: Option<LogLevel>,
}

/// The admin port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the admin address `{address}`")]
pub struct AdminError {
    /// The address.
    pub address: SocketAddr,
    /// The cause.
    #[source]
    pub source: std::io::Error,
}

impl Admin {
    /// Opens the port. `level` is what `/log-level` reads and changes; without it that path is 404.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(address: SocketAddr, level: Option<LogLevel>) -> Result<Self, AdminError> {
        let listener =
            TcpListener::bind(address).await.map_err(|source| AdminError { address, source })?;
        Ok(Self { listener, level })
    }

    /// Where it listens; useful after binding port 0.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the service stops.
    pub fn spawn(self, svc: &mut Service) {
        let stopping = svc.stopping();
        let shared = Arc::new(Shared {
            readiness: svc.readiness().clone(),
            metrics: svc.metrics().clone(),
            level: self.level,
            stopping: stopping.clone(),
        });
        let listener = self.listener;
        svc.spawn("admin", Policy::LetGo, async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = accept(listener, shared) => {}
            }
            Ok(())
        });
    }
}

struct Shared {
    readiness: Readiness,
    metrics: Metrics,
    level: Option<LogLevel>,
    stopping: tokio_util::sync::CancellationToken,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _slot = slot;
                    let connection = serve(stream, peer, shared);
                    // Too slow: closed without a word; a scraper reports its own time-out.
                    let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection on the admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let handler = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, peer, &shared).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
    if let Err(e) = served {
        tracing::debug!(%peer, error = %e, "admin connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    on: &Shared,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let read = parts.method == Method::GET || parts.method == Method::HEAD;
    match (parts.uri.path(), read) {
        ("/healthz" | "/livez", true) => text(StatusCode::OK, "ok\n"),
        ("/readyz", true) => readyz(on),
        ("/metrics", true) => {
            let mut response = text(StatusCode::OK, on.metrics.encode());
            response.headers_mut().insert(header::CONTENT_TYPE, OPEN_METRICS);
            response
        }
        ("/log-level", _) => match &on.level {
            None => text(StatusCode::NOT_FOUND, "the log level of this process is fixed\n"),
            Some(_) if !peer.ip().to_canonical().is_loopback() => {
                text(StatusCode::FORBIDDEN, "only from this machine\n")
            }
            Some(level) if read => text(StatusCode::OK, level.get() + "\n"),
            Some(level) if parts.method == Method::PUT => set_level(level, body).await,
            Some(_) => text(StatusCode::METHOD_NOT_ALLOWED, "GET or PUT\n"),
        },
        ("/healthz" | "/livez" | "/readyz" | "/metrics", false) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "GET\n")
        }
        _ => text(StatusCode::NOT_FOUND, "/healthz /readyz /metrics /log-level\n"),
    }
}

const OPEN_METRICS: http::HeaderValue =
    http::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

fn readyz(on: &Shared) -> Response<Full<Bytes>> {
    if on.stopping.is_cancelled() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let waiting = on.readiness.waiting_for();
    if waiting.is_empty() {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", waiting.join(", ")))
    }
}

async fn set_level(level: &LogLevel, body: Incoming) -> Response<Full<Bytes>> {
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "a log filter has at most 1024 bytes\n");
    };
    let filter = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    match level.set(&filter) {
        Ok(()) => {
            tracing::info!(filter = level.get(), "log filter changed");
            text(StatusCode::OK, level.get() + "\n")
        }
        Err(e) => text(StatusCode::BAD_REQUEST, format!("{e}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(at: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(at: SocketAddr, path: &str) -> String {
        ask(at, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    async fn served() -> (Service, SocketAddr) {
        let mut svc = Service::new("test");
        let admin = Admin::bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
        let at = admin.local_addr().unwrap();
        admin.spawn(&mut svc);
        (svc, at)
    }

    #[tokio::test]
    async fn readyz_names_the_parts_that_are_not_up() {
        let (svc, at) = served().await;
        let part = svc.readiness().part("edgehub");
        let answer = get(at, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("not ready: edgehub\n"), "{answer}");
        drop(part);
        assert!(get(at, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(at, "/healthz").await.ends_with("ok\n"));
        assert!(get(at, "/secrets").await.starts_with("HTTP/1.1 404"));
        assert!(get(at, "/log-level").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (svc, at) = served().await;
        let drops = prometheus_client::metrics::counter::Counter::<u64>::default();
        svc.metrics().register(|r| r.register("drops", "Messages dropped", drops.clone()));
        drops.inc_by(3);
        let answer = get(at, "/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
        assert!(answer.contains("\ndrops_total 3\n"), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn the_log_level_is_changed_by_put_and_a_bad_one_is_refused() {
        let level = crate::telemetry::install(&crate::telemetry::Options::default()).unwrap();
        let mut svc = Service::new("test");
        let admin = Admin::bind(([127, 0, 0, 1], 0).into(), Some(level.clone())).await.unwrap();
        let at = admin.local_addr().unwrap();
        admin.spawn(&mut svc);
        let put = |body: &str| {
            format!(
                "PUT /log-level HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: \
                 {}\r\n\r\n{body}",
                body.len()
            )
        };
        assert!(ask(at, &put("debug")).await.ends_with("debug\n"));
        assert_eq!(level.get(), "debug");
        assert!(ask(at, &put("a=loud")).await.starts_with("HTTP/1.1 400"));
        assert!(ask(at, &put(&"x".repeat(2000))).await.starts_with("HTTP/1.1 413"));
        assert_eq!(level.get(), "debug");
    }

    #[tokio::test]
    async fn endless_headers_are_cut_off() {
        let (_svc, at) = served().await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        // The server may answer and close before all is written.
        let _ = stream
            .write_all(format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(1 << 20)).as_bytes())
            .await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    }
}

//! The kubelet's local API: health, pods, logs, statistics, exec, attach and port-forward.
//!
//! Who asks through a [`LocalApi`] is part of this program, which knows on whose behalf it asks.
//! Who asks through the port on loopback may be anybody on this machine, a container on its network
//! too: they may read, and run commands or reach into pods only with the token that lies, readable for
//! root alone, in the kubelet's folder.
//!
//! Owns: the listener on the loopback address, that token.
//! Called by: spawned by `edged/mod.rs`; edgestream asks through [`LocalApi`].
//! Never: listens elsewhere.

mod channels;
mod exec;
mod local;
mod portforward;
mod restart;
mod spdy;
mod stats;
mod unhold;
mod upgrade;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::held::Held;
use super::logread::{self, LogOptions};
use super::pods::Directory;
use super::runtime::{ContainerState, SeenContainer};
use super::worker::Shared;
use super::{logs, podspec};
pub(crate) use local::Publish;
pub use local::{LocalApi, NotReady};

/// Connections at once; the next waits.
const CONNECTIONS: usize = 64;

/// For the log of a container that has just been made.
const LOG_COMES: Duration = Duration::from_secs(3);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What is answered from.
#[derive(Clone)]
pub(crate) struct Api {
    shared: Arc<Shared>,
    directory: Directory,
    held: Held,
    node: Arc<str>,
    /// With it, a caller on loopback may run commands.
    token: Option<Arc<str>>,
    /// Connections to pods' ports that there may still be.
    forwards: Arc<Semaphore>,
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Everything: this program has looked at who it is.
    Trusted,
    /// Read; more with the token.
    Anybody,
}

/// Why a request is refused.
struct Refusal(StatusCode, String);

fn refuse<T>(code: StatusCode, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(code, why.into()))
}

/// Serves until the service stops. An address that is in use is said and tried again: the pods
/// matter more.
pub(crate) async fn run(
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    (directory, held): (Directory, Held),
    node: String,
    publish: Publish,
) {
    let token = local::token(&shared.site.root);
    let forwards = Arc::new(Semaphore::new(portforward::CONNECTIONS));
    let node = node.into();
    let api = Api { shared: shared.clone(), directory, held, node, token, forwards };
    publish.ready(api.clone());
    let Some(address) = address else { return shared.stopping.cancelled().await };
    if !address.ip().is_loopback() {
        tracing::error!(%address, "the local API is served on a loopback address only; it is off");
        return shared.stopping.cancelled().await;
    }
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(e) => {
                tracing::error!(%address, error = %e, "cannot listen for the local API; trying again")
            }
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
    };
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            () = shared.stopping.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::debug!(error = %e, "cannot accept a connection");
                    continue;
                }
            },
        };
        let api = api.clone();
        tokio::spawn(async move {
            let _slot = slot;
            api.serve(stream, Caller::Anybody).await;
        });
    }
}

impl Api {
    /// One connection, until its end or edged's.
    async fn serve<S>(self, stream: S, caller: Caller)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stopping = self.shared.stopping.clone();
        let service = hyper::service::service_fn(move |request| {
            let api = self.clone();
            async move { Ok::<_, Infallible>(api.answer(request, caller).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::select! {
            () = stopping.cancelled() => {}
            // A client that leaves early is no news.
            _ = connection => {}
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, caller: Caller) -> Response<Body> {
        let answer = self.route(&mut request, caller).await;
        let mut response = answer.unwrap_or_else(|Refusal(code, why)| {
            let mut response = text(format!("{why}\n"));
            *response.status_mut() = code;
            response
        });
        if caller == Caller::Trusted && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Whoever relays an answer knows its end by that of the connection.
            let close = http::HeaderValue::from_static("close");
            response.headers_mut().insert(http::header::CONNECTION, close);
        }
        response
    }

    async fn route(
        &self,
        request: &mut Request<Incoming>,
        caller: Caller,
    ) -> Result<Response<Body>, Refusal> {
        let path: Vec<String> = request
            .uri()
            .path()
            .trim_matches('/')
            .split('/')
            .map(logread::percent_decoded)
            .collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let query = request.uri().query().unwrap_or_default();
        if matches!(path.first(), Some(&"exec" | &"attach" | &"portForward" | &"run")) {
            self.may_run_commands(request.headers(), caller)?;
            let path: Vec<String> = path.iter().map(|p| (*p).to_owned()).collect();
            let query = query.to_owned();
            if path.first().is_some_and(|verb| verb == "portForward") {
                return self.port_forward(request, &path, &query).await;
            }
            return self.streams(request, &path, &query).await;
        }
        if path.first() == Some(&"restart") {
            self.may_run_commands(request.headers(), caller)?;
            let path: Vec<String> = path.iter().map(|p| (*p).to_owned()).collect();
            return self.restart(request.method(), &path, query).await;
        }
        if let ["api", "v1", _, what @ ("confirm-upgrade" | "fetch")] = path.as_slice() {
            self.may_run_commands(request.headers(), caller)?;
            return self.upgrade(request.method(), what, query).await;
        }
        if let ["api", "v1", what @ ("pods" | "nodes"), "unhold-upgrade"] = path.as_slice() {
            self.may_run_commands(request.headers(), caller)?;
            let (what, query) = ((*what).to_owned(), query.to_owned());
            return self.unhold(request, &what, &query).await;
        }
        if request.method() != Method::GET {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here");
        }
        match path.as_slice() {
            ["healthz"] | ["healthz", "ping" | "syncloop" | "log"] => Ok(text("ok".to_owned())),
            ["pods"] => Ok(self.pods()),
            ["containerLogs", namespace, pod, container] => {
                self.logs(namespace, pod, container, query).await
            }
            ["stats", "summary"] => self.summary().await,
            ["metrics", "resource"] => self.resource_metrics().await,
            _ => refuse(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    fn may_run_commands(&self, headers: &HeaderMap, caller: Caller) -> Result<(), Refusal> {
        if caller == Caller::Trusted || local::holds(self.token.as_deref(), headers) {
            return Ok(());
        }
        let why = format!(
            "commands are run only for who shows the token in `{}`, as `Authorization: Bearer ..`",
            local::token_path(&self.shared.site.root).display()
        );
        refuse(StatusCode::UNAUTHORIZED, why)
    }

    fn pods(&self) -> Response<Body> {
        let pods = self.directory.all();
        let items: Vec<&k8s_openapi::api::core::v1::Pod> = pods.iter().map(|p| &**p).collect();
        json_body(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        let options = LogOptions::parse(query, Timestamp::now())
            .or_else(|why| refuse(StatusCode::BAD_REQUEST, why))?;
        let Some(found) = self.directory.find(namespace, pod) else {
            return refuse(StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not exist"));
        };
        if podspec::container(&found, container).is_none() {
            let why = format!("container {container} not found in pod {pod}");
            return refuse(StatusCode::NOT_FOUND, why);
        }
        let listing = self.shared.runtime.list(Some(podspec::uid(&found))).await;
        let listing =
            listing.or_else(|e| refuse(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
        let mut all: Vec<SeenContainer> =
            listing.containers.into_iter().filter(|c| c.name == container).collect();
        all.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
        let nth = usize::from(options.previous);
        let Some(c) = all.into_iter().nth(nth) else {
            if !options.previous {
                return waits(pod, container);
            }
            let why =
                format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
            return refuse(StatusCode::BAD_REQUEST, why);
        };
        let Some(path) = logs::path_of(&self.shared.site.logs, &c) else {
            return refuse(StatusCode::NOT_FOUND, "the container has no log");
        };
        let begins = matches!(c.state, ContainerState::Created | ContainerState::Running);
        let limit = if begins { LOG_COMES } else { Duration::ZERO };
        if !logread::comes(&path, limit).await {
            if c.state == ContainerState::Created {
                return waits(pod, container);
            }
            return refuse(StatusCode::NOT_FOUND, "the container's log is not there any more");
        }
        // Full: the log is read only as fast as the client takes it.
        let (to, pieces) = mpsc::channel(16);
        let (runtime, id) = (self.shared.runtime.clone(), c.id);
        tokio::spawn(async move {
            let running = move || {
                let (runtime, id) = (runtime.clone(), id.clone());
                async move {
                    let status = runtime.container_status(&id).await;
                    let lives = [ContainerState::Created, ContainerState::Running];
                    status.is_ok_and(|s| lives.contains(&s.state))
                }
            };
            if let Err(e) = logread::stream(path, options, to, running).await {
                tracing::debug!(error = %e, "a log could not be read to its end");
            }
        });
        let frames = futures::stream::unfold(pieces, |mut pieces| async {
            let piece: Bytes = pieces.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(piece)), pieces))
        });
        Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(frames.fuse()))))
    }
}

fn waits<T>(pod: &str, container: &str) -> Result<T, Refusal> {
    let why = format!(
        "container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating"
    );
    refuse(StatusCode::BAD_REQUEST, why)
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn json_body(value: &Value) -> Response<Body> {
    let mut response = text(value.to_string());
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

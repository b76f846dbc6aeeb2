//! The kubelet's local API: health, pods, logs, statistics.
//!
//! Owns: the listener on the loopback address. Called by: spawned by `mod.rs`.
//! Never: listens elsewhere: it asks nobody who they are. Exec and attach are not served here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::clock::time;
use super::logread::{self, LogOptions};
use super::pods::Directory;
use super::runtime::{ContainerState, ContainerStats, SeenContainer, label};
use super::worker::Shared;
use super::{logs, podspec};

/// Connections at once; the next waits.
const CONNECTIONS: usize = 64;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What is answered from.
#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
    directory: Directory,
    node: Arc<str>,
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
    directory: Directory,
    node: String,
) {
    let Some(address) = address else { return };
    if !address.ip().is_loopback() {
        tracing::error!(%address, "the local API is served on a loopback address only; it is off");
        return;
    }
    let api = Api { shared: shared.clone(), directory, node: node.into() };
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
        let (api, stopping) = (api.clone(), shared.stopping.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let service = hyper::service::service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stopping.cancelled() => {}
                // A client that leaves early is no news.
                _ = connection => {}
            }
        });
    }
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answer = self.route(&request).await;
        answer.unwrap_or_else(|Refusal(code, why)| {
            let mut response = text(format!("{why}\n"));
            *response.status_mut() = code;
            response
        })
    }

    async fn route(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refusal> {
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
            let why = format!("`{}` is not served by this port", path[0]);
            return refuse(StatusCode::NOT_IMPLEMENTED, why);
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
            let why = match options.previous {
                true => format!(
                    "previous terminated container \"{container}\" in pod \"{pod}\" not found"
                ),
                false => format!(
                    "container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating"
                ),
            };
            return refuse(StatusCode::BAD_REQUEST, why);
        };
        let Some(path) = logs::path_of(&self.shared.site.logs, &c) else {
            return refuse(StatusCode::NOT_FOUND, "the container has no log");
        };
        if !path.exists() {
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
                    status.is_ok_and(|s| s.state == ContainerState::Running)
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

    async fn stats(&self) -> Result<Vec<ContainerStats>, Refusal> {
        let stats = self.shared.runtime.stats(None).await;
        stats.or_else(|e| refuse(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))
    }

    async fn summary(&self) -> Result<Response<Body>, Refusal> {
        let stats = self.stats().await?;
        let mut pods: Vec<Value> = Vec::new();
        for pod in self.directory.all() {
            let uid = podspec::uid(&pod);
            let containers: Vec<Value> = stats
                .iter()
                .filter(|s| s.labels.get(label::POD_UID).is_some_and(|u| u == uid))
                .map(container_summary)
                .collect();
            if !containers.is_empty() {
                pods.push(json!({
                    "podRef": {"name": podspec::name(&pod), "namespace": podspec::namespace(&pod), "uid": uid},
                    "containers": containers
                }));
            }
        }
        Ok(json_body(&json!({"node": {"nodeName": &*self.node}, "pods": pods})))
    }

    async fn resource_metrics(&self) -> Result<Response<Body>, Refusal> {
        let stats = self.stats().await?;
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, value: fn(&ContainerStats) -> String| {
            out.push_str(&format!("# TYPE {name} {kind}\n"));
            for s in &stats {
                let of = |key: &str| s.labels.get(key).map(String::as_str).unwrap_or_default();
                out.push_str(&format!(
                    "{name}{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}} {}\n",
                    s.name,
                    of(label::POD_NAMESPACE),
                    of(label::POD_NAME),
                    value(s)
                ));
            }
        };
        metric("container_cpu_usage_seconds_total", "counter", |s| {
            format!(
                "{}.{:09}",
                s.cpu_nanoseconds / 1_000_000_000,
                s.cpu_nanoseconds % 1_000_000_000
            )
        });
        metric("container_memory_working_set_bytes", "gauge", |s| s.memory_working_set.to_string());
        Ok(text(out))
    }
}

fn container_summary(s: &ContainerStats) -> Value {
    let at = time(s.at);
    json!({
        "name": s.name,
        "cpu": {"time": at, "usageCoreNanoSeconds": s.cpu_nanoseconds},
        "memory": {"time": at, "workingSetBytes": s.memory_working_set,
            "usageBytes": s.memory_usage, "rssBytes": s.memory_rss},
        "rootfs": {"time": at, "usedBytes": s.disk_used, "inodesUsed": s.inodes_used}
    })
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

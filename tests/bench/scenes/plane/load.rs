//! What clients do to a control plane: plain requests, so that the client's work is small.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::client::ms;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Where a control plane is, and what opens it.
pub(super) struct Access {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Access {
    /// Reads the administrator's file, if it is there and whole.
    pub(super) fn read(path: &Path, port: u16) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let data = |key: &str| {
            let line = text.lines().find_map(|l| l.trim().strip_prefix(key))?;
            base64::engine::general_purpose::STANDARD.decode(line.trim()).ok()
        };
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&data("certificate-authority-data:")?).ok()?)
            .ok()?;
        let chain = CertificateDer::from_pem_slice(&data("client-certificate-data:")?).ok()?;
        let key = PrivateKeyDer::from_pem_slice(&data("client-key-data:")?).ok()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![chain], key)
            .ok()?;
        Some(Self { address: SocketAddr::from(([127, 0, 0, 1], port)), tls: Arc::new(tls) })
    }

    async fn stream(
        &self,
        protocol: &[u8],
    ) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![protocol.to_vec()];
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        Ok(TokioIo::new(connector.connect(name, tcp).await?))
    }

    /// A connection for one request at a time.
    async fn connect(&self) -> std::io::Result<One> {
        let (sender, connection) = http1::handshake(self.stream(b"http/1.1").await?)
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(One(sender))
    }

    /// Whether it says that it is ready.
    pub(super) async fn is_ready(&self) -> bool {
        let Ok(mut c) = self.connect().await else { return false };
        let ready = c.send(Method::GET, "/readyz", "", String::new()).await;
        ready.is_ok_and(|r| r.status() == 200)
    }
}

fn request(method: Method, path: &str, kind: &str, body: String) -> Request<Full<Bytes>> {
    let kind = if kind.is_empty() { "application/json" } else { kind };
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("content-type", kind)
        .header("accept", "application/json")
        .header("host", "localhost")
        .header("user-agent", "bench")
        .body(Full::new(body.into()))
        .unwrap()
}

struct One(http1::SendRequest<Full<Bytes>>);

impl One {
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: String,
    ) -> hyper::Result<Response<Incoming>> {
        self.0.ready().await?;
        self.0.send_request(request(method, path, kind, body)).await
    }

    /// Sends a request that must succeed; returns how long the answer's body is.
    async fn ok(&mut self, method: Method, path: &str, kind: &str, body: String) -> usize {
        let answer = self.send(method, path, kind, body).await.unwrap();
        let status = answer.status();
        let mut body = answer.into_body();
        let (mut size, mut said) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap_or_default();
            size += data.len();
            if !status.is_success() {
                said.extend_from_slice(&data);
            }
        }
        assert!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&said));
        size
    }
}

fn map(name: &str, value: usize) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value.to_string()}})
        .to_string()
}

/// Milliseconds of each create.
pub(super) async fn creates_one_by_one(access: &Access, n: usize) -> Vec<f64> {
    let mut client = access.connect().await.unwrap();
    let mut times = Vec::new();
    for i in 0..n {
        let body = map(&format!("one-{i}"), i);
        let from = Instant::now();
        client.ok(Method::POST, MAPS, "", body).await;
        times.push(ms(from));
    }
    times
}

/// Runs `work` for each number on several connections.
async fn share<F>(access: &Access, clients: usize, n: usize, work: F)
where
    F: AsyncFn(&mut One, usize) + Copy + 'static,
{
    let local = tokio::task::LocalSet::new();
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(access.connect().await.unwrap());
    }
    for (c, mut client) in connections.into_iter().enumerate() {
        local.spawn_local(async move {
            for i in (c..n).step_by(clients) {
                work(&mut client, i).await;
            }
        });
    }
    local.await;
}

/// How many creates a second several clients get done.
pub(super) async fn creates_a_second(
    access: &Access,
    clients: usize,
    n: usize,
    round: usize,
) -> f64 {
    let from = Instant::now();
    share(access, clients, n, async move |client, i| {
        client.ok(Method::POST, MAPS, "", map(&format!("many-{round}-{i}"), i)).await;
    })
    .await;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = n as f64 / from.elapsed().as_secs_f64();
    rate
}

/// Milliseconds from each change of an object until all watchers have it.
pub(super) async fn last_of(access: &Access, watchers: usize, n: usize) -> Vec<f64> {
    const CONNECTIONS: usize = 10;
    let mut client = access.connect().await.unwrap();
    client.ok(Method::POST, MAPS, "", map("watched", 0)).await;
    let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dwatched&timeoutSeconds=600");
    let (seen, mut news) = mpsc::channel::<()>(watchers);
    for _ in 0..CONNECTIONS {
        let stream = access.stream(b"h2").await.unwrap();
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..watchers / CONNECTIONS {
            let (mut sender, seen) = (sender.clone(), seen.clone());
            let request = request(Method::GET, &path, "", String::new());
            tokio::spawn(async move {
                let mut body = sender.send_request(request).await.unwrap().into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let lines =
                        frame.data_ref().map_or(0, |d| d.iter().filter(|b| **b == b'\n').count());
                    for _ in 0..lines {
                        let _ = seen.send(()).await;
                    }
                }
            });
        }
    }
    let mut times = Vec::new();
    for i in 0..=n {
        // The first round is that of the initial event.
        let from = Instant::now();
        if i > 0 {
            client.ok(Method::PUT, &format!("{MAPS}/watched"), "", map("watched", i)).await;
        }
        for _ in 0..watchers {
            news.recv().await.unwrap();
        }
        if i > 0 {
            times.push(ms(from));
        }
    }
    times
}

/// Makes nodes, and pods on them with a status.
pub(super) async fn fill(access: &Access, nodes: usize, pods: usize) {
    share(access, 16, nodes, async |client, i| {
        client.ok(Method::POST, "/api/v1/nodes", "", node(i).to_string()).await;
    })
    .await;
    share(access, 16, pods, async move |client, i| {
        const PODS: &str = "/api/v1/namespaces/default/pods";
        client.ok(Method::POST, PODS, "", pod(i, i % nodes).to_string()).await;
        let path = format!("{PODS}/web-{i}/status");
        client
            .ok(Method::PATCH, &path, "application/merge-patch+json", status(i).to_string())
            .await;
    })
    .await;
}

/// Milliseconds of each list.
pub(super) async fn lists(access: &Access, pods: usize, n: usize) -> Vec<f64> {
    let mut client = access.connect().await.unwrap();
    let mut times = Vec::new();
    for _ in 0..n {
        let from = Instant::now();
        let size = client.ok(Method::GET, "/api/v1/pods", "", String::new()).await;
        times.push(ms(from));
        assert!(size > pods * 1000, "{size} bytes are too few");
    }
    times
}

fn node(i: usize) -> Value {
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let now = jiff::Timestamp::now().to_string();
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "KubeletHasSufficientMemory",
            "message": "kubelet has sufficient memory available", "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("edge-{i}"), "labels": {"kubernetes.io/hostname": format!("edge-{i}"),
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "node-role.kubernetes.io/edge": ""}},
        "status": {"allocatable": room, "capacity": room,
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": format!("edge-{i}")}],
            "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"), condition("DiskPressure", "False")],
            "nodeInfo": {"kubeletVersion": "v1.31.0", "osImage": "Debian GNU/Linux 12", "architecture": "amd64"}}})
}

fn pod(i: usize, node: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-{i}"), "labels": {"app": "web", "pod-template-hash": "5d69f9b8c7"}},
        "spec": {"nodeName": format!("edge-{node}"), "containers": [{"name": "main", "image": "nginx:1.27",
            "ports": [{"containerPort": 80}], "env": [{"name": "MODE", "value": "production"}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": 80}}}]}})
}

fn status(i: usize) -> Value {
    let now = jiff::Timestamp::now().to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({"status": {"phase": "Running", "hostIP": "10.0.0.1", "podIP": format!("10.1.{}.{}", i / 250, i % 250),
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0, "started": true, "image": "nginx:1.27",
            "imageID": "docker.io/library/nginx@sha256:0a399eb16751829e1af26fea27b20c3ec28d7ab1fb72182879dcae1cca21206a",
            "containerID": format!("containerd://{i:064}"), "state": {"running": {"startedAt": now}}, "lastState": {}}]}})
}

//! A cloud for one edge node, over real TLS sockets: cloudhub's side of the link and the certificate
//! service, with an API server that holds one Node and one Lease.

pub(crate) mod pki;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::config::ConfigFile;
use api::config::edgecore::EdgeCoreConfig;
use api::names::{Kind, MessageId, ObjectKey};
use api::raw::RawJson;
use api::wire::downstream::{
    Downstream, ObjectPush, PushOp, PushSource, Reply, ReplyBody, ReplyError,
};
use api::wire::json;
use api::wire::upstream::Request;
use api::wire::upstream::Upstream;
use edgecore::edged::runtime::fake::FakeRuntime;
use edgecore::{EdgeCore, Options};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use service::{Service, Stopped, tls};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Dial, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message as Frame, http};

use self::pki::Pki;

/// Nothing in these tests may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the cloud does and has seen.
#[derive(Default)]
pub(crate) struct State {
    /// Answer every dial with this.
    pub(crate) refuse: Option<(http::StatusCode, String)>,
    /// Close every link at once with this reason.
    pub(crate) close: Option<String>,
    /// Neither read nor write any more.
    pub(crate) deaf: bool,
    /// The Node in the API server.
    pub(crate) node: Option<serde_json::Value>,
    /// The Lease in the API server.
    pub(crate) lease: Option<serde_json::Value>,
    /// The pods in the API server, by name.
    pub(crate) pods: BTreeMap<String, serde_json::Value>,
    /// The configmaps in the API server, by name.
    pub(crate) config_maps: BTreeMap<String, serde_json::Value>,
    /// All that came up, oldest first.
    pub(crate) heard: Vec<Upstream>,
    /// Headers and path of each dial.
    pub(crate) dials: Vec<(String, BTreeMap<String, String>)>,
    /// Links opened so far.
    pub(crate) links: usize,
    push: Option<mpsc::UnboundedSender<Downstream>>,
}

impl State {
    pub(crate) fn count(&self, what: impl Fn(&Upstream) -> bool) -> usize {
        self.heard.iter().filter(|up| what(up)).count()
    }

    pub(crate) fn renewals(&self) -> usize {
        let lease =
            |r: &Request| matches!(r, Request::CreateLease { .. } | Request::UpdateLease { .. });
        self.count(|up| matches!(up, Upstream::Request(r) if lease(r)))
    }

    pub(crate) fn reports(&self) -> usize {
        self.count(|up| matches!(up, Upstream::Request(Request::PatchNode { .. })))
    }

    pub(crate) fn acks(&self) -> usize {
        self.count(|up| matches!(up, Upstream::Ack(_)))
    }
}

/// The cloud's end of one address.
pub(crate) struct Cloud {
    pub(crate) at: SocketAddr,
    pub(crate) pki: Arc<Pki>,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    links: Mutex<Vec<JoinHandle<()>>>,
    names: Vec<String>,
}

impl Cloud {
    /// Listens with a certificate for `names`.
    pub(crate) async fn start(pki: &Arc<Pki>, names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            links: Mutex::default(),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
        });
        let at = listener.local_addr().unwrap();
        let mut cloud = Self { at, pki: Arc::clone(pki), shared, accepting: None };
        cloud.accept(listener);
        cloud
    }

    fn accept(&mut self, listener: TcpListener) {
        let (shared, pki) = (Arc::clone(&self.shared), Arc::clone(&self.pki));
        let roots = tls::roots([pki.ca_der().into()]).unwrap();
        let identity = pki.server(&shared.names);
        let auth = tls::ClientAuth::Required(roots);
        let config = tls::server_config(&identity, auth, &[b"http/1.1"]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        self.accepting = Some(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, shared2) = (acceptor.clone(), Arc::clone(&shared));
                let link = tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &shared2).await;
                    }
                });
                shared.links.lock().push(link);
            }
        }));
    }

    /// Nobody listens any more, and all links break.
    pub(crate) async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        self.cut();
    }

    /// All links break.
    pub(crate) fn cut(&self) {
        for link in self.shared.links.lock().drain(..) {
            link.abort();
        }
    }

    /// Listens again at the same address.
    pub(crate) async fn start_again(&mut self) {
        let listener = self.listen();
        self.accept(listener);
    }

    /// Takes so many calls, each of which it ends at once.
    pub(crate) async fn hang_up(&self, calls: usize) {
        let listener = self.listen();
        for _ in 0..calls {
            let call = tokio::time::timeout(PATIENCE, listener.accept()).await;
            drop(call.expect("nobody dials"));
        }
    }

    fn listen(&self) -> tokio::net::TcpListener {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.at).unwrap();
        socket.listen(64).unwrap()
    }

    pub(crate) fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Waits until the state is as it should be.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                if holds(&self.state()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let state = self.state();
            panic!("not within {PATIENCE:?}: {what}\nheard: {:#?}", state.heard);
        }
    }

    /// Creates a pod in the API server and tells the node.
    pub(crate) fn create(&self, pod: &serde_json::Value) {
        let name = text(&pod["metadata"]["name"]).to_owned();
        self.state().pods.insert(name, pod.clone());
        self.push(pushed(PushOp::Insert, pod));
    }

    /// Sends a message through the newest link.
    pub(crate) fn push(&self, message: Downstream) {
        self.state().push.as_ref().expect("there is a link").send(message).unwrap();
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        self.cut();
    }
}

#[expect(clippy::result_large_err, reason = "tungstenite's callback wants it so")]
async fn serve(stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, shared: &Shared) {
    let look = |dial: &Dial, response: Response| -> Result<Response, ErrorResponse> {
        let headers = dial.headers().iter();
        let headers = headers.map(|(k, v)| (k.to_string(), v.to_str().unwrap_or("?").to_owned()));
        let mut state = shared.state.lock();
        state.dials.push((dial.uri().path().to_owned(), headers.collect()));
        shared.changed.notify_waiters();
        match &state.refuse {
            None => Ok(response),
            Some((status, why)) => {
                let refusal = http::Response::builder().status(*status);
                Err(refusal.body(Some(why.clone())).unwrap())
            }
        }
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, look).await else { return };
    let (mut sink, mut stream) = socket.split();
    let close = shared.state.lock().close.clone();
    if let Some(reason) = close {
        let frame = CloseFrame { code: 1008.into(), reason: reason.into() };
        let _ = sink.send(Frame::Close(Some(frame))).await;
        return;
    }
    let (push, mut pushed) = mpsc::unbounded_channel();
    {
        let mut state = shared.state.lock();
        state.links += 1;
        state.push = Some(push.clone());
    }
    shared.changed.notify_waiters();
    loop {
        if shared.state.lock().deaf {
            // The socket stays open, and nothing comes out of it.
            std::future::pending::<()>().await;
        }
        tokio::select! {
            frame = stream.next() => match frame {
                Some(Ok(Frame::Text(text))) => {
                    let message = json::decode(text.as_bytes()).unwrap();
                    let resource = message.route.resource.clone();
                    let (id, up) = Upstream::decode(&"edge-1".parse().unwrap(), message).unwrap();
                    let mut state = shared.state.lock();
                    if let Upstream::Request(request) = &up
                        && let Some(body) = state.answer(request)
                    {
                        push.send(reply(id, &resource, body)).unwrap();
                    } else if matches!(up, Upstream::DeviceTwin { .. } | Upstream::DeviceState { .. }) {
                        push.send(Downstream::TwinConfirm(id)).unwrap();
                    }
                    state.heard.push(up);
                    drop(state);
                    shared.changed.notify_waiters();
                }
                Some(Ok(_)) => {}
                _ => return,
            },
            Some(message) = pushed.recv() => {
                let envelope = message.encode(&MessageId::random(), 1_790_000_000_000);
                let text = json::encode(&envelope).unwrap();
                if sink.send(Frame::Text(text.into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn reply(parent: MessageId, resource: &str, body: ReplyBody) -> Downstream {
    let version = match &body {
        ReplyBody::Plain(_) => Some("7".parse().unwrap()),
        _ => None,
    };
    Downstream::Reply(Reply { parent, resource: resource.into(), version, body })
}

fn refusal(code: u16, reason: &str) -> ReplyError {
    let status =
        serde_json::json!({"status": "Failure", "code": code, "reason": reason, "message": reason});
    ReplyError::Status(RawJson::of(&status).unwrap())
}

fn found(object: &serde_json::Value) -> ReplyBody {
    ReplyBody::Object { object: RawJson::of(object).unwrap(), err: None }
}

fn refused(code: u16, reason: &str) -> ReplyBody {
    ReplyBody::Object { object: RawJson::null(), err: Some(refusal(code, reason)) }
}

impl State {
    fn answer(&mut self, request: &Request) -> Option<ReplyBody> {
        Some(match request {
            Request::RegisterNode { .. } if self.node.is_some() => refused(409, "AlreadyExists"),
            Request::RegisterNode { node, .. } => {
                let mut node: serde_json::Value = node.to().unwrap();
                node["metadata"]["uid"] = "node-uid".into();
                node["metadata"]["resourceVersion"] = "1".into();
                found(self.node.insert(node))
            }
            Request::Query(key) if key.kind == Kind::Node => {
                ReplyBody::Plain(RawJson::of(self.node.as_ref()?).unwrap())
            }
            Request::UpdateNode { .. } => ReplyBody::Ok,
            Request::PatchNode { .. } => match &self.node {
                Some(node) => found(node),
                None => refused(404, "NotFound"),
            },
            Request::CreateLease { .. } if self.lease.is_some() => refused(409, "AlreadyExists"),
            Request::CreateLease { lease, .. } => {
                let mut lease: serde_json::Value = lease.to().unwrap();
                lease["metadata"]["resourceVersion"] = "1".into();
                found(self.lease.insert(lease))
            }
            Request::UpdateLease { lease, .. } => {
                let mut new: serde_json::Value = lease.to().unwrap();
                let held = self.lease.as_ref()?["metadata"]["resourceVersion"].clone();
                if new["metadata"]["resourceVersion"] != held {
                    return Some(refused(409, "Conflict"));
                }
                let next: u64 = held.as_str()?.parse().unwrap();
                new["metadata"]["resourceVersion"] = (next + 1).to_string().into();
                found(self.lease.insert(new))
            }
            Request::Query(key) if key.kind == Kind::Lease => found(self.lease.as_ref()?),
            Request::Query(key) if key.kind == Kind::ConfigMap => {
                match self.config_maps.get(&*key.name) {
                    Some(object) => ReplyBody::Plain(RawJson::of(object).unwrap()),
                    None => ReplyBody::Error(refusal(404, "NotFound")),
                }
            }
            Request::PatchPod { key, patch } => match self.pods.get_mut(&*key.name) {
                Some(pod) => {
                    let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
                    assert_eq!(patch["metadata"]["uid"], pod["metadata"]["uid"]);
                    pod["status"] = patch["status"].clone();
                    let version: u64 = text(&pod["metadata"]["resourceVersion"]).parse().unwrap();
                    pod["metadata"]["resourceVersion"] = (version + 1).to_string().into();
                    found(pod)
                }
                None => refused(404, "NotFound"),
            },
            Request::DeletePod { key, uid, .. } => {
                if let Some(pod) = self.pods.remove(&*key.name) {
                    assert_eq!(uid.as_ref().unwrap().as_str(), text(&pod["metadata"]["uid"]));
                    self.push.as_ref()?.send(deleted(&pod)).unwrap();
                }
                ReplyBody::Ok
            }
            _ => return None,
        })
    }
}

pub(crate) fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A pod of this node with one container `c`.
pub(crate) fn pod(name: &str) -> serde_json::Value {
    serde_json::json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "resourceVersion": "5", "creationTimestamp": "2026-09-21T11:26:40Z",
        },
        "spec": {
            "nodeName": "edge-1", "restartPolicy": "Always", "hostNetwork": true,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "busybox:1", "imagePullPolicy": "IfNotPresent"}],
        },
    })
}

/// The push of an object.
pub(crate) fn pushed(op: PushOp, object: &serde_json::Value) -> Downstream {
    let meta = &object["metadata"];
    let kind = Kind::from(text(&object["kind"]).to_lowercase().as_str());
    Downstream::Object(ObjectPush {
        op,
        key: ObjectKey::new("default".parse().unwrap(), kind, text(&meta["name"])),
        uid: text(&meta["uid"]).parse().unwrap(),
        version: Some(text(&meta["resourceVersion"]).parse().unwrap()),
        source: PushSource::EdgeController,
        object: RawJson::of(object).unwrap(),
    })
}

/// What the SyncController says of a pod that is gone.
pub(crate) fn deleted(pod: &serde_json::Value) -> Downstream {
    let meta = &pod["metadata"];
    let bare = serde_json::json!({"metadata": {"name": meta["name"], "namespace": "default", "uid": meta["uid"]}});
    Downstream::Object(ObjectPush {
        op: PushOp::Delete,
        key: ObjectKey::new("default".parse().unwrap(), Kind::Pod, text(&meta["name"])),
        uid: text(&meta["uid"]).parse().unwrap(),
        version: None,
        source: PushSource::EdgeController,
        object: RawJson::of(&bare).unwrap(),
    })
}

/// An edgecore in this process.
pub(crate) struct Edge {
    pub(crate) stop: service::CancellationToken,
    pub(crate) ready: service::Readiness,
    pub(crate) runtime: Arc<FakeRuntime>,
    running: JoinHandle<Result<(), Stopped>>,
}

/// A configuration with all its files in `folder`.
pub(crate) fn config(cloud: &Cloud, folder: &Path) -> EdgeCoreConfig {
    let mut config = EdgeCoreConfig::default_for(&api::config::Host::default());
    config.database.data_source = folder.join("edgecore.db");
    let hub = &mut config.modules.edge_hub;
    hub.websocket.server = cloud.at.to_string();
    hub.heartbeat = 1;
    hub.tls_ca_file = folder.join("ca.crt");
    hub.tls_cert_file = folder.join("server.crt");
    hub.tls_private_key_file = folder.join("server.key");
    let edged = &mut config.modules.edged;
    edged.hostname_override = "edge-1".parse().unwrap();
    edged.root_directory = folder.join("kubelet");
    let kubelet = &mut edged.tailored_kubelet_config;
    kubelet.static_pod_path = folder.join("manifests");
    kubelet.pod_logs_dir = folder.join("logs");
    // However full this machine's disk is.
    kubelet.eviction_hard.clear();
    kubelet.image_gc_high_threshold_percent = 100;
    config.modules.event_bus.enable = false;
    config.modules.device_twin.dmi_sock_path = folder.join("dmi.sock");
    config
}

pub(crate) fn options(folder: &Path) -> Options {
    Options {
        bootstrap_file: folder.join("bootstrap-edgecore.conf"),
        runtime: Some(Arc::new(FakeRuntime::new())),
        ..Options::default()
    }
}

impl Edge {
    /// Starts an edgecore that has a certificate already.
    pub(crate) async fn start(cloud: &Cloud, folder: &Path) -> Self {
        cloud.pki.install(folder, "edge-1");
        Self::start_with(config(cloud, folder), folder).await
    }

    pub(crate) async fn start_with(config: EdgeCoreConfig, folder: &Path) -> Self {
        let runtime = FakeRuntime::new();
        runtime.add_image("busybox:1");
        Self::start_on(Arc::new(runtime), config, folder).await
    }

    /// Starts on a runtime that may have containers already.
    pub(crate) async fn start_on(
        runtime: Arc<FakeRuntime>,
        config: EdgeCoreConfig,
        folder: &Path,
    ) -> Self {
        let options = Options { runtime: Some(runtime.clone()), ..options(folder) };
        let app = EdgeCore::build(config, options).await.unwrap();
        let mut svc = Service::new("edgecore");
        app.spawn(&mut svc).unwrap();
        let (stop, ready) = (svc.stopping(), svc.readiness().clone());
        Self { stop, ready, runtime, running: tokio::spawn(svc.until_stopped()) }
    }

    pub(crate) async fn ready(&self) {
        let ready = tokio::time::timeout(PATIENCE, self.ready.ready()).await;
        assert!(ready.is_ok(), "not ready: {:?}", self.ready.waiting_for());
    }

    /// How it ended by itself.
    pub(crate) async fn ended(self) -> Result<(), Stopped> {
        tokio::time::timeout(PATIENCE, self.running).await.expect("it ends").unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }
}

/// What is logged on this thread while the guard lives.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    pub(crate) async fn until(&self, part: &str) {
        let wait = async {
            while !self.text().contains(part) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        assert!(found.is_ok(), "`{part}` is not in the log:\n{}", self.text());
    }
}

impl std::io::Write for Log {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

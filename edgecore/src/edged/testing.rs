//! What the tests of edged share: a cluster in memory that remembers what it was told, edged's
//! settings, and an edged without pods.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::names::{ObjectKey, Uid};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, PodStatus, Secret};
use parking_lot::Mutex;
use service::Service;
use tokio::sync::{mpsc, watch};

use super::cluster::{Cluster, ClusterError, Found};
use super::runtime::fake::FakeRuntime;
use super::runtime::{
    BoxFuture, ContainerState, ContainerStatus, PodContainer, SeenPod, SeenSandbox,
};
use super::{Clock, EdgedConfig, LocalApi, LogLimits};

/// edged on a folder of the test's, with secrets on disk and no port.
pub(crate) fn config(dir: &Path, clock: Clock) -> EdgedConfig {
    EdgedConfig {
        node: "edge-1".to_owned(),
        host_ips: vec![[192, 0, 2, 1].into()],
        root: dir.join("kubelet"),
        pod_logs: dir.join("logs"),
        static_pods: Some(dir.join("manifests")),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: "/nonexistent".into(),
        cgroup_driver: Default::default(),
        cgroup_root: String::new(),
        server: None,
        logs: LogLimits::default(),
        eviction_hard: Default::default(),
        image_gc_high_percent: 100,
        image_gc_low_percent: 100,
        secrets_in_memory: false,
        clock,
    }
}

/// The API of an edged without pods, for as long as the test's runtime lives.
pub(crate) fn local_api() -> LocalApi {
    let mut svc = Service::new("edged-test");
    let dir = tempfile::tempdir().expect("a folder");
    let (wanted, changes) = mpsc::channel(16);
    let config = config(dir.path(), Clock::system());
    let runtime = Arc::new(FakeRuntime::new());
    let api = super::spawn(&mut svc, config, runtime, Arc::new(TestCluster::default()), changes);
    tokio::spawn(async move {
        let (_dir, _wanted) = (dir, wanted);
        let _ = svc.until_stopped().await;
    });
    api
}

type Key = (String, String);

/// Clones share their state.
#[derive(Clone)]
pub(crate) struct TestCluster {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    new: bool,
    pods: Vec<Pod>,
    config_maps: BTreeMap<Key, ConfigMap>,
    secrets: BTreeMap<Key, Secret>,
    statuses: BTreeMap<String, Vec<PodStatus>>,
    gone: Vec<String>,
    mirrors: Vec<Pod>,
    events: Vec<Event>,
}

impl Default for TestCluster {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::channel(0).0 }
    }
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

impl TestCluster {
    pub(crate) fn config_map(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let object = ConfigMap { data: Some(data), ..ConfigMap::default() };
        self.state.lock().config_maps.insert(key(namespace, name), object);
    }

    pub(crate) fn secret(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let bytes = |v: &str| ByteString(v.as_bytes().to_vec());
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), bytes(v))).collect();
        let object = Secret { data: Some(data), ..Secret::default() };
        self.state.lock().secrets.insert(key(namespace, name), object);
    }

    /// As after a loss of the database.
    pub(crate) fn is_new_from_now(&self) {
        self.state.lock().new = true;
    }

    pub(crate) fn add_pod(&self, pod: Pod) {
        self.state.lock().pods.push(pod);
    }

    /// Waits until the newest status of the pod satisfies `is`; a paused clock moves on meanwhile.
    pub(crate) async fn status(&self, pod: &str, is: impl Fn(&PodStatus) -> bool) -> PodStatus {
        self.wait(|s| s.statuses.get(pod)?.last().filter(|s| is(s)).cloned(), pod).await
    }

    /// Waits until the pod was said to be gone.
    pub(crate) async fn gone(&self, pod: &str) {
        self.wait(|s| s.gone.iter().any(|g| g == pod).then_some(()), pod).await;
    }

    /// Waits until a mirror of this name was made.
    pub(crate) async fn mirror(&self, pod: &str) -> Pod {
        let is = |p: &&Pod| p.metadata.name.as_deref() == Some(pod);
        self.wait(|s| s.mirrors.iter().find(is).cloned(), pod).await
    }

    async fn wait<T>(&self, found: impl Fn(&State) -> Option<T>, what: &str) -> T {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = found(&self.state.lock()) {
                    return found;
                }
                let _ = changed.changed().await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(7200), waiting).await {
            Ok(found) => found,
            Err(_) => panic!("`{what}`: {:#?}", self.state.lock().statuses.get(what)),
        }
    }

    /// All statuses of the pod, oldest first.
    pub(crate) fn history(&self, pod: &str) -> Vec<PodStatus> {
        self.state.lock().statuses.get(pod).cloned().unwrap_or_default()
    }

    /// The reasons and messages of all events.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        self.state.lock().events.iter().map(|e| (text(&e.reason), text(&e.message))).collect()
    }

    fn told(&self, tell: impl FnOnce(&mut State)) {
        tell(&mut self.state.lock());
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Cluster for TestCluster {
    fn is_new(&self) -> bool {
        self.state.lock().new
    }

    fn pods(&self) -> BoxFuture<'_, Result<Vec<Pod>, ClusterError>> {
        Box::pin(async { Ok(self.state.lock().pods.clone()) })
    }

    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> Found<'a, ConfigMap> {
        let found = self.state.lock().config_maps.get(&key(namespace, name)).cloned();
        Box::pin(async { Ok(found) })
    }

    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> Found<'a, Secret> {
        let found = self.state.lock().secrets.get(&key(namespace, name)).cloned();
        Box::pin(async { Ok(found) })
    }

    fn node(&self) -> Found<'_, Node> {
        Box::pin(async { Ok(None) })
    }

    fn token<'a>(
        &'a self,
        namespace: &'a str,
        account: &'a str,
        mut request: TokenRequest,
    ) -> BoxFuture<'a, Result<TokenRequest, ClusterError>> {
        Box::pin(async move {
            let seconds = request.spec.as_ref().and_then(|s| s.expiration_seconds).unwrap_or(0);
            let token = format!("token-of-{namespace}/{account}-{seconds}");
            request.status =
                Some(TokenRequestStatus { token: Some(token), expiration_timestamp: None });
            Ok(request)
        })
    }

    fn pod_status<'a>(&'a self, pod: &'a Pod, status: &'a PodStatus) -> BoxFuture<'a, ()> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        self.told(|s| s.statuses.entry(name).or_default().push(status.clone()));
        Box::pin(async {})
    }

    fn pod_gone(&self, key: ObjectKey, _uid: Uid) -> BoxFuture<'_, ()> {
        self.told(|s| s.gone.push(key.name.to_string()));
        Box::pin(async {})
    }

    fn event(&self, event: Event) {
        self.told(|s| s.events.push(event));
    }

    fn mirror_pod<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, ()> {
        self.told(|s| s.mirrors.push(pod.clone()));
        Box::pin(async {})
    }
}

/// Seconds after 1970 at which the stories of the tests begin.
pub(crate) const START: i64 = 1_790_000_000;

/// A moment this many seconds into the story.
pub(crate) fn at(seconds: i64) -> i64 {
    (START + seconds) * super::clock::SECOND
}

/// What a runtime has of a pod, built up by hand.
#[derive(Default)]
pub(crate) struct Scene {
    pub(crate) seen: SeenPod,
}

impl Scene {
    /// With a ready sandbox made at second 0.
    pub(crate) fn up() -> Self {
        let sandbox = SeenSandbox {
            id: "s0".to_owned(),
            uid: "u1".to_owned(),
            ready: true,
            created_at: at(0),
            ..SeenSandbox::default()
        };
        let ips = vec!["10.88.0.2".to_owned()];
        Self { seen: SeenPod { sandboxes: vec![sandbox], ips, containers: Vec::new() } }
    }

    pub(crate) fn sandbox_dead(mut self) -> Self {
        self.seen.sandboxes[0].ready = false;
        self.seen.ips.clear();
        self
    }

    fn add(mut self, name: &str, attempt: u32, edit: impl FnOnce(&mut ContainerStatus)) -> Self {
        let mut status = ContainerStatus {
            id: format!("{name}-{attempt}"),
            name: name.to_owned(),
            attempt,
            image: "web:1".to_owned(),
            image_ref: "sha256:web".to_owned(),
            annotations: [
                (super::runtime::label::SPEC_IMAGE.to_owned(), "web:1".to_owned()),
                (super::plan::BACKOFF_ANNOTATION.to_owned(), "0".to_owned()),
            ]
            .into(),
            ..ContainerStatus::default()
        };
        edit(&mut status);
        let container =
            PodContainer { sandbox_id: "s0".to_owned(), status, last_words: String::new() };
        self.seen.containers.insert(0, container);
        self
    }

    pub(crate) fn running(self, name: &str, attempt: u32, since: i64) -> Self {
        self.add(name, attempt, |s| {
            s.state = ContainerState::Running;
            (s.created_at, s.started_at) = (at(since), at(since));
        })
    }

    pub(crate) fn created(self, name: &str, attempt: u32) -> Self {
        self.add(name, attempt, |s| s.state = ContainerState::Created)
    }

    /// Ran from one second to another; its successor waits `backoff` seconds.
    pub(crate) fn exited(
        self,
        name: &str,
        attempt: u32,
        (from, to): (i64, i64),
        code: i32,
        backoff: u64,
    ) -> Self {
        self.add(name, attempt, |s| {
            s.state = ContainerState::Exited;
            (s.created_at, s.started_at, s.finished_at) = (at(from), at(from), at(to));
            s.exit_code = code;
            s.annotations.insert(super::plan::BACKOFF_ANNOTATION.to_owned(), backoff.to_string());
        })
    }
}

/// A pod `web` in the namespace `shop`, whose spec is this with a container `main` unless it names
/// its own.
pub(crate) fn pod(spec: serde_json::Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = serde_json::json!([{"name": "main", "image": "web:1"}]);
    }
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": spec
    }))
    .expect("a pod")
}

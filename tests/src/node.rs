//! edged alone on a container runtime: the cloud is a table in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::names::{ObjectKey, Uid};
use edgecore::edged::cluster::{Cluster, ClusterError, Found};
use edgecore::edged::runtime::{BoxFuture, CgroupDriver, ContainerRuntime};
use edgecore::edged::{Clock, EdgedConfig, LogLimits, WantedChange};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, PodStatus, Secret};
use parking_lot::Mutex;
use service::Service;
use tokio::sync::{mpsc, watch};

/// What the cloud would know; clones share it.
#[derive(Clone)]
pub struct Table {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    config_maps: BTreeMap<String, ConfigMap>,
    secrets: BTreeMap<String, Secret>,
    statuses: BTreeMap<String, PodStatus>,
    gone: Vec<String>,
    mirrors: Vec<Pod>,
    events: Vec<(String, String)>,
}

impl Default for Table {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::channel(0).0 }
    }
}

impl Table {
    /// Waits until the newest status of a pod satisfies `is`.
    ///
    /// # Panics
    /// When it has not after a minute; the status is shown.
    pub async fn status(&self, pod: &str, is: impl Fn(&PodStatus) -> bool) -> PodStatus {
        self.wait(pod, |s| s.statuses.get(pod).filter(|s| is(s)).cloned()).await
    }

    /// Waits until the pod was said to be gone.
    ///
    /// # Panics
    /// As [`Table::status`].
    pub async fn gone(&self, pod: &str) {
        self.wait(pod, |s| s.gone.iter().any(|g| g == pod).then_some(())).await;
    }

    async fn wait<T>(&self, pod: &str, found: impl Fn(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = found(&self.state.lock()) {
                    return found;
                }
                // The sender lives in `self`.
                let _ = changed.changed().await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), waiting).await {
            Ok(found) => found,
            Err(_) => {
                let state = self.state.lock();
                panic!("`{pod}`: {:#?}\n{:#?}", state.statuses.get(pod), state.events)
            }
        }
    }

    /// Adds or replaces a config map of the namespace `default`.
    pub fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let object = ConfigMap { data: Some(data), ..ConfigMap::default() };
        self.state.lock().config_maps.insert(name.to_owned(), object);
    }

    /// Adds or replaces a secret of the namespace `default`.
    pub fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let object = Secret { string_data: Some(data), ..Secret::default() };
        self.state.lock().secrets.insert(name.to_owned(), object);
    }

    /// Reasons and messages of all events.
    pub fn events(&self) -> Vec<(String, String)> {
        self.state.lock().events.clone()
    }

    fn tell(&self, f: impl FnOnce(&mut State)) {
        f(&mut self.state.lock());
        self.changed.send_modify(|n| *n += 1);
    }
}

fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

impl Cluster for Table {
    fn pods(&self) -> BoxFuture<'_, Result<Vec<Pod>, ClusterError>> {
        let pods = self.state.lock().pods.values().cloned().collect();
        Box::pin(async { Ok(pods) })
    }

    fn config_map<'a>(&'a self, _namespace: &'a str, name: &'a str) -> Found<'a, ConfigMap> {
        let found = self.state.lock().config_maps.get(name).cloned();
        Box::pin(async { Ok(found) })
    }

    fn secret<'a>(&'a self, _namespace: &'a str, name: &'a str) -> Found<'a, Secret> {
        let found = self.state.lock().secrets.get(name).cloned();
        Box::pin(async { Ok(found) })
    }

    fn node(&self) -> Found<'_, Node> {
        Box::pin(async { Ok(None) })
    }

    fn token<'a>(
        &'a self,
        _namespace: &'a str,
        account: &'a str,
        mut request: TokenRequest,
    ) -> BoxFuture<'a, Result<TokenRequest, ClusterError>> {
        let token = Some(format!("token of {account}"));
        request.status = Some(TokenRequestStatus { token, expiration_timestamp: None });
        Box::pin(async { Ok(request) })
    }

    fn pod_status<'a>(&'a self, pod: &'a Pod, status: &'a PodStatus) -> BoxFuture<'a, ()> {
        let name = name_of(pod);
        self.tell(|s| {
            if let Some(stored) = s.pods.get_mut(&name) {
                stored.status = Some(status.clone());
            }
            s.statuses.insert(name, status.clone());
        });
        Box::pin(async {})
    }

    fn pod_gone(&self, key: ObjectKey, _uid: Uid) -> BoxFuture<'_, ()> {
        self.tell(|s| {
            s.pods.remove(&*key.name);
            s.gone.push(key.name.to_string());
        });
        Box::pin(async {})
    }

    fn event(&self, event: Event) {
        let text = |s: Option<String>| s.unwrap_or_default();
        self.tell(|s| s.events.push((text(event.reason), text(event.message))));
    }

    fn mirror_pod<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, ()> {
        self.tell(|s| s.mirrors.push(pod.clone()));
        Box::pin(async {})
    }
}

fn free_address() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// A running edged.
pub struct EdgedNode {
    /// Its cloud.
    pub table: Table,
    /// Its local API.
    pub address: std::net::SocketAddr,
    stopping: service::CancellationToken,
    task: tokio::task::JoinHandle<()>,
    wanted: mpsc::Sender<WantedChange>,
}

impl EdgedNode {
    /// Starts edged with its files below `dir`. Dropping the node is a `kill -9` as far as edged
    /// can tell: nothing is tidied up.
    pub fn start(dir: &Path, runtime: Arc<dyn ContainerRuntime>, table: Table) -> Self {
        let mut svc = Service::new("edged-test");
        let address = free_address();
        let config = EdgedConfig {
            node: "edge-1".to_owned(),
            host_ips: vec![[192, 0, 2, 10].into()],
            root: dir.join("kubelet"),
            pod_logs: dir.join("pods"),
            static_pods: Some(dir.join("manifests")),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_root: format!("/{}", crate::containerd::CGROUP),
            server: Some(address),
            logs: LogLimits::default(),
            eviction_hard: Default::default(),
            image_gc_high_percent: 100,
            image_gc_low_percent: 100,
            secrets_in_memory: true,
            clock: Clock::system(),
        };
        let (tell, wanted) = mpsc::channel(1024);
        let stopping = svc.stopping();
        edgecore::edged::spawn(&mut svc, config, runtime, Arc::new(table.clone()), wanted);
        let task = tokio::spawn(async move {
            // What failed shows in the pods.
            let _ = svc.until_stopped().await;
        });
        Self { table, address, stopping, task, wanted: tell }
    }

    /// Asks the local API and returns the whole answer, with its head.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn get(&self, path: &str) -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Stores a pod and tells edged.
    ///
    /// # Panics
    /// When the JSON is no pod.
    pub async fn apply(&self, pod: serde_json::Value) {
        let mut pod: Pod = serde_json::from_value(pod).expect("a pod");
        let name = name_of(&pod);
        pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
        pod.metadata.uid.get_or_insert_with(|| format!("uid-{name}"));
        self.table.tell(|s| {
            s.pods.insert(name, pod.clone());
        });
        // A node that has been stopped hears nothing.
        let _ = self.wanted.send(WantedChange::Set(Box::new(pod))).await;
    }

    /// Changes a stored pod and tells edged.
    ///
    /// # Panics
    /// When there is no such pod.
    pub async fn change(&self, name: &str, change: impl FnOnce(&mut Pod)) {
        let pod = {
            let mut state = self.table.state.lock();
            let pod = state.pods.get_mut(name).expect("a stored pod");
            change(pod);
            pod.clone()
        };
        let _ = self.wanted.send(WantedChange::Set(Box::new(pod))).await;
    }

    /// Asks for a pod's end, with this many seconds' grace.
    pub async fn delete(&self, name: &str, grace: i64) {
        self.change(name, |pod| {
            use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
            pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::now()));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
        })
        .await;
    }

    /// Tells edged that an object has changed.
    pub async fn object_changed(&self, key: ObjectKey) {
        let _ = self.wanted.send(WantedChange::ObjectChanged(key)).await;
    }

    /// Stops edged; pods go on. Its table stays.
    pub async fn stop(self) -> Table {
        self.stopping.cancel();
        let _ = self.task.await;
        self.table
    }
}

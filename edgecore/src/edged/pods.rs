//! The wanted pods, by UID, and a worker for each.
//!
//! Owns: which pods there should be: the cloud's, this node's files, and what is left over.
//! Called by: `mod.rs`, which spawns it.
//! Never: waits for a worker or for the cloud; what it tells a worker replaces what it told before.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind, ObjectKey};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use service::telemetry::HOP;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::held::Held;
use super::inbox::Inbox;
use super::memory::Ended;
use super::plan::Fate;
use super::pleg::Change;
use super::runtime::{SeenSandbox, label};
use super::worker::{Shared, Worker, identity};
use super::{podspec, static_pods, status, volumes};
use crate::metamanager::WantedChange;

const STATIC_EVERY: Duration = Duration::from_secs(5);
/// How long the cloud has, once there is a link, to tell a new store which pods are this node's. The
/// original compares every 5 s.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// When what runs here and is not in the store is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strangers {
    /// Now: the store knows what the cloud wants.
    End,
    /// The store is new, and there has been no link.
    Keep,
    /// The cloud is telling.
    KeepUntil(Instant),
}

/// A pod and its worker.
struct Entry {
    pod: Arc<Pod>,
    inbox: Inbox,
    /// Nothing of it is to be left.
    ending: bool,
}

/// Where the pods come from.
pub(crate) struct Sources {
    /// The cloud's.
    pub(crate) wanted: mpsc::Receiver<WantedChange>,
    /// The runtime's.
    pub(crate) changes: mpsc::Receiver<Change>,
    /// The node's own reasons to end a pod.
    pub(crate) evictions: mpsc::Receiver<(Arc<str>, Ended)>,
    /// Held pods that somebody let go.
    pub(crate) let_go: mpsc::Receiver<Arc<str>>,
    /// Files.
    pub(crate) static_path: Option<PathBuf>,
    /// The node's name.
    pub(crate) node: String,
}

/// The task's state.
pub(crate) struct Pods {
    shared: Arc<Shared>,
    entries: HashMap<Arc<str>, Entry>,
    /// Mirrors of static pods as the cloud has them, by namespace and name.
    mirrors: BTreeMap<(String, String), Arc<Pod>>,
    /// Sandboxes that were seen before it was known what is wanted.
    found: Vec<SeenSandbox>,
    listed: bool,
    strangers: Strangers,
    static_errors: BTreeMap<PathBuf, String>,
    done: mpsc::Sender<Arc<str>>,
    /// All pods, for whoever asks; see [`Directory`].
    directory: Directory,
    /// Those that do not start yet.
    held: Held,
}

/// The pods of this node, for the local API.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<parking_lot::Mutex<BTreeMap<Arc<str>, Arc<Pod>>>>);

#[allow(dead_code, reason = "the local API on port 10350 reads it")]
impl Directory {
    /// All pods.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.0.lock().values().cloned().collect()
    }

    /// A pod by namespace and name; the youngest, if there are several.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let pods = self.0.lock();
        pods.values()
            .filter(|p| podspec::namespace(p) == namespace && podspec::name(p) == name)
            .max_by_key(|p| p.metadata.creation_timestamp.as_ref().map(|t| t.0))
            .cloned()
    }

    fn set(&self, pod: &Arc<Pod>) {
        self.0.lock().insert(podspec::uid(pod).into(), pod.clone());
    }

    fn remove(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Runs until the service stops. Pods go on running.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut sources: Sources,
    (directory, held): (Directory, Held),
) {
    // A worker that ends waits for its turn here.
    let (done, mut ended) = mpsc::channel(64);
    let mut pods = Pods {
        shared: shared.clone(),
        entries: HashMap::new(),
        mirrors: BTreeMap::new(),
        found: Vec::new(),
        listed: false,
        strangers: if shared.cluster.is_new() { Strangers::Keep } else { Strangers::End },
        static_errors: BTreeMap::new(),
        done,
        directory,
        held,
    };
    pods.load(&sources).await;
    let mut static_tick = tokio::time::interval(STATIC_EVERY);
    loop {
        let told = pods.strangers;
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = until(told) => {
                pods.strangers = Strangers::End;
                pods.adopt_found();
            }
            change = sources.wanted.recv() => match change {
                Some(change) => pods.wanted(change).await,
                None => return,
            },
            change = sources.changes.recv() => match change {
                Some(change) => pods.changed(change),
                None => return,
            },
            Some((uid, why)) = sources.evictions.recv() => pods.evict(&uid, why),
            Some(uid) = sources.let_go.recv() => if let Some(pod) = pods.held.take(&uid) {
                pods.set(pod).await;
            },
            Some(uid) = ended.recv() => pods.ended(&uid).await,
            _ = static_tick.tick() => pods.read_static(&sources).await,
        }
    }
}

async fn until(told: Strangers) {
    match told {
        Strangers::KeepUntil(at) => tokio::time::sleep_until(at).await,
        Strangers::End | Strangers::Keep => std::future::pending().await,
    }
}

impl Pods {
    /// What the store holds is wanted; what runs beyond that is not.
    async fn load(&mut self, sources: &Sources) {
        loop {
            match self.shared.cluster.pods().await {
                Ok(pods) => {
                    for pod in pods {
                        self.set(Arc::new(slim(pod))).await;
                    }
                    break;
                }
                Err(e) => {
                    tracing::error!(error = %e, "cannot read the stored pods; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        self.read_static(sources).await;
        if self.strangers != Strangers::End {
            tracing::info!(
                "the edge's database is new: what runs here is left alone until the cloud has said what should"
            );
            return;
        }
        let known: Vec<String> = self.entries.keys().map(|uid| uid.to_string()).collect();
        let root = self.shared.site.root.join("pods");
        let place = {
            let shared = self.shared.clone();
            move |uid: &str| shared.site.place(uid)
        };
        let cleaned = tokio::task::spawn_blocking(move || {
            for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(uid) = name.to_str() else { continue };
                if !known.iter().any(|k| k == uid)
                    && let Err(e) = place(uid).tear_down()
                {
                    tracing::warn!(pod = uid, error = %e, "cannot remove what is left of a pod");
                }
            }
        });
        if let Err(e) = cleaned.await {
            tracing::error!(error = %e, "cannot clean up after pods that are gone");
        }
    }

    async fn wanted(&mut self, change: WantedChange) {
        match change {
            WantedChange::Set(pod) => self.set(Arc::new(slim(*pod))).await,
            WantedChange::Gone { key, uid } => self.gone(&key, uid.as_str()).await,
            WantedChange::ObjectChanged(key) => self.object_changed(&key),
            WantedChange::Resync(pods) => {
                if self.strangers == Strangers::Keep {
                    self.strangers = Strangers::KeepUntil(Instant::now() + TOLD_WITHIN);
                }
                let pods: Vec<Arc<Pod>> = pods.into_iter().map(|p| Arc::new(slim(p))).collect();
                let missing: Vec<Arc<str>> = self
                    .entries
                    .iter()
                    .filter(|(_, e)| !podspec::is_static(&e.pod) && !e.ending)
                    .map(|(uid, _)| uid.clone())
                    .filter(|uid| !pods.iter().any(|p| podspec::uid(p) == &**uid))
                    .collect();
                for uid in missing {
                    self.remove(&uid);
                }
                self.held.clear();
                for pod in pods {
                    self.set(pod).await;
                }
            }
        }
    }

    async fn set(&mut self, pod: Arc<Pod>) {
        let Some((key, _)) = identity(&pod) else {
            tracing::error!(
                pod = podspec::full_name(&pod),
                "a pod without a valid name or uid is not run"
            );
            return;
        };
        if podspec::is_mirror(&pod) {
            return self.set_mirror(pod).await;
        }
        if Held::holds(&pod, &self.shared.site.pod_dir(podspec::uid(&pod))) {
            return self.hold(&pod).await;
        }
        self.held.take(podspec::uid(&pod));
        self.directory.set(&pod);
        let uid: Arc<str> = podspec::uid(&pod).into();
        if let Some(entry) = self.entries.get_mut(&uid) {
            tracing::trace!(target: HOP, msg = %key, at = "edged.worker");
            let newly_deleted = podspec::is_deleted(&pod)
                && (!podspec::is_deleted(&entry.pod)
                    || podspec::grace(&pod) != podspec::grace(&entry.pod));
            entry.ending |= podspec::is_deleted(&pod);
            entry.pod = pod.clone();
            if newly_deleted {
                entry.inbox.interrupt(|news| news.pod = Some(pod));
            } else {
                entry.inbox.tell(|news| news.pod = Some(pod));
            }
            return;
        }
        let fate = if podspec::is_deleted(&pod) { Fate::Remove } else { Fate::Run };
        self.start(pod, fate, false);
    }

    async fn hold(&self, pod: &Pod) {
        let held = status::held(pod, self.shared.clock.now());
        self.held.put(pod, held.clone());
        if pod.status.as_ref() != Some(&held) {
            self.shared.cluster.pod_status(pod, &held).await;
        }
    }

    fn start(&mut self, pod: Arc<Pod>, fate: Fate, orphan: bool) {
        let uid: Arc<str> = podspec::uid(&pod).into();
        let mut worker = Worker::new(self.shared.clone(), pod.clone(), fate, orphan);
        worker.mirror = self.mirrors.get(&full_name(&pod)).cloned();
        let inbox = worker.inbox.clone();
        self.entries.insert(uid, Entry { pod, inbox, ending: fate == Fate::Remove });
        tokio::spawn(worker.run(self.done.clone()));
    }

    async fn gone(&mut self, key: &ObjectKey, uid: &str) {
        let mirror = self.mirrors.values().find(|m| podspec::uid(m) == uid).cloned();
        if let Some(mirror) = mirror {
            let name = full_name(&mirror);
            self.mirrors.remove(&name);
            // Somebody deleted the copy; the pod is still wanted.
            let original = self.entries.values().find(|e| full_name(&e.pod) == name && !e.ending);
            if let Some(pod) = original.map(|e| e.pod.clone()) {
                self.make_mirror(&pod).await;
            }
            return;
        }
        self.held.take(uid);
        if !self.entries.contains_key(uid) {
            tracing::debug!(pod = %key, "a pod that is not here is gone");
            return;
        }
        self.remove(uid);
    }

    fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.ending = true;
            entry.inbox.interrupt(|news| news.gone = true);
        }
    }

    fn evict(&mut self, uid: &str, why: Ended) {
        if let Some(entry) = self.entries.get(uid) {
            entry.inbox.interrupt(|news| news.ended = Some(why));
        }
    }

    fn object_changed(&self, key: &ObjectKey) {
        if !matches!(key.kind, Kind::ConfigMap | Kind::Secret) {
            return;
        }
        let namespace = key.namespace.as_ref().map_or("", |n| n.as_str());
        for entry in self.entries.values() {
            if podspec::namespace(&entry.pod) == namespace
                && volumes::uses(&entry.pod, &key.kind, &key.name)
            {
                tracing::trace!(target: HOP, msg = %key, at = "edged.worker");
                entry.inbox.tell(|news| news.objects = true);
            }
        }
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Pod { uid, container } => {
                if let Some(entry) = self.entries.get(&uid) {
                    entry.inbox.tell(|news| news.changed.extend(container));
                }
            }
            Change::Exited { uid, container, exit } => {
                if let Some(entry) = self.entries.get(&uid) {
                    entry.inbox.tell(|news| {
                        news.exits.insert(container.clone(), exit);
                        news.changed.push(container);
                    });
                }
            }
            Change::Found(sandbox) if self.listed && self.strangers == Strangers::End => {
                self.adopt(&sandbox);
            }
            Change::Found(sandbox) => {
                self.found.retain(|f| f.id != sandbox.id);
                self.found.push(*sandbox);
            }
            Change::Listed => {
                self.listed = true;
                self.adopt_found();
            }
        }
    }

    fn adopt_found(&mut self) {
        if self.listed && self.strangers == Strangers::End {
            for sandbox in std::mem::take(&mut self.found) {
                self.adopt(&sandbox);
            }
        }
    }

    /// A sandbox of a pod that nobody wants is ended and removed, with all that belongs to it.
    fn adopt(&mut self, sandbox: &SeenSandbox) {
        let ours = sandbox.labels.get(label::POD_UID).is_some_and(|uid| *uid == sandbox.uid);
        if !ours || self.entries.contains_key(sandbox.uid.as_str()) {
            return;
        }
        tracing::info!(
            pod = format!("{}/{}", sandbox.namespace, sandbox.name),
            "a pod runs here that nobody wants; it is ended"
        );
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(sandbox.name.clone()),
                namespace: Some(sandbox.namespace.clone()),
                uid: Some(sandbox.uid.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec::default()),
            status: None,
        };
        self.start(Arc::new(pod), Fate::Remove, true);
    }

    async fn ended(&mut self, uid: &str) {
        self.directory.remove(uid);
        let Some(entry) = self.entries.remove(uid) else { return };
        // The file may be back, under the same name, by now.
        let name = full_name(&entry.pod);
        let successor = self.entries.values().find(|e| full_name(&e.pod) == name);
        if let Some(pod) = successor.map(|e| e.pod.clone())
            && podspec::is_static(&pod)
        {
            self.make_mirror(&pod).await;
        }
    }

    async fn set_mirror(&mut self, mirror: Arc<Pod>) {
        let name = full_name(&mirror);
        let original = self
            .entries
            .values()
            .find(|e| podspec::is_static(&e.pod) && full_name(&e.pod) == name && !e.ending);
        let fits = original.is_some_and(|e| {
            podspec::annotation(&mirror, podspec::CONFIG_MIRROR) == Some(podspec::uid(&e.pod))
        });
        match original {
            Some(entry) if fits && !podspec::is_deleted(&mirror) => {
                let told = mirror.clone();
                entry.inbox.tell(|news| news.mirror = Some(told));
            }
            // A copy of a pod that is no more, or is another now, or whose end somebody asked for.
            _ => {
                if let Some((key, uid)) = identity(&mirror) {
                    self.shared.cluster.pod_gone(key, uid).await;
                }
            }
        }
        self.mirrors.insert(name, mirror);
    }

    async fn make_mirror(&self, pod: &Pod) {
        let node = self.shared.cluster.node().await.ok().flatten();
        self.shared.cluster.mirror_pod(&static_pods::mirror(pod, node.as_ref())).await;
    }

    async fn read_static(&mut self, sources: &Sources) {
        let Some(dir) = sources.static_path.clone() else { return };
        let node = sources.node.clone();
        let read = tokio::task::spawn_blocking(move || static_pods::read(&dir, &node)).await;
        let Ok(found) = read else { return };
        for (path, why) in &found.errors {
            if self.static_errors.get(path) != Some(why) {
                tracing::error!(file = %path.display(), why, "this file is not a pod that can be run");
            }
        }
        self.static_errors = found.errors;
        let vanished: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, e)| podspec::is_static(&e.pod) && !e.ending)
            .map(|(uid, _)| uid.clone())
            .filter(|uid| !found.pods.iter().any(|p| podspec::uid(p) == &**uid))
            .collect();
        for uid in vanished {
            self.remove(&uid);
        }
        for pod in found.pods {
            if self.entries.contains_key(podspec::uid(&pod)) {
                continue;
            }
            self.directory.set(&pod);
            let fits = self.mirrors.get(&full_name(&pod)).is_some_and(|m| {
                podspec::annotation(m, podspec::CONFIG_MIRROR) == Some(podspec::uid(&pod))
            });
            if !fits {
                self.make_mirror(&pod).await;
            }
            self.start(pod, Fate::Run, false);
        }
    }
}

fn full_name(pod: &Pod) -> (String, String) {
    (podspec::namespace(pod).to_owned(), podspec::name(pod).to_owned())
}

/// Without what edged never reads and would only keep in memory.
fn slim(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    if let Some(spec) = &mut pod.spec {
        spec.affinity = None;
        spec.topology_spread_constraints = None;
    }
    pod
}

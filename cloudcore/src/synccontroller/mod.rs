//! What nodes hold: written down behind the messages, compared with what they should hold.
//!
//! The original reads and writes an ObjectSync for every message, and so waits for the API server
//! twice. Here the record in memory is ahead, and the writer follows; several changes of one record
//! become one write. A crash loses at most the last moments of it, which costs a message that is
//! sent twice, or leaves a configmap or secret at a node that no pod of it uses and that is gone.
//!
//! Owns: ObjectSync and ClusterObjectSync objects.
//! Called by: `app.rs`.
//! Never: holds up a message.

pub mod compare;
pub mod records;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind, NodeName, ObjectKey, ResourceVersion, Uid};
use api::raw::RawJson;
use api::wire::downstream::PushOp;
use parking_lot::Mutex;
use serde::Deserialize;
use service::CancellationToken;
use service::backoff::Backoff;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, info, warn};

use self::compare::{Difference, compare, is_device, is_watched};
use self::records::{Change, Failed, RecordId, Records, Write};
use crate::apiserver::{ApiError, ApiServer, Patch, Path};
use crate::cloudhub::registry::Registry;
use crate::devicecontroller::Downstream as Devices;
use crate::edgecontroller::downstream::Downstream;
use crate::edgecontroller::index::{Index, deletion, push};
use crate::metrics::Metrics;
use crate::object::{STORE_ANNOTATION, gvk};

/// Between two comparisons of all connected nodes.
const EVERY: Duration = Duration::from_secs(5);
/// Between two looks for records to write: changes of one record in this time are one write.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// How long cloudcore may take to write the last records when it stops.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// Writes at one time.
const WRITERS: usize = 8;
/// Objects that are read again at one time.
const READERS: usize = 16;
const PAUSE: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
const GROUP: &str = "reliablesyncs.kubeedge.io/v1alpha1";

/// See the module.
#[derive(Clone)]
pub struct SyncController {
    /// The API server.
    pub api: ApiServer,
    /// What nodes hold.
    pub records: Arc<Mutex<Records>>,
    /// What nodes should hold.
    pub index: Arc<Mutex<Index>>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Reads objects again.
    pub downstream: Downstream,
    /// The same for devices, if there are any.
    pub devices: Option<Devices>,
    /// Told once it is known what nodes hold.
    pub known: watch::Sender<bool>,
    /// Counts.
    pub metrics: Metrics,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct ItemMeta {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    object_kind: String,
    object_name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    object_resource_version: String,
}

impl SyncController {
    /// Reads the records, then compares and writes until told to stop.
    pub async fn run(self, stopping: CancellationToken) {
        let work = async {
            let mut attempt = 0;
            while let Err(error) = self.load().await {
                if attempt == 0 {
                    warn!(%error, "the ObjectSyncs cannot be read; what nodes hold is not known yet");
                }
                tokio::time::sleep(PAUSE.next_delay(attempt)).await;
                attempt += 1;
            }
            self.downstream.synced().await;
            self.forget_strangers();
            self.downstream.go_live();
            self.known.send_replace(true);
            self.compare_loop().await;
        };
        let compare = async {
            tokio::select! {
                () = work => {}
                () = stopping.cancelled() => {}
            }
        };
        let too_late = async {
            stopping.cancelled().await;
            tokio::time::sleep(LAST_WRITES).await;
        };
        tokio::select! {
            _ = async { tokio::join!(compare, self.write_loop(&stopping)) } => {}
            () = too_late => warn!("not all that nodes hold could be written down"),
        }
    }

    async fn load(&self) -> Result<(), ApiError> {
        let mut count = 0;
        for plural in ["objectsyncs", "clusterobjectsyncs"] {
            let mut more = None;
            loop {
                let path = Path::of(GROUP, plural, None)?;
                let page = match self.api.page(&path, more.as_deref()).await {
                    Ok(page) => page,
                    Err(error) if error.is_not_found() => {
                        warn!(
                            plural,
                            "the API server does not know this resource: what edge nodes hold is \
                             forgotten when cloudcore stops; `keadm init` installs it"
                        );
                        break;
                    }
                    Err(error) => return Err(error),
                };
                for item in page.items {
                    count += usize::from(item.to().is_ok_and(|item| self.load_one(item)));
                }
                more = page.more;
                if more.is_none() {
                    break;
                }
            }
        }
        info!(records = count, "read what nodes hold");
        Ok(())
    }

    fn load_one(&self, item: Item) -> bool {
        let Ok(id) = item.metadata.name.parse::<RecordId>() else { return false };
        let kind = item.spec.object_kind.to_ascii_lowercase();
        let namespace = item.metadata.namespace.filter(|n| !n.is_empty());
        let Ok(namespace) = namespace.map(|n| n.parse()).transpose() else { return false };
        if item.spec.object_name.is_empty() {
            return false;
        }
        let key =
            ObjectKey { namespace, kind: kind.as_str().into(), name: item.spec.object_name.into() };
        // An empty version is one that was never acknowledged, too.
        let version = item.status.object_resource_version.parse().unwrap_or_default();
        self.records.lock().load(id, key, version);
        true
    }

    /// Records of nodes that were deleted while cloudcore was away.
    fn forget_strangers(&self) {
        let index = self.index.lock();
        let mut records = self.records.lock();
        for node in records.nodes() {
            if !index.is_edge_node(&node) && !self.registry.is_connected(&node) {
                info!(%node, "the node is gone, so are its records");
                records.forget(&node);
            }
        }
    }

    async fn compare_loop(&self) {
        let mut connections = self.registry.connections();
        let readers = Arc::new(Semaphore::new(READERS));
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut devices_live = self.devices.as_ref().map(Devices::liveness);
        loop {
            let devices_known = async {
                let Some(live) = &mut devices_live else { return std::future::pending().await };
                if *live.borrow_and_update() {
                    return std::future::pending().await;
                }
                live.changed().await.is_ok()
            };
            let nodes: HashSet<NodeName> = tokio::select! {
                _ = tick.tick() => self.registry.connected_nodes().into_iter().collect(),
                _ = devices_known => self.registry.connected_nodes().into_iter().collect(),
                node = connections.recv() => match node {
                    Ok(node) => HashSet::from([node]),
                    Err(RecvError::Lagged(_)) => {
                        self.registry.connected_nodes().into_iter().collect()
                    }
                    Err(RecvError::Closed) => return,
                },
            };
            for node in nodes {
                self.judge_database(&node);
                self.compare_node(&node, &readers).await;
            }
            self.metrics
                .records_waiting
                .set(i64::try_from(self.records.lock().waiting()).unwrap_or(i64::MAX));
        }
    }

    /// A node whose database is not the one that its records are about has lost what it was sent:
    /// emptied, restored or set up anew, with its certificate kept.
    fn judge_database(&self, node: &NodeName) {
        let index = self.index.lock();
        let recorded = index.store_of(node);
        if self.records.lock().judge_database(node, recorded) && recorded.is_some() {
            info!(%node, "the node has another database than before: it is sent everything again");
        }
    }

    /// Notes on the Node objects which databases the records are about.
    async fn write_databases(&self) {
        let due = self.records.lock().databases_to_write();
        for (node, id) in due {
            // One that has not registered yet has nothing to lose yet.
            if !self.index.lock().is_edge_node(&node) {
                continue;
            }
            let Ok(path) = Path::object(&ObjectKey::cluster(Kind::Node, node.as_str())) else {
                continue;
            };
            let patch = json(&serde_json::json!({
                "metadata": { "annotations": { STORE_ANNOTATION: id } },
            }));
            match self.api.patch(&path, Patch::Merge, &patch).await {
                Err(error) if error.is_transient() || error.is_not_found() => {
                    debug!(%node, %error, "which database the node has is written down later");
                }
                Err(error) => {
                    // Until cloudcore starts again it is known all the same.
                    warn!(%node, %error, "which database the node has cannot be written down");
                    self.records.lock().wrote_database(&node, &id);
                }
                Ok(_) => self.records.lock().wrote_database(&node, &id),
            }
        }
    }

    /// Finds and repairs what differs. Objects are read again side by side, and waited for, so that
    /// no comparison starts before the last one's reads are done.
    async fn compare_node(&self, node: &NodeName, readers: &Arc<Semaphore>) {
        let mut reads = tokio::task::JoinSet::new();
        {
            let index = self.index.lock();
            let held = self.records.lock().held(node);
            let exists = |key: &ObjectKey| index.uid_of(key).cloned();
            for difference in compare(&index.wanted(node), &held, is_watched, exists) {
                let Some((key, uid, op)) = self.repair(node, difference) else { continue };
                debug!(%node, object = %key, "is missing or old at the node");
                let (downstream, node) = (self.downstream.clone(), node.clone());
                let readers = Arc::clone(readers);
                reads.spawn(async move {
                    let Ok(_one) = readers.acquire().await else { return };
                    downstream.resend(&node, &key, &uid, op).await;
                });
            }
        }
        if let Some(devices) = self.devices.as_ref().filter(|d| *d.liveness().borrow()) {
            self.compare_devices(node, devices, readers, &mut reads);
        }
        while reads.join_next().await.is_some() {}
    }

    /// The same for devices. Models are at hand and are offered before any device.
    fn compare_devices(
        &self,
        node: &NodeName,
        devices: &Devices,
        readers: &Arc<Semaphore>,
        reads: &mut tokio::task::JoinSet<()>,
    ) {
        let index = devices.index().lock();
        let held = self.records.lock().held(node);
        let exists = |key: &ObjectKey| index.uid_at(node, key).cloned();
        for difference in compare(&index.wanted(node), &held, is_device, exists) {
            let Some((key, uid, op)) = self.repair(node, difference) else { continue };
            debug!(%node, object = %key, "is missing or old at the node");
            if let Some(model) = index.model(&key) {
                self.registry.offer(node, push(op, model.clone()));
                continue;
            }
            let (devices, node) = (devices.clone(), node.clone());
            let readers = Arc::clone(readers);
            reads.spawn(async move {
                let Ok(_one) = readers.acquire().await else { return };
                devices.resend(&node, &key, &uid, op).await;
            });
        }
    }

    /// Deletes at once; returns what has to be sent and is not on its way.
    fn repair(&self, node: &NodeName, difference: Difference) -> Option<(ObjectKey, Uid, PushOp)> {
        match difference {
            Difference::Delete { key, uid } => {
                if !self.registry.covers(node, &key, &uid, None) {
                    debug!(%node, object = %key, "is gone, and the node still holds it");
                }
                self.registry.offer(node, deletion(&key, &uid, None));
                None
            }
            Difference::Send { key, uid, op } => {
                let covered = self.registry.covers(node, &key, &uid, Some(ResourceVersion(1)));
                (!covered).then_some((key, uid, op))
            }
        }
    }

    /// Writes behind until told to stop, and then all that is left: what a node holds and nobody
    /// knows of would stay there when it is gone in the cloud. A write that has begun is always
    /// waited for.
    async fn write_loop(&self, stopping: &CancellationToken) {
        let mut attempt = 0;
        while !stopping.is_cancelled() {
            let pause = if self.write_some().await {
                self.write_databases().await;
                attempt = 0;
                WRITE_EVERY
            } else {
                attempt += 1;
                PAUSE.next_delay(attempt)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => {}
            }
        }
        // Sessions that have not seen yet that they are to end may still send and hear something.
        self.registry.all_left().await;
        self.write_some().await;
    }

    /// Writes all that waits; false if the server is away.
    async fn write_some(&self) -> bool {
        let mut running = tokio::task::JoinSet::new();
        let mut well = true;
        loop {
            while well && running.len() < WRITERS {
                let Some(write) = self.records.lock().take() else { break };
                let this = self.clone();
                running.spawn(async move {
                    let outcome = this.write(&write).await;
                    (write, outcome)
                });
            }
            let Some(ended) = running.join_next().await else { return well };
            let Ok((write, outcome)) = ended else { continue };
            let failed = outcome.map_err(|error| judge(&write, &error));
            well &= failed != Err(Failed::Later);
            if failed.is_ok() {
                self.metrics.records_written.inc();
            }
            self.records.lock().wrote(&write, failed);
        }
    }

    async fn write(&self, write: &Write) -> Result<(), ApiError> {
        let namespace = write.key.namespace.as_ref().map(|n| n.as_str());
        let plural = if namespace.is_some() { "objectsyncs" } else { "clusterobjectsyncs" };
        let collection = Path::of(GROUP, plural, namespace)?;
        let name = write.id.to_string();
        let path = collection.clone().named(&name)?;
        let version = match write.change {
            Change::Delete => return self.api.delete(&path, &RawJson::null()).await.map(drop),
            Change::Set(version) => version,
            Change::Create(version) => {
                let Some((api_version, kind, _)) = gvk(&write.key.kind) else { return Ok(()) };
                let object = json(&serde_json::json!({
                    "apiVersion": GROUP,
                    "kind": if namespace.is_some() { "ObjectSync" } else { "ClusterObjectSync" },
                    "metadata": { "name": name },
                    "spec": {
                        "objectAPIVersion": api_version,
                        "objectKind": kind,
                        "objectName": write.key.name,
                    },
                }));
                match self.api.create(&collection, &object).await {
                    Err(error) if !error.already_exists() => return Err(error),
                    _ => version,
                }
            }
        };
        let status = serde_json::json!({
            "status": { "objectResourceVersion": version.to_string() },
        });
        self.api.patch(&path.named("status")?, Patch::Merge, &json(&status)).await.map(drop)
    }
}

fn json(value: &serde_json::Value) -> RawJson {
    // Maps with string keys always have a JSON form.
    RawJson::of(value).unwrap_or_else(|_| RawJson::null())
}

fn judge(write: &Write, error: &ApiError) -> Failed {
    debug!(record = %write.id, %error, "a record could not be written");
    if error.is_transient() {
        Failed::Later
    } else if error.is_not_found() {
        Failed::Missing
    } else {
        Failed::Hopeless
    }
}

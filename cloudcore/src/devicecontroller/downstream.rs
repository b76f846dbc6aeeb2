//! Watches of devices and models, into the index, into the outboxes.
//!
//! Owns: one watch per kind.
//! Called by: `app.rs`.
//! Never: decides who needs what ([`super::index`] does).

use std::sync::Arc;

use api::names::{Kind, NodeName, ObjectKey, Uid};
use api::wire::downstream::PushOp;
use parking_lot::Mutex;
use service::CancellationToken;
use tokio::sync::watch;
use tracing::{info, trace};

use super::index::Index;
use super::upstream::Upstream;
use crate::apiserver::{ApiServer, Path};
use crate::cloudhub::registry::Registry;
use crate::edgecontroller::index::{Index as Nodes, Tell, push};
use crate::metrics::Metrics;
use crate::object::Object;
use crate::synccontroller::records::Records;
use crate::watching::{self, Seen};

/// The kinds that are watched.
const KINDS: [Kind; 2] = [Kind::DeviceModel, Kind::Device];

/// See the module.
#[derive(Clone)]
pub struct Downstream {
    api: ApiServer,
    /// Who needs what. Offers are made under its lock, as those of pods are under theirs.
    index: Arc<Mutex<Index>>,
    /// Which nodes there are. Locked after `index`, never before it.
    nodes: Arc<Mutex<Nodes>>,
    registry: Arc<Registry>,
    records: Arc<Mutex<Records>>,
    upstream: Upstream,
    metrics: Metrics,
    synced: Arc<watch::Sender<usize>>,
    live: Arc<watch::Sender<bool>>,
}

impl Downstream {
    /// Nothing watched yet.
    pub fn new(
        api: ApiServer,
        nodes: Arc<Mutex<Nodes>>,
        registry: Arc<Registry>,
        records: Arc<Mutex<Records>>,
        metrics: Metrics,
    ) -> Self {
        let index = Arc::<Mutex<Index>>::default();
        let live = Arc::new(watch::channel(false).0);
        let upstream = Upstream::new(
            api.clone(),
            Arc::clone(&registry),
            Arc::clone(&index),
            live.subscribe(),
            metrics.clone(),
        );
        let synced = Arc::new(watch::channel(0).0);
        Self { api, index, nodes, registry, records, upstream, metrics, synced, live }
    }

    /// Where reports go.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What is known of devices.
    pub fn index(&self) -> &Mutex<Index> {
        &self.index
    }

    /// Whether nodes are told of changes.
    pub fn liveness(&self) -> watch::Receiver<bool> {
        self.live.subscribe()
    }

    /// Watches, and writes what is reported, until told to stop. `records` becomes true once it is
    /// known what nodes hold: before, everything in the first lists would look new.
    pub async fn run(self, mut records: watch::Receiver<bool>, stopping: CancellationToken) {
        let watches = async {
            tokio::join!(self.watch(&KINDS[0]), self.watch(&KINDS[1]));
        };
        let going_live = async {
            let listed = self.synced.subscribe().wait_for(|n| *n >= KINDS.len()).await.is_ok();
            if listed && records.wait_for(|known| *known).await.is_ok() {
                // No change may fall between the last one that is not told and the comparison.
                let _no_change = self.index.lock();
                self.live.send_replace(true);
                info!("devices are known");
            }
            std::future::pending::<()>().await;
        };
        let reports = async {
            // The sender lives in `self`, so waiting cannot fail.
            let _ = self.live.subscribe().wait_for(|live| *live).await;
            self.upstream.run().await;
        };
        tokio::select! {
            () = async { tokio::join!(watches, going_live, reports); } => {}
            () = stopping.cancelled() => {}
        }
        if *self.live.borrow() {
            self.upstream.finish().await;
        }
    }

    async fn watch(&self, kind: &Kind) {
        let mut first = true;
        let on = |seen| {
            let done = matches!(seen, Seen::Listed);
            self.seen(kind, seen);
            if done && std::mem::take(&mut first) {
                self.synced.send_modify(|n| *n += 1);
            }
        };
        watching::watch(&self.api, &self.metrics, kind, None, on).await;
    }

    fn seen(&self, kind: &Kind, seen: Seen) {
        let status = self.registry.status();
        let mut index = self.index.lock();
        let tell = match seen {
            Seen::Begin => {
                status.begin_reset(kind);
                return index.begin_reset(kind.clone());
            }
            Seen::Listed => {
                let (tell, gone) = index.finish_reset(kind);
                status.finish_reset(kind);
                for key in gone.iter().filter(|k| k.kind == Kind::Device) {
                    self.upstream.forget(key);
                }
                tell
            }
            Seen::There(object) => {
                status.object(&object);
                if object.key.kind == Kind::Device {
                    self.upstream.device(&object.key, &object.uid);
                }
                index.apply(object)
            }
            Seen::Gone(object) => {
                status.gone(&object.key);
                if object.key.kind == Kind::Device {
                    self.upstream.forget(&object.key);
                }
                index.delete(object)
            }
        };
        self.tell(tell);
    }

    /// What is for a node that does not exist (yet) is found by the SyncController when it does.
    fn tell(&self, tell: Vec<Tell>) {
        if !*self.live.borrow() {
            return;
        }
        for (node, push) in tell {
            if self.nodes.lock().is_edge_node(&node) {
                self.registry.offer(&node, push);
            }
        }
    }

    /// Tells a node of an object that it lacks. Models are at hand, and so go before devices, which
    /// are read again.
    pub async fn resend(&self, node: &NodeName, key: &ObjectKey, uid: &Uid, op: PushOp) {
        let Ok(path) = Path::object(key) else { return };
        let object = match self.api.get(&path).await {
            Ok(object) => object,
            // The next comparison tries again.
            Err(error) => return trace!(%node, object = %key, %error, "cannot be read again"),
        };
        let Ok(object) = Object::read(key.kind.clone(), object.get()) else { return };
        let index = self.index.lock();
        let still = index.uid_at(node, key) == Some(uid) && object.uid == *uid;
        let newer = self.records.lock().version(node, uid).is_none_or(|v| v < object.version);
        if still && newer {
            self.registry.offer(node, push(op, object));
        }
    }
}

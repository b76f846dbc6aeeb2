//! Watches, into the index, into the outboxes.
//!
//! Owns: one watch per kind.
//! Called by: `app.rs`.
//! Never: decides who needs what ([`super::index`] does), or keeps objects.

use std::sync::Arc;

use api::names::{Kind, NodeName, ObjectKey};
use parking_lot::Mutex;
use serde::Deserialize;
use service::CancellationToken;
use tokio::sync::{mpsc, watch};
use tracing::{info, trace, warn};

use super::index::{Index, NodeChange};
use crate::apiserver::{ApiServer, Path};
use crate::cloudhub::registry::Registry;
use crate::metrics::Drop as Dropped;
use crate::metrics::Metrics;
use crate::object::{EDGE_LABEL, Object};
use crate::synccontroller::records::Records;
use crate::watching::{self, PAUSE, Seen};

/// Nodes whose pods have to be looked up.
const JOINING: usize = 1024;

/// What all watches share.
#[derive(Clone)]
pub struct Downstream {
    /// The API server.
    pub api: ApiServer,
    /// Who needs what. Offers are made under its lock: two watches and the SyncController must not
    /// overtake each other with one object.
    pub index: Arc<Mutex<Index>>,
    /// The outboxes.
    pub registry: Arc<Registry>,
    /// What nodes hold.
    pub records: Arc<Mutex<Records>>,
    /// Counts.
    pub metrics: Metrics,
    joining: mpsc::Sender<NodeName>,
    nodes_listed: Arc<watch::Sender<bool>>,
    synced: Arc<watch::Sender<usize>>,
    live: Arc<watch::Sender<bool>>,
}

/// The kinds that are watched, in the order in which they are first listed: a pod means something
/// only once its node is known.
const KINDS: [Kind; 4] = [Kind::Node, Kind::ConfigMap, Kind::Secret, Kind::Pod];

/// The other end of [`Downstream`]: nodes whose pods were seen before the node was.
pub struct Joining(mpsc::Receiver<NodeName>);

impl Downstream {
    /// Nothing watched yet.
    pub fn new(
        api: ApiServer,
        index: Arc<Mutex<Index>>,
        registry: Arc<Registry>,
        records: Arc<Mutex<Records>>,
        metrics: Metrics,
    ) -> (Self, Joining) {
        let (joining, joined) = mpsc::channel(JOINING);
        let nodes_listed = Arc::new(watch::channel(false).0);
        let synced = Arc::new(watch::channel(0).0);
        let live = Arc::new(watch::channel(false).0);
        let this =
            Self { api, index, registry, records, metrics, joining, nodes_listed, synced, live };
        (this, Joining(joined))
    }

    /// From now on nodes are told of changes. Before, everything in the first lists would look new;
    /// what of it a node lacks is for the SyncController to find, once it knows what nodes hold.
    pub fn go_live(&self) {
        // No change may fall between the last one that is not told and the first comparison.
        let _no_change = self.index.lock();
        self.live.send_replace(true);
    }

    /// Whether nodes are told of changes.
    pub fn liveness(&self) -> watch::Receiver<bool> {
        self.live.subscribe()
    }

    /// Returns once nodes are told of changes.
    pub async fn is_live(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.live.subscribe().wait_for(|live| *live).await;
    }

    /// Returns once every kind has been listed.
    pub async fn synced(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|n| *n >= KINDS.len()).await;
    }

    /// Watches all kinds until told to stop.
    pub async fn run(self, joining: Joining, stopping: CancellationToken) {
        let mut tasks = tokio::task::JoinSet::new();
        for kind in KINDS {
            let (this, stopping) = (self.clone(), stopping.clone());
            tasks.spawn(async move {
                let run = async {
                    if kind == Kind::Pod {
                        // The sender lives in `this`, so waiting cannot fail.
                        let _ = this.nodes_listed.subscribe().wait_for(|l| *l).await;
                    }
                    this.watch(kind).await;
                };
                tokio::select! {
                    () = run => {}
                    () = stopping.cancelled() => {}
                }
            });
        }
        let this = self.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = this.look_up(joining) => {}
                () = stopping.cancelled() => {}
            }
        });
        while tasks.join_next().await.is_some() {}
    }

    async fn watch(&self, kind: Kind) {
        let labels = (kind == Kind::Node).then(|| format!("{EDGE_LABEL}="));
        let mut first = true;
        let on = |seen| {
            let done = matches!(seen, Seen::Listed);
            self.seen(&kind, seen);
            if done && std::mem::take(&mut first) {
                if kind == Kind::Node {
                    self.nodes_listed.send_replace(true);
                }
                self.synced.send_modify(|n| *n += 1);
            }
        };
        watching::watch(&self.api, &self.metrics, &kind, labels.as_deref(), on).await;
    }

    fn seen(&self, kind: &Kind, seen: Seen) {
        match seen {
            Seen::Begin => {
                self.registry.status().begin_reset(kind);
                self.index.lock().begin_reset(kind.clone());
            }
            Seen::Listed => {
                let mut index = self.index.lock();
                let change = index.finish_reset(kind);
                self.registry.status().finish_reset(kind);
                self.apply(&mut index, change);
            }
            Seen::There(object) => self.object(object, false),
            Seen::Gone(object) => self.object(object, true),
        }
    }

    fn object(&self, object: Object, gone: bool) {
        let mut index = self.index.lock();
        let tell = |tell| NodeChange { tell, ..NodeChange::default() };
        self.show(&index, &object, gone);
        let change = match (&object.key.kind, gone) {
            (Kind::Pod, false) => tell(index.apply_pod(object)),
            (Kind::Pod, true) => tell(index.delete_pod(object)),
            (Kind::Node, false) => index.apply_node(object),
            (Kind::Node, true) => index.delete_node(&object),
            (_, false) => tell(index.apply_object(object)),
            (_, true) => tell(index.delete_object(object)),
        };
        self.apply(&mut index, change);
    }

    /// Puts edge nodes and their pods before the eyes of whoever reads the status stream.
    fn show(&self, index: &Index, object: &Object, gone: bool) {
        let status = self.registry.status();
        let pod_node = object.pod.as_ref().and_then(|p| p.node.as_ref());
        match &object.key.kind {
            _ if gone => status.gone(&object.key),
            Kind::Node if object.is_edge_node => status.object(object),
            Kind::Pod if pod_node.is_some_and(|n| index.is_edge_node(n)) => status.object(object),
            _ => {}
        }
    }

    /// Carries out what the index has decided. The lock is held, so that the order of offers is
    /// that of decisions.
    fn apply(&self, _decided: &mut Index, change: NodeChange) {
        for node in change.left {
            info!(%node, "node removed");
            self.registry.forget(&node);
            self.registry.status().forget(&node);
            self.records.lock().forget(&node);
        }
        if *self.live.borrow() {
            for (node, push) in change.tell {
                self.registry.offer(&node, push);
            }
        }
        if let Some(node) = change.joined {
            info!(%node, "edge node");
            // Pods are listed after the first list of nodes anyway.
            if *self.nodes_listed.borrow() && self.joining.try_send(node).is_err() {
                self.metrics.dropped(Dropped::QueueFull, 1);
            }
        }
    }

    /// Pods that were seen before their node was known to be an edge node were left out of the
    /// index; they are read now.
    async fn look_up(&self, mut joining: Joining) {
        self.synced().await;
        while let Some(node) = joining.0.recv().await {
            let Ok(pods) = Path::collection(&Kind::Pod, None) else { return };
            let pods = pods.query(&format!("fieldSelector=spec.nodeName%3D{node}"));
            let mut attempt = 0;
            loop {
                match self.api.get(&pods).await {
                    Ok(list) => {
                        self.read_list(&list);
                        break;
                    }
                    Err(error) if !self.index.lock().is_edge_node(&node) => {
                        trace!(%node, %error, "the node is gone again");
                        break;
                    }
                    Err(error) => {
                        if attempt == 0 {
                            warn!(%node, %error, "the pods of a new node cannot be read");
                        }
                        tokio::time::sleep(PAUSE.next_delay(attempt)).await;
                        attempt += 1;
                    }
                }
            }
        }
    }

    fn read_list(&self, list: &api::raw::RawJson) {
        #[derive(Deserialize)]
        struct List {
            items: Option<Vec<api::raw::RawJson>>,
        }
        let Ok(list) = list.to::<List>() else { return };
        for item in list.items.unwrap_or_default() {
            if let Ok(object) = Object::read(Kind::Pod, item.get()) {
                self.object(object, false);
            }
        }
    }

    /// Reads an object again and tells the node, unless it has changed or gone meanwhile; then a
    /// watch tells.
    pub async fn resend(
        &self,
        node: &NodeName,
        key: &ObjectKey,
        uid: &api::names::Uid,
        op: api::wire::downstream::PushOp,
    ) {
        let Ok(path) = Path::object(key) else { return };
        let object = match self.api.get(&path).await {
            Ok(object) => object,
            // The next comparison tries again.
            Err(error) => return trace!(%node, object = %key, %error, "cannot be read again"),
        };
        let Ok(object) = Object::read(key.kind.clone(), object.get()) else { return };
        let index = self.index.lock();
        let still = index.uid_of(key) == Some(uid) && object.uid == *uid;
        let newer = self.records.lock().version(node, uid).is_none_or(|v| v < object.version);
        if still && newer {
            let op = if object.deleting { api::wire::downstream::PushOp::Update } else { op };
            self.registry.offer(node, super::index::push(op, object));
        }
    }
}

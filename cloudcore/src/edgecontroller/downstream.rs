//! Watches, into the index, into the outboxes.
//!
//! Owns: one watch per kind.
//! Called by: `app.rs`.
//! Never: decides who needs what ([`super::index`] does), or keeps objects.

use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind, NodeName, ObjectKey};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use service::CancellationToken;
use service::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tracing::{info, trace, warn};

use super::index::{Index, NodeChange};
use crate::apiserver::{ApiServer, Path};
use crate::cloudhub::registry::Registry;
use crate::metrics::Drop as Dropped;
use crate::metrics::Metrics;
use crate::object::{EDGE_LABEL, Object, gvk};
use crate::synccontroller::records::Records;

/// The pause after a failed list or watch. The API server may be restarting, and edges wait.
const PAUSE: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// How long one watch lasts before it is renewed.
const WATCH_SECONDS: u32 = 60;
/// Nodes whose pods have to be looked up.
const JOINING: usize = 1024;

/// An object of a watch: its text. kube wants to see its version, so that is read, too.
#[derive(Debug, Clone)]
struct Raw {
    meta: ObjectMeta,
    text: Box<str>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            metadata: Meta,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Meta {
            name: Option<String>,
            resource_version: Option<String>,
        }
        let raw = Box::<RawValue>::deserialize(de)?;
        let head: Head = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let meta = ObjectMeta {
            name: head.metadata.name,
            resource_version: head.metadata.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Self { meta, text: Box::<str>::from(raw) })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

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
        let Some((version, name, plural)) = gvk(&kind) else { return };
        let resource = ApiResource {
            group: String::new(),
            version: version.to_owned(),
            api_version: version.to_owned(),
            kind: name.to_owned(),
            plural: plural.to_owned(),
        };
        let api: Api<Raw> = Api::all_with(self.api.client().clone(), &resource);
        // A connection that has died in silence is noticed when its time is up.
        let mut config = watcher::Config::default().page_size(500).timeout(WATCH_SECONDS);
        if kind == Kind::Node {
            config = config.labels(&format!("{EDGE_LABEL}="));
        }
        let mut events = Box::pin(watcher::watcher(api, config));
        let mut failures = 0;
        let mut first = true;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    failures = 0;
                    let done = matches!(event, Event::InitDone);
                    self.event(&kind, event);
                    if done && std::mem::take(&mut first) {
                        if kind == Kind::Node {
                            self.nodes_listed.send_replace(true);
                        }
                        self.synced.send_modify(|n| *n += 1);
                    }
                }
                Err(error) => {
                    let pause = PAUSE.next_delay(failures);
                    // Once: a server that is away fails every watch again and again.
                    if failures == 0 {
                        let error = service::error_chain(&error);
                        warn!(kind = name, error, "the watch is interrupted");
                    }
                    failures += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn event(&self, kind: &Kind, event: Event<Raw>) {
        let (raw, gone) = match event {
            Event::Init => {
                self.registry.status().begin_reset(kind);
                return self.index.lock().begin_reset(kind.clone());
            }
            Event::InitDone => {
                let mut index = self.index.lock();
                let change = index.finish_reset(kind);
                self.registry.status().finish_reset(kind);
                return self.apply(&mut index, change);
            }
            Event::Apply(raw) | Event::InitApply(raw) => (raw, false),
            Event::Delete(raw) => (raw, true),
        };
        match Object::read(kind.clone(), &raw.text) {
            Ok(object) => self.object(object, gone),
            Err(error) => {
                let name = raw.meta.name.unwrap_or_default();
                warn!(kind = kind.as_str(), name, %error, "an object is skipped");
                self.metrics.dropped(Dropped::ObjectUnreadable, 1);
            }
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

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    #[test]
    fn the_text_of_an_object_survives_lists_and_watches() {
        let pod = r#"{"metadata":{"name":"web","resourceVersion":"7"},"spec":{"new":1.50}}"#;
        let list = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{pod}]}}"#
        );
        let list: ObjectList<Raw> = serde_json::from_str(&list).unwrap();
        assert_eq!(&*list.items[0].text, pod);
        let event = format!(r#"{{"type":"MODIFIED","object":{pod}}}"#);
        let WatchEvent::Modified(raw) = serde_json::from_str::<WatchEvent<Raw>>(&event).unwrap()
        else {
            panic!("not a change")
        };
        assert_eq!(&*raw.text, pod);
        assert_eq!(raw.meta.resource_version.as_deref(), Some("7"));
    }
}

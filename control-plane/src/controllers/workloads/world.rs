//! The objects that the workload controllers look at, as of now.
//!
//! Owns: following the tables, the index of pods, who owns whom. Called by: `mod.rs` before each
//! decision. Never: writes; never waits but for a change.
//!
//! The store is in this process and a write is seen as soon as it is acknowledged. So
//! [`World::refresh`], called before a decision, leaves nothing of our own doing unseen, and no
//! controller needs to remember what it expects to see.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::pods::{Pod, TRACKING};
use super::{Kind, Work};
use crate::plane::Plane;
use crate::registry::meta;
use crate::registry::selectors::LabelSelector;
use crate::store::Stored;
use crate::store::watch::Watcher;

/// What is known.
#[derive(Default)]
pub(crate) struct World {
    objects: HashMap<Kind, BTreeMap<String, Value>>,
    pods: BTreeMap<String, Pod>,
    /// Pods by the uid of their controller.
    pods_of: HashMap<String, BTreeSet<String>>,
    /// Pods that nobody controls.
    orphans: BTreeSet<String>,
    /// Other objects by the uid of their controller.
    owned: HashMap<String, BTreeSet<(Kind, String)>>,
}

/// The controller of an object.
pub(crate) fn controller_of(object: &Value) -> Option<&Value> {
    object["metadata"]["ownerReferences"].as_array()?.iter().find(|o| o["controller"] == true)
}

/// The object's key in its table.
fn key_of(object: &Value) -> String {
    format!("{}/{}", meta::namespace(object), meta::name(object))
}

/// What of an object is kept: no bookkeeping of fields, and of a node only what daemons ask.
fn kept(kind: Kind, mut object: Value) -> Value {
    meta::metadata(&mut object).remove("managedFields");
    if kind != Kind::Node {
        return object;
    }
    let m = &object["metadata"];
    json!({"metadata": {"name": m["name"], "uid": m["uid"], "labels": m["labels"], "deletionTimestamp": m["deletionTimestamp"]},
        "spec": {"taints": object["spec"]["taints"], "unschedulable": object["spec"]["unschedulable"]}})
}

impl World {
    pub(crate) fn get(&self, kind: Kind, key: &str) -> Option<&Value> {
        self.objects.get(&kind)?.get(key)
    }

    /// All of a kind in a namespace; all at all if it is empty.
    pub(crate) fn all(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Value> {
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        self.objects.get(&kind).into_iter().flat_map(move |m| range(m, &prefix).collect::<Vec<_>>())
    }

    /// Objects of a kind that `uid` controls.
    pub(crate) fn owned(&self, kind: Kind, uid: &str) -> Vec<&Value> {
        let keys = self.owned.get(uid).into_iter().flatten();
        keys.filter(|(k, _)| *k == kind).filter_map(|(k, key)| self.get(*k, key)).collect()
    }

    /// Pods that `uid` controls.
    pub(crate) fn pods_of(&self, uid: &str) -> impl Iterator<Item = &Pod> {
        self.pods_of.get(uid).into_iter().flatten().filter_map(|k| self.pods.get(k))
    }

    /// Pods of a namespace that nobody controls.
    pub(crate) fn orphans(&self, namespace: &str) -> impl Iterator<Item = &Pod> {
        let prefix = format!("{namespace}/");
        let from = self.orphans.range(prefix.clone()..);
        from.take_while(move |k| k.starts_with(&prefix)).filter_map(|k| self.pods.get(k))
    }

    pub(crate) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &Pod> {
        range(&self.pods, &format!("{namespace}/")).collect::<Vec<_>>().into_iter()
    }

    /// Takes in a new or changed object; says whose work it makes.
    pub(crate) fn put(&mut self, kind: Kind, object: Value, touched: &mut BTreeSet<Work>) {
        let (key, object) = (key_of(&object), kept(kind, object));
        if kind == Kind::Node && self.get(kind, &key) == Some(&object) {
            return;
        }
        self.touch(kind, &key, &object, touched);
        self.forget(kind, &key, touched);
        if let Some(uid) = controller_of(&object).and_then(|o| o["uid"].as_str()) {
            self.owned.entry(uid.to_owned()).or_default().insert((kind, key.clone()));
        }
        self.objects.entry(kind).or_default().insert(key, object);
    }

    /// Lets go of an object.
    pub(crate) fn forget(&mut self, kind: Kind, key: &str, touched: &mut BTreeSet<Work>) {
        let Some(old) = self.objects.get_mut(&kind).and_then(|m| m.remove(key)) else { return };
        self.touch(kind, key, &old, touched);
        if let Some(uid) = controller_of(&old).and_then(|o| o["uid"].as_str())
            && let Some(set) = self.owned.get_mut(uid)
        {
            set.remove(&(kind, key.to_owned()));
            if set.is_empty() {
                self.owned.remove(uid);
            }
        }
    }

    pub(crate) fn put_pod(&mut self, pod: Pod, touched: &mut BTreeSet<Work>) {
        let key = pod.key();
        self.touch_pod(&pod, touched);
        self.forget_pod(&key, touched);
        match &pod.controller {
            Some(c) => {
                self.pods_of.entry(c.uid.clone()).or_default().insert(key.clone());
            }
            None => {
                self.orphans.insert(key.clone());
            }
        }
        self.pods.insert(key, pod);
    }

    pub(crate) fn forget_pod(&mut self, key: &str, touched: &mut BTreeSet<Work>) {
        let Some(old) = self.pods.remove(key) else { return };
        self.touch_pod(&old, touched);
        self.orphans.remove(key);
        if let Some(c) = &old.controller
            && let Some(set) = self.pods_of.get_mut(&c.uid)
        {
            set.remove(key);
            if set.is_empty() {
                self.pods_of.remove(&c.uid);
            }
        }
    }

    /// Whose work a change of an object is.
    fn touch(&self, kind: Kind, key: &str, object: &Value, touched: &mut BTreeSet<Work>) {
        touched.insert((kind, key.to_owned()));
        if let Some(owner) = controller_of(object)
            && let Some(kind) = Kind::named(owner["kind"].as_str().unwrap_or_default())
        {
            let name = owner["name"].as_str().unwrap_or_default();
            touched.insert((kind, format!("{}/{name}", meta::namespace(object))));
        }
        match kind {
            Kind::Node => {
                let all = self.objects.get(&Kind::DaemonSet).into_iter().flat_map(BTreeMap::keys);
                touched.extend(all.map(|k| (Kind::DaemonSet, k.clone())));
            }
            Kind::ReplicaSet => {
                self.touch_budgets(object, touched);
                if controller_of(object).is_some() {
                    return;
                }
                // A set without an owner may be taken over.
                self.touch_selecting(
                    &[Kind::Deployment],
                    meta::namespace(object),
                    |k| object.pointer("/metadata/labels")?.get(k)?.as_str(),
                    touched,
                );
            }
            Kind::Deployment | Kind::StatefulSet => self.touch_budgets(object, touched),
            Kind::Endpoints => {
                touched.insert((Kind::Service, key.to_owned()));
            }
            Kind::EndpointSlice => {
                let service =
                    meta::text(object, "/metadata/labels/kubernetes.io~1service-name").to_owned();
                touched.insert((Kind::Service, format!("{}/{service}", meta::namespace(object))));
            }
            Kind::Claim => {
                // The set that made it, if one did, may wait for it to go.
                let sets = self.objects.get(&Kind::StatefulSet);
                let all = sets.into_iter().flat_map(|m| range_keys(m, meta::namespace(object)));
                touched.extend(all.map(|k| (Kind::StatefulSet, k)));
            }
            _ => {}
        }
    }

    /// Budgets that are shares depend on what workloads ask for.
    fn touch_budgets(&self, object: &Value, touched: &mut BTreeSet<Work>) {
        let budgets = self.objects.get(&Kind::Budget);
        let all = budgets.into_iter().flat_map(|m| range_keys(m, meta::namespace(object)));
        touched.extend(all.map(|k| (Kind::Budget, k)));
    }

    fn touch_pod(&self, pod: &Pod, touched: &mut BTreeSet<Work>) {
        let label = |k: &str| pod.labels.get(k).map(String::as_str);
        match &pod.controller {
            Some(c) => {
                if let Some(kind) = Kind::named(&c.kind) {
                    touched.insert((kind, format!("{}/{}", pod.namespace, c.name)));
                }
                // Recreating deployments wait for the pods of their old sets.
                let set = self.get(Kind::ReplicaSet, &format!("{}/{}", pod.namespace, c.name));
                if let Some(owner) = set.and_then(controller_of) {
                    let name = owner["name"].as_str().unwrap_or_default();
                    touched.insert((Kind::Deployment, format!("{}/{name}", pod.namespace)));
                }
            }
            None => {
                // A job's pod that was left behind still waits to be let go.
                if pod.finalizers.iter().any(|f| f == TRACKING) {
                    let job = pod.label("batch.kubernetes.io/job-name");
                    touched.insert((Kind::Job, format!("{}/{job}", pod.namespace)));
                }
                let takers = [Kind::ReplicaSet, Kind::DaemonSet, Kind::StatefulSet, Kind::Job];
                self.touch_selecting(&takers, &pod.namespace, label, touched);
            }
        }
        for service in self.all(Kind::Service, &pod.namespace) {
            let selector = service["spec"]["selector"].as_object();
            if selector
                .is_some_and(|s| !s.is_empty() && s.iter().all(|(k, v)| label(k) == v.as_str()))
            {
                touched.insert((Kind::Service, key_of(service)));
            }
        }
        self.touch_selecting(&[Kind::Budget], &pod.namespace, label, touched);
    }

    fn touch_selecting<'a>(
        &self,
        kinds: &[Kind],
        namespace: &str,
        label: impl Fn(&str) -> Option<&'a str>,
        touched: &mut BTreeSet<Work>,
    ) {
        for kind in kinds {
            for object in self.all(*kind, namespace) {
                let selector = LabelSelector::from_value(&object["spec"]["selector"]);
                if selector.is_ok_and(|s| s.matches(&label)) {
                    touched.insert((*kind, key_of(object)));
                }
            }
        }
    }
}

fn range<'a, T>(map: &'a BTreeMap<String, T>, prefix: &str) -> impl Iterator<Item = &'a T> {
    let prefix = prefix.to_owned();
    map.range(prefix.clone()..).take_while(move |(k, _)| k.starts_with(&prefix)).map(|(_, v)| v)
}

fn range_keys<T>(map: &BTreeMap<String, T>, namespace: &str) -> Vec<String> {
    let prefix = format!("{namespace}/");
    let from = map.range(prefix.clone()..);
    from.take_while(|(k, _)| k.starts_with(&prefix)).map(|(k, _)| k.clone()).collect()
}

/// The tables under watch.
pub(crate) struct Tables {
    plane: Arc<Plane>,
    watched: Vec<(Kind, Arc<str>, Option<Watcher>)>,
}

impl Tables {
    pub(crate) fn new(plane: &Arc<Plane>) -> Self {
        let one = |kind: Kind| (kind, plane.registry.builtin(kind.group(), kind.plural()), None);
        let watched =
            Kind::ALL.into_iter().map(one).map(|(k, r, w)| (k, Arc::clone(&r.table), w)).collect();
        Self { plane: Arc::clone(plane), watched }
    }

    /// Brings the world up to date with the store. Returns whose work that makes.
    pub(crate) fn refresh(&mut self, world: &mut World) -> BTreeSet<Work> {
        let mut touched = BTreeSet::new();
        for (kind, table, watcher) in &mut self.watched {
            loop {
                match watcher.as_mut().map(Watcher::poll) {
                    Some(Ok(batch)) if batch.events.is_empty() => break,
                    Some(Ok(batch)) => {
                        for e in &batch.events {
                            take_in(world, *kind, &e.name, &e.object, e.deleted, &mut touched);
                        }
                    }
                    // New, or fallen behind: all of it.
                    None | Some(Err(_)) => {
                        let all = self.plane.store.list(table, "", None);
                        relist(world, *kind, &all.objects, &mut touched);
                        *watcher = Some(self.plane.store.watch(table, "", all.revision));
                    }
                }
            }
        }
        touched
    }

    /// Waits until one of the tables changes.
    pub(crate) async fn changed(&mut self) {
        let all = self.watched.iter_mut().filter_map(|(_, _, w)| w.as_mut());
        futures::future::select_all(all.map(|w| Box::pin(w.changed()))).await;
    }
}

fn take_in(
    world: &mut World,
    kind: Kind,
    name: &str,
    object: &Stored,
    deleted: bool,
    touched: &mut BTreeSet<Work>,
) {
    match (kind, deleted) {
        (Kind::Pod, true) => world.forget_pod(name, touched),
        (Kind::Pod, false) => match Pod::read(&object.text) {
            Some(pod) => world.put_pod(pod, touched),
            None => tracing::warn!(pod = name, "a pod cannot be read and is passed over"),
        },
        (_, true) => world.forget(kind, name, touched),
        (_, false) => world.put(kind, object.value(), touched),
    }
}

fn relist(
    world: &mut World,
    kind: Kind,
    all: &[(Box<str>, Arc<Stored>)],
    touched: &mut BTreeSet<Work>,
) {
    let live: BTreeSet<&str> = all.iter().map(|(n, _)| &**n).collect();
    let known: Vec<String> = match kind {
        Kind::Pod => world.pods.keys().cloned().collect(),
        _ => world.objects.get(&kind).into_iter().flat_map(BTreeMap::keys).cloned().collect(),
    };
    for gone in known.iter().filter(|k| !live.contains(k.as_str())) {
        match kind {
            Kind::Pod => world.forget_pod(gone, touched),
            _ => world.forget(kind, gone, touched),
        }
    }
    for (name, object) in all {
        take_in(world, kind, name, object, false, touched);
    }
}

//! Objects whose owner is gone, and owners that wait for their dependents.
//!
//! Owns: background, foreground and orphaning deletion. Called by: `controllers::spawn`.
//! Never: deletes an object that has an owner left, or whose owner is of a kind that is not served. An owner
//! is what is found where the reference says, as in Kubernetes: one of another kind, name or namespace is
//! none, whatever its uid.
//!
//! The graph remembers which of its objects are touched by a change: the object itself, its owners and
//! its dependents. Only these are looked at, so that the cost of a change does not grow with the
//! number of objects.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::events;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, Propagation, delete};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, Resource, Snapshot, meta};
use crate::store::watch::Watcher;

/// How long after a change things are looked at, so that a burst is looked at once.
const PAUSE: Duration = Duration::from_millis(20);
/// How often everything is looked at again.
const REPAIR: Duration = Duration::from_secs(60);
/// Steps taken at the same time.
const TOGETHER: usize = 64;
/// Events are many, never own anything, and end by themselves.
const SKIPPED: &str = "core/events";

/// An owner as a dependent names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    block_owner_deletion: Option<bool>,
}

/// What the graph needs of an object.
#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    name: String,
    namespace: String,
    owner_references: Option<Vec<Owner>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

/// An object of the graph.
#[derive(Debug, Clone)]
struct Node {
    table: Arc<str>,
    namespace: String,
    name: String,
    owners: Vec<Owner>,
    terminating: bool,
    orphaning: bool,
    foreground: bool,
}

impl Node {
    fn going(&self) -> (bool, bool, bool) {
        (self.terminating, self.orphaning, self.foreground)
    }
}

/// Who owns whom.
#[derive(Debug, Default)]
struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
    /// To be looked at.
    touched: HashSet<String>,
    /// Of which objects it was told already that an owner is in another namespace.
    told: HashSet<String>,
}

/// Where objects of an owner's kind are.
#[derive(Debug, Clone)]
struct Place {
    table: Arc<str>,
    namespaced: bool,
}

/// What becomes of an object through one of its owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// It stays.
    Holds,
    /// There is no such owner.
    Gone,
    /// The owner takes its dependents along.
    Leaves,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Delete it: no owner is left.
    Delete(String, Option<Propagation>),
    /// Take the owner out of its list.
    Disown(String, String),
    /// Take a finalizer away from it.
    Release(String, &'static str),
    /// Say that its owner is in another namespace.
    Tell(String, Owner),
}

impl Step {
    fn uid(&self) -> &str {
        let (Self::Delete(uid, _)
        | Self::Disown(uid, _)
        | Self::Release(uid, _)
        | Self::Tell(uid, _)) = self;
        uid
    }
}

impl Graph {
    fn put(&mut self, table: &Arc<str>, metadata: Metadata) {
        let Metadata { uid, name, namespace, owner_references, finalizers, deletion_timestamp } =
            metadata;
        let owners = owner_references.unwrap_or_default();
        let has = |f: &str| finalizers.iter().flatten().any(|x| x == f);
        let node = Node {
            table: Arc::clone(table),
            namespace,
            name,
            terminating: deletion_timestamp.is_some(),
            orphaning: has("orphan"),
            foreground: has("foregroundDeletion"),
            owners,
        };
        let before = self.unlink(&uid).map(|n| n.going());
        if before != Some(node.going()) {
            self.touch_dependents(&uid);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            self.touched.insert(owner.uid.clone());
        }
        if !node.owners.is_empty() || node.terminating {
            self.touched.insert(uid.clone());
        }
        self.nodes.insert(uid, node);
    }

    fn forget(&mut self, uid: &str) {
        self.told.remove(uid);
        self.unlink(uid);
        self.touch_dependents(uid);
    }

    fn touch_dependents(&mut self, uid: &str) {
        if let Some(all) = self.dependents.get(uid) {
            self.touched.extend(all.iter().cloned());
        }
    }

    /// Takes an object out; its owners may have waited for that.
    fn unlink(&mut self, uid: &str) -> Option<Node> {
        let old = self.nodes.remove(uid)?;
        for owner in &old.owners {
            let empty = self.dependents.get_mut(&owner.uid).is_some_and(|d| {
                d.remove(uid);
                d.is_empty()
            });
            if empty {
                self.dependents.remove(&owner.uid);
            }
            self.touched.insert(owner.uid.clone());
        }
        Some(old)
    }

    /// All the judgement: what must happen to an object in this state of the graph. `place` says where
    /// objects of an owner's kind are, if the kind is known.
    fn steps(&self, uid: &str, place: &dyn Fn(&Owner) -> Option<Place>) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(node) = self.nodes.get(uid) else { return steps };
        self.owner_steps(uid, node, &mut steps);
        if node.owners.is_empty() || node.terminating {
            return steps;
        }
        if !self.told.contains(uid) {
            let strange = node.owners.iter().find(|o| self.is_elsewhere(node, o));
            steps.extend(strange.map(|o| Step::Tell(uid.to_owned(), o.clone())));
        }
        let ties = node.owners.iter().map(|o| Some((o, self.tie(node, o, &place(o)?)?)));
        // Of another kind, nobody can say that its object is gone.
        let Some(ties) = ties.collect::<Option<Vec<_>>>() else { return steps };
        if ties.iter().any(|(_, t)| *t == Tie::Holds) {
            // One that leaves would wait for this object for ever.
            let others = ties.iter().filter(|(_, t)| *t != Tie::Holds);
            steps.extend(others.map(|(o, _)| Step::Disown(uid.to_owned(), o.uid.clone())));
            return steps;
        }
        let foreground = ties.iter().any(|(_, t)| *t == Tie::Leaves);
        steps.push(Step::Delete(uid.to_owned(), foreground.then_some(Propagation::Foreground)));
        steps
    }

    /// An owner is what is found where the reference says, if that has the reference's uid. None if the
    /// reference makes no sense: nothing in a namespace owns what is in none.
    fn tie(&self, node: &Node, owner: &Owner, place: &Place) -> Option<Tie> {
        if place.namespaced && node.namespace.is_empty() {
            return None;
        }
        let namespace = if place.namespaced { &*node.namespace } else { "" };
        let found = self
            .nodes
            .get(&owner.uid)
            .filter(|n| n.table == place.table && n.name == owner.name && n.namespace == namespace);
        Some(match found {
            None => Tie::Gone,
            Some(n) if n.terminating && n.foreground => Tie::Leaves,
            Some(_) => Tie::Holds,
        })
    }

    /// Whether an owner is there, but in another namespace.
    fn is_elsewhere(&self, node: &Node, owner: &Owner) -> bool {
        let found = self.nodes.get(&owner.uid).map_or("", |n| &n.namespace);
        !found.is_empty() && found != node.namespace
    }

    fn owner_steps(&self, uid: &str, node: &Node, steps: &mut Vec<Step>) {
        if !node.terminating {
            return;
        }
        let dependents = || self.dependents.get(uid).into_iter().flatten();
        if node.orphaning {
            steps.extend(dependents().map(|d| Step::Disown(d.clone(), uid.to_owned())));
            if dependents().next().is_none() {
                steps.push(Step::Release(uid.to_owned(), "orphan"));
            }
        }
        let blocks = |d: &&String| {
            self.nodes.get(*d).is_some_and(|n| {
                n.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
            })
        };
        if node.foreground && !dependents().any(|d| blocks(&d)) {
            steps.push(Step::Release(uid.to_owned(), "foregroundDeletion"));
        }
    }
}

/// Tables under watch.
#[derive(Default)]
struct Watched {
    watchers: BTreeMap<Arc<str>, Watcher>,
}

impl Watched {
    /// Brings the graph up to date. Tables come and go with custom kinds.
    fn refresh(&mut self, plane: &Plane, graph: &mut Graph) {
        let snapshot = plane.kinds();
        let tables: BTreeSet<Arc<str>> = snapshot
            .resources
            .iter()
            .filter(|r| r.can("delete") && *r.table != *SKIPPED)
            .map(|r| Arc::clone(&r.table))
            .collect();
        self.watchers.retain(|t, _| tables.contains(t));
        for table in &tables {
            loop {
                match self.watchers.get_mut(table).map(Watcher::poll) {
                    Some(Ok(batch)) if batch.events.is_empty() => break,
                    Some(Ok(batch)) => {
                        for e in batch.events {
                            let Some(m) = metadata(&e.object.text) else { continue };
                            if e.deleted { graph.forget(&m.uid) } else { graph.put(table, m) }
                        }
                    }
                    // New, or fallen behind: all of it.
                    None | Some(Err(_)) => {
                        let revision = relist(plane, table, graph);
                        let watcher = plane.store.watch(table, "", revision);
                        self.watchers.insert(Arc::clone(table), watcher);
                    }
                }
            }
        }
    }

    /// Waits until one of the tables changes.
    async fn changed(&mut self) {
        if self.watchers.is_empty() {
            return std::future::pending().await;
        }
        let all = self.watchers.values_mut().map(|w| Box::pin(w.changed()));
        futures::future::select_all(all).await;
    }
}

fn metadata(text: &[u8]) -> Option<Metadata> {
    serde_json::from_slice::<Object>(text).ok().map(|o| o.metadata)
}

/// Puts all objects of a table into the graph in place of what it knew. Returns as of when.
fn relist(plane: &Plane, table: &Arc<str>, graph: &mut Graph) -> u64 {
    let all = plane.store.list(table, "", None);
    let live: Vec<Metadata> = all.objects.iter().filter_map(|(_, o)| metadata(&o.text)).collect();
    let uids: HashSet<&str> = live.iter().map(|m| m.uid.as_str()).collect();
    let of_table = graph.nodes.iter().filter(|(_, n)| n.table == *table);
    let gone: Vec<String> =
        of_table.map(|(u, _)| u).filter(|u| !uids.contains(u.as_str())).cloned().collect();
    gone.iter().for_each(|u| graph.forget(u));
    live.into_iter().for_each(|m| graph.put(table, m));
    all.revision
}

/// Where objects of an owner's kind are in the graph.
fn place(snapshot: &Snapshot, owner: &Owner) -> Option<Place> {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let resource =
        snapshot.by_kind(group, version, &owner.kind).filter(|r| *r.table != *SKIPPED)?;
    Some(Place { table: Arc::clone(&resource.table), namespaced: resource.namespaced })
}

/// Follows all tables.
pub(crate) async fn run(plane: Arc<Plane>) {
    let (mut watched, mut graph) = (Watched::default(), Graph::default());
    let mut repair = tokio::time::interval(REPAIR);
    loop {
        watched.refresh(&plane, &mut graph);
        let touched = std::mem::take(&mut graph.touched);
        // The tables are read one after the other, so that a dependent may be seen before its owner.
        // A second reading has every owner that was there before the first one ended.
        watched.refresh(&plane, &mut graph);
        let snapshot = plane.kinds();
        let place = |o: &Owner| place(&snapshot, o);
        let steps: Vec<Step> = touched.iter().flat_map(|u| graph.steps(u, &place)).collect();
        let told = steps.iter().filter(|s| matches!(s, Step::Tell(..)));
        graph.told.extend(told.map(|s| s.uid().to_owned()));
        for chunk in steps.chunks(TOGETHER) {
            let taken = chunk.iter().map(|s| take(&plane, &snapshot, &graph, s));
            let taken = futures::future::join_all(taken).await;
            for (step, e) in chunk.iter().zip(taken).filter_map(|(s, r)| Some((s, r.err()?))) {
                match e.code {
                    404 => {}
                    409 => {
                        graph.touched.insert(step.uid().to_owned());
                    }
                    _ => tracing::warn!(?step, "garbage collection: {}", e.message),
                }
            }
        }
        if !graph.touched.is_empty() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        tokio::select! {
            () = watched.changed() => tokio::time::sleep(PAUSE).await,
            _ = repair.tick() => {
                let graph = &mut graph;
                graph.touched.extend(graph.nodes.keys().cloned());
            }
        }
    }
}

async fn take(
    plane: &Arc<Plane>,
    snapshot: &Snapshot,
    graph: &Graph,
    step: &Step,
) -> Result<(), Status> {
    let uid = step.uid();
    let Some(node) = graph.nodes.get(uid) else { return Ok(()) };
    let Some(resource): Option<&Arc<Resource>> =
        snapshot.resources.iter().find(|r| r.table == node.table)
    else {
        return Ok(());
    };
    let user = User::internal("serviceaccount:kube-system:generic-garbage-collector");
    let at = (node.namespace.as_str(), node.name.as_str());
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    match step {
        Step::Delete(_, propagation) => {
            let options = DeleteOptions {
                uid: Some(uid.to_owned()),
                propagation: *propagation,
                ..DeleteOptions::default()
            };
            delete(plane, &user, resource, at, &options).await.map(|_| ())
        }
        Step::Disown(_, owner) => {
            let change = |old: &Value| {
                let mut new = old.clone();
                if let Some(list) = meta::metadata(&mut new)
                    .get_mut("ownerReferences")
                    .and_then(Value::as_array_mut)
                {
                    list.retain(|o| o["uid"] != owner.as_str());
                }
                Ok(new)
            };
            modify(plane, &user, resource, at, Part::Main, &options, change).await.map(|_| ())
        }
        Step::Tell(_, owner) => {
            let Owner { api_version, kind, name, uid, .. } = owner;
            let namespace = &node.namespace;
            let message = format!(
                "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
            );
            let about = json!({"apiVersion": resource.api_version(), "metadata": {
                "namespace": namespace, "name": node.name, "uid": step.uid()}});
            let component = "garbage-collector-controller";
            let reason = "OwnerRefInvalidNamespace";
            events::record(plane, component, &about, &resource.kind, "Warning", reason, &message)
                .await;
            Ok(())
        }
        Step::Release(_, finalizer) => {
            let change = |old: &Value| {
                let mut new = old.clone();
                if let Some(list) =
                    meta::metadata(&mut new).get_mut("finalizers").and_then(Value::as_array_mut)
                {
                    list.retain(|f| f != finalizer);
                }
                Ok(new)
            };
            modify(plane, &user, resource, at, Part::Main, &options, change).await.map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(g: &mut Graph, object: &Value) {
        g.put(&"core/x".into(), metadata(object.to_string().as_bytes()).unwrap());
    }

    /// `X` and `Y` are in no namespace, `N` is in one, and nobody knows `Unknown`.
    fn placed(o: &Owner) -> Option<Place> {
        let (table, namespaced) = match o.kind.as_str() {
            "X" => ("core/x", false),
            "Y" => ("core/y", false),
            "N" => ("core/x", true),
            _ => return None,
        };
        Some(Place { table: table.into(), namespaced })
    }

    fn graph(objects: &[Value]) -> Graph {
        let mut g = Graph::default();
        objects.iter().for_each(|o| put(&mut g, o));
        g
    }

    /// What is to be done about all that was touched.
    fn steps(g: &mut Graph) -> Vec<Step> {
        let mut touched: Vec<String> = std::mem::take(&mut g.touched).into_iter().collect();
        touched.sort();
        touched.iter().flat_map(|u| g.steps(u, &placed)).collect()
    }

    fn object(uid: &str, owners: &[&str], more: Value) -> Value {
        let refs: Vec<Value> = owners
            .iter()
            .map(|o| json!({"uid": o, "apiVersion": "v1", "kind": "X", "name": o, "blockOwnerDeletion": true}))
            .collect();
        let mut v = json!({"metadata": {"uid": uid, "name": uid, "ownerReferences": refs}});
        for (k, x) in more.as_object().into_iter().flatten() {
            v["metadata"][k] = x.clone();
        }
        v
    }

    #[test]
    fn an_object_goes_with_its_last_owner() {
        let mut g = graph(&[object("a", &["gone"], json!({}))]);
        assert_eq!(steps(&mut g), [Step::Delete("a".into(), None)]);
        let mut g = graph(&[object("o", &[], json!({})), object("a", &["gone", "o"], json!({}))]);
        assert_eq!(steps(&mut g), [Step::Disown("a".into(), "gone".into())]);
        let mut g = graph(&[object("o", &[], json!({})), object("a", &["o"], json!({}))]);
        assert_eq!(steps(&mut g), []);
        g.forget("o");
        assert_eq!(steps(&mut g), [Step::Delete("a".into(), None)]);
    }

    #[test]
    fn an_owner_of_an_unknown_kind_is_not_known_to_be_gone() {
        let mut a = object("a", &["somebody"], json!({}));
        a["metadata"]["ownerReferences"][0]["kind"] = "Unknown".into();
        assert_eq!(steps(&mut graph(&[a])), []);
    }

    // "Cross-namespace owner references are disallowed by design":
    // https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/ and
    // `isDangling` of Kubernetes' garbage collector.
    #[test]
    fn an_owner_is_what_is_found_where_the_reference_says() {
        let owned = |field: &str, is: &str, namespace: &str| {
            let mut a = object("a", &["o"], json!({"namespace": namespace}));
            a["metadata"]["ownerReferences"][0][field] = is.into();
            a
        };
        let with = |a: Value, namespace: &str| {
            let mut g = graph(&[object("o", &[], json!({"namespace": namespace})), a]);
            steps(&mut g)
        };
        let gone = [Step::Delete("a".into(), None)];
        assert_eq!(with(owned("kind", "X", "n"), ""), []);
        assert_eq!(with(owned("kind", "N", "n"), "n"), []);
        // Of another kind or name, which there is not.
        assert_eq!(with(owned("kind", "Y", "n"), ""), gone);
        assert_eq!(with(owned("name", "p", "n"), ""), gone);
        // In another namespace, which is told once; in none there can be no owner from a namespace.
        let told = |steps: &[Step]| {
            let [Step::Tell(uid, owner), rest @ ..] = steps else { panic!("{steps:?}") };
            assert_eq!((uid.as_str(), owner.name.as_str()), ("a", "o"));
            rest.len()
        };
        assert_eq!(told(&with(owned("kind", "N", "n"), "m")), 1);
        assert_eq!(told(&with(owned("kind", "N", ""), "m")), 0);
        // An owner that can be told from nothing else holds up what is said of the others.
        let mut both = object("a", &["o", "gone", "p"], json!({}));
        both["metadata"]["ownerReferences"][2]["kind"] = "Unknown".into();
        assert_eq!(with(both, ""), []);
    }

    // "waitingForDependentsDeletion" there: the owner would never get rid of its finalizer.
    #[test]
    fn an_owner_that_leaves_before_its_dependents_lets_go_of_what_has_another() {
        let going = json!({"deletionTimestamp": "x", "finalizers": ["foregroundDeletion"]});
        let a = object("a", &["o", "p"], json!({}));
        let mut g = graph(&[object("o", &[], going), object("p", &[], json!({})), a]);
        assert_eq!(steps(&mut g), [Step::Disown("a".into(), "o".into())]);
    }

    #[test]
    fn orphans_are_disowned_before_the_owner_goes() {
        let going = json!({"deletionTimestamp": "x", "finalizers": ["orphan"]});
        let mut g = graph(&[object("o", &[], json!({})), object("a", &["o"], json!({}))]);
        steps(&mut g);
        put(&mut g, &object("o", &[], going));
        assert_eq!(steps(&mut g), [Step::Disown("a".into(), "o".into())]);
        put(&mut g, &object("a", &[], json!({})));
        assert_eq!(steps(&mut g), [Step::Release("o".into(), "orphan")]);
    }

    #[test]
    fn a_foreground_deletion_waits_for_the_dependents() {
        let going = json!({"deletionTimestamp": "x", "finalizers": ["foregroundDeletion"]});
        let mut g = graph(&[object("o", &[], going), object("a", &["o"], json!({}))]);
        assert_eq!(steps(&mut g), [Step::Delete("a".into(), Some(Propagation::Foreground))]);
        g.forget("a");
        assert_eq!(steps(&mut g), [Step::Release("o".into(), "foregroundDeletion")]);
    }

    #[test]
    fn a_change_touches_its_neighbours_and_no_others() {
        let mut all: Vec<Value> =
            (0..100).map(|n| object(&format!("a{n}"), &["o"], json!({}))).collect();
        all.push(object("o", &[], json!({})));
        let mut g = graph(&all);
        steps(&mut g);
        put(&mut g, &object("a7", &["o"], json!({"labels": {"x": "y"}})));
        let mut touched: Vec<&str> = g.touched.iter().map(String::as_str).collect();
        touched.sort_unstable();
        assert_eq!(touched, ["a7", "o"]);
        g.touched.clear();
        put(&mut g, &object("o", &[], json!({"labels": {"x": "y"}})));
        assert!(g.touched.is_empty());
    }
}

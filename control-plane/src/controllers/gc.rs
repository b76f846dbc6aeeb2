//! Objects whose owner is gone, and owners that wait for their dependents.
//!
//! Owns: background, foreground and orphaning deletion; pods of nodes that are gone.
//! Called by: `controllers::spawn`. Never: deletes an object that has an owner left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, Propagation, delete};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, Resource, meta};
use crate::store::watch::Watcher;

/// How long after a change things are looked at, so that a burst is looked at once.
const PAUSE: Duration = Duration::from_millis(20);
/// How often everything is looked at again.
const REPAIR: Duration = Duration::from_secs(30);
/// Objects that never own or are owned change all the time.
const SKIPPED: [&str; 2] = ["core/events", "coordination.k8s.io/leases"];

/// An object of the graph.
#[derive(Debug, Clone)]
struct Node {
    table: Arc<str>,
    namespace: String,
    name: String,
    /// `(uid, blocks the owner's deletion)`
    owners: Vec<(String, bool)>,
    terminating: bool,
    orphaning: bool,
    foreground: bool,
}

/// Who owns whom.
#[derive(Debug, Default)]
struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
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
}

impl Graph {
    fn put(&mut self, table: &Arc<str>, object: &Value) {
        let uid = meta::uid(object).to_owned();
        self.forget(&uid);
        let list = object["metadata"]["ownerReferences"].as_array();
        let owners: Vec<(String, bool)> = list
            .into_iter()
            .flatten()
            .filter_map(|o| Some((o["uid"].as_str()?.to_owned(), o["blockOwnerDeletion"] == true)))
            .collect();
        for (owner, _) in &owners {
            self.dependents.entry(owner.clone()).or_default().insert(uid.clone());
        }
        let has = |f: &str| {
            object["metadata"]["finalizers"].as_array().is_some_and(|a| a.iter().any(|x| x == f))
        };
        let node = Node {
            table: Arc::clone(table),
            namespace: meta::namespace(object).to_owned(),
            name: meta::name(object).to_owned(),
            owners,
            terminating: meta::is_terminating(object),
            orphaning: has("orphan"),
            foreground: has("foregroundDeletion"),
        };
        self.nodes.insert(uid, node);
    }

    fn forget(&mut self, uid: &str) {
        if let Some(old) = self.nodes.remove(uid) {
            for (owner, _) in old.owners {
                let empty = self.dependents.get_mut(&owner).is_some_and(|d| {
                    d.remove(uid);
                    d.is_empty()
                });
                if empty {
                    self.dependents.remove(&owner);
                }
            }
        }
    }

    /// All the judgement: what must happen in this state of the graph.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (uid, node) in &self.nodes {
            self.owner_steps(uid, node, &mut steps);
            if node.owners.is_empty() || node.terminating {
                continue;
            }
            // An owner that deletes in the foreground takes its dependents along.
            let holds =
                |u: &str| self.nodes.get(u).is_some_and(|o| !(o.terminating && o.foreground));
            if node.owners.iter().any(|(u, _)| holds(u)) {
                let gone = node.owners.iter().filter(|(u, _)| !self.nodes.contains_key(u));
                steps.extend(gone.map(|(u, _)| Step::Disown(uid.clone(), u.clone())));
                continue;
            }
            let foreground = node.owners.iter().any(|(u, _)| self.nodes.contains_key(u));
            steps.push(Step::Delete(uid.clone(), foreground.then_some(Propagation::Foreground)));
        }
        steps
    }

    fn owner_steps(&self, uid: &str, node: &Node, steps: &mut Vec<Step>) {
        if !node.terminating {
            return;
        }
        let dependents = || self.dependents.get(uid).into_iter().flatten();
        if node.orphaning {
            let mut any = false;
            for d in dependents() {
                any = true;
                steps.push(Step::Disown(d.clone(), uid.to_owned()));
            }
            if !any {
                steps.push(Step::Release(uid.to_owned(), "orphan"));
            }
        }
        let blocks = |d: &&String| {
            self.nodes.get(*d).is_some_and(|n| n.owners.iter().any(|(o, b)| o == uid && *b))
        };
        if node.foreground && dependents().filter(blocks).count() == 0 {
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
        let snapshot = plane.registry.snapshot();
        let tables: BTreeSet<Arc<str>> = snapshot
            .resources
            .iter()
            .filter(|r| r.can("delete") && !SKIPPED.contains(&&*r.table))
            .map(|r| Arc::clone(&r.table))
            .collect();
        self.watchers.retain(|t, _| tables.contains(t));
        for table in &tables {
            let polled = self.watchers.get_mut(table).map(Watcher::poll);
            if let Some(Ok(batch)) = polled {
                for e in batch.events {
                    let v = e.object.value();
                    if e.deleted { graph.forget(meta::uid(&v)) } else { graph.put(table, &v) }
                }
                continue;
            }
            // New, or fallen behind: all of it.
            let all = plane.store.list(table, "", None);
            let gone: Vec<String> = graph
                .nodes
                .iter()
                .filter(|(_, n)| n.table == *table)
                .map(|(u, _)| u.clone())
                .collect();
            gone.iter().for_each(|u| graph.forget(u));
            for (_, o) in &all.objects {
                graph.put(table, &o.value());
            }
            self.watchers.insert(Arc::clone(table), plane.store.watch(table, "", all.revision));
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

/// Follows all tables.
pub(crate) async fn run(plane: Arc<Plane>) {
    let (mut watched, mut graph) = (Watched::default(), Graph::default());
    loop {
        watched.refresh(&plane, &mut graph);
        for step in graph.steps() {
            if let Err(e) = take(&plane, &graph, &step).await
                && e.code != 404
                && e.code != 409
            {
                tracing::warn!(?step, "garbage collection: {}", e.message);
            }
        }
        tokio::select! {
            () = watched.changed() => tokio::time::sleep(PAUSE).await,
            () = tokio::time::sleep(REPAIR) => {}
        }
    }
}

async fn take(plane: &Plane, graph: &Graph, step: &Step) -> Result<(), Status> {
    let (Step::Delete(uid, _) | Step::Disown(uid, _) | Step::Release(uid, _)) = step;
    let Some(node) = graph.nodes.get(uid) else { return Ok(()) };
    let snapshot = plane.registry.snapshot();
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
                uid: Some(uid.clone()),
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
    use serde_json::json;

    fn graph(objects: &[Value]) -> Graph {
        let mut g = Graph::default();
        objects.iter().for_each(|o| g.put(&"core/x".into(), o));
        g
    }

    fn object(uid: &str, owners: &[&str], more: Value) -> Value {
        let refs: Vec<Value> =
            owners.iter().map(|o| json!({"uid": o, "blockOwnerDeletion": true})).collect();
        let mut v = json!({"metadata": {"uid": uid, "name": uid, "ownerReferences": refs}});
        for (k, x) in more.as_object().into_iter().flatten() {
            v["metadata"][k] = x.clone();
        }
        v
    }

    #[test]
    fn an_object_goes_with_its_last_owner() {
        assert_eq!(
            graph(&[object("a", &["gone"], json!({}))]).steps(),
            [Step::Delete("a".into(), None)]
        );
        let two = graph(&[object("o", &[], json!({})), object("a", &["gone", "o"], json!({}))]);
        assert_eq!(two.steps(), [Step::Disown("a".into(), "gone".into())]);
        assert_eq!(
            graph(&[object("o", &[], json!({})), object("a", &["o"], json!({}))]).steps(),
            []
        );
    }

    #[test]
    fn orphans_are_disowned_before_the_owner_goes() {
        let going = json!({"deletionTimestamp": "x", "finalizers": ["orphan"]});
        let g = graph(&[object("o", &[], going.clone()), object("a", &["o"], json!({}))]);
        assert_eq!(g.steps(), [Step::Disown("a".into(), "o".into())]);
        assert_eq!(
            graph(&[object("o", &[], going)]).steps(),
            [Step::Release("o".into(), "orphan")]
        );
    }

    #[test]
    fn a_foreground_deletion_waits_for_the_dependents() {
        let going = json!({"deletionTimestamp": "x", "finalizers": ["foregroundDeletion"]});
        let g = graph(&[object("o", &[], going.clone()), object("a", &["o"], json!({}))]);
        assert_eq!(g.steps(), [Step::Delete("a".into(), Some(Propagation::Foreground))]);
        assert_eq!(
            graph(&[object("o", &[], going)]).steps(),
            [Step::Release("o".into(), "foregroundDeletion")]
        );
    }
}

//! Which node a pod runs on.
//!
//! Owns: the choice of a node for each pod that names none, the binding, and the reasons when there
//! is no node. Called by: `controllers::spawn`. Never: looks at pods with another `schedulerName`.
//!
//! The judgement is in `choose.rs` and what it calls, which is pure; the loop keeps the index up to date
//! and looks again at what could not be placed whenever a node or a running pod changes. Nothing is
//! preempted: a pod of a high priority waits like any other.

mod choose;
mod claims;
mod filter;
mod node;
mod topology;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Change, Followed, Follower, events};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::get;
use crate::http::subresource::bind;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, meta};
use choose::choose;
pub(crate) use filter::{selects, tolerates};
use node::{Cluster, Load, labels, load};

/// The name pods have in `schedulerName` unless they say otherwise.
const NAME: &str = "default-scheduler";
/// A pod that could not be placed is tried again at least this often.
const REPAIR: Duration = Duration::from_secs(30);

/// What the loop knows.
#[derive(Default)]
struct Index {
    cluster: Cluster,
    /// Node of each placed pod, so that a change of it can be found again.
    placed: HashMap<String, String>,
    waiting: BTreeMap<String, Value>,
    /// What each waiting pod was last told.
    told: HashMap<String, String>,
}

fn key(o: &Value) -> String {
    format!("{}/{}", meta::namespace(o), meta::name(o))
}

impl Index {
    /// Returns whether that may change a choice: a node that only says that it lives does not.
    fn put_node(&mut self, node: &Value) -> bool {
        self.cluster.nodes.entry(meta::name(node).to_owned()).or_default().update(node)
    }

    /// Its pods are still there, and count again should it come back.
    fn remove_node(&mut self, name: &str) {
        let Some(node) = self.cluster.nodes.get_mut(name) else { return };
        node.known = false;
        if node.count() == 0 {
            self.cluster.nodes.remove(name);
        }
    }

    fn put_namespaces(&mut self, changes: Vec<Change>) {
        for change in changes {
            let all = &mut self.cluster.namespaces;
            let mut put = |n: &Followed| {
                all.insert(n.name().to_owned(), labels(&n.value()["metadata"]["labels"]));
            };
            match change {
                Change::Reset(list) => list.iter().for_each(put),
                Change::Put(n) => put(&n),
                Change::Gone(n) => {
                    all.remove(n.name());
                }
            }
        }
    }

    fn remove_pod(&mut self, key: &str) {
        self.waiting.remove(key);
        self.told.remove(key);
        if let Some(node) = self.placed.remove(key)
            && let Some(n) = self.cluster.nodes.get_mut(&node)
        {
            n.remove(key);
            if !n.known && n.count() == 0 {
                self.cluster.nodes.remove(&node);
            }
        }
    }

    /// Returns whether the pod takes less than before: others may fit now.
    fn put_pod(&mut self, pod: Value) -> bool {
        let key = key(&pod);
        let node = meta::text(&pod, "/spec/nodeName").to_owned();
        let ended = matches!(meta::text(&pod, "/status/phase"), "Succeeded" | "Failed");
        if node.is_empty() {
            let ours = meta::text(&pod, "/spec/schedulerName") == NAME;
            let gated = pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty());
            if ours && !gated && !ended && !meta::is_terminating(&pod) {
                self.waiting.insert(key, pod);
            } else {
                self.waiting.remove(&key);
            }
            return false;
        }
        self.waiting.remove(&key);
        self.told.remove(&key);
        if ended {
            let had = self.placed.contains_key(&key);
            self.remove_pod(&key);
            return had;
        }
        // Labels and requests of a pod that is placed may change, too.
        self.place(&key, &node, load(&pod));
        false
    }

    fn place(&mut self, key: &str, node: &str, load: Load) {
        self.placed.insert(key.to_owned(), node.to_owned());
        // A pod may be on a node that is not registered yet.
        self.cluster.nodes.entry(node.to_owned()).or_default().add(key, load);
    }
}

/// Follows nodes and pods, and places what waits.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut nodes = Follower::new(&plane, "core/nodes");
    let mut pods = Follower::new(&plane, "core/pods");
    let mut namespaces = Follower::new(&plane, "core/namespaces");
    let mut claims = Follower::new(&plane, "core/persistentvolumeclaims");
    let mut index = Index::default();
    // Nodes first, so that the first pods find them.
    let mut all = changed_nodes(&mut index, nodes.next().await);
    let mut fresh: BTreeSet<String> = BTreeSet::new();
    loop {
        let due: Vec<String> = if all {
            index.waiting.keys().cloned().collect()
        } else {
            fresh.iter().cloned().collect()
        };
        fresh.clear();
        all = false;
        for key in due {
            place(&plane, &mut index, &key).await;
        }
        tokio::select! {
            changes = namespaces.next() => index.put_namespaces(changes),
            changes = nodes.next() => all = changed_nodes(&mut index, changes),
            _ = claims.next() => all = true,
            changes = pods.next() => for change in changes {
                match change {
                    Change::Reset(list) => {
                        let keep: BTreeSet<&str> = list.iter().map(Followed::key).collect();
                        let known: Vec<String> = index.placed.keys().chain(index.waiting.keys()).cloned().collect();
                        known.iter().filter(|k| !keep.contains(k.as_str())).for_each(|k| index.remove_pod(k));
                        list.iter().for_each(|p| { index.put_pod(p.value()); });
                        all = true;
                    }
                    Change::Put(pod) => {
                        all |= index.put_pod(pod.value());
                        if index.waiting.contains_key(pod.key()) {
                            fresh.insert(pod.key().to_owned());
                        }
                    }
                    Change::Gone(pod) => {
                        all |= index.placed.contains_key(pod.key());
                        index.remove_pod(pod.key());
                    }
                }
            },
            () = tokio::time::sleep(REPAIR) => all = true,
        }
    }
}

/// Returns whether waiting pods should be looked at again.
fn changed_nodes(index: &mut Index, changes: Vec<Change>) -> bool {
    let mut matters = false;
    for change in changes {
        match change {
            Change::Reset(list) => {
                let keep: BTreeSet<&str> = list.iter().map(Followed::name).collect();
                let known: Vec<String> = index.cluster.nodes.keys().cloned().collect();
                known
                    .iter()
                    .filter(|n| !keep.contains(n.as_str()))
                    .for_each(|n| index.remove_node(n));
                list.iter().for_each(|n| {
                    index.put_node(&n.value());
                });
                matters = true;
            }
            Change::Put(n) => matters |= index.put_node(&n.value()),
            Change::Gone(n) => {
                index.remove_node(n.name());
                matters = true;
            }
        }
    }
    matters
}

/// What keeps a pod from every node, whatever nodes there are; none if there are no nodes, which is
/// said first.
fn unclaimed(plane: &Plane, pod: &Value, cluster: &Cluster) -> Option<String> {
    let total = cluster.nodes.values().filter(|n| n.known).count();
    let find = |group: &str, plural: &str, namespace: &str, name: &str| {
        let resource = plane.registry.builtin(group, plural);
        plane.store.get(&get::key(&resource, namespace, name)).map(|o| o.value())
    };
    let why = claims::missing(
        pod,
        |name| find("", "persistentvolumeclaims", meta::namespace(pod), name),
        |name| find("storage.k8s.io", "storageclasses", "", name),
    )?;
    (total > 0).then(|| match why.strip_prefix("node(s)") {
        Some(rest) => format!("0/{total} nodes are available: {total} node(s){rest}."),
        None => format!("0/{total} nodes are available: {why}."),
    })
}

async fn place(plane: &Arc<Plane>, index: &mut Index, key: &str) {
    let Some(pod) = index.waiting.get(key).cloned() else { return };
    let (namespace, name) = (meta::namespace(&pod).to_owned(), meta::name(&pod).to_owned());
    let chosen = match unclaimed(plane, &pod, &index.cluster) {
        Some(why) => Err(why),
        None => choose(&pod, &index.cluster),
    };
    match chosen {
        Ok(node) => {
            let user = User::internal("kube-scheduler");
            let binding = json!({"metadata": {"name": name, "namespace": namespace, "uid": meta::uid(&pod)}, "target": {"kind": "Node", "name": node}});
            match bind(plane, &user, (&namespace, &name), &binding, &WriteOptions::default()).await
            {
                Ok(_) => {
                    index.waiting.remove(key);
                    index.told.remove(key);
                    index.place(key, &node, load(&pod));
                    let message = format!("Successfully assigned {namespace}/{name} to {node}");
                    events::record(plane, NAME, &pod, "Pod", "Normal", "Scheduled", &message).await;
                }
                // Changed, bound or gone meanwhile: its next event says so.
                Err(e) => tracing::debug!(pod = key, "not bound: {}", e.message),
            }
        }
        Err(why) => {
            if index.told.get(key) == Some(&why) {
                return;
            }
            index.told.insert(key.to_owned(), why.clone());
            tell(plane, &pod, &why).await;
        }
    }
}

/// Says on the pod and in an event why it is not placed.
async fn tell(plane: &Arc<Plane>, pod: &Value, why: &str) {
    let pods = plane.registry.builtin("", "pods");
    let user = User::internal("kube-scheduler");
    let options = WriteOptions { manager: "kube-scheduler".into(), ..WriteOptions::default() };
    let change = |old: &Value| {
        let mut new = old.clone();
        if meta::text(old, "/spec/nodeName").is_empty() {
            meta::set_condition(
                &mut new,
                "PodScheduled",
                "False",
                "Unschedulable",
                why,
                jiff::Timestamp::now(),
            );
        }
        Ok(new)
    };
    let at = (meta::namespace(pod), meta::name(pod));
    if let Err(e) = modify(plane, &user, &pods, at, Part::Status, &options, change).await {
        tracing::debug!(pod = at.1, "cannot say why the pod waits: {}", e.message);
        return;
    }
    events::record(plane, NAME, pod, "Pod", "Warning", "FailedScheduling", why).await;
}

#[cfg(test)]
mod tests;

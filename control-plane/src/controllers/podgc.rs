//! Pods that nobody looks after any more.
//!
//! Owns: ending the pods whose node was deleted, and removing the oldest of very many ended pods.
//! Called by: `controllers::spawn`. Never: touches a pod whose node is registered, or came back soon
//! enough: an edge that is set up anew keeps its pods.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::placed::{self, Placed};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, delete};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, meta};

/// How often is looked, as in Kubernetes.
const TICK: Duration = Duration::from_secs(20);
/// How long a node has to be away, as in Kubernetes.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods beyond this number go, the oldest first, as in Kubernetes.
const ENDED: usize = 12_500;

/// Since when nodes that pods name are not there.
#[derive(Debug, Default)]
struct Absent {
    since: HashMap<Box<str>, Instant>,
}

impl Absent {
    /// Takes in which named nodes are not there now; returns those that have been away long enough.
    fn gone(&mut self, absent: BTreeSet<Box<str>>, now: Instant) -> BTreeSet<Box<str>> {
        self.since.retain(|n, _| absent.contains(n));
        for name in absent {
            self.since.entry(name).or_insert(now);
        }
        let long = self.since.iter().filter(|(_, at)| now.duration_since(**at) >= QUARANTINE);
        long.map(|(n, _)| n.clone()).collect()
    }
}

/// The ended pods that are too many: those that were made first.
fn surplus(pods: &[Placed], limit: usize) -> Vec<&Placed> {
    let mut ended: Vec<&Placed> = pods.iter().filter(|p| p.ended).collect();
    let Some(many) = ended.len().checked_sub(limit).filter(|n| *n > 0) else { return Vec::new() };
    // A pod's newest revision says well enough how old it is once it has ended.
    ended.sort_by_key(|p| p.stored.revision);
    ended.truncate(many);
    ended
}

/// Looks at all pods now and then.
pub(crate) async fn run(plane: Arc<Plane>) {
    let nodes = plane.registry.builtin("", "nodes");
    let mut absent = Absent::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let pods = placed::all(&plane);
        let named: BTreeSet<Box<str>> = pods.iter().map(|p| p.node.clone()).collect();
        let is_there = |n: &str| plane.store.get(&crate::http::get::key(&nodes, "", n)).is_some();
        let gone =
            absent.gone(named.into_iter().filter(|n| !is_there(n)).collect(), Instant::now());
        for p in pods.iter().filter(|p| gone.contains(&p.node)) {
            let pod = p.stored.value();
            tracing::info!(pod = meta::name(&pod), node = %p.node, "its node is gone: the pod goes, too");
            report(end(&plane, &pod).await, &pod);
        }
        for p in surplus(&pods, ENDED) {
            let pod = p.stored.value();
            report(remove(&plane, &pod).await, &pod);
        }
    }
}

fn report(done: Result<(), Status>, pod: &Value) {
    match done {
        Err(e) if e.code != 404 => {
            tracing::warn!(pod = meta::name(pod), "cannot remove a pod: {}", e.message);
        }
        _ => {}
    }
}

fn user() -> User {
    User::internal("serviceaccount:kube-system:pod-garbage-collector")
}

/// Says on a pod why it ends, and removes it: nobody is there to stop its containers first.
async fn end(plane: &Plane, pod: &Value) -> Result<(), Status> {
    let resource = plane.registry.builtin("", "pods");
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let at = (meta::namespace(pod), meta::name(pod));
    if !matches!(meta::text(pod, "/status/phase"), "Succeeded" | "Failed") {
        let change = |old: &Value| Ok(failed(old, jiff::Timestamp::now()));
        modify(plane, &user(), &resource, at, Part::Status, &options, change).await?;
    }
    remove(plane, pod).await
}

/// A pod that ended because its node is gone, so that jobs count it as disrupted.
fn failed(pod: &Value, now: jiff::Timestamp) -> Value {
    let mut new = pod.clone();
    let why = "PodGC: node no longer exists";
    meta::set_condition(&mut new, "DisruptionTarget", "True", "DeletionByPodGC", why, now);
    new["status"]["phase"] = "Failed".into();
    new
}

async fn remove(plane: &Plane, pod: &Value) -> Result<(), Status> {
    let resource = plane.registry.builtin("", "pods");
    let options = DeleteOptions {
        grace: Some(0),
        uid: Some(meta::uid(pod).to_owned()),
        ..DeleteOptions::default()
    };
    let at = (meta::namespace(pod), meta::name(pod));
    delete(plane, &user(), &resource, at, &options).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(list: &[&str]) -> BTreeSet<Box<str>> {
        list.iter().map(|n| Box::from(*n)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_comes_back_within_its_time_keeps_its_pods() {
        let mut absent = Absent::default();
        assert!(absent.gone(names(&["a", "b"]), Instant::now()).is_empty());
        tokio::time::advance(Duration::from_secs(39)).await;
        assert!(absent.gone(names(&["a"]), Instant::now()).is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        // `b` was there in between, and its time begins anew.
        assert_eq!(absent.gone(names(&["a", "b"]), Instant::now()), names(&["a"]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pods_of_a_deleted_node_end_and_those_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::Config::new(dir.path().join("cp"));
        config.bind.set_port(0);
        let svc = service::Service::new("control-plane");
        let plane = crate::ControlPlane::build(config, &svc).await.unwrap().plane;
        let write = |table: &str, namespace: &str, object: Value| {
            let key = crate::store::Key::new(&table.into(), namespace, meta::name(&object));
            let store = plane.store.clone();
            let draft = crate::store::Draft::of(&object);
            async move { store.put(key, crate::store::Expect::Absent, draft).await.unwrap() }
        };
        write("core/nodes", "", json!({"metadata": {"name": "there"}})).await;
        for (name, node) in [("lost", "gone"), ("kept", "there"), ("waiting", "")] {
            let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}]});
            let metadata = json!({"name": name, "namespace": "default", "uid": name});
            let status = json!({"phase": "Running"});
            write(
                "core/pods",
                "default",
                json!({"metadata": metadata, "spec": spec, "status": status}),
            )
            .await;
        }
        let from = plane.store.revision();
        let mut watch = plane.store.watch(&"core/pods".into(), "", from);
        let controller = tokio::spawn(run(Arc::clone(&plane)));
        let mut seen = Vec::new();
        while !seen.iter().any(|(_, deleted, _)| *deleted) {
            for e in watch.next().await.unwrap().events {
                let phase =
                    e.object.value()["status"]["phase"].as_str().unwrap_or_default().to_owned();
                seen.push((e.name.to_string(), e.deleted, phase));
            }
        }
        let failed = "Failed".to_owned();
        let lost = "default/lost".to_owned();
        assert_eq!(seen, [(lost.clone(), false, failed.clone()), (lost, true, failed)]);
        assert_eq!(plane.store.count("core/pods"), 2);
        controller.abort();
    }

    #[test]
    fn the_oldest_of_too_many_ended_pods_go() {
        let pod = |revision: u64, ended: bool| {
            let draft = crate::store::Draft::of(&json!({"metadata": {"name": "p"}}));
            let stored = Arc::new(crate::store::Stored::new(revision, &draft));
            Placed { node: "n".into(), ended, stored }
        };
        let pods = [pod(9, true), pod(3, true), pod(1, false), pod(5, true)];
        let gone: Vec<u64> = surplus(&pods, 2).iter().map(|p| p.stored.revision).collect();
        assert_eq!(gone, [3]);
        assert!(surplus(&pods, 3).is_empty());
    }

    #[test]
    fn a_pod_of_a_lost_node_says_why_it_failed() {
        let pod = json!({"status": {"phase": "Running", "podIP": "10.0.0.1"}});
        let new = failed(&pod, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(new["status"]["phase"], "Failed");
        assert_eq!(new["status"]["podIP"], "10.0.0.1");
        let condition = meta::condition(&new, "DisruptionTarget").unwrap();
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!("DeletionByPodGC"))
        );
    }
}

//! Nodes that fall silent, and what becomes of their pods.
//!
//! Owns: `Ready` turning Unknown when a node's lease is not renewed, the taints for nodes in trouble,
//! and the eviction of pods that do not tolerate them. Called by: `controllers::spawn`.
//! Never: touches a node's other conditions while the node still speaks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::placed::ByNode;
use super::scheduler::tolerates;
use super::{Change, Follower, events};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, delete};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, meta};

/// A node is lost when neither its lease nor its status changed for this long, as in Kubernetes.
const GRACE: Duration = Duration::from_secs(40);
/// How often nodes are looked at.
const TICK: Duration = Duration::from_secs(5);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// What is known of a node's life: when something last changed, by our own clock.
#[derive(Debug, Default)]
struct Heartbeats {
    seen: HashMap<String, (String, Instant)>,
}

impl Heartbeats {
    /// Notes a sign of life; only a changed one counts.
    fn note(&mut self, node: &str, sign: String, now: Instant) {
        match self.seen.get_mut(node) {
            Some((known, _)) if *known == sign => {}
            _ => {
                self.seen.insert(node.to_owned(), (sign, now));
            }
        }
    }

    fn is_lost(&self, node: &str, now: Instant) -> bool {
        self.seen.get(node).is_none_or(|(_, at)| now.duration_since(*at) > GRACE)
    }
}

/// The taints that a node should have for its Ready condition: `(key, effect)`.
fn wanted_taints(ready: &str) -> Vec<(&'static str, &'static str)> {
    match ready {
        "True" => vec![],
        "False" => vec![(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
        _ => vec![(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
    }
}

/// Changes the taints we own to those wanted; others stay. Returns whether anything changed.
fn set_taints(node: &mut Value, now: jiff::Timestamp) -> bool {
    let ready = meta::condition(node, "Ready")
        .and_then(|c| c["status"].as_str())
        .unwrap_or("Unknown")
        .to_owned();
    let wanted = wanted_taints(&ready);
    let ours = |t: &Value| matches!(t["key"].as_str(), Some(NOT_READY | UNREACHABLE));
    let is = |t: &Value, w: &(&str, &str)| t["key"] == w.0 && t["effect"] == w.1;
    let old = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let mut new: Vec<Value> =
        old.iter().filter(|t| !ours(t) || wanted.iter().any(|w| is(t, w))).cloned().collect();
    for w in &wanted {
        if !new.iter().any(|t| is(t, w)) {
            let mut t = json!({"key": w.0, "effect": w.1});
            if w.1 == "NoExecute" {
                t["timeAdded"] = meta::timestamp(now).into();
            }
            new.push(t);
        }
    }
    if new == old {
        return false;
    }
    node["spec"]["taints"] = new.into();
    true
}

/// Turns a lost node's conditions Unknown. Returns whether anything changed.
fn set_unknown(node: &mut Value, now: jiff::Timestamp) -> bool {
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let status = meta::condition(node, kind).map(|c| c["status"] == "Unknown");
        if status == Some(true) || (status.is_none() && kind != "Ready") {
            continue;
        }
        let (reason, message) = if status.is_some() {
            ("NodeStatusUnknown", "Kubelet stopped posting node status.")
        } else {
            ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
        };
        meta::set_condition(node, kind, "Unknown", reason, message, now);
        changed = true;
    }
    changed
}

/// When a pod must leave a node with these taints: now, at a time, or never.
fn leaves_at(pod: &Value, taints: &[Value]) -> Option<jiff::Timestamp> {
    let mut at: Option<jiff::Timestamp> = None;
    for taint in taints.iter().filter(|t| t["effect"] == "NoExecute") {
        let tolerations = pod["spec"]["tolerations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|t| tolerates(t, taint));
        let since = meta::text(taint, "/timeAdded").parse().unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let (mut tolerated, mut until) = (false, None::<jiff::Timestamp>);
        for t in tolerations {
            tolerated = true;
            if let Some(s) = t["tolerationSeconds"].as_i64() {
                let end = meta::later(since, s.max(0));
                until = Some(until.map_or(end, |u| u.min(end)));
            }
        }
        let leaves = if tolerated { until } else { Some(since) };
        at = match (at, leaves) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    at
}

/// Follows nodes and leases.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut nodes = Follower::new(&plane, "core/nodes");
    let mut leases = Follower::new(&plane, "coordination.k8s.io/leases");
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let mut beats = Heartbeats::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut due: BTreeSet<String> = BTreeSet::new();
        tokio::select! {
            changes = nodes.next() => for c in changes {
                match c {
                    Change::Reset(all) => {
                        known = all.iter().map(|n| (n.name().to_owned(), kept(&n.value()))).collect();
                        // A node that was there before we were gets its whole grace.
                        for (name, n) in &known {
                            beats.note(name, heartbeat(n), Instant::now());
                        }
                        due.extend(known.keys().cloned());
                    }
                    Change::Put(n) => {
                        let (name, n) = (n.name().to_owned(), kept(&n.value()));
                        beats.note(&name, heartbeat(&n), Instant::now());
                        due.insert(name.clone());
                        known.insert(name, n);
                    }
                    Change::Gone(n) => {
                        known.remove(n.name());
                        beats.seen.remove(n.name());
                        beats.seen.remove(&lease_key(n.name()));
                    }
                }
            },
            changes = leases.next() => for c in changes {
                let list = match c {
                    Change::Reset(all) => all,
                    Change::Put(l) => vec![l],
                    Change::Gone(_) => continue,
                };
                for l in list.iter().filter(|l| l.namespace() == "kube-node-lease") {
                    let renewed = meta::text(&l.value(), "/spec/renewTime").to_owned();
                    beats.note(&lease_key(l.name()), renewed, Instant::now());
                }
            },
            _ = tick.tick() => due.extend(known.keys().cloned()),
        }
        let pods = ByNode::new(&plane);
        for name in due {
            let Some(node) = known.get(&name) else { continue };
            if let Err(e) = look_after(&plane, node, &beats, &pods).await
                && e.code != 404
            {
                tracing::warn!(node = name, "cannot look after a node: {}", e.message);
            }
        }
    }
}

/// What is kept of a node: a thousand of them are, and most of a node is about its machine.
fn kept(node: &Value) -> Value {
    let m = &node["metadata"];
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    json!({"metadata": {"name": m["name"], "uid": m["uid"], "resourceVersion": m["resourceVersion"]},
        "spec": {"taints": node["spec"]["taints"]}, "status": {"conditions": conditions}})
}

fn lease_key(node: &str) -> String {
    format!("lease/{node}")
}

/// What changes when a node says something of itself.
fn heartbeat(node: &Value) -> String {
    let times: Vec<&str> = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["lastHeartbeatTime"].as_str())
        .collect();
    times.into_iter().max().unwrap_or_default().to_owned()
}

async fn look_after(
    plane: &Arc<Plane>,
    node: &Value,
    beats: &Heartbeats,
    pods: &ByNode<'_>,
) -> Result<(), Status> {
    let (name, now) = (meta::name(node), Instant::now());
    let lost = beats.is_lost(name, now) && beats.is_lost(&lease_key(name), now);
    let resource = plane.registry.builtin("", "nodes");
    let user = User::internal("serviceaccount:kube-system:node-controller");
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let mut node = node.clone();
    if lost && set_unknown(&mut node, jiff::Timestamp::now()) {
        let change = |old: &Value| {
            let mut new = old.clone();
            set_unknown(&mut new, jiff::Timestamp::now());
            Ok(new)
        };
        modify(plane, &user, &resource, ("", name), Part::Status, &options, change).await?;
        let message = format!("Node {name} status is now: NodeNotReady");
        events::record(plane, "node-controller", &node, "Node", "Normal", "NodeNotReady", &message)
            .await;
        mark_pods(plane, pods.on(name)).await;
    }
    if set_taints(&mut node, jiff::Timestamp::now()) {
        let change = |old: &Value| {
            let mut new = old.clone();
            set_taints(&mut new, jiff::Timestamp::now());
            Ok(new)
        };
        modify(plane, &user, &resource, ("", name), Part::Main, &options, change).await?;
    }
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if taints.iter().any(|t| t["effect"] == "NoExecute") {
        evict(plane, &user, pods.on(name), &taints).await;
    }
    Ok(())
}

/// The pods of a lost node are not ready any more.
async fn mark_pods(plane: &Arc<Plane>, on_it: Vec<Value>) {
    let pods = plane.registry.builtin("", "pods");
    let user = User::internal("serviceaccount:kube-system:node-controller");
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    for pod in on_it {
        if meta::condition(&pod, "Ready").is_none_or(|c| c["status"] != "True") {
            continue;
        }
        let change = |old: &Value| {
            let mut new = old.clone();
            meta::set_condition(&mut new, "Ready", "False", "", "", jiff::Timestamp::now());
            Ok(new)
        };
        let at = (meta::namespace(&pod), meta::name(&pod));
        if let Err(e) = modify(plane, &user, &pods, at, Part::Status, &options, change).await {
            tracing::debug!(pod = at.1, "cannot mark a pod as not ready: {}", e.message);
        }
    }
}

/// Deletes the pods whose time on a tainted node is over.
async fn evict(plane: &Arc<Plane>, user: &User, on_it: Vec<Value>, taints: &[Value]) {
    let resource = plane.registry.builtin("", "pods");
    let now = jiff::Timestamp::now();
    for pod in on_it {
        if meta::is_terminating(&pod) || leaves_at(&pod, taints).is_none_or(|at| at > now) {
            continue;
        }
        let at = (meta::namespace(&pod), meta::name(&pod));
        let message = format!(
            "Cancelling running of pod {}/{}: its node has a taint it does not tolerate",
            at.0, at.1
        );
        events::record(
            plane,
            "taint-eviction-controller",
            &pod,
            "Pod",
            "Normal",
            "TaintManagerEviction",
            &message,
        )
        .await;
        if let Err(e) = delete(plane, user, &resource, at, &DeleteOptions::default()).await
            && e.code != 404
        {
            tracing::warn!(pod = at.1, "cannot evict a pod: {}", e.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn taints_follow_the_ready_condition_and_others_stay() {
        let mut n = json!({"spec": {"taints": [{"key": "own", "effect": "NoSchedule"}]}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        assert!(set_taints(&mut n, now()));
        let keys = |n: &Value| {
            n["spec"]["taints"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| {
                    format!("{}:{}", t["key"].as_str().unwrap(), t["effect"].as_str().unwrap())
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            keys(&n),
            [
                "own:NoSchedule",
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute"
            ]
        );
        assert!(!set_taints(&mut n, now()));
        assert!(set_unknown(&mut n, now()));
        assert!(set_taints(&mut n, now()));
        assert_eq!(keys(&n)[1], "node.kubernetes.io/unreachable:NoSchedule");
        n["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert!(set_taints(&mut n, now()));
        assert_eq!(keys(&n), ["own:NoSchedule"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_changed_sign_of_life_counts() {
        let mut b = Heartbeats::default();
        b.note("n", "1".into(), Instant::now());
        tokio::time::advance(Duration::from_secs(39)).await;
        b.note("n", "1".into(), Instant::now());
        assert!(!b.is_lost("n", Instant::now()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(b.is_lost("n", Instant::now()));
        b.note("n", "2".into(), Instant::now());
        assert!(!b.is_lost("n", Instant::now()));
    }

    #[test]
    fn a_pod_leaves_when_its_toleration_ends() {
        let taints = [
            json!({"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}),
        ];
        let pod = |t: Value| json!({"spec": {"tolerations": t}});
        assert_eq!(leaves_at(&pod(json!([])), &taints), Some(now()));
        let five = pod(
            json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]),
        );
        assert_eq!(leaves_at(&five, &taints), Some(now() + jiff::SignedDuration::from_secs(300)));
        assert_eq!(leaves_at(&pod(json!([{"operator": "Exists"}])), &taints), None);
    }
}

//! DaemonSets: one pod on each node that they choose.
//!
//! Owns: which nodes should have a pod, the rolling update, the status. Called by: the loop in
//! `mod.rs`. Never: binds a pod; each is made for one node by its affinity, and the scheduler binds
//! it. See kubernetes.io/docs/concepts/workloads/controllers/daemonset.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pods::{Phase, Pod};
use super::revisions::{self, History};
use super::world::World;
use super::{Action, Context, Kind, Note, Plan, Target, number, template};
use crate::controllers::scheduler::{selects, tolerates};
use crate::registry::{core, meta};

/// Pods made or deleted in one go.
const BURST: usize = 250;

/// How long a pod that has ended stays at least.
const PAUSE: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// What daemons put up with besides what they say: `(key, effect)`.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// Whether a node should get a pod, and whether one that is there may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    run: bool,
    stay: bool,
}

fn tolerations(spec: &Value) -> Vec<Value> {
    let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let mut more = TOLERATED.to_vec();
    if spec["hostNetwork"] == true {
        more.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    for (key, effect) in more {
        let t = json!({"key": key, "operator": "Exists", "effect": effect});
        if !all.contains(&t) {
            all.push(t);
        }
    }
    all
}

fn wanted(set: &Value, node: &Value) -> Wanted {
    let no = Wanted { run: false, stay: false };
    let spec = &set["spec"]["template"]["spec"];
    let name = meta::name(node);
    let pinned = spec["nodeName"].as_str().unwrap_or_default();
    if !pinned.is_empty() && pinned != name {
        return no;
    }
    let labels: BTreeMap<String, String> = node["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
        .collect();
    if !selects(spec, name, &labels) {
        return no;
    }
    let tolerations = tolerations(spec);
    let taints = node["spec"]["taints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bad = |effects: &[&str]| {
        taints.iter().any(|t| {
            effects.iter().any(|e| t["effect"] == *e)
                && !tolerations.iter().any(|x| tolerates(x, t))
        })
    };
    Wanted { run: !bad(&["NoSchedule", "NoExecute"]), stay: !bad(&["NoExecute"]) }
}

/// A daemon set with its nodes and pods.
struct Look<'a> {
    set: &'a Value,
    /// By name: whether it should run, and the pods for it, oldest first.
    nodes: BTreeMap<&'a str, (Wanted, Vec<&'a Pod>)>,
    hash: &'a str,
    cx: &'a Context,
}

impl Look<'_> {
    fn desired(&self) -> i64 {
        self.nodes.values().filter(|(w, _)| w.run).count() as i64
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        !self.hash.is_empty() && pod.label(revisions::LABEL) == self.hash
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_active()
            && pod.is_available(number(self.set, "/spec/minReadySeconds", 0), self.cx.now)
    }
}

/// The node a daemon's pod is on, or was made for.
fn node_of(pod: &Pod) -> &str {
    if pod.node.is_empty() { &pod.pinned } else { &pod.node }
}

pub(crate) fn reconcile(world: &World, key: &str, cx: &Context) -> Plan {
    let mut plan = Plan::default();
    let Some(set) = world.get(Kind::DaemonSet, key) else { return plan };
    let Some(selector) = template::selector(set) else { return plan };
    let pods = template::claim(world, Kind::DaemonSet, set, &selector, &mut plan);
    if meta::is_terminating(set) || !plan.actions.is_empty() {
        return plan;
    }
    let history = History::read(world, set);
    if history.keep_up(world, Kind::DaemonSet, set, &mut plan) {
        return plan;
    }
    let hash = history.update.map(revisions::hash_of).unwrap_or_default();
    let look = Look { set, nodes: by_node(world, set, &pods), hash, cx };
    let mut doomed = Vec::new();
    place(&look, &mut doomed, &mut plan);
    if set["spec"]["updateStrategy"]["type"] == "RollingUpdate" && doomed.is_empty() {
        update(&look, &mut doomed, &mut plan);
    }
    status(&look, &mut plan);
    for pod in doomed.into_iter().take(BURST) {
        let note = Note::normal("SuccessfulDelete", format!("Deleted pod: {}", pod.name));
        plan.push(Action::Delete(Target::pod(pod), None, Some(note)));
    }
    if plan.actions.is_empty() {
        let used =
            |r: &Value| pods.iter().any(|p| p.label(revisions::LABEL) == revisions::hash_of(r));
        history.clean_up(set, used, &mut plan);
    }
    plan
}

fn by_node<'a>(
    world: &'a World,
    set: &Value,
    pods: &[&'a Pod],
) -> BTreeMap<&'a str, (Wanted, Vec<&'a Pod>)> {
    let mut nodes: BTreeMap<&str, (Wanted, Vec<&Pod>)> =
        world.all(Kind::Node, "").map(|n| (meta::name(n), (wanted(set, n), Vec::new()))).collect();
    for pod in pods {
        // A node that is gone wants none.
        let nobody = || (Wanted { run: false, stay: false }, Vec::new());
        nodes.entry(node_of(pod)).or_insert_with(nobody).1.push(pod);
    }
    for (_, pods) in nodes.values_mut() {
        pods.sort_by_key(|p| (p.node.is_empty(), p.created, p.name.clone()));
    }
    nodes
}

/// One pod where one is wanted, none elsewhere.
fn place<'a>(look: &Look<'a>, doomed: &mut Vec<&'a Pod>, plan: &mut Plan) {
    let mut missing = Vec::new();
    for (node, (wanted, pods)) in &look.nodes {
        if !wanted.stay || (!wanted.run && pods.is_empty()) {
            // Pods of a node that is gone go with it, by the garbage collector.
            doomed.extend(pods.iter().filter(|p| !p.terminating));
            continue;
        }
        let mut alive: Vec<&Pod> = Vec::new();
        for pod in pods.iter().filter(|p| !p.terminating) {
            // One that fails at once is not replaced as fast as the node can refuse it.
            let rest =
                pod.created.map(|t| t + PAUSE).filter(|t| pod.has_ended() && *t > look.cx.now);
            if let Some(at) = rest {
                plan.look_at(at);
                alive.push(pod);
            } else if pod.phase == Phase::Failed {
                plan.event(Note::warning(
                    "FailedDaemonPod",
                    format!(
                        "Found failed daemon pod {}/{} on node {node}, will try to kill it",
                        pod.namespace, pod.name
                    ),
                ));
                doomed.push(pod);
            } else if pod.phase == Phase::Succeeded {
                plan.event(Note::normal(
                    "SucceededDaemonPod",
                    format!(
                        "Found succeeded daemon pod {}/{} on node {node}, will try to delete it",
                        pod.namespace, pod.name
                    ),
                ));
                doomed.push(pod);
            } else {
                alive.push(pod);
            }
        }
        if pods.is_empty() {
            missing.push(*node);
            continue;
        }
        let surge = surge(look) > 0;
        // With a surge, an old and a new pod may be there together.
        let (new, old): (Vec<&Pod>, Vec<&Pod>) =
            alive.iter().copied().partition(|p| !surge || look.is_updated(p));
        doomed.extend(new.into_iter().skip(1));
        doomed.extend(old.into_iter().skip(1));
    }
    for node in missing.into_iter().take(BURST) {
        make(look, node, plan);
    }
}

fn make(look: &Look<'_>, node: &str, plan: &mut Plan) {
    let mut pod = template::pod(Kind::DaemonSet, look.set);
    template::label(&mut pod, revisions::LABEL, look.hash);
    let generation = number(look.set, "/metadata/generation", 1).to_string();
    template::label(&mut pod, "pod-template-generation", generation);
    let spec = core::object(&mut pod, "spec");
    spec["tolerations"] = tolerations(spec).into();
    pin(spec, node);
    let note = Note::normal("SuccessfulCreate", "Created pod: {}");
    plan.push(Action::Create(Kind::Pod, pod, Some(note)));
}

/// Makes a pod one for this node only. What its affinity asked of nodes has been looked at already.
fn pin(spec: &mut Value, node: &str) {
    let affinity = core::object(core::object(spec, "affinity"), "nodeAffinity");
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": [node]}]}]});
}

fn rolling<'a>(look: &'a Look<'_>, field: &str) -> Option<&'a Value> {
    look.set["spec"]["updateStrategy"]["rollingUpdate"].get(field)
}

fn surge(look: &Look<'_>) -> i64 {
    if look.set["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        return 0;
    }
    template::share(rolling(look, "maxSurge"), look.desired(), true).unwrap_or(0)
}

/// One step of a rolling update.
fn update<'a>(look: &Look<'a>, doomed: &mut Vec<&'a Pod>, plan: &mut Plan) {
    let desired = look.desired();
    let surge = surge(look);
    let unavailable = template::share(rolling(look, "maxUnavailable"), desired, true).unwrap_or(1);
    let running = || look.nodes.iter().filter(|(_, (w, _))| w.run);
    if surge > 0 {
        let surging = running()
            .filter(|(_, (_, p))| {
                let active = || p.iter().filter(|p| p.is_active());
                active().any(|p| look.is_updated(p)) && active().any(|p| !look.is_updated(p))
            })
            .count();
        let mut room = surge - surging as i64;
        for (node, (_, pods)) in running() {
            let old = pods.iter().find(|p| p.is_active() && !look.is_updated(p));
            let new = pods.iter().find(|p| p.is_active() && look.is_updated(p));
            match (old, new) {
                (Some(old), Some(new)) if look.is_available(new) => doomed.push(old),
                (Some(old), None) if !look.is_available(old) => doomed.push(old),
                (Some(_), None) if room > 0 => {
                    room -= 1;
                    make(look, node, plan);
                }
                _ => {}
            }
        }
        return;
    }
    let down = running().filter(|(_, (_, p))| !p.iter().any(|p| look.is_available(p))).count();
    let mut room = (unavailable.max(1) - down as i64).max(0);
    for (_, (_, pods)) in running() {
        let Some(old) = pods.iter().find(|p| p.is_active() && !look.is_updated(p)) else {
            continue;
        };
        if !look.is_available(old) {
            // Nothing is lost by replacing what does not work.
            doomed.push(old);
        } else if room > 0 && !pods.iter().any(|p| p.terminating) {
            room -= 1;
            doomed.push(old);
        }
    }
}

fn status(look: &Look<'_>, plan: &mut Plan) {
    let mut n = [0_i64; 6];
    let min_ready = number(look.set, "/spec/minReadySeconds", 0);
    for (wanted, pods) in look.nodes.values() {
        let alive: Vec<&&Pod> = pods.iter().filter(|p| !p.terminating).collect();
        if !wanted.run {
            n[1] += i64::from(!alive.is_empty());
            continue;
        }
        n[2] += 1;
        n[0] += i64::from(!alive.is_empty());
        n[3] += i64::from(alive.iter().any(|p| p.is_ready()));
        n[4] += i64::from(alive.iter().any(|p| look.is_available(p)));
        n[5] += i64::from(alive.iter().any(|p| look.is_updated(p)));
        let soon =
            alive.iter().filter_map(|p| p.available_at(min_ready)).filter(|t| *t > look.cx.now);
        if let Some(at) = soon.min() {
            plan.look_at(at);
        }
    }
    let [current, misplaced, desired, ready, available, updated] = n;
    let mut status = json!({"currentNumberScheduled": current, "numberMisscheduled": misplaced,
        "desiredNumberScheduled": desired, "numberReady": ready});
    for (field, n) in [
        ("numberAvailable", available),
        ("numberUnavailable", desired - available),
        ("updatedNumberScheduled", updated),
    ] {
        if n > 0 {
            status[field] = n.into();
        }
    }
    if let Some(g) = look.set["metadata"].get("generation") {
        status["observedGeneration"] = g.clone();
    }
    plan.status(Kind::DaemonSet, look.set, status);
}

#[cfg(test)]
mod tests {
    use super::super::owner_reference;
    use super::super::pods::Controller;
    use super::*;
    use std::collections::BTreeSet;

    fn set(image: &str, spec: Value) -> Value {
        let mut s = json!({"metadata": {"name": "log", "namespace": "d", "uid": "s", "generation": 1, "resourceVersion": "5"},
            "spec": {"selector": {"matchLabels": {"app": "log"}}, "revisionHistoryLimit": 10,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
                "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"image": image}]}}}});
        json_patch::merge(&mut s["spec"], &spec);
        s
    }

    fn node(name: &str, more: Value) -> Value {
        let mut n = json!({"metadata": {"name": name, "uid": name}, "spec": {}});
        json_patch::merge(&mut n, &more);
        n
    }

    fn pod(name: &str, node: &str, hash: &str, ready: bool) -> Pod {
        Pod {
            namespace: "d".into(),
            name: name.into(),
            uid: name.into(),
            node: node.into(),
            labels: [
                ("app".to_owned(), "log".to_owned()),
                (revisions::LABEL.to_owned(), hash.to_owned()),
            ]
            .into(),
            controller: Some(Controller {
                kind: "DaemonSet".into(),
                name: "log".into(),
                uid: "s".into(),
            }),
            phase: Phase::Running,
            ready_since: ready.then_some(jiff::Timestamp::UNIX_EPOCH),
            ..Pod::default()
        }
    }

    /// The plan when the revision of the present template, `new`, is there already.
    fn plan(set: &Value, nodes: &[Value], pods: Vec<Pod>) -> Plan {
        let (mut world, mut touched) = (World::default(), BTreeSet::new());
        nodes.iter().for_each(|n| world.put(Kind::Node, n.clone(), &mut touched));
        world.put(Kind::DaemonSet, set.clone(), &mut touched);
        let mut template = set["spec"]["template"].clone();
        template["$patch"] = "replace".into();
        let revision = json!({"metadata": {"name": "log-new", "namespace": "d", "labels": {revisions::LABEL: "new"},
            "ownerReferences": [owner_reference(Kind::DaemonSet, set)]}, "revision": 1, "data": {"spec": {"template": template}}});
        world.put(Kind::Revision, revision, &mut touched);
        pods.into_iter().for_each(|p| world.put_pod(p, &mut touched));
        let cx = Context { now: "2026-01-01T01:00:00Z".parse().unwrap(), failed: None };
        reconcile(&world, "d/log", &cx)
    }

    fn made_for(plan: &Plan) -> Vec<String> {
        let mut out = Vec::new();
        for a in &plan.actions {
            if let Action::Create(Kind::Pod, p, _) = a {
                let text = json!({"metadata": {}, "spec": p["spec"]}).to_string();
                out.push(Pod::read(text.as_bytes()).unwrap().pinned);
            }
        }
        out
    }

    fn deleted(plan: &Plan) -> Vec<&str> {
        let mut out = Vec::new();
        for a in &plan.actions {
            if let Action::Delete(t, ..) = a {
                out.push(t.name.as_str());
            }
        }
        out
    }

    #[test]
    fn every_node_that_is_chosen_gets_a_pod_of_its_own() {
        let edge = json!({"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}});
        let cordoned = json!({"spec": {"unschedulable": true, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}});
        let tainted = json!({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}});
        let nodes = [
            node("a", edge.clone()),
            node("b", json!({})),
            node("c", cordoned),
            node("d", tainted),
        ];
        assert_eq!(made_for(&plan(&set("x", json!({})), &nodes, vec![])), ["a", "b", "c"]);
        let only_edge =
            json!({"template": {"spec": {"nodeSelector": {"node-role.kubernetes.io/edge": ""}}}});
        assert_eq!(made_for(&plan(&set("x", only_edge), &nodes, vec![])), ["a"]);
    }

    #[test]
    fn pods_leave_nodes_that_are_no_longer_chosen_or_must_be_left() {
        let nodes = [
            node("a", json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}})),
            node("b", json!({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}})),
            node(
                "lost",
                json!({"spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}}),
            ),
        ];
        let pods = vec![
            pod("pa", "a", "new", true),
            pod("pb", "b", "new", true),
            pod("pl", "lost", "new", true),
        ];
        let p = plan(&set("x", json!({})), &nodes, pods);
        assert_eq!(deleted(&p), ["pb"]);
        assert_eq!(made_for(&p), Vec::<String>::new());
    }

    #[test]
    fn a_rolling_update_takes_one_node_at_a_time() {
        let nodes: Vec<Value> = ["a", "b", "c"].map(|n| node(n, json!({}))).to_vec();
        let s = set("x", json!({}));
        let all = vec![
            pod("pa", "a", "old", true),
            pod("pb", "b", "old", true),
            pod("pc", "c", "old", true),
        ];
        assert_eq!(deleted(&plan(&s, &nodes, all)), ["pa"]);
        let half = vec![
            pod("na", "a", "new", false),
            pod("pb", "b", "old", true),
            pod("pc", "c", "old", true),
        ];
        assert_eq!(deleted(&plan(&s, &nodes, half)), Vec::<&str>::new());
        let on_delete = set("x", json!({"updateStrategy": {"type": "OnDelete"}}));
        assert_eq!(
            deleted(&plan(&on_delete, &nodes, vec![pod("pa", "a", "old", true)])),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn with_a_surge_the_old_pod_stays_until_the_new_one_is_available() {
        let nodes = [node("a", json!({}))];
        let surge =
            json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
        let s = set("x", surge);
        let p = plan(&s, &nodes, vec![pod("pa", "a", "old", true)]);
        assert_eq!((made_for(&p), deleted(&p)), (vec!["a".to_owned()], vec![]));
        let p = plan(&s, &nodes, vec![pod("pa", "a", "old", true), pod("na", "a", "new", false)]);
        assert_eq!((made_for(&p).len(), deleted(&p).len()), (0, 0));
        let p = plan(&s, &nodes, vec![pod("pa", "a", "old", true), pod("na", "a", "new", true)]);
        assert_eq!(deleted(&p), ["pa"]);
    }

    #[test]
    fn a_failed_pod_is_replaced_and_the_status_counts_nodes() {
        let nodes = [node("a", json!({})), node("b", json!({}))];
        let mut failed = pod("pb", "b", "new", false);
        failed.phase = Phase::Failed;
        let p = plan(&set("x", json!({})), &nodes, vec![pod("pa", "a", "new", true), failed]);
        assert_eq!(deleted(&p), ["pb"]);
        let status = p.actions.iter().find_map(|a| match a {
            Action::Status(_, _, s) => Some(s.clone()),
            _ => None,
        });
        assert_eq!(
            status,
            Some(
                json!({"currentNumberScheduled": 2, "numberMisscheduled": 0, "desiredNumberScheduled": 2, "numberReady": 1,
                "numberAvailable": 1, "numberUnavailable": 1, "updatedNumberScheduled": 2, "observedGeneration": 1})
            )
        );
    }
}

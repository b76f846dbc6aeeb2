//! Which node a pod runs on.
//!
//! Owns: the choice of a node for each pod that names none, the binding, and the reasons when there
//! is no node. Called by: `controllers::spawn`. Never: looks at pods with another `schedulerName`.
//!
//! The judgement is in [`fit`] and [`choose`], which are pure; the loop keeps the index up to date and
//! looks again at what could not be placed whenever a node or a running pod changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Change, Follower, events};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::subresource::bind;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::quantity::Quantity;
use crate::registry::selectors::LabelSelector;
use crate::registry::{Part, meta};

/// The name pods have in `schedulerName` unless they say otherwise.
const NAME: &str = "default-scheduler";
/// A pod that could not be placed is tried again at least this often.
const REPAIR: Duration = Duration::from_secs(30);

/// What the scheduler knows of a node.
#[derive(Debug, Default, Clone)]
pub(crate) struct NodeInfo {
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
    unschedulable: bool,
    allocatable: HashMap<String, Quantity>,
    /// By pod: what it asks for, and its host ports.
    pods: BTreeMap<String, Load>,
}

/// What a pod takes of its node.
#[derive(Debug, Default, Clone)]
struct Load {
    requests: HashMap<String, Quantity>,
    ports: Vec<(i64, String)>,
    namespace: String,
    labels: BTreeMap<String, String>,
}

fn quantities(v: &Value) -> HashMap<String, Quantity> {
    let one = |(k, v): (&String, &Value)| Some((k.clone(), Quantity::parse(v.as_str()?)?));
    v.as_object().into_iter().flatten().filter_map(one).collect()
}

fn labels(v: &Value) -> BTreeMap<String, String> {
    let all = v.as_object().into_iter().flatten();
    all.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

impl NodeInfo {
    fn update(&mut self, node: &Value) {
        self.labels = labels(&node["metadata"]["labels"]);
        self.taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        self.unschedulable = node["spec"]["unschedulable"] == true;
        self.allocatable = quantities(&node["status"]["allocatable"]);
    }
}

/// What a pod asks for: the sum of its containers, or its largest init container, plus overhead.
fn load(pod: &Value) -> Load {
    let spec = &pod["spec"];
    let mut requests: HashMap<String, Quantity> = HashMap::new();
    let mut ports = Vec::new();
    let add = |sum: &mut HashMap<String, Quantity>, more: HashMap<String, Quantity>| {
        for (k, q) in more {
            let slot = sum.entry(k).or_default();
            *slot = *slot + q;
        }
    };
    for c in spec["containers"].as_array().into_iter().flatten() {
        add(&mut requests, quantities(&c["resources"]["requests"]));
        for p in c["ports"].as_array().into_iter().flatten() {
            if let Some(n) = p["hostPort"].as_i64().filter(|n| *n > 0) {
                ports.push((n, p["protocol"].as_str().unwrap_or("TCP").to_owned()));
            }
        }
    }
    for c in spec["initContainers"].as_array().into_iter().flatten() {
        let own = quantities(&c["resources"]["requests"]);
        if c["restartPolicy"] == "Always" {
            add(&mut requests, own);
        } else {
            for (k, q) in own {
                let slot = requests.entry(k).or_default();
                *slot = (*slot).max(q);
            }
        }
    }
    add(&mut requests, quantities(&spec["overhead"]));
    Load {
        requests,
        ports,
        namespace: meta::namespace(pod).to_owned(),
        labels: labels(&pod["metadata"]["labels"]),
    }
}

/// Whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let of = |v: &Value, f: &str| v[f].as_str().unwrap_or_default().to_owned();
    let (effect, key) = (of(toleration, "effect"), of(toleration, "key"));
    let fits_effect = effect.is_empty() || effect == of(taint, "effect");
    let fits_key = key.is_empty() || key == of(taint, "key");
    let fits_value = match of(toleration, "operator").as_str() {
        "Exists" => true,
        _ => !key.is_empty() && of(toleration, "value") == of(taint, "value"),
    };
    fits_effect && fits_key && fits_value
}

/// Why a pod cannot run on a node, in the words of Kubernetes; none if it can.
pub(crate) fn fit(pod: &Value, name: &str, node: &NodeInfo) -> Option<String> {
    let spec = &pod["spec"];
    let tolerated =
        |t: &Value| spec["tolerations"].as_array().into_iter().flatten().any(|x| tolerates(x, t));
    if node.unschedulable
        && !tolerated(&json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}))
    {
        return Some("node(s) were unschedulable".into());
    }
    if !selects(spec, name, &node.labels) {
        return Some("node(s) didn't match Pod's node affinity/selector".into());
    }
    let hard = |t: &&Value| matches!(t["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
    if let Some(t) = node.taints.iter().filter(hard).find(|t| !tolerated(t)) {
        let value = t["value"].as_str().unwrap_or_default();
        return Some(format!(
            "node(s) had untolerated taint {{{}: {value}}}",
            t["key"].as_str().unwrap_or_default()
        ));
    }
    let wanted = load(pod);
    let taken = |p: &(i64, String)| node.pods.values().any(|l| l.ports.contains(p));
    if wanted.ports.iter().any(taken) {
        return Some("node(s) didn't have free ports for the requested pod ports".into());
    }
    let room = node.allocatable.get("pods");
    if room.is_some_and(|r| r.millis() < (node.pods.len() as i128 + 1) * 1000) {
        return Some("Too many pods".into());
    }
    let mut short: Vec<&String> = wanted
        .requests
        .iter()
        .filter(|(k, q)| {
            **q > Quantity::default()
                && used(node, k) + **q > node.allocatable.get(*k).copied().unwrap_or_default()
        })
        .map(|(k, _)| k)
        .collect();
    short.sort();
    if let Some(k) = short.first() {
        return Some(format!("Insufficient {k}"));
    }
    None
}

fn used(node: &NodeInfo, resource: &str) -> Quantity {
    node.pods
        .values()
        .filter_map(|l| l.requests.get(resource))
        .fold(Quantity::default(), |a, q| a + *q)
}

/// Node selector and required node affinity.
fn selects(spec: &Value, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let plain = spec["nodeSelector"].as_object().into_iter().flatten();
    if !plain.into_iter().all(|(k, v)| labels.get(k).map(String::as_str) == v.as_str()) {
        return false;
    }
    let terms = spec.pointer(
        "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
    );
    match terms.and_then(Value::as_array) {
        None => true,
        Some(terms) => terms.iter().any(|t| term_matches(t, name, labels)),
    }
}

fn term_matches(term: &Value, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let (by_label, by_field) = (&term["matchExpressions"], &term["matchFields"]);
    let empty = |v: &Value| v.as_array().is_none_or(Vec::is_empty);
    if empty(by_label) && empty(by_field) {
        return false;
    }
    let read = |v: &Value| LabelSelector::from_value(&json!({"matchExpressions": v}));
    let (Ok(l), Ok(f)) = (read(by_label), read(by_field)) else { return false };
    l.matches(|k| labels.get(k).map(String::as_str))
        && f.matches(|k| (k == "metadata.name").then_some(name))
}

/// Whether required pod (anti-)affinity allows a node; topology domains are told apart by labels.
fn affinity_allows(
    pod: &Value,
    node: &NodeInfo,
    nodes: &BTreeMap<String, NodeInfo>,
) -> Option<&'static str> {
    let namespace = meta::namespace(pod);
    let matching = |term: &Value| -> usize {
        let Ok(selector) = LabelSelector::from_value(&term["labelSelector"]) else { return 0 };
        if !term["labelSelector"].is_object() {
            return 0;
        }
        let key = term["topologyKey"].as_str().unwrap_or_default();
        let domain = node.labels.get(key);
        let named: Vec<&str> =
            term["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let in_scope = |l: &Load| {
            if named.is_empty() {
                l.namespace == namespace
            } else {
                named.contains(&l.namespace.as_str())
            }
        };
        let same_domain =
            nodes.values().filter(|n| domain.is_some() && n.labels.get(key) == domain);
        same_domain
            .flat_map(|n| n.pods.values())
            .filter(|l| in_scope(l) && selector.matches(|k| l.labels.get(k).map(String::as_str)))
            .count()
    };
    let terms = |kind: &str| {
        let all = pod.pointer(&format!(
            "/spec/affinity/{kind}/requiredDuringSchedulingIgnoredDuringExecution"
        ));
        all.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    };
    let own = labels(&pod["metadata"]["labels"]);
    for t in terms("podAffinity") {
        // The first of a group that only wants company of its own kind may run anywhere.
        let itself = LabelSelector::from_value(&t["labelSelector"])
            .is_ok_and(|s| s.matches(|k| own.get(k).map(String::as_str)));
        let anywhere = nodes.values().flat_map(|n| n.pods.values()).any(|l| {
            LabelSelector::from_value(&t["labelSelector"])
                .is_ok_and(|s| s.matches(|k| l.labels.get(k).map(String::as_str)))
        });
        if matching(t) == 0 && (!itself || anywhere) {
            return Some("node(s) didn't match pod affinity rules");
        }
    }
    if terms("podAntiAffinity").iter().any(|t| matching(t) > 0) {
        return Some("node(s) didn't match pod anti-affinity rules");
    }
    None
}

/// The best node for a pod, or why there is none.
pub(crate) fn choose(pod: &Value, nodes: &BTreeMap<String, NodeInfo>) -> Result<String, String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<((i64, i128), &String)> = None;
    for (name, node) in nodes {
        let why =
            fit(pod, name, node).or_else(|| affinity_allows(pod, node, nodes).map(str::to_owned));
        match why {
            Some(why) => *reasons.entry(why).or_default() += 1,
            None => {
                let s = (preference(pod, name, node), -fullness(node));
                if best.as_ref().is_none_or(|(b, _)| s > *b) {
                    best = Some((s, name));
                }
            }
        }
    }
    if let Some((_, name)) = best {
        return Ok(name.clone());
    }
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".into());
    }
    let all: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
    Err(format!("0/{} nodes are available: {}.", nodes.len(), all.join(", ")))
}

/// The weights of preferred affinity, less the taints that are only preferred against.
fn preference(pod: &Value, name: &str, node: &NodeInfo) -> i64 {
    let terms =
        pod.pointer("/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution");
    let liked: i64 = terms
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|t| term_matches(&t["preference"], name, &node.labels))
        .map(|t| t["weight"].as_i64().unwrap_or(0))
        .sum();
    let tolerated = |t: &Value| {
        pod["spec"]["tolerations"].as_array().into_iter().flatten().any(|x| tolerates(x, t))
    };
    let disliked =
        node.taints.iter().filter(|t| t["effect"] == "PreferNoSchedule" && !tolerated(t)).count();
    liked - 100 * i64::try_from(disliked).unwrap_or(0)
}

/// How much of a node is taken, in thousandths: the fuller of cpu and memory, then the number of pods.
fn fullness(node: &NodeInfo) -> i128 {
    let share = |k: &str| {
        let total = node.allocatable.get(k).map_or(0, |q| q.millis());
        if total == 0 { 0 } else { used(node, k).millis() * 1000 / total }
    };
    share("cpu").max(share("memory")) * 1000 + node.pods.len() as i128
}

/// What the loop knows.
#[derive(Default)]
struct Index {
    nodes: BTreeMap<String, NodeInfo>,
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
    fn put_node(&mut self, node: &Value) {
        self.nodes.entry(meta::name(node).to_owned()).or_default().update(node);
    }

    fn remove_pod(&mut self, key: &str) {
        self.waiting.remove(key);
        self.told.remove(key);
        if let Some(node) = self.placed.remove(key)
            && let Some(n) = self.nodes.get_mut(&node)
        {
            n.pods.remove(key);
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
        if self.placed.get(&key) != Some(&node) {
            self.place(&key, &node, load(&pod));
        }
        false
    }

    fn place(&mut self, key: &str, node: &str, load: Load) {
        self.placed.insert(key.to_owned(), node.to_owned());
        // A pod may be on a node that is not registered yet.
        self.nodes
            .entry(node.to_owned())
            .or_insert_with(|| NodeInfo { unschedulable: true, ..NodeInfo::default() })
            .pods
            .insert(key.to_owned(), load);
    }
}

/// Follows nodes and pods, and places what waits.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut nodes = Follower::new(&plane, "core/nodes");
    let mut pods = Follower::new(&plane, "core/pods");
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
            changes = nodes.next() => all = changed_nodes(&mut index, changes),
            changes = pods.next() => for change in changes {
                match change {
                    Change::Reset(list) => {
                        let keep: BTreeSet<String> = list.iter().map(key).collect();
                        let known: Vec<String> = index.placed.keys().chain(index.waiting.keys()).cloned().collect();
                        known.iter().filter(|k| !keep.contains(*k)).for_each(|k| index.remove_pod(k));
                        list.into_iter().for_each(|p| { index.put_pod(p); });
                        all = true;
                    }
                    Change::Put(pod) => {
                        let key = key(&pod);
                        all |= index.put_pod(pod);
                        if index.waiting.contains_key(&key) {
                            fresh.insert(key);
                        }
                    }
                    Change::Gone(pod) => {
                        let key = key(&pod);
                        all |= index.placed.contains_key(&key);
                        index.remove_pod(&key);
                    }
                }
            },
            () = tokio::time::sleep(REPAIR) => all = true,
        }
    }
}

/// Returns whether waiting pods should be looked at again.
fn changed_nodes(index: &mut Index, changes: Vec<Change>) -> bool {
    for change in changes {
        match change {
            Change::Reset(list) => {
                let keep: BTreeSet<&str> = list.iter().map(meta::name).collect();
                index.nodes.retain(|n, _| keep.contains(n.as_str()));
                list.iter().for_each(|n| index.put_node(n));
            }
            Change::Put(n) => index.put_node(&n),
            Change::Gone(n) => {
                index.nodes.remove(meta::name(&n));
            }
        }
    }
    true
}

async fn place(plane: &Arc<Plane>, index: &mut Index, key: &str) {
    let Some(pod) = index.waiting.get(key).cloned() else { return };
    let (namespace, name) = (meta::namespace(&pod).to_owned(), meta::name(&pod).to_owned());
    match choose(&pod, &index.nodes) {
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
mod tests {
    use super::*;

    fn node(v: Value) -> NodeInfo {
        let mut n = NodeInfo::default();
        n.update(&v);
        n
    }

    fn nodes(list: &[(&str, Value)]) -> BTreeMap<String, NodeInfo> {
        list.iter().map(|(n, v)| ((*n).to_owned(), node(v.clone()))).collect()
    }

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec})
    }

    #[test]
    fn without_a_node_the_reason_is_that_of_kubernetes() {
        assert_eq!(
            choose(&pod(json!({})), &BTreeMap::new()),
            Err("no nodes available to schedule pods".into())
        );
        let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}});
        let all = nodes(&[
            ("a", taint),
            (
                "b",
                json!({"metadata": {"labels": {"x": "y"}}, "status": {"allocatable": {"cpu": "1"}}}),
            ),
        ]);
        assert_eq!(
            choose(&pod(json!({"containers": [{"resources": {"requests": {"cpu": "2"}}}]})), &all),
            Err("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.".into())
        );
    }

    #[test]
    fn selectors_tolerations_and_affinity_choose() {
        let all = nodes(&[
            ("plain", json!({})),
            (
                "edge",
                json!({"metadata": {"labels": {"node-role.kubernetes.io/edge": "", "zone": "z1"}},
                "spec": {"taints": [{"key": "edge", "value": "yes", "effect": "NoSchedule"}]}}),
            ),
        ]);
        let mut p = pod(json!({"nodeSelector": {"zone": "z1"}}));
        assert!(choose(&p, &all).is_err());
        p["spec"]["tolerations"] =
            json!([{"key": "edge", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]);
        assert_eq!(choose(&p, &all), Ok("edge".into()));
        let a = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z2"]}]}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["plain"]}]}]}}}});
        assert_eq!(choose(&pod(a), &all), Ok("plain".into()));
    }

    #[test]
    fn room_is_counted_with_the_pods_that_are_there() {
        let mut index = Index::default();
        index.put_node(&json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "pods": "2"}}}));
        let mut running = pod(
            json!({"nodeName": "n", "containers": [{"resources": {"requests": {"cpu": "600m"}}}]}),
        );
        index.put_pod(running.clone());
        let wanting = pod(json!({"containers": [{"resources": {"requests": {"cpu": "500m"}}}]}));
        assert_eq!(
            choose(&wanting, &index.nodes),
            Err("0/1 nodes are available: 1 Insufficient cpu.".into())
        );
        running["status"] = json!({"phase": "Succeeded"});
        assert!(index.put_pod(running));
        assert_eq!(choose(&wanting, &index.nodes), Ok("n".into()));
    }

    #[test]
    fn the_emptier_node_is_taken() {
        let mut index = Index::default();
        for n in ["a", "b"] {
            index.put_node(&json!({"metadata": {"name": n}, "status": {"allocatable": {"cpu": "4", "memory": "1Gi"}}}));
        }
        let p = pod(json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}));
        assert_eq!(choose(&p, &index.nodes), Ok("a".into()));
        index.place("x", "a", load(&p));
        assert_eq!(choose(&p, &index.nodes), Ok("b".into()));
    }

    #[test]
    fn anti_affinity_keeps_apart() {
        let mut index = Index::default();
        for n in ["a", "b"] {
            index.put_node(
                &json!({"metadata": {"name": n, "labels": {"kubernetes.io/hostname": n}}}),
            );
        }
        let mut p = pod(
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}]}}}),
        );
        p["metadata"]["labels"] = json!({"app": "x"});
        index.place("1", "a", load(&p));
        assert_eq!(choose(&p, &index.nodes), Ok("b".into()));
        index.place("2", "b", load(&p));
        assert_eq!(
            choose(&p, &index.nodes),
            Err("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.".into())
        );
    }
}

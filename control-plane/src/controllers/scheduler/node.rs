//! What the scheduler knows of nodes and of the pods on them.
//!
//! Owns: reading what a pod takes, and sums per node. Called by: `mod.rs` keeps them up to date, the
//! filters and scores read them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::registry::meta;
use crate::registry::quantity::Quantity;
use crate::registry::selectors::LabelSelector;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// Looks a label up.
pub(super) fn get<'a>(labels: &'a Labels) -> impl Fn(&str) -> Option<&'a str> {
    |k| labels.get(k).map(String::as_str)
}

/// The nodes with their pods, and the labels of namespaces.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<String, NodeInfo>,
    pub(super) namespaces: BTreeMap<String, Labels>,
}

/// A node.
#[derive(Debug, Default, Clone)]
pub(super) struct NodeInfo {
    pub(super) labels: Labels,
    pub(super) taints: Vec<Value>,
    pub(super) unschedulable: bool,
    /// It has registered; pods may be on a node before that.
    pub(super) known: bool,
    pub(super) allocatable: HashMap<String, Quantity>,
    pods: BTreeMap<String, Load>,
    /// The sum of what the pods ask for.
    used: HashMap<String, Quantity>,
}

/// What a pod takes of its node, and whom it keeps away from it.
#[derive(Debug, Default, Clone)]
pub(super) struct Load {
    pub(super) requests: HashMap<String, Quantity>,
    pub(super) ports: Vec<(i64, String)>,
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) terminating: bool,
    /// Required anti-affinity: it also holds against pods that come later.
    pub(super) keeps_away: Vec<Term>,
}

/// A term of pod affinity or anti-affinity.
#[derive(Debug, Clone)]
pub(super) struct Term {
    selector: LabelSelector,
    pub(super) topology: String,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
}

impl Term {
    /// Reads a term of a pod in `namespace`; one that cannot be read selects nothing and is none.
    pub(super) fn read(term: &Value, namespace: &str) -> Option<Self> {
        let selector = &term["labelSelector"];
        let given = |v: &&Value| v.is_object();
        let mut namespaces: Vec<String> = term["namespaces"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect();
        let namespace_selector = Some(&term["namespaceSelector"]).filter(given);
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        Some(Self {
            selector: LabelSelector::from_value(Some(selector).filter(given)?).ok()?,
            topology: term["topologyKey"].as_str().unwrap_or_default().to_owned(),
            namespaces,
            namespace_selector: match namespace_selector {
                Some(s) => Some(LabelSelector::from_value(s).ok()?),
                None => None,
            },
        })
    }

    /// Whether a pod is one of those that the term is about.
    pub(super) fn is_about(&self, namespace: &str, labels: &Labels, cluster: &Cluster) -> bool {
        let in_scope = self.namespaces.iter().any(|n| n == namespace)
            || self.namespace_selector.as_ref().is_some_and(|s| {
                cluster.namespaces.get(namespace).is_some_and(|l| s.matches(get(l)))
            });
        in_scope && self.selector.matches(get(labels))
    }
}

/// Terms of a pod's affinity: `podAffinity` or `podAntiAffinity`, required ones.
pub(super) fn required(pod: &Value, kind: &str) -> Vec<Term> {
    let pointer = format!("/spec/affinity/{kind}/requiredDuringSchedulingIgnoredDuringExecution");
    let all = pod.pointer(&pointer).and_then(Value::as_array);
    let namespace = meta::namespace(pod);
    all.into_iter().flatten().filter_map(|t| Term::read(t, namespace)).collect()
}

pub(super) fn quantities(v: &Value) -> HashMap<String, Quantity> {
    let one = |(k, v): (&String, &Value)| Some((k.clone(), Quantity::parse(v.as_str()?)?));
    v.as_object().into_iter().flatten().filter_map(one).collect()
}

pub(super) fn labels(v: &Value) -> Labels {
    let all = v.as_object().into_iter().flatten();
    all.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

impl NodeInfo {
    /// Takes in a node; returns whether anything changed that counts here.
    pub(super) fn update(&mut self, node: &Value) -> bool {
        let labels = labels(&node["metadata"]["labels"]);
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let unschedulable = node["spec"]["unschedulable"] == true;
        let allocatable = quantities(&node["status"]["allocatable"]);
        if self.known
            && self.labels == labels
            && self.taints == taints
            && self.unschedulable == unschedulable
            && self.allocatable == allocatable
        {
            return false;
        }
        (self.labels, self.taints, self.unschedulable) = (labels, taints, unschedulable);
        (self.allocatable, self.known) = (allocatable, true);
        true
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = &Load> {
        self.pods.values()
    }

    pub(super) fn count(&self) -> i128 {
        self.pods.len() as i128
    }

    pub(super) fn used(&self, resource: &str) -> Quantity {
        self.used.get(resource).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, key: &str, load: Load) {
        self.remove(key);
        for (k, q) in &load.requests {
            let slot = self.used.entry(k.clone()).or_default();
            *slot = *slot + *q;
        }
        self.pods.insert(key.to_owned(), load);
    }

    pub(super) fn remove(&mut self, key: &str) {
        let Some(load) = self.pods.remove(key) else { return };
        // Summed up anew: quantities cannot be taken from one another without rounding twice.
        for k in load.requests.keys() {
            let of = self.pods.values().filter_map(|l| l.requests.get(k));
            let sum = of.fold(Quantity::default(), |a, q| a + *q);
            self.used.insert(k.clone(), sum);
        }
    }
}

/// What a pod asks for: the sum of its containers, or its largest init container, plus overhead.
pub(super) fn load(pod: &Value) -> Load {
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
        terminating: meta::is_terminating(pod),
        keeps_away: required(pod, "podAntiAffinity"),
    }
}

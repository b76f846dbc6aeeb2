//! Whether a node by itself can run a pod.
//!
//! Owns: selectors, taints, ports and resources. Called by: `choose.rs`; the daemon set and node
//! controllers for selectors and tolerations. Never: looks at other nodes; `topology.rs` does.

use serde_json::{Value, json};

use super::node::{Labels, Load, NodeInfo, get};
use crate::registry::quantity::Quantity;
use crate::registry::selectors::LabelSelector;

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

/// Whether a pod tolerates a taint.
pub(super) fn is_tolerated(spec: &Value, taint: &Value) -> bool {
    spec["tolerations"].as_array().into_iter().flatten().any(|t| tolerates(t, taint))
}

/// Why a pod cannot run on a node, in the words of Kubernetes; nothing if it can. Of resources all
/// that are short are named.
pub(super) fn fit(pod: &Value, wanted: &Load, name: &str, node: &NodeInfo) -> Vec<String> {
    let spec = &pod["spec"];
    let cordon = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    if node.unschedulable && !is_tolerated(spec, &cordon) {
        return vec!["node(s) were unschedulable".into()];
    }
    if let Some(taint) = forbidding(spec, node) {
        let text = |f: &str| taint[f].as_str().unwrap_or_default();
        return vec![format!(
            "node(s) had untolerated taint {{{}: {}}}",
            text("key"),
            text("value")
        )];
    }
    if !selects(spec, name, &node.labels) {
        return vec!["node(s) didn't match Pod's node affinity/selector".into()];
    }
    if wanted.ports.iter().any(|p| node.pods().any(|l| l.ports.contains(p))) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    short(wanted, node)
}

/// The first taint that keeps the pod away.
fn forbidding<'a>(spec: &Value, node: &'a NodeInfo) -> Option<&'a Value> {
    let hard = |t: &&Value| matches!(t["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
    node.taints.iter().filter(hard).find(|t| !is_tolerated(spec, t))
}

fn short(wanted: &Load, node: &NodeInfo) -> Vec<String> {
    let mut out = Vec::new();
    let room = node.allocatable.get("pods");
    if room.is_some_and(|r| r.millis() < (node.count() + 1) * 1000) {
        out.push("Too many pods".to_owned());
    }
    let mut asked: Vec<(&String, &Quantity)> =
        wanted.requests.iter().filter(|(_, q)| **q > Quantity::default()).collect();
    asked.sort_by_key(|(k, _)| *k);
    for (k, q) in asked {
        let total = node.allocatable.get(k).copied().unwrap_or_default();
        if node.used(k) + *q > total {
            out.push(format!("Insufficient {k}"));
        }
    }
    out
}

/// Node selector and required node affinity.
pub(crate) fn selects(spec: &Value, name: &str, labels: &Labels) -> bool {
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

/// Whether a node selector term fits a node.
pub(super) fn term_matches(term: &Value, name: &str, labels: &Labels) -> bool {
    let (by_label, by_field) = (&term["matchExpressions"], &term["matchFields"]);
    let empty = |v: &Value| v.as_array().is_none_or(Vec::is_empty);
    if empty(by_label) && empty(by_field) {
        return false;
    }
    let read = |v: &Value| LabelSelector::from_value(&json!({"matchExpressions": v}));
    let (Ok(l), Ok(f)) = (read(by_label), read(by_field)) else { return false };
    l.matches(get(labels)) && f.matches(|k| (k == "metadata.name").then_some(name))
}

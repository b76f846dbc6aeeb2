//! The best node for a pod.
//!
//! Owns: putting filters and scores together, and the sentence when there is no node.
//! Called by: `mod.rs`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::filter::{fit, is_tolerated, term_matches};
use super::node::{Cluster, NodeInfo, load};
use super::topology::Topology;

/// The best node for a pod, or why there is none, in the words of Kubernetes.
pub(super) fn choose(pod: &Value, cluster: &Cluster) -> Result<String, String> {
    let wanted = load(pod);
    let topology = Topology::of(pod, &wanted, cluster);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<((i64, i128), &String)> = None;
    let nodes = || cluster.nodes.iter().filter(|(_, n)| n.known);
    for (name, node) in nodes() {
        let mut why = fit(pod, &wanted, name, node);
        if why.is_empty() {
            why.extend(topology.forbids(node).map(str::to_owned));
        }
        if why.is_empty() {
            let liked = preference(pod, name, node) + topology.score(node);
            let score = (liked, -fullness(node));
            if best.as_ref().is_none_or(|(b, _)| score > *b) {
                best = Some((score, name));
            }
        }
        for w in why {
            *reasons.entry(w).or_default() += 1;
        }
    }
    if let Some((_, name)) = best {
        return Ok(name.clone());
    }
    let total = nodes().count();
    if total == 0 {
        return Err("no nodes available to schedule pods".into());
    }
    let mut all: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
    all.sort();
    Err(format!("0/{total} nodes are available: {}.", all.join(", ")))
}

/// The weights of preferred node affinity, less the taints that are only preferred against.
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
    let soft = node.taints.iter().filter(|t| t["effect"] == "PreferNoSchedule");
    let disliked = soft.filter(|t| !is_tolerated(&pod["spec"], t)).count();
    liked - 100 * i64::try_from(disliked).unwrap_or(0)
}

/// How much of a node is taken, in thousandths: the fuller of cpu and memory, then the number of pods.
fn fullness(node: &NodeInfo) -> i128 {
    let share = |k: &str| {
        let total = node.allocatable.get(k).map_or(0, |q| q.millis());
        if total == 0 { 0 } else { node.used(k).millis() * 1000 / total }
    };
    share("cpu").max(share("memory")) * 1000 + node.count()
}

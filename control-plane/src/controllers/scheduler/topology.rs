//! Whether a pod fits to those that run already: affinity, anti-affinity and even spreading.
//!
//! Owns: counting pods per domain, a domain being the nodes with the same value of a label.
//! Called by: `choose.rs`, once per pod and then for each node. Never: looks at a node's room.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::filter::{is_tolerated, selects};
use super::node::{Cluster, Load, NodeInfo, Term, get, required};
use crate::registry::meta;
use crate::registry::selectors::LabelSelector;

/// Pods per value of a topology label.
type Domains = BTreeMap<String, i64>;

/// What a pod asks of its neighbours, with the counts that the answers need.
pub(super) struct Topology {
    affinity: Vec<(Term, Domains)>,
    /// Nobody that it wants to be near is anywhere, but it would itself be wanted.
    first_of_its_kind: bool,
    anti_affinity: Vec<(Term, Domains)>,
    /// Label and values that pods which are there keep this one away from.
    kept_away: BTreeSet<(String, String)>,
    spread: Vec<Spread>,
    /// Weights of preferred terms per domain: label, value, weight.
    preferred: Vec<(String, Domains)>,
}

/// A topology spread constraint.
struct Spread {
    topology: String,
    max_skew: i64,
    hard: bool,
    /// The pod counts where it goes, too.
    itself: i64,
    domains: Domains,
    least: i64,
}

fn count(term: &Term, cluster: &Cluster) -> Domains {
    let mut domains = Domains::new();
    for node in cluster.nodes.values() {
        let Some(value) = node.labels.get(&term.topology) else { continue };
        let here = node.pods().filter(|l| term.is_about(&l.namespace, &l.labels, cluster)).count();
        if here > 0 {
            *domains.entry(value.clone()).or_default() += here as i64;
        }
    }
    domains
}

impl Topology {
    pub(super) fn of(pod: &Value, load: &Load, cluster: &Cluster) -> Self {
        let counted = |kind: &str| -> Vec<(Term, Domains)> {
            let with_count = |t: Term| {
                let domains = count(&t, cluster);
                (t, domains)
            };
            required(pod, kind).into_iter().map(with_count).collect()
        };
        let affinity = counted("podAffinity");
        let itself = |t: &Term| t.is_about(&load.namespace, &load.labels, cluster);
        let first_of_its_kind = affinity.iter().all(|(t, d)| d.is_empty() && itself(t));
        Self {
            first_of_its_kind,
            affinity,
            anti_affinity: counted("podAntiAffinity"),
            kept_away: kept_away(load, cluster),
            spread: spread(pod, load, cluster),
            preferred: preferred(pod, load, cluster),
        }
    }

    /// Why the pod cannot be on a node; none if it can.
    pub(super) fn forbids(&self, node: &NodeInfo) -> Option<&'static str> {
        for s in self.spread.iter().filter(|s| s.hard) {
            let Some(value) = node.labels.get(&s.topology) else {
                return Some(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                );
            };
            let here = s.domains.get(value).copied().unwrap_or(0);
            if here + s.itself - s.least > s.max_skew {
                return Some("node(s) didn't match pod topology spread constraints");
            }
        }
        let is_near = |(t, d): &(Term, Domains)| {
            node.labels.get(&t.topology).is_some_and(|v| d.contains_key(v))
        };
        let has_label = |(t, _): &(Term, Domains)| node.labels.contains_key(&t.topology);
        let together = if self.first_of_its_kind {
            self.affinity.iter().all(has_label)
        } else {
            self.affinity.iter().all(is_near)
        };
        if !together {
            return Some("node(s) didn't match pod affinity rules");
        }
        if self.anti_affinity.iter().any(is_near) {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
        let kept = self.kept_away.iter().any(|(k, v)| node.labels.get(k) == Some(v));
        kept.then_some("node(s) didn't satisfy existing pods anti-affinity rules")
    }

    /// How much the pod would like to be on a node: more is better.
    pub(super) fn score(&self, node: &NodeInfo) -> i64 {
        let at = |label: &str, d: &Domains| {
            node.labels.get(label).and_then(|v| d.get(v)).copied().unwrap_or(0)
        };
        let liked: i64 = self.preferred.iter().map(|(label, d)| at(label, d)).sum();
        let soft = self.spread.iter().filter(|s| !s.hard);
        let crowded: i64 = soft.map(|s| at(&s.topology, &s.domains)).sum();
        liked - crowded
    }
}

/// Where pods that are there do not want this one.
fn kept_away(load: &Load, cluster: &Cluster) -> BTreeSet<(String, String)> {
    let mut out = BTreeSet::new();
    for node in cluster.nodes.values() {
        for term in node.pods().flat_map(|l| &l.keeps_away) {
            if let Some(value) = node.labels.get(&term.topology)
                && term.is_about(&load.namespace, &load.labels, cluster)
            {
                out.insert((term.topology.clone(), value.clone()));
            }
        }
    }
    out
}

fn preferred(pod: &Value, load: &Load, cluster: &Cluster) -> Vec<(String, Domains)> {
    let mut out = Vec::new();
    for (kind, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
        let pointer =
            format!("/spec/affinity/{kind}/preferredDuringSchedulingIgnoredDuringExecution");
        let terms = pod.pointer(&pointer).and_then(Value::as_array);
        for t in terms.into_iter().flatten() {
            let Some(term) = Term::read(&t["podAffinityTerm"], &load.namespace) else { continue };
            let weight = sign * t["weight"].as_i64().unwrap_or(0);
            let mut domains = count(&term, cluster);
            domains.values_mut().for_each(|n| *n *= weight);
            out.push((term.topology, domains));
        }
    }
    out
}

fn spread(pod: &Value, load: &Load, cluster: &Cluster) -> Vec<Spread> {
    let all = pod.pointer("/spec/topologySpreadConstraints").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|c| one_spread(c, pod, load, cluster)).collect()
}

fn one_spread(constraint: &Value, pod: &Value, load: &Load, cluster: &Cluster) -> Option<Spread> {
    let topology = constraint["topologyKey"].as_str()?.to_owned();
    let selector = &constraint["labelSelector"];
    let selector = LabelSelector::from_value(selector).ok().filter(|_| selector.is_object())?;
    let same = matching_keys(constraint, load);
    let chosen = |l: &Load| {
        l.namespace == meta::namespace(pod)
            && !l.terminating
            && selector.matches(get(&l.labels))
            && same.iter().all(|(k, v)| l.labels.get(k) == Some(v))
    };
    let spec = &pod["spec"];
    let heeds_taints = constraint["nodeTaintsPolicy"] == "Honor";
    let heeds_affinity = constraint["nodeAffinityPolicy"] != "Ignore";
    let mut domains = Domains::new();
    for (name, node) in cluster.nodes.iter().filter(|(_, n)| n.known) {
        let Some(value) = node.labels.get(&topology) else { continue };
        let hard = |t: &&Value| matches!(t["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
        let tainted = node.taints.iter().filter(hard).any(|t| !is_tolerated(spec, t));
        if (heeds_affinity && !selects(spec, name, &node.labels)) || (heeds_taints && tainted) {
            continue;
        }
        let here = node.pods().filter(|l| chosen(l)).count() as i64;
        *domains.entry(value.clone()).or_default() += here;
    }
    // With fewer domains than there should be at least, an empty one is thought of.
    let enough = constraint["minDomains"].as_i64().is_none_or(|n| domains.len() as i64 >= n);
    let least = if enough { domains.values().min().copied().unwrap_or(0) } else { 0 };
    Some(Spread {
        topology,
        max_skew: constraint["maxSkew"].as_i64().unwrap_or(1),
        hard: constraint["whenUnsatisfiable"] != "ScheduleAnyway",
        itself: i64::from(selector.matches(get(&load.labels))),
        domains,
        least,
    })
}

/// `matchLabelKeys`: pods count that have the same values as the one to be placed.
fn matching_keys(constraint: &Value, load: &Load) -> Vec<(String, String)> {
    let keys = constraint["matchLabelKeys"].as_array().into_iter().flatten();
    keys.filter_map(|k| k.as_str())
        .filter_map(|k| Some((k.to_owned(), load.labels.get(k)?.clone())))
        .collect()
}

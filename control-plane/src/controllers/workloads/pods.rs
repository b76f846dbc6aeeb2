//! What the workload controllers know of a pod: much less than all of it.
//!
//! Owns: reading these facts from a stored pod. Called by: `world.rs`.
//! Never: keeps a whole pod; ten thousand of them are followed.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::registry::meta;
use crate::registry::selectors::LabelSelector;

/// The finalizer that keeps a job's pod until it has been counted.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// How often its index had failed before, if the job has a limit for each.
pub(crate) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Where an indexed job's pod has its index.
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Unknown,
    Running,
    Succeeded,
    Failed,
}

/// Who controls an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Controller {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// A port that a container names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) number: i64,
    pub(crate) protocol: String,
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) revision: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) controller: Option<Controller>,
    pub(crate) created: Option<jiff::Timestamp>,
    pub(crate) terminating: bool,
    pub(crate) finalizers: Vec<String>,
    pub(crate) deletion_cost: i64,
    pub(crate) index: Option<i64>,
    /// How often its index had failed before.
    pub(crate) index_failures: i64,
    pub(crate) node: String,
    /// The node it was made for, if its affinity names just one.
    pub(crate) pinned: String,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) ports: Vec<Port>,
    pub(crate) phase: Phase,
    pub(crate) ips: Vec<String>,
    /// Since when it is ready, if it is.
    pub(crate) ready_since: Option<jiff::Timestamp>,
    pub(crate) restarts: i64,
    /// When its last container ended.
    pub(crate) finished: Option<jiff::Timestamp>,
    /// Exit codes of containers that have ended, by container name.
    pub(crate) exits: Vec<(String, i64)>,
    /// Conditions that are true.
    pub(crate) conditions: Vec<String>,
}

impl Pod {
    /// Reads the stored text of a pod; none if it is not one.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Raw>(text).ok().map(Raw::facts)
    }

    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it has not ended and is not about to.
    pub(crate) fn is_active(&self) -> bool {
        !self.terminating && !self.has_ended()
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// When it has been ready for long enough; none if it is not ready.
    pub(crate) fn available_at(&self, min_ready_seconds: i64) -> Option<jiff::Timestamp> {
        self.ready_since.map(|t| meta::later(t, min_ready_seconds.max(0)))
    }

    pub(crate) fn is_available(&self, min_ready_seconds: i64, now: jiff::Timestamp) -> bool {
        min_ready_seconds <= 0 && self.is_ready()
            || self.available_at(min_ready_seconds).is_some_and(|t| t <= now)
    }

    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is_selected(&self, selector: &LabelSelector) -> bool {
        selector.matches(|k| self.labels.get(k).map(String::as_str))
    }
}

fn time(text: &Option<String>) -> Option<jiff::Timestamp> {
    text.as_deref()?.parse().ok()
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    metadata: RawMeta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawMeta {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<RawAnnotations>,
    owner_references: Option<Vec<RawOwner>>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    finalizers: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawAnnotations {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost")]
    cost: Option<String>,
    #[serde(rename = "batch.kubernetes.io/job-completion-index")]
    index: Option<String>,
    #[serde(rename = "batch.kubernetes.io/job-index-failure-count")]
    index_failures: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawOwner {
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawSpec {
    node_name: Option<String>,
    hostname: Option<String>,
    subdomain: Option<String>,
    containers: Vec<RawContainer>,
    affinity: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawContainer {
    ports: Option<Vec<RawPort>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawPort {
    name: Option<String>,
    container_port: i64,
    protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<RawIp>>,
    conditions: Option<Vec<RawCondition>>,
    container_statuses: Option<Vec<RawContainerStatus>>,
    init_container_statuses: Option<Vec<RawContainerStatus>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIp {
    ip: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawCondition {
    r#type: String,
    status: String,
    last_transition_time: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawContainerStatus {
    name: String,
    restart_count: i64,
    state: Option<RawState>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawState {
    terminated: Option<RawTerminated>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawTerminated {
    exit_code: i64,
    finished_at: Option<String>,
}

/// The one node that a daemon's pod is made for.
fn pinned(affinity: Option<&serde_json::Value>) -> Option<String> {
    let terms = affinity?.pointer(
        "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
    )?;
    let fields = terms.as_array()?.iter().find_map(|t| t["matchFields"].as_array())?;
    let field = fields.iter().find(|f| f["key"] == "metadata.name" && f["operator"] == "In")?;
    match field["values"].as_array()?.as_slice() {
        [one] => one.as_str().map(str::to_owned),
        _ => None,
    }
}

impl Raw {
    fn facts(self) -> Pod {
        let Self { metadata: m, spec, status } = self;
        let owner = m.owner_references.into_iter().flatten().find(|o| o.controller == Some(true));
        let annotations = m.annotations.unwrap_or_default();
        let statuses: Vec<RawContainerStatus> = status
            .container_statuses
            .into_iter()
            .flatten()
            .chain(status.init_container_statuses.into_iter().flatten())
            .collect();
        let ended =
            || statuses.iter().filter_map(|s| Some((s, s.state.as_ref()?.terminated.as_ref()?)));
        let conditions: Vec<RawCondition> = status.conditions.unwrap_or_default();
        let ready = conditions.iter().find(|c| c.r#type == "Ready" && c.status == "True");
        let created = time(&m.creation_timestamp);
        let mut ips: Vec<String> =
            status.pod_ips.into_iter().flatten().map(|i| i.ip).filter(|i| !i.is_empty()).collect();
        if ips.is_empty() {
            ips.extend(status.pod_ip.filter(|i| !i.is_empty()));
        }
        Pod {
            pinned: pinned(spec.affinity.as_ref()).unwrap_or_default(),
            ready_since: ready.map(|c| {
                time(&c.last_transition_time).or(created).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            }),
            restarts: statuses.iter().map(|s| s.restart_count).sum(),
            finished: ended().filter_map(|(_, t)| time(&t.finished_at)).max(),
            exits: ended().map(|(s, t)| (s.name.clone(), t.exit_code)).collect(),
            conditions: conditions
                .into_iter()
                .filter(|c| c.status == "True")
                .map(|c| c.r#type)
                .collect(),
            namespace: m.namespace,
            name: m.name,
            uid: m.uid,
            revision: m.resource_version,
            labels: m.labels.unwrap_or_default(),
            controller: owner.map(|o| Controller { kind: o.kind, name: o.name, uid: o.uid }),
            created,
            terminating: m.deletion_timestamp.is_some(),
            finalizers: m.finalizers.unwrap_or_default(),
            deletion_cost: annotations.cost.and_then(|c| c.parse().ok()).unwrap_or(0),
            index: annotations.index.and_then(|i| i.parse().ok()),
            index_failures: annotations
                .index_failures
                .and_then(|n| n.parse().ok())
                .unwrap_or_default(),
            node: spec.node_name.unwrap_or_default(),
            hostname: spec.hostname.unwrap_or_default(),
            subdomain: spec.subdomain.unwrap_or_default(),
            ports: spec
                .containers
                .into_iter()
                .flat_map(|c| c.ports.unwrap_or_default())
                .map(|p| Port {
                    name: p.name.unwrap_or_default(),
                    number: p.container_port,
                    protocol: p.protocol.unwrap_or_else(|| "TCP".into()),
                })
                .collect(),
            phase: match status.phase.as_deref() {
                Some("Running") => Phase::Running,
                Some("Succeeded") => Phase::Succeeded,
                Some("Failed") => Phase::Failed,
                Some("Unknown") => Phase::Unknown,
                _ => Phase::Pending,
            },
            ips,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_facts_of_a_pod_are_read_and_what_is_null_counts_as_missing() {
        let text = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"},
                "annotations": {"other": "1", "controller.kubernetes.io/pod-deletion-cost": "-5"},
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": null,
                "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true}]},
            "spec": {"nodeName": "edge", "containers": [{"name": "c", "ports": [{"containerPort": 80, "name": "http"}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}],
                "containerStatuses": [{"name": "c", "restartCount": 2}]},
        });
        let pod = Pod::read(text.to_string().as_bytes()).expect("a pod");
        assert_eq!((pod.key().as_str(), pod.deletion_cost, pod.restarts), ("n/a", -5, 2));
        assert!(pod.is_active() && pod.is_ready());
        assert_eq!(pod.controller.as_ref().map(|c| c.uid.as_str()), Some("o"));
        assert_eq!(pod.ips, ["10.0.0.1"]);
        let at = |t: &str| t.parse::<jiff::Timestamp>().unwrap();
        assert!(!pod.is_available(30, at("2026-01-01T00:00:39Z")));
        assert!(pod.is_available(30, at("2026-01-01T00:00:40Z")));
    }

    #[test]
    fn a_pod_for_one_node_says_which() {
        let a = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["edge-1"]}]}]}}});
        assert_eq!(pinned(Some(&a)).as_deref(), Some("edge-1"));
        assert_eq!(pinned(None), None);
    }
}

//! Which nodes a job is about, and which of them can take part.
//!
//! Owns: the reading of nodes by name and by label; the checks before a node is told anything.
//! Called by: `mod.rs`, once per job.
//! Never: leaves a node out in silence: one that cannot take part has a status that says why.

use std::collections::BTreeSet;

use api::crd::operations::{
    JobPhase, NodePhase, NodeUpgradeJobSpec, NodeUpgradeJobStatus, NodeUpgradeStatus,
};
use api::names::{Kind, NodeName};
use api::printable::printable;
use api::status::upgrades::edge_version;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::upgrade;
use crate::apiserver::{ApiError, ApiServer, Path};
use crate::object::EDGE_LABEL;

/// Nodes of one job. Its status, with every step of each, must fit into one object.
pub(super) const NODES: usize = 1000;

/// The status with which a job begins.
///
/// # Errors
/// When the API server does not answer; what is wrong with the job is in its status.
pub(super) async fn resolve(
    api: &ApiServer,
    spec: &NodeUpgradeJobSpec,
) -> Result<NodeUpgradeJobStatus, ApiError> {
    let failed = |reason: String| NodeUpgradeJobStatus {
        phase: JobPhase::Failure,
        reason: Some(reason),
        ..NodeUpgradeJobStatus::default()
    };
    let found = match (spec.node_names.as_slice(), &spec.label_selector) {
        (_, _) if spec.version.as_deref().unwrap_or_default().is_empty() => {
            return Ok(failed("`version` is missing".to_owned()));
        }
        ([], None) | ([_, ..], Some(_)) => {
            return Ok(failed(
                "exactly one of `nodeNames` and `labelSelector` is to be set".into(),
            ));
        }
        (names, None) => by_name(api, names).await?,
        ([], Some(selector)) => by_label(api, selector).await?,
    };
    match found.len() {
        0 => Ok(failed("no node has these labels".to_owned())),
        n if n > NODES => Ok(failed(format!("{n} nodes are more than one job may have ({NODES})"))),
        _ => Ok(begin(spec, &found)),
    }
}

/// A node by name, or that there is none.
type Found = (String, Option<Node>);

async fn by_name(api: &ApiServer, names: &[String]) -> Result<Vec<Found>, ApiError> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for name in names.iter().filter(|name| seen.insert(name.as_str())) {
        if found.len() > NODES {
            break;
        }
        let node = match Path::collection(&Kind::Node, None)?.named(name) {
            Err(_) => None,
            Ok(path) => match api.get(&path).await {
                Ok(node) => Some(node.to().map_err(unreadable)?),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            },
        };
        found.push((name.clone(), node));
    }
    Ok(found)
}

async fn by_label(api: &ApiServer, selector: &LabelSelector) -> Result<Vec<Found>, ApiError> {
    let path = Path::collection(&Kind::Node, None)?;
    let (mut found, mut more) = (Vec::new(), None);
    loop {
        let page = api.page(&path, more.as_deref()).await?;
        for node in &page.items {
            let node: Node = node.to().map_err(unreadable)?;
            if selects(selector, node.metadata.labels.as_ref()) {
                found.push((node.metadata.name.clone().unwrap_or_default(), Some(node)));
            }
        }
        more = page.more;
        if more.is_none() {
            found.sort_by(|(a, _), (b, _)| a.cmp(b));
            return Ok(found);
        }
    }
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::Unreachable(format!("its answer is no node: {error}"))
}

type Labels = std::collections::BTreeMap<String, String>;

/// Whether a selector selects these labels; an empty one selects all. An operator that Kubernetes
/// does not have selects nothing.
fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    let labels = labels.unwrap_or(&none);
    let equal = selector.match_labels.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let wanted = selector.match_expressions.iter().flatten().all(|wanted| {
        let value = labels.get(&wanted.key);
        let one_of = || value.is_some_and(|v| wanted.values.iter().flatten().any(|w| w == v));
        match wanted.operator.as_str() {
            "In" => one_of(),
            "NotIn" => !one_of(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && wanted
}

/// Every node waits for its turn, or has a reason why it has none.
fn begin(spec: &NodeUpgradeJobSpec, found: &[Found]) -> NodeUpgradeJobStatus {
    let version = spec.version.as_deref().unwrap_or_default();
    let node_status = found.iter().map(|(name, node)| status(version, name, node.as_ref()));
    let mut status =
        NodeUpgradeJobStatus { node_status: node_status.collect(), ..Default::default() };
    upgrade::conclude(&mut status, spec.failure_tolerate.as_deref());
    status
}

fn status(version: &str, name: &str, node: Option<&Node>) -> NodeUpgradeStatus {
    let mut all = NodeUpgradeStatus {
        node_name: Some(name.to_owned()),
        phase: Some(NodePhase::Failure),
        ..NodeUpgradeStatus::default()
    };
    let Some(node) = node else {
        let why = if name.parse::<NodeName>().is_ok() {
            "there is no such node".to_owned()
        } else {
            format!("`{}` is no name of a node", printable(name, 64))
        };
        return NodeUpgradeStatus { reason: Some(why), ..all };
    };
    let status = node.status.as_ref();
    let kubelet = status.and_then(|s| s.node_info.as_ref()).map(|i| i.kubelet_version.as_str());
    let runs = edge_version(kubelet.unwrap_or_default());
    all.historic_version = (!runs.is_empty()).then(|| runs.to_owned());
    let is_edge = node.metadata.labels.as_ref().is_some_and(|l| l.contains_key(EDGE_LABEL));
    let ready = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let ready = ready.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let (phase, reason) = match () {
        () if !is_edge => (NodePhase::Failure, Some("it is no edge node".to_owned())),
        () if runs == version => {
            all.current_version = Some(runs.to_owned());
            (NodePhase::Successful, Some(format!("it runs {version} already")))
        }
        () if !ready => (NodePhase::Failure, Some("the node is not Ready".to_owned())),
        () => (NodePhase::Pending, None),
    };
    NodeUpgradeStatus { phase: Some(phase), reason, ..all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(edge: bool, ready: &str, version: &str) -> Node {
        let labels = if edge { json!({EDGE_LABEL: "", "site": "a"}) } else { json!({}) };
        let info = json!({"kubeletVersion": version, "architecture": "", "bootID": "",
            "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
            "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""});
        let status = json!({"conditions": [{"type": "Ready", "status": ready}], "nodeInfo": info});
        serde_json::from_value(
            json!({"metadata": {"name": "n", "labels": labels}, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn a_node_that_cannot_take_part_says_why() {
        let of = |node: Option<Node>| {
            let status = status("v1.23.0", "n", node.as_ref());
            (status.phase.unwrap(), status.reason.unwrap_or_default())
        };
        let old = "v1.32.10-kubeedge-v1.22.0";
        assert_eq!(of(Some(node(true, "True", old))), (NodePhase::Pending, String::new()));
        for (node, why) in [
            (None, "there is no such node"),
            (Some(node(false, "True", old)), "it is no edge node"),
            (Some(node(true, "Unknown", old)), "the node is not Ready"),
        ] {
            assert_eq!(of(node), (NodePhase::Failure, why.to_owned()));
        }
        let there = node(true, "False", "v1.32.10-kubeedge-v1.23.0");
        assert_eq!(of(Some(there)), (NodePhase::Successful, "it runs v1.23.0 already".to_owned()));
        let odd = status("v1.23.0", "../x", None);
        assert_eq!(odd.reason.as_deref(), Some("`../x` is no name of a node"));
    }

    #[test]
    fn a_selector_selects_as_in_kubernetes() {
        let labels: Labels = [("site".to_owned(), "a".to_owned())].into();
        let of = |selector: serde_json::Value| {
            selects(&serde_json::from_value(selector).unwrap(), Some(&labels))
        };
        let expression = |operator: &str, values: &[&str]| {
            of(
                json!({"matchExpressions": [{"key": "site", "operator": operator, "values": values}]}),
            )
        };
        assert!(of(json!({})) && of(json!({"matchLabels": {"site": "a"}})));
        assert!(!of(json!({"matchLabels": {"site": "b"}})));
        assert!(expression("In", &["a", "b"]) && !expression("In", &["b"]));
        assert!(expression("NotIn", &["b"]) && !expression("NotIn", &["a"]));
        assert!(expression("Exists", &[]) && !expression("DoesNotExist", &[]));
        assert!(!expression("Near", &["a"]));
    }
}

//! What nodes and pods use, as the metrics API of a cluster has it, where there is one.
//!
//! Owns: the pace of asking; how `metrics.k8s.io` writes it.
//! Called by: `kubernetes.rs`.
//! Never: makes up what is not served, or asks the nodes: only a status stream does.

use std::collections::BTreeMap;
use std::time::Duration;

use api::quantity;
use api::status::row::Usage;
use kube::api::ListParams;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{list, name_of};
use crate::cloud::Cloud;

/// As often as such an API has something new.
const PACE: Duration = Duration::from_secs(15);

/// By name of the node, and by `namespace/name` of the pod.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) nodes: BTreeMap<String, Usage>,
    pub(super) pods: BTreeMap<String, Usage>,
}

/// Asks once; nothing is known if nobody serves it, or it does not answer.
pub(super) async fn measure(cloud: &Cloud, limit: Duration) -> Used {
    let of = |kind: &str, plural: &str| {
        let gvk = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", kind);
        ApiResource::from_gvk_with_plural(&gvk, plural)
    };
    let all = async |resource: ApiResource| {
        let found = list(cloud, &resource, ListParams::default(), limit).await.unwrap_or_default();
        let one = |object: Value| Some((name_of(&object), usage(&object)?));
        found.into_iter().filter_map(one).collect()
    };
    let (nodes, pods) = (of("NodeMetrics", "nodes"), of("PodMetrics", "pods"));
    let (nodes, pods) = tokio::join!(all(nodes), all(pods));
    Used { nodes, pods }
}

/// Asks again and again, until nobody listens.
pub(super) async fn keep(cloud: Cloud, limit: Duration, told: mpsc::Sender<Used>) {
    loop {
        sleep(PACE).await;
        if told.send(measure(&cloud, limit).await).await.is_err() {
            return;
        }
    }
}

/// Of a node, or of a pod's containers together. Pure.
fn usage(object: &Value) -> Option<Usage> {
    let of = |object: &Value| {
        let text = |name: &str| object["usage"][name].as_str();
        Some((cpu_millis(text("cpu")?)?, quantity::whole(text("memory")?)?))
    };
    let (cpu_millis, memory) = match object["containers"].as_array() {
        Some(all) => all
            .iter()
            .filter_map(of)
            .reduce(|a, b| (a.0.saturating_add(b.0), a.1.saturating_add(b.1)))?,
        None => of(object)?,
    };
    Some(Usage { cpu_millis, memory, ..Usage::default() })
}

/// `250m`, `2`, and `123456789n` as such APIs write it. Pure.
fn cpu_millis(text: &str) -> Option<u64> {
    let parts = |digits: &str, in_one: u64| Some(digits.parse::<u64>().ok()? / in_one);
    match (text.strip_suffix('n'), text.strip_suffix('u')) {
        (Some(digits), _) => parts(digits, 1_000_000),
        (_, Some(digits)) => parts(digits, 1_000),
        _ => quantity::thousandths(text),
    }
}

/// What of processor (in thousandths of a core) and memory a node has, as its object says. Pure.
pub(super) fn capacity(node: &Value) -> (u64, u64) {
    let text = |name: &str| node["status"]["capacity"][name].as_str();
    let cpu = text("cpu").and_then(quantity::thousandths);
    (cpu.unwrap_or(0), text("memory").and_then(quantity::whole).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn processor_and_memory_are_read_as_metrics_servers_write_them() {
        let of = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let read = |object: &Value| usage(object).map(|u| (u.cpu_millis, u.memory));
        assert_eq!(read(&of("137642389n", "1129116Ki")), Some((137, 1_129_116 << 10)));
        assert_eq!(read(&of("1500u", "5")), Some((1, 5)));
        assert_eq!(read(&of("2", "1Gi")), Some((2000, 1 << 30)));
        assert_eq!(read(&of("much", "1Gi")), None);
        let pod = json!({"containers": [of("10m", "1Mi"), of("5m", "2Mi"), {"name": "new"}]});
        assert_eq!(read(&pod), Some((15, 3 << 20)));
        assert_eq!(read(&json!({"containers": []})), None, "nothing is measured yet");
    }
}

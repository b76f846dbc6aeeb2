//! Kubernetes objects as rows. Pure.
//!
//! Owns: what of a Node, a Pod, an Event is shown.
//! Called by: whoever feeds a board, in the cloud and at the edge; `keadm`, where no board answers.
//! Never: knows how an object travelled: links, queues and hop times are its caller's.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::row::{EventRow, Millis, NodeRow, PodRow};

/// A time as rows have it.
pub fn millis(time: Option<&Time>) -> Option<i64> {
    time.map(|t| t.0.as_millisecond())
}

/// The row of a node, as far as its object knows it.
pub fn node(node: Node) -> NodeRow {
    let meta = node.metadata;
    let status = node.status.unwrap_or_default();
    let info = status.node_info.unwrap_or_default();
    let ready = status.conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    let address = status.addresses.into_iter().flatten().find(|a| a.type_ == "InternalIP");
    NodeRow {
        created: millis(meta.creation_timestamp.as_ref()),
        name: meta.name.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        cordoned: node.spec.and_then(|s| s.unschedulable).unwrap_or(false),
        reason: ready.as_ref().and_then(|c| c.reason.clone()).unwrap_or_default(),
        ready: ready.map(|c| c.status).unwrap_or_default(),
        version: info.kubelet_version,
        runtime: info.container_runtime_version,
        platform: match (info.operating_system.as_str(), info.architecture.as_str()) {
            ("", "") => String::new(),
            (os, arch) => format!("{os}/{arch}"),
        },
        address: address.map(|a| a.address).unwrap_or_default(),
        ..NodeRow::default()
    }
}

/// The row of a pod, as far as its object knows it.
pub fn pod(pod: Pod) -> PodRow {
    let words = status_words(&pod);
    let meta = pod.metadata;
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let statuses = status.container_statuses.unwrap_or_default();
    let restarts = |all: &[ContainerStatus]| -> u32 {
        all.iter().map(|c| u32::try_from(c.restart_count).unwrap_or(0)).sum()
    };
    PodRow {
        created: millis(meta.creation_timestamp.as_ref()),
        namespace: meta.namespace.unwrap_or_default(),
        name: meta.name.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        node: spec.node_name.unwrap_or_default(),
        status: words,
        ready: u32::try_from(statuses.iter().filter(|c| c.ready).count()).unwrap_or(u32::MAX),
        containers: u32::try_from(spec.containers.len()).unwrap_or(u32::MAX),
        restarts: restarts(&statuses)
            + restarts(status.init_container_statuses.as_deref().unwrap_or_default()),
        images: spec.containers.into_iter().filter_map(|c| c.image).collect(),
        phase: status.phase.unwrap_or_default(),
        ip: status.pod_ip.unwrap_or_default(),
        ..PodRow::default()
    }
}

fn ended(prefix: &str, state: &ContainerState) -> Option<String> {
    let end = state.terminated.as_ref()?;
    Some(match (end.reason.as_deref(), end.signal) {
        (Some(reason), _) if !reason.is_empty() => format!("{prefix}{reason}"),
        (_, Some(signal)) if signal != 0 => format!("{prefix}Signal:{signal}"),
        _ => format!("{prefix}ExitCode:{}", end.exit_code),
    })
}

fn waits(state: &ContainerState) -> Option<&str> {
    state.waiting.as_ref()?.reason.as_deref().filter(|r| !r.is_empty())
}

/// What init containers make of the status, while they are not done.
fn init_words(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let specs = pod.spec.as_ref()?.init_containers.as_deref().unwrap_or_default();
    for (n, container) in statuses.iter().enumerate() {
        let state = container.state.clone().unwrap_or_default();
        let sidecar = specs
            .iter()
            .find(|s| s.name == container.name)
            .is_some_and(|s| s.restart_policy.as_deref() == Some("Always"));
        if state.terminated.as_ref().is_some_and(|t| t.exit_code == 0)
            || (sidecar && container.started == Some(true))
        {
            continue;
        }
        if let Some(words) = ended("Init:", &state) {
            return Some(words);
        }
        return Some(match waits(&state) {
            Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{n}/{}", specs.len().max(statuses.len())),
        });
    }
    None
}

/// What kubectl shows in its STATUS column.
fn status_words(pod: &Pod) -> String {
    let empty = k8s_openapi::api::core::v1::PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    if pod.metadata.deletion_timestamp.is_some() {
        let lost = status.reason.as_deref() == Some("NodeLost");
        return if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    if let Some(words) = init_words(pod) {
        return words;
    }
    let phase = status.phase.clone().unwrap_or_default();
    let mut words = status.reason.clone().filter(|r| !r.is_empty()).unwrap_or(phase);
    let mut running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        let state = container.state.clone().unwrap_or_default();
        if let Some(reason) = waits(&state) {
            reason.clone_into(&mut words);
        } else if let Some(end) = ended("", &state) {
            words = end;
        } else if container.ready && state.running.is_some() {
            running = true;
        }
    }
    if words == "Completed" && running {
        let ready =
            status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        return if ready { "Running" } else { "NotReady" }.to_owned();
    }
    words
}

/// The line of an Event; `now` if it has no time.
pub fn event(node: &str, event: Event, now: Millis) -> EventRow {
    let about = event.involved_object;
    let kind = about.kind.unwrap_or_default().to_lowercase();
    let name = about.name.unwrap_or_default();
    let object = match about.namespace.filter(|n| !n.is_empty() && kind != "node") {
        Some(namespace) => format!("{kind}/{namespace}/{name}"),
        None => format!("{kind}/{name}"),
    };
    let at = millis(event.last_timestamp.as_ref())
        .or_else(|| event.event_time.map(|t| t.0.as_millisecond()))
        .or_else(|| millis(event.metadata.creation_timestamp.as_ref()))
        .unwrap_or(now);
    EventRow {
        at,
        kind: event.type_.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        object,
        node: node.to_string(),
        message: event.message.unwrap_or_default(),
        count: event.count.and_then(|c| u32::try_from(c).ok()).unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn words(status: Value) -> String {
        let pod = json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
            "status": status,
        });
        status_words(&serde_json::from_value(pod).unwrap())
    }

    fn container(state: Value, ready: bool) -> Value {
        json!({"name": "a", "image": "i", "imageID": "", "ready": ready, "restartCount": 3, "state": state})
    }

    #[test]
    fn a_pods_status_reads_as_kubectl_writes_it() {
        let waiting = |r: &str| container(json!({"waiting": {"reason": r}}), false);
        let running = container(json!({"running": {}}), true);
        let done = |r: Value| container(json!({"terminated": r}), false);
        let cases = [
            (json!({"phase": "Running", "containerStatuses": [running]}), "Running"),
            (
                json!({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}),
                "CrashLoopBackOff",
            ),
            (json!({"phase": "Failed", "reason": "Evicted"}), "Evicted"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [waiting("ImagePullBackOff")]}),
                "Init:ImagePullBackOff",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [waiting("PodInitializing")]}),
                "Init:0/1",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [done(json!({"exitCode": 3}))]}),
                "Init:ExitCode:3",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [done(json!({"exitCode": 137, "signal": 9}))]}),
                "Signal:9",
            ),
            (
                json!({"phase": "Running", "containerStatuses":
                    [done(json!({"exitCode": 0, "reason": "Completed"})), running],
                    "conditions": [{"type": "Ready", "status": "True"}]}),
                "Running",
            ),
            (json!({"phase": "Pending"}), "Pending"),
        ];
        for (status, want) in cases {
            assert_eq!(words(status.clone()), want, "{status}");
        }
    }

    #[test]
    fn an_event_names_what_it_is_about() {
        let text = json!({"metadata": {}, "involvedObject": {"kind": "Pod", "namespace": "default",
            "name": "web"}, "type": "Warning", "reason": "BackOff", "message": "m", "count": 4,
            "lastTimestamp": "2026-01-02T03:04:05Z"});
        let row = event("edge-1", serde_json::from_value(text).unwrap(), 0);
        assert_eq!((row.object.as_str(), row.count), ("pod/default/web", 4));
        assert_eq!(row.at, 1_767_323_045_000);
    }
}

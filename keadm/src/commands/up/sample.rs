//! The node and the sample workload, as the API server shows them.

#[cfg(feature = "edge")]
use edgecore::edged::runtime::embedded::sample::IMAGE;
#[cfg(feature = "edge")]
use edgecore::edged::runtime::{ContainerRuntime as _, ContainerState};
#[cfg(feature = "edge")]
use k8s_openapi::api::core::v1::ContainerState as PodContainerState;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;
#[cfg(feature = "edge")]
use kube::api::PostParams;
#[cfg(feature = "edge")]
use serde_json::json;

#[cfg(feature = "edge")]
use super::Up;
use super::parts::Parts;
#[cfg(feature = "edge")]
use crate::errors::{CommandError, Kind};
#[cfg(feature = "edge")]
use crate::phases::{Outcome, Step};

/// The sample pod's name.
#[cfg(feature = "edge")]
const NAME: &str = "hello";

/// Waits until the node is Ready.
#[cfg(feature = "edge")]
pub(super) async fn node_ready(up: &Up, parts: &Parts, step: Step) -> Outcome {
    let nodes: Api<Node> = Api::all(parts.cloud()?.client.clone());
    let name = up.node.as_str();
    super::until(&step, up.timeout, &format!("node `{name}`"), || async {
        match nodes.get_opt(name).await {
            Err(e) => Err(e.to_string()),
            Ok(None) => Err("the node is not registered yet".to_owned()),
            Ok(Some(node)) if ready(&node) => Ok(()),
            Ok(Some(_)) => Err("the node is registered and not Ready yet".to_owned()),
        }
    })
    .await?;
    Ok(format!("`{name}` is Ready"))
}

/// Makes the sample pod if it is not there, and waits until it runs.
#[cfg(feature = "edge")]
pub(super) async fn running(up: &Up, parts: &Parts, step: Step) -> Outcome {
    let cloud = parts.cloud()?;
    let pods: Api<Pod> = Api::namespaced(cloud.client.clone(), "default");
    let found = pods.get_opt(NAME).await.map_err(|e| cloud.error("look for the sample", &e))?;
    if found.is_none() {
        let made = pods.create(&PostParams::default(), &pod(up)?).await;
        made.map_err(|e| cloud.error("make the sample pod", &e))?;
    }
    super::until(&step, up.timeout, &format!("pod `{NAME}`"), || async {
        match pods.get(NAME).await {
            // What the API server says may be from an earlier run; what the runtime says is not.
            Ok(pod) if phase(&pod) == "Running" => match runs(parts, &pod).await {
                true => Ok(()),
                false => Err(why(&pod)),
            },
            Ok(pod) => Err(why(&pod)),
            Err(e) => Err(e.to_string()),
        }
    })
    .await
    .map_err(|e| e.hint(format!("`kubectl describe pod {NAME}` tells more")))?;
    Ok(format!("pod `{NAME}` is Running"))
}

#[cfg(feature = "edge")]
fn pod(up: &Up) -> Result<Pod, CommandError> {
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": NAME, "namespace": "default", "labels": { "app": NAME } },
        "spec": {
            // Here, and not on a second node that may have joined.
            "nodeName": up.node.as_str(),
            "automountServiceAccountToken": false,
            "containers": [{
                "name": NAME,
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "resources": { "limits": { "memory": "32Mi" }, "requests": { "cpu": "10m" } },
            }],
        },
    }))
    .map_err(|e| CommandError::new(Kind::Failed, "the sample pod is broken").caused_by(&e))
}

/// Whether a container of this pod is running here and now.
#[cfg(feature = "edge")]
async fn runs(parts: &Parts, pod: &Pod) -> bool {
    let (Some(containers), Some(uid)) = (&parts.containers, &pod.metadata.uid) else {
        return false;
    };
    let seen = containers.list(Some(uid)).await;
    seen.is_ok_and(|seen| seen.containers.iter().any(|c| c.state == ContainerState::Running))
}

/// What a pod that does not run waits for, and what its last try came to. Pure.
#[cfg(feature = "edge")]
fn why(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let all = || status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let waiting = all().find_map(|c| c.state.as_ref()?.waiting.clone());
    let ended = all().find_map(|c| {
        let of = |state: &Option<PodContainerState>| state.as_ref()?.terminated.clone();
        of(&c.state).or_else(|| of(&c.last_state))
    });
    let said = |what: Option<String>, message: Option<String>| {
        let message = message.filter(|m| !m.is_empty()).map(|m| format!(": {m}"));
        what.map(|what| format!("{what}{}", message.unwrap_or_default()))
    };
    let waiting = waiting.and_then(|w| said(w.reason.or(Some("waiting".to_owned())), w.message));
    // A runtime that cannot start it says the same twice.
    let ended = ended.filter(|e| {
        let last = e.message.as_deref().filter(|m| !m.is_empty());
        !last.is_some_and(|last| waiting.as_ref().is_some_and(|w| w.contains(last)))
    });
    let ended = ended.and_then(|e| said(e.reason, e.message));
    match (waiting, ended) {
        (Some(waiting), Some(ended)) => return format!("{waiting}; its last try: {ended}"),
        (Some(one), None) | (None, Some(one)) => return one,
        (None, None) if phase(pod) == "Running" => {
            return "its container is being started".to_owned();
        }
        (None, None) => {}
    }
    let unscheduled = status
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status != "True");
    match unscheduled {
        Some(condition) => condition.message.clone().unwrap_or_else(|| "not scheduled".to_owned()),
        None => format!("the pod is {}", phase(pod)),
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

fn ready(node: &Node) -> bool {
    node.status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// The nodes and pods, as a short table.
pub(super) async fn table(parts: &Parts) -> Vec<String> {
    let Ok(cloud) = parts.cloud() else { return Vec::new() };
    let nodes = Api::<Node>::all(cloud.client.clone()).list(&ListParams::default()).await;
    let pods = Api::<Pod>::all(cloud.client.clone()).list(&ListParams::default()).await;
    let mut lines = Vec::new();
    for node in nodes.into_iter().flatten() {
        let name = node.metadata.name.clone().unwrap_or_default();
        lines.push(format!(
            "node    {name:<30} {}",
            if ready(&node) { "Ready" } else { "NotReady" }
        ));
    }
    for pod in pods.into_iter().flatten() {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or("");
        let name = format!("{namespace}/{}", metadata.name.as_deref().unwrap_or(""));
        lines.push(format!("pod     {name:<30} {}", phase(&pod)));
    }
    #[cfg(feature = "edge")]
    lines.extend(super::device::line(cloud).await);
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

#[cfg(test)]
#[cfg(feature = "edge")]
mod tests {
    use super::*;

    fn waits(status: serde_json::Value) -> String {
        why(&serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap())
    }

    #[test]
    fn a_container_that_cannot_be_started_is_told_with_its_reason() {
        let failed = json!({"exitCode": 128, "reason": "StartError", "message": "no cgroups"});
        let of = |state: serde_json::Value, last: serde_json::Value| {
            let mut status = json!({"name": "hello", "image": "i", "imageID": "", "ready": false,
                "restartCount": 1});
            (status["state"], status["lastState"]) = (state, last);
            json!({"phase": "Running", "containerStatuses": [status]})
        };
        let none = json!({});
        assert_eq!(
            waits(of(json!({"terminated": failed}), none.clone())),
            "StartError: no cgroups"
        );
        let backs_off = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(
            waits(of(backs_off, json!({"terminated": failed}))),
            "CrashLoopBackOff; its last try: StartError: no cgroups"
        );
        let cannot = json!({"waiting": {"reason": "RunContainerError", "message": "no cgroups"}});
        assert_eq!(
            waits(of(cannot, json!({"terminated": failed}))),
            "RunContainerError: no cgroups",
            "not said twice"
        );
        assert_eq!(waits(of(none.clone(), none)), "its container is being started");
        assert_eq!(waits(json!({"phase": "Pending"})), "the pod is Pending");
    }
}

//! What a reader may ask for, carried out at the API server, or by the node itself.
//!
//! Owns: the list of requests that are answered here.
//! Called by: `server.rs`, one task per request; the dashboard itself, where there is no stream.
//! Never: believes a name; `Path` refuses what is none.

use std::time::Duration;

use api::config::yaml;
use api::names::{Kind, NodeName, ObjectKey};
use api::printable::printable;
use api::raw::RawJson;
use api::status::drained::Drained;
use api::status::row::{RowKey, RowKind};
use api::status::stream::Request;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::logs;
use crate::apiserver::{ApiError, ApiServer, Patch, Path};
use crate::cloudstream::{NodeApis, Question, Verb};

/// A device that somebody else has changed meanwhile is read so often.
const CONFLICTS: u32 = 4;

/// The requests that an API server alone can answer, as `hello` names them.
const REQUESTS: [&str; 6] = ["yaml", "cordon", "drain", "deletePod", "setDesired", "logs"];
/// Those that a node's own API answers.
const BY_NODES: [&str; 2] = ["restartPod", "confirmUpgrade"];
/// Answers of nodes to a restart have a few names.
const ANSWER: usize = 64 << 10;
/// A container may take its time to end.
const RESTART_LIMIT: Duration = Duration::from_secs(120);
/// A node only notes that it may go on.
const CONFIRM_LIMIT: Duration = Duration::from_secs(30);
/// KubeEdge's path for it, which `keadm ctl confirm` on the node uses, too.
const CONFIRM: &str = "/api/v1/taskupgrade/confirm-upgrade";

/// Who carries requests out.
#[derive(Debug, Clone)]
pub struct Means {
    /// The API server.
    pub api: ApiServer,
    /// The nodes' own APIs; only cloudcore reaches those.
    pub nodes: Option<NodeApis>,
}

impl Means {
    /// The requests that can be answered so, as `hello` names them.
    pub fn requests(&self) -> Vec<String> {
        let more: &[_] = if self.nodes.is_some() { &BY_NODES } else { &[] };
        REQUESTS.iter().chain(more).map(|request| (*request).to_owned()).collect()
    }
}

/// Takes the next lines of a log; false once nobody wants more.
pub type Lines<'a> = &'a (dyn Fn(Vec<String>) -> BoxFuture<'static, bool> + Send + Sync);

/// Carries one out; the answer, or why there is none. Lines of a log go to `lines` before that.
///
/// # Errors
/// What the API server or the node said, in words.
pub async fn answer(means: &Means, request: Request, lines: Lines<'_>) -> Result<String, String> {
    let api = &means.api;
    let outcome = match request {
        Request::Yaml { key } => show(api, &key).await,
        Request::Cordon { node, on } => cordon(api, &node, on).await,
        Request::Drain { node } => match drain(api, &node).await {
            Ok(done) if done.refused.is_some() => return Err(done.to_string()),
            done => done.map(|done| done.to_string()),
        },
        Request::DeletePod { namespace, pod, grace_period } => {
            delete(api, &namespace, &pod, grace_period).await
        }
        Request::Logs { namespace, pod, container, follow, tail } => {
            logs::read(api, &namespace, &pod, &logs::Part { container, follow, tail }, lines).await
        }
        Request::RestartPod { namespace, pod, dry_run } => {
            return restart(means, &namespace, &pod, dry_run).await;
        }
        Request::ConfirmUpgrade { node } => return confirm(means, &node).await,
        Request::SetDesired { namespace, device, property, value } => {
            return desire(api, &namespace, &device, &property, &value).await;
        }
    };
    outcome.map_err(|e| e.to_string())
}

fn node_path(node: &str) -> Result<Path, ApiError> {
    Path::collection(&Kind::Node, None)?.named(node)
}

pub(super) fn pod_path(namespace: &str, pod: &str) -> Result<Path, ApiError> {
    Path::collection(&Kind::Pod, Some(namespace))?.named(pod)
}

fn device_path(namespace: &str, device: &str) -> Result<Path, ApiError> {
    Path::of("devices.kubeedge.io/v1beta1", "devices", Some(namespace))?.named(device)
}

async fn show(api: &ApiServer, key: &RowKey) -> Result<String, ApiError> {
    let (namespace, name) = key.key.split_once('/').unwrap_or(("", &key.key));
    let path = match key.kind {
        RowKind::Node => node_path(name)?,
        RowKind::Pod => pod_path(namespace, name)?,
        RowKind::Device => device_path(namespace, name)?,
    };
    let mut object: Value = read(&api.get(&path).await?)?;
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    yaml::write(&object).map_err(ApiError::Unreachable)
}

fn read<T: serde::de::DeserializeOwned>(text: &RawJson) -> Result<T, ApiError> {
    text.to().map_err(|_| ApiError::Unreachable("its answer is not what was asked for".to_owned()))
}

fn body(value: &Value) -> RawJson {
    // Maps with string keys always have a JSON form.
    RawJson::of(value).unwrap_or_else(|_| RawJson::null())
}

async fn cordon(api: &ApiServer, node: &str, on: bool) -> Result<String, ApiError> {
    let patch = body(&json!({ "spec": { "unschedulable": on.then_some(true) } }));
    api.patch(&node_path(node)?, Patch::Merge, &patch).await?;
    Ok(format!("node {node} {}", if on { "cordoned" } else { "uncordoned" }))
}

async fn delete(
    api: &ApiServer,
    namespace: &str,
    pod: &str,
    grace: Option<u32>,
) -> Result<String, ApiError> {
    let options = match grace {
        None => RawJson::null(),
        Some(seconds) => body(&json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": seconds,
        })),
    };
    api.delete(&pod_path(namespace, pod)?, &options).await?;
    Ok(format!("pod {namespace}/{pod} is being deleted"))
}

/// The node stops the pod's containers, and edged starts them again as after any other end.
async fn restart(means: &Means, namespace: &str, pod: &str, dry: bool) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Restarted {
        containers: Vec<String>,
    }
    let Some(nodes) = &means.nodes else {
        return Err(
            "the Kubernetes API restarts no containers: cloudcore's status stream does, and \
                    `keadm ctl restart pod` on the pod's node"
                .to_owned(),
        );
    };
    // For its check alone: what goes into a path is a name.
    pod_path(namespace, pod).map_err(|e| e.to_string())?;
    let key = namespace.parse().map(|namespace| ObjectKey::new(namespace, Kind::Pod, pod));
    let node = key.ok().and_then(|key| nodes.node_of(&key));
    let node = node.ok_or_else(|| format!("pod {namespace}/{pod} is on no edge node"))?;
    let question = Question {
        verb: Verb::Post,
        path: format!("/restart/{namespace}/{pod}"),
        query: if dry { "dryRun=true" } else { "" },
        limit: ANSWER,
        within: RESTART_LIMIT,
    };
    let answer = nodes.ask(&node, &question).await.map_err(|e| e.to_string())?;
    let done: Restarted = serde_json::from_slice(&answer)
        .map_err(|_| format!("node `{node}` answers something else than which containers"))?;
    let doing = if dry { "would be restarted" } else { "restarted" };
    let all = done.containers.join(", ");
    Ok(format!("pod {namespace}/{pod} on node {node} {doing}: {}", printable(&all, 400)))
}

/// The node goes on with the upgrade that it holds back, or says that there is none.
async fn confirm(means: &Means, node: &str) -> Result<String, String> {
    let Some(nodes) = &means.nodes else {
        return Err(
            "the Kubernetes API tells no node to go on with an upgrade: cloudcore's status \
                    stream does, and `keadm ctl confirm` on the node"
                .to_owned(),
        );
    };
    let node: NodeName = node.parse().map_err(|e: api::names::NameError| e.to_string())?;
    let question = Question {
        verb: Verb::Post,
        path: CONFIRM.to_owned(),
        query: "",
        limit: ANSWER,
        within: CONFIRM_LIMIT,
    };
    nodes.ask(&node, &question).await.map_err(|e| e.to_string())?;
    Ok(format!("node {node} goes on with its upgrade"))
}

/// The list of properties can only be replaced as a whole; the version that was read goes with it,
/// so that nobody's change in between is lost.
async fn desire(
    api: &ApiServer,
    namespace: &str,
    device: &str,
    property: &str,
    value: &str,
) -> Result<String, String> {
    let said = |e: ApiError| e.to_string();
    let path = device_path(namespace, device).map_err(said)?;
    let mut last = String::new();
    for _ in 0..CONFLICTS {
        let object: Value = api.get(&path).await.and_then(|text| read(&text)).map_err(said)?;
        let mut properties = object["spec"]["properties"].clone();
        let named = |p: &&mut Value| p["name"] == property;
        let all = properties.as_array_mut().into_iter().flatten();
        let Some(found) = all.into_iter().find(named) else {
            return Err(format!("device {namespace}/{device} has no property `{property}`"));
        };
        // What else is said of the wish stays, but for when it was made.
        found["desired"]["value"] = json!(value);
        found["desired"]["metadata"]["timestamp"] = json!(super::now().to_string());
        let version = &object["metadata"]["resourceVersion"];
        let patch = body(&json!({
            "metadata": { "resourceVersion": version }, "spec": { "properties": properties },
        }));
        match api.patch(&path, Patch::Merge, &patch).await {
            Ok(_) => {
                return Ok(format!("{property} of device {namespace}/{device} shall be {value}"));
            }
            Err(error) if error.is_conflict() => last = error.to_string(),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(last)
}

#[derive(Deserialize)]
struct Pods {
    items: Option<Vec<PodHead>>,
}

#[derive(Deserialize)]
struct PodHead {
    metadata: PodMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodMeta {
    name: String,
    namespace: String,
    annotations: Option<std::collections::BTreeMap<String, String>>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
}

impl PodMeta {
    /// A DaemonSet would put it back at once, and a static pod is not the cluster's to remove.
    fn stays(&self) -> bool {
        let daemon = self.owner_references.iter().flatten().any(|o| o.kind == "DaemonSet");
        let mirror = "kubernetes.io/config.mirror";
        daemon || self.annotations.as_ref().is_some_and(|a| a.contains_key(mirror))
    }
}

async fn drain(api: &ApiServer, node: &str) -> Result<Drained, ApiError> {
    cordon(api, node, true).await?;
    let all =
        Path::collection(&Kind::Pod, None)?.query(&format!("fieldSelector=spec.nodeName%3D{node}"));
    let pods: Pods = read(&api.get(&all).await?)?;
    let mut done = Drained { node: node.to_owned(), ..Drained::default() };
    for PodHead { metadata: pod } in pods.items.unwrap_or_default() {
        if pod.stays() {
            done.stayed += 1;
            continue;
        }
        let eviction = body(&json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": { "name": pod.name, "namespace": pod.namespace },
        }));
        let path = pod_path(&pod.namespace, &pod.name)?.named("eviction")?;
        match api.evict(&path, &eviction).await {
            Ok(_) => done.evicted += 1,
            Err(error) if error.is_not_found() => {}
            // Its budget allows no eviction now; the others can go meanwhile.
            Err(ApiError::Refused(status)) if status.code == 429 => {
                let why = || format!("pod {}/{}: {}", pod.namespace, pod.name, status.message);
                done.refused.get_or_insert_with(|| (0, why())).0 += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

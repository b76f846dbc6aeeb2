//! What a reader may ask for, carried out at the API server.
//!
//! Owns: the list of requests that are answered here.
//! Called by: `server.rs`, one task per request.
//! Never: believes a name; `Path` refuses what is none.

use api::config::yaml;
use api::names::Kind;
use api::raw::RawJson;
use api::status::row::{RowKey, RowKind};
use api::status::stream::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::apiserver::{ApiError, ApiServer, Patch, Path};

/// The requests that are answered here, as `hello` names them.
pub(super) const REQUESTS: [&str; 4] = ["yaml", "cordon", "drain", "deletePod"];

/// Carries one out; the answer, or why there is none.
pub(super) async fn answer(api: &ApiServer, request: Request) -> Result<String, String> {
    let outcome = match request {
        Request::Yaml { key } => show(api, &key).await,
        Request::Cordon { node, on } => cordon(api, &node, on).await,
        Request::Drain { node } => drain(api, &node).await,
        Request::DeletePod { namespace, pod } => delete(api, &namespace, &pod).await,
        Request::Logs { .. } => return Err("cloudcore does not serve logs here".to_owned()),
        Request::RestartPod { .. } => {
            return Err("cloudcore cannot restart the containers of a pod".to_owned());
        }
        Request::SetDesired { .. } => {
            return Err("cloudcore does not set desired values here".to_owned());
        }
    };
    outcome.map_err(|e| e.to_string())
}

fn node_path(node: &str) -> Result<Path, ApiError> {
    Path::collection(&Kind::Node, None)?.named(node)
}

fn pod_path(namespace: &str, pod: &str) -> Result<Path, ApiError> {
    Path::collection(&Kind::Pod, Some(namespace))?.named(pod)
}

async fn show(api: &ApiServer, key: &RowKey) -> Result<String, ApiError> {
    let (namespace, name) = key.key.split_once('/').unwrap_or(("", &key.key));
    let path = match key.kind {
        RowKind::Node => node_path(name)?,
        RowKind::Pod => pod_path(namespace, name)?,
        RowKind::Device => {
            Path::of("devices.kubeedge.io/v1beta1", "devices", Some(namespace))?.named(name)?
        }
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

async fn delete(api: &ApiServer, namespace: &str, pod: &str) -> Result<String, ApiError> {
    api.delete(&pod_path(namespace, pod)?, &RawJson::null()).await?;
    Ok(format!("pod {namespace}/{pod} is being deleted"))
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

async fn drain(api: &ApiServer, node: &str) -> Result<String, ApiError> {
    cordon(api, node, true).await?;
    let all =
        Path::collection(&Kind::Pod, None)?.query(&format!("fieldSelector=spec.nodeName%3D{node}"));
    let pods: Pods = read(&api.get(&all).await?)?;
    let (mut evicted, mut stayed) = (0, 0);
    for PodHead { metadata: pod } in pods.items.unwrap_or_default() {
        if pod.stays() {
            stayed += 1;
            continue;
        }
        let eviction = body(&json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": { "name": pod.name, "namespace": pod.namespace },
        }));
        let path = pod_path(&pod.namespace, &pod.name)?.named("eviction")?;
        match api.create(&path, &eviction).await {
            Ok(_) => evicted += 1,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(format!("node {node} cordoned, {evicted} pods evicted, {stayed} left (DaemonSet or static)"))
}

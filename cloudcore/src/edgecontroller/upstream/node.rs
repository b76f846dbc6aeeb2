//! Nodes: registration, status, labels, and which cloudcore serves them.

use std::collections::BTreeMap;

use api::names::{Kind, NodeName, ObjectKey};
use api::raw::RawJson;
use serde_json::{Map, Value, json as value};
use tracing::{debug, info};

use super::{Context, Done, json, refused};
use crate::apiserver::{ApiError, Patch, Path};
use crate::object::CLOUDCORE_ANNOTATION;

fn path(name: &NodeName) -> Result<Path, ApiError> {
    Path::object(&ObjectKey::cluster(Kind::Node, name.as_str()))
}

/// Labels that the API server's node restriction refuses to nodes; cloudcore sets them in its own
/// name after the node is made.
fn is_restricted(label: &str) -> bool {
    let prefix = label.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == "kubernetes.io" || prefix.ends_with(".kubernetes.io")
}

/// Splits a node as the edge sends it into what is created and the labels that follow. Pure.
fn split(node: &RawJson, cloudcore: &str) -> Result<(Value, Map<String, Value>), ApiError> {
    let bad = || refused(400, "BadRequest", "the content is not a Node");
    let mut node: Value = node.to().map_err(|_| bad())?;
    let metadata = node.get_mut("metadata").and_then(Value::as_object_mut).ok_or_else(bad)?;
    let mut later = Map::new();
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.retain(|name, label| {
            let restricted = is_restricted(name);
            if restricted {
                later.insert(name.clone(), label.take());
            }
            !restricted
        });
    }
    let annotations = metadata.entry("annotations").or_insert_with(|| value!({}));
    if annotations.is_null() {
        *annotations = value!({});
    }
    let annotations = annotations.as_object_mut().ok_or_else(bad)?;
    annotations.insert(CLOUDCORE_ANNOTATION.to_owned(), cloudcore.into());
    let root = node.as_object_mut().ok_or_else(bad)?;
    root.insert("apiVersion".to_owned(), "v1".into());
    root.insert("kind".to_owned(), "Node".into());
    Ok((node, later))
}

/// Creates the node, and then gives it the labels that make it an edge node.
pub(super) async fn register(
    cx: &Context,
    name: &NodeName,
    node: &RawJson,
) -> Result<Done, ApiError> {
    let (object, labels) = split(node, &cx.address)?;
    let collection = Path::collection(&Kind::Node, None)?;
    let created = cx.api.create(&collection, &json(&object)).await;
    let patch = json(&value!({ "metadata": {
        "labels": labels,
        "annotations": { CLOUDCORE_ANNOTATION: cx.address },
    }}));
    match created {
        Ok(created) if labels.is_empty() => Ok(Done::object(created)),
        Ok(_) => {
            info!(node = %name, "node registered");
            cx.api.patch(&path(name)?, Patch::Merge, &patch).await.map(Done::object)
        }
        Err(error) => {
            if error.already_exists() {
                // An earlier try may have ended between the two steps.
                cx.api.patch(&path(name)?, Patch::Merge, &patch).await?;
            }
            Err(error)
        }
    }
}

/// A strategic merge patch of the status.
pub(super) async fn patch_status(
    cx: &Context,
    name: &NodeName,
    patch: &str,
) -> Result<Done, ApiError> {
    let patch = RawJson::parse(patch.to_owned())
        .map_err(|_| refused(400, "BadRequest", "the patch is not JSON"))?;
    let path = path(name)?.named("status")?;
    cx.api.patch(&path, Patch::Strategic, &patch).await.map(Done::versioned)
}

/// Labels and annotations that the edge wants its node to have.
pub(super) async fn update(
    cx: &Context,
    name: &NodeName,
    node: &RawJson,
) -> Result<Done, ApiError> {
    #[derive(serde::Deserialize)]
    struct Node {
        metadata: Meta,
    }
    #[derive(serde::Deserialize)]
    struct Meta {
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
    }
    let node: Node =
        node.to().map_err(|_| refused(400, "BadRequest", "the content is not a Node"))?;
    let patch = json(&value!({ "metadata": {
        "labels": node.metadata.labels.unwrap_or_default(),
        "annotations": node.metadata.annotations.unwrap_or_default(),
    }}));
    cx.api.patch(&path(name)?, Patch::Merge, &patch).await?;
    Ok(Done::ok())
}

/// The form of old edges: the whole status.
pub(super) async fn legacy_status(
    cx: &Context,
    name: &NodeName,
    content: &RawJson,
) -> Result<Done, ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Report {
        status: RawJson,
    }
    let report: Report =
        content.to().map_err(|_| refused(400, "BadRequest", "the content is not a status"))?;
    let patch = format!(r#"{{"status":{}}}"#, report.status.get());
    patch_status(cx, name, &patch).await?;
    Ok(Done::ok())
}

/// On connect: says in the node's annotation that this cloudcore serves it, if it does not yet.
pub(super) async fn served(cx: &Context, name: &NodeName) {
    {
        let index = cx.index.lock();
        let known = index.cloudcore_of(name);
        if !index.is_edge_node(name) || known == Some(cx.address.as_str()) {
            return;
        }
    }
    let patch = json(&value!({
        "metadata": { "annotations": { CLOUDCORE_ANNOTATION: cx.address } },
    }));
    let Ok(path) = path(name) else { return };
    if let Err(error) = cx.api.patch(&path, Patch::Merge, &patch).await {
        // Not yet registered, or the API server is away; either is repaired by the next connect.
        debug!(node = %name, %error, "the node's annotation could not be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restricted_labels_follow_after_the_node_is_made() {
        let node = json(&value!({"metadata": {"name": "edge-1", "labels": {
            "kubernetes.io/arch": "amd64",
            "node-role.kubernetes.io/edge": "",
            "beta.kubernetes.io/os": "linux",
            "site": "north",
            "notkubernetes.io/x": "y",
        }, "annotations": null}}));
        let (object, later) = split(&node, "10.0.0.1").unwrap();
        let labels = object["metadata"]["labels"].as_object().unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["notkubernetes.io/x", "site"]);
        assert_eq!(object["metadata"]["annotations"]["cloudcore"], "10.0.0.1");
        assert_eq!(object["kind"], "Node");
        assert_eq!(later.len(), 3);
        assert_eq!(later["node-role.kubernetes.io/edge"], "");
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for bad in ["null", "[]", "{}", r#"{"metadata":1}"#, r#"{"metadata":{"annotations":[]}}"#] {
            assert!(split(&RawJson::parse(bad.to_owned()).unwrap(), "x").is_err(), "{bad}");
        }
    }
}

//! Pods: mirrors of static ones, status, and the final deletion.

use api::names::{Kind, Namespace, NodeName, ObjectKey, Uid};
use api::raw::RawJson;
use serde::Deserialize;
use serde_json::{Value, json as value};
use tracing::info;

use super::{Context, Done, forbidden, json, refused};
use crate::apiserver::{ApiError, Patch, Path};
use crate::cloudhub::authorizer::{self, Verdict};
use crate::edgecontroller::index::deletion;

/// Creates the mirror of a static pod.
pub(super) async fn create_mirror(
    cx: &Context,
    key: &ObjectKey,
    pod: &RawJson,
) -> Result<Done, ApiError> {
    let bad = || refused(400, "BadRequest", "the content is not a Pod");
    let mut pod: Value = pod.to().map_err(|_| bad())?;
    let namespace = key.namespace.as_ref().ok_or_else(bad)?;
    let root = pod.as_object_mut().ok_or_else(bad)?;
    root.insert("apiVersion".to_owned(), "v1".into());
    root.insert("kind".to_owned(), "Pod".into());
    let metadata = root.get_mut("metadata").and_then(Value::as_object_mut).ok_or_else(bad)?;
    metadata.insert("name".to_owned(), (*key.name).into());
    metadata.insert("namespace".to_owned(), namespace.as_str().into());
    let collection = Path::collection(&Kind::Pod, Some(namespace.as_str()))?;
    cx.api.create(&collection, &json(&pod)).await.map(Done::object)
}

/// A strategic merge patch of the status. If the pod is gone, or another one bears its name, the
/// node is told that its own is no more: it may have missed the deletion.
pub(super) async fn patch_status(
    cx: &Context,
    node: &NodeName,
    key: &ObjectKey,
    patch: &str,
    check: bool,
) -> Result<Done, ApiError> {
    let patch = RawJson::parse(patch.to_owned())
        .map_err(|_| refused(400, "BadRequest", "the patch is not JSON"))?;
    let uid = patch.head().ok().and_then(|h| h.metadata.uid).and_then(|u| u.parse::<Uid>().ok());
    let path = Path::object(key)?;
    if check && let Err(error) = owned(cx, node, &path, uid.as_ref()).await {
        if error.is_not_found() {
            gone(cx, node, key, uid);
        }
        return Err(error);
    }
    let patched = cx.api.patch(&path.named("status")?, Patch::Strategic, &patch).await;
    if let Err(error) = &patched {
        // A patch with the uid of another incarnation is a conflict.
        if error.is_not_found() || (error.is_conflict() && is_reborn(cx, key, uid.as_ref())) {
            gone(cx, node, key, uid);
        }
    }
    patched.map(Done::versioned)
}

fn is_reborn(cx: &Context, key: &ObjectKey, uid: Option<&Uid>) -> bool {
    let index = cx.index.lock();
    index.uid_of(key).is_some_and(|now| uid.is_some_and(|u| u != now))
}

/// Tells the node that this incarnation of a pod is gone.
fn gone(cx: &Context, node: &NodeName, key: &ObjectKey, uid: Option<Uid>) {
    let Some(uid) = uid else { return };
    let index = cx.index.lock();
    if index.uid_of(key) != Some(&uid) {
        info!(%node, pod = %key, %uid, "the node reports a pod that is gone");
        cx.registry.offer(node, deletion(key, &uid, None));
    }
}

#[derive(Deserialize)]
struct Pod {
    metadata: Meta,
    spec: Spec,
}

#[derive(Deserialize)]
struct Meta {
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

/// Looks whether a pod that the index does not know is the node's.
async fn owned(
    cx: &Context,
    node: &NodeName,
    path: &Path,
    uid: Option<&Uid>,
) -> Result<(), ApiError> {
    let pod: Pod = cx
        .api
        .get(path)
        .await?
        .to()
        .map_err(|_| refused(500, "InternalError", "the API server's answer is not a Pod"))?;
    if uid.is_some_and(|u| u.as_str() != pod.metadata.uid) {
        return Err(refused(404, "NotFound", "the pod is gone, another one bears its name"));
    }
    if pod.spec.node_name.as_deref() != Some(node.as_str()) {
        return Err(forbidden("the pod runs on another node"));
    }
    Ok(())
}

/// The containers are gone; so may be the object. Gone already, or another incarnation: fine.
pub(super) async fn delete(
    cx: &Context,
    node: &NodeName,
    key: &ObjectKey,
    uid: Option<&Uid>,
    options: &RawJson,
    check: bool,
) -> Result<Done, ApiError> {
    let path = Path::object(key)?;
    if check {
        match owned(cx, node, &path, uid).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {
                gone(cx, node, key, uid.cloned());
                return Ok(Done::ok());
            }
            Err(error) => return Err(error),
        }
    }
    match cx.api.delete(&path, &delete_options(uid, options)).await {
        Ok(_) => Ok(Done::ok()),
        Err(error) if error.is_not_found() || error.is_conflict() => {
            gone(cx, node, key, uid.cloned());
            Ok(Done::ok())
        }
        Err(error) => Err(error),
    }
}

/// The edge's own options; very old edges send a uid, for which they mean these.
fn delete_options(uid: Option<&Uid>, options: &RawJson) -> RawJson {
    if options.is_object() {
        return options.clone();
    }
    let mut made = value!({ "gracePeriodSeconds": 0 });
    if let Some(uid) = uid {
        made["preconditions"] = value!({ "uid": uid.as_str() });
    }
    json(&made)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LegacyReport {
    #[serde(rename = "UID")]
    uid: String,
    name: String,
    status: Value,
}

/// Old edges: whole statuses, of one pod or of many.
pub(super) async fn legacy_status(
    cx: &Context,
    node: &NodeName,
    namespace: &Namespace,
    name: Option<&str>,
    content: &RawJson,
) -> Result<Done, ApiError> {
    let bad = |_| refused(400, "BadRequest", "the content is not a pod status");
    let reports: Vec<LegacyReport> = match name {
        Some(_) => vec![content.to().map_err(bad)?],
        None => content.to().map_err(bad)?,
    };
    for report in reports {
        if name.is_some_and(|n| n != report.name) {
            return Err(refused(400, "BadRequest", "the report is about another pod"));
        }
        let key = ObjectKey::new(namespace.clone(), Kind::Pod, &report.name);
        let verdict = authorizer::own_pod(node, &key, &cx.index.lock());
        let check = match verdict {
            Verdict::Allowed => false,
            Verdict::CheckObject => true,
            Verdict::Denied(why) => return Err(forbidden(&why)),
        };
        let patch = value!({ "metadata": { "uid": report.uid }, "status": report.status });
        match patch_status(cx, node, &key, &patch.to_string(), check).await {
            Ok(_) => {}
            // The node has been told that the pod is gone.
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Done::ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_alone_means_now_and_only_this_one() {
        let uid: Uid = "u-1".parse().unwrap();
        let made = delete_options(Some(&uid), &RawJson::string("u-1"));
        let made: Value = made.to().unwrap();
        assert_eq!(made, value!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u-1"}}));
        let own = json(&value!({"gracePeriodSeconds": 5}));
        assert_eq!(delete_options(Some(&uid), &own), own);
    }
}

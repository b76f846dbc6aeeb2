//! A message from the cloud into the store, in one transaction; only then is it acknowledged.
//!
//! Owns: what is written and removed for each kind of message, and what edged is told of it.
//! Called by: `edgehub::dispatch`, with a [`Tx`] on the writer's thread.
//! Never: waits, or talks to anybody.

use api::names::{Kind, ObjectKey, ResourceVersion, Uid};
use api::raw::RawJson;
use api::wire::downstream::{ObjectPush, PushOp};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use super::store::{StoreError, Tx, V2Row};
use crate::edged::volumes::uses;

/// What edged is told, in the order in which it became true.
///
/// The channel holds 1024 of these; when it is full, the edgehub waits. edged must therefore take
/// them without waiting for an answer of the cloud.
#[derive(Debug, Clone, PartialEq)]
pub enum WantedChange {
    /// A pod is new or has changed.
    Set(Box<Pod>),
    /// A pod is gone from the API server; this incarnation may no longer run.
    Gone {
        /// Which.
        key: ObjectKey,
        /// Its incarnation.
        uid: Uid,
    },
    /// A configmap or secret has changed or is gone.
    ObjectChanged(ObjectKey),
    /// The whole list of pods: what is not in it may no longer run.
    Resync(Vec<Pod>),
}

/// The part of an object's head that decides what happens to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
    metadata: HeadMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HeadMeta {
    name: Option<String>,
    uid: Option<String>,
    #[serde(rename = "resourceVersion")]
    resource_version: Option<String>,
}

impl Head {
    fn of(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn version(&self) -> Option<ResourceVersion> {
        self.metadata.resource_version.as_deref()?.parse().ok()
    }
}

/// Whether `json` is an object with a name, and not an error that was stored in its place.
pub(crate) fn is_object(json: &str) -> bool {
    Head::of(json).is_some_and(|h| h.metadata.name.is_some_and(|n| !n.is_empty()))
}

/// Stores or removes a pushed object; says what edged is to be told.
///
/// # Errors
/// When the database fails; then nothing of it is stored.
pub(crate) fn push(tx: &Tx<'_>, push: &ObjectPush) -> Result<Option<WantedChange>, StoreError> {
    match push.op {
        PushOp::Delete => remove(tx, push),
        PushOp::Insert | PushOp::Update => {
            let new = push.key.kind == Kind::Pod && !holds(tx, &push.key, &push.uid)?;
            if put(tx, &push.key, &push.uid, push.version, &push.object)? {
                let told = told(&push.key, &push.object);
                if let (true, Some(WantedChange::Set(pod))) = (new, &told) {
                    doubt_unused(tx, &push.key, pod)?;
                }
                Ok(told)
            } else {
                Ok(None)
            }
        }
    }
}

/// A Device or DeviceModel has changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeviceChange {
    /// Which.
    pub(crate) key: ObjectKey,
    /// As it is now; `None` if it is gone.
    pub(crate) object: Option<RawJson>,
}

/// Whether an object is about devices.
pub(crate) fn is_of_devices(kind: &Kind) -> bool {
    matches!(kind, Kind::Device | Kind::DeviceModel)
}

/// Stores or removes a Device or DeviceModel; `None` if the store has a newer one.
///
/// # Errors
/// When the database fails; then nothing of it is stored.
pub(crate) fn push_device(
    tx: &Tx<'_>,
    push: &ObjectPush,
) -> Result<Option<DeviceChange>, StoreError> {
    let key = push.key.clone();
    if push.op == PushOp::Delete {
        remove(tx, push)?;
        let gone = tx.get(&key.to_string())?.is_none();
        return Ok(gone.then_some(DeviceChange { key, object: None }));
    }
    let stored = put(tx, &key, &push.uid, push.version, &push.object)?;
    Ok(stored.then(|| DeviceChange { key, object: Some(push.object.clone()) }))
}

/// Stores the object that answers a query, unless a newer one of its name is stored: an answer may
/// have been read before its object was deleted and made anew, and come after that was told.
///
/// # Errors
/// When the database fails.
pub(crate) fn answer(
    tx: &Tx<'_>,
    key: &ObjectKey,
    object: &RawJson,
) -> Result<Option<WantedChange>, StoreError> {
    let Some(head) = Head::of(object.get()) else { return Ok(None) };
    let uid = head.metadata.uid.as_deref().and_then(|u| u.parse::<Uid>().ok());
    let stored = tx.get(&key.to_string())?.as_deref().and_then(Head::of).and_then(|h| h.version());
    if head.version().is_some_and(|new| stored > Some(new)) {
        return Ok(None);
    }
    if let Some(uid) = uid
        && head.metadata.name.as_deref() == Some(&key.name)
        && put(tx, key, &uid, head.version(), object)?
    {
        return Ok(told(key, object));
    }
    Ok(None)
}

/// Stores the pod that answers a status patch, if the node still holds that incarnation of it.
///
/// The answer may show a change of the pod before the push of that change arrives; edged is told.
///
/// # Errors
/// When the database fails.
pub(crate) fn patched_pod(
    tx: &Tx<'_>,
    key: &ObjectKey,
    object: &RawJson,
) -> Result<Option<WantedChange>, StoreError> {
    let Some(stored) = tx.get(&key.to_string())? else { return Ok(None) };
    let (Ok(old), Ok(mut new)) = (serde_json::from_str::<Pod>(&stored), object.to::<Pod>()) else {
        return Ok(None);
    };
    let (Some(uid), true) = (
        new.metadata.uid.as_deref().and_then(|u| u.parse::<Uid>().ok()),
        old.metadata.uid == new.metadata.uid,
    ) else {
        return Ok(None);
    };
    // Answers to patches leave these two out.
    let object = match with_type(object, "v1", "Pod") {
        Ok(object) => object,
        Err(_) => return Ok(None),
    };
    let version = Head::of(object.get()).and_then(|h| h.version());
    if !put(tx, key, &uid, version, &object)? {
        return Ok(None);
    }
    if old.spec == new.spec && same_wishes(&old, &new) {
        return Ok(None);
    }
    new.metadata.managed_fields = None;
    Ok(Some(WantedChange::Set(Box::new(new))))
}

/// Stores the newest status patch of a pod, if the node still holds the pod.
///
/// # Errors
/// When the database fails.
pub(crate) fn patch(tx: &Tx<'_>, key: &ObjectKey, patch: &str) -> Result<(), StoreError> {
    match tx.get(&key.to_string())? {
        Some(_) => tx.put(&patch_key(key), "podpatch", patch),
        None => Ok(()),
    }
}

/// Removes the status of a pod that the cloud no longer knows.
///
/// # Errors
/// When the database fails.
pub(crate) fn forget_patch(tx: &Tx<'_>, key: &ObjectKey) -> Result<(), StoreError> {
    tx.delete(&patch_key(key)).map(drop)
}

/// The key of the row that holds the newest status patch of a pod.
fn patch_key(key: &ObjectKey) -> String {
    ObjectKey {
        namespace: key.namespace.clone(),
        kind: Kind::Other("podpatch".into()),
        name: key.name.clone(),
    }
    .to_string()
}

fn same_wishes(old: &Pod, new: &Pod) -> bool {
    let (o, n) = (&old.metadata, &new.metadata);
    o.labels == n.labels
        && o.annotations == n.annotations
        && o.deletion_timestamp == n.deletion_timestamp
        && o.deletion_grace_period_seconds == n.deletion_grace_period_seconds
        && o.finalizers == n.finalizers
        && o.owner_references == n.owner_references
}

fn told(key: &ObjectKey, object: &RawJson) -> Option<WantedChange> {
    match key.kind {
        Kind::Pod => match object.to::<Pod>() {
            Ok(pod) => Some(WantedChange::Set(Box::new(pod))),
            Err(e) => {
                tracing::error!(pod = %key, error = %e, "the cloud sent a pod that cannot be read; it is stored and not run");
                None
            }
        },
        Kind::ConfigMap | Kind::Secret => Some(WantedChange::ObjectChanged(key.clone())),
        _ => None,
    }
}

/// Writes both rows of an object, unless the store has a newer version of the same incarnation;
/// says whether it wrote.
fn put(
    tx: &Tx<'_>,
    key: &ObjectKey,
    uid: &Uid,
    version: Option<ResourceVersion>,
    object: &RawJson,
) -> Result<bool, StoreError> {
    let row = key.to_string();
    if let Some(stored) = tx.get(&row)?.as_deref().and_then(Head::of)
        && stored.metadata.uid.as_deref() == Some(uid.as_str())
        && let (Some(have), Some(new)) = (stored.version(), version)
        && have > new
    {
        return Ok(false);
    }
    tx.put(&row, key.kind.as_str(), object.get())?;
    if matches!(key.kind, Kind::ConfigMap | Kind::Secret) {
        tx.delete(&doubt(&row))?;
    }
    if let Some(v2) = v2_row(key, version, object) {
        tx.put_v2(&v2)?;
    }
    Ok(true)
}

/// Whether this incarnation of an object is stored.
fn holds(tx: &Tx<'_>, key: &ObjectKey, uid: &Uid) -> Result<bool, StoreError> {
    let stored = tx.get(&key.to_string())?.as_deref().and_then(Head::of);
    Ok(stored.is_some_and(|h| h.metadata.uid.as_deref() == Some(uid.as_str())))
}

/// The cloud tells a node only of what its pods use. What a new pod is the first to use may have
/// changed since the last such pod went: that copy is marked, so that the cloud is asked first where
/// it can be, and stays for where it cannot.
fn doubt_unused(tx: &Tx<'_>, new: &ObjectKey, pod: &Pod) -> Result<(), StoreError> {
    for kind in [Kind::ConfigMap, Kind::Secret] {
        for row in tx.keys_of_type(kind.as_str())? {
            let Ok(key) = row.parse::<ObjectKey>() else { continue };
            let named = key.namespace == new.namespace && uses(pod, &kind, &key.name);
            if named && !used_by_another(tx, new, &key)? {
                tx.put(&doubt(&row), "doubt", "{}")?;
            }
        }
    }
    Ok(())
}

/// The key of the row that says that a stored object may be old; it goes when the object comes anew.
fn doubt(row: &str) -> String {
    format!("{row}/doubt")
}

/// The stored object, and whether it may be old. An error that an original edgecore stored in its place
/// does not count.
///
/// # Errors
/// When the database fails.
pub(super) fn stored(tx: &Tx<'_>, key: &ObjectKey) -> Result<Option<(String, bool)>, StoreError> {
    let row = key.to_string();
    let Some(object) = tx.get(&row)?.filter(|v| is_object(v)) else { return Ok(None) };
    Ok(Some((object, tx.get(&doubt(&row))?.is_some())))
}

fn used_by_another(tx: &Tx<'_>, new: &ObjectKey, object: &ObjectKey) -> Result<bool, StoreError> {
    let (pods, quoted) = (tx.of_type(Kind::Pod.as_str())?, format!("\"{}\"", object.name));
    Ok(pods.iter().any(|(row, text)| {
        row.parse::<ObjectKey>().is_ok_and(|k| k != *new && k.namespace == new.namespace)
            && text.contains(&quoted)
            && serde_json::from_str::<Pod>(text).is_ok_and(|p| uses(&p, &object.kind, &object.name))
    }))
}

fn remove(tx: &Tx<'_>, push: &ObjectPush) -> Result<Option<WantedChange>, StoreError> {
    let (key, uid) = (&push.key, &push.uid);
    let row = key.to_string();
    let stored = tx.get(&row)?.as_deref().and_then(Head::of).and_then(|h| h.metadata.uid);
    let ours = stored.as_deref().is_none_or(|u| u == uid.as_str());
    if ours {
        tx.delete(&row)?;
        tx.delete(&doubt(&row))?;
        let namespace = key.namespace.as_ref().map_or("", |n| n.as_str());
        tx.delete_v2(&plural(key.kind.as_str()), namespace, &key.name, uid.as_str())?;
    }
    match key.kind {
        Kind::Pod => {
            if ours {
                forget_patch(tx, key)?;
            }
            // Tokens bound to the pod carry its uid in their key.
            tx.delete_containing("serviceaccounttoken", &format!("UID:\"{uid}\""))?;
            Ok(Some(WantedChange::Gone { key: key.clone(), uid: uid.clone() }))
        }
        Kind::ConfigMap | Kind::Secret if ours => {
            Ok(Some(WantedChange::ObjectChanged(key.clone())))
        }
        _ => Ok(None),
    }
}

fn v2_row(key: &ObjectKey, version: Option<ResourceVersion>, object: &RawJson) -> Option<V2Row> {
    let head = Head::of(object.get())?;
    let (api_version, kind) = (head.api_version?, head.kind?);
    let (group, v) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = plural(&kind.to_lowercase());
    let namespace = key.namespace.as_ref().map_or("", |n| n.as_str());
    let in_group = if group.is_empty() { "core" } else { group };
    let in_namespace = if namespace.is_empty() { "null" } else { namespace };
    let version = version.map_or(0, |v| i64::try_from(v.0).unwrap_or(i64::MAX));
    Some(V2Row {
        key: format!("/{in_group}/{v}/{resource}/{in_namespace}/{}", key.name),
        group_version_resource: format!("{group}/{v}, Resource={resource}"),
        namespace: namespace.to_owned(),
        name: key.name.to_string(),
        resource_version: version,
        value: format!("{}\n", object.get()),
    })
}

/// The resource of a kind in lower case, as the original guesses it.
fn plural(kind: &str) -> String {
    match kind {
        "endpoints" | "leases" => kind.to_owned(),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => match kind.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{kind}s"),
        },
    }
}

fn with_type(
    object: &RawJson,
    api_version: &str,
    kind: &str,
) -> Result<RawJson, serde_json::Error> {
    let mut fields: std::collections::BTreeMap<String, RawJson> = object.to()?;
    fields.insert("apiVersion".to_owned(), RawJson::of(api_version)?);
    fields.insert("kind".to_owned(), RawJson::of(kind)?);
    RawJson::of(&fields)
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;

//! `reliablesyncs.kubeedge.io/v1alpha1`: what each node has stored of each object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::custom_resource;
use super::definition::Definition;
use crate::names::{NameError, NodeName, Uid};

custom_resource! {
    /// Which version of a namespaced object an edge node has stored.
    ObjectSync: "reliablesyncs.kubeedge.io" / "v1alpha1", "objectsyncs", NamespaceResourceScope,
    spec: ObjectSyncSpec, status: ObjectSyncStatus
}

custom_resource! {
    /// Which version of a cluster-scoped object an edge node has stored.
    ClusterObjectSync:
    "reliablesyncs.kubeedge.io" / "v1alpha1", "clusterobjectsyncs", ClusterResourceScope,
    spec: ObjectSyncSpec, status: ObjectSyncStatus
}

const COLUMNS: &[(&str, &str, &str)] = &[
    ("Kind", "string", ".spec.objectKind"),
    ("Object", "string", ".spec.objectName"),
    ("Version", "string", ".status.objectResourceVersion"),
];

impl Definition for ObjectSync {
    const STATUS_SUBRESOURCE: bool = true;
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = COLUMNS;
}

impl Definition for ClusterObjectSync {
    const STATUS_SUBRESOURCE: bool = true;
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = COLUMNS;
}

/// The object that is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectSyncSpec {
    /// Its `apiVersion`.
    #[serde(rename = "objectAPIVersion", default, skip_serializing_if = "Option::is_none")]
    pub object_api_version: Option<String>,
    /// Its kind.
    #[serde(rename = "objectKind", default, skip_serializing_if = "Option::is_none")]
    pub object_kind: Option<String>,
    /// Its name.
    #[serde(rename = "objectName", default, skip_serializing_if = "Option::is_none")]
    pub object_name: Option<String>,
}

/// What the node has stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectSyncStatus {
    /// The version; `0` until the first acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_resource_version: Option<String>,
}

/// The name of the record of an object at a node.
pub fn sync_name(node: &NodeName, uid: &Uid) -> String {
    format!("{node}.{uid}")
}

/// The node and the object's UID in the name of a record: the UID follows the last dot.
///
/// # Errors
/// When the name is not of that form.
pub fn parse_sync_name(name: &str) -> Result<(NodeName, Uid), NameError> {
    let (node, uid) = name.rsplit_once('.').unwrap_or((name, ""));
    Ok((node.parse()?, uid.parse()?))
}

//! `apps.kubeedge.io/v1alpha1`: groups of nodes, and applications that differ between them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::schema::{any_objects, env_vars, label_selector, resource_requirements};
use super::{AnyObject, custom_resource};

custom_resource! {
    /// Nodes that belong together.
    NodeGroup: "apps.kubeedge.io" / "v1alpha1", "nodegroups", ClusterResourceScope,
    spec: NodeGroupSpec, status: NodeGroupStatus
}

impl Definition for NodeGroup {
    const SHORT_NAMES: &'static [&'static str] = &["ng"];
    const STATUS_SUBRESOURCE: bool = true;
}

custom_resource! {
    /// Workloads in several groups of nodes, with differences.
    EdgeApplication:
    "apps.kubeedge.io" / "v1alpha1", "edgeapplications", NamespaceResourceScope,
    spec: EdgeApplicationSpec, status: EdgeApplicationStatus
}

impl Definition for EdgeApplication {
    const SHORT_NAMES: &'static [&'static str] = &["eapp"];
    const STATUS_SUBRESOURCE: bool = true;
}

/// Which nodes belong to a NodeGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroupSpec {
    /// Nodes by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Nodes by label; absent selects none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Whether the members get the group's name as their zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_enabled: Option<bool>,
}

/// Which nodes do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroupStatus {
    /// Sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_statuses: Vec<NodeStatus>,
}

/// A node of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub node_name: String,
    /// Whether it is ready.
    pub ready_status: ReadyStatus,
    /// Whether it could be made a member.
    pub selection_status: SelectionStatus,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_status_reason: Option<String>,
}

/// Whether a node is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReadyStatus {
    /// It is.
    Ready,
    /// It is not.
    NotReady,
    /// Nobody knows.
    Unknown,
}

/// Whether a node could be made a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectionStatus {
    /// It could.
    Succeeded,
    /// It could not.
    Failed,
}

/// What an EdgeApplication should be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeApplicationSpec {
    /// What is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_template: Option<ResourceTemplate>,
    /// Where, and with which differences.
    pub workload_scope: WorkloadScope,
}

/// Objects to deploy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceTemplate {
    /// Kubernetes objects: Deployments, Services and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub manifests: Vec<AnyObject>,
}

/// Where an application runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadScope {
    /// By group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_node_groups: Vec<TargetNodeGroup>,
    /// By label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_node_labels: Vec<TargetNodeLabel>,
}

/// A group that an application runs in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetNodeGroup {
    /// The NodeGroup.
    pub name: String,
    /// What differs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overriders: Option<Overriders>,
}

/// Nodes that an application runs on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetNodeLabel {
    /// The nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub label_selector: Option<LabelSelector>,
    /// What differs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overriders: Option<Overriders>,
}

/// What differs in one place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overriders {
    /// Number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
    /// Parts of image names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_overriders: Vec<ImageOverrider>,
    /// Commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_overriders: Vec<CommandArgsOverrider>,
    /// Arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args_overriders: Vec<CommandArgsOverrider>,
    /// Environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_overriders: Vec<EnvOverrider>,
    /// Resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources_overriders: Vec<ResourcesOverrider>,
}

/// A change of a part of image names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageOverrider {
    /// Which images; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<ImagePredicate>,
    /// Which part.
    pub component: ImageComponent,
    /// What to do with it.
    pub operator: Operator,
    /// The new text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Which images of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImagePredicate {
    /// JSON pointer to the image's field.
    pub path: String,
}

/// A part of an image's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageComponent {
    /// `registry.example:5000`
    Registry,
    /// `team/app`
    Repository,
    /// `v1` or `@sha256:..`
    Tag,
}

/// What to do with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operator {
    /// Add it.
    Add,
    /// Remove it.
    Remove,
    /// Replace it.
    Replace,
}

/// What to do with words of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddOrRemove {
    /// Add them.
    Add,
    /// Remove them.
    Remove,
}

/// A change of a command or its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandArgsOverrider {
    /// The container.
    pub container_name: String,
    /// What to do.
    pub operator: AddOrRemove,
    /// Words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub value: Vec<String>,
}

/// A change of the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvOverrider {
    /// The container.
    pub container_name: String,
    /// What to do.
    pub operator: Operator,
    /// Variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "env_vars")]
    pub value: Vec<EnvVar>,
}

/// A change of resources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesOverrider {
    /// The container.
    pub container_name: String,
    /// The resources.
    #[schemars(schema_with = "resource_requirements")]
    pub value: ResourceRequirements,
}

/// What an EdgeApplication is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeApplicationStatus {
    /// One per object that was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workload_status: Vec<ManifestStatus>,
}

/// An object that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestStatus {
    /// Which.
    pub identifier: ResourceIdentifier,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<ManifestCondition>,
}

/// How far an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManifestCondition {
    /// Not there yet.
    Processing,
    /// There.
    Available,
}

/// Names an object that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceIdentifier {
    /// Its place among the manifests.
    pub ordinal: u32,
    /// Its API group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its plural.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

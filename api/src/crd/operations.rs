//! `operations.kubeedge.io/v1alpha2`: jobs that run on nodes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::custom_resource;
use super::definition::Definition;
use super::schema::label_selector;

custom_resource! {
    /// Brings edgecore on some nodes to another version.
    NodeUpgradeJob:
    "operations.kubeedge.io" / "v1alpha2", "nodeupgradejobs", ClusterResourceScope,
    spec: NodeUpgradeJobSpec, status: NodeUpgradeJobStatus
}

impl Definition for NodeUpgradeJob {
    const STATUS_SUBRESOURCE: bool = true;
    const OLD_VERSION: Option<&'static str> = Some("v1alpha1");
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] =
        &[("Version", "string", ".spec.version"), ("Phase", "string", ".status.phase")];
}

custom_resource! {
    /// Pulls images on some nodes before they are needed.
    ImagePrePullJob:
    "operations.kubeedge.io" / "v1alpha2", "imageprepulljobs", ClusterResourceScope,
    spec: ImagePrePullJobSpec, status: ImagePrePullJobStatus
}

impl Definition for ImagePrePullJob {
    const STATUS_SUBRESOURCE: bool = true;
    const OLD_VERSION: Option<&'static str> = Some("v1alpha1");
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] =
        &[("Phase", "string", ".status.phase")];
}

custom_resource! {
    /// Changes the configuration of some nodes.
    ConfigUpdateJob:
    "operations.kubeedge.io" / "v1alpha2", "configupdatejobs", ClusterResourceScope,
    spec: ConfigUpdateJobSpec, status: ConfigUpdateJobStatus
}

impl Definition for ConfigUpdateJob {
    const STATUS_SUBRESOURCE: bool = true;
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] =
        &[("Phase", "string", ".status.phase")];
}

/// What is looked at before a job begins on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckItem {
    /// Use of the processors.
    Cpu,
    /// Use of memory.
    Mem,
    /// Use of the disk.
    Disk,
}

/// What a NodeUpgradeJob should do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeUpgradeJobSpec {
    /// The version to upgrade to, like `v1.23.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The image with the installation files, without its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Digests that the image must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest_gatter: Option<ImageDigestGatter>,
    /// Whether somebody at the edge must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_confirmation: Option<bool>,
    /// Nodes by name. Exactly one of this and `labelSelector` is to be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_names: Vec<String>,
    /// Nodes by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub label_selector: Option<LabelSelector>,
    /// Seconds without progress after which a node has failed; 0 or absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Share of nodes that may fail, like `0.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_tolerate: Option<String>,
    /// Nodes at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// What is looked at first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check_items: Vec<CheckItem>,
}

/// Digests of an image by architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageDigestGatter {
    /// `sha256:..` for amd64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amd64: Option<String>,
    /// `sha256:..` for arm64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm64: Option<String>,
    /// Where to ask for the digest.
    #[serde(rename = "registryAPI", default, skip_serializing_if = "Option::is_none")]
    pub registry_api: Option<RegistryApi>,
}

/// A registry that knows a digest.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryApi {
    /// Its host.
    pub host: String,
    /// Its token.
    pub token: String,
}

impl std::fmt::Debug for RegistryApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryApi").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What an ImagePrePullJob should do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePrePullJobSpec {
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pre_pull_template: Option<ImagePrePullTemplate>,
}

/// Images and nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePrePullTemplate {
    /// The images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Namespace and name of the pull secret, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_secrets: Option<String>,
    /// How often a pull is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_times: Option<i32>,
    /// Nodes by name. Exactly one of this and `labelSelector` is to be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_names: Vec<String>,
    /// Nodes by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub label_selector: Option<LabelSelector>,
    /// Seconds without progress after which a node has failed; 0 or absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Share of nodes that may fail, like `0.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_tolerate: Option<String>,
    /// Nodes at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// What is looked at first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check_items: Vec<CheckItem>,
}

/// What a ConfigUpdateJob should do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigUpdateJobSpec {
    /// Dotted path in edgecore.yaml, and its new value.
    pub update_fields: BTreeMap<String, String>,
    /// Nodes by name. Exactly one of this and `labelSelector` is to be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_names: Vec<String>,
    /// Nodes by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub label_selector: Option<LabelSelector>,
    /// Seconds without progress after which a node has failed; 0 or absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Share of nodes that may fail, like `0.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_tolerate: Option<String>,
    /// Nodes at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JobPhase {
    /// Its nodes are known.
    #[default]
    Init,
    /// Some nodes are not done.
    InProgress,
    /// All are done, and few enough have failed.
    Completed,
    /// Too many nodes have failed.
    Failure,
}

/// How far a job is on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePhase {
    /// Not begun.
    #[default]
    Pending,
    /// Begun.
    InProgress,
    /// Done.
    Successful,
    /// It could not be done.
    Failure,
    /// Nothing was heard for too long.
    Unknown,
}

/// Whether a step went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepStatus {
    /// It did.
    True,
    /// It did not.
    False,
}

/// A step of a NodeUpgradeJob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeAction {
    /// Look at the node.
    Check,
    /// Wait for somebody to agree.
    WaitingConfirmation,
    /// Keep what is there.
    BackUp,
    /// Replace it.
    Upgrade,
    /// Put it back.
    RollBack,
}

impl UpgradeAction {
    const ALL: [Self; 5] =
        [Self::Check, Self::WaitingConfirmation, Self::BackUp, Self::Upgrade, Self::RollBack];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "Check",
            Self::WaitingConfirmation => "WaitingConfirmation",
            Self::BackUp => "BackUp",
            Self::Upgrade => "Upgrade",
            Self::RollBack => "RollBack",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }

    /// What comes after it went well, or did not; nothing if that is the end.
    pub fn next(self, well: bool) -> Option<Self> {
        match (self, well) {
            (Self::Check, true) => Some(Self::WaitingConfirmation),
            (Self::WaitingConfirmation, true) => Some(Self::BackUp),
            (Self::BackUp, true) => Some(Self::Upgrade),
            (Self::Upgrade, false) => Some(Self::RollBack),
            _ => None,
        }
    }
}

/// A step of an ImagePrePullJob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PrePullAction {
    /// Look at the node.
    Check,
    /// Pull the images.
    Pull,
}

/// A step of a ConfigUpdateJob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigUpdateAction {
    /// Look at the node.
    Check,
    /// Keep what is there.
    BackUp,
    /// Change it.
    Update,
    /// Put it back.
    RollBack,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(deserialize = "A: Deserialize<'de>"))]
pub struct Step<A> {
    /// Which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<A>,
    /// Whether it went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StepStatus>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// How far a NodeUpgradeJob is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct NodeUpgradeJobStatus {
    /// In a word.
    pub phase: JobPhase,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_status: Vec<NodeUpgradeStatus>,
}

/// How far a NodeUpgradeJob is on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct NodeUpgradeStatus {
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// In a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The steps so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_flow: Vec<Step<UpgradeAction>>,
    /// The version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub historic_version: Option<String>,
    /// The version now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
}

/// How far an ImagePrePullJob is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ImagePrePullJobStatus {
    /// In a word.
    pub phase: JobPhase,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_status: Vec<NodePrePullStatus>,
}

/// How far an ImagePrePullJob is on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct NodePrePullStatus {
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// In a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The steps so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_flow: Vec<Step<PrePullAction>>,
    /// By image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_status: Vec<ImageStatus>,
}

/// Whether an image was pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageStatus {
    /// The image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StepStatus>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far a ConfigUpdateJob is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigUpdateJobStatus {
    /// In a word.
    pub phase: JobPhase,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_status: Vec<NodeConfigUpdateStatus>,
}

/// How far a ConfigUpdateJob is on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigUpdateStatus {
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// In a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The steps so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_flow: Vec<Step<ConfigUpdateAction>>,
}

//! `policy.kubeedge.io/v1alpha1`: what service accounts may do at the edge.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, PolicyRule, RoleBinding};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::custom_resource;
use super::definition::Definition;
use super::schema::{any_object, policy_rules};

custom_resource! {
    /// A service account that pods at the edge use, with all that it may do.
    ServiceAccountAccess:
    "policy.kubeedge.io" / "v1alpha1", "serviceaccountaccesses", NamespaceResourceScope,
    spec: AccessSpec, status: AccessStatus
}

impl Definition for ServiceAccountAccess {
    const SHORT_NAMES: &'static [&'static str] = &["saaccess"];
    const STATUS_SUBRESOURCE: bool = true;
    const SPEC_REQUIRED: bool = true;
}

/// A service account and its bindings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessSpec {
    /// The account, whole.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    pub service_account: ServiceAccount,
    /// Its UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_account_uid: String,
    /// Bindings in its namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_role_binding: Vec<AccessRoleBinding>,
    /// Bindings in the whole cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_cluster_role_binding: Vec<AccessClusterRoleBinding>,
}

/// A RoleBinding with the rules of its role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRoleBinding {
    /// The binding, whole.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    pub role_binding: RoleBinding,
    /// The rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "policy_rules")]
    pub rules: Vec<PolicyRule>,
}

/// A ClusterRoleBinding with the rules of its role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessClusterRoleBinding {
    /// The binding, whole.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    pub cluster_role_binding: ClusterRoleBinding,
    /// The rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "policy_rules")]
    pub rules: Vec<PolicyRule>,
}

/// Who has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    /// The nodes that it is sent to; empty in the copies that they get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_list: Vec<String>,
}

//! `rules.kubeedge.io/v1`: messages between cloud and edge programs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::custom_resource;
use super::definition::Definition;

custom_resource! {
    /// Where messages come from and where they go.
    Rule: "rules.kubeedge.io" / "v1", "rules", NamespaceResourceScope,
    spec: RuleSpec, status: RuleStatus
}

impl Definition for Rule {
    const SPEC_REQUIRED: bool = true;
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[
        ("Source", "string", ".spec.source"),
        ("Target", "string", ".spec.target"),
        ("Delivered", "integer", ".status.successMessages"),
        ("Failed", "integer", ".status.failMessages"),
    ];
}

custom_resource! {
    /// An end of a rule.
    RuleEndpoint: "rules.kubeedge.io" / "v1", "ruleendpoints", NamespaceResourceScope,
    spec: RuleEndpointSpec
}

impl Definition for RuleEndpoint {
    const SHORT_NAMES: &'static [&'static str] = &["re"];
    const SPEC_REQUIRED: bool = true;
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] =
        &[("Type", "string", ".spec.ruleEndpointType")];
}

/// What a Rule should do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSpec {
    /// The RuleEndpoint that messages come from.
    pub source: String,
    /// `path` for rest, `topic` and `node_name` for eventbus, `target_url` and `node_name` for
    /// servicebus.
    pub source_resource: BTreeMap<String, String>,
    /// The RuleEndpoint that messages go to.
    pub target: String,
    /// `resource` for rest, `topic` for eventbus, `path` for servicebus.
    pub target_resource: BTreeMap<String, String>,
}

/// What a Rule has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleStatus {
    /// Messages delivered.
    pub success_messages: i64,
    /// Messages that could not be delivered.
    pub fail_messages: i64,
    /// Why not: the latest.
    pub errors: Vec<String>,
}

/// What a RuleEndpoint is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleEndpointSpec {
    /// Its type.
    pub rule_endpoint_type: RuleEndpointType,
    /// `service_port` for servicebus.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// The type of an end of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleEndpointType {
    /// HTTP in the cloud.
    #[default]
    Rest,
    /// MQTT at the edge.
    EventBus,
    /// HTTP at the edge.
    ServiceBus,
}

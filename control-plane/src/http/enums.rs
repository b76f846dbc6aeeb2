//! The values of fields that have only some, for `kubectl explain` and for generated clients.
//!
//! Owns: which those are, by type and field. Called by: `openapi`.
//! Never: refuses anything; that is for the kinds' own rules.

use serde_json::{Map, Value, json};

const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE: &[&str] = &["FallbackToLogsOnError", "File"];
const PROTOCOL: &[&str] = &["SCTP", "TCP", "UDP"];
const ACCESS: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME: &[&str] = &["Block", "Filesystem"];
const RECLAIM: &[&str] = &["Delete", "Recycle", "Retain"];
const PROFILE: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const TAINT: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
const LOCAL: &[&str] = &["Cluster", "Local"];
const HONOR: &[&str] = &["Honor", "Ignore"];
const FAILURE: &[&str] = &["Fail", "Ignore"];
const MATCH: &[&str] = &["Equivalent", "Exact"];
const EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const ROLLING: &[&str] = &["OnDelete", "RollingUpdate"];

/// The end of a type's name, a field of it, and what that may be.
const VALUES: [(&str, &str, &[&str]); 62] = [
    ("core.v1.AppArmorProfile", "type", PROFILE),
    ("core.v1.Container", "imagePullPolicy", PULL),
    ("core.v1.Container", "terminationMessagePolicy", MESSAGE),
    ("core.v1.ContainerPort", "protocol", PROTOCOL),
    ("core.v1.EndpointPort", "protocol", PROTOCOL),
    ("core.v1.EphemeralContainer", "imagePullPolicy", PULL),
    ("core.v1.EphemeralContainer", "terminationMessagePolicy", MESSAGE),
    ("core.v1.HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    (
        "core.v1.HostPathVolumeSource",
        "type",
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
    ),
    ("core.v1.ImageVolumeSource", "pullPolicy", PULL),
    ("core.v1.NamespaceStatus", "phase", &["Active", "Terminating"]),
    (
        "core.v1.NodeSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    ),
    ("core.v1.NodeStatus", "phase", &["Pending", "Running", "Terminated"]),
    ("core.v1.PersistentVolumeClaimSpec", "accessModes", ACCESS),
    ("core.v1.PersistentVolumeClaimSpec", "volumeMode", VOLUME),
    ("core.v1.PersistentVolumeClaimStatus", "accessModes", ACCESS),
    ("core.v1.PersistentVolumeClaimStatus", "phase", &["Bound", "Lost", "Pending"]),
    ("core.v1.PersistentVolumeSpec", "accessModes", ACCESS),
    ("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy", RECLAIM),
    ("core.v1.PersistentVolumeSpec", "volumeMode", VOLUME),
    (
        "core.v1.PersistentVolumeStatus",
        "phase",
        &["Available", "Bound", "Failed", "Pending", "Released"],
    ),
    ("core.v1.PodSecurityContext", "fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
    ("core.v1.PodSecurityContext", "supplementalGroupsPolicy", &["Merge", "Strict"]),
    (
        "core.v1.PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    ("core.v1.PodSpec", "preemptionPolicy", &["Never", "PreemptLowerPriority"]),
    ("core.v1.PodSpec", "restartPolicy", &["Always", "Never", "OnFailure"]),
    ("core.v1.PodStatus", "phase", &["Failed", "Pending", "Running", "Succeeded", "Unknown"]),
    ("core.v1.PodStatus", "qosClass", &["BestEffort", "Burstable", "Guaranteed"]),
    ("core.v1.PortStatus", "protocol", PROTOCOL),
    ("core.v1.SeccompProfile", "type", PROFILE),
    ("core.v1.SecurityContext", "procMount", &["Default", "Unmasked"]),
    ("core.v1.ServicePort", "protocol", PROTOCOL),
    ("core.v1.ServiceSpec", "externalTrafficPolicy", LOCAL),
    ("core.v1.ServiceSpec", "internalTrafficPolicy", LOCAL),
    ("core.v1.ServiceSpec", "ipFamilies", &["", "IPv4", "IPv6"]),
    (
        "core.v1.ServiceSpec",
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    ),
    ("core.v1.ServiceSpec", "sessionAffinity", &["ClientIP", "None"]),
    ("core.v1.ServiceSpec", "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]),
    ("core.v1.Taint", "effect", TAINT),
    ("core.v1.Toleration", "effect", TAINT),
    ("core.v1.Toleration", "operator", &["Equal", "Exists"]),
    ("core.v1.TopologySpreadConstraint", "nodeAffinityPolicy", HONOR),
    ("core.v1.TopologySpreadConstraint", "nodeTaintsPolicy", HONOR),
    ("core.v1.TopologySpreadConstraint", "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"]),
    ("core.v1.VolumeMount", "mountPropagation", &["Bidirectional", "HostToContainer", "None"]),
    ("admissionregistration.v1.MutatingWebhook", "failurePolicy", FAILURE),
    ("admissionregistration.v1.MutatingWebhook", "matchPolicy", MATCH),
    ("admissionregistration.v1.MutatingWebhook", "reinvocationPolicy", &["IfNeeded", "Never"]),
    ("admissionregistration.v1.MutatingWebhook", "sideEffects", EFFECTS),
    ("admissionregistration.v1.ValidatingWebhook", "failurePolicy", FAILURE),
    ("admissionregistration.v1.ValidatingWebhook", "matchPolicy", MATCH),
    ("admissionregistration.v1.ValidatingWebhook", "sideEffects", EFFECTS),
    ("apps.v1.DaemonSetUpdateStrategy", "type", ROLLING),
    ("apps.v1.DeploymentStrategy", "type", &["Recreate", "RollingUpdate"]),
    ("apps.v1.StatefulSetSpec", "podManagementPolicy", &["OrderedReady", "Parallel"]),
    ("apps.v1.StatefulSetUpdateStrategy", "type", ROLLING),
    ("batch.v1.CronJobSpec", "concurrencyPolicy", &["Allow", "Forbid", "Replace"]),
    ("batch.v1.JobSpec", "completionMode", &["Indexed", "NonIndexed"]),
    ("batch.v1.JobSpec", "podReplacementPolicy", &["Failed", "TerminatingOrFailed"]),
    ("discovery.v1.EndpointSlice", "addressType", &["FQDN", "IPv4", "IPv6"]),
    ("storage.v1.StorageClass", "reclaimPolicy", RECLAIM),
    ("storage.v1.StorageClass", "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]),
];

/// Says in the definitions which values there are.
pub(super) fn add(definitions: &mut Map<String, Value>) {
    for (ty, field, values) in VALUES {
        let Some(d) = definitions.get_mut(&format!("io.k8s.api.{ty}")) else { continue };
        let Some(p) = d.pointer_mut(&format!("/properties/{field}")) else { continue };
        // Of a list it is the elements that have them.
        let p = if p["type"] == "array" { &mut p["items"] } else { p };
        p["enum"] = json!(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::schema;

    #[test]
    fn every_field_with_values_of_its_own_is_there_and_a_text() {
        let mut all = schema::definitions();
        add(&mut all);
        for (ty, field, values) in VALUES {
            let p = &all[&format!("io.k8s.api.{ty}")]["properties"][field];
            let p = if p["type"] == "array" { &p["items"] } else { p };
            assert_eq!(
                (&p["type"], &p["enum"]),
                (&json!("string"), &json!(values)),
                "{ty}.{field}"
            );
            assert!(values.is_sorted(), "{ty}.{field}");
        }
    }
}

//! The values of fields that have only some, for `kubectl explain` and for generated clients.
//!
//! Owns: which those are, by type and field. Called by: `openapi`.
//! Never: refuses anything; that is for the kinds' own rules.

use serde_json::{Map, Value, json};

use crate::registry::certificates::USAGES;

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
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// The end of a type's name, a field of it, and what that may be.
const VALUES: [(&str, &str, &[&str]); 75] = [
    ("core.v1.AppArmorProfile", "type", PROFILE),
    ("core.v1.AzureDiskVolumeSource", "cachingMode", &["None", "ReadOnly", "ReadWrite"]),
    ("core.v1.AzureDiskVolumeSource", "kind", &["Dedicated", "Managed", "Shared"]),
    ("core.v1.Container", "imagePullPolicy", PULL),
    ("core.v1.Container", "terminationMessagePolicy", MESSAGE),
    ("core.v1.ContainerPort", "protocol", PROTOCOL),
    ("core.v1.ContainerStatus", "stopSignal", SIGNALS),
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
    ("core.v1.Lifecycle", "stopSignal", SIGNALS),
    ("core.v1.ModifyVolumeStatus", "status", &["InProgress", "Infeasible", "Pending"]),
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
    (
        "core.v1.PersistentVolumeClaimStatus",
        "allocatedResourceStatuses",
        &[
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ],
    ),
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
    (
        "admissionregistration.v1.RuleWithOperations",
        "operations",
        &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"],
    ),
    ("admissionregistration.v1.ValidatingWebhook", "failurePolicy", FAILURE),
    ("admissionregistration.v1.ValidatingWebhook", "matchPolicy", MATCH),
    ("admissionregistration.v1.ValidatingWebhook", "sideEffects", EFFECTS),
    (
        "apiextensions.v1.ValidationRule",
        "reason",
        &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"],
    ),
    ("apps.v1.DaemonSetUpdateStrategy", "type", ROLLING),
    ("apps.v1.DeploymentStrategy", "type", &["Recreate", "RollingUpdate"]),
    ("apps.v1.StatefulSetSpec", "podManagementPolicy", &["OrderedReady", "Parallel"]),
    ("apps.v1.StatefulSetUpdateStrategy", "type", ROLLING),
    ("batch.v1.CronJobSpec", "concurrencyPolicy", &["Allow", "Forbid", "Replace"]),
    ("batch.v1.JobSpec", "completionMode", &["Indexed", "NonIndexed"]),
    ("batch.v1.JobSpec", "podReplacementPolicy", &["Failed", "TerminatingOrFailed"]),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "operator", &["In", "NotIn"]),
    ("batch.v1.PodFailurePolicyRule", "action", &["Count", "FailIndex", "FailJob", "Ignore"]),
    ("certificates.v1.CertificateSigningRequestSpec", "usages", &USAGES),
    ("discovery.v1.EndpointPort", "protocol", PROTOCOL),
    ("discovery.v1.EndpointSlice", "addressType", &["FQDN", "IPv4", "IPv6"]),
    (
        "policy.v1.PodDisruptionBudgetSpec",
        "unhealthyPodEvictionPolicy",
        &["AlwaysAllow", "IfHealthyBudget"],
    ),
    ("storage.v1.StorageClass", "reclaimPolicy", RECLAIM),
    ("storage.v1.StorageClass", "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]),
];

/// Says in the definitions which values there are.
pub(super) fn add(definitions: &mut Map<String, Value>) {
    for (ty, field, values) in VALUES {
        let Some(d) = definitions.get_mut(&name(ty)) else { continue };
        let Some(p) = d.pointer_mut(&format!("/properties/{field}")) else { continue };
        values_of(p)["enum"] = json!(values);
    }
}

/// What a definition is called.
fn name(ty: &str) -> String {
    let root = match ty.strip_prefix("apiextensions.") {
        Some(_) => "io.k8s.apiextensions-apiserver.pkg.apis.",
        None => "io.k8s.api.",
    };
    format!("{root}{ty}")
}

/// What has the values: of a list its elements, of a map what its keys lead to.
fn values_of(property: &mut Value) -> &mut Value {
    match property["type"].as_str() {
        Some("array") => &mut property["items"],
        Some("object") => &mut property["additionalProperties"],
        _ => property,
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
            let p = values_of(&mut all[&name(ty)]["properties"][field]).take();
            assert_eq!(
                (&p["type"], &p["enum"]),
                (&json!("string"), &json!(values)),
                "{ty}.{field}"
            );
            assert!(values.is_sorted(), "{ty}.{field}");
        }
    }
}

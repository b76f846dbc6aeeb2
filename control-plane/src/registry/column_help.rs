//! What the columns of a Table mean.
//!
//! Owns: which field of the API a column shows, whose description is then the column's, and the words of
//! those that show none. Called by: `http::table`. Never: describes a field itself; the schemas do.
//!
//! As in Kubernetes' `printers.go` (pkg/printers/internalversion), with the fields of the versions served.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::schema;

/// Where a column's description comes from.
#[derive(Debug, Clone, Copy)]
enum Help {
    /// A type, by its name below `io.k8s.api`, and its field.
    Field(&'static str, &'static str),
    Text(&'static str),
}
use Help::{Field, Text};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const READY_PODS: Help = Text("Number of the pod with ready state");
const WEBHOOKS: Help =
    Text("Webhooks indicates the number of webhooks registered in this configuration");

/// Columns that mean the same for whatever has them.
const COMMON: [(&str, Help); 2] = [
    ("Containers", Text("Names of each container in the template.")),
    ("Images", Text("Images referenced by each container in the template.")),
];

/// Kind, column, and what it is.
const COLUMNS: [(&str, &str, Help); 117] = [
    ("CSIDriver", "AttachRequired", Field("storage.v1.CSIDriverSpec", "attachRequired")),
    ("CSIDriver", "Modes", Field("storage.v1.CSIDriverSpec", "volumeLifecycleModes")),
    ("CSIDriver", "PodInfoOnMount", Field("storage.v1.CSIDriverSpec", "podInfoOnMount")),
    ("CSIDriver", "RequiresRepublish", Field("storage.v1.CSIDriverSpec", "requiresRepublish")),
    ("CSIDriver", "StorageCapacity", Field("storage.v1.CSIDriverSpec", "storageCapacity")),
    ("CSIDriver", "TokenRequests", Field("storage.v1.CSIDriverSpec", "tokenRequests")),
    (
        "CSINode",
        "Drivers",
        Text("Drivers indicates the number of CSI drivers registered on the node"),
    ),
    (
        "CertificateSigningRequest",
        "Condition",
        Field("certificates.v1.CertificateSigningRequestStatus", "conditions"),
    ),
    (
        "CertificateSigningRequest",
        "RequestedDuration",
        Field("certificates.v1.CertificateSigningRequestSpec", "expirationSeconds"),
    ),
    (
        "CertificateSigningRequest",
        "Requestor",
        Field("certificates.v1.CertificateSigningRequestSpec", "request"),
    ),
    (
        "CertificateSigningRequest",
        "SignerName",
        Field("certificates.v1.CertificateSigningRequestSpec", "signerName"),
    ),
    ("ClusterRoleBinding", "Groups", Text("Groups in the clusterRoleBinding")),
    ("ClusterRoleBinding", "Role", Field("rbac.v1.ClusterRoleBinding", "roleRef")),
    ("ClusterRoleBinding", "ServiceAccounts", Text("ServiceAccounts in the clusterRoleBinding")),
    ("ClusterRoleBinding", "Users", Text("Users in the clusterRoleBinding")),
    ("ConfigMap", "Data", Field("core.v1.ConfigMap", "data")),
    ("ControllerRevision", "Controller", Text("Controller of the object")),
    ("ControllerRevision", "Revision", Field("apps.v1.ControllerRevision", "revision")),
    ("CronJob", "Active", Field("batch.v1.CronJobStatus", "active")),
    ("CronJob", "Last Schedule", Field("batch.v1.CronJobStatus", "lastScheduleTime")),
    ("CronJob", "Schedule", Field("batch.v1.CronJobSpec", "schedule")),
    ("CronJob", "Selector", Field("batch.v1.JobSpec", "selector")),
    ("CronJob", "Suspend", Field("batch.v1.CronJobSpec", "suspend")),
    ("CronJob", "Timezone", Field("batch.v1.CronJobSpec", "timeZone")),
    ("DaemonSet", "Available", Field("apps.v1.DaemonSetStatus", "numberAvailable")),
    ("DaemonSet", "Current", Field("apps.v1.DaemonSetStatus", "currentNumberScheduled")),
    ("DaemonSet", "Desired", Field("apps.v1.DaemonSetStatus", "desiredNumberScheduled")),
    ("DaemonSet", "Node Selector", Field("core.v1.PodSpec", "nodeSelector")),
    ("DaemonSet", "Ready", Field("apps.v1.DaemonSetStatus", "numberReady")),
    ("DaemonSet", "Selector", Field("apps.v1.DaemonSetSpec", "selector")),
    ("DaemonSet", "Up-to-date", Field("apps.v1.DaemonSetStatus", "updatedNumberScheduled")),
    ("Deployment", "Available", Field("apps.v1.DeploymentStatus", "availableReplicas")),
    ("Deployment", "Ready", READY_PODS),
    ("Deployment", "Selector", Field("apps.v1.DeploymentSpec", "selector")),
    ("Deployment", "Up-to-date", Field("apps.v1.DeploymentStatus", "updatedReplicas")),
    ("EndpointSlice", "AddressType", Field("discovery.v1.EndpointSlice", "addressType")),
    ("EndpointSlice", "Endpoints", Field("discovery.v1.EndpointSlice", "endpoints")),
    ("EndpointSlice", "Ports", Field("discovery.v1.EndpointSlice", "ports")),
    ("Endpoints", "Endpoints", Field("core.v1.Endpoints", "subsets")),
    ("Event", "Count", Field("core.v1.Event", "count")),
    ("Event", "First Seen", Field("core.v1.Event", "firstTimestamp")),
    ("Event", "Last Seen", Field("core.v1.Event", "lastTimestamp")),
    ("Event", "Message", Field("core.v1.Event", "message")),
    ("Event", "Object", Field("core.v1.Event", "involvedObject")),
    ("Event", "Reason", Field("core.v1.Event", "reason")),
    ("Event", "Source", Field("core.v1.Event", "source")),
    ("Event", "Subobject", Field("core.v1.ObjectReference", "fieldPath")),
    ("Event", "Type", Field("core.v1.Event", "type")),
    ("Job", "Completions", Field("batch.v1.JobStatus", "succeeded")),
    ("Job", "Duration", Text("Time required to complete the job.")),
    ("Job", "Selector", Field("batch.v1.JobSpec", "selector")),
    ("Job", "Status", Text("Status of the job.")),
    ("Lease", "Holder", Field("coordination.v1.LeaseSpec", "holderIdentity")),
    ("MutatingWebhookConfiguration", "Webhooks", WEBHOOKS),
    ("Namespace", "Status", Text("The status of the namespace")),
    ("Node", "Container-Runtime", Field("core.v1.NodeSystemInfo", "containerRuntimeVersion")),
    ("Node", "External-IP", Field("core.v1.NodeStatus", "addresses")),
    ("Node", "Internal-IP", Field("core.v1.NodeStatus", "addresses")),
    ("Node", "Kernel-Version", Field("core.v1.NodeSystemInfo", "kernelVersion")),
    ("Node", "OS-Image", Field("core.v1.NodeSystemInfo", "osImage")),
    ("Node", "Roles", Text("The roles of the node")),
    ("Node", "Status", Text("The status of the node")),
    ("Node", "Version", Field("core.v1.NodeSystemInfo", "kubeletVersion")),
    ("PersistentVolume", "Access Modes", Field("core.v1.PersistentVolumeSpec", "accessModes")),
    ("PersistentVolume", "Capacity", Field("core.v1.PersistentVolumeSpec", "capacity")),
    ("PersistentVolume", "Claim", Field("core.v1.PersistentVolumeSpec", "claimRef")),
    ("PersistentVolume", "Reason", Field("core.v1.PersistentVolumeStatus", "reason")),
    (
        "PersistentVolume",
        "Reclaim Policy",
        Field("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy"),
    ),
    ("PersistentVolume", "Status", Field("core.v1.PersistentVolumeStatus", "phase")),
    ("PersistentVolume", "StorageClass", Text("StorageClass of the pv")),
    ("PersistentVolume", "VolumeAttributesClass", Text("VolumeAttributesClass of the pv")),
    ("PersistentVolume", "VolumeMode", Field("core.v1.PersistentVolumeSpec", "volumeMode")),
    (
        "PersistentVolumeClaim",
        "Access Modes",
        Field("core.v1.PersistentVolumeClaimStatus", "accessModes"),
    ),
    ("PersistentVolumeClaim", "Capacity", Field("core.v1.PersistentVolumeClaimStatus", "capacity")),
    ("PersistentVolumeClaim", "Status", Field("core.v1.PersistentVolumeClaimStatus", "phase")),
    ("PersistentVolumeClaim", "StorageClass", Text("StorageClass of the pvc")),
    ("PersistentVolumeClaim", "Volume", Field("core.v1.PersistentVolumeClaimSpec", "volumeName")),
    ("PersistentVolumeClaim", "VolumeAttributesClass", Text("VolumeAttributesClass of the pvc")),
    (
        "PersistentVolumeClaim",
        "VolumeMode",
        Field("core.v1.PersistentVolumeClaimSpec", "volumeMode"),
    ),
    ("Pod", "IP", Field("core.v1.PodStatus", "podIP")),
    ("Pod", "Node", Field("core.v1.PodSpec", "nodeName")),
    ("Pod", "Nominated Node", Field("core.v1.PodStatus", "nominatedNodeName")),
    ("Pod", "Readiness Gates", Field("core.v1.PodSpec", "readinessGates")),
    ("Pod", "Ready", Text("The aggregate readiness state of this pod for accepting traffic.")),
    (
        "Pod",
        "Restarts",
        Text(
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        ),
    ),
    ("Pod", "Status", Text("The aggregate status of the containers in this pod.")),
    (
        "PodDisruptionBudget",
        "Allowed Disruptions",
        Text("Calculated number of pods that may be disrupted at this time."),
    ),
    (
        "PodDisruptionBudget",
        "Max Unavailable",
        Text("The maximum number of pods that may be unavailable."),
    ),
    (
        "PodDisruptionBudget",
        "Min Available",
        Text("The minimum number of pods that must be available."),
    ),
    ("ReplicaSet", "Current", Field("apps.v1.ReplicaSetStatus", "replicas")),
    ("ReplicaSet", "Desired", Field("apps.v1.ReplicaSetSpec", "replicas")),
    ("ReplicaSet", "Ready", Field("apps.v1.ReplicaSetStatus", "readyReplicas")),
    ("ReplicaSet", "Selector", Field("apps.v1.ReplicaSetSpec", "selector")),
    ("RoleBinding", "Groups", Text("Groups in the roleBinding")),
    ("RoleBinding", "Role", Field("rbac.v1.RoleBinding", "roleRef")),
    ("RoleBinding", "ServiceAccounts", Text("ServiceAccounts in the roleBinding")),
    ("RoleBinding", "Users", Text("Users in the roleBinding")),
    ("Scale", "Available", Field("autoscaling.v1.ScaleStatus", "replicas")),
    ("Scale", "Desired", Field("autoscaling.v1.ScaleSpec", "replicas")),
    ("Secret", "Data", Field("core.v1.Secret", "data")),
    ("Secret", "Type", Field("core.v1.Secret", "type")),
    ("Service", "Cluster-IP", Field("core.v1.ServiceSpec", "clusterIP")),
    ("Service", "External-IP", Field("core.v1.ServiceSpec", "externalIPs")),
    ("Service", "Port(s)", Field("core.v1.ServiceSpec", "ports")),
    ("Service", "Selector", Field("core.v1.ServiceSpec", "selector")),
    ("Service", "Type", Field("core.v1.ServiceSpec", "type")),
    ("ServiceAccount", "Secrets", Field("core.v1.ServiceAccount", "secrets")),
    ("StatefulSet", "Ready", READY_PODS),
    (
        "StorageClass",
        "AllowVolumeExpansion",
        Field("storage.v1.StorageClass", "allowVolumeExpansion"),
    ),
    ("StorageClass", "Provisioner", Field("storage.v1.StorageClass", "provisioner")),
    ("StorageClass", "ReclaimPolicy", Field("storage.v1.StorageClass", "reclaimPolicy")),
    ("StorageClass", "VolumeBindingMode", Field("storage.v1.StorageClass", "volumeBindingMode")),
    ("ValidatingWebhookConfiguration", "Webhooks", WEBHOOKS),
    ("VolumeAttachment", "Attached", Field("storage.v1.VolumeAttachmentStatus", "attached")),
    ("VolumeAttachment", "Attacher", Field("storage.v1.VolumeAttachmentSpec", "attacher")),
    ("VolumeAttachment", "Node", Field("storage.v1.VolumeAttachmentSpec", "nodeName")),
    ("VolumeAttachment", "PV", Field("storage.v1.VolumeAttachmentSource", "persistentVolumeName")),
];

/// The description of a kind's column; empty if there is none.
pub(crate) fn of(kind: &str, column: &str) -> &'static str {
    match column {
        "Name" => return metadata("name"),
        "Age" | "Created At" => return metadata("creationTimestamp"),
        _ => {}
    }
    let own = COLUMNS.iter().find(|(k, c, _)| (*k, *c) == (kind, column)).map(|(.., h)| h);
    let help = own.or_else(|| COMMON.iter().find(|(c, _)| *c == column).map(|(_, h)| h));
    match help {
        Some(Text(text)) => text,
        Some(Field(of, field)) => described(of, field),
        None => "",
    }
}

/// The description of a field that every object has.
pub(crate) fn metadata(field: &'static str) -> &'static str {
    described(META, field)
}

/// The descriptions of all fields that columns show: of all others there are some hundred times as many.
fn described(of: &'static str, field: &'static str) -> &'static str {
    static KNOWN: OnceLock<HashMap<(&str, &str), String>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let definitions = schema::definitions();
        let shown = COLUMNS.iter().filter_map(|(.., h)| match h {
            Field(of, field) => Some((*of, *field)),
            Text(_) => None,
        });
        let shown = shown.chain([(META, "name"), (META, "creationTimestamp")]);
        let one = |(of, field): (&'static str, &'static str)| {
            let full = if of == META { of.to_owned() } else { format!("io.k8s.api.{of}") };
            let text = &definitions.get(&full)?["properties"][field]["description"];
            Some(((of, field), text.as_str()?.to_owned()))
        };
        shown.filter_map(one).collect()
    });
    known.get(&(of, field)).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    // `kubectl get pods -v=8` of a Kubernetes shows these.
    #[test]
    fn every_column_says_what_it_is() {
        let registry = Registry::new();
        let kinds = registry.current(0, Vec::new);
        let mut told = 0;
        for r in &kinds.resources {
            for c in r.strategy.columns.columns {
                assert!(!of(&r.kind, c.name).is_empty(), "{} {}", r.kind, c.name);
                told += 1;
            }
        }
        assert!(told > 100, "{told}");
        assert!(
            of("Pod", "Restarts").ends_with("when the last container in this pod has restarted.")
        );
        assert!(of("Pod", "Node").contains("node"));
        assert!(of("Node", "Age").starts_with("CreationTimestamp is a timestamp representing"));
        assert!(of("Service", "Type").starts_with("type determines how the Service is exposed."));
        assert_eq!(
            of("Scale", "Desired"),
            "replicas is the desired number of instances for the scaled object."
        );
        // None is of a kind or column that there is not.
        for (kind, column, _) in COLUMNS {
            let known = |r: &std::sync::Arc<crate::registry::Resource>| {
                *r.kind == *kind && r.strategy.columns.columns.iter().any(|c| c.name == column)
            };
            assert!(kind == "Scale" || kinds.resources.iter().any(known), "{kind} {column}");
        }
    }
}

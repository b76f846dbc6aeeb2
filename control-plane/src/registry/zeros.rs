//! What Go leaves out of an object: texts, switches and numbers that say nothing; and what it never
//! leaves out: times that are not set, and objects that may be empty.
//!
//! Owns: which fields those are. Called by: `http::body`, for whatever is written. Never: touches a
//! field that tells "nothing" from "not said" (a pointer in Go), or one that always stands there.
//!
//! The fields are those that the API's types leave out when they are empty:
//! <https://pkg.go.dev/k8s.io/api/core/v1> and its neighbours.

use serde_json::{Map, Value};

use super::schema::{Shape, TypeId, schemas};

/// Texts of which each type that has them leaves out the empty one.
const TEXTS: &[&str] = &[
    "clusterIP",
    "completedIndexes",
    "component",
    "concurrencyPolicy",
    "containerID",
    "currentRevision",
    "datasetName",
    "datasetUUID",
    "directory",
    "dnsPolicy",
    "externalID",
    "externalName",
    "externalTrafficPolicy",
    "generateName",
    "host",
    "hostIP",
    "imagePullPolicy",
    "iscsiInterface",
    "keyring",
    "level",
    "loadBalancerIP",
    "medium",
    "messageExpression",
    "nominatedNodeName",
    "note",
    "persistentVolumeReclaimPolicy",
    "phase",
    "podCIDR",
    "podIP",
    "podManagementPolicy",
    "policyName",
    "pool",
    "prefix",
    "priorityClassName",
    "protectionDomain",
    "providerID",
    "pullPolicy",
    "qosClass",
    "role",
    "schedulerName",
    "scheme",
    "secretFile",
    "selfLink",
    "serviceAccount",
    "serviceAccountName",
    "sessionAffinity",
    "storageMode",
    "storagePolicyID",
    "storagePolicyName",
    "storagePool",
    "subPath",
    "subPathExpr",
    "subdomain",
    "targetContainerName",
    "tenant",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "updateRevision",
    "username",
    "volumeName",
    "volumeNamespace",
    "whenDeleted",
    "whenScaled",
    "workingDir",
];

/// The same of switches that are off.
const SWITCHES: &[&str] = &[
    "chapAuthDiscovery",
    "chapAuthSession",
    "globalDefault",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "paused",
    "publishNotReadyAddresses",
    "sslEnabled",
    "stdin",
    "stdinOnce",
    "tty",
    "unschedulable",
];

/// The same of numbers that are zero.
const NUMBERS: &[&str] = &[
    "active",
    "currentReplicas",
    "failed",
    "failureThreshold",
    "fullyLabeledReplicas",
    "generation",
    "healthCheckNodePort",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "numberAvailable",
    "numberUnavailable",
    "observedGeneration",
    "periodSeconds",
    "readyReplicas",
    "signal",
    "sizeBytes",
    "succeeded",
    "successThreshold",
    "unavailableReplicas",
    "updatedNumberScheduled",
    "updatedReplicas",
];

/// Fields whose names mean other things elsewhere.
fn of_type(name: &str) -> &'static [&'static str] {
    match name {
        "Container" | "EphemeralContainer" => &["image"],
        "ContainerPort" | "ServicePort" => &["name", "protocol"],
        "ContainerStateTerminated"
        | "ContainerStateWaiting"
        | "DaemonSetCondition"
        | "DeploymentCondition"
        | "JobCondition"
        | "NamespaceCondition"
        | "NodeCondition"
        | "PersistentVolumeClaimCondition"
        | "PodCondition"
        | "PodStatus"
        | "ReplicaSetCondition"
        | "StatefulSetCondition" => &["message", "reason"],
        "DeploymentStatus" => &["availableReplicas", "replicas"],
        "EndpointAddress" | "LoadBalancerIngress" => &["hostname"],
        "EnvVar" | "Taint" => &["value"],
        "HTTPGetAction" => &["path"],
        "LocalObjectReference" => &["name"],
        "NFSVolumeSource" | "PersistentVolumeClaimVolumeSource" | "VolumeMount" => &["readOnly"],
        "ObjectMeta" => &["name", "namespace", "resourceVersion", "uid"],
        "ObjectReference" => {
            &["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"]
        }
        "PersistentVolumeSpec" => &["storageClassName"],
        "PodSpec" => &["hostname", "nodeName", "restartPolicy"],
        "Probe" => &["timeoutSeconds"],
        "ReplicaSetStatus" => &["availableReplicas"],
        "SecretVolumeSource" => &["secretName"],
        "DaemonSetUpdateStrategy"
        | "DeploymentStrategy"
        | "Secret"
        | "ServiceSpec"
        | "StatefulSetUpdateStrategy" => &["type"],
        "Subject" => &["apiGroup", "namespace"],
        "Toleration" => &["effect", "key", "operator", "value"],
        _ => &[],
    }
}

/// Times that stand there even when they are not set.
fn times(name: &str) -> &'static [&'static str] {
    match name {
        "NodeCondition" => &["lastHeartbeatTime", "lastTransitionTime"],
        "JobCondition" | "PersistentVolumeClaimCondition" | "PodCondition" => {
            &["lastProbeTime", "lastTransitionTime"]
        }
        "DeploymentCondition" => &["lastTransitionTime", "lastUpdateTime"],
        "DaemonSetCondition"
        | "NamespaceCondition"
        | "ReplicaSetCondition"
        | "StatefulSetCondition" => &["lastTransitionTime"],
        "ContainerStateRunning" => &["startedAt"],
        "ContainerStateTerminated" => &["finishedAt", "startedAt"],
        _ => &[],
    }
}

/// Takes away from an object what says nothing, and adds what stands there all the same.
pub(crate) fn as_go_writes(id: TypeId, value: &mut Value) {
    if let Value::Object(fields) = value {
        object(id, fields);
    }
}

fn object(id: TypeId, fields: &mut Map<String, Value>) {
    let ty = schemas().get(id);
    fields.retain(|name, value| {
        let Some(shape) = ty.field(name) else { return true };
        let known = match (shape, &*value) {
            (Shape::String, Value::String(s)) if s.is_empty() => TEXTS,
            (Shape::Bool, Value::Bool(false)) => SWITCHES,
            (Shape::Int { .. }, Value::Number(n)) if n.as_i64() == Some(0) => NUMBERS,
            _ => {
                within(shape, value);
                return true;
            }
        };
        let known = known.binary_search(&name.as_str()).is_ok();
        !known && !of_type(ty.go_name()).contains(&name.as_str())
    });
    for time in times(ty.go_name()) {
        fields.entry(*time).or_insert(Value::Null);
    }
    if ty.go_name() == "ContainerStatus" {
        for state in ["lastState", "state"] {
            fields.entry(state).or_insert_with(|| Value::Object(Map::new()));
        }
    }
}

fn within(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Ref(id), Value::Object(fields)) => object(*id, fields),
        (Shape::List(items, _), Value::Array(all)) => {
            all.iter_mut().for_each(|v| within(items, v));
        }
        (Shape::Map(items), Value::Object(all)) => {
            all.values_mut().for_each(|v| within(items, v));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_lists_can_be_searched() {
        for list in [TEXTS, SWITCHES, NUMBERS] {
            assert!(list.is_sorted(), "{list:?}");
        }
    }

    // What a kube-apiserver 1.33 kept of the same object.
    #[test]
    fn what_says_nothing_is_not_kept() {
        let pod = schemas().find("io.k8s.api.core.v1.Pod").unwrap();
        let mut v = json!({"metadata": {"name": "a", "generateName": ""}, "spec": {
            "hostNetwork": false, "hostname": "", "serviceAccountName": "", "automountServiceAccountToken": false,
            "containers": [{"name": "", "image": "i", "tty": false, "workingDir": "",
                "env": [{"name": "A", "value": ""}],
                "ports": [{"containerPort": 0, "hostPort": 0, "name": ""}],
                "livenessProbe": {"initialDelaySeconds": 0},
                "securityContext": {"privileged": false, "runAsUser": 0}}],
            "volumes": [{"name": "v", "emptyDir": {"medium": ""}}, {"name": "w", "hostPath": {"path": "/", "type": ""}}]}});
        as_go_writes(pod, &mut v);
        assert_eq!(
            v,
            json!({"metadata": {"name": "a"}, "spec": {"automountServiceAccountToken": false,
                "containers": [{"name": "", "image": "i", "env": [{"name": "A"}],
                    "ports": [{"containerPort": 0}], "livenessProbe": {},
                    "securityContext": {"privileged": false, "runAsUser": 0}}],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/", "type": ""}}]}})
        );
        let deployment = schemas().find("io.k8s.api.apps.v1.Deployment").unwrap();
        let mut v = json!({"spec": {"replicas": 0, "paused": false, "minReadySeconds": 0}, "status": {"replicas": 0}});
        as_go_writes(deployment, &mut v);
        assert_eq!(v, json!({"spec": {"replicas": 0}, "status": {}}));
    }

    // The same.
    #[test]
    fn times_that_are_not_set_and_states_that_are_empty_stand_there() {
        let node = schemas().find("io.k8s.api.core.v1.Node").unwrap();
        let mut v =
            json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": ""}]}});
        as_go_writes(node, &mut v);
        assert_eq!(
            v["status"]["conditions"][0],
            json!({"type": "Ready", "status": "True", "lastHeartbeatTime": null, "lastTransitionTime": null})
        );
        let pod = schemas().find("io.k8s.api.core.v1.Pod").unwrap();
        let mut v =
            json!({"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}});
        as_go_writes(pod, &mut v);
        assert_eq!(
            v["status"]["containerStatuses"][0],
            json!({"name": "c", "lastState": {}, "state": {"running": {"startedAt": null}}})
        );
    }
}

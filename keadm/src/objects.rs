//! The Kubernetes objects that the cloud side needs: what `init` applies and `manifest` prints.
//!
//! Owns: their content, and the order in which they can be applied.
//! Called by: `init`, `manifest`, `up`, and `reset cloud`, which deletes what `init` applied.
//! Never: holds a secret: cloudcore makes the CA, its certificate and the token.

use serde_json::{Value, json};

/// The namespace of cloudcore's own objects.
pub const NAMESPACE: &str = "kubeedge";
/// The name of cloudcore's service account, role, binding and configuration.
pub const NAME: &str = "cloudcore";
/// The secret that the cluster fills with a token of cloudcore's service account.
pub const ACCOUNT_TOKEN: &str = "cloudcore-account";

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// The namespace.
pub fn namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "labels": { "k8s-app": "kubeedge" } },
    })
}

/// The definitions of KubeEdge's kinds.
pub fn crds() -> Vec<Value> {
    let definitions = api::crd::all().into_iter();
    definitions.filter_map(|crd| serde_json::to_value(crd).ok()).map(ours).collect()
}

/// A definition's status is the API server's to write; the label finds ours among others.
fn ours(mut crd: Value) -> Value {
    if let Value::Object(map) = &mut crd {
        map.remove("status");
    }
    if let Some(Value::Object(metadata)) = crd.get_mut("metadata") {
        metadata.insert("labels".to_owned(), json!({ "k8s-app": "kubeedge" }));
    }
    crd
}

/// Who cloudcore is and what it may do.
pub fn rbac() -> Vec<Value> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    let labels = json!({ "k8s-app": "kubeedge", "kubeedge": NAME });
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": labels },
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": NAME, "labels": labels },
            "rules": [
                rule("", &["nodes", "pods"], &WRITE),
                rule("", &["nodes/status", "pods/status"], &["get", "update", "patch"]),
                // What readers of its status stream may ask for on this machine.
                rule("", &["pods/eviction"], &["create"]),
                rule("", &["pods/log"], &["get"]),
                rule("", &["configmaps", "secrets", "services", "endpoints", "serviceaccounts",
                    "persistentvolumes", "persistentvolumeclaims", "namespaces"], &READ),
                rule("", &["namespaces"], &["create"]),
                rule("", &["events"], &["create", "patch", "update"]),
                rule("", &["serviceaccounts/token"], &["create"]),
                rule("coordination.k8s.io", &["leases"], &WRITE),
                rule("discovery.k8s.io", &["endpointslices"], &READ),
                rule("storage.k8s.io", &["volumeattachments", "csinodes", "csidrivers"], &WRITE),
                rule("apps", &["deployments", "daemonsets", "replicasets", "statefulsets"], &READ),
                rule("rbac.authorization.k8s.io",
                    &["roles", "rolebindings", "clusterroles", "clusterrolebindings"], &READ),
                rule("certificates.k8s.io", &["certificatesigningrequests"], &WRITE),
                rule("certificates.k8s.io", &["certificatesigningrequests/approval"], &["update"]),
                { "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
                    "resourceNames": ["kubernetes.io/kubelet-serving"], "verbs": ["approve"] },
                rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
                rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
                { "apiGroups": [
                        "devices.kubeedge.io", "reliablesyncs.kubeedge.io", "rules.kubeedge.io",
                        "operations.kubeedge.io", "apps.kubeedge.io", "policy.kubeedge.io",
                    ], "resources": ["*"], "verbs": WRITE },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": NAME, "labels": labels },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME,
            },
            "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": labels },
            "rules": [rule("", &["secrets", "configmaps"], &WRITE)],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": labels },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME },
            "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE }],
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": ACCOUNT_TOKEN, "namespace": NAMESPACE, "labels": labels,
                "annotations": { "kubernetes.io/service-account.name": NAME },
            },
            "type": "kubernetes.io/service-account-token",
        }),
    ]
}

/// The configuration, where KubeEdge's tools look for it.
pub fn config_map(yaml: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": { "k8s-app": "kubeedge" } },
        "data": { "cloudcore.yaml": yaml },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_what_an_api_server_needs_to_place_it() {
        let all = [vec![namespace()], crds(), rbac(), vec![config_map("")]].concat();
        assert!(all.len() > 15);
        for object in all {
            for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
                assert!(object.pointer(pointer).is_some_and(Value::is_string), "{object}");
            }
        }
    }
}

//! The objects that every cluster has.
//!
//! Owns: the default namespaces, the service `kubernetes`, the default roles. Called by: `prepare`, at the start.

use std::sync::Arc;

use futures::future::{try_join, try_join_all};
use serde_json::{Value, json};

use crate::bootstrap::SERVICE_IP;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::create::create;
use crate::http::status::Status;
use crate::plane::Plane;

/// The namespaces that are always there.
pub(crate) const NAMESPACES: [&str; 4] =
    ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates an object unless it is there.
///
/// # Errors
/// Everything that Kubernetes refuses, but for an object that exists.
pub(crate) async fn ensure_object(
    plane: &Plane,
    group: &str,
    plural: &str,
    namespace: &str,
    mut object: Value,
) -> Result<bool, Status> {
    let resource = plane.registry.builtin(group, plural);
    object["kind"] = resource.kind.as_str().into();
    object["apiVersion"] = resource.api_version().into();
    let user = User::internal("apiserver");
    let options = WriteOptions { manager: "kube-apiserver".into(), ..WriteOptions::default() };
    match create(plane, &user, &resource, namespace, object, &options).await {
        Ok(_) => Ok(true),
        Err(e) if e.reason == "AlreadyExists" => Ok(false),
        Err(e) => Err(e),
    }
}

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}}, "rules": rules})
}

/// The roles of <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>
/// for what is served here.
fn roles() -> Vec<Value> {
    let read = json!(["get", "list", "watch"]);
    let write = json!(["create", "delete", "deletecollection", "patch", "update"]);
    let core_read = json!([
        "bindings",
        "configmaps",
        "endpoints",
        "events",
        "namespaces",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
        "services",
        "services/status"
    ]);
    let core_write = json!([
        "configmaps",
        "endpoints",
        "events",
        "persistentvolumeclaims",
        "pods",
        "pods/attach",
        "pods/eviction",
        "pods/exec",
        "pods/portforward",
        "secrets",
        "serviceaccounts",
        "services"
    ]);
    let apps = json!([
        "controllerrevisions",
        "daemonsets",
        "daemonsets/status",
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status",
        "statefulsets",
        "statefulsets/scale",
        "statefulsets/status"
    ]);
    let rule = |groups: &[&str], resources: &Value, verbs: &Value| json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
    let view = [
        rule(&[""], &core_read, &read),
        rule(&["apps"], &apps, &read),
        rule(&["batch"], &json!(["cronjobs", "cronjobs/status", "jobs", "jobs/status"]), &read),
        rule(&["discovery.k8s.io"], &json!(["endpointslices"]), &read),
    ];
    let mut edit = view.to_vec();
    edit.extend([
        rule(&[""], &json!(["secrets"]), &read),
        rule(&[""], &core_write, &write),
        rule(&[""], &json!(["serviceaccounts"]), &json!(["impersonate"])),
        rule(&[""], &json!(["serviceaccounts/token"]), &json!(["create"])),
        rule(&["apps"], &apps, &write),
        rule(&["batch"], &json!(["cronjobs", "jobs"]), &write),
        rule(
            &["coordination.k8s.io"],
            &json!(["leases"]),
            &json!([
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch"
            ]),
        ),
    ]);
    let mut admin = edit.clone();
    admin.extend([
        rule(&["authorization.k8s.io"], &json!(["localsubjectaccessreviews"]), &json!(["create"])),
        rule(
            &["rbac.authorization.k8s.io"],
            &json!(["rolebindings", "roles"]),
            &json!([
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch"
            ]),
        ),
    ]);
    vec![
        role(
            "cluster-admin",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]),
        ),
        role("admin", json!(admin)),
        role("edit", json!(edit)),
        role("view", json!(view)),
        role(
            "system:discovery",
            json!([{"verbs": ["get"], "nonResourceURLs":
            ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"]}]),
        ),
        role(
            "system:basic-user",
            json!([
                rule(
                    &["authorization.k8s.io"],
                    &json!(["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
                    &json!(["create"])
                ),
                rule(
                    &["authentication.k8s.io"],
                    &json!(["selfsubjectreviews"]),
                    &json!(["create"])
                ),
            ]),
        ),
        role(
            "system:public-info-viewer",
            json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"]}]),
        ),
        role(
            "system:service-account-issuer-discovery",
            json!([{"verbs": ["get"], "nonResourceURLs":
            ["/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/"]}]),
        ),
        role(
            "system:auth-delegator",
            json!([
                rule(&["authentication.k8s.io"], &json!(["tokenreviews"]), &json!(["create"])),
                rule(
                    &["authorization.k8s.io"],
                    &json!(["subjectaccessreviews"]),
                    &json!(["create"])
                ),
            ]),
        ),
        role(
            "system:node-bootstrapper",
            json!([rule(
                &["certificates.k8s.io"],
                &json!(["certificatesigningrequests"]),
                &json!(["create", "get", "list", "watch"])
            ),]),
        ),
    ]
}

/// Who has the default roles.
const BINDINGS: [(&str, &str); 4] = [
    ("cluster-admin", "system:masters"),
    ("system:discovery", "system:authenticated"),
    ("system:basic-user", "system:authenticated"),
    ("system:service-account-issuer-discovery", "system:serviceaccounts"),
];

const RBAC: &str = "rbac.authorization.k8s.io";

/// Makes what is missing; all at once, so that it costs two commits.
///
/// # Errors
/// When the store refuses to write.
pub(crate) async fn ensure(plane: &Arc<Plane>) -> Result<(), Status> {
    let namespaces = NAMESPACES
        .map(|n| ensure_object(plane, "", "namespaces", "", json!({"metadata": {"name": n}})));
    let roles = roles().into_iter().map(|r| ensure_object(plane, RBAC, "clusterroles", "", r));
    let bindings = BINDINGS.map(|(name, group)| {
        let mut b = role(name, Value::Null);
        b.as_object_mut().and_then(|m| m.remove("rules"));
        b["roleRef"] = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": name});
        b["subjects"] = json!([{"apiGroup": RBAC, "kind": "Group", "name": group}]);
        ensure_object(plane, RBAC, "clusterrolebindings", "", b)
    });
    try_join(try_join_all(namespaces), try_join(try_join_all(roles), try_join_all(bindings)))
        .await?;
    let service = json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": SERVICE_IP, "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": plane.address.port()}]},
    });
    // As Kubernetes publishes it for servers that trust the same client certificates.
    let authentication = json!({
        "metadata": {"name": "extension-apiserver-authentication"},
        "data": {"client-ca-file": plane.ca_pem},
    });
    let published = ensure_object(plane, "", "configmaps", "kube-system", authentication);
    let accounts = NAMESPACES.map(|n| super::accounts::ensure(plane, n));
    let service = ensure_object(plane, "", "services", "default", service);
    try_join(try_join_all(accounts), try_join(service, published)).await?;
    Ok(())
}

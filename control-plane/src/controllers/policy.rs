//! The roles and bindings that every cluster has.
//!
//! Owns: their rules, for the kinds that are served here. Called by: `defaults`, at the start.
//! Never: takes anything away that an administrator has added.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

mod components;

use futures::future::try_join_all;
use serde_json::{Value, json};

use super::{defaults, roles};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::escalation;
use crate::http::rbac::Rule;
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, meta};

const GROUP: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn paths(list: &[&str]) -> Value {
    json!({"nonResourceURLs": list, "verbs": ["get"]})
}

fn object(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"}}})
}

fn role(name: &str, rules: &[Value]) -> Value {
    let mut out = object(name);
    out["rules"] = json!(rules);
    out
}

const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// A role whose rules go into another one.
fn part_of(sum: &str, name: &str, rules: &[Value]) -> Value {
    let mut out = role(name, rules);
    out["metadata"]["labels"][format!("{AGGREGATE}{sum}")] = "true".into();
    out
}

fn sum(name: &str, into: Option<&str>) -> Value {
    let mut out = object(name);
    out["aggregationRule"] =
        json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}{name}"): "true"}}]});
    if let Some(into) = into {
        out["metadata"]["labels"][format!("{AGGREGATE}{into}")] = "true".into();
    }
    out
}

/// What people get: `view` is in `edit`, and that in `admin`.
fn for_people() -> Vec<Value> {
    let apps = [
        "daemonsets",
        "deployments",
        "deployments/scale",
        "replicasets",
        "replicasets/scale",
        "statefulsets",
        "statefulsets/scale",
    ];
    let apps_read = [
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
        "statefulsets/status",
    ];
    let streams = ["pods", "pods/attach", "pods/exec", "pods/portforward"];
    let view = [
        rule(
            "",
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            READ,
        ),
        rule("", &["bindings", "events", "namespaces/status", "pods/log", "pods/status"], READ),
        rule("", &["namespaces"], READ),
        rule("discovery.k8s.io", &["endpointslices"], READ),
        rule("apps", &apps_read, READ),
        rule("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"], READ),
        rule("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"], READ),
    ];
    let edit = [
        rule("", &["pods/attach", "pods/exec", "pods/portforward", "secrets"], READ),
        rule("", &["serviceaccounts"], &["impersonate"]),
        rule("", &streams, WRITE),
        rule("", &["pods/eviction"], &["create"]),
        rule(
            "",
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "secrets",
                "serviceaccounts",
                "services",
            ],
            WRITE,
        ),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule("apps", &apps, WRITE),
        rule("batch", &["cronjobs", "jobs"], WRITE),
        rule("policy", &["poddisruptionbudgets"], WRITE),
        rule("coordination.k8s.io", &["leases"], ALL),
    ];
    let admin = [
        rule("authorization.k8s.io", &["localsubjectaccessreviews"], &["create"]),
        rule(GROUP, &["rolebindings", "roles"], ALL),
    ];
    vec![
        role(
            "cluster-admin",
            &[rule("*", &["*"], &["*"]), json!({"nonResourceURLs": ["*"], "verbs": ["*"]})],
        ),
        sum("admin", None),
        sum("edit", Some("admin")),
        sum("view", Some("edit")),
        part_of("admin", "system:aggregate-to-admin", &admin),
        part_of("edit", "system:aggregate-to-edit", &edit),
        part_of("view", "system:aggregate-to-view", &view),
    ]
}

/// What everybody gets who is somebody.
fn for_all() -> Vec<Value> {
    let access = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        role(
            "system:basic-user",
            &[
                rule("authorization.k8s.io", &access, &["create"]),
                rule("authentication.k8s.io", &["selfsubjectreviews"], &["create"]),
            ],
        ),
        role(
            "system:discovery",
            &[paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ])],
        ),
        role(
            "system:public-info-viewer",
            &[paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"])],
        ),
        role(
            "system:monitoring",
            &[paths(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ])],
        ),
        role(
            "system:service-account-issuer-discovery",
            &[paths(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ])],
        ),
    ]
}

/// Who has the default roles.
const BINDINGS: &[(&str, &str, &str)] = &[
    ("cluster-admin", "Group", "system:masters"),
    ("system:basic-user", "Group", "system:authenticated"),
    ("system:discovery", "Group", "system:authenticated"),
    ("system:kube-controller-manager", "User", "system:kube-controller-manager"),
    ("system:kube-dns", "ServiceAccount", "kube-dns"),
    ("system:kube-scheduler", "User", "system:kube-scheduler"),
    ("system:monitoring", "Group", "system:monitoring"),
    ("system:node-proxier", "User", "system:kube-proxy"),
    ("system:public-info-viewer", "Group", "system:authenticated"),
    ("system:service-account-issuer-discovery", "Group", "system:serviceaccounts"),
    ("system:volume-scheduler", "User", "system:kube-scheduler"),
];

fn binding(&(name, kind, subject): &(&str, &str, &str)) -> Value {
    let mut b = object(name);
    b["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
    b["subjects"] = match kind {
        "ServiceAccount" => json!([{"kind": kind, "name": subject, "namespace": "kube-system"}]),
        _ => json!([{"apiGroup": GROUP, "kind": kind, "name": subject}]),
    };
    b
}

/// All roles; those that are sums have their rules from the start.
fn all_roles() -> Vec<Value> {
    let mut all = for_people();
    all.extend(for_all());
    all.extend(components::for_components());
    all.sort_by(|a, b| meta::name(a).cmp(meta::name(b)));
    // `admin` takes from `edit`, and that from `view`.
    for name in ["view", "edit", "admin"] {
        let Some(at) = all.iter().position(|r| meta::name(r) == name) else { continue };
        if let Some(rules) = roles::aggregated(&all[at], &all) {
            all[at]["rules"] = json!(rules);
        }
    }
    all
}

/// A stored role or binding with what it lacks of the default; none if it lacks nothing.
fn completed(stored: &Value, wanted: &Value) -> Option<Value> {
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let mut new = stored.clone();
    let rules = |v: &Value| -> Vec<Rule> {
        v["rules"].as_array().into_iter().flatten().map(Rule::read).collect()
    };
    let held = rules(stored);
    for r in wanted["rules"].as_array().into_iter().flatten() {
        if !escalation::missing(&held, &[Rule::read(r)]).is_empty() {
            push(&mut new, "rules", r);
        }
    }
    for s in wanted["subjects"].as_array().into_iter().flatten() {
        let there = stored["subjects"].as_array().is_some_and(|l| l.contains(s));
        if !there {
            push(&mut new, "subjects", s);
        }
    }
    if let Some(rule) = wanted.get("aggregationRule")
        && new.get("aggregationRule").is_none()
    {
        new["aggregationRule"] = rule.clone();
        new["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
    }
    (new != *stored).then_some(new)
}

fn push(object: &mut Value, field: &str, v: &Value) {
    if !object[field].is_array() {
        object[field] = json!([]);
    }
    if let Some(list) = object[field].as_array_mut() {
        list.push(v.clone());
    }
}

/// Makes what is missing; all at once, so that it costs one commit.
///
/// # Errors
/// When the store refuses to write.
pub(crate) async fn ensure(plane: &Plane) -> Result<(), Status> {
    let roles = all_roles().into_iter().map(|r| ("clusterroles", r));
    let bindings = BINDINGS.iter().map(|b| ("clusterrolebindings", binding(b)));
    try_join_all(roles.chain(bindings).map(|(plural, wanted)| one(plane, plural, wanted))).await?;
    Ok(())
}

async fn one(plane: &Plane, plural: &str, wanted: Value) -> Result<(), Status> {
    if defaults::ensure_object(plane, GROUP, plural, "", wanted.clone()).await? {
        return Ok(());
    }
    let resource = plane.registry.builtin(GROUP, plural);
    let at = ("", meta::name(&wanted));
    let stored = crate::http::get::find(plane, &resource, at.0, at.1)?.value();
    if completed(&stored, &wanted).is_none() {
        return Ok(());
    }
    let user = User::internal("apiserver");
    let options = WriteOptions { manager: "kube-apiserver".into(), ..WriteOptions::default() };
    let change = |old: &Value| Ok(completed(old, &wanted).unwrap_or_else(|| old.clone()));
    modify(plane, &user, &resource, at, Part::Main, &options, change).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(role: &str, group: &str, resource: &str, verb: &str) -> bool {
        let all = all_roles();
        let found = all.iter().find(|r| meta::name(r) == role).unwrap();
        let held: Vec<Rule> = found["rules"].as_array().unwrap().iter().map(Rule::read).collect();
        escalation::missing(&held, &[Rule::read(&rule(group, &[resource], &[verb]))]).is_empty()
    }

    // https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles
    #[test]
    fn people_get_what_the_documentation_promises() {
        assert!(holds("view", "", "pods", "list"));
        assert!(!holds("view", "", "secrets", "get"));
        assert!(!holds("view", GROUP, "roles", "get"));
        assert!(!holds("view", "", "pods", "delete"));
        assert!(holds("edit", "", "secrets", "get"));
        assert!(holds("edit", "", "pods", "list"));
        assert!(holds("edit", "apps", "deployments", "patch"));
        assert!(!holds("edit", GROUP, "roles", "create"));
        assert!(holds("admin", GROUP, "rolebindings", "create"));
        assert!(holds("admin", "", "pods/log", "get"));
        assert!(!holds("admin", "", "namespaces", "delete"));
        assert!(!holds("admin", "", "nodes", "get"));
        assert!(holds("cluster-admin", "x", "y", "z"));
    }

    // https://kubernetes.io/docs/reference/access-authn-authz/rbac/#core-component-roles and the table of
    // other components below it, but for Heapster's.
    #[test]
    fn the_parts_of_a_cluster_get_what_the_documentation_promises() {
        assert!(holds("system:kube-scheduler", "", "pods/binding", "create"));
        assert!(!holds("system:kube-scheduler", "", "secrets", "get"));
        assert!(holds("system:volume-scheduler", "", "persistentvolumes", "update"));
        assert!(holds("system:kube-controller-manager", "x", "y", "watch"));
        assert!(!holds("system:kube-controller-manager", "", "pods", "create"));
        assert!(holds("system:node", "", "pods/status", "patch"));
        assert!(!holds("system:node", "", "pods", "update"));
        assert!(holds("system:node-proxier", "discovery.k8s.io", "endpointslices", "watch"));
        assert!(holds("system:kube-dns", "", "services", "list"));
        assert!(holds("system:kube-aggregator", "", "endpoints", "get"));
        assert!(holds("system:auth-delegator", "authentication.k8s.io", "tokenreviews", "create"));
        let roles = all_roles();
        for binding in BINDINGS.iter().map(binding) {
            let named = binding["roleRef"]["name"].as_str().unwrap();
            assert!(roles.iter().any(|r| meta::name(r) == named), "{named}");
        }
    }

    #[test]
    fn what_an_older_cluster_lacks_is_added_and_nothing_taken_away() {
        let wanted = role("r", &[rule("", &["pods"], READ)]);
        let mut stored = role("r", &[rule("", &["nodes"], READ)]);
        let new = completed(&stored, &wanted).unwrap();
        assert_eq!(new["rules"].as_array().unwrap().len(), 2);
        assert_eq!(completed(&new, &wanted), None);
        stored["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(completed(&stored, &wanted), None);
    }
}

//! The roles of the parts of a cluster, whether they run here or are brought along.

use serde_json::{Value, json};

use super::{READ, role, rule};

/// What parts of a cluster get.
pub(super) fn for_components() -> Vec<Value> {
    let csr = "certificates.k8s.io";
    let signer = |name: &str, signer: &str, verb: &str| {
        let mut r = rule(csr, &["signers"], &[verb]);
        r["resourceNames"] = json!([signer]);
        role(name, &[r])
    };
    let subresource = |name: &str| {
        let resource = format!("certificatesigningrequests/{name}");
        role(
            &format!("system:certificates.k8s.io:certificatesigningrequests:{name}"),
            &[rule(csr, &[&resource], &["create"])],
        )
    };
    vec![
        role("system:auth-delegator", &asks()),
        role("system:kube-aggregator", &[rule("", &["endpoints", "services"], READ)]),
        controller_manager(),
        role("system:kube-dns", &[rule("", &["endpoints", "services"], &["list", "watch"])]),
        scheduler(),
        role(
            "system:volume-scheduler",
            &[
                rule("", &["persistentvolumes"], &["get", "list", "patch", "update", "watch"]),
                rule("storage.k8s.io", &["storageclasses"], READ),
                rule("", &["persistentvolumeclaims"], &["get", "list", "patch", "update", "watch"]),
            ],
        ),
        node(),
        role(
            "system:node-bootstrapper",
            &[rule(csr, &["certificatesigningrequests"], &["create", "get", "list", "watch"])],
        ),
        role(
            "system:kubelet-api-admin",
            &[
                rule("", &["nodes"], READ),
                rule("", &["nodes"], &["proxy"]),
                rule("", &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"], &["*"]),
            ],
        ),
        role(
            "system:node-problem-detector",
            &[
                rule("", &["nodes"], &["get"]),
                rule("", &["nodes/status"], &["patch"]),
                rule("", &["events"], &["create", "patch", "update"]),
            ],
        ),
        role(
            "system:node-proxier",
            &[
                rule("", &["endpoints", "services"], &["list", "watch"]),
                rule("", &["nodes"], READ),
                rule("", &["events"], &["create", "patch", "update"]),
                rule("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
            ],
        ),
        role(
            "system:persistent-volume-provisioner",
            &[
                rule("", &["persistentvolumes"], &["create", "delete", "get", "list", "watch"]),
                rule("", &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
                rule("storage.k8s.io", &["storageclasses"], READ),
                rule("", &["events"], &["watch", "create", "update", "patch"]),
            ],
        ),
        subresource("nodeclient"),
        subresource("selfnodeclient"),
        signer(
            "system:certificates.k8s.io:kube-apiserver-client-approver",
            "kubernetes.io/kube-apiserver-client",
            "approve",
        ),
        signer(
            "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
            "kubernetes.io/kube-apiserver-client-kubelet",
            "approve",
        ),
        signer(
            "system:certificates.k8s.io:kubelet-serving-approver",
            "kubernetes.io/kubelet-serving",
            "approve",
        ),
        signer(
            "system:certificates.k8s.io:legacy-unknown-approver",
            "kubernetes.io/legacy-unknown",
            "approve",
        ),
    ]
}

/// Asks who somebody is and what they may do.
fn asks() -> [Value; 2] {
    [
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ]
}

/// Tells what it does, and holds the lease of its name.
fn leads(name: &str, verbs: &[&str]) -> [Value; 3] {
    let mut own = rule("coordination.k8s.io", &["leases"], verbs);
    own["resourceNames"] = json!([name]);
    [
        rule("", &["events"], &["create", "patch", "update"]),
        rule("coordination.k8s.io", &["leases"], &["create"]),
        own,
    ]
}

fn controller_manager() -> Value {
    let mut rules = leads("kube-controller-manager", &["get", "update"]).to_vec();
    rules.extend([
        rule("", &["secrets", "serviceaccounts"], &["create"]),
        rule("", &["secrets"], &["delete"]),
        rule("", &["configmaps", "namespaces", "secrets", "serviceaccounts"], &["get"]),
        rule("", &["secrets", "serviceaccounts"], &["update"]),
    ]);
    rules.extend(asks());
    rules.extend([
        rule("*", &["*"], &["list", "watch"]),
        rule("", &["serviceaccounts/token"], &["create"]),
    ]);
    role("system:kube-controller-manager", &rules)
}

fn scheduler() -> Value {
    let mut rules = leads("kube-scheduler", &["get", "list", "update", "watch"]).to_vec();
    rules.extend([
        rule("", &["nodes"], READ),
        rule("", &["pods"], &["delete", "get", "list", "watch"]),
        rule("", &["bindings", "pods/binding"], &["create"]),
        rule("", &["pods/status"], &["patch", "update"]),
        rule("", &["services"], READ),
        rule("apps", &["replicasets"], READ),
        rule("apps", &["statefulsets"], READ),
        rule("policy", &["poddisruptionbudgets"], READ),
        rule("", &["persistentvolumeclaims", "persistentvolumes"], READ),
    ]);
    rules.extend(asks());
    rules.extend([
        rule("storage.k8s.io", &["csinodes"], READ),
        rule("storage.k8s.io", &["volumeattachments"], READ),
        rule("", &["namespaces"], READ),
        rule("storage.k8s.io", &["csidrivers"], READ),
    ]);
    role("system:kube-scheduler", &rules)
}

/// What the node authorizer lets a node do with what is its own. Nobody has it from the start.
fn node() -> Value {
    let reviews = ["localsubjectaccessreviews", "subjectaccessreviews"];
    role(
        "system:node",
        &[
            rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
            rule("authorization.k8s.io", &reviews, &["create"]),
            rule("", &["services"], READ),
            rule("", &["nodes"], &["create", "get", "list", "watch"]),
            rule("", &["nodes/status"], &["patch", "update"]),
            rule("", &["nodes"], &["patch", "update"]),
            rule("", &["events"], &["create", "patch", "update"]),
            rule("", &["pods"], READ),
            rule("", &["pods"], &["create", "delete"]),
            rule("", &["pods/status"], &["patch", "update"]),
            rule("", &["pods/eviction"], &["create"]),
            rule("", &["configmaps", "secrets"], READ),
            rule("", &["persistentvolumeclaims", "persistentvolumes"], &["get"]),
            rule("", &["endpoints"], &["get"]),
            rule(
                "certificates.k8s.io",
                &["certificatesigningrequests"],
                &["create", "get", "list", "watch"],
            ),
            rule(
                "coordination.k8s.io",
                &["leases"],
                &["create", "delete", "get", "patch", "update"],
            ),
            rule("storage.k8s.io", &["volumeattachments"], &["get"]),
            rule("", &["serviceaccounts/token"], &["create"]),
            rule("", &["persistentvolumeclaims/status"], &["get", "patch", "update"]),
            rule("storage.k8s.io", &["csidrivers"], READ),
            rule("storage.k8s.io", &["csinodes"], &["create", "delete", "get", "patch", "update"]),
        ],
    )
}

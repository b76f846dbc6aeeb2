//! The table of built-in kinds.
//!
//! Owns: names, verbs and subresources, in the order of discovery. Called by: the registry.

use std::sync::Arc;

use super::{
    Resource, Strategy, Subresource, api_version, apps, batch, certificates, core, crd, others,
    pods, policy, schema, services, storage, webhooks,
};

const ALL: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Namespaces are not deleted all at once.
const SINGLE: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const STATUS: Subresource =
    Subresource { name: "status", verbs: &["get", "patch", "update"], kind: None };
const SCALE: Subresource = Subresource {
    name: "scale",
    verbs: &["get", "patch", "update"],
    kind: Some(("autoscaling", "v1", "Scale")),
};
const APPROVAL: Subresource =
    Subresource { name: "approval", verbs: &["get", "patch", "update"], kind: None };
const EPHEMERAL: Subresource =
    Subresource { name: "ephemeralcontainers", verbs: &["get", "patch", "update"], kind: None };
const FINALIZE: Subresource = Subresource { name: "finalize", verbs: &["update"], kind: None };

/// A subresource that is another protocol's connection to the pod's node.
fn stream(name: &'static str, options: &'static str) -> Subresource {
    Subresource { name, verbs: &["create", "get"], kind: Some(("", "v1", options)) }
}

struct Row {
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    all: bool,
    namespaced: bool,
    verbs: &'static [&'static str],
    subresources: Vec<Subresource>,
    strategy: &'static Strategy,
}

fn row(
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    strategy: &'static Strategy,
) -> Row {
    Row {
        kind,
        plural,
        short,
        all: false,
        namespaced,
        verbs: ALL,
        subresources: Vec::new(),
        strategy,
    }
}

impl Row {
    fn sub(mut self, s: Subresource) -> Self {
        self.subresources.push(s);
        self
    }
    fn in_all(mut self) -> Self {
        self.all = true;
        self
    }
    fn one_by_one(mut self) -> Self {
        self.verbs = SINGLE;
        self
    }
    fn create_only(mut self) -> Self {
        self.verbs = CREATE;
        self
    }
}

fn core_rows() -> Vec<Row> {
    let binding = Subresource { name: "binding", verbs: CREATE, kind: Some(("", "v1", "Binding")) };
    let eviction =
        Subresource { name: "eviction", verbs: CREATE, kind: Some(("policy", "v1", "Eviction")) };
    let token = Subresource {
        name: "token",
        verbs: CREATE,
        kind: Some(("authentication.k8s.io", "v1", "TokenRequest")),
    };
    vec![
        row("Binding", "bindings", &[], true, &others::PLAIN).create_only(),
        row("ConfigMap", "configmaps", &["cm"], true, &core::CONFIG_MAP),
        row("Endpoints", "endpoints", &["ep"], true, &core::ENDPOINTS),
        row("Event", "events", &["ev"], true, &core::EVENT),
        row("Namespace", "namespaces", &["ns"], false, &core::NAMESPACE)
            .one_by_one()
            .sub(FINALIZE)
            .sub(STATUS),
        row("Node", "nodes", &["no"], false, &core::NODE).sub(STATUS),
        row("PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], true, &others::CLAIM)
            .sub(STATUS),
        row("PersistentVolume", "persistentvolumes", &["pv"], false, &others::VOLUME).sub(STATUS),
        row("Pod", "pods", &["po"], true, &pods::POD)
            .in_all()
            .sub(stream("attach", "PodAttachOptions"))
            .sub(binding)
            .sub(EPHEMERAL)
            .sub(eviction)
            .sub(stream("exec", "PodExecOptions"))
            .sub(Subresource { name: "log", verbs: &["get"], kind: None })
            .sub(stream("portforward", "PodPortForwardOptions"))
            .sub(STATUS),
        row("Secret", "secrets", &[], true, &core::SECRET),
        row("ServiceAccount", "serviceaccounts", &["sa"], true, &core::SERVICE_ACCOUNT).sub(token),
        row("Service", "services", &["svc"], true, &services::SERVICE).in_all().sub(STATUS),
    ]
}

type Group = (&'static str, &'static str, Vec<Row>);

/// In the order in which Kubernetes offers them: where a name is short for two kinds, the first wins.
fn groups() -> Vec<Group> {
    vec![
        ("", "io.k8s.api.core.v1", core_rows()),
        (
            "apps",
            "io.k8s.api.apps.v1",
            vec![
                row(
                    "ControllerRevision",
                    "controllerrevisions",
                    &[],
                    true,
                    &others::CONTROLLER_REVISION,
                ),
                row("DaemonSet", "daemonsets", &["ds"], true, &apps::DAEMON_SET)
                    .in_all()
                    .sub(STATUS),
                row("Deployment", "deployments", &["deploy"], true, &apps::DEPLOYMENT)
                    .in_all()
                    .sub(SCALE)
                    .sub(STATUS),
                row("ReplicaSet", "replicasets", &["rs"], true, &apps::REPLICA_SET)
                    .in_all()
                    .sub(SCALE)
                    .sub(STATUS),
                row("StatefulSet", "statefulsets", &["sts"], true, &apps::STATEFUL_SET)
                    .in_all()
                    .sub(SCALE)
                    .sub(STATUS),
            ],
        ),
        (
            "authentication.k8s.io",
            "io.k8s.api.authentication.v1",
            vec![
                row("SelfSubjectReview", "selfsubjectreviews", &[], false, &others::PLAIN)
                    .create_only(),
                row("TokenReview", "tokenreviews", &[], false, &others::PLAIN).create_only(),
            ],
        ),
        (
            "authorization.k8s.io",
            "io.k8s.api.authorization.v1",
            vec![
                row(
                    "LocalSubjectAccessReview",
                    "localsubjectaccessreviews",
                    &[],
                    true,
                    &others::PLAIN,
                )
                .create_only(),
                row(
                    "SelfSubjectAccessReview",
                    "selfsubjectaccessreviews",
                    &[],
                    false,
                    &others::PLAIN,
                )
                .create_only(),
                row(
                    "SelfSubjectRulesReview",
                    "selfsubjectrulesreviews",
                    &[],
                    false,
                    &others::PLAIN,
                )
                .create_only(),
                row("SubjectAccessReview", "subjectaccessreviews", &[], false, &others::PLAIN)
                    .create_only(),
            ],
        ),
        (
            "batch",
            "io.k8s.api.batch.v1",
            vec![
                row("CronJob", "cronjobs", &["cj"], true, &batch::CRON_JOB).in_all().sub(STATUS),
                row("Job", "jobs", &[], true, &batch::JOB).in_all().sub(STATUS),
            ],
        ),
        (
            "certificates.k8s.io",
            "io.k8s.api.certificates.v1",
            vec![
                row(
                    "CertificateSigningRequest",
                    "certificatesigningrequests",
                    &["csr"],
                    false,
                    &certificates::CSR,
                )
                .sub(APPROVAL)
                .sub(STATUS),
            ],
        ),
        (
            "policy",
            "io.k8s.api.policy.v1",
            vec![
                row("PodDisruptionBudget", "poddisruptionbudgets", &["pdb"], true, &policy::BUDGET)
                    .sub(STATUS),
            ],
        ),
        (
            "rbac.authorization.k8s.io",
            "io.k8s.api.rbac.v1",
            vec![
                row("ClusterRoleBinding", "clusterrolebindings", &[], false, &others::ROLE_BINDING),
                row("ClusterRole", "clusterroles", &[], false, &others::ROLE),
                row("RoleBinding", "rolebindings", &[], true, &others::ROLE_BINDING),
                row("Role", "roles", &[], true, &others::ROLE),
            ],
        ),
        (
            "storage.k8s.io",
            "io.k8s.api.storage.v1",
            vec![
                row("CSIDriver", "csidrivers", &[], false, &storage::CSI_DRIVER),
                row("CSINode", "csinodes", &[], false, &storage::CSI_NODE),
                row("StorageClass", "storageclasses", &["sc"], false, &storage::STORAGE_CLASS),
                row(
                    "VolumeAttachment",
                    "volumeattachments",
                    &[],
                    false,
                    &storage::VOLUME_ATTACHMENT,
                )
                .sub(STATUS),
            ],
        ),
        (
            "admissionregistration.k8s.io",
            "io.k8s.api.admissionregistration.v1",
            vec![
                row(
                    "MutatingWebhookConfiguration",
                    "mutatingwebhookconfigurations",
                    &[],
                    false,
                    &webhooks::MUTATING,
                ),
                row(
                    "ValidatingWebhookConfiguration",
                    "validatingwebhookconfigurations",
                    &[],
                    false,
                    &webhooks::VALIDATING,
                ),
            ],
        ),
        (
            "apiextensions.k8s.io",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
            vec![
                row(
                    "CustomResourceDefinition",
                    "customresourcedefinitions",
                    &["crd", "crds"],
                    false,
                    &crd::DEFINITION,
                )
                .sub(STATUS),
            ],
        ),
        (
            "coordination.k8s.io",
            "io.k8s.api.coordination.v1",
            vec![row("Lease", "leases", &[], true, &others::LEASE)],
        ),
        (
            "discovery.k8s.io",
            "io.k8s.api.discovery.v1",
            vec![row("EndpointSlice", "endpointslices", &[], true, &others::ENDPOINT_SLICE)],
        ),
    ]
}

pub(super) fn builtin() -> Vec<Arc<Resource>> {
    let schemas = schema::schemas();
    let mut out = Vec::new();
    for (group, package, rows) in groups() {
        for r in rows {
            let mut categories = Vec::new();
            if r.all {
                categories.push("all".to_owned());
            }
            if matches!(group, "admissionregistration.k8s.io" | "apiextensions.k8s.io") {
                categories.push("api-extensions".to_owned());
            }
            let ty = schemas.find(&format!("{package}.{}", r.kind));
            let head = format!(
                "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",",
                r.kind,
                api_version(group, "v1")
            );
            out.push(Arc::new(Resource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                kind: r.kind.to_owned(),
                list_kind: format!("{}List", r.kind),
                plural: r.plural.to_owned(),
                singular: r.kind.to_lowercase(),
                short_names: r.short.iter().map(|s| (*s).to_owned()).collect(),
                categories,
                namespaced: r.namespaced,
                verbs: r.verbs,
                subresources: r.subresources,
                table: format!("{}/{}", if group.is_empty() { "core" } else { group }, r.plural)
                    .into(),
                schema: ty,
                root: ty.map(schema::Shape::Ref),
                strategy: r.strategy,
                custom: None,
                head: head.into(),
            }));
        }
    }
    out
}

/// Kinds that subresources take as a body and that have no path of their own.
pub(super) fn bodies() -> Vec<Arc<Resource>> {
    let kinds = [
        ("autoscaling", "Scale"),
        ("", "Binding"),
        ("policy", "Eviction"),
        ("authentication.k8s.io", "TokenRequest"),
    ];
    let one = |(group, kind): (&str, &str)| {
        let package = match group {
            "" => "core",
            g => g.split('.').next().unwrap_or_default(),
        };
        let ty = schema::schemas().find(&format!("io.k8s.api.{package}.v1.{kind}"));
        Arc::new(Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            plural: format!("{}s", kind.to_lowercase()),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: CREATE,
            subresources: Vec::new(),
            table: "".into(),
            schema: ty,
            root: ty.map(schema::Shape::Ref),
            strategy: if kind == "Scale" { &others::SCALE } else { &others::PLAIN },
            custom: None,
            head: bytes::Bytes::new(),
        })
    };
    kinds.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_built_in_kind_has_a_type() {
        for r in super::builtin().into_iter().chain(super::bodies()) {
            assert!(r.schema.is_some(), "{}", r.kind);
        }
    }
}

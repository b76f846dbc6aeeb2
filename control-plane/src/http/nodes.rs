//! What a node may do: its own things, and what its pods refer to.
//!
//! Owns: who is a node, and which objects the pods of a node refer to, kept up to date from the
//! store's history. Called by: `rbac`, before the roles; `restriction`, for who is a node.
//! Never: looks at what is written; that is in `restriction`.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/node/>

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::auth::User;
use super::rbac::{Attributes, Verdict};
use crate::plane::Plane;
use crate::registry::meta;
use crate::registry::meta::text;
use crate::store::watch::Watcher;
use crate::store::{Key, Stored};

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
/// Where the leases of nodes are.
pub(crate) const LEASES: &str = "kube-node-lease";

/// The node that a user is: none if it is none, empty if its name says no node.
pub(crate) fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX)?;
    user.groups.iter().any(|g| g == GROUP).then_some(name)
}

/// What a pod refers to, in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    Secret(String),
    ConfigMap(String),
    Claim(String),
    Account(String),
}

/// Everything that a pod refers to.
pub(crate) fn references(pod: &Value) -> BTreeSet<Reference> {
    let mut out = BTreeSet::new();
    let mut add = |make: fn(String) -> Reference, v: &Value| {
        if let Some(n) = v.as_str().filter(|n| !n.is_empty()) {
            out.insert(make(n.to_owned()));
        }
    };
    let spec = &pod["spec"];
    let each = |v: &'_ Value| v.as_array().cloned().unwrap_or_default();
    add(Reference::Account, &spec["serviceAccountName"]);
    for s in each(&spec["imagePullSecrets"]) {
        add(Reference::Secret, &s["name"]);
    }
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for c in each(&spec[field]) {
            for e in each(&c["env"]) {
                add(Reference::Secret, &e["valueFrom"]["secretKeyRef"]["name"]);
                add(Reference::ConfigMap, &e["valueFrom"]["configMapKeyRef"]["name"]);
            }
            for e in each(&c["envFrom"]) {
                add(Reference::Secret, &e["secretRef"]["name"]);
                add(Reference::ConfigMap, &e["configMapRef"]["name"]);
            }
        }
    }
    for v in each(&spec["volumes"]) {
        add(Reference::Secret, &v["secret"]["secretName"]);
        add(Reference::ConfigMap, &v["configMap"]["name"]);
        add(Reference::Claim, &v["persistentVolumeClaim"]["claimName"]);
        add(Reference::Secret, &v["azureFile"]["secretName"]);
        add(Reference::Secret, &v["csi"]["nodePublishSecretRef"]["name"]);
        for kind in ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
            add(Reference::Secret, &v[kind]["secretRef"]["name"]);
        }
        if v["ephemeral"].is_object() {
            let claim = format!("{}-{}", meta::name(pod), text(&v, "/name"));
            add(Reference::Claim, &claim.into());
        }
        for s in each(&v["projected"]["sources"]) {
            add(Reference::Secret, &s["secret"]["name"]);
            add(Reference::ConfigMap, &s["configMap"]["name"]);
        }
    }
    out
}

/// A pod on a node.
#[derive(Debug)]
struct OnNode {
    namespace: String,
    name: String,
    references: BTreeSet<Reference>,
}

/// The pods of each node, and what they refer to. Filled when a node first asks.
#[derive(Default)]
pub(crate) struct Graph {
    inner: Mutex<Option<Index>>,
}

struct Index {
    watcher: Watcher,
    node_of_pod: HashMap<Box<str>, String>,
    by_node: HashMap<String, HashMap<Box<str>, OnNode>>,
}

const PODS: &str = "core/pods";

impl Index {
    fn new(plane: &Plane) -> Self {
        let all = plane.store.list(PODS, "", None);
        let watcher = plane.store.watch(&PODS.into(), "", all.revision);
        let mut out = Self { watcher, node_of_pod: HashMap::new(), by_node: HashMap::new() };
        for (key, pod) in &all.objects {
            out.put(key, pod);
        }
        out
    }

    fn put(&mut self, key: &str, pod: &Stored) {
        self.remove(key);
        let pod = pod.value();
        let node = text(&pod, "/spec/nodeName").to_owned();
        if node.is_empty() {
            return;
        }
        // A mirror pod is the node's own word: it opens nothing.
        let mirror = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
        let on_node = OnNode {
            namespace: meta::namespace(&pod).to_owned(),
            name: meta::name(&pod).to_owned(),
            references: if mirror { BTreeSet::new() } else { references(&pod) },
        };
        self.node_of_pod.insert(key.into(), node.clone());
        self.by_node.entry(node).or_default().insert(key.into(), on_node);
    }

    fn remove(&mut self, key: &str) {
        if let Some(node) = self.node_of_pod.remove(key)
            && let Some(pods) = self.by_node.get_mut(&node)
        {
            pods.remove(key);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }
}

impl Graph {
    /// Whether one of the node's pods fits.
    fn any(&self, plane: &Plane, node: &str, fits: impl FnMut(&OnNode) -> bool) -> bool {
        let mut inner = self.inner.lock();
        let index = inner.get_or_insert_with(|| Index::new(plane));
        loop {
            match index.watcher.poll() {
                Ok(batch) if batch.events.is_empty() => break,
                Ok(batch) => {
                    for e in &batch.events {
                        if e.deleted {
                            index.remove(&e.name)
                        } else {
                            index.put(&e.name, &e.object)
                        }
                    }
                }
                Err(_) => *index = Index::new(plane),
            }
        }
        index.by_node.get(node).is_some_and(|pods| pods.values().any(fits))
    }

    fn refers(&self, plane: &Plane, node: &str, namespace: &str, to: &Reference) -> bool {
        self.any(plane, node, |p| p.namespace == namespace && p.references.contains(to))
    }

    /// Whether a volume of the node's pods has the secret.
    fn volume_secret(&self, plane: &Plane, node: &str, namespace: &str, secret: &str) -> bool {
        let mut claims = Vec::new();
        self.any(plane, node, |p| {
            let of_pod = p.references.iter().filter_map(|r| match r {
                Reference::Claim(c) => Some((p.namespace.clone(), c.clone())),
                _ => None,
            });
            claims.extend(of_pod);
            false
        });
        claims.iter().any(|(ns, claim)| {
            volume_of(plane, ns, claim)
                .is_some_and(|v| volume_secrets(&v, ns).any(|(n, s)| n == namespace && s == secret))
        })
    }
}

fn object(plane: &Plane, table: &str, namespace: &str, name: &str) -> Option<Arc<Stored>> {
    plane.store.get(&Key::new(&table.into(), namespace, name))
}

/// The volume that a claim is bound to, if the volume says so, too.
fn volume_of(plane: &Plane, namespace: &str, claim: &str) -> Option<Value> {
    let claim_object = object(plane, "core/persistentvolumeclaims", namespace, claim)?.value();
    let volume =
        object(plane, "core/persistentvolumes", "", text(&claim_object, "/spec/volumeName"))?
            .value();
    let back = (text(&volume, "/spec/claimRef/namespace"), text(&volume, "/spec/claimRef/name"));
    (back == (namespace, claim)).then_some(volume)
}

fn volume_secrets<'a>(
    volume: &'a Value,
    claim_namespace: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    const AT: [&str; 10] = [
        "/spec/csi/nodePublishSecretRef",
        "/spec/csi/nodeStageSecretRef",
        "/spec/csi/nodeExpandSecretRef",
        "/spec/csi/controllerPublishSecretRef",
        "/spec/csi/controllerExpandSecretRef",
        "/spec/cephfs/secretRef",
        "/spec/flexVolume/secretRef",
        "/spec/iscsi/secretRef",
        "/spec/rbd/secretRef",
        "/spec/scaleIO/secretRef",
    ];
    AT.iter().filter_map(move |at| {
        let r = volume.pointer(at)?;
        let ns = text(r, "/namespace");
        Some((if ns.is_empty() { claim_namespace } else { ns }, text(r, "/name")))
    })
}

fn allow() -> Verdict {
    Verdict { allowed: true, reason: String::new() }
}

fn refuse(why: impl Into<String>) -> Verdict {
    Verdict { allowed: false, reason: why.into() }
}

/// Whether a node may do it; no opinion on whoever is none.
pub(crate) fn decide(plane: &Plane, graph: &Graph, user: &User, a: &Attributes<'_>) -> Verdict {
    let Some(node) = node_of(user) else { return Verdict::default() };
    if node.is_empty() {
        return refuse(format!("unknown node for user \"{}\"", user.name));
    }
    if !a.path.is_empty() {
        return Verdict::default();
    }
    let asks = Asks { plane, graph, node, a };
    match (a.group, a.resource) {
        ("", "secrets") => asks.read(|| {
            graph.refers(plane, node, a.namespace, &Reference::Secret(a.name.into()))
                || graph.volume_secret(plane, node, a.namespace, a.name)
        }),
        ("", "configmaps") => asks
            .read(|| graph.refers(plane, node, a.namespace, &Reference::ConfigMap(a.name.into()))),
        ("", "persistentvolumeclaims") => asks.claim(),
        ("", "persistentvolumes") => asks.get(|| asks.volume()),
        ("", "serviceaccounts") => asks.token(),
        ("", "nodes") => asks.own_node(),
        ("", "pods") => asks.pods(),
        ("storage.k8s.io", "volumeattachments") => asks.get(|| {
            object(plane, "storage.k8s.io/volumeattachments", "", a.name)
                .is_some_and(|v| text(&v.value(), "/spec/nodeName") == node)
        }),
        ("storage.k8s.io", "csinodes") => {
            asks.own("CSINode", &["get", "create", "update", "patch", "delete"])
        }
        ("coordination.k8s.io", "leases") if a.namespace != LEASES => {
            refuse(format!("can only access leases in the \"{LEASES}\" system namespace"))
        }
        ("coordination.k8s.io", "leases") => {
            asks.own("node lease", &["get", "create", "update", "patch", "delete"])
        }
        _ if always(a) => allow(),
        _ => Verdict::default(),
    }
}

/// What every node may do, whatever its pods.
fn always(a: &Attributes<'_>) -> bool {
    let watching = matches!(a.verb, "get" | "list" | "watch");
    match (a.group, a.resource, a.subresource) {
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            a.verb == "create"
        }
        ("", "services", "") | ("storage.k8s.io", "csidrivers", "") => watching,
        ("", "endpoints", "") => a.verb == "get",
        ("", "events", "") => matches!(a.verb, "create" | "update" | "patch"),
        ("certificates.k8s.io", "certificatesigningrequests", "") => a.verb == "create" || watching,
        _ => false,
    }
}

/// One question of one node.
struct Asks<'a> {
    plane: &'a Plane,
    graph: &'a Graph,
    node: &'a str,
    a: &'a Attributes<'a>,
}

impl Asks<'_> {
    fn related(&self, is: bool) -> Verdict {
        if is {
            allow()
        } else {
            refuse(format!("no relationship found between node '{}' and this object", self.node))
        }
    }

    /// Reading one object of a namespace, also by a list or watch of its name.
    fn read(&self, related: impl FnOnce() -> bool) -> Verdict {
        let a = self.a;
        if !matches!(a.verb, "get" | "list" | "watch") {
            return refuse("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        if a.name.is_empty() {
            return refuse("No Object name found");
        }
        self.related(related())
    }

    fn get(&self, related: impl FnOnce() -> bool) -> Verdict {
        if self.a.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !self.a.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        if self.a.name.is_empty() {
            return refuse("No Object name found");
        }
        self.related(related())
    }

    fn claim(&self) -> Verdict {
        let a = self.a;
        let mounted = || {
            self.graph.refers(self.plane, self.node, a.namespace, &Reference::Claim(a.name.into()))
        };
        if a.subresource != "status" {
            return self.get(mounted);
        }
        if !matches!(a.verb, "update" | "patch") {
            return refuse("can only get/update/patch this type");
        }
        self.related(mounted())
    }

    /// Whether the volume belongs to a claim of one of the node's pods.
    fn volume(&self) -> bool {
        let Some(v) = object(self.plane, "core/persistentvolumes", "", self.a.name) else {
            return false;
        };
        let v = v.value();
        let claim = Reference::Claim(text(&v, "/spec/claimRef/name").to_owned());
        self.graph.refers(self.plane, self.node, text(&v, "/spec/claimRef/namespace"), &claim)
    }

    fn token(&self) -> Verdict {
        let a = self.a;
        if a.verb != "create" || a.subresource != "token" {
            return refuse("can only create tokens for individual service accounts");
        }
        if a.name.is_empty() {
            return refuse("No Object name found");
        }
        let account = Reference::Account(a.name.into());
        self.related(self.graph.refers(self.plane, self.node, a.namespace, &account))
    }

    /// An object that is named after its node.
    fn own(&self, what: &str, verbs: &[&str]) -> Verdict {
        let a = self.a;
        if !verbs.contains(&a.verb) {
            return refuse(format!("can only get, create, update, patch, or delete a {what}"));
        }
        if !a.subresource.is_empty() {
            return refuse(format!("cannot authorize {what} subresources"));
        }
        // A new object has no name yet; `restriction` looks at it.
        if a.verb != "create" && a.name != self.node {
            return refuse(format!(
                "can only access {what} with the same name as the requesting node"
            ));
        }
        allow()
    }

    fn own_node(&self) -> Verdict {
        let a = self.a;
        match (a.subresource, a.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
            ("", "get" | "list" | "watch") if a.name == self.node => allow(),
            ("", "get" | "list" | "watch") if a.name.is_empty() => refuse(format!(
                "node '{}' cannot read all nodes, only its own Node object",
                self.node
            )),
            ("", "get" | "list" | "watch") => refuse(format!(
                "node '{}' cannot read '{}', only its own Node object",
                self.node, a.name
            )),
            _ => Verdict::default(),
        }
    }

    fn pods(&self) -> Verdict {
        let a = self.a;
        let runs_here = || {
            self.graph
                .any(self.plane, self.node, |p| p.namespace == a.namespace && p.name == a.name)
        };
        match (a.subresource, a.verb) {
            ("", "get") => self.get(runs_here),
            ("", "list" | "watch") if a.node == self.node => allow(),
            ("", "list" | "watch") if !a.name.is_empty() => self.read(runs_here),
            ("", "list" | "watch") => {
                refuse("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                allow()
            }
            _ => Verdict::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_who_has_the_name_and_the_group() {
        let user = |name: &str, groups: &[&str]| User {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..User::default()
        };
        assert_eq!(node_of(&user("system:node:a", &["system:nodes"])), Some("a"));
        assert_eq!(node_of(&user("system:node:", &["system:nodes"])), Some(""));
        assert_eq!(node_of(&user("system:node:a", &["system:masters"])), None);
        assert_eq!(node_of(&user("a", &["system:nodes"])), None);
    }

    #[test]
    fn every_way_to_name_a_secret_or_map_is_seen() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa", "imagePullSecrets": [{"name": "s1"}],
            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s2"}}}, {"valueFrom": {"configMapKeyRef": {"name": "m1"}}}]}],
            "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "s3"}}, {"configMapRef": {"name": "m2"}}]}],
            "volumes": [{"secret": {"secretName": "s4"}}, {"configMap": {"name": "m3"}}, {"persistentVolumeClaim": {"claimName": "c1"}},
                {"name": "v", "ephemeral": {}}, {"csi": {"nodePublishSecretRef": {"name": "s5"}}},
                {"projected": {"sources": [{"secret": {"name": "s6"}}, {"configMap": {"name": "m4"}}]}}]}});
        let (s, m) =
            (|n: &str| Reference::Secret(n.into()), |n: &str| Reference::ConfigMap(n.into()));
        let want: BTreeSet<Reference> = [
            s("s1"),
            s("s2"),
            s("s3"),
            s("s4"),
            s("s5"),
            s("s6"),
            m("m1"),
            m("m2"),
            m("m3"),
            m("m4"),
            Reference::Claim("c1".into()),
            Reference::Claim("p-v".into()),
            Reference::Account("sa".into()),
        ]
        .into();
        assert_eq!(references(&pod), want);
    }
}

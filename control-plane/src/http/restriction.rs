//! What a node may write: itself, its lease, its CSINode, and what is said of its pods.
//!
//! Owns: the rules that look at the object of a node's request; whether it may ask at all is
//! decided in `nodes`. Called by: create, update, delete, eviction and token.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

use std::collections::BTreeSet;

use serde_json::Value;

use super::auth::User;
use super::get;
use super::nodes::{self, Reference, node_of};
use super::status::Status;
use crate::plane::Plane;
use crate::registry::meta::{self, text};
use crate::registry::{Part, Resource};

/// What a request does to an object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write<'a> {
    /// There was none.
    Create(&'a Value),
    /// The new state, and the old one.
    Update(&'a Value, &'a Value, Part),
    /// As it last was.
    Delete(&'a Value),
    /// A pod that is to be evicted.
    Evict(&'a Value),
    /// A token request for an account.
    Token(&'a Value),
}

/// Refuses what a node may not write; whoever is no node passes.
///
/// # Errors
/// `Forbidden`, in Kubernetes' words.
pub(crate) fn check(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    (namespace, name): (&str, &str),
    write: Write<'_>,
) -> Result<(), Status> {
    let Some(node) = node_of(user) else { return Ok(()) };
    let result = if node.is_empty() {
        Err(format!("could not determine node from user \"{}\"", user.name))
    } else {
        match (resource.table.as_ref(), write) {
            ("core/pods", Write::Create(pod)) => {
                // Who the node is, is looked up: the uid of a deleted node does not count.
                let nodes = plane.registry.builtin("", "nodes");
                let uid = match get::find(plane, &nodes, "", node) {
                    Ok(found) => meta::uid(&found.value()).to_owned(),
                    Err(e) => return Err(e),
                };
                new_pod(node, &uid, pod)
            }
            ("core/pods", Write::Update(new, old, part)) => changed_pod(node, new, old, part),
            ("core/pods", Write::Delete(old)) => runs_on(old, node, "delete pods"),
            ("core/pods", Write::Evict(old)) => runs_on(old, node, "evict pods"),
            ("core/nodes", write) => own_node(node, name, write),
            ("core/persistentvolumeclaims", Write::Update(new, old, part)) => {
                claim_status(new, old, part)
            }
            ("core/persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
            ("core/serviceaccounts", Write::Token(request)) => {
                return token(plane, node, resource, (namespace, name), request);
            }
            ("coordination.k8s.io/leases", _) if namespace != nodes::LEASES => {
                Err(format!("can only access leases in the \"{}\" system namespace", nodes::LEASES))
            }
            ("coordination.k8s.io/leases", _) if name != node => {
                Err("can only access node lease with the same name as the requesting node"
                    .to_owned())
            }
            ("storage.k8s.io/csinodes", _) if name != node => {
                Err("can only access CSINode with the same name as the requesting node".to_owned())
            }
            ("certificates.k8s.io/certificatesigningrequests", Write::Create(csr)) => {
                own_serving_certificate(user, csr)
            }
            _ => Ok(()),
        }
    };
    result.map_err(|why| Status::forbidden(resource.group_resource(), name, &why))
}

fn runs_on(pod: &Value, node: &str, what: &str) -> Result<(), String> {
    if text(pod, "/spec/nodeName") == node {
        return Ok(());
    }
    Err(format!("node \"{node}\" can only {what} with spec.nodeName set to itself"))
}

/// A node creates mirror pods only: they say what it runs by itself, and open nothing to it.
fn new_pod(node: &str, uid: &str, pod: &Value) -> Result<(), String> {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        return Err(format!(
            "pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"
        ));
    }
    runs_on(pod, node, "create pods")?;
    let owners = pod["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let [owner] = owners else {
        return Err(if owners.is_empty() {
            format!("node \"{node}\" can only create pods with an owner reference set to itself")
        } else {
            format!(
                "node \"{node}\" can only create pods with a single owner reference set to itself"
            )
        });
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Err(format!(
            "node \"{node}\" can only create pods with an owner reference set to itself"
        ));
    }
    if owner["controller"] != true {
        return Err(format!(
            "node \"{node}\" can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!(
            "node \"{node}\" must not set blockOwnerDeletion on an owner reference"
        ));
    }
    if owner["uid"] != uid {
        let given = text(owner, "/uid");
        return Err(format!("node {node} UID mismatch: expected {uid} got {given}"));
    }
    let named = nodes::references(pod);
    let refers = |to: &str, is: fn(&Reference) -> bool| {
        if named.iter().any(is) {
            return Err(format!("node \"{node}\" can not create pods that reference {to}"));
        }
        Ok(())
    };
    refers("a service account", |r| matches!(r, Reference::Account(_)))?;
    refers("secrets", |r| matches!(r, Reference::Secret(_)))?;
    refers("configmaps", |r| matches!(r, Reference::ConfigMap(_)))?;
    refers("persistentvolumeclaims", |r| matches!(r, Reference::Claim(_)))
}

fn changed_pod(node: &str, new: &Value, old: &Value, part: Part) -> Result<(), String> {
    if part != Part::Status {
        return Err("unexpected operation \"UPDATE\"".to_owned());
    }
    runs_on(old, node, "update pod status for pods")?;
    if new["metadata"]["labels"] != old["metadata"]["labels"] {
        return Err(format!("node \"{node}\" cannot update labels through pod status"));
    }
    Ok(())
}

fn claim_status(new: &Value, old: &Value, part: Part) -> Result<(), String> {
    if part != Part::Status {
        return Err("may only update PVC status".to_owned());
    }
    let plain = |v: &Value| {
        let mut v = v.clone();
        for f in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            v["status"].as_object_mut().map(|s| s.remove(f));
        }
        for f in ["managedFields", "resourceVersion"] {
            meta::metadata(&mut v).remove(f);
        }
        v
    };
    if plain(new) == plain(old) {
        return Ok(());
    }
    Err("is not allowed to update fields other than status.capacity, status.conditions and status.allocatedResources".to_owned())
}

fn own_node(node: &str, name: &str, write: Write<'_>) -> Result<(), String> {
    if name != node {
        return Err(format!("node \"{node}\" is not allowed to modify node \"{name}\""));
    }
    let (new, old) = match write {
        Write::Create(new) => (new, None),
        Write::Update(new, old, _) => (new, Some(old)),
        _ => return Ok(()),
    };
    let source = |v: &Value| v["spec"]["configSource"].clone();
    if !source(new).is_null() && old.is_none_or(|o| source(o) != source(new)) {
        return Err(format!(
            "node \"{node}\" is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    let changed = changed_labels(&new["metadata"]["labels"], old.map(|o| &o["metadata"]["labels"]));
    let bad: Vec<&str> = changed.into_iter().filter(|l| is_kept_from_nodes(l)).collect();
    if !bad.is_empty() {
        let verb = if old.is_some() { "modify labels" } else { "set the following labels" };
        return Err(format!("is not allowed to {verb}: {}", bad.join(", ")));
    }
    let Some(old) = old else { return Ok(()) };
    if new["spec"]["taints"] != old["spec"]["taints"] {
        return Err(format!("node \"{node}\" is not allowed to modify taints"));
    }
    if new["metadata"]["ownerReferences"] != old["metadata"]["ownerReferences"] {
        return Err(format!("node \"{node}\" is not allowed to modify ownerReferences"));
    }
    Ok(())
}

/// The keys of labels that differ.
fn changed_labels<'a>(new: &'a Value, old: Option<&'a Value>) -> BTreeSet<&'a str> {
    let (new, old) = (new.as_object(), old.and_then(Value::as_object));
    let value = |labels: Option<&'a serde_json::Map<String, Value>>, k: &str| labels?.get(k);
    let keys = new.into_iter().chain(old).flat_map(|labels| labels.keys());
    keys.filter(|k| value(new, k) != value(old, k)).map(String::as_str).collect()
}

/// Labels of Kubernetes' own domains that a node may not give itself, for workloads rely on them.
fn is_kept_from_nodes(label: &str) -> bool {
    const OWN: [&str; 12] = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "node.kubernetes.io/windows-build",
    ];
    let Some((domain, _)) = label.split_once('/') else { return false };
    let within =
        |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    (within("kubernetes.io") || within("k8s.io"))
        && !OWN.contains(&label)
        && !within("kubelet.kubernetes.io")
        && !within("node.kubernetes.io")
}

fn token(
    plane: &Plane,
    node: &str,
    accounts: &Resource,
    (namespace, account): (&str, &str),
    request: &Value,
) -> Result<(), Status> {
    let forbidden = |why: &str| Status::forbidden(accounts.group_resource(), account, why);
    let bound = &request["spec"]["boundObjectRef"];
    if text(bound, "/kind") != "Pod" || text(bound, "/apiVersion") != "v1" {
        return Err(forbidden("node requested token not bound to a pod"));
    }
    let uid = text(bound, "/uid");
    if uid.is_empty() {
        return Err(forbidden("node requested token with a pod binding without a uid"));
    }
    let pods = plane.registry.builtin("", "pods");
    let pod = get::find(plane, &pods, namespace, text(bound, "/name"))?.value();
    if meta::uid(&pod) != uid {
        return Err(forbidden(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )));
    }
    if text(&pod, "/spec/nodeName") != node {
        return Err(forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    Ok(())
}

/// A serving certificate is asked for by the node itself, under its own name.
fn own_serving_certificate(user: &User, csr: &Value) -> Result<(), String> {
    if text(csr, "/spec/signerName") != "kubernetes.io/kubelet-serving" {
        return Ok(());
    }
    let subject =
        super::signing::read(csr).map_err(|e| format!("unable to parse csr: {e}"))?.common_name;
    if subject == user.name {
        return Ok(());
    }
    Err(format!("can only create a node CSR with CN={}, found CN={subject}", user.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_may_not_label_itself_into_places_kept_from_it() {
        // The list of https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
        for kept in [
            "node-restriction.kubernetes.io/x",
            "fips.node-restriction.kubernetes.io/x",
            "node-role.kubernetes.io/control-plane",
            "kubernetes.io/whatever",
            "foo.k8s.io/x",
        ] {
            assert!(is_kept_from_nodes(kept), "{kept}");
        }
        for free in [
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
            "node.kubernetes.io/x",
            "foo.kubelet.kubernetes.io/x",
            "example.com/x",
            "plain",
            "notkubernetes.io/x",
        ] {
            assert!(!is_kept_from_nodes(free), "{free}");
        }
    }

    #[test]
    fn a_node_changes_neither_its_taints_nor_other_nodes() {
        let node = json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": "k"}]}});
        let mut bare = node.clone();
        bare["spec"] = json!({});
        assert!(own_node("a", "a", Write::Create(&node)).is_ok());
        assert!(own_node("a", "a", Write::Update(&node, &node, Part::Status)).is_ok());
        assert!(own_node("a", "a", Write::Update(&bare, &node, Part::Main)).is_err());
        assert!(own_node("b", "a", Write::Update(&node, &node, Part::Status)).is_err());
    }

    #[test]
    fn a_node_makes_mirror_pods_of_its_own_only() {
        let mirror = |spec: Value| {
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u", "controller": true}]}, "spec": spec})
        };
        assert_eq!(new_pod("a", "u", &mirror(json!({"nodeName": "a"}))), Ok(()));
        assert!(new_pod("a", "other", &mirror(json!({"nodeName": "a"}))).is_err());
        assert!(new_pod("a", "u", &mirror(json!({"nodeName": "b"}))).is_err());
        assert!(new_pod("a", "u", &json!({"spec": {"nodeName": "a"}})).is_err());
        let curious = json!({"nodeName": "a", "volumes": [{"secret": {"secretName": "s"}}]});
        assert_eq!(
            new_pod("a", "u", &mirror(curious)).unwrap_err(),
            "node \"a\" can not create pods that reference secrets"
        );
    }
}

//! What is filled in or refused in the light of other objects.
//!
//! Owns: the built-in admission: living namespaces, service accounts and their token volume,
//! default tolerations, priority, the default storage class, the guards of claims and volumes, who
//! requested a certificate; and that nodes, roles and certificates stay within their bounds.
//! Called by: create and update, after defaults and before validation.

use serde_json::{Value, json};

use super::auth::User;
use super::restriction::{self, Write};
use super::status::Status;
use super::{escalation, services, signing};
use crate::controllers::protection;
use crate::plane::Plane;
use crate::registry::core::{default, object};
use crate::registry::quantity::Quantity;
use crate::registry::{Part, Resource, meta};
use crate::store::{Held, Key};

/// Checks and completes a new object. Returns what is held until it is written.
///
/// # Errors
/// When the namespace does not live, or an account is missing.
pub(crate) fn on_create(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    namespace: &str,
    new: &mut Value,
    dry_run: bool,
) -> Result<Option<Held>, Status> {
    if resource.namespaced {
        living_namespace(plane, resource, namespace, meta::name(new))?;
    }
    let at = (namespace, meta::name(new));
    restriction::check(plane, user, resource, at, Write::Create(new))?;
    escalation::check(plane, user, resource, namespace, new, None)?;
    protection::guard_new(&resource.table, new);
    match resource.table.as_ref() {
        "core/pods" => {
            service_account(plane, resource, namespace, new)?;
            let name = meta::name(new).to_owned();
            let spec = object(new, "spec");
            tolerations(spec);
            // The two classes that every cluster has.
            let priority = match spec["priorityClassName"].as_str() {
                Some("system-node-critical") => 2_000_001_000,
                Some("system-cluster-critical") => 2_000_000_000,
                None | Some("") => 0,
                Some(other) => {
                    let why = format!("no PriorityClass with name {other} was found");
                    return Err(Status::forbidden(resource.group_resource(), &name, &why));
                }
            };
            if let Some(own) = spec["priority"].as_i64().filter(|p| *p != priority) {
                let why = format!(
                    "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
                );
                return Err(Status::forbidden(resource.group_resource(), &name, &why));
            }
            default(spec, "priority", priority);
            // Both classes may take the place of others.
            let own = spec["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority");
            if own != "PreemptLowerPriority" {
                let why = format!(
                    "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name"
                );
                return Err(Status::forbidden(resource.group_resource(), &name, &why));
            }
            default(spec, "preemptionPolicy", "PreemptLowerPriority");
            runtime_class(spec)
                .map_err(|why| Status::forbidden(resource.group_resource(), &name, &why))?;
        }
        "core/nodes" => not_ready(new),
        "core/persistentvolumeclaims" => default_class(plane, new),
        "core/services" => return services::allocate(plane, namespace, new, None, dry_run),
        "certificates.k8s.io/certificatesigningrequests" => {
            signing::check_new(resource, new)?;
            let who = user.to_value();
            let spec = object(new, "spec");
            for f in ["username", "uid", "groups", "extra"] {
                match who.get(f) {
                    Some(v) => spec[f] = v.clone(),
                    None => {
                        spec.as_object_mut().and_then(|m| m.remove(f));
                    }
                }
            }
        }
        _ => {}
    }
    Ok(None)
}

/// Checks a changed object. Returns what is held until it is written.
///
/// # Errors
/// When a node oversteps, a role grants too much, or a certificate is not the caller's to give.
pub(crate) fn on_update(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    new: &mut Value,
    old: &Value,
    part: Part,
    dry_run: bool,
) -> Result<Option<Held>, Status> {
    let at = (meta::namespace(old), meta::name(old));
    restriction::check(plane, user, resource, at, Write::Update(new, old, part))?;
    escalation::check(plane, user, resource, at.0, new, Some(old))?;
    if resource.table.as_ref() == "certificates.k8s.io/certificatesigningrequests" {
        match part {
            Part::Approval => signing::check_approval(plane, user, resource, old)?,
            Part::Status => signing::check_status(plane, user, resource, new, old)?,
            Part::Main | Part::Ephemeral | Part::Finalize => {}
        }
    }
    if resource.table.as_ref() == "core/pods" && part == Part::Main {
        tolerations(object(new, "spec"));
    }
    if resource.table.as_ref() == "core/services" && part == Part::Main {
        return services::allocate(plane, at.0, new, Some(old), dry_run);
    }
    Ok(None)
}

/// What is refused of a change that makes sense by itself.
pub(crate) fn validate_update(
    plane: &Plane,
    resource: &Resource,
    new: &Value,
    old: &Value,
    part: Part,
) -> Result<(), Status> {
    if resource.table.as_ref() != "core/persistentvolumeclaims" || part != Part::Main {
        return Ok(());
    }
    let refused = |why| Status::forbidden(resource.group_resource(), meta::name(old), why);
    may_grow(plane, new, old).map_err(refused)
}

/// A claim grows once it has a volume, if its class says that its volumes can.
fn may_grow(plane: &Plane, new: &Value, old: &Value) -> Result<(), &'static str> {
    let size = |v: &Value| {
        let text = v["spec"]["resources"]["requests"]["storage"].as_str();
        text.and_then(Quantity::parse).unwrap_or_default()
    };
    if size(new) <= size(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err("Only bound persistent volume claims can be expanded");
    }
    let class = meta::text(new, "/spec/storageClassName");
    let classes = plane.registry.builtin("storage.k8s.io", "storageclasses");
    let found = plane.store.get(&super::get::key(&classes, "", class));
    if found.is_some_and(|c| c.value()["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    Err(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    )
}

/// There are no runtime classes here, so a pod has none and none of their overhead.
fn runtime_class(spec: &Value) -> Result<(), String> {
    if let Some(class) = spec["runtimeClassName"].as_str() {
        return Err(format!("pod rejected: RuntimeClass \"{class}\" not found"));
    }
    if spec["overhead"].is_object() {
        let why = "Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return Err(format!("pod rejected: {why}"));
    }
    Ok(())
}

/// Nothing is put on a new node before it has said that it is ready.
fn not_ready(node: &mut Value) {
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let taints = &mut object(node, "spec")["taints"];
    match taints.as_array_mut() {
        Some(list) => {
            let there = |t: &Value| t["key"] == taint["key"] && t["effect"] == taint["effect"];
            if !list.iter().any(there) {
                list.push(taint);
            }
        }
        None => *taints = json!([taint]),
    }
}

/// New objects need a namespace that is there and stays.
fn living_namespace(
    plane: &Plane,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let namespaces = plane.registry.builtin("", "namespaces");
    let found = super::get::find(plane, &namespaces, "", namespace)?.value();
    if meta::is_terminating(&found) || found["status"]["phase"] == "Terminating" {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut s = Status::forbidden(resource.group_resource(), name, &why);
        if let Some(d) = &mut s.details {
            d["causes"] = json!([{"reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace"}]);
        }
        return Err(s);
    }
    Ok(())
}

const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn service_account(
    plane: &Plane,
    resource: &Resource,
    namespace: &str,
    pod: &mut Value,
) -> Result<(), Status> {
    // A node's own static pods come with this mark and have no account.
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let name = meta::name(pod).to_owned();
    let spec = object(pod, "spec");
    if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        spec["serviceAccountName"] = "default".into();
    }
    let account = spec["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    spec["serviceAccount"] = account.as_str().into();
    let found = plane.store.get(&Key::new(&"core/serviceaccounts".into(), namespace, &account)).ok_or_else(|| {
        let why = format!("error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found");
        Status::forbidden(resource.group_resource(), &name, &why)
    })?;
    let found = found.value();
    if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && let Some(secrets) = found.get("imagePullSecrets")
    {
        spec["imagePullSecrets"] = secrets.clone();
    }
    let wanted = spec["automountServiceAccountToken"]
        .as_bool()
        .or(found["automountServiceAccountToken"].as_bool());
    if wanted.unwrap_or(true) {
        mount_token(spec);
    }
    Ok(())
}

fn mount_token(spec: &mut Value) {
    let volume = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v["name"].as_str())
        .find(|n| n.starts_with("kube-api-access-"))
        .map_or_else(|| format!("kube-api-access-{}", meta::suffix(5)), str::to_owned);
    let mut used = false;
    for field in ["initContainers", "containers"] {
        for c in crate::registry::core::list(spec, field) {
            let mounted = c["volumeMounts"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|m| m["mountPath"] == TOKEN_DIR);
            if mounted {
                continue;
            }
            used = true;
            default(c, "volumeMounts", json!([]));
            if let Some(mounts) = c["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_DIR}));
            }
        }
    }
    let there =
        spec["volumes"].as_array().into_iter().flatten().any(|v| v["name"] == volume.as_str());
    if !used || there {
        return;
    }
    default(spec, "volumes", json!([]));
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

/// Five minutes' grace for pods whose node is in trouble, unless they say otherwise.
fn tolerations(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = |t: &Value| {
            let effect = t["effect"].as_str().unwrap_or_default();
            let named = t["key"].as_str().unwrap_or_default();
            (named == key || (named.is_empty() && t["operator"] == "Exists"))
                && (effect.is_empty() || effect == "NoExecute")
        };
        if spec["tolerations"].as_array().into_iter().flatten().any(tolerates) {
            continue;
        }
        default(spec, "tolerations", json!([]));
        if let Some(list) = spec["tolerations"].as_array_mut() {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

fn default_class(plane: &Plane, claim: &mut Value) {
    if claim["spec"].get("storageClassName").is_some() {
        return;
    }
    let classes = plane.store.list("storage.k8s.io/storageclasses", "", None).objects;
    let is_default = |v: &Value| {
        v.pointer("/metadata/annotations/storageclass.kubernetes.io~1is-default-class")
            .is_some_and(|a| a == "true")
    };
    // The newest one wins, as in Kubernetes.
    let found = classes.iter().map(|(_, c)| c.value()).filter(is_default);
    let newest = found.max_by_key(|c| meta::text(c, "/metadata/creationTimestamp").to_owned());
    if let Some(class) = newest {
        object(claim, "spec")["storageClassName"] = meta::name(&class).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_the_token_volume_once() {
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": TOKEN_DIR}]}]});
        mount_token(&mut spec);
        let name = spec["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("kube-api-access-"));
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], name.as_str());
        let before = spec.clone();
        mount_token(&mut spec);
        assert_eq!(spec, before);
    }

    #[test]
    fn tolerations_are_added_unless_there_are_some() {
        let mut spec = json!({"tolerations": [{"operator": "Exists"}]});
        tolerations(&mut spec);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 1);
        let mut spec = json!({});
        tolerations(&mut spec);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    }
}

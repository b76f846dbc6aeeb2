//! Defaults and validation of the smaller groups: storage, rbac, coordination, discovery.
//!
//! Owns: what Kubernetes fills in and refuses for them. Called by: the registry's table.

use serde_json::{Value, json};

use super::core::{BASE, default, default_text, list, object, split_status};
use super::quantity::Quantity;
use super::{Part, Strategy, checks, columns, endpoints, meta, names, storage_checks};
use crate::http::status::{FieldError, shown_list};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Kinds that are only ever created and answered.
pub(crate) static PLAIN: Strategy = Strategy { ..BASE };

pub(crate) static SCALE: Strategy = Strategy { columns: &columns::SCALE, ..BASE };

pub(crate) static LEASE: Strategy = Strategy {
    // Electing a leader together takes a feature that is off.
    default: |o| {
        if let Some(m) = o["spec"].as_object_mut() {
            m.retain(|k, _| !matches!(k.as_str(), "strategy" | "preferredHolder"));
        }
    },
    validate: |new, _, _, errors| {
        if new["spec"]["leaseDurationSeconds"].as_i64().is_some_and(|n| n <= 0) {
            errors.push(FieldError::invalid(
                "spec.leaseDurationSeconds",
                &new["spec"]["leaseDurationSeconds"],
                "must be greater than 0",
            ));
        }
        let spec = &new["spec"];
        checks::not_negative(spec, "spec", &["leaseTransitions"], errors);
    },
    columns: &columns::LEASE,
    ..BASE
};

pub(crate) static ENDPOINT_SLICE: Strategy = Strategy {
    default: |o| {
        for p in list(o, "ports") {
            default(p, "name", "");
            default(p, "protocol", "TCP");
        }
        for e in list(o, "endpoints") {
            default(e, "conditions", json!({}));
            // Of an older version.
            e.as_object_mut().and_then(|m| m.remove("deprecatedTopology"));
        }
        default(o, "endpoints", Value::Null);
        default(o, "ports", Value::Null);
    },
    validate: |new, old, _, errors| {
        if new["addressType"].as_str().unwrap_or_default().is_empty() {
            errors.push(FieldError::required("addressType", ""));
        } else {
            let known = ["FQDN", "IPv4", "IPv6"];
            checks::one_of(&new["addressType"], "addressType", &known, errors);
        }
        endpoints::slice(new, old, errors);
        if old.is_some_and(|o| o["addressType"] != new["addressType"]) {
            errors.push(FieldError::invalid(
                "addressType",
                &new["addressType"],
                "field is immutable",
            ));
        }
    },
    generation: true,
    columns: &columns::ENDPOINT_SLICE,
    ..BASE
};

pub(crate) static ROLE: Strategy = Strategy {
    name: names::path_segment,
    default: |o| default(o, "rules", Value::Null),
    validate: |new, _, _, errors| {
        if let Some(rule) = new.get("aggregationRule").filter(|r| r.is_object()) {
            let at = "aggregationRule.clusterRoleSelectors";
            let all = rule["clusterRoleSelectors"].as_array().map_or(&[][..], Vec::as_slice);
            if all.is_empty() {
                let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(at, why));
            }
            for (i, selector) in all.iter().enumerate() {
                checks::label_selector(selector, &format!("{at}[{i}]"), errors);
            }
        }
        for (i, r) in new["rules"].as_array().into_iter().flatten().enumerate() {
            let has = |f: &str| r[f].as_array().is_some_and(|a| !a.is_empty());
            if !has("verbs") {
                errors.push(FieldError::required(
                    format!("rules[{i}].verbs"),
                    "verbs must contain at least one value",
                ));
            }
            if has("nonResourceURLs") {
                if !meta::namespace(new).is_empty() {
                    errors.push(FieldError::invalid_shown(
                        format!("rules[{i}].nonResourceURLs"),
                        &shown_list(&r["nonResourceURLs"]),
                        "namespaced rules cannot apply to non-resource URLs",
                    ));
                }
                if has("resources") || has("apiGroups") || has("resourceNames") {
                    errors.push(FieldError::invalid_shown(
                        format!("rules[{i}].nonResourceURLs"),
                        &shown_list(&r["nonResourceURLs"]),
                        "rules cannot apply to both regular resources and non-resource URLs",
                    ));
                }
                continue;
            }
            for f in ["apiGroups", "resources"] {
                if !has(f) {
                    errors.push(FieldError::required(
                        format!("rules[{i}].{f}"),
                        &format!(
                            "resource rules must supply at least one {}",
                            if f == "apiGroups" { "api group" } else { "resource" }
                        ),
                    ));
                }
            }
        }
    },
    columns: &columns::CREATED,
    ..BASE
};

pub(crate) static ROLE_BINDING: Strategy = Strategy {
    name: names::path_segment,
    default: |o| {
        let role = object(o, "roleRef");
        default_text(role, "apiGroup", "rbac.authorization.k8s.io");
        for s in list(o, "subjects") {
            if s["kind"] != "ServiceAccount" {
                default_text(s, "apiGroup", "rbac.authorization.k8s.io");
            }
        }
    },
    validate: |new, old, _, errors| {
        let role = &new["roleRef"];
        let of = |f: &str| role[f].as_str().unwrap_or_default();
        if of("apiGroup") != RBAC {
            let group = json!(of("apiGroup"));
            errors.push(FieldError::unsupported("roleRef.apiGroup", &group, &[RBAC]));
        }
        let known: &[&str] = match meta::namespace(new) {
            "" => &["ClusterRole"],
            _ => &["Role", "ClusterRole"],
        };
        if !known.contains(&of("kind")) {
            errors.push(FieldError::unsupported("roleRef.kind", &json!(of("kind")), known));
        }
        if of("name").is_empty() {
            errors.push(FieldError::required("roleRef.name", ""));
        } else if let Err(e) = names::path_segment(of("name")) {
            errors.push(FieldError::invalid("roleRef.name", &role["name"], &e));
        }
        for (i, s) in new["subjects"].as_array().into_iter().flatten().enumerate() {
            if s["name"].as_str().unwrap_or_default().is_empty() {
                errors.push(FieldError::required(format!("subjects[{i}].name"), ""));
            }
            checks::subject(s, &format!("subjects[{i}]"), meta::namespace(new), errors);
        }
        if old.is_some_and(|o| o["roleRef"] != *role) {
            errors.push(FieldError {
                reason: "FieldValueInvalid",
                field: "roleRef".into(),
                message: format!(
                    "Invalid value: rbac.RoleRef{{APIGroup:{:?}, Kind:{:?}, Name:{:?}}}: cannot change roleRef",
                    of("apiGroup"),
                    of("kind"),
                    of("name")
                ),
            });
        }
    },
    columns: &columns::ROLE_BINDING,
    ..BASE
};

/// Defaults of a claim, also inside a stateful set or a pod.
pub(crate) fn default_claim(o: &mut Value) {
    let spec = object(o, "spec");
    if spec["volumeMode"].is_null() {
        spec["volumeMode"] = "Filesystem".into();
    }
    default(spec, "resources", json!({}));
    for field in ["dataSource", "dataSourceRef"] {
        // The group of a claim has no name, and stands there all the same.
        if let Some(source) = spec.get_mut(field).filter(|s| s.is_object()) {
            default(source, "apiGroup", Value::Null);
        }
    }
}

/// A class of attributes takes a feature that is off.
fn drop_attributes_class(new: &mut Value, old: Option<&Value>) {
    let class = "volumeAttributesClassName";
    if old.is_none_or(|o| o["spec"][class].is_null())
        && let Some(m) = new["spec"].as_object_mut()
    {
        m.remove(class);
    }
}

/// What a claim's volume is filled from stands in two fields, whichever of them was sent. A source in
/// another namespace has only one of them, and that one takes a feature that is off.
fn mirror_source(spec: &mut Value) {
    let elsewhere = meta::text(spec, "/dataSourceRef/namespace");
    if !elsewhere.is_empty()
        && let Some(m) = spec.as_object_mut()
    {
        m.remove("dataSourceRef");
    }
    let known = |v: &Value| {
        let group = v["apiGroup"].as_str().unwrap_or_default();
        let kind = v["kind"].as_str().unwrap_or_default();
        matches!(
            (group, kind),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    // The older field never took anything else, and left it out without a word.
    if spec["dataSourceRef"].is_null()
        && spec["dataSource"].is_object()
        && !known(&spec["dataSource"])
        && let Some(m) = spec.as_object_mut()
    {
        m.remove("dataSource");
    }
    for (from, to) in [("dataSource", "dataSourceRef"), ("dataSourceRef", "dataSource")] {
        if spec[to].is_null() && spec[from].is_object() {
            spec[to] = spec[from].clone();
        }
    }
}

/// What is wrong with a claim's spec, also inside a stateful set or a pod.
pub(crate) fn validate_claim_spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
        let why = "at least 1 access mode is required";
        errors.push(FieldError::required(format!("{path}.accessModes"), why));
    }
    if spec.pointer("/resources/requests/storage").is_none() {
        errors.push(FieldError::required(format!("{path}.resources[storage]"), ""));
    }
    checks::label_selector(&spec["selector"], &format!("{path}.selector"), errors);
    storage_checks::claim(spec, path, errors);
}

pub(crate) static CLAIM: Strategy = Strategy {
    default: default_claim,
    prepare: |new, old, part| {
        split_status(new, old, part);
        if part == Part::Main {
            mirror_source(&mut new["spec"]);
        }
        drop_attributes_class(new, old);
        default(object(new, "status"), "phase", "Pending");
    },
    validate: |new, old, part, errors| {
        if part == Part::Status {
            return storage_checks::claim_status(&new["status"], errors);
        }
        validate_claim_spec(&new["spec"], "spec", errors);
        if let Some(old) = old {
            validate_claim_change(new, old, errors);
        }
    },
    columns: &columns::CLAIM,
    ..BASE
};

/// What of a claim stays as it is: all but its size while it is bound, and the volume once it has one.
fn validate_claim_change(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let size = |v: &Value| v["resources"]["requests"]["storage"].as_str().and_then(Quantity::parse);
    let fixed = |v: &Value| {
        let mut s = v["spec"].clone();
        if let Some(m) = s.as_object_mut() {
            m.remove("volumeAttributesClassName");
            if meta::text(old, "/spec/volumeName").is_empty() {
                m.remove("volumeName");
            }
            // A class may be chosen later.
            if old["spec"]["storageClassName"].is_null() {
                m.remove("storageClassName");
            }
        }
        if meta::text(old, "/status/phase") == "Bound"
            && let Some(m) = s["resources"]["requests"].as_object_mut()
        {
            m.remove("storage");
        }
        s
    };
    if fixed(old) != fixed(new) {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let (before, now) = (size(&old["spec"]), size(&new["spec"]));
    let have = old["status"]["capacity"]["storage"].as_str().and_then(Quantity::parse);
    if now < before && now <= Some(have.unwrap_or_default()) {
        let why = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden("spec.resources.requests.storage", why));
    }
    if new["spec"]["volumeMode"] != old["spec"]["volumeMode"] {
        let mode = &new["spec"]["volumeMode"];
        errors.push(FieldError::invalid("volumeMode", mode, "field is immutable"));
    }
}

pub(crate) static VOLUME: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        if spec["volumeMode"].is_null() {
            spec["volumeMode"] = "Filesystem".into();
        }
        if let Some(h) = spec.get_mut("hostPath") {
            default(h, "type", "");
        }
    },
    prepare: |new, old, part| {
        split_status(new, old, part);
        drop_attributes_class(new, old);
        default(object(new, "status"), "phase", "Pending");
        // When it came into its phase.
        let was = old.map(|o| &o["status"]["phase"]);
        let now = meta::timestamp(jiff::Timestamp::now());
        let status = object(new, "status");
        let at = "lastPhaseTransitionTime";
        if was != Some(&status["phase"]) {
            status[at] = now.into();
        } else if let Some(before) = old.and_then(|o| o["status"].get(at)) {
            default(status, at, before.clone());
        }
    },
    validate: |new, old, part, errors| {
        if part == Part::Status {
            return;
        }
        if new["spec"]["accessModes"].as_array().is_none_or(Vec::is_empty) {
            errors.push(FieldError::required("spec.accessModes", ""));
        }
        storage_checks::volume(&new["spec"], errors);
        if let Some(old) = old {
            // A change is looked at twice, as a whole and as a change, and so is told.
            storage_checks::volume(&new["spec"], errors);
            let (before, after) = (&old["spec"], &new["spec"]);
            if storage_checks::volume_source(before) != storage_checks::volume_source(after) {
                let at = "spec.persistentvolumesource";
                let why = "spec.persistentvolumesource is immutable after creation";
                errors.push(FieldError::forbidden(at, why));
            }
            let mode = &new["spec"]["volumeMode"];
            if old["spec"]["volumeMode"] != *mode {
                errors.push(FieldError::invalid("volumeMode", mode, "field is immutable"));
            }
        }
    },
    columns: &columns::VOLUME,
    ..BASE
};

pub(crate) static CONTROLLER_REVISION: Strategy = Strategy {
    validate: |new, old, _, errors| {
        match &new["data"] {
            Value::Null => errors.push(FieldError::required("data", "data is mandatory")),
            Value::Object(_) => {}
            _ => errors.push(FieldError::required("data", "data must be a valid JSON object")),
        }
        checks::revision(new, errors);
        if old.is_some_and(|o| o["data"] != new["data"]) {
            errors.push(FieldError::invalid("data", &json!("<omitted>"), "field is immutable"));
        }
    },
    columns: &columns::CONTROLLER_REVISION,
    ..BASE
};

#[cfg(test)]
mod tests {
    use super::*;

    // https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-v1/,
    // and what a kube-apiserver 1.33 answered.
    #[test]
    fn a_volume_stays_where_it_is() {
        let old = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/x", "type": ""}, "volumeMode": "Filesystem"}});
        let told = |change: Value| {
            let mut new = old.clone();
            json_patch::merge(&mut new["spec"], &change);
            let mut errors = Vec::new();
            (VOLUME.validate)(&new, Some(&old), Part::Main, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let stays = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation";
        assert_eq!(told(json!({"hostPath": {"path": "/y"}})), [stays]);
        assert_eq!(
            told(json!({"volumeMode": "Block"})),
            ["volumeMode: Invalid value: \"Block\": field is immutable"]
        );
        let other = json!({"capacity": {"storage": "2Gi"}, "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "q"});
        assert_eq!(told(other), Vec::<String>::new());
    }

    // "Data source references" of https://kubernetes.io/docs/concepts/storage/persistent-volumes/, and
    // what a kube-apiserver 1.33 did.
    #[test]
    fn what_a_volume_is_filled_from_stands_in_both_fields() {
        let made = |spec: Value| {
            let mut o = json!({"spec": spec});
            (CLAIM.default)(&mut o);
            (CLAIM.prepare)(&mut o, None, Part::Main);
            o["spec"].clone()
        };
        let source = json!({"apiGroup": null, "kind": "PersistentVolumeClaim", "name": "x"});
        let sent = json!({"kind": "PersistentVolumeClaim", "name": "x"});
        for field in ["dataSource", "dataSourceRef"] {
            let spec = made(json!({field: sent}));
            assert_eq!((&spec["dataSource"], &spec["dataSourceRef"]), (&source, &source));
        }
        let other = json!({"apiGroup": "example.com", "kind": "Image", "name": "x"});
        let spec = made(json!({"dataSourceRef": other}));
        assert_eq!((&spec["dataSource"], &spec["dataSourceRef"]), (&other, &other));
        // What the older field never took is left out.
        let spec = made(json!({"dataSource": other, "volumeAttributesClassName": "q"}));
        assert_eq!(spec, json!({"resources": {}, "volumeMode": "Filesystem"}));
        let mut errors = Vec::new();
        let spec = json!({"dataSource": sent, "dataSourceRef": {"kind": "Foo", "name": ""}});
        storage_checks::claim(&spec, "spec", &mut errors);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "spec.dataSourceRef.name: Required value",
                "spec.dataSourceRef: Invalid value: \"Foo\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                "spec: Invalid value: \"spec.dataSource\": must match dataSourceRef",
            ]
        );
    }

    // "Reserving a PersistentVolume" and "Expanding Persistent Volumes Claims" of
    // https://kubernetes.io/docs/concepts/storage/persistent-volumes/
    #[test]
    fn a_claim_keeps_what_was_asked_for_except_that_it_may_grow_once_it_is_bound() {
        let old = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "2Gi"}}}, "status": {"phase": "Pending"}});
        let told = |old: &Value, change: Value| {
            let mut new = old.clone();
            json_patch::merge(&mut new["spec"], &change);
            let mut errors = Vec::new();
            (CLAIM.validate)(&new, Some(old), Part::Main, &mut errors);
            errors.into_iter().map(|e| e.field).collect::<Vec<_>>()
        };
        let size = |s: &str| json!({"resources": {"requests": {"storage": s}}});
        assert_eq!(told(&old, json!({})), [""; 0]);
        assert_eq!(told(&old, json!({"volumeName": "pv"})), [""; 0]);
        assert_eq!(told(&old, json!({"storageClassName": "y"})), ["spec"]);
        assert_eq!(told(&old, json!({"accessModes": ["ReadWriteMany"]})), ["spec"]);
        assert_eq!(told(&old, json!({"volumeMode": "Block"})), ["spec", "volumeMode"]);
        assert_eq!(told(&old, size("3Gi")), ["spec"]);
        let mut bound = old.clone();
        bound["spec"]["volumeName"] = "pv".into();
        bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "2Gi"}});
        assert_eq!(told(&bound, size("3Gi")), [""; 0]);
        assert_eq!(told(&bound, size("1Gi")), ["spec.resources.requests.storage"]);
        assert_eq!(told(&bound, json!({"volumeName": "other"})), ["spec"]);
    }
}

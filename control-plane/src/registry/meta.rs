//! What all objects have: names, identity, times, owners.
//!
//! Owns: `metadata`. Called by: create and update, before and after a kind's own rules.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{Part, Resource, names};
use crate::http::status::{FieldError, shown_list};

const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// So much of `generateName` stands in a name.
pub(crate) const GENERATED: usize = 58;
const CSI_DRIVERS: &str = "storage.k8s.io/csidrivers";
pub(crate) const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Random letters as Kubernetes puts behind `generateName`.
pub(crate) fn suffix(len: usize) -> String {
    use rand::Rng as _;
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(SUFFIX[rng.random_range(0..SUFFIX.len())])).collect()
}

/// A time as Kubernetes writes it.
pub(crate) fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time so many seconds later. Who asks for more than there is of it gets the end of time.
pub(crate) fn later(at: jiff::Timestamp, seconds: i64) -> jiff::Timestamp {
    let end = if seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    at.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(end)
}

/// A time with microseconds, as leases have it.
pub(crate) fn micro_timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The metadata of an object, made if missing.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let Value::Object(fields) = object else { unreachable!("just made an object") };
    let m = fields.entry("metadata").or_insert_with(|| json!({}));
    if !m.is_object() {
        *m = json!({});
    }
    let Value::Object(m) = m else { unreachable!("just made an object") };
    m
}

/// A text at a pointer; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(crate) fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string)
}

pub(crate) fn finalizers(object: &Value) -> usize {
    object.pointer("/metadata/finalizers").and_then(Value::as_array).map_or(0, Vec::len)
}

/// Sets what the server decides at creation.
pub(crate) fn stamp_new(object: &mut Value, resource: &Resource, namespace: &str) {
    // That of a storage driver counts its changes only.
    let generation = resource.custom.is_some()
        || (resource.strategy.generation && resource.table.as_ref() != CSI_DRIVERS);
    let m = metadata(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink"]
    {
        m.remove(field);
    }
    if m.get("name").and_then(Value::as_str).unwrap_or_default().is_empty()
        && let Some(base) =
            m.get("generateName").and_then(Value::as_str).filter(|base| !base.is_empty())
    {
        let base = &base[..base.floor_char_boundary(GENERATED)];
        let made = format!("{base}{}", suffix(5));
        m.insert("name".into(), made.into());
    }
    if resource.namespaced {
        m.insert("namespace".into(), namespace.into());
    } else {
        m.remove("namespace");
    }
    m.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    m.insert("creationTimestamp".into(), timestamp(jiff::Timestamp::now()).into());
    if generation {
        m.insert("generation".into(), 1.into());
    }
}

/// Takes from the stored object what no client may change.
pub(crate) fn keep_identity(new: &mut Value, old: &Value) {
    let m = metadata(new);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "name",
        "namespace",
    ] {
        match old["metadata"].get(field) {
            Some(v) => m.insert(field.into(), v.clone()),
            None => m.remove(field),
        };
    }
    m.remove("selfLink");
    // To Go an empty list or map is one that is not there.
    for field in ["ownerReferences", "finalizers", "labels", "annotations"] {
        let empty = match m.get(field) {
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            _ => false,
        };
        if empty {
            m.remove(field);
        }
    }
}

/// Counts the generation up if the spec changed.
pub(crate) fn count_generation(new: &mut Value, old: &Value, resource: &Resource, part: Part) {
    if part == Part::Status || !(resource.custom.is_some() || resource.strategy.generation) {
        return;
    }
    let specless = new.get("spec").is_none() && old.get("spec").is_none();
    let changed = if resource.custom.is_some() || specless {
        let plain = |v: &Value| {
            let mut v = v.clone();
            if let Value::Object(m) = &mut v {
                m.remove("metadata");
                if resource.has_status() {
                    m.remove("status");
                }
            }
            v
        };
        plain(new) != plain(old)
    } else {
        new.get("spec") != old.get("spec")
    };
    // Who routes by a slice finds it by its labels.
    let relabelled = resource.table.as_ref() == "discovery.k8s.io/endpointslices"
        && new["metadata"].get("labels") != old["metadata"].get("labels");
    if changed || relabelled {
        let next = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0) + 1;
        metadata(new).insert("generation".into(), next.into());
    }
}

/// Warnings of finalizers that say not whose they are.
pub(crate) fn unqualified_finalizers(object: &Value) -> Vec<String> {
    const KNOWN: [&str; 3] = ["foregroundDeletion", "orphan", "kubernetes"];
    let all = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    let bare = all.filter_map(Value::as_str).filter(|f| !f.contains('/') && !KNOWN.contains(f));
    bare.map(|f| {
        format!("metadata.finalizers: {f:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers")
    })
    .collect()
}

/// Owners that are named twice are kept once; what is said of them.
pub(crate) fn single_owners(object: &mut Value) -> Option<String> {
    let Some(Value::Array(owners)) = object.pointer_mut("/metadata/ownerReferences") else {
        return None;
    };
    let mut twice: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    owners.retain(|owner| {
        let first = seen.insert(owner.to_string());
        if !first {
            twice.push(text(owner, "/uid").to_owned());
        }
        first
    });
    twice.sort_unstable();
    twice.dedup();
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        )
    })
}

/// A reference to an owner as error texts show it.
fn shown_owner(owner: &Value) -> String {
    let of = |f: &str| owner[f].as_str().unwrap_or_default();
    let set = |f: &str| match owner[f].is_boolean() {
        true => "(*bool)(0xc000000000)",
        false => "(*bool)(nil)",
    };
    format!(
        "v1.OwnerReference{{APIVersion:{:?}, Kind:{:?}, Name:{:?}, UID:{:?}, Controller:{}, BlockOwnerDeletion:{}}}",
        of("apiVersion"),
        of("kind"),
        of("name"),
        of("uid"),
        set("controller"),
        set("blockOwnerDeletion")
    )
}

/// What is wrong with the metadata.
pub(crate) fn validate(object: &Value, resource: &Resource, errors: &mut Vec<FieldError>) {
    let m = &object["metadata"];
    let name = m["name"].as_str().unwrap_or_default();
    let base = m["generateName"].as_str().unwrap_or_default();
    if !base.is_empty() {
        let masked = format!("{}a", base.trim_end_matches('-'));
        if let Err(e) = (resource.strategy.name)(&masked) {
            errors.push(FieldError::invalid("metadata.generateName", &m["generateName"], &e));
        }
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if let Err(e) = (resource.strategy.name)(name) {
        errors.push(FieldError::invalid("metadata.name", &m["name"], &e));
    }
    validate_labels(m.get("labels"), "metadata.labels", errors);
    validate_annotations(m.get("annotations"), "metadata.annotations", errors);
    if m["generation"].as_i64().is_some_and(|g| g < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("metadata.generation", &m["generation"], why));
    }
    for owner in m["ownerReferences"].as_array().into_iter().flatten() {
        let version = owner["apiVersion"].as_str().unwrap_or_default();
        if version.matches('/').count() > 1 {
            let (path, why) = ("metadata.ownerReferences.apiVersion", "version must not be empty");
            errors.push(FieldError::invalid(path, &owner["apiVersion"], why));
        }
        if owner["kind"] == "Event" && version == "v1" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            let at = "metadata.ownerReferences";
            errors.push(FieldError::invalid_shown(at, &shown_owner(owner), why));
        }
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let what = if field == "apiVersion" { "version" } else { field };
                let path = format!("metadata.ownerReferences.{field}");
                let hint = format!("{what} must not be empty");
                errors.push(FieldError::invalid(path, &json!(""), &hint));
            }
        }
    }
    let mut controllers =
        m["ownerReferences"].as_array().into_iter().flatten().filter(|o| o["controller"] == true);
    if let (Some(one), Some(other)) = (controllers.next(), controllers.next()) {
        let named = |o: &Value| {
            let text = |f: &str| o[f].as_str().unwrap_or_default().to_owned();
            format!("{}/{}", text("kind"), text("name"))
        };
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            named(one),
            named(other)
        );
        let at = "metadata.ownerReferences";
        let all: Vec<String> =
            m["ownerReferences"].as_array().into_iter().flatten().map(shown_owner).collect();
        let shown = format!("[]v1.OwnerReference{{{}}}", all.join(", "));
        errors.push(FieldError::invalid_shown(at, &shown, &why));
    }
    let finalizers = m["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
    if ["orphan", "foregroundDeletion"].iter().all(|f| finalizers.contains(&json!(f))) {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        let shown = shown_list(&m["finalizers"]);
        errors.push(FieldError::invalid_shown("metadata.finalizers", &shown, why));
    }
    for (i, f) in finalizers.iter().enumerate() {
        let key = names::label_key_faults(f.as_str().unwrap_or_default());
        errors.extend(key.iter().map(|e| FieldError::invalid("metadata.finalizers", f, e)));
        if resource.custom.is_none()
            && !matches!(resource.plural.as_str(), "events" | "customresourcedefinitions")
        {
            whose_finalizer(f, &format!("metadata.finalizers[{i}]"), errors);
        }
    }
}

/// A finalizer says whose it is, unless it is one of Kubernetes' own.
fn whose_finalizer(f: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let text = f.as_str().unwrap_or_default();
    if !text.contains('/') && !matches!(text, "orphan" | "foregroundDeletion" | "kubernetes") {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(at, f, why));
    }
}

/// What is wrong with a finalizer of a namespace.
pub(crate) fn validate_finalizer(f: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for e in names::label_key_faults(f.as_str().unwrap_or_default()) {
        errors.push(FieldError::invalid(at, f, &e));
    }
    whose_finalizer(f, at, errors);
}

pub(crate) fn validate_labels(labels: Option<&Value>, field: &str, errors: &mut Vec<FieldError>) {
    for (k, v) in labels.and_then(Value::as_object).into_iter().flatten() {
        for e in names::label_key_faults(k) {
            errors.push(FieldError::invalid(field, &json!(k), &e));
        }
        if let Err(e) = names::label_value(v.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(field, v, &e));
        }
    }
}

pub(crate) fn validate_annotations(
    annotations: Option<&Value>,
    field: &str,
    errors: &mut Vec<FieldError>,
) {
    let mut size = 0;
    for (k, v) in annotations.and_then(Value::as_object).into_iter().flatten() {
        for e in names::label_key_faults(&k.to_lowercase()) {
            errors.push(FieldError::invalid(field, &json!(k), &e));
        }
        size += k.len() + v.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(field, ANNOTATIONS_LIMIT));
    }
}

/// What is wrong with a change of the metadata.
pub(crate) fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if is_terminating(old) {
        let has = |v: &Value, f: &Value| {
            v.pointer("/metadata/finalizers")
                .and_then(Value::as_array)
                .is_some_and(|a| a.contains(f))
        };
        let added: Vec<&Value> = new["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|f| !has(old, f))
            .collect();
        if !added.is_empty() {
            let names: Vec<String> = added.iter().map(|f| f.to_string()).collect();
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}", names.join(", ")),
            ));
        }
    }
}

/// Only a deletion sets when an object ends.
pub(crate) fn validate_kept(sent: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if is_terminating(old) {
        return;
    }
    let why = "field is immutable";
    if let Some(at) = sent["metadata"]["deletionTimestamp"].as_str() {
        let time = at.parse::<jiff::Timestamp>();
        let shown = time.map(|t| t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string());
        let shown = shown.unwrap_or_else(|_| at.to_owned());
        errors.push(FieldError::invalid_shown("metadata.deletionTimestamp", &shown, why));
    }
    let grace = &sent["metadata"]["deletionGracePeriodSeconds"];
    if grace.is_i64() {
        errors.push(FieldError::invalid("metadata.deletionGracePeriodSeconds", grace, why));
    }
}

/// The status of the condition `kind`, if there is one.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|c| c["type"] == kind)
}

/// Sets a condition; the transition time changes with the status only.
pub(crate) fn set_condition(
    object: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: jiff::Timestamp,
) {
    let status_object =
        object.as_object_mut().map(|o| o.entry("status").or_insert_with(|| json!({})));
    let Some(Value::Object(s)) = status_object else { return };
    let list = s.entry("conditions").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    let Value::Array(list) = list else { return };
    let mut new = json!({"type": kind, "status": status, "lastTransitionTime": timestamp(now)});
    if !reason.is_empty() {
        new["reason"] = reason.into();
    }
    if !message.is_empty() {
        new["message"] = message.into();
    }
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(c) => {
            if c["status"] == status {
                new["lastTransitionTime"] = c["lastTransitionTime"].clone();
            }
            for kept in ["lastProbeTime", "lastHeartbeatTime", "observedGeneration"] {
                if let Some(v) = c.get(kept) {
                    new[kept] = v.clone();
                }
            }
            *c = new;
        }
        None => list.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_seconds_leads_out_of_time() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(later(now, 60).to_string(), "2026-01-01T00:01:00Z");
        assert_eq!(later(now, i64::MAX), jiff::Timestamp::MAX);
        assert_eq!(later(now, i64::MIN), jiff::Timestamp::MIN);
    }

    // What a kube-apiserver 1.33 did.
    #[test]
    fn a_slice_counts_changes_of_its_endpoints_and_of_its_labels_and_no_others() {
        let slices = crate::registry::Registry::new().builtin("discovery.k8s.io", "endpointslices");
        let old = json!({"metadata": {"generation": 1, "labels": {"a": "b"}}, "endpoints": []});
        let after = |at: &str, v: Value| {
            let mut new = old.clone();
            *new.pointer_mut(at).unwrap() = v;
            count_generation(&mut new, &old, &slices, Part::Main);
            new["metadata"]["generation"].as_i64().unwrap()
        };
        assert_eq!(after("/endpoints", json!([{"addresses": ["10.0.0.1"]}])), 2);
        assert_eq!(after("/metadata/labels", json!({"a": "c"})), 2);
        assert_eq!(
            after(
                "/metadata",
                json!({"generation": 1, "labels": {"a": "b"}, "annotations": {"x": "y"}})
            ),
            1
        );
    }
}

//! Who owns which field.
//!
//! Owns: `metadata.managedFields`. Called by: create and update (to record), `apply` (to compare).

use serde_json::{Map, Value, json};

use super::super::body::WriteOptions;
use super::claimed;
use super::fields::Fields;
use super::merge::changed;
use super::places::place;
use crate::registry::{Part, Resource, meta};

/// One entry of `managedFields`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: &'static str,
    pub(super) api_version: String,
    pub(super) subresource: &'static str,
    pub(super) time: String,
    pub(super) fields: Fields,
}

pub(super) fn read_entries(object: &Value) -> Vec<Entry> {
    let one = |v: &Value| Entry {
        manager: v["manager"].as_str().unwrap_or_default().to_owned(),
        operation: if v["operation"] == "Apply" { "Apply" } else { "Update" },
        api_version: v["apiVersion"].as_str().unwrap_or_default().to_owned(),
        subresource: ["status", "scale", "approval", "ephemeralcontainers"]
            .into_iter()
            .find(|s| v["subresource"] == **s)
            .unwrap_or_default(),
        time: v["time"].as_str().unwrap_or_default().to_owned(),
        fields: Fields::read(&v["fieldsV1"]),
    };
    object["metadata"]["managedFields"].as_array().into_iter().flatten().map(one).collect()
}

fn is_entry(v: &Value) -> bool {
    matches!(v["operation"].as_str(), Some("Apply" | "Update"))
        && v["fieldsType"] == "FieldsV1"
        && v["fieldsV1"].is_object()
}

pub(super) fn write_entries(object: &mut Value, entries: Vec<Entry>) {
    let m = meta::metadata(object);
    let list: Vec<Value> = entries
        .into_iter()
        .filter(|e| !e.fields.is_empty())
        .map(|e| {
            let mut v = json!({"manager": e.manager, "operation": e.operation, "apiVersion": e.api_version,
                "fieldsType": "FieldsV1", "fieldsV1": e.fields.write()});
            if !e.time.is_empty() {
                v["time"] = e.time.into();
            }
            if !e.subresource.is_empty() {
                v["subresource"] = e.subresource.into();
            }
            v
        })
        .collect();
    if list.is_empty() {
        m.remove("managedFields");
    } else {
        m.insert("managedFields".into(), list.into());
    }
}

/// An object without what nobody owns.
pub(super) fn ownable(object: &Value) -> Value {
    let mut v = object.clone();
    if let Value::Object(m) = &mut v {
        m.remove("kind");
        m.remove("apiVersion");
        if let Some(Value::Object(m)) = m.get_mut("metadata") {
            for f in [
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "generation",
                "resourceVersion",
                "managedFields",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            ] {
                m.remove(f);
            }
            if m.is_empty()
                && let Value::Object(m) = &mut v
            {
                m.remove("metadata");
            }
        }
    }
    v
}

pub(super) fn now() -> String {
    meta::timestamp(jiff::Timestamp::now())
}

/// What a write of this part can change: not the status by the object itself, and not the spec by its
/// status.
pub(super) fn without_reset(resource: &Resource, part: Part, mut object: Value) -> Value {
    if let Value::Object(m) = &mut object {
        match part {
            Part::Status => m.remove("spec"),
            Part::Main if resource.has_status() => m.remove("status"),
            _ => None,
        };
        // What is requested of a signer is the requester's once and for all.
        if resource.plural == "certificatesigningrequests" && resource.custom.is_none() {
            m.remove("spec");
        }
    }
    object
}

/// What of a new object belongs to its writer: no status, which has a path of its own, and nothing
/// that an object has without being asked for it.
fn written(resource: &Resource, sent: &Value, part: Part) -> Value {
    let mut v = without_reset(resource, part, ownable(sent));
    if let Value::Object(m) = &mut v {
        if part == Part::Status {
            m.retain(|k, _| k == "status");
        }
        if resource.custom.is_none() {
            m.values_mut().for_each(without_nulls);
            let empty = |v: &Value| match v {
                Value::Null => true,
                Value::String(s) => s.is_empty(),
                Value::Object(m) => m.is_empty(),
                Value::Array(a) => a.is_empty(),
                _ => false,
            };
            m.retain(|_, v| !empty(v));
        }
    }
    v
}

/// Drops nulls, outside lists: an element of a list is owned as a whole.
fn without_nulls(v: &mut Value) {
    let Value::Object(m) = v else { return };
    m.retain(|_, v| !v.is_null());
    m.retain(|_, v| {
        let had = v.as_object().is_some_and(|m| !m.is_empty());
        without_nulls(v);
        // An object that had nothing but nulls is as good as none.
        !(had && v.as_object().is_some_and(Map::is_empty))
    });
}

/// Notes who made an object. What was applied owns what it names; other writers own what they sent,
/// with its defaults.
pub(crate) fn record_create(
    resource: &Resource,
    new: &mut Value,
    sent: &Value,
    applied: Option<&Value>,
    options: &WriteOptions,
) {
    let fields = match applied {
        Some(applied) => claimed(resource, Part::Main, applied, options),
        None => Fields::made(&written(resource, sent, Part::Main), place(resource)),
    };
    let entry = Entry {
        manager: options.manager.clone(),
        operation: if options.applying { "Apply" } else { "Update" },
        api_version: resource.api_version(),
        subresource: "",
        time: now(),
        fields,
    };
    write_entries(new, if entry.fields.children.is_empty() { Vec::new() } else { vec![entry] });
}

/// Who owns what an object has that nobody is on record for: somebody who came before the first that
/// applies.
pub(super) fn before_apply(resource: &Resource, old: &Value, part: Part) -> Option<Entry> {
    let fields = Fields::made(&written(resource, old, part), place(resource));
    let entry = Entry {
        manager: "before-first-apply".to_owned(),
        operation: "Update",
        api_version: resource.api_version(),
        subresource: part.subresource(),
        time: now(),
        fields,
    };
    (!entry.fields.children.is_empty()).then_some(entry)
}

/// Notes who changed which fields of an object. Where nothing was on record, nothing is from now on,
/// until somebody applies.
pub(crate) fn record_update(
    resource: &Resource,
    new: &mut Value,
    old: &Value,
    part: Part,
    options: &WriteOptions,
) {
    // A client may give up all records by sending an empty list, or write them, as kubectl does when it
    // starts to apply by the server; but not through a subresource, and not without knowing of them.
    let sent = new["metadata"].get("managedFields").cloned();
    let list = sent.as_ref().and_then(Value::as_array).filter(|_| part == Part::Main);
    let reset = list.is_some_and(|l| l.iter().all(|e| e.as_object().is_some_and(Map::is_empty)));
    let own = list.is_some_and(|l| !l.is_empty() && l.iter().all(is_entry));
    if !options.applying {
        let kept = match sent {
            _ if reset => None,
            Some(sent) if own => Some(sent),
            _ => old["metadata"].get("managedFields").cloned(),
        };
        match kept {
            Some(k) => meta::metadata(new).insert("managedFields".into(), k),
            None => meta::metadata(new).remove("managedFields"),
        };
        let mut entries = read_entries(new);
        if entries.is_empty() {
            return;
        }
        let at = place(resource);
        let (before, after) = (ownable(old), ownable(new));
        let difference = changed(&before, &after, at);
        if difference.is_empty() {
            return;
        }
        let now_there = Fields::made(&after, at);
        for e in &mut entries {
            e.fields = e.fields.minus(&difference);
        }
        let subresource = options.subresource(part);
        let mine = difference.both_or_under(&now_there);
        let known = entries.iter_mut().find(|e| {
            e.manager == options.manager
                && e.operation == "Update"
                && e.subresource == subresource
                && e.api_version == resource.api_version()
        });
        match known {
            Some(e) => {
                e.fields.union(&mine);
                e.time = now();
            }
            None => entries.push(Entry {
                manager: options.manager.clone(),
                operation: "Update",
                api_version: resource.api_version(),
                subresource,
                time: now(),
                fields: mine,
            }),
        }
        write_entries(new, entries);
    }
}

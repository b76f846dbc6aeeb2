//! patch
//!
//! Owns: which kind of patch it is and how it changes an object. Called by: the router.

use bytes::Bytes;
use http::HeaderMap;
use json_patch::PatchOperation;
use serde_json::Value;

use super::apply;
use super::auth::User;
use super::body::{self, Validation, WriteOptions};
use super::create::Outcome;
use super::get;
use super::json::Parsed;
use super::status::{FieldError, Status};
use super::update::{check_place, modify};
use crate::plane::Plane;
use crate::registry::restore::{printed, restorable};
use crate::registry::{Part, Resource, meta, strategic};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
/// Steps of a JSON patch at most, as in Kubernetes.
const STEPS: usize = 10_000;

/// How much a JSON patch may copy, in bytes of JSON, as in Kubernetes.
const COPIED: usize = 3 * 1024 * 1024;
/// The deepest place that a step may fill: what is deeper could not be read back.
const DEPTH: usize = 120;

pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

/// Changes an object by a patch. Returns whether it was created.
///
/// # Errors
/// Everything that Kubernetes refuses.
pub(crate) async fn patch(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    at: (&str, &str),
    part: Part,
    (headers, body): (&HeaderMap, &Bytes),
    options: &WriteOptions,
) -> Result<(Outcome, bool, Vec<String>), Status> {
    let content_type = content_type(headers);
    if content_type == APPLY {
        return apply::apply(plane, user, resource, at, part, body, options).await;
    }
    if options.force {
        let e = FieldError::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::bad_option("PatchOptions", e));
    }
    if matches!(content_type, JSON | MERGE)
        || (content_type == STRATEGIC && resource.custom.is_none())
    {
        get::find(plane, resource, at.0, at.1)?;
    }
    let (patch, duplicates) = read(resource, content_type, body)?;
    let warnings = parking_lot::Mutex::new(Vec::new());
    let change = |old: &Value| {
        let (new, found) = patched(&patch, &duplicates, old, resource, options.validation)?;
        if options.validation == Validation::Warn {
            *warnings.lock() = found;
        }
        Ok(new)
    };
    let outcome = modify(plane, user, resource, at, part, options, change).await;
    let warnings = warnings.into_inner();
    outcome.map(|o| (o, false, warnings.clone())).map_err(|s| s.warned(&warnings))
}

/// The kind of patch that a request says it has.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let said = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    said.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// The object that a patch makes of another, and warnings.
///
/// # Errors
/// When the patch does not fit, or what it makes is no object of the resource.
pub(crate) fn patched(
    patch: &Patch,
    duplicates: &[String],
    old: &Value,
    resource: &Resource,
    validation: Validation,
) -> Result<(Value, Vec<String>), Status> {
    let mut new = old.clone();
    apply_to(patch, &mut new, resource)?;
    if resource.custom.is_some() && new["apiVersion"] != old["apiVersion"] {
        let version = meta::text(&new, "/apiVersion");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let why = format!("must be {}", resource.api_version());
        let e = FieldError::invalid("apiVersion", &new["apiVersion"], &why);
        return Err(Status::invalid(group, &resource.kind, meta::name(old), &[e]));
    }
    let shown = new.to_string();
    let mut parsed = Parsed { duplicates: duplicates.to_vec(), ..new.into() };
    let found = body::object(resource, &mut parsed, validation).map_err(|e| {
        if resource.custom.is_some() && e.reason == "Invalid" {
            return e;
        }
        // The reason alone: which kind it is, is known from the path.
        let (_, why) = e.message.split_once(": ").unwrap_or(("", &e.message));
        Status::patched_wrongly(&shown, why)
    })?;
    check_place(resource, (meta::namespace(old), meta::name(old)), &parsed.value)?;
    Ok((parsed.value, found))
}

/// The patch, and the keys that stood twice in it.
///
/// # Errors
/// When it is not of the type that it is said to be.
pub(crate) fn read(
    resource: &Resource,
    content_type: &str,
    text: &[u8],
) -> Result<(Patch, Vec<String>), Status> {
    let map = |prefix: &str| -> Result<(Value, Vec<String>), Status> {
        let parsed = super::json::parse(text).map_err(|e| {
            Status::bad_request(format!("{prefix}{}", body::in_gos_words(&e, text)))
        })?;
        if parsed.value.is_object() {
            return Ok((parsed.value, parsed.duplicates));
        }
        if parsed.value.is_null() && !prefix.is_empty() {
            return Err(Status::bad_request("Invalid JSON Patch"));
        }
        Err(Status::bad_request(format!(
            "{prefix}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            crate::registry::decode::json_type(&parsed.value)
        )))
    };
    match content_type {
        JSON => {
            let value: Value = serde_json::from_slice(text).map_err(|e| {
                let why = body::in_gos_words(&e, text);
                Status::bad_request(format!("error decoding patch: {why}"))
            })?;
            if !value.is_array() {
                return Err(Status::bad_request(format!(
                    "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
                    crate::registry::decode::json_type(&value)
                )));
            }
            if let Some(step) = value.as_array().into_iter().flatten().find(|s| !s.is_object()) {
                return Err(Status::bad_request(format!(
                    "error decoding patch: json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp",
                    crate::registry::decode::json_type(step)
                )));
            }
            let patch: json_patch::Patch =
                serde_json::from_value(value).map_err(|_| Status::patch_failed())?;
            if patch.0.len() > STEPS {
                return Err(Status::too_large(STEPS));
            }
            Ok((Patch::Json(patch), Vec::new()))
        }
        MERGE => map("error decoding patch: ").map(|(v, d)| (Patch::Merge(v), d)),
        STRATEGIC if resource.custom.is_some() => {
            Err(Status::unsupported_media_type(&[JSON, MERGE, APPLY].join(", ")))
        }
        STRATEGIC => map("").map(|(v, d)| (Patch::Strategic(v), d)),
        _ => Err(Status::unknown_patch()),
    }
}

/// Takes the steps of a JSON patch, within limits: a few copies of copies would fill the memory, or be
/// too deep to be read. After an error the object is not to be used. To Kubernetes' patch library,
/// `replace` of a key that a map does not have is an addition.
///
/// # Errors
/// With what does not fit.
pub(crate) fn steps(patch: &json_patch::Patch, object: &mut Value) -> Result<(), String> {
    use PatchOperation::{Add, Copy, Move, Remove, Replace, Test};
    let mut copied = 0_usize;
    for step in &patch.0 {
        // The object itself is no member of anything.
        if step.path().is_root() && !matches!(step, Replace(_)) {
            return Err("the whole object cannot be added, removed or tested".to_owned());
        }
        let value = match step {
            Add(a) => Some(&a.value),
            Replace(r) => Some(&r.value),
            Move(m) => object.pointer(m.from.as_str()),
            Copy(c) => {
                let from = object.pointer(c.from.as_str());
                copied = copied.saturating_add(from.map_or(0, |v| v.to_string().len()));
                from
            }
            Remove(_) | Test(_) => None,
        };
        if copied > COPIED {
            return Err(format!("more than {COPIED} bytes would be copied"));
        }
        let room = DEPTH.checked_sub(step.path().count());
        if value.is_some_and(|v| room.is_none_or(|r| !is_within(v, r))) {
            return Err(format!("the object would have more than {DEPTH} levels"));
        }
        let one = match step {
            Replace(r) if adds_a_key(object, &r.path.to_string()) => {
                let (path, value) = (r.path.clone(), r.value.clone());
                Add(json_patch::AddOperation { path, value })
            }
            other => other.clone(),
        };
        json_patch::patch(object, &[one]).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Whether a value has no more than so many levels.
fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels > 0 && list.iter().all(|v| is_within(v, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|v| is_within(v, levels - 1)),
        _ => true,
    }
}

fn adds_a_key(object: &Value, path: &str) -> bool {
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    parent.is_some_and(Value::is_object) && object.pointer(path).is_none()
}

/// Changes an object by a patch.
///
/// # Errors
/// When it does not fit.
pub(crate) fn apply_to(
    patch: &Patch,
    object: &mut Value,
    resource: &Resource,
) -> Result<(), Status> {
    match patch {
        Patch::Json(p) => steps(p, object).map_err(|_| Status::patch_failed()),
        Patch::Merge(p) => {
            json_patch::merge(object, p);
            Ok(())
        }
        Patch::Strategic(p) => {
            let Some(ty) = resource.schema else { return Ok(()) };
            strategic::apply(object, p, ty).map_err(|e| match e {
                strategic::PatchError::Form(_) => Status::bad_request(e.to_string()),
                e => Status::plain(e.to_string()),
            })?;
            // What came of it is an object already, and told as that.
            let fits = resource.root.as_ref().map_or(Ok(()), |root| restorable(root, object));
            fits.map_err(|why| Status::patched_wrongly(&printed(p), &why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_that_replaces_what_is_not_there_adds_it_to_a_map_and_to_nothing_else() {
        let patched = |steps: Value| {
            let mut object = json!({"data": {"a": "1"}, "list": [1]});
            let steps = serde_json::from_value(steps).unwrap();
            super::steps(&steps, &mut object).map(|()| object).ok()
        };
        let step = |op: &str, path: &str| json!([{"op": op, "path": path, "value": "x"}]);
        let added = json!({"data": {"a": "1", "b": "x"}, "list": [1]});
        assert_eq!(patched(step("replace", "/data/b")), Some(added));
        assert_eq!(patched(step("replace", "/nothing/b")), None);
        assert_eq!(patched(step("replace", "/list/7")), None);
        assert_eq!(patched(step("remove", "/data/b")), None);
        assert_eq!(patched(step("test", "/data/a")), None);
    }

    fn after(mut object: Value, patch: Value) -> Result<Value, String> {
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        steps(&patch, &mut object).map(|()| object)
    }

    #[test]
    fn the_steps_of_a_patch_are_taken_in_order() {
        let patch = json!([{"op": "add", "path": "/a", "value": {"b": [1]}}, {"op": "copy", "from": "/a", "path": "/c"},
            {"op": "move", "from": "/c/b/0", "path": "/d"}, {"op": "test", "path": "/d", "value": 1}, {"op": "remove", "path": "/a"}]);
        assert_eq!(after(json!({}), patch), Ok(json!({"c": {"b": []}, "d": 1})));
    }

    #[test]
    fn copies_of_copies_end_at_a_limit() {
        let copy = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let steps: Vec<Value> = vec![copy; 40];
        let e = after(json!({"a": ["x".repeat(1000)]}), steps.into()).unwrap_err();
        assert!(e.contains("bytes would be copied"), "{e}");
    }

    #[test]
    fn a_patch_makes_nothing_that_is_too_deep_to_be_read_again() {
        let mut chain = json!(1);
        for _ in 0..50 {
            chain = json!({"a": chain});
        }
        let end = "/a".repeat(50);
        let twice = json!([{"op": "copy", "from": "", "path": end}]);
        let deeper = json!([{"op": "copy", "from": "", "path": end}, {"op": "copy", "from": "", "path": end}]);
        assert!(after(chain.clone(), twice).is_ok());
        let e = after(chain, deeper).unwrap_err();
        assert!(e.contains("levels"), "{e}");
    }
}

//! patch
//!
//! Owns: which kind of patch it is and how it changes an object. Called by: the router.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::apply;
use super::auth::User;
use super::body::{self, Validation, WriteOptions};
use super::create::Outcome;
use super::get;
use super::json::{self, Parsed};
use super::status::{FieldError, Status};
use super::steps::{STEPS, Steps};
use super::update::{check_place, modify};
use crate::plane::Plane;
use crate::registry::restore::{printed, restorable};
use crate::registry::{Part, Resource, meta, strategic};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

pub(crate) enum Patch {
    Json(Steps),
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
    let (patch, surplus) = read(resource, content_type, body)?;
    let warnings = parking_lot::Mutex::new(Vec::new());
    let change = |old: &Value| {
        let (new, found) = patched(&patch, &surplus, old, resource, options.validation)?;
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
    surplus: &[String],
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
    let shown = match patch {
        // What comes of it is an object already, and told as the patch.
        Patch::Strategic(p) => printed(p),
        _ => new.to_string(),
    };
    if !new.is_object() && !new.is_null() && resource.custom.is_none() {
        return Err(Status::patched_wrongly(&shown, &body::no_object(&new)));
    }
    let mut parsed = Parsed { warnings: surplus.to_vec(), ..new.into() };
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

/// The patch, and what its text has too much.
///
/// # Errors
/// When it is not of the type that it is said to be.
pub(crate) fn read(
    resource: &Resource,
    content_type: &str,
    text: &[u8],
) -> Result<(Patch, Vec<String>), Status> {
    let parsed = |prefix: &str| {
        json::parse(text)
            .map_err(|e| Status::bad_request(format!("{prefix}{}", json::in_gos_words(&e, text))))
    };
    let map = |prefix: &str| -> Result<(Value, Vec<String>), Status> {
        let parsed = parsed(prefix)?;
        // A strategic patch that is null changes nothing; of a merge patch nobody knows what it would.
        let value = match parsed.value {
            Value::Null if prefix.is_empty() => json!({}),
            Value::Null => return Err(Status::bad_request("Invalid JSON Patch")),
            value => value,
        };
        if !value.is_object() {
            return Err(Status::bad_request(format!(
                "{prefix}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                crate::registry::decode::json_type(&value)
            )));
        }
        let twice = parsed.duplicates.iter().map(|d| format!("duplicate field \"{d}\""));
        Ok((value, twice.collect()))
    };
    match content_type {
        JSON => {
            let parsed = parsed("error decoding patch: ")?;
            let steps = Steps::read(parsed.value)
                .map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?;
            if steps.len() > STEPS {
                return Err(Status::too_large(STEPS));
            }
            let surplus = steps.surplus(&parsed.duplicates, text);
            Ok((Patch::Json(steps), surplus))
        }
        MERGE => map("error decoding patch: ").map(|(v, d)| (Patch::Merge(v), d)),
        STRATEGIC if resource.custom.is_some() => {
            Err(Status::unsupported_media_type(&[JSON, MERGE, APPLY].join(", ")))
        }
        STRATEGIC => map("").map(|(v, d)| (Patch::Strategic(v), d)),
        _ => Err(Status::unknown_patch(text.is_empty())),
    }
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
        Patch::Json(steps) => steps.take(object).map_err(|_| Status::patch_failed()),
        Patch::Merge(p) => {
            json_patch::merge(object, p);
            Ok(())
        }
        Patch::Strategic(p) => {
            let Some(ty) = resource.schema else { return Ok(()) };
            strategic::apply(object, p, ty).map_err(|e| match e {
                strategic::PatchError::Retain | strategic::PatchError::Form(_) => {
                    Status::bad_request(e.to_string())
                }
                e => Status::plain(e.to_string()),
            })?;
            let fits = resource.root.as_ref().map_or(Ok(()), |root| restorable(root, object));
            fits.map_err(|why| Status::patched_wrongly(&printed(p), &why))
        }
    }
}

//! Server-side apply.
//!
//! Owns: conflicts between managers, what an applied configuration may be and what comes of it.
//! Called by: patch (to apply); create and update record who owns what through it.

mod fields;
mod merge;
mod places;
mod records;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::auth::User;
use super::body::{self, WriteOptions};
use super::create::{Outcome, create};
use super::get;
use super::json;
use super::status::{FieldError, Status};
use super::update::{check_place, modify};
use crate::plane::Plane;
use crate::registry::restore::restorable;
use crate::registry::{Part, Resource, api_version, meta};
use fields::Fields;
use merge::{changed, merge, remove};
use places::place;
use records::{Entry, before_apply, now, ownable, read_entries, without_reset, write_entries};
pub(crate) use records::{record_create, record_update};

/// Where `kubectl apply` notes what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What `kubectl apply` noted of an object; empty if it did not.
fn last_applied(object: &Value) -> &str {
    object["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default()
}

/// A configuration that is applied.
pub(crate) struct Configuration {
    pub(crate) object: Value,
    /// The same as it was sent, with what the object does not keep: nulls, and maps and lists that are
    /// empty.
    pub(crate) sent: Value,
    pub(crate) warnings: Vec<String>,
}

/// Applies a configuration.
///
/// # Errors
/// `Conflict` when fields belong to other managers and `force` is not set; all that an update refuses.
pub(crate) async fn apply(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    at: (&str, &str),
    part: Part,
    text: &Bytes,
    options: &WriteOptions,
) -> Result<(Outcome, bool, Vec<String>), Status> {
    let Configuration { object: mut applied, sent, warnings } =
        configuration(resource, at, text, options)?;
    let claimed = Some(Arc::new(sent));
    let options = WriteOptions { applying: true, claimed, ..options.clone() };
    if plane.store.get(&get::key(resource, at.0, at.1)).is_none() {
        if part != Part::Main {
            return Err(Status::not_found(resource.group_resource(), at.1));
        }
        // A revision says nothing of an object that is not there; a uid says that it was another one.
        meta::metadata(&mut applied).remove("resourceVersion");
        absent(resource, at.1, &applied)?;
        check_place(resource, at, &applied)?;
        let made = create(plane, user, resource, at.0, applied.clone(), &options).await;
        match made {
            Err(e) if e.reason == "AlreadyExists" => {}
            made => return made.map(|o| (o, true, warnings)),
        }
    }
    let change = |old: &Value| applied_to(resource, old, &applied, part, &options);
    let outcome = modify(plane, user, resource, at, part, &options, change).await?;
    Ok((outcome, false, warnings))
}

/// Whether a configuration may make an object that is not there.
///
/// # Errors
/// When it is for a certain object, which then is gone.
fn absent(resource: &Resource, name: &str, applied: &Value) -> Result<(), Status> {
    let uid = meta::uid(applied);
    if uid.is_empty() {
        return Ok(());
    }
    let why = format!(
        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
    );
    Err(Status::conflict(resource.group_resource(), name, &why))
}

/// Reads an applied configuration.
///
/// # Errors
/// When nobody says that it is theirs, it is not one of this resource, or has what the schema does not.
pub(crate) fn configuration(
    resource: &Resource,
    at: (&str, &str),
    text: &[u8],
    options: &WriteOptions,
) -> Result<Configuration, Status> {
    if options.manager_unset {
        let e = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::bad_option("PatchOptions", e));
    }
    let mut parsed = json::parse_yaml(text).map_err(|e| {
        Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {e}"))
    })?;
    if parsed.value.is_null() {
        parsed.value = json!({});
    }
    if !parsed.value.is_object() {
        let of = crate::registry::decode::json_type(&parsed.value);
        return Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {of} into Go value of type map[string]interface {{}}"
        )));
    }
    let said = |f: &str| parsed.value[f].as_str().unwrap_or_default();
    if said("apiVersion") != resource.api_version() || said("kind") != resource.kind {
        let version = match said("apiVersion") {
            v if v.contains('/') => v.to_owned(),
            v => format!("/{v}"),
        };
        let kind = said("kind");
        return Err(Status::bad_request(format!("invalid object type: {version}, Kind={kind}")));
    }
    if parsed.value["metadata"]["managedFields"].is_array() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    typed(resource, &parsed.value)?;
    let sent = parsed.value.clone();
    let warnings = body::object(resource, &mut parsed, options.validation)?;
    let applied = parsed.value;
    let namespace = meta::namespace(&applied);
    if resource.namespaced && !namespace.is_empty() && namespace != at.0 {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let own = meta::name(&applied);
    if !own.is_empty() && own != at.1 {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({})",
            at.1
        )));
    }
    Ok(Configuration { object: applied, sent, warnings })
}

/// Whether a configuration is of the resource's type.
///
/// # Errors
/// With all that is not.
fn typed(resource: &Resource, applied: &Value) -> Result<(), Status> {
    let mut wrong = types::mistakes(applied, place(resource));
    if resource.custom.is_some() {
        match body::check(resource, &mut applied.clone()) {
            Ok(unknown) => wrong.extend(unknown.iter().map(|u| undeclared(u))),
            Err(e) if wrong.is_empty() => return Err(e),
            Err(_) => {}
        }
    }
    let kind = format!("{}, Kind={}", resource.api_version(), resource.kind);
    let kind = if resource.group.is_empty() { format!("/{kind}") } else { kind };
    let what = format!("({}/{}; {kind})", meta::namespace(applied), meta::name(applied));
    if !wrong.is_empty() {
        return Err(Status::untyped(&what, &wrong));
    }
    let fits = resource.root.as_ref().map_or(Ok(()), |root| restorable(root, applied));
    fits.map_err(|why| {
        Status::plain(format!(
            "failed to convert new object {what} to proper version: unable to convert unstructured object to {kind}: {why}"
        ))
    })
}

fn undeclared(path: &str) -> String {
    format!(".{path}: field not declared in schema")
}

/// Whether an object can be compared in the versions in which others own parts of it. Of those that
/// there may be only the stored one is looked at.
///
/// # Errors
/// With what the object has and that version does not.
fn comparable(resource: &Resource, new: &Value, others: &[Entry]) -> Result<(), Status> {
    let Some(custom) = &resource.custom else { return Ok(()) };
    let stored = api_version(&resource.group, &custom.stored_version);
    if stored == resource.api_version() || others.iter().all(|e| e.api_version != stored) {
        return Ok(());
    }
    let lost: Vec<String> = custom.lost(new).iter().map(|u| undeclared(u)).collect();
    if lost.is_empty() { Ok(()) } else { Err(Status::unconverted(&lost)) }
}

/// Whether all that others own and that would change is still as `kubectl apply` left it when it applied by itself: it
/// then goes on by the server without being told to force.
///
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply>
fn was_applied_by_kubectl(
    resource: &Resource,
    old: &Value,
    contested: &Fields,
    part: Part,
    options: &WriteOptions,
) -> bool {
    if options.manager != "kubectl" || part != Part::Main {
        return false;
    }
    let Ok(last) = serde_json::from_str::<Value>(last_applied(old)) else { return false };
    let at = place(resource);
    let (last, now) = (ownable(&last), ownable(old));
    let mut back = now.clone();
    merge(&mut back, &last, at);
    let named = Fields::of(&last, at);
    let unchanged = named.minus(&changed(&now, &back, at));
    contested.minus(&unchanged).is_empty()
}

/// The fields that who applies a configuration owns from then on.
fn claimed(resource: &Resource, part: Part, applied: &Value, options: &WriteOptions) -> Fields {
    let sent = options.claimed.as_deref().unwrap_or(applied);
    let sent = ownable(&without_reset(resource, part, sent.clone()));
    // Who says nothing owns nothing, and not the object.
    Fields { here: false, ..Fields::of(&sent, place(resource)) }
}

/// The object after a configuration was applied. All the judgement, and no I/O.
pub(crate) fn applied_to(
    resource: &Resource,
    old: &Value,
    applied: &Value,
    part: Part,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let at = place(resource);
    let subresource = options.subresource(part);
    let sent = applied;
    let applied = without_reset(resource, part, applied.clone());
    let config = ownable(&applied);
    let wanted = claimed(resource, part, sent, options);
    let mut entries = read_entries(old);
    if entries.is_empty() {
        entries.extend(before_apply(resource, old, part));
    }
    let mut new = old.clone();
    // Conflicts: fields that others own and that would change.
    let mut merged = ownable(old);
    merge(&mut merged, &config, at);
    let difference = changed(&ownable(old), &merged, at).both(&wanted);
    let mine = |e: &Entry| {
        e.manager == options.manager && e.operation == "Apply" && e.subresource == subresource
    };
    let mut contested = Fields::default();
    let conflicts: Vec<(String, Vec<String>)> = entries
        .iter()
        .filter(|e| !mine(e))
        .filter_map(|e| {
            let mut paths = Vec::new();
            let both = e.fields.both(&difference);
            both.paths("", &mut paths);
            contested.union(&both);
            (!paths.is_empty()).then(|| (who(e, options), paths))
        })
        .collect();
    if !conflicts.is_empty()
        && !options.force
        && !was_applied_by_kubectl(resource, old, &contested, part, options)
    {
        return Err(conflict(&conflicts));
    }
    // What this manager applied before and does not any more goes, unless somebody else has it too; and
    // so does a map of it as a whole, unless it still has something in there itself.
    let before = entries.iter().find(|e| mine(e)).map(|e| e.fields.clone()).unwrap_or_default();
    let mut kept = wanted.clone();
    entries.iter().filter(|e| !mine(e)).for_each(|e| kept.union(&e.fields));
    let dropped = before.held_alone(&kept);
    remove(&mut new, &dropped, at);
    merge(&mut new, &config, at);
    comparable(resource, &new, &entries)?;
    for e in entries.iter_mut().filter(|e| !mine(e)) {
        e.fields = e.fields.minus(&difference);
    }
    // Who changes nothing is on record without a time.
    let changed = ownable(&new) != ownable(old);
    match entries.iter_mut().find(|e| mine(e)) {
        Some(e) => {
            e.fields = wanted;
            if changed {
                e.time = now();
            }
        }
        None => entries.push(Entry {
            manager: options.manager.clone(),
            operation: "Apply",
            api_version: resource.api_version(),
            subresource,
            time: if changed { now() } else { String::new() },
            fields: wanted,
        }),
    }
    write_entries(&mut new, entries);
    if options.manager == "kubectl" && part == Part::Main {
        note_last_applied(&mut new, sent);
    }
    for field in ["resourceVersion", "uid"] {
        if let Some(v) = applied["metadata"].get(field) {
            new["metadata"][field] = v.clone();
        }
    }
    Ok(new)
}

/// Keeps what `kubectl apply` notes of an object up to date when kubectl applies by the server, so that it can
/// go back to applying by itself. What it would be too much for is not noted any more.
///
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#downgrading-from-server-side-apply-to-client-side-apply>
fn note_last_applied(new: &mut Value, applied: &Value) {
    if last_applied(new).is_empty() {
        return;
    }
    let mut noted = applied.clone();
    if let Some(Value::Object(notes)) = noted.pointer_mut("/metadata/annotations") {
        notes.remove(LAST_APPLIED);
    }
    meta::metadata(&mut noted).remove("managedFields");
    // As Go writes it.
    let text = noted.to_string();
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\n";
    let Some(Value::Object(notes)) = new.pointer_mut("/metadata/annotations") else { return };
    notes.insert(LAST_APPLIED.to_owned(), text.into());
    let size: usize = notes.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if size > meta::ANNOTATIONS_LIMIT {
        notes.remove(LAST_APPLIED);
    }
}

/// A manager, as conflicts name it.
fn who(e: &Entry, options: &WriteOptions) -> String {
    let mut who = format!("{:?}", e.manager);
    if !e.subresource.is_empty() {
        who.push_str(&format!(" with subresource {:?}", e.subresource));
    }
    if e.operation == "Update" {
        let scale = options.scaling.then_some("autoscaling/v1");
        who.push_str(&format!(" using {}", scale.unwrap_or(&e.api_version)));
    }
    who
}

fn conflict(conflicts: &[(String, Vec<String>)]) -> Status {
    let total: usize = conflicts.iter().map(|(_, p)| p.len()).sum();
    let mut causes = Vec::new();
    let mut parts = Vec::new();
    for (by, paths) in conflicts {
        for p in paths {
            causes.push(json!({"reason": "FieldManagerConflict", "message": format!("conflict with {by}"), "field": p}));
        }
        parts.push(if total == 1 {
            format!("conflict with {by}: {}", paths.concat())
        } else {
            let list: String = paths.iter().map(|p| format!("\n- {p}")).collect();
            format!("conflicts with {by}:{list}")
        });
    }
    let noun = if total == 1 { "conflict" } else { "conflicts" };
    Status::apply_conflict(
        format!("Apply failed with {total} {noun}: {}", parts.join("\n")),
        causes,
    )
}

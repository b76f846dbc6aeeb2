//! update
//!
//! Owns: how a stored object changes, for update, patch, apply and the controllers.
//! Called by: the router, `patch`, `apply`, `subresource`, the controllers.

use serde_json::Value;

use super::auth::User;
use super::body::{self, WriteOptions};
use super::create::{Outcome, create, validate};
use super::status::{FieldError, GroupResource, Status};
use super::webhooks::{self, Operation, Write};
use super::{admission, apply, get};
use crate::plane::Plane;
use crate::registry::{Part, Resource, meta, warnings, zeros};
use crate::store::{Draft, Expect, Held, Stored, WriteError};

/// How often a change that names no revision is tried against newer ones.
const ATTEMPTS: usize = 16;

/// Replaces an object by what the client sent.
///
/// # Errors
/// Everything that Kubernetes refuses; `Conflict` when the revision sent is not the stored one.
pub(crate) async fn update(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    at: (&str, &str),
    part: Part,
    object: Value,
    options: &WriteOptions,
) -> Result<(Outcome, bool), Status> {
    let (namespace, name) = at;
    check_place(resource, at, &object)?;
    let mut object = object;
    let revision = meta::text(&object, "/metadata/resourceVersion").to_owned();
    if !revision.is_empty()
        && let Err(e) = revision.parse::<u64>()
    {
        return Err(Status::plain(super::list::unread_number(&revision, &e)));
    }
    // Nothing is older than the first revision: zero names none.
    let unnamed = revision.parse::<u64>().is_ok_and(|r| r == 0);
    if unnamed {
        meta::metadata(&mut object).remove("resourceVersion");
    }
    let unnamed = unnamed || revision.is_empty();
    let stored = plane.store.get(&get::key(resource, namespace, name));
    let exists = stored.is_some();
    let (asked, have) = (meta::uid(&object), stored.as_ref().map(|s| s.value()));
    let have = have.as_ref().map_or("", |v| meta::uid(v));
    if !asked.is_empty() && asked != have {
        return Err(another_uid(resource, resource.group_resource(), at, asked, have));
    }
    if !exists && part == Part::Main && unnamed && creates_on_update(resource) {
        return create(plane, user, resource, namespace, object, options).await.map(|o| (o, true));
    }
    if unnamed && needs_revision(resource) && exists {
        let e = FieldError {
            reason: "FieldValueInvalid",
            field: "metadata.resourceVersion".into(),
            message: "Invalid value: 0x0: must be specified for an update".into(),
        };
        // The resource stands where the kind usually does.
        return Err(Status::invalid(&resource.group, &resource.plural, name, &[e]));
    }
    let f = |_: &Value| Ok(object.clone());
    modify(plane, user, resource, at, part, options, f).await.map(|o| (o, false))
}

/// Whether an object says the name and the namespace under which it was sent.
///
/// # Errors
/// When it does not.
pub(crate) fn check_place(
    resource: &Resource,
    (namespace, name): (&str, &str),
    object: &Value,
) -> Result<(), Status> {
    let sent = meta::name(object);
    if sent != name {
        return Err(Status::bad_request(if sent.is_empty() {
            format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        } else {
            format!("the name of the object ({sent}) does not match the name on the URL ({name})")
        }));
    }
    let own = meta::namespace(object);
    if resource.namespaced && !own.is_empty() && own != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// The object under this name is not the one that was meant.
pub(crate) fn another_uid(
    resource: &Resource,
    shown: GroupResource<'_>,
    (namespace, name): (&str, &str),
    asked: &str,
    have: &str,
) -> Status {
    another(resource, shown, (namespace, name), "UID", (asked, have))
}

/// The object under this name is not as it was meant to be, as the store says it.
pub(crate) fn another(
    resource: &Resource,
    shown: GroupResource<'_>,
    (namespace, name): (&str, &str),
    what: &str,
    (asked, have): (&str, &str),
) -> Status {
    let folder = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "nodes") => "minions".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        (group @ ("apiextensions.k8s.io" | "apiregistration.k8s.io"), plural) => {
            format!("{group}/{plural}")
        }
        (group, plural) if resource.custom.is_some() => format!("{group}/{plural}"),
        (_, plural) => plural.to_owned(),
    };
    let place = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{folder}/{place}{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {asked}, {what} in object meta: {have}"
    );
    Status::conflict(shown, name, &why)
}

fn creates_on_update(resource: &Resource) -> bool {
    matches!(
        resource.plural.as_str(),
        "endpoints"
            | "events"
            | "leases"
            | "limitranges"
            | "runtimeclasses"
            | "services"
            | "roles"
            | "rolebindings"
            | "clusterroles"
            | "clusterrolebindings"
    ) && resource.custom.is_none()
}

fn needs_revision(resource: &Resource) -> bool {
    resource.custom.is_some()
        || matches!(
            resource.plural.as_str(),
            "leases"
                | "customresourcedefinitions"
                | "poddisruptionbudgets"
                | "runtimeclasses"
                | "csidrivers"
                | "csinodes"
                | "csistoragecapacities"
                | "volumeattachments"
                | "validatingwebhookconfigurations"
                | "mutatingwebhookconfigurations"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
        )
}

/// Changes an object by a function of its present state; tried again when somebody else was faster,
/// unless the function's result names the revision it was made for.
///
/// # Errors
/// Those of the function, and everything that Kubernetes refuses.
pub(crate) async fn modify(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    (namespace, name): (&str, &str),
    part: Part,
    options: &WriteOptions,
    f: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Outcome, Status> {
    for _ in 0..ATTEMPTS {
        let current = get::find(plane, resource, namespace, name)?;
        let mut old = get::with_kind(resource, &current);
        // What was stored when more was kept has not changed.
        if let Some(ty) = resource.schema {
            zeros::as_go_writes(ty, &mut old);
        }
        let sent = f(&old)?;
        let asked = meta::text(&sent, "/metadata/resourceVersion").to_owned();
        let fixed = !asked.is_empty() && asked != meta::text(&old, "/metadata/resourceVersion");
        if fixed {
            return Err(Status::modified(resource.group_resource(), name));
        }
        check_identity(resource, &sent, &old)?;
        let (new, held) = prepare(plane, user, resource, part, &sent, &old, options).await?;
        if options.dry_run {
            return Ok(Outcome::Dry(new));
        }
        match store(plane, resource, (namespace, name), &current, &new, held).await {
            Err(WriteError::Conflict) => {}
            Err(WriteError::Missing) => {
                return Err(Status::not_found(resource.group_resource(), name));
            }
            Err(e) => return Err(e.into()),
            Ok(outcome) => return Ok(outcome),
        }
    }
    Err(Status::modified(resource.group_resource(), name))
}

/// Writes the new state; an object that waited for its last finalizer goes.
async fn store(
    plane: &Plane,
    resource: &Resource,
    (namespace, name): (&str, &str),
    current: &std::sync::Arc<Stored>,
    new: &Value,
    held: Option<Held>,
) -> Result<Outcome, WriteError> {
    let key = get::key(resource, namespace, name);
    let draft = Draft::of(new).holding(held);
    if is_finished(resource, new) {
        plane.store.delete(key, current.revision).await?;
        return Ok(Outcome::Dry(new.clone()));
    }
    if draft.equals(current) {
        return Ok(Outcome::Stored(std::sync::Arc::clone(current)));
    }
    plane.store.put(key, Expect::Revision(current.revision), draft).await.map(Outcome::Stored)
}

/// Whether a terminating object has nothing left to wait for.
fn is_finished(resource: &Resource, object: &Value) -> bool {
    let grace =
        object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let namespace_waits = resource.table.as_ref() == "core/namespaces"
        && object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|f| !f.is_empty());
    meta::is_terminating(object) && meta::finalizers(object) == 0 && grace == 0 && !namespace_waits
}

fn check_identity(resource: &Resource, sent: &Value, old: &Value) -> Result<(), Status> {
    let uid = meta::uid(sent);
    if uid.is_empty() || uid == meta::uid(old) {
        return Ok(());
    }
    let e = FieldError::invalid("metadata.uid", &uid.into(), "field is immutable");
    Err(Status::invalid(&resource.group, &resource.kind, meta::name(old), &[e]))
}

/// Everything up to the write, and what is held until it is done.
async fn prepare(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    part: Part,
    sent: &Value,
    old: &Value,
    options: &WriteOptions,
) -> Result<(Value, Option<Held>), Status> {
    let mut new = sent.clone();
    body::defaults(resource, &mut new);
    meta::keep_identity(&mut new, old);
    if resource.custom.is_some() && resource.has_status() {
        crate::registry::core::split_status(&mut new, Some(old), part);
        if part == Part::Status {
            let managed = sent["metadata"].get("managedFields").cloned();
            new["metadata"] = old["metadata"].clone();
            if let Some(m) = managed {
                new["metadata"]["managedFields"] = m;
            }
        }
    }
    (resource.strategy.prepare)(&mut new, Some(old), part);
    new["kind"] = resource.kind.as_str().into();
    new["apiVersion"] = resource.api_version().into();
    // The addresses and ports that a service is given belong to nobody.
    let is_service = resource.table.as_ref() == "core/services" && part == Part::Main;
    let mut unallocated = is_service.then(|| new.clone());
    let held = admission::on_update(plane, user, resource, &mut new, old, part, options.dry_run)?;
    let write = Write {
        user,
        resource,
        namespace: meta::namespace(old),
        name: meta::name(old),
        operation: Operation::Update,
        part,
        dry_run: options.dry_run,
        old: Some(old),
    };
    if webhooks::mutate(plane, &write, &mut new).await? {
        unallocated = None;
        body::check(resource, &mut new)?;
        body::defaults(resource, &mut new);
        meta::keep_identity(&mut new, old);
        (resource.strategy.prepare)(&mut new, Some(old), part);
    }
    // What admission puts back has not changed.
    meta::count_generation(&mut new, old, resource, part);
    let mut errors = Vec::new();
    meta::validate(&new, resource, &mut errors);
    meta::validate_update(&new, old, &mut errors);
    meta::validate_kept(sent, old, &mut errors);
    validate(resource, &new, Some(old), part, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.group, &resource.kind, meta::name(old), &errors));
    }
    if part == Part::Main {
        options.told.set(warnings::of(resource, &new, Some(old)));
    }
    admission::validate_update(plane, resource, &new, old, part)?;
    webhooks::validate(plane, &write, Some(&new)).await?;
    if let Some(custom) = &resource.custom {
        custom.store(&mut new);
    }
    meta::metadata(&mut new)
        .insert("resourceVersion".into(), old["metadata"]["resourceVersion"].clone());
    match unallocated {
        Some(mut plain) => {
            plain["metadata"] = new["metadata"].take();
            apply::record_update(resource, &mut plain, old, part, options);
            new["metadata"] = plain["metadata"].take();
        }
        None => apply::record_update(resource, &mut new, old, part, options),
    }
    Ok((new, held))
}

//! create
//!
//! Owns: how a new object comes to be. Called by: the router, the controllers, apply.

use std::sync::Arc;

use serde_json::Value;

use super::auth::User;
use super::body::{self, WriteOptions};
use super::status::{FieldError, Status};
use super::webhooks::{self, Operation, Write};
use super::{admission, apply, get};
use crate::plane::Plane;
use crate::registry::{Part, Resource, meta, warnings};
use crate::store::{Draft, Expect, Held, Stored, WriteError};

/// What a write left behind.
pub(crate) enum Outcome {
    /// It is durable.
    Stored(Arc<Stored>),
    /// A dry run: what would be.
    Dry(Value),
}

impl Outcome {
    /// The object with its kind.
    pub(crate) fn value(&self, resource: &Resource) -> Value {
        match self {
            Self::Stored(s) => get::with_kind(resource, s),
            Self::Dry(v) => v.clone(),
        }
    }
}

/// How often a generated name may be taken already.
const NAME_ATTEMPTS: usize = 8;

/// Creates an object whose fields have been checked already.
///
/// # Errors
/// Everything that Kubernetes refuses.
pub(crate) async fn create(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    namespace: &str,
    object: Value,
    options: &WriteOptions,
) -> Result<Outcome, Status> {
    let own = meta::namespace(&object);
    if resource.namespaced && !own.is_empty() && own != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let generated = meta::name(&object).is_empty();
    for _ in 0..NAME_ATTEMPTS {
        let (new, held) =
            prepare(plane, user, resource, namespace, object.clone(), options).await?;
        let name = meta::name(&new).to_owned();
        let revision = meta::text(&object, "/metadata/resourceVersion").parse::<u64>();
        if !options.dry_run && revision.is_ok_and(|r| r != 0) {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Status::plain(why));
        }
        if options.dry_run {
            if plane.store.get(&get::key(resource, namespace, &name)).is_some() {
                return Err(taken(plane, resource, &object, (namespace, &name)));
            }
            return Ok(Outcome::Dry(new));
        }
        match plane
            .store
            .put(
                get::key(resource, namespace, &name),
                Expect::Absent,
                Draft::of(&new).holding(held),
            )
            .await
        {
            Ok(s) => return Ok(Outcome::Stored(s)),
            Err(WriteError::Exists) if generated => {}
            Err(WriteError::Exists) => {
                return Err(taken(plane, resource, &object, (namespace, &name)));
            }
            Err(e) => return Err(e.into()),
        }
    }
    let base = meta::text(&object, "/metadata/generateName");
    Err(taken(plane, resource, &object, (namespace, base)))
}

/// The name is taken, which for a name made from another says more, and of one that is going, too.
fn taken(plane: &Plane, resource: &Resource, object: &Value, at: (&str, &str)) -> Status {
    let mut status = Status::already_exists(resource.group_resource(), at.1);
    let there = plane.store.get(&get::key(resource, at.0, at.1));
    if there.is_some_and(|o| meta::is_terminating(&o.value())) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    if !meta::text(object, "/metadata/generateName").is_empty() {
        let more = ", the server was not able to generate a unique name for the object";
        status.message.push_str(more);
        status.retry_after = Some(1);
        if let Some(details) = &mut status.details {
            details["retryAfterSeconds"] = 1.into();
        }
    }
    status
}

/// Everything up to the write, and what is held until it is done.
async fn prepare(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    namespace: &str,
    mut new: Value,
    options: &WriteOptions,
) -> Result<(Value, Option<Held>), Status> {
    let applied = options.applying.then(|| new.clone());
    body::defaults(resource, &mut new);
    // What the server adds from here on belongs to nobody.
    let sent = new.clone();
    meta::stamp_new(&mut new, resource, namespace);
    if resource.custom.is_some() && resource.has_status() {
        new.as_object_mut().and_then(|m| m.remove("status"));
    }
    (resource.strategy.prepare)(&mut new, None, Part::Main);
    let held = admission::on_create(plane, user, resource, namespace, &mut new, options.dry_run)?;
    let name = meta::name(&new).to_owned();
    let write = Write {
        user,
        resource,
        namespace,
        name: &name,
        operation: Operation::Create,
        part: Part::Main,
        dry_run: options.dry_run,
        old: None,
    };
    if webhooks::mutate(plane, &write, &mut new).await? {
        body::check(resource, &mut new)?;
        body::defaults(resource, &mut new);
    }
    let mut errors = Vec::new();
    meta::validate(&new, resource, &mut errors);
    validate(resource, &new, None, Part::Main, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.group, &resource.kind, &shown_name(&new), &errors));
    }
    options.told.set(warnings::of(resource, &new, None));
    webhooks::validate(plane, &write, Some(&new)).await?;
    if let Some(custom) = &resource.custom {
        custom.store(&mut new);
    }
    apply::record_create(resource, &mut new, &sent, applied.as_ref(), options);
    Ok((new, held))
}

/// The name that error texts give: the generated one counts as unknown.
fn shown_name(new: &Value) -> String {
    meta::name(new).to_owned()
}

/// A kind's own rules, and the schema of custom kinds.
pub(crate) fn validate(
    resource: &Resource,
    new: &Value,
    old: Option<&Value>,
    part: Part,
    errors: &mut Vec<FieldError>,
) {
    (resource.strategy.validate)(new, old, part, errors);
    if let Some(custom) = &resource.custom {
        let before = errors.len();
        custom.check(new, old, errors);
        // To Kubernetes the body of a status begins with the status.
        for e in errors[before..].iter_mut().filter(|_| part == Part::Status) {
            if let Some(short) = e.field.strip_prefix("status.") {
                let (long, short) = (format!("{} in body", e.field), format!("{short} in body"));
                e.message = e.message.replace(&long, &short);
            }
        }
    }
}

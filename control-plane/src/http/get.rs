//! get
//!
//! Owns: one object by name. Called by: the router and every verb that starts from an object.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::status::Status;
use crate::plane::Plane;
use crate::registry::Resource;
use crate::store::{Key, Stored};

/// The key of an object of a resource.
pub(crate) fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
    Key::new(&resource.table, if resource.namespaced { namespace } else { "" }, name)
}

/// Finds an object.
///
/// # Errors
/// `NotFound`.
pub(crate) fn find(
    plane: &Plane,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<Arc<Stored>, Status> {
    plane
        .store
        .get(&key(resource, namespace, name))
        .ok_or_else(|| Status::not_found(resource.group_resource(), name))
}

/// An object's text: as it is stored, but for a custom object that is kept in another version or whose
/// definition has changed since.
pub(crate) fn text(resource: &Resource, stored: &Stored) -> Bytes {
    match &resource.custom {
        Some(custom) if custom.changes(stored.revision) => {
            let before = stored.value();
            let mut now = before.clone();
            custom.read(&mut now);
            if now == before { stored.text.clone() } else { now.to_string().into() }
        }
        _ => stored.text.clone(),
    }
}

/// An object as clients see it: with its kind.
pub(crate) fn with_kind(resource: &Resource, stored: &Stored) -> Value {
    let mut v = stored.value();
    if let Some(custom) = resource.custom.as_ref().filter(|c| c.changes(stored.revision)) {
        custom.read(&mut v);
    }
    v["kind"] = resource.kind.as_str().into();
    v["apiVersion"] = resource.api_version().into();
    v
}

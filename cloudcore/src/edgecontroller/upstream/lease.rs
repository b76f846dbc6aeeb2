//! The lease with which a node says that it lives.

use api::names::{Kind, NodeName};
use api::raw::RawJson;
use serde_json::{Value, json as value};

use super::{Context, Done, json, refused};
use crate::apiserver::{ApiError, Patch, Path};
use crate::cloudhub::authorizer::LEASES;

fn collection() -> Result<Path, ApiError> {
    Path::collection(&Kind::Lease, Some(LEASES))
}

fn read(lease: &RawJson) -> Result<Value, ApiError> {
    let bad = || refused(400, "BadRequest", "the content is not a Lease");
    let lease: Value = lease.to().map_err(|_| bad())?;
    if lease["metadata"].is_object() && lease["spec"].is_object() { Ok(lease) } else { Err(bad()) }
}

/// Creates it, whatever namespace the edge has written into it.
pub(super) async fn create(
    cx: &Context,
    name: &NodeName,
    lease: &RawJson,
) -> Result<Done, ApiError> {
    let mut lease = read(lease)?;
    lease["apiVersion"] = "coordination.k8s.io/v1".into();
    lease["kind"] = "Lease".into();
    lease["metadata"]["name"] = name.as_str().into();
    lease["metadata"]["namespace"] = LEASES.into();
    cx.api.create(&collection()?, &json(&lease)).await.map(Done::object)
}

/// Renews it. A merge patch without a version: nobody else holds a node's lease, so whatever the
/// edge knew of it before a cut does not matter.
pub(super) async fn renew(
    cx: &Context,
    name: &NodeName,
    lease: &RawJson,
) -> Result<Done, ApiError> {
    let path = collection()?.named(name.as_str())?;
    cx.api.patch(&path, Patch::Merge, &json(&renewal(&read(lease)?))).await.map(Done::object)
}

fn renewal(lease: &Value) -> Value {
    let mut patch = value!({ "spec": lease["spec"] });
    let owners = &lease["metadata"]["ownerReferences"];
    if owners.is_array() {
        patch["metadata"] = value!({ "ownerReferences": owners });
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_carries_no_version_that_could_conflict() {
        let lease = value!({
            "metadata": {"name": "edge-1", "resourceVersion": "7", "ownerReferences": [{"uid": "u"}]},
            "spec": {"renewTime": "2026-09-21T14:13:20.123456Z"},
        });
        assert_eq!(
            renewal(&read(&json(&lease)).unwrap()),
            value!({
                "metadata": {"ownerReferences": [{"uid": "u"}]},
                "spec": {"renewTime": "2026-09-21T14:13:20.123456Z"},
            })
        );
        assert!(read(&RawJson::null()).is_err());
    }
}

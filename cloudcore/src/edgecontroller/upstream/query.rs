//! Reads: what the node's pods use, and what belongs to the node.

use api::names::{Kind, NodeName, ObjectKey};
use serde::Deserialize;

use super::{Context, Done, forbidden};
use crate::apiserver::{ApiError, Path};
use crate::cloudhub::authorizer;
use crate::object::Object;

/// Reads one. Leases are answered in their wrapper, everything else bare.
pub(super) async fn read(
    cx: &Context,
    node: &NodeName,
    key: &ObjectKey,
    check: bool,
) -> Result<Done, ApiError> {
    let object = cx.api.get(&Path::object(key)?).await?;
    if check && !belongs(node, key, &object) {
        return Err(forbidden("it does not belong to this node"));
    }
    if key.kind == Kind::Lease {
        return Ok(Done::object(object));
    }
    // Complete with kind and version, and without what only the API server needs.
    match Object::read(key.kind.clone(), object.get()) {
        Ok(object) => Ok(Done::plain(object.text)),
        Err(_) => Ok(Done::plain(object)),
    }
}

/// Whether an object that no index knows is the node's.
fn belongs(node: &NodeName, key: &ObjectKey, object: &api::raw::RawJson) -> bool {
    #[derive(Deserialize)]
    struct Bound {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: Option<String>,
    }
    match key.kind {
        // Names and parameters of volumes; their secrets are apart and are not given.
        Kind::PersistentVolume => true,
        Kind::VolumeAttachment | Kind::Pod => {
            let bound = object.to::<Bound>().ok().and_then(|b| b.spec.node_name);
            bound.as_deref() == Some(node.as_str())
        }
        Kind::CertificateSigningRequest => authorizer::is_own_csr(node, object),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use api::raw::RawJson;

    use super::*;

    #[test]
    fn an_attachment_and_a_pod_belong_to_the_node_that_they_name() {
        let object = RawJson::parse(r#"{"spec":{"nodeName":"edge-1"}}"#.to_owned()).unwrap();
        let key = "default/volumeattachment/va".parse().unwrap();
        assert!(belongs(&"edge-1".parse().unwrap(), &key, &object));
        assert!(!belongs(&"edge-2".parse().unwrap(), &key, &object));
        assert!(!belongs(&"edge-1".parse().unwrap(), &key, &RawJson::null()));
    }
}

//! Certificate signing requests of nodes, at the API server.

use api::names::{Kind, ObjectKey};
use api::raw::RawJson;
use serde_json::Value;

use super::{Context, Done, json, refused};
use crate::apiserver::{ApiError, Path};

/// Creates one. Whether it is approved is for the cluster's own policy.
pub(super) async fn create(cx: &Context, key: &ObjectKey, csr: &RawJson) -> Result<Done, ApiError> {
    let bad = || refused(400, "BadRequest", "the content is not a CertificateSigningRequest");
    let mut csr: Value = csr.to().map_err(|_| bad())?;
    let root = csr.as_object_mut().ok_or_else(bad)?;
    root.insert("apiVersion".to_owned(), "certificates.k8s.io/v1".into());
    root.insert("kind".to_owned(), "CertificateSigningRequest".into());
    let metadata = root.get("metadata").and_then(Value::as_object).ok_or_else(bad)?;
    let generated = metadata.get("generateName").is_some_and(|g| g.as_str() != Some(""));
    let named = metadata.get("name").and_then(Value::as_str);
    if !generated && named != Some(&key.name) {
        return Err(refused(400, "BadRequest", "the object bears another name than the message"));
    }
    let collection = Path::collection(&Kind::CertificateSigningRequest, None)?;
    cx.api.create(&collection, &json(&csr)).await.map(Done::object)
}

//! The objects that every cluster has.
//!
//! Owns: the default namespaces, the service `kubernetes`. Called by: `prepare`, at the start.

use std::sync::Arc;

use futures::future::{try_join, try_join_all};
use serde_json::{Value, json};

use crate::bootstrap::SERVICE_IP;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::create::create;
use crate::http::status::Status;
use crate::plane::Plane;

/// The namespaces that are always there.
pub(crate) const NAMESPACES: [&str; 4] =
    ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates an object unless it is there.
///
/// # Errors
/// Everything that Kubernetes refuses, but for an object that exists.
pub(crate) async fn ensure_object(
    plane: &Plane,
    group: &str,
    plural: &str,
    namespace: &str,
    mut object: Value,
) -> Result<bool, Status> {
    let resource = plane.registry.builtin(group, plural);
    object["kind"] = resource.kind.as_str().into();
    object["apiVersion"] = resource.api_version().into();
    let user = User::internal("apiserver");
    let options = WriteOptions { manager: "kube-apiserver".into(), ..WriteOptions::default() };
    match create(plane, &user, &resource, namespace, object, &options).await {
        Ok(_) => Ok(true),
        Err(e) if e.reason == "AlreadyExists" => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes what is missing; all at once, so that it costs two commits.
///
/// # Errors
/// When the store refuses to write.
pub(crate) async fn ensure(plane: &Arc<Plane>) -> Result<(), Status> {
    let namespaces = NAMESPACES
        .map(|n| ensure_object(plane, "", "namespaces", "", json!({"metadata": {"name": n}})));
    try_join(try_join_all(namespaces), super::policy::ensure(plane)).await?;
    let service = json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": SERVICE_IP, "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": plane.address.port()}]},
    });
    // As Kubernetes publishes it for servers that trust the same client certificates.
    let authentication = json!({
        "metadata": {"name": "extension-apiserver-authentication"},
        "data": {"client-ca-file": plane.ca_pem},
    });
    let published = ensure_object(plane, "", "configmaps", "kube-system", authentication);
    let accounts = NAMESPACES.map(|n| super::accounts::ensure(plane, n));
    let service = ensure_object(plane, "", "services", "default", service);
    try_join(try_join_all(accounts), try_join(service, published)).await?;
    Ok(())
}

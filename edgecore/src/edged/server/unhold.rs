//! Lets go pods that are held back, for whoever is on this machine and may do it.
//!
//! Owns: KubeEdge's MetaServer's paths for that.
//! Called by: `mod.rs`, once it knows that the caller may.
//! Never: starts a pod; edged does.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::{logread, podspec};
use super::{Api, Body, Refusal, json_body, refuse};

/// A namespace and a name, or the name of a node.
const BODY_LIMIT: usize = 1024;
/// A body of so few bytes comes at once.
const BODY_WITHIN: Duration = Duration::from_secs(10);

impl Api {
    /// `POST /api/v1/pods/unhold-upgrade` with `NAMESPACE/NAME`, or `/api/v1/nodes/unhold-upgrade` with
    /// this node's name or nothing; `?dryRun=true` only says which pods it would be.
    pub(super) async fn unhold(
        &self,
        request: &mut Request<Incoming>,
        what: &str,
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        if *request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "this is asked for with POST");
        }
        let named = body(request).await?;
        let found = match (what, named.trim().split_once('/')) {
            ("pods", Some((namespace, name))) => self.one_held(namespace, name)?,
            ("pods", None) => {
                return refuse(StatusCode::BAD_REQUEST, "a pod is named as NAMESPACE/NAME");
            }
            _ if named.trim().is_empty() || named.trim() == &*self.node => self.held.find(None),
            _ => {
                let why = format!("this is node \"{}\"; it is named in the body", self.node);
                return refuse(StatusCode::NOT_FOUND, why);
            }
        };
        let dry = logread::form(query).iter().any(|(n, v)| n == "dryRun" && v == "true");
        let mut pods: Vec<Value> = Vec::new();
        for pod in found {
            if !dry {
                let folder = self.shared.site.pod_dir(podspec::uid(&pod));
                self.held.let_go(&pod, &folder).await.or_else(|e| {
                    refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot note it: {e}"))
                })?;
                tracing::info!(pod = podspec::full_name(&pod), "a held pod is let go");
            }
            pods.push(json!({"namespace": podspec::namespace(&pod), "pod": podspec::name(&pod)}));
        }
        Ok(json_body(&json!({ "dryRun": dry, "pods": pods })))
    }

    fn one_held(&self, namespace: &str, name: &str) -> Result<Vec<Arc<Pod>>, Refusal> {
        let found = self.held.find(Some((namespace, name)));
        if !found.is_empty() {
            return Ok(found);
        }
        match self.directory.find(namespace, name) {
            Some(_) => refuse(StatusCode::BAD_REQUEST, format!("pod \"{name}\" is not held back")),
            None => refuse(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist")),
        }
    }
}

async fn body(request: &mut Request<Incoming>) -> Result<String, Refusal> {
    let wrong = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let read = Limited::new(request.body_mut(), BODY_LIMIT).collect();
    let read = tokio::time::timeout(BODY_WITHIN, read).await;
    let read = read.map_err(|_| wrong("no body came".to_owned()))?;
    let read = read.map_err(|e| wrong(e.to_string()))?.to_bytes();
    String::from_utf8(read.to_vec()).map_err(|e| wrong(e.to_string()))
}

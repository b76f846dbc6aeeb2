//! The restart of a pod's containers, for whoever is on this machine and may do it.
//!
//! Owns: which containers are stopped; edged starts them anew, as after any other end.
//! Called by: `mod.rs`, once it knows that the caller may.
//! Never: starts a container, or stops one that would not come back.

use http::{Method, Response, StatusCode};
use serde_json::json;

use super::super::logread;
use super::super::podspec::{self, Role};
use super::super::runtime::{ContainerState, SeenContainer};
use super::{Api, Body, Refusal, json_body, refuse};

impl Api {
    /// `POST /restart/NAMESPACE/POD`; `?dryRun=true` only says which containers it would be.
    pub(super) async fn restart(
        &self,
        method: &Method,
        path: &[String],
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        if method != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "a restart is asked for with POST");
        }
        let [_, namespace, name] = path else {
            return refuse(StatusCode::NOT_FOUND, "404 page not found");
        };
        let Some(pod) = self.directory.find(namespace, name) else {
            return refuse(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist"));
        };
        if podspec::is_deleted(&pod) || podspec::is_over(&pod) {
            return refuse(StatusCode::CONFLICT, format!("pod \"{name}\" has ended, or is ending"));
        }
        let policy = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        if policy == Some("Never") {
            let why = format!("the containers of pod \"{name}\" have restartPolicy Never");
            return refuse(StatusCode::CONFLICT, why);
        }
        let dry = logread::form(query).iter().any(|(n, v)| n == "dryRun" && v == "true");
        let unavailable = |e: super::super::runtime::RuntimeError| {
            Refusal(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
        };
        let listing =
            self.shared.runtime.list(Some(podspec::uid(&pod))).await.map_err(unavailable)?;
        let main = |c: &SeenContainer| {
            c.state == ContainerState::Running
                && podspec::container(&pod, &c.name).is_some_and(|(_, role)| role == Role::Main)
        };
        let running: Vec<SeenContainer> = listing.containers.into_iter().filter(main).collect();
        if running.is_empty() {
            let why = format!("no container of pod \"{name}\" is running");
            return refuse(StatusCode::CONFLICT, why);
        }
        let grace = podspec::grace(&pod);
        if !dry {
            let all = running.iter().map(|c| self.shared.runtime.stop_container(&c.id, grace));
            futures::future::try_join_all(all).await.map_err(unavailable)?;
            tracing::info!(namespace, pod = name, containers = running.len(), "restarting a pod");
        }
        let names: Vec<&str> = running.iter().map(|c| c.name.as_str()).collect();
        Ok(json_body(&json!({ "namespace": namespace, "pod": name, "containers": names })))
    }
}

//! Upgrades of this node, for whoever is on this machine, or in the cloud, and may do it.
//!
//! Owns: the paths below `/api/v1/taskupgrade/`, of which `confirm-upgrade` is KubeEdge's MetaServer's.
//! Called by: `mod.rs`, once it knows that the caller may.
//! Never: upgrades; the task manager does.

use http::{Method, Response, StatusCode};
use serde_json::json;

use super::super::logread;
use super::{Api, Body, Refusal, json_body, refuse};
use crate::taskmanager::NONE_WAITS;

impl Api {
    /// `POST /api/v1/taskupgrade/confirm-upgrade` lets the upgrade that waits go on; `?dryRun=true`
    /// only says which one that would be.
    /// `POST /api/v1/taskupgrade/fetch?version=..&image=..&digest=..` gets a program out of an image.
    pub(super) async fn upgrade(
        &self,
        method: &Method,
        what: &str,
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        if method != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "this is asked for with POST");
        }
        let jobs = self.shared.cluster.jobs();
        let form = logread::form(query);
        let of = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        match what {
            "confirm-upgrade" => {
                let Some(jobs) = jobs else { return refuse(StatusCode::BAD_REQUEST, NONE_WAITS) };
                let dry = of("dryRun") == Some("true");
                match jobs.confirm(dry).await {
                    Ok(job) => {
                        Ok(json_body(&json!({ "job": job, "dryRun": dry, "confirmed": !dry })))
                    }
                    Err(why) if why == NONE_WAITS => refuse(StatusCode::BAD_REQUEST, why),
                    Err(why) => refuse(StatusCode::INTERNAL_SERVER_ERROR, why),
                }
            }
            "fetch" => {
                let Some(jobs) = jobs else {
                    let why = "node jobs are switched off here: `modules.taskManager.enable`";
                    return refuse(StatusCode::CONFLICT, why);
                };
                let (version, image) = (of("version").unwrap_or(""), of("image").unwrap_or(""));
                match jobs.fetch(version, image, of("digest").map(str::to_owned)).await {
                    Ok(program) => Ok(json_body(&json!({ "program": program }))),
                    Err(why) => refuse(StatusCode::UNPROCESSABLE_ENTITY, why),
                }
            }
            _ => refuse(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }
}

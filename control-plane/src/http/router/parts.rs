//! Requests for a part of an object: its status, its scale, or what is done to it.
//!
//! Owns: which verbs a subresource has, and what each does. Called by: the router.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::Call;
use crate::http::body::{self, WriteOptions};
use crate::http::create::Outcome;
use crate::http::request::Accept;
use crate::http::response::{self, Response};
use crate::http::status::Status;
use crate::http::update::{check_place, update};
use crate::http::{evict, get, kubelet, patch, subresource};
use crate::registry::{Part, Resource, meta};

impl Call<'_> {
    pub(super) async fn subresource(
        &self,
        resource: &Arc<Resource>,
        verb: &str,
        accept: Accept,
        body: &Bytes,
    ) -> Result<Response, Status> {
        let t = self.target;
        let (plane, user, at) = (self.plane, self.user, (t.namespace.as_str(), t.name.as_str()));
        let sub = match resource.subresource(&t.subresource) {
            Some(sub) => sub,
            // To Kubernetes a custom resource has any part, but this object has none.
            None if resource.custom.is_some() => {
                return Err(Status::not_found(resource.group_resource(), &t.name));
            }
            None => return Err(Status::no_such_path()),
        };
        if !sub.verbs.contains(&verb) {
            return Err(Status::no_such_method());
        }
        if matches!(sub.name, "attach" | "exec" | "log" | "portforward") {
            return kubelet::relay(plane, self.parts, t, self.query).await;
        }
        let options = WriteOptions::read(&self.parts.method, self.query, &self.parts.headers)?;
        match sub.name {
            "status" | "approval" | "ephemeralcontainers" | "finalize" => {
                self.part(resource, verb, accept, body, &options).await
            }
            "scale" => self.scale(resource, verb, accept, body, &options).await,
            name => {
                let kind = plane.registry.body(match name {
                    "binding" => "Binding",
                    "eviction" => "Eviction",
                    _ => "TokenRequest",
                });
                let mut parsed = body::parse_as(&kind, &self.parts.headers, body)?;
                let warnings = self.object_of(&kind, &mut parsed, body, &options)?;
                let said = meta::name(&parsed.value);
                let own = meta::namespace(&parsed.value);
                if !own.is_empty() && own != t.namespace {
                    return Err(Status::bad_request(
                        "the namespace of the provided object does not match the namespace sent on the request",
                    ));
                }
                if name != "token" && said != t.name {
                    let why = format!("name in URL does not match name in {} object", kind.kind);
                    return Err(Status::bad_request(why));
                }
                let failed = |s: Status| s.warned(&warnings);
                let v = match name {
                    "binding" => subresource::bind(plane, user, at, &parsed.value, &options)
                        .await
                        .map_err(failed)?,
                    "eviction" => evict::evict(plane, user, at, &parsed.value, &options)
                        .await
                        .map_err(failed)?,
                    _ => subresource::token(plane, user, at, &parsed.value).map_err(failed)?,
                };
                let mut r = response::value(StatusCode::CREATED, &v);
                response::warn(&mut r, &warnings);
                Ok(r)
            }
        }
    }

    /// A subresource that is a part of the object.
    async fn part(
        &self,
        resource: &Arc<Resource>,
        verb: &str,
        accept: Accept,
        body: &Bytes,
        options: &WriteOptions,
    ) -> Result<Response, Status> {
        let t = self.target;
        let at = (t.namespace.as_str(), t.name.as_str());
        if verb == "get" {
            let found = get::find(self.plane, resource, at.0, at.1)?;
            return Ok(self.object(StatusCode::OK, resource, &Outcome::Stored(found), accept));
        }
        let part = match t.subresource.as_str() {
            "approval" => Part::Approval,
            "ephemeralcontainers" => Part::Ephemeral,
            "finalize" => Part::Finalize,
            _ => Part::Status,
        };
        let (outcome, warnings) = if verb == "patch" {
            let (o, _, w) = patch::patch(
                self.plane,
                self.user,
                resource,
                at,
                part,
                (&self.parts.headers, body),
                options,
            )
            .await?;
            (o, w)
        } else {
            let mut parsed = body::parse(&self.parts.headers, body)?;
            let w = self.object_of(resource, &mut parsed, body, options)?;
            let (o, _) = update(self.plane, self.user, resource, at, part, parsed.value, options)
                .await
                .map_err(|s| s.warned(&w))?;
            (o, w)
        };
        let mut r = self.object(StatusCode::OK, resource, &outcome, accept);
        response::warn(&mut r, &warnings);
        Ok(r)
    }

    async fn scale(
        &self,
        resource: &Arc<Resource>,
        verb: &str,
        accept: Accept,
        body: &Bytes,
        options: &WriteOptions,
    ) -> Result<Response, Status> {
        let t = self.target;
        let at = (t.namespace.as_str(), t.name.as_str());
        let (headers, kind) = (&self.parts.headers, self.plane.registry.body("Scale"));
        let content_type = patch::content_type(headers);
        let (warnings, o) = if verb == "get" {
            (Vec::new(), Outcome::Stored(get::find(self.plane, resource, at.0, at.1)?))
        } else if verb == "patch" && content_type == patch::APPLY {
            subresource::apply_scale(self.plane, self.user, resource, at, body, options).await?
        } else if verb == "patch" {
            let strategic = content_type == patch::STRATEGIC && resource.custom.is_some();
            let parent = if strategic { resource } else { &kind };
            let (steps, surplus) = patch::read(parent, content_type, body)?;
            let change = |old: &Value| {
                patch::patched(&steps, &surplus, old, &kind, options.validation).map(|(v, _)| v)
            };
            (Vec::new(), self.rescale(resource, options, change).await?)
        } else {
            let mut sent = body::parse_as(&kind, headers, body)?;
            let warnings = self.object_of(&kind, &mut sent, body, options)?;
            check_place(&kind, at, &sent.value)?;
            (warnings, self.rescale(resource, options, |_| Ok(sent.value.clone())).await?)
        };
        let scale = Outcome::Dry(subresource::scale_of(resource, &o.value(resource)));
        let mut r = self.object(StatusCode::OK, &kind, &scale, accept);
        response::warn(&mut r, &warnings);
        Ok(r)
    }

    async fn rescale(
        &self,
        resource: &Resource,
        options: &WriteOptions,
        change: impl Fn(&Value) -> Result<Value, Status>,
    ) -> Result<Outcome, Status> {
        let at = (self.target.namespace.as_str(), self.target.name.as_str());
        subresource::set_scale(self.plane, self.user, resource, at, options, change).await
    }
}

//! From a request to its verb.
//!
//! Owns: the order of things: who is it, what does it want, may it, does that exist, do it.
//! Called by: the server, once per request.

mod parts;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::auth::{self, User};
use super::body::{self, WriteOptions};
use super::create::{Outcome, create};
use super::delete::{self, DeleteOptions, Deleted};
use super::list::{self, ListOptions, Page};
use super::rbac::{self, Attributes};
use super::request::{Accept, Form, Offer, Query, Target, accept, accept_of, target};
use super::response::{self, Response};
use super::status::Status;
use super::table::{self, Include};
use super::update::update;
use super::{apply, discovery, get, openapi, patch, reviews, subresource, swagger, watch};
use crate::backup;
use crate::plane::Plane;
use crate::registry::selectors::FieldSelector;
use crate::registry::{Part, Resource, meta};
use crate::store::Stored;

/// Answers a request.
pub(crate) async fn handle<B>(
    plane: Arc<Plane>,
    peer: Option<Arc<User>>,
    request: http::Request<B>,
) -> Response
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut parts, body) = request.into_parts();
    if let Err(status) = auth::take_token_of_websocket(&mut parts.headers) {
        return response::failure(&status, Accept::PLAIN);
    }
    match route(&plane, peer.as_deref(), &parts, body).await {
        Ok(r) => r,
        Err(status) => {
            tracing::debug!(method = %parts.method, path = parts.uri.path(), code = status.code, reason = status.reason, "refused");
            let yaml = accept(&parts.headers).is_ok_and(|a| a.yaml);
            response::failure(&status, Accept { yaml, ..Accept::PLAIN })
        }
    }
}

async fn route<B>(
    plane: &Arc<Plane>,
    peer: Option<&User>,
    parts: &Parts,
    body: B,
) -> Result<Response, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = parts.uri.path();
    if let Some(r) = open_to_all(plane, parts, path) {
        return Ok(r);
    }
    let user = auth::authenticate(plane, peer, &parts.headers)?.ok_or_else(Status::unauthorized)?;
    let user = match auth::impersonate(plane, user, &parts.headers) {
        // Kubernetes fails here before it could answer in its own form.
        Err(s) if s.code == 500 => {
            let said = format!("Internal Server Error: \"{path}\": {}\n", s.message);
            return Ok(response::text(StatusCode::INTERNAL_SERVER_ERROR, said));
        }
        user => user?,
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    match target(path) {
        Some(t) => {
            let call = Call { plane, user: &user, parts, query: &query, target: &t };
            let seat = if call.is_endless() {
                None
            } else {
                Some(plane.seats.request(call.verb()).await?)
            };
            let deprecated = deprecation(plane, &t);
            let mut answer = call.resource(body).await.map_err(|s| s.warned(&deprecated))?;
            response::warn(&mut answer, &deprecated);
            Ok(answer.map(|b| b.seated(seat)))
        }
        None => not_a_resource(plane, &user, parts, path).await,
    }
}

/// What everybody is told who uses a kind or version that is to go.
fn deprecation(plane: &Plane, t: &Target) -> Vec<String> {
    if t.group.is_empty() {
        let old = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
        return if t.resource == "endpoints" { vec![old.to_owned()] } else { Vec::new() };
    }
    let snapshot = plane.kinds();
    let found = snapshot.find(&t.group, &t.version, &t.resource);
    found.and_then(|r| r.custom.as_ref()?.deprecated.clone()).into_iter().collect()
}

/// What needs no identity.
fn open_to_all(plane: &Plane, parts: &Parts, path: &str) -> Option<Response> {
    let probed = matches!(parts.method, Method::GET | Method::HEAD);
    match path {
        "/livez" | "/healthz" | "/readyz" if probed => Some(health(plane, parts, &path[1..])),
        "/version" | "/version/" if parts.method == Method::GET => {
            Some(response::value(StatusCode::OK, &discovery::version()))
        }
        _ => None,
    }
}

/// How the server is: `ok`, or what is not; each check by itself with `?verbose`.
fn health(plane: &Plane, parts: &Parts, name: &str) -> Response {
    let bad = if name == "readyz" { plane.not_ready() } else { None };
    let verbose = Query::parse(parts.uri.query().unwrap_or_default()).flag("verbose");
    match bad {
        Some(why) => response::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("[+]ping ok\n[-]{why}\n{name} check failed\n"),
        ),
        None if verbose => {
            let store = if name == "readyz" { "[+]database ok\n" } else { "" };
            response::text(StatusCode::OK, format!("[+]ping ok\n{store}{name} check passed\n"))
        }
        None => response::text(StatusCode::OK, "ok"),
    }
}

/// What is nothing that there is.
fn not_found() -> Response {
    response::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Copies the database to a file in the data folder, for `keadm backup` on this machine.
async fn copy_database(plane: &Plane) -> Result<Response, Status> {
    let to = backup::new_copy(&plane.data_dir).map_err(|e| Status::internal(&e.to_string()))?;
    plane.store.backup(&to).await?;
    Ok(response::value(StatusCode::CREATED, &json!({"file": to.to_string_lossy()})))
}

async fn not_a_resource(
    plane: &Plane,
    user: &User,
    parts: &Parts,
    path: &str,
) -> Result<Response, Status> {
    let verb = parts.method.as_str().to_lowercase();
    rbac::require(plane, user, &Attributes { verb: &verb, path, ..Attributes::default() })?;
    if parts.method == Method::POST && path == backup::PATH {
        return copy_database(plane).await;
    }
    // Some are answered whatever is wanted of them, others are only read.
    if let "/livez" | "/healthz" | "/readyz" = path {
        return Ok(health(plane, parts, &path[1..]));
    }
    if let "/livez/ping" | "/healthz/ping" | "/readyz/ping" = path {
        return Ok(response::text(StatusCode::OK, "ok"));
    }
    let read = parts.method == Method::GET;
    if let "/version" | "/version/" = path {
        return if read {
            Ok(response::value(StatusCode::OK, &discovery::version()))
        } else {
            Err(Status::no_such_method())
        };
    }
    if let Some(r) = discovery::serve(plane, path, &parts.headers)? {
        return if read || path == "/" { Ok(r) } else { Err(Status::no_such_method()) };
    }
    if path == "/index.html" {
        return Ok(discovery::serve(plane, "/", &parts.headers)?.unwrap_or_else(not_found));
    }
    let described =
        openapi::serve(plane, path, parts).or_else(|| swagger::serve(plane, path, parts));
    if let Some(r) = described {
        return Ok(r);
    }
    if path
        .strip_prefix("/api/")
        .is_some_and(|version| !version.trim_end_matches('/').contains('/'))
    {
        return Err(Status::no_such_path());
    }
    if let ["", "apis", group, _] = path.split('/').collect::<Vec<_>>()[..]
        && plane.kinds().resources.iter().any(|r| r.group == group && r.custom.is_none())
    {
        return Err(Status::no_such_path());
    }
    match path {
        "/openid/v1/jwks" => Ok(response::value(StatusCode::OK, &plane.signer.key_set())),
        "/.well-known/openid-configuration" => Ok(response::value(
            StatusCode::OK,
            &json!({"issuer": super::tokens::ISSUER, "jwks_uri": format!("{}/openid/v1/jwks", super::tokens::ISSUER),
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]}),
        )),
        _ => Ok(not_found()),
    }
}

struct Call<'a> {
    plane: &'a Arc<Plane>,
    user: &'a User,
    parts: &'a Parts,
    query: &'a Query,
    target: &'a Target,
}

impl Call<'_> {
    /// What is wanted; nothing if there is no name for it.
    fn verb(&self) -> &'static str {
        let named = !self.target.name.is_empty();
        // A get of one object is a get, whatever the query says.
        let watching = self.target.watch || (!named && self.query.flag("watch"));
        match self.parts.method {
            _ if self.target.watch => "watch",
            Method::GET | Method::HEAD if watching && self.target.subresource.is_empty() => "watch",
            Method::GET | Method::HEAD if named => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ => "",
        }
    }

    /// Whether it goes on until somebody ends it.
    fn is_endless(&self) -> bool {
        let streams = ["attach", "exec", "log", "portforward"];
        self.verb() == "watch" || streams.contains(&self.target.subresource.as_str())
    }

    async fn resource<B>(&self, body: B) -> Result<Response, Status>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let t = self.target;
        let verb = self.verb();
        // `namespaces/x` is about the namespace x, also to whoever grants access in it.
        let namespace =
            if t.group.is_empty() && t.resource == "namespaces" { &t.name } else { &t.namespace };
        // A selector that asks for one name asks for that object, also where names count.
        let fields = match verb {
            "list" | "watch" | "deletecollection" => {
                FieldSelector::parse(self.query.get("fieldSelector").unwrap_or_default())
                    .unwrap_or_default()
            }
            _ => FieldSelector::default(),
        };
        let named = Some(t.name.as_str()).filter(|n| !n.is_empty());
        rbac::require(
            self.plane,
            self.user,
            &Attributes {
                verb,
                group: &t.group,
                resource: &t.resource,
                // What is behind it (`proxy/a/b`) is the subresource's own.
                subresource: t.subresource.split('/').next().unwrap_or_default(),
                namespace,
                name: named.or(fields.exact("metadata.name")).unwrap_or_default(),
                path: "",
                node: fields.exact("spec.nodeName").unwrap_or_default(),
            },
        )?;
        let snapshot = self.plane.kinds();
        if snapshot.in_version(&t.group, &t.version).next().is_none() {
            if snapshot.resources.iter().any(|r| r.group == t.group && r.custom.is_none()) {
                return Err(Status::no_such_path());
            }
            return Ok(not_found());
        }
        let resource =
            snapshot.find(&t.group, &t.version, &t.resource).ok_or_else(Status::no_such_path)?;
        let outside =
            resource.namespaced && t.namespace.is_empty() && !matches!(verb, "list" | "watch");
        if resource.custom.is_some() && (outside || !resource.namespaced && !t.namespace.is_empty())
        {
            return Ok(not_found());
        }
        if outside {
            return Err(if t.name.is_empty() {
                Status::no_such_method()
            } else {
                Status::no_such_path()
            });
        }
        if matches!(verb, "update" | "patch") && t.name.is_empty() {
            return Err(Status::no_such_method());
        }
        if !resource.namespaced && !t.namespace.is_empty() {
            return Err(Status::no_such_path());
        }
        let reads = self.parts.method == Method::GET;
        if verb.is_empty() || self.parts.method == Method::HEAD || t.watch && !reads {
            return Err(Status::no_such_method());
        }
        if let Some(why) = wrong_segment(&t.name) {
            let why = format!("Name parameter invalid: {:?}: {why}", t.name);
            return Err(Status::bad_request(why));
        }
        let accept = accept_of(
            &self.parts.headers,
            match verb {
                "watch" => Offer::Watch,
                // What is only answered and never stored, as reviews are, has no columns.
                _ if resource.verbs == ["create"] => Offer::NoTable,
                _ => Offer::All,
            },
        )?;
        if accept.form == Form::Table {
            Include::check(self.query)?;
        }
        if !t.subresource.is_empty() {
            let body = body::read(body, self.plane.limits.body).await?;
            return self.subresource(resource, verb, accept, &body).await;
        }
        if !resource.can(verb) {
            return Err(Status::no_such_method());
        }
        match verb {
            "watch" => {
                // A watch of one name is a watch with a selector.
                let query = self.with_name();
                watch::watch(
                    self.plane,
                    resource,
                    &t.namespace,
                    query.as_ref().unwrap_or(self.query),
                    accept,
                )
                .await
            }
            "list" => {
                let options = ListOptions::read(resource, self.query)?;
                if accept.form == Form::Metadata {
                    let kind = resource.go_type(&resource.list_kind);
                    return Err(Status::wrong_form("PartialObjectMetadata", "a list", &kind));
                }
                let page = list::list(self.plane, resource, &t.namespace, &options).await?;
                Ok(self.list(resource, &page, accept))
            }
            "get" => {
                if let Some(r) = list::revision(self.query).map_err(list::found_late)? {
                    list::wait_for(self.plane, r).await?;
                }
                let found = get::find(self.plane, resource, &t.namespace, &t.name)?;
                if accept.form == Form::MetadataList {
                    let (form, kind) =
                        ("PartialObjectMetadataList", resource.go_type(&resource.kind));
                    return Err(Status::wrong_form(form, "not a list", &kind));
                }
                Ok(self.object(StatusCode::OK, resource, &Outcome::Stored(found), accept))
            }
            _ => {
                let body = body::read(body, self.plane.limits.body).await?;
                self.write(resource, verb, accept, &body).await
            }
        }
    }

    fn with_name(&self) -> Option<Query> {
        let name = Some(&self.target.name).filter(|n| !n.is_empty())?;
        let raw = self.parts.uri.query().unwrap_or_default();
        Some(Query::parse(&format!("{raw}&fieldSelector=metadata.name%3D{name}")))
    }

    async fn write(
        &self,
        resource: &Arc<Resource>,
        verb: &str,
        accept: Accept,
        body: &Bytes,
    ) -> Result<Response, Status> {
        if matches!(verb, "delete" | "deletecollection") {
            return self.delete(resource, verb, accept, body).await;
        }
        let options = WriteOptions::read(&self.parts.method, self.query, &self.parts.headers)?;
        let done = self.write_with(resource, verb, accept, body, &options).await;
        let told = options.told.take();
        let mut r = done.map_err(|s| s.warned(&told))?;
        response::warn(&mut r, &told);
        Ok(r)
    }

    async fn write_with(
        &self,
        resource: &Arc<Resource>,
        verb: &str,
        accept: Accept,
        body: &Bytes,
        options: &WriteOptions,
    ) -> Result<Response, Status> {
        let t = self.target;
        let (plane, user) = (self.plane, self.user);
        let at = (t.namespace.as_str(), t.name.as_str());
        let (code, outcome, warnings) = match verb {
            "create" => {
                // A custom object may be sent to any name; what counts is its own.
                if !t.name.is_empty() && resource.custom.is_none() {
                    return Err(Status::no_such_method());
                }
                let mut parsed = body::parse_as(resource, &self.parts.headers, body)?;
                let warnings = self.object_of(resource, &mut parsed, body, options)?;
                let namespace = t.namespace.clone();
                let failed = |s: Status| s.warned(&warnings);
                if resource.verbs == ["create"] {
                    let answer = self.answer(resource, &namespace, parsed.value, options).await;
                    let v = answer.map_err(failed)?;
                    let mut r = response::value(StatusCode::CREATED, &v);
                    response::warn(&mut r, &warnings);
                    return Ok(r);
                }
                let made = create(plane, user, resource, &namespace, parsed.value, options).await;
                (StatusCode::CREATED, made.map_err(failed)?, warnings)
            }
            "update" => {
                let mut parsed = body::parse_as(resource, &self.parts.headers, body)?;
                let warnings = self.object_of(resource, &mut parsed, body, options)?;
                let (o, created) =
                    update(plane, user, resource, at, Part::Main, parsed.value, options)
                        .await
                        .map_err(|s| s.warned(&warnings))?;
                (if created { StatusCode::CREATED } else { StatusCode::OK }, o, warnings)
            }
            _ => {
                let (o, created, warnings) = patch::patch(
                    plane,
                    user,
                    resource,
                    at,
                    Part::Main,
                    (&self.parts.headers, body),
                    options,
                )
                .await?;
                (if created { StatusCode::CREATED } else { StatusCode::OK }, o, warnings)
            }
        };
        let mut r = self.object(code, resource, &outcome, accept);
        response::warn(&mut r, &warnings);
        Ok(r)
    }

    /// Makes an object of what was sent; what is wrong is told in the order of the text.
    fn object_of(
        &self,
        resource: &Resource,
        parsed: &mut super::json::Parsed,
        body: &[u8],
        options: &WriteOptions,
    ) -> Result<Vec<String>, Status> {
        body::object_of(resource, parsed, options.validation, body)
    }

    /// Kinds that are only answered.
    async fn answer(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        if resource.kind == "Binding" {
            let name = meta::name(&object).to_owned();
            if name.is_empty() {
                return Err(Status::bad_request("Name parameter required."));
            }
            return subresource::bind(self.plane, self.user, (namespace, &name), &object, options)
                .await;
        }
        let mut answer = reviews::review(self.plane, self.user, resource, namespace, object)?;
        if !reviews::of_its_own(resource) {
            let mut sent = answer.clone();
            sent.as_object_mut().and_then(|m| m.remove("status"));
            apply::record_create(resource, &mut answer, &sent, None, options);
        }
        Ok(answer)
    }

    async fn delete(
        &self,
        resource: &Arc<Resource>,
        verb: &str,
        accept: Accept,
        body: &Bytes,
    ) -> Result<Response, Status> {
        let fields = body::options(&self.parts.headers, body)?;
        // Who sends options means those, and not what the query says.
        let none = Query::default();
        let query = if body.is_empty() { self.query } else { &none };
        let mut options = DeleteOptions::read(&fields, query)?;
        let warnings: Vec<String> =
            delete::keep_pods_of_jobs(resource, &mut options).into_iter().collect();
        let mut r = self
            .delete_with(resource, verb, accept, &options)
            .await
            .map_err(|s| s.warned(&warnings))?;
        response::warn(&mut r, &warnings);
        Ok(r)
    }

    async fn delete_with(
        &self,
        resource: &Arc<Resource>,
        verb: &str,
        accept: Accept,
        options: &DeleteOptions,
    ) -> Result<Response, Status> {
        let t = self.target;
        if verb == "deletecollection" {
            let listed = ListOptions::read(resource, self.query)?;
            let mut page = list::list(self.plane, resource, &t.namespace, &listed).await?;
            let objects = std::mem::take(&mut page.objects);
            let gone =
                delete::delete_all(self.plane, self.user, resource, objects, options).await?;
            page.revision = self.plane.store.revision();
            return Ok(self.values(resource, &page, gone, accept));
        }
        let at = (t.namespace.as_str(), t.name.as_str());
        match delete::delete(self.plane, self.user, resource, at, options).await? {
            Deleted::Waiting(o) => Ok(self.object(StatusCode::OK, resource, &o, accept)),
            Deleted::Gone(v) if delete::answers_with_object(resource) => {
                Ok(self.object(StatusCode::OK, resource, &Outcome::Dry(v), accept))
            }
            Deleted::Gone(v) => {
                let mut details =
                    json!({"name": t.name, "kind": resource.plural, "uid": v["metadata"]["uid"]});
                if !resource.group.is_empty() {
                    details["group"] = resource.group.as_str().into();
                }
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
                Ok(response::value(StatusCode::OK, &status))
            }
        }
    }

    fn object(
        &self,
        code: StatusCode,
        resource: &Resource,
        outcome: &Outcome,
        accept: Accept,
    ) -> Response {
        if accept == Accept::PLAIN {
            return match outcome {
                Outcome::Stored(s) => response::stored(code, resource, s),
                Outcome::Dry(v) => response::value(code, v),
            };
        }
        let v = outcome.value(resource);
        let mut shaped = match accept.form {
            Form::Plain => v,
            Form::Metadata | Form::MetadataList => table::metadata_only(&v),
            Form::Table => {
                let m = json!({"resourceVersion": v["metadata"]["resourceVersion"]});
                table::table(
                    resource,
                    std::iter::once(&v),
                    m,
                    Include::read(self.query),
                    true,
                    jiff::Timestamp::now(),
                )
            }
        };
        if accept.beta {
            table::into_beta(&mut shaped);
        }
        response::shaped(code, &shaped, accept)
    }

    fn list(&self, resource: &Resource, page: &Page, accept: Accept) -> Response {
        if accept == Accept::PLAIN {
            return plain_list(resource, page);
        }
        // The objects of a list say only of custom kinds what they are.
        let bare = accept.form == Form::Plain && resource.custom.is_none();
        let one = |o: &Stored| if bare { o.value() } else { get::with_kind(resource, o) };
        let values: Vec<Value> = page.objects.iter().map(|(_, o)| one(o)).collect();
        self.values(resource, page, values, accept)
    }

    /// A list of some objects.
    fn values(
        &self,
        resource: &Resource,
        page: &Page,
        values: Vec<Value>,
        accept: Accept,
    ) -> Response {
        let m = table::list_metadata(resource, page, false);
        let mut v = match accept.form {
            Form::Plain => {
                json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": m, "items": values})
            }
            Form::Metadata | Form::MetadataList => {
                let items: Vec<Value> = values.iter().map(table::metadata_only).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": m, "items": items})
            }
            Form::Table => table::table(
                resource,
                values.iter(),
                m,
                Include::read(self.query),
                true,
                jiff::Timestamp::now(),
            ),
        };
        if accept.beta {
            table::into_beta(&mut v);
        }
        response::shaped(StatusCode::OK, &v, accept)
    }
}

/// Why a name cannot be part of a path.
fn wrong_segment(name: &str) -> Option<&'static str> {
    match name {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        name if name.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

/// A list from the stored texts, without parsing them.
fn plain_list(resource: &Resource, page: &Page) -> Response {
    let size: usize = page.objects.iter().map(|(_, o)| o.text.len() + 1).sum();
    let mut out = BytesMut::with_capacity(size + 256);
    let head = json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": table::list_metadata(resource, page, true)}).to_string();
    out.put_slice(head.trim_end_matches('}').as_bytes());
    // `metadata` is an object and comes last but for the closing braces that were trimmed.
    out.put_slice(b"},\"items\":[");
    for (i, (_, o)) in page.objects.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        if resource.custom.is_some() {
            out.put_slice(&resource.head);
            out.put_slice(&get::text(resource, o)[1..]);
        } else {
            out.put_slice(&o.text);
        }
    }
    out.put_slice(b"]}");
    response::pieces(StatusCode::OK, "application/json", VecDeque::from([out.freeze()]))
}

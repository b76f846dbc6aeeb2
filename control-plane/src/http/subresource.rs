//! Subresources that are more than a part of the object.
//!
//! Owns: binding, token, scale. Called by: the router.

use serde_json::{Value, json};

use super::apply::{self, Configuration};
use super::auth::User;
use super::body::WriteOptions;
use super::create::Outcome;
use super::get;
use super::restriction::{self, Write};
use super::status::{FieldError, Status};
use super::tokens::{self, Bound};
use super::update::{another, another_uid, modify};
use crate::plane::Plane;
use crate::registry::core::object;
use crate::registry::{Part, Resource, meta};
use crate::store::Key;

/// What `Success` looks like where there is no object to show.
pub(crate) fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

/// Puts a pod on a node.
///
/// # Errors
/// When the pod is gone, going, or on a node already.
pub(crate) async fn bind(
    plane: &Plane,
    user: &User,
    at: (&str, &str),
    binding: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let pods = plane.registry.builtin("", "pods");
    let node = meta::text(binding, "/target/name").to_owned();
    let mut wrong = Vec::new();
    let kind = meta::text(binding, "/target/kind");
    if !matches!(kind, "" | "Node") {
        let e = FieldError::unsupported("target.kind", &json!(kind), &["Node", "<empty>"]);
        wrong.push(e.to_string());
    }
    if node.is_empty() {
        wrong.push(FieldError::required("target.name", "").to_string());
    }
    match wrong.len() {
        0 => {}
        1 => return Err(Status::plain(wrong.concat())),
        _ => return Err(Status::plain(format!("[{}]", wrong.join(", ")))),
    }
    let uid = meta::uid(binding).to_owned();
    // Not `modify`: a pod's node may change here and nowhere else.
    for _ in 0..16 {
        let current = get::find(plane, &pods, at.0, at.1)?;
        let mut pod = get::with_kind(&pods, &current);
        let conflict = |why: String| {
            Status::conflict(
                super::status::GroupResource { group: "", resource: "pods/binding" },
                at.1,
                &why,
            )
        };
        if !uid.is_empty() && uid != meta::uid(&pod) {
            return Err(another_uid(&pods, pods.group_resource(), at, &uid, meta::uid(&pod)));
        }
        let (asked, have) =
            (meta::text(binding, "/metadata/resourceVersion"), current.revision.to_string());
        if !asked.is_empty() && asked != have {
            let shown = pods.group_resource();
            return Err(another(&pods, shown, at, "ResourceVersion", (asked, &have)));
        }
        if meta::is_terminating(&pod) {
            return Err(conflict(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                at.1
            )));
        }
        let have = meta::text(&pod, "/spec/nodeName");
        if !have.is_empty() {
            return Err(conflict(format!("pod {} is already assigned to node \"{have}\"", at.1)));
        }
        if options.dry_run {
            return Ok(success());
        }
        object(&mut pod, "spec")["nodeName"] = node.as_str().into();
        if let Some(a) = binding["metadata"]["annotations"].as_object() {
            let m = meta::metadata(&mut pod).entry("annotations").or_insert_with(|| json!({}));
            for (k, v) in a {
                m[k] = v.clone();
            }
        }
        meta::set_condition(&mut pod, "PodScheduled", "True", "", "", jiff::Timestamp::now());
        super::body::defaults(&pods, &mut pod);
        let draft = crate::store::Draft::of(&pod);
        match plane
            .store
            .put(
                get::key(&pods, at.0, at.1),
                crate::store::Expect::Revision(current.revision),
                draft,
            )
            .await
        {
            Ok(_) => return Ok(success()),
            Err(crate::store::WriteError::Conflict | crate::store::WriteError::Missing) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let _ = user;
    Err(Status::modified(pods.group_resource(), at.1))
}

/// Makes a token for a service account.
///
/// # Errors
/// When the account or the bound object is missing, or the time is too short.
pub(crate) fn token(
    plane: &Plane,
    user: &User,
    at: (&str, &str),
    request: &Value,
) -> Result<Value, Status> {
    for (field, sent, real) in
        [("name", meta::name(request), at.1), ("namespace", meta::namespace(request), at.0)]
    {
        if !sent.is_empty() && sent != real {
            let why = format!("must match the service account {field} if specified");
            let e = FieldError::invalid(format!("metadata.{field}"), &json!(sent), &why);
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", at.1, &[e]));
        }
    }
    let accounts = plane.registry.builtin("", "serviceaccounts");
    let account = get::find(plane, &accounts, at.0, at.1)?.value();
    restriction::check(plane, user, &accounts, at, Write::Token(request))?;
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
    let invalid = |e| Status::invalid("authentication.k8s.io", "TokenRequest", "", &[e]);
    if seconds < 600 {
        return Err(invalid(FieldError::invalid(
            "spec.expirationSeconds",
            &json!(seconds),
            "may not specify a duration less than 10 minutes",
        )));
    }
    if seconds > 1 << 32 {
        return Err(invalid(FieldError::invalid(
            "spec.expirationSeconds",
            &json!(seconds),
            "may not specify a duration larger than 2^32 seconds",
        )));
    }
    let mut audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(tokens::ISSUER.to_owned());
    }
    let bound = bound_object(plane, at, spec)?;
    let now = jiff::Timestamp::now();
    let token = tokens::issue(&plane.signer, &account, &audiences, seconds, bound.as_ref(), now)
        .ok_or_else(|| Status::internal("the token could not be signed"))?;
    let mut out = request.clone();
    out["kind"] = "TokenRequest".into();
    out["apiVersion"] = "authentication.k8s.io/v1".into();
    out["metadata"] =
        json!({"name": at.1, "namespace": at.0, "creationTimestamp": meta::timestamp(now)});
    out["spec"]["audiences"] = json!(audiences);
    out["spec"]["expirationSeconds"] = seconds.into();
    if bound.is_none() {
        out["spec"]["boundObjectRef"] = Value::Null;
    }
    let end = now + jiff::SignedDuration::from_secs(seconds);
    out["status"] = json!({"token": token, "expirationTimestamp": meta::timestamp(end)});
    Ok(out)
}

fn bound_object(plane: &Plane, at: (&str, &str), spec: &Value) -> Result<Option<Bound>, Status> {
    let Some(r) = spec.get("boundObjectRef").filter(|r| r.is_object()) else { return Ok(None) };
    let of = |f: &str| r[f].as_str().unwrap_or_default().to_owned();
    let (kind, name, uid) = (of("kind"), of("name"), of("uid"));
    let api_version = of("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let plural = match (group, kind.as_str()) {
        ("", "Pod") => "pods",
        ("", "Secret") => "secrets",
        ("", "Node") => "nodes",
        _ => {
            let full = format!("{group}/{version}, Kind={kind}");
            return Err(Status::bad_request(format!("cannot bind token to object of type {full}")));
        }
    };
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let resource = plane.registry.builtin("", plural);
    let found = get::find(plane, &resource, at.0, &name)?.value();
    if kind == "Pod" {
        let account = meta::text(&found, "/spec/serviceAccountName");
        if account != at.1 {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                at.1
            )));
        }
    }
    if !uid.is_empty() && uid != meta::uid(&found) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        let whole = super::status::GroupResource { group: "", resource: &kind };
        return Err(Status::conflict(whole, &name, &why));
    }
    let node = Some(meta::text(&found, "/spec/nodeName"))
        .filter(|n| kind == "Pod" && !n.is_empty())
        .map(|n| {
            let key = Key::new(&"core/nodes".into(), "", n);
            let node_uid = plane.store.get(&key).map(|n| meta::uid(&n.value()).to_owned());
            (n.to_owned(), node_uid.unwrap_or_default())
        });
    Ok(Some(Bound { kind, name, uid: meta::uid(&found).to_owned(), node }))
}

fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

/// A selector as a text, in the order of its keys.
fn selector_text(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut all: Vec<(&str, String)> = labels
        .map(|(k, v)| (k.as_str(), format!("{k}={}", v.as_str().unwrap_or_default())))
        .collect();
    for e in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = meta::text(e, "/key");
        let values = e["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut values: Vec<&str> = values.collect();
        values.sort_unstable();
        let values = values.join(",");
        all.push(match meta::text(e, "/operator") {
            "In" => (key, format!("{key} in ({values})")),
            "NotIn" => (key, format!("{key} notin ({values})")),
            "DoesNotExist" => (key, format!("!{key}")),
            _ => (key, key.to_owned()),
        });
    }
    all.sort_by_key(|(key, _)| *key);
    all.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The Scale of an object.
pub(crate) fn scale_of(resource: &Resource, object: &Value) -> Value {
    let (spec_path, status_path, selector_path) = match &resource.custom {
        Some(c) => c.scale.clone().unwrap_or_default(),
        None => (".spec.replicas".into(), ".status.replicas".into(), String::new()),
    };
    let number = |p: &str| object.pointer(&pointer(p)).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&status_path)});
    let selector = if resource.custom.is_some() {
        Some(&selector_path)
            .filter(|p| !p.is_empty())
            .and_then(|p| object.pointer(&pointer(p))?.as_str().map(str::to_owned))
    } else {
        Some(selector_text(&object["spec"]["selector"]))
    };
    if let Some(s) = selector.filter(|s| !s.is_empty()) {
        status["selector"] = s.into();
    }
    let m = &object["metadata"];
    let mut metadata = json!({});
    for f in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(v) = m.get(f) {
            metadata[f] = v.clone();
        }
    }
    let replicas = number(&spec_path);
    // Nought is not written.
    let spec = if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) };
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// Changes the number of replicas through a Scale. `f` makes the new Scale from the present one.
///
/// # Errors
/// Those of an update.
pub(crate) async fn set_scale(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    at: (&str, &str),
    options: &WriteOptions,
    f: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Outcome, Status> {
    let path = replicas_path(resource);
    let change = |old: &Value| {
        let scale = f(&scale_of(resource, old))?;
        check_scale(resource, at, &scale, old)?;
        let mut new = old.clone();
        put_at(&mut new, &path, scale["spec"]["replicas"].as_i64().unwrap_or(0).into());
        let asked = meta::text(&scale, "/metadata/resourceVersion").to_owned();
        if !asked.is_empty() {
            meta::metadata(&mut new).insert("resourceVersion".into(), asked.into());
        }
        Ok(new)
    };
    let options = WriteOptions { scaling: true, ..options.clone() };
    modify(plane, user, resource, at, Part::Main, &options, change).await
}

/// Applies a Scale: the number that it has belongs to who applies it. Returns warnings, too.
///
/// # Errors
/// Those of an apply.
pub(crate) async fn apply_scale(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    at: (&str, &str),
    text: &[u8],
    options: &WriteOptions,
) -> Result<(Vec<String>, Outcome), Status> {
    let kind = plane.registry.body("Scale");
    let Configuration { object: scale, warnings, .. } =
        apply::configuration(&kind, at, text, options)?;
    let options = WriteOptions { applying: true, scaling: true, ..options.clone() };
    let path = replicas_path(resource);
    let mut applied = json!({"metadata": scale["metadata"]});
    if let Some(n) = scale["spec"].get("replicas") {
        put_at(&mut applied, &path, n.clone());
    }
    let change = |old: &Value| {
        check_scale(resource, at, &scale, old)?;
        // A Scale of nought is one without a number, and so is what there was: to apply nought to it is
        // to change it.
        let mut old = old.clone();
        if old.pointer(&pointer(&path)).is_some_and(|n| *n == 0) {
            put_at(&mut old, &path, Value::Null);
        }
        let mut new = apply::applied_to(resource, &old, &applied, Part::Main, &options)?;
        if new.pointer(&pointer(&path)).is_none_or(Value::is_null) {
            put_at(&mut new, &path, 0.into());
        }
        Ok(new)
    };
    let outcome = modify(plane, user, resource, at, Part::Main, &options, change).await?;
    Ok((warnings, outcome))
}

/// Where an object has its number of replicas.
fn replicas_path(resource: &Resource) -> String {
    match &resource.custom {
        Some(c) => c.scale.clone().unwrap_or_default().0,
        None => ".spec.replicas".to_owned(),
    }
}

fn put_at(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}

/// Whether a Scale is one, and of this object.
fn check_scale(
    resource: &Resource,
    at: (&str, &str),
    scale: &Value,
    old: &Value,
) -> Result<(), Status> {
    let wanted = &scale["spec"]["replicas"];
    // That of a custom kind is refused where it is written to.
    if resource.custom.is_none() && wanted.as_i64().is_some_and(|n| n < 0) {
        let why = "must be greater than or equal to 0";
        let e = FieldError::invalid("spec.replicas", wanted, why);
        return Err(Status::invalid("autoscaling", "Scale", at.1, &[e]));
    }
    let (uid, have) = (meta::uid(scale), meta::uid(old));
    if !uid.is_empty() && uid != have {
        return Err(another_uid(resource, resource.group_resource(), at, uid, have));
    }
    Ok(())
}

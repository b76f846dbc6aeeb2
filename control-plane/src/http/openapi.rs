//! OpenAPI version 3: what kubectl validates and explains with.
//!
//! Owns: `/openapi/v3` and a document per group version, made when asked for.
//! Called by: the router. Never: keeps the documents in memory; they are large and rarely wanted.

use std::collections::BTreeSet;

use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::enums;
use super::published;
use super::response::{self, Response};
use crate::plane::Plane;
use crate::registry::{Resource, Snapshot, schema};

const REF: &str = "#/components/schemas/";

/// Answers an OpenAPI path; none when it is not one.
pub(crate) fn serve(plane: &Plane, path: &str, parts: &Parts) -> Option<Response> {
    let snapshot = plane.kinds();
    let rest = path.trim_end_matches('/').strip_prefix("/openapi/v3")?;
    if rest.is_empty() {
        return Some(response::value(StatusCode::OK, &index(&snapshot)));
    }
    let (group, version) = match rest.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["api", version] => ("", version),
        ["apis", group, version] => (group, version),
        _ => ("", ""),
    };
    let Some(found) = document(&snapshot, group, version, &definitions()) else {
        return Some(response::pieces(StatusCode::NOT_FOUND, "", []));
    };
    let text = found.to_string();
    let etag = format!("\"{}\"", hash(text.as_bytes()));
    let known =
        parts.headers.get(header::IF_NONE_MATCH).is_some_and(|h| h.as_bytes() == etag.as_bytes());
    let mut r = if known {
        response::pieces(StatusCode::NOT_MODIFIED, "application/json", [])
    } else {
        response::pieces(StatusCode::OK, "application/json", [text.into()])
    };
    if let Ok(v) = HeaderValue::from_str(&etag) {
        r.headers_mut().insert(header::ETAG, v);
    }
    Some(r)
}

fn hash(text: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    digest.as_ref().iter().fold(String::new(), |mut s, b| {
        use std::fmt::Write as _;
        let _ = write!(s, "{b:02X}");
        s
    })
}

fn index(snapshot: &Snapshot) -> Value {
    let mut paths = Map::new();
    let mut add = |path: String, seed: String| {
        let url = format!("/openapi/v3/{path}?hash={}", hash(seed.as_bytes()));
        paths.insert(path, json!({"serverRelativeURL": url}));
    };
    let seed = |g: &str, v: &str| {
        let all: Vec<String> = snapshot
            .in_version(g, v)
            .map(|r| {
                format!(
                    "{}{}",
                    r.kind,
                    r.custom.as_ref().map_or(String::new(), |c| c.raw.to_string())
                )
            })
            .collect();
        all.join(",")
    };
    add("api/v1".into(), seed("", "v1"));
    for (g, versions) in snapshot.groups() {
        for v in versions {
            add(format!("apis/{g}/{v}"), seed(g, v));
        }
    }
    json!({"paths": paths})
}

/// The name of a custom kind's schema: the group backwards.
fn custom_name(r: &Resource) -> String {
    let reversed: Vec<&str> = r.group.split('.').rev().collect();
    format!("{}.{}.{}", reversed.join("."), r.version, r.kind)
}

/// The documents of all that is served.
pub(crate) fn documents(snapshot: &Snapshot) -> Vec<Value> {
    let definitions = definitions();
    let mut all = vec![("", vec!["v1"])];
    all.extend(snapshot.groups());
    let each = all.into_iter().flat_map(|(g, versions)| versions.into_iter().map(move |v| (g, v)));
    each.filter_map(|(g, v)| document(snapshot, g, v, &definitions)).collect()
}

/// The definitions of the built-in types.
fn definitions() -> Map<String, Value> {
    let mut all = schema::definitions();
    published::correct(&mut all);
    enums::add(&mut all);
    all
}

fn document(
    snapshot: &Snapshot,
    group: &str,
    version: &str,
    definitions: &Map<String, Value>,
) -> Option<Value> {
    let resources: Vec<_> = snapshot.in_version(group, version).collect();
    if resources.is_empty() {
        return None;
    }
    let mut schemas = Map::new();
    let mut wanted: Vec<String> = ["Status", "DeleteOptions"]
        .iter()
        .map(|k| format!("io.k8s.apimachinery.pkg.apis.meta.v1.{k}"))
        .collect();
    let mut paths = Map::new();
    for r in &resources {
        let name = match (&r.custom, r.schema) {
            (Some(c), _) => {
                let name = custom_name(r);
                wanted.push("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".into());
                wanted.push("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta".into());
                schemas.insert(name.clone(), custom_schema(r, &c.raw));
                name
            }
            (None, Some(id)) => {
                let name = schema::schemas().get(id).name.to_string();
                wanted.push(name.clone());
                name
            }
            (None, None) => continue,
        };
        add_paths(r, &name, &mut paths);
    }
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(d) = definitions.get(&name) else { continue };
        collect_refs(d, &mut wanted);
        schemas.insert(name, d.clone());
    }
    for r in &resources {
        if let (None, Some(id)) = (&r.custom, r.schema)
            && let Some(d) = schemas.get_mut(&*schema::schemas().get(id).name)
        {
            d["x-kubernetes-group-version-kind"] =
                json!([{"group": r.group, "version": r.version, "kind": r.kind}]);
        }
    }
    Some(
        json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "1.33"}, "paths": paths, "components": {"schemas": schemas}}),
    )
}

fn collect_refs(v: &Value, out: &mut Vec<String>) {
    match v {
        Value::Object(m) => {
            if let Some(r) = m.get("$ref").and_then(Value::as_str) {
                out.push(r.trim_start_matches(REF).to_owned());
            }
            m.values().for_each(|v| collect_refs(v, out));
        }
        Value::Array(a) => a.iter().for_each(|v| collect_refs(v, out)),
        _ => {}
    }
}

fn custom_schema(r: &Resource, raw: &Value) -> Value {
    let mut s = if raw.is_object() { raw.clone() } else { json!({"type": "object"}) };
    let p = &mut s["properties"];
    if !p.is_object() {
        *p = json!({});
    }
    p["apiVersion"] = json!({"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"});
    p["kind"] = json!({"type": "string", "description": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"});
    p["metadata"] = json!({"description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        "allOf": [{"$ref": format!("{REF}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")}]});
    s["x-kubernetes-group-version-kind"] =
        json!([{"group": r.group, "version": r.version, "kind": r.kind}]);
    let selectable = r.custom.iter().flat_map(|c| &c.selectable_fields);
    let selectable: Vec<Value> =
        selectable.map(|f| json!({"fieldPath": f.trim_start_matches('.')})).collect();
    if !selectable.is_empty() {
        s["x-kubernetes-selectable-fields"] = selectable.into();
    }
    published(&mut s);
    s
}

/// Says of a schema what is only meant in it: what is a number or a text, and what an object within another
/// has.
fn published(s: &mut Value) {
    if s["x-kubernetes-int-or-string"] == true && s.get("anyOf").is_none() {
        s["anyOf"] = json!([{"type": "integer"}, {"type": "string"}]);
    }
    if s["x-kubernetes-embedded-resource"] == true {
        let has = |f: &str| s["required"].as_array().is_some_and(|r| r.iter().any(|x| x == f));
        let more: Vec<Value> =
            ["kind", "apiVersion"].into_iter().filter(|f| !has(f)).map(Value::from).collect();
        match s.get_mut("required").and_then(Value::as_array_mut) {
            Some(required) => required.extend(more),
            None => s["required"] = more.into(),
        }
    }
    let Value::Object(fields) = s else { return };
    for (k, v) in fields {
        match (k.as_str(), v) {
            ("properties", Value::Object(all)) => all.values_mut().for_each(published),
            ("items" | "additionalProperties", v @ Value::Object(_)) => published(v),
            _ => {}
        }
    }
}

/// The group as a word: `rbac.authorization.k8s.io` is `rbacAuthorization`.
fn word(group: &str) -> String {
    let mut parts = group.trim_end_matches(".k8s.io").split('.');
    let first = if group.is_empty() { "core" } else { parts.next().unwrap_or_default() };
    parts.filter(|p| !p.is_empty()).fold(first.to_owned(), |w, p| w + &capital(p))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

fn tag(r: &Resource) -> String {
    format!("{}_{}", word(&r.group), r.version)
}

/// What generated clients call an operation: `listAppsV1NamespacedDeployment`.
fn operation_id(r: &Resource, action: &str) -> String {
    let verb = match action {
        "get" => "read",
        "put" => "replace",
        "post" => "create",
        same => same,
    };
    let scope = if r.namespaced { "Namespaced" } else { "" };
    let (group, version) = (capital(&word(&r.group)), capital(&r.version));
    format!("{verb}{group}{version}{scope}{}", r.kind)
}

fn add_paths(r: &Resource, schema_name: &str, paths: &mut Map<String, Value>) {
    let root = if r.group.is_empty() {
        format!("/api/{}", r.version)
    } else {
        format!("/apis/{}/{}", r.group, r.version)
    };
    let base = if r.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", r.plural)
    } else {
        format!("{root}/{}", r.plural)
    };
    let gvk = json!({"group": r.group, "version": r.version, "kind": r.kind});
    let reference = json!({"$ref": format!("{REF}{schema_name}")});
    let answer = json!({"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}});
    let query = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|n| json!({"name": n, "in": "query", "schema": {"type": "string", "uniqueItems": true}})).collect()
    };
    let operation = |action: &str, params: Vec<Value>, body: Option<Value>| {
        let mut o = json!({"tags": [tag(r)], "operationId": operation_id(r, action), "parameters": params, "responses": answer,
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk});
        if let Some(b) = body {
            o["requestBody"] = b;
        }
        o
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let body = |types: &[&str]| {
        let content: Map<String, Value> =
            types.iter().map(|t| ((*t).to_owned(), json!({"schema": reference}))).collect();
        Some(json!({"content": content}))
    };
    let mut collection = Map::new();
    collection.insert("post".into(), operation("post", query(&write), body(&["application/json"])));
    let mut item = Map::new();
    if r.can("list") {
        collection.insert(
            "get".into(),
            operation(
                "list",
                query(&[
                    "labelSelector",
                    "fieldSelector",
                    "limit",
                    "continue",
                    "resourceVersion",
                    "watch",
                ]),
                None,
            ),
        );
        item.insert("get".into(), operation("get", vec![], None));
        item.insert("put".into(), operation("put", query(&write), body(&["application/json"])));
        let patch = [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
            "application/strategic-merge-patch+json",
        ];
        let count = if r.custom.is_some() { 3 } else { 4 };
        let mut with_force = write.to_vec();
        with_force.push("force");
        item.insert("patch".into(), operation("patch", query(&with_force), body(&patch[..count])));
        item.insert(
            "delete".into(),
            operation(
                "delete",
                query(&["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
                None,
            ),
        );
        let name =
            json!([{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}]);
        item.insert("parameters".into(), name);
        paths.insert(format!("{base}/{{name}}"), Value::Object(item));
    }
    paths.insert(base, Value::Object(collection));
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a kube-apiserver 1.33 publishes.
    #[test]
    fn a_custom_schema_says_what_is_only_meant_in_it() {
        let raw = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true},
            "emb": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}});
        let definition = json!({"spec": {"group": "e.com", "scope": "Namespaced", "versions": [{"name": "v1", "served": true,
                "storage": true, "selectableFields": [{"jsonPath": ".spec.port"}], "schema": {"openAPIV3Schema": raw}}]},
            "status": {"acceptedNames": {"plural": "ws", "kind": "W"}, "conditions": [{"type": "Established", "status": "True"}]}});
        let resource = crate::registry::crd::resources(&definition).remove(0);
        let s = custom_schema(&resource, &raw);
        let of = &s["properties"]["spec"]["properties"];
        assert_eq!(of["port"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        assert_eq!(of["emb"]["required"], json!(["kind", "apiVersion"]));
        assert_eq!(s["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.port"}]));
    }
}

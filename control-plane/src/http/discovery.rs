//! What is served, told to clients.
//!
//! Owns: `/api`, `/apis`, their aggregated form, `/version`. Called by: the router.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::request::accept;
use super::response::{self, Response};
use super::status::Status;
use crate::plane::Plane;
use crate::registry::{Resource, Snapshot, api_version};

/// The Kubernetes whose API this is.
const MINOR: &str = "33";

pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR, "emulationMajor": "1", "emulationMinor": MINOR,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "32", "gitVersion": format!("v1.{MINOR}.0+keadm"), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", a => a }),
    })
}

/// Answers a discovery path; none when it is not one.
///
/// # Errors
/// 406 when the client takes no form that there is.
pub(crate) fn serve(
    plane: &Plane,
    path: &str,
    headers: &HeaderMap,
) -> Result<Option<Response>, Status> {
    let snapshot = plane.kinds();
    let path = path.trim_matches('/');
    if let "api" | "apis" = path
        && wants_aggregated(headers)
    {
        let v = aggregated(&snapshot, path == "api");
        let mut r = response::value(StatusCode::OK, &v);
        let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        r.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        return Ok(Some(r));
    }
    let Some(v) = document(plane, &snapshot, path) else { return Ok(None) };
    Ok(Some(response::shaped(StatusCode::OK, &v, accept(headers)?)))
}

fn document(plane: &Plane, snapshot: &Snapshot, path: &str) -> Option<Value> {
    let v = match path.split('/').collect::<Vec<_>>()[..] {
        [""] => json!({"paths": paths(snapshot)}),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": plane.address.to_string()}]}),
        ["api", version] => resources(snapshot, "", version)?,
        ["apis"] => {
            let groups: Vec<Value> =
                snapshot.groups().into_iter().map(|(g, v)| group(g, &v)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] => {
            let (g, versions) = snapshot.groups().into_iter().find(|(g, _)| *g == name)?;
            let mut v = group(g, &versions);
            v["kind"] = "APIGroup".into();
            v["apiVersion"] = "v1".into();
            v
        }
        ["apis", name, version] => resources(snapshot, name, version)?,
        _ => return None,
    };
    Some(v)
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let all = headers.get_all(http::header::ACCEPT);
    all.iter().filter_map(|v| v.to_str().ok()).any(|v| {
        v.split(',').any(|e| {
            e.contains("as=APIGroupDiscoveryList")
                && e.contains("g=apidiscovery.k8s.io")
                && e.split(';').any(|p| p.trim() == "v=v2")
        })
    })
}

fn paths(snapshot: &Snapshot) -> Vec<String> {
    let mut out = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (g, versions) in snapshot.groups() {
        out.push(format!("/apis/{g}"));
        out.extend(versions.iter().map(|v| format!("/apis/{g}/{v}")));
    }
    out.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned),
    );
    out
}

fn group(name: &str, versions: &[&str]) -> Value {
    let one = |v: &&str| json!({"groupVersion": api_version(name, v), "version": v});
    let all: Vec<Value> = versions.iter().map(one).collect();
    json!({"name": name, "versions": all, "preferredVersion": all[0]})
}

fn resources(snapshot: &Snapshot, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for r in snapshot.in_version(group, version) {
        let mut v = json!({"name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs});
        if !r.short_names.is_empty() {
            v["shortNames"] = json!(r.short_names);
        }
        if !r.categories.is_empty() {
            v["categories"] = json!(r.categories);
        }
        if r.can("list") {
            v["storageVersionHash"] = hash(r).into();
        }
        list.push(v);
        for s in &r.subresources {
            let mut v = json!({"name": format!("{}/{}", r.plural, s.name), "singularName": "", "namespaced": r.namespaced,
                "kind": s.kind.map_or(r.kind.as_str(), |(_, _, k)| k), "verbs": s.verbs});
            if let Some((g, ver, _)) = s.kind.filter(|(g, _, _)| *g != r.group) {
                v["group"] = g.into();
                v["version"] = ver.into();
            }
            list.push(v);
        }
    }
    if list.is_empty() {
        return None;
    }
    let mut v = json!({"kind": "APIResourceList", "groupVersion": api_version(group, version), "resources": list});
    // The oldest list of all has no version of its own.
    if !group.is_empty() {
        v["apiVersion"] = "v1".into();
    }
    Some(v)
}

/// Eight bytes that tell storage versions apart.
fn hash(r: &Resource) -> String {
    use base64::Engine as _;
    let stored = r.custom.as_ref().map_or(&r.version, |c| &c.stored_version);
    let text = format!("{}/{stored}/{}", r.group, r.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

fn aggregated(snapshot: &Snapshot, core: bool) -> Value {
    let groups = if core { vec![("", vec!["v1"])] } else { snapshot.groups() };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(g, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|v| {
                    let list: Vec<Value> =
                        snapshot.in_version(g, v).map(|r| aggregated_resource(r)).collect();
                    json!({"version": v, "freshness": "Current", "resources": list})
                })
                .collect();
            let metadata = if g.is_empty() {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": g, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(r: &Resource) -> Value {
    let kind = |g: &str, v: &str, k: &str| json!({"group": g, "version": v, "kind": k});
    let mut out = json!({
        "resource": r.plural, "responseKind": kind(&r.group, &r.version, &r.kind),
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": r.singular, "verbs": r.verbs,
    });
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    if !r.subresources.is_empty() {
        let subs: Vec<Value> = r
            .subresources
            .iter()
            .map(|s| {
                let (g, v, k) = s.kind.unwrap_or((&r.group, &r.version, &r.kind));
                json!({"subresource": s.name, "responseKind": kind(g, v, k), "verbs": s.verbs})
            })
            .collect();
        out["subresources"] = subs.into();
    }
    out
}

//! Writes the schema file that the control plane embeds.
//!
//! Usage: `cargo run --release -- <k8s-openapi source folder> <k8s-pb source folder> <output.json.gz>`.
//! The source folders are read for what the types do not say at run time: which lists merge, and by
//! which keys; and the field numbers of the protobuf encoding.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authn,
    authorization::v1 as authz, batch::v1 as batch, certificates::v1 as certificates,
    coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage, node::v1 as node,
    autoscaling::v1 as autoscaling,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

macro_rules! roots {
    ($g:ident: $($t:ty),* $(,)?) => { $( let _ = $g.subschema_for::<$t>(); )* };
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(source), Some(pb), Some(out)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: schema-gen <k8s-openapi source folder> <k8s-pb source folder> <output.json.gz>".into());
    };
    let mut g = SchemaSettings::draft07().into_generator();
    roots!(g:
        core::Binding, core::ConfigMap, core::Endpoints, core::Event, core::LimitRange,
        core::Namespace, core::Node, core::PersistentVolume, core::PersistentVolumeClaim,
        core::Pod, core::PodTemplate, core::ReplicationController, core::ResourceQuota,
        core::Secret, core::Service, core::ServiceAccount, core::ComponentStatus,
        apps::ControllerRevision, apps::DaemonSet, apps::Deployment, apps::ReplicaSet,
        apps::StatefulSet, batch::CronJob, batch::Job, coordination::Lease,
        discovery::EndpointSlice, events::Event,
        rbac::ClusterRole, rbac::ClusterRoleBinding, rbac::Role, rbac::RoleBinding,
        storage::CSIDriver, storage::CSINode, storage::StorageClass, storage::VolumeAttachment,
        storage::CSIStorageCapacity, certificates::CertificateSigningRequest,
        admission::MutatingWebhookConfiguration, admission::ValidatingWebhookConfiguration,
        admission::ValidatingAdmissionPolicy, admission::ValidatingAdmissionPolicyBinding,
        apiextensions::CustomResourceDefinition,
        authn::TokenReview, authn::TokenRequest, authn::SelfSubjectReview,
        authz::SubjectAccessReview, authz::SelfSubjectAccessReview,
        authz::LocalSubjectAccessReview, authz::SelfSubjectRulesReview,
        networking::NetworkPolicy, networking::Ingress, networking::IngressClass,
        policy::PodDisruptionBudget, policy::Eviction, scheduling::PriorityClass,
        node::RuntimeClass, autoscaling::Scale,
        meta::Status, meta::DeleteOptions, meta::ListMeta, meta::WatchEvent<()>,
    );
    let lists = ListKinds::read(Path::new(&source))?;
    let mut definitions = Map::new();
    for (name, schema) in g.take_definitions(true) {
        let mut schema = schema;
        clean(&mut schema);
        lists.annotate(&name, &mut schema);
        definitions.insert(name, schema);
    }
    let tags = tags(Path::new(&pb), &definitions)?;
    let text = serde_json::to_vec(&json!({ "definitions": definitions, "tags": tags }))?;
    let mut gz = flate2::write::GzEncoder::new(fs::File::create(&out)?, flate2::Compression::best());
    gz.write_all(&text)?;
    gz.finish()?;
    println!("{} definitions, {} bytes of JSON", definitions.len(), text.len());
    Ok(())
}

/// Field numbers: `{type: {number: field}}`. A field that JSON has in the parent (Go embeds it) is
/// `{"inline": type}`.
fn tags(dir: &Path, definitions: &Map<String, Value>) -> Result<Map<String, Value>, Box<dyn Error>> {
    let mut structs: BTreeMap<String, Vec<(String, String, String)>> = BTreeMap::new();
    let root = dir.join("src");
    visit_paths(&root, &mut |path| {
        let Ok(relative) = path.strip_prefix(&root) else { return Ok(()) };
        let package: Vec<String> = relative
            .components()
            .map(|c| c.as_os_str().to_string_lossy().trim_end_matches(".rs").replace("apiextensions_apiserver", "apiextensions-apiserver"))
            .filter(|c| c != "mod")
            .collect();
        read_structs(&format!("io.k8s.{}", package.join(".")), &fs::read_to_string(path)?, &mut structs);
        Ok(())
    })?;
    let mut out = Map::new();
    let of = |name: &str| definitions.get(name).and_then(|d| d.get("properties")).and_then(Value::as_object);
    let mut wanted: Vec<(String, Option<&Map<String, Value>>)> = definitions.keys().map(|n| (n.clone(), of(n))).collect();
    while let Some((name, properties)) = wanted.pop() {
        // The generated structs differ in the case of abbreviations.
        let Some(fields) = structs.get(&name.to_lowercase()).filter(|_| !out.contains_key(&name)) else { continue };
        let mut numbers = Map::new();
        for (number, field, ty) in fields {
            let plain = |s: &str| s.replace(['_', '$', '-'], "").to_lowercase();
            let known = properties.into_iter().flatten().map(|(k, _)| k.as_str()).find(|k| plain(k) == plain(field));
            if let Some(k) = known {
                numbers.insert(number.clone(), k.into());
            } else if EMBEDDED.contains(&ty.rsplit('.').next().unwrap_or_default()) {
                wanted.push((ty.clone(), of(ty).or(properties)));
                numbers.insert(number.clone(), json!({ "inline": ty }));
            }
        }
        out.insert(name, Value::Object(numbers));
    }
    Ok(out)
}

/// Types that Go embeds, so that JSON has their fields in the parent.
const EMBEDDED: [&str; 8] = [
    "EphemeralContainerCommon", "IngressRuleValue", "LocalObjectReference", "PersistentVolumeSource", "ProbeHandler", "Rule",
    "RuleWithOperations", "VolumeSource",
];

fn visit_paths(dir: &Path, f: &mut dyn FnMut(&Path) -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            visit_paths(&path, f)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            f(&path)?;
        }
    }
    Ok(())
}

/// `(number, field, type)` of each field of each struct in a source file.
fn read_structs(package: &str, text: &str, out: &mut BTreeMap<String, Vec<(String, String, String)>>) {
    let (mut name, mut number) = (None, None);
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("pub struct ") {
            name = Some(format!("{package}.{}", rest.split([' ', '{']).next().unwrap_or_default()));
        } else if line.starts_with("#[prost(") {
            number = between(line, "tag = \"", "\"").map(str::to_owned);
        } else if let (Some(n), Some(s), Some(rest)) = (&name, &number, line.strip_prefix("pub ")) {
            let (field, ty) = rest.split_once(':').unwrap_or((rest, ""));
            let inner = between(ty, "Option<", ">").unwrap_or(ty).trim_end_matches(',').trim();
            let full = match inner.rsplit_once("super::") {
                // Other packages' types are named by path; only those of meta are ever embedded from there.
                Some((_, path)) => format!("io.k8s.{}", path.replace("::", ".")),
                None => format!("{package}.{inner}"),
            };
            out.entry(n.to_lowercase()).or_default().push((s.clone(), field.trim_start_matches("r#").to_owned(), full));
            number = None;
        } else if line == "}" {
            name = None;
        }
    }
}

/// References in OpenAPI's form.
fn clean(v: &mut Value) {
    match v {
        Value::Object(m) => {
            if let Some(Value::String(r)) = m.get_mut("$ref") {
                *r = r.replace("#/definitions/", "#/components/schemas/").replace("#/$defs/", "#/components/schemas/");
            }
            m.values_mut().for_each(clean);
        }
        Value::Array(a) => a.iter_mut().for_each(clean),
        _ => {}
    }
}

/// Per definition and JSON field: `map` with its keys, or `set`.
struct ListKinds(BTreeMap<String, BTreeMap<String, Vec<String>>>);

impl ListKinds {
    fn read(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let mut found = BTreeMap::new();
        visit(&dir.join("src/v1_33"), &mut |text| {
            if let Some((name, fields)) = parse(text) {
                found.insert(name, fields);
            }
        })?;
        Ok(Self(found))
    }

    fn annotate(&self, name: &str, schema: &mut Value) {
        let Some(fields) = self.0.get(name) else { return };
        for (field, keys) in fields {
            let Some(Value::Object(p)) = schema.pointer_mut(&format!("/properties/{field}")) else { continue };
            if keys[..] == ["metadata"] {
                continue;
            }
            if keys.is_empty() {
                p.insert("x-kubernetes-list-type".into(), "set".into());
                p.insert("x-kubernetes-patch-strategy".into(), "merge".into());
                continue;
            }
            p.insert("x-kubernetes-list-type".into(), "map".into());
            p.insert("x-kubernetes-patch-strategy".into(), "merge".into());
            p.insert("x-kubernetes-patch-merge-key".into(), keys[0].clone().into());
            let mut keys = keys.clone();
            if field == "ports" && (keys[0] == "containerPort" || keys[0] == "port") {
                keys.push("protocol".into());
            }
            if field == "topologySpreadConstraints" {
                keys.push("whenUnsatisfiable".into());
            }
            p.insert("x-kubernetes-list-map-keys".into(), keys.into());
        }
    }
}

fn visit(dir: &Path, f: &mut dyn FnMut(&str)) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            visit(&path, f)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            f(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let at = text.find(start)? + start.len();
    Some(&text[at..at + text[at..].find(end)?])
}

fn parse(text: &str) -> Option<(String, BTreeMap<String, Vec<String>>)> {
    let name = between(text, "fn schema_name() -> std::borrow::Cow<'static, str> {", "}")?;
    let name = between(name, "\"", "\"")?.to_owned();
    let merge = between(text, "fn merge_from(&mut self, other: Self) {", "\n}")?;
    // Rust field -> JSON field, from the serializer.
    let mut json_name = BTreeMap::new();
    for line in text.lines() {
        let Some(at) = line.find("\", &self.").or_else(|| line.find("\", value)")) else { continue };
        let before = &line[..at];
        let field = before[before.rfind('"')? + 1..].to_owned();
        if let Some(rust) = line.get(at + "\", &self.".len()..) {
            let rust: String = rust.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            json_name.insert(rust, field);
        } else {
            json_name.insert(field.clone(), field);
        }
    }
    // `if let Some(value) = &self.env { ... serialize_field(&mut state, "env", value)`
    let mut last = None;
    for line in text.lines() {
        if let Some(at) = line.find("if let Some(value) = &self.") {
            let rest = &line[at + "if let Some(value) = &self.".len()..];
            last = Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
        } else if let Some(at) = line.find("\", value)")
            && let Some(rust) = last.take()
        {
            let before = &line[..at];
            json_name.insert(rust, before[before.rfind('"')? + 1..].to_owned());
        }
    }
    let mut fields = BTreeMap::new();
    for (kind, after) in split_lists(merge) {
        let rust: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(field) = json_name.get(&rust) else { continue };
        if kind == "set" {
            fields.insert(field.clone(), Vec::new());
        } else {
            let keys = between(after, "&[", "],\n")?;
            let keys = keys
                .match_indices("lhs.")
                .map(|(at, _)| {
                    let key: String = keys[at + 4..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    camel(&key)
                })
                .collect();
            fields.insert(field.clone(), keys);
        }
    }
    Some((name, fields))
}

fn split_lists(merge: &str) -> Vec<(&'static str, &str)> {
    let mut out = Vec::new();
    for (kind, start) in [("map", "merge_strategies::list::map("), ("set", "merge_strategies::list::set(")] {
        for (at, _) in merge.match_indices(start) {
            let after = &merge[at + start.len()..];
            if let Some(f) = after.find("&mut self.") {
                out.push((kind, &after[f + "&mut self.".len()..]));
            }
        }
    }
    out
}

fn camel(snake: &str) -> String {
    let mut out = String::new();
    let mut up = false;
    for c in snake.trim_end_matches('_').chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    match out.as_str() {
        "hostIp" => "hostIP".into(),
        "resourceId" => "resourceID".into(),
        _ => out,
    }
}

//! Custom kinds: what a CustomResourceDefinition says, and the kinds it makes.
//!
//! Owns: the definition's own defaults and validation, its names' acceptance, and the conversion of
//! a definition into rows of the registry. Called by: the registry's table, the CRD controller.

use std::sync::Arc;

use serde_json::{Value, json};

use super::core::{BASE, default, list, object, split_status};
use super::restore::{printed, type_of};
use super::structural::Node;
use super::{Resource, Snapshot, Strategy, Subresource, api_version, columns, crd_checks, meta};
use crate::http::status::FieldError;

/// A served version of a custom kind.
pub(crate) struct Served {
    pub(crate) schema: Node,
    /// The schema of the version that is stored, if that is another one.
    stored: Option<Node>,
    /// The version that is stored.
    pub(crate) stored_version: String,
    /// The revision of the definition: what is older was written by another.
    revision: u64,
    /// JSON paths of `selectableFields`.
    pub(crate) selectable_fields: Vec<String>,
    /// `additionalPrinterColumns` as the definition has them.
    pub(crate) columns: Vec<Value>,
    /// `(spec, status, selector)` paths of the scale subresource.
    pub(crate) scale: Option<(String, String, String)>,
    /// The schema as written, for OpenAPI.
    pub(crate) raw: Value,
    /// What everybody is told who uses this version.
    pub(crate) deprecated: Option<String>,
}

impl Served {
    /// What is wrong with an object of this version.
    pub(crate) fn check(&self, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        self.schema.check(new, old, errors);
        if let Some((spec, status, _)) = &self.scale {
            counted(new, spec, errors);
            counted(new, status, errors);
        }
    }

    /// Makes of an object what is left of it when it is stored: what the stored version does not have
    /// is lost, and what it fills in is there.
    pub(crate) fn store(&self, object: &mut Value) {
        if let Some(stored) = &self.stored {
            stored.prune(object, "", true, &mut Vec::new());
            stored.fill(object);
        }
    }

    /// Whether an object of a revision is another one in this version than in the store: it is kept in
    /// another version, or may have been written before the definition was as it is.
    pub(crate) fn changes(&self, revision: u64) -> bool {
        self.stored.is_some() || revision < self.revision
    }

    /// Makes of an object from the store what the definition makes of it now: a version has what its own
    /// schema has, and what the stored version fills in.
    pub(crate) fn read(&self, object: &mut Value) {
        self.store(object);
        self.schema.prune(object, "", true, &mut Vec::new());
        if self.stored.is_none() {
            self.schema.fill(object);
        }
    }

    /// What an object of this version has that the stored version does not.
    pub(crate) fn lost(&self, object: &Value) -> Vec<String> {
        let mut unknown = Vec::new();
        if let Some(stored) = &self.stored {
            stored.prune(&mut object.clone(), "", true, &mut unknown);
        }
        unknown
    }
}

/// What is wrong with the number of replicas that stands at a path, as the scale subresource reads it.
fn counted(object: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut wrong =
        |v: &Value, why: String| errors.push(FieldError::invalid(path, v, why.as_str()));
    let another = |v: &Value, expected: &str| {
        let of = if v.is_null() { "<nil>" } else { type_of(v) };
        format!("{path} accessor error: {} is of the type {of}, expected {expected}", printed(v))
    };
    let mut at = object;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        let Some(fields) = at.as_object() else {
            return wrong(&json!(0), another(at, "map[string]interface{}"));
        };
        match fields.get(part) {
            Some(v) => at = v,
            None => return,
        }
    }
    match at.as_i64() {
        None => wrong(&json!(0), another(at, "int64")),
        Some(n) if n < 0 => wrong(at, "should be a non-negative integer".to_owned()),
        Some(n) if n > i64::from(i32::MAX) => {
            wrong(at, format!("should be less than or equal to {}", i32::MAX));
        }
        Some(_) => {}
    }
}

/// All custom kinds share this; their rules are in their schema.
pub(crate) static CUSTOM: Strategy = Strategy { ..BASE };

pub(crate) static DEFINITION: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "conversion", json!({"strategy": "None"}));
        let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
        let accepted = object(spec, "names");
        if !kind.is_empty() {
            default(accepted, "singular", kind.to_lowercase());
            default(accepted, "listKind", format!("{kind}List"));
        }
        let mut stored = Vec::new();
        for v in list(spec, "versions") {
            if v["storage"] == true {
                stored.push(v["name"].clone());
            }
            for c in list(v, "additionalPrinterColumns") {
                if c.get("type").is_none() {
                    c["type"] = "string".into();
                }
            }
        }
        // What is stored is so in some version.
        if let Some(status) = o.get_mut("status").filter(|s| s.is_object())
            && status["storedVersions"].as_array().is_none_or(Vec::is_empty)
        {
            status["storedVersions"] = stored.into();
        }
    },
    prepare: |new, old, part| {
        split_status(new, old, part);
        if old.is_none() {
            let stored: Vec<Value> = new["spec"]["versions"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|v| v["storage"] == true)
                .map(|v| v["name"].clone())
                .collect();
            // Kubernetes has `"conditions": null` here, on which `kubectl wait` ends with an error.
            new["status"] =
                json!({"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored});
        }
    },
    validate: crd_checks::validate,
    generation: true,
    columns: &columns::CREATED,
    ..BASE
};

/// Why a definition's names cannot be accepted: another one in the group has them.
pub(crate) fn name_conflict(
    definition: &Value,
    others: &[Value],
    served: &Snapshot,
) -> Option<(&'static str, String)> {
    let group = meta::text(definition, "/spec/group");
    let n = &definition["spec"]["names"];
    let all = |names: &Value| -> Vec<String> {
        let mut out: Vec<String> = ["plural", "singular"]
            .iter()
            .filter_map(|f| names[*f].as_str())
            .map(str::to_owned)
            .collect();
        out.extend(
            names["shortNames"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned),
        );
        out
    };
    let ours = all(n);
    for r in served.resources.iter().filter(|r| r.group == group && r.custom.is_none()) {
        if r.plural == ours.first().map_or("", |s| s)
            || r.kind == n["kind"].as_str().unwrap_or_default()
        {
            return Some(("PluralConflict", format!("\"{}\" is already in use", r.plural)));
        }
    }
    for other in others {
        if meta::name(other) == meta::name(definition) || meta::text(other, "/spec/group") != group
        {
            continue;
        }
        if !is_true(other, "NamesAccepted") {
            continue;
        }
        let theirs = &other["status"]["acceptedNames"];
        if theirs["kind"] == n["kind"] {
            return Some((
                "KindConflict",
                format!("\"{}\" is already in use", n["kind"].as_str().unwrap_or_default()),
            ));
        }
        if let Some(taken) = all(theirs).into_iter().find(|t| ours.contains(t)) {
            return Some(("NamesConflict", format!("\"{taken}\" is already in use")));
        }
    }
    None
}

/// Whether a definition has a condition with status True.
pub(crate) fn is_true(definition: &Value, condition: &str) -> bool {
    meta::condition(definition, condition).is_some_and(|c| c["status"] == "True")
}

/// The table of definitions.
pub(crate) const TABLE: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// The kinds of a definition if it is established, newest versions first as Kubernetes orders them.
pub(crate) fn resources(definition: &Value) -> Vec<Arc<Resource>> {
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let mut versions: Vec<&Value> = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|v| v["served"] == true)
        .collect();
    versions.sort_by_key(|v| std::cmp::Reverse(version_order(name_of(v))));
    versions.into_iter().map(|v| Arc::new(resource(definition, v))).collect()
}

fn name_of(version: &Value) -> &str {
    version["name"].as_str().unwrap_or_default()
}

/// GA before beta before alpha, then newer before older, then names.
pub(super) fn version_order(name: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let unknown = (0, 0, 0, std::cmp::Reverse(name.to_owned()));
    let Some(rest) = name.strip_prefix('v') else { return unknown };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse() else { return unknown };
    let (stage, minor) = match &rest[digits..] {
        "" => (3, "0"),
        s if s.starts_with("beta") => (2, &s[4..]),
        s if s.starts_with("alpha") => (1, &s[5..]),
        _ => return unknown,
    };
    match minor.parse() {
        Ok(minor) => (stage, major, minor, std::cmp::Reverse(String::new())),
        Err(_) => unknown,
    }
}

/// What users of a deprecated version are told: the definition's own words, or which to use instead.
fn deprecation(definition: &Value, version: &Value) -> String {
    if let Some(own) = version["deprecationWarning"].as_str() {
        return own.to_owned();
    }
    let spec = &definition["spec"];
    let group = spec["group"].as_str().unwrap_or_default();
    let kind = spec["names"]["kind"].as_str().unwrap_or_default();
    let name = version["name"].as_str().unwrap_or_default();
    let said = format!("{group}/{name} {kind} is deprecated");
    let all = spec["versions"].as_array().into_iter().flatten();
    let better = all
        .filter(|v| v["served"] == true && v["deprecated"] != true)
        .filter(|v| version_order(name_of(v)) > version_order(name_of(version)))
        .max_by_key(|v| version_order(name_of(v)));
    match better.and_then(|v| v["name"].as_str()) {
        Some(newer) => format!("{said}; use {group}/{newer} {kind}"),
        None => said,
    }
}

fn resource(d: &Value, v: &Value) -> Resource {
    let spec = &d["spec"];
    let n = &d["status"]["acceptedNames"];
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let texts = |v: &Value| v.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let (group, version, plural) = (text(&spec["group"]), text(&v["name"]), text(&n["plural"]));
    let mut subresources = Vec::new();
    let verbs = &["get", "patch", "update"];
    if v["subresources"]["status"].is_object() {
        subresources.push(Subresource { name: "status", verbs, kind: None });
    }
    let scale = v["subresources"].get("scale").map(|s| {
        subresources.push(Subresource {
            name: "scale",
            verbs,
            kind: Some(("autoscaling", "v1", "Scale")),
        });
        (
            text(&s["specReplicasPath"]),
            text(&s["statusReplicasPath"]),
            text(&s["labelSelectorPath"]),
        )
    });
    let raw = v["schema"]["openAPIV3Schema"].clone();
    let deprecated = (v["deprecated"] == true).then(|| deprecation(d, v));
    let mut versions = spec["versions"].as_array().into_iter().flatten();
    let stored = versions.find(|v| v["storage"] == true);
    let stored_version = stored.map_or_else(|| version.clone(), |v| text(&v["name"]));
    let stored = stored.map(|v| &v["schema"]["openAPIV3Schema"]);
    let served = Served {
        schema: Node::read(&raw),
        stored: stored.filter(|s| **s != raw).map(Node::read),
        stored_version,
        revision: meta::text(d, "/metadata/resourceVersion").parse().unwrap_or_default(),
        selectable_fields: v["selectableFields"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|f| text(&f["jsonPath"]))
            .collect(),
        columns: v["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        scale,
        raw,
        deprecated,
    };
    let kind = text(&n["kind"]);
    let head =
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{}\",", api_version(&group, &version));
    Resource {
        table: format!("{group}/{plural}").into(),
        list_kind: text(&n["listKind"]),
        singular: text(&n["singular"]),
        short_names: texts(&n["shortNames"]),
        categories: texts(&n["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        verbs: &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
        subresources,
        schema: None,
        root: None,
        strategy: &CUSTOM,
        custom: Some(Arc::new(served)),
        head: head.into(),
        group,
        version,
        kind,
        plural,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Part;

    // "Version deprecation" of the page below.
    #[test]
    fn a_deprecated_version_names_the_one_to_use() {
        let v1 = json!({"name": "v1", "served": true});
        let mut beta = json!({"name": "v1beta1", "served": true, "deprecated": true});
        let d = json!({"spec": {"group": "example.com", "names": {"kind": "CronTab"}, "versions": [beta, v1]}});
        assert_eq!(
            deprecation(&d, &beta),
            "example.com/v1beta1 CronTab is deprecated; use example.com/v1 CronTab"
        );
        beta["deprecationWarning"] = "go away".into();
        assert_eq!(deprecation(&d, &beta), "go away");
    }

    fn served(version: &str) -> Arc<Resource> {
        let one = |name: &str, storage: bool, field: &str| {
            json!({"name": name, "served": true, "storage": storage,
                "subresources": {"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "spec": {"type": "object", "properties": {"n": {"type": "integer"}, "both": {"type": "string"}, (field): {"type": "string", "default": "d"}}}}}}})
        };
        let d = json!({"spec": {"group": "example.com", "scope": "Namespaced", "versions": [one("v1", true, "old"), one("v2", false, "new")]},
            "status": {"acceptedNames": {"plural": "ws", "kind": "W"}, "conditions": [{"type": "Established", "status": "True"}]}});
        resources(&d).into_iter().find(|r| r.version == version).unwrap()
    }

    // "Writing CustomResourceDefinition objects" of the page below: objects are stored in one version.
    #[test]
    fn an_object_keeps_what_the_stored_version_has() {
        let mut o = json!({"spec": {"both": "b", "new": "n"}});
        served("v2").custom.as_ref().unwrap().store(&mut o);
        assert_eq!(o, json!({"spec": {"both": "b", "old": "d"}}));
        served("v1").custom.as_ref().unwrap().store(&mut o);
        assert_eq!(o, json!({"spec": {"both": "b", "old": "d"}}));
    }

    // A definition is gone once its objects are, "Delete a CustomResourceDefinition" of
    // https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/;
    // a kube-apiserver 1.33 takes such a status, and lets it go all the same.
    #[test]
    fn a_definition_that_goes_is_let_go_whatever_its_status_says() {
        let mut d = json!({"metadata": {"name": "ws.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "ws", "kind": "W"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
            "status": {"storedVersions": ["v9"]}});
        (DEFINITION.default)(&mut d);
        let told = |d: &Value| {
            let mut errors = Vec::new();
            (DEFINITION.validate)(d, Some(d), Part::Main, &mut errors);
            errors.len()
        };
        assert_eq!(told(&d), 2);
        // One that is kept in no version is kept in the one that is stored.
        let mut none = d.clone();
        none["status"]["storedVersions"] = json!([]);
        (DEFINITION.default)(&mut none);
        assert_eq!(none["status"]["storedVersions"], json!(["v1"]));
        d["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(told(&d), 0);
    }

    // "Field pruning" of
    // https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning,
    // and what a kube-apiserver 1.33 answered: a version shows no field that its schema does not have. What is
    // read is filled in by the stored version alone ("Defaulting" of the same page).
    #[test]
    fn a_version_shows_what_its_schema_has() {
        let in_store = json!({"spec": {"both": "b", "old": "o"}});
        for (version, shown) in [
            ("v1", json!({"spec": {"both": "b", "old": "o"}})),
            ("v2", json!({"spec": {"both": "b"}})),
        ] {
            let resource = served(version);
            let custom = resource.custom.as_ref().unwrap();
            let mut o = in_store.clone();
            if custom.changes(1) {
                custom.read(&mut o);
            }
            assert_eq!(o, shown, "{version}");
        }
    }

    // What a kube-apiserver 1.33 said.
    #[test]
    fn the_number_of_replicas_is_one_wherever_it_stands() {
        let told = |o: Value| {
            let mut errors = Vec::new();
            served("v1").custom.as_ref().unwrap().check(&o, None, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({"spec": {"n": 3}, "status": {}})), Vec::<String>::new());
        assert_eq!(
            told(json!({"spec": {"n": -2}})),
            [".spec.n: Invalid value: -2: should be a non-negative integer"]
        );
        assert_eq!(
            told(json!({"spec": {}, "status": {"n": "x"}})),
            [
                ".status.n: Invalid value: 0: .status.n accessor error: x is of the type string, expected int64"
            ]
        );
    }

    #[test]
    fn versions_are_ordered_as_documented() {
        let mut names = [
            "foo1",
            "v1",
            "v10",
            "v2",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo10",
        ];
        names.sort_by_key(|n| std::cmp::Reverse(version_order(n)));
        // https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
        assert_eq!(
            names,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10"
            ]
        );
    }
}

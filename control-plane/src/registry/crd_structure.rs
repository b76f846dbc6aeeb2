//! What makes a schema structural, and which logic may stand beside the structure.
//!
//! Owns: the invariants of structural schemas, in Kubernetes' words. Called by: `crd_schema`.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::{Value, json};

use crate::http::status::FieldError;

type Errors = Vec<FieldError>;

/// Where in a schema a part of it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// The first thing of a schema that no structural schema has, as a sentence; then there is nothing
/// to be said about its structure.
pub(super) fn unsupported(schema: &Value) -> Option<String> {
    if !schema.is_object() {
        return None;
    }
    for field in [
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "additionalItems",
        "definitions",
    ] {
        let there = match &schema[field] {
            Value::Null => false,
            Value::String(s) => !s.is_empty(),
            Value::Object(m) => field == "additionalItems" || !m.is_empty(),
            _ => true,
        };
        if there {
            let name = if field == "$schema" { "schema" } else { field };
            return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
        }
    }
    if schema[PRESERVE] == false {
        return Some(format!("internal error: '{PRESERVE}' must be true or undefined"));
    }
    if schema["items"].is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let below = ["not", "items", "additionalProperties"].into_iter().map(|f| &schema[f]);
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|f| each(&schema[f]));
    let properties = schema["properties"].as_object().into_iter().flatten().map(|(_, p)| p);
    below.chain(lists).chain(properties).find_map(unsupported)
}

fn each(v: &Value) -> impl Iterator<Item = &Value> {
    v.as_array().into_iter().flatten()
}

/// What of a schema is not structural, in order of the texts.
pub(super) fn check(schema: &Value, path: &str) -> Errors {
    let mut errors = Vec::new();
    part(schema, Level::Root, path, &mut errors);
    complete(schema, Some(schema), path, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn part(s: &Value, level: Level, path: &str, errors: &mut Errors) {
    let kind = s["type"].as_str().unwrap_or_default();
    let embedded = s[EMBEDDED] == true;
    let properties = s["properties"].as_object();
    if kind == "array" && !s["items"].is_object() {
        errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    if s["items"].is_object() {
        part(&s["items"], Level::Item, &format!("{path}.items"), errors);
    }
    for (name, p) in properties.into_iter().flatten() {
        part(p, Level::Field, &format!("{path}.properties[{name}]"), errors);
    }
    let more = &s["additionalProperties"];
    if !more.is_null() {
        let at = format!("{path}.additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(at.as_str(), "must not be used at the root"));
        }
        if more.is_object() {
            part(more, Level::Field, &at, errors);
        }
        if embedded {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(at, why));
        }
    }
    for f in [PRESERVE, EMBEDDED] {
        if s[INT_OR_STRING] == true && s[f] == true {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(format!("{path}.{f}"), &json!(true), why));
        }
    }
    logic(s, &Exempt::of(s), path, errors);
    own_type(s, kind, level, path, errors);
    metadata(s, level, path, errors);
    if embedded && s[PRESERVE] != true && properties.is_none_or(serde_json::Map::is_empty) {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(format!("{path}.properties"), why));
    }
}

fn own_type(s: &Value, kind: &str, level: Level, path: &str, errors: &mut Errors) {
    let at = format!("{path}.type");
    let free = s[INT_OR_STRING] == true || s[PRESERVE] == true;
    if s[EMBEDDED] == true && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(at.as_str(), why),
            _ => FieldError::invalid(at.as_str(), &json!(kind), why),
        });
    } else if kind.is_empty() && !free {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(at.as_str(), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(at, &json!(kind), "must be object at the root"));
    }
}

/// The fields that every object has, where a schema says something of them.
fn metadata(s: &Value, level: Level, path: &str, errors: &mut Errors) {
    let whole = level == Level::Root || s[EMBEDDED] == true;
    let mut must_be = |name: &str, kind: &str| {
        let p = &s["properties"][name];
        if whole && p.is_object() && p["type"] != kind {
            let at = format!("{path}.properties[{name}].type");
            let have = json!(p["type"].as_str().unwrap_or_default());
            errors.push(FieldError::invalid(at, &have, &format!("must be {kind}")));
        }
    };
    must_be("kind", "string");
    must_be("apiVersion", "string");
    must_be("metadata", "object");
    let Some(m) = s["properties"]["metadata"].as_object().filter(|_| level == Level::Root) else {
        return;
    };
    let mut rest = m.clone();
    let allowed = |k: &String| k == "name" || k == "generateName";
    if rest.get("properties").and_then(Value::as_object).is_none_or(|p| p.keys().all(allowed)) {
        rest.remove("properties");
    }
    for f in ["type", "default"] {
        rest.remove(f);
    }
    if !rest.is_empty() {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), why));
    }
}

/// Which parts of the logic name types because their place holds an integer or a string.
#[derive(Default)]
struct Exempt {
    any_of: bool,
    first_all_of: bool,
}

impl Exempt {
    fn of(s: &Value) -> Self {
        let both = json!([{"type": "integer"}, {"type": "string"}]);
        Self { any_of: s["anyOf"] == both, first_all_of: s["allOf"][0]["anyOf"] == both }
    }
}

/// The values that a schema allows beside its structure.
fn logic(s: &Value, exempt: &Exempt, path: &str, errors: &mut Errors) {
    if !exempt.any_of {
        for (i, v) in each(&s["anyOf"]).enumerate() {
            nested(v, &Exempt::default(), &format!("{path}.anyOf[{i}]"), errors);
        }
    }
    for (i, v) in each(&s["allOf"]).enumerate() {
        let within = Exempt { any_of: exempt.first_all_of && i == 0, first_all_of: false };
        nested(v, &within, &format!("{path}.allOf[{i}]"), errors);
    }
    for (i, v) in each(&s["oneOf"]).enumerate() {
        nested(v, &Exempt::default(), &format!("{path}.oneOf[{i}]"), errors);
    }
    if s["not"].is_object() {
        nested(&s["not"], &Exempt::default(), &format!("{path}.not"), errors);
    }
    if let Some(p) = s["pattern"].as_str().filter(|p| !p.is_empty())
        && let Err(e) = regex::RegexBuilder::new(p).size_limit(1 << 20).build()
    {
        let why = format!("must be a valid regular expression, but isn't: {e}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), &s["pattern"], &why));
    }
}

/// What stands within logic says nothing of the structure.
fn nested(v: &Value, exempt: &Exempt, path: &str, errors: &mut Errors) {
    logic(v, exempt, path, errors);
    if v["items"].is_object() {
        nested(&v["items"], &Exempt::default(), &format!("{path}.items"), errors);
    }
    for (name, p) in v["properties"].as_object().into_iter().flatten() {
        nested(p, &Exempt::default(), &format!("{path}.properties[{name}]"), errors);
    }
    for (field, how) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        (PRESERVE, "false"),
        (EMBEDDED, "false"),
        (INT_OR_STRING, "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        let set = match &v[field] {
            Value::Null | Value::Bool(false) => false,
            Value::String(s) => !s.is_empty() || how == "undefined",
            Value::Array(a) => !a.is_empty() || how == "undefined",
            _ => true,
        };
        if set {
            let why = format!("must be {how} to be structural");
            errors.push(FieldError::forbidden(format!("{path}.{field}"), &why));
        }
    }
    if v["properties"].get("metadata").is_some() {
        let why = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), why));
    }
}

/// Every field that logic speaks of is in the structure, too. `at` is the place in the structure.
fn complete(v: &Value, s: Option<&Value>, at: &str, path: &str, errors: &mut Errors) {
    let Some(s) = s else {
        let why = format!("because it is defined in {path}");
        errors.push(FieldError::required(at, &why));
        return;
    };
    if v["not"].is_object() {
        within(&v["not"], Some(s), at, &format!("{path}.not"), errors);
    }
    for f in ["allOf", "anyOf", "oneOf"] {
        for (i, v) in each(&v[f]).enumerate() {
            within(v, Some(s), at, &format!("{path}.{f}[{i}]"), errors);
        }
    }
}

/// As [`complete`], for what is within logic itself.
fn within(v: &Value, s: Option<&Value>, at: &str, path: &str, errors: &mut Errors) {
    complete(v, s, at, path, errors);
    let Some(s) = s else { return };
    if v["items"].is_object() {
        let below = Some(&s["items"]).filter(|x| x.is_object());
        let (at, path) = (format!("{at}.items"), format!("{path}.items"));
        within(&v["items"], below, &at, &path, errors);
    }
    for (name, p) in v["properties"].as_object().into_iter().flatten() {
        let (at, path) = (format!("{at}.properties[{name}]"), format!("{path}.properties[{name}]"));
        within(p, s["properties"].get(name), &at, &path, errors);
    }
}

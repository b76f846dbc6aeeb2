//! Structural schemas of custom kinds: pruning, defaulting and validation.
//!
//! Owns: the schema in a compact form. Called by: custom kinds at create and update.
//! Never: resolves references; structural schemas have none.

mod formats;
mod validate;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Value, json};

use super::rules::{OBJECT, Rules};
use super::{decode, schema};
use crate::http::status::FieldError;

/// Compiled patterns at most this large, so that a definition cannot exhaust memory.
const PATTERN_LIMIT: usize = 1 << 20;

/// One node of a schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    kind: String,
    format: String,
    nullable: bool,
    int_or_string: bool,
    preserve: bool,
    embedded: bool,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    required: Vec<String>,
    default: Option<Value>,
    options: Vec<Value>,
    pattern: Option<Regex>,
    bounds: Bounds,
    list_type: String,
    map_keys: Vec<String>,
    atomic: bool,
    all_of: Vec<Node>,
    any_of: Vec<Node>,
    one_of: Vec<Node>,
    not: Option<Box<Node>>,
    rules: Option<Rules>,
    /// Whether there are rules here or below.
    ruled: bool,
}

#[derive(Debug, Default)]
struct Bounds {
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive_minimum: bool,
    exclusive_maximum: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    unique_items: bool,
}

impl Node {
    /// Reads a schema as a definition has it.
    pub(crate) fn read(schema: &Value) -> Self {
        let text = |f: &str| schema[f].as_str().unwrap_or_default().to_owned();
        let flag = |f: &str| schema[f] == true;
        let nodes = |f: &str| schema[f].as_array().into_iter().flatten().map(Self::read).collect();
        let strings = |f: &str| {
            schema[f]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let properties = schema["properties"].as_object().into_iter().flatten();
        let additional = match &schema["additionalProperties"] {
            Value::Object(_) => Some(Box::new(Self::read(&schema["additionalProperties"]))),
            Value::Bool(true) => Some(Box::new(Self { preserve: true, ..Self::default() })),
            _ => None,
        };
        let pattern = schema["pattern"].as_str();
        let pattern = pattern
            .and_then(|p| regex::RegexBuilder::new(p).size_limit(PATTERN_LIMIT).build().ok());
        let properties: BTreeMap<String, Self> =
            properties.map(|(k, v)| (k.clone(), Self::read(v))).collect();
        let items = schema.get("items").filter(|i| i.is_object()).map(|i| Box::new(Self::read(i)));
        let rules = Rules::read(schema);
        let ruled = rules.is_some()
            || properties
                .values()
                .chain(additional.as_deref())
                .chain(items.as_deref())
                .any(|n| n.ruled);
        Self {
            rules,
            ruled,
            kind: text("type"),
            format: text("format"),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            properties,
            additional,
            items,
            required: strings("required"),
            default: schema.get("default").cloned(),
            options: schema["enum"].as_array().cloned().unwrap_or_default(),
            pattern,
            bounds: Bounds {
                minimum: schema["minimum"].as_f64(),
                maximum: schema["maximum"].as_f64(),
                exclusive_minimum: flag("exclusiveMinimum"),
                exclusive_maximum: flag("exclusiveMaximum"),
                multiple_of: schema["multipleOf"].as_f64(),
                min_length: schema["minLength"].as_u64(),
                max_length: schema["maxLength"].as_u64(),
                min_items: schema["minItems"].as_u64(),
                max_items: schema["maxItems"].as_u64(),
                min_properties: schema["minProperties"].as_u64(),
                max_properties: schema["maxProperties"].as_u64(),
                unique_items: flag("uniqueItems"),
            },
            list_type: text("x-kubernetes-list-type"),
            map_keys: strings("x-kubernetes-list-map-keys"),
            atomic: schema["x-kubernetes-map-type"] == "atomic",
            all_of: nodes("allOf"),
            any_of: nodes("anyOf"),
            one_of: nodes("oneOf"),
            not: schema.get("not").map(|n| Box::new(Self::read(n))),
        }
    }

    pub(crate) fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// Whether the schema names a field, which then is not just the key of a map.
    pub(crate) fn has_property(&self, name: &str) -> bool {
        self.properties.contains_key(name)
    }

    /// Whether a field that is null is one, and not a missing one.
    fn may_be_null(&self, name: &str) -> bool {
        match (self.properties.get(name), &self.additional) {
            (Some(node), _) => node.nullable,
            // `additionalProperties: true` says nothing of what is in them.
            (None, Some(node)) => node.nullable || node.kind.is_empty() && !node.int_or_string,
            (None, None) => true,
        }
    }

    pub(crate) fn element(&self) -> Option<&Self> {
        self.items.as_deref()
    }

    /// `(list type, map keys)` of a list; `atomic` if it does not say.
    pub(crate) fn list_kind(&self) -> (&str, &[String]) {
        (if self.list_type.is_empty() { "atomic" } else { &self.list_type }, &self.map_keys)
    }

    /// What a value has to be, as server-side apply says it; none if it may be anything.
    pub(crate) fn wanted(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "object" => Some("map"),
            "array" => Some("list"),
            "string" => Some("string"),
            "boolean" => Some("boolean"),
            "integer" | "number" => Some("numeric"),
            _ => None,
        }
    }

    pub(crate) fn is_atomic_map(&self) -> bool {
        self.atomic
    }

    /// Drops what the schema does not have; the paths dropped are added to `unknown`.
    pub(crate) fn prune(
        &self,
        value: &mut Value,
        path: &str,
        root: bool,
        unknown: &mut Vec<String>,
    ) {
        match value {
            Value::Object(fields) => {
                let implicit = |k: &str| {
                    (root || self.embedded) && matches!(k, "apiVersion" | "kind" | "metadata")
                };
                let mut drop = Vec::new();
                for (k, v) in fields.iter_mut() {
                    let p = join(path, k);
                    if let Some(node) = self.properties.get(k) {
                        if !implicit(k) {
                            node.prune(v, &p, false, unknown);
                        }
                    } else if implicit(k) {
                        if !root && k == "metadata" {
                            prune_metadata(v, &p, unknown);
                        }
                    } else if let Some(node) = &self.additional {
                        node.prune(v, &p, false, unknown);
                    } else if !self.preserve {
                        unknown.push(p);
                        drop.push(k.clone());
                    }
                }
                for k in drop {
                    fields.remove(&k);
                }
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    for (i, v) in items.iter_mut().enumerate() {
                        node.prune(v, &format!("{path}[{i}]"), false, unknown);
                    }
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults. A null where null is not allowed counts as missing, as whoever writes Go
    /// leaves it behind.
    pub(crate) fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|k, v| !v.is_null() || self.may_be_null(k));
                for (k, node) in &self.properties {
                    if !fields.contains_key(k)
                        && let Some(d) = &node.default
                    {
                        fields.insert(k.clone(), d.clone());
                    }
                }
                for (k, v) in fields.iter_mut() {
                    if let Some(node) = self.property(k) {
                        node.fill(v);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    items.iter_mut().for_each(|v| node.fill(v));
                }
            }
            _ => {}
        }
    }

    /// What is wrong with a new object: first its shape, then what its rules say of it and of the
    /// change from `old`.
    pub(crate) fn check(&self, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let before = errors.len();
        self.validate(value, old, "", errors);
        if !self.ruled {
            return;
        }
        let blocking = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        if errors[before..].iter().any(|e| blocking.contains(&e.reason)) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid("<nil>", &json!("null"), why));
        } else {
            let mut budget = OBJECT;
            self.check_rules(value, old, "", &mut budget, errors);
        }
    }

    /// Runs the rules. The old value of a part is known where the part can be recognized: a field, a
    /// key of a map, an element of a list with keys.
    fn check_rules(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        budget: &mut u64,
        errors: &mut Vec<FieldError>,
    ) {
        if !self.ruled || value.is_null() {
            return;
        }
        if let Some(rules) = &self.rules {
            rules.check(value, old, path, budget, errors);
        }
        match value {
            Value::Object(fields) => {
                for (k, v) in fields {
                    if let Some(node) = self.property(k) {
                        let old = old.and_then(|o| o.get(k));
                        node.check_rules(v, old, &join(path, k), budget, errors);
                    }
                }
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                let same =
                    |a: &Value, b: &Value| self.map_keys.iter().all(|k| a.get(k) == b.get(k));
                let olds = old.and_then(Value::as_array).filter(|_| self.list_type == "map");
                for (i, v) in items.iter().enumerate() {
                    let old = olds.and_then(|o| o.iter().find(|o| same(o, v)));
                    node.check_rules(v, old, &format!("{path}[{i}]"), budget, errors);
                }
            }
            _ => {}
        }
    }
}

/// The metadata of an object within another has what all metadata has.
fn prune_metadata(value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let meta = schema::schemas().find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let mut read = value.clone();
    if let Some(Ok(more)) = meta.map(|ty| decode::decode(ty, &mut read)) {
        *value = read;
        unknown.extend(more.into_iter().map(|u| format!("{path}.{u}")));
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

#[cfg(test)]
mod tests;

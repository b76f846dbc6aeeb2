//! Structural schemas of custom kinds: pruning, defaulting and validation.
//!
//! Owns: the schema in a compact form. Called by: custom kinds at create and update.
//! Never: resolves references; structural schemas have none.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::decode::json_type;
use super::rules::{OBJECT, Rules};
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

    /// What is wrong with a value.
    pub(crate) fn validate(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        if value.is_null() {
            if !self.nullable && (self.int_or_string || !self.kind.is_empty()) {
                errors.push(type_error(path, value, &self.kind));
            }
            return;
        }
        if !self.fits_type(value) {
            errors.push(type_error(
                path,
                value,
                if self.int_or_string { "integer,string" } else { &self.kind },
            ));
            return;
        }
        match value {
            Value::String(s) => self.validate_string(s, value, path, errors),
            Value::Number(n) => {
                self.validate_number(n.as_f64().unwrap_or_default(), value, path, errors)
            }
            Value::Array(items) => self.validate_list(items, path, errors),
            Value::Object(fields) => self.validate_object(fields, value, path, errors),
            Value::Bool(_) | Value::Null => {}
        }
        if !self.options.is_empty() && !self.options.contains(value) {
            let supported: Vec<String> = self.options.iter().map(ToString::to_string).collect();
            errors.push(FieldError {
                reason: "FieldValueNotSupported",
                field: shown(path),
                message: format!(
                    "Unsupported value: {value}: supported values: {}",
                    supported.join(", ")
                ),
            });
        }
        self.validate_combinations(value, path, errors);
    }

    /// What is wrong with a new object: first its shape, then what its rules say of it and of the
    /// change from `old`.
    pub(crate) fn check(&self, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let before = errors.len();
        self.validate(value, "", errors);
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

    fn fits_type(&self, value: &Value) -> bool {
        if self.int_or_string {
            return value.is_string() || is_integer(value);
        }
        match self.kind.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => is_integer(value),
            _ => true,
        }
    }

    fn validate_string(&self, s: &str, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let length = s.chars().count() as u64;
        let mut bad = |why: String| errors.push(FieldError::invalid(shown(path), value, &why));
        if let Some(n) = self.bounds.min_length.filter(|n| length < *n) {
            bad(format!("{} in body should be at least {n} chars long", shown(path)));
        }
        if let Some(n) = self.bounds.max_length.filter(|n| length > *n) {
            let message = format!("Too long: may not be more than {n} bytes");
            errors.push(FieldError { reason: "FieldValueTooLong", field: shown(path), message });
            return;
        }
        if let Some(p) = self.pattern.as_ref().filter(|p| !p.is_match(s)) {
            bad(format!("{} in body should match '{p}'", shown(path)));
        }
        let fits = match self.format.as_str() {
            "date-time" => s.parse::<jiff::Timestamp>().is_ok(),
            "date" => s.parse::<jiff::civil::Date>().is_ok(),
            "ipv4" => s.parse::<std::net::Ipv4Addr>().is_ok(),
            "ipv6" => s.parse::<std::net::Ipv6Addr>().is_ok(),
            "uuid" => uuid::Uuid::parse_str(s).is_ok(),
            "byte" => {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.decode(s).is_ok()
            }
            _ => true,
        };
        if !fits {
            bad(format!("{} in body must be of type {}: {value}", shown(path), self.format));
        }
    }

    fn validate_number(&self, n: f64, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let b = &self.bounds;
        let mut bad = |why: String| errors.push(FieldError::invalid(shown(path), value, &why));
        let p = shown(path);
        if let Some(m) = b.multiple_of.filter(|m| *m > 0.0 && (n / m).fract() != 0.0) {
            bad(format!("{p} in body should be a multiple of {m}"));
        }
        if let Some(m) = b.minimum.filter(|m| n < *m || (b.exclusive_minimum && n <= *m)) {
            let or_equal = if b.exclusive_minimum { "" } else { " or equal to" };
            bad(format!("{p} in body should be greater than{or_equal} {m}"));
        }
        if let Some(m) = b.maximum.filter(|m| n > *m || (b.exclusive_maximum && n >= *m)) {
            let or_equal = if b.exclusive_maximum { "" } else { " or equal to" };
            bad(format!("{p} in body should be less than{or_equal} {m}"));
        }
        let fits = match (self.format.as_str(), value.as_i64()) {
            ("int32", Some(i)) => i32::try_from(i).is_ok(),
            _ => true,
        };
        if !fits {
            bad(format!("{p} in body must be of type int32: {value}"));
        }
    }

    fn validate_list(&self, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
        let length = items.len() as u64;
        if let Some(n) = self.bounds.max_items.filter(|n| length > *n) {
            let message = format!("Too many: {length}: must have at most {n} items");
            errors.push(FieldError { reason: "FieldValueTooMany", field: shown(path), message });
        }
        if let Some(n) = self.bounds.min_items.filter(|n| length < *n) {
            errors.push(FieldError::invalid(
                shown(path),
                &json!(length),
                &format!("{} in body should have at least {n} items", shown(path)),
            ));
        }
        let key_of = |v: &Value| match self.list_type.as_str() {
            "map" => {
                let keys = self.map_keys.iter().map(|k| {
                    let fallback =
                        self.items.as_ref().and_then(|i| i.properties.get(k)?.default.clone());
                    (k.clone(), v.get(k).cloned().or(fallback).unwrap_or(Value::Null))
                });
                Some(Value::Object(keys.collect()))
            }
            "set" => Some(v.clone()),
            _ if self.bounds.unique_items => Some(v.clone()),
            _ => None,
        };
        let mut seen = std::collections::HashSet::new();
        for (i, v) in items.iter().enumerate() {
            if let Some(key) = key_of(v)
                && !seen.insert(key.to_string())
            {
                errors.push(FieldError::duplicate(format!("{}[{i}]", shown(path)), &key));
            }
            if let Some(node) = &self.items {
                node.validate(v, &format!("{path}[{i}]"), errors);
            }
        }
    }

    fn validate_object(
        &self,
        fields: &Map<String, Value>,
        value: &Value,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let count = fields.len() as u64;
        for r in self.required.iter().filter(|r| !fields.contains_key(*r)) {
            errors.push(FieldError::required(join(path, r), ""));
        }
        if let Some(n) = self.bounds.max_properties.filter(|n| count > *n) {
            let message = format!("Too many: {count}: must have at most {n} items");
            errors.push(FieldError { reason: "FieldValueTooMany", field: shown(path), message });
        }
        if let Some(n) = self.bounds.min_properties.filter(|n| count < *n) {
            errors.push(FieldError::invalid(
                shown(path),
                value,
                &format!("{} in body should have at least {n} properties", shown(path)),
            ));
        }
        for (k, v) in fields {
            if let Some(node) = self.properties.get(k) {
                node.validate(v, &join(path, k), errors);
            } else if let Some(node) = &self.additional {
                node.validate(v, &join(path, k), errors);
            }
        }
    }

    fn validate_combinations(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let fits = |n: &Node| {
            let mut own = Vec::new();
            n.validate(value, path, &mut own);
            own.is_empty()
        };
        for n in &self.all_of {
            n.validate(value, path, errors);
        }
        let p = shown(path);
        if !self.any_of.is_empty() && !self.any_of.iter().any(fits) {
            errors.push(FieldError::invalid(
                p.clone(),
                value,
                &format!("{p} in body must validate at least one schema (anyOf)"),
            ));
        }
        if !self.one_of.is_empty() {
            let n = self.one_of.iter().filter(|n| fits(n)).count();
            if n != 1 {
                let found = if n == 0 {
                    "Found none valid".to_owned()
                } else {
                    format!("Found {n} valid alternatives")
                };
                errors.push(FieldError::invalid(
                    p.clone(),
                    value,
                    &format!("{p} in body must validate one and only one schema (oneOf). {found}"),
                ));
            }
        }
        if self.not.as_ref().is_some_and(|n| fits(n)) {
            errors.push(FieldError::invalid(
                p.clone(),
                value,
                &format!("{p} in body must not validate the schema (not)"),
            ));
        }
    }
}

fn is_integer(v: &Value) -> bool {
    v.is_i64() || v.is_u64()
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

fn type_error(path: &str, value: &Value, wanted: &str) -> FieldError {
    let found = match json_type(value) {
        "bool" => "boolean",
        "number" if is_integer(value) => "integer",
        t => t,
    };
    let p = shown(path);
    let value = json!(found);
    FieldError {
        reason: "FieldValueTypeInvalid",
        field: p.clone(),
        message: format!(
            "Invalid value: {value}: {p} in body must be of type {wanted}: \"{found}\""
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Node {
        Node::read(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "minimum": 1, "default": 3},
                "mode": {"type": "string", "enum": ["A", "B"]},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true},
                "maybe": {"type": "string", "nullable": true},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "default": 7}}}}
            }}}}),
        )
    }

    fn problems(v: Value) -> Vec<String> {
        let mut errors = Vec::new();
        schema().validate(&v, "", &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_null_where_null_is_not_allowed_is_a_missing_field_and_elsewhere_a_null() {
        // KubeEdge's cloudcore makes a DeviceStatus with `extensions: null`.
        let mut v =
            json!({"spec": {"mode": null, "free": null, "maybe": null, "list": [{"k": null}]}});
        schema().fill(&mut v);
        assert_eq!(v, json!({"spec": {"size": 3, "maybe": null, "list": [{"v": 7}]}}));
        let open = json!({"type": "object", "properties": {
            "any": {"type": "object", "additionalProperties": true},
            "texts": {"type": "object", "additionalProperties": {"type": "string"}}}});
        let mut v = json!({"any": {"a": null}, "texts": {"a": null, "b": "c"}});
        Node::read(&open).fill(&mut v);
        assert_eq!(v, json!({"any": {"a": null}, "texts": {"b": "c"}}));
    }

    #[test]
    fn unknown_fields_are_pruned_except_where_they_are_preserved() {
        let mut v = json!({"metadata": {"name": "a"}, "spec": {"x": 1, "free": {"y": 2}, "list": [{"k": "a", "z": 1}]}, "other": 1});
        let mut unknown = Vec::new();
        schema().prune(&mut v, "", true, &mut unknown);
        assert_eq!(unknown, ["other", "spec.list[0].z", "spec.x"]);
        assert_eq!(
            v,
            json!({"metadata": {"name": "a"}, "spec": {"free": {"y": 2}, "list": [{"k": "a"}]}})
        );
    }

    #[test]
    fn defaults_fill_objects_that_are_there() {
        let mut v = json!({"spec": {"list": [{"k": "a"}], "size": null}});
        schema().fill(&mut v);
        assert_eq!(v, json!({"spec": {"list": [{"k": "a", "v": 7}], "size": 3}}));
        let mut v = json!({});
        schema().fill(&mut v);
        assert_eq!(v, json!({}));
    }

    // "Validation rules", "Transition rules", "reason", "fieldPath" and "messageExpression" of
    // https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
    #[test]
    fn rules_are_run_on_objects_and_on_their_changes() {
        let node = Node::read(&json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-validations": [
                {"rule": "self.size <= self.max", "message": "size too big"},
                {"rule": "!has(oldSelf.mode) || self.mode == oldSelf.mode", "message": "mode is fixed", "reason": "FieldValueForbidden", "fieldPath": ".mode"},
                {"rule": "self.size != 7", "messageExpression": "'size is ' + string(self.size)"},
                {"rule": "self.size != 8"}],
            "properties": {
                "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "may only grow"}]},
                "max": {"type": "integer"}, "mode": {"type": "string"},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
                    "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "v is fixed"}],
                    "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}}}}}));
        let check = |new: Value, old: Option<Value>| {
            let (new, old) = (json!({"spec": new}), old.map(|o| json!({"spec": o})));
            let mut errors = Vec::new();
            node.check(&new, old.as_ref(), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(check(json!({"size": 1, "max": 2}), None).is_empty());
        let too_big = "spec: Invalid value: \"object\": size too big";
        assert_eq!(check(json!({"size": 3, "max": 2}), None), [too_big]);
        assert_eq!(
            check(json!({"size": 8, "max": 2}), None),
            [too_big, "spec: Invalid value: \"object\": failed rule: self.size != 8"]
        );
        assert_eq!(
            check(json!({"size": 7, "max": 9}), None),
            ["spec: Invalid value: \"object\": size is 7"]
        );
        assert_eq!(
            check(json!({"size": 1}), None),
            ["spec: Invalid value: \"object\": no such key: max evaluating rule: size too big"]
        );
        assert_eq!(
            check(
                json!({"size": 1, "max": 5, "mode": "b"}),
                Some(json!({"size": 2, "max": 5, "mode": "a"}))
            ),
            [
                "spec.mode: Forbidden: mode is fixed",
                "spec.size: Invalid value: \"integer\": may only grow"
            ]
        );
        // An element of a list with keys is compared with itself, wherever it stands.
        let old = json!({"size": 1, "max": 2, "list": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]});
        let new = |v| json!({"size": 1, "max": 2, "list": [{"k": "c", "v": 9}, {"k": "b", "v": v}, {"k": "a", "v": 1}]});
        assert!(check(new(2), Some(old.clone())).is_empty());
        assert_eq!(
            check(new(3), Some(old)),
            ["spec.list[1]: Invalid value: \"object\": v is fixed"]
        );
        assert_eq!(
            check(json!({"size": "x"}), None),
            [
                "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
                "<nil>: Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
            ]
        );
    }

    #[test]
    fn problems_are_told_in_the_words_of_kubernetes() {
        assert_eq!(problems(json!({"spec": {}})), ["spec.size: Required value"]);
        assert_eq!(
            problems(json!({"spec": {"size": 0}})),
            ["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"]
        );
        assert_eq!(
            problems(json!({"spec": {"size": "x"}})),
            [
                "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""
            ]
        );
        assert_eq!(
            problems(json!({"spec": {"size": 1, "mode": "C"}})),
            ["spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\""]
        );
        assert_eq!(
            problems(json!({"spec": {"size": 1, "port": "http", "maybe": null}})),
            Vec::<String>::new()
        );
        assert_eq!(
            problems(json!({"spec": {"size": 1, "list": [{"k": "a"}, {"k": "a"}]}})),
            ["spec.list[1]: Duplicate value: {\"k\":\"a\"}"]
        );
    }
}

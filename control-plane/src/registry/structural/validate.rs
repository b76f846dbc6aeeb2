//! What is wrong with a value, seen by its schema.
//!
//! Owns: the checks of types, bounds and logic, and their words. Called by: `Node::check`, and for the
//! defaults of a definition. What is as it was before is not held against a change of something else.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting>

use serde_json::{Map, Value, json};

use super::super::decode::json_type;
use super::super::restore::as_code;
use super::super::{meta, names};
use super::{Node, formats, join, shown};
use crate::http::status::FieldError;

type Errors = Vec<FieldError>;

impl Node {
    /// What is wrong with a value; `old` is what stood in its place.
    pub(crate) fn validate(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Errors,
    ) {
        if old == Some(value) {
            return;
        }
        if value.is_null() {
            if !self.nullable && (self.int_or_string || !self.kind.is_empty()) {
                errors.push(type_error(path, value, &self.kind));
            }
            return;
        }
        if !self.fits_type(value) {
            let wanted = if self.int_or_string { "integer,string" } else { &self.kind };
            errors.push(type_error(path, value, wanted));
            return;
        }
        match value {
            Value::String(s) => self.validate_string(s, value, path, errors),
            Value::Number(n) => {
                self.validate_number(n.as_f64().unwrap_or_default(), value, path, errors)
            }
            Value::Array(items) => self.validate_list(items, old, path, errors),
            Value::Object(fields) => self.validate_object(fields, (value, old), path, errors),
            Value::Bool(_) | Value::Null => {}
        }
        if !self.options.is_empty() && !self.options.contains(value) {
            let supported: Vec<String> = self.options.iter().map(ToString::to_string).collect();
            let supported = supported.join(", ");
            errors.push(FieldError {
                reason: "FieldValueNotSupported",
                field: shown(path),
                message: format!("Unsupported value: {value}: supported values: {supported}"),
            });
        }
        self.validate_combinations(value, path, errors);
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

    /// The first that is wrong with the text, and whether it is of the format.
    fn validate_string(&self, s: &str, value: &Value, path: &str, errors: &mut Errors) {
        let length = s.chars().count() as u64;
        let p = shown(path);
        if let Some(n) = self.bounds.max_length.filter(|n| length > *n) {
            let message = format!("Too long: may not be more than {n} bytes");
            errors.push(FieldError { reason: "FieldValueTooLong", field: p.clone(), message });
        } else if let Some(n) = self.bounds.min_length.filter(|n| length < *n) {
            let why = format!("{p} in body should be at least {n} chars long");
            errors.push(FieldError::invalid(p.as_str(), value, &why));
        } else if let Some(pattern) = self.pattern.as_ref().filter(|p| !p.is_match(s)) {
            let why = format!("{p} in body should match '{pattern}'");
            errors.push(FieldError::invalid(p.as_str(), value, &why));
        }
        if !formats::fits(&self.format, s) {
            let why = format!("{p} in body must be of type {}: {value}", self.format);
            let e = FieldError::invalid(p, value, &why);
            errors.push(FieldError { reason: "FieldValueTypeInvalid", ..e });
        }
    }

    fn validate_number(&self, n: f64, value: &Value, path: &str, errors: &mut Errors) {
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
    }

    /// What tells elements of a list apart, if something does.
    fn key_of(&self, v: &Value) -> Option<Value> {
        match self.list_type.as_str() {
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
        }
    }

    fn validate_list(&self, items: &[Value], old: Option<&Value>, path: &str, errors: &mut Errors) {
        let length = items.len() as u64;
        if let Some(n) = self.bounds.max_items.filter(|n| length > *n) {
            let message = format!("Too many: {length}: must have at most {n} items");
            errors.push(FieldError { reason: "FieldValueTooMany", field: shown(path), message });
        }
        if let Some(n) = self.bounds.min_items.filter(|n| length < *n) {
            let why = format!("{} in body should have at least {n} items", shown(path));
            errors.push(FieldError::invalid(shown(path), &json!(length), &why));
        }
        let olds = old.and_then(Value::as_array).filter(|_| self.list_type == "map");
        let mut seen = std::collections::HashSet::new();
        for (i, v) in items.iter().enumerate() {
            let key = self.key_of(v);
            if let Some(key) = &key
                && !seen.insert(key.to_string())
            {
                let message = format!("Duplicate value: {}", as_code(key));
                let field = format!("{}[{i}]", shown(path));
                errors.push(FieldError { reason: "FieldValueDuplicate", field, message });
            }
            if let Some(node) = &self.items {
                let old = olds.and_then(|o| o.iter().find(|o| self.key_of(o) == key));
                node.validate(v, old, &format!("{path}[{i}]"), errors);
            }
        }
    }

    fn validate_object(
        &self,
        fields: &Map<String, Value>,
        (value, old): (&Value, Option<&Value>),
        path: &str,
        errors: &mut Errors,
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
            let why = format!("{} in body should have at least {n} properties", shown(path));
            errors.push(FieldError::invalid(shown(path), value, &why));
        }
        if self.embedded {
            embedded(fields, path, errors);
        }
        for (k, v) in fields {
            if let Some(node) = self.property(k) {
                node.validate(v, old.and_then(|o| o.get(k)), &join(path, k), errors);
            }
        }
    }

    fn validate_combinations(&self, value: &Value, path: &str, errors: &mut Errors) {
        let found = |n: &Node| {
            let mut own = Vec::new();
            n.validate(value, None, path, &mut own);
            own
        };
        let logic = |what: &str| FieldError {
            reason: "FieldValueInvalid",
            field: "<nil>".into(),
            message: format!("Invalid value: \"\": \"{path}\" must {what}"),
        };
        // What nearly fits says best what is missing.
        let nearest = |all: Vec<Errors>| all.into_iter().min_by_key(Vec::len).unwrap_or_default();
        if !self.any_of.is_empty() {
            let all: Vec<Errors> = self.any_of.iter().map(found).collect();
            if !all.iter().any(Vec::is_empty) {
                errors.push(logic("validate at least one schema (anyOf)"));
                errors.extend(nearest(all));
            }
        }
        if !self.one_of.is_empty() {
            let all: Vec<Errors> = self.one_of.iter().map(found).collect();
            let only = "validate one and only one schema (oneOf). Found";
            match all.iter().filter(|e| e.is_empty()).count() {
                0 => {
                    errors.push(logic(&format!("{only} none valid")));
                    errors.extend(nearest(all));
                }
                1 => {}
                n => errors.push(logic(&format!("{only} {n} valid alternatives"))),
            }
        }
        let all: Errors = self.all_of.iter().flat_map(found).collect();
        if !all.is_empty() {
            errors.extend(all);
            errors.push(logic("validate all the schemas (allOf)"));
        }
        if self.not.as_ref().is_some_and(|n| found(n).is_empty()) {
            errors.push(logic("not validate the schema (not)"));
        }
    }
}

/// An object within another says what it is.
fn embedded(fields: &Map<String, Value>, path: &str, errors: &mut Errors) {
    let of = |f: &str| fields.get(f).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (of("apiVersion"), of("kind"));
    let at = join(path, "apiVersion");
    if version.is_empty() {
        errors.push(FieldError::required(at, "must not be empty"));
    } else if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(at, &json!(version), &why));
    }
    let at = join(path, "kind");
    if kind.is_empty() {
        errors.push(FieldError::required(at, "must not be empty"));
    } else if let Err(why) = names::dns_1035_label(&kind.to_lowercase()) {
        let why = format!("may have mixed case, but should otherwise match: {why}");
        errors.push(FieldError::invalid(at, &json!(kind), &why));
    }
    if let Some(m) = fields.get("metadata") {
        let at = |f: &str| join(path, &format!("metadata.{f}"));
        meta::validate_labels(m.get("labels"), &at("labels"), errors);
        meta::validate_annotations(m.get("annotations"), &at("annotations"), errors);
    }
}

fn is_integer(v: &Value) -> bool {
    v.is_i64()
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

//! Which schemas a definition may have: structural ones, with rules that can be run.
//!
//! Owns: what is refused of `openAPIV3Schema`, in Kubernetes' words. Called by: definitions.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::{Value, json};

use super::structural::Node;
use super::{crd_structure, rules};
use crate::http::status::FieldError;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// The fields that every object has.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What of a schema is refused.
#[derive(Default)]
struct Found {
    errors: Vec<FieldError>,
    /// What is wrong with rules comes after the rest.
    of_rules: Vec<FieldError>,
}

/// What holds for a part of a schema because of what is above it.
#[derive(Clone)]
struct Above<'a> {
    root: bool,
    /// Within the metadata of an object.
    in_metadata: bool,
    /// Why there may be no default.
    no_default: Option<&'a str>,
    /// From where on an object cannot be told apart from the one before it.
    lost: Option<String>,
    /// Whether rules are looked at: within logic there are none.
    ruled: bool,
}

/// Checks a schema and all below it.
pub(crate) fn validate(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    if schema["nullable"] == true {
        let why = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(format!("{path}.nullable"), why));
    }
    let unsupported = crd_structure::unsupported(schema);
    let mut wrong = Vec::new();
    if unsupported.is_none() {
        wrong = crd_structure::check(schema, path);
        if wrong.is_empty() {
            defaults(schema, path, true, &mut wrong);
        }
    }
    let ruled = unsupported.is_none() && wrong.is_empty();
    errors.append(&mut wrong);
    let mut found = Found::default();
    let above = Above { root: true, in_metadata: false, no_default: None, lost: None, ruled };
    node(schema, path, &above, &mut found);
    errors.append(&mut found.errors);
    errors.append(&mut found.of_rules);
    if let Some(why) = unsupported
        && errors.len() == before
    {
        errors.push(FieldError::invalid(path, &json!(""), &why));
    }
}

/// Whether the defaults of a schema obey it.
fn defaults(schema: &Value, path: &str, root: bool, errors: &mut Vec<FieldError>) {
    if root && let Some(default) = schema.get("default") {
        for field in ["apiVersion", "kind"] {
            if default[field].as_str().unwrap_or_default().is_empty() {
                let at = format!("{path}.default.{field}");
                errors.push(FieldError::required(at, "must not be empty"));
            }
        }
    }
    if let Some(default) = schema.get("default").filter(|_| !root) {
        let read = Node::read(schema);
        let (mut pruned, mut unknown) = (default.clone(), Vec::new());
        read.prune(&mut pruned, "", false, &mut unknown);
        if !unknown.is_empty() {
            let why = "must not have unknown fields";
            errors.push(FieldError::invalid(format!("{path}.default"), default, why));
        }
        let mut found = Vec::new();
        read.validate(default, None, "", &mut found);
        errors.extend(found.into_iter().map(|e| FieldError {
            field: format!("{path}.default"),
            message: e.message.replace("<nil>", ""),
            ..e
        }));
    }
    if schema["items"].is_object() {
        defaults(&schema["items"], &format!("{path}.items"), false, errors);
    }
    for (name, p) in schema["properties"].as_object().into_iter().flatten() {
        if !(root && META.contains(&name.as_str())) {
            defaults(p, &format!("{path}.properties[{name}]"), false, errors);
        }
    }
}

fn node(schema: &Value, path: &str, above: &Above<'_>, found: &mut Found) {
    if !schema.is_object() {
        return;
    }
    let before = found.errors.len();
    own_values(schema, path, above, &mut found.errors);
    below(schema, path, above, found);
    kinds_of_lists(schema, path, &mut found.errors);
    keys_of_lists(schema, path, &mut found.errors);
    let rules = schema["x-kubernetes-validations"].as_array().map_or(&[][..], Vec::as_slice);
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("{path}.x-kubernetes-validations[{i}]");
        rule_fields(schema, rule, &at, &mut found.errors);
    }
    if above.ruled && found.errors.len() == before {
        for (i, rule) in rules.iter().enumerate() {
            let at = format!("{path}.x-kubernetes-validations[{i}]");
            expressions(schema, rule, &at, above, &mut found.of_rules);
        }
    }
}

/// All that is below a part.
fn below(schema: &Value, path: &str, above: &Above<'_>, found: &mut Found) {
    let inner = Above { root: false, ..above.clone() };
    let more = &schema["additionalProperties"];
    if more.is_object() {
        let why = "inside additionalProperties applying to object metadata";
        let no_default = if above.in_metadata { Some(why) } else { above.no_default };
        let inner = Above { no_default, ..inner.clone() };
        node(more, &format!("{path}.additionalProperties"), &inner, found);
    }
    let whole = above.root || schema["x-kubernetes-embedded-resource"] == true;
    for (name, p) in schema["properties"].as_object().into_iter().flatten() {
        let mut inner = inner.clone();
        if schema["x-kubernetes-map-type"] == "atomic" {
            inner.lost.get_or_insert_with(|| path.to_owned());
        }
        let why = format!("in top-level {name}");
        if whole && META.contains(&name.as_str()) {
            inner.in_metadata = true;
            if above.root {
                inner.no_default = Some(&why);
            }
        }
        node(p, &format!("{path}.properties[{name}]"), &inner, found);
    }
    let logic = Above { ruled: false, ..inner.clone() };
    node(&schema["not"], &format!("{path}.not"), &logic, found);
    for f in ["allOf", "oneOf", "anyOf"] {
        for (i, s) in schema[f].as_array().into_iter().flatten().enumerate() {
            node(s, &format!("{path}.{f}[{i}]"), &logic, found);
        }
    }
    for f in ["definitions", "dependencies"] {
        for (name, s) in schema[f].as_object().into_iter().flatten() {
            node(s, &format!("{path}.{f}[{name}]"), &logic, found);
        }
    }
    let mut inner = inner;
    if schema["x-kubernetes-list-type"] != "map" {
        inner.lost.get_or_insert_with(|| path.to_owned());
    }
    node(&schema["items"], &format!("{path}.items"), &inner, found);
}

fn own_values(schema: &Value, path: &str, above: &Above<'_>, errors: &mut Vec<FieldError>) {
    let kind = schema["type"].as_str().unwrap_or_default();
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::unsupported(format!("{path}.type"), &schema["type"], &TYPES));
    }
    if schema.get("default").is_some()
        && let Some(why) = above.no_default
    {
        let why = format!("must not be set {why}");
        errors.push(FieldError::forbidden(format!("{path}.default"), &why));
    }
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Object(m) => m.is_empty(),
        _ => false,
    };
    for f in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let set = match f {
            "id" | "patternProperties" | "definitions" => !empty(&schema[f]),
            _ => !schema[f].is_null(),
        };
        if set {
            errors.push(FieldError::forbidden(
                format!("{path}.{f}"),
                &format!("{f} is not supported"),
            ));
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(format!("{path}.type"), why));
    }
    if schema["items"].as_array().is_some_and(|a| !a.is_empty()) {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(format!("{path}.items"), why));
    }
    if above.in_metadata && schema["x-kubernetes-embedded-resource"] == true {
        let at = format!("{path}.x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(at, "must not be used inside of resource meta"));
    }
    if schema["uniqueItems"] == true {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), why));
    }
    let more = &schema["additionalProperties"];
    let has_properties = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
    if has_properties && (more.is_object() || *more == false) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), why));
    }
}

/// How lists and maps are told to merge.
fn kinds_of_lists(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let text = |v: &'_ Value, f: &str| v[f].as_str().unwrap_or_default().to_owned();
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let at = format!("{path}.x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(at, &json!(false), "must be true or undefined"));
    }
    let items = &schema["items"];
    for (field, kind, known) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
    ] {
        if schema[field].is_null() {
            continue;
        }
        let (have, of) = (text(schema, "type"), text(schema, field));
        if have != kind {
            let (at, why) =
                (format!("{path}.type"), format!("must be {kind} if {field} is specified"));
            errors.push(match have.as_str() {
                "" => FieldError::required(at, &why),
                _ => FieldError::invalid(at, &schema["type"], &why),
            });
        } else if of == "set" && kind == "array" {
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let (list, map) =
                (text(items, "x-kubernetes-list-type"), text(items, "x-kubernetes-map-type"));
            let shown = match items["x-kubernetes-list-type"].as_str() {
                Some(l) => json!(l),
                None => json!("null"),
            };
            let at = format!("{path}.items.x-kubernetes");
            match text(items, "type").as_str() {
                "array" if !list.is_empty() && list != "atomic" => {
                    errors.push(FieldError::invalid(format!("{at}-list-type"), &shown, why));
                }
                "object" if map != "atomic" => {
                    errors.push(FieldError::invalid(format!("{at}-map-type"), &shown, why));
                }
                _ => {}
            }
        }
        if !known.contains(&of.as_str()) {
            errors.push(FieldError::unsupported(format!("{path}.{field}"), &schema[field], known));
        }
    }
}

/// The keys by which elements of a list are told apart.
fn keys_of_lists(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let kind = schema["x-kubernetes-list-type"].as_str();
    let keys = schema["x-kubernetes-list-map-keys"].as_array().map_or(&[][..], Vec::as_slice);
    let items = &schema["items"];
    if !keys.is_empty() && kind != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        let at = format!("{path}.x-kubernetes-list-type");
        errors.push(match kind {
            None => FieldError::required(at, why),
            Some(k) => FieldError::invalid(at, &json!(k), why),
        });
    }
    if kind == Some("map") {
        if keys.is_empty() {
            let why = "must not be empty if x-kubernetes-list-type is map";
            errors.push(FieldError::required(format!("{path}.x-kubernetes-list-map-keys"), why));
        }
        if items.is_null() {
            let why = "must have a schema if x-kubernetes-list-type is map";
            errors.push(FieldError::required(format!("{path}.items"), why));
        } else if items.is_object() && items["type"] != "object" {
            let have = json!(items["type"].as_str().unwrap_or_default());
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(format!("{path}.items.type"), &have, why));
        } else {
            named_keys(keys, items, path, errors);
        }
    }
    if !items.is_object() || !matches!(kind, Some("set" | "map")) {
        return;
    }
    if items["nullable"] == true {
        let why = format!(
            "cannot be nullable when x-kubernetes-list-type is {}",
            kind.unwrap_or_default()
        );
        errors.push(FieldError::forbidden(format!("{path}.items.nullable"), &why));
    }
    for key in keys.iter().filter(|_| kind == Some("map")) {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = items["properties"].get(name) else { continue };
        let at = format!("{path}.items.properties[{name}]");
        let required = items["required"].as_array().is_some_and(|r| r.contains(key));
        if !required && property.get("default").is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(format!("{at}.default"), why));
        }
        if property["nullable"] == true {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(format!("{at}.nullable"), why));
        }
    }
}

fn named_keys(keys: &[Value], items: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let at = format!("{path}.x-kubernetes-list-map-keys");
    let shown: Vec<String> = keys.iter().map(Value::to_string).collect();
    let shown = format!("[]string{{{}}}", shown.join(", "));
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match items["properties"].get(name) {
            Some(p) if matches!(p["type"].as_str(), Some("array" | "object")) => {
                let at = format!("{path}.items.properties[{name}].type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(at, &items["type"], why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid_shown(at.as_str(), &shown, why));
            }
        }
        if keys[..i].contains(key) {
            let why = "must not contain duplicate entries";
            errors.push(FieldError::invalid_shown(at.as_str(), &shown, why));
        }
    }
}

/// What a rule says beside its expressions.
fn rule_fields(schema: &Value, rule: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let text = |f: &str| rule[f].as_str().unwrap_or_default();
    let broken = |s: &str| s.contains('\n');
    let (expression, message) = (text("rule").trim(), text("message").trim());
    let message_at = format!("{at}.message");
    if expression.is_empty() {
        errors.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
    } else if !text("message").is_empty() && message.is_empty() {
        let why = "message must be non-empty if specified";
        errors.push(FieldError::invalid(message_at, &rule["message"], why));
    } else if broken(message) {
        let why = "message must not contain line breaks";
        errors.push(FieldError::invalid(message_at, &rule["message"], why));
    } else if broken(expression) && message.is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(message_at, why));
    }
    if !text("messageExpression").is_empty() && text("messageExpression").trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(format!("{at}.messageExpression"), why));
    }
    if let Some(reason) = rule["reason"].as_str()
        && !REASONS.contains(&reason)
    {
        errors.push(FieldError::unsupported(format!("{at}.reason"), &rule["reason"], &REASONS));
    }
    let field = text("fieldPath");
    let mut path = |why: &str| {
        errors.push(FieldError::invalid(format!("{at}.fieldPath"), &rule["fieldPath"], why));
    };
    if !field.is_empty() && field.trim().is_empty() {
        path("fieldPath must be non-empty if specified");
    }
    if broken(field) {
        path("fieldPath must not contain line breaks");
    }
    if !field.is_empty() && !names_a_field(schema, field) {
        path("fieldPath must be a valid path");
    }
}

/// What a rule is run as.
fn expressions(
    schema: &Value,
    rule: &Value,
    at: &str,
    above: &Above<'_>,
    errors: &mut Vec<FieldError>,
) {
    let expression = rule["rule"].as_str().unwrap_or_default();
    let of_changes = rules::names_old_self(expression);
    for f in ["rule", "messageExpression"] {
        let Some(e) = rule[f].as_str().filter(|e| !e.is_empty()) else { continue };
        if let Some(why) = rules::rule_problem(e, schema, above.root) {
            errors.push(FieldError::invalid_shown(format!("{at}.{f}"), &shown_rule(rule), &why));
        }
    }
    if of_changes && let Some(lost) = &above.lost {
        let why = format!(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
        );
        errors.push(FieldError::invalid(format!("{at}.rule"), &rule["rule"], &why));
    } else if !of_changes && !rule["optionalOldSelf"].is_null() {
        let why = "may not be set if oldSelf is not used in rule";
        let at = format!("{at}.optionalOldSelf");
        errors.push(FieldError::invalid(at, &rule["optionalOldSelf"], why));
    }
}

/// A rule as Go shows it.
fn shown_rule(rule: &Value) -> String {
    let text = |f: &str| format!("{:?}", rule[f].as_str().unwrap_or_default());
    format!(
        "apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:{}, OptionalOldSelf:(*bool)(nil)}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        text("fieldPath")
    )
}

/// Whether `.a.b` or `.a['b.c']` leads to a field below a schema.
fn names_a_field(schema: &Value, path: &str) -> bool {
    let mut at = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let (name, after) = if let Some(r) = rest.strip_prefix("['") {
            let Some((name, after)) = r.split_once("']") else { return false };
            (name, after)
        } else if let Some(r) = rest.strip_prefix('.') {
            r.split_at(r.find(['.', '[']).unwrap_or(r.len()))
        } else {
            return false;
        };
        let next = at["properties"].get(name).or(Some(&at["additionalProperties"]));
        let Some(next) = next.filter(|n| n.is_object()) else { return false };
        (at, rest) = (next, after);
    }
    !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: Value) -> Vec<String> {
        let mut errors = Vec::new();
        validate(&json!({"type": "object", "properties": {"spec": spec}}), "s", &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // The rules of "Specifying a structural schema" and "Validation rules" in the page named above.
    #[test]
    fn a_schema_that_is_not_structural_is_refused_with_the_place() {
        let at = "s.properties[spec]";
        for (spec, wrong) in [
            (json!({"type": "foo"}), ".type: Unsupported value: \"foo\""),
            (json!({}), ".type: Required value: must not be empty"),
            (json!({"type": "array"}), ".items: Required value: must be specified"),
            (json!({"type": "string", "pattern": "["}), ".pattern: Invalid value: \"[\": must be"),
            (
                json!({"type": "string", "default": 5}),
                ".default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
                ".additionalProperties: Forbidden",
            ),
            (
                json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
                ".x-kubernetes-list-map-keys: Required value",
            ),
            (
                json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
                ".items.properties[k].default: Required value",
            ),
        ] {
            let found = problems(spec.clone());
            assert_eq!(found.len(), 1, "{spec}: {found:?}");
            assert!(found[0].starts_with(&format!("{at}{wrong}")), "{found:?}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_run_is_refused_with_the_definition() {
        let spec = |rule: Value| json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [rule]});
        for (rule, field) in [
            (
                json!({"rule": "self.a =="}),
                "rule: Invalid value: apiextensions.ValidationRule{Rule:\"self.a ==\", Message:\"\", MessageExpression:\"\", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:\"\", OptionalOldSelf:(*bool)(nil)}: compilation failed",
            ),
            (json!({"rule": " "}), "rule: Required value: rule is not specified"),
            (
                json!({"rule": "true", "reason": "Foo"}),
                "reason: Unsupported value: \"Foo\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            ),
            (
                json!({"rule": "true", "message": "a\nb"}),
                "message: Invalid value: \"a\\nb\": message must not contain line breaks",
            ),
            (
                json!({"rule": "true", "fieldPath": ".zz"}),
                "fieldPath: Invalid value: \".zz\": fieldPath must be a valid path",
            ),
            (
                json!({"rule": "true", "messageExpression": "self."}),
                "messageExpression: Invalid value",
            ),
        ] {
            let found = problems(spec(rule));
            assert_eq!(found.len(), 1, "{found:?}");
            let want = format!("s.properties[spec].x-kubernetes-validations[0].{field}");
            assert!(found[0].starts_with(&want), "{found:?}");
        }
        assert!(problems(spec(json!({"rule": "self.a == 'x'", "fieldPath": ".a"}))).is_empty());
    }

    // `ValidateDefaults` of k8s.io/apiextensions-apiserver (structural/defaulting): a default of whole objects
    // says which objects, as in "Defaulting" of the page named above no other default can.
    #[test]
    fn a_default_of_whole_objects_says_their_kind() {
        let told = |default: Value| {
            let schema = json!({"type": "object", "default": default, "properties": {"spec": {"type": "object"}}});
            let mut errors = Vec::new();
            validate(&schema, "s", &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let required = |f: &str| format!("s.default.{f}: Required value: must not be empty");
        assert_eq!(told(json!({"spec": {}})), [required("apiVersion"), required("kind")]);
        assert_eq!(told(json!({"apiVersion": "", "kind": "K"})), [required("apiVersion")]);
        assert_eq!(told(json!({"apiVersion": "a/v1", "kind": "K", "spec": {}})), [""; 0]);
    }
}

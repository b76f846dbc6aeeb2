//! Which schemas a definition may have: structural ones, with rules that can be run.
//!
//! Owns: what is refused of `openAPIV3Schema`, in Kubernetes' words. Called by: definitions.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::Value;

use super::rules;
use super::structural::Node;
use crate::http::status::FieldError;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Checks a schema and all below it.
pub(crate) fn validate(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if schema["type"] != "object" {
        let why = "must be object at the root";
        errors.push(FieldError::invalid(format!("{path}.type"), &schema["type"], why));
    }
    let allowed = ["name", "generateName"];
    let metadata = schema["properties"]["metadata"]["properties"].as_object();
    if metadata.into_iter().flatten().any(|(k, _)| !allowed.contains(&k.as_str())) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), why));
    }
    node(schema, path, true, errors);
}

fn node(schema: &Value, path: &str, root: bool, errors: &mut Vec<FieldError>) {
    own_values(schema, path, errors);
    lists(schema, path, errors);
    validate_rules(schema, path, root, errors);
    if let Some(default) = schema.get("default") {
        let mut found = Vec::new();
        Node::read(schema).validate(default, "", &mut found);
        errors.extend(found.into_iter().map(|e| FieldError {
            field: format!("{path}.default"),
            message: e.message.replace("<nil>", ""),
            ..e
        }));
    }
    for (name, p) in schema["properties"].as_object().into_iter().flatten() {
        node(p, &format!("{path}.properties[{name}]"), false, errors);
    }
    let items = schema.get("items").filter(|i| i.is_object());
    if let Some(items) = items {
        node(items, &format!("{path}.items"), false, errors);
    } else if schema["type"] == "array" {
        errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    if schema["additionalProperties"].is_object() {
        node(
            &schema["additionalProperties"],
            &format!("{path}.additionalProperties"),
            false,
            errors,
        );
    }
}

fn own_values(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(p) = schema["pattern"].as_str()
        && let Err(e) = regex::RegexBuilder::new(p).size_limit(1 << 20).build()
    {
        let why = format!("must be a valid regular expression, but isn't: {e}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), &schema["pattern"], &why));
    }
    if schema.get("$ref").is_some() {
        errors.push(FieldError::forbidden(format!("{path}.$ref"), "$ref is not supported"));
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let exempt = schema["x-kubernetes-int-or-string"] == true
        || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if kind.is_empty() && !exempt {
        let why = "must not be empty for specified object fields";
        errors.push(FieldError::required(format!("{path}.type"), why));
    } else if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::unsupported(format!("{path}.type"), &schema["type"], &TYPES));
    }
    let has_properties = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
    if has_properties && !schema["additionalProperties"].is_null() {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), why));
    } else if schema["additionalProperties"] == false {
        let why = "additionalProperties cannot be set to false";
        errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), why));
    }
    if schema["uniqueItems"] == true {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), why));
    }
}

fn lists(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if schema["x-kubernetes-list-type"] != "map" {
        return;
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array().map_or(&[][..], Vec::as_slice);
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(format!("{path}.x-kubernetes-list-map-keys"), why));
    }
    let items = &schema["items"];
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = items["properties"].get(name) else {
            let why = "entries must all be names of item properties";
            let at = format!("{path}.x-kubernetes-list-map-keys[{i}]");
            errors.push(FieldError::invalid(at, key, why));
            continue;
        };
        let required = items["required"].as_array().is_some_and(|r| r.contains(key));
        if !required && property.get("default").is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            let at = format!("{path}.items.properties[{name}].default");
            errors.push(FieldError::required(at, why));
        }
    }
}

fn validate_rules(schema: &Value, path: &str, root: bool, errors: &mut Vec<FieldError>) {
    let rules = schema["x-kubernetes-validations"].as_array().map_or(&[][..], Vec::as_slice);
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("{path}.x-kubernetes-validations[{i}]");
        let text = |f: &str| rule[f].as_str().unwrap_or_default();
        let expression = text("rule").trim();
        if expression.is_empty() {
            errors.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
        } else if let Some(why) = rules::rule_problem(expression, schema, root) {
            errors.push(FieldError::invalid(format!("{at}.rule"), &rule["rule"], &why));
        }
        if let Some(reason) = rule["reason"].as_str()
            && !REASONS.contains(&reason)
        {
            errors.push(FieldError::unsupported(format!("{at}.reason"), &rule["reason"], &REASONS));
        }
        if rule["message"].is_string() {
            let at = format!("{at}.message");
            if text("message").trim().is_empty() {
                let why = "message must be non-empty if specified";
                errors.push(FieldError::invalid(at, &rule["message"], why));
            } else if text("message").contains('\n') {
                let why = "message must not contain line breaks";
                errors.push(FieldError::invalid(at, &rule["message"], why));
            }
        }
        if let Some(expression) = rule["messageExpression"].as_str()
            && let Some(why) = rules::rule_problem(expression, schema, root)
        {
            let at = format!("{at}.messageExpression");
            errors.push(FieldError::invalid(at, &rule["messageExpression"], &why));
        }
        if let Some(field) = rule["fieldPath"].as_str()
            && !names_a_field(schema, field)
        {
            let why = "fieldPath must be a valid path";
            errors.push(FieldError::invalid(format!("{at}.fieldPath"), &rule["fieldPath"], why));
        }
    }
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
    use serde_json::json;

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
                "rule: Invalid value: \"self.a ==\": compilation failed",
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
}

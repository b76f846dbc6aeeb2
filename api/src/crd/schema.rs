//! JSON Schema as schemars makes it, turned into what Kubernetes calls structural.
//!
//! Kubernetes wants one `type` everywhere, no `oneOf` of values, no `default` that would be written
//! into objects, and says "anything" in its own way.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{Schema, json_schema};
use serde_json::{Map, Value, json};

/// "Anything goes below here", in Kubernetes' words.
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// A generator without references.
pub(super) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms.clear();
    });
    settings.into_generator()
}

/// A free JSON object.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A list of free JSON objects.
pub(super) fn any_objects(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": any_object(generator) })
}

/// A `metav1.LabelSelector`.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string" },
                        "operator": { "type": "string" },
                        "values": { "type": "array", "items": { "type": "string" } },
                    },
                },
            },
        },
    })
}

/// A list of `corev1.EnvVar`.
pub(super) fn env_vars(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": { "type": "string" },
                "value": { "type": "string" },
                "valueFrom": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            },
        },
    })
}

/// A `corev1.ResourceRequirements`.
pub(super) fn resource_requirements(_: &mut SchemaGenerator) -> Schema {
    let quantities = json!({
        "type": "object",
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "pattern": QUANTITY,
        },
    });
    json_schema!({
        "type": "object",
        "properties": {
            "limits": quantities,
            "requests": quantities,
            "claims": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": { "type": "string" },
                        "request": { "type": "string" },
                    },
                },
            },
        },
    })
}

/// What Kubernetes takes for a quantity.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// A list of `rbacv1.PolicyRule`.
pub(super) fn policy_rules(_: &mut SchemaGenerator) -> Schema {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["verbs"],
            "properties": {
                "apiGroups": texts,
                "nonResourceURLs": texts,
                "resourceNames": texts,
                "resources": texts,
                "verbs": texts,
            },
        },
    })
}

/// Makes a schema structural, in place.
pub(super) fn make_structural(schema: &mut Value) {
    match schema {
        // schemars says "anything" with `true`.
        Value::Bool(_) => *schema = json!({ PRESERVE: true }),
        Value::Object(schema) => make_object_structural(schema),
        _ => {}
    }
}

fn make_object_structural(schema: &mut Map<String, Value>) {
    for key in ["$schema", "title", "default", "const"] {
        schema.remove(key);
    }
    join_alternatives(schema);
    drop_null_type(schema);
    if schema.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
        schema.remove("format");
    }
    // A bound that every value of the type has says nothing; "at least 0" does.
    if schema.get("additionalProperties").is_some_and(Value::is_boolean) {
        schema.remove("additionalProperties");
        schema.insert(PRESERVE.to_owned(), true.into());
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(make_structural);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(key) {
            make_structural(below);
        }
    }
}

/// Alternatives come from two things: an `Option` (the other one is null, which optional fields of
/// Kubernetes are not, they are absent), and an enum whose variants have descriptions.
fn join_alternatives(schema: &mut Map<String, Value>) {
    let Some(Value::Array(mut alternatives)) =
        schema.remove("anyOf").or_else(|| schema.remove("oneOf"))
    else {
        return;
    };
    alternatives.retain(|alternative| alternative.get("type") != Some(&json!("null")));
    let values: Option<Vec<Value>> =
        alternatives.iter().map(|alternative| alternative.get("const").cloned()).collect();
    if let Some(values) = values {
        schema.insert("type".to_owned(), "string".into());
        schema.insert("enum".to_owned(), values.into());
        return;
    }
    if let [Value::Object(only)] = alternatives.as_mut_slice() {
        for (key, value) in std::mem::take(only) {
            // The field's own description, if it has one, is the better one.
            schema.entry(key).or_insert(value);
        }
        join_alternatives(schema);
    }
}

fn drop_null_type(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

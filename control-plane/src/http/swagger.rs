//! OpenAPI version 2, for the clients that know no other: `kubectl explain --output=plaintext-openapiv2`,
//! older kubectl, Terraform.
//!
//! Owns: one document of all that is served, made from those of version 3, as JSON and in the protobuf
//! form of gnostic. Called by: the router. Never: keeps it in memory.
//!
//! <https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto>

use http::request::Parts;
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::openapi;
use super::published;
use super::response::{self, Response};
use crate::plane::Plane;

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const FROM: &str = "#/components/schemas/";
const TO: &str = "#/definitions/";

/// Answers the path of version 2; none for another.
pub(crate) fn serve(plane: &Plane, path: &str, parts: &Parts) -> Option<Response> {
    if path.trim_end_matches('/') != "/openapi/v2" {
        return None;
    }
    let document = document(openapi::documents(&plane.kinds()));
    let accepts = parts.headers.get_all(header::ACCEPT).iter();
    let wanted = accepts.filter_map(|a| a.to_str().ok()).any(|a| {
        let first = a.split(',').next().unwrap_or_default().trim();
        first == ASKED || first == PROTOBUF
    });
    Some(if wanted {
        response::pieces(StatusCode::OK, PROTOBUF, [encode(&document).into()])
    } else {
        response::value(StatusCode::OK, &document)
    })
}

/// One document of version 2 from those of version 3.
fn document(all: Vec<Value>) -> Value {
    let (mut definitions, mut paths) = (Map::new(), Map::new());
    for mut one in all {
        if let Value::Object(schemas) = one["components"]["schemas"].take() {
            for (name, mut schema) in schemas {
                if !BUILT_IN.iter().any(|b| name.starts_with(b)) {
                    loosen_root(&mut schema);
                }
                convert(&mut schema);
                published::one_type(&name, &mut schema);
                // Only the documents of a type's own group say of which kind it is.
                let known = definitions.get(&name).is_some_and(|d: &Value| d.get(KIND).is_some());
                if !known {
                    definitions.insert(name, schema);
                }
            }
        }
        if let Value::Object(own) = one["paths"].take() {
            paths.extend(own.into_iter().map(|(path, item)| (path, path_item(item))));
        }
    }
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.33.0"}, "paths": paths, "definitions": definitions})
}

const KIND: &str = "x-kubernetes-group-version-kind";

/// Where the types are that are not of definitions.
const BUILT_IN: [&str; 3] =
    ["io.k8s.api.", "io.k8s.apimachinery.", "io.k8s.apiextensions-apiserver."];

/// The schema of a definition as Kubernetes publishes it in version 2, for kubectl of old: without what
/// that kubectl would refuse objects for.
fn loosen_root(schema: &mut Value) {
    let Value::Object(m) = schema else { return };
    if m.get(PRESERVE) == Some(&Value::Bool(true)) {
        m.retain(|k, _| k == KIND);
        m.insert("type".into(), "object".into());
    } else if let Some(Value::Object(all)) = m.get_mut("properties") {
        let own = all.iter_mut().filter(|(k, _)| *k != "metadata");
        own.for_each(|(_, v)| loosen(v));
    }
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

fn loosen(schema: &mut Value) {
    let Value::Object(m) = schema else { return };
    let nullable = m.remove("nullable") == Some(Value::Bool(true));
    if nullable || m.get(PRESERVE) == Some(&Value::Bool(true)) {
        for field in ["type", "properties", "items", "additionalProperties"] {
            m.remove(field);
        }
    }
    for field in ["allOf", "default"] {
        m.remove(field);
    }
    for (k, v) in m.iter_mut() {
        match (k.as_str(), v) {
            ("properties", Value::Object(all)) => all.values_mut().for_each(loosen),
            ("items" | "additionalProperties", v) => loosen(v),
            _ => {}
        }
    }
}

/// A schema without what version 2 does not have.
fn convert(schema: &mut Value) {
    match schema {
        Value::Object(m) => {
            for unknown in ["nullable", "oneOf", "anyOf", "not"] {
                m.remove(unknown);
            }
            // A reference beside other fields is wrapped in version 3.
            if let Some([only]) = m.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && let Some(reference) = only.get("$ref").cloned()
            {
                m.remove("allOf");
                m.insert("$ref".into(), reference);
            }
            if let Some(Value::String(r)) = m.get_mut("$ref") {
                *r = r.replace(FROM, TO);
            }
            for (k, v) in m.iter_mut() {
                match (k.as_str(), v) {
                    // Here the keys are names, not keywords.
                    ("properties", Value::Object(all)) => all.values_mut().for_each(convert),
                    (_, v) => convert(v),
                }
            }
        }
        Value::Array(a) => a.iter_mut().for_each(convert),
        _ => {}
    }
}

/// The operations of a path.
fn path_item(item: Value) -> Value {
    let Value::Object(operations) = item else { return json!({}) };
    let mut out = Map::new();
    for (method, operation) in operations {
        if method == "parameters" {
            out.insert(method, parameters(&operation).into());
            continue;
        }
        let mut all = parameters(&operation["parameters"]);
        let content = operation["requestBody"]["content"].as_object();
        let consumes: Vec<&String> = content.into_iter().flatten().map(|(k, _)| k).collect();
        if let Some((_, body)) = content.and_then(|c| c.iter().next()) {
            let mut schema = body["schema"].clone();
            convert(&mut schema);
            all.push(json!({"in": "body", "name": "body", "required": true, "schema": schema}));
        }
        let mut answer =
            operation["responses"]["200"]["content"]["application/json"]["schema"].clone();
        convert(&mut answer);
        let mut new = json!({"operationId": operation["operationId"], "tags": operation["tags"],
            "produces": ["application/json"], "parameters": all,
            "responses": {"200": {"description": "OK", "schema": answer}},
            "x-kubernetes-action": operation["x-kubernetes-action"],
            "x-kubernetes-group-version-kind": operation["x-kubernetes-group-version-kind"]});
        if !consumes.is_empty() {
            new["consumes"] = json!(consumes);
        }
        out.insert(method, new);
    }
    Value::Object(out)
}

/// Parameters carry their type themselves.
fn parameters(list: &Value) -> Vec<Value> {
    let one = |p: &Value| {
        let mut p = p.clone();
        if let Value::Object(schema) = p["schema"].take()
            && let Value::Object(own) = &mut p
        {
            own.remove("schema");
            own.extend(schema);
        }
        p
    };
    list.as_array().into_iter().flatten().map(one).collect()
}

/// A message of the protobuf form: fields by number, with their length before them.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(u8::try_from(n & 0x7f).unwrap_or_default() | 0x80);
            n >>= 7;
        }
        self.0.push(u8::try_from(n).unwrap_or_default());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint((field << 3) | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, v: &Value) {
        if let Some(s) = v.as_str() {
            self.bytes(field, s.as_bytes());
        }
    }

    fn message(&mut self, field: u64, of: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        of(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn number(&mut self, field: u64, v: &Value) {
        if let Some(n) = v.as_u64() {
            self.varint(field << 3);
            self.varint(n);
        }
    }

    /// A value of any kind, which gnostic keeps as YAML; JSON is YAML.
    fn any(&mut self, field: u64, v: &Value) {
        self.message(field, |m| m.bytes(2, format!("{v}\n").as_bytes()));
    }

    fn schema(&mut self, v: &Value) {
        self.text(1, &v["$ref"]);
        self.text(2, &v["format"]);
        self.text(4, &v["description"]);
        if let Some(default) = v.get("default") {
            self.any(5, default);
        }
        self.number(11, &v["maxLength"]);
        self.number(12, &v["minLength"]);
        self.text(13, &v["pattern"]);
        self.number(14, &v["maxItems"]);
        self.number(15, &v["minItems"]);
        for name in v["required"].as_array().into_iter().flatten() {
            self.text(19, name);
        }
        for option in v["enum"].as_array().into_iter().flatten() {
            self.any(20, option);
        }
        match &v["additionalProperties"] {
            Value::Object(_) => {
                self.message(21, |m| m.message(1, |m| m.schema(&v["additionalProperties"])));
            }
            Value::Bool(b) => self.message(21, |m| m.number(2, &u64::from(*b).into())),
            _ => {}
        }
        if v["type"].is_string() {
            self.message(22, |m| m.text(1, &v["type"]));
        }
        if v["items"].is_object() {
            self.message(23, |m| m.message(1, |m| m.schema(&v["items"])));
        }
        if let Some(properties) = v["properties"].as_object() {
            self.message(25, |m| m.named(1, properties));
        }
        for (name, v) in v.as_object().into_iter().flatten().filter(|(k, _)| k.starts_with("x-")) {
            self.message(31, |m| {
                m.bytes(1, name.as_bytes());
                m.any(2, v);
            });
        }
    }

    fn named(&mut self, field: u64, schemas: &Map<String, Value>) {
        for (name, schema) in schemas {
            self.message(field, |m| {
                m.bytes(1, name.as_bytes());
                m.message(2, |m| m.schema(schema));
            });
        }
    }
}

/// The document in gnostic's form. The clients that want it read its definitions only.
fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, |m| {
        m.text(1, &document["info"]["title"]);
        m.text(2, &document["info"]["version"]);
    });
    out.message(8, |_| {});
    if let Some(definitions) = document["definitions"].as_object() {
        out.message(9, |m| m.named(1, definitions));
    }
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_version_3_becomes_one_of_version_2() {
        let v3 = json!({"components": {"schemas": {"a.B": {"type": "object", "properties": {
                "metadata": {"description": "d", "allOf": [{"$ref": "#/components/schemas/c.D"}]},
                "not": {"type": "string", "nullable": true}}}}},
            "paths": {"/x": {"parameters": [{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}],
                "put": {"operationId": "put", "tags": ["x"], "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/a.B"}}}}}}}});
        let v2 = document(vec![v3]);
        assert_eq!(
            v2["definitions"]["a.B"]["properties"]["metadata"],
            json!({"description": "d", "$ref": "#/definitions/c.D"})
        );
        assert_eq!(v2["definitions"]["a.B"]["properties"]["not"], json!({}));
        let item = &v2["paths"]["/x"];
        assert_eq!(
            item["parameters"],
            json!([{"name": "name", "in": "path", "required": true, "type": "string"}])
        );
        assert_eq!(item["put"]["parameters"][0]["schema"]["$ref"], "#/definitions/a.B");
        assert_eq!(item["put"]["consumes"], json!(["application/json"]));
    }

    /// As a kube-apiserver 1.33 publishes them.
    #[test]
    fn a_definition_is_published_without_what_an_old_kubectl_would_refuse_objects_for() {
        let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"a": {"type": "string"}}, "description": "d"});
        let known = json!({"type": "object", "properties": {
            "a": {"type": "string", "nullable": true, "maxLength": 5},
            "b": {"type": "array", "items": {"type": "object", "nullable": true, "properties": {"x": {}}}},
            "c": {"type": "string", "default": "q", "enum": ["q"], "allOf": [{"maxLength": 4}]},
            "d": free.clone(),
            "metadata": {"allOf": [{"$ref": "#/components/schemas/m"}]}}});
        let all = json!({"components": {"schemas": {"com.A": free, "com.B": known}}});
        let v2 = document(vec![all]);
        assert_eq!(v2["definitions"]["com.A"], json!({"type": "object"}));
        let properties = json!({"a": {"maxLength": 5}, "b": {"type": "array", "items": {}},
            "c": {"type": "string", "enum": ["q"]},
            "d": {"x-kubernetes-preserve-unknown-fields": true, "description": "d"},
            "metadata": {"$ref": "#/definitions/m"}});
        assert_eq!(v2["definitions"]["com.B"]["properties"], properties);
    }

    #[test]
    fn a_message_is_its_fields_by_number() {
        let mut m = Message::default();
        m.schema(&json!({"type": "string", "maxLength": 300}));
        // 11: varint 300; 22: a message with 1: "string".
        assert_eq!(m.0, b"\x58\xac\x02\xb2\x01\x08\x0a\x06string");
    }
}

//! What the served types look like: fields, types, and how their lists merge.
//!
//! Owns: the embedded schema file (made by `schema-gen` from k8s-openapi), read into a compact form.
//! Called by: decoding, strategic merge, server-side apply, `/openapi`.
//! Never: knows defaults or validation beyond the JSON types.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::OnceLock;

use serde_json::{Map, Value};

const FILE: &[u8] = include_bytes!("kubernetes.json.gz");
const REF: &str = "#/components/schemas/";

/// A type by its place in the table.
pub(crate) type TypeId = u32;

/// How a list merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Replaced as a whole.
    Atomic,
    /// Of distinct scalars.
    Set,
    /// Of objects told apart by these fields; the first is the strategic merge key.
    Map(Box<[Box<str>]>),
}

/// The form of a value.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Any,
    String,
    /// Base64.
    Bytes,
    Bool,
    Int {
        wide: bool,
    },
    Number,
    IntOrString,
    Quantity,
    Time {
        micro: bool,
    },
    Map(Box<Shape>),
    List(Box<Shape>, ListKind),
    Ref(TypeId),
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) shape: Shape,
}

/// An object type.
#[derive(Debug)]
pub(crate) struct Type {
    /// The full name, `io.k8s.api.core.v1.Pod`.
    pub(crate) name: Box<str>,
    /// Sorted by name.
    pub(crate) fields: Box<[Field]>,
    /// Field numbers of the protobuf encoding.
    pub(crate) tags: Box<[Tagged]>,
}

/// A field of the protobuf encoding.
#[derive(Debug)]
pub(crate) struct Tagged {
    pub(crate) tag: u32,
    /// The field in JSON; of an embedded type its full name.
    pub(crate) name: Box<str>,
    embedded: bool,
}

/// The field numbers of a type that Go embeds: JSON has its fields in the parent.
#[derive(Debug)]
pub(crate) struct Inline {
    pub(crate) tags: Box<[Tagged]>,
}

impl Type {
    pub(crate) fn field(&self, name: &str) -> Option<&Shape> {
        let at = self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok()?;
        Some(&self.fields[at].shape)
    }

    fn go_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// All types.
#[derive(Debug)]
pub(crate) struct Schemas {
    types: Vec<Type>,
    by_name: HashMap<Box<str>, TypeId>,
    inlines: HashMap<Box<str>, Inline>,
}

/// The schemas of this build.
pub(crate) fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let mut file = file();
        let tags = std::mem::take(section(&mut file, "tags"));
        Schemas::read(section(&mut file, "definitions"), &tags)
    })
}

/// The definitions as OpenAPI schemas, with descriptions; read anew at each call.
pub(crate) fn definitions() -> Map<String, Value> {
    std::mem::take(section(&mut file(), "definitions"))
}

fn file() -> Value {
    let mut text = String::new();
    // The file is part of the binary; a unit test reads it.
    let _ = flate2::read::GzDecoder::new(FILE).read_to_string(&mut text);
    serde_json::from_str(&text).unwrap_or_default()
}

fn section<'a>(file: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !file[name].is_object() {
        file[name] = Value::Object(Map::new());
    }
    match &mut file[name] {
        Value::Object(m) => m,
        _ => unreachable!("just made an object"),
    }
}

fn tagged(tags: Option<&Value>) -> Box<[Tagged]> {
    let one = |(number, field): (&String, &Value)| {
        let name = field.as_str().or(field["inline"].as_str()).unwrap_or_default();
        Tagged {
            tag: number.parse().unwrap_or_default(),
            name: name.into(),
            embedded: field.is_object(),
        }
    };
    tags.and_then(Value::as_object).into_iter().flatten().map(one).collect()
}

impl Schemas {
    fn read(definitions: &Map<String, Value>, tags: &Map<String, Value>) -> Self {
        let mut by_name = HashMap::new();
        for (id, name) in definitions.keys().enumerate() {
            by_name.insert(name.as_str().into(), u32::try_from(id).unwrap_or(u32::MAX));
        }
        let types = definitions
            .iter()
            .map(|(name, d)| {
                let mut fields: Vec<Field> = d
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .map(|(field, p)| Field {
                        name: field.as_str().into(),
                        shape: shape(p, &by_name),
                    })
                    .collect();
                fields.sort_by(|a, b| a.name.cmp(&b.name));
                Type {
                    name: name.as_str().into(),
                    fields: fields.into(),
                    tags: tagged(tags.get(name)),
                }
            })
            .collect();
        let inlines = tags
            .iter()
            .map(|(n, t)| (n.as_str().into(), Inline { tags: tagged(Some(t)) }))
            .collect();
        Self { types, by_name, inlines }
    }

    /// Whether there is a built-in kind of a name in any group.
    pub(crate) fn has_kind(&self, package: &str, version: &str, kind: &str) -> bool {
        let tail = format!(".{package}.{version}.{kind}");
        self.by_name.keys().any(|n| n.ends_with(&tail))
    }

    pub(crate) fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// The embedded type that a field number stands for, if it does.
    pub(crate) fn inline(&self, field: &Tagged) -> Option<&Inline> {
        if field.embedded { self.inlines.get(&field.name) } else { None }
    }

    pub(crate) fn get(&self, id: TypeId) -> &Type {
        &self.types[id as usize]
    }
}

fn named(name: &str, by_name: &HashMap<Box<str>, TypeId>) -> Shape {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Shape::Time { micro: false },
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::Time { micro: true },
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"
        | "io.k8s.apimachinery.pkg.runtime.RawExtension" => Shape::Any,
        n if n.contains(".apiextensions.v1.JSON") && !n.ends_with(".JSONSchemaProps") => Shape::Any,
        n => by_name.get(n).map_or(Shape::Any, |id| Shape::Ref(*id)),
    }
}

fn shape(p: &Value, by_name: &HashMap<Box<str>, TypeId>) -> Shape {
    let reference = p.get("$ref").or_else(|| p.pointer("/allOf/0/$ref")).and_then(Value::as_str);
    if let Some(r) = reference {
        return named(r.trim_start_matches(REF), by_name);
    }
    let format = p.get("format").and_then(Value::as_str).unwrap_or_default();
    match p.get("type").and_then(Value::as_str).unwrap_or_default() {
        "string" if format == "byte" => Shape::Bytes,
        "string" => Shape::String,
        "boolean" => Shape::Bool,
        "integer" => Shape::Int { wide: format == "int64" },
        "number" => Shape::Number,
        "object" => match p.get("additionalProperties") {
            Some(items) if items.is_object() => Shape::Map(Box::new(shape(items, by_name))),
            _ => Shape::Any,
        },
        "array" => {
            let items = p.get("items").map_or(Shape::Any, |i| shape(i, by_name));
            Shape::List(Box::new(items), list_kind(p))
        }
        _ => Shape::Any,
    }
}

fn list_kind(p: &Value) -> ListKind {
    match p.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(
            p.get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
        ),
        _ => ListKind::Atomic,
    }
}

/// A field whose JSON type is wrong, in the words of Go's decoder.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Mismatch(pub(crate) String);

/// Checks JSON types, drops what the type does not have (its paths are returned) and what Go would
/// not write back: nulls, empty lists and empty maps.
pub(crate) fn decode(id: TypeId, value: &mut Value) -> Result<Vec<String>, Mismatch> {
    let mut decoder = Decoder { schemas: schemas(), unknown: Vec::new(), names: Vec::new() };
    let mut path = String::new();
    let Value::Object(fields) = value else {
        return Err(Mismatch(format!("json: cannot unmarshal {} into Go value", json_type(value))));
    };
    decoder.object(id, fields, &mut path)?;
    Ok(decoder.unknown)
}

struct Decoder {
    schemas: &'static Schemas,
    unknown: Vec<String>,
    /// Names of fields down to the present one: neither positions in lists nor keys of maps.
    names: Vec<String>,
}

impl Decoder {
    fn object(
        &mut self,
        id: TypeId,
        fields: &mut Map<String, Value>,
        path: &mut String,
    ) -> Result<(), Mismatch> {
        let ty = self.schemas.get(id);
        let mut drop = Vec::new();
        for (name, value) in fields.iter_mut() {
            let len = path.len();
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            match ty.field(name) {
                None => {
                    self.unknown.push(path.clone());
                    drop.push(name.clone());
                }
                Some(shape) => {
                    self.names.push(name.clone());
                    if self.value(shape, value, path, ty)? {
                        drop.push(name.clone());
                    }
                    self.names.pop();
                }
            }
            path.truncate(len);
        }
        for name in drop {
            fields.remove(&name);
        }
        Ok(())
    }

    /// Returns whether the field should be dropped.
    fn value(
        &mut self,
        shape: &Shape,
        value: &mut Value,
        path: &mut String,
        owner: &Type,
    ) -> Result<bool, Mismatch> {
        if value.is_null() {
            return Ok(true);
        }
        let good = match (shape, &mut *value) {
            (Shape::Any, _) => true,
            (Shape::String, Value::String(_))
            | (Shape::Bool, Value::Bool(_))
            | (Shape::Number, Value::Number(_)) => true,
            (Shape::Bytes, Value::String(s)) => return bytes(s).map(|()| false),
            (Shape::Int { wide }, Value::Number(n)) => {
                let fits = n.as_i64().is_some_and(|i| *wide || i32::try_from(i).is_ok());
                if !fits {
                    return Err(self.mismatch(&format!("number {n}"), shape, owner));
                }
                true
            }
            (Shape::IntOrString, Value::String(_)) => true,
            (Shape::IntOrString, Value::Number(n)) => n.is_i64() || n.is_u64(),
            (Shape::Quantity, Value::Number(n)) => {
                *value = Value::String(n.to_string());
                true
            }
            (Shape::Quantity, Value::String(s)) => {
                if super::quantity::Quantity::parse(s).is_none() {
                    return Err(Mismatch(
                        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".into(),
                    ));
                }
                true
            }
            (Shape::Time { .. }, Value::String(s)) => {
                time(s)?;
                true
            }
            (Shape::Map(items), Value::Object(m)) => {
                for (k, v) in m.iter_mut() {
                    let len = path.len();
                    let _ = write!(path, ".{k}");
                    if v.is_null() && matches!(**items, Shape::String) {
                        *v = Value::String(String::new());
                    }
                    self.value(items, v, path, owner)?;
                    path.truncate(len);
                }
                return Ok(m.is_empty());
            }
            (Shape::List(items, _), Value::Array(a)) => {
                for (i, v) in a.iter_mut().enumerate() {
                    let len = path.len();
                    let _ = write!(path, "[{i}]");
                    self.value(items, v, path, owner)?;
                    path.truncate(len);
                }
                return Ok(a.is_empty());
            }
            (Shape::Ref(id), Value::Object(m)) => {
                self.object(*id, m, path)?;
                true
            }
            _ => false,
        };
        if good { Ok(false) } else { Err(self.mismatch(json_type(value), shape, owner)) }
    }

    /// As Go says it: the struct that has the field, and the way to it without positions and keys.
    fn mismatch(&self, found: &str, shape: &Shape, owner: &Type) -> Mismatch {
        let ty = match shape {
            Shape::Int { wide: true } => "int64".to_owned(),
            Shape::Int { wide: false } => "int32".to_owned(),
            Shape::Bool => "bool".to_owned(),
            Shape::Number => "float64".to_owned(),
            Shape::Map(items) => format!("map[string]{}", go_type(items)),
            Shape::List(items, _) => format!("[]{}", go_type(items)),
            other => go_type(other),
        };
        Mismatch(format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {ty}",
            owner.go_name(),
            self.names.join(".")
        ))
    }
}

fn bytes(s: &str) -> Result<(), Mismatch> {
    use base64::Engine as _;
    match base64::engine::general_purpose::STANDARD.decode(s) {
        Ok(_) => Ok(()),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _)
                | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => s.len(),
            };
            Err(Mismatch(format!("illegal base64 data at input byte {at}")))
        }
    }
}

/// Whether a text is a time.
///
/// # Errors
/// When it is none, in the words of Go.
pub(crate) fn time(s: &str) -> Result<(), Mismatch> {
    if s.parse::<jiff::Timestamp>().is_ok() && s.contains('T') {
        return Ok(());
    }
    Err(Mismatch(format!(
        "parsing time \"{s}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{s}\" as \"2006\""
    )))
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::Ref(id) => {
            let name = &schemas().get(*id).name;
            let mut parts = name.rsplit('.');
            let (ty, version) =
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{version}.{ty}")
        }
        Shape::Int { wide: true } => "int64".into(),
        Shape::Int { wide: false } => "int32".into(),
        Shape::Bool => "bool".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::IntOrString => "intstr.IntOrString".into(),
        Shape::Time { .. } => "v1.Time".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::List(items, _) => format!("[]{}", go_type(items)),
        Shape::Map(items) => format!("map[string]{}", go_type(items)),
        _ => "string".into(),
    }
}

pub(crate) fn json_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> TypeId {
        schemas().find("io.k8s.api.core.v1.Pod").unwrap()
    }

    #[test]
    fn every_reference_of_the_embedded_file_leads_somewhere() {
        let all = serde_json::to_string(&definitions()).unwrap();
        let d = definitions();
        for part in all.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(d.contains_key(name), "{name}");
        }
    }

    #[test]
    fn unknown_fields_are_named_and_dropped() {
        let mut v = json!({"metadata": {"name": "a", "labels": {}}, "spec": {"containers": [{"name": "c", "imag": "x"}], "foo": 1}});
        let unknown = decode(pod(), &mut v).unwrap();
        assert_eq!(unknown, ["spec.containers[0].imag", "spec.foo"]);
        assert_eq!(v, json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}));
    }

    #[test]
    fn a_wrong_type_is_reported_in_the_words_of_go() {
        let mut v = json!({"metadata": {"labels": {"a.b": 1}}});
        assert_eq!(
            decode(pod(), &mut v).unwrap_err().to_string(),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
        );
        let mut v = json!({"spec": {"terminationGracePeriodSeconds": "x"}});
        assert_eq!(
            decode(pod(), &mut v).unwrap_err().to_string(),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"
        );
        let mut v = json!({"spec": {"containers": [{"ports": [{"containerPort": "http"}]}]}});
        assert_eq!(
            decode(pod(), &mut v).unwrap_err().to_string(),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
        );
    }
}

//! What the served types look like: fields, types, and how their lists merge.
//!
//! Owns: the embedded schema file (made by `schema-gen` from k8s-openapi), read into a compact form.
//! Called by: decoding, strategic merge, server-side apply, `/openapi`.
//! Never: knows defaults or validation beyond the JSON types.

use std::collections::HashMap;
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

    pub(crate) fn go_name(&self) -> &str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_embedded_file_leads_somewhere() {
        let all = serde_json::to_string(&definitions()).unwrap();
        let d = definitions();
        for part in all.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(d.contains_key(name), "{name}");
        }
    }
}

//! The fields of a JSON Schema that are one of two things or anything, for which the encoding has
//! messages of their own.
//!
//! Called by: the decoder, for each field. The field numbers are those of `JSON`,
//! `JSONSchemaPropsOrArray` and `JSONSchemaPropsOrBool` in apiextensions/v1/generated.proto.

use serde_json::{Map, Value, json};

use super::{Error, Reader, Result, Wire, message, single};
use crate::registry::schema::{Type, schemas};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn schema(b: &[u8], depth: usize) -> Result<Value> {
    let ty = schemas().find(SCHEMA).ok_or_else(|| Error::Kind(SCHEMA.to_owned()))?;
    let mut out = Map::new();
    message(ty, None, b, &mut out, depth)?;
    Ok(Value::Object(out))
}

/// Reads such a field; false if the field is another.
pub(super) fn field(
    owner: &Type,
    name: &str,
    wire: &Wire<'_>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<bool> {
    let Wire::Bytes(b) = wire else { return Ok(false) };
    if &*owner.name != SCHEMA {
        return Ok(false);
    }
    let value = match name {
        "items" => or_array(Reader(b), depth)?,
        "additionalProperties" | "additionalItems" => or_bool(Reader(b), depth)?,
        "default" | "example" | "enum" => anything(b)?,
        _ => return Ok(false),
    };
    if name != "enum" {
        out.insert(name.into(), value);
    } else if let Value::Array(all) = out.entry(name).or_insert_with(|| json!([])) {
        all.push(value);
    }
    Ok(true)
}

/// Any JSON, as its text; `null` has none.
fn anything(b: &[u8]) -> Result<Value> {
    let text = single(b)?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn or_array(mut r: Reader<'_>, depth: usize) -> Result<Value> {
    let mut all = Vec::new();
    while let Some((tag, wire)) = r.next()? {
        match (tag, wire) {
            (1, Wire::Bytes(b)) => return schema(b, depth),
            (2, Wire::Bytes(b)) => all.push(schema(b, depth)?),
            _ => {}
        }
    }
    Ok(Value::Array(all))
}

fn or_bool(mut r: Reader<'_>, depth: usize) -> Result<Value> {
    let mut allows = false;
    while let Some((tag, wire)) = r.next()? {
        match (tag, wire) {
            (1, Wire::Varint(v)) => allows = v != 0,
            (2, Wire::Bytes(b)) => return schema(b, depth),
            _ => {}
        }
    }
    Ok(allows.into())
}

//! Values as expressions see them.
//!
//! Owns: the types of values, and the names of fields that CEL cannot write.
//! Called by: `rules.rs`, `fields.rs`.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/#type-system-integration>, and "Field name
//! escaping" of the page on validation rules.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{self, functions};
use kube_cel::{CompiledSchema, SchemaFormat};
use serde_json::Value;

/// Words of the language, which a field cannot be called.
const WORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What a field is called in an expression.
pub(super) fn escaped(name: &str) -> String {
    if WORDS.contains(&name) {
        return format!("__{name}__");
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        // Only two underscores in a row could be mistaken for an escape.
        let (written, read) = match c {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            _ => (&rest[..c.len_utf8()], c.len_utf8()),
        };
        out.push_str(written);
        rest = &rest[read..];
    }
    out
}

fn text(s: &str) -> cel::Value {
    cel::Value::String(Arc::new(s.to_owned()))
}

/// A value of a schema.
pub(super) fn of_schema(value: &Value, schema: Option<&CompiledSchema>) -> cel::Value {
    let Some(schema) = schema else { return plain(value) };
    match value {
        Value::String(s) => formatted(s, &schema.format).unwrap_or_else(|| text(s)),
        Value::Array(list) => {
            let items = schema.items.as_deref();
            cel::Value::List(Arc::new(list.iter().map(|v| of_schema(v, items)).collect()))
        }
        Value::Object(fields) => {
            let mut map: HashMap<Key, cel::Value> = fields
                .iter()
                .map(|(k, v)| {
                    let of = schema.properties.get(k).or(schema.additional_properties.as_deref());
                    // The keys of a map are what the user chose.
                    let name = if schema.is_map { k.clone() } else { escaped(k) };
                    (Key::String(Arc::new(name)), of_schema(v, of))
                })
                .collect();
            if schema.embedded_resource {
                let key = |k: &str| Key::String(Arc::new(k.to_owned()));
                map.entry(key("apiVersion")).or_insert_with(|| text(""));
                map.entry(key("kind")).or_insert_with(|| text(""));
                let nothing = || cel::Value::Map(Map { map: Arc::default() });
                map.entry(key("metadata")).or_insert_with(nothing);
            }
            cel::Value::Map(Map { map: Arc::new(map) })
        }
        other => plain(other),
    }
}

/// A text that stands for something else.
fn formatted(s: &str, format: &SchemaFormat) -> Option<cel::Value> {
    let own = || Arc::new(s.to_owned());
    match format {
        SchemaFormat::DateTime => functions::timestamp(own()).ok(),
        SchemaFormat::Duration => functions::duration(own()).ok(),
        SchemaFormat::Bytes => STANDARD.decode(s).ok().map(|b| cel::Value::Bytes(Arc::new(b))),
        _ => None,
    }
}

/// A value without a schema: all integers are of one type.
pub(super) fn plain(v: &Value) -> cel::Value {
    match v {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::String(s) => text(s),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => cel::Value::Int(i),
            (None, Some(u)) => cel::Value::UInt(u),
            _ => cel::Value::Float(n.as_f64().unwrap_or_default()),
        },
        Value::Array(a) => cel::Value::List(Arc::new(a.iter().map(plain).collect())),
        Value::Object(m) => {
            let map: HashMap<Key, cel::Value> =
                m.iter().map(|(k, v)| (Key::String(Arc::new(k.clone())), plain(v))).collect();
            cel::Value::Map(Map { map: Arc::new(map) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The table under "Field name escaping".
    #[test]
    fn fields_are_called_what_the_language_can_write() {
        for (name, written) in [
            ("namespace", "__namespace__"),
            ("x-prop", "x__dash__prop"),
            ("redact__d", "redact__underscores__d"),
            ("string", "string"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("a_b", "a_b"),
        ] {
            assert_eq!(escaped(name), written);
        }
    }
}

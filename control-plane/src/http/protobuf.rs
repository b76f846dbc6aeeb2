//! Request bodies in Kubernetes' protobuf encoding, which kubectl and other Go clients send.
//!
//! Owns: turning such a body into the JSON it stands for, along the types of the schema file.
//! Called by: `body`. Answers are JSON: every client that sends protobuf also takes that.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::registry::schema::{Inline, Shape, Tagged, Type, TypeId, schemas};

mod json_schema;

/// What every such body starts with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may be nested.
const DEPTH: usize = 64;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    #[error("empty body")]
    Empty,
    #[error("the body ends in the middle of a field")]
    Short,
    #[error("field {0} has the wrong wire type")]
    Wire(u64),
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("messages are nested too deeply")]
    Depth,
    #[error("no kind is registered for {0}")]
    Kind(String),
}

type Result<T> = std::result::Result<T, Error>;

/// A field's value on the wire.
enum Wire<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut out = 0_u64;
        for i in 0..10 {
            let (first, rest) = self.0.split_first().ok_or(Error::Short)?;
            self.0 = rest;
            out |= u64::from(first & 0x7f).checked_shl(7 * i).unwrap_or(0);
            if first & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(Error::Short)
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8]> {
        let n = usize::try_from(n).map_err(|_| Error::Short)?;
        if n > self.0.len() {
            return Err(Error::Short);
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    fn fixed(&mut self, n: u64) -> Result<u64> {
        let bytes = self.take(n)?;
        Ok(bytes.iter().rev().fold(0, |a, b| a << 8 | u64::from(*b)))
    }

    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed(self.fixed(8)?),
            2 => {
                let n = self.varint()?;
                Wire::Bytes(self.take(n)?)
            }
            5 => Wire::Fixed(self.fixed(4)?),
            _ => return Err(Error::Wire(key >> 3)),
        };
        Ok(Some((key >> 3, wire)))
    }
}

/// Reads a body; the kind it names decides its type.
///
/// # Errors
/// When the body is not what it says.
pub(crate) fn decode(body: &[u8]) -> Result<Value> {
    let mut envelope = Reader(body.strip_prefix(MAGIC).ok_or(Error::Magic)?);
    if envelope.0.is_empty() {
        return Err(Error::Empty);
    }
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((tag, wire)) = envelope.next()? {
        match (tag, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader(meta);
                while let Some((tag, wire)) = meta.next()? {
                    match (tag, wire) {
                        (1, Wire::Bytes(b)) => api_version = text(b)?,
                        (2, Wire::Bytes(b)) => kind = text(b)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(b)) => raw = b,
            _ => {}
        }
    }
    let ty = type_of(&api_version, &kind)
        .ok_or_else(|| Error::Kind(format!("{kind} in {api_version}")))?;
    let mut out = Map::new();
    message(ty, None, raw, &mut out, DEPTH)?;
    out.insert("apiVersion".into(), api_version.into());
    out.insert("kind".into(), kind.into());
    Ok(Value::Object(out))
}

/// Where the types of definitions are.
const DEFINITIONS: &str = "apiextensions-apiserver.pkg.apis.apiextensions";

/// The type of a kind, by the names that Kubernetes gives its packages.
fn type_of(api_version: &str, kind: &str) -> Option<TypeId> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = match group {
        "" => "api.core",
        "apiextensions.k8s.io" => DEFINITIONS,
        "rbac.authorization.k8s.io" => "api.rbac",
        g => &format!("api.{}", g.split('.').next().unwrap_or_default()),
    };
    let found = schemas().find(&format!("io.k8s.{package}.{version}.{kind}"));
    // Options are in the group they are used for.
    found.or_else(|| schemas().find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")))
}

fn text(b: &[u8]) -> Result<String> {
    std::str::from_utf8(b).map(str::to_owned).map_err(|_| Error::Utf8)
}

fn message(
    ty: TypeId,
    inline: Option<&Inline>,
    body: &[u8],
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
    let owner = schemas().get(ty);
    let tags: &[Tagged] = inline.map_or(&owner.tags, |i| &i.tags);
    let mut reader = Reader(body);
    while let Some((tag, wire)) = reader.next()? {
        let Some(tagged) = tags.iter().find(|t| u64::from(t.tag) == tag) else { continue };
        // A message of its own on the wire whose fields JSON has in the parent.
        if let Some(inner) = schemas().inline(tagged) {
            let Wire::Bytes(b) = wire else { return Err(Error::Wire(tag)) };
            message(ty, Some(inner), b, out, depth)?;
            continue;
        }
        let Some(shape) = owner.field(&tagged.name) else { continue };
        if json_schema::field(owner, &tagged.name, &wire, out, depth)? {
            continue;
        }
        field(owner, shape, tag, wire, out, &tagged.name, depth)?;
    }
    Ok(())
}

fn field(
    owner: &Type,
    shape: &Shape,
    tag: u64,
    wire: Wire<'_>,
    out: &mut Map<String, Value>,
    name: &str,
    depth: usize,
) -> Result<()> {
    match shape {
        Shape::List(items, _) => {
            let slot = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = slot else { return Ok(()) };
            match (&**items, wire) {
                // Packed numbers.
                (Shape::Int { .. }, Wire::Bytes(b)) => {
                    let mut r = Reader(b);
                    while !r.0.is_empty() {
                        list.push(integer(r.varint()?));
                    }
                }
                (items, wire) => list.push(value(items, tag, wire, depth)?),
            }
        }
        Shape::Map(items) => {
            let Wire::Bytes(b) = wire else { return Err(Error::Wire(tag)) };
            let slot = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = slot else { return Ok(()) };
            let (mut key, mut found) = (String::new(), None);
            let mut r = Reader(b);
            while let Some((t, w)) = r.next()? {
                match (t, w) {
                    (1, Wire::Bytes(k)) => key = text(k)?,
                    (2, w) => found = Some(element(items, w, depth)?),
                    _ => {}
                }
            }
            map.insert(key, found.unwrap_or_else(|| empty(items)));
        }
        shape => {
            let v = value(shape, tag, wire, depth)?;
            // An empty text is how the encoding says that there is none.
            if v != "" && !is_default_number(owner, shape, &v, name) && !is_zero_time(shape, &v) {
                out.insert(name.to_owned(), v);
            }
        }
    }
    Ok(())
}

/// Go writes fields that are not pointers even when they are not set. Those that mean nothing as zero
/// are left out, so that defaults can fill them.
fn is_default_number(owner: &Type, shape: &Shape, v: &Value, name: &str) -> bool {
    match (shape, v) {
        (Shape::Bool, Value::Bool(false)) if owner.name.contains(DEFINITIONS) => {
            !matches!(name, "served" | "storage")
        }
        (Shape::Int { .. }, Value::Number(n)) if owner.name.contains(DEFINITIONS) => {
            n.as_i64() == Some(0) && matches!(name, "priority" | "observedGeneration")
        }
        (Shape::Bool, Value::Bool(false)) => matches!(
            name,
            "hostNetwork"
                | "hostPID"
                | "hostIPC"
                | "stdin"
                | "stdinOnce"
                | "tty"
                | "readOnly"
                | "unschedulable"
                | "paused"
                | "publishNotReadyAddresses"
                | "ready"
        ),
        (Shape::Int { .. }, Value::Number(n)) => {
            n.as_i64() == Some(0)
                && matches!(
                    name,
                    "generation"
                        | "hostPort"
                        | "nodePort"
                        | "minReadySeconds"
                        | "initialDelaySeconds"
                        | "timeoutSeconds"
                        | "periodSeconds"
                        | "successThreshold"
                        | "failureThreshold"
                        | "count"
                        | "healthCheckNodePort"
                        | "observedGeneration"
                )
        }
        _ => false,
    }
}

fn is_zero_time(shape: &Shape, v: &Value) -> bool {
    matches!(shape, Shape::Time { .. }) && v.is_null()
}

/// The value of a map's entry: lists in maps are messages with one repeated field.
fn element(items: &Shape, wire: Wire<'_>, depth: usize) -> Result<Value> {
    let (Shape::List(inner, _), Wire::Bytes(b)) = (items, &wire) else {
        return value(items, 2, wire, depth);
    };
    let mut list = Vec::new();
    let mut r = Reader(b);
    while let Some((tag, w)) = r.next()? {
        list.push(value(inner, tag, w, depth)?);
    }
    Ok(Value::Array(list))
}

fn empty(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => "".into(),
        Shape::List(..) => Value::Array(Vec::new()),
        Shape::Quantity => "0".into(),
        _ => Value::Object(Map::new()),
    }
}

fn integer(v: u64) -> Value {
    v.cast_signed().into()
}

/// A number as Go writes it: without a fraction if there is none.
fn number(v: f64) -> Value {
    let whole = format!("{v}");
    match whole.parse::<i64>() {
        Ok(n) if v.abs() < 1e15 => n.into(),
        _ => serde_json::Number::from_f64(v).map_or(Value::Null, Value::Number),
    }
}

fn value(shape: &Shape, tag: u64, wire: Wire<'_>, depth: usize) -> Result<Value> {
    Ok(match (shape, wire) {
        (Shape::String, Wire::Bytes(b)) => text(b)?.into(),
        (Shape::Bytes, Wire::Bytes(b)) => {
            base64::engine::general_purpose::STANDARD.encode(b).into()
        }
        (Shape::Bool, Wire::Varint(v)) => (v != 0).into(),
        (Shape::Int { .. }, Wire::Varint(v)) => integer(v),
        (Shape::Number, Wire::Fixed(v)) => number(f64::from_bits(v)),
        (Shape::Quantity, Wire::Bytes(b)) => single(b)?.into(),
        (Shape::IntOrString, Wire::Bytes(b)) => int_or_string(b)?,
        (Shape::Time { micro }, Wire::Bytes(b)) => time(b, *micro)?,
        // A message without fields.
        (Shape::Any, Wire::Bytes([])) => Value::Object(Map::new()),
        // Free JSON is carried as its text.
        (Shape::Any, Wire::Bytes(b)) => serde_json::from_str(&single(b)?).unwrap_or(Value::Null),
        (Shape::Ref(ty), Wire::Bytes(b)) => {
            let mut out = Map::new();
            message(*ty, None, b, &mut out, depth)?;
            Value::Object(out)
        }
        _ => return Err(Error::Wire(tag)),
    })
}

/// The text in field 1.
fn single(b: &[u8]) -> Result<String> {
    let mut r = Reader(b);
    while let Some((tag, wire)) = r.next()? {
        if let (1, Wire::Bytes(b)) = (tag, wire) {
            return text(b);
        }
    }
    Ok(String::new())
}

fn int_or_string(b: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    let mut r = Reader(b);
    while let Some((tag, wire)) = r.next()? {
        match (tag, wire) {
            (1, Wire::Varint(v)) => is_text = v == 1,
            (2, Wire::Varint(v)) => number = v,
            (3, Wire::Bytes(b)) => string = text(b)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { integer(number) })
}

fn time(b: &[u8], micro: bool) -> Result<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut r = Reader(b);
    while let Some((tag, wire)) = r.next()? {
        match (tag, wire) {
            (1, Wire::Varint(v)) => seconds = v.cast_signed(),
            (2, Wire::Varint(v)) => nanos = i32::try_from(v).unwrap_or(0),
            _ => {}
        }
    }
    // No time at all is written as an empty message.
    if b.is_empty() {
        return Ok(Value::Null);
    }
    let Ok(at) = jiff::Timestamp::new(seconds, nanos) else { return Ok(Value::Null) };
    Ok(if micro {
        crate::registry::meta::micro_timestamp(at)
    } else {
        crate::registry::meta::timestamp(at)
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kubectl_sends_for_a_namespace_is_read() {
        // `kubectl create namespace a`, as recorded on the wire.
        let body = b"k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x19\n\x11\n\x01a\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\n\x00\x1a\x00\"\x00";
        let v = decode(body).unwrap();
        assert_eq!(
            v,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {}, "status": {}})
        );
    }

    #[test]
    fn a_definition_is_read_with_its_schemas() {
        // As client-go 1.33 sends it.
        let body = b"\
            k8s\0\n3\n\x17apiextensions.k8s.io/v1\x12\x18CustomResourceDefinition\x12\xf0\
            \x03\n\x16\n\x06as.b.c\x12\0\x1a\0\"\0*\x002\08\0B\0\x12\xc9\x03\n\x03b.c\x1a\x0b\
            \n\x02as\x12\0\"\x01A*\0\"\nNamespaced:\xa6\x03\n\x02v1\x10\x01\x18\x01\"\xfd\
            \x02\n\xfa\x02\n\0\x12\0\"\0*\x06object2\0:\0P\0`\0z\0\x90\x01\0\xea\x01X\n\x01a\
            \x12S\n\0\x12\0\"\0*\x05array2\0:\0P\0`\0z\0\x90\x01\0\xc2\x01-\n+\n\0\x12\0\"\0\
            *\x06string2\0:\0B\x05\n\x03\"q\"P\0`\0z\0\x90\x01\0\xa8\x02\0\xb8\x02\0\xc0\x02\
            \0\xa8\x02\0\xb8\x02\0\xc0\x02\0\xea\x01g\n\x01b\x12b\n\0\x12\0\"\0*\x06object2\
            \0:\0P\0`\0z\0\x90\x01\0\xf2\x01;\x08\x01\x127\n\0\x12\0\"\0*\x07integer2\0:\0I\
            \0\0\0\0\0\0Y@P\0Y\0\0\0\0\0\0\xe0?`\0z\0\x90\x01\0\xa8\x02\0\xb8\x02\0\xc0\x02\
            \0\xa8\x02\0\xb8\x02\0\xc0\x02\0\xea\x01.\n\x01c\x12)\n\0\x12\0\"\0*\x06object2\
            \0:\0P\0`\0z\0\x90\x01\0\xf2\x01\x02\x08\x01\xa8\x02\0\xb8\x02\0\xc0\x02\0\xea\
            \x017\n\x01d\x122\n\0\x12\0\"\0*\x002\0:\0P\0`\0z\0\x90\x01\0\xa2\x01\x03\n\x011\
            \xa2\x01\x05\n\x03\"x\"\xa2\x01\0\xa8\x02\0\xb0\x02\x01\xb8\x02\0\xc0\x02\0\xea\
            \x01#\n\x01e\x12\x1e\n\0\x12\0\"\0*\x002\0:\0P\0`\0z\0\x90\x01\0\xa8\x02\x01\xb8\
            \x02\0\xc0\x02\x01\xa8\x02\0\xb8\x02\0\xc0\x02\0*\x02\n\x002\x16\n\x01N\x12\x07int\
            eger\x1a\0\"\0(\x002\x02.n8\0P\0\x1a\n\x12\x08\n\0\x12\0\"\0*\0\x1a\0\"\0";
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "string", "default": "q"}},
            "b": {"type": "object", "additionalProperties":
                {"type": "integer", "maximum": 100, "minimum": 0.5}},
            "c": {"type": "object", "additionalProperties": true},
            "d": {"enum": [1, "x", null], "x-kubernetes-preserve-unknown-fields": true},
            "e": {"x-kubernetes-int-or-string": true, "nullable": true}}});
        let version = json!({"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".n"}]});
        let read = decode(body).unwrap();
        assert_eq!(read["kind"], "CustomResourceDefinition");
        assert_eq!(read["metadata"], json!({"name": "as.b.c"}));
        let names = json!({"plural": "as", "kind": "A"});
        let spec =
            json!({"group": "b.c", "scope": "Namespaced", "names": names, "versions": [version]});
        assert_eq!(read["spec"], spec);
    }

    /// `kubectl delete` of a definition, as client-go 1.33 sends it.
    #[test]
    fn options_are_in_the_group_that_they_are_used_for() {
        let body = b"k8s\0\n(\n\x17apiextensions.k8s.io/v1\x12\rDeleteOptions\x12\0";
        assert_eq!(decode(body).unwrap()["kind"], "DeleteOptions");
    }

    #[test]
    fn every_cut_of_a_body_is_an_error_or_a_value_but_never_a_panic() {
        let body = b"k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x19\n\x11\n\x01a\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\n\x00\x1a\x00\"\x00";
        for n in 0..body.len() {
            let _ = decode(&body[..n]);
            let mut broken = body.to_vec();
            broken[n] ^= 0xff;
            let _ = decode(&broken);
        }
        assert_eq!(decode(b"{}"), Err(Error::Magic));
    }
}

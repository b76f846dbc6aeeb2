//! JSON as one of Kubernetes' types: which values fit, and what Go's decoder says of others.
//!
//! Owns: the JSON types of fields, base64, times and quantities in them, and unknown fields.
//! Called by: `http::body`, for all that clients send. Never: knows defaults or validation beyond that.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::quantity::Quantity;
use super::schema::{Schemas, Shape, Type, TypeId, schemas};

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
            (Shape::Bytes, Value::String(s)) => {
                // Go's decoder leaves out the ends of lines, as files and block scalars have them.
                s.retain(|c| !matches!(c, '\r' | '\n'));
                return bytes(s).map(|()| false);
            }
            (Shape::Int { wide }, Value::Number(n)) => {
                let fits = n.as_i64().is_some_and(|i| *wide || i32::try_from(i).is_ok());
                if !fits {
                    return Err(self.mismatch(&format!("number {n}"), shape, owner));
                }
                true
            }
            (Shape::IntOrString, Value::String(_)) => true,
            (Shape::IntOrString, Value::Number(n)) => {
                if !n.is_i64() && !n.is_u64() {
                    return Err(self.mismatch(&format!("number {n}"), shape, owner));
                }
                true
            }
            (Shape::Quantity, Value::Number(n)) => {
                let Some(kept) = Quantity::canonical(&n.to_string()) else {
                    return Err(Mismatch(NO_QUANTITY.into()));
                };
                *value = Value::String(kept);
                true
            }
            (Shape::Quantity, Value::String(s)) => {
                let Some(kept) = Quantity::canonical(s) else {
                    return Err(Mismatch(NO_QUANTITY.into()));
                };
                *s = kept;
                true
            }
            (Shape::Time { micro }, Value::String(s)) => {
                time(s)?;
                if *micro {
                    microseconds(s)?;
                }
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
            Shape::Int { wide: false } | Shape::IntOrString => "int32".to_owned(),
            Shape::Time { .. } => "string".to_owned(),
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

/// What is said of a text that is no quantity.
pub(crate) const NO_QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Whether a text is base64.
///
/// # Errors
/// When it is none, in the words of Go.
pub(crate) fn bytes(s: &str) -> Result<(), Mismatch> {
    use base64::Engine as _;
    match base64::engine::general_purpose::STANDARD.decode(s) {
        Ok(_) => Ok(()),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _)
                | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                // What is cut off is told by the beginning of the last four letters.
                _ if s.contains('=') => s.len(),
                _ => s.len() - s.len() % 4,
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

/// Whether a time says its microseconds, with six digits.
fn microseconds(s: &str) -> Result<(), Mismatch> {
    let rest = s.get(19..).unwrap_or_default();
    let digits =
        rest.strip_prefix('.').map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
    if digits == 6 {
        return Ok(());
    }
    let (wanted, left) = if digits < 6 { (".000000", rest) } else { ("Z07:00", &rest[7..]) };
    Err(Mismatch(format!(
        "parsing time \"{s}\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{left}\" as \"{wanted}\""
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
    fn unknown_fields_are_named_and_dropped() {
        let mut v = json!({"metadata": {"name": "a", "labels": {}}, "spec": {"containers": [{"name": "c", "imag": "x"}], "foo": 1}});
        let unknown = decode(pod(), &mut v).unwrap();
        assert_eq!(unknown, ["spec.containers[0].imag", "spec.foo"]);
        assert_eq!(v, json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}));
    }

    #[test]
    fn base64_in_lines_is_read_and_broken_base64_is_told_where() {
        let secret = schemas().find("io.k8s.api.core.v1.Secret").unwrap();
        let data = |text: &str| {
            let mut v = json!({"data": {"a": text}});
            decode(secret, &mut v).map(|_| v["data"]["a"].clone()).map_err(|e| e.to_string())
        };
        assert_eq!(data("aGVsbG8g\nd29ybGQ=\r\n"), Ok(json!("aGVsbG8gd29ybGQ=")));
        for (text, at) in [("Y", 0), ("YWJjY", 4), ("YQ=", 3), ("Y!==", 1)] {
            assert_eq!(
                data(text),
                Err(format!("illegal base64 data at input byte {at}")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_lease_is_renewed_at_a_time_with_microseconds() {
        let lease = schemas().find("io.k8s.api.coordination.v1.Lease").unwrap();
        let read = |time: &str| {
            let mut v = json!({"spec": {"renewTime": time}});
            decode(lease, &mut v).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(read("2020-01-01T00:00:00.000001Z"), Ok(()));
        assert_eq!(read("2020-01-01T00:00:00.000001+01:00"), Ok(()));
        for (time, left) in [("2020-01-01T00:00:00Z", "Z"), ("2020-01-01T00:00:00.5Z", ".5Z")] {
            assert_eq!(
                read(time),
                Err(format!(
                    "parsing time \"{time}\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{left}\" as \".000000\""
                ))
            );
        }
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

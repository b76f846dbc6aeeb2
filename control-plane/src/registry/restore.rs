//! Whether a JSON value can become one of Kubernetes' types, as whoever reads JSON that is already
//! parsed says it: patches that are merged by the server, and configurations that are applied.
//!
//! Owns: the words for what does not fit, and how Go shows values of any type.
//! Called by: `http::patch`, `http::apply`.

use serde_json::{Map, Value};

use super::decode;
use super::schema::{Shape, schemas};

/// What does not fit; the first that is found.
///
/// # Errors
/// In the words of Go's converter.
pub(crate) fn restorable(shape: &Shape, v: &Value) -> Result<(), String> {
    if v.is_null() {
        return Ok(());
    }
    match (shape, v) {
        (Shape::Ref(id), Value::Object(m)) => {
            let ty = schemas().get(*id);
            let mut known = m.iter().filter_map(|(k, v)| Some((ty.field(k)?, v)));
            known.try_for_each(|(shape, v)| restorable(shape, v))
        }
        (Shape::Map(items), Value::Object(m)) => m.values().try_for_each(|v| restorable(items, v)),
        (Shape::List(items, _), Value::Array(a)) => a.iter().try_for_each(|v| restorable(items, v)),
        (Shape::Ref(_), v) => Err(format!("cannot restore struct from: {}", kind_of(v))),
        (Shape::Map(_), v) => Err(format!("cannot restore map from {}", kind_of(v))),
        (Shape::List(..), v) => Err(format!("cannot restore slice from {}", kind_of(v))),
        (shape, v) => scalar(shape, v),
    }
}

fn scalar(shape: &Shape, v: &Value) -> Result<(), String> {
    let unmarshalled = |ty: &str| {
        let found = decode::json_type(v);
        Err(format!("json: cannot unmarshal {found} into Go value of type {ty}"))
    };
    match (shape, v) {
        (Shape::Any, _)
        | (Shape::String, Value::String(_))
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Number, Value::Number(_))
        | (Shape::IntOrString | Shape::Quantity, Value::String(_)) => Ok(()),
        (Shape::String, Value::Number(_)) => {
            Err(format!("cannot convert {} to string", kind_of(v)))
        }
        (Shape::String, _) => Err("unrecognized type: string".to_owned()),
        (Shape::Bytes, Value::String(s)) => {
            decode::bytes(s).map_err(|e| format!("error decoding from json: {e}"))
        }
        (Shape::Bytes, _) => Err(format!("cannot restore slice from {}", kind_of(v))),
        (Shape::Bool, _) => Err("unrecognized type: bool".to_owned()),
        (Shape::Number, _) => Err("unrecognized type: float64".to_owned()),
        (Shape::Int { wide }, v) => {
            let ty = if *wide { "int64" } else { "int32" };
            match v {
                Value::Number(n) if n.is_i64() => Ok(()),
                Value::Number(_) => Err(format!("cannot convert {} to {ty}", kind_of(v))),
                _ => Err(format!("unrecognized type: {ty}")),
            }
        }
        (Shape::IntOrString, Value::Number(n)) if n.is_i64() => Ok(()),
        (Shape::IntOrString, _) => unmarshalled("int32"),
        (Shape::Quantity, Value::Number(_)) => Ok(()),
        (Shape::Quantity, _) => Err(decode::NO_QUANTITY.to_owned()),
        (Shape::Time { .. }, Value::String(s)) => decode::time(s).map_err(|e| e.to_string()),
        (Shape::Time { .. }, _) => unmarshalled("string"),
        (Shape::Map(_) | Shape::List(..) | Shape::Ref(_), _) => Ok(()),
    }
}

/// What Go calls the kind of a value.
fn kind_of(v: &Value) -> &'static str {
    match v {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

/// The type itself, of a value that may be of any.
pub(crate) fn type_of(v: &Value) -> &'static str {
    match v {
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        v => kind_of(v),
    }
}

/// A value as Go prints it by default: `map[a:1 b:[x y]]`.
pub(crate) fn printed(v: &Value) -> String {
    match v {
        Value::Null => "<nil>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(a) => format!("[{}]", a.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(m) => {
            let all: Vec<String> = m.iter().map(|(k, v)| format!("{k}:{}", printed(v))).collect();
            format!("map[{}]", all.join(" "))
        }
        v => v.to_string(),
    }
}

/// A value as it would stand in a Go program: `map[string]interface {}{"a":1}`.
pub(crate) fn as_code(v: &Value) -> String {
    let each = |m: &Map<String, Value>| {
        m.iter().map(|(k, v)| format!("{k:?}:{}", as_code(v))).collect::<Vec<_>>().join(", ")
    };
    match v {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(a) => {
            let all: Vec<String> = a.iter().map(as_code).collect();
            format!("{}{{{}}}", type_of(v), all.join(", "))
        }
        Value::Object(m) => format!("{}{{{}}}", type_of(v), each(m)),
        v => v.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_does_not_fit_is_told_in_the_words_of_gos_converter() {
        let deployment = Shape::Ref(schemas().find("io.k8s.api.apps.v1.Deployment").unwrap());
        for (object, expected) in [
            (json!({"spec": 5}), "cannot restore struct from: int64"),
            (json!({"spec": []}), "cannot restore struct from: slice"),
            (json!({"spec": {"replicas": "x"}}), "unrecognized type: int32"),
            (json!({"spec": {"replicas": 1.5}}), "cannot convert float64 to int32"),
            (json!({"spec": {"paused": 5}}), "unrecognized type: bool"),
            (json!({"metadata": {"labels": []}}), "cannot restore map from slice"),
            (json!({"metadata": {"labels": {"a": 5}}}), "cannot convert int64 to string"),
            (json!({"metadata": {"finalizers": {}}}), "cannot restore slice from map"),
            (
                json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": true}}}}),
                "json: cannot unmarshal bool into Go value of type int32",
            ),
            (
                json!({"metadata": {"creationTimestamp": 5}}),
                "json: cannot unmarshal number into Go value of type string",
            ),
        ] {
            assert_eq!(restorable(&deployment, &object).unwrap_err(), expected, "{object}");
        }
        let fits = json!({"metadata": {"labels": null, "x": 1}, "spec": {"replicas": 1}});
        assert_eq!(restorable(&deployment, &fits), Ok(()));
    }

    #[test]
    fn values_are_shown_as_go_shows_them() {
        let v = json!({"b": [1, "x", null], "a": {"c": true}});
        assert_eq!(printed(&v), "map[a:map[c:true] b:[1 x <nil>]]");
        assert_eq!(as_code(&json!({"b": [1]})), "map[string]interface {}{\"b\":[]interface {}{1}}");
    }
}

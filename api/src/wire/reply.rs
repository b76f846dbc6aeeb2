//! The forms of answers: `OK`, a text, an object, `{Object, Err}`, a bare error.
//!
//! Owns: which JSON is which of them.
//! Called by: [`downstream`](super::downstream).
//! Never: hides an error: what the original stores as an (almost) empty object is
//! [`ReplyBody::Error`] here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::downstream::{ReplyBody, ReplyError};
use super::route;
use crate::raw::RawJson;

/// Keys of `{Object, Err}` and of errors.
const OBJECT: &str = "Object";
const ERR: &str = "Err";
const STATUS: &str = "ErrStatus";

impl ReplyBody {
    pub(super) fn decode(content: RawJson) -> Self {
        if let Some(text) = content.as_string() {
            return if text == route::OK { Self::Ok } else { Self::Text(text.into_owned()) };
        }
        let Ok(top) = content.to::<Top>() else {
            return Self::Plain(content);
        };
        match top {
            Top { object: Some(object), err, .. } => {
                Self::Object { object, err: err.and_then(ReplyError::decode) }
            }
            Top { status: Some(status), others: false, .. } => {
                Self::Error(ReplyError::Status(status))
            }
            Top { object: None, err: None, status: None, others: false } => {
                Self::Error(ReplyError::Unknown)
            }
            _ => Self::Plain(content),
        }
    }

    pub(super) fn encode(&self) -> RawJson {
        match self {
            Self::Ok => RawJson::string(route::OK),
            Self::Text(text) => RawJson::string(text),
            Self::Plain(object) => object.clone(),
            Self::Object { object, err } => raw(&ObjectResp { object, err: err.as_ref() }),
            Self::Error(err) => raw(err),
        }
    }
}

impl ReplyError {
    /// What stands under `Err`; `null` is no error.
    fn decode(err: RawJson) -> Option<Self> {
        if err.is_null() {
            return None;
        }
        let status = err.to::<Top>().ok().and_then(|top| top.status);
        Some(status.map_or(Self::Unknown, Self::Status))
    }
}

/// A struct of raw values always has a JSON form.
fn raw<T: Serialize>(value: &T) -> RawJson {
    RawJson::of(value).unwrap_or_else(|_| RawJson::null())
}

/// The keys of an answer that tell its form.
struct Top {
    object: Option<RawJson>,
    err: Option<RawJson>,
    status: Option<RawJson>,
    others: bool,
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: serde::Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        let mut keys = BTreeMap::<String, RawJson>::deserialize(de)?;
        let object = keys.remove(OBJECT);
        let err = keys.remove(ERR);
        let status = keys.remove(STATUS);
        Ok(Self { object, err, status, others: !keys.is_empty() })
    }
}

struct ObjectResp<'a> {
    object: &'a RawJson,
    err: Option<&'a ReplyError>,
}

impl Serialize for ObjectResp<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut resp = serializer.serialize_struct("ObjectResp", 2)?;
        resp.serialize_field(OBJECT, self.object)?;
        resp.serialize_field(ERR, &self.err)?;
        resp.end()
    }
}

impl Serialize for ReplyError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Status(status) => {
                let mut err = serializer.serialize_struct("StatusError", 1)?;
                err.serialize_field(STATUS, status)?;
                err.end()
            }
            Self::Unknown => serializer.serialize_struct("Error", 0)?.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> ReplyBody {
        ReplyBody::decode(RawJson::parse(text.to_owned()).unwrap())
    }

    #[test]
    fn each_form_is_told_from_the_others() {
        assert_eq!(body("\"OK\""), ReplyBody::Ok);
        assert_eq!(body("\"no such pod\""), ReplyBody::Text("no such pod".to_owned()));
        assert_eq!(body("{}"), ReplyBody::Error(ReplyError::Unknown));
        assert!(
            matches!(body("{\"ErrStatus\":{\"code\":404}}"), ReplyBody::Error(ReplyError::Status(s)) if s.get() == "{\"code\":404}")
        );
        assert!(matches!(
            body("{\"Object\":{},\"Err\":null}"),
            ReplyBody::Object { err: None, .. }
        ));
        assert!(matches!(
            body("{\"Object\":null,\"Err\":{}}"),
            ReplyBody::Object { err: Some(ReplyError::Unknown), .. }
        ));
        assert!(matches!(body("{\"kind\":\"Secret\"}"), ReplyBody::Plain(_)));
        assert!(matches!(body("null"), ReplyBody::Plain(_)));
    }

    #[test]
    fn an_object_that_only_mentions_an_error_is_an_object() {
        assert!(matches!(body("{\"ErrStatus\":{},\"kind\":\"Odd\"}"), ReplyBody::Plain(_)));
    }

    #[test]
    fn each_form_is_written_as_it_was_read() {
        for text in [
            "\"OK\"",
            "\"text\"",
            "{}",
            "{\"ErrStatus\":{\"code\":404}}",
            "{\"Object\":{\"a\":1},\"Err\":null}",
            "{\"Object\":null,\"Err\":{\"ErrStatus\":{}}}",
            "{\"Object\":null,\"Err\":{}}",
            "{\"kind\":\"Secret\"}",
        ] {
            assert_eq!(body(text).encode().get(), text);
        }
    }
}

//! JSON that is carried, not understood; and JSON written as Go writes it.
//!
//! Owns: [`RawJson`], the look at an object's head without building a tree, Go's way of encoding.
//! Called by: `wire`, and whoever makes or reads the content of a message.
//! Never: changes a byte of what it carries.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::value::RawValue;

/// A piece of JSON kept as the text it arrived as.
///
/// The cloud-to-edge path carries objects in this form, so that a field newer than our types is
/// not lost on its way. A clone shares the text: one object may go to hundreds of nodes. `Debug`
/// prints only the length: the text may be a Secret.
#[derive(Clone)]
pub struct RawJson(Arc<RawValue>);

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(de).map(|raw| Self(raw.into()))
    }
}

impl RawJson {
    /// The JSON `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }

    /// A JSON string.
    pub fn string(text: &str) -> Self {
        // A `str` always has a JSON form; `null` stands in for an error that cannot happen.
        Self::of(text).unwrap_or_else(|_| Self::null())
    }

    /// Serializes `value` as Go would: `<`, `>`, `&`, U+2028 and U+2029 are escaped in strings,
    /// and whole floats have no `.0`.
    ///
    /// # Errors
    /// When `value` has no JSON form (a map whose keys are not strings, for example).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Self::parse(go_json(value)?)
    }

    /// Takes text that must be exactly one JSON value.
    ///
    /// # Errors
    /// When it is not.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|raw| Self(raw.into()))
    }

    /// The text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Whether this is the JSON `null`.
    pub fn is_null(&self) -> bool {
        self.get() == "null"
    }

    /// Whether this is a JSON object.
    pub fn is_object(&self) -> bool {
        self.get().starts_with('{')
    }

    /// The value of a JSON string; `None` for anything else, and for a string that holds a lone
    /// surrogate.
    pub fn as_string(&self) -> Option<Cow<'_, str>> {
        if !self.get().starts_with('"') {
            return None;
        }
        serde_json::from_str::<BorrowedText<'_>>(self.get()).ok().map(|t| t.0)
    }

    /// What the original calls the content's bytes: a string's value, else the JSON text.
    pub fn text(&self) -> Cow<'_, str> {
        self.as_string().unwrap_or(Cow::Borrowed(self.get()))
    }

    /// Reads the text as a `T`.
    ///
    /// # Errors
    /// When the text is not of the form of `T`.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.get())
    }

    /// Looks at the head of a Kubernetes object.
    ///
    /// # Errors
    /// When the text is not an object, or a field of the head has the wrong type.
    pub fn head(&self) -> Result<ObjectHead, serde_json::Error> {
        serde_json::from_str(self.get())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.get().len())
    }
}

/// A string that borrows where the text has no escapes. (`Cow` alone always copies.)
#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// What is needed to route and compare a Kubernetes object, read without building a tree of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectHead {
    /// `apiVersion`
    pub api_version: Option<String>,
    /// `kind`
    pub kind: Option<String>,
    /// `metadata`, as far as it is needed.
    pub metadata: MetadataHead,
}

/// See [`ObjectHead`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetadataHead {
    /// `metadata.name`
    pub name: Option<String>,
    /// `metadata.namespace`
    pub namespace: Option<String>,
    /// `metadata.uid`
    pub uid: Option<String>,
    /// `metadata.resourceVersion`
    pub resource_version: Option<String>,
    /// `metadata.deletionTimestamp`
    pub deletion_timestamp: Option<String>,
}

impl MetadataHead {
    /// Whether the object is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.as_ref().is_some_and(|t| !t.is_empty())
    }
}

/// `value` as Go's `encoding/json` would write it.
///
/// # Errors
/// When `value` has no JSON form.
pub fn go_json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = Vec::with_capacity(128);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoFormatter))?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Writes strings and floats as Go's `encoding/json` does. Raw values pass through as they are.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(special) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = format!("{value:e}");
            let sign = if size >= 1.0 { "e+" } else { "e" };
            return writer.write_all(text.replace('e', sign).as_bytes());
        }
        write!(writer, "{value}")
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        let size = value.abs();
        if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = format!("{value:e}");
            let sign = if size >= 1.0 { "e+" } else { "e" };
            return writer.write_all(text.replace('e', sign).as_bytes());
        }
        write!(writer, "{value}")
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        char_escape: serde_json::ser::CharEscape,
    ) -> io::Result<()> {
        CompactFormatter.write_char_escape(writer, char_escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let text = "a<b>&\u{2028}\u{2029}\"\\\n\r\t\u{1}\u{7f}ü🚀";
        assert_eq!(
            go_json(text).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\n\\r\\t\\u0001\u{7f}ü🚀\""
        );
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, go) in [
            (1.0, "1"),
            (0.0, "0"),
            (-0.5, "-0.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (123_456_789.25, "123456789.25"),
        ] {
            assert_eq!(go_json(&value).unwrap(), go);
        }
    }

    #[test]
    fn raw_content_passes_through_unchanged() {
        let raw = RawJson::parse("{ \"a\" : \"<\",\"b\":1.0}".to_owned()).unwrap();
        let outer = RawJson::of(&[&raw]).unwrap();
        assert_eq!(outer.get(), "[{ \"a\" : \"<\",\"b\":1.0}]");
    }

    #[test]
    fn the_head_of_an_object_is_read_and_the_rest_is_not_judged() {
        let raw = RawJson::parse(
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","uid":"u-1","resourceVersion":"7","creationTimestamp":null,"deletionTimestamp":"2026-09-21T14:15:00Z"},"spec":[1]}"#.to_owned(),
        )
        .unwrap();
        let head = raw.head().unwrap();
        assert_eq!(head.kind.as_deref(), Some("Pod"));
        assert_eq!(head.metadata.uid.as_deref(), Some("u-1"));
        assert_eq!(head.metadata.namespace, None);
        assert!(head.metadata.is_deleting());
        assert!(RawJson::string("x").head().is_err());
    }

    #[test]
    fn a_string_gives_its_value_and_anything_else_its_text() {
        assert_eq!(RawJson::string("a\"b").text(), "a\"b");
        assert_eq!(RawJson::parse("{\"a\":1}".to_owned()).unwrap().text(), "{\"a\":1}");
        assert_eq!(RawJson::null().as_string(), None);
    }

    #[test]
    fn debug_never_shows_the_text() {
        assert_eq!(format!("{:?}", RawJson::string("secret")), "RawJson(8 bytes)");
    }
}

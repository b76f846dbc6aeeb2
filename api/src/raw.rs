//! JSON that is carried, not understood.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A piece of JSON kept as the text it arrived as.
///
/// The cloud-to-edge path carries objects in this form, so that a field newer than our types is
/// not lost on its way. `Debug` prints only the length: the text may be a Secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The JSON `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// Serializes `value`.
    ///
    /// # Errors
    /// When `value` has no JSON form (a map whose keys are not strings, for example).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Takes text that must be exactly one JSON value.
    ///
    /// # Errors
    /// When it is not.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// The text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Whether this is the JSON `null`.
    pub fn is_null(&self) -> bool {
        self.get() == "null"
    }

    /// Reads the text as a `T`.
    ///
    /// # Errors
    /// When the text is not of the form of `T`.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
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

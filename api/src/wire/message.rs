//! The envelope: header, route, content.
//!
//! Owns: the three structs and the reading of their JSON as Go reads it: keys in any case, unknown
//! keys ignored, `null` the same as absent, the last of two equal keys wins.
//! Called by: [`json`](super::json), [`package`](super::package), the two enums.
//! Never: looks into the content.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::raw::RawJson;

/// No message may be larger than this, in either direction: 32 MiB.
pub const MAX_MESSAGE: usize = 32 << 20;

/// One message as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who, when, in answer to what.
    pub header: Header,
    /// From where to where, and what to do.
    pub route: Route,
    /// The body; its form depends on the route.
    pub content: RawJson,
}

/// The `header` object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Unique id of this message.
    pub msg_id: String,
    /// Id of the message that this one answers; empty if none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent_msg_id: String,
    /// Creation time in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// `resourceVersion` of the object in the content; empty if none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resourceversion: String,
    /// Sender blocks for an answer. Never set on the wire by KubeEdge.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    /// Context kind of the original's message bus; empty in practice.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// The `route` object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Sending module.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Unused on the wire.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// Receiving group of modules.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Verb.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// Resource path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
}

/// A struct read key by key, as Go's `encoding/json` does it.
trait GoObject: Default {
    const EXPECTING: &'static str;
    /// Reads the value of `key` (in lower case) if it is known; `false` if it is not.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Fills a `T`, which may already hold the values of an earlier key of the same name.
struct Fill<T>(T);

impl<'de, T: GoObject> DeserializeSeed<'de> for Fill<T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<T, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de, T: GoObject> Visitor<'de> for Fill<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed(PhantomData))? {
            if !self.0.read(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self.0)
    }
}

/// A key in lower case, borrowed where it can be.
struct KeySeed<'de>(PhantomData<&'de ()>);

impl<'de> DeserializeSeed<'de> for KeySeed<'de> {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'de> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        if key.bytes().any(|b| b.is_ascii_uppercase()) {
            return Ok(key.to_ascii_lowercase().into());
        }
        Ok(key.into())
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(key.to_ascii_lowercase().into())
    }
}

/// Sets `field` unless the value is `null`.
fn set<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut T,
    map: &mut A,
) -> Result<bool, A::Error> {
    if let Some(value) = map.next_value()? {
        *field = value;
    }
    Ok(true)
}

impl GoObject for Header {
    const EXPECTING: &'static str = "a header object";
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "msg_id" => set(&mut self.msg_id, map),
            "parent_msg_id" => set(&mut self.parent_msg_id, map),
            "timestamp" => set(&mut self.timestamp, map),
            "resourceversion" => set(&mut self.resourceversion, map),
            "sync" => set(&mut self.sync, map),
            "type" => set(&mut self.kind, map),
            _ => Ok(false),
        }
    }
}

impl GoObject for Route {
    const EXPECTING: &'static str = "a route object";
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "source" => set(&mut self.source, map),
            "destination" => set(&mut self.destination, map),
            "group" => set(&mut self.group, map),
            "operation" => set(&mut self.operation, map),
            "resource" => set(&mut self.resource, map),
            _ => Ok(false),
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self { header: Header::default(), route: Route::default(), content: RawJson::null() }
    }
}

impl GoObject for Message {
    const EXPECTING: &'static str = "a message object";
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "header" => {
                self.header = map.next_value_seed(Fill(std::mem::take(&mut self.header)))?
            }
            "route" => self.route = map.next_value_seed(Fill(std::mem::take(&mut self.route)))?,
            "content" => self.content = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        de.deserialize_map(Fill(Self::default()))
    }
}

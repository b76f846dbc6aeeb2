//! What is said about twins, in JSON.
//!
//! Owns: the payloads of the topics, and of the messages to and from the cloud that are alike.
//! Called by: devicetwin, devicecontroller.
//! Never: judges a value; merging and versions are devicetwin's.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::raw::go_json;

/// No payload is larger: 1 MiB.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Why a payload was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Above [`MAX_PAYLOAD`].
    #[error("a payload of {len} bytes exceeds the limit of {MAX_PAYLOAD}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// Not of the form wanted.
    #[error("the payload cannot be read")]
    Json(#[source] serde_json::Error),
}

/// Reads a payload.
///
/// # Errors
/// When it is too large or not of the form of a `T`.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, PayloadError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(PayloadError::TooLarge { len: payload.len() });
    }
    serde_json::from_slice(payload).map_err(PayloadError::Json)
}

/// Writes a payload as the original does.
///
/// # Errors
/// When it would be too large.
pub fn encode<T: Serialize>(message: &T) -> Result<String, PayloadError> {
    let text = go_json(message).map_err(PayloadError::Json)?;
    if text.len() > MAX_PAYLOAD {
        return Err(PayloadError::TooLarge { len: text.len() });
    }
    Ok(text)
}

/// Go reads `null` as the zero value.
fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<T, D::Error> {
    Option::deserialize(de).map(Option::unwrap_or_default)
}

/// A property's twin: wanted and reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsgTwin {
    /// What is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<TwinValue>,
    /// What is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<TwinValue>,
    /// Whether it may be deleted; `true` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TypeMetadata>,
    /// Version of what is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<TwinVersion>,
    /// Version of what is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_version: Option<TwinVersion>,
}

/// A value, always as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinValue {
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ValueMetadata>,
}

/// What is known of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMetadata {
    /// Milliseconds since the Unix epoch; 0 is not written.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub timestamp: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What is known of a property.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeMetadata {
    /// `string` if absent; `deleted` marks a property that is no more.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

/// How often either side has changed a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinVersion {
    /// By the cloud.
    #[serde(default, deserialize_with = "null_is_default")]
    pub cloud: i64,
    /// By the edge.
    #[serde(default, deserialize_with = "null_is_default")]
    pub edge: i64,
}

/// An attribute of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsgAttr {
    /// Its value, as text.
    #[serde(default, deserialize_with = "null_is_default")]
    pub value: String,
    /// Whether it may be deleted; `true` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TypeMetadata>,
}

/// A device, as it is spoken of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `namespace/name`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `online`, `offline`, `ok`, `unknown` or `unhealthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_online: Option<String>,
    /// Attributes by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, Option<MsgAttr>>>,
    /// Twins by property.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<BTreeMap<String, Option<MsgTwin>>>,
}

/// Nothing but who asks and when: `twin/get`, `membership/get`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// Chosen by who asks; stands in the answer.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
}

/// Twins: `twin/update`, `twin/cloud_updated`, `twin/edge_updated`, `twin/get/result`, and the
/// result of an update that was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinUpdate {
    /// Stands in the answer.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// By property; `null` deletes it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub twin: BTreeMap<String, Option<MsgTwin>>,
}

/// The result of something that was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Of what was asked.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// See the constants.
    pub code: u16,
    /// For people.
    #[serde(default)]
    pub reason: String,
}

impl Refusal {
    /// What was asked makes no sense.
    pub const BAD_REQUEST: u16 = 400;
    /// There is no such device.
    pub const NOT_FOUND: u16 = 404;
    /// Somebody else was first.
    pub const CONFLICT: u16 = 409;
    /// It could not be stored.
    pub const INTERNAL: u16 = 500;
}

/// `twin/update/delta`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinDelta {
    /// Of the update.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// All properties of which something is wanted.
    #[serde(default, deserialize_with = "null_is_default")]
    pub twin: BTreeMap<String, Option<MsgTwin>>,
    /// What is wanted of those that have something else.
    #[serde(default, deserialize_with = "null_is_default")]
    pub delta: BTreeMap<String, String>,
}

/// `twin/update/document`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinDocument {
    /// Of the update.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// By property.
    #[serde(default, deserialize_with = "null_is_default")]
    pub twin: BTreeMap<String, TwinChange>,
}

/// A property before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinChange {
    /// Before; null if it is new.
    #[serde(default)]
    pub last: Option<MsgTwin>,
    /// After; null if it is gone.
    #[serde(default)]
    pub current: Option<MsgTwin>,
}

/// `state/update`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateUpdate {
    /// Stands in the answer.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// The state. Mappers that speak gRPC have it under `State`.
    #[serde(default, alias = "State", deserialize_with = "null_is_default")]
    pub state: String,
}

/// `state/update/result`, and what the cloud is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// Of the update.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// The device.
    #[serde(default, deserialize_with = "null_is_default")]
    pub device: DeviceState,
}

/// The state of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceState {
    /// Its name.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// Its state.
    #[serde(default, deserialize_with = "null_is_default")]
    pub state: String,
    /// When it was last online, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_online_time: Option<String>,
}

/// `updated`: attributes have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributesUpdated {
    /// Of the change.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// By name; null for one that is gone.
    #[serde(default, deserialize_with = "null_is_default")]
    pub attributes: BTreeMap<String, Option<MsgAttr>>,
}

/// `membership/updated`, and the content of the cloud's `membership`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipUpdate {
    /// Of the change.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// Devices that came; null for none.
    #[serde(default)]
    pub added_devices: Option<Vec<Device>>,
    /// Devices that went; null for none.
    #[serde(default)]
    pub removed_devices: Option<Vec<Device>>,
}

/// `membership/get/result`, and the content of the cloud's `membership/detail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipList {
    /// Of what was asked.
    #[serde(default, deserialize_with = "null_is_default")]
    pub event_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timestamp: i64,
    /// The devices.
    #[serde(default, deserialize_with = "null_is_default")]
    pub devices: Vec<Device>,
}

/// With this a node asks the cloud for its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MembershipDetailGet {
    /// `group_membership_event`
    pub event_type: String,
    /// Stands in the answer.
    pub event_id: String,
    /// The node.
    pub group_id: String,
    /// `detail`
    pub operation: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    fn content(name: &str) -> String {
        let line = include_str!("../../tests/vectors/viaduct-messages.jsonl")
            .lines()
            .find(|line| line.contains(&format!("\"name\":\"{name}\"")))
            .unwrap();
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let msg = json::decode(row["ws_text"].as_str().unwrap().as_bytes()).unwrap();
        msg.content.text().into_owned()
    }

    fn survives<T: Serialize + DeserializeOwned>(text: &str) -> T {
        let message: T = decode(text.as_bytes()).unwrap();
        assert_eq!(encode(&message).unwrap(), text);
        message
    }

    #[test]
    fn what_the_original_wrote_is_read_and_written_again() {
        let update: MembershipUpdate = survives(&content("membership-update"));
        let added = update.added_devices.unwrap();
        assert_eq!(added[0].id.as_deref(), Some("default/sensor-1"));
        let get: MembershipDetailGet = survives(&content("membership-detail-get"));
        assert_eq!(get.group_id, "edge-1");
        let update: TwinUpdate = survives(&content("twin-edge-updated"));
        let twin = update.twin["temperature"].as_ref().unwrap();
        assert_eq!(twin.actual_version, Some(TwinVersion { cloud: 0, edge: 1 }));
        let report: StateReport = survives(&content("device-state-update"));
        assert_eq!(report.device.state, "online");
    }

    #[test]
    fn every_payload_of_the_topics_survives() {
        survives::<TwinUpdate>(
            "{\"event_id\":\"e\",\"timestamp\":0,\"twin\":{\"t\":{\"actual\":{\"value\":\"23\"},\
             \"metadata\":{\"type\":\"string\"}},\"u\":null}}",
        );
        survives::<Refusal>("{\"event_id\":\"e\",\"timestamp\":1,\"code\":404,\"reason\":\"r\"}");
        survives::<TwinDelta>(
            "{\"event_id\":\"e\",\"timestamp\":1,\"twin\":{\"t\":{\"expected\":{\"value\":\"1\"}}},\
             \"delta\":{\"t\":\"1\"}}",
        );
        survives::<TwinDocument>(
            "{\"event_id\":\"e\",\"timestamp\":1,\"twin\":{\"t\":{\"last\":null,\"current\":{}}}}",
        );
        survives::<AttributesUpdated>(
            "{\"event_id\":\"e\",\"timestamp\":1,\"attributes\":{\"a\":{\"value\":\"v\"},\"b\":null}}",
        );
        survives::<MembershipList>(
            "{\"event_id\":\"\",\"timestamp\":1,\"devices\":[{\"id\":\"a/b\"}]}",
        );
    }

    #[test]
    fn null_is_the_zero_value_and_unknown_keys_are_ignored() {
        let update: TwinUpdate =
            decode(b"{\"event_id\":null,\"timestamp\":null,\"twin\":null,\"x\":[]}").unwrap();
        assert_eq!(update, TwinUpdate::default());
        let state: StateUpdate = decode(b"{\"State\":\"ok\"}").unwrap();
        assert_eq!(state.state, "ok");
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(matches!(decode::<TwinUpdate>(b"{\"twin\":[]}"), Err(PayloadError::Json(_))));
        assert!(matches!(decode::<TwinUpdate>(b""), Err(PayloadError::Json(_))));
        let long = vec![b' '; MAX_PAYLOAD + 1];
        assert!(matches!(decode::<TwinUpdate>(&long), Err(PayloadError::TooLarge { .. })));
    }
}

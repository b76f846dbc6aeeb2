//! The payloads of the device twin. Pure.
//!
//! Owns: how what happened becomes a message. Called by: `state.rs`, `membership.rs`.
//! Never: decides what happened.

use std::collections::BTreeMap;

use api::twin::message::{self as payload, DeviceState, MsgAttr, Refusal, StateReport};
use api::twin::topics::{DeviceId, DeviceTopic, Topic};
use jiff::Timestamp;
use serde::Serialize;

use super::state::{Device, Effect};

pub(super) fn ms(now: Timestamp) -> i64 {
    now.as_millisecond()
}

pub(super) fn event_id_now() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub(super) fn chain(e: &(dyn std::error::Error + 'static)) -> String {
    service::error_chain(e)
}

pub(super) fn json<T: Serialize>(message: &T) -> String {
    // Fails only above the limit of a payload, which what was read within it cannot reach; the
    // receiver sees that something was here.
    payload::encode(message).unwrap_or_else(|_| "{}".to_owned())
}

pub(super) fn publish<T: Serialize>(topic: String, message: &T) -> Effect {
    Effect::Publish { topic, payload: json(message) }
}

pub(super) fn device_topic<T: Serialize>(id: &DeviceId, what: DeviceTopic, message: &T) -> Effect {
    publish(Topic::Device(id.clone(), what).to_string(), message)
}

pub(super) fn refusal(event_id: String, code: u16, reason: &str, now: Timestamp) -> Refusal {
    Refusal { event_id, timestamp: ms(now), code, reason: reason.to_owned() }
}

pub(super) fn state_report(device: &Device, event_id: String, now: Timestamp) -> StateReport {
    StateReport {
        event_id,
        timestamp: ms(now),
        device: DeviceState {
            name: device.name.clone(),
            state: device.state.clone(),
            last_online_time: Some(device.last_online.clone()).filter(|t| !t.is_empty()),
        },
    }
}

pub(super) fn id_of(device: &payload::Device) -> Option<DeviceId> {
    device.id.as_deref()?.parse().ok()
}

/// A device as the cloud speaks of it.
pub(super) fn said_of(id: &DeviceId) -> payload::Device {
    payload::Device {
        id: Some(id.to_string()),
        name: Some(id.name.to_string()),
        ..payload::Device::default()
    }
}

/// A device as its node speaks of it, without its twin.
pub(super) fn spoken_of(id: &DeviceId, device: &Device) -> payload::Device {
    let some = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    let attributes: BTreeMap<String, Option<MsgAttr>> =
        device.attributes.iter().map(|(n, a)| (n.clone(), Some(a.clone()))).collect();
    payload::Device {
        id: Some(id.to_string()),
        name: some(&device.name),
        description: some(&device.description),
        state: some(&device.state),
        last_online: some(&device.last_online),
        attributes: Some(attributes).filter(|a| !a.is_empty()),
        twin: None,
    }
}

//! Which devices a node has, as the messages of the group `membership` say it. Pure.
//!
//! They are not acknowledged, and what is lost of them would stay lost. So none is kept: each
//! device that goes to a node, or goes again, is announced anew, and on connect a node asks for
//! the whole list.
//!
//! Owns: their contents.
//! Called by: `cloudhub::registry` (announcements), `upstream.rs` (the list).
//! Never: reads a clock.

use api::names::{Kind, ObjectKey};
use api::raw::RawJson;
use api::twin::message::{Device, MembershipList, MembershipUpdate};
use api::wire::downstream::{Downstream, ObjectPush, PushOp};

fn device(key: &ObjectKey) -> Device {
    let namespace = key.namespace.as_ref().map_or("", |n| n.as_str());
    Device {
        id: Some(format!("{namespace}/{}", key.name)),
        name: Some(key.name.to_string()),
        ..Device::default()
    }
}

fn event_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What is said before a device goes to a node, or away from it. A change is not announced.
pub fn announcement(push: &ObjectPush, now_ms: i64) -> Option<Downstream> {
    if push.key.kind != Kind::Device {
        return None;
    }
    let devices = Some(vec![device(&push.key)]);
    let (added_devices, removed_devices) = match push.op {
        PushOp::Insert => (devices, None),
        PushOp::Delete => (None, devices),
        PushOp::Update => return None,
    };
    let update = MembershipUpdate {
        event_id: event_id(),
        timestamp: now_ms,
        added_devices,
        removed_devices,
    };
    RawJson::of(&update).ok().map(Downstream::Membership)
}

/// All devices of a node.
pub fn list<'a>(devices: impl Iterator<Item = &'a ObjectKey>, now_ms: i64) -> Option<Downstream> {
    let mut devices: Vec<Device> = devices.map(device).collect();
    devices.sort_by(|a, b| a.id.cmp(&b.id));
    let list = MembershipList { event_id: event_id(), timestamp: now_ms, devices };
    RawJson::of(&list).ok().map(Downstream::MembershipDetail)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::edgecontroller::index::deletion;

    fn key() -> ObjectKey {
        "default/device/sensor-1".parse().unwrap()
    }

    #[test]
    fn a_device_is_announced_as_the_original_does_it() {
        let mut push = deletion(&key(), &"u".parse().unwrap(), None);
        push.op = PushOp::Insert;
        let Some(Downstream::Membership(content)) = announcement(&push, 7) else { panic!() };
        let mut value: Value = content.to().unwrap();
        value["event_id"] = "e".into();
        assert_eq!(
            value,
            json!({"event_id": "e", "timestamp": 7, "removed_devices": null,
                "added_devices": [{"id": "default/sensor-1", "name": "sensor-1"}]})
        );
        push.op = PushOp::Update;
        assert_eq!(announcement(&push, 7), None);
        push.op = PushOp::Delete;
        let Some(Downstream::Membership(content)) = announcement(&push, 7) else { panic!() };
        assert!(content.get().contains(r#""added_devices":null"#), "{}", content.get());
        push.key.kind = Kind::DeviceModel;
        assert_eq!(announcement(&push, 7), None);
    }

    #[test]
    fn the_list_is_in_order_and_empty_for_a_node_without_devices() {
        let none: [ObjectKey; 0] = [];
        let Some(Downstream::MembershipDetail(content)) = list(none.iter(), 1) else { panic!() };
        assert!(content.get().contains(r#""devices":[]"#), "{}", content.get());
        let two: [ObjectKey; 2] = ["b/device/a".parse().unwrap(), key()];
        let Some(Downstream::MembershipDetail(content)) = list(two.iter(), 1) else { panic!() };
        let value: Value = content.to().unwrap();
        assert_eq!(value["devices"][1]["id"], "default/sensor-1");
    }
}

//! Which devices belong to this node. Pure.
//!
//! Owns: how devices come and go, by the cloud's lists and by its Devices.
//! Called by: `state.rs`, of whose [`State`] it is a part; `mod.rs` with the cloud's lists.
//! Never: leaves a row of a device that is gone.

use std::collections::{BTreeMap, BTreeSet};

use api::twin::message::{
    self as payload, AttributesUpdated, Get, MembershipList, MembershipUpdate, MsgAttr, Refusal,
};
use api::twin::topics::{DeviceId, DeviceTopic, NodeTopic, Topic};
use jiff::Timestamp;

use super::report::{
    chain, device_topic, event_id_now, id_of, ms, publish, refusal, said_of, spoken_of,
};
use super::state::{Effect, Effects, State};

/// Devices of a node at most; a cloud that says otherwise has lost its way.
const MAX_DEVICES: usize = 20_000;

impl State {
    /// An app asks which devices there are.
    pub(super) fn membership_get(&self, payload: &[u8], now: Timestamp) -> Effects {
        let topic = Topic::Node(self.node.clone(), NodeTopic::MembershipGetResult).to_string();
        let get = match payload::decode::<Get>(payload) {
            Ok(get) => get,
            Err(e) => {
                let reason = format!("membership get: {}", chain(&e));
                let no = refusal(String::new(), Refusal::BAD_REQUEST, &reason, now);
                return vec![publish(topic, &no), Effect::Refused(reason)];
            }
        };
        let devices = self.devices.iter().map(|(id, d)| spoken_of(id, d)).collect();
        let list = MembershipList { event_id: get.event_id, timestamp: ms(now), devices };
        vec![publish(topic, &list)]
    }

    /// The cloud says which devices came and went.
    pub(super) fn membership(&mut self, update: MembershipUpdate, now: Timestamp) -> Effects {
        let mut effects = Vec::new();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for device in update.added_devices.unwrap_or_default() {
            match id_of(&device) {
                Some(id) => {
                    self.add(&id, &device, now, &mut effects);
                    added.push(device);
                }
                None => effects.push(Effect::Refused("a device without an id was added".into())),
            }
        }
        for device in update.removed_devices.unwrap_or_default() {
            if let Some(id) = id_of(&device)
                && self.remove(&id, &mut effects)
            {
                removed.push(device);
            }
        }
        self.tell_members(update.event_id, added, removed, now, &mut effects);
        effects
    }

    /// The cloud's whole list: what is not in it goes.
    pub(super) fn membership_detail(&mut self, list: MembershipList, now: Timestamp) -> Effects {
        let mut effects = Vec::new();
        let (mut added, mut removed, mut listed) = (Vec::new(), Vec::new(), BTreeSet::new());
        for device in list.devices {
            let Some(id) = id_of(&device) else { continue };
            if self.add(&id, &device, now, &mut effects) {
                added.push(device);
            }
            listed.insert(id);
        }
        let gone: Vec<DeviceId> =
            self.devices.keys().filter(|id| !listed.contains(id)).cloned().collect();
        for id in gone {
            let said = said_of(&id);
            if self.remove(&id, &mut effects) {
                removed.push(said);
            }
        }
        self.tell_members(list.event_id, added, removed, now, &mut effects);
        effects
    }

    /// Says whether it is new.
    pub(super) fn add(
        &mut self,
        id: &DeviceId,
        said: &payload::Device,
        now: Timestamp,
        effects: &mut Effects,
    ) -> bool {
        let new = !self.devices.contains_key(id);
        if new && self.devices.len() >= MAX_DEVICES {
            effects.push(Effect::Refused(format!("device `{id}` is one too many for a node")));
            return false;
        }
        self.touch(id);
        let device = self.devices.entry(id.clone()).or_default();
        if new {
            device.name = said.name.clone().unwrap_or_else(|| id.name.to_string());
            device.description = said.description.clone().unwrap_or_default();
            self.dirty.devices.insert(id.clone());
        }
        let Some(attributes) = &said.attributes else { return new };
        let attributes: BTreeMap<String, MsgAttr> =
            attributes.iter().filter_map(|(n, a)| Some((n.clone(), a.clone()?))).collect();
        if device.attributes != attributes {
            let mut changed: BTreeMap<String, Option<MsgAttr>> =
                device.attributes.keys().map(|name| (name.clone(), None)).collect();
            changed.extend(attributes.iter().map(|(n, a)| (n.clone(), Some(a.clone()))));
            device.attributes = attributes;
            self.dirty.devices.insert(id.clone());
            let updated = AttributesUpdated {
                event_id: event_id_now(),
                timestamp: ms(now),
                attributes: changed,
            };
            effects.push(device_topic(id, DeviceTopic::Updated, &updated));
        }
        new
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, id: &DeviceId, effects: &mut Effects) -> bool {
        self.touch(id);
        self.wanted.remove(id);
        if self.devices.remove(id).is_none() {
            return false;
        }
        self.dirty.devices.remove(id);
        self.dirty.twins.retain(|(of, _)| of != id);
        self.dirty.dropped.insert(id.clone());
        effects.push(Effect::Forget(id.clone()));
        true
    }

    pub(super) fn tell_members(
        &self,
        event_id: String,
        added: Vec<payload::Device>,
        removed: Vec<payload::Device>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let some = |list: Vec<payload::Device>| (!list.is_empty()).then_some(list);
        let update = MembershipUpdate {
            event_id,
            timestamp: ms(now),
            added_devices: some(added),
            removed_devices: some(removed),
        };
        let topic = Topic::Node(self.node.clone(), NodeTopic::MembershipUpdated).to_string();
        effects.push(publish(topic, &update));
    }
}

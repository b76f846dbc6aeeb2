//! All devices of the node, and what follows from each thing that is said about them. Pure.
//!
//! Owns: the devices, what the cloud wants of them, which rows of the database are out of date.
//! Called by: `mod.rs`, one input at a time.
//! Never: waits, writes or sends; what is to be done comes back as [`Effect`]s, after the rows.

use std::collections::{BTreeMap, BTreeSet};

use api::crd::devices::{self, DeviceModel, TwinProperty};
use api::names::{Namespace, NodeName};
use api::twin::message::{
    self as payload, Get, MsgAttr, MsgTwin, Refusal, StateReport, StateUpdate, TwinDocument,
    TwinUpdate,
};
use api::twin::topics::{DeviceId, DeviceTopic, NodeTopic, RESULT_WITHOUT_DEVICE, Topic};
use jiff::Timestamp;

use super::merge::{self, Changes, Merged, Twins, is_live, without_versions};
use super::report::{
    chain, device_topic, event_id_now, ms, publish, refusal, said_of, state_report,
};
use super::schema::Schema;

/// The states that a device can be in.
const STATES: [&str; 5] = ["online", "offline", "ok", "unknown", "unhealthy"];

/// A device as this node knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) state: String,
    /// RFC 3339; empty if it is not online or was never.
    pub(super) last_online: String,
    pub(super) attributes: BTreeMap<String, MsgAttr>,
    pub(super) twins: Twins,
    /// The desired values of its Device that were taken, by property.
    pub(super) taken: BTreeMap<String, String>,
}

/// What the cloud's Device says, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wanted {
    model: Option<Box<str>>,
    protocol: String,
    desired: BTreeMap<String, Option<TwinProperty>>,
    schema: Option<Schema>,
}

/// What is to be done once the rows are stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// To MQTT.
    Publish {
        /// Where.
        topic: String,
        /// JSON.
        payload: String,
    },
    /// Tell the cloud of properties.
    TwinUp(DeviceId, Changes),
    /// Tell the cloud of a state.
    StateUp(DeviceId, StateReport),
    /// The cloud needs to hear no more of a device.
    Forget(DeviceId),
    /// Something was refused; counted.
    Refused(String),
}

/// Rows that are out of date.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Devices that are gone, with all their rows.
    pub(super) dropped: BTreeSet<DeviceId>,
    /// Devices whose own row, attributes or taken values have changed.
    pub(super) devices: BTreeSet<DeviceId>,
    /// Properties.
    pub(super) twins: BTreeSet<(DeviceId, String)>,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.devices.is_empty() && self.twins.is_empty()
    }
}

/// See the module.
pub(super) struct State {
    pub(super) node: NodeName,
    pub(super) devices: BTreeMap<DeviceId, Device>,
    pub(super) wanted: BTreeMap<DeviceId, Wanted>,
    models: BTreeMap<(Namespace, Box<str>), DeviceModel>,
    pub(super) dirty: Dirty,
    /// Devices as they were before what is not stored yet.
    before: BTreeMap<DeviceId, Option<Device>>,
}

pub(super) type Effects = Vec<Effect>;

impl State {
    pub(super) fn new(node: NodeName, devices: BTreeMap<DeviceId, Device>) -> Self {
        Self {
            node,
            devices,
            wanted: BTreeMap::new(),
            models: BTreeMap::new(),
            dirty: Dirty::default(),
            before: BTreeMap::new(),
        }
    }

    /// The rows to write now.
    pub(super) fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// The rows are stored.
    pub(super) fn stored(&mut self) {
        self.dirty = Dirty::default();
        self.before.clear();
    }

    /// The rows could not be stored: all devices are as they were.
    pub(super) fn not_stored(&mut self) {
        self.dirty = Dirty::default();
        for (id, device) in std::mem::take(&mut self.before) {
            match device {
                Some(device) => self.devices.insert(id, device),
                None => self.devices.remove(&id),
            };
        }
    }

    /// All that the cloud should know of the devices; told once after a start, since nobody knows
    /// what it had heard before.
    pub(super) fn everything(&self, now: Timestamp) -> Effects {
        let mut effects = Vec::new();
        for (id, device) in &self.devices {
            let reported =
                |t: &&MsgTwin| t.actual_version.is_some() || t.expected_version.is_some();
            let twins: Changes = device
                .twins
                .iter()
                .filter(|(_, t)| reported(t))
                .map(|(p, t)| (p.clone(), Some(t.clone())))
                .collect();
            if !twins.is_empty() {
                effects.push(Effect::TwinUp(id.clone(), twins));
            }
            if !device.state.is_empty() {
                let report = state_report(device, String::new(), now);
                effects.push(Effect::StateUp(id.clone(), report));
            }
        }
        effects
    }

    /// The protocol of a device, its own or its model's. `None`: there is no such device here.
    pub(super) fn protocol_of(&self, id: &DeviceId) -> Option<&str> {
        let wanted = self.wanted.get(id)?;
        if !wanted.protocol.is_empty() {
            return Some(&wanted.protocol);
        }
        let name = wanted.model.clone();
        let model = name.and_then(|name| self.models.get(&(id.namespace.clone(), name)));
        Some(model.and_then(|m| m.spec.protocol.as_deref()).unwrap_or_default())
    }

    pub(super) fn touch(&mut self, id: &DeviceId) {
        if !self.before.contains_key(id) {
            self.before.insert(id.clone(), self.devices.get(id).cloned());
        }
    }

    /// Something came over MQTT.
    pub(super) fn mqtt(&mut self, topic: &Topic, payload: &[u8], now: Timestamp) -> Effects {
        match topic {
            Topic::Device(id, DeviceTopic::TwinUpdate) => self.twin_update(id, payload, now),
            Topic::Device(id, DeviceTopic::TwinGet) => self.twin_get(id, payload, now),
            Topic::Device(id, DeviceTopic::TwinCloudUpdated) => {
                match payload::decode::<TwinUpdate>(payload) {
                    Ok(update) => self.cloud_updated(id, &update, now),
                    Err(e) => vec![Effect::Refused(format!("twin of device `{id}`: {e}"))],
                }
            }
            Topic::Device(id, DeviceTopic::StateUpdate) => {
                match payload::decode::<StateUpdate>(payload) {
                    Ok(update) => match self.state_update(id, &update, now) {
                        Ok(effects) => effects,
                        Err(refusal) => vec![Effect::Refused(refusal.reason)],
                    },
                    Err(e) => vec![Effect::Refused(format!("state of device `{id}`: {e}"))],
                }
            }
            Topic::Node(node, NodeTopic::MembershipGet) if *node == self.node => {
                self.membership_get(payload, now)
            }
            // Our own answers, and what is for other nodes.
            _ => Vec::new(),
        }
    }

    fn twin_update(&mut self, id: &DeviceId, payload: &[u8], now: Timestamp) -> Effects {
        let update = match payload::decode::<TwinUpdate>(payload) {
            Ok(update) => update,
            Err(e) => {
                // As the original has it: the answer to what cannot be read names no device.
                let reason = format!("twin update for device `{id}`: {}", chain(&e));
                let no = refusal(String::new(), Refusal::BAD_REQUEST, &reason, now);
                let topic = RESULT_WITHOUT_DEVICE.to_owned();
                return vec![publish(topic, &no), Effect::Refused(reason)];
            }
        };
        match self.report(id, &update, now) {
            Ok(effects) => effects,
            Err(refusal) => {
                let why = format!("twin update for device `{id}`: {}", refusal.reason);
                vec![
                    device_topic(id, DeviceTopic::TwinUpdateResult, &refusal),
                    Effect::Refused(why),
                ]
            }
        }
    }

    /// A report or a wish from the edge.
    ///
    /// # Errors
    /// When it is refused; then nothing of it was taken.
    pub(super) fn report(
        &mut self,
        id: &DeviceId,
        update: &TwinUpdate,
        now: Timestamp,
    ) -> Result<Effects, Refusal> {
        let refuse = |code, reason: String| refusal(update.event_id.clone(), code, &reason, now);
        self.touch(id);
        let schema = self.wanted.get(id).and_then(|w| w.schema.as_ref());
        let Some(device) = self.devices.get_mut(id) else {
            return Err(refuse(Refusal::NOT_FOUND, self.not_ours(id)));
        };
        if update.twin.is_empty() {
            return Err(refuse(Refusal::BAD_REQUEST, "it names no property under `twin`".into()));
        }
        let merged = merge::local(&mut device.twins, schema, &update.twin, ms(now))
            .map_err(|fault| refuse(Refusal::BAD_REQUEST, fault.to_string()))?;
        let result = TwinUpdate {
            event_id: update.event_id.clone(),
            timestamp: ms(now),
            twin: merged.result.clone(),
        };
        let mut effects = vec![device_topic(id, DeviceTopic::TwinUpdateResult, &result)];
        self.after_merge(id, &update.event_id, merged, now, &mut effects);
        Ok(effects)
    }

    /// What a mapper saw: what it measured, and which desired value it acts on. The latter does not
    /// become the expected value where a Device says what that is: it may be an older one.
    ///
    /// # Errors
    /// When it is refused; then nothing of it was taken.
    pub(super) fn mapper_report(
        &mut self,
        id: &DeviceId,
        mut update: TwinUpdate,
        now: Timestamp,
    ) -> Result<Effects, Refusal> {
        let taken = self.devices.get(id).map(|d| &d.taken);
        let mut observed = BTreeMap::new();
        for (property, change) in &mut update.twin {
            let Some(change) = change else { continue };
            if taken.is_some_and(|t| t.contains_key(property))
                && let Some(seen) = change.expected.take()
            {
                observed.insert(property.clone(), seen);
            }
        }
        let mut effects = self.report(id, &update, now)?;
        for effect in &mut effects {
            let Effect::TwinUp(_, up) = effect else { continue };
            for (property, seen) in std::mem::take(&mut observed) {
                if let Some(Some(told)) = up.get_mut(&property) {
                    told.expected = Some(seen);
                }
            }
        }
        Ok(effects)
    }

    fn after_merge(
        &mut self,
        id: &DeviceId,
        event_id: &str,
        merged: Merged,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        for property in merged.stored {
            self.dirty.twins.insert((id.clone(), property));
        }
        if !merged.document.is_empty() {
            let document = TwinDocument {
                event_id: event_id.to_owned(),
                timestamp: ms(now),
                twin: merged.document,
            };
            effects.push(device_topic(id, DeviceTopic::TwinUpdateDocument, &document));
            let twins = self.devices.get(id).map(|d| &d.twins);
            if let Some(delta) = twins.and_then(|t| merge::delta(t, event_id_now(), ms(now))) {
                effects.push(device_topic(id, DeviceTopic::TwinUpdateDelta, &delta));
            }
        }
        if !merged.up.is_empty() {
            effects.push(Effect::TwinUp(id.clone(), merged.up));
        }
        if merged.refused > 0 {
            let why = format!(
                "{} properties of device `{id}` from the cloud are older than here, or impossible",
                merged.refused
            );
            effects.push(Effect::Refused(why));
        }
    }

    fn twin_get(&self, id: &DeviceId, payload: &[u8], now: Timestamp) -> Effects {
        let result = DeviceTopic::TwinGetResult;
        let refuse = |event_id, code, why: &str| {
            let reason = format!("twin get for device `{id}`: {why}");
            let no = refusal(event_id, code, &reason, now);
            vec![device_topic(id, result, &no), Effect::Refused(reason)]
        };
        let get = match payload::decode::<Get>(payload) {
            Ok(get) => get,
            Err(e) => return refuse(String::new(), Refusal::BAD_REQUEST, &chain(&e)),
        };
        let Some(device) = self.devices.get(id) else {
            return refuse(get.event_id, Refusal::NOT_FOUND, &self.not_ours(id));
        };
        let live = device.twins.iter().filter(|(_, t)| is_live(t));
        let twin = live.map(|(p, t)| (p.clone(), Some(without_versions(t)))).collect();
        let answer = TwinUpdate { event_id: get.event_id, timestamp: ms(now), twin };
        vec![device_topic(id, result, &answer)]
    }

    fn not_ours(&self, id: &DeviceId) -> String {
        format!("device `{id}` does not belong to node `{}`", self.node)
    }

    /// Values with versions, from the cloud or an app.
    pub(super) fn cloud_updated(
        &mut self,
        id: &DeviceId,
        update: &TwinUpdate,
        now: Timestamp,
    ) -> Effects {
        self.touch(id);
        let Some(device) = self.devices.get_mut(id) else {
            return vec![Effect::Refused(format!("the cloud's twin: no device `{id}` here"))];
        };
        let merged = merge::cloud(&mut device.twins, &update.twin, ms(now));
        let mut effects = Vec::new();
        self.after_merge(id, &update.event_id, merged, now, &mut effects);
        effects
    }

    /// A state, from a mapper.
    ///
    /// # Errors
    /// When there is no such state or device. On MQTT that is answered by silence, as ever.
    pub(super) fn state_update(
        &mut self,
        id: &DeviceId,
        update: &StateUpdate,
        now: Timestamp,
    ) -> Result<Effects, Refusal> {
        let state = update.state.to_ascii_lowercase();
        if !STATES.contains(&state.as_str()) {
            let found: String = update.state.chars().take(32).collect();
            let why = format!(
                "`{}` is no state of a device; it should be one of {}",
                found.escape_debug(),
                STATES.join(", ")
            );
            return Err(refusal(update.event_id.clone(), Refusal::BAD_REQUEST, &why, now));
        }
        self.touch(id);
        let Some(device) = self.devices.get_mut(id) else {
            let why = self.not_ours(id);
            return Err(refusal(update.event_id.clone(), Refusal::NOT_FOUND, &why, now));
        };
        device.state.clone_from(&update.state);
        device.last_online = if matches!(state.as_str(), "online" | "ok") {
            format!("{now:.0}")
        } else {
            String::new()
        };
        let report = state_report(device, update.event_id.clone(), now);
        self.dirty.devices.insert(id.clone());
        Ok(vec![
            device_topic(id, DeviceTopic::StateUpdateResult, &report),
            Effect::StateUp(id.clone(), report),
        ])
    }

    /// The cloud's Device is new or has changed; it belongs to this node.
    pub(super) fn device(
        &mut self,
        id: &DeviceId,
        spec: &devices::DeviceSpec,
        now: Timestamp,
    ) -> Effects {
        let mut effects = Vec::new();
        if spec.node_name.as_deref() != Some(self.node.as_str()) {
            let why = format!("Device `{id}` is of another node and is left alone");
            return vec![Effect::Refused(why)];
        }
        if !self.devices.contains_key(id) {
            let said = said_of(id);
            self.add(id, &said, now, &mut effects);
            self.tell_members(event_id_now(), vec![said], Vec::new(), now, &mut effects);
        }
        let protocol = spec.protocol.as_ref().and_then(|p| p.protocol_name.clone());
        let mut wanted = Wanted {
            model: spec.device_model_ref.as_ref().and_then(|r| r.name.as_deref()).map(Into::into),
            protocol: protocol.unwrap_or_default(),
            desired: spec
                .properties
                .iter()
                .map(|p| (p.name.clone(), p.desired.clone().filter(|d| !d.value.is_empty())))
                .collect(),
            schema: None,
        };
        wanted.schema = self.schema(id, &wanted);
        self.touch(id);
        if let Some(device) = self.devices.get_mut(id) {
            let merged =
                merge::desired(&mut device.twins, &mut device.taken, &wanted.desired, ms(now));
            if !merged.stored.is_empty() {
                self.dirty.devices.insert(id.clone());
            }
            self.after_merge(id, &event_id_now(), merged, now, &mut effects);
        }
        self.wanted.insert(id.clone(), wanted);
        effects
    }

    /// The cloud's Device is gone.
    pub(super) fn device_gone(&mut self, id: &DeviceId, now: Timestamp) -> Effects {
        let mut effects = Vec::new();
        if self.remove(id, &mut effects) {
            self.tell_members(event_id_now(), Vec::new(), vec![said_of(id)], now, &mut effects);
        }
        effects
    }

    /// A DeviceModel is new, has changed, or (`None`) is gone.
    pub(super) fn model(
        &mut self,
        namespace: Namespace,
        name: Box<str>,
        model: Option<DeviceModel>,
    ) {
        let key = (namespace, name);
        match model {
            Some(model) => self.models.insert(key.clone(), model),
            None => self.models.remove(&key),
        };
        let of_it: Vec<DeviceId> = self
            .wanted
            .iter()
            .filter(|(id, w)| id.namespace == key.0 && w.model.as_deref() == Some(&key.1))
            .map(|(id, _)| id.clone())
            .collect();
        for id in of_it {
            if let Some(wanted) = self.wanted.get(&id) {
                let schema = self.schema(&id, wanted);
                if let Some(wanted) = self.wanted.get_mut(&id) {
                    wanted.schema = schema;
                }
            }
        }
    }

    fn schema(&self, id: &DeviceId, wanted: &Wanted) -> Option<Schema> {
        let name = wanted.model.clone()?;
        let model = self.models.get(&(id.namespace.clone(), name));
        Schema::of(wanted.desired.keys(), model)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

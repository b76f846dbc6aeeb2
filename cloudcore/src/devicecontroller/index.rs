//! Knows which edge node needs which device and which model.
//!
//! Owns: of each device its node, its model, and a mark of its spec; the models themselves, since
//! one that is there already has to be sent when a device comes that needs it.
//! Called by: `downstream.rs` (watches), `synccontroller` (what a node should hold), `upstream.rs`
//! (whose device it is).
//! Never: does I/O.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use api::names::{Kind, NodeName, ObjectKey, ResourceVersion, Uid};
use api::wire::downstream::PushOp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::edgecontroller::index::{Tell, Wanted, deletion, push};
use crate::object::Object;

#[derive(Debug)]
struct DeviceEntry {
    uid: Uid,
    /// Of the last change of its spec.
    version: ResourceVersion,
    spec: u64,
    node: Option<NodeName>,
    model: Option<ObjectKey>,
    /// Its model is not there yet, so the node was not told of it.
    waiting: Option<Object>,
}

#[derive(Debug)]
struct ModelEntry {
    spec: u64,
    /// As it last changed its spec.
    object: Object,
}

/// What must be known of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    node: Option<NodeName>,
    model: Option<ObjectKey>,
    spec: u64,
}

#[derive(Deserialize, Default)]
struct Whole<'a> {
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    device_model_ref: Option<Reference>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reference {
    name: Option<String>,
}

impl Facts {
    /// A spec that cannot be read binds the device to no node.
    fn of(object: &Object) -> Self {
        let whole: Whole<'_> = serde_json::from_str(object.text.get()).unwrap_or_default();
        let text = whole.spec.map_or("{}", RawValue::get);
        let spec: Spec = serde_json::from_str(text).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let named = |name: Option<String>| name.filter(|n| !n.is_empty());
        let model = named(spec.device_model_ref.and_then(|r| r.name));
        let model = model.map(|name| ObjectKey {
            namespace: object.key.namespace.clone(),
            kind: Kind::DeviceModel,
            name: name.into(),
        });
        let node = named(spec.node_name).and_then(|n| n.parse().ok());
        Self { node, model, spec: hasher.finish() }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Index {
    devices: HashMap<ObjectKey, DeviceEntry>,
    models: HashMap<ObjectKey, ModelEntry>,
    nodes: HashMap<NodeName, HashSet<ObjectKey>>,
    /// How many devices of a node are of a model, whether it is there or not.
    users: HashMap<ObjectKey, HashMap<NodeName, u32>>,
    /// While a watch lists anew: what has been seen so far.
    seen: HashMap<Kind, HashSet<ObjectKey>>,
}

impl Index {
    /// A device or a model was added or changed.
    pub fn apply(&mut self, object: Object) -> Vec<Tell> {
        if let Some(seen) = self.seen.get_mut(&object.key.kind) {
            seen.insert(object.key.clone());
        }
        match object.key.kind {
            Kind::DeviceModel => self.apply_model(object),
            _ => self.apply_device(object),
        }
    }

    /// A device or a model is gone. `last` is how it was last seen.
    pub fn delete(&mut self, last: Object) -> Vec<Tell> {
        let known = self.uid_of(&last.key);
        if known != Some(&last.uid) {
            return Vec::new();
        }
        let key = last.key.clone();
        self.drop_object(&key, Some(last))
    }

    /// A watch begins to list all objects of a kind anew.
    pub fn begin_reset(&mut self, kind: Kind) {
        self.seen.insert(kind, HashSet::new());
    }

    /// The list is complete: what was not in it is gone. Returns what is, too.
    pub fn finish_reset(&mut self, kind: &Kind) -> (Vec<Tell>, Vec<ObjectKey>) {
        let Some(seen) = self.seen.remove(kind) else { return (Vec::new(), Vec::new()) };
        let unseen = |key: &&ObjectKey| !seen.contains(*key);
        let gone: Vec<ObjectKey> = match kind {
            Kind::DeviceModel => self.models.keys().filter(unseen).cloned().collect(),
            _ => self.devices.keys().filter(unseen).cloned().collect(),
        };
        let tell = gone.iter().flat_map(|key| self.drop_object(key, None)).collect();
        (tell, gone)
    }

    /// The uid under which an object exists.
    pub fn uid_of(&self, key: &ObjectKey) -> Option<&Uid> {
        match key.kind {
            Kind::DeviceModel => self.models.get(key).map(|m| &m.object.uid),
            _ => self.devices.get(key).map(|d| &d.uid),
        }
    }

    /// The node that a device is attached to, and the device's uid.
    pub fn device(&self, key: &ObjectKey) -> Option<(Option<&NodeName>, &Uid)> {
        self.devices.get(key).map(|d| (d.node.as_ref(), &d.uid))
    }

    /// Every device, with its uid.
    pub fn devices(&self) -> impl Iterator<Item = (&ObjectKey, &Uid)> {
        self.devices.iter().map(|(key, d)| (key, &d.uid))
    }

    /// The devices of a node.
    pub fn devices_of(&self, node: &NodeName) -> impl Iterator<Item = &ObjectKey> {
        self.nodes.get(node).into_iter().flatten()
    }

    /// The model, as it is.
    pub fn model(&self, key: &ObjectKey) -> Option<&Object> {
        self.models.get(key).map(|m| &m.object)
    }

    /// All that a node should hold, models first.
    pub fn wanted(&self, node: &NodeName) -> Vec<Wanted> {
        let mut models = HashSet::new();
        let mut devices = Vec::new();
        for key in self.devices_of(node) {
            let Some(device) = self.devices.get(key) else { continue };
            models.extend(device.model.as_ref());
            if device.waiting.is_none() {
                let (uid, version) = (device.uid.clone(), device.version);
                devices.push(Wanted { key: key.clone(), uid, version });
            }
        }
        let models = models.into_iter().filter_map(|key| self.models.get(key));
        let mut wanted: Vec<Wanted> = models
            .map(|m| Wanted {
                key: m.object.key.clone(),
                uid: m.object.uid.clone(),
                version: m.object.version,
            })
            .collect();
        wanted.append(&mut devices);
        wanted
    }

    /// The uid under which a node may hold an object. A device whose model is gone stays where it
    /// is; one that was moved away does not.
    pub fn uid_at(&self, node: &NodeName, key: &ObjectKey) -> Option<&Uid> {
        match key.kind {
            Kind::DeviceModel => {
                self.users.get(key)?.get(node)?;
                self.models.get(key).map(|m| &m.object.uid)
            }
            _ => self.devices.get(key).filter(|d| d.node.as_ref() == Some(node)).map(|d| &d.uid),
        }
    }

    fn apply_device(&mut self, object: Object) -> Vec<Tell> {
        let facts = Facts::of(&object);
        let mut tell = Vec::new();
        match self.devices.get(&object.key) {
            Some(known) if known.uid != object.uid => {
                // Its deletion was missed while the watch was down.
                tell = self.drop_object(&object.key.clone(), None);
            }
            Some(known) if object.version <= known.version || known.spec == facts.spec => {
                return tell;
            }
            Some(known) if known.node == facts.node => return self.change_device(object, facts),
            Some(_) => tell = self.unbind(&object.key.clone(), Some(object.clone())),
            None => {}
        }
        tell.extend(self.bind(object, facts));
        tell
    }

    /// Its spec changed, its node did not.
    fn change_device(&mut self, object: Object, facts: Facts) -> Vec<Tell> {
        let key = object.key.clone();
        let Some(known) = self.devices.get_mut(&key) else { return Vec::new() };
        let old_model = known.model.clone();
        (known.version, known.spec, known.model) = (object.version, facts.spec, facts.model);
        let (model, was_waiting) = (known.model.clone(), known.waiting.take().is_some());
        let Some(node) = known.node.clone() else { return Vec::new() };
        let mut tell = Vec::new();
        if old_model != model {
            tell.extend(model.as_ref().and_then(|m| self.retain(m, &node)));
        }
        let waits = model.as_ref().is_some_and(|m| !self.models.contains_key(m));
        if was_waiting && waits {
            self.wait(&key, object);
        } else {
            let op = if was_waiting { PushOp::Insert } else { PushOp::Update };
            tell.push((node.clone(), push(op, object)));
        }
        if old_model != model {
            tell.extend(old_model.and_then(|m| self.release(&m, &node)));
        }
        tell
    }

    fn wait(&mut self, key: &ObjectKey, object: Object) {
        if let Some(entry) = self.devices.get_mut(key) {
            entry.waiting = Some(object);
        }
    }

    fn bind(&mut self, object: Object, facts: Facts) -> Vec<Tell> {
        let key = object.key.clone();
        let Facts { node, model, spec } = facts;
        let mut entry = DeviceEntry {
            uid: object.uid.clone(),
            version: object.version,
            spec,
            node: node.clone(),
            model: model.clone(),
            waiting: None,
        };
        let mut tell = Vec::new();
        if let Some(node) = node {
            self.nodes.entry(node.clone()).or_default().insert(key.clone());
            tell.extend(model.as_ref().and_then(|m| self.retain(m, &node)));
            if model.is_some_and(|m| !self.models.contains_key(&m)) {
                entry.waiting = Some(object);
            } else {
                tell.push((node, push(PushOp::Insert, object)));
            }
        }
        self.devices.insert(key, entry);
        tell
    }

    /// Takes a device out; its node is told, and the model goes with the last device of it.
    fn unbind(&mut self, key: &ObjectKey, last: Option<Object>) -> Vec<Tell> {
        let Some(entry) = self.devices.remove(key) else { return Vec::new() };
        let Some(node) = entry.node else { return Vec::new() };
        if let Some(devices) = self.nodes.get_mut(&node) {
            devices.remove(key);
            if devices.is_empty() {
                self.nodes.remove(&node);
            }
        }
        let mut tell = vec![(node.clone(), deletion(key, &entry.uid, last))];
        tell.extend(entry.model.and_then(|m| self.release(&m, &node)));
        tell
    }

    /// One more device of the node is of the model; the first one brings it along.
    fn retain(&mut self, model: &ObjectKey, node: &NodeName) -> Option<Tell> {
        let count = self.users.entry(model.clone()).or_default().entry(node.clone()).or_default();
        *count += 1;
        if *count > 1 {
            return None;
        }
        let object = self.models.get(model)?.object.clone();
        Some((node.clone(), push(PushOp::Insert, object)))
    }

    fn release(&mut self, model: &ObjectKey, node: &NodeName) -> Option<Tell> {
        let users = self.users.get_mut(model)?;
        let count = users.get_mut(node)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        users.remove(node);
        if users.is_empty() {
            self.users.remove(model);
        }
        let object = &self.models.get(model)?.object;
        Some((node.clone(), deletion(model, &object.uid, Some(object.clone()))))
    }

    fn apply_model(&mut self, object: Object) -> Vec<Tell> {
        let spec = Facts::of(&object).spec;
        let mut tell = Vec::new();
        let op = match self.models.get(&object.key) {
            Some(known) if known.object.uid != object.uid => {
                tell = self.drop_object(&object.key.clone(), None);
                PushOp::Insert
            }
            Some(known) if object.version <= known.object.version || known.spec == spec => {
                return tell;
            }
            Some(_) => PushOp::Update,
            None => PushOp::Insert,
        };
        let key = object.key.clone();
        for node in self.users.get(&key).into_iter().flat_map(HashMap::keys) {
            tell.push((node.clone(), push(op, object.clone())));
        }
        self.models.insert(key.clone(), ModelEntry { spec, object });
        if op == PushOp::Insert {
            tell.extend(self.wake(&key));
        }
        tell
    }

    /// The devices that waited for this model.
    fn wake(&mut self, model: &ObjectKey) -> Vec<Tell> {
        let of_model = self.devices.values_mut().filter(|d| d.model.as_ref() == Some(model));
        of_model
            .filter_map(|d| Some((d.node.clone()?, push(PushOp::Insert, d.waiting.take()?))))
            .collect()
    }

    fn drop_object(&mut self, key: &ObjectKey, last: Option<Object>) -> Vec<Tell> {
        if key.kind != Kind::DeviceModel {
            return self.unbind(key, last);
        }
        let Some(entry) = self.models.remove(key) else { return Vec::new() };
        let uid = entry.object.uid.clone();
        let push = deletion(key, &uid, Some(last.unwrap_or(entry.object)));
        let users = self.users.get(key);
        users.into_iter().flat_map(HashMap::keys).map(|n| (n.clone(), push.clone())).collect()
    }
}

#[cfg(test)]
mod tests;

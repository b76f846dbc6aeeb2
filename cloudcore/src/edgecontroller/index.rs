//! Knows which edge node needs which object.
//!
//! Owns: the names, versions and references of pods on edge nodes, of edge nodes, configmaps and
//! secrets. Not their text: that goes straight to the outboxes, and is read again in the rare case.
//! Called by: `downstream.rs` (watches), `synccontroller` (what a node should hold), `authorizer`.
//! Never: does I/O.

use std::collections::{HashMap, HashSet};

use api::names::{Kind, NodeName, ObjectKey, ResourceVersion, Uid};
use api::wire::downstream::{ObjectPush, PushOp, PushSource};

use crate::cloudhub::outbox::bare_object;
use crate::object::{Object, PodFacts};

/// Something to tell a node.
pub type Tell = (NodeName, ObjectPush);

/// What a change of a node object means beyond what the node is told.
#[derive(Debug, Default)]
pub struct NodeChange {
    /// What to tell.
    pub tell: Vec<Tell>,
    /// It was no edge node before: pods that were seen earlier have to be looked up.
    pub joined: Option<NodeName>,
    /// These are edge nodes no longer.
    pub left: Vec<NodeName>,
}

/// An object that a node should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub key: ObjectKey,
    /// Its incarnation.
    pub uid: Uid,
    /// The version with which it last changed in a way that concerns the node.
    pub version: ResourceVersion,
}

#[derive(Debug)]
struct PodEntry {
    uid: Uid,
    node: NodeName,
    /// Of the last change that was not one of status alone.
    version: ResourceVersion,
    fingerprint: u64,
    service_account: Box<str>,
    uses: Box<[ObjectKey]>,
}

#[derive(Debug)]
struct NodeEntry {
    uid: Uid,
    version: ResourceVersion,
    fingerprint: u64,
    cloudcore: Option<Box<str>>,
    store: Option<Box<str>>,
    pods: HashSet<ObjectKey>,
}

#[derive(Debug)]
struct Entry {
    uid: Uid,
    version: ResourceVersion,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Index {
    nodes: HashMap<NodeName, NodeEntry>,
    pods: HashMap<ObjectKey, PodEntry>,
    /// How many pods of a node use an object.
    users: HashMap<ObjectKey, HashMap<NodeName, u32>>,
    /// All configmaps and secrets of the cluster.
    objects: HashMap<ObjectKey, Entry>,
    /// While a watch lists anew: what has been seen so far.
    seen: HashMap<Kind, HashSet<ObjectKey>>,
}

impl Index {
    /// A pod was added or changed.
    pub fn apply_pod(&mut self, pod: Object) -> Vec<Tell> {
        self.mark(&pod.key);
        let Some(facts) = pod.pod.clone() else { return Vec::new() };
        let Some(node) = facts.node.clone().filter(|n| self.nodes.contains_key(n)) else {
            return Vec::new();
        };
        let mut tell = Vec::new();
        let op = match self.pods.get_mut(&pod.key) {
            Some(known) if known.uid == pod.uid => {
                if pod.version <= known.version || known.fingerprint == pod.fingerprint {
                    return tell;
                }
                PushOp::Update
            }
            Some(_) => {
                // Its deletion was missed while the watch was down.
                tell.extend(self.drop_pod(&pod.key, None));
                PushOp::Insert
            }
            None => PushOp::Insert,
        };
        let op = if pod.deleting { PushOp::Update } else { op };
        self.hold_pod(&node, &pod, facts);
        tell.push((node, push(op, pod)));
        tell
    }

    /// A pod is gone. `last` is how it was last seen.
    pub fn delete_pod(&mut self, last: Object) -> Vec<Tell> {
        match self.pods.get(&last.key) {
            Some(known) if known.uid == last.uid => {}
            _ => return Vec::new(),
        }
        let key = last.key.clone();
        self.drop_pod(&key, Some(last)).into_iter().collect()
    }

    /// A node was added or changed.
    pub fn apply_node(&mut self, node: Object) -> NodeChange {
        self.mark(&node.key);
        let Ok(name) = node.key.name.parse::<NodeName>() else { return NodeChange::default() };
        if !node.is_edge_node {
            return self.drop_node(&name);
        }
        let mut change = NodeChange::default();
        match self.nodes.get_mut(&name) {
            Some(known) if known.uid == node.uid => {
                known.cloudcore.clone_from(&node.cloudcore);
                known.store.clone_from(&node.store);
                if node.version <= known.version || known.fingerprint == node.fingerprint {
                    return change;
                }
                (known.version, known.fingerprint) = (node.version, node.fingerprint);
            }
            known => {
                if known.is_some() {
                    change = self.drop_node(&name);
                }
                let entry = NodeEntry {
                    uid: node.uid.clone(),
                    version: node.version,
                    fingerprint: node.fingerprint,
                    cloudcore: node.cloudcore.clone(),
                    store: node.store.clone(),
                    pods: HashSet::new(),
                };
                self.nodes.insert(name.clone(), entry);
                change.joined = Some(name.clone());
            }
        }
        // The original knows no insert of a node.
        change.tell.push((name, push(PushOp::Update, node)));
        change
    }

    /// A node is gone.
    pub fn delete_node(&mut self, last: &Object) -> NodeChange {
        let Ok(name) = last.key.name.parse::<NodeName>() else { return NodeChange::default() };
        match self.nodes.get(&name) {
            Some(known) if known.uid == last.uid => self.drop_node(&name),
            _ => NodeChange::default(),
        }
    }

    /// A configmap or secret was added or changed.
    pub fn apply_object(&mut self, object: Object) -> Vec<Tell> {
        self.mark(&object.key);
        let mut tell = Vec::new();
        let op = match self.objects.get(&object.key) {
            Some(known) if known.uid == object.uid && object.version <= known.version => {
                return tell;
            }
            Some(known) if known.uid == object.uid => PushOp::Update,
            Some(_) => {
                tell.extend(self.drop_object(&object.key.clone(), None));
                PushOp::Insert
            }
            None => PushOp::Insert,
        };
        // The original sends secrets as updates only.
        let op = if object.key.kind == Kind::Secret { PushOp::Update } else { op };
        let entry = Entry { uid: object.uid.clone(), version: object.version };
        self.objects.insert(object.key.clone(), entry);
        let users = self.users.get(&object.key);
        for node in users.into_iter().flat_map(HashMap::keys) {
            tell.push((node.clone(), push(op, object.clone())));
        }
        tell
    }

    /// A configmap or secret is gone.
    pub fn delete_object(&mut self, last: Object) -> Vec<Tell> {
        match self.objects.get(&last.key) {
            Some(known) if known.uid == last.uid => {}
            _ => return Vec::new(),
        }
        let key = last.key.clone();
        self.drop_object(&key, Some(last))
    }

    /// A watch begins to list all objects of a kind anew.
    pub fn begin_reset(&mut self, kind: Kind) {
        self.seen.insert(kind, HashSet::new());
    }

    /// The list is complete: what was not in it is gone.
    pub fn finish_reset(&mut self, kind: &Kind) -> NodeChange {
        let mut change = NodeChange::default();
        let Some(seen) = self.seen.remove(kind) else { return change };
        match kind {
            Kind::Pod => {
                let gone: Vec<_> =
                    self.pods.keys().filter(|k| !seen.contains(*k)).cloned().collect();
                for key in gone {
                    change.tell.extend(self.drop_pod(&key, None));
                }
            }
            Kind::Node => {
                let present =
                    |n: &NodeName| seen.contains(&ObjectKey::cluster(Kind::Node, n.as_str()));
                let gone: Vec<_> = self.nodes.keys().filter(|n| !present(n)).cloned().collect();
                for name in gone {
                    change.left.extend(self.drop_node(&name).left);
                }
            }
            kind => {
                let gone: Vec<_> = self
                    .objects
                    .keys()
                    .filter(|k| k.kind == *kind && !seen.contains(*k))
                    .cloned()
                    .collect();
                for key in gone {
                    change.tell.extend(self.drop_object(&key, None));
                }
            }
        }
        change
    }

    /// All edge nodes.
    pub fn edge_nodes(&self) -> Vec<NodeName> {
        self.nodes.keys().cloned().collect()
    }

    /// Whether it is an edge node.
    pub fn is_edge_node(&self, node: &NodeName) -> bool {
        self.nodes.contains_key(node)
    }

    /// The cloudcore that serves a node, by the node's annotation.
    pub fn cloudcore_of(&self, node: &NodeName) -> Option<&str> {
        self.nodes.get(node)?.cloudcore.as_deref()
    }

    /// The database that the node's records are about, by the node's annotation.
    pub fn store_of(&self, node: &NodeName) -> Option<&str> {
        self.nodes.get(node)?.store.as_deref()
    }

    /// All that a node should hold.
    pub fn wanted(&self, node: &NodeName) -> Vec<Wanted> {
        let Some(entry) = self.nodes.get(node) else { return Vec::new() };
        let mut wanted = vec![Wanted {
            key: ObjectKey::cluster(Kind::Node, node.as_str()),
            uid: entry.uid.clone(),
            version: entry.version,
        }];
        let mut used = HashSet::new();
        for key in &entry.pods {
            let Some(pod) = self.pods.get(key) else { continue };
            wanted.push(Wanted { key: key.clone(), uid: pod.uid.clone(), version: pod.version });
            used.extend(pod.uses.iter());
        }
        for key in used {
            let Some(object) = self.objects.get(key) else { continue };
            let (uid, version) = (object.uid.clone(), object.version);
            wanted.push(Wanted { key: key.clone(), uid, version });
        }
        wanted
    }

    /// The uid under which an object of a watched kind exists; `None` if it does not.
    pub fn uid_of(&self, key: &ObjectKey) -> Option<&Uid> {
        match key.kind {
            Kind::Pod => self.pods.get(key).map(|p| &p.uid),
            Kind::Node => self.nodes.get(&key.name.parse().ok()?).map(|n| &n.uid),
            _ => self.objects.get(key).map(|o| &o.uid),
        }
    }

    /// Where a pod runs, as far as it is known.
    pub fn node_of_pod(&self, key: &ObjectKey) -> Option<&NodeName> {
        self.pods.get(key).map(|p| &p.node)
    }

    /// Whether a pod of the node names the object.
    pub fn uses(&self, node: &NodeName, key: &ObjectKey) -> bool {
        self.users.get(key).is_some_and(|users| users.contains_key(node))
    }

    /// Whether a pod of the node, the given one if one is given, runs as the service account.
    pub fn runs_as(
        &self,
        node: &NodeName,
        namespace: &api::names::Namespace,
        account: &str,
        pod: Option<(&str, Option<&str>)>,
    ) -> bool {
        let Some(entry) = self.nodes.get(node) else { return false };
        entry.pods.iter().any(|key| {
            key.namespace.as_ref() == Some(namespace)
                && self.pods.get(key).is_some_and(|p| {
                    &*p.service_account == account
                        && pod.is_none_or(|(name, uid)| {
                            *key.name == *name && uid.is_none_or(|u| u == p.uid.as_str())
                        })
                })
        })
    }

    fn mark(&mut self, key: &ObjectKey) {
        if let Some(seen) = self.seen.get_mut(&key.kind) {
            seen.insert(key.clone());
        }
    }

    fn hold_pod(&mut self, node: &NodeName, pod: &Object, facts: PodFacts) {
        self.release(&pod.key);
        for key in &facts.uses {
            *self.users.entry(key.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        let entry = PodEntry {
            uid: pod.uid.clone(),
            node: node.clone(),
            version: pod.version,
            fingerprint: pod.fingerprint,
            service_account: facts.service_account,
            uses: facts.uses.into_iter().collect(),
        };
        self.pods.insert(pod.key.clone(), entry);
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.pods.insert(pod.key.clone());
        }
    }

    /// Takes a pod and its references out.
    fn release(&mut self, key: &ObjectKey) -> Option<PodEntry> {
        let entry = self.pods.remove(key)?;
        for used in &entry.uses {
            if let Some(users) = self.users.get_mut(used) {
                if let Some(count) = users.get_mut(&entry.node) {
                    *count -= 1;
                    if *count == 0 {
                        users.remove(&entry.node);
                    }
                }
                if users.is_empty() {
                    self.users.remove(used);
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(&entry.node) {
            node.pods.remove(key);
        }
        Some(entry)
    }

    fn drop_pod(&mut self, key: &ObjectKey, last: Option<Object>) -> Option<Tell> {
        let entry = self.release(key)?;
        Some((entry.node, deletion(key, &entry.uid, last)))
    }

    fn drop_object(&mut self, key: &ObjectKey, last: Option<Object>) -> Vec<Tell> {
        let Some(entry) = self.objects.remove(key) else { return Vec::new() };
        let push = deletion(key, &entry.uid, last);
        let users = self.users.get(key);
        users.into_iter().flat_map(HashMap::keys).map(|n| (n.clone(), push.clone())).collect()
    }

    /// The node's session ends; nothing is sent, and its pods are no longer of interest.
    fn drop_node(&mut self, name: &NodeName) -> NodeChange {
        let Some(pods) = self.nodes.get(name).map(|n| n.pods.clone()) else {
            return NodeChange::default();
        };
        for key in pods {
            self.release(&key);
        }
        self.nodes.remove(name);
        NodeChange { left: vec![name.clone()], ..NodeChange::default() }
    }
}

/// Who says that it sends an object. The original's edge gives devices to their owner only when
/// the device controller sends them, also when they are sent once more.
fn source_of(kind: &Kind) -> PushSource {
    match kind {
        Kind::Device | Kind::DeviceModel => PushSource::DeviceController,
        _ => PushSource::EdgeController,
    }
}

/// The message that carries an object.
pub fn push(op: PushOp, object: Object) -> ObjectPush {
    let source = source_of(&object.key.kind);
    ObjectPush {
        op,
        key: object.key,
        uid: object.uid,
        version: Some(object.version),
        source,
        object: object.text,
    }
}

/// The message that an object is gone: as it was last seen, if it was seen; else its name and uid.
pub fn deletion(key: &ObjectKey, uid: &Uid, last: Option<Object>) -> ObjectPush {
    match last {
        Some(last) => push(PushOp::Delete, last),
        None => ObjectPush {
            op: PushOp::Delete,
            key: key.clone(),
            uid: uid.clone(),
            version: None,
            source: source_of(&key.kind),
            object: bare_object(key, uid),
        },
    }
}

#[cfg(test)]
mod tests;

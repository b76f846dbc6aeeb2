//! What each node is recorded to hold, and what of it still has to be written.
//!
//! Owns: a copy of all ObjectSync and ClusterObjectSync objects, ahead of the API server's.
//! Called by: `registry.rs` (sent, acknowledged), `compare` through `mod.rs`, the writer.
//! Never: does I/O. Many changes of one record between two writes are one write.

use std::collections::{HashMap, HashSet, VecDeque};

use api::names::{NodeName, ObjectKey, ResourceVersion, Uid};
use api::wire::downstream::PushOp;

use super::compare::Held;
use crate::cloudhub::outbox::Acked;

/// A record's name: `<node>.<uid>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordId {
    /// The node that holds the object.
    pub node: NodeName,
    /// The object.
    pub uid: Uid,
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.node, self.uid)
    }
}

impl std::str::FromStr for RecordId {
    type Err = api::names::NameError;
    /// The node name is everything before the last dot.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (node, uid) = s.rsplit_once('.').unwrap_or((s, ""));
        Ok(Self { node: node.parse()?, uid: uid.parse()? })
    }
}

/// One write to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which record.
    pub id: RecordId,
    /// The object that it is about.
    pub key: ObjectKey,
    /// What to do.
    pub change: Change,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Create it and set its version.
    Create(ResourceVersion),
    /// Set its version.
    Set(ResourceVersion),
    /// Remove it.
    Delete,
}

#[derive(Debug)]
struct Record {
    key: ObjectKey,
    /// `None`: the node no longer holds it.
    held: Option<ResourceVersion>,
    /// What the API server has.
    written: Option<ResourceVersion>,
    queued: bool,
    writing: bool,
}

/// The database of a node that has connected.
#[derive(Debug)]
struct Database {
    id: Box<str>,
    /// The records are about this one: they were, or they have been reset.
    judged: bool,
    /// The API server knows it.
    written: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Records {
    nodes: HashMap<NodeName, HashMap<Uid, Record>>,
    queue: VecDeque<RecordId>,
    databases: HashMap<NodeName, Database>,
}

impl Records {
    /// A record as the API server has it; at start.
    pub fn load(&mut self, id: RecordId, key: ObjectKey, version: ResourceVersion) {
        let record = Record {
            key,
            held: Some(version),
            written: Some(version),
            queued: false,
            writing: false,
        };
        self.nodes.entry(id.node).or_default().entry(id.uid).or_insert(record);
    }

    /// A first version of the object goes to the node: from now on the node may hold it.
    pub fn sent(&mut self, node: &NodeName, key: &ObjectKey, uid: &Uid) {
        let records = self.nodes.entry(node.clone()).or_default();
        match records.get_mut(uid) {
            Some(Record { held: Some(_), .. }) => return,
            Some(record) => record.held = Some(ResourceVersion(0)),
            None => {
                let record = Record {
                    key: key.clone(),
                    held: Some(ResourceVersion(0)),
                    written: None,
                    queued: false,
                    writing: false,
                };
                records.insert(uid.clone(), record);
            }
        }
        self.enqueue(node, uid);
    }

    /// The node has stored what it was sent.
    pub fn acked(&mut self, node: &NodeName, acked: &Acked) {
        let held = match acked.op {
            PushOp::Delete => None,
            PushOp::Insert | PushOp::Update => Some(acked.version.unwrap_or_default()),
        };
        if held.is_some() {
            self.sent(node, &acked.key, &acked.uid);
        }
        let Some(record) = self.nodes.get_mut(node).and_then(|n| n.get_mut(&acked.uid)) else {
            return;
        };
        record.held = held;
        self.enqueue(node, &acked.uid);
    }

    /// The node may have lost everything: nothing counts as acknowledged any longer. Records stay,
    /// so that what is gone in the cloud is deleted at the node, should it hold it after all.
    pub fn reset(&mut self, node: &NodeName) {
        let Some(records) = self.nodes.get_mut(node) else { return };
        let mut changed = Vec::new();
        for (uid, record) in records.iter_mut().filter(|(_, r)| r.held.is_some()) {
            record.held = Some(ResourceVersion(0));
            changed.push(uid.clone());
        }
        for uid in changed {
            self.enqueue(node, &uid);
        }
    }

    /// The node has connected and says in which database it keeps what it is sent. Whether that is
    /// the one that its records are about is for [`Records::judge_database`].
    pub fn connected_with(&mut self, node: &NodeName, id: &str) {
        match self.databases.get(node) {
            Some(known) if *known.id == *id => {}
            _ => {
                let database = Database { id: id.into(), judged: false, written: false };
                self.databases.insert(node.clone(), database);
            }
        }
    }

    /// Compares the database that a node has connected with to the one that its records are about,
    /// `recorded`. If it is another one, or nobody knows, nothing counts as held any longer; true
    /// then. A node that says nothing of its database is believed.
    pub fn judge_database(&mut self, node: &NodeName, recorded: Option<&str>) -> bool {
        let Some(database) = self.databases.get_mut(node).filter(|d| !d.judged) else {
            return false;
        };
        database.judged = true;
        database.written = recorded == Some(&*database.id);
        if database.written {
            return false;
        }
        self.reset(node);
        true
    }

    /// Databases that the API server is to be told of: those whose records have all been written,
    /// so that a crash can only lead to a message that is sent twice.
    pub fn databases_to_write(&self) -> Vec<(NodeName, Box<str>)> {
        let settled = |node: &NodeName| {
            let mut records = self.nodes.get(node).into_iter().flat_map(HashMap::values);
            !records.any(|r| r.queued || r.writing)
        };
        let due = self.databases.iter().filter(|(_, d)| d.judged && !d.written);
        due.filter(|(n, _)| settled(n)).map(|(n, d)| (n.clone(), d.id.clone())).collect()
    }

    /// The API server has been told.
    pub fn wrote_database(&mut self, node: &NodeName, id: &str) {
        if let Some(database) = self.databases.get_mut(node).filter(|d| *d.id == *id) {
            database.written = true;
        }
    }

    /// The node is no more; so are its records.
    pub fn forget(&mut self, node: &NodeName) {
        self.databases.remove(node);
        let Some(records) = self.nodes.get_mut(node) else { return };
        let uids: Vec<Uid> = records.keys().cloned().collect();
        for uid in uids {
            if let Some(record) = self.nodes.get_mut(node).and_then(|n| n.get_mut(&uid)) {
                record.held = None;
            }
            self.enqueue(node, &uid);
        }
    }

    /// What the node holds, for a comparison.
    pub fn held(&self, node: &NodeName) -> Held {
        let records = self.nodes.get(node).into_iter().flatten();
        records.filter_map(|(uid, r)| Some((uid.clone(), (r.key.clone(), r.held?)))).collect()
    }

    /// The version of an object that the node has acknowledged.
    pub fn version(&self, node: &NodeName, uid: &Uid) -> Option<ResourceVersion> {
        self.nodes.get(node)?.get(uid)?.held
    }

    /// The nodes that have records.
    pub fn nodes(&self) -> HashSet<NodeName> {
        self.nodes.keys().cloned().collect()
    }

    /// The next record to write. Until [`Records::wrote`] is called for it, it is not taken again.
    pub fn take(&mut self) -> Option<Write> {
        while let Some(id) = self.queue.pop_front() {
            let Some(records) = self.nodes.get_mut(&id.node) else { continue };
            let Some(record) = records.get_mut(&id.uid) else { continue };
            record.queued = false;
            let change = match (record.held, record.written) {
                (Some(held), None) => Change::Create(held),
                (Some(held), Some(written)) if held != written => Change::Set(held),
                (None, Some(_)) => Change::Delete,
                (Some(_), Some(_)) => continue,
                (None, None) => {
                    records.remove(&id.uid);
                    if records.is_empty() {
                        self.nodes.remove(&id.node);
                    }
                    continue;
                }
            };
            record.writing = true;
            return Some(Write { key: record.key.clone(), id, change });
        }
        None
    }

    /// A write has ended: with `Ok`, the API server now has it.
    pub fn wrote(&mut self, write: &Write, outcome: Result<(), Failed>) {
        let Some(record) =
            self.nodes.get_mut(&write.id.node).and_then(|n| n.get_mut(&write.id.uid))
        else {
            return;
        };
        record.writing = false;
        match (outcome, write.change) {
            (Ok(()), Change::Create(version) | Change::Set(version)) => {
                record.written = Some(version);
            }
            (Ok(()) | Err(Failed::Missing), Change::Delete) => record.written = None,
            // Somebody removed it: it is made anew.
            (Err(Failed::Missing), Change::Set(_)) => record.written = None,
            // Its namespace is going, or the API server does not know such records.
            (Err(Failed::Missing), Change::Create(_)) | (Err(Failed::Hopeless), _) => return,
            (Err(Failed::Later), _) => {}
        }
        self.enqueue(&write.id.node, &write.id.uid);
    }

    /// Records that wait to be written.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn enqueue(&mut self, node: &NodeName, uid: &Uid) {
        let Some(record) = self.nodes.get_mut(node).and_then(|n| n.get_mut(uid)) else { return };
        if !record.queued && !record.writing {
            record.queued = true;
            self.queue.push_back(RecordId { node: node.clone(), uid: uid.clone() });
        }
    }
}

/// Why a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The record does not exist.
    Missing,
    /// No use in trying again.
    Hopeless,
    /// It is to be tried again.
    Later,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        "default/pod/web".parse().unwrap()
    }

    fn node() -> NodeName {
        "edge.site-1".parse().unwrap()
    }

    fn uid() -> Uid {
        "1-2-3".parse().unwrap()
    }

    fn ack(op: PushOp, version: u64) -> Acked {
        Acked { key: key(), uid: uid(), op, version: Some(ResourceVersion(version)) }
    }

    #[test]
    fn a_record_name_is_split_at_its_last_dot() {
        let id: RecordId = "edge.site-1.1-2-3".parse().unwrap();
        assert_eq!(id, RecordId { node: node(), uid: uid() });
        assert_eq!(id.to_string(), "edge.site-1.1-2-3");
        assert!("edge".parse::<RecordId>().is_err());
    }

    #[test]
    fn many_acknowledgements_between_two_writes_are_one_write() {
        let mut records = Records::default();
        records.sent(&node(), &key(), &uid());
        for version in 1..1000 {
            records.acked(&node(), &ack(PushOp::Update, version));
        }
        let write = records.take().unwrap();
        assert_eq!(write.change, Change::Create(ResourceVersion(999)));
        assert_eq!(records.take(), None);
    }

    #[test]
    fn a_change_during_a_write_is_written_after_it() {
        let mut records = Records::default();
        records.acked(&node(), &ack(PushOp::Update, 1));
        let first = records.take().unwrap();
        records.acked(&node(), &ack(PushOp::Update, 2));
        assert_eq!(records.take(), None, "two writes of one record could overtake each other");
        records.wrote(&first, Ok(()));
        assert_eq!(records.take().unwrap().change, Change::Set(ResourceVersion(2)));
    }

    #[test]
    fn an_object_that_came_and_went_between_two_writes_costs_none() {
        let mut records = Records::default();
        records.acked(&node(), &ack(PushOp::Insert, 1));
        records.acked(&node(), &ack(PushOp::Delete, 2));
        assert_eq!(records.take(), None);
        assert!(records.nodes().is_empty());
    }

    #[test]
    fn a_failed_write_is_tried_again_and_a_missing_record_is_made_anew() {
        let mut records = Records::default();
        records.load("edge.site-1.1-2-3".parse().unwrap(), key(), ResourceVersion(1));
        records.acked(&node(), &ack(PushOp::Update, 2));
        let write = records.take().unwrap();
        records.wrote(&write, Err(Failed::Later));
        assert_eq!(records.take(), Some(write.clone()));
        records.wrote(&write, Err(Failed::Missing));
        let create = records.take().unwrap();
        assert_eq!(create.change, Change::Create(ResourceVersion(2)));
        records.wrote(&create, Err(Failed::Missing));
        assert_eq!(records.take(), None, "its namespace is gone");
        records.acked(&node(), &ack(PushOp::Update, 3));
        assert_eq!(records.take().unwrap().change, Change::Create(ResourceVersion(3)));
    }

    #[test]
    fn after_a_reset_nothing_counts_as_held_but_deletions_are_still_known() {
        let mut records = Records::default();
        records.load("edge.site-1.1-2-3".parse().unwrap(), key(), ResourceVersion(7));
        records.reset(&node());
        assert_eq!(records.held(&node())[&uid()].1, ResourceVersion(0));
        assert_eq!(records.take().unwrap().change, Change::Set(ResourceVersion(0)));
    }

    #[test]
    fn another_database_resets_the_records_once_and_the_same_one_never() {
        let mut records = Records::default();
        records.load("edge.site-1.1-2-3".parse().unwrap(), key(), ResourceVersion(7));
        let version = |r: &Records| r.version(&node(), &uid());
        assert!(!records.judge_database(&node(), Some("a")), "it says nothing of its database");
        records.connected_with(&node(), "a");
        assert!(!records.judge_database(&node(), Some("a")));
        assert_eq!(version(&records), Some(ResourceVersion(7)));
        records.connected_with(&node(), "b");
        assert!(records.judge_database(&node(), Some("a")));
        assert_eq!(version(&records), Some(ResourceVersion(0)));
        records.acked(&node(), &ack(PushOp::Insert, 8));
        records.connected_with(&node(), "b");
        assert!(!records.judge_database(&node(), Some("a")), "the annotation lags behind");
        assert_eq!(version(&records), Some(ResourceVersion(8)));
    }

    #[test]
    fn a_new_database_is_written_down_after_the_records_that_it_made_worthless() {
        let mut records = Records::default();
        records.load("edge.site-1.1-2-3".parse().unwrap(), key(), ResourceVersion(7));
        records.connected_with(&node(), "b");
        assert!(records.databases_to_write().is_empty(), "not compared yet");
        records.judge_database(&node(), None);
        assert!(records.databases_to_write().is_empty(), "a record waits");
        let write = records.take().unwrap();
        assert!(records.databases_to_write().is_empty(), "a record is being written");
        records.wrote(&write, Ok(()));
        assert_eq!(records.take(), None);
        assert_eq!(records.databases_to_write(), [(node(), "b".into())]);
        records.wrote_database(&node(), "b");
        assert!(records.databases_to_write().is_empty());
    }

    #[test]
    fn a_forgotten_node_loses_its_records() {
        let mut records = Records::default();
        records.load("edge.site-1.1-2-3".parse().unwrap(), key(), ResourceVersion(7));
        records.forget(&node());
        assert!(records.held(&node()).is_empty());
        let write = records.take().unwrap();
        assert_eq!(write.change, Change::Delete);
        records.wrote(&write, Err(Failed::Missing));
        assert_eq!(records.take(), None);
        assert!(records.nodes().is_empty());
    }
}

//! Everything that is kept: the current objects, their recent history, and the file behind both.
//!
//! Owns: the revision, the objects as text, the watch history, the SQLite file.
//! Called by: `http` (one verb each) and, through them, the controllers.
//! Never: knows what a pod is; waits for the disk in order to read.
//!
//! Writes go to one thread ([`log`]) that commits all that is queued with one sync, and publishes
//! only what is durable. Reads see the published state in memory. Watchers hold a cursor into the
//! history and are woken; nobody keeps a queue for them ([`watch`]).

pub(crate) mod compact;
#[cfg(test)]
mod crash;
pub(crate) mod log;
#[cfg(test)]
mod model;
pub(crate) mod watch;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch as signal};

use crate::registry::selectors::Selectable;
use compact::History;

/// Writes that may wait for the writer; further senders wait.
const WRITE_QUEUE: usize = 1024;

/// An object as it is stored: its JSON without `apiVersion` and `kind`, which depend on the reader.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The object's `resourceVersion`.
    pub(crate) revision: u64,
    /// The text, from `{` to `}`.
    pub(crate) text: Bytes,
    revision_at: u32,
    /// Labels and fields, computed when a selector first asks for them.
    pub(crate) selectable: OnceLock<Box<Selectable>>,
}

impl Stored {
    pub(crate) fn new(revision: u64, draft: &Draft) -> Self {
        let digits = revision.to_string();
        let (head, tail) = draft.text.split_at(draft.revision_at as usize);
        let mut text = Vec::with_capacity(draft.text.len() + digits.len());
        text.extend_from_slice(head);
        text.extend_from_slice(digits.as_bytes());
        text.extend_from_slice(tail);
        Self {
            revision,
            text: text.into(),
            revision_at: draft.revision_at,
            selectable: OnceLock::new(),
        }
    }

    /// The same object under another revision: what a deletion event carries.
    pub(crate) fn at_revision(&self, revision: u64) -> Self {
        let at = self.revision_at as usize;
        let end = at + self.revision.to_string().len();
        let mut text = self.text[..at].to_vec();
        text.extend_from_slice(&self.text[end..]);
        Self::new(revision, &Draft { text, revision_at: self.revision_at, held: None })
    }

    /// The object as a value, without `apiVersion` and `kind`.
    pub(crate) fn value(&self) -> serde_json::Value {
        // The text was made by our own serializer; were it broken, the object reads as empty.
        serde_json::from_slice(&self.text).unwrap_or_default()
    }
}

/// Let go of once a write is published or refused, before the writer hears of it.
pub(crate) type Held = Box<dyn Any + Send>;

/// An object's text with a gap where the revision goes.
#[derive(Debug)]
pub(crate) struct Draft {
    text: Vec<u8>,
    revision_at: u32,
    held: Option<Held>,
}

impl Draft {
    /// Serializes `object` without `apiVersion` and `kind`, leaving a gap for `resourceVersion`.
    pub(crate) fn of(object: &serde_json::Value) -> Self {
        let mut text = Vec::with_capacity(1024);
        let mut revision_at = 0;
        let empty = serde_json::Map::new();
        let fields = object.as_object().unwrap_or(&empty);
        let metadata = fields.get("metadata").and_then(|m| m.as_object()).unwrap_or(&empty);
        text.extend_from_slice(b"{\"metadata\":{");
        for (key, value) in metadata.iter().filter(|(k, _)| *k != "resourceVersion") {
            field(&mut text, key, value);
            text.push(b',');
        }
        text.extend_from_slice(b"\"resourceVersion\":\"");
        revision_at += text.len();
        text.extend_from_slice(b"\"}");
        let rest = fields
            .iter()
            .filter(|(k, _)| !matches!(k.as_str(), "metadata" | "apiVersion" | "kind"));
        for (key, value) in rest {
            text.push(b',');
            field(&mut text, key, value);
        }
        text.push(b'}');
        // A body is at most a few MiB, so the offset fits.
        Self { text, revision_at: u32::try_from(revision_at).unwrap_or(u32::MAX), held: None }
    }

    /// Keeps something as long as the write is under way, whether or not its caller waits for it.
    pub(crate) fn holding(self, held: Option<Held>) -> Self {
        Self { held, ..self }
    }

    /// Whether `stored` is this draft but for its revision: a write would change nothing.
    pub(crate) fn equals(&self, stored: &Stored) -> bool {
        let at = self.revision_at as usize;
        let end = at + stored.revision.to_string().len();
        self.revision_at == stored.revision_at
            && stored.text.len() >= end
            && stored.text[..at] == self.text[..at]
            && stored.text[end..] == self.text[at..]
    }
}

fn field(text: &mut Vec<u8>, key: &str, value: &serde_json::Value) {
    // Writing into a vector cannot fail, and neither a string nor a `Value` fails to serialize.
    let _ = serde_json::to_writer(&mut *text, key);
    text.push(b':');
    let _ = serde_json::to_writer(&mut *text, value);
}

/// Which table and which object in it. The key is `namespace/name`, or `/name` without a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) table: Arc<str>,
    pub(crate) name: Box<str>,
}

impl Key {
    pub(crate) fn new(table: &Arc<str>, namespace: &str, name: &str) -> Self {
        Self { table: Arc::clone(table), name: format!("{namespace}/{name}").into() }
    }
}

/// What must be true of the stored object for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// There is none.
    Absent,
    /// It has this revision.
    Revision(u64),
}

/// Why a write did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    /// The object is there already.
    #[error("the object exists already")]
    Exists,
    /// The object is gone.
    #[error("the object does not exist")]
    Missing,
    /// The object has another revision than expected.
    #[error("the object has been modified")]
    Conflict,
    /// The file refused the commit.
    #[error("cannot write to the database: {0}")]
    Disk(String),
    /// There is no room for it.
    #[error("cannot write to the database: the disk is full")]
    Full,
    /// The writer has stopped.
    #[error("the database is closed")]
    Closed,
}

/// A change of one object, as watchers see it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    /// The key in its table.
    pub(crate) name: Box<str>,
    /// The object after the change; for a deletion as it last was, with the deletion's revision.
    pub(crate) object: Arc<Stored>,
    /// The object before the change.
    pub(crate) previous: Option<Arc<Stored>>,
    pub(crate) deleted: bool,
}

pub(crate) struct Table {
    pub(crate) objects: BTreeMap<Box<str>, Arc<Stored>>,
    pub(crate) events: VecDeque<Arc<Event>>,
    pub(crate) wake: signal::Sender<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), events: VecDeque::new(), wake: signal::channel(0).0 }
    }
}

/// What is published: the newest durable state.
pub(crate) struct State {
    pub(crate) revision: u64,
    /// Events at or before this revision are forgotten.
    pub(crate) floor: u64,
    pub(crate) tables: HashMap<Arc<str>, Table>,
    pub(crate) history: History,
}

pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    /// The last commit failed: `/readyz` says so.
    failing: AtomicBool,
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    writes: mpsc::Sender<log::Request>,
}

/// Objects of a table at one revision.
pub(crate) struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<(Box<str>, Arc<Stored>)>,
}

/// The revision asked for is no longer known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooOld {
    pub(crate) asked: u64,
    pub(crate) floor: u64,
}

impl Store {
    /// Opens or makes the file, reads it, and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or is from a newer version.
    pub(crate) fn open(path: &Path, limits: compact::Limits) -> Result<Self, log::OpenError> {
        let (writes, requests) = mpsc::channel(WRITE_QUEUE);
        let shared = log::start(path, limits, requests)?;
        Ok(Self { shared, writes })
    }

    /// The newest durable revision.
    pub(crate) fn revision(&self) -> u64 {
        self.shared.state.read().revision
    }

    /// Whether the last commit failed.
    pub(crate) fn failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.shared.state.read().tables.get(&key.table)?.objects.get(&key.name).cloned()
    }

    /// The revision of the last change in a table since the start; 0 if there was none.
    pub(crate) fn last_change(&self, table: &str) -> u64 {
        self.shared.state.read().tables.get(table).map_or(0, |t| *t.wake.borrow())
    }

    /// How many objects a table holds.
    pub(crate) fn count(&self, table: &str) -> usize {
        self.shared.state.read().tables.get(table).map_or(0, |t| t.objects.len())
    }

    /// The objects whose keys start with `prefix` and are greater than `after`, as of now.
    pub(crate) fn list(&self, table: &str, prefix: &str, after: Option<&str>) -> Snapshot {
        let state = self.shared.state.read();
        let objects = state.tables.get(table).map(|t| range(t, prefix, after)).unwrap_or_default();
        Snapshot { revision: state.revision, objects }
    }

    /// The same at an older revision that is still in the history.
    pub(crate) fn list_at(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        revision: u64,
    ) -> Result<Snapshot, TooOld> {
        let state = self.shared.state.read();
        if revision < state.floor {
            return Err(TooOld { asked: revision, floor: state.floor });
        }
        let Some(t) = state.tables.get(table) else {
            return Ok(Snapshot { revision, objects: Vec::new() });
        };
        let mut objects: BTreeMap<Box<str>, Arc<Stored>> =
            range(t, prefix, after).into_iter().collect();
        // Undo what came later, newest first.
        for event in t.events.iter().rev().take_while(|e| e.revision > revision) {
            if !event.name.starts_with(prefix) || after.is_some_and(|a| &*event.name <= a) {
                continue;
            }
            match &event.previous {
                Some(p) => objects.insert(event.name.clone(), Arc::clone(p)),
                None => objects.remove(&event.name),
            };
        }
        Ok(Snapshot { revision, objects: objects.into_iter().collect() })
    }

    /// Writes an object and returns it once it is durable.
    pub(crate) async fn put(
        &self,
        key: Key,
        expect: Expect,
        draft: Draft,
    ) -> Result<Arc<Stored>, WriteError> {
        self.write(key, expect, Some(draft)).await
    }

    /// Deletes an object and returns its last state once that is durable.
    pub(crate) async fn delete(&self, key: Key, revision: u64) -> Result<Arc<Stored>, WriteError> {
        self.write(key, Expect::Revision(revision), None).await
    }

    async fn write(
        &self,
        key: Key,
        expect: Expect,
        draft: Option<Draft>,
    ) -> Result<Arc<Stored>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = log::Request::Write(log::Write { key, expect, draft, reply });
        self.writes.send(request).await.map_err(|_| WriteError::Closed)?;
        answer.await.map_err(|_| WriteError::Closed)?
    }

    /// Follows a table's keys under `prefix` from after `revision`.
    pub(crate) fn watch(&self, table: &Arc<str>, prefix: &str, revision: u64) -> watch::Watcher {
        watch::Watcher::new(Arc::clone(&self.shared), table, prefix, revision)
    }

    /// Copies the whole database to another file while it is in use.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub(crate) async fn backup(&self, to: &Path) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = log::Request::Backup { to: to.to_owned(), reply };
        self.writes.send(request).await.map_err(|_| WriteError::Closed)?;
        answer.await.map_err(|_| WriteError::Closed)?
    }

    /// Commits what is queued, folds the log into the file, and stops the writer.
    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.writes.send(log::Request::Close { reply }).await.is_ok() {
            let _ = answer.await;
        }
    }
}

fn range(t: &Table, prefix: &str, after: Option<&str>) -> Vec<(Box<str>, Arc<Stored>)> {
    let from = match after {
        Some(a) if a >= prefix => Bound::Excluded(a),
        _ => Bound::Included(prefix),
    };
    t.objects
        .range::<str, _>((from, Bound::Unbounded))
        .take_while(|(k, _)| k.starts_with(prefix))
        .map(|(k, v)| (k.clone(), Arc::clone(v)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_draft_puts_the_revision_into_the_metadata_and_nowhere_else() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "data": {"resourceVersion": ""}, "metadata": {"name": "a", "resourceVersion": "7"}});
        let stored = Stored::new(12, &Draft::of(&object));
        assert_eq!(
            stored.value(),
            json!({"data": {"resourceVersion": ""}, "metadata": {"name": "a", "resourceVersion": "12"}})
        );
        assert!(Draft::of(&object).equals(&stored));
        assert!(Draft::of(&object).equals(&stored.at_revision(1_000_000)));
        assert!(!Draft::of(&json!({"metadata": {"name": "b"}})).equals(&stored));
    }

    #[test]
    fn another_revision_of_a_text_differs_in_the_revision_only() {
        let stored =
            Stored::new(9, &Draft::of(&json!({"metadata": {"name": "a"}, "spec": {"x": 1}})));
        assert_eq!(
            stored.at_revision(100).value(),
            json!({"metadata": {"name": "a", "resourceVersion": "100"}, "spec": {"x": 1}})
        );
    }
}

//! How much history is kept, and what may be forgotten.
//!
//! Owns: the order in which events age. Called by: the writer, after each commit.
//! Never: touches the newest state of an object.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::State;

/// How much watch history is kept. Whoever falls further behind is told "too old".
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of superseded and current texts that events refer to.
    pub(crate) bytes: usize,
    /// Number of events.
    pub(crate) events: usize,
    /// Age of an event.
    pub(crate) age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 32 << 20, events: 50_000, age: Duration::from_secs(600) }
    }
}

struct Entry {
    table: Arc<str>,
    bytes: usize,
    at: Instant,
}

/// The ages and sizes of all events, oldest first; the events themselves are in their tables.
#[derive(Default)]
pub(crate) struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl History {
    pub(crate) fn push(&mut self, table: &Arc<str>, bytes: usize, at: Instant) {
        self.bytes += bytes;
        self.entries.push_back(Entry { table: Arc::clone(table), bytes, at });
    }

    fn over(&self, limits: &Limits, now: Instant) -> bool {
        self.entries.front().is_some_and(|oldest| {
            self.bytes > limits.bytes
                || self.entries.len() > limits.events
                || now.duration_since(oldest.at) > limits.age
        })
    }
}

/// Forgets events beyond the limits. Returns the revisions whose rows nobody needs any more.
pub(crate) fn forget(state: &mut State, limits: &Limits, now: Instant) -> Vec<u64> {
    let mut dead = Vec::new();
    while state.history.over(limits, now) {
        let Some(entry) = state.history.entries.pop_front() else { break };
        state.history.bytes -= entry.bytes;
        let Some(event) = state.tables.get_mut(&entry.table).and_then(|t| t.events.pop_front())
        else {
            continue;
        };
        state.floor = event.revision;
        dead.extend(event.previous.as_ref().map(|p| p.revision));
        if event.deleted {
            dead.push(event.revision);
        }
    }
    dead
}

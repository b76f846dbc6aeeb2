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

#[cfg(test)]
mod tests {
    use super::super::{Draft, Event, Stored};
    use super::*;
    use serde_json::json;

    /// A table with an event a minute, each of about a kilobyte.
    fn state(now: Instant, events: u64) -> State {
        let table: Arc<str> = "core/configmaps".into();
        let mut state = State {
            revision: events,
            floor: 0,
            tables: std::collections::HashMap::new(),
            history: History::default(),
        };
        for revision in 1..=events {
            let draft =
                Draft::of(&json!({"metadata": {"name": "a"}, "data": {"x": "x".repeat(900)}}));
            let object = Arc::new(Stored::new(revision, &draft));
            let bytes = object.text.len();
            let event =
                Event { revision, name: "n/a".into(), object, previous: None, deleted: false };
            state.tables.entry(Arc::clone(&table)).or_default().events.push_back(Arc::new(event));
            let at = now - Duration::from_secs(60 * (events - revision));
            state.history.push(&table, bytes, at);
        }
        state
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_kept_by_age_by_size_and_by_number() {
        tokio::time::advance(Duration::from_secs(100_000)).await;
        let now = Instant::now();
        let none = Limits { bytes: usize::MAX, events: usize::MAX, age: Duration::MAX };
        let left = |limits: Limits| {
            let mut state = state(now, 20);
            forget(&mut state, &limits, now);
            (20 - state.floor, state.tables["core/configmaps"].events.len())
        };
        assert_eq!(left(none), (20, 20));
        assert_eq!(left(Limits { age: Duration::from_secs(5 * 60), ..none }), (6, 6));
        assert_eq!(left(Limits { bytes: 4_000, ..none }), (4, 4));
        assert_eq!(left(Limits { events: 7, ..none }), (7, 7));
    }
}

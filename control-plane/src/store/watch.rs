//! Following a table from a revision on.
//!
//! Owns: one reader's cursor. Called by: `http::watch` and the controllers.
//! Never: queues events; a reader that falls behind the history is told so.

use std::sync::Arc;

use tokio::sync::watch as signal;

use super::{Event, Shared, TooOld};

/// A cursor into the history of one table.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    table: Arc<str>,
    prefix: Box<str>,
    cursor: u64,
    woken: signal::Receiver<u64>,
}

/// What happened since the last look.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Arc<Event>>,
    /// Everything up to this revision has now been seen.
    pub(crate) revision: u64,
}

/// Events in one batch at most, so that one reader cannot hold the lock for long.
const BATCH: usize = 512;

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, table: &Arc<str>, prefix: &str, revision: u64) -> Self {
        let known = shared.state.read().tables.get(table).map(|t| t.wake.subscribe());
        let woken = match known {
            Some(woken) => woken,
            None => {
                shared.state.write().tables.entry(Arc::clone(table)).or_default().wake.subscribe()
            }
        };
        Self { shared, table: Arc::clone(table), prefix: prefix.into(), cursor: revision, woken }
    }

    /// What happened since the last call; empty when nothing did.
    ///
    /// # Errors
    /// When events after the cursor have been forgotten.
    pub(crate) fn poll(&mut self) -> Result<Batch, TooOld> {
        self.woken.mark_unchanged();
        let state = self.shared.state.read();
        if self.cursor < state.floor {
            return Err(TooOld { asked: self.cursor, floor: state.floor });
        }
        let mut events = Vec::new();
        let mut revision = state.revision.max(self.cursor);
        if let Some(t) = state.tables.get(&self.table) {
            let start = t.events.partition_point(|e| e.revision <= self.cursor);
            for event in t.events.range(start..) {
                if events.len() == BATCH {
                    revision = event.revision - 1;
                    self.woken.mark_changed();
                    break;
                }
                if event.name.starts_with(&*self.prefix) {
                    events.push(Arc::clone(event));
                }
            }
        }
        self.cursor = revision;
        Ok(Batch { events, revision })
    }

    /// Waits until there may be something to [`poll`](Self::poll).
    pub(crate) async fn changed(&mut self) {
        // The sender lives in the state that `shared` keeps alive.
        let _ = self.woken.changed().await;
    }

    /// Waits for the next events.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub(crate) async fn next(&mut self) -> Result<Batch, TooOld> {
        loop {
            let batch = self.poll()?;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            self.changed().await;
        }
    }
}

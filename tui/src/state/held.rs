//! What comes while the screen is held: the newest of each row, and a bounded number of lines.

use std::collections::{BTreeMap, VecDeque};

use api::status::row::{EventRow, MessageRow, Millis, Row, RowKey};
use api::status::stream::{Totals, Update};

/// See the module.
#[derive(Debug, Default)]
pub struct Held {
    /// Since when, on our clock.
    pub since: Millis,
    full: bool,
    more: bool,
    rows: BTreeMap<RowKey, Option<Row>>,
    events: VecDeque<EventRow>,
    messages: VecDeque<MessageRow>,
    missed: u64,
    totals: Option<Totals>,
    now: Millis,
}

impl Held {
    /// Nothing has come yet.
    pub fn new(since: Millis) -> Self {
        Self { since, ..Self::default() }
    }

    /// How many rows have changed meanwhile.
    pub fn changed(&self) -> usize {
        self.rows.len()
    }

    /// Takes an update in.
    pub fn take_in(&mut self, update: Update) {
        if update.full {
            *self = Self { full: true, ..Self::new(self.since) };
        }
        self.more = update.more;
        self.now = update.now;
        self.totals = Some(update.totals);
        self.rows.extend(update.gone.into_iter().map(|key| (key, None)));
        let rows = update.nodes.into_iter().map(Row::Node);
        let rows = rows.chain(update.pods.into_iter().map(Row::Pod));
        let rows = rows.chain(update.devices.into_iter().map(Row::Device));
        self.rows.extend(rows.map(|row| (row.key(), Some(row))));
        super::extend(&mut self.events, update.events, super::EVENTS);
        let room = super::MESSAGES.saturating_sub(self.messages.len());
        self.missed += update.messages.len().saturating_sub(room) as u64;
        super::extend(&mut self.messages, update.messages, super::MESSAGES);
        self.missed += update.behind.map_or(0, |b| b.missed_messages);
    }

    /// All of it as one update; none if nothing has come.
    pub fn release(self) -> Option<Update> {
        let totals = self.totals?;
        let mut update = Update {
            now: self.now,
            full: self.full,
            more: self.more,
            events: self.events.into(),
            messages: self.messages.into(),
            totals,
            ..Update::default()
        };
        for (key, row) in self.rows {
            match row {
                None => update.gone.push(key),
                Some(Row::Node(row)) => update.nodes.push(row),
                Some(Row::Pod(row)) => update.pods.push(row),
                Some(Row::Device(row)) => update.devices.push(row),
            }
        }
        if self.missed > 0 {
            let missed_messages = self.missed;
            let behind = api::status::stream::Behind { missed_messages, ..Default::default() };
            update.behind = Some(behind);
        }
        Some(update)
    }
}

//! The table of rows with a sequence number per row. Pure.
//!
//! Every reader has a cursor of its own and gets what changed since; a slow reader gets fewer,
//! larger updates, and nobody keeps a queue for it.
//!
//! Owns: the rows, the newest events and messages, the memory of rows that are gone.
//! Called by: whatever changes a row, with a call; the stream's server, once per reader and update.
//! Never: reads a clock, or knows its readers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::row::{EventRow, MessageRow, Millis, Row, RowKey};

/// How many rows that are gone are remembered. A reader further behind gets everything anew.
pub const TOMBSTONES: usize = 4096;
/// How many events are kept.
pub const EVENTS: usize = 512;
/// How many messages are kept.
pub const MESSAGES: usize = 2048;

/// How far a reader has read; `default()` has read nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    rows: u64,
    events: u64,
    messages: u64,
}

/// What changed since a cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Forget all rows first: this is everything.
    pub full: bool,
    /// New and changed rows, oldest change first.
    pub rows: Vec<Arc<Row>>,
    /// Rows that are gone.
    pub gone: Vec<RowKey>,
    /// Events that are new to the reader, oldest first.
    pub events: Vec<Arc<EventRow>>,
    /// Messages that are new to the reader, oldest first.
    pub messages: Vec<Arc<MessageRow>>,
    /// Events that the reader was too slow for.
    pub missed_events: u64,
    /// Messages that the reader was too slow for.
    pub missed_messages: u64,
    /// When the oldest of these rows and messages changed; `None` if there are none, or the reader
    /// is new.
    pub oldest: Option<Millis>,
}

impl Changes {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        !self.full
            && self.rows.is_empty()
            && self.gone.is_empty()
            && self.events.is_empty()
            && self.messages.is_empty()
    }
}

/// The newest lines of a kind, each with a number.
#[derive(Debug)]
struct Ring<T> {
    lines: VecDeque<Arc<T>>,
    limit: usize,
    /// Number of the newest line; the first is 1.
    newest: u64,
}

impl<T> Ring<T> {
    fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), limit, newest: 0 }
    }

    fn push(&mut self, line: T) {
        if self.lines.len() == self.limit {
            self.lines.pop_front();
        }
        self.lines.push_back(Arc::new(line));
        self.newest += 1;
    }

    /// The lines after number `seen`, and how many of those are gone already.
    fn since(&self, seen: u64) -> (Vec<Arc<T>>, u64) {
        let unseen = self.newest.saturating_sub(seen);
        let have = unseen.min(self.lines.len() as u64);
        let skip = self.lines.len() - usize::try_from(have).unwrap_or(self.lines.len());
        (self.lines.iter().skip(skip).cloned().collect(), unseen - have)
    }
}

/// The table.
#[derive(Debug)]
pub struct Board {
    seq: u64,
    rows: BTreeMap<RowKey, (u64, Arc<Row>)>,
    changed: BTreeMap<u64, (RowKey, Millis)>,
    gone: VecDeque<(u64, RowKey, Millis)>,
    /// Sequence number of the newest forgotten tombstone.
    forgotten: u64,
    events: Ring<EventRow>,
    messages: Ring<MessageRow>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            seq: 0,
            rows: BTreeMap::new(),
            changed: BTreeMap::new(),
            gone: VecDeque::new(),
            forgotten: 0,
            events: Ring::new(EVENTS),
            messages: Ring::new(MESSAGES),
        }
    }
}

impl Board {
    /// Puts a row in place of the one with its key. Returns whether anything changed.
    pub fn record(&mut self, row: Row, now: Millis) -> bool {
        let key = row.key();
        if let Some((seq, old)) = self.rows.get(&key) {
            if **old == row {
                return false;
            }
            self.changed.remove(seq);
        }
        self.seq += 1;
        self.changed.insert(self.seq, (key.clone(), now));
        self.rows.insert(key, (self.seq, Arc::new(row)));
        true
    }

    /// Changes a row in place, or does nothing if there is none. Returns whether it changed.
    pub fn amend(&mut self, key: &RowKey, now: Millis, change: impl FnOnce(&mut Row)) -> bool {
        let Some((_, row)) = self.rows.get(key) else { return false };
        let mut row = Row::clone(row);
        change(&mut row);
        self.record(row, now)
    }

    /// Takes a row away. Returns whether there was one.
    pub fn remove(&mut self, key: &RowKey, now: Millis) -> bool {
        let Some((seq, _)) = self.rows.remove(key) else { return false };
        self.changed.remove(&seq);
        self.seq += 1;
        if self.gone.len() == TOMBSTONES
            && let Some((seq, ..)) = self.gone.pop_front()
        {
            self.forgotten = seq;
        }
        self.gone.push_back((self.seq, key.clone(), now));
        true
    }

    /// A row.
    pub fn get(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(key).map(|(_, row)| &**row)
    }

    /// All rows, by kind and key.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().map(|(_, row)| &**row)
    }

    /// Adds an event.
    pub fn event(&mut self, event: EventRow) {
        self.events.push(event);
    }

    /// Adds a message.
    pub fn message(&mut self, message: MessageRow) {
        self.messages.push(message);
    }

    /// Where a reader that has read everything stands.
    pub fn cursor(&self) -> Cursor {
        Cursor { rows: self.seq, events: self.events.newest, messages: self.messages.newest }
    }

    /// What changed since `cursor`, and where the reader stands then.
    pub fn since(&self, cursor: Cursor) -> (Changes, Cursor) {
        let new = cursor.rows == 0 || cursor.rows < self.forgotten || cursor.rows > self.seq;
        let full = new && (cursor.rows != 0 || !self.rows.is_empty());
        let from = if new { 0 } else { cursor.rows };
        let changed = || self.changed.range(from + 1..).map(|(_, change)| change);
        let start = self.gone.partition_point(|(seq, ..)| *seq <= from);
        let left = || self.gone.range(if new { self.gone.len() } else { start }..);
        let rows = changed()
            .filter_map(|(key, _)| self.rows.get(key).map(|(_, row)| Arc::clone(row)))
            .collect();
        let gone = left()
            .filter(|(_, key, _)| !self.rows.contains_key(key))
            .map(|(_, key, _)| key.clone())
            .collect();
        let (events, missed_events) = self.events.since(cursor.events);
        let (messages, missed_messages) = self.messages.since(cursor.messages);
        // Each of these is in the order of time. Events have times of their own.
        let firsts = [
            changed().next().map(|(_, at)| *at),
            left().next().map(|(.., at)| *at),
            messages.first().map(|message| message.at),
        ];
        let oldest = if new { None } else { firsts.into_iter().flatten().min() };
        let changes =
            Changes { full, rows, gone, events, messages, missed_events, missed_messages, oldest };
        (changes, self.cursor())
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{NodeRow, PodRow};
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str, version: u32) -> Row {
        Row::Node(NodeRow { name: name.into(), version: version.to_string(), ..NodeRow::default() })
    }

    /// What a reader makes of the changes.
    #[derive(Default)]
    struct Reader {
        cursor: Cursor,
        rows: BTreeMap<RowKey, Arc<Row>>,
    }

    impl Reader {
        fn read(&mut self, board: &Board) -> Changes {
            let (changes, cursor) = board.since(self.cursor);
            self.cursor = cursor;
            if changes.full {
                self.rows.clear();
            }
            for key in &changes.gone {
                self.rows.remove(key);
            }
            for row in &changes.rows {
                self.rows.insert(row.key(), Arc::clone(row));
            }
            changes
        }
    }

    #[test]
    fn a_new_reader_gets_everything_then_only_what_changed() {
        let mut board = Board::default();
        board.record(node("a", 1), 0);
        board.record(node("b", 1), 0);
        let mut reader = Reader::default();
        assert!(reader.read(&board).full);
        assert_eq!(reader.rows.len(), 2);
        board.record(node("b", 2), 0);
        let changes = reader.read(&board);
        assert_eq!((changes.full, changes.rows.len()), (false, 1));
        assert!(reader.read(&board).is_empty());
        board.record(node("b", 2), 0);
        assert!(reader.read(&board).is_empty(), "the same row again is no news");
    }

    #[test]
    fn a_row_that_goes_and_comes_again_is_not_reported_gone() {
        let mut board = Board::default();
        board.record(node("a", 1), 0);
        let mut reader = Reader::default();
        reader.read(&board);
        board.remove(&RowKey::node("a"), 0);
        board.record(node("a", 2), 0);
        let changes = reader.read(&board);
        assert!(changes.gone.is_empty());
        assert_eq!(reader.rows.len(), 1);
    }

    #[test]
    fn a_reader_too_slow_for_messages_is_told_how_many_it_missed() {
        let mut board = Board::default();
        for _ in 0..MESSAGES + 10 {
            board.message(MessageRow::default());
        }
        let (changes, cursor) = board.since(Cursor::default());
        assert_eq!((changes.messages.len(), changes.missed_messages), (MESSAGES, 10));
        assert!(board.since(cursor).0.is_empty());
    }

    #[test]
    fn a_reader_behind_the_tombstones_starts_anew() {
        let mut board = Board::default();
        board.record(node("stays", 1), 0);
        board.record(node("goes", 1), 0);
        let mut reader = Reader::default();
        reader.read(&board);
        board.remove(&RowKey::node("goes"), 0);
        for i in 0..=TOMBSTONES {
            let name = format!("n{i}");
            board.record(node(&name, 1), 0);
            board.remove(&RowKey::node(&name), 0);
        }
        assert!(reader.read(&board).full);
        assert_eq!(reader.rows.len(), 1);
    }

    #[test]
    fn a_reader_is_told_how_long_the_oldest_change_has_waited() {
        let mut board = Board::default();
        board.record(node("a", 1), 10);
        let mut reader = Reader::default();
        assert_eq!(reader.read(&board).oldest, None, "a new reader is not behind");
        board.remove(&RowKey::node("a"), 20);
        board.record(node("b", 1), 30);
        board.record(node("b", 2), 40);
        assert_eq!(reader.read(&board).oldest, Some(20));
        board.event(EventRow { at: 1, ..EventRow::default() });
        board.message(MessageRow { at: 50, ..MessageRow::default() });
        assert_eq!(reader.read(&board).oldest, Some(50));
        assert_eq!(reader.read(&board).oldest, None);
    }

    #[test]
    fn amend_changes_only_a_row_that_is_there() {
        let mut board = Board::default();
        let key = RowKey::pod("default", "web");
        let rename = |row: &mut Row| {
            if let Row::Pod(p) = row {
                p.phase = "Running".into();
            }
        };
        assert!(!board.amend(&key, 0, rename));
        board.record(
            Row::Pod(PodRow {
                namespace: "default".into(),
                name: "web".into(),
                ..PodRow::default()
            }),
            0,
        );
        assert!(board.amend(&key, 0, rename));
        assert!(!board.amend(&key, 0, rename));
    }

    proptest! {
        #[test]
        fn readers_with_any_habits_end_with_the_same_table(
            steps in proptest::collection::vec((0u8..12, 0u32..3, any::<bool>(), any::<bool>()), 0..200)
        ) {
            let mut board = Board::default();
            let (mut often, mut seldom) = (Reader::default(), Reader::default());
            for (name, version, remove, read) in steps {
                let name = format!("n{name}");
                if remove {
                    board.remove(&RowKey::node(&name), 0);
                } else {
                    board.record(node(&name, version), 0);
                }
                often.read(&board);
                if read { seldom.read(&board); }
            }
            seldom.read(&board);
            let truth: BTreeMap<_, _> = board.rows().map(|r| (r.key(), r.clone())).collect();
            for reader in [often, seldom] {
                let has: BTreeMap<_, _> =
                    reader.rows.iter().map(|(k, r)| (k.clone(), Row::clone(r))).collect();
                prop_assert_eq!(&has, &truth);
            }
        }
    }
}

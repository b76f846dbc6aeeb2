//! What one reader of the stream has been told. Pure.
//!
//! Owns: the reader's cursor, and whether it wants the message flow.
//! Called by: whoever serves the stream, once per reader and look at the table.
//! Never: keeps a row for a reader.

use super::board::{Changes, Cursor};
use super::row::Millis;
use super::stream::{Totals, Update};

/// One reader.
#[derive(Debug, Default)]
pub struct Reader {
    cursor: Cursor,
    /// It has been told everything once.
    told: bool,
    flow: bool,
    totals: Totals,
}

/// What the table's owner brings to a look at it.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The server's clock.
    pub now: Millis,
    /// Totals since the server started.
    pub totals: Totals,
    /// Enough time has passed to tell totals alone.
    pub totals_due: bool,
    /// Something is to be told in any case, so that the reader knows that the stream lives.
    pub heartbeat: bool,
}

impl Reader {
    /// Whether it wants the message flow.
    pub fn wants_flow(&self) -> bool {
        self.flow
    }

    /// It wants the message flow, or no longer. Returns whether that is a change.
    pub fn set_flow(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.flow, on) != on
    }

    /// What it is to be told now; `since` looks at the table.
    pub fn look(
        &mut self,
        look: Look,
        since: impl FnOnce(Cursor) -> (Changes, Cursor),
    ) -> Vec<Update> {
        let (mut changes, cursor) = since(self.cursor);
        self.cursor = cursor;
        if !self.flow {
            changes.messages.clear();
            changes.missed_messages = 0;
        }
        if !self.told {
            // Also when the table is empty: what a reader may hold is of another server.
            changes.full = true;
            changes.missed_events = 0;
        }
        let due = look.totals_due && look.totals != self.totals;
        if changes.is_empty() && !due && !look.heartbeat {
            return Vec::new();
        }
        self.told = true;
        self.totals = look.totals;
        let mut updates = Update::parts(changes, look.now, look.totals);
        if updates.is_empty() {
            let (now, totals) = (look.now, look.totals);
            updates.push(Update { now, totals, ..Update::default() });
        }
        updates
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::Board;
    use super::super::row::{MessageRow, NodeRow, Row};
    use super::*;

    const LOOK: Look = Look {
        now: 5,
        totals: Totals { up: 0, down: 0, dropped: 0 },
        totals_due: true,
        heartbeat: false,
    };

    #[test]
    fn the_first_update_is_everything_even_of_an_empty_table() {
        let (mut reader, board) = (Reader::default(), Board::default());
        let first = reader.look(LOOK, |cursor| board.since(cursor));
        assert!(first.len() == 1 && first[0].full);
        assert!(reader.look(LOOK, |cursor| board.since(cursor)).is_empty());
        let beat = reader.look(Look { heartbeat: true, ..LOOK }, |cursor| board.since(cursor));
        assert!(beat.len() == 1 && !beat[0].full);
    }

    #[test]
    fn totals_alone_are_told_only_when_they_are_due() {
        let (mut reader, board) = (Reader::default(), Board::default());
        reader.look(LOOK, |cursor| board.since(cursor));
        let moved = Look { totals: Totals { up: 1, ..Totals::default() }, ..LOOK };
        let early = Look { totals_due: false, ..moved };
        assert!(reader.look(early, |cursor| board.since(cursor)).is_empty());
        assert_eq!(reader.look(moved, |cursor| board.since(cursor))[0].totals.up, 1);
    }

    #[test]
    fn messages_of_the_flow_are_only_for_those_who_asked() {
        let (mut asked, mut not) = (Reader::default(), Reader::default());
        assert!(asked.set_flow(true) && !asked.set_flow(true));
        let mut board = Board::default();
        board.record(Row::Node(NodeRow::default()), 1);
        board.message(MessageRow::default());
        assert_eq!(asked.look(LOOK, |cursor| board.since(cursor))[0].messages.len(), 1);
        assert_eq!(not.look(LOOK, |cursor| board.since(cursor))[0].messages.len(), 0);
    }
}

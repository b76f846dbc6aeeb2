//! What a dashboard shows: the table of rows, fed as things pass.
//!
//! ```text
//! watches, sessions, upstream workers ─call─► Status ─counter─► server, remote: a task per reader
//! ```
//!
//! Owns: the [`Board`], and per node the numbers that change with every message. Those are kept
//! beside the table and put into it when a reader looks: without readers a message costs a few
//! additions.
//! Called by: `cloudhub` (links, messages), `edgecontroller` (objects, reports), `server.rs` (reads).
//! Never: waits, or keeps a queue for a reader; a reader has a cursor.

mod access;
pub mod actions;
mod devices;
mod logs;
mod objects;
mod publish;
pub(crate) mod remote;
mod server;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use api::names::{Kind, MessageId, NodeName, ObjectKey};
use api::status::board::{Board, Changes, Cursor};
use api::status::row::{
    Direction, EventRow, Hops, Link, MessageRow, Millis, Queue, Row, RowKey, RowKind, Upgrade,
};
use api::status::stream::Totals;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::publish::{pem, publish};
pub(crate) use self::server::PATH;
pub use self::server::{Bound, StatusError};
use crate::metrics::Metrics;
use crate::object::Object;

/// Messages to a node whose acknowledgement is timed.
const TIMED: usize = 256;

/// The clock of all rows.
pub fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// A message from an edge node on its way through cloudcore.
#[derive(Debug, Clone, Copy)]
pub struct Passage {
    /// When the edge made it, by the edge's clock, in milliseconds.
    pub made: i64,
    /// When it came.
    pub came: Instant,
    /// The same, for rows.
    pub at: Millis,
    /// Its size on the wire.
    pub size: usize,
}

impl Passage {
    /// A message that has just come.
    pub fn begin(made: i64, size: usize) -> Self {
        Self { made, came: Instant::now(), at: now(), size }
    }

    /// From the edge to here in microseconds, by both clocks.
    fn to_hub(self) -> Option<i64> {
        (self.made > 0).then(|| self.at.saturating_sub(self.made).saturating_mul(1000))
    }
}

/// What changes with every message of a node.
#[derive(Debug, Default)]
struct Hot {
    session: u64,
    link: Option<Link>,
    lost: Option<(Millis, String)>,
    queue: Queue,
    last_report: Option<Millis>,
    lease_renewed: Option<Millis>,
    timed: HashMap<MessageId, Instant>,
}

#[derive(Debug, Default)]
struct Table {
    board: Board,
    hot: HashMap<NodeName, Hot>,
    /// Nodes whose numbers are not yet in the table, and since when they differ.
    dirty: HashMap<NodeName, Millis>,
    /// While a watch lists anew: what has been seen so far.
    seen: HashMap<RowKind, HashSet<RowKey>>,
    /// What of processor (in thousandths of a core) and memory a node has.
    capacity: HashMap<String, (u64, u64)>,
    /// What jobs do to nodes, by node.
    upgrades: BTreeMap<String, Upgrade>,
}

/// See the module.
#[derive(Debug)]
pub struct Status {
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    /// Readers that want the message flow. Without any, no line is made.
    flow: AtomicUsize,
    /// Readers that want to know what nodes and pods use. Without any, no node is asked.
    usage_wanted: watch::Sender<usize>,
    metrics: Metrics,
}

impl Status {
    /// An empty table.
    pub fn new(metrics: Metrics) -> Self {
        let (changed, _) = watch::channel(0);
        let (usage_wanted, _) = watch::channel(0);
        Self { table: Mutex::default(), changed, flow: AtomicUsize::new(0), usage_wanted, metrics }
    }

    fn change(&self, what: impl FnOnce(&mut Table)) {
        what(&mut self.table.lock());
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn hot(&self, node: &NodeName, what: impl FnOnce(&mut Hot)) {
        self.change(|table| {
            what(table.hot.entry(node.clone()).or_default());
            if !table.dirty.contains_key(node) {
                table.dirty.insert(node.clone(), now());
            }
        });
    }

    /// A node has connected. A later session of the same node takes over.
    pub fn link_up(&self, node: &NodeName, session: u64, link: Link) {
        self.event("Normal", "LinkUp", node, format!("connected from {}", link.from));
        self.hot(node, |hot| {
            hot.session = session;
            hot.link = Some(link);
            hot.lost = None;
            hot.timed.clear();
        });
    }

    /// A session has ended.
    pub fn link_down(&self, node: &NodeName, session: u64, why: &str) {
        let mut current = false;
        self.hot(node, |hot| {
            current = hot.session == session;
            if current {
                hot.link = None;
                hot.lost = Some((now(), why.chars().take(256).collect()));
                hot.timed.clear();
            }
        });
        if current {
            self.event("Warning", "LinkDown", node, why.to_owned());
            // Nothing is kept for a node whose object is gone.
            self.change(|table| {
                if table.board.get(&RowKey::node(node.as_str())).is_none() {
                    table.hot.remove(node);
                    table.dirty.remove(node);
                }
            });
        }
    }

    fn event(&self, kind: &str, reason: &str, node: &NodeName, message: String) {
        let event = EventRow {
            at: now(),
            kind: kind.to_owned(),
            reason: reason.to_owned(),
            object: format!("node/{node}"),
            node: node.to_string(),
            message,
            count: 1,
        };
        self.change(|table| table.board.event(event));
    }

    /// An event of the cluster, as an edge has reported it.
    pub fn reported_event(&self, node: &NodeName, object: &api::raw::RawJson) {
        if let Ok(event) = object.to() {
            let event = api::status::objects::event(node.as_str(), event, now());
            self.change(|table| table.board.event(event));
        }
    }

    /// How long a ping took.
    pub fn round_trip(&self, node: &NodeName, took: std::time::Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.hot(node, |hot| {
            if let Some(link) = &mut hot.link {
                link.round_trip_us = Some(us);
            }
        });
    }

    /// A message of a node has come.
    pub fn received(&self, node: &NodeName) {
        self.hot(node, |hot| {
            hot.queue.received += 1;
            hot.last_report = Some(now());
        });
    }

    /// How much a node still has to be told, and how much of it is on the wire.
    pub fn queue(&self, node: &NodeName, all: usize, in_flight: usize) {
        self.hot(node, |hot| {
            hot.queue.waiting = all.saturating_sub(in_flight) as u64;
            hot.queue.unacknowledged = in_flight as u64;
        });
    }

    /// Something for a node, or of it, was dropped.
    pub fn dropped(&self, node: &NodeName, how_many: u64) {
        if how_many > 0 {
            self.hot(node, |hot| hot.queue.dropped += how_many);
        }
    }

    /// A node is to be told a new version of an object.
    pub fn offered(&self, key: &ObjectKey) {
        self.unconfirmed(key, true);
    }

    fn unconfirmed(&self, key: &ObjectKey, yes: bool) {
        if key.kind != Kind::Pod {
            return;
        }
        let row = objects::row_key(key);
        self.change(|table| {
            table.board.amend(&row, now(), |row| {
                if let Row::Pod(pod) = row {
                    pod.unconfirmed = yes;
                }
            });
        });
    }

    /// A message is on the socket. `object`, if it is one that the node will acknowledge.
    pub fn sent(
        &self,
        node: &NodeName,
        id: &MessageId,
        object: Option<&ObjectKey>,
        what: &str,
        size: usize,
    ) {
        self.hot(node, |hot| {
            hot.queue.sent += 1;
            if object.is_some() && hot.timed.len() < TIMED {
                hot.timed.insert(id.clone(), Instant::now());
            }
        });
        self.line(|| MessageRow {
            at: now(),
            node: node.to_string(),
            direction: Direction::Down,
            kind: if object.is_some() { "object".to_owned() } else { "reply".to_owned() },
            object: object.map_or_else(|| what.to_owned(), ToString::to_string),
            size: size as u64,
            ..MessageRow::default()
        });
    }

    /// A node has acknowledged an object.
    pub fn acked(&self, node: &NodeName, id: &MessageId, key: &ObjectKey, passage: &Passage) {
        let mut took = None;
        self.hot(node, |hot| took = hot.timed.remove(id).map(|at| at.elapsed()));
        self.unconfirmed(key, false);
        self.line(|| MessageRow {
            object: key.to_string(),
            second_us: took.map(|t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX)),
            ..up(node, "ack", passage)
        });
    }

    /// A message that is not answered has been dealt with.
    pub fn heard(&self, node: &NodeName, kind: &str, what: &str, outcome: &str, from: &Passage) {
        self.line(|| MessageRow {
            object: what.to_owned(),
            outcome: outcome.to_owned(),
            ..up(node, kind, from)
        });
    }

    /// A request of a node has been carried out, or refused with `error`.
    pub fn handled(
        &self,
        node: &NodeName,
        request: &api::wire::request::Request,
        what: &str,
        error: Option<String>,
        from: &Passage,
    ) {
        use api::wire::request::Request;
        let took = u64::try_from(from.came.elapsed().as_micros()).unwrap_or(u64::MAX);
        let hops = Hops { edge_to_hub_us: from.to_hub().unwrap_or(0), hub_to_api_us: took };
        match request {
            Request::PatchPod { key, .. } if error.is_none() => {
                let row = objects::row_key(key);
                self.change(|table| {
                    table.board.amend(&row, now(), |row| {
                        if let Row::Pod(pod) = row {
                            pod.last_report = Some(from.at);
                            pod.hops = Some(hops);
                        }
                    });
                });
            }
            Request::UpdateLease { .. } | Request::CreateLease { .. } if error.is_none() => {
                self.hot(node, |hot| hot.lease_renewed = Some(from.at));
            }
            _ => {}
        }
        self.line(|| MessageRow {
            object: what.to_owned(),
            second_us: Some(took),
            outcome: error.unwrap_or_else(|| "ok".to_owned()),
            ..up(node, objects::label(request), from)
        });
    }

    /// A line of the message flow, if anybody reads it.
    fn line(&self, line: impl FnOnce() -> MessageRow) {
        if self.flow.load(Ordering::Relaxed) > 0 {
            let line = line();
            self.change(|table| table.board.message(line));
        }
    }

    /// A watch lists all objects of a kind anew.
    pub fn begin_reset(&self, kind: &Kind) {
        if let Some(kind) = objects::row_kind(kind) {
            self.table.lock().seen.insert(kind, HashSet::new());
        }
    }

    /// The list is complete: what was not in it is gone.
    pub fn finish_reset(&self, kind: &Kind) {
        let Some(kind) = objects::row_kind(kind) else { return };
        self.change(|table| {
            let Some(seen) = table.seen.remove(&kind) else { return };
            let gone: Vec<RowKey> = table
                .board
                .rows()
                .map(Row::key)
                .filter(|k| k.kind == kind && !seen.contains(k))
                .collect();
            for key in gone {
                table.board.remove(&key, now());
            }
        });
    }

    /// A node, a pod of an edge node, or a device, as a watch has shown it.
    pub fn object(&self, object: &Object) {
        let Some(mut row) = objects::row(object) else { return };
        let capacity = objects::capacity(object);
        self.change(|table| {
            if let (Row::Node(node), Some(capacity)) = (&row, capacity) {
                table.capacity.insert(node.name.clone(), capacity);
            }
            let key = row.key();
            if let Some(seen) = table.seen.get_mut(&key.kind) {
                seen.insert(key.clone());
            }
            match (&mut row, table.board.get(&key)) {
                // What was learnt on the way is kept, unless another pod bears the name now.
                (Row::Pod(new), Some(Row::Pod(old))) if new.uid == old.uid => {
                    new.hops = old.hops;
                    new.last_report = old.last_report;
                    new.unconfirmed = old.unconfirmed;
                    new.usage = old.usage;
                }
                (Row::Device(new), Some(Row::Device(old))) => devices::keep(new, old),
                (Row::Node(new), old) => {
                    if let Some(Row::Node(old)) = old {
                        new.usage = old.usage;
                    }
                    new.upgrade = table.upgrades.get(&new.name).cloned().map(Box::new);
                    if let Ok(name) = new.name.parse::<NodeName>()
                        && let Some(hot) = table.hot.get(&name)
                    {
                        hot.fill(new);
                    }
                }
                _ => {}
            }
            table.board.record(row, now());
        });
    }

    /// An object is gone.
    pub fn gone(&self, key: &ObjectKey) {
        if objects::row_kind(&key.kind).is_some() {
            let key = objects::row_key(key);
            self.change(|table| {
                if key.kind == RowKind::Node {
                    table.capacity.remove(&key.key);
                }
                table.board.remove(&key, now());
            });
        }
    }

    /// A node is no edge node any more: it and its pods are shown no longer.
    pub fn forget(&self, node: &NodeName) {
        self.change(|table| {
            let of_node = |row: &&Row| match row {
                Row::Node(n) => n.name == node.as_str(),
                Row::Pod(p) => p.node == node.as_str(),
                Row::Device(_) => false,
            };
            let gone: Vec<RowKey> = table.board.rows().filter(of_node).map(Row::key).collect();
            for key in gone {
                table.board.remove(&key, now());
            }
            table.capacity.remove(node.as_str());
            if table.hot.get(node).is_some_and(|hot| hot.link.is_none()) {
                table.hot.remove(node);
                table.dirty.remove(node);
            }
        });
    }

    /// What jobs do to nodes now, by node.
    pub(crate) fn upgrades(&self, all: BTreeMap<String, Upgrade>) {
        let old = self.table.lock().upgrades.clone();
        if old == all {
            return;
        }
        self.change(|table| {
            for node in old.keys().chain(all.keys()).filter(|node| old.get(*node) != all.get(*node))
            {
                table.board.amend(&RowKey::node(node), now(), |row| {
                    if let Row::Node(row) = row {
                        row.upgrade = all.get(node).cloned().map(Box::new);
                    }
                });
            }
            table.upgrades = all;
        });
    }

    /// What changed since a cursor.
    pub fn since(&self, cursor: Cursor) -> (Changes, Cursor) {
        let mut table = self.table.lock();
        let Table { board, hot, dirty, .. } = &mut *table;
        let mut late: Vec<(Millis, NodeName)> = dirty.drain().map(|(n, at)| (at, n)).collect();
        late.sort_unstable_by_key(|(at, _)| *at);
        for (at, node) in late {
            let Some(hot) = hot.get(&node) else { continue };
            board.amend(&RowKey::node(node.as_str()), at, |row| {
                if let Row::Node(row) = row {
                    hot.fill(row);
                }
            });
        }
        board.since(cursor)
    }

    fn totals(&self) -> Totals {
        Totals {
            up: self.metrics.received.get(),
            down: self.metrics.sent.get(),
            dropped: self.metrics.dropped_in_all(),
        }
    }
}

impl Hot {
    fn fill(&self, row: &mut api::status::row::NodeRow) {
        row.link.clone_from(&self.link);
        (row.lost_at, row.lost_why) = match &self.lost {
            Some((at, why)) => (Some(*at), why.clone()),
            None => (None, String::new()),
        };
        row.queue = self.queue;
        row.last_report = self.last_report;
        row.lease_renewed = self.lease_renewed;
    }
}

fn up(node: &NodeName, kind: &str, from: &Passage) -> MessageRow {
    MessageRow {
        at: from.at,
        node: node.to_string(),
        direction: Direction::Up,
        kind: kind.to_owned(),
        size: from.size as u64,
        first_us: from.to_hub(),
        outcome: "ok".to_owned(),
        ..MessageRow::default()
    }
}

//! What this node shows of itself: the same stream as cloudcore's, also while the cloud is away.
//!
//! ```text
//! node, edged, taskmanager ─call─► Status ─counter─► stream: one task per reader of the unix socket
//! ```
//!
//! Owns: the board of this node's rows, and the measuring of what it and its pods use.
//! Called by: `edged` (node, pods, events), `taskmanager` (its upgrade), `app.rs`.
//! Never: asks the cloud; is reachable from another machine; does more than this machine's root could
//! through the local API.

mod answer;
mod stream;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::names::{NodeName, ObjectKey};
use api::status::board::{Board, Changes, Cursor};
use api::status::objects;
use api::status::row::{EventRow, Link, Millis, NodeRow, Queue, Row, RowKey, Upgrade, Usage};
use api::status::stream::Totals;
use api::status::upgrades::{WAITING, edge_version};
use k8s_openapi::api::core::v1::{Event, Node, Pod, PodStatus};
use parking_lot::Mutex;
use service::CancellationToken;
use service::stream::{SocketError, UnixSocket};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::edged::LocalApi;
use crate::edged::runtime::ContainerRuntime;
use crate::edgehub::ToCloud;
use crate::edgehub::link::LinkState;

/// How often is measured while somebody looks, and while nobody does.
const LOOKED_AT: Duration = Duration::from_secs(2);
const UNSEEN: Duration = Duration::from_secs(15);
/// The runtime may take so long to tell what is used.
const MEASURE_LIMIT: Duration = Duration::from_secs(5);

/// The clock of all rows.
fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Status(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeName,
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    /// Readers at this time.
    readers: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Table {
    board: Board,
    /// What the node's row has beside its object.
    link: Option<Link>,
    lost: Option<Millis>,
    queue: Queue,
    usage: Option<Usage>,
    upgrade: Option<Upgrade>,
    reported: u64,
}

impl Status {
    /// An empty table of a node.
    pub(crate) fn new(node: NodeName) -> Self {
        let (changed, _) = watch::channel(0);
        let (readers, _) = watch::channel(0);
        Self(Arc::new(Inner { node, table: Mutex::default(), changed, readers }))
    }

    fn change(&self, what: impl FnOnce(&mut Table)) {
        what(&mut self.0.table.lock());
        self.0.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// The node as it would report itself now.
    pub(crate) fn node(&self, node: Node) {
        let row = objects::node(node);
        self.change(|table| table.put_node(row));
    }

    /// The upgrade that waits, runs or has failed; none if there is none, or once it has succeeded.
    pub(crate) fn upgrade(&self, upgrade: Option<Upgrade>) {
        self.change(|table| {
            table.upgrade = upgrade;
            table.renew_node(self.0.node.as_str());
        });
    }

    /// A pod and its newest status.
    pub(crate) fn pod(&self, pod: &Pod, status: &PodStatus) {
        let mut row = objects::pod(Pod { status: Some(status.clone()), ..pod.clone() });
        row.last_report = Some(now());
        row.node = self.0.node.to_string();
        self.change(|table| {
            if let Some(Row::Pod(old)) = table.board.get(&RowKey::pod(&row.namespace, &row.name))
                && old.uid == row.uid
            {
                row.usage = old.usage;
            }
            table.reported += 1;
            table.board.record(Row::Pod(row), now());
        });
    }

    /// Nothing of a pod is left.
    pub(crate) fn pod_gone(&self, key: &ObjectKey) {
        let namespace = key.namespace.as_ref().map_or("", |n| n.as_str());
        let key = RowKey::pod(namespace, &key.name);
        self.change(|table| {
            table.board.remove(&key, now());
        });
    }

    /// Something has happened here.
    pub(crate) fn event(&self, event: &Event) {
        let row = objects::event(self.0.node.as_str(), event.clone(), now());
        self.change(|table| table.board.event(row));
    }

    fn link(&self, state: LinkState) {
        let at = now();
        self.change(|table| {
            let was = table.link.is_some();
            if state.up == was {
                return;
            }
            let (reason, kind) =
                if state.up { ("LinkUp", "Normal") } else { ("LinkDown", "Warning") };
            if state.up {
                let link = Link { since: at, protocol: "websocket".to_owned(), ..Link::default() };
                (table.link, table.lost) = (Some(link), None);
            } else {
                (table.link, table.lost) = (None, Some(at));
            }
            table.board.event(EventRow {
                at,
                kind: kind.to_owned(),
                reason: reason.to_owned(),
                object: format!("node/{}", self.0.node),
                node: self.0.node.to_string(),
                message: if state.up {
                    "linked to the cloud"
                } else {
                    "the link to the cloud is down"
                }
                .to_owned(),
                count: 1,
            });
            table.renew_node(self.0.node.as_str());
        });
    }

    fn queue(&self, to_cloud: &ToCloud) {
        let queue = {
            let outbox = to_cloud.outbox();
            let dropped = outbox.dropped();
            Queue {
                waiting: outbox.len() as u64,
                dropped: dropped.events_offline + dropped.events_full,
                ..Queue::default()
            }
        };
        self.change(|table| {
            table.queue = Queue { sent: table.reported, ..queue };
            table.renew_node(self.0.node.as_str());
        });
    }

    fn used(&self, node: Option<Usage>, pods: &HashMap<String, Usage>) {
        self.change(|table| {
            table.usage = node;
            table.renew_node(self.0.node.as_str());
            let rows: Vec<(RowKey, Option<Usage>)> = table
                .board
                .rows()
                .filter_map(|row| match row {
                    Row::Pod(pod) => Some((row.key(), pods.get(&pod.uid).copied())),
                    _ => None,
                })
                .collect();
            for (key, usage) in rows {
                table.board.amend(&key, now(), |row| {
                    if let Row::Pod(pod) = row {
                        pod.usage = usage;
                    }
                });
            }
        });
    }

    fn since(&self, cursor: Cursor) -> (Changes, Cursor) {
        self.0.table.lock().board.since(cursor)
    }

    fn totals(&self) -> Totals {
        let table = self.0.table.lock();
        Totals { up: table.reported, down: 0, dropped: table.queue.dropped }
    }

    /// Watches the link, and measures what is used, for ever.
    pub(crate) async fn keep(
        self,
        mut link: watch::Receiver<LinkState>,
        to_cloud: ToCloud,
        runtime: Option<Arc<dyn ContainerRuntime>>,
    ) {
        let mut readers = self.0.readers.subscribe();
        let mut meter = usage::Meter::new();
        loop {
            self.link(*link.borrow_and_update());
            self.queue(&to_cloud);
            let stats = match &runtime {
                Some(runtime) => {
                    let asked = tokio::time::timeout(MEASURE_LIMIT, runtime.stats(None)).await;
                    asked.ok().and_then(Result::ok).unwrap_or_default()
                }
                None => Vec::new(),
            };
            let (node, pods) = meter.measure(&stats);
            self.used(node, &pods);
            let measured = Instant::now();
            loop {
                let pause = if *readers.borrow_and_update() > 0 { LOOKED_AT } else { UNSEEN };
                tokio::select! {
                    () = tokio::time::sleep_until(measured + pause) => break,
                    Ok(()) = link.changed() => self.link(*link.borrow_and_update()),
                    Ok(()) = readers.changed() => {}
                }
            }
        }
    }

    /// Serves readers until told to stop.
    pub(crate) async fn serve(
        self,
        socket: UnixSocket,
        own: Option<LocalApi>,
        stopping: CancellationToken,
    ) {
        tracing::info!(path = %socket.path().display(), "serving the status stream");
        stream::serve(self, socket, own, stopping).await;
    }
}

impl Table {
    fn put_node(&mut self, mut row: NodeRow) {
        row.link.clone_from(&self.link);
        row.lost_at = self.lost;
        if self.lost.is_some() {
            row.lost_why = "the link to the cloud is down".to_owned();
        } else {
            row.lost_why.clear();
        }
        row.queue = self.queue;
        row.usage = self.usage;
        row.upgrade = self.upgrade.clone().map(|mut upgrade| {
            // Later the version that runs may be another one already.
            if matches!(upgrade.state.as_str(), "Check" | WAITING | "BackUp") {
                edge_version(&row.version).clone_into(&mut upgrade.from);
            }
            Box::new(upgrade)
        });
        row.last_report = Some(now());
        self.board.record(Row::Node(row), now());
    }

    fn renew_node(&mut self, name: &str) {
        if let Some(Row::Node(row)) = self.board.get(&RowKey::node(name)) {
            let row = row.clone();
            self.put_node(row);
        }
    }
}

/// Binds the socket.
///
/// # Errors
/// When the path cannot be used, or another program serves it.
pub(crate) async fn bind(path: &Path) -> Result<UnixSocket, SocketError> {
    UnixSocket::bind(path).await
}

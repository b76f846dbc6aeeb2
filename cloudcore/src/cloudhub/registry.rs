//! Which nodes there are, who is connected, and what each still has to be told.
//!
//! Owns: one outbox per node, the number of sessions.
//! Called by: `session.rs` (through [`Connection`]), the controllers ([`Registry::offer`]), the
//! upstream workers ([`Registry::answer`]).
//! Never: holds a lock across an await, or lets a session that was replaced touch the outbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind, MessageId, NodeName, ObjectKey, ResourceVersion, Uid};
use api::wire::downstream::{Downstream, ObjectPush, PushOp, Reply};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, trace};

use super::outbox::{Acked, Due, Limits, Offered, Outbox};
use crate::devicecontroller::membership;
use crate::metrics::{Drop as Dropped, Metrics};
use crate::status::Status;
use crate::synccontroller::records::Records;

/// How long an object may stay unacknowledged before it is sent again.
pub const RETRY: Duration = Duration::from_secs(5);
/// All outboxes together: beyond it nothing but deletions is taken, and the SyncController sends
/// what is missing once there is room.
const TOTAL_BYTES: usize = 256 << 20;

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The same node has connected again.
    #[error("a newer connection of this node has taken over")]
    Replaced,
    /// The node's object was deleted.
    #[error("the node was deleted from the cluster")]
    NodeDeleted,
    /// cloudcore stops.
    #[error("cloudcore is stopping")]
    Stopping,
}

/// Why a node may not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `nodeLimit`
    #[error("the limit of {0} connected nodes is reached (`modules.cloudHub.nodeLimit`)")]
    NodeLimit(usize),
}

/// A session of a node, as those who answer it know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The node.
    pub node: NodeName,
    /// Which of its sessions.
    pub session: u64,
}

#[derive(Debug, Default)]
struct State {
    outbox: Outbox,
    /// Number of the current session; 0 before the first.
    session: u64,
    end: Option<oneshot::Sender<Ended>>,
    /// What is counted in [`Registry::bytes`] and in the metric of objects.
    counted: (usize, i64),
}

#[derive(Debug, Default)]
struct Node {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: HashMap<NodeName, Arc<Node>>,
    /// How many.
    connected: watch::Sender<usize>,
    last_session: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
    bytes: std::sync::atomic::AtomicUsize,
    node_limit: usize,
    limits: Limits,
    records: Arc<Mutex<Records>>,
    metrics: Metrics,
    status: Arc<Status>,
    /// Told the name of each node that has connected.
    connected: tokio::sync::broadcast::Sender<NodeName>,
}

impl Registry {
    /// An empty one. What is sent and acknowledged is noted in `records`.
    pub fn new(
        node_limit: usize,
        limits: Limits,
        records: Arc<Mutex<Records>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner: Mutex::default(),
            bytes: 0.into(),
            node_limit,
            limits,
            records,
            status: Arc::new(Status::new(metrics.clone())),
            metrics,
            connected: tokio::sync::broadcast::channel(1024).0,
        }
    }

    /// What a dashboard shows of all this.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Names of nodes as they connect. A subscriber that falls behind should look at all of them.
    pub fn connections(&self) -> tokio::sync::broadcast::Receiver<NodeName> {
        self.connected.subscribe()
    }

    /// Something the node is to be told, now or when it is back.
    pub fn offer(&self, node: &NodeName, push: ObjectPush) {
        use std::sync::atomic::Ordering::Relaxed;
        let full = self.bytes.load(Relaxed) >= TOTAL_BYTES && push.op != PushOp::Delete;
        if full {
            self.metrics.dropped(Dropped::OutboxFull, 1);
            self.status.dropped(node, 1);
            return;
        }
        trace!(target: "hop", msg = %push.key, at = "cloudhub.outbox");
        let entry = self.node(node);
        let key = push.key.clone();
        let outcome = {
            let mut state = entry.state.lock();
            let outcome = state.outbox.offer(push);
            self.recount(&mut state);
            self.status.queue(node, state.outbox.len(), state.outbox.in_flight());
            outcome
        };
        match outcome {
            Offered::Queued | Offered::Replaced => {
                self.status.offered(&key);
                entry.wake.notify_one();
            }
            Offered::Stale => {}
            Offered::Shed => {
                self.metrics.dropped(Dropped::OutboxFull, 1);
                self.status.dropped(node, 1);
            }
        }
    }

    /// The answer to a request. If the session that asked is gone, so is the asker.
    pub fn answer(&self, to: &Origin, reply: Reply) {
        let Some(entry) = self.inner.lock().nodes.get(&to.node).cloned() else {
            return self.metrics.dropped(Dropped::ReplyLate, 1);
        };
        {
            let mut state = entry.state.lock();
            if state.session != to.session || state.end.is_none() {
                return self.metrics.dropped(Dropped::ReplyLate, 1);
            }
            trace!(target: "hop", msg = %reply.parent, at = "cloudhub.outbox");
            state.outbox.answer(reply);
            let lost = state.outbox.take_dropped_replies();
            self.metrics.dropped(Dropped::ReplyOverflow, lost);
            self.status.dropped(&to.node, lost);
        }
        entry.wake.notify_one();
    }

    /// Something that only the session that asked, or reported, is told; see [`Outbox::note`].
    pub fn tell(&self, to: &Origin, note: Downstream) {
        let Some(entry) = self.inner.lock().nodes.get(&to.node).cloned() else { return };
        {
            let mut state = entry.state.lock();
            if state.session != to.session || state.end.is_none() {
                return;
            }
            state.outbox.note(note);
            let lost = state.outbox.take_dropped_replies();
            self.metrics.dropped(Dropped::ReplyOverflow, lost);
            self.status.dropped(&to.node, lost);
        }
        entry.wake.notify_one();
    }

    /// The number of the session in which a node is connected.
    pub fn session(&self, node: &NodeName) -> Option<u64> {
        let entry = self.inner.lock().nodes.get(node).cloned()?;
        let state = entry.state.lock();
        state.end.is_some().then_some(state.session)
    }

    /// Something that a node is told if it is connected, and that is not repeated.
    pub fn say(&self, node: &NodeName, note: Downstream) {
        if let Some(session) = self.session(node) {
            self.tell(&Origin { node: node.clone(), session }, note);
        }
    }

    /// A new session of a node. An older one of the same node ends. `store` is the id of the node's
    /// database, if it tells.
    ///
    /// # Errors
    /// When the node limit is reached.
    pub fn connect(
        self: &Arc<Self>,
        node: &NodeName,
        store: Option<&str>,
    ) -> Result<(Connection, oneshot::Receiver<Ended>), Refused> {
        let (end, ended) = oneshot::channel();
        let entry = self.node(node);
        let mut inner = self.inner.lock();
        let mut state = entry.state.lock();
        if state.end.is_none() {
            if *inner.connected.borrow() >= self.node_limit {
                return Err(Refused::NodeLimit(self.node_limit));
            }
            inner.connected.send_modify(|n| *n += 1);
            self.metrics.connected_nodes.inc();
        }
        inner.last_session += 1;
        state.session = inner.last_session;
        let session = state.session;
        if let Some(old) = state.end.replace(end) {
            // The other end may have closed by itself in this moment.
            let _ = old.send(Ended::Replaced);
        }
        state.outbox.disconnected();
        self.recount(&mut state);
        drop(state);
        drop(inner);
        if let Some(store) = store {
            self.records.lock().connected_with(node, store);
        }
        // Without subscribers there is nobody to compare; that is so only in tests.
        let _ = self.connected.send(node.clone());
        let origin = Origin { node: node.clone(), session };
        Ok((Connection { registry: Arc::clone(self), entry, origin }, ended))
    }

    /// The node's object is gone: its session ends and nothing is kept for it.
    pub fn forget(&self, node: &NodeName) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.nodes.remove(node) else { return };
        let mut state = entry.state.lock();
        state.outbox = Outbox::new(self.limits);
        self.recount(&mut state);
        if let Some(end) = state.end.take() {
            inner.connected.send_modify(|n| *n -= 1);
            self.metrics.connected_nodes.dec();
            let _ = end.send(Ended::NodeDeleted);
        }
    }

    /// Whether the node is connected.
    pub fn is_connected(&self, node: &NodeName) -> bool {
        let entry = self.inner.lock().nodes.get(node).cloned();
        entry.is_some_and(|e| e.state.lock().end.is_some())
    }

    /// The nodes that are connected.
    pub fn connected_nodes(&self) -> Vec<NodeName> {
        let all: Vec<_> =
            self.inner.lock().nodes.iter().map(|(n, e)| (n.clone(), Arc::clone(e))).collect();
        all.into_iter().filter(|(_, e)| e.state.lock().end.is_some()).map(|(n, _)| n).collect()
    }

    /// Returns once no node is connected.
    pub async fn all_left(&self) {
        let mut connected = self.inner.lock().connected.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = connected.wait_for(|n| *n == 0).await;
    }

    /// See [`Outbox::covers`].
    pub fn covers(
        &self,
        node: &NodeName,
        key: &ObjectKey,
        uid: &Uid,
        version: Option<ResourceVersion>,
    ) -> bool {
        let entry = self.inner.lock().nodes.get(node).cloned();
        entry.is_some_and(|e| e.state.lock().outbox.covers(key, uid, version))
    }

    /// Objects of a node that wait or are in flight.
    pub fn waiting(&self, node: &NodeName) -> usize {
        let entry = self.inner.lock().nodes.get(node).cloned();
        entry.map_or(0, |e| e.state.lock().outbox.len())
    }

    fn node(&self, name: &NodeName) -> Arc<Node> {
        let mut inner = self.inner.lock();
        Arc::clone(inner.nodes.entry(name.clone()).or_insert_with(|| {
            let state = State { outbox: Outbox::new(self.limits), ..State::default() };
            Arc::new(Node { state: Mutex::new(state), wake: Notify::new() })
        }))
    }

    fn recount(&self, state: &mut State) {
        use std::sync::atomic::Ordering::Relaxed;
        let (bytes, objects) = state.counted;
        state.counted = (state.outbox.bytes(), state.outbox.len() as i64);
        // Wraps as it should: what is added was or will be subtracted.
        self.bytes.fetch_add(state.counted.0.wrapping_sub(bytes), Relaxed);
        self.metrics.outbox_objects.inc_by(state.counted.1 - objects);
    }
}

/// One session's hold on its node's outbox. Dropping it ends the session in the registry.
#[derive(Debug)]
pub struct Connection {
    registry: Arc<Registry>,
    entry: Arc<Node>,
    origin: Origin,
}

impl Connection {
    /// What a dashboard shows.
    pub fn status(&self) -> &Status {
        &self.registry.status
    }

    /// Who this is, for those who answer.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns when there may be something to send.
    pub async fn woken(&self) {
        self.entry.wake.notified().await;
    }

    /// What is to be sent now, and when to look again if nobody wakes the session before.
    pub fn due(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut state = self.entry.state.lock();
        if state.session != self.origin.session {
            return (Vec::new(), None);
        }
        let due = state.outbox.due(now, RETRY);
        let next = state.outbox.next_due(RETRY);
        self.registry.recount(&mut state);
        if !due.is_empty() {
            let (all, sent) = (state.outbox.len(), state.outbox.in_flight());
            self.registry.status.queue(&self.origin.node, all, sent);
        }
        drop(state);
        let mut records = None;
        for (key, uid) in due.iter().filter_map(|d| d.holds.as_ref()) {
            let records = records.get_or_insert_with(|| self.registry.records.lock());
            records.sent(&self.origin.node, key, uid);
        }
        (announced(due), next)
    }

    /// The node has acknowledged a message.
    pub fn acked(&self, id: &MessageId) -> Option<Acked> {
        let acked = {
            let mut state = self.entry.state.lock();
            if state.session != self.origin.session {
                return None;
            }
            let acked = state.outbox.acked(id);
            self.registry.recount(&mut state);
            let (all, sent) = (state.outbox.len(), state.outbox.in_flight());
            self.registry.status.queue(&self.origin.node, all, sent);
            acked
        };
        let Some(acked) = acked else {
            debug!(node = %self.origin.node, msg = %id, "acknowledges what is not in flight");
            return None;
        };
        self.registry.metrics.acked.inc();
        self.registry.records.lock().acked(&self.origin.node, &acked);
        // The window has room again, and the next version of this object may go.
        self.entry.wake.notify_one();
        Some(acked)
    }

    /// A message that can never be sent.
    pub fn withdraw(&self, id: &MessageId) {
        let mut state = self.entry.state.lock();
        if state.session == self.origin.session {
            state.outbox.withdraw(id);
            self.registry.recount(&mut state);
            self.registry.metrics.dropped(Dropped::TooLarge, 1);
        }
    }
}

/// Puts before each device what the original says before it: that the node has it, or has not.
fn announced(due: Vec<Due>) -> Vec<Due> {
    let devices =
        |d: &Due| matches!(&d.message, Downstream::Object(p) if p.key.kind == Kind::Device);
    if !due.iter().any(devices) {
        return due;
    }
    let now = crate::status::now();
    let mut out = Vec::with_capacity(due.len() + 1);
    for due in due {
        if let Downstream::Object(push) = &due.message
            && let Some(message) = membership::announcement(push, now)
        {
            out.push(Due { again: due.again, ..Due::note(message) });
        }
        out.push(due);
    }
    out
}

impl Drop for Connection {
    fn drop(&mut self) {
        let inner = self.registry.inner.lock();
        let mut state = self.entry.state.lock();
        if state.session == self.origin.session && state.end.take().is_some() {
            inner.connected.send_modify(|n| *n -= 1);
            self.registry.metrics.connected_nodes.dec();
            state.outbox.disconnected();
            let lost = state.outbox.take_dropped_replies();
            self.registry.metrics.dropped(Dropped::ReplyLate, lost);
            self.registry.recount(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use api::raw::RawJson;
    use api::wire::downstream::{PushSource, ReplyBody};

    use super::*;

    fn registry(limit: usize) -> Arc<Registry> {
        let records = Arc::new(Mutex::new(Records::default()));
        Arc::new(Registry::new(limit, Limits::default(), records, Metrics::default()))
    }

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn pod(version: u64) -> ObjectPush {
        ObjectPush {
            op: PushOp::Insert,
            key: "default/pod/web".parse().unwrap(),
            uid: "u".parse().unwrap(),
            version: Some(ResourceVersion(version)),
            source: PushSource::EdgeController,
            object: RawJson::null(),
        }
    }

    fn reply() -> Reply {
        let parent = "q".parse().unwrap();
        Reply { parent, resource: "r".into(), version: None, body: ReplyBody::Ok }
    }

    #[tokio::test]
    async fn a_reconnect_replaces_the_old_session_and_its_late_acks_do_nothing() {
        let registry = registry(1);
        let node = name("edge-1");
        registry.offer(&node, pod(1));
        let (old, mut ended) = registry.connect(&node, None).unwrap();
        let (due, _) = old.due(Instant::now());
        let (new, _keep) = registry.connect(&node, None).unwrap();
        assert_eq!(ended.try_recv(), Ok(Ended::Replaced));
        assert_eq!(old.acked(&due[0].id), None);
        assert!(old.due(Instant::now()).0.is_empty());
        assert_eq!(new.due(Instant::now()).0.len(), 1, "unacknowledged, so sent again");
        drop(old);
        assert!(registry.is_connected(&node));
        drop(new);
        assert!(!registry.is_connected(&node));
        assert_eq!(registry.metrics.connected_nodes.get(), 0);
    }

    #[tokio::test]
    async fn the_node_limit_counts_nodes_and_not_reconnects() {
        let registry = registry(1);
        let first = registry.connect(&name("a"), None).unwrap();
        assert_eq!(registry.connect(&name("b"), None).unwrap_err(), Refused::NodeLimit(1));
        let again = registry.connect(&name("a"), None).unwrap();
        drop((first, again));
        assert!(registry.connect(&name("b"), None).is_ok());
    }

    #[tokio::test]
    async fn an_answer_reaches_only_the_session_that_asked() {
        let registry = registry(9);
        let node = name("edge-1");
        let (old, _ended) = registry.connect(&node, None).unwrap();
        let asker = old.origin().clone();
        let (new, _keep) = registry.connect(&node, None).unwrap();
        registry.answer(&asker, reply());
        assert!(new.due(Instant::now()).0.is_empty());
        registry.answer(new.origin(), reply());
        assert_eq!(new.due(Instant::now()).0.len(), 1);
        assert_eq!(registry.metrics.dropped_so_far(Dropped::ReplyLate), 1);
    }

    /// Sends what is due, version 7 of `u`, and acknowledges it.
    fn recorded_when_sent(connection: &Connection) {
        let (due, _) = connection.due(Instant::now());
        let uid = "u".parse().unwrap();
        let records = &connection.registry.records;
        let version = || records.lock().version(&connection.origin.node, &uid);
        assert_eq!(version(), Some(ResourceVersion(0)), "sent: the node may hold it");
        connection.acked(&due[0].id).unwrap();
        assert_eq!(version(), Some(ResourceVersion(7)));
    }

    #[tokio::test]
    async fn what_was_sent_and_acknowledged_is_recorded() {
        let registry = registry(9);
        let node = name("edge-1");
        registry.offer(&node, pod(7));
        let (connection, _ended) = registry.connect(&node, None).unwrap();
        recorded_when_sent(&connection);
        assert_eq!(registry.waiting(&node), 0);
        assert_eq!(registry.bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_an_answer_carries_is_recorded_when_it_is_sent_and_not_when_it_is_acknowledged() {
        let registry = registry(9);
        let node = name("edge-1");
        let (connection, _ended) = registry.connect(&node, None).unwrap();
        let object = RawJson::parse(r#"{"metadata":{"uid":"u"}}"#.to_owned()).unwrap();
        let body = ReplyBody::Plain(object);
        let version = Some(ResourceVersion(7));
        let resource = "default/configmap/conf".into();
        registry.answer(connection.origin(), Reply { resource, version, body, ..reply() });
        recorded_when_sent(&connection);
    }

    #[tokio::test]
    async fn a_deleted_node_is_let_go_and_nothing_is_kept_for_it() {
        let registry = registry(9);
        let node = name("edge-1");
        let (connection, mut ended) = registry.connect(&node, None).unwrap();
        registry.offer(&node, pod(1));
        registry.forget(&node);
        assert_eq!(ended.try_recv(), Ok(Ended::NodeDeleted));
        drop(connection);
        assert_eq!(registry.metrics.connected_nodes.get(), 0);
        assert_eq!(registry.waiting(&node), 0);
    }
}

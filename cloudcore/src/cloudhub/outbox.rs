//! What one edge node still has to be told.
//!
//! Owns: the objects that wait, the ones in flight, the answers that wait.
//! Called by: `registry.rs`, under the node's lock.
//! Never: reads a clock, touches a socket, or lets an object hold up another one.
//!
//! Promises, each held by the model test in `outbox/tests.rs`:
//! the newest version of an object wins; a deletion is never replaced by anything but silence; the
//! versions of one object leave in order, one at a time; after a cut all that was not acknowledged
//! is sent again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use api::names::{Kind, MessageId, ObjectKey, ResourceVersion, Uid};
use api::raw::RawJson;
use api::wire::downstream::{Downstream, ObjectPush, PushOp, Reply, ReplyBody, ReplyError};
use tokio::time::Instant;

use crate::edgecontroller::upstream::refused;
use crate::object::gvk;

/// How much one node may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Unacknowledged objects on the socket at one time.
    pub window: usize,
    /// Bytes of unacknowledged objects; one object may always be in flight, whatever its size.
    pub window_bytes: usize,
    /// Bytes of objects that wait. Beyond it objects are shed; the SyncController finds them again.
    pub waiting_bytes: usize,
    /// Answers that wait. Beyond it the oldest is dropped; its asker asks again.
    pub replies: usize,
    /// Bytes of answers that wait.
    pub reply_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 64,
            window_bytes: 8 << 20,
            waiting_bytes: 16 << 20,
            replies: 1024,
            reply_bytes: 64 << 20,
        }
    }
}

/// After so many sends without an answer an object leaves the window and is tried more rarely.
const TRIES_IN_WINDOW: u32 = 5;
/// How much more rarely, in units of the retry interval.
const PARKED_FACTOR: u32 = 6;

/// What became of an offered object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits for its turn.
    Queued,
    /// It took the place of an older version that had not been sent.
    Replaced,
    /// The node is being told something as new or newer already.
    Stale,
    /// There is no room.
    Shed,
}

/// What a node has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// Which object.
    pub key: ObjectKey,
    /// Which incarnation of it.
    pub uid: Uid,
    /// `Delete`: the node no longer has it.
    pub op: PushOp,
    /// The version that it has.
    pub version: Option<ResourceVersion>,
}

/// One message for the socket.
#[derive(Debug)]
pub struct Due {
    /// Its id.
    pub id: MessageId,
    /// The message.
    pub message: Downstream,
    /// Sent before, and not answered.
    pub again: bool,
    /// What the node may hold from the moment at which this is sent, if nobody knows so yet.
    pub holds: Option<(ObjectKey, Uid)>,
}

impl Due {
    /// Something after which the node holds no more than before.
    pub fn note(message: Downstream) -> Self {
        Self { id: MessageId::random(), message, again: false, holds: None }
    }
}

#[derive(Debug)]
struct Sent {
    push: ObjectPush,
    at: Instant,
    tries: u32,
}

/// One `metadata.uid` under a name.
#[derive(Debug)]
struct Incarnation {
    uid: Uid,
    waiting: Option<ObjectPush>,
    sent: Option<Sent>,
    tries: u32,
}

impl Incarnation {
    fn newest(&self) -> Option<&ObjectPush> {
        self.waiting.as_ref().or(self.sent.as_ref().map(|s| &s.push))
    }
}

/// All incarnations that bear one name, oldest first; only the first may be on the socket, so that
/// the deletion of the old one arrives before the new one does.
#[derive(Debug, Default)]
struct Slot {
    line: VecDeque<Incarnation>,
    queued: bool,
    not_before: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    limits: Limits,
    slots: HashMap<ObjectKey, Slot>,
    /// Names whose first incarnation has something to send, in the order of arrival.
    ready: VecDeque<ObjectKey>,
    /// Names that wait for `Slot::not_before`.
    parked: Vec<ObjectKey>,
    in_flight: HashMap<MessageId, ObjectKey>,
    in_flight_bytes: usize,
    waiting_bytes: usize,
    replies: VecDeque<Reply>,
    reply_bytes: usize,
    /// Said once, to this session only.
    notes: VecDeque<Downstream>,
    /// Objects that went out as answers to queries and are to be acknowledged.
    answered: VecDeque<(MessageId, Acked)>,
    dropped_replies: u64,
}

impl Outbox {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Replaces any older version still waiting: an edge node never needs yesterday's pod spec.
    pub fn offer(&mut self, mut push: ObjectPush) -> Offered {
        let full = self.waiting_bytes >= self.limits.waiting_bytes;
        let deletion = push.op == PushOp::Delete;
        if full && deletion {
            push.object = bare(&push);
        }
        let key = push.key.clone();
        let known = self.slots.get(&key).and_then(|s| s.line.iter().find(|i| i.uid == push.uid));
        if let Some(newest) = known.and_then(Incarnation::newest)
            && (newest.op == PushOp::Delete || (!deletion && push.version <= newest.version))
        {
            return Offered::Stale;
        }
        if full && !deletion {
            return Offered::Shed;
        }
        let size = push.object.get().len();
        let slot = self.slots.entry(key.clone()).or_default();
        let mut outcome = Offered::Queued;
        match slot.line.iter_mut().find(|i| i.uid == push.uid) {
            Some(incarnation) => {
                if let Some(old) = incarnation.waiting.take() {
                    self.waiting_bytes -= old.object.get().len();
                    // What the node has never seen is still new to it.
                    if old.op == PushOp::Insert && push.op == PushOp::Update {
                        push.op = PushOp::Insert;
                    }
                    outcome = Offered::Replaced;
                }
                incarnation.tries = 0;
                incarnation.waiting = Some(push);
            }
            None => slot.line.push_back(Incarnation {
                uid: push.uid.clone(),
                waiting: Some(push),
                sent: None,
                tries: 0,
            }),
        }
        self.waiting_bytes += size;
        if slot.not_before.take().is_some() {
            self.parked.retain(|k| *k != key);
        }
        self.enqueue(&key);
        outcome
    }

    /// An answer to a request of the node. Goes out once, before objects, and is never repeated.
    pub fn answer(&mut self, reply: Reply) {
        self.reply_bytes += reply_size(&reply);
        self.replies.push_back(reply);
        while self.replies.len() > self.limits.replies
            || (self.reply_bytes > self.limits.reply_bytes && self.replies.len() > 1)
        {
            if let Some(old) = self.replies.pop_front() {
                self.reply_bytes -= reply_size(&old);
                self.dropped_replies += 1;
            }
        }
    }

    /// Something that is said once and neither acknowledged nor repeated: confirmations of reports,
    /// and the list of devices, of which only the newest is of use. Of too many the oldest is
    /// dropped.
    pub fn note(&mut self, note: Downstream) {
        if let Downstream::MembershipDetail(_) = note {
            self.notes.retain(|n| !matches!(n, Downstream::MembershipDetail(_)));
        }
        self.notes.push_back(note);
        if self.notes.len() > self.limits.replies {
            self.notes.pop_front();
            self.dropped_replies += 1;
        }
    }

    /// Returns what was acknowledged, so the caller can record it in the ObjectSync.
    pub fn acked(&mut self, id: &MessageId) -> Option<Acked> {
        if let Some(at) = self.answered.iter().position(|(m, _)| m == id) {
            return self.answered.remove(at).map(|(_, acked)| acked);
        }
        let key = self.in_flight.remove(id)?;
        let slot = self.slots.get_mut(&key)?;
        let first = slot.line.front_mut()?;
        let sent = first.sent.take()?;
        self.in_flight_bytes -= sent.push.object.get().len();
        first.tries = 0;
        if first.waiting.is_none() {
            slot.line.pop_front();
        }
        if slot.line.is_empty() {
            self.slots.remove(&key);
        } else {
            self.enqueue(&key);
        }
        let ObjectPush { key, uid, op, version, .. } = sent.push;
        Some(Acked { key, uid, op, version })
    }

    /// All that should go on the socket now. One in flight per object, never one per node.
    pub fn due(&mut self, now: Instant, retry: Duration) -> Vec<Due> {
        let mut due = self.due_replies();
        due.extend(self.notes.drain(..).map(Due::note));
        self.due_retries(now, retry, &mut due);
        self.unpark(now);
        // A device means something only once its model is there, and the original's edge may take
        // two messages that come at once in either order.
        let mut models = self.in_flight.values().filter(|k| k.kind == Kind::DeviceModel).count();
        let mut held = Vec::new();
        while self.in_flight.len() < self.limits.window
            && (self.in_flight_bytes < self.limits.window_bytes || self.in_flight.is_empty())
        {
            let Some(key) = self.ready.pop_front() else { break };
            if models > 0 && key.kind == Kind::Device {
                held.push(key);
                continue;
            }
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.queued = false;
            let Some(first) = slot.line.front_mut() else { continue };
            if first.sent.is_some() {
                continue;
            }
            let Some(push) = first.waiting.take() else { continue };
            let size = push.object.get().len();
            self.waiting_bytes -= size;
            self.in_flight_bytes += size;
            let id = MessageId::random();
            let again = first.tries > 0;
            first.sent = Some(Sent { push: push.clone(), at: now, tries: first.tries + 1 });
            models += usize::from(key.kind == Kind::DeviceModel);
            let holds =
                (!again && push.op != PushOp::Delete).then(|| (push.key.clone(), push.uid.clone()));
            self.in_flight.insert(id.clone(), key);
            due.push(Due { id, message: Downstream::Object(push), again, holds });
        }
        for key in held.into_iter().rev() {
            self.ready.push_front(key);
        }
        due
    }

    /// When [`Outbox::due`] may have something although nothing was offered or acknowledged.
    pub fn next_due(&self, retry: Duration) -> Option<Instant> {
        let sent = self
            .in_flight
            .values()
            .filter_map(|key| self.slots.get(key)?.line.front()?.sent.as_ref())
            .map(|sent| sent.at + retry);
        let parked = self.parked.iter().filter_map(|key| self.slots.get(key)?.not_before);
        sent.chain(parked).min()
    }

    /// The link is gone: what was in flight waits again, unless something newer does already.
    /// Answers are dropped, since whoever asked is gone.
    pub fn disconnected(&mut self) {
        self.dropped_replies += (self.replies.len() + self.notes.len()) as u64;
        self.replies.clear();
        self.notes.clear();
        self.reply_bytes = 0;
        self.answered.clear();
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.parked.clear();
        self.ready.clear();
        let mut keys: Vec<_> = self.slots.keys().cloned().collect();
        // A device means something only once its model is there.
        keys.sort_by_key(|key| key.kind != Kind::DeviceModel);
        for key in keys {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.queued = false;
            slot.not_before = None;
            for incarnation in &mut slot.line {
                incarnation.tries = 0;
                let Some(sent) = incarnation.sent.take() else { continue };
                if incarnation.waiting.is_none() {
                    self.waiting_bytes += sent.push.object.get().len();
                    incarnation.waiting = Some(sent.push);
                }
            }
            self.enqueue(&key);
        }
    }

    /// Takes back a message that cannot be put on the socket at all (too large to encode).
    pub fn withdraw(&mut self, id: &MessageId) {
        self.acked(id);
    }

    /// Whether the node is being told that this version, a newer one, or the deletion.
    pub fn covers(&self, key: &ObjectKey, uid: &Uid, version: Option<ResourceVersion>) -> bool {
        self.slots
            .get(key)
            .and_then(|slot| slot.line.iter().find(|i| i.uid == *uid))
            .and_then(Incarnation::newest)
            .is_some_and(|p| p.op == PushOp::Delete || p.version >= version)
    }

    /// Bytes of all objects that wait or are in flight.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes + self.in_flight_bytes
    }

    /// Objects that wait or are in flight.
    pub fn len(&self) -> usize {
        self.slots.values().map(|s| s.line.len()).sum()
    }

    /// Objects that are on the socket and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.replies.is_empty() && self.notes.is_empty()
    }

    /// Answers dropped since the last call.
    pub fn take_dropped_replies(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_replies)
    }

    fn enqueue(&mut self, key: &ObjectKey) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let sendable = slot.line.front().is_some_and(|i| i.waiting.is_some() && i.sent.is_none());
        if sendable && !slot.queued && slot.not_before.is_none() {
            slot.queued = true;
            self.ready.push_back(key.clone());
        }
    }

    fn due_replies(&mut self) -> Vec<Due> {
        let mut due = Vec::with_capacity(self.replies.len());
        self.reply_bytes = 0;
        while let Some(mut reply) = self.replies.pop_front() {
            let acked = self.freshest(&mut reply);
            let mut answer = Due::note(Downstream::Reply(reply));
            if let Some(acked) = acked {
                if self.answered.len() >= self.limits.replies {
                    self.answered.pop_front();
                }
                answer.holds = Some((acked.key.clone(), acked.uid.clone()));
                self.answered.push_back((answer.id.clone(), acked));
            }
            due.push(answer);
        }
        due
    }

    /// A query was answered with an object. If a newer version of it waits or is in flight, the
    /// answer is made that one, so that the node never replaces new by old; if its deletion does,
    /// the answer is that there is none, so that the node does not store it behind the deletion.
    fn freshest(&self, reply: &mut Reply) -> Option<Acked> {
        let ReplyBody::Plain(object) = &mut reply.body else { return None };
        let version = reply.version?;
        let uid: Uid = object.head().ok()?.metadata.uid?.parse().ok()?;
        let key: ObjectKey = reply.resource.parse().ok()?;
        let newest = self
            .slots
            .get(&key)
            .and_then(|slot| slot.line.iter().find(|i| i.uid == uid))
            .and_then(Incarnation::newest);
        if newest.is_some_and(|p| p.op == PushOp::Delete) {
            reply.version = None;
            reply.body = ReplyBody::Error(ReplyError::Status(not_found(&key)));
            return None;
        }
        let newest = newest.filter(|p| p.version > Some(version));
        let version = newest.map_or(Some(version), |p| p.version);
        if let Some(newer) = newest {
            *object = newer.object.clone();
            reply.version = version;
        }
        Some(Acked { key, uid, op: PushOp::Update, version })
    }

    fn due_retries(&mut self, now: Instant, retry: Duration, due: &mut Vec<Due>) {
        let late: Vec<(MessageId, ObjectKey)> = self
            .in_flight
            .iter()
            .filter(|(_, key)| {
                let sent = self.slots.get(*key).and_then(|s| s.line.front()?.sent.as_ref());
                sent.is_some_and(|s| now >= s.at + retry)
            })
            .map(|(id, key)| (id.clone(), key.clone()))
            .collect();
        for (id, key) in late {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            let Some(first) = slot.line.front_mut() else { continue };
            let Some(mut sent) = first.sent.take() else { continue };
            let size = sent.push.object.get().len();
            if first.waiting.is_none() && sent.tries < TRIES_IN_WINDOW {
                sent.at = now;
                sent.tries += 1;
                let message = Downstream::Object(sent.push.clone());
                due.push(Due { id, message, again: true, holds: None });
                first.sent = Some(sent);
                continue;
            }
            self.in_flight.remove(&id);
            self.in_flight_bytes -= size;
            if first.waiting.is_none() {
                first.tries = sent.tries;
                first.waiting = Some(sent.push);
                self.waiting_bytes += size;
                slot.not_before = Some(now + retry * PARKED_FACTOR);
                self.parked.push(key);
            } else {
                // Something newer waits: it goes out in place of the silent one.
                self.enqueue(&key);
            }
        }
    }

    fn unpark(&mut self, now: Instant) {
        let mut back = Vec::new();
        let slots = &mut self.slots;
        self.parked.retain(|key| {
            let Some(slot) = slots.get_mut(key) else { return false };
            if slot.not_before.is_some_and(|at| at > now) {
                return true;
            }
            slot.not_before = None;
            back.push(key.clone());
            false
        });
        for key in back {
            self.enqueue(&key);
        }
    }
}

/// Name, namespace and uid: all that a deletion needs.
pub fn bare(push: &ObjectPush) -> RawJson {
    bare_object(&push.key, &push.uid)
}

/// See [`bare`].
pub fn bare_object(key: &ObjectKey, uid: &Uid) -> RawJson {
    let mut metadata = serde_json::Map::new();
    metadata.insert("name".to_owned(), (*key.name).into());
    if let Some(namespace) = &key.namespace {
        metadata.insert("namespace".to_owned(), namespace.as_str().into());
    }
    metadata.insert("uid".to_owned(), uid.as_str().into());
    // A map of strings always has a JSON form.
    RawJson::of(&serde_json::json!({ "metadata": metadata })).unwrap_or_else(|_| RawJson::null())
}

/// What the API server says of an object that is gone.
fn not_found(key: &ObjectKey) -> RawJson {
    let plural = gvk(&key.kind).map_or(key.kind.as_str(), |(_, _, plural)| plural);
    refused(404, "NotFound", &format!("{plural} \"{}\" not found", key.name)).status()
}

fn reply_size(reply: &Reply) -> usize {
    256 + match &reply.body {
        ReplyBody::Object { object, .. } | ReplyBody::Plain(object) => object.get().len(),
        ReplyBody::Text(text) => text.len(),
        ReplyBody::Ok | ReplyBody::Error(_) => 0,
    }
}

#[cfg(test)]
mod tests;

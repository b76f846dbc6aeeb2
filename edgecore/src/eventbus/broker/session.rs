//! What the broker holds for one client. Pure.
//!
//! Owns: its subscriptions, what waits for it, what is on its way to and from it.
//! Called by: `table.rs`.
//! Never: grows without end: what does not fit is dropped, the newest first, and counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubRel, Publish};
use tokio::sync::Notify;

/// Messages on their way to a client at a time, and from it with QoS 2.
const WINDOW: usize = 32;
/// Bytes that wait for one client at most.
const QUEUE_BYTES: usize = 4 << 20;
/// Bytes that wait for, or are on their way to, all clients at most.
const ALL_BYTES: usize = 64 << 20;

/// What all clients' messages take; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Room {
    fn reserve(&self, size: usize) -> Option<Reserved> {
        // Only the one lock of the broker changes it.
        if self.0.load(Ordering::Relaxed) + size > ALL_BYTES {
            return None;
        }
        self.0.fetch_add(size, Ordering::Relaxed);
        Some(Reserved { room: Arc::clone(&self.0), size })
    }
}

/// A message's part of the room; given back when it is dropped.
#[derive(Debug)]
struct Reserved {
    room: Arc<AtomicUsize>,
    size: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// A message for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    /// It was kept from before the subscription.
    pub(super) retained: bool,
}

#[derive(Debug)]
enum Flying {
    /// Until PUBACK, or with QoS 2 PUBREC.
    Sent { message: Outgoing, _reserved: Reserved },
    /// Until PUBCOMP.
    Released,
}

/// A message that is published when the client goes without a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    /// It ends with its connection.
    pub(super) clean: bool,
    /// The connection that has it now.
    pub(super) connection: Option<u64>,
    /// Told when something waits, or the connection is to end.
    pub(super) wake: Arc<Notify>,
    pub(super) filters: BTreeSet<String>,
    pub(super) will: Option<Will>,
    /// When its connection ended, as a number that counts up.
    pub(super) left: u64,
    queue: VecDeque<(Outgoing, Reserved)>,
    room: Room,
    queued_bytes: usize,
    max_queue: usize,
    flying: BTreeMap<u16, Flying>,
    again: VecDeque<u16>,
    last_id: u16,
    /// QoS 2 messages of the client that were passed on and not released yet.
    received: BTreeSet<u16>,
}

impl Session {
    pub(super) fn new(clean: bool, max_queue: usize, room: Room) -> Self {
        Self {
            clean,
            connection: None,
            wake: Arc::default(),
            filters: BTreeSet::new(),
            will: None,
            left: 0,
            queue: VecDeque::new(),
            room,
            queued_bytes: 0,
            max_queue,
            flying: BTreeMap::new(),
            again: VecDeque::new(),
            last_id: 0,
            received: BTreeSet::new(),
        }
    }

    /// A connection takes the session over: what was on its way is sent again.
    pub(super) fn resume(&mut self, connection: u64) {
        // Whoever waits on the old one is woken and finds that the session is another's.
        self.wake.notify_one();
        self.wake = Arc::default();
        self.connection = Some(connection);
        self.again = self.flying.keys().copied().collect();
    }

    /// Lets a message wait; `false` if it is dropped.
    pub(super) fn offer(&mut self, message: Outgoing) -> bool {
        let offline = self.connection.is_none();
        if offline && message.qos == QoS::AtMostOnce {
            return false;
        }
        let size = message.payload.len() + message.topic.len();
        if self.queue.len() >= self.max_queue || self.queued_bytes + size > QUEUE_BYTES {
            return false;
        }
        let Some(reserved) = self.room.reserve(size) else { return false };
        self.queued_bytes += size;
        self.queue.push_back((message, reserved));
        self.wake.notify_one();
        true
    }

    /// The next packet to send, if one may be sent now.
    pub(super) fn next_packet(&mut self) -> Option<Packet> {
        while let Some(id) = self.again.pop_front() {
            match self.flying.get(&id) {
                Some(Flying::Sent { message, .. }) => return Some(publish(message, id, true)),
                Some(Flying::Released) => return Some(Packet::PubRel(PubRel { pkid: id })),
                None => {}
            }
        }
        let needs_id = self.queue.front()?.0.qos != QoS::AtMostOnce;
        if needs_id && self.flying.len() >= WINDOW {
            return None;
        }
        let (message, reserved) = self.queue.pop_front()?;
        self.queued_bytes -= message.payload.len() + message.topic.len();
        if !needs_id {
            return Some(publish(&message, 0, false));
        }
        let id = self.free_id();
        let packet = publish(&message, id, false);
        self.flying.insert(id, Flying::Sent { message, _reserved: reserved });
        Some(packet)
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.flying.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// PUBACK: a message with QoS 1 has arrived.
    pub(super) fn acked(&mut self, id: u16) {
        if matches!(self.flying.get(&id), Some(Flying::Sent { message, .. }) if message.qos == QoS::AtLeastOnce)
        {
            self.flying.remove(&id);
        }
    }

    /// PUBREC: a message with QoS 2 has arrived. Always answered with a PUBREL.
    pub(super) fn recorded(&mut self, id: u16) -> Packet {
        if matches!(self.flying.get(&id), Some(Flying::Sent { message, .. }) if message.qos == QoS::ExactlyOnce)
        {
            self.flying.insert(id, Flying::Released);
        }
        Packet::PubRel(PubRel { pkid: id })
    }

    /// PUBCOMP: a message with QoS 2 is done with.
    pub(super) fn completed(&mut self, id: u16) {
        if matches!(self.flying.get(&id), Some(Flying::Released)) {
            self.flying.remove(&id);
        }
    }

    /// A message with QoS 2 of the client; `Some(true)` if it is new. `None`: too many are open.
    pub(super) fn receive(&mut self, id: u16) -> Option<bool> {
        if self.received.contains(&id) {
            return Some(false);
        }
        if self.received.len() >= WINDOW * 4 {
            return None;
        }
        Some(self.received.insert(id))
    }

    /// PUBREL: the client will not send the message again.
    pub(super) fn released(&mut self, id: u16) {
        self.received.remove(&id);
    }
}

fn publish(message: &Outgoing, id: u16, dup: bool) -> Packet {
    Packet::Publish(Publish {
        dup,
        qos: message.qos,
        retain: message.retained,
        topic: message.topic.to_string(),
        pkid: id,
        payload: message.payload.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, qos: QoS) -> Outgoing {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        Outgoing { topic: "t".into(), payload, qos, retained: false }
    }

    fn connected() -> Session {
        let mut session = Session::new(false, 100, Room::default());
        session.resume(1);
        session
    }

    fn sent(session: &mut Session) -> Option<(u16, bool, String)> {
        match session.next_packet()? {
            Packet::Publish(p) => {
                Some((p.pkid, p.dup, String::from_utf8(p.payload.to_vec()).unwrap()))
            }
            Packet::PubRel(p) => Some((p.pkid, false, "release".to_owned())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_on_its_way_is_sent_again_to_the_next_connection() {
        let mut session = connected();
        for (text, qos) in
            [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)]
        {
            assert!(session.offer(message(text, qos)));
        }
        for expected in [(0, "0"), (1, "1"), (2, "2")] {
            assert_eq!(sent(&mut session), Some((expected.0, false, expected.1.into())));
        }
        assert_eq!(session.recorded(2), Packet::PubRel(PubRel { pkid: 2 }));
        session.connection = None;
        session.resume(2);
        assert_eq!(sent(&mut session), Some((1, true, "1".into())));
        assert_eq!(sent(&mut session), Some((2, false, "release".into())));
        session.acked(1);
        session.completed(2);
        session.resume(3);
        assert_eq!(sent(&mut session), None);
    }

    #[test]
    fn a_client_that_does_not_acknowledge_has_a_full_window_and_then_a_full_queue() {
        let mut session = connected();
        let taken = (0..200).filter(|_| session.offer(message("x", QoS::AtLeastOnce))).count();
        assert_eq!(taken, 100);
        let mut in_flight = 0;
        while session.next_packet().is_some() {
            in_flight += 1;
        }
        assert_eq!(in_flight, WINDOW);
        session.acked(7);
        assert_eq!(sent(&mut session).unwrap().0, 33);
        let mut large = connected();
        let big = "x".repeat(1 << 20);
        let taken = (0..10).filter(|_| large.offer(message(&big, QoS::AtMostOnce))).count();
        assert_eq!(taken, 3, "bytes are bounded too");
    }

    #[test]
    fn all_clients_together_have_a_limit_too_and_what_was_taken_makes_room() {
        let room = Room::default();
        let big = "x".repeat(1 << 20);
        let mut sessions: Vec<Session> = (0..30)
            .map(|_| {
                let mut session = Session::new(true, 100, room.clone());
                session.resume(1);
                session
            })
            .collect();
        let mut taken = 0;
        for session in &mut sessions {
            taken += (0..3).filter(|_| session.offer(message(&big, QoS::AtLeastOnce))).count();
        }
        assert_eq!(taken, 63);
        assert!(!sessions[29].offer(message(&big, QoS::AtMostOnce)));
        let id = sent(&mut sessions[0]).unwrap().0;
        assert!(!sessions[29].offer(message(&big, QoS::AtMostOnce)), "it is on its way yet");
        sessions[0].acked(id);
        assert!(sessions[29].offer(message(&big, QoS::AtMostOnce)));
        drop(sessions);
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_waits_for_a_client_that_is_away_but_what_it_must_get() {
        let mut session = Session::new(false, 10, Room::default());
        assert!(!session.offer(message("0", QoS::AtMostOnce)));
        assert!(session.offer(message("1", QoS::AtLeastOnce)));
    }

    #[test]
    fn a_message_with_qos_2_is_taken_once() {
        let mut session = connected();
        assert_eq!(session.receive(5), Some(true));
        assert_eq!(session.receive(5), Some(false));
        session.released(5);
        assert_eq!(session.receive(5), Some(true));
        for id in 100..300 {
            session.receive(id);
        }
        assert_eq!(session.receive(400), None);
    }
}

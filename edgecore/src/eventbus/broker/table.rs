//! All sessions and what is retained. Pure.
//!
//! Owns: who subscribes to what, and who gets a message.
//! Called by: `connection.rs` and the event bus, under a lock that is never held across an await.
//! Never: copies a payload.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Packet;
use tokio::sync::Notify;

use super::super::topics::{has_wildcards, is_filter, matches};
use super::session::{Outgoing, Room, Session, Will};

/// Sessions at most, those of clients that are away included.
const MAX_SESSIONS: usize = 2048;
/// Subscriptions of one client at most.
const MAX_FILTERS: usize = 256;
/// Retained messages at most, and their bytes.
const MAX_RETAINED: usize = 10_000;
const MAX_RETAINED_BYTES: usize = 16 << 20;

/// What was dropped and refused since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Clients with a connection.
    pub(crate) clients: usize,
    /// Messages that were published.
    pub(crate) published: u64,
    /// Messages that a client did not get, since too many waited for it.
    pub(crate) dropped: u64,
    /// Packets, subscriptions and clients that were refused.
    pub(crate) refused: u64,
}

type Subscribers = BTreeMap<Arc<str>, QoS>;

/// See the module.
pub(super) struct Core {
    sessions: HashMap<Arc<str>, Session>,
    /// Filters without wildcards are looked up, the others tried one after the other.
    exact: HashMap<String, Subscribers>,
    wild: BTreeMap<String, Subscribers>,
    retained: BTreeMap<Arc<str>, (Bytes, QoS)>,
    retained_bytes: usize,
    max_queue: usize,
    room: Room,
    connections: u64,
    departures: u64,
    numbers: Numbers,
}

/// A session taken over by a connection.
pub(super) struct Taken {
    pub(super) connection: u64,
    pub(super) present: bool,
    pub(super) wake: Arc<Notify>,
}

impl Core {
    pub(super) fn new(max_queue: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            exact: HashMap::new(),
            wild: BTreeMap::new(),
            retained: BTreeMap::new(),
            retained_bytes: 0,
            max_queue,
            room: Room::default(),
            connections: 0,
            departures: 0,
            numbers: Numbers::default(),
        }
    }

    pub(super) fn numbers(&self) -> Numbers {
        let clients = self.sessions.values().filter(|s| s.connection.is_some()).count();
        Numbers { clients, ..self.numbers }
    }

    pub(super) fn refused(&mut self) {
        self.numbers.refused += 1;
    }

    /// A client connects; one of the same name loses its connection. `None`: there is no room.
    pub(super) fn connect(
        &mut self,
        client: &str,
        clean: bool,
        will: Option<Will>,
    ) -> Option<Taken> {
        if clean || self.sessions.get(client).is_some_and(|s| s.clean) {
            self.end_session(client);
        }
        let present = self.sessions.contains_key(client);
        if !present && self.sessions.len() >= MAX_SESSIONS {
            // The session of whoever has been away longest makes room.
            let away = self.sessions.iter().filter(|(_, s)| s.connection.is_none());
            let longest = away.min_by_key(|(_, s)| s.left).map(|(name, _)| Arc::clone(name));
            let Some(longest) = longest else {
                self.numbers.refused += 1;
                return None;
            };
            self.end_session(&longest);
        }
        self.connections += 1;
        let (max_queue, room) = (self.max_queue, self.room.clone());
        let session = self
            .sessions
            .entry(client.into())
            .or_insert_with(|| Session::new(clean, max_queue, room));
        session.resume(self.connections);
        session.will = will;
        Some(Taken { connection: self.connections, present, wake: Arc::clone(&session.wake) })
    }

    /// A connection has ended; `said` goodbye or not.
    pub(super) fn disconnect(&mut self, client: &str, connection: u64, said: bool) {
        let Some(session) = self.session(client, connection) else { return };
        let will = session.will.take().filter(|_| !said);
        if session.clean {
            self.end_session(client);
        } else {
            self.departures += 1;
            let departures = self.departures;
            if let Some(session) = self.sessions.get_mut(client) {
                session.connection = None;
                session.left = departures;
            }
        }
        if let Some(will) = will {
            self.publish(&will.topic, &will.payload, will.qos, will.retain);
        }
    }

    /// The session, if this connection still has it.
    pub(super) fn session(&mut self, client: &str, connection: u64) -> Option<&mut Session> {
        self.sessions.get_mut(client).filter(|s| s.connection == Some(connection))
    }

    fn end_session(&mut self, client: &str) {
        let Some(session) = self.sessions.remove(client) else { return };
        session.wake.notify_one();
        for filter in &session.filters {
            self.drop_filter(client, filter);
        }
    }

    fn drop_filter(&mut self, client: &str, filter: &str) {
        if has_wildcards(filter) {
            if let Some(subscribers) = self.wild.get_mut(filter) {
                subscribers.remove(client);
                if subscribers.is_empty() {
                    self.wild.remove(filter);
                }
            }
        } else if let Some(subscribers) = self.exact.get_mut(filter) {
            subscribers.remove(client);
            if subscribers.is_empty() {
                self.exact.remove(filter);
            }
        }
    }

    /// Subscribes; `false` if the filter is none or the client has too many.
    pub(super) fn subscribe(
        &mut self,
        client: &str,
        connection: u64,
        filter: &str,
        qos: QoS,
    ) -> bool {
        let Some(session) = self.session(client, connection) else { return false };
        let full = session.filters.len() >= MAX_FILTERS && !session.filters.contains(filter);
        if full || !is_filter(filter) {
            self.numbers.refused += 1;
            return false;
        }
        session.filters.insert(filter.to_owned());
        let name: Arc<str> = client.into();
        let subscribers = if has_wildcards(filter) {
            self.wild.entry(filter.to_owned()).or_default()
        } else {
            self.exact.entry(filter.to_owned()).or_default()
        };
        subscribers.insert(name, qos);
        let kept: Vec<Outgoing> = self
            .retained
            .iter()
            .filter(|(topic, _)| matches(filter, topic))
            .map(|(topic, (payload, kept))| Outgoing {
                topic: Arc::clone(topic),
                payload: payload.clone(),
                qos: lower(*kept, qos),
                retained: true,
            })
            .collect();
        for message in kept {
            let taken = self.session(client, connection).is_some_and(|s| s.offer(message));
            self.numbers.dropped += u64::from(!taken);
        }
        true
    }

    pub(super) fn unsubscribe(&mut self, client: &str, connection: u64, filter: &str) {
        let Some(session) = self.session(client, connection) else { return };
        if session.filters.remove(filter) {
            self.drop_filter(client, filter);
        }
    }

    /// Gives a message to all that subscribe to its topic, once to each.
    pub(super) fn publish(&mut self, topic: &str, payload: &Bytes, qos: QoS, retain: bool) {
        self.numbers.published += 1;
        if retain {
            self.retain(topic, payload, qos);
        }
        let mut to: HashMap<Arc<str>, QoS> = HashMap::new();
        let wild = self.wild.iter().filter(|(f, _)| matches(f, topic)).map(|(_, s)| s);
        for (client, granted) in self.exact.get(topic).into_iter().chain(wild).flatten() {
            let granted = lower(qos, *granted);
            let best = to.entry(Arc::clone(client)).or_insert(granted);
            *best = higher(*best, granted);
        }
        let topic: Arc<str> = topic.into();
        for (client, qos) in to {
            let Some(session) = self.sessions.get_mut(&client) else { continue };
            let (topic, payload) = (Arc::clone(&topic), payload.clone());
            let taken = session.offer(Outgoing { topic, payload, qos, retained: false });
            self.numbers.dropped += u64::from(!taken);
        }
    }

    /// Keeps a message for later subscribers; an empty one removes it.
    fn retain(&mut self, topic: &str, payload: &Bytes, qos: QoS) {
        if let Some((old, _)) = self.retained.remove(topic) {
            self.retained_bytes -= old.len() + topic.len();
        }
        if payload.is_empty() {
            return;
        }
        let size = payload.len() + topic.len();
        if self.retained.len() >= MAX_RETAINED || self.retained_bytes + size > MAX_RETAINED_BYTES {
            self.numbers.refused += 1;
            return;
        }
        self.retained_bytes += size;
        self.retained.insert(topic.into(), (payload.clone(), qos));
    }

    /// The next packet for a client; `None` if there is none now. `Err`: the session is another's.
    pub(super) fn next_packet(
        &mut self,
        client: &str,
        connection: u64,
    ) -> Result<Option<Packet>, ()> {
        self.session(client, connection).map(Session::next_packet).ok_or(())
    }
}

fn lower(a: QoS, b: QoS) -> QoS {
    if a < b { a } else { b }
}

fn higher(a: QoS, b: QoS) -> QoS {
    if a < b { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn received(core: &mut Core, client: &str, taken: &Taken) -> Vec<(String, QoS, bool)> {
        let mut all = Vec::new();
        while let Ok(Some(Packet::Publish(p))) = core.next_packet(client, taken.connection) {
            all.push((String::from_utf8(p.payload.to_vec()).unwrap(), p.qos, p.retain));
        }
        all
    }

    fn core() -> (Core, Taken) {
        let mut core = Core::new(100);
        let taken = core.connect("c", true, None).unwrap();
        (core, taken)
    }

    #[test]
    fn overlapping_subscriptions_bring_a_message_once_with_the_best_qos() {
        let (mut core, taken) = core();
        for (filter, qos) in
            [("a/b", QoS::AtMostOnce), ("a/+", QoS::AtLeastOnce), ("#", QoS::AtMostOnce)]
        {
            assert!(core.subscribe("c", taken.connection, filter, qos));
        }
        core.publish("a/b", &bytes("x"), QoS::ExactlyOnce, false);
        assert_eq!(received(&mut core, "c", &taken), [("x".into(), QoS::AtLeastOnce, false)]);
        core.publish("$hw/events/x", &bytes("y"), QoS::AtMostOnce, false);
        assert_eq!(received(&mut core, "c", &taken), []);
        core.unsubscribe("c", taken.connection, "a/+");
        core.publish("a/b", &bytes("z"), QoS::ExactlyOnce, false);
        assert_eq!(received(&mut core, "c", &taken), [("z".into(), QoS::AtMostOnce, false)]);
    }

    #[test]
    fn what_is_retained_comes_with_the_subscription_until_it_is_removed() {
        let (mut core, taken) = core();
        core.publish("a", &bytes("1"), QoS::AtLeastOnce, true);
        core.publish("a", &bytes("2"), QoS::AtLeastOnce, true);
        core.subscribe("c", taken.connection, "#", QoS::AtLeastOnce);
        assert_eq!(received(&mut core, "c", &taken), [("2".into(), QoS::AtLeastOnce, true)]);
        core.publish("a", &Bytes::new(), QoS::AtMostOnce, true);
        received(&mut core, "c", &taken);
        core.subscribe("c", taken.connection, "a", QoS::AtLeastOnce);
        assert_eq!(received(&mut core, "c", &taken), []);
        assert_eq!(core.retained_bytes, 0);
    }

    #[test]
    fn a_second_client_of_one_name_takes_the_first_ones_place() {
        let (mut core, first) = core();
        core.subscribe("c", first.connection, "a", QoS::AtMostOnce);
        let second = core.connect("c", true, None).unwrap();
        assert!(!second.present, "a clean session begins anew");
        assert!(core.next_packet("c", first.connection).is_err());
        core.publish("a", &bytes("x"), QoS::AtMostOnce, false);
        assert_eq!(received(&mut core, "c", &second), []);
        core.disconnect("c", first.connection, false);
        assert!(
            core.session("c", second.connection).is_some(),
            "the old one's end changes nothing"
        );
    }

    #[test]
    fn a_session_that_is_kept_gets_later_what_came_meanwhile() {
        let mut core = Core::new(100);
        let first = core.connect("c", false, None).unwrap();
        core.subscribe("c", first.connection, "a", QoS::AtLeastOnce);
        core.disconnect("c", first.connection, true);
        core.publish("a", &bytes("x"), QoS::AtLeastOnce, false);
        core.publish("a", &bytes("lost"), QoS::AtMostOnce, false);
        let second = core.connect("c", false, None).unwrap();
        assert!(second.present);
        assert_eq!(received(&mut core, "c", &second), [("x".into(), QoS::AtLeastOnce, false)]);
        assert_eq!(core.numbers().dropped, 1);
    }

    #[test]
    fn a_will_is_published_when_its_client_goes_without_a_word() {
        let (mut core, taken) = core();
        core.subscribe("c", taken.connection, "will", QoS::AtMostOnce);
        let will = || Will {
            topic: "will".into(),
            payload: bytes("gone"),
            qos: QoS::AtMostOnce,
            retain: false,
        };
        for (said, expected) in [(true, 0), (false, 1)] {
            let other = core.connect("o", true, Some(will())).unwrap();
            core.disconnect("o", other.connection, said);
            assert_eq!(received(&mut core, "c", &taken).len(), expected);
        }
    }

    #[test]
    fn there_are_limits_to_sessions_filters_and_what_is_retained() {
        let (mut core, taken) = core();
        let granted = (0..MAX_FILTERS + 5)
            .filter(|n| core.subscribe("c", taken.connection, &format!("t/{n}"), QoS::AtMostOnce))
            .count();
        assert_eq!(granted, MAX_FILTERS);
        assert!(!core.subscribe("c", taken.connection, "a/#/b", QoS::AtMostOnce));
        let mib = Bytes::from(vec![0; 1 << 20]);
        for n in 0..20 {
            core.publish(&format!("r/{n}"), &mib, QoS::AtMostOnce, true);
        }
        assert!(core.retained_bytes <= MAX_RETAINED_BYTES);
        let kept = core.connect("kept", false, None).unwrap();
        core.disconnect("kept", kept.connection, true);
        let all = (0..MAX_SESSIONS).filter(|n| core.connect(&n.to_string(), true, None).is_some());
        assert_eq!(
            all.count(),
            MAX_SESSIONS - 1,
            "the one that is away makes room, the live one not"
        );
        assert!(core.numbers().refused > 0);
    }
}

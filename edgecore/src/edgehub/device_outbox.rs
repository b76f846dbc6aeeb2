//! What the cloud must still be told of devices. Pure.
//!
//! Owns: for each device the properties and the state that the cloud has not confirmed.
//! Called by: `outbox.rs`, which shares out the link.
//! Never: holds up one device for another, or loses a property: a newer value takes the place of an
//! older one that waits, and what was on its way when the link was cut waits again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use api::names::MessageId;
use api::raw::RawJson;
use api::twin::message::{self, MsgTwin, StateReport, TwinUpdate};
use api::twin::topics::DeviceId;
use api::wire::upstream::Upstream;
use jiff::Timestamp;
use service::backoff::Backoff;
use tokio::time::Instant;

/// Reports in flight at most. A cloud that does not know a device never confirms it, so there are
/// many, lest such devices hold up the others.
const IN_FLIGHT: usize = 1024;
/// How long a confirmation may take before the report is sent again.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);
/// Waits of a device that was not confirmed.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

type Changes = BTreeMap<String, Option<MsgTwin>>;

/// What the cloud is told of a device in messages of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum What {
    State,
    Twin,
}

/// A device and one of these. Each is confirmed for itself, so none waits for the other: a device that
/// says all the time how it is would never get its values through.
type Subject = (DeviceId, What);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DeviceOutbox {
    lines: HashMap<Subject, Line>,
    /// What has something to send now. Each at most once.
    queue: VecDeque<Subject>,
    /// What waits before it is tried again.
    later: BTreeSet<(Instant, Subject)>,
    in_flight: HashMap<MessageId, Subject>,
    /// What is in flight, oldest first; may name what no longer is.
    sent: VecDeque<(Instant, MessageId)>,
    question: Option<RawJson>,
}

/// What the cloud must be told about one subject.
#[derive(Debug, Default)]
struct Line {
    waiting: Option<Report>,
    place: Place,
    failures: u32,
}

/// Where a subject is. It leaves a place only for the next.
///
/// ```text
/// Idle ─► Queued ─► Flying ─► Idle, or Queued if there is more
///            ▲         └────► Later (no confirmation)
///            └─────────────────┘
/// ```
#[derive(Debug, Default)]
enum Place {
    #[default]
    Idle,
    Queued,
    Flying(MessageId, Report),
    Later(Instant),
}

#[derive(Debug)]
enum Report {
    Twin(Changes),
    State(StateReport),
}

impl DeviceOutbox {
    /// Properties that the cloud should know.
    pub(crate) fn twin(&mut self, device: DeviceId, twin: Changes) {
        if !twin.is_empty() {
            self.wait((device, What::Twin), Report::Twin(twin));
        }
    }

    /// A state that the cloud should know.
    pub(crate) fn state(&mut self, device: DeviceId, report: StateReport) {
        self.wait((device, What::State), Report::State(report));
    }

    fn wait(&mut self, subject: Subject, report: Report) {
        let line = self.lines.entry(subject.clone()).or_default();
        line.waiting = Some(match line.waiting.take() {
            Some(older) => older.under(report),
            None => report,
        });
        self.enqueue(subject);
    }

    /// Nothing more is to be told of a device.
    pub(crate) fn forget(&mut self, device: &DeviceId) {
        for what in [What::State, What::Twin] {
            let subject = (device.clone(), what);
            let Some(line) = self.lines.remove(&subject) else { continue };
            match line.place {
                Place::Idle => {}
                Place::Queued => self.queue.retain(|s| *s != subject),
                Place::Flying(id, _) => drop(self.in_flight.remove(&id)),
                Place::Later(at) => drop(self.later.remove(&(at, subject))),
            }
        }
    }

    /// A question that needs no confirmation and does not outlive the link.
    pub(crate) fn ask(&mut self, question: RawJson) {
        self.question = Some(question);
    }

    /// The next report; it is in flight from then on.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(MessageId, Upstream)> {
        if let Some(question) = self.question.take() {
            return Some((MessageId::random(), Upstream::MembershipDetail(question)));
        }
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        while let Some(subject) = self.queue.pop_front() {
            let Some(line) = self.lines.get_mut(&subject) else { continue };
            line.place = Place::Idle;
            let Some(report) = line.waiting.take() else { continue };
            let device = &subject.0;
            let Some(message) = report.message(device) else {
                tracing::error!(%device, "a report of a device is too large for a message; dropped");
                self.lines.remove(&subject);
                continue;
            };
            let id = MessageId::random();
            line.place = Place::Flying(id.clone(), report);
            self.in_flight.insert(id.clone(), subject);
            self.sent.push_back((now, id.clone()));
            return Some((id, message));
        }
        None
    }

    /// The cloud has a report.
    pub(crate) fn confirmed(&mut self, id: &MessageId) {
        let Some(subject) = self.in_flight.remove(id) else { return };
        let Some(line) = self.lines.get_mut(&subject) else { return };
        line.place = Place::Idle;
        line.failures = 0;
        if line.waiting.is_none() {
            self.lines.remove(&subject);
        } else {
            self.enqueue(subject);
        }
    }

    /// Puts back what has had no confirmation for too long, and lets those try again that waited.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((since, id)) = self.sent.front() {
            let flying = self.in_flight.contains_key(id);
            if flying && now.saturating_duration_since(*since) < CONFIRM_WITHIN {
                break;
            }
            if let Some((_, id)) = self.sent.pop_front()
                && let Some(subject) = self.in_flight.remove(&id)
                && let Some(line) = self.lines.get_mut(&subject)
            {
                line.put_back();
                let at = now + AGAIN.next_delay(line.failures);
                line.failures = line.failures.saturating_add(1);
                line.place = Place::Later(at);
                self.later.insert((at, subject));
            }
        }
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((_, subject)) = self.later.pop_first()
        {
            if let Some(line) = self.lines.get_mut(&subject) {
                line.place = Place::Idle;
            }
            self.enqueue(subject);
        }
    }

    /// When something becomes due by itself.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let late = self.sent.front().map(|(since, _)| *since + CONFIRM_WITHIN);
        let again = self.later.first().map(|(at, _)| *at);
        late.into_iter().chain(again).min()
    }

    /// Whether a report could be sent now.
    pub(crate) fn has_report(&self) -> bool {
        self.question.is_some() || (!self.queue.is_empty() && self.in_flight.len() < IN_FLIGHT)
    }

    /// The link is cut: what was in flight waits again.
    pub(crate) fn link_cut(&mut self) {
        self.in_flight.clear();
        self.sent.clear();
        self.later.clear();
        self.question = None;
        let mut waiting: Vec<Subject> = Vec::new();
        for (subject, line) in &mut self.lines {
            line.put_back();
            line.failures = 0;
            if !matches!(line.place, Place::Queued) {
                line.place = Place::Idle;
                waiting.push(subject.clone());
            }
        }
        waiting.sort();
        for subject in waiting {
            self.enqueue(subject);
        }
    }

    /// Devices of which the cloud must still be told.
    pub(crate) fn len(&self) -> usize {
        let twin_too = |device: &DeviceId| self.lines.contains_key(&(device.clone(), What::Twin));
        let alone = |(device, what): &&Subject| *what == What::Twin || !twin_too(device);
        self.lines.keys().filter(alone).count()
    }

    fn enqueue(&mut self, subject: Subject) {
        if let Some(line) = self.lines.get_mut(&subject)
            && matches!(line.place, Place::Idle)
        {
            line.place = Place::Queued;
            self.queue.push_back(subject);
        }
    }
}

impl Line {
    /// What was in flight waits again, unless something newer does.
    fn put_back(&mut self) {
        if !matches!(self.place, Place::Flying(..)) {
            return;
        }
        let Place::Flying(_, sent) = std::mem::take(&mut self.place) else { return };
        self.waiting = Some(match self.waiting.take() {
            Some(newer) => sent.under(newer),
            None => sent,
        });
    }
}

impl Report {
    /// This, with what is newer over it.
    fn under(self, newer: Self) -> Self {
        match (self, newer) {
            (Self::Twin(mut older), Self::Twin(newer)) => {
                merge(&mut older, newer);
                Self::Twin(older)
            }
            (_, newer) => newer,
        }
    }

    fn message(&self, device: &DeviceId) -> Option<Upstream> {
        match self {
            Self::Twin(twin) => twin_message(device, twin),
            Self::State(report) => state_message(device, report),
        }
    }
}

/// Newer values take the place of older ones, side by side of each property.
fn merge(into: &mut Changes, newer: Changes) {
    for (property, change) in newer {
        match (into.get_mut(&property), change) {
            (Some(Some(have)), Some(new)) => {
                if new.expected.is_some() || new.expected_version.is_some() {
                    have.expected = new.expected;
                    have.expected_version = new.expected_version.or(have.expected_version);
                }
                if new.actual.is_some() || new.actual_version.is_some() {
                    have.actual = new.actual;
                    have.actual_version = new.actual_version.or(have.actual_version);
                }
                have.optional = new.optional.or(have.optional);
                have.metadata = new.metadata.or(have.metadata.take());
            }
            (_, change) => drop(into.insert(property, change)),
        }
    }
}

fn twin_message(device: &DeviceId, twin: &Changes) -> Option<Upstream> {
    let update = TwinUpdate {
        event_id: uuid::Uuid::new_v4().to_string(),
        timestamp: Timestamp::now().as_millisecond(),
        twin: twin.clone(),
    };
    Some(Upstream::DeviceTwin {
        namespace: device.namespace.clone(),
        name: device.name.clone(),
        content: RawJson::parse(message::encode(&update).ok()?).ok()?,
    })
}

fn state_message(device: &DeviceId, report: &StateReport) -> Option<Upstream> {
    Some(Upstream::DeviceState {
        namespace: device.namespace.clone(),
        name: device.name.clone(),
        content: RawJson::string(&message::encode(report).ok()?),
    })
}

#[cfg(test)]
#[path = "device_outbox_tests.rs"]
mod tests;

//! What the cloud must still be told. Pure.
//!
//! Owns: for each pod its mirror, its newest status and its end, until the cloud has answered; the
//! events that wait for a moment on the socket.
//! Called by: `to_cloud.rs` (offers), the session (takes, answers, cuts).
//! Never: sends a difference against something unsent, or lets one pod hold up another.
//!
//! Per pod, in this order and one in flight at a time: create its mirror, report its status (newest
//! wins), remove it. These survive a cut of the link. Events do not: they are dropped and counted.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use api::names::{MessageId, ObjectKey, Uid};
use api::raw::RawJson;
use api::wire::upstream::{EventReport, Request, Upstream};
use service::backoff::Backoff;
use tokio::time::Instant;

use super::device_outbox::DeviceOutbox;
use super::task_reports::TaskReports;
use super::uploads::Uploads;

/// Events that wait at most; a further one is dropped and counted.
const EVENTS: usize = 256;
/// Reports in flight at most, over all pods.
const IN_FLIGHT: usize = 64;
/// How long an answer may take before the report is sent again.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Waits after the cloud could not do what it was told.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// One incarnation of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodId {
    /// Namespace and name.
    pub(crate) key: ObjectKey,
    /// Which incarnation.
    pub(crate) uid: Uid,
}

/// How the cloud answered a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done, or no longer needed.
    Done,
    /// The pod is gone from the API server.
    PodGone,
    /// Not now.
    Again,
}

/// What a report was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The creation of a mirror pod.
    Mirror,
    /// A status.
    Status,
    /// The removal of a pod.
    Gone,
}

/// What was dropped since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Events made while there was no link, or lost with it.
    pub(crate) events_offline: u64,
    /// Events made faster than the link takes them.
    pub(crate) events_full: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    connected: bool,
    pods: HashMap<PodId, Line>,
    /// Pods with something to send, first come first served. Each at most once.
    queue: VecDeque<PodId>,
    in_flight: HashMap<MessageId, PodId>,
    events: VecDeque<EventReport>,
    dropped: Dropped,
    devices: DeviceOutbox,
    uploads: Uploads,
    tasks: TaskReports,
    /// Whose turn it is of the three that share what is left.
    turn: u8,
}

/// What the cloud must be told about one pod.
#[derive(Debug, Default)]
struct Line {
    mirror: Option<RawJson>,
    status: Option<String>,
    gone: bool,
    queued: bool,
    flight: Option<Flight>,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Flight {
    id: MessageId,
    subject: Subject,
    since: Instant,
    /// A newer status was offered since.
    superseded: bool,
}

impl Line {
    fn subject(&self) -> Option<Subject> {
        if self.mirror.is_some() {
            Some(Subject::Mirror)
        } else if self.status.is_some() {
            Some(Subject::Status)
        } else {
            self.gone.then_some(Subject::Gone)
        }
    }
}

impl Outbox {
    /// The newest status of a pod, as a patch that carries all of it.
    pub(crate) fn pod_status(&mut self, pod: PodId, patch: String) {
        let line = self.pods.entry(pod.clone()).or_default();
        line.status = Some(patch);
        if let Some(flight) = &mut line.flight
            && flight.subject == Subject::Status
        {
            flight.superseded = true;
        }
        self.enqueue(pod);
    }

    /// The containers of a pod are gone; the API server may remove it.
    pub(crate) fn pod_gone(&mut self, pod: PodId) {
        self.pods.entry(pod.clone()).or_default().gone = true;
        self.enqueue(pod);
    }

    /// The mirror of a static pod.
    pub(crate) fn mirror_pod(&mut self, pod: PodId, object: RawJson) {
        self.pods.entry(pod.clone()).or_default().mirror = Some(object);
        self.enqueue(pod);
    }

    /// An event; dropped and counted without a link or when too many wait.
    pub(crate) fn event(&mut self, event: EventReport) {
        if !self.connected {
            self.dropped.events_offline += 1;
        } else if self.events.len() >= EVENTS {
            self.dropped.events_full += 1;
        } else {
            self.events.push_back(event);
        }
    }

    /// What the cloud must be told of devices.
    pub(crate) fn devices(&mut self) -> &mut DeviceOutbox {
        &mut self.devices
    }

    /// Messages of MQTT topics for the cloud.
    pub(crate) fn uploads(&mut self) -> &mut Uploads {
        &mut self.uploads
    }

    /// What the cloud must be told of node jobs.
    pub(crate) fn tasks(&mut self) -> &mut TaskReports {
        &mut self.tasks
    }

    /// The link is up.
    pub(crate) fn link_up(&mut self) {
        self.connected = true;
    }

    /// The link is cut: what was in flight waits again, events are dropped.
    pub(crate) fn link_cut(&mut self) {
        self.connected = false;
        self.devices.link_cut();
        self.tasks.link_cut(Instant::now());
        self.dropped.events_offline += self.events.len() as u64;
        self.events.clear();
        self.in_flight.clear();
        let mut waiting: Vec<PodId> = Vec::new();
        for (pod, line) in &mut self.pods {
            line.flight = None;
            line.failures = 0;
            line.not_before = None;
            if !line.queued {
                waiting.push(pod.clone());
            }
        }
        waiting.sort();
        for pod in waiting {
            self.enqueue(pod);
        }
    }

    /// The next report to send now; it is in flight from then on.
    pub(crate) fn next_report(&mut self, now: Instant) -> Option<(MessageId, Upstream)> {
        if !self.connected {
            return None;
        }
        // Few, and the cloud waits for each.
        if let Some(report) = self.tasks.next(now) {
            return Some(report);
        }
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        for _ in 0..self.queue.len() {
            let pod = self.queue.pop_front()?;
            let Some(line) = self.pods.get_mut(&pod) else { continue };
            if line.flight.is_some() {
                // It is queued again when its answer comes.
                line.queued = false;
                continue;
            }
            if line.not_before.is_some_and(|at| at > now) {
                self.queue.push_back(pod);
                continue;
            }
            line.queued = false;
            let Some(subject) = line.subject() else { continue };
            let id = MessageId::random();
            let report = report(&pod, line, subject);
            line.flight = Some(Flight { id: id.clone(), subject, since: now, superseded: false });
            self.in_flight.insert(id.clone(), pod);
            return Some((id, report));
        }
        None
    }

    /// The next event, report of a device or message of MQTT to send; they take turns.
    pub(crate) fn next_spare(&mut self, now: Instant) -> Option<(MessageId, Upstream)> {
        self.turn = (self.turn + 1) % 3;
        (0..3).find_map(|n| match (self.turn + n) % 3 {
            0 => self.next_event(),
            1 => self.next_device(now),
            _ if self.connected => self.uploads.next(),
            _ => None,
        })
    }

    fn next_device(&mut self, now: Instant) -> Option<(MessageId, Upstream)> {
        if self.connected { self.devices.next(now) } else { None }
    }

    fn next_event(&mut self) -> Option<(MessageId, Upstream)> {
        let event = self.events.pop_front()?;
        Some((MessageId::random(), Upstream::Event(event)))
    }

    /// The pod and the subject of a report in flight.
    pub(crate) fn in_flight(&self, id: &MessageId) -> Option<(&PodId, Subject)> {
        let pod = self.in_flight.get(id)?;
        Some((pod, self.pods.get(pod)?.flight.as_ref()?.subject))
    }

    /// The answer to a report in flight.
    pub(crate) fn answered(&mut self, id: &MessageId, verdict: Verdict, now: Instant) {
        let Some(pod) = self.in_flight.remove(id) else { return };
        let Some(line) = self.pods.get_mut(&pod) else { return };
        let Some(flight) = line.flight.take_if(|f| f.id == *id) else { return };
        match (verdict, flight.subject) {
            (Verdict::Again, _) => {
                line.not_before = Some(now + AGAIN.next_delay(line.failures));
                line.failures = line.failures.saturating_add(1);
            }
            (Verdict::Done, Subject::Mirror) => line.mirror = None,
            (Verdict::Done, Subject::Status) if flight.superseded => {}
            (Verdict::Done, Subject::Status) => line.status = None,
            (Verdict::Done | Verdict::PodGone, Subject::Gone) => line.gone = false,
            (Verdict::PodGone, Subject::Status) => line.status = None,
            (Verdict::PodGone, Subject::Mirror) => line.mirror = None,
        }
        if verdict != Verdict::Again {
            line.failures = 0;
            line.not_before = None;
        }
        if line.subject().is_none() {
            self.pods.remove(&pod);
        } else {
            self.enqueue(pod);
        }
    }

    /// Sends again, later, what has had no answer for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        let late: Vec<MessageId> = self
            .pods
            .values()
            .filter_map(|line| line.flight.as_ref())
            .filter(|flight| now.saturating_duration_since(flight.since) >= ANSWER_WITHIN)
            .map(|flight| flight.id.clone())
            .collect();
        for id in late {
            self.answered(&id, Verdict::Again, now);
        }
        self.devices.expire(now);
    }

    /// When something becomes due by itself, after `now`.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.pods
            .values()
            .filter_map(|line| match &line.flight {
                Some(flight) => Some(flight.since + ANSWER_WITHIN),
                None => line.not_before,
            })
            .chain(self.devices.next_due())
            .filter(|at| *at > now)
            .min()
    }

    /// Whether a report could be sent now.
    pub(crate) fn has_report(&self, now: Instant) -> bool {
        if self.connected && !self.tasks.is_empty() {
            return true;
        }
        self.in_flight.len() < IN_FLIGHT
            && self.pods.values().any(|line| {
                line.flight.is_none()
                    && line.not_before.is_none_or(|at| at <= now)
                    && line.subject().is_some()
            })
    }

    /// Whether one of those waits.
    pub(crate) fn has_spare(&self) -> bool {
        let others = self.devices.has_report() || !self.uploads.is_empty();
        !self.events.is_empty() || (self.connected && others)
    }

    /// What was dropped since the start.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Pods that the cloud must still be told of.
    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }

    fn enqueue(&mut self, pod: PodId) {
        if let Some(line) = self.pods.get_mut(&pod)
            && !line.queued
        {
            line.queued = true;
            self.queue.push_back(pod);
        }
    }
}

fn report(pod: &PodId, line: &Line, subject: Subject) -> Upstream {
    let key = pod.key.clone();
    Upstream::Request(match subject {
        Subject::Mirror => {
            Request::CreatePod { key, pod: line.mirror.clone().unwrap_or_else(RawJson::null) }
        }
        Subject::Status => {
            Request::PatchPod { key, patch: line.status.clone().unwrap_or_default() }
        }
        Subject::Gone => Request::DeletePod {
            key,
            uid: Some(pod.uid.clone()),
            options: delete_options(&pod.uid),
        },
    })
}

fn delete_options(uid: &Uid) -> RawJson {
    #[derive(serde::Serialize)]
    struct Options<'a> {
        #[serde(rename = "gracePeriodSeconds")]
        grace_period_seconds: i64,
        preconditions: Preconditions<'a>,
    }
    #[derive(serde::Serialize)]
    struct Preconditions<'a> {
        uid: &'a str,
    }
    let options =
        Options { grace_period_seconds: 0, preconditions: Preconditions { uid: uid.as_str() } };
    RawJson::of(&options).unwrap_or_else(|_| RawJson::null())
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

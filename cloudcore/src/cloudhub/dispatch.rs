//! From the wire to whoever deals with it.
//!
//! Owns: the one `match` over what an edge node may say; the limits per node.
//! Called by: `session.rs`, with each message.
//! Never: waits. A node that asks faster than the API server answers is told so; its keepalives
//! and acknowledgements must not stand in a queue behind its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::names::MessageId;
use api::wire::downstream::{Reply, ReplyBody, ReplyError};
use api::wire::request::Request;
use api::wire::upstream::EventReport;
use api::wire::{Message, Upstream};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tracing::{Level, debug, enabled, trace, warn};

use super::authorizer::{self, Verdict};
use super::registry::{Connection, Origin, Registry};
use super::throttle::{Rate, Throttle};
use crate::apiserver::ApiError;
use crate::devicecontroller;
use crate::edgecontroller::index::Index;
use crate::edgecontroller::upstream::{Job, Upstreams, Work};
use crate::metrics::{Drop as Dropped, Metrics};
use crate::status::Passage;
use crate::taskmanager::TaskManager;

/// Requests of one node that may be in work.
const PER_NODE: usize = 256;
/// Events of one node.
const EVENTS: Rate = Rate { burst: 100.0, per_second: 10.0 };

/// What all sessions share.
#[derive(Debug)]
pub struct Dispatcher {
    /// Where answers go.
    pub registry: Arc<Registry>,
    /// What is known of pods and nodes.
    pub index: Arc<Mutex<Index>>,
    /// The workers.
    pub upstreams: Upstreams,
    /// Who deals with devices, if anybody does.
    pub devices: Option<devicecontroller::Upstream>,
    /// Who deals with jobs on nodes, if anybody does.
    pub tasks: Option<TaskManager>,
    /// Whether the index is complete; before, what it does not know is not refused for good.
    pub live: watch::Receiver<bool>,
    /// What is dropped is counted.
    pub metrics: Metrics,
}

/// What one session must remember between its messages.
#[derive(Debug)]
pub struct Talker {
    in_work: Arc<AtomicUsize>,
    events: Throttle<()>,
}

impl Default for Talker {
    fn default() -> Self {
        Self { in_work: Arc::default(), events: Throttle::new(EVENTS, 1) }
    }
}

/// One request in work; dropped with it.
#[derive(Debug)]
pub struct InWork(Arc<AtomicUsize>);

impl InWork {
    /// Work that cloudcore gives itself.
    pub(crate) fn own() -> Self {
        Self(Arc::new(AtomicUsize::new(1)))
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Talker {
    fn begin(&self) -> Option<InWork> {
        if self.in_work.fetch_add(1, Ordering::Relaxed) >= PER_NODE {
            self.in_work.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(InWork(Arc::clone(&self.in_work)))
    }
}

impl Dispatcher {
    /// Deals with one message. `memory` is what it took from the budget, `size` its size on the
    /// wire.
    pub fn dispatch(
        &self,
        from: &Connection,
        talker: &mut Talker,
        message: Message,
        size: usize,
        memory: Option<OwnedSemaphorePermit>,
    ) {
        let node = &from.origin().node;
        let status = from.status();
        let passage = Passage::begin(message.header.timestamp, size);
        status.received(node);
        let resource: Box<str> = message.route.resource.as_str().into();
        let (id, upstream) = match Upstream::decode(node, message) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.metrics.dropped(Dropped::Undecodable, 1);
                status.dropped(node, 1);
                status.heard(node, "unknown", &resource, "undecodable", &passage);
                return warn!(%node, %error, "a message is dropped");
            }
        };
        match upstream {
            // Every message resets the clock; this one says nothing else.
            Upstream::Keepalive => status.heard(node, "keepalive", "", "ok", &passage),
            Upstream::Ack(ack) => {
                if let Some(acked) = from.acked(&ack.of) {
                    status.acked(node, &ack.of, &acked.key, &passage);
                    trace!(%node, object = %acked.key, version = ?acked.version, "acknowledged");
                }
            }
            Upstream::Refused { of, why, .. } => {
                let why: String = why.chars().take(256).collect();
                status.heard(node, "refused", &resource, &why, &passage);
                warn!(%node, msg = %of, why = %why.escape_debug(), "the node could not use a message");
            }
            Upstream::Request(request) => {
                let origin = from.origin().clone();
                let ticket = Ticket { origin, id, resource, memory, passage };
                self.request(talker, ticket, request);
            }
            Upstream::Event(report) => {
                let resource = Box::default();
                let origin = from.origin().clone();
                let ticket = Ticket { origin, id, resource, memory, passage };
                self.event(talker, ticket, report);
            }
            said @ (Upstream::DeviceTwin { .. }
            | Upstream::DeviceState { .. }
            | Upstream::MembershipDetail(_))
                if self.devices.is_some() =>
            {
                if let Some(devices) = &self.devices {
                    devices.hear(from.origin(), id, said, &passage);
                }
            }
            said @ Upstream::TaskStatus { .. } if self.tasks.is_some() => {
                if let Some(tasks) = &self.tasks {
                    tasks.hear(from.origin(), said, &passage);
                }
            }
            Upstream::DeviceTwin { .. }
            | Upstream::DeviceState { .. }
            | Upstream::MembershipDetail(_)
            | Upstream::Application(_)
            | Upstream::WatchSync(_)
            | Upstream::Upload { .. }
            | Upstream::TaskStatus { .. }
            | Upstream::Volume { .. } => {
                self.metrics.dropped(Dropped::Unsupported, 1);
                status.dropped(node, 1);
                status.heard(node, "other", &resource, "nothing deals with it", &passage);
                debug!(%node, msg = %id, %resource, "nothing here deals with this kind of message");
            }
        }
    }

    fn request(&self, talker: &Talker, ticket: Ticket, request: Request) {
        let node = &ticket.origin.node;
        let verdict = authorizer::may(node, &request, &self.index.lock());
        let check = match verdict {
            Verdict::Allowed => false,
            Verdict::CheckObject => true,
            Verdict::Denied(_) if !*self.live.borrow() => {
                let text = "cloudcore is starting and does not know this node's pods yet";
                let status = kube::core::Status::failure(text, "ServiceUnavailable").with_code(503);
                return self.refuse(ticket, &request, &ApiError::Refused(status.boxed()));
            }
            Verdict::Denied(why) => {
                self.metrics.dropped(Dropped::NotAllowed, 1);
                let text = format!("node `{node}` may not do this to `{}`: {why}", ticket.resource);
                warn!(%node, msg = %ticket.id, resource = %ticket.resource, why, "a request is refused");
                let status = kube::core::Status::failure(&text, "Forbidden").with_code(403);
                return self.refuse(ticket, &request, &ApiError::Refused(status.boxed()));
            }
        };
        let Some(in_work) = talker.begin() else {
            self.metrics.dropped(Dropped::NodeBusy, 1);
            return self.refuse(ticket, &request, &busy("this node has too many requests in work"));
        };
        if enabled!(target: "hop", Level::TRACE) {
            let object = request.object().map(|key| key.to_string());
            let subject = object.unwrap_or_else(|| ticket.id.to_string());
            trace!(target: "hop", msg = subject, at = "edgecontroller.upstream");
        }
        let Ticket { origin, id, resource, memory, passage } = ticket;
        let work = Work::Request { request, check };
        let job = Job { origin, id, resource, work, memory, in_work, passage };
        if let Err(job) = self.upstreams.submit(job) {
            self.metrics.dropped(Dropped::QueueFull, 1);
            let Job { origin, id, resource, passage, work, .. } = job;
            let Work::Request { request, .. } = work else { return };
            let ticket = Ticket { origin, id, resource, memory: None, passage };
            self.refuse(ticket, &request, &busy("cloudcore has too many requests in work"));
        }
    }

    fn event(&self, talker: &mut Talker, ticket: Ticket, report: EventReport) {
        let Ticket { origin, id, resource, memory, passage } = ticket;
        if !talker.events.take(&(), Instant::now()) {
            return self.metrics.dropped(Dropped::EventRate, 1);
        }
        if !authorizer::may_report(&origin.node, event_of(&report).as_ref(), &self.index.lock()) {
            self.metrics.dropped(Dropped::NotAllowed, 1);
            return debug!(node = %origin.node, event = %report.key, "an event is refused");
        }
        let Some(in_work) = talker.begin() else {
            return self.metrics.dropped(Dropped::NodeBusy, 1);
        };
        trace!(target: "hop", msg = %report.key, at = "edgecontroller.upstream");
        let work = Work::Event(report);
        let job = Job { origin, id, resource, work, memory, in_work, passage };
        if self.upstreams.submit(job).is_err() {
            self.metrics.dropped(Dropped::QueueFull, 1);
        }
    }

    fn refuse(&self, ticket: Ticket, request: &Request, error: &ApiError) {
        let body = refusal(request, error);
        let Ticket { origin, id, resource, passage, .. } = ticket;
        let status = self.registry.status();
        status.dropped(&origin.node, 1);
        status.handled(&origin.node, request, &resource, Some(error.to_string()), &passage);
        self.registry.answer(&origin, Reply { parent: id, resource, version: None, body });
    }
}

/// A request before it has become a job.
struct Ticket {
    origin: Origin,
    id: MessageId,
    resource: Box<str>,
    memory: Option<OwnedSemaphorePermit>,
    passage: Passage,
}

fn busy(why: &str) -> ApiError {
    ApiError::Refused(kube::core::Status::failure(why, "TooManyRequests").with_code(429).boxed())
}

/// The Event itself: a patch has it beside the patch.
pub(crate) fn event_of(report: &EventReport) -> std::borrow::Cow<'_, api::raw::RawJson> {
    use api::wire::upstream::EventOp;
    #[derive(serde::Deserialize)]
    struct Patch {
        event: api::raw::RawJson,
    }
    match report.op {
        EventOp::Patch => match report.content.to::<Patch>() {
            Ok(patch) => std::borrow::Cow::Owned(patch.event),
            Err(_) => std::borrow::Cow::Borrowed(&report.content),
        },
        _ => std::borrow::Cow::Borrowed(&report.content),
    }
}

/// How a failed request is answered: each kind has its own form.
pub fn refusal(request: &Request, error: &ApiError) -> ReplyBody {
    let status = || ReplyError::Status(error.status());
    match request {
        Request::Query(key) if key.kind == api::names::Kind::Lease => {
            ReplyBody::Object { object: api::raw::RawJson::null(), err: Some(status()) }
        }
        Request::Query(_) | Request::ServiceAccountToken { .. } => ReplyBody::Error(status()),
        Request::UpdateNode { .. }
        | Request::DeletePod { .. }
        | Request::ApiServerCa
        | Request::LegacyNodeStatus { .. }
        | Request::LegacyPodStatus { .. } => ReplyBody::Text(error.to_string()),
        _ => ReplyBody::Object { object: api::raw::RawJson::null(), err: Some(status()) },
    }
}

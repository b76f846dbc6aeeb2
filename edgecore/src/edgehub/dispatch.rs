//! What comes down: into the metamanager, then to its owner, then acknowledged.
//!
//! Owns: the way of a message after it was decoded.
//! Called by: the session, with all messages that had arrived at that moment.
//! Never: acknowledges before the commit, or lets one message that makes no sense stop the others.
//!
//! All that has arrived is stored in one transaction, in the order of its arrival. edged is told
//! afterwards; if its channel is full, the session waits and reads no further.

use api::names::{MessageId, NodeName, ObjectKey};
use api::raw::RawJson;
use api::wire::DecodeError;
use api::wire::downstream::{Downstream, ObjectPush, Reply, ReplyBody, RuleTarget, Task};
use api::wire::message::Message;
use api::wire::upstream::{Ack, Upstream};
use service::telemetry::HOP;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::outbox::{PodId, Subject, Verdict};
use super::requests::{Refusal, Requests, object_of};
use super::to_cloud::ToCloud;
use crate::devicetwin::{self, FromCloud};
use crate::eventbus::Rules;
use crate::metamanager::apply::{self, DeviceChange};
use crate::metamanager::{Objects, Store, StoreError, WantedChange};
use crate::taskmanager::{self, NoJobs};

/// Where messages go. One for the life of the process; the session borrows it.
pub(crate) struct Dispatch {
    pub(crate) node: NodeName,
    pub(crate) store: Store,
    pub(crate) objects: Objects,
    pub(crate) requests: Requests,
    pub(crate) to_cloud: ToCloud,
    /// `None`: edged is switched off.
    pub(crate) wanted: Option<mpsc::Sender<WantedChange>>,
    /// `None`: the device twin is switched off.
    pub(crate) devices: Option<devicetwin::Handle>,
    /// `None`: the event bus is switched off.
    pub(crate) rules: Option<Rules>,
    /// Node jobs, or why there are none here.
    pub(crate) jobs: Result<taskmanager::Handle, NoJobs>,
}

/// Who is told of what was stored.
enum Told {
    Edged(WantedChange),
    Devices(DeviceChange),
}

/// A message on its way through the store.
enum Stored {
    Object(ObjectPush),
    /// The answer to a query.
    Answer(ObjectKey, RawJson),
    /// The answer to a status patch.
    Patched(ObjectKey, RawJson),
    /// The pod is unknown to the cloud: its patch is not needed any more.
    Forget(ObjectKey),
}

impl Stored {
    fn write(&self, tx: &crate::metamanager::store::Tx<'_>) -> Result<Option<Told>, StoreError> {
        let wanted = match self {
            Stored::Object(push) if apply::is_of_devices(&push.key.kind) => {
                return Ok(apply::push_device(tx, push)?.map(Told::Devices));
            }
            Stored::Object(push) => apply::push(tx, push),
            Stored::Answer(key, object) => apply::answer(tx, key, object),
            Stored::Patched(key, object) => apply::patched_pod(tx, key, object),
            Stored::Forget(key) => apply::forget_patch(tx, key).map(|()| None),
        };
        Ok(wanted?.map(Told::Edged))
    }
}

/// What happens to a message once the store has what it brought.
#[derive(Default)]
struct Then {
    ack: Option<(MessageId, Ack)>,
    reply: Option<Reply>,
    verdict: Option<(MessageId, Verdict)>,
    /// The object that was pushed, if hops are logged.
    about: Option<ObjectKey>,
}

impl Dispatch {
    /// Gives edged the whole list of pods, as the store has it. Done at the begin of each link, so
    /// that nothing which went wrong before it lasts longer than the link.
    pub(crate) async fn resync(&self) {
        let Some(wanted) = &self.wanted else { return };
        match self.objects.pods().await {
            Ok(pods) => {
                // edged gone means that the process is stopping.
                let _ = wanted.send(WantedChange::Resync(pods)).await;
            }
            Err(e) => {
                tracing::error!(error = service::error_chain(&e), "the stored pods cannot be read");
            }
        }
    }

    /// Handles what has arrived. What goes back is put into `up`.
    pub(crate) async fn arrived(
        &self,
        messages: Vec<Message>,
        up: &mpsc::Sender<(MessageId, Upstream)>,
    ) {
        let mut stored = Vec::with_capacity(messages.len());
        let mut thens = Vec::with_capacity(messages.len());
        for message in messages {
            match Downstream::decode(message) {
                Ok((id, message)) => {
                    let ack = message.ack(&id).map(|ack| (MessageId::random(), ack));
                    match message {
                        Downstream::Object(push) => {
                            let about = tracing::enabled!(target: HOP, tracing::Level::TRACE)
                                .then(|| push.key.clone());
                            stored.push(Stored::Object(push));
                            thens.push((true, Then { ack, about, ..Then::default() }));
                        }
                        Downstream::Reply(reply) => {
                            let (write, then) = self.reply(reply, ack);
                            thens.push((write.is_some(), then));
                            stored.extend(write);
                        }
                        Downstream::Task(task) => self.task(task).await,
                        other => {
                            if let Some(other) = self.for_rules(other).await
                                && let Some(other) = self.for_devices(other).await
                            {
                                self.unowned(id, other, up).await;
                            }
                        }
                    }
                }
                Err(e) => refuse(&e, up).await,
            }
        }
        self.finish(stored, thens, up).await;
    }

    /// Stores, then does what follows for each message, in order.
    async fn finish(
        &self,
        stored: Vec<Stored>,
        thens: Vec<(bool, Then)>,
        up: &mpsc::Sender<(MessageId, Upstream)>,
    ) {
        let written = if stored.is_empty() {
            Ok(Vec::new())
        } else {
            let work = move |tx: &crate::metamanager::store::Tx<'_>| {
                stored.iter().map(|s| s.write(tx)).collect::<Result<Vec<_>, _>>()
            };
            self.store.write(work).await
        };
        let (mut told, failed) = match written {
            Ok(told) => (told.into_iter(), false),
            Err(e) => {
                tracing::error!(
                    error = service::error_chain(&e),
                    "what the cloud sent is not stored; it is not acknowledged and will be sent again"
                );
                (Vec::new().into_iter(), true)
            }
        };
        for (writes, then) in thens {
            let change = if writes { told.next().flatten() } else { None };
            if let Some(reply) = then.reply
                && let Err(reply) = self.requests.answered(reply)
            {
                tracing::debug!(of = %reply.parent, "an answer came for which nobody waits");
            }
            if let Some((id, verdict)) = then.verdict {
                self.to_cloud.answered(&id, verdict, Instant::now());
            }
            if failed && writes {
                continue;
            }
            if let Some((id, ack)) = then.ack {
                // Fails only when the session is ending; then the cloud sends it again.
                let _ = up.send((id, Upstream::Ack(ack))).await;
            }
            // A module that is gone means that the process is stopping.
            match (change, &self.wanted, &self.devices) {
                (Some(Told::Edged(change)), Some(wanted), _) => {
                    if let Some(key) = &then.about {
                        tracing::trace!(target: HOP, msg = %key, at = "edged.wanted");
                    }
                    let _ = wanted.send(change).await;
                }
                (Some(Told::Devices(change)), _, Some(devices)) => {
                    devices.cloud(FromCloud::Object(change)).await;
                }
                _ => {}
            }
        }
    }

    /// Whose answer it is, and what of it is stored.
    fn reply(&self, reply: Reply, ack: Option<(MessageId, Ack)>) -> (Option<Stored>, Then) {
        let report = self.to_cloud.outbox().in_flight(&reply.parent).map(|(p, s)| (p.clone(), s));
        if let Some((pod, subject)) = report {
            let parent = reply.parent;
            let (write, verdict) = judge(&pod, subject, reply.body);
            return (write, Then { verdict: Some((parent, verdict)), ..Then::default() });
        }
        let object = match &reply.body {
            ReplyBody::Plain(object) => Some(object.clone()),
            _ => None,
        };
        let asked = self.requests.object_asked_for(&reply.parent);
        let write = match (object, asked) {
            (Some(object), Some(key)) => Some(Stored::Answer(key, object)),
            _ => None,
        };
        // A late answer is acknowledged too, or it would be sent again in vain.
        (write, Then { ack, reply: Some(reply), ..Then::default() })
    }

    /// Commands for the event bus, if there is one; gives back what is for others.
    async fn for_rules(&self, message: Downstream) -> Option<Downstream> {
        match (message, &self.rules) {
            (Downstream::Rule(command), Some(rules)) if command.target == RuleTarget::EventBus => {
                rules.command(command).await;
                None
            }
            (other, _) => Some(other),
        }
    }

    /// A node job; whoever has no task manager says so to the cloud, which would wait in vain.
    async fn task(&self, task: Task) {
        match &self.jobs {
            Ok(jobs) => jobs.task(task).await,
            Err(none) => taskmanager::refuse(&task, &self.node, &none.to_string(), &self.to_cloud),
        }
    }

    /// News for the device twin, if there is one; gives back what is for others.
    async fn for_devices(&self, message: Downstream) -> Option<Downstream> {
        let Some(devices) = &self.devices else { return Some(message) };
        let news = match message {
            Downstream::TwinConfirm(of) => {
                self.to_cloud.device_confirmed(&of);
                return None;
            }
            Downstream::Membership(content) => FromCloud::Membership(content),
            Downstream::MembershipDetail(content) => FromCloud::MembershipDetail(content),
            Downstream::TwinCloudUpdated { device, content } => {
                FromCloud::TwinUpdated { device, content }
            }
            other => return Some(other),
        };
        devices.cloud(news).await;
        None
    }

    /// Messages for modules that this edgecore does not have.
    async fn unowned(
        &self,
        id: MessageId,
        message: Downstream,
        up: &mpsc::Sender<(MessageId, Upstream)>,
    ) {
        let what = match message {
            Downstream::Volume(call) => {
                let why = format!("node `{}` has no CSI driver", self.node);
                let content = RawJson::of(&why).unwrap_or_else(|_| RawJson::null());
                let answer =
                    Upstream::Volume { parent: id, resource: call.resource, failed: true, content };
                let _ = up.send((MessageId::random(), answer)).await;
                "a CSI call"
            }
            Downstream::Membership(_)
            | Downstream::MembershipDetail(_)
            | Downstream::TwinConfirm(_)
            | Downstream::TwinCloudUpdated { .. } => "news for the device twin",
            Downstream::Application { .. } => "an answer for the MetaServer",
            Downstream::Rule(_) => "traffic of a rule",
            _ => "a message",
        };
        tracing::warn!(what, "this edgecore has no module for what the cloud sent; it is ignored");
    }
}

/// What the answer to a report means, and what of it is stored.
fn judge(pod: &PodId, subject: Subject, body: ReplyBody) -> (Option<Stored>, Verdict) {
    let key = pod.key.clone();
    match object_of(body) {
        Ok(Some(object)) if subject == Subject::Status => {
            (Some(Stored::Patched(key, object)), Verdict::Done)
        }
        Ok(_) => (None, Verdict::Done),
        Err(refusal) if subject == Subject::Mirror && refusal.already_exists() => {
            (None, Verdict::Done)
        }
        Err(refusal) if refusal.is_not_found() || another_incarnation(&refusal) => {
            let forget = (subject == Subject::Status).then_some(Stored::Forget(key));
            (forget, Verdict::PodGone)
        }
        Err(refusal) if refusal.code == 422 => {
            tracing::error!(pod = %key, ?subject, "the API server finds a report invalid, it is dropped: {refusal}");
            (None, Verdict::Done)
        }
        Err(refusal) => {
            tracing::warn!(pod = %key, ?subject, "the cloud did not take a report, it is sent again: {refusal}");
            (None, Verdict::Again)
        }
    }
}

/// Whether the API server has another pod of that name.
fn another_incarnation(refusal: &Refusal) -> bool {
    (refusal.code == 409 || refusal.reason == "Conflict")
        && refusal.message.contains("UID in precondition")
}

/// Says to the log, here and in the cloud, that a message makes no sense.
async fn refuse(e: &DecodeError, up: &mpsc::Sender<(MessageId, Upstream)>) {
    tracing::warn!("{e}");
    if let Ok(of) = e.id.parse() {
        let resource = e.route.resource.as_str().into();
        let refused = Upstream::Refused { of, resource, why: e.fault.to_string() };
        // Fails only when the session is ending.
        let _ = up.send((MessageId::random(), refused)).await;
    }
}

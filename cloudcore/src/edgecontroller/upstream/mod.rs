//! What edge nodes ask to be done at the API server.
//!
//! Owns: the workers, sharded by object, so that two changes of one object keep their order.
//! Called by: `cloudhub::dispatch`, which has judged whether the node may ask.
//! Never: waits for room in a queue on behalf of a node; the node is told and asks again.

mod csr;
mod event;
mod lease;
mod node;
mod pod;
mod query;
mod token;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::names::{Kind, MessageId, NodeName, ObjectKey, ResourceVersion};
use api::raw::RawJson;
use api::wire::downstream::{Reply, ReplyBody};
use api::wire::request::Request;
use api::wire::upstream::EventReport;
use parking_lot::Mutex;
use service::{Keyed, NotTaken, Service};
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::index::Index;
use crate::apiserver::{ApiError, ApiServer};
use crate::cloudhub::dispatch::{InWork, refusal};
use crate::cloudhub::registry::{Origin, Registry};
use crate::metrics::{Drop as Dropped, Metrics};
use crate::status::Passage;

/// Workers. Each waits for the API server most of the time.
const WORKERS: usize = 64;
/// Requests that wait for one worker.
const QUEUE: usize = 256;

/// One request of a node.
#[derive(Debug)]
pub struct Job {
    /// Who asks.
    pub origin: Origin,
    /// The message.
    pub id: MessageId,
    /// Its resource, as it came.
    pub resource: Box<str>,
    /// What is asked.
    pub work: Work,
    /// What the message takes of the memory for messages.
    pub memory: Option<OwnedSemaphorePermit>,
    /// Counts as in work until dropped.
    pub in_work: InWork,
    /// How the message came.
    pub passage: Passage,
}

/// What is asked.
#[derive(Debug)]
pub enum Work {
    /// Something that is answered.
    Request {
        /// It.
        request: Request,
        /// The object itself must show that it is the node's.
        check: bool,
    },
    /// Something that is not.
    Event(EventReport),
    /// On connect: which cloudcore serves the node.
    Served,
}

/// What the workers work with.
pub struct Context {
    /// The API server.
    pub api: ApiServer,
    /// Where answers go.
    pub registry: Arc<Registry>,
    /// What is known of pods and nodes.
    pub index: Arc<Mutex<Index>>,
    /// This cloudcore's address, for the annotation of nodes.
    pub address: String,
    /// The API server's CA as PEM; empty if it has none.
    pub api_ca: String,
    /// Counts.
    pub metrics: Metrics,
}

/// Takes jobs.
#[derive(Clone, Debug)]
pub struct Upstreams {
    keyed: Keyed<Job>,
    metrics: Metrics,
}

impl Upstreams {
    /// Starts the workers.
    pub fn spawn(svc: &mut Service, context: Arc<Context>) -> Self {
        let metrics = context.metrics.clone();
        let keyed = Keyed::spawn(svc, "edgecontroller-upstream", WORKERS, QUEUE, move |job| {
            let context = Arc::clone(&context);
            async move { context.run(job).await }
        });
        Self { keyed, metrics }
    }

    /// Takes a job, or gives it back if its worker has too many.
    ///
    /// # Errors
    /// The job.
    #[expect(clippy::result_large_err, reason = "whoever gets it back answers it at once")]
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let outcome = self.keyed.try_send(&ShardKey::of(&job), job);
        self.metrics.upstream_waiting.set(i64::try_from(self.keyed.waiting()).unwrap_or(i64::MAX));
        outcome.map_err(|e| match e {
            NotTaken::Full(job) | NotTaken::Stopped(job) => job,
        })
    }
}

/// Which object a job changes; jobs of one object are done one after the other.
#[derive(Debug, PartialEq, Eq)]
enum ShardKey {
    Object(ObjectKey),
    Token(String),
}

impl Hash for ShardKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            ShardKey::Object(key) => key.hash(state),
            ShardKey::Token(account) => account.hash(state),
        }
    }
}

impl ShardKey {
    fn of(job: &Job) -> Self {
        let node = |name: &NodeName| Self::Object(ObjectKey::cluster(Kind::Node, name.as_str()));
        // Apart from the node's own, so that a lease never waits behind a long status.
        let lease = |name: &NodeName| Self::Object(ObjectKey::cluster(Kind::Lease, name.as_str()));
        match &job.work {
            Work::Event(report) => Self::Object(report.key.clone()),
            Work::Served => node(&job.origin.node),
            Work::Request { request, .. } => match request {
                Request::RegisterNode { name, .. }
                | Request::PatchNode { name, .. }
                | Request::UpdateNode { name, .. }
                | Request::LegacyNodeStatus { name, .. } => node(name),
                Request::CreateLease { name, .. } | Request::UpdateLease { name, .. } => {
                    lease(name)
                }
                Request::Query(key) if key.kind == Kind::Lease => lease(&job.origin.node),
                Request::Query(key)
                | Request::CreatePod { key, .. }
                | Request::PatchPod { key, .. }
                | Request::DeletePod { key, .. }
                | Request::CreateCsr { key, .. } => Self::Object(key.clone()),
                Request::ServiceAccountToken { .. } => {
                    Self::Token(format!("{}/{}", job.origin.node, job.resource))
                }
                _ => node(&job.origin.node),
            },
        }
    }
}

/// A good answer.
pub(crate) struct Done {
    pub(crate) body: ReplyBody,
    pub(crate) version: Option<ResourceVersion>,
}

impl Done {
    /// `"OK"`
    fn ok() -> Self {
        Self { body: ReplyBody::Ok, version: None }
    }

    /// `{"Object": .., "Err": null}`
    fn object(object: RawJson) -> Self {
        Self { body: ReplyBody::Object { object, err: None }, version: None }
    }

    /// The same, with the object's version in the header.
    fn versioned(object: RawJson) -> Self {
        Self { version: version_of(&object), ..Self::object(object) }
    }

    /// The object itself.
    fn plain(object: RawJson) -> Self {
        Self { version: version_of(&object), body: ReplyBody::Plain(object) }
    }
}

fn version_of(object: &RawJson) -> Option<ResourceVersion> {
    object.head().ok()?.metadata.resource_version?.parse().ok()
}

/// A refusal with the words of the API server.
pub(crate) fn refused(code: u16, reason: &str, text: &str) -> ApiError {
    ApiError::Refused(kube::core::Status::failure(text, reason).with_code(code).boxed())
}

fn forbidden(text: &str) -> ApiError {
    refused(403, "Forbidden", text)
}

/// A patch or object that we make ourselves.
fn json(value: &serde_json::Value) -> RawJson {
    // Maps with string keys always have a JSON form.
    RawJson::of(value).unwrap_or_else(|_| RawJson::null())
}

impl Context {
    async fn run(&self, job: Job) {
        let node = job.origin.node.clone();
        let Job { origin, id, resource, work, memory, in_work, passage } = job;
        let status = self.registry.status();
        match work {
            Work::Request { request, check } => {
                let outcome = self.request(&node, &request, check).await;
                let error = outcome.as_ref().err().map(ToString::to_string);
                status.handled(&node, &request, &resource, error, &passage);
                let (body, version) = match outcome {
                    Ok(done) => (done.body, done.version),
                    Err(error) => {
                        debug!(%node, msg = %id, %resource, %error, "a request has failed");
                        (refusal(&request, &error), None)
                    }
                };
                self.registry.answer(&origin, Reply { parent: id, resource, version, body });
            }
            Work::Event(report) => {
                status.reported_event(&node, &crate::cloudhub::dispatch::event_of(&report));
                let outcome = event::record(self, &report).await;
                let said =
                    outcome.as_ref().err().map_or_else(|| "ok".to_owned(), ToString::to_string);
                status.heard(&node, "event", &report.key.to_string(), &said, &passage);
                if let Err(error) = outcome {
                    self.metrics.dropped(Dropped::NotAllowed, 1);
                    debug!(%node, event = %report.key, %error, "an event is lost");
                }
            }
            Work::Served => node::served(self, &node).await,
        }
        drop((memory, in_work));
    }

    async fn request(
        &self,
        node: &NodeName,
        request: &Request,
        check: bool,
    ) -> Result<Done, ApiError> {
        match request {
            Request::RegisterNode { name, node } => node::register(self, name, node).await,
            Request::PatchNode { name, patch } => node::patch_status(self, name, patch).await,
            Request::UpdateNode { name, node } => node::update(self, name, node).await,
            Request::LegacyNodeStatus { name, content } => {
                node::legacy_status(self, name, content).await
            }
            Request::CreateLease { name, lease } => lease::create(self, name, lease).await,
            Request::UpdateLease { name, lease } => lease::renew(self, name, lease).await,
            Request::CreatePod { key, pod } => pod::create_mirror(self, key, pod).await,
            Request::PatchPod { key, patch } => {
                pod::patch_status(self, node, key, patch, check).await
            }
            Request::DeletePod { key, uid, options } => {
                pod::delete(self, node, key, uid.as_ref(), options, check).await
            }
            Request::LegacyPodStatus { namespace, name, content } => {
                pod::legacy_status(self, node, namespace, name.as_deref(), content).await
            }
            Request::Query(key) => query::read(self, node, key, check).await,
            Request::ServiceAccountToken { namespace, account, request } => {
                token::request(self, namespace, account, request).await
            }
            Request::CreateCsr { key, csr } => csr::create(self, key, csr).await,
            Request::ApiServerCa if !self.api_ca.is_empty() => {
                Ok(Done { body: ReplyBody::Text(self.api_ca.clone()), version: None })
            }
            Request::ApiServerCa => {
                Err(refused(404, "NotFound", "cloudcore's kubeconfig names no CA"))
            }
        }
    }
}

#[cfg(test)]
mod tests;

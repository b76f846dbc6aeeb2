//! Jobs that run on edge nodes. So far: NodeUpgradeJob.
//!
//! ```text
//! watch ─► Jobs ◄─ hear() ◄─ cloudhub::dispatch          (what is wanted, what was said)
//!            │
//!          plan() ─► tasks to nodes (registry), one patch of the job's status
//! ```
//!
//! A job's status in the API server is the truth: what has not been written when cloudcore ends is
//! decided again by the next one. Reports that come while a job is written go into its next write,
//! so a job costs the API server at most two writes a second, however many nodes it has.
//!
//! Owns: the loop, and every write to a job.
//! Called by: `app.rs`; `cloudhub::dispatch` (reports).
//! Never: believes a node about another node; tells a node twice in one session.

mod jobs;
mod nodes;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind, NodeName, ObjectKey};
use api::raw::RawJson;
use api::wire::downstream::Downstream;
use api::wire::task::{ActionReport, JobKind, PathError, TaskPath};
use api::wire::{DecodeFault, Upstream};
use parking_lot::Mutex;
use serde_json::json;
use service::CancellationToken;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tracing::{debug, info, trace, warn};

use self::jobs::{FINALIZER, Jobs, Step};
use crate::apiserver::{ApiError, ApiServer, Patch, Path};
use crate::cloudhub::registry::{Origin, Registry};
use crate::metrics::{Drop as Dropped, Metrics};
use crate::object::{OPERATIONS, Object};
use crate::status::Passage;
use crate::watching::{self, PAUSE, Seen};

const PLURAL: &str = "nodeupgradejobs";
/// How often it is looked whether somebody has installed the kind.
const ABSENT: Duration = Duration::from_secs(30);
/// What the last writes may take when cloudcore stops.
const LAST: Duration = Duration::from_secs(3);

/// Why a report was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("this kind of report is of an older version, which is not spoken")]
    Old,
    #[error("it is about another node")]
    NotYours,
    #[error("jobs of this kind are not served")]
    Kind,
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Content(#[from] DecodeFault),
    #[error(transparent)]
    Report(#[from] jobs::ReportError),
}

/// See the module.
#[derive(Clone)]
pub struct TaskManager {
    api: ApiServer,
    registry: Arc<Registry>,
    jobs: Arc<Mutex<Jobs>>,
    /// There may be something to do.
    wake: Arc<Notify>,
    metrics: Metrics,
}

impl std::fmt::Debug for TaskManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskManager")
    }
}

impl TaskManager {
    /// No job is known yet.
    pub fn new(api: ApiServer, registry: Arc<Registry>, metrics: Metrics) -> Self {
        Self { api, registry, jobs: Arc::default(), wake: Arc::default(), metrics }
    }

    /// Deals with a report on a step, and with no other message. `from` is the node of the
    /// certificate.
    pub fn hear(&self, from: &Origin, said: Upstream, passage: &Passage) {
        let Upstream::TaskStatus { resource, operation, content } = said else { return };
        let shown = self.registry.status();
        let node = &from.node;
        match self.take(from, &resource, &operation, &content) {
            Ok(()) => {
                shown.heard(node, "jobreport", &resource, "ok", passage);
                self.wake.notify_one();
            }
            Err(refused) => {
                shown.heard(node, "jobreport", &resource, &refused.to_string(), passage);
                self.metrics.dropped(refused.counts_as(), 1);
                shown.dropped(node, 1);
                let resource = resource.escape_debug();
                warn!(%node, %resource, why = %refused, "the report on a job is refused");
            }
        }
    }

    fn take(
        &self,
        from: &Origin,
        resource: &str,
        operation: &str,
        content: &RawJson,
    ) -> Result<(), Refused> {
        if !ActionReport::is_operation(operation) {
            return Err(Refused::Old);
        }
        let path: TaskPath = resource.parse()?;
        if path.node != from.node {
            return Err(Refused::NotYours);
        }
        if path.kind != JobKind::NodeUpgrade {
            return Err(Refused::Kind);
        }
        let report = ActionReport::read(content)?;
        trace!(node = %path.node, job = %path.job, step = report.action, well = report.succ, "a step has ended");
        Ok(self.jobs.lock().heard(&path.job, path.node, report, Instant::now())?)
    }

    /// Watches, and does what jobs want, until told to stop.
    pub async fn run(self, stopping: CancellationToken) {
        let work = async {
            self.installed().await;
            tokio::join!(self.watch(), self.work(), self.connections());
        };
        tokio::select! {
            () = work => {}
            () = stopping.cancelled() => {}
        }
        // Nodes do not say again what they have reported.
        let last = async {
            loop {
                let waiting = self.jobs.lock().reported();
                let Some(job) = waiting else { break };
                if !self.advance(&job, false).await {
                    break;
                }
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            warn!("reports on jobs could not be written before the end");
        }
    }

    /// Returns once the API server knows the kind.
    async fn installed(&self) {
        let Ok(path) = Path::of(OPERATIONS, PLURAL, None) else { return };
        let path = path.query("limit=1");
        let (mut told, mut attempt) = (false, 0);
        loop {
            let pause = match self.api.get(&path).await {
                Ok(_) => return,
                Err(error) if error.is_not_found() => {
                    if !std::mem::replace(&mut told, true) {
                        info!("the API server does not know NodeUpgradeJob; none is served");
                    }
                    ABSENT
                }
                Err(error) => {
                    debug!(%error, "it cannot be seen whether there are jobs");
                    attempt += 1;
                    PAUSE.next_delay(attempt)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn watch(&self) {
        let on = |seen| {
            let now = Instant::now();
            let mut jobs = self.jobs.lock();
            match seen {
                Seen::Begin => jobs.begin_reset(),
                Seen::Listed => jobs.finish_reset(),
                Seen::There(object) => {
                    if let Err(error) = jobs.apply(&object, now) {
                        let name = &*object.key.name;
                        warn!(job = name, %error, "a NodeUpgradeJob is skipped");
                        self.metrics.dropped(Dropped::ObjectUnreadable, 1);
                    }
                }
                Seen::Gone(object) => jobs.delete(&object.key.name),
            }
            self.registry.status().upgrades(jobs.rows());
            self.wake.notify_one();
        };
        watching::watch(&self.api, &self.metrics, &Kind::NodeUpgradeJob, None, on).await;
    }

    /// A job may wait for a node to come back.
    async fn connections(&self) {
        let mut connections = self.registry.connections();
        loop {
            match connections.recv().await {
                Ok(node) => self.jobs.lock().connected(Some(&node), Instant::now()),
                Err(RecvError::Lagged(_)) => self.jobs.lock().connected(None, Instant::now()),
                Err(RecvError::Closed) => return,
            }
            self.wake.notify_one();
        }
    }

    async fn work(&self) {
        loop {
            let (due, next) = self.jobs.lock().due(Instant::now());
            if let Some(job) = due {
                self.advance(&job, true).await;
                continue;
            }
            let at = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = at => {}
            }
        }
    }

    /// Brings a job one write further; whether nothing went wrong. Without `start` no node is told
    /// to begin.
    async fn advance(&self, job: &str, start: bool) -> bool {
        let outcome = self.step(job, start).await;
        let now = Instant::now();
        let well = match outcome {
            Ok(()) => true,
            Err(error) if error.is_not_found() => {
                self.jobs.lock().delete(job);
                true
            }
            Err(error) => {
                // Somebody else has written it: what they wrote is where the next attempt begins.
                let conflict = error.is_conflict();
                if !conflict {
                    warn!(job, %error, "a NodeUpgradeJob could not be written; it is tried again");
                }
                if conflict && self.reread(job).await.is_ok() {
                    debug!(job, "somebody else has written it; it is looked at anew");
                }
                self.jobs.lock().failed(job, now);
                false
            }
        };
        self.registry.status().upgrades(self.jobs.lock().rows());
        well
    }

    async fn step(&self, job: &str, start: bool) -> Result<(), ApiError> {
        let step = {
            let link = |node: &NodeName| self.registry.session(node);
            self.jobs.lock().plan(job, start, &link, Instant::now())
        };
        let path = || Path::object(&ObjectKey::cluster(Kind::NodeUpgradeJob, job));
        match step {
            Step::Nothing => Ok(()),
            Step::Finalizers { version, finalizers } => {
                let meta = json!({ "resourceVersion": version, "finalizers": finalizers });
                let patch = body(&json!({ "metadata": meta }));
                let object = self.api.patch(&path()?, Patch::Merge, &patch).await?;
                if finalizers.iter().any(|f| f == FINALIZER) {
                    self.read(object);
                } else {
                    info!(job, "the job is gone");
                    self.jobs.lock().delete(job);
                }
                Ok(())
            }
            Step::Resolve(spec) => {
                let status = nodes::resolve(&self.api, &spec).await?;
                info!(job, nodes = status.node_status.len(), "a NodeUpgradeJob begins");
                self.jobs.lock().resolved(job, status, Instant::now());
                Ok(())
            }
            Step::Write { version, status, tasks, reports } => {
                for (path, task) in tasks {
                    info!(job, node = %path.node, "the node is told to upgrade");
                    self.registry.say(&path.node, Downstream::Task(task));
                }
                let patch = body(&json!({
                    "metadata": { "resourceVersion": version }, "status": status,
                }));
                let object =
                    self.api.patch(&path()?.named("status")?, Patch::Merge, &patch).await?;
                self.jobs.lock().wrote(job, reports, Instant::now());
                self.read(object);
                Ok(())
            }
        }
    }

    async fn reread(&self, job: &str) -> Result<(), ApiError> {
        let path = Path::object(&ObjectKey::cluster(Kind::NodeUpgradeJob, job))?;
        self.read(self.api.get(&path).await?);
        Ok(())
    }

    fn read(&self, object: RawJson) {
        if let Ok(object) = Object::read(Kind::NodeUpgradeJob, object.get()) {
            // The watch says what is wrong with it.
            let _ = self.jobs.lock().apply(&object, Instant::now());
        }
    }
}

impl Refused {
    fn counts_as(&self) -> Dropped {
        match self {
            Refused::Old | Refused::Kind => Dropped::Unsupported,
            Refused::NotYours => Dropped::NotAllowed,
            Refused::Path(_) | Refused::Content(_) => Dropped::Undecodable,
            Refused::Report(jobs::ReportError::Full) => Dropped::QueueFull,
            Refused::Report(jobs::ReportError::Unknown) => Dropped::NotAllowed,
        }
    }
}

fn body(value: &serde_json::Value) -> RawJson {
    // Maps with string keys always have a JSON form.
    RawJson::of(value).unwrap_or_else(|_| RawJson::null())
}

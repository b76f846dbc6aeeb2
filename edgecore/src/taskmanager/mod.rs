//! Node jobs: the edge half. There is one kind, the upgrade of this node.
//!
//! ```text
//! Check ─► WaitingConfirmation ─► BackUp ─► Upgrade ─(failed)─► RollBack
//!              └ stops here if the job wants it, until somebody agrees
//! ```
//!
//! Owns: the job that is being carried out, at most one, and the one that waits.
//! Called by: `edgehub::dispatch` (jobs), edged's local API (confirmations).
//! Never: replaces a program or stops a service: commands of keadm do, which outlive edgecore.

mod check;
mod command;
mod fetch;
mod job;
pub mod report;
mod state;
mod store;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use api::crd::operations::NodeUpgradeJobSpec;
use api::names::NodeName;
use api::raw::RawJson;
use api::status::upgrades::WAITING;
use api::wire::downstream::Task;
use api::wire::task::{ActionReport, JobKind, TaskPath};
use service::CancellationToken;
use tokio::sync::{mpsc, oneshot, watch};

use self::job::{Action, Next, Outcome, Said, Target};
pub use self::job::{is_digest, is_version};
use self::state::{Job, State, StateFile, Unsent};
use crate::edged::runtime::ContainerRuntime;
use crate::edgehub::ToCloud;
use crate::metamanager::Store;
use crate::status::Status;

/// What is said when nobody has to agree to anything, in KubeEdge's words.
pub(crate) const NONE_WAITS: &str = "there are no valid upgrade tasks to execute";
/// Jobs that wait to be looked at; the cloud's messages wait then.
const ORDERS: usize = 16;
/// A step that edgecore was killed in is begun anew, but not for ever.
const TRIES: u32 = 2;
/// The longest job that is looked at, in bytes. It names all nodes that it is for.
const MAX_SPEC: usize = 1 << 20;
/// How the cloud has it, too, once a job has failed.
const FAILURE: &str = "Failure";
/// The longest reason that the cloud is told, in characters.
const REASON: usize = 1024;

/// Where a node's installation lies, for jobs that change it.
#[derive(Debug, Clone)]
pub struct JobPaths {
    /// `/etc/kubeedge`
    pub etc: PathBuf,
    /// The installed keadm, which carries out the steps.
    pub program: PathBuf,
    /// What its command lines begin with.
    pub arguments: Vec<OsString>,
    /// Where what it says is kept.
    pub log: PathBuf,
}

impl JobPaths {
    /// Where the program of a version lies.
    fn upgrade(&self, version: &str) -> PathBuf {
        self.etc.join("upgrade").join(version)
    }
}

/// Why a node carries out no jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoJobs {
    /// As the configuration says.
    #[error(
        "node jobs are switched off on this node; `modules.taskManager.enable` in edgecore.yaml \
         switches them on"
    )]
    Off,
    /// `keadm up`, a test.
    #[error(
        "this edgecore is not a service that `keadm join` has installed, and cannot be upgraded"
    )]
    NotInstalled,
    /// Where would the image come from?
    #[error(
        "edged is switched off on this node, and so there is no container runtime for the image"
    )]
    NoRuntime,
}

/// How to reach the task manager; clones share it.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Order>);

/// What it is asked for.
#[derive(Debug)]
enum Order {
    Task(Task),
    /// Somebody agrees to what waits, or only asks what that is. The answer is the job's name, or
    /// why there is none.
    Confirm {
        dry: bool,
        answer: oneshot::Sender<Result<String, String>>,
    },
    /// The new program for `keadm upgrade edge`.
    Fetch(Target, oneshot::Sender<Result<PathBuf, String>>),
}

impl Handle {
    /// What the cloud sent.
    pub(crate) async fn task(&self, task: Task) {
        // Fails only when edgecore is stopping; the cloud sends it again.
        let _ = self.0.send(Order::Task(task)).await;
    }

    /// Lets the upgrade that waits go on, unless it is a dry run; returns the name of its job.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn confirm(&self, dry: bool) -> Result<String, String> {
        self.ask(|answer| Order::Confirm { dry, answer }).await
    }

    /// Gets the program of a version out of an image; returns where it lies.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(crate) async fn fetch(
        &self,
        version: &str,
        image: &str,
        digest: Option<String>,
    ) -> Result<PathBuf, String> {
        if let Some(digest) = digest.as_deref().filter(|d| !job::is_digest(d)) {
            let digest = api::printable::printable(digest, 128);
            return Err(format!("invalid image digest `{digest}`"));
        }
        let target = Target::new(version, image, digest)?;
        self.ask(|answer| Order::Fetch(target, answer)).await
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Order,
    ) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let stopping = || "edgecore is stopping".to_owned();
        self.0.send(order(answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}

/// Answers a task that is not carried out.
pub(crate) fn refuse(task: &Task, node: &NodeName, why: &str, to_cloud: &ToCloud) {
    let said = || -> Option<()> {
        let path: TaskPath = task.resource.parse().ok()?;
        if path.node != *node {
            return None;
        }
        let report = ActionReport {
            action: printable(&task.operation, 64),
            succ: false,
            finish_time: now(),
            reason: why.to_owned(),
            extend: String::new(),
        };
        to_cloud.task(path.report(&report));
        Some(())
    };
    let told = said().is_some();
    let job = printable(&task.resource, 256);
    tracing::warn!(job, why, told, "a node job is not carried out");
}

fn printable(text: &str, limit: usize) -> String {
    api::printable::printable(text, limit).to_string()
}

/// The time, in whole seconds.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What the task manager works with.
pub(crate) struct Means {
    pub(crate) node: NodeName,
    pub(crate) store: Store,
    /// The file of the store.
    pub(crate) database: PathBuf,
    pub(crate) to_cloud: ToCloud,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) paths: JobPaths,
    /// What is shown on this machine.
    pub(crate) shown: Status,
}

impl Means {
    /// Shows the upgrade that waits, if one does. Since when is not kept.
    async fn show_waiting(&self) {
        if let Ok(Some((path, text))) = store::waiting(&self.store, &self.node).await
            && let Ok(spec) = serde_json::from_str::<NodeUpgradeJobSpec>(&text)
        {
            self.shown.upgrade(Some(job::row(&path, &spec, WAITING, "", None)));
        }
    }
}

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Fetching = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module.
pub(crate) struct TaskManager {
    means: Means,
    orders: mpsc::Receiver<Order>,
    sent: watch::Receiver<u64>,
    file: StateFile,
    state: State,
    /// The step of the job in `state`.
    running: Option<Running>,
    /// For a command of this machine.
    fetching: Option<Fetching>,
}

impl TaskManager {
    /// One that knows what an earlier edgecore was at, and how to reach it.
    pub(crate) fn new(means: Means) -> (Self, Handle) {
        let (tell, orders) = mpsc::channel(ORDERS);
        let file = StateFile::beside(&means.database);
        let (state, sent) = (file.load(), means.to_cloud.tasks_sent());
        let manager = Self { means, orders, sent, file, state, running: None, fetching: None };
        (manager, Handle(tell))
    }

    /// Carries out jobs until edgecore stops. A command that runs then goes on without it.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        self.resume();
        if self.state.job.is_none() {
            self.means.show_waiting().await;
        }
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                Some(order) = self.orders.recv() => self.order(order).await,
                outcome = wait(&mut self.running) => self.ended(outcome).await,
                () = wait(&mut self.fetching) => {}
                Ok(()) = self.sent.changed() => self.forget_sent(),
            }
        }
    }

    /// Goes on where an earlier edgecore was ended.
    fn resume(&mut self) {
        let mut unsent = std::mem::take(&mut self.state.unsent);
        for kept in &mut unsent {
            if let Ok(path) = kept.path.parse::<TaskPath>() {
                kept.number = self.means.to_cloud.task(path.report(&kept.report));
            }
        }
        self.state.unsent = unsent;
        let Some(job) = self.state.job.clone() else { return };
        tracing::info!(job = job.path, step = job.action.as_str(), "going on with a node job");
        match job.action {
            Action::Upgrade | Action::RollBack => {
                let paths = self.means.paths.clone();
                let (action, tries) = (job.action, job.begun);
                let again = Target::of(&job.spec).map(|t| t.version);
                self.running = Some(Box::pin(async move {
                    match command::resume(action, paths.clone()).await {
                        Some(outcome) => outcome,
                        // A power cut, for example; a second one in the same step is no accident.
                        None if tries < TRIES => match again {
                            Ok(version) => command::run(action, version, paths).await,
                            Err(why) => Outcome::failed(why),
                        },
                        None => Outcome::failed(format!(
                            "edgecore and its command were ended in this step {tries} times"
                        )),
                    }
                }));
                self.count_begin();
            }
            action => self.begin(action),
        }
    }

    fn count_begin(&mut self) {
        if let Some(job) = &mut self.state.job {
            job.begun += 1;
        }
        self.keep();
        if let Some(job) = &self.state.job
            && let Ok(path) = job.path.parse::<TaskPath>()
        {
            self.show(&path, &job.spec, job.action.as_str(), "");
        }
    }

    /// What is seen of the upgrade on this machine.
    fn show(&self, path: &TaskPath, spec: &NodeUpgradeJobSpec, state: &str, why: &str) {
        let since = Some(jiff::Timestamp::now().as_millisecond());
        self.means.shown.upgrade(Some(job::row(path, spec, state, why, since)));
    }

    fn keep(&self) {
        if let Err(e) = self.file.store(&self.state) {
            tracing::error!(error = %e, "where a node job stands cannot be kept");
        }
    }

    fn forget_sent(&mut self) {
        let sent = *self.sent.borrow_and_update();
        self.state.unsent.retain(|u| u.number > sent);
        self.keep();
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Task(task) => self.task(task).await,
            Order::Confirm { dry, answer } => {
                let _ = answer.send(self.confirm(dry).await);
            }
            Order::Fetch(target, answer) => {
                if self.fetching.is_some() || self.running.is_some() {
                    let _ = answer.send(Err("another upgrade is being prepared".to_owned()));
                    return;
                }
                let (paths, runtime) = (self.means.paths.clone(), self.means.runtime.clone());
                self.fetching = Some(Box::pin(async move {
                    let _ = answer.send(fetch::program(&target, &paths, &*runtime).await);
                }));
            }
        }
    }

    async fn task(&mut self, task: Task) {
        let Means { node, to_cloud, store, .. } = &self.means;
        let path = match task.resource.parse::<TaskPath>() {
            Ok(path) if path.node == *node => path,
            Ok(_) => return refuse(&task, node, "it is another node's", to_cloud),
            Err(e) => return refuse(&task, node, &e.to_string(), to_cloud),
        };
        match path.kind {
            JobKind::NodeUpgrade => {}
            JobKind::ImagePrePull | JobKind::ConfigUpdate => {
                let kind = path.kind.as_str();
                let why = format!("this edgecore carries out no jobs of the kind {kind}");
                return refuse(&task, node, &why, to_cloud);
            }
        }
        if &*task.operation != Action::Check.as_str() {
            let step = printable(&task.operation, 64);
            let why = format!("a job begins with Check, and not with `{step}`");
            return refuse(&task, node, &why, to_cloud);
        }
        if task.content.get().len() > MAX_SPEC {
            let why = format!("the job is longer than {MAX_SPEC} bytes");
            return refuse(&task, node, &why, to_cloud);
        }
        let spec: NodeUpgradeJobSpec = match task.content.to() {
            Ok(spec) => spec,
            Err(e) => {
                let why = format!("the job cannot be read: {}", printable(&e.to_string(), 256));
                return refuse(&task, node, &why, to_cloud);
            }
        };
        if let Some(running) = &self.state.job {
            if running.path == path.to_string() {
                tracing::info!(job = running.path, "a node job came again while it is carried out");
                return;
            }
            let why = format!("the job `{}` is being carried out", running.path);
            return refuse(&task, node, &why, to_cloud);
        }
        if self.fetching.is_some() || command::is_locked(&self.means.paths.etc) {
            let why = "a command on this node is upgrading it";
            return refuse(&task, node, why, to_cloud);
        }
        if let Ok(Some((waits, text))) = store::waiting(store, node).await
            && waits == path
            && serde_json::from_str(&text).is_ok_and(|waits: NodeUpgradeJobSpec| waits == spec)
        {
            let said = Said { action: Action::WaitingConfirmation, result: Ok(()), versions: None };
            self.say(&path, said);
            return;
        }
        self.state.job =
            Some(Job { path: path.to_string(), spec, action: Action::Check, begun: 0 });
        self.begin(Action::Check);
    }

    /// Somebody agrees.
    async fn confirm(&mut self, dry: bool) -> Result<String, String> {
        let Means { node, store, .. } = &self.means;
        if self.state.job.is_some() {
            return Err(NONE_WAITS.to_owned());
        }
        let found = store::waiting(store, node).await;
        let found = found.map_err(|e| service::error_chain(&e))?;
        let (path, text) = found.ok_or(NONE_WAITS)?;
        if dry {
            return Ok(path.job.to_string());
        }
        let spec: NodeUpgradeJobSpec =
            serde_json::from_str(&text).map_err(|e| format!("what waits cannot be read: {e}"))?;
        // Kept before it is taken from the database: a kill in between loses nothing.
        let (action, job) = (Action::BackUp, path.job.to_string());
        self.state.job = Some(Job { path: path.to_string(), spec, action, begun: 0 });
        self.begin(action);
        if let Err(e) = store::done(&self.means.store).await {
            let error = service::error_chain(&e);
            tracing::error!(error, "an upgrade that goes on is still said to wait");
        }
        Ok(job)
    }

    fn begin(&mut self, action: Action) {
        let Some(job) = &mut self.state.job else { return };
        if job.action != action {
            (job.action, job.begun) = (action, 0);
        }
        let (spec, paths) = (job.spec.clone(), self.means.paths.clone());
        let runtime = self.means.runtime.clone();
        self.running = Some(Box::pin(async move {
            match (Target::of(&spec), action) {
                (Err(why), _) => Outcome::failed(why),
                (Ok(target), Action::Check) => {
                    let checked = match check::usage(&spec.check_items).await {
                        Ok(()) => fetch::program(&target, &paths, &*runtime).await.map(drop),
                        Err(why) => Err(why),
                    };
                    Outcome { result: checked, versions: None, rolled_back: false }
                }
                (Ok(target), action) => command::run(action, target.version, paths).await,
            }
        }));
        self.count_begin();
    }

    /// A step has ended: the cloud is told, and the next one begins.
    async fn ended(&mut self, outcome: Outcome) {
        let Some(job) = self.state.job.clone() else { return };
        let Ok(path) = job.path.parse::<TaskPath>() else { return };
        let confirm = job.spec.require_confirmation.unwrap_or(false);
        let (said, next) = job::after(job.action, confirm, outcome);
        if next == Next::Wait {
            let spec = RawJson::of(&job.spec).unwrap_or_else(|_| RawJson::null());
            if let Err(e) = store::wait(&self.means.store, &path, spec).await {
                let why = format!("the job cannot be kept: {}", service::error_chain(&e));
                self.state.job = None;
                self.show(&path, &job.spec, FAILURE, &why);
                self.say(&path, Said { action: job.action, result: Err(why), versions: None });
                return;
            }
        }
        let why = said.iter().find_map(|said| said.result.as_ref().err().cloned());
        if !matches!(next, Next::Run(_)) {
            self.state.job = None;
        }
        for said in said {
            self.say(&path, said);
        }
        match (next, why) {
            (Next::Run(action), _) => self.begin(action),
            (Next::Wait, _) => self.show(&path, &job.spec, WAITING, ""),
            (Next::End, None) if job.action == Action::Upgrade => self.means.shown.upgrade(None),
            (Next::End, why) => {
                let why = why.unwrap_or_else(|| "it was rolled back".to_owned());
                self.show(&path, &job.spec, FAILURE, &why);
                // Another one may have waited all the time.
                self.means.show_waiting().await;
            }
        }
    }

    /// Reports a step, and keeps the report until it is written to the socket.
    fn say(&mut self, path: &TaskPath, said: Said) {
        let reason = said.result.as_ref().err().map(|why| printable(why, REASON));
        let step = said.action.as_str();
        match &reason {
            None => tracing::info!(job = %path, step, "a step of a node job has gone well"),
            Some(why) => tracing::warn!(job = %path, step, why, "a step of a node job has failed"),
        }
        let report = ActionReport {
            action: step.to_owned(),
            succ: said.result.is_ok(),
            finish_time: now(),
            reason: reason.unwrap_or_default(),
            extend: said.versions.map(|v| v.to_string()).unwrap_or_default(),
        };
        let number = self.means.to_cloud.task(path.report(&report));
        self.state.unsent.push(Unsent { path: path.to_string(), report, number });
        self.keep();
    }
}

/// Waits for a future that may not be there; it is gone afterwards.
async fn wait<T>(running: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    let Some(future) = running else { return std::future::pending().await };
    let done = future.await;
    *running = None;
    done
}

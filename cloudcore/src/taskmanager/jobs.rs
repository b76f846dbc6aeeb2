//! The jobs that there are, what was reported of them, and what follows. Pure.
//!
//! Owns: a copy of each job, and the reports that its status does not have yet.
//! Called by: `mod.rs`, under its lock.
//! Never: does I/O, or reads a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use api::crd::operations::{
    JobPhase, NodePhase, NodeUpgradeJobSpec, NodeUpgradeJobStatus, NodeUpgradeStatus, UpgradeAction,
};
use api::names::{NodeName, ResourceVersion, Uid};
use api::raw::RawJson;
use api::status::row::{Millis, Upgrade};
use api::status::upgrades::{self, JobView, waits_for_confirmation};
use api::wire::downstream::Task;
use api::wire::task::{ActionReport, JobKind, TaskPath};
use serde::Deserialize;
use serde_json::{Value, json};
use service::backoff::Backoff;
use tokio::time::Instant;
use tracing::debug;

use super::upgrade;
use crate::object::Object;

/// Keeps a deleted job until no more nodes are started for it.
pub(super) const FINALIZER: &str = "kubeedge.io/nodeupgradejob-controller";
/// Between two writes of one job.
const EVERY: Duration = Duration::from_millis(500);
/// After a failed write.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// How long a node whose turn it is may take to connect: after a restart of cloudcore they all come
/// back, one after the other.
const CONNECT: Duration = Duration::from_secs(60);
/// A node that has connected again and has not reported anything is told again after that, since
/// what it was told may be lost. What it has to report it reports sooner.
const SETTLE: Duration = Duration::from_secs(5);
/// Reports that wait for one write.
const REPORTS: usize = 4096;

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReportError {
    #[error("there is no such job, or the node is not part of it")]
    Unknown,
    #[error("too many reports wait to be written")]
    Full,
}

/// What is to be done for a job.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing, for now.
    Nothing,
    /// Set these finalizers.
    Finalizers { version: String, finalizers: Vec<String> },
    /// Find out which nodes it is about.
    Resolve(Box<NodeUpgradeJobSpec>),
    /// Tell nodes to begin, and write its status, which has the first so many reports then.
    Write { version: String, status: Value, tasks: Vec<(TaskPath, Task)>, reports: usize },
}

/// What is remembered of a node of a job, and is not in the job's status.
#[derive(Debug, Default)]
struct Memory {
    /// The session in which it was told to begin.
    sent: Option<u64>,
    /// A later session, and since when it is known.
    settling: Option<(u64, Instant)>,
    /// When it was told to begin, or last heard.
    heard: Option<Instant>,
    /// Since when it is its turn and it is not connected.
    awaited: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    uid: Uid,
    version: ResourceVersion,
    deleting: bool,
    finalizers: Vec<String>,
    created: Option<Millis>,
    /// As it was written, for the nodes.
    spec_text: RawJson,
    spec: NodeUpgradeJobSpec,
    status: Option<NodeUpgradeJobStatus>,
    /// The first status, while it is not written.
    resolved: Option<NodeUpgradeJobStatus>,
    reports: VecDeque<(NodeName, ActionReport)>,
    nodes: HashMap<String, Memory>,
    due: Option<Instant>,
    not_before: Instant,
    failures: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    all: BTreeMap<Box<str>, Entry>,
    /// Whether there was a whole list.
    listed: bool,
    /// While a watch lists anew: what has been seen so far.
    seen: Option<BTreeSet<Box<str>>>,
    /// Reports that came before the first list was whole.
    early: Vec<(Box<str>, NodeName, ActionReport)>,
}

#[derive(Deserialize)]
struct Text {
    metadata: Meta,
    spec: RawJson,
    status: Option<RawJson>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    creation_timestamp: Option<String>,
    finalizers: Vec<String>,
}

impl Jobs {
    /// All jobs are listed anew from here on.
    pub(super) fn begin_reset(&mut self) {
        self.seen = Some(BTreeSet::new());
    }

    /// The list is complete: what was not in it is gone.
    pub(super) fn finish_reset(&mut self) {
        if let Some(seen) = self.seen.take() {
            self.all.retain(|name, _| seen.contains(name));
        }
        self.listed = true;
        for (job, node, report) in std::mem::take(&mut self.early) {
            if let Some(entry) = self.all.get_mut(&job) {
                entry.reports.push_back((node, report));
                earlier(&mut entry.due, entry.not_before);
            }
        }
    }

    /// It is there, new or changed.
    ///
    /// # Errors
    /// When it is no NodeUpgradeJob.
    pub(super) fn apply(&mut self, object: &Object, now: Instant) -> Result<(), serde_json::Error> {
        let name = &object.key.name;
        if let Some(seen) = &mut self.seen {
            seen.insert(name.clone());
        }
        let known = self.all.get(name).filter(|entry| entry.uid == object.uid);
        // What was written here comes back later.
        if known.is_some_and(|entry| object.version <= entry.version) {
            return Ok(());
        }
        let text: Text = object.text.to()?;
        let spec = text.spec.to()?;
        // A status of the older version of the kind counts as none.
        let status = text.status.and_then(|status| status.to().ok());
        let created = text.metadata.creation_timestamp.as_deref();
        let created =
            created.and_then(|t| Some(t.parse::<jiff::Timestamp>().ok()?.as_millisecond()));
        let fresh = || Entry {
            uid: object.uid.clone(),
            version: object.version,
            deleting: false,
            finalizers: Vec::new(),
            created,
            spec_text: RawJson::null(),
            spec: NodeUpgradeJobSpec::default(),
            status: None,
            resolved: None,
            reports: VecDeque::new(),
            nodes: HashMap::new(),
            due: None,
            not_before: now,
            failures: 0,
        };
        if known.is_none() {
            self.all.insert(name.clone(), fresh());
        }
        let Some(entry) = self.all.get_mut(name) else { return Ok(()) };
        entry.version = object.version;
        entry.deleting = object.deleting;
        entry.finalizers = text.metadata.finalizers;
        (entry.spec, entry.spec_text, entry.status) = (spec, text.spec, status);
        entry.wake(now);
        Ok(())
    }

    /// It is gone.
    pub(super) fn delete(&mut self, name: &str) {
        self.all.remove(name);
    }

    /// A node has reported a step.
    ///
    /// # Errors
    /// When it has nothing to report there, or too much is waiting.
    pub(super) fn heard(
        &mut self,
        job: &str,
        node: NodeName,
        report: ActionReport,
        now: Instant,
    ) -> Result<(), ReportError> {
        if !self.listed {
            if self.early.len() >= REPORTS {
                return Err(ReportError::Full);
            }
            self.early.push((job.into(), node, report));
            return Ok(());
        }
        let entry = self.all.get_mut(job).filter(|e| !e.deleting).ok_or(ReportError::Unknown)?;
        let is_part = |status: &NodeUpgradeJobStatus| {
            status.node_status.iter().any(|n| n.node_name.as_deref() == Some(node.as_str()))
        };
        if !entry.known().is_none_or(is_part) {
            return Err(ReportError::Unknown);
        }
        if entry.reports.len() >= REPORTS {
            return Err(ReportError::Full);
        }
        entry.reports.push_back((node, report));
        entry.wake(now);
        Ok(())
    }

    /// A node has connected, or any might have.
    pub(super) fn connected(&mut self, node: Option<&NodeName>, now: Instant) {
        for entry in self.all.values_mut() {
            let status = entry.known().map(|s| s.node_status.as_slice()).unwrap_or_default();
            let waits = status.iter().any(|n| {
                let open = matches!(n.phase, Some(NodePhase::Pending | NodePhase::InProgress));
                open && node.is_none_or(|node| n.node_name.as_deref() == Some(node.as_str()))
            });
            if waits {
                entry.wake(now);
            }
        }
    }

    /// A job whose time has come; else when the next one's comes.
    pub(super) fn due(&self, now: Instant) -> (Option<String>, Option<Instant>) {
        let first = self.all.iter().filter_map(|(name, e)| Some((e.due?, name))).min();
        match first {
            Some((at, name)) if at <= now => (Some(name.to_string()), None),
            first => (None, first.map(|(at, _)| at)),
        }
    }

    /// A job with reports that are not written.
    pub(super) fn reported(&self) -> Option<String> {
        let first = self.all.iter().find(|(_, entry)| !entry.reports.is_empty());
        first.map(|(name, _)| name.to_string())
    }

    /// Which nodes it is about, as found out.
    pub(super) fn resolved(&mut self, job: &str, status: NodeUpgradeJobStatus, now: Instant) {
        if let Some(entry) = self.all.get_mut(job) {
            entry.resolved = Some(status);
            entry.due = Some(now);
        }
    }

    /// A status was written, with so many reports in it.
    pub(super) fn wrote(&mut self, job: &str, reports: usize, now: Instant) {
        if let Some(entry) = self.all.get_mut(job) {
            entry.reports.drain(..reports.min(entry.reports.len()));
            entry.resolved = None;
            entry.failures = 0;
            entry.not_before = now + EVERY;
        }
    }

    /// A job could not be brought further.
    pub(super) fn failed(&mut self, job: &str, now: Instant) {
        if let Some(entry) = self.all.get_mut(job) {
            entry.not_before = now + RETRY.next_delay(entry.failures);
            entry.due = Some(entry.not_before);
            entry.failures += 1;
        }
    }

    /// What is shown of nodes.
    pub(super) fn rows(&self) -> BTreeMap<String, Upgrade> {
        upgrades::rows(self.all.iter().filter(|(_, entry)| !entry.deleting).filter_map(
            |(name, entry)| {
                let (created, spec) = (entry.created, &entry.spec);
                Some(JobView { name, created, spec, status: entry.known()? })
            },
        ))
    }

    /// What is to be done for a job. `link` says in which session a node is connected; no node is
    /// told to begin if not `start`.
    pub(super) fn plan(
        &mut self,
        job: &str,
        start: bool,
        link: &dyn Fn(&NodeName) -> Option<u64>,
        now: Instant,
    ) -> Step {
        let Some(entry) = self.all.get_mut(job) else { return Step::Nothing };
        entry.due = None;
        let version = entry.version.to_string();
        let ours = entry.finalizers.iter().any(|f| f == FINALIZER);
        if entry.deleting {
            entry.reports.clear();
            if !ours {
                return Step::Nothing;
            }
            let mut finalizers = entry.finalizers.clone();
            finalizers.retain(|f| f != FINALIZER);
            return Step::Finalizers { version, finalizers };
        }
        if !ours {
            let mut finalizers = entry.finalizers.clone();
            finalizers.push(FINALIZER.to_owned());
            return Step::Finalizers { version, finalizers };
        }
        let Some(mut status) = entry.known().cloned() else {
            return Step::Resolve(Box::new(entry.spec.clone()));
        };
        let reports = entry.reports.len();
        entry.take_reports(&mut status, now);
        entry.give_up_on_the_silent(&mut status, now);
        let mut tasks = Vec::new();
        if start {
            let told = entry.begin(&mut status, link, now);
            tasks.extend(told.into_iter().map(|node| {
                let path = TaskPath { kind: JobKind::NodeUpgrade, job: job.into(), node };
                let task = path.begin(UpgradeAction::Check.as_str(), entry.spec_text.clone());
                (path, task)
            }));
        }
        upgrade::conclude(&mut status, entry.spec.failure_tolerate.as_deref());
        if entry.status.as_ref() == Some(&status) && tasks.is_empty() {
            entry.reports.drain(..reports);
            return Step::Nothing;
        }
        // Absent fields would stay as they are.
        let status = json!({
            "phase": status.phase, "reason": status.reason, "nodeStatus": status.node_status,
        });
        Step::Write { version, status, tasks, reports }
    }
}

fn earlier(due: &mut Option<Instant>, at: Instant) {
    *due = Some(due.map_or(at, |due| due.min(at)));
}

impl Entry {
    fn wake(&mut self, now: Instant) {
        earlier(&mut self.due, self.not_before.max(now));
    }

    /// Its status, unless it is still to be found out which nodes it is about.
    fn known(&self) -> Option<&NodeUpgradeJobStatus> {
        let begun =
            |s: &&NodeUpgradeJobStatus| !(s.node_status.is_empty() && s.phase == JobPhase::Init);
        self.status.as_ref().filter(begun).or(self.resolved.as_ref())
    }

    fn memory(&mut self, node: &str) -> &mut Memory {
        self.nodes.entry(node.to_owned()).or_default()
    }

    fn take_reports(&mut self, status: &mut NodeUpgradeJobStatus, now: Instant) {
        let reports: Vec<_> = self.reports.iter().cloned().collect();
        for (node, report) in reports {
            let all = &mut status.node_status;
            let part = all.iter_mut().find(|n| n.node_name.as_deref() == Some(node.as_str()));
            let Some(part) = part else { continue };
            match upgrade::apply(part, &report) {
                Ok(()) => self.memory(node.as_str()).heard = Some(now),
                Err(why) => debug!(%node, step = report.action, %why, "a report changes nothing"),
            }
        }
    }

    /// One that waits for somebody's agreement is not silent.
    fn give_up_on_the_silent(&mut self, status: &mut NodeUpgradeJobStatus, now: Instant) {
        let Some(limit) = self.spec.timeout_seconds.filter(|seconds| *seconds > 0) else { return };
        let limit = Duration::from_secs(limit.into());
        for node in &mut status.node_status {
            if node.phase != Some(NodePhase::InProgress) || waits_for_confirmation(&self.spec, node)
            {
                continue;
            }
            let Some(name) = node.node_name.clone() else { continue };
            // A cloudcore that has just started has not listened before.
            let heard = *self.memory(&name).heard.get_or_insert(now);
            if now < heard + limit {
                earlier(&mut self.due, heard + limit);
                continue;
            }
            node.phase = Some(NodePhase::Unknown);
            node.reason = Some(format!("it has reported nothing for {} s", limit.as_secs()));
        }
    }

    /// The nodes that are to be told to begin, first or again.
    fn begin(
        &mut self,
        status: &mut NodeUpgradeJobStatus,
        link: &dyn Fn(&NodeName) -> Option<u64>,
        now: Instant,
    ) -> Vec<NodeName> {
        let at_once = usize::try_from(self.spec.concurrency.unwrap_or(1)).unwrap_or(1).max(1);
        let all = status.node_status.iter();
        let mut running = all.filter(|n| phase(n) == NodePhase::InProgress).count();
        let mut told = Vec::new();
        let mut due = self.due;
        for node in &mut status.node_status {
            let Some(name) = node.node_name.as_deref().and_then(|n| n.parse::<NodeName>().ok())
            else {
                continue;
            };
            let memory = self.memory(name.as_str());
            match phase(node) {
                NodePhase::Pending if running < at_once => {
                    let Some(session) = link(&name) else {
                        let until = *memory.awaited.get_or_insert(now) + CONNECT;
                        if now < until {
                            earlier(&mut due, until);
                        } else {
                            node.phase = Some(NodePhase::Failure);
                            node.reason = Some("it is not connected to this cloudcore".to_owned());
                        }
                        continue;
                    };
                    // The write of its phase may have failed the last time.
                    if memory.sent.replace(session) != Some(session) {
                        told.push(name);
                    }
                    (memory.heard, memory.awaited) = (Some(now), None);
                    (node.phase, node.reason) = (Some(NodePhase::InProgress), None);
                    running += 1;
                }
                NodePhase::InProgress if node.action_flow.is_empty() => {
                    let Some(session) = link(&name).filter(|s| memory.sent != Some(*s)) else {
                        continue;
                    };
                    let since = match memory.settling {
                        Some((settling, since)) if settling == session => since,
                        _ => memory.settling.insert((session, now)).1,
                    };
                    if now < since + SETTLE {
                        earlier(&mut due, since + SETTLE);
                    } else {
                        memory.sent = Some(session);
                        told.push(name);
                    }
                }
                _ => {}
            }
        }
        self.due = due;
        told
    }
}

fn phase(node: &NodeUpgradeStatus) -> NodePhase {
    node.phase.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::names::Kind;

    /// Jobs at a time that the test moves on.
    struct Bench {
        jobs: Jobs,
        now: Instant,
        version: u64,
        sessions: HashMap<String, u64>,
        /// The job as the API server has it.
        object: Value,
    }

    fn spec(extra: Value) -> Value {
        let mut spec = json!({"version": "v1.23.0", "image": "x/y", "nodeNames": ["a", "b", "c"]});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    }

    impl Bench {
        fn new(extra: Value) -> Self {
            let sessions = ["a", "b", "c"].map(|node| (node.to_owned(), 1)).into();
            let object = json!({"metadata": {"name": "up", "uid": "u1",
                "creationTimestamp": "2026-01-02T03:04:05Z", "finalizers": [FINALIZER]},
                "spec": spec(extra)});
            let (jobs, now) = (Jobs::default(), Instant::now());
            let mut bench = Self { jobs, now, version: 1, sessions, object };
            bench.jobs.begin_reset();
            bench.put();
            bench.jobs.finish_reset();
            bench
        }

        /// As above, with all nodes waiting for their turn.
        fn resolved(extra: Value) -> Self {
            let mut bench = Self::new(extra);
            assert!(matches!(bench.plan(), Step::Resolve(_)));
            let node = |name| json!({"nodeName": name, "phase": "Pending"});
            let nodes = ["a", "b", "c"].map(node);
            let status = json!({"phase": "Init", "nodeStatus": nodes});
            bench.jobs.resolved("up", serde_json::from_value(status).unwrap(), bench.now);
            bench
        }

        fn put(&mut self) {
            self.version += 1;
            self.object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            let text = self.object.to_string();
            let object = Object::read(Kind::NodeUpgradeJob, &text).unwrap();
            self.jobs.apply(&object, self.now).unwrap();
        }

        fn plan(&mut self) -> Step {
            let sessions = self.sessions.clone();
            let link = |node: &NodeName| sessions.get(node.as_str()).copied();
            self.jobs.plan("up", true, &link, self.now)
        }

        /// Plans and writes; the nodes that were told to begin.
        fn write(&mut self) -> Vec<String> {
            match self.plan() {
                Step::Nothing => Vec::new(),
                Step::Write { status, tasks, reports, .. } => {
                    self.object["status"] = status;
                    self.jobs.wrote("up", reports, self.now);
                    self.put();
                    tasks.iter().map(|(path, _)| path.node.to_string()).collect()
                }
                other => panic!("{other:?}"),
            }
        }

        fn say(&mut self, node: &str, action: &str, succ: bool) {
            let finish_time = format!("t{}", self.version);
            let report =
                ActionReport { action: action.to_owned(), succ, finish_time, ..Default::default() };
            self.jobs.heard("up", node.parse().unwrap(), report, self.now).unwrap();
        }

        /// Phases of the nodes, as first letters.
        fn phases(&self) -> String {
            let all = self.object["status"]["nodeStatus"].as_array().unwrap();
            all.iter().map(|n| n["phase"].as_str().unwrap().chars().next().unwrap()).collect()
        }

        fn job(&self) -> &str {
            self.object["status"]["phase"].as_str().unwrap()
        }

        fn later(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn a_new_job_gets_the_finalizer_first() {
        let mut bench = Bench::new(json!({}));
        bench.object["metadata"]["finalizers"] = json!(["other"]);
        bench.put();
        let Step::Finalizers { finalizers, version } = bench.plan() else { panic!("no finalizer") };
        assert_eq!(finalizers, ["other", FINALIZER]);
        assert_eq!(version, bench.version.to_string(), "nobody's change is lost");
    }

    #[test]
    fn a_deleted_job_starts_nobody_and_lets_go() {
        let mut bench = Bench::resolved(json!({}));
        bench.object["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:06Z");
        bench.object["metadata"]["finalizers"] = json!([FINALIZER, "other"]);
        bench.put();
        let Step::Finalizers { finalizers, .. } = bench.plan() else { panic!("kept") };
        assert_eq!(finalizers, ["other"]);
        let gone = bench.jobs.heard("up", "a".parse().unwrap(), ActionReport::default(), bench.now);
        assert_eq!(gone, Err(ReportError::Unknown));
        assert!(bench.jobs.rows().is_empty());
    }

    #[test]
    fn no_more_nodes_run_than_may_at_once() {
        let mut bench = Bench::resolved(json!({"concurrency": 2}));
        assert_eq!(bench.write(), ["a", "b"]);
        assert_eq!((bench.phases().as_str(), bench.job()), ("IIP", "InProgress"));
        assert_eq!(bench.write(), Vec::<String>::new(), "they were told");
        bench.say("b", "Check", false);
        assert_eq!(bench.write(), ["c"]);
        assert_eq!(bench.phases(), "IFI");
        for node in ["a", "c"] {
            bench.say(node, "Upgrade", true);
        }
        assert_eq!(bench.write(), Vec::<String>::new());
        assert_eq!((bench.phases().as_str(), bench.job()), ("SFS", "Failure"));
    }

    #[test]
    fn reports_between_two_writes_become_one() {
        let mut bench = Bench::resolved(json!({}));
        bench.write();
        for action in ["Check", "WaitingConfirmation", "BackUp"] {
            bench.say("a", action, true);
        }
        let (due, next) = bench.jobs.due(bench.now);
        assert_eq!((due, next), (None, Some(bench.now + EVERY)), "it was written just now");
        let Step::Write { reports: 3, status, .. } = bench.plan() else { panic!("not one write") };
        assert_eq!(status["nodeStatus"][0]["actionFlow"].as_array().unwrap().len(), 3);
        // One that comes while it is written is for the next.
        bench.say("a", "Upgrade", true);
        bench.object["status"] = status;
        bench.jobs.wrote("up", 3, bench.now);
        bench.put();
        assert_eq!(bench.write(), ["b"]);
        assert_eq!(bench.phases(), "SIP");
    }

    #[test]
    fn a_write_that_failed_loses_no_report_and_tells_no_node_twice() {
        let mut bench = Bench::resolved(json!({}));
        let Step::Write { tasks, .. } = bench.plan() else { panic!("nothing") };
        assert_eq!(tasks.len(), 1);
        bench.jobs.failed("up", bench.now);
        bench.say("a", "Check", true);
        assert_eq!(bench.write(), Vec::<String>::new(), "it was told in this session");
        assert_eq!(bench.phases(), "IPP");
        assert_eq!(bench.object["status"]["nodeStatus"][0]["actionFlow"][0]["action"], "Check");
    }

    #[test]
    fn what_somebody_else_has_written_is_where_the_next_write_begins() {
        let mut bench = Bench::resolved(json!({}));
        bench.write();
        bench.say("a", "Check", true);
        bench.object["status"]["nodeStatus"][2]["phase"] = json!("Failure");
        bench.object["status"]["nodeStatus"][2]["reason"] = json!("by hand");
        bench.put();
        bench.write();
        assert_eq!(bench.phases(), "IPF");
        assert_eq!(bench.object["status"]["nodeStatus"][2]["reason"], "by hand");
        assert_eq!(bench.object["status"]["nodeStatus"][0]["actionFlow"][0]["action"], "Check");
    }

    #[test]
    fn an_older_version_of_a_job_changes_nothing() {
        let mut bench = Bench::resolved(json!({}));
        let old = bench.object.clone();
        bench.write();
        let object = Object::read(Kind::NodeUpgradeJob, &old.to_string()).unwrap();
        bench.jobs.apply(&object, bench.now).unwrap();
        assert_eq!(bench.write(), Vec::<String>::new());
        assert_eq!(bench.phases(), "IPP");
    }

    #[test]
    fn the_next_cloudcore_goes_on_where_the_last_one_ended() {
        let mut first = Bench::resolved(json!({"concurrency": 2}));
        first.write();
        first.say("a", "Check", true);
        first.write();
        let mut next = Bench::new(json!({"concurrency": 2}));
        next.object = first.object.clone();
        next.version = first.version;
        next.put();
        assert_eq!(next.write(), Vec::<String>::new(), "both run");
        next.say("a", "Upgrade", true);
        assert_eq!(next.write(), ["c"]);
        assert_eq!(next.phases(), "SII");
        // Nothing was heard of `b`: what it was told may be lost.
        next.later(5);
        let link = |_: &NodeName| Some(1);
        let Step::Write { tasks, .. } = next.jobs.plan("up", true, &link, next.now) else {
            panic!("nobody is told")
        };
        let told: Vec<_> = tasks.iter().map(|(path, _)| path.node.as_str()).collect();
        assert_eq!(told, ["b"]);
    }

    #[test]
    fn a_node_that_is_away_is_waited_for_and_does_not_hold_up_the_others() {
        let mut bench = Bench::resolved(json!({}));
        bench.sessions.remove("a");
        assert_eq!(bench.write(), ["b"]);
        assert_eq!(bench.phases(), "PIP");
        bench.say("b", "Upgrade", true);
        bench.say("b", "Check", true);
        bench.later(59);
        assert_eq!(bench.write(), ["c"]);
        assert_eq!(bench.phases(), "PSI");
        bench.say("c", "Upgrade", true);
        bench.write();
        bench.later(1);
        assert_eq!(bench.jobs.due(bench.now).0.as_deref(), Some("up"));
        bench.write();
        assert_eq!((bench.phases().as_str(), bench.job()), ("FSS", "Failure"));
        let why = &bench.object["status"]["nodeStatus"][0]["reason"];
        assert_eq!(why, "it is not connected to this cloudcore");
    }

    #[test]
    fn a_silent_node_is_given_up_but_not_one_that_waits_for_a_yes() {
        let wanted = json!({"timeoutSeconds": 300, "concurrency": 2, "requireConfirmation": true});
        let mut bench = Bench::resolved(wanted);
        bench.write();
        bench.say("a", "Check", true);
        bench.say("a", "WaitingConfirmation", true);
        bench.write();
        bench.later(299);
        bench.write();
        assert_eq!(bench.phases(), "IIP");
        bench.later(1);
        assert_eq!(bench.write(), ["c"]);
        assert_eq!(bench.phases(), "IUI");
        assert_eq!(
            bench.object["status"]["nodeStatus"][1]["reason"],
            "it has reported nothing for 300 s"
        );
        bench.say("b", "Upgrade", true);
        bench.write();
        assert_eq!(bench.phases(), "ISI", "it was only slow");
    }

    #[test]
    fn a_job_without_a_time_limit_waits_for_ever() {
        for wanted in [json!({}), json!({"timeoutSeconds": 0})] {
            let mut bench = Bench::resolved(wanted);
            bench.write();
            bench.later(86_400);
            bench.write();
            assert_eq!(bench.phases(), "IPP");
        }
    }

    #[test]
    fn reports_that_come_before_the_jobs_are_known_are_kept() {
        let mut bench = Bench::resolved(json!({}));
        bench.write();
        let mut jobs = Jobs::default();
        let report = ActionReport { action: "Check".into(), succ: true, ..Default::default() };
        jobs.heard("up", "a".parse().unwrap(), report.clone(), bench.now).unwrap();
        jobs.heard("other", "a".parse().unwrap(), report, bench.now).unwrap();
        jobs.begin_reset();
        bench.jobs = jobs;
        bench.put();
        bench.jobs.finish_reset();
        bench.write();
        assert_eq!(bench.object["status"]["nodeStatus"][0]["actionFlow"][0]["action"], "Check");
    }

    #[test]
    fn a_node_that_is_not_part_of_a_job_cannot_report_on_it() {
        let mut bench = Bench::resolved(json!({}));
        let mut heard = |job, node: &str| {
            bench.jobs.heard(job, node.parse().unwrap(), ActionReport::default(), bench.now)
        };
        assert_eq!(heard("up", "z"), Err(ReportError::Unknown));
        assert_eq!(heard("down", "a"), Err(ReportError::Unknown));
        assert_eq!(heard("up", "a"), Ok(()));
    }

    #[test]
    fn a_task_carries_the_spec_as_it_was_written() {
        let mut bench = Bench::resolved(json!({"later": {"field": 1.50}}));
        let Step::Write { tasks, .. } = bench.plan() else { panic!("nothing") };
        let (path, task) = &tasks[0];
        assert_eq!(path.to_string(), "operations.kubeedge.io/v1alpha2/nodeupgradejob/up/node/a");
        assert_eq!(&*task.operation, "Check");
        assert_eq!(task.content.to::<Value>().unwrap(), bench.object["spec"]);
    }
}

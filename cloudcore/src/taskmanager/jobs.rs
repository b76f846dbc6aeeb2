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
    /// Nothing is due.
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
#[path = "jobs_tests.rs"]
mod tests;

//! One task per pod: see, report, plan, act.
//!
//! Owns: the pod as wanted, what was last seen of it, the [`Memory`] of failures and probes.
//! Called by: `pods.rs`, which starts it and tells it things through its [`Inbox`].
//! Never: decides (that is `plan.rs`), words a status (`status.rs`), or waits for the cloud.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind as ObjectKind, ObjectKey};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::clock::{Clock, Nanos, SECOND, between, length};
use super::cluster::Cluster;
use super::images::Puller;
use super::inbox::Inbox;
use super::make::Site;
use super::memory::{Ended, Memory, Volumes, wait};
use super::plan::{self, Action, Fate, Plan, Want};
use super::pleg::Exit;
use super::probes::{Bench, Probes, STARTUP, Verdict};
use super::recorder::{Kind, Recorder};
use super::runtime::{self, ContainerRuntime, ContainerState, SeenPod};
use super::status::{self, Host};
use super::{cgroups, last_words, podspec, volumes};

/// Tokens grow old.
const VOLUMES_EVERY: Nanos = 60 * SECOND;

/// The exit code of SIGKILL.
const KILLED: i32 = 137;
/// How often a look is repeated after an announced end, 2 to 32 ms apart.
const LOOKS: u32 = 40;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) site: Site,
    pub(crate) host: Host,
    pub(crate) clock: Clock,
    pub(crate) puller: Puller,
    /// Sandboxes and containers being made at once.
    pub(crate) starts: Semaphore,
    /// Which pod a container or sandbox belongs to, for events that name only those.
    pub(crate) owners: Mutex<HashMap<String, Arc<str>>>,
    pub(crate) stopping: CancellationToken,
}

/// A pod's worker, as `pods.rs` starts it.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) uid: Arc<str>,
    pub(crate) pod: Arc<Pod>,
    /// What a static pod is reported as.
    pub(crate) mirror: Option<Arc<Pod>>,
    pub(crate) fate: Fate,
    /// Nobody in the cloud knows the pod: nothing is reported.
    pub(crate) orphan: bool,
    pub(crate) inbox: Inbox,
    pub(crate) memory: Memory,
    pub(crate) seen: SeenPod,
    pub(crate) status: PodStatus,
    pub(crate) reported: Option<PodStatus>,
    pub(crate) probes: Probes,
    pub(crate) hooked: std::collections::BTreeSet<String>,
    volumes_at: Nanos,
    /// Containers whose end was announced and not yet seen.
    expected: Vec<String>,
    /// How they ended, if that was announced too.
    exits: BTreeMap<String, Exit>,
    looks: u32,
    trouble: u32,
}

/// What becomes of a turn of the loop.
enum Next {
    Again,
    Wait(Option<Nanos>),
    Finished,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, pod: Arc<Pod>, fate: Fate, orphan: bool) -> Self {
        let now = shared.clock.now();
        Self {
            uid: podspec::uid(&pod).into(),
            status: podspec::status(&pod).clone(),
            shared,
            pod,
            mirror: None,
            fate,
            orphan,
            inbox: Inbox::default(),
            memory: Memory {
                ending_since: (fate != Fate::Run).then_some(now),
                ..Memory::default()
            },
            seen: SeenPod::default(),
            reported: None,
            probes: Probes::default(),
            hooked: Default::default(),
            volumes_at: 0,
            expected: Vec::new(),
            exits: BTreeMap::new(),
            looks: 0,
            trouble: 0,
        }
    }

    /// Runs until nothing of the pod is left, then says so. Being told to stop leaves everything
    /// running.
    pub(crate) async fn run(mut self, done: mpsc::Sender<Arc<str>>) {
        let stopping = self.shared.stopping.clone();
        loop {
            let next = tokio::select! {
                () = stopping.cancelled() => return,
                next = self.turn() => next,
            };
            let at = match next {
                Next::Again => continue,
                Next::Finished => break,
                Next::Wait(at) => at,
            };
            let inbox = self.inbox.clone();
            tokio::select! {
                () = stopping.cancelled() => return,
                () = inbox.any() => {}
                () = sleep_until(self.shared.clock, at) => {}
            }
        }
        self.shared.owners.lock().retain(|_, owner| *owner != self.uid);
        // Only a stop of all of edged ends the receiver.
        let _ = done.send(self.uid).await;
    }

    async fn turn(&mut self) -> Next {
        self.read_inbox();
        if !self.see().await {
            self.trouble += 1;
            let pause = wait(self.trouble).min(Duration::from_secs(10)) / 10;
            return Next::Wait(Some(self.shared.clock.now() + length(pause)));
        }
        self.trouble = 0;
        let now = self.shared.clock.now();
        self.check_deadline(now);
        if self.memory.volumes == Volumes::Ready
            && now - self.volumes_at >= VOLUMES_EVERY
            && volumes::grow_old(&self.pod)
        {
            self.memory.volumes = Volumes::Unknown;
        }
        self.report(now).await;
        let mut plan = plan::plan(&self.want(), &self.seen, &self.memory, now);
        self.note_backoff(now);
        if plan.actions.is_empty() {
            self.collect_garbage().await;
            return Next::Wait(self.look_again(&plan, now));
        }
        if let Some(Action::Release) = plan.actions.last() {
            plan.actions.pop();
            if self.act(plan.actions).await && self.release().await {
                return Next::Finished;
            }
            return Next::Wait(Some(now + SECOND));
        }
        if self.act(plan.actions).await {
            Next::Again
        } else {
            Next::Wait(Some(self.shared.clock.now() + SECOND))
        }
    }

    pub(crate) fn want(&self) -> Want<'_> {
        let grace = match (&self.memory.ended, self.fate) {
            (Some(ended), Fate::End) => ended.grace.unwrap_or_else(|| podspec::grace(&self.pod)),
            _ => podspec::grace(&self.pod),
        };
        Want { pod: &self.pod, fate: self.fate, grace }
    }

    fn read_inbox(&mut self) {
        let news = self.inbox.take();
        let now = self.shared.clock.now();
        if let Some(mirror) = news.mirror {
            self.mirror = Some(mirror);
            self.reported = None;
        }
        if let Some(pod) = news.pod {
            if pod.spec != self.pod.spec
                || pod.metadata.annotations != self.pod.metadata.annotations
                || pod.metadata.labels != self.pod.metadata.labels
            {
                self.memory.volumes = Volumes::Unknown;
                self.memory.containers.clear();
            }
            if podspec::is_deleted(&pod) {
                self.set_fate(Fate::Remove, now);
            }
            self.pod = pod;
        }
        if news.gone {
            self.set_fate(Fate::Remove, now);
        }
        if let Some(ended) = news.ended
            && self.memory.ended.is_none()
            && self.fate == Fate::Run
        {
            self.shared.recorder.pod(&self.pod, Kind::Warning, ended.reason, ended.message.clone());
            self.memory.ended = Some(ended);
            self.set_fate(Fate::End, now);
        }
        if news.objects {
            self.memory.volumes = Volumes::Unknown;
            self.memory.containers.retain(|_, f| f.reason != "CreateContainerConfigError");
        }
        for ((id, probe), verdict) in news.verdicts {
            self.hear(id, probe, verdict);
        }
        // Killed: perhaps for want of memory, which only the runtime's list tells.
        self.exits.extend(news.exits.into_iter().filter(|(_, exit)| exit.code != KILLED));
        for id in news.changed {
            if !self.expected.contains(&id) {
                self.expected.push(id);
                self.looks = 0;
            }
        }
    }

    fn set_fate(&mut self, fate: Fate, now: Nanos) {
        if self.fate == Fate::Run {
            self.memory.ending_since = Some(now);
        }
        self.fate = fate;
    }

    fn hear(&mut self, id: String, probe: &'static str, verdict: Verdict) {
        let health = self.memory.health.entry(id).or_default();
        match (verdict, probe) {
            (Verdict::Passes, super::probes::READINESS) => health.ready = Some(true),
            (Verdict::Passes, STARTUP) => health.started = Some(true),
            (Verdict::Passes, _) => {}
            (Verdict::Fails, _) => health.ready = Some(false),
            (Verdict::Restart(why), _) => health.unhealthy = Some(why),
        }
    }

    /// Looks at the runtime. `false`: it could not be asked.
    async fn see(&mut self) -> bool {
        let mut before = std::mem::take(&mut self.seen);
        before.containers.retain(|c| !self.exits.contains_key(&c.status.id));
        let seen = runtime::see(self.shared.runtime.as_ref(), &self.uid, &before).await;
        let mut seen = match seen {
            Ok(seen) => seen,
            Err(e) => {
                tracing::warn!(pod = podspec::full_name(&self.pod), error = %e, "cannot see the pod");
                self.seen = before;
                return false;
            }
        };
        self.apply_exits(&mut seen);
        for c in &mut seen.containers {
            if c.status.state == ContainerState::Exited && c.last_words.is_empty() {
                c.last_words = last_words::of(&c.status);
            }
        }
        {
            let mut owners = self.shared.owners.lock();
            let ids = seen.sandboxes.iter().map(|s| &s.id);
            for id in ids.chain(seen.containers.iter().map(|c| &c.status.id)) {
                if !owners.contains_key(id) {
                    owners.insert(id.clone(), self.uid.clone());
                }
            }
        }
        let known = |id: &String| seen.containers.iter().any(|c| c.status.id == *id);
        self.memory.health.retain(|id, _| known(id));
        self.hooked.retain(known);
        self.seen = seen;
        self.adopt_started();
        if self.fate == Fate::Run && !podspec::is_over(&self.pod) {
            let health = &self.memory.health;
            let started = |id: &str| health.get(id).and_then(|h| h.started) == Some(true);
            let bench = Bench {
                runtime: self.shared.runtime.clone(),
                recorder: self.shared.recorder.clone(),
                inbox: self.inbox.clone(),
                pod: self.pod.clone(),
                sandbox: plan::active_sandbox(&self.seen).map(|s| s.id.clone()),
                ips: self.ips(),
            };
            self.probes.sync(&bench, &self.seen, started);
        } else {
            self.probes.clear();
        }
        true
    }

    /// What was announced is true, even where the runtime's list does not show it yet.
    fn apply_exits(&mut self, seen: &mut SeenPod) {
        self.expected.retain(|id| {
            seen.containers
                .iter()
                .any(|c| c.status.id == *id && c.status.state == ContainerState::Running)
        });
        self.exits.retain(|id, _| self.expected.contains(id));
        for c in &mut seen.containers {
            if let Some(exit) = self.exits.get(&c.status.id) {
                c.status.state = ContainerState::Exited;
                c.status.exit_code = exit.code;
                c.status.finished_at = exit.at;
            }
        }
    }

    /// A container that had passed its startup probe before edgecore was restarted has passed it.
    fn adopt_started(&mut self) {
        let statuses = [&self.status.container_statuses, &self.status.init_container_statuses];
        for old in statuses.into_iter().flatten().flatten() {
            let id = old.container_id.as_deref().and_then(|id| id.split_once("://"));
            if let (Some((_, id)), Some(true)) = (id, old.started)
                && self.seen.containers.iter().any(|c| c.status.id == id)
            {
                let health = self.memory.health.entry(id.to_owned()).or_default();
                health.started.get_or_insert(true);
            }
        }
    }

    /// The pod's addresses; the host's on the host's network.
    pub(crate) fn ips(&self) -> Vec<String> {
        match podspec::host_network(&self.pod) {
            true => self.shared.site.host_ips.clone(),
            false => self.seen.ips.clone(),
        }
    }

    fn check_deadline(&mut self, now: Nanos) {
        let end = plan::deadline(&self.pod, &self.status);
        if self.fate == Fate::Run
            && self.memory.ended.is_none()
            && end.is_some_and(|end| now >= end)
            && !podspec::is_over(&self.pod)
            && !plan::outcome(&self.pod, &self.seen).is_over()
        {
            let message = "Pod was active on the node longer than the specified deadline";
            self.shared.recorder.pod(
                &self.pod,
                Kind::Normal,
                "DeadlineExceeded",
                message.to_owned(),
            );
            self.memory.ended = Some(Ended {
                reason: "DeadlineExceeded",
                message: message.to_owned(),
                grace: None,
            });
            self.set_fate(Fate::End, now);
        }
    }

    /// Reports the status, if it is not the one reported last.
    pub(crate) async fn report(&mut self, now: Nanos) {
        let fresh = status::pod_status(
            &self.want(),
            &self.seen,
            &self.memory,
            &self.status,
            &self.shared.host,
            now,
        );
        self.status = fresh;
        let known = match &self.reported {
            Some(reported) => reported == &self.status,
            // After a restart: what the cloud has needs no repetition.
            None => self.pod.status.as_ref() == Some(&self.status),
        };
        if known || self.orphan {
            return;
        }
        let report_as = match (&self.mirror, podspec::is_static(&self.pod)) {
            (Some(mirror), _) => mirror,
            (None, true) => return, // nobody to report to until the mirror is there
            (None, false) => &self.pod,
        };
        self.shared.cluster.pod_status(report_as, &self.status).await;
        self.reported = Some(self.status.clone());
    }

    /// Says once that a container is held back because it crashes.
    fn note_backoff(&self, now: Nanos) {
        for c in self.status.container_statuses.iter().flatten() {
            let why = c.state.as_ref().and_then(|s| s.waiting.as_ref());
            if why.and_then(|w| w.reason.as_deref()) == Some("CrashLoopBackOff")
                && plan::latest(&self.seen, &c.name).is_some_and(|l| now < plan::restart_at(l))
            {
                let message = format!(
                    "Back-off restarting failed container {} in pod {}",
                    c.name,
                    podspec::full_name(&self.pod)
                );
                self.shared.recorder.container(
                    &self.pod,
                    &c.name,
                    Kind::Warning,
                    "BackOff",
                    message,
                );
            }
        }
    }

    fn look_again(&mut self, plan: &Plan, now: Nanos) -> Option<Nanos> {
        let mut at = plan.look_again;
        let mut sooner = |t: Nanos| at = Some(at.map_or(t, |a| a.min(t)));
        if !self.expected.is_empty() {
            // The runtime announces an end a moment before its lists show it.
            if self.looks < LOOKS {
                sooner(now + (2_000_000 << self.looks.min(4)));
                self.looks += 1;
            } else {
                self.expected.clear();
                self.exits.clear();
            }
        }
        if self.fate == Fate::Run {
            if volumes::grow_old(&self.pod) && self.memory.volumes == Volumes::Ready {
                sooner(self.volumes_at + VOLUMES_EVERY);
            }
            if let Some(end) = plan::deadline(&self.pod, &self.status) {
                sooner(end);
            }
        }
        at
    }

    pub(crate) fn volumes_are_ready(&mut self) {
        self.memory.volumes = Volumes::Ready;
        self.volumes_at = self.shared.clock.now();
    }

    /// Nothing runs: report, free what was used, let the cloud forget the pod.
    async fn release(&mut self) -> bool {
        self.see().await;
        self.report(self.shared.clock.now()).await;
        for sandbox in self.seen.sandboxes.clone() {
            if let Err(e) = self.shared.runtime.remove_sandbox(&sandbox.id).await {
                tracing::warn!(pod = podspec::full_name(&self.pod), error = %e, "cannot remove a sandbox");
                return false;
            }
        }
        let place = self.shared.site.place(&self.uid);
        let logs = self.shared.site.log_dir(&self.pod);
        let (pod, machine) = (self.pod.clone(), self.shared.site.machine.clone());
        let torn_down = tokio::task::spawn_blocking(move || {
            place.tear_down()?;
            cgroups::remove(&pod, &machine);
            match std::fs::remove_dir_all(logs) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        });
        match torn_down.await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                tracing::warn!(pod = podspec::full_name(&self.pod), error = %e, "cannot remove the pod's files");
                return false;
            }
            Err(e) => {
                tracing::error!(pod = podspec::full_name(&self.pod), error = %e, "cannot remove the pod's files");
            }
        }
        if !self.orphan {
            let gone = match podspec::is_static(&self.pod) {
                true => self.mirror.clone(),
                false => Some(self.pod.clone()),
            };
            if let Some((key, uid)) = gone.as_deref().and_then(identity) {
                self.shared.cluster.pod_gone(key, uid).await;
            }
        }
        true
    }

    /// How long the pod has been on its way.
    pub(crate) fn age(&self) -> Duration {
        let start = self.status.start_time.as_ref().map_or(0, super::clock::from_time);
        between(start, self.shared.clock.now())
    }
}

/// The pod's key and UID, if it has a valid one.
pub(crate) fn identity(pod: &Pod) -> Option<(ObjectKey, api::names::Uid)> {
    let namespace = podspec::namespace(pod).parse().ok()?;
    let uid = podspec::uid(pod).parse().ok()?;
    Some((ObjectKey::new(namespace, ObjectKind::Pod, podspec::name(pod)), uid))
}

async fn sleep_until(clock: Clock, at: Option<Nanos>) {
    match at {
        Some(at) => tokio::time::sleep(between(clock.now(), at)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;

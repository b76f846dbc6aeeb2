//! Wanted and seen: what to do about the difference. All of edged's judgement, and no I/O.
//!
//! Owns: the order in which things are started and stopped, and when to try again.
//! Called by: `worker.rs`, each time anything may have changed.
//! Never: remembers; what a decision needs is in its arguments, so a restart of edgecore comes to
//! the same plan.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::clock::{Nanos, SECOND, between, length};
use super::memory::{Memory, PULL_FAILURE_SHOWN, Volumes};
use super::podspec::{self, RestartPolicy, Role};
use super::runtime::{ContainerState, PodContainer, SeenPod, SeenSandbox, label};

/// Annotation of a container: how many seconds its successor waits, if it ends soon. Kept with the
/// container, so that a restart of edgecore does not forget that it crashes.
pub(crate) const BACKOFF_ANNOTATION: &str = "edged.kubeedge.io/restart-backoff";

/// A container that ran this long is not crashing.
const CALM: Duration = Duration::from_secs(600);

/// What is to become of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It runs.
    Run,
    /// It ends and stays as a record.
    End,
    /// It ends and is forgotten.
    Remove,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want<'a> {
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// Its fate.
    pub(crate) fate: Fate,
    /// How long its containers may take to end.
    pub(crate) grace: Duration,
}

/// One thing to do. A list of them is done in order, stops of containers side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make or bring up to date what the pod mounts.
    PrepareVolumes,
    /// Make a sandbox.
    RunSandbox {
        /// How many there were.
        attempt: u32,
    },
    /// End a sandbox and all in it.
    StopSandbox {
        /// Which.
        id: String,
    },
    /// Remove a dead container.
    RemoveContainer {
        /// Which.
        id: String,
    },
    /// Pull if need be, make, start.
    StartContainer {
        /// Its name in the spec.
        name: String,
        /// How often it had been started before.
        attempt: u32,
        /// What to note for the next restart, in seconds.
        backoff: u64,
        /// The sandbox to start it in.
        sandbox: String,
    },
    /// End a container.
    StopContainer {
        /// Which.
        id: String,
        /// Its name.
        name: String,
        /// For the event.
        why: String,
        /// Then by force.
        grace: Duration,
    },
    /// Remove a stopped sandbox.
    RemoveSandbox {
        /// Which.
        id: String,
    },
    /// Nothing of the pod runs; free what it used.
    Release,
}

/// What to do now and when to look again even if nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In order.
    pub(crate) actions: Vec<Action>,
    /// The next moment at which time alone changes the plan or the status.
    pub(crate) look_again: Option<Nanos>,
}

impl Plan {
    fn does(action: Action) -> Self {
        Self { actions: vec![action], look_again: None }
    }

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn again(&mut self, at: Nanos) {
        self.look_again = Some(self.look_again.map_or(at, |t| t.min(at)));
    }
}

/// The only thing that decides what is done about a pod.
pub(crate) fn plan(want: &Want<'_>, seen: &SeenPod, memory: &Memory, now: Nanos) -> Plan {
    let over = podspec::is_over(want.pod) && !has_running(seen);
    match want.fate {
        Fate::Run if !over && !outcome(want.pod, seen).is_over() => run(want, seen, memory, now),
        Fate::Run => end(want, seen, memory, now, false),
        Fate::End => end(want, seen, memory, now, false),
        Fate::Remove => end(want, seen, memory, now, true),
    }
}

fn has_running(seen: &SeenPod) -> bool {
    seen.containers.iter().any(|c| c.status.state == ContainerState::Running)
}

/// Whether a pod has come to its end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes on.
    Open,
    /// All containers ended, and none is to be started again.
    Finished,
    /// An init container failed for good.
    InitFailed,
}

impl Outcome {
    /// Whether nothing more is to be started.
    pub(crate) fn is_over(self) -> bool {
        self != Outcome::Open
    }
}

/// What the containers' ends mean for the pod.
pub(crate) fn outcome(pod: &Pod, seen: &SeenPod) -> Outcome {
    let policy = podspec::restart_policy(pod);
    if policy == RestartPolicy::Always {
        return Outcome::Open;
    }
    let ended = |name: &str| {
        latest(seen, name)
            .filter(|c| c.status.state == ContainerState::Exited)
            .map(|c| c.status.exit_code)
    };
    let mains = &podspec::spec(pod).containers;
    if !mains.is_empty()
        && mains.iter().all(|c| ended(&c.name).is_some_and(|code| !policy.restarts(code)))
    {
        return Outcome::Finished;
    }
    let started = mains.iter().any(|c| latest(seen, &c.name).is_some());
    let init_failed = policy == RestartPolicy::Never
        && !started
        && podspec::init_containers(pod)
            .any(|(c, role)| role == Role::Init && ended(&c.name).is_some_and(|code| code != 0));
    if init_failed { Outcome::InitFailed } else { Outcome::Open }
}

/// The newest container of this name.
pub(crate) fn latest<'a>(seen: &'a SeenPod, name: &str) -> Option<&'a PodContainer> {
    seen.containers
        .iter()
        .filter(|c| c.status.name == name)
        .max_by_key(|c| (c.status.attempt, c.status.created_at))
}

/// The sandbox in use, if there is one.
pub(crate) fn active_sandbox(seen: &SeenPod) -> Option<&SeenSandbox> {
    seen.sandboxes.first().filter(|s| s.ready)
}

fn run(want: &Want<'_>, seen: &SeenPod, memory: &Memory, now: Nanos) -> Plan {
    match &memory.volumes {
        Volumes::Ready => {}
        Volumes::Unknown => return Plan::does(Action::PrepareVolumes),
        // What runs keeps running while a volume cannot be brought up to date.
        Volumes::Failed(f) if now >= f.until => return Plan::does(Action::PrepareVolumes),
        Volumes::Failed(f) => {
            return Plan { actions: Vec::new(), look_again: Some(f.until) };
        }
    }
    let Some(sandbox) = active_sandbox(seen) else {
        return new_sandbox(seen, memory, now);
    };
    let mut plan = Plan::default();
    for old in seen.sandboxes.iter().skip(1).filter(|s| s.ready) {
        plan.push(Action::StopSandbox { id: old.id.clone() });
    }
    let of_sandbox = Run { want, seen, memory, now, sandbox };
    // Also while the pod does not get beyond its init containers: that is when one looks into it.
    for c in podspec::ephemeral(want.pod) {
        of_sandbox.start_once(&c.name, &mut plan);
    }
    let main_made =
        podspec::spec(want.pod).containers.iter().any(|c| of_sandbox.current(&c.name).is_some());
    let initialized = of_sandbox.init(main_made, &mut plan);
    if initialized {
        for c in &podspec::spec(want.pod).containers {
            of_sandbox.keep_running(&c.name, podspec::restart_policy(want.pod), &mut plan);
        }
    }
    plan
}

fn new_sandbox(seen: &SeenPod, memory: &Memory, now: Nanos) -> Plan {
    let mut plan = Plan::default();
    if let Some(failure) = &memory.sandbox
        && now < failure.until
    {
        plan.again(failure.until);
        return plan;
    }
    // A dead sandbox may still hold an address.
    if let Some(dead) = seen.sandboxes.first() {
        plan.push(Action::StopSandbox { id: dead.id.clone() });
    }
    let attempt = seen.sandboxes.iter().map(|s| s.attempt + 1).max().unwrap_or(0);
    plan.push(Action::RunSandbox { attempt });
    plan
}

/// A pod that runs in a ready sandbox.
struct Run<'a> {
    want: &'a Want<'a>,
    seen: &'a SeenPod,
    memory: &'a Memory,
    now: Nanos,
    sandbox: &'a SeenSandbox,
}

impl Run<'_> {
    /// The newest container of this name in the sandbox in use.
    fn current(&self, name: &str) -> Option<&PodContainer> {
        latest(self.seen, name).filter(|c| c.sandbox_id == self.sandbox.id)
    }

    /// Plans the init containers; says whether the main ones may start.
    fn init(&self, main_made: bool, plan: &mut Plan) -> bool {
        for (c, role) in podspec::init_containers(self.want.pod) {
            match role {
                Role::Sidecar => {
                    self.keep_running(&c.name, RestartPolicy::Always, plan);
                    let up = self.current(&c.name).is_some_and(|s| {
                        s.status.state == ContainerState::Running && self.is_started(c, s)
                    });
                    if !up && !main_made {
                        return false;
                    }
                }
                // Once a main container exists, the init containers have done their work, even if
                // they have been removed since.
                _ if main_made => {}
                _ => {
                    let done = self.current(&c.name).is_some_and(|s| {
                        s.status.state == ContainerState::Exited && s.status.exit_code == 0
                    });
                    if !done {
                        let policy = match podspec::restart_policy(self.want.pod) {
                            RestartPolicy::Never => RestartPolicy::Never,
                            _ => RestartPolicy::OnFailure,
                        };
                        self.keep_running(&c.name, policy, plan);
                        return false;
                    }
                }
            }
        }
        true
    }

    fn is_started(
        &self,
        spec: &k8s_openapi::api::core::v1::Container,
        seen: &PodContainer,
    ) -> bool {
        spec.startup_probe.is_none()
            || self.memory.health.get(&seen.status.id).and_then(|h| h.started) == Some(true)
    }

    /// Starts an ephemeral container unless there was one in any sandbox: it is not started again.
    fn start_once(&self, name: &str, plan: &mut Plan) {
        match latest(self.seen, name) {
            Some(c) if c.status.state != ContainerState::Created => {}
            _ => self.keep_running(name, RestartPolicy::Never, plan),
        }
    }

    fn keep_running(&self, name: &str, policy: RestartPolicy, plan: &mut Plan) {
        if let Some(failure) = self.memory.containers.get(name) {
            if failure.is_pull() && self.now < failure.at + PULL_FAILURE_SHOWN {
                plan.again(failure.at + PULL_FAILURE_SHOWN);
            }
            if self.now < failure.until {
                plan.again(failure.until);
                return;
            }
        }
        let Some(current) = self.current(name) else {
            return self.start(name, plan);
        };
        match current.status.state {
            ContainerState::Running => self.check_running(current, plan),
            // Made but never started: edgecore was killed in between, or the start failed.
            ContainerState::Created => {
                plan.push(Action::RemoveContainer { id: current.status.id.clone() });
                let backoff = stored_backoff(current);
                plan.push(Action::StartContainer {
                    name: name.to_owned(),
                    attempt: current.status.attempt,
                    backoff,
                    sandbox: self.sandbox.id.clone(),
                });
            }
            ContainerState::Unknown => plan.push(self.stop(current, "Container state is unknown")),
            ContainerState::Exited if policy.restarts(current.status.exit_code) => {
                let until = restart_at(current);
                if self.now < until {
                    plan.again(until);
                } else {
                    self.start(name, plan);
                }
            }
            ContainerState::Exited => {}
        }
    }

    fn check_running(&self, current: &PodContainer, plan: &mut Plan) {
        let status = &current.status;
        if self.memory.stopping.contains(&status.id) {
            return;
        }
        let unhealthy = self.memory.health.get(&status.id).and_then(|h| h.unhealthy.as_ref());
        if let Some(unhealthy) = unhealthy {
            let why = format!(
                "Container {} failed {} probe, will be restarted",
                status.name, unhealthy.probe
            );
            let grace = unhealthy.grace.unwrap_or(self.want.grace);
            plan.push(Action::StopContainer {
                id: status.id.clone(),
                name: status.name.clone(),
                why,
                grace,
            });
            return;
        }
        let wanted = podspec::container(self.want.pod, &status.name);
        let wanted = wanted.and_then(|(c, _)| c.image.clone()).unwrap_or_default();
        if status.annotations.get(label::SPEC_IMAGE).is_some_and(|image| *image != wanted) {
            let why = format!("Container {} definition changed, will be restarted", status.name);
            plan.push(self.stop(current, &why));
        }
    }

    fn stop(&self, c: &PodContainer, why: &str) -> Action {
        Action::StopContainer {
            id: c.status.id.clone(),
            name: c.status.name.clone(),
            why: why.to_owned(),
            grace: self.want.grace,
        }
    }

    fn start(&self, name: &str, plan: &mut Plan) {
        let before = latest(self.seen, name);
        plan.push(Action::StartContainer {
            name: name.to_owned(),
            attempt: before.map_or(0, |c| c.status.attempt + 1),
            backoff: before.map_or(0, next_backoff),
            sandbox: self.sandbox.id.clone(),
        });
    }
}

/// Seconds that the successor of this container has to wait, as noted at its start.
fn stored_backoff(c: &PodContainer) -> u64 {
    match c.status.annotations.get(BACKOFF_ANNOTATION).map(|s| s.parse()) {
        Some(Ok(seconds)) => seconds,
        // Started by a kubelet, which keeps this in memory.
        _ if c.status.attempt > 0 => super::memory::BACKOFF.0.as_secs(),
        _ => 0,
    }
}

fn was_calm(c: &PodContainer) -> bool {
    between(c.status.created_at, c.status.finished_at) > CALM
}

/// When an ended container may be started again.
pub(crate) fn restart_at(c: &PodContainer) -> Nanos {
    c.status.finished_at + length(backoff(c))
}

/// How long the successor of an ended container has to wait.
pub(crate) fn backoff(c: &PodContainer) -> Duration {
    if was_calm(c) { Duration::ZERO } else { Duration::from_secs(stored_backoff(c)) }
}

/// What to note for the successor's successor.
fn next_backoff(c: &PodContainer) -> u64 {
    let (floor, ceiling) = super::memory::BACKOFF;
    let doubled = if was_calm(c) { 0 } else { stored_backoff(c).saturating_mul(2) };
    doubled.clamp(floor.as_secs(), ceiling.as_secs())
}

fn end(want: &Want<'_>, seen: &SeenPod, memory: &Memory, now: Nanos, remove: bool) -> Plan {
    let mut plan = Plan::default();
    let left = match memory.ending_since {
        Some(since) => want.grace.saturating_sub(between(since, now)).max(Duration::from_secs(1)),
        None => want.grace,
    };
    let alive = |c: &&PodContainer| {
        matches!(c.status.state, ContainerState::Running | ContainerState::Unknown)
    };
    let is_sidecar = |c: &&PodContainer| {
        podspec::container(want.pod, &c.status.name).is_some_and(|(_, r)| r == Role::Sidecar)
    };
    let mains: Vec<_> = seen.containers.iter().filter(alive).filter(|c| !is_sidecar(c)).collect();
    let stopped_now: Vec<&PodContainer> = if mains.is_empty() {
        // Sidecars last, the last started first.
        podspec::init_containers(want.pod)
            .rev()
            .filter_map(|(c, _)| latest(seen, &c.name).filter(alive))
            .take(1)
            .collect()
    } else {
        mains
    };
    for c in &stopped_now {
        if !memory.stopping.contains(&c.status.id) {
            plan.push(Action::StopContainer {
                id: c.status.id.clone(),
                name: c.status.name.clone(),
                why: format!("Stopping container {}", c.status.name),
                grace: left,
            });
        }
    }
    if !stopped_now.is_empty() || seen.containers.iter().any(|c| alive(&c)) {
        // Containers that the spec does not know are in `mains`, so something is being stopped.
        return plan;
    }
    for sandbox in seen.sandboxes.iter().filter(|s| s.ready || remove) {
        plan.push(Action::StopSandbox { id: sandbox.id.clone() });
    }
    if remove {
        plan.push(Action::Release);
    }
    plan
}

/// A pod's own limit on how long it may be active: when it ends.
pub(crate) fn deadline(pod: &Pod, status: &PodStatus) -> Option<Nanos> {
    let limit = podspec::spec(pod).active_deadline_seconds?;
    let start = status.start_time.as_ref().map(super::clock::from_time)?;
    Some(start.saturating_add(limit.saturating_mul(SECOND)))
}

/// What is dead and of no more use: all but the newest two ended containers of each name, and
/// sandboxes that are neither the newest nor hold anything.
pub(crate) fn garbage(seen: &SeenPod) -> Vec<Action> {
    let mut plan = Vec::new();
    let mut kept: Vec<(&str, usize)> = Vec::new();
    let mut containers: Vec<&PodContainer> = seen.containers.iter().collect();
    containers.sort_by_key(|c| std::cmp::Reverse((c.status.attempt, c.status.created_at)));
    let mut used: Vec<&str> = Vec::new();
    for c in containers {
        let name = c.status.name.as_str();
        let count = match kept.iter_mut().find(|(n, _)| *n == name) {
            Some((_, count)) => count,
            None => {
                kept.push((name, 0));
                match kept.last_mut() {
                    Some((_, count)) => count,
                    None => continue,
                }
            }
        };
        *count += 1;
        if *count > 2 && c.status.state == ContainerState::Exited {
            plan.push(Action::RemoveContainer { id: c.status.id.clone() });
        } else {
            used.push(&c.sandbox_id);
        }
    }
    for s in seen.sandboxes.iter().skip(1) {
        if !s.ready && !used.contains(&s.id.as_str()) {
            plan.push(Action::RemoveSandbox { id: s.id.clone() });
        }
    }
    plan
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! Wanted and seen: the pod's status, worded as kubelet's. The only maker of a `PodStatus`.
//!
//! Owns: phases, conditions, reasons and messages.
//! Called by: `worker.rs`, each time anything may have changed.
//! Never: reads a clock or a runtime; times of conditions come from `old` or `now`.

use k8s_openapi::api::core::v1::{
    Container, ContainerState as State, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};

use super::clock::{Nanos, time};
use super::memory::{Failure, Memory, PULL_FAILURE_SHOWN, go_duration};
use super::plan::{Fate, Outcome, Want, active_sandbox, backoff, latest, outcome, restart_at};
use super::podspec::{self, RestartPolicy, Role};
use super::resources;
use super::runtime::{ContainerState, PodContainer, SeenPod};

/// What a status says about the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// Addresses, main one first.
    pub(crate) ips: Vec<String>,
    /// The runtime's name, as in `containerd://<id>`.
    pub(crate) runtime: String,
    /// Whether the runtime gives pods addresses of their own.
    pub(crate) pod_network: bool,
}

/// The status of a pod. `old` is the last one known, here or in the cloud.
pub(crate) fn pod_status(
    want: &Want<'_>,
    seen: &SeenPod,
    memory: &Memory,
    old: &PodStatus,
    host: &Host,
    now: Nanos,
) -> PodStatus {
    let alive = |c: &PodContainer| {
        matches!(c.status.state, ContainerState::Running | ContainerState::Unknown)
    };
    let over = matches!(old.phase.as_deref(), Some("Succeeded" | "Failed"));
    let ending = want.fate != Fate::Run || over;
    let terminal = ending && !seen.containers.iter().any(alive);
    let view = View { want, seen, memory, old, host, now, ending, terminal };
    let init: Vec<_> = podspec::init_containers(want.pod)
        .map(|(c, role)| view.container(c, role, old.init_container_statuses.as_deref()))
        .collect();
    let mut main: Vec<_> = podspec::spec(want.pod)
        .containers
        .iter()
        .map(|c| view.container(c, Role::Main, old.container_statuses.as_deref()))
        .collect();
    main.sort_by(|a, b| a.name.cmp(&b.name));
    let ephemeral = view.ephemeral();
    let phase = view.phase(&init, &main);
    let conditions = Conditions { view: &view, phase, init: &init, main: &main }.all();
    let ips = view.ips();
    let ended = memory.ended.as_ref();
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: ended.map(|e| e.reason.to_owned()).or_else(|| old.reason.clone().filter(|_| over)),
        message: ended.map(|e| e.message.clone()).or_else(|| old.message.clone().filter(|_| over)),
        conditions: Some(conditions),
        host_ip: host.ips.first().cloned(),
        host_ips: some(host.ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: some(ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: old.start_time.clone().or_else(|| Some(time(view.first_seen()))),
        qos_class: Some(resources::qos(want.pod).as_str().to_owned()),
        init_container_statuses: some(init),
        container_statuses: some(main),
        ephemeral_container_statuses: some(ephemeral),
        observed_generation: want.pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

struct View<'a> {
    want: &'a Want<'a>,
    seen: &'a SeenPod,
    memory: &'a Memory,
    old: &'a PodStatus,
    host: &'a Host,
    now: Nanos,
    /// Nothing is started any more.
    ending: bool,
    /// And nothing runs any more.
    terminal: bool,
}

impl View<'_> {
    fn first_seen(&self) -> Nanos {
        self.seen.sandboxes.iter().map(|s| s.created_at).min().unwrap_or(self.now)
    }

    fn ips(&self) -> Vec<String> {
        if podspec::host_network(self.want.pod) {
            return match active_sandbox(self.seen) {
                Some(_) => self.host.ips.clone(),
                None => self.old_ips(),
            };
        }
        if self.seen.ips.is_empty() { self.old_ips() } else { self.seen.ips.clone() }
    }

    /// A pod that has ended keeps the address that it had.
    fn old_ips(&self) -> Vec<String> {
        match self.ending || outcome(self.want.pod, self.seen).is_over() {
            true => self.old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
            false => Vec::new(),
        }
    }

    fn container(
        &self,
        c: &Container,
        role: Role,
        old: Option<&[ContainerStatus]>,
    ) -> ContainerStatus {
        let old = old.and_then(|list| list.iter().find(|s| s.name == c.name));
        let newest = latest(self.seen, &c.name);
        let (state, last_state) = self.states(c, role, newest, old);
        let running = state.running.is_some();
        let started = newest.filter(|_| running).map(|n| self.is_started(c, n, old));
        let ready = match role {
            Role::Init => state.terminated.as_ref().is_some_and(|t| t.exit_code == 0),
            Role::Sidecar | Role::Main | Role::Ephemeral => {
                started == Some(true) && newest.is_some_and(|n| self.is_ready(c, n, old))
            }
        };
        ContainerStatus {
            name: c.name.clone(),
            ready,
            started: Some(started.unwrap_or(false)),
            restart_count: match newest {
                Some(n) => i32::try_from(n.status.attempt).unwrap_or(i32::MAX),
                None => old.map_or(0, |o| o.restart_count),
            },
            image: newest
                .map(|n| n.status.image.clone())
                .filter(|i| !i.is_empty() && !i.starts_with("sha256:"))
                .unwrap_or_else(|| c.image.clone().unwrap_or_default()),
            image_id: match newest {
                Some(n) => n.status.image_ref.clone(),
                None => old.map(|o| o.image_id.clone()).unwrap_or_default(),
            },
            container_id: match newest {
                Some(n) => Some(self.container_id(n)),
                None => old.and_then(|o| o.container_id.clone()),
            },
            last_state: Some(last_state),
            state: Some(state),
            ..ContainerStatus::default()
        }
    }

    /// Those of containers that were added to look into the pod; whether it is well does not depend on
    /// them, so they are never ready.
    fn ephemeral(&self) -> Vec<ContainerStatus> {
        let old = self.old.ephemeral_container_statuses.as_deref();
        let one = |(c, role): (std::borrow::Cow<'_, Container>, Role)| ContainerStatus {
            ready: false,
            started: None,
            ..self.container(&c, role, old)
        };
        podspec::containers(self.want.pod)
            .filter(|(_, role)| *role == Role::Ephemeral)
            .map(one)
            .collect()
    }

    fn container_id(&self, c: &PodContainer) -> String {
        format!("{}://{}", self.host.runtime, c.status.id)
    }

    /// The container's state and the one before it.
    fn states(
        &self,
        c: &Container,
        role: Role,
        newest: Option<&PodContainer>,
        old: Option<&ContainerStatus>,
    ) -> (State, State) {
        let before = || newest.and_then(|n| self.previous(n)).map(|p| self.terminated(p));
        let old_last = || old.and_then(|o| o.last_state.clone()).and_then(|s| s.terminated);
        let last = || before().or_else(old_last);
        let failure = self.memory.containers.get(&c.name).filter(|_| !self.ending);
        let Some(n) = newest else {
            return self.absent(c, failure, old);
        };
        match n.status.state {
            ContainerState::Running => (
                State {
                    running: Some(ContainerStateRunning {
                        started_at: Some(time(n.status.started_at)),
                    }),
                    ..State::default()
                },
                terminated(last()),
            ),
            ContainerState::Exited => {
                let ended = self.terminated(n);
                if let Some(why) = self.waiting_to_restart(c, role, n, failure) {
                    return (waiting(why), terminated(Some(ended)));
                }
                (terminated(Some(ended)), terminated(last()))
            }
            ContainerState::Created | ContainerState::Unknown if self.terminal => {
                (terminated(Some(lost("terminated"))), terminated(last()))
            }
            ContainerState::Created | ContainerState::Unknown => {
                (waiting(self.failure_or_default(c, failure)), terminated(last()))
            }
        }
    }

    /// The newest container that ended before this one.
    fn previous(&self, newest: &PodContainer) -> Option<&PodContainer> {
        self.seen
            .containers
            .iter()
            .filter(|c| c.status.name == newest.status.name && c.status.id != newest.status.id)
            .filter(|c| c.status.state == ContainerState::Exited)
            .max_by_key(|c| (c.status.attempt, c.status.created_at))
    }

    /// A container that the runtime does not have.
    fn absent(
        &self,
        c: &Container,
        failure: Option<&Failure>,
        old: Option<&ContainerStatus>,
    ) -> (State, State) {
        let old_state = old.and_then(|o| o.state.as_ref());
        let old_last = old.and_then(|o| o.last_state.clone()).unwrap_or_default();
        if let Some(ended) = old_state.and_then(|s| s.terminated.clone()) {
            // Removed after its end: what is known of it stays known.
            if self.ending || self.terminal {
                return (terminated(Some(ended)), old_last);
            }
            return (waiting(self.failure_or_default(c, failure)), terminated(Some(ended)));
        }
        if self.terminal {
            return (terminated(Some(lost("terminated"))), old_last);
        }
        let last = match old_state.and_then(|s| s.running.as_ref()) {
            // Somebody removed it behind our back.
            Some(_) => terminated(Some(lost("deleted.  The container used to be Running"))),
            None => old_last,
        };
        (waiting(self.failure_or_default(c, failure)), last)
    }

    fn failure_or_default(
        &self,
        c: &Container,
        failure: Option<&Failure>,
    ) -> ContainerStateWaiting {
        if let Some(f) = failure {
            return self.failed(c, f);
        }
        let reason = match podspec::init_containers(self.want.pod).next() {
            Some(_) => "PodInitializing",
            None => "ContainerCreating",
        };
        why(reason, None)
    }

    fn failed(&self, c: &Container, f: &Failure) -> ContainerStateWaiting {
        if f.is_pull() && self.now >= f.at + PULL_FAILURE_SHOWN {
            let image = c.image.as_deref().unwrap_or_default();
            let message =
                format!("Back-off pulling image \"{image}\": ErrImagePull: {}", f.message);
            return why("ImagePullBackOff", Some(message));
        }
        why(f.reason, Some(f.message.clone()))
    }

    /// Why an ended container that is to run again does not run yet.
    fn waiting_to_restart(
        &self,
        c: &Container,
        role: Role,
        n: &PodContainer,
        failure: Option<&Failure>,
    ) -> Option<ContainerStateWaiting> {
        let policy = match (role, podspec::restart_policy(self.want.pod)) {
            (Role::Sidecar, _) => RestartPolicy::Always,
            (Role::Ephemeral, _) => RestartPolicy::Never,
            (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
            (_, policy) => policy,
        };
        let over = self.ending || outcome(self.want.pod, self.seen).is_over();
        if over || !policy.restarts(n.status.exit_code) {
            return None;
        }
        if let Some(f) = failure {
            return Some(self.failed(c, f));
        }
        if self.now >= restart_at(n) {
            return None;
        }
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(backoff(n)),
            c.name,
            podspec::full_name(self.want.pod)
        );
        Some(why("CrashLoopBackOff", Some(message)))
    }

    fn terminated(&self, c: &PodContainer) -> ContainerStateTerminated {
        let s = &c.status;
        let reason = match (s.reason.as_str(), s.exit_code) {
            ("", 0) => "Completed",
            ("", _) => "Error",
            (reason, _) => reason,
        };
        let message = if c.last_words.is_empty() { &s.message } else { &c.last_words };
        ContainerStateTerminated {
            container_id: Some(self.container_id(c)),
            exit_code: s.exit_code,
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.clone()),
            started_at: (s.started_at > 0).then(|| time(s.started_at)),
            finished_at: Some(time(s.finished_at)),
            signal: None,
        }
    }

    fn is_started(&self, c: &Container, n: &PodContainer, old: Option<&ContainerStatus>) -> bool {
        c.startup_probe.is_none()
            || self
                .memory
                .health
                .get(&n.status.id)
                .and_then(|h| h.started)
                .unwrap_or_else(|| self.same(n, old).is_some_and(|o| o.started == Some(true)))
    }

    fn is_ready(&self, c: &Container, n: &PodContainer, old: Option<&ContainerStatus>) -> bool {
        c.readiness_probe.is_none()
            || self
                .memory
                .health
                .get(&n.status.id)
                .and_then(|h| h.ready)
                .unwrap_or_else(|| self.same(n, old).is_some_and(|o| o.ready))
    }

    /// The old status, if it speaks of this very container: after a restart of edgecore it holds
    /// until the first probe.
    fn same<'o>(
        &self,
        n: &PodContainer,
        old: Option<&'o ContainerStatus>,
    ) -> Option<&'o ContainerStatus> {
        old.filter(|o| o.container_id.as_deref() == Some(&*self.container_id(n)))
    }

    fn phase(&self, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
        match self.old.phase.as_deref() {
            Some("Succeeded") => return "Succeeded",
            Some("Failed") => return "Failed",
            _ => {}
        }
        if self.memory.ended.is_some() && self.terminal {
            return "Failed";
        }
        if outcome(self.want.pod, self.seen) == Outcome::InitFailed {
            return "Failed";
        }
        let roles: Vec<Role> =
            podspec::init_containers(self.want.pod).map(|(_, role)| role).collect();
        let initializing = init.iter().zip(&roles).any(|(s, role)| match role {
            Role::Sidecar => s.started != Some(true),
            _ => !s.ready,
        });
        let of = |s: &ContainerStatus| s.state.clone().unwrap_or_default();
        let begun = main.iter().any(|s| {
            let last = s.last_state.as_ref().is_some_and(|l| l.terminated.is_some());
            of(s).running.is_some() || of(s).terminated.is_some() || last
        });
        let waiting = main.iter().any(|s| {
            of(s).waiting.is_some()
                && s.last_state.as_ref().is_none_or(|last| last.terminated.is_none())
        });
        let running = main.iter().any(|s| of(s).running.is_some());
        let failed = main.iter().any(|s| of(s).terminated.is_some_and(|t| t.exit_code != 0));
        if self.terminal {
            return if failed || main.is_empty() { "Failed" } else { "Succeeded" };
        }
        if (initializing && !begun) || waiting {
            return "Pending";
        }
        let sidecars_up = init
            .iter()
            .zip(&roles)
            .any(|(s, role)| *role == Role::Sidecar && of(s).running.is_some());
        if running || sidecars_up {
            return "Running";
        }
        match outcome(self.want.pod, self.seen) {
            Outcome::Finished if failed => "Failed",
            Outcome::Finished => "Succeeded",
            Outcome::InitFailed => "Failed",
            Outcome::Open if begun => "Running",
            Outcome::Open => "Pending",
        }
    }
}

fn waiting(why: ContainerStateWaiting) -> State {
    State { waiting: Some(why), ..State::default() }
}

fn terminated(t: Option<ContainerStateTerminated>) -> State {
    State { terminated: t, ..State::default() }
}

fn why(reason: &str, message: Option<String>) -> ContainerStateWaiting {
    ContainerStateWaiting { reason: Some(reason.to_owned()), message }
}

fn lost(when: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some(format!("The container could not be located when the pod was {when}")),
        ..ContainerStateTerminated::default()
    }
}

/// The conditions of a pod.
struct Conditions<'a> {
    view: &'a View<'a>,
    phase: &'static str,
    init: &'a [ContainerStatus],
    main: &'a [ContainerStatus],
}

/// What a condition says: true or false, a reason and a message.
type Says = (bool, Option<&'static str>, Option<String>);

impl Conditions<'_> {
    fn all(&self) -> Vec<PodCondition> {
        let sandbox = active_sandbox(self.view.seen).is_some()
            && (podspec::host_network(self.view.want.pod)
                || !self.view.host.pod_network
                || !self.view.seen.ips.is_empty());
        let containers_ready = self.containers_ready();
        let mut all = vec![
            self.condition("PodReadyToStartContainers", (sandbox, None, None)),
            self.condition("Initialized", self.initialized()),
            self.condition("Ready", self.ready(&containers_ready)),
            self.condition("ContainersReady", containers_ready),
            self.condition("PodScheduled", (true, None, None)),
        ];
        if let Some(ended) = self.view.memory.ended.as_ref().filter(|e| e.reason == "Evicted") {
            let says = (true, Some("TerminationByKubelet"), Some(ended.message.clone()));
            all.push(self.condition("DisruptionTarget", says));
        }
        let held = |c: &PodCondition| c.type_ == HELD;
        if self.view.old.conditions.iter().flatten().any(held) {
            // The cloud keeps what it is not told anything of.
            all.push(self.condition(HELD, (false, None, None)));
        }
        all
    }

    fn condition(&self, kind: &str, (is, reason, message): Says) -> PodCondition {
        let status = if is { "True" } else { "False" };
        let before = self.view.old.conditions.iter().flatten().find(|c| c.type_ == kind);
        let since = before
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone())
            .unwrap_or_else(|| time(self.view.now));
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(since),
            ..PodCondition::default()
        }
    }

    fn initialized(&self) -> Says {
        if self.phase == "Succeeded" {
            return (true, Some("PodCompleted"), None);
        }
        let begun = self.main.iter().any(|s| {
            s.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        });
        let incomplete: Vec<&str> = podspec::init_containers(self.view.want.pod)
            .zip(self.init)
            .filter(|((_, role), s)| match role {
                Role::Sidecar => s.started != Some(true),
                _ => !s.ready,
            })
            .map(|(_, s)| s.name.as_str())
            .collect();
        if incomplete.is_empty() || (begun && !self.view.terminal) {
            return (true, None, None);
        }
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        (false, Some("ContainersNotInitialized"), Some(message))
    }

    fn containers_ready(&self) -> Says {
        match self.phase {
            "Succeeded" => return (false, Some("PodCompleted"), None),
            "Failed" => return (false, Some("PodFailed"), None),
            _ => {}
        }
        let sidecars = podspec::init_containers(self.view.want.pod)
            .zip(self.init)
            .filter(|((_, role), _)| *role == Role::Sidecar)
            .map(|(_, s)| s);
        // In the order of the spec, as kubelet names them.
        let main = podspec::spec(self.view.want.pod)
            .containers
            .iter()
            .filter_map(|c| self.main.iter().find(|s| s.name == c.name));
        let unready: Vec<&str> =
            sidecars.chain(main).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
        if unready.is_empty() {
            return (true, None, None);
        }
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        (false, Some("ContainersNotReady"), Some(message))
    }

    fn ready(&self, containers: &Says) -> Says {
        if !containers.0 {
            return containers.clone();
        }
        let unmet: Vec<String> = podspec::spec(self.view.want.pod)
            .readiness_gates
            .iter()
            .flatten()
            .filter_map(|gate| {
                let kind = &gate.condition_type;
                let all = self.view.want.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
                match all.into_iter().flatten().find(|c| c.type_ == *kind) {
                    None => Some(format!(
                        "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                    )),
                    Some(c) if c.status != "True" => Some(format!(
                        "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                        c.status
                    )),
                    Some(_) => None,
                }
            })
            .collect();
        if unmet.is_empty() {
            return (true, None, None);
        }
        (false, Some("ReadinessGatesNotReady"), Some(unmet.join(", ")))
    }
}

/// The condition of a pod whose upgrade is held back.
const HELD: &str = "HeldUpgrade";

/// The status of a pod whose upgrade is held back: as it was, and a condition that says so.
pub(crate) fn held(pod: &Pod, now: Nanos) -> PodStatus {
    let mut status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    if !conditions.iter().any(|c| c.type_ == HELD && c.status == "True") {
        conditions.retain(|c| c.type_ != HELD);
        conditions.push(PodCondition {
            type_: HELD.to_owned(),
            status: "True".to_owned(),
            reason: Some("HoldUpgradeEnabled".to_owned()),
            message: Some(
                "Upgrade is currently held due to edge-hold-upgrade annotation".to_owned(),
            ),
            last_transition_time: Some(time(now)),
            ..PodCondition::default()
        });
    }
    status
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

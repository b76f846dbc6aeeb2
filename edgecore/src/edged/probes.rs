//! Liveness, readiness and startup probes.
//!
//! Owns: a task per probe of a running container.
//! Called by: `worker.rs`, which starts and ends them as containers come and go.
//! Never: ends a container; it tells the worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::task::JoinHandle;

use super::action::{self, Target};
use super::inbox::Inbox;
use super::memory::Unhealthy;
use super::podspec;
use super::recorder::{Kind, Recorder};
use super::runtime::{ContainerRuntime, ContainerState, SeenPod};

pub(crate) const READINESS: &str = "readiness";
pub(crate) const LIVENESS: &str = "liveness";
pub(crate) const STARTUP: &str = "startup";

/// What a probe has come to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It passes.
    Passes,
    /// It fails: not ready.
    Fails,
    /// It fails: start again.
    Restart(Unhealthy),
}

/// Counts results until they mean something. Pure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    passed: u32,
    failed: u32,
}

impl Counter {
    /// Counts one; says whether the probe now stands for passing or failing, or neither.
    pub(crate) fn count(&mut self, passed: bool, probe: &Probe) -> Option<bool> {
        let at_least =
            |n: Option<i32>, default| u32::try_from(n.unwrap_or(default)).unwrap_or(1).max(1);
        if passed {
            self.failed = 0;
            self.passed = self.passed.saturating_add(1);
            (self.passed >= at_least(probe.success_threshold, 1)).then_some(true)
        } else {
            self.passed = 0;
            self.failed = self.failed.saturating_add(1);
            (self.failed >= at_least(probe.failure_threshold, 3)).then_some(false)
        }
    }
}

/// The probe tasks of one pod; dropped with the worker.
#[derive(Default)]
pub(crate) struct Probes {
    tasks: BTreeMap<(String, &'static str), Task>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a probe task needs.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) inbox: Inbox,
    pub(crate) pod: Arc<Pod>,
    pub(crate) sandbox: Option<String>,
    pub(crate) ips: Vec<String>,
}

impl Probes {
    /// Starts the probes of running containers that have none, and ends those of containers that
    /// run no more. `started` says which containers have passed their startup probe.
    pub(crate) fn sync(&mut self, bench: &Bench, seen: &SeenPod, started: impl Fn(&str) -> bool) {
        let running = |id: &str| {
            seen.containers
                .iter()
                .any(|c| c.status.id == id && c.status.state == ContainerState::Running)
        };
        self.tasks.retain(|(id, kind), _| running(id) && !(*kind == STARTUP && started(id)));
        for c in &seen.containers {
            let Some((spec, _)) = podspec::container(&bench.pod, &c.status.name) else { continue };
            if c.status.state != ContainerState::Running {
                continue;
            }
            for (kind, probe) in due(&spec, started(&c.status.id)) {
                let key = (c.status.id.clone(), kind);
                self.tasks.entry(key).or_insert_with(|| {
                    let bench = bench.clone();
                    let (spec, probe) = (spec.clone().into_owned(), probe.clone());
                    let id = c.status.id.clone();
                    Task(tokio::spawn(run(bench, spec, kind, probe, id)))
                });
            }
        }
    }

    /// Ends all.
    pub(crate) fn clear(&mut self) {
        self.tasks.clear();
    }
}

/// Which probes run: until the startup probe has passed, only that.
fn due(c: &Container, started: bool) -> Vec<(&'static str, &Probe)> {
    match &c.startup_probe {
        Some(startup) if !started => vec![(STARTUP, startup)],
        _ => [(LIVENESS, &c.liveness_probe), (READINESS, &c.readiness_probe)]
            .into_iter()
            .filter_map(|(kind, p)| p.as_ref().map(|p| (kind, p)))
            .collect(),
    }
}

fn seconds(n: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(n.and_then(|n| u64::try_from(n).ok()).unwrap_or(default))
}

async fn run(bench: Bench, c: Container, kind: &'static str, probe: Probe, id: String) {
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut counter, mut said) = (Counter::default(), None);
    loop {
        ticks.tick().await;
        let target = Target {
            runtime: bench.runtime.as_ref(),
            container: &c,
            id: &id,
            sandbox: bench.sandbox.as_deref(),
            ips: &bench.ips,
        };
        let result = action::probe(&probe, &target, limit).await;
        if let Err(why) = &result {
            let mut name = kind.to_owned();
            name[..1].make_ascii_uppercase();
            let message = format!("{name} probe failed: {why}");
            bench.recorder.container(&bench.pod, &c.name, Kind::Warning, "Unhealthy", message);
        }
        let Some(passes) = counter.count(result.is_ok(), &probe) else { continue };
        if said == Some(passes) {
            continue;
        }
        said = Some(passes);
        let grace = probe.termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
        let verdict = match (passes, kind) {
            (true, _) => Verdict::Passes,
            (false, READINESS) => Verdict::Fails,
            (false, _) => {
                Verdict::Restart(Unhealthy { probe: kind, grace: grace.map(Duration::from_secs) })
            }
        };
        bench.inbox.tell(|news| {
            news.verdicts.insert((id.clone(), kind), verdict);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_means_something_after_its_thresholds() {
        let probe =
            Probe { failure_threshold: Some(2), success_threshold: Some(2), ..Probe::default() };
        let mut c = Counter::default();
        let said: Vec<_> =
            [true, true, false, true, false, false, false].map(|r| c.count(r, &probe)).into();
        let want = [None, Some(true), None, None, None, Some(false), Some(false)];
        assert_eq!(said, want);
    }

    #[test]
    fn only_the_startup_probe_runs_until_it_has_passed() {
        let c = Container {
            startup_probe: Some(Probe::default()),
            liveness_probe: Some(Probe::default()),
            readiness_probe: Some(Probe::default()),
            ..Container::default()
        };
        let kinds = |started| due(&c, started).into_iter().map(|(k, _)| k).collect::<Vec<_>>();
        assert_eq!(kinds(false), [STARTUP]);
        assert_eq!(kinds(true), [LIVENESS, READINESS]);
    }
}

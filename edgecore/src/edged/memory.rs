//! What a pod's worker remembers and the runtime cannot know. Lost without harm.
//!
//! Owns: failures to be waited out, the results of probes.
//! Called by: `worker.rs` writes it; `plan.rs` and `status.rs` read it.
//! Never: holds what a restart of edgecore would need.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clock::{Nanos, SECOND, length};

/// The first wait before a try is repeated, and the longest.
pub(crate) const BACKOFF: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(300));

/// What a worker remembers of its pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Memory {
    /// Its volumes.
    pub(crate) volumes: Volumes,
    /// Why its sandbox could not be made.
    pub(crate) sandbox: Option<Failure>,
    /// Why a container could not be started, by name.
    pub(crate) containers: BTreeMap<String, Failure>,
    /// What probes say, by container id.
    pub(crate) health: BTreeMap<String, Health>,
    /// Containers that are being stopped, by id; their stop is not asked for twice.
    pub(crate) stopping: BTreeSet<String>,
    /// When the pod's end began.
    pub(crate) ending_since: Option<Nanos>,
    /// Why it is not to run although the cloud wants it.
    pub(crate) ended: Option<Ended>,
}

/// Whether the pod's volumes are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Volumes {
    /// Not looked at since edgecore started.
    #[default]
    Unknown,
    /// All there and up to date.
    Ready,
    /// One could not be made.
    Failed(Failure),
}

/// Something did not work and is tried again later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// What went wrong, in one word of kubelet's.
    pub(crate) reason: &'static str,
    /// The cause.
    pub(crate) message: String,
    /// How often in a row.
    pub(crate) tries: u32,
    /// When.
    pub(crate) at: Nanos,
    /// Not tried again before.
    pub(crate) until: Nanos,
}

impl Failure {
    /// The next failure after `before`, with its wait doubled.
    pub(crate) fn after(
        before: Option<&Failure>,
        reason: &'static str,
        message: String,
        now: Nanos,
    ) -> Self {
        let tries = before.map_or(0, |f| f.tries).saturating_add(1);
        Self { reason, message, tries, at: now, until: now + length(wait(tries)) }
    }

    /// Whether the image could not be had.
    pub(crate) fn is_pull(&self) -> bool {
        self.reason == "ErrImagePull"
    }
}

/// 10 s, 20 s, 40 s .. 5 min.
pub(crate) fn wait(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    BACKOFF.0.saturating_mul(1 << doublings).min(BACKOFF.1)
}

/// What the probes of one container say. `None`: that probe has not said anything yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Health {
    /// Readiness.
    pub(crate) ready: Option<bool>,
    /// Startup.
    pub(crate) started: Option<bool>,
    /// It must be ended and started again: the liveness or startup probe failed.
    pub(crate) unhealthy: Option<Unhealthy>,
}

/// Why a container must be started again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unhealthy {
    /// `liveness` or `startup`.
    pub(crate) probe: &'static str,
    /// How long the container may take to end, if the probe says so itself.
    pub(crate) grace: Option<Duration>,
}

/// Why a pod is ended for good by its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// `Evicted`, `DeadlineExceeded` ..
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
    /// Grace period, if not the pod's own.
    pub(crate) grace: Option<Duration>,
}

/// `back-off 1m20s`: durations as Go writes them.
pub(crate) fn go_duration(d: Duration) -> String {
    let seconds = d.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s}s"),
        (m, s) if m < 60 => format!("{m}m{s}s"),
        (m, s) => format!("{}h{}m{s}s", m / 60, m % 60),
    }
}

/// How long after a failed pull the status speaks of waiting and no longer of the failure.
pub(crate) const PULL_FAILURE_SHOWN: Nanos = SECOND;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes() {
        let waits: Vec<u64> = (1..=7).map(|n| wait(n).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(wait(1000).as_secs(), 300);
    }

    #[test]
    fn durations_read_as_in_go() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
    }
}

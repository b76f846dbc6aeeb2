//! The time of day, for judging the timestamps of a runtime.
//!
//! Owns: nothing. Called by: the tasks of edged, which hand `now` to the functions that decide.
//! Never: read inside a function that decides.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

/// Nanoseconds since 1970, as container runtimes count.
pub(crate) type Nanos = i64;

/// A second.
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Where the time of day comes from.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// `None`: the system. Else a moment that moves on with tokio's clock, which tests can pause.
    from: Option<(Nanos, Instant)>,
}

impl Clock {
    /// The system's.
    pub const fn system() -> Self {
        Self { from: None }
    }

    /// One that starts at this moment and moves with tokio's clock.
    pub fn starting_at(moment: Timestamp) -> Self {
        Self { from: Some((nanos(moment), Instant::now())) }
    }

    /// Nanoseconds since 1970.
    pub fn now(&self) -> Nanos {
        match self.from {
            None => nanos(Timestamp::now()),
            Some((start, at)) => start.saturating_add(length(at.elapsed())),
        }
    }
}

fn nanos(moment: Timestamp) -> Nanos {
    i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX)
}

/// A duration in nanoseconds.
pub(crate) fn length(d: Duration) -> Nanos {
    i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)
}

/// The time between two moments, none if `to` is not later.
pub(crate) fn between(from: Nanos, to: Nanos) -> Duration {
    Duration::from_nanos(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

/// As Kubernetes writes it: whole seconds.
pub(crate) fn time(moment: Nanos) -> Time {
    Time(Timestamp::from_second(moment.div_euclid(SECOND)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// From Kubernetes' form.
pub(crate) fn from_time(t: &Time) -> Nanos {
    nanos(t.0)
}

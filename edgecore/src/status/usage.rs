//! How much of the processor and the memory is used, from counters read twice.
//!
//! Owns: the counters of the last look.
//! Called by: `mod.rs`.
//! Never: makes up a rate from one reading: the first look knows memory only.

use std::collections::HashMap;

use api::status::row::Usage;

use crate::edged::node::facts::{self, Machine};
use crate::edged::runtime::{ContainerStats, label};

pub(super) struct Meter {
    machine: Machine,
    /// Processor time of each container, and when it was read: both in nanoseconds.
    containers: HashMap<String, (u64, i64)>,
    /// Ticks in which the processors did something, and all ticks.
    ticks: Option<(u64, u64)>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { machine: facts::machine(), containers: HashMap::new(), ticks: None }
    }

    /// What the node uses, and each pod by its UID.
    pub(super) fn measure(
        &mut self,
        stats: &[ContainerStats],
    ) -> (Option<Usage>, HashMap<String, Usage>) {
        let pods = pods(&mut self.containers, stats);
        let ticks = facts::ticks();
        let before = std::mem::replace(&mut self.ticks, ticks);
        let available = facts::memory_available(&self.machine);
        let capacity = self.machine.cpus * 1000;
        let node = available.map(|available| Usage {
            cpu_millis: before.zip(ticks).map_or(0, |(before, now)| share(before, now, capacity)),
            cpu_capacity_millis: capacity,
            memory: self.machine.memory.saturating_sub(available),
            memory_capacity: self.machine.memory,
        });
        (node, pods)
    }
}

/// The part of `capacity` that was used between two readings. Pure.
fn share(before: (u64, u64), now: (u64, u64), capacity: u64) -> u64 {
    let (busy, all) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
    (busy * capacity).checked_div(all).unwrap_or(0)
}

/// Pure, but for what it remembers in `seen`.
fn pods(
    seen: &mut HashMap<String, (u64, i64)>,
    stats: &[ContainerStats],
) -> HashMap<String, Usage> {
    let mut pods: HashMap<String, Usage> = HashMap::new();
    for container in stats {
        let Some(uid) = container.labels.get(label::POD_UID) else { continue };
        let rate = seen.get(&container.id).map_or(0, |(cpu, at)| {
            let nanos = u64::try_from(container.at - at).unwrap_or(0);
            let used = container.cpu_nanoseconds.saturating_sub(*cpu);
            used.saturating_mul(1000).checked_div(nanos).unwrap_or(0)
        });
        let pod = pods.entry(uid.clone()).or_default();
        pod.cpu_millis += rate;
        pod.memory += container.memory_working_set;
    }
    *seen = stats.iter().map(|c| (c.id.clone(), (c.cpu_nanoseconds, c.at))).collect();
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_readings_and_a_restarted_counter_is_none() {
        let mut seen = HashMap::new();
        let reading = |id: &str, cpu: u64, at: i64| ContainerStats {
            id: id.into(),
            labels: [(label::POD_UID.to_owned(), "u".to_owned())].into(),
            at,
            cpu_nanoseconds: cpu,
            memory_working_set: 100,
            ..ContainerStats::default()
        };
        let second = 1_000_000_000;
        let first = pods(&mut seen, &[reading("a", 5, 0), reading("b", 5, 0)]);
        assert_eq!((first["u"].cpu_millis, first["u"].memory), (0, 200));
        let next = [reading("a", 5 + 250_000_000, second), reading("b", 5 + 500_000_000, second)];
        assert_eq!(pods(&mut seen, &next)["u"].cpu_millis, 750);
        assert_eq!(pods(&mut seen, &[reading("a", 1, 2 * second)])["u"].cpu_millis, 0);
        assert_eq!(seen.len(), 1, "what is gone is forgotten");
    }

    #[test]
    fn a_machine_that_idles_for_three_of_four_ticks_uses_a_quarter_of_its_cores() {
        let (before, now) = ((100, 400), (200, 800));
        assert_eq!(share(before, now, 4000), 1000);
        assert_eq!(share(now, now, 4000), 0);
    }
}

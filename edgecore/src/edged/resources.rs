//! Quantities, QoS classes, limits and cgroup names. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::podspec::{self, Role};
use super::runtime::{CgroupDriver, Resources};

/// How well a pod is treated when memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Qos {
    /// Nothing asked for.
    BestEffort,
    /// Something asked for.
    Burstable,
    /// Exactly what is asked for, for every container.
    Guaranteed,
}

impl Qos {
    /// As the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        }
    }
}

/// A quantity times 1000, rounded up; `None` if it cannot be read. `1500m` is 1500, `2Ki` 2048000.
pub(crate) fn milli(q: &Quantity) -> Option<i128> {
    let text = q.0.trim();
    let digits = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(i, _)| i);
    let (number, suffix) = text.split_at(digits);
    let (numerator, denominator): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        "Pi" => (1_000 << 50, 1),
        "Ei" => (1_000 << 60, 1),
        exponent => {
            let power: u32 =
                exponent.strip_prefix(['e', 'E'])?.parse().ok().filter(|p| *p <= 18)?;
            (1_000 * 10_i128.pow(power), 1)
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.get(..fraction.len().min(9))?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let negative = whole.starts_with('-');
    let whole: i128 = match whole.trim_start_matches(['+', '-']) {
        "" if !fraction.is_empty() => 0,
        digits => digits.parse().ok().filter(|w: &i128| *w < 1 << 64)?,
    };
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scaled = (whole * scale + fraction).checked_mul(numerator)?;
    let divisor = scale * denominator;
    let rounded = scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) != 0);
    Some(if negative { -rounded } else { rounded })
}

/// A quantity in whole units, rounded up.
pub(crate) fn units(q: &Quantity) -> Option<i64> {
    let m = milli(q)?;
    i64::try_from(m.div_euclid(1000) + i128::from(m.rem_euclid(1000) != 0)).ok()
}

type Amounts = BTreeMap<String, Quantity>;

fn amount(of: Option<&Amounts>, what: &str) -> Option<i128> {
    of?.get(what).and_then(milli).filter(|m| *m > 0)
}

fn limits(r: Option<&ResourceRequirements>) -> Option<&Amounts> {
    r?.limits.as_ref()
}

fn requests(r: Option<&ResourceRequirements>) -> Option<&Amounts> {
    r?.requests.as_ref()
}

/// What a container asks for; a limit alone is also a request.
pub(crate) fn request(c: &Container, what: &str) -> Option<i128> {
    let r = c.resources.as_ref();
    amount(requests(r), what).or_else(|| amount(limits(r), what))
}

/// What a container may use at most.
pub(crate) fn limit(c: &Container, what: &str) -> Option<i128> {
    amount(limits(c.resources.as_ref()), what)
}

/// The pod's QoS class: the API server's word, or else reckoned as it would.
pub(crate) fn qos(pod: &Pod) -> Qos {
    match podspec::status(pod).qos_class.as_deref() {
        Some("Guaranteed") => return Qos::Guaranteed,
        Some("Burstable") => return Qos::Burstable,
        Some("BestEffort") => return Qos::BestEffort,
        _ => {}
    }
    let mut any = false;
    let mut guaranteed = true;
    for (c, _) in podspec::lasting(pod) {
        for what in ["cpu", "memory"] {
            let (asked, most) = (request(c, what), limit(c, what));
            any |= asked.is_some();
            guaranteed &= most.is_some() && asked == most;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

const PERIOD: i64 = 100_000;

/// CPU weight: 1024 for a core, at least 2.
pub(crate) fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

fn quota(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(PERIOD) / 1000).max(1000)
}

fn small(v: i128) -> i64 {
    i64::try_from(v).unwrap_or(i64::MAX)
}

/// What is known of this machine and how its cgroups are to be written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// How cgroup parents are written.
    pub(crate) driver: CgroupDriver,
    /// The cgroup above all pods; empty for the top.
    pub(crate) cgroup_root: String,
}

/// The limits of one container.
pub(crate) fn of_container(pod: &Pod, c: &Container, machine: &Machine) -> Resources {
    let cpu_request = request(c, "cpu").map_or(0, small);
    let mut r = Resources {
        cpu_shares: shares(cpu_request),
        oom_score_adj: oom_score(pod, c, machine.memory),
        ..Resources::default()
    };
    if let Some(cpu) = limit(c, "cpu") {
        r.cpu_period = PERIOD;
        r.cpu_quota = quota(small(cpu));
    }
    if let Some(memory) = limit(c, "memory") {
        r.memory_limit = small(memory / 1000);
    }
    r
}

/// The sum of a pod's containers, for its cgroup; memory and CPU time are limited only if every
/// container's are.
pub(crate) fn of_pod(pod: &Pod) -> Resources {
    let mut r = Resources::default();
    let (mut cpu, mut cpu_limit, mut memory_limit) = (0, Some(0), Some(0));
    for (c, role) in podspec::lasting(pod) {
        let (asked, most) = (request(c, "cpu").unwrap_or(0), limit(c, "cpu"));
        let memory = limit(c, "memory");
        let together = |sum: Option<i128>, one: Option<i128>| match role {
            // Init containers run alone, one after the other.
            Role::Init => sum.zip(one.or(Some(0))).map(|(s, o)| s.max(o)),
            Role::Sidecar | Role::Main | Role::Ephemeral => sum.zip(one).map(|(s, o)| s + o),
        };
        cpu = together(Some(cpu), Some(asked)).unwrap_or(0);
        cpu_limit = together(cpu_limit, most);
        memory_limit = together(memory_limit, memory);
    }
    r.cpu_shares = shares(small(cpu));
    if let Some(most) = cpu_limit.filter(|m| *m > 0) {
        r.cpu_period = PERIOD;
        r.cpu_quota = quota(small(most));
    }
    r.memory_limit = memory_limit.map_or(0, |m| small(m / 1000));
    r
}

fn oom_score(pod: &Pod, c: &Container, memory: u64) -> i64 {
    if podspec::spec(pod).priority_class_name.as_deref() == Some("system-node-critical") {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let asked = request(c, "memory").unwrap_or(0) / 1000;
            let share = small(asked * 1000 / i128::from(memory.max(1)));
            (1000 - share).clamp(3, 999)
        }
    }
}

/// The cgroup under which the pod's containers go, as the runtime wants it spelt.
pub(crate) fn cgroup_parent(pod: &Pod, machine: &Machine) -> String {
    let uid = podspec::uid(pod);
    let class = match qos(pod) {
        Qos::Guaranteed => None,
        Qos::Burstable => Some("burstable"),
        Qos::BestEffort => Some("besteffort"),
    };
    match machine.driver {
        CgroupDriver::Cgroupfs => {
            let root = machine.cgroup_root.trim_end_matches('/');
            let class = class.map(|c| format!("/{c}")).unwrap_or_default();
            format!("{root}/kubepods{class}/pod{uid}")
        }
        CgroupDriver::Systemd => {
            let class = class.map(|c| format!("-{c}")).unwrap_or_default();
            format!("kubepods{class}-pod{}.slice", uid.replace('-', "_"))
        }
    }
}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;

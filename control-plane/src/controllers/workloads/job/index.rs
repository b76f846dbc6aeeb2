//! Indexed jobs: each pod has a number of its own.
//!
//! Owns: the text of completed indexes, which are free, when one is tried again, what a pod is told.
//! Called by: `mod.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::pods::{INDEX, Phase, Pod};
use super::super::template;
use crate::registry::{core, meta};

/// Reads `1,3-5,7`.
pub(super) fn read(text: &str) -> BTreeSet<i64> {
    let mut out = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<i64>(), to.parse::<i64>()) {
            // A job has a hundred thousand indexes at most.
            out.extend(from..=to.min(from.saturating_add(100_000)));
        }
    }
    out
}

/// Writes it.
pub(super) fn show(indexes: &BTreeSet<i64>) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for i in indexes {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *i => *end = *i,
            _ => runs.push((*i, *i)),
        }
    }
    let one = |(from, to): &(i64, i64)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    runs.iter().map(one).collect::<Vec<_>>().join(",")
}

/// An index for which a pod may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) index: i64,
    /// How often it has failed.
    pub(super) failures: i64,
    /// When it failed last.
    pub(super) last: Option<jiff::Timestamp>,
}

/// The indexes, in order, that are not `over` and have no pod that works on them.
pub(super) fn free<'a>(
    completions: i64,
    over: impl Fn(i64) -> bool + 'a,
    pods: &[&Pod],
) -> impl Iterator<Item = Free> + 'a {
    let taken: BTreeSet<i64> =
        pods.iter().filter(|p| p.is_active()).filter_map(|p| p.index).collect();
    let mut failed: BTreeMap<i64, (i64, Option<jiff::Timestamp>)> = BTreeMap::new();
    for pod in pods.iter().filter(|p| p.phase == Phase::Failed) {
        let Some(index) = pod.index else { continue };
        let known = failed.entry(index).or_default();
        known.0 = known.0.max(pod.index_failures + 1);
        known.1 = known.1.max(pod.finished.or(pod.created));
    }
    (0..completions).filter(move |i| !over(*i) && !taken.contains(i)).map(move |index| {
        let (failures, last) = failed.get(&index).copied().unwrap_or_default();
        Free { index, failures, last }
    })
}

/// The first rule of a success policy that is met.
pub(super) fn success(job: &Value, succeeded: &BTreeSet<i64>) -> Option<usize> {
    let rules = job["spec"]["successPolicy"]["rules"].as_array()?;
    rules.iter().position(|rule| {
        let count = rule["succeededCount"].as_i64();
        let Some(wanted) = rule["succeededIndexes"].as_str() else {
            return count.is_some_and(|n| succeeded.len() as i64 >= n);
        };
        let wanted = read(wanted);
        let met = wanted.intersection(succeeded).count();
        count.map_or(met == wanted.len(), |n| met as i64 >= n)
    })
}

/// Tells a new pod its index: by annotation, label, host name and environment.
pub(super) fn mark(pod: &mut Value, job: &str, at: i64) {
    template::annotate(pod, INDEX, at.to_string());
    template::label(pod, INDEX, at.to_string());
    // Of a long name the index is kept, as in Kubernetes.
    let end = format!("-{at}-");
    let start = &job[..job.floor_char_boundary(meta::GENERATED.saturating_sub(end.len()))];
    meta::metadata(pod).insert("generateName".into(), format!("{start}{end}").into());
    let spec = core::object(pod, "spec");
    core::default(spec, "hostname", format!("{job}-{at}"));
    let path = format!("metadata.labels['{INDEX}']");
    for field in ["initContainers", "containers"] {
        for container in core::list(spec, field) {
            core::default(container, "env", json!([]));
            let Some(env) = container["env"].as_array_mut() else { continue };
            if !env.iter().any(|e| e["name"] == "JOB_COMPLETION_INDEX") {
                env.push(json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}}));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completed_indexes_are_written_as_ranges_and_read_again() {
        let set: BTreeSet<i64> = [0, 2, 3, 4, 9].into();
        assert_eq!(show(&set), "0,2-4,9");
        assert_eq!(read("0,2-4,9"), set);
        // Two are no range.
        assert_eq!(show(&[0, 2, 3].into()), "0,2,3");
        assert_eq!(read(""), BTreeSet::new());
    }

    // `podGenerateNameWithIndex` of Kubernetes' job controller, and "hostname" of
    // https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
    #[test]
    fn a_pod_of_a_long_name_keeps_its_index() {
        let named = |job: &str, at: i64| {
            let mut pod = json!({"metadata": {}, "spec": {"containers": []}});
            mark(&mut pod, job, at);
            let text = |p: &str| pod.pointer(p).unwrap().as_str().unwrap().to_owned();
            (text("/metadata/generateName"), text("/spec/hostname"))
        };
        let long = "j".repeat(61);
        assert_eq!(named("web", 7), ("web-7-".to_owned(), "web-7".to_owned()));
        assert_eq!(named(&long[..55], 0).0, format!("{}-0-", &long[..55]));
        assert_eq!(named(&long, 0), (format!("{}-0-", &long[..55]), format!("{long}-0")));
        assert_eq!(named(&long[..58], 1234).0, format!("{}-1234-", &long[..52]));
    }
}

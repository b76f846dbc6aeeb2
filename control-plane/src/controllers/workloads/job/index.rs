//! Indexed jobs: each pod has a number of its own.
//!
//! Owns: the text of completed indexes, which are free, what a pod is told. Called by: `mod.rs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::pods::{INDEX, Pod};
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
    let one = |(from, to): &(i64, i64)| {
        if from == to { from.to_string() } else { format!("{from}-{to}") }
    };
    runs.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The first `most` indexes that are not done and have no pod that works on them.
pub(super) fn free(completions: i64, most: usize, done: &BTreeSet<i64>, pods: &[&Pod]) -> Vec<i64> {
    let taken: BTreeSet<i64> =
        pods.iter().filter(|p| p.is_active()).filter_map(|p| p.index).collect();
    let free = (0..completions).filter(|i| !done.contains(i) && !taken.contains(i));
    free.take(most).collect()
}

/// Tells a new pod its index: by annotation, label, host name and environment.
pub(super) fn mark(pod: &mut Value, job: &str, at: i64) {
    template::annotate(pod, INDEX, at.to_string());
    template::label(pod, INDEX, at.to_string());
    meta::metadata(pod).insert("generateName".into(), format!("{job}-{at}-").into());
    let spec = core::object(pod, "spec");
    core::default(spec, "hostname", format!("{job}-{at}"));
    let path = format!("metadata.annotations['{INDEX}']");
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
        assert_eq!(read(""), BTreeSet::new());
    }
}

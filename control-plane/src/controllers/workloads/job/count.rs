//! How many pods of a job have ended, counting each just once.
//!
//! Owns: the counters and the list of pods that have ended but whose finalizer is still there.
//! Called by: `mod.rs`.
//!
//! A pod is kept by a finalizer until it has been counted. First its uid is written into the status,
//! then the finalizer is taken away, then the counter goes up and the uid goes: whatever stops in
//! between, nothing is counted twice or lost ("Job tracking with finalizers" of the page on jobs).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::number;
use super::super::pods::{Phase, Pod};
use super::{index, is_tracked};

/// What has been counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counted: [i64; 2],
    /// Ended and not yet in the counters: succeeded, failed.
    uncounted: [BTreeSet<String>; 2],
    /// Of these, the ones that the stored status knows already.
    recorded: BTreeSet<String>,
    /// Ended, and no failure by the pod failure policy.
    ignored: BTreeSet<String>,
    pub(super) indexes: BTreeSet<i64>,
    /// Indexes that have failed for good.
    pub(super) failed_indexes: BTreeSet<i64>,
    indexed: bool,
    pub(super) stopped_by_policy: Option<String>,
}

impl Tally {
    pub(super) fn succeeded(&self) -> i64 {
        if self.indexed {
            return self.indexes.len() as i64;
        }
        self.counted[0] + self.uncounted[0].len() as i64
    }

    pub(super) fn failed(&self) -> i64 {
        self.counted[1] + self.uncounted[1].len() as i64
    }

    pub(super) fn is_outstanding(&self) -> bool {
        self.uncounted.iter().any(|s| !s.is_empty())
    }

    /// Whether a pod's finalizer may go.
    pub(super) fn is_recorded(&self, uid: &str) -> bool {
        self.recorded.contains(uid) || self.ignored.contains(uid)
    }

    pub(super) fn numbers(&self) -> [(&'static str, i64); 2] {
        let succeeded = if self.indexed { self.succeeded() } else { self.counted[0] };
        [("succeeded", succeeded), ("failed", self.counted[1])]
    }

    pub(super) fn to_value(&self) -> Value {
        let mut v = json!({});
        for (field, set) in ["succeeded", "failed"].into_iter().zip(&self.uncounted) {
            if !set.is_empty() {
                v[field] = json!(set);
            }
        }
        v
    }
}

pub(super) fn tally(job: &Value, pods: &[&Pod]) -> Tally {
    let mut t = Tally {
        counted: [number(job, "/status/succeeded", 0), number(job, "/status/failed", 0)],
        indexed: job["spec"]["completionMode"] == "Indexed",
        ..Tally::default()
    };
    if t.indexed {
        let failed = job["status"]["failedIndexes"].as_str().unwrap_or_default();
        t.failed_indexes = index::read(failed);
        t.indexes = index::read(job["status"]["completedIndexes"].as_str().unwrap_or_default());
    }
    let tracked = |uid: &str| pods.iter().any(|p| p.uid == uid && is_tracked(p));
    for (i, field) in ["succeeded", "failed"].into_iter().enumerate() {
        let list = job["status"]["uncountedTerminatedPods"][field].as_array();
        for uid in list.into_iter().flatten().filter_map(Value::as_str) {
            if tracked(uid) {
                t.uncounted[i].insert(uid.to_owned());
                t.recorded.insert(uid.to_owned());
            } else {
                t.counted[i] += 1;
            }
        }
    }
    let completions = number(job, "/spec/completions", i64::MAX);
    // Who has a policy about failures waits until a pod on its way out has come to its end.
    let patient = job["spec"]["podReplacementPolicy"] == "Failed"
        || !job["spec"]["podFailurePolicy"].is_null();
    let over = |p: &Pod| p.has_ended() || (p.terminating && !patient);
    for pod in pods.iter().filter(|p| is_tracked(p) && over(p)) {
        if t.recorded.contains(&pod.uid) {
            continue;
        }
        if pod.phase == Phase::Succeeded {
            match pod.index.filter(|_| t.indexed) {
                Some(i) if i < completions => {
                    t.indexes.insert(i);
                    t.uncounted[0].insert(pod.uid.clone());
                }
                Some(_) => {
                    t.ignored.insert(pod.uid.clone());
                }
                None => {
                    t.uncounted[0].insert(pod.uid.clone());
                }
            }
            continue;
        }
        match judge(job, pod) {
            Judgement::Ignored => {
                t.ignored.insert(pod.uid.clone());
            }
            counted @ (Judgement::Counted | Judgement::FailIndex) => {
                t.uncounted[1].insert(pod.uid.clone());
                let limit = job["spec"]["backoffLimitPerIndex"].as_i64();
                if let (Some(limit), Some(at)) = (limit, pod.index.filter(|_| t.indexed))
                    && (counted == Judgement::FailIndex || pod.index_failures >= limit)
                    && !t.indexes.contains(&at)
                {
                    t.failed_indexes.insert(at);
                }
            }
            Judgement::Stop(why) => {
                t.uncounted[1].insert(pod.uid.clone());
                t.stopped_by_policy = Some(why);
            }
        }
    }
    t
}

#[derive(PartialEq, Eq)]
enum Judgement {
    Ignored,
    Counted,
    FailIndex,
    Stop(String),
}

/// What the first rule of the pod failure policy that fits says about a failed pod.
fn judge(job: &Value, pod: &Pod) -> Judgement {
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array();
    if pod.phase != Phase::Failed {
        return Judgement::Counted;
    }
    for (i, rule) in rules.into_iter().flatten().enumerate() {
        let Some(why) = fits(rule, pod) else { continue };
        return match rule["action"].as_str() {
            Some("Ignore") => Judgement::Ignored,
            Some("FailIndex") => Judgement::FailIndex,
            Some("FailJob") => Judgement::Stop(format!("{why} matching FailJob rule at index {i}")),
            _ => Judgement::Counted,
        };
    }
    Judgement::Counted
}

fn fits(rule: &Value, pod: &Pod) -> Option<String> {
    let codes = &rule["onExitCodes"];
    if codes.is_object() {
        let values: Vec<i64> =
            codes["values"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        let wanted = codes["operator"] == "In";
        let named = codes["containerName"].as_str();
        let found = pod.exits.iter().find(|(name, code)| {
            *code != 0 && named.is_none_or(|n| n == name) && values.contains(code) == wanted
        });
        return found.map(|(name, code)| {
            format!(
                "Container {name} for pod {}/{} failed with exit code {code}",
                pod.namespace, pod.name
            )
        });
    }
    let patterns = rule["onPodConditions"].as_array()?;
    let found = patterns.iter().find_map(|p| {
        let kind = p["type"].as_str()?;
        (p["status"] == "True" && pod.conditions.iter().any(|c| c == kind)).then_some(kind)
    })?;
    Some(format!("Pod {}/{} has condition {found}", pod.namespace, pod.name))
}

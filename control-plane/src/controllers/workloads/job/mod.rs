//! Jobs: pods that run until enough of them have succeeded.
//!
//! Owns: how many pods to start and stop, when a job is over, its removal. Called by: the loop in
//! `mod.rs`. `count.rs` counts what has ended, `index.rs` knows about indexed jobs.

mod count;
mod index;

use serde_json::{Value, json};

use super::pods::{FAILURES, Phase, Pod, TRACKING};
use super::world::World;
use super::{Action, Context, Kind, Note, Plan, Target, number, template};
use crate::http::delete::Propagation;
use crate::registry::meta;
use count::Tally;

/// The wait after the first failed pod; each further one doubles it.
const BACKOFF: i64 = 10;
/// The longest wait.
const LONGEST_BACKOFF: i64 = 600;
/// Pods made in one go.
const BURST: usize = 500;

/// A job with its pods, in the middle of a decision.
struct Look<'a> {
    job: &'a Value,
    pods: Vec<&'a Pod>,
    tally: Tally,
    cx: &'a Context,
}

impl Look<'_> {
    fn active(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().copied().filter(|p| p.is_active())
    }

    fn is_indexed(&self) -> bool {
        self.job["spec"]["completionMode"] == "Indexed"
    }

    fn is_suspended(&self) -> bool {
        self.job["spec"]["suspend"] == true
    }

    fn completions(&self) -> Option<i64> {
        self.job["spec"]["completions"].as_i64()
    }

    fn is_true(&self, condition: &str) -> bool {
        meta::condition(self.job, condition).is_some_and(|c| c["status"] == "True")
    }
}

/// Whether a job is over, and how.
pub(crate) fn finished(job: &Value) -> Option<&'static str> {
    ["Complete", "Failed"]
        .into_iter()
        .find(|k| meta::condition(job, k).is_some_and(|c| c["status"] == "True"))
}

pub(crate) fn reconcile(world: &World, key: &str, cx: &Context) -> Plan {
    let mut plan = Plan::default();
    let Some(job) = world.get(Kind::Job, key) else {
        release_left_behind(world, key, &mut plan);
        return plan;
    };
    let Some(selector) = template::selector(job) else { return plan };
    let pods = template::claim(world, Kind::Job, job, &selector, &mut plan);
    if meta::is_terminating(job) {
        pods.iter().filter(|p| is_tracked(p)).for_each(|p| release(p, &mut plan));
        return plan;
    }
    if finished(job).is_some() {
        pods.iter().filter(|p| is_tracked(p)).for_each(|p| release(p, &mut plan));
        expire(job, cx, &mut plan);
        return plan;
    }
    if !plan.actions.is_empty() {
        return plan;
    }
    let tally = count::tally(job, &pods);
    let look = Look { job, pods, tally, cx };
    decide(&look, &mut plan);
    plan
}

fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers.iter().any(|f| f == TRACKING)
}

/// Lets go of a pod that has been counted.
fn release(pod: &Pod, plan: &mut Plan) {
    let rest: Vec<&String> = pod.finalizers.iter().filter(|f| *f != TRACKING).collect();
    let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
    let patch = json!({"metadata": {"finalizers": rest}});
    plan.push(Action::Patch(Target::pod(pod), pod.revision.clone(), patch));
}

/// Pods whose job is gone need not be counted any more.
fn release_left_behind(world: &World, key: &str, plan: &mut Plan) {
    let Some((namespace, name)) = key.split_once('/') else { return };
    for pod in world.pods_in(namespace).filter(|p| is_tracked(p)) {
        let of = match &pod.controller {
            Some(c) => c.kind == "Job" && c.name == name,
            None => pod.label("batch.kubernetes.io/job-name") == name,
        };
        if of {
            release(pod, plan);
        }
    }
}

/// Deletes a job whose time after its end is over.
fn expire(job: &Value, cx: &Context, plan: &mut Plan) {
    let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_i64() else { return };
    let ended = ["Complete", "Failed"].iter().find_map(|k| {
        meta::text(meta::condition(job, k)?, "/lastTransitionTime").parse::<jiff::Timestamp>().ok()
    });
    let Some(due) = ended.map(|t| meta::later(t, ttl)) else { return };
    if due <= cx.now {
        let target = Target::of(Kind::Job, job);
        plan.push(Action::Delete(target, Some(Propagation::Foreground), None));
    } else {
        plan.look_at(due);
    }
}

fn decide(look: &Look<'_>, plan: &mut Plan) {
    let mut conditions = look.job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut stop: Vec<&Pod> = Vec::new();
    let failing = failure(look, plan);
    let succeeded = if failing.is_none() { success(look) } else { None };
    let outstanding = look.tally.is_outstanding() || look.pods.iter().any(|p| !p.has_ended());
    let mut note = None;
    if let Some((reason, message)) = &failing {
        set(&mut conditions, look, ("FailureTarget", "True", reason), message);
        stop = look.active().collect();
        if !outstanding {
            set(&mut conditions, look, ("Failed", "True", reason), message);
            note = Some(Note { warning: true, reason: "Failed", message: message.clone() });
        }
    } else if let Some((reason, message)) = &succeeded {
        set(&mut conditions, look, ("SuccessCriteriaMet", "True", reason), message);
        stop = look.active().collect();
        if !outstanding {
            set(&mut conditions, look, ("Complete", "True", reason), message);
            note = Some(Note::normal("Completed", "Job completed"));
        }
    } else if look.is_suspended() {
        stop = look.active().collect();
        if !look.is_true("Suspended") {
            set(&mut conditions, look, ("Suspended", "True", "JobSuspended"), "Job suspended");
            plan.event(Note::normal("Suspended", "Job suspended"));
        }
    } else if look.is_true("Suspended") {
        set(&mut conditions, look, ("Suspended", "False", "JobResumed"), "Job resumed");
        plan.event(Note::normal("Resumed", "Job resumed"));
    }
    if let Some(mut note) = note {
        if note.warning {
            note.reason = failing.as_ref().map_or("Failed", |(r, _)| r);
        }
        plan.event(note);
    }
    status(look, conditions, plan);
    for pod in look.pods.iter().filter(|p| is_tracked(p) && look.tally.is_recorded(&p.uid)) {
        release(pod, plan);
    }
    for pod in stop {
        if failing.is_some() {
            remove(pod, plan);
        } else {
            remove_uncounted(pod, plan);
        }
    }
    if failing.is_none() && succeeded.is_none() && !look.is_suspended() {
        manage(look, plan);
    }
}

fn remove(pod: &Pod, plan: &mut Plan) {
    let note = Note::normal("SuccessfulDelete", format!("Deleted pod: {}", pod.name));
    plan.push(Action::Delete(Target::pod(pod), None, Some(note)));
}

/// Stops a pod that is not wanted any more: that is no failure of it.
fn remove_uncounted(pod: &Pod, plan: &mut Plan) {
    if is_tracked(pod) {
        release(pod, plan);
    }
    remove(pod, plan);
}

fn set(
    conditions: &mut Vec<Value>,
    look: &Look<'_>,
    (kind, value, reason): (&str, &str, &str),
    message: &str,
) {
    let now = meta::timestamp(look.cx.now);
    let new = json!({"type": kind, "status": value, "reason": reason, "message": message,
        "lastProbeTime": now, "lastTransitionTime": now});
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(c) if c["status"] == value => {}
        Some(c) => *c = new,
        None => conditions.push(new),
    }
}

/// Why the job has succeeded, if it has.
fn success(look: &Look<'_>) -> Option<(&'static str, String)> {
    const COUNTED: (&str, &str) =
        ("CompletionsReached", "Reached expected number of succeeded pods");
    let stored = meta::condition(look.job, "SuccessCriteriaMet").filter(|c| c["status"] == "True");
    if let Some(c) = stored {
        let by_policy = c["reason"] == "SuccessPolicy";
        let reason = if by_policy { "SuccessPolicy" } else { COUNTED.0 };
        return Some((reason, meta::text(c, "/message").to_owned()));
    }
    if let Some(i) = index::success(look.job, &look.tally.indexes) {
        return Some(("SuccessPolicy", format!("Matched rules at index {i}")));
    }
    has_succeeded(look).then(|| (COUNTED.0, COUNTED.1.to_owned()))
}

fn has_succeeded(look: &Look<'_>) -> bool {
    match look.completions() {
        Some(n) => look.tally.succeeded() >= n,
        // A work queue is done when one worker said so and all have ended.
        None => {
            look.tally.succeeded() > 0 && look.pods.iter().all(|p| p.has_ended() || p.terminating)
        }
    }
}

/// Why the job has failed, if it has.
fn failure(look: &Look<'_>, plan: &mut Plan) -> Option<(&'static str, String)> {
    if let Some(c) = meta::condition(look.job, "FailureTarget").filter(|c| c["status"] == "True") {
        let known = [
            "BackoffLimitExceeded",
            "DeadlineExceeded",
            "FailedIndexes",
            "MaxFailedIndexesExceeded",
            "PodFailurePolicy",
        ];
        let reason = known.into_iter().find(|r| c["reason"] == *r).unwrap_or("Failed");
        return Some((reason, meta::text(c, "/message").to_owned()));
    }
    if look.is_true("SuccessCriteriaMet") {
        return None;
    }
    if let Some(message) = &look.tally.stopped_by_policy {
        return Some(("PodFailurePolicy", message.clone()));
    }
    if let Some(why) = failed_indexes(look) {
        return Some(why);
    }
    let limit = number(look.job, "/spec/backoffLimit", 6);
    let restarting = look.job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure";
    let restarts: i64 = look.active().map(|p| p.restarts).sum();
    if look.tally.failed() > limit || (restarting && restarts > 0 && restarts >= limit) {
        let message = "Job has reached the specified backoff limit".to_owned();
        return Some(("BackoffLimitExceeded", message));
    }
    let seconds = look.job["spec"]["activeDeadlineSeconds"].as_i64()?;
    let started: jiff::Timestamp = meta::text(look.job, "/status/startTime").parse().ok()?;
    if look.is_suspended() {
        return None;
    }
    let due = meta::later(started, seconds);
    if due <= look.cx.now {
        let message = "Job was active longer than specified deadline".to_owned();
        return Some(("DeadlineExceeded", message));
    }
    plan.look_at(due);
    None
}

/// Why the job has failed by its indexes: too many of them did, or all are over and some did.
fn failed_indexes(look: &Look<'_>) -> Option<(&'static str, String)> {
    let failed = look.tally.failed_indexes.len() as i64;
    if look.job["spec"]["maxFailedIndexes"].as_i64().is_some_and(|most| failed > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(("MaxFailedIndexesExceeded", message.to_owned()));
    }
    let over = failed + look.tally.indexes.len() as i64;
    let all = look.completions().is_some_and(|n| over >= n);
    (failed > 0 && all && index::success(look.job, &look.tally.indexes).is_none())
        .then(|| ("FailedIndexes", "Job has failed indexes".to_owned()))
}

fn status(look: &Look<'_>, conditions: Vec<Value>, plan: &mut Plan) {
    let old = &look.job["status"];
    let ready = look.active().filter(|p| p.is_ready()).count();
    let terminating = look.pods.iter().filter(|p| p.terminating && !p.has_ended()).count();
    let complete = conditions.iter().find(|c| c["type"] == "Complete" && c["status"] == "True");
    let mut status = json!({"ready": ready, "terminating": terminating});
    if let Some(c) = complete {
        status["completionTime"] = c["lastTransitionTime"].clone();
    }
    let counted = [("active", look.active().count() as i64)];
    let numbers = counted.into_iter().chain(look.tally.numbers());
    numbers.filter(|(_, n)| *n > 0).for_each(|(f, n)| status[f] = n.into());
    status["uncountedTerminatedPods"] = look.tally.to_value();
    if look.is_indexed() && !look.tally.indexes.is_empty() {
        status["completedIndexes"] = index::show(&look.tally.indexes).into();
    }
    if look.job["spec"]["backoffLimitPerIndex"].is_i64() {
        status["failedIndexes"] = index::show(&look.tally.failed_indexes).into();
    }
    let was_suspended = look.is_true("Suspended");
    // The clock starts anew when it is resumed.
    let kept = old.get("startTime").filter(|t| t.is_string());
    if let Some(t) = kept.filter(|_| look.is_suspended() || !was_suspended) {
        status["startTime"] = t.clone();
    } else if !look.is_suspended() {
        status["startTime"] = meta::timestamp(look.cx.now).into();
    }
    if !conditions.is_empty() {
        status["conditions"] = conditions.into();
    }
    plan.status(Kind::Job, look.job, status);
}

/// Starts and stops pods.
fn manage(look: &Look<'_>, plan: &mut Plan) {
    let active: Vec<&Pod> = look.active().collect();
    let parallel = number(look.job, "/spec/parallelism", 1);
    let have = active.len() as i64;
    let wanted = match look.completions() {
        Some(n) => {
            let over = look.tally.succeeded() + look.tally.failed_indexes.len() as i64;
            parallel.min(n - over).max(0)
        }
        None if look.tally.succeeded() > 0 => have.min(parallel),
        None => parallel,
    };
    for pod in surplus(look, &active, wanted) {
        remove_uncounted(pod, plan);
    }
    // A pod that is on its way out is replaced at once, or only once it has ended.
    let replaced_late = look.job["spec"]["podReplacementPolicy"] == "Failed";
    let leaving = if replaced_late {
        look.pods.iter().filter(|p| p.terminating && !p.has_ended()).count() as i64
    } else {
        0
    };
    let missing = usize::try_from(wanted - have - leaving).unwrap_or(0).min(BURST);
    if missing == 0 {
        return;
    }
    let each = look.job["spec"]["backoffLimitPerIndex"].is_i64();
    if !each && let Some(due) = backoff(look).filter(|due| *due > look.cx.now) {
        plan.look_at(due);
        return;
    }
    let free = if look.is_indexed() { free(look, missing, each, plan) } else { Vec::new() };
    for i in 0..missing {
        let mut pod = template::pod(Kind::Job, look.job);
        meta::metadata(&mut pod).insert("finalizers".into(), json!([TRACKING]));
        if look.is_indexed() {
            let Some(at) = free.get(i) else { break };
            index::mark(&mut pod, meta::name(look.job), at.index);
            if each {
                template::annotate(&mut pod, FAILURES, at.failures.to_string());
            }
        }
        let note = Note::normal("SuccessfulCreate", "Created pod: {}");
        plan.push(Action::Create(Kind::Pod, pod, Some(note)));
    }
}

/// The first indexes that pods may be made for now. If each has a limit of its own, each also waits for
/// itself alone.
fn free(look: &Look<'_>, most: usize, each: bool, plan: &mut Plan) -> Vec<index::Free> {
    let tally = &look.tally;
    let over = |i: i64| tally.indexes.contains(&i) || tally.failed_indexes.contains(&i);
    let mut free = Vec::new();
    for at in index::free(look.completions().unwrap_or(0), over, &look.pods) {
        if free.len() == most {
            break;
        }
        let due = at.last.filter(|_| each).map(|last| delayed(last, at.failures));
        match due.filter(|due| *due > look.cx.now) {
            Some(due) => plan.look_at(due),
            None => free.push(at),
        }
    }
    free
}

/// Active pods that are too many: those that are least far.
fn surplus<'a>(look: &Look<'_>, active: &[&'a Pod], wanted: i64) -> Vec<&'a Pod> {
    let mut doubles = Vec::new();
    let mut rest: Vec<&Pod> = active.to_vec();
    if look.is_indexed() {
        let mut seen = std::collections::BTreeSet::new();
        let limit = look.completions().unwrap_or(0);
        (rest, doubles) = active.iter().partition(|p| {
            let over =
                |i| look.tally.indexes.contains(&i) || look.tally.failed_indexes.contains(&i);
            p.index.is_some_and(|i| i < limit && !over(i) && seen.insert(i))
        });
    }
    let too_many = rest.len().saturating_sub(usize::try_from(wanted).unwrap_or(0));
    rest.sort_by_key(|p| (p.phase == Phase::Running, p.is_ready(), std::cmp::Reverse(p.created)));
    doubles.extend(rest.into_iter().take(too_many));
    doubles
}

/// When the next pod may be started after failures: ten seconds after the first, and twice as long
/// after each further one since the last success ("Pod backoff failure policy" of the page on jobs).
fn backoff(look: &Look<'_>) -> Option<jiff::Timestamp> {
    let when = |p: &Pod| p.finished.or(p.created);
    let of = |phase| look.pods.iter().filter(move |p| p.phase == phase).filter_map(|p| when(p));
    let success = of(Phase::Succeeded).max();
    let failures: Vec<jiff::Timestamp> =
        of(Phase::Failed).filter(|t| success.is_none_or(|s| *t > s)).collect();
    let last = failures.iter().max()?;
    Some(delayed(*last, i64::try_from(failures.len()).unwrap_or(i64::MAX)))
}

/// When to try again after the last of so many failures.
fn delayed(last: jiff::Timestamp, failures: i64) -> jiff::Timestamp {
    let doublings = failures.saturating_sub(1).clamp(0, 10);
    meta::later(last, (BACKOFF << doublings).min(LONGEST_BACKOFF))
}

#[cfg(test)]
mod tests;

//! What a deployment says of itself.
//!
//! Owns: counts and conditions, and the progress deadline. Called by: `mod.rs`.

use serde_json::{Value, json};

use super::super::{Context, Plan, number};
use super::{Kind, Rollout, size};
use crate::registry::meta;

/// Updates the status; looks again when the deadline is due.
pub(super) fn report(rollout: &Rollout<'_>, cx: &Context, plan: &mut Plan) {
    let status = compute(rollout, cx, plan);
    plan.status(Kind::Deployment, rollout.deployment, status);
}

fn sum<'a>(sets: impl Iterator<Item = &'a Value>, field: &str) -> i64 {
    sets.map(|s| number(s, &format!("/status/{field}"), 0)).sum()
}

/// Whether all pods are of the newest template, there and available.
pub(super) fn is_complete(rollout: &Rollout<'_>) -> bool {
    let wanted = rollout.wanted();
    let updated = sum(rollout.new.into_iter(), "replicas");
    updated == wanted
        && sum(rollout.all(), "replicas") == wanted
        && sum(rollout.all(), "availableReplicas") == wanted
}

pub(super) fn compute(rollout: &Rollout<'_>, cx: &Context, plan: &mut Plan) -> Value {
    let d = rollout.deployment;
    let available = sum(rollout.all(), "availableReplicas");
    let total: i64 = rollout.all().map(size).sum();
    let mut status = json!({});
    for (field, n) in [
        ("replicas", sum(rollout.all(), "replicas")),
        ("updatedReplicas", sum(rollout.new.into_iter(), "replicas")),
        ("readyReplicas", sum(rollout.all(), "readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", (total - available).max(0)),
    ] {
        if n > 0 {
            status[field] = n.into();
        }
    }
    if let Some(g) = d["metadata"].get("generation") {
        status["observedGeneration"] = g.clone();
    }
    if let Some(c) = d["status"].get("collisionCount") {
        status["collisionCount"] = c.clone();
    }
    if let Some(c) = d["status"].get("conditions") {
        status["conditions"] = c.clone();
    }
    let (_, least) = rollout.bounds();
    let (value, reason, message) = if available >= least {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status, &d["status"], ("Available", value, reason), message, cx.now);
    progress(rollout, &mut status, cx, plan);
    failure(rollout, &mut status, cx);
    status
}

fn progress(rollout: &Rollout<'_>, status: &mut Value, cx: &Context, plan: &mut Plan) {
    let d = rollout.deployment;
    let old = &d["status"];
    let deadline = number(d, "/spec/progressDeadlineSeconds", 600);
    let current = meta::condition(d, "Progressing");
    let reason = current.and_then(|c| c["reason"].as_str()).unwrap_or_default();
    let mut set = |value, reason, message: &str| {
        set_condition(status, old, ("Progressing", value, reason), message, cx.now);
    };
    if d["spec"]["paused"] == true {
        if reason != "DeploymentPaused" && reason != "ProgressDeadlineExceeded" {
            set("Unknown", "DeploymentPaused", "Deployment is paused");
        }
        return;
    }
    if reason == "DeploymentPaused" {
        set("Unknown", "DeploymentResumed", "Deployment is resumed");
        return;
    }
    if let Some(why) = cx.failed.as_deref().filter(|_| rollout.new.is_none()) {
        set("False", "ReplicaSetCreateError", &format!("Failed to create new replica set: {why}"));
        return;
    }
    let subject = rollout.new.map_or_else(
        || format!("Deployment \"{}\"", meta::name(d)),
        |n| format!("ReplicaSet \"{}\"", meta::name(n)),
    );
    if reason == "NewReplicaSetAvailable"
        && sum(rollout.all(), "replicas") == sum(rollout.new.into_iter(), "replicas")
        && current.is_some_and(|c| c["message"].as_str().is_some_and(|m| m.starts_with(&subject)))
    {
        return;
    }
    if is_complete(rollout) {
        set("True", "NewReplicaSetAvailable", &format!("{subject} has successfully progressed."));
    } else if has_moved(rollout) || (reason.is_empty() && rollout.new.is_some()) {
        set("True", "ReplicaSetUpdated", &format!("{subject} is progressing."));
        plan.look_at(meta::later(cx.now, deadline));
    } else if !matches!(reason, "NewReplicaSetAvailable" | "ProgressDeadlineExceeded")
        && deadline < i64::from(i32::MAX)
    {
        let since = current.map(|c| meta::text(c, "/lastUpdateTime")).unwrap_or_default();
        let Ok(since) = since.parse::<jiff::Timestamp>() else { return };
        let due = meta::later(since, deadline);
        if due <= cx.now {
            let message = format!("{subject} has timed out progressing.");
            set("False", "ProgressDeadlineExceeded", &message);
        } else {
            plan.look_at(due);
        }
    }
}

/// Whether something got better since the last report.
fn has_moved(rollout: &Rollout<'_>) -> bool {
    let d = rollout.deployment;
    let had = |f: &str| number(d, &format!("/status/{f}"), 0);
    let replicas = sum(rollout.all(), "replicas");
    let updated = sum(rollout.new.into_iter(), "replicas");
    updated > had("updatedReplicas")
        || replicas - updated < had("replicas") - had("updatedReplicas")
        || sum(rollout.all(), "readyReplicas") > had("readyReplicas")
        || sum(rollout.all(), "availableReplicas") > had("availableReplicas")
}

/// Passes on why a ReplicaSet cannot make pods.
fn failure(rollout: &Rollout<'_>, status: &mut Value, cx: &Context) {
    let of = |s: &Value| meta::condition(s, "ReplicaFailure").cloned();
    let found = rollout.new.and_then(of).or_else(|| rollout.old.iter().find_map(|s| of(s)));
    match found {
        Some(c) => {
            let text = |f: &str| c[f].as_str().unwrap_or_default().to_owned();
            let (value, reason) = (text("status"), text("reason"));
            let old = &rollout.deployment["status"];
            let what = ("ReplicaFailure", value.as_str(), reason.as_str());
            set_condition(status, old, what, &text("message"), cx.now);
        }
        None => {
            if let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut) {
                list.retain(|c| c["type"] != "ReplicaFailure");
            }
        }
    }
}

/// Sets a condition. Its update time moves with the reason and the message, and while there is
/// progress; its transition time with the status only.
pub(super) fn set_condition(
    status: &mut Value,
    old: &Value,
    (kind, value, reason): (&str, &str, &str),
    message: &str,
    now: jiff::Timestamp,
) {
    let known = old["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let now = meta::timestamp(now);
    let mut new = json!({"type": kind, "status": value, "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now});
    if let Some(k) = known.filter(|k| k["status"] == value) {
        new["lastTransitionTime"] = k["lastTransitionTime"].clone();
        let same = k["reason"] == reason && k["message"] == message;
        if same && reason != "ReplicaSetUpdated" {
            new["lastUpdateTime"] = k["lastUpdateTime"].clone();
        }
    }
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    if let Some(list) = status["conditions"].as_array_mut() {
        match list.iter_mut().find(|c| c["type"] == kind) {
            Some(c) => *c = new,
            None => list.push(new),
        }
    }
}

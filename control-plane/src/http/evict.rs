//! Eviction: a deletion that asks the disruption budgets first.
//!
//! Owns: which budget a pod has, and taking one eviction out of it. Called by: the router.
//! Never: counts pods; the budget's controller does, and what it has not seen yet is not allowed.
//! See kubernetes.io/docs/concepts/scheduling-eviction/api-eviction.

use serde_json::{Value, json};

use super::auth::User;
use super::body::WriteOptions;
use super::delete::{self, DeleteOptions};
use super::get;
use super::request::Query;
use super::restriction::{self, Write};
use super::status::Status;
use super::subresource::success;
use super::update::modify;
use crate::plane::Plane;
use crate::registry::selectors::LabelSelector;
use crate::registry::{Part, meta};

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Evictions that one budget may have under way.
const UNDER_WAY: usize = 2000;

/// What a budget says to an eviction.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Allowed without taking anything from the budget.
    Free,
    /// Allowed; this is the budget's new status.
    Taken(Value),
    /// Not now: why, in Kubernetes' words.
    NotNow(String),
}

/// Deletes a pod politely, if its disruption budget allows it.
///
/// # Errors
/// `TooManyRequests` when the budget forbids it now, and those of a deletion.
pub(crate) async fn evict(
    plane: &Plane,
    user: &User,
    at: (&str, &str),
    eviction: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let pods = plane.registry.builtin("", "pods");
    let body =
        eviction.get("deleteOptions").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut delete_options = DeleteOptions::read(&body, &Query::default())?;
    delete_options.dry_run |= options.dry_run;
    let pod = get::find(plane, &pods, at.0, at.1)?.value();
    restriction::check(plane, user, &pods, at, Write::Evict(&pod))?;
    if !needs_no_budget(&pod) {
        spend(plane, &pod, delete_options.dry_run).await?;
    }
    if !delete_options.dry_run {
        mark(plane, at).await?;
    }
    delete::delete(plane, user, &pods, at, &delete_options).await?;
    Ok(success())
}

/// A pod that has ended, has not started or is going already disrupts nothing.
fn needs_no_budget(pod: &Value) -> bool {
    let phase = meta::text(pod, "/status/phase");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::is_terminating(pod)
}

/// Says on the pod why it goes.
async fn mark(plane: &Plane, at: (&str, &str)) -> Result<(), Status> {
    let pods = plane.registry.builtin("", "pods");
    let change = |old: &Value| {
        let mut new = old.clone();
        let now = jiff::Timestamp::now();
        let (reason, message) = ("EvictionByEvictionAPI", "Eviction API: evicting");
        meta::set_condition(&mut new, "DisruptionTarget", "True", reason, message, now);
        Ok(new)
    };
    let user = User::internal("apiserver");
    modify(plane, &user, &pods, at, Part::Status, &WriteOptions::default(), change).await?;
    Ok(())
}

async fn spend(plane: &Plane, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let budgets = plane.registry.builtin("policy", "poddisruptionbudgets");
    let namespace = meta::namespace(pod);
    let all = plane.store.list(&budgets.table, &format!("{namespace}/"), None).objects;
    let selects = |b: &Value| {
        let s = &b["spec"]["selector"];
        s.is_object() && LabelSelector::from_value(s).is_ok_and(|s| s.matches_object(pod))
    };
    let mine: Vec<Value> = all.iter().map(|(_, b)| b.value()).filter(selects).collect();
    let budget = match mine.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let name = meta::name(budget).to_owned();
    let change = |old: &Value| {
        let mut new = old.clone();
        match judge(old, pod, jiff::Timestamp::now()) {
            Verdict::Free => {}
            Verdict::Taken(status) => new["status"] = status,
            Verdict::NotNow(why) => return Err(not_now(&why)),
        }
        Ok(new)
    };
    let options = WriteOptions { dry_run, ..WriteOptions::default() };
    let user = User::internal("apiserver");
    modify(plane, &user, &budgets, (namespace, &name), Part::Status, &options, change).await?;
    Ok(())
}

fn not_now(why: &str) -> Status {
    let mut s = Status::too_many_requests(REFUSED, 0);
    s.retry_after = None;
    s.details = Some(json!({"causes": [{"reason": "DisruptionBudget", "message": why}]}));
    s
}

/// All the judgement: whether a budget has room for one more.
fn judge(budget: &Value, pod: &Value, now: jiff::Timestamp) -> Verdict {
    let name = meta::name(budget);
    let number = |p: &str| budget.pointer(p).and_then(Value::as_i64).unwrap_or(0);
    let (healthy, desired) = (number("/status/currentHealthy"), number("/status/desiredHealthy"));
    let ready = meta::condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
    if !ready {
        // A pod that does not work is no loss, if the others suffice or nobody minds.
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        if always || (healthy >= desired && desired > 0) {
            return Verdict::Free;
        }
    }
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Verdict::NotNow(format!(
            "The disruption budget {name} is still being processed by the server."
        ));
    }
    let under_way = budget["status"]["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    let allowed = number("/status/disruptionsAllowed");
    if allowed <= 0 || under_way >= UNDER_WAY {
        return Verdict::NotNow(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        ));
    }
    let mut status = budget["status"].clone();
    status["disruptionsAllowed"] = (allowed - 1).into();
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][meta::name(pod)] = meta::timestamp(now).into();
    Verdict::Taken(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: bool) -> Value {
        let ready = if ready { "True" } else { "False" };
        json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn budget(allowed: i64, generation: i64) -> Value {
        json!({"metadata": {"name": "b", "generation": generation}, "spec": {},
            "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 2}})
    }

    fn now() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn each_eviction_takes_one_from_the_budget_until_there_is_none() {
        let Verdict::Taken(status) = judge(&budget(1, 1), &pod(true), now()) else {
            panic!("it is allowed")
        };
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["disruptedPods"], json!({"p": "2026-01-01T00:00:00Z"}));
        assert_eq!(
            judge(&budget(0, 1), &pod(true), now()),
            Verdict::NotNow(
                "The disruption budget b needs 2 healthy pods and has 2 currently".into()
            )
        );
    }

    #[test]
    fn a_budget_that_was_just_changed_allows_nothing_yet() {
        assert_eq!(
            judge(&budget(1, 2), &pod(true), now()),
            Verdict::NotNow(
                "The disruption budget b is still being processed by the server.".into()
            )
        );
    }

    #[test]
    fn a_pod_that_does_not_work_is_no_loss() {
        assert_eq!(judge(&budget(0, 1), &pod(false), now()), Verdict::Free);
        assert!(needs_no_budget(&json!({"status": {"phase": "Pending"}})));
        assert!(!needs_no_budget(&pod(true)));
    }
}

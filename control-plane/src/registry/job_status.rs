//! What may not be said of how a job stands.
//!
//! Owns: counts that only grow, and the conditions by which a job ends, in their order.
//! Called by: `batch`, for writes of the status. See kubernetes.io/docs/concepts/workloads/controllers/job.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::checks;
use super::meta;
use crate::http::status::FieldError;

type Errors = Vec<FieldError>;

/// Conditions that cannot stand together.
const APART: [(&str, &str, &str); 4] = [
    ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
    ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
    (
        "SuccessCriteriaMet",
        "Failed",
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    ),
    (
        "SuccessCriteriaMet",
        "FailureTarget",
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    ),
];

/// Conditions that stay, and how that is said.
const LASTING: [(&str, &str); 4] = [
    ("Failed", "cannot disable the terminal Failed=True condition"),
    ("Complete", "cannot disable the terminal Complete=True condition"),
    ("FailureTarget", "cannot disable the terminal FailureTarget=True condition"),
    ("SuccessCriteriaMet", "cannot disable the SuccessCriteriaMet=True condition"),
];

fn has(job: &Value, condition: &str) -> bool {
    meta::condition(job, condition).is_some_and(|c| c["status"] == "True")
}

fn count(job: &Value, field: &str) -> i64 {
    job["status"][field].as_i64().unwrap_or(0)
}

fn time(job: &Value, field: &str) -> Option<jiff::Timestamp> {
    meta::text(job, &format!("/status/{field}")).parse().ok()
}

/// An error about conditions, which are not shown.
fn conditions(why: &str) -> FieldError {
    FieldError {
        reason: "FieldValueInvalid",
        field: "status.conditions".into(),
        message: format!("Invalid value: {why}"),
    }
}

fn wrong_time(field: &str, at: jiff::Timestamp, why: &str) -> FieldError {
    let shown = at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
    FieldError::invalid_shown(format!("status.{field}"), &shown, why)
}

/// What is wrong with a new status.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let counts = ["active", "succeeded", "failed", "ready", "terminating"];
    checks::not_negative(&new["status"], "status", &counts, errors);
    if count(new, "ready") > count(new, "active") {
        let why = "cannot set more ready pods than active";
        errors.push(FieldError::invalid("status.ready", &new["status"]["ready"], why));
    }
    for field in ["failed", "succeeded"] {
        if count(new, field) < count(old, field) {
            let why = format!("cannot decrease the {field} counter");
            errors.push(FieldError::invalid(
                format!("status.{field}"),
                &json!(count(new, field)),
                &why,
            ));
        }
    }
    uncounted(&new["status"]["uncountedTerminatedPods"], errors);
    ended(new, old, errors);
    for (condition, why) in LASTING {
        if has(old, condition) && !has(new, condition) {
            errors.push(conditions(why));
        }
    }
    for (one, other, why) in APART {
        if has(new, one) && has(new, other) {
            errors.push(conditions(why));
        }
    }
}

/// How a job ends: first its end is decided, then its pods go, then it has ended.
fn ended(new: &Value, old: &Value, errors: &mut Errors) {
    let (complete, failed) = (has(new, "Complete"), has(new, "Failed"));
    let (started, completed) = (time(new, "startTime"), time(new, "completionTime"));
    match completed {
        None if complete => {
            let why = "completionTime is required for Complete jobs";
            errors.push(FieldError::required("status.completionTime", why));
        }
        Some(at) if !complete => {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(wrong_time("completionTime", at, why));
        }
        _ => {}
    }
    if complete && !has(new, "SuccessCriteriaMet") {
        let why =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(conditions(why));
    }
    if failed && !has(new, "FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(conditions(why));
    }
    if complete || failed {
        for field in ["active", "terminating"] {
            if count(new, field) > 0 {
                let why = format!("{field}>0 is invalid for finished job");
                let shown = json!(count(new, field));
                errors.push(FieldError::invalid(format!("status.{field}"), &shown, &why));
            }
        }
        if started.is_none() {
            let why = "startTime is required for finished job";
            errors.push(FieldError::required("status.startTime", why));
        }
    }
    let before = time(old, "startTime");
    if before.is_some() && before != started && old["spec"]["suspend"] != true {
        let why = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required("status.startTime", why));
    }
    if let Some(at) = completed {
        if started.is_some_and(|s| at < s) {
            let why = "completionTime cannot be set before startTime";
            errors.push(wrong_time("completionTime", at, why));
        }
        if time(old, "completionTime").is_some_and(|b| b != at) {
            errors.push(wrong_time("completionTime", at, "completionTime cannot be mutated"));
        }
    }
}

/// A pod that has ended and is not counted yet stands once, with its uid.
fn uncounted(pods: &Value, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for (i, uid) in pods[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("status.uncountedTerminatedPods.{list}[{i}]");
            if uid == "" {
                errors.push(FieldError::invalid(at, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(at, uid));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &Value) -> Value {
        json!({"spec": {"suspend": false}, "status": status})
    }

    fn said(old: &Value, new: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        validate(&job(new), &job(old), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn conditions_of(names: &[&str]) -> Value {
        names.iter().map(|n| json!({"type": n, "status": "True"})).collect()
    }

    // As a kube-apiserver 1.33 said it.
    #[test]
    fn counts_of_a_job_do_not_go_down() {
        assert_eq!(
            said(&json!({"succeeded": 2, "failed": 2}), &json!({"succeeded": 1, "failed": 1})),
            [
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
                "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter"
            ]
        );
        assert_eq!(
            said(&json!({}), &json!({"active": 1, "ready": 5})),
            ["status.ready: Invalid value: 5: cannot set more ready pods than active"]
        );
        let pods = json!({"succeeded": ["a", "a"], "failed": ["a", ""]});
        assert_eq!(
            said(&json!({}), &json!({"uncountedTerminatedPods": pods})),
            [
                "status.uncountedTerminatedPods.succeeded[1]: Duplicate value: \"a\"",
                "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
                "status.uncountedTerminatedPods.failed[1]: Invalid value: \"\": must not be empty"
            ]
        );
    }

    #[test]
    fn a_job_ends_once_in_order_and_for_good() {
        assert_eq!(
            said(&json!({}), &json!({"conditions": conditions_of(&["Complete"])})),
            [
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.startTime: Required value: startTime is required for finished job"
            ]
        );
        let end = json!({"startTime": "2020-01-01T00:00:00Z", "completionTime": "2021-01-01T00:00:00Z",
            "conditions": conditions_of(&["SuccessCriteriaMet", "Complete"])});
        assert_eq!(said(&json!({}), &end), Vec::<String>::new());
        let mut later = end.clone();
        later["completionTime"] = "2022-01-01T00:00:00Z".into();
        later["conditions"] = json!([]);
        assert_eq!(
            said(&end, &later),
            [
                "status.completionTime: Invalid value: 2022-01-01 00:00:00 +0000 UTC: cannot set completionTime when there is no Complete=True condition",
                "status.completionTime: Invalid value: 2022-01-01 00:00:00 +0000 UTC: completionTime cannot be mutated",
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition"
            ]
        );
        assert_eq!(
            said(
                &json!({}),
                &json!({"conditions": conditions_of(&["SuccessCriteriaMet", "FailureTarget"])})
            ),
            [
                "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"
            ]
        );
    }
}

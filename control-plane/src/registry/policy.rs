//! Defaults and validation of disruption budgets.
//!
//! Owns: what Kubernetes fills in and refuses for them. Called by: the registry's table.

use serde_json::{Value, json};

use super::core::{BASE, default, object, split_status};
use super::{Part, Strategy, checks, columns};
use crate::http::status::{FieldError, shown_share};

pub(crate) static BUDGET: Strategy = Strategy {
    prepare: |new, old, part| {
        split_status(new, old, part);
        let status = object(new, "status");
        for f in ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"] {
            default(status, f, 0);
        }
    },
    validate: |new, _, part, errors| {
        if part == Part::Status {
            return validate_status(&new["status"], errors);
        }
        let spec = &new["spec"];
        let set = |f: &str| spec.get(f).is_some_and(|v| !v.is_null());
        if set("minAvailable") && set("maxUnavailable") {
            errors.push(FieldError::invalid(
                "spec",
                &json!("<omitted>"),
                "minAvailable and maxUnavailable cannot be both set",
            ));
        }
        for f in ["minAvailable", "maxUnavailable"] {
            share_of(&spec[f], &format!("spec.{f}"), true, errors);
        }
        checks::label_selector(&spec["selector"], "spec.selector", errors);
        let policy = &spec["unhealthyPodEvictionPolicy"];
        if policy.is_string() && *policy != "IfHealthyBudget" && *policy != "AlwaysAllow" {
            errors.push(FieldError::unsupported(
                "spec.unhealthyPodEvictionPolicy",
                policy,
                &["AlwaysAllow", "IfHealthyBudget"],
            ));
        }
    },
    generation: true,
    columns: &columns::BUDGET,
    ..BASE
};

/// What a budget's controller may not say.
fn validate_status(status: &Value, errors: &mut Vec<FieldError>) {
    for (i, c) in status["conditions"].as_array().into_iter().flatten().enumerate() {
        let at = format!("status.conditions[{i}]");
        let text = |f: &str| c[f].as_str().unwrap_or_default();
        if text("type").is_empty() {
            errors.push(FieldError::required(format!("{at}.type"), "must be set"));
        }
        if !matches!(text("status"), "True" | "False" | "Unknown") {
            let given = Value::from(text("status"));
            let known = ["False", "True", "Unknown"];
            errors.push(FieldError::unsupported(format!("{at}.status"), &given, &known));
        }
        for field in ["lastTransitionTime", "reason"] {
            if text(field).is_empty() {
                errors.push(FieldError::required(format!("{at}.{field}"), "must be set"));
            }
        }
    }
    let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    checks::not_negative(status, "status", &counts, errors);
}

/// A number that is not negative, or a percentage, of not more than a hundred if `capped`.
pub(super) fn share_of(value: &Value, path: &str, capped: bool, errors: &mut Vec<FieldError>) {
    let bad = match value {
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => {
            errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
            return;
        }
        Value::String(s) => match s.strip_suffix('%').and_then(|n| n.parse::<u32>().ok()) {
            None => {
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            }
            Some(p) if capped && p > 100 => "must not be greater than 100%",
            Some(_) => return,
        },
        _ => return,
    };
    errors.push(FieldError::invalid_shown(path, &shown_share(value), bad));
}

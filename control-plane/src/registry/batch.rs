//! Defaults and validation of jobs and cron jobs.
//!
//! Owns: what Kubernetes fills in and refuses for them. Called by: the registry's table.

use serde_json::{Value, json};

use super::apps::prepare;
use super::core::{BASE, default, object};
use super::schedule::Schedule;
use super::{Part, Strategy, checks, columns, meta, pods};
use crate::http::status::FieldError;

fn default_job_spec(spec: &mut Value) {
    // Completions and parallelism default together: neither means one of each.
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        spec["completions"] = 1.into();
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    pods::default_template(spec);
}

fn validate_job_spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        if spec[field].as_i64().is_some_and(|n| n < 0) {
            errors.push(FieldError::invalid(
                format!("{path}.{field}"),
                &spec[field],
                "must be greater than or equal to 0",
            ));
        }
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
        if spec.get(field).is_some_and(|v| !v.is_null()) {
            errors.push(FieldError::forbidden(
                format!("{path}.{field}"),
                "this API server's job controller does not know this field",
            ));
        }
    }
    let modes = ["NonIndexed", "Indexed"];
    checks::one_of(&spec["completionMode"], &format!("{path}.completionMode"), &modes, errors);
    let replaced = ["Failed", "TerminatingOrFailed"];
    let at = format!("{path}.podReplacementPolicy");
    checks::one_of(&spec["podReplacementPolicy"], &at, &replaced, errors);
    if spec["completionMode"] == "Indexed" && !spec["completions"].is_i64() {
        errors.push(FieldError::required(
            format!("{path}.completions"),
            "when completion mode is Indexed",
        ));
    }
    pods::validate_template(&spec["template"], &format!("{path}.template"), errors);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if !matches!(policy.as_str(), Some("OnFailure" | "Never")) {
        let full = format!("{path}.template.spec.restartPolicy");
        errors.push(FieldError {
            reason: "FieldValueRequired",
            field: full,
            message: "Required value: valid values: \"OnFailure\", \"Never\"".into(),
        });
    }
}

pub(crate) static JOB: Strategy = Strategy {
    default: |o| default_job_spec(object(o, "spec")),
    prepare: |new, old, part| {
        prepare(new, old, part);
        if old.is_none() {
            select_own_pods(new);
        }
    },
    validate: |new, old, part, errors| {
        if part == Part::Status {
            return;
        }
        validate_job_spec(&new["spec"], "spec", errors);
        let Some(old) = old else { return };
        for field in ["selector", "completionMode"] {
            if old["spec"][field] != new["spec"][field] {
                errors.push(FieldError::invalid(
                    format!("spec.{field}"),
                    &new["spec"][field],
                    "field is immutable",
                ));
            }
        }
        if old["spec"]["template"] != new["spec"]["template"] && old["spec"]["suspend"] != true {
            errors.push(FieldError::invalid(
                "spec.template",
                &new["spec"]["template"],
                "field is immutable",
            ));
        }
    },
    generation: true,
    fields: &["status.successful"],
    columns: &columns::JOB,
    ..BASE
};

/// A new job selects its pods by its own uid, unless told otherwise.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    let spec = object(job, "spec");
    spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    let m = meta::metadata(object(spec, "template"));
    let labels = m.entry("labels").or_insert_with(|| json!({}));
    for (k, v) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels[k] = v.as_str().into();
    }
    // A job without labels has those of its pods.
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    let own = meta::metadata(job).entry("labels").or_insert(Value::Null);
    if own.as_object().is_none_or(serde_json::Map::is_empty) {
        *own = labels;
    }
}

fn validate_schedule(spec: &Value, errors: &mut Vec<FieldError>) {
    let text = spec["schedule"].as_str().unwrap_or_default();
    if text.contains("TZ") {
        errors.push(FieldError::invalid(
            "spec.schedule",
            &spec["schedule"],
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ));
    } else if let Err(e) = Schedule::read(text, None) {
        errors.push(FieldError::invalid("spec.schedule", &spec["schedule"], &e));
    }
    let zone = &spec["timeZone"];
    if let Some(name) = zone.as_str()
        && (name.is_empty()
            || name.eq_ignore_ascii_case("local")
            || jiff::tz::TimeZone::get(name).is_err())
    {
        let why = format!("unknown time zone {name}");
        errors.push(FieldError::invalid("spec.timeZone", zone, &why));
    }
}

pub(crate) static CRON_JOB: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        let template = object(spec, "jobTemplate");
        default(template, "metadata", json!({"creationTimestamp": null}));
        let job = object(template, "spec");
        // Unlike a job itself, the template is not given counts it does not name.
        pods::default_template(job);
    },
    prepare,
    validate: |new, _, part, errors| {
        if part == Part::Status {
            return;
        }
        let spec = &new["spec"];
        if spec["schedule"].as_str().unwrap_or_default().is_empty() {
            errors.push(FieldError::required("spec.schedule", ""));
        } else {
            validate_schedule(spec, errors);
        }
        if meta::name(new).len() > 52 {
            let why = "must be no more than 52 characters";
            errors.push(FieldError::invalid("metadata.name", &new["metadata"]["name"], why));
        }
        let counts =
            ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
        checks::not_negative(spec, "spec", &counts, errors);
        if !matches!(spec["concurrencyPolicy"].as_str(), Some("Allow" | "Forbid" | "Replace")) {
            errors.push(FieldError::unsupported(
                "spec.concurrencyPolicy",
                &spec["concurrencyPolicy"],
                &["Allow", "Forbid", "Replace"],
            ));
        }
        validate_job_spec(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", errors);
    },
    generation: true,
    columns: &columns::CRON_JOB,
    ..BASE
};

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: Value) -> Vec<String> {
        let mut o = json!({"metadata": {"name": "a"}, "spec": spec});
        (CRON_JOB.default)(&mut o);
        let mut errors = Vec::new();
        (CRON_JOB.validate)(&o, None, Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_schedule_must_be_one_that_kubernetes_knows() {
        let job = |schedule: &str| {
            json!({"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec":
            {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}}})
        };
        assert_eq!(problems(job("*/5 * * * *")), Vec::<String>::new());
        let zone = problems(job("TZ=UTC 0 * * * *"));
        assert_eq!(
            zone,
            [
                "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            ]
        );
        assert_eq!(problems(job("61 * * * *")).len(), 1);
    }
}

//! Defaults and validation of the workloads: apps and batch.
//!
//! Owns: what Kubernetes fills in and refuses for them. Called by: the registry's table.

use serde_json::{Value, json};

use super::core::{BASE, default, object, split_status};
use super::selectors::LabelSelector;
use super::{Part, Strategy, columns, meta, pods};
use crate::http::status::FieldError;

fn prepare(new: &mut Value, old: Option<&Value>, part: Part) {
    split_status(new, old, part);
    default(new, "status", json!({}));
}

/// The selector must select the template and, once set, stays.
fn validate_selector(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    let selector = &spec["selector"];
    let empty = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    if !selector.is_object() {
        errors.push(FieldError::required("spec.selector", ""));
    } else if empty {
        errors.push(FieldError::invalid(
            "spec.selector",
            selector,
            "empty selector is invalid for deployment",
        ));
    }
    let labels = &spec["template"]["metadata"]["labels"];
    match LabelSelector::from_value(selector) {
        Err(e) => errors.push(FieldError::invalid("spec.selector", selector, &e)),
        Ok(s) if !empty && !s.matches(|k| labels.get(k)?.as_str()) => {
            let shown = if labels.is_object() { labels.clone() } else { json!({}) };
            errors.push(FieldError::invalid(
                "spec.template.metadata.labels",
                &shown,
                "`selector` does not match template `labels`",
            ));
        }
        Ok(_) => {}
    }
    if let Some(old) = old
        && old["spec"]["selector"] != *selector
    {
        errors.push(FieldError::invalid("spec.selector", selector, "field is immutable"));
    }
}

fn validate_workload(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    if spec["replicas"].as_i64().is_some_and(|n| n < 0) {
        errors.push(FieldError::invalid(
            "spec.replicas",
            &spec["replicas"],
            "must be greater than or equal to 0",
        ));
    }
    validate_selector(new, old, errors);
    pods::validate_template(&spec["template"], "spec.template", errors);
    if spec["template"]["spec"]["restartPolicy"] != "Always" {
        let value = &spec["template"]["spec"]["restartPolicy"];
        errors.push(FieldError::unsupported(
            "spec.template.spec.restartPolicy",
            value,
            &["Always"],
        ));
    }
}

pub(crate) static DEPLOYMENT: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        let strategy = object(spec, "strategy");
        default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
        pods::default_template(spec);
    },
    prepare,
    validate: |new, old, part, errors| {
        if part == Part::Status {
            return;
        }
        validate_workload(new, old, errors);
        let strategy = &new["spec"]["strategy"];
        match strategy["type"].as_str() {
            Some("Recreate") if strategy.get("rollingUpdate").is_some() => {
                errors.push(FieldError::forbidden(
                    "spec.strategy.rollingUpdate",
                    "may not be specified when strategy `type` is 'Recreate'",
                ))
            }
            Some("Recreate" | "RollingUpdate") => {}
            _ => errors.push(FieldError::unsupported(
                "spec.strategy",
                strategy,
                &["Recreate", "RollingUpdate"],
            )),
        }
    },
    generation: true,
    columns: &columns::DEPLOYMENT,
    ..BASE
};

pub(crate) static REPLICA_SET: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "replicas", 1);
        pods::default_template(spec);
    },
    prepare: |new, old, part| {
        prepare(new, old, part);
        default(object(new, "status"), "replicas", 0);
    },
    validate: |new, old, part, errors| {
        if part == Part::Main {
            validate_workload(new, old, errors);
        }
    },
    generation: true,
    columns: &columns::REPLICA_SET,
    ..BASE
};

pub(crate) static DAEMON_SET: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "revisionHistoryLimit", 10);
        let strategy = object(spec, "updateStrategy");
        default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
        pods::default_template(spec);
    },
    prepare: |new, old, part| {
        prepare(new, old, part);
        for field in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
        ] {
            default(object(new, "status"), field, 0);
        }
    },
    validate: |new, old, part, errors| {
        if part == Part::Main {
            validate_workload(new, old, errors);
        }
    },
    generation: true,
    columns: &columns::DAEMON_SET,
    ..BASE
};

pub(crate) static STATEFUL_SET: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "podManagementPolicy", "OrderedReady");
        default(
            spec,
            "persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
        );
        let strategy = object(spec, "updateStrategy");
        default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            default(object(strategy, "rollingUpdate"), "partition", 0);
        }
        pods::default_template(spec);
        for claim in super::core::list(spec, "volumeClaimTemplates") {
            default(claim, "apiVersion", "v1");
            default(claim, "kind", "PersistentVolumeClaim");
            super::others::default_claim(claim);
            default(claim, "status", json!({"phase": "Pending"}));
        }
    },
    prepare: |new, old, part| {
        prepare(new, old, part);
        default(object(new, "status"), "replicas", 0);
    },
    validate: |new, old, part, errors| {
        if part == Part::Status {
            return;
        }
        validate_workload(new, old, errors);
        let Some(old) = old else { return };
        let fixed = |v: &Value| {
            let mut spec = v["spec"].clone();
            for f in [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ] {
                spec.as_object_mut().and_then(|m| m.remove(f));
            }
            spec
        };
        if fixed(new) != fixed(old) {
            errors.push(FieldError::forbidden(
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ));
        }
    },
    generation: true,
    columns: &columns::STATEFUL_SET,
    ..BASE
};

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
        }
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

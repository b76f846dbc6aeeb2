//! Defaults and validation of jobs and cron jobs.
//!
//! Owns: what Kubernetes fills in and refuses for them. Called by: the registry's table.

use serde_json::{Value, json};

use super::apps::prepare;
use super::core::{BASE, default, default_text, list, object};
use super::schedule::Schedule;
use super::{Part, Strategy, checks, columns, job_checks, job_status, meta, pods};
use crate::http::status::{FieldError, shown_selector};

/// As many pods of an indexed job may run at once.
const PARALLEL: i64 = 100_000;

fn default_job_spec(spec: &mut Value) {
    // Completions and parallelism default together: neither means one of each.
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        spec["completions"] = 1.into();
    }
    default(spec, "parallelism", 1);
    // A limit for each index takes the place of the common one.
    let each = spec.get("backoffLimitPerIndex").is_some_and(Value::is_i64);
    default(spec, "backoffLimit", if each { i64::from(i32::MAX) } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    default_policy(spec);
    // Who decides by how a pod failed waits until it has.
    let decides = !spec["podFailurePolicy"].is_null();
    let replaced = if decides { "Failed" } else { "TerminatingOrFailed" };
    default(spec, "podReplacementPolicy", replaced);
    pods::default_template(spec);
}

/// A condition that is named counts when it is true.
fn default_policy(spec: &mut Value) {
    let Some(policy) = spec.get_mut("podFailurePolicy") else { return };
    for rule in list(policy, "rules") {
        for c in list(rule, "onPodConditions") {
            default_text(c, "status", "True");
        }
    }
}

fn validate_job_spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        if spec[field].as_i64().is_some_and(|n| n < 0) {
            errors.push(FieldError::invalid(
                format!("{path}.{field}"),
                &spec[field],
                "must be greater than or equal to 0",
            ));
        }
    }
    job_checks::managed_by(spec, path, errors);
    validate_indexes(spec, path, errors);
    let modes = ["NonIndexed", "Indexed"];
    checks::one_of(&spec["completionMode"], &format!("{path}.completionMode"), &modes, errors);
    let replaced = ["Failed", "TerminatingOrFailed"];
    let decides = !spec["podFailurePolicy"].is_null();
    let replaced = if decides { &replaced[..1] } else { &replaced[..] };
    let at = format!("{path}.podReplacementPolicy");
    checks::one_of(&spec["podReplacementPolicy"], &at, replaced, errors);
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
    } else if *policy != "Never" && spec["podFailurePolicy"].is_object() {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        let at = format!("{path}.template.spec.restartPolicy");
        errors.push(FieldError::invalid(at, policy, why));
    }
}

/// What is decided index by index: limits, and when it is enough.
fn validate_indexes(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let indexed = spec["completionMode"] == "Indexed";
    let at = |field: &str| format!("{path}.{field}");
    let each = spec["backoffLimitPerIndex"].is_i64();
    if let Some(most) = spec["maxFailedIndexes"].as_i64() {
        if spec["completions"].as_i64().is_some_and(|n| most > n) {
            let why = "must be less than or equal to completions";
            errors.push(FieldError::invalid(
                at("maxFailedIndexes"),
                &spec["maxFailedIndexes"],
                why,
            ));
        }
        if !each {
            let why = "when maxFailedIndexes is specified";
            errors.push(FieldError::required(at("backoffLimitPerIndex"), why));
        }
    }
    if indexed && spec["parallelism"].as_i64().is_some_and(|n| n > PARALLEL) {
        let why =
            format!("must be less than or equal to {PARALLEL} when completion mode is Indexed");
        errors.push(FieldError::invalid(at("parallelism"), &spec["parallelism"], &why));
    }
    if spec["completionMode"] == "NonIndexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if spec.get(field).is_some_and(|v| !v.is_null()) {
                let why = "requires indexed completion mode";
                errors.push(FieldError::invalid(at(field), &spec[field], why));
            }
        }
    }
    if indexed && each && spec["template"]["spec"]["restartPolicy"] == "OnFailure" {
        let why = "must be Never when backoffLimitPerIndex is specified";
        let policy = &spec["template"]["spec"]["restartPolicy"];
        errors.push(FieldError::invalid(at("template.spec.restartPolicy"), policy, why));
    }
    job_checks::failure_policy(spec, path, errors);
    validate_success(spec, path, errors);
}

fn validate_success(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let policy = &spec["successPolicy"];
    if policy.is_null() || spec["completionMode"] != "Indexed" {
        return;
    }
    let at = format!("{path}.successPolicy.rules");
    let rules = policy["rules"].as_array().map_or(&[][..], Vec::as_slice);
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(at.as_str(), why));
    }
    let completions = spec["completions"].as_i64().unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let (indexes, count) = (&rule["succeededIndexes"], &rule["succeededCount"]);
        if indexes.is_null() && count.is_null() {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(at.as_str(), why));
        }
        let mut named = None;
        if let Some(text) = indexes.as_str() {
            let found = intervals(text, completions);
            if let Err(why) = &found {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(format!("{at}.succeededIndexes"), indexes, &why));
            }
            named = Some(found.unwrap_or(0));
        }
        let Some(n) = count.as_i64() else { continue };
        let mut bad = |why: &str| {
            errors.push(FieldError::invalid(format!("{at}.succeededCount"), count, why));
        };
        if n < 0 {
            bad("must be greater than or equal to 0");
        }
        if n > completions {
            bad(&format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            ));
        }
        if let Some(most) = named.filter(|most| n > *most) {
            bad(&format!(
                "must be less than or equal to {most} (the number of indexes in the specified succeededIndexes field)"
            ));
        }
    }
}

/// How many indexes `1,3-5,7` names, which are in order and less than `completions`.
fn intervals(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last): (i64, Option<i64>) = (0, None);
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| {
            s.parse::<i64>()
                .map_err(|_| format!("cannot convert string to integer for index: \"{s}\""))
        };
        let (from, to) = (number(from)?, number(to)?);
        for (before, now) in [(last, from), (Some(from), to)] {
            // The two ends of one part may be the same.
            let same = before == Some(from) && now == to;
            if let Some(before) = before.filter(|b| now < *b || (now == *b && !same)) {
                return Err(format!("non-increasing order, previous: {before}, current: {now}"));
            }
        }
        if to >= completions {
            return Err(format!("too large index: \"{to}\""));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
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
            if let Some(old) = old {
                job_status::validate(new, old, errors);
            }
            return;
        }
        job_checks::generated_selector(new, errors);
        validate_job_spec(&new["spec"], "spec", errors);
        job_checks::selects_pods(&new["spec"], errors);
        let Some(old) = old else { return job_checks::names_of_pods(new, errors) };
        // A change is looked at twice, as a whole and as a change, and so is told.
        validate_job_spec(&new["spec"], "spec", errors);
        job_checks::selects_pods(&new["spec"], errors);
        // How many are wanted may change where each has its index, with how many run at a time.
        if old["spec"]["completions"] != new["spec"]["completions"]
            && new["spec"]["completionMode"] != "Indexed"
        {
            let wanted = &new["spec"]["completions"];
            let shown = if wanted.is_null() { json!("null") } else { wanted.clone() };
            errors.push(FieldError::invalid("spec.completions", &shown, "field is immutable"));
        }
        let mut kept = |field: &str| {
            if old["spec"][field] == new["spec"][field] {
                return;
            }
            let (at, value) = (format!("spec.{field}"), &new["spec"][field]);
            let why = "field is immutable";
            errors.push(match value {
                Value::Null => FieldError::invalid(at, &json!("null"), why),
                v if field == "selector" => FieldError::invalid_shown(at, &shown_selector(v), why),
                v => FieldError::invalid(at, v, why),
            });
        };
        kept("selector");
        let (was, is) = (&old["spec"]["template"], &new["spec"]["template"]);
        // Where the pods of a job go may change until it has begun.
        let waits = old["spec"]["suspend"] == true && old["status"]["startTime"].is_null();
        if !waits || without_places(was) != without_places(is) {
            kept("template");
        }
        for field in [
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ] {
            kept(field);
        }
    },
    generation: true,
    fields: &["status.successful"],
    columns: &columns::JOB,
    ..BASE
};

/// A template but for what says where its pods go.
fn without_places(template: &Value) -> Value {
    let mut rest = template.clone();
    for (part, fields) in [
        ("metadata", &["annotations", "labels"][..]),
        ("spec", &["nodeSelector", "affinity", "tolerations", "schedulingGates"]),
    ] {
        if let Some(m) = rest[part].as_object_mut() {
            m.retain(|k, _| !fields.contains(&k.as_str()));
        }
    }
    rest
}

/// A new job selects its pods by its own uid, unless told otherwise.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let own = job_checks::own_labels(job);
    let uid = meta::uid(job).to_owned();
    let spec = object(job, "spec");
    if spec["selector"].is_null() {
        spec["selector"] = json!({});
    }
    let selected = object(object(spec, "selector"), "matchLabels");
    default(selected, "batch.kubernetes.io/controller-uid", uid);
    // Labels of these names that are there already are told about, and not replaced.
    let m = meta::metadata(object(spec, "template"));
    let labels = m.entry("labels").or_insert_with(|| json!({}));
    for (k, v) in own {
        default(labels, k, v);
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
    let Some(name) = zone.as_str() else { return };
    let mut bad = |why: &str| errors.push(FieldError::invalid("spec.timeZone", zone, why));
    if name.is_empty() {
        return bad("timeZone must be nil or non-empty string");
    }
    if name.eq_ignore_ascii_case("local") {
        bad("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    let found = jiff::tz::TimeZone::get(name);
    // Names of zones are told apart by their case.
    let same = found.as_ref().is_ok_and(|z| z.iana_name().is_none_or(|n| n == name));
    if name != "Local" && !same {
        bad(&format!("unknown time zone {name}"));
    }
}

pub(crate) static CRON_JOB: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default_text(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        let template = object(spec, "jobTemplate");
        meta::metadata(template).entry("creationTimestamp").or_insert(Value::Null);
        let job = object(template, "spec");
        // Unlike a job itself, the template is not given counts it does not name.
        default_policy(job);
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
        let (job, at) = (&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec");
        validate_job_spec(job, at, errors);
        job_checks::template_selector(job, at, errors);
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

    // "Backoff limit per index" and "Success policy" of the page on jobs.
    #[test]
    fn limits_for_each_index_and_success_policies_fit_the_job() {
        let told = |more: Value| {
            let mut spec = json!({"completionMode": "Indexed", "completions": 5, "template": {"spec":
                {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}});
            json_patch::merge(&mut spec, &more);
            let mut o = json!({"metadata": {"name": "a", "uid": "u"}, "spec": spec});
            (JOB.default)(&mut o);
            (JOB.prepare)(&mut o, None, Part::Main);
            let mut errors = Vec::new();
            (JOB.validate)(&o, None, Part::Main, &mut errors);
            let fields = errors.into_iter().map(|e| e.field).collect::<Vec<_>>();
            (fields, o["spec"]["backoffLimit"].clone())
        };
        let policy = |rule: Value| json!({"successPolicy": {"rules": [rule]}});
        for good in [
            json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 2}),
            policy(json!({"succeededIndexes": "0,2-4", "succeededCount": 4})),
            policy(json!({"succeededCount": 1})),
        ] {
            assert_eq!(told(good.clone()).0, Vec::<String>::new(), "{good}");
        }
        assert_eq!(told(json!({"backoffLimitPerIndex": 1})).1, i32::MAX);
        assert_eq!(told(json!({})).1, 6);
        for (bad, field) in [
            (
                json!({"completionMode": "NonIndexed", "backoffLimitPerIndex": 1}),
                "spec.backoffLimitPerIndex",
            ),
            (json!({"maxFailedIndexes": 1}), "spec.backoffLimitPerIndex"),
            (json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 6}), "spec.maxFailedIndexes"),
            (json!({"backoffLimitPerIndex": -1}), "spec.backoffLimitPerIndex"),
            (
                json!({"backoffLimitPerIndex": 1, "template": {"spec": {"restartPolicy": "OnFailure"}}}),
                "spec.template.spec.restartPolicy",
            ),
            (
                json!({"podFailurePolicy": {"rules": [{"action": "FailIndex",
                    "onExitCodes": {"operator": "In", "values": [1]}}]}}),
                "spec.podFailurePolicy.rules[0].action",
            ),
            (json!({"successPolicy": {"rules": []}}), "spec.successPolicy.rules"),
            (policy(json!({})), "spec.successPolicy.rules[0]"),
            (
                policy(json!({"succeededIndexes": "0-5"})),
                "spec.successPolicy.rules[0].succeededIndexes",
            ),
            (
                policy(json!({"succeededIndexes": "2,1"})),
                "spec.successPolicy.rules[0].succeededIndexes",
            ),
            (
                policy(json!({"succeededIndexes": "a"})),
                "spec.successPolicy.rules[0].succeededIndexes",
            ),
            (
                policy(json!({"succeededIndexes": "0-1", "succeededCount": 3})),
                "spec.successPolicy.rules[0].succeededCount",
            ),
        ] {
            assert_eq!(told(bad.clone()).0, [field], "{bad}");
        }
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
        for (schedule, why) in [
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("@foo", "unrecognized descriptor: @foo"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("0 0 * * 7", "end of range (7) above maximum (6): 7"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ] {
            let told = format!("spec.schedule: Invalid value: {schedule:?}: {why}");
            assert_eq!(problems(job(schedule)), [told]);
        }
        for good in ["0 9-17/2 * jan-mar MON,fri", "*/5 0 1,15 * ?", "5/15 * * * mon/2", "@hourly"]
        {
            assert_eq!(problems(job(good)), [""; 0], "{good}");
        }
    }

    #[test]
    fn a_time_zone_is_named_as_the_database_names_it() {
        let job = |zone: &str| {
            json!({"schedule": "@daily", "timeZone": zone, "jobTemplate": {"spec": {"template":
            {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}}})
        };
        for good in ["Europe/Berlin", "UTC", "Etc/UTC", "America/New_York"] {
            assert_eq!(problems(job(good)), [""; 0], "{good}");
        }
        for bad in ["europe/berlin", "utc", "Mars/Base"] {
            let told = format!("spec.timeZone: Invalid value: {bad:?}: unknown time zone {bad}");
            assert_eq!(problems(job(bad)), [told]);
        }
    }

    #[test]
    fn the_template_of_a_cron_job_leaves_the_selector_to_each_job() {
        let spec = json!({"schedule": "@daily", "concurrencyPolicy": "", "jobTemplate": {"spec":
            {"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template":
            {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}}});
        assert_eq!(
            problems(spec),
            [
                "spec.jobTemplate.spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{\"a\":\"b\"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: `selector` will be auto-generated",
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
            ]
        );
    }

    // A template has a time that is null, whether it came with metadata or not.
    #[test]
    fn a_job_whose_template_has_no_metadata_can_be_suspended() {
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]});
        let mut old =
            json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": pod}}});
        (JOB.default)(&mut old);
        (JOB.prepare)(&mut old, None, Part::Main);
        assert!(old["spec"]["template"]["metadata"].get("creationTimestamp").is_some());
        let mut new = old.clone();
        // As it comes back from a client: nulls are not kept on the way.
        let m = new["spec"]["template"]["metadata"].as_object_mut().unwrap();
        m.remove("creationTimestamp");
        new["spec"]["suspend"] = true.into();
        (JOB.default)(&mut new);
        (JOB.prepare)(&mut new, Some(&old), Part::Main);
        let mut errors = Vec::new();
        (JOB.validate)(&new, Some(&old), Part::Main, &mut errors);
        assert_eq!(errors, []);
    }

    // "Mutable Scheduling Directives" of https://kubernetes.io/docs/concepts/workloads/controllers/job/
    #[test]
    fn of_a_job_that_waits_only_where_its_pods_go_may_change() {
        let old = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"suspend": true, "template":
            {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}});
        let mut old = old;
        (JOB.default)(&mut old);
        (JOB.prepare)(&mut old, None, Part::Main);
        let told = |old: &Value, change: Value| {
            let mut new = old.clone();
            json_patch::merge(&mut new["spec"]["template"]["spec"], &change);
            let mut errors = Vec::new();
            (JOB.validate)(&new, Some(old), Part::Main, &mut errors);
            errors.into_iter().map(|e| e.field).collect::<Vec<_>>()
        };
        let node = json!({"nodeSelector": {"a": "b"}});
        let image = json!({"containers": [{"name": "c", "image": "y", "imagePullPolicy": "Always",
            "terminationMessagePath": "/x", "terminationMessagePolicy": "File"}]});
        assert_eq!(told(&old, node.clone()), [""; 0]);
        assert_eq!(told(&old, image), ["spec.template"]);
        let mut begun = old.clone();
        begun["status"]["startTime"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(told(&begun, node), ["spec.template"]);
    }

    // https://kubernetes.io/docs/tasks/job/pod-failure-policy/ names a condition without its status, and
    // https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-replacement-policy what follows.
    #[test]
    fn a_failure_policy_counts_conditions_that_are_true_and_waits_for_failed_pods() {
        let job = |more: Value| {
            let mut o = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template":
                {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}},
                "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}});
            json_patch::merge(&mut o["spec"], &more);
            (JOB.default)(&mut o);
            (JOB.prepare)(&mut o, None, Part::Main);
            let mut errors = Vec::new();
            (JOB.validate)(&o, None, Part::Main, &mut errors);
            (o, errors.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (o, told) = job(json!({}));
        assert_eq!(told, [""; 0]);
        let rule = &o["spec"]["podFailurePolicy"]["rules"][0];
        assert_eq!(rule["onPodConditions"][0]["status"], "True");
        assert_eq!(o["spec"]["podReplacementPolicy"], "Failed");
        assert_eq!(
            job(json!({"podReplacementPolicy": "TerminatingOrFailed"})).1,
            [
                "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\""
            ]
        );
    }
}

//! What is refused in a job beyond counts and indexes.
//!
//! Owns: the selector a job makes for itself, failure policies. Called by: `batch`.

use serde_json::{Value, json};

use super::selectors::LabelSelector;
use super::{checks, meta, names};
use crate::http::status::{FieldError, shown_map, shown_selector};

type Errors = Vec<FieldError>;

/// The labels by which a job knows its pods, with their values.
pub(super) fn own_labels(job: &Value) -> [(&'static str, String); 4] {
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    [
        ("controller-uid", uid.clone()),
        ("job-name", name.clone()),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ]
}

/// A selector that the job made itself selects its own pods.
pub(super) fn generated_selector(job: &Value, errors: &mut Errors) {
    let spec = &job["spec"];
    if spec["manualSelector"] == true || !spec["selector"].is_object() {
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let own = own_labels(job);
    for (key, value) in &own {
        let at = format!("spec.template.metadata.labels[{key}]");
        let why = format!("must be '{value}'");
        match labels.get(*key) {
            None => errors.push(FieldError::required(at, &why)),
            Some(v) if v != value.as_str() => {
                errors.push(FieldError::invalid_shown(at, &shown_map(labels), &why));
            }
            Some(_) => {}
        }
    }
    let expected = json!(own.into_iter().collect::<std::collections::BTreeMap<_, _>>());
    if !selects(&spec["selector"], &expected) {
        let why = "`selector` not auto-generated";
        errors.push(FieldError::invalid_shown(
            "spec.selector",
            &shown_selector(&spec["selector"]),
            why,
        ));
    }
}

/// The selector of a job is there and selects its pods.
pub(super) fn selects_pods(spec: &Value, errors: &mut Errors) {
    let labels = &spec["template"]["metadata"]["labels"];
    if !spec["selector"].is_object() {
        errors.push(FieldError::required("spec.selector", ""));
    } else {
        checks::label_selector(&spec["selector"], "spec.selector", errors);
    }
    if !selects(&spec["selector"], labels) {
        errors.push(FieldError::invalid_shown(
            "spec.template.metadata.labels",
            &shown_map(labels),
            "`selector` does not match template `labels`",
        ));
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    selector.is_object()
        && LabelSelector::from_value(selector)
            .is_ok_and(|s| s.matches(|key| labels.get(key).and_then(Value::as_str)))
}

/// Pods with an index have it in their names, which are names of hosts.
pub(super) fn names_of_pods(job: &Value, errors: &mut Errors) {
    let last = job["spec"]["completions"].as_i64().unwrap_or(0) - 1;
    if job["spec"]["completionMode"] != "Indexed" || last < 0 {
        return;
    }
    let name = format!("{}-{last}", meta::name(job));
    if names::dns_label(&name).is_err() {
        let why = format!("will not able to create pod with invalid DNS label: {name}");
        errors.push(FieldError::invalid("metadata.name", &job["metadata"]["name"], &why));
    }
}

/// What no template of a job says: each job makes its own selector.
pub(super) fn template_selector(spec: &Value, at: &str, errors: &mut Errors) {
    if spec["selector"].is_object() {
        let shown = shown_selector(&spec["selector"]);
        let why = "`selector` will be auto-generated";
        errors.push(FieldError::invalid_shown(format!("{at}.selector"), &shown, why));
    }
    if spec["manualSelector"] == true {
        let at = format!("{at}.manualSelector");
        errors.push(FieldError::unsupported(at, &json!(true), &["nil", "false"]));
    }
}

/// Who else may look after a job is named as a path in a domain.
pub(super) fn managed_by(spec: &Value, at: &str, errors: &mut Errors) {
    let Some(name) = spec["managedBy"].as_str() else { return };
    let at = format!("{at}.managedBy");
    let mut bad = |why: &str| errors.push(FieldError::invalid(at.as_str(), &name.into(), why));
    match name.split_once('/') {
        _ if name.is_empty() => errors.push(FieldError::required(at.as_str(), "")),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            if let Err(why) = names::dns_subdomain(domain) {
                bad(&why);
            }
            if name.len() > 63 {
                errors.push(FieldError::too_long(at, 63));
            }
        }
        _ => bad("must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// What happens when a pod fails.
pub(super) fn failure_policy(spec: &Value, at: &str, errors: &mut Errors) {
    let rules = spec["podFailurePolicy"]["rules"].as_array();
    for (i, rule) in rules.into_iter().flatten().enumerate() {
        let at = format!("{at}.podFailurePolicy.rules[{i}]");
        failure_action(spec, &rule["action"], &format!("{at}.action"), errors);
        let (codes, conditions) = (&rule["onExitCodes"], &rule["onPodConditions"]);
        if codes.is_object() {
            exit_codes(spec, codes, &format!("{at}.onExitCodes"), errors);
        }
        let listed = conditions.as_array().map_or(&[][..], Vec::as_slice);
        for (i, c) in listed.iter().enumerate() {
            pod_condition(c, &format!("{at}.onPodConditions[{i}]"), errors);
        }
        let why = match (codes.is_object(), !listed.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        let message = format!("Invalid value: {why}");
        errors.push(FieldError { reason: "FieldValueInvalid", field: at, message });
    }
}

fn failure_action(spec: &Value, action: &Value, at: &str, errors: &mut Errors) {
    match action.as_str().unwrap_or_default() {
        "" => {
            let why = r#"valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#;
            errors.push(FieldError::required(at, why));
        }
        "FailIndex" if !spec["backoffLimitPerIndex"].is_i64() => {
            let why = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(at, action, why));
        }
        _ => checks::one_of(action, at, &["Count", "FailIndex", "FailJob", "Ignore"], errors),
    }
}

fn exit_codes(spec: &Value, codes: &Value, at: &str, errors: &mut Errors) {
    match codes["operator"].as_str().unwrap_or_default() {
        "" => {
            let why = r#"valid values: ["In" "NotIn"]"#;
            errors.push(FieldError::required(format!("{at}.operator"), why));
        }
        _ => {
            checks::one_of(&codes["operator"], &format!("{at}.operator"), &["In", "NotIn"], errors)
        }
    }
    let pod = &spec["template"]["spec"];
    let named = |list: &str| {
        pod[list].as_array().into_iter().flatten().any(|c| c["name"] == codes["containerName"])
    };
    if codes["containerName"].is_string() && !named("containers") && !named("initContainers") {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(
            format!("{at}.containerName"),
            &codes["containerName"],
            why,
        ));
    }
    let at = format!("{at}.values");
    let values = codes["values"].as_array().map_or(&[][..], Vec::as_slice);
    let all: Vec<String> = values.iter().map(Value::to_string).collect();
    let shown = format!("[]int32{{{}}}", all.join(", "));
    if values.is_empty() {
        let shown = if codes["values"].is_null() { "[]int32(nil)" } else { &shown };
        errors.push(FieldError::invalid_shown(at, shown, "at least one value is required"));
        return;
    }
    let mut ordered = true;
    for (i, v) in values.iter().enumerate() {
        if codes["operator"] == "In" && v.as_i64() == Some(0) {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(format!("{at}[{i}]"), v, why));
        }
        if values[..i].contains(v) {
            errors.push(FieldError::duplicate(format!("{at}[{i}]"), v));
        }
        ordered &= i == 0 || values[i - 1].as_i64() <= v.as_i64();
    }
    if !ordered {
        errors.push(FieldError::invalid_shown(at, &shown, "must be ordered"));
    }
}

fn pod_condition(condition: &Value, at: &str, errors: &mut Errors) {
    if let Err(why) = names::label_key(condition["type"].as_str().unwrap_or_default()) {
        errors.push(FieldError::invalid(format!("{at}.type"), &condition["type"], &why));
    }
    match condition["status"].as_str().unwrap_or_default() {
        "" => {
            let why = r#"valid values: ["False" "True" "Unknown"]"#;
            errors.push(FieldError::required(format!("{at}.status"), why));
        }
        _ => checks::one_of(
            &condition["status"],
            &format!("{at}.status"),
            &["False", "True", "Unknown"],
            errors,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Part, batch};
    use super::*;

    fn job(spec: Value) -> Value {
        let mut spec_of = json!({"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "x"}]}}});
        json_patch::merge(&mut spec_of, &spec);
        let mut o = json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec_of});
        (batch::JOB.default)(&mut o);
        (batch::JOB.prepare)(&mut o, None, Part::Main);
        o
    }

    fn problems(o: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        (batch::JOB.validate)(o, None, Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // The answers are those that a kube-apiserver gave to the same jobs.
    #[test]
    fn a_failure_policy_says_for_what_it_is() {
        let policy = |rule: Value| problems(&job(json!({"podFailurePolicy": {"rules": [rule]}})));
        let at = "spec.podFailurePolicy.rules[0]";
        let told = policy(json!({"action": "Foo"}));
        assert_eq!(
            told,
            [
                format!(
                    r#"{at}.action: Unsupported value: "Foo": supported values: "Count", "FailIndex", "FailJob", "Ignore""#
                ),
                format!(
                    "{at}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"
                ),
            ]
        );
        let codes = json!({"operator": "In", "values": [0, 1, 1]});
        assert_eq!(
            policy(json!({"action": "FailJob", "onExitCodes": codes})),
            [
                format!(
                    "{at}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"
                ),
                format!("{at}.onExitCodes.values[2]: Duplicate value: 1"),
            ]
        );
        let codes = json!({"operator": "NotIn", "values": [0, 3], "containerName": "c"});
        assert_eq!(policy(json!({"action": "Ignore", "onExitCodes": codes})), [""; 0]);
        let again = json!({"podFailurePolicy": {"rules": []},
            "template": {"spec": {"restartPolicy": "OnFailure"}}});
        assert_eq!(
            problems(&job(again)),
            [
                r#"spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#
            ]
        );
    }

    #[test]
    fn a_job_selects_the_pods_that_it_makes() {
        assert_eq!(problems(&job(json!({}))), [""; 0]);
        let own = job(json!({"selector": {"matchLabels": {"a": "b"}}}));
        assert_eq!(
            problems(&own),
            [
                r#"spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{"a":"b", "batch.kubernetes.io/controller-uid":"u"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: `selector` not auto-generated"#,
                r#"spec.template.metadata.labels: Invalid value: map[string]string{"batch.kubernetes.io/controller-uid":"u", "batch.kubernetes.io/job-name":"j", "controller-uid":"u", "job-name":"j"}: `selector` does not match template `labels`"#,
            ]
        );
        let by_hand = job(json!({"manualSelector": true}));
        assert_eq!(
            problems(&by_hand),
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: map[string]string(nil): `selector` does not match template `labels`",
            ]
        );
        let labels = json!({"template": {"metadata": {"labels": {"job-name": "foo"}}}});
        assert_eq!(
            problems(&job(labels)),
            [
                r#"spec.template.metadata.labels[job-name]: Invalid value: map[string]string{"batch.kubernetes.io/controller-uid":"u", "batch.kubernetes.io/job-name":"j", "controller-uid":"u", "job-name":"foo"}: must be 'j'"#
            ]
        );
        assert_eq!(
            problems(&job(json!({"managedBy": "x"}))),
            [
                r#"spec.managedBy: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")"#
            ]
        );
    }
}

//! Defaults and validation of the workloads of the group apps; `batch.rs` has jobs.
//!
//! Owns: what Kubernetes fills in and refuses for them. Called by: the registry's table.

use serde_json::{Value, json};

use super::core::{BASE, default, default_text, keep, object, split_status};
use super::policy::share_of;
use super::selectors::LabelSelector;
use super::{Part, Strategy, checks, columns, names, pods};
use crate::http::status::{FieldError, shown_map, shown_selector, shown_share};

/// Counts in the status of a workload that cannot be: below zero, or more of one sort than of all.
/// `within` are those that are among the replicas, `ready` what those that are available are among.
fn validate_counts(
    new: &Value,
    counts: &[&str],
    within: &[&str],
    ready: Option<&str>,
    errors: &mut Vec<FieldError>,
) {
    let status = &new["status"];
    let count = |f: &str| status[f].as_i64().unwrap_or(0);
    checks::not_negative(status, "status", counts, errors);
    let mut more = |f: &str, why: &str| {
        errors.push(FieldError::invalid(format!("status.{f}"), &count(f).into(), why));
    };
    for f in within.iter().filter(|f| count(f) > count("replicas")) {
        more(f, "cannot be greater than status.replicas");
    }
    if let Some(name) = ready
        && count("availableReplicas") > count("readyReplicas")
    {
        more("availableReplicas", &format!("cannot be greater than {name}"));
    }
}

pub(super) fn prepare(new: &mut Value, old: Option<&Value>, part: Part) {
    split_status(new, old, part);
    default(new, "status", json!({}));
}

/// The selector must select the template and, once set, stays. `kind`: the workload in lower case.
fn validate_selector(new: &Value, old: Option<&Value>, kind: &str, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    let selector = &spec["selector"];
    let shown = shown_selector(selector);
    let is_set = |f: &str| match &selector[f] {
        Value::Object(m) => !m.is_empty(),
        Value::Array(a) => !a.is_empty(),
        _ => false,
    };
    let empty = !is_set("matchLabels") && !is_set("matchExpressions");
    if !selector.is_object() {
        // A daemon set without one is told by its template alone.
        if kind != "daemonset" {
            errors.push(FieldError::required("spec.selector", ""));
        }
    } else {
        checks::label_selector(selector, "spec.selector", errors);
        if empty {
            let why = format!("empty selector is invalid for {kind}");
            errors.push(FieldError::invalid_shown("spec.selector", &shown, &why));
        }
    }
    let labels = &spec["template"]["metadata"]["labels"];
    match LabelSelector::from_value(selector) {
        Err(_) if kind == "daemonset" => {}
        Err(_) if kind == "statefulset" => {
            let shown = FieldError::invalid_shown("spec.selector", &shown, "");
            let message = shown.message.trim_end_matches(": ").to_owned();
            errors.push(FieldError { message, ..shown });
        }
        Err(_) => {
            let why = "invalid label selector";
            errors.push(FieldError::invalid_shown("spec.selector", &shown, why));
        }
        Ok(_) if empty && selector.is_object() => {}
        Ok(s) if empty || !s.matches(|k| labels.get(k)?.as_str()) => {
            errors.push(FieldError::invalid_shown(
                "spec.template.metadata.labels",
                &shown_map(labels),
                "`selector` does not match template `labels`",
            ));
        }
        Ok(_) => {}
    }
    // What a stateful set must keep is told of its whole spec.
    if let Some(old) = old
        && old["spec"]["selector"] != *selector
        && kind != "statefulset"
    {
        errors.push(FieldError::invalid_shown("spec.selector", &shown, "field is immutable"));
    }
}

fn validate_workload(new: &Value, old: Option<&Value>, kind: &str, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"]
    {
        if field == "revisionHistoryLimit" && kind == "statefulset" {
            continue;
        }
        if spec[field].as_i64().is_some_and(|n| n < 0) {
            errors.push(FieldError::invalid(
                format!("spec.{field}"),
                &spec[field],
                "must be greater than or equal to 0",
            ));
        }
    }
    validate_selector(new, old, kind, errors);
    if kind == "statefulset" {
        // Its pods have volumes that the template does not name: they are looked at one by one.
        pods::validate_template_metadata(&spec["template"], "spec.template", errors);
    } else {
        pods::validate_template(&spec["template"], "spec.template", errors);
    }
    let pod = &spec["template"]["spec"];
    if pod["restartPolicy"] != "Always" {
        let at = "spec.template.spec.restartPolicy";
        errors.push(FieldError::unsupported(at, &pod["restartPolicy"], &["Always"]));
    }
    if !pod["activeDeadlineSeconds"].is_null() {
        let who = match kind {
            "daemonset" => "DaemonSet",
            "statefulset" => "StatefulSet",
            _ => "ReplicaSet",
        };
        let why = format!("activeDeadlineSeconds in {who} is not Supported");
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", &why));
    }
}

/// The way in which pods are replaced, as error texts show it.
fn shown_strategy(strategy: &Value, ty: &str, rolling: &str) -> String {
    let kind = strategy["type"].as_str().unwrap_or_default();
    let set = if strategy["rollingUpdate"].is_object() { "0xc000000000" } else { "nil" };
    format!("apps.{ty}{{Type:{kind:?}, RollingUpdate:(*apps.{rolling})({set})}}")
}

/// Whether a number or a percentage is nothing.
fn is_zero(share: &Value) -> bool {
    match share {
        Value::String(s) => s.trim_end_matches('%').parse() == Ok(0),
        v => v.as_i64().unwrap_or(0) == 0,
    }
}

fn validate_rolling_deployment(spec: &Value, errors: &mut Vec<FieldError>) {
    let rolling = &spec["strategy"]["rollingUpdate"];
    let path = "spec.strategy.rollingUpdate";
    let unavailable = format!("{path}.maxUnavailable");
    share_of(&rolling["maxUnavailable"], &unavailable, true, errors);
    share_of(&rolling["maxSurge"], &format!("{path}.maxSurge"), false, errors);
    if is_zero(&rolling["maxUnavailable"]) && is_zero(&rolling["maxSurge"]) {
        let why = "may not be 0 when `maxSurge` is 0";
        let shown = shown_share(&rolling["maxUnavailable"]);
        errors.push(FieldError::invalid_shown(unavailable, &shown, why));
    }
}

fn validate_deadline(spec: &Value, errors: &mut Vec<FieldError>) {
    let min_ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    if spec["progressDeadlineSeconds"].as_i64().is_some_and(|n| n <= min_ready) {
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            &spec["progressDeadlineSeconds"],
            "must be greater than minReadySeconds",
        ));
    }
}

fn validate_daemon_update(strategy: &Value, errors: &mut Vec<FieldError>) {
    let path = "spec.updateStrategy.rollingUpdate";
    match strategy["type"].as_str() {
        Some("OnDelete") => return,
        Some("RollingUpdate") => {}
        _ => {
            let known = ["RollingUpdate", "OnDelete"];
            let shown =
                shown_strategy(strategy, "DaemonSetUpdateStrategy", "RollingUpdateDaemonSet");
            errors.push(FieldError::unsupported_shown("spec.updateStrategy", &shown, &known));
            return;
        }
    }
    let (unavailable, surge) =
        (&strategy["rollingUpdate"]["maxUnavailable"], &strategy["rollingUpdate"]["maxSurge"]);
    share_of(unavailable, &format!("{path}.maxUnavailable"), true, errors);
    share_of(surge, &format!("{path}.maxSurge"), true, errors);
    match (is_zero(unavailable), is_zero(surge)) {
        (false, false) => errors.push(FieldError::invalid_shown(
            format!("{path}.maxSurge"),
            &shown_share(surge),
            "may not be set when maxUnavailable is non-zero",
        )),
        (true, true) => errors.push(FieldError::required(
            format!("{path}.maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        )),
        _ => {}
    }
}

pub(crate) static DEPLOYMENT: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        let strategy = object(spec, "strategy");
        default_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
        pods::default_template(spec);
    },
    prepare: |new, old, part| {
        prepare(new, old, part);
        // Whoever writes the status does not label the deployment.
        if let (Part::Status, Some(old)) = (part, old) {
            keep(&mut new["metadata"], Some(&old["metadata"]), "labels");
        }
    },
    validate: |new, old, part, errors| {
        if part == Part::Status {
            let within = ["updatedReplicas", "readyReplicas", "availableReplicas"];
            let counts = [
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "collisionCount",
            ];
            return validate_counts(new, &counts, &within, Some("readyReplicas"), errors);
        }
        validate_workload(new, old, "deployment", errors);
        validate_deadline(&new["spec"], errors);
        let strategy = &new["spec"]["strategy"];
        match strategy["type"].as_str() {
            Some("Recreate") if strategy.get("rollingUpdate").is_some() => {
                errors.push(FieldError::forbidden(
                    "spec.strategy.rollingUpdate",
                    "may not be specified when strategy `type` is 'Recreate'",
                ))
            }
            Some("Recreate") => {}
            Some("RollingUpdate") => validate_rolling_deployment(&new["spec"], errors),
            _ => errors.push(FieldError::unsupported_shown(
                "spec.strategy",
                &shown_strategy(strategy, "DeploymentStrategy", "RollingUpdateDeployment"),
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
            if old.is_some() {
                validate_workload(new, None, "deployment", errors);
            }
            return validate_workload(new, old, "deployment", errors);
        }
        let within = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        let counts = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
        ];
        validate_counts(new, &counts, &within, Some("readyReplicas"), errors);
    },
    generation: true,
    columns: &columns::REPLICA_SET,
    ..BASE
};

/// Where a daemon set says how often its template changed: a number that is older than revisions, and
/// that tools still show.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Counts changes of the template; nobody else sets the number.
fn count_templates(new: &mut Value, old: &Value) {
    let notes = &old["metadata"]["annotations"][TEMPLATE_GENERATION];
    let before = notes.as_str().and_then(|n| n.parse::<i64>().ok()).unwrap_or(1);
    let changed = new["spec"]["template"] != old["spec"]["template"];
    let now = if changed { before + 1 } else { before };
    object(object(new, "metadata"), "annotations")[TEMPLATE_GENERATION] = now.to_string().into();
}

pub(crate) static DAEMON_SET: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "revisionHistoryLimit", 10);
        let strategy = object(spec, "updateStrategy");
        default_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
        pods::default_template(spec);
        let notes = object(object(o, "metadata"), "annotations");
        default(notes, TEMPLATE_GENERATION, "1");
    },
    prepare: |new, old, part| {
        prepare(new, old, part);
        if let Some(old) = old {
            count_templates(new, old);
        }
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
            // A change is looked at twice, as a whole and as a change, and so is told.
            if old.is_some() {
                validate_workload(new, None, "daemonset", errors);
                validate_daemon_update(&new["spec"]["updateStrategy"], errors);
            }
            validate_workload(new, old, "daemonset", errors);
            return validate_daemon_update(&new["spec"]["updateStrategy"], errors);
        }
        let counts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        validate_counts(new, &counts, &[], None, errors);
    },
    generation: true,
    columns: &columns::DAEMON_SET,
    ..BASE
};

fn validate_stateful(spec: &Value, errors: &mut Vec<FieldError>) {
    let order = &spec["podManagementPolicy"];
    if !matches!(order.as_str(), Some("OrderedReady" | "Parallel")) {
        let why = "must be 'OrderedReady' or 'Parallel'";
        errors.push(FieldError::invalid("spec.podManagementPolicy", order, why));
    }
    let strategy = &spec["updateStrategy"];
    let rolling = &strategy["rollingUpdate"];
    let path = "spec.updateStrategy";
    match strategy["type"].as_str() {
        Some("OnDelete") if rolling.is_object() => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(format!("{path}.rollingUpdate"), rolling, why));
        }
        Some("OnDelete") => {}
        Some("RollingUpdate") => {
            let at = format!("{path}.rollingUpdate");
            checks::not_negative(rolling, &at, &["partition"], errors);
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            let rolling = "RollingUpdateStatefulSetStrategy";
            let shown = shown_strategy(strategy, "StatefulSetUpdateStrategy", rolling);
            errors.push(FieldError::invalid_shown(path, &shown, why));
        }
    }
    for field in ["whenDeleted", "whenScaled"] {
        let at = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
        let policy = &spec["persistentVolumeClaimRetentionPolicy"][field];
        checks::one_of(policy, &at, &["Retain", "Delete"], errors);
    }
    checks::not_negative(&spec["ordinals"], "spec.ordinals", &["start"], errors);
    let name = spec["serviceName"].as_str().unwrap_or_default();
    if !name.is_empty()
        && let Err(e) = names::dns_label(name)
    {
        errors.push(FieldError::invalid("spec.serviceName", &spec["serviceName"], &e));
    }
}

pub(crate) static STATEFUL_SET: Strategy = Strategy {
    name: names::dns_label,
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default_text(spec, "podManagementPolicy", "OrderedReady");
        default(
            spec,
            "persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
        );
        let strategy = object(spec, "updateStrategy");
        default_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object(strategy, "rollingUpdate");
            default(rolling, "partition", 0);
            // How many may be away takes a feature that is off.
            rolling.as_object_mut().and_then(|m| m.remove("maxUnavailable"));
        }
        pods::default_template(spec);
        for claim in super::core::list(spec, "volumeClaimTemplates") {
            default(claim, "apiVersion", "v1");
            default(claim, "kind", "PersistentVolumeClaim");
            super::meta::metadata(claim).entry("creationTimestamp").or_insert(Value::Null);
            super::others::default_claim(claim);
            default(claim, "status", json!({"phase": "Pending"}));
        }
    },
    prepare: |new, old, part| {
        prepare(new, old, part);
        // It stands there even if nobody has said it.
        let spec = object(new, "spec");
        if spec["serviceName"].is_null() {
            spec["serviceName"] = "".into();
        }
        for field in ["replicas", "availableReplicas"] {
            default(object(new, "status"), field, 0);
        }
    },
    validate: |new, old, part, errors| {
        if part == Part::Status {
            let within =
                ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
            let counts = [
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ];
            return validate_counts(new, &counts, &within, Some("status.readyReplicas"), errors);
        }
        validate_stateful(&new["spec"], errors);
        validate_workload(new, old, "statefulset", errors);
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
            if spec["serviceName"] == "" {
                spec.as_object_mut().and_then(|m| m.remove("serviceName"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(strategy: &Strategy, spec: Value) -> Vec<String> {
        let mut o = json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template":
            {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
        json_patch::merge(&mut o["spec"], &spec);
        (strategy.default)(&mut o);
        let mut errors = Vec::new();
        (strategy.validate)(&o, None, Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn a_status_counts_no_more_of_one_sort_than_of_all() {
        let told = |strategy: &Strategy, status: Value| {
            let mut errors = Vec::new();
            let new = json!({"metadata": {"name": "a"}, "spec": {}, "status": status});
            (strategy.validate)(&new, Some(&new.clone()), Part::Status, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let all = "cannot be greater than status.replicas";
        assert_eq!(
            told(&DEPLOYMENT, json!({"replicas": -1, "availableReplicas": 5})),
            [
                "status.replicas: Invalid value: -1: must be greater than or equal to 0".to_owned(),
                format!("status.updatedReplicas: Invalid value: 0: {all}"),
                format!("status.readyReplicas: Invalid value: 0: {all}"),
                format!("status.availableReplicas: Invalid value: 5: {all}"),
                "status.availableReplicas: Invalid value: 5: cannot be greater than readyReplicas"
                    .to_owned(),
            ]
        );
        assert_eq!(
            told(&REPLICA_SET, json!({"replicas": 1, "fullyLabeledReplicas": 2})),
            [format!("status.fullyLabeledReplicas: Invalid value: 2: {all}")]
        );
        assert_eq!(
            told(&STATEFUL_SET, json!({"replicas": 3, "readyReplicas": 1, "availableReplicas": 2})),
            [
                "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas"
            ]
        );
        assert_eq!(
            told(&DAEMON_SET, json!({"numberReady": -1})),
            ["status.numberReady: Invalid value: -1: must be greater than or equal to 0"]
        );
        let good = json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 1, "updatedReplicas": 3});
        for strategy in [&DEPLOYMENT, &REPLICA_SET, &STATEFUL_SET, &DAEMON_SET] {
            assert_eq!(told(strategy, good.clone()), Vec::<String>::new());
        }
    }

    // kubernetes.io/docs/concepts/workloads/controllers/deployment: "The value cannot be 0 if maxSurge is 0."
    #[test]
    fn a_rolling_update_must_be_able_to_move() {
        let none = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}});
        assert_eq!(
            problems(&DEPLOYMENT, none),
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: intstr.IntOrString{Type:1, IntVal:0, StrVal:\"0%\"}: may not be 0 when `maxSurge` is 0"
            ]
        );
        assert_eq!(problems(&DEPLOYMENT, json!({})), Vec::<String>::new());
        let late = json!({"minReadySeconds": 600});
        assert_eq!(
            problems(&DEPLOYMENT, late),
            [
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"
            ]
        );
        let both =
            json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}});
        assert_eq!(
            problems(&DAEMON_SET, both),
            [
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: intstr.IntOrString{Type:0, IntVal:1, StrVal:\"\"}: may not be set when maxUnavailable is non-zero"
            ]
        );
    }

    // What a kube-apiserver 1.33 said.
    #[test]
    fn workloads_are_refused_in_the_words_of_kubernetes() {
        let none = json!({"selector": {"matchLabels": {"a": null}}});
        assert_eq!(
            problems(&DAEMON_SET, none),
            [
                "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for daemonset"
            ]
        );
        for (strategy, spec, expected) in [
            (
                &DEPLOYMENT,
                json!({"selector": {"matchLabels": {"x": "y"}}}),
                "spec.template.metadata.labels: Invalid value: map[string]string{\"a\":\"b\"}: `selector` does not match template `labels`",
            ),
            (
                &DEPLOYMENT,
                json!({"template": {"spec": {"activeDeadlineSeconds": 5}}}),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ),
            (
                &DEPLOYMENT,
                json!({"template": {"spec": {"ephemeralContainers": [{"name": "e", "image": "x"}]}}}),
                "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
            ),
            (
                &STATEFUL_SET,
                json!({"podManagementPolicy": "Foo"}),
                "spec.podManagementPolicy: Invalid value: \"Foo\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                &STATEFUL_SET,
                json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Foo", "whenScaled": "Retain"}}),
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Foo\": supported values: \"Retain\", \"Delete\"",
            ),
            (
                &STATEFUL_SET,
                json!({"ordinals": {"start": -1}}),
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ),
        ] {
            assert_eq!(problems(strategy, spec), [expected]);
        }
    }

    // What a kube-apiserver 1.33 did.
    #[test]
    fn a_daemon_set_counts_the_changes_of_its_template() {
        let set = |image: &str| {
            let mut o = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
            (DAEMON_SET.default)(&mut o);
            o
        };
        let count = |o: &Value| o["metadata"]["annotations"][TEMPLATE_GENERATION].clone();
        let mut first = set("a");
        (DAEMON_SET.prepare)(&mut first, None, Part::Main);
        assert_eq!(count(&first), "1");
        let mut next = set("b");
        (DAEMON_SET.prepare)(&mut next, Some(&first), Part::Main);
        assert_eq!(count(&next), "2");
        let mut same = next.clone();
        same["metadata"]["annotations"][TEMPLATE_GENERATION] = "9".into();
        (DAEMON_SET.prepare)(&mut same, Some(&next), Part::Main);
        assert_eq!(count(&same), "2");
    }
}

//! What Kubernetes refuses in the spec of a pod or of a pod template.
//!
//! Owns: the order in which a spec is looked at, tolerations, what every container has.
//! Called by: the pod's own validation, and the workloads that hold a template.

use serde_json::{Value, json};

use super::super::quantity::Quantity;
use super::super::{
    checks, meta, names, pod_fields, pod_lookup, pod_placement, pod_systems, pod_volumes,
};
use crate::http::status::FieldError;

/// What is wrong with a pod's spec, in a pod or in a template; in the order in which Kubernetes looks.
pub(super) fn validate_spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    pod_volumes::volumes(spec, path, errors);
    validate_containers(spec, path, errors);
    validate_ephemeral(spec, path, errors);
    pod_fields::host_network_ports(spec, path, errors);
    if !matches!(spec["restartPolicy"].as_str(), Some("Always" | "OnFailure" | "Never")) {
        errors.push(FieldError::unsupported(
            format!("{path}.restartPolicy"),
            &spec["restartPolicy"],
            &["Always", "OnFailure", "Never"],
        ));
    }
    if !matches!(
        spec["dnsPolicy"].as_str(),
        Some("ClusterFirst" | "ClusterFirstWithHostNet" | "Default" | "None")
    ) {
        errors.push(FieldError::unsupported(
            format!("{path}.dnsPolicy"),
            &spec["dnsPolicy"],
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        ));
    }
    meta::validate_labels(spec.get("nodeSelector"), &format!("{path}.nodeSelector"), errors);
    pod_fields::pod_security(spec, path, errors);
    pod_placement::affinity(spec, path, errors);
    pod_lookup::name_resolution(spec, path, errors);
    pod_fields::gates(spec, path, errors);
    pod_placement::spread(spec, path, errors);
    pod_systems::host_processes(spec, path, errors);
    pod_systems::host_users(spec, path, errors);
    type Form = fn(&str) -> Result<(), String>;
    let named = |fields: &[&str], form: Form, errors: &mut Vec<FieldError>| {
        for field in fields {
            if let Some(s) = spec[*field].as_str().filter(|s| !s.is_empty())
                && let Err(e) = form(s)
            {
                errors.push(FieldError::invalid(format!("{path}.{field}"), &spec[*field], &e));
            }
        }
    };
    named(&["serviceAccountName", "nodeName"], names::dns_subdomain, errors);
    let deadline = &spec["activeDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|n| !(1..=i64::from(i32::MAX)).contains(&n)) {
        let why = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(format!("{path}.activeDeadlineSeconds"), deadline, why));
    }
    named(&["hostname", "subdomain"], names::dns_label, errors);
    for (i, t) in spec["tolerations"].as_array().into_iter().flatten().enumerate() {
        validate_toleration(t, &format!("{path}.tolerations[{i}]"), errors);
    }
    pod_lookup::host_aliases(spec, path, errors);
    pod_systems::system(spec, path, errors);
}

/// The containers that a pod starts with.
fn validate_containers(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let all = |f: &str| spec[f].as_array().map(Vec::as_slice).unwrap_or_default();
    if all("containers").is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for field in ["containers", "initContainers"] {
        let first = field == "initContainers";
        for (i, c) in all(field).iter().enumerate() {
            let at = format!("{path}.{field}[{i}]");
            validate_container(c, spec, &at, errors);
            if first {
                pod_fields::restart(c, &at, first, errors);
            }
            note_name(c, &at, &mut seen, errors);
            pod_fields::lifecycle(c, &at, first, errors);
            validate_sleep(c, spec, &at, errors);
            if first {
                pod_fields::port_conflicts(std::iter::once((at, c)), errors);
            } else {
                pod_fields::restart(c, &at, first, errors);
            }
        }
        if !first {
            let placed = all(field).iter().enumerate();
            let placed = placed.map(|(i, c)| (format!("{path}.{field}[{i}]"), c));
            pod_fields::port_conflicts(placed, errors);
        }
    }
}

/// A pod has but one container of a name.
fn note_name<'a>(c: &'a Value, path: &str, seen: &mut Vec<&'a str>, errors: &mut Vec<FieldError>) {
    let name = c["name"].as_str().unwrap_or_default();
    if seen.contains(&name) {
        errors.push(FieldError::duplicate(format!("{path}.name"), &c["name"]));
    }
    seen.push(name);
}

/// Images of a pod are named without blanks around them; those of a template may have them.
pub(super) fn validate_images(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["containers", "initContainers"] {
        for (i, c) in spec[field].as_array().into_iter().flatten().enumerate() {
            let image = c["image"].as_str().unwrap_or_default();
            if image.trim() != image {
                let at = format!("{path}.{field}[{i}].image");
                let why = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(at, &c["image"], why));
            }
        }
    }
}

/// What is wrong with containers that are added to a pod to look into it.
pub(super) fn validate_ephemeral(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const NEVER: &str = "cannot be set for an Ephemeral Container";
    let all = |f: &str| spec[f].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |c: &'_ Value| c["name"].as_str().unwrap_or_default().to_owned();
    let others: Vec<String> =
        all("containers").iter().chain(all("initContainers")).map(name).collect();
    let mut seen: Vec<&str> = others.iter().map(String::as_str).collect();
    for (i, c) in all("ephemeralContainers").iter().enumerate() {
        let at = format!("{path}.ephemeralContainers[{i}]");
        validate_container(c, spec, &at, errors);
        note_name(c, &at, &mut seen, errors);
        let target = c["targetContainerName"].as_str().unwrap_or_default();
        if !target.is_empty() && !others.iter().any(|o| o == target) {
            let at = format!("{at}.targetContainerName");
            errors.push(FieldError::not_found(at, &c["targetContainerName"]));
        }
        let unset = |v: &Value| v.is_null() || v.as_object().is_some_and(serde_json::Map::is_empty);
        for field in [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            if !unset(&c[field]) {
                errors.push(FieldError::forbidden(format!("{at}.{field}"), NEVER));
            }
        }
        for (k, m) in c["volumeMounts"].as_array().into_iter().flatten().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if m[field].as_str().is_some_and(|s| !s.is_empty()) {
                    let at = format!("{at}.volumeMounts[{k}].{field}");
                    errors.push(FieldError::forbidden(at, NEVER));
                }
            }
        }
    }
}

fn validate_toleration(t: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let key = t["key"].as_str().unwrap_or_default();
    let operator = t["operator"].as_str().unwrap_or_default();
    if !key.is_empty()
        && let Err(e) = names::label_key(key)
    {
        errors.push(FieldError::invalid(format!("{path}.key"), &t["key"], &e));
    }
    if matches!(operator, "" | "Equal")
        && let Err(e) = names::label_value(t["value"].as_str().unwrap_or_default())
    {
        errors.push(FieldError::invalid(format!("{path}.operator"), &t["value"], &e));
    }
    if key.is_empty() && operator != "Exists" {
        errors.push(FieldError::invalid(
            format!("{path}.operator"),
            &json!(operator),
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ));
    }
    if !matches!(operator, "" | "Equal" | "Exists") {
        errors.push(FieldError::unsupported(
            format!("{path}.operator"),
            &t["operator"],
            &["Equal", "Exists"],
        ));
    }
    if operator == "Exists" && !t["value"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::invalid(
            format!("{path}.operator"),
            &t["value"],
            "value must be empty when `operator` is 'Exists'",
        ));
    }
    let effect = t["effect"].as_str().unwrap_or_default();
    if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        errors.push(FieldError::unsupported(
            format!("{path}.effect"),
            &t["effect"],
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        ));
    }
    if t["tolerationSeconds"].is_number() && effect != "NoExecute" {
        errors.push(FieldError::invalid(
            format!("{path}.effect"),
            &json!(effect),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ));
    }
}

fn validate_container(c: &Value, spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let name = c["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else if let Err(e) = names::dns_label(name) {
        errors.push(FieldError::invalid(format!("{path}.name"), &c["name"], &e));
    }
    if c["image"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    }
    let policies = ["File", "FallbackToLogsOnError"];
    if !c["terminationMessagePolicy"].as_str().is_none_or(|p| policies.contains(&p)) {
        errors.push(FieldError::unsupported(
            format!("{path}.terminationMessagePolicy"),
            &c["terminationMessagePolicy"],
            &policies,
        ));
    }
    pod_fields::ports(c, path, errors);
    pod_fields::environment(c, path, errors);
    pod_volumes::environment_sources(c, path, errors);
    pod_volumes::mounts(c, spec, path, errors);
    pod_volumes::devices(c, spec, path, errors);
    if !matches!(c["imagePullPolicy"].as_str(), Some("Always" | "IfNotPresent" | "Never")) {
        errors.push(FieldError::unsupported(
            format!("{path}.imagePullPolicy"),
            &c["imagePullPolicy"],
            &["Always", "IfNotPresent", "Never"],
        ));
    }
    pod_fields::resource_names(&c["resources"], path, errors);
    validate_resources(&c["resources"], path, errors);
    validate_resize(c, spec, path, errors);
    pod_fields::container_security(c, path, errors);
}

/// What happens to a container when it is given more or less.
fn validate_resize(c: &Value, spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const SHOWN: [&str; 2] = ["cpu", "memory"];
    const POLICIES: [&str; 2] = ["NotRequired", "RestartContainer"];
    let at = format!("{path}.resizePolicy");
    let mut seen = Vec::new();
    for (i, p) in c["resizePolicy"].as_array().into_iter().flatten().enumerate() {
        let text = |f: &str| p[f].as_str().unwrap_or_default();
        let (name, policy) = (text("resourceName"), text("restartPolicy"));
        // Names of resources stand there without marks.
        if seen.contains(&name) {
            let e = FieldError::duplicate(format!("{at}[{i}]"), &p["resourceName"]);
            errors.push(FieldError { message: format!("Duplicate value: {name}"), ..e });
        }
        seen.push(name);
        if name.is_empty() {
            errors.push(FieldError::required(at.as_str(), ""));
        } else if !SHOWN.contains(&name) {
            let e = FieldError::unsupported(at.as_str(), &p["resourceName"], &SHOWN);
            let message = e.message.replacen(&format!("{name:?}"), name, 1);
            errors.push(FieldError { message, ..e });
        }
        if policy.is_empty() {
            errors.push(FieldError::required(at.as_str(), ""));
        } else if !POLICIES.contains(&policy) {
            errors.push(FieldError::unsupported(at.as_str(), &p["restartPolicy"], &POLICIES));
        }
        if spec["restartPolicy"] == "Never" && policy != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(at.as_str(), &json!(policy), why));
        }
    }
}

/// A container that sleeps before it ends has to end in time.
fn validate_sleep(c: &Value, spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let most = spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    for hook in ["preStop", "postStart"] {
        let seconds = &c["lifecycle"][hook]["sleep"]["seconds"];
        if seconds.as_i64().is_some_and(|n| n < 0 || n > most) {
            let why = format!(
                "must be non-negative and less than terminationGracePeriodSeconds ({most})"
            );
            errors.push(FieldError::invalid(
                format!("{path}.lifecycle.{hook}.sleep"),
                seconds,
                &why,
            ));
        }
    }
}

fn validate_resources(r: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for side in ["limits", "requests"] {
        for (k, v) in r[side].as_object().into_iter().flatten() {
            let p = format!("{path}.resources.{side}[{k}]");
            if v.as_str().and_then(Quantity::parse).is_some_and(Quantity::is_negative) {
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(p.as_str(), v, why));
            }
            if checks::is_counted(k)
                && v.as_str().and_then(Quantity::parse).is_some_and(|q| !q.is_whole())
            {
                let shown = Quantity::shown(v.as_str().unwrap_or_default());
                errors.push(FieldError::invalid_shown(p, &shown, "must be an integer"));
            }
        }
    }
    for (k, request) in r["requests"].as_object().into_iter().flatten() {
        let (Some(q), Some(limit)) = (
            request.as_str().and_then(Quantity::parse),
            r["limits"][k].as_str().and_then(Quantity::parse),
        ) else {
            continue;
        };
        if q > limit {
            let why = format!(
                "must be less than or equal to {k} limit of {}",
                r["limits"][k].as_str().unwrap_or_default()
            );
            errors.push(FieldError::invalid(format!("{path}.resources.requests"), request, &why));
        }
    }
}

/// What is wrong with the labels and annotations of a pod template.
pub(crate) fn validate_template_metadata(
    template: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let m = &template["metadata"];
    meta::validate_labels(m.get("labels"), &format!("{path}.labels"), errors);
    meta::validate_annotations(m.get("annotations"), &format!("{path}.annotations"), errors);
}

/// What is wrong with a pod template.
pub(crate) fn validate_template(template: &Value, path: &str, errors: &mut Vec<FieldError>) {
    validate_template_metadata(template, path, errors);
    validate_spec(&template["spec"], &format!("{path}.spec"), errors);
    if template["spec"]["ephemeralContainers"].as_array().is_some_and(|c| !c.is_empty()) {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(format!("{path}.spec.ephemeralContainers"), why));
    }
}

//! Pods: how one is written, and what of it may change.
//!
//! Owns: the pod's row of the table. Called by: the registry; workloads take the defaults and the
//! validation of a template from here. Never: looks at other objects (that is admission's part).

mod defaults;
mod notes;
mod spec;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde_json::{Value, json};

use super::core::{BASE, default, keep_status, list, object, only_status};
use super::quantity::Quantity;
use super::{Part, Strategy, columns, names, pod_placement};
use crate::http::status::FieldError;
pub(crate) use defaults::default_template;
use defaults::{default_requests, default_spec};
use spec::{validate_ephemeral, validate_images, validate_spec};
pub(crate) use spec::{validate_template, validate_template_metadata};

pub(crate) static POD: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default_spec(spec);
        // In a template it stays as it is.
        if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) {
            spec["terminationGracePeriodSeconds"] = 1.into();
        }
        default(spec, "enableServiceLinks", true);
        for field in ["containers", "initContainers"] {
            list(spec, field).for_each(default_requests);
        }
        default_status(o);
    },
    prepare: prepare_pod,
    validate: validate_pod,
    fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    generation: true,
    columns: &columns::POD,
    ..BASE
};

/// The first of a pod's addresses is its address, and a condition says when it was looked at.
fn default_status(pod: &mut Value) {
    let Some(status) = pod.get_mut("status").filter(|s| s.is_object()) else { return };
    let ip = status["podIP"].as_str().unwrap_or_default().to_owned();
    if !ip.is_empty() && status.pointer("/podIPs/0/ip").is_none_or(|first| *first != *ip) {
        status["podIPs"] = json!([{"ip": ip}]);
    }
    for c in list(status, "conditions") {
        default(c, "lastProbeTime", Value::Null);
        default(c, "lastTransitionTime", Value::Null);
    }
}

fn prepare_pod(new: &mut Value, old: Option<&Value>, part: Part) {
    match (part, old) {
        (Part::Status, Some(old)) => {
            only_status(new, old);
            // The class is decided once.
            if let Some(q) = old.pointer("/status/qosClass") {
                default(object(new, "status"), "qosClass", q.clone());
            }
        }
        (Part::Ephemeral, Some(old)) => only_ephemeral(new, old),
        (_, Some(old)) => keep_status(new, Some(old)),
        (_, None) => {
            pod_placement::complete_selectors(new);
            new["status"] = json!({"phase": "Pending", "qosClass": qos_class(&new["spec"])})
        }
    }
}

/// Takes all from the stored pod but the containers that are added to look into it.
fn only_ephemeral(new: &mut Value, old: &Value) {
    let added = new["spec"].get("ephemeralContainers").cloned();
    let sent = new["metadata"].clone();
    *new = old.clone();
    for field in ["resourceVersion", "managedFields"] {
        if let Some(v) = sent.get(field) {
            new["metadata"][field] = v.clone();
        }
    }
    let spec = object(new, "spec");
    match added {
        Some(list) => spec["ephemeralContainers"] = list,
        None => {
            spec.as_object_mut().and_then(|s| s.remove("ephemeralContainers"));
        }
    }
}

/// Guaranteed, Burstable or BestEffort.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    let all = ["containers", "initContainers"]
        .iter()
        .flat_map(|f| spec[*f].as_array().into_iter().flatten());
    let (mut any, mut guaranteed) = (false, true);
    for c in all {
        let r = &c["resources"];
        for name in ["cpu", "memory"] {
            let of = |side: &str| {
                r[side][name]
                    .as_str()
                    .and_then(Quantity::parse)
                    .filter(|q| *q > Quantity::default())
            };
            let (request, limit) = (of("requests"), of("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn validate_pod(new: &Value, old: Option<&Value>, part: Part, errors: &mut Vec<FieldError>) {
    let Some(old) = old else {
        notes::validate(new, errors);
        validate_own_spec(&new["spec"], errors);
        let gated = new["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty());
        if gated && !new["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
            let why = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden("spec.nodeName", why));
        }
        if new["spec"]["ephemeralContainers"].as_array().is_some_and(|c| !c.is_empty()) {
            let why = "cannot be set on create";
            errors.push(FieldError::forbidden("spec.ephemeralContainers", why));
        }
        return;
    };
    if part == Part::Status {
        let status = &new["status"];
        for (i, c) in status["conditions"].as_array().into_iter().flatten().enumerate() {
            for why in names::label_key_faults(c["type"].as_str().unwrap_or_default()) {
                let at = format!("status.conditions[{i}].Type");
                errors.push(FieldError::invalid(at, &c["type"], &why));
            }
        }
        let (before, after) = (&old["spec"]["nodeName"], &new["spec"]["nodeName"]);
        if before != after {
            errors.push(FieldError::forbidden("status.nodeName", "may not be changed directly"));
        }
        let (was, is) = (&old["status"]["qosClass"], &new["status"]["qosClass"]);
        if was != is {
            errors.push(FieldError::invalid("status.qosClass", is, "field is immutable"));
        }
        let node = status["nominatedNodeName"].as_str().unwrap_or_default();
        if !node.is_empty()
            && old["status"]["nominatedNodeName"] != *node
            && let Err(why) = names::dns_subdomain(node)
        {
            errors.push(FieldError::invalid("status.nominatedNodeName", &json!(node), &why));
        }
        validate_addresses(status, &old["status"], "podIPs", errors);
        let first = status.pointer("/hostIPs/0/ip");
        if let Some(first) = first.filter(|ip| **ip != status["hostIP"]) {
            let why = "must be equal to `hostIP`";
            errors.push(FieldError::invalid("status.hostIPs[0].ip", first, why));
        }
        validate_addresses(status, &old["status"], "hostIPs", errors);
        return;
    }
    if part == Part::Ephemeral {
        validate_ephemeral(&new["spec"], "spec", errors);
        return kept_ephemeral(new, old, errors);
    }
    validate_own_spec(&new["spec"], errors);
    let count = |v: &Value, f: &str| v["spec"][f].as_array().map_or(0, Vec::len);
    for field in ["containers", "initContainers"] {
        if count(old, field) != count(new, field) {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{field}"), why));
            return;
        }
    }
    if !validate_deadline(&new["spec"], &old["spec"], errors) {
        return;
    }
    let kept = |t: &Value| new["spec"]["tolerations"].as_array().is_some_and(|a| a.contains(t));
    if old["spec"]["tolerations"].as_array().into_iter().flatten().any(|t| !kept(t)) {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    validate_gates(&new["spec"], &old["spec"], errors);
    if mutable_parts_removed(&old["spec"], &new["spec"])
        != mutable_parts_removed(&new["spec"], &new["spec"])
    {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

/// A pod and its host have one address of a family; what was there before stays.
fn validate_addresses(new: &Value, old: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let all = |v: &Value| -> Vec<String> {
        let listed = v[field].as_array().into_iter().flatten();
        listed.map(|a| a["ip"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let (given, had) = (all(new), all(old));
    let at = format!("status.{field}");
    let parsed: Vec<Option<IpAddr>> = given.iter().map(|a| a.parse().ok()).collect();
    for (i, a) in given.iter().enumerate().filter(|(i, a)| parsed[*i].is_none() && !had.contains(a))
    {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(format!("{at}[{i}]"), &json!(a), why));
    }
    let four = parsed.iter().flatten().filter(|a| a.is_ipv4()).count();
    if given.len() > 1 && !(given.len() == 2 && parsed.iter().all(Option::is_some) && four == 1) {
        let ty = if field == "podIPs" { "PodIP" } else { "HostIP" };
        let shown: Vec<String> = given.iter().map(|a| format!("core.{ty}{{IP:{a:?}}}")).collect();
        let why = "may specify no more than one IP for each IP family";
        let shown = format!("[]core.{ty}{{{}}}", shown.join(", "));
        errors.push(FieldError::invalid_shown(at, &shown, why));
    }
}

/// What is wrong with the spec of a pod, beyond what would be of a template.
fn validate_own_spec(spec: &Value, errors: &mut Vec<FieldError>) {
    validate_spec(spec, "spec", errors);
    if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        for (i, v) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
            let sources = v["projected"]["sources"].as_array().into_iter().flatten();
            for (k, _) in sources.enumerate().filter(|(_, s)| s["serviceAccountToken"].is_object())
            {
                let at = format!("spec.volumes[{i}].projected.sources[{k}].serviceAccountToken");
                let why = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(at, why));
            }
        }
    }
    validate_images(spec, "spec", errors);
}

/// The time that a pod has only becomes less; false ends the checks.
fn validate_deadline(new: &Value, old: &Value, errors: &mut Vec<FieldError>) -> bool {
    let at = "spec.activeDeadlineSeconds";
    let now = &new["activeDeadlineSeconds"];
    let before = old["activeDeadlineSeconds"].as_i64();
    let Some(n) = now.as_i64() else {
        if before.is_some() {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(at, &json!("null"), why));
        }
        return true;
    };
    let why = if !(0..=i64::from(i32::MAX)).contains(&n) {
        "must be between 0 and 2147483647, inclusive"
    } else if before.is_some_and(|before| n > before) {
        "must be less than or equal to previous value"
    } else {
        return true;
    };
    errors.push(FieldError::invalid(at, now, why));
    false
}

/// What a pod waits for before it is placed only becomes less.
fn validate_gates(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let waited = |g: &Value| old["schedulingGates"].as_array().is_some_and(|a| a.contains(g));
    for (i, g) in new["schedulingGates"].as_array().into_iter().flatten().enumerate() {
        if !waited(g) {
            let name = g["name"].as_str().unwrap_or_default();
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(format!("spec.schedulingGates[{i}].name"), &why));
        }
    }
}

/// Containers that look into a pod stay as they are once they are there.
fn kept_ephemeral(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let at = "spec.ephemeralContainers";
    if old["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        *errors =
            vec![FieldError::forbidden("", "static pods do not support ephemeral containers")];
        return;
    }
    let all = |o: &Value| o["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let now = all(new);
    for was in all(old) {
        let name = was["name"].as_str().unwrap_or_default();
        match now.iter().find(|c| c["name"] == name) {
            Some(same) if *same == was => {}
            Some(_) => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(FieldError::forbidden(at, &why));
            }
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(at, &why));
            }
        }
    }
}

/// A spec with the fields that may change set as in `like`.
fn mutable_parts_removed(spec: &Value, like: &Value) -> Value {
    let mut spec = spec.clone();
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        if let Some(m) = spec.as_object_mut() {
            m.remove(field);
        }
    }
    for field in ["containers", "initContainers"] {
        let images: Vec<Value> =
            like[field].as_array().into_iter().flatten().map(|c| c["image"].clone()).collect();
        for (c, image) in list(&mut spec, field).zip(images) {
            c["image"] = image;
        }
    }
    spec
}

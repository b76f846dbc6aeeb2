//! Defaults and validation of pods and of pod templates.
//!
//! Owns: what Kubernetes fills into a pod and refuses in it. Called by: the pod's row of the table,
//! and the workloads that hold a template. Never: looks at other objects (that is admission's part).

use serde_json::{Value, json};

use super::core::{BASE, default, keep_status, list, object, only_status};
use super::quantity::Quantity;
use super::{Part, Strategy, columns, meta, names, pod_fields, pod_volumes};
use crate::http::status::FieldError;

pub(crate) static POD: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default_spec(spec);
        default(spec, "enableServiceLinks", true);
        for field in ["containers", "initContainers"] {
            list(spec, field).for_each(default_requests);
        }
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
        "status.nominatedNodeName",
    ],
    generation: true,
    columns: &columns::POD,
    ..BASE
};

/// Limits without requests are requests too.
fn default_requests(container: &mut Value) {
    let Some(limits) = container.pointer("/resources/limits").and_then(Value::as_object).cloned()
    else {
        return;
    };
    let requests = object(object(container, "resources"), "requests");
    for (k, v) in limits {
        default(requests, &k, v);
    }
}

fn prepare_pod(new: &mut Value, old: Option<&Value>, part: Part) {
    match (part, old) {
        (Part::Status, Some(old)) => {
            only_status(new, old);
            // The class is decided once.
            if let Some(q) = old.pointer("/status/qosClass") {
                object(new, "status")["qosClass"] = q.clone();
            }
        }
        (_, Some(old)) => keep_status(new, Some(old)),
        (_, None) => {
            new["status"] = json!({"phase": "Pending", "qosClass": qos_class(&new["spec"])})
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

/// The defaults of a pod's spec, in pods and in templates.
pub(crate) fn default_spec(spec: &mut Value) {
    default(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", "default-scheduler");
    if let Some(sa) = spec.get("serviceAccountName").or(spec.get("serviceAccount")).cloned() {
        default(spec, "serviceAccountName", sa.clone());
        spec["serviceAccount"] = sa;
    }
    let host_network = spec["hostNetwork"] == true;
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for c in list(spec, field) {
            default_container(c, host_network);
        }
    }
    for v in list(spec, "volumes") {
        default_volume(v);
    }
}

fn default_container(c: &mut Value, host_network: bool) {
    default(c, "terminationMessagePath", "/dev/termination-log");
    default(c, "terminationMessagePolicy", "File");
    default(c, "resources", json!({}));
    if c.get("imagePullPolicy").is_none_or(|p| *p == "") {
        let image = c["image"].as_str().unwrap_or_default();
        c["imagePullPolicy"] =
            if image_is_latest(image) { "Always" } else { "IfNotPresent" }.into();
    }
    for p in list(c, "ports") {
        default(p, "protocol", "TCP");
        if host_network && let Some(n) = p.get("containerPort").cloned() {
            default(p, "hostPort", n);
        }
    }
    for e in list(c, "env") {
        if let Some(f) = e.pointer_mut("/valueFrom/fieldRef") {
            default(f, "apiVersion", "v1");
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(p) = c.get_mut(field) else { continue };
        for (k, v) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            if p.get(k).is_none_or(|v| *v == 0) {
                p[k] = v.into();
            }
        }
        default_handler(p);
    }
    for hook in ["postStart", "preStop"] {
        if let Some(h) = c.pointer_mut(&format!("/lifecycle/{hook}")) {
            default_handler(h);
        }
    }
}

fn default_handler(p: &mut Value) {
    if let Some(h) = p.get_mut("httpGet") {
        default(h, "path", "/");
        default(h, "scheme", "HTTP");
    }
    if let Some(g) = p.get_mut("grpc") {
        default(g, "service", "");
    }
}

/// Whether an image's tag is `latest`, said or unsaid.
fn image_is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.rsplit_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

fn default_volume(v: &mut Value) {
    let known = v.as_object().is_some_and(|m| m.keys().any(|k| k != "name"));
    if !known {
        v["emptyDir"] = json!({});
    }
    for field in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(s) = v.get_mut(field) {
            default(s, "defaultMode", 0o644);
        }
    }
    if let Some(h) = v.get_mut("hostPath") {
        default(h, "type", "");
    }
    for s in v.pointer_mut("/projected/sources").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if let Some(t) = s.get_mut("serviceAccountToken") {
            default(t, "expirationSeconds", 3600);
        }
        for i in
            s.pointer_mut("/downwardAPI/items").and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Some(f) = i.get_mut("fieldRef") {
                default(f, "apiVersion", "v1");
            }
        }
    }
    for i in v.pointer_mut("/downwardAPI/items").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if let Some(f) = i.get_mut("fieldRef") {
            default(f, "apiVersion", "v1");
        }
    }
}

fn validate_pod(new: &Value, old: Option<&Value>, part: Part, errors: &mut Vec<FieldError>) {
    let Some(old) = old else {
        validate_spec(&new["spec"], "spec", errors);
        if new["spec"]["ephemeralContainers"].as_array().is_some_and(|c| !c.is_empty()) {
            let why = "cannot be set on create";
            errors.push(FieldError::forbidden("spec.ephemeralContainers", why));
        }
        return;
    };
    if part == Part::Status {
        let (before, after) = (&old["spec"]["nodeName"], &new["spec"]["nodeName"]);
        if before != after {
            errors.push(FieldError::forbidden("status.nodeName", "may not be changed directly"));
        }
        return;
    }
    let count = |v: &Value, f: &str| v["spec"][f].as_array().map_or(0, Vec::len);
    for field in ["containers", "initContainers"] {
        if count(old, field) != count(new, field) {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{field}"), why));
            return;
        }
    }
    validate_spec(&new["spec"], "spec", errors);
    if mutable_parts_removed(&old["spec"], &new["spec"])
        != mutable_parts_removed(&new["spec"], &new["spec"])
    {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
    let kept = |t: &Value| new["spec"]["tolerations"].as_array().is_some_and(|a| a.contains(t));
    if old["spec"]["tolerations"].as_array().into_iter().flatten().any(|t| !kept(t)) {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
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

/// What is wrong with a pod's spec, in a pod or in a template.
pub(crate) fn validate_spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    pod_volumes::volumes(spec, path, errors);
    let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for field in ["containers", "initContainers"] {
        for (i, c) in spec[field].as_array().into_iter().flatten().enumerate() {
            let at = format!("{path}.{field}[{i}]");
            validate_container(c, spec, &at, &mut seen, errors);
            pod_fields::restart(c, &at, field == "initContainers", errors);
            pod_fields::lifecycle(c, &at, field == "initContainers", errors);
            pod_fields::container_security(c, &at, errors);
        }
    }
    pod_fields::host_ports(spec, path, errors);
    pod_fields::gates(spec, path, errors);
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
    if let Some(n) = spec["activeDeadlineSeconds"].as_i64()
        && n < 1
    {
        errors.push(FieldError::invalid(
            format!("{path}.activeDeadlineSeconds"),
            &spec["activeDeadlineSeconds"],
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for (field, form) in [
        ("serviceAccountName", names::dns_subdomain as fn(&str) -> _),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
    ] {
        if let Some(s) = spec[field].as_str().filter(|s| !s.is_empty())
            && let Err(e) = form(s)
        {
            errors.push(FieldError::invalid(format!("{path}.{field}"), &spec[field], &e));
        }
    }
    pod_fields::pod_security(spec, path, errors);
    pod_fields::placement(spec, path, errors);
    pod_fields::name_resolution(spec, path, errors);
    for (i, t) in spec["tolerations"].as_array().into_iter().flatten().enumerate() {
        validate_toleration(t, &format!("{path}.tolerations[{i}]"), errors);
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

fn validate_container<'a>(
    c: &'a Value,
    spec: &Value,
    path: &str,
    seen: &mut Vec<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    let name = c["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else if let Err(e) = names::dns_label(name) {
        errors.push(FieldError::invalid(format!("{path}.name"), &c["name"], &e));
    } else if seen.contains(&name) {
        errors.push(FieldError::duplicate(format!("{path}.name"), &c["name"]));
    }
    seen.push(name);
    let image = c["image"].as_str().unwrap_or_default();
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(
            format!("{path}.image"),
            &c["image"],
            "must not have leading or trailing whitespace",
        ));
    }
    if !matches!(c["imagePullPolicy"].as_str(), Some("Always" | "IfNotPresent" | "Never")) {
        errors.push(FieldError::unsupported(
            format!("{path}.imagePullPolicy"),
            &c["imagePullPolicy"],
            &["Always", "IfNotPresent", "Never"],
        ));
    }
    for (i, p) in c["ports"].as_array().into_iter().flatten().enumerate() {
        for field in ["containerPort", "hostPort"] {
            match p.get(field) {
                n if field == "containerPort" && n.is_none_or(|n| *n == 0) => {
                    errors.push(FieldError::required(format!("{path}.ports[{i}].{field}"), ""))
                }
                Some(n)
                    if n.as_i64().is_none_or(|n| !(1..=65535).contains(&n))
                        && (field != "hostPort" || *n != 0) =>
                {
                    errors.push(FieldError::invalid(
                        format!("{path}.ports[{i}].{field}"),
                        n,
                        "must be between 1 and 65535, inclusive",
                    ));
                }
                _ => {}
            }
        }
        if !matches!(p["protocol"].as_str(), Some("TCP" | "UDP" | "SCTP")) {
            errors.push(FieldError::unsupported(
                format!("{path}.ports[{i}].protocol"),
                &p["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
    }
    let policies = ["File", "FallbackToLogsOnError"];
    if !c["terminationMessagePolicy"].as_str().is_none_or(|p| policies.contains(&p)) {
        errors.push(FieldError::unsupported(
            format!("{path}.terminationMessagePolicy"),
            &c["terminationMessagePolicy"],
            &policies,
        ));
    }
    pod_fields::port_names(c, path, errors);
    pod_fields::environment(c, path, errors);
    pod_volumes::environment_sources(c, path, errors);
    pod_volumes::mounts(c, spec, path, errors);
    pod_volumes::devices(c, spec, path, errors);
    pod_fields::resource_names(&c["resources"], path, errors);
    validate_resources(&c["resources"], path, errors);
}

fn validate_resources(r: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for side in ["limits", "requests"] {
        for (k, v) in r[side].as_object().into_iter().flatten() {
            let p = format!("{path}.resources.{side}[{k}]");
            if v.as_str().and_then(Quantity::parse).is_some_and(Quantity::is_negative) {
                errors.push(FieldError::invalid(p, v, "must be greater than or equal to 0"));
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

/// Defaults of a pod template.
pub(crate) fn default_template(parent: &mut Value) {
    let template = object(parent, "template");
    meta::metadata(template).entry("creationTimestamp").or_insert(Value::Null);
    default_spec(object(template, "spec"));
}

/// What is wrong with a pod template.
pub(crate) fn validate_template(template: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let m = &template["metadata"];
    meta::validate_labels(m.get("labels"), &format!("{path}.labels"), errors);
    meta::validate_annotations(m.get("annotations"), &format!("{path}.annotations"), errors);
    validate_spec(&template["spec"], &format!("{path}.spec"), errors);
    if template["spec"]["ephemeralContainers"].as_array().is_some_and(|c| !c.is_empty()) {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(format!("{path}.spec.ephemeralContainers"), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        let mut p = json!({"metadata": {"name": "a"}, "spec": spec});
        (POD.default)(&mut p);
        p
    }

    fn problems(spec: Value) -> Vec<String> {
        let mut errors = Vec::new();
        (POD.validate)(&pod(spec), None, Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_gets_the_documented_defaults() {
        let p = pod(json!({"containers": [{"name": "c", "image": "nginx"}]}));
        assert_eq!(
            p["spec"],
            json!({"containers": [{"name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true})
        );
    }

    // https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ says of each field
    // what it may be; the words are those of a kube-apiserver 1.33.
    #[test]
    fn fields_of_containers_are_checked_one_by_one() {
        let with = |field: &str, v: Value| {
            let mut c = json!({"name": "c", "image": "i"});
            c[field] = v;
            problems(json!({"containers": [c]}))
        };
        for (field, value, expected) in [
            (
                "livenessProbe",
                json!({}),
                "livenessProbe: Required value: must specify a handler type",
            ),
            (
                "readinessProbe",
                json!({"httpGet": {"port": 0}}),
                "readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                "readinessProbe",
                json!({"tcpSocket": {"port": 80}, "timeoutSeconds": -1}),
                "readinessProbe.timeoutSeconds: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "livenessProbe",
                json!({"tcpSocket": {"port": 80}, "successThreshold": 2}),
                "livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                "startupProbe",
                json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 80}}),
                "startupProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ),
            (
                "lifecycle",
                json!({"preStop": {}}),
                "lifecycle.preStop: Required value: must specify a handler type",
            ),
            ("ports", json!([{"containerPort": 0}]), "ports[0].containerPort: Required value"),
            (
                "ports",
                json!([{"containerPort": 1, "name": "a-name-that-is-too-long"}]),
                "ports[0].name: Invalid value: \"a-name-that-is-too-long\": must be no more than 15 characters",
            ),
            (
                "ports",
                json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
                "ports[1].name: Duplicate value: \"a\"",
            ),
            (
                "ports",
                json!([{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]),
                "ports[1].hostPort: Duplicate value: \"TCP//5\"",
            ),
            (
                "env",
                json!([{"name": "A=B"}]),
                "env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ),
            (
                "env",
                json!([{"name": "A", "valueFrom": {}}]),
                "env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            ),
            (
                "env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "foo.bar"}}}]),
                "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"foo.bar\": error converting fieldPath: field label not supported: foo.bar",
            ),
            (
                "envFrom",
                json!([{}]),
                "envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ),
            (
                "securityContext",
                json!({"runAsUser": -2}),
                "securityContext.runAsUser: Invalid value: -2: must be between 0 and 2147483647, inclusive",
            ),
            (
                "terminationMessagePolicy",
                json!("Foo"),
                "terminationMessagePolicy: Unsupported value: \"Foo\": supported values: \"File\", \"FallbackToLogsOnError\"",
            ),
        ] {
            assert_eq!(with(field, value), [format!("spec.containers[0].{expected}")]);
        }
        assert_eq!(
            with("resources", json!({"requests": {"foo": "1"}})),
            [
                "spec.containers[0].resources.requests[foo]: Invalid value: foo: must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[foo]: Invalid value: foo: must be a standard resource for containers"
            ]
        );
        for good in [
            json!({"fieldRef": {"fieldPath": "metadata.labels['a.b/c']"}}),
            json!({"resourceFieldRef": {"resource": "limits.cpu"}}),
            json!({"secretKeyRef": {"name": "s", "key": "k"}}),
        ] {
            assert_eq!(
                with("env", json!([{"name": "A", "valueFrom": good}])),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn fields_of_pods_are_checked_one_by_one() {
        let with = |field: &str, v: Value| {
            let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
            spec[field] = v;
            problems(spec)
        };
        for (field, value, expected) in [
            (
                "dnsPolicy",
                json!("None"),
                "dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            (
                "hostAliases",
                json!([{"ip": "x"}]),
                "hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                "topologySpreadConstraints",
                json!([{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
                "topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            ),
            (
                "affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
                "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            ),
            (
                "volumes",
                json!([{"name": "v", "hostPath": {"path": "/a", "type": "Foo"}}]),
                "volumes[0].hostPath.type: Unsupported value: \"Foo\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ),
            (
                "volumes",
                json!([{"name": "v", "hostPath": {"path": "../a"}}]),
                "volumes[0].hostPath.path: Invalid value: \"../a\": must not contain '..'",
            ),
            (
                "volumes",
                json!([{"name": "v", "secret": {"secretName": "s", "defaultMode": 1000}}]),
                "volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
            ),
            (
                "ephemeralContainers",
                json!([{"name": "e", "image": "i"}]),
                "ephemeralContainers: Forbidden: cannot be set on create",
            ),
            (
                "initContainers",
                json!([{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
                "initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ),
        ] {
            assert_eq!(with(field, value), [format!("spec.{expected}")]);
        }
        let volumes = json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]);
        assert_eq!(with("volumes", volumes), Vec::<String>::new());
    }

    // What a kube-apiserver 1.33 said.
    #[test]
    fn what_a_pod_asks_for_is_refused_in_the_words_of_kubernetes() {
        let with = |field: &str, v: Value| {
            let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
            match field.strip_prefix("containers[0].") {
                Some(f) => spec["containers"][0][f] = v,
                None => spec[field] = v,
            }
            problems(spec)
        };
        for (field, value, expected) in [
            (
                "containers[0].restartPolicy",
                json!("Always"),
                "containers[0].restartPolicy: Forbidden: may not be set for non-init containers",
            ),
            (
                "initContainers",
                json!([{"name": "i", "image": "x", "restartPolicy": "Never"}]),
                "initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                "os",
                json!({"name": "foo"}),
                "os: Unsupported value: \"foo\": supported values: \"linux\", \"windows\"",
            ),
            (
                "containers[0].readinessProbe",
                json!({"exec": {"command": ["a"]}, "terminationGracePeriodSeconds": 5}),
                "containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ),
            (
                "containers[0].livenessProbe",
                json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": "c"}]}}),
                "containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            ),
            (
                "topologySpreadConstraints",
                json!([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"},
                    {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
                "topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{a, DoNotSchedule}\"",
            ),
            (
                "securityContext",
                json!({"seccompProfile": {"type": "Localhost"}}),
                "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ),
            (
                "securityContext",
                json!({"fsGroupChangePolicy": "Foo"}),
                "securityContext.fsGroupChangePolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"OnRootMismatch\"",
            ),
            (
                "containers[0].env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}}}]),
                "containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v2",
            ),
            (
                "containers[0].env",
                json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "3"}}}]),
                "containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
            ),
            (
                "containers[0].envFrom",
                json!([{"configMapRef": {"name": ""}}]),
                "containers[0].envFrom[0].configMapRef.name: Required value",
            ),
            (
                "volumes",
                json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "a"}, "configMap": {"name": "b"}}]}}]),
                "volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            ),
            (
                "volumes",
                json!([{"name": "v", "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "spec.nodeName"}}]}}]),
                "volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
            ),
            (
                "volumes",
                json!([{"name": "v", "ephemeral": {}}]),
                "volumes[0].ephemeral.volumeClaimTemplate: Required value",
            ),
        ] {
            assert_eq!(with(field, value), [format!("spec.{expected}")]);
        }
    }

    #[test]
    fn tags_decide_the_pull_policy() {
        for (image, latest) in [
            ("a", true),
            ("a:latest", true),
            ("a:1", false),
            ("h:5000/a", true),
            ("h:5000/a:1", false),
            ("a@sha256:0", false),
        ] {
            assert_eq!(image_is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn problems_are_told_in_the_words_of_kubernetes() {
        assert_eq!(problems(json!({})), ["spec.containers: Required value"]);
        assert_eq!(
            problems(
                json!({"containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})
            ),
            ["spec.containers[0].volumeMounts[0].name: Not found: \"v\""]
        );
        assert_eq!(
            problems(
                json!({"restartPolicy": "Sometimes", "containers": [{"name": "c", "image": "x"}]})
            ),
            [
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""
            ]
        );
    }

    #[test]
    fn only_the_documented_fields_of_a_pod_change() {
        let old = pod(json!({"containers": [{"name": "c", "image": "x:1"}]}));
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = "x:2".into();
        let mut errors = Vec::new();
        (POD.validate)(&new, Some(&old), Part::Main, &mut errors);
        assert_eq!(errors, []);
        new["spec"]["hostNetwork"] = true.into();
        (POD.validate)(&new, Some(&old), Part::Main, &mut errors);
        assert!(
            errors[0]
                .to_string()
                .starts_with("spec: Forbidden: pod updates may not change fields other than")
        );
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let class = |resources: Value| {
            qos_class(
                &pod(json!({"containers": [{"name": "c", "image": "x", "resources": resources}]}))
                    ["spec"],
            )
        };
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    }
}

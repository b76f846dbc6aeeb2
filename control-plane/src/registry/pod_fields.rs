//! Parts of pods that are looked at one by one: probes, ports, environment, affinity and the like.
//!
//! Owns: what Kubernetes refuses in them. Called by: `pods`, for pods and templates.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>

use serde_json::{Map, Value, json};

use super::quantity::Quantity;
use super::{names, pod_systems, pod_volumes};
use crate::http::status::FieldError;

pub(super) type Errors = Vec<FieldError>;

const PORT: &str = "must be between 1 and 65535, inclusive";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const ID: &str = "must be between 0 and 2147483647, inclusive";

pub(super) fn each<'a>(
    v: &'a Value,
    field: &str,
) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    v[field].as_array().into_iter().flatten().enumerate()
}

pub(super) fn text<'a>(v: &'a Value, field: &str) -> &'a str {
    v[field].as_str().unwrap_or_default()
}

/// A value that has to be one of some, if it is there.
pub(super) fn one_of(v: &Value, field: &str, at: &str, known: &[&str], errors: &mut Errors) {
    if !v[field].is_null() && !v[field].as_str().is_some_and(|s| known.contains(&s)) {
        errors.push(FieldError::unsupported(format!("{at}.{field}"), &v[field], known));
    }
}

/// Why a text cannot name a port.
pub(crate) fn port_name(name: &str) -> Vec<&'static str> {
    let mut why = Vec::new();
    if name.len() > 15 {
        why.push("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        why.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        why.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        why.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        why.push("must not begin or end with a hyphen");
    }
    why
}

fn port(v: &Value, at: String, errors: &mut Errors) {
    match v.as_str() {
        Some(name) => {
            let found = port_name(name);
            errors.extend(found.iter().map(|e| FieldError::invalid(at.clone(), v, e)));
        }
        None if v.as_i64().is_some_and(|n| (1..=65535).contains(&n)) => {}
        None => errors.push(FieldError::invalid(at, &json!(v.as_i64().unwrap_or(0)), PORT)),
    }
}

/// The one way in which a probe or a hook acts.
fn handler(h: &Value, at: &str, errors: &mut Errors) {
    let mut found = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(v) = h.get(kind) else { continue };
        let at = format!("{at}.{kind}");
        found += 1;
        if found > 1 {
            errors.push(FieldError::forbidden(at, "may not specify more than 1 handler type"));
            continue;
        }
        match kind {
            "exec" if v["command"].as_array().is_none_or(Vec::is_empty) => {
                errors.push(FieldError::required(format!("{at}.command"), ""));
            }
            "httpGet" => {
                if text(v, "path").is_empty() {
                    errors.push(FieldError::required(format!("{at}.path"), ""));
                }
                port(&v["port"], format!("{at}.port"), errors);
                one_of(v, "scheme", &at, &["HTTP", "HTTPS"], errors);
                for (_, h) in each(v, "httpHeaders") {
                    let name = text(h, "name");
                    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
                    if name.is_empty() || !name.bytes().all(plain) {
                        let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                        let at = format!("{at}.httpHeaders");
                        errors.push(FieldError::invalid(at, &json!(name), why));
                    }
                }
            }
            "tcpSocket" | "grpc" => port(&v["port"], format!("{at}.port"), errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.push(FieldError::required(at, "must specify a handler type"));
    }
}

/// Hooks and probes of a container.
pub(crate) fn lifecycle(c: &Value, at: &str, init: bool, errors: &mut Errors) {
    let sidecar = c["restartPolicy"] == "Always";
    let never = "may not be set for init containers without restartPolicy=Always";
    let fields = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];
    if init && !sidecar {
        let set = fields.iter().filter(|f| c.get(**f).is_some());
        errors.extend(set.map(|f| FieldError::forbidden(format!("{at}.{f}"), never)));
        return;
    }
    for hook in ["postStart", "preStop"] {
        if let Some(h) = c["lifecycle"].get(hook) {
            handler(h, &format!("{at}.lifecycle.{hook}"), errors);
        }
    }
    for field in &fields[1..] {
        let Some(p) = c.get(*field) else { continue };
        let at = format!("{at}.{field}");
        handler(p, &at, errors);
        for f in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            if p[f].as_i64().is_some_and(|n| n < 0) {
                errors.push(FieldError::invalid(format!("{at}.{f}"), &p[f], NOT_NEGATIVE));
            }
        }
        let grace = &p["terminationGracePeriodSeconds"];
        let grace_at = format!("{at}.terminationGracePeriodSeconds");
        if *field == "readinessProbe" && !grace.is_null() {
            errors.push(FieldError::invalid(
                grace_at,
                grace,
                "must not be set for readinessProbes",
            ));
        } else if grace.as_i64().is_some_and(|n| n <= 0) {
            errors.push(FieldError::invalid(grace_at, grace, "must be greater than 0"));
        }
        if *field != "readinessProbe" && p["successThreshold"].as_i64().is_some_and(|n| n != 1) {
            let at = format!("{at}.successThreshold");
            errors.push(FieldError::invalid(at, &p["successThreshold"], "must be 1"));
        }
    }
}

/// Whether a container restarts by itself: only one that starts before the others may say so.
pub(crate) fn restart(c: &Value, at: &str, init: bool, errors: &mut Errors) {
    let policy = &c["restartPolicy"];
    let at = format!("{at}.restartPolicy");
    match policy.as_str() {
        None => {}
        Some(_) if !init => {
            errors.push(FieldError::forbidden(at, "may not be set for non-init containers"));
        }
        Some("Always") => {}
        Some(_) => errors.push(FieldError::unsupported(at, policy, &["Always"])),
    }
}

/// What a pod waits for.
pub(crate) fn gates(spec: &Value, at: &str, errors: &mut Errors) {
    for (i, g) in each(spec, "readinessGates") {
        let at = format!("{at}.readinessGates[{i}].conditionType");
        key(&g["conditionType"], at, errors);
    }
    let mut seen = Vec::new();
    for (i, g) in each(spec, "schedulingGates") {
        let at = format!("{at}.schedulingGates[{i}]");
        key(&g["name"], at.clone(), errors);
        if seen.contains(&text(g, "name")) {
            errors.push(FieldError::duplicate(at, &g["name"]));
        }
        seen.push(text(g, "name"));
    }
}

/// The ports of a container.
pub(crate) fn ports(c: &Value, at: &str, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, p) in each(c, "ports") {
        let at = format!("{at}.ports[{i}]");
        let name = text(p, "name");
        let why = if name.is_empty() { Vec::new() } else { port_name(name) };
        if !why.is_empty() {
            let at = format!("{at}.name");
            errors.extend(why.iter().map(|e| FieldError::invalid(at.clone(), &p["name"], e)));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &p["name"]));
        } else if !name.is_empty() {
            seen.push(name);
        }
        for field in ["containerPort", "hostPort"] {
            let at = format!("{at}.{field}");
            match p[field].as_i64().unwrap_or(0) {
                0 if field == "containerPort" => errors.push(FieldError::required(at, "")),
                0..=65535 => {}
                n => errors.push(FieldError::invalid(at, &json!(n), PORT)),
            }
        }
        let known = ["SCTP", "TCP", "UDP"];
        if !known.contains(&text(p, "protocol")) {
            errors.push(FieldError::unsupported(format!("{at}.protocol"), &p["protocol"], &known));
        }
    }
}

/// Ports of the host can be taken once. `containers` are those that run at the same time.
pub(crate) fn port_conflicts<'a>(
    containers: impl Iterator<Item = (String, &'a Value)>,
    errors: &mut Errors,
) {
    let mut seen = Vec::new();
    for (at, c) in containers {
        for (i, p) in each(c, "ports") {
            let Some(n) = p["hostPort"].as_i64().filter(|n| *n != 0) else { continue };
            let key = format!("{}/{}/{n}", text(p, "protocol"), text(p, "hostIP"));
            if seen.contains(&key) {
                let at = format!("{at}.ports[{i}].hostPort");
                errors.push(FieldError::duplicate(at, &key.as_str().into()));
            }
            seen.push(key);
        }
    }
}

/// In the host's network a port has but one number.
pub(crate) fn host_network_ports(spec: &Value, at: &str, errors: &mut Errors) {
    if spec["hostNetwork"] != true {
        return;
    }
    for (k, c) in each(spec, "containers") {
        for (i, p) in each(c, "ports") {
            let own = p["hostPort"].as_i64().unwrap_or(0);
            if own != 0 && p["containerPort"] != p["hostPort"] {
                let at = format!("{at}.containers[{k}].ports[{i}].hostPort");
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(at, &p["hostPort"], why));
            }
        }
    }
}

/// Fields of a pod that its own containers may ask for.
fn is_own_field(path: &str) -> bool {
    let plain = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels",
        "metadata.annotations",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let keyed = |map: &str| {
        path.strip_prefix(map).is_some_and(|r| r.starts_with("['") && r.ends_with("']"))
    };
    plain.contains(&path) || keyed("metadata.labels") || keyed("metadata.annotations")
}

/// A reference to one of the pod's own fields, from its environment or a volume.
pub(super) fn field_ref(v: &Value, at: &str, environment: bool, errors: &mut Errors) {
    let path = text(v, "fieldPath");
    if path.is_empty() {
        errors.push(FieldError::required(format!("{at}.fieldPath"), ""));
        return;
    }
    let unknown = match v["apiVersion"].as_str().unwrap_or("v1") {
        "v1" if is_own_field(path) => None,
        "v1" => Some(format!("field label not supported: {path}")),
        version => Some(format!("unsupported pod version: {version}")),
    };
    if let Some(why) = unknown {
        let why = format!("error converting fieldPath: {why}");
        errors.push(FieldError::invalid(format!("{at}.fieldPath"), &v["fieldPath"], &why));
        return;
    }
    let key = path.split_once("['").map(|(_, k)| k.trim_end_matches("']"));
    if let Some(k) = key {
        let k = if path.starts_with("metadata.annotations") { k.to_lowercase() } else { k.into() };
        if let Err(e) = names::label_key(&k) {
            errors.push(FieldError::invalid(at, &json!(k), &e));
        }
        return;
    }
    let files: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
    ];
    let variables: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let known = if environment { variables } else { files };
    if !known.contains(&path) {
        errors.push(FieldError::unsupported(format!("{at}.fieldPath"), &v["fieldPath"], known));
    }
}

/// Which units an amount of a container may be told in.
fn divisor(r: &Value, at: &str, errors: &mut Errors) {
    let (resource, unit) = (text(r, "resource"), text(r, "divisor"));
    if Quantity::parse(unit).is_none_or(|q| q == Quantity::default()) {
        return;
    }
    let kind = resource.split_once('.').map_or("", |(_, k)| k);
    let why = match kind {
        "cpu" if !["1m", "1"].contains(&unit) => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        "memory" | "ephemeral-storage" => {
            let known = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
            if known.split(", ").any(|k| k == unit) {
                return;
            }
            let kind = if kind == "memory" { "memory" } else { "local ephemeral storage" };
            format!("only divisor's values {known} are supported with the {kind} resource")
        }
        _ => return,
    };
    errors.push(FieldError::invalid(format!("{at}.divisor"), &json!(resource), &why));
}

/// A reference to what a container may use or is promised.
pub(super) fn resource_ref(r: &Value, at: &str, volume: bool, errors: &mut Errors) {
    let known = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    if volume && text(r, "containerName").is_empty() {
        errors.push(FieldError::required(format!("{at}.containerName"), ""));
    } else {
        let at = format!("{at}.resource");
        match text(r, "resource") {
            "" => errors.push(FieldError::required(at, "")),
            n if known.contains(&n) || n.contains(".hugepages-") => {}
            _ => errors.push(FieldError::unsupported(at, &r["resource"], &known)),
        }
    }
    divisor(r, at, errors);
}

fn value_from(from: &Value, at: &str, errors: &mut Errors) {
    let sources = from.as_object().map_or(0, Map::len);
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(FieldError::invalid(at, &json!(""), why));
    } else if sources > 1 {
        let why = "may not have more than one field specified at a time";
        errors.push(FieldError::invalid(at, &json!(""), why));
    }
    if let Some(f) = from.get("fieldRef") {
        field_ref(f, &format!("{at}.fieldRef"), true, errors);
    }
    if let Some(r) = from.get("resourceFieldRef") {
        resource_ref(r, &format!("{at}.resourceFieldRef"), false, errors);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        let Some(r) = from.get(field) else { continue };
        let at = format!("{at}.{field}");
        if let Err(e) = names::dns_subdomain(text(r, "name")) {
            errors.push(FieldError::invalid(format!("{at}.name"), &json!(text(r, "name")), &e));
        }
        match text(r, "key") {
            "" => errors.push(FieldError::required(format!("{at}.key"), "")),
            key => {
                if let Err(e) = names::config_key(key) {
                    errors.push(FieldError::invalid(format!("{at}.key"), &r["key"], &e));
                }
            }
        }
    }
}

/// What a variable may be called.
pub(super) fn environment_name(name: &Value, at: String, errors: &mut Errors) {
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    if !name.as_str().unwrap_or_default().bytes().all(printable) {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(FieldError::invalid(at, name, why));
    }
}

/// The environment of a container.
pub(crate) fn environment(c: &Value, at: &str, errors: &mut Errors) {
    for (i, e) in each(c, "env") {
        let at = format!("{at}.env[{i}]");
        if text(e, "name").is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else {
            environment_name(&e["name"], format!("{at}.name"), errors);
        }
        let Some(from) = e.get("valueFrom") else { continue };
        if text(e, "value").is_empty() {
            value_from(from, &format!("{at}.valueFrom"), errors);
        } else {
            let why = "may not be specified when `value` is not empty";
            errors.push(FieldError::invalid(format!("{at}.valueFrom"), &json!(""), why));
        }
    }
}

/// Names of resources, and those of which a node cannot promise more than it has.
pub(crate) fn resource_names(r: &Value, at: &str, errors: &mut Errors) {
    let at = format!("{at}.resources");
    for side in ["limits", "requests"] {
        for k in r[side].as_object().into_iter().flatten().map(|(k, _)| k) {
            let plain = ["cpu", "memory", "ephemeral-storage"].contains(&k.as_str());
            if plain || k.starts_with("hugepages-") || k.contains('/') {
                continue;
            }
            for why in ["resource type or fully qualified", "resource for containers"] {
                errors.push(FieldError {
                    reason: "FieldValueInvalid",
                    field: format!("{at}.{side}[{k}]"),
                    message: format!("Invalid value: {k}: must be a standard {why}"),
                });
            }
        }
    }
    let sides = ["limits", "requests"].iter().flat_map(|s| r[*s].as_object());
    let named = |start: &str| sides.clone().flatten().any(|(k, _)| k.starts_with(start));
    if named("hugepages-") && !named("cpu") && !named("memory") {
        errors.push(FieldError::forbidden(at.as_str(), "HugePages require cpu or memory"));
    }
    let number = |v: &Value| v.as_str().and_then(Quantity::parse);
    for (k, request) in r["requests"].as_object().into_iter().flatten() {
        let extended =
            k.contains('/') && !k.split('/').next().is_some_and(|d| d.ends_with("kubernetes.io"));
        if !extended && !k.starts_with("hugepages-") {
            continue;
        }
        let limit = &r["limits"][k.as_str()];
        if limit.is_null() {
            let why = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(format!("{at}.limits"), why));
        } else if number(limit) != number(request) {
            let why =
                format!("must be equal to {k} limit of {}", limit.as_str().unwrap_or_default());
            errors.push(FieldError::invalid(format!("{at}.requests"), request, &why));
        }
    }
}

fn ids(v: &Value, at: &str, fields: &[&str], errors: &mut Errors) {
    for f in fields {
        if v[*f].as_i64().is_some_and(|n| !(0..=i64::from(i32::MAX)).contains(&n)) {
            errors.push(FieldError::invalid(format!("{at}.{f}"), &v[*f], ID));
        }
    }
}

/// The security context of a container.
pub(crate) fn container_security(c: &Value, at: &str, errors: &mut Errors) {
    let s = &c["securityContext"];
    let at = format!("{at}.securityContext");
    ids(s, &at, &["runAsUser", "runAsGroup"], errors);
    one_of(s, "procMount", &at, &["Default", "Unmasked"], errors);
    seccomp(s, &at, errors);
    if s["allowPrivilegeEscalation"] == false && s["privileged"] == true {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(at.as_str(), s, why));
    }
    let added = s["capabilities"]["add"].as_array();
    if s["allowPrivilegeEscalation"] == false
        && added.is_some_and(|a| a.contains(&json!("CAP_SYS_ADMIN")))
    {
        let why =
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.push(FieldError::invalid(at.as_str(), s, why));
    }
    pod_systems::windows_options(s, &at, errors);
    app_armor(s, &at, errors);
}

/// The security context of a pod.
pub(crate) fn pod_security(spec: &Value, at: &str, errors: &mut Errors) {
    let s = &spec["securityContext"];
    let at = format!("{at}.securityContext");
    ids(s, &at, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    if spec["hostPID"] == true && spec["shareProcessNamespace"] == true {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(format!("{at}.shareProcessNamespace"), &json!(true), why));
    }
    for (i, g) in each(s, "supplementalGroups") {
        if g.as_i64().is_some_and(|n| !(0..=i64::from(i32::MAX)).contains(&n)) {
            errors.push(FieldError::invalid(format!("{at}.supplementalGroups[{i}]"), g, ID));
        }
    }
    let sysctl = |name: &str| {
        let part = |p: &str| {
            let b = p.as_bytes();
            let plain = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
            !b.is_empty()
                && plain(&b[0])
                && plain(&b[b.len() - 1])
                && b.iter().all(|c| plain(c) || b"-_".contains(c))
        };
        name.len() <= 253 && name.split(['.', '/']).all(part)
    };
    let mut seen = Vec::new();
    for (i, c) in each(s, "sysctls") {
        let at = format!("{at}.sysctls[{i}].name");
        match text(c, "name") {
            "" => errors.push(FieldError::required(at, "")),
            name if seen.contains(&name) => errors.push(FieldError::duplicate(at, &c["name"])),
            name if sysctl(name) => seen.push(name),
            _ => {
                let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
                errors.push(FieldError::invalid(at, &c["name"], why));
            }
        }
    }
    one_of(s, "fsGroupChangePolicy", &at, &["Always", "OnRootMismatch"], errors);
    seccomp(s, &at, errors);
    pod_systems::windows_options(s, &at, errors);
    app_armor(s, &at, errors);
    one_of(s, "supplementalGroupsPolicy", &at, &["Merge", "Strict"], errors);
    // The other way needs a feature that is off unless it is asked for.
    one_of(s, "seLinuxChangePolicy", &at, &["Recursive"], errors);
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Which calls of the kernel a container may make.
fn seccomp(s: &Value, at: &str, errors: &mut Errors) {
    let profile = &s["seccompProfile"];
    if !profile.is_object() {
        return;
    }
    let at = format!("{at}.seccompProfile");
    if text(profile, "type").is_empty() {
        let why = "type is required when seccompProfile is set";
        errors.push(FieldError::required(format!("{at}.type"), why));
    } else {
        one_of(profile, "type", &at, &PROFILES, errors);
    }
    let file = format!("{at}.localhostProfile");
    match (text(profile, "type"), text(profile, "localhostProfile")) {
        ("Localhost", "") => {
            let why = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(file, why));
        }
        ("Localhost", _) => {
            pod_volumes::descending(&profile["localhostProfile"], &file, errors);
        }
        (_, "") => {}
        (kind, _) => {
            let why = "can only be set when seccomp type is Localhost";
            let shown = format!(
                "core.SeccompProfile{{Type:{kind:?}, LocalhostProfile:(*string)(0xc000000000)}}"
            );
            errors.push(FieldError::invalid_shown(file, &shown, why));
        }
    }
}

/// What of the system AppArmor lets a container reach.
fn app_armor(s: &Value, at: &str, errors: &mut Errors) {
    let profile = &s["appArmorProfile"];
    if !profile.is_object() {
        return;
    }
    let at = format!("{at}.appArmorProfile");
    let file = format!("{at}.localhostProfile");
    let said = &profile["localhostProfile"];
    match text(profile, "type") {
        "" => {
            let why = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(format!("{at}.type"), why));
        }
        "Localhost" => {
            let path = said.as_str().unwrap_or_default();
            if path.trim() != path {
                let why = "must not be padded with whitespace";
                errors.push(FieldError::invalid(file, said, why));
            } else if path.is_empty() {
                let why = "must be set when AppArmor type is Localhost";
                errors.push(FieldError::required(file, why));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if !said.is_null() {
                let why = "can only be set when AppArmor type is Localhost";
                errors.push(FieldError::invalid(file, said, why));
            }
        }
        _ => one_of(profile, "type", &at, &PROFILES, errors),
    }
}

/// The key of a label, or a name of the same form.
pub(super) fn key(v: &Value, at: String, errors: &mut Errors) {
    let key = v.as_str().unwrap_or_default();
    for e in names::label_key_faults(key) {
        errors.push(FieldError::invalid(at.clone(), &json!(key), &e));
    }
}

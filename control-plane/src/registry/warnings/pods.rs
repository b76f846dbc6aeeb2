//! What is told of a pod, or of a template of pods.
//!
//! Owns: these warnings, in the order in which Kubernetes gives them. Called by: its parent.

use std::collections::HashMap;

use serde_json::Value;

use super::{claim, each, fraction, node_terms, old_label, old_volumes};
use crate::registry::meta;

/// A name becomes a host's, which has no dots and at most 63 characters.
pub(super) fn name(new: &Value, old: Option<&Value>, of: &str, told: &mut Vec<String>) {
    const LABEL: usize = 63;
    if old.is_some() {
        return;
    }
    let name = meta::name(new);
    let mut why = Vec::new();
    if name.len() > LABEL {
        why.push(format!("must be no more than {LABEL} characters"));
    }
    if name.contains('.') {
        why.push("must not contain dots".to_owned());
    }
    if !why.is_empty() {
        told.push(format!(
            "metadata.name: this is used in {of}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            why.join(" ")
        ));
    }
}

/// A pod, or a template at a place.
pub(super) fn pod(pod: &Value, at: &str, told: &mut Vec<String>) {
    let spec = &pod["spec"];
    let path = format!("{at}spec");
    places(spec, &path, told);
    annotations(pod, at, told);
    for (i, v) in each(spec, "volumes") {
        let at = format!("{path}.volumes[{i}]");
        old_volumes(v, &at, told);
        let template = &v["ephemeral"]["volumeClaimTemplate"];
        claim(&template["spec"], &format!("{at}.ephemeral.volumeClaimTemplate.spec"), told);
    }
    overlaps(spec, told);
    twice(spec, &path, "hostAliases", "ip", told);
    twice(spec, &path, "imagePullSecrets", "name", told);
    let all = ["initContainers", "containers"];
    let containers: Vec<(String, &str, &Value)> = all
        .into_iter()
        .flat_map(|f| each(spec, f).map(move |(i, c)| (f, i, c)))
        .map(|(f, i, c)| (format!("{path}.{f}[{i}]"), f, c))
        .collect();
    for (at, _, c) in &containers {
        container(c, at, told);
    }
    ports(&containers, told);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        told.push(format!("{path}.terminationGracePeriodSeconds: {why}"));
    }
    neighbours(spec, &path, told);
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_POD: &str = "a null labelSelector results in matching no pod";

/// Which nodes are asked for.
fn places(spec: &Value, at: &str, told: &mut Vec<String>) {
    for key in spec["nodeSelector"].as_object().into_iter().flatten().map(|(k, _)| k) {
        if let Some(why) = old_label(&key.as_str().into()) {
            told.push(format!("{at}.nodeSelector[{key}]: {why}"));
        }
    }
    let node = &spec["affinity"]["nodeAffinity"];
    let node_at = format!("{at}.affinity.nodeAffinity");
    for (i, term) in each(&node[REQUIRED], "nodeSelectorTerms") {
        node_terms(term, &format!("{node_at}.{REQUIRED}.nodeSelectorTerms[{i}]"), told);
    }
    for (i, p) in each(node, PREFERRED) {
        node_terms(&p["preference"], &format!("{node_at}.{PREFERRED}[{i}].preference"), told);
    }
    for (i, c) in each(spec, "topologySpreadConstraints") {
        let at = format!("{at}.topologySpreadConstraints[{i}]");
        if let Some(why) = old_label(&c["topologyKey"]) {
            let key = c["topologyKey"].as_str().unwrap_or_default();
            told.push(format!("{at}.topologyKey: {key} is {why}"));
        }
        if c["labelSelector"].is_null() {
            told.push(format!("{at}.labelSelector: {NO_POD}"));
        }
    }
}

/// Which pods are to be near, or not.
fn neighbours(spec: &Value, at: &str, told: &mut Vec<String>) {
    for field in ["podAffinity", "podAntiAffinity"] {
        let (v, at) = (&spec["affinity"][field], format!("{at}.affinity.{field}"));
        for (i, _) in each(v, REQUIRED).filter(|(_, t)| t["labelSelector"].is_null()) {
            told.push(format!("{at}.{REQUIRED}[{i}].labelSelector: {NO_POD}"));
        }
        let preferred = each(v, PREFERRED);
        for (i, _) in preferred.filter(|(_, t)| t["podAffinityTerm"]["labelSelector"].is_null()) {
            let at = format!("{at}.{PREFERRED}[{i}].podAffinityTerm");
            told.push(format!("{at}.labelSelector: {NO_POD}"));
        }
    }
}

/// Annotations that have become fields.
fn annotations(pod: &Value, at: &str, told: &mut Vec<String>) {
    const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    for key in pod["metadata"]["annotations"].as_object().into_iter().flatten().map(|(k, _)| k) {
        let (since, field) = match key.as_str() {
            "scheduler.alpha.kubernetes.io/critical-pod" => {
                ("non-functional in v1.16+", "priorityClassName")
            }
            "seccomp.security.alpha.kubernetes.io/pod" => {
                ("non-functional in v1.27+", "seccompProfile")
            }
            "security.alpha.kubernetes.io/sysctls"
            | "security.alpha.kubernetes.io/unsafe-sysctls" => {
                ("non-functional in v1.11+", "sysctls")
            }
            k if k.starts_with(APP_ARMOR) && !has_profile(pod, &k[APP_ARMOR.len()..]) => {
                ("deprecated since v1.30", "appArmorProfile")
            }
            k if k.starts_with("container.seccomp.security.alpha.kubernetes.io/") => {
                ("non-functional in v1.27+", "seccompProfile")
            }
            _ => continue,
        };
        told.push(format!(
            "{at}metadata.annotations[{key}]: {since}; use the \"{field}\" field instead"
        ));
    }
}

/// Whether a container says its profile in the field.
fn has_profile(pod: &Value, name: &str) -> bool {
    let all = ["containers", "initContainers"];
    let mut all = all.into_iter().flat_map(|f| each(&pod["spec"], f));
    all.any(|(_, c)| c["name"] == name && c["securityContext"]["appArmorProfile"].is_object())
}

/// Members of a list that are the same, or have no name.
fn twice(spec: &Value, at: &str, list: &str, key: &str, told: &mut Vec<String>) {
    let mut seen = Vec::new();
    for (i, v) in each(spec, list) {
        let said = v[key].as_str().unwrap_or_default();
        let at = format!("{at}.{list}[{i}].{key}");
        if said.is_empty() {
            told.push(format!("{at}: invalid empty {key} \"\""));
        } else if seen.contains(&said) {
            told.push(format!("{at}: duplicate {key} \"{said}\""));
        }
        seen.push(said);
    }
}

fn container(c: &Value, at: &str, told: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for side in ["limits", "requests"] {
            fraction(&c["resources"][side][name], &format!("{at}.resources.{side}[{name}]"), told);
        }
    }
    let mut seen = Vec::new();
    for (i, e) in each(c, "env") {
        let name = e["name"].as_str().unwrap_or_default();
        // Who builds on the earlier value means to replace it.
        let built_on = e["value"].as_str().is_some_and(|v| v.contains(&format!("$({name})")));
        if seen.contains(&name) && !built_on {
            let why = format!("hides previous definition of \"{name}\"");
            told.push(format!("{at}.env[{i}]: {why}, which may be dropped when using apply"));
        }
        seen.push(name);
    }
}

/// Ports that stand in one another's way.
fn ports(containers: &[(String, &str, &Value)], told: &mut Vec<String>) {
    let mut seen: HashMap<(i64, &str), Vec<(String, &Value)>> = HashMap::new();
    let mut named: HashMap<&str, (String, &str)> = HashMap::new();
    for (at, field, c) in containers {
        let serves = *field == "containers" || c["restartPolicy"] == "Always";
        for (i, p) in each(c, "ports") {
            let at = format!("{at}.ports[{i}]");
            let protocol = p["protocol"].as_str().unwrap_or("TCP");
            let number = p["containerPort"].as_i64().unwrap_or_default();
            let others = seen.entry((number, protocol)).or_default();
            told.extend(others.iter().find_map(|(other, o)| {
                clash(p, o).map(|how| format!("{at}: {how} port definition with {other}"))
            }));
            others.push((at.clone(), p));
            let name = p["name"].as_str().unwrap_or_default();
            if !serves || name.is_empty() {
                continue;
            }
            match named.get(name) {
                // Within one list this is refused.
                Some((other, of)) if of != field => told.push(format!(
                    "{at}: duplicate port name \"{name}\" with {other}, services and probes that select ports by name will use {other}"
                )),
                Some(_) => {}
                None => {
                    named.insert(name, (at, *field));
                }
            }
        }
    }
}

/// How two definitions of one port are to each other.
fn clash(a: &Value, b: &Value) -> Option<&'static str> {
    let host = |p: &Value| {
        let ip = p["hostIP"].as_str().unwrap_or_default().to_owned();
        (p["hostPort"].as_i64().unwrap_or_default(), ip)
    };
    let ((port_a, ip_a), (port_b, ip_b)) = (host(a), host(b));
    if port_a == port_b && ip_a == ip_b {
        Some("duplicate")
    } else if port_a == 0 || port_b == 0 {
        Some("overlapping")
    } else if port_a == port_b && (ip_a.is_empty() || ip_b.is_empty()) {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

/// Files of a volume that are put into one place.
fn overlaps(spec: &Value, told: &mut Vec<String>) {
    for (_, v) in each(spec, "volumes") {
        let name = v["name"].as_str().unwrap_or_default();
        let whole = [
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ];
        for (field, kind, called) in whole {
            let of = v[field][called].as_str().map(|s| format!(" \"{s}\"")).unwrap_or_default();
            let paths = each(&v[field], "items").map(|(_, i)| (path(i), String::new())).collect();
            overlapping(paths, &format!("volume \"{name}\" ({kind}{of})"), told);
        }
        let mut paths = Vec::new();
        for (_, source) in each(&v["projected"], "sources") {
            for (field, kind) in
                [("secret", "Secret"), ("configMap", "ConfigMap"), ("downwardAPI", "DownwardAPI")]
            {
                let named = source[field]["name"].as_str().map(|s| format!(" \"{s}\""));
                let of = format!(" ({kind}{})", named.unwrap_or_default());
                paths.extend(each(&source[field], "items").map(|(_, i)| (path(i), of.clone())));
            }
            let token = &source["serviceAccountToken"];
            if token.is_object() {
                paths.push((path(token), " (ServiceAccountToken)".to_owned()));
            }
        }
        overlapping(paths, &format!("volume \"{name}\" (Projected)"), told);
    }
}

fn path(item: &Value) -> &str {
    item["path"].as_str().unwrap_or_default().trim_end_matches('/')
}

fn overlapping(paths: Vec<(&str, String)>, at: &str, told: &mut Vec<String>) {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    for (i, (new, of_new)) in paths.iter().enumerate() {
        for (old, of_old) in &paths[..i] {
            if within(new, old) || within(old, new) {
                told.push(format!(
                    "{at}: overlapping paths: \"{new}\"{of_new} with \"{old}\"{of_old}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(spec: Value) -> Vec<String> {
        let mut told = Vec::new();
        pod(&json!({"spec": spec}), "", &mut told);
        told
    }

    // "The environment variables ... the last one wins", and the ports that a container exposes:
    // https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
    #[test]
    fn a_variable_or_a_port_that_stands_twice_is_told() {
        let env = |second: &str| json!({"containers": [{"env": [{"name": "A", "value": "1"}, {"name": "A", "value": second}]}]});
        let hides = "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply";
        assert_eq!(told(env("2")), [hides]);
        assert_eq!(told(env("$(A):2")), [""; 0]);
        let ports =
            |a: Value, b: Value| told(json!({"containers": [{"ports": [a]}, {"ports": [b]}]}));
        let port = |n: i64, host: i64, ip: &str| json!({"containerPort": n, "hostPort": host, "hostIP": ip});
        let with = "port definition with spec.containers[0].ports[0]";
        for (a, b, how) in [
            (port(80, 0, ""), port(80, 0, ""), "duplicate"),
            (port(80, 8080, ""), port(80, 0, ""), "overlapping"),
            (port(80, 8080, "10.0.0.1"), port(80, 8080, ""), "dangerously ambiguous"),
        ] {
            assert_eq!(ports(a, b), [format!("spec.containers[1].ports[0]: {how} {with}")]);
        }
        assert_eq!(ports(port(80, 8080, ""), port(80, 8081, "")), [""; 0]);
        assert_eq!(
            ports(json!({"containerPort": 53, "protocol": "UDP"}), port(53, 0, "")),
            [""; 0]
        );
    }

    // https://kubernetes.io/docs/reference/labels-annotations-taints/ names the deprecated ones.
    #[test]
    fn labels_and_volumes_that_are_going_are_told_with_what_to_use_instead() {
        let old = "failure-domain.beta.kubernetes.io/zone";
        assert_eq!(
            told(json!({"nodeSelector": {old: "x"}})),
            [format!(
                "spec.nodeSelector[{old}]: deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
            )]
        );
        assert_eq!(
            told(json!({"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}]})),
            ["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"]
        );
        let item = |p: &str| json!({"key": "k", "path": p});
        assert_eq!(
            told(
                json!({"volumes": [{"name": "v", "configMap": {"name": "m", "items": [item("a"), item("ab"), item("a/b")]}}]})
            ),
            ["volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a/b\" with \"a\""]
        );
    }

    #[test]
    fn what_selects_no_pod_or_has_no_name_is_told() {
        let spread = json!({"topologySpreadConstraints": [{"topologyKey": "a"}, {"topologyKey": "b", "labelSelector": {}}],
            "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}], "terminationGracePeriodSeconds": -1});
        assert_eq!(
            told(spread),
            [
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ]
        );
    }
}

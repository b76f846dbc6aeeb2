//! Checks of the smaller kinds: values out of a list, addresses, ports.
//!
//! Owns: what Kubernetes refuses in services, claims, volumes and the like. Called by: the kinds'
//! own validation.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/>

use std::net::IpAddr;

use serde_json::{Value, json};

use super::decode::json_type;
use super::endpoints::reachable;
use super::pod_fields::port_name;
use super::quantity::Quantity;
use super::{meta, names};
use crate::http::json::in_gos_words;
use crate::http::status::FieldError;

type Errors = Vec<FieldError>;

const PORT: &str = "must be between 1 and 65535, inclusive";
const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const LOOPBACK: &str = "may not be in the loopback range (127.0.0.0/8, ::1/128)";

fn each<'a>(v: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    v[field].as_array().into_iter().flatten().enumerate()
}

/// A value that has to be one of some, if it is there.
pub(crate) fn one_of(v: &Value, at: &str, known: &[&str], errors: &mut Errors) {
    if !v.is_null() && !v.as_str().is_some_and(|s| known.contains(&s)) {
        errors.push(FieldError::unsupported(at, v, known));
    }
}

/// A number that must not be below zero.
pub(crate) fn not_negative(spec: &Value, at: &str, fields: &[&str], errors: &mut Errors) {
    for f in fields {
        if spec[*f].as_i64().is_some_and(|n| n < 0) {
            let why = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(format!("{at}.{f}"), &spec[*f], why));
        }
    }
}

/// A label selector, as far as it is one by itself.
pub(crate) fn label_selector(selector: &Value, at: &str, errors: &mut Errors) {
    meta::validate_labels(selector.get("matchLabels"), &format!("{at}.matchLabels"), errors);
    for (i, e) in each(selector, "matchExpressions") {
        let at = format!("{at}.matchExpressions[{i}]");
        let values = e["values"].as_array().map_or(&[][..], Vec::as_slice);
        match e["operator"].as_str().unwrap_or_default() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{at}.values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{at}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(format!("{at}.operator"), &json!(other), why));
            }
        }
        let key = e["key"].as_str().unwrap_or_default();
        for e in names::label_key_faults(key) {
            errors.push(FieldError::invalid(format!("{at}.key"), &json!(key), &e));
        }
        for (k, v) in values.iter().enumerate() {
            if let Err(e) = names::label_value(v.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("{at}.values[{k}]"), v, &e));
            }
        }
    }
}

/// The number of a revision.
pub(crate) fn revision(new: &Value, errors: &mut Errors) {
    if new["revision"].as_i64().is_some_and(|n| n < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("revision", &new["revision"], why));
    }
}

/// An address that others can reach.
fn address(v: &Value, at: &str, errors: &mut Errors) {
    match v.as_str().unwrap_or_default().parse::<IpAddr>() {
        Err(_) => errors.push(FieldError::invalid(at, v, IP)),
        Ok(ip) if ip.is_loopback() => errors.push(FieldError::invalid(at, v, LOOPBACK)),
        Ok(ip) => reachable(ip, v, at, errors),
    }
}

/// Whether a text is an address with the length of its network.
fn is_network(v: &Value) -> bool {
    let Some((address, bits)) = v.as_str().and_then(|s| s.trim().split_once('/')) else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|b| b <= most)
}

/// Where a port of a service leads, and what is spoken there.
pub(crate) fn service_port(p: &Value, path: &str, errors: &mut Errors) {
    let at = format!("{path}.targetPort");
    match &p["targetPort"] {
        Value::String(name) => {
            let why = port_name(name);
            errors.extend(why.iter().map(|e| FieldError::invalid(at.clone(), &p["targetPort"], e)));
        }
        Value::Null => {}
        n if n.as_i64().is_some_and(|n| (1..=65535).contains(&n)) => {}
        n => errors.push(FieldError::invalid(at, n, PORT)),
    }
    let protocol = p["appProtocol"].as_str().unwrap_or_default();
    if !protocol.is_empty()
        && let Err(e) = names::label_key(protocol)
    {
        errors.push(FieldError::invalid(format!("{path}.appProtocol"), &p["appProtocol"], &e));
    }
}

/// The addresses that a load balancer has been given.
pub(crate) fn load_balancer(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let at = "status.loadBalancer.ingress";
    let balancer = &new["status"]["loadBalancer"];
    let given = balancer["ingress"].as_array().map_or(&[][..], Vec::as_slice);
    if new["spec"]["type"] != "LoadBalancer"
        && !given.is_empty()
        && old.is_none_or(|o| o["status"]["loadBalancer"] != *balancer)
    {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        return errors.push(FieldError::forbidden(at, why));
    }
    for (i, to) in given.iter().enumerate() {
        let ip = to["ip"].as_str().unwrap_or_default();
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            errors.push(FieldError::invalid(format!("{at}[{i}].ip"), &to["ip"], IP));
        }
        let mode = format!("{at}[{i}].ipMode");
        if ip.is_empty() && !to["ipMode"].is_null() {
            let why = "may not be specified when `ip` is not set";
            errors.push(FieldError::forbidden(mode, why));
        } else {
            one_of(&to["ipMode"], &mode, &["Proxy", "VIP"], errors);
        }
        let name = to["hostname"].as_str().unwrap_or_default();
        if !name.is_empty()
            && let Err(e) = names::dns_subdomain(name)
        {
            errors.push(FieldError::invalid(format!("{at}[{i}].hostname"), &to["hostname"], &e));
        }
    }
}

/// What a service says beyond its type, ports and selector.
pub(crate) fn service(spec: &Value, errors: &mut Errors) {
    let kind = spec["type"].as_str().unwrap_or_default();
    for (i, v) in each(spec, "externalIPs") {
        address(v, &format!("spec.externalIPs[{i}]"), errors);
    }
    for (i, p) in each(spec, "ports") {
        if kind == "ClusterIP" && p["nodePort"].as_i64().is_some_and(|n| n != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(format!("spec.ports[{i}].nodePort"), why));
        }
    }
    let timeout = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if timeout.as_i64().is_some_and(|n| !(1..=86400).contains(&n)) {
        let at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        let why = "must be greater than 0 and less than 86400";
        errors.push(FieldError::invalid(at, timeout, why));
    }
    one_of(
        &spec["internalTrafficPolicy"],
        "spec.internalTrafficPolicy",
        &["Cluster", "Local"],
        errors,
    );
    let outside = matches!(kind, "NodePort" | "LoadBalancer")
        || spec["externalIPs"].as_array().is_some_and(|a| !a.is_empty());
    let policy = &spec["externalTrafficPolicy"];
    if outside {
        one_of(policy, "spec.externalTrafficPolicy", &["Cluster", "Local"], errors);
    } else if policy.as_str().is_some_and(|p| !p.is_empty()) {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", policy, why));
    }
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if !spec[field].is_null() {
                let why = "may only be used when `type` is 'LoadBalancer'";
                errors.push(FieldError::forbidden(format!("spec.{field}"), why));
            }
        }
    }
    if let Some(class) = spec["loadBalancerClass"].as_str().filter(|_| kind == "LoadBalancer")
        && let Err(e) = names::label_key(class)
    {
        errors.push(FieldError::invalid("spec.loadBalancerClass", &json!(class), &e));
    }
    let ranges = spec["loadBalancerSourceRanges"].as_array().map_or(&[][..], Vec::as_slice);
    if kind != "LoadBalancer" && !ranges.is_empty() {
        let why = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", why));
    }
    for (i, range) in ranges.iter().enumerate().filter(|(_, r)| !is_network(r)) {
        let at = format!("spec.LoadBalancerSourceRanges[{i}]");
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(at, range, why));
    }
    for (i, family) in each(spec, "ipFamilies") {
        let at = format!("spec.ipFamilies[{i}]");
        one_of(family, &at, &["IPv4", "IPv6"], errors);
        if each(spec, "ipFamilies").take(i).any(|(_, f)| f == family) {
            errors.push(FieldError::duplicate(at, family));
        }
    }
    let near = &spec["trafficDistribution"];
    // Newer releases know two more.
    if !matches!(near.as_str(), Some("PreferSameZone" | "PreferSameNode")) {
        one_of(near, "spec.trafficDistribution", &["PreferClose"], errors);
    }
    if kind == "NodePort" && spec["clusterIP"] == "None" {
        let why = "may not be set to 'None' for NodePort services";
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &spec["clusterIP"], why));
    }
    let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of(&spec["ipFamilyPolicy"], "spec.ipFamilyPolicy", &known, errors);
    if let Some(ip) = spec["clusterIP"].as_str().filter(|s| !s.is_empty() && *s != "None")
        && ip.parse::<IpAddr>().is_err()
    {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &spec["clusterIP"], IP));
    }
    let name = spec["externalName"].as_str().unwrap_or_default();
    if kind == "ExternalName"
        && !name.is_empty()
        && let Err(e) = names::dns_subdomain(name.trim_end_matches('.'))
    {
        errors.push(FieldError::invalid("spec.externalName", &spec["externalName"], &e));
    }
}

/// What a secret of a known type must have in it.
pub(crate) fn secret(new: &Value, errors: &mut Errors) {
    use base64::Engine as _;
    let data = &new["data"];
    match new["type"].as_str().unwrap_or_default() {
        "kubernetes.io/ssh-auth" if data["ssh-privatekey"] == "" => {
            errors.push(FieldError::required("data[ssh-privatekey]", ""));
        }
        "kubernetes.io/basic-auth" if data["username"].is_null() && data["password"].is_null() => {
            for k in ["username", "password"] {
                errors.push(FieldError::required(format!("data[{k}]"), ""));
            }
        }
        kind @ ("kubernetes.io/dockerconfigjson" | "kubernetes.io/dockercfg") => {
            let key = if kind.ends_with("json") { ".dockerconfigjson" } else { ".dockercfg" };
            let Some(text) = data[key].as_str() else { return };
            let raw = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
            let why = match serde_json::from_slice::<Value>(&raw) {
                Ok(Value::Object(_) | Value::Null) => return,
                Ok(other) => format!(
                    "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                    json_type(&other)
                ),
                Err(e) => in_gos_words(&e, &raw),
            };
            errors.push(FieldError::invalid(
                format!("data[{key}]"),
                &json!("<secret contents redacted>"),
                &why,
            ));
        }
        _ => {}
    }
}

/// What a node has: nothing of it is below zero, and what is counted is whole.
pub(crate) fn node_resources(status: &Value, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        for (name, amount) in status[field].as_object().into_iter().flatten() {
            let at = format!("status.{field}.{name}");
            let text = amount.as_str().unwrap_or_default();
            let Some(q) = Quantity::parse(text) else { continue };
            if q.is_negative() {
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(at.as_str(), amount, why));
            }
            if !q.is_whole() && is_counted(name) {
                let shown = Quantity::shown(text);
                errors.push(FieldError::invalid_shown(at, &shown, "must be an integer"));
            }
        }
    }
}

/// Whether there is only a whole number of a resource.
pub(crate) fn is_counted(name: &str) -> bool {
    let own = name.contains("kubernetes.io/") || name.starts_with("requests.");
    name == "pods" || (name.contains('/') && !own)
}

/// The taints and networks of a node.
pub(crate) fn node(new: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, t) in each(&new["spec"], "taints") {
        let id = (&t["key"], &t["effect"]);
        if seen.contains(&id) {
            let e = FieldError::duplicate(format!("metadata.taints[{i}]"), t);
            let of = |f: &str| t[f].as_str().unwrap_or_default();
            let shown = format!(
                "core.Taint{{Key:{:?}, Value:{:?}, Effect:{:?}, TimeAdded:{}}}",
                of("key"),
                of("value"),
                of("effect"),
                t["timeAdded"].as_str().unwrap_or("<nil>")
            );
            let why = "taints must be unique by key and effect pair";
            let message = format!("Duplicate value: {shown}: {why}");
            errors.push(FieldError { message, ..e });
        }
        seen.push(id);
        if let Err(e) = names::label_value(t["value"].as_str().unwrap_or_default()) {
            let at = format!("metadata.taints[{i}].value");
            errors.push(FieldError::invalid(at, &t["value"], &e));
        }
    }
    for (i, v) in each(&new["spec"], "podCIDRs") {
        let range = v.as_str().and_then(|s| s.split_once('/'));
        let good = range.is_some_and(|(ip, bits)| {
            let most = match ip.parse() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|b| b <= most)
        });
        if !good {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(format!("spec.podCIDRs[{i}]"), v, why));
        }
    }
    let ranges = &new["spec"]["podCIDRs"];
    let of_six = |v: &Value| v.as_str().is_some_and(|s| s.contains(':'));
    let (six, four): (Vec<&Value>, Vec<&Value>) =
        ranges.as_array().into_iter().flatten().partition(|v| of_six(v));
    if six.len() > 1 || four.len() > 1 {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid("spec.podCIDRs", ranges, why));
    }
    let mut addresses = Vec::new();
    for (i, a) in each(&new["status"], "addresses") {
        if addresses.contains(&a) {
            let of = |f: &str| a[f].as_str().unwrap_or_default();
            let e = FieldError::duplicate(format!("status.addresses[{i}]"), a);
            let shown =
                format!("core.NodeAddress{{Type:{:?}, Address:{:?}}}", of("type"), of("address"));
            errors.push(FieldError { message: format!("Duplicate value: {shown}"), ..e });
        }
        addresses.push(a);
    }
}

/// Whom a binding names, beyond a name.
pub(crate) fn subject(s: &Value, at: &str, namespace: &str, errors: &mut Errors) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let text = |f: &str| s[f].as_str().unwrap_or_default();
    let known = match text("kind") {
        "ServiceAccount" => "",
        "User" | "Group" => RBAC,
        kind => {
            let known = ["ServiceAccount", "User", "Group"];
            return errors.push(FieldError::unsupported(
                format!("{at}.kind"),
                &json!(kind),
                &known,
            ));
        }
    };
    let account = known.is_empty();
    if account
        && !text("name").is_empty()
        && let Err(e) = names::dns_subdomain(text("name"))
    {
        errors.push(FieldError::invalid(format!("{at}.name"), &s["name"], &e));
    }
    if text("apiGroup") != known {
        let group = json!(text("apiGroup"));
        errors.push(FieldError::unsupported(format!("{at}.apiGroup"), &group, &[known]));
    }
    if account && namespace.is_empty() && text("namespace").is_empty() {
        errors.push(FieldError::required(format!("{at}.namespace"), ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: fn(&Value, &mut Errors), v: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(v, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn told(group: &str, plural: &str, object: &Value) -> Vec<String> {
        let resource = crate::registry::Registry::new().builtin(group, plural);
        let mut errors = Vec::new();
        (resource.strategy.validate)(object, None, crate::registry::Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // The words are those of a kube-apiserver 1.33.
    #[test]
    fn taints_have_a_key_an_effect_that_there_is_and_stand_once() {
        let taints = |t: Value| {
            told("", "nodes", &json!({"metadata": {"name": "n"}, "spec": {"taints": t}}))
        };
        assert_eq!(taints(json!([{"key": "a", "effect": "NoExecute"}])), Vec::<String>::new());
        assert_eq!(
            taints(json!([{"key": "a", "effect": ""}])),
            ["metadata.taints[0].effect: Required value"]
        );
        assert_eq!(
            taints(json!([{"key": "a", "effect": "Foo"}])),
            [
                "metadata.taints[0].effect: Unsupported value: \"Foo\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
            ]
        );
        let found = taints(json!([{"key": "a b", "value": "c d", "effect": "NoSchedule"}]));
        assert!(
            found[0].starts_with("metadata.taints[0].key: Invalid value: \"a b\": "),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("metadata.taints[0].value: Invalid value: \"c d\": "),
            "{found:?}"
        );
        assert_eq!(
            taints(
                json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "value": "x", "effect": "NoSchedule"}])
            ),
            [
                "metadata.taints[1]: Duplicate value: core.Taint{Key:\"a\", Value:\"x\", Effect:\"NoSchedule\", TimeAdded:<nil>}: taints must be unique by key and effect pair"
            ]
        );
    }

    #[test]
    fn a_controller_revision_has_data_and_a_number_that_is_not_below_zero() {
        let revision = |v: Value| told("apps", "controllerrevisions", &v);
        assert_eq!(revision(json!({"revision": 1, "data": {"a": 1}})), Vec::<String>::new());
        assert_eq!(
            revision(json!({"revision": -1, "data": {}})),
            ["revision: Invalid value: -1: must be greater than or equal to 0"]
        );
        assert_eq!(revision(json!({"revision": 1})), ["data: Required value: data is mandatory"]);
    }

    // The fields are those of the reference named above; the words those of a kube-apiserver 1.33.
    #[test]
    fn services_have_ports_and_addresses_that_can_be() {
        let service = |field: &str, v: Value| {
            let mut spec = json!({"type": "ClusterIP", "ports": [{"port": 80}]});
            spec[field] = v;
            let all = |spec: &Value, errors: &mut Errors| {
                service(spec, errors);
                for (i, p) in each(spec, "ports") {
                    service_port(p, &format!("spec.ports[{i}]"), errors);
                }
            };
            found(all, &spec)
        };
        for (field, value, expected) in [
            (
                "externalIPs",
                json!(["x"]),
                "externalIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                "externalIPs",
                json!(["127.0.0.1"]),
                "externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                "ports",
                json!([{"port": 80, "targetPort": 0}]),
                "ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                "ports",
                json!([{"port": 80, "nodePort": 30000}]),
                "ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ),
            (
                "internalTrafficPolicy",
                json!("Foo"),
                "internalTrafficPolicy: Unsupported value: \"Foo\": supported values: \"Cluster\", \"Local\"",
            ),
            (
                "clusterIP",
                json!("foo"),
                "clusterIPs[0]: Invalid value: \"foo\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        ] {
            assert_eq!(service(field, value), [format!("spec.{expected}")]);
        }
        assert!(service("clusterIP", json!("None")).is_empty());
    }
}

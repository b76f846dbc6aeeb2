//! Services: how one is written, and what of it goes with its type.
//!
//! Owns: the service's row of the table. Called by: the registry's table.
//! Never: gives addresses and ports; that is `http::services`' part.

use serde_json::{Map, Value, json};

use super::core::{BASE, default, default_text, list, object, split_status};
use super::{Part, Strategy, checks, columns, meta, names};
use crate::http::status::FieldError;

pub(crate) static SERVICE: Strategy = Strategy {
    name: names::dns_1035_label,
    default: default_service,
    prepare: prepare_service,
    validate: validate_service,
    fields: &["spec.clusterIP", "spec.type"],
    columns: &columns::SERVICE,
    ..BASE
};

/// An empty load balancer status for a new one; what was assigned stays.
fn prepare_service(new: &mut Value, old: Option<&Value>, part: Part) {
    split_status(new, old, part);
    default(object(new, "status"), "loadBalancer", json!({}));
    if let Some(old) = old {
        // What was assigned stays unless the type gives it up.
        let spec = object(new, "spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if spec["type"] != "ExternalName"
                && spec.get(field).is_none_or(|v| v == "")
                && let Some(v) = old["spec"].get(field)
            {
                spec[field] = v.clone();
            }
        }
        drop_with_type(spec, &old["spec"]);
        keep_node_ports(spec, &old["spec"]);
    }
}

/// A field of the old type that the client left as it was goes with the type.
fn drop_with_type(spec: &mut Value, old: &Value) {
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || spec["externalIPs"].as_array().is_some_and(|a| !a.is_empty());
    let balanced = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
    let inside =
        ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"];
    let gone = balanced
        .into_iter()
        .filter(|_| kind != "LoadBalancer")
        .chain(Some("externalTrafficPolicy").filter(|_| !outside))
        .chain(inside.into_iter().filter(|_| kind == "ExternalName"));
    for field in gone {
        if !old[field].is_null()
            && spec.get(field) == old.get(field)
            && let Some(m) = spec.as_object_mut()
        {
            m.remove(field);
        }
    }
}

/// Whether nodes open ports for a service.
fn is_open(spec: &Value) -> bool {
    matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer"))
}

/// Whether nodes say on a port of their own that they have pods of a service.
fn has_health_port(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// A port that still is open on nodes stays the same there, and one that is not any more goes.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    let number = |p: &Value| p["nodePort"].as_i64().unwrap_or(0);
    let all = |spec: &Value| spec["ports"].as_array().cloned().unwrap_or_default();
    let (before, open) = (all(old), is_open(spec));
    let had = |n: i64| before.iter().any(|p| number(p) == n);
    if !has_health_port(spec)
        && spec["healthCheckNodePort"] == old["healthCheckNodePort"]
        && let Some(m) = spec.as_object_mut()
    {
        m.remove("healthCheckNodePort");
    }
    let mut used: Vec<i64> = all(spec).iter().map(number).filter(|n| had(*n)).collect();
    for p in list(spec, "ports") {
        let name = p["name"].as_str().unwrap_or_default().to_owned();
        if !open {
            if is_open(old) && had(number(p)) {
                p.as_object_mut().and_then(|m| m.remove("nodePort"));
            }
            continue;
        }
        let same = before.iter().find(|o| o["name"].as_str().unwrap_or_default() == name);
        let kept = same.map(number).filter(|n| *n != 0 && !used.contains(n));
        if let Some(n) = kept.filter(|_| number(p) == 0) {
            p["nodePort"] = n.into();
            used.push(n);
        }
    }
}

fn default_service(o: &mut Value) {
    // An address is reached directly, unless its balancer says otherwise.
    let given = o.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
    for to in given.into_iter().flatten() {
        if !to["ip"].as_str().unwrap_or_default().is_empty() {
            default(to, "ipMode", "VIP");
        }
    }
    let spec = object(o, "spec");
    default_text(spec, "sessionAffinity", "None");
    default_text(spec, "type", "ClusterIP");
    match spec["sessionAffinity"].as_str() {
        Some("ClientIP")
            if spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds").is_none() =>
        {
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
        }
        Some("None") => {
            spec.as_object_mut().and_then(|m| m.remove("sessionAffinityConfig"));
        }
        _ => {}
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    let reached = spec["externalIPs"].as_array().is_some_and(|a| !a.is_empty());
    if is_open(spec) || (kind == "ClusterIP" && reached) {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    for p in list(spec, "ports") {
        default_text(p, "protocol", "TCP");
        let port = p["port"].as_i64().map_or_else(|| json!(0), Value::from);
        if p.get("targetPort").is_none_or(|t| *t == 0 || *t == "") {
            p["targetPort"] = port;
        }
    }
}

/// What a service asks for that a network of one family does not have.
fn one_family(spec: &Value, errors: &mut Vec<FieldError>) {
    let policy = &spec["ipFamilyPolicy"];
    if policy == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
    }
    let families = spec["ipFamilies"].as_array().into_iter().flatten();
    for (i, family) in families.enumerate().filter(|(_, f)| **f == "IPv6") {
        let why = "not configured on this cluster";
        errors.push(FieldError::invalid(format!("spec.ipFamilies[{i}]"), family, why));
    }
}

fn validate_service(new: &Value, old: Option<&Value>, part: Part, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    if part == Part::Status {
        return checks::load_balancer(new, old, errors);
    }
    let kind = spec["type"].as_str().unwrap_or_default();
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        errors.push(FieldError::unsupported(
            "spec.type",
            &spec["type"],
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        ));
    }
    let headless = spec["clusterIP"] == "None";
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    for (i, p) in ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        let name = p["name"].as_str().unwrap_or_default();
        if ports.len() > 1 && name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !name.is_empty() {
            if let Err(e) = names::dns_label(name) {
                errors.push(FieldError::invalid(format!("{path}.name"), &p["name"], &e));
            }
            if ports[..i].iter().any(|o| o["name"] == name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &p["name"]));
            }
        }
        let port = p["port"].as_i64().unwrap_or(0);
        if !(1..=65535).contains(&port) {
            let why = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(format!("{path}.port"), &json!(port), why));
        }
        if !matches!(p["protocol"].as_str(), Some("TCP" | "UDP" | "SCTP")) {
            errors.push(FieldError::unsupported(
                format!("{path}.protocol"),
                &p["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
        checks::service_port(p, &path, errors);
    }
    if !matches!(spec["sessionAffinity"].as_str(), Some("None" | "ClientIP")) {
        errors.push(FieldError::unsupported(
            "spec.sessionAffinity",
            &spec["sessionAffinity"],
            &["ClientIP", "None"],
        ));
    }
    let health = &spec["healthCheckNodePort"];
    if health.as_i64().is_some_and(|n| n != 0) && !has_health_port(spec) {
        let why =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid("spec.healthCheckNodePort", health, why));
    }
    let was = old.map(|o| &o["spec"]).filter(|o| has_health_port(o) && has_health_port(spec));
    if was.is_some_and(|o| o["healthCheckNodePort"] != *health) {
        errors.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    if kind == "ExternalName" && !spec["clusterIP"].as_str().unwrap_or_default().is_empty() {
        let why = "may not be set for ExternalName services";
        errors.push(FieldError::forbidden("spec.clusterIPs", why));
    }
    if kind == "ExternalName" && spec["externalName"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    }
    meta::validate_labels(spec.get("selector"), "spec.selector", errors);
    checks::service(spec, errors);
    for (i, p) in ports.iter().enumerate() {
        if ports[..i].iter().any(|o| o["port"] == p["port"] && o["protocol"] == p["protocol"]) {
            // A port as Kubernetes shows it, but for what may differ.
            let shown = format!(
                "core.ServicePort{{Name:\"\", Protocol:{:?}, AppProtocol:(*string)(nil), Port:{}, TargetPort:intstr.IntOrString{{Type:0, IntVal:0, StrVal:\"\"}}, NodePort:0}}",
                p["protocol"].as_str().unwrap_or_default(),
                p["port"]
            );
            let e = FieldError::duplicate(format!("spec.ports[{i}]"), p);
            errors.push(FieldError { message: format!("Duplicate value: {shown}"), ..e });
        }
    }
    let before = old.map(|o| &o["spec"]).filter(|o| o["type"] == "LoadBalancer");
    if kind == "LoadBalancer"
        && before.is_some_and(|o| o["loadBalancerClass"] != spec["loadBalancerClass"])
    {
        let (at, why) = ("spec.loadBalancerClass", "may not change once set");
        errors.push(FieldError::invalid(at, &spec["loadBalancerClass"], why));
    }
    // What is right by itself may still be more than this network has: one family, IPv4.
    if errors.is_empty() && !(headless && spec["selector"].as_object().is_none_or(Map::is_empty)) {
        one_family(spec, errors);
    }
    if let Some(old) = old {
        let before = meta::text(old, "/spec/clusterIP");
        if !before.is_empty()
            && old["spec"]["type"] != "ExternalName"
            && kind != "ExternalName"
            && spec["clusterIP"] != before
        {
            errors.push(FieldError::invalid(
                "spec.clusterIPs[0]",
                &spec["clusterIPs"],
                "may not change once set",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_on_the_type_of_a_service_goes_with_it() {
        let old = json!({"spec": {"type": "NodePort", "externalTrafficPolicy": "Cluster", "clusterIP": "10.0.0.1"}});
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        prepare_service(&mut new, Some(&old), Part::Main);
        assert_eq!(new["spec"], json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"}));
    }

    #[test]
    fn a_service_gets_the_documented_defaults() {
        let mut s = json!({"spec": {"ports": [{"port": 80}]}});
        (SERVICE.default)(&mut s);
        assert_eq!(
            s["spec"],
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                "type": "ClusterIP", "internalTrafficPolicy": "Cluster"})
        );
    }

    /// What is said of a service with these fields.
    fn told(spec: Value, old: Option<&Value>) -> Vec<String> {
        let mut new = json!({"spec": {"ports": [{"port": 80}]}});
        json_patch::merge(&mut new["spec"], &spec);
        (SERVICE.default)(&mut new);
        let mut errors = Vec::new();
        validate_service(&new, old, Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // What a kube-apiserver 1.33 answered, also in this order.
    #[test]
    fn what_is_wrong_with_ports_is_told_port_by_port() {
        let port = "must be between 1 and 65535, inclusive";
        assert_eq!(
            told(json!({"ports": [{}]}), None),
            [
                format!("spec.ports[0].port: Invalid value: 0: {port}"),
                format!("spec.ports[0].targetPort: Invalid value: 0: {port}")
            ]
        );
        assert_eq!(
            told(json!({"ports": [{"port": 0}, {"port": 70000, "name": "b"}]}), None),
            [
                "spec.ports[0].name: Required value".to_owned(),
                format!("spec.ports[0].port: Invalid value: 0: {port}"),
                format!("spec.ports[0].targetPort: Invalid value: 0: {port}"),
                format!("spec.ports[1].port: Invalid value: 70000: {port}"),
                format!("spec.ports[1].targetPort: Invalid value: 70000: {port}")
            ]
        );
    }

    // The same; the network here has one family, as that of a cluster of one range of IPv4 has.
    #[test]
    fn families_and_addresses_that_the_network_does_not_have_are_refused() {
        for (spec, expected) in [
            (
                json!({"ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv4"]}),
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
            ),
            (
                json!({"externalIPs": ["0.0.0.0"]}),
                "spec.externalIPs[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
            ),
            (
                json!({"externalIPs": ["fe80::1"]}),
                "spec.externalIPs[0]: Invalid value: \"fe80::1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ),
        ] {
            assert_eq!(told(spec, None), [expected]);
        }
        // Who answers for the addresses of a service without any has what families they please.
        let own = json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]});
        assert_eq!(told(own, None), Vec::<String>::new());
    }

    // The same.
    #[test]
    fn the_class_of_a_load_balancer_is_a_name_and_stays() {
        let balancer = |class: &str| json!({"type": "LoadBalancer", "loadBalancerClass": class});
        let old = json!({"spec": {"type": "LoadBalancer"}});
        assert_eq!(
            told(balancer("a/b"), Some(&old)),
            ["spec.loadBalancerClass: Invalid value: \"a/b\": may not change once set"]
        );
        assert_eq!(told(balancer("a/b"), None), Vec::<String>::new());
        let wrong = told(balancer("Foo_"), None);
        assert!(
            wrong[0].starts_with("spec.loadBalancerClass: Invalid value: \"Foo_\": name part must"),
            "{wrong:?}"
        );
    }

    // "Session stickiness" of https://kubernetes.io/docs/reference/networking/virtual-ips/, and what a
    // kube-apiserver 1.33 did.
    #[test]
    fn a_service_without_affinity_has_no_time_for_it() {
        let mut s = json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}});
        (SERVICE.default)(&mut s);
        assert_eq!(s["spec"].get("sessionAffinityConfig"), None);
        let mut s = json!({"spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}});
        (SERVICE.default)(&mut s);
        assert_eq!(s["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn only_a_load_balancer_has_addresses_in_its_status() {
        let told = |kind: &str, ingress: Value| {
            let new =
                json!({"spec": {"type": kind}, "status": {"loadBalancer": {"ingress": ingress}}});
            let old = json!({"spec": {"type": kind}, "status": {"loadBalancer": {}}});
            let mut errors = Vec::new();
            validate_service(&new, Some(&old), Part::Status, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told("NodePort", json!([{"ip": "1.2.3.4"}])),
            [
                "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
            ]
        );
        assert_eq!(
            told("LoadBalancer", json!([{"ip": "1.2.3.4", "ipMode": "VIP"}, {"hostname": "a.b"}])),
            Vec::<String>::new()
        );
        let wrong =
            told("LoadBalancer", json!([{"hostname": "a_b"}, {"ip": "x", "ipMode": "VIP"}]));
        assert!(wrong[0].starts_with("status.loadBalancer.ingress[0].hostname: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain"), "{wrong:?}");
        assert_eq!(
            wrong[1],
            "status.loadBalancer.ingress[1].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        );
    }

    // https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport
    #[test]
    fn a_port_on_nodes_stays_by_its_name_and_goes_with_the_type() {
        let old = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30002,
            "ports": [{"name": "a", "port": 80, "nodePort": 30000}, {"name": "b", "port": 81, "nodePort": 30001}]}});
        let mut new = old.clone();
        new["spec"]["ports"] = json!([{"name": "b", "port": 90}, {"name": "c", "port": 80}]);
        prepare_service(&mut new, Some(&old), Part::Main);
        let ports =
            json!([{"name": "b", "port": 90, "nodePort": 30001}, {"name": "c", "port": 80}]);
        assert_eq!(new["spec"]["ports"], ports);
        new["spec"]["externalTrafficPolicy"] = "Cluster".into();
        prepare_service(&mut new, Some(&old), Part::Main);
        assert_eq!(new["spec"].get("healthCheckNodePort"), None);
        let mut inside = old.clone();
        inside["spec"]["type"] = "ClusterIP".into();
        prepare_service(&mut inside, Some(&old), Part::Main);
        let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
        assert_eq!(inside["spec"], json!({"type": "ClusterIP", "ports": ports}));
    }
}

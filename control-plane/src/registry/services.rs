//! Services: how one is written, and what of it goes with its type.
//!
//! Owns: the service's row of the table. Called by: the registry's table.
//! Never: gives addresses and ports; that is `http::services`' part.

use serde_json::{Value, json};

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
    let spec = object(o, "spec");
    default_text(spec, "sessionAffinity", "None");
    default_text(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP" {
        default(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
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
        let port = p["port"].clone();
        if p.get("targetPort").is_none_or(|t| *t == 0 || *t == "") {
            p["targetPort"] = port;
        }
    }
}

fn validate_service(new: &Value, old: Option<&Value>, _: Part, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
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
        if !p["port"].as_i64().is_some_and(|n| (1..=65535).contains(&n)) {
            errors.push(FieldError::invalid(
                format!("{path}.port"),
                &p["port"],
                "must be between 1 and 65535, inclusive",
            ));
        }
        if !matches!(p["protocol"].as_str(), Some("TCP" | "UDP" | "SCTP")) {
            errors.push(FieldError::unsupported(
                format!("{path}.protocol"),
                &p["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
        if ports[..i].iter().any(|o| o["port"] == p["port"] && o["protocol"] == p["protocol"]) {
            let key = json!({"port": p["port"], "protocol": p["protocol"]});
            errors.push(FieldError::duplicate(path, &key));
        }
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

//! How a pod looks up names.
//!
//! Owns: what Kubernetes refuses in a pod's DNS configuration and host aliases. Called by: `pods`,
//! for pods and templates.
//!
//! <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>

use std::net::IpAddr;

use serde_json::{Value, json};

use super::names;
use super::pod_fields::{Errors, each, text};
use crate::http::status::FieldError;

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// What a resolver can take, <https://man7.org/linux/man-pages/man5/resolv.conf.5.html>, and what
/// Kubernetes allows of it.
const NAME_SERVERS: usize = 3;
const SEARCH_PATHS: usize = 32;
const SEARCH_LETTERS: usize = 2048;

fn is_ip(v: &Value) -> bool {
    v.as_str().is_some_and(|s| s.parse::<IpAddr>().is_ok())
}

/// The domains in which a name without dots is looked for.
fn searches(list: &Value, at: &str, errors: &mut Errors) {
    let all: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if all.len() > SEARCH_PATHS {
        let why = format!("must not have more than {SEARCH_PATHS} search paths");
        errors.push(FieldError::invalid(at, list, &why));
    }
    if all.join(" ").len() > SEARCH_LETTERS {
        let why = format!(
            "must not have more than {SEARCH_LETTERS} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(at, list, &why));
    }
    for (i, domain) in all.into_iter().enumerate().filter(|(_, d)| *d != ".") {
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        if let Err(e) = names::dns_search(domain) {
            errors.push(FieldError::invalid(format!("{at}[{i}]"), &json!(domain), &e));
        }
    }
}

/// How names are resolved in a pod.
pub(crate) fn name_resolution(spec: &Value, at: &str, errors: &mut Errors) {
    let config = &spec["dnsConfig"];
    if spec["dnsPolicy"] == "None" {
        let at = format!("{at}.dnsConfig");
        if config.is_null() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(at, why));
        } else if config["nameservers"].as_array().is_none_or(Vec::is_empty) {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(format!("{at}.nameservers"), why));
        }
    }
    let servers = &config["nameservers"];
    if servers.as_array().is_some_and(|s| s.len() > NAME_SERVERS) {
        let why = format!("must not have more than {NAME_SERVERS} nameservers");
        errors.push(FieldError::invalid(format!("{at}.dnsConfig.nameservers"), servers, &why));
    }
    for (i, v) in each(config, "nameservers").filter(|(_, v)| !is_ip(v)) {
        errors.push(FieldError::invalid(format!("{at}.dnsConfig.nameservers[{i}]"), v, IP));
    }
    searches(&config["searches"], &format!("{at}.dnsConfig.searches"), errors);
    for (i, _) in each(config, "options").filter(|(_, o)| text(o, "name").is_empty()) {
        let at = format!("{at}.dnsConfig.options[{i}]");
        errors.push(FieldError::required(at, "must not be empty"));
    }
}

/// Names that a pod knows beside those that are looked up.
pub(crate) fn host_aliases(spec: &Value, at: &str, errors: &mut Errors) {
    for (i, alias) in each(spec, "hostAliases") {
        let at = format!("{at}.hostAliases[{i}]");
        if !is_ip(&alias["ip"]) {
            errors.push(FieldError::invalid(format!("{at}.ip"), &alias["ip"], IP));
        }
        for (k, h) in each(alias, "hostnames") {
            if let Err(e) = names::dns_subdomain(h.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("{at}.hostnames[{k}]"), h, &e));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn a_resolver_has_so_many_servers_and_domains_and_no_more() {
        let told = |config: Value| {
            let mut errors = Vec::new();
            name_resolution(&json!({"dnsConfig": config}), "spec", &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told(json!({"nameservers": ["1.1.1.1", "1.1.1.1", "1.1.1.1", "x"]})),
            [
                "spec.dnsConfig.nameservers: Invalid value: []string{\"1.1.1.1\", \"1.1.1.1\", \"1.1.1.1\", \"x\"}: must not have more than 3 nameservers",
                "spec.dnsConfig.nameservers[3]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ]
        );
        let many = told(json!({"searches": vec!["a.b"; 33]}));
        assert!(many[0].ends_with(": must not have more than 32 search paths"), "{many:?}");
        let long = told(json!({"searches": vec!["x".repeat(65); 32]}));
        assert!(
            long[0].ends_with(
                ": must not have more than 2048 characters (including spaces) in the search list"
            ),
            "{long:?}"
        );
        assert_eq!(told(json!({"searches": ["a_b.c", ".", "x.", "_x.y"]})), Vec::<String>::new());
        let wrong = told(json!({"searches": ["-a"]}));
        assert!(wrong[0].starts_with("spec.dnsConfig.searches[0]: Invalid value: \"-a\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.'"), "{wrong:?}");
    }
}

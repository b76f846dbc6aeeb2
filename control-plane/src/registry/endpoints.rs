//! The addresses and ports behind services.
//!
//! Owns: what Kubernetes refuses in Endpoints and EndpointSlices. Called by: their rows of the table.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/service-resources/>

use std::net::IpAddr;

use serde_json::{Value, json};

use super::checks::one_of;
use super::{meta, names};
use crate::http::status::FieldError;

type Errors = Vec<FieldError>;

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

fn each<'a>(v: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    v[field].as_array().into_iter().flatten().enumerate()
}

fn text<'a>(v: &'a Value, field: &str) -> &'a str {
    v[field].as_str().unwrap_or_default()
}

fn too_many(at: String, count: usize, most: usize) -> FieldError {
    FieldError {
        reason: "FieldValueTooMany",
        field: at,
        message: format!("Too many: {count}: must have at most {most} items"),
    }
}

/// Whether others can reach an address. One of this machine alone is allowed: all may run on one.
pub(super) fn reachable(ip: IpAddr, v: &Value, at: &str, errors: &mut Errors) {
    let mut bad = |why: &str| errors.push(FieldError::invalid(at, v, why));
    if ip.is_unspecified() {
        bad(&format!("may not be unspecified ({})", v.as_str().unwrap_or_default()));
    }
    let (local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] == 0xff02),
    };
    if local {
        bad("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        bad("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn qualified(v: &Value, at: &str, errors: &mut Errors) {
    if let Some(name) = v.as_str()
        && let Err(e) = names::label_key(name)
    {
        errors.push(FieldError::invalid(at, v, &e));
    }
}

/// Endpoints; subsets that were there before stay as they are.
pub(super) fn endpoints(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    if old.is_some_and(|o| o["subsets"] == new["subsets"]) {
        return;
    }
    for (i, s) in each(new, "subsets") {
        let at = format!("subsets[{i}]");
        let has = |f: &str| s[f].as_array().is_some_and(|a| !a.is_empty());
        if !has("addresses") && !has("notReadyAddresses") {
            let why = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(at.clone(), why));
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (k, a) in each(s, field) {
                address(a, &format!("{at}.{field}[{k}]"), errors);
            }
        }
        let several = s["ports"].as_array().is_some_and(|p| p.len() > 1);
        for (k, p) in each(s, "ports") {
            port(p, several, &format!("{at}.ports[{k}]"), errors);
        }
    }
}

fn address(a: &Value, at: &str, errors: &mut Errors) {
    let ip = text(a, "ip").parse::<IpAddr>();
    if ip.is_err() {
        errors.push(FieldError::invalid(format!("{at}.ip"), &json!(text(a, "ip")), IP));
    }
    if !text(a, "hostname").is_empty()
        && let Err(e) = names::dns_label(text(a, "hostname"))
    {
        errors.push(FieldError::invalid(format!("{at}.hostname"), &a["hostname"], &e));
    }
    if let Some(node) = a["nodeName"].as_str()
        && let Err(e) = names::dns_subdomain(node)
    {
        errors.push(FieldError::invalid(format!("{at}.nodeName"), &a["nodeName"], &e));
    }
    match ip {
        Ok(ip) => reachable(ip, &a["ip"], &format!("{at}.ip"), errors),
        Err(_) => {
            let why = "must be a valid IP address";
            errors.push(FieldError::invalid(format!("{at}.ip"), &json!(text(a, "ip")), why));
        }
    }
}

fn port(p: &Value, named: bool, at: &str, errors: &mut Errors) {
    let name = text(p, "name");
    if named && name.is_empty() {
        errors.push(FieldError::required(format!("{at}.name"), ""));
    } else if !name.is_empty()
        && let Err(e) = names::dns_label(name)
    {
        errors.push(FieldError::invalid(format!("{at}.name"), &p["name"], &e));
    }
    let number = p["port"].as_i64().unwrap_or(0);
    if !(1..=65535).contains(&number) {
        let why = "must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(format!("{at}.port"), &json!(number), why));
    }
    one_of(&p["protocol"], &format!("{at}.protocol"), &PROTOCOLS, errors);
    qualified(&p["appProtocol"], &format!("{at}.appProtocol"), errors);
}

/// The ports and endpoints of a slice; endpoints that were there before stay as they are.
pub(super) fn slice(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    const PORTS: usize = 20_000;
    const ENDPOINTS: usize = 1_000;
    let count = |f: &str| new[f].as_array().map_or(0, Vec::len);
    if count("ports") > PORTS {
        errors.push(too_many("ports".into(), count("ports"), PORTS));
    } else {
        slice_ports(new, errors);
    }
    if old.is_some_and(|o| o["endpoints"] == new["endpoints"]) {
        return;
    }
    if count("endpoints") > ENDPOINTS {
        return errors.push(too_many("endpoints".into(), count("endpoints"), ENDPOINTS));
    }
    for (i, e) in each(new, "endpoints") {
        endpoint(e, text(new, "addressType"), &format!("endpoints[{i}]"), errors);
    }
}

fn slice_ports(new: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, p) in each(new, "ports") {
        let at = format!("ports[{i}]");
        let name = text(p, "name");
        if !name.is_empty()
            && let Err(e) = names::dns_label(name)
        {
            errors.push(FieldError::invalid(format!("{at}.name"), &p["name"], &e));
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &json!(name)));
        }
        seen.push(name);
        one_of(&p["protocol"], &format!("{at}.protocol"), &PROTOCOLS, errors);
        qualified(&p["appProtocol"], &format!("{at}.appProtocol"), errors);
    }
}

fn endpoint(e: &Value, kind: &str, at: &str, errors: &mut Errors) {
    const ADDRESSES: usize = 100;
    let count = e["addresses"].as_array().map_or(0, Vec::len);
    let addresses = format!("{at}.addresses");
    if count == 0 {
        let why = "must contain at least 1 address";
        errors.push(FieldError::required(addresses.as_str(), why));
    } else if count > ADDRESSES {
        errors.push(too_many(addresses.clone(), count, ADDRESSES));
    }
    for (k, a) in each(e, "addresses") {
        slice_address(a, kind, &addresses, k, errors);
    }
    if let Some(node) = e["nodeName"].as_str()
        && let Err(why) = names::dns_subdomain(node)
    {
        errors.push(FieldError::invalid(format!("{at}.nodeName"), &e["nodeName"], &why));
    }
    let topology = e.get("deprecatedTopology");
    meta::validate_labels(topology, &format!("{at}.deprecatedTopology"), errors);
    if let Some(host) = e["hostname"].as_str()
        && let Err(why) = names::dns_label(host)
    {
        errors.push(FieldError::invalid(format!("{at}.hostname"), &e["hostname"], &why));
    }
    hints(&e["hints"], &format!("{at}.hints.forZones"), errors);
}

fn slice_address(a: &Value, kind: &str, list: &str, k: usize, errors: &mut Errors) {
    let at = format!("{list}[{k}]");
    let said = a.as_str().unwrap_or_default();
    match (kind, said.parse::<IpAddr>()) {
        ("IPv4" | "IPv6", Err(_)) => errors.push(FieldError::invalid(at, a, IP)),
        ("IPv4" | "IPv6", Ok(ip)) => {
            if ip.is_ipv4() != (kind == "IPv4") {
                let why = format!("must be an {kind} address");
                errors.push(FieldError::invalid(list, a, &why));
            }
            reachable(ip, a, &at, errors);
        }
        ("FQDN", _) => {
            if said.is_empty() {
                errors.push(FieldError::required(at, ""));
            } else if let Err(e) = names::dns_subdomain(said.strip_suffix('.').unwrap_or(said)) {
                errors.push(FieldError::invalid(at, a, &e));
            } else if said.trim_end_matches('.').split('.').count() < 2 {
                let why = "should be a domain with at least two segments separated by dots";
                errors.push(FieldError::invalid(at, a, why));
            }
        }
        _ => {}
    }
}

fn hints(hints: &Value, at: &str, errors: &mut Errors) {
    const ZONES: usize = 8;
    let count = hints["forZones"].as_array().map_or(0, Vec::len);
    if count > ZONES {
        return errors.push(too_many(at.to_owned(), count, ZONES));
    }
    let mut seen = Vec::new();
    for (i, zone) in each(hints, "forZones") {
        let at = format!("{at}[{i}].name");
        let name = text(zone, "name");
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(at.as_str(), &json!(name)));
        }
        seen.push(name);
        if let Err(e) = names::label_value(name) {
            errors.push(FieldError::invalid(at, &json!(name), &e));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: fn(&Value, Option<&Value>, &mut Errors), v: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(v, None, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // What each field may be is said in the reference named above; the words are Kubernetes'.
    #[test]
    fn addresses_and_ports_behind_a_service_are_checked_one_by_one() {
        let with = |field: &str, v: Value| {
            let mut s = json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]});
            match field.split_once('.') {
                Some((list, field)) => s[list][0][field] = v,
                None => s[field] = v,
            }
            told(endpoints, &json!({"subsets": [s]}))
        };
        assert_eq!(with("addresses.ip", json!("127.0.0.1")), Vec::<String>::new());
        for (field, v, expected) in [
            (
                "addresses.ip",
                json!("0.0.0.0"),
                "addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
            ),
            (
                "addresses.ip",
                json!("169.254.1.1"),
                "addresses[0].ip: Invalid value: \"169.254.1.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ),
            (
                "addresses.ip",
                json!("224.0.0.1"),
                "addresses[0].ip: Invalid value: \"224.0.0.1\": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
            ),
            (
                "ports.port",
                json!(0),
                "ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                "ports.protocol",
                json!("FOO"),
                "ports[0].protocol: Unsupported value: \"FOO\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
        ] {
            assert_eq!(with(field, v), [format!("subsets[0].{expected}")]);
        }
        assert_eq!(with("addresses.ip", json!("x")).len(), 2);
        assert_eq!(with("ports", json!([{"port": 1}, {"port": 2}])).len(), 2);
        let none = json!([]);
        assert_eq!(
            with("addresses", none),
            ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]
        );
    }

    #[test]
    fn the_endpoints_of_a_slice_are_of_its_address_type() {
        let of = |kind: &str, endpoint: Value| {
            told(
                slice,
                &json!({"addressType": kind, "endpoints": [endpoint], "ports": [{"name": "", "protocol": "TCP"}]}),
            )
        };
        let at = "endpoints[0]";
        assert_eq!(
            of("IPv4", json!({"addresses": ["10.0.0.1"], "zone": "any thing"})),
            Vec::<String>::new()
        );
        assert_eq!(of("FQDN", json!({"addresses": ["a.b"]})), Vec::<String>::new());
        for (kind, endpoint, expected) in [
            ("IPv4", json!({}), "addresses: Required value: must contain at least 1 address"),
            (
                "IPv4",
                json!({"addresses": ["fd00::1"]}),
                "addresses: Invalid value: \"fd00::1\": must be an IPv4 address",
            ),
            (
                "IPv6",
                json!({"addresses": ["10.0.0.1"]}),
                "addresses: Invalid value: \"10.0.0.1\": must be an IPv6 address",
            ),
            (
                "FQDN",
                json!({"addresses": ["a"]}),
                "addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
            ),
            (
                "IPv4",
                json!({"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}),
                "hints.forZones[1].name: Duplicate value: \"a\"",
            ),
        ] {
            assert_eq!(of(kind, endpoint), [format!("{at}.{expected}")]);
        }
        let many: Vec<String> = (0..101).map(|i| format!("10.0.0.{i}")).collect();
        assert_eq!(
            of("IPv4", json!({"addresses": many})),
            [format!("{at}.addresses: Too many: 101: must have at most 100 items")]
        );
        // What was there before stays.
        let bad = json!({"addressType": "IPv4", "endpoints": [{}]});
        let mut errors = Vec::new();
        slice(&bad, Some(&bad), &mut errors);
        assert_eq!(errors, []);
    }
}

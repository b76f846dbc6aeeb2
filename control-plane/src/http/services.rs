//! The addresses and ports that services are given.
//!
//! Owns: which are free, in Kubernetes' ranges, and what is said of those that are not.
//! Called by: admission, when a service is made or changed. Never: keeps anything but what writes under
//! way have been given; the services are the record.
//!
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/>

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::status::{FieldError, Status};
use crate::plane::Plane;
use crate::registry::core::{default, list, object};
use crate::registry::meta::{self, text};
use crate::store::Held;

/// 10.96.0.0/12, as kubeadm uses it.
const NETWORK: u32 = 0x0a60_0000;
/// Those that are drawn: the first ones are left to who asks for them.
const DRAWN: std::ops::Range<u32> = 0x0000_0100..0x000f_fffe;
const SIZE: u32 = 1 << 20;
/// The ports that nodes open for services.
const PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

/// Addresses and ports.
#[derive(Debug, Default, Clone)]
struct Given {
    addresses: HashSet<String>,
    ports: HashSet<i64>,
}

/// What services under way have been given, which no list of services shows yet.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reserved(Arc<Mutex<Given>>);

/// One service's part of it, until its write is published or refused.
struct Reservation {
    of: Reserved,
    own: Given,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut all = self.of.0.lock();
        all.addresses.retain(|a| !self.own.addresses.contains(a));
        all.ports.retain(|p| !self.own.ports.contains(p));
    }
}

/// What other services have, and what this one takes.
#[derive(Debug, Default)]
struct Taken {
    others: Given,
    own: Given,
    /// Nothing is taken: as in Kubernetes, ports are then out of its range, so that whoever sees one
    /// does not count on it, and ports that are asked for may be so, too.
    dry_run: bool,
}

/// Gives a service an address, the ports on nodes that its type has, and what goes with them. Nobody
/// else gets them as long as what is returned is held.
///
/// # Errors
/// When it asks for one that another service has, or that is out of range.
pub(crate) fn allocate(
    plane: &Plane,
    namespace: &str,
    new: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Option<Held>, Status> {
    let kind = text(new, "/spec/type").to_owned();
    // Listed while nothing can be let go of: what is not in the one is in the other.
    let mut reserved = plane.reserved.0.lock();
    let mut taken = Taken { others: reserved.clone(), dry_run, ..Taken::default() };
    let all = plane.store.list("core/services", "", None).objects;
    let own = format!("{namespace}/{}", meta::name(new));
    for (_, other) in all.iter().filter(|(key, _)| **key != *own) {
        taken.others.add(&other.value());
    }
    let (spec, old) = (object(new, "spec"), old.map(|o| &o["spec"]));
    let addressed = if kind == "ExternalName" { Ok(()) } else { address(spec, old, &mut taken) };
    let allocated = addressed.and_then(|()| ports(spec, old, &mut taken));
    allocated.map_err(|e| Status::invalid("", "Service", meta::name(new), &[e]))?;
    if dry_run {
        return Ok(None);
    }
    reserved.addresses.extend(taken.own.addresses.iter().cloned());
    reserved.ports.extend(&taken.own.ports);
    Ok(Some(Box::new(Reservation { of: plane.reserved.clone(), own: taken.own })))
}

impl Given {
    fn add(&mut self, service: &Value) {
        let ip = text(service, "/spec/clusterIP");
        if !matches!(ip, "" | "None") {
            self.addresses.insert(ip.to_owned());
        }
        self.ports.extend(numbers(&service["spec"]));
        self.ports.extend(service["spec"]["healthCheckNodePort"].as_i64());
    }
}

impl Taken {
    /// A port that nobody has, which then is taken.
    fn draw(&mut self) -> Option<i64> {
        use rand::Rng as _;
        let free = if self.dry_run {
            self.own.ports.iter().max().map_or(PORTS.end() + 2, |n| n + 1)
        } else {
            let start = rand::rng().random_range(PORTS);
            let mut around = (start..=*PORTS.end()).chain(*PORTS.start()..start);
            around.find(|n| !self.has(*n))?
        };
        self.own.ports.insert(free);
        Some(free)
    }

    fn has(&self, port: i64) -> bool {
        self.others.ports.contains(&port) || self.own.ports.contains(&port)
    }

    /// Takes a port that somebody asks for.
    fn take(&mut self, port: i64) -> Result<(), &'static str> {
        if !self.dry_run && !PORTS.contains(&port) {
            return Err(
                "provided port is not in the valid range. The range of valid ports is 30000-32767",
            );
        }
        if self.has(port) {
            return Err("provided port is already allocated");
        }
        self.own.ports.insert(port);
        Ok(())
    }
}

/// The ports on nodes that a service has.
fn numbers(spec: &Value) -> impl Iterator<Item = i64> + '_ {
    let ports = spec["ports"].as_array().into_iter().flatten();
    ports.filter_map(|p| p["nodePort"].as_i64()).filter(|n| *n != 0)
}

fn address(spec: &mut Value, old: Option<&Value>, taken: &mut Taken) -> Result<(), FieldError> {
    let at = "spec.clusterIPs";
    let ip = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
    let listed = spec["clusterIPs"].clone();
    let first = listed[0].as_str().unwrap_or_default();
    if old.is_none() && !first.is_empty() && first != ip {
        let why = if ip.is_empty() {
            "must be empty when `clusterIP` is not specified"
        } else {
            "first value must match `clusterIP`"
        };
        return Err(FieldError::invalid_shown(at, &super::status::shown_list(&listed), why));
    }
    if ip.is_empty() {
        let free = free_address(taken);
        taken.own.addresses.insert(free.clone());
        spec["clusterIP"] = free.into();
    } else if ip != "None" && old.is_none_or(|o| o["clusterIP"].is_null()) {
        // What is no address, or another than before, is told with the other fields.
        if let Ok(parsed) = ip.parse::<std::net::IpAddr>() {
            let within =
                matches!(parsed, std::net::IpAddr::V4(a) if u32::from(a) & !(SIZE - 1) == NETWORK);
            let why = if !within {
                Some("the provided network does not match the current range")
            } else if taken.others.addresses.contains(&ip) {
                Some("provided IP is already allocated")
            } else {
                None
            };
            if let Some(why) = why {
                let why = format!("failed to allocate IP {ip}: {why}");
                let shown = super::status::shown_list(&json!([ip]));
                return Err(FieldError::invalid_shown(at, &shown, &why));
            }
            taken.own.addresses.insert(ip);
        }
    }
    let ip = spec["clusterIP"].clone();
    spec["clusterIPs"] = json!([ip]);
    // Whoever fills in the endpoints of a service without an address and a selector decides.
    let open = spec["clusterIP"] == "None"
        && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if open && spec["ipFamilies"].is_null() && spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        spec["ipFamilyPolicy"] = "RequireDualStack".into();
    }
    default(spec, "ipFamilies", json!(["IPv4"]));
    default(spec, "ipFamilyPolicy", "SingleStack");
    Ok(())
}

/// An address that no service has.
fn free_address(taken: &Taken) -> String {
    use rand::Rng as _;
    loop {
        let n: u32 = rand::rng().random_range(DRAWN);
        let ip = Ipv4Addr::from(NETWORK + n).to_string();
        if !taken.others.addresses.contains(&ip) {
            return ip;
        }
    }
}

/// Whether nodes open ports for a service of its type.
fn has_node_ports(spec: &Value) -> bool {
    match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn ports(spec: &mut Value, old: Option<&Value>, taken: &mut Taken) -> Result<(), FieldError> {
    let open = has_node_ports(spec);
    let outside = open || spec["type"] == "LoadBalancer";
    let before: HashSet<i64> = old.into_iter().flat_map(numbers).collect();
    // The same port of two protocols is open under one number.
    let mut by_port: HashMap<i64, i64> = HashMap::new();
    for p in spec["ports"].as_array().into_iter().flatten() {
        if let (Some(port), Some(n @ 1..)) = (p["port"].as_i64(), p["nodePort"].as_i64()) {
            by_port.entry(port).or_insert(n);
        }
    }
    let mut own: HashSet<(i64, String)> = HashSet::new();
    let mut held: HashSet<i64> = HashSet::new();
    for (i, p) in list(spec, "ports").enumerate() {
        let port = p["port"].as_i64().unwrap_or_default();
        let protocol = p["protocol"].as_str().unwrap_or_default().to_owned();
        let mut number = p["nodePort"].as_i64().unwrap_or_default();
        if number == 0 {
            if !open {
                continue;
            }
            let shared = by_port.get(&port).copied();
            let shared = shared.filter(|n| !own.contains(&(*n, protocol.clone())));
            let Some(found) = shared.or_else(|| {
                taken.draw().inspect(|n| {
                    held.insert(*n);
                })
            }) else {
                let why = "failed to allocate a nodePort: range is full";
                return Err(FieldError::invalid(
                    format!("spec.ports[{i}].nodePort"),
                    &json!(0),
                    why,
                ));
            };
            number = found;
            by_port.entry(port).or_insert(number);
            p["nodePort"] = number.into();
        } else if !outside {
            // Told with the other fields.
            continue;
        }
        let again = !own.insert((number, protocol));
        let known = before.contains(&number) || held.contains(&number);
        let why = if again {
            Err("provided port is already allocated")
        } else if known {
            Ok(())
        } else {
            taken.take(number)
        };
        if let Err(why) = why {
            let at = format!("spec.ports[{i}].nodePort");
            return Err(FieldError::invalid(at, &number.into(), why));
        }
        held.insert(number);
    }
    health_port(spec, old, taken)
}

/// Where a load balancer asks whether a node has pods of a service.
fn health_port(spec: &mut Value, old: Option<&Value>, taken: &mut Taken) -> Result<(), FieldError> {
    if spec["type"] != "LoadBalancer" || spec["externalTrafficPolicy"] != "Local" {
        return Ok(());
    }
    let at = "spec.healthCheckNodePort";
    let before = old.and_then(|o| o["healthCheckNodePort"].as_i64());
    match spec["healthCheckNodePort"].as_i64().filter(|n| *n != 0) {
        Some(n) if Some(n) == before || before.is_some() => Ok(()),
        Some(n) => taken.take(n).map_err(|why| {
            let why = format!("failed to allocate requested HealthCheck NodePort {n}: {why}");
            FieldError::invalid(at, &n.into(), &why)
        }),
        None => {
            if let Some(n) = before.or_else(|| taken.draw()) {
                spec["healthCheckNodePort"] = n.into();
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(mut spec: Value, old: Option<&Value>, others: &[i64]) -> Result<Value, String> {
        let mut taken = Taken::default();
        taken.others.ports.extend(others);
        ports(&mut spec, old, &mut taken).map_err(|e| e.to_string())?;
        Ok(spec)
    }

    // "type: NodePort" of https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport
    #[test]
    fn a_port_on_nodes_is_drawn_from_the_range_or_taken_as_asked_for() {
        let node = |ports: Value| json!({"type": "NodePort", "ports": ports});
        let drawn = given(node(json!([{"port": 80}])), None, &[]).unwrap();
        assert!(PORTS.contains(&drawn["ports"][0]["nodePort"].as_i64().unwrap()));
        let asked = node(json!([{"port": 80, "nodePort": 30080}]));
        assert_eq!(given(asked.clone(), None, &[]).unwrap(), asked);
        assert_eq!(
            given(asked.clone(), None, &[30080]).unwrap_err(),
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
        );
        // What it has it keeps.
        assert_eq!(given(asked.clone(), Some(&asked), &[30080]).unwrap(), asked);
        assert_eq!(
            given(node(json!([{"port": 80, "nodePort": 80}])), None, &[]).unwrap_err(),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
        );
        let inside = json!({"type": "ClusterIP", "ports": [{"port": 80}]});
        assert_eq!(given(inside.clone(), None, &[]).unwrap(), inside);
    }

    // `PortAllocationOperation` with `dryRun` of Kubernetes (pkg/registry/core/service/portallocator).
    #[test]
    fn a_dry_run_takes_any_port_that_nobody_has_and_draws_none_of_the_range() {
        let given = |asked: Value| {
            let mut taken = Taken { dry_run: true, ..Taken::default() };
            taken.others.ports.insert(30080);
            let mut spec = json!({"type": "NodePort", "ports": asked});
            ports(&mut spec, None, &mut taken).map_err(|e| e.to_string())?;
            let all: Vec<i64> = numbers(&spec).collect();
            Ok::<_, String>(all)
        };
        assert_eq!(given(json!([{"port": 80, "nodePort": 80}])), Ok(vec![80]));
        assert_eq!(given(json!([{"port": 80}, {"port": 81}])), Ok(vec![32769, 32770]));
        assert_eq!(
            given(json!([{"port": 80, "nodePort": 31000}, {"port": 81}])),
            Ok(vec![31000, 31001])
        );
        assert_eq!(
            given(json!([{"port": 80, "nodePort": 30080}])).unwrap_err(),
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
        );
    }

    #[test]
    fn two_protocols_of_one_port_share_a_number_and_two_ports_do_not() {
        let ports = json!([{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}, {"port": 54, "protocol": "TCP"}]);
        let spec = given(json!({"type": "LoadBalancer", "ports": ports}), None, &[]).unwrap();
        let n = |i: usize| spec["ports"][i]["nodePort"].as_i64().unwrap();
        assert_eq!(n(0), n(1));
        assert_ne!(n(0), n(2));
        let twice = json!([{"port": 80, "protocol": "TCP", "nodePort": 30001}, {"port": 81, "protocol": "TCP", "nodePort": 30001}]);
        assert!(given(json!({"type": "NodePort", "ports": twice}), None, &[]).is_err());
        let mut local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]});
        let with = given(local.clone(), None, &[]).unwrap();
        assert!(PORTS.contains(&with["healthCheckNodePort"].as_i64().unwrap()));
        assert!(with["ports"][0].get("nodePort").is_none());
        local["healthCheckNodePort"] = with["healthCheckNodePort"].clone();
        assert_eq!(given(local, Some(&with), &[]).unwrap(), with);
    }

    #[test]
    fn an_address_of_another_service_or_network_is_refused() {
        let given = |spec: Value| {
            let mut taken = Taken::default();
            taken.others.addresses.insert("10.96.7.7".to_owned());
            let mut spec = spec;
            address(&mut spec, None, &mut taken).map(|()| spec).map_err(|e| e.to_string())
        };
        assert!(given(json!({})).unwrap()["clusterIP"].as_str().unwrap().starts_with("10."));
        assert_eq!(given(json!({"clusterIP": "None"})).unwrap()["clusterIPs"], json!(["None"]));
        assert_eq!(
            given(json!({"clusterIP": "10.96.7.8"})).unwrap()["clusterIPs"],
            json!(["10.96.7.8"])
        );
        for (spec, why) in [
            (
                json!({"clusterIP": "10.96.7.7"}),
                "[]string{\"10.96.7.7\"}: failed to allocate IP 10.96.7.7: provided IP is already allocated",
            ),
            (
                json!({"clusterIP": "1.2.3.4"}),
                "[]string{\"1.2.3.4\"}: failed to allocate IP 1.2.3.4: the provided network does not match the current range",
            ),
            (
                json!({"clusterIPs": ["10.96.7.9"]}),
                "[]string{\"10.96.7.9\"}: must be empty when `clusterIP` is not specified",
            ),
        ] {
            assert_eq!(given(spec).unwrap_err(), format!("spec.clusterIPs: Invalid value: {why}"));
        }
    }
}

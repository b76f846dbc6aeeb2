//! Where the API itself is reached: the Endpoints `kubernetes` and their slice, beside the service.
//!
//! Owns: these two objects. Called by: `controllers::spawn`. Never: says an address that only this machine
//! reaches, which Endpoints may not have either: a plane that listens on loopback has none.
//!
//! <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::defaults::ensure_object;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, delete};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::Part;
use crate::store::Key;

/// How often they are looked at, as in Kubernetes.
const EVERY: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
/// The slice is ours and no mirror.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const SERVICE: &str = "kubernetes.io/service-name";

/// The address by which others reach an API server: the first that it was told, the one where it
/// listens, or the one from which this machine reaches others.
pub(crate) fn address(bind: SocketAddr, told: &[String]) -> Option<IpAddr> {
    if bind.ip().is_loopback() {
        return None;
    }
    let told = told.iter().filter_map(|a| a.parse().ok()).find(is_reached);
    let own = (!bind.ip().is_unspecified()).then_some(bind.ip());
    told.or(own).or_else(routed).filter(is_reached)
}

/// Whether Endpoints may have an address.
fn is_reached(ip: &IpAddr) -> bool {
    let near = match ip {
        IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    !(near || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// The address of the interface with the default route. Nothing is sent in order to know it.
fn routed() -> Option<IpAddr> {
    let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).ok()?;
    // Addresses for documentation, which are routed like any far away.
    socket.connect((IpAddr::from([192, 0, 2, 1]), 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// The Endpoints and the slice, without their kinds.
fn wanted(ip: IpAddr, port: u16) -> [(&'static str, &'static str, Value); 2] {
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let endpoints = json!({
        "metadata": {"name": NAME, "labels": {SKIP: "true"}},
        "subsets": [{"addresses": [{"ip": ip}], "ports": ports}],
    });
    let slice = json!({
        "metadata": {"name": NAME, "labels": {SERVICE: NAME}},
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" }, "ports": ports,
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
    });
    [("", "endpoints", endpoints), ("discovery.k8s.io", "endpointslices", slice)]
}

/// What an object should be, if it is not. Labels of others stay. Pure.
fn mended(old: &Value, wanted: &Value) -> Option<Value> {
    let mut new = old.clone();
    for (field, v) in wanted.as_object().into_iter().flatten().filter(|(f, _)| *f != "metadata") {
        new[field] = v.clone();
    }
    for (label, v) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
        new["metadata"]["labels"][label] = v.clone();
    }
    (new != *old).then_some(new)
}

async fn keep(plane: &Plane, ip: IpAddr) -> Result<(), Status> {
    for (group, plural, object) in wanted(ip, plane.address.port()) {
        let resource = plane.registry.builtin(group, plural);
        let Some(old) = plane.store.get(&Key::new(&resource.table, NAMESPACE, NAME)) else {
            ensure_object(plane, group, plural, NAMESPACE, object).await?;
            continue;
        };
        if mended(&old.value(), &object).is_none() {
            continue;
        }
        // A slice's family stays what it is.
        if plural == "endpointslices" && old.value()["addressType"] != object["addressType"] {
            remove(plane, group, plural).await?;
            ensure_object(plane, group, plural, NAMESPACE, object).await?;
            continue;
        }
        let options = WriteOptions { manager: "kube-apiserver".into(), ..WriteOptions::default() };
        let change = |old: &Value| Ok(mended(old, &object).unwrap_or_else(|| old.clone()));
        let (user, at) = (User::internal("apiserver"), (NAMESPACE, NAME));
        modify(plane, &user, &resource, at, Part::Main, &options, change).await?;
    }
    Ok(())
}

async fn remove(plane: &Plane, group: &str, plural: &str) -> Result<(), Status> {
    let (user, resource) = (User::internal("apiserver"), plane.registry.builtin(group, plural));
    match delete(plane, &user, &resource, (NAMESPACE, NAME), &DeleteOptions::default()).await {
        Err(e) if e.code != 404 => Err(e),
        _ => Ok(()),
    }
}

/// Nobody reaches it: what an earlier run said is taken back.
async fn take_back(plane: &Plane) -> Result<(), Status> {
    let endpoints = plane.registry.builtin("", "endpoints");
    let old = plane.store.get(&Key::new(&endpoints.table, NAMESPACE, NAME));
    if old.is_none_or(|o| o.value()["metadata"]["labels"][SKIP] != "true") {
        return Ok(());
    }
    remove(plane, "discovery.k8s.io", "endpointslices").await?;
    remove(plane, "", "endpoints").await
}

/// Keeps them, whoever changes them.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        let done = match plane.reached_at {
            Some(ip) => keep(&plane, ip).await,
            None => take_back(&plane).await,
        };
        if let Err(e) = done {
            tracing::warn!("cannot say where the API is reached: {}", e.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What Endpoints may not have: "The endpoint IPs must not be" of
    // https://kubernetes.io/docs/concepts/services-networking/service/#services-without-selectors
    #[test]
    fn an_address_is_said_that_others_reach_and_loopback_is_none() {
        let at = |bind: &str, told: &[&str]| {
            let told: Vec<String> = told.iter().map(|t| (*t).to_owned()).collect();
            address(bind.parse().unwrap(), &told).map(|ip| ip.to_string())
        };
        assert_eq!(at("127.0.0.1:1", &["192.0.2.7"]), None);
        assert_eq!(at("192.0.2.9:1", &[]).unwrap(), "192.0.2.9");
        assert_eq!(at("192.0.2.9:1", &["a.example", "192.0.2.7"]).unwrap(), "192.0.2.7");
        assert_eq!(at("0.0.0.0:1", &["127.0.0.1", "2001:db8::7"]).unwrap(), "2001:db8::7");
        assert_eq!(at("169.254.0.1:1", &[]), None);
    }
}

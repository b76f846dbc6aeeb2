//! Endpoints that somebody keeps by hand, as the EndpointSlices that are read.
//!
//! Owns: the slices of services without a selector. Called by: `endpoints.rs`.
//! Never: touches slices that others made.
//! See kubernetes.io/docs/concepts/services-networking/endpoint-slices, "EndpointSlice mirroring".

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::world::World;
use super::{Action, Kind, Plan, Target, owner_reference};
use crate::registry::meta;

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of a subset that are mirrored, as in Kubernetes.
const LIMIT: usize = 1000;

/// Plans the slices of Endpoints; none where `mirrored` is false.
pub(super) fn reconcile(world: &World, endpoints: &Value, mirrored: bool, plan: &mut Plan) {
    let noted = &endpoints["metadata"];
    let mirrored = mirrored
        && noted["labels"][SKIP] != "true"
        && noted["annotations"].get(LEADER).is_none()
        && !meta::is_terminating(endpoints);
    let mut wanted = if mirrored { slices(endpoints) } else { Vec::new() };
    let old = world.owned(Kind::EndpointSlice, meta::uid(endpoints));
    let ours = |s: &&&Value| s["metadata"]["labels"][MANAGER] == CONTROLLER;
    for slice in old.iter().filter(ours).filter(|s| !meta::is_terminating(s)) {
        let same = |w: &Value| ["addressType", "ports"].iter().all(|f| w[*f] == slice[*f]);
        let Some(at) = wanted.iter().position(same) else {
            plan.push(Action::Delete(Target::of(Kind::EndpointSlice, slice), None, None));
            continue;
        };
        let new = wanted.remove(at);
        let mut patch = json!({});
        if new["endpoints"] != slice["endpoints"] {
            patch["endpoints"] = new["endpoints"].clone();
        }
        for (k, v) in new["metadata"]["labels"].as_object().into_iter().flatten() {
            if slice["metadata"]["labels"].get(k) != Some(v) {
                patch["metadata"]["labels"][k] = v.clone();
            }
        }
        if patch != json!({}) {
            plan.patch(Kind::EndpointSlice, slice, patch);
        }
    }
    for new in wanted {
        plan.push(Action::Create(Kind::EndpointSlice, new, None));
    }
}

/// One slice for each subset and family of addresses.
fn slices(endpoints: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let mut ports: Vec<Value> = subset["ports"].as_array().cloned().unwrap_or_default();
        for p in ports.iter_mut().filter_map(Value::as_object_mut) {
            // A slice names each port, be it with nothing.
            p.entry("name").or_insert_with(|| "".into());
        }
        let mut families: [Vec<Value>; 2] = Default::default();
        let both = [("addresses", true), ("notReadyAddresses", false)];
        let each = both.into_iter().flat_map(|(f, ready)| {
            subset[f].as_array().into_iter().flatten().map(move |a| (a, ready))
        });
        for (address, ready) in each.take(LIMIT) {
            match meta::text(address, "/ip").parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => families[0].push(endpoint(address, ready)),
                Ok(IpAddr::V6(_)) => families[1].push(endpoint(address, ready)),
                Err(_) => {}
            }
        }
        for (family, list) in ["IPv4", "IPv6"].into_iter().zip(families) {
            if !list.is_empty() {
                all.push(made(endpoints, family, &ports, list));
            }
        }
    }
    all
}

fn endpoint(address: &Value, ready: bool) -> Value {
    let mut e = json!({"addresses": [address["ip"]], "conditions": {"ready": ready}});
    for field in ["hostname", "nodeName", "targetRef"] {
        if let Some(v) = address.get(field) {
            e[field] = v.clone();
        }
    }
    e
}

fn made(endpoints: &Value, family: &str, ports: &[Value], list: Vec<Value>) -> Value {
    let (name, namespace) = (meta::name(endpoints), meta::namespace(endpoints));
    let mut labels: Map<String, Value> =
        endpoints["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(SERVICE.into(), name.into());
    labels.insert(MANAGER.into(), CONTROLLER.into());
    json!({"metadata": {"generateName": format!("{name}-"), "namespace": namespace, "labels": labels,
        "ownerReferences": [owner_reference(Kind::Endpoints, endpoints)]},
        "addressType": family, "ports": ports, "endpoints": list})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn endpoints(labels: Value) -> Value {
        json!({"metadata": {"name": "db", "namespace": "d", "uid": "e", "labels": labels}, "subsets": [
            {"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}],
             "ports": [{"port": 5432, "protocol": "TCP"}]}]})
    }

    fn plan(endpoints: &Value, slices: &[Value], mirrored: bool) -> Plan {
        let (mut world, mut touched) = (World::default(), BTreeSet::new());
        slices.iter().for_each(|s| world.put(Kind::EndpointSlice, s.clone(), &mut touched));
        let mut plan = Plan::default();
        reconcile(&world, endpoints, mirrored, &mut plan);
        plan
    }

    fn made_of(plan: &Plan) -> Vec<Value> {
        let one = |a: &Action| match a {
            Action::Create(_, o, _) => Some(o.clone()),
            _ => None,
        };
        plan.actions.iter().filter_map(one).collect()
    }

    #[test]
    fn endpoints_kept_by_hand_are_mirrored_by_family_unless_they_ask_not_to_be() {
        let by_hand = endpoints(json!({"a": "b"}));
        let mut made = made_of(&plan(&by_hand, &[], true));
        assert_eq!(made.len(), 2);
        assert_eq!(
            (&made[0]["addressType"], &made[1]["addressType"]),
            (&json!("IPv4"), &json!("IPv6"))
        );
        assert_eq!(
            made[0]["endpoints"],
            json!([{"addresses": ["192.0.2.1"], "conditions": {"ready": true}},
                {"addresses": ["192.0.2.2"], "conditions": {"ready": false}}])
        );
        assert_eq!(made[0]["ports"], json!([{"name": "", "port": 5432, "protocol": "TCP"}]));
        let labels = &made[0]["metadata"]["labels"];
        assert_eq!((&labels["a"], &labels[SERVICE]), (&json!("b"), &json!("db")));
        for (i, s) in made.iter_mut().enumerate() {
            s["metadata"]["name"] = format!("db-{i}").into();
            s["metadata"]["uid"] = format!("s{i}").into();
        }
        assert!(plan(&by_hand, &made, true).actions.is_empty());
        // What changes is changed in its slice, and what is gone goes.
        let mut fewer = by_hand.clone();
        fewer["subsets"][0]["addresses"] = json!([{"ip": "192.0.2.1"}]);
        assert!(
            matches!(&plan(&fewer, &made, true).actions[..], [Action::Delete(t, ..)] if t.name == "db-1")
        );
        assert_eq!(plan(&by_hand, &made, false).actions.len(), 2);
        assert_eq!(made_of(&plan(&endpoints(json!({SKIP: "true"})), &[], true)).len(), 0);
    }
}

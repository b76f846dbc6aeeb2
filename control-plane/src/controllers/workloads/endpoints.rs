//! Services: where their pods can be reached, as EndpointSlices and as Endpoints.
//!
//! Owns: the slices and the Endpoints object of each service that has a selector. Called by: the loop
//! in `mod.rs`; `mirror.rs` has the slices of services without one. Never: touches what somebody else manages.
//! See kubernetes.io/docs/concepts/services-networking/endpoint-slices.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::pods::Pod;
use super::world::World;
use super::{Action, Context, Kind, Plan, Target, mirror, owner_reference, template};
use crate::registry::meta;

/// Endpoints in one slice at most, as in Kubernetes.
const SLICE: usize = 100;
/// Addresses in an Endpoints object at most, as in Kubernetes.
const LIMIT: usize = 1000;

const SERVICE: &str = "kubernetes.io/service-name";
const SLICE_MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";
const MANAGER: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) fn reconcile(world: &World, key: &str, _: &Context) -> Plan {
    let mut plan = Plan::default();
    let existing = world.get(Kind::Endpoints, key);
    let Some(service) = world.get(Kind::Service, key) else {
        // Slices go by their owner reference; Endpoints have none.
        if let Some(old) = existing.filter(|e| is_ours(e, MANAGER, CONTROLLER)) {
            plan.push(Action::Delete(Target::of(Kind::Endpoints, old), None, None));
        } else if let Some(by_hand) = existing {
            mirror::reconcile(world, by_hand, false, &mut plan);
        }
        return plan;
    };
    let selector = service["spec"]["selector"].as_object().filter(|s| !s.is_empty());
    if meta::is_terminating(service) {
        return plan;
    }
    if let Some(endpoints) = existing {
        mirror::reconcile(world, endpoints, selector.is_none(), &mut plan);
    }
    let Some(selector) = selector.filter(|_| service["spec"]["type"] != "ExternalName") else {
        return plan;
    };
    let wanted = |p: &&Pod| {
        !p.has_ended()
            && !p.ips.is_empty()
            && selector.iter().all(|(k, v)| Some(p.label(k)) == v.as_str())
    };
    let pods: Vec<&Pod> = world.pods_in(meta::namespace(service)).filter(wanted).collect();
    slices(world, service, &pods, &mut plan);
    endpoints(service, existing, &pods, &mut plan);
    plan
}

fn is_ours(object: &Value, label: &str, manager: &str) -> bool {
    object["metadata"]["labels"][label] == manager
}

fn publishes_all(service: &Value) -> bool {
    service["spec"]["publishNotReadyAddresses"] == true
}

/// The ports of a service at a pod: numbers for names.
fn ports(service: &Value, pod: &Pod) -> Vec<Value> {
    let one = |p: &Value| {
        let protocol = p["protocol"].as_str().unwrap_or("TCP");
        let number = match &p["targetPort"] {
            Value::String(name) => {
                let named = |c: &&super::pods::Port| c.name == *name && c.protocol == protocol;
                pod.ports.iter().find(named)?.number
            }
            Value::Number(n) if n.as_i64() != Some(0) => n.as_i64()?,
            _ => p["port"].as_i64()?,
        };
        let mut port = json!({"port": number, "protocol": protocol});
        // A slice names each port, be it with nothing.
        port["name"] = p["name"].as_str().unwrap_or_default().into();
        if let Some(a) = p.get("appProtocol").filter(|a| a.is_string()) {
            port["appProtocol"] = a.clone();
        }
        Some(port)
    };
    service["spec"]["ports"].as_array().into_iter().flatten().filter_map(one).collect()
}

fn reference(pod: &Pod) -> Value {
    json!({"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid})
}

fn labels(service: &Value) -> Map<String, Value> {
    let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    if service["spec"]["clusterIP"] == "None" {
        labels.insert(HEADLESS.into(), "".into());
    }
    labels
}

fn endpoint(world: &World, service: &Value, pod: &Pod) -> Value {
    let ready = publishes_all(service) || (pod.is_ready() && !pod.terminating);
    let mut e = json!({"addresses": [pod.ips[0]], "targetRef": reference(pod),
        "conditions": {"ready": ready, "serving": pod.is_ready(), "terminating": pod.terminating}});
    if !pod.node.is_empty() {
        e["nodeName"] = pod.node.as_str().into();
        let zone = world
            .get(Kind::Node, &format!("/{}", pod.node))
            .map(|n| meta::text(n, "/metadata/labels/topology.kubernetes.io~1zone"));
        if let Some(zone) = zone.filter(|z| !z.is_empty()) {
            e["zone"] = zone.into();
        }
    }
    if !pod.hostname.is_empty() && pod.subdomain == meta::name(service) {
        e["hostname"] = pod.hostname.as_str().into();
    }
    e
}

/// The uid of the pod that an endpoint is.
fn uid_of(endpoint: &Value) -> &str {
    meta::text(endpoint, "/targetRef/uid")
}

/// Keeps each endpoint in the slice it is in, so that one pod's change is one slice's change.
fn slices(world: &World, service: &Value, pods: &[&Pod], plan: &mut Plan) {
    let mut groups: BTreeMap<String, (Vec<Value>, BTreeMap<String, Value>)> = BTreeMap::new();
    for pod in pods {
        let ports = ports(service, pod);
        let key = Value::from(ports.clone()).to_string();
        let group = groups.entry(key).or_insert_with(|| (ports, BTreeMap::new()));
        group.1.insert(pod.uid.clone(), endpoint(world, service, pod));
    }
    let mut old: Vec<&Value> = world
        .owned(Kind::EndpointSlice, meta::uid(service))
        .into_iter()
        .filter(|s| is_ours(s, SLICE_MANAGER, SLICE_CONTROLLER) && !meta::is_terminating(s))
        .collect();
    if groups.is_empty() {
        // A service without pods has one empty slice, so that its readers know.
        groups.insert("[]".into(), (Vec::new(), BTreeMap::new()));
    }
    let only_empty = groups.values().all(|(_, e)| e.is_empty());
    for (ports, mut wanted) in groups.into_values() {
        let (mine, rest): (Vec<&Value>, Vec<&Value>) = old
            .iter()
            .partition(|s| s["ports"].as_array().map_or(ports.is_empty(), |have| *have == ports));
        old = rest;
        let mut kept: Vec<(&Value, Vec<Value>)> = Vec::new();
        for slice in mine {
            let stays = slice["endpoints"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|e| wanted.remove(uid_of(e)))
                .collect();
            kept.push((slice, stays));
        }
        let mut new: Vec<Value> = wanted.into_values().collect();
        for (_, list) in &mut kept {
            let room = SLICE.saturating_sub(list.len()).min(new.len());
            list.extend(new.drain(..room));
        }
        let mut any = false;
        for (slice, list) in kept {
            if list.is_empty() && (any || !only_empty) {
                plan.push(Action::Delete(Target::of(Kind::EndpointSlice, slice), None, None));
                continue;
            }
            any = true;
            change(slice, service, list, plan);
        }
        if only_empty && !any {
            plan.push(Action::Create(Kind::EndpointSlice, made(service, &ports, &[]), None));
        }
        for chunk in new.chunks(SLICE) {
            plan.push(Action::Create(Kind::EndpointSlice, made(service, &ports, chunk), None));
        }
    }
    for slice in old {
        plan.push(Action::Delete(Target::of(Kind::EndpointSlice, slice), None, None));
    }
}

fn slice_labels(service: &Value) -> Map<String, Value> {
    let mut labels = labels(service);
    labels.insert(SERVICE.into(), meta::name(service).into());
    labels.insert(SLICE_MANAGER.into(), SLICE_CONTROLLER.into());
    labels
}

fn made(service: &Value, ports: &[Value], endpoints: &[Value]) -> Value {
    json!({"metadata": {"generateName": format!("{}-", meta::name(service)), "namespace": meta::namespace(service),
        "labels": slice_labels(service), "ownerReferences": [owner_reference(Kind::Service, service)]},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
}

/// Changes a slice if anything in it is not as it should be.
fn change(slice: &Value, service: &Value, endpoints: Vec<Value>, plan: &mut Plan) {
    let mut patch = json!({});
    let empty = |v: &Value| v.as_array().is_none_or(Vec::is_empty);
    let same = slice["endpoints"] == Value::from(endpoints.clone())
        || (empty(&slice["endpoints"]) && endpoints.is_empty());
    if !same {
        patch["endpoints"] = endpoints.into();
    }
    for (k, v) in slice_labels(service) {
        if slice["metadata"]["labels"].get(&k) != Some(&v) {
            patch["metadata"]["labels"][k] = v;
        }
    }
    if patch != json!({}) {
        plan.patch(Kind::EndpointSlice, slice, patch);
    }
}

fn endpoints(service: &Value, existing: Option<&Value>, pods: &[&Pod], plan: &mut Plan) {
    let subsets = subsets(service, pods);
    let mut labels = labels(service);
    labels.insert(MANAGER.into(), CONTROLLER.into());
    let Some(old) = existing else {
        let mut new = json!({"metadata": {"name": meta::name(service), "namespace": meta::namespace(service), "labels": labels}});
        if !subsets.is_empty() {
            new["subsets"] = subsets.into();
        }
        plan.push(Action::Create(Kind::Endpoints, new, None));
        return;
    };
    let mut patch = json!({});
    if template::plain(&old["subsets"]) != template::plain(&Value::from(subsets.clone())) {
        patch["subsets"] = if subsets.is_empty() { Value::Null } else { subsets.into() };
    }
    for (k, v) in labels {
        if old["metadata"]["labels"].get(&k) != Some(&v) {
            patch["metadata"]["labels"][k] = v;
        }
    }
    if patch != json!({}) {
        plan.patch(Kind::Endpoints, old, patch);
    }
}

/// Addresses by their ports, ready ones apart from the others.
fn subsets(service: &Value, pods: &[&Pod]) -> Vec<Value> {
    let mut groups: BTreeMap<String, (Vec<Value>, [Vec<Value>; 2])> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut sorted: Vec<&&Pod> =
        pods.iter().filter(|p| !p.terminating || publishes_all(service)).collect();
    sorted.sort_by(|a, b| a.ips.cmp(&b.ips).then_with(|| a.uid.cmp(&b.uid)));
    for pod in sorted.into_iter().take(LIMIT) {
        let mut ports = ports(service, pod);
        for p in &mut ports {
            if p["name"] == ""
                && let Some(m) = p.as_object_mut()
            {
                m.remove("name");
            }
        }
        let key = Value::from(ports.clone()).to_string();
        if !seen.insert((key.clone(), pod.ips[0].clone())) {
            continue;
        }
        let mut address = json!({"ip": pod.ips[0], "targetRef": reference(pod)});
        if !pod.node.is_empty() {
            address["nodeName"] = pod.node.as_str().into();
        }
        if !pod.hostname.is_empty() && pod.subdomain == meta::name(service) {
            address["hostname"] = pod.hostname.as_str().into();
        }
        let ready = pod.is_ready() || publishes_all(service);
        let group = groups.entry(key).or_insert_with(|| (ports, Default::default()));
        group.1[usize::from(!ready)].push(address);
    }
    let one = |(ports, [ready, not_ready]): (Vec<Value>, [Vec<Value>; 2])| {
        let mut s = json!({});
        for (field, list) in
            [("addresses", ready), ("notReadyAddresses", not_ready), ("ports", ports)]
        {
            if !list.is_empty() {
                s[field] = list.into();
            }
        }
        s
    };
    groups.into_values().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::pods::{Phase, Port};
    use super::*;

    fn service() -> Value {
        json!({"metadata": {"name": "web", "namespace": "d", "uid": "s", "labels": {"x": "y"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]}})
    }

    fn pod(n: u8, ready: bool) -> Pod {
        Pod {
            namespace: "d".into(),
            name: format!("p{n}"),
            uid: format!("u{n}"),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ips: vec![format!("10.0.0.{n}")],
            node: "edge".into(),
            phase: Phase::Running,
            ports: vec![Port { name: "http".into(), number: 8080, protocol: "TCP".into() }],
            ready_since: ready.then_some(jiff::Timestamp::UNIX_EPOCH),
            ..Pod::default()
        }
    }

    fn plan(objects: &[(Kind, Value)], pods: Vec<Pod>) -> Plan {
        let (mut world, mut touched) = (World::default(), BTreeSet::new());
        objects.iter().for_each(|(k, o)| world.put(*k, o.clone(), &mut touched));
        pods.into_iter().for_each(|p| world.put_pod(p, &mut touched));
        let cx = Context { now: jiff::Timestamp::UNIX_EPOCH, failed: None };
        reconcile(&world, "d/web", &cx)
    }

    fn made_of(kind: Kind, plan: &Plan) -> Vec<Value> {
        let mut out = Vec::new();
        for a in &plan.actions {
            if let Action::Create(k, o, _) = a
                && *k == kind
            {
                out.push(o.clone());
            }
        }
        out
    }

    #[test]
    fn a_slice_has_the_pods_with_their_ports_and_whether_they_are_ready() {
        let p = plan(&[(Kind::Service, service())], vec![pod(1, true), pod(2, false)]);
        let slice = &made_of(Kind::EndpointSlice, &p)[0];
        assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
        assert_eq!(
            slice["endpoints"][1]["conditions"],
            json!({"ready": false, "serving": false, "terminating": false})
        );
        assert_eq!(
            slice["metadata"]["labels"],
            json!({"x": "y", SERVICE: "web", SLICE_MANAGER: SLICE_CONTROLLER})
        );
        let e = &made_of(Kind::Endpoints, &p)[0];
        assert_eq!(e["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
        assert_eq!(e["subsets"][0]["notReadyAddresses"][0]["ip"], "10.0.0.2");
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice_and_one_without_a_selector_is_left_alone() {
        let p = plan(&[(Kind::Service, service())], vec![]);
        assert_eq!(made_of(Kind::EndpointSlice, &p)[0]["endpoints"], json!([]));
        let mut s = service();
        s["spec"]["selector"] = Value::Null;
        assert_eq!(plan(&[(Kind::Service, s)], vec![pod(1, true)]), Plan::default());
    }

    #[test]
    fn a_hundred_and_one_pods_need_two_slices_and_a_change_touches_one() {
        let pods: Vec<Pod> = (1..=101).map(|n| pod(n, true)).collect();
        let p = plan(&[(Kind::Service, service())], pods.clone());
        let mut slices = made_of(Kind::EndpointSlice, &p);
        assert_eq!(slices.len(), 2);
        let mut objects = vec![
            (Kind::Service, service()),
            (Kind::Endpoints, made_of(Kind::Endpoints, &p)[0].clone()),
        ];
        for (i, s) in slices.iter_mut().enumerate() {
            s["metadata"]["name"] = format!("web-{i}").into();
            objects.push((Kind::EndpointSlice, s.clone()));
        }
        assert_eq!(plan(&objects, pods.clone()), Plan::default());
        let mut fewer = pods;
        fewer.remove(0);
        let p = plan(&objects, fewer);
        let patched: Vec<&Target> = p
            .actions
            .iter()
            .filter_map(|a| match a {
                Action::Patch(t, ..) if t.kind == Kind::EndpointSlice => Some(t),
                _ => None,
            })
            .collect();
        assert_eq!(patched.len(), 1);
    }

    #[test]
    fn endpoints_go_with_their_service_but_not_those_of_others() {
        let ours =
            json!({"metadata": {"name": "web", "namespace": "d", "labels": {MANAGER: CONTROLLER}}});
        assert_eq!(plan(&[(Kind::Endpoints, ours)], vec![]).actions.len(), 1);
        let other = json!({"metadata": {"name": "web", "namespace": "d"}});
        assert_eq!(plan(&[(Kind::Endpoints, other)], vec![]), Plan::default());
    }
}

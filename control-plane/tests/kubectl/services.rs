//! Addresses and ports that services get, and the service of the API itself.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::BTreeSet;

use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::support::Cluster;
use crate::wire::Wire;

const SERVICES: &str = "/api/v1/namespaces/default/services";
/// Services that are made at once.
const MANY: usize = 64;

/// Makes services all at once, `s0`, `s1` and so on: the codes and bodies of the answers.
async fn at_once(wire: &Wire, spec: &Value) -> Vec<(u16, Value)> {
    let sender = wire.many().await;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..MANY {
        let body = json!({"metadata": {"name": format!("s{n}")}, "spec": spec}).to_string();
        let request = Request::post(format!("https://127.0.0.1{SERVICES}"))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        let mut sender = sender.clone();
        asking.spawn(async move {
            sender.ready().await.unwrap();
            let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (parts.status.as_u16(), serde_json::from_slice(&body).unwrap())
        });
    }
    asking.join_all().await
}

// "Service ClusterIP allocation": every address and port on nodes is one service's alone.
// https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/ and
// https://kubernetes.io/docs/concepts/services-networking/service/#nodeport-custom-port
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_services_made_at_once_one_gets_what_all_ask_for_and_each_draws_its_own() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let address = json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]});
    for (spec, why) in [
        (port, "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"),
        (
            address,
            "spec.clusterIPs: Invalid value: []string{\"10.96.7.7\"}: failed to allocate IP 10.96.7.7: provided IP is already allocated",
        ),
    ] {
        let answers = at_once(&wire, &spec).await;
        let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(code, _)| *code == 201);
        assert_eq!(made.len(), 1, "{made:?}");
        for (code, status) in refused {
            assert_eq!(*code, 422);
            let said = status["message"].as_str().unwrap();
            assert!(said.ends_with(&format!("is invalid: {why}")), "{said}");
        }
        c.ok(&["delete", "services", "-l", "!component"]).await;
        // What was let go of can be had again.
        let again = json!({"metadata": {"name": "again"}, "spec": spec}).to_string();
        assert_eq!(wire.post(SERVICES, again).await.code, 201);
        c.ok(&["delete", "services", "-l", "!component"]).await;
    }
    let drawn = json!({"type": "NodePort", "ports": [{"port": 80}]});
    let answers = at_once(&wire, &drawn).await;
    let all = |pointer: &str| -> BTreeSet<String> {
        answers.iter().map(|(_, s)| s.pointer(pointer).unwrap().to_string()).collect()
    };
    assert_eq!(all("/spec/ports/0/nodePort").len(), MANY);
    assert_eq!(all("/spec/clusterIP").len(), MANY);
}

// `PortAllocationOperation` of Kubernetes (pkg/registry/core/service/portallocator/operation.go): a dry
// run asks only whether a port is another service's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_of_a_service_takes_any_port_that_is_free_and_keeps_none() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let service = |port: u16| {
        json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}})
            .to_string()
    };
    let dry = format!("{SERVICES}?dryRun=All");
    let outside = wire.post(&dry, service(80)).await;
    assert_eq!(
        (outside.code.as_u16(), &outside.value()["spec"]["ports"][0]["nodePort"]),
        (201, &json!(80))
    );
    assert_eq!(wire.post(SERVICES, service(80)).await.code, 422);
    assert_eq!(wire.post(&dry, service(30080)).await.code, 201);
    assert_eq!(wire.post(SERVICES, service(30080)).await.code, 201);
    let mut taken: Value = serde_json::from_str(&service(30080)).unwrap();
    taken["metadata"]["name"] = "t".into();
    assert_eq!(wire.post(&dry, taken.to_string()).await.code, 422);
}

// What a kube-apiserver keeps of itself: pkg/controlplane/reconcilers of Kubernetes (`EndpointsAdapter`), and
// `kubectl get endpoints,endpointslices kubernetes -o yaml` of any cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_says_by_which_address_others_reach_it_and_nothing_if_none_do() {
    let c = Cluster::reached_at("192.0.2.10").await;
    let wire = Wire::of(&c);
    let port = c.running.address().port();
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    c.ok(&["wait", "--for=create", "endpoints/kubernetes", "--timeout=20s"]).await;
    c.ok(&["wait", "--for=create", "endpointslice/kubernetes", "--timeout=20s"]).await;
    let endpoints = wire.get("/api/v1/namespaces/default/endpoints/kubernetes").await.value();
    assert_eq!(
        endpoints["subsets"],
        json!([{"addresses": [{"ip": "192.0.2.10"}], "ports": ports}])
    );
    assert_eq!(
        endpoints["metadata"]["labels"],
        json!({"endpointslice.kubernetes.io/skip-mirror": "true"})
    );
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = wire.get(&format!("{slices}/kubernetes")).await.value();
    assert_eq!(
        (&slice["addressType"], &slice["ports"], &slice["endpoints"]),
        (
            &json!("IPv4"),
            &ports,
            &json!([{"addresses": ["192.0.2.10"], "conditions": {"ready": true}}])
        )
    );
    assert_eq!(slice["metadata"]["labels"], json!({"kubernetes.io/service-name": "kubernetes"}));
    // Who deletes or changes them has them back, and there is no mirror of them.
    c.ok(&["delete", "endpointslice", "kubernetes"]).await;
    let other =
        json!([{"op": "replace", "path": "/subsets/0/addresses/0/ip", "value": "192.0.2.11"}]);
    c.ok(&["patch", "endpoints", "kubernetes", "--type=json", "-p", &other.to_string()]).await;
    c.becomes(
        &["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[0].addresses[0].ip}"],
        "192.0.2.10",
    )
    .await;
    c.becomes(
        &["get", "endpointslices", "-o", "name"],
        "endpointslice.discovery.k8s.io/kubernetes",
    )
    .await;
    // On loopback, where only this machine reaches it, they go.
    let c = c.restart().await;
    let gone = [
        "wait",
        "--for=delete",
        "endpoints/kubernetes",
        "endpointslice/kubernetes",
        "--timeout=20s",
    ];
    c.ok(&gone).await;
    c.ok(&["get", "service", "kubernetes"]).await;
}

//! What many connected edges cost the cloud.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use tests::containerd::BUSYBOX;
use tests::host::CLOUD_ADDRESS;

use super::{Group, MAIN};
use crate::client::{Inside, WATCHING};
use crate::fake_edge::{Cloud, FakeEdge};
use crate::page::{Figure, Unit, median};
use crate::site::{PATIENCE, Site, allocated, memory};

pub(super) const GROUP: Group = Group { name: "fleet", title: MAIN, figures, inside: INSIDE };

/// The certificate service takes so many requests of one address at once.
const EDGES: usize = 150;
const PODS: usize = 5;
/// Longer than is looked.
const STAY: Duration = Duration::from_secs(53);

fn figures() -> Vec<Figure> {
    let site = Site::new(GROUP.name);
    let before = median(&allocated(site.cloudcore())).unwrap();
    let token = site.token();
    let (mut after, mut whole) = (Vec::new(), Vec::new());
    site.seconds_until(&["connect", &token], || {
        after = allocated(site.cloudcore());
        whole = memory(site.cloudcore());
    });
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let each = |mib: f64| (mib - before) * 1024.0 / EDGES as f64;
    vec![
        Figure {
            what: "cloudcore memory, 151 connected nodes with 5 pods and 5 configmaps each",
            original: "",
            unit: Unit::MiB,
            at_most: 50.0,
            values: whole,
            method: "VmRSS, ten looks a second apart, after every node has acknowledged what is its; 150 of \
                     them are sockets that only acknowledge",
        },
        Figure {
            what: "cloudcore memory for each further node",
            original: "",
            unit: Unit::KiB,
            at_most: 200.0,
            values: after.into_iter().map(each).collect(),
            method: "RssAnon then, less its median with one node, divided by 150",
        },
    ]
}

const INSIDE: Inside =
    |client, scene| async move { connect(&client, scene.text(0)).await }.boxed_local();

async fn connect(client: &Client, token: &str) -> Vec<f64> {
    let at = |port| SocketAddr::new(CLOUD_ADDRESS.parse().unwrap(), port);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kubeedge");
    let ca = secrets.get("casecret").await.unwrap().data.unwrap().remove("cadata").unwrap().0;
    let cloud =
        Cloud { hub: at(10000), bootstrap: at(10002), ca: ca.into(), token: token.to_owned() };
    let heard = Arc::new(AtomicUsize::new(0));
    let mut edges = tokio::task::JoinSet::new();
    for i in 0..EDGES {
        let name = format!("fake-{i}");
        prepare(client, &name).await;
        let edge = FakeEdge::join(&cloud, &name).await;
        let heard = heard.clone();
        edges.spawn(edge.obey(move || {
            heard.fetch_add(1, Ordering::Relaxed);
        }));
    }
    let begun = Instant::now();
    // A pod and its configmap; both may come more than once.
    while heard.load(Ordering::Relaxed) < EDGES * PODS * 2 {
        assert!(begun.elapsed() < PATIENCE, "only {heard:?} objects have arrived");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{WATCHING}");
    let lost = tokio::time::timeout(STAY, edges.join_next()).await;
    assert!(lost.is_err(), "an edge has lost its connection");
    vec![0.0]
}

/// The node, and what it is to run.
async fn prepare(client: &Client, name: &str) {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": name,
        "labels": {"node-role.kubernetes.io/edge": ""}}}))
    .unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &node).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    futures::stream::iter(0..PODS)
        .for_each_concurrent(PODS, async |i| {
            let own = format!("{name}-{i}");
            let map = json!({"metadata": {"name": own}, "data": {"text": "x".repeat(500)}});
            let map = serde_json::from_value(map).unwrap();
            maps.create(&PostParams::default(), &map).await.unwrap();
            let mut pod = crate::client::pod(&own, name, BUSYBOX);
            let volume = json!([{"name": "c", "configMap": {"name": own}}]);
            pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volume).unwrap();
            pods.create(&PostParams::default(), &pod).await.unwrap();
        })
        .await;
}

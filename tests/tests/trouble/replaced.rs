//! The edge's database is not the one that it was.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::cluster::{Cluster, PATIENCE, pod};
use tests::hops::Hops;
use tests::wait::eventually;

const ANNOTATION: &str = "edge.kubeedge.io/store-id";

/// A node with two pods and a configmap, all settled: the cloud knows in which database they are.
async fn settled() -> Cluster {
    let cluster = Cluster::start(&["edge-1"]).await;
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "c"}, "data": {"v": "1"}})).await;
    for (name, uses) in [("a", &["c"][..]), ("b", &[])] {
        cluster.create::<Pod>(pod(name, "edge-1", uses)).await;
        cluster.until_phase(name, "Running").await;
    }
    store_id(&cluster, None).await;
    eventually("the records", PATIENCE, async || {
        let records = versions(&cluster).await?;
        if records.len() == 3 && !records.iter().any(|v| v == "0") {
            return Ok(());
        }
        Err(format!("{records:?}"))
    })
    .await;
    cluster
}

async fn versions(cluster: &Cluster) -> Result<Vec<String>, String> {
    let resource = kube::core::ApiResource {
        group: "reliablesyncs.kubeedge.io".into(),
        version: "v1alpha1".into(),
        api_version: "reliablesyncs.kubeedge.io/v1alpha1".into(),
        kind: "ObjectSync".into(),
        plural: "objectsyncs".into(),
    };
    let api: kube::Api<kube::core::DynamicObject> =
        kube::Api::all_with(cluster.client.clone(), &resource);
    let list = api.list(&kube::api::ListParams::default()).await.map_err(|e| e.to_string())?;
    let version = |o: &kube::core::DynamicObject| {
        o.data["status"]["objectResourceVersion"].as_str().unwrap_or("0").to_owned()
    };
    Ok(list.items.iter().map(version).collect())
}

/// The id that the Node object has, once it is another one than `not`.
async fn store_id(cluster: &Cluster, not: Option<&str>) -> String {
    eventually("the id of the node's database", PATIENCE, async || {
        let node = cluster.nodes().get("edge-1").await.map_err(|e| e.to_string())?;
        let mut annotations = node.metadata.annotations.unwrap_or_default();
        match annotations.remove(ANNOTATION) {
            Some(id) if Some(id.as_str()) != not => Ok(id),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .0
}

async fn all_stored(cluster: &Cluster) {
    for key in ["default/pod/a", "default/pod/b", "default/configmap/c"] {
        cluster.edge("edge-1").until_stored(key, |o| o.is_some()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_lost_its_database_and_kept_its_certificate_is_sent_everything_again() {
    let mut cluster = settled().await;
    let old = store_id(&cluster, None).await;
    let edge = cluster.edge_mut("edge-1");
    edge.stop().await;
    edge.lose_database();
    edge.start().await;
    all_stored(&cluster).await;
    assert_ne!(store_id(&cluster, Some(&old)).await, old);
    // Its pods never noticed.
    let edge = cluster.edge("edge-1");
    let calls = edge.runtime.calls();
    let starts: Vec<_> = calls.iter().filter(|c| c.starts_with("start_container")).collect();
    assert_eq!(starts, ["start_container a", "start_container b"], "{calls:?}");
    assert!(!calls.iter().any(|c| c.starts_with("stop")), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pod_reads_a_configmap_as_it_is_now_though_nobody_used_it_when_it_changed() {
    let cluster = settled().await;
    cluster.delete::<Pod>("a", 0).await;
    let edge = cluster.edge("edge-1");
    edge.until_stored("default/pod/a", |o| o.is_none()).await;
    cluster.merge::<ConfigMap>("c", json!({"data": {"v": "2"}})).await;
    cluster.create::<Pod>(pod("later", "edge-1", &["c"])).await;
    cluster.until_phase("later", "Running").await;
    edge.until_stored("default/configmap/c", |o| o.is_some_and(|o| o["data"]["v"] == "2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloudcore_notices_it_also_when_it_was_away_itself() {
    let mut cluster = settled().await;
    let edge = cluster.edge_mut("edge-1");
    edge.stop().await;
    edge.lose_database();
    cluster.stop_cloudcore().await;
    cluster.start_cloudcore().await;
    cluster.edge_mut("edge-1").start().await;
    all_stored(&cluster).await;
}

#[tokio::test]
async fn an_edge_with_the_database_that_it_had_is_sent_nothing_again() {
    let (hops, _guard) = Hops::capture();
    let mut cluster = settled().await;
    cluster.edge_mut("edge-1").stop().await;
    cluster.stop_cloudcore().await;
    hops.clear();
    cluster.start_cloudcore().await;
    cluster.edge_mut("edge-1").start().await;
    // Something new, sent after everything that was found missing when the node connected.
    cluster.create::<Pod>(pod("new", "edge-1", &[])).await;
    cluster.until_phase("new", "Running").await;
    let down = hops.sent_down();
    assert!(down.iter().any(|m| m == "default/pod/new"), "{down:?}");
    // A pod's version has moved on with its status, and a cloudcore that starts cannot tell that from
    // a change; a configmap's has not.
    assert!(!down.iter().any(|m| m == "default/configmap/c"), "it was sent again: {down:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_that_does_not_know_the_database_sends_everything_once() {
    let mut cluster = settled().await;
    // As a KubeEdge cloudcore, which knows nothing of it, would have left the node.
    cluster.edge_mut("edge-1").stop().await;
    cluster.stop_cloudcore().await;
    let none = Patch::Merge(json!({"metadata": {"annotations": {ANNOTATION: null}}}));
    cluster.nodes().patch("edge-1", &PatchParams::default(), &none).await.unwrap();
    cluster.edge("edge-1").lose_database();
    cluster.start_cloudcore().await;
    cluster.edge_mut("edge-1").start().await;
    all_stored(&cluster).await;
    store_id(&cluster, None).await;
}

//! From the API server to the edge.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::json;
use tests::cluster::{PATIENCE, pod};
use tests::hops::Hops;

use super::{cluster, with_pod};

const WEB: &str = "default/pod/web";

async fn until_told(hops: &Hops) {
    tests::wait::eventually("the worker to be told", PATIENCE, async || {
        match hops.count(WEB, "edged.worker") {
            0 => Err(format!("{:?}", hops.stations(WEB))),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_pod_takes_three_hops_to_its_worker() {
    let (_cluster, hops, _guard) = with_pod().await;
    let stations = hops.stations(WEB);
    let down: Vec<_> = stations.iter().take_while(|s| *s != "edgehub.outbox").collect();
    assert_eq!(down, ["cloudhub.outbox", "cloudhub.socket", "edged.wanted"], "of {stations:?}");
    assert_eq!(hops.count(WEB, "cloudhub.socket"), 1, "it was sent more than once");
}

#[tokio::test]
async fn a_change_of_a_running_pod_takes_four_hops_to_its_worker_the_last_where_the_newest_wins() {
    let (cluster, hops, _guard) = with_pod().await;
    hops.clear();
    cluster.merge::<Pod>("web", json!({"metadata": {"annotations": {"v": "2"}}})).await;
    cluster
        .edge("edge-1")
        .until_stored(WEB, |pod| pod.is_some_and(|p| p["metadata"]["annotations"]["v"] == "2"))
        .await;
    until_told(&hops).await;
    let stations: Vec<_> =
        hops.stations(WEB).into_iter().filter(|s| !s.starts_with("edgehub")).collect();
    let down: Vec<_> = stations.iter().take_while(|s| *s != "edgecontroller.upstream").collect();
    assert_eq!(down, ["cloudhub.outbox", "cloudhub.socket", "edged.wanted", "edged.worker"]);
}

#[tokio::test]
async fn configmaps_and_secrets_take_two_hops_to_the_disk_and_two_more_to_the_workers_that_use_them()
 {
    let (cluster, hops, _guard) = cluster().await;
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "c"}, "data": {"v": "1"}})).await;
    cluster.create::<Secret>(json!({"metadata": {"name": "s"}, "stringData": {"v": "1"}})).await;
    let mut web = pod("web", "edge-1", &["c"]);
    web["spec"]["imagePullSecrets"] = json!([{"name": "s"}]);
    cluster.create::<Pod>(web).await;
    cluster.until_phase("web", "Running").await;
    let edge = cluster.edge("edge-1");
    for key in ["default/configmap/c", "default/secret/s"] {
        edge.until_stored(key, |object| object.is_some()).await;
    }
    // They are on the disk before the last of their hops; what comes after them has passed them.
    hops.clear();
    cluster.merge::<Pod>("web", json!({"metadata": {"annotations": {"v": "2"}}})).await;
    until_told(&hops).await;
    hops.clear();
    cluster.merge::<ConfigMap>("c", json!({"data": {"v": "2"}})).await;
    cluster.merge::<Secret>("s", json!({"stringData": {"v": "2"}})).await;
    let way = ["cloudhub.outbox", "cloudhub.socket", "edged.wanted", "edged.worker"];
    for (key, new) in [("default/configmap/c", "2"), ("default/secret/s", "Mg==")] {
        edge.until_stored(key, |object| object.is_some_and(|o| o["data"]["v"] == new)).await;
        tests::wait::eventually(&format!("{key} to reach the worker"), PATIENCE, async || {
            let stations = hops.stations(key);
            if stations.len() >= way.len() { Ok(()) } else { Err(format!("{stations:?}")) }
        })
        .await;
        assert_eq!(hops.stations(key), way, "{key}");
    }
}

#[tokio::test]
async fn a_deletion_takes_as_many_hops_as_a_creation() {
    let (cluster, hops, _guard) = with_pod().await;
    hops.clear();
    cluster.delete::<Pod>("web", 0).await;
    cluster.edge("edge-1").until_stored(WEB, |pod| pod.is_none()).await;
    let stations = hops.stations(WEB);
    assert_eq!(stations[..2], ["cloudhub.outbox", "cloudhub.socket"], "{stations:?}");
    assert!(stations.iter().filter(|s| s.starts_with("edged")).count() <= 1, "{stations:?}");
}

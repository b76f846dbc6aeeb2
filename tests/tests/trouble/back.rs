//! After every kind of cut the node comes back by itself, and what happened meanwhile is made good.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tests::cluster::{Cluster, PATIENCE, pod};
use tests::link::End;
use tests::wait::eventually;

/// Far above the second that it takes; the shortest that cannot be missed on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A cluster with a node `edge-1` and on it a pod `web` that runs.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(&["edge-1"]).await;
    cluster.create::<Pod>(pod("web", "edge-1", &[])).await;
    cluster.until_phase("web", "Running").await;
    cluster
}

/// What shows that the node is back: a new object arrives, and the lease is renewed.
async fn is_back(cluster: &Cluster, mark: &str) {
    let before = cluster.lease("edge-1").await.spec.unwrap().renew_time;
    cluster.create::<Pod>(pod(mark, "edge-1", &[])).await;
    cluster.until_phase(mark, "Running").await;
    eventually("the lease to be renewed", PATIENCE, async || {
        let now = cluster.lease("edge-1").await.spec.unwrap().renew_time;
        if now > before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    cluster.until_ready("edge-1").await;
    let starts = cluster.edge("edge-1").runtime.calls();
    let starts = starts.iter().filter(|c| *c == "start_container web").count();
    assert_eq!(starts, 1, "a container was restarted because of a cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_half_open_cut_the_node_is_back_and_no_container_restarts() {
    let cluster = cluster().await;
    let edge = cluster.edge("edge-1");
    let mut opened = edge.link.opened();
    let before = *opened.borrow_and_update();
    edge.link.half_open();
    tokio::time::timeout(SOON, opened.wait_for(|n| *n > before)).await.unwrap().unwrap();
    is_back(&cluster, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_goes_away_and_comes_back_is_dialled_again() {
    let cluster = cluster().await;
    let edge = cluster.edge("edge-1");
    edge.link.go_away();
    cluster.create::<Pod>(pod("meanwhile", "edge-1", &[])).await;
    edge.link.come_back();
    cluster.until_phase("meanwhile", "Running").await;
    edge.link.swallow();
    let mut opened = edge.link.opened();
    let before = *opened.borrow_and_update();
    tokio::time::timeout(SOON, opened.wait_for(|n| *n > before)).await.unwrap().unwrap();
    edge.link.come_back();
    edge.link.cut(End::Reset);
    is_back(&cluster, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_torn_line_still_brings_everything() {
    let cluster = cluster().await;
    let edge = cluster.edge("edge-1");
    edge.link.slow(Duration::from_millis(40));
    edge.link.cut(End::Close);
    let large = "x".repeat(200_000);
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "large"}, "data": {"v": large}})).await;
    edge.link.cut_after(tests::link::Way::Down, 70_000, End::Reset);
    cluster.create::<Pod>(pod("reader", "edge-1", &["large"])).await;
    cluster.until_phase("reader", "Running").await;
    let whole = |o: Option<&serde_json::Value>| {
        o.and_then(|o| o["data"]["v"].as_str()).is_some_and(|v| v.len() == 200_000)
    };
    edge.until_stored("default/configmap/large", whole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloudcore_that_was_away_finds_its_nodes_and_they_hear_what_they_missed() {
    let mut cluster = cluster().await;
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "c"}, "data": {"v": "1"}})).await;
    cluster.create::<Pod>(pod("reader", "edge-1", &["c"])).await;
    cluster.until_phase("reader", "Running").await;
    let edge = cluster.edge("edge-1");
    edge.until_stored("default/configmap/c", |o| o.is_some()).await;
    cluster.stop_cloudcore().await;
    cluster.merge::<ConfigMap>("c", json!({"data": {"v": "2"}})).await;
    cluster.delete::<Pod>("reader", 0).await;
    cluster.start_cloudcore().await;
    let edge = cluster.edge("edge-1");
    edge.until_stored("default/pod/reader", |o| o.is_none()).await;
    is_back(&cluster, "after").await;
    let specs = cluster.edge("edge-1").runtime.running();
    assert!(!specs.iter().any(|s| s.name == "reader"), "a deleted pod still runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloudcore_with_a_new_certificate_of_the_same_ca_is_trusted() {
    let mut cluster = cluster().await;
    cluster.stop_cloudcore().await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "kubeedge");
    let old = secrets.get("cloudcoresecret").await.unwrap().data;
    secrets.delete("cloudcoresecret", &DeleteParams::default()).await.unwrap();
    cluster.start_cloudcore().await;
    assert_ne!(secrets.get("cloudcoresecret").await.unwrap().data, old, "it is the old one");
    is_back(&cluster, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_goes_away_and_returns_finds_cloudcore_at_work() {
    let mut cluster = cluster().await;
    cluster.stop_api_server().await;
    // A report that cannot be delivered now.
    assert!(cluster.edge("edge-1").runtime.exit("web", "web", 7));
    eventually("the restart at the edge", PATIENCE, async || {
        let running = cluster.edge("edge-1").runtime.running();
        if running.iter().any(|c| c.attempt == 1) { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    cluster.start_api_server().await;
    let pods = cluster.objects::<Pod>();
    eventually("the report", PATIENCE, async || {
        let pod = pods.get("web").await.map_err(|e| e.to_string())?;
        let containers = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
        match containers.first() {
            Some(c) if c.restart_count == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.create::<Pod>(pod("new", "edge-1", &[])).await;
    cluster.until_phase("new", "Running").await;
    cluster.delete::<Pod>("web", 1).await;
    cluster.until_gone::<Pod>("web").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_deleted_during_a_cut_are_gone_within_seconds_of_the_reconnect() {
    let cluster = cluster().await;
    cluster.create::<Pod>(pod("forced", "edge-1", &[])).await;
    cluster.until_phase("forced", "Running").await;
    let edge = cluster.edge("edge-1");
    edge.link.go_away();
    cluster.delete::<Pod>("forced", 0).await;
    cluster.until_gone::<Pod>("forced").await;
    cluster.delete::<Pod>("web", 1).await;
    edge.link.come_back();
    let took = cluster.until_gone::<Pod>("web").await;
    let (_, forced) = eventually("both containers to end", PATIENCE, async || {
        let running = edge.runtime.running();
        if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    println!("gone after the reconnect: normally {took:?}, and then forced {forced:?}");
    assert!(took + forced < SOON);
}

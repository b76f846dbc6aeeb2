//! From the edge to the API server.

use tests::cluster::PATIENCE;
use tests::hops::Hops;
use tests::wait::eventually;

use super::{cluster, with_pod};

fn up(hops: &Hops, msg: &str) -> Vec<String> {
    let stations = hops.stations(msg).into_iter();
    stations.filter(|s| s.starts_with("edgehub") || s.starts_with("edgecontroller")).collect()
}

#[tokio::test]
async fn a_pods_status_takes_three_hops_to_the_api_server() {
    let (cluster, hops, _guard) = with_pod().await;
    let way = ["edgehub.outbox", "edgehub.socket", "edgecontroller.upstream"];
    assert_eq!(up(&hops, "default/pod/web"), way);
    hops.clear();
    assert!(cluster.edge("edge-1").runtime.exit("web", "web", 3));
    let pods = cluster.objects::<k8s_openapi::api::core::v1::Pod>();
    eventually("the restart to be known", PATIENCE, async || {
        let pod = pods.get("web").await.map_err(|e| e.to_string())?;
        let containers = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
        match containers.first().map(|c| c.restart_count) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(up(&hops, "default/pod/web"), way);
}

#[tokio::test]
async fn a_lease_and_a_nodes_status_take_three_hops_to_the_api_server() {
    let (hops, _guard) = Hops::capture();
    let cluster = tests::cluster::Cluster::start(&["edge-1"]).await;
    let way = ["edgehub.requests", "edgehub.socket", "edgecontroller.upstream"];
    eventually("a lease", PATIENCE, async || {
        let stations = up(&hops, "null/lease/edge-1");
        if stations.len() >= way.len() { Ok(()) } else { Err(format!("{stations:?}")) }
    })
    .await;
    assert_eq!(up(&hops, "null/lease/edge-1"), way);
    assert_eq!(up(&hops, "null/node/edge-1"), way);
    drop(cluster);
}

#[tokio::test]
async fn a_deleted_pods_end_takes_three_hops_to_the_api_server() {
    let (cluster, hops, _guard) = cluster().await;
    let pod = tests::cluster::pod("short", "edge-1", &[]);
    cluster.create::<k8s_openapi::api::core::v1::Pod>(pod).await;
    cluster.until_phase("short", "Running").await;
    hops.clear();
    cluster.delete::<k8s_openapi::api::core::v1::Pod>("short", 1).await;
    cluster.until_gone::<k8s_openapi::api::core::v1::Pod>("short").await;
    let way = ["edgehub.outbox", "edgehub.socket", "edgecontroller.upstream"];
    assert_eq!(up(&hops, "default/pod/short"), way);
}

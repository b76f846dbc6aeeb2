//! Pods from the cloud to a container runtime, and what is said of them, with and without a link.

use std::path::Path;
use std::time::Duration;

use api::wire::downstream::PushOp;
use api::wire::upstream::{Request, Upstream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::pki::Pki;
use crate::support::{Cloud, Edge, PATIENCE, State, config, deleted, pod, pushed, text};

const LOCAL: [&str; 1] = ["127.0.0.1"];

fn phase<'a>(state: &'a State, name: &str) -> &'a str {
    state.pods.get(name).map_or("", |pod| text(&pod["status"]["phase"]))
}

fn restarts(state: &State, name: &str) -> u64 {
    let status = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    state.pods.get(name).and_then(status).unwrap_or(0)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// A cloud, an edge and a running pod `web`.
async fn running(folder: &Path) -> (Cloud, Edge) {
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, folder).await;
    edge.ready().await;
    cloud.create(&pod("web"));
    cloud.until("the pod runs", |s| phase(s, "web") == "Running").await;
    (cloud, edge)
}

#[tokio::test]
async fn a_pod_runs_and_its_status_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (cloud, edge) = running(dir.path()).await;
    assert_eq!(edge.runtime.running().len(), 1);
    let lists = cloud.state().pods["web"]["status"]["podIPs"].clone();
    assert_eq!(lists.as_array().and_then(|l| l.last()), Some(&json!({"$patch": "replace"})));
    edge.stop().await;
}

#[tokio::test]
async fn a_status_made_offline_reaches_the_cloud_after_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cloud, edge) = running(dir.path()).await;
    cloud.stop().await;
    assert!(edge.runtime.exit("web", "c", 3));
    until("the container runs again", || edge.runtime.running().iter().any(|c| c.attempt == 1))
        .await;
    cloud.start_again().await;
    cloud.until("the restart is known", |s| restarts(s, "web") == 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_pod_deleted_normally_is_reported_ended_and_then_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (cloud, edge) = running(dir.path()).await;
    let mut deleting = cloud.state().pods["web"].clone();
    deleting["metadata"]["deletionTimestamp"] = "2026-09-21T14:15:00Z".into();
    deleting["metadata"]["deletionGracePeriodSeconds"] = 1.into();
    deleting["metadata"]["resourceVersion"] = "100".into();
    cloud.push(pushed(PushOp::Update, &deleting));
    let removed = |up: &Upstream| matches!(up, Upstream::Request(Request::DeletePod { .. }));
    cloud.until("the node lets the pod go", |s| s.count(removed) == 1).await;
    assert!(edge.runtime.running().is_empty());
    {
        let state = cloud.state();
        let last = state.heard.iter().rposition(|up| {
            matches!(up, Upstream::Request(Request::PatchPod { key, .. }) if &*key.name == "web")
        });
        let end = state.heard.iter().position(removed);
        assert!(last < end, "no status follows the removal");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_pod_deleted_by_force_while_the_edge_is_cut_off_is_gone_soon_after() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cloud, edge) = running(dir.path()).await;
    cloud.stop().await;
    let gone = cloud.state().pods.remove("web").unwrap();
    let links = cloud.state().links;
    cloud.start_again().await;
    cloud.until("a new link", |s| s.links > links).await;
    cloud.push(deleted(&gone));
    let start = Instant::now();
    until("nothing runs", || edge.runtime.running().is_empty()).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    edge.stop().await;
}

#[tokio::test]
async fn a_restart_while_cut_off_starts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cloud, edge) = running(dir.path()).await;
    let runtime = edge.runtime.clone();
    cloud.stop().await;
    edge.stop().await;
    let edge = Edge::start_on(runtime.clone(), config(&cloud, dir.path()), dir.path()).await;
    // The cloud is away, so whatever edged does, it does from the store.
    runtime.exit("web", "c", 0);
    until("edged minds the pod", || runtime.running().iter().any(|c| c.attempt == 1)).await;
    assert_eq!(runtime.count().0, 1, "one sandbox");
    cloud.start_again().await;
    cloud.until("the restart is known", |s| restarts(s, "web") == 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_configmap_is_asked_for_once_by_many_pods_and_kept_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    let map = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "settings", "namespace": "default", "uid": "m1", "resourceVersion": "7"},
        "data": {"colour": "green"},
    });
    cloud.state().config_maps.insert("settings".into(), map);
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
        cloud.create(&pod);
    }
    cloud.until("all run", |s| names.iter().all(|n| phase(s, n) == "Running")).await;
    let asked = |up: &Upstream| matches!(up, Upstream::Request(Request::Query(key)) if &*key.name == "settings");
    assert!(cloud.state().count(asked) < names.len());
    let green = ("colour".to_owned(), "green".to_owned());
    assert!(edge.runtime.running().iter().all(|c| c.env.contains(&green)));
    // The next start has it without the cloud.
    cloud.stop().await;
    edge.stop().await;
    let edge = Edge::start_with(config(&cloud, dir.path()), dir.path()).await;
    let runtime = &edge.runtime;
    until("all run again", || runtime.running().len() == names.len()).await;
    assert!(runtime.running().iter().all(|c| c.env.contains(&green)));
    edge.stop().await;
}

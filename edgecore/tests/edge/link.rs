//! edgecore against a cloud of our making: link, registration, lease, store.

use std::time::Duration;

use crate::support::pki::Pki;
use crate::support::{self, Cloud, Edge, Log, config, pushed};
use api::raw::RawJson;
use api::wire::downstream::{Downstream, PushOp};
use api::wire::upstream::Request;
use api::wire::upstream::Upstream;

const LOCAL: [&str; 1] = ["127.0.0.1"];

fn pod(name: &str) -> Downstream {
    pushed(PushOp::Insert, &support::pod(name))
}

fn stored(folder: &std::path::Path, key: &str) -> bool {
    let db = rusqlite::Connection::open(folder.join("edgecore.db")).unwrap();
    db.query_row("SELECT count(*) FROM meta WHERE key = ?1", [key], |r| r.get::<_, i64>(0)).unwrap()
        > 0
}

#[tokio::test]
async fn a_node_dials_as_kubeedge_does_registers_and_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    cloud.until("a lease", |s| s.lease.is_some()).await;
    {
        let state = cloud.state();
        let (path, headers) = &state.dials[0];
        assert_eq!(path, "/e632aba927ea4ac2b575ec1603d56f10/edge-1/events");
        assert_eq!(headers["node_id"], "edge-1");
        assert_eq!(headers["project_id"], "e632aba927ea4ac2b575ec1603d56f10");
        assert_eq!(headers["connectionuse"], "msg");
        assert!(matches!(state.heard[0], Upstream::Keepalive), "{:?}", state.heard[0]);
        let node = state.node.as_ref().unwrap();
        assert_eq!(node["metadata"]["labels"]["node-role.kubernetes.io/edge"], "");
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.32.10-kubeedge-v1.23.0");
        let lease = state.lease.as_ref().unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], "edge-1");
        assert_eq!(lease["metadata"]["namespace"], "kube-node-lease");
    }
    assert!(stored(dir.path(), "null/node/edge-1"));
    edge.stop().await;
}

#[tokio::test]
async fn a_node_that_exists_gets_the_labels_that_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    cloud.state().node = Some(serde_json::json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": "edge-1", "uid": "n1", "resourceVersion": "3", "labels": {"mine": "stays"}},
    }));
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    let merged = |up: &Upstream| match up {
        Upstream::Request(Request::UpdateNode { node, .. }) => {
            let node: serde_json::Value = node.to().unwrap();
            node["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
        }
        _ => false,
    };
    assert_eq!(cloud.state().count(merged), 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_pod_is_acknowledged_when_it_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    for n in 0..200 {
        cloud.push(pod(&format!("p{n}")));
    }
    cloud.until("200 acknowledgements", |s| s.acks() >= 200).await;
    for n in 0..200 {
        assert!(stored(dir.path(), &format!("default/pod/p{n}")));
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_message_that_makes_no_sense_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    cloud.push(Downstream::Task(api::wire::downstream::Task {
        resource: "operations.kubeedge.io/v1alpha2/nodeupgradejob/up1/node/edge-1".into(),
        operation: "Check".into(),
        source: api::wire::downstream::TaskSource::TaskManager,
        content: RawJson::null(),
    }));
    cloud.push(pod("web"));
    cloud.until("the pod's acknowledgement", |s| s.acks() == 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_refusal_is_logged_with_its_reason_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _guard) = Log::capture();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let why = "certificate is for system:node:edge-2".to_owned();
    cloud.state().refuse = Some((tokio_tungstenite::tungstenite::http::StatusCode::FORBIDDEN, why));
    let edge = Edge::start(&cloud, dir.path()).await;
    log.until("refuses this node: 403 Forbidden: certificate is for system:node:edge-2").await;
    cloud.state().refuse = None;
    cloud.state().close = Some("node limit of 500 is reached".into());
    log.until("the cloud closed the connection: node limit of 500 is reached").await;
    cloud.state().close = None;
    edge.ready().await;
    edge.stop().await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_said_with_all_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _guard) = Log::capture();
    let cloud = Cloud::start(&Pki::new(), &["cloud.example", "10.0.4.2"]).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    log.until("is for `cloud.example`, `10.0.4.2`; this node dialled `127.0.0.1`").await;
    edge.stop().await;
}

#[tokio::test]
async fn the_ca_of_another_cloud_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _guard) = Log::capture();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    Pki::new().install(dir.path(), "edge-1");
    let edge = Edge::start_with(config(&cloud, dir.path()), dir.path()).await;
    log.until("is not signed by the CA in").await;
    edge.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_points_to_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _guard) = Log::capture();
    let cloud = Cloud::start(&Pki::ahead(Duration::from_secs(86_400)), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    log.until("is not valid now").await;
    assert!(log.text().contains("check this machine's clock"), "{}", log.text());
    edge.stop().await;
}

#[tokio::test]
async fn a_dead_link_is_noticed_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _guard) = Log::capture();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    cloud.state().deaf = true;
    log.until("nothing was heard from the cloud").await;
    cloud.state().deaf = false;
    cloud.until("another link", |s| s.links >= 2).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_idle_link_with_a_living_cloud_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    let keepalives = |s: &support::State| s.count(|up| matches!(up, Upstream::Keepalive));
    cloud.until("five keepalives", |s| keepalives(s) >= 5).await;
    assert_eq!(cloud.state().links, 1);
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_that_has_dialled_in_vain_is_back_with_its_lease_and_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let mut cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    cloud.until("a lease", |s| s.renewals() >= 1).await;
    cloud.stop().await;
    cloud.hang_up(5).await;
    let (links, renewals, reports) = {
        let state = cloud.state();
        (state.links, state.renewals(), state.reports())
    };
    cloud.start_again().await;
    cloud.until("a new link", |s| s.links > links).await;
    cloud.until("lease and status", |s| s.renewals() > renewals && s.reports() > reports).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_node_removed_in_the_cloud_registers_again() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    cloud.state().node = None;
    cloud.cut();
    cloud.until("the node again", |s| s.node.is_some()).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_restart_without_the_cloud_keeps_the_database_and_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start(&cloud, dir.path()).await;
    edge.ready().await;
    cloud.push(pod("web"));
    cloud.until("an acknowledgement", |s| s.acks() == 1).await;
    cloud.stop().await;
    edge.stop().await;
    let edge = Edge::start_with(config(&cloud, dir.path()), dir.path()).await;
    assert!(stored(dir.path(), "default/pod/web"));
    cloud.start_again().await;
    edge.ready().await;
    {
        let state = cloud.state();
        let ids: Vec<_> = state.dials.iter().map(|(_, headers)| &headers["store_id"]).collect();
        assert!(ids.len() >= 2 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    edge.stop().await;
}

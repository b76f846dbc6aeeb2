//! The ways of messages, and how many hops each takes: the budgets of ARCHITECTURE.md, held.
//!
//! A hop is a message moving on to another task through a channel, a queue or a socket. Everything
//! runs on one thread here, so that a test sees its own cluster's hops and no other's.

mod down;
mod up;

use tests::cluster::{Cluster, pod};
use tests::hops::{Guard, Hops};

/// A cluster with a node `edge-1` and nothing under way.
async fn cluster() -> (Cluster, Hops, Guard) {
    let (hops, guard) = Hops::capture();
    let cluster = Cluster::start(&["edge-1"]).await;
    hops.clear();
    (cluster, hops, guard)
}

/// The same with a pod `web` that runs.
async fn with_pod() -> (Cluster, Hops, Guard) {
    let (cluster, hops, guard) = cluster().await;
    cluster.create::<k8s_openapi::api::core::v1::Pod>(pod("web", "edge-1", &[])).await;
    cluster.until_phase("web", "Running").await;
    (cluster, hops, guard)
}

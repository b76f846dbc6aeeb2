//! How much memory an idle cloud and an idle edge take.

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use tests::containerd::BUSYBOX;

use super::{Group, MAIN};
use crate::client::{Inside, in_phase, pod, watch_pods};
use crate::page::{Figure, Unit};
use crate::site::{NODE, Site, edge_binary, memory};

pub(super) const GROUP: Group = Group { name: "memory", title: MAIN, figures, inside: INSIDE };

fn figures() -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(small) = edge_binary() {
        let site = Site::with_edge(GROUP.name, &small);
        figures.extend(edge(&site, "as below, of the binary of an edge alone"));
    }
    let site = Site::new(GROUP.name);
    let cloud = figure("cloudcore memory, one node", "82 MiB", 20.0, site.cloudcore(), IDLE);
    figures.extend(edge(&site, "as below, of the whole binary"));
    figures.push(cloud);
    figures
}

const IDLE: &str = "VmRSS of the process, ten looks a second apart, the first 15 s after the last change; pods in containerd";

/// An edge without pods, and with thirty.
fn edge(site: &Site, of: &'static str) -> [Figure; 2] {
    let empty = figure("edgecore memory, no pod", "85 MiB", 14.0, site.edgecore(), of);
    site.scene(&["pods", NODE, BUSYBOX, "30"]);
    let full = figure("edgecore memory, 30 pods", "98 MiB", 20.0, site.edgecore(), of);
    [empty, full]
}

fn figure(
    what: &'static str,
    original: &'static str,
    at_most: f64,
    pid: u32,
    method: &'static str,
) -> Figure {
    Figure { what, original, unit: Unit::MiB, at_most, values: memory(pid), method }
}

const INSIDE: Inside = |client, scene| {
    async move {
        pods(&client, scene.text(0), scene.text(1), scene.number(2)).await;
        Vec::new()
    }
    .boxed_local()
};

/// Creates pods and waits until they run.
async fn pods(client: &Client, node: &str, image: &str, n: usize) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut up = std::collections::BTreeSet::new();
    let mut version = String::new();
    for i in 0..n {
        let object = pod(&format!("idle-{i}"), node, image);
        let made = pods.create(&PostParams::default(), &object).await.unwrap();
        if i == 0 {
            version = made.metadata.resource_version.unwrap();
        }
    }
    watch_pods(client, &version, |p, _| {
        if in_phase(p, "Running") {
            up.insert(p.metadata.name.clone());
        }
        up.len() == n
    })
    .await;
}

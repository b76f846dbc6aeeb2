//! What runs on a host of the test's own: speaks to its API server, and prints numbers, one a line.
//!
//! Owns: what the scenes have in common there: the client, the pod, the watch.
//! Called by: `main.rs` with `inside GROUP KUBECONFIG SCENE ARGUMENTS..`; [`crate::site`] starts it.

use std::path::Path;
use std::pin::Pin;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::scenes::GROUPS;

/// The first argument of this program on such a host.
pub(crate) const INSIDE: &str = "inside";
/// What a scene prints once it watches, so that the other side may act.
pub(crate) const WATCHING: &str = "watching";

/// A group's scenes on the host: the client, the scene's name, its arguments.
pub(crate) type Inside = fn(Client, Scene) -> Pin<Box<dyn Future<Output = Vec<f64>>>>;

/// Which scene, and with what.
pub(crate) struct Scene {
    pub(crate) name: String,
    args: Vec<String>,
}

impl Scene {
    /// An argument.
    pub(crate) fn text(&self, i: usize) -> &str {
        self.args.get(i).unwrap_or_else(|| panic!("scene `{}` needs argument {i}", self.name))
    }

    /// An argument that is a number.
    pub(crate) fn number(&self, i: usize) -> usize {
        self.text(i).parse().unwrap()
    }
}

/// `GROUP KUBECONFIG SCENE ARGUMENTS..`
pub(crate) fn main(args: &[String]) {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let group = GROUPS.iter().find(|g| g.name == args[0]).unwrap();
    let scene = Scene { name: args[2].clone(), args: args[3..].to_vec() };
    let numbers = runtime.block_on(async {
        let file = Kubeconfig::read_from(Path::new(&args[1])).unwrap();
        let config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        (group.inside)(Client::try_from(config).unwrap(), scene).await
    });
    for n in numbers {
        println!("{n:.4}");
    }
}

/// Milliseconds.
pub(crate) fn ms(from: Instant) -> f64 {
    from.elapsed().as_secs_f64() * 1e3
}

/// A pod on the host's network that only sleeps.
pub(crate) fn pod(name: &str, node: &str, image: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node, "hostNetwork": true, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never",
                "command": ["sleep", "100000"]}],
        }
    }))
    .unwrap()
}

/// Watches all pods until `done` says so; it is told whether the pod is gone.
pub(crate) async fn watch_pods(
    client: &Client,
    version: &str,
    mut done: impl FnMut(&Pod, bool) -> bool,
) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let stream = pods.watch(&WatchParams::default().timeout(60), version).await.unwrap();
    let mut stream = stream.boxed();
    while let Some(event) = stream.try_next().await.unwrap() {
        let stop = match event {
            WatchEvent::Added(p) | WatchEvent::Modified(p) => done(&p, false),
            WatchEvent::Deleted(p) => done(&p, true),
            WatchEvent::Bookmark(_) => false,
            WatchEvent::Error(e) => panic!("{e:?}"),
        };
        if stop {
            return;
        }
    }
    panic!("the watch ended first");
}

/// Whether this is the pod and in that phase.
pub(crate) fn is(p: &Pod, name: &str, phase: &str) -> bool {
    p.metadata.name.as_deref() == Some(name) && in_phase(p, phase)
}

/// Whether a pod is in that phase.
pub(crate) fn in_phase(p: &Pod, phase: &str) -> bool {
    p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase)
}

/// Deletes a pod and waits until it is gone.
pub(crate) async fn remove(client: &Client, name: &str, version: &str) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    watch_pods(client, version, |p, gone| gone && p.metadata.name.as_deref() == Some(name)).await;
}

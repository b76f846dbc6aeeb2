//! Whether memory stays flat while pods and their configmaps come and go.

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tests::containerd::BUSYBOX;

use super::{Group, MAIN};
use crate::client::{Inside, in_phase, pod};
use crate::page::{Figure, Unit, median};
use crate::site::{NODE, PATIENCE, Site, allocated};

pub(super) const GROUP: Group = Group { name: "churn", title: MAIN, figures, inside: INSIDE };

/// Pods that come and go before the first look: what is allocated once is not growth.
const FIRST: &str = "40";
/// Pods between the looks.
const THEN: &str = "120";
/// At once.
const ABREAST: usize = 6;

fn figures() -> Vec<Figure> {
    let site = Site::new(GROUP.name);
    site.scene(&["churn", NODE, BUSYBOX, "first", FIRST]);
    let look = |pid| median(&allocated(pid)).unwrap();
    let before = [look(site.edgecore()), look(site.cloudcore())];
    site.scene(&["churn", NODE, BUSYBOX, "then", THEN]);
    let after = [look(site.edgecore()), look(site.cloudcore())];
    let figure = |what, i: usize| Figure {
        what,
        original: "",
        unit: Unit::MiB,
        at_most: 1.0,
        values: vec![after[i] - before[i]],
        method: "RssAnon with no pod left after 160 pods, less the same after the first 40 (medians of ten looks); \
                 each pod with a configmap that is changed once, six pods at a time",
    };
    vec![
        figure("edgecore, memory gained while 120 pods come and go", 0),
        figure("the same: cloudcore", 1),
    ]
}

const INSIDE: Inside = |client, scene| {
    async move {
        let n = scene.number(3);
        let names = (0..n).map(|i| format!("{}-{i}", scene.text(2)));
        futures::stream::iter(names)
            .for_each_concurrent(ABREAST, |name| live(&client, scene.text(0), scene.text(1), name))
            .await;
        Vec::new()
    }
    .boxed_local()
};

/// One pod's life: it runs, its configmap changes, both are deleted.
async fn live(client: &Client, node: &str, image: &str, name: String) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let map = json!({"metadata": {"name": name}, "data": {"text": "x".repeat(2000)}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let mut pod = pod(&name, node, image);
    let spec = pod.spec.as_mut().unwrap();
    let volume = json!([{"name": "c", "configMap": {"name": name}}]);
    spec.volumes = serde_json::from_value(volume).unwrap();
    let mount = json!([{"name": "c", "mountPath": "/c"}]);
    spec.containers[0].volume_mounts = serde_json::from_value(mount).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    until(&pods, &name, |p| p.is_some_and(|p| in_phase(p, "Running"))).await;
    let patch = Patch::Merge(json!({"data": {"text": "y".repeat(2000)}}));
    maps.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    pods.delete(&name, &DeleteParams::default()).await.unwrap();
    maps.delete(&name, &DeleteParams::default()).await.unwrap();
    until(&pods, &name, |p| p.is_none()).await;
}

/// Asks again and again: many watches would cost more than what is looked at.
async fn until(pods: &Api<Pod>, name: &str, is: impl Fn(Option<&Pod>) -> bool) {
    let begun = Instant::now();
    while !is(pods.get_opt(name).await.unwrap().as_ref()) {
        assert!(begun.elapsed() < PATIENCE, "pod `{name}` takes too long");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

//! An informer of a client library, which lists, then watches, and starts anew where it must, through
//! whatever happens to its line and to the API server. What it has must be what there is.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, watcher};
use rand::Rng as _;
use serde_json::json;
use tests::cluster::{Cluster, PATIENCE};
use tests::link::End;
use tests::wait::eventually;

/// Names with their versions.
fn versions<'a>(maps: impl Iterator<Item = &'a ConfigMap>) -> BTreeMap<String, String> {
    let of = |m: &ConfigMap| {
        let m = m.metadata.clone();
        (m.name.unwrap_or_default(), m.resource_version.unwrap_or_default())
    };
    maps.map(of).collect()
}

/// Waits until an informer has what there is.
async fn agrees(store: &Store<ConfigMap>, maps: &Api<ConfigMap>, after: &str) {
    eventually(&format!("the informer to have it all after {after}"), PATIENCE, async || {
        let there = maps.list(&Default::default()).await.map_err(|e| e.to_string())?;
        let there = versions(there.items.iter());
        let has = store.state();
        let has = versions(has.iter().map(|m| &**m));
        if has == there { Ok(()) } else { Err(format!("it has {has:?}, not {there:?}")) }
    })
    .await;
}

/// Makes, changes and deletes some maps at random.
async fn shuffle(maps: &Api<ConfigMap>, times: usize, bytes: usize) {
    for i in 0..times {
        let name = format!("m{}", rand::rng().random_range(0..12));
        if rand::rng().random_bool(0.3) {
            let _ = maps.delete(&name, &DeleteParams::default()).await;
            continue;
        }
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"i": i.to_string(), "x": "x".repeat(bytes)}});
        let apply = PatchParams::apply("shuffle").force();
        maps.patch(&name, &apply, &Patch::Apply(map)).await.unwrap();
    }
}

/// Tries again soon, however often: a test does not wait for a library's longest pause.
struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(200))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

/// An informer of all maps of the namespace; how often it was told that it is too old.
fn informer(client: kube::Client, config: watcher::Config) -> (Store<ConfigMap>, Arc<AtomicUsize>) {
    let (store, writer) = reflector::store();
    let events = watcher(Api::namespaced(client, "default"), config).backoff(Soon);
    let mut events = Box::pin(reflector::reflector(writer, events));
    let too_old = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&too_old);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Err(watcher::Error::WatchError(status)) = event
                && status.code == 410
            {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (store, too_old)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_informer_has_what_there_is_after_cuts_restarts_and_too_old() {
    let mut cluster = Cluster::start(&[]).await;
    let (link, client) = cluster.client_beyond_a_link().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
    let listing = informer(client.clone(), watcher::Config::default().page_size(3));
    let streaming = informer(client, watcher::Config::default().streaming_lists());
    let all_agree = async |after: &str| {
        agrees(&listing.0, &maps, after).await;
        agrees(&streaming.0, &maps, after).await;
    };
    shuffle(&maps, 30, 10).await;
    all_agree("the start").await;
    for end in [End::Reset, End::Close] {
        link.cut(end);
        shuffle(&maps, 20, 10).await;
        all_agree("a cut").await;
    }
    cluster.stop_api_server().await;
    cluster.start_api_server().await;
    shuffle(&maps, 20, 10).await;
    all_agree("a restart").await;
    let old = [&listing.1, &streaming.1].map(|n| n.load(Ordering::Relaxed));
    assert_eq!(old, [0, 0], "the history is kept through cuts and a restart");

    // While the line is away, more happens than the history keeps.
    link.go_away();
    shuffle(&maps, 100, 900 << 10).await;
    link.come_back();
    all_agree("the history had gone on").await;
    let old = [&listing.1, &streaming.1].map(|n| n.load(Ordering::Relaxed));
    assert_eq!(old, [1, 1], "each was told once that it is too old");
    shuffle(&maps, 20, 10).await;
    all_agree("all of that").await;
}

//! A thousand random cuts: whatever happens to the line, in the end each edge holds what it should,
//! nothing missing and nothing extra.
//!
//! Pods, configmaps and secrets are created, changed and deleted while every link is cut at random
//! places, in the middle of a handshake or of a frame too; now and then a connection hangs half-open,
//! and edgecore, cloudcore or the API server is restarted. After each round the lines are left alone, and every edge
//! is compared with a model that knows nothing but what was asked for.
//!
//! `CUTS_SEED` repeats the choices of an earlier run (their moments are the machine's), `CUTS` is
//! another number of cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::ListParams;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Edge, pod};
use tests::link::{End, Way};
use tests::wait::eventually;

const EDGES: usize = 10;
const ROUNDS: usize = 8;
/// How long a cut may wait for the bytes after which it is to come.
const CUT_WITHIN: Duration = Duration::from_millis(80);
/// A link is back after this, or something is wrong.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// From the last cut to the right state everywhere.
const SETTLE: Duration = Duration::from_secs(60);

/// What was asked for.
#[derive(Debug, Default)]
struct Model {
    /// By name: the node, a number that changes, and the configmaps and secrets that it uses.
    pods: BTreeMap<String, Wish>,
    config_maps: BTreeMap<String, u64>,
    secrets: BTreeMap<String, u64>,
    next: u64,
}

#[derive(Debug, Clone)]
struct Wish {
    node: String,
    version: u64,
    config_maps: Vec<String>,
    secrets: Vec<String>,
}

impl Model {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// By key, what must be on the disk of an edge.
    fn wanted(&self, node: &str) -> BTreeMap<String, u64> {
        let mut wanted = BTreeMap::new();
        for (name, wish) in self.pods.iter().filter(|(_, w)| w.node == node) {
            wanted.insert(format!("default/pod/{name}"), wish.version);
            for name in &wish.config_maps {
                if let Some(version) = self.config_maps.get(name) {
                    wanted.insert(format!("default/configmap/{name}"), *version);
                }
            }
            for name in &wish.secrets {
                if let Some(version) = self.secrets.get(name) {
                    wanted.insert(format!("default/secret/{name}"), *version);
                }
            }
        }
        wanted
    }

    fn exists(&self, key: &str) -> bool {
        let name = |kind: &str| key.strip_prefix(&format!("default/{kind}/")).map(str::to_owned);
        name("configmap").is_some_and(|n| self.config_maps.contains_key(&n))
            || name("secret").is_some_and(|n| self.secrets.contains_key(&n))
    }
}

/// The number that an object on an edge's disk carries.
fn version_of(object: &Value) -> u64 {
    let annotation = &object["metadata"]["annotations"]["v"];
    annotation.as_str().and_then(|v| v.parse().ok()).unwrap_or_default()
}

fn annotated(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "annotations": {"v": version.to_string()}}})
}

/// What an edge holds against what it should hold; the first difference.
fn compare(edge: &Edge, model: &Model) -> Result<(), String> {
    let stored = edge.stored().map_err(|e| e.to_string())?;
    let wanted = model.wanted(&edge.name);
    for (key, version) in &wanted {
        match stored.get(key).map(version_of) {
            None => return Err(format!("{}: {key} is missing", edge.name)),
            Some(has) if has != *version => {
                return Err(format!("{}: {key} is {has}, not {version}", edge.name));
            }
            Some(_) => {}
        }
    }
    // A configmap that no pod uses any more may stay while it exists; nothing else may.
    if let Some(extra) = stored.keys().find(|k| !wanted.contains_key(*k) && !model.exists(k)) {
        return Err(format!("{}: {extra} is there and should not be", edge.name));
    }
    let runs: BTreeSet<String> = edge.runtime.running().into_iter().map(|c| c.name).collect();
    let here = |name: &&String| model.pods[*name].node == edge.name;
    if let Some(extra) = runs.iter().find(|n| !model.pods.contains_key(*n) || !here(n)) {
        return Err(format!("{}: a container of `{extra}` runs on", edge.name));
    }
    // Those that need nothing run; others may wait for a configmap that does not exist.
    let free = |w: &Wish| w.config_maps.is_empty() && w.secrets.is_empty();
    for (name, wish) in model.pods.iter().filter(|(_, w)| w.node == edge.name && free(w)) {
        if !runs.contains(name) {
            return Err(format!("{}: `{name}` ({wish:?}) does not run", edge.name));
        }
    }
    Ok(())
}

/// One random thing that somebody does in the cloud.
async fn act(cluster: &Cluster, model: &mut Model, rng: &mut StdRng) {
    let number = model.number();
    let config_map = format!("c{}", rng.random_range(0..8));
    let secret = format!("s{}", rng.random_range(0..8));
    match rng.random_range(0..10) {
        0..3 => {
            let wish = Wish {
                node: format!("edge-{}", rng.random_range(0..EDGES)),
                version: number,
                config_maps: if rng.random_bool(0.4) { vec![config_map] } else { vec![] },
                secrets: if rng.random_bool(0.3) { vec![secret] } else { vec![] },
            };
            let name = format!("p{number}");
            let uses: Vec<&str> = wish.config_maps.iter().map(String::as_str).collect();
            let mut object = pod(&name, &wish.node, &uses);
            object["metadata"] = annotated(&name, number)["metadata"].take();
            for secret in &wish.secrets {
                let from = &mut object["spec"]["containers"][0]["envFrom"];
                from.as_array_mut().unwrap().push(json!({"secretRef": {"name": secret}}));
            }
            cluster.create::<Pod>(object).await;
            model.pods.insert(name, wish);
        }
        3..5 => {
            let Some((name, wish)) = model.pods.iter_mut().choose(rng) else { return };
            wish.version = number;
            cluster.merge::<Pod>(name, annotated(name, number)).await;
        }
        5..7 => {
            let Some(name) = model.pods.keys().choose(rng).cloned() else { return };
            let grace = if rng.random_bool(0.5) { 0 } else { 1 };
            cluster.delete::<Pod>(&name, grace).await;
            model.pods.remove(&name);
        }
        7..9 => {
            change::<ConfigMap>(cluster, &mut model.config_maps, &config_map, number, rng).await;
        }
        _ => change::<Secret>(cluster, &mut model.secrets, &secret, number, rng).await,
    }
}

async fn change<K>(
    cluster: &Cluster,
    known: &mut BTreeMap<String, u64>,
    name: &str,
    number: u64,
    rng: &mut StdRng,
) where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::Serialize + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    if !known.contains_key(name) {
        cluster.create::<K>(annotated(name, number)).await;
    } else if rng.random_bool(0.3) {
        cluster.delete::<K>(name, 0).await;
        known.remove(name);
        return;
    } else {
        cluster.merge::<K>(name, annotated(name, number)).await;
    }
    known.insert(name.to_owned(), number);
}

/// Cuts one edge's link so many times, each time once it is open again.
async fn cut(edge: &mut Edge, times: usize, mut rng: StdRng) {
    let (mut opened, mut cuts) = (edge.link.opened(), edge.link.cuts());
    for _ in 0..times {
        let before = *opened.borrow_and_update();
        let end = if rng.random_bool(0.5) { End::Close } else { End::Reset };
        match rng.random_range(0..60) {
            0 => {
                edge.link.half_open();
                edge.stop().await;
                edge.start().await;
                edge.link.cut(end);
            }
            1..3 => {
                edge.link.half_open();
                edge.link.cut_after(Way::Up, 1, end);
            }
            _ => {
                let way = if rng.random_bool(0.5) { Way::Up } else { Way::Down };
                // From a byte of the handshake to far behind it: every size is as likely.
                let bytes = 1 << rng.random_range(0..14);
                let so_far = *cuts.borrow_and_update();
                edge.link.cut_after(way, rng.random_range(bytes / 2..bytes + 1), end);
                let came = tokio::time::timeout(CUT_WITHIN, cuts.wait_for(|n| *n > so_far)).await;
                if came.is_err() && edge.link.cancel_cut() {
                    edge.link.cut(end);
                }
            }
        }
        let back = tokio::time::timeout(BACK_WITHIN, opened.wait_for(|n| *n > before)).await;
        assert!(back.is_ok(), "{} has not dialled for {BACK_WITHIN:?}", edge.name);
    }
}

/// Does things while `cutting` goes on; says how many.
async fn act_until<T>(
    cutting: impl Future<Output = T>,
    cluster: &Cluster,
    model: &mut Model,
    rng: &mut StdRng,
) -> usize {
    tokio::pin!(cutting);
    let mut pace = tokio::time::interval(Duration::from_millis(30));
    for acts in 0.. {
        tokio::select! {
            biased;
            _ = &mut cutting => return acts,
            _ = pace.tick() => act(cluster, model, rng).await,
        }
    }
    0
}

async fn settled(cluster: &Cluster, model: &Model) -> Duration {
    let pods: Api<Pod> = cluster.objects();
    eventually("every edge to hold what it should", SETTLE, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        let names = list.items.into_iter().filter_map(|p| p.metadata.name);
        if let Some(extra) = names.into_iter().find(|n| !model.pods.contains_key(n)) {
            return Err(format!("`{extra}` is still in the API server"));
        }
        cluster.edges().iter().try_for_each(|edge| compare(edge, model))
    })
    .await
    .1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_thousand_random_cuts_nothing_is_missing_and_nothing_extra() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = setting("CUTS_SEED").unwrap_or_else(rand::random);
    let total = usize::try_from(setting("CUTS").unwrap_or(1000)).unwrap();
    println!("CUTS_SEED={seed} repeats the choices of this run");
    let mut rng = StdRng::seed_from_u64(seed);
    let names: Vec<String> = (0..EDGES).map(|n| format!("edge-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut cluster = Cluster::start(&names).await;
    let mut model = Model::default();
    let begun = tokio::time::Instant::now();
    let (mut done, mut acts) = (0, 0);
    for round in 0..ROUNDS {
        let times = (total - done).div_ceil((ROUNDS - round) * EDGES);
        let mut edges = cluster.take_edges();
        acts += {
            let each = edges.iter_mut().map(|e| (e, StdRng::seed_from_u64(rng.random())));
            let each: Vec<_> = each.collect();
            let cutting = join_all(each.into_iter().map(|(edge, rng)| cut(edge, times, rng)));
            act_until(cutting, &cluster, &mut model, &mut rng).await
        };
        cluster.put_edges(edges);
        done += times * EDGES;
        if round % 3 == 2 {
            cluster.stop_cloudcore().await;
            for _ in 0..5 {
                act(&cluster, &mut model, &mut rng).await;
            }
            cluster.start_cloudcore().await;
        }
        if round % 4 == 1 {
            cluster.stop_api_server().await;
            cluster.edges().iter().for_each(|edge| edge.link.cut(End::Reset));
            cluster.start_api_server().await;
        }
        let took = settled(&cluster, &model).await;
        println!(
            "{done} cuts, {acts} changes, {} pods: right {took:?} after the last cut",
            model.pods.len()
        );
    }
    for edge in cluster.edges() {
        assert_once(edge);
    }
    println!("{done} cuts in {:?}", begun.elapsed());
}

/// No container was started twice: a cut, or a restart of edgecore, is no reason.
fn assert_once(edge: &Edge) {
    let mut seen = BTreeSet::new();
    for call in edge.runtime.calls().iter().filter(|c| c.starts_with("start_container ")) {
        assert!(seen.insert(call.clone()), "{}: {call} happened twice", edge.name);
    }
}

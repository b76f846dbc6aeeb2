//! What runs on a host of the test's own: speaks to its API server and prints milliseconds, one a
//! line.

use std::path::Path;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

/// `KUBECONFIG SCENE ARGUMENTS..`
pub(crate) fn main(args: &[String]) {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let millis = runtime.block_on(scene(args));
    for m in millis {
        println!("{m:.3}");
    }
}

async fn scene(args: &[String]) -> Vec<f64> {
    let file = Kubeconfig::read_from(Path::new(&args[0])).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<usize>().ok()).unwrap_or(1);
    match args[1].as_str() {
        "pod-start" => pod_start(&client, &args[2], &args[3], number(4)).await,
        "pods-at-once" => vec![pods_at_once(&client, &args[2], &args[3], number(4)).await],
        "pods-stay" => vec![pods_at_once_and_leave(&client, &args[2], &args[3], number(4)).await],
        "death" => deaths(&client, &args[2], &args[3], number(4)).await,
        "configmap" => configmaps(&client, &args[2], number(3)).await,
        "node-ready" => vec![node_ready(&client, &args[2]).await],
        "lease" => vec![lease(&client, &args[2]).await],
        other => panic!("no scene `{other}`"),
    }
}

fn pod(name: &str, node: &str, image: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node, "hostNetwork": true, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never",
                "command": if image.contains("busybox") { json!(["sleep", "100000"]) } else { json!(null) }}],
        }
    }))
    .unwrap()
}

fn ms(from: Instant) -> f64 {
    from.elapsed().as_secs_f64() * 1e3
}

/// Watches all pods until `done` says so.
async fn watch_pods(client: &Client, version: &str, mut done: impl FnMut(&Pod, bool) -> bool) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let stream = pods.watch(&WatchParams::default().timeout(120), version).await.unwrap();
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

fn running(p: &Pod) -> bool {
    p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
}

async fn remove(client: &Client, name: &str, version: &str) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    watch_pods(client, version, |p, gone| gone && p.metadata.name.as_deref() == Some(name)).await;
}

async fn pod_start(client: &Client, node: &str, image: &str, n: usize) -> Vec<f64> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut times = Vec::new();
    for i in 0..n {
        let name = format!("start-{i}");
        let from = Instant::now();
        let made = pods.create(&PostParams::default(), &pod(&name, node, image)).await.unwrap();
        let version = made.metadata.resource_version.unwrap();
        watch_pods(client, &version, |p, _| {
            p.metadata.name.as_deref() == Some(&name) && running(p)
        })
        .await;
        times.push(ms(from));
        remove(client, &name, &version).await;
    }
    times
}

async fn pods_at_once_and_leave(client: &Client, node: &str, image: &str, n: usize) -> f64 {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let from = Instant::now();
    let mut version = String::new();
    for i in 0..n {
        let made = pods
            .create(&PostParams::default(), &pod(&format!("many-{i}"), node, image))
            .await
            .unwrap();
        if version.is_empty() {
            version = made.metadata.resource_version.unwrap();
        }
    }
    let mut up = std::collections::BTreeSet::new();
    // The first one's creation is before the version that the watch begins at.
    watch_pods(client, &version, |p, _| {
        if running(p) {
            up.insert(p.metadata.name.clone());
        }
        up.len() == n
    })
    .await;
    ms(from)
}

async fn pods_at_once(client: &Client, node: &str, image: &str, n: usize) -> f64 {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let time = pods_at_once_and_leave(client, node, image, n).await;
    for i in 0..n {
        let _ = pods.delete(&format!("many-{i}"), &DeleteParams::default()).await;
    }
    while !pods
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .items
        .iter()
        .all(|p| !p.metadata.name.as_deref().unwrap_or_default().starts_with("many-"))
    {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    time
}

/// Kills a container's process and waits until the API server knows.
async fn deaths(client: &Client, node: &str, image: &str, n: usize) -> Vec<f64> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut times = Vec::new();
    for i in 0..n {
        let name = format!("death-{i}");
        let mut object = pod(&name, node, image);
        object.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
        let made = pods.create(&PostParams::default(), &object).await.unwrap();
        let version = made.metadata.resource_version.unwrap();
        let uid = made.metadata.uid.unwrap();
        watch_pods(client, &version, |p, _| {
            p.metadata.name.as_deref() == Some(&name) && running(p)
        })
        .await;
        let pid = process_of(&uid);
        let from = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        watch_pods(client, &version, |p, _| {
            p.metadata.name.as_deref() == Some(&name)
                && p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed")
        })
        .await;
        times.push(ms(from));
        remove(client, &name, &version).await;
    }
    times
}

/// The workload's process of the pod with this UID: not the sandbox's, not a shim.
fn process_of(uid: &str) -> i32 {
    let dashed = uid.replace('-', "_");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let ours = line.contains("sleep 100000") || line.contains("sample-workload");
        if (groups.contains(uid) || groups.contains(&dashed)) && ours {
            found.push(pid);
        }
    }
    *found.first().unwrap_or_else(|| panic!("no process of pod {uid}"))
}

/// From the answer of the API server to the row in the edge's database.
async fn configmaps(client: &Client, database: &str, n: usize) -> Vec<f64> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let db =
        rusqlite::Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap();
    let mut times = Vec::new();
    for i in 0..n {
        let value = format!("value-{i}-{}", std::process::id());
        let patch = Patch::Merge(json!({"data": {"measured": value}}));
        let from = Instant::now();
        maps.patch("measured", &PatchParams::default(), &patch).await.unwrap();
        loop {
            let text: Option<String> = db
                .query_row(
                    "select value from meta where key = 'default/configmap/measured'",
                    [],
                    |r| r.get(0),
                )
                .ok();
            if text.is_some_and(|t| t.contains(&value)) {
                break;
            }
            assert!(from.elapsed().as_secs() < 20, "the edge never stored it");
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
        times.push(ms(from));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    times
}

/// Prints `watching`, then waits until the node is Ready.
async fn node_ready(client: &Client, name: &str) -> f64 {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(120);
    let mut stream = nodes.watch(&params, "0").await.unwrap().boxed();
    println!("watching");
    let from = Instant::now();
    while let Some(event) = stream.try_next().await.unwrap() {
        if let WatchEvent::Added(n) | WatchEvent::Modified(n) = event {
            let conditions = n.status.and_then(|s| s.conditions).unwrap_or_default();
            if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
                return ms(from);
            }
        }
    }
    panic!("the watch ended first");
}

/// Prints `watching`, then waits until the node's lease is renewed.
async fn lease(client: &Client, name: &str) -> f64 {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let version = leases.get(name).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(120);
    let mut stream = leases.watch(&params, &version).await.unwrap().boxed();
    println!("watching");
    let from = Instant::now();
    while let Some(event) = stream.try_next().await.unwrap() {
        if let WatchEvent::Modified(_) = event {
            return ms(from);
        }
    }
    panic!("the watch ended first");
}

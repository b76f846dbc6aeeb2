//! How fast pods start, and how fast their ends are known.

use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use nix::sys::signal::Signal;
use tests::containerd::BUSYBOX;
use tests::wait;

use super::{Group, MAIN};
use crate::client::{Inside, in_phase, is, ms, pod, remove, watch_pods};
use crate::page::{Figure, Unit};
use crate::site::{NODE, PATIENCE, Site, signal};

pub(super) const GROUP: Group = Group { name: "pods", title: MAIN, figures, inside: INSIDE };

fn figures() -> Vec<Figure> {
    let site = Site::new(GROUP.name);
    let seconds = |millis: Vec<f64>| millis.into_iter().map(|m| m / 1e3).collect();
    vec![
        Figure {
            what: "pod create to Running (image present, containerd)",
            original: "588 ms",
            unit: Unit::Millis,
            at_most: 400.0,
            values: site.scene(&["start", NODE, BUSYBOX, "20"]),
            method: "from the POST to the watch event with phase Running; host network, one pod at a time",
        },
        Figure {
            what: "30 pods created at once, the last Running",
            original: "7.8 s",
            unit: Unit::Seconds,
            at_most: 5.0,
            values: seconds(site.scene(&["at-once", NODE, BUSYBOX, "30", "5"])),
            method: "from the first POST to the last pod's watch event; begun when the machine is idle, for the \
                     kernel goes on clearing up after the thirty before when their objects are gone",
        },
        Figure {
            what: "a container's death to the API server",
            original: "392 ms",
            unit: Unit::Millis,
            at_most: 100.0,
            values: site.scene(&["death", NODE, BUSYBOX, "15"]),
            method: "from SIGKILL of the workload to the watch event with phase Failed",
        },
    ]
}

const INSIDE: Inside = |client, scene| {
    async move {
        let (node, image, n) = (scene.text(0), scene.text(1), scene.number(2));
        match scene.name.as_str() {
            "start" => start(&client, node, image, n).await,
            "death" => death(&client, node, image, n).await,
            "at-once" => {
                let mut times = Vec::new();
                for _ in 0..scene.number(3) {
                    times.push(at_once(&client, node, image, n).await);
                }
                times
            }
            other => panic!("no scene `{other}`"),
        }
    }
    .boxed_local()
};

async fn start(client: &Client, node: &str, image: &str, n: usize) -> Vec<f64> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut times = Vec::new();
    for i in 0..n {
        let name = format!("start-{i}");
        let from = Instant::now();
        let made = pods.create(&PostParams::default(), &pod(&name, node, image)).await.unwrap();
        let version = made.metadata.resource_version.unwrap();
        watch_pods(client, &version, |p, _| is(p, &name, "Running")).await;
        times.push(ms(from));
        remove(client, &name, &version).await;
    }
    times
}

/// The processors' time so far, in ticks: idle, and in all.
fn processors() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().next().unwrap();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|t| t.parse().ok()).collect();
    (ticks[3], ticks.iter().sum())
}

/// Waits until the processors have been idle for most of two seconds.
async fn until_idle() {
    let begun = Instant::now();
    loop {
        let before = processors();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = processors();
        if (after.0 - before.0) * 10 >= (after.1 - before.1) * 9 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the machine does something else");
    }
}

/// Creates pods, waits until the last one runs, and then until all are gone.
async fn at_once(client: &Client, node: &str, image: &str, n: usize) -> f64 {
    until_idle().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let from = Instant::now();
    let mut version = String::new();
    for i in 0..n {
        let object = pod(&format!("many-{i}"), node, image);
        let made = pods.create(&PostParams::default(), &object).await.unwrap();
        if i == 0 {
            version = made.metadata.resource_version.unwrap();
        }
    }
    let mut up = std::collections::BTreeSet::new();
    watch_pods(client, &version, |p, _| {
        if in_phase(p, "Running") {
            up.insert(p.metadata.name.clone());
        }
        up.len() == n
    })
    .await;
    let time = ms(from);
    for i in 0..n {
        pods.delete(&format!("many-{i}"), &DeleteParams::default()).await.unwrap();
    }
    while !pods.list(&ListParams::default()).await.unwrap().items.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    time
}

/// Kills a container's process and waits until the API server knows.
async fn death(client: &Client, node: &str, image: &str, n: usize) -> Vec<f64> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut times = Vec::new();
    for i in 0..n {
        let name = format!("death-{i}");
        let mut object = pod(&name, node, image);
        object.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
        let made = pods.create(&PostParams::default(), &object).await.unwrap();
        let version = made.metadata.resource_version.unwrap();
        let uid = made.metadata.uid.unwrap();
        watch_pods(client, &version, |p, _| is(p, &name, "Running")).await;
        let pid = process_of(&uid);
        let from = Instant::now();
        signal(pid, Signal::SIGKILL);
        watch_pods(client, &version, |p, _| is(p, &name, "Failed")).await;
        times.push(ms(from));
        remove(client, &name, &version).await;
    }
    times
}

/// The workload's process of the pod with this UID: not the sandbox's, not a shim. A container is
/// running a moment before its process has become the workload.
fn process_of(uid: &str) -> u32 {
    let dashed = uid.replace('-', "_");
    let ours = |pid: &u32| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (groups.contains(uid) || groups.contains(&dashed)) && line.starts_with("sleep 100000")
    };
    let look = || {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = pids.filter_map(|e| e.file_name().to_string_lossy().parse().ok());
        pids.find(ours).ok_or_else(|| "none".to_owned())
    };
    wait::until(&format!("the process of pod {uid}"), PATIENCE, look).0
}

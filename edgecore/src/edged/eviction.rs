//! When the node runs short: images nobody uses go first, then pods, one at a time.
//!
//! Owns: the choice of what goes. Called by: spawned by `mod.rs`; looks every ten seconds.
//! Never: ends a static or critical pod, or a second pod before the first has ended.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::memory::Ended;
use super::node::facts::{self, Disk};
use super::node::status::{Threshold, Thresholds};
use super::pods::Directory;
use super::podspec;
use super::resources::{self, Qos};
use super::runtime::{ContainerState, ContainerStats, ImageInfo, Listing, SeenContainer, label};
use super::worker::Shared;

const EVERY: Duration = Duration::from_secs(10);
/// What an eviction frees shows only after a while.
const REST: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// `evictionHard`
    pub(crate) thresholds: Thresholds,
    /// `imageGCHighThresholdPercent`, 0 to 100; 100 or more: never.
    pub(crate) image_high: u8,
    /// `imageGCLowThresholdPercent`
    pub(crate) image_low: u8,
}

/// What is short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// `memory`, `ephemeral-storage` or `inodes`
    resource: &'static str,
    left: u64,
    wanted: u64,
}

impl Shortage {
    fn of(resource: &'static str, threshold: Threshold, left: u64, all: u64) -> Option<Self> {
        threshold.crossed(left, all).then(|| Self { resource, left, wanted: threshold.of(all) })
    }

    fn ended(&self) -> Ended {
        let kib = |n: u64| match self.resource {
            "inodes" => n.to_string(),
            _ => format!("{}Ki", n / 1024),
        };
        Ended {
            reason: "Evicted",
            message: format!(
                "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
                self.resource,
                kib(self.wanted),
                kib(self.left)
            ),
            // As kubelet for a hard threshold: no time to lose.
            grace: Some(Duration::from_secs(1)),
        }
    }
}

/// Watches until the service stops.
pub(crate) async fn run(
    shared: Arc<Shared>,
    limits: Limits,
    directory: Directory,
    evict: mpsc::Sender<(Arc<str>, Ended)>,
) {
    let machine = facts::machine();
    let mut rest = EVERY;
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
        rest = EVERY;
        let image_root = image_root(&shared).await;
        let vitals = facts::vitals(&machine, &shared.site.root, image_root.as_deref());
        if let Some(disk) = vitals.image_fs {
            collect_images(&shared, &limits, disk).await;
        }
        let t = &limits.thresholds;
        let memory = vitals
            .memory_available
            .and_then(|left| Shortage::of("memory", t.memory, left, machine.memory));
        let disk = |disk: Option<Disk>, space, inodes| {
            let disk = disk?;
            // Some file systems do not count inodes.
            Shortage::of("ephemeral-storage", space, disk.available, disk.size).or_else(|| {
                let counted = disk.inodes > 0;
                Shortage::of("inodes", inodes, disk.inodes_free, disk.inodes).filter(|_| counted)
            })
        };
        let shortage = memory
            .or_else(|| disk(vitals.node_fs, t.node_fs, t.node_inodes))
            .or_else(|| disk(vitals.image_fs, t.image_fs, t.image_inodes));
        let Some(shortage) = shortage else { continue };
        let stats = shared.runtime.stats(None).await.unwrap_or_default();
        let Ok(listing) = shared.runtime.list(None).await else { continue };
        let mut pods = directory.all();
        // What this node itself reported of a pod's end is not sent back to it.
        pods.retain(|p| is_running(podspec::uid(p), &listing));
        let Some(victim) = victim(&pods, &stats, shortage.resource) else {
            tracing::warn!(?shortage, "the node runs short, and there is no pod to evict");
            continue;
        };
        tracing::warn!(?shortage, pod = podspec::full_name(victim), "evicting a pod");
        let uid: Arc<str> = podspec::uid(victim).into();
        if evict.send((uid, shortage.ended())).await.is_err() {
            return;
        }
        rest = REST;
    }
}

async fn image_root(shared: &Shared) -> Option<PathBuf> {
    let all = shared.runtime.image_fs().await.ok()?;
    all.into_iter().next().map(|fs| fs.mountpoint)
}

fn is_running(uid: &str, listing: &Listing) -> bool {
    let runs = |c: &SeenContainer| c.state == ContainerState::Running;
    let its = |c: &SeenContainer| c.labels.get(label::POD_UID).is_some_and(|u| u == uid);
    listing.containers.iter().any(|c| runs(c) && its(c))
}

/// Which pod goes first: the least protected, then the one that uses most beyond what it asked for.
fn victim<'a>(
    pods: &'a [Arc<Pod>],
    stats: &[ContainerStats],
    resource: &str,
) -> Option<&'a Arc<Pod>> {
    let mut used: HashMap<&str, u64> = HashMap::new();
    for s in stats {
        let Some(uid) = s.labels.get(label::POD_UID) else { continue };
        let amount = if resource == "memory" { s.memory_working_set } else { s.disk_used };
        *used.entry(uid).or_default() += amount;
    }
    pods.iter()
        .filter(|p| !podspec::is_static(p) && !podspec::is_over(p) && !podspec::is_deleted(p))
        .filter(|p| !is_critical(p))
        .min_by_key(|p| {
            let asked: i128 = podspec::lasting(p)
                .filter_map(|(c, _)| resources::request(c, resource))
                .sum::<i128>()
                / 1000;
            let beyond = i128::from(used.get(podspec::uid(p)).copied().unwrap_or(0)) - asked;
            let priority = podspec::spec(p).priority.unwrap_or(0);
            let sheltered = resources::qos(p) == Qos::Guaranteed;
            (beyond <= 0, sheltered, priority, -beyond)
        })
}

fn is_critical(pod: &Pod) -> bool {
    podspec::spec(pod).priority.unwrap_or(0) >= 2_000_000_000
}

async fn collect_images(shared: &Shared, limits: &Limits, disk: Disk) {
    let used = disk.size.saturating_sub(disk.available);
    let share = |percent: u8| disk.size / 100 * u64::from(percent);
    if limits.image_high >= 100 || used <= share(limits.image_high) {
        return;
    }
    let Ok(images) = shared.runtime.list_images().await else { return };
    let Ok(listing) = shared.runtime.list(None).await else { return };
    let mut in_use = HashSet::new();
    for c in &listing.containers {
        if let Ok(status) = shared.runtime.container_status(&c.id).await {
            in_use.insert(status.image_ref);
            in_use.insert(status.image);
        }
    }
    let to_free = used - share(limits.image_low);
    for image in unused(images, &in_use, to_free) {
        tracing::info!(image = image.id, tags = ?image.repo_tags, "removing an unused image, the disk is filling up");
        if let Err(e) = shared.runtime.remove_image(&image.id).await {
            tracing::warn!(image = image.id, error = %e, "cannot remove an image");
        }
    }
}

/// Whether sandboxes are made of it. No container uses it, and without it no pod starts where there is
/// no registry. Containerd marks it as pinned only from 1.7 on; before, its name is all there is.
fn is_sandbox_image(image: &ImageInfo) -> bool {
    image.repo_tags.iter().chain(&image.repo_digests).any(|name| {
        let last = name.rsplit('/').next().unwrap_or_default();
        last.split([':', '@']).next().is_some_and(|n| n == "pause" || n.ends_with("-pause"))
    })
}

/// The largest images that no container uses, until enough is freed.
fn unused(mut images: Vec<ImageInfo>, in_use: &HashSet<String>, to_free: u64) -> Vec<ImageInfo> {
    images.retain(|i| {
        let names = i.repo_tags.iter().chain(&i.repo_digests).chain(std::iter::once(&i.id));
        !i.pinned && !is_sandbox_image(i) && !names.into_iter().any(|n| in_use.contains(n))
    });
    images.sort_by_key(|i| std::cmp::Reverse(i.size));
    let mut freed = 0;
    images
        .into_iter()
        .take_while(|i| {
            let more = freed < to_free;
            freed += i.size;
            more
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, spec: serde_json::Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "resources": spec["resources"]}]);
        let pod = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn uses(pod: &str, memory: u64) -> ContainerStats {
        ContainerStats {
            labels: [(label::POD_UID.to_owned(), pod.to_owned())].into(),
            memory_working_set: memory << 20,
            ..ContainerStats::default()
        }
    }

    #[test]
    fn the_pod_furthest_beyond_its_request_goes_first() {
        let none = json!({"resources": {}});
        let modest = json!({"resources": {"requests": {"memory": "100Mi"}}});
        let vital = json!({"resources": {}, "priority": 2_000_001_000});
        let pods = [
            pod("small", none.clone()),
            pod("modest", modest),
            pod("large", none.clone()),
            pod("vital", vital),
        ];
        let stats = [uses("small", 10), uses("modest", 90), uses("large", 50), uses("vital", 500)];
        assert_eq!(podspec::name(victim(&pods, &stats, "memory").unwrap()), "large");
        let important = json!({"resources": {}, "priority": 1000});
        let pods = [pod("large", important), pod("small", none)];
        assert_eq!(podspec::name(victim(&pods, &stats, "memory").unwrap()), "small");
        assert!(victim(&[], &stats, "memory").is_none());
    }

    #[test]
    fn a_pod_that_has_ended_frees_nothing() {
        let container = |uid: &str, state| SeenContainer {
            state,
            labels: [(label::POD_UID.to_owned(), uid.to_owned())].into(),
            ..SeenContainer::default()
        };
        let listing = Listing {
            containers: vec![
                container("evicted", ContainerState::Exited),
                container("web", ContainerState::Exited),
                container("web", ContainerState::Running),
            ],
            ..Listing::default()
        };
        assert!(is_running("web", &listing));
        assert!(!is_running("evicted", &listing) && !is_running("unknown", &listing));
    }

    #[test]
    fn a_shortage_is_worded_as_kubelets() {
        let amount = Threshold::Amount(100 << 20);
        assert_eq!(Shortage::of("memory", amount, 200 << 20, 1 << 30), None);
        let s = Shortage::of("memory", amount, 50 << 20, 1 << 30).unwrap();
        assert_eq!(
            s.ended().message,
            "The node was low on resource: memory. Threshold quantity: 102400Ki, \
             available: 51200Ki. "
        );
    }

    #[test]
    fn unused_images_go_until_enough_is_freed() {
        let image = |id: &str, size, pinned| ImageInfo {
            id: id.to_owned(),
            size,
            pinned,
            ..ImageInfo::default()
        };
        let images = vec![
            image("used", 500, false),
            image("pinned", 400, true),
            image("a", 100, false),
            image("b", 300, false),
            image("c", 200, false),
        ];
        let in_use = HashSet::from(["used".to_owned()]);
        let gone: Vec<String> = unused(images, &in_use, 350).into_iter().map(|i| i.id).collect();
        assert_eq!(gone, ["b", "c"]);
    }

    #[test]
    fn the_image_of_sandboxes_stays_also_where_the_runtime_does_not_mark_it() {
        let image = |tag: &str| ImageInfo {
            id: tag.to_owned(),
            size: 1,
            repo_tags: vec![tag.to_owned()],
            ..ImageInfo::default()
        };
        let tags = [
            "registry.k8s.io/pause:3.6",
            "kubeedge/pause@sha256:0",
            "localhost:5000/mirrored-pause",
            "example.org/pause/web:1",
            "example.org/pauses:1",
        ];
        let images = tags.map(image).to_vec();
        let gone: Vec<String> =
            unused(images, &HashSet::new(), u64::MAX).into_iter().map(|i| i.id).collect();
        assert_eq!(gone, tags[3..]);
    }
}

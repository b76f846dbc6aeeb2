//! The part of the edge that runs pods.
//!
//! Owns: sandboxes, containers, volumes and images of this node, through a container runtime.
//! Called by: `app.rs`, which hands over the wanted pods and takes what is reported.
//! Never: speaks to the cloud, or keeps in memory alone what a restart would need.
//!
//! ```text
//! wanted pods ──► pods ──► worker per pod: see ─► report ─► plan ─► act ─► see ..
//!                  ▲              status.rs (pure) ┘          └ plan.rs (pure)
//! runtime ──► pleg ┘
//! ```

mod action;
mod acts;
mod cgroups;
mod clock;
pub mod cluster;
mod dial;
mod env;
mod eviction;
mod held;
mod hooks;
mod images;
mod inbox;
mod last_words;
mod logline;
mod logread;
mod logs;
mod make;
mod memory;
mod network;
pub(crate) mod node;
mod plan;
mod pleg;
mod pods;
mod podspec;
mod probes;
mod recorder;
mod resources;
pub mod runtime;
mod security;
mod server;
mod spdy;
mod static_pods;
mod status;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod volumes;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use service::{Policy, Service};
use tokio::sync::{Semaphore, mpsc};

pub use self::clock::Clock;
use self::cluster::Cluster;
pub use self::logs::LogLimits;
use self::make::Site;
use self::network::Names;
use self::resources::Machine;
use self::runtime::{CgroupDriver, ContainerRuntime};
pub use self::server::{LocalApi, NotReady};
use self::worker::Shared;
pub use crate::metamanager::WantedChange;

/// Sandboxes and containers being made at once: more only makes all of them slower.
const STARTS: usize = 8;

/// What edged must be told once.
#[derive(Debug, Clone)]
pub struct EdgedConfig {
    /// The node's name.
    pub node: String,
    /// The node's addresses, main one first.
    pub host_ips: Vec<IpAddr>,
    /// `/var/lib/kubelet`: volumes and what else pods need.
    pub root: PathBuf,
    /// `/var/log/pods`
    pub pod_logs: PathBuf,
    /// `/etc/kubeedge/manifests`; `None`: no static pods.
    pub static_pods: Option<PathBuf>,
    /// `clusterDNS`
    pub cluster_dns: Vec<String>,
    /// `clusterDomain`
    pub cluster_domain: String,
    /// Whose name servers pods get that ask for the host's.
    pub resolv_conf: PathBuf,
    /// How cgroups are written, unless the runtime says so itself.
    pub cgroup_driver: CgroupDriver,
    /// `cgroupRoot`
    pub cgroup_root: String,
    /// Where the local API (health, pods, logs, statistics) is served; a loopback address.
    pub server: Option<SocketAddr>,
    /// When log files are rotated.
    pub logs: LogLimits,
    /// `evictionHard`: what must be left of which signal, `100Mi` or `10%`. Unreadable ones are
    /// ignored.
    pub eviction_hard: BTreeMap<String, String>,
    /// Above so many percent of disk use unused images are removed ..
    pub image_gc_high_percent: u8,
    /// .. until this is reached.
    pub image_gc_low_percent: u8,
    /// Secrets are put into file systems in memory. Needs privileges; only tests do without.
    pub secrets_in_memory: bool,
    /// The time.
    pub clock: Clock,
}

/// Starts edged: it runs what `cluster` holds and what `wanted` says from then on, until the
/// service stops. Pods outlive it.
///
/// The caller sends what it has stored, in order; 1024 changes may wait, then the sender does. What
/// is returned answers as the node's kubelet would.
pub fn spawn(
    svc: &mut Service,
    config: EdgedConfig,
    runtime: Arc<dyn ContainerRuntime>,
    cluster: Arc<dyn Cluster>,
    wanted: mpsc::Receiver<WantedChange>,
) -> LocalApi {
    let (publish, api) = LocalApi::pending();
    let ready = svc.readiness().part("edged");
    let stopping = svc.stopping();
    svc.spawn("edged", Policy::StopAll, async move {
        let static_path = config.static_pods.clone();
        let node = config.node.clone();
        let (logs, address) = (config.logs, config.server);
        let limits = limits(&config);
        let shared = tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            shared = shared(config, runtime, cluster, stopping.clone()) => Arc::new(shared),
        };
        let (tell, changes) = mpsc::channel(256); // full: the look at the runtime waits
        let (evict, evictions) = mpsc::channel(4); // full: the next eviction waits
        let (held, let_go) = held::Held::none();
        let sources =
            pods::Sources { wanted, changes, evictions, let_go, static_path, node: node.clone() };
        let directory = pods::Directory::default();
        drop(ready);
        tokio::join!(
            pods::run(shared.clone(), sources, (directory.clone(), held.clone())),
            pleg::run(shared.clone(), tell),
            logs::run(shared.clone(), logs),
            eviction::run(shared.clone(), limits, directory.clone(), evict),
            server::run(shared, address, (directory, held), node, publish),
        );
        Ok(())
    });
    api
}

fn limits(config: &EdgedConfig) -> eviction::Limits {
    use node::status::Threshold;
    let hard = |signal: &str| {
        let text = config.eviction_hard.get(signal);
        text.and_then(|text| Threshold::parse(text)).unwrap_or_default()
    };
    eviction::Limits {
        thresholds: node::status::Thresholds {
            memory: hard("memory.available"),
            node_fs: hard("nodefs.available"),
            node_inodes: hard("nodefs.inodesFree"),
            image_fs: hard("imagefs.available"),
            image_inodes: hard("imagefs.inodesFree"),
            pids: hard("pid.available"),
        },
        image_high: config.image_gc_high_percent,
        image_low: config.image_gc_low_percent,
    }
}

/// Asks the runtime who it is, until it answers.
async fn shared(
    config: EdgedConfig,
    runtime: Arc<dyn ContainerRuntime>,
    cluster: Arc<dyn Cluster>,
    stopping: service::CancellationToken,
) -> Shared {
    let mut tries = 0;
    let (name, driver) = loop {
        match tokio::try_join!(runtime.version(), runtime.status()) {
            Ok((version, status)) => {
                tracing::info!(name = version.name, version = version.version, "container runtime");
                if !status.network_ready {
                    tracing::warn!(why = status.message, "only pods on the host's network can run");
                }
                break (version.name, status.cgroup_driver.unwrap_or(config.cgroup_driver));
            }
            Err(e) => {
                if tries == 0 {
                    tracing::warn!(error = %e, "waiting for the container runtime");
                }
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        }
    };
    let resolv_conf = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
    let host_ips: Vec<String> = config.host_ips.iter().map(IpAddr::to_string).collect();
    let site = Site {
        root: config.root,
        logs: config.pod_logs,
        names: Names {
            cluster_dns: config.cluster_dns,
            cluster_domain: config.cluster_domain,
            host: network::parse_resolv_conf(&resolv_conf),
        },
        machine: Machine {
            memory: node::facts::machine().memory,
            driver,
            cgroup_root: config.cgroup_root,
        },
        host_ips: host_ips.clone(),
        secrets_in_memory: config.secrets_in_memory,
    };
    let pod_network = runtime.network_limit().is_none();
    let recorder = recorder::Recorder::new(cluster.clone(), &config.node, config.clock);
    Shared {
        runtime,
        cluster,
        recorder: Arc::new(recorder),
        site,
        host: status::Host { ips: host_ips, runtime: name, pod_network },
        clock: config.clock,
        puller: images::Puller::default(),
        starts: Semaphore::new(STARTS),
        owners: parking_lot::Mutex::new(HashMap::new()),
        stopping,
    }
}

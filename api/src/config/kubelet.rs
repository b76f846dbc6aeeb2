//! `modules.edged.tailoredKubeletConfig`, as far as it means something here.
//!
//! Owns: the keys that edged heeds, their checks, the choice of container runtime.
//! Called by: edged.
//! Never: has a key that nothing reads; those are in [`ignored`](super::ignored).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

use super::problems::Problems;
use super::{GoDuration, port};

/// With this endpoint containers run in edgecore's own runtime. (Not a value of KubeEdge's.)
pub const EMBEDDED_RUNTIME: &str = "embedded://";

/// `modules.edged.tailoredKubeletConfig`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TailoredKubeletConfig {
    /// Where the kubelet API listens.
    pub address: IpAddr,
    /// The port of the kubelet API.
    #[serde(deserialize_with = "port")]
    pub read_only_port: u16,
    /// Folder of static pods.
    pub static_pod_path: PathBuf,
    /// Socket of the container runtime, or [`EMBEDDED_RUNTIME`].
    pub container_runtime_endpoint: String,
    /// Socket of the image service; empty for the runtime's.
    pub image_service_endpoint: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Cgroup under which pods live; empty for the root.
    #[serde(default)]
    pub cgroup_root: String,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// How many per processor; 0 for no limit.
    #[serde(default)]
    pub pods_per_core: u32,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// DNS servers of the cluster.
    #[serde(rename = "clusterDNS", default)]
    pub cluster_dns: Option<Vec<IpAddr>>,
    /// What pods with the node's DNS read.
    pub resolv_conf: PathBuf,
    /// Whether the node creates its Node object.
    pub register_node: bool,
    /// Taints of a new node.
    #[serde(default)]
    pub register_with_taints: Option<Vec<Taint>>,
    /// How often the node's status is computed.
    pub node_status_update_frequency: GoDuration,
    /// How often it is sent although nothing changed.
    pub node_status_report_frequency: GoDuration,
    /// How long the lease lasts.
    pub node_lease_duration_seconds: u32,
    /// How many images the status lists; negative for all.
    pub node_status_max_images: i32,
    /// Whether volumes are attached by the cloud.
    pub enable_controller_attach_detach: bool,
    /// Size at which a container's log file is turned over.
    pub container_log_max_size: String,
    /// How many of its files are kept.
    pub container_log_max_files: u32,
    /// How often their sizes are looked at.
    pub container_log_monitor_interval: GoDuration,
    /// Where log files are.
    pub pod_logs_dir: PathBuf,
    /// Disk use in percent at which unused images are removed.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    /// Disk use in percent down to which they are.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    /// Signals and thresholds at which pods are evicted at once.
    pub eviction_hard: BTreeMap<String, String>,
    /// How long a pressure condition stays after the pressure.
    pub eviction_pressure_transition_period: GoDuration,
    /// What the system keeps for itself.
    #[serde(default)]
    pub system_reserved: BTreeMap<String, String>,
    /// What edgecore and the runtime keep for themselves.
    #[serde(default)]
    pub kube_reserved: BTreeMap<String, String>,
}

/// What runs the containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEndpoint {
    /// A container runtime behind a CRI socket.
    Cri {
        /// The socket.
        runtime: PathBuf,
        /// The image service's; often the same.
        images: PathBuf,
    },
    /// Edgecore itself.
    Embedded,
}

impl TailoredKubeletConfig {
    /// What runs the containers; `None` if the endpoints are not of a known form, which
    /// [`parse`](super::EdgeCoreConfig::parse) does not let through.
    pub fn runtime(&self) -> Option<RuntimeEndpoint> {
        if self.container_runtime_endpoint == EMBEDDED_RUNTIME {
            return Some(RuntimeEndpoint::Embedded);
        }
        let runtime = socket_path(&self.container_runtime_endpoint)?;
        let images = match self.image_service_endpoint.as_str() {
            "" => runtime.clone(),
            endpoint => socket_path(endpoint)?,
        };
        Some(RuntimeEndpoint::Cri { runtime, images })
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let path = |key: &str| format!("modules.edged.tailoredKubeletConfig.{key}");
        const SOCKET: &str = "it should be `unix://` and an absolute path";
        if self.container_runtime_endpoint != EMBEDDED_RUNTIME {
            problems.check(
                socket_path(&self.container_runtime_endpoint).is_some(),
                &path("containerRuntimeEndpoint"),
                "it should be `unix://` and an absolute path, or `embedded://`",
            );
            let images = self.image_service_endpoint.as_str();
            let good = images.is_empty() || socket_path(images).is_some();
            problems.check(good, &path("imageServiceEndpoint"), SOCKET);
        }
        problems.check(
            matches!(self.cgroup_driver.as_str(), "cgroupfs" | "systemd"),
            &path("cgroupDriver"),
            "it should be `cgroupfs` or `systemd`",
        );
        let low = self.image_gc_low_threshold_percent;
        let high = self.image_gc_high_threshold_percent;
        problems.check(
            high <= 100 && low < high,
            &path("imageGCHighThresholdPercent"),
            "it should be at most 100 and above imageGCLowThresholdPercent",
        );
        const POSITIVE: &str = "it should be more than 0";
        problems.check(
            self.node_lease_duration_seconds > 0,
            &path("nodeLeaseDurationSeconds"),
            POSITIVE,
        );
        problems.check(self.max_pods > 0, &path("maxPods"), POSITIVE);
        problems.check(
            self.container_log_max_files > 1,
            &path("containerLogMaxFiles"),
            "it should be at least 2",
        );
        for (key, duration) in [
            ("nodeStatusUpdateFrequency", self.node_status_update_frequency),
            ("nodeStatusReportFrequency", self.node_status_report_frequency),
        ] {
            problems.check(!duration.0.is_zero(), &path(key), POSITIVE);
        }
    }
}

/// The path of `unix:///run/x.sock`, or of a bare absolute path as older files have it.
fn socket_path(endpoint: &str) -> Option<PathBuf> {
    let path = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
    path.is_absolute().then_some(path)
}

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
    /// How often it is read again.
    pub file_check_frequency: GoDuration,
    /// How often everything is looked at again.
    pub sync_frequency: GoDuration,
    /// Socket of the container runtime, or [`EMBEDDED_RUNTIME`].
    pub container_runtime_endpoint: String,
    /// Socket of the image service; empty for the runtime's.
    pub image_service_endpoint: String,
    /// How long a request to the runtime may take.
    pub runtime_request_timeout: GoDuration,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Cgroup under which pods live; empty for the root.
    #[serde(default)]
    pub cgroup_root: String,
    /// Whether pods have cgroups by quality of service.
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    /// Whether CPU limits are enforced by quota.
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    /// The quota's period.
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: GoDuration,
    /// Processes per pod; negative for no limit.
    pub pod_pids_limit: i64,
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
    /// Addresses of pods where nobody else hands them out.
    #[serde(rename = "podCIDR", default)]
    pub pod_cidr: Option<String>,
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
    /// Whether images are pulled one at a time.
    pub serialize_image_pulls: bool,
    /// How many at a time otherwise.
    #[serde(default)]
    pub max_parallel_image_pulls: Option<u32>,
    /// Pulls a second; 0 for no limit.
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: u32,
    /// How many above that at once.
    pub registry_burst: u32,
    /// Disk use in percent at which unused images are removed.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    /// Disk use in percent down to which they are.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    /// How long an image must have been unused.
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    /// After how long an unused image goes whatever the disk; 0 for never.
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: GoDuration,
    /// Signals and thresholds at which pods are evicted at once.
    pub eviction_hard: BTreeMap<String, String>,
    /// Signals and thresholds at which pods are evicted after a while.
    #[serde(default)]
    pub eviction_soft: BTreeMap<String, String>,
    /// How long the soft ones wait.
    #[serde(default)]
    pub eviction_soft_grace_period: BTreeMap<String, GoDuration>,
    /// Seconds of grace at most for a pod evicted by a soft threshold.
    #[serde(default)]
    pub eviction_max_pod_grace_period: Option<u32>,
    /// How long a pressure condition stays after the pressure.
    pub eviction_pressure_transition_period: GoDuration,
    /// What the system keeps for itself.
    #[serde(default)]
    pub system_reserved: BTreeMap<String, String>,
    /// What edgecore and the runtime keep for themselves.
    #[serde(default)]
    pub kube_reserved: BTreeMap<String, String>,
    /// How much the kernel's killer favours edgecore.
    pub oom_score_adj: i32,
    /// Whether a swap device keeps edgecore from starting.
    pub fail_swap_on: bool,
    /// How long pods have when the machine goes down.
    pub shutdown_grace_period: GoDuration,
    /// How much of it critical pods have.
    pub shutdown_grace_period_critical_pods: GoDuration,
    /// How often disk use of volumes is added up.
    pub volume_stats_agg_period: GoDuration,
    /// Whether containers without a seccomp profile get the runtime's default.
    pub seccomp_default: bool,
    /// Whether a container that is out of memory loses one process only.
    #[serde(rename = "singleProcessOOMKill", default)]
    pub single_process_oom_kill: Option<bool>,
    /// How long a connection of exec or attach may be idle.
    pub streaming_connection_idle_timeout: GoDuration,
    /// Back-off of containers that crash.
    pub crash_loop_back_off: CrashLoopBackOff,
}

/// `crashLoopBackOff`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrashLoopBackOff {
    /// The longest wait; the kubelet's five minutes if absent.
    #[serde(default)]
    pub max_container_restart_period: Option<GoDuration>,
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
            ("runtimeRequestTimeout", self.runtime_request_timeout),
            ("syncFrequency", self.sync_frequency),
            ("fileCheckFrequency", self.file_check_frequency),
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

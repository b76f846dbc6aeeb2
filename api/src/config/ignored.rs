//! Keys of KubeEdge's files that change nothing here, each with the sentence that says why.
//!
//! Owns: the two tables, and finding which of their keys a file has changed.
//! Called by: `config`, for one warning per file.
//! Never: names a key that has its default value; whoever left it alone need not hear of it.

use serde_json::Value;

use super::tree;

/// A key, or all keys below it, that change nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IgnoredKey {
    /// Dotted path.
    pub path: &'static str,
    /// Why, for the warning.
    pub why: &'static str,
}

const fn ignore(path: &'static str, why: &'static str) -> IgnoredKey {
    IgnoredKey { path, why }
}

/// The keys of the table whose value is not the default.
pub(super) fn changed(table: &[IgnoredKey], tree: &Value, defaults: &Value) -> Vec<IgnoredKey> {
    let is_changed = |key: &&IgnoredKey| {
        let value = tree::get(tree, key.path).filter(|value| !value.is_null());
        value.is_some() && value != tree::get(defaults, key.path)
    };
    table.iter().filter(is_changed).copied().collect()
}

const QUEUES: &str = "queues are bounded by the program and need no tuning";
const WORKERS: &str = "work is sharded by object, so there are no worker counts";
const QUIC: &str =
    "KubeEdge's QUIC is a version that no current library speaks; links use WebSocket";
const GATES: &str = "modules that fail are always restarted";

/// What cloudcore ignores.
pub const CLOUDCORE: &[IgnoredKey] = &[
    ignore("commonConfig.monitorServer.enableProfiling", "there is no Go profiler in this program"),
    ignore("featureGates.moduleRestart", GATES),
    ignore("featureGates.disableNodeTaskV1alpha2", "only the v1alpha2 jobs exist here"),
    ignore("kubeAPIConfig.contentType", "the API server is always spoken to in JSON"),
    ignore("kubeAPIConfig.qps", "writes are batched, and paced by the API server itself"),
    ignore("kubeAPIConfig.burst", "writes are batched, and paced by the API server itself"),
    ignore("modules.cloudHub.quic", QUIC),
    ignore("modules.cloudHub.writeTimeout", "a write that blocks ends the session after 15 s"),
    ignore("modules.deviceController.buffer", QUEUES),
    ignore("modules.deviceController.load", WORKERS),
    ignore("modules.edgeController.buffer", QUEUES),
    ignore("modules.edgeController.load", WORKERS),
    ignore("modules.edgeController.nodeUpdateFrequency", "the node itself says when it reports"),
    ignore("modules.taskManager.buffer", QUEUES),
    ignore("modules.taskManager.load", WORKERS),
];

const WINDOWS: &str = "this program runs on Linux only";
const RUNTIME: &str = "that is a matter for the container runtime";
const ALIGNMENT: &str = "containers are not pinned to processors or memory banks";
const OBSERVED: &str = "it concerned a part of the kubelet that is not here";
const TABLES: &str = "no packet filter rules are made for pods";
const PROFILES: &str = "there are no debug or profiling handlers";

/// What edgecore ignores.
pub const EDGECORE: &[IgnoredKey] = &[
    ignore("database.driverName", "the store is always SQLite"),
    ignore("database.aliasName", "the store has no alias"),
    ignore("featureGates.moduleRestart", GATES),
    ignore("featureGates.disableNodeTaskV1alpha2", "only the v1alpha2 jobs exist here"),
    ignore("modules.dbTest", "it was for tests of the original"),
    ignore("modules.edgeHub.quic", QUIC),
    ignore("modules.edgeHub.websocket.readDeadline", "a dead link is noticed by its keepalives"),
    ignore("modules.edgeStream.readDeadline", "a dead tunnel is noticed by its pings"),
    ignore("modules.metaManager.contextSendGroup", "modules are wired at start, not by name"),
    ignore("modules.metaManager.contextSendModule", "modules are wired at start, not by name"),
    ignore("modules.edged.experimentalMounterPath", OBSERVED),
    ignore("modules.edged.experimentalNodeAllocatableIgnoreEvictionThreshold", OBSERVED),
    ignore("modules.edged.runtimeCgroups", RUNTIME),
    ignore("modules.edged.windowsPriorityClass", WINDOWS),
    ignore("modules.edged.windowsService", WINDOWS),
    ignore("modules.edged.tailoredKubeletConfig.allowedUnsafeSysctls", RUNTIME),
    ignore(
        "modules.edged.tailoredKubeletConfig.configMapAndSecretChangeDetectionStrategy",
        "changes are pushed by the cloud and seen at once",
    ),
    ignore("modules.edged.tailoredKubeletConfig.contentType", "messages are JSON"),
    ignore("modules.edged.tailoredKubeletConfig.cpuManagerPolicy", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.cpuManagerPolicyOptions", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.cpuManagerReconcilePeriod", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.enableContentionProfiling", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableDebugFlagsHandler", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableProfilingHandler", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableSystemLogHandler", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableSystemLogQuery", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.failCgroupV1", "both cgroup versions work"),
    ignore("modules.edged.tailoredKubeletConfig.hairpinMode", TABLES),
    ignore("modules.edged.tailoredKubeletConfig.iptablesDropBit", TABLES),
    ignore("modules.edged.tailoredKubeletConfig.iptablesMasqueradeBit", TABLES),
    ignore("modules.edged.tailoredKubeletConfig.kernelMemcgNotification", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.kubeletCgroups", OBSERVED),
    ignore(
        "modules.edged.tailoredKubeletConfig.logging",
        "see `keadm edgecore --help` for logging",
    ),
    ignore("modules.edged.tailoredKubeletConfig.makeIPTablesUtilChains", TABLES),
    ignore("modules.edged.tailoredKubeletConfig.memoryManagerPolicy", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.memorySwap", "containers do not get swap"),
    ignore("modules.edged.tailoredKubeletConfig.memoryThrottlingFactor", "memory is not throttled"),
    ignore("modules.edged.tailoredKubeletConfig.protectKernelDefaults", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.qosReserved", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.reservedMemory", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.reservedSystemCPUs", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.showHiddenMetricsForVersion", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.systemCgroups", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.topologyManagerPolicy", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.topologyManagerPolicyOptions", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.topologyManagerScope", ALIGNMENT),
];

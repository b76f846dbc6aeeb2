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

const DEAD: &str = "the last dead container of each is kept, for its log and exit code";
const SECCOMP: &str = "a pod without a seccomp profile is unconfined; say so in the pod";
const SOFT: &str = "only hard eviction thresholds are heeded";
const PULLS: &str = "a few images are pulled at a time";
const DOWN: &str = "pods keep running when edgecore stops";
const RESERVED: &str =
    "what is reserved lowers what the node offers, and is not enforced by cgroups";
const EVENTS: &str = "the same event is told once in five minutes, and needs no other limit";
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
    ignore("modules.edged.maxContainerCount", DEAD),
    ignore("modules.edged.maxPerPodContainerCount", DEAD),
    ignore("modules.edged.minimumGCAge", DEAD),
    ignore(
        "modules.edged.podSandboxImage",
        "the container runtime's own configuration names its sandbox image",
    ),
    ignore("modules.edged.registerNodeNamespace", "the pods of all namespaces are looked at"),
    ignore("modules.edged.runtimeCgroups", RUNTIME),
    ignore("modules.edged.seccompDefault", SECCOMP),
    ignore("modules.edged.tailoredKubeletConfig.allowedUnsafeSysctls", RUNTIME),
    ignore(
        "modules.edged.tailoredKubeletConfig.cgroupsPerQOS",
        "pods always have cgroups by their quality of service",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.configMapAndSecretChangeDetectionStrategy",
        "changes are pushed by the cloud and seen at once",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.containerLogMaxWorkers",
        "one worker is enough for log files",
    ),
    ignore("modules.edged.tailoredKubeletConfig.contentType", "messages are JSON"),
    ignore(
        "modules.edged.tailoredKubeletConfig.cpuCFSQuota",
        "limits are always enforced, with a period of 100 ms",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.cpuCFSQuotaPeriod",
        "limits are always enforced, with a period of 100 ms",
    ),
    ignore("modules.edged.tailoredKubeletConfig.cpuManagerPolicy", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.cpuManagerPolicyOptions", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.cpuManagerReconcilePeriod", ALIGNMENT),
    ignore(
        "modules.edged.tailoredKubeletConfig.crashLoopBackOff",
        "the longest wait is five minutes",
    ),
    ignore("modules.edged.tailoredKubeletConfig.enableContentionProfiling", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableDebugFlagsHandler", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableDebuggingHandlers", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableProfilingHandler", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableSystemLogHandler", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enableSystemLogQuery", PROFILES),
    ignore("modules.edged.tailoredKubeletConfig.enforceNodeAllocatable", RESERVED),
    ignore("modules.edged.tailoredKubeletConfig.eventBurst", EVENTS),
    ignore("modules.edged.tailoredKubeletConfig.eventRecordQPS", EVENTS),
    ignore("modules.edged.tailoredKubeletConfig.evictionMaxPodGracePeriod", SOFT),
    ignore("modules.edged.tailoredKubeletConfig.evictionMinimumReclaim", SOFT),
    ignore("modules.edged.tailoredKubeletConfig.evictionSoft", SOFT),
    ignore("modules.edged.tailoredKubeletConfig.evictionSoftGracePeriod", SOFT),
    ignore("modules.edged.tailoredKubeletConfig.failCgroupV1", "both cgroup versions work"),
    ignore(
        "modules.edged.tailoredKubeletConfig.failSwapOn",
        "a machine with swap is as good as one without",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.featureGates",
        "there are no features behind gates of the kubelet",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.fileCheckFrequency",
        "static pods are looked at every five seconds",
    ),
    ignore("modules.edged.tailoredKubeletConfig.hairpinMode", TABLES),
    ignore(
        "modules.edged.tailoredKubeletConfig.imageMaximumGCAge",
        "images go when the disk fills, not when they are old",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.imageMinimumGCAge",
        "images go when the disk fills, however young they are",
    ),
    ignore("modules.edged.tailoredKubeletConfig.iptablesDropBit", TABLES),
    ignore("modules.edged.tailoredKubeletConfig.iptablesMasqueradeBit", TABLES),
    ignore("modules.edged.tailoredKubeletConfig.kernelMemcgNotification", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.kubeReservedCgroup", RESERVED),
    ignore("modules.edged.tailoredKubeletConfig.kubeletCgroups", OBSERVED),
    ignore(
        "modules.edged.tailoredKubeletConfig.localStorageCapacityIsolation",
        "local storage is not limited by pod",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.logging",
        "see `keadm edgecore --help` for logging",
    ),
    ignore("modules.edged.tailoredKubeletConfig.makeIPTablesUtilChains", TABLES),
    ignore(
        "modules.edged.tailoredKubeletConfig.maxOpenFiles",
        "edgecore leaves that to whoever starts it",
    ),
    ignore("modules.edged.tailoredKubeletConfig.maxParallelImagePulls", PULLS),
    ignore("modules.edged.tailoredKubeletConfig.memoryManagerPolicy", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.memorySwap", "containers do not get swap"),
    ignore("modules.edged.tailoredKubeletConfig.memoryThrottlingFactor", "memory is not throttled"),
    ignore(
        "modules.edged.tailoredKubeletConfig.oomScoreAdj",
        "edgecore leaves that to whoever starts it",
    ),
    ignore("modules.edged.tailoredKubeletConfig.podCIDR", "the CNI plugins hand out addresses"),
    ignore("modules.edged.tailoredKubeletConfig.podPidsLimit", "processes are not counted by pod"),
    ignore("modules.edged.tailoredKubeletConfig.protectKernelDefaults", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.qosReserved", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.registryBurst", PULLS),
    ignore("modules.edged.tailoredKubeletConfig.registryPullQPS", PULLS),
    ignore("modules.edged.tailoredKubeletConfig.reservedMemory", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.reservedSystemCPUs", ALIGNMENT),
    ignore(
        "modules.edged.tailoredKubeletConfig.runtimeRequestTimeout",
        "each kind of request has a limit of its own",
    ),
    ignore("modules.edged.tailoredKubeletConfig.seccompDefault", SECCOMP),
    ignore("modules.edged.tailoredKubeletConfig.serializeImagePulls", PULLS),
    ignore("modules.edged.tailoredKubeletConfig.showHiddenMetricsForVersion", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.shutdownGracePeriod", DOWN),
    ignore("modules.edged.tailoredKubeletConfig.shutdownGracePeriodByPodPriority", DOWN),
    ignore("modules.edged.tailoredKubeletConfig.shutdownGracePeriodCriticalPods", DOWN),
    ignore("modules.edged.tailoredKubeletConfig.singleProcessOOMKill", RUNTIME),
    ignore(
        "modules.edged.tailoredKubeletConfig.streamingConnectionIdleTimeout",
        "there are no idle streams to end",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.syncFrequency",
        "a pod is looked at when something changes, and as often as the runtime needs",
    ),
    ignore("modules.edged.tailoredKubeletConfig.systemCgroups", OBSERVED),
    ignore("modules.edged.tailoredKubeletConfig.systemReservedCgroup", RESERVED),
    ignore("modules.edged.tailoredKubeletConfig.topologyManagerPolicy", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.topologyManagerPolicyOptions", ALIGNMENT),
    ignore("modules.edged.tailoredKubeletConfig.topologyManagerScope", ALIGNMENT),
    ignore(
        "modules.edged.tailoredKubeletConfig.volumePluginDir",
        "there are no volume plugins of that kind",
    ),
    ignore(
        "modules.edged.tailoredKubeletConfig.volumeStatsAggPeriod",
        "disk use of volumes is not added up",
    ),
    ignore("modules.edged.windowsPriorityClass", WINDOWS),
    ignore("modules.edged.windowsService", WINDOWS),
];

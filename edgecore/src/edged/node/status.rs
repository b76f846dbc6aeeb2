//! The node's status and its Node object, as a kubelet would write them. Pure.
//!
//! Owns: the words of the conditions, capacity and allocatable, what counts as a change.
//! Called by: the node's tasks.
//! Never: reads a clock or a file.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::names::NodeName;
use api::raw::RawJson;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::facts::{Disk, Machine, Vitals};

/// What the cloud is told to be the kubelet's version. Tools read what stands behind `-kubeedge-`.
pub(crate) const KUBELET_VERSION: &str = "v1.32.10-kubeedge-v1.23.0";

/// What a Node object is made of, from the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeSettings {
    pub(crate) name: NodeName,
    /// `nodeLabels`
    pub(crate) labels: BTreeMap<String, String>,
    /// `registerWithTaints`
    pub(crate) taints: Vec<Taint>,
    /// `registerSchedulable`
    pub(crate) schedulable: bool,
    /// `enableControllerAttachDetach`
    pub(crate) attach_detach: bool,
    pub(crate) max_pods: u32,
    /// 0: no limit.
    pub(crate) pods_per_core: u32,
    /// Negative: all.
    pub(crate) max_images: i32,
    pub(crate) thresholds: Thresholds,
    /// `systemReserved` and `kubeReserved` together: bytes, thousandths of a processor.
    pub(crate) reserved_memory: u64,
    pub(crate) reserved_milli_cpu: u64,
}

/// When a resource is short: `evictionHard`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Thresholds {
    pub(crate) memory: Threshold,
    pub(crate) node_fs: Threshold,
    pub(crate) node_inodes: Threshold,
    pub(crate) image_fs: Threshold,
    pub(crate) image_inodes: Threshold,
    pub(crate) pids: Threshold,
}

/// So much must be left.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Threshold {
    /// No limit.
    #[default]
    Off,
    /// This much.
    Amount(u64),
    /// This part of all, 0 to 1.
    Share(f64),
}

impl Threshold {
    /// `10%` or `100Mi`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().strip_suffix('%') {
            Some(share) => {
                let share = share.parse::<f64>().ok().filter(|s| (0.0..=100.0).contains(s))?;
                Some(Self::Share(share / 100.0))
            }
            None => api::quantity::whole(text.trim()).map(Self::Amount),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a size below 2^63"
    )]
    pub(crate) fn of(self, all: u64) -> u64 {
        match self {
            Self::Off => 0,
            Self::Amount(n) => n,
            Self::Share(share) => (all as f64 * share) as u64,
        }
    }

    pub(crate) fn crossed(self, left: u64, all: u64) -> bool {
        self != Self::Off && left < self.of(all)
    }
}

/// What the container runtime says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RuntimeSeen {
    /// `containerd://1.6.20`; empty while it does not answer.
    pub(crate) version: String,
    /// What stands in the way of running pods; empty if nothing does.
    pub(crate) problems: Vec<String>,
    /// Its images, largest first.
    pub(crate) images: Vec<ContainerImage>,
}

/// All that a status is made of.
pub(crate) struct Seen<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) vitals: &'a Vitals,
    pub(crate) runtime: &'a RuntimeSeen,
    pub(crate) address: Option<IpAddr>,
}

/// The Node object with which the node registers.
pub(crate) fn node(settings: &NodeSettings, machine: &Machine, status: NodeStatus) -> Node {
    let mut taints = settings.taints.clone();
    if !settings.schedulable {
        taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    }
    Node {
        metadata: ObjectMeta {
            name: Some(settings.name.to_string()),
            labels: Some(labels(settings, machine)),
            annotations: settings.attach_detach.then(|| {
                let key = "volumes.kubernetes.io/controller-managed-attach-detach";
                BTreeMap::from([(key.to_owned(), "true".to_owned())])
            }),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            unschedulable: (!settings.schedulable).then_some(true),
            taints: (!taints.is_empty()).then_some(taints),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

/// The labels of an edge node.
pub(crate) fn labels(settings: &NodeSettings, machine: &Machine) -> BTreeMap<String, String> {
    let own = [
        ("kubernetes.io/hostname", settings.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &machine.architecture),
        ("node-role.kubernetes.io/edge", ""),
        ("node-role.kubernetes.io/agent", ""),
    ];
    let mut labels = settings.labels.clone();
    labels.extend(own.map(|(k, v)| (k.to_owned(), v.to_owned())));
    labels
}

/// The status now. `before` is the last one, from which times of transition are kept.
pub(crate) fn status(
    settings: &NodeSettings,
    seen: &Seen<'_>,
    before: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let (capacity, allocatable) = resources(settings, seen);
    let known = before.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let images = usize::try_from(settings.max_images).unwrap_or(usize::MAX);
    NodeStatus {
        addresses: Some(addresses(settings, seen.address)),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        conditions: Some(
            conditions(settings, seen).into_iter().map(|c| c.dated(known, now)).collect(),
        ),
        images: Some(seen.runtime.images.iter().take(images).cloned().collect()),
        node_info: Some(NodeSystemInfo {
            architecture: seen.machine.architecture.clone(),
            boot_id: seen.machine.boot_id.clone(),
            container_runtime_version: seen.runtime.version.clone(),
            kernel_version: seen.machine.kernel.clone(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: seen.machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: seen.machine.os_image.clone(),
            system_uuid: seen.machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn addresses(settings: &NodeSettings, address: Option<IpAddr>) -> Vec<NodeAddress> {
    let of = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let mut addresses: Vec<_> =
        address.map(|ip| of("InternalIP", ip.to_string())).into_iter().collect();
    addresses.push(of("Hostname", settings.name.to_string()));
    addresses
}

type Amounts = BTreeMap<String, Quantity>;

fn resources(settings: &NodeSettings, seen: &Seen<'_>) -> (Amounts, Amounts) {
    let machine = seen.machine;
    let mut pods = u64::from(settings.max_pods);
    if settings.pods_per_core > 0 {
        pods = pods.min(u64::from(settings.pods_per_core) * machine.cpus);
    }
    let disk = seen.vitals.node_fs.unwrap_or_default();
    let milli_cpu = (machine.cpus * 1000).saturating_sub(settings.reserved_milli_cpu);
    let cpu = match milli_cpu % 1000 {
        0 => (milli_cpu / 1000).to_string(),
        _ => format!("{milli_cpu}m"),
    };
    let kept = settings.reserved_memory + settings.thresholds.memory.of(machine.memory);
    let kept_disk = settings.thresholds.node_fs.of(disk.size);
    let make = |cpu: String, memory: u64, storage: String| {
        [
            ("cpu", cpu),
            ("ephemeral-storage", storage),
            ("memory", format!("{}Ki", memory / 1024)),
            ("pods", pods.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), Quantity(v)))
        .into()
    };
    (
        make(machine.cpus.to_string(), machine.memory, format!("{}Ki", disk.size / 1024)),
        make(
            cpu,
            machine.memory.saturating_sub(kept),
            (disk.size - kept_disk.min(disk.size)).to_string(),
        ),
    )
}

/// A condition before it has its times.
struct Condition {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn dated(self, known: &[NodeCondition], now: Timestamp) -> NodeCondition {
        let status = if self.status { "True" } else { "False" };
        let since = known
            .iter()
            .find(|c| c.type_ == self.kind && c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        NodeCondition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        }
    }
}

fn conditions(settings: &NodeSettings, seen: &Seen<'_>) -> [Condition; 4] {
    let limits = &settings.thresholds;
    let memory = seen
        .vitals
        .memory_available
        .is_some_and(|left| limits.memory.crossed(left, seen.machine.memory));
    let full = |disk: Option<Disk>, bytes: Threshold, inodes: Threshold| {
        disk.is_some_and(|d| {
            bytes.crossed(d.available, d.size)
                || (d.inodes > 0 && inodes.crossed(d.inodes_free, d.inodes))
        })
    };
    let disk = full(seen.vitals.node_fs, limits.node_fs, limits.node_inodes)
        || full(seen.vitals.image_fs, limits.image_fs, limits.image_inodes);
    let pids = seen
        .vitals
        .pids
        .is_some_and(|(used, all)| limits.pids.crossed(all.saturating_sub(used), all));
    let pressure = |kind, short: bool, words: [&'static str; 4]| Condition {
        kind,
        status: short,
        reason: words[if short { 0 } else { 2 }],
        message: words[if short { 1 } else { 3 }].to_owned(),
    };
    [
        pressure(
            "MemoryPressure",
            memory,
            [
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ],
        ),
        pressure(
            "DiskPressure",
            disk,
            [
                "KubeletHasDiskPressure",
                "kubelet has disk pressure",
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ],
        ),
        pressure(
            "PIDPressure",
            pids,
            [
                "KubeletHasInsufficientPID",
                "kubelet has insufficient PID available",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ],
        ),
        ready(seen.runtime),
    ]
}

fn ready(runtime: &RuntimeSeen) -> Condition {
    if runtime.problems.is_empty() {
        let (reason, message) = ("KubeletReady", "kubelet is posting ready status".to_owned());
        return Condition { kind: "Ready", status: true, reason, message };
    }
    let message = match runtime.problems.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    };
    Condition { kind: "Ready", status: false, reason: "KubeletNotReady", message }
}

/// Whether the node is ready, for what waits on it.
pub(crate) fn is_ready(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether two statuses differ in more than the time of day and how much memory is free.
pub(crate) fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |s: &NodeStatus| {
        let mut s = s.clone();
        for condition in s.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        s
    };
    timeless(a) != timeless(b)
}

/// A strategic merge patch that carries the whole status. The list of addresses is replaced, since
/// the API server would merge it by type.
pub(crate) fn patch(status: &NodeStatus) -> Result<String, serde_json::Error> {
    let mut status: Value = RawJson::of(status)?.to()?;
    if let Some(Value::Array(addresses)) = status.get_mut("addresses") {
        addresses.push(json!({"$patch": "replace"}));
    }
    serde_json::to_string(&json!({ "status": status }))
}

/// What is missing of ours on a Node that exists, as an object to merge; none if nothing is.
pub(crate) fn reconciled(ours: &Node, theirs: &Node) -> Option<Node> {
    let lacks = |ours: &Option<BTreeMap<String, String>>,
                 theirs: &Option<BTreeMap<String, String>>| {
        let theirs = theirs.clone().unwrap_or_default();
        let missing: BTreeMap<_, _> = ours
            .iter()
            .flatten()
            .filter(|(k, v)| theirs.get(*k) != Some(v))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        (!missing.is_empty()).then_some(missing)
    };
    let labels = lacks(&ours.metadata.labels, &theirs.metadata.labels);
    let annotations = lacks(&ours.metadata.annotations, &theirs.metadata.annotations);
    if labels.is_none() && annotations.is_none() {
        return None;
    }
    Some(Node {
        metadata: ObjectMeta {
            name: ours.metadata.name.clone(),
            uid: theirs.metadata.uid.clone(),
            labels,
            annotations,
            ..ObjectMeta::default()
        },
        ..Node::default()
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> NodeSettings {
        NodeSettings {
            name: "edge-1".parse().unwrap(),
            labels: BTreeMap::from([("site".to_owned(), "north".to_owned())]),
            taints: Vec::new(),
            schedulable: true,
            attach_detach: true,
            max_pods: 110,
            pods_per_core: 0,
            max_images: 0,
            thresholds: Thresholds {
                memory: Threshold::Amount(100 << 20),
                node_fs: Threshold::Share(0.1),
                ..Thresholds::default()
            },
            reserved_memory: 0,
            reserved_milli_cpu: 0,
        }
    }

    fn machine() -> Machine {
        Machine { cpus: 2, memory: 4 << 30, architecture: "amd64".into(), ..Machine::default() }
    }

    fn vitals(memory: u64) -> Vitals {
        let disk = Disk { size: 100 << 30, available: 50 << 30, inodes: 0, inodes_free: 0 };
        Vitals { memory_available: Some(memory), node_fs: Some(disk), ..Vitals::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status_with(
        memory: u64,
        problems: &[&str],
        before: Option<&NodeStatus>,
        now: i64,
    ) -> NodeStatus {
        let runtime = RuntimeSeen {
            version: "containerd://1.6.20".into(),
            problems: problems.iter().map(|p| (*p).to_owned()).collect(),
            images: Vec::new(),
        };
        let (machine, vitals) = (machine(), vitals(memory));
        let seen = Seen {
            machine: &machine,
            vitals: &vitals,
            runtime: &runtime,
            address: Some([10, 0, 0, 7].into()),
        };
        status(&settings(), &seen, before, at(now))
    }

    fn condition<'a>(status: &'a NodeStatus, kind: &str) -> &'a NodeCondition {
        status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap()
    }

    #[test]
    fn a_healthy_node_speaks_as_a_kubelet_does() {
        let s = status_with(1 << 30, &[], None, 100);
        let ready = condition(&s, "Ready");
        assert_eq!(ready.status, "True");
        assert_eq!(ready.reason.as_deref(), Some("KubeletReady"));
        assert_eq!(ready.message.as_deref(), Some("kubelet is posting ready status"));
        for kind in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
            assert_eq!(condition(&s, kind).status, "False", "{kind}");
        }
        assert!(is_ready(&s));
        let amounts = s.allocatable.unwrap();
        assert_eq!(amounts["memory"].0, format!("{}Ki", (4 * 1024 - 100) * 1024));
        assert_eq!(amounts["ephemeral-storage"].0, (90_u64 << 30).to_string());
        assert_eq!((amounts["cpu"].0.as_str(), amounts["pods"].0.as_str()), ("2", "110"));
    }

    #[test]
    fn what_is_short_and_what_is_broken_is_said() {
        let s = status_with(50 << 20, &["container runtime is down", "x"], None, 100);
        assert_eq!(
            condition(&s, "MemoryPressure").reason.as_deref(),
            Some("KubeletHasInsufficientMemory")
        );
        let ready = condition(&s, "Ready");
        assert_eq!(ready.status, "False");
        assert_eq!(ready.message.as_deref(), Some("[container runtime is down, x]"));
    }

    #[test]
    fn times_of_transition_stay_until_the_condition_turns() {
        let first = status_with(1 << 30, &[], None, 100);
        let second = status_with(1 << 30, &[], Some(&first), 200);
        assert_eq!(condition(&second, "Ready").last_transition_time, Some(Time(at(100))));
        assert_eq!(condition(&second, "Ready").last_heartbeat_time, Some(Time(at(200))));
        assert!(!differs(&first, &second));
        let third = status_with(1 << 30, &["down"], Some(&second), 300);
        assert_eq!(condition(&third, "Ready").last_transition_time, Some(Time(at(300))));
        assert!(differs(&second, &third));
    }

    #[test]
    fn an_edge_node_carries_the_labels_by_which_the_cloud_knows_it() {
        let n = node(&settings(), &machine(), NodeStatus::default());
        let labels = n.metadata.labels.unwrap();
        assert_eq!(labels["node-role.kubernetes.io/edge"], "");
        assert_eq!(labels["node-role.kubernetes.io/agent"], "");
        assert_eq!(labels["kubernetes.io/arch"], "amd64");
        assert_eq!(labels["site"], "north");
        assert!(n.spec.unwrap().taints.is_none());
        let closed = NodeSettings { schedulable: false, ..settings() };
        let taints = node(&closed, &machine(), NodeStatus::default()).spec.unwrap().taints.unwrap();
        assert_eq!(taints[0].key, "node.kubernetes.io/unschedulable");
    }

    #[test]
    fn the_patch_replaces_the_addresses() {
        let text = patch(&status_with(1 << 30, &[], None, 100)).unwrap();
        let patch: Value = serde_json::from_str(&text).unwrap();
        let addresses = patch["status"]["addresses"].as_array().unwrap();
        assert_eq!(addresses[0], json!({"type": "InternalIP", "address": "10.0.0.7"}));
        assert_eq!(addresses[2], json!({"$patch": "replace"}));
        assert!(patch["status"].get("daemonEndpoints").is_none(), "the cloud sets the port");
    }

    #[test]
    fn only_what_is_missing_on_the_node_is_sent() {
        let ours = node(&settings(), &machine(), NodeStatus::default());
        assert!(reconciled(&ours, &ours).is_none());
        let mut theirs = ours.clone();
        theirs.metadata.labels.as_mut().unwrap().remove("node-role.kubernetes.io/edge");
        let merge = reconciled(&ours, &theirs).unwrap();
        assert_eq!(merge.metadata.labels.unwrap().len(), 1);
        assert!(merge.metadata.annotations.is_none());
    }

    #[test]
    fn thresholds_are_amounts_or_shares() {
        assert_eq!(Threshold::parse("100Mi"), Some(Threshold::Amount(100 << 20)));
        assert_eq!(Threshold::parse("10%"), Some(Threshold::Share(0.1)));
        assert_eq!(Threshold::parse("1.5Gi"), Some(Threshold::Amount(3 << 29)));
        for bad in ["", "%", "x", "-1", "200%"] {
            assert_eq!(Threshold::parse(bad), None, "{bad}");
        }
    }
}

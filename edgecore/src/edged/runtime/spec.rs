//! What a sandbox and a container should be.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Labels and annotations.
pub type Pairs = BTreeMap<String, String>;

/// The labels and annotations that edged sets, as kubelet spells them, so that other tools know
/// whose containers these are.
pub mod label {
    /// Label: the pod's name.
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// Label: the pod's namespace.
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// Label: the pod's UID.
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// Label: the container's name within the pod.
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// Annotation: how often the container had been started before.
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    /// Annotation: the file in the container in which it may leave its last words.
    pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    /// Annotation: `File` or `FallbackToLogsOnError`.
    pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    /// Annotation: the pod's grace period in seconds, for when the pod itself is no longer known.
    pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
    /// Annotation: the image as the pod's spec named it; ours alone. A container without it was
    /// started by a kubelet and is taken over as it is.
    pub const SPEC_IMAGE: &str = "edged.kubeedge.io/image";
}

/// Name servers for a pod's `/etc/resolv.conf`. All empty: the runtime's own default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A port of the pod that is reachable at a port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Protocol,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the host.
    pub host_port: u16,
    /// Address on the host; empty for all.
    pub host_ip: String,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// Which namespaces a pod shares with the host, and its containers with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// `hostNetwork`
    pub host_network: bool,
    /// `hostPID`
    pub host_pid: bool,
    /// `hostIPC`
    pub host_ipc: bool,
    /// `shareProcessNamespace`: one PID namespace for all containers of the pod.
    pub shared_pid: bool,
}

/// A system-call filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// No filter.
    #[default]
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// A profile file on this machine.
    Localhost(PathBuf),
}

/// A pod's sandbox, to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxSpec {
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// 0 for the pod's first sandbox.
    pub attempt: u32,
    /// Empty on the host's network: there is no UTS namespace to name then.
    pub hostname: String,
    /// Where the containers' log paths are relative to.
    pub log_directory: PathBuf,
    /// Name servers.
    pub dns: DnsConfig,
    /// Host ports.
    pub ports: Vec<PortMapping>,
    /// Labels; must be returned by [`ContainerRuntime::list`].
    pub labels: Pairs,
    /// Annotations; must be returned likewise.
    pub annotations: Pairs,
    /// The cgroup under which the containers' cgroups are made, in the driver's spelling. Empty:
    /// the runtime's choice.
    pub cgroup_parent: String,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: Pairs,
    /// What is shared.
    pub namespaces: Namespaces,
    /// User of the sandbox's own process.
    pub run_as_user: Option<i64>,
    /// Group of the sandbox's own process.
    pub run_as_group: Option<i64>,
    /// More groups.
    pub supplemental_groups: Vec<i64>,
    /// A container of the pod is privileged.
    pub privileged: bool,
    /// Filter of the sandbox's own process.
    pub seccomp: Seccomp,
    /// `runtimeClassName`'s handler; empty for the default.
    pub runtime_handler: String,
    /// The sum of the pod's resources, for runtimes that size a virtual machine by it.
    pub resources: Resources,
}

/// CPU and memory of a container. 0 means "not limited" or "as the kernel has it".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Weight, 1024 for one core.
    pub cpu_shares: i64,
    /// Microseconds of a CFS period.
    pub cpu_period: i64,
    /// Microseconds of CPU time per period.
    pub cpu_quota: i64,
    /// Bytes.
    pub memory_limit: i64,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
}

/// A mount from the host into a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// Path in the container.
    pub container_path: String,
    /// Path on the host. Symbolic links have been followed.
    pub host_path: PathBuf,
    /// Not writable from within.
    pub read_only: bool,
    /// Mounts made later on either side.
    pub propagation: Propagation,
}

/// Whether mounts made later are seen on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// No.
    #[default]
    Private,
    /// The host's appear in the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A device node of the host that a container may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Path in the container.
    pub container_path: String,
    /// Path on the host.
    pub host_path: PathBuf,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// What a container's processes may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerSecurity {
    /// `None`: as the image says.
    pub run_as_user: Option<i64>,
    /// A user name from the image's `/etc/passwd`; used when `run_as_user` is absent.
    pub run_as_username: String,
    /// `None`: as the image says. Never set without a user.
    pub run_as_group: Option<i64>,
    /// More groups: `supplementalGroups` and `fsGroup`.
    pub supplemental_groups: Vec<i64>,
    /// All devices, all capabilities, no filter.
    pub privileged: bool,
    /// `readOnlyRootFilesystem`
    pub read_only_rootfs: bool,
    /// The opposite of `allowPrivilegeEscalation`.
    pub no_new_privs: bool,
    /// Without the `CAP_` prefix, or `ALL`.
    pub add_capabilities: Vec<String>,
    /// Without the `CAP_` prefix, or `ALL`.
    pub drop_capabilities: Vec<String>,
    /// System-call filter.
    pub seccomp: Seccomp,
    /// Name of an AppArmor profile; `None` for the runtime's default.
    pub apparmor: Option<String>,
    /// Hidden paths; empty for `procMount: Unmasked`.
    pub masked_paths: Vec<String>,
    /// Read-only paths; likewise.
    pub readonly_paths: Vec<String>,
}

/// A container, to be made in a sandbox.
///
/// `Debug` leaves the environment out: it may hold secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ContainerSpec {
    /// Name within the pod.
    pub name: String,
    /// How often it had been started before.
    pub attempt: u32,
    /// The image reference that [`ContainerRuntime::image_status`] or a pull returned.
    pub image: String,
    /// The image as the pod names it.
    pub user_image: String,
    /// Instead of the image's entry point; empty: the image's.
    pub command: Vec<String>,
    /// Instead of the image's arguments; empty: the image's, unless `command` is set.
    pub args: Vec<String>,
    /// Empty: the image's.
    pub working_dir: String,
    /// The environment, in order, on top of the image's.
    pub env: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Labels; must be returned by [`ContainerRuntime::list`].
    pub labels: Pairs,
    /// Annotations; must be returned likewise.
    pub annotations: Pairs,
    /// The log file in the CRI format, relative to the sandbox's log directory.
    pub log_path: PathBuf,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input when the first attached client leaves.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Rights.
    pub security: ContainerSecurity,
    /// A container of the pod, running, whose processes it sees.
    pub looks_into: Option<String>,
}

impl std::fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerSpec")
            .field("name", &self.name)
            .field("attempt", &self.attempt)
            .field("image", &self.user_image)
            .field("env", &format_args!("{} variables", self.env.len()))
            .finish_non_exhaustive()
    }
}

//! What edged needs of a container runtime, in plain types.
//!
//! Owns: the trait [`ContainerRuntime`] and the types that cross it.
//! Called by: `worker.rs`, `pleg.rs`, `images.rs`, `server.rs`.
//! Never: knows what a Pod object is, or which protocol a runtime speaks.
//!
//! An implementation keeps no truth of its own: what it answers to [`ContainerRuntime::list`] and
//! the status calls must survive a kill of edgecore, for edged has no other memory of what it
//! started. Labels and annotations given at creation come back unchanged.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub mod cri;
pub mod embedded;
pub mod fake;
mod generated;

/// A boxed future, so that the trait can be used as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a call to a runtime returns.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, RuntimeError>>;

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

/// Why a runtime did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Nothing answers at the runtime's socket.
    #[error("the container runtime at `{endpoint}` does not answer: {why}")]
    Unreachable {
        /// Where it was sought.
        endpoint: String,
        /// The transport's words.
        why: String,
    },
    /// The sandbox, container or image is not there.
    #[error("{what} is not known to the container runtime")]
    NotFound {
        /// Which.
        what: String,
    },
    /// No answer in time.
    #[error("the container runtime did not finish `{call}` within {} s", .limit.as_secs())]
    TimedOut {
        /// The call.
        call: &'static str,
        /// Its limit.
        limit: Duration,
    },
    /// This runtime cannot do that.
    #[error("this container runtime cannot do `{0}`")]
    Unsupported(&'static str),
    /// The runtime said no. The text is its own.
    #[error("{0}")]
    Refused(String),
}

impl RuntimeError {
    /// Whether the thing asked about does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, RuntimeError::NotFound { .. })
    }
}

/// Who the runtime is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeVersion {
    /// For example `containerd`.
    pub name: String,
    /// For example `1.6.20`.
    pub version: String,
}

/// Whether the runtime can run pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeStatus {
    /// Containers can be run.
    pub ready: bool,
    /// Pods can get a network of their own; pods on the host's network run without it.
    pub network_ready: bool,
    /// What stands in the way, in the runtime's words; empty if nothing does.
    pub message: String,
    /// How cgroup parents are to be written; `None` if the runtime does not say.
    pub cgroup_driver: Option<CgroupDriver>,
}

/// How cgroup parents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupDriver {
    /// `/kubepods/burstable/pod<uid>`
    #[default]
    Cgroupfs,
    /// `kubepods-burstable-pod<uid>.slice`
    Systemd,
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

/// A sandbox as the runtime has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenSandbox {
    /// The runtime's id.
    pub id: String,
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// 0 for the pod's first.
    pub attempt: u32,
    /// Its process and its network are there.
    pub ready: bool,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// As given.
    pub labels: Pairs,
    /// As given.
    pub annotations: Pairs,
}

/// A sandbox's addresses, which a list does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxStatus {
    /// Its process and its network are there.
    pub ready: bool,
    /// Main address first; empty on the host's network.
    pub ips: Vec<String>,
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime does not know.
    #[default]
    Unknown,
}

/// A container as a list of the runtime has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenContainer {
    /// The runtime's id.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// Name within the pod.
    pub name: String,
    /// How often it had been started before.
    pub attempt: u32,
    /// Where it stands.
    pub state: ContainerState,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// As given.
    pub labels: Pairs,
    /// As given.
    pub annotations: Pairs,
}

/// All that is known about one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerStatus {
    /// The runtime's id.
    pub id: String,
    /// Name within the pod.
    pub name: String,
    /// How often it had been started before.
    pub attempt: u32,
    /// Where it stands.
    pub state: ContainerState,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Nanoseconds since 1970; 0 if never.
    pub started_at: i64,
    /// Nanoseconds since 1970; 0 if not.
    pub finished_at: i64,
    /// Once ended.
    pub exit_code: i32,
    /// The image as a person would name it.
    pub image: String,
    /// The image as `repository@sha256:..`, or its id.
    pub image_ref: String,
    /// `Completed`, `Error`, `OOMKilled` ..; may be empty.
    pub reason: String,
    /// The runtime's words on why it ended or did not start.
    pub message: String,
    /// As given.
    pub annotations: Pairs,
    /// Absolute path of its log.
    pub log_path: PathBuf,
    /// The mounts it has: where to find its termination message.
    pub mounts: Vec<Mount>,
    /// The limits it has, if the runtime says so.
    pub resources: Option<Resources>,
}

/// What a runtime holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Sandboxes, in no order.
    pub sandboxes: Vec<SeenSandbox>,
    /// Containers, in no order.
    pub containers: Vec<SeenContainer>,
}

/// One pod as the runtime has it: what [`see`] returns, what `plan` and `status` judge by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenPod {
    /// Its sandboxes, newest first.
    pub sandboxes: Vec<SeenSandbox>,
    /// Addresses of the newest sandbox, if that is ready.
    pub ips: Vec<String>,
    /// Its containers, all attempts, newest first.
    pub containers: Vec<PodContainer>,
}

/// A container of a [`SeenPod`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodContainer {
    /// Its sandbox.
    pub sandbox_id: String,
    /// All about it.
    pub status: ContainerStatus,
    /// Its termination message, read once it ended.
    pub last_words: String,
}

/// An image on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageInfo {
    /// The runtime's id.
    pub id: String,
    /// `repository:tag`
    pub repo_tags: Vec<String>,
    /// `repository@sha256:..`
    pub repo_digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Numeric user of the image, if it names one.
    pub uid: Option<i64>,
    /// User name of the image, if it names one so.
    pub username: String,
    /// Not to be removed.
    pub pinned: bool,
}

/// What to log in with at a registry. `Debug` says nothing of it.
#[derive(Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of a docker configuration file")]
pub struct PullAuth {
    pub username: String,
    pub password: String,
    pub auth: String,
    pub server_address: String,
    pub identity_token: String,
    pub registry_token: String,
}

impl std::fmt::Debug for PullAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PullAuth(..)")
    }
}

/// The outcome of a short command in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Standard output, at most 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, at most 16 MiB.
    pub stderr: Vec<u8>,
    /// 0 if all went well.
    pub exit_code: i32,
}

/// What to run in a container, with which streams; for attach, `command` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// With a terminal; standard error is then part of standard output.
    pub tty: bool,
    /// Connect standard input.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error.
    pub stderr: bool,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// The connected streams of an exec or attach. Dropping all of it lets the process go on alone.
pub struct Streams {
    /// Close it to say end of file.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Ends with the process.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Ends with the process.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Terminal sizes; the newest wins, so `try_send` into a channel of 1 or more.
    pub resize: mpsc::Sender<TerminalSize>,
    /// The exit code, once the process ended and all output has been handed over.
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// Where the ports of a pod are.
#[derive(Debug)]
pub enum PodNetwork {
    /// On the node itself.
    Host,
    /// In a network namespace of the pod's own, which lives at least as long as this descriptor.
    Namespace(OwnedFd),
}

/// CPU, memory and disk of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerStats {
    /// The runtime's id.
    pub id: String,
    /// Name within the pod.
    pub name: String,
    /// As given.
    pub labels: Pairs,
    /// Nanoseconds since 1970.
    pub at: i64,
    /// Nanoseconds of CPU time used so far.
    pub cpu_nanoseconds: u64,
    /// Bytes that cannot be taken back.
    pub memory_working_set: u64,
    /// Bytes in all.
    pub memory_usage: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    /// Bytes written into the container's own layer.
    pub disk_used: u64,
    /// Inodes used there.
    pub inodes_used: u64,
}

/// Use of the file system that holds images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFs {
    /// A path on that file system.
    pub mountpoint: PathBuf,
    /// Bytes used by images.
    pub used_bytes: u64,
    /// Inodes used by images.
    pub inodes_used: u64,
}

/// Something happened to a container or a sandbox. It says where to look, not what is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container or sandbox with this id changed.
    Changed {
        /// Container or sandbox id.
        id: String,
        /// Its pod, if the runtime says so.
        pod_uid: Option<String>,
    },
    /// A container's own process ended. Told by runtimes whose lists show it only later.
    Exited {
        /// Container id.
        id: String,
        /// 0 if all went well.
        exit_code: i32,
        /// Nanoseconds since 1970.
        at: i64,
    },
    /// Events may have been lost: look at everything.
    Missed,
}

/// What edged asks of a container runtime.
///
/// All calls may be made at once from many tasks. All are to be idempotent: stopping or removing
/// what is gone is a success.
pub trait ContainerRuntime: Send + Sync {
    /// Name and version.
    fn version(&self) -> Answer<'_, RuntimeVersion>;

    /// Whether pods can be run.
    fn status(&self) -> Answer<'_, RuntimeStatus>;

    /// What a pod that does not ask for the host's network must be told in an event; `None` if its
    /// network is what Kubernetes promises.
    fn network_limit(&self) -> Option<&'static str> {
        None
    }

    /// All sandboxes and containers, or those of the pod with this UID.
    fn list<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Listing>;

    /// Makes a sandbox with its network and returns its id.
    fn run_sandbox<'a>(&'a self, spec: &'a SandboxSpec) -> Answer<'a, String>;

    /// Addresses and readiness of a sandbox.
    fn sandbox_status<'a>(&'a self, id: &'a str) -> Answer<'a, SandboxStatus>;

    /// The network of a ready sandbox, for connections to its ports.
    fn network<'a>(&'a self, id: &'a str) -> Answer<'a, PodNetwork>;

    /// Ends all containers of a sandbox by force and frees its network.
    fn stop_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Removes a stopped sandbox and its containers.
    fn remove_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Makes a container in a ready sandbox and returns its id. The sandbox's own spec comes
    /// along, because some runtimes want it again.
    fn create_container<'a>(
        &'a self,
        sandbox_id: &'a str,
        spec: &'a ContainerSpec,
        sandbox: &'a SandboxSpec,
    ) -> Answer<'a, String>;

    /// Starts a made container.
    fn start_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Asks the container to end with its stop signal, and ends it by force after `grace`.
    /// Returns once it has ended.
    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()>;

    /// Removes a container; a running one is ended by force.
    fn remove_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// All about a container.
    fn container_status<'a>(&'a self, id: &'a str) -> Answer<'a, ContainerStatus>;

    /// Changes a running container's limits.
    fn update_resources<'a>(&'a self, id: &'a str, to: &'a Resources) -> Answer<'a, ()>;

    /// Lets the container's log be written to a new file, after the old one was renamed.
    fn reopen_log<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Runs a command to its end and collects what it prints. [`RuntimeError::TimedOut`] if it
    /// takes longer than `limit`; it has been killed then.
    fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: &'a [String],
        limit: Duration,
    ) -> Answer<'a, ExecOutput>;

    /// Runs a command with its streams connected.
    fn exec<'a>(&'a self, id: &'a str, spec: &'a StreamSpec) -> Answer<'a, Streams>;

    /// Connects to the streams of the container's own process.
    fn attach<'a>(&'a self, id: &'a str, spec: &'a StreamSpec) -> Answer<'a, Streams>;

    /// The image, if it is here.
    fn image_status<'a>(&'a self, image: &'a str) -> Answer<'a, Option<ImageInfo>>;

    /// Fetches an image and returns its reference, to be used in [`ContainerSpec::image`].
    fn pull_image<'a>(&'a self, image: &'a str, auth: Option<&'a PullAuth>) -> Answer<'a, String>;

    /// Copies the file at `path` of an image that is here to `to`, which is not there yet. Its folder
    /// is; the runtime may leave nothing else in it.
    fn copy_from_image<'a>(&'a self, image: &'a str, path: &'a str, to: &'a Path)
    -> Answer<'a, ()>;

    /// All images.
    fn list_images(&self) -> Answer<'_, Vec<ImageInfo>>;

    /// Removes an image.
    fn remove_image<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Where images are kept and how much they take.
    fn image_fs(&self) -> Answer<'_, Vec<ImageFs>>;

    /// CPU, memory and disk of all running containers, or of one pod's.
    fn stats<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Vec<ContainerStats>>;

    /// A stream of what happens from now on, or `None` if the runtime has no events; edged then
    /// lists once a second. The channel is bounded and the runtime waits when it is full; its end
    /// means that the stream broke and may be asked for again.
    fn events(&self) -> Answer<'_, Option<mpsc::Receiver<RuntimeEvent>>>;
}

/// One pod as the runtime has it, from a list and a status call for each of its containers.
///
/// Statuses of ended containers never change, so those in `before` are not asked for again.
///
/// # Errors
/// The runtime's; a container that went away between list and status is left out.
pub async fn see(
    runtime: &dyn ContainerRuntime,
    pod_uid: &str,
    before: &SeenPod,
) -> Result<SeenPod, RuntimeError> {
    let Listing { mut sandboxes, mut containers } = runtime.list(Some(pod_uid)).await?;
    sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
    containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.attempt)));
    let mut seen = SeenPod { sandboxes, ..SeenPod::default() };
    if let Some(newest) = seen.sandboxes.first_mut().filter(|s| s.ready) {
        match runtime.sandbox_status(&newest.id).await {
            Ok(status) => {
                newest.ready = status.ready;
                seen.ips = status.ips;
            }
            Err(e) if e.is_not_found() => newest.ready = false,
            Err(e) => return Err(e),
        }
    }
    for c in containers {
        let known = before.containers.iter().find(|k| {
            k.status.id == c.id
                && k.status.state == ContainerState::Exited
                && c.state == ContainerState::Exited
        });
        if let Some(known) = known {
            seen.containers.push(known.clone());
            continue;
        }
        match runtime.container_status(&c.id).await {
            Ok(status) => seen.containers.push(PodContainer {
                sandbox_id: c.sandbox_id,
                status,
                last_words: String::new(),
            }),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(seen)
}

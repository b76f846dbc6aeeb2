//! What edged needs of a container runtime, in plain types.
//!
//! Owns: the trait [`ContainerRuntime`] and the types that cross it: `spec.rs` has what a pod and a
//! container should be, `seen.rs` what there is, this file the rest.
//! Called by: `worker.rs`, `pleg.rs`, `images.rs`, `server.rs`.
//! Never: knows what a Pod object is, or which protocol a runtime speaks.
//!
//! An implementation keeps no truth of its own: what it answers to [`ContainerRuntime::list`] and
//! the status calls must survive a kill of edgecore, for edged has no other memory of what it
//! started. Labels and annotations given at creation come back unchanged.

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
mod seen;
mod spec;

pub use self::seen::{
    ContainerState, ContainerStatus, Listing, PodContainer, SandboxStatus, SeenContainer, SeenPod,
    SeenSandbox, see,
};
pub use self::spec::{
    ContainerSecurity, ContainerSpec, Device, DnsConfig, Mount, Namespaces, Pairs, PortMapping,
    Propagation, Protocol, Resources, SandboxSpec, Seccomp, label,
};

/// A boxed future, so that the trait can be used as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a call to a runtime returns.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, RuntimeError>>;

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

//! What sandboxes and containers a runtime has, and how they stand.

use std::path::PathBuf;

use super::spec::{Mount, Pairs, Resources};
use super::{ContainerRuntime, RuntimeError};

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

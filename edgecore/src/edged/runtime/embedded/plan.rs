//! What a shim is to do, as edgecore writes it down for it.
//!
//! Owns: the plans. They may hold secrets of the pod (its environment), so they have no `Debug`
//! and their files are for root only.
//! Called by: `sandboxes.rs` and `containers.rs` write them, the shims read them.
//! Never: changes once written.

use std::path::PathBuf;

use libcontainer::oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::super::Pairs;
use super::shim::user::UserPlan;
use super::state::ProcessRef;

/// A sandbox's namespaces.
#[derive(Serialize, Deserialize)]
pub(crate) struct SandboxPlan {
    /// Empty: there is no UTS namespace of its own.
    pub(crate) hostname: String,
    pub(crate) own_network: bool,
    pub(crate) own_ipc: bool,
    pub(crate) shared_pid: bool,
    pub(crate) sysctls: Pairs,
}

/// A container: its root, its process, where its output goes.
#[derive(Serialize, Deserialize)]
pub(crate) struct ContainerPlan {
    /// The folder that `layers` are in.
    pub(crate) layers_folder: PathBuf,
    /// Unpacked layers, the topmost first.
    pub(crate) layers: Vec<String>,
    pub(crate) user: UserPlan,
    /// The sandbox's shim, which has the pod's `/dev/shm`; `None` if that is the host's.
    pub(crate) shm_of: Option<ProcessRef>,
    /// Where that is, in the shim's mount namespace.
    pub(crate) shm: PathBuf,
    /// Without the user, which only the mounted root can name.
    pub(crate) spec: Spec,
    pub(crate) cgroup: String,
    pub(crate) log_path: PathBuf,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) oom_score_adj: i32,
}

/// The first and only thing a shim says on its standard output.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Why it could not do as planned; it is gone then.
    pub(crate) error: Option<String>,
    /// What it had to do otherwise than one would expect.
    pub(crate) notes: Vec<String>,
}

//! Reading a Pod: what its optional fields mean when they are absent. Pure.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};

/// Marks a pod that comes from a file of this node; its value is a hash of the file.
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Marks the API server's copy of such a pod; its value is that hash.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Where the pod comes from: `file` or `api`.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// Whether a container that ended with this code is started again.
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next.
    Init,
    /// An init container with `restartPolicy: Always`: starts in turn, then stays.
    Sidecar,
    /// What the pod is for.
    Main,
    /// Added to a pod that is there, to look into it; started once.
    Ephemeral,
}

/// The name, or nothing.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The namespace; `default` if absent.
pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// The UID, or nothing.
pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as kubelet's messages name a pod.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The spec; an empty one if absent, which runs nothing.
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The status as the cloud has it; empty if absent.
pub(crate) fn status(pod: &Pod) -> &PodStatus {
    static EMPTY: std::sync::LazyLock<PodStatus> = std::sync::LazyLock::new(PodStatus::default);
    pod.status.as_ref().unwrap_or(&EMPTY)
}

/// `Always` unless said otherwise.
pub(crate) fn restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).restart_policy.as_deref() {
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        _ => RestartPolicy::Always,
    }
}

/// Init containers and sidecars, in their order.
pub(crate) fn init_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = (&Container, Role)> {
    spec(pod).init_containers.iter().flatten().map(|c| (c, init_role(c)))
}

fn init_role(c: &Container) -> Role {
    match c.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

/// The containers that a pod is made with: init containers first.
pub(crate) fn lasting(pod: &Pod) -> impl Iterator<Item = (&Container, Role)> {
    init_containers(pod).chain(spec(pod).containers.iter().map(|c| (c, Role::Main)))
}

/// All containers, ephemeral ones last.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = (Cow<'_, Container>, Role)> {
    lasting(pod)
        .map(|(c, role)| (Cow::Borrowed(c), role))
        .chain(ephemeral(pod).iter().map(|e| (Cow::Owned(as_container(e)), Role::Ephemeral)))
}

/// The container of this name.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<(Cow<'a, Container>, Role)> {
    containers(pod).find(|(c, _)| c.name == name)
}

/// Containers that were added to look into the pod.
pub(crate) fn ephemeral(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// The container whose processes another one, an ephemeral one, wants to see.
pub(crate) fn looks_into<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let found = ephemeral(pod).iter().find(|e| e.name == name)?;
    found.target_container_name.as_deref().filter(|t| !t.is_empty())
}

/// What an ephemeral container has in common with others.
fn as_container(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// How long the pod's containers may take to end: what its deletion asks for, else its spec.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(30);
    // As kubelet: even a forced deletion gives a second.
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
}

/// Whether the cloud has asked for its end.
pub(crate) fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether its status says that it has run to its end; such a pod is never run again.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(status(pod).phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// An annotation.
pub(crate) fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether it comes from a file of this node.
pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|s| s != "api")
}

/// Whether it is the cloud's copy of a static pod, which is shown and not run.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// Whether an upgrade of it is held back until somebody on the node lets it go.
pub(crate) fn is_held(pod: &Pod) -> bool {
    annotation(pod, "edge.kubeedge.io/hold-upgrade") == Some("true")
        && !is_deleted(pod)
        && status(pod).phase.as_deref().is_none_or(|p| p == "Pending")
}

/// Whether it shares the host's network.
pub(crate) fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

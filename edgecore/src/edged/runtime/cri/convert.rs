//! Our types to the protocol's and back. Pure.

use std::path::PathBuf;

use super::super::generated::cri as pb;
use super::super::{
    ContainerSecurity, ContainerSpec, ContainerState, ContainerStats, ContainerStatus, ImageFs,
    ImageInfo, Mount, Namespaces, Propagation, Protocol, PullAuth, Resources, RuntimeStatus,
    SandboxSpec, SandboxStatus, Seccomp, SeenContainer, SeenSandbox,
};

fn value(value: i64) -> pb::Int64Value {
    pb::Int64Value { value }
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

fn namespace_option(ns: Namespaces) -> pb::NamespaceOption {
    let node_or = |host: bool, other: pb::NamespaceMode| match host {
        true => i32::from(pb::NamespaceMode::Node),
        false => i32::from(other),
    };
    let pid = match ns.shared_pid {
        true => pb::NamespaceMode::Pod,
        false => pb::NamespaceMode::Container,
    };
    pb::NamespaceOption {
        network: node_or(ns.host_network, pb::NamespaceMode::Pod),
        pid: node_or(ns.host_pid, pid),
        ipc: node_or(ns.host_ipc, pb::NamespaceMode::Pod),
        target_id: String::new(),
    }
}

fn seccomp(profile: &Seccomp) -> pb::SecurityProfile {
    use pb::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile {
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new()),
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Seccomp::Localhost(path) => (ProfileType::Localhost, text(path)),
    };
    pb::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

pub(super) fn resources(r: &Resources) -> pb::LinuxContainerResources {
    pb::LinuxContainerResources {
        cpu_period: r.cpu_period,
        cpu_quota: r.cpu_quota,
        cpu_shares: r.cpu_shares,
        memory_limit_in_bytes: r.memory_limit,
        oom_score_adj: r.oom_score_adj,
    }
}

pub(super) fn sandbox_config(spec: &SandboxSpec) -> pb::PodSandboxConfig {
    let ports = spec.ports.iter().map(|p| pb::PortMapping {
        protocol: match p.protocol {
            Protocol::Tcp => pb::Protocol::Tcp,
            Protocol::Udp => pb::Protocol::Udp,
            Protocol::Sctp => pb::Protocol::Sctp,
        }
        .into(),
        container_port: p.container_port.into(),
        host_port: p.host_port.into(),
        host_ip: p.host_ip.clone(),
    });
    let dns = &spec.dns;
    let dns_config = (*dns != Default::default()).then(|| pb::DnsConfig {
        servers: dns.servers.clone(),
        searches: dns.searches.clone(),
        options: dns.options.clone(),
    });
    pb::PodSandboxConfig {
        metadata: Some(pb::PodSandboxMetadata {
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            attempt: spec.attempt,
        }),
        hostname: spec.hostname.clone(),
        log_directory: text(&spec.log_directory),
        dns_config,
        port_mappings: ports.collect(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        linux: Some(pb::LinuxPodSandboxConfig {
            cgroup_parent: spec.cgroup_parent.clone(),
            security_context: Some(pb::LinuxSandboxSecurityContext {
                namespace_options: Some(namespace_option(spec.namespaces)),
                run_as_user: spec.run_as_user.map(value),
                run_as_group: spec.run_as_group.map(value),
                readonly_rootfs: false,
                supplemental_groups: spec.supplemental_groups.clone(),
                privileged: spec.privileged,
                seccomp_profile_path: String::new(),
                seccomp: Some(seccomp(&spec.seccomp)),
            }),
            sysctls: spec.sysctls.clone(),
            overhead: None,
            resources: Some(resources(&spec.resources)),
        }),
    }
}

pub(super) fn container_config(spec: &ContainerSpec, ns: Namespaces) -> pb::ContainerConfig {
    pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }),
        image: Some(pb::ImageSpec {
            image: spec.image.clone(),
            user_specified_image: spec.user_image.clone(),
            ..Default::default()
        }),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir: spec.working_dir.clone(),
        envs: spec
            .env
            .iter()
            .map(|(key, value)| pb::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        mounts: spec.mounts.iter().map(mount).collect(),
        devices: spec
            .devices
            .iter()
            .map(|d| pb::Device {
                container_path: d.container_path.clone(),
                host_path: text(&d.host_path),
                permissions: d.permissions.clone(),
            })
            .collect(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        log_path: text(&spec.log_path),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        linux: Some(pb::LinuxContainerConfig {
            resources: Some(resources(&spec.resources)),
            security_context: Some(security_context(
                &spec.security,
                container_namespaces(ns, spec.looks_into.as_deref()),
            )),
        }),
    }
}

/// A container's namespaces: those of its pod, and the processes of the one that it looks into.
fn container_namespaces(ns: Namespaces, looks_into: Option<&str>) -> pb::NamespaceOption {
    let of_pod = namespace_option(ns);
    match looks_into {
        Some(id) => pb::NamespaceOption {
            pid: pb::NamespaceMode::Target.into(),
            target_id: id.to_owned(),
            ..of_pod
        },
        None => of_pod,
    }
}

fn security_context(
    security: &ContainerSecurity,
    namespaces: pb::NamespaceOption,
) -> pb::LinuxContainerSecurityContext {
    pb::LinuxContainerSecurityContext {
        capabilities: Some(pb::Capability {
            add_capabilities: security.add_capabilities.clone(),
            drop_capabilities: security.drop_capabilities.clone(),
        }),
        privileged: security.privileged,
        namespace_options: Some(namespaces),
        run_as_user: security.run_as_user.map(value),
        run_as_username: security.run_as_username.clone(),
        readonly_rootfs: security.read_only_rootfs,
        supplemental_groups: security.supplemental_groups.clone(),
        apparmor_profile: security.apparmor.clone().unwrap_or_default(),
        seccomp_profile_path: String::new(),
        no_new_privs: security.no_new_privs,
        run_as_group: security.run_as_group.map(value),
        masked_paths: security.masked_paths.clone(),
        readonly_paths: security.readonly_paths.clone(),
        seccomp: Some(seccomp(&security.seccomp)),
        apparmor: None,
    }
}

fn mount(m: &Mount) -> pb::Mount {
    pb::Mount {
        container_path: m.container_path.clone(),
        host_path: text(&m.host_path),
        readonly: m.read_only,
        selinux_relabel: false,
        propagation: match m.propagation {
            Propagation::Private => pb::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => pb::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => pb::MountPropagation::PropagationBidirectional,
        }
        .into(),
    }
}

pub(super) fn image_spec(image: &str) -> pb::ImageSpec {
    pb::ImageSpec { image: image.to_owned(), ..Default::default() }
}

pub(super) fn auth_config(auth: &PullAuth) -> pb::AuthConfig {
    pb::AuthConfig {
        username: auth.username.clone(),
        password: auth.password.clone(),
        auth: auth.auth.clone(),
        server_address: auth.server_address.clone(),
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    }
}

pub(super) fn runtime_status(status: pb::RuntimeStatus) -> RuntimeStatus {
    let is = |kind: &str| status.conditions.iter().any(|c| c.r#type == kind && c.status);
    let (ready, network_ready) = (is("RuntimeReady"), is("NetworkReady"));
    let troubles = status.conditions.iter().filter(|c| !c.status).map(|c| match &c.message {
        m if m.is_empty() => format!("{} is false: {}", c.r#type, c.reason),
        m => m.clone(),
    });
    RuntimeStatus {
        ready,
        network_ready,
        message: troubles.collect::<Vec<_>>().join("; "),
        cgroup_driver: None,
    }
}

pub(super) fn seen_sandbox(s: pb::PodSandbox) -> SeenSandbox {
    let ready = s.state() == pb::PodSandboxState::SandboxReady;
    let meta = s.metadata.unwrap_or_default();
    SeenSandbox {
        id: s.id,
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        attempt: meta.attempt,
        ready,
        created_at: s.created_at,
        labels: s.labels,
        annotations: s.annotations,
    }
}

pub(super) fn sandbox_status(s: pb::PodSandboxStatus) -> SandboxStatus {
    let ready = s.state() == pb::PodSandboxState::SandboxReady;
    let network = s.network.unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    let ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
    SandboxStatus { ready, ips }
}

/// The file of a sandbox's network namespace, `None` if it has the node's network.
///
/// CRI itself does not say where it is. What runtimes tell a person who asks for all is JSON: that
/// of containerd has the OCI spec of the sandbox, that of CRI-O too, and both the process in it.
pub(super) fn network(answer: &pb::PodSandboxStatusResponse) -> Result<Option<PathBuf>, String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        pid: Option<u32>,
        runtime_spec: Option<Spec>,
    }
    #[derive(serde::Deserialize)]
    struct Spec {
        linux: Option<Linux>,
    }
    #[derive(serde::Deserialize)]
    struct Linux {
        namespaces: Option<Vec<Namespace>>,
    }
    #[derive(serde::Deserialize)]
    struct Namespace {
        r#type: String,
        path: Option<PathBuf>,
    }
    let status = answer.status.clone().unwrap_or_default();
    if status.state() != pb::PodSandboxState::SandboxReady {
        return Err("the pod's sandbox is not ready".to_owned());
    }
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options);
    if options.is_some_and(|o| o.network() == pb::NamespaceMode::Node) {
        return Ok(None);
    }
    let unsaid = "the runtime does not say where the pod's network namespace is";
    let info = answer.info.get("info").ok_or(unsaid)?;
    let info: Info = serde_json::from_str(info).map_err(|e| format!("{unsaid}: {e}"))?;
    let linux = info.runtime_spec.and_then(|spec| spec.linux);
    let namespaces = linux.and_then(|linux| linux.namespaces).unwrap_or_default();
    let path = namespaces.into_iter().find(|n| n.r#type == "network").and_then(|n| n.path);
    match (path.filter(|p| p.is_absolute()), info.pid.filter(|pid| *pid > 1)) {
        (Some(path), _) => Ok(Some(path)),
        (None, Some(pid)) => Ok(Some(format!("/proc/{pid}/ns/net").into())),
        (None, None) => Err(unsaid.to_owned()),
    }
}

fn state(state: pb::ContainerState) -> ContainerState {
    match state {
        pb::ContainerState::ContainerCreated => ContainerState::Created,
        pb::ContainerState::ContainerRunning => ContainerState::Running,
        pb::ContainerState::ContainerExited => ContainerState::Exited,
        pb::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}

pub(super) fn seen_container(c: pb::Container) -> SeenContainer {
    let state = state(c.state());
    let meta = c.metadata.unwrap_or_default();
    SeenContainer {
        id: c.id,
        sandbox_id: c.pod_sandbox_id,
        name: meta.name,
        attempt: meta.attempt,
        state,
        created_at: c.created_at,
        labels: c.labels,
        annotations: c.annotations,
    }
}

pub(super) fn container_status(c: pb::ContainerStatus) -> ContainerStatus {
    let state = state(c.state());
    let meta = c.metadata.unwrap_or_default();
    ContainerStatus {
        id: c.id,
        name: meta.name,
        attempt: meta.attempt,
        state,
        created_at: c.created_at,
        started_at: c.started_at,
        finished_at: c.finished_at,
        exit_code: c.exit_code,
        image: c.image.map(|i| i.image).unwrap_or_default(),
        image_ref: c.image_ref,
        reason: c.reason,
        message: c.message,
        annotations: c.annotations,
        log_path: PathBuf::from(c.log_path),
        mounts: c.mounts.into_iter().map(seen_mount).collect(),
        resources: c.resources.and_then(|r| r.linux).map(|r| Resources {
            cpu_shares: r.cpu_shares,
            cpu_period: r.cpu_period,
            cpu_quota: r.cpu_quota,
            memory_limit: r.memory_limit_in_bytes,
            oom_score_adj: r.oom_score_adj,
        }),
    }
}

fn seen_mount(m: pb::Mount) -> Mount {
    let propagation = match m.propagation() {
        pb::MountPropagation::PropagationPrivate => Propagation::Private,
        pb::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        pb::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    Mount {
        container_path: m.container_path,
        host_path: PathBuf::from(m.host_path),
        read_only: m.readonly,
        propagation,
    }
}

pub(super) fn image_info(i: pb::Image) -> ImageInfo {
    ImageInfo {
        id: i.id,
        repo_tags: i.repo_tags,
        repo_digests: i.repo_digests,
        size: i.size,
        uid: i.uid.map(|v| v.value),
        username: i.username,
        pinned: i.pinned,
    }
}

pub(super) fn image_fs(f: pb::FilesystemUsage) -> ImageFs {
    ImageFs {
        mountpoint: PathBuf::from(f.fs_id.map(|id| id.mountpoint).unwrap_or_default()),
        used_bytes: f.used_bytes.map_or(0, |v| v.value),
        inodes_used: f.inodes_used.map_or(0, |v| v.value),
    }
}

pub(super) fn container_stats(s: pb::ContainerStats) -> ContainerStats {
    let of = |v: Option<pb::UInt64Value>| v.map_or(0, |v| v.value);
    let attributes = s.attributes.unwrap_or_default();
    let (cpu, memory) = (s.cpu.unwrap_or_default(), s.memory.unwrap_or_default());
    let disk = s.writable_layer.unwrap_or_default();
    ContainerStats {
        id: attributes.id,
        name: attributes.metadata.unwrap_or_default().name,
        labels: attributes.labels,
        at: cpu.timestamp,
        cpu_nanoseconds: of(cpu.usage_core_nano_seconds),
        memory_working_set: of(memory.working_set_bytes),
        memory_usage: of(memory.usage_bytes),
        memory_rss: of(memory.rss_bytes),
        disk_used: of(disk.used_bytes),
        inodes_used: of(disk.inodes_used),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_the_hosts_the_pods_or_the_containers() {
        let modes = |ns| {
            let o = namespace_option(ns);
            (o.network(), o.pid(), o.ipc())
        };
        use pb::NamespaceMode::{Container, Node, Pod};
        assert_eq!(modes(Namespaces::default()), (Pod, Container, Pod));
        let host =
            Namespaces { host_network: true, host_pid: true, host_ipc: true, ..Default::default() };
        assert_eq!(modes(host), (Node, Node, Node));
        let shared = Namespaces { shared_pid: true, ..Default::default() };
        assert_eq!(modes(shared), (Pod, Pod, Pod));
        let looking = container_namespaces(Namespaces::default(), Some("c1"));
        assert_eq!((looking.pid(), &*looking.target_id), (pb::NamespaceMode::Target, "c1"));
    }

    #[test]
    fn a_pods_network_is_where_the_runtime_tells_a_person_that_it_is() {
        let answer = |info: &str, mode: pb::NamespaceMode| {
            let options = pb::NamespaceOption { network: mode.into(), ..Default::default() };
            let namespaces = Some(pb::Namespace { options: Some(options) });
            pb::PodSandboxStatusResponse {
                status: Some(pb::PodSandboxStatus {
                    linux: Some(pb::LinuxPodSandboxStatus { namespaces }),
                    ..Default::default()
                }),
                info: [("info".to_owned(), info.to_owned())].into(),
            }
        };
        let of = |info: &str| network(&answer(info, pb::NamespaceMode::Pod));
        let spec = r#"{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},
            {"type":"network","path":"/run/netns/cni-1"}]}}}"#;
        assert_eq!(of(spec), Ok(Some("/run/netns/cni-1".into())));
        assert_eq!(of(r#"{"pid":7,"runtimeSpec":null}"#), Ok(Some("/proc/7/ns/net".into())));
        for unsaid in ["", "[]", "{}", r#"{"pid":1}"#, r#"{"pid":0,"runtimeSpec":{}}"#] {
            assert!(of(unsaid).is_err(), "{unsaid}");
        }
        assert_eq!(network(&answer("", pb::NamespaceMode::Node)), Ok(None));
        let mut gone = answer(spec, pb::NamespaceMode::Pod);
        gone.status.as_mut().unwrap().state = pb::PodSandboxState::SandboxNotready.into();
        assert!(network(&gone).is_err());
    }

    #[test]
    fn a_runtime_says_what_stands_in_its_way() {
        let condition = |kind: &str, status, message: &str| pb::RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: "Because".to_owned(),
            message: message.to_owned(),
        };
        let status = runtime_status(pb::RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", true, ""),
                condition("NetworkReady", false, "cni plugin not initialized"),
            ],
        });
        assert!(status.ready && !status.network_ready);
        assert_eq!(status.message, "cni plugin not initialized");
    }

    #[test]
    fn no_name_servers_leave_the_choice_to_the_runtime() {
        assert_eq!(sandbox_config(&SandboxSpec::default()).dns_config, None);
    }
}

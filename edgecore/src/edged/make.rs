//! A Pod's wishes, as a runtime wants them: the specs of sandboxes and containers.
//!
//! Owns: names, labels, annotations, mounts, log paths; the files that are mounted into every
//! container.
//! Called by: `worker.rs`, when the plan says so.
//! Never: starts anything.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::cluster::Cluster;
use super::env::{self, ConfigError, Facts};
use super::images::Image;
use super::network::{self, Names};
use super::podspec;
use super::resources::{self, Machine};
use super::runtime::{ContainerSpec, Device, Mount, Pairs, Propagation, SandboxSpec, label};
use super::volumes::Place;
use super::{plan, security};

/// Where things are on this node and what it is like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Site {
    /// `/var/lib/kubelet`
    pub(crate) root: PathBuf,
    /// `/var/log/pods`
    pub(crate) logs: PathBuf,
    /// Name servers.
    pub(crate) names: Names,
    /// Memory and cgroups.
    pub(crate) machine: Machine,
    /// The node's addresses.
    pub(crate) host_ips: Vec<String>,
    /// Volumes of secrets are kept in memory.
    pub(crate) secrets_in_memory: bool,
}

impl Site {
    /// `<root>/pods/<uid>`
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// The pod's volumes.
    pub(crate) fn place(&self, uid: &str) -> Place {
        Place { pod_dir: self.pod_dir(uid), in_memory: self.secrets_in_memory }
    }

    /// `/var/log/pods/<namespace>_<name>_<uid>`
    pub(crate) fn log_dir(&self, pod: &Pod) -> PathBuf {
        let (ns, name, uid) = (podspec::namespace(pod), podspec::name(pod), podspec::uid(pod));
        self.logs.join(format!("{ns}_{name}_{uid}"))
    }

    fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }
}

fn pod_labels(pod: &Pod) -> Pairs {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(label::POD_NAME.to_owned(), podspec::name(pod).to_owned());
    labels.insert(label::POD_NAMESPACE.to_owned(), podspec::namespace(pod).to_owned());
    labels.insert(label::POD_UID.to_owned(), podspec::uid(pod).to_owned());
    labels
}

/// The pod's sandbox.
pub(crate) fn sandbox(pod: &Pod, attempt: u32, site: &Site) -> SandboxSpec {
    let spec = podspec::spec(pod);
    let security = spec.security_context.clone().unwrap_or_default();
    let host_network = podspec::host_network(pod);
    let mut groups = security.supplemental_groups.unwrap_or_default();
    groups.extend(security.fs_group);
    SandboxSpec {
        name: podspec::name(pod).to_owned(),
        namespace: podspec::namespace(pod).to_owned(),
        uid: podspec::uid(pod).to_owned(),
        attempt,
        // On the host's network there is no host name of the pod's own to set.
        hostname: match host_network {
            true => String::new(),
            false => network::hostname(pod, &site.names.cluster_domain).0,
        },
        log_directory: site.log_dir(pod),
        dns: network::dns(pod, &site.names),
        ports: network::host_ports(pod),
        labels: pod_labels(pod),
        annotations: pod
            .metadata
            .annotations
            .iter()
            .flatten()
            .filter(|(k, _)| *k != "kubectl.kubernetes.io/last-applied-configuration")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        cgroup_parent: resources::cgroup_parent(pod, &site.machine),
        sysctls: security
            .sysctls
            .iter()
            .flatten()
            .map(|s| (s.name.clone(), s.value.clone()))
            .collect(),
        namespaces: security::namespaces(pod),
        run_as_user: security.run_as_user,
        run_as_group: security.run_as_group.filter(|_| security.run_as_user.is_some()),
        supplemental_groups: groups,
        privileged: security::any_privileged(pod),
        seccomp: security::sandbox_seccomp(pod, &site.seccomp()),
        runtime_handler: spec.runtime_class_name.clone().unwrap_or_default(),
        resources: resources::of_pod(pod),
    }
}

/// A container that is to be made.
pub(crate) struct Making<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) image: &'a Image,
    pub(crate) attempt: u32,
    pub(crate) backoff: u64,
    pub(crate) facts: &'a Facts,
    pub(crate) site: &'a Site,
    /// The id of the container whose processes it is to see.
    pub(crate) looks_into: Option<String>,
}

impl Making<'_> {
    /// Reads what the container needs and writes the files that are mounted into it.
    pub(crate) async fn spec(&self, cluster: &dyn Cluster) -> Result<ContainerSpec, ConfigError> {
        let (pod, c, site) = (self.pod, self.container, self.site);
        let env = env::environment(cluster, pod, c, self.facts, &site.machine).await?;
        let vars: BTreeMap<String, String> = env.iter().cloned().collect();
        let expanded = |list: &Option<Vec<String>>| {
            list.iter().flatten().map(|s| env::expand(s, &vars)).collect()
        };
        let security = security::of_container(pod, c, &self.image.info, &site.seccomp())?;
        let mut mounts = self.volume_mounts(&vars)?;
        mounts.extend(self.own_mounts(&mounts).map_err(|e| ConfigError(e.to_string()))?);
        let log_path = PathBuf::from(&c.name).join(format!("{}.log", self.attempt));
        let log_dir = site.log_dir(pod).join(&c.name);
        std::fs::create_dir_all(&log_dir).map_err(|e| {
            ConfigError(format!("cannot make the log directory `{}`: {e}", log_dir.display()))
        })?;
        Ok(ContainerSpec {
            name: c.name.clone(),
            attempt: self.attempt,
            image: self.image.reference.clone(),
            user_image: c.image.clone().unwrap_or_default(),
            command: expanded(&c.command),
            args: expanded(&c.args),
            working_dir: c.working_dir.clone().unwrap_or_default(),
            env,
            mounts,
            devices: Vec::<Device>::new(),
            labels: self.labels(),
            annotations: self.annotations(),
            log_path,
            stdin: c.stdin == Some(true),
            stdin_once: c.stdin_once == Some(true),
            tty: c.tty == Some(true),
            resources: resources::of_container(pod, c, &site.machine),
            security,
            looks_into: self.looks_into.clone(),
        })
    }

    fn labels(&self) -> Pairs {
        let mut labels = Pairs::new();
        for (key, value) in [
            (label::POD_NAME, podspec::name(self.pod)),
            (label::POD_NAMESPACE, podspec::namespace(self.pod)),
            (label::POD_UID, podspec::uid(self.pod)),
            (label::CONTAINER_NAME, self.container.name.as_str()),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    fn annotations(&self) -> Pairs {
        let c = self.container;
        let mut all = Pairs::new();
        let mut put = |key: &str, value: String| all.insert(key.to_owned(), value);
        put(label::RESTART_COUNT, self.attempt.to_string());
        put(label::TERMINATION_MESSAGE_PATH, message_path(c).to_owned());
        let policy = c.termination_message_policy.as_deref().unwrap_or("File");
        put(label::TERMINATION_MESSAGE_POLICY, policy.to_owned());
        let grace = podspec::spec(self.pod).termination_grace_period_seconds.unwrap_or(30);
        put(label::GRACE_PERIOD, grace.to_string());
        put(label::SPEC_IMAGE, c.image.clone().unwrap_or_default());
        put(plan::BACKOFF_ANNOTATION, self.backoff.to_string());
        all
    }

    fn volume_mounts(&self, vars: &BTreeMap<String, String>) -> Result<Vec<Mount>, ConfigError> {
        let mut mounts = Vec::new();
        for (index, m) in self.container.volume_mounts.iter().flatten().enumerate() {
            mounts.push(self.volume_mount(index, m, vars)?);
        }
        Ok(mounts)
    }

    fn volume_mount(
        &self,
        index: usize,
        m: &VolumeMount,
        vars: &BTreeMap<String, String>,
    ) -> Result<Mount, ConfigError> {
        let volumes = podspec::spec(self.pod).volumes.as_deref().unwrap_or_default();
        let volume = volumes.iter().find(|v| v.name == m.name).ok_or_else(|| {
            ConfigError(format!("cannot find volume \"{}\" to mount into container", m.name))
        })?;
        let place = self.site.place(podspec::uid(self.pod));
        let root = place.source(volume);
        let sub = match (m.sub_path_expr.as_deref(), m.sub_path.as_deref()) {
            (Some(expr), _) if !expr.is_empty() => env::expand(expr, vars),
            (_, sub) => sub.unwrap_or_default().to_owned(),
        };
        let host_path = if sub.is_empty() {
            // A hostPath that is not there is made as a directory, as container engines do.
            if volume.host_path.is_some() && !root.exists() {
                std::fs::create_dir_all(&root).map_err(|e| ConfigError(e.to_string()))?;
            }
            root.canonicalize().unwrap_or(root)
        } else {
            super::volumes::subpath::bind(
                &place.pod_dir,
                (&volume.name, &root),
                &self.container.name,
                index,
                &sub,
            )
            .map_err(|e| {
                ConfigError(format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {e}",
                    m.name, self.container.name
                ))
            })?
        };
        let ours = volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some();
        Ok(Mount {
            container_path: m.mount_path.clone(),
            host_path,
            read_only: m.read_only == Some(true) || ours,
            propagation: match m.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
        })
    }

    /// `/etc/hosts` and the file for the termination message, unless the pod mounts its own.
    fn own_mounts(&self, theirs: &[Mount]) -> std::io::Result<Vec<Mount>> {
        let taken = |path: &str| theirs.iter().any(|m| m.container_path == path);
        let dir = self.site.pod_dir(podspec::uid(self.pod));
        let mut mounts = Vec::new();
        if !taken("/etc/hosts") {
            let host = match podspec::host_network(self.pod) {
                true => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
                false => String::new(),
            };
            let domain = &self.site.names.cluster_domain;
            let text = network::hosts_file(self.pod, &self.facts.pod_ips, domain, &host);
            let path = dir.join("etc-hosts");
            write_file(&path, text.as_bytes(), 0o644)?;
            mounts.push(mount("/etc/hosts", path));
        }
        let message = message_path(self.container);
        if !message.is_empty() && !taken(message) {
            let path =
                dir.join("containers").join(&self.container.name).join(self.attempt.to_string());
            // Whatever user the container runs as must be able to write it.
            write_file(&path, b"", 0o666)?;
            mounts.push(mount(message, path));
        }
        Ok(mounts)
    }
}

fn message_path(c: &Container) -> &str {
    c.termination_message_path.as_deref().unwrap_or("/dev/termination-log")
}

fn mount(container_path: &str, host_path: PathBuf) -> Mount {
    Mount { container_path: container_path.to_owned(), host_path, ..Mount::default() }
}

fn write_file(path: &Path, data: &[u8], mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    std::fs::write(path, data)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

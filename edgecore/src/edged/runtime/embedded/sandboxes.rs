//! Making and ending sandboxes.
//!
//! Owns: a sandbox's folder and the three files in it that containers find in `/etc`.
//! Called by: the runtime.
//! Never: leaves a half-made sandbox behind.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::super::{DnsConfig, PodNetwork, RuntimeError, SandboxSpec};
use super::client;
use super::index::Sandbox;
use super::plan::SandboxPlan;
use super::state::{self, Id, ProcessRef, SandboxRecord, StateError, file};
use super::wire::Request;
use super::{Inner, NO_POD_NETWORK};

/// Where pods' cgroups are if edged does not say.
const CGROUP_ROOT: &str = "keadm";

/// How long a process that was told to go may take.
pub(super) const GOING: (u32, Duration) = (2000, Duration::from_millis(5));

/// Kernel parameters that belong to an IPC namespace.
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

impl Inner {
    pub(super) async fn run_sandbox(
        self: &Arc<Self>,
        spec: &SandboxSpec,
    ) -> Result<String, RuntimeError> {
        check(spec)?;
        let record = record_of(spec)?;
        let id = record.id.clone();
        let folder = self.layout.sandbox(&id);
        let made = self.make_sandbox(spec, &record, &folder).await;
        match made {
            Ok(sandbox) => {
                self.index.lock().sandboxes.insert(id.clone(), sandbox);
                self.watch_sandbox(id.clone());
                Ok(id.as_str().to_owned())
            }
            Err(e) => {
                let _ = std::fs::remove_dir_all(&folder);
                Err(e)
            }
        }
    }

    async fn make_sandbox(
        &self,
        spec: &SandboxSpec,
        record: &SandboxRecord,
        folder: &Path,
    ) -> Result<Sandbox, RuntimeError> {
        state::make_dir(folder)?;
        write_files(folder, spec)?;
        state::store(&folder.join(file::RECORD), record)?;
        let plan = SandboxPlan {
            hostname: record.hostname.clone(),
            own_network: !record.host_network,
            own_ipc: !record.host_ipc,
            shared_pid: record.shared_pid,
            sysctls: spec.sysctls.clone(),
        };
        state::store(&folder.join(file::PLAN), &plan)?;
        let notes = client::spawn("sandbox", folder).await?;
        if !record.host_network {
            debug!(pod = %spec.name, namespace = %spec.namespace, "{NO_POD_NETWORK}");
        }
        for note in notes {
            warn!(pod = %spec.name, "{note}");
        }
        let shim = state::load(&folder.join(file::SHIM))?;
        Ok(Sandbox { record: record.clone(), shim, ended: false })
    }

    /// The shim lives in the pod's network namespace, and holds it.
    pub(super) fn network(&self, id: &Id) -> Result<PodNetwork, RuntimeError> {
        let sandbox = self.sandbox(id)?;
        let ended = || RuntimeError::Refused(format!("sandbox `{id}` has ended"));
        if !sandbox.is_ready() {
            return Err(ended());
        }
        if sandbox.record.host_network {
            return Ok(PodNetwork::Host);
        }
        let path = PathBuf::from(format!("/proc/{}/ns/net", sandbox.shim.shim.pid));
        let file = std::fs::File::open(&path).map_err(state::io_error("open", &path))?;
        // Only if the process is still the shim is what was opened the pod's.
        match sandbox.shim.shim.is_alive() {
            true => Ok(PodNetwork::Namespace(file.into())),
            false => Err(ended()),
        }
    }

    pub(super) async fn stop_sandbox(&self, id: &Id) -> Result<(), RuntimeError> {
        let sandbox = self.sandbox(id)?;
        for container in self.containers_of(id) {
            super::or_gone(self.stop_container(&container, Duration::ZERO).await)?;
        }
        if sandbox.shim.shim.is_alive() {
            let folder = self.layout.sandbox(id);
            if let Err(e) = client::ask(&folder, &Request::Stop).await {
                debug!(sandbox = %id, "its shim does not answer and is ended by force: {e}");
                end_by_force(&sandbox.shim.shim);
            }
            wait_until_gone(&sandbox.shim.shim, "stop_sandbox").await?;
        }
        if let Some(sandbox) = self.index.lock().sandboxes.get_mut(id) {
            sandbox.ended = true;
        }
        Ok(())
    }

    pub(super) async fn remove_sandbox(&self, id: &Id) -> Result<(), RuntimeError> {
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id) {
            super::or_gone(self.remove_container(&container).await)?;
        }
        let sandbox = self.sandbox(id)?;
        remove_folder(self.layout.sandbox(id)).await?;
        // The pod's cgroup, and those above it that nobody else uses.
        for cgroup in Path::new(&sandbox.record.cgroup).ancestors() {
            let in_use = self.cgroup_in_use(id, cgroup);
            if in_use || !self.hierarchies.remove(&cgroup.to_string_lossy()) {
                break;
            }
        }
        self.index.lock().sandboxes.remove(id);
        Ok(())
    }

    /// Whether another sandbox has, or is about to have, cgroups below this one.
    fn cgroup_in_use(&self, id: &Id, cgroup: &Path) -> bool {
        let index = self.index.lock();
        let mut others = index.sandboxes.values().filter(|s| s.record.id != *id);
        others.any(|s| Path::new(&s.record.cgroup).starts_with(cgroup))
    }

    fn containers_of(&self, sandbox: &Id) -> Vec<Id> {
        let index = self.index.lock();
        let all = index.containers.values();
        all.filter(|c| c.record.sandbox == *sandbox).map(|c| c.record.id.clone()).collect()
    }
}

pub(super) fn end_by_force(process: &ProcessRef) {
    use nix::sys::signal::{Signal, kill};
    if process.is_alive() {
        let _ = kill(nix::unistd::Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

pub(super) async fn wait_until_gone(
    process: &ProcessRef,
    call: &'static str,
) -> Result<(), RuntimeError> {
    for _ in 0..GOING.0 {
        if !process.is_alive() {
            return Ok(());
        }
        tokio::time::sleep(GOING.1).await;
    }
    Err(RuntimeError::TimedOut { call, limit: GOING.0 * GOING.1 })
}

/// Removes a folder whose contents a container may have made.
pub(super) async fn remove_folder(folder: std::path::PathBuf) -> Result<(), RuntimeError> {
    let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StateError::Io { what: "remove", path: folder, source: e })
        }
        _ => Ok(()),
    });
    Ok(removed.await.map_err(|e| RuntimeError::Refused(e.to_string()))??)
}

fn check(spec: &SandboxSpec) -> Result<(), RuntimeError> {
    let refuse = |why: String| Err(RuntimeError::Refused(why));
    if !spec.runtime_handler.is_empty() {
        let handler = &spec.runtime_handler;
        return refuse(format!("the embedded runtime has no handler `{handler}`"));
    }
    for (name, value) in &spec.sysctls {
        let ipc = IPC_SYSCTLS.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        let network = name.starts_with("net.");
        let plain = name.split('.').all(|p| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        });
        let own = ipc && !spec.namespaces.host_ipc || network && !spec.namespaces.host_network;
        if !plain || !own || value.contains(['\0', '\n']) {
            return refuse(format!("kernel parameter `{name}` does not belong to the pod alone"));
        }
    }
    for port in spec.ports.iter().filter(|_| !spec.namespaces.host_network) {
        let port = port.host_port;
        warn!(pod = %spec.name, port, "the host port is not mapped: {NO_POD_NETWORK}");
    }
    Ok(())
}

fn record_of(spec: &SandboxSpec) -> Result<SandboxRecord, RuntimeError> {
    let wrong = || RuntimeError::Refused(format!("cgroup `{}` is not valid", spec.cgroup_parent));
    let mut cgroup = String::new();
    for part in Path::new(&spec.cgroup_parent).components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => {
                cgroup.push('/');
                cgroup.push_str(name.to_str().ok_or_else(wrong)?);
            }
            _ => return Err(wrong()),
        }
    }
    let id = Id::random();
    if cgroup.is_empty() {
        cgroup = format!("/{CGROUP_ROOT}/{id}");
    }
    let namespaces = spec.namespaces;
    Ok(SandboxRecord {
        id,
        name: spec.name.clone(),
        namespace: spec.namespace.clone(),
        uid: spec.uid.clone(),
        attempt: spec.attempt,
        created_at: state::now(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        log_directory: spec.log_directory.clone(),
        cgroup,
        host_network: namespaces.host_network,
        host_pid: namespaces.host_pid,
        host_ipc: namespaces.host_ipc,
        shared_pid: namespaces.shared_pid && !namespaces.host_pid,
        hostname: if namespaces.host_network { String::new() } else { spec.hostname.clone() },
    })
}

fn write_files(folder: &Path, spec: &SandboxSpec) -> Result<(), StateError> {
    use std::os::unix::fs::PermissionsExt;
    let host = |path: &str| state::read_small(Path::new(path)).unwrap_or_default();
    let (hostname, hosts) = if spec.namespaces.host_network {
        (host("/etc/hostname"), host("/etc/hosts"))
    } else {
        (format!("{}\n", spec.hostname), hosts_file(&spec.hostname))
    };
    let resolv = if spec.dns == DnsConfig::default() {
        host("/etc/resolv.conf")
    } else {
        resolv_conf(&spec.dns)
    };
    for (name, text) in [("hostname", hostname), ("hosts", hosts), ("resolv.conf", resolv)] {
        let path = folder.join(name);
        state::store_bytes(&path, text.as_bytes())?;
        // Every user of a container may read these.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
            .map_err(state::io_error("open up", &path))?;
    }
    Ok(())
}

fn hosts_file(hostname: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if !hostname.is_empty() {
        text.push_str(&format!("127.0.0.1\t{hostname}\n"));
    }
    text
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysctl(name: &str) -> Result<(), RuntimeError> {
        let sysctls = [(name.to_owned(), "1".to_owned())].into();
        check(&SandboxSpec { sysctls, ..SandboxSpec::default() })
    }

    #[test]
    fn a_pod_sets_its_own_kernel_parameters_and_nobody_elses() {
        assert_eq!(sysctl("net.ipv4.ip_unprivileged_port_start"), Ok(()));
        assert_eq!(sysctl("kernel.shm_rmid_forced"), Ok(()));
        for bad in ["kernel.panic", "vm.swappiness", "net.../../kernel.panic", "net./x", ""] {
            assert!(sysctl(bad).is_err(), "{bad}");
        }
        let mut host = SandboxSpec::default();
        host.sysctls.insert("net.core.somaxconn".into(), "1".into());
        host.namespaces.host_network = true;
        assert!(check(&host).is_err());
    }

    #[test]
    fn a_cgroup_stays_below_its_root() {
        let cgroup = |parent: &str| {
            let spec = SandboxSpec { cgroup_parent: parent.into(), ..SandboxSpec::default() };
            record_of(&spec).map(|r| r.cgroup)
        };
        assert_eq!(cgroup("/kubepods/burstable/podx"), Ok("/kubepods/burstable/podx".into()));
        assert_eq!(cgroup("kubepods"), Ok("/kubepods".into()));
        assert!(cgroup("").unwrap().starts_with("/keadm/"));
        assert!(cgroup("/a/../..").is_err());
    }

    #[test]
    fn name_servers_are_written_as_the_resolver_reads_them() {
        let dns = DnsConfig {
            servers: vec!["10.0.0.10".into(), "1.1.1.1".into()],
            searches: vec!["a.svc".into(), "svc".into()],
            options: vec!["ndots:5".into()],
        };
        let text = "search a.svc svc\nnameserver 10.0.0.10\nnameserver 1.1.1.1\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), text);
    }
}

//! Making, starting and ending containers.
//!
//! Owns: a container's folder until its shim takes over, and again after its end.
//! Called by: the runtime, `sandboxes.rs`.
//! Never: has a process for a container that was not started.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::super::{ContainerSpec, ContainerStats, Resources, RuntimeError, Seccomp};
use super::client;
use super::image::{ImageRecord, Store};
use super::index::{Container, Phase, Sandbox};
use super::plan::ContainerPlan;
use super::sandboxes::{end_by_force, remove_folder, wait_until_gone};
use super::shim::user::UserPlan;
use super::spec::{self, Inputs};
use super::state::{self, ContainerRecord, Id, ResourcesRecord, ShimRecord, file};
use super::wire::Request;
use super::{Inner, not_found, or_gone};

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(30);

/// A container's own layer is not searched further than this for its size.
const MAX_COUNTED: u64 = 200_000;

impl Inner {
    pub(super) async fn create_container(
        self: &Arc<Self>,
        sandbox: &Id,
        spec: &ContainerSpec,
    ) -> Result<String, RuntimeError> {
        let sandbox = self.sandbox(sandbox)?;
        if !sandbox.is_ready() {
            let id = &sandbox.record.id;
            return Err(RuntimeError::Refused(format!("sandbox `{id}` is not ready")));
        }
        let image = self.store.find(&spec.image).ok_or_else(|| not_found("image", &spec.image))?;
        let id = Id::random();
        let inner = Arc::clone(self);
        let spec = spec.clone();
        let made = tokio::task::spawn_blocking(move || {
            inner.make_container(&id, &sandbox, &spec, &image).map(|()| id)
        });
        let id = made.await.map_err(|e| RuntimeError::Refused(e.to_string()))??;
        Ok(id.as_str().to_owned())
    }

    /// Writes down what the container is and what its shim will have to do.
    fn make_container(
        &self,
        id: &Id,
        sandbox: &Sandbox,
        spec: &ContainerSpec,
        image: &ImageRecord,
    ) -> Result<(), RuntimeError> {
        let folder = self.layout.container(id);
        let cgroup = format!("{}/{id}", sandbox.record.cgroup);
        let plan = self.plan_of(&folder, sandbox, spec, image, &cgroup)?;
        for mount in &spec.mounts {
            if !mount.host_path.exists() {
                std::fs::create_dir_all(&mount.host_path)
                    .map_err(state::io_error("make folder", &mount.host_path))?;
            }
        }
        let record = ContainerRecord {
            id: id.clone(),
            sandbox: sandbox.record.id.clone(),
            pod_uid: sandbox.record.uid.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            created_at: state::now(),
            image: if spec.user_image.is_empty() { &spec.image } else { &spec.user_image }.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            layers: image.layers.clone(),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
            log_path: plan.log_path.clone(),
            cgroup,
            stop_signal: spec::stop_signal(&image.config.stop_signal),
            tty: spec.tty,
            stdin: spec.stdin,
            mounts: spec.mounts.iter().map(Into::into).collect(),
            resources: ResourcesRecord::from(&spec.resources),
        };
        // In the index first: from here on its layers are not removed.
        let container = Container::new(record.clone(), Phase::Created);
        self.index.lock().containers.insert(id.clone(), container);
        let written = self.write_container(&folder, &plan, &record);
        if written.is_err() {
            self.index.lock().containers.remove(id);
            let _ = std::fs::remove_dir_all(&folder);
        }
        written
    }

    fn write_container(
        &self,
        folder: &Path,
        plan: &ContainerPlan,
        record: &ContainerRecord,
    ) -> Result<(), RuntimeError> {
        if let Some(lost) = plan.layers.iter().find(|l| !plan.layers_folder.join(l).is_dir()) {
            return Err(not_found("layer", lost));
        }
        state::make_dir(folder)?;
        state::store(&folder.join(file::PLAN), plan)?;
        // The record comes last: with it, the container exists.
        Ok(state::store(&folder.join(file::RECORD), record)?)
    }

    /// The first process of a running container.
    fn process_of(&self, id: Option<&str>) -> Result<Option<i32>, RuntimeError> {
        let Some(id) = id else { return Ok(None) };
        let id = Id::try_from(id.to_owned()).map_err(RuntimeError::Refused)?;
        Ok(Some(self.running(&id)?.process.pid))
    }

    fn plan_of(
        &self,
        folder: &Path,
        sandbox: &Sandbox,
        spec: &ContainerSpec,
        image: &ImageRecord,
        cgroup: &str,
    ) -> Result<ContainerPlan, RuntimeError> {
        let security = &spec.security;
        if security.seccomp == Seccomp::RuntimeDefault && !security.privileged {
            warn!(container = %spec.name, "the embedded runtime has no seccomp filter to apply");
        }
        let devices = match security.privileged {
            true => spec::host_devices(),
            false => spec::devices_of_spec(&spec.devices)?,
        };
        let hostname = match sandbox.record.hostname.as_str() {
            "" => nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            name => name.to_owned(),
        };
        let sandbox_folder = self.layout.sandbox(&sandbox.record.id);
        let oci = spec::build(&Inputs {
            spec,
            image: &image.config,
            sandbox: &sandbox.record,
            sandbox_folder: &sandbox_folder,
            container_folder: folder,
            shim: &sandbox.shim,
            cgroup,
            unified_cgroups: self.hierarchies.is_unified(),
            capabilities: spec::available_capabilities(),
            hostname: &hostname,
            devices: &devices,
            looks_into: self.process_of(spec.looks_into.as_deref())?,
        })?;
        let log_path = match spec.log_path.as_os_str().is_empty() {
            true => PathBuf::new(),
            false => sandbox.record.log_directory.join(&spec.log_path),
        };
        Ok(ContainerPlan {
            layers_folder: self.store.layers_folder(),
            layers: Store::lower_folders(image),
            user: user_plan(spec, image)?,
            shm_of: (!sandbox.record.host_ipc).then(|| sandbox.shim.shim.clone()),
            shm: sandbox_folder.join("shm"),
            spec: oci,
            cgroup: cgroup.to_owned(),
            log_path,
            tty: spec.tty,
            stdin: spec.stdin,
            stdin_once: spec.stdin_once,
            oom_score_adj: i32::try_from(spec.resources.oom_score_adj.clamp(-1000, 1000))
                .unwrap_or(0),
        })
    }

    pub(super) async fn start_container(self: &Arc<Self>, id: &Id) -> Result<(), RuntimeError> {
        let (sandbox, uid) = self.container(id, |c| match c.phase() {
            Phase::Created => {
                c.set(Phase::Starting);
                Ok((c.record.sandbox.clone(), c.record.pod_uid.clone()))
            }
            _ => Err(RuntimeError::Refused(format!("container `{id}` was started before"))),
        })??;
        let folder = self.layout.container(id);
        let started = match self.sandbox(&sandbox).map(|s| s.is_ready()) {
            Ok(true) => client::spawn("container", &folder).await.map_err(RuntimeError::from),
            _ => Err(RuntimeError::Refused(format!("sandbox `{sandbox}` is not ready"))),
        };
        let cgroup = self.container(id, |c| c.record.cgroup.clone())?;
        let phase = self.look(id, &cgroup);
        let runs = matches!(phase, Phase::Running(_));
        self.container(id, |c| c.set(phase))?;
        if runs {
            self.watch_container(id.clone());
        }
        self.tell(id, Some(uid)).await;
        for note in started? {
            warn!(container = %id, "{note}");
        }
        Ok(())
    }

    pub(super) async fn stop_container(
        &self,
        id: &Id,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let signal = self.container(id, |c| c.record.stop_signal)?;
        if grace > Duration::ZERO && self.signal(id, signal).await? {
            let ended = timeout(grace, self.ended(id)).await;
            if ended.is_ok() {
                return Ok(());
            }
        }
        if !self.signal(id, Signal::SIGKILL as i32).await? {
            return Ok(());
        }
        timeout(KILLED, self.ended(id))
            .await
            .map_err(|_| RuntimeError::TimedOut { call: "stop_container", limit: KILLED })
    }

    /// Sends a signal to a running container; `false` means that it does not run.
    async fn signal(&self, id: &Id, signal: i32) -> Result<bool, RuntimeError> {
        let init = match self.container(id, Container::phase)? {
            Phase::Running(init) => init,
            Phase::Starting => {
                let mut follow = self.container(id, Container::follow)?;
                let started = timeout(KILLED, follow.wait_for(|p| *p != Phase::Starting)).await;
                match started {
                    Ok(Ok(phase)) => match &*phase {
                        Phase::Running(init) => init.clone(),
                        _ => return Ok(false),
                    },
                    _ => {
                        return Err(RuntimeError::TimedOut {
                            call: "stop_container",
                            limit: KILLED,
                        });
                    }
                }
            }
            Phase::Created | Phase::Exited(_) => return Ok(false),
        };
        let folder = self.layout.container(id);
        if let Err(e) = client::ask(&folder, &Request::Signal(signal)).await
            && init.process.is_alive()
        {
            debug!(container = %id, "its shim does not answer and is passed over: {e}");
            if let Ok(signal) = Signal::try_from(signal) {
                let pid = nix::unistd::Pid::from_raw(init.process.pid);
                let _ = nix::sys::signal::kill(pid, signal);
            }
        }
        Ok(true)
    }

    /// Waits for a container's end.
    async fn ended(&self, id: &Id) {
        if let Ok(mut follow) = self.container(id, Container::follow) {
            // An error means that it was removed.
            let _ = follow.wait_for(|p| matches!(p, Phase::Exited(_))).await;
        }
    }

    pub(super) async fn remove_container(&self, id: &Id) -> Result<(), RuntimeError> {
        or_gone(self.stop_container(id, Duration::ZERO).await)?;
        let cgroup = self.container(id, |c| c.record.cgroup.clone())?;
        let folder = self.layout.container(id);
        // The shim has recorded the end by now; it is taking apart what it made.
        if let Ok(shim) = state::load::<ShimRecord>(&folder.join(file::SHIM)) {
            let gone = wait_until_gone(&shim.shim, "remove_container").await;
            if gone.is_err() {
                end_by_force(&shim.shim);
                wait_until_gone(&shim.shim, "remove_container").await?;
            }
        }
        self.hierarchies.kill_all(&cgroup);
        self.hierarchies.remove(&cgroup);
        // The record goes first: a kill in between leaves something that is swept, not half a
        // container.
        let _ = std::fs::remove_file(folder.join(file::RECORD));
        remove_folder(folder).await?;
        self.index.lock().containers.remove(id);
        Ok(())
    }

    pub(super) fn update_resources(&self, id: &Id, to: &Resources) -> Result<(), RuntimeError> {
        self.running(id)?;
        let cgroup = self.container(id, |c| c.record.cgroup.clone())?;
        self.hierarchies
            .update(&cgroup, to)
            .map_err(|e| RuntimeError::Refused(super::chain(&e)))?;
        let mut index = self.index.lock();
        let Some(container) = index.containers.get_mut(id) else { return Ok(()) };
        container.record.resources = ResourcesRecord::from(to);
        let path = self.layout.container(id).join(file::RECORD);
        Ok(state::store(&path, &container.record)?)
    }

    pub(super) async fn stats(self: &Arc<Self>, pod_uid: Option<&str>) -> Vec<ContainerStats> {
        let running: Vec<ContainerRecord> = {
            let index = self.index.lock();
            let all = index.containers.values();
            let wanted = all.filter(|c| pod_uid.is_none_or(|uid| uid == c.record.pod_uid));
            let running = wanted.filter(|c| matches!(c.phase(), Phase::Running(_)));
            running.map(|c| c.record.clone()).collect()
        };
        let inner = Arc::clone(self);
        let measured = tokio::task::spawn_blocking(move || {
            running.into_iter().filter_map(|record| inner.measure(record)).collect()
        });
        measured.await.unwrap_or_default()
    }

    fn measure(&self, record: ContainerRecord) -> Option<ContainerStats> {
        let usage = self.hierarchies.usage(&record.cgroup)?;
        let (disk_used, inodes_used) =
            super::images::size_of(&self.layout.container(&record.id).join("upper"), MAX_COUNTED);
        Some(ContainerStats {
            id: record.id.as_str().to_owned(),
            name: record.name,
            labels: record.labels,
            at: state::now(),
            cpu_nanoseconds: usage.cpu_nanoseconds,
            memory_working_set: usage.working_set,
            memory_usage: usage.memory,
            memory_rss: usage.rss,
            disk_used,
            inodes_used,
        })
    }
}

fn user_plan(spec: &ContainerSpec, image: &ImageRecord) -> Result<UserPlan, RuntimeError> {
    let number = |n: i64| {
        let wrong = || RuntimeError::Refused(format!("user or group {n} is not valid"));
        // The highest number means "nobody in particular" to the kernel.
        u32::try_from(n).ok().filter(|n| *n != u32::MAX).ok_or_else(wrong)
    };
    let security = &spec.security;
    Ok(UserPlan {
        uid: security.run_as_user.map(number).transpose()?,
        name: security.run_as_username.clone(),
        image: image.config.user.clone(),
        gid: security.run_as_group.map(number).transpose()?,
        groups: security
            .supplemental_groups
            .iter()
            .map(|n| number(*n))
            .collect::<Result<_, _>>()?,
    })
}

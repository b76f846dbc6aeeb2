//! What the runtime holds, in memory and found again after a restart.
//!
//! Owns: the judgement where a container stands, given what is on disk.
//! Called by: every other part of the runtime.
//! Never: is ahead of the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::super::{
    ContainerState, ContainerStatus, Listing, Mount, Pairs, Resources, RuntimeError, RuntimeEvent,
    SeenContainer, SeenSandbox,
};
use super::client::Connection;
use super::state::{
    self, ContainerRecord, ExitRecord, Id, InitRecord, SandboxRecord, ShimRecord, file,
};
use super::wire::{Reply, Request};
use super::{Inner, not_found};

/// A shim that was starting its container while edgecore was killed gets so long to finish.
const STARTING: (u32, Duration) = (500, Duration::from_millis(10));

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    /// Its shim is at it.
    Starting,
    Running(InitRecord),
    Exited(ExitRecord),
}

#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    pub(super) record: SandboxRecord,
    pub(super) shim: ShimRecord,
    pub(super) ended: bool,
}

impl Sandbox {
    pub(super) fn is_ready(&self) -> bool {
        !self.ended && self.shim.shim.is_alive()
    }
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) record: ContainerRecord,
    phase: watch::Sender<Phase>,
}

impl Container {
    pub(super) fn new(record: ContainerRecord, phase: Phase) -> Self {
        Container { record, phase: watch::Sender::new(phase) }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn follow(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn set(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) sandboxes: BTreeMap<Id, Sandbox>,
    pub(super) containers: BTreeMap<Id, Container>,
}

impl Index {
    pub(super) fn listing(&self, pod_uid: Option<&str>) -> Listing {
        let of_pod = |uid: &str| pod_uid.is_none_or(|wanted| wanted == uid);
        let sandboxes = self.sandboxes.values().filter(|s| of_pod(&s.record.uid));
        let containers = self.containers.values().filter(|c| of_pod(&c.record.pod_uid));
        Listing {
            sandboxes: sandboxes.map(seen_sandbox).collect(),
            containers: containers.map(seen_container).collect(),
        }
    }

    pub(super) fn status(&self, id: &Id) -> Option<ContainerStatus> {
        let container = self.containers.get(id)?;
        let record = &container.record;
        let mut status = ContainerStatus {
            id: id.as_str().to_owned(),
            name: record.name.clone(),
            attempt: record.attempt,
            state: state_of(&container.phase()),
            created_at: record.created_at,
            image: record.image.clone(),
            image_ref: record.image_ref.clone(),
            annotations: record.annotations.clone(),
            log_path: record.log_path.clone(),
            mounts: record.mounts.iter().map(Mount::from).collect(),
            resources: Some(Resources::from(&record.resources)),
            ..ContainerStatus::default()
        };
        match container.phase() {
            Phase::Created | Phase::Starting => {}
            Phase::Running(init) => status.started_at = init.started_at,
            Phase::Exited(exit) => {
                status.started_at = exit.started_at;
                status.finished_at = exit.finished_at;
                status.exit_code = exit.code;
                status.reason = exit.reason;
                status.message = exit.message;
            }
        }
        Some(status)
    }
}

fn state_of(phase: &Phase) -> ContainerState {
    match phase {
        Phase::Created | Phase::Starting => ContainerState::Created,
        Phase::Running(_) => ContainerState::Running,
        Phase::Exited(_) => ContainerState::Exited,
    }
}

fn seen_sandbox(sandbox: &Sandbox) -> SeenSandbox {
    let record = &sandbox.record;
    SeenSandbox {
        id: record.id.as_str().to_owned(),
        name: record.name.clone(),
        namespace: record.namespace.clone(),
        uid: record.uid.clone(),
        attempt: record.attempt,
        ready: sandbox.is_ready(),
        created_at: record.created_at,
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
    }
}

fn seen_container(container: &Container) -> SeenContainer {
    let record = &container.record;
    let (labels, annotations): (Pairs, Pairs) = (record.labels.clone(), record.annotations.clone());
    SeenContainer {
        id: record.id.as_str().to_owned(),
        sandbox_id: record.sandbox.as_str().to_owned(),
        name: record.name.clone(),
        attempt: record.attempt,
        state: state_of(&container.phase()),
        created_at: record.created_at,
        labels,
        annotations,
    }
}

/// Every container's cgroup is named after it; another would end somebody else's processes.
fn has_own_cgroup(record: &ContainerRecord) -> bool {
    record.cgroup.strip_suffix(record.id.as_str()).is_some_and(|parent| parent.ends_with('/'))
}

/// What the disk says of a container.
struct Found {
    shim: Option<ShimRecord>,
    shim_alive: bool,
    init: Option<InitRecord>,
    exit: Option<ExitRecord>,
}

/// Where a container stands, by what is on disk; `now` is for one that nobody saw end.
fn judge(found: Found, now: i64) -> Phase {
    match found {
        Found { exit: Some(exit), .. } => Phase::Exited(exit),
        Found { shim: None, .. } => Phase::Created,
        Found { shim_alive: true, init: Some(init), .. } => Phase::Running(init),
        Found { shim_alive: true, init: None, .. } => Phase::Starting,
        Found { init, .. } => {
            Phase::Exited(ExitRecord::unknown(init.map_or(0, |i| i.started_at), now))
        }
    }
}

impl Inner {
    pub(super) fn sandbox(&self, id: &Id) -> Result<Sandbox, RuntimeError> {
        let index = self.index.lock();
        index.sandboxes.get(id).cloned().ok_or_else(|| not_found("sandbox", id.as_str()))
    }

    pub(super) fn container<T>(
        &self,
        id: &Id,
        look: impl FnOnce(&Container) -> T,
    ) -> Result<T, RuntimeError> {
        let index = self.index.lock();
        index.containers.get(id).map(look).ok_or_else(|| not_found("container", id.as_str()))
    }

    /// A container's first process, if it runs.
    pub(super) fn running(&self, id: &Id) -> Result<InitRecord, RuntimeError> {
        match self.container(id, Container::phase)? {
            Phase::Running(init) => Ok(init),
            _ => Err(RuntimeError::Refused(format!("container `{id}` is not running"))),
        }
    }

    fn find(&self, id: &Id) -> Found {
        let folder = self.layout.container(id);
        let shim: Option<ShimRecord> = state::load(&folder.join(file::SHIM)).ok();
        Found {
            // Before the exit is read: a shim that ends in between has written it.
            shim_alive: shim.as_ref().is_some_and(|s| s.shim.is_alive()),
            shim,
            init: state::load(&folder.join(file::INIT)).ok(),
            exit: state::load(&folder.join(file::EXIT)).ok(),
        }
    }

    /// Where a container stands now. If its shim is gone, whatever it left behind goes too.
    pub(super) fn look(&self, id: &Id, cgroup: &str) -> Phase {
        let found = self.find(id);
        let orphaned = found.shim.is_some() && !found.shim_alive;
        let recorded = found.exit.is_some();
        let phase = judge(found, state::now());
        if orphaned {
            self.hierarchies.kill_all(cgroup);
            self.hierarchies.remove(cgroup);
        }
        if let (Phase::Exited(exit), false) = (&phase, recorded) {
            warn!(container = %id, "the container's shim was killed; its container has been ended");
            if let Err(e) = state::store(&self.layout.container(id).join(file::EXIT), exit) {
                warn!(container = %id, "cannot record its end: {}", super::chain(&e));
            }
        }
        phase
    }

    /// Reads what an earlier edgecore left, and watches what still runs.
    pub(super) async fn recover(self: &Arc<Self>) {
        for (id, folder) in folders(&self.layout.sandboxes()) {
            self.recover_sandbox(&id, &folder);
        }
        for (id, folder) in folders(&self.layout.containers()) {
            self.recover_container(&id, &folder).await;
        }
        let index = self.index.lock();
        info!(
            sandboxes = index.sandboxes.len(),
            containers = index.containers.len(),
            "embedded container runtime opened"
        );
    }

    fn recover_sandbox(self: &Arc<Self>, id: &Id, folder: &std::path::Path) {
        let record = state::load::<SandboxRecord>(&folder.join(file::RECORD));
        let shim = state::load::<ShimRecord>(&folder.join(file::SHIM));
        match (record, shim) {
            (Ok(record), Ok(shim)) if record.id == *id => {
                let ended = !shim.shim.is_alive();
                let sandbox = Sandbox { record, shim, ended };
                self.index.lock().sandboxes.insert(id.clone(), sandbox);
                if !ended {
                    self.watch_sandbox(id.clone());
                }
            }
            // It was never finished, so nobody knows of it.
            (Ok(_), Err(e)) if e.is_absent() => drop(std::fs::remove_dir_all(folder)),
            (Err(e), _) if e.is_absent() => drop(std::fs::remove_dir_all(folder)),
            _ => warn!(sandbox = %id, "its record is damaged; it is left alone"),
        }
    }

    async fn recover_container(self: &Arc<Self>, id: &Id, folder: &std::path::Path) {
        let record = match state::load::<ContainerRecord>(&folder.join(file::RECORD)) {
            Ok(record) if record.id == *id && has_own_cgroup(&record) => record,
            Err(e) if e.is_absent() => return drop(std::fs::remove_dir_all(folder)),
            _ => return warn!(container = %id, "its record is damaged; it is left alone"),
        };
        let mut phase = self.look(id, &record.cgroup);
        for _ in 0..STARTING.0 {
            if phase != Phase::Starting {
                break;
            }
            tokio::time::sleep(STARTING.1).await;
            phase = self.look(id, &record.cgroup);
        }
        let runs = matches!(phase, Phase::Running(_) | Phase::Starting);
        let container = Container::new(record, phase);
        self.index.lock().containers.insert(id.clone(), container);
        if runs {
            self.watch_container(id.clone());
        }
    }

    /// Follows a running container to its end.
    pub(super) fn watch_container(self: &Arc<Self>, id: Id) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                until_end(&inner.layout.container(&id)).await;
                let Ok(cgroup) = inner.container(&id, |c| c.record.cgroup.clone()) else { return };
                if let exited @ Phase::Exited(_) = inner.look(&id, &cgroup) {
                    let uid = inner.container(&id, |c| {
                        c.set(exited);
                        c.record.pod_uid.clone()
                    });
                    return inner.tell(&id, uid.ok()).await;
                }
                // It lives but did not listen: ask again, without haste.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    pub(super) fn watch_sandbox(self: &Arc<Self>, id: Id) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                until_end(&inner.layout.sandbox(&id)).await;
                let (gone, uid) = match inner.index.lock().sandboxes.get_mut(&id) {
                    Some(sandbox) => {
                        let said = inner.layout.sandbox(&id).join(file::EXIT).exists();
                        sandbox.ended = said || !sandbox.shim.shim.is_alive();
                        (sandbox.ended, sandbox.record.uid.clone())
                    }
                    None => return,
                };
                if gone {
                    return inner.tell(&id, Some(uid)).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    /// Tells all subscribers that something changed; waits for those that are behind.
    pub(super) async fn tell(&self, id: &Id, pod_uid: Option<String>) {
        let subscribers = self.subscribers.lock().clone();
        for subscriber in subscribers {
            let event =
                RuntimeEvent::Changed { id: id.as_str().to_owned(), pod_uid: pod_uid.clone() };
            // One that has gone away is forgotten below.
            let _ = subscriber.send(event).await;
        }
        self.subscribers.lock().retain(|s| !s.is_closed());
    }
}

/// Until the shim says that it is over, or is gone.
async fn until_end(folder: &std::path::Path) {
    let Ok(mut connection) = Connection::open(folder).await else { return };
    if connection.send(&Request::Watch, &[]).await.is_err() {
        return;
    }
    while let Ok(Some(reply)) = connection.next().await {
        if matches!(reply, Reply::Ended(_)) {
            return;
        }
    }
}

fn folders(of: &std::path::Path) -> Vec<(Id, std::path::PathBuf)> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries
        .filter_map(|e| Some((Id::try_from(e.file_name().into_string().ok()?).ok()?, e.path())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edged::runtime::embedded::state::ProcessRef;

    fn process() -> ProcessRef {
        ProcessRef { pid: 7, start: 1, boot: "b".into() }
    }

    fn found(shim: bool, alive: bool, init: bool, exit: bool) -> Found {
        Found {
            shim: shim.then(|| ShimRecord { shim: process(), pause: None }),
            shim_alive: alive,
            init: init.then(|| InitRecord { process: process(), started_at: 5 }),
            exit: exit.then(|| ExitRecord { code: 3, ..ExitRecord::unknown(5, 6) }),
        }
    }

    #[test]
    fn where_a_container_stands_is_told_by_what_is_on_disk() {
        assert_eq!(judge(found(false, false, false, false), 9), Phase::Created);
        assert_eq!(judge(found(true, true, false, false), 9), Phase::Starting);
        assert!(matches!(judge(found(true, true, true, false), 9), Phase::Running(_)));
        assert!(matches!(judge(found(true, true, true, true), 9), Phase::Exited(e) if e.code == 3));
        assert!(
            matches!(judge(found(true, false, true, true), 9), Phase::Exited(e) if e.code == 3)
        );
    }

    #[test]
    fn a_container_whose_shim_was_killed_has_ended_with_an_unknown_code() {
        let Phase::Exited(exit) = judge(found(true, false, true, false), 9) else { panic!() };
        assert_eq!((exit.code, exit.started_at, exit.finished_at), (255, 5, 9));
        let Phase::Exited(exit) = judge(found(true, false, false, false), 9) else { panic!() };
        assert_eq!(exit.started_at, 0);
    }
}

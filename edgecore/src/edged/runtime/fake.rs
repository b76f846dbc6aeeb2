//! A container runtime in memory: for tests, and for nodes that only pretend to run pods.
//!
//! Owns: sandboxes, containers and images that exist only here.
//! Called by: tests, which also make things happen (`exit`, `refuse`).
//! Never: starts a process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::{
    Answer, ContainerRuntime, ContainerSpec, ContainerState, ContainerStats, ContainerStatus,
    ExecOutput, ImageFs, ImageInfo, Listing, PodNetwork, PullAuth, Resources, RuntimeError,
    RuntimeEvent, RuntimeStatus, RuntimeVersion, SandboxSpec, SandboxStatus, SeenContainer,
    SeenSandbox, StreamSpec, Streams,
};

/// The runtime in memory. Clones share their state.
#[derive(Clone, Default)]
pub struct FakeRuntime {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    now: Option<Clock>,
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
    images: BTreeMap<String, ImageInfo>,
    registry: BTreeMap<String, ImageInfo>,
    files: BTreeMap<(String, String), Vec<u8>>,
    refusals: Vec<(&'static str, String)>,
    commands: BTreeMap<Vec<String>, ExecOutput>,
    calls: Vec<String>,
    events: Option<mpsc::Sender<RuntimeEvent>>,
    no_events: bool,
    deaf: bool,
}

type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

struct Sandbox {
    seen: SeenSandbox,
    ips: Vec<String>,
}

struct Container {
    sandbox_id: String,
    spec: ContainerSpec,
    status: ContainerStatus,
}

impl FakeRuntime {
    /// An empty one with events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes its timestamps (nanoseconds since 1970) from `clock` and not from the system.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.inner.state.lock().now = Some(Arc::new(clock));
        self
    }

    /// Has no events, as containerd 1.5 and older.
    #[must_use]
    pub fn without_events(self) -> Self {
        self.inner.state.lock().no_events = true;
        self
    }

    /// Containers ignore their stop signal and use up their grace period.
    #[must_use]
    pub fn with_deaf_containers(self) -> Self {
        self.inner.state.lock().deaf = true;
        self
    }

    /// Puts an image on the machine.
    pub fn add_image(&self, image: &str) {
        self.inner.state.lock().images.insert(image.to_owned(), image_info(image));
    }

    /// Puts an image where it can be pulled from.
    pub fn add_to_registry(&self, image: &str) {
        self.inner.state.lock().registry.insert(image.to_owned(), image_info(image));
    }

    /// Puts a file into an image.
    pub fn add_file(&self, image: &str, path: &str, bytes: &[u8]) {
        let at = (image.to_owned(), path.to_owned());
        self.inner.state.lock().files.insert(at, bytes.to_vec());
    }

    /// The next calls of this name fail with this text, until [`FakeRuntime::allow`].
    pub fn refuse(&self, call: &'static str, why: &str) {
        self.inner.state.lock().refusals.push((call, why.to_owned()));
    }

    /// Calls of this name succeed again.
    pub fn allow(&self, call: &'static str) {
        self.inner.state.lock().refusals.retain(|(c, _)| *c != call);
    }

    /// What a command run in any container returns; without it, commands succeed silently.
    pub fn answer_exec(&self, command: &[&str], exit_code: i32, stdout: &str) {
        let output =
            ExecOutput { exit_code, stdout: stdout.as_bytes().to_vec(), stderr: Vec::new() };
        let command = command.iter().map(|s| (*s).to_owned()).collect();
        self.inner.state.lock().commands.insert(command, output);
    }

    /// Lets the running container of this name in this pod end. `false` if none runs.
    pub fn exit(&self, pod: &str, container: &str, code: i32) -> bool {
        self.end(pod, container, code, "")
    }

    /// As [`FakeRuntime::exit`], killed by the kernel for want of memory.
    pub fn kill_for_memory(&self, pod: &str, container: &str) -> bool {
        self.end(pod, container, 137, "OOMKilled")
    }

    fn end(&self, pod: &str, container: &str, code: i32, reason: &str) -> bool {
        let mut state = self.inner.state.lock();
        let now = state.now();
        let State { sandboxes, containers, .. } = &mut *state;
        let found = containers.values_mut().find(|c| {
            c.status.state == ContainerState::Running
                && c.spec.name == container
                && sandboxes.get(&c.sandbox_id).is_some_and(|s| s.seen.name == pod)
        });
        let Some(found) = found else { return false };
        found.finish(now, code, reason);
        let id = found.status.id.clone();
        state.tell(&id);
        drop(state);
        self.inner.changed.notify_waiters();
        true
    }

    /// The sandbox of this pod dies, and all in it.
    pub fn lose_sandbox(&self, pod: &str) {
        let mut state = self.inner.state.lock();
        let ids: Vec<String> = state
            .sandboxes
            .values()
            .filter(|s| s.seen.name == pod && s.seen.ready)
            .map(|s| s.seen.id.clone())
            .collect();
        for id in ids {
            state.stop_sandbox(&id);
        }
    }

    /// The specs of the containers that run now.
    pub fn running(&self) -> Vec<ContainerSpec> {
        let state = self.inner.state.lock();
        let mut specs: Vec<_> = state
            .containers
            .values()
            .filter(|c| c.status.state == ContainerState::Running)
            .map(|c| c.spec.clone())
            .collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        specs
    }

    /// How many sandboxes and containers there are in all.
    pub fn count(&self) -> (usize, usize) {
        let state = self.inner.state.lock();
        (state.sandboxes.len(), state.containers.len())
    }

    /// The calls that changed something, oldest first, for example `start_container web`.
    pub fn calls(&self) -> Vec<String> {
        self.inner.state.lock().calls.clone()
    }

    fn answer<'a, T: Send + 'a>(
        &'a self,
        call: &'static str,
        f: impl FnOnce(&mut State) -> Result<T, RuntimeError> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let answer = {
                let mut state = self.inner.state.lock();
                match state.refusals.iter().find(|(c, _)| *c == call) {
                    Some((_, why)) => Err(RuntimeError::Refused(why.clone())),
                    None => f(&mut state),
                }
            };
            self.inner.changed.notify_waiters();
            answer
        })
    }
}

impl State {
    fn id(&mut self, what: &str) -> String {
        self.next += 1;
        format!("{what}-{}", self.next)
    }

    fn now(&self) -> i64 {
        match &self.now {
            Some(clock) => clock(),
            None => i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
        }
    }

    fn tell(&mut self, id: &str) {
        let pod_uid = self
            .containers
            .get(id)
            .and_then(|c| self.sandboxes.get(&c.sandbox_id))
            .or_else(|| self.sandboxes.get(id))
            .map(|s| s.seen.uid.clone());
        if let Some(events) = &self.events
            && events.try_send(RuntimeEvent::Changed { id: id.to_owned(), pod_uid }).is_err()
        {
            self.events = None; // the reader is gone or too far behind: it lists again
        }
    }

    fn stop_sandbox(&mut self, id: &str) {
        let now = self.now();
        for c in self.containers.values_mut().filter(|c| c.sandbox_id == id) {
            if c.status.state == ContainerState::Running {
                c.finish(now, 137, "Error");
            }
        }
        if let Some(s) = self.sandboxes.get_mut(id) {
            s.seen.ready = false;
        }
        self.tell(id);
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, RuntimeError> {
        self.containers.get_mut(id).ok_or_else(|| not_found("container", id))
    }
}

impl Container {
    fn finish(&mut self, now: i64, code: i32, reason: &str) {
        self.status.state = ContainerState::Exited;
        self.status.finished_at = now;
        self.status.exit_code = code;
        self.status.reason = match (reason, code) {
            ("", 0) => "Completed".to_owned(),
            ("", _) => "Error".to_owned(),
            (other, _) => other.to_owned(),
        };
    }
}

fn not_found(what: &str, id: &str) -> RuntimeError {
    RuntimeError::NotFound { what: format!("{what} `{id}`") }
}

fn image_info(image: &str) -> ImageInfo {
    ImageInfo {
        id: format!("sha256:{image}"),
        repo_tags: vec![image.to_owned()],
        size: 1 << 20,
        ..ImageInfo::default()
    }
}

impl ContainerRuntime for FakeRuntime {
    fn version(&self) -> Answer<'_, RuntimeVersion> {
        self.answer("version", |_| {
            Ok(RuntimeVersion { name: "fake".to_owned(), version: "1.0.0".to_owned() })
        })
    }

    fn status(&self) -> Answer<'_, RuntimeStatus> {
        self.answer("status", |_| {
            Ok(RuntimeStatus { ready: true, network_ready: true, ..RuntimeStatus::default() })
        })
    }

    fn list<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Listing> {
        self.answer("list", move |state| {
            let wanted = |s: &Sandbox| pod_uid.is_none_or(|uid| s.seen.uid == uid);
            let sandboxes: Vec<_> =
                state.sandboxes.values().filter(|s| wanted(s)).map(|s| s.seen.clone()).collect();
            let containers = state
                .containers
                .values()
                .filter(|c| state.sandboxes.get(&c.sandbox_id).is_some_and(wanted))
                .map(|c| SeenContainer {
                    id: c.status.id.clone(),
                    sandbox_id: c.sandbox_id.clone(),
                    name: c.spec.name.clone(),
                    attempt: c.spec.attempt,
                    state: c.status.state,
                    created_at: c.status.created_at,
                    labels: c.spec.labels.clone(),
                    annotations: c.spec.annotations.clone(),
                })
                .collect();
            Ok(Listing { sandboxes, containers })
        })
    }

    fn run_sandbox<'a>(&'a self, spec: &'a SandboxSpec) -> Answer<'a, String> {
        self.answer("run_sandbox", |state| {
            let id = state.id("sandbox");
            let ips = match spec.namespaces.host_network {
                true => Vec::new(),
                false => vec![format!("10.88.0.{}", state.next % 250 + 2)],
            };
            let seen = SeenSandbox {
                id: id.clone(),
                name: spec.name.clone(),
                namespace: spec.namespace.clone(),
                uid: spec.uid.clone(),
                attempt: spec.attempt,
                ready: true,
                created_at: state.now(),
                labels: spec.labels.clone(),
                annotations: spec.annotations.clone(),
            };
            state.calls.push(format!("run_sandbox {}", spec.name));
            state.sandboxes.insert(id.clone(), Sandbox { seen, ips });
            Ok(id)
        })
    }

    fn sandbox_status<'a>(&'a self, id: &'a str) -> Answer<'a, SandboxStatus> {
        self.answer("sandbox_status", move |state| {
            let s = state.sandboxes.get(id).ok_or_else(|| not_found("sandbox", id))?;
            Ok(SandboxStatus { ready: s.seen.ready, ips: s.ips.clone() })
        })
    }

    fn network<'a>(&'a self, id: &'a str) -> Answer<'a, PodNetwork> {
        self.answer("network", move |state| {
            let s = state.sandboxes.get(id).ok_or_else(|| not_found("sandbox", id))?;
            match s.seen.ready {
                true => Ok(PodNetwork::Host),
                false => Err(RuntimeError::Refused(format!("sandbox `{id}` is not ready"))),
            }
        })
    }

    fn stop_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.answer("stop_sandbox", move |state| {
            if let Some(s) = state.sandboxes.get(id) {
                let call = format!("stop_sandbox {}", s.seen.name);
                state.calls.push(call);
                state.stop_sandbox(id);
            }
            Ok(())
        })
    }

    fn remove_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.answer("remove_sandbox", move |state| {
            if let Some(gone) = state.sandboxes.remove(id) {
                state.calls.push(format!("remove_sandbox {}", gone.seen.name));
                state.containers.retain(|_, c| c.sandbox_id != id);
            }
            Ok(())
        })
    }

    fn create_container<'a>(
        &'a self,
        sandbox_id: &'a str,
        spec: &'a ContainerSpec,
        _sandbox: &'a SandboxSpec,
    ) -> Answer<'a, String> {
        self.answer("create_container", move |state| {
            if !state.sandboxes.get(sandbox_id).is_some_and(|s| s.seen.ready) {
                return Err(not_found("ready sandbox", sandbox_id));
            }
            let id = state.id("container");
            let status = ContainerStatus {
                id: id.clone(),
                name: spec.name.clone(),
                attempt: spec.attempt,
                state: ContainerState::Created,
                created_at: state.now(),
                image: spec.user_image.clone(),
                image_ref: spec.image.clone(),
                annotations: spec.annotations.clone(),
                mounts: spec.mounts.clone(),
                log_path: spec.log_path.clone(),
                resources: Some(spec.resources.clone()),
                ..ContainerStatus::default()
            };
            state.calls.push(format!("create_container {}", spec.name));
            state.containers.insert(
                id.clone(),
                Container { sandbox_id: sandbox_id.to_owned(), spec: spec.clone(), status },
            );
            Ok(id)
        })
    }

    fn start_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.answer("start_container", move |state| {
            let now = state.now();
            let c = state.container(id)?;
            c.status.state = ContainerState::Running;
            c.status.started_at = now;
            let call = format!("start_container {}", c.spec.name);
            state.calls.push(call);
            state.tell(id);
            Ok(())
        })
    }

    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let deaf = self.inner.state.lock().deaf;
            if deaf {
                tokio::time::sleep(grace).await;
            }
            self.answer("stop_container", move |state| {
                let now = state.now();
                let Some(c) = state.containers.get_mut(id) else { return Ok(()) };
                if c.status.state == ContainerState::Running {
                    c.finish(now, if deaf { 137 } else { 143 }, "");
                }
                let call = format!("stop_container {}", c.spec.name);
                state.calls.push(call);
                state.tell(id);
                Ok(())
            })
            .await
        })
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.answer("remove_container", move |state| {
            if let Some(gone) = state.containers.remove(id) {
                state.calls.push(format!("remove_container {}", gone.spec.name));
            }
            Ok(())
        })
    }

    fn container_status<'a>(&'a self, id: &'a str) -> Answer<'a, ContainerStatus> {
        self.answer("container_status", move |state| state.container(id).map(|c| c.status.clone()))
    }

    fn update_resources<'a>(&'a self, id: &'a str, to: &'a Resources) -> Answer<'a, ()> {
        self.answer("update_resources", move |state| {
            state.container(id)?.status.resources = Some(to.clone());
            Ok(())
        })
    }

    fn reopen_log<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.answer("reopen_log", move |state| {
            state.container(id)?;
            state.calls.push(format!("reopen_log {id}"));
            Ok(())
        })
    }

    fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: &'a [String],
        _limit: Duration,
    ) -> Answer<'a, ExecOutput> {
        self.answer("exec_sync", move |state| {
            let running = state.container(id)?.status.state == ContainerState::Running;
            if !running {
                return Err(RuntimeError::Refused(format!("container `{id}` is not running")));
            }
            state.calls.push(format!("exec_sync {}", command.join(" ")));
            Ok(state.commands.get(command).cloned().unwrap_or_default())
        })
    }

    fn exec<'a>(&'a self, _id: &'a str, _spec: &'a StreamSpec) -> Answer<'a, Streams> {
        self.answer("exec", |_| Err(RuntimeError::Unsupported("exec")))
    }

    fn attach<'a>(&'a self, _id: &'a str, _spec: &'a StreamSpec) -> Answer<'a, Streams> {
        self.answer("attach", |_| Err(RuntimeError::Unsupported("attach")))
    }

    fn image_status<'a>(&'a self, image: &'a str) -> Answer<'a, Option<ImageInfo>> {
        self.answer("image_status", move |state| Ok(state.images.get(image).cloned()))
    }

    fn pull_image<'a>(&'a self, image: &'a str, auth: Option<&'a PullAuth>) -> Answer<'a, String> {
        self.answer("pull_image", move |state| {
            let who = auth.map(|a| format!(" as {}", a.username)).unwrap_or_default();
            state.calls.push(format!("pull_image {image}{who}"));
            let info = state.registry.get(image).cloned().ok_or_else(|| {
                RuntimeError::Refused(format!(
                    "failed to pull and unpack image \"{image}\": not found"
                ))
            })?;
            let id = info.id.clone();
            state.images.insert(image.to_owned(), info);
            Ok(id)
        })
    }

    fn copy_from_image<'a>(
        &'a self,
        image: &'a str,
        path: &'a str,
        to: &'a Path,
    ) -> Answer<'a, ()> {
        self.answer("copy_from_image", move |state| {
            state.calls.push(format!("copy_from_image {image} {path}"));
            let bytes = state.files.get(&(image.to_owned(), path.to_owned()));
            let bytes = bytes.ok_or_else(|| not_found("file", path))?;
            std::fs::write(to, bytes).map_err(|e| RuntimeError::Refused(e.to_string()))
        })
    }

    fn list_images(&self) -> Answer<'_, Vec<ImageInfo>> {
        self.answer("list_images", |state| Ok(state.images.values().cloned().collect()))
    }

    fn remove_image<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.answer("remove_image", move |state| {
            state.images.retain(|_, i| i.id != id);
            state.calls.push(format!("remove_image {id}"));
            Ok(())
        })
    }

    fn image_fs(&self) -> Answer<'_, Vec<ImageFs>> {
        self.answer("image_fs", |_| Ok(Vec::new()))
    }

    fn stats<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Vec<ContainerStats>> {
        self.answer("stats", move |state| {
            let at = state.now();
            let State { sandboxes, containers, .. } = state;
            let of_pod = |c: &&Container| {
                sandboxes
                    .get(&c.sandbox_id)
                    .is_some_and(|s| pod_uid.is_none_or(|uid| s.seen.uid == uid))
            };
            Ok(containers
                .values()
                .filter(|c| c.status.state == ContainerState::Running)
                .filter(of_pod)
                .map(|c| ContainerStats {
                    id: c.status.id.clone(),
                    name: c.spec.name.clone(),
                    labels: c.spec.labels.clone(),
                    at,
                    ..ContainerStats::default()
                })
                .collect())
        })
    }

    fn events(&self) -> Answer<'_, Option<mpsc::Receiver<RuntimeEvent>>> {
        self.answer("events", |state| {
            if state.no_events {
                return Ok(None);
            }
            let (tx, rx) = mpsc::channel(256);
            state.events = Some(tx);
            Ok(Some(rx))
        })
    }
}

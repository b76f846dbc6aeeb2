//! A container runtime for machines without one.
//!
//! Owns: the index of sandboxes and containers, read from disk at the start; the shims' watchers;
//! the stream of events.
//! Called by: edged, through [`ContainerRuntime`].
//! Never: keeps a truth that is not on disk, or touches a container except through its shim.
//!
//! Every container has a small process of its own, the shim (`shim/`), which is this same program
//! started anew: single-threaded, so that libcontainer may fork in it, and independent, so that a
//! kill of edgecore stops no container. The shim keeps the root's mounts in a mount namespace of
//! its own: when it ends, however it ends, no mount is left.

mod cgroup;
mod client;
mod containers;
mod exec;
mod image;
mod images;
mod index;
mod plan;
pub mod sample;
mod sandboxes;
pub mod shim;
mod spec;
mod state;
mod terminal;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use self::cgroup::Hierarchies;
use self::client::ShimFailure;
use self::image::{ImageError, Puller, Store};
use self::index::Index;
use self::spec::SpecError;
use self::state::{Id, Layout, StateError};
use super::{
    Answer, CgroupDriver, ContainerRuntime, ContainerSpec, ContainerStats, ContainerStatus,
    ExecOutput, ImageFs, ImageInfo, Listing, PodNetwork, PullAuth, Resources, RuntimeError,
    RuntimeEvent, RuntimeStatus, RuntimeVersion, SandboxSpec, SandboxStatus, StreamSpec, Streams,
};

/// What pods without the host's network are told.
const NO_POD_NETWORK: &str = "the embedded runtime makes no pod network yet: a pod that does \
     not ask for the host's network gets an isolated loopback only";

/// Events that a slow subscriber may have outstanding; beyond that the watchers wait.
const EVENTS: usize = 256;

/// Why the runtime cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Containers need root.
    #[error("running containers needs root; start keadm with sudo, or use a CRI runtime's socket")]
    NotRoot,
    /// The state folder cannot be used.
    #[error("the state folder `{}` cannot be used: {why}", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// How to open the runtime.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept. Archives and OCI layouts in its folder `preload` are imported.
    pub root: PathBuf,
    /// Registries, as `host:port`, that are spoken to without TLS.
    pub insecure_registries: Vec<String>,
}

/// Runs containers without a container engine.
pub struct EmbeddedRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    store: Arc<Store>,
    puller: Puller,
    hierarchies: Hierarchies,
    index: Mutex<Index>,
    subscribers: Mutex<Vec<mpsc::Sender<RuntimeEvent>>>,
    /// What is being made.
    making: TaskTracker,
}

impl Inner {
    /// Makes something, also if whoever asked for it does not wait: what is half made nobody would
    /// know of, and nobody would remove.
    async fn make<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let made = self.making.spawn(work).await;
        made.map_err(|e| RuntimeError::Refused(e.to_string()))?
    }
}

impl EmbeddedRuntime {
    /// Opens the runtime, finds again what an earlier edgecore has started, and makes the sample
    /// image.
    ///
    /// # Errors
    /// [`OpenError`]: without root, or with a folder that cannot be used.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(OpenError::NotRoot);
        }
        let root = options.root.clone();
        let wrong = |why: String| OpenError::Folder { path: root.clone(), why };
        check_root(&options.root).map_err(|why| wrong(why.into()))?;
        let layout = Layout::new(&options.root);
        let opened = {
            let layout = layout.clone();
            tokio::task::spawn_blocking(move || open_store(&layout)).await
        };
        let store = opened.map_err(|e| wrong(e.to_string()))?.map_err(|e| wrong(chain(&e)))?;
        let store = Arc::new(store);
        let inner = Arc::new(Inner {
            puller: Puller::new(Arc::clone(&store), options.insecure_registries),
            store,
            layout,
            hierarchies: Hierarchies::detect(),
            index: Mutex::new(Index::default()),
            subscribers: Mutex::new(Vec::new()),
            making: TaskTracker::new(),
        });
        inner.recover().await;
        inner.prepare_images().await;
        Ok(EmbeddedRuntime { inner })
    }

    /// Ends and removes everything: containers, sandboxes, their processes, mounts and cgroups, also
    /// what is still being made. Images stay.
    ///
    /// # Errors
    /// The first thing that could not be removed; the others have been tried.
    pub async fn remove_all(&self) -> Result<(), RuntimeError> {
        self.inner.making.close();
        self.inner.making.wait().await;
        let ids: Vec<Id> = self.inner.index.lock().sandboxes.keys().cloned().collect();
        let mut result = Ok(());
        for id in ids {
            let removed = self.inner.remove_sandbox(&id).await;
            result = result.and(removed);
        }
        result
    }
}

/// overlayfs and libcontainer give these characters a meaning.
fn check_root(root: &std::path::Path) -> Result<(), &'static str> {
    let text = root.to_str().ok_or("its path is not UTF-8")?;
    if !root.is_absolute() {
        return Err("its path is not absolute");
    }
    if text.contains([',', ':', '\\', '"']) {
        return Err("its path contains one of `,`, `:`, `\\` and `\"`");
    }
    Ok(())
}

fn open_store(layout: &Layout) -> Result<Store, ImageError> {
    for folder in [layout.sandboxes(), layout.containers()] {
        state::make_dir(&folder)?;
    }
    Store::open(layout.images())
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl From<StateError> for RuntimeError {
    fn from(e: StateError) -> Self {
        RuntimeError::Refused(chain(&e))
    }
}

impl From<ImageError> for RuntimeError {
    fn from(e: ImageError) -> Self {
        RuntimeError::Refused(chain(&e))
    }
}

impl From<SpecError> for RuntimeError {
    fn from(e: SpecError) -> Self {
        RuntimeError::Refused(chain(&e))
    }
}

impl From<ShimFailure> for RuntimeError {
    fn from(e: ShimFailure) -> Self {
        RuntimeError::Refused(chain(&e))
    }
}

/// An id from outside; what cannot be one is not known here.
fn parse_id(what: &str, id: &str) -> Result<Id, RuntimeError> {
    Id::try_from(id.to_owned()).map_err(|_| not_found(what, id))
}

fn not_found(what: &str, id: &str) -> RuntimeError {
    RuntimeError::NotFound { what: format!("{what} `{id}`") }
}

/// What is gone has been stopped and removed.
fn or_gone(result: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}

impl ContainerRuntime for EmbeddedRuntime {
    fn version(&self) -> Answer<'_, RuntimeVersion> {
        let version =
            RuntimeVersion { name: "keadm".into(), version: env!("CARGO_PKG_VERSION").into() };
        Box::pin(async { Ok(version) })
    }

    fn status(&self) -> Answer<'_, RuntimeStatus> {
        Box::pin(async {
            Ok(RuntimeStatus {
                ready: true,
                network_ready: true,
                message: String::new(),
                cgroup_driver: Some(CgroupDriver::Cgroupfs),
            })
        })
    }

    fn network_limit(&self) -> Option<&'static str> {
        Some(NO_POD_NETWORK)
    }

    fn list<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Listing> {
        Box::pin(async move { Ok(self.inner.index.lock().listing(pod_uid)) })
    }

    fn run_sandbox<'a>(&'a self, spec: &'a SandboxSpec) -> Answer<'a, String> {
        let (inner, spec) = (Arc::clone(&self.inner), spec.clone());
        Box::pin(self.inner.make(async move { inner.run_sandbox(&spec).await }))
    }

    fn sandbox_status<'a>(&'a self, id: &'a str) -> Answer<'a, SandboxStatus> {
        Box::pin(async move {
            let sandbox = self.inner.sandbox(&parse_id("sandbox", id)?)?;
            Ok(SandboxStatus { ready: sandbox.is_ready(), ips: Vec::new() })
        })
    }

    fn network<'a>(&'a self, id: &'a str) -> Answer<'a, PodNetwork> {
        Box::pin(async move { self.inner.network(&parse_id("sandbox", id)?) })
    }

    fn stop_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(id) = parse_id("sandbox", id) else { return Ok(()) };
            or_gone(self.inner.stop_sandbox(&id).await)
        })
    }

    fn remove_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(id) = parse_id("sandbox", id) else { return Ok(()) };
            or_gone(self.inner.remove_sandbox(&id).await)
        })
    }

    fn create_container<'a>(
        &'a self,
        sandbox_id: &'a str,
        spec: &'a ContainerSpec,
        _sandbox: &'a SandboxSpec,
    ) -> Answer<'a, String> {
        let (inner, spec) = (Arc::clone(&self.inner), spec.clone());
        Box::pin(async move {
            let sandbox = parse_id("sandbox", sandbox_id)?;
            self.inner.make(async move { inner.create_container(&sandbox, &spec).await }).await
        })
    }

    fn start_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let (inner, id) = (Arc::clone(&self.inner), parse_id("container", id)?);
            self.inner.make(async move { inner.start_container(&id).await }).await
        })
    }

    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(id) = parse_id("container", id) else { return Ok(()) };
            or_gone(self.inner.stop_container(&id, grace).await)
        })
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(id) = parse_id("container", id) else { return Ok(()) };
            or_gone(self.inner.remove_container(&id).await)
        })
    }

    fn container_status<'a>(&'a self, id: &'a str) -> Answer<'a, ContainerStatus> {
        Box::pin(async move {
            let id = parse_id("container", id)?;
            let index = self.inner.index.lock();
            index.status(&id).ok_or_else(|| not_found("container", id.as_str()))
        })
    }

    fn update_resources<'a>(&'a self, id: &'a str, to: &'a Resources) -> Answer<'a, ()> {
        Box::pin(async move { self.inner.update_resources(&parse_id("container", id)?, to) })
    }

    fn reopen_log<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let id = parse_id("container", id)?;
            self.inner.running(&id)?;
            let folder = self.inner.layout.container(&id);
            Ok(client::ask(&folder, &wire::Request::ReopenLog).await?)
        })
    }

    fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: &'a [String],
        limit: Duration,
    ) -> Answer<'a, ExecOutput> {
        Box::pin(
            async move { self.inner.exec_sync(&parse_id("container", id)?, command, limit).await },
        )
    }

    fn exec<'a>(&'a self, id: &'a str, spec: &'a StreamSpec) -> Answer<'a, Streams> {
        Box::pin(async move { self.inner.exec(&parse_id("container", id)?, spec).await })
    }

    fn attach<'a>(&'a self, id: &'a str, spec: &'a StreamSpec) -> Answer<'a, Streams> {
        Box::pin(async move { self.inner.attach(&parse_id("container", id)?, spec).await })
    }

    fn image_status<'a>(&'a self, image: &'a str) -> Answer<'a, Option<ImageInfo>> {
        Box::pin(async move { Ok(self.inner.store.find(image).map(images::info)) })
    }

    fn pull_image<'a>(&'a self, image: &'a str, auth: Option<&'a PullAuth>) -> Answer<'a, String> {
        Box::pin(async move { Ok(self.inner.puller.pull(image, auth).await?) })
    }

    fn copy_from_image<'a>(
        &'a self,
        image: &'a str,
        path: &'a str,
        to: &'a Path,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let found = self.inner.store.find(image).ok_or_else(|| not_found("image", image))?;
            let (store, path, to) = (self.inner.store.clone(), path.to_owned(), to.to_owned());
            let copied = tokio::task::spawn_blocking(move || store.copy_out(&found, &path, &to));
            Ok(copied.await.map_err(|e| RuntimeError::Refused(e.to_string()))??)
        })
    }

    fn list_images(&self) -> Answer<'_, Vec<ImageInfo>> {
        let all = self.inner.store.list().into_iter().map(images::info).collect();
        Box::pin(async { Ok(all) })
    }

    fn remove_image<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.inner.remove_image(id))
    }

    fn image_fs(&self) -> Answer<'_, Vec<ImageFs>> {
        Box::pin(async move { Ok(self.inner.image_fs().await) })
    }

    fn stats<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Vec<ContainerStats>> {
        Box::pin(async move { Ok(self.inner.stats(pod_uid).await) })
    }

    fn events(&self) -> Answer<'_, Option<mpsc::Receiver<RuntimeEvent>>> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.inner.subscribers.lock().push(sender);
        Box::pin(async { Ok(Some(receiver)) })
    }
}

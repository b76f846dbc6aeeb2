//! DMI: the interface between this node and the mappers on it.
//!
//! Owns: the socket `dmi.sock`, the mappers that have registered, one task for each.
//! Called by: `app.rs`; the edgehub says when a device has changed.
//! Never: merges a value; that is devicetwin's.
//!
//! A mapper calls over `dmi.sock`, and is called over a socket of its own. The file can be opened by
//! its owner only, so a mapper runs as the same user; which process calls is asked of the kernel.

pub(crate) mod authority;
mod convert;
mod generated;
mod mapper;
mod peers;
mod plan;
mod registry;
mod server;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use service::{BoxError, CancellationToken};
use tokio::net::UnixListener;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use self::authority::AnyAuthority;
pub(crate) use self::convert::setting;
pub(crate) use self::generated::pb;
use self::mapper::Mapper;
use self::pb::device_manager_service_server::DeviceManagerServiceServer;
use self::plan::Catalog;
use self::registry::MapperInfo;
pub(crate) use self::registry::Registry;
use super::Handle;
use super::metrics::Counters;
use crate::metamanager::Store;

/// Calls of one connection at a time.
const CALLS: usize = 64;
/// How long one may take: a twin is tried to be stored for five seconds.
const CALL: Duration = Duration::from_secs(30);

/// How long calls may go on when edgecore stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DmiError {
    /// Another process listens there.
    #[error("another process serves mappers at `{path}`; stop the other edgecore first")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot open the socket for mappers `{path}`")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// What the calls and the mappers' tasks share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) devices: Handle,
    pub(super) registry: Registry,
    pub(super) counters: Arc<Counters>,
}

/// The calls.
#[derive(Clone)]
pub(super) struct DmiService {
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
    pub(super) look: Duration,
}

/// DMI with its socket open.
pub(crate) struct Dmi {
    listener: UnixListener,
    path: PathBuf,
    look: Duration,
}

impl Dmi {
    /// Opens the socket. One that a dead process left behind is replaced.
    ///
    /// # Errors
    /// When another process listens there, or the file cannot be made.
    pub(crate) fn bind(path: &Path) -> Result<Self, DmiError> {
        let failed = |source| DmiError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(DmiError::InUse { path: path.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
                if !kind.is_socket() {
                    return Err(failed(e));
                }
                fs::remove_file(path).map_err(failed)?;
            }
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), look: mapper::LOOK })
    }

    /// Serves mappers until `stopping`. Those that are known from before are dialled at once.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) async fn run(
        self,
        store: Store,
        devices: Handle,
        stopping: CancellationToken,
    ) -> Result<(), BoxError> {
        let registry = devices.mappers.clone();
        let counters = Arc::clone(&devices.counters);
        let shared = Arc::new(Shared { store, devices, registry, counters });
        let tasks = TaskTracker::new();
        let (stop, look) = (stopping.clone(), self.look);
        let service = DmiService { shared, tasks: tasks.clone(), stopping: stop, look };
        service.known_mappers().await;
        let listener = self.listener;
        let incoming = futures::stream::unfold(listener, async |listener| {
            let next = listener.accept().await.map(|(stream, _)| AnyAuthority::new(stream));
            if next.is_err() {
                // Out of descriptors, most likely: not as fast as it goes.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some((next, listener))
        });
        let serve = Server::builder()
            .timeout(CALL)
            .concurrency_limit_per_connection(CALLS)
            .http2_keepalive_interval(Some(Duration::from_secs(60)))
            .add_service(DeviceManagerServiceServer::new(service))
            .serve_with_incoming_shutdown(Box::pin(incoming), stopping.cancelled());
        let too_long = async {
            stopping.cancelled().await;
            tokio::time::sleep(GOODBYE).await;
        };
        let served = tokio::select! {
            served = serve => served,
            // A mapper that does not let go of its connection holds nobody up.
            () = too_long => Ok(()),
        };
        tasks.close();
        tasks.wait().await;
        // A next edgecore replaces it anyway.
        let _ = fs::remove_file(&self.path);
        Ok(served?)
    }
}

impl DmiService {
    /// Mappers run on while edgecore restarts; they are found again, not waited for.
    async fn known_mappers(&self) {
        let rows = match self.shared.store.read(|tx| tx.of_type(server::MAPPER)).await {
            Ok(rows) => rows,
            Err(e) => {
                tracing::error!(error = service::error_chain(&e), "mappers cannot be read");
                return;
            }
        };
        for info in rows.iter().filter_map(|(_, row)| MapperInfo::from_row(row)) {
            let registry = &self.shared.registry;
            let Some(place) = registry.register(&info, None, &self.stopping) else { return };
            let shared = Arc::clone(&self.shared);
            let mapper = Mapper { info, place, shared, told: Catalog::default(), look: self.look };
            self.tasks.spawn(mapper.run());
        }
    }
}

#[cfg(test)]
mod tests;

//! What the verbs and the controllers work on.
//!
//! Owns: the store, the table of kinds, the keys in use. Made by: `lib.rs`, once.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::ClientLimits;
use crate::bootstrap::Authority;
use crate::http::rbac::Authorizer;
use crate::http::seats::Seats;
use crate::http::services::Reserved;
use crate::http::tokens::Signer;
use crate::http::webhooks::Webhooks;
use crate::registry::{Registry, Snapshot, crd};
use crate::store::Store;

/// The state of one control plane.
pub(crate) struct Plane {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) signer: Signer,
    pub(crate) authorizer: Authorizer,
    pub(crate) webhooks: Webhooks,
    /// What services under way have been given.
    pub(crate) reserved: Reserved,
    /// The CA, for those who ask for certificates.
    pub(crate) authority: Authority,
    /// How kubelets are asked: with a client certificate of the CA.
    pub(crate) kubelets: Arc<rustls::ClientConfig>,
    /// Where the API is served.
    pub(crate) address: SocketAddr,
    /// By which address others reach it, if any do.
    pub(crate) reached_at: Option<IpAddr>,
    /// The folder of the database and the keys.
    pub(crate) data_dir: PathBuf,
    /// The certificate of the CA, as clients get it.
    pub(crate) ca_pem: String,
    /// How long clients may take.
    pub(crate) limits: ClientLimits,
    /// How much they may ask at once.
    pub(crate) seats: Seats,
    pub(crate) stopping: CancellationToken,
    /// The default objects are there.
    pub(crate) started: AtomicBool,
}

impl Plane {
    /// The kinds that are served, by the definitions as they are stored now: who has seen that a
    /// definition is established, or how it changed, is served accordingly.
    pub(crate) fn kinds(&self) -> Arc<Snapshot> {
        let age = self.store.last_change(crd::TABLE) + 1;
        self.registry.current(age, || self.store.list(crd::TABLE, "", None).objects)
    }

    /// Why the server is not ready, if it is not.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        if self.store.failing() {
            Some("database failed: the last write was refused, see the log")
        } else if !self.started.load(Ordering::Relaxed) {
            Some("poststarthook failed: the default objects are being made")
        } else if self.stopping.is_cancelled() {
            Some("shutdown failed: the server is stopping")
        } else {
            None
        }
    }
}

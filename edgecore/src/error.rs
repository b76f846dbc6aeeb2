//! Why edgecore cannot start.

use std::path::PathBuf;

use crate::devicetwin::dmi::DmiError;
use crate::edged::runtime::RuntimeError;
use crate::eventbus::EventBusError;
use crate::metamanager::StoreError;

/// Why edgecore cannot start. What goes wrong later is in [`service::Stopped`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token in the configuration is none.
    #[error("`modules.edgeHub.token` is of no use")]
    Token(#[source] crate::certs::CertError),
    /// A value of the configuration cannot be used.
    #[error("`{key}` is `{value}`: {why}")]
    Config {
        /// Its path.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        why: &'static str,
    },
    /// The container runtime's address cannot be used.
    #[error("the container runtime at `{endpoint}` cannot be used")]
    Runtime {
        /// `containerRuntimeEndpoint`
        endpoint: String,
        /// Why not.
        #[source]
        source: RuntimeError,
    },
    /// The event bus.
    #[error(transparent)]
    EventBus(#[from] EventBusError),
    /// The socket for mappers.
    #[error(transparent)]
    Dmi(#[from] DmiError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] service::admin::AdminError),
    /// A folder cannot be made.
    #[error("cannot make the folder `{path}`")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A module ended the process.
    #[error(transparent)]
    Stopped(#[from] service::Stopped),
}

//! The edge half: edgehub, metamanager, edged, edgestream, devicetwin, eventbus, taskmanager.
//!
//! Owns: everything that runs on an edge node.
//! Called by: `keadm edgecore` and the tests.
//! Never: speaks to an API server; what it needs comes through the link to cloudcore.

/// The port, on loopback, of edgecore's own health and metrics, beside cloudcore's 9091. The port
/// 10350 that KubeEdge names is the node's local API.
pub const ADMIN_PORT: u16 = 9092;

mod app;
mod devicetwin;
pub mod edged;
mod edgehub;
mod edgestream;
mod error;
mod eventbus;
pub mod mapper;
mod metamanager;
mod status;
mod taskmanager;

pub use app::{EdgeCore, Options};
pub use devicetwin::dmi::DmiError;
pub use edged::runtime::embedded::{sample, shim};
pub use edgehub::certs;
pub use edgehub::link::LinkError;
pub use error::Error;
pub use eventbus::EventBusError;
pub use metamanager::{StoreError, Stored, copy_database, restore_database, stored};
pub use taskmanager::report::{self as upgrade_report, Report as UpgradeReport};
pub use taskmanager::{JobPaths, is_digest, is_version};

use api::config::edgecore::EdgeCoreConfig;

/// The columns and rows of a terminal; `None`: it is none.
pub fn terminal_size(of: &impl std::os::fd::AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(of).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Runs an edge node until the service is asked to stop, or a module that the others need fails.
///
/// # Errors
/// When something cannot be opened, or a module failed; the error names it.
pub async fn run(
    config: EdgeCoreConfig,
    options: Options,
    mut svc: service::Service,
) -> Result<(), Error> {
    let app = EdgeCore::build(config, options).await?;
    app.spawn(&mut svc)?;
    Ok(svc.until_stopped().await?)
}

//! `keadm backup` and `keadm restore`: what a machine has, in files, and back.

#[cfg(feature = "cloud")]
pub mod cloud;
#[cfg(feature = "edge")]
pub mod edge;

use crate::context::Context;
use crate::errors::CommandError;

#[cfg(feature = "cloud")]
pub use cloud::{RestoreArgs, restore};

/// Back up the embedded control plane, or this edge node
#[derive(clap::Args, Debug)]
pub struct BackupArgs {
    #[command(subcommand)]
    what: BackupWhat,
}

/// What to back up.
#[derive(clap::Subcommand, Debug)]
pub enum BackupWhat {
    /// Write everything that the embedded control plane keeps to FILE
    ///
    /// The file has the database and the keys of the CA and of service accounts: keep it where only
    /// you can read it. The control plane may run meanwhile.
    #[cfg(feature = "cloud")]
    Cloud(cloud::BackupFlags),
    /// Keep this node's database, configuration and program, so that `keadm rollback edge` can put
    /// them back
    #[cfg(feature = "edge")]
    Edge(edge::BackupEdgeFlags),
}

/// Backs up.
///
/// # Errors
/// When there is nothing to back up, or the backup cannot be written.
pub fn backup(args: &BackupArgs, cx: &Context) -> Result<(), CommandError> {
    match &args.what {
        #[cfg(feature = "cloud")]
        BackupWhat::Cloud(flags) => cloud::backup(flags, cx),
        #[cfg(feature = "edge")]
        BackupWhat::Edge(flags) => edge::backup(flags, cx),
    }
}

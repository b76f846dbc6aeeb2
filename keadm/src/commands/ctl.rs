//! `keadm ctl`: this edge node's own pods and devices, with the cloud or without it.

mod confirm;
mod logs;
mod restart;

use super::describe::DescribeArgs;
use super::get::GetArgs;
use crate::context::Context;
use crate::errors::CommandError;

/// Look at and handle this edge node's own pods and devices, also while the cloud is away
///
/// Everything is answered by edgecore on this machine.
#[derive(clap::Args, Debug)]
pub struct CtlArgs {
    #[command(subcommand)]
    action: CtlAction,
}

/// What can be done.
#[derive(clap::Subcommand, Debug)]
pub enum CtlAction {
    /// List this node, its pods or its devices: as `keadm get --local`
    Get(GetArgs),
    /// Show all that this node knows of itself, a pod or a device: as `keadm describe --local`
    Describe(DescribeArgs),
    /// Print the log of a container
    Logs(logs::LogsArgs),
    /// Restart the containers of pods
    Restart(restart::RestartArgs),
    /// Agree to the upgrade that waits on this node
    Confirm(confirm::ConfirmArgs),
}

/// Does it.
///
/// # Errors
/// When edgecore does not answer, or what was named is not there.
pub fn ctl(args: &CtlArgs, cx: &Context) -> Result<(), CommandError> {
    match &args.action {
        CtlAction::Get(args) => super::get::get(&args.local(), cx),
        CtlAction::Describe(args) => super::describe::describe(&args.local(), cx),
        CtlAction::Logs(args) => logs::logs(args, cx),
        CtlAction::Restart(args) => restart::restart(args, cx),
        CtlAction::Confirm(args) => confirm::confirm(args, cx),
    }
}

//! `keadm ctl`: this edge node's own pods and devices, with the cloud or without it.

mod confirm;
mod exec;
mod logs;
mod raw;
mod restart;
mod shown;
mod unhold;
mod which;

use super::JsonOutput;
use super::describe::DescribeArgs;
use super::get::GetArgs;
use crate::context::Context;
use crate::errors::CommandError;
use crate::node_api::NodeApiArgs;

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
    /// Run a command in a container
    Exec(exec::ExecArgs),
    /// Restart the containers of pods
    Restart(restart::RestartArgs),
    /// Agree to the upgrade that waits on this node
    Confirm(confirm::ConfirmArgs),
    /// Let pods start that are held back until somebody on this node says so
    ///
    /// A pod with the annotation `edge.kubeedge.io/hold-upgrade: "true"` is held back when it comes.
    #[command(name = "unhold-upgrade")]
    UnholdUpgrade(unhold::UnholdArgs),
}

/// How what changes something is asked for.
#[derive(clap::Args, Debug)]
pub struct ActArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
    #[command(flatten)]
    api: NodeApiArgs,
}

impl ActArgs {
    /// What the path ends with.
    fn query(&self) -> &'static str {
        if self.dry_run { "?dryRun=true" } else { "" }
    }
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
        CtlAction::Exec(args) => exec::exec(args, cx),
        CtlAction::UnholdUpgrade(args) => unhold::unhold(args, cx),
        CtlAction::Restart(args) => restart::restart(args, cx),
        CtlAction::Confirm(args) => confirm::confirm(args, cx),
    }
}

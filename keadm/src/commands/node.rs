//! `keadm cordon`, `uncordon`, `drain`: what the dashboard can do to a node, as commands.

use api::status::stream::Request;
use serde_json::json;

use super::JsonOutput;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::fleet::{Fleet, FleetArgs, Want};

/// Which node, and how to go about it.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    /// The node
    #[arg(value_name = "NODE", add = completions::ArgValueCompleter::new(crate::complete::nodes))]
    node: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Let no new pods onto a node
#[derive(clap::Args, Debug)]
pub struct CordonArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// Let new pods onto a node again
#[derive(clap::Args, Debug)]
pub struct UncordonArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// Let no new pods onto a node, and evict those that are on it
///
/// Pods of DaemonSets and static pods stay. Evicted pods come back elsewhere only if a controller
/// makes them anew.
#[derive(clap::Args, Debug)]
pub struct DrainArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Cordons.
///
/// # Errors
/// When nobody answers, or the node is not there.
pub fn cordon(args: &CordonArgs, cx: &Context) -> Result<(), CommandError> {
    act(&args.node, "no new pods come onto the node", |node| Request::Cordon { node, on: true }, cx)
}

/// Uncordons.
///
/// # Errors
/// When nobody answers, or the node is not there.
pub fn uncordon(args: &UncordonArgs, cx: &Context) -> Result<(), CommandError> {
    act(
        &args.node,
        "new pods may come onto the node",
        |node| Request::Cordon { node, on: false },
        cx,
    )
}

/// Drains.
///
/// # Errors
/// When nobody answers, the node is not there, or a pod may not be evicted.
pub fn drain(args: &DrainArgs, cx: &Context) -> Result<(), CommandError> {
    if !args.node.dry_run {
        let node = &args.node.node;
        cx.confirm(&format!("The pods on the node `{node}` will be evicted."), args.yes)?;
    }
    act(&args.node, "the node's pods are evicted", |node| Request::Drain { node }, cx)
}

fn act(
    args: &NodeArgs,
    what: &str,
    request: impl FnOnce(String) -> Request,
    cx: &Context,
) -> Result<(), CommandError> {
    cx.block_on(async {
        let mut fleet = Fleet::open(&args.fleet, Want::default(), cx).await?;
        let all = fleet.first().await?;
        if !all.nodes.iter().any(|row| row.name == args.node) {
            let text = format!("there is no node `{}`", args.node);
            return Err(CommandError::new(Kind::NotFound, text)
                .hint("`keadm get nodes` shows those that there are"));
        }
        let pods = all.pods.iter().filter(|row| row.node == args.node).count();
        let done = if args.dry_run {
            format!("would: {what} (`{}`, {pods} pods on it)", args.node)
        } else {
            fleet.request(request(args.node.clone())).await?
        };
        if args.output.is_some() {
            let whole = json!({ "node": args.node, "dryRun": args.dry_run, "done": done });
            return Ok(cx.printer.json(&whole)?);
        }
        Ok(cx.printer.data(done)?)
    })
}

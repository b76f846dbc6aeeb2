//! `keadm cordon`, `uncordon`, `drain`: what the dashboard can do to a node, as commands.

use std::time::Duration;

use api::status::drained::still_there;
use api::status::row::NodeRow;
use api::status::stream::Request;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::JsonOutput;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::fleet::{Fleet, FleetArgs, Want};
use crate::phases::{Progress, Step, human};

/// Between two looks at what is left, as long as pods go.
const ROUND: Duration = Duration::from_secs(1);

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
/// makes them anew. A pod whose disruption budget allows no eviction now is asked for again. It ends
/// when the pods are gone.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: keadm drain edge-1 --yes --timeout 10m && ssh edge-1 poweroff")]
pub struct DrainArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// How long to wait for the pods to be gone
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::duration)]
    timeout: Duration,
    /// Do not wait for the pods to be gone
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
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
    let what = "the node's pods are evicted";
    if args.no_wait || args.node.dry_run {
        return act(&args.node, what, |node| Request::Drain { node }, cx);
    }
    cx.block_on(async {
        let mut fleet = Fleet::open(&args.node.fleet, Want::default(), cx).await?;
        there(&args.node.node, &fleet.first().await?.nodes)?;
        let progress = Progress::new(&cx.printer);
        let step = progress.begin("drain");
        match until_gone(args, &mut fleet, &step).await {
            Ok(done) => {
                step.done("all pods are gone");
                progress.ready(&[]);
                report(&args.node, &done, cx)
            }
            Err(e) => {
                step.failed(e.message());
                Err(e)
            }
        }
    })
}

/// Evicts, round by round, until nothing is left that should go; in words.
async fn until_gone(
    args: &DrainArgs,
    fleet: &mut Fleet,
    step: &Step,
) -> Result<String, CommandError> {
    let node = &args.node.node;
    let end = Instant::now() + args.timeout;
    let mut most = 0;
    loop {
        let round = fleet.request(Request::Drain { node: node.clone() }).await;
        // What may not go yet is a refusal with the number of what is left.
        let said = match &round {
            Ok(said) => said.clone(),
            Err(e) => e.causes().first().cloned().unwrap_or_default(),
        };
        let left = match (still_there(&said), round) {
            (Some(left), _) => left,
            (None, Err(e)) => return Err(e),
            // A server of other words: it has done its part, and cannot say more.
            (None, Ok(said)) => return Ok(said),
        };
        most = most.max(left);
        if left == 0 {
            return Ok(format!("node {node} drained: {most} pods are gone"));
        }
        step.waiting(said.clone());
        step.tick();
        let now = Instant::now();
        if now >= end {
            let text =
                format!("{left} pods are still on node `{node}` after {}", human(args.timeout));
            return Err(CommandError::new(Kind::TimedOut, text)
                .because(said)
                .hint(format!("`keadm get pods -A --field-selector spec.nodeName={node}`"))
                .hint("what was evicted goes on ending; `--timeout` waits longer"));
        }
        sleep_until((now + ROUND).min(end)).await;
    }
}

/// Whether there is such a node.
fn there(node: &str, all: &[NodeRow]) -> Result<(), CommandError> {
    if all.iter().any(|row| row.name == node) {
        return Ok(());
    }
    let text = format!("there is no node `{node}`");
    Err(CommandError::new(Kind::NotFound, text)
        .hint("`keadm get nodes` shows those that there are"))
}

fn report(args: &NodeArgs, done: &str, cx: &Context) -> Result<(), CommandError> {
    if args.output.is_some() {
        let whole = json!({ "node": args.node, "dryRun": args.dry_run, "done": done });
        return Ok(cx.printer.json(&whole)?);
    }
    Ok(cx.printer.result(done)?)
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
        there(&args.node, &all.nodes)?;
        let pods = all.pods.iter().filter(|row| row.node == args.node).count();
        let done = if args.dry_run {
            format!("would: {what} (`{}`, {pods} pods on it)", args.node)
        } else {
            fleet.request(request(args.node.clone())).await?
        };
        report(args, &done, cx)
    })
}

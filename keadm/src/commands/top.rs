//! `keadm top`: which nodes and pods use how much.

use std::time::Duration;

use api::status::stream::Update;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::get::{self, SelectArgs};
use crate::context::Context;
use crate::errors::{CommandError, Kind as Failure};
use crate::fleet::{self, Fleet, FleetArgs, Want};
use crate::output::print::Writer;
use crate::output::shape::Kind;
use crate::output::{OutputArgs, select};

/// Nodes that say nothing for so long are left out.
const MEASURED: Duration = Duration::from_secs(6);

/// Show how much processor and memory nodes and pods use
///
/// The figures are the nodes' own: cloudcore asks them while somebody wants to know. Where no status
/// stream answers, they are those of the cluster's metrics API, if it has one. What a node does not report
/// is left out.
#[derive(clap::Args, Debug)]
pub struct TopArgs {
    /// Of what: nodes or pods
    #[arg(value_name = "KIND", value_parser = ["nodes", "node", "pods", "pod"])]
    what: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Prints a table of those that report their use, the most memory first.
///
/// # Errors
/// When nobody answers, or nobody reports any use.
pub fn top(args: &TopArgs, cx: &Context) -> Result<(), CommandError> {
    let (kind, _) = get::target(&args.what, &[])?;
    cx.block_on(async {
        let want = Want { usage: true, ..Want::default() };
        let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
        let mut first = fleet.first().await?;
        // The nodes are asked only now, and twice: one reading tells no rate.
        let end = Instant::now() + MEASURED;
        while fleet.knows_links() && !(measured(&first) && some_is(args, kind, &first)) {
            match timeout_at(end, fleet.next()).await {
                Ok(update) => fleet::merge(&mut first, update?),
                Err(_) => break,
            }
        }
        let mut all = get::objects(kind, &first);
        all.retain(|object| args.select.matches(kind, object));
        let some = !all.is_empty();
        all.retain(|object| object["status"].get("usage").is_some());
        if all.is_empty() && some {
            return Err(unknown(kind.plural(), &fleet));
        }
        if all.is_empty() {
            get::nothing(kind, &args.select, cx);
        }
        sorted(&mut all, args)?;
        Ok(Writer::used(&cx.printer, &args.output, kind, args.select.all_namespaces)
            .all(&all, false, first.now)?)
    })
}

/// Nobody has said what is used.
fn unknown(what: &str, fleet: &Fleet) -> CommandError {
    let text = format!("none of these {what} has its use reported");
    let error = CommandError::new(Failure::Unsupported, text);
    let error = if fleet.knows_links() {
        error
            .because(format!("it is not in {}", fleet.source()))
            .hint("a node is asked through its tunnel: `edgeStream` there, `cloudStream` here")
    } else {
        error
            .because(format!("{} serves no metrics (metrics.k8s.io) of them", fleet.source()))
            .hint("cloudcore's status stream has it: `--endpoint https://HOST:10002` names one")
    };
    error.hint(format!("on the node itself, `keadm top {what} --local` shows it"))
}

/// Whether every node that is connected has said what it uses. Pure.
fn measured(all: &Update) -> bool {
    all.nodes.iter().filter(|node| node.link.is_some()).all(|node| node.usage.is_some())
}

/// Whether it is said of one of those that are asked for, or there is none: a pod that has just begun is
/// measured the next time. Pure.
fn some_is(args: &TopArgs, kind: Kind, all: &Update) -> bool {
    let mut wanted = get::objects(kind, all);
    wanted.retain(|object| args.select.matches(kind, object));
    wanted.is_empty() || wanted.iter().any(|object| object["status"].get("usage").is_some())
}

fn sorted(all: &mut [Value], args: &TopArgs) -> Result<(), CommandError> {
    all.sort_by_key(|object| {
        std::cmp::Reverse(object["status"]["usage"]["memory"].as_u64().unwrap_or(0))
    });
    args.select.sort_by.as_ref().map_or(Ok(()), |by| select::sort_by(all, by))
}

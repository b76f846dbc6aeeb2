//! `keadm top`: which nodes and pods use how much.

use serde_json::Value;

use super::get::{self, SelectArgs};
use crate::context::Context;
use crate::errors::{CommandError, Kind as Failure};
use crate::fleet::{Fleet, FleetArgs, Want};
use crate::output::print::Writer;
use crate::output::{OutputArgs, select};

/// Show how much processor and memory nodes and pods use
///
/// The figures are the nodes' own. What a node does not report is left out.
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
        let mut fleet = Fleet::open(&args.fleet, Want::default(), cx).await?;
        let first = fleet.first().await?;
        let mut all = get::objects(kind, &first);
        all.retain(|object| args.select.matches(kind, object));
        let some = !all.is_empty();
        all.retain(|object| object["status"].get("usage").is_some());
        if all.is_empty() && some {
            return Err(CommandError::new(
                Failure::Unsupported,
                format!("none of these {} has its use reported", kind.plural()),
            )
            .because(format!("it is not in {}", fleet.source()))
            .hint("on the node itself, `keadm top nodes --local` shows it"));
        }
        sorted(&mut all, args);
        Ok(Writer::used(&cx.printer, &args.output, kind, args.select.all_namespaces)
            .all(&all, false, first.now)?)
    })
}

fn sorted(all: &mut [Value], args: &TopArgs) {
    all.sort_by_key(|object| {
        std::cmp::Reverse(object["status"]["usage"]["memory"].as_u64().unwrap_or(0))
    });
    if let Some(by) = &args.select.sort_by {
        select::sort(all, by);
    }
}

//! `keadm confirm upgrade`: says yes, from the cloud, to upgrades that nodes hold back until then.

use std::time::Duration;

use api::status::row::{NodeRow, Upgrade};
use api::status::stream::{Request, Update};
use api::status::upgrades::WAITING;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::JsonOutput;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::fleet::{self, Fleet, FleetArgs, Want};
use crate::phases::Progress;

/// Let upgrades go on that wait for a yes
///
/// A NodeUpgradeJob with `requireConfirmation` stops on each node before anything is changed there.
/// The yes goes through the node's tunnel; on the node itself it is `keadm ctl confirm`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: keadm confirm upgrade edge-1 edge-2 --wait")]
pub struct ConfirmArgs {
    /// What: upgrade
    #[arg(value_name = "KIND", value_parser = ["upgrade", "upgrades"], hide_possible_values = true)]
    what: String,
    /// The node, or several
    #[arg(value_name = "NODE", required = true, add = completions::ArgValueCompleter::new(crate::complete::nodes))]
    nodes: Vec<String>,
    /// Wait until the nodes are upgraded
    #[arg(short, long)]
    wait: bool,
    /// How long `--wait` waits
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = super::duration)]
    timeout: Duration,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Confirms.
///
/// # Errors
/// When nobody answers, a node has no upgrade that waits, it cannot be reached, or the upgrade fails
/// or is not done in time.
pub fn confirm(args: &ConfirmArgs, cx: &Context) -> Result<(), CommandError> {
    cx.block_on(run(args, cx))
}

async fn run(args: &ConfirmArgs, cx: &Context) -> Result<(), CommandError> {
    let want = Want { watch: args.wait, ..Want::default() };
    let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
    let mut all = fleet.first().await?;
    let mut waiting = Vec::new();
    for node in &args.nodes {
        waiting.push((node.clone(), held_back(node, find(&all, node))?));
    }
    let (mut done, mut outcome) = (Vec::new(), Ok(()));
    for (node, upgrade) in &waiting {
        let said = if args.dry_run {
            Ok(format!("node {node} would be upgraded {}", versions(upgrade)))
        } else {
            let asked = fleet.request(Request::ConfirmUpgrade { node: node.clone() }).await;
            asked.map(|_| format!("node {node} is being upgraded {}", versions(upgrade)))
        };
        match said {
            Ok(said) => done.push((node, upgrade, said)),
            Err(e) => {
                outcome = Err(e);
                break;
            }
        }
    }
    if args.output.is_none() {
        for (.., said) in &done {
            cx.printer.result(said)?;
        }
    }
    if args.wait && !args.dry_run && outcome.is_ok() {
        let done = until_done(args, &waiting, &mut fleet, &mut all);
        outcome = Progress::wait(&cx.printer, "upgraded", done).await;
    }
    if args.output.is_some() {
        let one = |(node, upgrade, said): &(&String, &Upgrade, String)| {
            json!({ "node": node, "job": upgrade.job, "from": upgrade.from, "to": upgrade.to,
                "done": said })
        };
        let nodes: Vec<_> = done.iter().map(one).collect();
        cx.printer.json(&json!({ "dryRun": args.dry_run, "nodes": nodes }))?;
    }
    outcome
}

fn find<'u>(all: &'u Update, node: &str) -> Option<&'u NodeRow> {
    all.nodes.iter().find(|row| row.name == node)
}

fn versions(upgrade: &Upgrade) -> String {
    match upgrade.from.as_str() {
        "" => format!("to {}", upgrade.to),
        from => format!("from {from} to {}", upgrade.to),
    }
}

/// The upgrade that a node holds back. Pure.
fn held_back(node: &str, row: Option<&NodeRow>) -> Result<Upgrade, CommandError> {
    let Some(row) = row else {
        return Err(CommandError::new(Kind::NotFound, format!("there is no node `{node}`"))
            .hint("`keadm get nodes` shows those that there are"));
    };
    match row.upgrade.as_deref() {
        Some(upgrade) if upgrade.state == WAITING => Ok(upgrade.clone()),
        other => {
            let text = format!("node `{node}` has no upgrade that waits for a yes");
            let error = CommandError::new(Kind::NotFound, text);
            let error = match other {
                Some(upgrade) => {
                    error.because(format!("job `{}` is at `{}`", upgrade.job, upgrade.state))
                }
                None => error,
            };
            Err(error.hint("`keadm get nodes -o wide` shows the upgrades of all nodes"))
        }
    }
}

/// How an upgrade stands that was confirmed.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    Running(String),
    Done,
    Failed(String),
}

/// Pure. A row has no upgrade once it has succeeded; one of another job is another upgrade.
fn stand(of: &Upgrade, row: Option<&NodeRow>) -> Stand {
    let Some(row) = row else { return Stand::Failed("the node is gone".to_owned()) };
    match row.upgrade.as_ref().filter(|now| now.job == of.job) {
        None => Stand::Done,
        Some(now) => match now.state.as_str() {
            "Failure" | "Unknown" if now.why.is_empty() => Stand::Failed(now.state.clone()),
            "Failure" | "Unknown" => Stand::Failed(now.why.clone()),
            state => Stand::Running(state.to_owned()),
        },
    }
}

async fn until_done(
    args: &ConfirmArgs,
    waiting: &[(String, Upgrade)],
    fleet: &mut Fleet,
    all: &mut Update,
) -> Result<(), CommandError> {
    let end = Instant::now() + args.timeout;
    loop {
        let mut open = None;
        for (node, upgrade) in waiting {
            match stand(upgrade, find(all, node)) {
                Stand::Done => {}
                Stand::Running(state) => open = open.or(Some((node, state))),
                Stand::Failed(why) => {
                    let text = format!("node `{node}` was not upgraded to {}", upgrade.to);
                    return Err(CommandError::new(Kind::Failed, text).because(why).hint(format!(
                        "`kubectl get nodeupgradejob {} -o yaml` has every step",
                        upgrade.job
                    )));
                }
            }
        }
        let Some((node, state)) = open else { return Ok(()) };
        match timeout_at(end, fleet.next()).await {
            Ok(update) => fleet::merge(all, update?),
            Err(_) => {
                let limit = crate::phases::human(args.timeout);
                let text = format!("node `{node}` is not upgraded within {limit}");
                return Err(CommandError::new(Kind::TimedOut, text)
                    .because(format!("it is at `{state}`"))
                    .hint("it goes on by itself; `--timeout` waits longer"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(job: &str, state: &str, why: &str) -> NodeRow {
        let upgrade = Upgrade {
            job: job.to_owned(),
            from: "v1.22.0".to_owned(),
            to: "v1.23.0".to_owned(),
            state: state.to_owned(),
            why: why.to_owned(),
            ..Upgrade::default()
        };
        NodeRow {
            name: "edge-1".to_owned(),
            upgrade: Some(Box::new(upgrade)),
            ..NodeRow::default()
        }
    }

    #[test]
    fn only_an_upgrade_that_waits_can_be_confirmed() {
        assert_eq!(held_back("edge-1", Some(&row("up", WAITING, ""))).unwrap().to, "v1.23.0");
        let no = |row: Option<&NodeRow>| held_back("edge-1", row).unwrap_err();
        assert_eq!(no(None).kind, Kind::NotFound);
        assert_eq!(no(Some(&NodeRow::default())).kind, Kind::NotFound);
        let busy = row("up", "BackUp", "");
        assert!(format!("{:?}", no(Some(&busy))).contains("job `up` is at `BackUp`"));
    }

    #[test]
    fn an_upgrade_is_done_when_the_row_says_no_more_of_it() {
        let of = row("up", WAITING, "").upgrade.unwrap();
        let now = |row: Option<&NodeRow>| stand(&of, row);
        assert_eq!(now(Some(&row("up", WAITING, ""))), Stand::Running(WAITING.to_owned()));
        assert_eq!(now(Some(&row("up", "Upgrade", "x"))), Stand::Running("Upgrade".to_owned()));
        assert_eq!(now(Some(&row("up", "Failure", "full"))), Stand::Failed("full".to_owned()));
        assert_eq!(now(Some(&row("up", "Unknown", ""))), Stand::Failed("Unknown".to_owned()));
        assert_eq!(now(Some(&row("next", "Pending", ""))), Stand::Done);
        assert_eq!(now(Some(&NodeRow::default())), Stand::Done);
        assert!(matches!(now(None), Stand::Failed(_)));
    }
}

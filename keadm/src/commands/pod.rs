//! `keadm delete pod`, `keadm restart pod`: what the dashboard can do to a pod, as commands.

use std::time::Duration;

use api::status::row::PodRow;
use api::status::stream::{Request, Update};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{JsonOutput, NamespaceArg};
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::fleet::{self, Fleet, FleetArgs, Want};
use crate::phases::Progress;
use crate::pod_name::PodName;

/// Which pods, and how to go about it.
#[derive(clap::Args, Debug)]
pub struct PodArgs {
    /// What: pod
    #[arg(value_name = "KIND", value_parser = ["pod", "pods", "po"], hide_possible_values = true)]
    what: String,
    /// Its name, or several
    #[arg(value_name = "NAME", required = true, add = completions::ArgValueCompleter::new(crate::complete::pods))]
    names: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// How long `--wait` waits
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = super::duration)]
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

/// Delete pods
///
/// A pod's containers are told to end and have its grace period for it. A pod that a controller owns
/// comes back as another one.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: keadm delete pod web -n shop --wait")]
pub struct DeleteArgs {
    #[command(flatten)]
    pod: PodArgs,
    /// So many seconds instead of the pod's own; 0 forgets the pod in the cloud at once, whether or not its node has ended it
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// Wait until the pods are gone
    #[arg(short, long)]
    wait: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Restart the containers of pods on their nodes
///
/// The pod stays the same, on the same node and with the same address; its containers end and are
/// started again. On the node itself `keadm ctl restart` does it also while the cloud is away.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: keadm restart pod web -n shop --wait")]
pub struct RestartArgs {
    #[command(flatten)]
    pod: PodArgs,
    /// Wait until the containers are ready again
    #[arg(short, long)]
    wait: bool,
}

/// Deletes.
///
/// # Errors
/// When nobody answers, a pod is not there, or it is not gone in time.
pub fn delete(args: &DeleteArgs, cx: &Context) -> Result<(), CommandError> {
    let grace_period = args.grace_period;
    let whole = Task {
        args: &args.pod,
        request: &|PodName { namespace, name: pod }| Request::DeletePod {
            namespace,
            pod,
            grace_period,
        },
        ask: (!args.yes && !args.pod.dry_run).then_some("deleted"),
        would: Some("be deleted"),
        wait: args.wait.then_some(Until { is: gone, called: "gone" }),
    };
    cx.block_on(whole.run(cx))
}

/// Restarts.
///
/// # Errors
/// When nobody answers, a pod is not there, its node cannot be reached, or it is not ready in time.
pub fn restart(args: &RestartArgs, cx: &Context) -> Result<(), CommandError> {
    let dry_run = args.pod.dry_run;
    let whole = Task {
        args: &args.pod,
        request: &|PodName { namespace, name: pod }| Request::RestartPod {
            namespace,
            pod,
            dry_run,
        },
        ask: None,
        // The node itself says which containers it would be.
        would: None,
        wait: args.wait.then_some(Until { is: restarted, called: "ready again" }),
    };
    cx.block_on(whole.run(cx))
}

/// What is waited for: whether a pod that was so is so now.
#[derive(Clone, Copy)]
struct Until {
    is: fn(&PodRow, Option<&PodRow>) -> bool,
    called: &'static str,
}

/// Pure. Another pod of the same name is another pod.
fn gone(before: &PodRow, now: Option<&PodRow>) -> bool {
    now.is_none_or(|now| now.uid != before.uid)
}

/// Pure.
fn restarted(before: &PodRow, now: Option<&PodRow>) -> bool {
    now.is_some_and(|now| {
        now.uid == before.uid && now.restarts > before.restarts && now.ready == now.containers
    })
}

fn find<'u>(all: &'u Update, pod: &PodName) -> Option<&'u PodRow> {
    all.pods.iter().find(|row| (&row.namespace, &row.name) == (&pod.namespace, &pod.name))
}

struct Task<'t> {
    args: &'t PodArgs,
    request: &'t (dyn Fn(PodName) -> Request + Sync),
    /// What the user is asked about, if at all.
    ask: Option<&'static str>,
    /// What a dry run says, where it asks nobody.
    would: Option<&'static str>,
    wait: Option<Until>,
}

impl Task<'_> {
    async fn run(&self, cx: &Context) -> Result<(), CommandError> {
        let args = self.args;
        let names = args.names.iter().map(|n| PodName::read(n, &args.namespace.namespace));
        let pods = names.collect::<Result<Vec<_>, _>>()?;
        let want = Want { watch: self.wait.is_some(), ..Want::default() };
        let mut fleet = Fleet::open(&args.fleet, want, cx).await?;
        let mut all = fleet.first().await?;
        let mut before = Vec::new();
        for pod in &pods {
            before.push(find(&all, pod).cloned().ok_or_else(|| missing(pod))?);
        }
        if let Some(done) = self.ask {
            let names: Vec<String> = before.iter().map(described).collect();
            cx.confirm(&format!("Will be {done}: {}.", names.join(", ")), false)?;
        }
        let mut done = Vec::new();
        let mut outcome = Ok(());
        for pod in pods {
            let said = match self.would.filter(|_| args.dry_run) {
                Some(would) => Ok(format!("pod {}/{} would {would}", pod.namespace, pod.name)),
                None => fleet.request((self.request)(pod.clone())).await,
            };
            match said {
                Ok(said) => done.push((pod, said)),
                Err(e) => {
                    outcome = Err(e);
                    break;
                }
            }
        }
        if args.output.is_none() {
            for (_, said) in &done {
                cx.printer.result(said)?;
            }
        }
        if let Some(until) = self.wait.filter(|_| !args.dry_run && outcome.is_ok()) {
            let gone = self.until(until, &before, &mut fleet, &mut all);
            outcome = Progress::wait(&cx.printer, until.called, gone).await;
        }
        if args.output.is_some() {
            let one = |(pod, said): &(PodName, String)| json!({ "namespace": pod.namespace, "pod": pod.name, "done": said });
            let pods: Vec<_> = done.iter().map(one).collect();
            cx.printer.json(&json!({ "dryRun": args.dry_run, "pods": pods }))?;
        }
        outcome
    }

    async fn until(
        &self,
        until: Until,
        before: &[PodRow],
        fleet: &mut Fleet,
        all: &mut Update,
    ) -> Result<(), CommandError> {
        let end = Instant::now() + self.args.timeout;
        let now = |all: &Update, row: &PodRow| {
            let of = PodName { namespace: row.namespace.clone(), name: row.name.clone() };
            find(all, &of).cloned()
        };
        let open = |all: &Update| {
            before.iter().find(|row| !(until.is)(row, now(all, row).as_ref())).cloned()
        };
        while let Some(row) = open(all) {
            match timeout_at(end, fleet.next()).await {
                Ok(update) => fleet::merge(all, update?),
                Err(_) => {
                    let text = format!(
                        "pod `{}/{}` is not {} within {}",
                        row.namespace,
                        row.name,
                        until.called,
                        crate::phases::human(self.args.timeout)
                    );
                    let is = now(all, &row).map_or_else(
                        || "it is gone".to_owned(),
                        |now| {
                            format!(
                                "it is {}, {} of {} ready",
                                now.status, now.ready, now.containers
                            )
                        },
                    );
                    return Err(CommandError::new(Kind::TimedOut, text)
                        .because(is)
                        .hint(format!("is its node `{}` connected? `keadm get node {0}`", row.node))
                        .hint("it goes on by itself; `--timeout` waits longer"));
                }
            }
        }
        Ok(())
    }
}

/// As a question names it.
fn described(row: &PodRow) -> String {
    let node = if row.node.is_empty() { String::new() } else { format!(" on node {}", row.node) };
    format!("pod {}/{}{node}", row.namespace, row.name)
}

fn missing(pod: &PodName) -> CommandError {
    let text = format!(
        "there is no pod `{}` in the namespace `{}` of an edge node",
        pod.name, pod.namespace
    );
    CommandError::new(Kind::NotFound, text)
        .hint("`keadm get pods -A` shows those that there are; `-n NAME` names another namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(uid: &str, restarts: u32, ready: u32) -> PodRow {
        PodRow { uid: uid.to_owned(), restarts, ready, containers: 1, ..PodRow::default() }
    }

    #[test]
    fn a_pod_of_the_same_name_is_not_the_one_that_was_deleted() {
        let old = row("a", 0, 1);
        assert!(!gone(&old, Some(&old)));
        assert!(gone(&old, None) && gone(&old, Some(&row("b", 0, 1))));
    }

    #[test]
    fn a_pod_has_restarted_when_it_was_counted_and_all_is_ready() {
        let old = row("a", 3, 1);
        assert!(!restarted(&old, Some(&old)), "not yet");
        assert!(!restarted(&old, Some(&row("a", 4, 0))), "not ready");
        assert!(!restarted(&old, Some(&row("b", 9, 1))) && !restarted(&old, None));
        assert!(restarted(&old, Some(&row("a", 4, 1))));
    }
}

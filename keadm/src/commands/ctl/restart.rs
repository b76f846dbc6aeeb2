//! `keadm ctl restart`: the containers of a pod on this node.

use hyper::Method;
use serde_json::{Value, json};

use super::ActArgs;
use crate::commands::NamespaceArg;
use crate::context::Context;
use crate::errors::CommandError;
use crate::pod_name::PodName;

/// Which pods.
#[derive(clap::Args, Debug)]
pub struct RestartArgs {
    /// What: pod
    #[arg(value_name = "KIND", value_parser = ["pod", "pods", "po"], hide_possible_values = true)]
    what: String,
    /// Its name, or several
    #[arg(value_name = "NAME", required = true, add = completions::ArgValueCompleter::new(crate::complete::pods))]
    names: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    #[command(flatten)]
    act: ActArgs,
}

/// Restarts.
pub(super) fn restart(args: &RestartArgs, cx: &Context) -> Result<(), CommandError> {
    let pods = args
        .names
        .iter()
        .map(|name| PodName::read(name, &args.namespace.namespace))
        .collect::<Result<Vec<_>, _>>()?;
    cx.block_on(async {
        let mut done = Vec::new();
        let mut outcome = Ok(());
        for pod in &pods {
            match one(args, pod, cx).await {
                Ok(value) => done.push(value),
                Err(e) => {
                    outcome = Err(e);
                    break;
                }
            }
        }
        if args.act.output.is_some() {
            cx.printer.json(&json!({ "dryRun": args.act.dry_run, "pods": done }))?;
        } else {
            for pod in &done {
                let name = pod["pod"].as_str().unwrap_or_default();
                let all = pod["containers"].as_array().into_iter().flatten();
                let all: Vec<&str> = all.filter_map(Value::as_str).collect();
                let doing = if args.act.dry_run { "would be restarted" } else { "restarted" };
                cx.printer.data(format!("pod/{name} {doing}: {}", all.join(", ")))?;
            }
        }
        outcome
    })
}

async fn one(args: &RestartArgs, pod: &PodName, cx: &Context) -> Result<Value, CommandError> {
    let PodName { namespace, name } = pod;
    let path = format!("/restart/{namespace}/{name}{}", args.act.query());
    args.act.api.json(Method::POST, &path, cx).await
}

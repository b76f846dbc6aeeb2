//! `keadm ctl confirm`: lets the upgrade that waits on this node go on.

use hyper::Method;
use serde_json::Value;

use crate::commands::JsonOutput;
use crate::context::Context;
use crate::errors::CommandError;
use crate::node_api::NodeApiArgs;

/// KubeEdge's path.
const PATH: &str = "/api/v1/taskupgrade/confirm-upgrade";

/// How to ask.
#[derive(clap::Args, Debug)]
pub struct ConfirmArgs {
    /// Say which upgrade it would be, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
    #[command(flatten)]
    api: NodeApiArgs,
}

/// Confirms.
pub(super) fn confirm(args: &ConfirmArgs, cx: &Context) -> Result<(), CommandError> {
    let answer: Value = cx.block_on(async {
        let dry = if args.dry_run { "?dryRun=true" } else { "" };
        args.api.json(Method::POST, &format!("{PATH}{dry}"), cx).await.map_err(|e| {
            let what = format!("failed to confirm node upgrade: {}", e.message());
            let again = e
                .causes()
                .iter()
                .fold(CommandError::new(e.kind, what), |all, cause| all.because(cause.clone()));
            e.hints().iter().fold(again, |all, hint| all.hint(hint.clone()))
        })
    })?;
    if args.output.is_some() {
        return Ok(cx.printer.json(&answer)?);
    }
    let job = answer["job"].as_str().unwrap_or_default();
    let goes = if args.dry_run { "would go on" } else { "goes on" };
    cx.printer.data(format!("upgrade job `{job}` {goes}: backup, then upgrade"))?;
    Ok(())
}

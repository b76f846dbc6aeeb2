//! `keadm ctl confirm`: lets the upgrade that waits on this node go on.

use hyper::Method;
use serde_json::Value;

use super::ActArgs;
use crate::context::Context;
use crate::errors::CommandError;

/// KubeEdge's path.
const PATH: &str = "/api/v1/taskupgrade/confirm-upgrade";

/// How to ask.
#[derive(clap::Args, Debug)]
pub struct ConfirmArgs {
    #[command(flatten)]
    act: ActArgs,
}

/// Confirms.
pub(super) fn confirm(args: &ConfirmArgs, cx: &Context) -> Result<(), CommandError> {
    let answer: Value = cx.block_on(async {
        args.act.api.json(Method::POST, &format!("{PATH}{}", args.act.query()), cx).await.map_err(
            |e| {
                let what = format!("failed to confirm node upgrade: {}", e.message());
                let again = e
                    .causes()
                    .iter()
                    .fold(CommandError::new(e.kind, what), |all, cause| all.because(cause.clone()));
                e.hints().iter().fold(again, |all, hint| all.hint(hint.clone()))
            },
        )
    })?;
    if args.act.output.is_some() {
        return Ok(cx.printer.json(&answer)?);
    }
    let job = answer["job"].as_str().unwrap_or_default();
    let goes = if args.act.dry_run { "would go on" } else { "goes on" };
    cx.printer.data(format!("upgrade job `{job}` {goes}: backup, then upgrade"))?;
    Ok(())
}

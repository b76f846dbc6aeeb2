//! `keadm rollback edge`: what `keadm backup edge` has kept, put back.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use edgecore::upgrade_report::Event;
use serde_json::json;

use super::backup::edge::{ABOUT, About};
use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::host::ServiceState;
use crate::node_upgrade::{self, Guard, Installed, Outcome, SERVICE};
use crate::phases::{self, Progress};

/// Put back what a backup has kept of this edge node
#[derive(clap::Args, Debug)]
pub struct RollbackArgs {
    #[command(subcommand)]
    what: RollbackWhat,
}

/// What to roll back.
#[derive(clap::Subcommand, Debug)]
pub enum RollbackWhat {
    /// Stop edgecore, put its database, configuration and program back, and start it
    ///
    /// Containers go on running; the cloud tells the node everything again.
    Edge(RollbackFlags),
}

/// The flags of `rollback edge`.
#[derive(clap::Args, Debug)]
pub struct RollbackFlags {
    /// The backup, by its version [default: the newest]
    #[arg(long, value_name = "VERSION", value_parser = node_upgrade::version)]
    historical_version: Option<String>,
    /// The configuration of edgecore [default: /etc/kubeedge/config/edgecore.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// Do not ask
    #[arg(long, short = 'y', visible_alias = "force")]
    yes: bool,
    /// Only say what would be put back
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    /// How long to wait for edgecore
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = super::duration)]
    timeout: Duration,
}

/// Rolls back.
///
/// # Errors
/// When there is no such backup, or edgecore does not come up with it.
pub fn rollback(args: &RollbackArgs, cx: &Context) -> Result<(), CommandError> {
    let RollbackWhat::Edge(flags) = &args.what;
    let installed = Installed::find(cx, flags.config.as_deref())?;
    let from = installed.version(cx);
    let (folder, about) = chosen(flags.historical_version.as_deref(), cx)?;
    let taken = crate::https::utc(about.time);
    let what = format!("the backup of {} from {taken} in `{folder}`", about.version);
    if flags.dry_run {
        cx.printer.say(format!("would put back {what}"));
    } else {
        let question = format!(
            "[rollback] this puts back {what}: database, configuration and program; containers go on"
        );
        cx.confirm(&question, flags.yes)?;
        let _ = nix::unistd::setsid();
        let _guard = Guard::take(cx)?;
        let progress = Progress::new(&cx.printer);
        let done = cx.block_on(carry_out(&installed, &folder, flags.timeout, &progress, cx));
        let result = done.as_ref().map(|()| Outcome::Done);
        node_upgrade::report(cx, Event::Rollback, (&from, &about.version), result);
        done?;
        cx.printer.say(format!("put back {what}"));
    }
    if flags.output.is_some() {
        cx.printer.json(&json!({
            "folder": folder, "from": from, "to": about.version, "dryRun": flags.dry_run,
        }))?;
    }
    Ok(())
}

/// The backup that was named, or the newest.
fn chosen(version: Option<&str>, cx: &Context) -> Result<(Utf8PathBuf, About), CommandError> {
    let all = node_upgrade::backups(&cx.paths);
    let about = |name: &str| -> Option<(Utf8PathBuf, About)> {
        let folder = all.join(name);
        let about = cx.host.read(&folder.join(ABOUT)).ok()?;
        Some((folder, serde_json::from_slice(&about).ok()?))
    };
    let names = cx.host.list(&all);
    let whole = names.iter().filter(|n| !n.starts_with('.')).filter_map(|n| about(n));
    let found = whole
        .filter(|(folder, _)| version.is_none_or(|v| folder.file_name() == Some(v)))
        .max_by_key(|(_, about)| about.time);
    found.ok_or_else(|| {
        let what = match version {
            Some(version) => format!("there is no backup of {version} in `{all}`"),
            None => format!("there is no backup in `{all}`"),
        };
        CommandError::new(Kind::NotFound, what).hint("`keadm backup edge` makes one")
    })
}

async fn carry_out(
    installed: &Installed,
    folder: &Utf8Path,
    timeout: Duration,
    progress: &Progress,
    cx: &Context,
) -> Result<(), CommandError> {
    let _deaf = node_upgrade::deaf();
    let was_ready = node_upgrade::is_ready().await;
    phases::one("stop", progress, |_| async {
        if cx.host.service_state(SERVICE) == ServiceState::Absent {
            return Err(CommandError::new(
                Kind::NotFound,
                "edgecore is no service on this machine",
            )
            .hint("`keadm join` installs it"));
        }
        let host = cx.host.clone();
        let stopped = tokio::task::spawn_blocking(move || host.stop_service(SERVICE)).await;
        let failed = |e: &(dyn std::error::Error + 'static)| {
            CommandError::new(Kind::Failed, "cannot stop edgecore").caused_by(e)
        };
        stopped.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(SERVICE.to_owned())
    })
    .await?;
    let restored =
        phases::one("restore", progress, |_| std::future::ready(restore(installed, folder, cx)))
            .await;
    // Whatever went wrong, an edge node must not be left without edgecore.
    phases::one("start", progress, |_| node_upgrade::restart(cx)).await?;
    restored?;
    phases::one("wait", progress, |step| async move {
        node_upgrade::up(cx, &step, was_ready, timeout).await
    })
    .await
}

fn restore(installed: &Installed, folder: &Utf8Path, cx: &Context) -> phases::Outcome {
    let copy = folder.join("edgecore.db");
    edgecore::restore_database(copy.as_std_path(), installed.database.as_std_path()).map_err(
        |e| CommandError::new(Kind::Failed, "cannot put the edge's database back").caused_by(&e),
    )?;
    let kept = folder.join("edgecore.yaml");
    let yaml = cx.host.read(&kept).map_err(|e| file_error("read", &kept, &e))?;
    let config = &installed.config;
    cx.host.write(config, &yaml, 0o600).map_err(|e| file_error("write", config, &e))?;
    let (kept, program) = (folder.join("keadm"), &installed.program);
    if !cx.host.same(&kept, program) {
        cx.host.copy(&kept, program).map_err(|e| file_error("write", program, &e))?;
    }
    Ok("database, edgecore.yaml and keadm".to_owned())
}

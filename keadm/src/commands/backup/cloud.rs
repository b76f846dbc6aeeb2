//! `keadm backup cloud` and `keadm restore cloud`: the own control plane in one file, and back.

use camino::{Utf8Path, Utf8PathBuf};
use control_plane::backup::{self, BackupError, Contents};
use serde_json::{Value, json};

use crate::cloud::KubeConfigArg;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::phases::Progress;

/// Restore the embedded control plane from a backup
///
/// The control plane must not run. What it had before is kept beside its folder.
#[derive(clap::Args, Debug)]
pub struct RestoreArgs {
    #[command(subcommand)]
    what: RestoreWhat,
}

/// What to restore.
#[derive(clap::Subcommand, Debug)]
pub enum RestoreWhat {
    /// Put what is in FILE in the place of what the embedded control plane has
    Cloud(RestoreFlags),
}

/// Where to, and from where.
#[derive(clap::Args, Debug)]
pub struct BackupFlags {
    /// The backup; a file that is there is replaced
    file: Utf8PathBuf,
    /// Where the control plane keeps its data [default: /var/lib/kubeedge/control-plane]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<Utf8PathBuf>,
    /// Make a copy and check it, and write no file
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<crate::commands::JsonOutput>,
}

/// From where, and where to.
#[derive(clap::Args, Debug)]
pub struct RestoreFlags {
    /// The backup
    file: Utf8PathBuf,
    /// Where the control plane keeps its data [default: /var/lib/kubeedge/control-plane]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<Utf8PathBuf>,
    /// Do not ask
    #[arg(long, short = 'y', visible_alias = "force")]
    yes: bool,
    /// Check the backup and the place, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<crate::commands::JsonOutput>,
}

fn data_dir(given: Option<&Utf8PathBuf>, cx: &Context) -> Utf8PathBuf {
    given.cloned().unwrap_or_else(|| cx.paths.lib().join("control-plane"))
}

/// Backs up.
///
/// # Errors
/// When there is no control plane, or the file cannot be written.
pub(super) fn backup(flags: &BackupFlags, cx: &Context) -> Result<(), CommandError> {
    let dir = data_dir(flags.data_dir.as_ref(), cx);
    let file = &flags.file;
    let what = || format!("cannot back up the control plane to `{file}`");
    let copy = match backup::copy_at_rest(dir.as_std_path()) {
        Ok(copy) => copy,
        Err(BackupError::Running(_)) => copy_running(&dir, cx)?,
        Err(e) => return Err(failed(what(), &e)),
    };
    let contents = if flags.dry_run {
        let checked = backup::check(&copy);
        let _ = std::fs::remove_file(&copy);
        checked.map_err(|e| failed(what(), &e))?
    } else {
        Progress::only(&cx.printer, "backup", || {
            let packed = backup::pack(dir.as_std_path(), &copy, file.as_std_path());
            packed.map_err(|e| failed(what(), &e))
        })?
    };
    if flags.output.is_some() {
        return Ok(cx.printer.json(&json!({
            "file": file, "dryRun": flags.dry_run,
            "objects": contents.objects, "revision": contents.revision,
        }))?);
    }
    let doing = if flags.dry_run { "would write" } else { "wrote" };
    cx.printer.say(format!(
        "{doing} `{file}`: {} objects, revision {}, and the keys of the CA",
        contents.objects, contents.revision
    ));
    Ok(())
}

/// A copy that the running control plane makes of its database.
fn copy_running(dir: &Utf8Path, cx: &Context) -> Result<std::path::PathBuf, CommandError> {
    let kube = KubeConfigArg::of_file(dir.join("admin.conf"));
    cx.block_on(async {
        // A copy of a large database takes its time.
        let limit = Some(std::time::Duration::from_secs(300));
        let cloud = kube.client_with(cx, limit).await?;
        let request = hyper::Request::post(backup::PATH).body(Vec::new()).map_err(|e| {
            CommandError::new(Kind::Failed, "cannot ask for a copy of the database").caused_by(&e)
        })?;
        let answer: Value = cloud
            .client
            .request(request)
            .await
            .map_err(|e| cloud.error("copy the database", &e))?;
        let file = answer["file"].as_str().map(std::path::PathBuf::from);
        file.ok_or_else(|| {
            CommandError::new(Kind::Failed, "the control plane did not say where its copy is")
        })
    })
}

/// Restores.
///
/// # Errors
/// When the control plane runs, the backup is not good, or it is not confirmed.
pub fn restore(args: &RestoreArgs, cx: &Context) -> Result<(), CommandError> {
    let RestoreWhat::Cloud(flags) = &args.what;
    let dir = data_dir(flags.data_dir.as_ref(), cx);
    let file = &flags.file;
    let wrong =
        |e: BackupError| failed(format!("cannot restore the control plane from `{file}`"), &e);
    let report = |contents: &Contents, previous: Option<&std::path::Path>| {
        cx.printer.json(&json!({
            "file": file, "dataDir": dir, "dryRun": flags.dry_run,
            "objects": contents.objects, "revision": contents.revision, "previous": previous,
        }))
    };
    if flags.dry_run {
        let contents = backup::rehearse(file.as_std_path(), dir.as_std_path()).map_err(wrong)?;
        if flags.output.is_some() {
            return Ok(report(&contents, None)?);
        }
        cx.printer.say(format!("would restore {} objects to `{dir}`", contents.objects));
        return Ok(());
    }
    cx.confirm(
        &format!("[restore] this replaces what is in `{dir}` by the backup `{file}`"),
        flags.yes,
    )?;
    let restored = Progress::only(&cx.printer, "restore", || {
        backup::restore(file.as_std_path(), dir.as_std_path()).map_err(wrong)
    })?;
    if flags.output.is_some() {
        return Ok(report(&restored.contents, restored.previous.as_deref())?);
    }
    cx.printer.say(format!(
        "restored {} objects to `{dir}`; start the control plane now",
        restored.contents.objects
    ));
    if let Some(previous) = restored.previous {
        cx.printer.say(format!("what was there before is in `{}`", previous.display()));
    }
    Ok(())
}

fn failed(what: String, e: &BackupError) -> CommandError {
    let kind = match e {
        BackupError::Running(_) => Kind::Conflict,
        BackupError::Missing(_) => Kind::NotFound,
        BackupError::File { source, .. } => crate::errors::kind_of(source),
        _ => Kind::Failed,
    };
    let error = CommandError::new(kind, what).caused_by(e);
    match e {
        BackupError::Running(_) => {
            error.hint("stop it first: `systemctl stop control-plane`, or end `keadm up`")
        }
        BackupError::Missing(_) => error.hint("name its folder with `--data-dir DIR`"),
        _ => error,
    }
}

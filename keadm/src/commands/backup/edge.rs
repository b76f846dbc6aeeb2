//! `keadm backup edge`: what a rollback needs, in `/etc/kubeedge/backup/VERSION/`.

use camino::{Utf8Path, Utf8PathBuf};
use edgecore::upgrade_report::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::commands::JsonOutput;
use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::made::{Installer, Role};
use crate::node_upgrade::{self, Guard, Installed, Outcome};
use crate::phases::Progress;

/// The file that says what a backup is; it is written last.
pub(crate) const ABOUT: &str = "backup.json";

/// How to back up.
#[derive(clap::Args, Debug)]
pub struct BackupEdgeFlags {
    /// The configuration of edgecore [default: /etc/kubeedge/config/edgecore.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// Say what would be kept, and keep nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
}

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The version of what is in it.
    pub(crate) version: String,
    /// Seconds since 1970.
    pub(crate) time: u64,
}

/// Backs up.
///
/// # Errors
/// When this machine has not joined, or the backup cannot be written.
pub(super) fn backup(flags: &BackupEdgeFlags, cx: &Context) -> Result<(), CommandError> {
    let installed = Installed::find(cx, flags.config.as_deref())?;
    let version = installed.version(cx);
    let folder = node_upgrade::backups(&cx.paths).join(&version);
    if !flags.dry_run {
        let _guard = Guard::take(cx)?;
        let keeping = || keep(&installed, &version, &folder, cx);
        let kept = Progress::only(&cx.printer, "backup", keeping);
        let result = kept.as_ref().map(|()| Outcome::Done);
        node_upgrade::report(cx, Event::Backup, (&version, &version), result);
        kept?;
    }
    if flags.output.is_some() {
        return Ok(cx
            .printer
            .json(&json!({ "folder": folder, "version": version, "dryRun": flags.dry_run }))?);
    }
    let doing = if flags.dry_run { "would keep" } else { "kept" };
    cx.printer
        .say(format!("{doing} the database, edgecore.yaml and keadm of {version} in `{folder}`"));
    Ok(())
}

/// Writes a backup beside an earlier one of the same version, and then in its place.
fn keep(
    installed: &Installed,
    version: &str,
    folder: &Utf8Path,
    cx: &Context,
) -> Result<(), CommandError> {
    let new = folder.with_file_name(format!(".{version}.new"));
    let written = write(installed, version, &new, cx)
        .and_then(|()| cx.host.remove(folder).map_err(|e| file_error("replace", folder, &e)))
        .and_then(|_| std::fs::rename(&new, folder).map_err(|e| file_error("write", folder, &e)));
    if written.is_err() {
        let _ = cx.host.remove(&new);
    }
    written
}

fn write(
    installed: &Installed,
    version: &str,
    folder: &Utf8Path,
    cx: &Context,
) -> Result<(), CommandError> {
    cx.host.remove(folder).map_err(|e| file_error("replace", folder, &e))?;
    Installer::open(cx, Role::Edge)?.folder(&node_upgrade::backups(&cx.paths), 0o700)?;
    cx.host.create_dir(folder, 0o700).map_err(|e| file_error("make", folder, &e))?;
    edgecore::copy_database(
        installed.database.as_std_path(),
        folder.join("edgecore.db").as_std_path(),
    )
    .map_err(|e| {
        CommandError::new(Kind::Failed, "cannot copy the edge's database").caused_by(&e)
    })?;
    let read = cx.host.read(&installed.config);
    let yaml = read.map_err(|e| file_error("read", &installed.config, &e))?;
    let place = folder.join("edgecore.yaml");
    cx.host.write(&place, &yaml, 0o600).map_err(|e| file_error("write", &place, &e))?;
    let place = folder.join("keadm");
    cx.host.copy(&installed.program, &place).map_err(|e| file_error("write", &place, &e))?;
    let time = cx.host.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let about = serde_json::to_vec(&About { version: version.to_owned(), time })
        .map_err(|e| CommandError::new(Kind::Failed, "a bug").caused_by(&e))?;
    let place = folder.join(ABOUT);
    cx.host.write(&place, &about, 0o600).map_err(|e| file_error("write", &place, &e))
}

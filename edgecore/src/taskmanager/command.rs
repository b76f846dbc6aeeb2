//! The commands of keadm that a job runs, each in a process that outlives edgecore.
//!
//! Owns: their arguments, their start, and how their end is noticed.
//! Called by: `mod.rs`.
//! Never: uses a shell: arguments are a list, and what comes from the cloud was looked at before.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use api::wire::task::Versions;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use tokio::process::{Child, Command};

use super::JobPaths;
use super::job::{Action, Outcome};
use super::report::{Event, Report};

/// How often it is looked whether a command has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// A command that goes on longer is given up; it is not killed in the middle of its work.
const LIMIT: Duration = Duration::from_secs(1800);

/// The command of a step.
pub(super) fn arguments(action: Action, version: &str, paths: &JobPaths) -> Vec<OsString> {
    let words: &[&str] = match action {
        Action::BackUp => &["backup", "edge"],
        Action::RollBack => &["rollback", "edge", "--yes"],
        _ => &["upgrade", "edge", "--yes", "--to-version", version],
    };
    paths.arguments.iter().cloned().chain(words.iter().map(OsString::from)).collect()
}

fn event(action: Action) -> Event {
    match action {
        Action::BackUp => Event::Backup,
        Action::RollBack => Event::Rollback,
        _ => Event::Upgrade,
    }
}

/// Starts the command of a step, and waits for what it says of itself.
pub(super) async fn run(action: Action, version: String, paths: JobPaths) -> Outcome {
    Report::remove(&paths.etc);
    match spawn(arguments(action, &version, &paths), &paths) {
        Ok(child) => ended(action, Some(child), &paths).await,
        Err(e) => Outcome {
            // Nothing was changed.
            rolled_back: true,
            ..Outcome::failed(format!("cannot run `{}`: {e}", paths.program.display()))
        },
    }
}

/// Waits for a command that an earlier edgecore has started. `None`: it is not running, and has
/// said nothing.
pub(super) async fn resume(action: Action, paths: JobPaths) -> Option<Outcome> {
    let said = matches!(Report::read(&paths.etc), Ok(Some(r)) if r.event == event(action));
    if !said && !is_locked(&paths.etc) {
        return None;
    }
    Some(ended(action, None, &paths).await)
}

/// Its own process group: a signal for edgecore's does not reach it. Under systemd the unit's
/// `KillMode=process` leaves it alone.
fn spawn(arguments: Vec<OsString>, paths: &JobPaths) -> io::Result<Child> {
    if let Some(folder) = paths.log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&paths.log)?;
    tracing::info!(program = %paths.program.display(), ?arguments, "running a step of a node job");
    Command::new(&paths.program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .current_dir("/")
        .process_group(0)
        .spawn()
}

async fn ended(action: Action, mut child: Option<Child>, paths: &JobPaths) -> Outcome {
    let wanted = event(action);
    let said = || match Report::read(&paths.etc) {
        Ok(Some(report)) if report.event == wanted => Some(report),
        Ok(_) => None,
        Err(e) => {
            tracing::debug!(error = %e, "the report of a command cannot be read");
            None
        }
    };
    let waiting = async {
        loop {
            let running = match &mut child {
                Some(child) => matches!(child.try_wait(), Ok(None)),
                None => is_locked(&paths.etc),
            };
            if !running {
                // It writes before it ends.
                return said();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let what = arguments(action, "..", paths);
    let what = what.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
    match tokio::time::timeout(LIMIT, waiting).await {
        Ok(Some(report)) => {
            Report::remove(&paths.etc);
            outcome(report)
        }
        Ok(None) => Outcome::failed(format!(
            "`keadm {what}` has ended without a result; `{}` has what it said",
            paths.log.display()
        )),
        Err(_) => {
            Outcome::failed(format!("`keadm {what}` takes longer than {} s", LIMIT.as_secs()))
        }
    }
}

fn outcome(report: Report) -> Outcome {
    let result = if report.success { Ok(()) } else { Err(report.error_message) };
    Outcome {
        result,
        versions: Some(Versions { from: report.from_version, to: report.to_version }),
        rolled_back: report.rolled_back,
    }
}

/// Whether one of the commands is running: each holds a lock on this folder, which dies with it.
pub(super) fn is_locked(etc: &Path) -> bool {
    let Ok(folder) = std::fs::File::open(etc) else { return false };
    matches!(Flock::lock(folder, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

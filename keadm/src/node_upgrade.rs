//! What `backup edge`, `upgrade edge` and `rollback edge` share.
//!
//! Owns: where an installed node's parts lie, the lock of these commands, their report.
//! Called by: those three.
//! Never: decides what is to be installed.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use edgecore::UpgradeReport;
use edgecore::upgrade_report::Event;
use hyper::StatusCode;
use tokio::time::Instant;

use crate::context::{Context, Paths};
use crate::errors::{CommandError, Kind, file_error};
use crate::host::{Lock, ServiceState};
use crate::https::{self, HostPort};
use crate::phases::{Step, complaint, human};

/// The service.
pub(crate) const SERVICE: &str = "edgecore";
/// An edgecore that answers nothing at all for so long will not begin to.
const SILENT: Duration = Duration::from_secs(30);
/// An edgecore that runs for so long goes on running; for when the cloud is away.
const SETTLED: Duration = Duration::from_secs(15);
/// The other command may be about to end.
const LOCK_LIMIT: Duration = Duration::from_secs(3);

/// Where backups lie.
pub(crate) fn backups(paths: &Paths) -> Utf8PathBuf {
    paths.etc().join("backup")
}

/// Where the programs of other versions lie.
pub(crate) fn upgrades(paths: &Paths) -> Utf8PathBuf {
    paths.etc().join("upgrade")
}

/// `v1.23.0`, `v1.24.0-beta.0`: safe as the name of a folder.
pub(crate) fn version(text: &str) -> Result<String, String> {
    if edgecore::is_version(text) {
        Ok(text.to_owned())
    } else {
        Err("it is not like `v1.24.0`".to_owned())
    }
}

/// An installed node.
pub(crate) struct Installed {
    /// `/usr/local/bin/keadm`
    pub(crate) program: Utf8PathBuf,
    /// edgecore.yaml
    pub(crate) config: Utf8PathBuf,
    /// The database that it names.
    pub(crate) database: Utf8PathBuf,
}

impl Installed {
    /// Finds it.
    ///
    /// # Errors
    /// When this machine is not set up as `keadm join` does.
    pub(crate) fn find(cx: &Context, config: Option<&Utf8Path>) -> Result<Self, CommandError> {
        let program = cx.paths.bin().join("keadm");
        let link = cx.paths.bin().join("edgecore");
        let config = config.map_or_else(|| cx.paths.edgecore_yaml(), Utf8Path::to_owned);
        let ours = cx.host.read_link(&link).is_some_and(|to| to == program);
        if !ours || !cx.host.exists(&program) {
            return Err(CommandError::new(Kind::NotFound, "this machine is no edge node")
                .because(format!("`{link}` is not a link to `{program}`"))
                .hint("`keadm join` makes it one"));
        }
        let (yaml, _) = crate::commands::config::read_edgecore(cx, &config)?;
        let database = Utf8PathBuf::from_path_buf(yaml.database.data_source)
            .map_err(|_| CommandError::new(Kind::Failed, "the database's path is not UTF-8"))?;
        Ok(Self { program, config, database })
    }

    /// The version of the installed program; `unknown` if it does not say.
    pub(crate) fn version(&self, cx: &Context) -> String {
        let said = cx.host.version_of(&self.program).ok();
        let version =
            said.and_then(|said| version(said.trim_start_matches("KubeEdge ").trim()).ok());
        version.unwrap_or_else(|| "unknown".to_owned())
    }
}

/// Keeps the other commands out. It dies with the process, and is no file.
pub(crate) struct Guard(#[expect(dead_code, reason = "held, and let go of when dropped")] Lock);

impl Guard {
    /// Takes it.
    ///
    /// # Errors
    /// When another command has it.
    pub(crate) fn take(cx: &Context) -> Result<Self, CommandError> {
        let etc = cx.paths.etc();
        let started = Instant::now();
        loop {
            match cx.host.lock(&etc) {
                Ok(Some(lock)) => return Ok(Self(lock)),
                Ok(None) if started.elapsed() < LOCK_LIMIT => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(None) => {
                    let what = "another command is backing up, upgrading or rolling back this node";
                    return Err(CommandError::new(Kind::Conflict, what)
                        .hint("wait for its end; nothing is left behind if it is killed"));
                }
                Err(e) => return Err(file_error("lock", &etc, &e)),
            }
        }
    }
}

/// How a command that reports has ended.
pub(crate) enum Outcome {
    /// As it was asked to.
    Done,
    /// The upgrade went wrong with this, and the machine runs what it ran before.
    RolledBack(String),
}

/// Writes the report of a command for edgecore.
pub(crate) fn report(
    cx: &Context,
    event: Event,
    (from, to): (&str, &str),
    result: Result<Outcome, &CommandError>,
) {
    let (success, error_message, rolled_back) = match result {
        Ok(Outcome::Done) => (true, String::new(), false),
        Ok(Outcome::RolledBack(why)) => (false, why, true),
        Err(e) => (false, sentence(e), false),
    };
    let report = UpgradeReport {
        event,
        success,
        from_version: from.to_owned(),
        to_version: to.to_owned(),
        error_message,
        rolled_back,
    };
    if let Err(e) = report.write(cx.paths.etc().as_std_path()) {
        cx.printer.warn(format!("the report for edgecore cannot be written: {e}"));
    }
}

/// An error and its causes in one line.
pub(crate) fn sentence(e: &CommandError) -> String {
    std::iter::once(e.message())
        .chain(e.causes().iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(": ")
}

fn admin() -> HostPort {
    HostPort { host: "127.0.0.1".to_owned(), port: edgecore::ADMIN_PORT }
}

/// Whether edgecore runs, its node is registered and it has a link.
pub(crate) async fn is_ready() -> bool {
    https::get_plain(&admin(), "/readyz").await.is_ok_and(|a| a.status == StatusCode::OK)
}

/// Waits until edgecore is up after it was started: ready, or at least as far as it was before.
///
/// # Errors
/// What it lacks, and what it says.
pub(crate) async fn up(
    cx: &Context,
    step: &Step,
    was_ready: bool,
    timeout: Duration,
) -> Result<String, CommandError> {
    let started = Instant::now();
    let mut heard = None;
    loop {
        let why = match https::get_plain(&admin(), "/readyz").await {
            Ok(answer) if answer.status == StatusCode::OK => {
                return Ok("edgecore is ready".to_owned());
            }
            Ok(answer) => {
                let heard = heard.get_or_insert_with(Instant::now);
                if !was_ready && heard.elapsed() >= SETTLED.min(timeout / 2) {
                    return Ok("edgecore runs, and waits for the cloud as it did before".to_owned());
                }
                String::from_utf8_lossy(&answer.body).trim().to_owned()
            }
            Err(_) => {
                heard = None;
                format!("edgecore does not answer on {}", admin())
            }
        };
        step.waiting(&why);
        let limit = if heard.is_some() { timeout } else { timeout.min(SILENT) };
        if started.elapsed() >= limit {
            let stopped = cx.host.service_state(SERVICE) != ServiceState::Running;
            let kind = if stopped { Kind::Failed } else { Kind::TimedOut };
            let what = format!("edgecore does not come up within {}", human(limit));
            let error = CommandError::new(kind, what).because(why);
            return Err(match complaint(&cx.host.service_log(SERVICE, 40)) {
                Some(line) => error.because(format!("edgecore says: {line}")),
                None => error,
            });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Signals that would end a command half-way are taken and have no effect while this lives.
pub(crate) fn deaf() -> Vec<tokio::signal::unix::Signal> {
    use tokio::signal::unix::{SignalKind, signal};
    let all = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
    all.into_iter().filter_map(|kind| signal(kind).ok()).collect()
}

/// Starts the service anew.
///
/// # Errors
/// When the service manager refuses.
pub(crate) async fn restart(cx: &Context) -> Result<String, CommandError> {
    let host = cx.host.clone();
    let done = tokio::task::spawn_blocking(move || host.restart_service(SERVICE)).await;
    let failed = |e: &(dyn std::error::Error + 'static)| {
        CommandError::new(Kind::Failed, "cannot start edgecore again").caused_by(e)
    };
    done.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    Ok(cx.host.service_manager().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_safe_as_a_name_and_as_an_argument() {
        for good in ["v1.23.0", "v1.24.0-beta.0", "v1.24.0-a_b-c"] {
            assert_eq!(version(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "v1",
            "1.2.3",
            "../v1.2.3",
            "v1.2.3/..",
            "v1.2.3;x",
            "v1.2.3$(x)",
            "v1.2.3\n",
            "-v1.2.3",
            "--yes",
            "v1.2.3-",
            "v1.2.3 x",
        ] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lock_dies_with_whoever_holds_it_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        std::fs::create_dir_all(root.join("etc/kubeedge")).unwrap();
        let fake = crate::host::fake::Fake::default();
        let mut cx = crate::testing::context(&fake);
        cx.paths = Paths::below(root);
        cx.host = std::sync::Arc::new(crate::host::Linux::new(cx.paths.clone()));
        let held = Guard::take(&cx).unwrap();
        assert_eq!(Guard::take(&cx).err().unwrap().kind, Kind::Conflict);
        drop(held);
        Guard::take(&cx).unwrap();
        assert_eq!(std::fs::read_dir(root.join("etc/kubeedge")).unwrap().count(), 0);
    }
}

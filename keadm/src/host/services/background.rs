//! Without a service manager: `keadm supervise NAME` stays in the background, starts the program
//! and starts it again when it ends.
//!
//! The pid file is locked by the supervisor for as long as it lives, so that a file left behind by a
//! crash is known as such.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use service::backoff::Backoff;

use super::{ServiceSpec, tail};
use crate::context::Paths;
use crate::errors::{CommandError, Kind};
use crate::host::{Host, ServiceState};

/// The pause before a program is started again: short after the first end, so that edges hardly
/// notice, and longer for one that ends again and again.
const RESTART: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// A program that ran this long was not kept from running by what keeps it from starting.
const SETTLED: Duration = Duration::from_secs(10);
/// How long a program may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn spec_file(paths: &Paths, name: &str) -> Utf8PathBuf {
    paths.etc().join("services").join(format!("{name}.json"))
}

fn pid_file(paths: &Paths, name: &str) -> Utf8PathBuf {
    paths.run().join(format!("{name}.pid"))
}

fn log_file(paths: &Paths, name: &str) -> Utf8PathBuf {
    paths.log().join(format!("{name}.log"))
}

pub(in crate::host) fn start(
    host: &dyn Host,
    paths: &Paths,
    service: &ServiceSpec,
) -> io::Result<()> {
    stop(paths, &service.name)?;
    let spec = spec_file(paths, &service.name);
    for folder in [spec.parent(), Some(&paths.run()), Some(&paths.log())].into_iter().flatten() {
        host.create_dir(folder, 0o755)?;
    }
    host.write(&spec, &serde_json::to_vec_pretty(service)?, 0o644)?;
    supervise_with(&host.this_program()?, paths, &service.name)
}

/// Stops a service and starts it with the installed program, which may be another one than before.
pub(in crate::host) fn restart(host: &dyn Host, paths: &Paths, name: &str) -> io::Result<()> {
    // A service that is not installed is not started.
    host.read(&spec_file(paths, name))?;
    stop(paths, name)?;
    supervise_with(&paths.bin().join("keadm"), paths, name)
}

fn supervise_with(program: &Utf8Path, paths: &Paths, name: &str) -> io::Result<()> {
    let log = append(&log_file(paths, name))?;
    let mut supervisor = Command::new(program);
    supervisor.arg("--root").arg(paths.root()).args(["supervise", name]);
    supervisor.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    // Its own group, so that a Ctrl-C meant for this command does not reach it before its setsid.
    let mut child = supervisor.process_group(0).spawn()?;
    // Until it holds the pid file's lock, nobody could stop it.
    for _ in 0..100 {
        if running(paths, name).is_some() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("the supervisor ended with {status}")));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Err(io::Error::other("the supervisor did not come up within 5 s"))
}

pub(in crate::host) fn remove(paths: &Paths, name: &str) -> io::Result<bool> {
    let stopped = stop(paths, name)?;
    let mut there = false;
    for file in [spec_file(paths, name), pid_file(paths, name)] {
        match std::fs::remove_file(&file) {
            Ok(()) => there = true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    // Empty now, unless another service is installed.
    let _ = std::fs::remove_dir(paths.etc().join("services"));
    Ok(there || stopped)
}

pub(in crate::host) fn state(paths: &Paths, name: &str) -> ServiceState {
    match running(paths, name) {
        Some(_) => ServiceState::Running,
        None if spec_file(paths, name).exists() => ServiceState::Stopped,
        None => ServiceState::Absent,
    }
}

pub(in crate::host) fn log(paths: &Paths, name: &str, lines: usize) -> Vec<String> {
    tail(&log_file(paths, name), lines)
}

/// The supervisor's pid, if its pid file is locked.
fn running(paths: &Paths, name: &str) -> Option<Pid> {
    let file = File::open(pid_file(paths, name)).ok()?;
    let mut text = String::new();
    (&file).take(32).read_to_string(&mut text).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err((_, Errno::EWOULDBLOCK)) => text.trim().parse().ok().map(Pid::from_raw),
        Err(_) => None,
    }
}

pub(in crate::host) fn stop(paths: &Paths, name: &str) -> io::Result<bool> {
    let Some(pid) = running(paths, name) else { return Ok(false) };
    kill(pid, Signal::SIGTERM)?;
    let tries = STOP_LIMIT.as_millis() / LOOK_AGAIN.as_millis() + 100;
    for _ in 0..tries {
        if running(paths, name).is_none() {
            return Ok(true);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Err(io::Error::other(format!("process {pid} does not stop")))
}

fn append(path: &Utf8Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o640).open(path)
}

/// `keadm supervise NAME`: runs the program of an installed service until SIGTERM.
///
/// # Errors
/// When there is no such service, or another supervisor runs it.
pub async fn supervise(paths: &Paths, name: &str) -> Result<(), CommandError> {
    let failed = |what: String, e: io::Error| CommandError::new(Kind::Failed, what).caused_by(&e);
    // Fails only if this process leads a session already, which is as good.
    let _ = setsid();
    let spec = std::fs::read(spec_file(paths, name)).map_err(|e| {
        CommandError::new(Kind::NotFound, format!("there is no service `{name}`")).caused_by(&e)
    })?;
    let spec: ServiceSpec = serde_json::from_slice(&spec)
        .map_err(|e| failed(format!("cannot read the service `{name}`"), e.into()))?;
    let _pid = lock_pid_file(&pid_file(paths, name))?;
    let mut signals = service::shutdown::Signals::install()
        .map_err(|e| failed("cannot wait for signals".to_owned(), e))?;
    let mut restarts = Restarts::default();
    loop {
        let started = tokio::time::Instant::now();
        match run_once(&spec, &mut signals).await {
            Ok(Ended::Stopped) => return Ok(()),
            Ok(Ended::ByItself(how)) => {
                tracing::warn!(service = name, how, "the program ended; it is started again");
            }
            Err(e) => tracing::warn!(service = name, error = %e, "the program cannot be started"),
        }
        tokio::select! {
            _ = signals.next() => return Ok(()),
            () = tokio::time::sleep(restarts.pause_after(started.elapsed())) => {}
        }
    }
}

/// How often a program has ended young, one life after the other.
#[derive(Debug, Default)]
struct Restarts {
    young: u32,
}

impl Restarts {
    /// How long to wait now that a life of this length has ended.
    fn pause_after(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED {
            self.young = 0;
        }
        let pause = RESTART.next_delay(self.young);
        self.young = self.young.saturating_add(1);
        pause
    }
}

enum Ended {
    Stopped,
    ByItself(String),
}

async fn run_once(
    spec: &ServiceSpec,
    signals: &mut service::shutdown::Signals,
) -> io::Result<Ended> {
    let [program, arguments @ ..] = spec.command.as_slice() else {
        return Err(io::Error::other("the service has no command"));
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("MALLOC_ARENA_MAX", "2")
        .spawn()?;
    tokio::select! {
        status = child.wait() => Ok(Ended::ByItself(status?.to_string())),
        _ = signals.next() => {
            if let Some(pid) = child.id() {
                kill(Pid::from_raw(pid as i32), Signal::SIGTERM)?;
            }
            if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
                child.kill().await?;
            }
            Ok(Ended::Stopped)
        }
    }
}

/// Writes our pid and keeps the file locked until the returned value is dropped.
fn lock_pid_file(path: &Utf8Path) -> Result<Flock<File>, CommandError> {
    let held = || CommandError::new(Kind::Conflict, format!("`{path}` is held by another process"));
    let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = open.map_err(|e| crate::errors::file_error("write", path, &e))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, e)| held().caused_by(&e))?;
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|e| crate::errors::file_error("write", path, &e))?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_dies_young_again_and_again_has_to_wait() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.pause_after(Duration::ZERO), RESTART.floor);
        for _ in 0..20 {
            restarts.pause_after(Duration::from_secs(1));
        }
        assert!(restarts.pause_after(Duration::from_secs(1)) >= RESTART.ceiling / 2);
        assert_eq!(restarts.pause_after(SETTLED), RESTART.floor);
        assert!(restarts.pause_after(Duration::ZERO) <= RESTART.floor * 2);
    }

    #[test]
    fn a_pid_file_without_a_lock_is_a_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        let paths = Paths::below(&root);
        std::fs::create_dir_all(paths.run()).unwrap();
        std::fs::write(pid_file(&paths, "edgecore"), "1\n").unwrap();
        assert_eq!(running(&paths, "edgecore"), None);
        assert_eq!(state(&paths, "edgecore"), ServiceState::Absent);
        let lock = lock_pid_file(&pid_file(&paths, "edgecore")).unwrap();
        assert_eq!(running(&paths, "edgecore"), Some(Pid::this()));
        assert!(lock_pid_file(&pid_file(&paths, "edgecore")).is_err());
        drop(lock);
        assert_eq!(running(&paths, "edgecore"), None);
        assert!(remove(&paths, "edgecore").unwrap());
        assert!(!remove(&paths, "edgecore").unwrap());
    }
}

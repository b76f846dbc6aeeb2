//! The built binary, run as a user runs it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::Host;
use crate::wait;

/// For `--set`: settings of an edge with which a disk that is filling up, because programs are built
/// on it, say, evicts no pod and removes no image.
pub const ANY_DISK: &str = "modules.edged.tailoredKubeletConfig.imageGCHighThresholdPercent=100,\
    modules.edged.tailoredKubeletConfig.evictionHard.imagefs\\.available=100Mi,\
    modules.edged.tailoredKubeletConfig.evictionHard.nodefs\\.available=100Mi";

/// The binary under test: `$KEADM_BIN`, or what `cargo build --release` made.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = std::env::var_os("KEADM_BIN")
        .map_or_else(|| root.join("target/release/keadm"), PathBuf::from);
    assert!(
        path.exists(),
        "there is no binary at {}: run `cargo build --release`, or set KEADM_BIN",
        path.display()
    );
    path
}

/// A `keadm` that is running; interrupted, and in the end killed, when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
    /// Where in the log its own words begin.
    from: usize,
}

/// A command line for `keadm` on `host`.
pub fn command<I, S>(host: &Host, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = host.command(binary());
    command.args(args).env("NO_COLOR", "1").env_remove("KUBECONFIG").stdin(Stdio::null());
    command
}

impl Running {
    /// Starts `command`, with everything that it says going to `log`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let from = usize::try_from(out.metadata().unwrap().len()).unwrap();
        let child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Self { child, log: log.to_owned(), from }
    }

    /// Its process id. (`nsenter` becomes the program.)
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    ///
    /// # Panics
    /// When that cannot be asked.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        words(&self.log, self.from)
    }

    /// Waits until it has said `text`; returns how long that took.
    ///
    /// # Panics
    /// When it ends first, or after `limit`; with what it said.
    #[track_caller]
    pub fn until_said(&mut self, text: &str, limit: Duration) -> Duration {
        let what = format!("`{text}` from keadm");
        let (log, from) = (self.log.clone(), self.from);
        let child = &mut self.child;
        wait::until(&what, limit, || {
            let said = words(&log, from);
            if said.contains(text) {
                return Ok(());
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("keadm ended ({status}) before it said `{text}`:\n{said}");
            }
            Err(said)
        })
        .1
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After `limit`.
    #[track_caller]
    pub fn until_ended(&mut self, limit: Duration) -> ExitStatus {
        let log = self.log.clone();
        let child = &mut self.child;
        wait::until("the end of keadm", limit, || match child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(std::fs::read_to_string(&log).unwrap_or_default()),
        })
        .0
    }

    /// Ctrl-C, then its end.
    ///
    /// # Panics
    /// When it does not end in 30 s.
    #[track_caller]
    pub fn interrupt(mut self) -> ExitStatus {
        self.signal(Signal::SIGINT);
        self.until_ended(Duration::from_secs(30))
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGINT);
            for _ in 0..100 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.log.display(), self.said());
        }
    }
}

fn words(log: &Path, from: usize) -> String {
    let all = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(all.get(from..).unwrap_or_default()).into_owned()
}

/// Resident memory of a process in KiB, from `/proc/<pid>/status`.
///
/// # Panics
/// When the process is gone.
pub fn rss_kib(pid: u32) -> u64 {
    memory_kib(pid, "VmRSS:")
}

/// A line of `/proc/<pid>/status` that is a number of KiB.
///
/// # Panics
/// When the process is gone.
pub fn memory_kib(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The pid of a program that keadm supervises on a host without a service manager.
///
/// # Errors
/// When it is not running.
pub fn service_pid(host: &Host, name: &str) -> Result<u32, String> {
    let supervisor = supervisor_pid(host, name)?;
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let text = std::fs::read_to_string(&children).map_err(|e| format!("{children}: {e}"))?;
    let first = text.split_whitespace().next();
    first.and_then(|p| p.parse().ok()).ok_or_else(|| format!("{name} is not running"))
}

/// The pid of its supervisor.
///
/// # Errors
/// When there is none.
pub fn supervisor_pid(host: &Host, name: &str) -> Result<u32, String> {
    let file = host.path(&format!("/run/kubeedge/{name}.pid"));
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    text.trim().parse().map_err(|_| format!("{}: `{text}`", file.display()))
}

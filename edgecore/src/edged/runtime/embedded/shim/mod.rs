//! The small process that stands between edgecore and a container, and outlives edgecore.
//!
//! Owns: the hidden entry points of the binary: `shim sandbox`, `shim container`, `shim pause`
//! and `sample-workload`.
//! Called by: `main` of every program that embeds edgecore, before it does anything else.
//! Never: starts a thread; libcontainer forks without exec.

mod container;
mod log;
mod rootfs;
mod sandbox;
mod server;
pub(crate) mod user;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

use super::plan::Hello;
use super::sample;
use super::state::{ProcessRef, StateError};

pub(crate) use self::rootfs::OPAQUE;
pub(crate) use self::server::{receive_with_fds, send_with_fds};

/// What the shims are called, in `argv[0]` and in a list of processes.
pub(crate) const NAME: &str = "keadm-shim";

/// Why a shim could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: nix::Error },
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    #[error("the sandbox has ended")]
    SandboxGone,
    #[error("cannot mount the container's root: {0}")]
    Rootfs(String),
    #[error("{0}")]
    Container(String),
    #[error("kernel parameter `{name}` cannot be set: {source}")]
    Sysctl { name: String, source: std::io::Error },
}

fn system(what: &'static str) -> impl FnOnce(nix::Error) -> ShimError {
    move |source| ShimError::System { what, source }
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ShimError {
    move |source| ShimError::Io { what, source }
}

/// Runs the program as a shim or as the sample workload if its arguments ask for that, and returns
/// its exit code; `None` means that this is an ordinary start.
///
/// `main` has to call this first, with no thread started yet.
///
/// ```no_run
/// let argv: Vec<std::ffi::OsString> = std::env::args_os().collect();
/// if let Some(code) = edgecore::shim::dispatch(&argv) {
///     std::process::exit(code);
/// }
/// ```
pub fn dispatch(argv: &[OsString]) -> Option<i32> {
    let called = argv.first().and_then(|a| Path::new(a).file_name());
    if called == Some(OsStr::new(NAME)) {
        return Some(main(&argv[1..]));
    }
    match argv.get(1)?.to_str()? {
        "shim" => Some(main(&argv[2..])),
        sample::COMMAND => Some(sample::workload()),
        _ => None,
    }
}

/// The shim itself: `sandbox FOLDER`, `container FOLDER` or `pause`.
fn main(args: &[OsString]) -> i32 {
    let verb = args.first().and_then(|a| a.to_str()).unwrap_or("");
    let folder = args.get(1).map(PathBuf::from).filter(|f| f.is_absolute());
    let done = match (verb, folder) {
        ("sandbox", Some(folder)) => detach().and_then(|signals| sandbox::run(&folder, &signals)),
        ("container", Some(folder)) => {
            detach().and_then(|signals| container::run(&folder, &signals))
        }
        ("pause", None) => sandbox::pause(),
        _ => {
            let _ = writeln!(std::io::stderr(), "error: this command is for edgecore's own use");
            return 2;
        }
    };
    match done {
        Ok(()) => 0,
        Err(e) => {
            // The reader of the greeting gets the error in full; the log keeps it for people.
            let _ = writeln!(std::io::stderr(), "{e}");
            greet(Some(e.to_string()), Vec::new());
            1
        }
    }
}

/// Leaves edgecore's session, and takes the signals that matter through a descriptor.
fn detach() -> Result<SignalFd, ShimError> {
    // Fails for a session's leader, who needs nothing done.
    let _ = nix::unistd::setsid();
    umask(Mode::from_bits_truncate(0o022));
    let _ = nix::sys::prctl::set_name(c"keadm-shim");
    nix::sys::prctl::set_child_subreaper(true).map_err(system("become a subreaper"))?;
    signals()
}

/// Blocked signals stay blocked in a container unless its executor unblocks them; ours does.
fn signals() -> Result<SignalFd, ShimError> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block().map_err(system("block signals"))?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(system("listen to signals"))
}

/// Says on standard output how it went, then lets go of it, and of the memory that only the start
/// needed: there are two shims a pod.
fn greet(error: Option<String>, notes: Vec<String>) {
    if let Ok(text) = serde_json::to_vec(&Hello { error, notes }) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null.as_fd());
    }
    let _ = service::pages::give_back();
}

fn myself() -> Result<ProcessRef, ShimError> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    ProcessRef::of(pid).ok_or(ShimError::SandboxGone)
}

//! One `keadm up` per data folder; in the background if asked for.
//!
//! Owns: the lock, which dies with its process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use camino::Utf8Path;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use super::{Up, UpArgs};
use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::phases::{Event, Progress, Step};

/// The lock's file in the data folder.
pub(super) const LOCK: &str = "lock";
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Held while a `keadm up` runs.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Lock {
    /// Takes the lock of a data folder.
    ///
    /// # Errors
    /// When another process holds it.
    pub(super) fn take(dir: &Utf8Path) -> Result<Self, CommandError> {
        let path = dir.join(LOCK);
        let failed = |e: std::io::Error| file_error("lock", &path, &e);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        match Flock::lock(open.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let written =
                    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
                written.map_err(failed)?;
                Ok(Self(lock))
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let by = holder(dir).map_or_else(String::new, |pid| format!(" (pid {pid})"));
                Err(CommandError::new(
                    Kind::Conflict,
                    format!("another `keadm up`{by} is running on `{dir}`"),
                )
                .hint(format!("`keadm up --stop --data-dir {dir}` stops it"))
                .hint("`--data-dir DIR` keeps a second one apart"))
            }
            Err((_, e)) => Err(failed(e.into())),
        }
    }
}

/// The process that holds the lock.
fn holder(dir: &Utf8Path) -> Option<Pid> {
    let file = File::open(dir.join(LOCK)).ok()?;
    let mut text = String::new();
    (&file).take(32).read_to_string(&mut text).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => text.trim().parse().ok().map(Pid::from_raw),
        _ => None,
    }
}

/// `keadm up --stop`
pub(super) fn stop(cx: &Context, dir: &Utf8Path) -> Result<(), CommandError> {
    let Some(pid) = holder(dir) else {
        cx.printer.say(format!("no `keadm up` is running on `{dir}`"));
        return Ok(());
    };
    let failed = |e: Errno| {
        CommandError::new(Kind::Refused, format!("cannot stop process {pid}")).caused_by(&e)
    };
    kill(pid, Signal::SIGTERM).map_err(failed)?;
    let tries = STOP_LIMIT.as_millis() / 50;
    for _ in 0..tries {
        if holder(dir).is_none() {
            cx.printer.say(format!("stopped; state kept in {dir}"));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(CommandError::new(Kind::TimedOut, format!("process {pid} does not stop"))
        .hint(format!("its log is `{}`", dir.join("keadm.log"))))
}

/// Leaves the terminal's session, so that closing it ends nothing.
pub(super) fn leave_session() {
    // Fails only if this process leads a session already.
    let _ = setsid();
}

/// `keadm up --detach`: starts the same in the background and shows its steps until it is up.
pub(super) fn detach(args: &UpArgs, up: &Up) -> Result<(), CommandError> {
    let failed = |e: std::io::Error| {
        CommandError::new(Kind::Failed, "cannot start the process in the background").caused_by(&e)
    };
    let mut command = Command::new(up.cx.host.this_program().map_err(failed)?);
    command.arg("--root").arg(up.cx.paths.root()).args(["--progress", "jsonl", "--quiet", "up"]);
    command.arg("--background").arg("--data-dir").arg(&up.dir);
    command.arg("--node-name").arg(up.node.as_str());
    command.arg("--api-port").arg(up.api_port.to_string());
    command.arg("--timeout").arg(format!("{}ms", args.timeout.as_millis()));
    if !up.advertise.is_empty() {
        command.arg("--advertise-address").arg(up.advertise.join(","));
    }
    for (flag, given) in [
        ("--reset", args.reset),
        ("--no-sample", args.no_sample),
        ("--cloud-only", args.cloud_only),
    ] {
        if given {
            command.arg(flag);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
    let mut child = command.spawn().map_err(failed)?;
    let (Some(events), Some(talk)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(CommandError::new(Kind::Failed, "the background process has no pipes"));
    };
    let printer = up.cx.printer.clone();
    let talking = std::thread::spawn(move || {
        for line in BufReader::new(talk).lines().map_while(Result::ok) {
            printer.shout(line);
        }
    });
    // The steps are drawn here; a runtime is needed only for their clocks.
    let ready = up.cx.block_on(async { Ok(show(BufReader::new(events), up)) })?;
    if ready {
        let pid = child.id();
        up.cx.printer.say(format!(
            "it runs in the background as process {pid}; `keadm up --stop --data-dir {}` stops it",
            up.dir
        ));
        return Ok(());
    }
    let status = child.wait().map_err(failed)?;
    // Its error has been shown as it said it.
    let _ = talking.join();
    Err(match status.code() {
        Some(code) if code == i32::from(Kind::Conflict as u8) => {
            CommandError::new(Kind::Conflict, "nothing was started")
        }
        _ => CommandError::new(Kind::Failed, "the background process has ended")
            .because(status.to_string()),
    })
}

/// Draws the events of the background process; true once it is up.
fn show(events: impl BufRead, up: &Up) -> bool {
    let progress = Progress::new(&up.cx.printer);
    let mut current: Option<Step> = None;
    for line in events.lines().map_while(Result::ok) {
        match (serde_json::from_str::<Event>(&line), &current) {
            (Ok(Event::Started { step }), _) => current = Some(progress.begin(&step)),
            (Ok(Event::Waiting { message, .. }), Some(step)) => step.waiting(message),
            (Ok(Event::Done { message, .. }), Some(step)) => step.done(&message),
            (Ok(Event::Failed { message, .. }), Some(step)) => step.failed(&message),
            (Ok(Event::Ready { next, .. }), _) => {
                super::say_next(up, &next, progress.elapsed());
                progress.ready(&next);
                return true;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_on_the_same_folder_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let lock = Lock::take(dir).unwrap();
        let e = Lock::take(dir).err().unwrap();
        assert_eq!(e.kind, Kind::Conflict);
        assert!(e.message().contains(&format!("pid {}", std::process::id())), "{}", e.message());
        drop(lock);
        assert_eq!(holder(dir), None);
        Lock::take(dir).unwrap();
    }
}

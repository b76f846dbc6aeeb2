//! The shim of a container: it starts it, keeps its log, serves its exec and attach, and writes
//! down how it ended.
//!
//! Owns: the container's mount namespace, its pipes or terminal, its log file, its exit record.
//! Called by: `shim/mod.rs`.
//! Never: starts a thread, or decides anything about the pod.

mod attach;
mod exec;
mod output;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::get_executor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use self::attach::Attached;
use self::output::Outputs;
use super::super::cgroup::Hierarchies;
use super::super::plan::ContainerPlan;
use super::super::state::{self, ExitRecord, InitRecord, ProcessRef, ShimRecord, file};
use super::super::wire::{Reply, Request};
use super::server::{Event, Role, Server, Token};
use super::{ShimError, rootfs};

/// What the exit code is if the container could not be started, as in containerd.
const START_FAILED: i32 = 128;

/// How long processes that outlive the container's first one are chased.
const CHASE: (u32, Duration) = (100, Duration::from_millis(10));

/// How often a client that does not read is looked after, in milliseconds.
const IMPATIENT: u16 = 500;

/// libcontainer's folder within ours.
const OCI_STATE: &str = "oci";

pub(super) fn run(folder: &Path, signals: &SignalFd) -> Result<(), ShimError> {
    let record = ShimRecord { shim: super::myself()?, pause: None };
    state::store_new(&folder.join(file::SHIM), &record)?;
    let started = state::load::<ContainerPlan>(&folder.join(file::PLAN))
        .map_err(ShimError::from)
        .and_then(|plan| Shim::start(folder, plan));
    match started {
        Ok((mut shim, notes)) => {
            super::greet(None, notes);
            shim.serve(signals);
            shim.finish();
            Ok(())
        }
        Err(e) => {
            let failed = ExitRecord {
                code: START_FAILED,
                reason: "StartError".into(),
                message: e.to_string(),
                started_at: 0,
                finished_at: state::now(),
            };
            state::store(&folder.join(file::EXIT), &failed)?;
            Err(e)
        }
    }
}

struct Shim {
    folder: PathBuf,
    plan: ContainerPlan,
    container: Container,
    init: Pid,
    started_at: i64,
    outputs: Outputs,
    attached: Attached,
    server: Server,
    /// Exec'd processes and who waits for them.
    execs: BTreeMap<i32, Token>,
    next_exec: u32,
    ended: Option<i32>,
}

/// Who has something for the loop.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection(Token),
    Output(usize),
    Input,
    /// A client's pipe has room, or took too long to get some.
    Client,
}

impl Shim {
    fn start(folder: &Path, plan: ContainerPlan) -> Result<(Self, Vec<String>), ShimError> {
        let mut notes = Vec::new();
        let root = rootfs::prepare(folder, &plan, &mut notes)?;
        write_bundle(folder, &plan, &root)?;
        let server = Server::bind(folder)?;
        let streams = output::open(folder, &plan)?;
        let state_folder = folder.join(OCI_STATE);
        state::make_dir(&state_folder)?;
        let builder = ContainerBuilder::new("container".into(), SyscallType::default())
            .with_executor(Payload)
            .with_root_path(&state_folder)
            .map_err(container_error)?;
        let builder = streams.connect(builder)?;
        let mut container =
            builder.as_init(folder).with_systemd(false).build().map_err(container_error)?;
        let init = container
            .pid()
            .map(|p| Pid::from_raw(p.as_raw()))
            .ok_or_else(|| ShimError::Container("the container has no process".into()))?;
        set_oom_score(init, plan.oom_score_adj, &mut notes);
        let outputs = streams.finish(&plan)?;
        // What has been made must be unmade from here on.
        let started_at = state::now();
        let process = ProcessRef::of(init.as_raw());
        let started = container.start().map_err(container_error).and_then(|()| {
            let process = process.ok_or(ShimError::SandboxGone)?;
            let record = InitRecord { process, started_at };
            Ok(state::store(&folder.join(file::INIT), &record)?)
        });
        if let Err(e) = started {
            let _ = kill(init, Signal::SIGKILL);
            let _ = waitpid(init, None);
            let _ = container.delete(true);
            return Err(e);
        }
        let shim = Shim {
            folder: folder.to_owned(),
            attached: Attached::new(plan.stdin_once),
            plan,
            container,
            init,
            started_at,
            outputs,
            server,
            execs: BTreeMap::new(),
            next_exec: 0,
            ended: None,
        };
        Ok((shim, notes))
    }

    /// Until the container's first process has ended.
    fn serve(&mut self, signals: &SignalFd) {
        while self.ended.is_none() {
            for source in self.wait(signals) {
                match source {
                    Source::Signals => self.on_signals(signals),
                    Source::Listener => self.server.accept(),
                    Source::Connection(token) => {
                        for event in self.server.read(token) {
                            self.on_event(token, event);
                        }
                    }
                    Source::Output(n) => self.on_output(n),
                    Source::Input => self.attached.move_input(&mut self.outputs),
                    Source::Client => {
                        for token in self.attached.flush() {
                            self.server.close(token);
                        }
                    }
                }
            }
        }
    }

    fn wait(&self, signals: &SignalFd) -> Vec<Source> {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let mut sources = vec![Source::Signals];
        fds.extend(self.server.poll_fds());
        sources.push(Source::Listener);
        sources.extend(self.server.tokens().into_iter().map(Source::Connection));
        for (n, fd) in self.outputs.readable(&self.attached) {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
            sources.push(Source::Output(n));
        }
        if let Some((fd, flags)) = self.attached.input_interest(&self.outputs) {
            fds.push(PollFd::new(fd, flags));
            sources.push(Source::Input);
        }
        let before = fds.len();
        for fd in self.attached.full_pipes() {
            fds.push(PollFd::new(fd, PollFlags::POLLOUT));
            sources.push(Source::Client);
        }
        let waits = fds.len() > before;
        let limit = if waits { PollTimeout::from(IMPATIENT) } else { PollTimeout::NONE };
        match poll(&mut fds, limit) {
            Ok(0) => vec![Source::Client],
            Ok(_) => {
                let ready = fds.iter().zip(sources).filter(|(fd, _)| fd.any().unwrap_or(true));
                ready.map(|(_, source)| source).collect()
            }
            Err(_) => Vec::new(),
        }
    }

    fn on_signals(&mut self, signals: &SignalFd) {
        while let Ok(Some(info)) = signals.read_signal() {
            if Signal::try_from(info.ssi_signo as i32) == Ok(Signal::SIGTERM) {
                let _ = kill(self.init, Signal::SIGTERM);
            }
        }
        self.reap();
    }

    /// Buries whoever has ended: the container, its exec'd processes, their orphans.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            let (pid, code) = match status {
                WaitStatus::Exited(pid, code) => (pid, code),
                WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if pid == self.init {
                self.ended = Some(code);
            } else if let Some(token) = self.execs.remove(&pid.as_raw()) {
                self.server.reply(token, &Reply::Ended(code));
                self.server.close(token);
            }
        }
    }

    fn on_event(&mut self, token: Token, event: Event) {
        match event {
            Event::Request(Request::Watch, _) => self.server.set_role(token, Role::Watch),
            Event::Request(Request::Signal(number), _) => {
                let reply = self.signal(number);
                self.server.reply(token, &reply);
            }
            Event::Request(Request::Exec(exec), fds) => self.exec(token, &exec, fds),
            Event::Request(Request::Attach(attach), fds) => {
                self.server.set_role(token, Role::Attach);
                let reply = self.attached.add(token, &attach, fds);
                self.server.reply(token, &reply);
            }
            Event::Request(Request::Resize { width, height }, _) => {
                self.outputs.resize(width, height);
            }
            Event::Request(Request::ReopenLog, _) => {
                let reply = match self.outputs.log.reopen() {
                    Ok(()) => Reply::Ok,
                    Err(e) => Reply::Failed(format!("cannot open the new log: {e}")),
                };
                self.server.reply(token, &reply);
            }
            Event::Request(Request::Stop, _) => {
                let no = "a container is stopped by a signal";
                self.server.reply(token, &Reply::Failed(no.into()));
            }
            Event::Closed(Role::Exec { pid, kill_on_hangup }) => {
                if self.execs.remove(&pid).is_some() && kill_on_hangup {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            Event::Closed(Role::Attach) => self.attached.remove(token, &mut self.outputs),
            Event::Closed(_) => {}
        }
    }

    fn signal(&self, number: i32) -> Reply {
        // Real-time signals have no name in `Signal`; images do not ask for them.
        match Signal::try_from(number).and_then(|signal| kill(self.init, signal)) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Reply::Ok,
            Err(e) => Reply::Failed(format!("cannot send signal {number}: {e}")),
        }
    }

    fn on_output(&mut self, n: usize) {
        for token in self.outputs.read(n, &mut self.attached) {
            self.server.close(token);
        }
    }

    /// Writes down the end, tells who waits, and takes apart what was made.
    fn finish(&mut self) {
        let code = self.ended.unwrap_or(255);
        self.outputs.drain(&mut self.attached);
        let hierarchies = Hierarchies::detect();
        let oom = hierarchies.oom_kills(&self.plan.cgroup) > 0;
        let reason = match code {
            0 => "Completed",
            _ if oom => "OOMKilled",
            _ => "Error",
        };
        let exit = ExitRecord {
            code,
            reason: reason.into(),
            message: String::new(),
            started_at: self.started_at,
            finished_at: state::now(),
        };
        if let Err(e) = state::store(&self.folder.join(file::EXIT), &exit) {
            let _ = writeln!(std::io::stderr(), "{e}");
        }
        for token in self.server.with(|role| role == Role::Watch) {
            self.server.reply(token, &Reply::Ended(code));
        }
        self.let_clients_read();
        for token in self.server.with(|role| role == Role::Attach) {
            self.server.reply(token, &Reply::Ended(code));
        }
        // With a PID namespace of its own nothing is left; with another's there may be.
        for _ in 0..CHASE.0 {
            let left = hierarchies.kill_all(&self.plan.cgroup);
            self.reap();
            if !left {
                break;
            }
            std::thread::sleep(CHASE.1);
        }
        if let Err(e) = self.container.delete(true) {
            let _ = writeln!(std::io::stderr(), "{e}");
        }
        hierarchies.remove(&self.plan.cgroup);
    }
}

impl Shim {
    /// The last bytes of a container are for those who are attached, too.
    fn let_clients_read(&mut self) {
        loop {
            let mut fds: Vec<PollFd<'_>> =
                self.attached.full_pipes().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)).collect();
            if fds.is_empty() {
                break;
            }
            let _ = poll(&mut fds, IMPATIENT);
            drop(fds);
            self.attached.flush();
        }
        self.attached = Attached::new(true);
    }
}

/// The plan's spec, completed with what only the mounted root can tell.
fn write_bundle(folder: &Path, plan: &ContainerPlan, root: &Path) -> Result<(), ShimError> {
    let identity = rootfs::identity(root, plan)?;
    let mut spec = plan.spec.clone();
    if let Some(process) = spec.process_mut() {
        rootfs::make_working_folder(root, process.cwd())?;
        process.user_mut().set_uid(identity.uid).set_gid(identity.gid);
        process.user_mut().set_additional_gids(Some(identity.groups));
    }
    Ok(state::store(&folder.join("config.json"), &spec)?)
}

/// libcontainer would set the shim's own score, and it could never be taken back.
fn set_oom_score(pid: Pid, score: i32, notes: &mut Vec<String>) {
    let path = format!("/proc/{pid}/oom_score_adj");
    if std::fs::write(path, score.to_string()).is_err() {
        notes.push(format!("the kernel did not accept the oom score {score}"));
    }
}

fn container_error(e: libcontainer::error::LibcontainerError) -> ShimError {
    let mut text = e.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&e);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    ShimError::Container(text)
}

/// Becomes the container's program, with signals as a program expects to find them.
#[derive(Clone)]
struct Payload;

impl Executor for Payload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = spec.process().as_ref().and_then(|p| p.args().as_deref());
        let Some((program, args)) = args.and_then(<[String]>::split_first) else {
            return Err(ExecutorError::InvalidArg);
        };
        // The shim blocks signals; what it runs must not. That SIGPIPE is ignored, the standard
        // library undoes on the way.
        let _ = SigSet::empty().thread_set_mask();
        let error = Command::new(program).args(args).exec();
        let _ = writeln!(std::io::stderr(), "cannot run `{program}`: {error}");
        Err(ExecutorError::Execution(Box::new(error)))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        get_executor().validate(spec)
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), ShimError> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(super::system("make a pipe"))
}

fn set_nonblocking(fd: &impl AsFd) -> Result<(), ShimError> {
    rustix::io::ioctl_fionbio(fd, true).map_err(|e| super::io("set up a stream")(e.into()))
}

//! The shim of a sandbox: it holds the pod's namespaces by living in them.
//!
//! Owns: the network, IPC and UTS namespaces of one pod, its `/dev/shm`, and the first process of
//! its PID namespace if its containers share one.
//! Called by: `shim/mod.rs`.
//! Never: knows of the pod's containers; they join it.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use libcontainer::network::link::LinkClient;
use libcontainer::network::wrapper::create_network_client;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::plan::SandboxPlan;
use super::super::state::{self, ExitRecord, ProcessRef, ShimRecord, file};
use super::super::wire::{Reply, Request};
use super::server::{Event, Role, Server};
use super::{NAME, ShimError, io, system};

/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;

pub(super) fn run(folder: &Path, signals: &SignalFd) -> Result<(), ShimError> {
    let plan: SandboxPlan = state::load(&folder.join(file::PLAN))?;
    enter_namespaces(&plan)?;
    if plan.own_ipc {
        mount_shm(&folder.join("shm"))?;
    }
    for (name, value) in &plan.sysctls {
        set_sysctl(name, value)?;
    }
    let pause = plan.shared_pid.then(spawn_pause).transpose()?;
    let mut server = Server::bind(folder)?;
    let record = ShimRecord { shim: super::myself()?, pause: pause.clone() };
    let started_at = state::now();
    state::store_new(&folder.join(file::SHIM), &record)?;
    super::greet(None, Vec::new());

    serve(&mut server, signals, pause.as_ref().map(|p| p.pid));

    let exit = ExitRecord {
        code: 0,
        reason: "Completed".into(),
        message: String::new(),
        started_at,
        finished_at: state::now(),
    };
    state::store(&folder.join(file::EXIT), &exit)?;
    for token in server.with(|role| role == Role::Watch) {
        server.reply(token, &Reply::Ended(0));
    }
    if let Some(pause) = pause.filter(ProcessRef::is_alive) {
        let _ = nix::sys::signal::kill(Pid::from_raw(pause.pid), Signal::SIGKILL);
        let _ = waitpid(Pid::from_raw(pause.pid), None);
    }
    Ok(())
}

fn enter_namespaces(plan: &SandboxPlan) -> Result<(), ShimError> {
    let mut flags = CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWNET, plan.own_network);
    flags.set(CloneFlags::CLONE_NEWIPC, plan.own_ipc);
    flags.set(CloneFlags::CLONE_NEWUTS, !plan.hostname.is_empty());
    unshare(flags).map_err(system("make the pod's namespaces"))?;
    // What is mounted here stays here.
    let here = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, here, None::<&str>)
        .map_err(system("separate the mounts"))?;
    if !plan.hostname.is_empty() {
        nix::unistd::sethostname(&plan.hostname).map_err(system("set the host name"))?;
    }
    if plan.own_network {
        LinkClient::new(create_network_client())
            .and_then(|mut link| link.set_up(LOOPBACK))
            .map_err(|e| ShimError::Container(format!("cannot bring up the loopback: {e}")))?;
    }
    Ok(())
}

fn mount_shm(at: &Path) -> Result<(), ShimError> {
    state::make_dir(at)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("shm"), at, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))
        .map_err(system("mount the pod's shared memory"))
}

/// The name has been checked by edgecore: only parameters of namespaces get here.
fn set_sysctl(name: &str, value: &str) -> Result<(), ShimError> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut f| f.write_all(value.as_bytes()));
    written.map_err(|source| ShimError::Sysctl { name: name.to_owned(), source })
}

/// Starts the first process of a new PID namespace.
fn spawn_pause() -> Result<ProcessRef, ShimError> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(system("make the pod's PID namespace"))?;
    let child = Command::new("/proc/self/exe")
        .arg0(NAME)
        .arg("pause")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io("start the pod's first process"))?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    ProcessRef::of(pid).ok_or(ShimError::SandboxGone)
}

/// Until a signal or a request says stop, or the PID namespace has ended.
fn serve(server: &mut Server, signals: &SignalFd, pause: Option<i32>) {
    loop {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(server.poll_fds());
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        if ready[0] && signalled(signals, pause) {
            return;
        }
        for (token, _) in server.tokens().into_iter().zip(&ready[2..]).filter(|(_, r)| **r) {
            for event in server.read(token) {
                match event {
                    Event::Request(Request::Watch, _) => server.set_role(token, Role::Watch),
                    Event::Request(Request::Stop, _) => {
                        server.reply(token, &Reply::Ok);
                        return;
                    }
                    Event::Request(..) => {
                        let no = "a sandbox has no process of its own";
                        server.reply(token, &Reply::Failed(no.into()));
                    }
                    Event::Closed(_) => {}
                }
            }
        }
        if ready[1] {
            server.accept();
        }
    }
}

/// Whether the signals that came mean the end.
fn signalled(signals: &SignalFd, pause: Option<i32>) -> bool {
    let mut end = false;
    while let Ok(Some(info)) = signals.read_signal() {
        end |= Signal::try_from(info.ssi_signo as i32) == Ok(Signal::SIGTERM);
    }
    while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
        match status {
            WaitStatus::StillAlive => break,
            other => end |= other.pid().map(Pid::as_raw) == pause,
        }
    }
    end
}

/// The first process of a shared PID namespace: buries orphans and ends with the sandbox's shim.
pub(super) fn pause() -> Result<(), ShimError> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(system("follow the sandbox"))?;
    let _ = nix::sys::prctl::set_name(c"keadm-pause");
    let signals = super::signals()?;
    loop {
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        if signalled(&signals, None) {
            return Ok(());
        }
    }
}

//! A further process in a running container.
//!
//! Owns: the making of it. Its streams are the client's own descriptors.
//! Called by: `shim/container.rs`.
//! Never: touches the bytes it reads and prints.

use std::os::fd::{AsFd, OwnedFd};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::unistd::Pid;

use super::super::super::state;
use super::super::super::wire::{Exec, Reply};
use super::super::server::{Role, Token};
use super::super::{ShimError, io};
use super::output::Console;
use super::{OCI_STATE, Payload, Shim, container_error, set_oom_score};

impl Shim {
    pub(super) fn exec(&mut self, token: Token, exec: &Exec, fds: Vec<OwnedFd>) {
        match self.start_exec(exec, fds) {
            Ok((pid, master)) => {
                self.execs.insert(pid.as_raw(), token);
                let kill_on_hangup = exec.kill_on_hangup;
                self.server.set_role(token, Role::Exec { pid: pid.as_raw(), kill_on_hangup });
                match master {
                    Some(master) => {
                        self.server.reply_with(token, &Reply::Started, master.as_fd());
                    }
                    None => self.server.reply(token, &Reply::Started),
                }
            }
            Err(e) => self.server.reply(token, &Reply::Failed(e.to_string())),
        }
        // It may have ended already.
        self.reap();
    }

    fn start_exec(
        &mut self,
        exec: &Exec,
        fds: Vec<OwnedFd>,
    ) -> Result<(Pid, Option<OwnedFd>), ShimError> {
        if exec.command.is_empty() {
            return Err(ShimError::Container("no command to run".into()));
        }
        let spec: libcontainer::oci_spec::runtime::Spec =
            state::load(&self.folder.join("config.json"))?;
        let mut process = spec.process().clone().unwrap_or_default();
        process.set_args(Some(exec.command.clone()));
        process.set_terminal(Some(exec.tty));
        let path = self.folder.join(format!("exec-{}.json", self.next_exec));
        self.next_exec = self.next_exec.wrapping_add(1);
        state::store(&path, &process)?;
        let pid = self.build_exec(exec, fds, &path);
        let _ = std::fs::remove_file(&path);
        pid
    }

    fn build_exec(
        &self,
        exec: &Exec,
        fds: Vec<OwnedFd>,
        process: &std::path::Path,
    ) -> Result<(Pid, Option<OwnedFd>), ShimError> {
        let mut builder = ContainerBuilder::new("container".into(), SyscallType::default())
            .with_executor(Payload)
            .with_root_path(self.folder.join(OCI_STATE))
            .map_err(container_error)?;
        let console = exec.tty.then(|| Console::listen(&self.folder)).transpose()?;
        if let Some(console) = &console {
            builder = builder.with_console_socket(Some(console.path()));
        } else {
            let mut fds = fds.into_iter();
            let mut stream = |wanted: bool| match wanted.then(|| fds.next()).flatten() {
                Some(fd) => Ok(fd),
                None => null_both_ways(),
            };
            let (stdin, stdout) = (stream(exec.stdin)?, stream(exec.stdout)?);
            let stderr = stream(exec.stderr)?;
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        let pid = builder
            .as_tenant()
            .with_detach(true)
            .with_process(Some(process))
            .build()
            .map_err(container_error)?;
        let pid = Pid::from_raw(pid.as_raw());
        set_oom_score(pid, self.plan.oom_score_adj, &mut Vec::new());
        Ok((pid, console.map(Console::master).transpose()?))
    }
}

fn null_both_ways() -> Result<OwnedFd, ShimError> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(null.map_err(io("open `/dev/null`"))?.into())
}

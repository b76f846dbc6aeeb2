//! What a container prints, and the way to its standard input.
//!
//! Owns: the shim's ends of the container's pipes or of its terminal, and the log they go to.
//! Called by: `shim/container.rs`.
//! Never: waits for a reader.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use libcontainer::container::builder::ContainerBuilder;
use rustix::termios::{Winsize, tcsetwinsize};

use super::super::super::plan::ContainerPlan;
use super::super::log::{LineCutter, LogFile, Stream};
use super::super::server::{Token, receive_with_fds};
use super::super::{ShimError, io, rootfs};
use super::attach::Attached;

const CONSOLE_SOCKET: &str = "console.sock";

/// The streams before the container is made.
pub(super) enum Opening {
    Pipes { theirs: Option<[OwnedFd; 3]>, stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal(Console),
}

/// The socket on which a new terminal's master arrives.
pub(super) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    pub(super) fn listen(folder: &Path) -> Result<Self, ShimError> {
        let path = folder.join(CONSOLE_SOCKET);
        let _ = std::fs::remove_file(&path);
        std::env::set_current_dir(folder).map_err(io("enter the state folder"))?;
        let listener = UnixListener::bind(CONSOLE_SOCKET).map_err(io("bind the console socket"))?;
        std::env::set_current_dir("/").map_err(io("leave the state folder"))?;
        listener.set_nonblocking(true).map_err(io("set up the console socket"))?;
        Ok(Console { listener, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The master, which the container has sent by now.
    pub(super) fn master(self) -> Result<OwnedFd, ShimError> {
        let (stream, _) = self.listener.accept().map_err(io("receive the terminal"))?;
        let _ = std::fs::remove_file(&self.path);
        let mut fds = Vec::new();
        stream.set_nonblocking(true).map_err(io("receive the terminal"))?;
        receive_with_fds(stream.as_fd(), &mut [0; 4096], &mut fds)
            .map_err(io("receive the terminal"))?;
        fds.pop().ok_or_else(|| ShimError::Container("the container sent no terminal".into()))
    }
}

pub(super) fn open(folder: &Path, plan: &ContainerPlan) -> Result<Opening, ShimError> {
    if plan.tty {
        return Ok(Opening::Terminal(Console::listen(folder)?));
    }
    let (stdout, their_stdout) = super::pipe()?;
    let (stderr, their_stderr) = super::pipe()?;
    let (their_stdin, stdin) = if plan.stdin {
        let (read, write) = super::pipe()?;
        (read, Some(write))
    } else {
        (OwnedFd::from(rootfs::null()?), None)
    };
    let theirs = Some([their_stdin, their_stdout, their_stderr]);
    Ok(Opening::Pipes { theirs, stdin, stdout, stderr })
}

impl Opening {
    /// Hands the container its ends.
    pub(super) fn connect(&self, builder: ContainerBuilder) -> Result<ContainerBuilder, ShimError> {
        match self {
            Opening::Terminal(console) => Ok(builder.with_console_socket(Some(console.path()))),
            Opening::Pipes { theirs: None, .. } => Ok(builder),
            Opening::Pipes { theirs: Some(ends), .. } => {
                let [stdin, stdout, stderr] = ends;
                let again = |fd: &OwnedFd| fd.try_clone().map_err(io("hand over a pipe"));
                Ok(builder
                    .with_stdin(again(stdin)?)
                    .with_stdout(again(stdout)?)
                    .with_stderr(again(stderr)?))
            }
        }
    }

    /// Drops the container's ends, so that the end of its output is seen.
    pub(super) fn finish(self, plan: &ContainerPlan) -> Result<Outputs, ShimError> {
        let (streams, stdin, terminal) = match self {
            Opening::Terminal(console) => {
                let master = console.master()?;
                let again = || master.try_clone().map_err(io("hold the terminal"));
                let (reader, writer) = (again()?, again()?);
                (vec![(Stream::Stdout, reader)], Some(writer), Some(master))
            }
            Opening::Pipes { theirs, stdin, stdout, stderr } => {
                drop(theirs);
                (vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)], stdin, None)
            }
        };
        let mut outputs = Vec::new();
        for (stream, fd) in streams {
            super::set_nonblocking(&fd)?;
            let source = Some(File::from(fd));
            outputs.push(Output { stream, source, lines: LineCutter::new(stream) });
        }
        let stdin = stdin.map(File::from);
        if let Some(stdin) = &stdin {
            super::set_nonblocking(stdin)?;
        }
        let log = LogFile::open(&plan.log_path).map_err(io("open the log file"))?;
        Ok(Outputs { outputs, stdin, terminal, log })
    }
}

struct Output {
    stream: Stream,
    source: Option<File>,
    lines: LineCutter,
}

/// The streams of a running container.
pub(super) struct Outputs {
    outputs: Vec<Output>,
    pub(super) stdin: Option<File>,
    terminal: Option<OwnedFd>,
    pub(super) log: LogFile,
}

impl Outputs {
    /// The streams to read from: those that are open and that nobody holds up.
    pub(super) fn readable(&self, attached: &Attached) -> Vec<(usize, BorrowedFd<'_>)> {
        let open = self.outputs.iter().enumerate().filter(|(_, o)| !attached.holds(o.stream));
        open.filter_map(|(n, o)| o.source.as_ref().map(|s| (n, s.as_fd()))).collect()
    }

    /// Moves what a stream has into the log and to the attached; returns those who went
    /// away.
    pub(super) fn read(&mut self, n: usize, attached: &mut Attached) -> Vec<Token> {
        let Some(output) = self.outputs.get_mut(n) else { return Vec::new() };
        let Some(source) = &mut output.source else { return Vec::new() };
        let mut bytes = [0u8; 16 * 1024];
        let mut lines = Vec::new();
        let mut count = 0;
        match source.read(&mut bytes) {
            Ok(0) => output.source = None,
            Ok(n) => {
                count = n;
                output.lines.push(&bytes[..n], Timestamp::now(), &mut lines);
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock) => {}
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // A terminal without users answers with EIO.
            Err(_) => output.source = None,
        }
        if output.source.is_none() {
            output.lines.finish(Timestamp::now(), &mut lines);
        }
        // The log first: what an attached client has seen is in it.
        self.log.write(&lines);
        attached.write(output.stream, &bytes[..count])
    }

    /// What is left in the pipes once the container has ended.
    pub(super) fn drain(&mut self, attached: &mut Attached) {
        for n in 0..self.outputs.len() {
            // A pipe holds 1 MiB at most; whoever else writes to it is not part of the container.
            for _ in 0..64 {
                let Some(source) = self.outputs[n].source.as_ref() else { break };
                if !has_input(source.as_fd()) {
                    break;
                }
                self.read(n, attached);
            }
            let mut lines = Vec::new();
            self.outputs[n].lines.finish(Timestamp::now(), &mut lines);
            self.log.write(&lines);
        }
    }

    pub(super) fn resize(&self, width: u16, height: u16) {
        if let Some(terminal) = &self.terminal {
            let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(terminal, size);
        }
    }
}

fn has_input(fd: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

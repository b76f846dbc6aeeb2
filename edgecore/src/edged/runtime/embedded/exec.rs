//! Commands in a running container, and its own streams.
//!
//! Owns: edgecore's ends of the pipes.
//! Called by: the runtime.
//! Never: reads more of a command's output than was agreed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::{ExecOutput, RuntimeError, StreamSpec, Streams, TerminalSize};
use super::Inner;
use super::client::Connection;
use super::state::Id;
use super::terminal::{Size, Terminal};
use super::wire::{Attach, Exec, Reply, Request};

/// What is kept of each output of a short command.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// Output of a command that has ended is waited for so long: a process that it left behind may
/// hold the pipe for ever.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

type Writer = Box<dyn AsyncWrite + Send + Unpin>;
type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Both ends of up to three pipes.
#[derive(Default)]
struct Pipes {
    theirs: Vec<OwnedFd>,
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Pipes {
    fn new(stdin: bool, stdout: bool, stderr: bool) -> Result<Self, RuntimeError> {
        let failed = |e: std::io::Error| RuntimeError::Refused(format!("cannot make a pipe: {e}"));
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()));
        let mut pipes = Pipes::default();
        if stdin {
            let (read, write) = pipe()?;
            pipes.theirs.push(read);
            pipes.stdin = Some(pipe::Sender::from_owned_fd(write).map_err(failed)?);
        }
        for (wanted, slot) in [(stdout, &mut pipes.stdout), (stderr, &mut pipes.stderr)] {
            if wanted {
                let (read, write) = pipe()?;
                pipes.theirs.push(write);
                *slot = Some(pipe::Receiver::from_owned_fd(read).map_err(failed)?);
            }
        }
        Ok(pipes)
    }
}

impl Inner {
    async fn connect(
        &self,
        id: &Id,
        request: &Request,
        theirs: Vec<OwnedFd>,
    ) -> Result<Connection, RuntimeError> {
        self.running(id)?;
        let mut connection = Connection::open(&self.layout.container(id)).await?;
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().map(|fd| fd.as_fd()).collect();
        connection.send(request, &fds).await?;
        match connection.answer().await? {
            Reply::Started => Ok(connection),
            other => Err(RuntimeError::Refused(format!("the shim answered {other:?}"))),
        }
    }

    pub(super) async fn exec_sync(
        &self,
        id: &Id,
        command: &[String],
        limit: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        let limit = if limit.is_zero() { Duration::MAX } else { limit };
        let run = async {
            let mut pipes = Pipes::new(false, true, true)?;
            let request = Request::Exec(Exec {
                command: command.to_vec(),
                tty: false,
                stdin: false,
                stdout: true,
                stderr: true,
                kill_on_hangup: true,
            });
            let theirs = std::mem::take(&mut pipes.theirs);
            let mut connection = self.connect(id, &request, theirs).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            let mut exit_code = None;
            {
                let outputs = async {
                    tokio::join!(
                        collect(pipes.stdout.take(), &mut stdout),
                        collect(pipes.stderr.take(), &mut stderr)
                    )
                };
                let mut outputs = std::pin::pin!(outputs);
                let mut ended = std::pin::pin!(exit_of(&mut connection));
                tokio::select! {
                    code = &mut ended => {
                        exit_code = Some(code?);
                        let _ = timeout(LEFT_BEHIND, &mut outputs).await;
                    }
                    _ = &mut outputs => {}
                }
                if exit_code.is_none() {
                    exit_code = Some(ended.await?);
                }
            }
            Ok(ExecOutput { stdout, stderr, exit_code: exit_code.unwrap_or(255) })
        };
        // Dropping the connection tells the shim to end the command by force.
        match timeout(limit, run).await {
            Ok(output) => output,
            Err(_) => Err(RuntimeError::TimedOut { call: "exec_sync", limit }),
        }
    }

    pub(super) async fn exec(&self, id: &Id, spec: &StreamSpec) -> Result<Streams, RuntimeError> {
        let mut pipes = match spec.tty {
            true => Pipes::default(),
            false => Pipes::new(spec.stdin, spec.stdout, spec.stderr)?,
        };
        let request = Request::Exec(Exec {
            command: spec.command.clone(),
            tty: spec.tty,
            stdin: spec.stdin,
            stdout: spec.stdout,
            stderr: spec.stderr,
            kill_on_hangup: false,
        });
        let theirs = std::mem::take(&mut pipes.theirs);
        let mut connection = self.connect(id, &request, theirs).await?;
        let (resize, sizes) = mpsc::channel(1);
        if !spec.tty {
            return Ok(streams(pipes, resize, connection));
        }
        let broken = |e: String| RuntimeError::Refused(format!("the terminal is not usable: {e}"));
        let master = connection.take_fd().ok_or_else(|| broken("it did not arrive".into()))?;
        let terminal = Terminal::new(master).map_err(|e| broken(e.to_string()))?;
        let Terminal { writer, reader, size } = terminal;
        tokio::spawn(follow_sizes(sizes, size));
        Ok(Streams {
            stdin: spec.stdin.then(|| Box::new(writer) as Writer),
            stdout: spec.stdout.then(|| Box::new(reader) as Reader),
            stderr: None,
            resize,
            exit: Box::pin(async move { exit_of(&mut connection).await }),
        })
    }

    pub(super) async fn attach(&self, id: &Id, spec: &StreamSpec) -> Result<Streams, RuntimeError> {
        let (tty, has_stdin) = self.container(id, |c| (c.record.tty, c.record.stdin))?;
        let stdin = spec.stdin && (has_stdin || tty);
        let mut pipes = Pipes::new(stdin, spec.stdout, spec.stderr && !tty)?;
        let attach = Attach { stdin, stdout: spec.stdout, stderr: spec.stderr && !tty };
        let theirs = std::mem::take(&mut pipes.theirs);
        let connection = self.connect(id, &Request::Attach(attach), theirs).await?;
        let (resize, sizes) = mpsc::channel(1);
        tokio::spawn(forward_sizes(sizes, self.layout.container(id)));
        Ok(streams(pipes, resize, connection))
    }
}

fn streams(
    pipes: Pipes,
    resize: mpsc::Sender<TerminalSize>,
    mut connection: Connection,
) -> Streams {
    Streams {
        stdin: pipes.stdin.map(|p| Box::new(p) as Writer),
        stdout: pipes.stdout.map(|p| Box::new(p) as Reader),
        stderr: pipes.stderr.map(|p| Box::new(p) as Reader),
        resize,
        exit: Box::pin(async move { exit_of(&mut connection).await }),
    }
}

/// The code with which the process behind this connection ends.
async fn exit_of(connection: &mut Connection) -> Result<i32, RuntimeError> {
    match connection.next().await? {
        Some(Reply::Ended(code)) => Ok(code),
        Some(Reply::Failed(why)) => Err(RuntimeError::Refused(why)),
        Some(other) => Err(RuntimeError::Refused(format!("the shim answered {other:?}"))),
        // The container ended, and its shim with it, before the process could be asked.
        None => Ok(137),
    }
}

async fn collect(from: Option<pipe::Receiver>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let _ = (&mut from).take(MAX_OUTPUT).read_to_end(into).await;
    // The rest is read and dropped, so that the command can end.
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

async fn follow_sizes(mut sizes: mpsc::Receiver<TerminalSize>, terminal: Size) {
    while let Some(size) = sizes.recv().await {
        terminal.set(size);
    }
}

async fn forward_sizes(mut sizes: mpsc::Receiver<TerminalSize>, folder: std::path::PathBuf) {
    while let Some(TerminalSize { width, height }) = sizes.recv().await {
        let Ok(mut connection) = Connection::open(&folder).await else { return };
        if connection.send(&Request::Resize { width, height }, &[]).await.is_err() {
            return;
        }
    }
}

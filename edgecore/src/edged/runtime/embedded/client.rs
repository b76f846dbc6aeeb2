//! edgecore's side of a shim: starting one, and talking to it.
//!
//! Owns: the time limits of that talk.
//! Called by: `sandboxes.rs`, `containers.rs`, `exec.rs`.
//! Never: waits for ever.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::plan::Hello;
use super::shim;
use super::state::file;
use super::wire::{self, Reply, Request};

/// A shim that has not said hello by then has been stuck in the kernel.
const HELLO: Duration = Duration::from_secs(60);

/// A shim answers at once, or after it has made a process.
const ANSWER: Duration = Duration::from_secs(30);

const MAX_HELLO: u64 = 64 * 1024;

/// Why a shim could not be had or spoken to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShimFailure {
    #[error("cannot start a shim: {0}")]
    Spawn(#[source] io::Error),
    #[error("the shim ended without a word; see `{0}`")]
    Silent(String),
    #[error("the shim did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("cannot talk to the shim: {0}")]
    Talk(#[source] io::Error),
    #[error("{0}")]
    Said(String),
}

/// Starts a shim and returns its notes once it has done what its plan says.
pub(super) async fn spawn(verb: &str, folder: &Path) -> Result<Vec<String>, ShimFailure> {
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(folder.join(file::SHIM_LOG))
        .map_err(ShimFailure::Spawn)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(shim::NAME)
        .arg(verb)
        .arg(folder)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(ShimFailure::Spawn)?;
    let mut bytes = Vec::new();
    let read = match child.stdout.take() {
        Some(out) => timeout(HELLO, out.take(MAX_HELLO).read_to_end(&mut bytes)).await,
        None => Ok(Ok(0)),
    };
    if read.is_err() {
        let _ = child.start_kill();
    }
    // Nobody else buries it while edgecore lives; afterwards it is the machine's first process.
    tokio::spawn(async move { child.wait().await });
    read.map_err(|_| ShimFailure::TimedOut(HELLO))?.map_err(ShimFailure::Talk)?;
    let silent = || ShimFailure::Silent(folder.join(file::SHIM_LOG).display().to_string());
    let hello: Hello = serde_json::from_slice(&bytes).map_err(|_| silent())?;
    match hello.error {
        Some(error) => Err(ShimFailure::Said(error)),
        None => Ok(hello.notes),
    }
}

/// One connection to a shim.
pub(super) struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// A socket's address is shorter than a path may be, so the folder is opened first.
    pub(super) async fn open(folder: &Path) -> Result<Self, ShimFailure> {
        let flags = (OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC).bits();
        let folder: File = OpenOptions::new()
            .read(true)
            .custom_flags(flags as i32)
            .open(folder)
            .map_err(ShimFailure::Talk)?;
        let path = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), file::SOCKET);
        let connected = timeout(ANSWER, UnixStream::connect(path)).await;
        let stream =
            connected.map_err(|_| ShimFailure::TimedOut(ANSWER))?.map_err(ShimFailure::Talk)?;
        Ok(Connection { stream, buffer: Vec::new(), fds: Vec::new() })
    }

    pub(super) async fn send(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ShimFailure> {
        let bytes = wire::encode(request).map_err(|e| ShimFailure::Said(e.to_string()))?;
        let sent = async {
            let stream = &self.stream;
            let send = || shim::send_with_fds(stream.as_fd(), &bytes, fds);
            let n = stream.async_io(Interest::WRITABLE, send).await?;
            self.stream.write_all(&bytes[n..]).await
        };
        timeout(ANSWER, sent)
            .await
            .map_err(|_| ShimFailure::TimedOut(ANSWER))?
            .map_err(ShimFailure::Talk)
    }

    /// The next reply, however long it takes; `None` if the shim hung up.
    pub(super) async fn next(&mut self) -> Result<Option<Reply>, ShimFailure> {
        loop {
            match wire::take(&mut self.buffer) {
                Ok(Some(reply)) => return Ok(Some(reply)),
                Ok(None) => {}
                Err(e) => return Err(ShimFailure::Said(e.to_string())),
            }
            let mut bytes = [0u8; 4096];
            let (stream, fds) = (&self.stream, &mut self.fds);
            let receive = || shim::receive_with_fds(stream.as_fd(), &mut bytes, fds);
            match stream.async_io(Interest::READABLE, receive).await {
                Ok(0) => return Ok(None),
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(ShimFailure::Talk(e)),
            }
        }
    }

    /// The reply to what was just sent.
    pub(super) async fn answer(&mut self) -> Result<Reply, ShimFailure> {
        let next = timeout(ANSWER, self.next()).await;
        match next.map_err(|_| ShimFailure::TimedOut(ANSWER))?? {
            Some(Reply::Failed(why)) => Err(ShimFailure::Said(why)),
            Some(reply) => Ok(reply),
            None => Err(ShimFailure::Talk(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// A descriptor that came with a reply.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop()
    }
}

/// Asks for one thing and waits for it to be done.
pub(super) async fn ask(folder: &Path, request: &Request) -> Result<(), ShimFailure> {
    let mut connection = Connection::open(folder).await?;
    connection.send(request, &[]).await?;
    connection.answer().await.map(drop)
}

//! Clients connected to the container's own streams.
//!
//! Owns: their ends of the pipes, and the bytes that are on their way to and from them.
//! Called by: `shim/container.rs`, `shim/container/output.rs`.
//! Never: holds up the container for long: while a client does not read, the container's output
//! waits, and after [`PATIENCE`] the client is let go.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;
use tokio::time::Instant;

use super::super::super::wire::{Attach, Reply};
use super::super::log::Stream;
use super::super::server::Token;
use super::output::Outputs;

/// How long a client may leave its pipe full.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client's end of one output.
struct Sink {
    stream: Stream,
    file: File,
    /// What did not fit into the pipe yet, and since when.
    pending: Vec<u8>,
    since: Instant,
}

impl Sink {
    /// Whether the client still takes what it gets.
    fn push(&mut self, bytes: &[u8]) -> bool {
        if self.pending.is_empty() {
            self.since = Instant::now();
        }
        self.pending.extend_from_slice(bytes);
        loop {
            if self.pending.is_empty() {
                return true;
            }
            match self.file.write(&self.pending) {
                Ok(n) => {
                    self.pending.drain(..n);
                    self.since = Instant::now();
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

struct Client {
    token: Token,
    stdin: Option<File>,
    sinks: Vec<Sink>,
}

/// Everybody who is attached.
pub(super) struct Attached {
    clients: Vec<Client>,
    /// Read from a client and not yet taken by the container.
    input: Vec<u8>,
    stdin_once: bool,
}

impl Attached {
    pub(super) fn new(stdin_once: bool) -> Self {
        Attached { clients: Vec::new(), input: Vec::new(), stdin_once }
    }

    pub(super) fn add(&mut self, token: Token, wanted: &Attach, fds: Vec<OwnedFd>) -> Reply {
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| if wanted { fds.next().map(File::from) } else { None };
        let (stdin, stdout, stderr) =
            (next(wanted.stdin), next(wanted.stdout), next(wanted.stderr));
        for end in [&stdin, &stdout, &stderr].into_iter().flatten() {
            if let Err(e) = super::set_nonblocking(end) {
                return Reply::Failed(e.to_string());
            }
        }
        let sink = |stream, file: Option<File>| {
            file.map(|file| Sink { stream, file, pending: Vec::new(), since: Instant::now() })
        };
        let sinks = [sink(Stream::Stdout, stdout), sink(Stream::Stderr, stderr)];
        let sinks = sinks.into_iter().flatten().collect();
        self.clients.push(Client { token, stdin, sinks });
        Reply::Started
    }

    pub(super) fn remove(&mut self, token: Token, outputs: &mut Outputs) {
        let had_input = self.clients.iter().any(|c| c.token == token && c.stdin.is_some());
        self.clients.retain(|c| c.token != token);
        if had_input {
            self.input_ended(outputs);
        }
    }

    /// Hands output to everybody; returns those who went away.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> Vec<Token> {
        self.each_sink(|sink| sink.stream != stream || sink.push(bytes))
    }

    /// Tries again to hand over what waits; returns those who took too long.
    pub(super) fn flush(&mut self) -> Vec<Token> {
        self.each_sink(|sink| {
            sink.push(&[]) && (sink.pending.is_empty() || sink.since.elapsed() < PATIENCE)
        })
    }

    fn each_sink(&mut self, mut keep: impl FnMut(&mut Sink) -> bool) -> Vec<Token> {
        let mut gone = Vec::new();
        self.clients.retain_mut(|client| {
            let stays = client.sinks.iter_mut().all(&mut keep);
            if !stays {
                gone.push(client.token);
            }
            stays
        });
        gone
    }

    /// Whether a stream's next bytes have to wait for a client.
    pub(super) fn holds(&self, stream: Stream) -> bool {
        let mut sinks = self.clients.iter().flat_map(|c| &c.sinks);
        sinks.any(|s| s.stream == stream && !s.pending.is_empty())
    }

    /// The pipes that have to get room before anything moves on.
    pub(super) fn full_pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sinks = self.clients.iter().flat_map(|c| &c.sinks);
        sinks.filter(|s| !s.pending.is_empty()).map(|s| s.file.as_fd())
    }

    /// What to wait for so that input can move: room in the container's pipe, or a client's bytes.
    pub(super) fn input_interest<'a>(
        &'a self,
        outputs: &'a Outputs,
    ) -> Option<(BorrowedFd<'a>, PollFlags)> {
        let sink = outputs.stdin.as_ref()?;
        if !self.input.is_empty() {
            return Some((sink.as_fd(), PollFlags::POLLOUT));
        }
        let client = self.clients.iter().find_map(|c| c.stdin.as_ref())?;
        Some((client.as_fd(), PollFlags::POLLIN))
    }

    /// Moves input one step on.
    pub(super) fn move_input(&mut self, outputs: &mut Outputs) {
        let Some(sink) = &mut outputs.stdin else { return };
        if !self.input.is_empty() {
            match sink.write(&self.input) {
                Ok(n) => drop(self.input.drain(..n)),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    // The container has closed its input; there is nobody to tell.
                    self.input.clear();
                    outputs.stdin = None;
                }
            }
            return;
        }
        let Some(client) = self.clients.iter_mut().find(|c| c.stdin.is_some()) else { return };
        let mut bytes = [0u8; 4096];
        match client.stdin.as_mut().map(|f| f.read(&mut bytes)) {
            Some(Ok(n)) if n > 0 => self.input.extend_from_slice(&bytes[..n]),
            Some(Err(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => {
                client.stdin = None;
                self.input_ended(outputs);
            }
        }
    }

    fn input_ended(&self, outputs: &mut Outputs) {
        if self.stdin_once {
            outputs.stdin = None;
        }
    }
}

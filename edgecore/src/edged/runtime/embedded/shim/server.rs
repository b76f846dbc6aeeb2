//! The shim's end of its control socket.
//!
//! Owns: the listening socket, its connections, their buffers and their limits.
//! Called by: the loops of `shim/container.rs` and `shim/sandbox.rs`.
//! Never: waits: a peer that does not read its answer is let go.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::poll::{PollFd, PollFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::super::state::file;
use super::super::wire::{self, MAX_FDS, Reply, Request};
use super::{ShimError, io};

/// edgecore needs a connection to watch, and one for each exec and attach.
const MAX_CONNECTIONS: usize = 128;

/// What a connection has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    New,
    Watch,
    Exec { pid: i32, kill_on_hangup: bool },
    Attach,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
    role: Role,
}

/// Names a connection.
pub(super) type Token = u64;

#[derive(Debug)]
pub(super) struct Server {
    listener: UnixListener,
    connections: BTreeMap<Token, Connection>,
    next: Token,
}

/// What a connection brought.
#[derive(Debug)]
pub(super) enum Event {
    Request(Request, Vec<OwnedFd>),
    Closed(Role),
}

impl Server {
    /// Listens at the socket in `folder`. Its path may be longer than a socket's address, so this
    /// works from within the folder.
    pub(super) fn bind(folder: &Path) -> Result<Self, ShimError> {
        std::env::set_current_dir(folder).map_err(io("enter the state folder"))?;
        let _ = std::fs::remove_file(file::SOCKET);
        let listener = UnixListener::bind(file::SOCKET).map_err(io("bind the control socket"))?;
        std::fs::set_permissions(file::SOCKET, std::fs::Permissions::from_mode(0o600))
            .map_err(io("protect the control socket"))?;
        std::env::set_current_dir("/").map_err(io("leave the state folder"))?;
        listener.set_nonblocking(true).map_err(io("set up the control socket"))?;
        Ok(Server { listener, connections: BTreeMap::new(), next: 0 })
    }

    /// The listener first, then the connections in the order of their tokens.
    pub(super) fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let streams = self.connections.values();
        fds.extend(streams.map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN)));
        fds
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        self.connections.keys().copied().collect()
    }

    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() >= MAX_CONNECTIONS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let new = Connection { stream, buffer: Vec::new(), fds: Vec::new(), role: Role::New };
            self.connections.insert(self.next, new);
            self.next += 1;
        }
    }

    /// Reads what a ready connection has.
    pub(super) fn read(&mut self, token: Token) -> Vec<Event> {
        let Some(connection) = self.connections.get_mut(&token) else { return Vec::new() };
        let mut events = Vec::new();
        let mut open = connection.receive();
        loop {
            match wire::take(&mut connection.buffer) {
                Ok(Some(request)) => {
                    let fds = std::mem::take(&mut connection.fds);
                    events.push(Event::Request(request, fds));
                }
                Ok(None) => break,
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        if !open {
            events.push(Event::Closed(connection.role));
            self.connections.remove(&token);
        }
        events
    }

    pub(super) fn set_role(&mut self, token: Token, role: Role) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.role = role;
        }
    }

    /// Every connection with this role, where a role's details do not count.
    pub(super) fn with(&self, wanted: impl Fn(Role) -> bool) -> Vec<Token> {
        self.connections.iter().filter(|(_, c)| wanted(c.role)).map(|(t, _)| *t).collect()
    }

    pub(super) fn reply(&mut self, token: Token, reply: &Reply) {
        let sent = self.connections.get_mut(&token).is_none_or(|c| c.send(reply, None));
        if !sent {
            self.connections.remove(&token);
        }
    }

    pub(super) fn reply_with(&mut self, token: Token, reply: &Reply, fd: BorrowedFd<'_>) {
        let sent = self.connections.get_mut(&token).is_none_or(|c| c.send(reply, Some(fd)));
        if !sent {
            self.connections.remove(&token);
        }
    }

    pub(super) fn close(&mut self, token: Token) {
        self.connections.remove(&token);
    }
}

impl Connection {
    /// Whether the peer is still there.
    fn receive(&mut self) -> bool {
        loop {
            let mut bytes = [0u8; 8192];
            let mut fds = Vec::new();
            match receive_with_fds(self.stream.as_fd(), &mut bytes, &mut fds) {
                Ok(0) => return false,
                Ok(n) => {
                    if self.fds.len() + fds.len() > MAX_FDS
                        || self.buffer.len() + n > wire::MAX_FRAME + 8192
                    {
                        return false;
                    }
                    self.buffer.extend_from_slice(&bytes[..n]);
                    self.fds.append(&mut fds);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Replies are short and sockets have room for them; a peer for whom that is not so is gone.
    fn send(&mut self, reply: &Reply, fd: Option<BorrowedFd<'_>>) -> bool {
        let Ok(bytes) = wire::encode(reply) else { return false };
        match fd {
            Some(fd) => {
                send_with_fds(self.stream.as_fd(), &bytes, &[fd]).is_ok_and(|n| n == bytes.len())
            }
            None => self.stream.write_all(&bytes).is_ok(),
        }
    }
}

/// One `recvmsg`, keeping the descriptors that come with the bytes.
pub(crate) fn receive_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(bytes)];
    let message = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    Ok(message.bytes)
}

/// One `sendmsg`.
pub(crate) fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

//! The master side of an exec's terminal, for tokio.
//!
//! Owns: the reading end, the writing end and the size of one terminal.
//! Called by: `exec.rs`.
//! Never: calls a terminal without users broken: that is its end of file.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

use super::super::TerminalSize;

/// The ends of a terminal. For tokio it is a pipe: readable, writable, not blocking.
pub(super) struct Terminal {
    pub(super) writer: pipe::Sender,
    pub(super) reader: Reader,
    pub(super) size: Size,
}

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Terminal {
            writer: pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?,
            reader: Reader(pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?),
            size: Size(master),
        })
    }
}

/// Sets the terminal's size.
pub(super) struct Size(OwnedFd);

impl Size {
    pub(super) fn set(&self, size: TerminalSize) {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        // The process may have ended; its terminal then has no size.
        let _ = tcsetwinsize(&self.0, size);
    }
}

/// What the process prints.
pub(super) struct Reader(pipe::Receiver);

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = rustix::io::Errno::IO.raw_os_error();
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            Poll::Ready(Err(e)) if e.raw_os_error() == Some(end) => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

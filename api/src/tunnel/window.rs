//! How much one connection in the tunnel may have on its way.
//!
//! The original has no such limit: a reader that stands still makes its cloud hold whatever comes,
//! or stops all other connections of the node. Both our ends say in the handshake that they know
//! better ([`WINDOWS`](super::WINDOWS)); then a sender stops after [`WINDOW`] bytes until the
//! receiver has said, in frames of kind [`FrameKind::Credit`], how many it has passed on.
//!
//! Owns: that rule, and what was received and not passed on.
//! Called by: both ends of the tunnel, for each connection.
//! Never: holds more than its limit.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, FrameKind};

/// What may be on its way in one direction of a connection.
pub const WINDOW: usize = 256 << 10;
/// What is held for a connection whose sender knows no window.
pub const WITHOUT_WINDOW: usize = 4 << 20;
/// Less is not worth a frame.
const WORTH_A_FRAME: usize = WINDOW / 4;

/// The sender sent more than the receiver can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} bytes are waiting to be read")]
pub struct Overrun {
    /// How much is held at most.
    pub limit: usize,
}

/// What was received for one connection and not passed on.
#[derive(Debug)]
pub struct Inbox {
    held: BytesMut,
    limit: usize,
    ended: bool,
    windows: bool,
    /// Passed on, and the sender does not know.
    owed: usize,
}

impl Inbox {
    /// An empty one; `windows` says whether the sender keeps to a window.
    pub fn new(windows: bool) -> Self {
        let limit = if windows { WINDOW } else { WITHOUT_WINDOW };
        Self { held: BytesMut::new(), limit, ended: false, windows, owed: 0 }
    }

    /// Data has come.
    ///
    /// # Errors
    /// When it is more than can be held: the connection is to be ended.
    pub fn push(&mut self, data: &[u8]) -> Result<(), Overrun> {
        if self.ended {
            return Ok(());
        }
        if self.held.len() + data.len() > self.limit {
            return Err(Overrun { limit: self.limit });
        }
        self.held.extend_from_slice(data);
        Ok(())
    }

    /// No more will come.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// All that is held; `None` if nothing is held and more may come; empty at the end.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.held.is_empty() && !self.ended {
            return None;
        }
        Some(std::mem::take(&mut self.held).freeze())
    }

    /// So much of what was taken has been passed on. Returns what the sender is to be told, if it
    /// is worth a frame.
    pub fn passed_on(&mut self, bytes: usize) -> Option<u64> {
        if !self.windows {
            return None;
        }
        self.owed += bytes;
        (self.owed >= WORTH_A_FRAME).then(|| std::mem::take(&mut self.owed) as u64)
    }
}

/// A frame that lets the peer send so many more bytes.
pub fn credit(connect_id: u64, bytes: u64) -> Frame {
    let data = Bytes::copy_from_slice(&bytes.to_be_bytes());
    Frame { connect_id, kind: FrameKind::Credit, data }
}

/// How many more bytes a frame lets this side send; `None` if it makes no sense.
pub fn credited(frame: &Frame) -> Option<usize> {
    let bytes: [u8; 8] = (*frame.data).try_into().ok()?;
    usize::try_from(u64::from_be_bytes(bytes)).ok().filter(|n| *n <= WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_keeps_to_its_window_is_never_cut_off() {
        let mut inbox = Inbox::new(true);
        let mut may_send = WINDOW;
        for _ in 0..50 {
            let piece = vec![7; may_send.min(10_000)];
            may_send -= piece.len();
            inbox.push(&piece).unwrap();
            if may_send == 0 {
                let taken = inbox.take().unwrap();
                assert_eq!(taken.len(), WINDOW);
                let frame = credit(3, inbox.passed_on(taken.len()).unwrap());
                may_send += credited(&frame).unwrap();
            }
        }
    }

    #[test]
    fn a_sender_without_a_window_is_stopped_at_the_limit() {
        let mut inbox = Inbox::new(false);
        inbox.push(&vec![0; WITHOUT_WINDOW]).unwrap();
        assert_eq!(inbox.push(b"x"), Err(Overrun { limit: WITHOUT_WINDOW }));
        assert_eq!(inbox.passed_on(WITHOUT_WINDOW), None, "it would not understand");
    }

    #[test]
    fn what_came_before_the_end_is_still_passed_on() {
        let mut inbox = Inbox::new(true);
        assert_eq!(inbox.take(), None);
        inbox.push(b"last words").unwrap();
        inbox.end();
        assert_eq!(inbox.take().unwrap(), "last words");
        assert_eq!(inbox.take().unwrap(), "", "the end");
    }

    #[test]
    fn credit_beyond_a_window_makes_no_sense() {
        assert_eq!(credited(&credit(1, WINDOW as u64)), Some(WINDOW));
        assert_eq!(credited(&credit(1, WINDOW as u64 + 1)), None);
        assert_eq!(credited(&Frame { data: Bytes::new(), ..credit(1, 1) }), None);
    }
}

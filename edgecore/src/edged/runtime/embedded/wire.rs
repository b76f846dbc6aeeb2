//! What edgecore and a shim say to one another over the shim's socket.
//!
//! Owns: requests, replies, their framing and its limits; pure.
//! Called by: `client.rs` on edgecore's side, `shim/server.rs` on the other.
//! Never: does I/O.
//!
//! A connection carries one request. Streams of an exec or attach travel as file descriptors next
//! to it, so that their bytes never pass through a frame.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A command line is the longest thing that is said.
pub(crate) const MAX_FRAME: usize = 512 * 1024;

/// At most standard input, output and error.
pub(crate) const MAX_FDS: usize = 3;

/// Asked of a shim.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Answered with [`Reply::Ended`] once the container has ended.
    Watch,
    /// Send a signal to the container's first process.
    Signal(i32),
    /// End a sandbox.
    Stop,
    /// Run a command in the container.
    Exec(Exec),
    /// Connect to the container's own streams.
    Attach(Attach),
    /// The new size of the container's own terminal, or of the exec's on this connection.
    Resize { width: u16, height: u16 },
    /// Write to a new log file.
    ReopenLog,
}

/// A command, and which of the descriptors that come along are its streams, in this order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exec {
    pub(crate) command: Vec<String>,
    /// Its terminal's master is sent back with [`Reply::Started`]; no descriptors come along then.
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// End it by force when the connection closes.
    pub(crate) kill_on_hangup: bool,
}

/// Which descriptors come along, in this order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attach {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// A shim's answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Done.
    Ok,
    /// An exec runs; its terminal's master comes along if it has one.
    Started,
    /// It ended with this code.
    Ended(i32),
    /// It could not be done.
    Failed(String),
}

/// Why a frame was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is longer than the limit of {MAX_FRAME}")]
    TooLong(usize),
    #[error("a frame does not hold what was expected: {0}")]
    Malformed(#[from] serde_json::Error),
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let length = bytes.len() - 4;
    let Some(prefix) = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME) else {
        return Err(FrameError::TooLong(length));
    };
    bytes[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(bytes)
}

/// Takes the first whole frame out of `buffer`; `None` if there is none yet.
pub(crate) fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = buffer.get(4..4 + length) else { return Ok(None) };
    let value = serde_json::from_slice(body)?;
    buffer.drain(..4 + length);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_arrive_whole_however_they_are_cut() {
        let exec = Request::Exec(Exec {
            command: vec!["sh".into(), "-c".into(), "exit 3".into()],
            tty: false,
            stdin: false,
            stdout: true,
            stderr: true,
            kill_on_hangup: true,
        });
        let mut bytes = encode(&exec).unwrap();
        bytes.extend(encode(&Request::Signal(15)).unwrap());
        let mut buffer = Vec::new();
        let mut seen: Vec<Request> = Vec::new();
        for byte in bytes {
            buffer.push(byte);
            seen.extend(take(&mut buffer).unwrap());
        }
        assert_eq!(seen, [exec, Request::Signal(15)]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
        let mut buffer = u32::MAX.to_be_bytes().to_vec();
        assert!(matches!(take::<Request>(&mut buffer), Err(FrameError::TooLong(_))));
        let huge = Request::Exec(Exec {
            command: vec!["x".repeat(MAX_FRAME)],
            tty: false,
            stdin: false,
            stdout: false,
            stderr: false,
            kill_on_hangup: false,
        });
        assert!(matches!(encode(&huge), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(mut bytes: Vec<u8>) {
            let before = bytes.len();
            if let Ok(Some(_)) = take::<Request>(&mut bytes) {
                prop_assert!(bytes.len() < before);
            }
        }
    }
}

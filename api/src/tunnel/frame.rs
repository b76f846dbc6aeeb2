//! One frame of the tunnel: a connection's id, a type, data.
//!
//! Owns: the layout, the limit.
//! Called by: both ends of the tunnel, once per WebSocket message.
//! Never: cuts data silently, as the original does above 1 MiB; that is an error here.

use bytes::{BufMut, Bytes, BytesMut};

/// No frame carries more data. The original cuts what is longer.
pub const MAX_DATA: usize = 1 << 20;

/// A uvarint of 64 bits has at most this many bytes.
const MAX_UVARINT: usize = 10;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which connection in the tunnel; 0 is the tunnel itself.
    pub connect_id: u64,
    /// What it is.
    pub kind: FrameKind,
    /// Any bytes.
    pub data: Bytes,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Follow a container's log.
    LogsConnect,
    /// Run a command in a container.
    ExecConnect,
    /// Read metrics.
    MetricsConnect,
    /// Bytes of a connection.
    Data,
    /// The edge is done with the connection.
    RemoveConnect,
    /// The cloud is done with the connection; on id 0, why it refuses the tunnel.
    CloseConnect,
    /// Attach to a container.
    AttachConnect,
    /// The receiver can hold more; ours alone, see [`window`](super::window).
    Credit,
    /// Unknown here; the original lets it pass.
    Unknown(u64),
}

impl FrameKind {
    const KNOWN: [Self; 8] = [
        Self::LogsConnect,
        Self::ExecConnect,
        Self::MetricsConnect,
        Self::Data,
        Self::RemoveConnect,
        Self::CloseConnect,
        Self::AttachConnect,
        Self::Credit,
    ];

    fn number(self) -> u64 {
        match self {
            Self::LogsConnect => 0,
            Self::ExecConnect => 1,
            Self::MetricsConnect => 2,
            Self::Data => 3,
            Self::RemoveConnect => 4,
            Self::CloseConnect => 5,
            Self::AttachConnect => 6,
            // Far from what the original may come to use.
            Self::Credit => 107,
            Self::Unknown(number) => number,
        }
    }
}

impl From<u64> for FrameKind {
    fn from(number: u64) -> Self {
        let known = Self::KNOWN.into_iter().find(|kind| kind.number() == number);
        known.unwrap_or(Self::Unknown(number))
    }
}

/// Why bytes are not a frame, or data does not fit into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Not a byte.
    #[error("the frame is empty")]
    Empty,
    /// Ends inside the connection's id.
    #[error("the frame ends inside its connection id")]
    IdCutShort,
    /// Ends before or inside the type.
    #[error("the frame ends before its type is known")]
    TypeCutShort,
    /// A number above 64 bits.
    #[error("a number of the frame does not fit into 64 bits")]
    Overflow,
    /// Above [`MAX_DATA`].
    #[error("a frame with {len} bytes of data exceeds the limit of {MAX_DATA}")]
    TooLarge {
        /// How many.
        len: usize,
    },
}

impl Frame {
    /// A frame with data.
    pub fn data(connect_id: u64, data: Bytes) -> Self {
        Self { connect_id, kind: FrameKind::Data, data }
    }

    /// Reads the payload of one WebSocket message.
    ///
    /// # Errors
    /// When it is cut short, a number is too large, or there is more data than a frame may have.
    pub fn decode(mut bytes: Bytes) -> Result<Self, FrameError> {
        if bytes.is_empty() {
            return Err(FrameError::Empty);
        }
        let (connect_id, used) = uvarint(&bytes)?.ok_or(FrameError::IdCutShort)?;
        let (kind, also_used) = uvarint(&bytes[used..])?.ok_or(FrameError::TypeCutShort)?;
        let data = bytes.split_off(used + also_used);
        if data.len() > MAX_DATA {
            return Err(FrameError::TooLarge { len: data.len() });
        }
        Ok(Self { connect_id, kind: kind.into(), data })
    }

    /// Writes the payload of one WebSocket message (a TEXT one, although it need not be UTF-8).
    ///
    /// # Errors
    /// When there is more data than a frame may have.
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let len = self.data.len();
        if len > MAX_DATA {
            return Err(FrameError::TooLarge { len });
        }
        let mut out = BytesMut::with_capacity(2 * MAX_UVARINT + len);
        put_uvarint(&mut out, self.connect_id);
        put_uvarint(&mut out, self.kind.number());
        out.extend_from_slice(&self.data);
        Ok(out.freeze())
    }
}

/// Reads unsigned LEB128 as Go's `binary.ReadUvarint` does; `None` if it is cut short.
fn uvarint(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let last_and_too_large = i == MAX_UVARINT - 1 && byte > 1;
        if i >= MAX_UVARINT || last_and_too_large {
            return Err(FrameError::Overflow);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok(Some((value, i + 1)));
        }
    }
    Ok(None)
}

fn put_uvarint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_cut_anywhere_is_an_error_or_shorter_data() {
        let whole = Frame::data(300, Bytes::from_static(b"abc")).encode().unwrap();
        assert_eq!(Frame::decode(whole.slice(..1)), Err(FrameError::IdCutShort));
        assert_eq!(Frame::decode(whole.slice(..2)), Err(FrameError::TypeCutShort));
        assert_eq!(Frame::decode(whole.slice(..4)).unwrap().data, "a");
    }

    #[test]
    fn more_data_than_a_frame_may_have_is_refused_in_both_directions() {
        let full = Frame::data(1, Bytes::from(vec![0; MAX_DATA]));
        let mut bytes = full.encode().unwrap().to_vec();
        assert_eq!(Frame::decode(bytes.clone().into()), Ok(full));
        bytes.push(0);
        let error = FrameError::TooLarge { len: MAX_DATA + 1 };
        assert_eq!(Frame::decode(bytes.into()), Err(error.clone()));
        let long = Frame::data(1, Bytes::from(vec![0; MAX_DATA + 1]));
        assert_eq!(long.encode(), Err(error));
    }

    #[test]
    fn numbers_longer_than_they_need_be_are_read_as_go_reads_them() {
        let frame = Frame::decode(Bytes::from_static(&[0x81, 0x80, 0x00, 0x03])).unwrap();
        assert_eq!((frame.connect_id, frame.kind), (1, FrameKind::Data));
    }
}

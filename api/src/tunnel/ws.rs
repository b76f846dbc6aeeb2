//! WebSocket frames whose text is never checked for UTF-8: the tunnel's text messages hold any
//! bytes.
//!
//! Owns: the layout of RFC 6455 after the handshake, the limits of a message.
//! Called by: both ends of the tunnel, which read into [`Incoming::buffer`] and write what
//! [`encode`] makes.
//! Never: reads or writes a socket, or makes room for a length before its bytes have come.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::MAX_DATA;

/// The largest message: a frame of the tunnel with all the data that it may have.
pub const MAX_MESSAGE: usize = MAX_DATA + 32;
/// What a ping, a pong or a close may carry.
const MAX_CONTROL: usize = 125;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Dialled: masks what it sends, and accepts nothing masked.
    Client,
    /// Was dialled: accepts only what is masked.
    Server,
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text message, which all of the tunnel's are.
    Text,
    /// To be answered with a pong.
    Ping,
    /// The answer.
    Pong,
    /// The end.
    Close,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// Something has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole message.
    Message(Bytes),
    /// To be answered with a pong of the same data.
    Ping(Bytes),
    /// The peer is alive.
    Pong,
    /// The peer ends the connection; its reason, if it gave one.
    Close(String),
}

/// Why the bytes are no WebSocket frames of the tunnel. The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WsError {
    /// A bit is set that needs an extension.
    #[error("a WebSocket frame uses an extension that was not agreed on")]
    Reserved,
    /// A code without meaning, or a binary message.
    #[error("a WebSocket frame of kind {0} does not belong into the tunnel")]
    Kind(u8),
    /// Masked by a server, or not masked by a client.
    #[error("a WebSocket frame is masked by the wrong side")]
    Mask,
    /// A control frame in pieces, or too long.
    #[error("a WebSocket control frame is in pieces or longer than {MAX_CONTROL} bytes")]
    Control,
    /// A message began inside another, or went on without having begun.
    #[error("the pieces of a WebSocket message are out of order")]
    Pieces,
    /// Longer than [`MAX_MESSAGE`].
    #[error("a WebSocket message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
}

/// What has been received and not been taken yet.
#[derive(Debug)]
pub struct Incoming {
    role: Role,
    buffer: BytesMut,
    message: BytesMut,
    in_message: bool,
}

/// The first bytes of a frame.
struct Head {
    fin: bool,
    code: u8,
    mask: Option<[u8; 4]>,
    head: usize,
    body: usize,
}

impl Incoming {
    /// Nothing received.
    pub fn new(role: Role) -> Self {
        Self { role, buffer: BytesMut::new(), message: BytesMut::new(), in_message: false }
    }

    /// Where received bytes are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Takes the next event out of what was received; `None` if more bytes are needed.
    ///
    /// # Errors
    /// When the peer breaks the protocol or a limit.
    pub fn next_event(&mut self) -> Result<Option<Event>, WsError> {
        loop {
            let Some(head) = self.head()? else { return Ok(None) };
            if self.buffer.len() < head.head + head.body {
                return Ok(None);
            }
            let mut body = self.buffer.split_to(head.head + head.body).split_off(head.head);
            if let Some(mask) = head.mask {
                apply(mask, &mut body);
            }
            if let Some(event) = self.frame(&head, body)? {
                return Ok(Some(event));
            }
        }
    }

    fn frame(&mut self, head: &Head, body: BytesMut) -> Result<Option<Event>, WsError> {
        match head.code {
            0 if self.in_message => {}
            1 if !self.in_message => {}
            0 | 1 => return Err(WsError::Pieces),
            8 => {
                let reason = String::from_utf8_lossy(body.get(2..).unwrap_or_default());
                return Ok(Some(Event::Close(reason.into_owned())));
            }
            9 => return Ok(Some(Event::Ping(body.freeze()))),
            10 => return Ok(Some(Event::Pong)),
            code => return Err(WsError::Kind(code)),
        }
        if head.code == 1 && head.fin {
            return Ok(Some(Event::Message(body.freeze())));
        }
        if self.message.len() + body.len() > MAX_MESSAGE {
            return Err(WsError::TooLong);
        }
        self.message.extend_from_slice(&body);
        self.in_message = !head.fin;
        Ok(head.fin.then(|| Event::Message(std::mem::take(&mut self.message).freeze())))
    }

    fn head(&self) -> Result<Option<Head>, WsError> {
        let &[first, second, ..] = &self.buffer[..] else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(WsError::Reserved);
        }
        let (fin, code) = (first & 0x80 != 0, first & 0x0f);
        let masked = second & 0x80 != 0;
        if masked != (self.role == Role::Server) {
            return Err(WsError::Mask);
        }
        let short = usize::from(second & 0x7f);
        if code >= 8 && (!fin || short > MAX_CONTROL) {
            return Err(WsError::Control);
        }
        let (body, after) = match short {
            126 => {
                let Some(bytes) = self.buffer[2..].first_chunk() else { return Ok(None) };
                (usize::from(u16::from_be_bytes(*bytes)), 4)
            }
            127 => {
                let Some(bytes) = self.buffer[2..].first_chunk() else { return Ok(None) };
                let long = u64::from_be_bytes(*bytes);
                (usize::try_from(long).map_err(|_| WsError::TooLong)?, 10)
            }
            short => (short, 2),
        };
        if body > MAX_MESSAGE {
            return Err(WsError::TooLong);
        }
        if !masked {
            return Ok(Some(Head { fin, code, mask: None, head: after, body }));
        }
        let Some(mask) = self.buffer.get(after..).and_then(|b| b.first_chunk()) else {
            return Ok(None);
        };
        Ok(Some(Head { fin, code, mask: Some(*mask), head: after + 4, body }))
    }
}

fn apply(mask: [u8; 4], body: &mut [u8]) {
    for (byte, mask) in body.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends one frame. A client gives a `mask` of four random bytes, a server none.
pub fn encode(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>, out: &mut BytesMut) {
    out.reserve(payload.len() + 14);
    out.put_u8(0x80 | kind.code());
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        short @ ..126 => out.put_u8(masked | short as u8),
        middle @ ..65_536 => {
            out.put_u8(masked | 126);
            out.put_u16(middle as u16);
        }
        long => {
            out.put_u8(masked | 127);
            out.put_u64(long as u64);
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
    let at = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply(mask, &mut out[at..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn events(role: Role, bytes: &[u8], step: usize) -> Result<Vec<Event>, WsError> {
        let mut incoming = Incoming::new(role);
        let mut all = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            incoming.buffer().extend_from_slice(piece);
            while let Some(event) = incoming.next_event()? {
                all.push(event);
            }
        }
        Ok(all)
    }

    #[test]
    fn the_examples_of_rfc_6455_are_read() {
        // Section 5.7.
        let unmasked = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let hello = vec![Event::Message(Bytes::from_static(b"Hello"))];
        assert_eq!(events(Role::Client, &unmasked, 1).unwrap(), hello);
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(events(Role::Server, &masked, 2).unwrap(), hello);
        let pieces = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        assert_eq!(events(Role::Client, &pieces, 9).unwrap(), hello);
        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let wanted = vec![Event::Ping(Bytes::from_static(b"Hello"))];
        assert_eq!(events(Role::Client, &ping, 7).unwrap(), wanted);
    }

    #[test]
    fn text_that_is_not_utf_8_passes() {
        let mut bytes = BytesMut::new();
        encode(Kind::Text, &[0xff, 0xfe, 0x00], None, &mut bytes);
        let wanted = vec![Event::Message(Bytes::from_static(&[0xff, 0xfe, 0x00]))];
        assert_eq!(events(Role::Client, &bytes, 1).unwrap(), wanted);
    }

    #[test]
    fn what_breaks_the_protocol_or_a_limit_is_refused_at_once() {
        let huge = [0x81, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0];
        for (role, bytes, wanted) in [
            (Role::Server, &huge[..], WsError::TooLong),
            (Role::Server, &[0x81, 0x05][..], WsError::Mask),
            (Role::Client, &[0x81, 0x85][..], WsError::Mask),
            (Role::Client, &[0xc1, 0x05][..], WsError::Reserved),
            (Role::Client, &[0x82, 0x00][..], WsError::Kind(2)),
            (Role::Client, &[0x83, 0x00][..], WsError::Kind(3)),
            (Role::Client, &[0x09, 0x00][..], WsError::Control),
            (Role::Client, &[0x89, 0x7e][..], WsError::Control),
            (Role::Client, &[0x80, 0x00][..], WsError::Pieces),
            (Role::Client, &[0x01, 0x00, 0x81, 0x00][..], WsError::Pieces),
        ] {
            assert_eq!(events(role, bytes, 64), Err(wanted), "{bytes:x?}");
        }
        // Many pieces do not get past the limit of one message.
        let mut pieces = vec![0x01, 0x00];
        for _ in 0..17 {
            pieces.extend([0x00, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
            pieces.extend(vec![0; 65_536]);
        }
        assert_eq!(events(Role::Client, &pieces, 1 << 20), Err(WsError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            payload in proptest::collection::vec(any::<u8>(), 0..70_000),
            step in 1usize..5000,
            client: bool,
        ) {
            let mut bytes = BytesMut::new();
            encode(Kind::Text, &payload, client.then_some(MASK), &mut bytes);
            encode(Kind::Close, b"\x03\xe8bye", client.then_some(MASK), &mut bytes);
            let role = if client { Role::Server } else { Role::Client };
            let wanted = vec![Event::Message(payload.into()), Event::Close("bye".to_owned())];
            prop_assert_eq!(events(role, &bytes, step).unwrap(), wanted);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, client: bool) {
            let role = if client { Role::Client } else { Role::Server };
            let _ = events(role, &bytes, 3);
        }
    }
}

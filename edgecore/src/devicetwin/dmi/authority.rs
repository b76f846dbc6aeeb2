//! Lets a mapper call a socket by its path.
//!
//! gRPC in Go, C++ and Python names the path that it dialled as the host of a request (`:authority`),
//! with its slashes or with `%2F` in their place. That is no name of a host, and the HTTP/2 of `h2`
//! ends the request with a protocol error. So in this one field a `/` becomes a `.` and a `%` a `-`
//! before `h2` sees it; nobody reads the field. Each pair has codes of one length, in HPACK's Huffman
//! code too, so nothing moves, and the tables of both sides stay alike (RFC 9113, RFC 7541).
//!
//! Owns: what a client has sent of a header that is not complete.
//! Called by: `mod.rs` and the sample mapper, for every connection.
//! Never: judges. What it does not understand goes on as it came, and `h2` says what is wrong.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What a client sends before its first frame.
const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
/// The longest frame that a server takes unless it says otherwise, which ours does not.
const FRAME: usize = 16 << 10;
const READ: usize = 4 << 10;

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A connection of a client that may name a path as its host.
#[derive(Debug)]
pub(crate) struct AnyAuthority<S> {
    inner: S,
    frames: Frames,
}

impl<S> AnyAuthority<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, frames: Frames::default() }
    }
}

/// What has come from a client, cut into frames. Pure.
#[derive(Debug)]
struct Frames {
    /// At most a frame and a read.
    bytes: BytesMut,
    /// So many of them may go on.
    ready: usize,
    /// So many go on unseen, here or not yet.
    unseen: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), ready: 0, unseen: PREFACE }
    }
}

impl Frames {
    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        loop {
            let (_, rest) = self.bytes.split_at_mut(self.ready);
            if self.unseen > 0 {
                let here = self.unseen.min(rest.len());
                self.ready += here;
                self.unseen -= here;
                if self.unseen > 0 {
                    return;
                }
                continue;
            }
            let Some((&mut [a, b, c, kind, flags, ..], body)) =
                rest.split_first_chunk_mut::<FRAME_HEAD>()
            else {
                return;
            };
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            // A header that takes several frames is none that names a path.
            if kind != HEADERS || flags & END_HEADERS == 0 || length > FRAME {
                self.unseen = FRAME_HEAD + length;
                continue;
            }
            let Some(body) = body.get_mut(..length) else { return };
            soften(flags, body);
            self.ready += FRAME_HEAD + length;
        }
    }

    /// The client is done: whatever is left is all there is.
    fn end(&mut self) {
        self.ready = self.bytes.len();
    }

    fn pop(&mut self, to: &mut ReadBuf<'_>) {
        let n = self.ready.min(to.remaining());
        to.put_slice(&self.bytes[..n]);
        self.bytes.advance(n);
        self.ready -= n;
    }
}

/// Makes a name of a host of the authority in the body of a frame with headers.
fn soften(flags: u8, body: &mut [u8]) {
    let (mut from, mut to) = (0, body.len());
    if flags & PADDED != 0 {
        from += 1;
        to = to.saturating_sub(body.first().copied().unwrap_or(0).into());
    }
    if flags & PRIORITY != 0 {
        from += 5;
    }
    let Some(block) = body.get_mut(from..to) else { return };
    let mut at = 0;
    while let Some(field) = next(block, &mut at) {
        let Some(Value { range, coded }) = field else { continue };
        match (block.get_mut(range), coded) {
            (Some(value), true) => soften_coded(value),
            (Some(value), false) => value.iter_mut().for_each(|byte| match byte {
                b'/' => *byte = b'.',
                b'%' => *byte = b'-',
                _ => {}
            }),
            (None, _) => return,
        }
    }
}

/// A string in a block of headers.
struct Value {
    range: Range<usize>,
    /// In Huffman's code.
    coded: bool,
}

/// Steps over a field: `None` at the end, or where it cannot be read; its value if it is the authority.
fn next(block: &[u8], at: &mut usize) -> Option<Option<Value>> {
    /// The authority in the table that everybody has.
    const AUTHORITY: usize = 1;
    let first = *block.get(*at)?;
    let name = match first {
        // A field of a table, and the size of the table, have no value of their own.
        0x80.. => return integer(block, at, 7).map(|_| None),
        0x40.. => integer(block, at, 6)?,
        0x20.. => return integer(block, at, 5).map(|_| None),
        _ => integer(block, at, 4)?,
    };
    let is_authority = match name {
        0 => {
            let Value { range, coded } = string(block, at)?;
            !coded && block.get(range)? == b":authority"
        }
        known => known == AUTHORITY,
    };
    let value = string(block, at)?;
    Some(is_authority.then_some(value))
}

fn string(block: &[u8], at: &mut usize) -> Option<Value> {
    let coded = block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let range = *at..at.checked_add(length).filter(|end| *end <= block.len())?;
    *at = range.end;
    Some(Value { range, coded })
}

/// A number that begins in the last `bits` of a byte.
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let full = (1usize << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & full;
    *at += 1;
    if value < full {
        return Some(value);
    }
    // Nothing in a frame takes more.
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// How many symbols have a code of how many bits in HPACK's Huffman code. The codes are numbered from
/// the shortest on, so this says where each begins and ends.
const CODES: [(u32, u32); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 4),
];

fn soften_coded(value: &mut [u8]) {
    let bits = value.len() * 8;
    let mut at = 0;
    'symbols: while at < bits {
        let (mut code, mut first, mut taken) = (0u32, 0u32, 0u32);
        for (length, count) in CODES {
            first <<= length - taken;
            for _ in taken..length {
                if at == bits {
                    return;
                }
                code = code << 1 | u32::from(value[at / 8] >> (7 - at % 8) & 1);
                at += 1;
            }
            taken = length;
            if code < first + count {
                // `%` to `-`, `/` to `.`; all four have six bits.
                let other = match (length, code) {
                    (6, 0b01_0101) => 0b01_0110u8,
                    (6, 0b01_1000) => 0b01_0111,
                    _ => continue 'symbols,
                };
                for n in 0..6 {
                    let (place, bit) = (at - 1 - n, other >> n & 1);
                    let shift = 7 - place % 8;
                    value[place / 8] = value[place / 8] & !(1 << shift) | bit << shift;
                }
                continue 'symbols;
            }
            first += count;
        }
        return;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.frames.ready == 0 {
            let mut space = [0; READ];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                this.frames.end();
                break;
            }
            this.frames.push(read.filled());
        }
        this.frames.pop(to);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S: Connected> Connected for AnyAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A field `:authority`, as encoders write it, and as it is handed on; the last is no authority.
    const FIELDS: [(&str, &str, &str); 6] = [
        (
            "Go: %2Fetc%2Fkubeedge%2Fdmi.sock",
            "419454584a922a2c3d6d8ca59262aa2c325265d07275",
            "419458584a922c2c3d6d8ca59262ac2c325265d07275",
        ),
        (
            "Go, older: /etc/kubeedge/dmi.sock",
            "419060a9231d6d8ca59262b125265d07275f",
            "41905ca922fd6d8ca59262af25265d07275f",
        ),
        (
            "C++: %2Fa%2Fb, with its name and without Huffman's code",
            "400a3a617574686f7269747908253246612532463b",
            "400a3a617574686f72697479082d3246612d32463b",
        ),
        (
            "after a size of the table, a field of it and one not to be kept",
            "3fe11f8310012f",
            "3fe11f8310012f",
        ),
        ("localhost", "4186a0e41d139d09", "4186a0e41d139d09"),
        ("the path of a call: /a/b", "44042f612f62", "44042f612f62"),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        hex.as_bytes().chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(body);
        frame
    }

    fn handed_on(parts: &[&[u8]]) -> Vec<u8> {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        let mut take = |frames: &mut Frames| {
            let mut space = vec![0; frames.ready];
            let mut to = ReadBuf::new(&mut space);
            frames.pop(&mut to);
            out.extend_from_slice(to.filled());
        };
        for part in parts {
            frames.push(part);
            take(&mut frames);
        }
        frames.end();
        take(&mut frames);
        out
    }

    /// A preface, settings, and a request with this block, in a frame of each form.
    fn requests(block: &[u8]) -> Vec<u8> {
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        all.extend(frame(4, 0, &[]));
        all.extend(frame(HEADERS, END_HEADERS, block));
        all.extend(frame(0, 1, b"\x41\x01/"));
        let padded = [&[2][..], &[0; 5], block, b"%/"].concat();
        all.extend(frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded));
        all
    }

    #[test]
    fn a_path_becomes_a_name_and_all_else_goes_on_as_it_came() {
        for (what, from, to) in FIELDS {
            let (from, to) = (requests(&bytes(from)), requests(&bytes(to)));
            assert_eq!(handed_on(&[&from]), to, "{what}");
            let single: Vec<&[u8]> = from.chunks(1).collect();
            assert_eq!(handed_on(&single), to, "{what}, byte by byte");
            for cut in 0..from.len() {
                let (a, b) = from.split_at(cut);
                assert_eq!(handed_on(&[a, b]), to, "{what}, cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn what_breaks_off_is_handed_on_up_to_its_end() {
        let whole = requests(&bytes(FIELDS[0].1));
        for cut in 0..whole.len() {
            let mut all = Vec::new();
            AnyAuthority::new(&whole[..cut]).read_to_end(&mut all).await.unwrap();
            assert_eq!(all.len(), cut);
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut frames = Frames::default();
        frames.push(&[0; PREFACE]);
        frames.push(&[0xff, 0xff, 0xff, HEADERS, END_HEADERS, 0, 0, 0, 1]);
        for _ in 0..100 {
            frames.push(&[0x41; 1000]);
            assert_eq!(frames.ready, frames.bytes.len());
            frames.pop(&mut ReadBuf::new(&mut [0; 2000]));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_added_whatever_comes(
            block in prop::collection::vec(any::<u8>(), 0..200),
            flags: u8,
            cut in 0usize..200,
        ) {
            let mut all = vec![0; PREFACE];
            all.extend(frame(HEADERS, flags | END_HEADERS, &block));
            let (a, b) = all.split_at(cut.min(all.len()));
            let out = handed_on(&[a, b]);
            prop_assert_eq!(out.len(), all.len());
            prop_assert_eq!(&out[..PREFACE + FRAME_HEAD], &all[..PREFACE + FRAME_HEAD]);
            // Twice is once.
            prop_assert_eq!(handed_on(&[&out]), out);
        }
    }
}

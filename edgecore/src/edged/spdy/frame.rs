//! Frames of SPDY/3.1, as far as Kubernetes uses them.
//!
//! Owns: their layout and their compression, the limits of both.
//! Called by: whoever has a connection of it, server or client.
//! Never: reads or writes a socket, or unpacks more headers than a stream may have.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;

/// No frame is longer; clients send pieces of at most 32 KiB.
const MAX_FRAME: usize = 256 << 10;
/// The headers of one stream, unpacked.
const MAX_HEADERS: usize = 8 << 10;
const VERSION: u16 = 3;
const FIN: u8 = 1;

/// A frame that has come in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A new stream.
    Open {
        /// Odd: the client's.
        id: u32,
        /// Names in lower case.
        headers: Vec<(String, String)>,
        /// The other side will send nothing on it.
        fin: bool,
    },
    /// Bytes of a stream.
    Data {
        /// Which.
        id: u32,
        /// The bytes.
        data: Bytes,
        /// The other side will send no more.
        fin: bool,
    },
    /// The other side gives a stream up.
    Reset(u32),
    /// To be answered with the same.
    Ping(u32),
    /// The other side will open no more streams.
    GoAway,
}

/// Why bytes are no frames. The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a SPDY frame is longer than {MAX_FRAME} bytes")]
    TooLong,
    #[error("a SPDY frame of version {0} was sent; only version {VERSION} is spoken")]
    Version(u16),
    #[error("a SPDY frame is cut short")]
    Short,
    #[error(
        "the headers of a SPDY stream cannot be unpacked, or are longer than {MAX_HEADERS} bytes"
    )]
    Headers,
}

/// Takes frames out of what was received.
pub(crate) struct Reader {
    buffer: BytesMut,
    unpack: Decompress,
    dictionary: Vec<u8>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), unpack: Decompress::new(true), dictionary: dictionary() }
    }

    /// Where received bytes are appended.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame; `None` if more bytes are needed.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Received>, FrameError> {
        loop {
            let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
            let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let flags = head[4];
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            if length > MAX_FRAME {
                return Err(FrameError::TooLong);
            }
            if self.buffer.len() < 8 + length {
                return Ok(None);
            }
            let body = self.buffer.split_to(8 + length).split_off(8).freeze();
            let fin = flags & FIN != 0;
            if first >> 31 == 0 {
                return Ok(Some(Received::Data { id: first, data: body, fin }));
            }
            let version = (first >> 16) as u16 & 0x7fff;
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if let Some(received) = self.control(first as u16, body, fin)? {
                return Ok(Some(received));
            }
        }
    }

    fn control(
        &mut self,
        kind: u16,
        mut body: Bytes,
        fin: bool,
    ) -> Result<Option<Received>, FrameError> {
        let needed = match kind {
            1 => 10,
            2 | 6 | 8 => 4,
            3 | 7 | 9 => 8,
            _ => 0,
        };
        if body.len() < needed {
            return Err(FrameError::Short);
        }
        Ok(match kind {
            1 => {
                let id = body.get_u32() & 0x7fff_ffff;
                body.advance(6);
                Some(Received::Open { id, headers: self.headers(&body)?, fin })
            }
            2 | 8 => {
                // They are of no use, but what follows is packed against them.
                body.advance(4);
                self.headers(&body)?;
                None
            }
            3 => Some(Received::Reset(body.get_u32() & 0x7fff_ffff)),
            6 => Some(Received::Ping(body.get_u32())),
            7 => Some(Received::GoAway),
            // Settings and windows: nobody here heeds them.
            _ => None,
        })
    }

    fn headers(&mut self, packed: &[u8]) -> Result<Vec<(String, String)>, FrameError> {
        let plain = self.unpacked(packed)?;
        let mut plain = &plain[..];
        let text = |plain: &mut &[u8]| {
            let length = plain.try_get_u32().ok()? as usize;
            let (text, rest) = plain.split_at_checked(length)?;
            *plain = rest;
            String::from_utf8(text.to_vec()).ok()
        };
        let count = plain.try_get_u32().map_err(|_| FrameError::Headers)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = text(&mut plain).ok_or(FrameError::Headers)?;
            let value = text(&mut plain).ok_or(FrameError::Headers)?;
            headers.push((name.to_ascii_lowercase(), value));
        }
        Ok(headers)
    }

    fn unpacked(&mut self, packed: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut out = vec![0; MAX_HEADERS + 1];
        let (mut read, mut written) = (0, 0);
        loop {
            let (before_in, before_out) = (self.unpack.total_in(), self.unpack.total_out());
            let step =
                self.unpack.decompress(&packed[read..], &mut out[written..], FlushDecompress::Sync);
            read += (self.unpack.total_in() - before_in) as usize;
            written += (self.unpack.total_out() - before_out) as usize;
            if written > MAX_HEADERS {
                return Err(FrameError::Headers);
            }
            match step {
                Err(e) if e.needs_dictionary().is_some() => {
                    let set = self.unpack.set_dictionary(&self.dictionary);
                    set.map_err(|_| FrameError::Headers)?;
                }
                Err(_) => return Err(FrameError::Headers),
                Ok(Status::Ok) if read < packed.len() => {
                    let moved =
                        self.unpack.total_in() > before_in || self.unpack.total_out() > before_out;
                    if !moved {
                        return Err(FrameError::Headers);
                    }
                }
                Ok(_) => break,
            }
        }
        out.truncate(written);
        Ok(out)
    }
}

/// Appends frames to what is to be sent.
pub(crate) struct Writer {
    pack: Compress,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let mut pack = Compress::new(Compression::fast(), true);
        // Fails only once something has been packed.
        let _ = pack.set_dictionary(&dictionary());
        Self { pack }
    }

    /// Accepts a stream. No headers are needed.
    pub(crate) fn reply(&mut self, id: u32, out: &mut BytesMut) {
        let block = self.packed(&0u32.to_be_bytes());
        control(2, 4 + block.len(), out);
        out.put_u32(id);
        out.extend_from_slice(&block);
    }

    fn packed(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + 64);
        // There is room for all of it, so that one call does.
        let _ = self.pack.compress_vec(plain, &mut out, FlushCompress::Sync);
        out
    }

    /// Opens a stream with these headers.
    pub(crate) fn open(&mut self, id: u32, headers: &[(&str, &str)], out: &mut BytesMut) {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let block = self.packed(&plain);
        control(1, 10 + block.len(), out);
        out.put_u32(id);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&block);
    }
}

fn control(kind: u16, length: usize, out: &mut BytesMut) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(length as u32);
}

/// Bytes of a stream; with `fin` the last of it.
pub(crate) fn data(id: u32, data: &[u8], fin: bool, out: &mut BytesMut) {
    out.put_u32(id);
    out.put_u32(u32::from(fin) << 24 | data.len() as u32);
    out.extend_from_slice(data);
}

/// Refuses a stream.
pub(crate) fn reset(id: u32, out: &mut BytesMut) {
    const REFUSED: u32 = 3;
    control(3, 8, out);
    out.put_u32(id);
    out.put_u32(REFUSED);
}

/// The value of a header; names are compared in lower case.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// Answers a ping.
pub(crate) fn ping(id: u32, out: &mut BytesMut) {
    control(6, 4, out);
    out.put_u32(id);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Received>, FrameError> {
        let mut reader = Reader::new();
        let mut seen = Vec::new();
        for piece in bytes.chunks(step) {
            reader.buffer().extend_from_slice(piece);
            while let Some(frame) = reader.next_frame()? {
                seen.push(frame);
            }
        }
        Ok(seen)
    }

    #[test]
    fn streams_open_with_headers_that_are_packed_against_those_before() {
        let (mut writer, mut out) = (Writer::new(), BytesMut::new());
        writer.open(1, &[("Streamtype", "error")], &mut out);
        writer.open(3, &[("streamtype", "stdin"), ("x", "")], &mut out);
        data(3, b"ls\n", true, &mut out);
        ping(9, &mut out);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted = [
            Received::Open { id: 1, headers: vec![header("streamtype", "error")], fin: false },
            Received::Open {
                id: 3,
                headers: vec![header("streamtype", "stdin"), header("x", "")],
                fin: false,
            },
            Received::Data { id: 3, data: Bytes::from_static(b"ls\n"), fin: true },
            Received::Ping(9),
        ];
        for step in [1, 7, 4096] {
            assert_eq!(all(&out, step).unwrap(), wanted);
        }
        // Every stream of packed headers names its dictionary first.
        assert_eq!(out[18..24], [0x78, out[19], 0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn a_reply_can_be_read_by_whoever_packs_as_we_do() {
        let (mut writer, mut out) = (Writer::new(), BytesMut::new());
        writer.reply(1, &mut out);
        writer.reply(3, &mut out);
        data(1, b"x", false, &mut out);
        let wanted = [Received::Data { id: 1, data: Bytes::from_static(b"x"), fin: false }];
        assert_eq!(all(&out, 3).unwrap(), wanted);
    }

    #[test]
    fn what_is_too_long_or_of_another_version_is_refused() {
        assert_eq!(all(&[0, 0, 0, 1, 0, 0xff, 0, 0], 8), Err(FrameError::TooLong));
        assert_eq!(all(&[0x80, 2, 0, 6, 0, 0, 0, 0], 8), Err(FrameError::Version(2)));
        assert_eq!(all(&[0x80, 3, 0, 6, 0, 0, 0, 0], 8), Err(FrameError::Short));
        let (mut writer, mut out) = (Writer::new(), BytesMut::new());
        let long = "x".repeat(MAX_HEADERS);
        writer.open(1, &[("streamtype", &long)], &mut out);
        assert_eq!(all(&out, 4096), Err(FrameError::Headers));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>, control: bool) {
            if control && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&[0x80, 3, 0, 1, 0, 0, 0, 32]);
            }
            let _ = all(&bytes, 5);
        }
    }
}

//! The head of an HTTP response that comes through a tunnel.
//!
//! Owns: its limits, and which of its headers are passed on.
//! Called by: `streamserver.rs`.
//! Never: believes a length: what follows goes on until the connection ends.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// No head is longer.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Headers that reach the API server. Lengths and encodings are between edge and cloud.
const PASSED: [&str; 6] = [
    "content-type",
    "connection",
    "upgrade",
    "x-stream-protocol-version",
    "sec-websocket-accept",
    "sec-websocket-protocol",
];

/// What a response begins with.
#[derive(Debug)]
pub(super) struct Head {
    /// 101 if the connection is another protocol's from here on.
    pub(super) status: StatusCode,
    /// Those that are passed on.
    pub(super) headers: HeaderMap,
    /// Bytes after the head.
    pub(super) rest: Bytes,
}

/// Why bytes are no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the edge's answer is not HTTP: {0}")]
pub(super) struct HeadError(String);

/// Takes the head off what has come; `None` if it is not all there yet.
pub(super) fn take(received: &mut BytesMut) -> Result<Option<Head>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(received).map_err(|e| HeadError(e.to_string()))?;
    let httparse::Status::Complete(length) = parsed else {
        return match received.len() > MAX_HEAD {
            true => Err(HeadError(format!("its head is longer than {MAX_HEAD} bytes"))),
            false => Ok(None),
        };
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| HeadError("it has no status".to_owned()))?;
    let mut passed = HeaderMap::new();
    for header in response.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        if let (Ok(name), Ok(value)) = (name, value)
            && PASSED.contains(&name.as_str())
        {
            passed.append(name, value);
        }
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        passed.remove(http::header::CONNECTION);
        passed.remove(http::header::UPGRADE);
    }
    let rest = received.split_off(length).freeze();
    Ok(Some(Head { status, headers: passed, rest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_once_it_is_whole_and_the_rest_is_kept() {
        let text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\
            X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 5\r\n\r\n\u{1}bytes";
        let mut received = BytesMut::new();
        for byte in text.as_bytes()[..100].iter() {
            received.extend_from_slice(&[*byte]);
            assert!(take(&mut received).unwrap().is_none());
        }
        received.extend_from_slice(&text.as_bytes()[100..]);
        let head = take(&mut received).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), &head.rest[..]), (101, &b"\x01bytes"[..]));
        assert_eq!(head.headers["upgrade"], "SPDY/3.1");
        assert!(!head.headers.contains_key("content-length"), "it is between edge and cloud");
    }

    #[test]
    fn what_is_no_head_is_refused_and_so_is_one_without_end() {
        assert!(take(&mut BytesMut::from("\x01\x02\x03 not http\r\n\r\n")).is_err());
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(take(&mut BytesMut::from(endless.as_str())).is_err());
    }

    #[test]
    fn only_a_switch_of_protocols_says_so() {
        let text =
            "HTTP/1.0 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nno";
        let head = take(&mut BytesMut::from(text)).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.headers.len()), (404, 1));
    }
}

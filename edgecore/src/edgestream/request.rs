//! What the cloud asks for, as HTTP for the node's own API.
//!
//! Owns: which headers get through; taking the head off an answer for clouds that expect none.
//! Called by: `tunnel.rs`.
//! Never: lets a line break or a host through.

use api::tunnel::{ConnectError, ConnectRequest, FrameKind};
use bytes::{Bytes, BytesMut};

/// Headers that mean something to the node's API.
const PASSED: [&str; 7] = [
    "upgrade",
    "connection",
    "x-stream-protocol-version",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "accept",
];
/// Of one header's values, in all.
const MAX_VALUES: usize = 4096;
/// No head is longer.
const MAX_HEAD: usize = 16 << 10;

/// The request's head. Logs and metrics are asked for as of HTTP 1.0, so that their bodies go on
/// until the end of the connection; everything else may become another protocol.
pub(super) fn head(request: &ConnectRequest, kind: FrameKind) -> Result<Vec<u8>, ConnectError> {
    let path = request.path_and_query()?;
    if matches!(kind, FrameKind::LogsConnect | FrameKind::MetricsConnect) {
        return Ok(format!("GET {path} HTTP/1.0\r\n\r\n").into_bytes());
    }
    let method = match request.method.as_str() {
        "" | "POST" => "POST",
        "GET" => "GET",
        _ => return Err(ConnectError::Url),
    };
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n");
    for (name, values) in &request.header {
        let name = name.to_ascii_lowercase();
        if !PASSED.contains(&name.as_str()) {
            continue;
        }
        let mut room = MAX_VALUES;
        for value in values {
            let plain = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
            if !plain || value.len() > room {
                return Err(ConnectError::Url);
            }
            room -= value.len();
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

/// Takes the head off an answer.
#[derive(Debug, Default)]
pub(super) struct Bare {
    held: BytesMut,
    done: bool,
}

impl Bare {
    /// What of `data` belongs to the body. An answer whose head makes no sense has none.
    pub(super) fn body(&mut self, data: Bytes) -> Bytes {
        if self.done {
            return data;
        }
        self.held.extend_from_slice(&data);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        match httparse::Response::new(&mut headers).parse(&self.held) {
            Ok(httparse::Status::Complete(length)) => {
                self.done = true;
                self.held.split_off(length).freeze()
            }
            Ok(httparse::Status::Partial) if self.held.len() < MAX_HEAD => Bytes::new(),
            _ => {
                self.held.clear();
                Bytes::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::tunnel::GoUrl;

    fn request(path: &str, header: &[(&str, &str)]) -> ConnectRequest {
        let url = GoUrl { path: path.to_owned(), ..GoUrl::default() };
        let header = header.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()]));
        ConnectRequest { url, header: header.collect(), ..ConnectRequest::default() }
    }

    #[test]
    fn a_log_is_asked_for_plainly_and_an_exec_with_its_upgrade() {
        let logs = request("/containerLogs/default/web/c", &[("Upgrade", "x")]);
        let text = head(&logs, FrameKind::LogsConnect).unwrap();
        assert_eq!(text, b"GET /containerLogs/default/web/c HTTP/1.0\r\n\r\n");
        let exec = request(
            "/exec/default/web/c",
            &[("Upgrade", "SPDY/3.1"), ("Connection", "Upgrade"), ("Authorization", "x")],
        );
        let text = String::from_utf8(head(&exec, FrameKind::ExecConnect).unwrap()).unwrap();
        assert!(text.starts_with("POST /exec/default/web/c HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("upgrade: SPDY/3.1\r\n") && !text.contains("uthorization"), "{text}");
    }

    #[test]
    fn nothing_gets_out_of_its_line() {
        for bad in ["a\r\nX: y", "a\nb", "\u{7f}", &"x".repeat(MAX_VALUES + 1)] {
            let exec = request("/exec/default/web/c", &[("Upgrade", bad)]);
            assert!(head(&exec, FrameKind::ExecConnect).is_err(), "{bad:?}");
        }
        let other =
            ConnectRequest { method: "GET /x HTTP/1.1\r\n".into(), ..request("/exec", &[]) };
        assert!(head(&other, FrameKind::ExecConnect).is_err());
    }

    #[test]
    fn a_cloud_that_expects_no_head_gets_the_body_alone() {
        let mut bare = Bare::default();
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nline 1\n";
        let mut body = Vec::new();
        for byte in answer {
            body.extend_from_slice(&bare.body(Bytes::copy_from_slice(&[*byte])));
        }
        body.extend_from_slice(&bare.body(Bytes::from_static(b"line 2\n")));
        assert_eq!(body, b"line 1\nline 2\n");
    }
}

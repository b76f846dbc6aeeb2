//! The request that opens a connection in the tunnel.
//!
//! Owns: its JSON, and what of its URL the edge may use.
//! Called by: cloudstream (makes it), edgestream (carries it out).
//! Never: hands out the URL's host; the edge asks its own kubelet API and nobody else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize};

use super::frame::{Frame, FrameKind};
use crate::raw::go_json;

/// A connection to open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectRequest {
    /// The id of the connection.
    #[serde(rename = "MessID", default)]
    pub connect_id: u64,
    /// What to ask the kubelet API for.
    #[serde(default)]
    pub url: GoUrl,
    /// Headers of the request.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub header: BTreeMap<String, Vec<String>>,
    /// Method; absent for logs and metrics, which are read with `GET`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
}

/// A `url.URL` of Go, as its JSON encoder writes the struct.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GoUrl {
    /// `http`
    pub scheme: String,
    /// Empty.
    pub opaque: String,
    /// Always null: Go does not write it.
    #[serde(skip_deserializing)]
    pub user: (),
    /// `127.0.0.1:10350`
    pub host: String,
    /// The path, decoded.
    pub path: String,
    /// Empty.
    pub fragment: String,
    /// The query, encoded.
    pub raw_query: String,
    /// The path as it was encoded, if that is not the usual way.
    pub raw_path: String,
    /// Empty.
    pub raw_fragment: String,
    /// Whether there is a `?` although the query is empty.
    pub force_query: bool,
    /// Whether the host is left out.
    pub omit_host: bool,
}

fn null_is_empty<'de, D: Deserializer<'de>>(
    de: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let header = Option::<BTreeMap<String, Option<Vec<String>>>>::deserialize(de)?;
    let values = header.unwrap_or_default().into_iter();
    Ok(values.map(|(name, values)| (name, values.unwrap_or_default())).collect())
}

/// Why a frame opens no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The frame is of another type.
    #[error("a frame of type {0:?} opens no connection")]
    Kind(FrameKind),
    /// Its data is not the JSON of a request.
    #[error("the frame does not hold a connect request")]
    Json(#[source] serde_json::Error),
    /// The request names another connection than the frame.
    #[error("the request is for connection {request}, its frame for {frame}")]
    Id {
        /// In the request.
        request: u64,
        /// On the frame.
        frame: u64,
    },
    /// The path or query could be mistaken for something else in an HTTP request.
    #[error("the path or query of the request is not plain")]
    Url,
}

impl ConnectRequest {
    /// Reads the request that a frame holds.
    ///
    /// # Errors
    /// When the frame opens no connection, or its data is no request for that connection.
    pub fn decode(frame: &Frame) -> Result<Self, ConnectError> {
        if !is_connect(frame.kind) {
            return Err(ConnectError::Kind(frame.kind));
        }
        let request: Self = serde_json::from_slice(&frame.data).map_err(ConnectError::Json)?;
        if request.connect_id != frame.connect_id {
            return Err(ConnectError::Id { request: request.connect_id, frame: frame.connect_id });
        }
        Ok(request)
    }

    /// Puts the request into a frame of type `kind`, as Go would write it.
    ///
    /// # Errors
    /// When a frame of that type opens no connection.
    pub fn encode(&self, kind: FrameKind) -> Result<Frame, ConnectError> {
        if !is_connect(kind) {
            return Err(ConnectError::Kind(kind));
        }
        let data = go_json(self).map_err(ConnectError::Json)?;
        Ok(Frame { connect_id: self.connect_id, kind, data: data.into() })
    }

    /// Path and query for the request line of HTTP.
    ///
    /// # Errors
    /// When the path is not absolute, or the query has characters that do not belong there.
    pub fn path_and_query(&self) -> Result<String, ConnectError> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let mut text = if self.url.raw_path.is_empty() {
            escaped(&self.url.path)
        } else {
            self.url.raw_path.clone()
        };
        if !text.starts_with('/') || !plain(&text) || text.contains('?') {
            return Err(ConnectError::Url);
        }
        if !plain(&self.url.raw_query) {
            return Err(ConnectError::Url);
        }
        if !self.url.raw_query.is_empty() || self.url.force_query {
            text.push('?');
            text.push_str(&self.url.raw_query);
        }
        Ok(text)
    }
}

fn is_connect(kind: FrameKind) -> bool {
    matches!(
        kind,
        FrameKind::LogsConnect
            | FrameKind::ExecConnect
            | FrameKind::MetricsConnect
            | FrameKind::AttachConnect
    )
}

/// A path with everything but unreserved characters and slashes percent-encoded.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String does not fail
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, raw_path: &str, query: &str) -> ConnectRequest {
        let url = GoUrl {
            path: path.into(),
            raw_path: raw_path.into(),
            raw_query: query.into(),
            ..GoUrl::default()
        };
        ConnectRequest { url, ..ConnectRequest::default() }
    }

    #[test]
    fn path_and_query_go_into_a_request_line_or_are_refused() {
        for (path, raw_path, query, wanted) in [
            (
                "/exec/default/web-0/c",
                "",
                "command=sh&tty=1",
                "/exec/default/web-0/c?command=sh&tty=1",
            ),
            ("/a b/ü?", "", "", "/a%20b/%C3%BC%3F"),
            ("/a/b", "/a%2Fb", "", "/a%2Fb"),
        ] {
            assert_eq!(request(path, raw_path, query).path_and_query().unwrap(), wanted);
        }
        for (path, raw_path, query) in [
            ("", "", ""),
            ("relative", "", ""),
            ("/a", "/a\r\nX: y", ""),
            ("/a", "/a?b", ""),
            ("/a", "", "x=1 HTTP/1.1\r\nX: y"),
            ("/a", "", "x#y"),
        ] {
            assert!(request(path, raw_path, query).path_and_query().is_err(), "{path} {query}");
        }
    }

    #[test]
    fn a_frame_that_opens_no_connection_is_told_from_one_that_does() {
        let frame = Frame::data(1, "{}".into());
        assert!(matches!(ConnectRequest::decode(&frame), Err(ConnectError::Kind(_))));
        let frame = Frame { kind: FrameKind::LogsConnect, ..frame };
        let error = ConnectRequest::decode(&frame).unwrap_err();
        assert!(matches!(error, ConnectError::Id { request: 0, frame: 1 }));
        let frame = Frame { data: "{".into(), ..frame };
        assert!(matches!(ConnectRequest::decode(&frame), Err(ConnectError::Json(_))));
    }

    #[test]
    fn null_headers_are_no_headers() {
        let data = "{\"MessID\":1,\"header\":{\"A\":null,\"B\":[\"c\"]}}".into();
        let frame = Frame { connect_id: 1, kind: FrameKind::ExecConnect, data };
        let header = ConnectRequest::decode(&frame).unwrap().header;
        assert_eq!(header["A"], Vec::<String>::new());
        assert_eq!(header["B"], ["c"]);
    }
}

//! Answers.
//!
//! Owns: bodies and their headers. Called by: the verbs, through the router.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use serde_json::Value;

use super::request::Accept;
use super::seats::Seat;
use super::status::Status;
use crate::registry::Resource;
use crate::store::Stored;

/// Pieces of a watch.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// What is sent back.
pub(crate) enum Body {
    /// Some pieces that are all there.
    Full(VecDeque<Bytes>),
    /// The same, with a seat that is taken until they have been sent.
    Seated {
        /// What is left.
        pieces: VecDeque<Bytes>,
        _seat: Seat,
    },
    /// As it comes.
    Stream(Pieces),
}

impl Body {
    /// Keeps the request's seat until all is sent.
    pub(crate) fn seated(self, seat: Option<Seat>) -> Self {
        match (self, seat) {
            (Self::Full(pieces), Some(seat)) => Self::Seated { pieces, _seat: seat },
            (body, _) => body,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Body::Full(pieces) | Body::Seated { pieces, .. } => {
                Poll::Ready(pieces.pop_front().map(|b| Ok(Frame::data(b))))
            }
            Body::Stream(s) => s.as_mut().poll_next(cx).map(|b| b.map(|b| Ok(Frame::data(b)))),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Body::Full(pieces) | Body::Seated { pieces, .. } => {
                http_body::SizeHint::with_exact(pieces.iter().map(|b| b.len() as u64).sum())
            }
            Body::Stream(_) => http_body::SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(pieces) | Body::Seated { pieces, .. } if pieces.is_empty())
    }
}

pub(crate) type Response = http::Response<Body>;

/// An answer of some pieces.
pub(crate) fn pieces(
    code: StatusCode,
    content_type: &'static str,
    pieces: impl Into<VecDeque<Bytes>>,
) -> Response {
    let mut r = http::Response::new(Body::Full(pieces.into()));
    *r.status_mut() = code;
    if !content_type.is_empty() {
        r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    r.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    r
}

/// Text is to be taken as text.
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Response {
    let mut r = pieces(code, "text/plain; charset=utf-8", [Bytes::from(text.into())]);
    r.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    r
}

pub(crate) fn value(code: StatusCode, value: &Value) -> Response {
    pieces(code, "application/json", [Bytes::from(value.to_string())])
}

/// A value in the form that the client takes.
pub(crate) fn shaped(code: StatusCode, v: &Value, accept: Accept) -> Response {
    if !accept.yaml {
        return value(code, v);
    }
    match serde_saphyr::to_string(v) {
        Ok(text) => pieces(code, "application/yaml", [Bytes::from(text)]),
        Err(_) => value(code, v),
    }
}

/// A stored object with its kind in front.
pub(crate) fn stored(code: StatusCode, resource: &Resource, object: &Stored) -> Response {
    pieces(
        code,
        "application/json",
        [resource.head.clone(), super::get::text(resource, object).slice(1..)],
    )
}

pub(crate) fn failure(status: &Status, accept: Accept) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut r = shaped(code, &status.to_value(), accept);
    if let Some(seconds) = status.retry_after {
        r.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.code == 401 {
        r.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"kubernetes\""),
        );
    }
    warn(&mut r, &status.warnings);
    r
}

/// How long all warnings of an answer may be together, and, if they are longer, each of them.
const WARNINGS: usize = 4096;
const WARNING: usize = 256;

/// Adds `Warning` headers as Kubernetes writes them: what is too much is cut off.
pub(crate) fn warn(r: &mut Response, warnings: &[String]) {
    let all = warnings.iter().map(|w| w.chars().count()).sum::<usize>();
    let each = if all > WARNINGS { WARNING } else { WARNINGS };
    let mut left = WARNINGS;
    for w in warnings {
        let shown: String = w.chars().filter(|c| !c.is_control()).take(each).collect();
        let Some(rest) = left.checked_sub(shown.chars().count()) else { return };
        left = rest;
        let escape = |c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] };
        let quoted: String = shown.chars().flat_map(escape).collect();
        if let Ok(v) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            r.headers_mut().append(header::WARNING, v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_without_number_are_cut_off() {
        let mut r = text(StatusCode::OK, "");
        let many: Vec<String> = (0..50_000).map(|i| format!("unknown field \"{i}\"")).collect();
        warn(&mut r, &many);
        let told = r.headers().get_all(header::WARNING).iter().count();
        assert!((100..1000).contains(&told), "{told}");
        let mut r = text(StatusCode::OK, "");
        warn(&mut r, &["x".repeat(5000), "y".to_owned()]);
        let told: Vec<usize> =
            r.headers().get_all(header::WARNING).iter().map(HeaderValue::len).collect();
        assert_eq!(told, [WARNING + 8, 9]);
    }
}

//! A log in a WebSocket, for pages in browsers and others who ask for one.
//!
//! Owns: the handshake, and which of Kubernetes' protocols is spoken. `service::stream::pour` has the
//! rest. Called by: `kubelet`, once the node has begun to answer. Never: asks the node for a WebSocket.
//!
//! <https://pkg.go.dev/k8s.io/apimachinery/pkg/util/httpstream/wsstream>

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use service::stream::pour::{Written, accept_key, pour};

use super::response::{self, Body, Pieces, Response};
use super::status::Status;

/// The only version there is.
const VERSION: &str = "13";

/// The members of a header that is a list.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|v| v.split(',')).map(str::trim).filter(|m| !m.is_empty())
}

/// Whether a request asks to go on as a WebSocket. Pure.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    upgrade.eq_ignore_ascii_case("websocket")
        && members(headers, &CONNECTION).any(|m| m.eq_ignore_ascii_case("upgrade"))
}

/// The first protocol offered that logs are sent in; none is as good as `binary.k8s.io`. Pure.
fn protocol(headers: &HeaderMap) -> Option<(&str, Written)> {
    let mut offered = members(headers, &SEC_WEBSOCKET_PROTOCOL).peekable();
    if offered.peek().is_none() {
        return Some(("", Written::Binary));
    }
    offered.find_map(|p| match p {
        "binary.k8s.io" => Some((p, Written::Binary)),
        "base64.binary.k8s.io" => Some((p, Written::Text(|b| STANDARD.encode(b)))),
        _ => None,
    })
}

/// Answers the upgrade, and sends the log once it is done.
///
/// # Errors
/// When the request makes no WebSocket.
pub(super) fn answer(parts: &Parts, log: Pieces) -> Result<Response, Status> {
    let headers = &parts.headers;
    let Some((protocol, written)) = protocol(headers) else {
        // So does Go's library, and says no more.
        return Ok(response::pieces(StatusCode::FORBIDDEN, "", []));
    };
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v != VERSION) {
        let mut refused = response::pieces(StatusCode::BAD_REQUEST, "", []);
        refused.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        return Ok(refused);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(|k| accept_key(k.as_bytes()));
    let key = key.and_then(|k| HeaderValue::from_str(&k).ok());
    let client = parts.extensions.get::<OnUpgrade>().cloned();
    let (Some(key), Some(client)) = (key, client) else {
        return Err(Status::bad_request("unable to upgrade"));
    };
    let mut answer = http::Response::new(Body::Full(VecDeque::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let set = answer.headers_mut();
    set.insert(UPGRADE, HeaderValue::from_static("websocket"));
    set.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    set.insert(SEC_WEBSOCKET_ACCEPT, key);
    if let Ok(protocol) = HeaderValue::from_str(protocol)
        && !protocol.is_empty()
    {
        set.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            pour(TokioIo::new(client), log, written).await;
        }
    });
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(k, v): &(&'static str, &'static str)| {
            (HeaderName::from_static(k), HeaderValue::from_static(v))
        };
        pairs.iter().map(pair).collect()
    }

    // `IsWebSocketRequest` and `NewDefaultReaderProtocols` of the page above.
    #[test]
    fn a_websocket_is_asked_for_by_two_headers_and_has_one_of_two_protocols() {
        let wanted = |u, c| is_wanted(&headers(&[("upgrade", u), ("connection", c)]));
        assert!(wanted("websocket", "Upgrade") && wanted("WebSocket", "keep-alive, upgrade"));
        assert!(!wanted("SPDY/3.1", "Upgrade") && !wanted("websocket", "close"));
        let spoken = |p| {
            protocol(&headers(&[("sec-websocket-protocol", p)]))
                .map(|(p, w)| (p.to_owned(), matches!(w, Written::Text(_))))
        };
        assert_eq!(spoken("binary.k8s.io"), Some(("binary.k8s.io".to_owned(), false)));
        assert_eq!(
            spoken("x, base64.binary.k8s.io, binary.k8s.io"),
            Some(("base64.binary.k8s.io".to_owned(), true))
        );
        assert_eq!(spoken("v4.channel.k8s.io"), None);
        assert!(matches!(protocol(&HeaderMap::new()), Some(("", Written::Binary))));
    }
}

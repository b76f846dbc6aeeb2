//! Exec, attach and run: which container, which streams, which protocol.
//!
//! Owns: the parameters, and the switch of protocols.
//! Called by: `mod.rs`, once it knows that the caller may.
//! Never: puts a command line together: what to run is a list.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::super::logread;
use super::super::podspec;
use super::super::runtime::{ContainerState, RuntimeError, StreamSpec, Streams};
use super::channels::{self, Protocol};
use super::{Api, Body, Refusal, refuse, spdy, text};

/// `/run` collects what a command says; it may take so long.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Which stream protocol, over SPDY.
pub(super) const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
/// Between the answer to the upgrade and the first byte of the new protocol.
pub(super) const UPGRADE_LIMIT: Duration = Duration::from_secs(10);

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    namespace: &'a str,
    pod: &'a str,
    uid: Option<&'a str>,
    container: &'a str,
}

fn named(path: &[String]) -> Option<Named<'_>> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        [_, namespace, pod, container] => Some(Named { namespace, pod, uid: None, container }),
        [_, namespace, pod, uid, container] => {
            Some(Named { namespace, pod, uid: Some(uid), container })
        }
        _ => None,
    }
}

/// The parameters, as the API server writes them for a kubelet.
fn spec(query: &str, exec: bool) -> Result<StreamSpec, &'static str> {
    let mut spec = StreamSpec::default();
    let mut on = |name: &str, value: &str| match (name, value) {
        ("command", _) => spec.command.push(value.to_owned()),
        ("tty", "1" | "true") => spec.tty = true,
        ("input" | "stdin", "1" | "true") => spec.stdin = true,
        ("output" | "stdout", "1" | "true") => spec.stdout = true,
        ("error" | "stderr", "1" | "true") => spec.stderr = true,
        _ => {}
    };
    for (name, value) in logread::form(query) {
        on(&name, &value);
    }
    // With a terminal there is one output.
    spec.stderr &= !spec.tty;
    if !(spec.stdin || spec.stdout || spec.stderr) {
        return Err("you must specify at least 1 of stdin, stdout, stderr");
    }
    match exec && spec.command.is_empty() {
        true => Err("you must specify at least 1 command for the container"),
        false => Ok(spec),
    }
}

/// What to do once the protocol is another.
enum Work {
    Exec(String, StreamSpec),
    Attach(String, StreamSpec),
}

impl Api {
    pub(super) async fn streams(
        &self,
        request: &mut Request<Incoming>,
        path: &[String],
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        let verb = path.first().map(String::as_str).unwrap_or_default();
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are served here");
        }
        let Some(named) = named(path) else {
            return refuse(StatusCode::NOT_FOUND, "404 page not found");
        };
        let id = self.running(&named).await?;
        if verb == "run" {
            return self.run(&id, query).await;
        }
        let wrong = |why: &str| Refusal(StatusCode::BAD_REQUEST, why.to_owned());
        let work = match verb {
            "exec" => Work::Exec(id, spec(query, true).map_err(wrong)?),
            _ => Work::Attach(id, spec(query, false).map_err(wrong)?),
        };
        let (spoken, response) = switch(request.headers())?;
        let (upgrade, api) = (hyper::upgrade::on(request), self.clone());
        tokio::spawn(async move {
            let stopping = api.shared.stopping.clone();
            tokio::select! {
                () = api.carry(upgrade, spoken, work) => {}
                () = stopping.cancelled() => {}
            }
        });
        Ok(response)
    }

    async fn carry(self, upgrade: OnUpgrade, spoken: Spoken, work: Work) {
        let Ok(Ok(socket)) = tokio::time::timeout(UPGRADE_LIMIT, upgrade).await else { return };
        let socket = TokioIo::new(socket);
        match spoken {
            Spoken::WebSocket(protocol) => {
                let socket = channels::socket(socket).await;
                channels::carry(socket, protocol, self.begin(&work).await).await;
            }
            Spoken::Spdy => {
                let (Work::Exec(_, spec) | Work::Attach(_, spec)) = &work;
                match spdy::gather(socket, spdy::Wanted::from(spec)).await {
                    Ok(session) => spdy::carry(session, self.begin(&work).await).await,
                    Err(why) => tracing::debug!(why, "an exec did not begin"),
                }
            }
        }
    }

    async fn begin(&self, work: &Work) -> Result<Streams, RuntimeError> {
        match work {
            Work::Exec(id, spec) => self.shared.runtime.exec(id, spec).await,
            Work::Attach(id, spec) => self.shared.runtime.attach(id, spec).await,
        }
    }

    /// The id of the container, which must be running.
    async fn running(&self, named: &Named<'_>) -> Result<String, Refusal> {
        let pod = self.pod(named)?;
        if podspec::container(&pod, named.container).is_none() {
            let why = format!("container {} not found in pod {}", named.container, named.pod);
            return refuse(StatusCode::NOT_FOUND, why);
        }
        let listing = self.shared.runtime.list(Some(podspec::uid(&pod))).await;
        let listing =
            listing.or_else(|e| refuse(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
        let found = listing
            .containers
            .into_iter()
            .filter(|c| c.name == named.container && c.state == ContainerState::Running)
            .max_by_key(|c| (c.attempt, c.created_at));
        match found {
            Some(c) => Ok(c.id),
            None => {
                let why =
                    format!("container {} in pod {} is not running", named.container, named.pod);
                refuse(StatusCode::BAD_REQUEST, why)
            }
        }
    }

    fn pod(&self, named: &Named<'_>) -> Result<std::sync::Arc<Pod>, Refusal> {
        let found = self.directory.find(named.namespace, named.pod);
        match found.filter(|pod| named.uid.is_none_or(|uid| podspec::uid(pod) == uid)) {
            Some(pod) => Ok(pod),
            None => refuse(StatusCode::NOT_FOUND, format!("pod \"{}\" does not exist", named.pod)),
        }
    }

    /// Both outputs of a command, one after the other, as the answer.
    async fn run(&self, id: &str, query: &str) -> Result<Response<Body>, Refusal> {
        let command: Vec<String> = logread::form(query)
            .into_iter()
            .filter(|(name, _)| name == "cmd")
            .flat_map(|(_, value)| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        if command.is_empty() {
            return refuse(StatusCode::BAD_REQUEST, "the parameter `cmd` is missing");
        }
        let output = self.shared.runtime.exec_sync(id, &command, RUN_LIMIT).await;
        let output =
            output.or_else(|e| refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
        let mut said = output.stdout;
        said.extend_from_slice(&output.stderr);
        let mut response = text(String::new());
        *response.body_mut() = Full::new(Bytes::from(said)).boxed_unsync();
        if output.exit_code != 0 {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        Ok(response)
    }
}

/// What the connection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    WebSocket(Protocol),
    /// With `v4.channel.k8s.io`.
    Spdy,
}

pub(super) fn has(headers: &HeaderMap, name: &str, wanted: &str) -> bool {
    let all = headers.get_all(name).into_iter().filter_map(|v: &HeaderValue| v.to_str().ok());
    all.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(wanted))
}

/// The answer that switches the protocol, and what is spoken then. Pure.
fn switch(headers: &HeaderMap) -> Result<(Spoken, Response<Body>), Refusal> {
    let asked = |protocol| has(headers, UPGRADE.as_str(), protocol);
    match has(headers, CONNECTION.as_str(), "upgrade") {
        true if asked("SPDY/3.1") => over_spdy(headers),
        true if asked("websocket") => over_websocket(headers),
        _ => {
            let why =
                "unable to upgrade: missing upgrade headers; `SPDY/3.1` and `websocket` are spoken";
            refuse(StatusCode::BAD_REQUEST, why)
        }
    }
}

pub(super) fn switching(upgrade: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(upgrade));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}

fn over_spdy(headers: &HeaderMap) -> Result<(Spoken, Response<Body>), Refusal> {
    const SPOKEN: &str = "v4.channel.k8s.io";
    if !has(headers, STREAM_PROTOCOL, SPOKEN) {
        let why = format!("unable to upgrade: only `{SPOKEN}` is spoken over SPDY");
        return refuse(StatusCode::FORBIDDEN, why);
    }
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(SPOKEN));
    Ok((Spoken::Spdy, response))
}

fn over_websocket(headers: &HeaderMap) -> Result<(Spoken, Response<Body>), Refusal> {
    let offers = |p: &Protocol| has(headers, SEC_WEBSOCKET_PROTOCOL.as_str(), p.name());
    let Some(protocol) = [Protocol::V5, Protocol::V4].into_iter().find(offers) else {
        let why = "none of the offered protocols is `v5.channel.k8s.io` or `v4.channel.k8s.io`";
        return refuse(StatusCode::FORBIDDEN, why);
    };
    let response = accept_websocket(headers, protocol.name())?;
    Ok((Spoken::WebSocket(protocol), response))
}

/// The answer that makes the connection a WebSocket with this protocol.
pub(super) fn accept_websocket(
    headers: &HeaderMap,
    protocol: &'static str,
) -> Result<Response<Body>, Refusal> {
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return refuse(StatusCode::BAD_REQUEST, "`Sec-WebSocket-Key` is missing");
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .or_else(|_| refuse(StatusCode::BAD_REQUEST, "`Sec-WebSocket-Key` makes no sense"))?;
    let mut response = switching("websocket");
    let answer = response.headers_mut();
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_a_kubelet_reads_them() {
        let parsed = spec("command=sh&command=-c&command=echo+a%26b&output=1&error=1", true);
        let wanted = StreamSpec {
            command: vec!["sh".into(), "-c".into(), "echo a&b".into()],
            stdout: true,
            stderr: true,
            ..StreamSpec::default()
        };
        assert_eq!(parsed, Ok(wanted));
        let tty = spec("command=sh&tty=1&input=1&output=1&error=1", true).unwrap();
        assert!(tty.tty && tty.stdin && tty.stdout && !tty.stderr);
        assert!(spec("command=sh", true).is_err(), "no stream");
        assert!(spec("output=1", true).is_err(), "no command");
        assert!(spec("output=1", false).is_ok(), "attach has none");
        assert!(spec("output=0&error=false", false).is_err());
    }

    #[test]
    fn a_path_names_a_container_with_or_without_its_pods_uid() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let short = path("exec/default/web/c");
        assert_eq!(named(&short).unwrap().container, "c");
        let long = path("attach/default/web/uid-1/c");
        assert_eq!(named(&long).unwrap().uid, Some("uid-1"));
        assert_eq!(named(&path("exec/default")), None);
    }

    #[test]
    fn the_newest_protocol_that_both_know_is_spoken() {
        let headers = |protocols: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
            headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocols).unwrap());
            headers
        };
        let chosen = |protocols| match switch(&headers(protocols)) {
            Ok((spoken, response)) => {
                let Spoken::WebSocket(protocol) = spoken else { panic!("{spoken:?}") };
                let said = response.headers()[SEC_WEBSOCKET_PROTOCOL].to_str().unwrap();
                assert_eq!(said, protocol.name());
                said.to_owned()
            }
            Err(Refusal(code, _)) => code.as_u16().to_string(),
        };
        assert_eq!(chosen("v4.channel.k8s.io, v5.channel.k8s.io"), "v5.channel.k8s.io");
        assert_eq!(chosen("v4.channel.k8s.io,channel.k8s.io"), "v4.channel.k8s.io");
        assert_eq!(chosen("channel.k8s.io"), "403");
        let mut plain = headers("v5.channel.k8s.io");
        plain.remove(UPGRADE);
        assert!(switch(&plain).is_err());
    }

    #[test]
    fn spdy_is_spoken_with_the_version_that_tells_exit_codes() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static("v4.channel.k8s.io"));
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static("channel.k8s.io"));
        let (spoken, response) = switch(&headers).unwrap_or_else(|e| panic!("{}", e.1));
        assert_eq!(spoken, Spoken::Spdy);
        assert_eq!(response.headers()[STREAM_PROTOCOL], "v4.channel.k8s.io");
        headers.insert(STREAM_PROTOCOL, HeaderValue::from_static("channel.k8s.io"));
        assert_eq!(switch(&headers).err().map(|e| e.0), Some(StatusCode::FORBIDDEN));
    }
}

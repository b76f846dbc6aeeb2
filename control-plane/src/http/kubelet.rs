//! Logs, exec, attach and port-forward: what only the pod's node can answer.
//!
//! The API server asks the node's kubelet endpoint over TLS with a client certificate of its own,
//! and relays. A node that nobody can dial says in the annotation `cloudcore` who answers for it.
//!
//! Owns: the way from a pod to an endpoint, the translation of parameters, the relaying of bytes.
//! Called by: the router, once the caller's rights are checked.
//! Never: passes on the caller's credentials.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::request::{Query, Target};
use super::response::{self, Body, Response};
use super::status::{FieldError, Status};
use super::{get, logsocket};
use crate::plane::Plane;
use crate::registry::{decode, meta};

/// Until the endpoint has been reached.
const CONNECT: Duration = Duration::from_secs(10);
/// Until it begins to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Until a refusal has been said. Its end need not come: a kubelet that does not know kubectl's
/// WebSocket says so and closes, and KubeEdge's cloudcore closes only after us.
const REFUSAL: Duration = Duration::from_secs(1);
/// A refusal is a sentence.
const MAX_REFUSAL: usize = 16 << 10;
/// A kubelet's port, if the node does not say so.
const DEFAULT_PORT: u64 = 10250;
/// Which cloudcore answers for a node that nobody can dial.
const SERVED_BY: &str = "/metadata/annotations/cloudcore";

/// Parameters of a log that are numbers, and what each must be.
const LOG_NUMBERS: [(&str, i64, &str); 3] = [
    ("tailLines", 0, "must be greater than or equal to 0"),
    ("limitBytes", 1, "must be greater than 0"),
    ("sinceSeconds", 1, "must be greater than 0"),
];

/// Headers of a switch of protocols, and nothing else.
const PASSED: [&str; 7] = [
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-accept",
    "x-stream-protocol-version",
];

/// Where a node's kubelet is asked.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    host: String,
    port: u16,
}

/// From the node object. Pure.
fn endpoint(node: &Value) -> Option<Endpoint> {
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port");
    let port = port.and_then(Value::as_u64).filter(|p| *p != 0).unwrap_or(DEFAULT_PORT);
    let port = u16::try_from(port).ok()?;
    let served_by = meta::text(node, SERVED_BY);
    if !served_by.is_empty() {
        return Some(Endpoint { host: served_by.to_owned(), port });
    }
    let addresses = node.pointer("/status/addresses")?.as_array()?;
    let of = |kind: &str| {
        let found = addresses.iter().find(|a| meta::text(a, "/type") == kind);
        found.map(|a| meta::text(a, "/address").to_owned()).filter(|a| !a.is_empty())
    };
    let host = ["InternalIP", "ExternalIP", "Hostname"].into_iter().find_map(of)?;
    Some(Endpoint { host, port })
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let all = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
    all.into_iter().flatten().map(|c| meta::text(c, "/name").to_owned()).collect()
}

/// The container that is meant, worded as kube-apiserver words it. Pure.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let (main, init, ephemeral) =
        (names(pod, "containers"), names(pod, "initContainers"), names(pod, "ephemeralContainers"));
    let name = meta::name(pod);
    if !asked.is_empty() {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|c| c == asked);
        return match known {
            true => Ok(asked.to_owned()),
            false => {
                let why = format!("container {asked} is not valid for pod {name}");
                Err(Status::bad_request(why))
            }
        };
    }
    match main.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            Err(Status::bad_request(format!("a container name must be specified for pod {name}")))
        }
        _ => {
            let all = [init, main, ephemeral].concat().join(" ");
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{all}]"
            )))
        }
    }
}

/// What is asked for of a log, as the kubelet is asked for it. Pure.
///
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>
fn log_options(pod: &str, query: &Query) -> Result<Vec<(&'static str, String)>, Status> {
    let mut pairs = Vec::new();
    for switch in ["follow", "previous", "timestamps"] {
        if query.flag(switch) {
            pairs.push((switch, "true".to_owned()));
        }
    }
    let mut errors = Vec::new();
    let since = query.get("sinceTime").map(|t| decode::time(t).map(|()| t)).transpose();
    let since = since.map_err(|e| Status::bad_request(e.to_string()))?;
    pairs.extend(since.map(|t| ("sinceTime", t.to_owned())));
    for (name, least, why) in LOG_NUMBERS {
        let Some(n) = query.number(name)? else { continue };
        if name == "sinceSeconds" && since.is_some() {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(FieldError::forbidden("", why));
        } else if n < least {
            errors.push(FieldError::invalid(name, &n.into(), why));
        }
        pairs.push((name, n.to_string()));
    }
    if query.get("stream").is_some() {
        errors.push(FieldError::forbidden("stream", "may not be specified"));
    }
    if errors.is_empty() {
        Ok(pairs)
    } else {
        Err(Status::invalid("", "PodLogOptions", pod, &errors))
    }
}

/// What the kubelet is asked for. Pure.
fn path(pod: &Value, target: &Target, query: &Query) -> Result<String, Status> {
    let (namespace, name) = (&target.namespace, &target.name);
    if target.subresource == "log" {
        let pairs = log_options(name, query)?;
        let container = container(pod, query.get("container").unwrap_or_default())?;
        return Ok(with_query(&format!("/containerLogs/{namespace}/{name}/{container}"), &pairs));
    }
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let unplaced = meta::text(pod, "/spec/nodeName").is_empty();
    let no_host = || Status::bad_request(format!("pod {name} does not have a host assigned"));
    if target.subresource == "portforward" && unplaced {
        return Err(no_host());
    }
    if target.subresource == "portforward" {
        pairs.extend(query.all("ports").map(|p| ("port", p.to_owned())));
        return Ok(with_query(&format!("/portForward/{namespace}/{name}"), &pairs));
    }
    let container = container(pod, query.get("container").unwrap_or_default())?;
    if unplaced {
        return Err(no_host());
    }
    for (ours, theirs) in
        [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
    {
        if query.flag(ours) {
            pairs.push((theirs, "1".to_owned()));
        }
    }
    if !pairs.iter().any(|(k, _)| *k != "tty") {
        let why = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(Status::bad_request(why));
    }
    if target.subresource == "exec" {
        pairs.extend(query.all("command").map(|c| ("command", c.to_owned())));
        if query.all("command").next().is_none() {
            return Err(Status::bad_request(
                "you must specify at least 1 command for the container",
            ));
        }
    }
    let verb = &target.subresource;
    Ok(with_query(&format!("/{verb}/{namespace}/{name}/{container}"), &pairs))
}

fn with_query(path: &str, pairs: &[(&str, String)]) -> String {
    let mut out = path.to_owned();
    for (i, (key, value)) in pairs.iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        out.push_str(key);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    out
}

fn passed(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &http::HeaderValue)> {
    headers.iter().filter(|(name, _)| PASSED.contains(&name.as_str()))
}

/// Asks the node and relays its answer.
///
/// # Errors
/// When the pod has no node, the node cannot be reached, or it refuses.
pub(crate) async fn relay(
    plane: &Plane,
    parts: &Parts,
    target: &Target,
    query: &Query,
) -> Result<Response, Status> {
    let pod =
        get::find(plane, &plane.registry.builtin("", "pods"), &target.namespace, &target.name)?;
    let pod = pod.value();
    let path = path(&pod, target, query)?;
    let node = meta::text(&pod, "/spec/nodeName").to_owned();
    if node.is_empty() && target.subresource == "log" {
        // There is no log, and that is no mistake.
        return Ok(response::pieces(StatusCode::NO_CONTENT, "", []));
    }
    let found = get::find(plane, &plane.registry.builtin("", "nodes"), "", &node)?;
    let endpoint = endpoint(&found.value()).ok_or_else(|| {
        Status::internal(&format!("node `{node}` does not say where its kubelet is"))
    })?;
    let log = target.subresource == "log";
    let switches = !log && parts.headers.contains_key(UPGRADE);
    if !log && !switches {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let mut response = ask(plane, &endpoint, parts, &path, switches).await.map_err(|why| {
        let Endpoint { host, port } = &endpoint;
        Status::internal(&format!("error dialing backend: {host}:{port}: {why}"))
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let client = parts.extensions.get::<OnUpgrade>().cloned();
        let client = client.ok_or_else(|| Status::bad_request("unable to upgrade"))?;
        let mut answer = http::Response::new(Body::Full(VecDeque::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in passed(response.headers()) {
            answer.headers_mut().append(name, value.clone());
        }
        let kubelet = hyper::upgrade::on(&mut response);
        tokio::spawn(both_ways(client, kubelet, plane.stopping.clone()));
        return Ok(answer);
    }
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let pieces = pieces(response.into_body(), plane.stopping.clone());
    if logsocket::is_wanted(&parts.headers) {
        return logsocket::answer(parts, pieces);
    }
    let mut answer = http::Response::new(Body::Stream(pieces));
    let plain = http::HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    Ok(answer)
}

async fn ask(
    plane: &Plane,
    endpoint: &Endpoint,
    parts: &Parts,
    path: &str,
    switches: bool,
) -> Result<http::Response<Incoming>, String> {
    let Endpoint { host, port } = endpoint;
    let opening = async {
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| e.to_string())?;
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
        let connector = TlsConnector::from(Arc::clone(&plane.kubelets));
        connector.connect(name, tcp).await.map_err(|e| e.to_string())
    };
    let stream = timeout(CONNECT, opening).await.map_err(|_| "it took too long".to_owned())??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    // Ends with the answer's body, or hands its socket over.
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder().method(parts.method.clone()).uri(path).header(HOST, host);
    if switches {
        for (name, value) in passed(&parts.headers) {
            request = request.header(name, value);
        }
    } else {
        request = request.header(CONNECTION, "close");
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let answer = timeout(ANSWER, sender.send_request(request)).await;
    answer.map_err(|_| "it did not answer in time".to_owned())?.map_err(|e| e.to_string())
}

/// What the kubelet says no with, as a Status of the same code.
async fn refusal(response: http::Response<Incoming>) -> Status {
    let code = response.status();
    let said = words(response.into_body()).await;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(said),
        StatusCode::NOT_FOUND => Status { message: said, ..Status::no_such_path() },
        StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(said),
        StatusCode::NOT_IMPLEMENTED => Status::not_implemented(said),
        _ => Status::internal(&format!("the node answered {code}: {said}")),
    }
}

/// A refusal's text, as far as it comes within [`REFUSAL`].
async fn words(mut body: impl hyper::body::Body<Data = Bytes> + Unpin) -> Vec<u8> {
    let deadline = Instant::now() + REFUSAL;
    let mut said = Vec::new();
    while said.len() < MAX_REFUSAL {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { break };
        if let Ok(data) = frame.into_data() {
            let room = MAX_REFUSAL - said.len();
            said.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    said
}

/// The body as it comes; a client that reads slowly is read for slowly.
fn pieces(body: Incoming, stopping: CancellationToken) -> response::Pieces {
    Box::pin(futures::stream::unfold((body, stopping), |(mut body, stopping)| async move {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame?.ok()?,
                () = stopping.cancelled() => return None,
            };
            if let Ok(data) = frame.into_data() {
                return Some((data, (body, stopping)));
            }
        }
    }))
}

/// Bytes of another protocol, until either side ends.
async fn both_ways(client: OnUpgrade, kubelet: OnUpgrade, stopping: CancellationToken) {
    let (Ok(client), Ok(kubelet)) = tokio::join!(client, kubelet) else { return };
    let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
    tokio::select! {
        // Either side may leave at any time.
        _ = tokio::io::copy_bidirectional(&mut client, &mut kubelet) => {}
        () = stopping.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(subresource: &str) -> Target {
        let path = format!("/api/v1/namespaces/shop/pods/web/{subresource}");
        super::super::request::target(&path).unwrap()
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "main"}]}})
    }

    #[test]
    fn a_node_behind_a_cloudcore_is_asked_there_and_others_at_their_address() {
        let mut node = json!({
            "metadata": {},
            "status": {
                "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.2"}],
            },
        });
        let at = |host: &str, port| Some(Endpoint { host: host.to_owned(), port });
        assert_eq!(endpoint(&node), at("10.0.0.2", 10250));
        node["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 10003}});
        node["metadata"]["annotations"] = json!({"cloudcore": "10.0.0.1"});
        assert_eq!(endpoint(&node), at("10.0.0.1", 10003));
        assert_eq!(endpoint(&json!({"status": {}})), None);
    }

    #[test]
    fn parameters_are_translated_for_the_kubelet() {
        // k8s.io: PodExecOptions and PodLogOptions; kubelet: `remotecommand.NewOptions`.
        let query = Query::parse(
            "command=sh&command=-c&command=a+%26+b&stdin=true&stdout=true&stderr=false&tty=true&container=main",
        );
        let mut pod = pod();
        let e = path(&pod, &target("exec"), &query).unwrap_err();
        assert_eq!(e.message, "pod web does not have a host assigned");
        pod["spec"]["nodeName"] = "n".into();
        assert_eq!(
            path(&pod, &target("exec"), &query).unwrap(),
            "/exec/shop/web/main?input=1&output=1&tty=1&command=sh&command=-c&command=a%20%26%20b"
        );
        let query = Query::parse("follow=true&tailLines=5&pretty=true");
        assert_eq!(
            path(&pod, &target("log"), &query).unwrap(),
            "/containerLogs/shop/web/main?follow=true&tailLines=5"
        );
        let none = Query::parse("command=sh");
        assert_eq!(path(&pod, &target("exec"), &none).unwrap_err().code, 400);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_nobody_ends_is_passed_on_all_the_same_and_never_grows_long() {
        use futures::StreamExt as _;
        use http_body_util::StreamBody;
        use hyper::body::Frame;

        let said = |text: &'static [u8]| {
            let piece = Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(text)));
            futures::stream::iter([piece]).chain(futures::stream::pending())
        };
        assert_eq!(words(StreamBody::new(said(b"bad protocol"))).await, b"bad protocol");
        assert_eq!(words(StreamBody::new(said(&[b'x'; 2 * MAX_REFUSAL]))).await.len(), MAX_REFUSAL);
    }

    #[test]
    fn a_container_must_be_named_if_there_are_several_and_must_be_there() {
        let mut pod = pod();
        assert_eq!(container(&pod, "").unwrap(), "main");
        let e = container(&pod, "other").unwrap_err();
        assert_eq!(e.message, "container other is not valid for pod web");
        pod["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
        pod["spec"]["initContainers"] = json!([{"name": "i"}]);
        assert_eq!(
            container(&pod, "").unwrap_err().message,
            "a container name must be specified for pod web, choose one of: [i a b]"
        );
        assert_eq!(container(&pod, "i").unwrap(), "i");
    }

    // https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ (log), and what a
    // kube-apiserver 1.33 says.
    #[test]
    fn what_is_asked_for_of_a_log_is_checked_before_the_node_is_asked() {
        let said = |query: &str| {
            path(&pod(), &target("log"), &Query::parse(query)).map_err(|e| (e.code, e.message))
        };
        let invalid = |why: &str| Err((422, format!("PodLogOptions \"web\" is invalid: {why}")));
        assert_eq!(
            said("tailLines=-1"),
            invalid("tailLines: Invalid value: -1: must be greater than or equal to 0")
        );
        assert_eq!(
            said("sinceSeconds=0"),
            invalid("sinceSeconds: Invalid value: 0: must be greater than 0")
        );
        assert_eq!(
            said("limitBytes=0"),
            invalid("limitBytes: Invalid value: 0: must be greater than 0")
        );
        assert_eq!(
            said("sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z"),
            invalid(": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified")
        );
        assert_eq!(said("tailLines=x").unwrap_err().0, 400);
        assert_eq!(said("sinceTime=x").unwrap_err().0, 400);
        assert_eq!(
            said("previous=true&tailLines=0&follow=false"),
            Ok("/containerLogs/shop/web/main?previous=true&tailLines=0".to_owned())
        );
    }
}

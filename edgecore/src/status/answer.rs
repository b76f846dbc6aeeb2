//! What a reader on this machine may ask for, answered by edged's own API.
//!
//! Owns: the list of requests that are answered here.
//! Called by: `stream.rs`, one task per request.
//! Never: does what is the cloud's to do: delete, cordon, set a desired value.

use std::time::Duration;

use api::config::yaml;
use api::names::NodeName;
use api::printable::printable;
use api::status::lines::Lines;
use api::status::row::{RowKey, RowKind};
use api::status::stream::Request;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use crate::edged::LocalApi;

/// The requests that are answered here, as `hello` names them.
pub(super) const REQUESTS: [&str; 4] = ["logs", "yaml", "restartPod", "confirmUpgrade"];

/// What is no log is no longer.
const BODY: usize = 64 << 20;
/// A container may take its time to end.
const LIMIT: Duration = Duration::from_secs(120);

/// Takes the next lines of a log; false once nobody wants more.
pub(super) type Told<'a> = &'a (dyn Fn(Vec<String>) -> BoxFuture<'static, bool> + Send + Sync);

/// Carries one out; the answer, or why there is none. Lines of a log go to `lines` before that, until
/// that says that nobody listens.
pub(super) async fn answer(
    own: Option<LocalApi>,
    node: &NodeName,
    request: Request,
    lines: Told<'_>,
) -> Result<String, String> {
    let Some(own) = own else { return Err("no container runtime is used here".to_owned()) };
    match request {
        Request::Logs { namespace, pod, container, follow, tail } => {
            let container = match container.as_str() {
                "" => first_container(&own, &namespace, &pod).await?,
                _ => container,
            };
            let path = path("containerLogs", &[&namespace, &pod, &container])?;
            let tail = tail.map(|n| format!("&tailLines={n}")).unwrap_or_default();
            let body = ask(&own, Method::GET, &format!("{path}?follow={follow}{tail}")).await?;
            copy(body, lines).await
        }
        Request::Yaml { key: RowKey { kind: RowKind::Pod, key } } => {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            yaml::write(&find(&own, namespace, name).await?)
        }
        Request::RestartPod { namespace, pod, dry_run } => {
            let dry = if dry_run { "?dryRun=true" } else { "" };
            let path = path("restart", &[&namespace, &pod])?;
            let done = whole(&own, Method::POST, &format!("{path}{dry}")).await?;
            let all = done["containers"].as_array().into_iter().flatten();
            let all: Vec<&str> = all.filter_map(Value::as_str).collect();
            let doing = if dry_run { "would be restarted" } else { "restarted" };
            Ok(format!("pod {namespace}/{pod} on node {node} {doing}: {}", all.join(", ")))
        }
        Request::Yaml { .. } => Err("only pods are kept here as they are written; the YAML of \
            nodes and devices is in the cloud"
            .to_owned()),
        Request::ConfirmUpgrade { node: of } if of != node.as_str() => {
            Err(format!("this is node {node}, and not `{}`", printable(&of, 60)))
        }
        Request::ConfirmUpgrade { .. } => {
            let done = whole(&own, Method::POST, "/api/v1/taskupgrade/confirm-upgrade").await?;
            let job = done["job"].as_str().unwrap_or_default();
            Ok(format!("node {node} goes on with its upgrade, job {}", printable(job, 253)))
        }
        Request::Cordon { .. }
        | Request::Drain { .. }
        | Request::DeletePod { .. }
        | Request::SetDesired { .. } => {
            Err("that is the cloud's to do: an edge node shows its pods, their logs and YAML, \
                restarts them, and lets its own upgrade go on"
                .to_owned())
        }
    }
}

/// A path of names, and nothing else.
fn path(what: &str, names: &[&str]) -> Result<String, String> {
    let plain = |name: &&str| {
        let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        !name.is_empty() && name.len() <= 253 && name.chars().all(ok)
    };
    match names.iter().find(|name| !plain(name)) {
        Some(wrong) => Err(format!("`{}` is no name", printable(wrong, 60))),
        None => Ok(format!("/{what}/{}", names.join("/"))),
    }
}

async fn first_container(own: &LocalApi, namespace: &str, name: &str) -> Result<String, String> {
    let pod = find(own, namespace, name).await?;
    let first = pod.pointer("/spec/containers/0/name").and_then(Value::as_str);
    first.map(str::to_owned).ok_or_else(|| format!("pod {namespace}/{name} has no container"))
}

async fn find(own: &LocalApi, namespace: &str, name: &str) -> Result<Value, String> {
    let mut list = whole(own, Method::GET, "/pods").await?;
    let pods = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let is = |pod: &Value| {
        let meta = &pod["metadata"];
        meta["namespace"] == namespace && meta["name"] == name
    };
    let mut pod = pods
        .into_iter()
        .find(is)
        .ok_or_else(|| format!("this node has no pod `{namespace}/{name}`"))?;
    // A list says these once for all.
    (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
    if let Some(meta) = pod["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    Ok(pod)
}

async fn whole(own: &LocalApi, method: Method, path: &str) -> Result<Value, String> {
    let body = Limited::new(ask(own, method, path).await?, BODY).collect();
    let body = timeout(LIMIT, body).await.map_err(|_| "edged gives no answer".to_owned())?;
    let body = body.map_err(|e| format!("edged's answer breaks off: {e}"))?.to_bytes();
    serde_json::from_slice(&body).map_err(|e| format!("edged's answer makes no sense: {e}"))
}

/// The body of what is answered.
async fn ask(own: &LocalApi, method: Method, path: &str) -> Result<Incoming, String> {
    let broken = |e: &dyn std::error::Error| format!("edged does not answer: {e}");
    let io = own.connect().await.map_err(|e| e.to_string())?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
    let (mut sender, connection) = handshake.map_err(|e| broken(&e))?;
    // It ends with the body that is read from it.
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header(header::HOST, "edged");
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| broken(&e))?;
    let answer = timeout(LIMIT, sender.send_request(request)).await;
    let answer = answer.map_err(|_| "edged gives no answer".to_owned())?;
    let answer = answer.map_err(|e| broken(&e))?;
    if answer.status() == StatusCode::OK {
        return Ok(answer.into_body());
    }
    let status = answer.status();
    let body = Limited::new(answer.into_body(), 64 << 10).collect().await;
    let said = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
    Err(said.unwrap_or_else(|_| status.to_string()))
}

/// Whatever is there at one time is told at one time.
async fn copy(mut body: Incoming, told: Told<'_>) -> Result<String, String> {
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("the log breaks off: {e}"))?;
        let Ok(piece) = frame.into_data() else { continue };
        let found = lines.push(&piece);
        if !found.is_empty() && !told(found).await {
            return Ok(String::new());
        }
    }
    if let Some(last) = lines.end() {
        told(vec![last]).await;
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_names_gets_into_a_path() {
        assert_eq!(path("restart", &["default", "web-1"]).unwrap(), "/restart/default/web-1");
        for wrong in ["", "../pods", "a b", "x?dryRun=true", "a/b", "\u{1b}[2J"] {
            let said = path("restart", &["default", wrong]).unwrap_err();
            assert!(said.ends_with("is no name") && !said.contains('\u{1b}'), "{said:?}");
        }
    }
}

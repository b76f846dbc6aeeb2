//! What comes from a pod's node, with a kubelet of our own at the other end.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::convert::Infallible;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

use crate::support::{Cluster, tls_server};
use crate::wire::{PATIENCE, Wire, rest};

/// A kubelet whose logs begin with `one` and end if their reader does not follow them. Says what it is
/// asked, and `gone` once nobody listens to a log any more.
async fn kubelet() -> (u16, mpsc::Receiver<String>) {
    let (tell, asked) = mpsc::channel(8);
    let (address, _) = tls_server(move |stream| {
        let (asked, tell) = (tell.clone(), tell.clone());
        async move {
            let service = hyper::service::service_fn(move |r| log(r, asked.clone()));
            let builder = hyper::server::conn::http1::Builder::new();
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            let _ = tell.send("gone".to_owned()).await;
        }
    })
    .await;
    (address.port(), asked)
}

async fn log(
    request: Request<Incoming>,
    tell: mpsc::Sender<String>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let upgrade = request.headers().contains_key("upgrade");
    let _ = tell.send(format!("{} {upgrade}", request.uri())).await;
    let said = stream::iter([Ok(Frame::data(Bytes::from_static(b"one\n")))]);
    let follows = request.uri().query().is_some_and(|q| q.contains("follow=true"));
    let body = match follows {
        true => BodyExt::boxed(StreamBody::new(said.chain(stream::pending()))),
        false => BodyExt::boxed(StreamBody::new(said)),
    };
    Ok(Response::new(body))
}

/// Asks for a WebSocket of a log: the head of the answer, and what comes after it.
async fn upgrade(wire: &Wire, query: &str, protocol: &str) -> (String, TlsStream<TcpStream>) {
    // The key is that of RFC 6455, 1.3.
    let head = format!(
        "GET /api/v1/namespaces/default/pods/web/log{query} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    );
    let mut stream = wire.send(&head).await;
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
        said.push(byte.expect("an answer").expect("a whole head"));
    }
    (String::from_utf8(said).unwrap(), stream)
}

// The end-to-end test "should support retrieving logs from the container over websockets" of Kubernetes
// (test/e2e/common/node/pods.go), and
// <https://pkg.go.dev/k8s.io/apimachinery/pkg/util/httpstream/wsstream#NewDefaultReaderProtocols>.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_comes_in_a_websocket_and_ends_with_either_side() {
    let c = Cluster::start().await;
    let (port, mut asked) = kubelet().await;
    let wire = Wire::of(&c);
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    });
    assert_eq!(wire.post("/api/v1/nodes", node.to_string()).await.code.as_u16(), 201);
    c.ok(&["wait", "--for=create", "sa/default", "--timeout=20s"]).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "i"}]},
    });
    let made = wire.post("/api/v1/namespaces/default/pods", pod.to_string()).await;
    assert_eq!(made.code.as_u16(), 201, "{}", made.text);

    let binary = b"\x82\x00\x82\x04one\n\x88\x02\x03\xe8".to_vec();
    let base64 = b"\x81\x00\x81\x08b25lCg==\x88\x02\x03\xe8".to_vec();
    for (protocol, expected) in [
        ("sec-websocket-protocol: binary.k8s.io\r\n", &binary),
        ("sec-websocket-protocol: base64.binary.k8s.io\r\n", &base64),
        ("", &binary),
    ] {
        let (head, mut stream) = upgrade(&wire, "?container=main", protocol).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let low = head.to_lowercase();
        assert!(low.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        assert_eq!(low.contains("sec-websocket-protocol"), !protocol.is_empty(), "{head}");
        assert!(low.contains(protocol), "{head}");
        let all = rest(&mut stream).await.expect("it ends");
        assert_eq!(&all, expected, "{protocol}");
        // The node is asked as for any log.
        assert_eq!(asked.recv().await.unwrap(), "/containerLogs/default/web/main false");
        assert_eq!(asked.recv().await.unwrap(), "gone");
    }
    // Who leaves is read for no longer.
    let (_, mut stream) = upgrade(&wire, "?follow=true", "").await;
    assert!(asked.recv().await.unwrap().contains("follow=true"));
    let mut begun = [0; 8];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"\x82\x00\x82\x04one\n");
    stream.write_all(b"\x88\x80\x00\x00\x00\x00").await.unwrap();
    let end = tokio::time::timeout(PATIENCE, asked.recv()).await;
    assert_eq!(end.expect("the node hears of it").unwrap(), "gone");
    // A protocol that logs do not have, and a request that is refused before the node is asked.
    let other = "sec-websocket-protocol: v4.channel.k8s.io\r\n";
    assert!(upgrade(&wire, "", other).await.0.starts_with("HTTP/1.1 403 "));
    let (head, _) = upgrade(&wire, "?container=no", "").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

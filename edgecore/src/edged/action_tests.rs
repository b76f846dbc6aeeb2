use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::runtime::fake::FakeRuntime;
use super::*;

const LIMIT: Duration = Duration::from_secs(1);

async fn run(spec: serde_json::Value) -> Result<(), String> {
    let probe: Probe = serde_json::from_value(spec).unwrap();
    let c = Container::default();
    let ips = ["127.0.0.1".to_owned()];
    let target = Target { container: &c, id: "c1", ips: &ips };
    super::probe(&FakeRuntime::new(), &probe, &target, LIMIT).await
}

/// A server that answers every connection with these bytes.
async fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn an_http_probe_passes_from_200_to_399() {
    let ok = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    run(json!({"httpGet": {"port": ok, "path": "/healthz"}})).await.unwrap();
    let moved =
        server("HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n")
            .await;
    run(json!({"httpGet": {"port": moved}})).await.unwrap();
    let broken = server("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
    let err = run(json!({"httpGet": {"port": broken}})).await.unwrap_err();
    assert_eq!(err, "HTTP probe failed with statuscode: 500");
}

#[tokio::test]
async fn a_closed_port_is_named_as_in_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    run(json!({"tcpSocket": {"port": port}})).await.unwrap();
    drop(listener);
    let err = run(json!({"tcpSocket": {"port": port}})).await.unwrap_err();
    assert_eq!(err, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_only_so_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let err = run(json!({"httpGet": {"port": port}})).await.unwrap_err();
    assert_eq!(err, "context deadline exceeded");
}

#[test]
fn ports_have_names() {
    let c: Container = serde_json::from_value(
        json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}),
    )
    .unwrap();
    let target = Target { container: &c, id: "", ips: &[] };
    assert_eq!(target.port(&IntOrString::String("web".into())), Ok(8080));
    assert_eq!(target.port(&IntOrString::String("81".into())), Ok(81));
    assert!(target.port(&IntOrString::String("ftp".into())).is_err());
    assert!(target.port(&IntOrString::Int(70_000)).is_err());
}

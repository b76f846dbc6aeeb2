use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::runtime::fake::FakeRuntime;
use super::*;

const LIMIT: Duration = Duration::from_secs(1);

async fn run(spec: serde_json::Value) -> Result<(), String> {
    let probe: Probe = serde_json::from_value(spec).unwrap();
    let c = Container::default();
    let (runtime, ips) = (FakeRuntime::new(), ["127.0.0.1".to_owned()]);
    let target = Target { runtime: &runtime, container: &c, id: "c1", sandbox: None, ips: &ips };
    super::probe(&probe, &target, LIMIT).await
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
    let runtime = FakeRuntime::new();
    let target = Target { runtime: &runtime, container: &c, id: "", sandbox: None, ips: &[] };
    assert_eq!(target.port(&IntOrString::String("web".into())), Ok(8080));
    assert_eq!(target.port(&IntOrString::String("81".into())), Ok(81));
    assert!(target.port(&IntOrString::String("ftp".into())).is_err());
    assert!(target.port(&IntOrString::Int(70_000)).is_err());
}

/// A server of `grpc.health.v1` that answers every check with this status.
async fn health_server(status: i32) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move |_: tonic::Request<HealthCheckRequest>| async move {
        Ok::<_, tonic::Status>(tonic::Response::new(HealthCheckResponse { status }))
    };
    let service = hyper::service::service_fn(move |request| async move {
        let codec = tonic_prost::ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default();
        let mut server = tonic::server::Grpc::new(codec);
        Ok::<_, std::convert::Infallible>(server.unary(tower::service_fn(answer), request).await)
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let executor = hyper_util::rt::TokioExecutor::new();
            let connection = hyper::server::conn::http2::Builder::new(executor)
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    port
}

#[tokio::test]
async fn a_grpc_probe_passes_if_the_server_says_that_it_is_serving() {
    let serving = health_server(1).await;
    run(json!({"grpc": {"port": serving}})).await.unwrap();
    let not = health_server(2).await;
    let err = run(json!({"grpc": {"port": not}})).await.unwrap_err();
    assert_eq!(err, "service unhealthy (responded with status 2)");
}

#[test]
fn a_pod_without_an_address_is_reached_from_within_unless_a_host_is_named() {
    let (c, runtime, ips) = (Container::default(), FakeRuntime::new(), ["10.0.0.7".to_owned()]);
    let of = |ips| Target { runtime: &runtime, container: &c, id: "", sandbox: Some("s1"), ips };
    let place = |ips, named| {
        let target = of(ips);
        let place = target.place(named, 80);
        (place.host.to_owned(), place.inside.map(str::to_owned))
    };
    assert_eq!(place(&ips, None), ("10.0.0.7".to_owned(), None));
    assert_eq!(place(&[], None), ("127.0.0.1".to_owned(), Some("s1".to_owned())));
    assert_eq!(place(&[], Some("")), ("127.0.0.1".to_owned(), Some("s1".to_owned())));
    assert_eq!(place(&[], Some("192.0.2.9")), ("192.0.2.9".to_owned(), None));
}

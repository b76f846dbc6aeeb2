use std::sync::Arc;
use std::time::Duration;

use cloudcore::cloudhub::listener::{self, Caps, Port};
use cloudcore::metrics::Metrics;
use futures::SinkExt;
use service::tls::{self, ClientAuth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::*;

#[tokio::test]
async fn a_node_that_claims_to_be_another_is_closed_with_the_reason() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let (code, reason) = cloud.dial(&own, "edge-2").await.closed().await;
    assert_eq!(code, 1008);
    assert_eq!(reason, "the certificate is for `system:node:edge-1`, not for `system:node:edge-2`");
}

#[tokio::test]
async fn without_a_certificate_of_our_ca_there_is_no_link() {
    let cloud = Cloud::start().await;
    let stranger = Cloud::start().await.join("edge-1").await;
    for identity in [None, Some(&stranger)] {
        // With TLS 1.3 the refusal comes after the client's side of the handshake is done.
        let refused = match edge::tls_to(cloud.websocket(), &cloud.ca, identity).await {
            Ok(mut stream) => stream.read_u8().await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
}

#[tokio::test]
async fn the_node_limit_is_said_aloud() {
    let cloud = Cloud::start_on(Fake::default(), &["modules.cloudHub.nodeLimit=1"]).await;
    let (one, two) = (cloud.join("edge-1").await, cloud.join("edge-2").await);
    let first = cloud.dial(&one, "edge-1").await;
    let (code, reason) = cloud.dial(&two, "edge-2").await.closed().await;
    assert_eq!((code, reason.contains("limit of 1 connected nodes")), (1008, true), "{reason}");
    drop(first);
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_session_with_the_reason() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let mut link = cloud.dial(&own, "edge-1").await;
    // Only the head of the frame: the length that it announces is enough to be refused. A peer that
    // is still writing may lose the reason with the connection.
    let mut head = vec![0x81, 0xff];
    head.extend((api::wire::MAX_MESSAGE as u64 + 1).to_be_bytes());
    head.extend([0; 4]);
    let io = link.socket.get_mut();
    tokio::io::AsyncWriteExt::write_all(io, &head).await.unwrap();
    tokio::io::AsyncWriteExt::flush(io).await.unwrap();
    let (code, _) = link.closed().await;
    assert_eq!(code, 1009);
}

#[tokio::test]
async fn what_is_no_message_ends_the_session_with_the_reason() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let mut link = cloud.dial(&own, "edge-1").await;
    link.socket.send(Frame::text("junk")).await.unwrap();
    let (code, reason) = link.closed().await;
    assert_eq!((code, reason.as_str()), (1007, "not a message"));
}

#[tokio::test]
async fn a_silent_node_is_let_go() {
    let settings = ["modules.cloudHub.keepaliveInterval=1"];
    let cloud = Cloud::start_on(Fake::default(), &settings).await;
    let own = cloud.join("edge-1").await;
    let (code, reason) = cloud.dial(&own, "edge-1").await.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "nothing was heard for 1 s"));
}

#[tokio::test]
async fn the_same_node_again_takes_over() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let first = cloud.dial(&own, "edge-1").await;
    let second = cloud.dial(&own, "edge-1").await;
    let (code, reason) = first.closed().await;
    assert_eq!((code, reason.contains("newer connection")), (1008, true), "{reason}");
    drop(second);
}

#[tokio::test]
async fn whoever_says_nothing_after_connecting_is_closed() {
    let cloud = Cloud::start().await;
    let ca = cloudcore::cloudhub::certs::Ca::create().unwrap();
    let names = cloudcore::cloudhub::certs::ServerNames::new(["127.0.0.1"]);
    let identity = ca.issue_server(&names).unwrap().identity("test").unwrap();
    let config = Arc::new(tls::server_config(&identity, ClientAuth::None, &[]).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let caps = Caps { total: 2, per_address: 2, handshake: Duration::from_millis(200) };
    let port = Port { listener, name: "test" };
    let stop = cloud.stop.clone();
    tokio::spawn(listener::accept(port, config, caps, Metrics::default(), stop, |_, _, _| {
        std::future::ready(())
    }));
    let mut slow = TcpStream::connect(at).await.unwrap();
    slow.write_all(&[22, 3, 1]).await.unwrap();
    let mut silent = TcpStream::connect(at).await.unwrap();
    let mut third = TcpStream::connect(at).await.unwrap();
    let ended = async |stream: &mut TcpStream| {
        let read = timeout(PATIENCE, stream.read_u8()).await;
        read.expect("still open").unwrap_err();
    };
    ended(&mut third).await;
    ended(&mut slow).await;
    ended(&mut silent).await;
}

#[tokio::test]
async fn when_cloudcore_stops_its_nodes_hear_it() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let link = cloud.dial(&own, "edge-1").await;
    let closed = tokio::spawn(link.closed());
    // The session must be up, or there is nobody to tell.
    eventually("connected", || cloud.fake.asked("GET /api/v1/nodes") > 0).await;
    cloud.stop().await;
    let (code, reason) = closed.await.unwrap();
    assert_eq!((code, reason.as_str()), (1012, "cloudcore is stopping"));
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = format!("modules.cloudHub.https.port={}", taken.local_addr().unwrap().port());
    let fake = Fake::default();
    let client = Some((fake.client(), String::new()));
    let options = Options { client, ..Options::default() };
    let error = CloudCore::build(config(&[&port]), options).await.err().unwrap();
    let text = service::error_chain(&error);
    assert!(text.contains("modules.cloudHub.https.port"), "{text}");
    assert!(text.contains("in use"), "{text}");
    assert!(fake.paths("/api/v1/secrets").is_empty(), "nothing was touched");
}

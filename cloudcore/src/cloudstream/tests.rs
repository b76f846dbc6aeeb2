//! A tunnel over a socket in memory, with an edge that the test plays.

use api::tunnel::window::{self, WINDOW, WITHOUT_WINDOW};
use api::tunnel::ws::{self, Event, Incoming, Role};
use api::tunnel::{ConnectRequest, Frame, FrameKind};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::tunnel::{Connection, Tunnel};
use super::*;

/// The edge's end.
struct Edge {
    socket: DuplexStream,
    incoming: Incoming,
}

impl Edge {
    async fn next(&mut self) -> Frame {
        loop {
            if let Some(event) = self.incoming.next_event().unwrap() {
                let Event::Message(bytes) = event else { continue };
                return Frame::decode(bytes).unwrap();
            }
            let read = self.socket.read_buf(self.incoming.buffer()).await.unwrap();
            assert!(read > 0, "the tunnel has ended");
        }
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        let mask = Some([1, 2, 3, 4]);
        ws::encode(ws::Kind::Text, &frame.encode().unwrap(), mask, &mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }
}

fn tunnel(windows: bool) -> (Arc<Tunnel>, Edge, tokio::task::JoinHandle<String>) {
    let (near, socket) = tokio::io::duplex(1 << 20);
    let (tunnel, queue) = Tunnel::new("edge-1".parse().unwrap(), windows);
    let running = Arc::clone(&tunnel);
    let task = tokio::spawn(async move { running.run(near, queue).await });
    (tunnel, Edge { socket, incoming: Incoming::new(Role::Client) }, task)
}

async fn connect(tunnel: &Arc<Tunnel>, edge: &mut Edge) -> (Connection, u64) {
    let connection =
        tunnel.connect(FrameKind::ExecConnect, ConnectRequest::default()).await.unwrap();
    let frame = edge.next().await;
    assert_eq!(frame.kind, FrameKind::ExecConnect);
    assert_eq!(ConnectRequest::decode(&frame).unwrap().connect_id, frame.connect_id);
    (connection, frame.connect_id)
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_hears_of_the_end() {
    let (tunnel, mut edge, _task) = tunnel(true);
    let (connection, id) = connect(&tunnel, &mut edge).await;
    edge.send(Frame::data(id, Bytes::from_static(&[0xff, 0x00]))).await;
    assert_eq!(connection.read().await.unwrap(), &[0xff, 0x00][..]);
    connection.write(Bytes::from_static(b"ls")).await.unwrap();
    assert_eq!(edge.next().await, Frame::data(id, Bytes::from_static(b"ls")));
    edge.send(Frame { kind: FrameKind::RemoveConnect, ..Frame::data(id, Bytes::new()) }).await;
    assert_eq!(connection.read().await, None);

    let (second, id) = connect(&tunnel, &mut edge).await;
    drop(connection);
    drop(second);
    loop {
        let frame = edge.next().await;
        // `CloseConnect` would end the whole tunnel of an edge of the original.
        assert_eq!(frame.kind, FrameKind::RemoveConnect);
        if frame.connect_id == id {
            break;
        }
    }
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_up_nobody_else() {
    let (tunnel, mut edge, _task) = tunnel(true);
    let (still, slow) = connect(&tunnel, &mut edge).await;
    let (quick, other) = connect(&tunnel, &mut edge).await;
    edge.send(Frame::data(slow, vec![0; WINDOW].into())).await;
    edge.send(Frame::data(other, Bytes::from_static(b"hello"))).await;
    assert_eq!(quick.read().await.unwrap(), "hello");
    // Once it reads, the edge may send as much again.
    let read = still.read().await.unwrap().len();
    still.passed_on(read).await;
    let credit = edge.next().await;
    assert_eq!((credit.connect_id, window::credited(&credit)), (slow, Some(WINDOW)));
}

#[tokio::test]
async fn an_edge_that_knows_no_window_is_cut_off_at_the_limit() {
    let (tunnel, mut edge, _task) = tunnel(false);
    let (connection, id) = connect(&tunnel, &mut edge).await;
    let (alive, other) = connect(&tunnel, &mut edge).await;
    for _ in 0..=(WITHOUT_WINDOW >> 20) {
        edge.send(Frame::data(id, vec![0; 1 << 20].into())).await;
    }
    edge.send(Frame::data(other, Bytes::from_static(b"alive"))).await;
    assert_eq!(alive.read().await.unwrap(), "alive");
    assert_eq!(connection.read().await.unwrap().len(), WITHOUT_WINDOW);
    assert_eq!(connection.read().await, None, "the end");
}

#[tokio::test]
async fn a_writer_waits_until_the_edge_has_room() {
    let (tunnel, mut edge, _task) = tunnel(true);
    let (connection, id) = connect(&tunnel, &mut edge).await;
    for _ in 0..4 {
        connection.write(vec![0; WINDOW / 4].into()).await.unwrap();
    }
    let more = tokio::spawn(async move { connection.write(Bytes::from_static(b"x")).await });
    for _ in 0..4 {
        assert_eq!(edge.next().await.data.len(), WINDOW / 4);
    }
    assert!(!more.is_finished());
    edge.send(window::credit(id, 1)).await;
    assert_eq!(edge.next().await.data, "x");
    more.await.unwrap().unwrap();
}

#[tokio::test]
async fn all_streams_end_with_their_tunnel_and_the_newest_tunnel_of_a_node_wins() {
    let tunnels = Tunnels::default();
    let (first, mut edge, task) = tunnel(true);
    tunnels.open(&first);
    let (connection, _) = connect(&first, &mut edge).await;
    let (second, _edge, _task) = tunnel(true);
    tunnels.open(&second);
    assert_eq!(connection.read().await, None);
    assert_eq!(task.await.unwrap(), "it was ended");
    tunnels.close(&first);
    let found = tunnels.of(&"edge-1".parse().unwrap()).unwrap();
    assert!(Arc::ptr_eq(&found, &second));
}

#[tokio::test]
async fn garbage_ends_the_tunnel_and_not_the_process() {
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x81, 0x80, 0, 0, 0, 0]] {
        let (_tunnel, mut edge, task) = tunnel(true);
        edge.socket.write_all(garbage).await.unwrap();
        assert_ne!(task.await.unwrap(), "");
    }
}

#[tokio::test]
async fn a_yes_to_an_upgrade_is_posted_through_the_tunnel_and_the_nodes_no_is_told() {
    use crate::status::actions::{Means, answer};
    use api::status::stream::Request;
    let tunnels = Tunnels::default();
    let (tunnel, mut edge, _task) = tunnel(true);
    tunnels.open(&tunnel);
    let nowhere = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
    });
    let api = crate::apiserver::ApiServer::new(
        kube::Client::new(nowhere, "default"),
        crate::metrics::Metrics::default(),
    );
    let nodes = NodeApis::new(tunnels, Arc::default());
    let means = Means { api, nodes: Some(nodes) };
    for (said, wanted) in [
        ("HTTP/1.1 200 OK\r\n\r\n", Ok("node edge-1 goes on with its upgrade")),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\nthere are no valid upgrade tasks to execute\n",
            Err("node `edge-1`: there are no valid upgrade tasks to execute"),
        ),
    ] {
        let means = means.clone();
        let asking = tokio::spawn(async move {
            let nobody =
                |_: Vec<String>| -> futures::future::BoxFuture<'static, bool> { unreachable!() };
            let request = Request::ConfirmUpgrade { node: "edge-1".to_owned() };
            answer(&means, request, &nobody).await
        });
        let asked = loop {
            let frame = edge.next().await;
            // The end of the question before.
            if frame.kind == FrameKind::ExecConnect {
                break frame;
            }
        };
        let request = ConnectRequest::decode(&asked).unwrap();
        assert_eq!(request.method, "POST");
        assert_eq!(request.url.path, "/api/v1/taskupgrade/confirm-upgrade");
        let id = asked.connect_id;
        edge.send(Frame::data(id, Bytes::from_static(said.as_bytes()))).await;
        edge.send(Frame { kind: FrameKind::RemoveConnect, ..Frame::data(id, Bytes::new()) }).await;
        let told = asking.await.unwrap();
        assert_eq!(told.as_deref().map_err(String::as_str), wanted);
    }
}

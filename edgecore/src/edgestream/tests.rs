//! The edge's end over a socket in memory, with a cloud that the test plays and edged's own API
//! behind it.

use api::tunnel::ws::{self, Event, Incoming, Role};
use api::tunnel::{ConnectRequest, Frame, FrameKind, GoUrl};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::edged::testing::local_api;

/// The cloud's end.
struct Cloud {
    socket: DuplexStream,
    incoming: Incoming,
}

impl Cloud {
    fn tunnel(windows: bool) -> (Self, tokio::task::JoinHandle<String>) {
        let (near, socket) = tokio::io::duplex(1 << 20);
        let limit = Duration::from_secs(15);
        let task = tokio::spawn(tunnel::over(near, windows, local_api(), limit));
        (Self { socket, incoming: Incoming::new(Role::Server) }, task)
    }

    async fn send(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        ws::encode(ws::Kind::Text, &frame.encode().unwrap(), None, &mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn ask(&mut self, id: u64, kind: FrameKind, path: &str) {
        let url =
            GoUrl { path: path.to_owned(), host: "10.0.0.9:22".to_owned(), ..GoUrl::default() };
        let request = ConnectRequest { connect_id: id, url, ..ConnectRequest::default() };
        self.send(&request.encode(kind).unwrap()).await;
    }

    /// All that comes for a connection, until the edge is done with it.
    async fn answer(&mut self, id: u64) -> String {
        let mut said = Vec::new();
        loop {
            match self.incoming.next_event().unwrap() {
                Some(Event::Message(bytes)) => {
                    let frame = Frame::decode(bytes).unwrap();
                    assert_eq!(frame.connect_id, id);
                    match frame.kind {
                        FrameKind::Data => said.extend_from_slice(&frame.data),
                        FrameKind::RemoveConnect => return String::from_utf8(said).unwrap(),
                        other => panic!("{other:?}"),
                    }
                }
                Some(_) => {}
                None => {
                    let read = self.socket.read_buf(self.incoming.buffer()).await.unwrap();
                    assert!(read > 0, "the tunnel has ended");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_has_its_head_for_a_cloud_that_knows_it_and_none_for_the_original() {
    let (mut cloud, _task) = Cloud::tunnel(true);
    cloud.ask(1, FrameKind::MetricsConnect, "/healthz").await;
    let answer = cloud.answer(1).await;
    assert!(
        answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
        "{answer}"
    );
    cloud.ask(2, FrameKind::LogsConnect, "/containerLogs/default/nobody/c").await;
    let answer = cloud.answer(2).await;
    assert!(answer.starts_with("HTTP/1.0 404 "), "{answer}");
    assert!(answer.contains("pod \"nobody\" does not exist"), "{answer}");

    let (mut cloud, _task) = Cloud::tunnel(false);
    cloud.ask(3, FrameKind::MetricsConnect, "/healthz").await;
    assert_eq!(cloud.answer(3).await, "ok");
}

#[tokio::test]
async fn a_command_is_refused_with_a_reason_when_there_is_no_such_container() {
    let (mut cloud, _task) = Cloud::tunnel(true);
    cloud.ask(7, FrameKind::ExecConnect, "/exec/default/nobody/c").await;
    let answer = cloud.answer(7).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "its end is the connection's: {answer}");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_and_the_tunnel_goes_on() {
    let (mut cloud, _task) = Cloud::tunnel(true);
    cloud.ask(1, FrameKind::LogsConnect, "relative").await;
    assert_eq!(cloud.answer(1).await, "");
    cloud.send(&Frame { kind: FrameKind::LogsConnect, ..Frame::data(2, "{".into()) }).await;
    assert_eq!(cloud.answer(2).await, "");
    cloud.ask(3, FrameKind::MetricsConnect, "/healthz").await;
    assert!(cloud.answer(3).await.ends_with("ok"));
}

#[tokio::test(start_paused = true)]
async fn a_cloud_may_be_long_in_answering_first_and_must_answer_soon_from_then_on() {
    let (mut cloud, mut task) = Cloud::tunnel(false);
    let two_minutes = tokio::time::timeout(Duration::from_secs(120), &mut task).await;
    assert!(two_minutes.is_err(), "{two_minutes:?}");
    let mut pong = BytesMut::new();
    ws::encode(ws::Kind::Pong, b"ping you", None, &mut pong);
    cloud.socket.write_all(&pong).await.unwrap();
    let soon = tokio::time::timeout(Duration::from_secs(20), task).await;
    assert_eq!(soon.unwrap().unwrap(), "nothing was heard for 15 s");
}

#[tokio::test]
async fn a_refusal_of_the_whole_tunnel_is_its_end() {
    let (mut cloud, task) = Cloud::tunnel(false);
    let frame = Frame { kind: FrameKind::CloseConnect, ..Frame::data(0, "no\x1b[31m".into()) };
    cloud.send(&frame).await;
    assert_eq!(task.await.unwrap(), "no\\u{1b}[31m");
}

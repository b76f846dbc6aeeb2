//! The connection with a real WebSocket server over a unix socket.

use std::path::Path;
use std::time::Duration;

use api::status::stream::{FromReader, MAX_UPDATE, ToReader};
use futures::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tui::conn::{self, StreamEvent};
use tui::state::Replay;
use tui::update::Steer;

struct Server(UnixListener);

impl Server {
    fn new(path: &Path) -> Self {
        Self(UnixListener::bind(path).unwrap())
    }

    async fn reader(&self) -> WebSocketStream<UnixStream> {
        let (stream, _) = self.0.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    }
}

async fn say(socket: &mut WebSocketStream<UnixStream>, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

fn start(path: &Path) -> (mpsc::Receiver<StreamEvent>, mpsc::Sender<FromReader>) {
    let (events_in, events) = mpsc::channel(64);
    let (requests, requests_out) = mpsc::channel(64);
    tokio::spawn(conn::run(tui::Endpoint::Unix(path.into()), events_in, requests_out));
    (events, requests)
}

async fn next(events: &mut mpsc::Receiver<StreamEvent>) -> StreamEvent {
    tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap()
}

async fn lost(events: &mut mpsc::Receiver<StreamEvent>) -> String {
    match next(events).await {
        StreamEvent::Lost { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

async fn message(events: &mut mpsc::Receiver<StreamEvent>) -> ToReader {
    match next(events).await {
        StreamEvent::Message(message) => *message,
        other => panic!("{other:?}"),
    }
}

const HELLO: &str = r#"{"type":"hello","version":1}"#;

#[tokio::test]
async fn a_cut_is_told_with_its_reason_and_mended_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (mut events, requests) = start(&path);
    assert!(lost(&mut events).await.contains("nobody serves it"));
    let server = Server::new(&path);
    let mut socket = loop {
        // Tries that failed meanwhile are told, too.
        tokio::select! {
            socket = server.reader() => break socket,
            event = next(&mut events) => assert!(matches!(event, StreamEvent::Lost { .. })),
        }
    };
    say(&mut socket, HELLO).await;
    while let StreamEvent::Lost { .. } = next(&mut events).await {}
    requests.send(FromReader::Flow { on: true }).await.unwrap();
    let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("no request") };
    assert_eq!(text.as_str(), r#"{"type":"flow","on":true}"#);
    drop(socket);
    lost(&mut events).await;
    let mut socket = server.reader().await;
    say(&mut socket, HELLO).await;
    assert!(matches!(message(&mut events).await, ToReader::Hello(_)));
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_later_versions_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let server = Server::new(&path);
    let (mut events, _requests) = start(&path);
    let mut socket = server.reader().await;
    say(&mut socket, r#"{"type":"hello","version":9,"holograms":true}"#).await;
    assert!(matches!(message(&mut events).await, ToReader::Hello(h) if h.version == 9));
    say(&mut socket, r#"{"type":"hologram","of":"edge-1"}"#).await;
    assert!(matches!(message(&mut events).await, ToReader::Unknown));
    say(&mut socket, "<html>").await;
    assert!(lost(&mut events).await.contains("no message of the stream"));
    let mut socket = server.reader().await;
    say(&mut socket, r#"{"type":"update","nodes":"many"}"#).await;
    assert!(lost(&mut events).await.contains("no message of the stream"));
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let server = Server::new(&path);
    let (mut events, _requests) = start(&path);
    let mut socket = server.reader().await;
    let sent = tokio::spawn(async move {
        // The reader may close while this is under way.
        let _ = socket.send(Message::text("x".repeat(MAX_UPDATE + 4096))).await;
    });
    let why = lost(&mut events).await;
    assert!(why.to_lowercase().contains("too long"), "{why}");
    sent.abort();
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let server = Server::new(&path);
    let (mut events, requests) = start(&path);
    let mut socket = server.reader().await;
    say(&mut socket, HELLO).await;
    message(&mut events).await;
    tokio::time::pause();
    // What the user asks for meanwhile is no sign of life of the server.
    let asking = tokio::spawn(async move {
        while requests.send(FromReader::Flow { on: true }).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    let lost = tokio::time::timeout(Duration::from_secs(60), events.recv()).await.unwrap();
    let Some(StreamEvent::Lost { why, silence }) = lost else { panic!("{lost:?}") };
    assert!(why.contains("nothing came for 15 s"), "{why}");
    assert_eq!(silence, Duration::from_secs(15));
    asking.abort();
}

#[tokio::test(start_paused = true)]
async fn keys_that_steer_a_replay_count_each_and_do_not_stop_its_time() {
    let message: ToReader = serde_json::from_str(HELLO).unwrap();
    let line = |at| tui::record::Line { at, message: message.clone() };
    let (events, mut shown) = mpsc::channel(64);
    let (steer, steered) = mpsc::channel(16);
    let (position_in, mut position) = mpsc::channel(1);
    let lines = vec![line(0), line(100_000_000)];
    tokio::spawn(conn::replay::run(lines, events, steered, position_in));
    tokio::spawn(async move { while shown.recv().await.is_some() {} });
    // Faster than the screen is told of it.
    for _ in 0..3 {
        steer.send(Steer::Speed(2.0)).await.unwrap();
    }
    let mut at = async |is: fn(&Replay) -> bool| loop {
        let now = position.recv().await.unwrap();
        if is(&now) {
            return now;
        }
    };
    let eight = at(|now| now.speed >= 8.0).await;
    assert_eq!(eight.speed, 8.0);
    // A key every 20 ms, as one that is held down: time goes on.
    let begin = at(|_| true).await;
    let began = tokio::time::Instant::now();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        steer.send(Steer::Speed(1.0)).await.unwrap();
        at(|_| true).await;
    }
    let (now, real) = (at(|_| true).await, began.elapsed().as_millis());
    let played = u128::from(now.at - begin.at);
    assert!(played > real * 6, "{played} ms in {real} ms at eight times the speed");
    steer.send(Steer::Speed(1e9)).await.unwrap();
    assert_eq!(at(|now| now.speed > 8.0).await.speed, 64.0, "there is a fastest");
}

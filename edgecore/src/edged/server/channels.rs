//! The streams of an exec or attach on one WebSocket: a channel number before each message.
//!
//! 0 standard input, 1 output, 2 error, 3 how it ended, 4 the terminal's size; with
//! `v5.channel.k8s.io` 255 says that a channel has ended.
//!
//! Owns: that layout.
//! Called by: `exec.rs`.
//! Never: holds more than a piece of each stream: who reads slowly is written to slowly.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::super::runtime::{BoxFuture, RuntimeError, Streams, TerminalSize};

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// The answer to a SPDY ping; no channel of a WebSocket.
pub(super) const PING: u8 = 254;
const CLOSE: u8 = 255;
/// What is sent at once.
const PIECE: usize = 16 << 10;
/// Output of a process that has ended is waited for so long: another may hold the pipe.
const LEFT_BEHIND: Duration = Duration::from_millis(500);
/// A client that takes nothing for so long at the end is gone.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Can say that standard input has ended.
    V5,
    /// Cannot.
    V4,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
        }
    }
}

/// A WebSocket on a connection whose protocol has been switched.
pub(super) async fn socket<S>(stream: S) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(PIECE)
        .write_buffer_size(0)
        .max_write_buffer_size(1 << 20)
        .max_message_size(Some(1 << 20))
        .max_frame_size(Some(1 << 20));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// How a process ended, as the error channel says it.
pub(super) fn outcome(exit: &Result<i32, RuntimeError>) -> Vec<u8> {
    let status = match exit {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(e) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {e}"),
            "details": {"causes": [{"message": e.to_string()}]},
        }),
    };
    status.to_string().into_bytes()
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.freeze())
}

/// Moves everything until the process ends or the client leaves.
pub(super) async fn carry<S>(
    socket: WebSocketStream<S>,
    protocol: Protocol,
    streams: Result<Streams, RuntimeError>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, source) = socket.split();
    let exit = match streams {
        Err(e) => Err(e),
        Ok(Streams { stdin, stdout, stderr, resize, exit }) => {
            let (to, pieces) = mpsc::channel(2); // full: the process waits
            let ended = ended(stdout, stderr, exit, to);
            let exit = tokio::select! {
                (exit, ()) = async { tokio::join!(ended, write_all(&mut sink, pieces)) } => Some(exit),
                () = listen(source, stdin, resize, protocol) => None,
            };
            // The client has left.
            let Some(exit) = exit else { return };
            exit
        }
    };
    let last = async {
        sink.send(message(ERROR, &outcome(&exit))).await?;
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.send(Message::Close(Some(frame))).await
    };
    // A client that has left needs no last words.
    let _ = timeout(LAST_WORDS, last).await;
}

/// What the client says, until it leaves.
async fn listen<S>(
    mut source: SplitStream<WebSocketStream<S>>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    resize: mpsc::Sender<TerminalSize>,
    protocol: Protocol,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(received)) = source.next().await {
        let data = match received {
            Message::Binary(data) => data,
            Message::Close(_) => return,
            _ => continue,
        };
        let Some((&channel, data)) = data.split_first() else { continue };
        match channel {
            STDIN => {
                if let Some(pipe) = &mut stdin
                    && (pipe.write_all(data).await.is_err() || pipe.flush().await.is_err())
                {
                    stdin = None; // the process has closed it
                }
            }
            RESIZE => {
                if let Some(size) = size(data) {
                    // Full: a newer one follows.
                    let _ = resize.try_send(size);
                }
            }
            CLOSE if protocol == Protocol::V5 && data == [STDIN] => {
                if let Some(mut pipe) = stdin.take() {
                    let _ = pipe.shutdown().await;
                }
            }
            _ => {}
        }
    }
}

pub(super) fn size(data: &[u8]) -> Option<TerminalSize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let Size { width, height } = serde_json::from_slice(data).ok()?;
    Some(TerminalSize { width, height })
}

/// Hands over all output, then says how the process ended. The sender goes with it.
pub(super) async fn ended(
    stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    exit: BoxFuture<'static, Result<i32, RuntimeError>>,
    to: mpsc::Sender<(u8, Bytes)>,
) -> Result<i32, RuntimeError> {
    let outputs = async {
        tokio::join!(read_all(stdout, STDOUT, to.clone()), read_all(stderr, STDERR, to));
    };
    tokio::pin!(outputs, exit);
    tokio::select! {
        exit = &mut exit => {
            let _ = timeout(LEFT_BEHIND, &mut outputs).await;
            exit
        }
        () = &mut outputs => exit.await,
    }
}

async fn read_all(
    from: Option<Box<dyn AsyncRead + Send + Unpin>>,
    channel: u8,
    to: mpsc::Sender<(u8, Bytes)>,
) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if to.send((channel, Bytes::copy_from_slice(&piece[..n]))).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Until there is no more, or the client takes nothing any more.
async fn write_all<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    mut pieces: mpsc::Receiver<(u8, Bytes)>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some((channel, data)) = pieces.recv().await {
        if sink.send(message(channel, &data)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Client = WebSocketStream<tokio::io::DuplexStream>;

    async fn pair() -> (WebSocketStream<tokio::io::DuplexStream>, Client) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        (socket(near).await, client)
    }

    fn streams(
        output: &[u8],
        exit: Result<i32, RuntimeError>,
    ) -> (Streams, mpsc::Receiver<TerminalSize>) {
        let (resize, sizes) = mpsc::channel(1);
        let streams = Streams {
            stdin: None,
            stdout: Some(Box::new(std::io::Cursor::new(output.to_vec()))),
            stderr: None,
            resize,
            exit: Box::pin(std::future::ready(exit)),
        };
        (streams, sizes)
    }

    async fn heard(client: &mut Client) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Message::Binary(data) = message {
                all.push((data[0], data[1..].to_vec()));
            }
        }
        all
    }

    #[tokio::test]
    async fn all_output_comes_before_how_it_ended() {
        let (server, mut client) = pair().await;
        let output = vec![7; 5 * PIECE + 3];
        let (streams, _sizes) = streams(&output, Ok(3));
        let serving = tokio::spawn(carry(server, Protocol::V5, Ok(streams)));
        let heard = heard(&mut client).await;
        serving.await.unwrap();
        let (last, before) = heard.split_last().unwrap();
        let said: Vec<u8> = before.iter().flat_map(|(_, data)| data.clone()).collect();
        assert!(before.iter().all(|(channel, _)| *channel == STDOUT) && said == output);
        let status: serde_json::Value = serde_json::from_slice(&last.1).unwrap();
        assert_eq!(last.0, ERROR);
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(status["reason"], "NonZeroExitCode");
    }

    #[tokio::test]
    async fn what_is_typed_reaches_the_process_until_the_client_says_that_it_ends() {
        let (server, mut client) = pair().await;
        let (near, mut far) = tokio::io::duplex(1024);
        let (resize, mut sizes) = mpsc::channel(1);
        let (done, exit) = tokio::sync::oneshot::channel::<i32>();
        let streams = Streams {
            stdin: Some(Box::new(near)),
            stdout: None,
            stderr: None,
            resize,
            exit: Box::pin(async move { Ok(exit.await.unwrap()) }),
        };
        let serving = tokio::spawn(carry(server, Protocol::V5, Ok(streams)));
        for sent in
            [&b"\x04{\"Width\":80,\"Height\":24}"[..], b"\x00hello", b"\xff\x00", b"\x00late"]
        {
            client.send(Message::Binary(Bytes::copy_from_slice(sent))).await.unwrap();
        }
        let mut typed = Vec::new();
        far.read_to_end(&mut typed).await.unwrap();
        assert_eq!(typed, b"hello");
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 80, height: 24 }));
        done.send(0).unwrap();
        let heard = heard(&mut client).await;
        serving.await.unwrap();
        assert_eq!(heard, [(ERROR, br#"{"metadata":{},"status":"Success"}"#.to_vec())]);
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_it_and_a_runtime_that_refuses_is_heard() {
        let (server, client) = pair().await;
        let (resize, _sizes) = mpsc::channel(1);
        let streams = Streams {
            stdin: None,
            stdout: None,
            stderr: None,
            resize,
            exit: Box::pin(std::future::pending()),
        };
        let serving = tokio::spawn(carry(server, Protocol::V4, Ok(streams)));
        drop(client);
        serving.await.unwrap();

        let (server, mut client) = pair().await;
        let refused = Err(RuntimeError::Unsupported("exec"));
        let serving = tokio::spawn(carry(server, Protocol::V4, refused));
        let heard = heard(&mut client).await;
        serving.await.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&heard[0].1).unwrap();
        assert_eq!((&status["reason"], &status["code"]), (&json!("InternalError"), &json!(500)));
    }
}

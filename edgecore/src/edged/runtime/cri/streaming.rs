//! Exec and attach: the runtime names a URL of its streaming server, we connect to it.
//!
//! The streams are multiplexed over a WebSocket, one channel number before each message, in the
//! protocol `v5.channel.k8s.io` or `v4.channel.k8s.io`. Only the newer one can say that standard
//! input has ended.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::super::{RuntimeError, StreamSpec, Streams, TerminalSize};

const CONNECT: Duration = Duration::from_secs(10);
const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io";
const PIECE: usize = 16 << 10;
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

type Socket = WebSocketStream<TcpStream>;

/// Connects to a URL of the runtime's streaming server.
pub(super) async fn connect(url: &str, spec: &StreamSpec) -> Result<Streams, RuntimeError> {
    let refused = |why: &dyn std::fmt::Display| {
        RuntimeError::Refused(format!("cannot connect to the runtime's streaming server: {why}"))
    };
    let (address, rest) = url
        .strip_prefix("http://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        .ok_or_else(|| refused(&"it is not a plain HTTP address"))?;
    let mut request =
        format!("ws://{address}/{rest}").into_client_request().map_err(|e| refused(&e))?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOLS));
    let config = WebSocketConfig::default()
        .read_buffer_size(PIECE)
        .max_message_size(Some(1 << 20))
        .max_frame_size(Some(1 << 20))
        .max_write_buffer_size(1 << 20);
    let opening = async {
        let tcp = TcpStream::connect(address).await.map_err(|e| refused(&e))?;
        tokio_tungstenite::client_async_with_config(request, tcp, Some(config))
            .await
            .map_err(|e| refused(&e))
    };
    let (socket, response) = tokio::time::timeout(CONNECT, opening)
        .await
        .map_err(|_| RuntimeError::TimedOut { call: "connect", limit: CONNECT })??;
    let can_close = response
        .headers()
        .get("sec-websocket-protocol")
        .is_some_and(|p| p.as_bytes().starts_with(b"v5"));
    Ok(streams(socket, spec, can_close))
}

fn streams(socket: Socket, spec: &StreamSpec, can_close: bool) -> Streams {
    let pipe = |wanted: bool| wanted.then(|| tokio::io::duplex(4 * PIECE)).unzip();
    let (stdin, stdin_far) = pipe(spec.stdin);
    let (stdout, stdout_far) = pipe(spec.stdout);
    let (stderr, stderr_far) = pipe(spec.stderr && !spec.tty);
    let (resize, sizes) = mpsc::channel(1);
    let (done, exit) = oneshot::channel();
    let pump = Pump {
        socket,
        stdin: stdin_far,
        stdout: stdout_far,
        stderr: stderr_far,
        sizes: Some(sizes),
        can_close,
    };
    tokio::spawn(async move {
        // Nobody may be waiting for the exit code any more.
        let _ = done.send(pump.run().await);
    });
    let reader = |s: DuplexStream| Box::new(s) as Box<dyn tokio::io::AsyncRead + Send + Unpin>;
    Streams {
        stdin: stdin.map(|s| Box::new(s) as Box<dyn tokio::io::AsyncWrite + Send + Unpin>),
        stdout: stdout.map(reader),
        stderr: stderr.map(reader),
        resize,
        exit: Box::pin(async move {
            exit.await.unwrap_or_else(|_| {
                Err(RuntimeError::Refused("the stream to the container broke".to_owned()))
            })
        }),
    }
}

/// Moves bytes between the socket and the three pipes.
struct Pump {
    socket: Socket,
    stdin: Option<DuplexStream>,
    stdout: Option<DuplexStream>,
    stderr: Option<DuplexStream>,
    sizes: Option<mpsc::Receiver<TerminalSize>>,
    can_close: bool,
}

impl Pump {
    async fn run(mut self) -> Result<i32, RuntimeError> {
        let mut piece = vec![0; PIECE];
        let mut exit = None;
        loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Binary(data))) => {
                        let Some((&channel, data)) = data.split_first() else { continue };
                        match channel {
                            STDOUT => hand_over(&mut self.stdout, data).await,
                            STDERR => hand_over(&mut self.stderr, data).await,
                            ERROR if !data.is_empty() => exit = Some(exit_code(data)),
                            _ => {}
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
                read = read_some(&mut self.stdin, &mut piece) => {
                    let sent = match read {
                        0 => self.close_stdin().await,
                        n => self.send(STDIN, &piece[..n]).await,
                    };
                    if sent.is_err() { break }
                }
                size = next_size(&mut self.sizes) => match size {
                    Some(s) => {
                        let json = format!(r#"{{"Width":{},"Height":{}}}"#, s.width, s.height);
                        if self.send(RESIZE, json.as_bytes()).await.is_err() { break }
                    }
                    None => self.sizes = None,
                }
            }
        }
        exit.unwrap_or_else(|| {
            Err(RuntimeError::Refused("the stream to the container broke".to_owned()))
        })
    }

    async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), ()> {
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        self.socket.send(Message::Binary(message.into())).await.map_err(drop)
    }

    async fn close_stdin(&mut self) -> Result<(), ()> {
        self.stdin = None;
        if self.can_close { self.send(CLOSE, &[STDIN]).await } else { Ok(()) }
    }
}

async fn hand_over(to: &mut Option<DuplexStream>, data: &[u8]) {
    if let Some(pipe) = to
        && pipe.write_all(data).await.is_err()
    {
        *to = None; // the reader has left; the rest goes nowhere
    }
}

async fn read_some(from: &mut Option<DuplexStream>, piece: &mut [u8]) -> usize {
    match from {
        Some(pipe) => pipe.read(piece).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn next_size(from: &mut Option<mpsc::Receiver<TerminalSize>>) -> Option<TerminalSize> {
    match from {
        Some(sizes) => sizes.recv().await,
        None => std::future::pending().await,
    }
}

/// The error channel carries a `Status`: success, or a failure whose cause is the exit code.
fn exit_code(data: &[u8]) -> Result<i32, RuntimeError> {
    let Ok(status) = serde_json::from_slice::<Status>(data) else {
        return Err(RuntimeError::Refused(String::from_utf8_lossy(data).into_owned()));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
    causes
        .iter()
        .filter(|c| c.reason.as_deref() == Some("ExitCode"))
        .find_map(|c| c.message.as_deref()?.parse().ok())
        .ok_or_else(|| RuntimeError::Refused(status.message.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_channel_tells_the_exit_code() {
        assert_eq!(exit_code(br#"{"metadata":{},"status":"Success"}"#), Ok(0));
        let failed = br#"{"metadata":{},"status":"Failure","message":"command terminated",
            "reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(exit_code(failed), Ok(7));
        let broken = br#"{"status":"Failure","message":"no such container"}"#;
        assert_eq!(exit_code(broken), Err(RuntimeError::Refused("no such container".to_owned())));
    }

    #[tokio::test]
    async fn only_plain_http_is_connected_to() {
        let err = connect("https://127.0.0.1:1/exec/x", &StreamSpec::default()).await;
        assert!(err.err().unwrap().to_string().contains("not a plain HTTP address"));
    }
}

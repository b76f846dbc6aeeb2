//! Exec and attach: the runtime names a URL of its streaming server, we connect to it.
//!
//! Spoken is SPDY/3.1 with `v4.channel.k8s.io`: a stream each for standard input, output, error,
//! the terminal's size and how it ended. Every runtime's server knows it, and a stream can be ended
//! by one side alone, as standard input is. Over a WebSocket that is told only in
//! `v5.channel.k8s.io`, which containerd before 2.0 does not know.
//!
//! Owns: that connection.
//! Called by: `mod.rs`.
//! Never: lets what is typed wait for what is printed, or the other way round.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::super::super::spdy::frame::{self, Reader, Received, Writer};
use super::super::{RuntimeError, StreamSpec, Streams, TerminalSize};

const CONNECT: Duration = Duration::from_secs(10);
/// The connection's end, once the process has ended: there is nothing left to say.
const LAST_WORDS: Duration = Duration::from_secs(10);
const SPDY: &str = "SPDY/3.1";
const PROTOCOL: &str = "v4.channel.k8s.io";
/// The header that names it.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
const PIECE: usize = 16 << 10;
/// A refusal is a sentence.
const MAX_REFUSAL: usize = 4 << 10;
/// How a process ended is a `Status`.
const MAX_OUTCOME: usize = 64 << 10;

/// Connects to a URL of the runtime's streaming server.
pub(super) async fn connect(url: &str, spec: &StreamSpec) -> Result<Streams, RuntimeError> {
    let (address, rest) = url
        .strip_prefix("http://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        .ok_or_else(|| refused(&"it is not a plain HTTP address"))?;
    let socket = timeout(CONNECT, open(address, rest))
        .await
        .map_err(|_| RuntimeError::TimedOut { call: "connect", limit: CONNECT })??;
    Ok(streams(socket, spec))
}

fn refused(why: &dyn std::fmt::Display) -> RuntimeError {
    RuntimeError::Refused(format!("cannot connect to the runtime's streaming server: {why}"))
}

/// A connection on which SPDY is spoken from now on.
async fn open(
    address: &str,
    path: &str,
) -> Result<impl AsyncRead + AsyncWrite + Send + 'static, RuntimeError> {
    let tcp = TcpStream::connect(address).await.map_err(|e| refused(&e))?;
    // Keys that are typed should not wait for the next.
    if let Err(e) = tcp.set_nodelay(true) {
        tracing::debug!(error = %e, "cannot set TCP_NODELAY");
    }
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(16 << 10)
        .handshake(TokioIo::new(tcp))
        .await
        .map_err(|e| refused(&e))?;
    // Ends with the connection, or hands its socket over.
    tokio::spawn(connection.with_upgrades());
    let request = Request::post(format!("/{path}"))
        .header(HOST, address)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, SPDY)
        .header(STREAM_PROTOCOL, PROTOCOL)
        .body(Empty::<Bytes>::new())
        .map_err(|e| refused(&e))?;
    let mut response = sender.send_request(request).await.map_err(|e| refused(&e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(&refusal(response).await));
    }
    let is = |name: &str, wanted: &str| {
        response
            .headers()
            .get(name)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    if !is(UPGRADE.as_str(), SPDY) || !is(STREAM_PROTOCOL, PROTOCOL) {
        return Err(refused(&format!("it does not speak `{PROTOCOL}` over `{SPDY}`")));
    }
    let socket = hyper::upgrade::on(&mut response).await.map_err(|e| refused(&e))?;
    Ok(TokioIo::new(socket))
}

/// What the server says no with.
async fn refusal(response: Response<Incoming>) -> String {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
    let body = body.map(|b| b.to_bytes()).unwrap_or_default();
    format!("{status}: {}", String::from_utf8_lossy(&body).trim())
}

/// The numbers of the streams; a client's are odd.
#[derive(Debug, Clone, Copy)]
struct Ids {
    error: u32,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

/// Opens all streams, the one that says how it ended first, as the server expects.
fn open_streams(spec: &StreamSpec, writer: &mut Writer, out: &mut BytesMut) -> Ids {
    let mut next = 1;
    let mut open = |kind: &str, wanted: bool| {
        wanted.then(|| {
            let id = next;
            next += 2;
            writer.open(id, &[("streamtype", kind)], out);
            id
        })
    };
    Ids {
        error: open("error", true).unwrap_or_default(),
        stdin: open("stdin", spec.stdin),
        stdout: open("stdout", spec.stdout),
        stderr: open("stderr", spec.stderr && !spec.tty),
        resize: open("resize", spec.tty),
    }
}

fn streams<S>(socket: S, spec: &StreamSpec) -> Streams
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut out = BytesMut::new();
    let ids = open_streams(spec, &mut Writer::new(), &mut out);
    let pipe = |wanted: Option<u32>| wanted.map(|_| tokio::io::duplex(4 * PIECE)).unzip();
    let (stdin, stdin_far) = pipe(ids.stdin);
    let (stdout, stdout_far) = pipe(ids.stdout);
    let (stderr, stderr_far) = pipe(ids.stderr);
    let (resize, sizes) = mpsc::channel(1);
    let (done, exit) = oneshot::channel();
    let (pings, pinged) = mpsc::channel(4);
    let (read, write) = tokio::io::split(socket);
    let typing = Typing { ids, stdin: stdin_far, sizes: Some(sizes), pinged };
    let listening = Listening {
        ids,
        stdout: stdout_far,
        stderr: stderr_far,
        outcome: Vec::new(),
        ended: false,
        pings,
    };
    tokio::spawn(async move {
        let exit = tokio::select! {
            exit = listening.run(read) => exit,
            never = typing.run(write, out) => match never {},
        };
        // Nobody may be waiting for the exit code any more.
        let _ = done.send(exit);
    });
    let reader = |s: DuplexStream| Box::new(s) as Box<dyn AsyncRead + Send + Unpin>;
    Streams {
        stdin: stdin.map(|s| Box::new(s) as Box<dyn AsyncWrite + Send + Unpin>),
        stdout: stdout.map(reader),
        stderr: stderr.map(reader),
        resize,
        exit: Box::pin(async move { exit.await.unwrap_or_else(|_| Err(broken())) }),
    }
}

fn broken() -> RuntimeError {
    RuntimeError::Refused("the stream to the container broke".to_owned())
}

/// What goes to the process: what is typed, and the terminal's sizes.
struct Typing {
    ids: Ids,
    stdin: Option<DuplexStream>,
    sizes: Option<mpsc::Receiver<TerminalSize>>,
    pinged: mpsc::Receiver<u32>,
}

impl Typing {
    /// Never ends: what the server still has to say is waited for, also once it takes nothing more.
    async fn run(
        mut self,
        mut write: impl AsyncWrite + Unpin,
        mut out: BytesMut,
    ) -> std::convert::Infallible {
        let mut piece = vec![0; PIECE];
        loop {
            let written = async {
                write.write_all_buf(&mut out).await?;
                write.flush().await
            };
            if written.await.is_err() {
                return std::future::pending().await;
            }
            tokio::select! {
                n = read_some(&mut self.stdin, &mut piece) => {
                    let fin = n == 0;
                    frame::data(self.ids.stdin.unwrap_or_default(), &piece[..n], fin, &mut out);
                    if fin {
                        self.stdin = None;
                    }
                }
                size = next_size(&mut self.sizes) => match size.zip(self.ids.resize) {
                    Some((s, id)) => {
                        let json = format!("{{\"Width\":{},\"Height\":{}}}\n", s.width, s.height);
                        frame::data(id, json.as_bytes(), false, &mut out);
                    }
                    None => self.sizes = None,
                },
                Some(id) = self.pinged.recv() => frame::ping(id, &mut out),
            }
        }
    }
}

/// What comes from the process, and how it ended.
struct Listening {
    ids: Ids,
    stdout: Option<DuplexStream>,
    stderr: Option<DuplexStream>,
    outcome: Vec<u8>,
    /// All of the outcome is there.
    ended: bool,
    pings: mpsc::Sender<u32>,
}

impl Listening {
    async fn run(mut self, mut read: impl AsyncRead + Unpin) -> Result<i32, RuntimeError> {
        let mut reader = Reader::new();
        loop {
            match reader.next_frame() {
                Ok(Some(received)) => self.heard(received).await?,
                Ok(None) => {
                    let done = self.ended && self.stdout.is_none() && self.stderr.is_none();
                    let limit = if self.ended { LAST_WORDS } else { Duration::MAX };
                    let reading = timeout(limit, read.read_buf(reader.buffer()));
                    // What is left to read then is the connection's end.
                    if done || !matches!(reading.await, Ok(Ok(1..))) {
                        break;
                    }
                }
                Err(e) => return Err(refused(&e)),
            }
        }
        match self.outcome.is_empty() {
            true => Err(broken()),
            false => exit_code(&self.outcome),
        }
    }

    async fn heard(&mut self, received: Received) -> Result<(), RuntimeError> {
        match received {
            Received::Data { id, data, fin } if Some(id) == self.ids.stdout => {
                hand_over(&mut self.stdout, &data, fin).await;
            }
            Received::Data { id, data, fin } if Some(id) == self.ids.stderr => {
                hand_over(&mut self.stderr, &data, fin).await;
            }
            Received::Data { id, data, fin } if id == self.ids.error => {
                let room = MAX_OUTCOME.saturating_sub(self.outcome.len());
                self.outcome.extend_from_slice(&data[..data.len().min(room)]);
                self.ended |= fin;
            }
            // Servers end all streams so before they close; or they refuse this one.
            Received::Reset(id) if id == self.ids.error => match self.outcome.is_empty() {
                true => return Err(broken()),
                false => self.ended = true,
            },
            Received::Reset(id) if Some(id) == self.ids.stdout => self.stdout = None,
            Received::Reset(id) if Some(id) == self.ids.stderr => self.stderr = None,
            // Full: it has pings enough to be answered.
            Received::Ping(id) => drop(self.pings.try_send(id)),
            _ => {}
        }
        Ok(())
    }
}

async fn hand_over(to: &mut Option<DuplexStream>, data: &[u8], fin: bool) {
    if let Some(pipe) = to
        && (pipe.write_all(data).await.is_err() || fin)
    {
        *to = None; // it has ended, or its reader has left; the rest goes nowhere
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

    #[tokio::test]
    async fn a_server_that_refuses_is_heard_and_one_that_speaks_something_else_is_none() {
        for (answer, wanted) in [
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nunknown token", "unknown toke"),
            (
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
                "does not speak",
            ),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/exec/abc?x=1", listener.local_addr().unwrap());
            let serving = tokio::spawn(async move {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut asked = BytesMut::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    socket.read_buf(&mut asked).await.unwrap();
                }
                socket.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8(asked.to_vec()).unwrap()
            });
            let err = connect(&url, &StreamSpec::default()).await.err().unwrap().to_string();
            assert!(err.contains(wanted), "{err}");
            let asked = serving.await.unwrap();
            assert!(asked.starts_with("POST /exec/abc?x=1 HTTP/1.1\r\n"), "{asked}");
        }
    }

    /// The server's end of an exec with standard input and output: 1 error, 3 stdin, 5 stdout.
    struct Server {
        socket: DuplexStream,
        reader: Reader,
    }

    impl Server {
        fn start(spec: &StreamSpec) -> (Self, Streams) {
            let (near, socket) = tokio::io::duplex(1 << 10);
            (Self { socket, reader: Reader::new() }, streams(near, spec))
        }

        async fn next(&mut self) -> Option<Received> {
            loop {
                if let Some(frame) = self.reader.next_frame().unwrap() {
                    return Some(frame);
                }
                if self.socket.read_buf(self.reader.buffer()).await.unwrap() == 0 {
                    return None;
                }
            }
        }

        async fn opened(&mut self) -> Vec<(u32, String)> {
            let mut all = Vec::new();
            for _ in 0..3 {
                let Some(Received::Open { id, headers, .. }) = self.next().await else { panic!() };
                all.push((id, headers[0].1.clone()));
            }
            all
        }

        async fn say(&mut self, id: u32, data: &[u8], fin: bool) {
            let mut out = BytesMut::new();
            frame::data(id, data, fin, &mut out);
            self.socket.write_all(&out).await.unwrap();
        }
    }

    fn cat() -> StreamSpec {
        StreamSpec { stdin: true, stdout: true, ..StreamSpec::default() }
    }

    #[tokio::test]
    async fn the_end_of_what_is_typed_is_told_and_a_megabyte_comes_back_whole() {
        let (mut server, streams) = Server::start(&cat());
        let Streams { stdin, stdout, exit, .. } = streams;
        let typed: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(31) >> 3) as u8).collect();
        let serving = tokio::spawn(async move {
            let opened = server.opened().await;
            let kinds: Vec<(u32, &str)> = opened.iter().map(|(id, k)| (*id, k.as_str())).collect();
            assert_eq!(kinds, [(1, "error"), (3, "stdin"), (5, "stdout")]);
            loop {
                match server.next().await.unwrap() {
                    Received::Data { id: 3, data, fin } => {
                        server.say(5, &data, fin).await;
                        if fin {
                            break;
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
            server.say(1, br#"{"status":"Success"}"#, true).await;
        });
        let (mut stdin, mut stdout) = (stdin.unwrap(), stdout.unwrap());
        let typing = async {
            stdin.write_all(&typed).await.unwrap();
            stdin.shutdown().await.unwrap();
        };
        let mut said = Vec::new();
        let ((), read) = tokio::join!(typing, stdout.read_to_end(&mut said));
        read.unwrap();
        assert!(said == typed);
        assert_eq!(exit.await, Ok(0));
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_typed_and_what_is_printed_do_not_wait_for_each_other() {
        let (mut server, streams) = Server::start(&cat());
        server.opened().await;
        let Streams { stdin, stdout, .. } = streams;
        // The server takes nothing; what it says is read all the same.
        let mut stdin = stdin.unwrap();
        let typing = tokio::spawn(async move {
            let _ = stdin.write_all(&vec![b'x'; 1 << 20]).await;
        });
        server.say(5, b"printed", false).await;
        let mut said = [0; 7];
        stdout.unwrap().read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"printed");
        typing.abort();
    }

    #[tokio::test]
    async fn all_streams_reset_after_the_exit_code_are_no_error_and_before_it_are_one() {
        for (outcome, wanted) in [
            (Some(&br#"{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#[..]), Ok(3)),
            (None, Err(broken())),
        ] {
            let (mut server, streams) = Server::start(&cat());
            server.opened().await;
            if let Some(outcome) = outcome {
                server.say(1, outcome, false).await;
            }
            let mut out = BytesMut::new();
            for id in [1, 3, 5] {
                frame::reset(id, &mut out);
            }
            server.socket.write_all(&out).await.unwrap();
            assert_eq!(streams.exit.await, wanted);
        }
    }

    #[tokio::test]
    async fn sizes_of_a_terminal_are_lines_of_json_and_pings_are_answered() {
        let spec = StreamSpec { tty: true, ..cat() };
        let (mut server, streams) = Server::start(&spec);
        server.opened().await;
        let Some(Received::Open { id, headers, .. }) = server.next().await else { panic!() };
        assert_eq!((id, headers[0].1.as_str()), (7, "resize"));
        streams.resize.send(TerminalSize { width: 80, height: 24 }).await.unwrap();
        let data = Bytes::from_static(b"{\"Width\":80,\"Height\":24}\n");
        assert_eq!(server.next().await, Some(Received::Data { id: 7, data, fin: false }));
        let mut out = BytesMut::new();
        frame::ping(2, &mut out);
        server.socket.write_all(&out).await.unwrap();
        assert_eq!(server.next().await, Some(Received::Ping(2)));
        drop(server);
        assert_eq!(streams.exit.await, Err(broken()));
    }
}

//! The streams of an exec or attach over SPDY: one each for standard input, output, error, the
//! terminal's size, and how it ended.
//!
//! Owns: which stream is which.
//! Called by: `exec.rs`.
//! Never: begins before all streams that were asked for are open.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::runtime::{RuntimeError, StreamSpec, Streams, TerminalSize};
use super::super::spdy::frame::{self, Reader, Received, Writer};
use super::channels::{self, ERROR, RESIZE, STDERR, STDIN, STDOUT};

/// Until all streams are open.
const OPENING: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long at the end is gone.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The size of a terminal is a line of JSON.
const MAX_SIZE_LINE: usize = 256;
/// Streams that a client may have open.
const STREAMS: usize = 8;

/// Which streams must be open before anything begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    resize: bool,
}

impl From<&StreamSpec> for Wanted {
    fn from(spec: &StreamSpec) -> Self {
        Self { stdin: spec.stdin, stdout: spec.stdout, stderr: spec.stderr, resize: spec.tty }
    }
}

impl Wanted {
    fn all_of(self, open: &[(u8, u32)]) -> bool {
        let has = |channel| open.iter().any(|(c, _)| *c == channel);
        has(ERROR)
            && (!self.stdin || has(STDIN))
            && (!self.stdout || has(STDOUT))
            && (!self.stderr || has(STDERR))
            && (!self.resize || has(RESIZE))
    }
}

fn channel(headers: &[(String, String)]) -> Option<u8> {
    match frame::header(headers, "streamtype")? {
        "stdin" => Some(STDIN),
        "stdout" => Some(STDOUT),
        "stderr" => Some(STDERR),
        "error" => Some(ERROR),
        "resize" => Some(RESIZE),
        _ => None,
    }
}

/// A connection whose streams are open.
pub(super) struct Session<S> {
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    reader: Reader,
    open: Vec<(u8, u32)>,
    /// What came before everything was open.
    early: Vec<Received>,
}

/// Accepts the streams that the client opens, until all that are wanted are there.
pub(super) async fn gather<S>(socket: S, wanted: Wanted) -> Result<Session<S>, String>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut read, mut write) = tokio::io::split(socket);
    let (mut reader, mut writer) = (Reader::new(), Writer::new());
    let (mut open, mut early, mut out) = (Vec::new(), Vec::new(), BytesMut::new());
    let gathering = async {
        while !wanted.all_of(&open) {
            match reader.next_frame().map_err(|e| e.to_string())? {
                Some(Received::Open { id, headers, fin }) => match channel(&headers) {
                    Some(channel) if open.len() < STREAMS => {
                        open.push((channel, id));
                        writer.reply(id, &mut out);
                        if fin {
                            early.push(Received::Data { id, data: Bytes::new(), fin });
                        }
                    }
                    _ => frame::reset(id, &mut out),
                },
                Some(Received::Ping(id)) => frame::ping(id, &mut out),
                Some(other) if early.len() < STREAMS => early.push(other),
                Some(_) => return Err("data came before its streams".to_owned()),
                None => {
                    let n = read.read_buf(reader.buffer()).await.map_err(|e| e.to_string())?;
                    if n == 0 {
                        return Err("the client left".to_owned());
                    }
                }
            }
            if !out.is_empty() {
                write.write_all_buf(&mut out).await.map_err(|e| e.to_string())?;
                write.flush().await.map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    };
    timeout(OPENING, gathering).await.map_err(|_| "not all streams were opened".to_owned())??;
    Ok(Session { read, write, reader, open, early })
}

/// Moves everything until the process ends or the client leaves.
pub(super) async fn carry<S>(session: Session<S>, streams: Result<Streams, RuntimeError>)
where
    S: AsyncRead + AsyncWrite,
{
    let Session { read, mut write, reader, open, early } = session;
    let id = |channel: u8| open.iter().find(|(c, _)| *c == channel).map(|(_, id)| *id);
    let exit = match streams {
        Err(e) => Err(e),
        Ok(Streams { stdin, stdout, stderr, resize, exit }) => {
            let (to, mut pieces) = mpsc::channel::<(u8, Bytes)>(2); // full: the process waits
            let writing = async {
                let mut out = BytesMut::new();
                while let Some((channel, data)) = pieces.recv().await {
                    match (channel, id(channel)) {
                        (channels::PING, _) => {
                            let id = data.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
                            frame::ping(id, &mut out);
                        }
                        (_, Some(id)) => frame::data(id, &data, false, &mut out),
                        (_, None) => continue,
                    }
                    if write.write_all_buf(&mut out).await.is_err() || write.flush().await.is_err()
                    {
                        return;
                    }
                }
            };
            // Weak: who only listens keeps nobody waiting for more output.
            let pongs = to.downgrade();
            let listener = Listener { stdin, resize, pongs, ids: (id(STDIN), id(RESIZE)) };
            let ended = channels::ended(stdout, stderr, exit, to);
            let exit = tokio::select! {
                (exit, ()) = async { tokio::join!(ended, writing) } => Some(exit),
                () = listener.listen(read, reader, early) => None,
            };
            // The client has left.
            let Some(exit) = exit else { return };
            exit
        }
    };
    let mut out = BytesMut::new();
    for channel in [STDOUT, STDERR] {
        if let Some(id) = id(channel) {
            frame::data(id, &[], true, &mut out);
        }
    }
    if let Some(id) = id(ERROR) {
        frame::data(id, &channels::outcome(&exit), true, &mut out);
    }
    let last = async {
        write.write_all_buf(&mut out).await?;
        write.flush().await?;
        write.shutdown().await
    };
    // A client that has left needs no last words.
    let _ = timeout(LAST_WORDS, last).await;
}

/// What the client says.
struct Listener {
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    resize: mpsc::Sender<TerminalSize>,
    pongs: mpsc::WeakSender<(u8, Bytes)>,
    ids: (Option<u32>, Option<u32>),
}

impl Listener {
    /// Until it leaves.
    async fn listen<S: AsyncRead>(
        mut self,
        mut read: ReadHalf<S>,
        mut reader: Reader,
        early: Vec<Received>,
    ) {
        let mut lines = BytesMut::new();
        for received in early {
            self.heard(received, &mut lines).await;
        }
        loop {
            match reader.next_frame() {
                Ok(Some(received)) => self.heard(received, &mut lines).await,
                Ok(None) => match read.read_buf(reader.buffer()).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                Err(e) => return tracing::debug!("a client is given up: {e}"),
            }
        }
    }

    async fn heard(&mut self, received: Received, lines: &mut BytesMut) {
        match received {
            Received::Data { id, data, fin } if Some(id) == self.ids.0 => {
                if let Some(pipe) = &mut self.stdin {
                    let taken = pipe.write_all(&data).await.is_ok() && pipe.flush().await.is_ok();
                    if fin {
                        let _ = pipe.shutdown().await;
                    }
                    if fin || !taken {
                        self.stdin = None;
                    }
                }
            }
            Received::Data { id, data, .. } if Some(id) == self.ids.1 => {
                lines.extend_from_slice(&data);
                while let Some(at) = lines.iter().position(|b| *b == b'\n') {
                    if let Some(size) = channels::size(&lines.split_to(at + 1)) {
                        // Full: a newer one follows.
                        let _ = self.resize.try_send(size);
                    }
                }
                if lines.len() > MAX_SIZE_LINE {
                    lines.clear();
                }
            }
            Received::Reset(id) if Some(id) == self.ids.0 => self.stdin = None,
            Received::Ping(id) => {
                if let Some(pongs) = self.pongs.upgrade() {
                    let data = Bytes::copy_from_slice(&id.to_be_bytes());
                    // Full: output is on its way, which the client hears as well.
                    let _ = pongs.try_send((channels::PING, data));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    /// A client with streams for error, stdin and stdout: 1, 3 and 5.
    async fn client(far: &mut DuplexStream) -> Writer {
        let (mut writer, mut out) = (Writer::new(), BytesMut::new());
        for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            writer.open(id, &[("streamtype", kind)], &mut out);
        }
        far.write_all(&out).await.unwrap();
        writer
    }

    async fn heard(far: &mut DuplexStream) -> Vec<Received> {
        let (mut reader, mut all) = (Reader::new(), Vec::new());
        loop {
            while let Some(frame) = reader.next_frame().unwrap() {
                all.push(frame);
            }
            if far.read_buf(reader.buffer()).await.unwrap() == 0 {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn an_exec_echoes_what_is_typed_and_says_how_it_ended() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let spec = StreamSpec { stdin: true, stdout: true, ..StreamSpec::default() };
        let serving = tokio::spawn(async move {
            let session = gather(near, Wanted::from(&spec)).await.unwrap();
            // A process that gives back what it gets.
            let (typed, echo) = tokio::io::duplex(64);
            let (echo_in, mut echo_out) = tokio::io::split(echo);
            let (out, mut to_out) = tokio::io::duplex(64);
            let echoing = tokio::spawn(async move {
                let mut echo_in = echo_in;
                tokio::io::copy(&mut echo_in, &mut to_out).await.unwrap();
                echo_out.shutdown().await.unwrap();
            });
            let (resize, _sizes) = mpsc::channel(1);
            let exit = Box::pin(async move {
                echoing.await.unwrap();
                Ok(0)
            });
            let streams = Streams {
                stdin: Some(Box::new(typed)),
                stdout: Some(Box::new(out)),
                stderr: None,
                resize,
                exit,
            };
            carry(session, Ok(streams)).await;
        });
        client(&mut far).await;
        let mut out = BytesMut::new();
        frame::data(3, b"hello\n", false, &mut out);
        frame::ping(7, &mut out);
        frame::data(3, b"", true, &mut out);
        far.write_all(&out).await.unwrap();
        let heard = heard(&mut far).await;
        serving.await.unwrap();
        let of = |wanted: u32| {
            let mut said = Vec::new();
            let mut ended = false;
            for frame in &heard {
                if let Received::Data { id, data, fin } = frame
                    && *id == wanted
                {
                    said.extend_from_slice(data);
                    ended |= fin;
                }
            }
            (String::from_utf8(said).unwrap(), ended)
        };
        assert_eq!(of(5), ("hello\n".to_owned(), true));
        assert_eq!(of(1), (r#"{"metadata":{},"status":"Success"}"#.to_owned(), true));
        assert!(heard.contains(&Received::Ping(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_before_all_streams_are_open() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        client(&mut far).await;
        let spec = StreamSpec { stdout: true, stderr: true, ..StreamSpec::default() };
        let gathered = gather(near, Wanted::from(&spec)).await;
        assert_eq!(gathered.err().unwrap(), "not all streams were opened");
    }

    #[tokio::test]
    async fn a_client_that_breaks_the_protocol_is_given_up() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(far);
        let spec = StreamSpec { stdout: true, ..StreamSpec::default() };
        assert!(gather(near, Wanted::from(&spec)).await.is_err());
    }
}

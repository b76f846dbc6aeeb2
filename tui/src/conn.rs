//! The status stream: its own task that connects, reads, and connects again.
//!
//! Owns: the socket, the wait before the next try. (The wait lives here and not in the screen's
//! loop, where every key would start it anew.)
//! Called by: `app.rs`.
//! Never: gives up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::status::stream::{FromReader, MAX_UPDATE, ToReader};
use futures::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The longest time between two messages: the server sends its clock at least every 5 s.
const SILENCE: Duration = Duration::from_secs(15);
/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the stream is.
#[derive(Clone)]
pub enum Endpoint {
    /// A unix socket of this machine.
    Unix(PathBuf),
    /// Another machine.
    Tls {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// Whom to trust, and with which certificate to come.
        config: Arc<ClientConfig>,
        /// A Kubernetes bearer token, if one is used.
        token: Option<Token>,
    },
}

/// A bearer token; not shown by `Debug`.
#[derive(Clone)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => path.display().fmt(f),
            Endpoint::Tls { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// What the connection brings.
#[derive(Debug)]
pub enum StreamEvent {
    /// A message.
    Message(Box<ToReader>),
    /// The stream is lost; the next try is under way by itself.
    Lost {
        /// Why.
        why: String,
        /// How long nothing had come when that was noticed.
        silence: Duration,
    },
    /// What follows comes from somewhere else.
    Source {
        /// Where from, for the header.
        name: String,
        /// Whether that knows of links, queues and messages.
        knows_links: bool,
    },
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("nobody serves it there now")]
    Nobody,
    #[error("{0}")]
    WebSocket(#[from] tokio_tungstenite::tungstenite::Error),
    #[error("no connection within {} s", CONNECT.as_secs())]
    ConnectTimeout,
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silence,
    #[error("the server closed the stream{0}")]
    Closed(String),
    #[error("the server sent something that is no message of the stream: {0}")]
    Nonsense(serde_json::Error),
    #[error("`{0}` is no host name")]
    HostName(String),
    #[error("the token has characters that no token has")]
    Token,
}

/// Reads the stream until `events` is closed. Requests that come while there is no stream are
/// dropped: their answers would belong to a screen that is stale.
pub async fn run(
    endpoint: Endpoint,
    events: mpsc::Sender<StreamEvent>,
    mut requests: mpsc::Receiver<FromReader>,
) {
    let mut failures = 0u32;
    loop {
        let mut served = false;
        let end = match session(&endpoint, &events, &mut requests, &mut served).await {
            Ok(()) => return,
            Err(end) => end,
        };
        failures = if served { 0 } else { failures + 1 };
        let silence = if matches!(end, End::Silence) { SILENCE } else { Duration::ZERO };
        if events.send(StreamEvent::Lost { why: end.to_string(), silence }).await.is_err() {
            return;
        }
        let wait = Duration::from_millis(200u64 << failures.min(5)).min(Duration::from_secs(5));
        tokio::time::sleep(wait).await;
        while requests.try_recv().is_ok() {}
    }
}

async fn session(
    endpoint: &Endpoint,
    events: &mpsc::Sender<StreamEvent>,
    requests: &mut mpsc::Receiver<FromReader>,
    served: &mut bool,
) -> Result<(), End> {
    match endpoint {
        Endpoint::Unix(path) => {
            let io = limit(UnixStream::connect(path)).await?.map_err(dialled)?;
            speak(io, "localhost", None, events, requests, served).await
        }
        Endpoint::Tls { host, port, config, token } => {
            let tcp = limit(TcpStream::connect((host.as_str(), *port))).await?.map_err(dialled)?;
            tcp.set_nodelay(true)?;
            let name =
                ServerName::try_from(host.clone()).map_err(|_| End::HostName(host.clone()))?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
            let io = limit(connector.connect(name, tcp)).await??;
            speak(io, host, token.as_ref(), events, requests, served).await
        }
    }
}

/// A socket without a server, or none at all, is how it is after every stop of one.
fn dialled(e: std::io::Error) -> End {
    match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => End::Nobody,
        _ => End::Io(e),
    }
}

async fn limit<F: Future>(f: F) -> Result<F::Output, End> {
    tokio::time::timeout(CONNECT, f).await.map_err(|_| End::ConnectTimeout)
}

async fn speak<S>(
    io: S,
    host: &str,
    token: Option<&Token>,
    events: &mpsc::Sender<StreamEvent>,
    requests: &mut mpsc::Receiver<FromReader>,
    served: &mut bool,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("ws://{host}/status/v1").into_client_request()?;
    if let Some(Token(token)) = token {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| End::Token)?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(64 << 10)
        .max_message_size(Some(MAX_UPDATE + 1024))
        .max_frame_size(Some(MAX_UPDATE + 1024));
    let handshake = tokio_tungstenite::client_async_with_config(request, io, Some(config));
    let (mut socket, _) = limit(handshake).await??;
    // What the user asks for meanwhile is no sign of life.
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = timeout_at(heard + SILENCE, socket.next()) => {
                let message = message.map_err(|_| End::Silence)?;
                heard = Instant::now();
                let text = match message {
                    None => return Err(End::Closed(String::new())),
                    Some(Err(e)) => return Err(e.into()),
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map(|f| format!(": {}", f.reason)).unwrap_or_default();
                        return Err(End::Closed(why));
                    }
                    Some(Ok(_)) => continue,
                };
                let message = serde_json::from_str(&text).map_err(End::Nonsense)?;
                *served = true;
                if events.send(StreamEvent::Message(Box::new(message))).await.is_err() {
                    return Ok(());
                }
            }
            request = requests.recv() => {
                let Some(request) = request else { return Ok(()) };
                let text = serde_json::to_string(&request).map_err(End::Nonsense)?;
                socket.send(Message::text(text)).await?;
            }
        }
    }
}

/// Plays a recording as if it came from a server.
pub mod replay {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::StreamEvent;
    use crate::record::Line;
    use crate::state::Replay;
    use crate::update::Steer;

    /// How fast a recording is played, in times of real time.
    const SLOWEST: f64 = 0.125;
    const FASTEST: f64 = 64.0;

    /// Runs until `events` is closed; tells where it stands through `position`.
    pub async fn run(
        lines: Vec<Line>,
        events: mpsc::Sender<StreamEvent>,
        mut steer: mpsc::Receiver<Steer>,
        position: mpsc::Sender<Replay>,
    ) {
        let end = lines.last().map_or(0, |l| l.at);
        let mut now = Replay { at: 0, end, speed: 1.0, paused: false };
        let mut next = 0;
        let mut last = tokio::time::Instant::now();
        loop {
            while next < lines.len() && lines[next].at <= now.at {
                let message = Box::new(lines[next].message.clone());
                if events.send(StreamEvent::Message(message)).await.is_err() {
                    return;
                }
                next += 1;
            }
            if position.send(now).await.is_err() {
                return;
            }
            let tick = tokio::time::sleep(Duration::from_millis(50));
            let playing = !now.paused && next < lines.len();
            let asked = tokio::select! {
                () = tick, if playing => None,
                asked = steer.recv() => match asked {
                    Some(asked) => Some(asked),
                    None => return,
                },
            };
            // Also of a tick that a key has cut short.
            if playing {
                let elapsed = last.elapsed().as_secs_f64() * 1000.0 * now.speed;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "milliseconds of a recording"
                )]
                let elapsed = elapsed as u64;
                now.at = (now.at + elapsed).min(end);
            }
            last = tokio::time::Instant::now();
            if let Some(asked) = asked {
                match asked {
                    Steer::Pause => now.paused = !now.paused,
                    Steer::Speed(times) => {
                        now.speed = (now.speed * times).clamp(SLOWEST, FASTEST);
                    }
                    Steer::Step => {
                        now.paused = true;
                        if let Some(line) = lines.get(next) {
                            now.at = line.at;
                        }
                    }
                    Steer::Seek(by) => {
                        let to = now.at.saturating_add_signed(by).min(end);
                        if to < now.at {
                            next = 0;
                        }
                        now.at = to;
                    }
                }
            }
        }
    }
}

//! A reader of the status stream, for a command.
//!
//! Owns: the socket and its time limits.
//! Called by: `fleet.rs`.
//! Never: connects again; a command that loses the stream says so and ends.

use std::sync::Arc;
use std::time::Duration;

use api::printable::printable;
use api::status::stream::{FromReader, Hello, MAX_UPDATE, Request, ToReader, Update, VERSION};
use futures::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::{Endpoint, merge};
use crate::errors::{CommandError, Kind, kind_of};

/// A restart is over when the containers have ended, for which they may take their time.
const GRACE: Duration = Duration::from_secs(60);
/// The server says something at least every 5 s.
const SILENCE: Duration = Duration::from_secs(15);

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A stream that has said hello.
pub struct StreamReader {
    socket: WebSocketStream<Box<dyn Io>>,
    endpoint: String,
    hello: Hello,
    limit: Duration,
    /// What came while an answer was waited for.
    before: Option<Update>,
}

impl StreamReader {
    /// Connects and waits for the server's hello, for at most `limit`.
    ///
    /// # Errors
    /// When nobody answers, who answers does not let us read, or speaks something else.
    pub async fn open(endpoint: &Endpoint, limit: Duration) -> Result<Self, CommandError> {
        tracing::debug!(%endpoint, "a status stream is asked for");
        match timeout(limit, Self::connect(endpoint, limit)).await {
            Ok(opened) => opened.inspect(|reader| {
                tracing::debug!(server = reader.hello().server, "it answers");
            }),
            Err(_) => Err(CommandError::new(
                Kind::TimedOut,
                format!("the status stream at `{endpoint}` does not answer"),
            )
            .because(format!("nothing came within {} s", limit.as_secs()))
            .hint("`--request-timeout` waits longer")),
        }
    }

    async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Self, CommandError> {
        let failed = |e: &std::io::Error| {
            CommandError::new(
                match kind_of(e) {
                    // A socket that nobody serves is as good as none.
                    Kind::NotFound | Kind::Failed => Kind::Unreachable,
                    kind => kind,
                },
                format!("cannot read the status stream at `{endpoint}`"),
            )
            .caused_by(e)
        };
        let (io, host, token): (Box<dyn Io>, &str, Option<&str>) = match endpoint {
            Endpoint::Unix(path) => {
                let io = UnixStream::connect(path.as_std_path()).await.map_err(|e| failed(&e))?;
                (Box::new(io), "localhost", None)
            }
            Endpoint::Tls { at, config, token } => {
                let to = (at.host.as_str(), at.port);
                let tcp = TcpStream::connect(to).await.map_err(|e| failed(&e))?;
                // An answer of a few bytes should not wait for the next.
                let _ = tcp.set_nodelay(true);
                let name = ServerName::try_from(at.host.clone()).map_err(|_| {
                    CommandError::new(Kind::Usage, format!("`{}` is no host name", at.host))
                })?;
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                let tls = connector.connect(name, tcp).await.map_err(|e| failed(&e))?;
                (Box::new(tls), at.host.as_str(), token.as_deref())
            }
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut request = format!("ws://{host}/status/v1").into_client_request().map_err(|e| {
            CommandError::new(Kind::Usage, format!("`{endpoint}` is no address")).caused_by(&e)
        })?;
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                CommandError::new(Kind::Usage, "the token has characters that no token has")
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let sizes = WebSocketConfig::default()
            .read_buffer_size(64 << 10)
            .max_message_size(Some(MAX_UPDATE + 1024))
            .max_frame_size(Some(MAX_UPDATE + 1024));
        let opened = tokio_tungstenite::client_async_with_config(request, io, Some(sizes)).await;
        let (socket, _) = opened.map_err(|e| refused(endpoint, &e))?;
        let endpoint = endpoint.to_string();
        let mut reader = Self { socket, endpoint, hello: Hello::default(), limit, before: None };
        match reader.message().await? {
            ToReader::Hello(hello) if hello.version <= VERSION => reader.hello = hello,
            ToReader::Hello(hello) => {
                return Err(CommandError::new(
                    Kind::Unsupported,
                    format!(
                        "the status stream at `{}` is of version {}, and this keadm reads {VERSION}",
                        reader.endpoint, hello.version
                    ),
                )
                .hint("use the keadm of the same version as the server"));
            }
            _ => return Err(reader.lost("it began without a hello")),
        }
        Ok(reader)
    }

    /// Who serves.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Where.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks for the message flow.
    ///
    /// # Errors
    /// When the stream is lost.
    pub async fn flow(&mut self) -> Result<(), CommandError> {
        self.say(&FromReader::Flow { on: true }).await
    }

    /// Asks for what nodes and pods use to be kept up to date.
    ///
    /// # Errors
    /// When the stream is lost.
    pub async fn usage(&mut self) -> Result<(), CommandError> {
        self.say(&FromReader::Usage { on: true }).await
    }

    /// Asks for something; the answer's text.
    ///
    /// # Errors
    /// When it is refused, or no answer comes in time.
    pub async fn request(&mut self, request: Request) -> Result<String, CommandError> {
        let limit = match &request {
            Request::RestartPod { .. } | Request::ConfirmUpgrade { .. } => self.limit + GRACE,
            _ => self.limit,
        };
        // One at a time: the number needs to be no other.
        let id = 1;
        self.say(&FromReader::Request { id, request }).await?;
        let answer = async {
            loop {
                match self.message().await? {
                    ToReader::Done(done) if done.id == id => return Ok::<_, CommandError>(done),
                    ToReader::Update(part) => match &mut self.before {
                        Some(whole) => merge(whole, *part),
                        None => self.before = Some(*part),
                    },
                    _ => {}
                }
            }
        };
        let done = match timeout(limit, answer).await {
            Ok(done) => done?,
            Err(_) => {
                return Err(CommandError::new(Kind::TimedOut, "no answer came in time")
                    .hint("it may still be done; `--request-timeout` waits longer"));
            }
        };
        match done.error.as_str() {
            "" => Ok(done.text),
            why => {
                let kind = match why {
                    why if why.contains(" may not ") => Kind::Refused,
                    why if why.contains(" has no tunnel ") => Kind::Unreachable,
                    _ => Kind::Failed,
                };
                let why = printable(why, 400).to_string();
                Err(CommandError::new(kind, "the cloud did not do it").because(why))
            }
        }
    }

    async fn say(&mut self, what: &FromReader) -> Result<(), CommandError> {
        let text = serde_json::to_string(what).map_err(|e| self.lost(&e.to_string()))?;
        match timeout(self.limit, self.socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.lost(&e.to_string())),
            Err(_) => Err(self.lost("it takes nothing any more")),
        }
    }

    /// Everything, within the time limit.
    ///
    /// # Errors
    /// When the stream is lost, or it does not come in time.
    pub async fn first(&mut self) -> Result<Update, CommandError> {
        match timeout(self.limit, self.update()).await {
            Ok(update) => update,
            Err(_) => Err(self.lost("it said hello and nothing else")),
        }
    }

    /// The next update, with all its parts.
    ///
    /// # Errors
    /// When the stream is lost.
    pub async fn update(&mut self) -> Result<Update, CommandError> {
        let mut whole = self.before.take();
        if let Some(whole) = whole.take_if(|whole| !whole.more) {
            return Ok(whole);
        }
        loop {
            let ToReader::Update(part) = self.message().await? else { continue };
            let more = part.more;
            match &mut whole {
                Some(whole) => merge(whole, *part),
                None => whole = Some(*part),
            }
            if !more {
                return Ok(whole.unwrap_or_default());
            }
        }
    }

    async fn message(&mut self) -> Result<ToReader, CommandError> {
        loop {
            let message = match timeout(SILENCE, self.socket.next()).await {
                Err(_) => return Err(self.lost("nothing came for 15 s")),
                Ok(None) => return Err(self.lost("the server has closed it")),
                Ok(Some(Err(e))) => return Err(self.lost(&e.to_string())),
                Ok(Some(Ok(message))) => message,
            };
            match message {
                Message::Text(text) => {
                    return serde_json::from_str(&text)
                        .map_err(|e| self.lost(&format!("what came is no message of it: {e}")));
                }
                Message::Close(frame) => {
                    let why = frame.map(|f| f.reason.to_string()).unwrap_or_default();
                    let why = printable(&why, 200).to_string();
                    return Err(self.lost(&format!("the server has closed it: {why}")));
                }
                _ => {}
            }
        }
    }

    fn lost(&self, why: &str) -> CommandError {
        CommandError::new(
            Kind::Unreachable,
            format!("the status stream at `{}` is lost", self.endpoint),
        )
        .because(why.to_owned())
    }
}

/// Why a server did not let us in.
fn refused(endpoint: &Endpoint, e: &WsError) -> CommandError {
    let error =
        |kind| CommandError::new(kind, format!("cannot read the status stream at `{endpoint}`"));
    let WsError::Http(answer) = e else {
        return error(Kind::Unreachable).caused_by(e);
    };
    let body = answer.body().as_deref().unwrap_or_default();
    let text = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
    let text = printable(&text, 500).to_string();
    let because = if text.is_empty() { answer.status().to_string() } else { text };
    match answer.status() {
        StatusCode::UNAUTHORIZED => error(Kind::Refused).because(because).hint(
            "use a kubeconfig with a client certificate or a token: `--kube-config FILE`, \
             `--token-file FILE`",
        ),
        StatusCode::FORBIDDEN => error(Kind::Refused)
            .because(because)
            .hint("the cluster role `view` lets read pods; nodes and devices need a rule of yours"),
        StatusCode::NOT_FOUND => error(Kind::Unsupported).because(
            "the server there has no status stream: it is another program, or an older one",
        ),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            error(Kind::Unreachable).because(because)
        }
        _ => error(Kind::Failed).because(because),
    }
}

//! The link to the cloud: dial, handshake, run a session, and again.
//!
//! Owns: whether there is a link, and how long to wait before the next try.
//! Called by: `app.rs` spawns it; anybody may watch [`LinkState`].
//! Never: gives up, and never takes an open socket for an accepted node.
//!
//! Two back-offs: a cloud that cannot be reached costs nobody anything to knock at, so that happens
//! about once a second, and the link is back soon after the cloud is. A cloud that refuses is asked
//! less and less often, down to every 30 s.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::names::NodeName;
use api::wire::handshake;
use api::wire::message::MAX_MESSAGE;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use service::CancellationToken;
use service::backoff::Backoff;
use service::tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error as WsError};

use super::dispatch::Dispatch;
use super::session::{self, End, LastHeard, Timing, printable};

/// Waits while the cloud cannot be reached.
const UNREACHABLE: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
/// Waits after the cloud has refused.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// One attempt to open a TCP connection. Another one is begun meanwhile.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection that lived this long was accepted.
const ACCEPTED_AFTER: Duration = Duration::from_secs(5);

/// Whether there is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LinkState {
    /// There is one now.
    pub(crate) up: bool,
    /// How many there have been.
    pub(crate) count: u64,
}

/// Where to dial, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct LinkSettings {
    /// `host:port` of cloudhub.
    pub(crate) server: String,
    /// `projectID`
    pub(crate) project: String,
    /// The node's name.
    pub(crate) node: NodeName,
    /// The id of the node's database.
    pub(crate) store_id: String,
    /// `tlsCaFile`; named in errors.
    pub(crate) ca_file: PathBuf,
    /// From TCP connection to open WebSocket.
    pub(crate) handshake_limit: Duration,
    /// How a connection is kept.
    pub(crate) timing: Timing,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server's name or address makes no sense.
    #[error("`{server}` is not a `host:port` to dial; check `modules.edgeHub`")]
    Address {
        /// As configured.
        server: String,
    },
    /// No TCP connection.
    #[error("cannot reach the cloud at `{server}`")]
    Unreachable {
        /// Where.
        server: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The certificate is for other names.
    #[error(
        "the cloud's certificate is for {}; this node dialled `{dialled}`: dial one of these, or add \
         `{dialled}` to the cloud's `advertiseAddress` or `dnsNames`",
        names(.valid_for)
    )]
    WrongName {
        /// The name or address dialled.
        dialled: String,
        /// The names in the certificate.
        valid_for: Vec<String>,
    },
    /// The certificate is of another CA.
    #[error(
        "the certificate of `{server}` is not signed by the CA in `{ca_file}`: this node belongs to \
         another cloud, or the cloud has a new CA; join again with a new token"
    )]
    WrongCa {
        /// Where.
        server: String,
        /// The trusted CA.
        ca_file: PathBuf,
    },
    /// The clock is off, or the certificate is old.
    #[error("the certificate of `{server}` is not valid now ({why}); check this machine's clock")]
    NotValidNow {
        /// Where.
        server: String,
        /// What rustls says.
        why: String,
    },
    /// The cloud does not accept the node's certificate.
    #[error("the cloud at `{server}` refuses this node's certificate ({why})")]
    CertificateRefused {
        /// Where.
        server: String,
        /// The TLS alert.
        why: String,
    },
    /// The cloud answered the handshake with another status than 101.
    #[error("the cloud at `{server}` refuses this node: {status}{}", said(.reason))]
    Refused {
        /// Where.
        server: String,
        /// The HTTP status.
        status: StatusCode,
        /// The body.
        reason: String,
    },
    /// TLS failed in another way.
    #[error("no TLS with the cloud at `{server}`")]
    Tls {
        /// Where.
        server: String,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The handshake was not answered in time.
    #[error("the cloud at `{server}` did not finish the handshake within {} s", .limit.as_secs_f32())]
    Slow {
        /// Where.
        server: String,
        /// The limit.
        limit: Duration,
    },
    /// The handshake broke off.
    #[error("the cloud at `{server}` broke off the handshake")]
    BrokenOff {
        /// Where.
        server: String,
        /// How.
        #[source]
        source: Box<tungstenite::Error>,
    },
    /// The node's own TLS material cannot be used.
    #[error(transparent)]
    Own(#[from] tls::TlsError),
}

fn names(valid_for: &[String]) -> String {
    if valid_for.is_empty() { "no name".to_owned() } else { valid_for.join(", ") }
}

fn said(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

impl LinkError {
    /// Whether knocking again soon is of no use.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Slow { .. } | Self::BrokenOff { .. })
    }
}

/// The link's task.
pub(crate) struct Link {
    settings: LinkSettings,
    dispatch: Dispatch,
    wake: Arc<Notify>,
    state: watch::Sender<LinkState>,
    /// Told when the certificate on the disk is another one.
    renewed: Arc<Notify>,
}

impl Link {
    pub(crate) fn new(
        settings: LinkSettings,
        dispatch: Dispatch,
        wake: Arc<Notify>,
        renewed: Arc<Notify>,
    ) -> Self {
        Self { settings, dispatch, wake, state: watch::Sender::default(), renewed }
    }

    /// Whether there is a link, to be watched.
    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Keeps the link until told to stop. `tls` is asked for before each try: the certificate may
    /// have been renewed.
    pub(crate) async fn run(
        self,
        tls: impl Fn() -> Result<Arc<ClientConfig>, tls::TlsError>,
        stopping: CancellationToken,
    ) {
        let mut refusals = 0;
        while !stopping.is_cancelled() {
            let dialled = tokio::select! {
                dialled = self.dial(&tls) => dialled,
                () = stopping.cancelled() => return,
            };
            let accepted = match dialled {
                Ok((socket, heard)) => self.session(socket, heard, &stopping).await,
                Err(e) => {
                    tracing::error!(error = service::error_chain(&e), "no link to the cloud");
                    !e.is_refusal()
                }
            };
            refusals = if accepted { 0 } else { refusals + 1 };
            let wait = REFUSED.next_delay(refusals);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.renewed.notified() => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    /// Runs one connection; says whether the cloud had accepted the node.
    async fn session(
        &self,
        socket: WebSocketStream<TlsStream<Heard<TcpStream>>>,
        heard: LastHeard,
        stopping: &CancellationToken,
    ) -> bool {
        let since = Instant::now();
        tracing::info!(server = self.settings.server, "link to the cloud is up");
        let up = Up::new(self);
        let leave = async {
            tokio::select! {
                () = self.renewed.notified() => End::Renewed,
                () = stopping.cancelled() => End::Stopping,
            }
        };
        let timing = self.settings.timing;
        let end = session::run(socket, heard, timing, &self.dispatch, &self.wake, leave).await;
        drop(up);
        let lasted = since.elapsed();
        match &end {
            End::Stopping => tracing::info!(?lasted, "link to the cloud is closed: {end}"),
            End::Renewed => tracing::info!(?lasted, "link to the cloud is made anew: {end}"),
            _ => tracing::warn!(
                ?lasted,
                reason = service::error_chain(&end),
                "link to the cloud is lost"
            ),
        }
        let refused = matches!(&end, End::Closed { .. }) && lasted < ACCEPTED_AFTER;
        !refused
    }

    /// Reaches the cloud, however long it takes, and opens a WebSocket.
    async fn dial(
        &self,
        tls: impl Fn() -> Result<Arc<ClientConfig>, tls::TlsError>,
    ) -> Result<(WebSocketStream<TlsStream<Heard<TcpStream>>>, LastHeard), LinkError> {
        let server = &self.settings.server;
        let host = host_of(server).ok_or_else(|| LinkError::Address { server: server.clone() })?;
        let tcp = reach(server).await;
        let limit = self.settings.handshake_limit;
        let heard = LastHeard::new();
        let handshake = self.handshake(tls()?, host, tcp, heard.clone());
        let socket = tokio::time::timeout(limit, handshake)
            .await
            .map_err(|_| LinkError::Slow { server: server.clone(), limit })??;
        Ok((socket, heard))
    }

    async fn handshake(
        &self,
        tls: Arc<ClientConfig>,
        host: &str,
        tcp: TcpStream,
        heard: LastHeard,
    ) -> Result<WebSocketStream<TlsStream<Heard<TcpStream>>>, LinkError> {
        let server = &self.settings.server;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| LinkError::Address { server: server.clone() })?;
        if let Err(e) = tcp.set_nodelay(true) {
            tracing::debug!(error = %e, "cannot set TCP_NODELAY");
        }
        let stream = TlsConnector::from(tls)
            .connect(name, Heard::new(tcp, heard))
            .await
            .map_err(|e| tls_error(server, host, &self.settings.ca_file, e))?;
        let request =
            self.request().ok_or_else(|| LinkError::Address { server: server.clone() })?;
        match tokio_tungstenite::client_async_with_config(request, stream, Some(limits())).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(response)) => Err(refused(server, *response)),
            // TLS 1.3 tells a client only now that its certificate is not liked.
            Err(WsError::Io(e)) => Err(tls_error(server, host, &self.settings.ca_file, e)),
            Err(e) => Err(LinkError::BrokenOff { server: server.clone(), source: Box::new(e) }),
        }
    }

    fn request(&self) -> Option<Request> {
        let LinkSettings { server, project, node, store_id, .. } = &self.settings;
        let url = format!("wss://{server}{}", handshake::path(project, node));
        let mut request = url.into_client_request().ok()?;
        let headers = request.headers_mut();
        headers.insert(handshake::NODE_ID, HeaderValue::from_str(node.as_str()).ok()?);
        headers.insert(handshake::PROJECT_ID, HeaderValue::from_str(project).ok()?);
        headers.insert(handshake::STORE_ID, HeaderValue::from_str(store_id).ok()?);
        headers
            .insert(handshake::CONNECTION_USE, HeaderValue::from_static(handshake::USE_MESSAGES));
        Some(request)
    }
}

/// The link is up as long as this lives, however the session ends.
struct Up<'a>(&'a Link);

impl<'a> Up<'a> {
    fn new(link: &'a Link) -> Self {
        link.dispatch.requests.link_up();
        link.dispatch.to_cloud.link_up();
        link.state.send_modify(|s| *s = LinkState { up: true, count: s.count + 1 });
        Self(link)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|s| s.up = false);
        self.0.dispatch.requests.link_cut();
        self.0.dispatch.to_cloud.link_cut();
    }
}

/// Small buffers: an idle link should cost little memory.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(16 << 10)
        .max_write_buffer_size(MAX_MESSAGE + (1 << 20))
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// The host in `host:port`; an IPv6 address without its brackets.
pub(crate) fn host_of(server: &str) -> Option<&str> {
    let (host, port) = server.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// Opens a TCP connection, however long it takes. While one attempt hangs, further ones are made,
/// so that a network that swallows packets and then mends is noticed at once.
async fn reach(server: &str) -> TcpStream {
    let mut attempts = FuturesUnordered::new();
    let mut tries = 0;
    let mut said = String::new();
    loop {
        attempts.push(tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(server)));
        let next = tokio::time::sleep(UNREACHABLE.next_delay(tries));
        tokio::pin!(next);
        tries = tries.saturating_add(1);
        loop {
            tokio::select! {
                Some(ended) = attempts.next() => {
                    let why = match ended {
                        Ok(Ok(stream)) => return stream,
                        Ok(Err(e)) => e,
                        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
                    };
                    let e = LinkError::Unreachable { server: server.to_owned(), source: why };
                    let text = service::error_chain(&e);
                    if text == said {
                        tracing::debug!("{text}");
                    } else {
                        tracing::warn!("{text}; trying on");
                        said = text;
                    }
                }
                () = &mut next => break,
            }
        }
    }
}

fn refused(server: &str, response: Response) -> LinkError {
    let status = response.status();
    let body = response.into_body().unwrap_or_default();
    let reason = printable(&String::from_utf8_lossy(&body));
    LinkError::Refused { server: server.to_owned(), status, reason }
}

/// What a failed TLS handshake means to somebody who has to mend it.
pub(crate) fn tls_error(
    server: &str,
    host: &str,
    ca_file: &std::path::Path,
    e: io::Error,
) -> LinkError {
    let server = server.to_owned();
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).cloned();
    let Some(inner) = inner else {
        return LinkError::BrokenOff { server, source: Box::new(WsError::Io(e)) };
    };
    match inner {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        }) => LinkError::WrongName {
            dialled: host.to_owned(),
            // KubeEdge's certificates have an empty name beside the real ones.
            valid_for: presented.iter().map(|n| plain_name(n)).filter(|n| n != "``").collect(),
        },
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
            LinkError::WrongName { dialled: host.to_owned(), valid_for: Vec::new() }
        }
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => LinkError::WrongCa { server, ca_file: ca_file.to_owned() },
        rustls::Error::InvalidCertificate(
            why @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        ) => LinkError::NotValidNow { server, why: why.to_string() },
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        ) => LinkError::CertificateRefused { server, why: format!("{alert:?}") },
        source => LinkError::Tls { server, source },
    }
}

/// `DnsName("a")` and `IpAddress(10.0.0.1)` as people write them.
fn plain_name(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    format!("`{}`", inner.unwrap_or(presented).trim_matches('"'))
}

/// A stream that notes when a byte came in.
pub(crate) struct Heard<S> {
    inner: S,
    heard: LastHeard,
}

impl<S> Heard<S> {
    pub(crate) fn new(inner: S, heard: LastHeard) -> Self {
        Self { inner, heard }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.now();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

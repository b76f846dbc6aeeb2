//! One HTTPS request to cloudcore's certificate service or to an admin port.
//!
//! Owns: time-outs, limits, and what an error of the network means to a person.
//! Called by: `join` and `check`.
//! Never: follows a redirect, or reads more than 1 MiB.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::errors::{CommandError, Kind};

/// For the connection, the handshake and the answer, each.
const LIMIT: Duration = Duration::from_secs(8);
const BODY_LIMIT: usize = 1 << 20;

/// `host:port`, where the host may be a name, an IPv4 or a bracketed IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::str::FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not HOST:PORT, for example `10.0.4.2:10000`");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(wrong)?;
        ServerName::try_from(host).map_err(|_| wrong())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What the server's clock says.
    pub date: Option<SystemTime>,
    /// Its body.
    pub body: Bytes,
}

/// A request: GET, as all of cloudcore's certificate service are.
#[derive(Default)]
pub struct Get {
    /// The path.
    pub path: String,
    /// `Authorization`, a secret.
    pub authorization: Option<String>,
    /// The header `NodeName`.
    pub node_name: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Opens a TCP connection.
///
/// # Errors
/// When the name does not resolve or nobody answers.
pub async fn connect(to: &HostPort) -> Result<TcpStream, CommandError> {
    let resolve = tokio::net::lookup_host((to.host.as_str(), to.port));
    let addresses: Vec<SocketAddr> = tokio::time::timeout(LIMIT, resolve)
        .await
        .map_err(|_| unresolved(to).because("the name server does not answer"))?
        .map_err(|e| unresolved(to).caused_by(&e))?
        .collect();
    match tokio::time::timeout(LIMIT, TcpStream::connect(&addresses[..])).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(CommandError::new(Kind::Unreachable, format!("cannot reach `{to}`"))
            .caused_by(&e)
            .hint(match e.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    "nothing listens there: is cloudcore running, and is the port right? \
                     `keadm check cloud` on the cloud side tells"
                        .to_owned()
                }
                _ => format!("check the route and the firewall: `ip route get {}`", to.host),
            })),
        Err(_) => Err(CommandError::new(Kind::Unreachable, format!("cannot reach `{to}`"))
            .because(format!("no answer within {} s", LIMIT.as_secs()))
            .hint("a firewall may drop the packets; edges need the cloud's ports 10000 and 10002")),
    }
}

fn unresolved(to: &HostPort) -> CommandError {
    CommandError::new(Kind::Unreachable, format!("cannot find the address of `{}`", to.host))
        .hint("use the IP address, or add the name to /etc/hosts")
}

/// Sends a request over TLS.
///
/// # Errors
/// When nobody answers, the certificate is not accepted, or the answer is broken.
pub async fn get(to: &HostPort, tls: ClientConfig, get: Get) -> Result<Answer, CommandError> {
    let stream = connect(to).await?;
    let name = ServerName::try_from(to.host.clone()).map_err(|e| {
        CommandError::new(Kind::Usage, format!("`{}` is no host", to.host)).caused_by(&e)
    })?;
    let handshake = TlsConnector::from(Arc::new(tls)).connect(name, stream);
    let stream = tokio::time::timeout(LIMIT, handshake)
        .await
        .map_err(|_| silent(to, "the TLS handshake"))?
        .map_err(|e| tls_error(to, &e))?;
    exchange(to, stream, get).await
}

/// Sends a request without TLS; only for admin ports on this machine.
///
/// # Errors
/// When nobody answers or the answer is broken.
pub async fn get_plain(to: &HostPort, path: &str) -> Result<Answer, CommandError> {
    let stream = connect(to).await?;
    exchange(to, stream, Get { path: path.to_owned(), ..Get::default() }).await
}

async fn exchange<S>(to: &HostPort, stream: S, get: Get) -> Result<Answer, CommandError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e: &(dyn std::error::Error + 'static)| {
        CommandError::new(Kind::Unreachable, format!("`{to}` does not answer as cloudcore does"))
            .caused_by(e)
    };
    let mut request = Request::get(&get.path).header(header::HOST, to.to_string());
    if let Some(secret) = &get.authorization {
        let mut value = header::HeaderValue::from_str(secret).map_err(|e| broken(&e))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    if let Some(node) = &get.node_name {
        request = request.header("NodeName", node);
    }
    let request = request.body(Full::new(Bytes::from(get.body))).map_err(|e| broken(&e))?;
    let talk = async {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|e| broken(&*e))?;
        Ok(Answer {
            status: parts.status,
            date: parts.headers.get(header::DATE).and_then(|d| parse_date(d.to_str().ok()?)),
            body: body.to_bytes(),
        })
    };
    tokio::time::timeout(LIMIT, talk).await.map_err(|_| silent(to, "the request"))?
}

fn silent(to: &HostPort, what: &str) -> CommandError {
    CommandError::new(Kind::TimedOut, format!("`{to}` does not answer {what}"))
        .because(format!("nothing came within {} s", LIMIT.as_secs()))
        .hint("is it cloudcore that listens there? the certificate service is on port 10002")
}

/// `Sun, 22 Nov 2026 07:02:00 GMT`
fn parse_date(text: &str) -> Option<SystemTime> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| SystemTime::from(zoned.timestamp()))
}

/// What a failed handshake means.
fn tls_error(to: &HostPort, e: &std::io::Error) -> CommandError {
    let refused = |text: String| CommandError::new(Kind::Refused, text);
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = inner else {
        return CommandError::new(Kind::Unreachable, format!("`{to}` does not speak TLS with us"))
            .caused_by(e)
            .hint("is it cloudcore that listens there? the certificate service is on port 10002");
    };
    match reason {
        CertificateError::NotValidForNameContext { presented, .. } => refused(format!(
            "the certificate of `{to}` is not valid for `{}`",
            to.host
        ))
        .because(match presented.as_slice() {
            [] => "it names no address at all".to_owned(),
            names => format!("it is valid for {}", names.join(", ")),
        })
        .hint(format!(
            "join with one of these addresses, or run `keadm init --advertise-address {}` again on \
             the cloud side",
            to.host
        )),
        CertificateError::NotValidForName => {
            refused(format!("the certificate of `{to}` is not valid for `{}`", to.host))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            refused(format!("the certificate of `{to}` is not valid yet"))
                .because(format!(
                    "it is valid from {}, and this machine's clock says {}",
                    utc(not_before.as_secs()),
                    utc(time.as_secs())
                ))
                .hint("set the clock: `timedatectl set-ntp true`, or `date -s`")
        }
        CertificateError::ExpiredContext { time, not_after } => {
            refused(format!("the certificate of `{to}` has expired"))
                .because(format!(
                    "it was valid until {}, and this machine's clock says {}",
                    utc(not_after.as_secs()),
                    utc(time.as_secs())
                ))
                .hint("if the clock is right, restart cloudcore: it renews its certificate")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            refused(format!("the certificate of `{to}` was made by another CA"))
                .because("the CA certificate held here is not the one of this cloudcore")
                .hint("`keadm reset edge`, then join with a token of this cloudcore")
        }
        other => refused(format!("the certificate of `{to}` is not accepted"))
            .because(format!("{other:?}")),
    }
}

/// A time in UTC.
pub fn utc(seconds: u64) -> String {
    let millis = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    api::moment::stamp(millis, &jiff::tz::TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_port() {
        let parse = |text: &str| text.parse::<HostPort>().map(|h| h.to_string());
        assert_eq!(parse("10.0.4.2:10000").unwrap(), "10.0.4.2:10000");
        assert_eq!(parse("[fd00::1]:10000").unwrap(), "[fd00::1]:10000");
        assert_eq!(parse("cloud.example:1").unwrap(), "cloud.example:1");
        for wrong in ["10.0.4.2", "10.0.4.2:", "10.0.4.2:0", "fd00::1:10000", ":1", "a b:1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dates_of_http_are_read() {
        let date = parse_date("Sun, 22 Nov 2026 07:02:00 GMT").unwrap();
        let seconds = date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(utc(seconds), "2026-11-22T07:02:00Z");
    }
}

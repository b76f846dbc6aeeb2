//! The connection to an external broker, such as mosquitto: one to hear, one to speak.
//!
//! Owns: the sockets, what was published and not acknowledged.
//! Called by: `mod.rs`, two tasks.
//! Never: gives up. Between two tries are at most five seconds; what is published meanwhile waits in
//! the channel, and what does not fit is dropped, and counted, by whoever publishes.
//!
//! As the original: a clean session each time, QoS 1, nothing retained.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::config::Secret;
use api::config::edgecore::EventBusTls;
use futures::{SinkExt, StreamExt};
use rumqttc::mqttbytes::v4::{
    Codec, Connect, ConnectReturnCode, Packet, PubAck, Publish, Subscribe, SubscribeFilter,
    SubscribeReasonCode, Unsubscribe,
};
use rumqttc::mqttbytes::{Error, QoS};
use rustls_pki_types::ServerName;
use service::backoff::Backoff;
use service::tls::{self, ServerTrust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::codec::Framed;

use super::broker::codec;
use super::{Heard, Interest};
use crate::devicetwin::Publication;

const REDIAL: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long dialling, and each packet, may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Publications that are not acknowledged at a time.
const WINDOW: usize = 64;

/// Where the broker is and who we are.
#[derive(Debug, Clone)]
pub(super) struct External {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) tls: Option<EventBusTls>,
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("cannot connect")]
    Dial(#[source] io::Error),
    #[error("TLS cannot be used")]
    Tls(#[from] tls::TlsError),
    #[error("the broker refuses the connection: {0}")]
    Refused(&'static str),
    #[error("the broker refuses the subscription to `{0}`")]
    Subscription(String),
    #[error("the broker does not answer")]
    Silent,
    #[error("the broker closed the connection")]
    Closed,
    #[error("the connection failed")]
    Failed(#[from] Error),
    #[error("the broker sent what makes no sense")]
    Protocol,
}

impl External {
    /// Reads `tcp://host:port` and its like.
    pub(super) fn address(url: &str) -> Option<(String, u16)> {
        let rest = match url.split_once("://") {
            Some(("tcp" | "mqtt" | "ssl" | "tls" | "mqtts", rest)) => rest,
            Some(_) => return None,
            None => url,
        };
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|p| *p != 0)?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    }

    pub(super) async fn dial(&self, client_id: &str) -> Result<Socket, Lost> {
        let dialled = tokio::time::timeout(WITHIN, self.stream());
        let stream = dialled.await.map_err(|_| Lost::Silent)??;
        let mut socket = Framed::new(stream, codec());
        let mut connect = Connect::new(client_id);
        connect.keep_alive = u16::try_from(KEEPALIVE.as_secs()).unwrap_or(u16::MAX);
        if !self.username.is_empty() {
            connect.set_login(self.username.clone(), self.password.expose());
        }
        send(&mut socket, Packet::Connect(connect)).await?;
        match next(&mut socket).await? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(socket),
            Packet::ConnAck(ack) => Err(Lost::Refused(match ack.code {
                ConnectReturnCode::BadUserNamePassword => "wrong user name or password",
                ConnectReturnCode::NotAuthorized => "not authorized",
                ConnectReturnCode::BadClientId => "the client id is refused",
                ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
                _ => "it is not available",
            })),
            _ => Err(Lost::Protocol),
        }
    }

    async fn stream(&self) -> Result<Box<dyn Stream>, Lost> {
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(Lost::Dial)?;
        let _ = stream.set_nodelay(true);
        let Some(files) = &self.tls else { return Ok(Box::new(stream)) };
        // Read at each connection: certificates are renewed.
        let roots = tls::roots(tls::load_certificates(&files.tls_mqtt_ca_file)?)?;
        // Brokers that ask for a password often ask for no certificate.
        let (certificate, key) = (&files.tls_mqtt_cert_file, &files.tls_mqtt_private_key_file);
        let identity = match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, true) => None,
            _ => Some(tls::Identity::from_files(certificate, key)?),
        };
        let config = tls::client_config(ServerTrust::Roots(roots), identity.as_ref(), &[])?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Lost::Refused("its name cannot be in a certificate"))?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Box::new(connector.connect(name, stream).await.map_err(Lost::Dial)?))
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) type Socket = Framed<Box<dyn Stream>, Codec>;

async fn send(socket: &mut Socket, packet: Packet) -> Result<(), Lost> {
    Ok(tokio::time::timeout(WITHIN, socket.send(packet)).await.map_err(|_| Lost::Silent)??)
}

async fn next(socket: &mut Socket) -> Result<Packet, Lost> {
    let next = tokio::time::timeout(WITHIN, socket.next()).await.map_err(|_| Lost::Silent)?;
    Ok(next.ok_or(Lost::Closed)??)
}

/// Says once that a broker cannot be reached, and once that it can again.
struct Moods {
    what: &'static str,
    down: bool,
    tries: u32,
}

impl Moods {
    fn new(what: &'static str) -> Self {
        Self { what, down: false, tries: 0 }
    }

    fn up(&mut self, to: &External) {
        (self.down, self.tries) = (false, 0);
        tracing::info!(
            broker = to.host,
            port = to.port,
            "connected to the MQTT broker to {}",
            self.what
        );
    }

    async fn lost(&mut self, to: &External, why: &Lost) {
        let why = service::error_chain(why);
        if self.down {
            tracing::debug!(broker = to.host, port = to.port, "still no MQTT broker: {why}");
        } else {
            tracing::warn!(
                broker = to.host,
                port = to.port,
                "no connection to the MQTT broker to {}, trying on: {why}",
                self.what
            );
        }
        self.down = true;
        tokio::time::sleep(REDIAL.next_delay(self.tries)).await;
        self.tries += 1;
    }
}

/// Hears what is of interest, for ever. When `heard` is full, the broker waits.
pub(super) async fn hear(to: External, client_id: String, mut interest: Interest, heard: Heard) {
    let mut moods = Moods::new("subscribe");
    loop {
        let why = match to.dial(&client_id).await {
            Ok(socket) => match listen(socket, &mut interest, &heard, || moods.up(&to)).await {
                Ok(never) => match never {},
                Err(why) => why,
            },
            Err(why) => why,
        };
        moods.lost(&to, &why).await;
    }
}

async fn listen(
    mut socket: Socket,
    interest: &mut Interest,
    heard: &Heard,
    up: impl FnOnce(),
) -> Result<std::convert::Infallible, Lost> {
    let mut subscribed = interest.seen();
    let mut packet_id = 1;
    subscribe(&mut socket, &subscribed, packet_id).await?;
    let mut up = Some(up);
    let (mut ping_at, mut heard_at) = (Instant::now() + KEEPALIVE / 2, Instant::now());
    loop {
        tokio::select! {
            packet = socket.next() => {
                heard_at = Instant::now();
                match packet.ok_or(Lost::Closed)?? {
                    Packet::Publish(publish) => {
                        let id = publish.pkid;
                        heard.bring(publish.topic, publish.payload).await;
                        if publish.qos == QoS::AtLeastOnce {
                            send(&mut socket, Packet::PubAck(PubAck { pkid: id })).await?;
                        }
                    }
                    Packet::SubAck(ack) => {
                        let failed = ack.return_codes.iter().position(
                            |code| matches!(code, SubscribeReasonCode::Failure));
                        if let Some(filter) = failed.and_then(|at| subscribed.get(at)) {
                            return Err(Lost::Subscription(filter.clone()));
                        }
                        if let Some(up) = up.take() {
                            up();
                        }
                    }
                    _ => {}
                }
            }
            () = interest.changed() => {
                let now = interest.seen();
                packet_id = if packet_id == u16::MAX { 1 } else { packet_id + 1 };
                let gone: Vec<String> =
                    subscribed.iter().filter(|f| !now.contains(f)).cloned().collect();
                if !gone.is_empty() {
                    let packet = Unsubscribe { pkid: packet_id, topics: gone };
                    send(&mut socket, Packet::Unsubscribe(packet)).await?;
                    packet_id = if packet_id == u16::MAX { 1 } else { packet_id + 1 };
                }
                subscribed = now;
                // All of them: subscribing again changes nothing, and the answer is the same list.
                subscribe(&mut socket, &subscribed, packet_id).await?;
            }
            () = tokio::time::sleep_until(ping_at) => {
                if heard_at.elapsed() > KEEPALIVE * 3 / 2 {
                    return Err(Lost::Silent);
                }
                ping_at = Instant::now() + KEEPALIVE / 2;
                send(&mut socket, Packet::PingReq).await?;
            }
        }
    }
}

async fn subscribe(socket: &mut Socket, filters: &[String], pkid: u16) -> Result<(), Lost> {
    let filter = |path: &String| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce);
    let filters = filters.iter().map(filter).collect();
    send(socket, Packet::Subscribe(Subscribe { pkid, filters })).await
}

/// Publishes what comes, for ever. What was not acknowledged when a connection was lost is published
/// again at the begin of the next.
pub(super) async fn speak(
    to: External,
    client_id: String,
    mut outgoing: mpsc::Receiver<Publication>,
) {
    let mut moods = Moods::new("publish");
    let mut unacked: VecDeque<(u16, Publication)> = VecDeque::new();
    loop {
        let why = match to.dial(&client_id).await {
            Ok(socket) => {
                moods.up(&to);
                match talk(socket, &mut outgoing, &mut unacked).await {
                    Ok(()) => return,
                    Err(why) => why,
                }
            }
            Err(why) => why,
        };
        moods.lost(&to, &why).await;
    }
}

async fn talk(
    mut socket: Socket,
    outgoing: &mut mpsc::Receiver<Publication>,
    unacked: &mut VecDeque<(u16, Publication)>,
) -> Result<(), Lost> {
    let mut last_id = 0_u16;
    let mut next_id = || {
        last_id = last_id.checked_add(1).unwrap_or(1);
        last_id
    };
    for (id, publication) in unacked.iter_mut() {
        *id = next_id();
        send(&mut socket, publish(*id, publication)).await?;
    }
    let (mut ping_at, mut heard_at) = (Instant::now() + KEEPALIVE / 2, Instant::now());
    loop {
        tokio::select! {
            packet = socket.next() => {
                heard_at = Instant::now();
                if let Packet::PubAck(ack) = packet.ok_or(Lost::Closed)?? {
                    unacked.retain(|(id, _)| *id != ack.pkid);
                }
            }
            next = outgoing.recv(), if unacked.len() < WINDOW => {
                let Some(publication) = next else { return Ok(()) };
                let id = next_id();
                let packet = publish(id, &publication);
                unacked.push_back((id, publication));
                send(&mut socket, packet).await?;
            }
            () = tokio::time::sleep_until(ping_at) => {
                if heard_at.elapsed() > KEEPALIVE * 3 / 2 {
                    return Err(Lost::Silent);
                }
                ping_at = Instant::now() + KEEPALIVE / 2;
                send(&mut socket, Packet::PingReq).await?;
            }
        }
    }
}

fn publish(id: u16, publication: &Publication) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: publication.topic.clone(),
        pkid: id,
        payload: publication.payload.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_original_writes_them() {
        for (url, host, port) in [
            ("tcp://127.0.0.1:1883", "127.0.0.1", 1883),
            ("ssl://broker.example:8883/", "broker.example", 8883),
            ("mqtt://[::1]:1", "::1", 1),
            ("localhost:1883", "localhost", 1883),
        ] {
            assert_eq!(External::address(url), Some((host.to_owned(), port)), "{url}");
        }
        for bad in ["", "tcp://", "tcp://host", "tcp://host:0", "http://host:80", "tcp://:1"] {
            assert_eq!(External::address(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_in_what_is_printed() {
        let external = External {
            host: "h".into(),
            port: 1,
            username: "u".into(),
            password: "s3cret".to_owned().into(),
            tls: None,
        };
        assert!(!format!("{external:?}").contains("s3cret"));
    }
}

//! One client of the built-in broker, from CONNECT to its end.
//!
//! Owns: the socket. Called by: `mod.rs`, a task per connection.
//! Never: reads on while what the client published is not taken, or waits for a client that does
//! not read: it is cut off, and what it is owed waits in its session.

use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use rumqttc::mqttbytes::v4::{
    Codec, ConnAck, Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, Publish, SubAck,
    Subscribe, SubscribeReasonCode, UnsubAck,
};
use rumqttc::mqttbytes::{Error, Protocol, QoS};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::codec::Framed;

use super::super::topics::is_topic;
use super::session::Will;
use super::table::Taken;
use super::{Broker, codec};

/// How long a client may take to say who it is.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to read a packet.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// How long a client may be silent that asked for no keepalive.
const SILENCE: Duration = Duration::from_secs(4 * 3600);
/// Answers that wait for the writer; when they are as many, the reader waits.
const ANSWERS: usize = 64;
/// Bytes of a client's name at most.
const MAX_NAME: usize = 256;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("it said goodbye")]
    Goodbye,
    #[error("it closed the connection")]
    Closed,
    #[error("it was silent for too long")]
    Silent,
    #[error("it does not read")]
    Stuck,
    #[error("another connection has its session")]
    Replaced,
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the connection failed")]
    Failed(#[from] Error),
}

type Socket = Framed<TcpStream, Codec>;

/// Serves a client until it ends.
pub(super) async fn serve(stream: TcpStream, broker: &Broker) -> Result<(), End> {
    let mut socket = Framed::new(stream, codec());
    let first = tokio::time::timeout(CONNECT_WITHIN, socket.next()).await;
    let connect = match first.map_err(|_| End::Silent)?.ok_or(End::Closed)? {
        Ok(Packet::Connect(connect)) => connect,
        Ok(_) => return Err(End::Protocol("its first packet is no CONNECT")),
        Err(e) => {
            refuse(&mut socket, ConnectReturnCode::RefusedProtocolVersion).await;
            return Err(e.into());
        }
    };
    let (client, taken, idle) = accept(&mut socket, connect, broker).await?;
    let (sink, stream) = socket.split();
    let (answer, answers) = mpsc::channel(ANSWERS);
    let end = tokio::select! {
        end = read(stream, &client, &taken, broker, &answer, idle) => end,
        end = write(sink, &client, &taken, broker, answers) => end,
    };
    let said = matches!(end, End::Goodbye);
    broker.core.lock().disconnect(&client, taken.connection, said);
    if said { Ok(()) } else { Err(end) }
}

async fn refuse(socket: &mut Socket, code: ConnectReturnCode) {
    let no = Packet::ConnAck(ConnAck::new(code, false));
    // It is cut off in any case.
    let _ = tokio::time::timeout(WRITE_WITHIN, socket.send(no)).await;
}

/// Takes a session for the client; says its name and how long it may be silent.
async fn accept(
    socket: &mut Socket,
    connect: Connect,
    broker: &Broker,
) -> Result<(String, Taken, Duration), End> {
    if connect.protocol == Protocol::V5 {
        refuse(socket, ConnectReturnCode::RefusedProtocolVersion).await;
        return Err(End::Protocol("it speaks MQTT 5, this broker 3.1.1"));
    }
    let client = match connect.client_id {
        id if id.is_empty() && connect.clean_session => {
            format!("anonymous-{}", uuid::Uuid::new_v4())
        }
        id if id.is_empty() || id.len() > MAX_NAME || id.contains(char::is_control) => {
            refuse(socket, ConnectReturnCode::BadClientId).await;
            return Err(End::Protocol("its name cannot be one"));
        }
        id => id,
    };
    let will = connect.last_will.map(|w| Will {
        topic: w.topic,
        payload: w.message,
        qos: w.qos,
        retain: w.retain,
    });
    if will.as_ref().is_some_and(|w| !is_topic(&w.topic)) {
        return Err(End::Protocol("the topic of its will is none"));
    }
    let taken = broker.core.lock().connect(&client, connect.clean_session, will);
    let Some(taken) = taken else {
        refuse(socket, ConnectReturnCode::ServiceUnavailable).await;
        return Err(End::Protocol("there are too many clients"));
    };
    let yes = Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, taken.present));
    let sent = tokio::time::timeout(WRITE_WITHIN, socket.send(yes)).await;
    if !matches!(sent, Ok(Ok(()))) {
        broker.core.lock().disconnect(&client, taken.connection, false);
        return Err(End::Stuck);
    }
    let idle = match connect.keep_alive {
        0 => SILENCE,
        seconds => Duration::from_millis(1500 * u64::from(seconds)),
    };
    Ok((client, taken, idle))
}

async fn read(
    mut stream: SplitStream<Socket>,
    client: &str,
    taken: &Taken,
    broker: &Broker,
    answer: &mpsc::Sender<Packet>,
    idle: Duration,
) -> End {
    loop {
        let packet = match tokio::time::timeout(idle, stream.next()).await {
            Err(_) => return End::Silent,
            Ok(None) => return End::Closed,
            Ok(Some(Err(e))) => return e.into(),
            Ok(Some(Ok(packet))) => packet,
        };
        let reply = match handle(packet, client, taken, broker).await {
            Ok(reply) => reply,
            Err(end) => return end,
        };
        // Fails only when the writer has ended, and the connection with it.
        if let Some(reply) = reply
            && answer.send(reply).await.is_err()
        {
            return End::Closed;
        }
    }
}

/// What a packet of the client does, and what it is answered.
async fn handle(
    packet: Packet,
    client: &str,
    taken: &Taken,
    broker: &Broker,
) -> Result<Option<Packet>, End> {
    let session = |act: &mut dyn FnMut(&mut super::session::Session)| {
        broker.core.lock().session(client, taken.connection).map(act).ok_or(End::Replaced)
    };
    match packet {
        Packet::Publish(publish) => published(publish, client, taken, broker).await,
        Packet::PubAck(ack) => {
            session(&mut |s| s.acked(ack.pkid))?;
            // There is room in the window.
            taken.wake.notify_one();
            Ok(None)
        }
        Packet::PubRec(rec) => {
            let mut release = None;
            session(&mut |s| release = Some(s.recorded(rec.pkid)))?;
            Ok(release)
        }
        Packet::PubComp(comp) => {
            session(&mut |s| s.completed(comp.pkid))?;
            taken.wake.notify_one();
            Ok(None)
        }
        Packet::PubRel(rel) => {
            session(&mut |s| s.released(rel.pkid))?;
            Ok(Some(Packet::PubComp(PubComp { pkid: rel.pkid })))
        }
        Packet::Subscribe(subscribe) => Ok(Some(subscribed(&subscribe, client, taken, broker))),
        Packet::Unsubscribe(unsubscribe) => {
            let mut core = broker.core.lock();
            for filter in &unsubscribe.topics {
                core.unsubscribe(client, taken.connection, filter);
            }
            Ok(Some(Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid })))
        }
        Packet::PingReq => Ok(Some(Packet::PingResp)),
        Packet::Disconnect => Err(End::Goodbye),
        Packet::Connect(_) => Err(End::Protocol("it sent a second CONNECT")),
        Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
            Err(End::Protocol("it sent what only a broker sends"))
        }
    }
}

async fn published(
    publish: Publish,
    client: &str,
    taken: &Taken,
    broker: &Broker,
) -> Result<Option<Packet>, End> {
    if !is_topic(&publish.topic) {
        broker.core.lock().refused();
        return Err(End::Protocol("it published to what is no topic"));
    }
    let new = match publish.qos {
        QoS::ExactlyOnce => {
            let mut core = broker.core.lock();
            let session = core.session(client, taken.connection).ok_or(End::Replaced)?;
            session.receive(publish.pkid).ok_or(End::Protocol("it releases nothing"))?
        }
        _ => true,
    };
    if new {
        let (topic, payload) = (&publish.topic, &publish.payload);
        broker.core.lock().publish(topic, payload, publish.qos, publish.retain);
        broker.tell(topic, payload).await;
    }
    Ok(match publish.qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(Packet::PubAck(PubAck { pkid: publish.pkid })),
        QoS::ExactlyOnce => Some(Packet::PubRec(PubRec { pkid: publish.pkid })),
    })
}

fn subscribed(subscribe: &Subscribe, client: &str, taken: &Taken, broker: &Broker) -> Packet {
    let mut core = broker.core.lock();
    let codes = subscribe.filters.iter().map(|filter| {
        if core.subscribe(client, taken.connection, &filter.path, filter.qos) {
            SubscribeReasonCode::Success(filter.qos)
        } else {
            SubscribeReasonCode::Failure
        }
    });
    let codes = codes.collect();
    Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes })
}

/// Writes answers first, then what waits in the session.
async fn write(
    mut sink: SplitSink<Socket, Packet>,
    client: &str,
    taken: &Taken,
    broker: &Broker,
    mut answers: mpsc::Receiver<Packet>,
) -> End {
    loop {
        loop {
            let next = match answers.try_recv() {
                Ok(answer) => Some(answer),
                Err(_) => match broker.core.lock().next_packet(client, taken.connection) {
                    Ok(next) => next,
                    Err(()) => return End::Replaced,
                },
            };
            let Some(packet) = next else { break };
            if let Err(end) = in_time(sink.feed(packet)).await {
                return end;
            }
        }
        if let Err(end) = in_time(sink.flush()).await {
            return end;
        }
        tokio::select! {
            () = taken.wake.notified() => {}
            Some(answer) = answers.recv() => {
                if let Err(end) = in_time(sink.feed(answer)).await {
                    return end;
                }
            }
        }
    }
}

async fn in_time(write: impl Future<Output = Result<(), Error>>) -> Result<(), End> {
    match tokio::time::timeout(WRITE_WITHIN, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(e.into()),
        Err(_) => Err(End::Stuck),
    }
}

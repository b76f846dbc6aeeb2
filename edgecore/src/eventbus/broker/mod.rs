//! The built-in MQTT 3.1.1 broker.
//!
//! Owns: the listener, the core, a task per client.
//! Called by: the event bus, which publishes through it and hears what it is interested in.
//! Never: keeps a message over a restart. It is for this machine: it listens where the
//! configuration says, which is loopback unless somebody changes it, and asks nobody for a password.

mod connection;
mod session;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Codec;
use service::{BoxError, CancellationToken};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::connection::End;
use self::table::Core;
pub(crate) use self::table::Numbers;
use super::{Heard, Interest};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 1024;
/// Bytes of a packet at most: a payload as large as a twin's may be, and its topic.
const MAX_PACKET: usize = api::twin::message::MAX_PAYLOAD + (4 << 10);

/// How packets are read and written.
pub(super) fn codec() -> Codec {
    Codec { max_incoming_size: MAX_PACKET, max_outgoing_size: MAX_PACKET }
}

/// What connections and the event bus share.
pub(crate) struct Broker {
    core: Mutex<Core>,
    interest: Interest,
    heard: Heard,
}

impl Broker {
    /// `max_queue` messages may wait for one client. What is of `interest` goes to `heard`; when
    /// that is full, the client that published waits.
    pub(super) fn new(max_queue: usize, interest: Interest, heard: Heard) -> Self {
        Self { core: Mutex::new(Core::new(max_queue)), interest, heard }
    }

    /// Publishes something of our own.
    pub(super) fn publish(&self, topic: &str, payload: &Bytes, qos: QoS, retain: bool) {
        self.core.lock().publish(topic, payload, qos, retain);
    }

    pub(super) fn numbers(&self) -> Numbers {
        self.core.lock().numbers()
    }

    async fn tell(&self, topic: &str, payload: &Bytes) {
        if self.interest.has(topic) {
            self.heard.bring(topic.to_owned(), payload.clone()).await;
        }
    }
}

/// Serves clients until `stopping`.
pub(super) async fn run(
    listener: TcpListener,
    broker: Arc<Broker>,
    stopping: CancellationToken,
) -> Result<(), BoxError> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        // Never closed. Beyond the limit, clients wait in the kernel's queue.
        let place = tokio::select! {
            () = stopping.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let (broker, stopping) = (Arc::clone(&broker), stopping.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = client(stream, from, &broker) => {}
                        () = stopping.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "an MQTT client cannot be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn client(stream: TcpStream, from: SocketAddr, broker: &Broker) {
    // Small packets that are waited for.
    let _ = stream.set_nodelay(true);
    match connection::serve(stream, broker).await {
        Ok(()) => {}
        Err(End::Protocol(why)) => {
            broker.core.lock().refused();
            tracing::debug!(%from, why, "an MQTT client is cut off");
        }
        Err(end) => {
            tracing::debug!(%from, "an MQTT client is gone: {}", service::error_chain(&end))
        }
    }
}

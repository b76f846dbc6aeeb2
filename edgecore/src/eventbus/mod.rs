//! The event bus: MQTT, by a broker of our own, an external one, or both.
//!
//! Owns: the brokers, which topics are of interest, the table of topics that rules want.
//! Called by: the edgehub (rules), the device twin (what it publishes); brokers bring what devices
//! and apps publish.
//! Never: judges a twin. Topics of devices and of this node's membership go to the device twin, all
//! others to the cloud.
//!
//! What devices publish waits in a channel of [`HEARD`]; when it is full, the broker waits, and its
//! clients with it. What we publish waits in channels of [`PUBLISHED`]; what does not fit is dropped
//! and counted.

mod broker;
mod client;
mod metrics;
mod store;
mod topics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::config::edgecore as config;
use api::twin::topics::{SUBSCRIPTIONS, Topic};
use api::wire::downstream::RuleCommand;
use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use service::{Policy, Service};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use self::broker::Broker;
use self::client::External;
use self::metrics::BusMetrics;
use crate::devicetwin::{self, Publication};
use crate::edgehub::ToCloud;
use crate::metamanager::{Store, StoreError};

/// What was heard and waits for the device twin or the link at most.
const HEARD: usize = 1024;
/// And its bytes, those that wait for the device twin included.
const HEARD_BYTES: usize = 16 << 20;
/// What is to be published and waits at most.
const PUBLISHED: usize = 1024;
/// Commands of rules that wait at most; then the edgehub waits.
const COMMANDS: usize = 64;
/// Topics of rules at most.
const MAX_TOPICS: usize = 256;

/// Why the event bus cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventBusError {
    /// The built-in broker's port.
    #[error(
        "the built-in MQTT broker cannot listen at `{address}` (`modules.eventBus.mqttServerInternal`)"
    )]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A URL that is none.
    #[error("`modules.eventBus.{key}` is `{value}`; it should be like `tcp://127.0.0.1:1883`")]
    Url {
        /// Which setting.
        key: &'static str,
        /// What it is.
        value: String,
    },
}

/// A message that a broker brought.
#[derive(Debug)]
pub(crate) struct Incoming {
    topic: String,
    payload: Bytes,
    /// Its part of [`HEARD_BYTES`].
    room: OwnedSemaphorePermit,
}

/// The way of what is heard; clones share it.
#[derive(Clone)]
pub(crate) struct Heard {
    channel: mpsc::Sender<Incoming>,
    room: Arc<Semaphore>,
}

impl Heard {
    fn new(channel: mpsc::Sender<Incoming>) -> Self {
        Self { channel, room: Arc::new(Semaphore::new(HEARD_BYTES)) }
    }

    /// Waits while there is no room.
    async fn bring(&self, topic: String, payload: Bytes) {
        let size = (topic.len() + payload.len()).clamp(1, HEARD_BYTES);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        // Never closed; and the event bus gone means that the process is stopping.
        if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(size).await {
            let _ = self.channel.send(Incoming { topic, payload, room }).await;
        }
    }
}

/// The filters that we subscribe to; clones share them.
#[derive(Clone)]
pub(crate) struct Interest(watch::Receiver<Vec<String>>);

impl Interest {
    fn has(&self, topic: &str) -> bool {
        self.0.borrow().iter().any(|filter| topics::matches(filter, topic))
    }

    /// All filters; `changed` speaks of what comes after.
    fn seen(&mut self) -> Vec<String> {
        self.0.borrow_and_update().clone()
    }

    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody changes them any more: the process is stopping.
            std::future::pending::<()>().await;
        }
    }
}

/// Where the edgehub brings what rules of the cloud command.
#[derive(Clone)]
pub(crate) struct Rules(mpsc::Sender<RuleCommand>);

impl Rules {
    /// Waits while too many commands wait.
    pub(crate) async fn command(&self, command: RuleCommand) {
        // The event bus gone means that the process is stopping.
        let _ = self.0.send(command).await;
    }
}

/// The event bus with its port open.
pub(crate) struct EventBus {
    listener: Option<TcpListener>,
    external: Option<(External, [String; 2])>,
    qos: QoS,
    retain: bool,
    max_queue: usize,
    publish: mpsc::Sender<Publication>,
    publications: mpsc::Receiver<Publication>,
    rules: Rules,
    commands: mpsc::Receiver<RuleCommand>,
}

impl EventBus {
    /// Opens the built-in broker's port, if there is one.
    ///
    /// # Errors
    /// When it cannot be opened, or a URL cannot be read.
    pub(crate) async fn bind(settings: &config::EventBus) -> Result<Self, EventBusError> {
        let url = |key, value: &String| {
            let bad = || EventBusError::Url { key, value: value.clone() };
            External::address(value).ok_or_else(bad)
        };
        let listener = if settings.mqtt_mode <= 1 {
            let (host, port) = url("mqttServerInternal", &settings.mqtt_server_internal)?;
            let address = (host.as_str(), port);
            let listen =
                |source| EventBusError::Listen { address: format!("{host}:{port}"), source };
            Some(TcpListener::bind(address).await.map_err(listen)?)
        } else {
            None
        };
        let external = if settings.mqtt_mode >= 1 {
            let (host, port) = url("mqttServerExternal", &settings.mqtt_server_external)?;
            let external = External {
                host,
                port,
                username: settings.mqtt_username.clone(),
                password: settings.mqtt_password.clone(),
                tls: settings.tls.enable.then(|| settings.tls.clone()),
            };
            Some((external, client_ids(settings)))
        } else {
            None
        };
        let (publish, publications) = mpsc::channel(PUBLISHED);
        let (rule, commands) = mpsc::channel(COMMANDS);
        Ok(Self {
            listener,
            external,
            qos: rumqttc::mqttbytes::qos(settings.mqtt_qos).unwrap_or(QoS::AtMostOnce),
            retain: settings.mqtt_retain,
            max_queue: usize::try_from(settings.mqtt_session_queue_size).unwrap_or(100).max(1),
            publish,
            publications,
            rules: Rules(rule),
            commands,
        })
    }

    /// Where the device twin publishes.
    pub(crate) fn publications(&self) -> mpsc::Sender<Publication> {
        self.publish.clone()
    }

    /// Where rules go.
    pub(crate) fn rules(&self) -> Rules {
        self.rules.clone()
    }

    /// Where the built-in broker listens; useful after binding port 0.
    #[cfg(test)]
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Starts the tasks. `twins` is told of devices, if there is a device twin.
    pub(crate) fn spawn(
        self,
        svc: &mut Service,
        store: Store,
        twins: Option<devicetwin::Handle>,
        to_cloud: ToCloud,
    ) {
        let (heard, incoming) = mpsc::channel(HEARD);
        let heard = Heard::new(heard);
        let built_in = SUBSCRIPTIONS.map(str::to_owned).to_vec();
        let (filters, interest) = watch::channel(built_in);
        let interest = Interest(interest);
        let counters = Arc::new(Counters::default());
        let broker = self.listener.map(|listener| {
            let broker = Arc::new(Broker::new(self.max_queue, interest.clone(), heard.clone()));
            let serve = broker::run(listener, Arc::clone(&broker), svc.stopping());
            svc.spawn("mqtt broker", Policy::StopAll, serve);
            broker
        });
        let speak = self.external.map(|(external, [hear_id, speak_id])| {
            let (speak, outgoing) = mpsc::channel(PUBLISHED);
            let hear = client::hear(external.clone(), hear_id, interest, heard.clone());
            until_stopped(svc, "mqtt subscriber", hear);
            until_stopped(svc, "mqtt publisher", client::speak(external, speak_id, outgoing));
            speak
        });
        let (metrics, numbers) = (Arc::clone(&counters), broker.clone());
        svc.metrics().register(|r| BusMetrics::new(metrics, numbers).register(r));
        let brokers = Brokers { broker, speak, qos: self.qos, retain: self.retain, counters };
        let route = Route { twins, to_cloud, counters: Arc::clone(&brokers.counters) };
        until_stopped(svc, "eventbus", route.run(incoming));
        let rules = RuleTopics { store, filters, brokers: brokers.clone(), topics: Vec::new() };
        let (publications, commands) = (self.publications, self.commands);
        until_stopped(svc, "eventbus publications", brokers.publish_all(publications));
        let stopping = svc.stopping();
        svc.spawn("eventbus rules", Policy::StopAll, async move {
            tokio::select! {
                // Without an edgehub nobody commands anything.
                ended = rules.run(commands) => ended?,
                () = stopping.cancelled() => {}
            }
            stopping.cancelled().await;
            Ok(())
        });
    }
}

/// Client ids as the original makes them.
fn client_ids(settings: &config::EventBus) -> [String; 2] {
    let stamp = jiff::Timestamp::now().as_nanosecond().unsigned_abs() % 10_000_000_000;
    let id = |given: &String, prefix: &str| match given.as_str() {
        "" => format!("{prefix}{stamp:010}"),
        given => given.to_owned(),
    };
    [
        id(&settings.mqtt_sub_client_id, "hub-client-sub-"),
        id(&settings.mqtt_pub_client_id, "hub-client-pub-"),
    ]
}

fn until_stopped(svc: &mut Service, name: &str, task: impl Future<Output = ()> + Send + 'static) {
    let stopping = svc.stopping();
    svc.spawn(name, Policy::StopAll, async move {
        tokio::select! {
            () = task => {}
            () = stopping.cancelled() => {}
        }
        stopping.cancelled().await;
        Ok(())
    });
}

/// What has happened since the start.
#[derive(Debug, Default)]
struct Counters {
    to_twins: AtomicU64,
    to_cloud: AtomicU64,
    refused: AtomicU64,
    unpublished: AtomicU64,
}

fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// The way from brokers to the device twin and the cloud.
struct Route {
    twins: Option<devicetwin::Handle>,
    to_cloud: ToCloud,
    counters: Arc<Counters>,
}

impl Route {
    async fn run(self, mut incoming: mpsc::Receiver<Incoming>) {
        while let Some(Incoming { topic, payload, room }) = incoming.recv().await {
            match Topic::parse(&topic) {
                Ok(Some(topic)) => {
                    let Some(twins) = &self.twins else { continue };
                    count(&self.counters.to_twins);
                    twins.mqtt(topic, payload, room).await;
                }
                Ok(None) => {
                    count(&self.counters.to_cloud);
                    self.to_cloud.upload(&topic, &payload);
                }
                Err(e) => {
                    count(&self.counters.refused);
                    tracing::debug!(error = service::error_chain(&e), "an MQTT message is refused");
                }
            }
        }
    }
}

/// The way to the brokers; clones share them.
#[derive(Clone)]
struct Brokers {
    broker: Option<Arc<Broker>>,
    speak: Option<mpsc::Sender<Publication>>,
    qos: QoS,
    retain: bool,
    counters: Arc<Counters>,
}

impl Brokers {
    async fn publish_all(self, mut publications: mpsc::Receiver<Publication>) {
        while let Some(publication) = publications.recv().await {
            self.publish(publication);
        }
    }

    fn publish(&self, publication: Publication) {
        if let Some(broker) = &self.broker {
            let Publication { topic, payload } = &publication;
            broker.publish(topic, payload, self.qos, self.retain);
        }
        if let Some(speak) = &self.speak
            && speak.try_send(publication).is_err()
        {
            count(&self.counters.unpublished);
        }
    }
}

/// The topics that rules of the cloud want.
struct RuleTopics {
    store: Store,
    filters: watch::Sender<Vec<String>>,
    brokers: Brokers,
    topics: Vec<String>,
}

impl RuleTopics {
    async fn run(mut self, mut commands: mpsc::Receiver<RuleCommand>) -> Result<(), StoreError> {
        self.topics = self.store.write(store::load).await?;
        self.announce();
        while let Some(command) = commands.recv().await {
            if let Err(why) = self.carry_out(&command).await {
                count(&self.brokers.counters.refused);
                let (op, on) = (&command.operation, &command.resource);
                let what = format!("`{op}` on `{on}`");
                let what = api::printable::printable(&what, 256);
                tracing::warn!("a rule's {what} is not carried out: {why}");
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, command: &RuleCommand) -> Result<(), String> {
        let topic = command.resource.to_string();
        if !topics::is_topic(&topic) {
            return Err("it is no topic".to_owned());
        }
        let row = topic.clone();
        match &*command.operation {
            "publish" => {
                let payload = Bytes::from(command.content.text().into_owned());
                self.brokers.publish(Publication { topic, payload });
            }
            "subscribe" if self.topics.contains(&topic) => {}
            "subscribe" if self.topics.len() >= MAX_TOPICS => {
                return Err(format!("rules can have {MAX_TOPICS} topics on a node at most"));
            }
            "subscribe" => {
                let stored = self.store.write(move |tx| store::add(tx, &row)).await;
                stored.map_err(|e| service::error_chain(&e))?;
                self.topics.push(topic);
                self.announce();
            }
            "unsubscribe" => {
                let stored = self.store.write(move |tx| store::remove(tx, &row)).await;
                stored.map_err(|e| service::error_chain(&e))?;
                self.topics.retain(|t| *t != topic);
                self.announce();
            }
            _ => return Err("it should be publish, subscribe or unsubscribe".to_owned()),
        }
        Ok(())
    }

    fn announce(&self) {
        let own = SUBSCRIPTIONS.iter().map(|filter| (*filter).to_owned());
        self.filters.send_replace(own.chain(self.topics.iter().cloned()).collect());
    }
}

#[cfg(test)]
mod tests;

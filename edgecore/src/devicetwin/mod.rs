//! The device twin: what each device reports, and what is wanted of it.
//!
//! Owns: the one task that owns all twins, and its inbox.
//! Called by: the edgehub (news of the cloud), the event bus (MQTT), DMI (mappers).
//! Never: tells anybody of a change that is not on the disk yet.
//!
//! The inbox holds [`INBOX`] inputs; when it is full, whoever brings one waits. What is in it is
//! handled together and shares a commit. What goes to MQTT is dropped, and counted, when the event
//! bus does not take it: the next report makes the same again.

pub(crate) mod dmi;
mod membership;
mod merge;
mod metrics;
mod report;
mod schema;
mod state;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::crd::devices;
use api::names::{Kind, NodeName, ObjectKey};
use api::raw::RawJson;
use api::twin::message::{
    self as payload, MembershipDetailGet, MembershipList, MembershipUpdate, MsgTwin, Refusal,
    StateUpdate, TwinUpdate,
};
use api::twin::topics::{DeviceId, DeviceTopic, Topic};
use bytes::Bytes;
use jiff::Timestamp;
use service::telemetry::HOP;
use service::{BoxError, CancellationToken};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use self::dmi::Registry;
use self::metrics::Counters;
pub(crate) use self::metrics::TwinMetrics;
use self::state::{Effect, State};
use crate::edgehub::ToCloud;
use crate::edgehub::link::LinkState;
use crate::metamanager::apply::DeviceChange;
use crate::metamanager::{Store, StoreError};

/// Inputs that wait at most.
const INBOX: usize = 1024;
/// Inputs that share a commit at most.
const BATCH: usize = 256;
/// Tries to store what changed, and the time between them.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// Refusals are logged one by one up to one in this time; more are only counted.
const WARN_EVERY: Duration = Duration::from_secs(5);

/// Something for MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    /// Where.
    pub(crate) topic: String,
    /// What.
    pub(crate) payload: Bytes,
}

/// News of the cloud.
#[derive(Debug)]
pub(crate) enum FromCloud {
    /// Devices came or went.
    Membership(RawJson),
    /// All devices of the node.
    MembershipDetail(RawJson),
    /// Values with versions, from older clouds.
    TwinUpdated {
        /// `namespace/name`
        device: Box<str>,
        /// See [`TwinUpdate`].
        content: RawJson,
    },
    /// A Device or DeviceModel was stored or removed.
    Object(DeviceChange),
}

/// What a mapper says.
#[derive(Debug)]
pub(crate) enum MapperSays {
    /// Properties, as measured and as wanted.
    Twin(BTreeMap<String, Option<MsgTwin>>),
    /// The state of the device.
    State(String),
}

impl MapperSays {
    /// The code of a refusal: the device is another mapper's.
    pub(crate) const NOT_YOURS: u16 = 403;
}

/// The protocols that a mapper's process may speak for.
type Protocols = BTreeSet<Arc<str>>;

/// Where a mapper's word is answered.
type Answer = oneshot::Sender<Result<(), Refusal>>;

enum Input {
    /// And its part of the room that the event bus has for what it heard.
    Mqtt(Topic, Bytes, OwnedSemaphorePermit),
    Cloud(FromCloud),
    Mapper(DeviceId, Protocols, MapperSays, Answer),
}

/// The way to the task; clones share it.
#[derive(Clone)]
pub(crate) struct Handle {
    inputs: mpsc::Sender<Input>,
    mappers: Registry,
    counters: Arc<Counters>,
}

impl Handle {
    /// News of the cloud. Waits while the inbox is full.
    pub(crate) async fn cloud(&self, news: FromCloud) {
        // What mappers are told they read from the store, which has it already.
        if matches!(news, FromCloud::Object(_)) {
            self.mappers.changed();
        }
        // A task that is gone means that the process is stopping.
        let _ = self.inputs.send(Input::Cloud(news)).await;
    }

    /// A message from MQTT. Waits while the inbox is full.
    pub(crate) async fn mqtt(&self, topic: Topic, payload: Bytes, room: OwnedSemaphorePermit) {
        let _ = self.inputs.send(Input::Mqtt(topic, payload, room)).await;
    }

    /// What a mapper, which may speak for `protocols`, says of a device; returns once it is stored.
    ///
    /// # Errors
    /// When it is refused or cannot be stored; nothing of it was taken.
    pub(crate) async fn mapper(
        &self,
        device: DeviceId,
        protocols: Protocols,
        says: MapperSays,
    ) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        let stopping = |_| refusal(Refusal::INTERNAL, "edgecore is stopping");
        let said = Input::Mapper(device, protocols, says, answer);
        self.inputs.send(said).await.map_err(|_| stopping(()))?;
        answered.await.map_err(|_| stopping(()))?
    }
}

fn refusal(code: u16, reason: &str) -> Refusal {
    Refusal { code, reason: reason.to_owned(), ..Refusal::default() }
}

/// The task, before it runs.
pub(crate) struct DeviceTwin {
    node: NodeName,
    store: Store,
    to_cloud: ToCloud,
    bus: Option<mpsc::Sender<Publication>>,
    inbox: mpsc::Receiver<Input>,
    counters: Arc<Counters>,
    mappers: Registry,
    warned: Option<Instant>,
}

impl DeviceTwin {
    /// `bus` takes what goes to MQTT, if anything does.
    pub(crate) fn new(
        node: NodeName,
        store: Store,
        to_cloud: ToCloud,
        bus: Option<mpsc::Sender<Publication>>,
    ) -> (Self, Handle) {
        let (inputs, inbox) = mpsc::channel(INBOX);
        let counters: Arc<Counters> = Arc::default();
        let mappers = Registry::default();
        let handle = Handle { inputs, mappers: mappers.clone(), counters: Arc::clone(&counters) };
        let twin = Self { node, store, to_cloud, bus, inbox, counters, mappers, warned: None };
        (twin, handle)
    }

    /// Its metrics.
    pub(crate) fn metrics(&self) -> TwinMetrics {
        TwinMetrics::new(Arc::clone(&self.counters), self.mappers.clone())
    }

    /// Runs until `stopping`.
    ///
    /// # Errors
    /// When what is stored cannot be read at the start.
    pub(crate) async fn run(
        mut self,
        mut link: watch::Receiver<LinkState>,
        stopping: CancellationToken,
    ) -> Result<(), BoxError> {
        let mut state = self.load().await?;
        self.carry_out(state.everything(Timestamp::now()));
        let (mut links, mut may_link) = (0, true);
        loop {
            let now = *link.borrow_and_update();
            if now.up && now.count != links {
                links = now.count;
                self.ask_for_devices();
            }
            self.counters.set_devices(state.devices.len());
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                // Without an edgehub there is never a link.
                changed = link.changed(), if may_link => may_link = changed.is_ok(),
                first = self.inbox.recv() => {
                    let Some(first) = first else { return Ok(()) };
                    let mut batch = vec![first];
                    while batch.len() < BATCH && let Ok(next) = self.inbox.try_recv() {
                        batch.push(next);
                    }
                    self.handle(&mut state, batch).await;
                }
            }
        }
    }

    /// The devices as they were left, brought up to date with the objects that the cloud sent.
    async fn load(&mut self) -> Result<State, StoreError> {
        let stored = self.store.write(store::load).await?;
        let mut state = State::new(self.node.clone(), stored.devices);
        for (key, text) in stored.objects {
            let Ok(object) = RawJson::parse(text) else { continue };
            let change = DeviceChange { key, object: Some(object) };
            let effects = object_changed(&mut state, change);
            // Nobody listens yet; the twins themselves are told below.
            self.count_refusals(&effects);
        }
        self.save(&mut state).await?;
        Ok(state)
    }

    async fn handle(&mut self, state: &mut State, batch: Vec<Input>) {
        let mut effects = Vec::new();
        let mut answers: Vec<(Answer, Result<(), Refusal>)> = Vec::new();
        let mut updated: Vec<(DeviceId, Bytes)> = Vec::new();
        for input in batch {
            let now = Timestamp::now();
            tracing::trace!(target: HOP, at = "devicetwin");
            match input {
                Input::Mqtt(topic, payload, _room) => {
                    effects.append(&mut state.mqtt(&topic, &payload, now));
                    if let Topic::Device(id, DeviceTopic::TwinUpdate) = topic {
                        updated.push((id, payload));
                    }
                }
                Input::Cloud(news) => effects.append(&mut cloud_news(state, news)),
                Input::Mapper(device, protocols, says, answer) => {
                    let result = mapper_says(state, &device, &protocols, says, now);
                    let result = result.map(|mut follows| effects.append(&mut follows));
                    if let Err(no) = &result {
                        effects.push(Effect::Refused(format!("a mapper's report: {}", no.reason)));
                    }
                    answers.push((answer, result));
                }
            }
        }
        match self.save(state).await {
            Ok(()) => {
                self.carry_out(effects);
                for (answer, result) in answers {
                    // The mapper may have gone away.
                    let _ = answer.send(result);
                }
            }
            Err(e) => {
                let why = format!("it cannot be stored: {}", service::error_chain(&e));
                tracing::error!("what devices reported is lost: {why}");
                self.carry_out(effects.into_iter().filter(is_refused).collect());
                self.carry_out(updated.iter().map(|u| not_stored(u, &why)).collect());
                for (answer, _) in answers {
                    let _ = answer.send(Err(refusal(Refusal::INTERNAL, &why)));
                }
            }
        }
    }

    /// Stores what changed; takes the change back if that fails for good.
    async fn save(&mut self, state: &mut State) -> Result<(), StoreError> {
        if state.dirty().is_empty() {
            state.stored();
            return Ok(());
        }
        let rows = Arc::new(store::changes(state));
        let mut tried = 0;
        loop {
            let rows = Arc::clone(&rows);
            let written = self.store.write(move |tx| store::write(tx, &rows)).await;
            tried += 1;
            match written {
                Ok(()) => {
                    state.stored();
                    return Ok(());
                }
                Err(_) if tried >= TRIES => {
                    state.not_stored();
                    return written;
                }
                Err(e) => {
                    tracing::warn!(error = service::error_chain(&e), "devices are stored again");
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        self.count_refusals(&effects);
        for effect in effects {
            match effect {
                Effect::Publish { topic, payload } => {
                    let Some(bus) = &self.bus else { continue };
                    let publication = Publication { topic, payload: payload.into() };
                    if bus.try_send(publication).is_err() {
                        self.counters.unpublished();
                    }
                }
                Effect::TwinUp(device, twin) => {
                    self.counters.taken();
                    self.to_cloud.device_twin(device, twin);
                }
                Effect::StateUp(device, report) => self.to_cloud.device_state(device, report),
                Effect::Forget(device) => self.to_cloud.forget_device(&device),
                Effect::Refused(_) => {}
            }
        }
    }

    fn count_refusals(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Refused(why) = effect else { continue };
            self.counters.refused();
            if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                self.warned = Some(Instant::now());
                tracing::warn!("{}", api::printable::printable(why, 512));
            }
        }
    }

    /// As the original does at the begin of each link. Its cloud does not answer; ours does.
    fn ask_for_devices(&self) {
        let question = MembershipDetailGet {
            event_type: "group_membership_event".to_owned(),
            event_id: uuid::Uuid::new_v4().to_string(),
            group_id: self.node.to_string(),
            operation: "detail".to_owned(),
            timestamp: Timestamp::now().as_millisecond(),
        };
        if let Ok(text) = payload::encode(&question) {
            self.to_cloud.ask_for_devices(RawJson::string(&text));
        }
    }
}

fn is_refused(effect: &Effect) -> bool {
    matches!(effect, Effect::Refused(_))
}

/// The answer on MQTT to an update that could not be stored.
fn not_stored((device, update): &(DeviceId, Bytes), why: &str) -> Effect {
    let event_id = payload::decode::<TwinUpdate>(update).map(|u| u.event_id).unwrap_or_default();
    let timestamp = Timestamp::now().as_millisecond();
    let no = Refusal { event_id, timestamp, code: Refusal::INTERNAL, reason: why.to_owned() };
    let topic = Topic::Device(device.clone(), DeviceTopic::TwinUpdateResult).to_string();
    Effect::Publish { topic, payload: payload::encode(&no).unwrap_or_default() }
}

fn mapper_says(
    state: &mut State,
    device: &DeviceId,
    protocols: &Protocols,
    says: MapperSays,
    now: Timestamp,
) -> Result<Vec<Effect>, Refusal> {
    match state.protocol_of(device) {
        Some(protocol) if protocols.contains(protocol) => {}
        Some(protocol) => {
            let why = format!(
                "device `{device}` speaks `{protocol}`, this mapper does not: it cannot report for it"
            );
            return Err(refusal(MapperSays::NOT_YOURS, &why));
        }
        None => {
            let why = format!("device `{device}` does not belong to this node");
            return Err(refusal(Refusal::NOT_FOUND, &why));
        }
    }
    match says {
        MapperSays::Twin(twin) => {
            let event_id = uuid::Uuid::new_v4().to_string();
            let update = TwinUpdate { event_id, timestamp: now.as_millisecond(), twin };
            state.mapper_report(device, update, now)
        }
        MapperSays::State(said) => {
            let timestamp = now.as_millisecond();
            let update = StateUpdate { timestamp, state: said, ..StateUpdate::default() };
            state.state_update(device, &update, now)
        }
    }
}

fn cloud_news(state: &mut State, news: FromCloud) -> Vec<Effect> {
    let now = Timestamp::now();
    let unreadable = |what: &str, e: &dyn std::fmt::Display| {
        vec![Effect::Refused(format!("the cloud's {what} cannot be read: {e}"))]
    };
    match news {
        FromCloud::Membership(content) => match read::<MembershipUpdate>(&content) {
            Ok(update) => state.membership(update, now),
            Err(e) => unreadable("membership", &e),
        },
        FromCloud::MembershipDetail(content) => match read::<MembershipList>(&content) {
            Ok(list) => state.membership_detail(list, now),
            Err(e) => unreadable("list of devices", &e),
        },
        FromCloud::TwinUpdated { device, content } => {
            match (device.parse::<DeviceId>(), read::<TwinUpdate>(&content)) {
                (Ok(id), Ok(update)) => state.cloud_updated(&id, &update, now),
                (Err(e), _) => unreadable("twin", &e),
                (_, Err(e)) => unreadable("twin", &e),
            }
        }
        FromCloud::Object(change) => object_changed(state, change),
    }
}

/// Contents come as objects, and from some clouds as a string of JSON.
fn read<T: serde::de::DeserializeOwned>(content: &RawJson) -> Result<T, serde_json::Error> {
    serde_json::from_str(&content.text())
}

fn object_changed(state: &mut State, change: DeviceChange) -> Vec<Effect> {
    let now = Timestamp::now();
    let DeviceChange { key, object } = change;
    let unreadable = |key: &ObjectKey, e: &dyn std::fmt::Display| {
        vec![Effect::Refused(format!("`{key}` from the cloud cannot be read: {e}"))]
    };
    match (&key.kind, object) {
        (Kind::DeviceModel, object) => {
            let Some(namespace) = key.namespace.clone() else { return Vec::new() };
            let model = match object.map(|o| o.to::<devices::DeviceModel>()).transpose() {
                Ok(model) => model,
                Err(e) => return unreadable(&key, &e),
            };
            state.model(namespace, key.name.clone(), model);
            Vec::new()
        }
        (_, object) => {
            let Some(id) = store::device_of(&key) else {
                return unreadable(&key, &"its name cannot be a device's");
            };
            match object.map(|o| o.to::<devices::Device>()).transpose() {
                Ok(Some(device)) => state.device(&id, &device.spec, now),
                Ok(None) => state.device_gone(&id, now),
                Err(e) => unreadable(&key, &e),
            }
        }
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;

#[cfg(test)]
mod golden_tests;

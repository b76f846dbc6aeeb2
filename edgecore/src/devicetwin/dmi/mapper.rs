//! One mapper: its connection, and what it was told.
//!
//! Owns: the gRPC channel to the mapper's socket, and the catalog of what the mapper knows.
//! Called by: `mod.rs` spawns one task per mapper.
//! Never: believes that a mapper which was away still knows anything, or that one which can be
//! dialled is alive: the kernel takes connections for a process that hangs.
//!
//! ```text
//! dial ─► tell what differs ─► wait for a change, look now and then ─┐
//!  ▲            ▲                                                    │
//!  │            └────────────────────────────────────────────────────┤
//!  └── back off ◄────────────── connection lost, call not answered ──┘
//!                               away for long: its devices become `unknown`
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::crd::devices;
use api::names::{Kind, ObjectKey};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use service::CancellationToken;
use service::backoff::Backoff;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::pb;
use super::pb::device_mapper_service_client::DeviceMapperServiceClient;
use super::peers::Peer;
use super::plan::{Catalog, Step, plan};
use super::registry::{MapperInfo, Place, Registry};
use super::{Shared, convert};
use crate::devicetwin::MapperSays;
use crate::metamanager::{Store, StoreError};

/// Between two tries to reach a mapper.
const REDIAL: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Between two tries of what a mapper refused.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// How long a mapper may take over a call.
const CALL: Duration = Duration::from_secs(10);
/// A mapper may be away so long, a restart for example, before its devices become `unknown`.
const AWAY: Duration = Duration::from_secs(10);
/// A mapper that was told nothing for so long is asked how it is, to see whether it answers.
pub(super) const LOOK: Duration = Duration::from_secs(20);
/// What it is asked: gRPC's own question. That there is no such service is an answer too. Not for a
/// device: a mapper of KubeEdge's framework ends with a panic when it is asked for one. And no pings of
/// HTTP/2, for which a server written in Go would end the connection.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A mapper's task.
pub(super) struct Mapper {
    pub(super) info: MapperInfo,
    pub(super) place: Place,
    pub(super) shared: Arc<Shared>,
    /// What it was given when it registered; empty if it asked for nothing.
    pub(super) told: Catalog,
    /// How long it may be told nothing before it is looked at: [`LOOK`].
    pub(super) look: Duration,
}

/// A connection to a mapper.
struct Connection {
    channel: Channel,
    client: DeviceMapperServiceClient<Channel>,
    /// Cancelled when it ends.
    lost: CancellationToken,
    /// Whether any call was answered, be it with an error.
    answered: bool,
}

/// Why a connection is of no more use.
enum Lost {
    /// The mapper's process has closed it, or is gone.
    Closed,
    /// A call failed.
    Call(tonic::Status),
    /// The task is to end.
    End,
}

impl Mapper {
    /// Runs until the mapper registers anew or edgecore stops.
    pub(super) async fn run(mut self) {
        let mut told = std::mem::take(&mut self.told);
        let mut fresh = true;
        let (mut tries, mut away_since) = (0, Some(Instant::now()));
        loop {
            if self.place.end.is_cancelled() {
                return;
            }
            match dial(&self.info.address).await {
                Ok((channel, lost, listener)) => {
                    tracing::info!(mapper = self.info.name, "reached");
                    self.registry().reached(&self.info.name, &self.place.end, listener);
                    let client = DeviceMapperServiceClient::new(channel.clone());
                    let mut connection = Connection { channel, client, lost, answered: false };
                    let why = self.serve(&mut connection, &mut told, fresh).await;
                    self.registry().reached(&self.info.name, &self.place.end, None);
                    let hangs = match why {
                        Lost::End => return,
                        Lost::Closed => {
                            tracing::warn!(mapper = self.info.name, "the mapper is gone");
                            false
                        }
                        Lost::Call(status) => {
                            let (mapper, why) = (&self.info.name, status.message());
                            tracing::warn!(mapper, "the mapper does not answer: {why}");
                            !connection.answered
                        }
                    };
                    // One that takes connections and answers nothing is as far away as before.
                    if !hangs {
                        (tries, away_since) = (0, Some(Instant::now()));
                    }
                    // Whoever listens there next has to be told everything.
                    (told, fresh) = (Catalog::default(), false);
                }
                Err(e) => {
                    tracing::debug!(mapper = self.info.name, error = %e, "not reached");
                }
            }
            if away_since.is_some_and(|since| since.elapsed() >= AWAY) {
                away_since = None;
                self.devices_unknown().await;
            }
            let pause = REDIAL.next_delay(tries);
            tries += 1;
            tokio::select! {
                () = self.place.end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Tells the mapper what differs, whenever something does.
    async fn serve(&self, to: &mut Connection, told: &mut Catalog, fresh: bool) -> Lost {
        let mut refused = 0;
        // A mapper that was running all the time has the devices, perhaps as they were: it is told
        // each as new, which it may ignore, and then as changed.
        let mut unsure = !fresh;
        loop {
            let mut again = None;
            match wanted(&self.shared.store, &self.info.protocol).await {
                Ok(know) => {
                    let mut steps = plan(told, &know);
                    if std::mem::take(&mut unsure) {
                        let updates = know.devices.values().cloned().map(Step::Update);
                        steps.extend(updates);
                    }
                    tracing::debug!(mapper = self.info.name, steps = steps.len(), "to tell");
                    match self.tell(to, told, steps).await {
                        Ok(true) => refused = 0,
                        Ok(false) => {
                            again = Some(AGAIN.next_delay(refused));
                            refused += 1;
                        }
                        Err(why) => return why,
                    }
                }
                Err(e) => {
                    tracing::error!(error = service::error_chain(&e), "devices cannot be read");
                    again = Some(AGAIN.ceiling);
                }
            }
            let retry = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.place.end.cancelled() => return Lost::End,
                () = to.lost.cancelled() => return Lost::Closed,
                () = self.place.changed.notified() => {}
                () = retry => {}
                () = tokio::time::sleep(self.look) => {
                    if let Some(why) = self.look_at(to, told).await {
                        return why;
                    }
                }
            }
        }
    }

    /// Asks how it is; what it answers does not matter.
    async fn look_at(&self, to: &mut Connection, told: &Catalog) -> Option<Lost> {
        if told.devices.is_empty() {
            // Of no importance to anybody.
            return None;
        }
        let answer = tokio::select! {
            () = self.place.end.cancelled() => return Some(Lost::End),
            () = to.lost.cancelled() => return Some(Lost::Closed),
            answer = tokio::time::timeout(CALL, ask(&to.channel)) => answer,
        };
        match answered(answer) {
            Ok(_) => {
                to.answered = true;
                None
            }
            Err(why) => Some(why),
        }
    }

    /// Carries out the steps; says whether the mapper took all of them.
    async fn tell(
        &self,
        to: &mut Connection,
        told: &mut Catalog,
        steps: Vec<Step>,
    ) -> Result<bool, Lost> {
        let mut all = true;
        for step in steps {
            let result = tokio::select! {
                () = self.place.end.cancelled() => return Err(Lost::End),
                () = to.lost.cancelled() => return Err(Lost::Closed),
                result = tokio::time::timeout(CALL, call(&mut to.client, &step)) => result,
            };
            let answer = answered(result)?;
            to.answered = true;
            match answer {
                Ok(()) => told.done(step),
                // What it does not have need not be removed from it.
                Err(status) if status.code() == Code::Unimplemented => told.done(step),
                Err(status) => {
                    all = false;
                    tracing::warn!(
                        mapper = self.info.name,
                        "the mapper refused {}: {}",
                        describe(&step),
                        api::printable::printable(status.message(), 256)
                    );
                    if matches!(step, Step::Remove(_) | Step::RemoveModel(_)) {
                        told.done(step);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Nobody speaks for the devices any more: what was last said of them may not be true.
    async fn devices_unknown(&self) {
        let protocol = self.info.protocol.as_str();
        if self.registry().has_reachable(protocol) {
            return;
        }
        let Ok(know) = wanted(&self.shared.store, protocol).await else { return };
        tracing::warn!(
            mapper = self.info.name,
            devices = know.devices.len(),
            "the mapper stays away, the state of its devices is unknown"
        );
        for (namespace, name) in know.devices.keys() {
            let Ok(id) = format!("{namespace}/{name}").parse() else { continue };
            let says = MapperSays::State("unknown".to_owned());
            let protocols = BTreeSet::from([Arc::from(protocol)]);
            // Refused only if the device has gone meanwhile.
            let _ = self.shared.devices.mapper(id, protocols, says).await;
        }
    }
}

/// What a mapper answered, be it an error; an error of ours if it did not.
fn answered<T>(
    result: Result<Result<T, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<Result<T, tonic::Status>, Lost> {
    match result {
        Ok(Err(status)) if matches!(status.code(), Code::Unavailable | Code::Cancelled) => {
            Err(Lost::Call(status))
        }
        Ok(answer) => Ok(answer),
        Err(_) => Err(Lost::Call(tonic::Status::deadline_exceeded("no answer"))),
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::CreateModel(m) | Step::UpdateModel(m) => {
            format!("model `{}/{}`", m.namespace, m.name)
        }
        Step::Register(d) | Step::Update(d) => format!("device `{}/{}`", d.namespace, d.name),
        Step::Remove((ns, name)) => format!("the removal of device `{ns}/{name}`"),
        Step::RemoveModel((ns, name)) => format!("the removal of model `{ns}/{name}`"),
    }
}

async fn ask(channel: &Channel) -> Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    grpc.unary(tonic::Request::new(()), PathAndQuery::from_static(HEALTH), codec).await?;
    Ok(())
}

async fn call(
    client: &mut DeviceMapperServiceClient<Channel>,
    step: &Step,
) -> Result<(), tonic::Status> {
    match step.clone() {
        Step::CreateModel(model) => {
            client.create_device_model(pb::CreateDeviceModelRequest { model: Some(model) }).await?;
        }
        Step::UpdateModel(model) => {
            client.update_device_model(pb::UpdateDeviceModelRequest { model: Some(model) }).await?;
        }
        Step::Register(device) => {
            client.register_device(pb::RegisterDeviceRequest { device: Some(device) }).await?;
        }
        Step::Update(device) => {
            client.update_device(pb::UpdateDeviceRequest { device: Some(device) }).await?;
        }
        Step::Remove((device_namespace, device_name)) => {
            client.remove_device(pb::RemoveDeviceRequest { device_name, device_namespace }).await?;
        }
        Step::RemoveModel((model_namespace, model_name)) => {
            let gone = pb::RemoveDeviceModelRequest { model_name, model_namespace };
            client.remove_device_model(gone).await?;
        }
    }
    Ok(())
}

/// All devices of a protocol, and their models, as they are stored now.
pub(super) async fn wanted(store: &Store, protocol: &str) -> Result<Catalog, StoreError> {
    let (devices, models) = store
        .read(|tx| {
            Ok((tx.of_type(Kind::Device.as_str())?, tx.of_type(Kind::DeviceModel.as_str())?))
        })
        .await?;
    let models: BTreeMap<String, devices::DeviceModel> = models
        .into_iter()
        .filter_map(|(key, text)| Some((key, serde_json::from_str(&text).ok()?)))
        .collect();
    let mut catalog = Catalog::default();
    for (key, text) in devices {
        let Ok(device) = serde_json::from_str::<devices::Device>(&text) else { continue };
        let Ok(ObjectKey { namespace: Some(namespace), name, .. }) = key.parse() else { continue };
        let model_name =
            device.spec.device_model_ref.as_ref().and_then(|r| r.name.clone()).unwrap_or_default();
        let model_key = ObjectKey::new(namespace.clone(), Kind::DeviceModel, &model_name);
        let model = models.get(&model_key.to_string());
        if convert::protocol(&device.spec, model) != Some(protocol) {
            continue;
        }
        if let Some(model) = model {
            let told = convert::model(namespace.as_str(), &model_name, model);
            catalog.models.insert((namespace.to_string(), model_name), told);
        }
        let told = convert::device(namespace.as_str(), &name, &device, model);
        catalog.devices.insert((namespace.to_string(), name.to_string()), told);
    }
    Ok(catalog)
}

/// Connects; the token is cancelled when the connection ends.
async fn dial(path: &Path) -> io::Result<(Channel, CancellationToken, Option<Peer>)> {
    let stream = tokio::time::timeout(CALL, UnixStream::connect(path)).await??;
    let listener = stream.peer_cred().ok().and_then(|c| c.pid()).and_then(Peer::of);
    let lost = CancellationToken::new();
    let watched = Watched { stream, _lost: lost.clone().drop_guard() };
    // One connection and no second: what follows a lost one is decided here, not in the channel.
    let once = Arc::new(Mutex::new(Some(watched)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let taken = once.lock().take();
        async move {
            let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection is lost");
            taken.map(TokioIo::new).ok_or_else(gone)
        }
    });
    let endpoint = Endpoint::from_static("http://mapper");
    let channel = endpoint.connect_with_connector(connector).await.map_err(io::Error::other)?;
    Ok((channel, lost, listener))
}

/// A stream that says when it is dropped, which the HTTP/2 connection does as soon as it ends.
struct Watched {
    stream: UnixStream,
    _lost: DropGuard,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

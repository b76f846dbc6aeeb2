//! A sample mapper: virtual devices that speak DMI as real ones do.
//!
//! Owns: its socket, its registration at edgecore, one simulated device for each that it is given.
//! Called by: `keadm mapper --simulate`, as a program of its own.
//! Never: uses anything of edgecore but the interface that every mapper has.

mod service;
mod simulate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::service::CancellationToken;
use ::service::backoff::Backoff;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use self::simulate::{Report, SimulatedDevice};
use crate::devicetwin::dmi::pb;
use crate::devicetwin::dmi::pb::device_manager_service_client::DeviceManagerServiceClient;

/// Between two tries to register.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// How long edgecore may take over a call.
const CALL: Duration = Duration::from_secs(10);
/// Devices of the mapper at most.
const MAX_DEVICES: usize = 10_000;

/// Where a mapper is, and what it is called.
#[derive(Debug, Clone)]
pub struct Options {
    /// edgecore's socket for mappers.
    pub edgecore: PathBuf,
    /// The mapper's own socket; edgecore must see it under the same path.
    pub socket: PathBuf,
    /// Its name.
    pub name: String,
    /// The protocol of its devices.
    pub protocol: String,
}

/// Why the mapper cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapperError {
    /// Its socket cannot be opened.
    #[error("cannot open the mapper's socket `{path}`")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// edgecore refuses it for good.
    #[error("edgecore refuses the mapper `{name}`: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// What edgecore said.
        why: String,
    },
    /// The server of its socket failed.
    #[error("the mapper's socket `{path}` failed")]
    Served {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// The devices that the mapper was given; clones share them.
#[derive(Clone, Default)]
struct Devices {
    all: Arc<Mutex<BTreeMap<(String, String), SimulatedDevice>>>,
    changed: Arc<Notify>,
}

impl Devices {
    /// A device is new or has changed; says whether there is room for it.
    fn set(&self, device: &pb::Device) -> bool {
        let key = (device.namespace.clone(), device.name.clone());
        let mut all = self.all.lock();
        if all.len() >= MAX_DEVICES && !all.contains_key(&key) {
            return false;
        }
        match all.get_mut(&key) {
            Some(old) => old.change(device),
            None => drop(all.insert(key, SimulatedDevice::new(device, Instant::now()))),
        }
        self.changed.notify_one();
        true
    }

    fn remove(&self, namespace: &str, name: &str) {
        self.all.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn get(&self, namespace: &str, name: &str) -> Option<pb::Device> {
        let all = self.all.lock();
        all.get(&(namespace.to_owned(), name.to_owned())).map(|d| d.given().clone())
    }
}

/// Simulates devices until `stopping`.
///
/// # Errors
/// When its socket cannot be opened, or edgecore refuses the registration for good.
pub async fn run(options: Options, stopping: CancellationToken) -> Result<(), MapperError> {
    let devices = Devices::default();
    let served = service::bind(&options.socket, devices.clone())?;
    tokio::select! {
        served = served => served.map_err(|source| MapperError::Served {
            path: options.socket.clone(),
            source,
        }),
        lived = live(&options, &devices) => lived,
        () = stopping.cancelled() => Ok(()),
    }
}

/// Registers, reports, and registers again when edgecore was away.
async fn live(options: &Options, devices: &Devices) -> Result<(), MapperError> {
    let mut tries = 0;
    loop {
        match register(options).await {
            Ok((mut client, given)) => {
                tries = 0;
                tracing::info!(devices = given.len(), "registered at edgecore");
                devices.all.lock().clear();
                for device in &given {
                    devices.set(device);
                }
                report_all(&mut client, devices).await;
                tracing::warn!("edgecore does not answer; registering again");
            }
            Err(status) if status.code() == Code::InvalidArgument => {
                let why = status.message().to_owned();
                return Err(MapperError::Refused { name: options.name.clone(), why });
            }
            Err(status) => {
                if tries == 0 {
                    tracing::warn!("cannot register yet: {}", status.message());
                }
            }
        }
        tokio::time::sleep(AGAIN.next_delay(tries)).await;
        tries += 1;
    }
}

async fn register(
    options: &Options,
) -> Result<(DeviceManagerServiceClient<Channel>, Vec<pb::Device>), tonic::Status> {
    let channel = dial(&options.edgecore).await.map_err(|e| {
        let why = ::service::error_chain(&e);
        tonic::Status::unavailable(format!("`{}`: {why}", options.edgecore.display()))
    })?;
    let mut client = DeviceManagerServiceClient::new(channel);
    let request = pb::MapperRegisterRequest {
        with_data: true,
        mapper: Some(pb::MapperInfo {
            name: options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: "v1beta1".to_owned(),
            protocol: options.protocol.clone(),
            address: options.socket.as_os_str().as_encoded_bytes().to_vec(),
            state: "ok".to_owned(),
        }),
    };
    let answer = client.mapper_register(request).await?.into_inner();
    Ok((client, answer.device_list))
}

async fn dial(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://edgecore").timeout(CALL).connect_with_connector(connector).await
}

/// Reports what is due, until edgecore does not answer.
async fn report_all(client: &mut DeviceManagerServiceClient<Channel>, devices: &Devices) {
    loop {
        let now = Instant::now();
        let (due, next) = {
            let mut all = devices.all.lock();
            let due: Vec<_> = all
                .iter_mut()
                .map(|(key, device)| (key.clone(), device.due(now, &mut rand::random)))
                .filter(|(_, reports)| !reports.is_empty())
                .collect();
            (due, all.values().map(SimulatedDevice::next_due).min())
        };
        for ((namespace, name), reports) in due {
            for report in reports {
                if let Err(status) = send(client, &namespace, &name, report).await {
                    if matches!(status.code(), Code::Unavailable | Code::FailedPrecondition) {
                        return;
                    }
                    tracing::warn!(device = name, "a report is refused: {}", status.message());
                }
            }
        }
        let next = next.unwrap_or(now + Duration::from_secs(60));
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = devices.changed.notified() => {}
        }
    }
}

async fn send(
    client: &mut DeviceManagerServiceClient<Channel>,
    namespace: &str,
    name: &str,
    report: Report,
) -> Result<(), tonic::Status> {
    let (device_name, device_namespace) = (name.to_owned(), namespace.to_owned());
    match report {
        Report::State(state) => {
            let state = state.to_owned();
            let request = pb::ReportDeviceStatesRequest { device_name, device_namespace, state };
            client.report_device_states(request).await.map(drop)
        }
        Report::Twins(twins) => {
            let reported = pb::DeviceStatus { twins, ..pb::DeviceStatus::default() };
            let request = pb::ReportDeviceStatusRequest {
                device_name,
                device_namespace,
                reported_device: Some(reported),
            };
            client.report_device_status(request).await.map(drop)
        }
    }
}

//! What mappers call: registration and reports.
//!
//! Owns: the checks of what they say, and of who says it.
//! Called by: tonic.
//! Never: takes a report from a process that has not registered for the device's protocol. Who a
//! process is comes from the socket, not from what it says.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::twin::message::Refusal;
use api::twin::topics::DeviceId;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use super::mapper::{Mapper, wanted};
use super::pb::device_manager_service_server::DeviceManagerService;
use super::peers::Peer;
use super::plan::Catalog;
use super::registry::MapperInfo;
use super::{DmiService, convert, pb};
use crate::devicetwin::MapperSays;

/// The type of the rows of `meta` with mappers.
pub(super) const MAPPER: &str = "devicemapper";

/// The key of a mapper's row; the first two elements are literally so.
pub(super) fn mapper_key(name: &str) -> String {
    format!("node/nodeID/namespace/{MAPPER}/{name}")
}

#[tonic::async_trait]
impl DeviceManagerService for DmiService {
    async fn mapper_register(
        &self,
        request: Request<pb::MapperRegisterRequest>,
    ) -> Result<Response<pb::MapperRegisterResponse>, Status> {
        let registrant = peer(&request);
        let request = request.into_inner();
        let info = MapperInfo::of(request.mapper)
            .map_err(|e| self.refuse(Status::invalid_argument(e.to_string())))?;
        let row = info.to_row().map_err(|e| Status::internal(e.to_string()))?;
        let key = mapper_key(&info.name);
        let stored = self.shared.store.write(move |tx| tx.put(&key, MAPPER, &row)).await;
        stored.map_err(|e| Status::unavailable(service::error_chain(&e)))?;
        let know = if request.with_data {
            wanted(&self.shared.store, &info.protocol)
                .await
                .map_err(|e| Status::unavailable(service::error_chain(&e)))?
        } else {
            Catalog::default()
        };
        let registry = &self.shared.registry;
        let Some(place) = registry.register(&info, registrant, &self.stopping) else {
            return Err(self.refuse(Status::resource_exhausted("too many mappers on this node")));
        };
        tracing::info!(
            mapper = info.name,
            protocol = info.protocol,
            devices = know.devices.len(),
            "a mapper registered"
        );
        let answer = pb::MapperRegisterResponse {
            model_list: know.models.values().cloned().collect(),
            device_list: know.devices.values().cloned().collect(),
        };
        let (shared, look) = (Arc::clone(&self.shared), self.look);
        let mapper = Mapper { info, place, shared, told: know, look };
        self.tasks.spawn(mapper.run());
        Ok(Response::new(answer))
    }

    async fn report_device_status(
        &self,
        request: Request<pb::ReportDeviceStatusRequest>,
    ) -> Result<Response<pb::ReportDeviceStatusResponse>, Status> {
        let protocols = self.protocols_of(&request)?;
        let request = request.into_inner();
        let id = self.device(&request.device_namespace, &request.device_name)?;
        let reported = request.reported_device.unwrap_or_default();
        if reported.twins.is_empty() {
            let why = format!("the report of device `{id}` has no twins");
            return Err(self.refuse(Status::invalid_argument(why)));
        }
        let says = MapperSays::Twin(convert::twins(&reported));
        self.say(id, protocols, says).await?;
        Ok(Response::new(pb::ReportDeviceStatusResponse {}))
    }

    async fn report_device_states(
        &self,
        request: Request<pb::ReportDeviceStatesRequest>,
    ) -> Result<Response<pb::ReportDeviceStatesResponse>, Status> {
        let protocols = self.protocols_of(&request)?;
        let request = request.into_inner();
        let id = self.device(&request.device_namespace, &request.device_name)?;
        self.say(id, protocols, MapperSays::State(request.state)).await?;
        Ok(Response::new(pb::ReportDeviceStatesResponse {}))
    }
}

impl DmiService {
    fn refuse(&self, status: Status) -> Status {
        self.shared.counters.refused();
        tracing::debug!("a mapper's call is refused: {}", status.message());
        status
    }

    fn device(&self, namespace: &str, name: &str) -> Result<DeviceId, Status> {
        // The original's mappers leave out the namespace `default`.
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        let id = format!("{namespace}/{name}").parse::<DeviceId>();
        id.map_err(|e| self.refuse(Status::invalid_argument(e.to_string())))
    }

    /// The protocols that the caller may speak for.
    fn protocols_of<T>(&self, request: &Request<T>) -> Result<BTreeSet<Arc<str>>, Status> {
        let Some(peer) = peer(request) else {
            let why = "the process that calls cannot be seen from edgecore: run both in one \
                       PID namespace, or the mapper in one below";
            return Err(self.refuse(Status::permission_denied(why)));
        };
        let protocols = self.shared.registry.protocols_of(peer);
        if protocols.is_empty() {
            let why = "this process has registered no mapper; call MapperRegister first";
            return Err(self.refuse(Status::failed_precondition(why)));
        }
        Ok(protocols)
    }

    async fn say(
        &self,
        id: DeviceId,
        protocols: BTreeSet<Arc<str>>,
        says: MapperSays,
    ) -> Result<(), Status> {
        let said = self.shared.devices.mapper(id, protocols, says).await;
        said.map_err(|refusal| match refusal.code {
            Refusal::NOT_FOUND => Status::not_found(refusal.reason),
            MapperSays::NOT_YOURS => Status::permission_denied(refusal.reason),
            Refusal::BAD_REQUEST => Status::invalid_argument(refusal.reason),
            _ => Status::unavailable(refusal.reason),
        })
    }
}

fn peer<T>(request: &Request<T>) -> Option<Peer> {
    let info = request.extensions().get::<UdsConnectInfo>()?;
    Peer::of(info.peer_cred?.pid()?)
}

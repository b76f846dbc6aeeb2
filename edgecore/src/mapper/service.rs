//! What edgecore calls: devices come, change and go.
//!
//! Owns: the mapper's socket. Called by: tonic. Never: waits; a device is only written down.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::net::UnixListener;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::{Devices, MapperError};
use crate::devicetwin::dmi::pb;
use crate::devicetwin::dmi::pb::device_mapper_service_server::{
    DeviceMapperService, DeviceMapperServiceServer,
};

/// Opens the socket in the place of one that an earlier mapper left; the future serves it.
pub(super) fn bind(
    path: &Path,
    devices: Devices,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + use<>, MapperError> {
    let failed = |source| MapperError::Socket { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let incoming = futures::stream::unfold(listener, async |listener| {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    Ok(Server::builder()
        .add_service(DeviceMapperServiceServer::new(devices))
        .serve_with_incoming(Box::pin(incoming)))
}

#[tonic::async_trait]
impl DeviceMapperService for Devices {
    async fn register_device(
        &self,
        request: Request<pb::RegisterDeviceRequest>,
    ) -> Result<Response<pb::RegisterDeviceResponse>, Status> {
        let device = self.take(request.into_inner().device)?;
        Ok(Response::new(pb::RegisterDeviceResponse {
            device_name: device.name,
            device_namespace: device.namespace,
        }))
    }

    async fn update_device(
        &self,
        request: Request<pb::UpdateDeviceRequest>,
    ) -> Result<Response<pb::UpdateDeviceResponse>, Status> {
        self.take(request.into_inner().device)?;
        Ok(Response::new(pb::UpdateDeviceResponse {}))
    }

    async fn remove_device(
        &self,
        request: Request<pb::RemoveDeviceRequest>,
    ) -> Result<Response<pb::RemoveDeviceResponse>, Status> {
        let gone = request.into_inner();
        self.remove(&gone.device_namespace, &gone.device_name);
        Ok(Response::new(pb::RemoveDeviceResponse {}))
    }

    async fn create_device_model(
        &self,
        request: Request<pb::CreateDeviceModelRequest>,
    ) -> Result<Response<pb::CreateDeviceModelResponse>, Status> {
        let model = request.into_inner().model.unwrap_or_default();
        Ok(Response::new(pb::CreateDeviceModelResponse {
            device_model_name: model.name,
            device_model_namespace: model.namespace,
        }))
    }

    async fn update_device_model(
        &self,
        _: Request<pb::UpdateDeviceModelRequest>,
    ) -> Result<Response<pb::UpdateDeviceModelResponse>, Status> {
        Ok(Response::new(pb::UpdateDeviceModelResponse {}))
    }

    async fn remove_device_model(
        &self,
        _: Request<pb::RemoveDeviceModelRequest>,
    ) -> Result<Response<pb::RemoveDeviceModelResponse>, Status> {
        Ok(Response::new(pb::RemoveDeviceModelResponse {}))
    }

    async fn get_device(
        &self,
        request: Request<pb::GetDeviceRequest>,
    ) -> Result<Response<pb::GetDeviceResponse>, Status> {
        let asked = request.into_inner();
        let device = self.get(&asked.device_namespace, &asked.device_name).ok_or_else(|| {
            let (namespace, name) = (asked.device_namespace, asked.device_name);
            Status::not_found(format!("no device `{namespace}/{name}` here"))
        })?;
        Ok(Response::new(pb::GetDeviceResponse { device: Some(device) }))
    }
}

impl Devices {
    fn take(&self, device: Option<pb::Device>) -> Result<pb::Device, Status> {
        let device = device.ok_or_else(|| Status::invalid_argument("there is no device in it"))?;
        if !self.set(&device) {
            return Err(Status::resource_exhausted("the mapper has all the devices it can have"));
        }
        Ok(device)
    }
}

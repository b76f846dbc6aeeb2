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
use crate::devicetwin::dmi::authority::AnyAuthority;
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
        // KubeEdge's edgecore names the path of the socket as its host.
        Some((listener.accept().await.map(|(stream, _)| AnyAuthority::new(stream)), listener))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const END_HEADERS: u8 = 4;
    const END_STREAM: u8 = 1;

    fn frame(kind: u8, flags: u8, stream: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], body].concat()
    }

    /// A field of the static table with a value of its own, or with an own name, as HPACK writes them.
    fn field(name: &[u8], value: &str) -> Vec<u8> {
        [name, &[u8::try_from(value.len()).unwrap()][..], value.as_bytes()].concat()
    }

    #[tokio::test]
    async fn an_edgecore_that_names_the_path_of_the_socket_as_its_host_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapper.sock");
        let served = tokio::spawn(bind(&path, Devices::default()).unwrap());
        let host = "%2Fetc%2Fkubeedge%2Fsimulator.sock";
        let headers = [
            // POST, http
            vec![0x83, 0x86],
            field(&[0x04], "/v1beta1.DeviceMapperService/CreateDeviceModel"),
            field(&[0x01], host),
            field(&[0x0f, 0x10], "application/grpc"),
            field(b"\x00\x02te", "trailers"),
        ];
        let call = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, &headers.concat()),
            // An empty message.
            frame(DATA, END_STREAM, 1, &[0; 5]),
        ];
        let mut socket = UnixStream::connect(&path).await.unwrap();
        socket.write_all(&call.concat()).await.unwrap();
        let kind = loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let [a, b, c, kind, .., stream] = head;
            let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            socket.read_exact(&mut body).await.unwrap();
            if stream == 1 {
                break kind;
            }
        };
        assert_eq!(kind, HEADERS, "the call was reset");
        served.abort();
    }
}

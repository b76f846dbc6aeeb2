//! DMI over real sockets, with a mapper that remembers what it was told.

use std::time::Duration;

use api::names::ObjectKey;
use api::raw::RawJson;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, watch};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::pb::device_manager_service_client::DeviceManagerServiceClient;
use super::pb::device_mapper_service_server::{DeviceMapperService, DeviceMapperServiceServer};
use super::*;
use crate::devicetwin::{DeviceTwin, FromCloud};
use crate::edgehub::ToCloud;
use crate::edgehub::link::LinkState;
use crate::metamanager::apply::DeviceChange;

#[path = "golden_tests.rs"]
mod golden;

const PATIENCE: Duration = Duration::from_secs(30);

struct Edge {
    folder: PathBuf,
    store: Store,
    devices: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
    _link: watch::Sender<LinkState>,
}

fn edge(folder: &Path) -> Edge {
    edge_that_looks(folder, mapper::LOOK)
}

fn edge_that_looks(folder: &Path, look: Duration) -> Edge {
    let store = Store::open(&folder.join("edgecore.db")).unwrap();
    let to_cloud = ToCloud::new(store.clone(), Arc::new(Notify::new()));
    let node = "edge-1".parse().unwrap();
    let (twin, devices) = DeviceTwin::new(node, store.clone(), to_cloud, None);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (link_sender, link) = watch::channel(LinkState::default());
    tasks.spawn(twin.run(link, stop.clone()));
    let mut dmi = Dmi::bind(&folder.join("dmi.sock")).unwrap();
    dmi.look = look;
    tasks.spawn(dmi.run(store.clone(), devices.clone(), stop.clone()));
    Edge { folder: folder.to_owned(), store, devices, stop, tasks, _link: link_sender }
}

impl Edge {
    /// What the edgehub does with an object from the cloud.
    async fn push(&self, key: &str, object: Option<Value>) {
        let key: ObjectKey = key.parse().unwrap();
        let (row, kind) = (key.to_string(), key.kind.as_str().to_owned());
        let text = object.as_ref().map(Value::to_string);
        self.store
            .write(move |tx| match text {
                Some(text) => tx.put(&row, &kind, &text),
                None => tx.delete(&row).map(drop),
            })
            .await
            .unwrap();
        let object = object.map(|o| RawJson::of(&o).unwrap());
        self.devices.cloud(FromCloud::Object(DeviceChange { key, object })).await;
    }

    async fn client(&self) -> DeviceManagerServiceClient<Channel> {
        let path = self.folder.join("dmi.sock");
        let connector = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://edgecore");
        DeviceManagerServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // The file is closed before another edge opens it.
        let ended = self.store.ended();
        drop(self.store);
        ended.cancelled().await;
    }
}

/// A mapper that writes down each call.
#[derive(Clone)]
struct Told {
    calls: mpsc::UnboundedSender<String>,
    refuse_next: Arc<Mutex<bool>>,
}

impl Told {
    fn call(&self, text: String) -> Result<(), Status> {
        let refuse = std::mem::take(&mut *self.refuse_next.lock());
        self.calls.send(format!("{text}{}", if refuse { " refused" } else { "" })).unwrap();
        if refuse { Err(Status::internal("not today")) } else { Ok(()) }
    }
}

fn desired(device: Option<&pb::Device>) -> String {
    let device = device.unwrap();
    let property = &device.spec.as_ref().unwrap().properties[0];
    format!("{}={}", device.name, property.desired.as_ref().map_or("", |d| &d.value))
}

#[tonic::async_trait]
impl DeviceMapperService for Told {
    async fn register_device(
        &self,
        request: Request<pb::RegisterDeviceRequest>,
    ) -> Result<Response<pb::RegisterDeviceResponse>, Status> {
        self.call(format!("register {}", desired(request.into_inner().device.as_ref())))?;
        Ok(Response::new(Default::default()))
    }

    async fn remove_device(
        &self,
        request: Request<pb::RemoveDeviceRequest>,
    ) -> Result<Response<pb::RemoveDeviceResponse>, Status> {
        self.call(format!("remove {}", request.into_inner().device_name))?;
        Ok(Response::new(Default::default()))
    }

    async fn update_device(
        &self,
        request: Request<pb::UpdateDeviceRequest>,
    ) -> Result<Response<pb::UpdateDeviceResponse>, Status> {
        self.call(format!("update {}", desired(request.into_inner().device.as_ref())))?;
        Ok(Response::new(Default::default()))
    }

    async fn create_device_model(
        &self,
        request: Request<pb::CreateDeviceModelRequest>,
    ) -> Result<Response<pb::CreateDeviceModelResponse>, Status> {
        self.call(format!("model {}", request.into_inner().model.unwrap().name))?;
        Ok(Response::new(Default::default()))
    }

    async fn remove_device_model(
        &self,
        request: Request<pb::RemoveDeviceModelRequest>,
    ) -> Result<Response<pb::RemoveDeviceModelResponse>, Status> {
        self.call(format!("remove model {}", request.into_inner().model_name))?;
        Ok(Response::new(Default::default()))
    }

    async fn update_device_model(
        &self,
        _: Request<pb::UpdateDeviceModelRequest>,
    ) -> Result<Response<pb::UpdateDeviceModelResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn get_device(
        &self,
        _: Request<pb::GetDeviceRequest>,
    ) -> Result<Response<pb::GetDeviceResponse>, Status> {
        self.call("get".to_owned())?;
        Err(Status::unimplemented("not needed"))
    }
}

/// Counts how often the mapper is asked how it is, and knows no answer.
#[derive(Clone)]
struct Asked(watch::Sender<usize>);

impl tonic::server::NamedService for Asked {
    const NAME: &str = "grpc.health.v1.Health";
}

impl tower::Service<http::Request<tonic::body::Body>> for Asked {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
        self.0.send_modify(|n| *n += 1);
        std::future::ready(Ok(Status::unimplemented("no such service").into_http()))
    }
}

/// It has a runtime of its own, so that all of it can die at once, as a process does.
struct FakeMapper {
    calls: mpsc::UnboundedReceiver<String>,
    refuse_next: Arc<Mutex<bool>>,
    asked: watch::Receiver<usize>,
    runtime: tokio::runtime::Runtime,
}

fn mapper(path: &Path) -> FakeMapper {
    let _ = fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (calls, told) = mpsc::unbounded_channel();
    let refuse_next = Arc::new(Mutex::new(false));
    let service = Told { calls, refuse_next: Arc::clone(&refuse_next) };
    let (health, asked) = watch::channel(0);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let listener = UnixListener::from_std(listener).unwrap();
        let incoming = futures::stream::unfold(listener, async |listener| {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        let server = Server::builder()
            .add_service(DeviceMapperServiceServer::new(service))
            .add_service(Asked(health));
        server.serve_with_incoming(Box::pin(incoming)).await.unwrap();
    });
    FakeMapper { calls: told, refuse_next, asked, runtime }
}

impl FakeMapper {
    async fn told(&mut self, number: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..number {
            let next = tokio::time::timeout(PATIENCE, self.calls.recv()).await;
            told.push(next.unwrap_or_else(|_| panic!("only {told:?}")).unwrap());
        }
        told
    }

    fn die(self) {
        self.runtime.shutdown_background();
    }
}

fn registration(address: &Path, with_data: bool) -> pb::MapperRegisterRequest {
    pb::MapperRegisterRequest {
        with_data,
        mapper: Some(pb::MapperInfo {
            name: "fake".into(),
            protocol: "modbus".into(),
            address: address.as_os_str().as_encoded_bytes().to_vec(),
            ..pb::MapperInfo::default()
        }),
    }
}

fn device(protocol: &str, desired: &str) -> Option<Value> {
    Some(json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {
        "nodeName": "edge-1", "deviceModelRef": {"name": "m"},
        "protocol": {"protocolName": protocol},
        "properties": [{"name": "t", "desired": {"value": desired}}]}}))
}

fn model() -> Option<Value> {
    Some(json!({"metadata": {}, "spec": {"properties": [{"name": "t", "type": "INT"}]}}))
}

fn report(name: &str, value: &str) -> pb::ReportDeviceStatusRequest {
    let reported = pb::TwinProperty { value: value.into(), ..pb::TwinProperty::default() };
    pb::ReportDeviceStatusRequest {
        device_name: name.into(),
        device_namespace: "default".into(),
        reported_device: Some(pb::DeviceStatus {
            twins: vec![pb::Twin {
                property_name: "t".into(),
                reported: Some(reported),
                observed_desired: None,
            }],
            ..pb::DeviceStatus::default()
        }),
    }
}

#[tokio::test]
async fn a_mapper_gets_its_devices_and_each_change_of_them_and_nothing_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path());
    edge.push("default/devicemodel/m", model()).await;
    edge.push("default/device/a", device("modbus", "1")).await;
    edge.push("default/device/other", device("bluetooth", "1")).await;
    let socket = dir.path().join("mapper.sock");
    let mut fake = mapper(&socket);
    let mut client = edge.client().await;
    let answer = client.mapper_register(registration(&socket, true)).await.unwrap().into_inner();
    assert_eq!((answer.model_list.len(), answer.device_list.len()), (1, 1));
    assert_eq!(answer.device_list[0].name, "a");
    edge.push("default/device/a", device("modbus", "2")).await;
    assert_eq!(fake.told(1).await, ["update a=2"]);
    edge.push("default/device/b", device("modbus", "5")).await;
    assert_eq!(fake.told(1).await, ["register b=5"]);
    edge.push("default/device/b", None).await;
    assert_eq!(fake.told(1).await, ["remove b"]);
    edge.push("default/device/a", device("bluetooth", "2")).await;
    assert_eq!(fake.told(2).await, ["remove a", "remove model m"]);
    fake.die();
    edge.stop().await;
}

#[tokio::test]
async fn a_device_that_names_no_protocol_has_that_of_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path());
    edge.push("default/devicemodel/m", Some(json!({"spec": {"protocol": "modbus"}}))).await;
    let spec = json!({"nodeName": "edge-1", "deviceModelRef": {"name": "m"},
        "properties": [{"name": "t"}]});
    edge.push("default/device/a", Some(json!({"metadata": {}, "spec": spec}))).await;
    let socket = dir.path().join("mapper.sock");
    let fake = mapper(&socket);
    let mut client = edge.client().await;
    let answer = client.mapper_register(registration(&socket, true)).await.unwrap().into_inner();
    let given = answer.device_list[0].spec.as_ref().unwrap();
    assert_eq!(given.protocol.as_ref().unwrap().protocol_name, "modbus");
    client.report_device_status(report("a", "5")).await.unwrap();
    fake.die();
    edge.stop().await;
}

#[tokio::test]
async fn a_mapper_that_was_away_is_told_everything_again_also_by_a_new_edgecore() {
    let dir = tempfile::tempdir().unwrap();
    let first = edge(dir.path());
    let socket = dir.path().join("mapper.sock");
    let mut fake = mapper(&socket);
    let mut client = first.client().await;
    client.mapper_register(registration(&socket, false)).await.unwrap();
    first.push("default/devicemodel/m", model()).await;
    first.push("default/device/a", device("modbus", "1")).await;
    assert_eq!(fake.told(2).await, ["model m", "register a=1"]);
    *fake.refuse_next.lock() = true;
    first.push("default/device/a", device("modbus", "2")).await;
    assert_eq!(fake.told(2).await, ["update a=2 refused", "update a=2"], "tried again");
    fake.die();
    let mut again = mapper(&socket);
    assert_eq!(again.told(3).await, ["model m", "register a=2", "update a=2"]);
    drop(client);
    first.stop().await;

    let second = edge(dir.path());
    assert_eq!(again.told(2).await, ["model m", "register a=2"]);
    again.die();
    second.stop().await;
}

/// Takes connections and answers nothing, as a process that hangs.
#[tokio::test]
async fn a_mapper_is_asked_how_it_is_and_never_for_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge_that_looks(dir.path(), Duration::from_millis(20));
    edge.push("default/devicemodel/m", model()).await;
    edge.push("default/device/a", device("modbus", "1")).await;
    let socket = dir.path().join("mapper.sock");
    let mut fake = mapper(&socket);
    let mut client = edge.client().await;
    client.mapper_register(registration(&socket, true)).await.unwrap();
    let asked = fake.asked.wait_for(|n| *n >= 3);
    tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    edge.push("default/device/a", device("modbus", "2")).await;
    assert_eq!(
        fake.told(1).await,
        ["update a=2"],
        "it kept its connection, and heard nothing else"
    );
    fake.die();
    edge.stop().await;
}

fn hang(path: &Path) -> std::os::unix::net::UnixListener {
    let _ = fs::remove_file(path);
    std::os::unix::net::UnixListener::bind(path).unwrap()
}

#[tokio::test]
async fn a_mapper_that_hangs_is_noticed_without_a_call_and_told_everything_once_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge_that_looks(dir.path(), Duration::from_millis(200));
    edge.push("default/devicemodel/m", model()).await;
    edge.push("default/device/a", device("modbus", "1")).await;
    let socket = dir.path().join("mapper.sock");
    let hung = hang(&socket);
    let mut client = edge.client().await;
    client.mapper_register(registration(&socket, true)).await.unwrap();
    let id = "default/a".parse().unwrap();
    let end = tokio::time::Instant::now() + 2 * PATIENCE;
    loop {
        let stored = edge.store.write(crate::devicetwin::store::load).await.unwrap();
        if stored.devices.get(&id).is_some_and(|d| d.state == "unknown") {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "nobody notices");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(hung);
    let mut fake = mapper(&socket);
    assert_eq!(fake.told(3).await, ["model m", "register a=1", "update a=1"]);
    fake.die();
    edge.stop().await;
}

#[tokio::test]
async fn only_a_mapper_that_registered_for_the_protocol_can_report() {
    let dir = tempfile::tempdir().unwrap();
    let edge = edge(dir.path());
    edge.push("default/devicemodel/m", model()).await;
    edge.push("default/device/a", device("modbus", "1")).await;
    edge.push("default/device/other", device("bluetooth", "1")).await;
    let mut client = edge.client().await;
    let early = client.report_device_status(report("a", "5")).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "{early}");
    let socket = dir.path().join("mapper.sock");
    let bad = pb::MapperRegisterRequest { with_data: false, mapper: None };
    assert_eq!(client.mapper_register(bad).await.unwrap_err().code(), Code::InvalidArgument);
    client.mapper_register(registration(&socket, false)).await.unwrap();
    client.report_device_status(report("a", "5")).await.unwrap();
    for (name, value, code) in [
        ("other", "5", Code::PermissionDenied),
        ("nobody", "5", Code::NotFound),
        ("a/b", "5", Code::InvalidArgument),
        ("a", "five", Code::InvalidArgument),
    ] {
        let no = client.report_device_status(report(name, value)).await.unwrap_err();
        assert_eq!(no.code(), code, "{name}: {no}");
    }
    let empty = pb::ReportDeviceStatusRequest { reported_device: None, ..report("a", "") };
    let no = client.report_device_status(empty).await.unwrap_err();
    assert_eq!(no.code(), Code::InvalidArgument);
    let state = |state: &str| pb::ReportDeviceStatesRequest {
        device_name: "a".into(),
        device_namespace: "default".into(),
        state: state.into(),
    };
    client.report_device_states(state("online")).await.unwrap();
    let no = client.report_device_states(state("asleep")).await.unwrap_err();
    assert!(no.message().contains("should be one of"), "{no}");
    assert_eq!(edge.devices.counters.refusals(), 8);
    // Beyond what a call may have it is not read, and the connection goes on.
    let huge = client.report_device_status(report("a", &"5".repeat(5 << 20))).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge}");
    client.report_device_status(report("a", "6")).await.unwrap();
    assert_eq!(until(&edge, "a", "t", |v| v == "6").await, "6");
    edge.stop().await;
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_a_dead_ones_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/dmi.sock");
    let first = Dmi::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Dmi::bind(&path), Err(DmiError::InUse { .. })));
    drop(first);
    Dmi::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(matches!(Dmi::bind(&path), Err(DmiError::Io { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

/// What the twin of a property is now.
async fn reported(edge: &Edge, name: &str, property: &str) -> Option<String> {
    let stored = edge.store.write(crate::devicetwin::store::load).await.unwrap();
    let id = format!("default/{name}").parse().unwrap();
    stored.devices.get(&id)?.twins.get(property)?.actual.clone()?.value
}

async fn until(edge: &Edge, name: &str, property: &str, fits: impl Fn(&str) -> bool) -> String {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = reported(edge, name, property).await
            && fits(&value)
        {
            return value;
        }
        assert!(tokio::time::Instant::now() < end, "`{property}` does not become what it should");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn simulated(desired: &str) -> Option<Value> {
    let does = |what: &str| json!({"configData": {"simulate": what}});
    Some(json!({"metadata": {"name": "sim", "namespace": "default"}, "spec": {
        "nodeName": "edge-1", "deviceModelRef": {"name": "m"},
        "protocol": {"protocolName": "simulated"},
        "properties": [
            {"name": "on", "desired": {"value": desired}, "visitors": does("obey"), "reportCycle": 50},
            {"name": "count", "visitors": does("counter"), "reportCycle": 50},
            {"name": "t", "visitors": does("temperature"), "reportCycle": 50}]}}))
}

#[tokio::test]
async fn the_sample_mapper_obeys_counts_and_finds_a_new_edgecore() {
    let dir = tempfile::tempdir().unwrap();
    let first = edge(dir.path());
    first.push("default/device/sim", simulated("true")).await;
    let options = crate::mapper::Options {
        edgecore: dir.path().join("dmi.sock"),
        socket: dir.path().join("simulator.sock"),
        name: "simulator".into(),
        protocol: "simulated".into(),
    };
    let stop = CancellationToken::new();
    let mapper = tokio::spawn(crate::mapper::run(options, stop.clone()));
    until(&first, "sim", "on", |v| v == "true").await;
    until(&first, "sim", "t", |v| v.parse::<f64>().is_ok_and(|t| (15.0..27.0).contains(&t))).await;
    first.push("default/device/sim", simulated("false")).await;
    until(&first, "sim", "on", |v| v == "false").await;
    let before = until(&first, "sim", "count", |v| v.parse::<i64>().is_ok()).await;
    first.stop().await;

    let second = edge(dir.path());
    second.push("default/device/sim", simulated("true")).await;
    until(&second, "sim", "on", |v| v == "true").await;
    until(&second, "sim", "count", |v| v != before).await;
    stop.cancel();
    mapper.await.unwrap().unwrap();
    second.stop().await;
}

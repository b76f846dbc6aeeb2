use api::wire::upstream::Upstream;
use tokio::sync::Notify;

use super::*;

struct Running {
    handle: Handle,
    bus: mpsc::Receiver<Publication>,
    to_cloud: ToCloud,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), BoxError>>,
    link: watch::Sender<LinkState>,
}

fn start(store: &Store) -> Running {
    let to_cloud = ToCloud::new(store.clone(), Arc::new(Notify::new()));
    to_cloud.link_up();
    let (sender, bus) = mpsc::channel(64);
    let node = "edge-1".parse().unwrap();
    let (twin, handle) = DeviceTwin::new(node, store.clone(), to_cloud.clone(), Some(sender));
    let stop = CancellationToken::new();
    let (link_sender, link) = watch::channel(LinkState::default());
    let task = tokio::spawn(twin.run(link, stop.clone()));
    Running { handle, bus, to_cloud, stop, task, link: link_sender }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn device_object(desired: &str) -> FromCloud {
    let object = serde_json::json!({"metadata": {"name": "a", "namespace": "default"},
        "spec": {"nodeName": "edge-1", "protocol": {"protocolName": "p"},
        "properties": [{"name": "t", "desired": {"value": desired}}]}});
    let key = "default/device/a".parse().unwrap();
    FromCloud::Object(DeviceChange { key, object: Some(RawJson::of(&object).unwrap()) })
}

fn speaks() -> Protocols {
    Protocols::from(["p".into()])
}

fn twin(value: &str) -> BTreeMap<String, Option<MsgTwin>> {
    let value = payload::TwinValue { value: Some(value.to_owned()), metadata: None };
    let twin = MsgTwin { actual: Some(value), ..MsgTwin::default() };
    BTreeMap::from([("t".to_owned(), Some(twin))])
}

#[tokio::test]
async fn a_report_is_on_the_disk_when_its_sender_is_answered_and_told_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("edgecore.db")).unwrap();
    let running = start(&store);
    let device: DeviceId = "default/a".parse().unwrap();
    running.handle.cloud(device_object("20")).await;
    running.handle.mapper(device.clone(), speaks(), MapperSays::Twin(twin("19"))).await.unwrap();
    running
        .handle
        .mapper(device.clone(), speaks(), MapperSays::State("online".into()))
        .await
        .unwrap();
    let stored = store.write(store::load).await.unwrap().devices.remove(&device).unwrap();
    assert_eq!(merge::value_of(stored.twins["t"].actual.as_ref()), Some("19"));
    assert_eq!(stored.state, "online");
    running.stop().await;

    let mut running = start(&store);
    let other: DeviceId = "default/b".parse().unwrap();
    let no = running
        .handle
        .mapper(other, speaks(), MapperSays::State("online".into()))
        .await
        .unwrap_err();
    assert_eq!(no.code, Refusal::NOT_FOUND);
    running.handle.cloud(device_object("20")).await;
    let others = Protocols::from(["q".into()]);
    let says = MapperSays::State("online".into());
    let no = running.handle.mapper(device.clone(), others, says).await.unwrap_err();
    assert_eq!(no.code, MapperSays::NOT_YOURS);
    assert!(no.reason.contains("speaks `p`"), "{}", no.reason);
    running.handle.mapper(device.clone(), speaks(), MapperSays::State("ok".into())).await.unwrap();
    let first = running.bus.recv().await.unwrap();
    assert!(
        first.topic.ends_with("state/update/result"),
        "the same desired value again is no news: {}",
        first.topic
    );
    let mut told = Vec::new();
    let next = || running.to_cloud.outbox().next_spare(Instant::now());
    while let Some((id, message)) = next() {
        running.to_cloud.device_confirmed(&id);
        told.push(message);
    }
    let twins = told.iter().filter(|m| matches!(m, Upstream::DeviceTwin { .. })).count();
    let states = told.iter().filter(|m| matches!(m, Upstream::DeviceState { .. })).count();
    assert_eq!((twins, states), (1, 1), "{told:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_bus_that_takes_nothing_holds_up_no_report() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("edgecore.db")).unwrap();
    let running = start(&store);
    running.handle.cloud(device_object("20")).await;
    let device: DeviceId = "default/a".parse().unwrap();
    for n in 0..100 {
        let says = MapperSays::Twin(twin(&n.to_string()));
        running.handle.mapper(device.clone(), speaks(), says).await.unwrap();
    }
    running.stop().await;
}

#[tokio::test]
async fn the_cloud_is_asked_for_the_devices_once_in_each_link() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("edgecore.db")).unwrap();
    let running = start(&store);
    let asked = || match running.to_cloud.outbox().next_spare(Instant::now()) {
        Some((_, Upstream::MembershipDetail(question))) => Some(question),
        _ => None,
    };
    for count in 1..3 {
        running.link.send(LinkState { up: true, count }).unwrap();
        let device: DeviceId = "default/x".parse().unwrap();
        // An answer to anything shows that the task has been round once more.
        for _ in 0..2 {
            let _ = running
                .handle
                .mapper(device.clone(), speaks(), MapperSays::State("ok".into()))
                .await;
        }
        let question = asked().unwrap();
        let get: MembershipDetailGet = serde_json::from_str(&question.text()).unwrap();
        assert_eq!((get.group_id.as_str(), get.operation.as_str()), ("edge-1", "detail"));
        assert!(asked().is_none());
        running.link.send(LinkState { up: false, count }).unwrap();
    }
    running.stop().await;
}

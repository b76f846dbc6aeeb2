//! Devices, as an edge node and the API server see them.

use api::raw::RawJson;
use api::wire::Upstream;
use api::wire::downstream::{Downstream, ObjectPush, PushOp, PushSource};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const API: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/default";

fn path(kind: &str, name: &str) -> String {
    format!("{API}/{kind}/{name}")
}

fn add_model(fake: &Fake, name: &str, maximum: &str) -> Value {
    let property = json!({"name": "temperature", "type": "INT", "maximum": maximum});
    let spec = json!({"protocol": "virtual", "properties": [property]});
    fake.put(&path("devicemodels", name), json!({"spec": spec}))
}

fn add_device(fake: &Fake, name: &str, node: &str, desired: &str) -> Value {
    let property = json!({"name": "temperature", "desired": {"value": desired}});
    let spec = json!({"nodeName": node, "deviceModelRef": {"name": "sensor"},
        "protocol": {"protocolName": "virtual"}, "properties": [property]});
    fake.put(&path("devices", name), json!({"spec": spec}))
}

fn report(device: &str, value: &str, version: i64) -> Upstream {
    let content = json!({"event_id": "e", "timestamp": 1, "twin": {"temperature": {
        "actual": {"value": value, "metadata": {"timestamp": 1_790_000_000_123_i64 + version}},
        "optional": true, "metadata": {"type": "int"},
        "actual_version": {"cloud": 0, "edge": version}}}});
    Upstream::DeviceTwin {
        namespace: "default".parse().unwrap(),
        name: device.into(),
        content: RawJson::of(&content).unwrap(),
    }
}

/// What is said next, and acknowledged if it must be.
async fn next(link: &mut Link) -> Downstream {
    let (id, message) = link.next().await;
    if let Some(ack) = message.ack(&id) {
        link.send(&Upstream::Ack(ack)).await;
    }
    message
}

async fn object(link: &mut Link) -> ObjectPush {
    match next(link).await {
        Downstream::Object(push) => push,
        other => panic!("{other:?}"),
    }
}

async fn membership(link: &mut Link) -> Value {
    match next(link).await {
        Downstream::Membership(content) => content.to().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn confirmation(link: &mut Link) -> api::names::MessageId {
    match next(link).await {
        Downstream::TwinConfirm(of) => of,
        other => panic!("{other:?}"),
    }
}

/// An edge node that is connected and knows itself.
async fn node(cloud: &Cloud, name: &str) -> Link {
    let own = cloud.join(name).await;
    known_node(cloud, &own, name).await
}

async fn known_node(cloud: &Cloud, own: &Identity, name: &str) -> Link {
    add_served_node(&cloud.fake, name);
    let mut link = cloud.dial(own, name).await;
    link.take_until(name).await;
    link
}

/// The same with the device `lamp` on it.
async fn node_with_device(cloud: &Cloud, name: &str) -> Link {
    let mut link = node(cloud, name).await;
    give_device(cloud, &mut link, name).await;
    link
}

async fn give_device(cloud: &Cloud, link: &mut Link, name: &str) {
    add_model(&cloud.fake, "sensor", "90");
    add_device(&cloud.fake, "lamp", name, "20");
    for kind in ["devicemodel", "device"] {
        if kind == "device" {
            membership(link).await;
        }
        assert_eq!(object(link).await.key.kind.as_str(), kind);
    }
}

fn status(fake: &Fake, device: &str) -> Value {
    fake.get(&path("devicestatuses", device)).unwrap_or_default()
}

/// How many messages cloudcore says that it dropped for this reason.
async fn dropped(cloud: &Cloud, reason: &str) -> u64 {
    let mut socket = tokio::net::TcpStream::connect(cloud.at.admin.unwrap()).await.unwrap();
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let label = format!("reason=\"{reason}\"");
    let mut lines =
        text.lines().filter(|l| l.starts_with("cloudcore_dropped_total") && l.contains(&label));
    let line = lines.next().unwrap_or("0 0");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_device_goes_to_its_node_after_its_model_and_is_announced() {
    let cloud = Cloud::start().await;
    let mut link = node(&cloud, "edge-1").await;
    let model = add_model(&cloud.fake, "sensor", "90");
    let device = add_device(&cloud.fake, "lamp", "edge-1", "20");

    let push = object(&mut link).await;
    assert_eq!(
        (push.op, push.key.to_string().as_str()),
        (PushOp::Insert, "default/devicemodel/sensor")
    );
    assert_eq!(push.source, PushSource::DeviceController);
    let said: Value = push.object.to().unwrap();
    assert_eq!(
        (&said["kind"], &said["apiVersion"], &said["spec"]),
        (&json!("DeviceModel"), &json!("devices.kubeedge.io/v1beta1"), &model["spec"])
    );
    let added = membership(&mut link).await;
    assert_eq!(added["added_devices"], json!([{"id": "default/lamp", "name": "lamp"}]));
    let push = object(&mut link).await;
    assert_eq!((push.op, push.key.to_string().as_str()), (PushOp::Insert, "default/device/lamp"));
    assert_eq!(push.object.to::<Value>().unwrap()["spec"], device["spec"]);

    // A status of the same name, owned by the device, is there before anything is reported.
    eventually("the DeviceStatus", || !status(&cloud.fake, "lamp").is_null()).await;
    let owner = &status(&cloud.fake, "lamp")["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&device["metadata"]["uid"], &json!(true)));

    // A new desired value is one message, and so is a new model; a label is none.
    add_device(&cloud.fake, "lamp", "edge-1", "25");
    let push = object(&mut link).await;
    assert_eq!((push.op, &*push.key.name), (PushOp::Update, "lamp"));
    let mut labelled = cloud.fake.get(&path("devices", "lamp")).unwrap();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    cloud.fake.put(&path("devices", "lamp"), labelled);
    add_model(&cloud.fake, "sensor", "95");
    let push = object(&mut link).await;
    assert_eq!((push.op, &*push.key.name), (PushOp::Update, "sensor"));

    cloud.fake.delete(&path("devices", "lamp"));
    let removed = membership(&mut link).await;
    assert_eq!(removed["removed_devices"][0]["id"], "default/lamp");
    assert_eq!(object(&mut link).await.op, PushOp::Delete);
    let push = object(&mut link).await;
    assert_eq!((push.op, &*push.key.name), (PushOp::Delete, "sensor"));
    cloud.stop().await;
}

#[tokio::test]
async fn what_a_device_reports_is_in_its_status_and_is_confirmed_after_that() {
    let cloud = Cloud::start().await;
    let mut link = node_with_device(&cloud, "edge-1").await;
    let report_id = link.send(&report("lamp", "23", 1)).await;
    assert_eq!(confirmation(&mut link).await, report_id);
    let twins = status(&cloud.fake, "lamp")["status"]["twins"].clone();
    assert_eq!(
        twins,
        json!([{"propertyName": "temperature", "reported": {"value": "23",
            "metadata": {"timestamp": "1790000000124", "type": "int"}}}])
    );
    let state = json!({"event_id": "e", "timestamp": 1, "device": {"name": "lamp",
        "state": "online", "lastOnlineTime": "2026-09-21T13:46:40Z"}});
    let state_id = link
        .send(&Upstream::DeviceState {
            namespace: "default".parse().unwrap(),
            name: "lamp".into(),
            content: RawJson::string(&state.to_string()),
        })
        .await;
    assert_eq!(confirmation(&mut link).await, state_id);
    let now = status(&cloud.fake, "lamp")["status"].clone();
    assert_eq!(
        (&now["state"], &now["lastOnlineTime"]),
        (&json!("online"), &json!("2026-09-21T13:46:40Z"))
    );
    assert_eq!(now["twins"], twins, "a state leaves the values");
    cloud.stop().await;
}

#[tokio::test]
async fn a_chatty_sensor_costs_one_write_a_second_and_ends_with_its_last_value() {
    let cloud = Cloud::start().await;
    let mut link = node_with_device(&cloud, "edge-1").await;
    eventually("the DeviceStatus", || !status(&cloud.fake, "lamp").is_null()).await;
    let begin = tokio::time::Instant::now();
    for n in 1..=300 {
        link.send(&report("lamp", &n.to_string(), n)).await;
    }
    eventually("the last value", || {
        status(&cloud.fake, "lamp")["status"]["twins"][0]["reported"]["value"] == "300"
    })
    .await;
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap();
    let writes = cloud.fake.asked(&format!("PATCH {}", path("devicestatuses", "lamp")));
    assert!(writes <= seconds + 2, "{writes} writes in {seconds} s");
    cloud.stop().await;
}

#[tokio::test]
async fn no_device_waits_for_the_write_of_another() {
    const DEVICES: usize = 12;
    let cloud = Cloud::start().await;
    let mut link = node(&cloud, "edge-1").await;
    add_model(&cloud.fake, "sensor", "90");
    let names: Vec<String> = (0..DEVICES).map(|n| format!("lamp-{n}")).collect();
    for name in &names {
        add_device(&cloud.fake, name, "edge-1", "20");
    }
    eventually("their DeviceStatuses", || names.iter().all(|n| !status(&cloud.fake, n).is_null()))
        .await;
    cloud.fake.writes_together(DEVICES);
    let mut reports = std::collections::BTreeSet::new();
    for name in &names {
        reports.insert(link.send(&report(name, "23", 1)).await.to_string());
    }
    while !reports.is_empty() {
        if let Downstream::TwinConfirm(of) = next(&mut link).await {
            assert!(reports.remove(&of.to_string()), "{of} is confirmed twice, or was never said");
        }
    }
    cloud.stop().await;
}

#[tokio::test]
async fn another_nodes_device_can_neither_be_read_nor_written() {
    let cloud = Cloud::start().await;
    let mut owner = node_with_device(&cloud, "edge-1").await;
    let mut thief = node(&cloud, "edge-2").await;
    let stolen = thief.send(&report("lamp", "999", 9)).await;
    assert_eq!(confirmation(&mut thief).await, stolen, "it is not said again for ever");
    let none = thief.send(&report("no-such-device", "1", 1)).await;
    assert_eq!(confirmation(&mut thief).await, none);

    let ask = json!({"event_type": "group_membership_event", "event_id": "e",
        "group_id": "edge-1", "operation": "detail", "timestamp": 1});
    let ask = Upstream::MembershipDetail(RawJson::string(&ask.to_string()));
    let asked = thief.send(&ask).await;
    assert_eq!(confirmation(&mut thief).await, asked);
    let Downstream::MembershipDetail(list) = next(&mut thief).await else { panic!() };
    assert_eq!(list.to::<Value>().unwrap()["devices"], json!([]), "whatever it calls itself");

    let own = owner.send(&report("lamp", "21", 1)).await;
    assert_eq!(confirmation(&mut owner).await, own);
    let twins = status(&cloud.fake, "lamp")["status"]["twins"].clone();
    assert_eq!(
        (twins.as_array().unwrap().len(), &twins[0]["reported"]["value"]),
        (1, &json!("21"))
    );
    owner.send(&ask).await;
    confirmation(&mut owner).await;
    let Downstream::MembershipDetail(list) = next(&mut owner).await else { panic!() };
    let list: Value = list.to().unwrap();
    assert_eq!(list["devices"], json!([{"id": "default/lamp", "name": "lamp"}]));
    assert_eq!(
        (dropped(&cloud, "not_allowed").await, dropped(&cloud, "device_report").await),
        (1, 1)
    );
    cloud.stop().await;
}

#[tokio::test]
async fn a_report_counts_for_the_device_that_it_comes_for_whatever_name_it_claims() {
    let cloud = Cloud::start().await;
    let mut link = node_with_device(&cloud, "edge-1").await;
    add_device(&cloud.fake, "victim", "edge-1", "20");
    membership(&mut link).await;
    assert_eq!(&*object(&mut link).await.key.name, "victim");
    eventually("its DeviceStatus", || !status(&cloud.fake, "victim").is_null()).await;
    let state = json!({"event_id": "e", "timestamp": 1, "id": "default/victim", "name": "victim",
        "device": {"id": "default/victim", "name": "victim", "state": "unhealthy"}});
    let twin = json!({"event_id": "e", "timestamp": 1, "device_id": "default/victim", "device":
        {"name": "victim"}, "twin": {"temperature": {"actual": {"value": "99"}}}});
    let (namespace, name): (api::names::Namespace, Box<str>) =
        ("default".parse().unwrap(), "lamp".into());
    for message in [
        Upstream::DeviceState {
            namespace: namespace.clone(),
            name: name.clone(),
            content: RawJson::of(&state).unwrap(),
        },
        Upstream::DeviceTwin { namespace, name, content: RawJson::of(&twin).unwrap() },
    ] {
        let id = link.send(&message).await;
        assert_eq!(confirmation(&mut link).await, id);
    }
    let lamp = status(&cloud.fake, "lamp")["status"].clone();
    assert_eq!(
        (&lamp["state"], &lamp["twins"][0]["reported"]["value"]),
        (&json!("unhealthy"), &json!("99"))
    );
    let victim = status(&cloud.fake, "victim")["status"].clone();
    assert_eq!((&victim["state"], &victim["twins"][0]), (&Value::Null, &Value::Null), "{victim}");
    cloud.stop().await;
}

#[tokio::test]
async fn a_moved_device_leaves_the_old_node_also_when_that_was_away() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let mut first = known_node(&cloud, &own, "edge-1").await;
    give_device(&cloud, &mut first, "edge-1").await;
    drop(first);
    let mut second = node(&cloud, "edge-2").await;
    add_device(&cloud.fake, "lamp", "edge-2", "20");
    assert_eq!(object(&mut second).await.key.kind.as_str(), "devicemodel");
    membership(&mut second).await;
    assert_eq!(object(&mut second).await.op, PushOp::Insert);

    let mut first = cloud.dial(&own, "edge-1").await;
    let mut gone = Vec::new();
    while gone.len() < 2 {
        match next(&mut first).await {
            Downstream::Object(push) if push.op == PushOp::Delete => {
                gone.push(push.key.kind.as_str().to_owned());
            }
            Downstream::Membership(_) | Downstream::Object(_) => {}
            other => panic!("{other:?}"),
        }
    }
    gone.sort();
    assert_eq!(gone, ["device", "devicemodel"]);
    cloud.stop().await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_sent_twice_and_what_was_reported_is_kept() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let mut link = known_node(&cloud, &own, "edge-1").await;
    give_device(&cloud, &mut link, "edge-1").await;
    let id = link.send(&report("lamp", "23", 1)).await;
    assert_eq!(confirmation(&mut link).await, id);
    let records = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs";
    eventually("both records", || {
        let paths = cloud.fake.paths(records);
        paths.len() == 2
            && paths.iter().all(|p| {
                cloud.fake.get(p).is_some_and(|r| r["status"]["objectResourceVersion"] != "0")
            })
    })
    .await;
    drop(link);
    let fake = cloud.stop().await;
    let cloud = Cloud::start_on(fake, &[]).await;
    let mut link = cloud.dial(&own, "edge-1").await;
    let wrong = json!({"event_id": "e", "timestamp": 1, "twin": {"humidity":
        {"actual": {"value": "40"}, "metadata": {"type": "int"}}}});
    let report = Upstream::DeviceTwin {
        namespace: "default".parse().unwrap(),
        name: "lamp".into(),
        content: RawJson::of(&wrong).unwrap(),
    };
    let id = link.send(&report).await;
    loop {
        match next(&mut link).await {
            Downstream::TwinConfirm(of) => break assert_eq!(of, id),
            Downstream::Object(push) if push.key.kind.as_str() == "node" => {}
            other => panic!("the node holds all: {other:?}"),
        }
    }
    let twins = status(&cloud.fake, "lamp")["status"]["twins"].clone();
    let names: Vec<_> = twins.as_array().unwrap().iter().map(|t| &t["propertyName"]).collect();
    assert_eq!(names, ["humidity", "temperature"], "the stored one is kept");
    cloud.stop().await;
}

#[tokio::test]
async fn a_payload_that_makes_no_sense_is_refused_and_the_rest_goes_on() {
    let cloud = Cloud::start().await;
    let mut link = node_with_device(&cloud, "edge-1").await;
    for content in [json!("no json"), json!([1]), json!({"twin": {"t": 7}})] {
        let message = Upstream::DeviceTwin {
            namespace: "default".parse().unwrap(),
            name: "lamp".into(),
            content: RawJson::of(&content).unwrap(),
        };
        let id = link.send(&message).await;
        assert_eq!(confirmation(&mut link).await, id);
    }
    assert_eq!(dropped(&cloud, "undecodable").await, 3);
    let id = link.send(&report("lamp", "23", 1)).await;
    assert_eq!(confirmation(&mut link).await, id);
    cloud.stop().await;
}

//! Devices of an edge node that KubeEdge's edgecore ran before.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use api::wire::upstream::Upstream;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::pki::Pki;
use crate::support::{Cloud, Edge, PATIENCE, config};

/// The database as a KubeEdge edgecore leaves it: its tables, its rows, its journal. `lamp` speaks MQTT;
/// `room` has a mapper that is gone; `stray` is no device of the cloud any more.
const KUBEEDGE: &str = r#"
    PRAGMA journal_mode = delete;
    CREATE TABLE meta (key text, type text, value text, PRIMARY KEY (key));
    CREATE TABLE meta_v2 (key text, group_version_resource text, namespace text, name text,
        resource_version integer, value text, PRIMARY KEY (key));
    CREATE TABLE device (id text, name text, description text, state text, last_online text,
        PRIMARY KEY (id));
    CREATE TABLE device_attr (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, name text,
        description text, value text, optional numeric, attr_type text, metadata text);
    CREATE TABLE device_twin (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, name text,
        description text, expected text, actual text, expected_meta text, actual_meta text,
        expected_version text, actual_version text, optional numeric, attr_type text,
        metadata text);
    CREATE TABLE sub_topics (topic text, PRIMARY KEY (topic));
    CREATE TABLE target_urls (url text, PRIMARY KEY (url));

    INSERT INTO meta VALUES ('default/devicemodel/room', 'devicemodel',
        '{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceModel","metadata":{"creationTimestamp":"2026-09-21T11:26:40Z","generation":1,"name":"room","namespace":"default","resourceVersion":"11","uid":"m-1"},"spec":{"properties":[{"accessMode":"ReadWrite","name":"light","type":"BOOLEAN"}],"protocol":"simulated"}}');
    INSERT INTO meta VALUES ('default/device/room', 'device',
        '{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"creationTimestamp":"2026-09-21T11:26:40Z","generation":1,"name":"room","namespace":"default","resourceVersion":"12","uid":"d-1"},"spec":{"deviceModelRef":{"name":"room"},"nodeName":"edge-1","properties":[{"desired":{"value":"true"},"name":"light","reportCycle":100,"reportToCloud":true,"visitors":{"configData":{"simulate":"obey"},"protocolName":"simulated"}}],"protocol":{"protocolName":"simulated"}},"status":{}}');
    INSERT INTO meta VALUES ('node/nodeID/namespace/devicemapper/gone', 'devicemapper',
        '{"name":"gone","version":"v1.13.0","api_version":"v1.0.0","protocol":"simulated","address":"L25vd2hlcmUvZ29uZS5zb2Nr","state":"ok"}');
    INSERT INTO device VALUES ('default/lamp', 'lamp', '', 'online', '2026-09-21 13:46:40');
    INSERT INTO device VALUES ('default/room', 'room', '', '', '');
    INSERT INTO device VALUES ('default/stray', 'stray', NULL, NULL, NULL);
    INSERT INTO device_attr (deviceid, name, description, value, optional, attr_type, metadata)
        VALUES ('default/lamp', 'place', '', 'hall 7', 1, 'string', '{}');
    INSERT INTO device_twin (deviceid, name, description, expected, actual, expected_meta,
        actual_meta, expected_version, actual_version, optional, attr_type, metadata)
        VALUES ('default/lamp', 'level', '', '20', '23', '{"timestamp":1789990000005}',
            '{"timestamp":1789990000007}', '{"cloud":1,"edge":2}', '{"cloud":0,"edge":9}', 1, 'string', '{}');
    INSERT INTO device_twin (deviceid, name, description, expected, actual, expected_meta,
        actual_meta, expected_version, actual_version, optional, attr_type, metadata)
        VALUES ('default/lamp', 'old', '', NULL, NULL, NULL, NULL, NULL, '{"cloud":0,"edge":3}', 1,
            'deleted', NULL);
    INSERT INTO device_twin (deviceid, name, actual, actual_meta, actual_version, optional, attr_type)
        VALUES ('default/stray', 'x', '1', '{"timestamp":1789990000001}', '{"cloud":0,"edge":1}', 1, 'string');
    INSERT INTO sub_topics VALUES ('plant/7/alarm');
    INSERT INTO target_urls VALUES ('http://127.0.0.1:8080/a');
"#;

const TABLES: [&str; 7] =
    ["meta", "meta_v2", "device", "device_attr", "device_twin", "sub_topics", "target_urls"];

/// Every row of every table, as text.
fn rows(folder: &Path) -> BTreeSet<String> {
    let db = Connection::open(folder.join("edgecore.db")).unwrap();
    let mut all = BTreeSet::new();
    for table in TABLES {
        let mut rows = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let found = rows.query_map([], |row| {
            (0..columns)
                .map(|at| row.get::<_, rusqlite::types::Value>(at))
                .collect::<Result<Vec<_>, _>>()
        });
        all.extend(found.unwrap().map(|row| format!("{table} {:?}", row.unwrap())));
    }
    all
}

/// What a device and an app see: a client of edgecore's own broker.
struct Client {
    client: AsyncClient,
    events: EventLoop,
}

impl Client {
    async fn connect(port: u16) -> Self {
        let options = MqttOptions::new("test", "127.0.0.1", port);
        let (client, events) = AsyncClient::new(options, 64);
        client.subscribe("$hw/events/device/+/+/twin/+/result", QoS::AtLeastOnce).await.unwrap();
        client.subscribe("$hw/events/device/+/+/twin/update/+", QoS::AtLeastOnce).await.unwrap();
        let mut this = Self { client, events };
        for _ in 0..2 {
            this.next(|p| matches!(p, Packet::SubAck(_))).await;
        }
        this
    }

    async fn next(&mut self, is: impl Fn(&Packet) -> bool) -> Packet {
        let wait = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && is(&packet)
                {
                    return packet;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it comes")
    }

    /// Publishes below a device, and gives the answer at this topic.
    async fn ask(&mut self, device: &str, what: &str, payload: Value, answer: &str) -> Value {
        let base = format!("$hw/events/device/default/{device}/twin");
        let (topic, answer) = (format!("{base}/{what}"), format!("{base}/{answer}"));
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.to_string()).await.unwrap();
        let packet = self.next(|p| matches!(p, Packet::Publish(p) if p.topic == answer)).await;
        let Packet::Publish(publish) = packet else { unreachable!() };
        serde_json::from_slice(&publish.payload).unwrap()
    }

    async fn get(&mut self, device: &str) -> Value {
        self.ask(device, "get", json!({"event_id": "g"}), "get/result").await
    }
}

fn told(heard: &[Upstream], device: &str, part: &str) -> bool {
    let is = |up: &&Upstream| {
        matches!(up, Upstream::DeviceTwin { name, content, .. }
            if &**name == device && content.text().contains(part))
    };
    heard.iter().any(|up| is(&up))
}

#[tokio::test]
async fn the_database_of_a_kubeedge_edge_is_taken_over_with_its_devices_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    Connection::open(dir.path().join("edgecore.db")).unwrap().execute_batch(KUBEEDGE).unwrap();
    let before = rows(dir.path());
    let cloud = Cloud::start(&Pki::new(), &["127.0.0.1"]).await;
    cloud.pki.install(dir.path(), "edge-1");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut settings = config(&cloud, dir.path());
    settings.modules.event_bus.enable = true;
    settings.modules.event_bus.mqtt_mode = 0;
    settings.modules.event_bus.mqtt_server_internal = format!("tcp://127.0.0.1:{port}");

    // A look at the values, and the cloud is told of them with the versions that they had.
    let edge = Edge::start_with(settings.clone(), dir.path()).await;
    edge.ready().await;
    let mut mqtt = Client::connect(port).await;
    let answer = mqtt.get("lamp").await;
    assert_eq!(
        answer["twin"],
        json!({"level": {"expected": {"value": "20", "metadata": {"timestamp": 1_789_990_000_005_i64}},
            "actual": {"value": "23", "metadata": {"timestamp": 1_789_990_000_007_i64}},
            "optional": true, "metadata": {"type": "string"}}})
    );
    assert_eq!(mqtt.get("stray").await["twin"]["x"]["actual"]["value"], "1");
    let version = r#""actual_version":{"cloud":0,"edge":9}"#;
    cloud.until("the value from before", |s| told(&s.heard, "lamp", version)).await;
    edge.stop().await;
    let after = rows(dir.path());
    let lost: Vec<&String> =
        before.difference(&after).filter(|r| !r.contains("default/room")).collect();
    assert!(lost.is_empty(), "{lost:#?}");

    // It goes on from there: a new value has the next version, and a mapper gets the device and its
    // model, which the cloud did not send again.
    let edge = Edge::start_with(settings, dir.path()).await;
    edge.ready().await;
    let mut mqtt = Client::connect(port).await;
    let level =
        json!({"event_id": "u", "timestamp": 0, "twin": {"level": {"actual": {"value": "24"}}}});
    let result = mqtt.ask("lamp", "update", level, "update/result").await;
    assert_eq!(result["twin"]["level"]["actual"]["value"], "24", "{result}");
    let version = r#""actual_version":{"cloud":0,"edge":10}"#;
    cloud.until("the next version", |s| told(&s.heard, "lamp", version)).await;
    let mapper = edgecore::mapper::Options {
        edgecore: dir.path().join("dmi.sock"),
        socket: dir.path().join("mapper.sock"),
        name: "sample".to_owned(),
        protocol: "simulated".to_owned(),
    };
    let mapper = tokio::spawn(edgecore::mapper::run(mapper, edge.stop.clone()));
    let light = r#""light":{"#;
    cloud.until("the mapper's report", |s| told(&s.heard, "room", light)).await;
    let obeys = async {
        while mqtt.get("room").await["twin"]["light"]["actual"]["value"] != "true" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, obeys).await.expect("the device obeys what its Device says");
    edge.stop().await;
    mapper.await.unwrap().unwrap();
    let after = rows(dir.path());
    // But for the three that have changed, and the level's own.
    let changed = |row: &&String| {
        row.contains("default/room") || row.contains("'level'") || row.contains(r#""level""#)
    };
    let lost: Vec<&String> = before.difference(&after).filter(|r| !changed(r)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

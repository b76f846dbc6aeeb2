use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::metamanager::Store;

/// What a KubeEdge edgecore with two devices left behind.
fn kubeedge_database(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        r#"CREATE TABLE meta (key text, type text, value text, PRIMARY KEY (key));
        CREATE TABLE device (id text, name text, description text, state text, last_online text, PRIMARY KEY (id));
        CREATE TABLE device_attr (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, name text,
            description text, value text, optional numeric, attr_type text, metadata text);
        CREATE TABLE device_twin (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, name text,
            description text, expected text, actual text, expected_meta text, actual_meta text,
            expected_version text, actual_version text, optional numeric, attr_type text, metadata text);
        INSERT INTO device VALUES ('default/sensor-1', 'sensor-1', '', 'online', '2026-09-21T13:46:40Z');
        INSERT INTO device VALUES ('default/sensor-2', 'sensor-2', NULL, NULL, NULL);
        INSERT INTO device VALUES ('no id of a device', '', '', '', '');
        INSERT INTO device_attr (deviceid, name, value, optional, attr_type)
            VALUES ('default/sensor-1', 'place', 'hall 7', 1, 'string');
        INSERT INTO device_twin (deviceid, name, description, expected, actual, expected_meta, actual_meta,
            expected_version, actual_version, optional, attr_type, metadata)
            VALUES ('default/sensor-1', 'temperature', '', '20', '23', '{"timestamp":5}', '{"timestamp":7}',
            '{"cloud":1,"edge":2}', '{"cloud":0,"edge":9}', 1, 'string', '{}');
        INSERT INTO device_twin (deviceid, name, actual_version, optional, attr_type)
            VALUES ('default/sensor-1', 'old', '{"cloud":0,"edge":3}', 1, 'deleted');
        INSERT INTO device_twin (deviceid, name, actual) VALUES ('default/nobody', 'x', '1');"#,
    )
    .unwrap();
}

#[tokio::test]
async fn the_devices_of_a_kubeedge_database_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edgecore.db");
    kubeedge_database(&path);
    let store = Store::open(&path).unwrap();
    let stored = store.write(load).await.unwrap();
    let ids: Vec<String> = stored.devices.keys().map(ToString::to_string).collect();
    assert_eq!(ids, ["default/sensor-1", "default/sensor-2"]);
    let device = &stored.devices[&ids[0].parse::<DeviceId>().unwrap()];
    assert_eq!(
        (device.state.as_str(), device.attributes["place"].value.as_str()),
        ("online", "hall 7")
    );
    let twin = &device.twins["temperature"];
    assert_eq!(twin.actual_version, Some(TwinVersion { cloud: 0, edge: 9 }));
    assert_eq!(twin.expected.as_ref().unwrap().value.as_deref(), Some("20"));
    assert_eq!(twin.actual.as_ref().unwrap().metadata.unwrap().timestamp, 7);
    assert!(!super::super::merge::is_live(&device.twins["old"]));
}

#[tokio::test]
async fn what_is_written_is_in_the_originals_columns_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edgecore.db");
    let store = Store::open(&path).unwrap();
    store.write(|tx| load(tx).map(drop)).await.unwrap();
    let id: DeviceId = "default/sensor-1".parse().unwrap();
    let version = TwinVersion { cloud: 0, edge: 1 };
    let twin = MsgTwin {
        actual: Some(TwinValue {
            value: Some("23".into()),
            metadata: Some(ValueMetadata { timestamp: 7 }),
        }),
        optional: Some(true),
        metadata: Some(TypeMetadata { type_: Some("string".into()) }),
        actual_version: Some(version),
        ..MsgTwin::default()
    };
    let device = Device {
        name: "sensor-1".into(),
        state: "online".into(),
        attributes: BTreeMap::from([(
            "place".to_owned(),
            MsgAttr { value: "hall".into(), optional: Some(true), metadata: None },
        )]),
        taken: BTreeMap::from([("temperature".to_owned(), "20".to_owned())]),
        ..Device::default()
    };
    for _ in 0..2 {
        let rows = [
            RowChange::Device(id.clone(), Box::new(device.clone())),
            RowChange::Twin(id.clone(), "temperature".into(), Box::new(twin.clone())),
        ];
        store.write(move |tx| write(tx, &rows)).await.unwrap();
    }
    let again = store.write(load).await.unwrap().devices.remove(&id).unwrap();
    assert_eq!((again.taken, again.twins["temperature"].clone()), (device.taken, twin));
    let conn = Connection::open(&path).unwrap();
    let row: (i64, String, String, String, i64, String) = conn
        .query_row(
            "SELECT count(*), actual, actual_meta, actual_version, optional, metadata FROM device_twin",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)),
        )
        .unwrap();
    let expected = (1, "23", r#"{"timestamp":7}"#, r#"{"cloud":0,"edge":1}"#, 1, "{}");
    assert_eq!((row.0, &*row.1, &*row.2, &*row.3, row.4, &*row.5), expected);
    let gone = [RowChange::Drop(id.clone())];
    store.write(move |tx| write(tx, &gone)).await.unwrap();
    for table in ["device", "device_attr", "device_twin", "meta WHERE type = 'devicedesired'"] {
        let left: i64 =
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

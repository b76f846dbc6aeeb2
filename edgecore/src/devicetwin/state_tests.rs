use api::twin::message::{MembershipList, MembershipUpdate};
use serde_json::{Value, json};

use super::*;

const SENSOR: &str = "default/sensor-1";

fn sensor() -> DeviceId {
    SENSOR.parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_123).unwrap()
}

fn membership(added: &[&str], removed: &[&str]) -> MembershipUpdate {
    let list = |ids: &[&str]| {
        let said = |id: &&str| said_of(&id.parse().unwrap());
        (!ids.is_empty()).then(|| ids.iter().map(said).collect())
    };
    MembershipUpdate {
        event_id: "e".into(),
        timestamp: 1,
        added_devices: list(added),
        removed_devices: list(removed),
    }
}

fn with_sensor() -> State {
    let mut state = State::new("edge-1".parse().unwrap(), BTreeMap::new());
    state.membership(membership(&[SENSOR], &[]), now());
    state.stored();
    state
}

fn send(state: &mut State, topic: &str, payload: &str) -> Effects {
    let topic = Topic::parse(topic).unwrap().unwrap();
    state.mqtt(&topic, payload.as_bytes(), now())
}

/// What is published, by the end of its topic.
fn published(effects: &Effects) -> Vec<(String, Value)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Publish { topic, payload } => {
                Some((topic.clone(), serde_json::from_str(payload).unwrap()))
            }
            _ => None,
        })
        .collect()
}

fn refused(effects: &Effects) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Refused(_))).count()
}

const UPDATE: &str = "$hw/events/device/default/sensor-1/twin/update";

#[test]
fn an_update_has_a_result_a_document_a_delta_and_a_report() {
    let mut state = with_sensor();
    let effects = send(
        &mut state,
        UPDATE,
        r#"{"event_id":"x","timestamp":0,"twin":{"t":{"expected":{"value":"20"},"actual":{"value":"23"},"metadata":{"type":"int"}}}}"#,
    );
    let at = json!({"timestamp": 1_790_000_000_123_i64});
    let twin = json!({"expected": {"value": "20", "metadata": at}, "actual": {"value": "23", "metadata": at},
        "optional": true, "metadata": {"type": "int"}});
    let mut published = published(&effects);
    let mut delta = published.pop().unwrap();
    assert_eq!(delta.0, format!("{UPDATE}/delta"));
    delta.1["event_id"] = "new".into();
    assert_eq!(
        delta.1,
        json!({"event_id": "new", "timestamp": 1_790_000_000_123_i64, "twin": {"t": twin}, "delta": {"t": "20"}})
    );
    let head = json!({"event_id": "x", "timestamp": 1_790_000_000_123_i64});
    let with = |key: &str, value: Value| {
        let mut message = head.clone();
        message[key] = value;
        message
    };
    assert_eq!(
        published,
        [
            (format!("{UPDATE}/result"), with("twin", json!({"t": twin}))),
            (
                format!("{UPDATE}/document"),
                with("twin", json!({"t": {"last": null, "current": twin}}))
            ),
        ]
    );
    let Some(Effect::TwinUp(id, up)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(*id, sensor());
    assert_eq!(up["t"].as_ref().unwrap().actual_version.unwrap().edge, 1);
    assert_eq!(state.dirty().twins.len(), 1);
}

#[test]
fn what_cannot_be_read_is_answered_without_a_device_and_counted() {
    let mut state = with_sensor();
    for bad in ["", "no json", "{\"twin\":7}", "7", "{\"twin\":{\"t\":{\"actual\":5}}}"] {
        let effects = send(&mut state, UPDATE, bad);
        let published = published(&effects);
        assert_eq!(published[0].0, RESULT_WITHOUT_DEVICE, "{bad}");
        assert_eq!((published[0].1["code"].clone(), refused(&effects)), (json!(400), 1), "{bad}");
    }
    let huge = format!("{{\"event_id\":\"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(refused(&send(&mut state, UPDATE, &huge)), 1);
    assert!(state.dirty().is_empty());
}

#[test]
fn an_update_for_a_device_of_another_node_is_answered_with_404() {
    let mut state = with_sensor();
    let effects = send(
        &mut state,
        "$hw/events/device/default/other/twin/update",
        r#"{"event_id":"x","twin":{"t":{"actual":{"value":"1"}}}}"#,
    );
    let answer = &published(&effects)[0].1;
    assert_eq!((&answer["code"], &answer["event_id"]), (&json!(404), &json!("x")));
    assert!(answer["reason"].as_str().unwrap().contains("`default/other`"));
    assert_eq!(refused(&effects), 1);
}

#[test]
fn an_update_counts_for_the_device_of_its_topic_whatever_name_it_claims() {
    let mut state = with_sensor();
    state.membership(membership(&["default/victim"], &[]), now());
    let victim = "default/victim".parse().unwrap();
    let before = state.devices[&victim].clone();
    for (topic, payload) in [
        (
            UPDATE,
            r#"{"device_id":"default/victim","device":{"name":"victim"},"id":"default/victim",
            "twin":{"t":{"actual":{"value":"1"}}}}"#,
        ),
        (
            "$hw/events/device/default/sensor-1/state/update",
            r#"{"device_id":"default/victim","device":{"name":"victim"},"state":"unhealthy"}"#,
        ),
    ] {
        assert_eq!(refused(&send(&mut state, topic, payload)), 0);
    }
    assert_eq!(state.devices[&victim], before);
    assert_eq!(state.devices[&sensor()].state, "unhealthy");
    assert_eq!(
        state.devices[&sensor()].twins["t"].actual.as_ref().unwrap().value.as_deref(),
        Some("1")
    );
}

#[test]
fn two_devices_of_one_name_in_two_namespaces_are_two() {
    let mut state = with_sensor();
    state.membership(membership(&["prod/sensor-1"], &[]), now());
    send(&mut state, UPDATE, r#"{"twin":{"t":{"actual":{"value":"1"}}}}"#);
    let other: DeviceId = "prod/sensor-1".parse().unwrap();
    assert_eq!((state.devices[&sensor()].twins.len(), state.devices[&other].twins.len()), (1, 0));
}

#[test]
fn a_get_is_answered_with_all_that_is_there() {
    let mut state = with_sensor();
    send(
        &mut state,
        UPDATE,
        r#"{"twin":{"t":{"actual":{"value":"1"}},"u":{"actual":{"value":"2"}}}}"#,
    );
    send(&mut state, UPDATE, r#"{"twin":{"u":null}}"#);
    let get = "$hw/events/device/default/sensor-1/twin/get";
    let effects = send(&mut state, get, r#"{"event_id":"g","timestamp":3}"#);
    let (topic, answer) = published(&effects).remove(0);
    assert_eq!(topic, format!("{get}/result"));
    assert_eq!(
        (&answer["event_id"], &answer["twin"]["t"]["actual"]["value"]),
        (&json!("g"), &json!("1"))
    );
    assert!(
        answer["twin"].get("u").is_none() && answer["twin"]["t"].get("actual_version").is_none()
    );
    let unknown = send(&mut state, "$hw/events/device/a/b/twin/get", "{}");
    assert_eq!(published(&unknown)[0].1["code"], 404);
}

#[test]
fn a_state_is_stored_as_sent_answered_and_told() {
    let mut state = with_sensor();
    let topic = "$hw/events/device/default/sensor-1/state/update";
    let effects = send(&mut state, topic, r#"{"event_id":"s","timestamp":0,"state":"Online"}"#);
    let answer = json!({"event_id": "s", "timestamp": 1_790_000_000_123_i64,
        "device": {"name": "sensor-1", "state": "Online", "lastOnlineTime": "2026-09-21T14:13:20Z"}});
    assert_eq!(published(&effects), [(format!("{topic}/result"), answer)]);
    assert!(matches!(&effects[1], Effect::StateUp(_, r) if r.device.state == "Online"));
    let effects = send(&mut state, topic, r#"{"state":"offline"}"#);
    assert_eq!(published(&effects)[0].1["device"], json!({"name": "sensor-1", "state": "offline"}));
    for bad in [r#"{"state":"dreaming"}"#, "no json", "{}"] {
        let effects = send(&mut state, topic, bad);
        assert_eq!((published(&effects).len(), refused(&effects)), (0, 1), "{bad}");
    }
}

#[test]
fn members_are_told_and_listed_and_leave_nothing_behind() {
    let mut state = with_sensor();
    send(&mut state, UPDATE, r#"{"twin":{"t":{"actual":{"value":"1"}}}}"#);
    let effects = send(&mut state, "$hw/events/node/edge-1/membership/get", r#"{"event_id":"m"}"#);
    let (topic, list) = published(&effects).remove(0);
    assert_eq!(topic, "$hw/events/node/edge-1/membership/get/result");
    assert_eq!(list["devices"], json!([{"id": SENSOR, "name": "sensor-1"}]));
    assert!(send(&mut state, "$hw/events/node/edge-2/membership/get", "{}").is_empty());
    let effects = state.membership(membership(&[], &[SENSOR]), now());
    assert!(effects.contains(&Effect::Forget(sensor())));
    let (topic, told) = published(&effects).remove(0);
    assert_eq!(topic, "$hw/events/node/edge-1/membership/updated");
    assert_eq!(told["added_devices"], Value::Null);
    assert_eq!(told["removed_devices"][0]["id"], SENSOR);
    assert!(state.dirty().dropped.contains(&sensor()) && state.dirty().twins.is_empty());
}

#[test]
fn the_clouds_whole_list_removes_what_is_not_in_it() {
    let mut state = with_sensor();
    let list = MembershipList {
        devices: vec![said_of(&"default/new".parse().unwrap())],
        ..MembershipList::default()
    };
    let effects = state.membership_detail(list, now());
    assert_eq!(state.devices.keys().map(ToString::to_string).collect::<Vec<_>>(), ["default/new"]);
    assert!(effects.contains(&Effect::Forget(sensor())));
}

fn device_spec(node: &str, desired: &str) -> devices::DeviceSpec {
    serde_json::from_value(json!({"nodeName": node, "deviceModelRef": {"name": "m"},
        "protocol": {"protocolName": "modbus"},
        "properties": [{"name": "t", "desired": {"value": desired}}, {"name": "u"}]}))
    .unwrap()
}

#[test]
fn a_device_of_the_cloud_makes_a_member_and_its_desired_value_a_delta() {
    let mut state = State::new("edge-1".parse().unwrap(), BTreeMap::new());
    let effects = state.device(&sensor(), &device_spec("edge-1", "20"), now());
    let topics: Vec<String> = published(&effects).into_iter().map(|(topic, _)| topic).collect();
    let of = |what: &str| format!("$hw/events/device/{SENSOR}/twin/update/{what}");
    assert_eq!(
        topics,
        ["$hw/events/node/edge-1/membership/updated".to_owned(), of("document"), of("delta")]
    );
    assert_eq!(state.protocol_of(&sensor()), Some("modbus"));
    assert!(state.dirty().devices.contains(&sensor()) && state.dirty().twins.len() == 1);
    assert_eq!(published(&state.device(&sensor(), &device_spec("edge-1", "20"), now())), []);
    let other = "default/other".parse().unwrap();
    assert_eq!(refused(&state.device(&other, &device_spec("edge-2", "1"), now())), 1);
    assert!(!state.devices.contains_key(&other));
    let effects = state.device_gone(&sensor(), now());
    assert_eq!((published(&effects).len(), state.devices.len()), (1, 0));
    assert!(state.device_gone(&sensor(), now()).is_empty());
}

#[test]
fn a_mapper_that_acts_on_an_older_desired_value_does_not_take_the_newer_one_back() {
    let mut state = State::new("edge-1".parse().unwrap(), BTreeMap::new());
    state.device(&sensor(), &device_spec("edge-1", "20"), now());
    let update: TwinUpdate = serde_json::from_value(
        json!({"twin": {"t": {"expected": {"value": "10"}, "actual": {"value": "10"}}}}),
    )
    .unwrap();
    let effects = state.mapper_report(&sensor(), update, now()).unwrap();
    let twin = &state.devices[&sensor()].twins["t"];
    assert_eq!(merge::value_of(twin.expected.as_ref()), Some("20"));
    let Some(Effect::TwinUp(_, up)) = effects.last() else { panic!("{effects:?}") };
    let told = up["t"].as_ref().unwrap();
    assert_eq!(
        merge::value_of(told.expected.as_ref()),
        Some("10"),
        "the cloud hears what it acts on"
    );
}

#[test]
fn a_model_says_which_properties_there_are() {
    let mut state = State::new("edge-1".parse().unwrap(), BTreeMap::new());
    state.device(&sensor(), &device_spec("edge-1", ""), now());
    let report = |state: &mut State, property: &str, value: &str| {
        let update = json!({"twin": {property: {"actual": {"value": value}}}});
        state.report(&sensor(), &serde_json::from_value(update).unwrap(), now())
    };
    assert!(
        report(&mut state, "early", "1").is_ok(),
        "without its model nothing is known for sure"
    );
    let model = serde_json::from_value(
        json!({"metadata": {}, "spec": {"properties": [{"name": "t", "type": "INT"},
            {"name": "label", "type": "STRING"}]}}),
    )
    .unwrap();
    state.model("default".parse().unwrap(), "m".into(), Some(model));
    for (property, value, ok) in [
        ("t", "5", true),
        ("t", "five", false),
        ("x", "1", false),
        ("u", "any", true),
        ("u", "any text", false),
        ("label", "any text, also 21 °C + more=", true),
        ("label", "a\u{1b}[2J", false),
    ] {
        assert_eq!(report(&mut state, property, value).is_ok(), ok, "{property}={value}");
    }
    state.model("default".parse().unwrap(), "m".into(), None);
    assert!(report(&mut state, "x", "1").is_ok());
}

#[test]
fn what_cannot_be_stored_never_happened() {
    let mut state = with_sensor();
    let before = state.devices.clone();
    send(&mut state, UPDATE, r#"{"twin":{"t":{"actual":{"value":"1"}}}}"#);
    state.membership(membership(&["default/new"], &[SENSOR]), now());
    assert_ne!(state.devices, before);
    state.not_stored();
    assert_eq!(state.devices, before);
    assert!(state.dirty().is_empty());
}

#[test]
fn after_a_start_all_that_was_reported_is_told_again() {
    let mut state = with_sensor();
    send(&mut state, UPDATE, r#"{"twin":{"t":{"actual":{"value":"1"}}}}"#);
    assert_eq!(state.everything(now()).len(), 1);
    send(&mut state, "$hw/events/device/default/sensor-1/state/update", r#"{"state":"ok"}"#);
    let told = state.everything(now());
    assert!(matches!(&told[0], Effect::TwinUp(_, up) if up.contains_key("t")));
    assert!(matches!(&told[1], Effect::StateUp(_, r) if r.device.state == "ok"));
}

#[test]
fn a_device_that_goes_and_comes_back_at_once_has_none_of_its_old_rows() {
    let mut state = with_sensor();
    send(&mut state, UPDATE, r#"{"twin":{"t":{"actual":{"value":"1"}}}}"#);
    state.stored();
    state.membership(membership(&[], &[SENSOR]), now());
    state.membership(membership(&[SENSOR], &[]), now());
    let rows = super::super::store::changes(&state);
    assert!(matches!(&rows[0], super::super::store::RowChange::Drop(_)), "{rows:?}");
    assert_eq!(rows.len(), 2, "{rows:?}");
}

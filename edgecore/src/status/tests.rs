//! The table as edged feeds it.

use super::*;
use api::names::Kind;
use serde_json::{Value, json};

fn status() -> Status {
    Status::new("edge-1".parse().unwrap())
}

fn rows(status: &Status) -> Vec<Row> {
    status.since(Cursor::default()).0.rows.iter().map(|row| Row::clone(row)).collect()
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn pods_appear_with_their_status_and_go_with_what_they_leave() {
    let status = status();
    let pod: Pod = read(json!({
        "metadata": {"namespace": "default", "name": "web", "uid": "u"},
        "spec": {"containers": [{"name": "a", "image": "busybox"}]},
    }));
    status.pod(&pod, &read(json!({"phase": "Pending"})));
    status.used(None, &[("u".to_owned(), Usage { memory: 7, ..Usage::default() })].into());
    status.pod(&pod, &read(json!({"phase": "Running"})));
    let all = rows(&status);
    let [Row::Pod(row)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((row.phase.as_str(), row.node.as_str()), ("Running", "edge-1"));
    assert_eq!(row.usage.unwrap().memory, 7, "measured apart from the status");
    let key = ObjectKey::new("default".parse().unwrap(), Kind::Pod, "web");
    status.pod_gone(&key);
    assert!(rows(&status).is_empty());
}

#[test]
fn the_node_says_which_upgrade_waits_and_from_which_version_it_is() {
    let status = status();
    status.node(read(json!({"metadata": {"name": "edge-1"},
        "status": {"nodeInfo": {"kubeletVersion": "v1.32.10-kubeedge-v1.23.0"}}})));
    let upgrade = |status: &Status| match rows(status).remove(0) {
        Row::Node(row) => row.upgrade.map(|u| (u.state, u.from, u.to)),
        other => panic!("{other:?}"),
    };
    let told = |state: &str| Upgrade {
        job: "spring".into(),
        to: "v1.24.0".into(),
        state: state.into(),
        ..Upgrade::default()
    };
    let is = |state: &str, from: &str| Some((state.into(), from.into(), "v1.24.0".into()));
    status.upgrade(Some(told(WAITING)));
    assert_eq!(upgrade(&status), is(WAITING, "v1.23.0"));
    status.upgrade(Some(told("Upgrade")));
    assert_eq!(upgrade(&status), is("Upgrade", ""), "it may be the new one that runs");
    status.upgrade(None);
    assert_eq!(upgrade(&status), None);
}

#[test]
fn the_node_says_whether_it_is_linked_and_since_when_not() {
    let status = status();
    status.node(read(json!({"metadata": {"name": "edge-1"}})));
    let node = |status: &Status| match rows(status).remove(0) {
        Row::Node(row) => row,
        other => panic!("{other:?}"),
    };
    assert!(node(&status).link.is_none() && node(&status).lost_at.is_none());
    status.link(LinkState { up: true, count: 1 });
    assert!(node(&status).link.is_some());
    status.link(LinkState { up: false, count: 1 });
    let row = node(&status);
    assert!(row.link.is_none() && row.lost_at.is_some());
    assert_eq!(row.lost_why, "the link to the cloud is down");
    let events = status.since(Cursor::default()).0.events;
    let reasons: Vec<&str> = events.iter().map(|e| e.reason.as_str()).collect();
    assert_eq!(reasons, ["LinkUp", "LinkDown"]);
}

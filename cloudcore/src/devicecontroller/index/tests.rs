use serde_json::json;

use super::*;

fn object(kind: Kind, name: &str, version: u64, spec: serde_json::Value) -> Object {
    named(kind, name, &format!("uid-{name}"), version, spec)
}

fn named(kind: Kind, name: &str, uid: &str, version: u64, spec: serde_json::Value) -> Object {
    let metadata = json!({
        "name": name, "namespace": "default", "uid": uid, "resourceVersion": version.to_string(),
    });
    Object::read(kind, &json!({"metadata": metadata, "spec": spec}).to_string()).unwrap()
}

fn model(name: &str, version: u64) -> Object {
    object(Kind::DeviceModel, name, version, json!({"protocol": format!("p{version}")}))
}

fn device(name: &str, version: u64, node: &str, model: &str) -> Object {
    let spec = json!({"nodeName": node, "deviceModelRef": {"name": model}, "v": version});
    object(Kind::Device, name, version, spec)
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

/// `edge-1 Insert device/a`
fn said(tell: &[Tell]) -> Vec<String> {
    tell.iter()
        .map(|(n, p)| format!("{n} {:?} {}/{}", p.op, p.key.kind.as_str(), p.key.name))
        .collect()
}

fn wanted(index: &Index, at: &str) -> Vec<String> {
    index.wanted(&node(at)).iter().map(|w| format!("{}@{}", w.key.name, w.version.0)).collect()
}

#[test]
fn a_model_goes_before_its_first_device_and_only_once_to_a_node() {
    let mut index = Index::default();
    assert!(index.apply(model("m", 1)).is_empty(), "nobody needs it yet");
    let first = index.apply(device("a", 2, "edge-1", "m"));
    assert_eq!(said(&first), ["edge-1 Insert devicemodel/m", "edge-1 Insert device/a"]);
    assert_eq!(said(&index.apply(device("b", 3, "edge-1", "m"))), ["edge-1 Insert device/b"]);
    let other = index.apply(device("c", 4, "edge-2", "m"));
    assert_eq!(said(&other), ["edge-2 Insert devicemodel/m", "edge-2 Insert device/c"]);
    assert_eq!(wanted(&index, "edge-1")[0], "m@1", "models first");
    assert_eq!(wanted(&index, "edge-1").len(), 3);
}

#[test]
fn a_device_that_comes_before_its_model_waits_for_it() {
    let mut index = Index::default();
    assert!(index.apply(device("a", 1, "edge-1", "m")).is_empty());
    assert!(index.apply(device("a", 2, "edge-1", "m")).is_empty(), "changed while it waits");
    assert!(wanted(&index, "edge-1").is_empty());
    assert!(index.uid_at(&node("edge-1"), &key("default/device/a")).is_some(), "not to be deleted");
    let told = index.apply(model("m", 3));
    assert_eq!(said(&told), ["edge-1 Insert devicemodel/m", "edge-1 Insert device/a"]);
    assert_eq!(told[1].1.version, Some(ResourceVersion(2)), "the newest of it");
    assert_eq!(wanted(&index, "edge-1"), ["m@3", "a@2"]);
}

#[test]
fn a_move_takes_the_device_and_its_model_from_one_node_to_the_other() {
    let mut index = Index::default();
    index.apply(model("m", 1));
    index.apply(device("a", 2, "edge-1", "m"));
    let moved = index.apply(device("a", 3, "edge-2", "m"));
    assert_eq!(
        said(&moved),
        [
            "edge-1 Delete device/a",
            "edge-1 Delete devicemodel/m",
            "edge-2 Insert devicemodel/m",
            "edge-2 Insert device/a"
        ]
    );
    assert!(wanted(&index, "edge-1").is_empty());
    assert_eq!(index.uid_at(&node("edge-1"), &key("default/device/a")), None);
    let unbound = index.apply(device("a", 4, "", "m"));
    assert_eq!(said(&unbound), ["edge-2 Delete device/a", "edge-2 Delete devicemodel/m"]);
    let back = index.apply(device("a", 5, "edge-1", "m"));
    assert_eq!(said(&back), ["edge-1 Insert devicemodel/m", "edge-1 Insert device/a"]);
}

#[test]
fn a_device_of_another_model_brings_the_new_one_and_leaves_the_old_one() {
    let mut index = Index::default();
    index.apply(model("m", 1));
    index.apply(model("n", 2));
    index.apply(device("a", 3, "edge-1", "m"));
    index.apply(device("b", 4, "edge-1", "m"));
    let a = index.apply(device("a", 5, "edge-1", "n"));
    assert_eq!(said(&a), ["edge-1 Insert devicemodel/n", "edge-1 Update device/a"]);
    let b = index.apply(device("b", 6, "edge-1", "n"));
    assert_eq!(said(&b), ["edge-1 Update device/b", "edge-1 Delete devicemodel/m"]);
}

#[test]
fn a_changed_model_is_told_and_changed_labels_are_not() {
    let mut index = Index::default();
    index.apply(model("m", 1));
    index.apply(device("a", 2, "edge-1", "m"));
    assert_eq!(said(&index.apply(model("m", 3))), ["edge-1 Update devicemodel/m"]);
    let same = json!({"nodeName": "edge-1", "deviceModelRef": {"name": "m"}, "v": 2});
    assert!(index.apply(object(Kind::Device, "a", 9, same)).is_empty());
    assert_eq!(wanted(&index, "edge-1"), ["m@3", "a@2"]);
}

#[test]
fn deletions_end_right_in_either_order() {
    let filled = || {
        let mut index = Index::default();
        index.apply(model("m", 1));
        index.apply(device("a", 2, "edge-1", "m"));
        index
    };
    let mut index = filled();
    assert_eq!(
        said(&index.delete(device("a", 2, "edge-1", "m"))),
        ["edge-1 Delete device/a", "edge-1 Delete devicemodel/m"]
    );
    assert!(index.delete(model("m", 1)).is_empty());

    let mut index = filled();
    assert_eq!(said(&index.delete(model("m", 1))), ["edge-1 Delete devicemodel/m"]);
    assert_eq!(wanted(&index, "edge-1"), ["a@2"], "the device stays where it is");
    assert_eq!(said(&index.delete(device("a", 2, "edge-1", "m"))), ["edge-1 Delete device/a"]);
    assert!(wanted(&index, "edge-1").is_empty());
    assert!(index.users.is_empty() && index.nodes.is_empty());
}

#[test]
fn one_that_bears_the_name_of_a_deleted_one_is_new() {
    let mut index = Index::default();
    index.apply(model("m", 1));
    index.apply(device("a", 2, "edge-1", "m"));
    let spec = json!({"nodeName": "edge-1", "deviceModelRef": {"name": "m"}});
    let again = index.apply(named(Kind::Device, "a", "other", 7, spec));
    assert_eq!(
        said(&again),
        [
            "edge-1 Delete device/a",
            "edge-1 Delete devicemodel/m",
            "edge-1 Insert devicemodel/m",
            "edge-1 Insert device/a"
        ]
    );
    assert!(index.delete(device("a", 2, "edge-1", "m")).is_empty(), "late news of the old one");
}

#[test]
fn what_a_new_list_lacks_is_gone() {
    let mut index = Index::default();
    index.apply(model("m", 1));
    index.apply(device("a", 2, "edge-1", "m"));
    index.apply(device("b", 3, "edge-1", "m"));
    index.begin_reset(Kind::Device);
    index.apply(device("b", 3, "edge-1", "m"));
    let (tell, gone) = index.finish_reset(&Kind::Device);
    assert_eq!(said(&tell), ["edge-1 Delete device/a"]);
    assert_eq!(gone, [key("default/device/a")]);
    assert!(tell[0].1.object.get().contains("uid-a"));
}

#[test]
fn two_devices_of_one_name_in_two_namespaces_are_two() {
    let mut index = Index::default();
    let mut text = json!({"metadata": {"name": "a", "namespace": "one", "uid": "u1",
        "resourceVersion": "1"}, "spec": {"nodeName": "edge-1"}});
    index.apply(Object::read(Kind::Device, &text.to_string()).unwrap());
    text["metadata"]["namespace"] = "two".into();
    text["metadata"]["uid"] = "u2".into();
    text["spec"]["nodeName"] = "edge-2".into();
    index.apply(Object::read(Kind::Device, &text.to_string()).unwrap());
    let at = |k: &str| index.device(&key(k)).and_then(|(n, _)| n.cloned());
    assert_eq!(at("one/device/a"), Some(node("edge-1")));
    assert_eq!(at("two/device/a"), Some(node("edge-2")));
}

#[test]
fn an_impossible_node_name_is_no_node() {
    let mut index = Index::default();
    let spec = json!({"nodeName": "../etc", "deviceModelRef": {"name": ""}});
    assert!(index.apply(object(Kind::Device, "a", 1, spec)).is_empty());
    assert_eq!(index.device(&key("default/device/a")).unwrap().0, None);
}

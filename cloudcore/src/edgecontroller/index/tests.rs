use super::*;

fn node(name: &str, version: u64, label: &str, status: &str) -> Object {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","uid":"node-{name}","resourceVersion":"{version}","labels":{{"node-role.kubernetes.io/edge":"","x":"{label}"}}}},"spec":{{}},"status":{{"phase":"{status}"}}}}"#
    );
    Object::read(Kind::Node, &text).unwrap()
}

fn pod(name: &str, uid: &str, version: u64, node: &str, secret: &str, phase: &str) -> Object {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"{uid}","resourceVersion":"{version}"}},"spec":{{"nodeName":"{node}","serviceAccountName":"sa","imagePullSecrets":[{{"name":"{secret}"}}]}},"status":{{"phase":"{phase}"}}}}"#
    );
    Object::read(Kind::Pod, &text).unwrap()
}

fn thing(kind: Kind, name: &str, version: u64) -> Object {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"uid-{name}","resourceVersion":"{version}"}},"data":{{"v":"{version}"}}}}"#
    );
    Object::read(kind, &text).unwrap()
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn told(tell: &[Tell]) -> Vec<(&str, PushOp, String)> {
    tell.iter().map(|(n, p)| (n.as_str(), p.op, p.key.to_string())).collect()
}

fn index() -> Index {
    let mut index = Index::default();
    assert_eq!(index.apply_node(node("edge-1", 1, "", "")).joined, Some(name("edge-1")));
    index
}

#[test]
fn a_pod_goes_to_its_edge_node_and_to_no_other() {
    let mut index = index();
    assert_eq!(
        told(&index.apply_pod(pod("web", "u", 2, "edge-1", "s", ""))),
        [("edge-1", PushOp::Insert, "default/pod/web".to_owned())]
    );
    assert!(index.apply_pod(pod("cloud", "v", 3, "cloud-1", "s", "")).is_empty());
    assert!(index.apply_pod(pod("unbound", "w", 4, "", "s", "")).is_empty());
    assert_eq!(index.node_of_pod(&"default/pod/web".parse().unwrap()), Some(&name("edge-1")));
}

#[test]
fn a_change_of_status_alone_is_not_sent_back() {
    let mut index = index();
    index.apply_pod(pod("web", "u", 2, "edge-1", "s", "Pending"));
    assert!(index.apply_pod(pod("web", "u", 3, "edge-1", "s", "Running")).is_empty());
    assert_eq!(
        told(&index.apply_pod(pod("web", "u", 4, "edge-1", "other", "Running"))),
        [("edge-1", PushOp::Update, "default/pod/web".to_owned())]
    );
    assert!(index.apply_node(node("edge-1", 5, "", "Ready")).tell.is_empty());
    assert_eq!(index.apply_node(node("edge-1", 6, "new", "Ready")).tell.len(), 1);
}

#[test]
fn status_changes_do_not_make_an_object_look_newer_than_what_the_node_has() {
    let mut index = index();
    index.apply_pod(pod("web", "u", 2, "edge-1", "s", "Pending"));
    index.apply_pod(pod("web", "u", 9, "edge-1", "s", "Running"));
    let wanted = index.wanted(&name("edge-1"));
    let pod = wanted.iter().find(|w| w.key.kind == Kind::Pod).unwrap();
    assert_eq!(pod.version, ResourceVersion(2));
}

#[test]
fn a_secret_goes_to_the_nodes_whose_pods_name_it_and_only_while_they_do() {
    let mut index = index();
    let secret = |version| thing(Kind::Secret, "s", version);
    assert!(index.apply_object(secret(1)).is_empty());
    index.apply_pod(pod("a", "ua", 2, "edge-1", "s", ""));
    index.apply_pod(pod("b", "ub", 3, "edge-1", "s", ""));
    let key: ObjectKey = "default/secret/s".parse().unwrap();
    assert_eq!(told(&index.apply_object(secret(4))), [("edge-1", PushOp::Update, key.to_string())]);
    assert!(index.apply_object(secret(4)).is_empty(), "nothing new");
    index.delete_pod(pod("a", "ua", 5, "edge-1", "s", ""));
    assert!(index.uses(&name("edge-1"), &key));
    index.delete_pod(pod("b", "ub", 6, "edge-1", "s", ""));
    assert!(!index.uses(&name("edge-1"), &key));
    assert!(index.apply_object(secret(7)).is_empty());
}

#[test]
fn a_configmap_is_inserted_updated_and_deleted() {
    let mut index = index();
    index.apply_pod(pod("a", "ua", 2, "edge-1", "s", ""));
    let key: ObjectKey = "default/secret/s".parse().unwrap();
    index.apply_object(thing(Kind::Secret, "s", 3));
    let gone = index.delete_object(thing(Kind::Secret, "s", 4));
    assert_eq!(told(&gone), [("edge-1", PushOp::Delete, key.to_string())]);
    assert_eq!(gone[0].1.version, Some(ResourceVersion(4)));
    assert!(index.uid_of(&key).is_none());
}

#[test]
fn what_vanished_while_a_watch_was_down_is_deleted_when_the_list_is_complete() {
    let mut index = index();
    index.apply_pod(pod("stays", "u1", 2, "edge-1", "s", ""));
    index.apply_pod(pod("gone", "u2", 3, "edge-1", "s", ""));
    index.apply_pod(pod("reborn", "u3", 4, "edge-1", "s", ""));
    index.begin_reset(Kind::Pod);
    assert!(index.apply_pod(pod("stays", "u1", 2, "edge-1", "s", "")).is_empty());
    assert_eq!(
        told(&index.apply_pod(pod("reborn", "u4", 9, "edge-1", "s", ""))),
        [
            ("edge-1", PushOp::Delete, "default/pod/reborn".to_owned()),
            ("edge-1", PushOp::Insert, "default/pod/reborn".to_owned()),
        ]
    );
    let change = index.finish_reset(&Kind::Pod);
    assert_eq!(told(&change.tell), [("edge-1", PushOp::Delete, "default/pod/gone".to_owned())]);
    assert_eq!(change.tell[0].1.uid.as_str(), "u2");
}

#[test]
fn a_node_that_is_deleted_leaves_nothing_behind() {
    let mut index = index();
    index.apply_pod(pod("web", "u", 2, "edge-1", "s", ""));
    let change = index.delete_node(&node("edge-1", 9, "", ""));
    assert_eq!(change.left, [name("edge-1")]);
    assert!(change.tell.is_empty(), "the session ends, nothing is sent");
    assert!(index.pods.is_empty() && index.users.is_empty() && index.nodes.is_empty());
}

#[test]
fn a_pod_that_is_already_being_deleted_when_first_seen_is_an_update() {
    let mut index = index();
    let text = r#"{"metadata":{"name":"p","namespace":"default","uid":"u","resourceVersion":"2","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"nodeName":"edge-1"}}"#;
    let tell = index.apply_pod(Object::read(Kind::Pod, text).unwrap());
    assert_eq!(tell[0].1.op, PushOp::Update);
}

#[test]
fn a_token_may_be_had_for_the_accounts_of_the_nodes_own_pods() {
    let mut index = index();
    index.apply_pod(pod("web", "u", 2, "edge-1", "s", ""));
    let ns: api::names::Namespace = "default".parse().unwrap();
    let node = name("edge-1");
    assert!(index.runs_as(&node, &ns, "sa", Some(("web", Some("u")))));
    assert!(!index.runs_as(&node, &ns, "sa", Some(("web", Some("other")))));
    assert!(!index.runs_as(&node, &ns, "admin", None));
    assert!(!index.runs_as(&name("edge-2"), &ns, "sa", None));
}

use super::*;
use crate::wire::Route;

fn message(source: &str, group: &str, operation: &str, resource: &str) -> Message {
    let route = Route {
        source: source.into(),
        group: group.into(),
        operation: operation.into(),
        resource: resource.into(),
        ..Route::default()
    };
    Message { route, ..Message::default() }
}

fn fault(msg: Message) -> DecodeFault {
    Downstream::decode(msg).unwrap_err().fault
}

fn push(path: &str) -> Message {
    let mut msg = message("edgecontroller", "resource", "update", path);
    msg.header.resourceversion = "7".into();
    msg.content = RawJson::parse("{\"metadata\":{\"uid\":\"u\"}}".to_owned()).unwrap();
    msg
}

#[test]
fn an_object_keeps_its_ack_whatever_it_is_called() {
    for path in ["default/configmap/membership", "default/pod/podlist", "a/secret/twin"] {
        let (_, got) = Downstream::decode(push(path)).unwrap();
        assert!(got.needs_ack(), "{path}");
    }
}

#[test]
fn a_push_without_a_uid_or_with_an_odd_version_is_refused() {
    let mut msg = push("default/pod/web");
    msg.content = RawJson::parse("{}".to_owned()).unwrap();
    assert!(matches!(fault(msg), DecodeFault::Content(_)));
    let mut msg = push("default/pod/web");
    msg.header.resourceversion = "1e3".into();
    assert!(matches!(fault(msg), DecodeFault::Name(_)));
}

#[test]
fn what_is_not_known_is_an_error() {
    for (source, group, operation, resource) in [
        ("edgecontroller", "nowhere", "update", "default/pod/web"),
        ("stranger", "resource", "update", "default/pod/web"),
        ("edgecontroller", "resource", "frobnicate", "default/pod/web"),
        ("devicecontroller", "twin", "update", "default/device/updated"),
        ("router", "user", "publish", "topic"),
        ("edgecontroller", "taskmanager", "Check", "x"),
        ("", "", "", ""),
    ] {
        let msg = message(source, group, operation, resource);
        assert_eq!(fault(msg), DecodeFault::UnknownRoute, "{source} {group}");
    }
}

#[test]
fn an_answer_without_a_parent_is_refused() {
    let msg = message("edgecontroller", "resource", "response", "default/pod/web");
    assert_eq!(fault(msg), DecodeFault::NoParent);
}

#[test]
fn an_answer_names_the_kind_that_decides_its_ack() {
    for (path, wanted) in [
        ("default/secret/s", true),
        ("null/persistentvolume/v", true),
        ("default/certificatesigningrequest/c", false),
        ("default/serviceaccounttoken/sa", false),
        ("null/node/secret", false),
    ] {
        let mut msg = push(path);
        msg.route.operation = "response".into();
        msg.header.parent_msg_id = "q".into();
        let (id, got) = Downstream::decode(msg).unwrap();
        assert_eq!(got.needs_ack(), wanted, "{path}");
        assert_eq!(got.ack(&id).is_some(), wanted, "{path}");
    }
}

use super::*;
use crate::wire::Route;

fn decode(
    source: &str,
    group: &str,
    operation: &str,
    resource: &str,
) -> Result<Upstream, DecodeFault> {
    decode_with(source, group, operation, resource, "", RawJson::null())
}

fn decode_with(
    source: &str,
    group: &str,
    operation: &str,
    resource: &str,
    parent: &str,
    content: RawJson,
) -> Result<Upstream, DecodeFault> {
    let mut msg = Message { content, ..Message::default() };
    msg.header.parent_msg_id = parent.into();
    msg.route = Route {
        source: source.into(),
        group: group.into(),
        operation: operation.into(),
        resource: resource.into(),
        ..Route::default()
    };
    let node = "edge-1".parse().unwrap();
    Upstream::decode(&node, msg).map(|(_, upstream)| upstream).map_err(|e| e.fault)
}

#[test]
fn what_is_not_known_is_an_error_that_carries_the_text() {
    let mut msg = Message::default();
    msg.header.msg_id = "m-1".into();
    msg.route.source = "edged\u{1b}[2J".into();
    msg.route.resource = "default/gadget/x".into();
    let error = Upstream::decode(&"edge-1".parse().unwrap(), msg).unwrap_err();
    assert_eq!(error.route.resource, "default/gadget/x");
    assert_eq!(
        error.to_string(),
        "cannot use message `m-1` from `edged\\u{1b}[2J` to ``, operation ``, resource \
         `default/gadget/x`: no known message has this route"
    );
}

#[test]
fn an_edge_node_cannot_speak_as_a_module_of_the_cloud() {
    for source in CLOUD_SOURCES {
        let got = decode(source, "resource", "update", "default/pod/web");
        assert_eq!(got, Err(DecodeFault::CloudSource), "{source}");
    }
}

#[test]
fn a_task_report_in_the_name_of_another_node_is_refused() {
    let op = "UpdateNodeActionStatus";
    let path = "operations.kubeedge.io/v1alpha2/nodeupgradejob/up1/node/edge-2";
    let fault = decode("websocket", "hub", op, path).unwrap_err();
    assert_eq!(fault.to_string(), "it names the node `edge-2` but came from `edge-1`");
}

#[test]
fn an_object_may_be_called_as_a_route_is() {
    for name in ["membership", "podlist", "twin", "keepalive", "volume"] {
        let path = format!("default/configmap/{name}");
        let got = decode("edged", "meta", "query", &path).unwrap();
        let key = path.parse().unwrap();
        assert_eq!(got, Upstream::Request(Request::Query(key)));
    }
}

#[test]
fn an_answer_must_say_what_it_answers() {
    for op in ["response", "error"] {
        let got = decode("edgecontroller", "resource", op, "default/pod/web");
        assert_eq!(got, Err(DecodeFault::NoParent));
    }
}

#[test]
fn a_call_that_failed_at_the_service_bus_comes_without_an_operation() {
    let content = RawJson::string("x");
    let got = decode_with("servicebus", "user", "", "", "call-1", content.clone()).unwrap();
    let Upstream::Upload { failed: true, parent: Some(_), .. } = &got else { panic!("{got:?}") };
    let again = got.encode(&MessageId::random(), 0);
    assert_eq!((again.route.operation.as_str(), again.route.group.as_str()), ("", "user"));
    assert_eq!(decode("bus", "user", "", "a/b"), Err(DecodeFault::UnknownRoute));
}

#[test]
fn a_topic_that_looks_like_a_volume_is_still_a_topic() {
    let got = decode("bus", "user", "upload", "default/volume/x").unwrap();
    assert!(matches!(got, Upstream::Upload { source: Bus::EventBus, .. }));
}

#[test]
fn the_uid_of_a_pod_to_delete_is_found_in_both_forms() {
    let uid = |content: &str| {
        let content = RawJson::parse(content.to_owned()).unwrap();
        match decode_with("edged", "meta", "delete", "default/pod/web", "", content)? {
            Upstream::Request(Request::DeletePod { uid, .. }) => Ok(uid),
            other => panic!("{other:?}"),
        }
    };
    let want = Some("u-1".parse().unwrap());
    assert_eq!(uid("{\"preconditions\":{\"uid\":\"u-1\"}}"), Ok(want.clone()));
    assert_eq!(uid("\"u-1\""), Ok(want));
    assert_eq!(uid("{\"gracePeriodSeconds\":0}"), Ok(None));
    assert_eq!(uid("null"), Ok(None));
    assert!(matches!(uid("{\"preconditions\":{\"uid\":\"\"}}"), Err(DecodeFault::Content(_))));
    assert!(matches!(uid("[]"), Err(DecodeFault::Content(_))));
}

#[test]
fn a_bad_name_says_which_rule_it_breaks() {
    let fault = decode("edged", "meta", "insert", "null/node/Edge_1").unwrap_err();
    assert!(fault.to_string().contains("`Edge_1` is not a valid node name"), "{fault}");
    let fault = decode("edged", "meta", "query", "UP/secret/x").unwrap_err();
    assert!(matches!(fault, DecodeFault::Name(_)));
}

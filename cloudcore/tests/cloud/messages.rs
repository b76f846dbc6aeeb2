use api::names::ObjectKey;
use api::raw::RawJson;
use api::wire::Upstream;
use api::wire::downstream::{PushOp, ReplyBody};
use api::wire::request::Request;

use super::*;

fn raw(value: &Value) -> RawJson {
    RawJson::of(value).unwrap()
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn object(body: &ReplyBody) -> Value {
    match body {
        ReplyBody::Object { object, err: None } | ReplyBody::Plain(object) => object.to().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_machine_joins_registers_gets_a_pod_and_reports_it_running() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    let mut link = cloud.dial(&own, "edge-1").await;
    link.send(&Upstream::Keepalive).await;
    let name = link.node.clone();

    let node = raw(&json!({"metadata": {"name": "edge-1", "labels": {
        "node-role.kubernetes.io/edge": "", "site": "north"}}, "spec": {}}));
    let reply = link.ask(Request::RegisterNode { name: name.clone(), node }).await;
    let registered = object(&reply.body);
    assert_eq!(registered["metadata"]["labels"]["node-role.kubernetes.io/edge"], "");
    let push = link.take_until("edge-1").await;
    assert_eq!((push.op, push.key.to_string().as_str()), (PushOp::Update, "null/node/edge-1"));

    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#.to_owned();
    let reply = link.ask(Request::PatchNode { name: name.clone(), patch: status }).await;
    assert_eq!(object(&reply.body)["status"]["conditions"][0]["type"], "Ready");
    assert!(reply.version.is_some());
    let lease = raw(&json!({"metadata": {}, "spec": {"holderIdentity": "edge-1"}}));
    let reply = link.ask(Request::CreateLease { name: name.clone(), lease }).await;
    assert_eq!(object(&reply.body)["metadata"]["name"], "edge-1");

    let pod = add_pod(&cloud.fake, "web", "edge-1");
    let push = link.take().await;
    assert_eq!((push.op, push.key), (PushOp::Insert, key("default/pod/web")));
    let sent: Value = push.object.to().unwrap();
    assert_eq!((&sent["kind"], &sent["spec"]), (&json!("Pod"), &pod["spec"]));

    let patch =
        json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"phase": "Running"}});
    let reply =
        link.ask(Request::PatchPod { key: key("default/pod/web"), patch: patch.to_string() }).await;
    assert_eq!(object(&reply.body)["status"]["phase"], "Running");
    assert_eq!(cloud.fake.get(&pod_path("web")).unwrap()["status"]["phase"], "Running");

    // The records follow, for the pod and for the node.
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let record = format!(
        "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs/edge-1.{uid}"
    );
    eventually("the record of the pod", || {
        cloud.fake.get(&record).is_some_and(|r| {
            r["status"]["objectResourceVersion"] == pod["metadata"]["resourceVersion"]
                && r["spec"]
                    == json!({"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": "web"})
        })
    })
    .await;
    let cluster = "/apis/reliablesyncs.kubeedge.io/v1alpha1/clusterobjectsyncs";
    eventually("the record of the node", || cloud.fake.paths(cluster).len() == 1).await;
    assert_eq!(cloud.fake.asked(&format!("GET {record}")), 0, "never read before it is written");
}

/// A node that is connected, has a pod, and has acknowledged all.
async fn node_with_pod() -> (Cloud, Link) {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    add_served_node(&cloud.fake, "edge-1");
    let mut link = cloud.dial(&own, "edge-1").await;
    add_pod(&cloud.fake, "web", "edge-1");
    link.take_until("web").await;
    (cloud, link)
}

#[tokio::test]
async fn a_deleted_pod_is_told_finished_and_forgotten() {
    let (cloud, mut link) = node_with_pod().await;
    let mut pod = cloud.fake.get(&pod_path("web")).unwrap();
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let pod = cloud.fake.put(&pod_path("web"), pod);
    let push = link.take().await;
    assert_eq!(push.op, PushOp::Update);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    let request = Request::DeletePod {
        key: key("default/pod/web"),
        uid: Some(uid.parse().unwrap()),
        options: raw(&options),
    };
    let asked = link.send(&Upstream::Request(request)).await;
    // The answer and the deletion may come in either order.
    let (mut answered, mut deleted) = (false, false);
    while !(answered && deleted) {
        let (id, message) = link.next().await;
        if let Some(ack) = message.ack(&id) {
            link.send(&Upstream::Ack(ack)).await;
        }
        match message {
            api::wire::Downstream::Reply(reply) => {
                assert_eq!((reply.parent, reply.body), (asked.clone(), ReplyBody::Ok));
                answered = true;
            }
            api::wire::Downstream::Object(push) => {
                assert_eq!(push.op, PushOp::Delete);
                assert!(push.version.is_some(), "as it was last seen");
                deleted = true;
            }
            other => panic!("{other:?}"),
        }
    }
    let records = "/apis/reliablesyncs.kubeedge.io/v1alpha1/objectsyncs";
    eventually("no record is left", || cloud.fake.paths(records).is_empty()).await;
}

#[tokio::test]
async fn a_secret_is_read_and_followed_by_the_node_whose_pod_uses_it() {
    let (cloud, mut link) = node_with_pod().await;
    let path = "/api/v1/namespaces/default/secrets/pull";
    cloud.fake.put(path, json!({"data": {"k": "djE="}}));
    assert_eq!(link.take().await.op, PushOp::Update, "secrets are only ever updated");
    let reply = link.ask(Request::Query(key("default/secret/pull"))).await;
    assert_eq!(object(&reply.body)["data"]["k"], "djE=");
    cloud.fake.put(path, json!({"data": {"k": "djI="}}));
    let push = link.take().await;
    assert_eq!(push.object.to::<Value>().unwrap()["data"]["k"], "djI=");

    cloud.fake.put("/api/v1/namespaces/default/secrets/other", json!({"data": {}}));
    let reply = link.ask(Request::Query(key("default/secret/other"))).await;
    let ReplyBody::Error(error) = reply.body else { panic!("{reply:?}") };
    assert!(format!("{error:?}").contains("Status"), "{error:?}");
}

#[tokio::test]
async fn a_nodes_own_status_does_not_come_back_but_its_labels_do() {
    let (cloud, mut link) = node_with_pod().await;
    let name = link.node.clone();
    for n in 0..3 {
        let patch = json!({"status": {"n": n}}).to_string();
        link.ask(Request::PatchNode { name: name.clone(), patch }).await;
    }
    let mut node = cloud.fake.get("/api/v1/nodes/edge-1").unwrap();
    node["metadata"]["labels"]["site"] = "south".into();
    cloud.fake.put("/api/v1/nodes/edge-1", node);
    let push = link.take().await;
    let node: Value = push.object.to().unwrap();
    assert_eq!(node["metadata"]["labels"]["site"], "south", "the first thing that comes");
}

#[tokio::test]
async fn one_silent_object_holds_up_no_other() {
    let (cloud, mut link) = node_with_pod().await;
    add_pod(&cloud.fake, "deaf", "edge-1");
    link.hear().await;
    for n in 0..30 {
        add_pod(&cloud.fake, &format!("p{n}"), "edge-1");
        let push = link.take().await;
        assert_eq!(&*push.key.name, format!("p{n}"));
    }
}

#[tokio::test]
async fn a_node_asks_for_the_ca_and_for_a_token() {
    let (_cloud, mut link) = node_with_pod().await;
    let reply = link.ask(Request::ApiServerCa).await;
    assert_eq!(reply.body, ReplyBody::Text("PEM".to_owned()));
    let bound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": "web"}}});
    let request = Request::ServiceAccountToken {
        namespace: "default".parse().unwrap(),
        account: "default".into(),
        request: raw(&bound),
    };
    let reply = link.ask(request).await;
    assert_eq!(object(&reply.body)["status"]["token"], "t");
    assert_eq!(reply.version, None);
}

#[tokio::test]
async fn a_deleted_node_is_let_go_with_the_reason_and_its_records_go() {
    let (cloud, link) = node_with_pod().await;
    let records = "/apis/reliablesyncs.kubeedge.io/v1alpha1/objectsyncs";
    eventually("a record", || cloud.fake.paths(records).len() == 1).await;
    cloud.fake.delete("/api/v1/nodes/edge-1");
    let (code, reason) = link.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "the node was deleted from the cluster"));
    eventually("no records", || cloud.fake.paths(records).is_empty()).await;
}

#[tokio::test]
async fn while_the_api_server_is_away_nodes_stay_connected_and_then_catch_up() {
    let (cloud, mut link) = node_with_pod().await;
    cloud.fake.away(true);
    let name = link.node.clone();
    let patch = "{}".to_owned();
    let reply = link.ask(Request::PatchNode { name: name.clone(), patch: patch.clone() }).await;
    assert!(matches!(reply.body, ReplyBody::Object { err: Some(_), .. }), "{reply:?}");
    add_pod(&cloud.fake, "later", "edge-1");
    cloud.fake.delete(&pod_path("web"));
    cloud.fake.away(false);
    let (mut added, mut removed) = (false, false);
    while !(added && removed) {
        let push = link.take().await;
        match (&*push.key.name, push.op) {
            ("later", PushOp::Insert) => added = true,
            ("web", PushOp::Delete) => removed = true,
            other => panic!("{other:?}"),
        }
    }
    let reply = link.ask(Request::PatchNode { name, patch }).await;
    assert!(matches!(reply.body, ReplyBody::Object { err: None, .. }), "{reply:?}");
}

#[tokio::test]
async fn a_pod_that_was_there_before_its_node_arrives_all_the_same() {
    let cloud = Cloud::start().await;
    add_pod(&cloud.fake, "early", "edge-1");
    let own = cloud.join("edge-1").await;
    let mut link = cloud.dial(&own, "edge-1").await;
    add_node(&cloud.fake, "edge-1");
    let push = link.take_until("early").await;
    assert_eq!(push.op, PushOp::Insert);
}

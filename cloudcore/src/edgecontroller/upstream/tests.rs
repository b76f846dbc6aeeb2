use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use http::{Method, Request as HttpRequest, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json as value};

use super::*;
use crate::cloudhub::outbox::Limits;
use crate::edgecontroller::index::Index;
use crate::object::Object;
use crate::synccontroller::records::Records;

/// What an API server was asked, and what it answered.
type Asked = (Method, String, Value);

/// An API server that gives prepared answers and remembers what it was asked.
#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
}

impl Fake {
    fn answer(&self, code: u16, body: Value) {
        self.answers.lock().push_back((code, body));
    }

    fn client(&self) -> kube::Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: HttpRequest<Body>| {
            let this = this.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                this.asked.lock().push((parts.method, parts.uri.to_string(), body));
                let next = this.answers.lock().pop_front();
                let (code, body) = next.unwrap_or((500, value!({"code": 500})));
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().iter().map(|(m, p, _)| (m.to_string(), p.clone())).collect()
    }

    fn body(&self, n: usize) -> Value {
        self.asked.lock()[n].2.clone()
    }
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn context(fake: &Fake) -> Context {
    let metrics = Metrics::default();
    let records = Arc::new(Mutex::new(Records::default()));
    let mut index = Index::default();
    let node = r#"{"metadata":{"name":"edge-1","uid":"n","resourceVersion":"1","labels":{"node-role.kubernetes.io/edge":""}}}"#;
    index.apply_node(Object::read(Kind::Node, node).unwrap());
    let pod = r#"{"metadata":{"name":"web","namespace":"default","uid":"u","resourceVersion":"2"},"spec":{"nodeName":"edge-1"}}"#;
    index.apply_pod(Object::read(Kind::Pod, pod).unwrap());
    Context {
        api: ApiServer::new(fake.client(), metrics.clone()),
        registry: Arc::new(Registry::new(9, Limits::default(), records, metrics.clone())),
        index: Arc::new(Mutex::new(index)),
        address: "10.0.0.1".to_owned(),
        api_ca: "PEM".to_owned(),
        metrics,
    }
}

fn status(code: u16, reason: &str) -> Value {
    value!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": "m"})
}

async fn ask(cx: &Context, request: Request, check: bool) -> (ReplyBody, Option<ResourceVersion>) {
    match cx.request(&name("edge-1"), &request, check).await {
        Ok(done) => (done.body, done.version),
        Err(error) => (refusal(&request, &error), None),
    }
}

fn object(body: &ReplyBody) -> Value {
    match body {
        ReplyBody::Object { object, .. } | ReplyBody::Plain(object) => object.to().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_is_created_and_then_gets_the_labels_that_it_may_not_give_itself() {
    let fake = Fake::default();
    fake.answer(201, value!({"metadata": {"name": "edge-1"}}));
    fake.answer(200, value!({"metadata": {"name": "edge-1", "labels": {"x": "y"}}}));
    let node =
        json(&value!({"metadata": {"name": "edge-1", "labels": {"kubernetes.io/os": "linux"}}}));
    let request = Request::RegisterNode { name: name("edge-1"), node };
    let (body, version) = ask(&context(&fake), request, false).await;
    assert_eq!(object(&body)["metadata"]["labels"]["x"], "y");
    assert_eq!(version, None);
    let want = [("POST", "/api/v1/nodes"), ("PATCH", "/api/v1/nodes/edge-1")];
    assert_eq!(fake.asked(), want.map(|(m, p)| (m.to_owned(), p.to_owned())));
    assert_eq!(fake.body(0)["metadata"]["labels"], value!({}));
    assert_eq!(fake.body(1)["metadata"]["labels"]["kubernetes.io/os"], "linux");
}

#[tokio::test]
async fn a_node_that_exists_is_said_to_exist_and_is_made_an_edge_node() {
    let fake = Fake::default();
    fake.answer(409, status(409, "AlreadyExists"));
    fake.answer(200, value!({}));
    let node = json(&value!({"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}}));
    let request = Request::RegisterNode { name: name("edge-1"), node };
    let (body, _) = ask(&context(&fake), request, false).await;
    let ReplyBody::Object { err: Some(api::wire::downstream::ReplyError::Status(err)), .. } = body
    else {
        panic!("{body:?}")
    };
    assert_eq!(err.to::<Value>().unwrap()["reason"], "AlreadyExists");
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn a_pod_status_is_patched_at_the_status_subresource() {
    let fake = Fake::default();
    fake.answer(200, value!({"metadata": {"name": "web", "resourceVersion": "60"}}));
    let key = "default/pod/web".parse().unwrap();
    let patch = r#"{"metadata":{"uid":"u"},"status":{"phase":"Running"}}"#.to_owned();
    let (body, version) = ask(&context(&fake), Request::PatchPod { key, patch }, false).await;
    assert_eq!(version, Some(ResourceVersion(60)));
    assert_eq!(object(&body)["metadata"]["name"], "web");
    assert_eq!(
        fake.asked(),
        [("PATCH".to_owned(), "/api/v1/namespaces/default/pods/web/status".to_owned())]
    );
    assert_eq!(fake.body(0)["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_node_that_reports_a_pod_that_is_gone_is_told_to_delete_it() {
    let fake = Fake::default();
    fake.answer(404, status(404, "NotFound"));
    let cx = context(&fake);
    let key: ObjectKey = "default/pod/ghost".parse().unwrap();
    let patch = r#"{"metadata":{"uid":"old"},"status":{}}"#.to_owned();
    ask(&cx, Request::PatchPod { key: key.clone(), patch }, true).await;
    let uid = "old".parse().unwrap();
    assert!(cx.registry.covers(&name("edge-1"), &key, &uid, None));
    let (connection, _ended) = cx.registry.connect(&name("edge-1"), None).unwrap();
    let (due, _) = connection.due(tokio::time::Instant::now());
    let text = format!("{:?}", due[0].message);
    assert!(text.contains("Delete"), "{text}");
}

#[tokio::test]
async fn a_status_of_the_pod_of_another_node_is_refused_after_a_look() {
    let fake = Fake::default();
    fake.answer(200, value!({"metadata": {"uid": "x"}, "spec": {"nodeName": "edge-2"}}));
    let key = "default/pod/theirs".parse().unwrap();
    let request = Request::PatchPod { key, patch: "{}".to_owned() };
    let (body, _) = ask(&context(&fake), request, true).await;
    assert!(format!("{body:?}").contains("err: Some"), "{body:?}");
    assert_eq!(fake.asked().len(), 1, "looked at, not patched");
}

#[tokio::test]
async fn deleting_what_is_gone_or_reborn_is_fine() {
    for code in [200, 404, 409] {
        let fake = Fake::default();
        fake.answer(code, status(code, "x"));
        let key = "default/pod/web".parse().unwrap();
        let options = value!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}});
        let uid = Some("u".parse().unwrap());
        let request = Request::DeletePod { key, uid, options: json(&options) };
        let (body, _) = ask(&context(&fake), request, false).await;
        assert_eq!(body, ReplyBody::Ok, "{code}");
        assert_eq!(fake.body(0), options);
    }
}

#[tokio::test]
async fn a_lease_is_renewed_with_one_request() {
    let fake = Fake::default();
    fake.answer(200, value!({"metadata": {"name": "edge-1", "resourceVersion": "5"}}));
    let lease = json(&value!({"metadata": {"resourceVersion": "1"}, "spec": {"renewTime": "t"}}));
    let request = Request::UpdateLease { name: name("edge-1"), lease };
    let (body, version) = ask(&context(&fake), request, false).await;
    assert_eq!((object(&body)["metadata"]["name"].clone(), version), (value!("edge-1"), None));
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1";
    assert_eq!(fake.asked(), [("PATCH".to_owned(), path.to_owned())]);
    assert_eq!(fake.body(0), value!({"spec": {"renewTime": "t"}}));
}

#[tokio::test]
async fn a_query_is_answered_with_the_object_complete_and_its_version() {
    let fake = Fake::default();
    fake.answer(
        200,
        value!({"metadata": {"name": "c", "namespace": "default", "uid": "u",
            "resourceVersion": "77", "managedFields": [{}]}, "data": {"k": "v"}}),
    );
    let key = "default/configmap/c".parse().unwrap();
    let (body, version) = ask(&context(&fake), Request::Query(key), false).await;
    let object = object(&body);
    assert_eq!(version, Some(ResourceVersion(77)));
    assert_eq!((&object["kind"], &object["data"]["k"]), (&value!("ConfigMap"), &value!("v")));
    assert!(object["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn a_failed_query_is_a_bare_error_and_a_failed_lease_query_a_wrapped_one() {
    let fake = Fake::default();
    fake.answer(404, status(404, "NotFound"));
    fake.answer(404, status(404, "NotFound"));
    let cx = context(&fake);
    let query = |key: &str| Request::Query(key.parse().unwrap());
    let (bare, _) = ask(&cx, query("default/secret/s"), false).await;
    assert!(matches!(bare, ReplyBody::Error(_)));
    let (wrapped, _) = ask(&cx, query("kube-node-lease/lease/edge-1"), false).await;
    assert!(matches!(wrapped, ReplyBody::Object { err: Some(_), .. }));
}

#[tokio::test]
async fn a_token_request_reaches_the_token_subresource_and_is_not_to_be_acknowledged() {
    let fake = Fake::default();
    fake.answer(201, value!({"kind": "TokenRequest", "status": {"token": "t"}}));
    let request = Request::ServiceAccountToken {
        namespace: "default".parse().unwrap(),
        account: "sa".into(),
        request: json(&value!({"spec": {}})),
    };
    let (body, version) = ask(&context(&fake), request, false).await;
    assert_eq!((object(&body)["status"]["token"].clone(), version), (value!("t"), None));
    assert_eq!(fake.asked()[0].1, "/api/v1/namespaces/default/serviceaccounts/sa/token");
}

#[tokio::test]
async fn an_event_patch_falls_back_to_the_whole_event() {
    let fake = Fake::default();
    fake.answer(404, status(404, "NotFound"));
    fake.answer(201, value!({}));
    let cx = context(&fake);
    let content = json(&value!({"event": {"reason": "Started"}, "patchData": "{\"count\":2}"}));
    let key = "default/event/web.17".parse().unwrap();
    let op = api::wire::upstream::EventOp::Patch;
    event::record(&cx, &EventReport { key, op, content }).await.unwrap();
    assert_eq!(fake.body(0), value!({"count": 2}));
    assert_eq!(fake.body(1), value!({"reason": "Started"}));
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_a_node_gets_an_answer_within_seconds() {
    let fake = Fake::default();
    for _ in 0..20 {
        fake.answer(503, status(503, "ServiceUnavailable"));
    }
    let cx = context(&fake);
    let begin = tokio::time::Instant::now();
    let request = Request::PatchNode { name: name("edge-1"), patch: "{}".to_owned() };
    let (body, _) = ask(&cx, request, false).await;
    assert!(matches!(body, ReplyBody::Object { err: Some(_), .. }));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(fake.asked().len() > 1, "tried more than once");
}

#[tokio::test]
async fn the_node_says_which_cloudcore_serves_it_and_only_when_that_has_changed() {
    let fake = Fake::default();
    fake.answer(200, value!({}));
    let cx = context(&fake);
    node::served(&cx, &name("edge-1")).await;
    assert_eq!(fake.body(0)["metadata"]["annotations"]["cloudcore"], "10.0.0.1");
    let node = r#"{"metadata":{"name":"edge-1","uid":"n","resourceVersion":"9","labels":{"node-role.kubernetes.io/edge":""},"annotations":{"cloudcore":"10.0.0.1"}}}"#;
    cx.index.lock().apply_node(Object::read(Kind::Node, node).unwrap());
    node::served(&cx, &name("edge-1")).await;
    assert_eq!(fake.asked().len(), 1);
}

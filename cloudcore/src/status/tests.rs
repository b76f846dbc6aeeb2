//! The table as it is fed, and the stream with a real WebSocket reader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::raw::RawJson;
use api::status::row::NodeRow;
use api::status::stream::{FromReader, MAX_REQUEST, Request, ToReader, Update};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use service::CancellationToken;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::actions::Means;
use super::server::serve;
use super::*;
use crate::apiserver::ApiServer;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn object(kind: Kind, value: &Value) -> Object {
    Object::read(kind, &value.to_string()).unwrap()
}

fn node(name: &str) -> Object {
    object(Kind::Node, &json!({"metadata": {"name": name, "uid": "n", "resourceVersion": "1"}}))
}

fn pod(name: &str, uid: &str, phase: &str) -> Object {
    object(
        Kind::Pod,
        &json!({
            "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": "2"},
            "spec": {"nodeName": "edge-1", "containers": [{"name": "a", "image": "busybox"}]},
            "status": {"phase": phase},
        }),
    )
}

/// An API server that answers everything with one object.
fn api(answer: Value) -> ApiServer {
    let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
        let body = kube::client::Body::from(answer.to_string().into_bytes());
        async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
    });
    ApiServer::new(kube::Client::new(service, "default"), Metrics::default())
}

/// The same, and no nodes.
fn means(answer: Value) -> Means {
    Means { api: api(answer), nodes: None }
}

fn rows(status: &Status) -> BTreeMap<String, Row> {
    let (changes, _) = status.since(Cursor::default());
    changes.rows.iter().map(|r| (r.key().key, Row::clone(r))).collect()
}

fn node_row(status: &Status) -> NodeRow {
    match rows(status).remove("edge-1") {
        Some(Row::Node(row)) => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_later_session_is_not_ended_by_the_one_that_it_replaced() {
    let status = Status::new(Metrics::default());
    let edge = name("edge-1");
    status.object(&node("edge-1"));
    status.link_up(&edge, 1, Link { from: "10.0.0.7:1".into(), ..Link::default() });
    status.link_up(&edge, 2, Link { from: "10.0.0.7:2".into(), ..Link::default() });
    status.link_down(&edge, 1, "replaced");
    assert_eq!(node_row(&status).link.unwrap().from, "10.0.0.7:2");
    status.link_down(&edge, 2, "nothing was heard");
    let row = node_row(&status);
    assert_eq!((row.link, row.lost_why.as_str()), (None, "nothing was heard"));
}

#[test]
fn what_was_learnt_on_the_way_survives_the_next_watch_event_but_not_another_pod() {
    let status = Status::new(Metrics::default());
    let web = pod("web", "u-1", "Pending");
    status.object(&web);
    status.offered(&web.key);
    let patch =
        api::wire::request::Request::PatchPod { key: web.key.clone(), patch: "{}".to_owned() };
    status.handled(&name("edge-1"), &patch, "r", None, &Passage::begin(1, 10));
    status.object(&pod("web", "u-1", "Running"));
    let get = || match rows(&status).remove("default/web") {
        Some(Row::Pod(row)) => row,
        other => panic!("{other:?}"),
    };
    let row = get();
    assert_eq!((row.phase.as_str(), row.unconfirmed), ("Running", true));
    assert!(row.hops.is_some() && row.last_report.is_some());
    let id: MessageId = "m".parse().unwrap();
    status.acked(&name("edge-1"), &id, &web.key, &Passage::begin(1, 10));
    assert!(!get().unconfirmed);
    status.object(&pod("web", "u-2", "Pending"));
    assert_eq!(get().hops, None);
}

#[test]
fn what_a_new_list_lacks_is_gone() {
    let status = Status::new(Metrics::default());
    status.object(&pod("stays", "u-1", "Running"));
    status.object(&pod("goes", "u-2", "Running"));
    status.begin_reset(&Kind::Pod);
    status.object(&pod("stays", "u-1", "Running"));
    status.finish_reset(&Kind::Pod);
    assert_eq!(rows(&status).into_keys().collect::<Vec<_>>(), ["default/stays"]);
}

#[test]
fn a_node_that_leaves_takes_its_pods_along() {
    let status = Status::new(Metrics::default());
    status.object(&node("edge-1"));
    status.object(&node("edge-2"));
    status.object(&pod("web", "u", "Running"));
    status.forget(&name("edge-1"));
    assert_eq!(rows(&status).into_keys().collect::<Vec<_>>(), ["edge-2"]);
}

type Socket<S> = WebSocketStream<S>;

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> Socket<S> {
    let (socket, _) =
        tokio_tungstenite::client_async("ws://localhost/status/v1", io).await.unwrap();
    socket
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) -> ToReader {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Frame::Text(text) => return serde_json::from_str(&text).unwrap(),
            Frame::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
}

async fn update<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) -> Update {
    match next(socket).await {
        ToReader::Update(update) => *update,
        other => panic!("{other:?}"),
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>, what: &FromReader) {
    socket.send(Frame::text(serde_json::to_string(what).unwrap())).await.unwrap();
}

/// A reader of `status` that has had its hello.
async fn reader(status: &Arc<Status>, answer: Value, buffer: usize) -> Socket<DuplexStream> {
    let (ours, theirs) = tokio::io::duplex(buffer);
    tokio::spawn(serve(theirs, Arc::clone(status), means(answer), CancellationToken::new()));
    let mut socket = handshake(ours).await;
    let ToReader::Hello(hello) = next(&mut socket).await else { panic!("no hello") };
    assert!(hello.requests.iter().any(|r| r == "yaml"));
    socket
}

#[tokio::test(start_paused = true)]
async fn a_reader_gets_everything_then_what_changed_then_a_sign_of_life() {
    let status = Arc::new(Status::new(Metrics::default()));
    status.object(&node("edge-1"));
    let mut socket = reader(&status, json!({}), 64 << 10).await;
    let first = update(&mut socket).await;
    assert_eq!((first.full, first.nodes.len()), (true, 1));
    status.object(&pod("web", "u", "Running"));
    let second = update(&mut socket).await;
    assert_eq!((second.full, second.nodes.len(), second.pods.len()), (false, 0, 1));
    let before = Instant::now();
    assert_eq!(update(&mut socket).await.pods.len(), 0);
    assert_eq!(before.elapsed().as_secs(), 5);
    status.gone(&pod("web", "u", "Running").key);
    assert_eq!(update(&mut socket).await.gone, [RowKey::pod("default", "web")]);
}

#[tokio::test(start_paused = true)]
async fn the_flow_is_told_only_to_those_who_asked_for_it() {
    let status = Arc::new(Status::new(Metrics::default()));
    let edge = name("edge-1");
    status.object(&node("edge-1"));
    let mut socket = reader(&status, json!({}), 64 << 10).await;
    update(&mut socket).await;
    status.heard(&edge, "keepalive", "", "ok", &Passage::begin(1, 10));
    assert!(status.since(Cursor::default()).0.messages.is_empty(), "nobody reads it");
    say(&mut socket, &FromReader::Flow { on: true }).await;
    while status.flow.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    status.heard(&edge, "keepalive", "", "ok", &Passage::begin(1, 10));
    assert_eq!(update(&mut socket).await.messages[0].kind, "keepalive");
    drop(socket);
    while status.flow.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_fewer_larger_updates_with_the_newest_of_each_row() {
    let status = Arc::new(Status::new(Metrics::default()));
    for i in 0..200 {
        status.object(&node(&format!("edge-{i}")));
    }
    let mut socket = reader(&status, json!({}), 512).await;
    // Nothing is read while the table changes a thousand times.
    for i in 0..1000 {
        let edge = name(&format!("edge-{}", i % 200));
        status.received(&edge);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(update(&mut socket).await.full);
    let late = update(&mut socket).await;
    assert_eq!(late.nodes.len(), 200, "all that changed, at once");
    let totals: u64 = late.nodes.iter().map(|n| n.queue.received).sum();
    assert_eq!(totals, 1000, "the newest state of each");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_is_let_go() {
    let status = Arc::new(Status::new(Metrics::default()));
    for i in 0..200 {
        status.object(&node(&format!("edge-{i}")));
    }
    let (ours, theirs) = tokio::io::duplex(512);
    let server = tokio::spawn(serve(
        theirs,
        Arc::clone(&status),
        means(json!({})),
        CancellationToken::new(),
    ));
    let socket = handshake(ours).await;
    server.await.unwrap();
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_and_those_of_a_later_version_refused() {
    let status = Arc::new(Status::new(Metrics::default()));
    let object = json!({"kind": "Pod", "metadata": {"name": "web", "managedFields": [1]}});
    let mut socket = reader(&status, object, 64 << 10).await;
    update(&mut socket).await;
    let key = RowKey::pod("default", "web");
    say(&mut socket, &FromReader::Request { id: 7, request: Request::Yaml { key } }).await;
    let ToReader::Done(done) = next(&mut socket).await else { panic!("no answer") };
    assert_eq!((done.id, done.error.as_str()), (7, ""));
    assert!(done.text.contains("name: web") && !done.text.contains("managedFields"), "{done:?}");
    let key = RowKey::pod("..", "x/../y");
    say(&mut socket, &FromReader::Request { id: 8, request: Request::Yaml { key } }).await;
    let ToReader::Done(done) = next(&mut socket).await else { panic!("no answer") };
    assert!(done.error.contains("has no path in the API"), "{done:?}");
    let later = r#"{"type":"request","id":9,"request":{"what":"teleport"}}"#;
    socket.send(Frame::text(later)).await.unwrap();
    let ToReader::Done(done) = next(&mut socket).await else { panic!("no answer") };
    assert_eq!((done.id, done.error.as_str()), (9, "this server does not know that request"));
}

#[tokio::test(start_paused = true)]
async fn a_log_comes_in_lines_and_ends_with_an_answer() {
    let status = Arc::new(Status::new(Metrics::default()));
    let mut socket = reader(&status, json!("ready\u{1b}[2J"), 64 << 10).await;
    update(&mut socket).await;
    let logs = |pod: &str| Request::Logs {
        namespace: "default".into(),
        pod: pod.into(),
        container: String::new(),
        follow: false,
        tail: Some(10),
    };
    say(&mut socket, &FromReader::Request { id: 3, request: logs("web") }).await;
    let ToReader::Log(log) = next(&mut socket).await else { panic!("no log") };
    assert_eq!((log.id, log.lines.len()), (3, 1));
    assert!(log.lines[0].starts_with("\"ready"), "{log:?}");
    let ToReader::Done(done) = next(&mut socket).await else { panic!("no answer") };
    assert_eq!((done.id, done.error.as_str()), (3, ""));
    say(&mut socket, &FromReader::Request { id: 4, request: logs("../secrets") }).await;
    let ToReader::Done(done) = next(&mut socket).await else { panic!("no answer") };
    assert!(done.error.contains("has no path in the API"), "{done:?}");
}

#[tokio::test]
async fn a_desired_value_is_set_and_nothing_else_of_the_device_changes() {
    let device = json!({
        "metadata": {"name": "thermo", "namespace": "default", "resourceVersion": "7"},
        "spec": {"properties": [
            {"name": "other", "reportCycle": 5},
            {"name": "target", "desired": {"value": "20", "metadata": {"a": "b", "timestamp": "70"}}},
        ]},
    });
    let patches = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&patches);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (seen, device) = (Arc::clone(&seen), device.clone());
        async move {
            let (head, body) = request.into_parts();
            // Somebody else was faster the first time.
            let conflict = head.method == http::Method::PATCH && seen.lock().is_empty();
            if head.method == http::Method::PATCH {
                let body = body.collect_bytes().await.unwrap();
                seen.lock().push(serde_json::from_slice::<Value>(&body).unwrap());
            }
            let (code, answer) = if conflict {
                let status = json!({"kind": "Status", "status": "Failure", "message": "conflict",
                    "reason": "Conflict", "code": 409, "metadata": {}});
                (409, status)
            } else {
                (200, device)
            };
            let body = kube::client::Body::from(answer.to_string().into_bytes());
            let answer = http::Response::builder().status(code).body(body).unwrap();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let api = ApiServer::new(kube::Client::new(service, "default"), Metrics::default());
    let means = Means { api, nodes: None };
    let set = |property: &str| Request::SetDesired {
        namespace: "default".into(),
        device: "thermo".into(),
        property: property.into(),
        value: "21".into(),
    };
    let nobody = |_: Vec<String>| -> futures::future::BoxFuture<'static, bool> { unreachable!() };
    let began = super::now();
    let said = super::actions::answer(&means, set("target"), &nobody).await.unwrap();
    assert_eq!(said, "target of device default/thermo shall be 21");
    let patches = patches.lock().clone();
    assert_eq!(patches.len(), 2, "the conflict is no failure");
    assert_eq!(patches[1]["metadata"]["resourceVersion"], "7");
    let desired = &patches[1]["spec"]["properties"][1]["desired"];
    assert_eq!((&desired["value"], &desired["metadata"]["a"]), (&json!("21"), &json!("b")));
    let at = desired["metadata"]["timestamp"].as_str().and_then(|at| at.parse::<i64>().ok());
    assert!(at.is_some_and(|at| (began..=super::now()).contains(&at)), "{desired}");
    assert_eq!(patches[1]["spec"]["properties"][0], json!({"name": "other", "reportCycle": 5}));
    let refused = super::actions::answer(&means, set("nothing"), &nobody).await.unwrap_err();
    assert!(refused.contains("has no property `nothing`"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn nonsense_and_what_is_too_large_end_the_stream_with_a_reason() {
    let status = Arc::new(Status::new(Metrics::default()));
    for (text, why) in [
        ("hello?".to_owned(), "what came is no request"),
        (format!("\"{}\"", "x".repeat(MAX_REQUEST)), "too long"),
    ] {
        let mut socket = reader(&status, json!({}), 1 << 20).await;
        update(&mut socket).await;
        socket.send(Frame::text(text)).await.unwrap();
        let frame = loop {
            if let Frame::Close(frame) = socket.next().await.unwrap().unwrap() {
                break frame.unwrap();
            }
        };
        assert!(frame.reason.contains(why), "{}", frame.reason);
    }
}

#[tokio::test]
async fn web_pages_and_other_paths_are_refused() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    use tokio_tungstenite::tungstenite::{Error, http::HeaderValue};
    let status = Arc::new(Status::new(Metrics::default()));
    let mut page = "ws://localhost/status/v1".into_client_request().unwrap();
    page.headers_mut().insert("origin", HeaderValue::from_static("https://example.org"));
    let other = "ws://localhost/".into_client_request().unwrap();
    for (request, code) in [(page, 403), (other, 404)] {
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(serve(
            theirs,
            Arc::clone(&status),
            means(json!({})),
            CancellationToken::new(),
        ));
        match tokio_tungstenite::client_async(request, ours).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_socket_is_its_owners_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/status.sock");
    let bound = Bound::bind(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stopping = CancellationToken::new();
    let status = Arc::new(Status::new(Metrics::default()));
    let server = tokio::spawn(bound.serve(status, means(json!({})), stopping.clone()));
    let mut socket = handshake(UnixStream::connect(&path).await.unwrap()).await;
    assert!(matches!(next(&mut socket).await, ToReader::Hello(_)));
    let error = Bound::bind(&path).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "another program serves this socket");
    stopping.cancel();
    while let Some(Ok(_)) = socket.next().await {}
    server.await.unwrap();
    assert!(!path.exists());
    // What a killed program leaves behind is no hindrance.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Bound::bind(&path).await.unwrap();
}

#[tokio::test]
async fn a_pod_is_restarted_through_its_node_or_it_is_said_why_not() {
    let nobody = |_: Vec<String>| -> futures::future::BoxFuture<'static, bool> { unreachable!() };
    let restart = |namespace: &str, pod: &str| Request::RestartPod {
        namespace: namespace.into(),
        pod: pod.into(),
        dry_run: false,
    };
    let only_api = means(json!({}));
    assert!(!only_api.requests().contains(&"restartPod".to_owned()));
    let why = super::actions::answer(&only_api, restart("default", "web"), &nobody).await;
    assert!(why.unwrap_err().contains("the Kubernetes API restarts no containers"));
    let index = Arc::new(Mutex::new(crate::edgecontroller::index::Index::default()));
    let labels = json!({"node-role.kubernetes.io/edge": ""});
    let edge = json!({"metadata": {"name": "edge-1", "uid": "n", "resourceVersion": "1", "labels": labels}});
    index.lock().apply_node(object(Kind::Node, &edge));
    index.lock().apply_pod(pod("web", "u", "Running"));
    let nodes = crate::cloudstream::NodeApis::new(Default::default(), index);
    let means = Means { nodes: Some(nodes), ..only_api };
    assert!(means.requests().contains(&"restartPod".to_owned()));
    for (namespace, pod, why) in [
        ("default", "web", "node `edge-1` has no tunnel to this cloudcore"),
        ("default", "nobody", "pod default/nobody is on no edge node"),
    ] {
        let said = super::actions::answer(&means, restart(namespace, pod), &nobody).await;
        let said = said.unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    let path = super::actions::answer(&means, restart("default", "../../exec"), &nobody).await;
    assert!(!path.unwrap_err().contains("edge node"), "it is no name");
}

#[tokio::test]
async fn an_upgrade_is_confirmed_through_the_node_or_it_is_said_why_not() {
    let nobody = |_: Vec<String>| -> futures::future::BoxFuture<'static, bool> { unreachable!() };
    let confirm = |node: &str| Request::ConfirmUpgrade { node: node.into() };
    let only_api = means(json!({}));
    assert!(!only_api.requests().contains(&"confirmUpgrade".to_owned()));
    let why = super::actions::answer(&only_api, confirm("edge-1"), &nobody).await.unwrap_err();
    assert!(why.contains("`keadm ctl confirm` on the node"), "{why}");
    let nodes = crate::cloudstream::NodeApis::default();
    let means = Means { nodes: Some(nodes), ..only_api };
    assert!(means.requests().contains(&"confirmUpgrade".to_owned()));
    let why = super::actions::answer(&means, confirm("edge-1"), &nobody).await.unwrap_err();
    assert!(why.contains("node `edge-1` has no tunnel to this cloudcore"), "{why}");
    let why = super::actions::answer(&means, confirm("../x"), &nobody).await.unwrap_err();
    assert!(!why.contains("tunnel"), "it is no name: {why}");
}

#[test]
fn a_node_shows_what_a_job_does_to_it_and_only_while_it_does() {
    use api::status::row::Upgrade;
    let status = Status::new(Metrics::default());
    let labels = json!({"node-role.kubernetes.io/edge": ""});
    let edge = json!({"metadata": {"name": "edge-1", "uid": "n", "resourceVersion": "1", "labels": labels}});
    let upgrade = Upgrade { job: "up".into(), state: "Check".into(), ..Upgrade::default() };
    // A job may be known before the node is.
    status.upgrades([("edge-1".to_owned(), upgrade.clone())].into());
    status.object(&object(Kind::Node, &edge));
    let shown = |cursor| {
        let (changes, cursor) = status.since(cursor);
        let rows: Vec<_> = changes.rows.iter().map(|row| (**row).clone()).collect();
        let of = |row: &Row| match row {
            Row::Node(row) => row.upgrade.as_deref().cloned(),
            _ => None,
        };
        (rows.iter().map(of).collect::<Vec<_>>(), cursor)
    };
    let (rows, cursor) = shown(Cursor::default());
    assert_eq!(rows, [Some(upgrade.clone())]);
    status.upgrades([("edge-1".to_owned(), upgrade)].into());
    let (rows, cursor) = shown(cursor);
    assert!(rows.is_empty(), "nothing has changed");
    status.upgrades(Default::default());
    assert_eq!(shown(cursor).0, [None]);
}

#[test]
fn an_event_of_an_edge_has_its_line() {
    let status = Status::new(Metrics::default());
    let event = RawJson::of(&json!({
        "metadata": {}, "involvedObject": {"kind": "Node", "name": "edge-1"},
        "type": "Warning", "reason": "DiskPressure", "message": "full",
    }))
    .unwrap();
    status.reported_event(&name("edge-1"), &event);
    status.reported_event(&name("edge-1"), &RawJson::null());
    let (changes, _) = status.since(Cursor::default());
    assert_eq!(changes.events.len(), 1);
    assert_eq!(changes.events[0].object, "node/edge-1");
}

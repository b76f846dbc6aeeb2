//! The status stream end to end: cloudcore's server, the dashboard's reader and its state, with 10,000
//! rows, cuts, and a reader that takes its time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::names::Kind;
use api::status::board::Cursor;
use api::status::row::Row;
use cloudcore::apiserver::ApiServer;
use cloudcore::metrics::Metrics;
use cloudcore::object::Object;
use cloudcore::status::actions::Means;
use cloudcore::status::{Bound, Status};
use serde_json::json;
use service::CancellationToken;
use tests::wait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tui::StreamEvent;
use tui::state::{Link, State};
use tui::update::{Event, update};

const PODS: usize = 10_000;
/// Messages that may wait for the reader; then the server waits.
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

fn pod(i: usize, phase: &str) -> Object {
    let object = json!({
        "metadata": {"name": format!("web-{i:05}"), "namespace": "default", "uid": format!("u{i}"),
            "resourceVersion": "1"},
        "spec": {"nodeName": format!("edge-{}", i % 1000), "containers": [{"name": "web"}]},
        "status": {"phase": phase},
    });
    Object::read(Kind::Pod, &object.to_string()).unwrap()
}

/// cloudcore's stream on a socket.
struct Server {
    status: Arc<Status>,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(socket: &Path, pods: usize) -> Self {
        let status = Arc::new(Status::new(Metrics::default()));
        (0..pods).for_each(|i| status.object(&pod(i, "Pending")));
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let api = ApiServer::new(kube::Client::try_from(config).unwrap(), Metrics::default());
        let stopping = CancellationToken::new();
        let bound = Bound::bind(socket).await.unwrap();
        let task = tokio::spawn(bound.serve(
            Arc::clone(&status),
            Means { api, nodes: None },
            stopping.clone(),
        ));
        Self { status, stopping, task }
    }

    async fn stop(self) {
        self.stopping.cancel();
        self.task.await.unwrap();
    }
}

/// The dashboard without its screen.
struct Reader {
    state: State,
    events: mpsc::Receiver<StreamEvent>,
    _requests: mpsc::Sender<api::status::stream::FromReader>,
}

impl Reader {
    fn start(socket: PathBuf) -> Self {
        let (events_in, events) = mpsc::channel(WAITING);
        let (requests, requests_out) = mpsc::channel(64);
        tokio::spawn(tui::conn::run(tui::Endpoint::Unix(socket), events_in, requests_out));
        Self { state: State::new("test", 1), events, _requests: requests }
    }

    /// Takes in what comes until the state is as it should be.
    async fn until(&mut self, what: &str, is: impl Fn(&State) -> bool) {
        let waiting = async {
            while !is(&self.state) {
                let event = match self.events.recv().await.unwrap() {
                    StreamEvent::Lost { why, silence } => Event::Lost { why, silence },
                    StreamEvent::Source { .. } => continue,
                    StreamEvent::Message(message) => Event::Message(message),
                };
                update(&mut self.state, event);
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
    }
}

/// Whether the dashboard has exactly the rows that the server has.
fn agrees(state: &State, status: &Status) -> bool {
    let (changes, _) = status.since(Cursor::default());
    let pods: Vec<_> = changes
        .rows
        .iter()
        .filter_map(|row| match &**row {
            Row::Pod(pod) => Some((format!("{}/{}", pod.namespace, pod.name), pod)),
            _ => None,
        })
        .collect();
    pods.len() == state.pods.len()
        && pods.iter().all(|(key, pod)| state.pods.get(key).is_some_and(|e| e.row == **pod))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_cuts_and_pauses_the_dashboard_has_exactly_the_rows_that_cloudcore_has() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("status.sock");
    let mut reader = Reader::start(socket.clone());
    reader.until("nobody serves yet", |s| matches!(s.link, Link::Lost { .. })).await;

    let server = Server::start(&socket, PODS).await;
    reader.until("all rows", |s| s.pods.len() == PODS && !s.loading).await;
    assert!(reader.state.link == Link::Live && agrees(&reader.state, &server.status));

    // It reads nothing while every row changes three times; then the newest of each is told.
    for phase in ["Running", "Failed", "Succeeded"] {
        let before = reader.events.len();
        (0..PODS).for_each(|i| server.status.object(&pod(i, phase)));
        wait::eventually("something to read", PATIENCE, async || match reader.events.len() {
            n if n > before || n == WAITING => Ok(()),
            n => Err(format!("{n} messages wait")),
        })
        .await;
    }
    let done = |s: &State| s.pods.values().all(|e| e.row.phase == "Succeeded");
    reader.until("the newest of each row", done).await;
    assert!(agrees(&reader.state, &server.status));

    // Cut; what comes back has other rows, and none of the old ones is left.
    server.stop().await;
    let why = |s: &State| matches!(&s.link, Link::Lost { why, .. } if why.contains("stopping"));
    reader.until("the reason of the end", why).await;
    assert_eq!(reader.state.pods.len(), PODS, "stale rows stay to be seen");
    let server = Server::start(&socket, 3).await;
    reader.until("the rows of another server", |s| s.pods.len() == 3 && !s.loading).await;
    assert!(reader.state.link == Link::Live && agrees(&reader.state, &server.status));
    server.stop().await;
}

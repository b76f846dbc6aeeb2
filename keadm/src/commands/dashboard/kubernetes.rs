//! The fleet from the Kubernetes API, told as a stream would tell it, where no stream answers.
//!
//! Owns: the wait before the API server is asked again.
//! Called by: `dashboard.rs`.
//! Never: makes up links, messages or queues: the API knows none.

use std::sync::Arc;
use std::time::Duration;

use api::status::stream::{Done, FromReader, Hello, LogLines, Request, ToReader, Update, VERSION};
use cloudcore::apiserver::ApiServer;
use cloudcore::metrics::Metrics;
use cloudcore::status::actions;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tui::{Feed, StreamEvent};

use crate::cloud::Cloud;
use crate::errors::CommandError;
use crate::fleet::{Fleet, Want};

/// Requests at one time, as at a stream.
const REQUESTS: usize = 8;
/// Before the API server is asked again.
const AGAIN: Duration = Duration::from_secs(3);
/// The time is told so often, so that ages go by the clock of the machine that asks.
const BEAT: Duration = Duration::from_secs(5);

type Events = mpsc::Sender<StreamEvent>;

/// The fleet as the API server has it; `why` there is no stream.
pub(super) fn feed(cloud: Cloud, why: &str, limit: Duration) -> Feed {
    let (events_in, events) = mpsc::channel(64); // full: the watch waits
    let (requests, requests_out) = mpsc::channel(64); // full: the request is refused
    let name = format!("{}; no links, queues and messages: {why}", cloud.server);
    let api = ApiServer::new(cloud.client.clone(), Metrics::default());
    tokio::spawn(serve(api, events_in.clone(), requests_out));
    tokio::spawn(async move {
        while !events_in.is_closed() {
            let Err(e) = watch(&cloud, limit, &events_in).await else { return };
            let why = match e.causes().first() {
                Some(cause) => format!("{}: {cause}", e.message()),
                None => e.message().to_owned(),
            };
            if events_in.send(StreamEvent::Lost(why)).await.is_err() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
    Feed { name, events, requests, knows_links: false }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

async fn tell(events: &Events, message: ToReader) -> bool {
    events.send(StreamEvent::Message(Box::new(message))).await.is_ok()
}

/// Until the dashboard is closed.
async fn watch(cloud: &Cloud, limit: Duration, events: &Events) -> Result<(), CommandError> {
    let want = Want { events: true, flow: false, watch: true };
    let mut fleet = Fleet::of_cluster(cloud.clone(), want, limit).await?;
    let first = fleet.first().await?;
    let hello = Hello {
        version: VERSION,
        server: "Kubernetes API".to_owned(),
        node: None,
        now: now(),
        requests: actions::REQUESTS.map(str::to_owned).to_vec(),
    };
    if !tell(events, ToReader::Hello(hello)).await {
        return Ok(());
    }
    let mut update = first;
    loop {
        update.now = now();
        if !tell(events, ToReader::Update(Box::new(update))).await {
            return Ok(());
        }
        update = match tokio::time::timeout(BEAT, fleet.next()).await {
            Ok(next) => next?,
            Err(_) => Update::default(),
        };
    }
}

/// Carries out what the user asks for, with the rights of the user's own kubeconfig.
async fn serve(api: ApiServer, events: Events, mut requests: mpsc::Receiver<FromReader>) {
    let api = Arc::new(api);
    let mut running: Vec<(u64, AbortHandle)> = Vec::new();
    while let Some(message) = requests.recv().await {
        running.retain(|(_, task)| !task.is_finished());
        match message {
            FromReader::Flow { .. } => {}
            FromReader::Stop { id } => {
                running.iter().filter(|(at, _)| *at == id).for_each(|(_, task)| task.abort());
            }
            FromReader::Request { id, .. } if running.len() >= REQUESTS => {
                let error = format!("{REQUESTS} requests are in work already; try again");
                if !tell(&events, ToReader::Done(Done { id, error, ..Done::default() })).await {
                    break;
                }
            }
            FromReader::Request { id, request } => {
                let task = tokio::spawn(answer(Arc::clone(&api), events.clone(), id, request));
                running.push((id, task.abort_handle()));
            }
        }
    }
    running.iter().for_each(|(_, task)| task.abort());
}

async fn answer(api: Arc<ApiServer>, events: Events, id: u64, request: Request) {
    let say = events.clone();
    let lines = move |lines| -> BoxFuture<'static, bool> {
        let say = say.clone();
        Box::pin(async move { tell(&say, ToReader::Log(LogLines { id, lines })).await })
    };
    let done = match actions::answer(&api, request, &lines).await {
        Ok(text) => Done { id, text, ..Done::default() },
        Err(error) => Done { id, error, ..Done::default() },
    };
    tell(&events, ToReader::Done(done)).await;
}

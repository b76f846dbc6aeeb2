//! The fleet from the Kubernetes API, told as a stream would tell it, where no stream answers; and the
//! stream once one does.
//!
//! ```text
//! no stream answers ─► the cluster ─ a stream answers ─► the stream ─ away for AWAY ─► the cluster ..
//! ```
//!
//! Owns: which of the two is shown; the waits before either is asked again.
//! Called by: `dashboard.rs`.
//! Never: makes up links, messages or queues: the API knows none.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::status::stream::{Done, FromReader, Hello, LogLines, Request, ToReader, Update, VERSION};
use cloudcore::apiserver::ApiServer;
use cloudcore::metrics::Metrics;
use cloudcore::status::actions::{self, Means};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tui::{Feed, StreamEvent};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::fleet::{self, Fleet, FleetArgs, Want};

/// Requests at one time, as at a stream.
const REQUESTS: usize = 8;
/// Before the API server is asked again.
const AGAIN: Duration = Duration::from_secs(3);
/// Before a stream is looked for again.
const LOOK: Duration = Duration::from_secs(5);
/// A stream that is lost for so long is no better than none.
const AWAY: Duration = Duration::from_secs(10);
/// The time is told so often, so that ages go by the clock of the machine that asks.
const BEAT: Duration = Duration::from_secs(5);

/// A server that has said nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(15);
/// After a connection that failed, before the next.
const ONCE_MORE: Duration = Duration::from_secs(1);

type Events = mpsc::Sender<StreamEvent>;
type Requests = mpsc::Receiver<FromReader>;

/// What is shown first.
pub(super) enum First {
    /// The cluster, and why no stream.
    Cluster(String),
    /// The stream that the cluster publishes.
    Stream(tui::Endpoint),
}

/// The fleet as a stream has it while one answers, and as the API server has it while none does.
pub(super) fn feed(cloud: Cloud, first: First, args: FleetArgs, cx: Context) -> Feed {
    let (name, first) = match first {
        First::Cluster(why) => (named(&cloud, &why), None),
        First::Stream(endpoint) => (endpoint.to_string(), Some(endpoint)),
    };
    let knows_links = first.is_some();
    let (events_in, events) = mpsc::channel(64); // full: the watch waits
    let (requests, requests_out) = mpsc::channel(64); // full: the request is refused
    tokio::spawn(async move {
        let closed = events_in.clone();
        tokio::select! {
            () = keep(&cloud, first, &args, &cx, &events_in, requests_out) => {}
            () = closed.closed() => {}
        }
    });
    Feed { name, events, requests, knows_links }
}

fn named(cloud: &Cloud, why: &str) -> String {
    format!("{}; no links, queues and messages: {why}", cloud.server)
}

/// One after the other, until the dashboard is closed.
async fn keep(
    cloud: &Cloud,
    mut first: Option<tui::Endpoint>,
    args: &FleetArgs,
    cx: &Context,
    events: &Events,
    mut requests: Requests,
) {
    let source = |name, knows_links| events.send(StreamEvent::Source { name, knows_links });
    loop {
        let endpoint = match first.take() {
            Some(endpoint) => endpoint,
            None => {
                let found = tokio::select! {
                    () = cluster(cloud, args.limit.request_timeout, events, &mut requests) => return,
                    endpoint = answering(args, cx) => super::shown(endpoint),
                };
                if source(found.to_string(), true).await.is_err() {
                    return;
                }
                found
            }
        };
        let Some(why) = stream(endpoint, events, &mut requests).await else { return };
        if source(named(cloud, &why), false).await.is_err() {
            return;
        }
    }
}

/// Waits until a stream answers.
async fn answering(args: &FleetArgs, cx: &Context) -> fleet::Endpoint {
    loop {
        sleep(LOOK).await;
        if let Some(endpoint) = fleet::reachable(args, cx).await {
            return endpoint;
        }
    }
}

/// Passes a stream on; why it is given up, or none when the dashboard is closed.
async fn stream(
    endpoint: tui::Endpoint,
    events: &Events,
    requests: &mut Requests,
) -> Option<String> {
    let (told_in, mut told) = mpsc::channel(64); // full: the stream waits
    let (ask, asked) = mpsc::channel(64); // full: the request is dropped, as while it is lost
    // Ends with this function.
    let mut reading = JoinSet::new();
    reading.spawn(tui::conn::run(endpoint, told_in, asked));
    let mut lost: Option<(Instant, String)> = None;
    loop {
        let end = lost.as_ref().map(|(at, _)| *at + AWAY);
        tokio::select! {
            event = told.recv() => {
                match &event {
                    Some(StreamEvent::Lost { why, .. }) => {
                        let at = lost.as_ref().map_or_else(Instant::now, |(at, _)| *at);
                        lost = Some((at, why.clone()));
                    }
                    _ => lost = None,
                }
                events.send(event?).await.ok()?;
            }
            request = requests.recv() => {
                let _ = ask.try_send(request?);
            }
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                return lost.map(|(_, why)| why);
            }
        }
    }
}

/// Shows what the API server has, and does what is asked for, until the dashboard is closed.
async fn cluster(cloud: &Cloud, limit: Duration, events: &Events, requests: &mut Requests) {
    let api = ApiServer::new(cloud.client.clone(), Metrics::default());
    let means = Means { api, nodes: None };
    let can = means.requests();
    let watching = async {
        loop {
            let Err((e, silence)) = watch(cloud, limit, &can, events).await else { return };
            let why = match e.causes().first() {
                Some(cause) => format!("{}: {cause}", e.message()),
                None => e.message().to_owned(),
            };
            if events.send(StreamEvent::Lost { why, silence }).await.is_err() {
                return;
            }
            sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = serve(means, events.clone(), requests) => {}
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

async fn tell(events: &Events, message: ToReader) -> bool {
    events.send(StreamEvent::Message(Box::new(message))).await.is_ok()
}

/// Until the dashboard is closed, or nothing comes any more; then also for how long nothing came.
async fn watch(
    cloud: &Cloud,
    limit: Duration,
    can: &[String],
    events: &Events,
) -> Result<(), (CommandError, Duration)> {
    let at_once = |e| (e, Duration::ZERO);
    let want = Want { events: true, watch: true, usage: true, until_lost: true, ..Want::default() };
    let mut fleet = Fleet::of_cluster(cloud.clone(), want, limit).await.map_err(at_once)?;
    let first = fleet.first().await.map_err(at_once)?;
    let mut asked = pin!(until_silent(cloud));
    let hello = Hello {
        version: VERSION,
        server: "Kubernetes API".to_owned(),
        node: None,
        now: now(),
        requests: can.to_vec(),
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
        update = tokio::select! {
            next = timeout(BEAT, fleet.next()) => match next {
                Ok(next) => next.map_err(at_once)?,
                Err(_) => Update::default(),
            },
            silence = &mut asked => {
                let text = format!("the API server at `{}` does not answer", cloud.server);
                let why = format!("nothing came for {} s", silence.as_secs());
                return Err((CommandError::new(Kind::TimedOut, text).because(why), silence));
            }
        };
    }
}

/// Asks for something small now and then, until nothing has come for long: watches of a quiet
/// cluster say nothing for hours, and as little when the API server hangs.
async fn until_silent(cloud: &Cloud) -> Duration {
    let mut heard = Instant::now();
    loop {
        sleep(BEAT).await;
        let heard_again = async {
            loop {
                let request = hyper::Request::get("/version").body(Vec::new());
                let Ok(request) = request else { return };
                match cloud.client.request_text(request).await {
                    // A refusal is an answer, too.
                    Ok(_) | Err(kube::Error::Api(_)) => return,
                    Err(_) => sleep(ONCE_MORE).await,
                }
            }
        };
        match timeout_at(heard + SILENCE, heard_again).await {
            Ok(()) => heard = Instant::now(),
            Err(_) => return heard.elapsed(),
        }
    }
}

/// Carries out what the user asks for, with the rights of the user's own kubeconfig.
async fn serve(means: Means, events: Events, requests: &mut Requests) {
    let means = Arc::new(means);
    let mut tasks = JoinSet::new();
    let mut running: Vec<(u64, AbortHandle)> = Vec::new();
    while let Some(message) = requests.recv().await {
        running.retain(|(_, task)| !task.is_finished());
        match message {
            FromReader::Flow { .. } | FromReader::Usage { .. } => {}
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
                while tasks.try_join_next().is_some() {}
                running.push((
                    id,
                    tasks.spawn(answer(Arc::clone(&means), events.clone(), id, request)),
                ));
            }
        }
    }
}

async fn answer(means: Arc<Means>, events: Events, id: u64, request: Request) {
    let say = events.clone();
    let lines = move |lines| -> BoxFuture<'static, bool> {
        let say = say.clone();
        Box::pin(async move { tell(&say, ToReader::Log(LogLines { id, lines })).await })
    };
    let done = match actions::answer(&means, request, &lines).await {
        Ok(text) => Done { id, text, ..Done::default() },
        Err(error) => Done { id, error, ..Done::default() },
    };
    tell(&events, ToReader::Done(done)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_lost_for_long_is_given_up_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = tui::Endpoint::Unix(folder.path().join("nobody.sock"));
        let (events, mut told) = mpsc::channel(64);
        let (_ask, mut requests) = mpsc::channel(1);
        let reader = tokio::spawn(async move {
            let mut lost = 0;
            while let Some(StreamEvent::Lost { .. }) = told.recv().await {
                lost += 1;
            }
            lost
        });
        let began = Instant::now();
        let why = stream(endpoint, &events, &mut requests).await.unwrap();
        assert!(began.elapsed() >= AWAY && began.elapsed() < AWAY * 2, "{:?}", began.elapsed());
        assert!(why.contains("nobody serves it"), "{why}");
        drop(events);
        assert!(reader.await.unwrap() > 1, "it was tried again meanwhile");
    }
}

//! Questions to the cloud and their answers, matched by the parent id.
//!
//! Owns: every question that waits, sent or not.
//! Called by: `metamanager::remote` and the node's tasks ask; the session takes questions to send
//! and brings answers; the link says when it is up and when it is cut.
//! Never: lets a question wait for an answer that cannot come: without a link it fails at once, and
//! when the link is cut all that wait fail.
//!
//! At most [`WAITING`] questions wait at a time; further askers wait for a place, within their limit.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::names::{MessageId, ObjectKey};
use api::raw::RawJson;
use api::wire::downstream::{Reply, ReplyBody, ReplyError};
use api::wire::upstream::{Request, Upstream};
use parking_lot::Mutex;
use serde::Deserialize;
use service::telemetry::HOP;
use tokio::sync::{Notify, Semaphore, oneshot};

/// Questions that wait at a time.
const WAITING: usize = 256;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// There is no link.
    #[error("there is no link to the cloud")]
    NotConnected,
    /// The link was cut after the question was asked.
    #[error("the link to the cloud was lost before the answer came")]
    LinkLost,
    /// No answer came in time.
    #[error("the cloud did not answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The API server or the cloud refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What the API server said when it refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, thiserror::Error)]
#[serde(default)]
#[error("{}", if .message.is_empty() { "the cloud refused and did not say why" } else { .message })]
pub(crate) struct Refusal {
    /// HTTP status; 0 if unknown.
    pub(crate) code: u16,
    /// `NotFound`, `AlreadyExists` ..
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == 404 || self.reason == "NotFound"
    }

    pub(crate) fn already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }
}

impl From<ReplyError> for Refusal {
    fn from(e: ReplyError) -> Self {
        match e {
            ReplyError::Status(status) => status.to().unwrap_or_default(),
            ReplyError::Unknown => Self::default(),
        }
    }
}

/// The object in an answer, none for a plain `OK`.
///
/// # Errors
/// When the answer is a refusal, in whichever form.
pub(crate) fn object_of(body: ReplyBody) -> Result<Option<RawJson>, Refusal> {
    match body {
        ReplyBody::Ok => Ok(None),
        ReplyBody::Text(message) => Err(Refusal { message, ..Refusal::default() }),
        ReplyBody::Object { err: Some(e), .. } | ReplyBody::Error(e) => Err(e.into()),
        ReplyBody::Object { object, err: None } | ReplyBody::Plain(object) => {
            Ok((!object.is_null()).then_some(object))
        }
    }
}

/// A handle on the questions; clones share them.
#[derive(Clone)]
pub(crate) struct Requests {
    inner: Arc<Inner>,
}

struct Inner {
    table: Mutex<Table>,
    places: Semaphore,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    connected: bool,
    to_send: VecDeque<(MessageId, Request)>,
    waiting: HashMap<MessageId, Waiting>,
}

struct Waiting {
    tell: oneshot::Sender<Result<ReplyBody, RequestError>>,
    /// The object asked for, if the question is a query.
    object: Option<ObjectKey>,
}

/// Takes a question off the table when its asker has gone.
struct Asked<'a> {
    id: MessageId,
    inner: &'a Inner,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut table = self.inner.table.lock();
        table.waiting.remove(&self.id);
        table.to_send.retain(|(id, _)| *id != self.id);
    }
}

impl Requests {
    /// `wake` is told when there is something to send.
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self {
            inner: Arc::new(Inner {
                table: Mutex::default(),
                places: Semaphore::new(WAITING),
                wake,
            }),
        }
    }

    /// Asks the cloud and waits for its answer, at most `limit`.
    ///
    /// # Errors
    /// When there is no link, it is cut meanwhile, or no answer comes in time. A refusal is an answer.
    pub(crate) async fn ask(
        &self,
        request: Request,
        limit: Duration,
    ) -> Result<ReplyBody, RequestError> {
        if !self.inner.table.lock().connected {
            return Err(RequestError::NotConnected);
        }
        let answer = async {
            // The semaphore is never closed.
            let _place = self.inner.places.acquire().await;
            let id = MessageId::random();
            if tracing::enabled!(target: HOP, tracing::Level::TRACE) {
                let object = request.object().map(|key| key.to_string());
                let subject = object.unwrap_or_else(|| id.to_string());
                tracing::trace!(target: HOP, msg = subject, at = "edgehub.requests");
            }
            let (tell, told) = oneshot::channel();
            {
                let mut table = self.inner.table.lock();
                if !table.connected {
                    return Err(RequestError::NotConnected);
                }
                let object = match &request {
                    Request::Query(key) => Some(key.clone()),
                    _ => None,
                };
                table.waiting.insert(id.clone(), Waiting { tell, object });
                // A sign of life does not wait behind thirty pods that ask for their configmaps.
                if matches!(request, Request::CreateLease { .. } | Request::UpdateLease { .. }) {
                    table.to_send.push_front((id.clone(), request));
                } else {
                    table.to_send.push_back((id.clone(), request));
                }
            }
            let asked = Asked { id, inner: &self.inner };
            self.inner.wake.notify_one();
            let answer = told.await.unwrap_or(Err(RequestError::LinkLost));
            drop(asked);
            answer
        };
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(RequestError::TimedOut(limit)))
    }

    /// [`Requests::ask`], and the object in the answer.
    ///
    /// # Errors
    /// As `ask`, and when the answer is a refusal.
    pub(crate) async fn object(
        &self,
        request: Request,
        limit: Duration,
    ) -> Result<Option<RawJson>, RequestError> {
        Ok(object_of(self.ask(request, limit).await?)?)
    }

    /// The link is up: questions are taken from now on.
    pub(crate) fn link_up(&self) {
        self.inner.table.lock().connected = true;
    }

    /// The link is cut: all that wait fail now.
    pub(crate) fn link_cut(&self) {
        let lost = {
            let mut table = self.inner.table.lock();
            table.connected = false;
            table.to_send.clear();
            std::mem::take(&mut table.waiting)
        };
        for (_, waiting) in lost {
            let _ = waiting.tell.send(Err(RequestError::LinkLost));
        }
    }

    /// The next question to send: renewals of the lease first, else as they were asked.
    pub(crate) fn next(&self) -> Option<(MessageId, Upstream)> {
        let (id, request) = self.inner.table.lock().to_send.pop_front()?;
        Some((id, Upstream::Request(request)))
    }

    /// Whether a question waits to be sent.
    pub(crate) fn has_something(&self) -> bool {
        !self.inner.table.lock().to_send.is_empty()
    }

    /// The object that an answer to this question brings, if the question was a query.
    pub(crate) fn object_asked_for(&self, question: &MessageId) -> Option<ObjectKey> {
        self.inner.table.lock().waiting.get(question)?.object.clone()
    }

    /// Hands an answer to its asker; gives it back if nobody waits for it.
    pub(crate) fn answered(&self, reply: Reply) -> Result<(), Reply> {
        let waiting = self.inner.table.lock().waiting.remove(&reply.parent);
        match waiting {
            Some(waiting) => {
                let _ = waiting.tell.send(Ok(reply.body));
                Ok(())
            }
            None => Err(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn requests() -> Requests {
        Requests::new(Arc::new(Notify::new()))
    }

    fn reply(parent: MessageId) -> Reply {
        Reply { parent, resource: "k8s/ca.crt".into(), version: None, body: ReplyBody::Ok }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_link_a_question_fails_at_once() {
        let answer = requests().ask(Request::ApiServerCa, LIMIT).await;
        assert_eq!(answer, Err(RequestError::NotConnected));
    }

    #[tokio::test(start_paused = true)]
    async fn no_question_outlives_the_link() {
        let requests = requests();
        requests.link_up();
        let start = tokio::time::Instant::now();
        let (sent, unsent) = (requests.clone(), requests.clone());
        let sent = tokio::spawn(async move { sent.ask(Request::ApiServerCa, LIMIT).await });
        tokio::task::yield_now().await;
        assert!(requests.next().is_some());
        let unsent = tokio::spawn(async move { unsent.ask(Request::ApiServerCa, LIMIT).await });
        tokio::task::yield_now().await;
        requests.link_cut();
        assert_eq!(sent.await.unwrap(), Err(RequestError::LinkLost));
        assert_eq!(unsent.await.unwrap(), Err(RequestError::LinkLost));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(requests.next().is_none(), "an unsent question does not go through the next link");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_finds_its_asker_and_a_late_one_nobody() {
        let requests = requests();
        requests.link_up();
        let asker = requests.clone();
        let asked = tokio::spawn(async move { asker.ask(Request::ApiServerCa, LIMIT).await });
        tokio::task::yield_now().await;
        let (id, _) = requests.next().unwrap();
        assert!(requests.answered(reply(id.clone())).is_ok());
        assert_eq!(asked.await.unwrap(), Ok(ReplyBody::Ok));
        assert!(requests.answered(reply(id)).is_err());
        let late = requests.ask(Request::ApiServerCa, Duration::from_secs(1)).await;
        assert_eq!(late, Err(RequestError::TimedOut(Duration::from_secs(1))));
        assert!(requests.next().is_none(), "what nobody waits for is not sent");
    }

    #[test]
    fn refusals_come_in_four_forms() {
        let status = || RawJson::parse(r#"{"code":404,"reason":"NotFound","message":"no"}"#.into());
        let err = || ReplyError::Status(status().unwrap());
        let object = ReplyBody::Object { object: RawJson::null(), err: Some(err()) };
        assert!(object_of(object).unwrap_err().is_not_found());
        assert!(object_of(ReplyBody::Error(err())).unwrap_err().is_not_found());
        assert_eq!(object_of(ReplyBody::Text("no".into())).unwrap_err().to_string(), "no");
        let unknown = object_of(ReplyBody::Error(ReplyError::Unknown)).unwrap_err();
        assert_eq!(unknown.to_string(), "the cloud refused and did not say why");
    }
}

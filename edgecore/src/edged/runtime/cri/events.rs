//! What happens in the runtime, as it happens.
//!
//! CRI has an event stream since containerd 1.7; containerd's own has been there for longer and is
//! served on the same socket, so it is asked second. CRI-O has the first, if its configuration
//! says so.

use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::super::generated::containerd::events_client::EventsClient;
use super::super::generated::containerd::{Envelope, SubscribeRequest, TaskEvent};
use super::super::generated::cri::runtime_service_client::RuntimeServiceClient;
use super::super::generated::cri::{ContainerEventResponse, GetEventsRequest};
use super::super::{RuntimeError, RuntimeEvent};

/// A server that has the stream sends nothing until the first event; one that has not says so at
/// once. This long is "at once".
const SAYS_NO_WITHIN: Duration = Duration::from_millis(300);

/// Full: the runtime waits, and its own buffer is what overflows.
const WAITING: usize = 256;

/// Containers of CRI are in this namespace of containerd; others are not ours.
const FILTERS: [&str; 3] = [
    "namespace==\"k8s.io\",topic==\"/tasks/exit\"",
    "namespace==\"k8s.io\",topic==\"/tasks/oom\"",
    "namespace==\"k8s.io\",topic==\"/tasks/start\"",
];

pub(super) async fn subscribe(
    mut cri: RuntimeServiceClient<Channel>,
    mut containerd: EventsClient<Channel>,
) -> Result<Option<mpsc::Receiver<RuntimeEvent>>, RuntimeError> {
    let opening = tokio::spawn(async move { cri.get_container_events(GetEventsRequest {}).await });
    if let Some(rx) = forward(opening, of_cri).await? {
        return Ok(Some(rx));
    }
    let filters = FILTERS.iter().map(|f| (*f).to_owned()).collect();
    let opening =
        tokio::spawn(async move { containerd.subscribe(SubscribeRequest { filters }).await });
    forward(opening, of_containerd).await
}

type Opening<T> = tokio::task::JoinHandle<Result<tonic::Response<Streaming<T>>, Status>>;

/// Starts a task that turns the stream's items into events until either end is dropped. `None`:
/// the server has no such stream.
async fn forward<T: Send + 'static>(
    mut opening: Opening<T>,
    event: fn(T) -> RuntimeEvent,
) -> Result<Option<mpsc::Receiver<RuntimeEvent>>, RuntimeError> {
    let stream = match tokio::time::timeout(SAYS_NO_WITHIN, &mut opening).await {
        Err(_) => None, // it is there, and silent
        Ok(Ok(Ok(response))) => Some(response.into_inner()),
        Ok(Ok(Err(status))) if status.code() == Code::Unavailable => {
            return Err(RuntimeError::Refused(status.message().to_owned()));
        }
        Ok(Ok(Err(status))) => {
            tracing::debug!(why = status.message(), "the runtime has no such event stream");
            return Ok(None);
        }
        Ok(Err(e)) => return Err(RuntimeError::Refused(e.to_string())),
    };
    let (tx, rx) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut stream = match stream {
            Some(stream) => stream,
            None => tokio::select! {
                () = tx.closed() => {
                    opening.abort();
                    return;
                }
                opened = &mut opening => match opened {
                    Ok(Ok(response)) => response.into_inner(),
                    _ => return,
                },
            },
        };
        loop {
            let item = tokio::select! {
                () = tx.closed() => return,
                item = stream.message() => item,
            };
            let Ok(Some(item)) = item else { return };
            if tx.send(event(item)).await.is_err() {
                return;
            }
        }
    });
    Ok(Some(rx))
}

fn of_cri(e: ContainerEventResponse) -> RuntimeEvent {
    let pod_uid = e.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
    RuntimeEvent::Changed { id: e.container_id, pod_uid }
}

fn of_containerd(e: Envelope) -> RuntimeEvent {
    match e.event.map(|any| TaskEvent::decode(any.value.as_slice())) {
        Some(Ok(task)) => RuntimeEvent::Changed { id: task.container_id, pod_uid: None },
        _ => RuntimeEvent::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::generated::containerd::Any;
    use super::*;

    #[test]
    fn a_task_event_names_its_container() {
        // TaskExit{container_id: "c1", id: "c1", pid: 7, exit_status: 3}
        let value = vec![10, 2, b'c', b'1', 18, 2, b'c', b'1', 24, 7, 32, 3];
        let envelope = Envelope {
            namespace: "k8s.io".to_owned(),
            topic: "/tasks/exit".to_owned(),
            event: Some(Any { type_url: "containerd.events.TaskExit".to_owned(), value }),
        };
        let event = of_containerd(envelope);
        assert_eq!(event, RuntimeEvent::Changed { id: "c1".to_owned(), pod_uid: None });
    }

    #[test]
    fn an_event_that_cannot_be_read_means_look_at_everything() {
        let broken = Any { type_url: String::new(), value: vec![0xff] };
        let envelope = Envelope { event: Some(broken), ..Envelope::default() };
        assert_eq!(of_containerd(envelope), RuntimeEvent::Missed);
    }
}

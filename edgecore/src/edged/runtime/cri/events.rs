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
use super::super::generated::containerd::{Envelope, SubscribeRequest, TaskEvent, TaskExit};
use super::super::generated::cri::runtime_service_client::RuntimeServiceClient;
use super::super::generated::cri::{ContainerEventResponse, GetEventsRequest};
use super::super::{RuntimeError, RuntimeEvent};

/// A server that has the stream sends nothing until the first event; one that has not says so at
/// once. This long is "at once".
const SAYS_NO_WITHIN: Duration = Duration::from_millis(300);

/// Full: the runtime waits, and its own buffer is what overflows.
const WAITING: usize = 256;

/// Containers of CRI are in this namespace of containerd; others are not ours. After an exit
/// comes the deletion of what ran, and just then lists begin to show the exit.
const FILTERS: [&str; 2] = [
    "namespace==\"k8s.io\",topic==\"/tasks/exit\"",
    "namespace==\"k8s.io\",topic==\"/tasks/delete\"",
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
    event: fn(T) -> Option<RuntimeEvent>,
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
            if let Some(event) = event(item)
                && tx.send(event).await.is_err()
            {
                return;
            }
        }
    });
    Ok(Some(rx))
}

fn of_cri(e: ContainerEventResponse) -> Option<RuntimeEvent> {
    let pod_uid = e.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
    Some(RuntimeEvent::Changed { id: e.container_id, pod_uid })
}

fn of_containerd(e: Envelope) -> Option<RuntimeEvent> {
    let value = e.event.unwrap_or_default().value;
    if e.topic == "/tasks/exit" {
        return match TaskExit::decode(value.as_slice()) {
            // A process of an exec: the container goes on.
            Ok(exit) if !exit.id.is_empty() && exit.id != exit.container_id => None,
            Ok(exit) => {
                let at = exit.exited_at.unwrap_or_default();
                Some(RuntimeEvent::Exited {
                    id: exit.container_id,
                    exit_code: exit.exit_status.cast_signed(),
                    at: at.seconds.saturating_mul(1_000_000_000) + i64::from(at.nanos),
                })
            }
            Err(_) => Some(RuntimeEvent::Missed),
        };
    }
    Some(match TaskEvent::decode(value.as_slice()) {
        Ok(task) => RuntimeEvent::Changed { id: task.container_id, pod_uid: None },
        Err(_) => RuntimeEvent::Missed,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::generated::containerd::{Any, Timestamp};
    use super::*;

    fn exit(id: &str) -> Envelope {
        let exit = TaskExit {
            container_id: "c1".to_owned(),
            id: id.to_owned(),
            exit_status: 3,
            exited_at: Some(Timestamp { seconds: 5, nanos: 7 }),
        };
        Envelope {
            namespace: "k8s.io".to_owned(),
            topic: "/tasks/exit".to_owned(),
            event: Some(Any { type_url: String::new(), value: exit.encode_to_vec() }),
        }
    }

    #[test]
    fn an_exit_of_the_container_itself_is_told_with_its_code() {
        let event = of_containerd(exit("c1"));
        let want = RuntimeEvent::Exited { id: "c1".to_owned(), exit_code: 3, at: 5_000_000_007 };
        assert_eq!(event, Some(want));
        assert_eq!(of_containerd(exit("a-probe")), None);
    }

    #[test]
    fn a_deletion_names_its_container() {
        let value = TaskEvent { container_id: "c1".to_owned() }.encode_to_vec();
        let envelope = Envelope {
            topic: "/tasks/delete".to_owned(),
            event: Some(Any { type_url: String::new(), value }),
            ..Envelope::default()
        };
        let want = RuntimeEvent::Changed { id: "c1".to_owned(), pod_uid: None };
        assert_eq!(of_containerd(envelope), Some(want));
    }

    #[test]
    fn an_event_that_cannot_be_read_means_look_at_everything() {
        for topic in ["/tasks/exit", "/tasks/delete"] {
            let broken = Any { type_url: String::new(), value: vec![0xff] };
            let envelope =
                Envelope { topic: topic.to_owned(), event: Some(broken), ..Envelope::default() };
            assert_eq!(of_containerd(envelope), Some(RuntimeEvent::Missed));
        }
    }
}

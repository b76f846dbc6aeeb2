//! What changed in the container runtime.
//!
//! Owns: the event stream if the runtime has one, and the periodic look at everything.
//! Called by: spawned by `pods.rs`; tells it which pods to look at.
//! Never: says what changed: the worker looks for itself.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::clock::Nanos;
use super::runtime::{ContainerRuntime, Listing, RuntimeEvent, SeenSandbox};
use super::worker::Shared;

/// Without events.
const RELIST: Duration = Duration::from_secs(1);
/// With events: repairs what was lost.
const RELIST_WITH_EVENTS: Duration = Duration::from_secs(15);
/// Before a broken event stream is asked for again.
const EVENTS_AGAIN: Duration = Duration::from_secs(2);

/// How and when a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) at: Nanos,
}

/// Something to look at.
#[derive(Debug)]
pub(crate) enum Change {
    /// This pod's containers or sandboxes; which of them, if it is known.
    Pod { uid: Arc<str>, container: Option<String> },
    /// A container of this pod ended, even if lists do not show it yet.
    Exited { uid: Arc<str>, container: String, exit: Exit },
    /// A sandbox was seen; whoever it belongs to may be unknown here.
    Found(Box<SeenSandbox>),
    /// The first look is done: what was found until now is all that there is.
    Listed,
}

/// A short mark of all that a list says, per pod.
type Marks = HashMap<Arc<str>, u64>;

/// Looks and listens until the service stops. Changes wait when the receiver is busy.
pub(crate) async fn run(shared: Arc<Shared>, changes: mpsc::Sender<Change>) {
    let mut marks = Marks::new();
    let mut listed = false;
    let mut events = open(shared.runtime.as_ref()).await;
    let mut ask_again = tokio::time::Instant::now() + EVENTS_AGAIN;
    let mut has_events = events.is_some();
    loop {
        match shared.runtime.list(None).await {
            Ok(listing) => {
                for change in differences(&mut marks, listing) {
                    if changes.send(change).await.is_err() {
                        return;
                    }
                }
                if !listed {
                    listed = true;
                    let _ = changes.send(Change::Listed).await;
                }
            }
            Err(e) => tracing::warn!(error = %e, "cannot list what the container runtime holds"),
        }
        let pause = if events.is_some() && listed { RELIST_WITH_EVENTS } else { RELIST };
        let relist = tokio::time::sleep(pause);
        tokio::pin!(relist);
        loop {
            tokio::select! {
                () = shared.stopping.cancelled() => return,
                () = &mut relist => break,
                event = next(&mut events) => match event {
                    None => {
                        tracing::debug!("the runtime's event stream ended");
                        events = None;
                        break;
                    }
                    Some(RuntimeEvent::Missed) => break,
                    Some(RuntimeEvent::Exited { id, exit_code, at }) => {
                        let owner = shared.owners.lock().get(&id).cloned();
                        let Some(uid) = owner else { continue };
                        let exit = Exit { code: exit_code, at };
                        let change = Change::Exited { uid, container: id, exit };
                        if changes.send(change).await.is_err() {
                            return;
                        }
                    }
                    Some(RuntimeEvent::Changed { id, pod_uid }) => {
                        let owner = shared.owners.lock().get(&id).cloned();
                        let Some(uid) = owner.or_else(|| pod_uid.map(Arc::from)) else { continue };
                        let change = Change::Pod { uid, container: Some(id) };
                        if changes.send(change).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
        if events.is_none() && has_events && tokio::time::Instant::now() >= ask_again {
            events = open(shared.runtime.as_ref()).await;
            has_events = has_events || events.is_some();
            ask_again = tokio::time::Instant::now() + EVENTS_AGAIN;
        }
    }
}

async fn open(runtime: &dyn ContainerRuntime) -> Option<mpsc::Receiver<RuntimeEvent>> {
    match runtime.events().await {
        Ok(None) => {
            tracing::info!("the container runtime has no events; it is asked once a second");
            None
        }
        Ok(events) => events,
        Err(e) => {
            tracing::warn!(error = %e, "cannot subscribe to the runtime's events");
            None
        }
    }
}

async fn next(events: &mut Option<mpsc::Receiver<RuntimeEvent>>) -> Option<RuntimeEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Which pods look otherwise than at the last list, and all sandboxes that are new. Pure.
fn differences(marks: &mut Marks, listing: Listing) -> Vec<Change> {
    let mut hashers: HashMap<&str, DefaultHasher> = HashMap::new();
    let mut owner: HashMap<&str, &str> = HashMap::new();
    let Listing { mut sandboxes, mut containers } = listing;
    sandboxes.retain(|s| !s.uid.is_empty());
    sandboxes.sort_by(|a, b| a.id.cmp(&b.id));
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    for s in &sandboxes {
        owner.insert(&s.id, &s.uid);
        (&s.id, s.ready).hash(hashers.entry(&s.uid).or_default());
    }
    for c in &containers {
        if let Some(uid) = owner.get(c.sandbox_id.as_str()) {
            (&c.id, c.state as u8).hash(hashers.entry(uid).or_default());
        }
    }
    let fresh: Marks = hashers.into_iter().map(|(uid, h)| (Arc::from(uid), h.finish())).collect();
    let changed: Vec<Arc<str>> = fresh
        .iter()
        .filter(|(uid, mark)| marks.get(*uid) != Some(*mark))
        .map(|(uid, _)| uid.clone())
        .chain(marks.keys().filter(|uid| !fresh.contains_key(*uid)).cloned())
        .collect();
    let mut changes: Vec<Change> = sandboxes
        .into_iter()
        .filter(|s| changed.iter().any(|uid| **uid == *s.uid))
        .map(|s| Change::Found(Box::new(s)))
        .collect();
    changes.extend(changed.into_iter().map(|uid| Change::Pod { uid, container: None }));
    *marks = fresh;
    changes
}

#[cfg(test)]
mod tests {
    use super::super::runtime::{ContainerState, SeenContainer};
    use super::*;

    fn listing(state: ContainerState) -> Listing {
        let sandbox = |id: &str, uid: &str| SeenSandbox {
            id: id.to_owned(),
            uid: uid.to_owned(),
            ready: true,
            ..SeenSandbox::default()
        };
        Listing {
            sandboxes: vec![sandbox("s1", "u1"), sandbox("s2", "u2"), sandbox("s3", "")],
            containers: vec![SeenContainer {
                id: "c1".to_owned(),
                sandbox_id: "s1".to_owned(),
                state,
                ..SeenContainer::default()
            }],
        }
    }

    fn pods(changes: Vec<Change>) -> Vec<String> {
        let mut uids: Vec<String> = changes
            .into_iter()
            .filter_map(|c| match c {
                Change::Pod { uid, .. } => Some(uid.to_string()),
                _ => None,
            })
            .collect();
        uids.sort();
        uids
    }

    #[test]
    fn only_pods_that_look_otherwise_are_looked_at() {
        let mut marks = Marks::new();
        let mut look = |l| pods(differences(&mut marks, l));
        assert_eq!(look(listing(ContainerState::Running)), ["u1", "u2"]);
        assert!(look(listing(ContainerState::Running)).is_empty());
        assert_eq!(look(listing(ContainerState::Exited)), ["u1"]);
        assert_eq!(look(Listing::default()), ["u1", "u2"]);
    }
}

//! How modules tell the cloud something.
//!
//! Owns: the outbox, behind a lock that is never held across an await.
//! Called by: edged, devicetwin, eventbus, taskmanager; the session takes from it.
//! Never: waits for the link. A status is on the disk when its call returns.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names::{Kind, MessageId, Namespace, ObjectKey, Uid};
use api::raw::RawJson;
use api::twin::message::{MsgTwin, StateReport};
use api::twin::topics::DeviceId;
use api::wire::upstream::{EventOp, EventReport, Upstream};
use k8s_openapi::api::core::v1::{Event, Pod, PodStatus};
use parking_lot::Mutex;
use serde_json::{Value, json};
use service::telemetry::HOP;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::outbox::{Outbox, PodId, Verdict};
use crate::metamanager::{ObjectError, Store, apply};

/// A handle on what the cloud must be told; clones share it.
#[derive(Clone)]
pub(crate) struct ToCloud {
    outbox: Arc<Mutex<Outbox>>,
    wake: Arc<Notify>,
    store: Store,
}

impl ToCloud {
    /// `wake` is told when there is something to send.
    pub(crate) fn new(store: Store, wake: Arc<Notify>) -> Self {
        Self { outbox: Arc::default(), wake, store }
    }

    /// Reports the whole status of a pod: onto the disk, then to the cloud. The newest wins.
    ///
    /// # Errors
    /// When the pod has no name or uid, or the database fails; the status is reported all the same.
    pub(crate) async fn pod_status(
        &self,
        pod: &Pod,
        status: &PodStatus,
    ) -> Result<(), ObjectError> {
        let id = pod_id(pod)?;
        let patch = status_patch(&id.uid, status)?;
        let (pod, text) = (id.key.clone(), patch.clone());
        let stored = self.store.write(move |tx| apply::patch(tx, &pod, &text)).await;
        offered(&id.key);
        self.outbox.lock().pod_status(id, patch);
        self.wake.notify_one();
        Ok(stored?)
    }

    /// Says that nothing of a pod runs any more, so that the API server removes it. Kept until the
    /// cloud has answered, but not over a restart: edged then finds the same again.
    pub(crate) async fn pod_gone(&self, key: ObjectKey, uid: Uid) {
        offered(&key);
        self.outbox.lock().pod_gone(PodId { key, uid });
        self.wake.notify_one();
    }

    /// Records an event; dropped and counted when there is no link or too many wait.
    pub(crate) fn event(&self, event: Event) {
        let Some(report) = event_report(&event) else {
            tracing::debug!("an event without a name is not sent");
            return;
        };
        offered(&report.key);
        self.outbox.lock().event(report);
        self.wake.notify_one();
    }

    /// Creates the mirror of a static pod.
    ///
    /// # Errors
    /// When the pod has no name or uid.
    pub(crate) async fn mirror_pod(&self, pod: &Pod) -> Result<(), ObjectError> {
        let id = pod_id(pod)?;
        let object = RawJson::of(pod).map_err(|e| ObjectError::unreadable(&id.key, &e))?;
        offered(&id.key);
        self.outbox.lock().mirror_pod(id, object);
        self.wake.notify_one();
        Ok(())
    }

    /// Reports properties of a device; they are in the store already. Waiting ones merge.
    pub(crate) fn device_twin(&self, device: DeviceId, twin: BTreeMap<String, Option<MsgTwin>>) {
        self.outbox.lock().devices().twin(device, twin);
        self.wake.notify_one();
    }

    /// Reports the state of a device. The newest wins.
    pub(crate) fn device_state(&self, device: DeviceId, report: StateReport) {
        self.outbox.lock().devices().state(device, report);
        self.wake.notify_one();
    }

    /// A device is gone: the cloud is told nothing more of it.
    pub(crate) fn forget_device(&self, device: &DeviceId) {
        self.outbox.lock().devices().forget(device);
    }

    /// The cloud has a report of a device.
    pub(crate) fn device_confirmed(&self, report: &MessageId) {
        self.outbox.lock().devices().confirmed(report);
        self.wake.notify_one();
    }

    /// Asks the cloud for the node's devices, once in this link. The answer, if the cloud gives one,
    /// comes as a message of its own.
    pub(crate) fn ask_for_devices(&self, question: RawJson) {
        self.outbox.lock().devices().ask(question);
        self.wake.notify_one();
    }

    /// A message of an MQTT topic. Nobody confirms it; the oldest goes when too many wait.
    pub(crate) fn upload(&self, topic: &str, payload: &[u8]) {
        self.outbox.lock().uploads().offer(topic, payload);
        self.wake.notify_one();
    }

    /// Reports a step of a node job; kept until it is written to the socket. Returns its number.
    pub(crate) fn task(&self, report: Upstream) -> u64 {
        let number = self.outbox.lock().tasks().offer(report);
        self.wake.notify_one();
        number
    }

    /// Follows the numbers of the reports of node jobs that were written.
    pub(crate) fn tasks_sent(&self) -> watch::Receiver<u64> {
        self.outbox.lock().tasks().sent()
    }

    /// The answer to a report.
    pub(crate) fn answered(&self, id: &MessageId, verdict: Verdict, now: Instant) {
        self.outbox.lock().answered(id, verdict, now);
        self.wake.notify_one();
    }

    /// The link is up.
    pub(crate) fn link_up(&self) {
        self.outbox.lock().link_up();
        self.wake.notify_one();
    }

    /// The link is cut.
    pub(crate) fn link_cut(&self) {
        self.outbox.lock().link_cut();
    }

    /// The outbox, for whoever may outlive the database.
    pub(crate) fn shared_outbox(&self) -> Arc<Mutex<Outbox>> {
        Arc::clone(&self.outbox)
    }

    /// The outbox itself, for the session.
    pub(crate) fn outbox(&self) -> parking_lot::MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }
}

fn offered(key: &ObjectKey) {
    tracing::trace!(target: HOP, msg = %key, at = "edgehub.outbox");
}

fn pod_id(pod: &Pod) -> Result<PodId, ObjectError> {
    let meta = &pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or("default").parse::<Namespace>();
    let uid = meta.uid.as_deref().unwrap_or_default().parse::<Uid>();
    match (namespace, uid) {
        (Ok(namespace), Ok(uid)) if !name.is_empty() => {
            Ok(PodId { key: ObjectKey::new(namespace, Kind::Pod, name), uid })
        }
        _ => Err(ObjectError::Nameless { what: format!("pod `{name}`") }),
    }
}

/// A strategic merge patch that makes the status what it is here, whatever it was before: lists
/// that the API server would merge by address are replaced, absent texts are removed. Conditions of
/// others stay.
fn status_patch(uid: &Uid, status: &PodStatus) -> Result<String, ObjectError> {
    let unreadable = |e: serde_json::Error| ObjectError::Unreadable {
        what: "pod status".into(),
        why: e.to_string(),
    };
    let status = RawJson::of(status).and_then(|text| text.to::<Value>());
    let mut status = status.map_err(unreadable)?;
    if let Some(fields) = status.as_object_mut() {
        for list in ["podIPs", "hostIPs"] {
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                items.push(json!({"$patch": "replace"}));
            }
        }
        for text in ["message", "reason"] {
            fields.entry(text).or_insert(Value::Null);
        }
    }
    let patch = json!({"metadata": {"uid": uid.as_str()}, "status": status});
    serde_json::to_string(&patch).map_err(unreadable)
}

fn event_report(event: &Event) -> Option<EventReport> {
    let name = event.metadata.name.as_deref().filter(|n| !n.is_empty())?;
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default").parse().ok()?;
    Some(EventReport {
        key: ObjectKey::new(namespace, Kind::Event, name),
        op: EventOp::Insert,
        content: RawJson::of(event).ok()?,
    })
}

//! What edge nodes say of devices, into their DeviceStatus.
//!
//! Owns: the writer of DeviceStatus objects.
//! Called by: `cloudhub::dispatch` (reports), `downstream.rs` (devices come and go).
//! Never: believes a node about a device that is not attached to it.

use std::sync::Arc;
use std::time::Duration;

use api::crd::devices::DeviceStatusStatus;
use api::names::{Kind, MessageId, Namespace, NodeName, ObjectKey};
use api::raw::RawJson;
use api::twin::message::{self, StateReport, TwinUpdate};
use api::wire::Upstream as Said;
use api::wire::downstream::Downstream as Tell;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, trace, warn};

use super::index::Index;
use super::membership;
use super::reports::{Confirm, ReportError, Reports, Stored, Write, Wrote};
use crate::apiserver::{ApiError, ApiServer, Patch, Path};
use crate::cloudhub::registry::{Origin, Registry};
use crate::metrics::{Drop as Dropped, Metrics};
use crate::object::DEVICES;
use crate::status::{self, Passage};
use crate::watching::PAUSE;

/// Writes at one time.
const WRITERS: usize = 16;
/// What the last writes may take when cloudcore stops.
const LAST: Duration = Duration::from_secs(3);
const PLURAL: &str = "devicestatuses";

/// Why a message was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is attached to another node, or to none")]
    NotYours,
    #[error(transparent)]
    Payload(#[from] message::PayloadError),
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// See the module.
#[derive(Clone)]
pub struct Upstream {
    api: ApiServer,
    registry: Arc<Registry>,
    index: Arc<Mutex<Index>>,
    reports: Arc<Mutex<Reports>>,
    /// There may be something to write.
    wake: Arc<Notify>,
    /// Whether all devices are known; before, one that is not known is not refused for good.
    live: tokio::sync::watch::Receiver<bool>,
    metrics: Metrics,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("devicecontroller::Upstream")
    }
}

impl Upstream {
    /// Nothing reported yet.
    pub fn new(
        api: ApiServer,
        registry: Arc<Registry>,
        index: Arc<Mutex<Index>>,
        live: tokio::sync::watch::Receiver<bool>,
        metrics: Metrics,
    ) -> Self {
        let (reports, wake) = (Arc::default(), Arc::default());
        Self { api, registry, index, reports, wake, live, metrics }
    }

    /// Deals with a message about devices, and with no other.
    pub fn hear(&self, from: &Origin, id: MessageId, said: Said, passage: &Passage) {
        let (kind, what, outcome) = match said {
            Said::DeviceTwin { namespace, name, content } => {
                let key = device(namespace, &name);
                let outcome = self.twins(from, &id, &key, &content, passage);
                ("devicetwin", key.to_string(), outcome)
            }
            Said::DeviceState { namespace, name, content } => {
                let key = device(namespace, &name);
                let outcome = self.state(from, &id, &key, &content, passage);
                ("devicestate", key.to_string(), outcome)
            }
            Said::MembershipDetail(_) => {
                self.list(from, id.clone());
                ("membership", String::new(), Ok(()))
            }
            _ => return,
        };
        trace!(target: "hop", msg = %id, at = "devicecontroller.upstream");
        let node = &from.node;
        let shown = self.registry.status();
        let Err(refused) = outcome else {
            self.metrics.device_reports.inc();
            return shown.heard(node, kind, &what, "ok", passage);
        };
        shown.heard(node, kind, &what, &refused.to_string(), passage);
        if !*self.live.borrow() {
            return debug!(%node, device = what, "not all devices are known yet; it is said again");
        }
        self.metrics.dropped(refused.counts_as(), 1);
        shown.dropped(node, 1);
        warn!(%node, device = what, why = %refused, "a report is refused");
        // It would be said again for ever.
        self.registry.tell(from, Tell::TwinConfirm(id));
    }

    fn twins(
        &self,
        from: &Origin,
        id: &MessageId,
        key: &ObjectKey,
        content: &RawJson,
        passage: &Passage,
    ) -> Result<(), Refused> {
        self.owned(&from.node, key)?;
        let update: TwinUpdate = message::decode(content.text().as_bytes())?;
        let confirm = Confirm { to: from.clone(), id: id.clone() };
        let shown = {
            let mut reports = self.reports.lock();
            reports.twins(key, update.twin, confirm, Instant::now())?;
            reports.status(key)
        };
        self.reported(key, shown, passage);
        Ok(())
    }

    fn state(
        &self,
        from: &Origin,
        id: &MessageId,
        key: &ObjectKey,
        content: &RawJson,
        passage: &Passage,
    ) -> Result<(), Refused> {
        self.owned(&from.node, key)?;
        let report: StateReport = message::decode(content.text().as_bytes())?;
        let confirm = Confirm { to: from.clone(), id: id.clone() };
        let shown = {
            let mut reports = self.reports.lock();
            reports.state(key, report.device, confirm, Instant::now())?;
            reports.status(key)
        };
        self.reported(key, shown, passage);
        Ok(())
    }

    fn reported(&self, key: &ObjectKey, shown: Option<DeviceStatusStatus>, passage: &Passage) {
        if let Some(shown) = shown {
            self.registry.status().device_reported(key, &shown, Some(passage.at));
        }
        self.wake.notify_one();
    }

    fn owned(&self, node: &NodeName, key: &ObjectKey) -> Result<(), Refused> {
        let index = self.index.lock();
        match index.device(key) {
            Some((Some(owner), _)) if owner == node => Ok(()),
            Some(_) => Err(Refused::NotYours),
            None => Err(ReportError::Unknown.into()),
        }
    }

    /// A node asks which devices are its own. Before all are known it is not told: what is not in
    /// the list it would remove.
    fn list(&self, from: &Origin, id: MessageId) {
        if !*self.live.borrow() {
            return;
        }
        let index = self.index.lock();
        let list = membership::list(index.devices_of(&from.node), status::now());
        self.registry.tell(from, Tell::TwinConfirm(id));
        if let Some(list) = list {
            self.registry.tell(from, list);
        }
    }

    /// A device is there.
    pub(super) fn device(&self, key: &ObjectKey, uid: &api::names::Uid) {
        self.reports.lock().device(key, uid, Instant::now());
        self.wake.notify_one();
    }

    /// A device is gone.
    pub(super) fn forget(&self, key: &ObjectKey) {
        self.reports.lock().forget(key);
    }

    /// Reads what is stored, then writes for ever.
    pub(super) async fn run(&self) {
        let mut attempt = 0;
        while let Err(error) = self.load().await {
            if attempt == 0 {
                warn!(%error, "the DeviceStatuses cannot be read; reports are not written yet");
            }
            tokio::time::sleep(PAUSE.next_delay(attempt)).await;
            attempt += 1;
        }
        self.write_loop().await;
    }

    /// Writes what was reported last, due or not; a server that is away is not waited for.
    pub(super) async fn finish(&self) {
        let last = self.write_all(Instant::now() + super::reports::EVERY);
        let _ = tokio::time::timeout(LAST, last).await;
    }

    async fn load(&self) -> Result<(), ApiError> {
        let (mut count, mut more) = (0, None);
        loop {
            let page = self.api.page(&Path::of(DEVICES, PLURAL, None)?, more.as_deref()).await?;
            for item in &page.items {
                count += usize::from(self.load_one(item).is_some());
            }
            more = page.more;
            if more.is_none() {
                break;
            }
        }
        info!(devices = count, "read what devices have reported");
        Ok(())
    }

    fn load_one(&self, item: &RawJson) -> Option<()> {
        let head = item.head().ok()?.metadata;
        let key = device(head.namespace?.parse().ok()?, &head.name?);
        let stored = stored(item)?;
        let shown = {
            let mut reports = self.reports.lock();
            reports.load(&key, stored);
            reports.status(&key)?
        };
        self.registry.status().device_reported(&key, &shown, None);
        Some(())
    }

    async fn write_loop(&self) {
        let mut running = JoinSet::new();
        loop {
            let now = Instant::now();
            let next = {
                let mut reports = self.reports.lock();
                while running.len() < WRITERS {
                    let Some(write) = reports.take(now) else { break };
                    let this = self.clone();
                    running.spawn(async move { this.write(write).await });
                }
                self.metrics
                    .device_writes_waiting
                    .set(i64::try_from(reports.waiting()).unwrap_or(i64::MAX));
                reports.next()
            };
            let full = running.len() >= WRITERS;
            let at = async {
                match next {
                    Some(at) if !full => tokio::time::sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(_) = running.join_next() => {}
                () = self.wake.notified(), if !full => {}
                () = at => {}
            }
        }
    }

    async fn write_all(&self, until: Instant) {
        let mut running = JoinSet::new();
        loop {
            while running.len() < WRITERS {
                let Some(write) = self.reports.lock().take(until) else { break };
                let this = self.clone();
                running.spawn(async move { this.write(write).await });
            }
            if running.join_next().await.is_none() {
                return;
            }
        }
    }

    async fn write(&self, write: Write) {
        let outcome = match self.attempt(&write).await {
            Ok(outcome) => outcome,
            Err(error) => {
                debug!(device = %write.key, %error, "a DeviceStatus could not be written");
                Wrote::Failed
            }
        };
        if matches!(outcome, Wrote::Done) {
            self.metrics.device_writes.inc();
        }
        let confirms = self.reports.lock().wrote(write, outcome, Instant::now());
        for confirm in confirms {
            self.registry.tell(&confirm.to, Tell::TwinConfirm(confirm.id));
        }
        self.wake.notify_one();
    }

    async fn attempt(&self, write: &Write) -> Result<Wrote, ApiError> {
        let namespace = write.key.namespace.as_ref().map(|n| n.as_str());
        let collection = Path::of(DEVICES, PLURAL, namespace)?;
        let path = collection.clone().named(&write.key.name)?;
        let bad = |e: serde_json::Error| ApiError::Unreachable(e.to_string());
        if !write.create {
            let patch = RawJson::of(&patch(&write.status)).map_err(bad)?;
            return match self.api.patch(&path, Patch::Merge, &patch).await {
                Ok(_) => Ok(Wrote::Done),
                Err(error) if error.is_not_found() => Ok(Wrote::Missing),
                Err(error) => Err(error),
            };
        }
        let object = RawJson::of(&new(write)).map_err(bad)?;
        match self.api.create(&collection, &object).await {
            Ok(_) => Ok(Wrote::Done),
            Err(error) if error.already_exists() => {
                let there = self.api.get(&path).await?;
                Ok(stored(&there).map_or(Wrote::Failed, Wrote::Exists))
            }
            Err(error) => Err(error),
        }
    }
}

impl Refused {
    fn counts_as(&self) -> Dropped {
        match self {
            Refused::NotYours => Dropped::NotAllowed,
            Refused::Payload(_) => Dropped::Undecodable,
            Refused::Report(_) => Dropped::DeviceReport,
        }
    }
}

fn device(namespace: Namespace, name: &str) -> ObjectKey {
    ObjectKey::new(namespace, Kind::Device, name)
}

fn stored(object: &RawJson) -> Option<Stored> {
    #[derive(Deserialize)]
    struct Whole {
        metadata: Meta,
        #[serde(default)]
        status: Option<DeviceStatusStatus>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        #[serde(default)]
        owner_references: Option<Vec<Owner>>,
    }
    #[derive(Deserialize)]
    struct Owner {
        kind: String,
        uid: String,
    }
    let Whole { metadata, status } = object.to().ok()?;
    let mut owners = metadata.owner_references.into_iter().flatten();
    let owner = owners.find(|o| o.kind == "Device").and_then(|o| o.uid.parse().ok());
    Some(Stored { owner, status: status.unwrap_or_default() })
}

/// A merge patch replaces a list as a whole, so all properties are in it, none of them included.
fn patch(status: &DeviceStatusStatus) -> serde_json::Value {
    let mut patch = json!({ "twins": status.twins });
    if let Some(state) = &status.state {
        patch["state"] = state.as_str().into();
    }
    if let Some(time) = &status.last_online_time {
        patch["lastOnlineTime"] = time.as_str().into();
    }
    json!({ "status": patch })
}

/// The DeviceStatus goes when its device does.
fn new(write: &Write) -> serde_json::Value {
    json!({
        "apiVersion": DEVICES,
        "kind": "DeviceStatus",
        "metadata": {
            "name": write.key.name,
            "namespace": write.key.namespace.as_ref().map(|n| n.as_str()),
            "ownerReferences": [{
                "apiVersion": DEVICES,
                "kind": "Device",
                "name": write.key.name,
                "uid": write.uid.as_str(),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {},
        "status": write.status,
    })
}

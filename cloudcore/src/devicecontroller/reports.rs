//! What devices have reported, and what of it still has to be written.
//!
//! Reports of one device between two writes become one write, so a device costs the API server at
//! most one a second, however much it talks; of each property the newest value is written. A report
//! is confirmed only after the write that has it: one that is lost with cloudcore is said again.
//!
//! Owns: a copy of the status of every DeviceStatus, ahead of the API server's.
//! Called by: `upstream.rs`, under its lock.
//! Never: does I/O, or reads a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use api::crd::devices::{DeviceStatusStatus, Twin, TwinProperty};
use api::names::{MessageId, ObjectKey, Uid};
use api::twin::message::{DeviceState, MsgTwin, TwinValue, TwinVersion};
use service::backoff::Backoff;
use tokio::time::Instant;

use crate::cloudhub::registry::Origin;

/// Between the starts of two writes of one device.
pub const EVERY: Duration = Duration::from_secs(1);
/// After a failed write.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The type of a property that the edge has deleted.
const DELETED: &str = "deleted";
/// Properties of one device.
pub const PROPERTIES: usize = 512;
/// Bytes of names, values and metadata of one device; an object may have three times this.
pub const BYTES: usize = 512 << 10;
/// Confirmations that wait for one write; of more the oldest is dropped, and its report said again.
const CONFIRMS: usize = 64;
/// The states that KubeEdge knows.
const STATES: [&str; 5] = ["online", "offline", "ok", "unknown", "unhealthy"];

/// Why a report was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not in the cluster.
    #[error("there is no such device")]
    Unknown,
    /// More than [`PROPERTIES`].
    #[error("it would have more than {PROPERTIES} properties")]
    TooMany,
    /// More than [`BYTES`].
    #[error("its values would exceed {BYTES} bytes")]
    TooLarge,
    /// None of the known states.
    #[error("the state is none of {}", STATES.join(", "))]
    State,
}

/// A report to confirm once it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// Who reported.
    pub to: Origin,
    /// The report.
    pub id: MessageId,
}

/// One write to the API server.
#[derive(Debug)]
pub struct Write {
    /// The device.
    pub key: ObjectKey,
    /// Its incarnation.
    pub uid: Uid,
    /// The DeviceStatus is not there yet.
    pub create: bool,
    /// All of it.
    pub status: DeviceStatusStatus,
    /// What to confirm then.
    pub confirms: VecDeque<Confirm>,
}

/// A DeviceStatus as the API server has it.
#[derive(Debug, Default)]
pub struct Stored {
    /// The uid of the device that owns it, if one does.
    pub owner: Option<Uid>,
    /// What it says.
    pub status: DeviceStatusStatus,
}

/// What became of a write.
#[derive(Debug)]
pub enum Wrote {
    /// It is written.
    Done,
    /// There is no such object: create it.
    Missing,
    /// It was to be created, and is there: this is what it has.
    Exists(Stored),
    /// It failed; to be tried again.
    Failed,
}

#[derive(Debug, Default)]
struct Entry {
    uid: Option<Uid>,
    twins: BTreeMap<String, Twin>,
    versions: HashMap<String, (TwinVersion, i64)>,
    bytes: usize,
    state: Option<String>,
    last_online: Option<String>,
    exists: bool,
    dirty: bool,
    writing: bool,
    not_before: Option<Instant>,
    failures: u32,
    confirms: VecDeque<Confirm>,
    /// Where it stands in [`Reports::due`].
    scheduled: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reports {
    devices: HashMap<ObjectKey, Entry>,
    due: BTreeSet<(Instant, ObjectKey)>,
}

impl Reports {
    /// A device is there. It gets its DeviceStatus even if it never reports; one of another
    /// incarnation starts anew.
    pub fn device(&mut self, key: &ObjectKey, uid: &Uid, now: Instant) {
        let entry = self.devices.entry(key.clone()).or_default();
        if entry.uid.as_ref() == Some(uid) {
            return;
        }
        self.forget(key);
        let entry = Entry { uid: Some(uid.clone()), dirty: true, ..Entry::default() };
        self.devices.insert(key.clone(), entry);
        self.schedule(key, now);
    }

    /// A device is gone; its DeviceStatus goes with it, by its owner reference.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.unschedule(key);
        self.devices.remove(key);
    }

    /// What the API server has of a device, read at start. What was reported since is newer. What
    /// an earlier bearer of the name left is about to go, and says nothing.
    pub fn load(&mut self, key: &ObjectKey, stored: Stored) {
        let Some(entry) = self.devices.get_mut(key) else { return };
        if !entry.is_owner(&stored) {
            return;
        }
        entry.exists = true;
        entry.take_in(stored.status);
        if entry.confirms.is_empty() {
            entry.dirty = false;
            self.unschedule(key);
        }
    }

    /// Properties that a device has reported; null for one that is no more.
    ///
    /// # Errors
    /// When the device is unknown, or would take more room than one may.
    pub fn twins(
        &mut self,
        key: &ObjectKey,
        twins: BTreeMap<String, Option<MsgTwin>>,
        confirm: Confirm,
        now: Instant,
    ) -> Result<(), ReportError> {
        let entry = self.devices.get_mut(key).ok_or(ReportError::Unknown)?;
        let new = twins.keys().filter(|name| !entry.twins.contains_key(*name)).count();
        if entry.twins.len() + new > PROPERTIES {
            return Err(ReportError::TooMany);
        }
        let more: usize = twins.iter().map(|(name, twin)| name.len() + text_len(twin)).sum();
        if entry.bytes + more > BYTES {
            return Err(ReportError::TooLarge);
        }
        for (name, twin) in twins {
            entry.merge(name, twin);
        }
        entry.recount();
        entry.confirm(confirm);
        self.schedule(key, now);
        Ok(())
    }

    /// The state of a device.
    ///
    /// # Errors
    /// When the device or the state is unknown.
    pub fn state(
        &mut self,
        key: &ObjectKey,
        state: DeviceState,
        confirm: Confirm,
        now: Instant,
    ) -> Result<(), ReportError> {
        if !STATES.contains(&state.state.to_ascii_lowercase().as_str()) {
            return Err(ReportError::State);
        }
        let entry = self.devices.get_mut(key).ok_or(ReportError::Unknown)?;
        entry.state = Some(state.state);
        // `offline` says nothing of when it was online; what is known stays.
        if let Some(time) = state.last_online_time.filter(|t| t.parse::<jiff::Timestamp>().is_ok())
        {
            entry.last_online = Some(time);
        }
        entry.confirm(confirm);
        self.schedule(key, now);
        Ok(())
    }

    /// What a device has reported so far.
    pub fn status(&self, key: &ObjectKey) -> Option<DeviceStatusStatus> {
        self.devices.get(key).map(Entry::status)
    }

    /// The next write whose time has come.
    pub fn take(&mut self, now: Instant) -> Option<Write> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        let entry = self.devices.get_mut(&key)?;
        entry.scheduled = None;
        (entry.dirty, entry.writing) = (false, true);
        entry.not_before = Some(now + EVERY);
        Some(Write {
            uid: entry.uid.clone()?,
            create: !entry.exists,
            status: entry.status(),
            confirms: std::mem::take(&mut entry.confirms),
            key,
        })
    }

    /// When [`Reports::take`] has something next.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Devices that wait for a write.
    pub fn waiting(&self) -> usize {
        self.due.len()
    }

    /// A write has ended. Returns what is to be confirmed.
    pub fn wrote(&mut self, write: Write, outcome: Wrote, now: Instant) -> VecDeque<Confirm> {
        let Write { key, uid, mut confirms, .. } = write;
        let Some(entry) = self.devices.get_mut(&key).filter(|e| e.uid.as_ref() == Some(&uid))
        else {
            // Nobody needs to hear of it any more.
            return confirms;
        };
        entry.writing = false;
        match outcome {
            Wrote::Done => {
                (entry.exists, entry.failures) = (true, 0);
                self.schedule(&key, now);
                return confirms;
            }
            Wrote::Missing => (entry.exists, entry.not_before) = (false, None),
            Wrote::Exists(stored) if entry.is_owner(&stored) => {
                (entry.exists, entry.not_before) = (true, None);
                entry.take_in(stored.status);
            }
            Wrote::Exists(_) | Wrote::Failed => {
                entry.not_before = Some(now + RETRY.next_delay(entry.failures));
                entry.failures = entry.failures.saturating_add(1);
            }
        }
        entry.dirty = true;
        confirms.append(&mut entry.confirms);
        entry.confirms = confirms;
        entry.shed_confirms();
        self.schedule(&key, now);
        VecDeque::new()
    }

    fn unschedule(&mut self, key: &ObjectKey) {
        if let Some(at) = self.devices.get_mut(key).and_then(|e| e.scheduled.take()) {
            self.due.remove(&(at, key.clone()));
        }
    }

    fn schedule(&mut self, key: &ObjectKey, now: Instant) {
        let Some(entry) = self.devices.get_mut(key) else { return };
        if !entry.dirty || entry.writing || entry.scheduled.is_some() {
            return;
        }
        let at = entry.not_before.map_or(now, |at| at.max(now));
        entry.scheduled = Some(at);
        self.due.insert((at, key.clone()));
    }
}

impl Entry {
    fn is_owner(&self, stored: &Stored) -> bool {
        stored.owner.is_none() || stored.owner == self.uid
    }

    /// The status as it is to be.
    fn status(&self) -> DeviceStatusStatus {
        DeviceStatusStatus {
            twins: self.twins.values().cloned().collect(),
            state: self.state.clone(),
            last_online_time: self.last_online.clone(),
            extensions: None,
        }
    }

    /// What is reported wins over what is stored.
    fn take_in(&mut self, stored: DeviceStatusStatus) {
        for twin in stored.twins.into_iter().take(PROPERTIES) {
            self.twins.entry(twin.property_name.clone()).or_insert(twin);
        }
        self.state = self.state.take().or(stored.state);
        self.last_online = self.last_online.take().or(stored.last_online_time);
        self.recount();
    }

    fn merge(&mut self, name: String, twin: Option<MsgTwin>) {
        let Some(twin) = twin else {
            self.twins.remove(&name);
            self.versions.remove(&name);
            return;
        };
        if self.is_stale(&name, &twin) {
            return;
        }
        let type_ = twin.metadata.as_ref().and_then(|m| m.type_.as_deref());
        if type_ == Some(DELETED) {
            self.twins.remove(&name);
            if let Some(version) = twin.actual_version {
                self.versions.insert(name, (version, 0));
            }
            return;
        }
        let entry = self.twins.entry(name.clone()).or_default();
        entry.property_name.clone_from(&name);
        if let Some(actual) = property(twin.actual.as_ref(), type_) {
            entry.reported = Some(actual);
        }
        if let Some(expected) = property(twin.expected.as_ref(), type_) {
            entry.observed_desired = Some(expected);
        }
        if let Some(version) = twin.actual_version {
            self.versions.insert(name, (version, made(&twin)));
        }
    }

    /// A report that is said again after a newer one. Both its version and its time must be older:
    /// an edge may lose its versions with its store, and its clock may be set back.
    fn is_stale(&self, name: &str, twin: &MsgTwin) -> bool {
        let (Some(new), Some((known, at))) = (twin.actual_version, self.versions.get(name)) else {
            return false;
        };
        new.edge < known.edge && made(twin) < *at
    }

    fn recount(&mut self) {
        let value = |v: &Option<TwinProperty>| {
            v.as_ref().map_or(0, |v| {
                v.value.len() + v.metadata.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
            })
        };
        let twin =
            |t: &Twin| t.property_name.len() + value(&t.reported) + value(&t.observed_desired);
        self.bytes = self.twins.values().map(twin).sum();
    }

    fn confirm(&mut self, confirm: Confirm) {
        self.dirty = true;
        self.confirms.push_back(confirm);
        self.shed_confirms();
    }

    fn shed_confirms(&mut self) {
        while self.confirms.len() > CONFIRMS {
            self.confirms.pop_front();
        }
    }
}

/// When the value was made, by the edge's clock.
fn made(twin: &MsgTwin) -> i64 {
    twin.actual.as_ref().and_then(|a| a.metadata).map_or(0, |m| m.timestamp)
}

fn property(value: Option<&TwinValue>, type_: Option<&str>) -> Option<TwinProperty> {
    let value = value?;
    let text = value.value.clone()?;
    let mut metadata = BTreeMap::new();
    if let Some(known) = value.metadata {
        metadata.insert("timestamp".to_owned(), known.timestamp.to_string());
    }
    if let Some(type_) = type_ {
        metadata.insert("type".to_owned(), type_.to_owned());
    }
    Some(TwinProperty { value: text, metadata })
}

fn text_len(twin: &Option<MsgTwin>) -> usize {
    let value = |v: &Option<TwinValue>| {
        v.as_ref().and_then(|v| v.value.as_ref()).map_or(0, |value| value.len() + 64)
    };
    let type_ =
        |t: &MsgTwin| t.metadata.as_ref().and_then(|m| m.type_.as_ref()).map_or(0, String::len);
    twin.as_ref().map_or(0, |t| value(&t.actual) + value(&t.expected) + 2 * type_(t))
}

#[cfg(test)]
mod tests;

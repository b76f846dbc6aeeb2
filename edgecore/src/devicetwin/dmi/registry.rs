//! The mappers that this node knows.
//!
//! Owns: name, protocol and address of each, and the processes that may speak for it.
//! Called by: `server.rs` (registrations, reports), `mapper.rs` (connections), the edgehub (changes
//! of devices).
//! Never: is held locked across an await.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use service::CancellationToken;
use tokio::sync::Notify;

use super::pb;
use super::peers::Peer;

/// Mappers of a node at most.
const MAX_MAPPERS: usize = 256;
/// Bytes of a unix socket's path at most.
const MAX_PATH: usize = 107;

/// A mapper as it registered, and as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MapperInfo {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) api_version: String,
    pub(super) protocol: String,
    /// Its socket.
    pub(super) address: PathBuf,
}

/// Why a registration is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadMapper {
    /// Nothing is said of it.
    #[error("the registration has no `mapper`")]
    Missing,
    /// Its name is none.
    #[error("the mapper's name must have 1 to 253 bytes, no `/` and no control characters")]
    Name,
    /// It names no protocol.
    #[error("mapper `{0}` names no protocol; it should be the `protocolName` of its devices")]
    Protocol(String),
    /// Its address is no path.
    #[error("the address of mapper `{0}` must be an absolute path of at most {MAX_PATH} bytes")]
    Address(String),
}

impl MapperInfo {
    /// Checks a registration.
    pub(super) fn of(mapper: Option<pb::MapperInfo>) -> Result<Self, BadMapper> {
        let mapper = mapper.ok_or(BadMapper::Missing)?;
        let name = mapper.name;
        api::names::object_name(&name).map_err(|_| BadMapper::Name)?;
        if mapper.protocol.is_empty() || mapper.protocol.len() > 253 {
            return Err(BadMapper::Protocol(name));
        }
        let address = String::from_utf8(mapper.address).unwrap_or_default();
        let path = address.strip_prefix("unix://").unwrap_or(&address);
        if !path.starts_with('/') || path.len() > MAX_PATH || path.contains('\0') {
            return Err(BadMapper::Address(name));
        }
        Ok(Self {
            name,
            version: mapper.version.chars().take(64).collect(),
            api_version: mapper.api_version.chars().take(64).collect(),
            protocol: mapper.protocol,
            address: path.into(),
        })
    }

    /// The value of its row, as the original writes it.
    pub(super) fn to_row(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Row {
            name: self.name.clone(),
            version: self.version.clone(),
            api_version: self.api_version.clone(),
            protocol: self.protocol.clone(),
            address: STANDARD.encode(self.address.as_os_str().as_encoded_bytes()),
        })
    }

    /// Reads the value of a row.
    pub(super) fn from_row(text: &str) -> Option<Self> {
        let row: Row = serde_json::from_str(text).ok()?;
        Self::of(Some(pb::MapperInfo {
            name: row.name,
            version: row.version,
            api_version: row.api_version,
            protocol: row.protocol,
            address: STANDARD.decode(row.address).ok()?,
            state: String::new(),
        }))
        .ok()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    protocol: String,
    address: String,
}

/// The names of those that are known; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<BTreeMap<String, Entry>>>);

struct Entry {
    protocol: Arc<str>,
    /// The process that registered, and the one that listens at its address.
    registrant: Option<Peer>,
    listener: Option<Peer>,
    /// Wakes its task when a device or model has changed.
    changed: Arc<Notify>,
    /// Ends its task.
    end: CancellationToken,
}

/// What a mapper's task needs of its entry.
pub(super) struct Place {
    pub(super) changed: Arc<Notify>,
    pub(super) end: CancellationToken,
}

impl Registry {
    /// A mapper registered; what there was under its name ends. `None`: there are too many.
    pub(super) fn register(
        &self,
        mapper: &MapperInfo,
        registrant: Option<Peer>,
        stopping: &CancellationToken,
    ) -> Option<Place> {
        let mut entries = self.0.lock();
        if entries.len() >= MAX_MAPPERS && !entries.contains_key(&mapper.name) {
            return None;
        }
        let entry = Entry {
            protocol: mapper.protocol.as_str().into(),
            registrant,
            listener: None,
            changed: Arc::default(),
            end: stopping.child_token(),
        };
        let place = Place { changed: Arc::clone(&entry.changed), end: entry.end.clone() };
        if let Some(old) = entries.insert(mapper.name.clone(), entry) {
            old.end.cancel();
        }
        Some(place)
    }

    /// Who listens at a mapper's address; `None` while it cannot be reached. Says nothing of an
    /// entry that was replaced.
    pub(super) fn reached(&self, name: &str, end: &CancellationToken, listener: Option<Peer>) {
        if let Some(entry) = self.0.lock().get_mut(name)
            && !end.is_cancelled()
        {
            entry.listener = listener;
        }
    }

    /// The protocols that a process may speak for.
    pub(super) fn protocols_of(&self, speaker: Peer) -> BTreeSet<Arc<str>> {
        let known: Vec<(Arc<str>, Vec<Peer>)> = {
            let entries = self.0.lock();
            let peers = |e: &Entry| e.registrant.into_iter().chain(e.listener).collect();
            entries.values().map(|e| (Arc::clone(&e.protocol), peers(e))).collect()
        };
        known
            .into_iter()
            .filter(|(_, peers)| peers.iter().any(|peer| speaker.comes_from(*peer)))
            .map(|(protocol, _)| protocol)
            .collect()
    }

    /// Whether any mapper of a protocol can be reached.
    pub(super) fn has_reachable(&self, protocol: &str) -> bool {
        self.0.lock().values().any(|e| *e.protocol == *protocol && e.listener.is_some())
    }

    /// Devices or models have changed; each mapper's task finds out what it means for it.
    pub(crate) fn changed(&self) {
        for entry in self.0.lock().values() {
            entry.changed.notify_one();
        }
    }

    /// How many are known, and how many of them can be reached.
    pub(crate) fn numbers(&self) -> (usize, usize) {
        let entries = self.0.lock();
        (entries.len(), entries.values().filter(|e| e.listener.is_some()).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, protocol: &str, address: &str) -> Result<MapperInfo, BadMapper> {
        MapperInfo::of(Some(pb::MapperInfo {
            name: name.into(),
            protocol: protocol.into(),
            address: address.into(),
            ..pb::MapperInfo::default()
        }))
    }

    #[test]
    fn a_registration_must_have_a_name_a_protocol_and_a_path() {
        assert_eq!(MapperInfo::of(None), Err(BadMapper::Missing));
        for name in ["", "a/b", "a\u{1b}"] {
            assert_eq!(said(name, "p", "/s"), Err(BadMapper::Name));
        }
        assert_eq!(said("m", "", "/s"), Err(BadMapper::Protocol("m".into())));
        for address in ["", "s", "tcp://1.2.3.4:5", &format!("/{}", "x".repeat(107))] {
            assert_eq!(said("m", "p", address), Err(BadMapper::Address("m".into())));
        }
        assert_eq!(
            said("m", "p", "unix:///run/m.sock").unwrap().address,
            PathBuf::from("/run/m.sock")
        );
    }

    #[test]
    fn a_row_is_as_the_original_writes_it() {
        let mapper = said("modbus-mapper", "modbus", "/etc/kubeedge/modbus.sock").unwrap();
        let row = mapper.to_row().unwrap();
        assert_eq!(
            row,
            r#"{"name":"modbus-mapper","protocol":"modbus","address":"L2V0Yy9rdWJlZWRnZS9tb2RidXMuc29jaw=="}"#
        );
        assert_eq!(MapperInfo::from_row(&row), Some(mapper));
        assert_eq!(MapperInfo::from_row("{}"), None);
    }

    #[test]
    fn a_process_speaks_for_the_mapper_that_it_is_and_for_no_other() {
        let registry = Registry::default();
        let stop = CancellationToken::new();
        let me = Peer::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let init = Peer::of(1).unwrap();
        let ours = said("ours", "p", "/s").unwrap();
        let place = registry.register(&ours, Some(me), &stop).unwrap();
        registry.register(&said("theirs", "q", "/t").unwrap(), None, &stop).unwrap();
        let protocols = |peer| registry.protocols_of(peer).into_iter().collect::<Vec<_>>();
        assert_eq!(protocols(me), ["p".into()]);
        assert_eq!(protocols(init), []);
        registry.reached("theirs", &CancellationToken::new(), Some(me));
        assert_eq!(protocols(me), ["p".into(), "q".into()]);
        assert!(registry.has_reachable("q") && !registry.has_reachable("p"));
        registry.register(&ours, Some(me), &stop).unwrap();
        assert!(place.end.is_cancelled(), "a new registration ends the old one's task");
        registry.reached("ours", &place.end, Some(me));
        assert!(!registry.has_reachable("p"));
        assert_eq!(registry.numbers(), (2, 1));
    }
}

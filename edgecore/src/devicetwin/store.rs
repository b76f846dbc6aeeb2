//! The tables of devices, as the original has them.
//!
//! Owns: the SQL of `device`, `device_attr` and `device_twin`, and the rows of `meta` that say which
//! desired values were taken.
//! Called by: `mod.rs`, on the database's thread.
//! Never: judges what it reads; a row that cannot be read is left out and said.

use std::collections::BTreeMap;

use api::names::{Kind, ObjectKey};
use api::twin::message::{MsgAttr, MsgTwin, TwinValue, TwinVersion, TypeMetadata, ValueMetadata};
use api::twin::topics::DeviceId;
use rusqlite::{Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::merge::DELETED;
use super::state::{Device, State};
use crate::metamanager::StoreError;
use crate::metamanager::store::Tx;

/// The type of the rows of `meta` with the desired values that were taken; ours alone.
const TAKEN: &str = "devicedesired";

/// Makes the tables where they are missing. The original has no index but for its keys; with one
/// a report costs the same whether there are ten devices or a thousand.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS device (id text, name text, description text, state text, \
        last_online text, PRIMARY KEY (id));
    CREATE TABLE IF NOT EXISTS device_attr (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, \
        name text, description text, value text, optional numeric, attr_type text, metadata text);
    CREATE TABLE IF NOT EXISTS device_twin (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, \
        name text, description text, expected text, actual text, expected_meta text, \
        actual_meta text, expected_version text, actual_version text, optional numeric, \
        attr_type text, metadata text);
    CREATE INDEX IF NOT EXISTS keadm_device_attr ON device_attr (deviceid, name);
    CREATE INDEX IF NOT EXISTS keadm_device_twin ON device_twin (deviceid, name);";

/// What the store has of devices.
pub(super) struct Stored {
    pub(super) devices: BTreeMap<DeviceId, Device>,
    /// Keys and texts of the Devices and DeviceModels that the cloud sent.
    pub(super) objects: Vec<(ObjectKey, String)>,
}

/// Makes the tables and reads all.
pub(super) fn load(tx: &Tx<'_>) -> Result<Stored, StoreError> {
    tx.sql(|c| c.execute_batch(TABLES))?;
    let mut devices = load_devices(tx)?;
    load_attributes(tx, &mut devices)?;
    load_twins(tx, &mut devices)?;
    for (key, value) in tx.of_type(TAKEN)? {
        let id = key.parse::<ObjectKey>().ok().and_then(|key| device_of(&key));
        if let (Some(device), Ok(taken)) =
            (id.and_then(|id| devices.get_mut(&id)), serde_json::from_str(&value))
        {
            device.taken = taken;
        }
    }
    let mut objects = Vec::new();
    // Models first: devices are judged by them.
    for kind in [Kind::DeviceModel, Kind::Device] {
        for (key, value) in tx.of_type(kind.as_str())? {
            if let Ok(key) = key.parse() {
                objects.push((key, value));
            }
        }
    }
    Ok(Stored { devices, objects })
}

/// The device that an object is about.
pub(super) fn device_of(key: &ObjectKey) -> Option<DeviceId> {
    format!("{}/{}", key.namespace.as_ref()?, key.name).parse().ok()
}

fn taken_key(id: &DeviceId) -> String {
    ObjectKey::new(id.namespace.clone(), Kind::Other(TAKEN.into()), &id.name).to_string()
}

/// Empty for what is no text.
fn text(row: &Row<'_>, at: usize) -> String {
    row.get::<_, Option<String>>(at).ok().flatten().unwrap_or_default()
}

fn load_devices(tx: &Tx<'_>) -> Result<BTreeMap<DeviceId, Device>, StoreError> {
    let rows: Vec<(String, Device)> = tx.sql(|c| {
        c.prepare("SELECT id, name, description, state, last_online FROM device")?
            .query_map([], |row| {
                let device = Device {
                    name: text(row, 1),
                    description: text(row, 2),
                    state: text(row, 3),
                    last_online: text(row, 4),
                    ..Device::default()
                };
                Ok((text(row, 0), device))
            })?
            .collect()
    })?;
    let mut devices = BTreeMap::new();
    for (id, device) in rows {
        match id.parse::<DeviceId>() {
            Ok(id) => drop(devices.insert(id, device)),
            Err(e) => {
                tracing::warn!(error = %e, "a stored device has no usable id; it is left out")
            }
        }
    }
    Ok(devices)
}

fn load_attributes(
    tx: &Tx<'_>,
    devices: &mut BTreeMap<DeviceId, Device>,
) -> Result<(), StoreError> {
    let rows: Vec<(String, String, MsgAttr)> = tx.sql(|c| {
        c.prepare("SELECT deviceid, name, value, optional, attr_type FROM device_attr ORDER BY id")?
            .query_map([], |row| {
                let attribute = MsgAttr {
                    value: text(row, 2),
                    optional: row.get(3).unwrap_or(None),
                    metadata: Some(TypeMetadata { type_: row.get(4).unwrap_or(None) }),
                };
                Ok((text(row, 0), text(row, 1), attribute))
            })?
            .collect()
    })?;
    for (id, name, attribute) in rows {
        if let Some(device) = id.parse().ok().and_then(|id: DeviceId| devices.get_mut(&id)) {
            device.attributes.insert(name, attribute);
        }
    }
    Ok(())
}

fn load_twins(tx: &Tx<'_>, devices: &mut BTreeMap<DeviceId, Device>) -> Result<(), StoreError> {
    let rows: Vec<(String, String, MsgTwin)> = tx.sql(|c| {
        c.prepare(
            "SELECT deviceid, name, expected, expected_meta, expected_version, actual, \
             actual_meta, actual_version, optional, attr_type FROM device_twin ORDER BY id",
        )?
        .query_map([], |row| Ok((text(row, 0), text(row, 1), twin_of(row))))?
        .collect()
    })?;
    for (id, name, twin) in rows {
        if let Some(device) = id.parse().ok().and_then(|id: DeviceId| devices.get_mut(&id)) {
            device.twins.insert(name, twin);
        }
    }
    Ok(())
}

fn twin_of(row: &Row<'_>) -> MsgTwin {
    let some = |at: usize| Some(text(row, at)).filter(|t| !t.is_empty());
    let side = |value: usize, meta: usize| {
        let value = some(value)?;
        Some(TwinValue { value: Some(value), metadata: json_of::<ValueMetadata>(some(meta)) })
    };
    MsgTwin {
        expected: side(2, 3),
        actual: side(5, 6),
        optional: row.get(8).unwrap_or(None),
        metadata: Some(TypeMetadata { type_: some(9) }),
        expected_version: json_of::<TwinVersion>(some(4)),
        actual_version: json_of::<TwinVersion>(some(7)),
    }
}

/// `None` also for a text that cannot be read: a version then starts anew, which a report mends.
fn json_of<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}

fn json_text<T: Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|v| serde_json::to_string(v).ok())
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum RowChange {
    /// A device is gone with all that belongs to it.
    Drop(DeviceId),
    /// Its row, its attributes, the desired values that were taken.
    Device(DeviceId, Box<Device>),
    /// A property.
    Twin(DeviceId, String, Box<MsgTwin>),
}

/// The rows that are out of date, as they should be.
pub(super) fn changes(state: &State) -> Vec<RowChange> {
    let dirty = state.dirty();
    let mut rows: Vec<RowChange> = dirty.dropped.iter().cloned().map(RowChange::Drop).collect();
    for id in &dirty.devices {
        if let Some(device) = state.devices.get(id) {
            let device = Device { twins: BTreeMap::new(), ..device.clone() };
            rows.push(RowChange::Device(id.clone(), Box::new(device)));
        }
    }
    for (id, property) in &dirty.twins {
        if let Some(twin) = state.devices.get(id).and_then(|d| d.twins.get(property)) {
            rows.push(RowChange::Twin(id.clone(), property.clone(), Box::new(twin.clone())));
        }
    }
    rows
}

/// Writes them.
pub(super) fn write(tx: &Tx<'_>, rows: &[RowChange]) -> Result<(), StoreError> {
    for row in rows {
        match row {
            RowChange::Drop(id) => drop_device(tx, id)?,
            RowChange::Device(id, device) => put_device(tx, id, device)?,
            RowChange::Twin(id, property, twin) => put_twin(tx, id, property, twin)?,
        }
    }
    Ok(())
}

fn drop_device(tx: &Tx<'_>, id: &DeviceId) -> Result<(), StoreError> {
    let key = id.to_string();
    tx.sql(|c| {
        c.prepare_cached("DELETE FROM device WHERE id = ?1")?.execute([&key])?;
        c.prepare_cached("DELETE FROM device_attr WHERE deviceid = ?1")?.execute([&key])?;
        c.prepare_cached("DELETE FROM device_twin WHERE deviceid = ?1")?.execute([&key])
    })?;
    tx.delete(&taken_key(id)).map(drop)
}

fn put_device(tx: &Tx<'_>, id: &DeviceId, device: &Device) -> Result<(), StoreError> {
    let key = id.to_string();
    tx.sql(|c| {
        c.prepare_cached(
            "INSERT OR REPLACE INTO device (id, name, description, state, last_online) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute([
            &key,
            &device.name,
            &device.description,
            &device.state,
            &device.last_online,
        ])?;
        c.prepare_cached("DELETE FROM device_attr WHERE deviceid = ?1")?.execute([&key])?;
        for (name, attribute) in &device.attributes {
            let value_type = attribute.metadata.as_ref().and_then(|m| m.type_.as_deref());
            c.prepare_cached(
                "INSERT INTO device_attr (deviceid, name, description, value, optional, \
                 attr_type, metadata) VALUES (?1, ?2, '', ?3, ?4, ?5, '{}')",
            )?
            .execute(params![
                key,
                name,
                attribute.value,
                attribute.optional.unwrap_or(true),
                value_type.unwrap_or("string")
            ])?;
        }
        Ok(())
    })?;
    match json_text(Some(&device.taken)) {
        Some(taken) if !device.taken.is_empty() => tx.put(&taken_key(id), TAKEN, &taken),
        _ => tx.delete(&taken_key(id)).map(drop),
    }
}

fn put_twin(tx: &Tx<'_>, id: &DeviceId, property: &str, twin: &MsgTwin) -> Result<(), StoreError> {
    let key = id.to_string();
    let value = |side: Option<&TwinValue>| side.and_then(|s| s.value.clone());
    let meta = |side: Option<&TwinValue>| json_text(side.and_then(|s| s.metadata.as_ref()));
    let (expected, actual) = (twin.expected.as_ref(), twin.actual.as_ref());
    let value_type = twin.metadata.as_ref().and_then(|m| m.type_.as_deref()).unwrap_or("string");
    let metadata = (value_type != DELETED).then_some("{}");
    tx.sql(|c| {
        let values = params![
            key,
            property,
            value(expected),
            value(actual),
            meta(expected),
            meta(actual),
            json_text(twin.expected_version.as_ref()),
            json_text(twin.actual_version.as_ref()),
            twin.optional.unwrap_or(true),
            value_type,
            metadata,
        ];
        let changed = c
            .prepare_cached(
                "UPDATE device_twin SET expected = ?3, actual = ?4, expected_meta = ?5, \
                 actual_meta = ?6, expected_version = ?7, actual_version = ?8, optional = ?9, \
                 attr_type = ?10, metadata = ?11 WHERE deviceid = ?1 AND name = ?2",
            )?
            .execute(values)?;
        if changed == 0 {
            c.prepare_cached(
                "INSERT INTO device_twin (deviceid, name, description, expected, actual, \
                 expected_meta, actual_meta, expected_version, actual_version, optional, \
                 attr_type, metadata) VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(values)?;
        }
        Ok(())
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

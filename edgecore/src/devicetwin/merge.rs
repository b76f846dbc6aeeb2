//! Updates into twins: what is taken, under which version. Pure.
//!
//! Owns: the rules of versions. A local update counts up `edge`; an update from the cloud carries
//! both numbers and is taken only if neither is older than what is here; a desired value of the
//! Device counts up `cloud`, once for each change of it.
//! Called by: `state.rs`.
//! Never: takes a part of a local update and refuses the rest.

use std::collections::BTreeMap;

use api::crd::devices::TwinProperty;
use api::twin::message::{
    MsgTwin, TwinChange, TwinDelta, TwinValue, TwinVersion, TypeMetadata, ValueMetadata,
};

use super::schema::Schema;

/// Properties of one device at most, those that were deleted included.
pub(super) const MAX_PROPERTIES: usize = 1024;
/// Bytes of a property's name and of a value at most.
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 512;

/// The type that marks a property that is no more.
pub(super) const DELETED: &str = "deleted";

/// A device's twins by property, those of deleted properties included: their versions go on.
pub(super) type Twins = BTreeMap<String, MsgTwin>;

/// Twins as an update has them; `null` deletes one.
pub(super) type Changes = BTreeMap<String, Option<MsgTwin>>;

/// Why an update is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Its name cannot be one.
    #[error(
        "a property's name must be 1 to 128 letters, digits or `-_.,:/@#`, `{0}` is something else"
    )]
    Name(String),
    /// Neither the device nor its model has it.
    #[error("the device has no property `{0}`; its Device and DeviceModel say which it has")]
    Unknown(String),
    /// Too many.
    #[error("a device can have {MAX_PROPERTIES} properties at most")]
    TooMany,
    /// Not among those that there are.
    #[error(
        "the value type `{found}` of property `{property}` is not allowed; it should be string, \
         int, float or boolean"
    )]
    Type {
        /// The property.
        property: String,
        /// What it says.
        found: String,
    },
    /// The text cannot be a value.
    #[error("the value of property `{property}` cannot be used: {why}")]
    Value {
        /// The property.
        property: String,
        /// What is wrong with it.
        why: String,
    },
    /// Deleting what is not there.
    #[error("there is no property `{0}` to delete")]
    NothingToDelete(String),
    /// Deleting what must stay.
    #[error("property `{0}` is not optional, it cannot be deleted")]
    NotOptional(String),
}

/// What an update changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// The parts that changed, without versions.
    pub(super) result: Changes,
    /// Each property before and after, without versions.
    pub(super) document: BTreeMap<String, TwinChange>,
    /// What the cloud is to be told, with versions.
    pub(super) up: Changes,
    /// Properties of which something is to be stored.
    pub(super) stored: Vec<String>,
    /// Properties of which the cloud had older values than there are here.
    pub(super) refused: usize,
}

/// Whether a property is there, and not only the mark that it was.
pub(super) fn is_live(twin: &MsgTwin) -> bool {
    type_of(twin) != Some(DELETED)
}

fn type_of(twin: &MsgTwin) -> Option<&str> {
    twin.metadata.as_ref()?.type_.as_deref().filter(|t| !t.is_empty())
}

pub(super) fn value_of(side: Option<&TwinValue>) -> Option<&str> {
    side?.value.as_deref().filter(|v| !v.is_empty())
}

/// A twin as MQTT has it.
pub(super) fn without_versions(twin: &MsgTwin) -> MsgTwin {
    MsgTwin { expected_version: None, actual_version: None, ..twin.clone() }
}

/// An update from the edge: a mapper or an app. All of it is taken, or none.
///
/// # Errors
/// The first thing that cannot be taken.
pub(super) fn local(
    twins: &mut Twins,
    schema: Option<&Schema>,
    update: &Changes,
    now_ms: i64,
) -> Result<Merged, Fault> {
    let mut new = 0;
    for (property, change) in update {
        check(twins, schema, property, change.as_ref())?;
        new += usize::from(!twins.contains_key(property));
    }
    if twins.len() + new > MAX_PROPERTIES {
        return Err(Fault::TooMany);
    }
    let mut merged = Merged::default();
    for (property, change) in update {
        let before = twins.get(property).filter(|t| is_live(t)).map(without_versions);
        let twin = twins.entry(property.clone()).or_default();
        match change {
            Some(change) => {
                let told = take_local(twin, change, now_ms);
                merged.result.insert(property.clone(), Some(without_versions(&told)));
                merged.up.insert(property.clone(), Some(told));
            }
            None => {
                delete(twin);
                merged.result.insert(property.clone(), None);
                merged.up.insert(property.clone(), Some(twin.clone()));
            }
        }
        let current = is_live(twin).then(|| without_versions(twin));
        merged.document.insert(property.clone(), TwinChange { last: before, current });
        merged.stored.push(property.clone());
    }
    Ok(merged)
}

fn check(
    twins: &Twins,
    schema: Option<&Schema>,
    property: &str,
    change: Option<&MsgTwin>,
) -> Result<(), Fault> {
    if !is_name(property) {
        return Err(Fault::Name(property.chars().take(MAX_NAME).collect()));
    }
    let have = twins.get(property).filter(|t| is_live(t));
    let Some(change) = change else {
        return match have {
            None => Err(Fault::NothingToDelete(property.to_owned())),
            Some(have) if have.optional == Some(false) => {
                Err(Fault::NotOptional(property.to_owned()))
            }
            Some(_) => Ok(()),
        };
    };
    if have.is_none() && schema.is_some_and(|s| !s.has(property)) {
        return Err(Fault::Unknown(property.to_owned()));
    }
    let value_type = type_of(change).or_else(|| have.and_then(type_of)).unwrap_or("string");
    for side in [&change.expected, &change.actual] {
        let Some(value) = side.as_ref().and_then(|s| s.value.as_deref()) else { continue };
        let value_fault = |why: String| Fault::Value { property: property.to_owned(), why };
        let is_text = schema.is_some_and(|s| s.is_text(property));
        is_value(value, is_text).map_err(value_fault)?;
        is_of_type(value_type, value, property)?;
        if let Some(schema) = schema {
            schema.check(property, value).map_err(value_fault)?;
        }
    }
    is_of_type(value_type, "", property)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.,:/@#".contains(c)
}

fn is_value(text: &str, is_text: bool) -> Result<(), String> {
    if text.len() > MAX_VALUE {
        return Err(format!("it has {} bytes, {MAX_VALUE} are the limit", text.len()));
    }
    let wrong = |c: &char| if is_text { c.is_control() } else { !is_plain(*c) };
    match text.chars().find(wrong) {
        Some(c) if is_text => Err(format!("it has the control character `{}`", c.escape_debug())),
        Some(c) => Err(format!(
            "it has the character `{}`; letters, digits and `-_.,:/@#` can be in it",
            c.escape_debug()
        )),
        None => Ok(()),
    }
}

/// Whether a text, unless it is empty, is of a type.
fn is_of_type(value_type: &str, value: &str, property: &str) -> Result<(), Fault> {
    let fits = match value_type {
        "string" => true,
        "int" | "integer" => value.is_empty() || value.parse::<i64>().is_ok(),
        "float" => value.is_empty() || value.parse::<f64>().is_ok(),
        "boolean" => matches!(value, "" | "true" | "false"),
        other => {
            let found = other.chars().take(32).collect();
            return Err(Fault::Type { property: property.to_owned(), found });
        }
    };
    if fits {
        return Ok(());
    }
    let why = format!("`{value}` is no {value_type}");
    Err(Fault::Value { property: property.to_owned(), why })
}

/// Takes what `change` has; returns what is new, as the cloud is told it.
fn take_local(twin: &mut MsgTwin, change: &MsgTwin, now_ms: i64) -> MsgTwin {
    revive(twin, change);
    let mut told =
        MsgTwin { optional: twin.optional, metadata: twin.metadata.clone(), ..MsgTwin::default() };
    if let Some(value) = change.expected.as_ref().and_then(|s| s.value.clone()) {
        twin.expected = Some(stamped(value, now_ms));
        count_up(&mut twin.expected_version, |v| &mut v.edge);
        (told.expected, told.expected_version) = (twin.expected.clone(), twin.expected_version);
    }
    if let Some(value) = change.actual.as_ref().and_then(|s| s.value.clone()) {
        twin.actual = Some(stamped(value, now_ms));
        count_up(&mut twin.actual_version, |v| &mut v.edge);
        (told.actual, told.actual_version) = (twin.actual.clone(), twin.actual_version);
    }
    told
}

fn stamped(value: String, now_ms: i64) -> TwinValue {
    TwinValue { value: Some(value), metadata: Some(ValueMetadata { timestamp: now_ms }) }
}

fn count_up(version: &mut Option<TwinVersion>, side: fn(&mut TwinVersion) -> &mut i64) {
    let number = side(version.get_or_insert_default());
    *number = number.saturating_add(1);
}

/// Type and optionality of a property that is new, or was deleted, or changes them.
fn revive(twin: &mut MsgTwin, change: &MsgTwin) {
    let new = twin.metadata.is_none() || !is_live(twin);
    if new {
        twin.optional = Some(change.optional.unwrap_or(true));
    } else if change.optional.is_some() {
        twin.optional = change.optional;
    }
    if new || type_of(change).is_some() {
        let value_type = type_of(change).unwrap_or("string").to_owned();
        twin.metadata = Some(TypeMetadata { type_: Some(value_type) });
    }
}

/// Leaves the mark that a property was there, and its versions, which only grow.
fn delete(twin: &mut MsgTwin) {
    for (side, version) in [
        (&mut twin.expected, &mut twin.expected_version),
        (&mut twin.actual, &mut twin.actual_version),
    ] {
        *side = None;
        if version.is_some() {
            count_up(version, |v| &mut v.edge);
        }
    }
    twin.metadata = Some(TypeMetadata { type_: Some(DELETED.to_owned()) });
}

/// An update from the cloud, property by property. What is older than here is refused, and the
/// cloud is told what is here.
pub(super) fn cloud(twins: &mut Twins, update: &Changes, now_ms: i64) -> Merged {
    let mut merged = Merged::default();
    for (property, change) in update {
        let Some(change) = change else { continue };
        let full = !twins.contains_key(property) && twins.len() >= MAX_PROPERTIES;
        if !is_name(property) || full {
            merged.refused += 1;
            continue;
        }
        let before = twins.get(property).filter(|t| is_live(t)).map(without_versions);
        let known = twins.contains_key(property);
        let twin = twins.entry(property.clone()).or_default();
        match take_cloud(twin, change, now_ms) {
            Some(true) => {
                let current = is_live(twin).then(|| without_versions(twin));
                merged.document.insert(property.clone(), TwinChange { last: before, current });
                merged.stored.push(property.clone());
            }
            Some(false) => {}
            None => {
                merged.refused += 1;
                if known {
                    merged.up.insert(property.clone(), Some(twin.clone()));
                } else {
                    twins.remove(property);
                }
            }
        }
    }
    merged
}

/// Takes both sides of an update or neither; `None` if it is older than what is here.
fn take_cloud(twin: &mut MsgTwin, change: &MsgTwin, now_ms: i64) -> Option<bool> {
    let deletes = !is_live(change);
    let value = |side: &Option<TwinValue>| side.as_ref().and_then(|s| s.value.clone());
    let (expected, actual) = (value(&change.expected), value(&change.actual));
    let expected_version = match (&expected, deletes) {
        (None, false) => None,
        _ => Some(newer(twin.expected_version, change.expected_version, deletes)?),
    };
    let actual_version = match (&actual, deletes) {
        (None, false) => None,
        _ => Some(newer(twin.actual_version, change.actual_version, deletes)?),
    };
    if deletes {
        delete(twin);
        (twin.expected_version, twin.actual_version) = (expected_version?, actual_version?);
        return Some(true);
    }
    revive(twin, change);
    if let (Some(value), Some(version)) = (expected, expected_version) {
        twin.expected = Some(stamped(value, now_ms));
        twin.expected_version = version;
    }
    if let (Some(value), Some(version)) = (actual, actual_version) {
        twin.actual = Some(stamped(value, now_ms));
        twin.actual_version = version;
    }
    Some(expected_version.is_some() || actual_version.is_some())
}

/// The version that holds after an update; `None` if the update has none or an older one.
fn newer(
    have: Option<TwinVersion>,
    new: Option<TwinVersion>,
    deletes: bool,
) -> Option<Option<TwinVersion>> {
    match (have, new) {
        (None, None) if deletes => Some(None),
        (_, None) => None,
        (have, Some(new)) => {
            let have = have.unwrap_or_default();
            (new.cloud >= have.cloud && new.edge >= have.edge).then_some(Some(new))
        }
    }
}

/// The desired values of a Device, as far as they differ from those that were taken before: a value
/// that was set here since is not overwritten by one that the cloud merely says again.
pub(super) fn desired(
    twins: &mut Twins,
    taken: &mut BTreeMap<String, String>,
    wanted: &BTreeMap<String, Option<TwinProperty>>,
    now_ms: i64,
) -> Merged {
    let mut merged = Merged::default();
    let set = wanted.iter().filter_map(|(p, v)| Some((p, Some(v.as_ref()?))));
    let unset: Vec<String> = taken
        .keys()
        .filter(|property| !wanted.get(*property).is_some_and(Option::is_some))
        .cloned()
        .collect();
    for (property, value) in set.chain(unset.iter().map(|p| (p, None))) {
        let same = value.is_some_and(|v| taken.get(property) == Some(&v.value));
        let full = !twins.contains_key(property) && twins.len() >= MAX_PROPERTIES;
        if same || full || !is_name(property) {
            continue;
        }
        let before = twins.get(property).filter(|t| is_live(t)).map(without_versions);
        let twin = twins.entry(property.clone()).or_default();
        match value {
            Some(value) => {
                revive(twin, &MsgTwin { metadata: type_said(value), ..MsgTwin::default() });
                twin.expected = Some(stamped(value.value.clone(), now_ms));
                taken.insert(property.clone(), value.value.clone());
            }
            None => {
                twin.expected = None;
                taken.remove(property);
            }
        }
        count_up(&mut twin.expected_version, |v| &mut v.cloud);
        let current = is_live(twin).then(|| without_versions(twin));
        merged.document.insert(property.clone(), TwinChange { last: before, current });
        merged.stored.push(property.clone());
    }
    merged
}

/// The type that a desired value says it has, if it is one that twins have.
fn type_said(value: &TwinProperty) -> Option<TypeMetadata> {
    let said = value.metadata.get("type")?.to_ascii_lowercase();
    let known = matches!(said.as_str(), "string" | "int" | "integer" | "float" | "boolean");
    known.then_some(TypeMetadata { type_: Some(said) })
}

/// What differs from what is expected, if anything does.
pub(super) fn delta(twins: &Twins, event_id: String, now_ms: i64) -> Option<TwinDelta> {
    let mut message = TwinDelta { event_id, timestamp: now_ms, ..TwinDelta::default() };
    for (property, twin) in twins.iter().filter(|(_, t)| is_live(t)) {
        let Some(expected) = value_of(twin.expected.as_ref()) else { continue };
        if value_of(twin.actual.as_ref()) != Some(expected) {
            message.delta.insert(property.clone(), expected.to_owned());
        }
        message.twin.insert(property.clone(), Some(without_versions(twin)));
    }
    (!message.delta.is_empty()).then_some(message)
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;

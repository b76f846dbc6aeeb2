//! Devices as rows.

use api::crd::devices::{Device, DeviceStatusStatus, TwinProperty};
use api::names::ObjectKey;
use api::status::objects;
use api::status::row::{DeviceRow, Millis, Row, TwinRow};

use super::objects::row_key;
use super::{Status, now};

/// The row of a device that has reported nothing yet.
pub(super) fn row(device: Device) -> DeviceRow {
    let (meta, spec) = (device.metadata, device.spec);
    let twin = |property: api::crd::devices::DeviceProperty| TwinRow {
        property: property.name,
        desired_at: property.desired.as_ref().and_then(timestamp),
        desired: property.desired.map(|d| d.value),
        ..TwinRow::default()
    };
    DeviceRow {
        created: objects::millis(meta.creation_timestamp.as_ref()),
        namespace: meta.namespace.unwrap_or_default(),
        name: meta.name.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        node: spec.node_name.unwrap_or_default(),
        model: spec.device_model_ref.and_then(|m| m.name).unwrap_or_default(),
        protocol: spec.protocol.and_then(|p| p.protocol_name).unwrap_or_default(),
        twins: spec.properties.into_iter().map(twin).collect(),
        ..DeviceRow::default()
    }
}

/// Its spec changed; what it reported stays.
pub(super) fn keep(new: &mut DeviceRow, old: &DeviceRow) {
    new.state.clone_from(&old.state);
    new.last_online = old.last_online;
    new.last_report = old.last_report;
    for twin in old.twins.iter().filter(|t| t.reported.is_some()) {
        reported(new, &twin.property, twin.reported.clone(), twin.reported_at);
    }
}

fn reported(row: &mut DeviceRow, name: &str, value: Option<String>, at: Option<Millis>) {
    match row.twins.iter_mut().find(|t| t.property == name) {
        Some(twin) => (twin.reported, twin.reported_at) = (value, at),
        None => row.twins.push(TwinRow {
            property: name.to_owned(),
            reported: value,
            reported_at: at,
            ..TwinRow::default()
        }),
    }
}

/// What a device has said so far, all of it.
fn report(row: &mut DeviceRow, status: &DeviceStatusStatus, at: Option<Millis>) {
    // A property that is in neither is no more.
    row.twins.retain(|t| {
        t.desired.is_some()
            || status.twins.iter().any(|said| said.property_name == t.property)
            || t.reported.is_none()
    });
    for twin in &mut row.twins {
        (twin.reported, twin.reported_at) = (None, None);
    }
    for twin in &status.twins {
        let at = twin.reported.as_ref().and_then(timestamp);
        let value = twin.reported.as_ref().map(|r| r.value.clone());
        reported(row, &twin.property_name, value, at);
    }
    row.state = status.state.clone().unwrap_or_default();
    let online = status.last_online_time.as_ref();
    row.last_online =
        online.and_then(|t| t.parse::<jiff::Timestamp>().ok()).map(|t| t.as_millisecond());
    row.last_report = at.or(row.last_report);
}

fn timestamp(value: &TwinProperty) -> Option<Millis> {
    value.metadata.get("timestamp")?.parse().ok().filter(|at| *at > 0)
}

impl Status {
    /// A device has reported; `status` is all that it has said so far. `at` is when the report
    /// came, if it came just now.
    pub fn device_reported(
        &self,
        key: &ObjectKey,
        status: &DeviceStatusStatus,
        at: Option<Millis>,
    ) {
        self.change(|table| {
            table.board.amend(&row_key(key), now(), |row| {
                if let Row::Device(row) = row {
                    report(row, status, at);
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use api::crd::devices::Twin;
    use serde_json::json;

    use super::*;

    fn device(desired: &str) -> DeviceRow {
        let device = json!({
            "metadata": {"name": "lamp", "namespace": "default"},
            "spec": {"nodeName": "edge-1", "deviceModelRef": {"name": "switch"},
                "protocol": {"protocolName": "virtual"},
                "properties": [
                    {"name": "on", "desired": {"value": desired, "metadata": {"timestamp": "70"}}},
                    {"name": "power"},
                ]},
        });
        row(serde_json::from_value(device).unwrap())
    }

    fn status(twins: &[(&str, &str)]) -> DeviceStatusStatus {
        let twin = |(name, value): &(&str, &str)| Twin {
            property_name: (*name).to_owned(),
            reported: Some(TwinProperty {
                value: (*value).to_owned(),
                metadata: [("timestamp".to_owned(), "80".to_owned())].into(),
            }),
            observed_desired: None,
        };
        DeviceStatusStatus {
            twins: twins.iter().map(twin).collect(),
            state: Some("online".to_owned()),
            last_online_time: Some("1970-01-01T00:00:01Z".to_owned()),
            extensions: None,
        }
    }

    #[test]
    fn desired_and_reported_stand_side_by_side() {
        let mut row = device("true");
        assert!(!row.in_sync(), "nothing is reported yet");
        report(&mut row, &status(&[("on", "true"), ("extra", "1")]), Some(90));
        assert!(row.in_sync());
        assert_eq!((row.state.as_str(), row.last_online), ("online", Some(1000)));
        assert_eq!(row.last_report, Some(90));
        let on = &row.twins[0];
        assert_eq!((on.desired_at, on.reported_at), (Some(70), Some(80)));
        let names: Vec<_> = row.twins.iter().map(|t| t.property.as_str()).collect();
        assert_eq!(names, ["on", "power", "extra"]);
        report(&mut row, &status(&[("on", "true")]), None);
        assert_eq!(row.twins.len(), 2, "a property that the device has deleted is gone");
        assert_eq!(row.last_report, Some(90), "read at start, so not just now");
    }

    #[test]
    fn a_new_desired_value_leaves_what_was_reported() {
        let mut old = device("true");
        report(&mut old, &status(&[("on", "true"), ("extra", "1")]), Some(90));
        let mut new = device("false");
        keep(&mut new, &old);
        assert!(!new.in_sync());
        assert_eq!(new.twins[0].reported.as_deref(), Some("true"));
        assert_eq!((new.twins.len(), new.state.as_str()), (3, "online"));
    }
}

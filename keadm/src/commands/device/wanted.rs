//! What is wanted of a device, and whether it reports it. Pure.

use api::crd::check;
use api::crd::devices::{Device, DeviceModel, DeviceStatusStatus, ModelProperty};
use serde_json::{Value, json};

use crate::errors::{CommandError, Kind};

/// `property=value`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) property: String,
    pub(super) value: String,
}

/// What a device reports of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) property: String,
    pub(super) value: Option<String>,
    /// Milliseconds since the Unix epoch, by the edge's clock.
    at: Option<i64>,
}

/// Reads the arguments.
pub(super) fn parse(values: &[String]) -> Result<Vec<Wanted>, CommandError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for text in values {
        let pair = text.split_once('=').filter(|(property, _)| !property.is_empty());
        let Some((property, value)) = pair else {
            return Err(CommandError::new(Kind::Usage, format!("`{text}` is no value"))
                .hint("write it as PROPERTY=VALUE, for example `brightness=40`"));
        };
        if wanted.iter().any(|w| w.property == property) {
            return Err(CommandError::new(
                Kind::Usage,
                format!("`{property}` is given two values"),
            ));
        }
        wanted.push(Wanted { property: property.to_owned(), value: value.to_owned() });
    }
    Ok(wanted)
}

fn of_model<'a>(model: Option<&'a DeviceModel>, property: &str) -> Option<&'a ModelProperty> {
    model?.spec.properties.iter().find(|p| p.name == property)
}

/// Whether all of it can be asked of the device.
pub(super) fn check(
    name: &str,
    wanted: &[Wanted],
    device: &Device,
    model: Option<&DeviceModel>,
) -> Result<(), CommandError> {
    for Wanted { property, value } in wanted {
        let known = match model {
            Some(model) => model.spec.properties.iter().map(|p| p.name.as_str()).collect(),
            None => device.spec.properties.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        };
        if !known.contains(&property.as_str()) {
            return Err(CommandError::new(
                Kind::NotFound,
                format!("device `{name}` has no property `{property}`"),
            )
            .hint(match known.as_slice() {
                [] => "it has none at all".to_owned(),
                known => match crate::commands::nearest(property, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`? It has: {}", known.join(", ")),
                    None => format!("it has: {}", known.join(", ")),
                },
            }));
        }
        if let Some(of_model) = of_model(model, property)
            && let Err(right) = check::desired(of_model, value)
        {
            return Err(CommandError::new(
                Kind::Usage,
                format!("`{property}` of device `{name}` cannot become `{value}`"),
            )
            .because(right));
        }
    }
    Ok(())
}

/// The JSON patch that writes it, if the list of properties is still as it was.
pub(super) fn patch(wanted: &[Wanted], device: &Device, now_ms: i64) -> Value {
    let mut patch = Vec::new();
    let properties = &device.spec.properties;
    if properties.is_empty() {
        patch.push(json!({"op": "add", "path": "/spec/properties", "value": []}));
    }
    for Wanted { property, value } in wanted {
        let desired = json!({"value": value, "metadata": {"timestamp": now_ms.to_string()}});
        match properties.iter().position(|p| p.name == *property) {
            Some(at) => {
                let path = format!("/spec/properties/{at}");
                let name = format!("{path}/name");
                patch.push(json!({"op": "test", "path": name, "value": property}));
                patch.push(
                    json!({"op": "add", "path": format!("{path}/desired"), "value": desired}),
                );
            }
            None => {
                let value = json!({"name": property, "desired": desired});
                patch.push(json!({"op": "add", "path": "/spec/properties/-", "value": value}));
            }
        }
    }
    patch.into()
}

/// What the device reports of what is wanted, in the same order.
pub(super) fn reports(wanted: &[Wanted], status: &DeviceStatusStatus) -> Vec<Report> {
    let one = |wanted: &Wanted| {
        let twin = status.twins.iter().find(|t| t.property_name == wanted.property);
        let reported = twin.and_then(|t| t.reported.as_ref());
        Report {
            property: wanted.property.clone(),
            value: reported.map(|r| r.value.clone()),
            at: reported.and_then(|r| r.metadata.get("timestamp")?.parse().ok()),
        }
    };
    wanted.iter().map(one).collect()
}

impl Report {
    /// Whether it is what is wanted; `21` and `21.0` are one number.
    pub(super) fn is(&self, wanted: &Wanted) -> bool {
        let Some(value) = &self.value else { return false };
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        *value == wanted.value
            || number(value).zip(number(&wanted.value)).is_some_and(|(a, b)| a == b)
    }

    /// What it is instead.
    pub(super) fn instead(&self, wanted: &Wanted, now: jiff::Timestamp) -> String {
        let (property, want) = (&self.property, &wanted.value);
        let Some(value) = &self.value else {
            return format!("`{property}` should be `{want}`; nothing was ever reported of it");
        };
        let ago = self.at.map(|at| now.as_millisecond().saturating_sub(at));
        let when = match ago {
            Some(millis @ 0..) => format!(", said {} ago", api::moment::span(millis)),
            _ => String::new(),
        };
        format!("`{property}` should be `{want}`, and is reported as `{value}`{when}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(spec: Value) -> Device {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    fn wanted(text: &str) -> Vec<Wanted> {
        parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn an_argument_is_a_property_and_a_value_that_may_have_anything_in_it() {
        assert_eq!(wanted("a=b=c")[0].value, "b=c");
        assert_eq!(wanted("a=")[0].value, "");
        for bad in ["a", "=b", "a=1 a=2"] {
            let values: Vec<_> = bad.split(' ').map(str::to_owned).collect();
            assert_eq!(parse(&values).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn only_the_place_that_is_meant_is_written() {
        let device = device(json!({"properties": [{"name": "a"}, {"name": "b",
            "desired": {"value": "1"}}]}));
        let patch = patch(&wanted("b=2 c=3"), &device, 7);
        let desired = |value: &str| json!({"value": value, "metadata": {"timestamp": "7"}});
        assert_eq!(
            patch,
            json!([
                {"op": "test", "path": "/spec/properties/1/name", "value": "b"},
                {"op": "add", "path": "/spec/properties/1/desired", "value": desired("2")},
                {"op": "add", "path": "/spec/properties/-",
                 "value": {"name": "c", "desired": desired("3")}},
            ])
        );
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_before_anything_is_written() {
        let model: DeviceModel = serde_json::from_value(json!({"spec": {"properties": [
            {"name": "level", "type": "INT", "maximum": "9"}]}}))
        .unwrap();
        let device = device(json!({"properties": [{"name": "level"}]}));
        let try_ = |text: &str| check("lamp", &wanted(text), &device, Some(&model));
        assert!(try_("level=9").is_ok());
        assert_eq!(try_("level=10").unwrap_err().kind, Kind::Usage);
        assert_eq!(try_("colour=red").unwrap_err().kind, Kind::NotFound);
        assert!(check("lamp", &wanted("level=10"), &device, None).is_ok(), "no model, no range");
    }

    #[test]
    fn a_report_is_compared_as_a_number_where_it_is_one() {
        let status: DeviceStatusStatus = serde_json::from_value(json!({"twins": [
            {"propertyName": "t", "reported": {"value": "21.0", "metadata": {"timestamp": "1000"}}},
            {"propertyName": "on", "reported": {"value": "true"}}]}))
        .unwrap();
        let all = wanted("t=21 on=true x=1");
        let reports = reports(&all, &status);
        let is: Vec<bool> = reports.iter().zip(&all).map(|(r, w)| r.is(w)).collect();
        assert_eq!(is, [true, true, false]);
        let now = jiff::Timestamp::from_millisecond(6000).unwrap();
        let other = &wanted("t=22")[0];
        assert_eq!(
            reports[0].instead(other, now),
            "`t` should be `22`, and is reported as `21.0`, said 5s ago"
        );
        assert_eq!(
            reports[2].instead(&all[2], now),
            "`x` should be `1`; nothing was ever reported of it"
        );
    }
}

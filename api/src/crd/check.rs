//! Whether a Device fits its DeviceModel, and a DeviceModel itself. Pure.
//!
//! Owns: the rules of types, ranges and access.
//! Called by: the admission webhook (whole objects), `keadm device set` (one value).
//! Never: refuses what KubeEdge's own mappers would understand.

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

use super::AnyObject;
use super::devices::{
    AccessMode, Device, DeviceModel, DeviceProperty, ModelProperty, PropertyType, ProtocolConfig,
};

/// What is wrong with a field, in the form in which Kubernetes says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// `spec.properties[2].desired.value`
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What would be right.
    pub right: String,
}

impl Complaint {
    /// A field with a value that it cannot have.
    pub fn new(
        field: impl Into<String>,
        found: impl Into<String>,
        right: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), found: found.into(), right: right.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value from a hostile object must not fill anybody's screen.
        let found: String = self.found.chars().take(128).collect();
        if self.found.is_empty() {
            write!(f, "{}: Required value: {}", self.field, self.right)
        } else {
            write!(f, "{}: Invalid value: {found:?}: {}", self.field, self.right)
        }
    }
}

/// Whether a value may be desired of a property; if not, what would be right.
///
/// # Errors
/// When the property is read-only, or the value is not of its type or out of its range.
pub fn desired(property: &ModelProperty, value: &str) -> Result<(), String> {
    let name = &property.name;
    if property.access_mode == Some(AccessMode::ReadOnly) {
        return Err(format!(
            "property {name:?} is ReadOnly in its model, so nothing can be desired of it"
        ));
    }
    typed(property, value)
}

/// Whether a value is of a property's type and in its range; if not, what would be right.
fn typed(property: &ModelProperty, value: &str) -> Result<(), String> {
    let found = match property.type_ {
        Some(PropertyType::Int) => {
            let whole = value.parse::<i64>().ok().and_then(|_| number(value));
            whole.ok_or("must be a whole number (INT)")?
        }
        Some(PropertyType::Float | PropertyType::Double) => {
            number(value).ok_or("must be a number, for example 21.5")?
        }
        Some(PropertyType::Boolean) if !is_bool(value) => {
            return Err("must be true or false (BOOLEAN)".to_owned());
        }
        _ => return Ok(()),
    };
    let bound = |text: &Option<String>| text.as_deref().and_then(number);
    let below = bound(&property.minimum).is_some_and(|low| found < low);
    let above = bound(&property.maximum).is_some_and(|high| found > high);
    if !below && !above {
        return Ok(());
    }
    let unit = property.unit.as_deref().map(|u| format!(" {u}")).unwrap_or_default();
    Err(match (&property.minimum, &property.maximum) {
        (Some(low), Some(high)) => format!("must be from {low} to {high}{unit}"),
        (Some(low), None) => format!("must be at least {low}{unit}"),
        (_, high) => format!("must be at most {}{unit}", high.as_deref().unwrap_or_default()),
    })
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|n| n.is_finite())
}

/// What mappers, which are written in Go, take for a truth value.
fn is_bool(text: &str) -> bool {
    const WORDS: [&str; 12] =
        ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
    WORDS.contains(&text)
}

/// What is wrong with a model.
pub fn model(model: &DeviceModel) -> Vec<Complaint> {
    let mut wrong = Vec::new();
    let names = model.spec.properties.iter().map(|p| p.name.as_str());
    unique(names, &mut wrong);
    for (at, property) in model.spec.properties.iter().enumerate() {
        let field = |name: &str| format!("spec.properties[{at}].{name}");
        let numeric = matches!(
            property.type_,
            Some(PropertyType::Int | PropertyType::Float | PropertyType::Double)
        );
        if numeric {
            let mut bound = |name: &str, text: &Option<String>| {
                let text = text.as_deref().filter(|t| !t.is_empty())?;
                let bound = number(text);
                if bound.is_none() {
                    wrong.push(Complaint::new(field(name), text, "must be a number"));
                }
                bound
            };
            let low = bound("minimum", &property.minimum);
            let high = bound("maximum", &property.maximum);
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let right = format!("must not be above the maximum, which is {high}");
                wrong.push(Complaint::new(field("minimum"), low.to_string(), right));
            }
        }
        protocol(
            property.visitors.as_ref(),
            model.spec.protocol.as_deref(),
            "the model's protocol",
            &field("visitors"),
            &mut wrong,
        );
    }
    wrong
}

/// What is wrong with a device: by itself, and against its model if that is known. What stood in
/// `old` already is not held against a change of something else.
pub fn device(
    device: &Device,
    model: Option<&DeviceModel>,
    old: Option<&Device>,
) -> Vec<Complaint> {
    let mut wrong = Vec::new();
    let spec = &device.spec;
    unique(spec.properties.iter().map(|p| p.name.as_str()), &mut wrong);
    let own = spec.protocol.as_ref().and_then(|p| p.protocol_name.as_deref());
    if let Some(model) = model {
        let of_model = model.spec.protocol.as_deref();
        protocol(
            spec.protocol.as_ref(),
            of_model,
            "the model's protocol",
            "spec.protocol",
            &mut wrong,
        );
        let unchanged = old.is_some_and(|old| old.spec.protocol == spec.protocol);
        if !unchanged && let Some(own) = &spec.protocol {
            let of_model = model.spec.protocol_config_data.as_ref();
            settings(own.config_data.as_ref(), of_model, "spec.protocol", &mut wrong);
        }
    }
    for (at, property) in spec.properties.iter().enumerate() {
        let unchanged = old.is_some_and(|old| old.spec.properties.contains(property));
        if unchanged {
            continue;
        }
        let field = format!("spec.properties[{at}]");
        protocol(
            property.visitors.as_ref(),
            own,
            "the device's protocol",
            &format!("{field}.visitors"),
            &mut wrong,
        );
        if let Some(model) = model {
            against_model(property, model, &field, &mut wrong);
        }
    }
    let known: HashSet<&str> = spec.properties.iter().map(|p| p.name.as_str()).collect();
    for (at, method) in spec.methods.iter().enumerate() {
        for (n, name) in method.property_names.iter().enumerate() {
            if !known.contains(name.as_str()) {
                let field = format!("spec.methods[{at}].propertyNames[{n}]");
                wrong.push(Complaint::new(
                    field,
                    name,
                    "must be the name of one of spec.properties",
                ));
            }
        }
    }
    wrong
}

fn against_model(
    property: &DeviceProperty,
    model: &DeviceModel,
    field: &str,
    wrong: &mut Vec<Complaint>,
) {
    let Some(of_model) = model.spec.properties.iter().find(|p| p.name == property.name) else {
        let names: Vec<_> = model.spec.properties.iter().map(|p| p.name.as_str()).collect();
        let right = format!("must be a property of the model, which has: {}", names.join(", "));
        return wrong.push(Complaint::new(format!("{field}.name"), &property.name, right));
    };
    // Some tools write an empty desired value for "none".
    if let Some(value) = property.desired.as_ref().map(|d| &d.value).filter(|v| !v.is_empty())
        && let Err(right) = desired(of_model, value)
    {
        wrong.push(Complaint::new(format!("{field}.desired.value"), value, right));
    }
    if let (Some(own), Some(of_model)) = (&property.visitors, &of_model.visitors) {
        let (own, of_model) = (own.config_data.as_ref(), of_model.config_data.as_ref());
        settings(own, of_model, &format!("{field}.visitors"), wrong);
    }
}

/// A device's settings lie over those of its model, so one of another type than there would be a
/// surprise to the mapper. Settings that the model does not have are the mapper's business.
fn settings(
    own: Option<&AnyObject>,
    of_model: Option<&AnyObject>,
    field: &str,
    wrong: &mut Vec<Complaint>,
) {
    let (Some(own), Some(of_model)) = (own, of_model) else { return };
    for (key, value) in own {
        let Some(wanted) = of_model.get(key) else { continue };
        let (Some(found), Some(right)) = (type_of(value), type_of(wanted)) else { continue };
        if found != right {
            let text: String = wanted.to_string().chars().take(64).collect();
            let right = format!("must be {right}, as it is in the model: {text}");
            wrong.push(Complaint::new(format!("{field}.configData.{key}"), text_of(value), right));
        }
    }
}

/// A text without its quotes: the complaint puts its own around it.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn type_of(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some("true or false"),
        Value::Number(_) => Some("a number"),
        Value::String(_) => Some("a text"),
        Value::Array(_) => Some("a list"),
        Value::Object(_) => Some("an object"),
    }
}

fn protocol(
    config: Option<&ProtocolConfig>,
    wanted: Option<&str>,
    whose: &str,
    field: &str,
    wrong: &mut Vec<Complaint>,
) {
    let named = config.and_then(|c| c.protocol_name.as_deref()).filter(|n| !n.is_empty());
    let (Some(found), Some(wanted)) = (named, wanted.filter(|w| !w.is_empty())) else { return };
    if found != wanted {
        let right = format!("must be {whose}, {wanted:?}: only its mappers would see it");
        wrong.push(Complaint::new(format!("{field}.protocolName"), found, right));
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>, wrong: &mut Vec<Complaint>) {
    let mut seen = HashSet::new();
    for (at, name) in names.enumerate() {
        let field = format!("spec.properties[{at}].name");
        if name.is_empty() {
            wrong.push(Complaint::new(field, "", "a property has a name"));
        } else if !seen.insert(name) {
            wrong.push(Complaint::new(field, name, "property names must be unique."));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sensor() -> DeviceModel {
        serde_json::from_value(json!({"spec": {"protocol": "modbus", "properties": [
            {"name": "target", "type": "INT", "accessMode": "ReadWrite",
             "minimum": "-5", "maximum": "30", "unit": "C"},
            {"name": "on", "type": "BOOLEAN"},
            {"name": "level", "type": "FLOAT", "minimum": "0.5"},
            {"name": "now", "type": "DOUBLE", "accessMode": "ReadOnly"},
            {"name": "label", "type": "STRING"},
        ]}}))
        .unwrap()
    }

    fn said(wrong: &[Complaint]) -> Vec<String> {
        wrong.iter().map(ToString::to_string).collect()
    }

    fn with(spec: Value) -> Device {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn a_desired_value_is_of_the_type_and_in_the_range() {
        let model = sensor();
        let try_ = |name: &str, value: &str| {
            desired(model.spec.properties.iter().find(|p| p.name == name).unwrap(), value)
        };
        for (name, value) in [
            ("target", "-5"),
            ("target", "30"),
            ("on", "true"),
            ("on", "0"),
            ("level", "0.5"),
            ("level", "1e3"),
            ("label", ""),
        ] {
            assert_eq!(try_(name, value), Ok(()), "{name}={value}");
        }
        for (name, value, right) in [
            ("target", "31", "must be from -5 to 30 C"),
            ("target", "21.5", "must be a whole number (INT)"),
            ("target", "warm", "must be a whole number (INT)"),
            ("on", "yes", "must be true or false (BOOLEAN)"),
            ("level", "0.4", "must be at least 0.5"),
            ("level", "NaN", "must be a number, for example 21.5"),
            (
                "now",
                "1",
                "property \"now\" is ReadOnly in its model, so nothing can be desired of it",
            ),
        ] {
            assert_eq!(try_(name, value), Err(right.to_owned()), "{name}={value}");
        }
    }

    #[test]
    fn a_device_is_held_against_its_model_and_each_complaint_names_its_field() {
        let device_ = with(json!({
            "protocol": {"protocolName": "opcua"},
            "properties": [
                {"name": "target", "desired": {"value": "99"},
                 "visitors": {"protocolName": "modbus"}},
                {"name": "target"},
                {"name": "humidity"},
                {},
            ],
            "methods": [{"name": "m", "propertyNames": ["target", "nothing"]}],
        }));
        let model = sensor();
        assert_eq!(
            said(&device(&device_, Some(&model), None)),
            [
                "spec.properties[1].name: Invalid value: \"target\": property names must be unique.",
                "spec.properties[3].name: Required value: a property has a name",
                "spec.protocol.protocolName: Invalid value: \"opcua\": must be the model's protocol, \
                 \"modbus\": only its mappers would see it",
                "spec.properties[0].visitors.protocolName: Invalid value: \"modbus\": must be the \
                 device's protocol, \"opcua\": only its mappers would see it",
                "spec.properties[0].desired.value: Invalid value: \"99\": must be from -5 to 30 C",
                "spec.properties[2].name: Invalid value: \"humidity\": must be a property of the \
                 model, which has: target, on, level, now, label",
                "spec.properties[3].name: Required value: must be a property of the model, which \
                 has: target, on, level, now, label",
                "spec.methods[0].propertyNames[1]: Invalid value: \"nothing\": must be the name of \
                 one of spec.properties",
            ]
        );
        let without = said(&device(&device_, None, None));
        assert!(without.iter().all(|w| !w.contains("model")), "{without:?}");
    }

    #[test]
    fn settings_are_of_the_types_that_the_model_has() {
        let model: DeviceModel = serde_json::from_value(json!({"spec": {"protocol": "modbus",
            "protocolConfigData": {"port": 502, "tls": false}, "properties": [
            {"name": "t", "visitors": {"configData": {"offset": 2, "register": "Coil"}}},
            {"name": "u"}]}}))
        .unwrap();
        let with_settings = |port: Value, offset: Value| {
            with(json!({"protocol": {"configData": {"port": port, "own": [1]}},
                "properties": [
                    {"name": "t", "visitors": {"configData": {"offset": offset, "limit": 1}}},
                    {"name": "u", "visitors": {"configData": {"offset": "any"}}}]}))
        };
        let good = with_settings(json!(1502), json!(null));
        assert_eq!(said(&device(&good, Some(&model), None)), [""; 0]);
        let bad = with_settings(json!("1502"), json!("two"));
        let wrong = said(&device(&bad, Some(&model), None));
        assert_eq!(
            wrong,
            [
                "spec.protocol.configData.port: Invalid value: \"1502\": must be a number, \
                 as it is in the model: 502",
                "spec.properties[0].visitors.configData.offset: Invalid value: \"two\": \
                 must be a number, as it is in the model: 2",
            ]
        );
        assert_eq!(said(&device(&bad, Some(&model), Some(&bad))), [""; 0], "it stood there");
    }

    #[test]
    fn what_was_there_before_does_not_stand_in_the_way_of_a_change() {
        let old = with(json!({"properties": [{"name": "target", "desired": {"value": "99"}}]}));
        let new = with(json!({"properties": [{"name": "target", "desired": {"value": "99"}},
            {"name": "on", "desired": {"value": "maybe"}}]}));
        let wrong = said(&device(&new, Some(&sensor()), Some(&old)));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("spec.properties[1].desired.value"), "{wrong:?}");
    }

    #[test]
    fn a_model_whose_bounds_make_no_sense_is_refused() {
        assert!(model(&sensor()).is_empty());
        let bad: DeviceModel = serde_json::from_value(json!({"spec": {"protocol": "modbus",
            "properties": [
                {"name": "a", "type": "INT", "minimum": "9", "maximum": "1"},
                {"name": "a", "type": "INT", "maximum": "lots"},
                {"name": "s", "type": "STRING", "maximum": "lots"},
                {"name": "v", "visitors": {"protocolName": "ble"}},
        ]}}))
        .unwrap();
        assert_eq!(
            said(&model(&bad)),
            [
                "spec.properties[1].name: Invalid value: \"a\": property names must be unique.",
                "spec.properties[0].minimum: Invalid value: \"9\": must not be above the maximum, \
                 which is 1",
                "spec.properties[1].maximum: Invalid value: \"lots\": must be a number",
                "spec.properties[3].visitors.protocolName: Invalid value: \"ble\": must be the \
                 model's protocol, \"modbus\": only its mappers would see it",
            ]
        );
    }

    #[test]
    fn a_long_value_does_not_fill_the_screen() {
        let text = Complaint::new("f", "x".repeat(10_000), "must be short").to_string();
        assert!(text.len() < 200, "{}", text.len());
    }
}

//! What a DeviceModel says of values. Pure.
//!
//! Owns: which properties a device has, and of which type their values are.
//! Called by: `merge.rs`, through `state.rs`.
//! Never: judges the range of what was measured: a reading beyond it is news, not a fault.

use std::collections::BTreeMap;

use api::crd::devices::{DeviceModel, PropertyType};

/// The properties of a device and the types of those that its model has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Schema(BTreeMap<String, Option<PropertyType>>);

impl Schema {
    /// Of a device's own properties and those of its model. `None` without a model: then nothing is
    /// known for sure.
    pub(super) fn of<'a>(
        own: impl Iterator<Item = &'a String>,
        model: Option<&DeviceModel>,
    ) -> Option<Self> {
        let model = model?;
        let mut all: BTreeMap<String, Option<PropertyType>> =
            own.map(|name| (name.clone(), None)).collect();
        for property in &model.spec.properties {
            all.insert(property.name.clone(), property.type_);
        }
        Some(Self(all))
    }

    /// Whether there is such a property.
    pub(super) fn has(&self, property: &str) -> bool {
        self.0.contains_key(property)
    }

    /// Whether the model says that the property is text. Such a value may have any character that can
    /// be seen, where the published rules have letters, digits and few more.
    pub(super) fn is_text(&self, property: &str) -> bool {
        matches!(self.0.get(property), Some(Some(PropertyType::String | PropertyType::Bytes)))
    }

    /// Whether a value is of the property's type; says what is wrong if it is not.
    pub(super) fn check(&self, property: &str, value: &str) -> Result<(), String> {
        let Some(Some(value_type)) = self.0.get(property) else { return Ok(()) };
        let (fits, name) = match value_type {
            PropertyType::Int => (value.parse::<i64>().is_ok(), "an INT"),
            PropertyType::Float => (value.parse::<f64>().is_ok(), "a FLOAT"),
            PropertyType::Double => (value.parse::<f64>().is_ok(), "a DOUBLE"),
            PropertyType::Boolean => {
                let value = value.to_ascii_lowercase();
                (matches!(value.as_str(), "true" | "false" | "1" | "0"), "a BOOLEAN")
            }
            PropertyType::String | PropertyType::Bytes | PropertyType::Stream => (true, ""),
        };
        if fits {
            return Ok(());
        }
        Err(format!("`{value}` is not {name}, as its DeviceModel says"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_held_to_the_types_of_the_model() {
        let model: DeviceModel = serde_json::from_str(
            r#"{"metadata":{"name":"m"},"spec":{"properties":[{"name":"n","type":"INT"},
            {"name":"f","type":"FLOAT"},{"name":"b","type":"BOOLEAN"},{"name":"s","type":"STRING"}]}}"#,
        )
        .unwrap();
        let own = ["extra".to_owned()];
        let schema = Schema::of(own.iter(), Some(&model)).unwrap();
        for (property, value) in
            [("n", "-5"), ("f", "2.5"), ("b", "TRUE"), ("b", "0"), ("s", "any"), ("extra", "any")]
        {
            assert_eq!(schema.check(property, value), Ok(()), "{property}={value}");
        }
        for (property, value) in [("n", "5.5"), ("f", "warm"), ("b", "yes")] {
            let why = schema.check(property, value).unwrap_err();
            assert!(why.contains(value) && why.contains("DeviceModel"), "{why}");
        }
        assert!(schema.is_text("s") && !schema.is_text("n") && !schema.is_text("extra"));
        assert!(schema.has("extra") && !schema.has("other"));
        assert_eq!(Schema::of(own.iter(), None), None);
    }
}

//! What a mapper must be told. Pure.
//!
//! Owns: the comparison of what a mapper was told with what it should know, and the order of steps:
//! models before devices, removals of models last.
//! Called by: `mapper.rs`.
//! Never: tells a mapper of a device that is not of its protocol.

use std::collections::BTreeMap;

use super::pb;

/// Namespace and name.
pub(super) type Name = (String, String);

/// Devices and models, those that a mapper was told or those that it should know.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Catalog {
    pub(super) models: BTreeMap<Name, pb::DeviceModel>,
    pub(super) devices: BTreeMap<Name, pb::Device>,
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A model is new.
    CreateModel(pb::DeviceModel),
    /// A model has changed.
    UpdateModel(pb::DeviceModel),
    /// A device is new to the mapper.
    Register(pb::Device),
    /// A device has changed.
    Update(pb::Device),
    /// A device is gone, or another's.
    Remove(Name),
    /// No device has that model any more.
    RemoveModel(Name),
}

/// The steps from what a mapper was `told` to what it should `know`.
pub(super) fn plan(told: &Catalog, know: &Catalog) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, model) in &know.models {
        match told.models.get(name) {
            None => steps.push(Step::CreateModel(model.clone())),
            Some(old) if old != model => steps.push(Step::UpdateModel(model.clone())),
            Some(_) => {}
        }
    }
    for name in told.devices.keys().filter(|name| !know.devices.contains_key(*name)) {
        steps.push(Step::Remove(name.clone()));
    }
    for (name, device) in &know.devices {
        match told.devices.get(name) {
            None => steps.push(Step::Register(device.clone())),
            Some(old) if old != device => steps.push(Step::Update(device.clone())),
            Some(_) => {}
        }
    }
    for name in told.models.keys().filter(|name| !know.models.contains_key(*name)) {
        steps.push(Step::RemoveModel(name.clone()));
    }
    steps
}

impl Catalog {
    /// A step was carried out.
    pub(super) fn done(&mut self, step: Step) {
        match step {
            Step::CreateModel(model) | Step::UpdateModel(model) => {
                self.models.insert((model.namespace.clone(), model.name.clone()), model);
            }
            Step::Register(device) | Step::Update(device) => {
                self.devices.insert((device.namespace.clone(), device.name.clone()), device);
            }
            Step::Remove(name) => drop(self.devices.remove(&name)),
            Step::RemoveModel(name) => drop(self.models.remove(&name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(devices: &[(&str, &str)]) -> Catalog {
        let mut catalog = Catalog::default();
        for (name, model) in devices {
            let spec = pb::DeviceSpec {
                device_model_reference: (*model).to_owned(),
                ..pb::DeviceSpec::default()
            };
            catalog.done(Step::CreateModel(pb::DeviceModel {
                name: (*model).to_owned(),
                ..pb::DeviceModel::default()
            }));
            catalog.done(Step::Register(pb::Device {
                name: (*name).to_owned(),
                spec: Some(spec),
                ..pb::Device::default()
            }));
        }
        catalog
    }

    fn words(steps: &[Step]) -> Vec<String> {
        let word = |step: &Step| match step {
            Step::CreateModel(m) => format!("+model {}", m.name),
            Step::UpdateModel(m) => format!("~model {}", m.name),
            Step::Register(d) => format!("+{}", d.name),
            Step::Update(d) => format!("~{}", d.name),
            Step::Remove((_, name)) => format!("-{name}"),
            Step::RemoveModel((_, name)) => format!("-model {name}"),
        };
        steps.iter().map(word).collect()
    }

    #[test]
    fn a_mapper_that_knows_nothing_is_told_models_and_then_devices() {
        let know = catalog(&[("a", "m"), ("b", "m")]);
        let steps = plan(&Catalog::default(), &know);
        assert_eq!(words(&steps), ["+model m", "+a", "+b"]);
        let mut told = Catalog::default();
        for step in steps {
            told.done(step);
        }
        assert_eq!(plan(&told, &know), []);
    }

    #[test]
    fn only_what_differs_is_told_and_a_model_goes_after_its_last_device() {
        let told = catalog(&[("a", "m"), ("b", "n"), ("c", "m")]);
        let know = catalog(&[("a", "m2"), ("c", "m2")]);
        assert_eq!(
            words(&plan(&told, &know)),
            ["+model m2", "-b", "~a", "~c", "-model m", "-model n"]
        );
    }
}

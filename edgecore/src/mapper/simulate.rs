//! A virtual device. Pure: time and chance come from the caller.
//!
//! Owns: how each kind of property behaves, and when it is reported.
//! Called by: `mod.rs`. Never: knows who is told.
//!
//! What a property does is its visitor's setting `simulate`: `temperature` (a slow wave with noise,
//! around the setting `mean`), `counter` (one more at each report) or `obey` (it becomes what is
//! desired). Without the setting, a property with a desired value obeys, and others are temperatures.
//! A device whose protocol has the setting `dropOutSeconds` is offline for the last quarter of each
//! such time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::devicetwin::dmi::{pb, setting};

/// How often a property is reported that does not say, and how often at most.
const CYCLE: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(50);
/// How often the state is reported even if it is the same.
const STATE_EVERY: Duration = Duration::from_secs(30);
/// The slow wave.
const WAVE_SECONDS: f64 = 120.0;
const WAVE_HEIGHT: f64 = 1.5;
const NOISE: f64 = 0.3;

/// What a property does.
#[derive(Debug, Clone, PartialEq)]
enum Behaviour {
    Temperature { mean: f64 },
    Counter { count: i64 },
    Obey,
}

/// Something to tell edgecore.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Report {
    State(&'static str),
    Twins(Vec<pb::Twin>),
}

#[derive(Debug, Clone)]
struct Property {
    behaviour: Behaviour,
    desired: String,
    cycle: Duration,
    due: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct SimulatedDevice {
    given: pb::Device,
    born: Instant,
    properties: BTreeMap<String, Property>,
    drop_out: Option<Duration>,
    state: &'static str,
    state_due: Instant,
}

impl SimulatedDevice {
    pub(super) fn new(given: &pb::Device, now: Instant) -> Self {
        let mut device = Self {
            given: pb::Device::default(),
            born: now,
            properties: BTreeMap::new(),
            drop_out: None,
            state: "",
            state_due: now,
        };
        device.take(given, now);
        device
    }

    /// The device has changed: counters go on, and what is desired is reported at once.
    pub(super) fn change(&mut self, given: &pb::Device) {
        self.take(given, Instant::now());
    }

    /// As edgecore gave it.
    pub(super) fn given(&self) -> &pb::Device {
        &self.given
    }

    fn take(&mut self, given: &pb::Device, now: Instant) {
        let spec = given.spec.clone().unwrap_or_default();
        let config = spec.protocol.as_ref().and_then(|p| p.config_data.as_ref());
        self.drop_out = setting(config, "dropOutSeconds")
            .and_then(|s| s.parse().ok())
            .filter(|s: &f64| s.is_finite() && *s >= 1.0 && *s < 1e6)
            .map(Duration::from_secs_f64);
        let mut properties = BTreeMap::new();
        for property in &spec.properties {
            let before = self.properties.remove(&property.name);
            properties.insert(property.name.clone(), taken(property, before, now));
        }
        self.properties = properties;
        self.given = given.clone();
    }

    /// What is to be reported now. `chance` gives numbers from 0 to 1.
    pub(super) fn due(&mut self, now: Instant, chance: &mut dyn FnMut() -> f64) -> Vec<Report> {
        let mut reports = Vec::new();
        let state = if self.is_out(now) { "offline" } else { "online" };
        if state != self.state || now >= self.state_due {
            self.state = state;
            self.state_due = now + STATE_EVERY;
            reports.push(Report::State(state));
        }
        let seconds = now.saturating_duration_since(self.born).as_secs_f64();
        let mut twins = Vec::new();
        for (name, property) in &mut self.properties {
            if now < property.due {
                continue;
            }
            property.due = now + property.cycle;
            if state == "online" {
                twins.push(property.report(name, seconds, chance));
            }
        }
        if !twins.is_empty() {
            reports.push(Report::Twins(twins));
        }
        reports
    }

    /// When something is to be reported next.
    pub(super) fn next_due(&self) -> Instant {
        let properties = self.properties.values().map(|p| p.due);
        properties.chain([self.state_due]).min().unwrap_or(self.state_due)
    }

    fn is_out(&self, now: Instant) -> bool {
        let Some(period) = self.drop_out else { return false };
        let at = now.saturating_duration_since(self.born).as_secs_f64() / period.as_secs_f64();
        at.fract() >= 0.75
    }
}

fn taken(property: &pb::DeviceProperty, before: Option<Property>, now: Instant) -> Property {
    let settings = property.visitors.as_ref().and_then(|v| v.config_data.as_ref());
    let desired = property.desired.as_ref().map(|d| d.value.clone()).unwrap_or_default();
    let mean = setting(settings, "mean").and_then(|m| m.parse().ok()).unwrap_or(21.0);
    let behaviour = match setting(settings, "simulate").as_deref() {
        Some("counter") => match before.as_ref().map(|b| &b.behaviour) {
            Some(Behaviour::Counter { count }) => Behaviour::Counter { count: *count },
            _ => Behaviour::Counter { count: 0 },
        },
        Some("obey") => Behaviour::Obey,
        Some("temperature") => Behaviour::Temperature { mean },
        _ if !desired.is_empty() => Behaviour::Obey,
        _ => Behaviour::Temperature { mean },
    };
    let cycle = u64::try_from(property.report_cycle).ok().filter(|ms| *ms > 0);
    let due = match before {
        Some(before) if before.desired == desired => before.due,
        _ => now,
    };
    let cycle = cycle.map_or(CYCLE, |ms| Duration::from_millis(ms).max(SHORTEST));
    Property { behaviour, desired, cycle, due }
}

impl Property {
    fn report(&mut self, name: &str, seconds: f64, chance: &mut dyn FnMut() -> f64) -> pb::Twin {
        let value = match &mut self.behaviour {
            Behaviour::Temperature { mean } => {
                let wave = (seconds / WAVE_SECONDS * std::f64::consts::TAU).sin() * WAVE_HEIGHT;
                let noise = (chance() - 0.5) * 2.0 * NOISE;
                format!("{:.2}", *mean + wave + noise)
            }
            Behaviour::Counter { count } => {
                *count += 1;
                count.to_string()
            }
            Behaviour::Obey if self.desired.is_empty() => "false".to_owned(),
            Behaviour::Obey => self.desired.clone(),
        };
        let property = |value: String| pb::TwinProperty { value, ..pb::TwinProperty::default() };
        pb::Twin {
            property_name: name.to_owned(),
            observed_desired: (!self.desired.is_empty()).then(|| property(self.desired.clone())),
            reported: Some(property(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::Any;

    use super::*;

    fn settings(of: &[(&str, &str)]) -> Option<pb::CustomizedValue> {
        let any = |value: &str| Any {
            type_url: "type.googleapis.com/google.protobuf.StringValue".into(),
            value: value.to_owned().encode_to_vec(),
        };
        let data = of.iter().map(|(k, v)| ((*k).to_owned(), any(v))).collect();
        Some(pb::CustomizedValue { data })
    }

    fn device(properties: &[(&str, &str, &str)], protocol: &[(&str, &str)]) -> pb::Device {
        let property = |(name, simulate, desired): &(&str, &str, &str)| pb::DeviceProperty {
            name: (*name).to_owned(),
            report_cycle: 1000,
            desired: (!desired.is_empty())
                .then(|| pb::TwinProperty { value: (*desired).to_owned(), ..Default::default() }),
            visitors: Some(pb::VisitorConfig {
                config_data: settings(&[("simulate", simulate)]),
                ..Default::default()
            }),
            ..Default::default()
        };
        pb::Device {
            name: "d".into(),
            spec: Some(pb::DeviceSpec {
                properties: properties.iter().map(property).collect(),
                protocol: Some(pb::ProtocolConfig {
                    config_data: settings(protocol),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn values(reports: &[Report]) -> BTreeMap<String, String> {
        let twins = reports.iter().filter_map(|r| match r {
            Report::Twins(twins) => Some(twins),
            Report::State(_) => None,
        });
        twins
            .flatten()
            .map(|t| (t.property_name.clone(), t.reported.clone().unwrap().value))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_counts_a_temperature_stays_near_its_mean_and_a_switch_obeys() {
        let now = Instant::now();
        let given =
            device(&[("n", "counter", ""), ("t", "temperature", ""), ("s", "obey", "true")], &[]);
        let mut simulated = SimulatedDevice::new(&given, now);
        let first = simulated.due(now, &mut || 0.9);
        assert_eq!(first[0], Report::State("online"));
        let values_now = values(&first);
        assert_eq!((values_now["n"].as_str(), values_now["s"].as_str()), ("1", "true"));
        let t: f64 = values_now["t"].parse().unwrap();
        assert!((t - 21.0).abs() <= WAVE_HEIGHT + NOISE, "{t}");
        assert_eq!(simulated.due(now, &mut || 0.5), [], "nothing is due again at once");
        let later = simulated.next_due();
        assert_eq!(later, now + Duration::from_secs(1));
        assert_eq!(values(&simulated.due(later, &mut || 0.5))["n"], "2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_desired_value_is_obeyed_and_reported_at_once_and_a_counter_goes_on() {
        let now = Instant::now();
        let mut simulated = SimulatedDevice::new(
            &device(&[("n", "counter", ""), ("s", "obey", "false")], &[]),
            now,
        );
        simulated.due(now, &mut || 0.5);
        simulated.change(&device(&[("n", "counter", ""), ("s", "obey", "true")], &[]));
        let reports = simulated.due(now, &mut || 0.5);
        assert_eq!(values(&reports), BTreeMap::from([("s".into(), "true".into())]));
        let Report::Twins(twins) = &reports[0] else { panic!("{reports:?}") };
        assert_eq!(twins[0].observed_desired.as_ref().unwrap().value, "true");
        assert_eq!(values(&simulated.due(simulated.next_due(), &mut || 0.5))["n"], "2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_drops_out_and_comes_back() {
        let now = Instant::now();
        let given = device(&[("n", "counter", "")], &[("dropOutSeconds", "20")]);
        let mut simulated = SimulatedDevice::new(&given, now);
        let mut states = Vec::new();
        for second in 0..40 {
            let reports = simulated.due(now + Duration::from_secs(second), &mut || 0.5);
            let out = values(&reports).is_empty();
            assert_eq!(out, second % 20 >= 15, "second {second}");
            states.extend(reports.iter().filter_map(|r| match r {
                Report::State(state) => Some((second, *state)),
                Report::Twins(_) => None,
            }));
        }
        let expected = [(0, "online"), (15, "offline"), (20, "online"), (35, "offline")];
        assert_eq!(states, expected);
    }
}

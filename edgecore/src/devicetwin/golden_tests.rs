//! Each topic of devices against golden payloads: `golden/mqtt.jsonl`, written from the published
//! catalogue of messages and not by our code. Its steps follow one another on one node; an
//! `event_id` that edgecore makes up stands there as `*`, and so does a `reason`, which is for people.

use serde::Deserialize;

use super::state::{Effects, State};
use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    step: String,
    /// A topic, or `cloud` for what the cloud says.
    on: String,
    given: String,
    #[serde(default)]
    published: Vec<(String, String)>,
    /// What the cloud is told.
    #[serde(default)]
    told: Vec<String>,
}

fn now() -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_123).unwrap()
}

/// Payloads as they are, but for event ids that were made up, and reasons.
fn published(effects: &Effects) -> Vec<(String, String)> {
    let made_up = |payload: &str| {
        let (head, rest) = payload.split_once("\"event_id\":\"")?;
        let (id, rest) = rest.split_once('"')?;
        uuid::Uuid::parse_str(id).ok()?;
        Some(format!("{head}\"event_id\":\"*\"{rest}"))
    };
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Publish { topic, payload } => {
                let mut payload = made_up(payload).unwrap_or_else(|| payload.clone());
                if let Some((head, reason)) = payload.split_once("\"reason\":\"") {
                    assert!(reason.len() > "\"}".len(), "{payload}");
                    payload = format!("{head}\"reason\":\"*\"}}");
                }
                Some((topic.clone(), payload))
            }
            _ => None,
        })
        .collect()
}

fn told(effects: &Effects) -> Vec<String> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::TwinUp(_, twin) => Some(payload::encode(twin).unwrap()),
            Effect::StateUp(_, report) => Some(payload::encode(report).unwrap()),
            _ => None,
        })
        .collect()
}

#[test]
fn each_topic_has_the_payloads_of_the_published_catalogue() {
    let mut state = State::new("edge-1".parse().unwrap(), BTreeMap::new());
    let mut topics = BTreeSet::new();
    for line in include_str!("golden/mqtt.jsonl").lines() {
        let step: Step = serde_json::from_str(line).unwrap();
        let effects = if step.on == "cloud" {
            let update = payload::decode::<MembershipUpdate>(step.given.as_bytes()).unwrap();
            state.membership(update, now())
        } else {
            topics.insert(step.on.clone());
            match Topic::parse(&step.on).unwrap() {
                Some(topic) => state.mqtt(&topic, step.given.as_bytes(), now()),
                None => panic!("`{}` is no topic of devices", step.on),
            }
        };
        assert_eq!(published(&effects), step.published, "{}", step.step);
        assert_eq!(told(&effects), step.told, "{}", step.step);
        topics.extend(step.published.into_iter().map(|(topic, _)| topic));
    }
    let device = "$hw/events/device/default/sensor-1";
    let node = "$hw/events/node/edge-1/membership";
    for topic in [
        "twin/update",
        "twin/update/result",
        "twin/update/delta",
        "twin/update/document",
        "twin/get",
        "twin/get/result",
        "twin/cloud_updated",
        "state/update",
        "state/update/result",
        "updated",
    ] {
        assert!(topics.remove(&format!("{device}/{topic}")), "no step has {topic}");
    }
    for topic in ["get", "get/result", "updated"] {
        assert!(topics.remove(&format!("{node}/{topic}")), "no step has {topic}");
    }
    for topic in ["$hw/events/connected/edge-1", "$hw/events/disconnected/edge-1"] {
        assert!(topics.remove(topic), "no step has {topic}");
    }
    assert!(topics.remove("$hw/events/device//twin/update/result"));
}

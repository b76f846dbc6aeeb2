//! An MQTT message about twins: the topic, a zero byte, the payload.
#![no_main]

use api::twin::message::{
    AttributesUpdated, Get, MembershipDetailGet, MembershipList, MembershipUpdate, Refusal,
    StateReport, StateUpdate, TwinDelta, TwinDocument, TwinUpdate, decode, encode,
};
use api::twin::topics::Topic;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(
    init: {
        let topic = "$hw/events/device/default/sensor-1/twin/update\0";
        fuzz::seed(fuzz::rows(fuzz::MESSAGES).filter_map(|row| {
            let twin = row["router"]["source"] == "twin" || row["router"]["group"] == "twin";
            let content = row["content_utf8"].as_str().filter(|_| twin)?;
            Some(format!("{topic}{content}").into_bytes())
        }));
    },
    |data: &[u8]| {
        let at = data.iter().position(|byte| *byte == 0).unwrap_or(0);
        let (topic, payload) = data.split_at(at);
        if let Ok(text) = str::from_utf8(topic) {
            match Topic::parse(text) {
                Ok(Some(topic)) => assert_eq!(topic.to_string(), text),
                Ok(None) => {}
                Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
            }
        }
        let payload = payload.strip_prefix(b"\0").unwrap_or(payload);
        survives::<Get>(payload);
        survives::<TwinUpdate>(payload);
        survives::<TwinDelta>(payload);
        survives::<TwinDocument>(payload);
        survives::<Refusal>(payload);
        survives::<StateUpdate>(payload);
        survives::<StateReport>(payload);
        survives::<AttributesUpdated>(payload);
        survives::<MembershipUpdate>(payload);
        survives::<MembershipList>(payload);
        survives::<MembershipDetailGet>(payload);
    }
);

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(payload: &[u8]) {
    let Ok(message) = decode::<T>(payload) else { return };
    // It may be too large now: `<` takes six bytes when it is written.
    let Ok(text) = encode(&message) else { return };
    assert_eq!(decode::<T>(text.as_bytes()).expect("what was written can be read"), message);
}

//! A WebSocket message from either side: read, understood, written again, read again.
#![no_main]

use api::names::NodeName;
use api::wire::{DecodeError, Downstream, Upstream, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        fuzz::seed(fuzz::rows(fuzz::MESSAGES).filter_map(|row| Some(row["ws_text"].as_str()?.into())));
    },
    |data: &[u8]| {
        let Ok(msg) = json::decode(data) else { return };
        let text = json::encode(&msg).expect("what was read can be written");
        assert_eq!(json::decode(text.as_bytes()).expect("what was written can be read"), msg);
        let _ = msg.content.head();

        let node: NodeName = "edge-1".parse().expect("a name");
        match Upstream::decode(&node, msg.clone()) {
            Ok((id, upstream)) => {
                let again = upstream.encode(&id, msg.header.timestamp);
                assert_eq!(Upstream::decode(&node, again), Ok((id, upstream)));
            }
            Err(error) => check(&error),
        }
        match Downstream::decode(msg.clone()) {
            Ok((id, downstream)) => {
                let again = downstream.encode(&id, msg.header.timestamp);
                assert_eq!(downstream.ack(&id).is_some(), downstream.needs_ack());
                assert_eq!(Downstream::decode(again), Ok((id, downstream)));
            }
            Err(error) => check(&error),
        }
    }
);

/// What is shown of a message that was refused is short and has no control characters.
fn check(error: &DecodeError) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() < 10_000, "{text:?}");
}

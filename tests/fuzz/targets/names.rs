//! Names, keys and durations: what is read prints as it was, or as what reads the same.
#![no_main]

use api::config::GoDuration;
use api::crd::reliablesyncs::{parse_sync_name, sync_name};
use api::names::{Namespace, NodeName, ObjectKey, ResourceVersion, Uid};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        let seeds = [
            "edge-1.site",
            "default/pod/web-0",
            "null/node/edge-1",
            "edge-1.11111111-2222-3333-4444-555555555555",
            "1h2m3.25s",
            "18446744073709551615",
        ];
        fuzz::seed(seeds.map(Vec::from));
    },
    |data: &[u8]| {
        let Ok(text) = str::from_utf8(data) else { return };
        if let Ok(name) = text.parse::<NodeName>() {
            assert_eq!(name.as_str(), text);
        }
        if let Ok(name) = text.parse::<Namespace>() {
            assert_eq!(name.as_str(), text);
        }
        if let Ok(uid) = text.parse::<Uid>() {
            assert_eq!(uid.as_str(), text);
        }
        if let Ok(key) = text.parse::<ObjectKey>() {
            assert_eq!(key.to_string(), text);
        }
        if let Ok(version) = text.parse::<ResourceVersion>() {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        if let Ok((node, uid)) = parse_sync_name(text) {
            assert_eq!(sync_name(&node, &uid), text);
        }
        if let Ok(duration) = text.parse::<GoDuration>() {
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
);

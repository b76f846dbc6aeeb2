//! A message of the status stream, in either direction.
#![no_main]

use api::status::stream::{FromReader, ToReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        let seeds = [
            r#"{"type":"hello","version":1,"server":"cloudcore"}"#,
            r#"{"type":"update","now":5,"full":true,"nodes":[{"name":"a"}],"totals":{"up":0}}"#,
            r#"{"type":"request","id":3,"request":{"what":"logs","namespace":"default","pod":"web"}}"#,
            r#"{"type":"flow","on":true}"#,
            r#"{"type":"log","id":1,"lines":["a"]}"#,
        ];
        fuzz::seed(seeds.map(Vec::from));
    },
    |data: &[u8]| {
        if let Ok(message) = serde_json::from_slice::<ToReader>(data)
            && message != ToReader::Unknown
        {
            let text = serde_json::to_string(&message).expect("what was read can be written");
            assert_eq!(serde_json::from_str::<ToReader>(&text).expect("it can be read"), message);
        }
        if let Ok(message) = serde_json::from_slice::<FromReader>(data) {
            let text = serde_json::to_string(&message).expect("what was read can be written");
            assert_eq!(serde_json::from_str::<FromReader>(&text).expect("it can be read"), message);
        }
    }
);

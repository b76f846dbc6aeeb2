//! A configuration file of either half.
#![no_main]

use std::fmt::Debug;

use api::config::{CloudCoreConfig, ConfigFile, Document, EdgeCoreConfig, Host};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed(fuzz::CONFIGS.iter().map(|text| text.as_bytes().to_vec())) },
    |data: &[u8]| {
        let Ok(text) = str::from_utf8(data) else { return };
        survives::<CloudCoreConfig>(text);
        survives::<EdgeCoreConfig>(text);
    }
);

fn survives<C: ConfigFile + PartialEq + Debug>(text: &str) {
    let host = Host::default();
    let Ok(document) = Document::<C>::read(text, &host) else { return };
    let Ok((config, _)) = document.config() else { return };
    let again = document.to_yaml().expect("what was read can be written");
    let (again, _) = C::parse(&again, &host).expect("what was written can be read");
    assert_eq!(again, config);
}

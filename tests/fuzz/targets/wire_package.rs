//! A package as QUIC carries it.
#![no_main]

use api::wire::package::Package;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed(fuzz::hex_column(fuzz::MESSAGES, "packet_hex")) },
    |data: &[u8]| {
        let Ok((package, used)) = Package::decode(data) else { return };
        assert!(used <= data.len());
        let bytes = package.encode().expect("what was read can be written");
        let len = bytes.len();
        assert_eq!(Package::decode(&bytes), Ok((package, len)));
    }
);

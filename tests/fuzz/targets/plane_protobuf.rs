//! Bodies as typed clients send them.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_protobuf").seeds)()) },
    |data: &[u8]| (target("plane_protobuf").run)(data)
);

//! Rules in CEL.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_rules").seeds)()) },
    |data: &[u8]| (target("plane_rules").run)(data)
);

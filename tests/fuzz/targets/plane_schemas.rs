//! Schemas of custom kinds: pruning, defaults, validation.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_schemas").seeds)()) },
    |data: &[u8]| (target("plane_schemas").run)(data)
);

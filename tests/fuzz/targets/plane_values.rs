//! Quantities, schedules and names.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_values").seeds)()) },
    |data: &[u8]| (target("plane_values").run)(data)
);

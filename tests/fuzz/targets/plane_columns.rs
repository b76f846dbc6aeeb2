//! Paths of columns and selectable fields.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_columns").seeds)()) },
    |data: &[u8]| (target("plane_columns").run)(data)
);

//! JSON, merge and strategic merge patches.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_patches").seeds)()) },
    |data: &[u8]| (target("plane_patches").run)(data)
);

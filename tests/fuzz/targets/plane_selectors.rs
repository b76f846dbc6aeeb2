//! Label and field selectors.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_selectors").seeds)()) },
    |data: &[u8]| (target("plane_selectors").run)(data)
);

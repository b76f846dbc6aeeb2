//! Server-side apply onto an object with managed fields.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_applies").seeds)()) },
    |data: &[u8]| (target("plane_applies").run)(data)
);

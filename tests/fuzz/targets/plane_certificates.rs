//! Client certificates and signing requests.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_certificates").seeds)()) },
    |data: &[u8]| (target("plane_certificates").run)(data)
);

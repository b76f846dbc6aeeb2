//! Bootstrap tokens, and headers by which somebody becomes somebody else.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_identities").seeds)()) },
    |data: &[u8]| (target("plane_identities").run)(data)
);

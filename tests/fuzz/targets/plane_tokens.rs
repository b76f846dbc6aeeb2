//! Tokens of service accounts.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_tokens").seeds)()) },
    |data: &[u8]| (target("plane_tokens").run)(data)
);

//! Paths, queries with their continue tokens, and `Accept`.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_queries").seeds)()) },
    |data: &[u8]| (target("plane_queries").run)(data)
);

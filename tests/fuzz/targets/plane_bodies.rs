//! Bodies of the control plane: JSON, YAML, and the objects in them.
#![no_main]

use control_plane::fuzz::target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed((target("plane_bodies").seeds)()) },
    |data: &[u8]| (target("plane_bodies").run)(data)
);

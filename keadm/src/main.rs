//! The `keadm` binary.
fn main() {}

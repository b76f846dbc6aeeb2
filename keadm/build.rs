//! How the binary of the profile `dist-edge` is linked; nothing for any other.

use std::ffi::OsStr;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=dist-edge.ld");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    // Neither the name of a profile nor how it panics is told to a build script, but where it builds is.
    let out = var("OUT_DIR");
    let is_edge = Path::new(&out).components().any(|c| c.as_os_str() == OsStr::new("dist-edge"));
    if is_edge && var("CARGO_CFG_TARGET_OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}/dist-edge.ld", var("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
}

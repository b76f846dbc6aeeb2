//! How the binary of the profile `dist-edge` is linked; nothing for any other.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=dist-edge.ld");
    let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    if set("CARGO_CFG_PANIC", "abort") && set("CARGO_CFG_TARGET_OS", "linux") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/dist-edge.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
}

//! How the binaries that are shipped are linked: what runs together lies together. Nothing for others.

use std::collections::BTreeSet;
use std::path::PathBuf;

fn main() {
    for file in ["build.rs", "order.txt", "dist-edge.ld"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let (here, out) = (PathBuf::from(var("CARGO_MANIFEST_DIR")), PathBuf::from(var("OUT_DIR")));
    // Neither the name of a profile nor how it panics is told to a build script, but where it builds is.
    let of = |profile: &str| out.components().any(|c| c.as_os_str() == profile);
    if var("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    if of("dist") || of("dist-edge") {
        let symbols =
            std::fs::read_to_string(here.join("order.txt")).expect("order.txt can be read");
        let script = out.join("order.ld");
        std::fs::write(&script, order(&symbols)).expect("a file in OUT_DIR can be written");
        link(&format!("-T,{}", script.display()));
    }
    if of("dist-edge") {
        link(&format!("-T,{}", here.join("dist-edge.ld").display()));
        link("--no-eh-frame-hdr");
    }
}

fn link(arg: &str) {
    println!("cargo::rustc-link-arg-bins=-Wl,{arg}");
}

/// The linker's script for these symbols. Those that a compiler of another version gives other hashes
/// are found by the rest of their names: behind the others, for what has the same name and other types
/// is found with them.
fn order(symbols: &str) -> String {
    let symbols = symbols.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut exact, mut alike) = (Vec::new(), BTreeSet::new());
    for symbol in symbols {
        exact.push(format!("*(.text.{symbol} .text.{symbol}.*)"));
        if let Some((name, _)) = symbol.rsplit_once("17h") {
            alike.insert(format!("*(.text.{name}17h*)"));
        }
    }
    let alike: Vec<String> = alike.into_iter().collect();
    format!(
        "SECTIONS {{\n.text.often : {{\n{}\n}}\n.text.alike : {{\n{}\n}}\n}} INSERT AFTER .text;\n",
        exact.join("\n"),
        alike.join("\n"),
    )
}

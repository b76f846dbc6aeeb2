//! What is generated from `.proto` files is checked in; here it is made again and compared.
//!
//! `UPDATE_GENERATED=1 cargo test -p tests generated` writes it anew.

use std::path::{Path, PathBuf};

fn crate_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Generates a client for `proto`, and a server if asked for, and compares with the file in `to`.
fn check(proto: &Path, server: bool, package: &str, to: &Path) {
    let folder = proto.parent().unwrap();
    let set = protox::compile([proto], [folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    tonic_prost_build::configure()
        .build_server(server)
        .build_transport(false)
        .disable_comments(["."])
        .out_dir(out.path())
        .compile_fds_with_config(set, config)
        .unwrap();
    let fresh = std::fs::read_to_string(out.path().join(format!("{package}.rs"))).unwrap();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, &fresh).unwrap();
    }
    let checked_in = std::fs::read_to_string(to).unwrap_or_default();
    assert!(
        fresh == checked_in,
        "{} is not what {} makes; run with UPDATE_GENERATED=1",
        to.display(),
        proto.display()
    );
}

#[test]
fn the_cri_client_is_what_its_proto_makes() {
    let edgecore = crate_dir("edgecore");
    let generated = edgecore.join("src/edged/runtime/generated");
    check(
        &edgecore.join("proto/runtime.proto"),
        false,
        "runtime.v1",
        &generated.join("runtime.v1.rs"),
    );
    check(
        &edgecore.join("proto/containerd_events.proto"),
        false,
        "containerd.services.events.v1",
        &generated.join("containerd.services.events.v1.rs"),
    );
}

#[test]
fn both_sides_of_dmi_are_what_their_proto_makes() {
    let edgecore = crate_dir("edgecore");
    check(
        &edgecore.join("proto/dmi.proto"),
        true,
        "v1beta1",
        &edgecore.join("src/devicetwin/dmi/generated/v1beta1.rs"),
    );
}

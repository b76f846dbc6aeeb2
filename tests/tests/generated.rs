//! What is generated from `.proto` files is checked in; here it is made again and compared.
//!
//! `UPDATE_GENERATED=1 cargo test -p tests generated` writes it anew.

use std::path::{Path, PathBuf};

fn crate_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Generates a client for `proto` and compares it with the file in `to`.
fn check_client(proto: &Path, package: &str, to: &Path) {
    let folder = proto.parent().unwrap();
    let set = protox::compile([proto], [folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    tonic_prost_build::configure()
        .build_server(false)
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
    check_client(
        &edgecore.join("proto/runtime.proto"),
        "runtime.v1",
        &generated.join("runtime.v1.rs"),
    );
    check_client(
        &edgecore.join("proto/containerd_events.proto"),
        "containerd.services.events.v1",
        &generated.join("containerd.services.events.v1.rs"),
    );
}

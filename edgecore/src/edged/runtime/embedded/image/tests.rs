use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn store(dir: &Path) -> Store {
    Store::open(dir.join("images")).unwrap()
}

/// A tar with one file that belongs to whoever runs the test.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| sha256(l)).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Entrypoint": ["/app"], "User": "7", "Cmd": null },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
    .unwrap()
}

/// An OCI layout whose layers are compressed.
fn layout(folder: &Path, name: &str, layers: &[&[u8]]) {
    let put = |bytes: &[u8]| {
        let digest = sha256(bytes);
        let path = folder.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        digest
    };
    let blobs: Vec<_> =
        layers.iter().map(|l| serde_json::json!({ "digest": put(&gzip(l)), "size": 1 })).collect();
    let manifest = serde_json::json!({
        "config": { "digest": put(&config(layers)) }, "layers": blobs,
    });
    let manifest = put(manifest.to_string().as_bytes());
    let index = serde_json::json!({ "manifests": [{
        "digest": manifest, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "annotations": { "org.opencontainers.image.ref.name": name },
    }]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

fn files_of(store: &Store, image: &ImageRecord) -> Vec<String> {
    let mut names = Vec::new();
    for layer in Store::lower_folders(image) {
        for entry in std::fs::read_dir(store.layers_folder().join(layer)).unwrap() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    names
}

#[test]
fn a_layout_is_imported_and_found_by_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (low, high) = (tar_of(&[("low", b"1")]), tar_of(&[("high", b"2")]));
    layout(&dir.path().join("oci"), "busybox:1", &[&low, &high]);
    assert_eq!(store.import(&dir.path().join("oci")).unwrap(), ["docker.io/library/busybox:1"]);
    let image = store.find("busybox:1").unwrap();
    assert_eq!(files_of(&store, &image), ["high", "low"], "the topmost layer comes first");
    assert_eq!(image.config.entrypoint, ["/app"]);
    assert_eq!(store.find("docker.io/library/busybox:1"), Some(image.clone()));
    assert_eq!(store.find(&image.id), Some(image.clone()));
    assert_eq!(store.find(&image.digests[0]), Some(image.clone()));
    assert_eq!(store.find("busybox:2"), None);
    let again = Store::open(dir.path().join("images")).unwrap();
    assert_eq!(again.find("busybox:1"), Some(image), "it is there after a restart");
}

#[test]
fn both_kinds_of_archive_are_imported() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let layer = tar_of(&[("f", b"1")]);
    let manifest = serde_json::json!([{
        "Config": "c.json", "RepoTags": ["docker-one:latest"], "Layers": ["a/layer.tar"],
    }]);
    let docker = tar_of(&[
        ("manifest.json", manifest.to_string().as_bytes()),
        ("c.json", &config(&[&layer])),
        ("a/layer.tar", &layer),
    ]);
    std::fs::write(dir.path().join("docker.tar.gz"), gzip(&docker)).unwrap();
    store.import(&dir.path().join("docker.tar.gz")).unwrap();
    assert!(store.find("docker-one").is_some());

    layout(&dir.path().join("oci"), "oci-one", &[&tar_of(&[("g", b"2")])]);
    let mut tar = tar::Builder::new(File::create(dir.path().join("oci.tar")).unwrap());
    tar.append_dir_all(".", dir.path().join("oci")).unwrap();
    tar.into_inner().unwrap();
    store.import(&dir.path().join("oci.tar")).unwrap();
    assert!(store.find("oci-one").is_some());
    assert_eq!(std::fs::read_dir(dir.path().join("images/tmp")).unwrap().count(), 0);
}

#[test]
fn a_folder_of_images_is_imported_once_and_one_bad_file_keeps_none_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let preload = dir.path().join("preload");
    layout(&preload.join("good"), "good", &[&tar_of(&[("f", b"1")])]);
    std::fs::write(preload.join("bad.tar"), "not a tar at all, but long enough".repeat(40))
        .unwrap();
    let problems = store.import_folder(&preload);
    assert_eq!(problems.len(), 1);
    assert!(store.find("good").is_some_and(|image| image.pinned));
    store.remove("good", &BTreeSet::new()).unwrap();
    store.import_folder(&preload);
    assert!(store.find("good").is_none(), "what a person removed does not come back");
}

#[test]
fn a_layer_with_another_digest_is_never_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (promised, sent) = (tar_of(&[("a", b"1")]), tar_of(&[("b", b"2")]));
    let image = store.assemble(&config(&[&promised]), vec![], vec![], |_, _| {
        Ok(Box::new(std::io::Cursor::new(sent.clone())))
    });
    assert!(matches!(image, Err(ImageError::Digest { .. })));
    assert_eq!(std::fs::read_dir(store.layers_folder()).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("images/tmp")).unwrap().count(), 0);
}

#[test]
fn digests_that_are_paths_are_refused() {
    for bad in ["sha256:../../etc", "sha512:00", "", &format!("sha256:{}", "A".repeat(64))] {
        assert!(digest_hex(bad).is_err(), "{bad}");
        assert!(layer_key(bad).is_err(), "{bad}");
    }
}

#[test]
fn layers_go_with_their_last_image_and_not_while_a_container_stands_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (shared, own) = (tar_of(&[("shared", b"1")]), tar_of(&[("own", b"2")]));
    for (name, layers) in [("one", vec![&shared[..]]), ("two", vec![&shared[..], &own[..]])] {
        layout(&dir.path().join(name), name, &layers);
        store.import(&dir.path().join(name)).unwrap();
    }
    let two = store.find("two").unwrap();
    let count = || std::fs::read_dir(store.layers_folder()).unwrap().count();
    assert_eq!(count(), 2);
    let in_use: BTreeSet<String> = two.layers.iter().cloned().collect();
    store.remove("two", &in_use).unwrap();
    assert_eq!(count(), 2);
    store.remove_unused_layers(&BTreeSet::new());
    assert_eq!(count(), 1, "image `one` still needs the shared one");
    store.remove("one", &BTreeSet::new()).unwrap();
    assert_eq!(count(), 0);
    store.remove("one", &BTreeSet::new()).unwrap();
}

#[test]
fn a_name_moves_to_the_newer_image() {
    let image = |id: &str, tag: &str| ImageRecord {
        id: id.into(),
        tags: vec![tag.into()],
        digests: vec![format!("r@{id}")],
        config: ImageConfig::default(),
        layers: vec![],
        bytes: 0,
        pinned: false,
    };
    let pinned = |id: &str, tag: &str| ImageRecord { pinned: true, ..image(id, tag) };
    let mut images = vec![pinned("a", "r:1")];
    insert(&mut images, pinned("b", "r:1"));
    assert_eq!((&images[0].tags, images[0].pinned), (&vec![], false));
    assert_eq!(images[1].tags, ["r:1"]);
    insert(&mut images, image("b", "r:2"));
    assert_eq!(images[1].tags, ["r:2", "r:1"]);
    assert!(images[1].pinned);
}

#[test]
fn zstd_is_refused_with_advice() {
    let stream: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0, 0];
    let Err(e) = decompress(stream) else { panic!("accepted") };
    assert!(e.to_string().contains("gzip"));
}

#[test]
fn a_file_is_not_taken_from_below_a_whiteout() {
    if !rustix::process::getuid().is_root() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: making whiteouts needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let low = tar_of(&[
        ("usr/bin/keadm", b"old"),
        ("usr/bin/other", b"other"),
        ("opt/x", b"hidden with its folder's content"),
        ("etc/y", b"hidden with its folder"),
    ]);
    let high = tar_of(&[
        ("usr/bin/.wh.keadm", b""),
        ("opt/.wh..wh..opq", b""),
        ("opt/z", b"new"),
        (".wh.etc", b""),
    ]);
    let top = tar_of(&[("usr/bin/keadm", b"newest")]);
    for (name, layers) in [("two", vec![&low[..], &high[..]]), ("three", vec![&low, &high, &top])] {
        layout(&dir.path().join(name), name, &layers);
        store.import(&dir.path().join(name)).unwrap();
    }
    let take = |image: &str, path: &str| {
        let to = dir.path().join("taken");
        let taken = store.copy_out(&store.find(image).unwrap(), path, &to);
        taken.map_err(|e| e.to_string())?;
        let text = std::fs::read_to_string(&to).unwrap();
        std::fs::remove_file(to).unwrap();
        Ok::<_, String>(text)
    };
    for hidden in ["/usr/bin/keadm", "/opt/x", "/etc/y"] {
        let e = take("two", hidden).unwrap_err();
        assert!(e.contains(&format!("it has no file `{hidden}`")), "{hidden}: {e}");
    }
    assert_eq!(take("two", "/usr/bin/other").unwrap(), "other");
    assert_eq!(take("two", "/opt/z").unwrap(), "new");
    assert_eq!(take("three", "/usr/bin/keadm").unwrap(), "newest");
}

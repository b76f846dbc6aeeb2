use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits { bytes: 1 << 20, entries: 100 };

/// A tar that no honest program writes.
#[derive(Default)]
struct Hostile(Vec<u8>);

impl Hostile {
    fn raw(mut self, kind: EntryType, path: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        let me = rustix::process::getuid().as_raw();
        header.set_uid(me.into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.raw(EntryType::Regular, path.as_bytes(), b"", content.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.raw(EntryType::Directory, path.as_bytes(), b"", b"")
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        self.raw(kind, path.as_bytes(), target.as_bytes(), b"")
    }

    fn unpack(mut self, into: &Path) -> Result<Unpacked, UnpackError> {
        self.0.extend_from_slice(&[0; 1024]);
        unpack(self.0.as_slice(), into, Kind::Layer, SMALL)
    }

    /// The reason for which it is refused.
    fn refusal(self) -> &'static str {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("secret"), "host").unwrap();
        let why = match self.unpack(&root) {
            Err(UnpackError::Refused { why, .. }) => why,
            other => panic!("not refused: {other:?}"),
        };
        let around: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(around.len(), 2, "something was written next to the root");
        assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "host");
        why
    }
}

#[test]
fn an_ordinary_layer_comes_out_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    Hostile::default()
        .dir("./")
        .dir("./etc/")
        .file("./etc/passwd", "root")
        .link(EntryType::Symlink, "etc/link", "../bin/sh")
        .link(EntryType::Symlink, "etc/mtab", "/proc/mounts")
        .link(EntryType::Link, "etc/passwd-", "etc/passwd")
        .raw(EntryType::GNULongName, b"././@LongLink", b"", long.as_bytes())
        .file("short", "long")
        .raw(EntryType::XHeader, b"pax", b"", b"22 path=from-pax/file\n")
        .file("ignored", "pax")
        .unpack(dir.path())
        .unwrap();
    let read = |p: &str| fs::read_to_string(dir.path().join(p)).unwrap();
    assert_eq!(read("etc/passwd"), "root");
    assert_eq!(read(&long), "long");
    assert_eq!(read("from-pax/file"), "pax");
    assert_eq!(fs::read_link(dir.path().join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    let inode = |p: &str| fs::metadata(dir.path().join(p)).unwrap().ino();
    assert_eq!(inode("etc/passwd"), inode("etc/passwd-"));
    let mode = fs::metadata(dir.path().join("etc/passwd")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

#[test]
fn a_path_that_leaves_the_root_is_refused() {
    assert_eq!(Hostile::default().file("/secret", "x").refusal(), "its path is absolute");
    for path in ["../secret", "a/../../secret", "..", "./../secret"] {
        assert_eq!(Hostile::default().file(path, "x").refusal(), "its path contains `..`");
    }
    let pax = b"18 path=../secret\n";
    let hostile = Hostile::default().raw(EntryType::XHeader, b"pax", b"", pax).file("a", "x");
    assert_eq!(hostile.refusal(), "its path contains `..`");
    let long = Hostile::default().raw(EntryType::GNULongName, b"l", b"", b"/secret").file("a", "x");
    assert_eq!(long.refusal(), "its path is absolute");
}

#[test]
fn nothing_is_written_through_a_link_of_the_layer_itself() {
    let through = "its path leads through a link or a file";
    let link = |target: &str| Hostile::default().link(EntryType::Symlink, "a", target);
    assert_eq!(link("/").file("a/tmp-secret", "x").refusal(), through);
    assert_eq!(link("b").dir("b").file("a/c", "x").refusal(), through);
    let whiteout = link("/").raw(EntryType::Regular, b"a/.wh.secret", b"", b"");
    assert_eq!(whiteout.refusal(), through);
    let opaque = link("/").raw(EntryType::Regular, b"a/.wh..wh..opq", b"", b"");
    assert_eq!(opaque.refusal(), through);
}

#[test]
fn a_link_is_replaced_and_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let (root, secret) = (dir.path().join("root"), dir.path().join("secret"));
    fs::create_dir(&root).unwrap();
    fs::write(&secret, "host").unwrap();
    symlink(&secret, root.join("a")).unwrap();
    Hostile::default().file("a", "new").unpack(&root).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "host");
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "new");
}

#[test]
fn links_out_of_the_root_are_refused() {
    let leaves = "its link leaves the root";
    let link = |kind, path, target| Hostile::default().link(kind, path, target).refusal();
    assert_eq!(link(EntryType::Symlink, "a", "../secret"), leaves);
    assert_eq!(link(EntryType::Symlink, "a/b", "../../secret"), leaves);
    assert_eq!(link(EntryType::Symlink, "a", "/../secret"), leaves);
    assert_eq!(link(EntryType::Symlink, "a", "b/../../secret"), leaves);
    assert_eq!(link(EntryType::Link, "a", "../secret"), leaves);
    assert_eq!(link(EntryType::Link, "a", "/secret"), leaves);
    let absent = "it links to a file that the archive does not have";
    assert_eq!(link(EntryType::Link, "a", "b"), absent);
    let folder = Hostile::default().dir("b").link(EntryType::Link, "a", "b");
    assert_eq!(folder.refusal(), absent);
    let detour = Hostile::default().link(EntryType::Symlink, "b", "/").link(
        EntryType::Link,
        "a",
        "b/etc/passwd",
    );
    assert_eq!(detour.refusal(), absent);
}

#[test]
fn devices_are_refused_and_left_out_where_nobody_sees_them() {
    let device = |kind, path: &str| Hostile::default().link(kind, path, "");
    assert_eq!(device(EntryType::Block, "sda").refusal(), "it is a device");
    assert_eq!(device(EntryType::Char, "etc/null").refusal(), "it is a device");
    let dir = tempfile::tempdir().unwrap();
    device(EntryType::Char, "dev/null").unpack(dir.path()).unwrap();
    assert!(!dir.path().join("dev/null").exists());
}

#[test]
fn whiteouts_hide_and_hostile_ones_are_refused() {
    let why = "it is not a valid whiteout";
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..wh.x"] {
        assert_eq!(Hostile::default().file(name, "").refusal(), why, "{name}");
    }
    if !rustix::process::getuid().is_root() {
        // Written past the test runner, which keeps what a test that passes prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED: making whiteouts needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layer =
        Hostile::default().file("a/.wh.gone", "").file("b/.wh..wh..opq", "").file("b/c", "");
    layer.unpack(dir.path()).unwrap();
    let gone = fs::symlink_metadata(dir.path().join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 2];
    assert_eq!(rustix::fs::lgetxattr(dir.path().join("b"), OPAQUE, &mut value), Ok(1));
}

#[test]
fn limits_hold_before_anything_is_allocated() {
    let dir = tempfile::tempdir().unwrap();
    let many = (0..101).fold(Hostile::default(), |h, n| h.file(&format!("f{n}"), ""));
    assert!(matches!(many.unpack(dir.path()), Err(UnpackError::TooMany(100))));
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(1 << 40);
    header.set_cksum();
    let stream = header.as_bytes().chain(io::repeat(0));
    let huge = unpack(stream, dir.path(), Kind::Layer, SMALL);
    assert!(matches!(huge, Err(UnpackError::TooLarge(_))), "{huge:?}");
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        header.set_entry_type(kind);
        header.set_cksum();
        let stream = header.as_bytes().chain(io::repeat(b'a'));
        let endless = unpack(stream, dir.path(), Kind::Layer, SMALL);
        assert!(matches!(endless, Err(UnpackError::Refused { .. })), "{endless:?}");
    }
}

#[test]
fn two_sizes_that_differ_are_refused() {
    let hostile =
        Hostile::default().raw(EntryType::XHeader, b"p", b"", b"12 size=999\n").file("a", "x");
    assert_eq!(hostile.refusal(), "its two sizes differ");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_unpacked(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let dir = tempfile::tempdir().unwrap();
        let _ = unpack(bytes.as_slice(), dir.path(), Kind::Layer, SMALL);
    }

    #[test]
    fn any_extended_header_is_refused_or_read(bytes: Vec<u8>) {
        for record in pax_records(&bytes) {
            let _ = record;
        }
    }
}

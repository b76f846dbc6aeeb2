//! One file out of an image.
//!
//! Owns: how the layers of an image lie over one another, for one path.
//! Called by: the runtime's `copy_from_image`.
//! Never: follows a link, which would lead out of the image, or runs anything of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::shim::OPAQUE;
use super::{ImageError, ImageRecord, Store};

/// No program is larger.
const MAX_FILE: u64 = 1 << 30;

/// What a layer says of a path.
enum Seen {
    File(OwnedFd),
    /// Nothing: the layers below decide.
    Nothing,
    /// It is not there, whatever lies below.
    Hidden,
}

impl Store {
    /// Copies the file at `path` of an image to `to`, which is not there yet.
    ///
    /// # Errors
    /// When the image has no such file, or it cannot be written.
    pub(crate) fn copy_out(
        &self,
        image: &ImageRecord,
        path: &str,
        to: &Path,
    ) -> Result<(), ImageError> {
        let absent = || ImageError::Malformed(format!("it has no file `{path}`"));
        for key in image.layers.iter().rev() {
            let layer = self.layers_folder().join(key).join("fs");
            match look(&layer, path)? {
                Seen::File(file) => return copy(File::from(file), path, to),
                Seen::Nothing => {}
                Seen::Hidden => break,
            }
        }
        Err(absent())
    }
}

fn look(layer: &Path, path: &str) -> Result<Seen, ImageError> {
    let failed = |e: Errno| ImageError::Io {
        what: "read",
        path: layer.join(path.trim_start_matches('/')),
        source: e.into(),
    };
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut at = rustix::fs::open(layer, folder, Mode::empty()).map_err(failed)?;
    let mut opaque = false;
    let mut parts = path.trim_matches('/').split('/').peekable();
    while let Some(part) = parts.next() {
        let stat = match rustix::fs::statat(&at, part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if opaque => return Ok(Seen::Hidden),
            Err(Errno::NOENT) => return Ok(Seen::Nothing),
            Err(e) => return Err(failed(e)),
        };
        match (FileType::from_raw_mode(stat.st_mode), parts.peek().is_none()) {
            (FileType::Directory, false) => {
                at = rustix::fs::openat(&at, part, folder, Mode::empty()).map_err(failed)?;
                opaque |= rustix::fs::fgetxattr(&at, OPAQUE, &mut [0; 8][..]).is_ok();
            }
            (FileType::RegularFile, true) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&at, part, flags, Mode::empty()).map_err(failed)?;
                return Ok(Seen::File(file));
            }
            (FileType::Symlink, _) => {
                let why = format!("`{part}` in `{path}` is a link, and none is followed");
                return Err(ImageError::Malformed(why));
            }
            // A device is a layer's way to say that something is gone.
            _ => return Ok(Seen::Hidden),
        }
    }
    Ok(Seen::Hidden)
}

fn copy(from: File, path: &str, to: &Path) -> Result<(), ImageError> {
    let failed =
        |source: io::Error| ImageError::Io { what: "write", path: PathBuf::from(to), source };
    let mut new = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(to)
        .map_err(failed)?;
    let bytes = io::copy(&mut from.take(MAX_FILE + 1), &mut new).map_err(failed)?;
    if bytes > MAX_FILE {
        let _ = std::fs::remove_file(to);
        tracing::warn!(path, "a file of an image is too large");
        return Err(ImageError::TooLarge { what: "a file of the image", limit: MAX_FILE });
    }
    new.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::ImageConfig;
    use super::*;

    const PROGRAM: &str = "/usr/local/bin/keadm";

    /// A store with layers of these files, the lowest first; `None` hides what is below.
    fn store(folder: &Path, layers: &[&[(&str, Option<&str>)]]) -> (Store, ImageRecord) {
        let store = Store::open(folder.to_owned()).unwrap();
        let mut image = ImageRecord {
            id: "sha256:1".into(),
            tags: vec![],
            digests: vec![],
            config: ImageConfig::default(),
            layers: vec![],
            bytes: 0,
            pinned: false,
        };
        for (n, files) in layers.iter().enumerate() {
            let key = format!("layer{n}");
            for (path, text) in *files {
                let path = store.layers_folder().join(&key).join("fs").join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                match text {
                    Some(text) => std::fs::write(&path, text).unwrap(),
                    None => std::os::unix::fs::symlink("/etc/shadow", &path).unwrap(),
                }
            }
            image.layers.push(key);
        }
        (store, image)
    }

    #[test]
    fn the_topmost_layer_that_has_the_file_gives_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = "usr/local/bin/keadm";
        let layers: [&[(&str, Option<&str>)]; 3] = [
            &[(file, Some("old"))],
            &[(file, Some("new")), ("etc/x", Some(""))],
            &[("etc/y", Some(""))],
        ];
        let (store, image) = store(dir.path(), &layers);
        let to = dir.path().join("keadm");
        store.copy_out(&image, PROGRAM, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "new");
        let e = store.copy_out(&image, "/usr/local/bin/other", &dir.path().join("x")).unwrap_err();
        assert!(e.to_string().contains("it has no file `/usr/local/bin/other`"), "{e}");
    }

    #[test]
    fn a_link_in_the_image_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, image) = store(dir.path(), &[&[("usr/local/bin/keadm", None)]]);
        let to = dir.path().join("keadm");
        let e = store.copy_out(&image, PROGRAM, &to).unwrap_err();
        assert!(e.to_string().contains("is a link"), "{e}");
        assert!(!to.exists());
    }
}

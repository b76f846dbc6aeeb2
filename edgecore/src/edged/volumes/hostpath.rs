//! hostPath: a place on the host, checked for being what the pod expects.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// A hostPath volume.
pub(super) struct HostPath {
    path: PathBuf,
    kind: String,
}

impl HostPath {
    pub(super) fn of(source: &HostPathVolumeSource) -> Self {
        Self { path: PathBuf::from(&source.path), kind: source.type_.clone().unwrap_or_default() }
    }

    /// Creates it if its type says so; an error says what it is not.
    pub(super) fn check(&self) -> Result<(), String> {
        let path = self.path.as_path();
        if !path.is_absolute() || path.components().any(|c| c.as_os_str() == "..") {
            return Err(format!("`{}` is not an absolute path without `..`", path.display()));
        }
        let failed = |what: &str| {
            Err(format!("hostPath type check failed: {} is not {what}", path.display()))
        };
        let kind = |f: fn(&fs::FileType) -> bool| {
            fs::metadata(path).is_ok_and(|meta| f(&meta.file_type()))
        };
        match self.kind.as_str() {
            "" => Ok(()),
            "DirectoryOrCreate" => {
                if !path.exists() {
                    make_dir(path).map_err(|e| e.to_string())?;
                }
                if kind(fs::FileType::is_dir) { Ok(()) } else { failed("a directory") }
            }
            "Directory" if kind(fs::FileType::is_dir) => Ok(()),
            "Directory" => failed("a directory"),
            "FileOrCreate" => {
                if !path.exists() {
                    make_file(path).map_err(|e| e.to_string())?;
                }
                if kind(fs::FileType::is_file) { Ok(()) } else { failed("a file") }
            }
            "File" if kind(fs::FileType::is_file) => Ok(()),
            "File" => failed("a file"),
            "Socket" if kind(fs::FileType::is_socket) => Ok(()),
            "Socket" => failed("a socket file"),
            "CharDevice" if kind(fs::FileType::is_char_device) => Ok(()),
            "CharDevice" => failed("a character device"),
            "BlockDevice" if kind(fs::FileType::is_block_device) => Ok(()),
            "BlockDevice" => failed("a block device"),
            other => Err(format!("hostPath type `{other}` is not known")),
        }
    }
}

fn make_dir(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn make_file(path: &Path) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path, kind: &str) -> Result<(), String> {
        HostPath { path: path.to_owned(), kind: kind.to_owned() }.check()
    }

    #[test]
    fn a_host_path_is_what_its_type_says_or_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        check(&at("any"), "").unwrap();
        assert!(!at("any").exists());
        check(&at("d/e"), "DirectoryOrCreate").unwrap();
        check(&at("d/e"), "Directory").unwrap();
        check(&at("f"), "FileOrCreate").unwrap();
        check(&at("f"), "File").unwrap();
        let wrong = check(&at("f"), "Directory").unwrap_err();
        assert!(wrong.ends_with("f is not a directory"), "{wrong}");
        assert!(check(&at("d"), "FileOrCreate").is_err());
        assert!(check(&at("none"), "Socket").is_err());
        assert!(check(Path::new("/dev/null"), "CharDevice").is_ok());
        assert!(check(Path::new("a/b"), "").is_err());
        assert!(check(Path::new("/a/../etc"), "").is_err());
    }
}

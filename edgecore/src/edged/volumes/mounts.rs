//! File systems in memory, and taking mounts away again.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounts a file system in memory at `dir`, unless one is there. Says whether it did.
pub(super) fn tmpfs(dir: &Path, size: Option<i64>) -> io::Result<bool> {
    if is_mount(dir)? {
        return Ok(false);
    }
    let options = size.filter(|s| *s > 0).map(|s| format!("size={s}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, options.as_deref())?;
    Ok(true)
}

/// Shows `source`, a file or directory, at `target` too.
pub(super) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(Some(source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    Ok(())
}

fn is_mount(dir: &Path) -> io::Result<bool> {
    let parent = dir.parent().unwrap_or(dir);
    Ok(std::fs::metadata(dir)?.dev() != std::fs::metadata(parent)?.dev())
}

/// Whether something is mounted at exactly this path.
pub(super) fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(mounts()?.iter().any(|m| m == path))
}

/// Unmounts everything at or below `dir`, the innermost first.
pub(super) fn unmount_below(dir: &Path) -> io::Result<()> {
    for _ in 0..2 {
        let mut below: Vec<PathBuf> =
            mounts()?.into_iter().filter(|m| m.starts_with(dir)).collect();
        if below.is_empty() {
            return Ok(());
        }
        below.sort_by_key(|m| std::cmp::Reverse(m.components().count()));
        for m in below {
            umount2(&m, MntFlags::MNT_DETACH)?;
        }
    }
    if mounts()?.iter().any(|m| m.starts_with(dir)) {
        return Err(io::Error::other("something is still mounted below it"));
    }
    Ok(())
}

fn mounts() -> io::Result<Vec<PathBuf>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// The fifth field of each line is the mount point, with octal escapes.
fn parse(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(|l| l.split(' ').nth(4)).map(unescape).collect()
}

fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'\\')
            .then(|| field.get(i + 1..i + 4))
            .flatten()
            .and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(b) => {
                out.push(b);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&out).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let info =
            "36 35 98:0 / /mnt/a\\040b rw - ext3 /dev/root rw\n37 35 0:1 /x /proc rw - proc p rw\n";
        assert_eq!(parse(info), [PathBuf::from("/mnt/a b"), PathBuf::from("/proc")]);
    }
}

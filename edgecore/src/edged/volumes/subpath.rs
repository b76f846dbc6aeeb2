//! A part of a volume, mounted alone.
//!
//! A container may change links in a volume while its neighbour is being started. So the path is
//! opened below the volume by the kernel, which refuses to leave it, and what was opened is bound
//! to a place of ours: that place is what the container gets.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use super::{mounts, set_mode};

/// Binds `sub` of the volume at `volume` to a place below `pod_dir` and returns that place. A
/// directory that is missing is made, unless the volume is read-only by nature.
pub(crate) fn bind(
    pod_dir: &Path,
    volume: (&str, &Path),
    container: &str,
    index: usize,
    sub: &str,
) -> io::Result<PathBuf> {
    let (name, root) = volume;
    let clean = Path::new(sub);
    if !clean.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        let why = format!("subPath `{sub}` must be a relative path without `..`");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let opened = match open_below(root, clean) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_below(root, clean)?;
            open_below(root, clean)?
        }
        other => other?,
    };
    let place = pod_dir.join("volume-subpaths").join(name).join(container).join(index.to_string());
    let through = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let is_dir = fs::metadata(&through)?.is_dir();
    if mounts::is_mounted(&place)? {
        // Left by an earlier start of this container: what it shows may be out of date.
        nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH)?;
    }
    let parent = place.parent().unwrap_or(pod_dir);
    fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    match (place.exists(), is_dir) {
        (true, same) if place.is_dir() == same => {}
        (true, _) => {
            if place.is_dir() {
                fs::remove_dir(&place)?
            } else {
                fs::remove_file(&place)?
            }
            make_place(&place, is_dir)?;
        }
        (false, _) => make_place(&place, is_dir)?,
    }
    mounts::bind(&through, &place)?;
    Ok(place)
}

fn make_place(place: &Path, is_dir: bool) -> io::Result<()> {
    match is_dir {
        true => fs::create_dir(place),
        false => fs::File::create(place).map(drop),
    }
}

fn open_below(root: &Path, sub: &Path) -> io::Result<OwnedFd> {
    let root = fs::File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let sub = if sub.as_os_str().is_empty() { Path::new(".") } else { sub };
    Ok(openat2(root.as_fd(), sub, how)?)
}

/// Makes the directories of `sub` one by one, each below the one opened before.
fn make_below(root: &Path, sub: &Path) -> io::Result<()> {
    let mut so_far = PathBuf::new();
    for part in sub.components() {
        let Component::Normal(part) = part else { continue };
        let parent = open_below(root, &so_far)?;
        so_far.push(part);
        match nix::sys::stat::mkdirat(parent.as_fd(), part, Mode::from_bits_truncate(0o750)) {
            Ok(()) => {
                let made = open_below(root, &so_far)?;
                set_mode(Path::new(&format!("/proc/self/fd/{}", made.as_raw_fd())), 0o777)?;
            }
            Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_cannot_leave_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::create_dir(volume.join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("..", volume.join("up")).unwrap();
        std::os::unix::fs::symlink("in", volume.join("alias")).unwrap();
        for good in ["in", "alias", "."] {
            open_below(&volume, Path::new(good)).unwrap();
        }
        for bad in ["out", "out/passwd", "up", "up/v"] {
            assert!(open_below(&volume, Path::new(bad)).is_err(), "{bad}");
        }
        let err = bind(dir.path(), ("v", &volume), "c", 0, "../x").unwrap_err();
        assert!(err.to_string().contains("without `..`"), "{err}");
        make_below(&volume, Path::new("a/b")).unwrap();
        assert!(volume.join("a/b").is_dir());
        assert!(make_below(&volume, Path::new("out/new")).is_err());
    }
}

//! The container's root: layers below, its own changes on top.
//!
//! Owns: the mounts of one container's private mount namespace, the copy where the kernel refuses
//! overlayfs, and the look at the image's user files.
//! Called by: `shim/container.rs`.
//! Never: follows a link of the image out of the image.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use pathrs::Root;
use pathrs::flags::OpenFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::super::plan::ContainerPlan;
use super::super::state::{self, ProcessRef};
use super::user::{Identity, resolve};
use super::{ShimError, io, system};

/// No image has a larger list of users.
const MAX_USER_FILE: u64 = 1024 * 1024;

/// The attribute with which overlayfs says that a folder hides the ones below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Makes the container's mount namespace with its root in it, and returns the root's path.
pub(super) fn prepare(
    folder: &Path,
    plan: &ContainerPlan,
    notes: &mut Vec<String>,
) -> Result<PathBuf, ShimError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(system("make the container's mount namespace"))?;
    let here = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, here, None::<&str>)
        .map_err(system("separate the mounts"))?;
    if let Some(sandbox) = &plan.shm_of {
        adopt_shm(sandbox, &plan.shm, &folder.join("shm"))?;
    }
    let root = folder.join("rootfs");
    state::make_dir(&root)?;
    match mount_overlay(folder, plan, &root) {
        Ok(()) => {}
        Err(Errno::ENODEV | Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP) => {
            notes.push("the kernel refuses overlayfs here: the image was copied instead".into());
            for layer in plan.layers.iter().rev() {
                let from = plan.layers_folder.join(layer);
                copy_layer(&from, &root).map_err(|e| {
                    ShimError::Rootfs(format!("copying the layer at `{}`: {e}", from.display()))
                })?;
            }
        }
        Err(e) => return Err(ShimError::Rootfs(e.to_string())),
    }
    Ok(root)
}

/// Layers are named relative to their folder: the kernel takes one page of options and no more.
fn mount_overlay(folder: &Path, plan: &ContainerPlan, root: &Path) -> nix::Result<()> {
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    }
    // What is uppermost is the container's `/`: other users need to get through.
    let _ = fs::set_permissions(&upper, Permissions::from_mode(0o755));
    nix::unistd::chdir(&plan.layers_folder)?;
    let mut options = b"lowerdir=".to_vec();
    options.extend_from_slice(plan.layers.join(":").as_bytes());
    options.extend_from_slice(b",upperdir=");
    options.extend_from_slice(upper.as_os_str().as_bytes());
    options.extend_from_slice(b",workdir=");
    options.extend_from_slice(work.as_os_str().as_bytes());
    let mounted =
        mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_slice()));
    nix::unistd::chdir("/")?;
    mounted
}

/// Brings the pod's shared memory from the sandbox's mount namespace into this one.
fn adopt_shm(sandbox: &ProcessRef, shm: &Path, at: &Path) -> Result<(), ShimError> {
    let here = File::open("/proc/self/ns/mnt").map_err(io("open the mount namespace"))?;
    let there = File::open(format!("/proc/{}/ns/mnt", sandbox.pid))
        .map_err(io("open the sandbox's mount namespace"))?;
    if !sandbox.is_alive() {
        return Err(ShimError::SandboxGone);
    }
    state::make_dir(at)?;
    setns(&there, CloneFlags::CLONE_NEWNS).map_err(system("enter the sandbox's mounts"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, shm, flags);
    setns(&here, CloneFlags::CLONE_NEWNS).map_err(system("return from the sandbox's mounts"))?;
    let tree = tree.map_err(|e| io("open the pod's shared memory")(e.into()))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree.as_fd(), "", rustix::fs::CWD, at, flags)
        .map_err(|e| io("mount the pod's shared memory")(e.into()))
}

/// Lays a layer over what `to` has, as overlayfs would.
fn copy_layer(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (source, target) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        let meta = fs::symlink_metadata(&source)?;
        let there = fs::symlink_metadata(&target).ok();
        let kind = meta.file_type();
        let whiteout = kind.is_char_device() && meta.rdev() == 0;
        let merges = kind.is_dir() && !is_opaque(&source);
        // A link to a folder is not a folder: nothing is ever written through it.
        match there {
            Some(t) if t.is_dir() && merges => {}
            Some(t) if t.is_dir() => fs::remove_dir_all(&target)?,
            Some(_) => fs::remove_file(&target)?,
            None => {}
        }
        if whiteout {
            continue;
        } else if kind.is_dir() {
            match fs::create_dir(&target) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            copy_layer(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        } else {
            continue;
        }
        std::os::unix::fs::lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        if !kind.is_symlink() {
            fs::set_permissions(&target, meta.permissions())?;
        }
    }
    Ok(())
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0u8; 4];
    matches!(rustix::fs::lgetxattr(path, OPAQUE, &mut value), Ok(1) if value[0] == b'y')
}

/// Who the container runs as, by the user files of its image.
pub(super) fn identity(root: &Path, plan: &ContainerPlan) -> Result<Identity, ShimError> {
    let passwd = read_in_root(root, "etc/passwd");
    let group = read_in_root(root, "etc/group");
    resolve(&plan.user, &passwd, &group).map_err(|e| ShimError::Container(e.to_string()))
}

/// A small text file of the image; empty if there is none. Links are followed within the image,
/// and a pipe in its place is not waited for.
fn read_in_root(root: &Path, path: &str) -> String {
    let flags = OpenFlags::O_RDONLY | OpenFlags::O_NONBLOCK | OpenFlags::O_CLOEXEC;
    let Ok(file) = Root::open(root).and_then(|r| r.open_subpath(path, flags)) else {
        return String::new();
    };
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = file.take(MAX_USER_FILE).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The working folder is made if the image does not have it.
pub(super) fn make_working_folder(root: &Path, cwd: &Path) -> Result<(), ShimError> {
    if cwd == OsStr::new("/") {
        return Ok(());
    }
    Root::open(root)
        .and_then(|r| r.mkdir_all(cwd, &Permissions::from_mode(0o755)))
        .map(drop)
        .map_err(|e| {
            ShimError::Rootfs(format!("making the working folder `{}`: {e}", cwd.display()))
        })
}

/// A container without standard input reads this.
pub(super) fn null() -> Result<File, ShimError> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(OpenFlags::O_CLOEXEC.bits() as i32)
        .open("/dev/null")
        .map_err(io("open `/dev/null`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_layer_replaces_and_adds_when_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (low, high, out) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("o"));
        for d in [&low, &high, &out] {
            fs::create_dir(d).unwrap();
        }
        fs::create_dir(low.join("etc")).unwrap();
        fs::write(low.join("etc/one"), "1").unwrap();
        fs::write(low.join("was-file"), "x").unwrap();
        symlink(dir.path().join("outside"), low.join("trap")).unwrap();
        fs::create_dir(high.join("etc")).unwrap();
        fs::write(high.join("etc/two"), "2").unwrap();
        fs::create_dir(high.join("was-file")).unwrap();
        fs::create_dir(high.join("trap")).unwrap();
        fs::write(high.join("trap/file"), "caught").unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();

        copy_layer(&low, &out).unwrap();
        copy_layer(&high, &out).unwrap();

        assert_eq!(fs::read_to_string(out.join("etc/one")).unwrap(), "1");
        assert_eq!(fs::read_to_string(out.join("etc/two")).unwrap(), "2");
        assert!(out.join("was-file").is_dir());
        assert_eq!(fs::read_to_string(out.join("trap/file")).unwrap(), "caught");
        assert!(fs::read_dir(dir.path().join("outside")).unwrap().next().is_none());
    }

    #[test]
    fn an_images_user_file_cannot_be_a_way_to_the_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(dir.path().join("secret"), "host").unwrap();
        symlink("../../secret", root.join("etc/passwd")).unwrap();
        assert_eq!(read_in_root(&root, "etc/passwd"), "");
        nix::unistd::mkfifo(&root.join("etc/group"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_in_root(&root, "etc/group"), "", "and a pipe is not waited for");
    }
}

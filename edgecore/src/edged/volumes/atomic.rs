//! A directory of files that changes all at once, as kubelet does it.
//!
//! The files are in a directory with a time for a name; `..data` points to it, and each visible
//! name points through `..data`. A new version is a new directory, and one rename of `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Its content.
    pub(crate) data: Vec<u8>,
    /// Its mode.
    pub(crate) mode: u32,
}

/// Files by their relative paths.
pub(crate) type Payload = BTreeMap<String, File>;

/// Whether a path stays below its directory and does not begin as our own names do.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with("..")
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Makes the directory show exactly `payload`; does nothing if it does already.
pub(crate) fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    if let Some(bad) = payload.keys().find(|path| !is_inside(path)) {
        let why = format!("`{bad}` is not a path below the volume");
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    let wish = |file: &File| if group.is_some() { file.mode | 0o440 } else { file.mode };
    let current = fs::read_link(dir.join(DATA)).ok();
    let up_to_date =
        current.as_ref().is_some_and(|name| shows(&dir.join(name), payload, wish).unwrap_or(false));
    if !up_to_date {
        let now = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
        let version = dir.join(&now);
        write_version(&version, payload, group, wish)?;
        let new_link = dir.join(NEW_DATA);
        remove_file(&new_link)?;
        symlink(&now, &new_link)?;
        fs::rename(&new_link, dir.join(DATA))?;
    }
    show(dir, payload)?;
    remove_old_versions(dir)
}

fn write_version(
    version: &Path,
    payload: &Payload,
    group: Option<u32>,
    wish: impl Fn(&File) -> u32,
) -> io::Result<()> {
    fs::create_dir(version)?;
    fs::set_permissions(version, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let path = version.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        out.write_all(&file.data)?;
        if let Some(group) = group {
            std::os::unix::fs::fchown(&out, None, Some(group))?;
        }
        out.set_permissions(fs::Permissions::from_mode(wish(file)))?;
    }
    Ok(())
}

/// Whether this version holds exactly these files.
fn shows(version: &Path, payload: &Payload, wish: impl Fn(&File) -> u32) -> io::Result<bool> {
    for (path, file) in payload {
        let mut there = match fs::File::open(version.join(path)) {
            Ok(there) => there,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let meta = there.metadata()?;
        if meta.len() != file.data.len() as u64 || meta.permissions().mode() & 0o7777 != wish(file)
        {
            return Ok(false);
        }
        let mut data = Vec::with_capacity(file.data.len());
        there.read_to_end(&mut data)?;
        if data != file.data {
            return Ok(false);
        }
    }
    Ok(count(version)? == payload.len())
}

fn count(dir: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

/// The visible names: those there should be and no others.
fn show(dir: &Path, payload: &Payload) -> io::Result<()> {
    let tops: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let stale = name.to_str().is_none_or(|n| !n.starts_with("..") && !tops.contains(n));
        if stale && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    for top in tops {
        match symlink(Path::new(DATA).join(top), dir.join(top)) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn remove_old_versions(dir: &Path) -> io::Result<()> {
    let current = fs::read_link(dir.join(DATA))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with("..") && n != DATA);
        if ours && Path::new(&name) != current && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

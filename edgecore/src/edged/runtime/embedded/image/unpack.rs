//! A layer's tar stream into a folder.
//!
//! Owns: every refusal that a hostile layer deserves, the limits, the whiteouts.
//! Called by: `image/mod.rs` for layers, `image/import.rs` for archives of images.
//! Never: follows a link, writes outside of its folder, makes a device, or believes a length.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use tar::EntryType;

use super::super::shim::OPAQUE;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// The one extended attribute that programs in images need.
const FILE_CAPABILITIES: &[u8] = b"SCHILY.xattr.security.capability";

/// What may come out of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl Limits {
    /// Larger than any image that an edge node would run.
    pub(crate) const LAYER: Limits = Limits { bytes: 16 << 30, entries: 2_000_000 };
}

/// A name, a link's target or a list of attributes is not longer.
const MAX_EXTENSION: u64 = 1024 * 1024;
const MAX_PATH: usize = 4096;

/// Why a stream was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("entry `{}`: {why}", .path.display())]
    Refused { path: PathBuf, why: &'static str },
    #[error("entry `{}`: cannot be made", .path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("it has more than {0} entries")]
    TooMany(u64),
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unpacked {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Whether an archive is a layer, whose whiteouts mean something, or just files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Layer,
    Files,
}

/// Unpacks an uncompressed tar stream into the empty folder `into`.
pub(crate) fn unpack(
    stream: impl Read,
    into: &Path,
    kind: Kind,
    limits: Limits,
) -> Result<Unpacked, UnpackError> {
    let make = |source| UnpackError::Make { path: "/".into(), source };
    let root = open_dir(rustix::fs::CWD, into.as_os_str()).map_err(make)?;
    let mut writer = Writer { root, kind, limits, done: Unpacked::default() };
    let mut archive = tar::Archive::new(stream);
    let mut extended = Extended::default();
    // Raw: the library would gather long names of any length in memory.
    for entry in archive.entries().map_err(UnpackError::Read)?.raw(true) {
        let mut entry = entry.map_err(UnpackError::Read)?;
        let kind = entry.header().entry_type();
        if extended.take(kind, &mut entry)? {
            continue;
        }
        let extended = std::mem::take(&mut extended);
        writer.entry(&mut entry, &extended)?;
    }
    Ok(writer.done)
}

/// What entries of their own say about the entry after them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    capability: Option<Vec<u8>>,
}

impl Extended {
    /// Whether the entry was one of those.
    fn take(&mut self, kind: EntryType, entry: &mut impl Read) -> Result<bool, UnpackError> {
        match kind {
            EntryType::GNULongName => self.path = Some(read_name(entry)?),
            EntryType::GNULongLink => self.link = Some(read_name(entry)?),
            EntryType::XHeader => {
                let records = read_extension(entry)?;
                for record in pax_records(&records) {
                    let (key, value) = record?;
                    match key {
                        b"path" => self.path = Some(value.to_vec()),
                        b"linkpath" => self.link = Some(value.to_vec()),
                        b"size" => {
                            let text = std::str::from_utf8(value).ok();
                            self.size = Some(text.and_then(|t| t.parse().ok()).unwrap_or(u64::MAX));
                        }
                        key if key == FILE_CAPABILITIES => self.capability = Some(value.to_vec()),
                        _ => {}
                    }
                }
            }
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn read_extension(entry: &mut impl Read) -> Result<Vec<u8>, UnpackError> {
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENSION + 1).read_to_end(&mut bytes).map_err(UnpackError::Read)?;
    if bytes.len() as u64 > MAX_EXTENSION {
        return Err(refused(&[], "its extended header is too long"));
    }
    Ok(bytes)
}

fn read_name(entry: &mut impl Read) -> Result<Vec<u8>, UnpackError> {
    let mut name = read_extension(entry)?;
    if let Some(end) = name.iter().position(|b| *b == 0) {
        name.truncate(end);
    }
    Ok(name)
}

/// `length key=value\n`, where the value may hold anything, line feeds too.
fn pax_records(mut rest: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), UnpackError>> {
    std::iter::from_fn(move || {
        // Padding follows the last record in some writers' headers.
        if rest.is_empty() || rest[0] == 0 {
            return None;
        }
        let parse = |rest: &'_ [u8]| -> Option<(usize, usize, usize)> {
            let space = rest.iter().take(20).position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let record = rest.get(..length)?;
            let equals = record.iter().position(|b| *b == b'=')?;
            let well_formed =
                record.last() == Some(&b'\n') && equals > space && equals + 1 < length;
            well_formed.then_some((space, equals, length))
        };
        let Some((space, equals, length)) = parse(rest) else {
            rest = &[];
            return Some(Err(refused(&[], "its extended header is malformed")));
        };
        let record = &rest[..length];
        rest = &rest[length..];
        Some(Ok((&record[space + 1..equals], &record[equals + 1..length - 1])))
    })
}

fn refused(path: &[u8], why: &'static str) -> UnpackError {
    UnpackError::Refused { path: PathBuf::from(OsStr::from_bytes(path)), why }
}

/// The parts of a path that stays below its root; none for the root itself.
fn parts(path: &[u8]) -> Result<Vec<&OsStr>, UnpackError> {
    if path.len() > MAX_PATH || path.contains(&0) {
        return Err(refused(&path[..path.len().min(64)], "its name is too long or has a NUL"));
    }
    let mut parts = Vec::new();
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            Component::RootDir => return Err(refused(path, "its path is absolute")),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(path, "its path contains `..`"));
            }
        }
    }
    Ok(parts)
}

/// A relative link may not climb above the root; an absolute one means the container's own root.
fn check_symlink(depth: usize, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
    if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
        return Err(refused(path, "its link target is not valid"));
    }
    let target = Path::new(OsStr::from_bytes(target));
    let mut level = if target.is_absolute() { 0 } else { depth };
    for part in target.components() {
        match part {
            Component::Normal(_) => level += 1,
            Component::ParentDir if level == 0 => {
                return Err(refused(path, "its link leaves the root"));
            }
            Component::ParentDir => level -= 1,
            _ => {}
        }
    }
    Ok(())
}

struct Writer {
    root: OwnedFd,
    kind: Kind,
    limits: Limits,
    done: Unpacked,
}

/// What a header says about owner, mode and time.
struct Attributes {
    mode: RawMode,
    uid: u32,
    gid: u32,
    mtime: i64,
}

impl Attributes {
    /// An absent or broken number is 0.
    fn of(header: &tar::Header) -> Self {
        let id = |n: io::Result<u64>| n.ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        // The highest number means "leave as it is" to the kernel.
        let id = |n| Some(id(n)).filter(|n| *n != u32::MAX).unwrap_or(0);
        Attributes {
            mode: header.mode().unwrap_or(0) & 0o7777,
            uid: id(header.uid()),
            gid: id(header.gid()),
            mtime: header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0),
        }
    }
}

impl Writer {
    fn entry<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        extended: &Extended,
    ) -> Result<(), UnpackError> {
        let path = match &extended.path {
            Some(path) => path.clone(),
            None => entry.header().path_bytes().into_owned(),
        };
        self.count(&path, entry, extended)?;
        let parts = parts(&path)?;
        let attributes = Attributes::of(entry.header());
        let make = |source: io::Error| UnpackError::Make {
            path: PathBuf::from(OsStr::from_bytes(&path)),
            source,
        };
        let Some((name, folders)) = parts.split_last() else {
            let root = self.root.try_clone().map_err(make)?;
            return finish_dir(&root, &attributes).map_err(make);
        };
        let parent = self.folder(folders, &path)?;
        if self.kind == Kind::Layer && name.as_bytes().starts_with(WHITEOUT) {
            return whiteout(&parent, name.as_bytes(), &path, make);
        }
        let link = || extended.link.clone().or_else(|| entry_link(entry.header()));
        match entry.header().entry_type() {
            EntryType::Directory => make_dir(&parent, name, &attributes).map_err(make),
            EntryType::Regular | EntryType::Continuous => {
                let file = make_file(&parent, name, entry).map_err(make)?;
                if let Some(value) = &extended.capability {
                    let name = "security.capability";
                    rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
                        .map_err(|e| make(e.into()))?;
                }
                finish_file(&file, &attributes).map_err(make)
            }
            EntryType::Symlink => {
                let target = link().unwrap_or_default();
                check_symlink(folders.len(), &path, &target)?;
                make_symlink(&parent, name, &target, &attributes).map_err(make)
            }
            EntryType::Link => {
                let target = link().unwrap_or_default();
                self.hard_link(&parent, name, &target, &path)
            }
            EntryType::Fifo => make_fifo(&parent, name, &attributes).map_err(make),
            // A container's `/dev` is never the image's, so these can do neither good nor harm.
            EntryType::Char | EntryType::Block if folders.first() == Some(&OsStr::new("dev")) => {
                Ok(())
            }
            EntryType::Char | EntryType::Block => Err(refused(&path, "it is a device")),
            _ => Err(refused(&path, "it is of a kind that images do not have")),
        }
    }

    fn count<R: Read>(
        &mut self,
        path: &[u8],
        entry: &tar::Entry<'_, R>,
        extended: &Extended,
    ) -> Result<(), UnpackError> {
        let size = entry.header().entry_size().map_err(UnpackError::Read)?;
        if extended.size.is_some_and(|s| s != size) {
            return Err(refused(path, "its two sizes differ"));
        }
        self.done.entries += 1;
        self.done.bytes = self.done.bytes.saturating_add(size);
        if self.done.entries > self.limits.entries {
            return Err(UnpackError::TooMany(self.limits.entries));
        }
        if self.done.bytes > self.limits.bytes {
            return Err(UnpackError::TooLarge(self.limits.bytes));
        }
        Ok(())
    }

    /// Opens a folder below the root, making what is missing, and following no link on the way.
    fn folder(&self, folders: &[&OsStr], path: &[u8]) -> Result<OwnedFd, UnpackError> {
        let make = |source: io::Error| match source.raw_os_error() {
            Some(code) if is_link_error(code) => {
                refused(path, "its path leads through a link or a file")
            }
            _ => UnpackError::Make { path: PathBuf::from(OsStr::from_bytes(path)), source },
        };
        let mut current = self.root.try_clone().map_err(make)?;
        for name in folders {
            current = match open_dir(&current, name) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&current, *name, Mode::from_raw_mode(0o755))
                        .map_err(|e| make(e.into()))?;
                    open_dir(&current, name).map_err(make)?
                }
                opened => opened.map_err(make)?,
            };
        }
        Ok(current)
    }

    /// Links to a file of the same archive.
    fn hard_link(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        target: &[u8],
        path: &[u8],
    ) -> Result<(), UnpackError> {
        let missing = || refused(path, "it links to a file that the archive does not have");
        let parts = parts(target).map_err(|_| refused(path, "its link leaves the root"))?;
        let (target, folders) = parts.split_last().ok_or_else(missing)?;
        let mut from = self.root.try_clone().map_err(|_| missing())?;
        for folder in folders {
            from = open_dir(&from, folder).map_err(|_| missing())?;
        }
        let stat = rustix::fs::statat(&from, *target, AtFlags::SYMLINK_NOFOLLOW);
        let linkable = |kind| matches!(kind, FileType::RegularFile | FileType::Symlink);
        if !stat.is_ok_and(|s| linkable(FileType::from_raw_mode(s.st_mode))) {
            return Err(missing());
        }
        let make = |source: io::Error| UnpackError::Make {
            path: PathBuf::from(OsStr::from_bytes(path)),
            source,
        };
        clear(parent, name).map_err(make)?;
        rustix::fs::linkat(&from, *target, parent, name, AtFlags::empty())
            .map_err(|e| make(e.into()))
    }
}

fn entry_link(header: &tar::Header) -> Option<Vec<u8>> {
    header.link_name_bytes().map(|l| l.into_owned())
}

fn is_link_error(code: i32) -> bool {
    use rustix::io::Errno;
    code == Errno::LOOP.raw_os_error() || code == Errno::NOTDIR.raw_os_error()
}

fn open_dir(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Makes room for an entry that comes a second time. A folder with something in it stays, and what
/// would take its place fails.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
            Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(rustix::io::Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

fn make_dir(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> io::Result<()> {
    let folder = match open_dir(parent, name) {
        Ok(folder) => folder,
        Err(_) => {
            clear(parent, name)?;
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            open_dir(parent, name)?
        }
    };
    finish_dir(&folder, attributes)
}

fn finish_dir(folder: &OwnedFd, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::fchown(folder, Some(uid), Some(gid))?;
    Ok(rustix::fs::fchmod(folder, Mode::from_raw_mode(attributes.mode))?)
}

fn make_file(parent: &OwnedFd, name: &OsStr, content: &mut impl Read) -> io::Result<File> {
    clear(parent, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
    let mut file = File::from(fd);
    io::copy(content, &mut file)?;
    Ok(file)
}

/// Owner first: changing it takes the set-uid bits away.
fn finish_file(file: &File, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: attributes.mtime, tv_nsec: 0 },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

fn make_symlink(
    parent: &OwnedFd,
    name: &OsStr,
    target: &[u8],
    attributes: &Attributes,
) -> io::Result<()> {
    clear(parent, name)?;
    rustix::fs::symlinkat(OsStr::from_bytes(target), parent, name)?;
    own(parent, name, attributes)
}

fn make_fifo(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> io::Result<()> {
    clear(parent, name)?;
    let mode = Mode::from_raw_mode(attributes.mode);
    rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)?;
    own(parent, name, attributes)
}

fn own(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    Ok(rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A layer's way to say that something below is gone, in overlayfs's words.
fn whiteout(
    parent: &OwnedFd,
    name: &[u8],
    path: &[u8],
    make: impl Fn(io::Error) -> UnpackError,
) -> Result<(), UnpackError> {
    if name == OPAQUE_MARK {
        return rustix::fs::fsetxattr(parent, OPAQUE, b"y", XattrFlags::empty())
            .map_err(|e| make(e.into()));
    }
    let hidden = &name[WHITEOUT.len()..];
    if hidden.is_empty() || hidden == b"." || hidden == b".." || hidden.starts_with(WHITEOUT) {
        return Err(refused(path, "it is not a valid whiteout"));
    }
    let hidden = OsStr::from_bytes(hidden);
    // The same layer may have brought the name first; the whiteout means the layers below.
    if rustix::fs::statat(parent, hidden, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(0);
    rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, mode, 0)
        .map_err(|e| make(e.into()))
}

#[cfg(test)]
mod tests;

//! A sample image, made of this very program, so that a first pod needs no download.
//!
//! Owns: the image `keadm.local/sample` and the workload in it.
//! Called by: the runtime when it opens; `shim::dispatch` runs the workload.
//! Never: compresses or copies what can be linked: making it is part of a person's first seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::image::{Hashing, ImageConfig, ImageError, ImageRecord, Store, sha256};
use super::state;

/// The image's name.
pub const IMAGE: &str = concat!("keadm.local/sample:", env!("CARGO_PKG_VERSION"));

/// The hidden subcommand that is the image's entry point.
pub const COMMAND: &str = "sample-workload";

/// Where the program is in the image.
pub const PROGRAM: &str = "/bin/keadm";

/// How often the workload says that it lives.
const PERIOD: Duration = Duration::from_secs(5);

/// What the sample image was made of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    id: String,
    of: String,
}

/// Something in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Folder { mode: u32 },
    File { from: PathBuf },
    Text(&'static str),
    Link(PathBuf),
}

/// Runs the workload: a line every few seconds, until it is told to stop. Returns the exit code.
pub fn workload() -> i32 {
    match talk_until_told_to_stop() {
        Ok(()) => 0,
        Err(e) => {
            let _ = writeln!(io::stderr(), "error: the sample workload failed: {e}");
            1
        }
    }
}

fn talk_until_told_to_stop() -> io::Result<()> {
    // The first process of a PID namespace ignores signals that it does not ask for.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    stop.thread_block()?;
    let signals = SignalFd::with_flags(&stop, SfdFlags::SFD_CLOEXEC)?;
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let mut out = io::stdout().lock();
    let timeout = PollTimeout::try_from(PERIOD).unwrap_or(PollTimeout::MAX);
    let mut beat: u64 = 0;
    loop {
        let now = Timestamp::now();
        writeln!(out, "{now:.0} hello from {host}, beat {beat}")?;
        out.flush()?;
        beat += 1;
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout)? > 0 {
            writeln!(out, "{:.0} told to stop, goodbye", Timestamp::now())?;
            return out.flush();
        }
    }
}

/// Makes the image unless it is there and this program has not changed.
pub(super) fn ensure(store: &Store, stamp_file: &Path) -> Result<(), ImageError> {
    let failed = |source| ImageError::Io { what: "read", path: "/proc/self".into(), source };
    let items = contents().map_err(failed)?;
    let of = fingerprint(&items).map_err(failed)?;
    if let Ok(stamp) = state::load::<Stamp>(stamp_file)
        && stamp.of == of
        && store.find(IMAGE).is_some_and(|i| i.id == stamp.id)
    {
        return Ok(());
    }
    let (diff_id, bytes) = digest(&items).map_err(failed)?;
    let key = store.add_layer(&diff_id, bytes, |folder| fill(&items, folder))?;
    let (config, env) = config_file(&items, &diff_id);
    let id = sha256(config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "config": { "digest": id, "size": config.len() },
        "layers": [{ "digest": diff_id, "size": bytes }],
    });
    let digest = sha256(manifest.to_string().as_bytes());
    if let Some(old) = store.find(IMAGE) {
        store.remove(&old.id, &BTreeSet::from([key.clone()]))?;
    }
    let (repository, _) = IMAGE.rsplit_once(':').unwrap_or((IMAGE, ""));
    store.add(ImageRecord {
        id: id.clone(),
        tags: vec![IMAGE.to_owned()],
        digests: vec![format!("{repository}@{digest}")],
        config: ImageConfig {
            entrypoint: vec![PROGRAM.into(), COMMAND.into()],
            env,
            ..ImageConfig::default()
        },
        layers: vec![key],
        bytes,
        pinned: true,
    })?;
    Ok(state::store(stamp_file, &Stamp { id, of })?)
}

fn config_file(items: &BTreeMap<PathBuf, Item>, diff_id: &str) -> (String, Vec<String>) {
    let folders: BTreeSet<&Path> = items
        .keys()
        .filter(|p| p.to_string_lossy().contains(".so"))
        .filter_map(|p| p.parent())
        .collect();
    let mut env = Vec::new();
    if !folders.is_empty() {
        let list: Vec<String> = folders.iter().map(|p| format!("/{}", p.display())).collect();
        env.push(format!("LD_LIBRARY_PATH={}", list.join(":")));
    }
    let config = json!({
        "architecture": std::env::consts::ARCH,
        "os": "linux",
        "config": { "Entrypoint": [PROGRAM, COMMAND], "Env": env },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    (config.to_string(), env)
}

/// This program, what it is linked with, and the least of a system around it. Paths are relative.
fn contents() -> io::Result<BTreeMap<PathBuf, Item>> {
    let exe = PathBuf::from("/proc/self/exe");
    let mut items = BTreeMap::new();
    let mut put = |path: &Path, item: Item| {
        items.insert(path.strip_prefix("/").unwrap_or(path).to_owned(), item);
    };
    put(Path::new(PROGRAM), Item::File { from: exe.clone() });
    put(
        Path::new("etc/passwd"),
        Item::Text("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:\n"),
    );
    put(Path::new("etc/group"), Item::Text("root:x:0:\nnogroup:x:65534:\n"));
    put(Path::new("tmp"), Item::Folder { mode: 0o1777 });
    let maps = fs::read_to_string("/proc/self/maps")?;
    let own = fs::metadata(&exe)?;
    for library in mapped_programs(&maps) {
        let meta = fs::metadata(&library)?;
        if (meta.dev(), meta.ino()) == (own.dev(), own.ino()) {
            continue;
        }
        for (name, target) in names_of(&library) {
            put(&name, Item::Link(target));
        }
        put(&library, Item::File { from: library.clone() });
    }
    if let Some(interpreter) = interpreter(&mut File::open(&exe)?)? {
        let from = fs::canonicalize(&interpreter)?;
        put(&interpreter, Item::File { from });
    }
    let folders: BTreeSet<PathBuf> = items
        .keys()
        .flat_map(|p| p.ancestors().skip(1).map(Path::to_owned))
        .filter(|p| !p.as_os_str().is_empty())
        .collect();
    for folder in folders {
        items.entry(folder).or_insert(Item::Folder { mode: 0o755 });
    }
    Ok(items)
}

/// Files that are mapped as programs: this one, its libraries, its interpreter.
fn mapped_programs(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.contains('x')))
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .filter(|path| !path.ends_with(" (deleted)"))
        .map(PathBuf::from)
        .collect()
}

/// The links next to a library by which it may be looked for.
fn names_of(library: &Path) -> Vec<(PathBuf, PathBuf)> {
    let Some((folder, name)) = library.parent().zip(library.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let stem: String = name.chars().take_while(|c| *c != '.' && *c != '-').collect();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().starts_with(&stem))
        .map(|e| e.path())
        .filter(|p| p.is_symlink() && fs::canonicalize(p).is_ok_and(|real| real == library))
        .map(|p| (p, library.to_owned()))
        .collect()
}

/// The program that runs this program, by its ELF header; `None` if it is linked statically.
fn interpreter(elf: &mut (impl Read + Seek)) -> io::Result<Option<PathBuf>> {
    let mut header = [0u8; 64];
    elf.read_exact(&mut header)?;
    let number = |bytes: &[u8], at: usize, width: usize| {
        bytes[at..at + width].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b))
    };
    let little_64 = header.starts_with(b"\x7fELF\x02\x01");
    let (table, size, count) =
        (number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2));
    if !little_64 || size < 56 {
        return Ok(None);
    }
    for n in 0..count {
        let mut entry = [0u8; 56];
        elf.seek(SeekFrom::Start(table.saturating_add(n * size)))?;
        elf.read_exact(&mut entry)?;
        let (at, length) = (number(&entry, 8, 8), number(&entry, 32, 8));
        if number(&entry, 0, 4) == 3 && (2..=4096).contains(&length) {
            let mut path = Vec::new();
            elf.seek(SeekFrom::Start(at))?;
            elf.take(length - 1).read_to_end(&mut path)?;
            return Ok(String::from_utf8(path).ok().map(PathBuf::from));
        }
    }
    Ok(None)
}

/// Changes whenever a file of the image does.
fn fingerprint(items: &BTreeMap<PathBuf, Item>) -> io::Result<String> {
    let mut text = IMAGE.to_owned();
    for (path, item) in items {
        if let Item::File { from } = item {
            let m = fs::metadata(from)?;
            let (size, mtime, ns) = (m.len(), m.mtime(), m.mtime_nsec());
            text.push_str(&format!(
                "\n{} {}:{} {size} {mtime}.{ns}",
                path.display(),
                m.dev(),
                m.ino()
            ));
        }
    }
    Ok(sha256(text.as_bytes()))
}

/// The digest of the tar that the layer would be, and the size of its files.
fn digest(items: &BTreeMap<PathBuf, Item>) -> io::Result<(String, u64)> {
    let mut tar = tar::Builder::new(Hashing::new(io::sink()));
    let mut bytes = 0;
    for (path, item) in items {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o755);
        match item {
            Item::Folder { mode } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                tar.append_data(&mut header, path, io::empty())?;
            }
            Item::Text(text) => {
                header.set_mode(0o644);
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes())?;
            }
            Item::File { from } => {
                let file = File::open(from)?;
                let size = file.metadata()?.len();
                bytes += size;
                header.set_size(size);
                tar.append_data(&mut header, path, io::BufReader::with_capacity(1 << 20, file))?;
            }
            Item::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok((tar.into_inner()?.digest(), bytes))
}

fn fill(items: &BTreeMap<PathBuf, Item>, folder: &Path) -> io::Result<()> {
    // A folder sorts before what is in it.
    for (path, item) in items {
        let place = folder.join(path);
        match item {
            Item::Folder { mode } => {
                fs::create_dir(&place)?;
                fs::set_permissions(&place, fs::Permissions::from_mode(*mode))?;
            }
            Item::Text(text) => fs::write(&place, text)?,
            Item::Link(target) => symlink(target, &place)?,
            Item::File { from } => link_or_copy(from, &place)?,
        }
    }
    Ok(())
}

/// A link shares the pages in memory with the running program. It is possible within a file
/// system, while the program's file is still in its place.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    let same = |a: &Path, b: &Path| {
        let (a, b) = (fs::metadata(a)?, fs::metadata(b)?);
        Ok::<_, io::Error>((a.dev(), a.ino()) == (b.dev(), b.ino()))
    };
    let real = fs::read_link(from).unwrap_or_else(|_| from.to_owned());
    let runnable = fs::metadata(from)?.permissions().mode() & 0o555 == 0o555;
    if runnable && fs::hard_link(&real, to).is_ok() {
        if same(from, to)? {
            return Ok(());
        }
        fs::remove_file(to)?;
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_brings_what_it_is_linked_with() {
        let items = contents().unwrap();
        assert!(matches!(items[Path::new("bin/keadm")], Item::File { .. }));
        assert!(matches!(items[Path::new("bin")], Item::Folder { mode: 0o755 }));
        let interpreter = interpreter(&mut File::open("/proc/self/exe").unwrap()).unwrap();
        if let Some(path) = interpreter {
            let relative = path.strip_prefix("/").unwrap();
            assert!(items.contains_key(relative), "{}", path.display());
            assert!(items.keys().any(|p| p.to_string_lossy().contains("libc.so")));
        }
    }

    #[test]
    fn a_file_that_is_no_program_has_no_interpreter() {
        let of = |bytes: &[u8]| interpreter(&mut io::Cursor::new(bytes.to_vec()));
        assert!(of(b"short").is_err());
        assert_eq!(of(&[0; 64]).unwrap(), None);
        let mut lying = [0u8; 64];
        lying[..6].copy_from_slice(b"\x7fELF\x02\x01");
        lying[32] = 0xff;
        lying[54] = 56;
        lying[56] = 0xff;
        assert!(of(&lying).is_err(), "its table is beyond its end");
    }

    #[test]
    fn only_programs_count_among_what_is_mapped() {
        let maps = "55-56 r-xp 00000000 fe:00 1 /usr/bin/keadm\n\
                    57-58 r--p 00000000 fe:00 2 /usr/share/locale\n\
                    59-60 r-xp 00000000 fe:00 3 /usr/lib/libc.so.6\n\
                    61-62 r-xp 00000000 fe:00 4 /old (deleted)\n\
                    63-64 r-xp 00000000 00:00 0 [vdso]\n";
        let found: Vec<_> = mapped_programs(maps).into_iter().collect();
        assert_eq!(found, [Path::new("/usr/bin/keadm"), Path::new("/usr/lib/libc.so.6")]);
    }

    #[test]
    fn it_is_made_once_and_again_when_the_program_changes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("images")).unwrap();
        let stamp = dir.path().join("sample.json");
        ensure(&store, &stamp).unwrap();
        let image = store.find(IMAGE).unwrap();
        assert_eq!(image.config.entrypoint, [PROGRAM, COMMAND]);
        let program =
            store.layers_folder().join(&Store::lower_folders(&image)[0]).join("bin/keadm");
        let made = fs::metadata(&program).unwrap();
        assert_eq!(made.len(), fs::metadata("/proc/self/exe").unwrap().len());
        let text = fs::read_to_string(&stamp).unwrap();
        ensure(&store, &stamp).unwrap();
        assert_eq!(fs::read_to_string(&stamp).unwrap(), text);
        state::store(&stamp, &Stamp { id: image.id.clone(), of: "older".into() }).unwrap();
        ensure(&store, &stamp).unwrap();
        assert_eq!(fs::read_to_string(&stamp).unwrap(), text);
        assert_eq!(store.find(IMAGE).unwrap().layers, image.layers);
    }
}

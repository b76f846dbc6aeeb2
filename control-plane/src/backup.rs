//! The whole of a control plane in one file, and back.
//!
//! Owns: the form of a backup (a tar of the database and the keys), its checks, and the switch to
//! what was restored. Called by: `keadm backup`, `keadm restore`; the API server for the copy.
//! Never: touches the data of a control plane that runs, but through that one's own connection.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::bootstrap::{self, Authority};
use crate::store::log;

/// Where `POST` makes a copy of the database of a running control plane.
pub const PATH: &str = "/keadm/backup";

/// Revisions that are skipped after a restore, so that whoever watches from a later one than the
/// backup has is told that it is too old, and lists again.
const LEAP: i64 = 1_000_000;
const KEYS: [&str; 3] = ["ca.crt", "ca.key", "sa.key"];
/// A key or certificate is not larger.
const KEY_LIMIT: u64 = 64 * 1024;
/// Neither is a database.
const DATABASE_LIMIT: u64 = 16 << 30;
const DATABASE: &str = "state.db";

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder.
    #[error("cannot {doing} `{path}`")]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which one.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A database.
    #[error("cannot read the database `{path}`")]
    Database {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The control plane has its files open.
    #[error("the control plane with its data in `{0}` is running")]
    Running(PathBuf),
    /// There is nothing to back up.
    #[error("there is no control plane in `{0}`")]
    Missing(PathBuf),
    /// It is no backup, or not a whole one.
    #[error("`{path}` is not a good backup: {why}")]
    Bad {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The keys in it, or a folder.
    #[error(transparent)]
    Keys(#[from] bootstrap::BootstrapError),
}

type Result<T> = std::result::Result<T, BackupError>;

/// What is in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// The newest revision in it.
    pub revision: u64,
    /// How many objects there are.
    pub objects: u64,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What is there now.
    pub contents: Contents,
    /// Where the data lies that was there before.
    pub previous: Option<PathBuf>,
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { doing, path, source }
}

fn database(path: &Path) -> impl Fn(rusqlite::Error) -> BackupError + '_ {
    |source| BackupError::Database { path: path.to_owned(), source }
}

/// The folder for copies that are on their way into a backup.
pub(crate) fn copies(data_dir: &Path) -> PathBuf {
    data_dir.join("backup")
}

/// A new name for a copy. Removes what an interrupted backup left behind more than an hour ago.
///
/// # Errors
/// When the folder cannot be made.
pub(crate) fn new_copy(data_dir: &Path) -> Result<PathBuf> {
    let dir = copies(data_dir);
    bootstrap::private_dir(&dir)?;
    for entry in fs::read_dir(&dir).map_err(file("read", &dir))?.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
        if age.is_some_and(|a| a > Duration::from_secs(3600)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(dir.join(format!("{}.db", uuid::Uuid::new_v4())))
}

/// Copies the database of a control plane that does not run.
///
/// # Errors
/// [`BackupError::Running`] when it does run.
pub fn copy_at_rest(data_dir: &Path) -> Result<PathBuf> {
    let path = data_dir.join("db").join(DATABASE);
    if !path.exists() {
        return Err(BackupError::Missing(data_dir.to_owned()));
    }
    let db = lock(data_dir)?;
    let to = new_copy(data_dir)?;
    log::copy(&db, &to).map_err(|source| BackupError::Database { path: to.clone(), source })?;
    Ok(to)
}

/// Opens the database for oneself alone.
fn lock(data_dir: &Path) -> Result<Connection> {
    let path = data_dir.join("db").join(DATABASE);
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(database(&path))?;
    let alone = db.busy_timeout(Duration::from_millis(200)).and_then(|()| {
        db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;")
    });
    match alone {
        Ok(()) => Ok(db),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            Err(BackupError::Running(data_dir.to_owned()))
        }
        Err(e) => Err(database(&path)(e)),
    }
}

/// Whether a database is ours, whole, and of a version that this program knows.
///
/// # Errors
/// When it is not.
pub fn check(path: &Path) -> Result<Contents> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(database(path))?;
    let bad = |why: String| BackupError::Bad { path: path.to_owned(), why };
    log::check(&db).map_err(|e| bad(e.to_string()))?;
    log::count(&db)
        .map_err(database(path))
        .map(|(revision, objects)| Contents { revision, objects })
}

/// Puts a copy of the database and the keys of `data_dir` into one file, for its owner only.
/// The copy is removed.
///
/// # Errors
/// When the copy is not good or the file cannot be written.
pub fn pack(data_dir: &Path, copy: &Path, to: &Path) -> Result<Contents> {
    let packed = check(copy).and_then(|contents| {
        let next = beside(to, "partial");
        let written = write_archive(data_dir, copy, &next).and_then(|()| {
            fs::rename(&next, to).map_err(file("write", to))?;
            sync_parent(to)
        });
        if written.is_err() {
            let _ = fs::remove_file(&next);
        }
        written.map(|()| contents)
    });
    let _ = fs::remove_file(copy);
    packed
}

fn write_archive(data_dir: &Path, copy: &Path, next: &Path) -> Result<()> {
    let out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(next)
        .map_err(file("write", next))?;
    let mut tar = tar::Builder::new(io::BufWriter::new(out));
    tar.mode(tar::HeaderMode::Deterministic);
    for key in KEYS {
        let from = data_dir.join("pki").join(key);
        tar.append_path_with_name(&from, format!("pki/{key}")).map_err(file("add", &from))?;
    }
    tar.append_path_with_name(copy, DATABASE).map_err(file("add", copy))?;
    let mut out = tar.into_inner().map_err(file("write", next))?;
    out.flush().map_err(file("write", next))?;
    out.get_ref().sync_all().map_err(file("write", next))
}

/// `name` in the same folder, with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    fs::File::open(parent).and_then(|d| d.sync_all()).map_err(file("write", parent))
}

/// Puts the data of a backup in the place of what is in `data_dir`, in one step. What was there is
/// kept beside it.
///
/// # Errors
/// When the control plane runs, the backup is not good, or the place cannot be written; then
/// nothing has changed.
pub fn restore(archive: &Path, data_dir: &Path) -> Result<Restored> {
    let held =
        if data_dir.join("db").join(DATABASE).exists() { Some(lock(data_dir)?) } else { None };
    let next = beside(data_dir, "restoring");
    let _ = fs::remove_dir_all(&next);
    let result = unpack(archive, &next).and_then(|contents| {
        let previous = switch(&next, data_dir)?;
        Ok(Restored { contents, previous })
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&next);
    }
    drop(held);
    result
}

/// Does all that [`restore`] does before it changes anything, and leaves everything as it was.
///
/// # Errors
/// As [`restore`].
pub fn rehearse(archive: &Path, data_dir: &Path) -> Result<Contents> {
    let held =
        if data_dir.join("db").join(DATABASE).exists() { Some(lock(data_dir)?) } else { None };
    let next = beside(data_dir, "restoring");
    let _ = fs::remove_dir_all(&next);
    let result = unpack(archive, &next);
    let _ = fs::remove_dir_all(&next);
    drop(held);
    result
}

fn unpack(archive: &Path, next: &Path) -> Result<Contents> {
    let bad = |why: &str| BackupError::Bad { path: archive.to_owned(), why: why.to_owned() };
    for dir in [next.to_owned(), next.join("pki"), next.join("db")] {
        bootstrap::private_dir(&dir)?;
    }
    let from = fs::File::open(archive).map_err(file("read", archive))?;
    let mut tar = tar::Archive::new(io::BufReader::new(from));
    let mut seen = Vec::new();
    for entry in tar.entries().map_err(file("read", archive))? {
        let entry = entry.map_err(|e| bad(&format!("it is no archive, or it breaks off: {e}")))?;
        let name = entry.path().map_err(|e| bad(&e.to_string()))?.to_string_lossy().into_owned();
        // Only what belongs into a backup is looked at, so no path leads outside.
        let (to, limit) = match name.strip_prefix("pki/") {
            Some(key) if KEYS.contains(&key) => (next.join("pki").join(key), KEY_LIMIT),
            None if name == DATABASE => (next.join("db").join(DATABASE), DATABASE_LIMIT),
            _ => return Err(bad(&format!("`{name}` does not belong into it"))),
        };
        if !entry.header().entry_type().is_file() || entry.size() > limit || seen.contains(&name) {
            return Err(bad(&format!("`{name}` is not what it should be")));
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&to)
            .map_err(file("write", &to))?;
        let size = entry.size();
        let copied = io::copy(&mut entry.take(limit), &mut out).map_err(file("write", &to))?;
        if copied != size {
            return Err(bad("it breaks off"));
        }
        out.sync_all().map_err(file("write", &to))?;
        seen.push(name);
    }
    if seen.len() != KEYS.len() + 1 {
        return Err(bad("it breaks off"));
    }
    Authority::open(&next.join("pki"))?;
    bootstrap::account_key(&next.join("pki"))?;
    let path = next.join("db").join(DATABASE);
    let contents = check(&path).map_err(|e| {
        bad(&format!(
            "its database: {}",
            std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string)
        ))
    })?;
    log::leap(&path, LEAP).map_err(database(&path))?;
    Ok(contents)
}

/// Exchanges the folders; both names are there at every moment.
fn switch(next: &Path, data_dir: &Path) -> Result<Option<PathBuf>> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if !data_dir.exists() {
        fs::rename(next, data_dir).map_err(file("put in place", data_dir))?;
        sync_parent(data_dir)?;
        return Ok(None);
    }
    renameat_with(CWD, next, CWD, data_dir, RenameFlags::EXCHANGE)
        .map_err(|e| file("put in place", data_dir)(e.into()))?;
    sync_parent(data_dir)?;
    let old = beside(data_dir, &format!("before-{}", jiff::Timestamp::now().as_second()));
    match fs::rename(next, &old) {
        Ok(()) => Ok(Some(old)),
        // It is kept all the same, under the other name.
        Err(_) => Ok(Some(next.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Draft, Expect, Key, Store, compact::Limits};
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;

    async fn plane(dir: &Path, names: &[&str]) -> Store {
        let pki = dir.join("pki");
        bootstrap::private_dir(dir).unwrap();
        bootstrap::private_dir(&pki).unwrap();
        Authority::open(&pki).unwrap();
        bootstrap::account_key(&pki).unwrap();
        let store = Store::open(&dir.join("db").join(DATABASE), Limits::default()).unwrap();
        for name in names {
            let key = Key::new(&"core/configmaps".into(), "n", name);
            let draft = Draft::of(&json!({"metadata": {"name": name}}));
            store.put(key, Expect::Absent, draft).await.unwrap();
        }
        store
    }

    async fn names(dir: &Path) -> (u64, Vec<String>) {
        let store = Store::open(&dir.join("db").join(DATABASE), Limits::default()).unwrap();
        let found = store.list("core/configmaps", "", None);
        store.close().await;
        (found.revision, found.objects.iter().map(|(k, _)| k.to_string()).collect())
    }

    #[tokio::test]
    async fn a_backup_taken_while_it_runs_brings_everything_back() {
        let dir = tempfile::tempdir().unwrap();
        let (data, archive) = (dir.path().join("cp"), dir.path().join("b.tar"));
        let store = plane(&data, &["a", "b"]).await;
        let ca = fs::read(data.join("pki/ca.crt")).unwrap();
        assert!(matches!(copy_at_rest(&data), Err(BackupError::Running(_))));
        let copy = new_copy(&data).unwrap();
        store.backup(&copy).await.unwrap();
        let contents = pack(&data, &copy, &archive).unwrap();
        assert_eq!(contents, Contents { revision: 2, objects: 2 });
        assert!(!copy.exists());
        assert_eq!(fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
        let key = Key::new(&"core/configmaps".into(), "n", "a");
        store.delete(key, 1).await.unwrap();
        assert!(matches!(restore(&archive, &data), Err(BackupError::Running(_))));
        store.close().await;

        let restored = restore(&archive, &data).unwrap();
        assert_eq!(restored.contents, contents);
        let (revision, found) = names(&data).await;
        assert_eq!(found, ["n/a", "n/b"]);
        assert!(revision > 1_000_000, "who watched from a later revision must be told");
        assert_eq!(fs::read(data.join("pki/ca.crt")).unwrap(), ca);
        assert_eq!(names(&restored.previous.unwrap()).await.1, ["n/b"]);

        let fresh = dir.path().join("fresh");
        assert_eq!(restore(&archive, &fresh).unwrap().previous, None);
        assert_eq!(names(&fresh).await.1, ["n/a", "n/b"]);
        let copy = copy_at_rest(&fresh).unwrap();
        pack(&fresh, &copy, &archive).unwrap();
    }

    #[tokio::test]
    async fn a_backup_cut_or_changed_anywhere_is_refused_and_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (data, archive) = (dir.path().join("cp"), dir.path().join("b.tar"));
        let store = plane(&data, &["a"]).await;
        store.close().await;
        pack(&data, &copy_at_rest(&data).unwrap(), &archive).unwrap();
        let whole = fs::read(&archive).unwrap();
        let broken = dir.path().join("broken.tar");
        let refused = |bytes: &[u8]| {
            fs::write(&broken, bytes).unwrap();
            assert!(restore(&broken, &data).is_err());
            assert!(!dir.path().join("cp.restoring").exists());
        };
        for at in [0, 100, 512, 1000, whole.len() / 2, whole.len() - 3000] {
            refused(&whole[..at]);
        }
        let mut swapped = whole.clone();
        let page = whole.windows(16).position(|w| w == b"SQLite format 3\0").unwrap();
        swapped[page..page + 16].fill(b'x');
        refused(&swapped);
        refused(b"not a tar at all");
        assert_eq!(names(&data).await.1, ["n/a"]);
    }
}

//! The file: one table of revisions, one thread that writes it.
//!
//! Owns: the SQLite connection. `log(revision, key, gap, value)`: a row per change; `gap` is where the
//! revision's digits stand in the value; a deletion's value is null; an object's state before a change is the row before it with the same key.
//! Called by: `Store`. Never: publishes what is not yet durable.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::compact::{History, Limits, forget};
use super::{Draft, Event, Expect, Held, Key, Shared, State, Stored, WriteError};

/// `PRAGMA application_id`: the letters "keCP".
const APPLICATION_ID: i32 = 0x6b65_4350;
/// What leads from one version of the schema to the next; never changed, only added to.
const MIGRATIONS: [&str; 1] = [
    "CREATE TABLE IF NOT EXISTS log (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, gap INTEGER NOT NULL, value BLOB);
     CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;",
];
/// `PRAGMA user_version`: how many of them the file has seen.
const SCHEMA_VERSION: i32 = 1;
/// Writes that share one commit at most.
const GROUP: usize = 512;
/// Rows deleted at one commit at most.
const SWEEP: usize = 2048;

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot prepare `{path}`")]
    File { path: PathBuf, source: io::Error },
    #[error("cannot open the database `{path}`")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("the database `{path}` is damaged: {detail}; restore it from a backup")]
    Damaged { path: PathBuf, detail: String },
    #[error(
        "the database `{path}` has schema version {found}, this program knows up to {SCHEMA_VERSION}; use the newer program"
    )]
    TooNew { path: PathBuf, found: i32 },
    #[error("`{path}` is a database of another program")]
    Foreign { path: PathBuf },
}

pub(super) struct Write {
    pub(super) key: Key,
    pub(super) expect: Expect,
    /// None deletes.
    pub(super) draft: Option<Draft>,
    pub(super) reply: oneshot::Sender<Result<Arc<Stored>, WriteError>>,
}

pub(super) enum Request {
    Write(Write),
    Backup { to: PathBuf, reply: oneshot::Sender<Result<(), WriteError>> },
    Close { reply: oneshot::Sender<()> },
}

/// Opens the file, loads it, and starts the thread.
pub(super) fn start(
    path: &Path,
    limits: Limits,
    requests: mpsc::Receiver<Request>,
) -> Result<Arc<Shared>, OpenError> {
    let db = open(path)?;
    let (state, dead) = load(&db, &limits).map_err(refused(path))?;
    let swept = state.floor;
    let shared = Arc::new(Shared { state: RwLock::new(state), failing: AtomicBool::new(false) });
    let writer = Writer { db, shared: Arc::clone(&shared), limits, dead, swept };
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer.run(requests))
        .map_err(|source| OpenError::File { path: path.into(), source })?;
    Ok(shared)
}

fn open(path: &Path) -> Result<Connection, OpenError> {
    let file = |source| OpenError::File { path: path.to_owned(), source };
    let sqlite = refused(path);
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(file)?;
    }
    // SQLite gives the files beside it (-wal, -shm) the permissions of this one.
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(file)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(file)?;
    let db = Connection::open(path).map_err(&sqlite)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(&sqlite)?;
    let (id, version) = identity(&db).map_err(&sqlite)?;
    if version > SCHEMA_VERSION {
        return Err(OpenError::TooNew { path: path.into(), found: version });
    }
    let empty: bool = db
        .query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)", [], |r| r.get(0))
        .map_err(&sqlite)?;
    if !empty && id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.into() });
    }
    db.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA cache_size = -1024; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 16777216;
         PRAGMA application_id = {APPLICATION_ID};"
    ))
    .map_err(&sqlite)?;
    migrate(&db, version).map_err(&sqlite)?;
    let found = quick_check(&db).map_err(&sqlite)?;
    if found != "ok" {
        return Err(OpenError::Damaged { path: path.into(), detail: found });
    }
    Ok(db)
}

/// What an error of SQLite means for opening: a damaged file has another remedy than one in use.
fn refused(path: &Path) -> impl Fn(rusqlite::Error) -> OpenError + '_ {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    |source| match source.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            OpenError::Damaged { path: path.to_owned(), detail: source.to_string() }
        }
        _ => OpenError::Sqlite { path: path.to_owned(), source },
    }
}

/// The program and the schema version of a file.
fn identity(db: &Connection) -> rusqlite::Result<(i32, i32)> {
    let id = db.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    Ok((id, db.query_row("PRAGMA user_version", [], |r| r.get(0))?))
}

/// Brings the tables to the newest version: one step, and one transaction, per version.
fn migrate(db: &Connection, from: i32) -> rusqlite::Result<()> {
    for (to, step) in (1..).zip(MIGRATIONS).skip(usize::try_from(from).unwrap_or(0)) {
        db.execute_batch(&format!("BEGIN; {step} PRAGMA user_version = {to}; COMMIT;"))?;
    }
    Ok(())
}

fn quick_check(db: &Connection) -> rusqlite::Result<String> {
    db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
}

/// Why a file that is not opened for use is no good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it is a database of another program")]
    Foreign,
    #[error(
        "it has schema version {0}, this program knows up to {SCHEMA_VERSION}; use the newer program"
    )]
    TooNew(i32),
}

/// Looks at a file as a whole.
pub(crate) fn check(db: &Connection) -> Result<(), CheckError> {
    let (id, version) = identity(db)?;
    if id != APPLICATION_ID {
        return Err(CheckError::Foreign);
    }
    if version > SCHEMA_VERSION {
        return Err(CheckError::TooNew(version));
    }
    match quick_check(db)? {
        ok if ok == "ok" => Ok(()),
        detail => Err(CheckError::Damaged(detail)),
    }
}

/// The newest revision and the number of objects.
pub(crate) fn count(db: &Connection) -> rusqlite::Result<(u64, u64)> {
    let (state, _) = load(db, &Limits::default())?;
    let objects: usize = state.tables.values().map(|t| t.objects.len()).sum();
    Ok((state.revision, objects as u64))
}

/// Copies a database into a new file that stands alone, for its owner only.
pub(crate) fn copy(db: &Connection, to: &Path) -> rusqlite::Result<()> {
    let refused = |e: io::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(e));
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let made = made.map_err(refused)?;
    let mut copy = Connection::open(to)?;
    rusqlite::backup::Backup::new(db, &mut copy)?.run_to_completion(1024, Duration::ZERO, None)?;
    copy.execute_batch("PRAGMA journal_mode = DELETE;")?;
    made.sync_all().map_err(refused)
}

/// SQLite's integers are signed; revisions never come near the limit.
fn sql(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Reads the file. Returns the state and the rows that nobody needs.
fn load(db: &Connection, limits: &Limits) -> rusqlite::Result<(State, Vec<u64>)> {
    let mut dead = Vec::new();
    let floor: i64 = db
        .query_row("SELECT value FROM meta WHERE name = 'compacted'", [], |r| r.get(0))
        .or_else(|e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(0) } else { Err(e) })?;
    let floor = u64::try_from(floor).unwrap_or(0);
    let mut state =
        State { revision: floor, floor, tables: HashMap::new(), history: History::default() };
    let now = Instant::now();
    let mut rows = db.prepare("SELECT revision, key, gap, value FROM log ORDER BY revision")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let revision = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        let key = row.get_ref(1)?.as_str()?;
        let Some((table, name)) = split_key(key) else { continue };
        let revision_at = row.get(2)?;
        let stored = row.get_ref(3)?.as_blob_or_null()?.map(|text| {
            let text = Bytes::copy_from_slice(text);
            Arc::new(Stored { revision, text, revision_at, selectable: OnceLock::new() })
        });
        let table = intern(&state, table);
        if revision > floor {
            publish(&mut state, &table, name, revision, stored, now);
            dead.extend(forget(&mut state, limits, now));
        } else {
            let t = state.tables.entry(table).or_default();
            let deleted = stored.is_none();
            let before = match stored {
                Some(stored) => t.objects.insert(name.into(), stored),
                None => t.objects.remove(name),
            };
            dead.extend(before.map(|b| b.revision));
            dead.extend(deleted.then_some(revision));
        }
        state.revision = state.revision.max(revision);
    }
    Ok((state, dead))
}

fn split_key(key: &str) -> Option<(&str, &str)> {
    // table = group/resource, name = namespace/name
    let second = key.match_indices('/').nth(1)?.0;
    Some((&key[..second], &key[second + 1..]))
}

fn intern(state: &State, table: &str) -> Arc<str> {
    state.tables.get_key_value(table).map_or_else(|| table.into(), |(k, _)| Arc::clone(k))
}

/// Puts a durable change into the state. Returns the object that the writer answers with.
fn publish(
    state: &mut State,
    table: &Arc<str>,
    name: &str,
    revision: u64,
    stored: Option<Arc<Stored>>,
    now: Instant,
) -> Option<Arc<Stored>> {
    let t = state.tables.entry(Arc::clone(table)).or_default();
    let (object, previous, deleted) = match stored {
        Some(new) => {
            let previous = t.objects.insert(name.into(), Arc::clone(&new));
            (new, previous, false)
        }
        None => {
            let previous = t.objects.remove(name)?;
            (Arc::new(previous.at_revision(revision)), Some(previous), true)
        }
    };
    let bytes = object.text.len() + previous.as_ref().map_or(0, |p| p.text.len()) + 160;
    let answer = Arc::clone(&object);
    t.events.push_back(Arc::new(Event { revision, name: name.into(), object, previous, deleted }));
    state.history.push(table, bytes, now);
    state.revision = revision;
    Some(answer)
}

struct Writer {
    db: Connection,
    shared: Arc<Shared>,
    limits: Limits,
    /// Rows that may go, deleted with the next commits.
    dead: Vec<u64>,
    swept: u64,
}

/// A write of the current group: accepted, not yet durable.
struct Accepted {
    key: Key,
    revision: u64,
    stored: Option<Arc<Stored>>,
    held: Option<Held>,
    reply: oneshot::Sender<Result<Arc<Stored>, WriteError>>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut group = Vec::new();
            let mut next = Some(first);
            let mut after = None;
            while let Some(request) = next {
                match request {
                    Request::Write(w) => group.push(w),
                    other => {
                        after = Some(other);
                        break;
                    }
                }
                next = if group.len() < GROUP { requests.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.commit(group);
            }
            match after {
                Some(Request::Backup { to, reply }) => {
                    let _ = reply.send(self.backup(&to));
                }
                Some(Request::Close { reply }) => {
                    self.close();
                    // The file is free once the answer is there.
                    drop(self);
                    let _ = reply.send(());
                    return;
                }
                Some(Request::Write(_)) | None => {}
            }
        }
        self.close();
    }

    fn commit(&mut self, group: Vec<Write>) {
        let accepted = self.accept(group);
        if accepted.is_empty() {
            return;
        }
        let result = self.store(&accepted);
        let failing = result.is_err();
        if failing != self.shared.failing.swap(failing, Ordering::Relaxed) {
            match &result {
                Err(e) => tracing::error!("cannot write to the database: {e}"),
                Ok(()) => tracing::info!("the database can be written again"),
            }
        }
        match result {
            Ok(()) => self.publish(accepted),
            Err(e) => {
                for a in accepted {
                    drop(a.held);
                    let full = e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
                    let why = if full { WriteError::Full } else { WriteError::Disk(e.to_string()) };
                    let _ = a.reply.send(Err(why));
                }
            }
        }
    }

    /// Decides which writes of a group happen, each in the light of those before it.
    fn accept(&self, group: Vec<Write>) -> Vec<Accepted> {
        let mut accepted: Vec<Accepted> = Vec::with_capacity(group.len());
        let mut pending: HashMap<Key, Option<u64>> = HashMap::new();
        let state = self.shared.state.read();
        let mut revision = state.revision;
        for Write { key, expect, draft, reply } in group {
            let current = pending.get(&key).copied().unwrap_or_else(|| {
                state
                    .tables
                    .get(&key.table)
                    .and_then(|t| t.objects.get(&key.name))
                    .map(|s| s.revision)
            });
            let refused = match (expect, current) {
                (Expect::Absent, Some(_)) => Some(WriteError::Exists),
                (Expect::Revision(_), None) => Some(WriteError::Missing),
                (Expect::Revision(r), Some(c)) if r != c => Some(WriteError::Conflict),
                _ => None,
            };
            if let Some(e) = refused {
                drop(draft);
                let _ = reply.send(Err(e));
                continue;
            }
            revision += 1;
            let stored = draft.as_ref().map(|d| Arc::new(Stored::new(revision, d)));
            pending.insert(key.clone(), stored.as_ref().map(|s| s.revision));
            let held = draft.and_then(|d| d.held);
            accepted.push(Accepted { key, revision, stored, held, reply });
        }
        accepted
    }

    fn store(&mut self, accepted: &[Accepted]) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        {
            let mut insert = tx.prepare_cached(
                "INSERT INTO log (revision, key, gap, value) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for a in accepted {
                let key = format!("{}/{}", a.key.table, a.key.name);
                let gap = a.stored.as_ref().map_or(0, |s| s.revision_at);
                insert.execute(params![
                    sql(a.revision),
                    key,
                    gap,
                    a.stored.as_ref().map(|s| &s.text[..])
                ])?;
            }
            if self.swept > 0 && !self.dead.is_empty() {
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO meta (name, value) VALUES ('compacted', ?1)",
                )?
                .execute([sql(self.swept)])?;
                let mut delete = tx.prepare_cached("DELETE FROM log WHERE revision = ?1")?;
                for revision in self.dead.iter().take(SWEEP) {
                    delete.execute([sql(*revision)])?;
                }
            }
        }
        tx.commit()?;
        let swept = self.dead.len().min(SWEEP);
        self.dead.drain(..swept);
        Ok(())
    }

    fn publish(&mut self, accepted: Vec<Accepted>) {
        let now = Instant::now();
        let mut answers = Vec::with_capacity(accepted.len());
        {
            let mut state = self.shared.state.write();
            let mut touched: Vec<Arc<str>> = Vec::new();
            for Accepted { key, revision, stored, held, reply } in accepted {
                let object = publish(&mut state, &key.table, &key.name, revision, stored, now);
                answers.push((reply, object, held));
                if !touched.contains(&key.table) {
                    touched.push(key.table);
                }
            }
            let dead = forget(&mut state, &self.limits, now);
            if !dead.is_empty() {
                self.swept = state.floor;
                self.dead.extend(dead);
            }
            for table in touched {
                if let Some(t) = state.tables.get(&table) {
                    t.wake.send_replace(state.revision);
                }
            }
        }
        for (reply, object, held) in answers {
            drop(held);
            let _ = reply.send(object.ok_or(WriteError::Missing));
        }
    }

    fn backup(&self, to: &Path) -> Result<(), WriteError> {
        copy(&self.db, to).map_err(|e| WriteError::Disk(e.to_string()))
    }

    fn close(&self) {
        if let Err(e) = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!("cannot fold the write-ahead log into the database: {e}");
        }
    }
}

/// Makes every revision of a database at rest that somebody may remember too old: what comes next
/// is counted from `by` further on.
///
/// # Errors
/// As SQLite says.
pub(crate) fn leap(path: &Path, by: i64) -> rusqlite::Result<()> {
    let db = Connection::open(path)?;
    db.execute(
        "INSERT OR REPLACE INTO meta (name, value) SELECT 'compacted', max(\
         coalesce((SELECT max(revision) FROM log), 0), \
         coalesce((SELECT value FROM meta WHERE name = 'compacted'), 0)) + ?1",
        [by],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use serde_json::json;

    fn key(name: &str) -> Key {
        Key::new(&Arc::from("core/configmaps"), "default", name)
    }

    fn draft(name: &str, n: u64) -> Draft {
        Draft::of(&json!({"metadata": {"name": name}, "data": {"n": n.to_string()}}))
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_opening_again_and_can_be_watched_from_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db").join("state.db");
        let store = Store::open(&path, Limits::default()).unwrap();
        let a = store.put(key("a"), Expect::Absent, draft("a", 1)).await.unwrap();
        store.put(key("b"), Expect::Absent, draft("b", 1)).await.unwrap();
        store.put(key("a"), Expect::Revision(a.revision), draft("a", 2)).await.unwrap();
        store.delete(key("b"), 2).await.unwrap();
        store.close().await;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let store = Store::open(&path, Limits::default()).unwrap();
        assert_eq!(store.revision(), 4);
        assert_eq!(store.get(&key("a")).unwrap().value()["data"]["n"], "2");
        assert!(store.get(&key("b")).is_none());
        let mut watch = store.watch(&Arc::from("core/configmaps"), "", 1);
        let batch = watch.poll().unwrap();
        let seen: Vec<_> = batch.events.iter().map(|e| (e.revision, e.deleted)).collect();
        assert_eq!(seen, [(2, false), (3, false), (4, true)]);
        assert_eq!(batch.events[1].previous.as_ref().unwrap().value()["data"]["n"], "1");
    }

    #[tokio::test]
    async fn a_write_against_an_old_revision_is_a_conflict_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s").join("state.db"), Limits::default()).unwrap();
        let a = store.put(key("a"), Expect::Absent, draft("a", 1)).await.unwrap();
        store.put(key("a"), Expect::Revision(a.revision), draft("a", 2)).await.unwrap();
        let late = store.put(key("a"), Expect::Revision(a.revision), draft("a", 3)).await;
        assert!(matches!(late, Err(WriteError::Conflict)));
        assert!(matches!(
            store.put(key("a"), Expect::Absent, draft("a", 3)).await,
            Err(WriteError::Exists)
        ));
        assert!(matches!(store.delete(key("zz"), 1).await, Err(WriteError::Missing)));
        assert_eq!(store.revision(), 2);
    }

    #[tokio::test]
    async fn history_is_bounded_and_whoever_is_behind_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s").join("state.db");
        let limits = Limits { events: 10, ..Limits::default() };
        let store = Store::open(&path, limits).unwrap();
        let mut at = store.put(key("a"), Expect::Absent, draft("a", 0)).await.unwrap().revision;
        for n in 1..=40 {
            at = store.put(key("a"), Expect::Revision(at), draft("a", n)).await.unwrap().revision;
        }
        let table: Arc<str> = Arc::from("core/configmaps");
        assert!(store.watch(&table, "", 1).poll().is_err());
        assert_eq!(store.watch(&table, "", at - 10).poll().unwrap().events.len(), 10);
        assert!(store.list_at(&table, "", None, 5).is_err());
        let old = store.list_at(&table, "default/", None, at - 3).unwrap();
        assert_eq!(old.objects[0].1.revision, at - 3);
        store.close().await;
        let rows: i64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM log", [], |r| r.get(0))
            .unwrap();
        assert!(rows <= 13, "{rows} rows are left");
        let store = Store::open(&path, limits).unwrap();
        assert_eq!(store.revision(), at);
        assert!(store.watch(&table, "", 1).poll().is_err());
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_and_reads_go_on_until_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let (writes, requests) = mpsc::channel(8);
        let db = open(&path).unwrap();
        let (state, dead) = load(&db, &Limits::default()).unwrap();
        let shared =
            Arc::new(Shared { state: RwLock::new(state), failing: AtomicBool::new(false) });
        // SQLite says of a file at its limit what it says of a disk without room.
        db.execute_batch("PRAGMA max_page_count = 12").unwrap();
        let limits = Limits::default();
        let writer = Writer { db, shared: Arc::clone(&shared), limits, dead, swept: 0 };
        let thread = std::thread::spawn(move || writer.run(requests));
        let store = Store { shared, writes };
        let large = |name: &str| {
            Draft::of(&json!({"metadata": {"name": name}, "data": {"x": "x".repeat(9000)}}))
        };
        let mut written = 0;
        let refused = loop {
            let name = written.to_string();
            match store.put(key(&name), Expect::Absent, large(&name)).await {
                Ok(_) => written += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(refused, WriteError::Full), "{refused}");
        assert!(written > 0 && store.failing());
        assert_eq!(store.list("core/configmaps", "", None).objects.len(), written);
        assert_eq!(store.revision(), written as u64);
        // A small one still has room: then it is well again.
        store.put(key("small"), Expect::Absent, draft("small", 1)).await.unwrap();
        assert!(!store.failing());
        store.close().await;
        thread.join().unwrap();
        let store = Store::open(&path, limits).unwrap();
        assert_eq!(store.list("core/configmaps", "", None).objects.len(), written + 1);
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused_at_the_start_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = Store::open(&path, Limits::default()).unwrap();
        for n in 0..60 {
            let name = n.to_string();
            let large =
                Draft::of(&json!({"metadata": {"name": name}, "data": {"x": "x".repeat(900)}}));
            store.put(key(&name), Expect::Absent, large).await.unwrap();
        }
        store.close().await;
        let whole = fs::read(&path).unwrap();
        let pages = whole.len() / 4096;
        assert!(pages > 10);
        // Every page in turn: nothing is served from a file that is not whole.
        for page in 0..pages {
            let mut broken = whole.clone();
            broken[page * 4096..(page + 1) * 4096].fill(0xa5);
            fs::write(&path, &broken).unwrap();
            let Err(e) = Store::open(&path, Limits::default()) else {
                panic!("page {page} is broken")
            };
            assert!(matches!(e, OpenError::Damaged { .. }), "page {page}: {e}");
            assert!(e.to_string().contains("restore it from a backup"), "{e}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(Store::open(&path, Limits::default()).unwrap().count("core/configmaps"), 60);
    }

    #[tokio::test]
    async fn a_file_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        Store::open(&path, Limits::default()).unwrap().close().await;
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(
            Store::open(&path, Limits::default()),
            Err(OpenError::TooNew { found: 99, .. })
        ));
    }

    /// Says when it is let go of whether its object could be read then.
    struct Look(Arc<Shared>, &'static str, std::sync::mpsc::Sender<bool>);

    impl Drop for Look {
        fn drop(&mut self) {
            let tables = &self.0.state.read().tables;
            let objects = tables.get("core/configmaps").map(|t| &t.objects);
            let there = objects.is_some_and(|o| o.contains_key(&*key(self.1).name));
            let _ = self.2.send(there);
        }
    }

    #[tokio::test]
    async fn what_a_write_holds_is_let_go_of_once_it_can_be_read_and_before_its_answer() {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::open(&dir.path().join("db").join("state.db"), Limits::default()).unwrap();
        let (tell, seen) = std::sync::mpsc::channel();
        let holding = |name: &'static str| {
            let look = Look(Arc::clone(&store.shared), name, tell.clone());
            draft(name, 1).holding(Some(Box::new(look)))
        };
        store.put(key("a"), Expect::Absent, holding("a")).await.unwrap();
        assert_eq!(seen.try_recv(), Ok(true));
        assert!(store.put(key("a"), Expect::Absent, holding("a")).await.is_err());
        assert_eq!(seen.try_recv(), Ok(true));
        // Whoever asked for it is gone, and it is written all the same.
        let left = store.put(key("b"), Expect::Absent, holding("b"));
        let _ = tokio::time::timeout(Duration::ZERO, left).await;
        store.put(key("c"), Expect::Absent, draft("c", 1)).await.unwrap();
        assert_eq!(seen.try_recv(), Ok(true));
    }
}

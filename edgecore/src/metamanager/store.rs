//! The edge's database: the SQL of objects, and the one thread that owns the connection.
//!
//! Owns: the SQLite file, its schema, the lock that keeps a second edgecore out.
//! Called by: `apply.rs`, `objects.rs`, the edgehub's handle; all through [`Store`].
//! Never: knows what a row means, or says "done" before the commit is on the disk.
//!
//! Work that waits when a transaction ends is carried out together in the next one, so a burst
//! costs one commit. The queue holds [`QUEUE`] pieces of work; when it is full, senders wait.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use service::CancellationToken;
use tokio::sync::{mpsc, oneshot};

/// Pieces of work that may wait for the writer.
const QUEUE: usize = 256;
/// Pieces of work that share a commit at most.
const BATCH: usize = 64;

/// The row with the database's own id. No object has a key of two parts.
pub(super) const STORE_ID: &str = "store/id";

/// Why the database could not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file or its folder cannot be used.
    #[error("cannot open the edge's database `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another process has it.
    #[error(
        "the edge's database `{path}` is in use by another process; stop the other edgecore first"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged or something else.
    #[error(
        "`{path}` is damaged or not a SQLite database; move it away and start again, \
         the cloud sends every object anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The disk is full.
    #[error(
        "no space is left for the edge's database `{path}`; free some, nothing is lost meanwhile"
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// SQLite refused for another reason.
    #[error("the edge's database `{path}` failed")]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The writer has ended.
    #[error("the edge's database is closed")]
    Closed,
}

/// A row of the table `meta_v2`, the MetaServer's view of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct V2Row {
    /// `/<group or core>/<version>/<resource>/<namespace or null>/<name>`
    pub(crate) key: String,
    /// `<group>/<version>, Resource=<resource>`
    pub(crate) group_version_resource: String,
    /// Empty if cluster-scoped.
    pub(crate) namespace: String,
    /// `metadata.name`
    pub(crate) name: String,
    /// `metadata.resourceVersion`
    pub(crate) resource_version: i64,
    /// The object with a line feed at its end.
    pub(crate) value: String,
}

/// A handle on the database; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    work: mpsc::Sender<Job>,
    ended: CancellationToken,
}

/// What the writer does with one piece of work once its transaction has ended.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Says whether it failed, so that what it wrote is undone.
type Work = Box<dyn FnOnce(Result<&Tx<'_>, StoreError>) -> (bool, Finish) + Send>;

struct Job {
    writes: bool,
    work: Work,
}

impl Store {
    /// Opens the database, makes what is missing in it, and starts its writer.
    ///
    /// A database of KubeEdge, of any release, is taken over as it is.
    ///
    /// # Errors
    /// When the file cannot be opened, belongs to another process or is not a database.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Database::open(path)?;
        let (work, jobs) = mpsc::channel(QUEUE);
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        std::thread::Builder::new()
            .name("metamanager".to_owned())
            .stack_size(512 << 10)
            .spawn(move || {
                // Told also when the thread panics, and after the file is closed.
                let _end = end;
                file.serve(jobs);
            })
            .map_err(|e| StoreError::Open { path: path.to_owned(), source: Arc::new(e) })?;
        Ok(Self { work, ended })
    }

    /// The id of this database, made when it is first asked for. It goes with the file, so that the
    /// cloud can tell a node that was set up anew from one that was away.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn id(&self) -> Result<String, StoreError> {
        self.write(|tx| match tx.get(STORE_ID)? {
            Some(id) if !id.is_empty() => Ok(id),
            _ => {
                let id = uuid::Uuid::new_v4().to_string();
                tx.put(STORE_ID, "store", &id)?;
                Ok(id)
            }
        })
        .await
    }

    /// Runs `f` in a transaction; returns after the commit. An error of `f` undoes what it wrote.
    ///
    /// # Errors
    /// When `f` fails, or the commit does.
    pub(crate) async fn write<R, F>(&self, f: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<R, StoreError> + Send + 'static,
    {
        self.run(true, f).await
    }

    /// Runs `f`, which only reads.
    ///
    /// # Errors
    /// When `f` fails.
    pub(crate) async fn read<R, F>(&self, f: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<R, StoreError> + Send + 'static,
    {
        self.run(false, f).await
    }

    /// Cancelled when the writer has ended and the file is closed. That happens after the last
    /// handle is gone, or with a bug.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    async fn run<R, F>(&self, writes: bool, f: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<R, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |tx| {
            let result = tx.and_then(f);
            let failed = result.is_err();
            let finish: Finish = Box::new(move |committed| {
                // The asker may have gone away; what was committed stays.
                let _ = answer.send(result.and_then(|r| committed.map(|()| r)));
            });
            (failed, finish)
        });
        self.work.send(Job { writes, work }).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// What work may do to the database.
pub(crate) struct Tx<'a> {
    conn: &'a Connection,
    path: &'a Path,
    /// Columns of releases up to 1.22 stand beside the newer ones, and are kept filled.
    old_columns: bool,
}

impl Tx<'_> {
    /// The value of a row of `meta`.
    pub(crate) fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.sql(|c| {
            c.prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([key], |row| row.get::<_, Option<String>>(0))
                .optional()
                .map(Option::flatten)
        })
    }

    /// Keys and values of all rows of `meta` of a type, by key.
    pub(crate) fn of_type(&self, kind: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.sql(|c| {
            c.prepare_cached(
                "SELECT key, value FROM meta WHERE type = ?1 AND value IS NOT NULL ORDER BY key",
            )?
            .query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
        })
    }

    /// Keys of all rows of `meta` of a type.
    pub(crate) fn keys_of_type(&self, kind: &str) -> Result<Vec<String>, StoreError> {
        self.sql(|c| {
            c.prepare_cached("SELECT key FROM meta WHERE type = ?1")?
                .query_map([kind], |row| row.get(0))?
                .collect()
        })
    }

    /// Writes a row of `meta`.
    pub(crate) fn put(&self, key: &str, kind: &str, value: &str) -> Result<(), StoreError> {
        self.sql(|c| {
            c.prepare_cached("INSERT OR REPLACE INTO meta (key, type, value) VALUES (?1, ?2, ?3)")?
                .execute([key, kind, value])
                .map(drop)
        })
    }

    /// Removes a row of `meta`; says whether there was one.
    pub(crate) fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.sql(|c| {
            c.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key]).map(|n| n > 0)
        })
    }

    /// Removes the rows of `meta` of a type whose key contains `part`.
    pub(crate) fn delete_containing(&self, kind: &str, part: &str) -> Result<usize, StoreError> {
        self.sql(|c| {
            c.prepare_cached("DELETE FROM meta WHERE type = ?1 AND instr(key, ?2) > 0")?
                .execute([kind, part])
        })
    }

    /// Writes a row of `meta_v2`.
    pub(crate) fn put_v2(&self, row: &V2Row) -> Result<(), StoreError> {
        let statement = if self.old_columns {
            "INSERT OR REPLACE INTO meta_v2 (key, group_version_resource, namespace, name, \
             resource_version, value, groupversionresource, resourceversion) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?2, ?5)"
        } else {
            "INSERT OR REPLACE INTO meta_v2 (key, group_version_resource, namespace, name, \
             resource_version, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        };
        self.sql(|c| {
            c.prepare_cached(statement)?
                .execute(params![
                    row.key,
                    row.group_version_resource,
                    row.namespace,
                    row.name,
                    row.resource_version,
                    row.value
                ])
                .map(drop)
        })
    }

    /// Removes the rows of `meta_v2` of one object, whatever its group and version, and only the
    /// incarnation with this uid.
    pub(crate) fn delete_v2(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<usize, StoreError> {
        self.sql(|c| {
            c.prepare_cached(
                "DELETE FROM meta_v2 WHERE namespace = ?1 AND name = ?2 \
                 AND instr(key, '/' || ?3 || '/') > 0 AND instr(value, ?4) > 0",
            )?
            .execute([namespace, name, resource, uid])
        })
    }

    /// A row of `meta_v2`.
    #[cfg(test)]
    pub(crate) fn get_v2(&self, key: &str) -> Result<Option<V2Row>, StoreError> {
        self.sql(|c| {
            c.prepare_cached(
                "SELECT key, group_version_resource, namespace, name, resource_version, value \
                 FROM meta_v2 WHERE key = ?1",
            )?
            .query_row([key], |row| {
                Ok(V2Row {
                    key: row.get(0)?,
                    group_version_resource: row.get(1)?,
                    namespace: row.get(2)?,
                    name: row.get(3)?,
                    resource_version: row.get(4)?,
                    value: row.get(5)?,
                })
            })
            .optional()
        })
    }

    /// Any statement. For modules with tables of their own, in a `store.rs` of theirs.
    pub(crate) fn sql<T>(
        &self,
        f: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        f(self.conn).map_err(|e| sql_error(self.path, e))
    }
}

fn sql_error(path: &Path, e: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path, source: Arc::new(e) }
        }
        _ => StoreError::Sql { path, source: Arc::new(e) },
    }
}

/// The open file, as the writer's thread has it.
struct Database {
    conn: Connection,
    path: PathBuf,
    old_columns: bool,
    /// It dies with the process.
    _lock: Lock,
}

impl Database {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let refuse = |e| StoreError::Open { path: path.to_owned(), source: Arc::new(e) };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(refuse)?;
        }
        let lock = lock(path)?;
        // Secrets are in it. SQLite gives its side files the mode of this one.
        let file =
            OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(refuse)?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(refuse)?;
        let conn = Connection::open(path).map_err(|e| sql_error(path, e))?;
        let old_columns = prepare(&conn).map_err(|e| sql_error(path, e))?;
        Ok(Self { conn, path: path.to_owned(), old_columns, _lock: lock })
    }

    /// The writer: all that waits in one transaction, then the answers.
    fn serve(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            self.carry_out(batch);
        }
    }

    fn carry_out(&self, batch: Vec<Job>) {
        let tx = Tx { conn: &self.conn, path: &self.path, old_columns: self.old_columns };
        let writes = batch.iter().any(|job| job.writes);
        if writes && let Err(e) = tx.sql(|c| c.execute_batch("BEGIN IMMEDIATE")) {
            tracing::error!(error = %e, "the edge's database takes no writes");
            for job in batch {
                let (_, finish) = (job.work)(Err(e.clone()));
                finish(Ok(()));
            }
            return;
        }
        let mut finishes = Vec::with_capacity(batch.len());
        for job in batch {
            let savepoint = job.writes && tx.sql(|c| c.execute_batch("SAVEPOINT job")).is_ok();
            let (failed, finish) = (job.work)(Ok(&tx));
            if savepoint {
                let end = if failed { "ROLLBACK TO job; RELEASE job" } else { "RELEASE job" };
                if let Err(e) = tx.sql(|c| c.execute_batch(end)) {
                    tracing::error!(error = %e, "a savepoint of the edge's database did not end");
                }
            }
            finishes.push(finish);
        }
        let committed = if writes { tx.sql(|c| c.execute_batch("COMMIT")) } else { Ok(()) };
        if let Err(e) = &committed {
            tracing::error!(error = %e, "the edge's database could not commit");
            // SQLite rolls back by itself after some errors and not after others.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        for finish in finishes {
            finish(committed.clone());
        }
    }
}

/// Keeps every other edgecore out until it is dropped.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being forked has the file open until it runs its
        // program.
        let _ = self.0.unlock();
    }
}

/// Takes the lock of a database.
pub(super) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let refuse = |e| StoreError::Open { path: path.to_owned(), source: Arc::new(e) };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(name)
        .map_err(refuse)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(e)) => Err(refuse(e)),
    }
}

/// Pragmas and tables; says whether `meta_v2` also has the columns of older releases.
fn prepare(conn: &Connection) -> Result<bool, rusqlite::Error> {
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA cache_size = -512;
         PRAGMA temp_store = MEMORY;",
    )?;
    conn.query_row("PRAGMA wal_autocheckpoint = 256", [], |_| Ok(()))?;
    conn.execute_batch(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS meta (key text, type text, value text, PRIMARY KEY (key));
         CREATE TABLE IF NOT EXISTS meta_v2 (key text, group_version_resource text, \
             namespace text, name text, resource_version integer, value text, PRIMARY KEY (key));",
    )?;
    let columns: Vec<String> = conn
        .prepare("SELECT name FROM pragma_table_info('meta_v2')")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let has = |name: &str| columns.iter().any(|c| c == name);
    let old = has("groupversionresource") && has("resourceversion");
    if !has("group_version_resource") {
        conn.execute_batch("ALTER TABLE meta_v2 ADD COLUMN group_version_resource text")?;
    }
    if !has("resource_version") {
        conn.execute_batch("ALTER TABLE meta_v2 ADD COLUMN resource_version integer")?;
    }
    if old {
        conn.execute_batch(
            "UPDATE meta_v2 SET group_version_resource = groupversionresource, \
             resource_version = resourceversion \
             WHERE group_version_resource IS NULL AND groupversionresource IS NOT NULL",
        )?;
    }
    conn.execute_batch("COMMIT")?;
    Ok(old)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

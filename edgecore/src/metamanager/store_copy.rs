//! The edge's database as a file beside it, and back.
//!
//! Owns: what a copy of the database is, and what an older one must not say.
//! Called by: `keadm backup edge` while edgecore runs, `keadm rollback edge` while it does not.
//! Never: changes the database that it copies.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::store::{STORE_ID, StoreError, lock};

/// Writes a whole copy to `to`, which is not there yet, also while edgecore writes.
///
/// # Errors
/// When there is no database, or no copy can be written.
pub fn copy_database(from: &Path, to: &Path) -> Result<(), StoreError> {
    let open = |path: &Path, e: std::io::Error| StoreError::Open {
        path: path.to_owned(),
        source: Arc::new(e),
    };
    std::fs::metadata(from).map_err(|e| open(from, e))?;
    // Secrets are in it. SQLite fills an empty file.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|e| open(to, e))?;
    let copy = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(from, flags)?;
        conn.busy_timeout(Duration::from_secs(10))?;
        conn.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map(drop)
    };
    copy().map_err(|e| StoreError::Sql { path: from.to_owned(), source: Arc::new(e) })
}

/// Puts a copy in the place of the database. The cloud is made to tell everything again, because it
/// takes the node to hold what came after the copy, too. No upgrade waits any more.
///
/// # Errors
/// When an edgecore has the database, or the copy is none.
pub fn restore_database(copy: &Path, place: &Path) -> Result<(), StoreError> {
    let open = |path: &Path, e: std::io::Error| StoreError::Open {
        path: path.to_owned(),
        source: Arc::new(e),
    };
    let _held = lock(place)?;
    let new = place.with_extension("restored");
    let _ = std::fs::remove_file(&new);
    std::fs::copy(copy, &new).map_err(|e| open(&new, e))?;
    let prepare = || -> rusqlite::Result<()> {
        let conn = Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        conn.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        conn.execute("DELETE FROM meta WHERE key = ?1", [STORE_ID])?;
        conn.execute(
            "DELETE FROM meta_v2 WHERE group_version_resource LIKE '%Resource=nodeupgradejobspecs'",
            [],
        )?;
        Ok(())
    };
    let prepared = prepare();
    if let Err(e) = prepared {
        let _ = std::fs::remove_file(&new);
        return Err(StoreError::Damaged { path: copy.to_owned(), source: Arc::new(e) });
    }
    for beside in ["-wal", "-shm"] {
        let mut name = place.as_os_str().to_owned();
        name.push(beside);
        let _ = std::fs::remove_file(name);
    }
    std::fs::rename(&new, place).map_err(|e| open(place, e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Store;
    use super::*;

    #[tokio::test]
    async fn a_copy_made_while_the_store_is_open_is_put_back_as_a_store_that_the_cloud_does_not_know()
     {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("edgecore.db"), dir.path().join("copy.db"));
        assert!(matches!(copy_database(&path, &copy), Err(StoreError::Open { .. })));
        let store = Store::open(&path).unwrap();
        let id = store.id().await.unwrap();
        store.write(|tx| tx.put("default/pod/old", "pod", "{}")).await.unwrap();
        copy_database(&path, &copy).unwrap();
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        store.write(|tx| tx.put("default/pod/new", "pod", "{}")).await.unwrap();
        assert!(matches!(restore_database(&copy, &path), Err(StoreError::InUse { .. })));
        let ended = store.ended();
        drop(store);
        ended.cancelled().await;
        restore_database(&copy, &path).unwrap();
        let store = Store::open(&path).unwrap();
        let pods = store.read(|tx| tx.keys_of_type("pod")).await.unwrap();
        assert_eq!(pods, ["default/pod/old"]);
        assert_ne!(store.id().await.unwrap(), id);
        std::fs::write(&copy, "no database, but long enough to be looked at").unwrap();
        let ended = store.ended();
        drop(store);
        ended.cancelled().await;
        assert!(matches!(restore_database(&copy, &path), Err(StoreError::Damaged { .. })));
        assert!(path.exists());
    }
}

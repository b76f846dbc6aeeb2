//! A look into the edge's database from outside, also while edgecore runs or after it has ended.
//!
//! Owns: nothing; the file is opened for reading only.
//! Called by: `keadm debug`.
//! Never: changes the file, makes one, or waits long for whoever writes to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::store::StoreError;

/// A row of `meta`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `default/pod/web`
    pub key: String,
    /// `pod`
    pub kind: String,
    /// It is the status that edged reported last of the pod with that key.
    pub is_pod_status: bool,
    /// The object as JSON.
    pub value: String,
}

/// All objects that an edge's database holds, by key.
///
/// # Errors
/// When there is no such file, or it is no such database.
pub fn stored(path: &Path) -> Result<Vec<Stored>, StoreError> {
    std::fs::metadata(path)
        .map_err(|e| StoreError::Open { path: path.to_owned(), source: Arc::new(e) })?;
    let read = || -> rusqlite::Result<Vec<Stored>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(Duration::from_secs(2))?;
        let mut all =
            conn.prepare("SELECT key, type, value FROM meta WHERE value IS NOT NULL ORDER BY key")?;
        let rows = all.query_map([], |row| {
            let kind: String = row.get(1)?;
            // Ours, and that of KubeEdge's older releases.
            let is_pod_status = matches!(kind.as_str(), "podpatch" | "podstatus");
            Ok(Stored { key: row.get(0)?, kind, is_pod_status, value: row.get(2)? })
        })?;
        rows.collect()
    };
    read().map_err(|e| StoreError::Sql { path: path.to_owned(), source: Arc::new(e) })
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[tokio::test]
    async fn what_is_stored_can_be_read_while_the_store_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgecore.db");
        assert!(matches!(stored(&path), Err(StoreError::Open { .. })));
        let store = Store::open(&path).unwrap();
        store.write(|tx| tx.put("default/pod/web", "pod", "{}")).await.unwrap();
        let all = stored(&path).unwrap();
        assert!(all.iter().any(|row| row.key == "default/pod/web" && row.kind == "pod"), "{all:?}");
    }
}

//! The table `sub_topics`: which topics rules of the cloud want, one row per topic.
//!
//! Owns: its SQL. Called by: `mod.rs`. Never: judges a topic.

use crate::metamanager::StoreError;
use crate::metamanager::store::Tx;

/// Makes the table if it is missing and reads it.
pub(super) fn load(tx: &Tx<'_>) -> Result<Vec<String>, StoreError> {
    tx.sql(|c| {
        c.execute_batch("CREATE TABLE IF NOT EXISTS sub_topics (topic text, PRIMARY KEY (topic))")?;
        c.prepare("SELECT topic FROM sub_topics WHERE topic IS NOT NULL ORDER BY topic")?
            .query_map([], |row| row.get(0))?
            .collect()
    })
}

/// Adds a topic.
pub(super) fn add(tx: &Tx<'_>, topic: &str) -> Result<(), StoreError> {
    tx.sql(|c| c.execute("INSERT OR IGNORE INTO sub_topics (topic) VALUES (?1)", [topic]).map(drop))
}

/// Removes a topic.
pub(super) fn remove(tx: &Tx<'_>, topic: &str) -> Result<(), StoreError> {
    tx.sql(|c| c.execute("DELETE FROM sub_topics WHERE topic = ?1", [topic]).map(drop))
}

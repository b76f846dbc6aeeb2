//! The upgrade that waits for somebody to agree, in the edge's database.
//!
//! Owns: its row of `meta_v2`, which has KubeEdge's key and form. At most one.
//! Called by: `mod.rs`.
//! Never: knows what an upgrade is.

use api::names::NodeName;
use api::raw::RawJson;
use api::wire::task::{JobKind, TaskPath};

use crate::metamanager::store::V2Row;
use crate::metamanager::{Store, StoreError};

const KEYS: &str = "/operations.kubeedge.io/v1alpha2/nodeupgradejobspecs/";
const RESOURCE: &str = "operations.kubeedge.io/v1alpha2, Resource=nodeupgradejobspecs";

/// Keeps it in the place of another one.
///
/// # Errors
/// When the database fails.
pub(super) async fn wait(store: &Store, path: &TaskPath, spec: RawJson) -> Result<(), StoreError> {
    let row = V2Row {
        key: format!("{KEYS}{}/nodes/{}", path.job, path.node),
        group_version_resource: RESOURCE.to_owned(),
        namespace: "null".to_owned(),
        name: path.job.to_string(),
        resource_version: 0,
        value: spec.get().to_owned(),
    };
    store
        .write(move |tx| {
            remove(tx)?;
            tx.put_v2(&row)
        })
        .await
}

/// The one that waits, with the text of its spec.
///
/// # Errors
/// When the database fails.
pub(super) async fn waiting(
    store: &Store,
    node: &NodeName,
) -> Result<Option<(TaskPath, String)>, StoreError> {
    let node = node.clone();
    store
        .read(move |tx| {
            let rows: Vec<(String, String)> = tx.sql(|c| {
                c.prepare_cached(
                    "SELECT name, value FROM meta_v2 WHERE group_version_resource = ?1",
                )?
                .query_map([RESOURCE], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
            })?;
            Ok(rows.into_iter().find_map(|(job, spec)| {
                let job = api::names::object_name(&job).ok()?;
                Some((TaskPath { kind: JobKind::NodeUpgrade, job, node: node.clone() }, spec))
            }))
        })
        .await
}

/// Nothing waits any more.
///
/// # Errors
/// When the database fails.
pub(super) async fn done(store: &Store) -> Result<(), StoreError> {
    store.write(remove).await
}

fn remove(tx: &crate::metamanager::store::Tx<'_>) -> Result<(), StoreError> {
    tx.sql(|c| {
        c.prepare_cached("DELETE FROM meta_v2 WHERE group_version_resource = ?1")?
            .execute([RESOURCE])
            .map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_upgrade_waits_under_the_key_that_the_original_uses() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("edgecore.db")).unwrap();
        let node: NodeName = "edge-1".parse().unwrap();
        let path = |job: &str| -> TaskPath {
            format!("operations.kubeedge.io/v1alpha2/nodeupgradejob/{job}/node/edge-1")
                .parse()
                .unwrap()
        };
        let spec: RawJson = RawJson::of(&serde_json::json!({"version": "v1.24.0"})).unwrap();
        assert_eq!(waiting(&store, &node).await.unwrap(), None);
        wait(&store, &path("up1"), spec.clone()).await.unwrap();
        wait(&store, &path("up2"), spec).await.unwrap();
        let found = waiting(&store, &node).await.unwrap().unwrap();
        assert_eq!(found, (path("up2"), r#"{"version":"v1.24.0"}"#.to_owned()));
        let key = "/operations.kubeedge.io/v1alpha2/nodeupgradejobspecs/up2/nodes/edge-1";
        let row = store.read(move |tx| tx.get_v2(key)).await.unwrap().unwrap();
        assert_eq!((row.namespace.as_str(), row.name.as_str()), ("null", "up2"));
        done(&store).await.unwrap();
        assert_eq!(waiting(&store, &node).await.unwrap(), None);
    }
}

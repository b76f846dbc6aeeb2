//! The store against a model of it: random writes, deletions and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::compact::Limits;
use super::{Draft, Expect, Key, Store, WriteError};

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u16),
    /// With a revision that may be wrong.
    Stale(u8, u64),
    Delete(u8),
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..6_u8, any::<u16>()).prop_map(|(k, v)| Op::Put(k, v)),
        1 => (0..6_u8, 0..40_u64).prop_map(|(k, r)| Op::Stale(k, r)),
        3 => (0..6_u8).prop_map(Op::Delete),
        1 => Just(Op::Reopen),
    ];
    proptest::collection::vec(op, 1..60)
}

/// What must be there: per key its value and revision; and the whole at each revision.
#[derive(Default)]
struct Model {
    revision: u64,
    objects: BTreeMap<String, (u16, u64)>,
    past: BTreeMap<u64, BTreeMap<String, (u16, u64)>>,
}

impl Model {
    fn note(&mut self) {
        self.past.insert(self.revision, self.objects.clone());
    }
}

fn seen(objects: &[(Box<str>, Arc<super::Stored>)]) -> BTreeMap<String, (u16, u64)> {
    let value =
        |o: &super::Stored| u16::try_from(o.value()["data"]["v"].as_u64().unwrap()).unwrap();
    objects.iter().map(|(k, o)| (k.to_string(), (value(o), o.revision))).collect()
}

async fn run(ops: Vec<Op>, limits: Limits) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db").join("state.db");
    let table: Arc<str> = "core/configmaps".into();
    let mut store = Store::open(&path, limits).unwrap();
    let mut model = Model::default();
    model.note();
    for op in ops {
        match op {
            Op::Put(k, v) => {
                let (name, key) = (format!("n/{k}"), Key::new(&table, "n", &k.to_string()));
                let expect =
                    model.objects.get(&name).map_or(Expect::Absent, |(_, r)| Expect::Revision(*r));
                let stored = store
                    .put(
                        key,
                        expect,
                        Draft::of(&json!({"metadata": {"name": k.to_string()}, "data": {"v": v}})),
                    )
                    .await
                    .unwrap();
                model.revision += 1;
                assert_eq!(stored.revision, model.revision);
                model.objects.insert(name, (v, model.revision));
            }
            Op::Stale(k, r) => {
                let known = model.objects.get(&format!("n/{k}")).map(|(_, r)| *r);
                if known == Some(r) {
                    continue;
                }
                let draft = Draft::of(&json!({"metadata": {}, "data": {"v": 0}}));
                let refused = store
                    .put(Key::new(&table, "n", &k.to_string()), Expect::Revision(r), draft)
                    .await
                    .unwrap_err();
                assert!(matches!(
                    (known, refused),
                    (Some(_), WriteError::Conflict) | (None, WriteError::Missing)
                ));
            }
            Op::Delete(k) => {
                let name = format!("n/{k}");
                let Some((_, r)) = model.objects.get(&name).copied() else { continue };
                let last = store.delete(Key::new(&table, "n", &k.to_string()), r).await.unwrap();
                model.revision += 1;
                assert_eq!(last.revision, model.revision);
                model.objects.remove(&name);
            }
            Op::Reopen => {
                store.close().await;
                store = Store::open(&path, limits).unwrap();
            }
        }
        model.note();
        assert_eq!(store.revision(), model.revision);
        assert_eq!(seen(&store.list(&table, "", None).objects), model.objects);
    }
    // The past that is still known is as it was; the rest is refused.
    for (revision, objects) in &model.past {
        match store.list_at(&table, "n/", None, *revision) {
            Ok(s) => assert_eq!(seen(&s.objects), *objects, "at {revision}"),
            Err(old) => assert!(*revision < old.floor),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_what_its_model_says(ops in ops(), small in any::<bool>()) {
        let limits = if small { Limits { events: 5, ..Limits::default() } } else { Limits::default() };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(ops, limits));
    }
}

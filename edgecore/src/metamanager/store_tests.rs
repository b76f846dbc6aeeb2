use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

fn v2(name: &str) -> V2Row {
    V2Row {
        key: format!("/core/v1/pods/default/{name}"),
        group_version_resource: "/v1, Resource=pods".into(),
        namespace: "default".into(),
        name: name.into(),
        resource_version: 7,
        value: "{\"metadata\":{\"uid\":\"u\"}}\n".into(),
    }
}

#[tokio::test]
async fn a_row_is_there_after_the_write_returns_and_gone_after_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("a/b/edgecore.db")).unwrap();
    store.write(|tx| tx.put("k", "pod", "v")).await.unwrap();
    assert_eq!(store.read(|tx| tx.get("k")).await.unwrap().as_deref(), Some("v"));
    let all = store.read(|tx| tx.of_type("pod")).await.unwrap();
    assert_eq!(all, [("k".to_owned(), "v".to_owned())]);
    assert!(store.write(|tx| tx.delete("k")).await.unwrap());
    assert_eq!(store.read(|tx| tx.get("k")).await.unwrap(), None);
}

#[tokio::test]
async fn work_that_fails_leaves_nothing_and_its_neighbours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("edgecore.db")).unwrap();
    let bad = store.write(|tx| {
        tx.put("bad", "pod", "v")?;
        Err::<(), _>(StoreError::Closed)
    });
    let good = store.write(|tx| tx.put("good", "pod", "v"));
    let (bad, good) = tokio::join!(bad, good);
    assert!(bad.is_err() && good.is_ok());
    let keys = store.read(|tx| tx.of_type("pod")).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].0, "good");
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_no_second_process_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edgecore.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::open(&path).unwrap();
    store.write(|tx| tx.put("k", "secret", "v")).await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
    let second = Store::open(&path).unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
}

#[test]
fn a_lock_that_is_given_back_is_free_though_a_forked_process_has_its_file_still_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edgecore.db");
    let held = lock(&path).unwrap();
    // What a fork does to it.
    let inherited = held.0.try_clone().unwrap();
    assert!(matches!(lock(&path), Err(StoreError::InUse { .. })));
    drop(held);
    lock(&path).unwrap();
    drop(inherited);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edgecore.db");
    std::fs::write(&path, "this is not a database, and long enough to be seen as such".repeat(20))
        .unwrap();
    let e = Store::open(&path).unwrap_err();
    assert!(matches!(e, StoreError::Damaged { .. }), "{e}");
    assert!(e.to_string().contains("move it away"), "{e}");
}

/// A database as a KubeEdge release left it, with its journal mode.
fn kubeedge_database(path: &Path, meta_v2: &str) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!(
        "CREATE TABLE meta (key text, type text, value text, PRIMARY KEY (key));
         CREATE TABLE sub_topics (topic text, PRIMARY KEY (topic));
         {meta_v2}
         INSERT INTO meta VALUES ('default/pod/web-0', 'pod', '{{\"metadata\":{{\"name\":\"web-0\"}}}}');
         INSERT INTO sub_topics VALUES ('a/b');"
    ))
    .unwrap();
}

const OLD: &str = "CREATE TABLE meta_v2 (key varchar NOT NULL PRIMARY KEY, \
     groupversionresource varchar, namespace varchar, name varchar, resourceversion integer, \
     value text);
     INSERT INTO meta_v2 VALUES ('/core/v1/pods/default/old', '/v1, Resource=pods', 'default', \
     'old', 41, '{\"metadata\":{\"uid\":\"u\"}}');";
const NEW: &str = "CREATE TABLE meta_v2 (key text, group_version_resource text, namespace text, \
     name text, resource_version integer, value text, PRIMARY KEY (key));
     INSERT INTO meta_v2 VALUES ('/core/v1/pods/default/old', '/v1, Resource=pods', 'default', \
     'old', 41, '{\"metadata\":{\"uid\":\"u\"}}');";

#[tokio::test]
async fn a_database_of_any_kubeedge_release_opens_as_it_is() {
    for schema in [OLD, NEW] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgecore.db");
        kubeedge_database(&path, schema);
        let store = Store::open(&path).unwrap();
        let pod = store.read(|tx| tx.get("default/pod/web-0")).await.unwrap();
        assert_eq!(pod.as_deref(), Some("{\"metadata\":{\"name\":\"web-0\"}}"));
        let old = store.read(|tx| tx.get_v2("/core/v1/pods/default/old")).await.unwrap().unwrap();
        assert_eq!(
            (old.group_version_resource.as_str(), old.resource_version),
            ("/v1, Resource=pods", 41)
        );
        store.write(|tx| tx.put_v2(&v2("new"))).await.unwrap();
        assert_eq!(store.read(|tx| tx.get_v2(&v2("new").key)).await.unwrap(), Some(v2("new")));
        let gone = store.write(|tx| tx.delete_v2("pods", "default", "old", "u")).await.unwrap();
        assert_eq!(gone, 1);
        close(store).await;
        // What another program finds in it afterwards.
        let conn = Connection::open(&path).unwrap();
        let topics: i64 =
            conn.query_row("SELECT count(*) FROM sub_topics", [], |r| r.get(0)).unwrap();
        assert_eq!(topics, 1, "tables of other modules stay");
        if schema == OLD {
            let seen_by_old: (String, i64) = conn
                .query_row(
                    "SELECT groupversionresource, resourceversion FROM meta_v2 WHERE name = 'new'",
                    [],
                    |r| Ok((r.get(0)?, r.get(1)?)),
                )
                .unwrap();
            assert_eq!(seen_by_old, ("/v1, Resource=pods".to_owned(), 7));
        }
    }
}

async fn close(store: Store) {
    let ended = store.ended();
    drop(store);
    ended.cancelled().await;
}

#[tokio::test]
async fn a_database_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("edgecore.db")).unwrap();
    let id = store.id().await.unwrap();
    assert_eq!(store.id().await.unwrap(), id);
    let other = Store::open(&dir.path().join("other.db")).unwrap();
    assert_ne!(other.id().await.unwrap(), id);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("edgecore.db")).unwrap();
    store.write(|tx| tx.put("before", "pod", "v")).await.unwrap();
    let pages = |n: u32| {
        move |tx: &Tx<'_>| {
            tx.sql(|c| c.query_row(&format!("PRAGMA max_page_count = {n}"), [], |_| Ok(())))
        }
    };
    store.read(pages(1)).await.unwrap();
    let big = "x".repeat(1 << 20);
    let refused = store.write(move |tx| tx.put("big", "pod", &big)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert_eq!(store.read(|tx| tx.get("before")).await.unwrap().as_deref(), Some("v"));
    assert_eq!(store.read(|tx| tx.get("big")).await.unwrap(), None);
    store.read(pages(100_000)).await.unwrap();
    store.write(|tx| tx.put("after", "pod", "v")).await.unwrap();
}

const FILE: &str = "EDGECORE_TEST_STORE";

/// Writes rows for ever and says each one that is committed.
#[tokio::test]
#[ignore = "run by `what_was_acknowledged_survives_kill_9`, in a process of its own"]
async fn writes_until_it_is_killed() {
    let Ok(path) = std::env::var(FILE) else { panic!("`{FILE}` names the file") };
    let store = Store::open(Path::new(&path)).unwrap();
    for n in 0_u64.. {
        let writes = (0..4).map(|part| {
            let key = format!("default/pod/{n}-{part}");
            store.write(move |tx| tx.put(&key, "pod", &"x".repeat(2000)))
        });
        for written in futures::future::join_all(writes).await {
            written.unwrap();
        }
        println!("committed {n}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (path, said) = (dir.path().join("edgecore.db"), dir.path().join("stderr"));
    for round in 1..=5_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "metamanager::store::tests::writes_until_it_is_killed"])
            .args(["--ignored", "--nocapture"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        let mut all = Vec::new();
        for line in lines.map_while(Result::ok) {
            if let Some((_, n)) = line.split_once("committed ") {
                last = n.trim().parse::<u64>().ok();
                if last >= Some(round as u64 * 7) {
                    break;
                }
            }
            all.push(line);
        }
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        let last = last.unwrap_or_else(|| {
            panic!("{ended}: {all:?} {}", std::fs::read_to_string(&said).unwrap())
        });
        let store = Store::open(&path).unwrap();
        for n in 0..=last {
            for part in 0..4 {
                let key = format!("default/pod/{n}-{part}");
                let row = store.read(move |tx| tx.get(&key)).await.unwrap();
                assert_eq!(row.map(|v| v.len()), Some(2000), "{n}-{part} in round {round}");
            }
        }
        let sound = store
            .read(|tx| {
                tx.sql(|c| c.query_row("PRAGMA integrity_check", [], |r| r.get::<_, String>(0)))
            })
            .await
            .unwrap();
        assert_eq!(sound, "ok");
        close(store).await;
    }
}

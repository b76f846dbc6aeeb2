//! What is left of the store when the machine stops at any moment.
//!
//! The files of a store are cut off, and overwritten, at every write that SQLite makes: what opens
//! afterwards must be the state after some commit, and no older one than the last that was acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::compact::Limits;
use super::{Draft, Expect, Key, Store};

const TABLE: &str = "core/configmaps";
const PAGE: usize = 4096;
/// Of the write-ahead log, as the file format of SQLite has it.
const HEADER: usize = 32;
const FRAME: usize = 24 + PAGE;

type Objects = BTreeMap<String, u64>;

fn key(name: &str) -> Key {
    Key::new(&TABLE.into(), "n", name)
}

fn draft(name: &str, size: usize) -> Draft {
    Draft::of(&json!({"metadata": {"name": name}, "data": {"x": "x".repeat(size)}}))
}

fn objects(store: &Store) -> Objects {
    let all = store.list(TABLE, "", None).objects;
    all.iter().map(|(k, o)| (k.to_string(), o.revision)).collect()
}

fn log_of(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

fn length(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |m| usize::try_from(m.len()).unwrap())
}

/// What was acknowledged: the state, and how long the log was then.
struct Acknowledged {
    log: usize,
    revision: u64,
    objects: Objects,
}

/// Small limits, so that rows are removed while others are written.
const LIMITS: Limits = Limits { bytes: 1 << 20, events: 6, age: std::time::Duration::MAX };

/// Makes random writes, one after the other.
async fn work(store: &Store, path: &Path, seed: u64) -> Vec<Acknowledged> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = vec![Acknowledged { log: 0, revision: 0, objects: Objects::new() }];
    for _ in 0..16 {
        let name = random.random_range(0..5_u8).to_string();
        let size = [10, 700, 9000][random.random_range(0..3_usize)];
        match store.get(&key(&name)).map(|o| o.revision) {
            Some(at) if random.random_bool(0.3) => store.delete(key(&name), at).await.map(drop),
            Some(at) => {
                store.put(key(&name), Expect::Revision(at), draft(&name, size)).await.map(drop)
            }
            None => store.put(key(&name), Expect::Absent, draft(&name, size)).await.map(drop),
        }
        .unwrap();
        let (revision, objects) = (store.revision(), objects(store));
        all.push(Acknowledged { log: length(&log_of(path)), revision, objects });
    }
    all
}

/// Opens what is left and compares. `reached` is what had been written of the log for sure.
async fn opens(dir: &Path, database: &[u8], log: &[u8], all: &[Acknowledged], what: &str) {
    let path = dir.join("state.db");
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(dir.join(name));
    }
    fs::write(&path, database).unwrap();
    fs::write(log_of(&path), log).unwrap();
    let store = Store::open(&path, LIMITS).unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = store.revision();
    let then =
        all.iter().find(|a| a.revision == found).unwrap_or_else(|| panic!("{what}: {found}"));
    assert_eq!(objects(&store), then.objects, "{what}: not what it was at {found}");
    let last = all.iter().rev().find(|a| a.log <= log.len()).unwrap();
    assert!(found >= last.revision, "{what}: {} was acknowledged, {found} is there", last.revision);
    store.put(key("after"), Expect::Absent, draft("after", 10)).await.unwrap();
    assert_eq!(store.revision(), found + 1);
    store.close().await;
}

#[tokio::test]
async fn wherever_the_log_breaks_off_the_store_is_as_it_was_after_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole").join("state.db");
    let store = Store::open(&path, LIMITS).unwrap();
    let all = work(&store, &path, 1).await;
    let (database, log) = (fs::read(&path).unwrap(), fs::read(log_of(&path)).unwrap());
    assert!(log.len() > HEADER + 30 * FRAME, "the log was folded into the file: nothing to cut");
    let left = dir.path().join("left");
    fs::create_dir(&left).unwrap();
    let frames = (log.len() - HEADER) / FRAME;
    for frame in 0..=frames {
        let at = HEADER + frame * FRAME;
        opens(&left, &database, &log[..at], &all, &format!("{frame} frames")).await;
        // A frame of which a part was written, the rest of it zeros, or what the sector had before.
        let part = at + 24 + 512 * (frame % 8);
        if part < log.len() {
            opens(&left, &database, &log[..part], &all, &format!("{frame} frames and a part"))
                .await;
            let mut torn = log[..part].to_vec();
            torn.resize(at + FRAME, if frame % 2 == 0 { 0 } else { 0xa5 });
            // What follows the last whole frame was not acknowledged, however long the file is.
            let whole: Vec<Acknowledged> = all
                .iter()
                .filter(|a| a.log <= at || a.log > torn.len())
                .map(|a| Acknowledged { objects: a.objects.clone(), ..*a })
                .collect();
            opens(&left, &database, &torn, &whole, &format!("{frame} frames and a torn one")).await;
        }
    }
    opens(&left, &database, &[], &all, "no log").await;
    store.close().await;
}

#[tokio::test]
async fn a_stop_while_the_log_is_folded_into_the_file_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole").join("state.db");
    let store = Store::open(&path, LIMITS).unwrap();
    let all = work(&store, &path, 2).await;
    let (before, log) = (fs::read(&path).unwrap(), fs::read(log_of(&path)).unwrap());
    store.close().await;
    let after = fs::read(&path).unwrap();
    let left = dir.path().join("left");
    fs::create_dir(&left).unwrap();
    let pages = after.len().div_ceil(PAGE);
    assert!(pages > 5);
    // Pages are written in any order; the file grows as they are.
    for (order, name) in [(false, "from the first"), (true, "from the last")] {
        for written in 0..=pages {
            let mut database = before.clone();
            database.resize(before.len().max(after.len()), 0);
            for page in
                (0..pages).filter(|p| if order { *p >= pages - written } else { *p < written })
            {
                let at = page * PAGE..((page + 1) * PAGE).min(after.len());
                database[at.clone()].copy_from_slice(&after[at]);
            }
            opens(&left, &database, &log, &all, &format!("{written} pages {name}")).await;
        }
    }
}

const FILE: &str = "CONTROL_PLANE_TEST_STORE";

/// Writes for ever, several at a time, and says each round that was acknowledged.
#[tokio::test]
#[ignore = "run by `what_was_acknowledged_survives_kill_9`, in a process of its own"]
async fn writes_until_it_is_killed() {
    let Ok(path) = std::env::var(FILE) else { panic!("`{FILE}` names the file") };
    let store = Store::open(Path::new(&path), LIMITS).unwrap();
    for n in store.count(TABLE) / 4.. {
        let writes = (0..4).map(|part| {
            let name = format!("{n}-{part}");
            let store = store.clone();
            async move { store.put(key(&name), Expect::Absent, draft(&name, 2000)).await }
        });
        for written in futures::future::join_all(writes).await {
            // Rows of a round that was cut off are there already.
            assert!(written.is_ok() || matches!(written, Err(super::WriteError::Exists)));
        }
        println!("acknowledged {n}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let path: Arc<Path> = dir.path().join("state.db").into();
    for round in 1..=4_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash::writes_until_it_is_killed"])
            .args(["--ignored", "--nocapture"])
            .env(FILE, &*path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said =
            |l: String| l.split_once("acknowledged ").and_then(|(_, n)| n.trim().parse().ok());
        let mut news = lines.map_while(Result::ok).filter_map(said);
        let last: usize = news.find(|n| *n >= round * 9).expect("the child writes");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path, LIMITS).unwrap();
        for n in 0..=last {
            for part in 0..4 {
                let found = store.get(&key(&format!("{n}-{part}")));
                let size = found.map(|o| o.value()["data"]["x"].as_str().unwrap().len());
                assert_eq!(size, Some(2000), "{n}-{part} in round {round}");
            }
        }
        store.close().await;
    }
}

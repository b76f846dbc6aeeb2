//! Bad input and trouble, as a user meets it: each error names the thing, its cause and the next
//! step, has its exit code, and leaves the machine able to try again.

use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::host::{CLOUD_ADDRESS, Host, Pair};
use tests::keadm::service_pid;
use tests::wait;

use super::join::{cloud, join, keadm, keadm_ok, kubectl};
use super::{PATIENCE, Up, pod};

/// Runs a program of the host's to its end.
#[track_caller]
fn on(host: &Host, program: &str, args: &[&str]) -> String {
    let out = host.command(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {}: {text}{said}", args.join(" "));
    text
}

/// Mounts a disk of this size, where only this host sees it.
#[track_caller]
fn small_disk(host: &Host, at: &str, size: &str) {
    on(host, "mkdir", &["-p", at]);
    on(host, "mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at]);
}

/// Fills a disk to its last byte.
fn fill(host: &Host, at: &str) {
    // It ends when there is no space left, which is its purpose.
    let file = format!("of={at}/filler");
    let out = host.command("dd").args(["if=/dev/zero", &file, "bs=4096"]).output().unwrap();
    assert!(!out.status.success(), "the disk cannot be filled");
}

/// An error as the guide wants it: a thing, a cause and a next step.
#[track_caller]
fn assert_helpful(said: &str, parts: &[&str]) {
    assert!(said.contains("error:") && said.contains("hint:"), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
}

#[test]
fn a_port_in_use_is_named_with_its_owner_and_when_it_is_free_all_goes_well() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let mut owner = host.command("busybox");
    let mut owner = owner.args(["nc", "-l", "-p", "10000"]).spawn().unwrap();
    wait::until("a program at port 10000", PATIENCE, || {
        let table = on(&host, "cat", &["/proc/net/tcp", "/proc/net/tcp6"]);
        if table.contains(":2710 ") { Ok(()) } else { Err(table) }
    });
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let (out, said) = keadm(&host, &["up", "--data-dir", data, "--cloud-only"]);
    assert_eq!(out.status.code(), Some(8), "{said}");
    assert_helpful(&said, &["port 10000", "in use by `busybox`"]);
    let (out, said) = keadm(&host, &["init", "--embedded", "--advertise-address", "127.0.0.1"]);
    assert_eq!(out.status.code(), Some(8), "{said}");
    assert_helpful(&said, &["port 10000", "in use by `busybox`"]);
    assert!(!host.path("/etc/kubeedge").exists(), "something was installed");
    owner.kill().unwrap();
    owner.wait().unwrap();
    Up::start(&host, folder.path(), &["--cloud-only"]);
}

#[test]
fn a_disk_with_a_tenth_left_is_enough_to_try_it_out() {
    const SIZE: u64 = 1200 << 20;
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    small_disk(&host, data, &SIZE.to_string());
    // The image of the sample is made from the program.
    let image = tests::keadm::binary().metadata().unwrap().len();
    let filler = format!("{data}/filler");
    on(&host, "fallocate", &["-l", &(SIZE - SIZE / 10 - image).to_string(), &filler]);
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    kubectl.run(&["wait", "--for=condition=DiskPressure=False", "node/edge-1", "--timeout=30s"]);
    let free = on(&host, "stat", &["-f", "-c", "%a %b", data]);
    let (free, all) = free.trim().split_once(' ').unwrap();
    let (free, all): (u64, u64) = (free.parse().unwrap(), all.parse().unwrap());
    assert!(free * 100 < all * 15, "{free} of {all} blocks are free: too many to show anything");
}

#[test]
fn all_errors_of_a_broken_configuration_are_told_together_with_their_places() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("broken.yaml");
    let path = file.to_str().unwrap();
    for (text, parts) in [
        (
            "modules:\n  edgeHub:\n    heartbeat: soon\n  edged:\n    hostnameOverride: 'Not A Name'\n",
            &["modules.edgeHub.heartbeat", "modules.edged.hostnameOverride"][..],
        ),
        ("modules: [\n", &["broken.yaml"]),
        ("just words\n", &["mapping"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let (out, said) = keadm(&host, &["edgecore", "--config", path]);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains("error:") && said.contains("broken.yaml"), "{said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in:\n{said}");
        }
    }
    std::fs::write(&file, "modules:\n  cloudHub:\n    nodeLimit: many\n").unwrap();
    let (out, said) = keadm(&host, &["cloudcore", "--config", path]);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("modules.cloudHub.nodeLimit"), "{said}");
}

#[test]
fn an_expired_token_and_a_missing_runtime_are_told_before_anything_is_changed() {
    let pair = Pair::new();
    let token = cloud(&pair);
    let server = format!("{CLOUD_ADDRESS}:10000");
    let short = keadm_ok(&pair.cloud, &["gettoken", "--ttl", "1s"]);
    let expired = short.lines().last().unwrap().trim().to_owned();
    wait::until("the token to expire", PATIENCE, || match expiry(&expired) {
        at if at < SystemTime::now() => Ok(()),
        at => Err(format!("{at:?}")),
    });
    let nowhere = "unix:///run/nowhere.sock";
    for (token, runtime, code, parts) in [
        (&expired, "embedded", 5, &["expired", "gettoken"][..]),
        (&token, nowhere, 4, &["/run/nowhere.sock"]),
    ] {
        let args = ["join", "--cloudcore-ipport", &server, "--token", token];
        let more = ["--edgenode-name", "edge-2", "--remote-runtime-endpoint", runtime];
        let begun = SystemTime::now();
        let (out, said) = keadm(&pair.edge, &[&args[..], &more].concat());
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert_helpful(&said, parts);
        assert!(begun.elapsed().unwrap() < Duration::from_secs(10), "it took too long to say so");
        assert!(service_pid(&pair.edge, "edgecore").is_err(), "edgecore was started");
    }
    join(&pair, &token);
}

fn expiry(token: &str) -> SystemTime {
    let claims = token.rsplit('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(claims["exp"].as_u64().unwrap() + 1)
}

#[test]
fn a_disk_too_small_to_start_on_is_named_and_a_larger_one_is_used() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let at = data.to_str().unwrap();
    small_disk(&host, at, "64k");
    let (out, said) = keadm(&host, &["up", "--data-dir", at, "--cloud-only"]);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_helpful(&said, &["0 MiB are free", at, "df -h"]);
    on(&host, "mount", &["-o", "remount,size=1g", at]);
    Up::start(&host, folder.path(), &["--cloud-only"]);
}

#[test]
fn a_disk_that_fills_up_refuses_writes_goes_on_reading_and_recovers_by_itself() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    small_disk(&host, data.to_str().unwrap(), "1g");
    let up = Up::start(&host, folder.path(), &["--cloud-only"]);
    // Less to fill.
    on(&host, "mount", &["-o", "remount,size=64m", data.to_str().unwrap()]);
    let kubectl = up.kubectl(&host);
    kubectl.run(&["create", "configmap", "before", "--from-literal=a=b"]);
    let large = folder.path().join("large");
    std::fs::write(&large, "x".repeat(400_000)).unwrap();
    let from = format!("--from-file={}", large.display());
    fill(&host, data.to_str().unwrap());
    let (_, refusal) = wait_for_refusal(&kubectl, &from);
    assert!(refusal.contains("space") || refusal.contains("full"), "{refusal}");
    kubectl.run(&["get", "configmap", "before"]);
    on(&host, "rm", &[data.join("filler").to_str().unwrap()]);
    wait::until("writes to be taken again", PATIENCE, || {
        let out = kubectl.output(&["create", "configmap", "after", "--from-literal=a=b"], "");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() || said.contains("AlreadyExists") { Ok(()) } else { Err(said) }
    });
    kubectl.run(&["get", "configmap", "before", "after"]);
}

/// Writes until the disk is full for the database, too; how many went well, and the refusal.
fn wait_for_refusal(kubectl: &tests::kubectl::Kubectl<'_>, from: &str) -> (usize, String) {
    for n in 0..200 {
        let name = format!("large-{n}");
        let out = kubectl.output(&["create", "configmap", &name, from], "");
        if !out.status.success() {
            return (n, String::from_utf8_lossy(&out.stderr).into_owned());
        }
    }
    panic!("80 MB fit on a full disk of 64 MB");
}

#[test]
fn an_edge_whose_disk_is_full_says_so_acknowledges_nothing_and_catches_up() {
    let pair = Pair::new();
    let token = cloud(&pair);
    small_disk(&pair.edge, "/var/small", "16m");
    let server = format!("{CLOUD_ADDRESS}:10000");
    let setting = "database.dataSource=/var/small/edgecore.db";
    let args = ["join", "--cloudcore-ipport", &server, "--token", &token, "--set", setting];
    keadm_ok(&pair.edge, &[&args[..], &["--edgenode-name", "edge-2"]].concat());
    let kubectl = kubectl(&pair);
    let image = edgecore::sample::IMAGE;
    kubectl.apply(&pod("web", image, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    let pid = service_pid(&pair.edge, "edgecore").unwrap();
    fill(&pair.edge, "/var/small");
    let log = pair.edge.path("/var/log/kubeedge/edgecore.log");
    // Each is larger than a page that may still be free in the database's own files.
    let note = "x".repeat(20_000);
    for n in 0..3 {
        let name = format!("late-{n}");
        let manifest = pod(&name, image, "").replace(
            r#""metadata":{"#,
            &format!(r#""metadata":{{"annotations":{{"note":"{note}"}},"#),
        );
        kubectl.apply(&manifest);
    }
    wait::until("edgecore to say that its disk is full", PATIENCE, || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let full = "no space is left for the edge's database `/var/small/edgecore.db`";
        if said.contains(full) { Ok(()) } else { Err("it says nothing of it".to_owned()) }
    });
    on(&pair.edge, "rm", &["/var/small/filler"]);
    for n in 0..3 {
        let name = format!("late-{n}");
        kubectl.until(&["pod", &name], "/status/phase", "Running", PATIENCE);
    }
    assert_eq!(service_pid(&pair.edge, "edgecore").unwrap(), pid, "edgecore was restarted");
}

#[test]
fn an_api_server_that_dies_and_returns_finds_cloudcore_and_the_edge_at_work() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    let image = edgecore::sample::IMAGE;
    kubectl.apply(&pod("web", image, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    let cloudcore = service_pid(&pair.cloud, "cloudcore").unwrap();
    let edgecore = service_pid(&pair.edge, "edgecore").unwrap();
    let server = service_pid(&pair.cloud, "control-plane").unwrap();
    kill(Pid::from_raw(server.cast_signed()), Signal::SIGKILL).unwrap();
    wait::until("the API server to be started again", PATIENCE, || {
        match service_pid(&pair.cloud, "control-plane")? {
            now if now == server => Err("the same pid".to_owned()),
            _ => Ok(()),
        }
    });
    wait::until("the API server to answer", PATIENCE, || kubectl.get(&["nodes"]).map(drop));
    kubectl.apply(&pod("after", image, ""));
    kubectl.until(&["pod", "after"], "/status/phase", "Running", PATIENCE);
    kubectl.run(&["delete", "pod", "web", "--timeout=40s"]);
    kubectl.run(&["wait", "--for=condition=Ready", "node/edge-2", "--timeout=60s"]);
    assert_eq!(service_pid(&pair.cloud, "cloudcore").unwrap(), cloudcore, "it was restarted");
    assert_eq!(service_pid(&pair.edge, "edgecore").unwrap(), edgecore, "it was restarted");
}

#[test]
fn an_edge_whose_database_is_lost_is_sent_everything_again() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    kubectl.apply(&pod("web", edgecore::sample::IMAGE, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    let stored = |what: &str| {
        let file = pair.edge.disk("/var/lib/kubeedge/edgecore.db");
        wait::until(what, PATIENCE, || {
            let db = rusqlite::Connection::open(&file).map_err(|e| e.to_string())?;
            let sql = "SELECT count(*) FROM meta WHERE key = 'default/pod/web'";
            let rows: i64 = db.query_row(sql, [], |r| r.get(0)).map_err(|e| e.to_string())?;
            if rows == 1 { Ok(()) } else { Err("it is not there".to_owned()) }
        });
    };
    stored("the pod on the edge's disk");
    let node = || kubectl.get(&["node", "edge-2"]).unwrap();
    let id = |node: &serde_json::Value| {
        node["metadata"]["annotations"]["edge.kubeedge.io/store-id"].as_str().map(str::to_owned)
    };
    wait::until("the id of the database on the node", PATIENCE, || match id(&node()) {
        Some(_) => Ok(()),
        None => Err(node().to_string()),
    });
    let before = id(&node());
    for file in ["edgecore.db", "edgecore.db-wal", "edgecore.db-shm"] {
        let _ = std::fs::remove_file(pair.edge.disk("/var/lib/kubeedge").join(file));
    }
    let pid = service_pid(&pair.edge, "edgecore").unwrap();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    stored("the pod on the edge's new disk");
    wait::until("the new id on the node", PATIENCE, || match id(&node()) {
        now if now != before => Ok(()),
        now => Err(format!("{now:?}")),
    });
    kubectl.run(&["wait", "--for=condition=Ready", "node/edge-2", "--timeout=60s"]);
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
}

#[test]
fn an_address_that_goes_away_and_comes_back_is_dialled_again() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    let address = format!("{CLOUD_ADDRESS}/24");
    on(&pair.cloud, "ip", &["addr", "del", &address, "dev", "eth0"]);
    let on_edge = pod("late", edgecore::sample::IMAGE, "")
        .replace(r#""spec":{"#, r#""spec":{"nodeName":"edge-2","#);
    on(&pair.cloud, "ip", &["addr", "add", &address, "dev", "eth0"]);
    let _ = pair.cloud.command("ip").args(["route", "add", "default", "dev", "eth0"]).output();
    kubectl.apply(&on_edge);
    kubectl.until(&["pod", "late"], "/status/phase", "Running", PATIENCE);
    assert!(Path::new(&pair.edge.path("/etc/kubeedge")).exists());
}

//! One function per promise.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use edgecore::edged::runtime::{
    ContainerRuntime, ContainerSecurity, ContainerSpec, ContainerState, Mount, Namespaces,
    Resources, RuntimeError, RuntimeEvent, StreamSpec, TerminalSize,
};
use edgecore::sample;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::machine::{open, traces};
use super::pod::{Pod, memory_of_shims, procs_of, sandbox, spec};

type Case = (&'static str, fn(PathBuf) -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        const CASES: &[Case] = &[$((stringify!($name), |root| Box::pin($name(root)))),*];
    };
}

cases![
    the_sample_runs_and_is_fast,
    output_exit_code_and_log_are_kept,
    a_command_in_a_container_has_its_own_output_and_code,
    streams_of_a_command_are_connected,
    a_terminal_is_given_and_sized,
    standard_input_reaches_the_container,
    a_stop_asks_first_and_then_forces,
    too_much_memory_is_called_by_its_name,
    limits_are_set_and_changed,
    a_pods_containers_share_what_they_should,
    users_mounts_and_rights_are_as_asked,
    a_container_that_cannot_start_says_why,
    containers_outlive_a_killed_edgecore,
    a_killed_shim_takes_its_container_along,
    a_log_goes_on_in_a_new_file,
    damaged_state_ends_nothing_that_is_not_ours,
    an_orphan_does_not_keep_a_container_alive,
    an_image_is_copied_where_overlayfs_is_refused,
    the_hosts_network_is_shared_on_request,
    a_file_is_copied_out_of_an_image,
    what_is_begun_when_nobody_waits_any_more_is_removed_with_the_rest,
];

pub(super) fn run_all(argv: &[std::ffi::OsString]) -> i32 {
    let wanted: Vec<_> =
        argv[1..].iter().filter_map(|a| a.to_str()).filter(|a| !a.starts_with('-')).collect();
    if argv.iter().any(|a| a == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: {} tests of the embedded runtime need root", CASES.len());
        return 0;
    }
    let mut failed = 0;
    for (name, case) in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w)) {
            continue;
        }
        let dir = tempfile::Builder::new().prefix("embedded").tempdir().unwrap();
        let root = dir.path().to_owned();
        let ran = std::panic::catch_unwind(|| {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                let limit = Duration::from_secs(120);
                tokio::time::timeout(limit, case(root)).await.expect("the test took too long");
            });
        });
        let left = traces(dir.path());
        let ok = ran.is_ok() && left.is_empty();
        eprintln!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        left.iter().for_each(|l| eprintln!("    left behind: {l}"));
        if !ok {
            failed += 1;
            let kept = dir.keep();
            eprintln!("    state kept in {}", kept.display());
            clean_up(&kept);
        }
    }
    i32::from(failed > 0)
}

/// After a failure, so that the next test starts on a clean machine.
fn clean_up(root: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { open(root).await.remove_all().await.unwrap() });
}

async fn the_sample_runs_and_is_fast(root: PathBuf) {
    let before = SystemTime::now();
    let runtime = open(&root).await;
    let opened = before.elapsed().unwrap();
    let before = SystemTime::now();
    let sandbox = sandbox(&root);
    let id = runtime.run_sandbox(&sandbox).await.unwrap();
    let sandboxed = before.elapsed().unwrap();
    let pod = Pod { runtime, root: root.clone(), sandbox, id };
    let sample = ContainerSpec { command: vec![], ..spec("sample", &[]) };
    let id = pod.run(&sample).await;
    let ran = before.elapsed().unwrap();
    let status = pod.runtime.container_status(&id).await.unwrap();
    assert_eq!(status.state, ContainerState::Running);
    while !pod.log("sample").contains("stdout F") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(pod.log("sample").contains("hello from web, beat 0"));
    eprintln!(
        "    open with sample image {} ms, sandbox {} ms, with container {} ms",
        opened.as_millis(),
        sandboxed.as_millis(),
        ran.as_millis()
    );
    memory_of_shims(&root);
    let again = SystemTime::now();
    drop(open(&root).await);
    eprintln!("    open again {} ms", again.elapsed().unwrap().as_millis());
    pod.runtime.stop_container(&id, Duration::from_secs(10)).await.unwrap();
    let status = pod.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 0));
    assert_eq!(status.reason, "Completed");
    assert!(pod.log("sample").contains("goodbye"));
    pod.finish().await;
}

async fn output_exit_code_and_log_are_kept(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let id = pod.run(&spec("quick", &["part-exit", "3"])).await;
    let status = pod.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at);
    let mut lines = pod.lines("quick");
    lines.sort();
    assert_eq!(lines, ["stderr F to stderr", "stdout F to stdout"]);
    let listing = pod.runtime.list(Some("u-1")).await.unwrap();
    assert_eq!(listing.containers[0].labels["c"], "quick");
    assert_eq!(listing.sandboxes[0].annotations["a"], "w");
    assert!(pod.runtime.list(Some("other")).await.unwrap().containers.is_empty());
    assert_eq!(status.image, sample::IMAGE);
    pod.runtime.remove_container(&id).await.unwrap();
    pod.runtime.remove_container(&id).await.unwrap();
    assert!(pod.runtime.container_status(&id).await.unwrap_err().is_not_found());
    pod.finish().await;
}

async fn a_command_in_a_container_has_its_own_output_and_code(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let id = pod.run(&spec("main", &["part-sleep"])).await;
    let (out, err, code) = pod.exec(&id, &["part-exit", "5"]).await;
    assert_eq!((out.as_str(), err.as_str(), code), ("to stdout\n", "to stderr\n", 5));
    let none = pod.runtime.exec_sync(&id, &["/nope".into()], Duration::from_secs(5)).await;
    assert!(matches!(none, Err(RuntimeError::Refused(why)) if why.contains("/nope")));
    let sleep = ["/bin/keadm".to_owned(), "part-sleep".to_owned()];
    let slow = pod.runtime.exec_sync(&id, &sleep, Duration::from_millis(300)).await;
    assert!(matches!(slow, Err(RuntimeError::TimedOut { .. })));
    // The one that took too long has been ended: only the container itself is left.
    let procs = || procs_of(&root);
    while procs() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pod.lines("main"), Vec::<String>::new(), "commands do not print into the log");
    pod.finish().await;
}

async fn streams_of_a_command_are_connected(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let id = pod.run(&spec("main", &["part-sleep"])).await;
    let spec = StreamSpec {
        command: vec!["/bin/keadm".into(), "part-echo-lines".into()],
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut streams = pod.runtime.exec(&id, &spec).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "echo one\necho two\n");
    assert_eq!(streams.exit.await, Ok(7));
    pod.finish().await;
}

async fn a_terminal_is_given_and_sized(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let main = ContainerSpec { tty: true, stdin: true, ..spec("main", &["part-echo-lines"]) };
    let id = pod.run(&main).await;
    let command = vec!["/bin/keadm".into(), "part-echo-lines".into()];
    let spec = StreamSpec { command, stdin: true, stdout: true, stderr: false, tty: true };
    let mut streams = pod.runtime.exec(&id, &spec).await.unwrap();
    streams.resize.send(TerminalSize { width: 90, height: 30 }).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let mut stdout = streams.stdout.take().unwrap();
    // A terminal echoes, and ends lines with a return; ^D is its end of file.
    stdin.write_all(b"hi\n\x04").await.unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("hi\r\n") && text.contains("echo hi\r\n"), "{text:?}");
    assert_eq!(streams.exit.await, Ok(7));
    let attach = StreamSpec { command: vec![], ..spec };
    let mut streams = pod.runtime.attach(&id, &attach).await.unwrap();
    streams.resize.send(TerminalSize { width: 70, height: 20 }).await.unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"there\n").await.unwrap();
    let mut seen = String::new();
    let mut bytes = [0; 256];
    while !seen.contains("echo there") {
        let n = streams.stdout.as_mut().unwrap().read(&mut bytes).await.unwrap();
        assert!(n > 0);
        seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    assert!(pod.log("main").contains("stdout F echo there"));
    drop(streams);
    pod.finish().await;
}

async fn standard_input_reaches_the_container(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let main =
        ContainerSpec { stdin: true, stdin_once: true, ..spec("main", &["part-echo-lines"]) };
    let id = pod.run(&main).await;
    let attach =
        StreamSpec { command: vec![], stdin: true, stdout: true, stderr: true, tty: false };
    let mut streams = pod.runtime.attach(&id, &attach).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let long = "x".repeat(200_000);
    stdin.write_all(format!("{long}\nlast\n").as_bytes()).await.unwrap();
    drop(stdin);
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [200_005, 9]);
    assert_eq!(streams.exit.await, Ok(7));
    assert_eq!(pod.ended(&id).await.exit_code, 7);
    let full: usize =
        pod.lines("main").iter().map(|l| l.splitn(3, ' ').nth(2).unwrap().len()).sum();
    assert_eq!(full, 200_005 + 9, "the log has every byte");
    pod.finish().await;
}

async fn a_stop_asks_first_and_then_forces(root: PathBuf) {
    let pod = Pod::new(&root).await;
    // The first process of a PID namespace does not hear a SIGTERM that it did not ask for.
    let id = pod.run(&spec("deaf", &["part-sleep"])).await;
    let before = SystemTime::now();
    pod.runtime.stop_container(&id, Duration::from_millis(700)).await.unwrap();
    let took = before.elapsed().unwrap();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
    let status = pod.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
    pod.runtime.stop_container(&id, Duration::from_secs(9)).await.unwrap();
    let created = pod.create(&spec("never", &["part-sleep"])).await.unwrap();
    pod.runtime.stop_container(&created, Duration::from_secs(9)).await.unwrap();
    pod.runtime.stop_container(&"0".repeat(64), Duration::from_secs(9)).await.unwrap();
    pod.runtime.stop_sandbox(&pod.id).await.unwrap();
    assert!(!pod.runtime.sandbox_status(&pod.id).await.unwrap().ready);
    let late = pod.create(&spec("late", &["part-sleep"])).await;
    assert!(matches!(late, Err(RuntimeError::Refused(why)) if why.contains("not ready")));
    pod.finish().await;
}

async fn too_much_memory_is_called_by_its_name(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let resources = Resources { memory_limit: 32 << 20, ..Resources::default() };
    let id = pod.run(&ContainerSpec { resources, ..spec("greedy", &["part-eat-memory"]) }).await;
    let status = pod.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    pod.finish().await;
}

async fn limits_are_set_and_changed(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let mut resources = Resources {
        cpu_shares: 512,
        cpu_period: 100_000,
        cpu_quota: 50_000,
        memory_limit: 64 << 20,
        oom_score_adj: 999,
    };
    let main = ContainerSpec { resources: resources.clone(), ..spec("main", &["part-sleep"]) };
    let id = pod.run(&main).await;
    assert_eq!(pod.look(&id, "/proc/1/oom_score_adj").await, "/proc/1/oom_score_adj=999");
    if Path::new("/sys/fs/cgroup/memory").exists() {
        let path = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(pod.look(&id, path).await, format!("{path}={}", 64 << 20));
        let path = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us";
        assert_eq!(pod.look(&id, path).await, format!("{path}=50000"));
    }
    resources.memory_limit = 96 << 20;
    pod.runtime.update_resources(&id, &resources).await.unwrap();
    let status = pod.runtime.container_status(&id).await.unwrap();
    assert_eq!(status.resources, Some(resources));
    let stats = pod.runtime.stats(None).await.unwrap();
    assert_eq!(stats.len(), 1);
    assert!(stats[0].cpu_nanoseconds > 0 && stats[0].memory_usage > 0, "{stats:?}");
    assert!(pod.runtime.stats(Some("other")).await.unwrap().is_empty());
    pod.finish().await;
}

async fn a_pods_containers_share_what_they_should(root: PathBuf) {
    let mut sandbox = sandbox(&root);
    sandbox.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "7".into());
    sandbox.namespaces = Namespaces { shared_pid: true, ..Namespaces::default() };
    let pod = Pod::with(&root, sandbox).await;
    let one = pod.run(&spec("one", &["part-sleep"])).await;
    let two = pod.run(&spec("two", &["part-sleep"])).await;
    pod.exec(&one, &["part-write", "/dev/shm/shared", "memory"]).await;
    assert_eq!(pod.look(&two, "/dev/shm/shared").await, "/dev/shm/shared=memory");
    pod.exec(&one, &["part-write", "/tmp/own", "root"]).await;
    assert!(pod.look(&two, "/tmp/own").await.contains("not found"));
    assert_eq!(pod.look(&two, "/etc/hostname").await, "/etc/hostname=web");
    assert_eq!(pod.look(&two, "/proc/1/comm").await, "/proc/1/comm=keadm-pause");
    let sysctl = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(pod.look(&one, sysctl).await, format!("{sysctl}=7"));
    let devices = pod.look(&one, "/proc/net/dev").await;
    let interfaces = devices.lines().skip(2).count();
    assert!(devices.contains("lo:") && interfaces == 1, "{devices}");
    let up = pod.look(&one, "/sys/class/net/lo/operstate").await;
    assert!(up.ends_with("unknown"), "a loopback that is up says so: {up}");
    pod.finish().await;
}

async fn users_mounts_and_rights_are_as_asked(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let volume = root.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "from the host").unwrap();
    let mount = |place: &str, read_only| Mount {
        container_path: place.into(),
        host_path: volume.clone(),
        read_only,
        ..Mount::default()
    };
    let security = ContainerSecurity {
        run_as_user: Some(65534),
        supplemental_groups: vec![2000],
        read_only_rootfs: true,
        no_new_privs: true,
        drop_capabilities: vec!["ALL".into()],
        masked_paths: vec!["/proc/keys".into(), "/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        ..ContainerSecurity::default()
    };
    let main = ContainerSpec {
        mounts: vec![mount("/ro", true), mount("/deep/rw", false)],
        env: vec![("GREETING".into(), "hi there".into())],
        working_dir: "/made/for/me".into(),
        security,
        ..spec("main", &["part-sleep"])
    };
    let id = pod.run(&main).await;
    let status = pod.look(&id, "/proc/1/status").await;
    for line in ["Uid:\t65534\t65534", "Gid:\t65534", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    assert!(status.contains("Groups:\t2000 65534"), "{status}");
    let unblocked = "SigBlk:\t0000000000000000";
    assert!(status.contains(unblocked), "a program finds its signals untouched: {status}");
    assert_eq!(pod.look(&id, "/ro/file").await, "/ro/file=from the host");
    assert_eq!(pod.exec(&id, &["part-write", "/ro/file", "x"]).await.2, 1);
    assert_eq!(pod.exec(&id, &["part-write", "/new", "x"]).await.2, 1);
    let env = pod.exec(&id, &["part-env"]).await.0;
    assert!(env.contains("GREETING=hi there\n") && env.contains("HOSTNAME=web\n"), "{env}");
    assert!(env.contains("cwd=/made/for/me\n"), "{env}");
    assert_eq!(pod.exec(&id, &["part-devices"]).await.2, 0);
    let privileged = ContainerSecurity { privileged: true, ..ContainerSecurity::default() };
    let id =
        pod.run(&ContainerSpec { security: privileged, ..spec("root", &["part-sleep"]) }).await;
    assert_eq!(pod.exec(&id, &["part-write", "/deep", "x"]).await.2, 0);
    let status = pod.look(&id, "/proc/1/status").await;
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own.lines().find(|l| l.starts_with("CapBnd")).unwrap();
    assert!(status.contains(&bounding.replace("CapBnd", "CapEff")), "{status}");
    pod.finish().await;
}

async fn a_container_that_cannot_start_says_why(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let missing = ContainerSpec { command: vec!["/no/such".into()], ..spec("main", &[]) };
    let id = pod.create(&missing).await.unwrap();
    let why = pod.runtime.start_container(&id).await.unwrap_err().to_string();
    assert!(why.contains("/no/such"), "{why}");
    let status = pod.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 128));
    assert_eq!(status.reason, "StartError");
    assert!(status.message.contains("/no/such"));
    assert!(pod.runtime.start_container(&id).await.is_err(), "it is started only once");
    let nobody = ContainerSecurity { run_as_username: "nobody-here".into(), ..Default::default() };
    let id = pod.create(&ContainerSpec { security: nobody, ..spec("who", &["x"]) }).await.unwrap();
    let why = pod.runtime.start_container(&id).await.unwrap_err().to_string();
    assert!(why.contains("unable to find user nobody-here"), "{why}");
    let image = ContainerSpec { image: "no/image".into(), ..spec("x", &["x"]) };
    assert!(pod.create(&image).await.unwrap_err().is_not_found());
    assert!(pod.runtime.start_container("../../etc").await.unwrap_err().is_not_found());
    pod.finish().await;
}

/// Runs in a process of its own, which the test kills.
pub(super) fn be_an_edgecore(root: &str) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pod = Pod::new(Path::new(root)).await;
        let stays = pod.run(&spec("stays", &["part-sleep"])).await;
        let ends = ContainerSpec { stdin: true, ..spec("ends", &["part-echo-lines"]) };
        let ends = pod.run(&ends).await;
        let created = pod.create(&spec("created", &["part-exit", "0"])).await.unwrap();
        println!("{} {stays} {ends} {created}", pod.id);
        std::future::pending::<()>().await;
    });
    0
}

async fn containers_outlive_a_killed_edgecore(root: PathBuf) {
    let mut child = tokio::process::Command::new("/proc/self/exe")
        .args(["part-edgecore", root.to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = Vec::new();
    let mut out = child.stdout.take().unwrap();
    while !line.ends_with(b"\n") {
        line.push(out.read_u8().await.unwrap());
    }
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    let line = String::from_utf8(line).unwrap();
    let [sandbox_id, stays, ends, created] =
        line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    // While nobody is there, one ends.
    let init = std::fs::read_to_string(root.join("state/containers").join(ends).join("init.json"));
    let init: serde_json::Value = serde_json::from_str(&init.unwrap()).unwrap();
    let pid = i32::try_from(init["process"]["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();

    let runtime = open(&root).await;
    let pod = Pod { runtime, root: root.clone(), sandbox: sandbox(&root), id: sandbox_id.into() };
    assert!(pod.runtime.sandbox_status(sandbox_id).await.unwrap().ready);
    let state = |id: String| {
        let runtime = &pod.runtime;
        async move { runtime.container_status(&id).await.unwrap().state }
    };
    assert_eq!(state(stays.into()).await, ContainerState::Running);
    assert_eq!(state(created.into()).await, ContainerState::Created);
    assert_eq!(pod.ended(ends).await.exit_code, 137);
    assert_eq!(pod.exec(stays, &["part-exit", "4"]).await.2, 4);
    pod.runtime.start_container(created).await.unwrap();
    assert_eq!(pod.ended(created).await.exit_code, 0);
    pod.runtime.stop_container(stays, Duration::ZERO).await.unwrap();
    pod.finish().await;
}

async fn a_killed_shim_takes_its_container_along(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let id = pod.run(&spec("main", &["part-sleep"])).await;
    let mut events = pod.runtime.events().await.unwrap().unwrap();
    let shim = std::fs::read_to_string(root.join("state/containers").join(&id).join("shim.json"));
    let shim: serde_json::Value = serde_json::from_str(&shim.unwrap()).unwrap();
    let pid = i32::try_from(shim["shim"]["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    let event = events.recv().await.unwrap();
    assert_eq!(event, RuntimeEvent::Changed { id: id.clone(), pod_uid: Some("u-1".into()) });
    let status = pod.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    while procs_of(&root) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pod.finish().await;
}

async fn a_log_goes_on_in_a_new_file(root: PathBuf) {
    let pod = Pod::new(&root).await;
    let main = ContainerSpec { stdin: true, ..spec("main", &["part-echo-lines"]) };
    let id = pod.run(&main).await;
    let attach =
        StreamSpec { command: vec![], stdin: true, stdout: true, stderr: false, tty: false };
    let mut streams = pod.runtime.attach(&id, &attach).await.unwrap();
    let mut say = async |text: &str| {
        streams.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
        let mut echo = vec![0; text.len() + 5];
        streams.stdout.as_mut().unwrap().read_exact(&mut echo).await.unwrap();
    };
    say("one\n").await;
    let log = root.join("logs/main/0.log");
    std::fs::rename(&log, log.with_extension("old")).unwrap();
    pod.runtime.reopen_log(&id).await.unwrap();
    say("two\n").await;
    assert!(pod.log("main").contains("echo two") && !pod.log("main").contains("echo one"));
    drop(streams);
    pod.finish().await;
}

async fn damaged_state_ends_nothing_that_is_not_ours(root: PathBuf) {
    let mut bystander =
        tokio::process::Command::new("/proc/self/exe").arg("part-sleep").spawn().unwrap();
    let pod = Pod::new(&root).await;
    let mut folders = Vec::new();
    let shim = serde_json::json!({ "pid": bystander.id(), "start": 1, "boot": "another" });
    let shim = serde_json::json!({ "shim": shim, "pause": null }).to_string();
    for hostile in ["/", "", "/..", "not a record"] {
        let id = pod.create(&spec("main", &["part-sleep"])).await.unwrap();
        let folder = root.join("state/containers").join(&id);
        let path = folder.join("record.json");
        let mut record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["cgroup"] = hostile.into();
        let text = if hostile.contains(' ') { hostile.into() } else { record.to_string() };
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.join("shim.json"), &shim).unwrap();
        folders.push(folder);
    }
    // With a cgroup of its own, a record is believed: its container has ended, nobody saw how.
    let id = pod.create(&spec("own", &["part-sleep"])).await.unwrap();
    std::fs::write(root.join("state/containers").join(&id).join("shim.json"), &shim).unwrap();
    let runtime = open(&root).await;
    let listing = runtime.list(None).await.unwrap();
    assert_eq!(listing.containers.iter().map(|c| &c.id).collect::<Vec<_>>(), [&id]);
    assert_eq!(runtime.container_status(&id).await.unwrap().exit_code, 255);
    assert_eq!(bystander.try_wait().unwrap(), None, "a process that is not ours was ended");
    bystander.kill().await.unwrap();
    folders.iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
    Pod { runtime, ..pod }.finish().await;
}

async fn an_orphan_does_not_keep_a_container_alive(root: PathBuf) {
    let mut sandbox = sandbox(&root);
    sandbox.namespaces.host_pid = true;
    let pod = Pod::with(&root, sandbox).await;
    let id = pod.run(&spec("main", &["part-orphan"])).await;
    assert_eq!(pod.ended(&id).await.exit_code, 0);
    while procs_of(&root) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pod.finish().await;
}

/// A mount that goes with the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

async fn an_image_is_copied_where_overlayfs_is_refused(root: PathBuf) {
    // What is itself an overlay cannot be the upper layer of another.
    for name in ["low", "up", "work", "over"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    let path = |name: &str| root.join(name).display().to_string();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", path("low"), path("up"), path("work"));
    let over = root.join("over");
    let (kind, flags) = (Some("overlay"), nix::mount::MsFlags::empty());
    nix::mount::mount(kind, &over, kind, flags, Some(options.as_str())).unwrap();
    let mounted = Mounted(over.clone());
    let inner = over.join(root.file_name().unwrap());
    std::fs::create_dir(&inner).unwrap();
    let pod = Pod::new(&inner).await;
    let id = pod.run(&spec("main", &["part-sleep"])).await;
    assert_eq!(pod.exec(&id, &["part-write", "/tmp/new", "x"]).await.2, 0);
    let copied = inner.join("state/containers").join(&id).join("rootfs/bin/keadm");
    assert!(copied.exists(), "with overlayfs this would only be seen inside");
    pod.finish().await;
    drop(mounted);
}

async fn the_hosts_network_is_shared_on_request(root: PathBuf) {
    let mut sandbox = sandbox(&root);
    sandbox.namespaces.host_network = true;
    sandbox.hostname = String::new();
    let pod = Pod::with(&root, sandbox).await;
    let id = pod.run(&spec("main", &["part-sleep"])).await;
    let inside = pod.look(&id, "/proc/net/dev").await;
    let names = |text: &str| {
        text.lines()
            .skip(2)
            .filter_map(|l| l.split(':').next().map(str::trim).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let outside = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert_eq!(names(&inside), names(&outside));
    assert!(pod.runtime.sandbox_status(&pod.id).await.unwrap().ips.is_empty());
    pod.finish().await;
}

async fn a_file_is_copied_out_of_an_image(root: PathBuf) {
    let runtime = open(&root).await;
    let to = root.join("keadm");
    runtime.copy_from_image(sample::IMAGE, "/bin/keadm", &to).await.unwrap();
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(std::fs::read(&to).unwrap() == own, "another program");
    let absent = runtime.copy_from_image(sample::IMAGE, "/bin/absent", &root.join("x")).await;
    assert!(absent.unwrap_err().to_string().contains("it has no file `/bin/absent`"));
    let absent = runtime.copy_from_image("a/b:v1.0.0", "/bin/keadm", &root.join("x")).await;
    assert!(absent.unwrap_err().is_not_found());
}

/// Whether something takes any time, and is left to itself then.
async fn is_given_up<T>(begun: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::ZERO, begun).await.is_err()
}

/// As when edgecore is told to stop while it starts a pod.
async fn what_is_begun_when_nobody_waits_any_more_is_removed_with_the_rest(root: PathBuf) {
    let pod = Pod::new(&root).await;
    // Begun, and given up at the first thing that takes time; now and then it is done before that.
    let mut tried = 0;
    loop {
        tried += 1;
        let id = pod.create(&spec(&format!("main-{tried}"), &["part-sleep"])).await.unwrap();
        if is_given_up(pod.runtime.start_container(&id)).await {
            break;
        }
    }
    while !is_given_up(pod.runtime.run_sandbox(&pod.sandbox)).await {}
    pod.runtime.remove_all().await.unwrap();
}

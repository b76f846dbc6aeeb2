use super::super::super::{ContainerSecurity, Mount};
use super::super::state::{Id, ProcessRef};
use super::*;

fn sandbox() -> SandboxRecord {
    SandboxRecord {
        id: Id::random(),
        name: "web".into(),
        namespace: "default".into(),
        uid: "u".into(),
        attempt: 0,
        created_at: 0,
        labels: Default::default(),
        annotations: Default::default(),
        log_directory: "/logs".into(),
        cgroup: "/kubepods/podu".into(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        shared_pid: false,
        hostname: "web".into(),
    }
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/bin/app".into()],
        cmd: vec!["--serve".into()],
        env: vec!["A=image".into(), "B=image".into()],
        working_dir: "/srv".into(),
        ..ImageConfig::default()
    }
}

fn built(spec: &ContainerSpec, sandbox: &SandboxRecord) -> Result<Value, SpecError> {
    let process = |pid| ProcessRef { pid, start: 1, boot: String::new() };
    let shim = ShimRecord { shim: process(41), pause: sandbox.shared_pid.then(|| process(42)) };
    let spec = build(&Inputs {
        spec,
        image: &image(),
        sandbox,
        sandbox_folder: Path::new("/s"),
        container_folder: Path::new("/c"),
        shim: &shim,
        cgroup: "/kubepods/podu/c",
        unified_cgroups: false,
        capabilities: u64::MAX,
        hostname: "web",
        devices: &[],
        looks_into: spec.looks_into.as_ref().map(|_| 43),
    })?;
    Ok(serde_json::to_value(spec).unwrap())
}

#[test]
fn command_and_arguments_combine_as_in_kubernetes() {
    let spec = |command: &[&str], args: &[&str]| ContainerSpec {
        command: command.iter().map(|s| (*s).into()).collect(),
        args: args.iter().map(|s| (*s).into()).collect(),
        ..ContainerSpec::default()
    };
    let of = |c: &[&str], a: &[&str]| command(&spec(c, a), &image()).unwrap();
    assert_eq!(of(&[], &[]), ["/bin/app", "--serve"]);
    assert_eq!(of(&[], &["x"]), ["/bin/app", "x"]);
    assert_eq!(of(&["/sh"], &[]), ["/sh"]);
    assert_eq!(of(&["/sh"], &["-c"]), ["/sh", "-c"]);
    let none = command(&ContainerSpec::default(), &ImageConfig::default());
    assert_eq!(none, Err(SpecError::NoCommand));
    assert!(command(&spec(&["a\0b"], &[]), &image()).is_err());
}

#[test]
fn the_pods_environment_wins_and_a_path_is_always_there() {
    let spec = ContainerSpec {
        env: vec![
            ("B".into(), "pod".into()),
            ("C".into(), "a=b".into()),
            ("B".into(), "last".into()),
        ],
        ..ContainerSpec::default()
    };
    let env = environment(&spec, &image(), "web");
    assert_eq!(env, [DEFAULT_PATH, "HOSTNAME=web", "A=image", "B=last", "C=a=b"]);
}

#[test]
fn stop_signals_are_read_as_images_write_them() {
    for (name, number) in
        [("", 15), ("SIGINT", 2), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 15), ("0", 15)]
    {
        assert_eq!(stop_signal(name), number, "{name}");
    }
}

#[test]
fn a_container_joins_its_sandbox_and_not_the_host() {
    let spec = built(&ContainerSpec::default(), &sandbox()).unwrap();
    let namespaces = spec["linux"]["namespaces"].to_string();
    for path in ["/proc/41/ns/net", "/proc/41/ns/uts", "/proc/41/ns/ipc"] {
        assert!(namespaces.contains(path), "{namespaces}");
    }
    let host = SandboxRecord {
        host_network: true,
        host_pid: true,
        host_ipc: true,
        hostname: String::new(),
        ..sandbox()
    };
    let spec = built(&ContainerSpec::default(), &host).unwrap();
    assert_eq!(spec["linux"]["namespaces"], json!([{ "type": "mount" }]));
    let shared = SandboxRecord { shared_pid: true, ..sandbox() };
    let spec = built(&ContainerSpec::default(), &shared).unwrap();
    assert!(spec["linux"]["namespaces"].to_string().contains("/proc/42/ns/pid"));
}

#[test]
fn nothing_is_taken_from_the_librarys_defaults() {
    let spec = built(&ContainerSpec::default(), &sandbox()).unwrap();
    assert_eq!(spec["process"].get("rlimits"), None);
    assert_eq!(spec["process"]["noNewPrivileges"], json!(false));
    assert_eq!(spec.get("hostname"), None);
    assert_eq!(spec["linux"]["maskedPaths"], json!([]));
    assert_eq!(spec["linux"]["resources"].get("memory"), None);
    assert_eq!(spec["process"]["capabilities"].get("inheritable"), None);
}

#[test]
fn a_privileged_container_sees_everything() {
    let security = ContainerSecurity {
        privileged: true,
        masked_paths: vec!["/proc/kcore".into()],
        ..ContainerSecurity::default()
    };
    let spec = built(&ContainerSpec { security, ..ContainerSpec::default() }, &sandbox()).unwrap();
    assert_eq!(spec["linux"]["maskedPaths"], json!([]));
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
}

#[test]
fn limits_reach_the_spec_and_zero_means_none() {
    let resources = Resources {
        cpu_shares: 1,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit: 1 << 20,
        oom_score_adj: 5,
    };
    let spec = built(&ContainerSpec { resources, ..ContainerSpec::default() }, &sandbox()).unwrap();
    let got = &spec["linux"]["resources"];
    assert_eq!(got["cpu"], json!({ "shares": 2, "quota": 50_000, "period": 100_000 }));
    assert_eq!(got["memory"], json!({ "limit": 1 << 20 }));
    assert_eq!(spec["process"].get("oomScoreAdj"), None, "it would stick to the shim");
}

#[test]
fn a_volume_takes_the_place_of_a_default_and_deep_ones_come_last() {
    let mount = |place: &str| Mount {
        container_path: place.into(),
        host_path: "/host".into(),
        ..Mount::default()
    };
    let mounts = vec![mount("/a/b"), mount("/a"), mount("/etc/hosts")];
    let spec = built(&ContainerSpec { mounts, ..ContainerSpec::default() }, &sandbox()).unwrap();
    let places: Vec<&str> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["destination"].as_str().unwrap())
        .collect();
    assert_eq!(places.iter().filter(|p| **p == "/etc/hosts").count(), 1);
    assert!(
        places.ends_with(&["/a", "/etc/hosts", "/a/b"])
            || places.ends_with(&["/a", "/a/b", "/etc/hosts"])
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let seccomp = ContainerSecurity {
        seccomp: Seccomp::Localhost("/x.json".into()),
        ..ContainerSecurity::default()
    };
    let refused =
        built(&ContainerSpec { security: seccomp, ..ContainerSpec::default() }, &sandbox());
    assert!(matches!(refused, Err(SpecError::Unsupported(_))));
}

#[test]
fn a_container_that_looks_into_another_sees_its_processes() {
    let pid = |looks_into: Option<&str>, sandbox: &SandboxRecord| {
        let looks_into = looks_into.map(str::to_owned);
        let spec = built(&ContainerSpec { looks_into, ..ContainerSpec::default() }, sandbox);
        let all = spec.unwrap()["linux"]["namespaces"].clone();
        let pids = all.as_array().unwrap().iter().filter(|n| n["type"] == "pid");
        pids.map(|n| n["path"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(pid(None, &sandbox()), [Value::Null]);
    assert_eq!(pid(Some("c"), &sandbox()), ["/proc/43/ns/pid"]);
    let shared = SandboxRecord { shared_pid: true, ..sandbox() };
    assert_eq!(pid(None, &shared), ["/proc/42/ns/pid"]);
}

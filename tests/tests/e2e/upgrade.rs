//! A node gets another program: its pods go on, and a program that does not run is taken back.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::host::{Host, Pair};
use tests::keadm::{binary, service_pid};
use tests::kubectl::Kubectl;
use tests::screen::Screen;
use tests::wait;

use super::join::{cloud, join, keadm, keadm_ok, kubectl};
use super::{PATIENCE, pod, without_times};

const PROGRAM: &str = "/usr/local/bin/keadm";

/// The binary under test with a few bytes more: the same program, and another file.
fn new_program(folder: &Path, mark: &str) -> PathBuf {
    let file = folder.join(mark);
    std::fs::copy(binary(), &file).unwrap();
    let mut end = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    write!(end, "{mark}").unwrap();
    file
}

/// A program that says its version, and does nothing else.
fn broken_program(folder: &Path) -> PathBuf {
    let file = folder.join("broken");
    let script = "#!/bin/sh\ncase \"$*\" in 'edgecore --version') echo KubeEdge v1.25.0 ;; *) exit 1 ;; esac\n";
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// The last bytes of the installed program.
fn mark(host: &Host) -> String {
    let bytes = std::fs::read(host.path(PROGRAM)).unwrap();
    String::from_utf8_lossy(&bytes[bytes.len() - 7..]).into_owned()
}

/// That the edgecore which runs is the installed program, and not a file that is gone.
#[track_caller]
fn runs_what_is_installed(host: &Host) {
    let pid = service_pid(host, "edgecore").unwrap();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(exe, Path::new(PROGRAM));
}

fn container(kubectl: &Kubectl<'_>) -> (String, i64) {
    let object = kubectl.get(&["pod", "web"]).unwrap();
    let status = object.pointer("/status/containerStatuses/0").unwrap();
    (status["containerID"].as_str().unwrap().to_owned(), status["restartCount"].as_i64().unwrap())
}

#[track_caller]
fn until_ready(kubectl: &Kubectl<'_>) {
    kubectl.run(&["wait", "--for=condition=Ready", "node/edge-2", "--timeout=120s"]);
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
}

fn report(host: &Host) -> serde_json::Value {
    let file = host.path("/etc/kubeedge/upgrade_report.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// An image with the program at /usr/local/bin/keadm, as an OCI layout in a folder.
fn image(program: &Path, name: &str, to: &Path) {
    let blobs = to.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let layer = to.join("layer.tar");
    let root = to.join("root");
    std::fs::create_dir_all(root.join("usr/local/bin")).unwrap();
    std::fs::rename(program, root.join("usr/local/bin/keadm")).unwrap();
    let tar = std::process::Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&layer)
        .arg("-C")
        .arg(&root)
        .arg("usr")
        .status();
    assert!(tar.unwrap().success());
    std::fs::remove_dir_all(&root).unwrap();
    let digest_of = |file: &Path| {
        let sum = std::process::Command::new("sha256sum").arg(file).output().unwrap().stdout;
        String::from_utf8(sum).unwrap().split(' ').next().unwrap().to_owned()
    };
    let layer_digest = digest_of(&layer);
    let layer_size = std::fs::metadata(&layer).unwrap().len();
    std::fs::rename(&layer, blobs.join(&layer_digest)).unwrap();
    let blob = |json: serde_json::Value| {
        let file = to.join("blob.json");
        std::fs::write(&file, json.to_string()).unwrap();
        let (digest, size) = (digest_of(&file), std::fs::metadata(&file).unwrap().len());
        std::fs::rename(&file, blobs.join(&digest)).unwrap();
        (digest, size)
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (config, config_size) = blob(serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    }));
    let (manifest, manifest_size) = blob(serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": format!("sha256:{config}"), "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": format!("sha256:{layer_digest}"), "size": layer_size}],
    }));
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                       "digest": format!("sha256:{manifest}"), "size": manifest_size,
                       "annotations": {"org.opencontainers.image.ref.name": name,
                                       "io.containerd.image.name": name}}],
    });
    std::fs::write(to.join("index.json"), index.to_string()).unwrap();
    std::fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Lets the edge's service find an image that a person put there.
fn preload(pair: &Pair, program: &Path, folder: &str, name: &str) {
    let folder = pair.edge.disk("/var/lib/edged/containers/preload").join(folder);
    image(program, name, &folder);
    let pid = service_pid(&pair.edge, "edgecore").unwrap();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    wait::until("edgecore again", PATIENCE, || match service_pid(&pair.edge, "edgecore")? {
        now if now == pid => Err("the same pid".to_owned()),
        _ => Ok(()),
    });
    wait::until("its local API", PATIENCE, || {
        let (_, said) = keadm(&pair.edge, &["ctl", "confirm"]);
        if said.contains("no valid upgrade tasks") { Ok(()) } else { Err(said) }
    });
}

/// A cloud side and a joined node with a pod that runs.
fn with_a_pod(pair: &Pair) -> Kubectl<'_> {
    let token = cloud(pair);
    join(pair, &token);
    let kubectl = kubectl(pair);
    kubectl.apply(&pod("web", edgecore::sample::IMAGE, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    kubectl
}

#[test]
fn a_node_is_upgraded_while_its_pods_go_on_and_what_does_not_run_is_taken_back() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let kubectl = with_a_pod(&pair);
    let before = container(&kubectl);
    let old = mark(&pair.edge);

    let (out, said) = keadm(&pair.edge, &["ctl", "confirm"]);
    assert!(!out.status.success() && said.contains("no valid upgrade tasks"), "{said}");
    let said = keadm_ok(&pair.edge, &["backup", "edge"]);
    insta::assert_snapshot!("backup_edge", without_times(&said));
    let said = keadm_ok(&pair.edge, &["backup", "edge", "-o", "json", "--progress", "jsonl"]);
    insta::assert_snapshot!("backup_edge_events", without_times(&said));

    // Out of an image, through edgecore.
    let program = new_program(folder.path(), "v1.24.0");
    preload(&pair, &program, "new", "docker.io/test/keadm:v1.24.0");
    until_ready(&kubectl);
    let pid = service_pid(&pair.edge, "edgecore").unwrap();
    let upgrade = ["upgrade", "edge", "--yes", "--to-version", "v1.24.0", "--image", "test/keadm"];
    let said = keadm_ok(&pair.edge, &upgrade);
    insta::assert_snapshot!("upgrade_edge", without_times(&said));
    assert_eq!(mark(&pair.edge), "v1.24.0");
    assert_ne!(service_pid(&pair.edge, "edgecore").unwrap(), pid);
    runs_what_is_installed(&pair.edge);
    until_ready(&kubectl);
    assert_eq!(container(&kubectl), before);
    let said = report(&pair.edge);
    assert_eq!((&said["event"], &said["success"]), (&"Upgrade".into(), &true.into()), "{said}");
    assert_eq!(said["toVersion"], "v1.24.0");

    // A program that does not run is taken back by itself.
    let broken = broken_program(folder.path());
    let broken = broken.to_str().unwrap();
    let upgrade = ["upgrade", "edge", "--yes", "--to-version", "v1.25.0", "--from", broken];
    let (out, said) = keadm(&pair.edge, &upgrade);
    assert!(!out.status.success() && said.contains("was put back, and runs"), "{said}");
    assert_eq!(mark(&pair.edge), "v1.24.0");
    runs_what_is_installed(&pair.edge);
    let said = report(&pair.edge);
    assert_eq!((&said["success"], &said["rolledBack"]), (&false.into(), &true.into()), "{said}");
    until_ready(&kubectl);
    assert_eq!(container(&kubectl), before);

    // The backup puts the first program back, and the cloud tells the node what the backup lacks.
    let said = keadm_ok(&pair.edge, &["rollback", "edge", "--yes", "-o", "json"]);
    insta::assert_snapshot!("rollback_edge", without_times(&said));
    assert_eq!(mark(&pair.edge), old);
    runs_what_is_installed(&pair.edge);
    until_ready(&kubectl);
    assert_eq!(container(&kubectl), before);
    kubectl.run(&["annotate", "pod", "web", "seen=yes"]);

    keadm_ok(&pair.edge, &["reset", "edge", "--yes"]);
    for made in ["/etc/kubeedge", "/var/lib/kubeedge/node-job.json", PROGRAM] {
        assert!(!pair.edge.path(made).exists(), "{made} is still there");
    }
}

/// A dashboard in which `u` was pressed on `edge-2`, which waits for a yes.
struct Asked(Screen);

impl Asked {
    /// `named` is what the command for it ends with.
    #[track_caller]
    fn on(host: &Host, options: &[&str], versions: &str, named: &str) -> Self {
        let mut open = host.command(binary());
        open.arg("dashboard").args(options).env_remove("KUBECONFIG");
        let mut screen = Screen::start(&open, 120, 40);
        screen.until_shows("[overview]", PATIENCE);
        screen.keys(":nodes\r");
        screen.until_shows("Ready,Confirm", PATIENCE);
        screen.keys("u");
        screen.until_shows(&format!("upgrade node edge-2 {versions} now?"), PATIENCE);
        screen.until_shows(&format!("keadm confirm upgrade {named}"), PATIENCE);
        Self(screen)
    }

    fn yes(&mut self) {
        self.0.keys("y");
    }

    /// The node is Ready, and waits no longer.
    #[track_caller]
    fn ends_well(mut self) {
        self.0.until("a node that is Ready", PATIENCE, |text| {
            let row = text.lines().find(|line| line.contains("edge-2"));
            let well = |row: &str| row.contains("Ready") && !row.contains("Ready,");
            text.contains("live") && row.is_some_and(well)
        });
        self.0.keys("\x03");
        self.0.until_ended(PATIENCE);
    }
}

#[test]
fn an_upgrade_from_the_cloud_waits_for_a_yes_and_then_reaches_the_node() {
    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    let kubectl = with_a_pod(&pair);
    let before = container(&kubectl);
    let old = mark(&pair.edge);
    for version in ["v1.24.0", "v1.25.0", "v1.26.0"] {
        let name = format!("docker.io/test/keadm:{version}");
        preload(&pair, &new_program(folder.path(), version), version, &name);
    }
    until_ready(&kubectl);
    let wanted = |name: &str, version: &str| {
        let spec = serde_json::json!({"version": version, "image": "test/keadm",
            "nodeNames": ["edge-2"], "requireConfirmation": true});
        let job = serde_json::json!({"apiVersion": "operations.kubeedge.io/v1alpha2",
            "kind": "NodeUpgradeJob", "metadata": {"name": name}, "spec": spec});
        kubectl.apply(&job.to_string());
    };
    let went_well = |name: &str, version: &str| {
        let job = ["nodeupgradejob", name];
        kubectl.until(&job, "/status/phase", "Completed", PATIENCE);
        let job = kubectl.get(&job).unwrap();
        let node = job.pointer("/status/nodeStatus/0").unwrap();
        assert_eq!(node["phase"], "Successful", "{job}");
        let steps = node["actionFlow"].as_array().unwrap().iter();
        let steps: Vec<_> = steps.map(|s| s["action"].as_str().unwrap()).collect();
        assert_eq!(steps, ["Check", "WaitingConfirmation", "BackUp", "Upgrade"], "{job}");
        assert_eq!(mark(&pair.edge), version);
        runs_what_is_installed(&pair.edge);
        until_ready(&kubectl);
        assert_eq!(container(&kubectl), before);
    };

    // In the dashboard.
    wanted("spring", "v1.24.0");
    let mut screen = Asked::on(&pair.cloud, &[], "from v1.23.0 to v1.24.0", "edge-2");
    assert_eq!(mark(&pair.edge), old, "nothing has been changed yet");
    screen.yes();
    went_well("spring", "v1.24.0");
    screen.ends_well();

    // With a command.
    wanted("summer", "v1.25.0");
    let seen = wait::until("the node to show what waits", PATIENCE, || {
        let (out, _) = keadm(&pair.edge, &["get", "nodes", "--local", "-o", "wide"]);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        if said.contains("WaitingConfirmation") { Ok(said) } else { Err(said) }
    });
    assert!(seen.0.contains("v1.25.0"), "{}", seen.0);
    let (out, said) = keadm(&pair.edge, &["ctl", "confirm", "--dry-run", "-o", "json"]);
    assert!(out.status.success(), "{said}");
    let would: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(would, serde_json::json!({"job": "summer", "dryRun": true, "confirmed": false}));
    let confirm = ["confirm", "upgrade", "edge-2"];
    let asked = wait::until("the node to wait for a yes", PATIENCE, || {
        let (out, said) = keadm(&pair.cloud, &[&confirm[..], &["--dry-run"]].concat());
        if out.status.success() { Ok(said) } else { Err(said) }
    });
    assert!(asked.0.contains("to v1.25.0"), "{}", asked.0);
    assert_eq!(mark(&pair.edge), "v1.24.0", "nothing has been changed yet");
    keadm_ok(&pair.cloud, &[&confirm[..], &["--wait", "--timeout", "3m"]].concat());
    went_well("summer", "v1.25.0");
    let (out, said) = keadm(&pair.cloud, &confirm);
    assert!(!out.status.success() && said.contains("no upgrade that waits"), "{said}");

    // In the dashboard of the node itself.
    wanted("autumn", "v1.26.0");
    let local = ["--local"];
    let mut screen = Asked::on(&pair.edge, &local, "from v1.23.0 to v1.26.0", "edge-2 --local");
    assert_eq!(mark(&pair.edge), "v1.25.0", "nothing has been changed yet");
    screen.yes();
    went_well("autumn", "v1.26.0");
    // edgecore was another for a moment; the dashboard finds it again.
    screen.ends_well();
}

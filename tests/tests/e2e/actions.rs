//! What is done to pods with commands, in the cloud and on the node itself; and what tries nothing.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tests::host::Host;
use tests::keadm::{binary, command};
use tests::kubectl::Kubectl;
use tests::screen::Screen;
use tests::wait;

use super::{PATIENCE, Up, pod, sample_image};

/// A folder in which `keadm --root` finds what this `keadm up` has, where it would be by itself.
fn root(folder: &Path, up: &Up) -> PathBuf {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("var/lib")).unwrap();
    symlink(&up.data, root.join("var/lib/keadm")).unwrap();
    root
}

struct Keadm<'h> {
    host: &'h Host,
    root: PathBuf,
}

impl Keadm<'_> {
    /// Exit code and what was said on either stream.
    fn run(&self, line: &str) -> (i32, String, String) {
        self.with(&[], line)
    }

    /// The same with variables.
    fn with(&self, variables: &[(&str, &str)], line: &str) -> (i32, String, String) {
        let mut command = command(self.host, ["--root", self.root.to_str().unwrap()]);
        command.args(line.split(' ')).env("HOME", "/nonexistent").env_remove("XDG_STATE_HOME");
        command.envs(variables.iter().copied());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    #[track_caller]
    fn fine(&self, line: &str) -> String {
        let (code, out, err) = self.run(line);
        assert_eq!(code, 0, "{line}: {out}{err}");
        out
    }
}

/// How often the pod's container was started again, and the pod's UID.
#[track_caller]
fn restarts(kubectl: &Kubectl<'_>, pod: &str) -> (u64, String) {
    let object = kubectl.get(&["pod", pod]).unwrap();
    let count = object.pointer("/status/containerStatuses/0/restartCount");
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    (count.and_then(Value::as_u64).unwrap_or(0), uid.to_owned())
}

/// Whether a row of one pod is on the screen, and none of another. The filter itself, which has the
/// name, is shown before there are rows.
fn only(text: &str, pod: &str, other: &str) -> bool {
    let row = text.lines().any(|line| line.contains(pod) && line.contains("Running"));
    row && !text.contains(other)
}

#[test]
fn pods_are_measured_restarted_and_deleted_from_the_cloud() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    kubectl.apply(&pod("web", &sample_image(&kubectl), ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    let keadm = Keadm { host: &host, root: root(folder.path(), &up) };
    keadm.fine("status --wait --timeout 60s");

    // The nodes are asked only now, and the first answer has figures.
    let top = keadm.fine("top pods -o json");
    let top: Value = serde_json::from_str(&top).unwrap();
    let pods = top["items"].as_array().unwrap();
    let used = |name: &str| {
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name);
        pod.and_then(|pod| pod.pointer("/status/usage/memory")).and_then(Value::as_u64)
    };
    assert!(used("web").is_some_and(|bytes| bytes > 100_000), "{top}");
    let node: Value = serde_json::from_str(&keadm.fine("top nodes -o json")).unwrap();
    let usage = &node["items"][0]["status"]["usage"];
    for figure in ["cpuCapacityMillis", "memory", "memoryCapacity"] {
        assert!(usage[figure].as_u64().is_some_and(|n| n > 0), "{figure}: {node}");
    }
    // An open dashboard gets more than one.
    let mut open = command(&host, ["--root", keadm.root.to_str().unwrap(), "dashboard"]);
    open.env("HOME", "/nonexistent").env_remove("XDG_STATE_HOME");
    let mut screen = Screen::start(&open, 120, 40);
    screen.until_shows("[overview]", PATIENCE);
    screen.keys(":pods\r/web\r");
    screen.until("one pod", PATIENCE, |text| only(text, "web", "hello"));
    screen.keys("\r");
    screen.until("memory over time", PATIENCE, |text| {
        let line = text.lines().find(|line| line.contains("memory"));
        line.is_some_and(|line| line.contains("Ki") || line.contains("Mi"))
    });

    let (before, uid) = restarts(&kubectl, "web");
    let said = keadm.fine("restart pod web --dry-run");
    assert_eq!(said, "pod default/web on node edge-1 would be restarted: main\n");
    assert_eq!(restarts(&kubectl, "web"), (before, uid.clone()));
    let said = keadm.fine("restart pod web --wait");
    assert_eq!(said, "pod default/web on node edge-1 restarted: main\n");
    assert_eq!(restarts(&kubectl, "web"), (before + 1, uid.clone()), "the same pod");
    // In the dashboard with a question that names the command.
    screen.keys("r");
    screen.until_shows("restart the containers of pod default/web?", PATIENCE);
    screen.until_shows("keadm restart pod -n default web", PATIENCE);
    screen.keys("y");
    wait::until("a second restart", PATIENCE, || match restarts(&kubectl, "web") {
        (count, _) if count == before + 2 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    screen.keys("\x03");
    screen.until_ended(PATIENCE);

    // A container that does not come back is not ended.
    let never = pod("once", &sample_image(&kubectl), "");
    kubectl.apply(&never.replace(r#""spec":{"#, r#""spec":{"restartPolicy":"Never","#));
    kubectl.until(&["pod", "once"], "/status/phase", "Running", PATIENCE);
    let (code, _, err) = keadm.run("restart pod once");
    assert!(code == 1 && err.contains("restartPolicy Never"), "{code} {err}");

    let (code, _, err) = keadm.run("delete pod nobody --yes");
    assert_eq!(code, 4, "{err}");
    let (code, _, err) = keadm.run("delete pod web");
    assert_eq!(code, 2, "there is nobody to ask: {err}");
    assert_eq!(keadm.fine("delete pod web --dry-run"), "pod default/web would be deleted\n");
    assert_eq!(restarts(&kubectl, "web").1, uid);
    // The variable says what the flag says, and only if it says yes.
    let line = "delete pod web once --wait --grace-period 1";
    let (code, _, err) = keadm.with(&[("KEADM_YES", "no")], line);
    assert_eq!(code, 2, "{err}");
    assert_eq!(restarts(&kubectl, "web").1, uid);
    let (code, said, err) = keadm.with(&[("KEADM_YES", "1")], line);
    assert_eq!((code, said.lines().count()), (0, 2), "{said}{err}");
    for name in ["web", "once"] {
        assert!(kubectl.get(&["pod", name]).unwrap_err().contains("NotFound"), "{name}");
    }

    // Where only the cluster answers there is nobody who restarts.
    kubectl.run(&["delete", "configmap", "status-stream", "--namespace=kubeedge"]);
    let config = up.kubeconfig();
    let line = format!("restart pod hello --kube-config {}", config.display());
    let (code, _, err) = keadm.run(&line);
    assert!(code == 9 && err.contains("cloudcore's status stream"), "{code} {err}");
    let line = format!("delete pod hello --yes --wait --kube-config {}", config.display());
    let said = keadm.fine(&line);
    assert_eq!(said, "pod default/hello is being deleted\n");
    up.keadm.interrupt();
}

#[test]
fn on_the_node_itself_ctl_looks_reads_logs_and_restarts() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    kubectl.apply(&pod("web", &sample_image(&kubectl), ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    let keadm = Keadm { host: &host, root: root(folder.path(), &up) };

    let pods = keadm.fine("ctl get pods");
    assert!(pods.contains("web") && pods.contains("hello"), "{pods}");
    let node = keadm.fine("ctl get nodes -o name");
    assert_eq!(node, "node/edge-1\n");
    let described = keadm.fine("ctl describe pod web");
    assert!(described.contains("Running") && described.contains("edge-1"), "{described}");
    wait::until("a line of the log", PATIENCE, || {
        let (code, out, err) = keadm.run("ctl logs hello --tail 3");
        let lines = out.lines().count();
        if code == 0 && (1..=3).contains(&lines) { Ok(()) } else { Err(format!("{out}{err}")) }
    });
    let (code, _, err) = keadm.run("ctl logs nobody");
    assert_eq!(code, 4, "{err}");

    let (before, uid) = restarts(&kubectl, "web");
    let dry = keadm.fine("ctl restart pod web --dry-run");
    assert_eq!(dry, "pod/web would be restarted: main\n");
    let said = keadm.fine("ctl restart pod web");
    assert_eq!(said, "pod/web restarted: main\n");
    wait::until("the restart to be counted", PATIENCE, || match restarts(&kubectl, "web") {
        (count, is) if count == before + 1 && is == uid => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let (code, _, err) = keadm.run("ctl restart pod nobody");
    assert_eq!(code, 4, "{err}");

    // The dashboard of the node shows logs and YAML, and restarts, with no cloud in between.
    let mut open = host.command(binary());
    open.args(["--root", keadm.root.to_str().unwrap(), "dashboard", "--local"]);
    let mut screen = Screen::start(&open, 100, 30);
    screen.until_shows("[overview]", PATIENCE);
    screen.keys(":pods\r/hello\r");
    screen.until("one pod", PATIENCE, |text| only(text, "hello", "web"));
    screen.keys("l");
    screen.until_shows("log of default/hello | following", PATIENCE);
    screen.until_shows("hello from hello, beat", PATIENCE);
    screen.keys("\x1b");
    screen.until_shows("RESTARTS", PATIENCE);
    screen.keys("y");
    screen.until_shows("kind: Pod", PATIENCE);
    screen.keys("\x1b");
    screen.until_shows("RESTARTS", PATIENCE);
    screen.keys("r");
    screen.until_shows("keadm restart pod -n default hello --local", PATIENCE);
    screen.keys("y");
    screen.until_shows("pod default/hello on node edge-1 restarted:", PATIENCE);
    // What is the cloud's to do is said to be.
    screen.keys("x");
    screen.until_shows("deleting a pod is not possible here", PATIENCE);
    screen.keys("\x03");
    screen.until_ended(PATIENCE);
    // A log is there as soon as its container.
    keadm.fine("ctl logs hello --tail 1");
    // What has only just begun does not hear yet that it is to end: it asks for no signal.
    wait::until("the container to be at work again", PATIENCE, || {
        let (code, out, err) = keadm.run("ctl logs hello --tail 1");
        if code == 0 && out.contains("beat") { Ok(()) } else { Err(format!("{out}{err}")) }
    });
    up.keadm.interrupt();
}

#[test]
fn on_the_node_itself_ctl_runs_commands_and_lets_held_pods_go() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    let image = sample_image(&kubectl);
    let keadm = Keadm { host: &host, root: root(folder.path(), &up) };

    let held = pod("late", &image, "").replace(
        r#""name":"late"}"#,
        r#""name":"late","annotations":{"edge.kubeedge.io/hold-upgrade":"true"}}"#,
    );
    kubectl.apply(&held);
    wait::until("the pod to be held back", PATIENCE, || {
        let object = kubectl.get(&["pod", "late"])?;
        let told = object.to_string().contains("HoldUpgradeEnabled");
        if told { Ok(()) } else { Err(object["status"].to_string()) }
    });
    let (code, _, err) = keadm.run("ctl unhold-upgrade pod hello");
    assert!(code == 1 && err.contains("is not held back"), "{code} {err}");
    let (code, _, err) = keadm.run("ctl unhold-upgrade pod nobody");
    assert_eq!(code, 4, "{err}");
    let would = keadm.fine("ctl unhold-upgrade node --dry-run");
    assert_eq!(would, "pod/late in namespace default would start\n");
    let phase = kubectl.get(&["pod", "late"]).unwrap();
    assert_eq!(phase.pointer("/status/phase").unwrap(), "Pending");
    assert_eq!(keadm.fine("ctl unhold-upgrade pod late"), "pod/late in namespace default starts\n");
    kubectl.until(&["pod", "late"], "/status/phase", "Running", PATIENCE);
    wait::until("the cloud to hear that it is not held", PATIENCE, || {
        let object = kubectl.get(&["pod", "late"])?;
        let all = object.pointer("/status/conditions").and_then(Value::as_array).cloned();
        let is = all.unwrap_or_default().into_iter().find(|c| c["type"] == "HeldUpgrade");
        if is.is_some_and(|c| c["status"] == "False") { Ok(()) } else { Err(object.to_string()) }
    });

    let version = keadm.fine("ctl exec late -- /bin/keadm version -o short");
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let (code, out, err) = keadm.run("ctl exec late -- /bin/keadm frobnicate");
    assert_eq!((code, out.as_str()), (2, ""), "its own exit code: {err}");
    assert!(err.contains("frobnicate") && err.contains("exit code 2"), "{err}");
    let would = keadm.fine("ctl exec late --dry-run -- /bin/keadm version");
    assert_eq!(would, "would run in container `main` of pod/late: /bin/keadm version\n");
    let (code, _, err) = keadm.run("ctl exec late -- /no/such/program");
    assert!(code != 0 && err.contains("/no/such/program"), "{code} {err}");
    for (line, code) in [("nobody", 4), ("late -c other", 4)] {
        let (was, _, err) = keadm.run(&format!("ctl exec {line} -- /bin/keadm version"));
        assert_eq!(was, code, "{line}: {err}");
    }

    // With a terminal, what is typed arrives: keadm asks, and hears the answer.
    let mut open = host.command(binary());
    open.args(["--root", keadm.root.to_str().unwrap(), "ctl", "exec", "-it", "late", "--"]);
    open.args(["/bin/keadm", "restore", "cloud", "/none", "--data-dir", "/none"]);
    let mut screen = Screen::start(&open, 100, 30);
    screen.until_shows("Are you sure", PATIENCE);
    screen.keys("n\r");
    screen.until_shows("aborted; nothing was changed", PATIENCE);
    screen.until_ended(PATIENCE);
    up.keadm.interrupt();
}

#[test]
fn a_node_is_drained_until_its_pods_are_gone_and_a_budget_is_waited_for() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    let keadm = Keadm { host: &host, root: root(folder.path(), &up) };
    let image = sample_image(&kubectl);
    let guarded = pod("web", &image, "")
        .replace(r#""name":"web"}"#, r#""name":"web","labels":{"app":"web"}}"#);
    kubectl.apply(&guarded);
    kubectl.apply(
        r#"{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"web"},
"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"web"}}}}"#,
    );
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);

    let (code, out, err) = keadm.run("drain edge-1 --yes --timeout 2s");
    assert_eq!((code, out.as_str()), (7, ""), "{err}");
    assert!(err.contains("cannot go yet: pod default/web"), "{err}");
    assert!(kubectl.get(&["pod", "web"]).is_ok());
    kubectl.run(&["delete", "pdb", "web"]);
    let said = keadm.fine("drain edge-1 --yes --timeout 60s --progress jsonl");
    let events: Vec<Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let named = |name: &str| events.iter().any(|e| e["event"] == name && e["step"] == "drain");
    assert!(named("started") && named("done"), "{said}");
    for name in ["web", "hello"] {
        assert!(kubectl.get(&["pod", name]).unwrap_err().contains("NotFound"), "{name}");
    }
    up.keadm.interrupt();
}

#[test]
fn dry_runs_of_backup_restore_and_tokens_change_nothing() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["--cloud-only"]);
    let keadm = Keadm { host: &host, root: root(folder.path(), &up) };
    let plane = up.data.join("control-plane");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let dir = plane.display();

    let file = at("backup.tar.gz");
    let (code, _, err) = keadm.run(&format!("backup cloud {file} --data-dir {dir} --dry-run"));
    assert!(code == 0 && err.contains("would write"), "{code} {err}");
    assert!(!Path::new(&file).exists());
    keadm.fine(&format!("backup cloud {file} --data-dir {dir}"));
    assert!(Path::new(&file).exists());

    let elsewhere = at("elsewhere");
    let (code, _, err) =
        keadm.run(&format!("restore cloud {file} --data-dir {elsewhere} --dry-run"));
    assert!(code == 0 && err.contains("would restore"), "{code} {err}");
    assert!(!Path::new(&elsewhere).exists());

    let config = up.kubeconfig();
    let config = config.display();
    keadm.fine(&format!("gettoken --kube-config {config}"));
    let list = || -> Value {
        let text = keadm.fine(&format!("gettoken list -o json --kube-config {config}"));
        serde_json::from_str(&text).unwrap()
    };
    let before = list();
    let id = before.as_object().unwrap().keys().next().unwrap().clone();
    let (code, _, err) =
        keadm.run(&format!("gettoken revoke {id} --dry-run --kube-config {config}"));
    assert!(code == 0 && err.contains("would be refused from now on"), "{code} {err}");
    assert_eq!(list(), before);
    let said = keadm.fine(&format!("gettoken --ttl 2h --dry-run --kube-config {config}"));
    assert!(said.starts_with("would make a token that is valid until 20"), "{said}");
    assert_eq!(list(), before);
    keadm.fine(&format!("gettoken revoke {id} --kube-config {config}"));
    assert_ne!(list(), before);
    up.keadm.interrupt();
}

//! Tokens and keys: in no log, no argument list, and no file that others can read.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use tests::host::{CLOUD_ADDRESS, Host, Pair};
use tests::keadm::command;
use tests::kubectl::Kubectl;

use super::join::{keadm, kubectl};
use super::{PATIENCE, Up, pod};

/// What no stranger may see, with a name for each.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 12, "{name} is too short to be looked for");
        self.0.push((name.to_owned(), text.to_owned()));
    }

    /// A line from the middle of each private key in a text.
    fn add_keys(&mut self, from: &Path, text: &str) {
        for key in text.split("PRIVATE KEY-----\n").skip(1).step_by(2) {
            let lines: Vec<&str> = key.lines().take_while(|l| !l.starts_with('-')).collect();
            let Some(line) = lines.get(lines.len() / 2) else { continue };
            self.add(&format!("the key in {}", from.display()), line);
        }
    }

    #[track_caller]
    fn assert_none_in(&self, place: &str, text: &str) {
        for (name, secret) in &self.0 {
            assert!(!text.contains(secret), "{name} is in {place}");
            // Keys in PEM that were put into base64 once more, as in a Secret or a kubeconfig.
            let wrapped = base64::engine::general_purpose::STANDARD.encode(secret);
            let core = &wrapped[4..wrapped.len().min(28) - 4];
            assert!(!text.contains(core), "{name} is in {place}, in base64");
        }
    }
}

/// All files below a folder of a host; links are not followed.
fn files(host: &Host, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![host.path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// Checks the modes of all files with something secret in them; returns the secrets.
#[track_caller]
fn judge_files(host: &Host, folders: &[&str], secrets: &mut Secrets) {
    let mut keys = BTreeSet::new();
    let all: Vec<PathBuf> = folders.iter().flat_map(|f| files(host, f)).collect();
    let small = |p: &&PathBuf| std::fs::metadata(p).is_ok_and(|m| m.len() < 4 << 20);
    for path in all.iter().filter(small) {
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let holds_key = text.contains("PRIVATE KEY-----") || text.contains("client-key-data");
        let holds_token = secrets.0.iter().any(|(_, s)| text.contains(s.as_str()));
        if holds_key || holds_token {
            assert_private(path);
            keys.insert(path.clone());
        }
        if path.extension().is_some_and(|e| e == "key") {
            secrets.add_keys(path, &text);
        }
    }
    // Databases hold Secrets and tokens.
    for path in all.iter().filter(|p| p.to_string_lossy().contains(".db")) {
        assert_private(path);
    }
    assert!(!keys.is_empty(), "no private key was found below {folders:?}");
}

#[track_caller]
fn assert_private(path: &Path) {
    let meta = std::fs::metadata(path).unwrap();
    let mode = meta.permissions().mode() & 0o7777;
    assert_eq!(mode & 0o077, 0, "{} has mode {mode:04o}", path.display());
    assert_eq!(meta.uid(), 0, "{} is not root's", path.display());
    let folder = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(folder & 0o022, 0, "others may replace {}", path.display());
}

/// The command lines of all processes on this machine that name the binary.
fn command_lines() -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        all.push_str(&String::from_utf8_lossy(&line).replace('\0', " "));
        all.push('\n');
    }
    all
}

/// A pod that has a Secret's content in its environment, and runs.
#[track_caller]
fn run_with_secret(kubectl: &Kubectl<'_>, password: &str, image: &str) {
    kubectl.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"login"}},"stringData":{{"p":"{password}"}}}}"#
    ));
    let env = r#","env":[{"name":"P","valueFrom":{"secretKeyRef":{"name":"login","key":"p"}}}]"#;
    kubectl.apply(&pod("reader", image, env));
    kubectl.until(&["pod", "reader"], "/status/phase", "Running", PATIENCE);
}

#[test]
fn init_and_join_at_the_highest_verbosity_leave_no_secret_in_a_log_an_argument_or_an_open_file() {
    let pair = Pair::new();
    let mut said = String::new();
    let mut run = |host: &Host, args: &[&str]| {
        let (out, text) = keadm(host, args);
        assert!(out.status.success(), "keadm {}: {text}", args.join(" "));
        said.push_str(&text);
        String::from_utf8(out.stdout).unwrap()
    };
    run(&pair.cloud, &["-vvv", "init", "--embedded", "--advertise-address", CLOUD_ADDRESS]);
    let (out, _) = keadm(&pair.cloud, &["gettoken"]);
    let token = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    let mut secrets = Secrets::default();
    secrets.add("the token", token.rsplit('.').next().unwrap());
    let server = format!("{CLOUD_ADDRESS}:10000");
    let mut join = command(
        &pair.edge,
        ["-vvv", "join", "--cloudcore-ipport", &server, "--edgenode-name", "edge-2"],
    );
    let joined = join.env("KEADM_TOKEN", &token).output().unwrap();
    let text = [joined.stdout, joined.stderr].concat();
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&text));
    said.push_str(&String::from_utf8_lossy(&text));

    let kubectl = kubectl(&pair);
    let password = "correct-horse-battery-staple";
    run_with_secret(&kubectl, password, edgecore::sample::IMAGE);

    for host in [&pair.cloud, &pair.edge] {
        judge_files(host, &["/etc/kubeedge", "/var/lib/kubeedge"], &mut secrets);
    }
    secrets.add("a Secret's content", password);
    secrets.assert_none_in("what keadm said", &said);
    secrets.assert_none_in("a command line", &command_lines());
    for host in [&pair.cloud, &pair.edge] {
        let logs = files(host, "/var/log/kubeedge");
        assert!(!logs.is_empty(), "there are no logs");
        for log in logs {
            let text = std::fs::read(&log).unwrap();
            let text = String::from_utf8_lossy(&text);
            secrets.assert_none_in(&log.display().to_string(), &text);
        }
    }
    let yaml = pair.edge.path("/etc/kubeedge/config/edgecore.yaml");
    let yaml = std::fs::read_to_string(yaml).unwrap();
    assert!(!yaml.contains(&token), "the token is still in edgecore.yaml");
}

#[test]
fn up_at_the_highest_verbosity_leaves_no_secret_in_its_log_or_an_open_file() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["-vvv"]);
    let kubectl = up.kubectl(&host);
    let password = "another-horse-needs-more-staples";
    run_with_secret(&kubectl, password, &super::sample_image(&kubectl));
    let token = kubectl.get(&["secret", "-n", "kubeedge", "tokensecret"]).unwrap();
    let token = token["data"]["tokendata"].as_str().unwrap();
    let token = base64::engine::general_purpose::STANDARD.decode(token).unwrap();
    let mut secrets = Secrets::default();
    secrets.add("the token", String::from_utf8(token).unwrap().rsplit('.').next().unwrap());
    judge_files(&host, &[up.data.to_str().unwrap()], &mut secrets);
    secrets.add("a Secret's content", password);
    secrets.assert_none_in("what keadm said", &up.keadm.said());
    secrets.assert_none_in("a command line", &command_lines());
    assert!(up.keadm.said().contains("TRACE"), "it did not log everything");
}

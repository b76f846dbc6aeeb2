//! Flags and the variables that set them, as a shell has them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tests::keadm::binary;

/// keadm with nothing of the environment but these variables.
fn keadm(line: &str, variables: &[(&str, &str)]) -> (i32, String, String) {
    said(&command(line, variables).output().unwrap())
}

fn command(line: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(line.split(' ')).env_clear().stdin(Stdio::null());
    command.env("HOME", "/nonexistent").env("KEADM_ROOT", "/nonexistent");
    command.envs(variables.iter().copied());
    command
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_variable_sets_its_flag_and_a_flag_that_is_written_wins() {
    let json = ("KEADM_OUTPUT", "json");
    let (code, out, _) = keadm("version", &[json]);
    assert!(code == 0 && out.starts_with('{'), "{out}");
    let (code, out, _) = keadm("version -o yaml", &[json]);
    assert!(code == 0 && !out.starts_with('{') && out.contains("gitVersion:"), "{out}");
    // A form that the command does not have: whose fault it is must be found.
    let (code, _, err) = keadm("cordon edge-1", &[("KEADM_OUTPUT", "wide")]);
    assert!(code == 2 && err.contains("the value is that of the variable `KEADM_OUTPUT`"), "{err}");
    let (_, _, err) = keadm("cordon edge-1 -o wide", &[]);
    assert!(!err.contains("KEADM_OUTPUT"), "{err}");
    // What `up` says has a form only with `--dry-run`.
    let (_, _, err) = keadm("up --data-dir /proc/nowhere", &[json]);
    assert!(!err.contains("--dry-run"), "{err}");
}

#[test]
fn flags_that_exclude_each_other_do_so_only_where_both_are_written() {
    let endpoint = ("KEADM_ENDPOINT", "/nowhere.sock");
    let (code, _, err) = keadm("get nodes --local", &[endpoint]);
    assert!(code == 6 && err.contains("no edgecore runs here"), "{err}");
    let (code, _, err) = keadm("get nodes --local --endpoint /nowhere.sock", &[]);
    assert!(code == 2 && err.contains("`--local` cannot be used with `--endpoint`"), "{err}");
    let (code, _, err) = keadm("ctl get nodes", &[endpoint]);
    assert!(code == 6 && err.contains("no edgecore runs here"), "{err}");
    let (_, _, err) = keadm("dashboard --replay /nowhere.jsonl --svg /nowhere.svg", &[endpoint]);
    assert!(err.contains("/nowhere.jsonl"), "{err}");
    let (code, _, err) = keadm("status --plain --local", &[("KEADM_OUTPUT", "json")]);
    assert_eq!(code, 6, "{err}");
    let (code, _, err) = keadm("status --plain -o json", &[]);
    assert!(code == 2 && err.contains("`--plain` cannot be used with `--output`"), "{err}");
    let (code, _, err) = keadm("events -A --local", &[("KEADM_NAMESPACE", "shop")]);
    assert_eq!(code, 6, "{err}");
}

#[test]
fn a_command_that_is_asked_to_log_more_says_where_it_looks() {
    let line = "get nodes --endpoint /nowhere.sock";
    let (code, out, err) = keadm(line, &[]);
    assert!(code == 6 && !err.contains("is asked for"), "{err}");
    let (code, more, err) = keadm(&format!("{line} -v"), &[]);
    assert!(code == 6 && err.contains("a status stream is asked for") && more == out, "{err}");
    // The error is one of the lines.
    let (_, _, err) = keadm(&format!("{line} -v --log-format json"), &[]);
    let lines: Vec<serde_json::Value> = err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {err}")))
        .collect();
    let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["DEBUG", "ERROR"], "{err}");
}

fn two_contexts(folder: &Path) -> String {
    let file = folder.join("kubeconfig");
    let entry = |name: &str, port: u16| {
        format!("- {{name: {name}, cluster: {{server: 'https://127.0.0.1:{port}'}}}}\n")
    };
    let context = |name: &str| format!("- {{name: to-{name}, context: {{cluster: {name}}}}}\n");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: to-one\nusers: []\n\
         clusters:\n{}{}contexts:\n{}{}",
        entry("one", 1),
        entry("two", 2),
        context("one"),
        context("two")
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_context_of_the_kubeconfig_is_chosen_and_one_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        format!("gettoken --request-timeout 5s --kube-config {}", two_contexts(folder.path()));
    let asked = |more: &str, variables: &[(&str, &str)]| {
        let (code, _, err) = keadm(&format!("{line}{more}"), variables);
        assert_eq!(code, 6, "{err}");
        err
    };
    let other = ("KEADM_CONTEXT", "to-two");
    assert!(asked("", &[]).contains("https://127.0.0.1:1"));
    assert!(asked(" --context to-two", &[]).contains("https://127.0.0.1:2"));
    assert!(asked("", &[other]).contains("https://127.0.0.1:2"));
    assert!(asked(" --context to-one", &[other]).contains("https://127.0.0.1:1"));
    let (code, _, err) = keadm(&format!("{line} --context to-three"), &[]);
    assert!(code == 4 && err.contains("no context `to-three`"), "{err}");
    assert!(err.contains("it has `to-one`, `to-two`"), "{err}");
}

#[test]
fn an_api_server_that_says_nothing_is_waited_for_no_longer_than_was_said() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections, and that is all.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", silent.local_addr().unwrap());
    let file = folder.path().join("kubeconfig");
    let text = two_contexts(folder.path());
    let text = std::fs::read_to_string(text)
        .unwrap()
        .replace("https://127.0.0.1:1'", &format!("{server}'"));
    std::fs::write(&file, text).unwrap();
    let line = format!("gettoken --request-timeout 1s --kube-config {}", file.display());
    let (code, _, err) = keadm(&line, &[]);
    assert!(code == 7 && err.contains("no answer came within 1.0 s"), "{err}");
}

#[test]
fn a_token_to_join_with_comes_from_a_file_or_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let at = ("KEADM_CLOUDCORE_IPPORT", "127.0.0.1:1");
    let cut = "the token is not complete";
    // As long as a token is: what is in it matters only to the cloud.
    let whole = format!("{}.b.c.d\n", "0".repeat(64));
    for (token, complete) in [(whole.as_str(), true), ("a.b", false)] {
        std::fs::write(&file, token).unwrap();
        let line = format!("join --edgenode-name edge-1 --dry-run --token-file {}", file.display());
        let (code, _, err) = keadm(&line, &[at, ("KEADM_TOKEN", "nonsense")]);
        assert_eq!((code == 0, err.contains(cut)), (complete, !complete), "{err}");
        let mut piped = command("join --edgenode-name edge-1 --dry-run --token-file -", &[at]);
        piped.stdin(std::fs::File::open(&file).unwrap());
        let (code, _, err) = said(&piped.output().unwrap());
        assert_eq!((code == 0, err.contains(cut)), (complete, !complete), "{err}");
    }
    let (code, _, err) = keadm("join --token-file /nowhere --token a.b.c.d", &[at]);
    assert!(code == 2 && err.contains("`--token-file` cannot be used with `--token`"), "{err}");
    let (code, _, err) = keadm("join --token-file /nowhere/token --dry-run", &[at]);
    assert!(code == 4 && err.contains("/nowhere/token"), "{err}");
}

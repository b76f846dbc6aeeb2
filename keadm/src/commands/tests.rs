//! The help of every command, and the commands that need nothing.

#[cfg(test)]
mod look;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod node;
#[cfg(test)]
mod plane;

use crate::host::fake::Fake;
use crate::testing::{Machine, keadm};

#[test]
fn help_of_every_command() {
    let mut command = crate::command().term_width(80);
    command.build();
    insta::assert_snapshot!("help", command.render_long_help());
    let mut all = Vec::new();
    walk(&command, "keadm", &mut all);
    for (path, mut sub) in all {
        let name = path.trim_start_matches("keadm ").replace(' ', "_");
        insta::assert_snapshot!(format!("help_{name}"), sub.render_long_help());
    }
}

#[test]
fn version_in_all_forms() {
    let fake = Fake::default();
    let all = ["", " -o yaml", " -o json", " -o short"]
        .map(|form| keadm(&format!("keadm version{form}"), &fake));
    insta::assert_snapshot!(all.join("\n").replace(env!("CARGO_PKG_VERSION"), "X.Y.Z"));
}

#[test]
fn the_exit_codes_are_documented() {
    insta::assert_snapshot!(keadm("keadm help exit-codes", &Fake::default()));
}

#[test]
fn help_of_what_is_not_there_is_a_usage_error() {
    insta::assert_snapshot!(keadm("keadm help frobnicate", &Fake::default()));
}

#[test]
fn a_configuration_that_is_not_yaml_is_told_with_the_line() {
    let fake = Fake::new(|state| {
        let broken = b"modules:\n  edgeHub: [1\n".to_vec();
        state.files.insert("/etc/kubeedge/config/edgecore.yaml".into(), (0o600, broken));
    });
    insta::assert_snapshot!(keadm("keadm config check edgecore", &fake));
    insta::assert_snapshot!("no_such_file", keadm("keadm edgecore --config /x.yaml", &fake));
}

#[test]
fn a_non_root_up_is_told_what_is_missing_in_one_sentence() {
    let fake = Fake::new(|state| state.not_root = true);
    insta::assert_snapshot!(keadm("keadm up --data-dir /nowhere", &fake));
}

/// Every command that is not hidden, with the words that lead to it.
fn walk(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        found.push((path.clone(), sub.clone()));
        walk(sub, &path, found);
    }
}

/// Their output is a file, a page or a screen, or that of the program that they run.
const PRINTS_OR_RUNS: [&str; 16] = [
    "keadm admission",
    "keadm cloudcore",
    "keadm completion",
    "keadm config default",
    "keadm config minimal",
    "keadm control-plane",
    "keadm ctl exec",
    "keadm ctl logs",
    "keadm dashboard",
    "keadm edgecore",
    "keadm help",
    "keadm manifest",
    "keadm mapper",
    "keadm init phase",
    "keadm join phase",
    "keadm upgrade edge phase",
];

/// What changes something.
const CHANGES: [&str; 27] = [
    "keadm backup cloud",
    "keadm backup edge",
    "keadm confirm",
    "keadm cordon",
    "keadm ctl confirm",
    "keadm ctl exec",
    "keadm ctl restart",
    "keadm ctl unhold-upgrade",
    "keadm debug collect",
    "keadm delete",
    "keadm device set",
    "keadm drain",
    "keadm gettoken",
    "keadm gettoken revoke",
    "keadm init",
    "keadm init phase",
    "keadm join",
    "keadm join phase",
    "keadm reset cloud",
    "keadm reset edge",
    "keadm restart",
    "keadm restore cloud",
    "keadm rollback edge",
    "keadm uncordon",
    "keadm up",
    "keadm upgrade edge",
    "keadm upgrade edge phase",
];

/// What cannot be undone.
const DESTROYS: [&str; 7] = [
    "keadm delete",
    "keadm drain",
    "keadm reset cloud",
    "keadm reset edge",
    "keadm restore cloud",
    "keadm rollback edge",
    "keadm upgrade edge",
];

#[test]
fn every_command_keeps_the_rules_that_can_be_checked() {
    let mut root = crate::command();
    root.build();
    let mut all = Vec::new();
    walk(&root, "keadm", &mut all);
    assert!(all.len() > 20);
    for known in PRINTS_OR_RUNS.iter().chain(&CHANGES).chain(&DESTROYS) {
        assert!(all.iter().any(|(path, _)| path == known), "there is no `{known}`");
    }
    let global: Vec<_> = root
        .get_arguments()
        .filter(|a| a.is_global_set())
        .map(|a| a.get_id().to_string())
        .collect();
    for name in ["quiet", "verbose", "log_format", "progress", "color"] {
        assert!(global.iter().any(|id| id == name), "`--{name}` is not for all commands");
    }
    for (path, command) in &all {
        assert!(command.get_about().is_some(), "`{path}` has no help");
        let arguments: Vec<_> = command.get_arguments().filter(|a| !a.is_hide_set()).collect();
        for argument in &arguments {
            let id = argument.get_id();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "`{id}` of `{path}` has no help");
            let stops = help.ends_with('.') && !help.ends_with("..");
            assert!(!stops, "the help of `{id}` of `{path}` ends with a full stop");
            if let Some(variable) = argument.get_env().and_then(|v| v.to_str()) {
                let ours = variable.starts_with("KEADM_") || variable == "KUBECONFIG";
                assert!(ours, "`{variable}` of `{path}` is not named as ours");
                if let (Some(long), Some(rest)) =
                    (argument.get_long(), variable.strip_prefix("KEADM_"))
                {
                    let alike = rest.to_lowercase().replace('_', "-");
                    assert_eq!(alike, long, "`{variable}` of `{path}` is named as no flag is");
                }
            }
        }
        let has = |long: &str| arguments.iter().any(|a| a.get_long() == Some(long));
        // What has no commands below it reports, apart from what prints a file or runs a program.
        if command.get_subcommands().all(clap::Command::is_hide_set)
            && !PRINTS_OR_RUNS.contains(&path.as_str())
        {
            assert!(has("output"), "`{path}` reports and has no `--output`");
            let documented = include_str!("../../../docs/output.md");
            assert!(documented.contains(&format!("`{path}")), "{path} is not in docs/output.md");
        }
        if CHANGES.contains(&path.as_str()) {
            assert!(has("dry-run"), "`{path}` changes something and cannot be tried");
        }
        // Whoever destroys asks, and can be told not to ask.
        if DESTROYS.contains(&path.as_str()) {
            assert!(has("yes") || has("force"), "`{path}` cannot be used in a script");
        }
        let asked = command.get_arguments().filter(|a| a.get_short() == Some('o'));
        for argument in asked {
            assert_eq!(argument.get_long(), Some("output"), "`-o` of `{path}`");
        }
    }
}

#[test]
fn looking_where_nobody_is_says_where_was_looked() {
    let fake = Fake::default();
    for line in
        ["keadm get nods", "keadm get pods node/x", "keadm get events", "keadm get pods -o x"]
    {
        let said = keadm(line, &fake);
        assert!(said.contains("exit code: 2"), "{said}");
    }
    assert!(keadm("keadm get nods", &fake).contains("did you mean `nodes`?"));
    let local = Machine::new(Fake::default()).keadm("keadm get nodes --local");
    assert!(local.contains("exit code: 6") && local.contains("no edgecore runs here"), "{local}");
}

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

/// They go on until they are told to stop, or ask with a limit of their own.
const RUNS_OR_HAS_A_LIMIT: [&str; 4] =
    ["keadm admission", "keadm check", "keadm reset cloud", "keadm reset edge"];

/// What one letter means wherever it stands.
const SHORT: [(char, &[&str]); 7] = [
    ('n', &["namespace"]),
    ('A', &["all-namespaces"]),
    ('o', &["output"]),
    ('w', &["watch", "wait"]),
    ('f', &["follow"]),
    ('q', &["quiet"]),
    ('y', &["yes"]),
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
        }
        let has = |long: &str| {
            let mut names = arguments.iter().flat_map(|a| a.get_long_and_visible_aliases());
            names.any(|names| names.contains(&long))
        };
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
            // Whoever destroys asks, and can be told not to; the others let themselves be told, too.
            assert!(
                has("yes"),
                "`{path}` does not take what scripts say to all that change something"
            );
        } else {
            assert!(!has("dry-run") && !has("yes"), "`{path}` is not said to change something");
        }
        if DESTROYS.contains(&path.as_str()) {
            let help = arguments.iter().find(|a| a.get_short() == Some('y'));
            let help = help.and_then(|a| a.get_help()).map(ToString::to_string);
            assert_eq!(help.as_deref(), Some("Do not ask"), "`{path}` destroys and does not ask");
        }
        // Nothing waits without an end, and how long is the user's to say.
        let talks = has("endpoint") || has("kube-config") || has("node-port");
        if talks && !RUNS_OR_HAS_A_LIMIT.contains(&path.as_str()) {
            assert!(has("request-timeout") || has("timeout"), "`{path}` asks without a limit");
        }
        if has("wait") {
            assert!(has("timeout"), "`{path}` waits without a limit");
        }
        for argument in &arguments {
            let long = argument.get_long().unwrap_or_default();
            if matches!(long, "timeout" | "request-timeout" | "ttl" | "since" | "for")
                && argument.get_value_names().is_some_and(|names| names != ["KIND/NAME"])
            {
                assert_eq!(
                    argument.get_value_names().unwrap(),
                    ["DURATION"],
                    "`--{long}` of `{path}`"
                );
            }
        }
        for (short, long) in SHORT {
            for argument in arguments.iter().filter(|a| a.get_short() == Some(short)) {
                let names = argument.get_long_and_visible_aliases().unwrap_or_default();
                assert!(long.iter().any(|long| names.contains(long)), "`-{short}` of `{path}`");
            }
        }
        let asked = command.get_arguments().filter(|a| a.get_short() == Some('o'));
        for argument in asked {
            assert_eq!(argument.get_long(), Some("output"), "`-o` of `{path}`");
        }
    }
}

/// Flags that a variable sets, whichever command has them ..
const SET: [&str; 19] = [
    "ascii",
    "certificate-authority",
    "cloudcore-ipport",
    "color",
    "context",
    "data-dir",
    "endpoint",
    "kube-config",
    "log-format",
    "namespace",
    "node-port",
    "output",
    "progress",
    "quiet",
    "request-timeout",
    "theme",
    "token",
    "token-file",
    "yes",
];

/// .. but for these.
const NOT_SET: [(&str, &str); 8] = [
    // A token of the cloud, not of Kubernetes.
    ("keadm join", "token-file"),
    ("keadm join phase", "token-file"),
    // They take the kubeconfig that `keadm init` took.
    ("keadm reset cloud", "kube-config"),
    ("keadm reset edge", "kube-config"),
    // The folder of a control plane, not of `keadm up`.
    ("keadm backup cloud", "data-dir"),
    ("keadm control-plane", "data-dir"),
    ("keadm restore cloud", "data-dir"),
    // It says something with `--dry-run` alone.
    ("keadm up", "output"),
];

#[test]
fn every_variable_is_named_as_its_flag_and_documented() {
    let mut root = crate::command();
    root.build();
    let mut all = Vec::new();
    walk(&root, "keadm", &mut all);
    let documented = include_str!("../../../docs/output.md");
    let (mut used, mut left_out) = (std::collections::BTreeSet::new(), 0);
    for (path, command) in &all {
        for argument in command.get_arguments() {
            let longs: Vec<&str> = argument.get_long_and_visible_aliases().unwrap_or_default();
            let variable = argument.get_env().map(|name| name.to_str().unwrap());
            if let Some(known) = longs.iter().find(|long| SET.contains(long)) {
                let left = NOT_SET.contains(&(path, known));
                left_out += usize::from(left);
                assert_eq!(variable.is_none(), left, "`--{known}` of `{path}`: {variable:?}");
            }
            let Some(variable) = variable else { continue };
            used.insert(variable.to_owned());
            let Some(rest) = variable.strip_prefix("KEADM_") else {
                assert_eq!((variable, longs[0]), ("KUBECONFIG", "kube-config"), "of `{path}`");
                continue;
            };
            let alike = rest.to_lowercase().replace('_', "-");
            assert!(longs.contains(&alike.as_str()), "`{variable}` of `{path}` sets {longs:?}");
            // What is written wins: nothing else is ruled out by a variable.
            let against: Vec<_> = command
                .get_arg_conflicts_with(argument)
                .iter()
                .map(|other| other.get_id().to_string())
                .collect();
            assert!(against.is_empty(), "`{variable}` rules out {against:?} of `{path}`");
        }
    }
    assert_eq!(left_out, NOT_SET.len(), "what is left out is there");
    // No more and no fewer than the documentation has, and the program reads.
    let named = |text: &str, before: &str| -> std::collections::BTreeSet<String> {
        let pieces = text.split(before).skip(1);
        let names = pieces.map(|rest| {
            rest.split(|c: char| c != '_' && !c.is_ascii_uppercase()).next().unwrap_or_default()
        });
        names.filter(|name| name.starts_with("KEADM_")).map(str::to_owned).collect()
    };
    let mut ours = used.clone();
    ours.retain(|name| name.starts_with("KEADM_"));
    ours.insert(completions::VARIABLE.to_owned());
    assert_eq!(named(documented, "`"), ours);
    assert!(documented.contains("`KUBECONFIG`"));
    for text in [include_str!("../complete.rs"), include_str!("../fleet.rs")] {
        for name in named(text, "\"") {
            assert!(ours.contains(&name), "`{name}` is read and not documented");
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

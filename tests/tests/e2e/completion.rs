//! Each completion script in its own shell. A shell that is not installed is said aloud.

use std::process::{Command, Stdio};

use tests::keadm::binary;

/// Runs `program` in `shell`, with the folder of the binary in front of the PATH.
fn run(shell: &str, arguments: &[&str], program: &str) -> Option<String> {
    let path = binary();
    let folder = path.parent().unwrap();
    // Shells write down there what was typed.
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(shell)
        .args(arguments)
        .arg(program)
        .env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()))
        .env("KEADM_ROOT", "/nonexistent")
        .env("HOME", home.path())
        .env_remove("KUBECONFIG")
        .env_remove("XDG_STATE_HOME")
        .stdin(Stdio::null())
        .output();
    match output {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            tests::skipped(&format!(
                "{shell} is not installed, its completion script was not loaded"
            ));
            None
        }
        Err(e) => panic!("{shell}: {e}"),
        Ok(output) => {
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{shell}: {}\n{out}\n{err}", output.status);
            assert!(err.trim().is_empty(), "{shell} complains: {err}");
            Some(out.into_owned())
        }
    }
}

#[test]
fn bash_offers_commands_and_kinds() {
    let program = r#"
        source <(keadm completion bash)
        complete -p keadm >/dev/null
        offer() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9; COMPREPLY=()
            _clap_complete_keadm keadm "${@: -1}" "${@: -2:1}"
            echo "${COMPREPLY[@]}"
        }
        offer keadm ge
        offer keadm get no
    "#;
    let Some(out) = run("bash", &["--norc", "-c"], program) else { return };
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("get") && lines[0].contains("gettoken"), "{out}");
    assert!(lines[1].contains("nodes"), "{out}");
}

#[test]
fn fish_offers_commands_and_kinds() {
    let program = "keadm completion fish | source; complete -C 'keadm get no'";
    let Some(out) = run("fish", &["--no-config", "-c"], program) else { return };
    assert!(out.lines().any(|line| line.starts_with("nodes")), "{out}");
}

#[test]
fn zsh_loads_the_script_and_asks_the_program() {
    let program = r#"
        autoload -Uz compinit && compinit -u -D
        source <(keadm completion zsh)
        print -r -- "${_comps[keadm]}"
        KEADM_COMPLETE=zsh _CLAP_COMPLETE_INDEX=2 _CLAP_IFS=$'\n' keadm -- keadm get no
    "#;
    let Some(out) = run("zsh", &["-f", "-c"], program) else { return };
    assert!(out.contains("_clap_dynamic_completer_keadm"), "{out}");
    assert!(out.contains("nodes"), "{out}");
}

#[test]
fn powershell_loads_the_script_where_it_is_installed() {
    let program = r#"
        keadm completion powershell | Out-String | Invoke-Expression
        $lines = 'keadm get no', 'keadm ', 'keadm get ', 'Get-Date; keadm get "nodes" -o ',
            'keadm get $(New-Item ~/ran) no', 'keadm get nodes -o js'
        foreach ($line in $lines) {
            "$line => $((TabExpansion2 $line $line.Length).CompletionMatches.CompletionText)"
        }
        "in the middle => $((TabExpansion2 'keadm get nodes' 8).CompletionMatches.CompletionText)"
        "left: $(Test-Path ~/ran) $env:KEADM_COMPLETE$env:_CLAP_COMPLETE_INDEX"
    "#;
    let Some(out) = run("pwsh", &["-NoProfile", "-Command"], program) else { return };
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "keadm get no => nodes", "{out}");
    assert!(lines[1].starts_with("keadm  => up init join get"), "{out}");
    assert!(lines[2].starts_with("keadm get  => nodes pods devices"), "{out}");
    assert!(
        lines[3].ends_with("=> table wide json jsonl yaml name jsonpath={ custom-columns="),
        "{out}"
    );
    // What is typed is never run.
    assert_eq!(lines[4].trim_end(), "keadm get $(New-Item ~/ran) no =>", "{out}");
    assert!(lines[5].ends_with("=> json jsonl jsonpath={"), "{out}");
    assert_eq!(lines[6], "in the middle => get gettoken", "{out}");
    assert_eq!(lines[7].trim_end(), "left: False", "{out}");
}

/// PowerShell comes from none of the places that this suite installs from. Its grammar says at least
/// whether the script is PowerShell, and the call in it is made as it stands there.
#[test]
fn powershells_grammar_takes_its_script_and_the_call_in_it_is_answered() {
    let script = Command::new(binary()).args(["completion", "powershell"]).output().unwrap();
    let script = String::from_utf8(script.stdout).unwrap();
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
    let mut broken = |text: &str| parser.parse(text, None).unwrap().root_node().has_error();
    assert!(!broken(&script), "{script}");
    for brace in ['{', '}', '('] {
        assert!(broken(&script.replacen(brace, "", 1)), "a missing `{brace}` is not noticed");
    }

    assert!(script.contains("-CommandName keadm "), "{script}");
    assert!(script.contains("$env:KEADM_COMPLETE = 'powershell'"), "{script}");
    assert!(script.contains("& keadm -- @words"), "{script}");
    assert!(!script.contains("Invoke-Expression"), "what is typed would be run: {script}");
    let ask = |index: &str, words: &[&str]| {
        let answer = Command::new(binary())
            .env("KEADM_COMPLETE", "powershell")
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("KEADM_ROOT", "/nonexistent")
            .arg("--")
            .args(words)
            .output()
            .unwrap();
        assert!(answer.status.success() && answer.stderr.is_empty(), "{answer:?}");
        String::from_utf8(answer.stdout).unwrap()
    };
    // A word, a tab and its help a line, which the script splits.
    let offered = |answer: &str| -> Vec<String> {
        answer.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect()
    };
    let answer = ask("2", &["keadm", "completion"]);
    let words = offered(&answer);
    assert!(["bash", "powershell", "zsh"].iter().all(|s| words.iter().any(|w| w == s)), "{answer}");
    assert!(answer.lines().all(|l| l.split('\t').count() <= 2), "{answer}");
    assert_eq!(offered(&ask("2", &["keadm", "get", "no"])), ["nodes"]);
    // What stands behind the cursor does not count, nor does a number that makes no sense.
    assert_eq!(offered(&ask("1", &["keadm", "gett", "list"])), ["gettoken"]);
    assert_eq!(
        offered(&ask("99999999999", &["keadm", "gett"])),
        offered(&ask("2", &["keadm", "gett"]))
    );
    assert_eq!(offered(&ask("x", &["keadm", "gett"])), ["gettoken"]);
}

#[test]
fn elvish_loads_the_script_and_its_completer_offers_kinds() {
    // The editor's variables are there only where somebody types: these stand in for them.
    let program = r#"
        var editor = (ns [&'completion:'=(ns [&arg-completer=[&]])])
        eval (keadm completion elvish | slurp) &ns=(ns [&'edit:'=$editor])
        var offer = $editor[completion:][arg-completer][keadm]
        $offer keadm get no
        $offer keadm ge
    "#;
    let Some(out) = run("elvish", &["-norc", "-c"], program) else { return };
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "nodes", "{out}");
    assert!(lines.contains(&"get") && lines.contains(&"gettoken"), "{out}");
}

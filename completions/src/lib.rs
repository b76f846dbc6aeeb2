//! Shell completions, man pages and the command reference, made from the clap tree.
//!
//! Owns: how they are made; what was made last is checked in under `generated/`.
//! Called by: `keadm completion`, and the test that holds `generated/` fresh.
//! Never: knows a command by name.

mod man;
mod powershell;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use clap::{Arg, Command};
pub use clap_complete::Shell;
pub use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, Elvish, Fish, Shells, Zsh};

/// While this is set, the program answers a shell's question instead of doing its work.
pub const VARIABLE: &str = "KEADM_COMPLETE";

const COMPLETERS: Shells<'static> = Shells(&[&Bash, &Elvish, &Fish, &powershell::PowerShell, &Zsh]);

const SHELLS: [Shell; 5] = [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish];

/// The completion script for a shell: it asks the program itself at each completion, which knows
/// the names of nodes and pods, and its own flags in the version that is installed.
///
/// # Errors
/// Writing to memory does not fail; the renderer's signature says it could.
pub fn script(shell: Shell, command: &Command) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let name = command.get_name();
    if let Some(completer) = COMPLETERS.completer(&shell.to_string()) {
        completer.write_registration(VARIABLE, name, name, name, &mut script)?;
    }
    Ok(script)
}

/// Answers a shell's question and ends the process, if a shell asks; else does nothing.
pub fn answer(command: impl Fn() -> Command) {
    CompleteEnv::with_factory(command).var(VARIABLE).shells(COMPLETERS).complete();
}

/// A man page for the command and one for each of its visible subcommands, by file name. `exits`: what the
/// program ends with, and what that means.
///
/// # Errors
/// Writing to memory does not fail; the renderer's signature says it could.
pub fn man(mut command: Command, exits: &[(u8, &str)]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    command.build();
    let version = command.get_version().unwrap_or_default();
    let source = format!("{} {version}", command.get_name()).trim_end().to_owned();
    let mut pages = BTreeMap::new();
    man::Pages { source, exits }.of(&command, &[], &mut pages)?;
    Ok(pages)
}

/// All commands with their flags, as one Markdown page.
pub fn reference(mut command: Command) -> String {
    command.build();
    let mut text = String::from("# Commands\n\nMade from the program; do not edit.\n");
    reference_into(&command, command.get_name(), &mut text);
    text
}

fn reference_into(command: &Command, path: &str, text: &mut String) {
    let about = command.get_long_about().or_else(|| command.get_about());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n## `{path}`\n");
    if let Some(about) = about {
        let _ = writeln!(text, "{about}\n");
    }
    let shown = |a: &&Arg| !a.is_hide_set() && !matches!(a.get_id().as_str(), "help" | "version");
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(shown)
        .filter(|a| path == command.get_name() || !a.is_global_set())
        .collect();
    if !arguments.is_empty() {
        text.push_str("| Argument | Default | Meaning |\n|---|---|---|\n");
        for argument in arguments {
            let _ = writeln!(text, "{}", row(argument));
        }
    }
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        reference_into(sub, &format!("{path} {}", sub.get_name()), text);
    }
}

fn row(argument: &Arg) -> String {
    let mut name = String::new();
    if let Some(short) = argument.get_short() {
        let _ = write!(name, "-{short}, ");
    }
    let value = argument
        .get_value_names()
        .map(|names| names.iter().map(|n| format!("<{n}>")).collect::<Vec<_>>().join(" "));
    match (argument.get_long(), value) {
        (Some(long), Some(value)) if argument.get_action().takes_values() => {
            let _ = write!(name, "--{long} {value}");
        }
        (Some(long), _) => {
            let _ = write!(name, "--{long}");
        }
        (None, value) => name = name.trim_end_matches(", ").to_owned() + &value.unwrap_or_default(),
    }
    let default: Vec<_> =
        argument.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
    let default = match argument.get_action().takes_values() {
        true if !default.is_empty() => format!("`{}`", default.join(",")),
        _ => String::new(),
    };
    let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|v| !v.is_hide_set())
        .map(|v| format!("`{}`", v.get_name()))
        .collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        let _ = write!(help, " ({})", values.join(", "));
    }
    format!("| `{name}` | {default} | {} |", help.replace('|', "\\|").replace('\n', " "))
}

/// Everything that is checked in, by file name.
///
/// # Errors
/// As [`man`].
pub fn all(command: Command, exits: &[(u8, &str)]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let name = command.get_name().to_owned();
    let mut files = man(command.clone(), exits)?;
    for shell in SHELLS {
        let file = match shell {
            Shell::Zsh => format!("_{name}"),
            Shell::Fish => format!("{name}.fish"),
            Shell::PowerShell => format!("_{name}.ps1"),
            Shell::Elvish => format!("{name}.elv"),
            _ => format!("{name}.bash"),
        };
        files.insert(file, script(shell, &command)?);
    }
    files.insert("reference.md".to_owned(), reference(command).into_bytes());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Command {
        Command::new("prog")
            .disable_help_subcommand(true)
            .arg(Arg::new("node").short('n').long("node").value_name("NAME").help("The node"))
            .subcommand(Command::new("join").about("Join").arg(Arg::new("at").required(true)))
            .subcommand(Command::new("secret").hide(true))
    }

    #[test]
    fn every_shell_gets_a_script_that_asks_the_program() {
        for shell in SHELLS {
            let script = String::from_utf8(script(shell, &tree()).unwrap()).unwrap();
            assert!(script.contains(VARIABLE) && script.contains("prog"), "{shell}: {script}");
        }
    }

    #[test]
    fn a_page_has_examples_variables_exit_codes_and_the_page_above() {
        let node = |arg: Arg| arg.env("PROG_NODE").hide_env(true);
        let tree = tree().version("1.2").mut_arg("node", node);
        let tree = tree.mut_subcommand("join", |join| join.after_help("Example: prog join x -y"));
        let pages = man(tree, &[(0, "fine"), (7, "it took too long")]).unwrap();
        let page = |name: &str| String::from_utf8(pages[name].clone()).unwrap();
        let root = page("prog.1");
        for part in
            ["prog 1.2", ".SH ENVIRONMENT", "PROG_NODE", "\\-\\-node", ".SH \"EXIT STATUS\""]
        {
            assert!(root.contains(part), "{part} is not in {root}");
        }
        assert!(!root.contains("SEE ALSO") && !root.contains("EXAMPLES"), "{root}");
        let join = page("prog-join.1");
        for part in [".SH EXAMPLES", "prog join x \\-y", "it took too long", "\\fBprog\\fR(1)"] {
            assert!(join.contains(part), "{part} is not in {join}");
        }
        assert!(!join.contains("ENVIRONMENT") && !join.contains("EXTRA"), "{join}");
    }

    #[test]
    fn pages_and_reference_leave_out_what_is_hidden() {
        let pages = man(tree(), &[]).unwrap();
        assert_eq!(pages.keys().collect::<Vec<_>>(), ["prog-join.1", "prog.1"]);
        let reference = reference(tree());
        assert!(reference.contains("## `prog join`"), "{reference}");
        assert!(reference.contains("| `-n, --node <NAME>` |  | The node |"), "{reference}");
        assert!(!reference.contains("secret"), "{reference}");
    }
}

//! What the environment has to do with flags, wherever a command has them.
//!
//! Owns: which flags of many commands are set by variables; which flags contradict each other.
//! Called by: `lib.rs`, `cli.rs`.
//! Never: sets anything that is not a flag.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::cli::falsey;

/// Flags that cannot both be written. One of them in the environment is no contradiction: what is
/// written counts.
const EITHER: [(&str, &str); 4] =
    [("local", "endpoint"), ("replay", "endpoint"), ("plain", "output"), ("token-file", "token")];

/// The tree of commands, where `KEADM_OUTPUT` and `KEADM_YES` set the flags of all that have them.
/// Flags of few commands name their variable where they are declared.
pub(crate) fn named(command: Command) -> Command {
    // Its `--output` has a meaning with `--dry-run` alone.
    let up = command.get_name() == "up";
    scripted(command)
        .mut_args(|arg| match arg.get_long() {
            Some("output") if !up => arg.env("KEADM_OUTPUT").hide_env(true),
            _ if is_yes(&arg) => arg.env("KEADM_YES").hide_env(true).value_parser(falsey()),
            _ => arg,
        })
        .mut_subcommands(named)
}

/// What can be tried changes something. Scripts say `--yes` to all of that, whether or not it asks.
fn scripted(command: Command) -> Command {
    let changes = command.get_arguments().any(|arg| arg.get_long() == Some("dry-run"));
    if !changes || command.get_arguments().any(is_yes) {
        return command;
    }
    let help = "Nothing is asked; taken so that scripts can always say it";
    command.arg(Arg::new("yes").short('y').long("yes").action(ArgAction::SetTrue).help(help))
}

fn is_yes(arg: &Arg) -> bool {
    arg.get_long() == Some("yes")
        || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&"yes"))
}

/// What is wrong with flags that are each right.
pub(crate) fn contradiction(matches: &ArgMatches) -> Option<clap::Error> {
    let mut at = matches;
    loop {
        let is = |flag: &str| {
            let id = flag.replace('-', "_");
            let there = at.ids().any(|known| known.as_str() == id);
            there && at.value_source(&id) == Some(ValueSource::CommandLine)
        };
        if let Some((one, other)) = EITHER.iter().find(|(one, other)| is(one) && is(other)) {
            let text = format!("`--{one}` cannot be used with `--{other}`\n");
            return Some(clap::Error::raw(ErrorKind::ArgumentConflict, text));
        }
        at = at.subcommand()?.1;
    }
}

/// The variable that a flag is set by, if it is set now, and to this.
pub(crate) fn comes_from(flag: &str, value: &str) -> Option<String> {
    let flag = flag.trim_start_matches('-');
    let name = flag.split(|c: char| c != '-' && !c.is_ascii_alphanumeric()).next()?;
    let variable = format!("KEADM_{}", name.to_uppercase().replace('-', "_"));
    (std::env::var(&variable).ok()? == value).then_some(variable)
}

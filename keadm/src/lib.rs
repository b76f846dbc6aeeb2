//! keadm: install, join, run, look.
//!
//! Owns: the command line, and nothing else; every command is a file in `commands/`.
//! Called by: `main.rs`, and the tests.
//! Never: is depended on by another crate of ours, apart from the tests.

pub mod checks;
mod cli;
#[cfg(feature = "cloud")]
pub mod cloud;
pub mod commands;
mod complete;
#[cfg(feature = "edge")]
pub mod containers;
pub mod context;
mod environment;
pub mod errors;
pub mod fleet;
pub mod host;
pub mod https;
pub mod made;
#[cfg(feature = "edge")]
pub mod node_api;
#[cfg(feature = "edge")]
mod node_upgrade;
#[cfg(feature = "cloud")]
pub mod objects;
pub mod output;
pub mod phases;
#[cfg(feature = "cloud")]
pub mod pki;
pub mod pod_name;
pub mod printer;
#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches};

pub use cli::Cli;
use context::{Context, Logging, Paths};
use errors::{CommandError, Kind};
use printer::{Manner, Printer};

/// The clap tree, for completions, man pages and tests.
pub fn command() -> clap::Command {
    environment::named(Cli::command())
}

/// The whole program.
pub fn main() -> ExitCode {
    // TLS configurations of libraries look for the process's default; ours name it themselves.
    // It fails only if it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    completions::answer(command);
    let arguments = cli::arguments(std::env::args_os());
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(ending) => return ending,
    };
    let manner =
        Manner::of(cli.global.color, cli.global.progress, cli.global.ascii, cli.global.quiet);
    let printer = Printer::standard(manner);
    let paths = Paths::below(&cli.global.root);
    let context = Context {
        printer: printer.clone(),
        host: Arc::new(host::Linux::new(paths.clone())),
        paths,
        logging: Logging {
            verbose: cli.global.verbosity(),
            json: cli.global.log_format == cli::LogFormat::Json,
        },
    };
    let logs = context.logging.verbose > 0 && !cli.command.logs_by_itself();
    let ready = if logs { commands::log_to_stderr(&context, "").map(drop) } else { Ok(()) };
    let result = ready.and_then(|()| commands::run(&cli.command, &context));
    finish(result, &printer, context.logging.json)
}

fn finish(result: Result<(), CommandError>, printer: &Printer, json: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if e.kind != Kind::BrokenPipe {
                // Whoever reads the log line by line finds its end there, too.
                let text = if json { e.to_json() } else { e.render(printer.manner().colour) };
                printer.shout(text.trim_end());
            }
            ExitCode::from(e.exit_code())
        }
    }
}

fn read(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    match environment::contradiction(&matches) {
        Some(e) => Err(e),
        None => Cli::from_arg_matches(&matches),
    }
}

/// Parses; on a mistake, or when help was asked for, prints and returns the exit code.
fn parse(arguments: Vec<OsString>) -> Result<Cli, ExitCode> {
    read(arguments).map_err(|e| {
        if !e.use_stderr() {
            return match e.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(Kind::BrokenPipe as u8),
            };
        }
        let manner = Manner::of(Default::default(), Default::default(), false, false);
        finish(Err(cli::usage_error(&e)), &Printer::standard(manner), false)
    })
}

//! PowerShell's script, in place of clap's.
//!
//! Clap's has the shell evaluate the line that is being typed, so that a `$(..)` in it runs at the
//! press of Tab; and it hands over the word to come as an empty argument, which PowerShell before
//! 7.3 drops. Here the words go over as they stand, and which of them is meant as a number.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::engine;
use clap_complete::env::EnvCompleter;

/// Which word is to be completed, from 0 for the program's name; where it is one more than the last,
/// a word that is not there yet.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

pub(crate) struct PowerShell;

impl EnvCompleter for PowerShell {
    fn name(&self) -> &'static str {
        "powershell"
    }

    fn is(&self, name: &str) -> bool {
        matches!(name, "pwsh" | "powershell")
    }

    fn write_registration(
        &self,
        variable: &str,
        _name: &str,
        bin: &str,
        completer: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let script = include_str!("powershell.ps1")
            .replace("VARIABLE", variable)
            .replace("INDEX", INDEX)
            .replace("COMPLETER", completer)
            .replace("COMMAND", bin);
        out.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        mut words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let index = std::env::var(INDEX).ok().and_then(|index| index.parse().ok());
        let index = index.unwrap_or(words.len().saturating_sub(1)).min(words.len());
        words.truncate(index + 1);
        if index == words.len() {
            words.push(OsString::new());
        }
        for offer in engine::complete(command, words, index, folder)? {
            write!(out, "{}", offer.get_value().to_string_lossy())?;
            if let Some(help) = offer.get_help() {
                write!(out, "\t{}", help.to_string().lines().next().unwrap_or_default())?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

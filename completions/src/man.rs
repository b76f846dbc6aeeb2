//! Man pages: what `clap_mangen` makes of a command, and what a page has beyond the flags.
//!
//! Owns: the sections EXAMPLES, ENVIRONMENT, EXIT STATUS and SEE ALSO.
//! Called by: `lib.rs`.
//! Never: knows a command, a variable or an exit code by name.

use std::collections::BTreeMap;
use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// What all pages have in common.
pub(crate) struct Pages<'a> {
    /// `prog 1.2.3`
    pub(crate) source: String,
    /// What the program ends with, and what that means.
    pub(crate) exits: &'a [(u8, &'a str)],
}

impl Pages<'_> {
    /// Pages for a command and its visible subcommands. `above`: the names of the pages that lead to it.
    pub(crate) fn of(
        &self,
        command: &Command,
        above: &[&str],
        pages: &mut BTreeMap<String, Vec<u8>>,
    ) -> io::Result<()> {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let shown = command.clone().disable_help_subcommand(true).after_help(None::<&str>);
        let mut page = Vec::new();
        Man::new(shown).title(name).source(&self.source).render(&mut page)?;
        let mut more = Roff::new();
        examples(command, &mut more);
        environment(command, &mut more);
        self.exit_status(&mut more);
        see_also(above, &mut more);
        more.to_writer(&mut page)?;
        pages.insert(format!("{name}.1"), page);
        let above: Vec<&str> = above.iter().copied().chain([name]).collect();
        for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            self.of(sub, &above, pages)?;
        }
        Ok(())
    }

    fn exit_status(&self, roff: &mut Roff) {
        if self.exits.is_empty() {
            return;
        }
        roff.control("SH", ["EXIT STATUS"]);
        for (code, meaning) in self.exits {
            entry(roff, &code.to_string(), meaning);
        }
    }
}

/// A term, and what it means.
fn entry(roff: &mut Roff, term: &str, meaning: &str) {
    roff.control("TP", ["8"]).text([bold(term)]).text([roman(meaning)]);
}

fn examples(command: &Command, roff: &mut Roff) {
    let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) else {
        return;
    };
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in text.to_string().lines() {
        roff.text([roman(line.strip_prefix("Example: ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}

/// The variables that set its flags; a page says so also where the help is too short for it.
fn environment(command: &Command, roff: &mut Roff) {
    let of = |arg: &Arg| {
        let variable = arg.get_env()?.to_str()?.to_owned();
        Some((variable, format!("--{}", arg.get_long()?)))
    };
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let variables: BTreeMap<String, String> = shown.filter_map(of).collect();
    if variables.is_empty() {
        return;
    }
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman("These variables are as good as their flags; a flag that is written wins.")]);
    for (variable, flag) in variables {
        roff.control("TP", []).text([bold(variable)]).text([roman(flag)]);
    }
}

fn see_also(above: &[&str], roff: &mut Roff) {
    if above.is_empty() {
        return;
    }
    roff.control("SH", ["SEE ALSO"]);
    for (n, name) in above.iter().rev().enumerate() {
        let end = if n + 1 == above.len() { "(1)" } else { "(1)," };
        roff.text([bold(*name), roman(end)]);
    }
}

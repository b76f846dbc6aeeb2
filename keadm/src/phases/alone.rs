//! All phases of a command, or one of them alone: what the command line says.
//!
//! Owns: the subcommand `phase`, which `init`, `join` and `upgrade edge` have.
//! Called by: those. Never: runs a phase.

use std::fmt::Debug;

use super::{Phase, Selection};
use crate::commands::JsonOutput;
use crate::errors::CommandError;
use crate::printer::Printer;

/// Running phases alone.
#[derive(clap::Subcommand, Debug)]
pub enum Alone<F: clap::Args + Debug> {
    /// Run one phase; without a name, list them
    Phase {
        /// The phase
        name: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs, reason = "documented at its type")]
        flags: Box<F>,
    },
}

/// What is chosen by flags, whichever the command.
pub trait PhaseFlags {
    /// The phases to leave out; `whole` if not one is run alone.
    fn skipped(&self, whole: bool) -> Vec<String>;
    /// The form of the list of phases.
    fn output(&self) -> Option<JsonOutput>;
}

/// What is asked for.
#[derive(Debug)]
pub struct Asked<'f, F> {
    /// The flags that count.
    pub flags: &'f F,
    /// Neither one phase alone nor their list.
    pub whole: bool,
    /// The one.
    name: Option<&'f str>,
}

impl<'f, F: PhaseFlags + clap::Args + Debug> Asked<'f, F> {
    /// From the arguments: the flags behind `phase` count, if that is there.
    pub fn of(flags: &'f F, alone: Option<&'f Alone<F>>) -> Self {
        match alone {
            None => Self { flags, whole: true, name: None },
            Some(Alone::Phase { name, flags }) => {
                Self { flags, whole: false, name: name.as_deref() }
            }
        }
    }

    /// The phases to run; none if they were asked for, and have been printed.
    ///
    /// # Errors
    /// When a name is not one of them, or standard output is gone.
    pub fn choose<'p, S>(
        &self,
        all: &'p [Phase<S>],
        printer: &Printer,
    ) -> Result<Option<Vec<&'p Phase<S>>>, CommandError> {
        if !self.whole && self.name.is_none() {
            super::list(all, self.flags.output(), printer)?;
            return Ok(None);
        }
        let only = self.name.map(str::to_owned);
        Selection { only, skip: self.flags.skipped(self.whole) }.of(all).map(Some)
    }
}

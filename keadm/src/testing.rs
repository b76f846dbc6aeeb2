//! What tests of commands share: a context over a fake machine, and what was printed.

use std::io::Write;
use std::sync::Arc;

use camino::Utf8Path;
use parking_lot::Mutex;

use crate::context::{Context, Logging, Paths};
use crate::errors::CommandError;
use crate::host::fake::Fake;
use crate::printer::{Manner, Printer, ProgressChoice};

#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const MANNER: Manner = Manner {
    colour: false,
    ascii: false,
    quiet: false,
    progress: ProgressChoice::None,
    terminal: false,
};

pub(crate) fn context(fake: &Fake) -> Context {
    capturing(fake).0
}

pub(crate) fn capturing(fake: &Fake) -> (Context, Captured, Captured) {
    let (out, err) = (Captured::default(), Captured::default());
    let context = Context {
        printer: Printer::new(MANNER, Box::new(out.clone()), Box::new(err.clone())),
        host: Arc::new(fake.clone()),
        paths: Paths::below(Utf8Path::new("/")),
        logging: Logging::default(),
    };
    (context, out, err)
}

/// Runs a command line on a fake machine: exit code, standard output, standard error.
pub(crate) fn keadm(line: &str, fake: &Fake) -> String {
    use clap::FromArgMatches;
    let (context, out, err) = capturing(fake);
    let result = crate::command()
        .try_get_matches_from(line.split(' '))
        .and_then(|m| crate::Cli::from_arg_matches(&m))
        .map_err(|e| crate::cli::usage_error(&e))
        .and_then(|cli| crate::commands::run(&cli.command, &context));
    transcript(line, &result, &out, &err)
}

pub(crate) fn transcript(
    line: &str,
    result: &Result<(), CommandError>,
    out: &Captured,
    err: &Captured,
) -> String {
    let code = result.as_ref().map_or_else(|e| e.kind as u8, |()| 0);
    let said = result.as_ref().err().map(|e| e.render(false)).unwrap_or_default();
    let mut text = format!("$ {line}\nexit code: {code}\n");
    for (name, stream) in [("out", out.text()), ("err", err.text() + &said)] {
        if !stream.is_empty() {
            text.push_str(&format!("--- {name}\n{}\n", stream.trim_end()));
        }
    }
    text
}

//! Standard output is data, standard error is talk.
//!
//! Owns: both streams, and the decision about colour, symbols and quiet.
//! Called by: every command.
//! Never: decides what is said.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use indicatif::ProgressBar;
use parking_lot::Mutex;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How the steps of a command are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProgressChoice {
    /// A moving line on a terminal, plain lines otherwise.
    #[default]
    Auto,
    /// One line per step when it ends.
    Plain,
    /// One JSON object per event, on standard output.
    Jsonl,
    /// Nothing.
    None,
}

/// How this process talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Colour on standard error.
    pub colour: bool,
    /// Colour on standard output: never in a pipe, unless it was asked for.
    pub data_colour: bool,
    /// `ok FAIL warn` instead of `✔ ✖ !`.
    pub ascii: bool,
    /// No talk, only data and errors.
    pub quiet: bool,
    /// How steps are shown; never `Auto`.
    pub progress: ProgressChoice,
    /// Lines may be redrawn in place.
    pub terminal: bool,
    /// The width of the terminal that standard output is, if it is one.
    pub columns: Option<u16>,
}

impl Manner {
    /// From the flags and from what standard error is.
    pub fn of(colour: ColourChoice, progress: ProgressChoice, ascii: bool, quiet: bool) -> Self {
        let capable = std::env::var_os("TERM").is_some_and(|t| t != "dumb");
        let terminal = io::stderr().is_terminal() && capable;
        let wanted = |terminal: bool| match colour {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        let progress = match progress {
            _ if quiet && progress != ProgressChoice::Jsonl => ProgressChoice::None,
            ProgressChoice::Auto if !terminal => ProgressChoice::Plain,
            other => other,
        };
        let data_terminal = io::stdout().is_terminal();
        Self {
            colour: wanted(terminal),
            data_colour: wanted(data_terminal && capable),
            ascii: ascii || !utf8_locale(),
            quiet,
            progress,
            terminal,
            columns: data_terminal.then(|| comfy_table::Table::new().width()).flatten(),
        }
    }
}

/// Whether the locale can show more than ASCII, by the usual variables in the usual order.
fn utf8_locale() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
        .unwrap_or_default()
        .to_lowercase();
    // Unset is what services, containers and minimal machines have; their terminals show UTF-8.
    locale.is_empty() || locale.contains("utf-8") || locale.contains("utf8")
}

/// What a line is about; shown as a symbol and a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is as it should be.
    Ok,
    /// It is not.
    Fail,
    /// It works, but somebody should look at it.
    Warn,
    /// It was left out.
    Skip,
}

impl Mark {
    /// The symbol or word.
    pub fn text(self, ascii: bool) -> &'static str {
        match (self, ascii) {
            (Self::Ok, false) => "✔",
            (Self::Fail, false) => "✖",
            (Self::Warn, false) => "!",
            (Self::Skip, false) => "-",
            (Self::Ok, true) => "ok  ",
            (Self::Fail, true) => "FAIL",
            (Self::Warn, true) => "warn",
            (Self::Skip, true) => "skip",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Fail => "31",
            Self::Warn => "33",
            Self::Skip => "2",
        }
    }
}

/// Writes to the two streams. Cheap to clone.
#[derive(Clone)]
pub struct Printer {
    manner: Manner,
    streams: Arc<Mutex<Streams>>,
}

struct Streams {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// The line that is being redrawn; it makes room for other lines.
    moving: Option<ProgressBar>,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("manner", &self.manner).finish_non_exhaustive()
    }
}

impl Printer {
    /// To this process's own streams.
    pub fn standard(manner: Manner) -> Self {
        Self::new(manner, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// To these.
    pub fn new(manner: Manner, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { manner, streams: Arc::new(Mutex::new(Streams { out, err, moving: None })) }
    }

    /// How this process talks.
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// Data: a line on standard output.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn data(&self, line: impl AsRef<str>) -> io::Result<()> {
        let mut streams = self.streams.lock();
        streams.out.write_all(line.as_ref().as_bytes())?;
        streams.out.write_all(b"\n")?;
        streams.out.flush()
    }

    /// A result in words: data, but for whoever reads the events of `--progress jsonl` there.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn result(&self, line: impl AsRef<str>) -> io::Result<()> {
        match self.manner.progress {
            ProgressChoice::Jsonl => Ok(()),
            _ => self.data(line),
        }
    }

    /// Data as it is: bytes on standard output.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut streams = self.streams.lock();
        streams.out.write_all(bytes)?;
        streams.out.flush()
    }

    /// Data of somebody else's standard error: bytes on ours.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn error_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut streams = self.streams.lock();
        streams.err.write_all(bytes)?;
        streams.err.flush()
    }

    /// Talk: a line on standard error, unless quiet. Nobody listening is no reason to stop.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.manner.quiet {
            self.shout(line);
        }
    }

    /// Talk that `--quiet` does not silence: warnings, errors, questions.
    pub fn shout(&self, line: impl AsRef<str>) {
        let mut streams = self.streams.lock();
        let moving = streams.moving.clone();
        let mut write = || {
            let _ = streams.err.write_all(line.as_ref().as_bytes());
            let _ = streams.err.write_all(b"\n");
            let _ = streams.err.flush();
        };
        match moving {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Says which line is being redrawn from now on.
    pub(crate) fn redrawing(&self, bar: Option<ProgressBar>) {
        self.streams.lock().moving = bar;
    }

    /// A question; the cursor stays behind it.
    pub fn ask(&self, question: &str) {
        let mut streams = self.streams.lock();
        let _ = streams.err.write_all(question.as_bytes());
        let _ = streams.err.flush();
    }

    /// A warning that the user can act on.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.shout(format!("{} {}", self.paint("1;33", "warning:"), message.as_ref()));
    }

    /// The symbol of `mark` for [`Self::say`], coloured if there is colour.
    pub fn mark(&self, mark: Mark) -> String {
        self.paint(mark.colour(), mark.text(self.manner.ascii))
    }

    /// `word` in an ANSI colour for [`Self::say`], if there is colour.
    pub fn paint(&self, code: &str, word: &str) -> String {
        painted(self.manner.colour, code, word)
    }

    /// The symbol of `mark` for [`Self::data`], which may be in a pipe where talk is not.
    pub fn data_mark(&self, mark: Mark) -> String {
        self.data_paint(mark.colour(), mark.text(self.manner.ascii))
    }

    /// `word` in an ANSI colour for [`Self::data`].
    pub fn data_paint(&self, code: &str, word: &str) -> String {
        painted(self.manner.data_colour, code, word)
    }

    /// A JSON document on standard output; on one line among the events of `--progress jsonl`.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        let text = match self.manner.progress {
            ProgressChoice::Jsonl => serde_json::to_string(value),
            _ => serde_json::to_string_pretty(value),
        };
        self.data(text.map_err(io::Error::other)?)
    }
}

fn painted(colour: bool, code: &str, word: &str) -> String {
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn talk_on_a_terminal_does_not_colour_the_data_in_a_pipe() {
        let manner = Manner {
            colour: true,
            data_colour: false,
            ..Manner::of(ColourChoice::Never, ProgressChoice::None, false, false)
        };
        let printer = Printer::new(manner, Box::new(io::sink()), Box::new(io::sink()));
        assert!(printer.mark(Mark::Ok).contains('\x1b'));
        assert!(!printer.data_mark(Mark::Ok).contains('\x1b'));
        assert_eq!(printer.data_paint("1", "edge"), "edge");
    }
}

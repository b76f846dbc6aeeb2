//! What lies over a screen, what the user is writing or asked about, and the line at the foot.

use std::collections::VecDeque;

use api::status::row::{Millis, RowKey};

/// Lines of a log that are kept.
const LOG_LINES: usize = 20_000;
/// Bytes of them: lines may be long.
const LOG_BYTES: usize = 8 << 20;

/// What lies over the screen.
#[derive(Debug, Clone)]
pub enum Layer {
    /// Everything about one row.
    Detail {
        /// Which.
        key: RowKey,
        /// Lines scrolled down.
        scroll: usize,
    },
    /// An object as YAML.
    Yaml {
        /// The request.
        id: u64,
        /// Of what.
        title: String,
        /// The text, once it is there; or why not.
        text: Option<Result<String, String>>,
        /// Lines scrolled down.
        scroll: usize,
    },
    /// A log.
    Logs(Logs),
    /// The keys.
    Help {
        /// Lines scrolled down.
        scroll: usize,
    },
}

/// A log on the screen.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    /// The request.
    pub id: u64,
    /// Of what.
    pub title: String,
    /// The newest lines, fit for a terminal.
    pub lines: VecDeque<String>,
    /// The bytes of these.
    pub bytes: usize,
    /// Lines that were let go.
    pub dropped: u64,
    /// Why it ended, if it did; empty for a clean end.
    pub ended: Option<String>,
    /// Stay at the end.
    pub follow: bool,
    /// First line shown, when not following.
    pub top: usize,
    /// First column shown.
    pub left: usize,
    /// The line that the search has found.
    pub hit: Option<usize>,
    /// What is searched for.
    pub search: String,
}

impl Logs {
    /// Adds lines; keeps the newest.
    pub fn push(&mut self, lines: Vec<String>) {
        for line in lines {
            let line = crate::rows::clean(&line);
            self.bytes += line.len();
            self.lines.push_back(line);
            // The newest stays, however long it is.
            while self.lines.len() > LOG_LINES || (self.bytes > LOG_BYTES && self.lines.len() > 1) {
                self.let_go();
            }
        }
    }

    /// The oldest line goes.
    fn let_go(&mut self) {
        let oldest = self.lines.pop_front();
        self.bytes -= oldest.map_or(0, |line| line.len());
        self.dropped += 1;
        self.top = self.top.saturating_sub(1);
        self.hit = self.hit.and_then(|hit| hit.checked_sub(1));
    }
}

/// A line that the user is writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What for.
    pub purpose: Purpose,
    /// What is there so far.
    pub text: String,
}

/// What a line is written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// `/`: rows that contain it.
    Filter,
    /// `:`: go somewhere, do something.
    Command,
    /// A search in a log.
    Search,
    /// `property=value`: a desired value.
    Desired {
        /// Of which device.
        device: RowKey,
    },
}

/// Something to do that needs a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// What will happen, in words.
    pub question: String,
    /// The command that would do the same.
    pub command: String,
    /// What to ask of the server.
    pub request: api::status::stream::Request,
}

/// A line at the foot of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The line.
    pub text: String,
    /// Whether something failed.
    pub failed: bool,
    /// When, on our clock.
    pub at: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_many_or_of_long_lines_takes_no_more_memory_than_it_may() {
        let mut log = Logs { hit: Some(3), top: 5, ..Logs::default() };
        for _ in 0..10 {
            log.push(vec![String::from("short"); 5000]);
        }
        assert_eq!((log.lines.len(), log.dropped), (LOG_LINES, 30_000));
        assert_eq!((log.hit, log.top), (None, 0));
        // As long as a line can come.
        for n in 0..2000 {
            log.push(vec![format!("{n} {}", "x".repeat(16 << 10))]);
            assert!(log.bytes <= LOG_BYTES);
        }
        assert_eq!(log.lines.iter().map(String::len).sum::<usize>(), log.bytes);
        assert_eq!(log.lines.len() as u64 + log.dropped, 52_000);
        assert!(log.lines.back().is_some_and(|line| line.starts_with("1999 ")));
    }
}

//! Text from others, made fit to be shown.
//!
//! Owns: which characters may reach a terminal or a log as they are.
//! Called by: every error that repeats what a peer or a file said.
//! Never: changes what is stored or sent.

use std::fmt::{self, Write as _};

/// Prints text without the characters that a terminal would obey: control characters and those
/// that turn the direction of writing are escaped. Longer text than `limit` characters is cut.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a> {
    text: &'a str,
    limit: usize,
}

/// At most `limit` characters of `text`.
pub fn printable(text: &str, limit: usize) -> Printable<'_> {
    Printable { text, limit }
}

/// Whether a terminal would do something other than show it.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.text.chars();
        for c in chars.by_ref().take(self.limit) {
            if is_obeyed(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        if chars.next().is_some() { f.write_str("..") } else { Ok(()) }
    }
}

/// As much of a text as fits into so many cells, with `more` if that is not all; `more` is one cell wide.
pub fn fitted(text: &str, width: usize, more: &str) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let cells = c.width().unwrap_or(0);
        let fits = cells <= left;
        left = left.saturating_sub(cells);
        fits
    };
    let mut part: String = text.chars().take_while(fits).collect();
    if width > 0 {
        part.push_str(more);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_the_rest_is_not() {
        let text = "web-0 \"ü\" \\ 网\u{1b}[2J\n\u{7f}\u{9b}\u{202e}";
        assert_eq!(
            printable(text, 99).to_string(),
            "web-0 \"ü\" \\ 网\\u{1b}[2J\\u{a}\\u{7f}\\u{9b}\\u{202e}"
        );
    }

    #[test]
    fn long_text_is_cut_and_marked() {
        assert_eq!(printable("abcdef", 3).to_string(), "abc..");
        assert_eq!(printable("abc", 3).to_string(), "abc");
    }
}

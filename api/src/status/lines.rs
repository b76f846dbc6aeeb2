//! The lines of a log, from bytes as they come. Pure.
//!
//! Owns: how long a line may be; what is longer is cut, and never held as a whole.
//! Called by: whoever answers a request for a log.
//! Never: takes a log for text: what is no UTF-8 is replaced.

/// A line has at most so many bytes: 16 KiB.
const LINE: usize = 16 << 10;

/// Lines, of which the last is perhaps not yet whole.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    cut: u64,
}

impl Lines {
    /// Takes in more bytes; the lines that they end.
    pub fn push(&mut self, piece: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = piece;
        // Of a long line most pieces have no end, and that is soon known.
        while rest.contains(&b'\n')
            && let Some(end) = rest.iter().position(|b| *b == b'\n')
        {
            self.take_in(&rest[..end]);
            found.push(self.line());
            rest = &rest[end + 1..];
        }
        self.take_in(rest);
        found
    }

    /// The end of the log: what is left, if anything is.
    pub fn end(&mut self) -> Option<String> {
        (!self.bytes.is_empty()).then(|| self.line())
    }

    fn take_in(&mut self, more: &[u8]) {
        let fits = more.len().min(LINE - self.bytes.len());
        self.bytes.extend_from_slice(&more[..fits]);
        self.cut += (more.len() - fits) as u64;
    }

    /// The line as text, and an empty one begins.
    fn line(&mut self) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        let mut text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        let cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            text.push_str(&format!(" [{cut} more bytes of this line are left out]"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all: Vec<String> =
            pieces.into_iter().flat_map(|piece| lines.push(&piece)).collect();
        all.extend(lines.end());
        all
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let pieces = ["one\ntw", "o\r\n", "\n", "bad \u{1b}[2J", " \u{e4}"];
        let mut pieces: Vec<Vec<u8>> = pieces.iter().map(|p| p.as_bytes().to_vec()).collect();
        pieces.push(vec![0xff, b'!']);
        assert_eq!(told(pieces), ["one", "two", "", "bad \u{1b}[2J \u{e4}\u{fffd}!"]);
    }

    #[test]
    fn a_huge_line_is_cut_and_what_follows_is_not_lost() {
        let mut pieces = vec![vec![b'x'; 1 << 20]; 64];
        pieces.push(b"\nafter\n".to_vec());
        let lines = told(pieces);
        assert_eq!(lines[1], "after");
        let left_out = (64 << 20) - LINE;
        assert!(lines[0].ends_with(&format!(" [{left_out} more bytes of this line are left out]")));
        assert!(lines[0].len() < LINE + 100);
    }
}

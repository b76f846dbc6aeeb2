//! The lines of a log, from bytes as they come. Pure.
//!
//! Owns: how long a line may be; what is longer comes in parts, and is never held as a whole.
//! Called by: whoever answers a request for a log.
//! Never: takes a log for text: what is no UTF-8 is replaced.

/// What is told as one line has at most so many bytes: 16 KiB.
const PART: usize = 16 << 10;
/// Of one line so many bytes are told, in parts: 1 MiB. Nobody reads further on a screen, and whoever opened
/// a log on a bad line waits for what comes after.
const WHOLE: usize = 64 * PART;
/// The end of a part that is not the last.
const GOES_ON: &str = " [goes on]";

/// Lines, of which the last is perhaps not yet whole.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Bytes of this line that were told already.
    told: usize,
    left_out: u64,
}

impl Lines {
    /// Takes in more bytes; the lines, and parts of lines, that they end.
    pub fn push(&mut self, piece: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = piece;
        // Of a long line most pieces have no end, and that is soon known.
        while rest.contains(&b'\n')
            && let Some(end) = rest.iter().position(|b| *b == b'\n')
        {
            self.take_in(&rest[..end], &mut found);
            found.push(self.line());
            rest = &rest[end + 1..];
        }
        self.take_in(rest, &mut found);
        found
    }

    /// The end of the log: what is left, if anything is.
    pub fn end(&mut self) -> Option<String> {
        (!self.bytes.is_empty()).then(|| self.line())
    }

    fn take_in(&mut self, more: &[u8], found: &mut Vec<String>) {
        let room = WHOLE - self.told - self.bytes.len();
        let (mut fits, beyond) = more.split_at(more.len().min(room));
        self.left_out += beyond.len() as u64;
        while self.bytes.len() + fits.len() > PART {
            let (now, later) = fits.split_at(PART - self.bytes.len());
            self.bytes.extend_from_slice(now);
            fits = later;
            let rest = self.bytes.split_off(whole_characters(&self.bytes));
            let part = std::mem::replace(&mut self.bytes, rest);
            self.told += part.len();
            found.push(String::from_utf8_lossy(&part).into_owned() + GOES_ON);
        }
        self.bytes.extend_from_slice(fits);
    }

    /// The line as text, or its last part, and an empty one begins.
    fn line(&mut self) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        let mut text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        self.told = 0;
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            text.push_str(&format!(
                " [{left_out} more bytes of this line are left out; `kubectl logs` has them]"
            ));
        }
        text
    }
}

/// How many of the bytes are no beginning of a character. Pure.
fn whole_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let begins = bytes[from..].iter().rposition(|byte| *byte >= 0xc0).map(|at| from + at);
    match begins {
        Some(at) if at + bytes[at].leading_ones() as usize > bytes.len() => at,
        _ => bytes.len(),
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
    fn a_long_line_comes_in_parts_and_nothing_of_it_is_lost() {
        // A character of three bytes lies on every border.
        let long = format!("x{}", "\u{7f51}".repeat(20_000));
        for size in [1, 7, 4096, 1 << 20] {
            let bytes = format!("before\n{long}\r\nafter\n").into_bytes();
            let lines = told(bytes.chunks(size).map(<[u8]>::to_vec));
            assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("before", "after"));
            let parts = &lines[1..lines.len() - 1];
            assert_eq!(parts.len(), 4);
            assert!(parts.iter().all(|part| part.len() <= PART + GOES_ON.len()));
            let (last, others) = parts.split_last().unwrap();
            let others = others.iter().map(|part| part.strip_suffix(GOES_ON).unwrap());
            assert!(others.chain([last.as_str()]).collect::<String>() == long);
        }
        let exactly = "y".repeat(PART);
        assert_eq!(told([format!("{exactly}\n").into_bytes()]), [exactly]);
    }

    #[test]
    fn of_a_huge_line_the_rest_is_left_out_and_what_follows_is_not() {
        let mut pieces = vec![vec![b'x'; 1 << 20]; 64];
        pieces.push(b"\nafter\n".to_vec());
        let lines = told(pieces);
        assert_eq!(lines.len(), 65);
        assert!(lines.iter().all(|line| line.len() < PART + 100));
        let left_out = (64 << 20) - WHOLE;
        let said =
            format!(" [{left_out} more bytes of this line are left out; `kubectl logs` has them]");
        assert!(lines[63].ends_with(&said));
        assert_eq!(lines[64], "after");
    }
}

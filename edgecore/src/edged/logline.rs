//! The lines of a container's log, as the runtime writes them: `TIME STREAM TAGS TEXT`.
//!
//! Owns: the format, and where a line begins that the runtime has written in parts.
//! Called by: `logread.rs`.
//! Never: holds a line; whatever has come of one is passed on at once.

use std::io::{self, Read, Seek, SeekFrom};

use jiff::Timestamp;

const PIECE: usize = 16 << 10;
/// What stands before the text is shorter.
const LONGEST_HEAD: usize = 256;

/// Which lines are shown, and how.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// With the time before each line.
    pub(super) timestamps: bool,
    /// Only what is not older.
    pub(super) since: Option<Timestamp>,
}

/// Turns what a log file has into what is shown, however it is cut into pieces.
#[derive(Debug)]
pub(super) struct Lines {
    wanted: Wanted,
    place: Place,
    head: Vec<u8>,
    /// Of each stream, whether the line is shown that still has to be ended.
    open: [Option<bool>; 2],
    /// Lines that are none of a log.
    pub(super) strange: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Text { shown: bool, ends: bool },
}

/// What stands before the text of a line, or of a part of one.
struct Head<'a> {
    time: &'a str,
    stream: usize,
    /// Another part follows.
    partial: bool,
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |b| *b == b' ');
        let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next()?;
        let stream = [&b"stdout"[..], b"stderr"].iter().position(|name| *name == stream)?;
        let partial = tags.split(|b| *b == b':').any(|tag| tag == b"P");
        Some(Self { time: std::str::from_utf8(time).ok()?, stream, partial })
    }
}

impl Lines {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, place: Place::Head, head: Vec::new(), open: [None; 2], strange: 0 }
    }

    /// Appends to `out` what is shown of the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Head => self.head(bytes, out),
                Place::Text { shown, ends } => {
                    // Of a long line most pieces have no end, and that is soon known.
                    let ends_here = bytes.contains(&b'\n');
                    let end = ends_here.then(|| bytes.iter().position(|b| *b == b'\n')).flatten();
                    let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    if shown {
                        out.extend_from_slice(text);
                    }
                    if end.is_none() {
                        return;
                    }
                    if shown && ends {
                        out.push(b'\n');
                    }
                    self.place = Place::Head;
                    &rest[1..]
                }
            };
        }
    }

    /// The file has ended, and another one follows: a line that broke off is ended.
    pub(super) fn cut(&mut self, out: &mut Vec<u8>) {
        if self.place != Place::Head || !self.head.is_empty() {
            self.push(b"\n", out);
        }
    }

    /// What of `bytes` is not part of the head.
    fn head<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        for (i, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' {
                self.strange += u64::from(!self.head.is_empty());
                self.head.clear();
                continue;
            }
            self.head.push(*byte);
            let whole = *byte == b' ' && self.head.iter().filter(|b| **b == b' ').count() == 3;
            if whole || self.head.len() == LONGEST_HEAD {
                let head = std::mem::take(&mut self.head);
                self.place = self.begin(&head, out);
                self.head = head;
                self.head.clear();
                return &bytes[i + 1..];
            }
        }
        &[]
    }

    fn begin(&mut self, head: &[u8], out: &mut Vec<u8>) -> Place {
        let Some(Head { time, stream, partial }) = Head::read(head) else {
            self.strange += 1;
            return Place::Text { shown: false, ends: false };
        };
        let begun = self.open[stream];
        // Of a line in parts the time of the first one counts.
        let shown = begun.unwrap_or_else(|| {
            let since = self.wanted.since;
            since.is_none_or(|since| time.parse::<Timestamp>().is_ok_and(|time| time >= since))
        });
        self.open[stream] = partial.then_some(shown);
        if shown && begun.is_none() && self.wanted.timestamps {
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
        Place::Text { shown, ends: !partial }
    }
}

/// Where the last `lines` lines begin; the parts of one are one line.
pub(super) fn tail_start(file: &mut (impl Read + Seek), lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let (mut at, mut found) = (end, 0);
    // Where the line or part begins that was passed last; the text at its beginning.
    let mut later: Option<u64> = None;
    let mut piece: Vec<u8> = Vec::with_capacity(PIECE + LONGEST_HEAD);
    while at > 0 {
        let size = usize::try_from(at).unwrap_or(PIECE).min(PIECE);
        at -= size as u64;
        // What followed may be the rest of a head that begins in this piece.
        piece.truncate(LONGEST_HEAD);
        piece.splice(..0, std::iter::repeat_n(0, size));
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut piece[..size])?;
        if !piece[..size].contains(&b'\n') {
            continue;
        }
        for i in (0..size).rev() {
            let position = at + i as u64;
            // The line feed at the very end closes the last line.
            if piece[i] != b'\n' || position + 1 == end {
                continue;
            }
            let head = &piece[i + 1..piece.len().min(i + 1 + LONGEST_HEAD)];
            if let Some(later) = later
                && !Head::read(head).is_some_and(|head| head.partial)
            {
                found += 1;
                if found == lines {
                    return Ok(later);
                }
            }
            later = Some(position + 1);
        }
    }
    let first = &piece[..piece.len().min(LONGEST_HEAD)];
    match later {
        Some(later) if !Head::read(first).is_some_and(|head| head.partial) => {
            Ok(if found + 1 == lines { later } else { 0 })
        }
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(log: &[u8], wanted: Wanted) -> String {
        let mut out = Vec::new();
        Lines::new(wanted).push(log, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_parts_of_a_line_are_one_line_with_one_time() {
        let log = b"2026-11-22T00:00:01Z stdout P on\n\
            2026-11-22T00:00:02Z stdout P:x \n\
            2026-11-22T00:00:03Z stdout F e\n\
            2026-11-22T00:00:04Z stderr F two\n";
        let wanted = Wanted { timestamps: true, since: None };
        let text = "2026-11-22T00:00:01Z one\n2026-11-22T00:00:04Z two\n";
        assert_eq!(shown(log, wanted), text);
        // It is as old as its beginning.
        let since = Some("2026-11-22T00:00:02Z".parse().unwrap());
        assert_eq!(shown(log, Wanted { timestamps: false, since }), "two\n");
    }

    #[test]
    fn what_is_no_line_of_a_log_is_counted_and_hides_no_other() {
        let log =
            b"nonsense\n\n2026-11-22T00:00:01Z stdx F a b c\n2026-11-22T00:00:01Z stdout F a\n";
        let mut lines = Lines::new(Wanted::default());
        let mut out = Vec::new();
        lines.push(&[b'x'; 10 * LONGEST_HEAD], &mut out);
        lines.push(b"\n", &mut out);
        lines.push(log, &mut out);
        assert_eq!((out.as_slice(), lines.strange), (&b"a\n"[..], 3));
        assert!(lines.head.capacity() <= LONGEST_HEAD);
    }

    #[test]
    fn a_line_that_breaks_off_with_its_file_does_not_swallow_the_next_one() {
        for broken in ["2026-11-22T00:00:01Z stdout F ha", "2026-11-22T00:00:01Z std"] {
            let mut lines = Lines::new(Wanted::default());
            let mut out = Vec::new();
            lines.push(broken.as_bytes(), &mut out);
            lines.cut(&mut out);
            lines.cut(&mut out);
            lines.push(b"2026-11-22T00:00:02Z stdout F next\n", &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text == "ha\nnext\n" || text == "next\n", "{text}");
        }
    }

    fn logs() -> impl Strategy<Value = Vec<(bool, String)>> {
        // Now and then longer than what is read at one time.
        let long = (16_370usize..16_400).prop_map(|n| "a b".repeat(n / 3));
        let text = prop_oneof![4 => "[ -~]{0,40}", 1 => long];
        proptest::collection::vec((any::<bool>(), text), 0..12)
    }

    proptest! {
        #[test]
        fn however_a_log_is_cut_every_byte_of_every_line_is_shown(
            parts in logs(), piece in 1usize..70_000,
        ) {
            let (mut log, mut text) = (String::new(), String::new());
            for (partial, part) in &parts {
                let tag = if *partial { 'P' } else { 'F' };
                log.push_str(&format!("2026-11-22T00:00:01.5Z stdout {tag} {part}\n"));
                text.push_str(part);
                text.push_str(if *partial { "" } else { "\n" });
            }
            let (mut lines, mut out) = (Lines::new(Wanted::default()), Vec::new());
            for piece in log.as_bytes().chunks(piece) {
                lines.push(piece, &mut out);
            }
            prop_assert_eq!(String::from_utf8(out).unwrap(), text);
        }

        #[test]
        fn the_last_lines_are_whole_lines(parts in logs(), wanted in 0u64..14) {
            // Each text is told from the others by its number.
            let (mut log, mut lines, mut open) = (String::new(), Vec::<String>::new(), false);
            for (i, (partial, part)) in parts.iter().enumerate() {
                let tag = if *partial { 'P' } else { 'F' };
                log.push_str(&format!("2026-11-22T00:00:01.5Z stderr {tag} {i}{part}\n"));
                if !open {
                    lines.push(String::new());
                }
                let line = lines.last_mut().unwrap();
                line.push_str(&format!("{i}{part}"));
                line.push_str(if *partial { "" } else { "\n" });
                open = *partial;
            }
            let start = tail_start(&mut io::Cursor::new(log.as_bytes()), wanted).unwrap();
            let from = lines.len().saturating_sub(usize::try_from(wanted).unwrap());
            let rest = &log.as_bytes()[usize::try_from(start).unwrap()..];
            prop_assert_eq!(shown(rest, Wanted::default()), lines[from..].concat());
        }
    }
}

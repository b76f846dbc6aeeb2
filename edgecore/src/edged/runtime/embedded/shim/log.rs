//! The container's log file in the CRI format.
//!
//! Owns: the split into lines, the format, the file.
//! Called by: `shim/container.rs`.
//! Never: holds up a container: if the disk is full, lines are lost and counted.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// A line longer than this is written in parts.
const MAX_LINE: usize = 16 * 1024;

/// One of a container's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Turns what a stream brings into log lines; keeps what is not a whole line yet.
#[derive(Debug)]
pub(super) struct LineCutter {
    stream: Stream,
    pending: Vec<u8>,
}

impl LineCutter {
    pub(super) fn new(stream: Stream) -> Self {
        LineCutter { stream, pending: Vec::new() }
    }

    /// Appends to `out` the log lines that `bytes` complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = window.iter().position(|b| *b == b'\n') {
                self.line(&bytes[..end], b'F', now, out);
                bytes = &bytes[end + 1..];
            } else if window.len() == room && bytes.get(room) != Some(&b'\n') {
                self.line(window, b'P', now, out);
                bytes = &bytes[room..];
            } else if window.len() == room {
                // The line is as long as a part may be, and ends just here.
                self.line(window, b'F', now, out);
                bytes = &bytes[room + 1..];
            } else {
                self.pending.extend_from_slice(window);
                bytes = &bytes[window.len()..];
            }
        }
    }

    /// The stream has ended: what has no line feed is a line nevertheless.
    pub(super) fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.line(&[], b'F', now, out);
        }
    }

    fn line(&mut self, rest: &[u8], tag: u8, now: Timestamp, out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = write!(out, "{now:.9} {} ", self.stream.name());
        out.push(tag);
        out.push(b' ');
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(rest);
        out.push(b'\n');
        self.pending.clear();
    }
}

/// The file, opened anew on request.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    lost: u64,
}

impl LogFile {
    /// An empty path means that nothing is kept.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut log = LogFile { path: path.to_owned(), file: None, lost: 0 };
        log.reopen()?;
        Ok(log)
    }

    pub(super) fn reopen(&mut self) -> std::io::Result<()> {
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        self.file = Some(file);
        Ok(())
    }

    pub(super) fn write(&mut self, lines: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if self.lost > 0 {
            let now = Timestamp::now();
            let lost = self.lost;
            // The line that was written last may have broken off anywhere.
            let note =
                format!("\n{now:.9} stderr F [keadm: {lost} bytes of log could not be written]\n");
            if file.write_all(note.as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        if file.write_all(lines).is_err() {
            self.lost += lines.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&[u8]]) -> String {
        let mut cutter = LineCutter::new(Stream::Stdout);
        let mut out = Vec::new();
        let now = Timestamp::from_nanosecond(1_466_000_000_123_456_700).unwrap();
        for piece in pieces {
            cutter.push(piece, now, &mut out);
        }
        cutter.finish(now, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_time_stream_tag_and_text() {
        assert_eq!(
            cut(&[b"one\ntw", b"o\n\nend"]),
            "2016-06-15T14:13:20.123456700Z stdout F one\n\
             2016-06-15T14:13:20.123456700Z stdout F two\n\
             2016-06-15T14:13:20.123456700Z stdout F \n\
             2016-06-15T14:13:20.123456700Z stdout F end\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_into_parts_and_a_full_end() {
        let long = vec![b'x'; 2 * MAX_LINE + 5];
        let text = cut(&[&long, b"\n"]);
        let tags: Vec<&str> = text.lines().map(|l| l.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "P", "F"]);
        let exact = cut(&[&vec![b'x'; MAX_LINE], b"\nnext\n"]);
        assert_eq!(exact.lines().count(), 2 + usize::from(exact.contains(" P ")));
    }

    #[test]
    fn a_line_without_an_end_is_written_as_it_comes_and_never_held() {
        // As the pipe brings it: 64 MiB.
        let piece = vec![b'x'; 16 << 10];
        let mut cutter = LineCutter::new(Stream::Stdout);
        let now = Timestamp::UNIX_EPOCH;
        let (mut written, mut out) = (0, Vec::new());
        for _ in 0..4 << 10 {
            cutter.push(&piece, now, &mut out);
            written += out.len();
            out.clear();
            assert!(cutter.pending.capacity() <= MAX_LINE && out.capacity() <= 4 * MAX_LINE);
        }
        assert!(written >= 64 << 20);
        cutter.push(b"\nafter\n", now, &mut out);
        assert!(out.ends_with(b" stdout F after\n"));
    }

    #[test]
    fn a_reopened_log_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pods/a/0.log");
        let mut log = LogFile::open(&path).unwrap();
        log.write(b"one\n");
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        log.write(b"two\n");
        log.reopen().unwrap();
        log.write(b"three\n");
        assert_eq!(std::fs::read_to_string(path.with_extension("old")).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn what_a_full_disk_cost_is_told_on_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path).unwrap();
        log.write(b"2026-11-22T00:00:01Z stdo");
        log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        log.write(b"2026-11-22T00:00:02Z stdout F lost\n");
        log.reopen().unwrap();
        log.write(b"2026-11-22T00:00:03Z stdout F next\n");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].ends_with(" stderr F [keadm: 35 bytes of log could not be written]"));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_however_the_stream_is_cut(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a')], 0..400),
            cuts in proptest::collection::vec(1usize..50, 0..20),
        ) {
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest: &[u8] = &text;
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let out = cut(&pieces);
            let mut back = String::new();
            for line in out.lines() {
                let mut parts = line.splitn(4, ' ');
                let tag = parts.nth(2).unwrap();
                back.push_str(parts.next().unwrap());
                if tag == "F" { back.push('\n'); }
            }
            let mut want = String::from_utf8(text).unwrap();
            if !want.is_empty() && !want.ends_with('\n') { want.push('\n'); }
            prop_assert_eq!(back, want);
        }
    }
}

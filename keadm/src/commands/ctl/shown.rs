//! What a container says, as it is shown: bytes in a pipe, harmless lines on a terminal.
//!
//! Owns: the line that is not whole yet. Called by: `logs.rs`, `exec.rs`.
//! Never: lets a log command a terminal.

use crate::context::Context;
use crate::errors::CommandError;

/// Bytes as they are in a pipe; on a terminal no line may command it.
pub(super) struct Shown<'c> {
    cx: &'c Context,
    to: To,
    terminal: bool,
    held: Vec<u8>,
}

#[derive(Clone, Copy)]
enum To {
    Output,
    Errors,
}

/// A longer line is shown in pieces.
const LINE: usize = 16 << 10;

impl<'c> Shown<'c> {
    pub(super) fn new(cx: &'c Context) -> Self {
        let terminal = cx.printer.manner().columns.is_some();
        Self { cx, to: To::Output, terminal, held: Vec::new() }
    }

    /// The same for what is said on standard error.
    pub(super) fn errors(cx: &'c Context) -> Self {
        let terminal = cx.printer.manner().terminal;
        Self { cx, to: To::Errors, terminal, held: Vec::new() }
    }

    /// A terminal of the command's own, which it may command.
    pub(super) fn raw(cx: &'c Context) -> Self {
        Self { terminal: false, ..Self::new(cx) }
    }

    pub(super) fn add(&mut self, piece: &[u8]) -> Result<(), CommandError> {
        if !self.terminal {
            return self.put(piece);
        }
        self.held.extend_from_slice(piece);
        while let Some(end) = self.held.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.held.drain(..=end).collect();
            self.line(&line[..end], true)?;
        }
        if self.held.len() > LINE {
            let piece = std::mem::take(&mut self.held);
            self.line(&piece, false)?;
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), CommandError> {
        let rest = std::mem::take(&mut self.held);
        if rest.is_empty() { Ok(()) } else { self.line(&rest, true) }
    }

    fn line(&self, line: &[u8], whole: bool) -> Result<(), CommandError> {
        let text = String::from_utf8_lossy(line);
        let mut text = api::printable::printable(&text, usize::MAX).to_string();
        if whole {
            text.push('\n');
        }
        self.put(text.as_bytes())
    }

    fn put(&self, bytes: &[u8]) -> Result<(), CommandError> {
        match self.to {
            To::Output => Ok(self.cx.printer.bytes(bytes)?),
            To::Errors => Ok(self.cx.printer.error_bytes(bytes)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn a_log_goes_as_it_is_into_a_pipe_and_without_commands_to_a_terminal() {
        let (cx, out, _) = crate::testing::capturing(&Fake::default());
        let raw = b"a\x1b[31mb\n\xffhalf";
        let mut shown = Shown::new(&cx);
        shown.add(raw).unwrap();
        shown.end().unwrap();
        assert_eq!(out.bytes(), raw);
        let (cx, out, _) = crate::testing::capturing(&Fake::default());
        let mut shown = Shown { terminal: true, ..Shown::new(&cx) };
        shown.add(b"a\x1b[31mb\nha").unwrap();
        shown.add(b"lf").unwrap();
        shown.end().unwrap();
        let text = out.text();
        assert!(!text.contains('\x1b') && text.ends_with("half\n"), "{text:?}");
    }

    #[test]
    fn a_line_without_an_end_is_shown_as_it_comes_and_never_held() {
        let (cx, _, _) = crate::testing::capturing(&Fake::default());
        let mut shown = Shown { terminal: true, ..Shown::new(&cx) };
        let piece = vec![b'x'; 10 << 10];
        for _ in 0..1000 {
            shown.add(&piece).unwrap();
            assert!(shown.held.len() <= LINE);
        }
    }
}

//! A recording of the stream: one JSON line a message, with the time it came.
//!
//! `{"at":<ms since the recording began>,"message":<the message as it came>}`

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use api::status::stream::{MAX_UPDATE, ToReader};
use serde::{Deserialize, Serialize};

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since the recording began.
    pub at: u64,
    /// The message.
    pub message: ToReader,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the recording")]
    Io(#[from] io::Error),
    /// A line is not of a recording.
    #[error("line {line} is not of a recording of the status stream")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A line is larger than any message may be.
    #[error("line {line} is larger than {} MiB", MAX_UPDATE >> 20)]
    TooLong {
        /// Its number, from 1.
        line: usize,
    },
    /// There is nothing in it.
    #[error("the recording is empty")]
    Empty,
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder {
    file: File,
}

impl Recorder {
    /// Creates the file; an existing one is replaced.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)? })
    }

    /// Adds a message.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, at: u64, message: &ToReader) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Line { at, message: message.clone() })?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

/// Reads a recording as a whole. A last line that was cut off is left out.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path) -> Result<Vec<Line>, ReadError> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut lines = Vec::new();
    let mut buffer = Vec::new();
    for line in 1.. {
        buffer.clear();
        let limit = MAX_UPDATE as u64 + 1024;
        let n = io::Read::take(&mut reader, limit).read_until(b'\n', &mut buffer)?;
        if n == 0 {
            break;
        }
        if buffer.last() != Some(&b'\n') {
            if n as u64 == limit {
                return Err(ReadError::TooLong { line });
            }
            break;
        }
        lines.push(
            serde_json::from_slice(&buffer).map_err(|source| ReadError::Line { line, source })?,
        );
    }
    if lines.is_empty() { Err(ReadError::Empty) } else { Ok(lines) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::status::stream::{Hello, VERSION};

    #[test]
    fn what_was_recorded_is_read_and_a_cut_off_line_is_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hello = ToReader::Hello(Hello { version: VERSION, ..Hello::default() });
        let mut recorder = Recorder::create(file.path()).unwrap();
        recorder.write(0, &hello).unwrap();
        recorder.write(40, &hello).unwrap();
        recorder.file.write_all(br#"{"at":80,"mess"#).unwrap();
        let lines = read(file.path()).unwrap();
        assert_eq!(lines.iter().map(|l| l.at).collect::<Vec<_>>(), [0, 40]);
    }

    #[test]
    fn what_is_no_recording_is_named_by_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        assert_eq!(
            read(file.path()).unwrap_err().to_string(),
            "line 1 is not of a recording of the status stream"
        );
        std::fs::write(file.path(), "").unwrap();
        assert!(matches!(read(file.path()), Err(ReadError::Empty)));
    }
}

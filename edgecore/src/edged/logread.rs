//! Reading a container's log as `kubectl logs` wants it.
//!
//! Owns: the meaning of the query's options, and the way from one file to the next.
//! Called by: `server.rs`. Never: holds more of a log in memory than one piece.

use std::future::Future;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::logline::{Lines, Wanted, tail_start};

/// What is read, and told, at one time.
const PIECE: usize = 32 << 10;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The same of a log that is about to be begun.
const SOON: Duration = Duration::from_millis(20);

/// What of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Go on as it grows.
    pub(crate) follow: bool,
    /// Of the container before this one.
    pub(crate) previous: bool,
    /// With the time before each line.
    pub(crate) timestamps: bool,
    /// Only the last lines.
    pub(crate) tail: Option<u64>,
    /// Only what is not older.
    pub(crate) since: Option<Timestamp>,
    /// Only so many bytes.
    pub(crate) limit: Option<u64>,
}

impl LogOptions {
    /// From a query such as `follow=true&tailLines=10`.
    ///
    /// # Errors
    /// What is wrong with which option.
    pub(crate) fn parse(query: &str, now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        for (key, value) in form(query) {
            let bad = || format!("`{key}={value}` cannot be understood");
            let flag = || match value.as_str() {
                "" | "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(bad()),
            };
            let number = || value.parse::<u64>().map_err(|_| bad());
            match key.as_str() {
                "follow" => options.follow = flag()?,
                "previous" => options.previous = flag()?,
                "timestamps" => options.timestamps = flag()?,
                "tailLines" if value != "all" => options.tail = Some(number()?),
                "limitBytes" => options.limit = Some(number()?),
                "sinceTime" => options.since = Some(value.parse().map_err(|_| bad())?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).map_err(|_| bad())?;
                    let back = jiff::SignedDuration::from_secs(seconds);
                    options.since = Some(now.checked_sub(back).unwrap_or(Timestamp::MIN));
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The pairs of a query, decoded.
pub(crate) fn form(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (percent_decoded(k), percent_decoded(v)))
        .collect()
}

/// `%2F` as `/` and `+` as a space.
pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'%')
            .then(|| text.get(i + 1..i + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (code, bytes[i]) {
            (Some(b), _) => {
                out.push(b);
                i += 2;
            }
            (None, b'+') => out.push(b' '),
            (None, b) => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether a log is there, or comes in time: a container begins it when it starts.
pub(crate) async fn comes(path: &Path, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while !path.exists() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(SOON).await;
    }
    true
}

/// The file that a log is in now.
struct Current {
    path: PathBuf,
    reader: BufReader<File>,
    /// Another one has its name.
    replaced: bool,
}

impl Current {
    async fn open(path: PathBuf, start: u64) -> io::Result<Self> {
        let mut file = File::open(&path).await?;
        file.seek(SeekFrom::Start(start)).await?;
        Ok(Self { path, reader: BufReader::with_capacity(PIECE, file), replaced: false })
    }

    /// At the end of the file: whether the log goes on in another one, which is open then.
    ///
    /// The runtime writes to the old one until it opens the new one: what came in between is read
    /// first.
    async fn rotated(&mut self) -> io::Result<bool> {
        if self.replaced {
            *self = Self::open(std::mem::take(&mut self.path), 0).await?;
            return Ok(true);
        }
        self.replaced = self.is_replaced().await;
        Ok(false)
    }

    async fn is_replaced(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (self.reader.get_ref().metadata().await, tokio::fs::metadata(&self.path).await) {
            (Ok(open), Ok(named)) => open.ino() != named.ino(),
            _ => false,
        }
    }
}

/// Sends the log in pieces until its end, or with `follow` until `running` says no and all is
/// read. A reader that left ends it too.
pub(crate) async fn stream<F: Future<Output = bool>>(
    path: PathBuf,
    options: LogOptions,
    to: mpsc::Sender<Bytes>,
    running: impl Fn() -> F,
) -> io::Result<()> {
    let mut start = 0;
    if let Some(lines) = options.tail {
        let path = path.clone();
        let found =
            tokio::task::spawn_blocking(move || tail_start(&mut std::fs::File::open(path)?, lines));
        start = found.await.map_err(io::Error::other)??;
    }
    let mut current = Current::open(path, start).await?;
    let wanted = Wanted { timestamps: options.timestamps, since: options.since };
    let mut lines = Lines::new(wanted);
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut last_look = false;
    while left > 0 {
        let mut text = Vec::new();
        let piece = current.reader.fill_buf().await?;
        let read = piece.len();
        lines.push(piece, &mut text);
        current.reader.consume(read);
        if read == 0 {
            if !options.follow || last_look {
                break;
            }
            if current.rotated().await? {
                lines.cut(&mut text);
            } else if !current.replaced {
                last_look = !running().await;
                tokio::select! {
                    () = to.closed() => break,
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        }
        text.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= text.len() as u64;
        if !text.is_empty() && to.send(text.into()).await.is_err() {
            break;
        }
    }
    if lines.strange > 0 {
        let (log, lines) = (current.path.display(), lines.strange);
        tracing::warn!(%log, lines, "not all lines of a container's log are in the format of the CRI");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-22T00:00:01Z stdout F one\n\
        2026-11-22T00:00:02Z stderr P tw\n\
        2026-11-22T00:00:02Z stderr F o\n\
        2026-11-22T00:00:03.5Z stdout F three\n";

    async fn read(query: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let now = "2026-11-22T00:00:04Z".parse().unwrap();
        let options = LogOptions::parse(query, now).unwrap();
        let (tx, mut rx) = mpsc::channel(64);
        stream(path, options, tx, || std::future::ready(false)).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = rx.recv().await {
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn a_log_is_shown_as_asked_for() {
        assert_eq!(read("").await, "one\ntwo\nthree\n");
        assert_eq!(read("tailLines=1").await, "three\n");
        assert_eq!(read("tailLines=0").await, "");
        assert_eq!(read("tailLines=100").await, "one\ntwo\nthree\n");
        assert_eq!(read("timestamps=true&tailLines=1").await, "2026-11-22T00:00:03.5Z three\n");
        assert_eq!(read("sinceTime=2026-11-22T00%3A00%3A03Z").await, "three\n");
        assert_eq!(read("sinceSeconds=2").await, "two\nthree\n");
        assert_eq!(read("limitBytes=5").await, "one\nt");
        assert_eq!(read("follow=true").await, "one\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn a_line_of_any_length_is_read_in_pieces_and_not_a_byte_of_it_is_lost() {
        use std::io::{Seek as _, Write as _};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        // A hole of 64 MiB: it reads as zeros and takes no room.
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "2026-11-22T00:00:01Z stdout F ").unwrap();
        let begun = file.stream_position().unwrap();
        file.seek(SeekFrom::Start(begun + (64 << 20))).unwrap();
        write!(file, "\n2026-11-22T00:00:02Z stdout F after\n").unwrap();
        let (tx, mut rx) = mpsc::channel(1);
        let options = LogOptions::default();
        let reading = tokio::spawn(stream(path, options, tx, || std::future::ready(false)));
        let (mut zeros, mut rest) = (0_u64, Vec::new());
        while let Some(piece) = rx.recv().await {
            assert!(piece.len() <= PIECE);
            let of_line = piece.iter().take_while(|b| **b == 0).count();
            zeros += of_line as u64;
            rest.extend_from_slice(&piece[of_line..]);
        }
        assert_eq!((zeros, rest.as_slice()), (64 << 20, &b"\nafter\n"[..]));
        reading.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_about_to_be_begun_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (path, limit) = (dir.path().join("0.log"), Duration::from_secs(2));
        assert!(!comes(&path, Duration::ZERO).await);
        assert!(!comes(&path, limit).await);
        let begun = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            std::fs::write(&path, LOG).unwrap();
        };
        assert!(tokio::join!(comes(&path, limit), begun).0);
        assert!(comes(&path, Duration::ZERO).await);
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        let now = Timestamp::UNIX_EPOCH;
        for bad in ["tailLines=-1", "follow=maybe", "sinceTime=yesterday", "limitBytes=x"] {
            let why = LogOptions::parse(bad, now).unwrap_err();
            assert!(why.contains(bad), "{why}");
        }
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_over_its_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let line = |text: &str| format!("2026-11-22T00:00:01Z stdout F {text}\n");
        std::fs::write(&path, line("old")).unwrap();
        let (tx, mut rx) = mpsc::channel(1);
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let reading = tokio::spawn(stream(path.clone(), options, tx, || std::future::ready(true)));
        assert_eq!(rx.recv().await.unwrap(), "old\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, line("new")).unwrap();
        assert_eq!(rx.recv().await.unwrap(), "new\n");
        drop(rx);
        reading.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_came_before_a_rotation_was_seen_is_read_first() {
        use std::io::Write as _;
        use tokio::io::AsyncReadExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut old = std::fs::File::create(&path).unwrap();
        write!(old, "one ").unwrap();
        let mut current = Current::open(path.clone(), 0).await.unwrap();
        let mut text = String::new();
        current.reader.read_to_string(&mut text).await.unwrap();
        assert!(!current.rotated().await.unwrap());
        write!(old, "two ").unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "three").unwrap();
        while !current.rotated().await.unwrap() {
            current.reader.read_to_string(&mut text).await.unwrap();
        }
        current.reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "one two three");
    }
}

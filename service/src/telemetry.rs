//! What the process says about itself: `tracing` to standard error or to a file of limited size.
//!
//! Owns: the one global subscriber, and the handle that changes its filter while it runs.
//! Called by: `keadm`, before anything else is started.
//! Never: writes to standard output, which is for data.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// The target of the lines with which a message says that it moved on to another task:
/// `trace!(target: HOP, msg = %id, at = "edgehub.outbox")`. Tests count them.
pub const HOP: &str = "hop";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Output {
    /// Standard error.
    #[default]
    Stderr,
    /// A file that only the owner can read; at 10 MiB it becomes `NAME.1` and a new one is begun.
    File(PathBuf),
}

/// How to log.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How a line looks.
    pub format: Format,
    /// Where it goes.
    pub output: Output,
    /// Which lines: the directives of `tracing_subscriber::EnvFilter`, for example `info` or
    /// `info,edgecore=debug`. Empty: `info`.
    pub filter: String,
    /// Colour; used only if the output is a terminal.
    pub colour: bool,
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives do not parse.
    #[error("`{filter}` is not a log filter: {reason}; an example is `info,edgecore=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log file cannot be opened.
    #[error("cannot write the log file `{}`", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Logging was set up before, or has ended.
    #[error("logging is already set up in this process")]
    Twice,
}

/// Reads and changes the filter of the running process.
#[derive(Clone)]
pub struct LogLevel {
    current: Arc<Mutex<String>>,
    reload: Arc<dyn Fn(EnvFilter) -> Result<(), TelemetryError> + Send + Sync>,
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLevel").field(&*self.current.lock()).finish()
    }
}

impl LogLevel {
    /// The directives in force.
    pub fn get(&self) -> String {
        self.current.lock().clone()
    }

    /// Replaces them.
    ///
    /// # Errors
    /// When they do not parse; the old ones stay in force.
    pub fn set(&self, filter: &str) -> Result<(), TelemetryError> {
        (self.reload)(parse_filter(filter)?)?;
        filter.trim().clone_into(&mut self.current.lock());
        Ok(())
    }
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let filter = filter.trim();
    let directives = if filter.is_empty() { "info" } else { filter };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|e| TelemetryError::Filter { filter: filter.to_owned(), reason: e.to_string() })
}

/// Sets logging up for the whole process. Call it once.
///
/// # Errors
/// When the filter does not parse, the file cannot be opened, or logging was set up before.
pub fn install(options: &Options) -> Result<LogLevel, TelemetryError> {
    let colour = options.colour && options.output == Output::Stderr && io::stderr().is_terminal();
    let writer = match &options.output {
        Output::Stderr => Writer::Stderr,
        Output::File(path) => Writer::File(Arc::new(Mutex::new(LimitedFile::open(path)?))),
    };
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match options.format {
        Format::Text => {
            Box::new(tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(writer))
        }
        Format::Json => Box::new(
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer),
        ),
    };
    let (filter, handle) = reload::Layer::new(parse_filter(&options.filter)?);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    let text = if options.filter.trim().is_empty() { "info" } else { options.filter.trim() };
    Ok(LogLevel {
        current: Arc::new(Mutex::new(text.to_owned())),
        reload: Arc::new(move |f| handle.reload(f).map_err(|_| TelemetryError::Twice)),
    })
}

#[derive(Clone)]
enum Writer {
    Stderr,
    File(Arc<Mutex<LimitedFile>>),
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(self.clone())
    }
}

struct LineWriter(Writer);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Writer::Stderr => io::stderr().lock().write(line),
            Writer::File(file) => file.lock().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.0 {
            Writer::Stderr => io::stderr().lock().flush(),
            Writer::File(file) => file.lock().file.flush(),
        }
    }
}

const LOG_FILE_LIMIT: u64 = 10 << 20;

struct LimitedFile {
    path: PathBuf,
    file: std::fs::File,
    size: u64,
    limit: u64,
}

impl LimitedFile {
    fn open(path: &Path) -> Result<Self, TelemetryError> {
        let failed = |source| TelemetryError::File { path: path.to_owned(), source };
        let file = append(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file, size, limit: LOG_FILE_LIMIT })
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        std::fs::rename(&self.path, older)?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + line.len() as u64 > self.limit {
            self.begin_anew()?;
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }
}

fn append(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let e = parse_filter("edgecore=loud").unwrap_err();
        assert!(e.to_string().starts_with("`edgecore=loud` is not a log filter"), "{e}");
        parse_filter("").unwrap();
        parse_filter("info,hop=trace").unwrap();
    }

    #[test]
    fn a_log_file_is_private_and_never_grows_past_its_limit() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keadm.log");
        let mut file = LimitedFile::open(&path).unwrap();
        file.limit = 100;
        for _ in 0..10 {
            file.write(&[b'x'; 40]).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 80);
        assert_eq!(std::fs::metadata(dir.path().join("keadm.log.1")).unwrap().len(), 80);
        // A process that starts again counts what is there.
        assert_eq!(LimitedFile::open(&path).unwrap().size, 80);
    }
}

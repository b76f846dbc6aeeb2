//! What a command returns when it does not succeed, and the table of exit codes.
//!
//! Owns: the kinds of failure; each is one exit code, and they never change their meaning.
//! Called by: every command; `main.rs` turns the result into text and a code.
//! Never: prints.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

/// What went wrong, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The operation failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Something that was checked is not healthy.
    Unhealthy = 3,
    /// What was asked for does not exist.
    NotFound = 4,
    /// A permission, a certificate or a token is missing or wrong.
    Refused = 5,
    /// Nobody answers.
    Unreachable = 6,
    /// It took too long.
    TimedOut = 7,
    /// It exists already, or somebody else holds it.
    Conflict = 8,
    /// It cannot be done on this machine or with this build.
    Unsupported = 9,
    /// Nodes are not healthy, and nothing else that was checked is not.
    UnhealthyNodes = 31,
    /// The same of pods.
    UnhealthyPods = 32,
    /// The same of devices.
    UnhealthyDevices = 33,
    /// The same of certificates.
    UnhealthyCertificates = 34,
    /// Ctrl-C.
    Interrupted = 130,
    /// Whoever read our output has gone; nothing is said about it.
    BrokenPipe = 141,
}

/// The table that `keadm help exit-codes` prints.
pub const EXIT_CODES: [(u8, &str); 15] = [
    (0, "fine"),
    (Kind::Failed as u8, "the operation failed"),
    (Kind::Usage as u8, "the command line makes no sense"),
    (Kind::Unhealthy as u8, "something that was checked is not healthy"),
    (Kind::NotFound as u8, "what was asked for does not exist"),
    (Kind::Refused as u8, "a permission, a certificate or a token is missing or wrong"),
    (Kind::Unreachable as u8, "nobody answers"),
    (Kind::TimedOut as u8, "it took too long"),
    (Kind::Conflict as u8, "it exists already, or somebody else holds it"),
    (Kind::Unsupported as u8, "it cannot be done on this machine or with this build"),
    (Kind::UnhealthyNodes as u8, "`keadm status`: nodes are not healthy, all else is"),
    (Kind::UnhealthyPods as u8, "`keadm status`: pods are not healthy, all else is"),
    (Kind::UnhealthyDevices as u8, "`keadm status`: devices are not healthy, all else is"),
    (Kind::UnhealthyCertificates as u8, "`keadm status`: certificates expire, all else is healthy"),
    (Kind::Interrupted as u8, "interrupted with Ctrl-C"),
];

/// A failure with its cause and what to do next.
#[derive(Debug)]
pub struct CommandError {
    /// Decides the exit code.
    pub kind: Kind,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    code: Option<u8>,
}

impl CommandError {
    /// A failure that names the thing: a lower-case fragment with things in backticks.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new(), code: None }
    }

    /// A command in a container has ended with this code, which is passed on.
    pub fn ended(code: u8) -> Self {
        let text = format!("the command ended with exit code {code}");
        Self { code: Some(code), ..Self::new(Kind::Failed, text) }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        self.code.unwrap_or(self.kind as u8)
    }

    /// Adds a cause, in words.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds an error and its causes. A cause that only repeats the one before is left out.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            let last = self.causes.last().unwrap_or(&self.message);
            if !last.contains(&text) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// Adds what to do next, best a command to paste.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }

    /// The first line, without causes and hints.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What to do next.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The line on standard error with `--log-format json`.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "level": "ERROR", "message": self.message, "causes": self.causes, "hints": self.hints,
            "exitCode": self.exit_code(),
        })
        .to_string()
    }

    /// The text on standard error. `red` and `bold` wrap words when there is colour.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, word: &str| {
            if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
        };
        let mut text = format!("{} {}\n", paint("1;31", "error:"), self.message);
        for cause in &self.causes {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {} {cause}", paint("2", "caused by:"));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "{} {hint}", paint("1;36", "hint:"));
        }
        text
    }
}

/// A failure to write our own output.
impl From<io::Error> for CommandError {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::BrokenPipe, "the reader has gone"),
            _ => Self::new(Kind::Failed, "cannot write the output").caused_by(&e),
        }
    }
}

/// Which exit code an I/O error on a file or socket deserves.
pub fn kind_of(e: &io::Error) -> Kind {
    match e.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Refused,
        io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists => Kind::Conflict,
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Kind::Unreachable,
        io::ErrorKind::TimedOut => Kind::TimedOut,
        _ => Kind::Failed,
    }
}

/// A file that cannot be read or written, with the hint that its error calls for.
pub fn file_error(doing: &str, path: &camino::Utf8Path, e: &io::Error) -> CommandError {
    let error = CommandError::new(kind_of(e), format!("cannot {doing} `{path}`")).caused_by(e);
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            error.hint(format!("free some space: `df -h {path}` shows how full the disk is"))
        }
        io::ErrorKind::PermissionDenied => error.hint("run it as root"),
        io::ErrorKind::ReadOnlyFilesystem => {
            error.hint("the file system is mounted read-only; `mount -o remount,rw` changes that")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let e = CommandError::new(
            Kind::Refused,
            "cannot join `edge-7` to the cloud at `10.0.4.2:10000`",
        )
        .because("the certificate service at `https://10.0.4.2:10002` refused the token")
        .hint("run `keadm gettoken` on the cloud side for a new one");
        assert_eq!(
            e.render(false),
            "error: cannot join `edge-7` to the cloud at `10.0.4.2:10000`\n  caused by: the \
             certificate service at `https://10.0.4.2:10002` refused the token\nhint: run `keadm \
             gettoken` on the cloud side for a new one\n"
        );
    }

    #[test]
    fn in_a_log_of_json_an_error_is_one_line_of_it() {
        let e = CommandError::new(Kind::TimedOut, "it takes too long").because("x\ny").hint("wait");
        let line = e.to_json();
        assert!(!line.contains('\n'), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((value["exitCode"].as_u64(), value["level"].as_str()), (Some(7), Some("ERROR")));
    }

    #[test]
    fn every_kind_but_the_silent_one_is_in_the_table_once() {
        use Kind::*;
        for kind in [
            Failed,
            Usage,
            Unhealthy,
            NotFound,
            Refused,
            Unreachable,
            TimedOut,
            Conflict,
            Unsupported,
            UnhealthyNodes,
            UnhealthyPods,
            UnhealthyDevices,
            UnhealthyCertificates,
            Interrupted,
        ] {
            assert_eq!(EXIT_CODES.iter().filter(|(code, _)| *code == kind as u8).count(), 1);
        }
    }

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let e = file_error("write", "/etc/x".into(), &io::Error::from(io::ErrorKind::StorageFull));
        assert!(e.render(false).contains("hint: free some space"), "{}", e.render(false));
    }
}

//! Services: a systemd unit where systemd is, else a background process that restarts the program.
//!
//! Owns: the unit text, the pid file and its lock.
//! Called by: `linux.rs`.
//! Never: runs a shell.

pub(super) mod background;
pub(super) mod systemd;

pub use background::supervise;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// A program that is to run always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// For example `edgecore`.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// The program and its arguments. No secrets: everybody can read them.
    pub command: Vec<String>,
    /// Names of services that should be started before.
    pub after: Vec<String>,
}

/// What a service has said last, from its log file.
fn tail(path: &Utf8PathBuf, lines: usize) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(64 * 1024)))?;
        let mut bytes = Vec::new();
        file.take(64 * 1024).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|l| (*l).to_owned()).collect()
}

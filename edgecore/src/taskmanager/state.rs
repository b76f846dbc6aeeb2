//! Where a job stands, kept over a restart of edgecore, which an upgrade brings with it.
//!
//! Owns: the file `node-job.json` beside the edge's database. It is not in the database, because a
//! rollback puts an older one in its place.
//! Called by: `mod.rs`, before each step and after each report.
//! Never: holds a job that waits for somebody to agree; that is in the database, as the original has
//! it.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::crd::operations::NodeUpgradeJobSpec;
use api::wire::task::ActionReport;
use serde::{Deserialize, Serialize};

use super::job::Action;

/// No state is longer, in bytes.
const MAX: u64 = 4 << 20;

/// A job that is being carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    /// Its path on the wire.
    pub(super) path: String,
    pub(super) spec: NodeUpgradeJobSpec,
    /// The step that is being taken.
    pub(super) action: Action,
    /// How often this step was begun.
    pub(super) begun: u32,
}

/// A report that may not have reached the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unsent {
    /// As [`Job::path`].
    pub(super) path: String,
    pub(super) report: ActionReport,
    /// Its number in this process.
    #[serde(skip)]
    pub(super) number: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) job: Option<Job>,
    pub(super) unsent: Vec<Unsent>,
}

/// The file.
#[derive(Debug, Clone)]
pub(super) struct StateFile(PathBuf);

impl StateFile {
    pub(super) fn beside(database: &Path) -> Self {
        Self(database.with_file_name("node-job.json"))
    }

    /// What was kept; nothing if it cannot be read, which is said.
    pub(super) fn load(&self) -> State {
        let read = || -> io::Result<State> {
            let mut bytes = Vec::new();
            std::fs::File::open(&self.0)?.take(MAX).read_to_end(&mut bytes)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        match read() {
            Ok(state) => state,
            Err(e) if e.kind() == io::ErrorKind::NotFound => State::default(),
            Err(e) => {
                let path = self.0.display();
                tracing::error!(%path, error = %e, "where a node job stands cannot be read");
                State::default()
            }
        }
    }

    /// Keeps it; the file goes when there is nothing to keep.
    ///
    /// # Errors
    /// As the operating system says.
    pub(super) fn store(&self, state: &State) -> io::Result<()> {
        if *state == State::default() {
            return match std::fs::remove_file(&self.0) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        let new = self.0.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_and_nothing_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::beside(&dir.path().join("edgecore.db"));
        assert_eq!(file.load(), State::default());
        let state = State {
            job: Some(Job {
                path: "p".into(),
                spec: NodeUpgradeJobSpec::default(),
                action: Action::Upgrade,
                begun: 1,
            }),
            unsent: vec![Unsent { path: "p".into(), report: ActionReport::default(), number: 0 }],
        };
        file.store(&state).unwrap();
        assert_eq!(file.load(), state);
        file.store(&State::default()).unwrap();
        assert!(!dir.path().join("node-job.json").exists());
        std::fs::write(dir.path().join("node-job.json"), "{").unwrap();
        assert_eq!(file.load(), State::default());
    }
}

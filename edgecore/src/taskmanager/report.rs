//! What `keadm backup`, `upgrade` and `rollback` say of themselves: a file that outlives edgecore.
//!
//! Owns: `upgrade_report.json`, whose form is KubeEdge's, with one field more.
//! Called by: those commands write it; `mod.rs` reads and removes it.
//! Never: lets anybody but its owner read it.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// No report is longer, in bytes.
const MAX: u64 = 64 << 10;

/// Which command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// `keadm backup edge`
    Backup,
    /// `keadm upgrade edge`
    Upgrade,
    /// `keadm rollback edge`
    Rollback,
}

/// How a command has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which command.
    pub event: Event,
    /// Whether it did what it was asked to.
    pub success: bool,
    /// The version before.
    pub from_version: String,
    /// The version after.
    pub to_version: String,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_message: String,
    /// An upgrade that failed, and this machine runs what it ran before. KubeEdge has no such field:
    /// there edgecore begins the rollback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
}

/// Where it lies below `/etc/kubeedge`.
pub fn path(etc: &Path) -> PathBuf {
    etc.join("upgrade_report.json")
}

impl Report {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn write(&self, etc: &Path) -> io::Result<()> {
        let (place, new) = (path(etc), etc.join(".upgrade_report.json.new"));
        let _ = std::fs::remove_file(&new);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&new, place)
    }

    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    /// As the operating system says, or when it is no report.
    pub fn read(etc: &Path) -> io::Result<Option<Self>> {
        let file = match std::fs::File::open(path(etc)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        file.take(MAX).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Removes it, if there is one.
    pub fn remove(etc: &Path) {
        let _ = std::fs::remove_file(path(etc));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_report_has_kubeedges_form_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Report::read(dir.path()).unwrap(), None);
        let mut report = Report {
            event: Event::Upgrade,
            success: true,
            from_version: "v1.23.0".into(),
            to_version: "v1.24.0".into(),
            error_message: String::new(),
            rolled_back: false,
        };
        report.write(dir.path()).unwrap();
        let text = std::fs::read_to_string(path(dir.path())).unwrap();
        assert_eq!(
            text,
            r#"{"event":"Upgrade","success":true,"fromVersion":"v1.23.0","toVersion":"v1.24.0"}"#
        );
        let mode = std::fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        report.success = false;
        report.error_message = "it does not come up".into();
        report.rolled_back = true;
        report.write(dir.path()).unwrap();
        assert_eq!(Report::read(dir.path()).unwrap(), Some(report));
        std::fs::write(path(dir.path()), "{").unwrap();
        assert!(Report::read(dir.path()).is_err());
        Report::remove(dir.path());
        assert_eq!(Report::read(dir.path()).unwrap(), None);
    }
}

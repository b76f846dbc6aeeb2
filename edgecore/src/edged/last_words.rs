//! What a container leaves behind: its termination message.
//!
//! Owns: how much of it is read. Called by: the worker, once a container has ended.
//! Never: follows a link, or trusts the container about sizes.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::runtime::{ContainerStatus, label};

const MESSAGE: u64 = 4096;
const TAIL: u64 = 2048;
const TAIL_LINES: usize = 80;

/// The termination message of a container that has ended; often empty.
pub(crate) fn of(c: &ContainerStatus) -> String {
    let annotation = |key: &str| c.annotations.get(key).map(String::as_str).unwrap_or_default();
    let path = annotation(label::TERMINATION_MESSAGE_PATH);
    let file = c.mounts.iter().find(|m| !path.is_empty() && m.container_path == path);
    let message = file.map(|m| read(&m.host_path, MESSAGE)).unwrap_or_default();
    let fall_back = annotation(label::TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError";
    if message.is_empty() && fall_back && c.exit_code != 0 {
        return tail(&c.log_path);
    }
    message
}

fn open(path: &Path) -> std::io::Result<std::fs::File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn read(path: &Path, limit: u64) -> String {
    let mut data = Vec::new();
    let done = open(path).and_then(|f| f.take(limit).read_to_end(&mut data));
    if done.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&data).into_owned()
}

/// The end of a log, without the log's own marks.
fn tail(path: &Path) -> String {
    let mut data = Vec::new();
    let done = open(path).and_then(|mut f| {
        let length = f.metadata()?.len();
        f.seek(SeekFrom::Start(length.saturating_sub(2 * TAIL)))?;
        f.take(2 * TAIL).read_to_end(&mut data)
    });
    if done.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&data);
    // `time stream tag content`; a first line cut in half has fewer parts.
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|l| {
            let mut parts = l.splitn(4, ' ');
            let (_, stream) = (parts.next()?, parts.next()?);
            (stream == "stdout" || stream == "stderr").then_some(())?;
            parts.next()?;
            parts.next()
        })
        .collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let mut out = lines[from..].join("\n");
    if !out.is_empty() {
        out.push('\n');
    }
    let limit = usize::try_from(TAIL).unwrap_or(usize::MAX);
    let cut = out.len().saturating_sub(limit);
    let cut = (cut..out.len()).find(|i| out.is_char_boundary(*i)).unwrap_or(0);
    out.split_off(cut)
}

#[cfg(test)]
mod tests {
    use super::super::runtime::Mount;
    use super::*;

    fn container(dir: &Path, policy: &str, exit_code: i32) -> ContainerStatus {
        ContainerStatus {
            exit_code,
            annotations: [
                (label::TERMINATION_MESSAGE_PATH.to_owned(), "/dev/termination-log".to_owned()),
                (label::TERMINATION_MESSAGE_POLICY.to_owned(), policy.to_owned()),
            ]
            .into(),
            mounts: vec![Mount {
                container_path: "/dev/termination-log".to_owned(),
                host_path: dir.join("message"),
                ..Mount::default()
            }],
            log_path: dir.join("0.log"),
            ..ContainerStatus::default()
        }
    }

    #[test]
    fn a_message_is_read_up_to_its_limit_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let c = container(dir.path(), "File", 1);
        assert_eq!(of(&c), "");
        std::fs::write(dir.path().join("message"), "x".repeat(10_000)).unwrap();
        assert_eq!(of(&c).len(), 4096);
        std::fs::remove_file(dir.path().join("message")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("message")).unwrap();
        assert_eq!(of(&c), "");
    }

    #[test]
    fn without_a_message_the_log_may_speak() {
        let dir = tempfile::tempdir().unwrap();
        let log = "2026-11-22T00:00:00Z stdout F started\n2026-11-22T00:00:01Z stderr F it broke\n";
        std::fs::write(dir.path().join("0.log"), log).unwrap();
        let of = |policy, code| of(&container(dir.path(), policy, code));
        assert_eq!(of("FallbackToLogsOnError", 1), "started\nit broke\n");
        assert_eq!(of("FallbackToLogsOnError", 0), "");
        assert_eq!(of("File", 1), "");
    }
}

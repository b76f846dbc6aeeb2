//! What the embedded runtime keeps on disk, and how it is read back.
//!
//! Owns: the layout of the state folder, the records in it, atomic writes, and the question
//! whether a process written down earlier is still the same one.
//! Called by: the runtime inside edgecore and by the shims.
//! Never: trusts a file for being there: a size limit and a parser stand before every use.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::{Mount, Pairs, Propagation, Resources};

/// No state file is larger. A plan holds a pod's whole environment, hence the room.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// Why a state file could not be used or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot {what} `{path}`")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("`{path}` is larger than {MAX_FILE} bytes")]
    TooLarge { path: PathBuf },
    #[error("`{path}` is damaged")]
    Damaged { path: PathBuf, source: serde_json::Error },
}

impl StateError {
    /// Whether the file simply is not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, StateError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

pub(crate) fn io_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError::Io { what, path, source }
}

/// The folders below the runtime's root.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Layout { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn sandbox(&self, id: &Id) -> PathBuf {
        self.sandboxes().join(id.as_str())
    }

    pub(crate) fn container(&self, id: &Id) -> PathBuf {
        self.containers().join(id.as_str())
    }
}

/// The files of one sandbox or container.
pub(crate) mod file {
    /// What it is; written once by edgecore.
    pub(crate) const RECORD: &str = "record.json";
    /// What its shim is to do; written once by edgecore.
    pub(crate) const PLAN: &str = "plan.json";
    /// The shim's process; written once by the shim.
    pub(crate) const SHIM: &str = "shim.json";
    /// The container's first process; written by the shim.
    pub(crate) const INIT: &str = "init.json";
    /// How it ended; written once by the shim.
    pub(crate) const EXIT: &str = "exit.json";
    /// Where the shim listens.
    pub(crate) const SOCKET: &str = "shim.sock";
    /// Last words of a shim that broke.
    pub(crate) const SHIM_LOG: &str = "shim.log";
}

/// A sandbox's or container's id: 64 hexadecimal digits, so that it is safe in a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Id(String);

impl Id {
    pub(crate) fn random() -> Self {
        let bytes: [u8; 32] = rand::random();
        Id(hex(&bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() == 64 && hex {
            Ok(Id(text))
        } else {
            Err("an id has 64 hexadecimal digits".into())
        }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        text.push(char::from(b"0123456789abcdef"[usize::from(b >> 4)]));
        text.push(char::from(b"0123456789abcdef"[usize::from(b & 15)]));
    }
    text
}

/// A sandbox as it was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) attempt: u32,
    pub(crate) created_at: i64,
    pub(crate) labels: Pairs,
    pub(crate) annotations: Pairs,
    pub(crate) log_directory: PathBuf,
    /// The cgroup of the pod, from the root of the hierarchy.
    pub(crate) cgroup: String,
    pub(crate) host_network: bool,
    pub(crate) host_pid: bool,
    pub(crate) host_ipc: bool,
    pub(crate) shared_pid: bool,
    pub(crate) hostname: String,
}

/// A container as it was asked for. Its environment is not here but in the plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: Id,
    pub(crate) sandbox: Id,
    pub(crate) pod_uid: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) created_at: i64,
    /// As a person would name it.
    pub(crate) image: String,
    pub(crate) image_ref: String,
    /// The layers its root stands on: they must not be removed.
    pub(crate) layers: Vec<String>,
    pub(crate) labels: Pairs,
    pub(crate) annotations: Pairs,
    pub(crate) log_path: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) stop_signal: i32,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) mounts: Vec<MountRecord>,
    pub(crate) resources: ResourcesRecord,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MountRecord {
    container_path: String,
    host_path: PathBuf,
    read_only: bool,
    from_host: bool,
}

impl From<&Mount> for MountRecord {
    fn from(m: &Mount) -> Self {
        MountRecord {
            container_path: m.container_path.clone(),
            host_path: m.host_path.clone(),
            read_only: m.read_only,
            from_host: m.propagation == Propagation::HostToContainer,
        }
    }
}

impl From<&MountRecord> for Mount {
    fn from(m: &MountRecord) -> Self {
        Mount {
            container_path: m.container_path.clone(),
            host_path: m.host_path.clone(),
            read_only: m.read_only,
            propagation: match m.from_host {
                true => Propagation::HostToContainer,
                false => Propagation::Private,
            },
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResourcesRecord {
    cpu_shares: i64,
    cpu_period: i64,
    cpu_quota: i64,
    memory_limit: i64,
    oom_score_adj: i64,
}

impl From<&Resources> for ResourcesRecord {
    fn from(r: &Resources) -> Self {
        ResourcesRecord {
            cpu_shares: r.cpu_shares,
            cpu_period: r.cpu_period,
            cpu_quota: r.cpu_quota,
            memory_limit: r.memory_limit,
            oom_score_adj: r.oom_score_adj,
        }
    }
}

impl From<&ResourcesRecord> for Resources {
    fn from(r: &ResourcesRecord) -> Self {
        Resources {
            cpu_shares: r.cpu_shares,
            cpu_period: r.cpu_period,
            cpu_quota: r.cpu_quota,
            memory_limit: r.memory_limit,
            oom_score_adj: r.oom_score_adj,
        }
    }
}

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    pub(crate) pid: i32,
    /// Clock ticks from boot to the process's start.
    pub(crate) start: u64,
    /// Ticks count from a boot; this says which.
    pub(crate) boot: String,
}

impl ProcessRef {
    /// The process that has this number now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = read_small(Path::new(&format!("/proc/{pid}/stat")))?;
        let start = running_since(&stat)?;
        Some(ProcessRef { pid, start, boot: boot_id() })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.pid > 1 && Self::of(self.pid).is_some_and(|now| now == *self)
    }
}

/// The shim of a sandbox or container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimRecord {
    pub(crate) shim: ProcessRef,
    /// The first process of the pod's own PID namespace, if its containers share one.
    pub(crate) pause: Option<ProcessRef>,
}

/// A container's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InitRecord {
    pub(crate) process: ProcessRef,
    pub(crate) started_at: i64,
}

/// How a container or sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
}

impl ExitRecord {
    /// For a container whose shim left no word: the machine went down, or the shim was killed.
    pub(crate) fn unknown(started_at: i64, finished_at: i64) -> Self {
        ExitRecord {
            code: 255,
            reason: "Unknown".into(),
            message: "the container's shim ended without recording an exit".into(),
            started_at,
            finished_at,
        }
    }
}

/// The 22nd field of `/proc/PID/stat`, unless the process is a zombie. The second field may hold
/// spaces and brackets.
fn running_since(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace();
    let alive = !matches!(fields.next()?, "Z" | "X");
    let start = fields.nth(18)?.parse().ok()?;
    alive.then_some(start)
}

fn boot_id() -> String {
    read_small(Path::new("/proc/sys/kernel/random/boot_id"))
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// A file of `/proc` or `/sys/fs/cgroup`.
pub(crate) fn read_small(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(1024 * 1024).read_to_string(&mut text).ok()?;
    Some(text)
}

pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map(|d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
        .unwrap_or(0)
}

pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, StateError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(StateError::TooLarge { path: path.to_owned() });
    }
    serde_json::from_slice(&bytes)
        .map_err(|source| StateError::Damaged { path: path.to_owned(), source })
}

/// Writes a file that is either there as a whole or not at all, readable by root only.
pub(crate) fn store<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|source| StateError::Damaged { path: path.to_owned(), source })?;
    store_bytes(path, &bytes)
}

pub(crate) fn store_bytes(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .map_err(io_error("create", &aside))?;
    file.write_all(bytes).map_err(io_error("write", &aside))?;
    std::fs::rename(&aside, path).map_err(io_error("put in place", path))
}

/// Writes a file unless it is there already: whoever comes second is told so.
pub(crate) fn store_new<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".first");
    let aside = path.with_file_name(name);
    store(&aside, value)?;
    let linked = std::fs::hard_link(&aside, path).map_err(io_error("create", path));
    let _ = std::fs::remove_file(&aside);
    linked
}

/// A folder for root only.
pub(crate) fn make_dir(path: &Path) -> Result<(), StateError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error("make folder", path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_cannot_leave_its_folder() {
        let bad = ["", "..", "a/b", "../../../../etc", "A", &"g".repeat(64), &"a".repeat(63)];
        for text in bad {
            assert!(Id::try_from(text.to_owned()).is_err(), "{text}");
        }
        let id = Id::random();
        assert_eq!(Id::try_from(id.as_str().to_owned()), Ok(id));
    }

    #[test]
    fn a_process_name_full_of_brackets_does_not_shift_the_fields() {
        let tail = (4..=21).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(running_since(&format!("7 (a) b) c (d) S {tail} 4242 0")), Some(4242));
        assert_eq!(running_since(&format!("7 (a) Z {tail} 4242 0")), None, "a zombie is not alive");
        assert_eq!(running_since("7 (a"), None);
        assert_eq!(running_since(""), None);
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut seen = ProcessRef::of(me).unwrap();
        assert!(seen.is_alive());
        seen.start -= 1;
        assert!(!seen.is_alive());
        let other_boot = ProcessRef { boot: "x".into(), ..ProcessRef::of(me).unwrap() };
        assert!(!other_boot.is_alive());
    }

    #[test]
    fn no_state_file_can_name_init_or_a_process_group() {
        for pid in [-1, 0, 1] {
            assert!(!ProcessRef { pid, start: 0, boot: boot_id() }.is_alive());
        }
    }

    #[test]
    fn a_huge_or_broken_state_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert!(load::<ExitRecord>(&path).unwrap_err().is_absent());
        for text in ["", "{", "[]", "null", "{\"code\":1e99}", "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(load::<ExitRecord>(&path), Err(StateError::Damaged { .. })), "{text}");
        }
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(load::<ExitRecord>(&path), Err(StateError::TooLarge { .. })));
    }

    #[test]
    fn what_is_written_once_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        store_new(&path, &1).unwrap();
        assert!(store_new(&path, &2).is_err());
        assert_eq!(load::<i32>(&path).unwrap(), 1);
        store(&path, &3).unwrap();
        assert_eq!(load::<i32>(&path).unwrap(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_in_a_state_file_are_refused_or_read(bytes: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.json");
            std::fs::write(&path, &bytes).unwrap();
            let _ = load::<ContainerRecord>(&path);
            let _ = load::<ShimRecord>(&path);
        }

        #[test]
        fn any_stat_line_is_refused_or_read(line: String) {
            let _ = running_since(&line);
        }
    }
}

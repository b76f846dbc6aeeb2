//! A host of the test's own: namespaces for its network, its mounts and its name, so that every
//! test may use the ports and paths that the documentation names, side by side with the others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::containerd::remove_cgroups;
use crate::wait;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The environment variable by which a host knows its processes.
const MARK: &str = "KEADM_TEST_HOST";
/// How long processes that were killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A host with a network, a `/etc`, a `/run`, a `/usr/local` and a `/var` of its own; gone when dropped, with all
/// its processes.
#[derive(Debug)]
pub struct Host {
    name: String,
    holder: Child,
    disk: tempfile::TempDir,
}

/// Two hosts joined by a cable, [`CLOUD_ADDRESS`] and [`EDGE_ADDRESS`].
#[derive(Debug)]
pub struct Pair {
    /// The one at [`CLOUD_ADDRESS`].
    pub cloud: Host,
    /// The one at [`EDGE_ADDRESS`].
    pub edge: Host,
}

/// The first address of a [`Pair`].
pub const CLOUD_ADDRESS: &str = "10.77.0.1";
/// The second address of a [`Pair`].
pub const EDGE_ADDRESS: &str = "10.77.0.2";

/// Folders that must lie on a real file system, because containers' overlays do.
const REAL: [&str; 5] =
    ["/var/lib/kubeedge", "/var/lib/kubelet", "/var/lib/edged", "/var/lib/keadm", "/var/log/pods"];

/// Sets the host up and then only holds its namespaces. `$1` is its disk, `$2` its name.
const HOLD: &str = r#"
set -e
for d in etc var usr/local; do
    mkdir -p "$1/$d" "$1/work/$d"
    mount -t overlay overlay -o "lowerdir=/$d,upperdir=$1/$d,workdir=$1/work/$d" "/$d"
done
disk="$1" name="$2"; shift 2
for d in "$@"; do
    mkdir -p "$disk/real$d" "$d"
    mount --bind "$disk/real$d" "$d"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
hostname "$name"
ip link set lo up
touch "$disk/up"
exec sleep infinity
"#;

fn ip(args: &[&str]) -> Output {
    let out = Command::new("ip").args(args).output().expect("`ip` (package iproute2) runs");
    assert!(
        out.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

impl Host {
    /// A new host that nobody else can reach. Needs root.
    ///
    /// # Panics
    /// When its namespaces cannot be made.
    pub fn new() -> Self {
        Self::named("edge-1")
    }

    /// [`Host::new`] with a host name.
    ///
    /// # Panics
    /// When its namespaces cannot be made.
    pub fn named(hostname: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "hosts are namespaces; making them needs root");
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kt{}-{n}", std::process::id());
        let disk = tempfile::tempdir().unwrap();
        ip(&["netns", "add", &name]);
        let holder = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{name}"))
            .args(["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", HOLD])
            .args(["hold", disk.path().to_str().unwrap(), hostname])
            .args(REAL)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut host = Self { name, holder, disk };
        let up = host.disk.path().join("up");
        wait::until("a host for the test", Duration::from_secs(20), || {
            if up.exists() {
                return Ok(());
            }
            Err(format!("its holder: {:?}", host.holder.try_wait()))
        });
        host
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let holder = self.holder.id();
        let mut command = Command::new("nsenter");
        command
            .args([
                format!("--net=/proc/{holder}/ns/net"),
                format!("--mount=/proc/{holder}/ns/mnt"),
                format!("--uts=/proc/{holder}/ns/uts"),
                "--".to_owned(),
            ])
            .arg(program)
            .env(MARK, &self.name);
        command
    }

    /// Runs `f` in this host's network. Sockets that it makes stay there, wherever they are used.
    ///
    /// # Panics
    /// When the host is gone, or `f` panics.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let there = || {
            nix::sched::setns(&network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            f()
        };
        std::thread::scope(|scope| scope.spawn(there).join().unwrap())
    }

    /// Where a file of this host is for the test.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    /// Where a file below `/var/lib` of this host lies on the machine's own disk; for programs
    /// that do not follow links of `/proc`, as SQLite does not.
    pub fn disk(&self, path: &str) -> PathBuf {
        self.disk.path().join("real").join(path.trim_start_matches('/'))
    }

    /// The network namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stopped programs must not leave behind: processes, mounts and cgroups that name `mark`
    /// (a data folder, or a pod's UID), each as a line of text.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    pub fn left_behind(&self, mark: &str) -> Vec<String> {
        let mut found = Vec::new();
        for pid in pids() {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(mark) && pid != std::process::id() {
                found.push(format!("process {pid}: {line}"));
            }
        }
        let mounts =
            std::fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap();
        found.extend(mounts.lines().filter(|l| l.contains(mark)).map(|l| format!("mount {l}")));
        let mut groups = BTreeSet::new();
        find_cgroups(Path::new("/sys/fs/cgroup"), mark, 0, &mut groups);
        found.extend(groups.iter().map(|group| format!("cgroup {}", group.display())));
        found
    }

    /// Ends every process of this host, and removes the cgroups of the pods that these were. What they
    /// start meanwhile is found by the next look.
    fn end_processes(&self) {
        let mut groups = BTreeSet::new();
        // What is still there after that is left to whoever looks at the machine.
        let _ = wait::at_most(GONE_WITHIN, || {
            let ours = self.processes();
            for pod in ours.iter().filter_map(|pid| pod_of(*pid)) {
                find_cgroups(Path::new("/sys/fs/cgroup"), &pod, 0, &mut groups);
            }
            for pid in &ours {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid.cast_signed()),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            groups.iter().for_each(|group| remove_cgroups(group));
            groups.retain(|group| group.exists());
            if ours.is_empty() && groups.is_empty() {
                Ok(())
            } else {
                Err(format!("{ours:?} {groups:?}"))
            }
        });
    }

    /// The processes of this host: those that carry its mark or live in a copy of its mounts, and all
    /// that they have started.
    fn processes(&self) -> BTreeSet<u32> {
        let mark = format!("{MARK}={}", self.name);
        let disk = self.disk.path().to_string_lossy().into_owned();
        let mut ours = BTreeSet::new();
        let mut parents = Vec::new();
        for pid in pids() {
            let read =
                |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let marked = read("environ").split(|b| *b == 0).any(|v| v == mark.as_bytes());
            let mounts = String::from_utf8_lossy(&read("mountinfo")).contains(&disk);
            if marked || (mounts && !same_mounts(pid)) {
                ours.insert(pid);
            }
            let stat = String::from_utf8_lossy(&read("stat")).into_owned();
            let parent =
                stat.rsplit(')').next().and_then(|s| s.split_whitespace().nth(1)?.parse().ok());
            parents.push((pid, parent.unwrap_or(0u32)));
        }
        let mut grown = true;
        while grown {
            let before = ours.len();
            ours.extend(
                parents
                    .iter()
                    .filter(|(_, p)| ours.contains(p))
                    .map(|(c, _)| *c)
                    .collect::<Vec<_>>(),
            );
            grown = ours.len() > before;
        }
        ours
    }
}

/// The name of the cgroup of the pod that a process belongs to: `pod<uid>`.
fn pod_of(pid: u32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let inside = groups.lines().find_map(|line| line.split_once("/kubepods/"))?.1;
    inside.split('/').find(|part| part.starts_with("pod")).map(str::to_owned)
}

/// Whether a process sees the mounts that this one sees.
fn same_mounts(pid: u32) -> bool {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    of(&pid.to_string()) == of("self")
}

fn pids() -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().parse().ok())
        .collect()
}

fn find_cgroups(folder: &Path, mark: &str, depth: usize, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) && depth < 8 {
            if entry.file_name().to_string_lossy().contains(mark) {
                found.insert(entry.path());
            }
            find_cgroups(&entry.path(), mark, depth + 1, found);
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end_processes();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

impl Pair {
    /// Two hosts and a cable.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn new() -> Self {
        let (cloud, edge) = (Host::named("cloud"), Host::named("edge-2"));
        ip(&[
            "-n",
            &cloud.name,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &edge.name,
        ]);
        for (host, address) in [(&cloud, CLOUD_ADDRESS), (&edge, EDGE_ADDRESS)] {
            ip(&["-n", &host.name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", &host.name, "link", "set", "eth0", "up"]);
            // Programs ask for the default route to find out which address is theirs.
            ip(&["-n", &host.name, "route", "add", "default", "dev", "eth0"]);
        }
        Self { cloud, edge }
    }

    /// Cuts the cable: packets vanish, as on a bad line.
    pub fn cut(&self) {
        ip(&["-n", &self.cloud.name, "link", "set", "eth0", "down"]);
    }

    /// Mends the cable.
    pub fn mend(&self) {
        ip(&["-n", &self.cloud.name, "link", "set", "eth0", "up"]);
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

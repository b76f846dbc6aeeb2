//! Where a container's cgroup files are, whichever version is mounted.
//!
//! Owns: the list of mounted hierarchies, reading of usage and out-of-memory counters, changing of
//! limits, removal of what is empty.
//! Called by: the runtime inside edgecore and the shims. libcontainer makes the cgroups.
//! Never: makes a cgroup, or kills a process it has not read from `cgroup.procs` just now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::Resources;
use super::state::read_small;

/// The mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hierarchies {
    /// Controller to mount point, version 1.
    v1: BTreeMap<String, PathBuf>,
    /// Version 2, if it has the controllers.
    unified: Option<PathBuf>,
}

/// Why a limit could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{value}` to `{path}`")]
pub(crate) struct LimitError {
    path: PathBuf,
    value: String,
    source: std::io::Error,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_nanoseconds: u64,
    pub(crate) memory: u64,
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
}

impl Hierarchies {
    /// Those of this machine.
    pub(crate) fn detect() -> Self {
        Self::parse(&read_small(Path::new("/proc/self/mountinfo")).unwrap_or_default())
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Hierarchies::default();
        let mut second = None;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => {
                    second.get_or_insert(point);
                }
                Some("cgroup") => {
                    for option in right.nth(1).unwrap_or("").split(',').filter(|o| *o != "rw") {
                        found.v1.entry(option.to_owned()).or_insert_with(|| point.clone());
                    }
                }
                _ => {}
            }
        }
        if !found.v1.contains_key("memory") {
            found.unified = second;
        }
        found
    }

    /// Whether all controllers are in version 2.
    pub(crate) fn is_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// The folder of `cgroup` that has `controller`'s files.
    fn folder(&self, controller: &str, cgroup: &str) -> Option<PathBuf> {
        let base = self.unified.as_ref().or_else(|| self.v1.get(controller))?;
        Some(base.join(cgroup.trim_start_matches('/')))
    }

    fn folders(&self, cgroup: &str) -> Vec<PathBuf> {
        let relative = cgroup.trim_start_matches('/');
        let mut all: Vec<PathBuf> =
            self.unified.iter().chain(self.v1.values()).map(|base| base.join(relative)).collect();
        all.sort();
        all.dedup();
        all
    }

    fn number(&self, controller: &str, cgroup: &str, name: &str) -> Option<u64> {
        read_small(&self.folder(controller, cgroup)?.join(name))?.trim().parse().ok()
    }

    fn field(&self, controller: &str, cgroup: &str, name: &str, key: &str) -> Option<u64> {
        let text = read_small(&self.folder(controller, cgroup)?.join(name))?;
        field(&text, key)
    }

    /// How many processes of this cgroup the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self, cgroup: &str) -> u64 {
        let name = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        self.field("memory", cgroup, name, "oom_kill").unwrap_or(0)
    }

    pub(crate) fn usage(&self, cgroup: &str) -> Option<Usage> {
        let memory_field = |key| self.field("memory", cgroup, "memory.stat", key).unwrap_or(0);
        let (cpu, memory, inactive, rss) = if self.is_unified() {
            (
                self.field("cpu", cgroup, "cpu.stat", "usage_usec")? * 1000,
                self.number("memory", cgroup, "memory.current")?,
                memory_field("inactive_file"),
                memory_field("anon"),
            )
        } else {
            (
                self.number("cpuacct", cgroup, "cpuacct.usage")?,
                self.number("memory", cgroup, "memory.usage_in_bytes")?,
                memory_field("total_inactive_file"),
                memory_field("total_rss"),
            )
        };
        Some(Usage {
            cpu_nanoseconds: cpu,
            memory,
            working_set: memory.saturating_sub(inactive),
            rss,
        })
    }

    /// Changes limits; those that are 0 stay.
    pub(crate) fn update(&self, cgroup: &str, to: &Resources) -> Result<(), LimitError> {
        for (controller, name, value) in limit_files(self.is_unified(), to) {
            let Some(folder) = self.folder(controller, cgroup) else { continue };
            let path = folder.join(name);
            std::fs::write(&path, &value).map_err(|source| LimitError { path, value, source })?;
        }
        Ok(())
    }

    fn processes(&self, cgroup: &str) -> Vec<i32> {
        // The root cgroup is the whole machine: a damaged record must not end it.
        if !is_below_root(cgroup) {
            return Vec::new();
        }
        let texts = self.folders(cgroup).into_iter();
        let mut pids: Vec<i32> = texts
            .filter_map(|folder| read_small(&folder.join("cgroup.procs")))
            .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .filter(|pid| *pid > 1)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Ends every process of the cgroup by force, and says whether there were any.
    pub(crate) fn kill_all(&self, cgroup: &str) -> bool {
        let pids = self.processes(cgroup);
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        !pids.is_empty()
    }

    /// Removes the cgroup from every hierarchy if nothing is in it, and says whether it is gone.
    pub(crate) fn remove(&self, cgroup: &str) -> bool {
        if !is_below_root(cgroup) {
            return true;
        }
        let mut gone = true;
        for folder in self.folders(cgroup) {
            match std::fs::remove_dir(&folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => gone = false,
                _ => {}
            }
        }
        gone
    }
}

fn is_below_root(cgroup: &str) -> bool {
    let parts = || cgroup.split('/').filter(|p| !p.is_empty());
    parts().next().is_some() && parts().all(|p| p != "." && p != "..")
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Which file of which controller says what.
fn limit_files(unified: bool, to: &Resources) -> Vec<(&'static str, &'static str, String)> {
    let mut files = Vec::new();
    if to.cpu_shares > 0 {
        files.push(match unified {
            true => ("cpu", "cpu.weight", weight_of_shares(to.cpu_shares).to_string()),
            false => ("cpu", "cpu.shares", to.cpu_shares.to_string()),
        });
    }
    let period = if to.cpu_period > 0 { to.cpu_period } else { 100_000 };
    if to.cpu_quota != 0 && unified {
        let quota = if to.cpu_quota > 0 { to.cpu_quota.to_string() } else { "max".into() };
        files.push(("cpu", "cpu.max", format!("{quota} {period}")));
    } else if to.cpu_quota != 0 {
        files.push(("cpu", "cpu.cfs_period_us", period.to_string()));
        files.push(("cpu", "cpu.cfs_quota_us", to.cpu_quota.to_string()));
    }
    if to.memory_limit > 0 {
        let name = if unified { "memory.max" } else { "memory.limit_in_bytes" };
        files.push(("memory", name, to.memory_limit.to_string()));
    }
    files
}

/// From 2..262144 to 1..10000, as the OCI runtimes do it.
fn weight_of_shares(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_keeps_its_limits_in_version_one() {
        let found = Hierarchies::parse(
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             not a mount\n",
        );
        assert!(!found.is_unified());
        let cpu = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/b");
        assert_eq!(found.folder("cpuacct", "/a/b"), Some(cpu.clone()));
        assert_eq!(found.folders("/a/b"), [cpu, "/sys/fs/cgroup/memory/a/b".into()]);
    }

    #[test]
    fn a_machine_with_version_two_alone_is_unified() {
        let found = Hierarchies::parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert!(found.is_unified());
        assert_eq!(found.folder("memory", "/x"), Some("/sys/fs/cgroup/x".into()));
    }

    #[test]
    fn a_key_is_not_found_within_a_longer_one() {
        assert_eq!(field("oom_kill_disable 1\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(field("oom_kill x\n", "oom_kill"), None);
    }

    #[test]
    fn limits_are_written_in_the_words_of_each_version() {
        let to = Resources {
            cpu_shares: 1024,
            cpu_quota: 50_000,
            memory_limit: 7,
            ..Default::default()
        };
        assert_eq!(
            limit_files(false, &to),
            [
                ("cpu", "cpu.shares", "1024".to_owned()),
                ("cpu", "cpu.cfs_period_us", "100000".to_owned()),
                ("cpu", "cpu.cfs_quota_us", "50000".to_owned()),
                ("memory", "memory.limit_in_bytes", "7".to_owned()),
            ]
        );
        assert_eq!(
            limit_files(true, &to),
            [
                ("cpu", "cpu.weight", "39".to_owned()),
                ("cpu", "cpu.max", "50000 100000".to_owned()),
                ("memory", "memory.max", "7".to_owned()),
            ]
        );
        assert_eq!(limit_files(true, &Resources::default()), []);
    }

    #[test]
    fn nothing_is_ended_or_removed_outside_of_a_cgroup_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a")).unwrap();
        for folder in [dir.path(), &root, &root.join("a")] {
            std::fs::write(folder.join("cgroup.procs"), "4194304\n4194303\n1\n").unwrap();
        }
        let here = Hierarchies { unified: Some(root), ..Default::default() };
        for hostile in ["", "/", "//", "/..", "/a/../..", "."] {
            assert!(here.processes(hostile).is_empty(), "{hostile}");
            assert!(here.remove(hostile), "{hostile}");
        }
        assert_eq!(here.processes("/a"), [4_194_303, 4_194_304], "the machine's first is nobody's");
    }
}

//! What this machine is and how it is: `/proc`, `/sys`, the file systems.
//!
//! Owns: the reading. Called by: the node's status task.
//! Never: judges what it reads. What cannot be read is left empty.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::statvfs::statvfs;

/// What does not change while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Machine {
    /// Processors, or fewer if this is a container with a quota.
    pub(crate) cpus: u64,
    /// Bytes, or fewer if this is a container with a limit.
    pub(crate) memory: u64,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    /// As Go names it: `amd64`, `arm64` ..
    pub(crate) architecture: String,
    /// Bytes of swap.
    pub(crate) swap: u64,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Vitals {
    /// Bytes that can still be used.
    pub(crate) memory_available: Option<u64>,
    /// The file system of the pods' volumes.
    pub(crate) node_fs: Option<Disk>,
    /// The file system of the images, if it is another one or known at all.
    pub(crate) image_fs: Option<Disk>,
    /// Process ids in use and in all.
    pub(crate) pids: Option<(u64, u64)>,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Disk {
    pub(crate) size: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

/// Reads what does not change.
pub(crate) fn machine() -> Machine {
    let meminfo = read("/proc/meminfo");
    let total = kib(&meminfo, "MemTotal:").unwrap_or(0);
    Machine {
        cpus: cpu_quota().map_or(online_cpus(), |quota| quota.min(online_cpus())),
        memory: memory_limit().map_or(total, |limit| limit.min(total)),
        machine_id: read("/etc/machine-id").trim().to_owned(),
        system_uuid: read("/sys/class/dmi/id/product_uuid").trim().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        os_image: os_image(&read("/etc/os-release")),
        architecture: go_arch(std::env::consts::ARCH).to_owned(),
        swap: kib(&meminfo, "SwapTotal:").unwrap_or(0),
    }
}

/// Reads what changes. `root` is where pods have their volumes, `images` where images are.
pub(crate) fn vitals(machine: &Machine, root: &Path, images: Option<&Path>) -> Vitals {
    Vitals {
        memory_available: memory_available(machine),
        node_fs: disk(root),
        image_fs: images.and_then(disk),
        pids: pids(&read("/proc/loadavg"), &read("/proc/sys/kernel/pid_max")),
    }
}

/// The address by which this machine reaches `server` (`host:port`), or its own default.
///
/// Opening a UDP socket sends nothing; the kernel only chooses a route.
pub(crate) fn address_towards(server: Option<&str>, interface: &str) -> Option<IpAddr> {
    let targets = [server, Some("192.0.2.1:9"), Some("[2001:db8::1]:9")];
    let found: Vec<IpAddr> =
        targets.into_iter().flatten().filter_map(|to| source_address(to, interface)).collect();
    found.iter().find(|ip| !ip.is_loopback()).or_else(|| found.first()).copied()
}

fn source_address(to: &str, interface: &str) -> Option<IpAddr> {
    let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    if !interface.is_empty() {
        setsockopt(&socket, sockopt::BindToDevice, &interface.into()).ok()?;
    }
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The processors' ticks since the machine started: those in which something was done, and all.
pub(crate) fn ticks() -> Option<(u64, u64)> {
    ticks_of(&read("/proc/stat"))
}

/// The line `cpu` of /proc/stat.
fn ticks_of(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let all: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map_while(|n| n.parse().ok()).collect();
    let idle = all.get(3)? + all.get(4).unwrap_or(&0);
    let sum: u64 = all.iter().sum();
    Some((sum - idle, sum))
}

/// Nanoseconds in which the processors did something.
pub(crate) fn cpu_nanoseconds() -> Option<u64> {
    // What the kernel tells programs is in hundredths of a second on every machine of today.
    Some(ticks()?.0.saturating_mul(10_000_000))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    read(path).trim().parse().ok()
}

/// A line `Name:   123 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|n| n * 1024)
}

fn online_cpus() -> u64 {
    cpu_list(read("/sys/devices/system/cpu/online").trim()).max(1)
}

/// How many there are in `0-3,8`.
fn cpu_list(text: &str) -> u64 {
    text.split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
            to.checked_sub(from).map(|n| n + 1)
        })
        .sum()
}

/// Whole processors, if the cgroup at the root of what we see has a quota. On a host it has none.
fn cpu_quota() -> Option<u64> {
    let v2 = read("/sys/fs/cgroup/cpu.max");
    let (quota, period) = match v2.trim().split_once(' ') {
        Some((quota, period)) => (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?),
        None => (
            number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?,
            number("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?,
        ),
    };
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

fn memory_limit() -> Option<u64> {
    number("/sys/fs/cgroup/memory.max")
        .or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
}

pub(crate) fn memory_available(machine: &Machine) -> Option<u64> {
    let host = kib(&read("/proc/meminfo"), "MemAvailable:");
    let used = |usage: &str, stat: &str, inactive: &str| {
        let reclaimable = kib_free(&read(stat), inactive)?;
        Some(number(usage)?.saturating_sub(reclaimable))
    };
    let limited = memory_limit().filter(|limit| *limit <= machine.memory).and_then(|limit| {
        let v2 = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file ");
        let v1 = (
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            "/sys/fs/cgroup/memory/memory.stat",
            "total_inactive_file ",
        );
        let used = used(v2.0, v2.1, v2.2).or_else(|| used(v1.0, v1.1, v1.2))?;
        Some(limit.saturating_sub(used))
    });
    match (host, limited) {
        (Some(host), Some(limited)) => Some(host.min(limited)),
        (host, limited) => limited.or(host),
    }
}

/// A line `name 123`, in bytes.
fn kib_free(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name))?.trim().parse().ok()
}

/// The file system of the nearest folder that exists.
fn disk(path: &Path) -> Option<Disk> {
    let mut at: PathBuf = path.to_owned();
    while !at.exists() {
        at = at.parent()?.to_owned();
    }
    let fs = statvfs(&at).ok()?;
    let block = fs.fragment_size();
    Some(Disk {
        size: fs.blocks() * block,
        available: fs.blocks_available() * block,
        inodes: fs.files(),
        inodes_free: fs.files_available(),
    })
}

/// The fourth field of loadavg is `running/all`.
fn pids(loadavg: &str, max: &str) -> Option<(u64, u64)> {
    let (_, all) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    Some((all.parse().ok()?, max.trim().parse().ok()?))
}

fn os_image(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// A processor as Go, and so every Kubernetes label, names it.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "riscv64gc" => "riscv64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_idle_and_what_waited_for_a_disk_was_not_used() {
        assert_eq!(ticks_of("cpu  100 0 0 300 0 0 0 0 9 9\ncpu0 1\n"), Some((100, 400)));
        assert_eq!(ticks_of("cpu  200 0 0 500 100 0 0 0 9 9\n"), Some((200, 800)));
        assert_eq!(ticks_of("nothing"), None);
    }

    #[test]
    fn lists_of_processors_are_counted() {
        assert_eq!(cpu_list("0"), 1);
        assert_eq!(cpu_list("0-3,8,10-11"), 7);
        assert_eq!(cpu_list(""), 0);
    }

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(kib("MemTotal:       16384 kB\nX: 1 kB", "MemTotal:"), Some(16 << 20));
        assert_eq!(pids("0.1 0.2 0.3 2/345 6789", "32768\n"), Some((345, 32768)));
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
    }

    #[test]
    fn this_machine_has_processors_memory_and_a_disk() {
        let machine = machine();
        assert!(machine.cpus > 0 && machine.memory > 0 && !machine.kernel.is_empty());
        let vitals = vitals(&machine, Path::new("/tmp/not/there"), None);
        assert!(vitals.memory_available.is_some_and(|m| m <= machine.memory));
        assert!(vitals.node_fs.is_some_and(|d| d.size > 0));
    }
}

//! This machine, whatever it is to be.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use camino::Utf8Path;

use super::Check;
use crate::context::Context;
use crate::errors::Kind;

const MIB: u64 = 1 << 20;

/// All that can be said of a machine without knowing its role.
pub fn all(cx: &Context) -> Vec<Check> {
    vec![root(cx), memory(cx), disk(cx, &cx.paths.lib()), clock(cx), overlayfs(cx), cgroups(cx)]
}

/// Whether this process may do everything.
pub fn root(cx: &Context) -> Check {
    if cx.host.is_root() {
        Check::ok("Root", "running as root")
    } else {
        Check::fail(
            "Root",
            Kind::Refused,
            "containers and services need root, and this is another user",
            "run the same command with `sudo`",
        )
    }
}

/// Free memory: KubeEdge asks for 128 MiB.
pub fn memory(cx: &Context) -> Check {
    match cx.host.available_memory() {
        None => Check::skip("Memory", "the free memory is not known"),
        Some(free) if free < 128 * MIB => Check::warn(
            "Memory",
            format!("only {} MiB of memory are free", free / MIB),
            "128 MiB should be; stop what is not needed",
        ),
        Some(free) => Check::ok("Memory", format!("{} MiB of memory are free", free / MIB)),
    }
}

/// Free space where the data will lie.
pub fn disk(cx: &Context, at: &Utf8Path) -> Check {
    match cx.host.space(at) {
        Err(e) => Check::skip("Disk", format!("the free space below `{at}` is not known: {e}")),
        Ok(space) if space.free < 64 * MIB => Check::fail(
            "Disk",
            Kind::Failed,
            format!("only {} MiB are free below `{at}`", space.free / MIB),
            format!("at least 512 MiB should be: `df -h {at}` shows how full the disk is"),
        ),
        Ok(space) if space.free < 512 * MIB => Check::warn(
            "Disk",
            format!("only {} MiB are free below `{at}`", space.free / MIB),
            "512 MiB should be; images and logs need room",
        ),
        Ok(space) => Check::ok("Disk", format!("{} MiB are free below `{at}`", space.free / MIB)),
    }
}

/// A clock that starts in 1970 makes every certificate "not valid yet".
pub fn clock(cx: &Context) -> Check {
    let seconds = cx
        .host
        .now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let now = crate::https::utc(seconds);
    // 2026-01-01: this program did not exist before.
    if seconds < 1_767_225_600 {
        return Check::fail(
            "Clock",
            Kind::Failed,
            format!("this machine's clock says {now}"),
            "set it: `timedatectl set-ntp true`, or `date -s`",
        );
    }
    Check::ok("Clock", format!("the clock says {now}"))
}

fn overlayfs(cx: &Context) -> Check {
    match cx.host.read("/proc/filesystems".into()) {
        Ok(list) if String::from_utf8_lossy(&list).lines().any(|l| l.ends_with("\toverlay")) => {
            Check::ok("OverlayFS", "the kernel has overlayfs")
        }
        Ok(_) => Check::warn(
            "OverlayFS",
            "the kernel has no overlayfs loaded",
            "`modprobe overlay`; containers need it",
        ),
        Err(_) => Check::skip("OverlayFS", "`/proc/filesystems` cannot be read"),
    }
}

fn cgroups(cx: &Context) -> Check {
    let there = |path: &str| cx.host.exists(path.into());
    if there("/sys/fs/cgroup/cgroup.controllers") {
        Check::ok("CGroups", "cgroup v2")
    } else if there("/sys/fs/cgroup/memory") {
        Check::ok("CGroups", "cgroup v1")
    } else {
        Check::warn(
            "CGroups",
            "no cgroups are mounted below `/sys/fs/cgroup`",
            "containers cannot be limited without; `mount -t cgroup2 none /sys/fs/cgroup`",
        )
    }
}

/// Whether a TCP port can be listened on; if not, by whom it is held.
pub fn port(cx: &Context, address: IpAddr, port: u16, purpose: &str, other: &str) -> Check {
    let name = format!("Port-{port}");
    match cx.host.try_listen(SocketAddr::new(address, port)) {
        Ok(()) => Check::ok(name, format!("port {port} is free for {purpose}")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let (by, stop) = match cx.host.port_owner(port) {
                Some(owner) => (format!(" by {owner}"), format!("stop {owner}")),
                None => (
                    " by a process that cannot be seen from here".to_owned(),
                    format!("`ss -ltnp 'sport = :{port}'` as root names it; stop it"),
                ),
            };
            Check::fail(
                name,
                Kind::Conflict,
                format!("port {port}, needed for {purpose}, is in use{by}"),
                format!("{stop}{other}"),
            )
        }
        Err(e) => Check::fail(
            name,
            super::super::errors::kind_of(&e),
            format!("port {port}, needed for {purpose}, cannot be listened on: {e}"),
            format!("is {address} an address of this machine? `ip addr` lists them"),
        ),
    }
}

/// All addresses of this machine.
pub const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether another program that does the same job is running.
pub fn no_process(cx: &Context, program: &str, why: &str, hint: &str) -> Check {
    let name = format!("No-{program}");
    match cx.host.processes(program).first() {
        None => Check::ok(name, format!("no `{program}` is running")),
        Some(process) => Check::fail(name, Kind::Conflict, format!("{process} {why}"), hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Verdict;
    use crate::host::Process;
    use crate::host::fake::Fake;
    use crate::testing::context;

    #[test]
    fn a_port_in_use_is_told_with_its_owner() {
        let fake = Fake::new(|state| {
            state.ports.insert(10000, Process { pid: 42, name: "nginx".into() });
        });
        let check = port(&context(&fake), ANY, 10000, "the edge link", "");
        assert_eq!(check.status, Verdict::Fail);
        assert_eq!(
            check.message,
            "port 10000, needed for the edge link, is in use by `nginx` (pid 42)"
        );
        assert_eq!(port(&context(&fake), ANY, 10002, "x", "").status, Verdict::Ok);
    }

    #[test]
    fn little_memory_warns_and_little_disk_fails() {
        let fake = Fake::new(|state| {
            state.free_memory = Some(64 * MIB);
            state.free_space = Some(MIB);
        });
        let cx = context(&fake);
        assert_eq!(memory(&cx).status, Verdict::Warn);
        assert_eq!(disk(&cx, "/var/lib".into()).status, Verdict::Fail);
        assert_eq!(root(&cx).status, Verdict::Ok);
    }
}

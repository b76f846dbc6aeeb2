//! A machine that systemd runs: this machine's files under a layer of its own, booted in
//! namespaces, so that services are installed, started, killed and removed as on a real one.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::keadm::binary;
use crate::wait;

/// Makes the file system and becomes systemd. `$1` is a folder to work in, `$2` the binary under
/// test, which appears as `/opt/keadm`.
const BOOT: &str = r#"
set -e
root="$1/root"
mkdir -p "$root" "$1/own"
mount -t tmpfs tmpfs "$1/own"
mkdir -p "$1/own/upper" "$1/own/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/own/upper,workdir=$1/own/work" "$root"
mkdir -p "$root/opt"
touch "$root/opt/keadm"
mount --bind "$2" "$root/opt/keadm"
groups="$root/sys/fs/cgroup"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup "$groups"
else
    mount -t tmpfs cgroup "$groups"
    mkdir "$groups/systemd"
    mount -t cgroup -o none,name=systemd systemd "$groups/systemd"
    for c in cpu cpuacct cpuset memory pids devices freezer blkio; do
        mkdir "$groups/$c"
        mount -t cgroup -o "$c" "$c" "$groups/$c"
    done
fi
mount -t tmpfs run "$root/run"
mount -t tmpfs tmp "$root/tmp"
mount -t tmpfs dev "$root/dev"
for d in null zero full random urandom tty; do
    touch "$root/dev/$d"
    mount --bind "/dev/$d" "$root/dev/$d"
done
mkdir "$root/dev/shm" "$root/dev/pts"
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
rm -f "$root"/etc/systemd/system/*.wants/*
# What this machine itself may have.
rm -f "$root/usr/local/bin/keadm" "$root/usr/local/bin/cloudcore" "$root/usr/local/bin/edgecore"
ip link set lo up
cd "$root"
mkdir -p old
pivot_root . old
exec chroot . sh -c 'umount -l /old
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
        --log-target=console --show-status=0 systemd.unit=multi-user.target'
"#;

/// A machine with systemd as its first process; gone when dropped, with all its processes.
#[derive(Debug)]
pub struct Machine {
    unshare: Child,
    first: u32,
    _folder: tempfile::TempDir,
}

impl Machine {
    /// Boots it. Needs root and Debian's package systemd.
    ///
    /// # Panics
    /// When it does not come up; with what it said.
    pub fn boot() -> Self {
        assert!(
            Path::new("/lib/systemd/systemd").exists(),
            "there is no systemd (package systemd)"
        );
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("boot.log");
        let out = std::fs::File::create(&log).unwrap();
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net"])
            .args(["--cgroup", "--propagation", "private", "sh", "-c", BOOT, "boot"])
            .arg(folder.path())
            .arg(binary())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut machine = Self { unshare, first: 0, _folder: folder };
        wait::until("a machine with systemd", Duration::from_secs(60), || {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            machine.first = child_of(machine.unshare.id()).ok_or_else(said)?;
            let state = machine.command("systemctl").arg("is-system-running").output().unwrap();
            match String::from_utf8_lossy(&state.stdout).trim() {
                // A unit of this machine that has no place in a namespace may fail.
                "running" | "degraded" => Ok(()),
                other => Err(format!("{other}: {}", said())),
            }
        });
        machine
    }

    /// A command that runs on this machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "-t",
                &self.first.to_string(),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "-C",
                "--",
                program,
            ])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// What `systemctl show` says of a property of a service.
    pub fn property(&self, service: &str, property: &str) -> String {
        let out = self
            .command("systemctl")
            .args(["show", "--value", "-p", property, service])
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// Sends SIGKILL to the main process of a service.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn kill_service(&self, service: &str) {
        let killed = self
            .command("systemctl")
            .args(["kill", "--kill-who=main", "--signal=SIGKILL", service])
            .status()
            .unwrap();
        assert!(killed.success(), "cannot kill {service}");
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let first = children.split_whitespace().next()?.parse().ok()?;
    // Until the shell has become systemd, nothing can be asked of it.
    let name = std::fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
    (name.trim() == "systemd").then_some(first)
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process of a pid namespace takes all others with it.
        if self.first != 0 {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(self.first.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

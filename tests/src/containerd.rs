//! A containerd of a test's own: its root, state, socket and network are in one directory, and
//! nothing is left of it when it is dropped.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::wait;

/// The image for containers: busybox with its applets.
pub const BUSYBOX: &str = "test.local/busybox:1";
/// The cgroup under which the pods' cgroups are.
pub const CGROUP: &str = "edged-test";
const PAUSE: &str = "test.local/pause:1";

/// A running containerd with CNI and two images.
pub struct Containerd {
    dir: tempfile::TempDir,
    process: Child,
}

fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
        .with_context(|| {
            format!("`{program}` is not installed; install the Debian package `{package}`, as tests/run does")
        })
}

impl Containerd {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When a program is missing, naming the package, or containerd does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_by(|program| Command::new(program))
    }

    /// Starts one on a host of the test's own.
    ///
    /// # Errors
    /// As [`Containerd::start`].
    pub fn start_on(host: &crate::host::Host) -> anyhow::Result<Self> {
        Self::start_by(|program| host.command(program))
    }

    fn start_by(command: impl Fn(&Path) -> Command) -> anyhow::Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "containers need root");
        let containerd = find("containerd", "containerd")?;
        find("runc", "runc")?;
        let plugins = Path::new("/usr/lib/cni");
        ensure!(
            plugins.join("ptp").exists(),
            "`/usr/lib/cni/ptp` is missing; install the Debian package `containernetworking-plugins`, as tests/run does"
        );
        // Sockets have short names.
        let dir = tempfile::Builder::new().prefix("cd-").tempdir_in("/tmp")?;
        let config = dir.path().join("config.toml");
        fs::write(&config, config_toml(dir.path(), plugins))?;
        let net = dir.path().join("net.d");
        fs::create_dir(&net)?;
        fs::write(net.join("10-test.conflist"), cni_conf(dir.path()))?;
        let log = fs::File::create(dir.path().join("containerd.log"))?;
        let process = command(&containerd)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let this = Self { dir, process };
        this.import(PAUSE, &["/bin/busybox", "sleep", "2147483647"])?;
        this.import(BUSYBOX, &["/bin/sh"])?;
        Ok(this)
    }

    /// `unix:///..`
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A directory for what else the test needs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock")
    }

    /// What containerd has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("containerd.log")).unwrap_or_default()
    }

    fn ctr(&self, args: &[&str]) -> anyhow::Result<()> {
        let ctr = find("ctr", "containerd")?;
        let what = format!("ctr {}", args.join(" "));
        wait::until(&what, Duration::from_secs(20), || {
            let mut command = Command::new(&ctr);
            command.arg("-a").arg(self.socket()).args(["-n", "k8s.io"]).args(args);
            let out = command.output().map_err(|e| e.to_string())?;
            if out.status.success() {
                return Ok(());
            }
            Err(format!("{}\n{}", String::from_utf8_lossy(&out.stderr), self.log()))
        });
        Ok(())
    }

    fn import(&self, name: &str, command: &[&str]) -> anyhow::Result<()> {
        let tar = self.dir.path().join("image.tar");
        write_image(&tar, name, command)?;
        self.ctr(&["images", "import", &tar.to_string_lossy()])
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // The shims outlive containerd by design: end what they hold first.
        let tasks = self.dir.path().join("state/io.containerd.runtime.v2.task/k8s.io");
        let mut networks = Vec::new();
        for task in fs::read_dir(&tasks).into_iter().flatten().flatten() {
            let spec = fs::read_to_string(task.path().join("config.json")).unwrap_or_default();
            networks.extend(network_of(&spec));
            let pid = fs::read_to_string(task.path().join("init.pid")).unwrap_or_default();
            kill(pid.trim());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A shim's command line has the address of its containerd.
        let mark = self.socket().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            if command.contains("containerd-shim") && command.contains(&mark) {
                kill(&entry.file_name().to_string_lossy());
            }
        }
        // Its veth pair goes with the network namespace.
        for network in networks {
            let _ = nix::mount::umount2(network.as_path(), nix::mount::MntFlags::MNT_DETACH);
            let _ = fs::remove_file(network);
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroups(&hierarchy.path().join(CGROUP));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = self.dir.path().to_string_lossy().into_owned();
        for mount in mounts.lines().rev().filter_map(|l| l.split(' ').nth(1)) {
            if mount.starts_with(&below) {
                let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }
}

/// The network namespace that was made for a container, from its OCI specification.
fn network_of(spec: &str) -> Option<PathBuf> {
    let spec: serde_json::Value = serde_json::from_str(spec).ok()?;
    let all = spec["linux"]["namespaces"].as_array()?;
    let path = all.iter().find(|ns| ns["type"] == "network")?["path"].as_str()?;
    path.contains("/netns/cni-").then(|| PathBuf::from(path))
}

/// Removes cgroups, the inner ones first; one with a process in it stays.
pub(crate) fn remove_cgroups(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

fn kill(pid: &str) {
    if let Ok(pid) = pid.parse() {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
}

fn config_toml(dir: &Path, plugins: &Path) -> String {
    let dir = dir.display();
    let plugins = plugins.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{dir}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{dir}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#
    )
}

/// Pods get an address that this machine alone can reach, of a network that no other test has.
fn cni_conf(dir: &Path) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = dir.display();
    let net = (std::process::id() * 8 + NEXT.fetch_add(1, Ordering::Relaxed)) % 512;
    let subnet = format!("198.{}.{}.0/24", 18 + net / 256, net % 256);
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "test", "plugins": [
  {{"type": "ptp", "ipam": {{"type": "host-local", "dataDir": "{dir}/ipam",
    "ranges": [[{{"subnet": "{subnet}"}}]]}}}}
]}}"#
    )
}

fn digest(data: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, data);
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// An OCI image of one layer: busybox and a link for each applet.
fn write_image(to: &Path, name: &str, command: &[&str]) -> anyhow::Result<()> {
    let busybox = find("busybox", "busybox-static")?;
    let layer = layer(&busybox)?;
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin", "FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]}
    }))?;
    let descriptor = |kind: &str, data: &[u8]| serde_json::json!({"mediaType": kind, "digest": format!("sha256:{}", digest(data)), "size": data.len()});
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)]
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": name});
    let index = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [entry]}))?;
    let mut tar = tar::Builder::new(fs::File::create(to)?);
    add(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    add(&mut tar, "index.json", &index, 0o644)?;
    for blob in [&layer, &config, &manifest] {
        add(&mut tar, &format!("blobs/sha256/{}", digest(blob)), blob, 0o644)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

fn layer(busybox: &Path) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "bin/busybox", &fs::read(busybox)?, 0o755)?;
    for applet in [
        "sh", "sleep", "cat", "echo", "true", "false", "ls", "env", "id", "touch", "mkdir", "wget",
        "httpd", "hostname", "stat", "dd", "kill", "test", "seq", "head", "tail", "nslookup",
        "grep", "cut", "awk", "date", "printf", "rm", "readlink", "nc", "mount", "sync", "usleep",
        "yes", "cp",
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    add(&mut tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n", 0o644)?;
    for dir in ["tmp/", "proc/", "sys/", "dev/"] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(if dir == "tmp/" { 0o1777 } else { 0o755 });
        tar.append_data(&mut header, dir, std::io::empty())?;
    }
    Ok(tar.into_inner()?)
}

fn add<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    data: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, data)?;
    Ok(())
}

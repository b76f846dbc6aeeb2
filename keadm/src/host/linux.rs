//! The real machine.

use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};

use super::services::{self, ServiceSpec};
use super::{Host, Lock, Process, ServiceManager, ServiceState, Space, ports};
use crate::context::Paths;

const READ_LIMIT: u64 = 64 << 20;

/// This machine.
#[derive(Debug)]
pub struct Linux {
    paths: Paths,
}

impl Linux {
    #[cfg(test)]
    pub(crate) fn root(&self) -> &Utf8Path {
        self.paths.root()
    }

    /// With services and logs below these paths.
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }
}

impl Host for Linux {
    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(READ_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > READ_LIMIT {
            return Err(io::Error::other("the file is larger than 64 MiB"));
        }
        Ok(bytes)
    }

    fn write(&self, path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let new = beside(path);
        let _ = fs::remove_file(&new);
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)
            .and_then(|mut file| {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, path))
            .and_then(|()| sync_folder(path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn copy(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        let new = beside(to);
        let copied = fs::copy(from, &new)
            .and_then(|_| fs::set_permissions(&new, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, to));
        if copied.is_err() {
            let _ = fs::remove_file(&new);
        }
        copied
    }

    fn create_dir(&self, path: &Utf8Path, mode: u32) -> io::Result<Option<Utf8PathBuf>> {
        let topmost = path.ancestors().take_while(|p| !p.exists()).last().map(Utf8Path::to_owned);
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        Ok(topmost)
    }

    fn link(&self, target: &Utf8Path, link: &Utf8Path) -> io::Result<()> {
        if fs::symlink_metadata(link).is_ok_and(|m| !m.is_symlink()) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let new = beside(link);
        let _ = fs::remove_file(&new);
        std::os::unix::fs::symlink(target, &new)?;
        fs::rename(&new, link)
    }

    fn read_link(&self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        path.read_link_utf8().ok()
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<bool> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(false) };
        if meta.is_dir() {
            unmount_below(path)?;
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
        Ok(true)
    }

    fn unmount_below(&self, path: &Utf8Path) -> io::Result<()> {
        if self.exists(path) { unmount_below(path) } else { Ok(()) }
    }

    fn exists(&self, path: &Utf8Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn size(&self, path: &Utf8Path) -> Option<u64> {
        fs::metadata(path).ok().map(|m| m.len())
    }

    fn same(&self, one: &Utf8Path, other: &Utf8Path) -> bool {
        same(one, other).unwrap_or(false)
    }

    fn lock(&self, folder: &Utf8Path) -> io::Result<Option<Lock>> {
        match Flock::lock(fs::File::open(folder)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Lock(Some(lock)))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(e.into()),
        }
    }

    fn version_of(&self, program: &Utf8Path) -> io::Result<String> {
        version_of(program)
    }

    fn list(&self, path: &Utf8Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn mode(&self, path: &Utf8Path) -> Option<u32> {
        fs::metadata(path).ok().map(|m| m.mode() & 0o7777)
    }

    fn space(&self, path: &Utf8Path) -> io::Result<Space> {
        let there = path.ancestors().find(|p| p.exists()).unwrap_or(Utf8Path::new("/"));
        let stat = nix::sys::statvfs::statvfs(there.as_std_path())?;
        let unit = stat.fragment_size();
        Ok(Space { total: stat.blocks() * unit, free: stat.blocks_available() * unit })
    }

    fn is_root(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    fn hostname(&self) -> String {
        nix::unistd::gethostname()
            .ok()
            .and_then(|n| n.into_string().ok())
            .unwrap_or_else(|| "localhost".to_owned())
    }

    fn available_memory(&self) -> Option<u64> {
        use procfs::Current;
        procfs::Meminfo::current().ok()?.mem_available
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn this_program(&self) -> io::Result<Utf8PathBuf> {
        Utf8PathBuf::from_path_buf(std::env::current_exe()?)
            .map_err(|_| io::Error::other("the path of this program is not UTF-8"))
    }

    fn processes(&self, name: &str) -> Vec<Process> {
        let me = std::process::id() as i32;
        let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
        // A process in another network takes no port of this machine: it is in a container.
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let here = network("self");
        all.flatten()
            .filter(|p| p.pid != me && network(&p.pid.to_string()) == here)
            .filter_map(|p| Some(Process { pid: p.pid, name: p.stat().ok()?.comm }))
            .filter(|p| p.name == name)
            .collect()
    }

    fn try_listen(&self, address: SocketAddr) -> io::Result<()> {
        TcpListener::bind(address).map(|_| ())
    }

    fn port_owner(&self, port: u16) -> Option<Process> {
        ports::owner(port)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
        let mut found: Vec<IpAddr> = all
            .filter_map(|i| i.address)
            .filter_map(|a| {
                a.as_sockaddr_in()
                    .map(|v4| IpAddr::V4(v4.ip()))
                    .or_else(|| a.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            })
            .filter(|ip| !ip.is_loopback() && !link_local(ip))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    fn ask(&self) -> Option<String> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let mut line = String::new();
        stdin.lock().take(1024).read_line(&mut line).ok()?;
        Some(line.trim().to_owned())
    }

    fn service_manager(&self) -> ServiceManager {
        // The folder exists exactly when systemd is process 1; see sd_booted(3).
        if fs::exists("/run/systemd/system").unwrap_or(false) {
            ServiceManager::Systemd
        } else {
            ServiceManager::Background
        }
    }

    fn start_service(&self, service: &ServiceSpec) -> io::Result<()> {
        match self.service_manager() {
            ServiceManager::Systemd => services::systemd::start(self, &self.paths, service),
            ServiceManager::Background => services::background::start(self, &self.paths, service),
        }
    }

    fn remove_service(&self, name: &str) -> io::Result<bool> {
        let by_systemd = match self.service_manager() {
            ServiceManager::Systemd => services::systemd::remove(&self.paths, name)?,
            ServiceManager::Background => false,
        };
        Ok(services::background::remove(&self.paths, name)? || by_systemd)
    }

    fn restart_service(&self, name: &str) -> io::Result<()> {
        match self.service_manager() {
            ServiceManager::Systemd => services::systemd::restart(name),
            ServiceManager::Background => services::background::restart(self, &self.paths, name),
        }
    }

    fn stop_service(&self, name: &str) -> io::Result<()> {
        match self.service_manager() {
            ServiceManager::Systemd => services::systemd::stop(name),
            ServiceManager::Background => services::background::stop(&self.paths, name).map(drop),
        }
    }

    fn service_state(&self, name: &str) -> ServiceState {
        match self.service_manager() {
            ServiceManager::Systemd => services::systemd::state(&self.paths, name),
            ServiceManager::Background => services::background::state(&self.paths, name),
        }
    }

    fn service_log(&self, name: &str, lines: usize) -> Vec<String> {
        match self.service_manager() {
            ServiceManager::Systemd => services::systemd::log(name, lines),
            ServiceManager::Background => services::background::log(&self.paths, name, lines),
        }
    }
}

fn same(one: &Utf8Path, other: &Utf8Path) -> io::Result<bool> {
    let (one, other) = (fs::File::open(one)?, fs::File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let n = left.len().min(right.len());
        if n == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..n] != right[..n] {
            return Ok(false);
        }
        one.consume(n);
        other.consume(n);
    }
}

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

fn version_of(program: &Utf8Path) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(["edgecore", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()?;
    let tries = VERSION_LIMIT.as_millis() / 20;
    for _ in 0..tries {
        let Some(status) = child.try_wait()? else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let mut said = String::new();
        if let Some(out) = child.stdout.take() {
            out.take(4096).read_to_string(&mut said)?;
        }
        let said = said.trim();
        return match status.success() && said.starts_with("KubeEdge ") {
            true => Ok(said.to_owned()),
            false => Err(io::Error::other(format!("asked for its version it ends with {status}"))),
        };
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::other("asked for its version it does not end"))
}

fn link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn beside(path: &Utf8Path) -> Utf8PathBuf {
    let name = path.file_name().unwrap_or("file");
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn sync_folder(path: &Utf8Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// Takes away all mounts on or below a folder, the innermost first: what is mounted there (a
/// volume, a host path) belongs to somebody else and must not be emptied.
fn unmount_below(path: &Utf8Path) -> io::Result<()> {
    let path = path.canonicalize()?;
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let mut points: Vec<std::path::PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| unescape(point).into())
        .filter(|point: &std::path::PathBuf| point.starts_with(&path))
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.as_os_str().len()));
    for point in points {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

/// mountinfo writes blanks, tabs, line feeds and backslashes as three octal digits.
fn unescape(point: &str) -> String {
    let mut text = String::new();
    let mut rest = point;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 4).unwrap_or("");
        match u8::from_str_radix(digits, 8) {
            Ok(byte) => {
                text.push(byte as char);
                rest = &rest[at + 4..];
            }
            Err(_) => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(dir: &tempfile::TempDir) -> (Linux, Utf8PathBuf) {
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (Linux::new(Paths::below(&root)), root)
    }

    #[test]
    fn a_file_is_written_with_its_mode_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (host, root) = host(&dir);
        let path = root.join("token");
        host.write(&path, b"one", 0o600).unwrap();
        host.write(&path, b"two", 0o600).unwrap();
        assert_eq!(host.read(&path).unwrap(), b"two");
        assert_eq!(host.mode(&path), Some(0o600));
        assert_eq!(host.list(&root), ["token"]);
        assert!(host.write(&root.join("absent/x"), b"", 0o600).is_err());
    }

    #[test]
    fn create_dir_says_what_was_not_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let (host, root) = host(&dir);
        let made = host.create_dir(&root.join("a/b/c"), 0o700).unwrap();
        assert_eq!(made, Some(root.join("a")));
        assert_eq!(host.create_dir(&root.join("a/b"), 0o700).unwrap(), None);
        assert_eq!(host.mode(&root.join("a/b")), Some(0o700));
    }

    #[test]
    fn a_link_never_replaces_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (host, root) = host(&dir);
        let (target, link) = (root.join("keadm"), root.join("edgecore"));
        host.link(&target, &link).unwrap();
        host.link(&target, &link).unwrap();
        assert_eq!(host.read_link(&link), Some(target.clone()));
        host.write(&target, b"x", 0o600).unwrap();
        assert!(host.link(&link, &target).is_err());
    }

    #[test]
    fn removing_twice_is_fine_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (host, root) = host(&dir);
        host.create_dir(&root.join("keep"), 0o700).unwrap();
        host.write(&root.join("keep/file"), b"x", 0o600).unwrap();
        host.create_dir(&root.join("gone"), 0o700).unwrap();
        host.link(&root.join("keep"), &root.join("gone/link")).unwrap();
        assert!(host.remove(&root.join("gone")).unwrap());
        assert!(!host.remove(&root.join("gone")).unwrap());
        assert!(host.exists(&root.join("keep/file")));
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/var/a\040b\134c"), r"/var/a b\c");
        assert_eq!(unescape(r"/plain\"), r"/plain\");
    }
}

//! A machine made of values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;

/// What is on the machine; tests set it up and look at it afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<Utf8PathBuf, (u32, Vec<u8>)>,
    pub(crate) folders: BTreeSet<Utf8PathBuf>,
    pub(crate) links: BTreeMap<Utf8PathBuf, Utf8PathBuf>,
    pub(crate) services: BTreeMap<String, ServiceSpec>,
    pub(crate) ports: BTreeMap<u16, Process>,
    pub(crate) processes: Vec<Process>,
    pub(crate) answers: Vec<String>,
    pub(crate) log: Vec<String>,
    pub(crate) not_root: bool,
    pub(crate) disk_full: bool,
    pub(crate) free_space: Option<u64>,
    pub(crate) free_memory: Option<u64>,
}

/// The machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn new(set_up: impl FnOnce(&mut State)) -> Self {
        let fake = Self::default();
        set_up(&mut fake.0.lock());
        fake
    }

    pub(crate) fn state(&self) -> State {
        self.0.lock().clone()
    }

    /// Files, folders and links, one a line, for snapshots.
    pub(crate) fn tree(&self) -> String {
        let state = self.0.lock();
        let mut lines: Vec<String> =
            state.files.iter().map(|(path, (mode, _))| format!("{path} {mode:04o}")).collect();
        lines.extend(state.links.iter().map(|(path, to)| format!("{path} -> {to}")));
        lines.extend(state.services.keys().map(|name| format!("service {name}")));
        lines.sort();
        lines.join("\n")
    }
}

fn absent() -> io::Error {
    io::Error::from_raw_os_error(2)
}

impl Host for Fake {
    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        self.0.lock().files.get(path).map(|(_, bytes)| bytes.clone()).ok_or_else(absent)
    }

    fn write(&self, path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.disk_full {
            return Err(io::Error::from_raw_os_error(28));
        }
        state.files.insert(path.to_owned(), (mode, bytes.to_vec()));
        Ok(())
    }

    fn copy(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        let program = self.this_program().is_ok_and(|p| p == from);
        let bytes = if program { b"keadm".to_vec() } else { self.read(from)? };
        self.write(to, &bytes, 0o755)
    }

    fn create_dir(&self, path: &Utf8Path, _mode: u32) -> io::Result<Option<Utf8PathBuf>> {
        let new: Vec<_> =
            path.ancestors().take_while(|p| !self.exists(p)).map(Utf8Path::to_owned).collect();
        self.0.lock().folders.extend(new.iter().cloned());
        Ok(new.last().cloned())
    }

    fn link(&self, target: &Utf8Path, link: &Utf8Path) -> io::Result<()> {
        self.0.lock().links.insert(link.to_owned(), target.to_owned());
        Ok(())
    }

    fn read_link(&self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        self.0.lock().links.get(path).cloned()
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<bool> {
        if !self.exists(path) {
            return Ok(false);
        }
        let mut state = self.0.lock();
        state.files.retain(|p, _| !p.starts_with(path));
        state.folders.retain(|p| !p.starts_with(path));
        state.links.retain(|p, _| !p.starts_with(path));
        Ok(true)
    }

    fn unmount_below(&self, _: &Utf8Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Utf8Path) -> bool {
        let state = self.0.lock();
        path == "/"
            || state.folders.contains(path)
            || state.files.keys().chain(state.links.keys()).any(|p| p.starts_with(path))
    }

    fn size(&self, path: &Utf8Path) -> Option<u64> {
        self.0.lock().files.get(path).map(|(_, bytes)| bytes.len() as u64)
    }

    fn same(&self, one: &Utf8Path, other: &Utf8Path) -> bool {
        let state = self.0.lock();
        let of = |path: &Utf8Path| state.files.get(path).map(|(_, bytes)| bytes);
        of(one).is_some() && of(one) == of(other)
    }

    fn lock(&self, _: &Utf8Path) -> io::Result<Option<Lock>> {
        Ok(Some(Lock(None)))
    }

    fn version_of(&self, program: &Utf8Path) -> io::Result<String> {
        self.read(program).map(|_| "KubeEdge v1.23.0".to_owned())
    }

    fn list(&self, path: &Utf8Path) -> Vec<String> {
        let state = self.0.lock();
        let all = state.files.keys().chain(&state.folders).chain(state.links.keys());
        let names: BTreeSet<String> = all
            .filter_map(|p| p.strip_prefix(path).ok()?.iter().next().map(str::to_owned))
            .collect();
        names.into_iter().collect()
    }

    fn mode(&self, path: &Utf8Path) -> Option<u32> {
        self.0.lock().files.get(path).map(|(mode, _)| *mode)
    }

    fn space(&self, _: &Utf8Path) -> io::Result<Space> {
        Ok(Space { total: 64 << 30, free: self.0.lock().free_space.unwrap_or(32 << 30) })
    }

    fn is_root(&self) -> bool {
        !self.0.lock().not_root
    }

    fn hostname(&self) -> String {
        "edge-1".to_owned()
    }

    fn available_memory(&self) -> Option<u64> {
        Some(self.0.lock().free_memory.unwrap_or(2 << 30))
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn this_program(&self) -> io::Result<Utf8PathBuf> {
        Ok("/home/me/keadm".into())
    }

    fn processes(&self, name: &str) -> Vec<Process> {
        self.0.lock().processes.iter().filter(|p| p.name == name).cloned().collect()
    }

    fn try_listen(&self, address: SocketAddr) -> io::Result<()> {
        match self.0.lock().ports.contains_key(&address.port()) {
            true => Err(io::Error::from_raw_os_error(98)),
            false => Ok(()),
        }
    }

    fn port_owner(&self, port: u16) -> Option<Process> {
        self.0.lock().ports.get(&port).cloned()
    }

    fn addresses(&self) -> Vec<IpAddr> {
        vec![[192, 168, 7, 2].into()]
    }

    fn ask(&self) -> Option<String> {
        self.0.lock().answers.pop()
    }

    fn service_manager(&self) -> ServiceManager {
        ServiceManager::Systemd
    }

    fn start_service(&self, service: &ServiceSpec) -> io::Result<()> {
        self.0.lock().services.insert(service.name.clone(), service.clone());
        Ok(())
    }

    fn remove_service(&self, name: &str) -> io::Result<bool> {
        Ok(self.0.lock().services.remove(name).is_some())
    }

    fn restart_service(&self, name: &str) -> io::Result<()> {
        self.0.lock().services.get(name).map(drop).ok_or_else(absent)
    }

    fn stop_service(&self, name: &str) -> io::Result<()> {
        self.0.lock().services.get(name).map(drop).ok_or_else(absent)
    }

    fn service_state(&self, name: &str) -> ServiceState {
        match self.0.lock().services.contains_key(name) {
            true => ServiceState::Running,
            false => ServiceState::Absent,
        }
    }

    fn service_log(&self, _: &str, _: usize) -> Vec<String> {
        self.0.lock().log.clone()
    }
}

//! A machine whose files are real, below a folder of the test's, and whose rest is made of values.

use super::fake::Fake;
use super::*;

pub(crate) struct OnDisk {
    pub(crate) disk: Linux,
    pub(crate) fake: Fake,
}

impl Host for OnDisk {
    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn write(&self, path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        if self.fake.0.lock().disk_full {
            return Err(io::Error::from_raw_os_error(28));
        }
        self.disk.write(path, bytes, mode)
    }

    fn copy(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        self.disk.copy(from, to)
    }

    fn create_dir(&self, path: &Utf8Path, mode: u32) -> io::Result<Option<Utf8PathBuf>> {
        self.disk.create_dir(path, mode)
    }

    fn link(&self, target: &Utf8Path, link: &Utf8Path) -> io::Result<()> {
        self.disk.link(target, link)
    }

    fn read_link(&self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        self.disk.read_link(path)
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<bool> {
        self.disk.remove(path)
    }

    fn unmount_below(&self, path: &Utf8Path) -> io::Result<()> {
        self.disk.unmount_below(path)
    }

    fn exists(&self, path: &Utf8Path) -> bool {
        // A runtime's socket is not below the test's folder.
        self.disk.exists(path) && !path.starts_with("/run")
    }

    fn size(&self, path: &Utf8Path) -> Option<u64> {
        self.disk.size(path)
    }

    fn same(&self, one: &Utf8Path, other: &Utf8Path) -> bool {
        self.disk.same(one, other)
    }

    fn lock(&self, folder: &Utf8Path) -> io::Result<Option<Lock>> {
        self.disk.lock(folder)
    }

    fn version_of(&self, program: &Utf8Path) -> io::Result<String> {
        self.disk.version_of(program)
    }

    fn list(&self, path: &Utf8Path) -> Vec<String> {
        self.disk.list(path)
    }

    fn mode(&self, path: &Utf8Path) -> Option<u32> {
        self.disk.mode(path)
    }

    fn space(&self, path: &Utf8Path) -> io::Result<Space> {
        self.fake.space(path)
    }

    fn is_root(&self) -> bool {
        self.fake.is_root()
    }

    fn hostname(&self) -> String {
        self.fake.hostname()
    }

    fn available_memory(&self) -> Option<u64> {
        self.fake.available_memory()
    }

    fn now(&self) -> SystemTime {
        // Certificates that are made during a test are valid now.
        SystemTime::now()
    }

    fn this_program(&self) -> io::Result<Utf8PathBuf> {
        let program = self.disk.root().join("program");
        std::fs::write(&program, "keadm")?;
        Ok(program)
    }

    fn processes(&self, name: &str) -> Vec<Process> {
        self.fake.processes(name)
    }

    fn try_listen(&self, address: SocketAddr) -> io::Result<()> {
        self.fake.try_listen(address)
    }

    fn port_owner(&self, port: u16) -> Option<Process> {
        self.fake.port_owner(port)
    }

    fn addresses(&self) -> Vec<std::net::IpAddr> {
        self.fake.addresses()
    }

    fn ask(&self) -> Option<String> {
        self.fake.ask()
    }

    fn service_manager(&self) -> ServiceManager {
        self.fake.service_manager()
    }

    fn start_service(&self, service: &ServiceSpec) -> io::Result<()> {
        self.fake.start_service(service)
    }

    fn remove_service(&self, name: &str) -> io::Result<bool> {
        self.fake.remove_service(name)
    }

    fn restart_service(&self, name: &str) -> io::Result<()> {
        self.fake.restart_service(name)
    }

    fn stop_service(&self, name: &str) -> io::Result<()> {
        self.fake.stop_service(name)
    }

    fn service_state(&self, name: &str) -> ServiceState {
        self.fake.service_state(name)
    }

    fn service_log(&self, name: &str, lines: usize) -> Vec<String> {
        self.fake.service_log(name, lines)
    }
}

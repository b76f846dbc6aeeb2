//! The machine behind a trait, so that every command can be tried on a machine made of values.
//!
//! Owns: the words for what a command asks of a machine.
//! Called by: commands and phases through `Context`.
//! Never: decides; it answers and obeys.

#[cfg(test)]
pub(crate) mod fake;
mod linux;
#[cfg(test)]
pub(crate) mod on_disk;
mod ports;
mod services;

use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

pub use linux::Linux;
pub use services::{ServiceSpec, supervise};

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its short name, as in `/proc/PID/comm`.
    pub name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` (pid {})", self.name, self.pid)
    }
}

/// What runs services here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManager {
    /// systemd is process 1.
    Systemd,
    /// Nothing does: a background process of our own restarts the program.
    Background,
}

impl std::fmt::Display for ServiceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd service",
            Self::Background => "background process",
        })
    }
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// Not installed.
    Absent,
    /// Installed and not running.
    Stopped,
    /// Running.
    Running,
}

/// A folder that this process holds; see [`Host::lock`].
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held")] Option<nix::fcntl::Flock<std::fs::File>>);

/// Size and free part of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What an unprivileged process may still use.
    pub free: u64,
}

/// A machine. Paths are absolute; writing is atomic: the old file or the new one, never half of it.
pub trait Host: Send + Sync {
    /// The content of a file of at most 64 MiB.
    ///
    /// # Errors
    /// As the operating system says.
    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>>;
    /// Writes a file with this mode; its folder must exist.
    ///
    /// # Errors
    /// As the operating system says; the old file is then still there.
    fn write(&self, path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Copies a program; everybody may run the copy.
    ///
    /// # Errors
    /// As the operating system says.
    fn copy(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()>;
    /// Makes a folder and those above it; those made get this mode. Returns the topmost one made.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_dir(&self, path: &Utf8Path, mode: u32) -> io::Result<Option<Utf8PathBuf>>;
    /// Points a symbolic link at `target`, replacing an older link.
    ///
    /// # Errors
    /// As the operating system says; also when something else than a link is in the way.
    fn link(&self, target: &Utf8Path, link: &Utf8Path) -> io::Result<()>;
    /// Where a link points.
    fn read_link(&self, path: &Utf8Path) -> Option<Utf8PathBuf>;
    /// Removes a file, link or folder with all in it, after unmounting what is mounted below.
    /// False if there was nothing.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Utf8Path) -> io::Result<bool>;
    /// Takes away all mounts on or below a folder, the innermost first.
    ///
    /// # Errors
    /// As the operating system says.
    fn unmount_below(&self, path: &Utf8Path) -> io::Result<()>;
    /// Whether something is there (links are not followed).
    fn exists(&self, path: &Utf8Path) -> bool;
    /// The size of a file, in bytes.
    fn size(&self, path: &Utf8Path) -> Option<u64>;
    /// Whether two files have the same content.
    fn same(&self, one: &Utf8Path, other: &Utf8Path) -> bool;
    /// Holds a folder until what is returned is dropped, or this process ends. `None`: another
    /// process has it.
    ///
    /// # Errors
    /// As the operating system says.
    fn lock(&self, folder: &Utf8Path) -> io::Result<Option<Lock>>;
    /// What a keadm says of its version as edgecore, for example `KubeEdge v1.23.0`.
    ///
    /// # Errors
    /// When it cannot be run, says nothing in time, or something else.
    fn version_of(&self, program: &Utf8Path) -> io::Result<String>;
    /// The names in a folder, sorted; none if it is absent.
    fn list(&self, path: &Utf8Path) -> Vec<String>;
    /// The permission bits of a file.
    fn mode(&self, path: &Utf8Path) -> Option<u32>;
    /// Size and free part of the file system that holds `path` or its nearest existing parent.
    ///
    /// # Errors
    /// As the operating system says.
    fn space(&self, path: &Utf8Path) -> io::Result<Space>;

    /// Whether this process may do everything.
    fn is_root(&self) -> bool;
    /// The machine's name.
    fn hostname(&self) -> String;
    /// Bytes of memory that can still be used.
    fn available_memory(&self) -> Option<u64>;
    /// The time of day.
    fn now(&self) -> SystemTime;
    /// This program's file.
    ///
    /// # Errors
    /// As the operating system says.
    fn this_program(&self) -> io::Result<Utf8PathBuf>;
    /// All processes called `name`, apart from this one.
    fn processes(&self, name: &str) -> Vec<Process>;
    /// Tries to listen on an address.
    ///
    /// # Errors
    /// As the operating system says.
    fn try_listen(&self, address: SocketAddr) -> io::Result<()>;
    /// Who listens on a TCP port, if that can be seen.
    fn port_owner(&self, port: u16) -> Option<Process>;
    /// The addresses of this machine's network interfaces, without loopback.
    fn addresses(&self) -> Vec<std::net::IpAddr>;
    /// The answer to a question on the terminal; `None` without a terminal.
    fn ask(&self) -> Option<String>;

    /// What runs services.
    fn service_manager(&self) -> ServiceManager;
    /// Installs a service or replaces it, and starts it; also after a reboot where systemd is.
    ///
    /// # Errors
    /// When the service manager refuses.
    fn start_service(&self, service: &ServiceSpec) -> io::Result<()>;
    /// Stops a service and takes it away. False if there was none.
    ///
    /// # Errors
    /// When it cannot be stopped.
    fn remove_service(&self, name: &str) -> io::Result<bool>;
    /// Starts an installed service anew, with the installed program.
    ///
    /// # Errors
    /// When there is none, or the service manager refuses.
    fn restart_service(&self, name: &str) -> io::Result<()>;
    /// Stops an installed service, which stays installed.
    ///
    /// # Errors
    /// When it cannot be stopped.
    fn stop_service(&self, name: &str) -> io::Result<()>;
    /// How a service is.
    fn service_state(&self, name: &str) -> ServiceState;
    /// The last lines that a service has said.
    fn service_log(&self, name: &str, lines: usize) -> Vec<String>;
}

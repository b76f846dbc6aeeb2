//! Who listens on a port, from `/proc`.

use procfs::net::TcpState;
use procfs::process::{FDTarget, all_processes};

use super::Process;

/// The process that listens on a TCP port in this network namespace, if it can be seen: without
/// root, only one's own processes can.
pub(super) fn owner(port: u16) -> Option<Process> {
    let listening: Vec<u64> = procfs::net::tcp()
        .into_iter()
        .flatten()
        .chain(procfs::net::tcp6().into_iter().flatten())
        .filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == port)
        .map(|entry| entry.inode)
        .collect();
    if listening.is_empty() {
        return None;
    }
    for process in all_processes().ok()?.flatten() {
        let Ok(fds) = process.fd() else { continue };
        for fd in fds.flatten() {
            if let FDTarget::Socket(inode) = fd.target
                && listening.contains(&inode)
            {
                let name = process.stat().map_or_else(|_| "?".to_owned(), |s| s.comm);
                return Some(Process { pid: process.pid, name });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_listening_port_is_found_with_its_process() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let owner = super::owner(port).unwrap();
        assert_eq!(owner.pid, std::process::id() as i32);
        drop(listener);
        assert_eq!(super::owner(port), None);
    }
}

//! A host of the test's own: a network namespace, so that every test may use the ports that the
//! documentation names, side by side with the others.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with its loopback up; removed when dropped.
#[derive(Debug)]
pub struct Host {
    name: String,
}

/// Two hosts joined by a cable, `10.77.0.1` and `10.77.0.2`.
#[derive(Debug)]
pub struct Pair {
    /// `10.77.0.1`
    pub cloud: Host,
    /// `10.77.0.2`
    pub edge: Host,
}

/// The first address of a [`Pair`].
pub const CLOUD_ADDRESS: &str = "10.77.0.1";
/// The second address of a [`Pair`].
pub const EDGE_ADDRESS: &str = "10.77.0.2";

fn ip(args: &[&str]) -> Output {
    let out = Command::new("ip").args(args).output().expect("`ip` (package iproute2) runs");
    assert!(
        out.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

impl Host {
    /// A new host that nobody else can reach. Needs root.
    ///
    /// # Panics
    /// When the namespace cannot be made.
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root; run as root");
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kt{}-{n}", std::process::id());
        ip(&["netns", "add", &name]);
        let host = Self { name };
        ip(&["-n", &host.name, "link", "set", "lo", "up"]);
        host
    }

    /// A command that runs on this host. Unlike `ip netns exec` this leaves `/sys` as it is, which
    /// containers need.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

impl Pair {
    /// Two hosts and a cable.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn new() -> Self {
        let (cloud, edge) = (Host::new(), Host::new());
        ip(&[
            "-n",
            &cloud.name,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &edge.name,
        ]);
        for (host, address) in [(&cloud, CLOUD_ADDRESS), (&edge, EDGE_ADDRESS)] {
            ip(&["-n", &host.name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", &host.name, "link", "set", "eth0", "up"]);
            // Programs ask for the default route to find out which address is theirs.
            ip(&["-n", &host.name, "route", "add", "default", "dev", "eth0"]);
        }
        Self { cloud, edge }
    }

    /// Cuts the cable: packets vanish, as on a bad line.
    pub fn cut(&self) {
        ip(&["-n", &self.edge.name, "link", "set", "eth0", "down"]);
    }

    /// Mends the cable.
    pub fn mend(&self) {
        ip(&["-n", &self.edge.name, "link", "set", "eth0", "up"]);
        let _ = Command::new("ip")
            .args(["-n", &self.edge.name, "route", "add", "default", "dev", "eth0"])
            .output();
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

//! Where scenes take place: two hosts, a cloud on one, and on the other an edge whose pods run in
//! containerd. Gone when dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tests::containerd::Containerd;
use tests::host::{CLOUD_ADDRESS, Host, Pair};
use tests::keadm::{ANY_DISK, binary, command, service_pid};
use tests::kubectl::Kubectl;

use crate::client::{INSIDE, WATCHING};

const KUBECONFIG: &str = "/etc/kubeedge/config/admin.kubeconfig";
/// The edge's name.
pub(crate) const NODE: &str = "edge-2";
/// How long anything may take before the group is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A cloud and a joined edge.
pub(crate) struct Site {
    group: &'static str,
    pub(crate) pair: Pair,
    _containerd: Containerd,
}

/// The binary that has only the edge in it, if it is built.
pub(crate) fn edge_binary() -> Option<PathBuf> {
    std::env::var_os("KEADM_EDGE_BIN").map(PathBuf::from)
}

/// Runs `keadm` to its end; returns what it printed.
fn keadm(mut command: Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn token(cloud: &Host) -> String {
    keadm(command(cloud, ["gettoken"]))
}

impl Site {
    /// For the scenes of a group.
    pub(crate) fn new(group: &'static str) -> Self {
        Self::make(group, &binary(), &[])
    }

    /// [`Site::new`] with more arguments of `keadm join`.
    pub(crate) fn with(group: &'static str, join: &[&str]) -> Self {
        Self::make(group, &binary(), join)
    }

    /// [`Site::new`] with another binary on the edge.
    pub(crate) fn with_edge(group: &'static str, edge: &Path) -> Self {
        Self::make(group, edge, &[])
    }

    fn make(group: &'static str, edge: &Path, more: &[&str]) -> Self {
        let pair = Pair::new();
        let containerd = Containerd::start_on(&pair.edge).unwrap();
        keadm(command(&pair.cloud, ["init", "--embedded", "--advertise-address", CLOUD_ADDRESS]));
        let token = token(&pair.cloud);
        let link = format!("{CLOUD_ADDRESS}:10000");
        let endpoint = containerd.endpoint();
        let mut join = pair.edge.command(edge);
        join.args(["join", "-e", &link, "-t", &token, "-i", NODE, "-p", &endpoint]);
        join.args(["--set", ANY_DISK]).args(more).stdin(Stdio::null());
        keadm(join);
        Self { group, pair, _containerd: containerd }
    }

    /// The administrator's kubectl.
    pub(crate) fn kubectl(&self) -> Kubectl<'_> {
        Kubectl::new(&self.pair.cloud, Path::new(KUBECONFIG))
    }

    /// A token to join with.
    pub(crate) fn token(&self) -> String {
        token(&self.pair.cloud)
    }

    /// Its process.
    pub(crate) fn edgecore(&self) -> u32 {
        service_pid(&self.pair.edge, "edgecore").unwrap()
    }

    /// Its process.
    pub(crate) fn cloudcore(&self) -> u32 {
        service_pid(&self.pair.cloud, "cloudcore").unwrap()
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.pair.cloud.command(std::env::current_exe().unwrap());
        command.args([INSIDE, self.group, KUBECONFIG]).args(args);
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a scene of the group's `inside` on the cloud's host; returns what it printed.
    pub(crate) fn scene(&self, args: &[&str]) -> Vec<f64> {
        let out = self.start(args).wait_with_output().unwrap();
        if !out.status.success() {
            let pods = self.kubectl().output(&["get", "pods,events", "--all-namespaces"], "");
            eprintln!("{}", String::from_utf8_lossy(&pods.stdout));
            panic!("the scene {args:?} failed");
        }
        String::from_utf8(out.stdout).unwrap().lines().map(|l| l.parse().unwrap()).collect()
    }

    /// Starts a scene, does `act` once it watches, and returns the seconds from then to the end of
    /// the scene's wait.
    pub(crate) fn seconds_until(&self, args: &[&str], act: impl FnOnce()) -> f64 {
        let mut child = self.start(args);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), WATCHING);
        let from = Instant::now();
        act();
        let seen = lines.next();
        let time = from.elapsed().as_secs_f64();
        assert!(child.wait().unwrap().success() && seen.is_some(), "the scene {args:?} failed");
        time
    }
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// Resident memory in MiB: ten looks, a second apart, after it had time to settle: a program gives
/// back what its start needed ten seconds after it.
pub(crate) fn memory(pid: u32) -> Vec<f64> {
    looks(pid, "VmRSS:")
}

/// The part of it that is no file's: what a program has allocated.
pub(crate) fn allocated(pid: u32) -> Vec<f64> {
    looks(pid, "RssAnon:")
}

fn looks(pid: u32, field: &str) -> Vec<f64> {
    pause(Duration::from_secs(15));
    let look = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    };
    (0..10)
        .map(|_| {
            pause(Duration::from_secs(1));
            look()
        })
        .collect()
}

/// Lets time pass: what is measured needs it.
pub(crate) fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(rest) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(rest);
    }
}

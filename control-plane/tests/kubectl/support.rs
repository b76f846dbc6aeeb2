//! A control plane in this process, and kubectl beside it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use control_plane::{Config, ControlPlane, Running};
use service::Service;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// A control plane that runs in this process.
pub(crate) struct Cluster {
    pub(crate) running: Running,
    dir: Option<tempfile::TempDir>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<Result<(), service::Stopped>>,
}

/// What kubectl said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) ok: bool,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder")).await
    }

    async fn start_in(dir: tempfile::TempDir) -> Self {
        let mut svc = Service::new("control-plane");
        let mut config = Config::new(dir.path().join("cp"));
        config.bind.set_port(0);
        let built = ControlPlane::build(config, &svc).await.expect("the control plane starts");
        let running = built.spawn(&mut svc);
        let stop = svc.stopping();
        Self { running, dir: Some(dir), stop, done: tokio::spawn(svc.until_stopped()) }
    }

    /// Stops it and starts another on the same folder.
    pub(crate) async fn restart(mut self) -> Self {
        let dir = self.dir.take().expect("it has a folder");
        self.stop.cancel();
        (&mut self.done).await.expect("no panic").expect("a clean stop");
        Self::start_in(dir).await
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        self.running.kubeconfig()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(kubectl());
        c.arg("--kubeconfig").arg(self.kubeconfig()).args(args);
        // Its caches stay in the test's own folder.
        c.env("HOME", self.dir.as_ref().expect("it has a folder").path());
        c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        c
    }

    /// Runs kubectl with a text on its standard input.
    pub(crate) async fn kubectl_in(&self, args: &[&str], input: &str) -> Said {
        let mut child = self.command(args).spawn().unwrap_or_else(|e| {
            panic!("kubectl cannot be started ({e}); these tests need it on the PATH, or its path in KUBECTL")
        });
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.expect("kubectl reads");
        drop(stdin);
        let Output { status, stdout, stderr } =
            tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
                .await
                .unwrap_or_else(|_| panic!("kubectl {args:?} did not end"))
                .expect("kubectl runs");
        let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
        Said { out: text(stdout), err: text(stderr), ok: status.success() }
    }

    pub(crate) async fn kubectl(&self, args: &[&str]) -> Said {
        self.kubectl_in(args, "").await
    }

    /// Runs kubectl, which must succeed; returns what it printed.
    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        let said = self.kubectl(args).await;
        assert!(said.ok, "kubectl {args:?} failed: {}{}", said.out, said.err);
        said.out
    }

    /// Runs kubectl until it succeeds.
    pub(crate) async fn until(&self, args: &[&str]) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let said = self.kubectl(args).await;
            if said.ok {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "kubectl {args:?}: {}", said.err);
        }
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &str) -> String {
        let said = self.kubectl_in(&["apply", "-f", "-"], manifest).await;
        assert!(said.ok, "kubectl apply failed: {}{}", said.out, said.err);
        said.out
    }

    /// Runs kubectl, which must fail; returns its complaint.
    pub(crate) async fn fails(&self, args: &[&str], input: &str) -> String {
        let said = self.kubectl_in(args, input).await;
        assert!(!said.ok, "kubectl {args:?} succeeded: {}", said.out);
        said.err
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn kubectl() -> PathBuf {
    std::env::var_os("KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from)
}

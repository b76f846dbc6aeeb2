//! One pod on a runtime of its own, and what the tests ask it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgecore::edged::runtime::embedded::EmbeddedRuntime;
use edgecore::edged::runtime::{
    ContainerRuntime, ContainerSpec, ContainerState, ContainerStatus, RuntimeError, SandboxSpec,
};
use edgecore::sample;

use super::machine::{cgroup, open, traces};

pub(super) struct Pod {
    pub(super) runtime: EmbeddedRuntime,
    pub(super) root: PathBuf,
    pub(super) sandbox: SandboxSpec,
    pub(super) id: String,
}

pub(super) fn sandbox(root: &Path) -> SandboxSpec {
    SandboxSpec {
        name: "web".into(),
        namespace: "default".into(),
        uid: "u-1".into(),
        hostname: "web".into(),
        log_directory: root.join("logs"),
        cgroup_parent: format!("{}/podu-1", cgroup(root.to_str().unwrap())),
        labels: [("l".to_owned(), "v".to_owned())].into(),
        annotations: [("a".to_owned(), "w".to_owned())].into(),
        ..SandboxSpec::default()
    }
}

pub(super) fn spec(name: &str, part: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: sample::IMAGE.into(),
        command: std::iter::once("/bin/keadm")
            .chain(part.iter().copied())
            .map(Into::into)
            .collect(),
        log_path: format!("{name}/0.log").into(),
        labels: [("c".to_owned(), name.to_owned())].into(),
        ..ContainerSpec::default()
    }
}

impl Pod {
    pub(super) async fn new(root: &Path) -> Self {
        Self::with(root, sandbox(root)).await
    }

    pub(super) async fn with(root: &Path, sandbox: SandboxSpec) -> Self {
        let runtime = open(root).await;
        let id = runtime.run_sandbox(&sandbox).await.unwrap();
        Pod { runtime, root: root.to_owned(), sandbox, id }
    }

    pub(super) async fn create(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        self.runtime.create_container(&self.id, spec, &self.sandbox).await
    }

    pub(super) async fn run(&self, spec: &ContainerSpec) -> String {
        let id = self.create(spec).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    pub(super) async fn ended(&self, id: &str) -> ContainerStatus {
        let mut events = self.runtime.events().await.unwrap().unwrap();
        loop {
            let status = self.runtime.container_status(id).await.unwrap();
            if status.state == ContainerState::Exited {
                return status;
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), events.recv()).await;
        }
    }

    pub(super) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.root.join("logs").join(name).join("0.log")).unwrap_or_default()
    }

    /// The log's lines without their times.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let log = self.log(name);
        log.lines().map(|l| l.split_once(' ').unwrap().1.to_owned()).collect()
    }

    pub(super) async fn exec(&self, id: &str, part: &[&str]) -> (String, String, i32) {
        let command: Vec<String> =
            std::iter::once("/bin/keadm").chain(part.iter().copied()).map(Into::into).collect();
        let out = self.runtime.exec_sync(id, &command, Duration::from_secs(10)).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out.stdout), text(out.stderr), out.exit_code)
    }

    pub(super) async fn look(&self, id: &str, path: &str) -> String {
        let (out, ..) = self.exec(id, &["part-look", path]).await;
        out.trim().to_owned()
    }

    pub(super) async fn finish(self) {
        self.runtime.remove_sandbox(&self.id).await.unwrap();
        let listing = self.runtime.list(None).await.unwrap();
        assert!(listing.sandboxes.is_empty() && listing.containers.is_empty());
        for folder in ["sandboxes", "containers"] {
            let left = std::fs::read_dir(self.root.join("state").join(folder)).unwrap().count();
            assert_eq!(left, 0, "{folder}");
        }
    }
}

pub(super) fn memory_of_shims(root: &Path) {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(process.path().join(name)).unwrap_or_default())
                .replace('\0', " ")
        };
        let command = read("cmdline");
        if command.contains("keadm-shim") && command.contains(root.to_str().unwrap()) {
            let rollup = read("smaps_rollup");
            let kib = |key: &str| {
                let line = rollup.lines().find(|l| l.starts_with(key)).unwrap_or("");
                line.split_whitespace().nth(1).unwrap_or("?").to_owned()
            };
            let verb = command.split(' ').nth(1).unwrap_or("").to_owned();
            eprintln!(
                "    {verb} shim: RSS {} KiB, PSS {} KiB, private dirty {} KiB",
                kib("Rss:"),
                kib("Pss:"),
                kib("Private_Dirty:")
            );
        }
    }
}

/// Processes in the test's cgroups.
pub(super) fn procs_of(root: &Path) -> usize {
    traces(root).iter().filter(|t| t.starts_with("process") && !t.contains("keadm-shim")).count()
}

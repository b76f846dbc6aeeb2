//! The original and ours, each half with the other's: KubeEdge's edgecore on our cloudcore, and our
//! edgecore on KubeEdge's cloudcore.
//!
//! What must work is told once, in `stories`, and tried in both directions. The programs are the
//! ones that the environment names ([`tests::reference`]); where it names none, a test says so.

mod kubernetes;
mod our_edge;
mod stories;
mod their_edge;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::containerd::Containerd;
use tests::host::{CLOUD_ADDRESS, EDGE_ADDRESS, Pair};
use tests::keadm::{ANY_DISK, Running, service_pid};
use tests::kubectl::Kubectl;
use tests::reference::{self, Program};
use tests::wait;

use crate::e2e::join::{keadm, keadm_ok};

/// The original waits up to a minute before it dials again, and looks at volumes once a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// The kubeconfig that `init --embedded` writes.
const EMBEDDED: &str = "/etc/kubeedge/config/admin.kubeconfig";

/// What both edges have: their own MQTT broker, and no opinion of a disk that is filling up.
const SETTINGS: [&str; 2] = ["modules.eventBus.mqttMode=0", ANY_DISK];

/// Two machines with a runtime on the edge's; one half is the original's.
struct Site {
    their_edgecore: Option<Running>,
    their_cloudcore: Option<Running>,
    /// Which half is the original's, and where its program is; none where only the API server is.
    theirs: Option<(Program, PathBuf)>,
    /// With which the cluster is used.
    kubeconfig: PathBuf,
    containerd: Containerd,
    pair: Pair,
    folder: tempfile::TempDir,
}

impl Site {
    /// KubeEdge's edgecore, which has joined our cloudcore.
    fn with_their_edge() -> Option<Self> {
        let mut site = Self::new(Program::EdgeCore)?;
        keadm_ok(&site.pair.cloud, &["init", "--embedded", "--advertise-address", CLOUD_ADDRESS]);
        site.join_their_edge(&site.token());
        Some(site)
    }

    /// Our edgecore, which has joined KubeEdge's cloudcore.
    fn with_our_edge() -> Option<Self> {
        let mut site = Self::new(Program::CloudCore)?;
        keadm_ok(
            &site.pair.cloud,
            &[
                "init",
                "--embedded",
                "--advertise-address",
                CLOUD_ADDRESS,
                "--skip-phases",
                "service,wait",
            ],
        );
        reference::stream_certificate(&site.pair.cloud, CLOUD_ADDRESS.parse().unwrap());
        site.start_their_cloudcore();
        site.join_our_edge();
        Some(site)
    }

    /// Our edgecore, joined as a user joins it.
    fn join_our_edge(&self) {
        let server = format!("{CLOUD_ADDRESS}:10000");
        let endpoint = self.containerd.endpoint();
        let token = self.token();
        let mut join = vec!["join", "--cloudcore-ipport", &server, "--token", &token];
        join.extend(["--edgenode-name", "edge-2", "--remote-runtime-endpoint", &endpoint]);
        join.extend(["--timeout", "120s"]);
        join.extend(SETTINGS.iter().flat_map(|setting| ["--set", *setting]));
        wait::until("our edge to join", PATIENCE, || {
            let (out, said) = keadm(&self.pair.edge, &join);
            if out.status.success() { Ok(()) } else { Err(said) }
        });
    }

    /// With a half of the original's; none where there is no such program.
    fn new(theirs: Program) -> Option<Self> {
        Some(Self::with(Some((theirs, theirs.find()?))))
    }

    fn with(theirs: Option<(Program, PathBuf)>) -> Self {
        let pair = Pair::new();
        // The original looks its own name up, for half a minute where nobody answers.
        for (host, name, address) in
            [(&pair.cloud, "cloud", CLOUD_ADDRESS), (&pair.edge, "edge-2", EDGE_ADDRESS)]
        {
            let file = std::fs::File::options().append(true).open(host.path("/etc/hosts"));
            writeln!(file.unwrap(), "{address} {name}").unwrap();
        }
        let containerd = Containerd::start_on(&pair.edge).unwrap();
        Self {
            their_edgecore: None,
            their_cloudcore: None,
            theirs,
            kubeconfig: EMBEDDED.into(),
            containerd,
            pair,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The token that a user gets for an edge.
    #[track_caller]
    fn token(&self) -> String {
        let (out, said) = keadm(
            &self.pair.cloud,
            &["gettoken", "--kube-config", self.kubeconfig.to_str().unwrap()],
        );
        assert!(out.status.success(), "{said}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// KubeEdge's edgecore with an `edgecore.yaml` as our `join` writes it. It gets its certificate
    /// by itself, with our token.
    fn join_their_edge(&mut self, token: &str) {
        let server = format!("{CLOUD_ADDRESS}:10000");
        let endpoint = self.containerd.endpoint();
        let token = format!("modules.edgeHub.token={token}");
        let address = format!("modules.edged.nodeIP={EDGE_ADDRESS}");
        let mut join = vec!["join", "phase", "config", "--cloudcore-ipport", &server];
        join.extend(["--edgenode-name", "edge-2", "--remote-runtime-endpoint", &endpoint]);
        join.extend(["--set", &token, "--set", &address]);
        for setting in [
            // Pods' cgroups lie where those of other tests do, and a kubelet removes what it does
            // not know.
            "modules.edged.tailoredKubeletConfig.cgroupsPerQOS=false",
            "modules.edged.tailoredKubeletConfig.enforceNodeAllocatable={none}",
            // A change of a volume is to be seen sooner than after a minute.
            "modules.edged.tailoredKubeletConfig.syncFrequency=5s",
        ] {
            join.extend(["--set", setting]);
        }
        join.extend(SETTINGS.iter().flat_map(|setting| ["--set", *setting]));
        keadm_ok(&self.pair.edge, &join);
        self.start_their_edgecore();
        self.until_registered();
    }

    /// KubeEdge's edgecore drops an answer that is there before whoever asked waits for it, and ends
    /// if its registration was among them. Its service would start it again, and so does this.
    fn until_registered(&mut self) {
        wait::until("the node to be registered", PATIENCE, || {
            if self.their_edgecore.as_mut().is_some_and(|running| !running.is_running()) {
                self.start_their_edgecore();
            }
            self.kubectl().get(&["node", "edge-2"]).map(drop)
        });
    }

    fn start_their_edgecore(&mut self) {
        let log = self.folder.path().join("edgecore.log");
        let program = self.program_of(Program::EdgeCore);
        self.their_edgecore = Some(reference::edgecore(&self.pair.edge, program, &log));
    }

    fn start_their_cloudcore(&mut self) {
        let log = self.folder.path().join("cloudcore.log");
        let program = self.program_of(Program::CloudCore);
        self.their_cloudcore = Some(reference::cloudcore(&self.pair.cloud, program, &log));
    }

    fn is_theirs(&self, half: Program) -> bool {
        self.theirs.as_ref().is_some_and(|(program, _)| *program == half)
    }

    fn program_of(&self, half: Program) -> &Path {
        let (program, path) = self.theirs.as_ref().unwrap();
        assert_eq!(*program, half, "that half is ours");
        path
    }

    /// `kill -9` of edgecore, whosever it is, and it is started again.
    fn kill_edgecore(&mut self) {
        match self.their_edgecore.take() {
            Some(running) => {
                running.kill();
                self.start_their_edgecore();
            }
            None => kill_service(&self.pair.edge, "edgecore"),
        }
    }

    /// `kill -9` of cloudcore; nothing starts it again yet.
    fn kill_cloudcore(&mut self) {
        match self.their_cloudcore.take() {
            Some(running) => running.kill(),
            None => {
                kill_service(&self.pair.cloud, "cloudcore");
            }
        }
    }

    /// Starts cloudcore again; ours is by its service.
    fn start_cloudcore(&mut self) {
        if self.is_theirs(Program::CloudCore) {
            self.start_their_cloudcore();
        }
    }

    /// Whether a container's volumes outlive edgecore. KubeEdge's kubelet takes all its sources for
    /// ready before it has seen a pod of them, and unmounts what is in use; with its own cloudcore,
    /// too. A container that ran before then looks into a folder that is gone.
    fn keeps_volumes(&self) -> bool {
        !self.is_theirs(Program::EdgeCore)
    }

    /// Whether the end of a command's input reaches it: KubeEdge's cloudcore does not pass it on.
    fn ends_input(&self) -> bool {
        !self.is_theirs(Program::CloudCore)
    }

    /// Whether something gives pods to nodes, and deletes what belonged to what is gone: a
    /// kube-apiserver alone does neither.
    fn has_controllers(&self) -> bool {
        self.kubeconfig == Path::new(EMBEDDED)
    }

    fn kubectl(&self) -> Kubectl<'_> {
        Kubectl::new(&self.pair.cloud, &self.kubeconfig)
    }

    /// Waits until the node is ready.
    #[track_caller]
    fn ready(&self) {
        let kubectl = self.kubectl();
        wait::until("the node to be ready", PATIENCE, || {
            let node = kubectl.get(&["node", "edge-2"])?;
            let conditions = node.pointer("/status/conditions").and_then(|c| c.as_array());
            let ready = conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready { Ok(()) } else { Err(format!("{node:#}")) }
        });
    }

    /// Waits until the node has renewed its lease once more.
    #[track_caller]
    fn renewed(&self) {
        let kubectl = self.kubectl();
        let lease = || {
            let lease = kubectl.get(&["lease", "-n", "kube-node-lease", "edge-2"])?;
            Ok::<_, String>(lease.pointer("/spec/renewTime").cloned())
        };
        let before = lease().unwrap_or_default();
        wait::until("the node's lease to be renewed", PATIENCE, || match lease()? {
            now if now.is_some() && now != before => Ok(()),
            now => Err(format!("{now:?}")),
        });
    }
}

fn kill_service(host: &tests::host::Host, name: &str) {
    let pid = service_pid(host, name).unwrap();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    wait::until(&format!("{name} to be started again"), PATIENCE, || {
        match service_pid(host, name)? {
            now if now == pid => Err("the same pid".to_owned()),
            _ => Ok(()),
        }
    });
}

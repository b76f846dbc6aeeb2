//! What is measured, and how.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::containerd::{BUSYBOX, Containerd};
use tests::host::{CLOUD_ADDRESS, Pair};
use tests::keadm::{Running, binary, command, rss_kib, service_pid, supervisor_pid};
use tests::kubectl::Kubectl;
use tests::wait;

use crate::page::{Figure, median, spread};

const KUBECONFIG: &str = "/etc/kubeedge/config/admin.kubeconfig";
const NODE: &str = "edge-2";
const PATIENCE: Duration = Duration::from_secs(120);

/// A cloud and a joined edge that runs its pods in containerd.
struct Site {
    pair: Pair,
    _containerd: Containerd,
}

fn keadm(host: &tests::host::Host, args: &[&str]) -> String {
    let out = command(host, args).output().unwrap();
    assert!(
        out.status.success(),
        "keadm {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

impl Site {
    fn new() -> Self {
        let pair = Pair::new();
        let containerd = Containerd::start_on(&pair.edge).unwrap();
        keadm(&pair.cloud, &["init", "--embedded", "--advertise-address", CLOUD_ADDRESS]);
        let token = keadm(&pair.cloud, &["gettoken"]);
        let link = format!("{CLOUD_ADDRESS}:10000");
        let endpoint = containerd.endpoint();
        let args = ["join", "-e", &link, "-t", &token, "-i", NODE, "-p", &endpoint];
        keadm(&pair.edge, &args);
        Self { pair, _containerd: containerd }
    }

    fn kubectl(&self) -> Kubectl<'_> {
        Kubectl::new(&self.pair.cloud, std::path::Path::new(KUBECONFIG))
    }

    fn edgecore(&self) -> u32 {
        service_pid(&self.pair.edge, "edgecore").unwrap()
    }

    fn cloudcore(&self) -> u32 {
        service_pid(&self.pair.cloud, "cloudcore").unwrap()
    }

    /// A scene of `inside.rs`, on the cloud's host.
    fn scene(&self, args: &[&str]) -> Child {
        let mut command: Command = self.pair.cloud.command(std::env::current_exe().unwrap());
        command.args(["inside", KUBECONFIG]).args(args).stdout(Stdio::piped()).spawn().unwrap()
    }

    fn times(&self, args: &[&str]) -> Vec<f64> {
        let out = self.scene(args).wait_with_output().unwrap();
        assert!(out.status.success(), "{args:?}");
        String::from_utf8(out.stdout).unwrap().lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// Starts a scene that watches, does `act` once it does, and returns its time.
    fn time_of(&self, args: &[&str], act: impl FnOnce()) -> f64 {
        let mut child = self.scene(args);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "watching");
        act();
        let time = lines.next().unwrap().unwrap().parse().unwrap();
        child.wait().unwrap();
        time
    }
}

fn kill(pid: u32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
}

/// Resident memory once it has stopped changing: the middle of ten looks, a second apart.
fn settled(pid: u32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "MiB")]
    let looks = (0..10)
        .map(|_| {
            std::thread::park_timeout(Duration::from_secs(1));
            rss_kib(pid) as f64 / 1024.0
        })
        .collect();
    median(looks)
}

fn mib(value: f64) -> String {
    format!("{value:.1} MiB")
}

/// Everything.
pub(crate) fn all() -> Vec<Figure> {
    let mut figures = vec![sizes()];
    figures.extend(site());
    figures
}

/// Only what concerns the API server.
pub(crate) fn api_server() -> Vec<Figure> {
    vec![sizes()]
}

fn sizes() -> Figure {
    #[expect(clippy::cast_precision_loss, reason = "MiB")]
    let size = |p: &std::path::Path| {
        std::fs::metadata(p)
            .map_or_else(|_| "not built".to_owned(), |m| mib(m.len() as f64 / 1_048_576.0))
    };
    let edge = std::env::var_os("KEADM_EDGE_BIN").map(std::path::PathBuf::from).unwrap_or_default();
    Figure {
        what: "the binaries, stripped",
        original: "270 MiB in three",
        goal: "one of at most 30 MiB; edge-only at most 14 MiB",
        ours: format!("{}; edge-only {}", size(&binary()), size(&edge)),
        method: "size of the file that was measured",
    }
}

fn site() -> Vec<Figure> {
    let site = Site::new();
    let image = BUSYBOX.to_owned();
    let mut figures = vec![
        Figure {
            what: "edgecore memory, no pod",
            original: "85 MiB",
            goal: "14 MiB",
            ours: mib(settled(site.edgecore())),
            method: "VmRSS of edgecore beside containerd, median of ten looks a second apart",
        },
        Figure {
            what: "cloudcore memory, one node",
            original: "82 MiB",
            goal: "20 MiB",
            ours: mib(settled(site.cloudcore())),
            method: "VmRSS of cloudcore, the same way",
        },
    ];
    let starts = site.times(&["pod-start", NODE, &image, "20"]);
    figures.push(Figure {
        what: "pod create to Running (image present, containerd)",
        original: "588 ms",
        goal: "400 ms",
        ours: spread(&starts, "ms", 0),
        method: "from the POST to the watch event with phase Running; host network, one pod at a time",
    });
    let many: Vec<f64> = (0..3)
        .flat_map(|_| site.times(&["pods-at-once", NODE, &image, "30"]))
        .map(|m| m / 1e3)
        .collect();
    figures.push(Figure {
        what: "30 pods created at once, the last Running",
        original: "7.8 s",
        goal: "5 s",
        ours: spread(&many, "s", 1),
        method: "from the first POST to the last pod's watch event",
    });
    site.times(&["pods-stay", NODE, &image, "30"]);
    figures.push(Figure {
        what: "edgecore memory, 30 pods",
        original: "98 MiB",
        goal: "20 MiB",
        ours: mib(settled(site.edgecore())),
        method: "as above, with 30 running pods",
    });
    let kubectl = site.kubectl();
    kubectl.run(&["delete", "pods", "--all", "--timeout=120s"]);
    figures.push(configmaps(&site, &kubectl, &image));
    let deaths = site.times(&["death", NODE, &image, "15"]);
    figures.push(Figure {
        what: "a container's death to the API server, median",
        original: "392 ms",
        goal: "100 ms where the runtime has events",
        ours: spread(&deaths, "ms", 0),
        method: "from SIGKILL of the workload to the watch event with phase Failed; containerd 1.6, whose own event service is used",
    });
    let log = tempfile::NamedTempFile::new().unwrap();
    let (figure, edgecore) = ready(&site, log.path());
    figures.push(figure);
    figures.extend(restart(&site));
    drop(edgecore);
    figures
}

fn configmaps(site: &Site, kubectl: &Kubectl<'_>, image: &str) -> Figure {
    kubectl.run(&["create", "configmap", "measured", "--from-literal=measured=first"]);
    kubectl.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"reader"}},"spec":{{"nodeName":"{NODE}",
"hostNetwork":true,"terminationGracePeriodSeconds":0,"containers":[{{"name":"main","image":"{image}",
"imagePullPolicy":"Never","command":["sleep","100000"],
"volumeMounts":[{{"name":"c","mountPath":"/c"}}]}}],"volumes":[{{"name":"c","configMap":{{"name":"measured"}}}}]}}}}"#
    ));
    kubectl.until(&["pod", "reader"], "/status/phase", "Running", PATIENCE);
    let database = site.pair.edge.disk("/var/lib/kubeedge/edgecore.db");
    let times = site.times(&["configmap", database.to_str().unwrap(), "100"]);
    kubectl.run(&["delete", "pod", "reader"]);
    Figure {
        what: "configmap update to the edge's store, median",
        original: "16 ms",
        goal: "4 ms",
        ours: spread(&times, "ms", 1),
        method: "from sending the PATCH to the row in edgecore.db, looked at every 0.2 ms",
    }
}

fn ready(site: &Site, log: &std::path::Path) -> (Figure, Running) {
    let supervisor = supervisor_pid(&site.pair.edge, "edgecore").unwrap();
    terminate(supervisor);
    let mut edgecore: Option<Running> = None;
    let times: Vec<f64> = (0..7)
        .map(|_| {
            if let Some(mut old) = edgecore.take() {
                old.signal(Signal::SIGTERM);
                old.until_ended(PATIENCE);
            }
            let kubectl = site.kubectl();
            kubectl.run(&["delete", "node", NODE]);
            kubectl.until_gone(&["node", NODE], PATIENCE);
            site.time_of(&["node-ready", NODE], || {
                edgecore = Some(Running::start(command(&site.pair.edge, ["edgecore"]), log));
            }) / 1e3
        })
        .collect();
    let figure = Figure {
        what: "edgecore start to node Ready",
        original: "1.13 s",
        goal: "0.4 s",
        ours: spread(&times, "s", 2),
        method: "node deleted; from starting the process to the watch event with Ready=True",
    };
    (figure, edgecore.unwrap())
}

fn terminate(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    wait::until_true("its end", PATIENCE, || nix::sys::signal::kill(pid, None).is_err());
}

/// The cloudcore that the supervisor has started in place of `old`.
fn new_cloudcore(site: &Site, old: u32) {
    wait::until("the new cloudcore", PATIENCE, || {
        match service_pid(&site.pair.cloud, "cloudcore") {
            Ok(pid) if pid != old => Ok(()),
            Ok(_) => Err("the old one".to_owned()),
            Err(why) => Err(why),
        }
    });
}

/// The gauge of connected nodes, read from cloudcore's metrics on its own host.
fn connected_nodes(site: &Site) -> Option<u32> {
    let script = "exec 3<>/dev/tcp/127.0.0.1/9091; \
        printf 'GET /metrics HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3";
    let out = site.pair.cloud.command("bash").args(["-c", script]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().find(|l| l.starts_with("KubeEdge_CloudHub_connected_nodes"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|n| n as u32)
}

fn restart(site: &Site) -> Vec<Figure> {
    let (mut links, mut leases) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let old = site.cloudcore();
        leases.push(site.time_of(&["lease", NODE], || kill(old)) / 1e3);
        new_cloudcore(site, old);
    }
    for _ in 0..7 {
        let old = site.cloudcore();
        let from = Instant::now();
        kill(old);
        wait::until_true("the link", PATIENCE, || connected_nodes(site) == Some(1));
        links.push(from.elapsed().as_secs_f64());
        new_cloudcore(site, old);
    }
    vec![
        Figure {
            what: "cloudcore killed and restarted: link back",
            original: "35 s",
            goal: "1.5 s",
            ours: spread(&links, "s", 2),
            method: "from SIGKILL of cloudcore, which its supervisor starts again, to connected_nodes = 1 in its metrics",
        },
        Figure {
            what: "cloudcore killed and restarted: lease renewed",
            original: "64 s",
            goal: "2 s",
            ours: spread(&leases, "s", 2),
            method: "from SIGKILL of cloudcore to the lease's watch event",
        },
    ]
}

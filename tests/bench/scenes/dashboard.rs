//! The dashboard: how soon it is there, how soon it shows what happens, and what it costs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::names::Kind;
use cloudcore::apiserver::ApiServer;
use cloudcore::metrics::Metrics;
use cloudcore::object::Object;
use cloudcore::status::actions::Means;
use cloudcore::status::{Bound, Status};
use nix::sys::signal::Signal;
use serde_json::json;
use service::CancellationToken;
use tests::keadm::{binary, rss_kib};
use tests::screen::Screen;

use super::{Group, NOTHING_INSIDE};
use crate::page::{Figure, Unit};
use crate::site::{NODE, PATIENCE, Site, pause, signal};

pub(super) const GROUP: Group =
    Group { name: "dashboard", title: "The dashboard", figures, inside: NOTHING_INSIDE };

const NODES: usize = 1_000;
const PODS: usize = 10_000;
const CHANGES: usize = 500;
/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(20);

fn figures() -> Vec<Figure> {
    let first = {
        let fleet = Fleet::serve();
        (0..20).map(|_| first_frame(&fleet.socket)).collect()
    };
    let (cpu, memory) = under_load();
    vec![
        Figure {
            what: "`keadm dashboard` to its first frame",
            original: "",
            unit: Unit::Millis,
            at_most: 100.0,
            values: first,
            method: "from starting the process to the first frame on a terminal of 120x40; a stream with 10,000 pods",
        },
        Figure {
            what: "the end of a node's link to the screen",
            original: "",
            unit: Unit::Millis,
            at_most: 30.0,
            values: link_to_screen(),
            method: "from SIGKILL of edgecore to `down` in its row; cloud and edge on this machine",
        },
        Figure {
            what: "its use of one core, 10,000 pods, 500 changes a second",
            original: "",
            unit: Unit::Percent,
            at_most: 25.0,
            values: cpu,
            method: "CPU time over 20 s, three runs; 1,000 nodes; the table of pods sorted by status, 120x40",
        },
        Figure {
            what: "its memory after that",
            original: "",
            unit: Unit::MiB,
            at_most: 60.0,
            values: memory,
            method: "resident set size at the end of each of those runs",
        },
    ]
}

/// cloudcore's own stream over a fleet that is only told of.
struct Fleet {
    socket: PathBuf,
    status: Arc<Status>,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn node(i: usize) -> Object {
    let object = json!({
        "metadata": {"name": format!("edge-{i:04}"), "uid": format!("n-{i}"),
            "resourceVersion": "1", "labels": {"site": format!("s{}", i % 20)}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    Object::read(Kind::Node, &object.to_string()).unwrap()
}

fn pod(i: usize, version: usize) -> Object {
    let phase = if version.is_multiple_of(2) { "Running" } else { "Pending" };
    let object = json!({
        "metadata": {"name": format!("web-{i:05}"), "namespace": format!("team-{}", i % 8),
            "uid": format!("p-{i}"), "resourceVersion": version.to_string(),
            "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": format!("edge-{:04}", i % NODES),
            "containers": [{"name": "web", "image": "registry.example.org/web:1.2.3"}]},
        "status": {"phase": phase, "podIP": "10.88.0.4"},
    });
    Object::read(Kind::Pod, &object.to_string()).unwrap()
}

impl Fleet {
    fn serve() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("status.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let status = Arc::new(Status::new(Metrics::default()));
        (0..NODES).for_each(|i| status.object(&node(i)));
        (0..PODS).for_each(|i| status.object(&pod(i, 0)));
        let bound = runtime.block_on(Bound::bind(&socket)).unwrap();
        let client = {
            let _inside = runtime.enter();
            let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
            kube::Client::try_from(config).unwrap()
        };
        let api = ApiServer::new(client, Metrics::default());
        runtime.spawn(bound.serve(
            Arc::clone(&status),
            Means { api, nodes: None },
            CancellationToken::new(),
        ));
        Self { socket, status, _folder: folder, _runtime: runtime }
    }
}

fn dashboard(socket: &Path) -> Command {
    let mut command = Command::new(binary());
    command.args(["dashboard", "--endpoint"]).arg(socket);
    command
}

fn first_frame(socket: &Path) -> f64 {
    let from = Instant::now();
    let mut screen = Screen::start(&dashboard(socket), 120, 40);
    screen.until_shows("[overview]", PATIENCE);
    let time = from.elapsed();
    screen.until_shows("pods 10000", PATIENCE);
    time.as_secs_f64() * 1e3
}

/// CPU time that a process has used, in seconds.
fn used(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn under_load() -> (Vec<f64>, Vec<f64>) {
    (0..3).map(|_| one_load()).unzip()
}

fn one_load() -> (f64, f64) {
    let fleet = Fleet::serve();
    let mut screen = Screen::start(&dashboard(&fleet.socket), 120, 40);
    screen.until_shows("pods 10000", PATIENCE);
    screen.keys(":pods\r");
    screen.until_shows("[pods 10000]", PATIENCE);
    screen.keys(":sort status\r");
    screen.until_shows("web-0", PATIENCE);
    let (pid, began) = (screen.pid(), Instant::now());
    let before = used(pid);
    // Ten changes every fiftieth of a second.
    let mut n = 0;
    while began.elapsed() < LOAD {
        for _ in 0..CHANGES / 50 {
            fleet.status.object(&pod(n * 7 % PODS, n / PODS + 1));
            n += 1;
        }
        let due = Duration::from_millis(n as u64 * 1000 / CHANGES as u64);
        pause(due.saturating_sub(began.elapsed()));
    }
    let cpu = (used(pid) - before) / began.elapsed().as_secs_f64() * 100.0;
    #[expect(clippy::cast_precision_loss, reason = "MiB")]
    let memory = rss_kib(pid) as f64 / 1024.0;
    (cpu, memory)
}

/// A real cloud and a real edge: the edge dies, and the row of its node says so.
fn link_to_screen() -> Vec<f64> {
    let site = Site::new(GROUP.name);
    let mut command = site.pair.cloud.command(binary());
    command.arg("dashboard");
    let mut screen = Screen::start(&command, 120, 40);
    // What is typed before it has taken the terminal over is lost.
    screen.until_shows("[overview]", PATIENCE);
    screen.keys(":nodes\r");
    let link =
        |screen: &str, link: &str| screen.lines().any(|l| l.contains(NODE) && l.contains(link));
    let mut times = Vec::new();
    for _ in 0..7 {
        screen.until("the link is up", PATIENCE, |s| link(s, " up "));
        // What is drawn for another reason just then would be a coincidence.
        pause(Duration::from_millis(1500));
        let from = Instant::now();
        signal(site.edgecore(), Signal::SIGKILL);
        screen.until("the link is down", PATIENCE, |s| link(s, " down "));
        times.push(from.elapsed().as_secs_f64() * 1e3);
    }
    times
}

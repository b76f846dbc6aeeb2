//! The embedded control plane alone, in a process of its own: `keadm control-plane`.

mod load;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::keadm::binary;

use super::{Group, NOTHING_INSIDE};
use crate::client::ms;
use crate::page::{Figure, Unit};
use crate::site::{PATIENCE, memory};
use load::Access;

pub(super) const GROUP: Group =
    Group { name: "plane", title: "The embedded control plane", figures, inside: NOTHING_INSIDE };

const NODES: usize = 1_000;
const PODS: usize = 10_000;
const WATCHERS: usize = 1_000;

/// A control plane that runs; killed when dropped.
struct Server {
    child: Child,
    access: Access,
    /// How long it took until it was ready.
    start: f64,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(runtime: &tokio::runtime::Runtime, dir: &Path) -> Self {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let from = Instant::now();
        let mut command = Command::new(binary());
        command.args(["control-plane", "--port", &port.to_string(), "--data-dir"]).arg(dir);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let access = loop {
            let access = Access::read(&dir.join("admin.conf"), port);
            if let Some(a) = access.filter(|a| runtime.block_on(a.is_ready())) {
                break a;
            }
            assert!(from.elapsed() < PATIENCE, "the control plane is not ready");
            std::thread::park_timeout(Duration::from_millis(1));
        };
        Self { child, access, start: ms(from) }
    }
}

fn figures() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let begin = |name: &str| Server::start(&runtime, &dir.path().join(name));
    let mut figures = starts(&begin);
    figures.extend(speed(&runtime, &begin("speed").access));
    figures.extend(full(&runtime, &begin));
    figures
}

fn figure(
    what: &'static str,
    unit: Unit,
    at_most: f64,
    values: Vec<f64>,
    method: &'static str,
) -> Figure {
    Figure { what, original: "", unit, at_most, values, method }
}

/// From nothing, and as it was left.
fn starts(begin: &dyn Fn(&str) -> Server) -> Vec<Figure> {
    const METHOD: &str =
        "from starting the process to the first 200 of /readyz, asked every millisecond over TLS";
    let first = (0..7).map(|i| begin(&format!("fresh-{i}")).start).collect();
    let again = (0..7).map(|_| begin("fresh-0").start).collect();
    let idle = begin("idle");
    let empty = figure(
        "memory, empty",
        Unit::MiB,
        25.0,
        memory(idle.child.id()),
        "VmRSS of `keadm control-plane`, ten looks a second apart, the first 15 s after the start",
    );
    vec![
        Figure { original: "303 MiB (kube-apiserver)", ..empty },
        figure("start to `/readyz`, first start", Unit::Millis, 150.0, first, METHOD),
        figure("start to `/readyz`, again", Unit::Millis, 150.0, again, METHOD),
    ]
}

/// Writes and watches.
fn speed(runtime: &tokio::runtime::Runtime, access: &Access) -> Vec<Figure> {
    let one = runtime.block_on(load::creates_one_by_one(access, 500));
    let many =
        (0..5).map(|i| runtime.block_on(load::creates_a_second(access, 32, 6_000, i))).collect();
    let last = runtime.block_on(load::last_of(access, WATCHERS, 30));
    vec![
        figure(
            "durable creates a second, 32 clients",
            Unit::PerSecond,
            3_000.0,
            many,
            "6,000 ConfigMaps; a connection each, the next request after the answer",
        ),
        figure(
            "one durable create",
            Unit::Millis,
            2.0,
            one,
            "a ConfigMap, one after the other on one connection",
        ),
        figure(
            "a change to each of 1,000 watchers, the last one",
            Unit::Millis,
            25.0,
            last,
            "from the PUT to the last of 1,000 watches (HTTP/2, ten connections, one reading process) that has it",
        ),
    ]
}

/// With as much in it as there will be.
fn full(runtime: &tokio::runtime::Runtime, begin: &dyn Fn(&str) -> Server) -> Vec<Figure> {
    let server = begin("full");
    runtime.block_on(load::fill(&server.access, NODES, PODS));
    let used = memory(server.child.id());
    let list = runtime.block_on(load::lists(&server.access, PODS, 15));
    drop(server);
    let mut starts: Vec<f64> = (0..2).map(|_| begin("full").start).collect();
    let server = begin("full");
    starts.push(server.start);
    let again = memory(server.child.id());
    const WHAT: &str = "the same; the pods have a status and there is no kubelet";
    vec![
        figure("memory, 1,000 nodes and 10,000 pods", Unit::MiB, 250.0, used, WHAT),
        figure("the same after a kill -9 and a start", Unit::MiB, 250.0, again, WHAT),
        figure(
            "start to `/readyz` with those 10,000 pods",
            Unit::Millis,
            1_000.0,
            starts,
            "as above, after a kill -9; no goal is set for it",
        ),
        figure(
            "list of 10,000 pods",
            Unit::Millis,
            150.0,
            list,
            "from the GET to the last byte, TLS, not compressed",
        ),
    ]
}

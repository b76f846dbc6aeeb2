//! How fast an edge is there, and there again.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use nix::sys::signal::Signal;
use tests::keadm::{Running, command, service_pid, supervisor_pid};
use tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Group, MAIN};
use crate::client::{Inside, WATCHING};
use crate::page::{Figure, Unit};
use crate::site::{NODE, PATIENCE, Site, pause, signal};

pub(super) const GROUP: Group = Group { name: "recovery", title: MAIN, figures, inside: INSIDE };

/// A program that dies sooner is started again with a growing pause.
const SETTLED: Duration = Duration::from_secs(11);

fn figures() -> Vec<Figure> {
    let site = Site::new(GROUP.name);
    let mut figures = restart(&site);
    figures.push(ready(&site));
    figures
}

/// Kills cloudcore, and waits for the link and for the lease.
fn restart(site: &Site) -> Vec<Figure> {
    let (mut links, mut leases) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        pause(SETTLED);
        let old = site.cloudcore();
        let [link, lease] = site.scene(&["restart", NODE, &old.to_string()])[..] else {
            panic!("two times were expected");
        };
        links.push(link);
        leases.push(lease);
        wait::until("the new cloudcore", PATIENCE, || {
            match service_pid(&site.pair.cloud, "cloudcore")? {
                pid if pid != old => Ok(()),
                _ => Err("the old one".to_owned()),
            }
        });
    }
    let figure = |what, original, at_most, values, method| Figure {
        what,
        original,
        unit: Unit::Seconds,
        at_most,
        values,
        method,
    };
    vec![
        figure(
            "cloudcore killed and restarted: link back",
            "35 s",
            1.5,
            links,
            "from SIGKILL of cloudcore, which its supervisor starts again, to connected_nodes = 1 in the new one's metrics",
        ),
        figure(
            "cloudcore killed and restarted: lease renewed",
            "64 s",
            2.0,
            leases,
            "from the same SIGKILL to the watch event of the lease",
        ),
    ]
}

/// Starts edgecore for a node that is unknown to the cloud, again and again.
fn ready(site: &Site) -> Figure {
    let supervisor = supervisor_pid(&site.pair.edge, "edgecore").unwrap();
    let process = Path::new("/proc").join(supervisor.to_string());
    signal(supervisor, Signal::SIGTERM);
    wait::until_true("the end of edgecore", PATIENCE, || !process.exists() && port_free(site));
    let log = tempfile::NamedTempFile::new().unwrap();
    let values = (0..7)
        .map(|_| {
            let kubectl = site.kubectl();
            kubectl.run(&["delete", "node", NODE]);
            kubectl.until_gone(&["node", NODE], PATIENCE);
            let mut edgecore = None;
            let time = site.seconds_until(&["ready", NODE], || {
                edgecore = Some(Running::start(command(&site.pair.edge, ["edgecore"]), log.path()));
            });
            let mut edgecore = edgecore.unwrap();
            edgecore.signal(Signal::SIGTERM);
            edgecore.until_ended(PATIENCE);
            time
        })
        .collect();
    Figure {
        what: "edgecore start to node Ready",
        original: "1.13 s",
        unit: Unit::Seconds,
        at_most: 0.4,
        values,
        method: "Node deleted, edgecore not running; from starting the process to the watch event of a Node created since with Ready=True",
    }
}

/// Whether nothing on the edge answers at edgecore's admin port.
fn port_free(site: &Site) -> bool {
    let script = "exec 3<>/dev/tcp/127.0.0.1/9092";
    let out = site.pair.edge.command("bash").args(["-c", script]).output().unwrap();
    !out.status.success()
}

const INSIDE: Inside = |client, scene| {
    async move {
        match scene.name.as_str() {
            "restart" => killed(client, scene.text(0), scene.text(1)).await,
            "ready" => {
                node_ready(&client, scene.text(0)).await;
                vec![0.0]
            }
            other => panic!("no scene `{other}`"),
        }
    }
    .boxed_local()
};

/// Seconds until the link is back, and until the lease is renewed.
async fn killed(client: Client, node: &str, pid: &str) -> Vec<f64> {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let version = leases.get(node).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().fields(&format!("metadata.name={node}")).timeout(60);
    let mut stream = leases.watch(&params, &version).await.unwrap().boxed();
    let from = Instant::now();
    signal(pid.parse().unwrap(), Signal::SIGKILL);
    let link = async {
        while Path::new("/proc").join(pid).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while connected_nodes().await != Some(1.0) {
            assert!(from.elapsed() < PATIENCE, "the link does not come back");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        from.elapsed().as_secs_f64()
    };
    let lease = async {
        while let Some(event) = stream.try_next().await.unwrap() {
            if let WatchEvent::Modified(_) = event {
                return from.elapsed().as_secs_f64();
            }
        }
        panic!("the watch ended first");
    };
    let (link, lease) = tokio::join!(link, lease);
    vec![link, lease]
}

/// The gauge of connected nodes in cloudcore's metrics, if it answers.
async fn connected_nodes() -> Option<f64> {
    let mut stream = TcpStream::connect("127.0.0.1:9091").await.ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let line = text.lines().find(|l| l.starts_with("KubeEdge_CloudHub_connected_nodes"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Waits for a Node that does not exist yet.
async fn node_ready(client: &Client, name: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let list = nodes.list(&params).await.unwrap();
    assert!(list.items.is_empty(), "the Node is still there");
    let begun = jiff::Timestamp::now().as_second();
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(60);
    let version = list.metadata.resource_version.unwrap();
    let mut stream = nodes.watch(&params, &version).await.unwrap().boxed();
    println!("{WATCHING}");
    while let Some(event) = stream.try_next().await.unwrap() {
        let (WatchEvent::Added(node) | WatchEvent::Modified(node)) = event else { continue };
        let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
        if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
            let created = node.metadata.creation_timestamp.unwrap().0.as_second();
            assert!(created >= begun, "the Node is older than the start of edgecore");
            return;
        }
    }
    panic!("the watch ended first");
}

//! What the commands that look at a fleet print of one board that never changes, in every form; and
//! what those say that ask for something to be done.

use std::thread::JoinHandle;

use api::status::drained::Drained;
use api::status::stream::{
    Done, FromReader, Hello, MAX_REQUEST, MAX_UPDATE, Request, ToReader, Update, VERSION,
};
use serde_json::json;
use service::CancellationToken;
use service::stream::{Feed, Heard, Pace, Sizes, UnixSocket};
use tokio::sync::{mpsc, watch};

use crate::host::fake::Fake;
use crate::testing::Machine;

/// 2026-01-02 03:04:05 UTC
const NOW: i64 = 1_767_323_045_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// Something of everything; with `well`, only what is.
fn board(well: bool) -> Update {
    let link = |expires: i64| {
        json!({"since": NOW - 90 * MINUTE, "from": "10.0.0.7:51234", "protocol": "websocket",
            "certificateExpires": NOW + expires, "roundTripUs": 840})
    };
    let node = json!({
        "name": "edge-1", "link": link(300 * DAY), "ready": "True", "reason": "KubeletReady",
        "version": "v1.32.10-kubeedge-v1.23.0", "runtime": "containerd://2.1.4",
        "platform": "linux/arm64", "address": "192.168.1.7", "labels": {"site": "north"},
        "created": NOW - 3 * DAY,
        "queue": {"waiting": 0, "unacknowledged": 1, "dropped": 0, "received": 812, "sent": 96},
        "lastReport": NOW - 4_000, "leaseRenewed": NOW - 6_000,
        "usage": {"cpuMillis": 420, "cpuCapacityMillis": 4000,
            "memory": 512 << 20, "memoryCapacity": 2_u64 << 30},
    });
    let pod = json!({
        "namespace": "default", "name": "web", "uid": "u-web", "node": "edge-1",
        "phase": "Running", "status": "Running", "ready": 1, "containers": 1, "restarts": 0,
        "images": ["busybox:1.36"], "ip": "10.88.0.4", "labels": {"app": "web"},
        "created": NOW - 200 * MINUTE, "lastReport": NOW - 12_000,
        "hops": {"edgeToHubUs": 1200, "hubToApiUs": 3400},
        "usage": {"cpuMillis": 12, "memory": 24 << 20},
    });
    let device = json!({
        "namespace": "default", "name": "thermo", "node": "edge-1", "model": "sensor",
        "protocol": "modbus", "state": "online", "lastOnline": NOW - 5_000,
        "twins": [
            {"property": "target", "desired": "21", "desiredAt": NOW - MINUTE,
             "reported": "21", "reportedAt": NOW - 2_000},
            {"property": "temperature", "reported": "20.4", "reportedAt": NOW - 2_000},
        ],
        "labels": {"room": "a"}, "created": NOW - DAY, "lastReport": NOW - 2_000,
    });
    let (mut nodes, mut pods, mut devices) = (vec![node], vec![pod], vec![device]);
    let mut events = vec![json!({
        "at": NOW - 90 * MINUTE, "type": "Normal", "reason": "LinkUp", "object": "node/edge-1",
        "node": "edge-1", "message": "connected from 10.0.0.7:51234", "count": 1,
    })];
    if !well {
        nodes[0]["upgrade"] = json!({
            "job": "spring", "from": "v1.23.0", "to": "v1.24.0", "state": "WaitingConfirmation",
            "since": NOW - 12 * MINUTE,
        });
        nodes.push(json!({
            "name": "edge-2", "lostAt": NOW - 3 * MINUTE, "lostWhy": "nothing was heard for 30 s",
            "ready": "Unknown", "reason": "NodeStatusUnknown", "cordoned": true,
            "version": "v1.32.10-kubeedge-v1.23.0", "runtime": "keadm://0.1.0",
            "platform": "linux/amd64", "address": "192.168.1.8", "created": NOW - 40 * DAY,
            "queue": {"waiting": 2, "unacknowledged": 0, "dropped": 3, "received": 9, "sent": 7},
            "upgrade": {"job": "spring", "from": "v1.23.0", "to": "v1.24.0", "state": "Failure",
                "since": NOW - 9 * MINUTE, "why": "Check failed: no space"},
        }));
        pods.push(json!({
            "namespace": "shop", "name": "till", "uid": "u-till", "node": "edge-2",
            "phase": "Running", "status": "CrashLoopBackOff", "ready": 0, "containers": 2,
            "restarts": 7, "images": ["till:2", "log:1"], "created": NOW - 5 * DAY,
            "unconfirmed": true,
        }));
        devices.push(json!({
            "namespace": "default", "name": "valve", "node": "edge-2", "model": "valve",
            "protocol": "opcua", "state": "offline", "created": NOW - DAY,
            "twins": [{"property": "open", "desired": "true", "desiredAt": NOW - MINUTE,
                "reported": "false", "reportedAt": NOW - 9 * MINUTE}],
        }));
        events.push(json!({
            "at": NOW - MINUTE, "type": "Warning", "reason": "BackOff",
            "object": "pod/shop/till", "node": "edge-2",
            "message": "restarting failed container", "count": 4,
        }));
    }
    let all = json!({
        "now": NOW, "full": true, "nodes": nodes, "pods": pods, "devices": devices,
        "events": events, "totals": {"up": 812, "down": 96, "dropped": 3},
    });
    serde_json::from_value(all).unwrap()
}

/// What passes when somebody listens.
fn flow() -> Update {
    let messages = json!([
        {"at": NOW - 900, "node": "edge-1", "direction": "up", "kind": "podstatus",
         "object": "default/podpatch/web", "size": 912, "firstUs": 1200, "secondUs": 3400,
         "outcome": "ok"},
        {"at": NOW - 800, "node": "edge-1", "direction": "down", "kind": "object",
         "object": "default/pod/web", "size": 2210, "outcome": ""},
    ]);
    serde_json::from_value(json!({"now": NOW, "messages": messages, "totals": {}})).unwrap()
}

/// A server of one board.
struct Board {
    well: bool,
    told: bool,
    /// Rounds of a drain so far.
    rounds: usize,
    changed: watch::Sender<u64>,
}

fn text(message: ToReader) -> String {
    serde_json::to_string(&message).unwrap()
}

impl Feed for Board {
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn hello(&self) -> String {
        let server = "cloudcore 0.1.0".to_owned();
        text(ToReader::Hello(Hello { version: VERSION, server, now: NOW, ..Hello::default() }))
    }

    fn news(&mut self, pace: Pace) -> Vec<String> {
        let update = match std::mem::replace(&mut self.told, true) {
            false => board(self.well),
            true if pace.heartbeat => Update { now: NOW, ..Update::default() },
            true => return Vec::new(),
        };
        vec![text(ToReader::Update(Box::new(update)))]
    }

    fn heard(&mut self, said: &str, _: &mpsc::Sender<String>) -> Result<Heard, String> {
        let (id, request) = match FromReader::read(said)? {
            Ok(FromReader::Flow { on: true }) => {
                return Ok(Heard::Say(text(ToReader::Update(Box::new(flow())))));
            }
            Ok(FromReader::Request { id, request }) => (id, request),
            _ => return Ok(Heard::Nothing),
        };
        let done = match request {
            // One pod goes at once, another when its budget allows it.
            Request::Drain { node } if node == "edge-2" => {
                self.rounds += 1;
                let mut round = Drained { node, evicted: 1, stayed: 2, refused: None };
                match self.rounds {
                    1 => {
                        round.refused = Some((1, "pod shop/till: its budget allows none".into()));
                        Err(round.to_string())
                    }
                    _ => Ok(Drained { evicted: 0, ..round }.to_string()),
                }
            }
            Request::Cordon { node, on: true } => Ok(format!("node {node} cordoned")),
            Request::DeletePod { namespace, pod, grace_period: None } => {
                Ok(format!("pod {namespace}/{pod} is being deleted"))
            }
            Request::RestartPod { namespace, pod, dry_run } if pod == "web" => {
                let doing = if dry_run { "would be restarted" } else { "restarted" };
                Ok(format!("pod {namespace}/{pod} on node edge-1 {doing}: main"))
            }
            Request::ConfirmUpgrade { node } if node == "edge-1" => {
                Ok(format!("node {node} goes on with its upgrade"))
            }
            Request::RestartPod { .. } => {
                Err("node `edge-2` has no tunnel to this cloudcore: it is cut off".to_owned())
            }
            _ => Err("`jane` may not do that".to_owned()),
        };
        Ok(Heard::Say(text(ToReader::Done(match done {
            Ok(text) => Done { id, text, ..Done::default() },
            Err(error) => Done { id, error, ..Done::default() },
        }))))
    }

    fn busy(&self, id: u64, _: usize) -> String {
        text(ToReader::Done(Done { id, error: "busy".to_owned(), ..Done::default() }))
    }
}

/// A machine where that is served.
struct Cloud {
    machine: Machine,
    stopping: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Cloud {
    fn new(well: bool) -> Self {
        let machine = Machine::new(Fake::default());
        let path = machine.path("run/kubeedge/cloudcore-status.sock");
        let stopping = CancellationToken::new();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let stop = stopping.clone();
        let serve = async move {
            let socket = UnixSocket::bind(&path).await.unwrap();
            ready.send(()).unwrap();
            let stopped = stop.clone();
            let each = |stream| {
                let board = Board { well, told: false, rounds: 0, changed: watch::channel(0).0 };
                let sizes = Sizes { request: MAX_REQUEST, update: MAX_UPDATE };
                let stop = stopped.clone();
                async move {
                    let until = async {
                        stop.cancelled().await;
                        "the test is over".to_owned()
                    };
                    service::stream::accept(stream, "/status/v1", board, sizes, until).await;
                }
            };
            socket.accept(8, stop, each).await;
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let thread = std::thread::spawn(move || runtime().unwrap().block_on(serve));
        is_ready.recv().unwrap();
        Self { machine, stopping, thread: Some(thread) }
    }

    /// What command lines print, one after the other.
    fn say(&self, lines: &[&str]) -> String {
        let all: Vec<String> = lines.iter().map(|line| self.machine.keadm(line)).collect();
        // Of this machine's zone.
        let (utc, other) = ("dddd-dd-ddTdd:dd:ddZ (", "dddd-dd-ddTdd:dd:ddsdd:dd (");
        [utc, other, "dd:dd:dd.ddd"]
            .iter()
            .fold(all.join("\n"), |text, pattern| masked(&text, pattern))
            .replace(other, utc)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stopping.cancel();
        let _ = self.thread.take().unwrap().join();
    }
}

/// Text in which what fits the pattern (`d` a digit, `s` a sign) is the pattern.
fn masked(text: &str, pattern: &str) -> String {
    let fits = |rest: &str| {
        rest.len() >= pattern.len()
            && rest.bytes().zip(pattern.bytes()).all(|(c, p)| match p {
                b'd' => c.is_ascii_digit(),
                b's' => matches!(c, b'+' | b'-'),
                p => c == p,
            })
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if fits(rest) {
            out.push_str(pattern);
            pattern.len()
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    out
}

#[test]
fn get_in_every_form() {
    let cloud = Cloud::new(false);
    for kind in ["nodes", "pods", "devices"] {
        let forms =
            ["", " -o wide", " -o json", " -o yaml", " -o jsonl", " -o name", " --no-headers"];
        let mut lines: Vec<String> =
            forms.iter().map(|form| format!("keadm get {kind} -A{form}")).collect();
        lines.push(format!("keadm get {kind} -A -o jsonpath={{.items[*].metadata.name}}"));
        lines.push(format!(
            "keadm get {kind} -A -o custom-columns=NAME:.metadata.name,LABELS:.metadata.labels"
        ));
        lines.push(format!("keadm get {kind} -A --sort-by .metadata.creationTimestamp -o name"));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        insta::assert_snapshot!(format!("get_{kind}"), cloud.say(&lines));
    }
    insta::assert_snapshot!(
        "get_some",
        cloud.say(&[
            "keadm get node edge-1 -o name",
            "keadm get nodes -l site=north -o name",
            "keadm get nodes -l site!=north -o name",
            "keadm get pods -A --field-selector status.summary!=Running -o name",
            "keadm get pods",
            "keadm get pods -n nowhere",
            "keadm get pod web -o jsonpath={.status.restarts}",
            "keadm get pod nobody",
            "keadm get pod web nobody",
            "keadm get messages --for 300ms",
            "keadm get messages --for 300ms -o jsonl",
        ])
    );
}

#[test]
fn describe_of_each_kind() {
    let cloud = Cloud::new(false);
    insta::assert_snapshot!(
        "describe",
        cloud.say(&[
            "keadm describe node edge-1",
            "keadm describe node edge-2",
            "keadm describe pod web",
            "keadm describe pod till -n shop",
            "keadm describe device thermo",
            "keadm describe device valve",
            "keadm describe pod web -o json",
            "keadm describe pod nobody",
            "keadm describe pods -n empty",
        ])
    );
}

#[test]
fn status_of_a_fleet_that_is_well_and_of_one_that_is_not() {
    let lines = ["keadm status", "keadm status --plain", "keadm status -o json"];
    insta::assert_snapshot!("status_well", Cloud::new(true).say(&lines));
    insta::assert_snapshot!("status_not_well", Cloud::new(false).say(&lines));
}

#[test]
fn top_and_events_in_their_forms() {
    let cloud = Cloud::new(false);
    insta::assert_snapshot!(
        "top",
        cloud.say(&[
            "keadm top nodes",
            "keadm top pods -A",
            "keadm top pods -A -o jsonl",
            "keadm top pods -n shop",
            "keadm top nodes --no-headers",
            "keadm top pods -n empty",
            "keadm top pods -A --sort-by .status.use",
        ])
    );
    insta::assert_snapshot!(
        "events",
        cloud.say(&[
            "keadm events",
            "keadm events -A -o wide",
            "keadm events -A -o json",
            "keadm events -A -o jsonl",
            "keadm events -A -o name",
        ])
    );
}

#[test]
fn what_waits_writes_events_a_line_and_nothing_else() {
    let cloud = Cloud::new(false);
    for (line, code) in [
        ("keadm drain edge-2 --yes", 0),
        ("keadm drain edge-2 --yes -o json", 0),
        ("keadm status --wait --timeout 300ms", 3),
        ("keadm status --wait --timeout 300ms -o json", 3),
        ("keadm delete pod web --yes --wait --timeout 300ms", 7),
        ("keadm restart pod web --wait --timeout 300ms", 7),
        ("keadm confirm upgrade edge-1 --wait --timeout 300ms", 7),
    ] {
        let said = cloud.say(&[&format!("{line} --progress jsonl")]);
        assert!(said.contains(&format!("exit code: {code}\n")), "{said}");
        let out = said.split_once("--- out\n").unwrap().1.split("--- err").next().unwrap();
        let events: Vec<serde_json::Value> = out
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {said}")))
            .collect();
        let has = |name: &str| events.iter().any(|event| event["event"] == name);
        assert!(has("started"), "{said}");
        assert_eq!(
            (has("done"), has("ready"), has("failed")),
            (code == 0, code == 0, code != 0),
            "{said}"
        );
    }
}

#[test]
fn what_is_asked_for_is_done_said_or_refused() {
    let cloud = Cloud::new(false);
    insta::assert_snapshot!(
        "actions",
        cloud.say(&[
            "keadm cordon edge-1",
            "keadm cordon edge-1 --dry-run",
            "keadm cordon edge-1 -o json",
            "keadm cordon nobody",
            "keadm uncordon edge-2 --yes",
            "keadm drain edge-1 --yes",
            "keadm drain edge-2 --yes -q",
            "keadm drain edge-2 --yes -q -o json",
            "keadm drain edge-2 --yes --no-wait",
            "keadm drain nobody --yes -q",
            "keadm delete pod web --yes",
            "keadm delete pod web --dry-run",
            "keadm delete pod web --dry-run -o json",
            "keadm delete pod web",
            "keadm delete pod pod/nobody --yes",
            "keadm delete node edge-1",
            "keadm delete pod web --grace-period 0 --yes",
            "keadm restart pod web",
            "keadm restart pod web --dry-run",
            "keadm restart pod web -y -o json",
            "keadm restart pod till -n shop",
            "keadm restart pod nobody",
            "keadm confirm upgrade edge-1",
            "keadm confirm upgrade edge-1 --dry-run",
            "keadm confirm upgrade edge-1 -o json",
            "keadm confirm upgrade edge-2",
            "keadm confirm upgrade edge-1 nobody",
            "keadm confirm pod web",
            "keadm confirm upgrade edge-1 --wait --timeout 300ms -q",
        ])
    );
}

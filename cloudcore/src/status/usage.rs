//! What nodes and pods use: asked of the nodes while a reader of the stream wants to know.
//!
//! ```text
//! usage ─► tunnel of each node ─► its /stats/summary ─► Meter (two readings) ─call─► Status ─► rows
//! ```
//!
//! Owns: the pace of asking, the last reading of each node.
//! Called by: `app.rs` runs it for ever.
//! Never: asks without a reader; makes up a rate from one reading; believes a node about the pods of
//! another.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::names::NodeName;
use api::status::row::{Row, RowKey, Usage};
use futures::StreamExt;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::{Status, now};
use crate::cloudstream::{NodeApis, Question, Verb};

/// A node is asked no more often.
const PACE: Duration = Duration::from_secs(10);
/// From the first reading to the second, without which there is no rate.
const SECOND: Duration = Duration::from_secs(1);
/// What nobody has wanted for so long is forgotten.
const STALE: Duration = Duration::from_secs(30);
/// Nodes that are asked at one time.
const AT_ONCE: usize = 16;
/// A node may take so long.
const ANSWER: Duration = Duration::from_secs(5);
/// No answer is longer: some hundred pods of some containers.
const SIZE: usize = 2 << 20;
/// Pods of a node that are looked at.
const PODS: usize = 1024;

/// A kubelet's `/stats/summary`, as far as it is read here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    node: Stats,
    pods: Vec<PodStats>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStats {
    pod_ref: PodRef,
    /// Of the whole pod; not all kubelets say it.
    #[serde(flatten)]
    whole: Stats,
    containers: Vec<Stats>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodRef {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stats {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cpu {
    time: Option<jiff::Timestamp>,
    usage_core_nano_seconds: Option<u64>,
    /// A rate, where the kubelet has measured it itself.
    usage_nano_cores: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Memory {
    working_set_bytes: Option<u64>,
}

/// Processor time in all, and when that was read: nanoseconds both.
type Reading = (u64, i64);

/// The last readings of a node.
#[derive(Debug, Default)]
struct Meter {
    node: Option<Reading>,
    /// By UID.
    pods: HashMap<String, Reading>,
}

/// What a node and its pods use.
#[derive(Debug, Default)]
struct Used {
    node: Option<Usage>,
    /// By row and UID.
    pods: Vec<(RowKey, String, Usage)>,
}

/// Nanoseconds of a core in thousandths of one, between two readings; none if the counter began anew.
fn rate(before: Reading, now: Reading) -> Option<u64> {
    let nanos = u64::try_from(now.1 - before.1).ok().filter(|n| *n > 0)?;
    let used = now.0.checked_sub(before.0)?;
    u64::try_from(u128::from(used) * 1000 / u128::from(nanos)).ok()
}

impl Stats {
    fn reading(&self, at: i64) -> Option<Reading> {
        let cpu = self.cpu?;
        let time = cpu.time.and_then(|t| i64::try_from(t.as_nanosecond()).ok());
        Some((cpu.usage_core_nano_seconds?, time.unwrap_or(at)))
    }

    fn told(&self) -> Option<u64> {
        Some(self.cpu?.usage_nano_cores? / 1_000_000)
    }

    fn memory(&self) -> Option<u64> {
        self.memory?.working_set_bytes
    }
}

impl PodStats {
    /// Of the pod as a whole, else of its containers together.
    fn reading(&self, at: i64) -> Option<Reading> {
        self.whole.reading(at).or_else(|| {
            let all = self.containers.iter().filter_map(|c| c.reading(at));
            all.reduce(|a, b| (a.0.saturating_add(b.0), a.1.max(b.1)))
        })
    }

    fn told(&self) -> Option<u64> {
        let all = || self.containers.iter().map(Stats::told).sum();
        self.whole.told().or_else(all)
    }

    fn memory(&self) -> u64 {
        self.whole.memory().unwrap_or_else(|| {
            self.containers.iter().filter_map(Stats::memory).fold(0, u64::saturating_add)
        })
    }
}

impl Meter {
    /// What is used, as far as two readings tell. Pure, but for what it remembers.
    fn take(&mut self, summary: &Summary, at: i64) -> Used {
        let mut used = Used::default();
        let reading = summary.node.reading(at);
        let measured = || self.node.zip(reading).and_then(|(before, now)| rate(before, now));
        used.node = summary.node.told().or_else(measured).and_then(|cpu_millis| {
            Some(Usage { cpu_millis, memory: summary.node.memory()?, ..Usage::default() })
        });
        self.node = reading;
        let mut pods = HashMap::new();
        for pod in summary.pods.iter().take(PODS) {
            let Some(now) = pod.reading(at) else { continue };
            let PodRef { name, namespace, uid } = &pod.pod_ref;
            let measured = || self.pods.get(uid).and_then(|before| rate(*before, now));
            if let Some(cpu_millis) = pod.told().or_else(measured) {
                let usage = Usage { cpu_millis, memory: pod.memory(), ..Usage::default() };
                used.pods.push((RowKey::pod(namespace, name), uid.clone(), usage));
            }
            pods.insert(uid.clone(), now);
        }
        self.pods = pods;
        used
    }
}

/// A difference that nobody sees is none: each would be sent to each reader.
fn settled(old: Option<Usage>, new: Usage) -> Usage {
    let Some(old) = old else { return new };
    let near = |a: u64, b: u64, by: u64| a.abs_diff(b) <= by;
    let same = near(old.cpu_millis, new.cpu_millis, 1)
        && near(old.memory, new.memory, old.memory / 256)
        && (old.cpu_capacity_millis, old.memory_capacity)
            == (new.cpu_capacity_millis, new.memory_capacity);
    if same { old } else { new }
}

impl Status {
    /// Asks the nodes, while somebody wants to know, for ever.
    pub(crate) async fn measure(self: Arc<Self>, nodes: NodeApis) {
        // It is closed with `self`, and never before.
        let Err(_) = self.while_wanted(nodes).await;
    }

    async fn while_wanted(&self, nodes: NodeApis) -> Result<Infallible, RecvError> {
        let mut wanted = self.usage_wanted.subscribe();
        let meters = Mutex::new(HashMap::new());
        let mut next = Instant::now();
        loop {
            let somebody = wanted.wait_for(|n| *n > 0);
            let Ok(somebody) = timeout(STALE, somebody).await else {
                meters.lock().clear();
                self.forget_usage(&HashSet::new());
                drop(wanted.wait_for(|n| *n > 0).await?);
                continue;
            };
            drop(somebody?);
            sleep_until(next).await;
            let began = Instant::now();
            let connected = nodes.connected();
            meters.lock().retain(|node, _| connected.contains(node));
            let new: Vec<NodeName> = {
                let meters = meters.lock();
                connected.iter().filter(|node| !meters.contains_key(*node)).cloned().collect()
            };
            if !new.is_empty() {
                self.round(&nodes, new, &meters).await;
                sleep_until(began + SECOND).await;
            }
            let measured = self.round(&nodes, connected, &meters).await;
            self.forget_usage(&measured);
            next = began + PACE;
        }
    }

    /// Asks these nodes once; the rows that now have their use.
    async fn round(
        &self,
        nodes: &NodeApis,
        connected: Vec<NodeName>,
        meters: &Mutex<HashMap<NodeName, Meter>>,
    ) -> HashSet<RowKey> {
        let measured = Mutex::new(HashSet::new());
        let one = async |node: NodeName| {
            let question = Question {
                verb: Verb::Get,
                path: "/stats/summary".to_owned(),
                query: "",
                limit: SIZE,
                within: ANSWER,
            };
            let answer = match nodes.ask(&node, &question).await {
                Ok(answer) => answer,
                Err(error) => return debug!(%node, %error, "the node does not say what it uses"),
            };
            let summary: Summary = match serde_json::from_slice(&answer) {
                Ok(summary) => summary,
                Err(error) => return debug!(%node, %error, "its statistics make no sense"),
            };
            let at = now().saturating_mul(1_000_000);
            let used = meters.lock().entry(node.clone()).or_default().take(&summary, at);
            let rows = self.used(&node, used);
            measured.lock().extend(rows);
        };
        futures::stream::iter(connected).for_each_concurrent(AT_ONCE, one).await;
        measured.into_inner()
    }

    /// Puts what a node and its pods use into their rows; which rows those are.
    fn used(&self, node: &NodeName, used: Used) -> Vec<RowKey> {
        let mut rows = Vec::new();
        self.change(|table| {
            let at = now();
            if let Some(usage) = used.node {
                let key = RowKey::node(node.as_str());
                let (cpu, memory) = table.capacity.get(node.as_str()).copied().unwrap_or_default();
                let usage = Usage { cpu_capacity_millis: cpu, memory_capacity: memory, ..usage };
                table.board.amend(&key, at, |row| {
                    if let Row::Node(row) = row {
                        row.usage = Some(settled(row.usage, usage));
                    }
                });
                rows.push(key);
            }
            for (key, uid, usage) in used.pods {
                let mut own = false;
                table.board.amend(&key, at, |row| {
                    if let Row::Pod(row) = row
                        && row.node == node.as_str()
                        && row.uid == uid
                    {
                        own = true;
                        row.usage = Some(settled(row.usage, usage));
                    }
                });
                if own {
                    rows.push(key);
                }
            }
        });
        rows
    }

    /// What is known of other rows is of another time.
    fn forget_usage(&self, but: &HashSet<RowKey>) {
        let has = |row: &Row| match row {
            Row::Node(row) => row.usage.is_some(),
            Row::Pod(row) => row.usage.is_some(),
            Row::Device(_) => false,
        };
        let old: Vec<RowKey> = {
            let table = self.table.lock();
            let all = table.board.rows().filter(|row| has(row)).map(Row::key);
            all.filter(|key| !but.contains(key)).collect()
        };
        if old.is_empty() {
            return;
        }
        self.change(|table| {
            for key in old {
                table.board.amend(&key, now(), |row| match row {
                    Row::Node(row) => row.usage = None,
                    Row::Pod(row) => row.usage = None,
                    Row::Device(_) => {}
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(seconds: i64, node: u64, pod: u64) -> Summary {
        let time = jiff::Timestamp::from_second(seconds).unwrap().to_string();
        serde_json::from_value(serde_json::json!({
            "node": {"nodeName": "edge-1", "memory": {"workingSetBytes": 900},
                "cpu": {"time": time, "usageCoreNanoSeconds": node}},
            "pods": [{
                "podRef": {"name": "web", "namespace": "default", "uid": "u"},
                "containers": [
                    {"name": "a", "cpu": {"time": time, "usageCoreNanoSeconds": pod},
                     "memory": {"workingSetBytes": 100}},
                    {"name": "b", "cpu": {"time": time, "usageCoreNanoSeconds": pod},
                     "memory": {"workingSetBytes": 11}},
                    {"name": "starting"},
                ],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_rate_needs_two_readings_and_a_counter_that_began_anew_gives_none() {
        let mut meter = Meter::default();
        let second = 1_000_000_000;
        let first = meter.take(&summary(100, 5, 5), 0);
        assert!(first.node.is_none() && first.pods.is_empty());
        let used = meter.take(&summary(102, 5 + second, 5 + second / 4), 0);
        let node = used.node.unwrap();
        assert_eq!((node.cpu_millis, node.memory), (500, 900));
        let (key, uid, pod) = &used.pods[0];
        assert_eq!((key, uid.as_str()), (&RowKey::pod("default", "web"), "u"));
        assert_eq!((pod.cpu_millis, pod.memory), (250, 111));
        let again = meter.take(&summary(104, 5, 5), 0);
        assert!(again.node.is_none() && again.pods.is_empty(), "{again:?}");
        let same = meter.take(&summary(104, 9, 9), 0);
        assert!(same.node.is_none(), "no time has passed");
    }

    #[test]
    fn a_pod_that_is_told_as_a_whole_is_not_added_up() {
        let told: Summary = serde_json::from_str(
            r#"{"node":{},"pods":[{"podRef":{"name":"w","namespace":"d","uid":"u"},
                "cpu":{"usageCoreNanoSeconds":7,"usageNanoCores":250000000},"memory":{"workingSetBytes":3},
                "containers":[{"cpu":{"usageCoreNanoSeconds":100},"memory":{"workingSetBytes":50}}]}]}"#,
        )
        .unwrap();
        assert_eq!(told.pods[0].reading(42), Some((7, 42)));
        assert_eq!(told.pods[0].memory(), 3);
        let used = Meter::default().take(&told, 0);
        assert_eq!(used.pods[0].2.cpu_millis, 250, "the kubelet has measured it itself");
    }

    #[test]
    fn what_nobody_would_see_does_not_change_a_row() {
        let usage = |cpu_millis, memory| Usage { cpu_millis, memory, ..Usage::default() };
        let old = usage(100, 1 << 20);
        assert_eq!(settled(Some(old), usage(101, (1 << 20) + 4096)), old);
        assert_eq!(settled(Some(old), usage(102, 1 << 20)).cpu_millis, 102);
        assert_eq!(settled(Some(old), usage(100, 2 << 20)).memory, 2 << 20);
        assert_eq!(settled(None, old), old);
    }
}

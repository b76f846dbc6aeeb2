//! What containers use: `/stats/summary` and `/metrics/resource`.
//!
//! Owns: the two formats. Called by: `mod.rs`. Never: measures; the runtime does.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::super::node::facts;
use super::super::podspec;
use super::super::runtime::{ContainerStats, label};
use super::{Api, Body, Refusal, json_body, refuse, text};

impl Api {
    async fn stats(&self) -> Result<Vec<ContainerStats>, Refusal> {
        let stats = self.shared.runtime.stats(None).await;
        stats.or_else(|e| refuse(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))
    }

    pub(super) async fn summary(&self) -> Result<Response<Body>, Refusal> {
        let stats = self.stats().await?;
        let mut pods: Vec<Value> = Vec::new();
        for pod in self.directory.all() {
            let uid = podspec::uid(&pod);
            let containers: Vec<Value> = stats
                .iter()
                .filter(|s| s.labels.get(label::POD_UID).is_some_and(|u| u == uid))
                .map(container_summary)
                .collect();
            if !containers.is_empty() {
                pods.push(json!({
                    "podRef": {"name": podspec::name(&pod), "namespace": podspec::namespace(&pod), "uid": uid},
                    "containers": containers
                }));
            }
        }
        Ok(json_body(&json!({"node": node_summary(&self.node), "pods": pods})))
    }

    pub(super) async fn resource_metrics(&self) -> Result<Response<Body>, Refusal> {
        let stats = self.stats().await?;
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, value: fn(&ContainerStats) -> String| {
            out.push_str(&format!("# TYPE {name} {kind}\n"));
            for s in &stats {
                let of = |key: &str| s.labels.get(key).map(String::as_str).unwrap_or_default();
                out.push_str(&format!(
                    "{name}{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}} {}\n",
                    s.name,
                    of(label::POD_NAMESPACE),
                    of(label::POD_NAME),
                    value(s)
                ));
            }
        };
        metric("container_cpu_usage_seconds_total", "counter", |s| seconds(s.cpu_nanoseconds));
        metric("container_memory_working_set_bytes", "gauge", |s| s.memory_working_set.to_string());
        if let Some(cpu) = facts::cpu_nanoseconds() {
            let name = "node_cpu_usage_seconds_total";
            out.push_str(&format!("# TYPE {name} counter\n{name} {}\n", seconds(cpu)));
        }
        if let Some((used, _)) = memory() {
            let name = "node_memory_working_set_bytes";
            out.push_str(&format!("# TYPE {name} gauge\n{name} {used}\n"));
        }
        Ok(text(out))
    }
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Bytes of the machine that are used, and that still can be.
fn memory() -> Option<(u64, u64)> {
    let machine = facts::machine();
    let available = facts::memory_available(&machine)?;
    Some((machine.memory.saturating_sub(available), available))
}

/// What cannot be read is left out.
fn node_summary(name: &str) -> Value {
    let at = jiff::Timestamp::now().to_string();
    let mut node = json!({ "nodeName": name });
    if let Some(cpu) = facts::cpu_nanoseconds() {
        node["cpu"] = json!({ "time": at, "usageCoreNanoSeconds": cpu });
    }
    if let Some((used, available)) = memory() {
        node["memory"] =
            json!({ "time": at, "workingSetBytes": used, "availableBytes": available });
    }
    node
}

fn container_summary(s: &ContainerStats) -> Value {
    // Finer than the whole seconds of other times: whoever reads twice within one wants a rate.
    let at = jiff::Timestamp::from_nanosecond(s.at.into()).unwrap_or_default().to_string();
    json!({
        "name": s.name,
        "cpu": {"time": at, "usageCoreNanoSeconds": s.cpu_nanoseconds},
        "memory": {"time": at, "workingSetBytes": s.memory_working_set,
            "usageBytes": s.memory_usage, "rssBytes": s.memory_rss},
        "rootfs": {"time": at, "usedBytes": s.disk_used, "inodesUsed": s.inodes_used}
    })
}

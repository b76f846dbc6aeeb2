//! What containers use: `/stats/summary` and `/metrics/resource`.
//!
//! Owns: the two formats. Called by: `mod.rs`. Never: measures; the runtime does.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::super::clock::time;
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
        Ok(json_body(&json!({"node": {"nodeName": &*self.node}, "pods": pods})))
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
        metric("container_cpu_usage_seconds_total", "counter", |s| {
            format!(
                "{}.{:09}",
                s.cpu_nanoseconds / 1_000_000_000,
                s.cpu_nanoseconds % 1_000_000_000
            )
        });
        metric("container_memory_working_set_bytes", "gauge", |s| s.memory_working_set.to_string());
        Ok(text(out))
    }
}

fn container_summary(s: &ContainerStats) -> Value {
    let at = time(s.at);
    json!({
        "name": s.name,
        "cpu": {"time": at, "usageCoreNanoSeconds": s.cpu_nanoseconds},
        "memory": {"time": at, "workingSetBytes": s.memory_working_set,
            "usageBytes": s.memory_usage, "rssBytes": s.memory_rss},
        "rootfs": {"time": at, "usedBytes": s.disk_used, "inodesUsed": s.inodes_used}
    })
}

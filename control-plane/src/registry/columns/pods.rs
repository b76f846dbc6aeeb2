//! What `kubectl get pods` shows.

use jiff::Timestamp;
use serde_json::Value;

use super::{Columns, age, age_of, col, name, or_none, wide};
use crate::registry::meta::{self, text};

pub(crate) static POD: Columns = Columns {
    columns: &[
        col("Name"),
        col("Ready"),
        col("Status"),
        col("Restarts"),
        col("Age"),
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells: pod,
};

fn pod(o: &Value, now: Timestamp) -> Vec<Value> {
    let summary = pod_summary(o, now);
    let gates = o["spec"]["readinessGates"].as_array().map_or(0, Vec::len);
    let passed = o["spec"]["readinessGates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|g| {
            meta::condition(o, g["conditionType"].as_str().unwrap_or_default())
                .is_some_and(|c| c["status"] == "True")
        })
        .count();
    let gates = if gates == 0 { "<none>".to_owned() } else { format!("{passed}/{gates}") };
    vec![
        name(o),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        summary.restarts.into(),
        age_of(o, now),
        or_none(text(o, "/status/podIP")),
        or_none(text(o, "/spec/nodeName")),
        or_none(text(o, "/status/nominatedNodeName")),
        gates.into(),
    ]
}

struct PodSummary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: String,
}

fn statuses<'a>(o: &'a Value, field: &str) -> impl DoubleEndedIterator<Item = &'a Value> {
    o["status"][field].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn terminated_reason(t: &Value) -> String {
    match t["reason"].as_str().filter(|r| !r.is_empty()) {
        Some(r) => r.to_owned(),
        None => match t["signal"].as_i64().unwrap_or(0) {
            0 => format!("ExitCode:{}", t["exitCode"].as_i64().unwrap_or(0)),
            s => format!("Signal:{s}"),
        },
    }
}

/// The words of `kubectl get pods`: the most telling reason among phase, init containers and containers.
fn pod_summary(o: &Value, now: Timestamp) -> PodSummary {
    let spec = &o["spec"];
    let init: Vec<&Value> = spec["initContainers"].as_array().into_iter().flatten().collect();
    let sidecar =
        |n: &Value| init.iter().any(|c| c["name"] == *n && c["restartPolicy"] == "Always");
    let mut total = spec["containers"].as_array().map_or(0, Vec::len);
    total += init.iter().filter(|c| c["restartPolicy"] == "Always").count();
    let mut reason = text(o, "/status/phase").to_owned();
    if !text(o, "/status/reason").is_empty() {
        reason = text(o, "/status/reason").to_owned();
    }
    if let Some(c) = meta::condition(o, "PodScheduled")
        && c["reason"] == "SchedulingGated"
    {
        reason = "SchedulingGated".into();
    }
    let (mut ready, mut restarts, mut initializing) = (0, 0, false);
    let mut last_restart = "";
    for (i, c) in statuses(o, "initContainerStatuses").enumerate() {
        restarts += c["restartCount"].as_i64().unwrap_or(0);
        if let Some(t) = c.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str) {
            last_restart = last_restart.max(t);
        }
        let terminated = &c["state"]["terminated"];
        if terminated.is_object() && terminated["exitCode"] == 0 {
            continue;
        }
        if sidecar(&c["name"]) && c["started"] == true {
            ready += usize::from(c["ready"] == true);
            continue;
        }
        let waiting = text(c, "/state/waiting/reason");
        reason = if terminated.is_object() {
            format!("Init:{}", terminated_reason(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", init.len())
        };
        initializing = true;
        break;
    }
    if !initializing || meta::condition(o, "Initialized").is_some_and(|c| c["status"] == "True") {
        restarts = statuses(o, "initContainerStatuses")
            .filter(|c| sidecar(&c["name"]))
            .map(|c| c["restartCount"].as_i64().unwrap_or(0))
            .sum();
        let mut running = false;
        for c in statuses(o, "containerStatuses").rev() {
            restarts += c["restartCount"].as_i64().unwrap_or(0);
            if let Some(t) = c.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str) {
                last_restart = last_restart.max(t);
            }
            let waiting = text(c, "/state/waiting/reason");
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if c["state"]["terminated"].is_object() {
                reason = terminated_reason(&c["state"]["terminated"]);
            } else if c["ready"] == true && c["state"]["running"].is_object() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            let is_ready = meta::condition(o, "Ready").is_some_and(|c| c["status"] == "True");
            reason = if is_ready { "Running" } else { "NotReady" }.into();
        }
    }
    if meta::is_terminating(o) {
        let phase = text(o, "/status/phase");
        if text(o, "/status/reason") == "NodeLost" {
            reason = "Unknown".into();
        } else if phase != "Failed" && phase != "Succeeded" {
            reason = "Terminating".into();
        }
    }
    let mut shown = restarts.to_string();
    if restarts != 0 && !last_restart.is_empty() {
        shown = format!("{restarts} ({} ago)", age(last_restart, now));
    }
    PodSummary { ready, total, reason, restarts: shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_shows_its_most_telling_reason() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let base = |status: Value| json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}, "status": status});
        let shown = |o: &Value| {
            let s = pod_summary(o, now);
            format!("{}/{} {} {}", s.ready, s.total, s.reason, s.restarts)
        };
        assert_eq!(shown(&base(json!({"phase": "Pending"}))), "0/1 Pending 0");
        let running = base(
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "restartCount": 2,
            "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}}}]}),
        );
        assert_eq!(shown(&running), "1/1 Running 2 (5m ago)");
        let crash = base(
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        );
        assert_eq!(shown(&crash), "0/1 CrashLoopBackOff 0");
        let mut going = running.clone();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(shown(&going), "1/1 Terminating 2 (5m ago)");
    }
}

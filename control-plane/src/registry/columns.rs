//! What `kubectl get` shows of each kind.
//!
//! Owns: the columns and how an object becomes cells. Called by: `http::table`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::meta::{self, text};

/// A column as a Table defines it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// 0 is shown always, 1 with `-o wide`.
    pub(crate) priority: u8,
}

/// The columns of a kind and its cells.
pub(crate) struct Columns {
    pub(crate) columns: &'static [Column],
    pub(crate) cells: fn(&Value, Timestamp) -> Vec<Value>,
}

const fn col(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 0 }
}
const fn int(name: &'static str) -> Column {
    Column { name, kind: "integer", priority: 0 }
}
const fn typed(name: &'static str, kind: &'static str) -> Column {
    Column { name, kind, priority: 0 }
}
const fn wide(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 1 }
}

/// How long ago, as kubectl writes it.
pub(crate) fn age(since: &str, now: Timestamp) -> String {
    match since.parse::<Timestamp>() {
        Ok(t) => human_duration(now.as_second() - t.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// A length of time in at most two units, as kubectl writes it.
pub(crate) fn human_duration(seconds: i64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        _ if m < 10 && seconds % 60 == 0 => format!("{m}m"),
        _ if m < 10 => format!("{m}m{}s", seconds % 60),
        _ if m < 180 => format!("{m}m"),
        _ if h < 8 && m % 60 == 0 => format!("{h}h"),
        _ if h < 8 => format!("{h}h{}m", m % 60),
        _ if h < 48 => format!("{h}h"),
        _ if d < 8 && h % 24 == 0 => format!("{d}d"),
        _ if d < 8 => format!("{d}d{}h", h % 24),
        _ if d < 365 * 2 => format!("{d}d"),
        _ if d < 365 * 8 && d % 365 == 0 => format!("{}y", d / 365),
        _ if d < 365 * 8 => format!("{}y{}d", d / 365, d % 365),
        _ => format!("{}y", d / 365),
    }
}

fn name(o: &Value) -> Value {
    meta::name(o).into()
}

fn age_of(o: &Value, now: Timestamp) -> Value {
    age(text(o, "/metadata/creationTimestamp"), now).into()
}

fn number(o: &Value, pointer: &str) -> i64 {
    o.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn or_none(s: &str) -> Value {
    if s.is_empty() { "<none>".into() } else { s.into() }
}

fn len(o: &Value, field: &str) -> usize {
    match &o[field] {
        Value::Object(m) => m.len(),
        Value::Array(a) => a.len(),
        _ => 0,
    }
}

fn labels(o: Option<&Value>) -> Value {
    let pairs: Vec<String> = o
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

fn selector(o: Option<&Value>) -> Value {
    let Some(o) = o else { return "<none>".into() };
    let mut parts: Vec<String> = o["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    for e in o["matchExpressions"].as_array().into_iter().flatten() {
        let values: Vec<&str> =
            e["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let key = e["key"].as_str().unwrap_or_default();
        parts.push(match e["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    or_none(&parts.join(","))
}

fn containers(o: &Value, field: &str) -> Value {
    let all: Vec<&str> = o["spec"]["template"]["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c[field].as_str())
        .collect();
    all.join(",").into()
}

pub(crate) static PLAIN: Columns =
    Columns { columns: &[col("Name"), col("Age")], cells: |o, now| vec![name(o), age_of(o, now)] };

pub(crate) static SCALE: Columns = Columns {
    columns: &[col("Name"), int("Desired"), int("Available"), col("Age")],
    cells: |o, now| {
        let of = |pointer| number(o, pointer).into();
        vec![name(o), of("/spec/replicas"), of("/status/replicas"), age_of(o, now)]
    },
};

pub(crate) static CREATED: Columns = Columns {
    columns: &[col("Name"), typed("Created At", "date")],
    cells: |o, _| vec![name(o), text(o, "/metadata/creationTimestamp").into()],
};

pub(crate) static CONFIG_MAP: Columns = Columns {
    columns: &[col("Name"), col("Data"), col("Age")],
    cells: |o, now| vec![name(o), (len(o, "data") + len(o, "binaryData")).into(), age_of(o, now)],
};

pub(crate) static SECRET: Columns = Columns {
    columns: &[col("Name"), col("Type"), col("Data"), col("Age")],
    cells: |o, now| vec![name(o), text(o, "/type").into(), len(o, "data").into(), age_of(o, now)],
};

pub(crate) static SERVICE_ACCOUNT: Columns = Columns {
    columns: &[col("Name"), col("Secrets"), col("Age")],
    cells: |o, now| vec![name(o), len(o, "secrets").into(), age_of(o, now)],
};

pub(crate) static NAMESPACE: Columns = Columns {
    columns: &[col("Name"), col("Status"), col("Age")],
    cells: |o, now| vec![name(o), text(o, "/status/phase").into(), age_of(o, now)],
};

pub(crate) static NODE: Columns = Columns {
    columns: &[
        col("Name"),
        col("Status"),
        col("Roles"),
        col("Age"),
        col("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells: node,
};

fn node(o: &Value, now: Timestamp) -> Vec<Value> {
    let ready = meta::condition(o, "Ready").map_or("Unknown", |c| match c["status"].as_str() {
        Some("True") => "Ready",
        _ => "NotReady",
    });
    let unschedulable = o["spec"]["unschedulable"] == true;
    let status =
        if unschedulable { format!("{ready},SchedulingDisabled") } else { ready.to_owned() };
    let mut roles: Vec<&str> = Vec::new();
    for (k, v) in o.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten() {
        if let Some(role) = k.strip_prefix("node-role.kubernetes.io/") {
            roles.push(role);
        } else if k == "kubernetes.io/role" {
            roles.extend(v.as_str());
        }
    }
    let address = |kind: &str| {
        let all = o.pointer("/status/addresses").and_then(Value::as_array);
        let found = all.into_iter().flatten().find(|a| a["type"] == kind);
        or_none(found.and_then(|a| a["address"].as_str()).unwrap_or_default())
    };
    let info = |field: &str| {
        let v = o["status"]["nodeInfo"][field].as_str().unwrap_or_default();
        Value::from(if v.is_empty() { "<unknown>" } else { v })
    };
    vec![
        name(o),
        status.into(),
        or_none(&roles.join(",")),
        age_of(o, now),
        text(o, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

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

pub(crate) static SERVICE: Columns = Columns {
    columns: &[
        col("Name"),
        col("Type"),
        col("Cluster-IP"),
        col("External-IP"),
        col("Port(s)"),
        col("Age"),
        wide("Selector"),
    ],
    cells: service,
};

fn service(o: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = o["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| {
            let (port, protocol) =
                (p["port"].as_i64().unwrap_or(0), p["protocol"].as_str().unwrap_or("TCP"));
            match p["nodePort"].as_i64() {
                Some(n) if n > 0 => format!("{port}:{n}/{protocol}"),
                _ => format!("{port}/{protocol}"),
            }
        })
        .collect();
    let kind = text(o, "/spec/type");
    let ips: Vec<&str> = o["spec"]["externalIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let external = match kind {
        "ExternalName" => text(o, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let mut all: Vec<&str> = o
                .pointer("/status/loadBalancer/ingress")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|i| i["ip"].as_str().or(i["hostname"].as_str()))
                .collect();
            all.extend(ips);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => ips.join(","),
    };
    vec![
        name(o),
        kind.into(),
        or_none(text(o, "/spec/clusterIP")),
        or_none(&external),
        or_none(&ports.join(",")),
        age_of(o, now),
        labels(o.pointer("/spec/selector")),
    ]
}

pub(crate) static ENDPOINTS: Columns = Columns {
    columns: &[col("Name"), col("Endpoints"), col("Age")],
    cells: |o, now| {
        let mut all = Vec::new();
        for s in o["subsets"].as_array().into_iter().flatten() {
            for p in s["ports"].as_array().into_iter().flatten() {
                for a in s["addresses"].as_array().into_iter().flatten() {
                    all.push(format!(
                        "{}:{}",
                        a["ip"].as_str().unwrap_or_default(),
                        p["port"].as_i64().unwrap_or(0)
                    ));
                }
            }
        }
        let shown = match all.len() {
            0..=3 => all.join(","),
            n => format!("{} + {} more...", all[..3].join(","), n - 3),
        };
        vec![name(o), or_none(&shown), age_of(o, now)]
    },
};

pub(crate) static ENDPOINT_SLICE: Columns = Columns {
    columns: &[col("Name"), col("AddressType"), col("Ports"), col("Endpoints"), col("Age")],
    cells: |o, now| {
        let shown = |all: Vec<String>| match all.len() {
            0 => "<unset>".to_owned(),
            1..=3 => all.join(","),
            n => format!("{} + {} more...", all[..3].join(","), n - 3),
        };
        let ports = o["ports"].as_array().into_iter().flatten();
        let ports =
            ports.map(|p| p["port"].as_i64().map_or("*".to_owned(), |n| n.to_string())).collect();
        let endpoints = o["endpoints"].as_array().into_iter().flatten();
        let endpoints = endpoints.flat_map(|e| e["addresses"].as_array().into_iter().flatten());
        let endpoints = endpoints.filter_map(|a| a.as_str().map(str::to_owned)).collect();
        vec![
            name(o),
            text(o, "/addressType").into(),
            shown(ports).into(),
            shown(endpoints).into(),
            age_of(o, now),
        ]
    },
};

pub(crate) static EVENT: Columns = Columns {
    columns: &[
        col("Last Seen"),
        col("Type"),
        col("Reason"),
        col("Object"),
        wide("Subobject"),
        wide("Source"),
        col("Message"),
        wide("First Seen"),
        wide("Count"),
        wide("Name"),
    ],
    cells: |o, now| {
        let first = [text(o, "/firstTimestamp"), text(o, "/eventTime")]
            .into_iter()
            .find(|t| !t.is_empty())
            .unwrap_or_default();
        let series = text(o, "/series/lastObservedTime");
        let last = [series, text(o, "/lastTimestamp"), first]
            .into_iter()
            .find(|t| !t.is_empty())
            .unwrap_or_default();
        let object = &o["involvedObject"];
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let component = match text(o, "/source/component") {
            "" => text(o, "/reportingComponent"),
            c => c,
        };
        let host = [text(o, "/source/host"), text(o, "/reportingInstance")];
        let source = match host.into_iter().find(|h| !h.is_empty()) {
            None => component.to_owned(),
            Some(host) => format!("{component}, {host}"),
        };
        let count =
            o.pointer("/series/count").or(o.get("count")).and_then(Value::as_i64).unwrap_or(1);
        vec![
            age(last, now).into(),
            text(o, "/type").into(),
            text(o, "/reason").into(),
            format!("{kind}/{}", object["name"].as_str().unwrap_or_default()).into(),
            object["fieldPath"].as_str().unwrap_or_default().into(),
            source.into(),
            text(o, "/message").trim().into(),
            age(first, now).into(),
            count.into(),
            name(o),
        ]
    },
};

pub(crate) static LEASE: Columns = Columns {
    columns: &[col("Name"), col("Holder"), col("Age")],
    cells: |o, now| vec![name(o), text(o, "/spec/holderIdentity").into(), age_of(o, now)],
};

pub(crate) static CLAIM: Columns = Columns {
    columns: &[
        col("Name"),
        col("Status"),
        col("Volume"),
        col("Capacity"),
        col("Access Modes"),
        col("StorageClass"),
        col("VolumeAttributesClass"),
        col("Age"),
        wide("VolumeMode"),
    ],
    cells: |o, now| {
        let phase = if meta::is_terminating(o) { "Terminating" } else { text(o, "/status/phase") };
        let bound = !text(o, "/spec/volumeName").is_empty();
        let (capacity, modes) = if bound {
            (text(o, "/status/capacity/storage"), access_modes(&o["status"]["accessModes"]))
        } else {
            ("", String::new())
        };
        vec![
            name(o),
            phase.into(),
            text(o, "/spec/volumeName").into(),
            capacity.into(),
            modes.into(),
            text(o, "/spec/storageClassName").into(),
            "<unset>".into(),
            age_of(o, now),
            text(o, "/spec/volumeMode").into(),
        ]
    },
};

fn access_modes(modes: &Value) -> String {
    let short = |m: &Value| match m.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    modes.as_array().into_iter().flatten().map(short).collect::<Vec<_>>().join(",")
}

pub(crate) static VOLUME: Columns = Columns {
    columns: &[
        col("Name"),
        col("Capacity"),
        col("Access Modes"),
        col("Reclaim Policy"),
        col("Status"),
        col("Claim"),
        col("StorageClass"),
        col("VolumeAttributesClass"),
        col("Reason"),
        col("Age"),
        wide("VolumeMode"),
    ],
    cells: |o, now| {
        let claim = match text(o, "/spec/claimRef/name") {
            "" => String::new(),
            n => format!("{}/{n}", text(o, "/spec/claimRef/namespace")),
        };
        let phase = if meta::is_terminating(o) { "Terminating" } else { text(o, "/status/phase") };
        vec![
            name(o),
            text(o, "/spec/capacity/storage").into(),
            access_modes(&o["spec"]["accessModes"]).into(),
            text(o, "/spec/persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            text(o, "/spec/storageClassName").into(),
            "<unset>".into(),
            text(o, "/status/reason").into(),
            age_of(o, now),
            text(o, "/spec/volumeMode").into(),
        ]
    },
};

pub(crate) static DEPLOYMENT: Columns = Columns {
    columns: &[
        col("Name"),
        col("Ready"),
        col("Up-to-date"),
        col("Available"),
        col("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |o, now| {
        vec![
            name(o),
            format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas"))
                .into(),
            number(o, "/status/updatedReplicas").into(),
            number(o, "/status/availableReplicas").into(),
            age_of(o, now),
            containers(o, "name"),
            containers(o, "image"),
            selector(o.pointer("/spec/selector")),
        ]
    },
};

pub(crate) static REPLICA_SET: Columns = Columns {
    columns: &[
        col("Name"),
        int("Desired"),
        int("Current"),
        int("Ready"),
        col("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |o, now| {
        vec![
            name(o),
            number(o, "/spec/replicas").into(),
            number(o, "/status/replicas").into(),
            number(o, "/status/readyReplicas").into(),
            age_of(o, now),
            containers(o, "name"),
            containers(o, "image"),
            selector(o.pointer("/spec/selector")),
        ]
    },
};

pub(crate) static DAEMON_SET: Columns = Columns {
    columns: &[
        col("Name"),
        int("Desired"),
        int("Current"),
        int("Ready"),
        int("Up-to-date"),
        int("Available"),
        col("Node Selector"),
        col("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |o, now| {
        vec![
            name(o),
            number(o, "/status/desiredNumberScheduled").into(),
            number(o, "/status/currentNumberScheduled").into(),
            number(o, "/status/numberReady").into(),
            number(o, "/status/updatedNumberScheduled").into(),
            number(o, "/status/numberAvailable").into(),
            labels(o.pointer("/spec/template/spec/nodeSelector")),
            age_of(o, now),
            containers(o, "name"),
            containers(o, "image"),
            selector(o.pointer("/spec/selector")),
        ]
    },
};

pub(crate) static STATEFUL_SET: Columns = Columns {
    columns: &[col("Name"), col("Ready"), col("Age"), wide("Containers"), wide("Images")],
    cells: |o, now| {
        vec![
            name(o),
            format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas"))
                .into(),
            age_of(o, now),
            containers(o, "name"),
            containers(o, "image"),
        ]
    },
};

pub(crate) static BUDGET: Columns = Columns {
    columns: &[
        col("Name"),
        col("Min Available"),
        col("Max Unavailable"),
        int("Allowed Disruptions"),
        col("Age"),
    ],
    cells: |o, now| {
        let share = |f: &str| match &o["spec"][f] {
            Value::Null => "N/A".into(),
            Value::String(s) => s.as_str().into(),
            v => v.to_string().into(),
        };
        vec![
            name(o),
            share("minAvailable"),
            share("maxUnavailable"),
            number(o, "/status/disruptionsAllowed").into(),
            age_of(o, now),
        ]
    },
};

pub(crate) static JOB: Columns = Columns {
    columns: &[
        col("Name"),
        col("Status"),
        col("Completions"),
        col("Duration"),
        col("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: job,
};

fn job(o: &Value, now: Timestamp) -> Vec<Value> {
    let is = |kind| meta::condition(o, kind).is_some_and(|c| c["status"] == "True");
    let status = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if meta::is_terminating(o) {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let done = number(o, "/status/succeeded");
    let completions = match (
        o.pointer("/spec/completions").and_then(Value::as_i64),
        number(o, "/spec/parallelism"),
    ) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, p) if p > 1 => format!("{done}/1 of {p}"),
        (None, _) => format!("{done}/1"),
    };
    let duration = match (
        text(o, "/status/startTime").parse::<Timestamp>(),
        text(o, "/status/completionTime").parse::<Timestamp>(),
    ) {
        (Ok(s), Ok(e)) => human_duration(e.as_second() - s.as_second()),
        (Ok(s), Err(_)) => human_duration(now.as_second() - s.as_second()),
        _ => String::new(),
    };
    vec![
        name(o),
        status.into(),
        completions.into(),
        duration.into(),
        age_of(o, now),
        containers(o, "name"),
        containers(o, "image"),
        selector(o.pointer("/spec/selector")),
    ]
}

pub(crate) static CRON_JOB: Columns = Columns {
    columns: &[
        col("Name"),
        col("Schedule"),
        col("Timezone"),
        typed("Suspend", "boolean"),
        int("Active"),
        col("Last Schedule"),
        col("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |o, now| {
        let last = match text(o, "/status/lastScheduleTime") {
            "" => "<none>".to_owned(),
            t => age(t, now),
        };
        let zone = or_none(text(o, "/spec/timeZone"));
        let suspend = if o["spec"]["suspend"] == true { "True" } else { "False" };
        let template = json!({"spec": {"template": o["spec"]["jobTemplate"]["spec"]["template"]}});
        vec![
            name(o),
            text(o, "/spec/schedule").into(),
            zone,
            suspend.into(),
            o["status"]["active"].as_array().map_or(0, Vec::len).into(),
            last.into(),
            age_of(o, now),
            containers(&template, "name"),
            containers(&template, "image"),
            selector(o.pointer("/spec/jobTemplate/spec/selector")),
        ]
    },
};

pub(crate) static CSR: Columns = Columns {
    columns: &[
        col("Name"),
        col("Age"),
        col("SignerName"),
        col("Requestor"),
        col("RequestedDuration"),
        col("Condition"),
    ],
    cells: |o, now| {
        let is = |kind| meta::condition(o, kind).is_some();
        let mut condition = if is("Denied") {
            "Denied".to_owned()
        } else if is("Approved") {
            "Approved".to_owned()
        } else {
            "Pending".to_owned()
        };
        if is("Failed") {
            condition.push_str(",Failed");
        }
        if !text(o, "/status/certificate").is_empty() {
            condition.push_str(",Issued");
        }
        let duration = o.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
        let duration = duration.map_or("<none>".to_owned(), human_duration);
        vec![
            name(o),
            age_of(o, now),
            text(o, "/spec/signerName").into(),
            text(o, "/spec/username").into(),
            duration.into(),
            condition.into(),
        ]
    },
};

pub(crate) static ROLE_BINDING: Columns = Columns {
    columns: &[
        col("Name"),
        col("Role"),
        col("Age"),
        wide("Users"),
        wide("Groups"),
        wide("ServiceAccounts"),
    ],
    cells: |o, now| {
        let of = |kind: &str| {
            let all: Vec<String> = o["subjects"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|s| s["kind"] == kind)
                .map(|s| match kind {
                    "ServiceAccount" => format!("{}/{}", text(s, "/namespace"), text(s, "/name")),
                    _ => text(s, "/name").to_owned(),
                })
                .collect();
            Value::from(all.join(", "))
        };
        let role = format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name"));
        vec![name(o), role.into(), age_of(o, now), of("User"), of("Group"), of("ServiceAccount")]
    },
};

pub(crate) static STORAGE_CLASS: Columns = Columns {
    columns: &[
        col("Name"),
        col("Provisioner"),
        col("ReclaimPolicy"),
        col("VolumeBindingMode"),
        col("AllowVolumeExpansion"),
        col("Age"),
    ],
    cells: |o, now| {
        let default = o
            .pointer("/metadata/annotations/storageclass.kubernetes.io~1is-default-class")
            .is_some_and(|v| v == "true");
        let name =
            if default { format!("{} (default)", meta::name(o)) } else { meta::name(o).to_owned() };
        let expand = o["allowVolumeExpansion"] == true;
        vec![
            name.into(),
            text(o, "/provisioner").into(),
            text(o, "/reclaimPolicy").into(),
            text(o, "/volumeBindingMode").into(),
            expand.into(),
            age_of(o, now),
        ]
    },
};

pub(crate) static WEBHOOKS: Columns = Columns {
    columns: &[col("Name"), int("Webhooks"), col("Age")],
    cells: |o, now| {
        vec![name(o), o["webhooks"].as_array().map_or(0, Vec::len).into(), age_of(o, now)]
    },
};

pub(crate) static CSI_NODE: Columns = Columns {
    columns: &[col("Name"), int("Drivers"), col("Age")],
    cells: |o, now| {
        vec![name(o), o["spec"]["drivers"].as_array().map_or(0, Vec::len).into(), age_of(o, now)]
    },
};

pub(crate) static VOLUME_ATTACHMENT: Columns = Columns {
    columns: &[
        col("Name"),
        col("Attacher"),
        col("PV"),
        col("Node"),
        typed("Attached", "boolean"),
        col("Age"),
    ],
    cells: |o, now| {
        vec![
            name(o),
            text(o, "/spec/attacher").into(),
            text(o, "/spec/source/persistentVolumeName").into(),
            text(o, "/spec/nodeName").into(),
            (o["status"]["attached"] == true).into(),
            age_of(o, now),
        ]
    },
};

pub(crate) static CSI_DRIVER: Columns = Columns {
    columns: &[
        col("Name"),
        Column { name: "AttachRequired", kind: "boolean", priority: 0 },
        typed("PodInfoOnMount", "boolean"),
        typed("StorageCapacity", "boolean"),
        col("TokenRequests"),
        typed("RequiresRepublish", "boolean"),
        col("Modes"),
        col("Age"),
    ],
    cells: |o, now| {
        let s = &o["spec"];
        let list = |v: &Value, field: Option<&str>| {
            let all: Vec<&str> = v
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|x| field.map_or(x, |f| &x[f]).as_str())
                .collect();
            if all.is_empty() { "<unset>".to_owned() } else { all.join(",") }
        };
        vec![
            name(o),
            (s["attachRequired"] != false).into(),
            (s["podInfoOnMount"] == true).into(),
            (s["storageCapacity"] == true).into(),
            list(&s["tokenRequests"], Some("audience")).into(),
            (s["requiresRepublish"] == true).into(),
            list(&s["volumeLifecycleModes"], None).into(),
            age_of(o, now),
        ]
    },
};

pub(crate) static CONTROLLER_REVISION: Columns = Columns {
    columns: &[col("Name"), col("Controller"), col("Revision"), col("Age")],
    cells: |o, now| {
        let owner = o.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let owner = owner.into_iter().flatten().find(|r| r["controller"] == true);
        let owner = owner.map_or("<none>".to_owned(), |r| {
            let group =
                r["apiVersion"].as_str().unwrap_or_default().split_once('/').map_or("", |(g, _)| g);
            let kind = r["kind"].as_str().unwrap_or_default().to_lowercase();
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", r["name"].as_str().unwrap_or_default())
        });
        vec![name(o), owner.into(), number(o, "/revision").into(), age_of(o, now)]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        for (s, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (130, "2m10s"),
            (599, "9m59s"),
            (600, "10m"),
            (10799, "179m"),
            (10800, "3h"),
            (11000, "3h3m"),
            (28800, "8h"),
            (172_800, "2d"),
            (190_000, "2d4h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (70_000_000, "2y80d"),
        ] {
            assert_eq!(human_duration(s), text, "{s}");
        }
    }

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

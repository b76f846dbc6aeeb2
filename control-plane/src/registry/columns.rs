//! What `kubectl get` shows of each kind.
//!
//! Owns: the columns and how an object becomes cells. Called by: `http::table`.

mod pods;
mod storage;
mod workloads;

use jiff::Timestamp;
use serde_json::Value;

use super::meta::{self, text};
pub(crate) use pods::POD;
pub(crate) use storage::{CLAIM, CSI_DRIVER, CSI_NODE, STORAGE_CLASS, VOLUME, VOLUME_ATTACHMENT};
pub(crate) use workloads::{
    BUDGET, CONTROLLER_REVISION, CRON_JOB, DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, STATEFUL_SET,
};

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

pub(crate) static WEBHOOKS: Columns = Columns {
    columns: &[col("Name"), int("Webhooks"), col("Age")],
    cells: |o, now| {
        vec![name(o), o["webhooks"].as_array().map_or(0, Vec::len).into(), age_of(o, now)]
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
}

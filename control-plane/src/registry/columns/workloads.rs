//! What `kubectl get` shows of what makes pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Columns, age, age_of, col, containers, human_duration, int, labels, name, number, or_none,
    selector, typed, wide,
};
use crate::registry::meta::{self, text};

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

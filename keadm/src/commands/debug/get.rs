//! `keadm debug get`: what the edge's database holds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DatabaseArg, redact};
use crate::commands::NamespaceArg;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::output::fit::{Room, widths};
use crate::output::print::{lay_out, unseen};
use crate::output::select::Labels;
use crate::output::shape::full_name;
use crate::output::table::duration;

/// The kinds, with what they are called.
const KINDS: [(&str, &[&str]); 7] = [
    ("pod", &["pods", "pod", "po"]),
    ("node", &["nodes", "node", "no"]),
    ("service", &["services", "service", "svc"]),
    ("secret", &["secrets", "secret"]),
    ("configmap", &["configmaps", "configmap", "cm"]),
    ("endpoints", &["endpoints", "endpoint", "ep"]),
    ("device", &["devices", "device"]),
];

/// What is listed.
#[derive(clap::Args, Debug)]
pub struct DebugGetArgs {
    /// all, pods, nodes, services, secrets, configmaps, endpoints or devices
    #[arg(value_name = "KIND")]
    what: String,
    /// Only those whose name contains one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<Labels>,
    /// The form of the list; the values of secrets are never shown
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Form>,
    #[command(flatten)]
    database: DatabaseArg,
}

/// `-o`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// One JSON document
    Json,
    /// YAML
    Yaml,
    /// More columns
    Wide,
}

/// Objects by kind and full name; a pod with the status that the edge reported last. Pure.
pub(super) fn objects(rows: Vec<edgecore::Stored>) -> Vec<(String, Value)> {
    let mut found: BTreeMap<(String, String), Value> = BTreeMap::new();
    let mut statuses: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows {
        let Ok(value) = serde_json::from_str::<Value>(&row.value) else { continue };
        match row.kind.as_str() {
            _ if row.is_pod_status => {
                let mut parts = row.key.split('/');
                let (namespace, name) = (parts.next(), parts.nth(1));
                let key = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
                let status = value.get("status").or_else(|| value.get("Status")).cloned();
                statuses.extend(status.map(|status| (key, status)));
            }
            kind if KINDS.iter().any(|(known, _)| *known == kind) && value.is_object() => {
                found.insert((kind.to_owned(), full_name(&value)), value);
            }
            _ => {}
        }
    }
    for (name, status) in statuses {
        if let Some(pod) = found.get_mut(&("pod".to_owned(), name)) {
            pod["status"] = status;
        }
    }
    found
        .into_iter()
        .map(|((kind, _), mut value)| {
            redact::object(&kind, &mut value);
            (kind, value)
        })
        .collect()
}

/// Lists.
pub(super) fn get(args: &DebugGetArgs, cx: &Context) -> Result<(), CommandError> {
    let asked = args.what.to_lowercase();
    let known = KINDS.iter().find(|(_, names)| names.contains(&asked.as_str()));
    if known.is_none() && asked != "all" {
        let all: Vec<&str> = KINDS.iter().map(|(_, names)| names[0]).collect();
        let near =
            crate::commands::nearest(&asked, KINDS.iter().flat_map(|(_, n)| n.iter().copied()));
        let text = match near {
            Some(near) => format!("there is no kind `{}`; did you mean `{near}`?", args.what),
            None => format!("there is no kind `{}`; there are all, {}", args.what, all.join(", ")),
        };
        return Err(CommandError::new(Kind::Usage, text));
    }
    let wanted = |kind: &str, object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = object["metadata"]["namespace"].as_str();
        known.is_none_or(|(known, _)| *known == kind)
            && (args.all_namespaces || namespace.is_none_or(|n| n == args.namespace.namespace))
            && (args.names.is_empty() || args.names.iter().any(|part| name.contains(part)))
            && args.selector.as_ref().is_none_or(|labels| labels.matches(object))
    };
    let mut found = objects(args.database.read(cx)?);
    found.retain(|(kind, object)| wanted(kind, object));
    if found.is_empty() {
        cx.printer.say(format!("no {asked} in the edge's database, or not there"));
    }
    match args.output {
        Some(form @ (Form::Json | Form::Yaml)) => {
            let items: Vec<&Value> = found.iter().map(|(_, object)| object).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            let text = match form {
                Form::Json => serde_json::to_string_pretty(&list).unwrap_or_default(),
                _ => api::config::yaml::write(&list).unwrap_or_default(),
            };
            cx.printer.data(text.trim_end())?;
        }
        other => table(&found, other.is_some(), cx)?,
    }
    Ok(())
}

fn table(found: &[(String, Value)], wide: bool, cx: &Context) -> Result<(), CommandError> {
    if found.is_empty() {
        return Ok(());
    }
    let now = jiff::Timestamp::now().as_millisecond();
    let mut rows = vec![["NAMESPACE", "KIND", "NAME", "STATUS", "AGE"].map(str::to_owned).to_vec()];
    if wide {
        rows[0].push("VERSION".to_owned());
    }
    for (kind, object) in found {
        let text = |field: &str| {
            let text = object["metadata"][field].as_str().unwrap_or_default();
            if text.is_empty() { "-".to_owned() } else { text.to_owned() }
        };
        let born = text("creationTimestamp").parse::<jiff::Timestamp>().ok();
        let age = born.map_or("-".to_owned(), |at| duration(now - at.as_millisecond()));
        let mut row =
            vec![text("namespace"), kind.clone(), text("name"), summary(kind, object), age];
        if wide {
            row.push(text("resourceVersion"));
        }
        rows.push(
            row.iter().map(|c| api::printable::printable(c, usize::MAX).to_string()).collect(),
        );
    }
    let laid = lay_out(&rows, &widths(&rows), Room::of(cx.printer.manner()));
    for line in laid.lines {
        cx.printer.data(line)?;
    }
    if laid.shown < rows[0].len() {
        cx.printer.say(unseen(&rows[0][laid.shown..]));
    }
    Ok(())
}

fn summary(kind: &str, object: &Value) -> String {
    let text = match kind {
        "pod" => serde_json::from_value(object.clone())
            .map(|pod| api::status::objects::pod(pod).status)
            .unwrap_or_default(),
        "node" => match serde_json::from_value(object.clone()).map(api::status::objects::node) {
            Ok(row) if row.ready == "True" => "Ready".to_owned(),
            Ok(_) => "NotReady".to_owned(),
            Err(_) => String::new(),
        },
        "secret" | "configmap" => {
            format!("{} keys", object["data"].as_object().map_or(0, serde_json::Map::len))
        }
        _ => String::new(),
    };
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_status_that_the_edge_reported_last_and_a_secret_no_values() {
        let row = |key: &str, kind: &str, value: Value| edgecore::Stored {
            key: key.into(),
            kind: kind.into(),
            is_pod_status: kind == "status",
            value: value.to_string(),
        };
        let all = objects(vec![
            row(
                "default/pod/web",
                "pod",
                json!({"metadata": {"namespace": "default", "name": "web"}, "spec": {"containers": []}}),
            ),
            row("default/status/web", "status", json!({"status": {"phase": "Running"}})),
            row(
                "default/secret/s",
                "secret",
                json!({"metadata": {"namespace": "default", "name": "s"}, "data": {"a": "aGk="}}),
            ),
            row("x", "store", json!("an id")),
        ]);
        let kinds: Vec<&str> = all.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["pod", "secret"]);
        assert_eq!(summary("pod", &all[0].1), "Running");
        assert!(!all[1].1.to_string().contains("aGk="));
    }
}

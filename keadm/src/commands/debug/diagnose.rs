//! `keadm debug diagnose`: why the node or a pod is not well.

use serde_json::Value;

use super::DatabaseArg;
use super::probe::{ConfigArg, ProbeArgs};
use crate::checks::{self, Check, Verdict};
use crate::commands::{JsonOutput, NamespaceArg};
use crate::context::Context;
use crate::errors::{CommandError, Kind};

/// What is to be explained.
#[derive(clap::Args, Debug)]
pub struct DiagnoseArgs {
    /// Of what: node, pod or install
    #[arg(value_name = "WHAT", value_parser = ["node", "pod", "install"])]
    what: String,
    /// The pod
    #[arg(value_name = "NAME", required_if_eq("what", "pod"))]
    name: Option<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    #[command(flatten)]
    probe: ProbeArgs,
    #[command(flatten)]
    config: ConfigArg,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
    #[command(flatten)]
    database: DatabaseArg,
}

/// Explains.
pub(super) fn diagnose(args: &DiagnoseArgs, cx: &Context) -> Result<(), CommandError> {
    let mut found = match args.what.as_str() {
        "install" => {
            let mut found = checks::machine::all(cx);
            found.extend(cx.block_on(async { Ok(args.probe.around(cx).await) })?);
            found
        }
        _ => cx.block_on(async { Ok(checks::edge::of(cx, &args.config.file(cx)).await) })?,
    };
    if args.what == "pod" {
        let name = args.name.as_deref().unwrap_or_default();
        let objects = super::get::objects(args.database.read(cx)?);
        let pod = objects.iter().find(|(kind, object)| {
            kind == "pod"
                && object["metadata"]["name"] == name
                && object["metadata"]["namespace"] == args.namespace.namespace.as_str()
        });
        let Some((_, pod)) = pod else {
            let text = format!("this edge holds no pod `{}/{name}`", args.namespace.namespace);
            return Err(CommandError::new(Kind::NotFound, text)
                .hint("`keadm debug get pods -A` shows those that it holds")
                .hint("is it bound to this node? `kubectl get pod -o wide` says to which it is"));
        };
        found.extend(explain(pod, &objects));
    }
    match args.output {
        Some(JsonOutput::Json) => {
            cx.printer.json(&found)?;
        }
        None => {
            for check in &found {
                cx.printer.data(format!(
                    "{} {}",
                    cx.printer.data_mark(check.status.mark()),
                    check.message
                ))?;
                if let Some(hint) = check.hint.as_deref().filter(|hint| !hint.is_empty()) {
                    cx.printer
                        .data(format!("  {} {hint}", cx.printer.data_paint("36", "hint:")))?;
                }
            }
        }
    }
    let failed = found.iter().filter(|check| check.status == Verdict::Fail).count();
    match failed {
        0 => Ok(()),
        n => {
            Err(CommandError::new(Kind::Unhealthy, format!("{n} of {} checks failed", found.len())))
        }
    }
}

/// What a stored pod tells of itself. Pure.
fn explain(pod: &Value, objects: &[(String, Value)]) -> Vec<Check> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    let phase = text(&pod["status"]["phase"]);
    found.push(match phase.as_str() {
        "Running" | "Succeeded" => Check::ok("Phase", format!("the pod is {phase}")),
        "" => Check::fail(
            "Phase",
            Kind::Unhealthy,
            "edgecore has not reported anything of the pod yet",
            "is edgecore running? `keadm check edge` tells",
        ),
        _ => Check::warn("Phase", format!("the pod is {phase}"), text(&pod["status"]["message"])),
    });
    let namespace = &pod["metadata"]["namespace"];
    for (kind, name) in needed(pod) {
        let there = objects.iter().any(|(of, object)| {
            of == kind
                && object["metadata"]["name"] == name.as_str()
                && object["metadata"]["namespace"] == *namespace
        });
        found.push(if there {
            Check::ok("Objects", format!("the {kind} `{name}` is here"))
        } else {
            Check::fail(
                "Objects",
                Kind::Unhealthy,
                format!("the {kind} `{name}` that the pod needs is not here"),
                format!("does it exist? `kubectl get {kind} {name} -n {}`", text(namespace)),
            )
        });
    }
    let all = ["initContainerStatuses", "containerStatuses"];
    let statuses =
        all.iter().flat_map(|field| pod["status"][*field].as_array().into_iter().flatten());
    found.extend(statuses.map(container));
    found
}

/// ConfigMaps and Secrets that volumes and environments name.
fn needed(pod: &Value) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut add = |kind, value: &Value, optional: &Value| {
        if let Some(name) = value.as_str()
            && optional != &Value::Bool(true)
            && !all.contains(&(kind, name.to_owned()))
        {
            all.push((kind, name.to_owned()));
        }
    };
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        add("configmap", &volume["configMap"]["name"], &volume["configMap"]["optional"]);
        add("secret", &volume["secret"]["secretName"], &volume["secret"]["optional"]);
    }
    for field in ["initContainers", "containers"] {
        for container in pod["spec"][field].as_array().into_iter().flatten() {
            for from in container["envFrom"].as_array().into_iter().flatten() {
                add("configmap", &from["configMapRef"]["name"], &from["configMapRef"]["optional"]);
                add("secret", &from["secretRef"]["name"], &from["secretRef"]["optional"]);
            }
            for env in container["env"].as_array().into_iter().flatten() {
                let from = &env["valueFrom"];
                add(
                    "configmap",
                    &from["configMapKeyRef"]["name"],
                    &from["configMapKeyRef"]["optional"],
                );
                add("secret", &from["secretKeyRef"]["name"], &from["secretKeyRef"]["optional"]);
            }
        }
    }
    all
}

fn container(status: &Value) -> Check {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&status["name"]);
    let restarts = status["restartCount"].as_u64().unwrap_or(0);
    let state = &status["state"];
    if let Some(waiting) = state.get("waiting") {
        let reason = text(&waiting["reason"]);
        let told = text(&waiting["message"]);
        let message = format!("container `{name}` waits: {reason} {told}");
        let hint = match reason.as_str() {
            "ImagePullBackOff" | "ErrImagePull" => {
                "can this machine reach the registry, and is the image's name right?"
            }
            "CrashLoopBackOff" => "its log says why it ended: `kubectl logs --previous`",
            "CreateContainerConfigError" => "a ConfigMap, Secret or key that it names is missing",
            _ => "wait a moment, or look at `keadm events --local`",
        };
        return Check::fail("Container", Kind::Unhealthy, message.trim_end(), hint);
    }
    if let Some(ended) = state.get("terminated") {
        let code = ended["exitCode"].as_i64().unwrap_or(0);
        let message = format!("container `{name}` ended with {code}: {}", text(&ended["reason"]));
        return match code {
            0 => Check::ok("Container", message),
            _ => Check::fail(
                "Container",
                Kind::Unhealthy,
                message,
                "its log says why: `kubectl logs`",
            ),
        };
    }
    match restarts {
        0 => Check::ok("Container", format!("container `{name}` runs")),
        n => {
            let last = text(&status["lastState"]["terminated"]["reason"]);
            Check::warn(
                "Container",
                format!("container `{name}` runs, after {n} restarts"),
                format!(
                    "the last one ended with {last}; `kubectl logs --previous` shows its words"
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_pod_waits_for_is_named_with_what_to_do() {
        let pod = json!({
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {"volumes": [{"configMap": {"name": "settings"}}, {"secret": {"secretName": "s", "optional": true}}],
                "containers": [{"name": "a", "envFrom": [{"secretRef": {"name": "keys"}}]}]},
            "status": {"phase": "Pending", "containerStatuses": [
                {"name": "a", "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
        });
        let keys = json!({"metadata": {"namespace": "default", "name": "keys"}});
        let found = explain(&pod, &[("secret".to_owned(), keys)]);
        let lines: Vec<&str> = found.iter().map(|check| check.message.as_str()).collect();
        assert_eq!(
            lines,
            [
                "the pod is Pending",
                "the configmap `settings` that the pod needs is not here",
                "the secret `keys` is here",
                "container `a` waits: ImagePullBackOff",
            ]
        );
        assert!(found[3].hint.as_deref().unwrap().contains("registry"));
    }
}

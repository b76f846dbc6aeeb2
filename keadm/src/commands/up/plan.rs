//! `keadm up --dry-run`: what would be started, and what would be removed before.

use serde_json::json;

use super::{Up, UpArgs, background};
use crate::errors::CommandError;

/// What each step would do. Pure.
fn steps(args: &UpArgs, up: &Up) -> Vec<(&'static str, Vec<String>)> {
    let mut all = Vec::new();
    if args.stop {
        return vec![("stop", vec![format!("stop the `keadm up` that runs on `{}`", up.dir)])];
    }
    if args.reset {
        let kept = |name: &String| name != background::LOCK;
        let mut gone: Vec<String> = up.cx.host.list(&up.dir).into_iter().filter(kept).collect();
        gone.sort();
        let mut would: Vec<String> =
            gone.iter().map(|name| format!("remove `{}`", up.dir.join(name))).collect();
        if up.edge {
            would.push("remove the containers of the last run, if there are any".to_owned());
        }
        all.push(("reset", would));
    }
    let port = up.api_port;
    all.push((
        "preflight",
        vec![format!("check memory, disk, clock, port {port} and those below")],
    ));
    all.push((
        "control plane",
        vec![
            format!("keep everything below `{}`", up.dir),
            format!("serve the Kubernetes API on port {port}"),
            format!("write `{}`", up.kubeconfig()),
        ],
    ));
    all.push((
        "cloudcore",
        vec!["listen on 10000, 10002, 10003, 10004 and 127.0.0.1:9091".to_owned()],
    ));
    if up.edge {
        let node = &up.node;
        all.push((
            "edgecore",
            vec![format!("join as `{node}`, with the embedded container runtime")],
        ));
        all.push(("node", vec![format!("wait until `{node}` is Ready")]));
        if !args.no_sample {
            all.push(("sample", vec!["run a sample pod".to_owned()]));
            all.push(("device", vec!["run a sample device and its mapper".to_owned()]));
        }
    }
    if args.detach {
        all.push(("detach", vec!["go to the background".to_owned()]));
    }
    all
}

/// Prints it.
pub(super) fn show(args: &UpArgs, up: &Up) -> Result<(), CommandError> {
    let printer = &up.cx.printer;
    let all = steps(args, up);
    if args.output.is_some() {
        let phases: Vec<_> =
            all.iter().map(|(name, would)| json!({ "name": name, "would": would })).collect();
        return Ok(printer.json(&json!({ "dryRun": true, "phases": phases }))?);
    }
    for (name, would) in all {
        printer.data(format!("{name}:"))?;
        for line in would {
            printer.data(format!("  {line}"))?;
        }
    }
    Ok(())
}

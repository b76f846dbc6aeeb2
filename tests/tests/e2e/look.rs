//! Looking at a fleet with commands: through the socket, through the cluster, at the edge alone.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tests::host::Host;
use tests::keadm::command;
use tests::kubectl::Kubectl;
use tests::wait;

use super::{PATIENCE, Up};

/// A command line; nothing of the environment names a cluster.
fn look(host: &Host, line: &str, options: &[&str]) -> Command {
    let mut command = command(host, line.split(' '));
    command.args(options).env_remove("KEADM_ENDPOINT").env("HOME", "/nonexistent");
    command
}

fn text(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn json(output: &Output) -> Value {
    let (code, out, err) = text(output);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"))
}

#[test]
fn the_fleet_is_seen_in_all_forms_from_the_stream_the_cluster_and_the_edge() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let at = |file: &str| up.data.join(file).display().to_string();
    let (cloud, edge) = (at("cloudcore-status.sock"), at("edgecore-status.sock"));
    let run = |line: &str, options: &[&str]| look(&host, line, options).output().unwrap();

    let stream = ["--endpoint", cloud.as_str()];
    let node = json(&run("get node edge-1 -o json", &stream));
    assert_eq!(node["kind"], "Node");
    assert_eq!(node["status"]["ready"], "True");
    assert_eq!(node["status"]["link"]["protocol"], "websocket");
    let (code, out, err) = text(&run("get pods -A", &stream));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("NAMESPACE") && out.contains("Running"), "{out}");
    let (_, out, _) = text(&run("get nodes -o jsonpath={.items[*].metadata.name}", &stream));
    assert_eq!(out, "edge-1\n");
    let (code, _, err) = text(&run("get pod nobody", &stream));
    assert_eq!(code, 4, "{err}");
    let (code, out, err) = text(&run("status --wait --timeout 60s", &stream));
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, _) = text(&run("describe node edge-1", &stream));
    assert!(code == 0 && out.contains("Round trip") && out.contains("LinkUp"), "{out}");

    let (code, _, err) = text(&run("cordon edge-1", &stream));
    assert_eq!(code, 0, "{err}");
    wait::until("the node is cordoned", PATIENCE, || {
        let node = json(&run("get node edge-1 -o json", &stream));
        if node["spec"]["unschedulable"] == true { Ok(()) } else { Err(node.to_string()) }
    });
    let (code, _, err) = text(&run("drain edge-1", &stream));
    assert_eq!(code, 2, "there is nobody to ask: {err}");
    let (code, out, err) = text(&run("drain edge-1 --dry-run", &stream));
    assert!(code == 0 && out.contains("would"), "{out}{err}");
    let (code, _, err) = text(&run("uncordon edge-1", &stream));
    assert_eq!(code, 0, "{err}");

    // From another machine there is only a kubeconfig; its client certificate opens the stream.
    let config = up.kubeconfig();
    let cluster = ["--kube-config", config.to_str().unwrap()];
    let (code, out, err) = text(&run("status", &cluster));
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("the status stream of cloudcore") && out.contains("https://"),
        "{out}{err}"
    );
    let models = json(&run("get devicemodels -A -o json", &cluster));
    assert!(models["items"].is_array());

    let local = ["--endpoint", edge.as_str()];
    let node = json(&run("get node edge-1 -o json", &local));
    assert!(node["status"]["link"].is_object(), "{node}");
    wait::until("what the pod uses is measured", PATIENCE, || {
        let (code, out, err) = text(&run("top pods -A", &local));
        if code == 0 && out.lines().count() > 1 { Ok(()) } else { Err(format!("{out}{err}")) }
    });
    let (_, out, _) = text(&run("events -o jsonl", &local));
    assert!(out.contains("LinkUp"), "{out}");
    up.keadm.interrupt();
}

/// A model with properties of several kinds.
fn model(name: &str, protocol: &str, unit: &str) -> String {
    format!(
        r#"{{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceModel",
"metadata":{{"name":"{name}","labels":{{"app.kubernetes.io/name":"{name}","floor":"2"}}}},
"spec":{{"protocol":"{protocol}","properties":[
{{"name":"temperature","type":"FLOAT","accessMode":"ReadOnly","unit":"{unit}","minimum":"-40","maximum":"80"}},
{{"name":"label","type":"STRING","accessMode":"ReadWrite"}},
{{"name":"count","type":"INT","accessMode":"ReadOnly","description":"what it \"counts\""}}]}}}}"#
    )
}

#[test]
fn templates_columns_and_order_are_what_kubectl_makes_of_the_same_objects() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["--no-sample"]);
    let kubectl = up.kubectl(&host);
    for (name, protocol, unit) in [("b", "modbus", "K"), ("c", "ble", "C"), ("a", "opcua", "F")] {
        kubectl.apply(&model(name, protocol, unit));
    }
    let config = up.kubeconfig();
    let same = |line: &[&str]| {
        let theirs = kubectl.run(&[&["get", "devicemodels"], line].concat());
        let mut ours = command(&host, ["get", "devicemodels"]);
        ours.args(line).arg("--kube-config").arg(&config);
        let (code, out, err) = text(&ours.output().unwrap());
        assert_eq!((code, err.as_str()), (0, ""), "{line:?}");
        // A line of its own in any case.
        let theirs = theirs.strip_suffix('\n').unwrap_or(&theirs);
        assert_eq!(out.strip_suffix('\n').unwrap_or(&out), theirs, "{line:?}");
    };
    for template in [
        "{.items[*].metadata.name}",
        "{.kind}",
        "{.items[0].spec}",
        "{.items[0].spec.properties[*].name}",
        "{.items[0].spec.properties[0:2].name}",
        "{.items[0].spec.properties[-1:].name}",
        "{.items[0].spec.properties[-1].name}",
        "{.items[0].spec.properties[0,2].name}",
        "{.items[0].spec.properties[::2].name}",
        "{.items[*].spec.properties[?(@.type==\"FLOAT\")].unit}",
        "{.items[?(@.metadata.name!='b')].metadata.name}",
        "{.items[?(@.spec.protocol==\"ble\")].metadata.name}",
        "{.items[*].spec.properties[?(@.description)].name}",
        "{.items[0].metadata['name', 'namespace']}",
        "{.items[0].metadata.labels.app\\.kubernetes\\.io/name}",
        "{.items[0].metadata.labels['floor']}",
        "{.items[0].metadata.labels}",
        "{.items[*].metadata.generation}",
        "{.items[0].nothing.at.all}",
        "names: {.items[*].metadata.name}!",
        "{range .items[*]}{.metadata.name}{\"\\t\"}{.spec.protocol}{\"\\n\"}{end}",
        "{range .items[*]}{.metadata.name}{range .spec.properties[*]} {.name}={.type}{end};{end}",
        "{.items[2].spec.properties[2].description}",
        "{$.items[1].metadata.name}",
        "{..unit}",
    ] {
        same(&["-o", &format!("jsonpath={template}")]);
    }
    same(&["b", "-o", "jsonpath={.metadata.name} {.spec.properties[*].accessMode}"]);
    for columns in [
        "NAME:.metadata.name,PROTOCOL:.spec.protocol",
        "NAME:.metadata.name,PROPERTIES:.spec.properties[*].name,NONE:.no.such",
        "LABELS:.metadata.labels,FIRST:.spec.properties[0]",
        "NAME:metadata.name,UNIT:.spec.properties[?(@.type==\"FLOAT\")].unit",
        "GENERATION:{.metadata.generation},FLOOR:.metadata.labels.floor",
    ] {
        same(&["-o", &format!("custom-columns={columns}")]);
    }
    for path in [
        ".metadata.name",
        ".spec.protocol",
        "{.spec.properties[0].unit}",
        ".metadata.creationTimestamp",
    ] {
        same(&["--sort-by", path, "-o", "custom-columns=NAME:.metadata.name", "--no-headers"]);
    }
    same(&[
        "-l",
        "floor=2,app.kubernetes.io/name in (a,b)",
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ]);
    same(&["-l", "app.kubernetes.io/name notin (a)", "-o", "jsonpath={.items[*].metadata.name}"]);
    up.keadm.interrupt();
}

/// Makes the API server serve what a metrics server would say of `edge-1`.
#[track_caller]
pub(super) fn measure(kubectl: &Kubectl<'_>) {
    let definition = |plural: &str, kind: &str, scope: &str| {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.metrics.k8s.io"), "annotations":
                {"api-approved.kubernetes.io": "unapproved, for a test"}},
            "spec": {"group": "metrics.k8s.io", "scope": scope,
                "names": {"plural": plural, "kind": kind, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1beta1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema}}]},
        })
    };
    for (plural, kind, scope) in
        [("nodes", "NodeMetrics", "Cluster"), ("pods", "PodMetrics", "Namespaced")]
    {
        kubectl.apply(&definition(plural, kind, scope).to_string());
        let name = format!("crd/{plural}.metrics.k8s.io");
        kubectl.run(&["wait", "--for=condition=Established", &name, "--timeout=60s"]);
    }
    let node = json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "NodeMetrics",
        "metadata": {"name": "edge-1"}, "usage": {"cpu": "250123456n", "memory": "64Mi"}});
    kubectl.apply(&node.to_string());
}

#[test]
fn without_a_stream_what_is_used_comes_from_the_metrics_api_or_is_said_to_be_missing() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["--no-sample"]);
    let kubectl = up.kubectl(&host);
    kubectl.run(&["delete", "configmap", "status-stream", "--namespace=kubeedge"]);
    let config = up.kubeconfig();
    let cluster = ["--kube-config", config.to_str().unwrap()];
    let top = || text(&look(&host, "top nodes", &cluster).output().unwrap());
    let (code, out, err) = top();
    assert_eq!((code, out.as_str()), (9, ""), "{err}");
    assert!(err.contains("serves no metrics (metrics.k8s.io)"), "{err}");
    measure(&kubectl);
    let (code, out, err) = top();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("edge-1   250m (") && out.contains("64Mi ("), "{out}");
    up.keadm.interrupt();
}

#[test]
fn where_nobody_answers_it_says_where_was_looked_and_what_to_do() {
    let host = Host::new();
    for line in ["get nodes", "status", "events", "get nodes --local", "top nodes"] {
        let root = Path::new("/nonexistent-root");
        let output = look(&host, line, &["--root", root.to_str().unwrap()]).output().unwrap();
        let (code, out, err) = text(&output);
        assert_eq!((code, out.as_str()), (6, ""), "{line}: {err}");
        assert!(err.contains("hint:"), "{line}: {err}");
    }
}

//! What users do, told once for both directions.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tests::containerd::BUSYBOX;
use tests::keadm::{Running, command};
use tests::kubectl::Kubectl;
use tests::wait;

use super::{PATIENCE, Site};
use crate::e2e::devices::{publish_until, reported};
use crate::e2e::streams;

/// A pod that says hello and then a number every second, with a configmap as a volume.
fn talker(name: &str) -> Value {
    let script =
        "echo hello from the pod; n=0; while true; do n=$((n+1)); echo line $n; sleep 1; done";
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": BUSYBOX, "command": ["sh", "-c", script],
                "volumeMounts": [{"name": "greeting", "mountPath": "/greeting"}],
            }],
            "volumes": [{"name": "greeting", "configMap": {"name": "greeting"}}],
        },
    })
}

/// A talker that needs no scheduler.
fn apply_on_node(kubectl: &Kubectl<'_>, name: &str) {
    let mut pod = talker(name);
    pod["spec"]["nodeName"] = "edge-2".into();
    kubectl.apply(&pod.to_string());
}

fn greet(kubectl: &Kubectl<'_>, text: &str) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "greeting"},
        "data": {"text": text}});
    kubectl.apply(&object.to_string());
}

/// The first container of a pod: its id, and how often it was started anew.
#[track_caller]
fn container(kubectl: &Kubectl<'_>, pod: &str) -> (String, i64) {
    let object = kubectl.get(&["pod", pod]).unwrap();
    let status = object.pointer("/status/containerStatuses/0").unwrap();
    let id = status["containerID"].as_str().unwrap();
    (id.to_owned(), status["restartCount"].as_i64().unwrap())
}

#[track_caller]
fn uid(kubectl: &Kubectl<'_>, pod: &str) -> String {
    kubectl.get(&["pod", pod]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The root folder of a container, as its own processes see it.
#[track_caller]
fn root_of(id: &str) -> PathBuf {
    let id = id.trim_start_matches("containerd://");
    wait::until("a process of the container", PATIENCE, || {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if groups.contains(id) {
                return Ok(entry.path().join("root"));
            }
        }
        Err(format!("nothing runs in `{id}`"))
    })
    .0
}

/// Waits until a running container sees a text in its volume; it must see one of `before` until then.
#[track_caller]
fn until_it_reads(root: &std::path::Path, text: &str, before: &[&str]) {
    wait::until("the new text inside the container", PATIENCE, || {
        match std::fs::read_to_string(root.join("greeting/text")) {
            Ok(now) if now == text => Ok(()),
            Ok(now) if before.contains(&now.as_str()) => Err(now),
            other => panic!("in the volume is {other:?}"),
        }
    });
}

#[track_caller]
fn until_runs(kubectl: &Kubectl<'_>, pod: &str) {
    kubectl.until(&["pod", pod], "/status/phase", "Running", PATIENCE);
}

#[track_caller]
fn until_nothing_is_left(site: &Site, uid: &str) {
    wait::until("the pod's remains to go", PATIENCE, || {
        let left = site.pair.edge.left_behind(uid);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

/// A pod runs with what it was given, sees a changed configmap, says how it is, and ends.
pub(crate) fn a_pod_lives(site: &Site) {
    site.ready();
    let kubectl = site.kubectl();
    let node = kubectl.get(&["node", "edge-2"]).unwrap();
    let labels = node.pointer("/metadata/labels").unwrap();
    assert_eq!(labels["node-role.kubernetes.io/edge"], "", "{node:#}");
    let version = node.pointer("/status/nodeInfo/kubeletVersion").unwrap().as_str().unwrap();
    assert!(version.contains("-kubeedge-v"), "{version}");
    site.renewed();

    greet(&kubectl, "hello");
    kubectl.run(&["create", "secret", "generic", "login", "--from-literal=password=staple"]);
    let mut web = talker("web");
    let mut failing = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"},
        "spec": {"restartPolicy": "Never", "containers": [
            {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", "exit 3"]}]}});
    if !site.has_controllers() {
        web["spec"]["nodeName"] = "edge-2".into();
        failing["spec"]["nodeName"] = "edge-2".into();
    }
    web["spec"]["containers"][0]["env"] = json!([{"name": "PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]);
    kubectl.apply(&web.to_string());
    until_runs(&kubectl, "web");
    kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let pod = kubectl.get(&["pod", "web"]).unwrap();
    assert_eq!(pod.pointer("/spec/nodeName").unwrap(), "edge-2");
    assert!(pod.pointer("/status/podIP").is_some_and(|ip| ip.is_string()), "{pod:#}");
    let before = container(&kubectl, "web");
    let root = root_of(&before.0);
    let environment = std::fs::read(root.join("proc/1/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("PASSWORD=staple"));
    let token = root.join("var/run/secrets/kubernetes.io/serviceaccount/token");
    let token = std::fs::read_to_string(&token).unwrap();
    assert_eq!(token.split('.').count(), 3, "the pod has no token of its account");

    until_it_reads(&root, "hello", &[]);
    greet(&kubectl, "goodbye");
    until_it_reads(&root, "goodbye", &["hello"]);
    assert_eq!(container(&kubectl, "web"), before);

    kubectl.apply(&failing.to_string());
    kubectl.until(&["pod", "once"], "/status/phase", "Failed", PATIENCE);
    let code = "/status/containerStatuses/0/state/terminated/exitCode";
    kubectl.until(&["pod", "once"], code, "3", PATIENCE);

    let uid = uid(&kubectl, "web");
    kubectl.run(&["delete", "pod", "web", "once", "--timeout=120s"]);
    kubectl.until_gone(&["pod", "web"], PATIENCE);
    until_nothing_is_left(site, &uid);
}

/// `kubectl logs` and `exec`; what ends does not end what goes on.
pub(crate) fn logs_and_exec(site: &Site) {
    site.ready();
    let kubectl = site.kubectl();
    greet(&kubectl, "hello");
    apply_on_node(&kubectl, "web");
    until_runs(&kubectl, "web");
    wait::until("a line of the log", PATIENCE, || {
        let out = kubectl.output(&["logs", "web"], "");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        match out.status.success() && said.starts_with("hello from the pod\n") {
            true => Ok(()),
            false => Err(format!("{said}{}", String::from_utf8_lossy(&out.stderr))),
        }
    });
    assert_eq!(kubectl.run(&["logs", "web", "--tail=1"]).lines().count(), 1);

    // Whoever follows a log hears on while commands come and go beside it.
    let mut follow = site.pair.cloud.command("kubectl");
    follow.args(["logs", "-f", "web"]).env("KUBECONFIG", &site.kubeconfig).stdin(Stdio::null());
    let mut follow = Running::start(follow, &site.folder.path().join("follow.log"));
    follow.until_said("line", PATIENCE);
    for n in 0..3 {
        let said =
            kubectl.run(&["exec", "web", "--", "sh", "-c", "cat /greeting/text; echo; id -u"]);
        assert_eq!(said, "hello\n0\n", "the command of round {n}");
        let out = kubectl.output(&["exec", "web", "--", "sh", "-c", "echo no >&2; exit 7"], "");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(7), "{said}");
        assert!(said.starts_with("no\n"), "{said}");
        let echo = ["exec", "-i", "web", "--", "sh", "-c", "read line; echo $line"];
        assert_eq!(kubectl.run_with(&echo, "in and out\n"), "in and out\n");
        if site.ends_input() {
            let until_the_end = ["exec", "-i", "web", "--", "cat"];
            assert_eq!(kubectl.run_with(&until_the_end, "to the end"), "to the end");
        }
        let heard = follow.said().lines().count();
        wait::until("the log to go on after the commands", PATIENCE, || {
            let now = follow.said();
            if now.lines().count() > heard + 1 { Ok(()) } else { Err(now) }
        });
    }
    assert!(!follow.said().contains("error"), "{}", follow.said());
}

/// `kubectl port-forward`: several at once, much at once, and a port on which nobody listens.
pub(crate) fn ports(site: &Site) {
    let kubectl = site.kubectl();
    let echo = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo"},
        "spec": {"nodeName": "edge-2", "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main", "image": BUSYBOX,
            "command": ["nc", "-ll", "-p", streams::ECHO.to_string(), "-e", "cat"],
        }]},
    });
    kubectl.apply(&echo.to_string());
    until_runs(&kubectl, "echo");
    streams::forwards(&site.pair, &kubectl, "pod/echo");
}

/// What happens in the cloud while the line is cut happens at the edge once it is mended.
pub(crate) fn a_cut(site: &Site) {
    site.ready();
    let kubectl = site.kubectl();
    greet(&kubectl, "hello");
    for name in ["web", "stays", "forced"] {
        apply_on_node(&kubectl, name);
    }
    for name in ["web", "stays", "forced"] {
        until_runs(&kubectl, name);
    }
    let (web, forced) = (uid(&kubectl, "web"), uid(&kubectl, "forced"));
    let before = container(&kubectl, "stays");
    let root = root_of(&before.0);
    until_it_reads(&root, "hello", &[]);

    site.pair.cut();
    kubectl.run(&["delete", "pod", "web", "--wait=false"]);
    kubectl.run(&["delete", "pod", "forced", "--force", "--grace-period=0"]);
    apply_on_node(&kubectl, "late");
    greet(&kubectl, "goodbye");
    // The cloud notices, and so the session is a new one.
    let away = "Unknown";
    wait::until("the cloud to notice", PATIENCE, || {
        let node = kubectl.get(&["node", "edge-2"])?;
        let all = node.pointer("/status/conditions").and_then(Value::as_array).cloned();
        let ready = all.into_iter().flatten().find(|c| c["type"] == "Ready");
        if ready.is_some_and(|c| c["status"] == away) { Ok(()) } else { Err(format!("{node:#}")) }
    });
    assert_eq!(std::fs::read_to_string(root.join("greeting/text")).unwrap(), "hello");
    site.pair.mend();

    site.ready();
    until_runs(&kubectl, "late");
    kubectl.until_gone(&["pod", "web"], PATIENCE);
    until_nothing_is_left(site, &web);
    until_nothing_is_left(site, &forced);
    until_it_reads(&root, "goodbye", &["hello"]);
    assert_eq!(container(&kubectl, "stays"), before);
}

/// cloudcore dies and comes back: the edge finds it again, nothing restarts, and what changed
/// meanwhile arrives.
pub(crate) fn cloudcore_dies(site: &mut Site) {
    site.ready();
    {
        let kubectl = site.kubectl();
        greet(&kubectl, "hello");
        apply_on_node(&kubectl, "web");
        until_runs(&kubectl, "web");
    }
    let before = container(&site.kubectl(), "web");
    let root = root_of(&before.0);
    until_it_reads(&root, "hello", &[]);
    site.kill_cloudcore();
    greet(&site.kubectl(), "goodbye");
    apply_on_node(&site.kubectl(), "late");
    site.start_cloudcore();
    let kubectl = site.kubectl();
    until_runs(&kubectl, "late");
    site.renewed();
    site.ready();
    until_it_reads(&root, "goodbye", &["hello"]);
    assert_eq!(container(&kubectl, "web"), before);
    kubectl.run(&["delete", "pod", "web", "--timeout=120s"]);
}

/// edgecore dies and comes back: its containers run on, their volumes keep what is in them if it is
/// ours, and what is new afterwards arrives.
pub(crate) fn edgecore_dies(site: &mut Site) {
    site.ready();
    {
        let kubectl = site.kubectl();
        greet(&kubectl, "hello");
        apply_on_node(&kubectl, "web");
        until_runs(&kubectl, "web");
    }
    let before = container(&site.kubectl(), "web");
    let root = root_of(&before.0);
    until_it_reads(&root, "hello", &[]);
    site.kill_edgecore();
    site.renewed();
    let kubectl = site.kubectl();
    apply_on_node(&kubectl, "late");
    until_runs(&kubectl, "late");
    let late = root_of(&container(&kubectl, "late").0);
    until_it_reads(&late, "hello", &[]);
    if site.keeps_volumes() {
        until_it_reads(&root, "hello", &[]);
    }
    greet(&kubectl, "goodbye");
    if site.keeps_volumes() {
        until_it_reads(&root, "goodbye", &["hello"]);
    }
    until_it_reads(&late, "goodbye", &["hello"]);
    let pod = kubectl.get(&["pod", "web"]).unwrap();
    assert_eq!(container(&kubectl, "web"), before, "{:#}", pod["status"]);
    kubectl.run(&["delete", "pod", "web", "--timeout=120s"]);
}

/// A device that a mapper plays does as the cloud desires, and one of MQTT is heard in the cloud.
pub(crate) fn a_device(site: &Site) {
    site.ready();
    let kubectl = site.kubectl();
    let mapper = command(&site.pair.edge, ["mapper", "--simulate"]);
    wait::until("edgecore's socket for mappers", PATIENCE, || {
        let socket = site.pair.edge.path("/etc/kubeedge/dmi.sock");
        if socket.exists() { Ok(()) } else { Err("it is not there".to_owned()) }
    });
    let _mapper = Running::start(mapper, &site.folder.path().join("mapper.log"));
    let [model, device] = crate::e2e::devices::lamp("edge-2");
    kubectl.apply(&model.to_string());
    kubectl.apply(&device.to_string());
    let level = |want: &str| {
        wait::until("the level to be reported", PATIENCE, || {
            match reported(&kubectl, "hall", "level") {
                Some(now) if now == want => Ok(()),
                now => Err(format!("{now:?}")),
            }
        });
    };
    level("1");
    let patch = r#"[{"op":"replace","path":"/spec/properties/0/desired/value","value":"42"}]"#;
    kubectl.run(&["patch", "device", "hall", "--type=json", "-p", patch]);
    level("42");

    let bulb = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
        "metadata": {"name": "bulb"}, "spec": {"nodeName": "edge-2",
            "deviceModelRef": {"name": "lamp"}, "protocol": {"protocolName": "mqtt"},
            "properties": [{"name": "level", "desired": {"value": "1"}}]}});
    kubectl.apply(&bulb.to_string());
    let topic = "$hw/events/device/default/bulb/twin/update";
    let said = json!({"event_id": "1", "timestamp": 0,
        "twin": {"level": {"actual": {"value": "7"}, "metadata": {"type": "string"}}}});
    publish_until(&site.pair.edge, "1884", topic, &said.to_string(), || {
        reported(&kubectl, "bulb", "level").as_deref() == Some("7")
    });
    kubectl.run(&["delete", "device", "hall", "bulb"]);
    if site.has_controllers() {
        kubectl.until_gone(&["devicestatus", "hall"], PATIENCE);
    }
}

//! A pod applied in the cloud runs at the edge, and its status comes back.

use std::time::Duration;

use tests::host::Host;
use tests::kubectl::Kubectl;
use tests::wait;

use super::{PATIENCE, Up, busybox, pod, sample_image};

/// A `keadm up` of its own; what is made last goes first.
struct Edge {
    up: Up,
    _folder: tempfile::TempDir,
    host: Host,
}

impl Edge {
    #[track_caller]
    fn start() -> Self {
        let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
        let up = Up::start(&host, folder.path(), &[]);
        Self { up, _folder: folder, host }
    }

    /// kubectl, and the image that every pod here can have.
    #[track_caller]
    fn hands(&self) -> (Kubectl<'_>, String) {
        let kubectl = self.up.kubectl(&self.host);
        let image = sample_image(&kubectl);
        (kubectl, image)
    }
}

#[test]
fn a_pod_is_created_watched_changed_and_deleted_through_kubectl() {
    let edge = Edge::start();
    let (kubectl, image) = edge.hands();

    kubectl.apply(&pod("web", &image, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "--timeout=30s"]);
    let described = kubectl.run(&["describe", "pod", "web"]);
    assert!(described.contains("edge-1"), "{described}");
    let object = kubectl.get(&["pod", "web"]).unwrap();
    let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(!edge.host.left_behind(&uid).is_empty(), "no cgroup names the pod");

    kubectl.run(&["label", "pod", "web", "colour=blue"]);
    kubectl.until(&["pod", "web"], "/metadata/labels/colour", "blue", PATIENCE);
    kubectl.run(&["delete", "pod", "web", "--timeout=40s"]);
    kubectl.until_gone(&["pod", "web"], PATIENCE);
    wait::until("the pod's remains to go", PATIENCE, || {
        let left = edge.host.left_behind(&uid);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

#[test]
fn a_configmap_change_is_seen_inside_a_running_container() {
    let edge = Edge::start();
    let (kubectl, image) = edge.hands();
    kubectl.run(&["create", "configmap", "greeting", "--from-literal=text=hello"]);
    // The sample workload has no shell: the volume is looked at through the container's own root.
    let manifest = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"reader"}},
"spec":{{"terminationGracePeriodSeconds":1,
"containers":[{{"name":"main","image":"{image}","volumeMounts":[{{"name":"c","mountPath":"/greeting"}}]}}],
"volumes":[{{"name":"c","configMap":{{"name":"greeting"}}}}]}}}}"#
    );
    kubectl.apply(&manifest);
    kubectl.until(&["pod", "reader"], "/status/phase", "Running", PATIENCE);
    let object = kubectl.get(&["pod", "reader"]).unwrap();
    let uid = object["metadata"]["uid"].as_str().unwrap();
    let root = container_root(uid);
    let text = || std::fs::read_to_string(root.join("greeting/text"));
    assert_eq!(text().unwrap(), "hello");
    kubectl.run_with(
        &["apply", "-f", "-"],
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"greeting"},"data":{"text":"goodbye"}}"#,
    );
    wait::until("the new text inside the container", PATIENCE, || match text() {
        Ok(t) if t == "goodbye" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let restarts = kubectl.get(&["pod", "reader"]).unwrap();
    assert_eq!(restarts.pointer("/status/containerStatuses/0/restartCount").unwrap(), 0);
}

/// The root folder, as its own processes see it, of a container of the pod with this UID.
#[track_caller]
fn container_root(uid: &str) -> std::path::PathBuf {
    wait::until("a process of the pod", PATIENCE, || {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let root = entry.path().join("root");
            if groups.contains(uid) && root.join("greeting/text").exists() {
                return Ok(root);
            }
        }
        Err("none of its processes has the volume".to_owned())
    })
    .0
}

#[test]
fn a_container_that_ends_is_restarted_as_its_policy_says_and_the_cloud_hears_of_it() {
    let edge = Edge::start();
    let (kubectl, image) = edge.hands();
    // An argument that the sample workload does not know ends it with a failure at once.
    kubectl.apply(&pod("crash", &image, r#","command":["/bin/keadm","no-such-command"]"#));
    wait::until("a restart of the container", Duration::from_secs(90), || {
        let object = kubectl.get(&["pod", "crash"])?;
        let restarts = object.pointer("/status/containerStatuses/0/restartCount").cloned();
        if restarts.and_then(|r| r.as_i64()) >= Some(1) { Ok(()) } else { Err(object.to_string()) }
    });
    let once = pod("once", &image, r#","command":["/bin/keadm","no-such-command"]"#)
        .replace(r#""spec":{"#, r#""spec":{"restartPolicy":"Never","#);
    kubectl.apply(&once);
    kubectl.until(&["pod", "once"], "/status/phase", "Failed", PATIENCE);
}

/// A pod of its own network that serves HTTP on port 8080, with a part of its container's spec.
fn server(name: &str, image: &str, more: &str) -> String {
    let busybox = busybox();
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},
"spec":{{"terminationGracePeriodSeconds":1,"containers":[{{"name":"main","image":"{image}",
"command":["/busybox","httpd","-f","-p","8080","-h","/etc"],{more},
"volumeMounts":[{{"name":"b","mountPath":"/busybox","readOnly":true}}]}}],
"volumes":[{{"name":"b","hostPath":{{"path":"{busybox}","type":"File"}}}}]}}}}"#
    )
}

// https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes
#[test]
fn probes_reach_a_pod_that_has_a_network_of_its_own() {
    let edge = Edge::start();
    let (kubectl, image) = edge.hands();
    let probe = |port: u16| {
        format!(
            r#"{{"httpGet":{{"path":"/hosts","port":{port}}},"periodSeconds":1,"failureThreshold":1}}"#
        )
    };
    let (open, closed) = (probe(8080), probe(8081));
    let connects = r#"{"tcpSocket":{"port":8080},"periodSeconds":1}"#;
    let well = format!(
        r#""startupProbe":{{"tcpSocket":{{"port":8080}}}},"livenessProbe":{open},"readinessProbe":{connects}"#
    );
    kubectl.apply(&server("well", &image, &well));
    kubectl.apply(&server("ill", &image, &format!(r#""livenessProbe":{closed}"#)));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/well", "--timeout=30s"]);
    let restarts = "/status/containerStatuses/0/restartCount";
    wait::until("the pod whose port is closed to be restarted", PATIENCE, || {
        let object = kubectl.get(&["pod", "ill"])?;
        match object.pointer(restarts).and_then(serde_json::Value::as_i64) {
            Some(n) if n > 0 => Ok(()),
            n => Err(format!("{n:?}")),
        }
    });
    let object = kubectl.get(&["pod", "well"]).unwrap();
    assert_eq!(object.pointer(restarts).unwrap(), 0, "{object}");
}

// https://kubernetes.io/docs/tasks/debug/debug-application/debug-running-pod/#ephemeral-container
#[test]
fn kubectl_debug_looks_into_a_running_pod_and_leaves_it_as_it_is() {
    let edge = Edge::start();
    let (kubectl, image) = edge.hands();
    kubectl.apply(&pod("web", &image, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);

    let (of_image, target) = (format!("--image={image}"), "--target=main");
    kubectl.run(&["debug", "web", &of_image, target, "-c", "look"]);
    let status = "/status/ephemeralContainerStatuses/0";
    wait::until("the container that looks into the pod", PATIENCE, || {
        let object = kubectl.get(&["pod", "web"])?;
        let running = object.pointer(&format!("{status}/state/running")).is_some();
        if running { Ok(()) } else { Err(object["status"].to_string()) }
    });
    let said = kubectl.run(&["exec", "web", "-c", "look", "--", "/bin/keadm", "version"]);
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    // Both containers see the same processes.
    let object = kubectl.get(&["pod", "web"]).unwrap();
    let uid = object["metadata"]["uid"].as_str().unwrap();
    let id = |pointer: &str| {
        let id = object.pointer(&format!("{pointer}/containerID")).unwrap().as_str().unwrap();
        id.rsplit('/').next().unwrap().to_owned()
    };
    let (main, look) = (id("/status/containerStatuses/0"), id(status));
    assert_eq!(processes(uid, &main), processes(uid, &look));
    // One that ends is not started again, and the pod goes on.
    let once = ["debug", "web", &of_image, "-c", "once", "--", "/bin/keadm", "version"];
    kubectl.run(&once);
    let ended = "/status/ephemeralContainerStatuses/1/state/terminated/reason";
    kubectl.until(&["pod", "web"], ended, "Completed", PATIENCE);
    let log = kubectl.run(&["logs", "web", "-c", "once"]);
    assert!(log.contains(env!("CARGO_PKG_VERSION")), "{log}");
    let object = kubectl.get(&["pod", "web"]).unwrap();
    assert_eq!(object.pointer("/status/containerStatuses/0/restartCount").unwrap(), 0);
    assert_eq!(object.pointer("/status/phase").unwrap(), "Running");
    kubectl.run(&["delete", "pod", "web", "--timeout=40s"]);
}

/// The namespace of the processes of a container.
#[track_caller]
fn processes(pod: &str, container: &str) -> std::path::PathBuf {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if groups.contains(pod)
            && groups.contains(container)
            && let Ok(found) = std::fs::read_link(entry.path().join("ns/pid"))
        {
            return found;
        }
    }
    panic!("container {container} has no process");
}

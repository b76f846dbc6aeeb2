//! The first two minutes: `keadm up`.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::host::Host;

use super::{PATIENCE, Up};

#[test]
fn a_new_user_sees_a_ready_node_and_a_running_pod_and_ctrl_c_leaves_nothing_behind() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);

    let nodes = kubectl.run(&["get", "nodes"]);
    assert!(nodes.contains("edge-1") && nodes.contains("Ready"), "{nodes}");
    assert!(!nodes.contains("NotReady"), "{nodes}");
    let pods = kubectl.get(&["pods"]).unwrap();
    let uid = pods.pointer("/items/0/metadata/uid").unwrap().as_str().unwrap().to_owned();
    assert_eq!(pods.pointer("/items/0/status/phase").unwrap(), "Running");
    let container =
        pods.pointer("/items/0/status/containerStatuses/0/containerID").unwrap().as_str().unwrap();
    assert!(!container.is_empty());
    let mark = up.data.to_str().unwrap().to_owned();
    assert!(!host.left_behind(&mark).is_empty(), "the pod is no real container");

    let Up { keadm, .. } = up;
    let log = folder.path().join("up.log");
    assert_eq!(keadm.interrupt().code(), Some(0));
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.contains("state kept in"), "{said}");
    assert_eq!(host.left_behind(&mark), [] as [String; 0]);
    assert_eq!(host.left_behind(&uid), [] as [String; 0]);
}

#[test]
fn a_terminal_that_vanishes_stops_everything_as_ctrl_c_does() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let mark = up.data.to_str().unwrap().to_owned();
    assert!(!host.left_behind(&mark).is_empty(), "the pod is no real container");
    up.keadm.signal(Signal::SIGHUP);
    // A shell tells its jobs again.
    up.keadm.signal(Signal::SIGHUP);
    let Up { mut keadm, .. } = up;
    assert_eq!(keadm.until_ended(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(host.left_behind(&mark), [] as [String; 0]);
}

#[test]
fn starting_again_picks_up_where_it_left_off() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["--no-sample"]);
    let kubectl = up.kubectl(&host);
    assert_eq!(kubectl.get(&["pods"]).unwrap().pointer("/items").unwrap(), &serde_json::json!([]));
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"]);
    up.keadm.interrupt();

    let up = Up::again(&host, folder.path(), &["--no-sample"]);
    let kubectl = up.kubectl(&host);
    let nodes = kubectl.get(&["nodes"]).unwrap();
    assert_eq!(nodes.pointer("/items").unwrap().as_array().unwrap().len(), 1, "it keeps its name");
    kubectl.until(&["configmap", "kept"], "/data/a", "b", PATIENCE);
    kubectl.run(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=30s"]);
    up.keadm.interrupt();

    let up = Up::start(&host, folder.path(), &["--no-sample", "--reset"]);
    let kubectl = up.kubectl(&host);
    kubectl.until_gone(&["configmap", "kept"], PATIENCE);
}

#[test]
fn after_kill_9_everything_is_recovered_and_no_container_restarts() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &[]);
    let started = |kubectl: &tests::kubectl::Kubectl<'_>| {
        let pods = kubectl.get(&["pods"]).unwrap();
        let status = pods.pointer("/items/0/status/containerStatuses/0").unwrap().clone();
        (status["containerID"].clone(), status["restartCount"].clone(), status["state"].clone())
    };
    let before = started(&up.kubectl(&host));
    up.keadm.kill();
    let up = Up::start(&host, folder.path(), &[]);
    let kubectl = up.kubectl(&host);
    kubectl.run(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=30s"]);
    // A write that the node answers shows that it is at work again, not merely remembered.
    kubectl.run(&["annotate", "node", "edge-1", "seen=yes"]);
    assert_eq!(started(&kubectl), before);
}

#[test]
fn the_cloud_side_alone_needs_no_container_runtime() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let up = Up::start(&host, folder.path(), &["--cloud-only"]);
    let kubectl = up.kubectl(&host);
    let nodes = kubectl.get(&["nodes"]).unwrap();
    assert_eq!(nodes.pointer("/items").unwrap(), &serde_json::json!([]));
    up.keadm.signal(Signal::SIGTERM);
    let Up { mut keadm, .. } = up;
    assert!(keadm.until_ended(Duration::from_secs(20)).code().is_some());
}

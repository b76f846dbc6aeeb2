//! The line is bad: what happens while the edge is cut off, and after.

use std::time::Duration;

use tests::host::Pair;
use tests::keadm::service_pid;
use tests::kubectl::Kubectl;
use tests::wait;

use super::join::{cloud, join, kubectl};
use super::{PATIENCE, pod};

/// A joined pair with a pod `web` that runs.
fn running() -> Pair {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    kubectl.apply(&pod("web", &image(), ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    drop(kubectl);
    pair
}

/// The sample image, which every embedded runtime makes from its own binary.
fn image() -> String {
    edgecore::sample::IMAGE.to_owned()
}

fn container(kubectl: &Kubectl<'_>) -> (String, i64) {
    let object = kubectl.get(&["pod", "web"]).unwrap();
    let status = object.pointer("/status/containerStatuses/0").unwrap();
    (status["containerID"].as_str().unwrap().to_owned(), status["restartCount"].as_i64().unwrap())
}

#[test]
fn containers_survive_the_kill_of_edgecore_and_an_edge_that_restarts_while_cut_off_runs_its_pods() {
    let pair = running();
    let kubectl = kubectl(&pair);
    let before = container(&kubectl);
    let pid = service_pid(&pair.edge, "edgecore").unwrap();
    pair.cut();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    wait::until("edgecore to be started again", PATIENCE, || {
        match service_pid(&pair.edge, "edgecore")? {
            now if now == pid => Err("the same pid".to_owned()),
            _ => Ok(()),
        }
    });
    pair.mend();
    kubectl.run(&["wait", "--for=condition=Ready", "node/edge-2", "--timeout=60s"]);
    kubectl.run(&["annotate", "pod", "web", "seen=yes"]);
    assert_eq!(container(&kubectl), before);
}

#[test]
fn a_pod_deleted_while_the_edge_is_cut_off_is_gone_soon_after_it_is_back() {
    let pair = running();
    let kubectl = kubectl(&pair);
    kubectl.apply(&pod("forced", &image(), ""));
    kubectl.until(&["pod", "forced"], "/status/phase", "Running", PATIENCE);
    let uid = |name: &str| {
        let object = kubectl.get(&["pod", name]).unwrap();
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let uids = [uid("web"), uid("forced")];
    pair.cut();
    kubectl.run(&["delete", "pod", "web", "--wait=false"]);
    kubectl.run(&["delete", "pod", "forced", "--force", "--grace-period=0"]);
    kubectl.until_gone(&["pod", "forced"], PATIENCE);
    assert!(!pair.edge.left_behind(&uids[1]).is_empty(), "the edge cannot know yet");
    pair.mend();
    kubectl.until_gone(&["pod", "web"], PATIENCE);
    for uid in uids {
        wait::until("the pod's remains to go", Duration::from_secs(30), || {
            let left = pair.edge.left_behind(&uid);
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }
}

#[test]
fn a_pod_scheduled_while_the_edge_is_away_arrives_when_it_is_back() {
    let pair = running();
    let kubectl = kubectl(&pair);
    pair.cut();
    let manifest =
        pod("late", &image(), "").replace(r#""spec":{"#, r#""spec":{"nodeName":"edge-2","#);
    kubectl.apply(&manifest);
    pair.mend();
    kubectl.until(&["pod", "late"], "/status/phase", "Running", PATIENCE);
}

//! `kubectl logs` and `kubectl exec`, after `init` and `join` with nothing else done.

use tests::host::Pair;
use tests::kubectl::Kubectl;
use tests::wait;

use super::join::{cloud, join, kubectl};
use super::{PATIENCE, pod};

/// A running pod on the other machine.
#[track_caller]
fn running(kubectl: &Kubectl<'_>) {
    kubectl.apply(&pod("web", edgecore::sample::IMAGE, ""));
    kubectl.until(&["pod", "web"], "/status/phase", "Running", PATIENCE);
    // The tunnel may be a moment behind the link.
    let port = "/status/daemonEndpoints/kubeletEndpoint/Port";
    kubectl.until(&["node", "edge-2"], port, "10003", PATIENCE);
}

#[test]
fn logs_and_exec_reach_a_machine_that_nobody_can_dial() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    running(&kubectl);

    wait::until("a line of the log", PATIENCE, || {
        let out = kubectl.output(&["logs", "web"], "");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        match out.status.success() && said.contains("hello from") {
            true => Ok(()),
            false => Err(format!("{said}{}", String::from_utf8_lossy(&out.stderr))),
        }
    });
    let last = kubectl.run(&["logs", "web", "--tail=1", "--timestamps"]);
    assert_eq!(last.lines().count(), 1, "{last}");
    let out = kubectl.output(&["logs", "web", "-c", "other"], "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("container other is not valid"), "{said}");
    let out = kubectl.output(&["logs", "web", "--previous"], "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("previous terminated container"), "{said}");

    let said = kubectl.run(&["exec", "web", "--", "/bin/keadm", "version"]);
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    let out = kubectl.output(&["exec", "web", "--", "/bin/keadm", "no-such-command"], "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("no-such-command") && said.contains("exit code 2"), "{said}");
    let out = kubectl.output(&["exec", "web", "--", "/no/such/program"], "");
    assert!(!out.status.success());

    // What is absent says so.
    let out = kubectl.output(&["port-forward", "pod/web", ":80"], "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("port-forward is not served by"), "{said}");

    kubectl.run(&["delete", "pod", "web", "--timeout=40s"]);
}

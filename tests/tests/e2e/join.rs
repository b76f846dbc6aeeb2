//! Two machines: `init --embedded` on one, `join` on the other.

use std::process::{Command, Output};

use tests::host::{CLOUD_ADDRESS, Host, Pair};
use tests::keadm::{ANY_DISK, command};
use tests::kubectl::Kubectl;

use super::PATIENCE;

/// Runs a command line of keadm to its end; how it ended and what it said.
pub(crate) fn keadm(host: &Host, args: &[&str]) -> (Output, String) {
    outcome(command(host, args))
}

fn outcome(mut command: Command) -> (Output, String) {
    let out = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out, said)
}

/// As [`keadm`], and it must succeed.
#[track_caller]
pub(crate) fn keadm_ok(host: &Host, args: &[&str]) -> String {
    let (out, said) = keadm(host, args);
    assert!(out.status.success(), "keadm {}: {}\n{said}", args.join(" "), out.status);
    said
}

/// A cloud side on one host and a token for it.
#[track_caller]
pub(crate) fn cloud(pair: &Pair) -> String {
    keadm_ok(&pair.cloud, &["init", "--embedded", "--advertise-address", CLOUD_ADDRESS]);
    let (out, said) = keadm(&pair.cloud, &["gettoken"]);
    assert!(out.status.success(), "{said}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Joins the other host as `edge-2`.
#[track_caller]
pub(crate) fn join(pair: &Pair, token: &str) -> String {
    let server = format!("{CLOUD_ADDRESS}:10000");
    keadm_ok(
        &pair.edge,
        &[
            "join",
            "--cloudcore-ipport",
            &server,
            "--token",
            token,
            "--edgenode-name",
            "edge-2",
            "--set",
            ANY_DISK,
        ],
    )
}

/// kubectl on the cloud's host, with the kubeconfig that `init --embedded` wrote.
pub(crate) fn kubectl(pair: &Pair) -> Kubectl<'_> {
    Kubectl::new(&pair.cloud, std::path::Path::new("/etc/kubeedge/config/admin.kubeconfig"))
}

#[test]
fn a_second_machine_joins_and_both_can_be_reset_twice() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    let kubectl = kubectl(&pair);
    let nodes = kubectl.run(&["get", "nodes"]);
    assert!(nodes.contains("edge-2") && !nodes.contains("NotReady"), "{nodes}");

    for _ in 0..2 {
        keadm_ok(&pair.edge, &["reset", "edge", "--yes"]);
        keadm_ok(&pair.cloud, &["reset", "cloud", "--yes"]);
    }
    for host in [&pair.edge, &pair.cloud] {
        for made in ["/etc/kubeedge", "/var/lib/kubeedge/edgecore.db", "/var/log/kubeedge"] {
            assert!(!host.path(made).exists(), "{made} is still there");
        }
    }
}

#[test]
fn a_wrong_token_names_its_cause_and_the_next_step_and_leaves_the_machine_as_it_was() {
    let pair = Pair::new();
    let token = cloud(&pair);
    let server = format!("{CLOUD_ADDRESS}:10000");
    let (hash, jwt) = token.split_once('.').unwrap();
    let other_ca = format!("{}.{jwt}", "0".repeat(hash.len()));
    let forged = format!("{hash}.{}x", jwt);
    for (wrong, hint) in [(other_ca, "gettoken"), (forged, "gettoken")] {
        let (out, said) = keadm(
            &pair.edge,
            &[
                "join",
                "--cloudcore-ipport",
                &server,
                "--token",
                &wrong,
                "--edgenode-name",
                "edge-2",
            ],
        );
        assert_eq!(out.status.code(), Some(5), "{said}");
        assert!(said.contains(hint) && said.contains("error:"), "{said}");
        assert!(!said.contains(jwt), "the token is in the output");
    }
    join(&pair, &token);
}

#[test]
fn a_name_that_is_taken_is_refused_until_the_node_is_deleted() {
    let pair = Pair::new();
    let token = cloud(&pair);
    join(&pair, &token);
    keadm_ok(&pair.edge, &["reset", "edge", "--yes"]);
    let server = format!("{CLOUD_ADDRESS}:10000");
    let (out, said) = keadm(
        &pair.edge,
        &["join", "--cloudcore-ipport", &server, "--token", &token, "--edgenode-name", "edge-2"],
    );
    assert_eq!(out.status.code(), Some(8), "{said}");
    assert!(said.contains("kubectl delete node edge-2"), "{said}");
    let kubectl = kubectl(&pair);
    kubectl.run(&["delete", "node", "edge-2"]);
    kubectl.until_gone(&["node", "edge-2"], PATIENCE);
    join(&pair, &token);
}

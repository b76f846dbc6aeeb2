//! On a kube-apiserver: what `init` makes there and `reset` takes away, and both edges on it.

use std::collections::BTreeSet;

use tests::host::{CLOUD_ADDRESS, EDGE_ADDRESS, Host};
use tests::keadm::{Running, command};
use tests::kubectl::Kubectl;
use tests::reference::{Kubernetes, Program};
use tests::wait;

use super::{PATIENCE, Site, stories};
use crate::e2e::join::keadm_ok;

/// All that is not of one moment only.
fn objects(kubectl: &Kubectl<'_>) -> BTreeSet<String> {
    let kinds = kubectl.run(&["api-resources", "--verbs=list", "-o", "name"]);
    let passing = |kind: &&str| !kind.starts_with("events") && !kind.starts_with("leases");
    let kinds: Vec<_> = kinds.lines().filter(passing).collect();
    let all = kubectl.run(&[
        "get",
        &kinds.join(","),
        "-A",
        "--ignore-not-found",
        "-o",
        "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}",
    ]);
    all.lines().map(str::to_owned).collect()
}

/// What a namespace controller does at the end: this Kubernetes has none.
fn finalize(kubectl: &Kubectl<'_>) {
    let mut namespace = kubectl.get(&["namespace", "kubeedge"]).unwrap();
    let uid = namespace["metadata"]["uid"].clone();
    namespace["spec"]["finalizers"] = serde_json::json!([]);
    let path = "/api/v1/namespaces/kubeedge/finalize";
    kubectl.run_with(&["replace", "--raw", path, "-f", "-"], &namespace.to_string());
    wait::until("the namespace to be gone", PATIENCE, || {
        match kubectl.get(&["namespace", "kubeedge"]) {
            Err(why) if why.contains("NotFound") => Ok(()),
            // Whoever waited for it has made it anew.
            Ok(now) if now["metadata"]["uid"] != uid => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn init_on_kubernetes_waits_for_its_old_namespace_and_reset_takes_away_what_it_made() {
    let host = Host::named("cloud");
    let address = [127, 0, 0, 1].into();
    let Some(kubernetes) = Kubernetes::start(&host, address) else { return };
    let kubeconfig = kubernetes.kubeconfig();
    let kubectl = Kubectl::new(&host, &kubeconfig);
    let config = kubeconfig.to_str().unwrap();
    // What belongs to somebody else stays, whatever it is called.
    kubectl.run(&["create", "namespace", "kubeedge-of-mine"]);
    kubectl.run(&["create", "clusterrole", "kubeedge", "--verb=get", "--resource=pods"]);
    let before = objects(&kubectl);
    let init = ["init", "--kube-config", config, "--advertise-address", "127.0.0.1"];
    keadm_ok(&host, &init);
    assert!(objects(&kubectl).len() > before.len() + 10);
    keadm_ok(&host, &["reset", "cloud", "--yes", "--kube-config", config]);
    let namespace = kubectl.get(&["namespace", "kubeedge"]).unwrap();
    assert!(namespace.pointer("/metadata/deletionTimestamp").is_some(), "{namespace:#}");

    let folder = tempfile::tempdir().unwrap();
    let mut again = Running::start(command(&host, init), &folder.path().join("init.log"));
    again.until_said("is still being deleted", PATIENCE);
    finalize(&kubectl);
    assert!(again.until_ended(PATIENCE).success(), "{}", again.said());

    for _ in 0..2 {
        keadm_ok(&host, &["reset", "cloud", "--yes", "--kube-config", config]);
    }
    // Its controller would have emptied it.
    kubectl.run(&["delete", "configmaps,secrets", "--all", "-n", "kubeedge"]);
    // They stay, with all that users have made of them, until this is typed; reset says so.
    kubectl.run(&["delete", "crd", "-l", "k8s-app=kubeedge"]);
    finalize(&kubectl);
    wait::until("Kubernetes to be as it was", PATIENCE, || {
        let now = objects(&kubectl);
        let more: Vec<_> = now.symmetric_difference(&before).collect();
        if more.is_empty() { Ok(()) } else { Err(format!("{more:?}")) }
    });
}

/// Our cloudcore, as `init` installs it, on a kube-apiserver that dials the edge's node.
fn on_kubernetes(site: &mut Site) -> Option<Kubernetes> {
    let kubernetes = Kubernetes::start(&site.pair.cloud, CLOUD_ADDRESS.parse().unwrap())?;
    let config = kubernetes.kubeconfig();
    let kubectl = Kubectl::new(&site.pair.cloud, &config);
    // What controllers make for pods; an OpenShift's API server gives them a second CA.
    kubectl.run(&["create", "serviceaccount", "default"]);
    for (name, key) in
        [("kube-root-ca.crt", "ca.crt"), ("openshift-service-ca.crt", "service-ca.crt")]
    {
        kubectl.run(&["create", "configmap", name, &format!("--from-literal={key}=none")]);
    }
    drop(kubectl);
    let config = config.to_str().unwrap().to_owned();
    keadm_ok(
        &site.pair.cloud,
        &["init", "--kube-config", &config, "--advertise-address", CLOUD_ADDRESS],
    );
    // The API server dials the node; as the documentation says, that has to lead to cloudcore.
    let mut rule = site.pair.cloud.command("iptables");
    rule.args(["-t", "nat", "-A", "OUTPUT", "-d", EDGE_ADDRESS, "-p", "tcp", "--dport", "10003"]);
    rule.args(["-j", "DNAT", "--to-destination", &format!("{CLOUD_ADDRESS}:10003")]);
    let out = rule.output().unwrap();
    assert!(out.status.success(), "iptables: {}", String::from_utf8_lossy(&out.stderr));
    site.kubeconfig = config.into();
    Some(kubernetes)
}

/// KubeEdge's edgecore on our cloudcore on a kube-apiserver.
fn with_their_edge() -> Option<(Kubernetes, Site)> {
    let mut site = Site::new(Program::EdgeCore)?;
    let kubernetes = on_kubernetes(&mut site)?;
    let token = site.token();
    site.join_their_edge(&token);
    Some((kubernetes, site))
}

/// Both of ours on a kube-apiserver.
fn with_our_edge() -> Option<(Kubernetes, Site)> {
    // Before hosts are made for nothing.
    Program::ApiServer.find()?;
    let mut site = Site::with(None);
    let kubernetes = on_kubernetes(&mut site)?;
    site.join_our_edge();
    Some((kubernetes, site))
}

#[test]
fn kubeedges_edgecore_runs_pods_for_our_cloudcore_on_a_kube_apiserver() {
    let Some((_kubernetes, site)) = with_their_edge() else { return };
    stories::a_pod_lives(&site);
}

#[test]
fn logs_and_exec_come_from_kubeedges_edgecore_through_a_kube_apiserver() {
    let Some((_kubernetes, site)) = with_their_edge() else { return };
    stories::logs_and_exec(&site);
}

#[test]
fn our_edgecore_runs_pods_for_our_cloudcore_on_a_kube_apiserver() {
    let Some((_kubernetes, site)) = with_our_edge() else { return };
    stories::a_pod_lives(&site);
}

#[test]
fn logs_exec_and_ports_of_our_edgecore_are_reached_through_a_kube_apiserver() {
    let Some((_kubernetes, site)) = with_our_edge() else { return };
    stories::logs_and_exec(&site);
    stories::ports(&site);
}

#[test]
fn devices_of_our_edgecore_do_as_our_cloudcore_says_on_a_kube_apiserver() {
    let Some((_kubernetes, site)) = with_our_edge() else { return };
    stories::a_device(&site);
}

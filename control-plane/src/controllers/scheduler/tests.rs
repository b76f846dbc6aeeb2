//! Expected answers are those of kubernetes.io/docs/concepts/scheduling-eviction.

use super::node::NodeInfo;
use super::*;

fn nodes(list: &[(&str, Value)]) -> Cluster {
    let one = |(n, v): &(&str, Value)| {
        let mut node = NodeInfo::default();
        node.update(v);
        ((*n).to_owned(), node)
    };
    Cluster { nodes: list.iter().map(one).collect(), ..Cluster::default() }
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec})
}

#[test]
fn without_a_node_the_reason_is_that_of_kubernetes() {
    assert_eq!(
        choose(&pod(json!({})), &Cluster::default()),
        Err("no nodes available to schedule pods".into())
    );
    let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}});
    let all = nodes(&[
        ("a", taint),
        ("b", json!({"metadata": {"labels": {"x": "y"}}, "status": {"allocatable": {"cpu": "1"}}})),
    ]);
    assert_eq!(
        choose(&pod(json!({"containers": [{"resources": {"requests": {"cpu": "2"}}}]})), &all),
        Err("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.".into())
    );
}

#[test]
fn selectors_tolerations_and_affinity_choose() {
    let all = nodes(&[
        ("plain", json!({})),
        (
            "edge",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/edge": "", "zone": "z1"}},
            "spec": {"taints": [{"key": "edge", "value": "yes", "effect": "NoSchedule"}]}}),
        ),
    ]);
    let mut p = pod(json!({"nodeSelector": {"zone": "z1"}}));
    assert!(choose(&p, &all).is_err());
    p["spec"]["tolerations"] =
        json!([{"key": "edge", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]);
    assert_eq!(choose(&p, &all), Ok("edge".into()));
    let a = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
        [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z2"]}]}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["plain"]}]}]}}}});
    assert_eq!(choose(&pod(a), &all), Ok("plain".into()));
}

#[test]
fn room_is_counted_with_the_pods_that_are_there() {
    let mut index = Index::default();
    index.put_node(
        &json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "pods": "2"}}}),
    );
    let mut running =
        pod(json!({"nodeName": "n", "containers": [{"resources": {"requests": {"cpu": "600m"}}}]}));
    index.put_pod(running.clone());
    let wanting = pod(json!({"containers": [{"resources": {"requests": {"cpu": "500m"}}}]}));
    assert_eq!(
        choose(&wanting, &index.cluster),
        Err("0/1 nodes are available: 1 Insufficient cpu.".into())
    );
    running["status"] = json!({"phase": "Succeeded"});
    assert!(index.put_pod(running));
    assert_eq!(choose(&wanting, &index.cluster), Ok("n".into()));
}

#[test]
fn the_emptier_node_is_taken() {
    let mut index = Index::default();
    for n in ["a", "b"] {
        index.put_node(&json!({"metadata": {"name": n}, "status": {"allocatable": {"cpu": "4", "memory": "1Gi"}}}));
    }
    let p = pod(json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}));
    assert_eq!(choose(&p, &index.cluster), Ok("a".into()));
    index.place("x", "a", load(&p));
    assert_eq!(choose(&p, &index.cluster), Ok("b".into()));
}

#[test]
fn anti_affinity_keeps_apart() {
    let mut index = Index::default();
    for n in ["a", "b"] {
        index.put_node(&json!({"metadata": {"name": n, "labels": {"kubernetes.io/hostname": n}}}));
    }
    let mut p = pod(
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}]}}}),
    );
    p["metadata"]["labels"] = json!({"app": "x"});
    index.place("1", "a", load(&p));
    assert_eq!(choose(&p, &index.cluster), Ok("b".into()));
    index.place("2", "b", load(&p));
    assert_eq!(
        choose(&p, &index.cluster),
        Err("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.".into())
    );
}

/// Three nodes in two zones, with pods of the app `x` on the first `n` of them.
fn zones(n: usize) -> Index {
    let mut index = Index::default();
    for (i, zone) in ["z1", "z1", "z2"].iter().enumerate() {
        index.put_node(&json!({"metadata": {"name": format!("n{i}"), "labels": {"zone": zone}}}));
        if i < n {
            let mut p = pod(json!({}));
            p["metadata"]["labels"] = json!({"app": "x"});
            index.place(&format!("p{i}"), &format!("n{i}"), load(&p));
        }
    }
    index
}

fn spread(more: Value) -> Value {
    let mut c = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}});
    json_patch::merge(&mut c, &more);
    let mut p = pod(json!({"topologySpreadConstraints": [c]}));
    p["metadata"]["labels"] = json!({"app": "x"});
    p
}

#[test]
fn pods_are_spread_evenly_over_zones() {
    // One in z1: the next goes to z2, whatever is emptier.
    assert_eq!(choose(&spread(json!({})), &zones(1).cluster), Ok("n2".into()));
    let mut index = zones(2);
    index.cluster.nodes.get_mut("n2").unwrap().unschedulable = true;
    assert_eq!(
        choose(&spread(json!({})), &index.cluster),
        Err("0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints.".into())
    );
    assert!(choose(&spread(json!({"maxSkew": 3})), &index.cluster).is_ok());
    let anyway = spread(json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    assert_eq!(choose(&anyway, &zones(2).cluster), Ok("n2".into()));
    let rack = spread(json!({"topologyKey": "rack"}));
    assert_eq!(
        choose(&rack, &zones(0).cluster),
        Err("0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints (missing required label).".into())
    );
}

#[test]
fn a_pod_that_is_there_keeps_others_away_as_it_asked_for() {
    let mut index = zones(0);
    let mut lonely = pod(
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}]}}}),
    );
    lonely["metadata"]["labels"] = json!({"app": "lonely"});
    index.place("l", "n0", load(&lonely));
    let mut p = pod(json!({}));
    p["metadata"]["labels"] = json!({"app": "x"});
    assert_eq!(choose(&p, &index.cluster), Ok("n2".into()));
    index.place("l2", "n2", load(&lonely));
    assert_eq!(
        choose(&p, &index.cluster),
        Err("0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules."
            .into())
    );
}

#[test]
fn affinity_brings_together_and_the_first_of_a_kind_may_go_anywhere() {
    let near = |app: &str| {
        let mut p = pod(
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}]}}}),
        );
        p["metadata"]["labels"] = json!({"app": app});
        p
    };
    let mut index = zones(0);
    assert_eq!(
        choose(&near("other"), &index.cluster),
        Err("0/3 nodes are available: 3 node(s) didn't match pod affinity rules.".into())
    );
    assert!(choose(&near("x"), &index.cluster).is_ok());
    index.place("x", "n2", load(&near("x")));
    assert_eq!(choose(&near("other"), &index.cluster), Ok("n2".into()));
    // By the labels of the namespace, too.
    let mut other = near("other");
    let term = &mut other["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        [0];
    term["namespaceSelector"] = json!({"matchLabels": {"team": "a"}});
    assert!(choose(&other, &index.cluster).is_err());
    let namespace = json!({"metadata": {"name": "default", "labels": {"team": "a"}}});
    index.put_namespaces(vec![Change::Put(Followed::of("/default", &namespace))]);
    assert_eq!(choose(&other, &index.cluster), Ok("n2".into()));
}

#[test]
fn preferred_neighbours_decide_between_nodes_that_fit() {
    let mut p = pod(
        json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": 10, "podAffinityTerm": {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}}]}}}),
    );
    assert_eq!(choose(&p, &zones(2).cluster), Ok("n2".into()));
    let terms = p["spec"]["affinity"].as_object_mut().unwrap().remove("podAntiAffinity").unwrap();
    p["spec"]["affinity"]["podAffinity"] = terms;
    assert_eq!(choose(&p, &zones(1).cluster), Ok("n1".into()));
}

#[test]
fn every_resource_that_is_short_is_named() {
    let all = nodes(&[("a", json!({"status": {"allocatable": {"cpu": "1", "memory": "1Gi"}}}))]);
    let p =
        pod(json!({"containers": [{"resources": {"requests": {"cpu": "2", "memory": "2Gi"}}}]}));
    assert_eq!(
        choose(&p, &all),
        Err("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.".into())
    );
}

#[test]
fn a_node_that_only_says_that_it_lives_has_nobody_looked_at_again() {
    let mut index = Index::default();
    let node = |beat: &str, cpu: &str| {
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": cpu},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": beat}]}});
        Followed::of("/n", &node)
    };
    assert!(changed_nodes(&mut index, vec![Change::Put(node("2026-01-01T00:00:00Z", "1"))]));
    assert!(!changed_nodes(&mut index, vec![Change::Put(node("2026-01-01T00:00:10Z", "1"))]));
    assert!(changed_nodes(&mut index, vec![Change::Put(node("2026-01-01T00:00:20Z", "2"))]));
    assert!(changed_nodes(&mut index, vec![Change::Gone(node("", "2"))]));
    assert!(changed_nodes(&mut index, vec![Change::Put(node("", "2"))]));
}

use k8s_openapi::api::core::v1::PodSpec;

use super::*;

fn q(s: &str) -> Quantity {
    Quantity(s.to_owned())
}

fn container(json: serde_json::Value) -> Container {
    serde_json::from_value(serde_json::json!({"name": "c", "resources": json})).unwrap()
}

fn pod(containers: Vec<Container>) -> Pod {
    let mut pod =
        Pod { spec: Some(PodSpec { containers, ..PodSpec::default() }), ..Pod::default() };
    pod.metadata.uid = Some("ab-cd".to_owned());
    pod
}

#[test]
fn quantities_are_read_as_kubernetes_writes_them() {
    let cases = [
        ("100m", 100),
        ("1", 1_000),
        ("0.5", 500),
        (".5", 500),
        ("1.5Gi", 1_610_612_736_000),
        ("128Mi", 134_217_728_000),
        ("1k", 1_000_000),
        ("2e3", 2_000_000),
        ("1n", 1),
        ("-1", -1_000),
        ("5E", 5_000_000_000_000_000_000_000),
    ];
    for (text, want) in cases {
        assert_eq!(milli(&q(text)), Some(want), "{text}");
    }
    for bad in ["", "abc", "1x", "1.2.3", "--1", "1e99", "99999999999999999999999"] {
        assert_eq!(milli(&q(bad)), None, "{bad}");
    }
    assert_eq!(units(&q("1500m")), Some(2));
}

#[test]
fn the_qos_class_follows_requests_and_limits() {
    let none = pod(vec![container(serde_json::json!({}))]);
    assert_eq!(qos(&none), Qos::BestEffort);
    let some = pod(vec![container(serde_json::json!({"requests": {"cpu": "100m"}}))]);
    assert_eq!(qos(&some), Qos::Burstable);
    let both = serde_json::json!({"limits": {"cpu": "100m", "memory": "64Mi"}});
    assert_eq!(qos(&pod(vec![container(both.clone())])), Qos::Guaranteed);
    let mixed = pod(vec![container(both), container(serde_json::json!({}))]);
    assert_eq!(qos(&mixed), Qos::Burstable);
}

#[test]
fn limits_become_shares_quotas_and_bytes() {
    let c = container(serde_json::json!({
        "requests": {"cpu": "250m", "memory": "1Gi"},
        "limits": {"cpu": "500m", "memory": "2Gi"}
    }));
    let p = pod(vec![c.clone()]);
    let machine = Machine { memory: 8 << 30, ..Machine::default() };
    let r = of_container(&p, &c, &machine);
    assert_eq!((r.cpu_shares, r.cpu_period, r.cpu_quota), (256, 100_000, 50_000));
    assert_eq!(r.memory_limit, 2 << 30);
    assert_eq!(r.oom_score_adj, 1000 - 125);
    let all = of_pod(&p);
    assert_eq!((all.cpu_shares, all.memory_limit), (256, 2 << 30));
}

#[test]
fn a_pods_cgroup_is_where_kubelet_puts_it() {
    let mut machine = Machine::default();
    let best = pod(vec![container(serde_json::json!({}))]);
    assert_eq!(cgroup_parent(&best, &machine), "/kubepods/besteffort/podab-cd");
    let sure = pod(vec![container(serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}))]);
    assert_eq!(cgroup_parent(&sure, &machine), "/kubepods/podab-cd");
    machine.cgroup_root = "/edge/".to_owned();
    assert_eq!(cgroup_parent(&sure, &machine), "/edge/kubepods/podab-cd");
    machine.driver = CgroupDriver::Systemd;
    assert_eq!(cgroup_parent(&best, &machine), "kubepods-besteffort-podab_cd.slice");
}

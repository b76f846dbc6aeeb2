use serde_json::json;

use super::super::testing::TestCluster;
use super::*;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1",
            "labels": {"app": "web", "tier": "a\"b"}},
        "spec": {"nodeName": "edge-1", "containers": []}
    }))
    .unwrap()
}

async fn env_of(c: serde_json::Value) -> Result<Vec<(String, String)>, ConfigError> {
    let cluster = TestCluster::default();
    cluster.config_map("shop", "settings", &[("color", "blue"), ("bad=name", "x")]);
    cluster.secret("shop", "login", &[("password", "s3cret")]);
    let c: Container = serde_json::from_value(c).unwrap();
    let facts = Facts { pod_ips: vec!["10.0.0.7".into()], host_ips: vec!["192.0.2.1".into()] };
    environment(&cluster, &pod(), &c, &facts, &Machine::default()).await
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn variables_refer_to_those_before_them() {
    let vars: BTreeMap<_, _> = [pair("A", "1"), pair("B", "two")].into_iter().collect();
    let cases = [
        ("$(A)-$(B)", "1-two"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("cost: 5$", "cost: 5$"),
        ("$(A", "$(A"),
        ("$A", "$A"),
    ];
    for (text, want) in cases {
        assert_eq!(expand(text, &vars), want, "{text}");
    }
}

#[tokio::test]
async fn sources_are_read_in_order_and_later_ones_win() {
    let env = env_of(json!({
        "name": "c",
        "envFrom": [{"prefix": "CFG_", "configMapRef": {"name": "settings"}},
                    {"configMapRef": {"name": "absent", "optional": true}}],
        "env": [
            {"name": "WHO", "value": "me"},
            {"name": "GREETING", "value": "hello $(WHO), $(CFG_color)"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
            {"name": "CFG_color", "value": "red"},
            {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": true}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        ]
    }))
    .await
    .unwrap();
    assert_eq!(
        env,
        [
            pair("WHO", "me"),
            pair("GREETING", "hello me, blue"),
            pair("PASSWORD", "s3cret"),
            pair("CFG_color", "red"),
            pair("IP", "10.0.0.7"),
        ]
    );
}

#[tokio::test]
async fn what_is_missing_is_named_as_kubelet_names_it() {
    let of = |source: serde_json::Value| json!({"name": "c", "env": [{"name": "X", "valueFrom": source}]});
    let cases = [
        (
            of(json!({"configMapKeyRef": {"name": "absent", "key": "k"}})),
            "configmap \"absent\" not found",
        ),
        (
            of(json!({"secretKeyRef": {"name": "login", "key": "user"}})),
            "couldn't find key user in Secret shop/login",
        ),
        (
            of(json!({"fieldRef": {"fieldPath": "spec.nodeSelector"}})),
            "unsupported fieldPath: spec.nodeSelector",
        ),
    ];
    for (c, want) in cases {
        assert_eq!(env_of(c).await.unwrap_err().to_string(), want);
    }
}

#[test]
fn fields_of_the_pod_are_found() {
    let (pod, facts) = (pod(), Facts::default());
    let cases = [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", "app=\"web\"\ntier=\"a\\\"b\""),
        ("spec.nodeName", "edge-1"),
    ];
    for (path, want) in cases {
        assert_eq!(field(&pod, path, &facts).unwrap(), want, "{path}");
    }
}

#[test]
fn resource_fields_are_divided_and_rounded_up() {
    let c: Container = serde_json::from_value(json!({
        "name": "c",
        "resources": {"limits": {"cpu": "1500m", "memory": "100Mi"}, "requests": {"cpu": "250m"}}
    }))
    .unwrap();
    let q = |s: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(s.to_owned());
    let machine = Machine::default();
    let of = |what: &str, divisor: Option<&str>| {
        resource(&c, what, divisor.map(q).as_ref(), &machine).unwrap()
    };
    assert_eq!(of("limits.cpu", None), "2");
    assert_eq!(of("limits.cpu", Some("1m")), "1500");
    assert_eq!(of("requests.cpu", Some("1m")), "250");
    assert_eq!(of("limits.memory", Some("1Mi")), "100");
    assert!(resource(&c, "limits.gpu", None, &machine).is_err());
}

use k8s_openapi::ByteString;

use super::super::runtime::fake::FakeRuntime;
use super::super::testing::TestCluster;
use super::*;

fn secret(key: &str, json: &str) -> Secret {
    Secret {
        data: Some([(key.to_owned(), ByteString(json.as_bytes().to_vec()))].into()),
        ..Secret::default()
    }
}

fn users(logins: &[Login], image: &str) -> Vec<String> {
    fitting(logins, image).iter().map(|a| a.username.clone()).collect()
}

#[test]
fn names_without_a_tag_get_one_and_nonsense_is_refused() {
    let cases = [
        ("nginx", Some("nginx:latest")),
        ("nginx:1.27", Some("nginx:1.27")),
        ("localhost:5000/web", Some("localhost:5000/web:latest")),
        ("localhost:5000/web:2", Some("localhost:5000/web:2")),
        ("r.io/a/b@sha256:00", Some("r.io/a/b@sha256:00")),
        ("Nginx", None),
        ("", None),
        ("a b", None),
        ("web;reboot", None),
        ("r.io/", None),
    ];
    for (image, want) in cases {
        assert_eq!(with_tag(image).as_deref(), want, "{image}");
    }
}

#[test]
fn both_forms_of_pull_secret_are_read() {
    let new = secret(
        ".dockerconfigjson",
        r#"{"auths":{"https://r.io/v2/":{"auth":"YW5uOnB3OjE="},"broken":{"auth":"%"}}}"#,
    );
    let logins = logins_of(&new);
    let ann = &fitting(&logins, "r.io/web:1")[0];
    assert_eq!((ann.username.as_str(), ann.password.as_str()), ("ann", "pw:1"));
    let old = secret(".dockercfg", r#"{"r.io":{"username":"bob","password":"x"}}"#);
    assert_eq!(users(&logins_of(&old), "r.io/web"), ["bob"]);
    assert!(logins_of(&secret(".dockerconfigjson", "no json")).is_empty());
}

#[test]
fn the_most_specific_login_for_the_registry_is_first() {
    let config = secret(
        ".dockerconfigjson",
        r#"{"auths":{
            "r.io": {"username": "all"},
            "r.io/team": {"username": "team"},
            "*.r.io:5000": {"username": "wild"},
            "https://index.docker.io/v1/": {"username": "hub"}
        }}"#,
    );
    let logins = logins_of(&config);
    assert_eq!(users(&logins, "r.io/team/web:1"), ["team", "all"]);
    assert_eq!(users(&logins, "r.io/teammate/web"), ["all"]);
    assert_eq!(users(&logins, "a.r.io:5000/web"), ["wild"]);
    assert!(users(&logins, "a.b.r.io:5000/web").is_empty());
    assert_eq!(users(&logins, "nginx:1"), ["hub"]);
    assert_eq!(users(&logins, "team/web"), ["hub"]);
    assert!(users(&logins, "evil-r.io/web").is_empty());
}

fn container(image: &str, policy: Option<&str>) -> Container {
    Container {
        name: "c".to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: policy.map(str::to_owned),
        ..Container::default()
    }
}

async fn ensure(runtime: &FakeRuntime, c: &Container) -> Result<Image, ImageError> {
    let cluster = TestCluster::default();
    Puller::default().ensure(runtime, &cluster, &Pod::default(), c, || {}).await
}

#[tokio::test]
async fn an_image_that_is_here_is_pulled_only_if_the_policy_says_always() {
    let runtime = FakeRuntime::new();
    runtime.add_image("web:1");
    runtime.add_to_registry("web:1");
    let image = ensure(&runtime, &container("web:1", Some("IfNotPresent"))).await.unwrap();
    assert!(image.pulled_in.is_none());
    let image = ensure(&runtime, &container("web:1", Some("Always"))).await.unwrap();
    assert!(image.pulled_in.is_some());
    assert_eq!(runtime.calls(), ["pull_image web:1"]);
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_worded_as_kubelet_does() {
    let runtime = FakeRuntime::new();
    let never = ensure(&runtime, &container("web:1", Some("Never"))).await.unwrap_err();
    assert_eq!(never.reason, "ErrImageNeverPull");
    assert_eq!(never.message, "Container image \"web:1\" is not present with pull policy of Never");
    let absent = ensure(&runtime, &container("web:1", None)).await.unwrap_err();
    assert_eq!(absent.reason, "ErrImagePull");
    let nonsense = ensure(&runtime, &container("WEB", None)).await.unwrap_err();
    assert_eq!(nonsense.reason, "InvalidImageName");
}

#[tokio::test]
async fn a_pull_tries_the_logins_of_the_pods_secrets() {
    let runtime = FakeRuntime::new();
    runtime.add_to_registry("r.io/web:1");
    let cluster = TestCluster::default();
    cluster.secret(
        "default",
        "reg",
        &[(".dockerconfigjson", r#"{"auths":{"r.io":{"username":"ann","password":"x"}}}"#)],
    );
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "spec": {"containers": [], "imagePullSecrets": [{"name": "gone"}, {"name": "reg"}]}
    }))
    .unwrap();
    let c = container("r.io/web:1", None);
    Puller::default().ensure(&runtime, &cluster, &pod, &c, || {}).await.unwrap();
    assert_eq!(runtime.calls(), ["pull_image r.io/web:1 as ann"]);
}

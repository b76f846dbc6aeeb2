use std::os::unix::fs::PermissionsExt;

use api::names::Kind;
use serde_json::json;

use super::super::testing::TestCluster;
use super::*;

struct Bench {
    cluster: TestCluster,
    dir: tempfile::TempDir,
    pod: Pod,
}

impl Bench {
    fn new(volumes: serde_json::Value) -> Self {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c"}], "volumes": volumes, "serviceAccountName": "bot"}
        }))
        .unwrap();
        Self { cluster: TestCluster::default(), dir: tempfile::tempdir().unwrap(), pod }
    }

    fn place(&self) -> Place {
        Place { pod_dir: self.dir.path().join("pods/u1"), in_memory: false }
    }

    async fn prepare(&self) -> Result<(), VolumeError> {
        let (facts, machine) = (Facts::default(), Machine::default());
        self.place().prepare(&self.cluster, &self.pod, &facts, &machine).await
    }

    fn path(&self, volume: usize, file: &str) -> PathBuf {
        let volumes = self.pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
        self.place().source(&volumes[volume]).join(file)
    }

    fn read(&self, volume: usize, file: &str) -> String {
        std::fs::read_to_string(self.path(volume, file)).unwrap()
    }
}

#[tokio::test]
async fn a_config_map_becomes_files_that_change_together() {
    let bench = Bench::new(json!([{"name": "cfg", "configMap": {"name": "settings"}}]));
    bench.cluster.config_map("shop", "settings", &[("a", "1"), ("b", "1")]);
    bench.prepare().await.unwrap();
    assert_eq!((bench.read(0, "a"), bench.read(0, "b")), ("1".into(), "1".into()));
    let before = std::fs::read_link(bench.path(0, "..data")).unwrap();
    bench.prepare().await.unwrap();
    assert_eq!(std::fs::read_link(bench.path(0, "..data")).unwrap(), before, "unchanged");

    let open = std::fs::File::open(bench.path(0, "..data")).unwrap();
    bench.cluster.config_map("shop", "settings", &[("a", "2"), ("c", "2")]);
    bench.prepare().await.unwrap();
    drop(open);
    assert_eq!((bench.read(0, "a"), bench.read(0, "c")), ("2".into(), "2".into()));
    assert!(!bench.path(0, "b").exists(), "a key that is gone is gone");
    let names: Vec<_> = std::fs::read_dir(bench.path(0, "")).unwrap().collect();
    assert_eq!(names.len(), 4, "..data, one version, two names");
}

#[tokio::test]
async fn items_choose_keys_paths_and_modes() {
    let bench = Bench::new(json!([{"name": "s", "secret": {
        "secretName": "login", "defaultMode": 256,
        "items": [{"key": "password", "path": "deep/pw"}, {"key": "user", "path": "u", "mode": 292}]
    }}]));
    bench.cluster.secret("shop", "login", &[("password", "x"), ("user", "ann"), ("other", "-")]);
    bench.prepare().await.unwrap();
    assert_eq!(bench.read(0, "deep/pw"), "x");
    let mode = |f: &str| bench.path(0, f).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("deep/pw"), mode("u")), (0o400, 0o444));
    assert!(!bench.path(0, "other").exists());
}

#[tokio::test]
async fn what_is_missing_is_an_error_unless_optional() {
    let bench = Bench::new(json!([{"name": "cfg", "configMap": {"name": "absent"}}]));
    assert_eq!(
        bench.prepare().await.unwrap_err().to_string(),
        "MountVolume.SetUp failed for volume \"cfg\" : configmap \"absent\" not found"
    );
    let bench =
        Bench::new(json!([{"name": "cfg", "configMap": {"name": "absent", "optional": true}}]));
    bench.prepare().await.unwrap();
    assert!(bench.path(0, "..data").exists());
    let bench = Bench::new(json!([{"name": "cfg", "configMap": {
        "name": "settings", "items": [{"key": "k", "path": "p"}]}}]));
    bench.cluster.config_map("shop", "settings", &[("a", "1")]);
    assert!(bench.prepare().await.unwrap_err().why.contains("non-existent config key: k"));
}

#[tokio::test]
async fn a_path_that_leaves_the_volume_is_refused() {
    let bench = Bench::new(json!([{"name": "cfg", "configMap": {
        "name": "settings", "items": [{"key": "a", "path": "../../evil"}]}}]));
    bench.cluster.config_map("shop", "settings", &[("a", "1")]);
    assert!(bench.prepare().await.unwrap_err().why.contains("not a path below the volume"));
    assert!(!bench.dir.path().join("pods/u1/volumes/evil").exists());
}

#[tokio::test]
async fn a_projected_volume_holds_token_object_and_fields() {
    let bench = Bench::new(json!([{"name": "p", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}
    ]}}]));
    bench.cluster.config_map("shop", "ca", &[("ca.crt", "PEM")]);
    bench.prepare().await.unwrap();
    assert_eq!(bench.read(0, "token"), "token-of-shop/bot-3607");
    assert_eq!(bench.read(0, "ca.crt"), "PEM");
    assert_eq!(bench.read(0, "ns"), "shop");
    assert!(grow_old(&bench.pod));
}

#[tokio::test]
async fn an_empty_dir_keeps_what_the_pod_wrote() {
    let bench = Bench::new(json!([{"name": "e", "emptyDir": {}}]));
    bench.prepare().await.unwrap();
    std::fs::write(bench.path(0, "mine"), "x").unwrap();
    bench.prepare().await.unwrap();
    assert_eq!(bench.read(0, "mine"), "x");
    assert_eq!(bench.path(0, "").metadata().unwrap().permissions().mode() & 0o777, 0o777);
    bench.place().tear_down().unwrap();
    assert!(!bench.place().pod_dir.exists());
    bench.place().tear_down().unwrap();
}

#[tokio::test]
async fn a_kind_that_is_not_built_says_so() {
    let bench = Bench::new(json!([{"name": "n", "nfs": {"server": "s", "path": "/"}}]));
    let err = bench.prepare().await.unwrap_err();
    assert!(err.to_string().contains("not supported on this edge"), "{err}");
}

#[test]
fn a_pod_knows_which_objects_it_reads() {
    let pod: Pod = serde_json::from_value(json!({"spec": {
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "c",
            "envFrom": [{"configMapRef": {"name": "env-from"}}],
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "env-key", "key": "k"}}}]}],
        "volumes": [{"name": "v", "configMap": {"name": "vol"}},
            {"name": "p", "projected": {"sources": [{"secret": {"name": "proj"}}]}}]
    }}))
    .unwrap();
    for name in ["env-from", "vol"] {
        assert!(uses(&pod, &Kind::ConfigMap, name), "{name}");
        assert!(!uses(&pod, &Kind::Secret, name), "{name}");
    }
    for name in ["pull", "env-key", "proj"] {
        assert!(uses(&pod, &Kind::Secret, name), "{name}");
    }
    assert!(!uses(&pod, &Kind::ConfigMap, "other"));
}

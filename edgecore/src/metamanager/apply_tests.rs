use api::wire::downstream::PushSource;

use super::*;
use crate::metamanager::Store;

fn pod_json(uid: &str, version: u64, image: &str) -> RawJson {
    RawJson::parse(format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"web-0","namespace":"default","uid":"{uid}","resourceVersion":"{version}"}},"spec":{{"nodeName":"edge-1","containers":[{{"name":"c","image":"{image}"}}]}}}}"#
    ))
    .unwrap()
}

fn key(kind: Kind) -> ObjectKey {
    ObjectKey::new("default".parse().unwrap(), kind, "web-0")
}

fn message(op: PushOp, kind: Kind, uid: &str, version: Option<u64>, object: RawJson) -> ObjectPush {
    ObjectPush {
        op,
        key: key(kind),
        uid: uid.parse().unwrap(),
        version: version.map(ResourceVersion),
        source: PushSource::EdgeController,
        object,
    }
}

fn bare(uid: &str) -> ObjectPush {
    let object =
        format!(r#"{{"metadata":{{"name":"web-0","namespace":"default","uid":"{uid}"}}}}"#);
    message(PushOp::Delete, Kind::Pod, uid, None, RawJson::parse(object).unwrap())
}

struct Held {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Held {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(&dir.path().join("edgecore.db")).unwrap(), _dir: dir }
    }

    async fn push(&self, message: ObjectPush) -> Option<WantedChange> {
        self.store.write(move |tx| push(tx, &message)).await.unwrap()
    }

    async fn pod(&self, op: PushOp, uid: &str, version: u64, image: &str) -> Option<WantedChange> {
        let object = pod_json(uid, version, image);
        self.push(message(op, Kind::Pod, uid, Some(version), object)).await
    }

    async fn row(&self, key: &str) -> Option<String> {
        let key = key.to_owned();
        self.store.read(move |tx| tx.get(&key)).await.unwrap()
    }
}

fn image(change: Option<WantedChange>) -> String {
    let Some(WantedChange::Set(pod)) = change else { panic!("{change:?}") };
    pod.spec.unwrap().containers[0].image.clone().unwrap()
}

#[tokio::test]
async fn an_update_of_an_unknown_pod_is_an_insert_in_both_tables() {
    let held = Held::new();
    assert_eq!(image(held.pod(PushOp::Update, "u1", 5, "a").await), "a");
    assert!(held.row("default/pod/web-0").await.is_some());
    let v2 = held.store.read(|tx| tx.get_v2("/core/v1/pods/default/web-0")).await.unwrap().unwrap();
    assert_eq!(v2.group_version_resource, "/v1, Resource=pods");
    assert_eq!(v2.resource_version, 5);
    assert!(v2.value.ends_with("}\n"));
}

#[tokio::test]
async fn an_older_version_of_the_same_pod_changes_nothing() {
    let held = Held::new();
    held.pod(PushOp::Insert, "u1", 5, "new").await;
    assert_eq!(held.pod(PushOp::Update, "u1", 4, "old").await, None);
    assert!(held.row("default/pod/web-0").await.unwrap().contains("new"));
    // Another incarnation counts anew.
    assert_eq!(image(held.pod(PushOp::Update, "u2", 4, "other").await), "other");
}

#[tokio::test]
async fn a_bare_deletion_removes_the_pod_and_all_that_hangs_on_it() {
    let held = Held::new();
    held.pod(PushOp::Insert, "u1", 5, "a").await;
    held.store
        .write(|tx| {
            tx.put("default/podpatch/web-0", "podpatch", "{}")?;
            tx.put("\"sa\"/x{UID:\"u1\"}", "serviceaccounttoken", "{}")?;
            tx.put("\"sa\"/x{UID:\"u2\"}", "serviceaccounttoken", "{}")
        })
        .await
        .unwrap();
    let told = held.push(bare("u1")).await;
    assert_eq!(told, Some(WantedChange::Gone { key: key(Kind::Pod), uid: "u1".parse().unwrap() }));
    assert_eq!(held.row("default/pod/web-0").await, None);
    assert_eq!(held.row("default/podpatch/web-0").await, None);
    assert_eq!(held.row("\"sa\"/x{UID:\"u1\"}").await, None);
    assert!(held.row("\"sa\"/x{UID:\"u2\"}").await.is_some());
    let v2 = held.store.read(|tx| tx.get_v2("/core/v1/pods/default/web-0")).await.unwrap();
    assert_eq!(v2, None);
}

#[tokio::test]
async fn a_deletion_of_an_earlier_incarnation_leaves_the_present_one() {
    let held = Held::new();
    held.pod(PushOp::Insert, "u2", 9, "a").await;
    let told = held.push(bare("u1")).await;
    assert_eq!(told, Some(WantedChange::Gone { key: key(Kind::Pod), uid: "u1".parse().unwrap() }));
    assert!(held.row("default/pod/web-0").await.is_some());
}

#[tokio::test]
async fn a_changed_configmap_is_told_by_its_key() {
    let held = Held::new();
    let object = RawJson::parse(
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"web-0","uid":"c1"}}"#.into(),
    )
    .unwrap();
    let told = held.push(message(PushOp::Update, Kind::ConfigMap, "c1", Some(3), object)).await;
    assert_eq!(told, Some(WantedChange::ObjectChanged(key(Kind::ConfigMap))));
}

#[tokio::test]
async fn the_answer_to_a_patch_becomes_the_stored_pod_and_brings_news() {
    let held = Held::new();
    held.pod(PushOp::Insert, "u1", 5, "a").await;
    let answer = async |object: RawJson| {
        let key = key(Kind::Pod);
        held.store.write(move |tx| patched_pod(tx, &key, &object)).await.unwrap()
    };
    // Only the status and the version changed.
    assert_eq!(answer(pod_json("u1", 6, "a")).await, None);
    assert!(held.row("default/pod/web-0").await.unwrap().contains(r#""resourceVersion":"6""#));
    // Without kind and apiVersion, as answers have it, and with a new image.
    let text = pod_json("u1", 7, "b").get().replace(r#""kind":"Pod","apiVersion":"v1","#, "");
    assert_eq!(image(answer(RawJson::parse(text).unwrap()).await), "b");
    assert!(held.row("default/pod/web-0").await.unwrap().contains(r#""kind":"Pod""#));
    // Another incarnation, and a pod that is gone meanwhile.
    assert_eq!(answer(pod_json("u2", 8, "c")).await, None);
    held.push(bare("u1")).await;
    assert_eq!(answer(pod_json("u1", 9, "d")).await, None);
    assert_eq!(held.row("default/pod/web-0").await, None);
}

#[tokio::test]
async fn an_answer_that_is_older_than_what_bears_its_name_now_changes_nothing() {
    let held = Held::new();
    let map = |uid: &str, version: u64| {
        RawJson::parse(format!(
            r#"{{"metadata":{{"name":"web-0","uid":"{uid}","resourceVersion":"{version}"}}}}"#
        ))
        .unwrap()
    };
    let answered = async |object: RawJson| {
        let key = key(Kind::ConfigMap);
        held.store.write(move |tx| answer(tx, &key, &object)).await.unwrap()
    };
    assert!(answered(map("old", 4)).await.is_some());
    held.push(message(PushOp::Insert, Kind::ConfigMap, "new", Some(6), map("new", 6))).await;
    assert_eq!(answered(map("old", 5)).await, None);
    let stored = held.row("default/configmap/web-0").await.unwrap();
    assert!(stored.contains(r#""uid":"new""#), "{stored}");
    assert!(answered(map("newer", 9)).await.is_some());
}

#[tokio::test]
async fn an_error_in_the_place_of_an_object_is_not_stored() {
    let held = Held::new();
    for text in
        [r#"{"ErrStatus":{"code":404}}"#, "{}", r#"{"metadata":{"name":"other","uid":"x"}}"#]
    {
        let (key, object) = (key(Kind::ConfigMap), RawJson::parse(text.into()).unwrap());
        let told = held.store.write(move |tx| answer(tx, &key, &object)).await.unwrap();
        assert_eq!(told, None);
    }
    assert_eq!(held.row("default/configmap/web-0").await, None);
}

#[test]
fn resources_are_guessed_as_the_original_guesses_them() {
    for (kind, resource) in [
        ("pod", "pods"),
        ("ingress", "ingresses"),
        ("networkpolicy", "networkpolicies"),
        ("endpoints", "endpoints"),
        ("leases", "leases"),
    ] {
        assert_eq!(plural(kind), resource);
    }
}

#[tokio::test]
async fn a_new_pod_does_not_start_from_a_configmap_that_nobody_used_since() {
    let held = Held::new();
    let named = |kind, name: &str, spec: &str| {
        let object = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"{name}","resourceVersion":"1"}},"spec":{spec}}}"#
        );
        let key = ObjectKey::new("default".parse().unwrap(), kind, name);
        let object = RawJson::parse(object).unwrap();
        ObjectPush { key, ..message(PushOp::Update, Kind::Pod, name, Some(1), object) }
    };
    let reads = |name: &str, what: &str| {
        let env = format!(r#"[{{"configMapRef":{{"name":"{what}"}}}}]"#);
        named(Kind::Pod, name, &format!(r#"{{"containers":[{{"name":"c","envFrom":{env}}}]}}"#))
    };
    for name in ["old", "shared", "other"] {
        held.push(named(Kind::ConfigMap, name, "{}")).await;
    }
    held.push(reads("first", "shared")).await;
    held.push(named(Kind::ConfigMap, "shared", "{}")).await;
    for pod in [reads("second", "shared"), reads("third", "old")] {
        held.push(pod).await;
    }
    let doubtful = async |name: &str| {
        assert!(held.row(&format!("default/configmap/{name}")).await.is_some(), "{name} is lost");
        held.row(&format!("default/configmap/{name}/doubt")).await.is_some()
    };
    assert!(!doubtful("shared").await, "another pod keeps it fresh");
    assert!(!doubtful("other").await, "it does not use that");
    assert!(doubtful("old").await, "the cloud is to be asked first");
    held.push(named(Kind::ConfigMap, "old", "{}")).await;
    assert!(!doubtful("old").await, "it came anew");
    held.push(reads("third", "old")).await;
    assert!(!doubtful("old").await, "the pod is new no longer");
}

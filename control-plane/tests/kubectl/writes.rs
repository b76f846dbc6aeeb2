//! Writes by hand whose answers kubectl does not show as they are. The answers are those that a
//! kube-apiserver 1.33 gave to the same requests.

use serde_json::{Value, json};

use crate::support::Cluster;
use crate::wire::{Answer, Wire};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(metadata: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}})
        .to_string()
}

async fn put(wire: &Wire, path: &str, body: &Value) -> Answer {
    wire.ask("PUT", path, "application/json", body.to_string()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_names_another_object_or_no_revision_is_refused_as_the_store_refuses_it() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let made = wire.post(MAPS, map(&json!({"name": "m"}))).await.value();
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let at = format!("{MAPS}/m");
    let with = |metadata: Value| {
        let mut o = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
        json_patch::merge(&mut o["metadata"], &metadata);
        o
    };
    assert_eq!(
        put(&wire, &at, &with(json!({"resourceVersion": "abc"}))).await.status(),
        (500, String::new(), "strconv.ParseUint: parsing \"abc\": invalid syntax".to_owned())
    );
    assert_eq!(
        put(&wire, &at, &with(json!({"uid": "abc"}))).await.status(),
        (
            409,
            "Conflict".to_owned(),
            format!(
                "Operation cannot be fulfilled on configmaps \"m\": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/m, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: abc, UID in object meta: {uid}"
            )
        )
    );
    assert_eq!(
        put(&wire, &at, &with(json!({"deletionTimestamp": "2001-01-01T00:00:00Z"}))).await.status(),
        (
            422,
            "Invalid".to_owned(),
            "ConfigMap \"m\" is invalid: metadata.deletionTimestamp: Invalid value: 2001-01-01 00:00:00 +0000 UTC: field is immutable".to_owned()
        )
    );
    // The first revision there could be names none.
    assert_eq!(put(&wire, &at, &with(json!({"resourceVersion": "0"}))).await.code, 200);
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    assert_eq!(wire.post(leases, lease.to_string()).await.code, 201);
    assert_eq!(
        put(&wire, &format!("{leases}/l"), &lease).await.status(),
        (
            422,
            "Invalid".to_owned(),
            "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update".to_owned()
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_makes_the_kinds_that_may_be_made_so_and_no_others() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}]}});
    let at = "/api/v1/namespaces/default/services/s";
    let made = put(&wire, at, &service).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert!(made.value()["spec"]["clusterIP"].is_string(), "{}", made.text);
    assert_eq!(put(&wire, at, &service).await.code, 200);
    let named: Value = serde_json::from_str(&map(&json!({"name": "m"}))).unwrap();
    assert_eq!(
        put(&wire, &format!("{MAPS}/m"), &named).await.status(),
        (404, "NotFound".to_owned(), "configmaps \"m\" not found".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_object_has_a_name_and_no_revision_and_a_dry_run_leaves_none() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    assert_eq!(
        wire.post(MAPS, map(&json!({"name": "m", "resourceVersion": "5"}))).await.status(),
        (
            500,
            String::new(),
            "resourceVersion should not be set on objects to be created".to_owned()
        )
    );
    assert_eq!(
        wire.post(MAPS, map(&json!({"name": "", "generateName": ""}))).await.status(),
        (
            422,
            "Invalid".to_owned(),
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required".to_owned()
        )
    );
    let made = wire.post(MAPS, map(&json!({"generateName": "m-"}))).await.value();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("m-") && name.len() == 7, "{name}");
    let dry = |value: &str| format!("{MAPS}?dryRun={value}");
    let (code, reason, message) =
        wire.post(&dry("Some"), map(&json!({"name": "d"}))).await.status();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(
        message,
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: []string{\"Some\"}: supported values: \"All\""
    );
    assert_eq!(wire.post(&dry("All"), map(&json!({"name": "d"}))).await.code, 201);
    assert_eq!(wire.get(&format!("{MAPS}/d")).await.code, 404);
    // What is there already is told in a dry run, too; and that a name was made in vain.
    let again = map(&json!({"name": name, "generateName": "m-"}));
    assert_eq!(
        wire.post(&dry("All"), again).await.status(),
        (
            409,
            "AlreadyExists".to_owned(),
            format!(
                "configmaps \"{name}\" already exists, the server was not able to generate a unique name for the object"
            )
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_are_named_in_full_and_only_one_controls() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let owner = |kind: &str, controller: bool| json!({"apiVersion": "v1", "kind": kind, "name": "o", "uid": "u", "controller": controller});
    for (owners, expected) in [
        (
            json!([{"apiVersion": "v1", "kind": "", "name": "o", "uid": "u"}]),
            "metadata.ownerReferences.kind: Invalid value: \"\": kind must not be empty",
        ),
        (
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": ""}]),
            "metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty",
        ),
        (
            json!([owner("Pod", true), owner("Secret", true)]),
            "Only one reference can have Controller set to true. Found \"true\" in references for Pod/o and Secret/o",
        ),
        (json!([owner("Event", false)]), "/v1, Kind=Event is disallowed from being an owner"),
    ] {
        let body = map(&json!({"name": "m", "ownerReferences": owners}));
        let (code, _, message) = wire.post(&format!("{MAPS}?dryRun=All"), body).await.status();
        assert_eq!(code, 422, "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_kind_is_told_from_one_that_nobody_knows() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let told = async |version: &str, kind: &str| {
        let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "m"}});
        wire.post(MAPS, body.to_string()).await.status().2
    };
    let nobody = |version: &str, plain: &str, kind: &str| {
        format!(
            "{kind} in version \"{plain}\" cannot be handled as a ConfigMap: no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )
    };
    assert_eq!(told("v1", "Foo").await, nobody("v1", "v1", "Foo"));
    assert_eq!(told("apps/v1", "ConfigMap").await, nobody("apps/v1", "v1", "ConfigMap"));
    assert_eq!(
        told("v1", "Secret").await,
        "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"
    );
}

// The text that `kubectl scale` and autoscalers select pods by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_says_the_whole_selector() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let labels = json!({"a": "b", "c": "x"});
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"},
        "spec": {"replicas": 0,
            "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [
                {"key": "d", "operator": "DoesNotExist"},
                {"key": "c", "operator": "In", "values": ["y", "x"]}]},
            "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let made = wire.post(sets, set.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let scale = wire.get(&format!("{sets}/r/scale")).await.value();
    assert_eq!(scale["status"]["selector"], "a=b,c in (x,y),!d");
}

// Who takes all fields away owns none afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_are_gone_are_owned_by_nobody() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    assert_eq!(wire.post(MAPS, map(&json!({"name": "m"}))).await.code, 201);
    let patch = json!({"data": null}).to_string();
    let kind = "application/merge-patch+json";
    let left = wire.ask("PATCH", &format!("{MAPS}/m"), kind, patch).await.value();
    assert!(left.get("data").is_none(), "{left}");
    assert!(left["metadata"].get("managedFields").is_none(), "{left}");
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  paused: true
  replicas: 1
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_is_applied_by_who_then_owns_the_number_and_is_shown_as_a_table() {
    let c = Cluster::start().await;
    c.apply(DEPLOYMENT).await;
    let wire = Wire::of(&c);
    let at = "/apis/apps/v1/namespaces/default/deployments/web";
    let apply = |query: &'static str, replicas: Value| {
        let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "web"}, "spec": {"replicas": replicas}});
        let (wire, path) = (wire.clone(), format!("{at}/scale{query}"));
        async move { wire.ask("PATCH", &path, "application/apply-patch+yaml", scale.to_string()).await }
    };
    let (code, _, why) = apply("", json!(2)).await.status();
    assert_eq!(code, 422, "{why}");
    assert!(why.ends_with("fieldManager: Required value: is required for apply patch"), "{why}");
    assert_eq!(
        apply("?fieldManager=hpa", json!(2)).await.status(),
        (
            409,
            "Conflict".to_owned(),
            "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using autoscaling/v1: .spec.replicas".to_owned()
        )
    );
    let forced = apply("?fieldManager=hpa&force=true", json!(2)).await;
    assert_eq!(forced.value()["spec"], json!({"replicas": 2}), "{}", forced.text);
    let (code, _, why) = apply("?fieldManager=hpa", json!(-1)).await.status();
    assert_eq!(code, 422, "{why}");
    let owners = wire.ask("GET", at, "application/json", "").await.value();
    let mine = owners["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["manager"] == "hpa")
        .unwrap();
    assert_eq!(
        (&mine["operation"], &mine["subresource"], &mine["apiVersion"], &mine["fieldsV1"]),
        (
            &json!("Apply"),
            &json!("scale"),
            &json!("apps/v1"),
            &json!({"f:spec": {"f:replicas": {}}})
        )
    );
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = wire.ask_with("GET", &format!("{at}/scale"), &accept, "").await.value();
    let names: Vec<&Value> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|d| &d["name"]).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(
        &table["rows"][0]["cells"].as_array().unwrap()[..3],
        [json!("web"), json!(2), json!(0)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_a_name_is_told_in_two_ways() {
    let c = Cluster::start().await;
    let (code, _, why) =
        Wire::of(&c).post(MAPS, map(&json!({"name": "m", "labels": {"": "b"}}))).await.status();
    assert_eq!(code, 422);
    let both = "[metadata.labels: Invalid value: \"\": name part must be non-empty, metadata.labels: Invalid value: \"\": name part must consist of";
    assert!(why.contains(both), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_says_who_asked_for_what_and_a_new_node_takes_nothing_yet() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let at = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?fieldManager=me";
    let answer = wire.post(at, review.to_string()).await.value();
    let record = &answer["metadata"]["managedFields"][0];
    assert_eq!((&record["manager"], &record["operation"]), (&json!("me"), &json!("Update")));
    assert_eq!(
        record["fieldsV1"],
        json!({"f:spec": {"f:resourceAttributes": {".": {}, "f:resource": {}, "f:verb": {}}}})
    );
    let node = wire.post("/api/v1/nodes", json!({"metadata": {"name": "n"}}).to_string()).await;
    assert_eq!(
        node.value()["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_whose_order_leaves_out_what_it_puts_in_is_refused() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    wire.post(MAPS, map(&json!({"name": "m"}))).await;
    let at = format!("{MAPS}/m");
    let patch = |p: Value| {
        let (wire, at) = (wire.clone(), at.clone());
        let kind = "application/strategic-merge-patch+json";
        async move { wire.ask("PATCH", &at, kind, p.to_string()).await }
    };
    let wrong =
        json!({"metadata": {"$setElementOrder/finalizers": ["x/y"], "finalizers": ["c/d"]}});
    assert_eq!(
        patch(wrong).await.status(),
        (
            500,
            String::new(),
            "The order in patch list:\n[c/d]\n doesn't match $setElementOrder list:\n[x/y]\n"
                .to_owned()
        )
    );
    // Where there is no list yet, the elements are taken as they are.
    let none = json!({"metadata": {"ownerReferences": [{"$patch": "delete"}]}});
    assert_eq!(patch(none).await.code, 200);
    let bare = patch(json!({"metadata": {"ownerReferences": [{"name": "o"}]}})).await.status();
    assert_eq!((bare.0, bare.1.as_str()), (422, "Invalid"), "{}", bare.2);
}

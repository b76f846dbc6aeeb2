//! Custom kinds, amounts and applied configurations by hand. The answers are those that a kube-apiserver
//! 1.33 gave to the same requests.

use serde_json::{Value, json};

use crate::WIDGETS;
use crate::support::Cluster;
use crate::wire::{Answer, PATIENCE, Wire, merge};

const OBJECTS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn defined() -> (Cluster, Wire) {
    let c = Cluster::start().await;
    c.apply(WIDGETS).await;
    c.ok(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"])
        .await;
    let wire = Wire::of(&c);
    (c, wire)
}

async fn apply(wire: &Wire, path: &str, who: &str, o: Value) -> Answer {
    let path = format!("{path}?fieldManager={who}");
    wire.ask("PATCH", &path, "application/apply-patch+yaml", o.to_string()).await
}

fn widget(rest: Value) -> Value {
    let mut o =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    json_patch::merge(&mut o, &rest);
    o
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_of_a_custom_kind_is_nobodys_until_somebody_says_it() {
    let (_c, wire) = defined().await;
    let at = format!("{OBJECTS}/w");
    let made =
        apply(&wire, &at, "a", widget(json!({"metadata": {"labels": {"x": "y"}}, "spec": {}})));
    assert_eq!(made.await.value()["spec"]["size"], 3);
    let said = apply(&wire, &at, "b", widget(json!({"spec": {"size": 5}}))).await;
    assert_eq!((said.code.as_u16(), &said.value()["spec"]["size"]), (200, &json!(5)));
    let other = apply(&wire, &at, "c", widget(json!({"spec": {"size": 6}}))).await;
    assert_eq!(
        other.status(),
        (
            409,
            "Conflict".to_owned(),
            "Apply failed with 1 conflict: conflict with \"b\": .spec.size".to_owned()
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_of_a_custom_object_changes_on_its_own_path_only() {
    let (_c, wire) = defined().await;
    let sent = widget(json!({"spec": {"size": 2}, "status": {"size": 7}}));
    let made = wire.post(OBJECTS, sent.to_string()).await.value();
    assert_eq!(made.get("status"), None);
    let at = format!("{OBJECTS}/w");
    let ignored = merge(&wire, &at, json!({"status": {"size": 9}})).await.value();
    assert_eq!((ignored.get("status"), &ignored["metadata"]["generation"]), (None, &json!(1)));
    let path = format!("{at}/status");
    let both =
        json!({"spec": {"size": 9}, "status": {"size": 4}, "metadata": {"labels": {"x": "y"}}});
    let told = merge(&wire, &path, both).await.value();
    assert_eq!(
        (&told["spec"]["size"], &told["status"]["size"], told["metadata"].get("labels")),
        (&json!(2), &json!(4), None)
    );
    assert_eq!(wire.get(&path).await.value()["status"], json!({"size": 4}));
    let applied =
        apply(&wire, &path, "s", widget(json!({"spec": {"size": 8}, "status": {"size": 4}})));
    assert_eq!(applied.await.value()["spec"]["size"], 2);
}

// "Validation ratcheting" of
// https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_a_stricter_definition_would_refuse_can_still_get_a_label() {
    let (_c, wire) = defined().await;
    let at = format!("{OBJECTS}/w");
    let made = wire.post(OBJECTS, widget(json!({"spec": {"size": 8}})).to_string()).await;
    assert_eq!(made.code, 201);
    let size = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum";
    let stricter = json!([{"op": "add", "path": size, "value": 4}]).to_string();
    let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    let changed = wire.ask("PATCH", crd, "application/json-patch+json", stricter).await;
    assert_eq!(changed.code, 200, "{}", changed.text);
    let refused = async {
        let try_it = format!("{at}?dryRun=All");
        while merge(&wire, &try_it, json!({"spec": {"size": 9}})).await.code != 422 {}
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the new schema holds");
    let labelled = merge(&wire, &at, json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(labelled.code, 200, "{}", labelled.text);
    assert_eq!(merge(&wire, &at, json!({"spec": {"size": 2}})).await.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_are_kept_in_one_way_and_a_scale_without_a_number_means_none() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let resources =
        json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.5}});
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}}}});
    let made = wire.post(DEPLOYMENTS, web.to_string()).await.value();
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})
    );
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "default"}});
    let path = format!("{DEPLOYMENTS}/web/scale");
    let put = wire.ask("PUT", &path, "application/json", scale.to_string()).await;
    assert_eq!(put.code, 200, "{}", put.text);
    let now = wire.get(&format!("{DEPLOYMENTS}/web")).await.value();
    assert_eq!(now["spec"]["replicas"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_anew_says_its_name_and_no_uid() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let map =
        |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    let at = format!("{MAPS}/m");
    assert_eq!(
        apply(&wire, &at, "a", map(json!({}))).await.status(),
        (
            400,
            "BadRequest".to_owned(),
            "the name of the object (m based on URL) was undeterminable: name must be provided"
                .to_owned()
        )
    );
    let known = apply(&wire, &at, "a", map(json!({"name": "m", "uid": "u"}))).await.status();
    // What a kube-apiserver 1.33 answers.
    assert_eq!(
        known,
        (
            409,
            "Conflict".to_owned(),
            "Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid u, and no existing object was found".to_owned()
        )
    );
    let made = apply(&wire, &at, "a", map(json!({"name": "m", "resourceVersion": "7"}))).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(apply(&wire, &at, "a", map(json!({"labels": {"x": "y"}}))).await.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_seen_that_a_definition_is_established_finds_its_kind_served() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let names: Vec<String> = (0..16).map(|i| format!("k{i}")).collect();
    let define = |name: &String| {
        let versions = json!([{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]);
        let spec = json!({"group": "example.com", "scope": "Cluster", "versions": versions,
            "names": {"plural": name, "singular": name, "kind": name}});
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition", "metadata": {"name": format!("{name}.example.com")},
            "spec": spec});
        let wire = wire.clone();
        async move { wire.post(DEFINITIONS, definition.to_string()).await.code }
    };
    let made = futures::future::join_all(names.iter().map(define)).await;
    assert!(made.iter().all(|code| code.as_u16() == 201), "{made:?}");
    let use_at_once = |name: &String| {
        let (wire, name) = (wire.clone(), name.clone());
        async move {
            let at = format!("{DEFINITIONS}/{name}.example.com");
            let established = |d: &Value| {
                let conditions = d["status"]["conditions"].as_array().into_iter().flatten();
                conditions.clone().any(|c| c["type"] == "Established" && c["status"] == "True")
            };
            while !established(&wire.get(&at).await.value()) {}
            wire.get(&format!("/apis/example.com/v1/{name}")).await.code.as_u16()
        }
    };
    let used = futures::future::join_all(names.iter().map(use_at_once));
    let used = tokio::time::timeout(PATIENCE, used).await.expect("all are established");
    assert_eq!(used, [200; 16]);
}

// Groups that are not Kubernetes' own follow its own by name, with the best version first:
// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/api-service-v1/#APIServiceSpec>
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_kinds_with_one_short_name_the_first_group_by_name_is_meant() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let define = async |plural: &str, group: &str, version: &str, short: &str| {
        let spec = json!({"group": group, "scope": "Cluster",
            "names": {"plural": plural, "singular": plural, "kind": plural, "shortNames": [short]},
            "versions": [{"name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]});
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")}, "spec": spec});
        assert_eq!(wire.post(DEFINITIONS, definition.to_string()).await.code, 201);
        let name = format!("crd/{plural}.{group}");
        c.ok(&["wait", "--for=condition=Established", &name, "--timeout=10s"]).await;
    };
    define("as", "zz.example.com", "v1beta1", "a").await;
    define("bs", "zz.example.com", "v1", "b").await;
    define("foos", "bar.example.com", "v1", "exmp").await;
    define("examples", "test.example.com", "v1", "exmp").await;

    let groups = wire.get("/apis").await.value();
    let groups: Vec<String> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| {
            let versions =
                g["versions"].as_array().unwrap().iter().map(|v| v["version"].as_str().unwrap());
            format!("{} {}", g["name"].as_str().unwrap(), versions.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(
        groups,
        [
            "apps v1",
            "authentication.k8s.io v1",
            "authorization.k8s.io v1",
            "batch v1",
            "certificates.k8s.io v1",
            "policy v1",
            "rbac.authorization.k8s.io v1",
            "storage.k8s.io v1",
            "admissionregistration.k8s.io v1",
            "apiextensions.k8s.io v1",
            "coordination.k8s.io v1",
            "discovery.k8s.io v1",
            "bar.example.com v1",
            "test.example.com v1",
            "zz.example.com v1 v1beta1",
        ]
    );
    let foo =
        json!({"apiVersion": "bar.example.com/v1", "kind": "foos", "metadata": {"name": "a-foo"}});
    assert_eq!(wire.post("/apis/bar.example.com/v1/foos", foo.to_string()).await.code, 201);
    let said = c.ok(&["get", "exmp", "-o", "name"]).await;
    assert_eq!(said.trim(), "foos.bar.example.com/a-foo");
}

// "Defaulting happens on the object .. when reading from etcd using the storage version defaults":
// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting>
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_has_the_defaults_and_fields_of_the_definition_as_it_is_now() {
    let (_c, wire) = defined().await;
    let field = |name: &str| {
        format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{name}")
    };
    let change = async |patch: Value| {
        let path = format!("{DEFINITIONS}/widgets.example.com");
        let kind = "application/json-patch+json";
        let changed = wire.ask("PATCH", &path, kind, patch.to_string()).await;
        assert_eq!(changed.code.as_u16(), 200, "{}", changed.text);
    };
    change(json!([{"op": "add", "path": field("colour"), "value": {"type": "string"}}])).await;
    let sent = widget(json!({"spec": {"size": 2, "colour": "red"}}));
    let made = wire.post(OBJECTS, sent.to_string()).await;
    assert_eq!(made.value()["spec"]["colour"], "red", "{}", made.text);
    let shape = json!({"type": "string", "default": "round"});
    change(json!([
        {"op": "add", "path": field("shape"), "value": shape},
        {"op": "remove", "path": field("colour")},
    ]))
    .await;
    let spec = json!({"size": 2, "shape": "round"});
    let read = wire.get(&format!("{OBJECTS}/w")).await.value();
    assert_eq!(read["spec"], spec);
    assert_eq!(read["metadata"]["resourceVersion"], made.value()["metadata"]["resourceVersion"]);
    assert_eq!(wire.get(OBJECTS).await.value()["items"][0]["spec"], spec);
    let watched = wire.get(&format!("{OBJECTS}?watch=true&timeoutSeconds=1")).await;
    let first: Value = serde_json::from_str(watched.text.lines().next().unwrap()).unwrap();
    assert_eq!(first["object"]["spec"], spec);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let changed = merge(&wire, &format!("{OBJECTS}/w"), label).await;
    assert_eq!(changed.value()["spec"], spec);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_has_no_form_of_a_table() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let ask = async |accept: &str| {
        let headers = [("accept", accept), ("content-type", "application/json")];
        wire.ask_with("POST", path, &headers, review.to_string()).await
    };
    assert_eq!(ask(table).await.code.as_u16(), 406);
    let either = ask(&format!("{table},application/json")).await;
    assert_eq!(either.value()["kind"], "SelfSubjectAccessReview", "{}", either.text);
}

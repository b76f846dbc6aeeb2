//! What of an object is counted, kept and left out when it is written.
//! The answers are those that a kube-apiserver 1.33 gave to the same requests.

use serde_json::{Value, json};

use crate::support::Cluster;
use crate::wire::{Wire, merge};

const DEFAULT: &str = "/api/v1/namespaces/default";

// https://kubernetes.io/docs/concepts/workloads/pods/#pod-generation
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_tolerations_come_back_has_not_changed() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"schedulerName": "none",
        "containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(wire.post(&format!("{DEFAULT}/pods"), pod.to_string()).await.code, 201);
    let at = format!("{DEFAULT}/pods/p");
    let same = merge(&wire, &at, json!({"spec": {"tolerations": []}})).await.value();
    assert_eq!(same["metadata"]["generation"], 1);
    let other = merge(&wire, &at, json!({"spec": {"activeDeadlineSeconds": 60}})).await.value();
    assert_eq!(other["metadata"]["generation"], 2);
    // A pod that runs nowhere ends at once, and says so.
    let gone = wire.ask("DELETE", &at, "application/json", String::new()).await.value();
    assert_eq!(gone["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(gone["metadata"]["deletionTimestamp"].is_string(), "{gone}");
    assert_eq!(gone["metadata"]["generation"], 3);
    assert_eq!(wire.get(&at).await.code, 404);
}

// https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/csi-driver-v1/
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_generation_of_a_storage_driver_counts_its_changes_only() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let drivers = "/apis/storage.k8s.io/v1/csidrivers";
    let driver = json!({"metadata": {"name": "d.example"}, "spec": {}}).to_string();
    let made = wire.post(drivers, driver).await.value();
    assert_eq!(made["metadata"].get("generation"), None);
    let patch = json!({"spec": {"podInfoOnMount": true}});
    let changed = merge(&wire, &format!("{drivers}/d.example"), patch).await.value();
    assert_eq!(changed["metadata"]["generation"], 1);
}

// https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_let_go_by_whoever_it_waits_for() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let namespace = |all: Value| json!({"metadata": {"name": "n"}, "spec": {"finalizers": all}});
    let made = wire.post("/api/v1/namespaces", namespace(json!([])).to_string()).await;
    assert_eq!(made.code, 201);
    let at = "/api/v1/namespaces/n/finalize";
    let put = |all: Value| wire.ask("PUT", at, "application/json", namespace(all).to_string());
    let (code, _, why) = put(json!(["a"])).await.status();
    assert_eq!(
        (code, why.as_str()),
        (
            422,
            "Namespace \"n\" is invalid: spec.finalizers[0]: Invalid value: \"a\": name is neither a standard finalizer name nor is it fully qualified"
        )
    );
    let kept = put(json!(["kubernetes", "b/c"])).await.value();
    assert_eq!(kept["spec"]["finalizers"], json!(["kubernetes", "b/c"]));
    let entries = kept["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().any(|e| e["subresource"] == "finalize"), "{entries:?}");
    let phase = json!({"status": {"phase": "Foo"}});
    let (code, _, why) = merge(&wire, "/api/v1/namespaces/n/status", phase).await.status();
    assert_eq!(
        (code, why.as_str()),
        (
            422,
            "Namespace \"n\" is invalid: status.Phase: Invalid value: \"Foo\": may only be 'Active' if `deletionTimestamp` is empty"
        )
    );
    assert_eq!(
        wire.ask("DELETE", "/api/v1/namespaces/n", "application/json", String::new()).await.code,
        200
    );
    // Kubernetes' own part is done soon; that of another is theirs to do.
    let path = "jsonpath={.spec.finalizers}";
    c.becomes(&["get", "namespace", "n", "-o", path], "[\"b/c\"]").await;
    assert_eq!(put(json!([])).await.code, 200);
    assert_eq!(wire.get("/api/v1/namespaces/n").await.code, 404);
}

// What Go leaves out of an object stays the applier's, https://pkg.go.dev/encoding/json#Marshal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_nothing_is_not_kept_but_belongs_to_who_applied_it() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let spec = json!({"hostNetwork": false, "hostname": "", "schedulerName": "none",
        "containers": [{"name": "c", "image": "i", "tty": false, "env": [{"name": "A", "value": ""}]}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
    let made = wire.post(&format!("{DEFAULT}/pods"), pod.to_string()).await.value();
    for (at, field) in
        [("/spec", "hostNetwork"), ("/spec", "hostname"), ("/spec/containers/0", "tty")]
    {
        assert_eq!(made.pointer(at).unwrap().get(field), None, "{field}");
    }
    assert_eq!(made["spec"]["containers"][0]["env"], json!([{"name": "A"}]));
    assert!(!made["metadata"]["managedFields"].to_string().contains("hostNetwork"));
    let mut applied = pod.clone();
    applied["metadata"]["name"] = "q".into();
    let at = format!("{DEFAULT}/pods/q?fieldManager=m");
    for code in [201, 200] {
        let answer =
            wire.ask("PATCH", &at, "application/apply-patch+yaml", applied.to_string()).await;
        assert_eq!(answer.code, code, "{}", answer.text);
        let answer = answer.value();
        assert_eq!(answer["spec"].get("hostNetwork"), None);
        let owned = &answer["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        assert_eq!(owned["f:hostNetwork"], json!({}), "{owned}");
    }
}

// https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_grows_if_its_class_says_that_it_can() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let class = json!({"metadata": {"name": "fixed"}, "provisioner": "example.com/p"});
    assert_eq!(
        wire.post("/apis/storage.k8s.io/v1/storageclasses", class.to_string()).await.code,
        201
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "fixed", "resources": {"requests": {"storage": "1Gi"}}}});
    let claims = format!("{DEFAULT}/persistentvolumeclaims");
    assert_eq!(wire.post(&claims, claim.to_string()).await.code, 201);
    let at = format!("{claims}/c");
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let refused = |why: &str| (403, format!("persistentvolumeclaims \"c\" is forbidden: {why}"));
    // One that has no volume yet keeps what it asked for.
    assert_eq!(merge(&wire, &at, more.clone()).await.code, 422);
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    assert_eq!(merge(&wire, &format!("{at}/status"), bound).await.code, 200);
    let (code, _, why) = merge(&wire, &at, more.clone()).await.status();
    assert_eq!(
        (code, why),
        refused(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
        )
    );
    let can = json!({"allowVolumeExpansion": true});
    assert_eq!(merge(&wire, "/apis/storage.k8s.io/v1/storageclasses/fixed", can).await.code, 200);
    assert_eq!(merge(&wire, &at, more).await.code, 200);
}

// https://kubernetes.io/docs/concepts/services-networking/dual-stack/#headless-services-without-selector
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_is_given_belongs_to_nobody() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let services = format!("{DEFAULT}/services");
    let open = json!({"metadata": {"name": "open"}, "spec": {"clusterIP": "None"}});
    let open = wire.post(&services, open.to_string()).await.value()["spec"].clone();
    assert_eq!(open["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(open["ipFamilyPolicy"], "RequireDualStack");
    let named =
        json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "a.b"}});
    assert_eq!(wire.post(&services, named.to_string()).await.code, 201);
    let at = format!("{services}/s");
    let balanced =
        json!({"spec": {"type": "LoadBalancer", "externalName": null, "ports": [{"port": 80}]}});
    let balanced = merge(&wire, &at, balanced).await.value();
    assert!(balanced["spec"]["clusterIP"].is_string(), "{balanced}");
    assert!(balanced["spec"]["ports"][0]["nodePort"].is_number(), "{balanced}");
    let owned = balanced["metadata"]["managedFields"].to_string();
    for field in ["f:clusterIP", "f:ipFamilies", "f:nodePort"] {
        assert!(!owned.contains(field), "{field}: {owned}");
    }
    assert!(owned.contains("f:port"), "{owned}");
    let given =
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "a.b"}]}}});
    let status = merge(&wire, &format!("{at}/status"), given).await.value()["status"].clone();
    assert_eq!(
        status["loadBalancer"]["ingress"],
        json!([{"ip": "1.2.3.4", "ipMode": "VIP"}, {"hostname": "a.b"}])
    );
}

// What a kube-apiserver 1.33 answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_and_bindings_are_refused_with_all_that_is_wrong() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    for (kind, key, text, expected) in [
        ("kubernetes.io/ssh-auth", "ssh-privatekey", "", "data[ssh-privatekey]: Required value"),
        (
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            "nope",
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'o' in literal null (expecting 'u')",
        ),
        (
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            "[]",
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ] {
        let secret = json!({"metadata": {"name": "a"}, "type": kind, "stringData": {key: text}});
        let answer = wire.post(&format!("{DEFAULT}/secrets"), secret.to_string()).await.status();
        assert_eq!((answer.0, answer.2), (422, format!("Secret \"a\" is invalid: {expected}")));
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"schedulerName": "none", "containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(wire.post(&format!("{DEFAULT}/pods"), pod.to_string()).await.code, 201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Foo", "name": ""}});
    let at = format!("{DEFAULT}/pods/p/binding");
    assert_eq!(
        wire.post(&at, binding.to_string()).await.status().2,
        "[target.kind: Unsupported value: \"Foo\": supported values: \"Node\", \"<empty>\", target.name: Required value]"
    );
    let account = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "ServiceAccount", "name": "s"}, {"kind": "User", "name": "u"}]});
    let at = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    assert_eq!(wire.post(at, account.to_string()).await.code, 201);
    let table = c.ok(&["get", "rolebinding", "b", "-o", "wide", "--no-headers"]).await;
    assert!(table.contains(" /s"), "{table}");
}

// The words are those of Kubernetes' controller of stateful sets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_says_why_it_has_no_pod() {
    let c = Cluster::start().await;
    let set = r#"{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "replicas": 1, "serviceName": "web", "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i",
            "volumeMounts": [{"name": "none", "mountPath": "/x"}]}]}}}}"#;
    c.apply(set).await;
    c.becomes(
        &[
            "get",
            "events",
            "--field-selector=involvedObject.name=web,reason=FailedCreate",
            "-o",
            "jsonpath={.items[0].message}",
        ],
        "create Pod web-0 in StatefulSet web failed error: Pod \"web-0\" is invalid: spec.containers[0].volumeMounts[0].name: Not found: \"none\"",
    )
    .await;
}

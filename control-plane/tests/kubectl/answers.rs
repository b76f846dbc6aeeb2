//! What a client is told besides the object: warnings, the reason of a refusal, the form of an answer.
//! The answers are those that a kube-apiserver 1.33 gave to the same requests.

use serde_json::{Value, json};

use crate::support::Cluster;
use crate::wire::{Answer, Wire};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
        .to_string()
}

fn warnings(a: &Answer) -> Vec<String> {
    a.headers.get_all("warning").iter().map(|v| v.to_str().expect("a text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warnings_are_told_of_what_fails_too_and_in_the_order_of_the_text() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    assert_eq!(wire.post(MAPS, map("m")).await.code, 201);
    let twice = r#"{"spec":1,"metadata":{"boo":1,"name":"m"},"bogus":1}"#;
    let again = wire.post(MAPS, twice).await;
    assert_eq!(again.code, 409);
    let unknown = |f: &str| format!("299 - \"unknown field \\\"{f}\\\"\"");
    assert_eq!(warnings(&again), ["spec", "metadata.boo", "bogus"].map(unknown));
    let strict = wire.post(&format!("{MAPS}?fieldValidation=Strict"), twice).await;
    assert_eq!(
        strict.status().2,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"spec\", unknown field \"metadata.boo\", unknown field \"bogus\""
    );
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = json!({"spec": {"user": "u", "resourceAttributes": {"verb": "get"}}}).to_string();
    assert_eq!(warnings(&wire.post(review, asked).await), [unknown("spec.user")]);
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    let owned = json!({"metadata": {"name": "o", "ownerReferences": [owner, owner]}}).to_string();
    let made = wire.post(MAPS, owned).await;
    assert_eq!(made.value()["metadata"]["ownerReferences"], json!([owner]));
    assert!(warnings(&made)[0].contains("duplicate UID(s) observed: u"), "{:?}", made.headers);
    let yaml = "metadata: {name: yaml}\ndata:\n  a: b\n  a: c\n";
    let made = wire.ask("POST", MAPS, "application/yaml", yaml).await;
    assert_eq!(made.value()["data"], json!({"a": "c"}));
    assert_eq!(warnings(&made), ["299 - \"line 4: key \\\"a\\\" already set in map\""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_of_an_answer_is_the_one_that_is_wanted_most() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let accepting = async |accept: &str, path: &str| {
        wire.ask_with("GET", path, &[("accept", accept)], "").await
    };
    let kind = |a: &Answer| a.headers["content-type"].to_str().unwrap().to_owned();
    for path in [MAPS, "/apis", "/api/v1/namespaces/default/configmaps/none"] {
        let yaml = accepting("application/json;q=0.1,application/yaml", path).await;
        assert_eq!(kind(&yaml), "application/yaml", "{path}");
        let json = accepting("application/yaml;q=0.1,application/json", path).await;
        assert_eq!(kind(&json), "application/json", "{path}");
    }
    for (accept, message) in [
        ("text/html", "406: Not Acceptable\n\nAvailable representations: "),
        ("application/json;as=Foo", "only the following media types are accepted: "),
    ] {
        for path in [MAPS, "/apis"] {
            let (code, reason, said) = accepting(accept, path).await.status();
            assert_eq!((code, reason.as_str()), (406, "NotAcceptable"));
            assert_eq!(said, format!("{message}application/json, application/yaml"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_of_the_wrong_type_is_told_as_the_patch_it_is() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(wire.post(DEPLOYMENTS, deployment.to_string()).await.code, 201);
    let at = format!("{DEPLOYMENTS}/d");
    let merged = async |p: Value| wire.ask("PATCH", &at, STRATEGIC, p.to_string()).await.status();
    assert_eq!(
        merged(json!({"spec": {"template": {"spec": {"containers": {}}}}})).await,
        (
            422,
            "Invalid".to_owned(),
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[template:map[spec:map[containers:map[]]]]]\": cannot restore slice from map".to_owned()
        )
    );
    assert_eq!(
        merged(json!({"spec": {"template": {"spec": {"containers": [{"image": "c"}]}}}})).await,
        (
            500,
            String::new(),
            "map: map[image:c] does not contain declared merge key: name".to_owned()
        )
    );
    let applied = async |spec: Value| {
        let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec});
        wire.ask("PATCH", &format!("{at}?fieldManager=m"), APPLY, config.to_string()).await.status()
    };
    let untyped = "failed to create typed patch object (/; apps/v1, Kind=Deployment): ";
    assert_eq!(
        applied(json!({"replicas": "x"})).await,
        (
            500,
            String::new(),
            format!("{untyped}.spec.replicas: expected numeric (int or float), got string")
        )
    );
    assert_eq!(
        applied(json!({"replicas": 1.5})).await.2,
        "failed to convert new object (/; apps/v1, Kind=Deployment) to proper version: unable to convert unstructured object to apps/v1, Kind=Deployment: cannot convert float64 to int32"
    );
    let steps = json!([5]).to_string();
    let (code, _, said) =
        wire.ask("PATCH", &at, "application/json-patch+json", steps).await.status();
    assert_eq!(
        (code, said.as_str()),
        (
            400,
            "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_a_deletion_that_make_no_sense_delete_nothing() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    assert_eq!(wire.post(MAPS, map("m")).await.code, 201);
    let at = format!("{MAPS}/m");
    let delete =
        async |body: &str| wire.ask("DELETE", &at, "application/json", body.to_owned()).await;
    for (body, message) in [
        (
            "x",
            "couldn't get version/kind; json parse error: invalid character 'x' looking for beginning of value",
        ),
        (
            r#"{"gracePeriodSeconds":"x"}"#,
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
        (
            r#"{"preconditions":"x"}"#,
            "json: cannot unmarshal string into Go struct field DeleteOptions.preconditions of type v1.Preconditions",
        ),
        (
            r#"{"kind":"ConfigMap","apiVersion":"v1"}"#,
            "no kind \"ConfigMap\" is registered for version \"v1\" in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\"",
        ),
    ] {
        assert_eq!(delete(body).await.status(), (500, String::new(), message.to_owned()), "{body}");
    }
    let held = json!({"metadata": {"finalizers": ["a/b"]}}).to_string();
    assert_eq!(wire.ask("PATCH", &at, "application/merge-patch+json", held).await.code, 200);
    assert_eq!(delete("null").await.code, 200);
    assert_eq!(
        wire.post(MAPS, map("m")).await.status().2,
        "object is being deleted: configmaps \"m\" already exists"
    );
}

// So it always was, and so it is told: kubectl says what it wants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_deletes_a_job_by_hand_keeps_its_pods_and_is_told_so() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = json!({"metadata": {"name": "j"}, "spec": {"suspend": true, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(wire.post(jobs, job.to_string()).await.code, 201);
    let at = format!("{jobs}/j");
    let dry = wire.ask("DELETE", &format!("{at}?dryRun=All"), "application/json", "").await;
    assert_eq!(dry.value()["metadata"]["finalizers"], json!(["orphan"]));
    assert!(warnings(&dry)[0].contains("child pods are preserved by default"), "{:?}", dry.headers);
    let said = format!("{at}?propagationPolicy=Background");
    let gone = wire.ask("DELETE", &said, "application/json", "").await;
    assert_eq!((gone.code.as_u16(), warnings(&gone)), (200, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_no_revision_and_a_group_of_nobody_fail_as_in_kubernetes() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    assert_eq!(
        wire.get(&format!("{MAPS}?watch=true&resourceVersion=x")).await.status(),
        (
            500,
            String::new(),
            "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".to_owned()
        )
    );
    let (code, _, said) =
        wire.get(&format!("{MAPS}?watch=true&resourceVersionMatch=Exact")).await.status();
    assert_eq!(code, 422);
    assert!(said.ends_with("[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"), "{said}");
    let nobody = wire.ask_with("GET", MAPS, &[("impersonate-group", "g")], "").await;
    assert_eq!(nobody.code, 500);
    assert_eq!(
        nobody.text,
        format!(
            "Internal Server Error: \"{MAPS}\": requested [{{Group  g    }}] without impersonating a user\n"
        )
    );
}

// A file that `base64` wrote has lines, and so has a block of YAML.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_in_lines_is_kept_without_their_ends() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let secret = json!({"metadata": {"name": "s"}, "data": {"a": "aGVsbG8g\nd29ybGQ=\n"}});
    let made = wire.post("/api/v1/namespaces/default/secrets", secret.to_string()).await;
    assert_eq!(made.value()["data"]["a"], "aGVsbG8gd29ybGQ=", "{}", made.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_and_bindings_are_refused_in_the_same_words() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let reviews = "/apis/authorization.k8s.io/v1";
    let local = format!("{reviews}/namespaces/default/localsubjectaccessreviews");
    let asked = json!({"spec": {"user": "u", "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}});
    assert_eq!(wire.post(&local, asked.to_string()).await.code, 201);
    let asked = json!({"spec": {"user": "u", "resourceAttributes": {"fieldSelector": {"requirements": [
        {"key": "", "operator": "In"}, {"key": "x", "operator": "Exists", "values": ["a"]}]}}}});
    let at = "spec.resourceAttributes.fieldSelector.requirements";
    assert_eq!(
        wire.post(&format!("{reviews}/subjectaccessreviews"), asked.to_string()).await.status().2,
        format!(
            ".authorization.k8s.io \"\" is invalid: [{at}[0].key: Required value: must be specified, {at}[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn', {at}[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist']"
        )
    );
    let pods = "/api/v1/namespaces/default/pods";
    let binding = json!({"metadata": {"name": "p"}, "target": {}}).to_string();
    assert_eq!(
        wire.post(&format!("{pods}/p/binding"), binding).await.status(),
        (500, String::new(), "target.name: Required value".to_owned())
    );
    let who = wire.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}").await.value();
    let id = &who["status"]["userInfo"]["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(id.as_str().unwrap().starts_with("X509SHA256="), "{who}");
}

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A pod of one container, merged with more of its spec.
fn pod(name: &str, more: &Value) -> Value {
    let mut pod =
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    json_patch::merge(&mut pod["spec"], more);
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_hardly_meant_so_is_taken_with_a_warning() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let old = json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}});
    let told = "nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \\\"kubernetes.io/os\\\" instead";
    let dry = format!("{PODS}?dryRun=All");
    let made = wire.post(&dry, pod("a.b", &old).to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(
        warnings(&made),
        [
            "299 - \"metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]\"".to_owned(),
            format!("299 - \"spec.{told}\""),
        ]
    );
    let mut template = pod("", &old);
    template["metadata"] = json!({"labels": {"a": "b"}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let deployment = json!({"metadata": {"name": "d"}, "spec": spec}).to_string();
    let made = wire.post(DEPLOYMENTS, deployment).await;
    assert_eq!(warnings(&made), [format!("299 - \"spec.template.spec.{told}\"")]);
    // Whoever changes something else is not told of it again.
    let at = format!("{DEPLOYMENTS}/d");
    let label = json!({"metadata": {"labels": {"x": "y"}}}).to_string();
    assert_eq!(warnings(&wire.ask("PATCH", &at, STRATEGIC, label).await), [""; 0]);
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}});
    assert_eq!(warnings(&wire.ask("PATCH", &at, STRATEGIC, image.to_string()).await).len(), 1);
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Recycle"}});
    let made = wire.post("/api/v1/persistentvolumes?dryRun=All", volume.to_string()).await;
    assert_eq!(
        warnings(&made),
        [
            "299 - \"spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.\""
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_asks_for_what_there_is_not_is_refused() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    for (more, code, why) in [
        // https://kubernetes.io/docs/concepts/containers/runtime-class/
        (
            json!({"runtimeClassName": "nosuch"}),
            403,
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"nosuch\" not found",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            403,
            "pods \"p\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        // https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
        (
            json!({"preemptionPolicy": "Never"}),
            403,
            "pods \"p\" is forbidden: the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
        (
            json!({"priority": 5}),
            403,
            "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
        ),
        // https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 0}]}),
            422,
            "Pod \"p\" is invalid: spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero",
        ),
        // https://kubernetes.io/docs/tasks/manage-hugepages/scheduling-hugepages/
        (
            json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"hugepages-2Mi": "2Mi"}}}]}),
            422,
            "Pod \"p\" is invalid: spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
        ),
    ] {
        let refused = wire.post(PODS, pod("p", &more).to_string()).await.status();
        assert_eq!((refused.0, refused.2.as_str()), (code, why));
    }
    // A number with a fraction or an exponent is no integer, however large it is.
    let text = pod("p", &json!({}))
        .to_string()
        .replace("\"spec\":{", "\"spec\":{\"activeDeadlineSeconds\":3.0,");
    let refused = wire.post(PODS, text).await.status();
    assert_eq!(
        (refused.0, refused.2.as_str()),
        (
            400,
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number 3.0 into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64"
        )
    );
    assert_eq!(wire.post(PODS, pod("p", &json!({})).to_string()).await.code, 201);
    let class = json!({"status": {"qosClass": "Guaranteed"}}).to_string();
    let refused = wire.ask("PATCH", &format!("{PODS}/p/status"), STRATEGIC, class).await.status();
    assert_eq!(
        refused.2,
        "Pod \"p\" is invalid: status.qosClass: Invalid value: \"Guaranteed\": field is immutable"
    );
}

// "If a limit is set": kubernetes.io/docs/reference/kubernetes-api/common-parameters/common-parameters/#limit
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_collection_as_many_are_deleted_as_are_asked_for() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    for name in ["a", "b", "c"] {
        assert_eq!(wire.post(MAPS, map(name)).await.code, 201);
    }
    let gone = wire.ask("DELETE", &format!("{MAPS}?limit=2"), "", "").await.value();
    let names: Vec<&str> = gone["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let next = gone["metadata"]["continue"].as_str().expect("where it goes on");
    assert_eq!(
        c.ok(&["get", "cm", "-o", "name"]).await,
        "configmap/c\nconfigmap/kube-root-ca.crt\n"
    );
    let more = format!("{MAPS}?limit=1&continue={next}");
    assert_eq!(
        wire.ask("DELETE", &more, "", "").await.value()["items"][0]["metadata"]["name"],
        "c"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_told_from_what_cannot_be_done_with_it() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    assert_eq!(wire.post(MAPS, map("m")).await.code, 201);
    for (method, path, code) in [
        ("POST", "/api", 405),
        ("POST", "/version", 405),
        ("POST", "/healthz", 200),
        ("PUT", MAPS, 405),
        ("POST", "/api/v1/namespaces/default/configmaps/m", 405),
        ("DELETE", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
        ("POST", "/api/v1/namespaces/default/nothings", 404),
        ("GET", "/apis/apps/v7/deployments", 404),
        ("POST", "/api/v1/watch/namespaces/default/configmaps", 405),
        ("HEAD", MAPS, 405),
        ("GET", "/api/v1/namespaces/default/configmaps/%2e%2e", 400),
    ] {
        let answer = wire.ask(method, path, "application/json", "{}").await;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_together_comes_as_a_table_to_who_wants_one() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    assert_eq!(wire.post(MAPS, map("m")).await.code, 201);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let path = format!("{MAPS}?fieldSelector=metadata.name%3Dm");
    let headers = [("accept", table), ("content-type", "application/json")];
    let gone = wire.ask_with("DELETE", &path, &headers, "{}").await;
    assert_eq!(
        (gone.code.as_u16(), &gone.value()["kind"]),
        (200, &json!("Table")),
        "{}",
        gone.text
    );
    assert_eq!(gone.value()["rows"][0]["cells"][0], "m");
}

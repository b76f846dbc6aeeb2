//! Small things that a client notices: what is filled in again, what is left out, what is said.
//! The answers are those that a kube-apiserver 1.33 gave to the same requests.

use serde_json::json;

use crate::support::Cluster;
use crate::wire::{Wire, merge};

const DEFAULT: &str = "/api/v1/namespaces/default";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#defaulttolerationseconds
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_keeps_its_default_tolerations_and_divisors() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let env = json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "env": env}]}});
    let made = wire.post(&format!("{DEFAULT}/pods"), pod.to_string()).await.value();
    let divisor = "/spec/containers/0/env/0/valueFrom/resourceFieldRef/divisor";
    assert_eq!(made.pointer(divisor), Some(&json!("0")));
    let bare = json!({"spec": {"tolerations": null}});
    let patched = merge(&wire, &format!("{DEFAULT}/pods/p"), bare).await;
    assert_eq!(patched.code, 200, "{}", patched.text);
    assert_eq!(patched.value()["spec"]["tolerations"], made["spec"]["tolerations"]);
    assert_eq!(made["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
}

// https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions: any state will do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_as_of_any_time_comes_whole() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    for limit in ["limit=1&resourceVersion=0", "limit=1"] {
        let list = wire.get(&format!("/api/v1/namespaces?{limit}")).await.value();
        let whole = limit.ends_with('0');
        assert_eq!(list["items"].as_array().map(Vec::len), Some(if whole { 4 } else { 1 }));
        assert_eq!(list["metadata"].get("continue").is_none(), whole);
    }
}

// https://kubernetes.io/docs/concepts/services-networking/service/#externalname
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_becomes_a_name_gives_up_its_address() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}).to_string();
    assert_eq!(wire.post(&format!("{DEFAULT}/services"), service).await.code, 201);
    let name = json!({"spec": {"type": "ExternalName", "externalName": "a.b"}});
    let spec = merge(&wire, &format!("{DEFAULT}/services/s"), name).await.value()["spec"].clone();
    assert_eq!(
        spec,
        json!({"externalName": "a.b", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None", "type": "ExternalName"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_deleted_under_conditions_and_finalizers_say_whose_they_are() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"metadata": {"name": "gads.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "gads", "kind": "Gad"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    assert_eq!(wire.post(DEFINITIONS, definition.to_string()).await.code, 201);
    c.ok(&["wait", "--for=condition=Established", "crd/gads.example.com", "--timeout=20s"]).await;
    let gad = json!({"apiVersion": "example.com/v1", "kind": "Gad", "metadata": {"name": "g", "finalizers": ["foo"]}});
    let made =
        wire.post("/apis/example.com/v1/namespaces/default/gads?dryRun=All", gad.to_string()).await;
    assert_eq!(
        made.headers.get("warning").map(|w| w.to_str().unwrap()),
        Some(
            "299 - \"metadata.finalizers: \\\"foo\\\": prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers\""
        )
    );
    let at = format!("{DEFINITIONS}/gads.example.com");
    let uid = wire.get(&at).await.value()["metadata"]["uid"].clone();
    let refused = json!({"preconditions": {"uid": "other"}}).to_string();
    let (code, _, why) = wire.ask("DELETE", &at, "application/json", refused).await.status();
    let expected = format!(
        "Operation cannot be fulfilled on customresourcedefinitions.apiextensions.k8s.io \"gads.example.com\": Precondition failed: UID in precondition: other, UID in object meta: {}",
        uid.as_str().unwrap()
    );
    assert_eq!((code, why), (409, expected));
    let meant = json!({"preconditions": {"uid": uid}}).to_string();
    assert_eq!(wire.ask("DELETE", &at, "application/json", meant).await.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_bound_to_what_there_is_and_to_what_it_may_be() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let at = format!("{DEFAULT}/serviceaccounts/default/token");
    for (kind, name, code, why) in [
        ("Pod", "", 400, "Name parameter required."),
        ("Foo", "x", 400, "cannot bind token to object of type /v1, Kind=Foo"),
        ("Secret", "nosuch", 404, "secrets \"nosuch\" not found"),
    ] {
        let bound = json!({"kind": kind, "apiVersion": "v1", "name": name});
        let request = json!({"spec": {"boundObjectRef": bound}}).to_string();
        let refused = wire.post(&at, request).await.status();
        assert_eq!((refused.0, refused.2.as_str()), (code, why));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_its_network_and_provider_and_is_no_way_to_its_ports() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let node =
        json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.1.0.0/24", "providerID": "a"}});
    let made = wire.post("/api/v1/nodes", node.to_string()).await.value();
    assert_eq!(made["spec"]["podCIDRs"], json!(["10.1.0.0/24"]));
    let at = "/api/v1/nodes/n";
    for (patch, field, shown) in [
        (json!({"podCIDR": "10.2.0.0/24", "podCIDRs": ["10.2.0.0/24"]}), "podCIDRs", "podCIDR"),
        (json!({"providerID": "b"}), "providerID", "providerID"),
    ] {
        let refused = merge(&wire, at, json!({"spec": patch})).await.status();
        let why = format!(
            "Node \"n\" is invalid: spec.{field}: Forbidden: node updates may not change {shown} except from \"\" to valid"
        );
        assert_eq!((refused.0, refused.2), (422, why));
    }
    // Who may not is told so; for who may there is no such thing here.
    let bob = [("impersonate-user", "bob")];
    let metrics = format!("{at}/proxy/metrics");
    let refused = wire.ask_with("GET", &metrics, &bob, "").await.status();
    assert_eq!(
        (refused.0, refused.2.as_str()),
        (
            403,
            "nodes \"n\" is forbidden: User \"bob\" cannot get resource \"nodes/proxy\" in API group \"\" at the cluster scope"
        )
    );
    let absent = wire.get(&metrics).await.status();
    assert_eq!((absent.0, absent.1.as_str()), (404, "NotFound"));
}

// "The control plane .. publishes a .. ConfigMap named kube-root-ca.crt to every namespace":
// <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ca_of_a_namespace_is_put_back_when_somebody_writes_over_it_or_deletes_it() {
    let c = Cluster::start().await;
    let map = ["get", "cm", "kube-root-ca.crt", "-o", "jsonpath={.data}"];
    c.until(&map).await;
    let said = c.ok(&map).await;
    assert!(said.contains("BEGIN CERTIFICATE"), "{said}");
    let empty = "{\"data\":{\"ca.crt\":\"\",\"more\":\"x\"}}";
    c.ok(&["patch", "cm", "kube-root-ca.crt", "--type=merge", "-p", empty]).await;
    c.becomes(&map, &said).await;
    c.ok(&["delete", "cm", "kube-root-ca.crt"]).await;
    c.until(&map).await;
    assert_eq!(c.ok(&map).await, said);
}

// `kubectl get pods -v=8` of a Kubernetes, and "Receiving resources as Tables" of the API concepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_columns_of_a_table_say_what_they_are() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = wire.ask_with("GET", &format!("{DEFAULT}/pods"), &accept, "").await.value();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let of = |name: &str| {
        let column = columns.iter().find(|c| c["name"] == name).unwrap();
        column["description"].as_str().unwrap().to_owned()
    };
    assert!(of("Name").starts_with("Name must be unique within a namespace."));
    assert_eq!(of("Ready"), "The aggregate readiness state of this pod for accepting traffic.");
    assert!(of("Age").starts_with("CreationTimestamp is a timestamp representing the server time"));
    assert!(of("IP").starts_with("podIP address allocated to the pod."));
}

// "Validation rules" of the page on custom resource definitions has this form of what is wrong with a rule;
// https://kubernetes.io/docs/reference/using-api/cel/ has the optional types.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_maps_what_may_not_be_there_and_a_wrong_one_is_shown_with_its_place() {
    let c = Cluster::start().await;
    let wire = Wire::of(&c);
    let definition = |rule: &str| {
        let spec = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": rule, "message": "no"}]});
        json!({"metadata": {"name": "gads.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "gads", "kind": "Gad"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
        .to_string()
    };
    let (code, _, why) = wire.post(DEFINITIONS, definition("self.nope > 0")).await.status();
    assert_eq!(code, 422);
    let shown = "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope > 0\n | ....^";
    assert!(why.contains(shown), "{why}");
    let rule = "self.?a.optMap(a, a * 2) == self.?b || self.?a == optional.none()";
    let made = wire.post(DEFINITIONS, definition(rule)).await;
    assert_eq!(made.code, 201, "{}", made.text);
    c.ok(&["wait", "--for=condition=Established", "crd/gads.example.com", "--timeout=20s"]).await;
    for (spec, code) in [
        (json!({}), 201),
        (json!({"b": 1}), 201),
        (json!({"a": 2, "b": 4}), 201),
        (json!({"a": 2, "b": 5}), 422),
        (json!({"a": 2}), 422),
    ] {
        let gad = json!({"apiVersion": "example.com/v1", "kind": "Gad", "metadata": {"generateName": "g-"}, "spec": spec});
        let path = "/apis/example.com/v1/namespaces/default/gads";
        let made = wire.post(path, gad.to_string()).await;
        assert_eq!(made.code.as_u16(), code, "{spec}: {}", made.text);
    }
}

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  STRATEGY
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: x, volumeMounts: [{name: v, mountPath: /v}]}]
      volumes: [{name: v, emptyDir: {}}]
";

// "retainKeys": kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ has
// this very change of a strategy; a volume has one source of its own kind in the same way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_takes_away_what_does_not_go_with_what_it_asks_for() {
    let c = Cluster::start().await;
    let strategy = ["get", "deploy", "web", "-o", "jsonpath={.spec.strategy}"];
    c.apply(&WEB.replace("STRATEGY", "")).await;
    assert!(c.ok(&strategy).await.contains("\"maxSurge\":\"25%\""));
    let recreate = WEB.replace("STRATEGY", "strategy: {type: Recreate}");
    assert_eq!(c.apply(&recreate).await, "deployment.apps/web configured\n");
    assert_eq!(c.ok(&strategy).await, "{\"type\":\"Recreate\"}");
    assert_eq!(c.apply(&recreate).await, "deployment.apps/web unchanged\n");
    let volumes = ["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.volumes}"];
    let by_hand = json!({"spec": {"template": {"spec": {"volumes": [
        {"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]}}}});
    c.ok(&["patch", "deploy", "web", "-p", &by_hand.to_string()]).await;
    c.apply(&recreate.replace("emptyDir: {}", "configMap: {name: m}")).await;
    assert_eq!(
        c.ok(&volumes).await,
        "[{\"configMap\":{\"defaultMode\":420,\"name\":\"m\"},\"name\":\"v\"}]"
    );
}

// `x-kubernetes-patch-strategy: replace` of Kubernetes' OpenAPI.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_selector_of_a_budget_is_replaced_whole() {
    let c = Cluster::start().await;
    c.ok(&["create", "pdb", "b", "--selector=app=web", "--min-available=1"]).await;
    let patch = "{\"spec\":{\"selector\":{\"matchLabels\":{\"tier\":\"front\"}}}}";
    c.ok(&["patch", "pdb", "b", "-p", patch]).await;
    assert_eq!(
        c.ok(&["get", "pdb", "b", "-o", "jsonpath={.spec}"]).await,
        "{\"minAvailable\":1,\"selector\":{\"matchLabels\":{\"tier\":\"front\"}}}"
    );
}

// As `kubectl explain` says it of a Kubernetes 1.33.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_left_out_and_what_there_is_to_choose_is_explained() {
    let c = Cluster::start().await;
    let lines = |said: String| {
        let of = |l: &str| l.split_whitespace().collect::<Vec<_>>().join(" ");
        said.lines().map(of).collect::<Vec<_>>()
    };
    let secret = lines(c.ok(&["explain", "pod.spec.imagePullSecrets"]).await);
    assert!(secret.contains(&"name <string>".to_owned()), "{secret:?}");
    let volume = lines(c.ok(&["explain", "pod.spec.volumes"]).await);
    assert!(volume.contains(&"name <string> -required-".to_owned()), "{volume:?}");
    let event = lines(c.ok(&["explain", "event"]).await);
    assert!(event.contains(&"metadata <ObjectMeta> -required-".to_owned()), "{event:?}");
    for (what, choice) in [
        ("pod.spec.containers.lifecycle", "enum: SIGABRT, SIGALRM, SIGBUS, SIGCHLD, ...."),
        ("pdb.spec", "enum: AlwaysAllow, IfHealthyBudget"),
        ("job.spec.podFailurePolicy.rules", "enum: Count, FailIndex, FailJob, Ignore"),
    ] {
        let said = lines(c.ok(&["explain", what]).await);
        assert!(said.contains(&choice.to_owned()), "{what}: {said:?}");
    }
    let older =
        |what: &'static str| ["explain", what, "--recursive", "--output=plaintext-openapiv2"];
    let claim = lines(c.ok(&older("pvc")).await);
    assert!(claim.contains(&"KIND: PersistentVolumeClaim".to_owned()), "{claim:?}");
    assert!(claim.contains(&"requests <map[string]string>".to_owned()), "{claim:?}");
    let service = lines(c.ok(&older("service")).await);
    assert!(service.contains(&"targetPort <string>".to_owned()), "{service:?}");
}

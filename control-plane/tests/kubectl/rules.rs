//! Rules in CEL on custom kinds, and what server-side apply says and keeps.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>,
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>; the words are those that a
//! kube-apiserver 1.33 answers with.

use crate::support::Cluster;

const SHIPS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: ships, kind: Ship}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: self.crew <= self.berths, message: not everybody has a berth}
            - {rule: self.name == oldSelf.name, message: a ship keeps its name, reason: FieldValueForbidden, fieldPath: .name}
            properties:
              crew: {type: integer}
              berths: {type: integer, default: 4}
              name: {type: string, maxLength: 20}
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_a_custom_kind_hold_for_objects_and_for_their_changes() {
    let c = Cluster::start().await;
    c.apply(SHIPS).await;
    c.ok(&["wait", "--for=condition=Established", "crd/ships.example.com", "--timeout=10s"]).await;
    let ship = |crew: u8| {
        format!(
            "apiVersion: example.com/v1\nkind: Ship\nmetadata: {{name: s}}\nspec: {{crew: {crew}, name: argo}}\n"
        )
    };
    assert_eq!(
        c.fails(&["create", "-f", "-"], &ship(9)).await,
        "The Ship \"s\" is invalid: spec: Invalid value: \"object\": not everybody has a berth\n"
    );
    c.apply(&ship(3)).await;
    assert_eq!(
        c.fails(&["patch", "ship", "s", "--type=merge", "-p", "{\"spec\":{\"name\":\"x\"}}"], "")
            .await,
        "The Ship \"s\" is invalid: spec.name: Forbidden: a ship keeps its name\n"
    );
    let said = c.kubectl(&["get", "ships.v1beta1.example.com", "s", "-o", "name"]).await;
    assert_eq!(
        said.err,
        "Warning: example.com/v1beta1 Ship is deprecated; use example.com/v1 Ship\n"
    );
    let e = c
        .fails(&["apply", "-f", "-"], &SHIPS.replace("self.crew <= self.berths", "'self.crew <='"))
        .await;
    assert!(
        e.contains(
            "x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:\"self.crew <=\", "
        ),
        "{e}"
    );
    assert!(e.contains("compilation failed: ERROR: <input>:1:13: Syntax error"), "{e}");
}

// "Validation rules" and "Resource constraints" of the pages on definitions and on CEL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_names_only_fields_that_there_are_and_ends_when_it_costs_too_much() {
    let c = Cluster::start().await;
    let nope = SHIPS.replace("self.crew <= self.berths", "self.nope <= self.berths");
    let e = c.fails(&["apply", "-f", "-"], &nope).await;
    assert!(e.contains("x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:\"self.nope <= self.berths\", "), "{e}");
    assert!(
        e.contains("compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope <= self.berths\n | ....^"),
        "{e}"
    );
    let costly = SHIPS
        .replace("self.crew <= self.berths", "'self.log.all(x, self.log.all(y, x + y >= 0))'")
        .replace("crew: {type: integer}", "log: {type: array, items: {type: integer}}");
    c.apply(&costly).await;
    c.ok(&["wait", "--for=condition=Established", "crd/ships.example.com", "--timeout=10s"]).await;
    let ship = |entries: usize| {
        let log = vec!["1"; entries].join(",");
        format!(
            "{{\"apiVersion\":\"example.com/v1\",\"kind\":\"Ship\",\"metadata\":{{\"name\":\"s\"}},\"spec\":{{\"name\":\"argo\",\"log\":[{log}]}}}}"
        )
    };
    let e = c.fails(&["create", "-f", "-"], &ship(10_000)).await;
    assert!(
        e.contains(
            "no further validation rules will be run due to call cost exceeds limit for rule"
        ),
        "{:.500}",
        e
    );
    let said = c.kubectl_in(&["create", "-f", "-"], &ship(100)).await;
    assert!(said.ok, "{}", said.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_refuses_what_is_not_in_the_schema_and_what_stands_twice() {
    let c = Cluster::start().await;
    let apply = ["apply", "--server-side", "--validate=ignore", "-f", "-"];
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
    let e = c.fails(&apply, &format!("{map}foo: 1\n")).await;
    assert!(e.contains("failed to create typed patch object (default/m; /v1, Kind=ConfigMap): .foo: field not declared in schema"), "{e}");
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}, {containerPort: 80}]}]}
";
    let e = c.fails(&apply, pod).await;
    assert!(e.contains(".spec.containers[name=\"c\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kubectl_scaled_is_recorded_as_a_write_of_the_scale() {
    let c = Cluster::start().await;
    c.ok(&["create", "deployment", "d", "--image=i", "--replicas=0"]).await;
    c.ok(&["scale", "deployment", "d", "--replicas=1"]).await;
    let path = "jsonpath={.metadata.managedFields[?(@.subresource==\"scale\")].fieldsV1}";
    assert_eq!(
        c.ok(&["get", "deployment", "d", "--show-managed-fields", "-o", path]).await,
        "{\"f:spec\":{\"f:replicas\":{}}}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_that_breaks_the_type_or_moves_the_object_is_refused() {
    let c = Cluster::start().await;
    c.ok(&["create", "cm", "m", "--from-literal=a=1"]).await;
    let merge = |patch: &'static str| ["patch", "cm", "m", "--type=merge", "-p", patch];
    let e = c.fails(&merge("{\"data\":{\"a\":1}}"), "").await;
    assert!(e.starts_with("The request is invalid: patch: Invalid value: "), "{e}");
    assert!(e.contains("json: cannot unmarshal number into Go struct field ConfigMap.data"), "{e}");
    assert_eq!(
        c.fails(&merge("{\"metadata\":{\"namespace\":\"x\"}}"), "").await,
        "Error from server (BadRequest): the namespace of the provided object does not match the namespace sent on the request\n"
    );
    // To Kubernetes' patch library, replacing a key that is not there adds it.
    let steps = "[{\"op\":\"replace\",\"path\":\"/data/b\",\"value\":\"2\"}]";
    c.ok(&["patch", "cm", "m", "--type=json", "-p", steps]).await;
    assert_eq!(
        c.ok(&["get", "cm", "m", "-o", "jsonpath={.data}"]).await,
        "{\"a\":\"1\",\"b\":\"2\"}"
    );
}

// `kubectl explain --help`: the older form reads version 2 of OpenAPI, in protobuf.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_are_explained_also_with_the_older_openapi() {
    let c = Cluster::start().await;
    c.apply(SHIPS).await;
    c.ok(&["wait", "--for=condition=Established", "crd/ships.example.com", "--timeout=10s"]).await;
    let explain = |what: &'static str| ["explain", what, "--output=plaintext-openapiv2"];
    let said = c.ok(&explain("pod.spec.containers.ports")).await;
    assert!(
        said.starts_with("KIND:     Pod\nVERSION:  v1\n\nRESOURCE: ports <[]Object>\n"),
        "{said}"
    );
    assert!(said.contains("containerPort\t<integer> -required-"), "{said}");
    let said = c.ok(&explain("ship.spec.crew")).await;
    assert!(
        said.starts_with("KIND:     Ship\nVERSION:  example.com/v1\n\nFIELD:    crew <integer>\n"),
        "{said}"
    );
    // The definitions that clients of JSON read.
    let v2 = c.ok(&["get", "--raw", "/openapi/v2"]).await;
    assert!(
        v2.contains("\"swagger\":\"2.0\"")
            && v2.contains("#/definitions/io.k8s.api.core.v1.PodSpec")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_check_by_check_to_whoever_asks() {
    let c = Cluster::start().await;
    let raw = |path: &'static str| ["get", "--raw", path];
    assert_eq!(
        c.ok(&raw("/readyz?verbose")).await,
        "[+]ping ok\n[+]database ok\nreadyz check passed\n"
    );
    assert_eq!(c.ok(&raw("/livez")).await, "ok");
    assert_eq!(c.ok(&raw("/livez/ping")).await, "ok");
}

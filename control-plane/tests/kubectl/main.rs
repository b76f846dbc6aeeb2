//! What a person does with kubectl on a normal day. The expected answers are those of Kubernetes'
//! documentation (kubernetes.io/docs/reference/kubectl) and of its API conventions.

mod answers;
mod customs;
mod details;
mod hostile;
mod large;
mod manifests;
mod objects;
mod rules;
mod security;
mod services;
mod storage;
mod streams;
mod support;
mod webhooks;
mod wire;
mod workloads;
mod writes;

use support::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_created_read_changed_and_deleted() {
    let c = Cluster::start().await;
    assert_eq!(
        c.ok(&["create", "configmap", "m", "--from-literal=a=1"]).await,
        "configmap/m created\n"
    );
    assert_eq!(c.ok(&["get", "cm", "m", "-o", "jsonpath={.data.a}"]).await, "1");
    assert_eq!(
        c.fails(&["create", "configmap", "m"], "").await,
        "error: failed to create configmap: configmaps \"m\" already exists\n"
    );
    assert_eq!(
        c.ok(&["patch", "cm", "m", "--type=merge", "-p", "{\"data\":{\"b\":\"2\"}}"]).await,
        "configmap/m patched\n"
    );
    assert_eq!(c.ok(&["get", "cm", "m", "-o", "jsonpath={.data.a}{.data.b}"]).await, "12");
    assert_eq!(c.ok(&["label", "cm", "m", "x=y"]).await, "configmap/m labeled\n");
    assert_eq!(c.ok(&["get", "cm", "-l", "x=y", "-o", "name"]).await, "configmap/m\n");
    assert_eq!(
        c.ok(&["get", "cm", "-l", "x!=y", "-o", "name"]).await,
        "configmap/kube-root-ca.crt\n"
    );
    assert_eq!(c.ok(&["delete", "cm", "m"]).await, "configmap \"m\" deleted\n");
    assert_eq!(
        c.fails(&["get", "cm", "m"], "").await,
        "Error from server (NotFound): configmaps \"m\" not found\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cluster_has_its_namespaces_and_their_accounts() {
    let c = Cluster::start().await;
    assert_eq!(
        c.ok(&["get", "ns", "-o", "name"]).await,
        "namespace/default\nnamespace/kube-node-lease\nnamespace/kube-public\nnamespace/kube-system\n"
    );
    assert_eq!(c.ok(&["create", "ns", "a"]).await, "namespace/a created\n");
    c.ok(&["wait", "-n", "a", "--for=create", "sa/default", "--timeout=10s"]).await;
    c.ok(&["wait", "-n", "a", "--for=create", "cm/kube-root-ca.crt", "--timeout=10s"]).await;
    c.ok(&["-n", "a", "create", "secret", "generic", "s", "--from-literal=k=v"]).await;
    assert_eq!(c.ok(&["delete", "ns", "a", "--timeout=20s"]).await, "namespace \"a\" deleted\n");
    assert_eq!(c.ok(&["get", "secret", "-A", "-o", "name"]).await, "");
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: c, image: nginx, ports: [{containerPort: 80}]}]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_creates_changes_and_notices_that_nothing_changed() {
    let c = Cluster::start().await;
    assert_eq!(c.apply(POD).await, "pod/web created\n");
    assert_eq!(c.apply(POD).await, "pod/web unchanged\n");
    assert_eq!(c.apply(&POD.replace("nginx", "nginx:1.27")).await, "pod/web configured\n");
    assert_eq!(
        c.ok(&["get", "pod", "web", "-o", "jsonpath={.spec.containers[0].image}"]).await,
        "nginx:1.27"
    );
    let table = c.ok(&["get", "pods", "-o", "wide"]).await;
    let mut lines = table.lines();
    let words = |l: &str| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        words(lines.next().unwrap()).join(" "),
        "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    );
    let row = words(lines.next().unwrap());
    assert_eq!(&row[..4], ["web", "0/1", "Pending", "0"]);
    assert_eq!(&row[5..], ["<none>", "<none>", "<none>", "<none>"]);
    let described = c.ok(&["describe", "pod", "web"]).await;
    assert!(described.contains("Service Account:  default"), "{described}");
    assert_eq!(c.ok(&["delete", "pod", "web"]).await, "pod \"web\" deleted\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_as_kubernetes_tells_them() {
    let c = Cluster::start().await;
    let e = c
        .fails(
            &["apply", "-f", "-"],
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n",
        )
        .await;
    assert_eq!(e, "The Pod \"a\" is invalid: spec.containers: Required value\n");
    let e = c.fails(&["apply", "-f", "-"], &POD.replace("image:", "imag:")).await;
    assert!(e.contains("strict decoding error: unknown field \"spec.containers[0].imag\""), "{e}");
    let e = c
        .fails(&["apply", "-f", "-"], &POD.replace("containerPort: 80", "containerPort: http"))
        .await;
    assert!(e.contains("cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"), "{e}");
    let e = c.fails(&["create", "cm", "Bad_Name"], "").await;
    assert!(e.contains("metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of"), "{e}");
    let e = c.fails(&["create", "cm", "m", "-n", "nowhere"], "").await;
    assert_eq!(e, "error: failed to create configmap: namespaces \"nowhere\" not found\n");
    let e = c.fails(&["get", "widgets"], "").await;
    assert_eq!(e, "error: the server doesn't have a resource type \"widgets\"\n");
    let e = c.fails(&["get", "pods", "--field-selector", "a.b=c"], "").await;
    assert!(e.contains("field label not supported: a.b"), "{e}");
}

const WIDGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer, minimum: 1, default: 3}}}
          status: {type: object, properties: {size: {type: integer}}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_kinds_are_served_once_they_are_defined() {
    let c = Cluster::start().await;
    c.apply(WIDGETS).await;
    c.ok(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"])
        .await;
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {}\n";
    assert_eq!(c.apply(widget).await, "widget.example.com/w created\n");
    let table = c.ok(&["get", "wd"]).await;
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["NAME", "SIZE", "w", "3"]);
    let e =
        c.fails(&["patch", "wd", "w", "--type=merge", "-p", "{\"spec\":{\"size\":0}}"], "").await;
    assert_eq!(
        e,
        "The Widget \"w\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1\n"
    );
    c.ok(&[
        "patch",
        "wd",
        "w",
        "--subresource=status",
        "--type=merge",
        "-p",
        "{\"status\":{\"size\":2},\"spec\":{\"size\":9}}",
    ])
    .await;
    assert_eq!(
        c.ok(&[
            "get",
            "wd",
            "w",
            "-o",
            "jsonpath={.spec.size}/{.status.size}/{.metadata.generation}"
        ])
        .await,
        "3/2/1"
    );
    c.ok(&["scale", "wd", "w", "--replicas=5"]).await;
    assert_eq!(
        c.ok(&["get", "wd", "w", "-o", "jsonpath={.spec.size}/{.metadata.generation}"]).await,
        "5/2"
    );
    let c = c.restart().await;
    assert_eq!(c.ok(&["get", "wd", "-o", "name"]).await, "widget.example.com/w\n");
    assert_eq!(
        c.ok(&["delete", "crd", "widgets.example.com", "--timeout=20s"]).await,
        "customresourcedefinition.apiextensions.k8s.io \"widgets.example.com\" deleted\n"
    );
    // kubectl remembers the kind for a while; the server does not.
    let e = c.fails(&["get", "wd"], "").await;
    assert!(e.contains("the server could not find the requested resource"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_impersonation_say_who_one_is_and_what_one_may() {
    let c = Cluster::start().await;
    let token = c.ok(&["create", "token", "default"]).await;
    let me = c
        .ok(&[
            "--token",
            token.trim(),
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username}",
        ])
        .await;
    // The client certificate of the kubeconfig counts first.
    assert_eq!(me, "kubernetes-admin");
    let sa = "system:serviceaccount:default:default";
    assert_eq!(
        c.ok(&["--as", sa, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await,
        sa
    );
    let e = c.fails(&["--as", sa, "get", "pods"], "").await;
    assert_eq!(
        e,
        "Error from server (Forbidden): pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"\n"
    );
    c.ok(&["create", "role", "r", "--verb=list", "--resource=pods"]).await;
    c.ok(&["create", "rolebinding", "b", "--role=r", "--serviceaccount=default:default"]).await;
    c.ok(&["--as", sa, "get", "pods"]).await;
    assert_eq!(c.ok(&["--as", sa, "auth", "can-i", "list", "pods"]).await, "yes\n");
    c.fails(&["--as", sa, "-n", "kube-system", "get", "pods"], "").await;
}

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: edge-1, labels: {node-role.kubernetes.io/edge: ''}}
status:
  allocatable: {cpu: '2', memory: 1Gi, pods: '10'}
  capacity: {cpu: '2', memory: 1Gi, pods: '10'}
  conditions: [{type: Ready, status: 'True', reason: KubeletReady, lastHeartbeatTime: '2026-01-01T00:00:00Z'}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_placed_when_there_is_a_node_and_says_why_it_waits_when_there_is_none() {
    let c = Cluster::start().await;
    c.apply(POD).await;
    c.ok(&[
        "wait",
        "pod/web",
        "--for=jsonpath={.status.conditions[0].reason}=Unschedulable",
        "--timeout=10s",
    ])
    .await;
    let why = c.ok(&["get", "pod", "web", "-o", "jsonpath={.status.conditions[0].message}"]).await;
    assert_eq!(why, "no nodes available to schedule pods");
    let said = c.kubectl_in(&["create", "-f", "-"], NODE).await;
    assert!(said.ok, "{}", said.err);
    c.ok(&["wait", "pod/web", "--for=condition=PodScheduled", "--timeout=10s"]).await;
    assert_eq!(c.ok(&["get", "pod", "web", "-o", "jsonpath={.spec.nodeName}"]).await, "edge-1");
    let events = c
        .ok(&[
            "get",
            "events",
            "-o",
            "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
        ])
        .await;
    assert!(events.contains("FailedScheduling: no nodes available to schedule pods"), "{events}");
    assert!(events.contains("Scheduled: Successfully assigned default/web to edge-1"), "{events}");
    let row = c.ok(&["get", "nodes"]).await;
    let words: Vec<&str> = row.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(&words[..3], ["edge-1", "Ready", "edge"]);
    // It runs on a node now, so it is given its grace.
    c.ok(&["delete", "pod", "web", "--wait=false"]).await;
    assert!(c.ok(&["get", "pod", "web"]).await.contains("Terminating"));
    c.ok(&["delete", "pod", "web", "--grace-period=0", "--force"]).await;
    assert!(c.fails(&["get", "pod", "web"], "").await.contains("NotFound"));
    c.ok(&["cordon", "edge-1"]).await;
    assert!(c.ok(&["get", "nodes"]).await.contains("Ready,SchedulingDisabled"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owned_goes_with_its_owner() {
    let c = Cluster::start().await;
    c.ok(&["create", "cm", "owner"]).await;
    let uid = c.ok(&["get", "cm", "owner", "-o", "jsonpath={.metadata.uid}"]).await;
    let owned = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}\n"
        )
    };
    c.apply(&owned("owned")).await;
    c.ok(&["delete", "cm", "owner"]).await;
    c.ok(&["wait", "cm/owned", "--for=delete", "--timeout=10s"]).await;
}

// https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/: "treated as having an
// absent owner", and a warning "with a reason of OwnerRefInvalidNamespace".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_its_owner_by_another_kind_or_from_another_namespace_has_none() {
    let c = Cluster::start().await;
    c.ok(&["create", "ns", "other"]).await;
    c.ok(&["create", "cm", "owner"]).await;
    let uid = c.ok(&["get", "cm", "owner", "-o", "jsonpath={.metadata.uid}"]).await;
    let owned = |name: &str, namespace: &str, kind: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}, ownerReferences: [{{apiVersion: v1, kind: {kind}, name: owner, uid: {uid}}}]}}\n"
        )
    };
    c.apply(&owned("right", "default", "ConfigMap")).await;
    c.apply(&owned("kind", "default", "Secret")).await;
    c.apply(&owned("namespace", "other", "ConfigMap")).await;
    c.ok(&["wait", "cm/kind", "--for=delete", "--timeout=20s"]).await;
    c.ok(&["wait", "-n", "other", "cm/namespace", "--for=delete", "--timeout=20s"]).await;
    c.ok(&["get", "cm", "right"]).await;
    let told = "-o=jsonpath={range .items[?(@.reason==\"OwnerRefInvalidNamespace\")]}{.type} {.involvedObject.name}: {.message}{end}";
    let why = format!(
        "Warning namespace: ownerRef [v1/ConfigMap, namespace: other, name: owner, uid: {uid}] does not exist in namespace \"other\""
    );
    c.becomes(&["get", "events", "-n", "other", told], &why).await;
    assert_eq!(c.ok(&["get", "events", told]).await, "");
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1', b: '2'}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_knows_who_owns_what() {
    let c = Cluster::start().await;
    let apply = ["apply", "--server-side", "-f", "-"];
    let said = c.kubectl_in(&apply, MAP).await;
    assert_eq!((said.out.as_str(), said.err.as_str()), ("configmap/m serverside-applied\n", ""));
    let owner = c
        .ok(&[
            "get",
            "cm",
            "m",
            "--show-managed-fields",
            "-o",
            "jsonpath={.metadata.managedFields[*].manager}/{.metadata.managedFields[*].operation}",
        ])
        .await;
    assert_eq!(owner, "kubectl/Apply");
    let mut other = apply.to_vec();
    other.push("--field-manager=other");
    let e = c.fails(&other, &MAP.replace("'1'", "'9'")).await;
    assert!(e.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.a"), "{e}");
    other.push("--force-conflicts");
    let said = c.kubectl_in(&other, &MAP.replace("'1'", "'9'")).await;
    assert!(said.ok, "{}", said.err);
    // What the first manager does not apply any more goes, unless the other one has it, too.
    let said = c
        .kubectl_in(
            &apply,
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {c: '3'}\n",
        )
        .await;
    assert!(said.ok, "{}", said.err);
    assert_eq!(
        c.ok(&["get", "cm", "m", "-o", "jsonpath={.data}"]).await,
        "{\"a\":\"9\",\"b\":\"2\",\"c\":\"3\"}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diff_and_explain_and_dry_run_ask_the_server() {
    let c = Cluster::start().await;
    c.apply(MAP).await;
    let said = c.kubectl_in(&["diff", "-f", "-"], MAP).await;
    assert!(said.ok, "no difference: {}{}", said.out, said.err);
    let said = c.kubectl_in(&["diff", "-f", "-"], &MAP.replace("'1'", "'9'")).await;
    assert!(!said.ok && said.out.contains("+  a: \"9\""), "{}{}", said.out, said.err);
    let said = c
        .kubectl_in(
            &["apply", "--dry-run=server", "-f", "-"],
            &MAP.replace("name: m", "name: other"),
        )
        .await;
    assert_eq!(said.out, "configmap/other created (server dry run)\n");
    assert!(c.fails(&["get", "cm", "other"], "").await.contains("NotFound"));
    let text = c.ok(&["explain", "pod.spec.containers.image"]).await;
    assert!(text.contains("FIELD: image <string>"), "{text}");
    assert!(
        c.ok(&["explain", "deployment.spec.strategy"])
            .await
            .contains("FIELD: strategy <DeploymentStrategy>")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_clients_send_protobuf_and_are_understood() {
    let c = Cluster::start().await;
    c.ok(&["create", "deployment", "web", "--image=nginx:1", "--replicas=2", "--port=80"]).await;
    let d = c.ok(&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].ports[0].containerPort} {.spec.strategy.type}"]).await;
    assert_eq!(d, "2 nginx:1 80 RollingUpdate");
    c.ok(&["expose", "deployment", "web", "--port=8080", "--target-port=80"]).await;
    let s = c.ok(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].port} {.spec.ports[0].targetPort} {.spec.selector.app} {.spec.type}"]).await;
    assert_eq!(s, "8080 80 web ClusterIP");
    c.ok(&["create", "secret", "generic", "s", "--from-literal=k=v"]).await;
    assert_eq!(
        c.ok(&["get", "secret", "s", "-o", "jsonpath={.data.k} {.type}"]).await,
        "dg== Opaque"
    );
    c.ok(&["create", "cronjob", "j", "--image=busybox", "--schedule=*/5 * * * *"]).await;
    assert_eq!(
        c.ok(&["get", "cronjob", "j", "-o", "jsonpath={.spec.schedule} {.spec.concurrencyPolicy}"])
            .await,
        "*/5 * * * * Allow"
    );
    c.ok(&["create", "clusterrole", "r", "--verb=get", "--resource=pods"]).await;
    assert_eq!(
        c.ok(&[
            "get",
            "clusterrole",
            "r",
            "-o",
            "jsonpath={.rules[0].verbs[0]} {.rules[0].resources[0]}"
        ])
        .await,
        "get pods"
    );
    c.ok(&["scale", "deployment", "web", "--replicas=3"]).await;
    assert_eq!(
        c.ok(&[
            "get",
            "deployment",
            "web",
            "-o",
            "jsonpath={.spec.replicas} {.metadata.generation}"
        ])
        .await,
        "3 2"
    );
}

//! Who may do what: nodes, roles, certificates, tokens.

use crate::support::Cluster;

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
---
apiVersion: v1
kind: Secret
metadata: {name: used}
stringData: {k: v}
---
apiVersion: v1
kind: Secret
metadata: {name: other}
stringData: {k: v}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  nodeName: n1
  containers: [{name: c, image: x, envFrom: [{secretRef: {name: used}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec:
  nodeName: n2
  containers: [{name: c, image: x}]
";

const AS_N1: [&str; 2] = ["--as=system:node:n1", "--as-group=system:nodes"];

fn as_node<'a>(args: &[&'a str]) -> Vec<&'a str> {
    AS_N1.iter().chain(args).copied().collect()
}

// https://kubernetes.io/docs/reference/access-authn-authz/node/
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reads_what_its_pods_need_and_nothing_else() {
    let c = Cluster::start().await;
    c.apply(NODES).await;
    c.ok(&as_node(&["get", "secret", "used"])).await;
    let e = c.fails(&as_node(&["get", "secret", "other"]), "").await;
    assert_eq!(
        e,
        "Error from server (Forbidden): secrets \"other\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'n1' and this object\n"
    );
    c.fails(&as_node(&["get", "secrets"]), "").await;
    c.ok(&as_node(&["get", "pod", "web"])).await;
    c.fails(&as_node(&["get", "pod", "far"]), "").await;
    let mine = c
        .ok(&as_node(&["get", "pods", "-A", "--field-selector=spec.nodeName=n1", "-o", "name"]))
        .await;
    assert_eq!(mine, "pod/web\n");
    c.fails(&as_node(&["get", "pods", "-A"]), "").await;
    c.ok(&as_node(&["get", "node", "n1"])).await;
    c.fails(&as_node(&["get", "node", "n2"]), "").await;
    // What goes with the pod goes with it.
    c.ok(&["delete", "pod", "web", "--force", "--grace-period=0"]).await;
    c.fails(&as_node(&["get", "secret", "used"]), "").await;
}

// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_writes_itself_its_lease_and_its_pods_and_nothing_else() {
    let c = Cluster::start().await;
    c.apply(NODES).await;
    c.ok(&as_node(&["label", "node", "n1", "example.com/x=1"])).await;
    let e = c.fails(&as_node(&["label", "node", "n1", "node-role.kubernetes.io/x=1"]), "").await;
    assert!(e.ends_with("is not allowed to modify labels: node-role.kubernetes.io/x\n"), "{e}");
    let e = c.fails(&as_node(&["label", "node", "n2", "example.com/x=1", "--overwrite"]), "").await;
    assert!(e.contains("cannot read 'n2', only its own Node object"), "{e}");
    let other = "{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"n2\"}}";
    let put = ["replace", "--raw", "/api/v1/nodes/n2", "-f", "-"];
    let e = c.fails(&as_node(&put), other).await;
    assert!(e.contains("node \"n1\" is not allowed to modify node \"n2\""), "{e}");
    let taint = ["patch", "node", "n1", "--type=merge", "-p", "{\"spec\":{\"taints\":null}}"];
    c.ok(&["taint", "node", "n1", "k=v:NoExecute"]).await;
    let e = c.fails(&as_node(&taint), "").await;
    assert!(e.contains("node \"n1\" is not allowed to modify taints"), "{e}");
    let e = c.fails(&as_node(&["delete", "pod", "far"]), "").await;
    assert!(e.contains("node \"n1\" can only delete pods with spec.nodeName set to itself"), "{e}");
    let lease = |name: &str, ns: &str| {
        format!(
            "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {{name: {name}, namespace: {ns}}}\nspec: {{holderIdentity: n1, leaseDurationSeconds: 40}}\n"
        )
    };
    let create = as_node(&["create", "-f", "-"]);
    assert!(c.kubectl_in(&create, &lease("n1", "kube-node-lease")).await.ok);
    let e = c.fails(&create, &lease("n2", "kube-node-lease")).await;
    assert!(
        e.contains("can only access node lease with the same name as the requesting node"),
        "{e}"
    );
    c.fails(&create, &lease("n1", "default")).await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: n1, containers: [{name: c, image: x}]}\n";
    let e = c.fails(&create, pod).await;
    assert!(e.contains("node \"n1\" can only create mirror pods"), "{e}");
}

// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_grants_what_they_do_not_hold() {
    let c = Cluster::start().await;
    c.ok(&["create", "rolebinding", "b", "--clusterrole=admin", "--user=bob"]).await;
    c.ok(&["--as=bob", "create", "role", "pods", "--verb=get,list", "--resource=pods"]).await;
    let e = c
        .fails(&["--as=bob", "create", "role", "nodes", "--verb=get,list", "--resource=nodes"], "")
        .await;
    assert_eq!(
        e,
        "Error from server (Forbidden): roles.rbac.authorization.k8s.io \"nodes\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}\n"
    );
    c.ok(&["--as=bob", "create", "rolebinding", "v", "--clusterrole=view", "--user=eve"]).await;
    let e = c
        .fails(
            &[
                "--as=bob",
                "create",
                "rolebinding",
                "a",
                "--clusterrole=cluster-admin",
                "--user=eve",
            ],
            "",
        )
        .await;
    assert!(e.contains("is attempting to grant RBAC permissions not currently held"), "{e}");
    // With the right to bind that one role it goes.
    c.ok(&[
        "create",
        "role",
        "binder",
        "--verb=bind",
        "--resource=clusterroles",
        "--resource-name=cluster-admin",
    ])
    .await;
    c.ok(&["create", "rolebinding", "binder", "--role=binder", "--user=bob"]).await;
    c.ok(&["--as=bob", "create", "rolebinding", "a", "--clusterrole=cluster-admin", "--user=eve"])
        .await;
    assert_eq!(c.ok(&["--as=eve", "auth", "can-i", "delete", "secrets"]).await, "yes\n");
    c.fails(&["--as=eve", "get", "secrets", "-n", "kube-system"], "").await;
    c.fails(&["--as=eve", "get", "nodes"], "").await;
}

// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_for_a_custom_kind_becomes_part_of_view() {
    let c = Cluster::start().await;
    c.ok(&["create", "rolebinding", "b", "--clusterrole=view", "--user=bob"]).await;
    c.fails(&["--as=bob", "get", "secrets"], "").await;
    c.ok(&["create", "clusterrole", "more", "--verb=list,get", "--resource=secrets"]).await;
    c.ok(&["label", "clusterrole", "more", "rbac.authorization.k8s.io/aggregate-to-view=true"])
        .await;
    c.until(&["--as=bob", "get", "secrets"]).await;
}

fn openssl(args: &[&str], dir: &std::path::Path) {
    let said = std::process::Command::new("openssl").args(args).current_dir(dir).output();
    let said =
        said.expect("openssl can be started; this test makes its certificate request with it");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

fn request(dir: &std::path::Path, subject: &str) -> String {
    use base64::Engine as _;
    openssl(
        &[
            "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out",
            "csr.pem", "-subj", subject,
        ],
        dir,
    );
    base64::engine::general_purpose::STANDARD
        .encode(std::fs::read(dir.join("csr.pem")).expect("openssl wrote it"))
}

fn csr(name: &str, signer: &str, request: &str) -> String {
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec: {{signerName: {signer}, request: {request}, usages: [client auth, digital signature]}}\n"
    )
}

// https://kubernetes.io/docs/tasks/tls/certificate-issue-client-csr/
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_gets_a_certificate_that_somebody_approved_and_logs_in_with_it() {
    let c = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let text = request(dir.path(), "/CN=jane/O=devs");
    c.apply(&csr("jane", "kubernetes.io/kube-apiserver-client", &text)).await;
    let e = c.fails(&["--as=bob", "certificate", "approve", "jane"], "").await;
    assert!(e.contains("Forbidden"), "{e}");
    c.ok(&["certificate", "approve", "jane"]).await;
    c.ok(&["wait", "csr/jane", "--for=jsonpath={.status.conditions[0].type}=Approved"]).await;
    let issued = || c.ok(&["get", "csr", "jane", "-o", "jsonpath={.status.certificate}"]);
    let mut certificate = issued().await;
    for _ in 0..100 {
        if !certificate.is_empty() {
            break;
        }
        certificate = issued().await;
    }
    use base64::Engine as _;
    let pem = base64::engine::general_purpose::STANDARD.decode(certificate).unwrap();
    std::fs::write(dir.path().join("cert.pem"), pem).unwrap();
    std::fs::write(dir.path().join("ca.pem"), c.running.ca_pem()).unwrap();
    let at = |f: &str| dir.path().join(f).display().to_string();
    let (server, ca, cert, key) = (
        format!("--server=https://{}", c.running.address()),
        at("ca.pem"),
        at("cert.pem"),
        at("key.pem"),
    );
    let me = [
        "--kubeconfig=/dev/null",
        &server,
        "--certificate-authority",
        &ca,
        "--client-certificate",
        &cert,
        "--client-key",
        &key,
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
    ];
    assert_eq!(c.ok(&me).await, "jane [\"devs\",\"system:authenticated\"]");
    let text = request(dir.path(), "/CN=eve/O=system:masters");
    let e = c
        .fails(&["apply", "-f", "-"], &csr("eve", "kubernetes.io/kube-apiserver-client", &text))
        .await;
    assert!(e.contains("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"), "{e}");
}

// "Field management" of https://kubernetes.io/docs/reference/using-api/server-side-apply/. What the strategies
// of requests reset is nobody's (`GetResetFields` in pkg/registry/certificates/certificates): the request itself
// always, and its status but through the path that has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_approves_and_who_signs_a_request_own_their_parts_of_its_status() {
    let c = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let text = request(dir.path(), "/CN=jane");
    let made = ["create", "--field-manager=asks", "-f", "-"];
    let labelled =
        csr("jane", "example.com/own", &text).replace("name: jane}", "name: jane, labels: {a: b}}");
    for body in [&labelled, &csr("bare", "example.com/own", &text)] {
        let said = c.kubectl_in(&made, body).await;
        assert!(said.ok, "{}", said.err);
    }
    let owned = async |name: &str| {
        let text = c.ok(&["get", "csr", name, "-o", "json", "--show-managed-fields"]).await;
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let one = |e: &serde_json::Value| {
            let text = |f: &str| e[f].as_str().unwrap_or_default().to_owned();
            (text("manager"), text("operation"), text("subresource"), e["fieldsV1"].clone())
        };
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        entries.iter().map(one).collect::<Vec<_>>()
    };
    // Of an object that nobody owned a part of, nobody does later.
    c.ok(&["certificate", "approve", "bare"]).await;
    assert_eq!(owned("bare").await, []);
    let before = owned("jane").await;
    let label = serde_json::json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}});
    assert_eq!(before, [("asks".to_owned(), "Update".to_owned(), String::new(), label)]);

    c.ok(&["certificate", "approve", "jane"]).await;
    let after = owned("jane").await;
    assert_eq!(after[0], before[0]);
    let (_, operation, subresource, fields) = &after[1];
    assert_eq!((operation.as_str(), subresource.as_str()), ("Update", "approval"));
    let condition = &fields["f:status"]["f:conditions"]["k:{\"type\":\"Approved\"}"];
    for field in ["f:type", "f:status", "f:reason", "f:message"] {
        assert!(condition[field].is_object(), "{fields}");
    }
    assert_eq!(fields.as_object().unwrap().len(), 1, "{fields}");

    // The signer is somebody else here, who sends the whole object with its certificate.
    let signed = std::fs::read(c.running.kubeconfig()).unwrap();
    let signed: serde_json::Value = serde_saphyr::from_slice(&signed).unwrap();
    let certificate = &signed["users"][0]["user"]["client-certificate-data"];
    let patch = serde_json::json!({"status": {"certificate": certificate}}).to_string();
    let by = [
        "patch",
        "csr",
        "jane",
        "--subresource=status",
        "--field-manager=signs",
        "--type=merge",
        "-p",
        &patch,
    ];
    c.ok(&by).await;
    let last = owned("jane").await;
    assert_eq!(last[..2], after[..]);
    let (manager, operation, subresource, fields) = &last[2];
    assert_eq!(
        (manager.as_str(), operation.as_str(), subresource.as_str()),
        ("signs", "Update", "status")
    );
    assert_eq!(*fields, serde_json::json!({"f:status": {"f:certificate": {}}}));
}

// https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_that_may_have_a_certificate_gets_it_at_once() {
    let c = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let text = request(dir.path(), "/O=system:nodes/CN=system:node:n1");
    let node = as_node(&["apply", "-f", "-"]);
    c.ok(&[
        "create",
        "clusterrolebinding",
        "renew",
        "--clusterrole=system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "--group=system:nodes",
    ])
    .await;
    let said =
        c.kubectl_in(&node, &csr("n1", "kubernetes.io/kube-apiserver-client-kubelet", &text)).await;
    assert!(said.ok, "{}", said.err);
    c.ok(&["wait", "csr/n1", "--for=condition=Approved", "--timeout=10s"]).await;
    assert!(c.ok(&["get", "csr", "n1"]).await.contains("Approved"));
}

// https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_bound_to_a_pod_ends_with_it() {
    let c = Cluster::start().await;
    c.apply(NODES).await;
    let uid = c.ok(&["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]).await;
    let token = c
        .ok(&[
            "create",
            "token",
            "default",
            "--bound-object-kind=Pod",
            "--bound-object-name=web",
            "--bound-object-uid",
            &uid,
        ])
        .await;
    let ca = c.running.kubeconfig().with_file_name("ca.pem");
    std::fs::write(&ca, c.running.ca_pem()).unwrap();
    let (server, ca) =
        (format!("--server=https://{}", c.running.address()), ca.display().to_string());
    let me = [
        "--kubeconfig=/dev/null",
        &server,
        "--certificate-authority",
        &ca,
        "--token",
        token.trim(),
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username} {.status.userInfo.extra.authentication\\.kubernetes\\.io/pod-name}",
    ];
    assert_eq!(c.ok(&me).await, "system:serviceaccount:default:default [\"web\"]");
    c.ok(&["delete", "pod", "web", "--force", "--grace-period=0"]).await;
    let e = c.fails(&me, "").await;
    assert!(e.contains("Unauthorized") || e.contains("must be logged in"), "{e}");
}

// https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#manually-create-an-api-token-for-a-serviceaccount
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_holds_a_token_of_its_account_as_long_as_both_are_there() {
    let c = Cluster::start().await;
    c.ok(&["create", "serviceaccount", "robot"]).await;
    let secret = "
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: robot-token, annotations: {kubernetes.io/service-account.name: robot}}
";
    c.apply(secret).await;
    c.ok(&["wait", "secret/robot-token", "--for=jsonpath={.data.token}", "--timeout=20s"]).await;
    let of = |field: &str| format!("go-template={{{{index .data \"{field}\" | base64decode}}}}");
    let read = ["get", "secret", "robot-token", "-o"];
    assert_eq!(c.ok(&[&read[..], &[&of("namespace")]].concat()).await, "default");
    assert_eq!(c.ok(&[&read[..], &[&of("ca.crt")]].concat()).await, c.running.ca_pem());
    let token = c.ok(&[&read[..], &[&of("token")]].concat()).await;
    let server = format!("https://{}", c.running.address());
    let with = [
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        "--server",
        &server,
        "--token",
        &token,
    ];
    let who =
        [&with[..], &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]].concat();
    assert_eq!(c.ok(&who).await, "system:serviceaccount:default:robot");
    c.ok(&["delete", "serviceaccount", "robot"]).await;
    c.ok(&["wait", "--for=delete", "secret/robot-token", "--timeout=20s"]).await;
    let e = c.fails(&who, "").await;
    assert!(e.contains("Unauthorized"), "{e}");
}

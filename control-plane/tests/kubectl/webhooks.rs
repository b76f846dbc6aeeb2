//! Admission webhooks, asked over HTTPS.
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

use std::convert::Infallible;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::support::{Cluster, tls_server};

/// A webhook that labels what it is asked about, and denies what is named `bad`.
async fn webhook() -> (SocketAddr, String) {
    let (address, certificate) = tls_server(|stream| async {
        let service = hyper::service::service_fn(answer);
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    })
    .await;
    (address, STANDARD.encode(certificate))
}

async fn answer(
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review");
    let asked = &review["request"];
    let mut response = json!({"uid": asked["uid"], "allowed": true});
    if path == "/label" {
        let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"by": asked["userInfo"]["username"]}}]);
        response["patchType"] = "JSONPatch".into();
        response["patch"] = STANDARD.encode(patch.to_string()).into();
    } else if asked["name"] == "bad" {
        response["allowed"] = false.into();
        let message = format!(
            "{} of {}",
            asked["operation"].as_str().unwrap_or_default(),
            asked["oldObject"]["data"]
        );
        response["status"] = json!({"code": 403, "reason": "Forbidden", "message": message});
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(http::Response::new(Full::from(review.to_string())))
}

fn configuration(kind: &str, url: &str, bundle: &str, more: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: {kind}WebhookConfiguration
metadata: {{name: hooks}}
webhooks:
- name: hook.example.com
  clientConfig: {{url: '{url}', caBundle: {bundle}}}
  rules: [{{operations: [CREATE, DELETE], apiGroups: [''], apiVersions: [v1], resources: [configmaps]}}]
  sideEffects: None
  admissionReviewVersions: [v1]
  timeoutSeconds: 2
  {more}
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_changes_and_denies_what_its_rules_select() {
    let c = Cluster::start().await;
    let (address, bundle) = webhook().await;
    c.ok(&["create", "cm", "bad", "--from-literal=k=old"]).await;
    let label = configuration("Mutating", &format!("https://{address}/label"), &bundle, "");
    c.apply(&label.replace("CREATE, DELETE", "CREATE")).await;
    c.apply(&configuration("Validating", &format!("https://{address}/check"), &bundle, "")).await;
    c.ok(&["create", "cm", "good"]).await;
    assert_eq!(
        c.ok(&["get", "cm", "good", "-o", "jsonpath={.metadata.labels.by}"]).await,
        "kubernetes-admin"
    );
    assert_eq!(
        c.fails(&["delete", "cm", "bad"], "").await,
        "Error from server (Forbidden): admission webhook \"hook.example.com\" denied the request: DELETE of {\"k\":\"old\"}\n"
    );
    c.ok(&["create", "secret", "generic", "bad"]).await;
    assert_eq!(c.ok(&["get", "secret", "bad", "-o", "jsonpath={.metadata.labels}"]).await, "");
    let rows = c.ok(&["get", "validatingwebhookconfigurations"]).await;
    let row: Vec<&str> = rows.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(&row[..2], ["hooks", "1"]);
    c.ok(&["delete", "validatingwebhookconfiguration", "hooks"]).await;
    c.ok(&["delete", "cm", "bad"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_does_not_answer_stops_writes_unless_it_may_be_ignored() {
    let c = Cluster::start().await;
    let (_, bundle) = webhook().await;
    // Nothing listens there.
    let nowhere = "https://127.0.0.1:1/check";
    c.apply(&configuration(
        "Validating",
        nowhere,
        &bundle,
        "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}",
    ))
    .await;
    let e = c.fails(&["create", "cm", "m"], "").await;
    assert!(e.contains("Internal error occurred: failed calling webhook \"hook.example.com\": failed to call webhook: Post \"https://127.0.0.1/check\":"), "{e}");
    c.ok(&["-n", "kube-public", "create", "cm", "m"]).await;
    c.apply(&configuration("Validating", nowhere, &bundle, "failurePolicy: Ignore")).await;
    c.ok(&["create", "cm", "m"]).await;
}

// "Matching requests: matchConditions" of the page named above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_asked_only_where_its_conditions_hold() {
    let c = Cluster::start().await;
    let (address, bundle) = webhook().await;
    let check = format!("https://{address}/check");
    let conditions = |expression: &str| {
        let more = format!("matchConditions: [{{name: only-some, expression: \"{expression}\"}}]");
        configuration("Validating", &check, &bundle, &more)
    };
    c.ok(&["create", "cm", "bad", "--from-literal=k=v"]).await;
    c.apply(&conditions("request.operation != 'DELETE' || oldObject.data.k != 'v'")).await;
    c.ok(&["delete", "cm", "bad"]).await;
    let e = c.fails(&["create", "cm", "bad"], "").await;
    assert!(e.contains("denied the request"), "{e}");
    // A condition that cannot be evaluated stops the write, unless failures may be ignored.
    c.apply(&conditions("object.data.none == 'x'")).await;
    let e = c.fails(&["create", "cm", "good"], "").await;
    assert!(e.contains("configmaps \"good\" is forbidden: match condition \"only-some\" of hook.example.com: no such key: "), "{e}");
    let e = c.fails(&["apply", "-f", "-"], &conditions("object.")).await;
    assert!(e.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"object.\": compilation failed"), "{e}");
}

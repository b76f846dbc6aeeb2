//! The webhook as the API server calls it: real sockets, real TLS.

use std::collections::HashMap;
use std::convert::Infallible;

use http::{Method, Request as HttpRequest, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use service::CancellationToken;
use service::tls::ServerTrust;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;

/// An API server that has some objects, and remembers what is written.
#[derive(Clone, Default)]
struct Fake {
    objects: Arc<Mutex<HashMap<String, Value>>>,
}

impl Fake {
    fn client(&self) -> kube::Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: HttpRequest<Body>| {
            let this = this.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, body) = this.act(&parts.method, parts.uri.path(), body);
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    fn act(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let status = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code}))
        };
        let mut objects = self.objects.lock();
        match *method {
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap();
                let path = format!("{path}/{name}");
                if objects.contains_key(&path) {
                    return status(409, "AlreadyExists");
                }
                objects.insert(path, body.clone());
                (201, body)
            }
            Method::PATCH => {
                let Some(object) = objects.get_mut(path) else { return status(404, "NotFound") };
                object["webhooks"] = body["webhooks"].clone();
                (200, object.clone())
            }
            _ => match objects.get(path) {
                Some(object) => (200, object.clone()),
                None if path.ends_with("/rules") => (200, json!({"metadata": {}, "items": []})),
                None => status(404, "NotFound"),
            },
        }
    }
}

struct Running {
    at: SocketAddr,
    ca: Vec<CertificateDer<'static>>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<Result<(), service::Stopped>>,
}

async fn start(fake: &Fake) -> Running {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        reach: Reach::Host("127.0.0.1".to_owned()),
        certificate: Certificate::Own,
    };
    let admission = Admission::build(settings).await.unwrap();
    let (at, ca) = (admission.address(), admission.ca().to_vec());
    let mut svc = Service::new("admission");
    let stop = svc.stopping();
    let metrics = Metrics::default();
    admission.spawn(&mut svc, ApiServer::new(fake.client(), metrics.clone()), metrics);
    Running { at, ca, stop, done: tokio::spawn(svc.until_stopped()) }
}

impl Running {
    async fn post(&self, path: &str, content: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let trust = ServerTrust::Roots(tls::roots(self.ca.iter().cloned()).unwrap());
        let config = tls::client_config(trust, None, &[b"http/1.1"]).unwrap();
        let stream = TcpStream::connect(self.at).await.unwrap();
        let name = ServerName::from(self.at.ip());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = HttpRequest::post(path)
            .header("host", "webhook")
            .header("content-type", content)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        driver.abort();
        (code, body)
    }

    async fn review(&self, path: &str, operation: &str, object: Value, old: Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u-1", "operation": operation, "namespace": "default",
                "object": object, "oldObject": old}});
        let (code, body) =
            self.post(path, "application/json; charset=utf-8", review.to_string().into()).await;
        assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&answer["kind"], &answer["response"]["uid"]),
            (&json!("AdmissionReview"), &json!("u-1"))
        );
        answer["response"].clone()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.done.await.unwrap().unwrap();
    }
}

fn device(desired: &str) -> Value {
    json!({"metadata": {"name": "lamp", "namespace": "default"}, "spec": {
        "deviceModelRef": {"name": "switch"},
        "properties": [{"name": "level", "desired": {"value": desired}}]}})
}

#[tokio::test]
async fn a_device_is_refused_with_the_field_what_was_found_and_what_would_be_right() {
    let fake = Fake::default();
    let model = json!({"metadata": {"name": "switch"}, "spec": {"properties": [
        {"name": "level", "type": "INT", "minimum": "0", "maximum": "100"}]}});
    let models = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicemodels";
    fake.objects.lock().insert(format!("{models}/switch"), model);
    let running = start(&fake).await;

    let good = running.review("/devices", "CREATE", device("40"), Value::Null).await;
    assert_eq!(good["allowed"], true);
    let bad = running.review("/devices", "CREATE", device("101"), Value::Null).await;
    assert_eq!(bad["allowed"], false);
    let message = "spec.properties[0].desired.value: Invalid value: \"101\": must be from 0 to 100";
    assert_eq!(bad["status"]["message"], message);
    assert_eq!(bad["status"]["code"], 422);

    let mut status = device("101");
    status["status"] = json!({"reportToCloud": true});
    let same = running.review("/devices", "UPDATE", status, device("101")).await;
    assert_eq!(same["allowed"], true, "its spec is as it was");
    let gone = running.review("/devices", "DELETE", Value::Null, device("101")).await;
    assert_eq!(gone["allowed"], true);
    fake.objects.lock().remove(&format!("{models}/switch"));
    let early = running.review("/devices", "CREATE", device("101"), Value::Null).await;
    assert_eq!(early["allowed"], true, "the model may come later");
    running.stop().await;
}

#[tokio::test]
async fn a_pod_gets_its_toleration_as_a_patch() {
    use base64::Engine as _;
    let running = start(&Fake::default()).await;
    let pod = json!({"metadata": {"labels": {"app-offline.kubeedge.io": "autonomy"}}, "spec": {}});
    let answer = running.review("/offlinemigration", "CREATE", pod, Value::Null).await;
    assert_eq!((&answer["allowed"], &answer["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = base64::engine::general_purpose::STANDARD
        .decode(answer["patch"].as_str().unwrap())
        .unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["value"][0]["key"], "node.kubernetes.io/unreachable");
    running.stop().await;
}

#[tokio::test]
async fn a_rule_without_its_ends_is_refused() {
    let running = start(&Fake::default()).await;
    let rule = json!({"metadata": {"name": "r"}, "spec": {"source": "../secrets", "target": "b",
        "sourceResource": {}, "targetResource": {}}});
    let answer = running.review("/rules", "CREATE", rule, Value::Null).await;
    assert_eq!(answer["allowed"], false);
    assert!(answer["status"]["message"].as_str().unwrap().contains("spec.source"));
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_a_huge_one_is_not_read() {
    let running = start(&Fake::default()).await;
    let json = "application/json";
    let huge = vec![b' '; (8 << 20) + 1];
    for (path, content, body, code) in [
        ("/nothing", json, b"{}".to_vec(), 404),
        ("/devices", "text/plain", b"{}".to_vec(), 415),
        ("/devices", json, b"{".to_vec(), 400),
        ("/devices", json, b"{\"apiVersion\":\"admission.k8s.io/v1beta1\"}".to_vec(), 400),
        ("/devices", json, b"{\"apiVersion\":\"admission.k8s.io/v1\"}".to_vec(), 400),
        ("/devices", json, huge, 413),
    ] {
        let (found, body) = running.post(path, content, body).await;
        assert_eq!(found, code, "{path}: {}", String::from_utf8_lossy(&body));
    }
    running.stop().await;
}

#[tokio::test]
async fn it_registers_itself_with_the_ca_that_it_has_now() {
    let fake = Fake::default();
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/\
                kubeedge-crds-validate-webhook-configuration";
    let old = json!({"metadata": {"name": "kubeedge-crds-validate-webhook-configuration"},
        "webhooks": [{"clientConfig": {"caBundle": "b2xk"}}]});
    fake.objects.lock().insert(path.to_owned(), old);
    let running = start(&fake).await;
    let registered = async {
        loop {
            let count = fake.objects.lock().len();
            let hooks = fake.objects.lock()[path]["webhooks"].clone();
            if count == 3 && hooks.as_array().is_some_and(|h| h.len() > 1) {
                return hooks;
            }
            tokio::task::yield_now().await;
        }
    };
    let hooks = tokio::time::timeout(Duration::from_secs(20), registered).await.unwrap();
    assert_ne!(hooks[0]["clientConfig"]["caBundle"], "b2xk");
    let url = format!("https://127.0.0.1:{}/devices", running.at.port());
    assert_eq!(hooks[0]["clientConfig"]["url"], url);
    running.stop().await;
}

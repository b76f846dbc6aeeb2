//! The status stream over TLS: who may read, who may not, and what each is told.

use api::status::row::RowKey;
use api::status::stream::{FromReader, Hello, Request, ToReader};
use futures::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
use rcgen::{KeyPair, KeyUsagePurpose};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::edge::tls_to;
use super::*;

type Reader = WebSocketStream<TlsStream<TcpStream>>;

const READ: [&str; 6] =
    ["list nodes", "watch nodes", "list pods", "watch pods", "list devices", "watch devices"];
const AUTHENTICATION: &str =
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

/// Opens the stream; else the status and the text of the refusal.
async fn open(
    cloud: &Cloud,
    identity: Option<&Identity>,
    headers: &[(&'static str, &str)],
) -> Result<Reader, (u16, String)> {
    let stream = tls_to(cloud.https(), &cloud.ca, identity).await.unwrap();
    let mut request = "ws://cloud/status/v1".into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((reader, _)) => Ok(reader),
        Err(Error::Http(answer)) => {
            let text = answer.body().clone().unwrap_or_default();
            Err((answer.status().as_u16(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

async fn next(reader: &mut Reader) -> ToReader {
    loop {
        let message = tokio::time::timeout(PATIENCE, reader.next()).await.expect("silence");
        if let Message::Text(text) = message.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// Makes a request; its error, empty if there is none.
async fn ask(reader: &mut Reader, request: Request) -> String {
    let text = serde_json::to_string(&FromReader::Request { id: 1, request }).unwrap();
    reader.send(Message::text(text)).await.unwrap();
    loop {
        if let ToReader::Done(done) = next(reader).await {
            return done.error;
        }
    }
}

#[tokio::test]
async fn a_token_that_may_read_gets_the_rows_and_nothing_that_it_may_not_do() {
    let fake = Fake::default();
    add_served_node(&fake, "edge-1");
    fake.user("s3cret", "jo", &READ);
    fake.user("0ps", "op", &[&READ[..], &["patch nodes"]].concat());
    let cloud = Cloud::start_on(fake, &[]).await;
    let mut reader = open(&cloud, None, &[("authorization", "Bearer s3cret")]).await.unwrap();
    assert!(matches!(next(&mut reader).await, ToReader::Hello(Hello { version: 1, .. })));
    let ToReader::Update(update) = next(&mut reader).await else { panic!("no update") };
    assert!(update.full && update.nodes[0].name == "edge-1");
    let cordon = || Request::Cordon { node: "edge-1".to_owned(), on: true };
    assert_eq!(ask(&mut reader, cordon()).await, "`jo` may not patch nodes `edge-1`");
    let yaml = Request::Yaml { key: RowKey::node("edge-1") };
    assert_eq!(ask(&mut reader, yaml).await, "`jo` may not get nodes `edge-1`");
    let mut reader = open(&cloud, None, &[("authorization", "Bearer 0ps")]).await.unwrap();
    assert_eq!(ask(&mut reader, cordon()).await, "");
    assert_eq!(cloud.fake.get("/api/v1/nodes/edge-1").unwrap()["spec"]["unschedulable"], true);
    cloud.stop().await;
}

#[tokio::test]
async fn whoever_may_not_read_is_told_why_in_the_answer() {
    let fake = Fake::default();
    fake.user("part", "jo", &READ[..4]);
    let cloud = Cloud::start_on(fake, &[]).await;
    let refused = async |headers: &[(&'static str, &str)]| {
        open(&cloud, None, headers).await.expect_err("it was let in")
    };
    let (code, text) = refused(&[]).await;
    assert_eq!(code, 401);
    assert!(text.contains("Kubernetes bearer token"), "{text}");
    let (code, text) = refused(&[("authorization", "Bearer wrong")]).await;
    assert_eq!((code, text.as_str()), (401, "the API server does not accept the token"));
    let (code, text) = refused(&[("authorization", "Bearer part")]).await;
    assert_eq!(code, 403);
    assert!(text.starts_with("`jo` may not ") && text.contains("devices"), "{text}");
    let page = [("authorization", "Bearer part"), ("origin", "https://example.org")];
    assert_eq!(refused(&page).await.0, 403);
    cloud.fake.away(true);
    assert_eq!(refused(&[("authorization", "Bearer part")]).await.0, 503);
    cloud.fake.away(false);
    // A join's token is no credential for reading.
    let token = format!("Bearer {}", cloud.token);
    assert_eq!(refused(&[("authorization", token.as_str())]).await.0, 401);
    cloud.stop().await;
}

#[tokio::test]
async fn guessing_tokens_ends_in_a_pause_for_that_address() {
    let cloud = Cloud::start().await;
    let mut codes = Vec::new();
    for _ in 0..25 {
        codes.push(open(&cloud, None, &[("authorization", "Bearer guess")]).await.unwrap_err().0);
    }
    assert_eq!((codes[0], codes[24]), (401, 429));
    cloud.stop().await;
}

/// A CA as PEM, and a client certificate of it.
fn client(cn: &str) -> (String, Identity) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let signed = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (pem, Identity::new(vec![signed.der().clone()], private, "a test's client").unwrap())
}

#[tokio::test]
async fn a_client_certificate_counts_if_the_clusters_ca_signed_it_and_a_nodes_does_not() {
    let fake = Fake::default();
    fake.user("unused", "ann", &READ);
    fake.user("unused too", "system:node:edge-1", &READ);
    let cloud = Cloud::start_on(fake, &[]).await;
    let (ca, identity) = client("ann");
    let (code, text) = open(&cloud, Some(&identity), &[]).await.unwrap_err();
    assert_eq!(code, 401);
    assert!(text.contains("publishes no CA"), "{text}");
    cloud.fake.put(AUTHENTICATION, json!({"data": {"client-ca-file": ca}}));
    let mut reader = open(&cloud, Some(&identity), &[]).await.unwrap();
    assert!(matches!(next(&mut reader).await, ToReader::Hello(_)));
    let (_, stranger) = client("ann");
    let (code, text) = open(&cloud, Some(&stranger), &[]).await.unwrap_err();
    assert_eq!(code, 401);
    assert!(text.contains("not one of the cluster"), "{text}");
    let node = cloud.join("edge-1").await;
    assert_eq!(open(&cloud, Some(&node), &[]).await.unwrap_err().0, 401);
    cloud.stop().await;
}

#[tokio::test]
async fn where_the_stream_is_can_be_found_through_the_api_server() {
    let cloud = Cloud::start().await;
    let path = "/api/v1/namespaces/kubeedge/configmaps/status-stream";
    eventually("it is published", || cloud.fake.get(path).is_some()).await;
    let data = cloud.fake.get(path).unwrap()["data"].clone();
    assert_eq!(data["endpoint"], format!("https://127.0.0.1:{}", cloud.https().port()));
    assert!(data["ca.crt"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    cloud.stop().await;
}

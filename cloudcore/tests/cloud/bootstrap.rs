use std::time::Duration;

use base64::Engine;
use cloudcore::cloudhub::secrets;
use http_body_util::Full;
use hyper::body::Bytes;

use super::edge::{ask_certificate, csr, get, https, identity};
use super::*;

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

async fn ask(cloud: &Cloud, token: &str, node: &str, cn: &str) -> (u16, String) {
    let (request, _) = csr(cn);
    let (code, body) = ask_certificate(cloud.https(), &cloud.ca, token, node, request).await;
    (code, text(&body))
}

#[tokio::test]
async fn the_ca_is_given_to_anybody_and_begins_the_token() {
    let cloud = Cloud::start().await;
    let (code, body) = https(cloud.https(), &cloud.ca, None, get("/ca.crt", &[], vec![])).await;
    assert_eq!((code, body.as_slice()), (200, cloud.ca.as_ref()));
    let hash = cloudcore::cloudhub::tokens::ca_hash(&body);
    assert!(cloud.token.starts_with(&format!("{hash}.")));
}

#[tokio::test]
async fn the_secrets_are_kubeedges() {
    let cloud = Cloud::start().await;
    let keys = |name: &str| -> Vec<String> {
        let secret = cloud.fake.get(&format!("/api/v1/namespaces/kubeedge/secrets/{name}"));
        secret.unwrap()["data"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys("casecret"), ["cadata", "cakeydata"]);
    assert_eq!(keys("cloudcoresecret"), ["cloudcoredata", "cloudcorekeydata"]);
    assert_eq!(keys("tokensecret"), ["tokendata"]);
    assert!(cloud.fake.get("/api/v1/namespaces/kubeedge").is_some());
}

#[tokio::test]
async fn an_expired_token_is_refused_with_the_time_and_the_next_step() {
    let cloud = Cloud::start().await;
    let ca = secrets::stored_ca(&cloud.api).await.unwrap().unwrap();
    let (token, _) = secrets::issue_token(&cloud.api, &ca, Duration::ZERO, "test").await.unwrap();
    let (code, why) = ask(&cloud, token.as_str(), "edge-1", "system:node:edge-1").await;
    assert_eq!(code, 401);
    assert!(why.contains("token is expired since 20"), "{why}");
    assert!(why.contains("keadm gettoken"), "{why}");
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_others_stay_good() {
    let cloud = Cloud::start().await;
    let ca = secrets::stored_ca(&cloud.api).await.unwrap().unwrap();
    let (token, id) =
        secrets::issue_token(&cloud.api, &ca, Duration::from_secs(600), "site 7").await.unwrap();
    let listed = secrets::list_tokens(&cloud.api).await.unwrap();
    assert_eq!(listed.0[&id].purpose, "site 7");
    assert_eq!(ask(&cloud, token.as_str(), "edge-1", "system:node:edge-1").await.0, 200);
    secrets::revoke_token(&cloud.api, &id).await.unwrap();
    let (code, why) = ask(&cloud, token.as_str(), "edge-2", "system:node:edge-2").await;
    assert_eq!(code, 401);
    assert!(why.contains("is revoked"), "{why}");
    cloud.join("edge-3").await;
}

#[tokio::test]
async fn bad_credentials_get_the_words_of_the_original() {
    let cloud = Cloud::start().await;
    let send = async |headers: &[(&str, &str)]| {
        let request = get("/edge.crt", headers, csr("system:node:edge-1").0);
        let (code, body) = https(cloud.https(), &cloud.ca, None, request).await;
        (code, text(&body))
    };
    let node = ("nodename", "edge-1");
    let (code, why) = send(&[node]).await;
    assert_eq!((code, why.as_str()), (401, "token validation failure, token is empty"));
    let (code, why) = send(&[node, ("authorization", "x")]).await;
    assert_eq!((code, why.as_str()), (401, "token validation failure, token cannot be split"));
    let (code, why) = send(&[node, ("authorization", "Bearer a.b.c")]).await;
    assert_eq!(code, 401);
    assert!(why.starts_with("token validation failure, err: "), "{why}");
}

#[tokio::test]
async fn a_request_for_another_name_or_without_sense_is_refused() {
    let cloud = Cloud::start().await;
    let (code, why) = ask(&cloud, &cloud.token, "edge-1", "system:node:edge-2").await;
    assert_eq!(code, 400);
    assert!(why.contains("the node asked for is `system:node:edge-1`"), "{why}");
    let (code, body) =
        ask_certificate(cloud.https(), &cloud.ca, &cloud.token, "edge-1", b"junk".to_vec()).await;
    assert_eq!((code, text(&body).contains("not a certificate signing request")), (400, true));
    let (code, _) =
        ask_certificate(cloud.https(), &cloud.ca, &cloud.token, "../x", b"junk".to_vec()).await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read() {
    let cloud = Cloud::start().await;
    let huge = vec![0; (1 << 20) + 1];
    let (code, body) =
        ask_certificate(cloud.https(), &cloud.ca, &cloud.token, "edge-1", huge).await;
    assert_eq!((code, text(&body).contains("larger than 1048576")), (413, true));
}

#[tokio::test]
async fn a_name_that_an_edge_node_bears_is_given_only_to_that_node() {
    let cloud = Cloud::start().await;
    let own = cloud.join("edge-1").await;
    add_node(&cloud.fake, "edge-1");
    // It exists, but no edge node has been connected under it: a node may be made before it joins.
    assert_eq!(ask(&cloud, &cloud.token, "edge-1", "system:node:edge-1").await.0, 200);
    let link = cloud.dial(&own, "edge-1").await;
    eventually("the node says who serves it", || {
        let node = cloud.fake.get("/api/v1/nodes/edge-1").unwrap();
        node["metadata"]["annotations"]["cloudcore"] == "127.0.0.1"
    })
    .await;
    let (code, why) = ask(&cloud, &cloud.token, "edge-1", "system:node:edge-1").await;
    assert_eq!(code, 409);
    assert!(why.contains("kubectl delete node edge-1"), "{why}");
    // Its own certificate gets it a new one.
    let (request, key) = csr("system:node:edge-1");
    let rotate = get("/edge.crt", &[("nodename", "edge-1")], request);
    let (code, body) = https(cloud.https(), &cloud.ca, Some(&own), rotate).await;
    assert_eq!(code, 200, "{}", text(&body));
    drop(link);
    cloud.dial(&identity(body, &key), "edge-1").await.take_until("edge-1").await;
    // And no other's.
    let other = cloud.join("edge-2").await;
    let (request, _) = csr("system:node:edge-1");
    let steal = get("/edge.crt", &[("nodename", "edge-1")], request);
    let (code, body) = https(cloud.https(), &cloud.ca, Some(&other), steal).await;
    assert_eq!((code, text(&body).contains("is for `system:node:edge-2`")), (401, true));
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_with_a_reason() {
    let cloud = Cloud::start().await;
    let other = Cloud::start().await;
    let stranger = other.join("edge-1").await;
    let (request, _) = csr("system:node:edge-1");
    let request = get("/edge.crt", &[("nodename", "edge-1")], request);
    let (code, body) = https(cloud.https(), &cloud.ca, Some(&stranger), request).await;
    assert_eq!((code, text(&body).contains("the client certificate is not valid")), (401, true));
}

#[tokio::test]
async fn a_stranger_learns_of_a_name_only_whether_it_is_taken() {
    let cloud = Cloud::start().await;
    add_node(&cloud.fake, "edge-1");
    let look = async |path: &str| {
        let (code, body) = https(cloud.https(), &cloud.ca, None, get(path, &[], vec![])).await;
        (code, text(&body))
    };
    assert_eq!(look("/node/edge-1").await, (200, "Node found".to_owned()));
    assert_eq!(look("/node/edge-2").await, (404, "Node not found".to_owned()));
    assert_eq!(look("/node/").await.0, 400);
    assert_eq!(look("/node/..%2Fsecrets").await.0, 400);
    assert_eq!(look("/metrics").await.0, 404);
}

#[tokio::test]
async fn nobody_posts_without_showing_who_it_is() {
    let cloud = Cloud::start().await;
    let post = |token: Option<&str>| {
        let mut request = http::Request::post("/nodeupgrade").header("host", "cloud");
        if let Some(token) = token {
            let jwt = token.split_once('.').unwrap().1;
            request = request.header("authorization", format!("Bearer {jwt}"));
        }
        request.body(Full::new(Bytes::from_static(b"{}"))).unwrap()
    };
    assert_eq!(https(cloud.https(), &cloud.ca, None, post(None)).await.0, 401);
    let (code, _) = https(cloud.https(), &cloud.ca, None, post(Some(&cloud.token))).await;
    assert_eq!(code, 501);
}

#[tokio::test]
async fn guessing_tokens_is_slow() {
    let cloud = Cloud::start().await;
    let mut codes = Vec::new();
    for _ in 0..30 {
        codes.push(ask(&cloud, "x.a.b.c", "edge-1", "system:node:edge-1").await.0);
    }
    assert_eq!(codes[0], 401);
    assert_eq!(codes[29], 429);
    let (code, why) = ask(&cloud, &cloud.token, "edge-1", "system:node:edge-1").await;
    assert_eq!((code, why.contains("try again")), (429, true), "a good one waits, too");
}

#[tokio::test]
async fn a_new_advertised_address_has_the_certificate_signed_anew_by_the_same_ca() {
    let cloud = Cloud::start().await;
    let (ca, token) = (cloud.ca.clone(), cloud.token.clone());
    let names = |cloud: &Cloud| {
        let secret = cloud.fake.get("/api/v1/namespaces/kubeedge/secrets/cloudcoresecret");
        secret.unwrap()["data"]["cloudcoredata"].clone()
    };
    let before = names(&cloud);
    let fake = cloud.stop().await;
    let same = Cloud::start_on(fake, &[]).await;
    assert_eq!(names(&same), before, "nothing has changed, nothing is signed");
    let fake = same.stop().await;
    let changed =
        Cloud::start_on(fake, &["modules.cloudHub.advertiseAddress={127.0.0.1,10.9.8.7}"]).await;
    assert_ne!(names(&changed), before);
    assert_eq!((&changed.ca, &changed.token), (&ca, &token));
    changed.join("edge-1").await;
}

#[tokio::test]
async fn while_the_api_server_is_away_a_machine_that_joins_is_told_so() {
    let cloud = Cloud::start().await;
    cloud.fake.away(true);
    let (code, why) = ask(&cloud, &cloud.token, "edge-1", "system:node:edge-1").await;
    assert_eq!(code, 503);
    assert!(why.contains("API server"), "{why}");
    cloud.fake.away(false);
    cloud.join("edge-1").await;
}

/// The default paths of both halves are the same, in KubeEdge too: an edge that joins on the cloud's
/// machine leaves its copy of the CA and its own certificate where cloudcore looks for a CA and a
/// server certificate.
#[tokio::test]
async fn an_edge_on_the_same_machine_does_not_keep_cloudcore_from_starting_again() {
    let cloud = Cloud::start().await;
    let (request, key) = csr("system:node:edge-1");
    let (code, certificate) =
        ask_certificate(cloud.https(), &cloud.ca, &cloud.token, "edge-1", request).await;
    assert_eq!(code, 200);
    let folder = tempfile::tempdir().unwrap();
    let pem = |der: &[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let settings = [
        format!("modules.cloudHub.tlsCAFile={}", file("ca.crt", pem(&cloud.ca))),
        format!("modules.cloudHub.tlsCertFile={}", file("server.crt", pem(&certificate))),
        format!("modules.cloudHub.tlsPrivateKeyFile={}", file("server.key", key.serialize_pem())),
    ];
    let ca = cloud.ca.clone();
    let fake = cloud.stop().await;
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let cloud = Cloud::start_on(fake, &settings).await;
    assert_eq!(cloud.ca, ca);
    // The handshake shows that the server's certificate is a server's, not the node's.
    cloud.join("edge-2").await;
}

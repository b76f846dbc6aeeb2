//! How a node comes by its certificate, against a certificate service of our making.

use std::os::unix::fs::PermissionsExt;

use crate::support::pki::{CertService, Pki};
use crate::support::{Cloud, Edge, config, options};
use edgecore::certs::CertError;
use edgecore::{EdgeCore, LinkError};
use service::Stopped;

const LOCAL: [&str; 1] = ["127.0.0.1"];
const FUTURE: i64 = 4_000_000_000;

/// An edgecore that has a token and no certificate, and how it ends.
async fn join(
    names: &[&str],
    token: impl Fn(&Pki) -> String,
    wanted: impl Fn(&Pki) -> String,
) -> CertError {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let cloud = Cloud::start(&pki, &LOCAL).await;
    let service = CertService::start(&pki, names, wanted(&pki)).await;
    let mut config = config(&cloud, dir.path());
    config.modules.edge_hub.http_server = format!("https://{}", service.at);
    config.modules.edge_hub.token = token(&pki).into();
    let edge = Edge::start_with(config, dir.path()).await;
    let Err(Stopped::Failed { module, source }) = edge.ended().await else { panic!("it goes on") };
    assert_eq!(module, "edgehub");
    assert!(!dir.path().join("server.crt").exists());
    *source.downcast().unwrap()
}

#[tokio::test]
async fn a_token_becomes_a_certificate_a_link_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let cloud = Cloud::start(&pki, &LOCAL).await;
    let token = pki.token(FUTURE);
    let service = CertService::start(&pki, &LOCAL, token.clone()).await;
    let mut config = config(&cloud, dir.path());
    config.modules.edge_hub.http_server = format!("https://{}", service.at);
    config.modules.edge_hub.token = token.clone().into();
    let file = dir.path().join("edgecore.yaml");
    std::fs::write(&file, format!("modules:\n  edgeHub:\n    token: {token}\n")).unwrap();
    let mut options = options(dir.path());
    options.config_file = Some(file.clone());
    let app = EdgeCore::build(config, options).await.unwrap();
    let mut svc = service::Service::new("edgecore");
    app.spawn(&mut svc).unwrap();
    cloud.until("a link", |s| s.links == 1).await;
    svc.stopping().cancel();
    svc.until_stopped().await.unwrap();
    for name in ["ca.crt", "server.crt", "server.key"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let yaml = std::fs::read_to_string(&file).unwrap();
    assert_eq!(yaml, "modules:\n  edgeHub:\n    token: \"\"\n");
}

#[tokio::test]
async fn a_ca_that_is_not_the_tokens_ends_the_start() {
    let e = join(&LOCAL, |_| Pki::new().token(FUTURE), |pki| pki.token(FUTURE)).await;
    assert!(matches!(e, CertError::OtherCa { .. }), "{e}");
    assert!(e.to_string().contains("keadm gettoken"), "{e}");
}

#[tokio::test]
async fn an_expired_token_is_said_with_its_time() {
    let e = join(&LOCAL, |pki| pki.token(1_700_000_000), |pki| pki.token(FUTURE)).await;
    assert!(matches!(e, CertError::TokenExpired { .. }), "{e}");
    assert!(e.to_string().contains("2023-11-14T22:13:20Z"), "{e}");
}

#[tokio::test]
async fn a_token_that_the_cloud_does_not_take_is_said_with_the_clouds_words() {
    let e = join(&LOCAL, |pki| pki.token(FUTURE), |pki| pki.token(FUTURE - 1)).await;
    let CertError::TokenRefused { reason, .. } = &e else { panic!("{e}") };
    assert!(reason.contains("token validation failure"), "{reason}");
}

#[tokio::test]
async fn a_server_of_another_name_gets_no_token() {
    let e = join(&["cloud.example"], |pki| pki.token(FUTURE), |pki| pki.token(FUTURE)).await;
    let CertError::Link(LinkError::WrongName { dialled, valid_for }) = &e else { panic!("{e}") };
    assert_eq!(
        (dialled.as_str(), valid_for.as_slice()),
        ("127.0.0.1", &["`cloud.example`".to_owned()][..])
    );
}

#[tokio::test]
async fn a_node_with_neither_certificate_nor_token_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&Pki::new(), &LOCAL).await;
    let edge = Edge::start_with(config(&cloud, dir.path()), dir.path()).await;
    let Err(Stopped::Failed { source, .. }) = edge.ended().await else { panic!("it goes on") };
    let e = source.downcast::<CertError>().unwrap();
    assert!(matches!(*e, CertError::NoToken { .. }), "{e}");
}

#[tokio::test]
async fn a_certificate_is_renewed_by_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let service = CertService::start(&pki, &LOCAL, pki.token(FUTURE)).await;
    pki.install(dir.path(), "edge-1");
    let settings = edgecore::certs::CertSettings {
        http_server: format!("https://{}", service.at),
        node: "edge-1".parse().unwrap(),
        ca_file: dir.path().join("ca.crt"),
        cert_file: dir.path().join("server.crt"),
        key_file: dir.path().join("server.key"),
        bootstrap_file: dir.path().join("none"),
        token: None,
        limit: crate::support::PATIENCE,
    };
    let before = std::fs::read(&settings.cert_file).unwrap();
    settings.rotate().await.unwrap();
    assert_ne!(std::fs::read(&settings.cert_file).unwrap(), before);
    assert_eq!(*service.asked.lock(), [(None, Some("edge-1".to_owned()))]);
}

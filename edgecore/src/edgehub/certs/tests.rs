use std::os::unix::fs::PermissionsExt;

use jiff::SignedDuration;
use rcgen::{CertificateParams, Issuer};

use super::*;

const CLAIMS_2026: &str = "eyJleHAiOjE3OTAwMDAwMDB9"; // {"exp":1790000000}

fn token(hash: &str) -> Token {
    format!("{hash}.eyJhbGciOiJIUzI1NiJ9.{CLAIMS_2026}.c2ln").parse().unwrap()
}

fn settings(folder: &std::path::Path) -> CertSettings {
    CertSettings {
        http_server: "https://127.0.0.1:1".into(),
        node: "edge-1".parse().unwrap(),
        ca_file: folder.join("ca/rootCA.crt"),
        cert_file: folder.join("certs/server.crt"),
        key_file: folder.join("certs/server.key"),
        bootstrap_file: folder.join("bootstrap-edgecore.conf"),
        token: None,
        limit: Duration::from_secs(5),
    }
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Ca { issuer: Issuer::new(params, key), der }
}

impl Ca {
    fn sign(&self, csr: &[u8], days_ago: i64, days: i64) -> Vec<u8> {
        let mut csr =
            rcgen::CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        let now = std::time::SystemTime::now();
        let day = |n: i64| std::time::Duration::from_secs(n.unsigned_abs() * 86_400);
        csr.params.not_before = (now - day(days_ago)).into();
        csr.params.not_after = (now - day(days_ago) + day(days)).into();
        csr.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

fn write_signed(settings: &CertSettings, ca: &Ca, days_ago: i64, days: i64) -> KeyPair {
    let (key, csr) = settings.request().unwrap();
    files::write_ca(settings, &ca.der).unwrap();
    files::write_pair(settings, &ca.sign(&csr, days_ago, days), &key).unwrap();
    key
}

#[test]
fn a_token_has_four_parts_and_hides_itself() {
    let hash = "ab".repeat(32);
    let t = token(&hash);
    assert_eq!(t.ca_hash(), hash);
    assert_eq!(t.expires().unwrap().as_second(), 1_790_000_000);
    assert!(!format!("{t:?}").contains("c2ln"));
    for bad in
        ["", "a.b.c.d", &format!("{hash}.a.b"), &format!("{hash}.a.b.c.d"), &format!("{hash}.a..c")]
    {
        assert!(matches!(bad.parse::<Token>(), Err(CertError::TokenForm)), "{bad}");
    }
}

#[test]
fn the_bootstrap_file_overrides_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = settings(dir.path());
    assert_eq!(s.current_token().unwrap(), None);
    s.token = Some(token(&"aa".repeat(32)));
    assert_eq!(s.current_token().unwrap(), s.token);
    let other = format!("{}.eyJhbGciOiJIUzI1NiJ9.{CLAIMS_2026}.c2ln\n", "bb".repeat(32));
    std::fs::write(&s.bootstrap_file, other).unwrap();
    assert_eq!(s.current_token().unwrap().unwrap().ca_hash(), "bb".repeat(32));
}

#[test]
fn what_is_on_the_disk_is_judged_by_node_key_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let s = settings(dir.path());
    let now = Timestamp::now();
    assert!(matches!(s.state(now).unwrap(), CertState::Missing { .. }));
    let ca = ca();
    write_signed(&s, &ca, 10, 365);
    assert!(matches!(s.state(now).unwrap(), CertState::Usable { .. }));
    let other = CertSettings { node: "edge-2".parse().unwrap(), ..s.clone() };
    let CertState::Missing { why } = other.state(now).unwrap() else { panic!() };
    assert!(why.contains("edge-1") && why.contains("edge-2"), "{why}");
    write_signed(&s, &ca, 10, 5);
    assert!(matches!(s.state(now).unwrap(), CertState::Expired { .. }));
}

#[test]
fn the_files_are_for_their_owner_only_and_the_key_is_in_the_originals_form() {
    let dir = tempfile::tempdir().unwrap();
    let s = settings(dir.path());
    write_signed(&s, &ca(), 0, 365);
    for file in [&s.ca_file, &s.cert_file, &s.key_file] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let key = std::fs::read_to_string(&s.key_file).unwrap();
    assert!(key.starts_with("-----BEGIN EC PRIVATE KEY-----\n"), "{}", key.lines().next().unwrap());
}

#[test]
fn a_crash_between_the_two_renames_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let s = settings(dir.path());
    let ca = ca();
    write_signed(&s, &ca, 300, 365);
    let old = std::fs::read(&s.cert_file).unwrap();
    write_signed(&s, &ca, 0, 365);
    let new = std::fs::read(&s.cert_file).unwrap();
    // The key is the new one; the certificate is still the old one, the new one lies beside it.
    std::fs::write(&s.cert_file, &old).unwrap();
    std::fs::write(s.cert_file.with_extension("crt.new"), &new).unwrap();
    assert!(matches!(s.state(Timestamp::now()).unwrap(), CertState::Usable { .. }));
    assert_eq!(std::fs::read(&s.cert_file).unwrap(), new);
}

#[test]
fn renewal_falls_between_seven_and_nine_tenths_of_the_life() {
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let to = from + SignedDuration::from_hours(1000);
    assert_eq!(keep::due(from, to, 0.0), from + SignedDuration::from_hours(700));
    assert_eq!(keep::due(from, to, 1.0), from + SignedDuration::from_hours(900));
}

#[test]
fn a_used_token_leaves_the_configuration_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edgecore.yaml");
    let before = "modules:\n  edgeHub: # the link\n    token: \"abc.h.c.s\"\n    heartbeat: 15\n";
    std::fs::write(&file, before).unwrap();
    files::blank_token(&file, "h.c.s").unwrap();
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(after, before.replace("\"abc.h.c.s\"", "\"\""));
}

#[tokio::test]
async fn a_cloud_that_cannot_be_reached_may_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let e = settings(dir.path()).bootstrap(&token(&"aa".repeat(32))).await.unwrap_err();
    assert!(e.may_pass(), "{e}");
    assert!(e.to_string().contains("https://127.0.0.1:1"), "{e}");
}

#[test]
fn a_certificate_for_another_node_or_key_is_of_no_use() {
    let dir = tempfile::tempdir().unwrap();
    let s = settings(dir.path());
    let ca = ca();
    let (key, csr) = s.request().unwrap();
    s.check(&ca.sign(&csr, 0, 1), &key).unwrap();
    let (_, other_csr) = s.request().unwrap();
    assert!(matches!(s.check(&ca.sign(&other_csr, 0, 1), &key), Err(CertError::BadAnswer { .. })));
    let other = CertSettings { node: "edge-2".parse().unwrap(), ..s };
    assert!(matches!(other.check(&ca.sign(&csr, 0, 1), &key), Err(CertError::BadAnswer { .. })));
}

/// What the original made with its own code.
fn vector(name: &str) -> PathBuf {
    let folder = "../api/tests/vectors/bootstrap";
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)
}

#[test]
fn the_files_and_the_token_of_a_kubeedge_node_are_taken_over() {
    let s = CertSettings {
        ca_file: vector("TEST-ONLY-rootCA.crt"),
        cert_file: vector("TEST-ONLY-edge-1.crt"),
        key_file: vector("TEST-ONLY-edge-1.key"),
        ..settings(std::path::Path::new("/nonexistent"))
    };
    let at: Timestamp = "2026-12-24T00:00:00Z".parse().unwrap();
    assert!(matches!(s.state(at).unwrap(), CertState::Usable { .. }), "{:?}", s.state(at));
    let vectors = std::fs::read_to_string(vector("token.json")).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&vectors).unwrap();
    let token: Token = vectors["token"].as_str().unwrap().parse().unwrap();
    let ca = tls::load_certificates(&s.ca_file).unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, &ca[0]);
    assert_eq!(token.ca_hash(), token::hex(hash.as_ref()));
    assert_eq!(token.jwt(), vectors["jwt"].as_str().unwrap());
}

/// Its subject alternative names hold an empty one, which strict readers refuse.
#[tokio::test]
async fn the_certificate_of_a_kubeedge_cloud_is_accepted() {
    let identity = tls::Identity::from_files(
        &vector("TEST-ONLY-cloud-server.crt"),
        &vector("TEST-ONLY-cloud-server.key"),
    )
    .unwrap();
    let server = tls::server_config(&identity, tls::ClientAuth::None, &[b"http/1.1"]).unwrap();
    let ca = tls::load_certificates(&vector("TEST-ONLY-rootCA.crt")).unwrap();
    let trust = ServerTrust::Roots(tls::roots(ca).unwrap());
    let client = tls::client_config(trust, None, &[b"http/1.1"]).unwrap();
    let dial = async |name: &'static str| {
        let (near, far) = tokio::io::duplex(16 << 10);
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server.clone()));
        tokio::spawn(async move { acceptor.accept(far).await.map(drop) });
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(client.clone()))
            .connect(name.try_into().unwrap(), near)
            .await
    };
    dial("127.0.0.1").await.unwrap();
    let e = dial("10.0.0.1").await.unwrap_err();
    let e = super::super::link::tls_error("10.0.0.1:10000", "10.0.0.1", &vector("x"), e);
    let LinkError::WrongName { valid_for, .. } = &e else { panic!("{e}") };
    assert!(valid_for.contains(&"`127.0.0.1`".to_owned()), "{valid_for:?}");
}

use base64::Engine;
use rustls_pki_types::UnixTime;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::*;

fn golden() -> (CertificateDer<'static>, Vec<u8>) {
    let text = include_str!("../../../../api/tests/vectors/bootstrap/token.json");
    let golden: serde_json::Value = serde_json::from_str(text).unwrap();
    let bytes = |k: &str| {
        base64::engine::general_purpose::STANDARD.decode(golden[k].as_str().unwrap()).unwrap()
    };
    (CertificateDer::from(bytes("ca_der_base64")), bytes("ca_key_sec1_der_base64"))
}

fn node() -> NodeName {
    "edge-1".parse().unwrap()
}

const CLIENT: Usages = Usages { client: true, server: false };

fn csr(cn: &str, sans: &[&str]) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(sans.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "CN");
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, cn);
    params.serialize_request(&key).unwrap().der().to_vec()
}

fn issue(csr: &[u8], usages: Usages) -> Result<Vec<u8>, CsrError> {
    let names = ServerNames::new(["10.0.0.1", "cloud.example"]);
    let ca = Ca::create().unwrap();
    ca.issue_edge(csr, &node(), usages, 365, &names).map(|c| c.to_vec())
}

#[test]
fn a_new_ca_has_the_form_of_kubeedges() {
    let ca = Ca::create().unwrap();
    let (_, ours) = X509Certificate::from_der(ca.certificate()).unwrap();
    let (golden, _) = golden();
    let (_, theirs) = X509Certificate::from_der(&golden).unwrap();
    assert_eq!(ours.subject().to_string(), theirs.subject().to_string());
    assert_eq!(ours.raw_serial(), theirs.raw_serial());
    assert_eq!(
        ours.key_usage().unwrap().unwrap().value.flags,
        theirs.key_usage().unwrap().unwrap().value.flags
    );
    assert_eq!(
        ours.extended_key_usage().unwrap().unwrap().value,
        theirs.extended_key_usage().unwrap().unwrap().value
    );
    let constraints =
        |c: &X509Certificate<'_>| c.basic_constraints().unwrap().map(|b| (b.critical, b.value.ca));
    assert_eq!(constraints(&ours), constraints(&theirs));
    let life = |c: &X509Certificate<'_>| {
        c.validity().not_after.timestamp() - c.validity().not_before.timestamp()
    };
    assert_eq!(life(&ours), life(&theirs));
}

#[test]
fn a_ca_of_kubeedge_signs_here_and_its_certificates_are_trusted() {
    let (certificate, key) = golden();
    let ca = Ca::new(certificate, &key, "test").unwrap();
    assert_eq!(ca.token_key(), key, "tokens are signed with the very same bytes");
    let names = ServerNames::default();
    let signed =
        ca.issue_edge(&csr("system:node:edge-1", &[]), &node(), CLIENT, 365, &names).unwrap();
    let roots = tls::roots([ca.certificate().clone()]).unwrap();
    tls::verify_client(std::slice::from_ref(&signed), roots, UnixTime::now()).unwrap();
    let subject = tls::subject(&signed).unwrap();
    assert_eq!(subject.common_name, "system:node:edge-1");
    assert_eq!(subject.organizations, ["system:nodes"]);
    let (_, parsed) = X509Certificate::from_der(&signed).unwrap();
    let days = (parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp())
        / 86_400;
    assert_eq!(days, 365);
    assert!(!parsed.subject().to_string().contains("C=CN"), "only CN and O are taken over");
    assert!(parsed.basic_constraints().unwrap().is_none());
}

#[test]
fn a_key_of_another_ca_is_refused() {
    let (certificate, _) = golden();
    let other = KeyPair::generate().unwrap().serialize_der();
    let error = Ca::new(certificate, &other, "the Secret").unwrap_err().to_string();
    assert!(error.contains("does not belong"), "{error}");
    assert!(Ca::new(CertificateDer::from(vec![0x30, 0]), &other, "x").is_err());
}

#[test]
fn a_request_for_another_name_is_refused() {
    let error = issue(&csr("system:node:edge-2", &[]), CLIENT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the signing request is for `system:node:edge-2`, but the node asked for is `system:node:edge-1`"
    );
    assert!(matches!(issue(&csr("", &[]), CLIENT), Err(CsrError::WrongName { .. })));
}

#[test]
fn a_request_that_is_not_signed_with_its_own_key_is_refused() {
    let mut bytes = csr("system:node:edge-1", &[]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(issue(&bytes, CLIENT), Err(CsrError::NotSelfSigned | CsrError::Malformed)));
    assert_eq!(issue(b"junk", CLIENT), Err(CsrError::Malformed));
    assert_eq!(issue(&[], CLIENT), Err(CsrError::Malformed));
    let mut long = csr("system:node:edge-1", &[]);
    long.push(0);
    assert_eq!(issue(&long, CLIENT), Err(CsrError::Malformed));
}

#[test]
fn no_edge_node_gets_a_certificate_with_which_it_could_pose_as_cloudcore() {
    let server = Usages { client: true, server: true };
    for name in ["10.0.0.1", "cloud.example", "CLOUD.example", "*.example"] {
        let request = csr("system:node:edge-1", &[name]);
        assert!(matches!(issue(&request, server), Err(CsrError::PosesAsCloud(_))), "{name}");
    }
    issue(&csr("system:node:edge-1", &["edge-1.example", "10.0.0.9"]), server).unwrap();
}

#[test]
fn a_request_cannot_make_itself_a_ca() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "system:node:edge-1");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    let signed = issue(&request, CLIENT).unwrap();
    let (_, parsed) = X509Certificate::from_der(&signed).unwrap();
    assert!(!parsed.is_ca());
    assert!(!parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
}

#[test]
fn the_request_of_a_real_edge_is_signed() {
    let pem = include_bytes!("../../../../api/tests/vectors/bootstrap/TEST-ONLY-edge-1.csr");
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).unwrap();
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).unwrap();
    let subject = parsed.certification_request_info.subject.clone();
    let cn = subject.iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    let name: NodeName = cn.strip_prefix("system:node:").unwrap().parse().unwrap();
    let ca = Ca::create().unwrap();
    ca.issue_edge(&pem.contents, &name, CLIENT, 365, &ServerNames::default()).unwrap();
}

#[test]
fn the_server_certificate_has_the_advertised_names_and_no_empty_one() {
    let ca = Ca::create().unwrap();
    let wanted = ServerNames::new(["10.0.0.1", "fd00::1", "Cloud.Example", "", " "]);
    let pair = ca.issue_server(&wanted).unwrap();
    let names = ServerNames::of_certificate(&pair.certificate).unwrap();
    assert_eq!(names, wanted);
    assert_eq!(names.to_string(), "cloud.example, 10.0.0.1, fd00::1");
    assert!(!names.covers(&ServerNames::new(["10.0.0.2"])));
    pair.identity("test").unwrap();
    let soon = SystemTime::now() + DAY;
    assert!(ca.vouches_for(&pair.certificate, soon));
    assert!(!Ca::create().unwrap().vouches_for(&pair.certificate, soon));
}

#[test]
fn debug_shows_no_key() {
    let ca = Ca::create().unwrap();
    let pair = ca.issue_server(&ServerNames::new(["x"])).unwrap();
    assert_eq!(format!("{ca:?} {pair:?}"), "Ca { .. } Pair { .. }");
}

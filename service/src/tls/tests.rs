use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct Ca {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let der = params.self_signed(&key).unwrap().der().clone();
    Ca { der, issuer: Issuer::new(params, key) }
}

impl Ca {
    fn issue(&self, cn: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn identity(&self, cn: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        let (certificate, key) = self.issue(cn, usage);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Identity::new(vec![certificate.der().clone()], key, cn).unwrap()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        roots([self.der.clone()]).unwrap()
    }
}

/// One handshake and one byte each way; the subject that the server saw, and the client's error.
async fn meet(server: ServerConfig, client: ClientConfig) -> Result<Option<Subject>, String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        stream.write_all(b"x").await?;
        stream.shutdown().await?;
        Ok::<_, std::io::Error>(chain)
    };
    let dial = async {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        stream.read_u8().await
    };
    let (served, dialled) = tokio::join!(serve, dial);
    let chain = served.map_err(|e| e.to_string())?;
    dialled.map_err(|e| e.to_string())?;
    Ok(peer_subject(chain.as_deref()).unwrap())
}

const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

#[tokio::test]
async fn mutual_tls_tells_the_server_who_the_client_is() {
    let ca = ca();
    let edge = ca.identity("system:node:edge-1", CLIENT);
    for clients in [ClientAuth::Required(ca.roots()), ClientAuth::Optional(ca.roots())] {
        let server = server_config(&ca.identity("cloud", SERVER), clients, &[]).unwrap();
        let client = client_config(ServerTrust::Roots(ca.roots()), Some(&edge), &[]).unwrap();
        let subject = meet(server, client).await.unwrap().unwrap();
        assert_eq!(subject.common_name, "system:node:edge-1");
        assert_eq!(subject.organizations, ["system:nodes"]);
    }
}

#[tokio::test]
async fn a_required_certificate_cannot_be_left_out_and_an_optional_one_can() {
    let ca = ca();
    let cloud = ca.identity("cloud", SERVER);
    let client = || client_config(ServerTrust::Roots(ca.roots()), None, &[]).unwrap();
    let required = server_config(&cloud, ClientAuth::Required(ca.roots()), &[]).unwrap();
    assert!(meet(required, client()).await.is_err());
    let optional = server_config(&cloud, ClientAuth::Optional(ca.roots()), &[]).unwrap();
    assert_eq!(meet(optional, client()).await, Ok(None));
}

#[tokio::test]
async fn a_requested_certificate_of_a_stranger_passes_tls_and_fails_the_check_after_it() {
    let (ours, theirs) = (ca(), ca());
    let stranger = theirs.identity("system:node:edge-1", CLIENT);
    let server =
        server_config(&ours.identity("cloud", SERVER), ClientAuth::Requested, &[]).unwrap();
    let client = client_config(ServerTrust::Roots(ours.roots()), Some(&stranger), &[]).unwrap();
    assert!(meet(server, client).await.unwrap().is_some());
    let now = UnixTime::now();
    assert!(verify_client(&stranger.chain(), ours.roots(), now).is_err());
    verify_client(&stranger.chain(), theirs.roots(), now).unwrap();
    let for_servers = theirs.identity("system:node:edge-1", SERVER);
    assert!(verify_client(&for_servers.chain(), theirs.roots(), now).is_err());
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_unless_nothing_is_verified() {
    let (ours, theirs) = (ca(), ca());
    let cloud = theirs.identity("cloud", SERVER);
    let server = || server_config(&cloud, ClientAuth::None, &[]).unwrap();
    let strict = client_config(ServerTrust::Roots(ours.roots()), None, &[]).unwrap();
    assert!(meet(server(), strict).await.is_err());
    let blind = client_config(ServerTrust::Unverified, None, &[]).unwrap();
    meet(server(), blind).await.unwrap();
}

#[test]
fn a_changed_file_is_reloaded_and_a_pair_that_does_not_match_leaves_the_old_one() {
    let ca = ca();
    let dir = tempfile::tempdir().unwrap();
    let (cert_path, key_path) = (dir.path().join("server.crt"), dir.path().join("server.key"));
    let (first, key) = ca.issue("first", SERVER);
    std::fs::write(&cert_path, first.pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    let identity = Identity::from_files(&cert_path, &key_path).unwrap();
    assert!(!identity.reload_if_changed().unwrap());

    let (second, key) = ca.issue("second", SERVER);
    let replace = |path: &std::path::Path, text: String| {
        let new = dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    replace(&cert_path, second.pem());
    assert!(identity.reload_if_changed().is_err());
    assert_eq!(subject(&identity.chain()[0]).unwrap().common_name, "first");
    replace(&key_path, key.serialize_pem());
    assert!(identity.reload_if_changed().unwrap());
    assert_eq!(subject(&identity.chain()[0]).unwrap().common_name, "second");
}

/// `openssl ecparam -name prime256v1 -genkey` writes such a block before the key.
const PARAMETERS: &str =
    "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";

#[test]
fn a_key_is_known_by_its_content_whatever_its_label() {
    let pkcs8 = KeyPair::generate().unwrap();
    let pem = pkcs8.serialize_pem();
    for text in [
        pem.clone(),
        pem.replace("PRIVATE KEY", "EC PRIVATE KEY"),
        pem.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
        format!("{PARAMETERS}{pem}"),
    ] {
        let key = private_key(text.as_bytes(), "test").unwrap();
        assert!(matches!(key, PrivateKeyDer::Pkcs8(_)), "{text}");
    }
    // SEC 1: SEQUENCE { 1, OCTET STRING }
    let sec1 = [&[0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20][..], &[7; 32]].concat();
    assert!(matches!(private_key(&sec1, "test").unwrap(), PrivateKeyDer::Sec1(_)));
    let error = private_key(b"hello", "`x.key`").unwrap_err();
    assert!(error.to_string().starts_with("`x.key` holds no private key"), "{error}");
    assert!(!format!("{:?}", private_key(&sec1, "t").unwrap()).contains("7, 7"));
}

#[test]
fn a_certificate_is_read_from_pem_and_from_der() {
    let ca = ca();
    let (certificate, _) = ca.issue("x", CLIENT);
    assert_eq!(certificates(certificate.pem().as_bytes(), "t").unwrap().len(), 1);
    let both = format!("{}{}", certificate.pem(), certificate.pem());
    assert_eq!(certificates(both.as_bytes(), "t").unwrap().len(), 2);
    assert_eq!(certificates(certificate.der(), "t").unwrap(), [certificate.der().clone()]);
    assert!(certificates(b"", "t").is_err());
    assert!(subject(b"0\x82garbage").is_err());
}

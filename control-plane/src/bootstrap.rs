//! What must be there before the first request: keys, certificates, the kubeconfig.
//!
//! Owns: the `pki` folder and `admin.conf` in the data folder. Called by: `lib.rs` at the start.
//! Never: makes a CA or a service account key anew where there is one.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why the keys could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A file could not be read or written.
    #[error("cannot prepare `{path}`")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of {of}")]
    Certificate {
        /// Whose.
        of: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A file does not hold what it should.
    #[error("`{path}` is damaged: {why}; restore it, or remove the folder to start over")]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A name for the server certificate is neither a host name nor an address.
    #[error("`{0}` cannot be a name in the server certificate: use a host name or an IP address")]
    Name(String),
}

type Result<T> = std::result::Result<T, BootstrapError>;

/// The address of the service `kubernetes`, as kubeadm chooses it.
pub(crate) const SERVICE_IP: &str = "10.96.0.1";
const CA_NAME: &str = "kubernetes";

/// A CA with its key.
pub(crate) struct Authority {
    pub(crate) pem: String,
    key_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate with its key, as rustls wants them.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Makes a folder that only its owner can enter.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    let file = |source| BootstrapError::File { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(file)
}

/// Writes a file that only its owner can read, in one step.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> Result<()> {
    let file = |source| BootstrapError::File { path: path.to_owned(), source };
    let next = path.with_extension("new");
    let write = || {
        let mut f = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        f.set_permissions(fs::Permissions::from_mode(0o600))?;
        f.write_all(text)?;
        f.sync_all()?;
        fs::rename(&next, path)
    };
    write().map_err(file)
}

/// The text of a file, or what `make` makes for it.
fn read_or_make(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = make()?;
            write_private(path, text.as_bytes())?;
            Ok(text)
        }
        Err(source) => Err(BootstrapError::File { path: path.to_owned(), source }),
    }
}

fn certificate_error(of: &str) -> impl Fn(rcgen::Error) -> BootstrapError + '_ {
    move |source| BootstrapError::Certificate { of: of.to_owned(), source }
}

fn new_key(of: &str) -> Result<KeyPair> {
    KeyPair::generate().map_err(certificate_error(of))
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    if let Some(o) = organization {
        dn.push(DnType::OrganizationName, o);
    }
    dn.push(DnType::CommonName, common);
    dn
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = time::OffsetDateTime::now_utc();
    // A little before now, for clocks that are behind.
    params.not_before = now - time::Duration::minutes(5);
    params.not_after = now + time::Duration::days(days);
}

impl Authority {
    /// Reads the CA of a folder, or makes one there.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let (cert, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        let key_pem = read_or_make(&key, || Ok(new_key("the CA")?.serialize_pem()))?;
        let pair = Self::pair(&key_pem)
            .map_err(|e| BootstrapError::Damaged { path: key, why: e.to_string() })?;
        let pem = read_or_make(&cert, || {
            let mut params = CertificateParams::default();
            params.distinguished_name = name(CA_NAME, None);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
            valid_for(&mut params, 3650);
            Ok(params.self_signed(&pair).map_err(certificate_error("the CA"))?.pem())
        })?;
        Issuer::from_ca_cert_pem(&pem, pair)
            .map_err(|e| BootstrapError::Damaged { path: cert, why: e.to_string() })?;
        Ok(Self { pem, key_pem })
    }

    fn pair(pem: &str) -> std::result::Result<KeyPair, rcgen::Error> {
        KeyPair::from_pem(pem)
    }

    fn issuer(&self) -> std::result::Result<Issuer<'static, KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_pem(&self.pem, Self::pair(&self.key_pem)?)
    }

    /// Signs a certificate. Returns it and its key as PEM.
    fn sign(
        &self,
        of: &str,
        mut params: CertificateParams,
        days: i64,
    ) -> Result<(String, KeyPair)> {
        valid_for(&mut params, days);
        let key = new_key(of)?;
        let issuer = self.issuer().map_err(certificate_error(of))?;
        let cert = params.signed_by(&key, &issuer).map_err(certificate_error(of))?;
        Ok((cert.pem(), key))
    }

    /// A certificate for a client: CN is the user, O its group. PEM of both.
    pub(crate) fn client(&self, user: &str, group: &str) -> Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, Some(group));
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (cert, key) = self.sign(user, params, 365)?;
        Ok((cert, key.serialize_pem()))
    }

    /// A certificate for the server under the given names.
    pub(crate) fn server(&self, names: &[String]) -> Result<Identity> {
        const OF: &str = "the API server";
        let mut params = CertificateParams::default();
        params.distinguished_name = name("kube-apiserver", None);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for n in names {
            let san = match n.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(
                    n.as_str().try_into().map_err(|_| BootstrapError::Name(n.clone()))?,
                ),
            };
            params.subject_alt_names.push(san);
        }
        valid_for(&mut params, 365);
        let key = new_key(OF)?;
        let issuer = self.issuer().map_err(certificate_error(OF))?;
        let cert = params.signed_by(&key, &issuer).map_err(certificate_error(OF))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| {
            BootstrapError::Damaged { path: PathBuf::from("server key"), why: e.to_owned() }
        })?;
        Ok(Identity { chain: vec![cert.der().clone()], key })
    }

    /// Signs what somebody else has asked for. Returns the certificate as PEM.
    pub(crate) fn sign_request(
        &self,
        request: &CertificateSigningRequestParams,
    ) -> std::result::Result<String, rcgen::Error> {
        Ok(request.signed_by(&self.issuer()?)?.pem())
    }

    /// The CA's certificate as bytes.
    pub(crate) fn der(&self) -> Option<CertificateDer<'static>> {
        use rustls_pki_types::pem::PemObject as _;
        CertificateDer::from_pem_slice(self.pem.as_bytes()).ok()
    }
}

/// The key that signs service account tokens, PKCS#8.
pub(crate) fn account_key(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join("sa.key");
    let pem = read_or_make(&path, || Ok(new_key("service accounts")?.serialize_pem()))?;
    let pair = KeyPair::from_pem(&pem)
        .map_err(|e| BootstrapError::Damaged { path, why: e.to_string() })?;
    Ok(pair.serialize_der())
}

/// The names that the server certificate must have.
pub(crate) fn server_names(bind: SocketAddr, extra: &[String]) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "::1",
        SERVICE_IP,
    ]
    .map(str::to_owned)
    .to_vec();
    if !bind.ip().is_unspecified() {
        names.push(bind.ip().to_string());
    }
    names.extend(extra.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// A kubeconfig with a client certificate.
pub(crate) fn kubeconfig(
    address: SocketAddr,
    ca: &str,
    user: &str,
    (cert, key): (&str, &str),
) -> String {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    };
    let server = SocketAddr::new(ip, address.port());
    let [ca, cert, key] = [ca, cert, key].map(|t| STANDARD.encode(t));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: keadm\n  cluster:\n    certificate-authority-data: {ca}\n    server: https://{server}\n\
         contexts:\n- name: {user}@keadm\n  context:\n    cluster: keadm\n    user: {user}\ncurrent-context: {user}@keadm\n\
         preferences: {{}}\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_uses_the_same_ca_and_keys_that_others_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        private_dir(&pki).unwrap();
        let (first, second) = (Authority::open(&pki).unwrap(), Authority::open(&pki).unwrap());
        assert_eq!(first.pem, second.pem);
        assert_eq!(account_key(&pki).unwrap(), account_key(&pki).unwrap());
        for f in ["ca.key", "ca.crt", "sa.key"] {
            assert_eq!(
                fs::metadata(pki.join(f)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{f}"
            );
        }
        assert!(first.server(&["localhost".into(), "::1".into()]).is_ok());
        assert!(matches!(first.server(&["n\u{e4}me".into()]), Err(BootstrapError::Name(_))));
        fs::write(pki.join("ca.key"), "junk").unwrap();
        assert!(matches!(Authority::open(&pki), Err(BootstrapError::Damaged { .. })));
    }
}
